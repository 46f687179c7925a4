"""Memory: what becomes of workers that take more than their task may, and of all on a machine that is short of it."""

from __future__ import annotations

import dataclasses

import pytest

from swarm.core import commands as cmd
from swarm.core import memory
from swarm.core import messages as m
from swarm.core.admission import Pressure
from swarm.core.invariants import invariants
from swarm.core.model import FoundLanding, FoundRun, Limits, Readings, Reason, Step
from swarm.core.report import Live, status
from swarm.core.state import StaleEvent, next_deadline, pending_commands
from tests.builders import BASE, CALM, a_plan, a_task, submitted
from tests.stories import Story, a_story


def outgrows(story: Story, task: str, taken_mb: int) -> None:
    """A worker that is watched is seen to take so much."""
    watch = story.sole(cmd.WatchWorker, task)
    story.send(m.WorkerOutgrew(**story.where(watch), memory_bytes=taken_mb * 1_000_000))


def test_a_worker_over_its_memory_is_ended_and_tried_again() -> None:
    """It is ended like one whose time is over; whatever its exit code then, the attempt is over_memory and counts, and the next is
    told."""
    story = a_story(a_plan(a_task("a", memory_mb=500, attempts=2)))
    story.up("a")
    assert [c.memory_mb for c in story.commands if isinstance(c, cmd.WatchWorker)] == [500]
    outgrows(story, "a", 620)
    assert [c for c in story.commands if isinstance(c, cmd.EndWorker)] == pending_commands(story.swarm)
    story.exit("a", 0)
    story.collect("a")
    text = "the worker took 620 MB, more than the 500 MB of its memory_mb, and was ended"
    assert story.task("a").attempts[0].reason == Reason("over_memory", text, {"memory_bytes": 620_000_000})
    assert story.task("a").feedback == (f"Attempt 1 did not land: {text}",)
    story.up("a")
    outgrows(story, "a", 1500)
    story.exit("a", None)
    story.collect("a")
    assert (story.state("a"), story.why("a")) == ("failed", "over_memory")
    assert [each.step for each in story.task("a").attempts] == [Step.FAILED, Step.FAILED]


def test_claims_and_slot_are_held_until_the_tree_is_gone() -> None:
    """A worker that is ended for its memory still holds its claims: another that wants them starts when it is gone."""
    story = a_story(a_plan(a_task("a", memory_mb=500, claims=["x"], attempts=1), a_task("b", claims=["x"])))
    story.up("a")
    outgrows(story, "a", 501)
    assert story.at_work() == ["a"]
    story.exit("a", 143)
    story.collect("a")
    assert story.states() == {"a": "failed", "b": "running"}


def test_one_that_is_being_ended_is_left_to_that() -> None:
    """A cancelled worker that grows while it ends was cancelled, and one that has ended is not over anything."""
    story = a_story(a_plan(a_task("a", memory_mb=500)))
    story.up("a")
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("a",)))
    grown = m.WorkerOutgrew(at=story.now, run="plan", task="a", attempt=1, memory_bytes=10**9)
    with pytest.raises(StaleEvent):
        story.send(grown)
    story.exit("a", 143)
    with pytest.raises(StaleEvent):
        story.send(grown)
    story.collect("a")
    assert (story.state("a"), story.why("a")) == ("cancelled", "cancelled")


# --- a machine that is short of memory


def a_busy_story(names: str, **more: object) -> Story:
    """Workers that run, each a second younger than the one before; one more task than there is room for."""
    limits = Limits(ramp_per_s=1000.0, workers_max=len(names), suspended_s_max=60.0, grace_s=5.0)
    story = Story(limits)
    story.submit(a_plan(*(a_task(name, **more) for name in (*names, "waits"))))  # type: ignore[arg-type]
    for name in names:
        story.up(name)
        story.now += 1.0
    return story


def looks(story: Story, percent: float, stall: float | None = None) -> None:
    """The machine is looked at while workers run."""
    readings = dataclasses.replace(CALM, memory_percent=percent, memory_stall_percent=stall)
    story.send(m.MemoryMeasured(at=story.now, readings=readings))
    assert invariants(story.swarm) == []


def still(story: Story) -> str:
    """The tasks whose workers stand still."""
    return "".join(name for name in story.run.live if story.attempt(name).step is Step.SUSPENDED)


def test_the_youngest_stands_still_first_and_then_the_next() -> None:
    """At the threshold the youngest worker is suspended; where that does not help within 2 s, the next, until all are."""
    story = a_busy_story("abc")
    looks(story, 95.0)
    assert still(story) == "c"
    assert isinstance(story.sole(cmd.SuspendWorker, "c"), cmd.SuspendWorker)
    story.wait(1.9)
    assert still(story) == "c"
    story.wait(0.1)
    assert still(story) == "bc"
    story.wait(2.0)
    assert still(story) == "abc"
    assert story.states() == {"a": "running", "b": "running", "c": "running", "waits": "ready"}
    assert len(story.swarm.slots) == 3


def test_between_the_thresholds_those_that_run_go_on() -> None:
    """Once there is some memory again nobody more is suspended, and nobody goes on before one of those that run has ended."""
    story = a_busy_story("abc")
    looks(story, 97.0)
    looks(story, 92.0)
    story.wait(500.0)
    assert still(story) == "c"
    story.exit("a")
    assert still(story) == "c"  # b runs
    story.exit("b")
    assert still(story) == ""
    assert story.has(cmd.ThawWorker, "c")


def test_where_all_stand_still_the_oldest_goes_on_as_soon_as_there_is_some() -> None:
    """Workers that all wait for memory which only they hold would wait for ever."""
    story = a_busy_story("ab")
    looks(story, 97.0)
    story.wait(2.0)
    assert still(story) == "ab"
    looks(story, 94.0)
    assert still(story) == "b"
    looks(story, 95.0)
    assert still(story) == "ab"


def test_they_go_on_one_by_one_the_oldest_first() -> None:
    """Each start of memory being used again is waited for before the next, and nothing new starts before all go on."""
    story = a_busy_story("abc")
    looks(story, 97.0)
    story.wait(4.0)
    looks(story, 89.9)
    assert still(story) == "bc"
    assert story.sole(cmd.ThawWorker, "a") in pending_commands(story.swarm)
    story.exit("a", 1)
    story.collect("a")
    assert story.swarm.capacity.reason == "2 workers that stood still go on first"
    story.wait(2.0)
    assert still(story) == "c"
    story.wait(2.0)
    assert still(story) == ""
    story.wait(2.0)
    assert story.at_work() == ["b", "c", "a"]


def test_nothing_starts_on_a_machine_that_is_short_of_memory() -> None:
    """The reason says how short, and how many stand still; one that comes up meanwhile has its turn to."""
    story = Story(Limits(ramp_per_s=1000.0, workers_max=3))
    story.submit(a_plan(*(a_task(name) for name in "abcd")))
    story.up("a")
    looks(story, 96.4)
    story.send(m.LimitsChanged(at=story.now, workers_max=4))
    assert story.swarm.capacity.reason == "memory 96 %: 1 worker suspended, nothing new starts"
    assert story.state("d") == "ready"
    story.now += 1.0
    story.up("b")
    story.wait(2.0)
    assert still(story) == "ab"


def test_the_time_that_a_worker_stood_still_is_not_taken_from_it() -> None:
    """With 100 s and 40 of them used, it has 60 left when it goes on an hour later, whatever was done to the clock meanwhile."""
    story = a_busy_story("a", timeout_s=100.0)
    story.wait(39.0)
    looks(story, 97.0)
    looks(story, 92.0)  # it goes on, as nobody else runs
    looks(story, 95.0)
    assert still(story) == "a"
    story.now += 7200.0
    story.send(m.ClockSet(at=story.now, by_s=7200.0))
    story.now += 30.0
    looks(story, 50.0)
    assert story.attempt("a").stood_still_s == pytest.approx(30.0)
    story.wait(59.0)
    assert not story.has(cmd.EndWorker)
    story.wait(1.0)
    assert story.sole(cmd.EndWorker).why == "timeout"


def test_one_that_stands_still_for_too_long_is_ended_and_tried_again() -> None:
    """After the time in the limits the youngest is ended to make room, then the next; that uses up no attempt, and what is told of
    an earlier failure stays told."""
    story = a_busy_story("ab", attempts=1)
    looks(story, 97.0)
    story.wait(60.0)
    assert [end.why for end in story.take(cmd.EndWorker, "b")] == ["short_of_memory"]
    assert still(story) == "a"
    story.send(m.WorkerExited(at=story.now, run="plan", task="b", attempt=1, exit_code=143))
    story.collect("b")
    attempt = story.task("b").attempts[0]
    assert attempt.reason is not None
    assert (attempt.step, attempt.counts, attempt.reason.code) == (Step.HANDED_BACK, False, "machine")
    assert attempt.reason.text.startswith("the machine was short of memory for 60 s")
    assert story.state("b") == "ready"
    story.wait(7.0)
    assert story.has(cmd.EndWorker, "a")


@pytest.mark.timeout(60)
def test_a_wait_shorter_than_the_step_between_two_times_has_an_end() -> None:
    """Whatever moment it is, and whatever fraction of a second the time in the limits has, the one that stands still is ended."""
    for n in range(100):
        story = Story(Limits(ramp_per_s=1000.0, workers_max=1, suspended_s_max=60.1))
        story.now = 1_795_000_000.0 + n * 0.1234567
        story.submit(a_plan(a_task("a")))
        story.up("a")
        looks(story, 97.0)
        story.wait(61.0)
        assert story.sole(cmd.EndWorker).why == "short_of_memory"


def test_a_task_that_the_machine_has_no_room_for_fails_in_the_end() -> None:
    """One that is ended for want of memory again and again was perhaps what took it: after `lost_max` times it is over_memory."""
    story = Story(Limits(ramp_per_s=1000.0, workers_max=1, lost_max=2))
    story.submit(a_plan(a_task("a", attempts=1)))
    for _ in range(3):
        story.up("a")
        looks(story, 97.0)
        story.wait(60.0)
        story.exit("a", 143)
        story.collect("a")
        story.wait(10.0)
    assert (story.state("a"), story.why("a")) == ("failed", "over_memory")


def test_a_shortage_is_forgotten_with_the_last_worker() -> None:
    """Nobody looks any more then: what the machine allows is asked for anew, and decides."""
    story = a_busy_story("a")
    looks(story, 97.0)
    story.exit("a", None)
    story.collect("a")
    assert story.swarm.pressure is Pressure.NONE
    assert story.at_work() == ["a"] or story.has(cmd.MeasureHost) or story.at_work() == ["waits"]
    with pytest.raises(StaleEvent):
        looks(story, 97.0)


def test_waiting_for_memory_counts_as_being_short_of_it() -> None:
    """Where the kernel tells that nearly everything waits for memory, that counts, however much seems to be left."""
    story = a_busy_story("ab")
    with pytest.raises(StaleEvent):
        looks(story, 60.0, stall=39.0)
    looks(story, 60.0, stall=40.0)
    assert still(story) == "b"
    assert story.attempt("b").reason == Reason(
        "suspended", "memory 60 %, waited for 40 % of the time: stands still until there is more"
    )
    looks(story, 60.0, stall=20.0)
    story.wait(10.0)
    assert still(story) == "b"
    looks(story, 60.0, stall=9.0)
    assert still(story) == ""


@pytest.mark.parametrize("how", ["cancel", "stop", "outgrow"])
def test_one_that_stands_still_can_be_ended(how: str) -> None:
    """Cancelled, stopped, or found to take too much: it is ended as any other, and nobody has it go on first."""
    story = a_busy_story("a", memory_mb=5)
    looks(story, 97.0)
    where = {"at": story.now, "run": "plan"}
    if how == "cancel":
        story.send(m.TasksCancelled(**where, tasks=("a",)))  # type: ignore[arg-type]
    elif how == "stop":
        story.send(m.StopRequested(at=story.now, end_workers=True))
    else:
        story.send(m.WorkerOutgrew(**where, task="a", attempt=1, memory_bytes=10**7))  # type: ignore[arg-type]
    assert [type(c) for c in pending_commands(story.swarm)] == [cmd.EndWorker]
    assert invariants(story.swarm) == []
    story.exit("a", 143)
    story.collect("a")
    ends = {"cancel": "cancelled", "stop": "handed_back", "outgrow": "failed"}
    assert story.task("a").attempts[0].step == ends[how]


def test_a_restart_takes_a_worker_that_stands_still_for_what_it_is() -> None:
    """What is outstanding for one is that it stands still, and for one that did that it goes on: each may be done again."""
    story = a_busy_story("ab")
    looks(story, 97.0)
    kinds = {c.task: type(c) for c in pending_commands(story.swarm) if isinstance(c, cmd.AttemptCommand)}
    assert kinds == {"a": cmd.WatchWorker, "b": cmd.SuspendWorker}
    looks(story, 50.0)
    kinds = {c.task: type(c) for c in pending_commands(story.swarm) if isinstance(c, cmd.AttemptCommand)}
    assert kinds == {"a": cmd.WatchWorker, "b": cmd.ThawWorker}


def test_a_daemon_that_begins_looks_before_anybody_stands_still() -> None:
    """The next move of an earlier daemon was due while none ran: it is made after a look at the machine, which may have memory by
    now."""
    story = a_busy_story("abc")
    looks(story, 97.0)
    story.now += 30.0
    story.send(m.DaemonStarted(at=story.now, version="0", pid=2, limits=story.swarm.limits, rules=m.RULES))
    story.wait(0.0)
    assert still(story) == "c"
    looks(story, 92.0)
    story.wait(20.0)
    assert still(story) == "c"


def test_a_machine_still_short_of_memory_after_a_restart_suspends_the_next() -> None:
    """The look is waited for as long as it takes to settle, no longer."""
    story = a_busy_story("abc")
    looks(story, 97.0)
    story.send(m.DaemonStarted(at=story.now, version="0", pid=2, limits=story.swarm.limits, rules=m.RULES))
    story.wait(1.9)
    assert still(story) == "c"
    story.wait(0.1)
    assert still(story) == "bc"


def test_status_says_who_stands_still_and_why() -> None:
    """The attempt is `suspended`, with the reason and since when; its task runs."""
    story = a_busy_story("ab")
    looks(story, 97.0)
    (run,) = status(story.swarm, Live(True))["runs"]
    attempt = run["tasks"][1]["attempts"][0]
    assert (run["tasks"][1]["state"], attempt["state"]) == ("running", "suspended")
    assert attempt["reason"]["text"] == "memory 97 %: stands still until there is more"
    assert attempt["suspended_at"] is not None
    assert [fact.task for fact in story.told("WorkerSuspended")] == ["b"]
    looks(story, 50.0)
    assert [fact.data for fact in story.told("WorkerThawed")] == [{"stood_still_s": 0.0}]
    assert next_deadline(story.swarm) is not None


# --- what is expected


def on_8_gb(left_gb: float) -> Readings:
    return dataclasses.replace(CALM, memory_available_bytes=int(left_gb * 1e9))


def takes(story: Story, *taken_gb: tuple[str, float], left_gb: float) -> None:
    """The machine is looked at: what is left, and what some workers take by now."""
    assert story.take(cmd.MeasureHost)
    taken = tuple(("plan", name, 1, int(size * 1e9)) for name, size in taken_gb)
    story.send(m.HostMeasured(at=story.now, readings=on_8_gb(left_gb), taken=taken))


def test_ten_large_tasks_are_not_started_at_once() -> None:
    """Of ten tasks that are expected to take 2 GB, three start where 7.5 GB are left, and the reason says what is missing. A fourth
    starts when there is room for it besides what these still grow by."""
    story = Story(Limits(ramp_per_s=1000.0, workers_max=10))
    story.send(submitted(a_plan(*(a_task(f"t{n}", memory_mb=2000) for n in range(10))), at=story.now))
    story.send(m.RunPrepared(at=story.now, run="plan", commit=BASE, worktree="/staging"))
    story.measure(on_8_gb(7.5))
    assert story.at_work() == ["t0", "t1", "t2"]
    assert (
        story.swarm.capacity.reason
        == "2.0 GB expected to be taken, 1.5 GB left beside what others still grow by"
    )
    assert story.swarm.wanted_bytes == 2_000_000_000
    story.up("t0", "t1", "t2")
    takes(story, ("t0", 2.0), ("t1", 1.0), left_gb=4.5)
    assert story.at_work() == ["t0", "t1", "t2"]  # 3 GB are still to be taken
    takes(story, ("t0", 2.0), ("t1", 1.0), ("t2", 2.0), left_gb=3.0)
    assert story.at_work() == ["t0", "t1", "t2", "t3"]


def test_what_an_earlier_attempt_took_is_expected_of_the_next() -> None:
    """A task is expected to take the most that one of its workers was seen to take, where that is more than it says."""
    story = a_story(a_plan(a_task("a", memory_mb=1000, attempts=3)))
    for took in (5 * 10**9, 3 * 10**9):
        story.up("a")
        watch = story.sole(cmd.WatchWorker, "a")
        story.send(m.WorkerExited(**story.where(watch), exit_code=1, memory_bytes=took))
        story.collect("a")
        assert memory.expected_bytes(story.task("a")) == 5 * 10**9


def test_where_nobody_else_works_a_task_starts_whatever_it_is_expected_to_take() -> None:
    """Or it would never."""
    story = Story(Limits(ramp_per_s=1000.0, workers_max=2))
    story.send(submitted(a_plan(a_task("a", memory_mb=90_000), a_task("b", memory_mb=1)), at=story.now))
    story.send(m.RunPrepared(at=story.now, run="plan", commit=BASE, worktree="/staging"))
    story.measure(on_8_gb(4.0))
    assert story.at_work() == ["a"]


def test_one_that_landed_behind_the_end_of_a_lost_journal_stands_still_no_more() -> None:
    """A journal that lost its end knows a worker that stands still; staging proves that it went on and landed."""
    story = a_busy_story("ab")
    looks(story, 95.0)
    assert still(story) == "b"
    landing = FoundLanding("b", 1, "B", "c" * 40, "d" * 40)
    story.send(m.JournalRebuilt(at=story.now, runs=(FoundRun("plan", BASE, "c" * 40, (landing,)),)))
    assert story.attempt("b").step is Step.PUBLISHING
    assert invariants(story.swarm) == []

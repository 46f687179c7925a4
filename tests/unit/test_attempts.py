"""Attempts: what becomes of workers that fail, hang, are lost or ask for later, and how many may start."""

from __future__ import annotations

import math

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core import report
from swarm.core.model import Limits, Readings, Reason, Step, WorkerResult
from swarm.core.state import StaleEvent, next_base, next_deadline, pending_commands
from tests.builders import BASE, CALM, a_plan, a_task, submitted
from tests.stories import Story, a_story, snapshot


def busy(cpu: float = 5.0, memory: float = 20.0, disk: int = 2**40) -> Readings:
    return Readings(
        cpu_percent=cpu, memory_percent=memory, memory_available_bytes=2**30, disk_free_bytes=disk
    )


def a_busy_story(names: str, readings: Readings, **limits: object) -> Story:
    """Tasks that are ready on a machine with these readings."""
    story = Story(Limits(ramp_per_s=1000.0, **limits))  # type: ignore[arg-type]
    story.send(submitted(a_plan(*(a_task(name) for name in names)), at=story.now))
    story.send(m.RunPrepared(at=story.now, run="plan", commit=BASE, worktree="/staging"))
    story.measure(readings)
    return story


# --- attempts and budgets


def test_a_worker_that_fails_is_tried_again_until_its_attempts_are_used_up() -> None:
    """An exit code other than 0 and 75 uses up an attempt; the next is told; after the last the task failed with the code."""
    story = a_story(a_plan(a_task("a", attempts=3)))
    for n in (1, 2, 3):
        assert story.attempt("a").n == n
        story.fail("a", code=7)
    reason = story.task("a").reason
    assert (story.state("a"), reason) == (
        "failed",
        Reason("worker_failed", "the worker ended with exit code 7", {"exit_code": 7}),
    )
    assert [attempt.step for attempt in story.task("a").attempts] == [Step.FAILED] * 3
    assert [attempt.exit_code for attempt in story.task("a").attempts] == [7] * 3
    assert "exit code 7" in story.task("a").feedback[0]


def test_a_failure_that_an_agent_reports_is_told_in_its_words() -> None:
    """A program that ends with 0 although its agent failed has failed by what that says, not by an exit code that it never had."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.up("a")
    story.exit("a", code=1, result=WorkerResult(failure="out of turns"))
    story.collect("a", (), 0)
    assert story.task("a").reason == Reason(
        "worker_failed", "the agent reported that it failed: out of turns", {"exit_code": 1}
    )


def test_the_end_that_an_attempt_came_to_is_told_as_it_is_shown() -> None:
    """The fact that a task gets another attempt names the end of the last one, which is the state that it is shown with."""
    story = a_story(a_plan(a_task("a", attempts=4)))
    story.fail("a", code=7)
    story.up("a")
    story.exit("a")
    story.collect("a", (), 0)
    story.up("a")
    story.exit("a", code=None)
    story.collect("a")
    story.work("a")
    story.conflict("a")
    ends = [attempt.step.value for attempt in story.task("a").attempts[:4]]
    assert ends == ["failed", "failed", "lost", "handed_back"]
    told = [fact.data.get("end") for fact in story.told("TaskHandedBack")]
    assert told == ends


def test_only_an_attempt_that_was_held_against_the_task_makes_the_next_a_second_one() -> None:
    """A worker is told whether an earlier attempt counted; one that asked for later did not."""
    story = a_story(a_plan(a_task("a", attempts=3)))

    def start() -> bool:
        taken = story.sole(cmd.TakeWorktree)
        story.send(m.WorktreeReady(**story.where(taken), path="/w"))
        command = story.sole(cmd.StartWorker)
        story.send(m.WorkerStarted(**story.where(command), pid=1, started_at=story.now))
        return command.again

    assert not start()
    story.exit("a", 75, WorkerResult(retry_after_s=1.0))
    story.collect("a")
    story.wait(2.0)
    assert not start()
    story.exit("a", 1)
    story.collect("a")
    assert start()


def test_a_failed_worker_is_never_landed() -> None:
    """Work of a worker that did not exit 0 is kept on its branch and never comes near the merge queue."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.up("a")
    story.exit("a", 3)
    assert story.sole(cmd.Collect).branch == "swarm/plan/task/a/1"
    assert story.state("a") == "running"
    assert not story.has(cmd.BringIn)


def test_no_change_is_no_success() -> None:
    """A worker that changes nothing is `empty` and has used up an attempt."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.up("a")
    story.exit("a")
    story.collect("a", touched=[])
    assert (story.state("a"), story.why("a")) == ("failed", "empty")


def test_no_change_lands_where_it_is_allowed() -> None:
    """With `allow_empty` a task that changes nothing lands a commit of its own and meets the needs of others; that it changes
    nothing is told, and never of one that does."""
    story = a_story(a_plan(a_task("a", allow_empty=True), a_task("b", needs=["a"])))
    story.work("a", touched=[])
    assert [c.head for c in story.commands if isinstance(c, cmd.Merge)] == [BASE]
    story.merge("a")
    story.advance("a")
    story.publish()
    assert story.states() == {"a": "landed", "b": "running"}
    story.land("b")
    assert [fact.data.get("unchanged") for fact in story.told("TaskLanded")] == [True, None]
    (run,) = report.status(story.swarm, report.Live())["runs"]
    assert [task["unchanged"] for task in run["tasks"]] == [True, False]


def test_a_worktree_that_cannot_be_submitted_fails_the_attempt() -> None:
    """Unmerged paths and the like fail the attempt with that sentence, though the worker exited 0."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.up("a")
    story.exit("a")
    story.collect("a", problem="src/x has conflict markers")
    assert story.task("a").reason == Reason("worker_failed", "src/x has conflict markers")


def test_a_worker_that_takes_too_long_is_ended() -> None:
    """At its time limit a worker is ended with its tree; whatever its exit code then, the attempt is a timeout."""
    story = a_story(a_plan(a_task("a", timeout_s=60.0, attempts=1)))
    story.up("a")
    story.wait(59.0)
    assert not story.has(cmd.EndWorker)
    story.wait(1.0)
    end = story.sole(cmd.EndWorker)
    assert (end.why, end.grace_s) == ("timeout", 5.0)
    story.exit("a", 0)
    story.collect("a")
    assert (story.state("a"), story.why("a")) == ("failed", "timeout")
    assert next_deadline(story.swarm) is None


@pytest.mark.parametrize(
    ("ended_after_s", "code", "by_itself", "state", "why"),
    [
        (59.9, 0, False, "queued", None),
        (60.1, 0, True, "failed", "timeout"),
        (59.9, 143, False, "failed", "timeout"),
        (59.9, 1, True, "failed", "worker_failed"),
        (60.1, 1, True, "failed", "timeout"),
        (59.9, 75, True, "ready", "try_later"),
        (60.1, 75, True, "failed", "timeout"),
    ],
)
def test_a_worker_is_not_failed_for_a_daemon_that_is_late(
    ended_after_s: float, code: int, by_itself: bool, state: str, why: str | None
) -> None:
    """A worker that had ended well, or by itself, before its time was over is judged by how it ended, though the daemon saw its
    time run out first."""
    story = a_story(a_plan(a_task("a", timeout_s=60.0, attempts=1)))
    story.up("a")
    ended_at = story.now + ended_after_s
    story.wait(90.0)
    end = story.sole(cmd.EndWorker)
    story.send(m.WorkerExited(**story.where(end), exit_code=code, ended_at=ended_at, by_itself=by_itself))
    story.collect("a")
    assert (story.state("a"), story.why("a")) == (state, why)


def test_a_worker_that_ends_in_time_meets_no_limit() -> None:
    """The time limit of an attempt that has ended, or of one before, ends nobody."""
    story = a_story(a_plan(a_task("a", timeout_s=60.0)))
    story.fail("a")
    story.wait(30.0)
    story.up("a")
    story.wait(40.0)
    assert not story.has(cmd.EndWorker)
    story.wait(20.0)
    assert story.has(cmd.EndWorker)


def test_a_later_run_of_the_same_name_meets_no_limit_of_a_discarded_one() -> None:
    """The time limits of a discarded run went with it: an attempt of the same task and number has the time of its own."""
    plan = a_plan(a_task("a", timeout_s=60.0))
    story = a_story(plan)
    story.up("a")
    story.send(m.DiscardRequested(at=story.now, run="plan"))
    story.exit("a", 143)
    story.collect("a", [])
    story.sole(cmd.Discard)
    story.send(m.Discarded(at=story.now, run="plan"))
    story.now += 30.0
    story.submit(plan)  # before anybody asks what falls due next
    story.up("a")
    story.wait(40.0)
    assert not story.has(cmd.EndWorker)
    story.wait(20.0)
    assert story.has(cmd.EndWorker)


def test_a_lost_worker_costs_no_attempt_at_first() -> None:
    """A worker that is gone without an exit code is lost and tried again, three times for nothing; then it uses up an attempt."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    for _ in range(3):
        story.up("a")
        story.exit("a", None)
        story.collect("a")
        assert story.state("a") == "running"
    story.up("a")
    story.exit("a", None)
    story.collect("a")
    assert (story.state("a"), story.why("a")) == ("failed", "lost")
    assert {attempt.step for attempt in story.task("a").attempts} == {Step.LOST}


def test_a_worktree_deleted_under_its_worker_costs_no_attempt() -> None:
    """A worker that ended well in a worktree that somebody had deleted is lost, not failed, and its task is tried again."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.up("a")
    story.exit("a")
    story.collect("a", [], problem="The worktree /pool/a is gone.", gone=True)
    assert story.state("a") == "running"
    first, second = story.task("a").attempts
    assert (first.step, first.reason) == (Step.LOST, Reason("lost", "The worktree /pool/a is gone."))
    assert second.n == 2


def test_try_later_waits_as_long_as_asked_and_costs_nothing() -> None:
    """Exit 75 makes the task ready again at the time the worker asked for, with the reason, and uses up no attempt."""
    story = a_story(a_plan(a_task("a", attempts=1), a_task("b", claims=["x"])))
    story.up("a")
    story.exit("a", 75, WorkerResult(retry_after_s=100.0, rate_limited=False))
    story.collect("a")
    reason = story.task("a").reason
    assert reason is not None
    assert (story.state("a"), reason.code, reason.facts) == (
        "ready",
        "try_later",
        {"until": story.now + 100.0},
    )
    story.wait(99.0)
    assert story.state("a") == "ready"
    story.wait(1.0)
    assert story.state("a") == "running"
    story.fail("a")
    assert story.state("a") == "failed"


@pytest.mark.parametrize(
    ("asked", "pause_s"), [(None, 30.0), (math.nan, 30.0), (math.inf, 7 * 86400.0), (-5.0, 0.0), (0.0, 0.0)]
)
def test_try_later_is_bounded(asked: float | None, pause_s: float) -> None:
    """What a worker asks for is not believed blindly: nothing said waits 30 s, and nobody waits longer than a week."""
    story = a_story(a_plan(a_task("a")))
    story.up("a")
    story.exit("a", 75, WorkerResult(retry_after_s=asked, rate_limited=False))
    story.collect("a")
    reason = story.task("a").attempts[0].reason
    assert reason is not None
    assert reason.facts["until"] == story.now + pause_s


def test_one_that_is_to_run_alone_and_was_put_off_is_left_alone_until_then() -> None:
    """Also where it still lies among those whose turn comes: a person had paused it and let it go on while it waited."""
    story = a_story(a_plan(a_task("z"), a_task("a")), bench=Story(Limits(workers_max=1, ramp_per_s=1000.0)))
    for _ in range(3):
        story.send(m.Paused(at=story.now, run="plan", task="a"))
        story.send(m.Resumed(at=story.now, run="plan", task="a"))
    story.land("z")
    for urgent in "bc":
        story.submit(a_plan(a_task(urgent, priority=9)))
        story.work("a")
        story.conflict("a")
        story.land(urgent)
    story.up("a")
    assert story.attempt("a").alone
    story.exit("a", 75)
    story.collect("a", touched=[])
    assert (story.state("a"), story.at_work()) == ("ready", [])
    story.wait(30.0)
    story.land("a")


def test_trying_later_for_ever_ends() -> None:
    """A worker that asks to be tried later more often than allowed has failed; a person's retry gives it all its chances again."""
    story = a_story(a_plan(a_task("a", attempts=1)), bench=Story(Limits(try_later_max=2, ramp_per_s=1000.0)))
    for _ in range(2):
        for _ in range(3):
            assert story.state("a") == "running"
            story.up("a")
            story.exit("a", 75, WorkerResult(retry_after_s=0.0))
            story.collect("a")
            story.wait(0.0)
        assert (story.state("a"), story.why("a")) == ("failed", "worker_failed")
        story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a",)))


@pytest.mark.parametrize("failing", [cmd.TakeWorktree, cmd.StartWorker])
def test_what_cannot_be_started_is_given_up(failing: type[cmd.AttemptCommand]) -> None:
    """A worktree or worker that can't be had is tried again with growing pauses; after six failures the attempt failed."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    if failing is cmd.StartWorker:
        story.send(m.WorktreeReady(**story.where(story.sole(cmd.TakeWorktree)), path="/pool/a"))
    pauses = []
    for _ in range(5):
        command = story.sole(failing)
        story.send(m.CommandFailed(**story.where(command), command=failing.__name__, text="disk full"))
        due = next_deadline(story.swarm)
        assert due is not None
        pauses.append(due - story.now)
        assert pending_commands(story.swarm) == []
        story.wait(due - story.now)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    command = story.sole(failing)
    story.send(m.CommandFailed(**story.where(command), command=failing.__name__, text="disk full"))
    assert story.task("a").reason == Reason("spawn_failed", "disk full")
    assert story.swarm.slots == set()


def a_story_of_a_failing_start() -> Story:
    """The worker of `a` is started, and its start fails all the same, as where the process can't be watched."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.send(m.WorktreeReady(**story.where(story.sole(cmd.TakeWorktree)), path="/pool/a"))
    fails_behind_the_spawn(story)
    return story


def fails_behind_the_spawn(story: Story) -> None:
    start = story.sole(cmd.StartWorker)
    story.send(m.CommandFailed(**story.where(start), command="StartWorker", text="no", may_run=True))


def test_a_worker_that_may_run_is_never_given_up() -> None:
    """A start that fails behind the spawn is tried until it is known who runs, however often: the attempt does not end under it."""
    story = a_story_of_a_failing_start()
    for _ in range(30):
        story.wait(60.0)
        fails_behind_the_spawn(story)
    story.wait(60.0)
    story.send(m.WorkerStarted(**story.where(story.sole(cmd.StartWorker)), pid=1, started_at=story.now))
    story.exit("a")
    story.collect("a")
    assert story.state("a") == "queued"


@pytest.mark.parametrize("why", ["cancelled", "stopped", "discarded"])
def test_a_worker_that_may_run_is_ended_first(why: str) -> None:
    """Cancelled, stopped or discarded while its start fails behind the spawn, an attempt ends after its worker."""
    story = a_story_of_a_failing_start()
    requests: dict[str, m.Event] = {
        "cancelled": m.TasksCancelled(at=story.now, run="plan", tasks=("a",)),
        "stopped": m.StopRequested(at=story.now, end_workers=True),
        "discarded": m.DiscardRequested(at=story.now, run="plan"),
    }
    story.send(requests[why])
    story.wait(60.0)
    fails_behind_the_spawn(story)
    story.wait(60.0)
    assert not story.has(cmd.GiveBackWorktree)
    story.send(m.WorkerStarted(**story.where(story.sole(cmd.StartWorker)), pid=1, started_at=story.now))
    assert story.has(cmd.EndWorker)
    story.exit("a", 143)
    assert story.has(cmd.Collect)
    assert not story.has(cmd.GiveBackWorktree)


def test_a_collection_that_fails_is_not_given_up_here() -> None:
    """No number of failures throws away what a worker made; from the sixth on whoever collects may say that it can't be done."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.up("a")
    story.exit("a")
    for n in range(30):
        command = story.sole(cmd.Collect)
        assert command.gives_up == (n >= 5)
        story.send(m.CommandFailed(**story.where(command), command="Collect", text="disk full"))
        assert story.state("a") == "queued"
        story.wait(30.0)
    story.collect("a")
    assert story.has(cmd.BringIn)


def test_the_number_of_an_attempt_is_its_fence() -> None:
    """An answer of an attempt that has ended is refused and changes nothing, though the task has a live one."""
    story = a_story(a_plan(a_task("a")))
    story.fail("a")
    story.up("a")
    before = snapshot(story.swarm)
    with pytest.raises(StaleEvent):
        story.send(m.WorkerExited(at=story.now, run="plan", task="a", attempt=1, exit_code=0))
    assert snapshot(story.swarm) == before


def test_a_slot_is_free_as_soon_as_the_worker_has_ended() -> None:
    """The next task starts when a worker exits well, before its work is collected."""
    story = a_story(a_plan(a_task("a"), a_task("b")), bench=Story(Limits(workers_max=1, ramp_per_s=1000.0)))
    story.up("a")
    story.exit("a")
    assert story.sole(cmd.TakeWorktree).task == "b"
    assert story.attempt("b").slot == story.attempt("a").slot == 0


def test_live_workers_have_different_slots() -> None:
    """Slot numbers are the smallest that are free, and no two live workers have the same."""
    story = a_story(a_plan(*(a_task(name) for name in "abcde")))
    assert [story.attempt(name).slot for name in "abcd"] == [0, 1, 2, 3]
    story.up("b")
    story.exit("b")
    assert story.attempt("e").slot == 1


def test_a_worktree_is_given_back_once() -> None:
    """The worktree goes back when its work is safe, not again at the end, and a second answer is stale."""
    story = a_story(a_plan(a_task("a")))
    story.land("a")
    assert story.attempt("a").returned
    assert not story.has(cmd.GiveBackWorktree)
    with pytest.raises(StaleEvent):
        story.send(m.WorktreeReturned(at=story.now, run="plan", task="a", attempt=1))


def test_where_the_rest_of_a_worktree_is_kept_is_told() -> None:
    """What a worktree held beside what was collected is told as a fact, and stays known with its attempt."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.up("a")
    story.exit("a", 1)
    command = story.sole(cmd.Collect, "a")
    story.send(m.Collected(**story.where(command), head=command.base, commits=0, touched=()))
    (back,) = story.take(cmd.GiveBackWorktree, "a")
    turn = story.send(m.WorktreeReturned(**story.where(back), saved="/kept/a"))
    assert [(fact.type, fact.data["place"]) for fact in turn.facts] == [("WorkSaved", "/kept/a")]
    assert story.attempt("a").saved == "/kept/a"


@pytest.mark.parametrize("touched", [(), ("a",)])
def test_what_was_left_elsewhere_is_told(touched: tuple[str, ...]) -> None:
    """Commits that a worker left in a stash or on another branch are told as a fact, and stay known with the attempt, whatever
    becomes of it; where it changed nothing else, that is said with why it failed, and the next attempt is told how to see them."""
    story = a_story(a_plan(a_task("a", attempts=2)))
    story.up("a")
    story.exit("a")
    command = story.sole(cmd.Collect, "a")
    branch, head = "swarm/plan/saved/a/1-1", "h" if touched else command.base
    turn = story.send(
        m.Collected(**story.where(command), head=head, commits=len(touched), touched=touched, besides=branch)
    )
    assert [fact.data["place"] for fact in turn.facts if fact.type == "WorkSaved"] == [branch]
    attempt = story.task("a").attempts[0]
    assert attempt.besides == branch
    told = [attempt.reason.text, *story.task("a").feedback] if attempt.reason is not None else []
    assert [branch in each for each in told] == ([] if touched else [True, True])
    assert [f"{attempt.base}..{branch}" in each for each in told] == ([] if touched else [False, True])


def test_what_git_ignores_is_told_where_nothing_else_changed() -> None:
    """The first few paths are named with why the attempt failed, and to the next one."""
    story = a_story(a_plan(a_task("a", attempts=2)))
    story.up("a")
    story.exit("a")
    command = story.sole(cmd.Collect, "a")
    paths = tuple(f"build/{n}" for n in range(7))
    story.send(m.Collected(**story.where(command), head=command.base, commits=0, touched=(), ignored=paths))
    reason = story.task("a").attempts[0].reason
    assert reason is not None
    assert reason.code == "empty"
    for text in (reason.text, *story.task("a").feedback):
        assert "git ignores: build/0, build/1, build/2, build/3, build/4 and 2 more" in text


def test_worktrees_are_kept_where_that_is_asked() -> None:
    """With `keep` the worktree of an attempt that did not land stays; that of a landed one goes back."""
    story = a_story(
        a_plan(a_task("a", attempts=1), a_task("b")),
        bench=Story(Limits(keep_worktrees=True, ramp_per_s=1000.0)),
    )
    story.up("a")
    story.exit("a", 1)
    command = story.sole(cmd.Collect, "a")
    story.send(m.Collected(**story.where(command), head="h", commits=1, touched=("a",)))
    assert story.sole(cmd.GiveBackWorktree).keep
    story.work("b")
    assert not story.has(cmd.GiveBackWorktree)
    story.merge("b")
    story.advance("b")
    story.send(m.Published(at=story.now, run="plan", commit=story.sole(cmd.Publish).commit))
    assert not story.sole(cmd.GiveBackWorktree).keep


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_a_start_waits_for_a_worktree_on_its_way_back(spare: int) -> None:
    """Where so many worktrees are on their way back that the pool would grow beyond its spare ones, a start waits for the first."""
    names = [f"t{n}" for n in range(6)]
    limits = Limits(workers_max=2, ramp_per_s=1000.0, spare_worktrees=spare)
    story = Story(limits)
    story.submit(a_plan(*(a_task(name) for name in names)))
    for name in names[:spare]:
        story.up(name)
        story.exit(name)
    assert len(story.at_work()) == 2
    story.up(*names[spare : spare + 2])
    story.exit(names[spare])
    assert story.at_work() == names[spare + 1 : spare + 2]
    assert story.swarm.capacity.reason == "a worktree is on its way back"
    story.collect(names[0])
    assert story.at_work() == names[spare + 1 : spare + 3]


def test_a_kept_worktree_holds_up_no_start() -> None:
    """Worktrees that are kept until their work has landed do not come back soon, so nothing waits for them."""
    story = Story(Limits(workers_max=1, ramp_per_s=1000.0, spare_worktrees=0, keep_worktrees=True))
    story.submit(a_plan(a_task("a"), a_task("b")))
    story.up("a")
    story.exit("a")
    assert story.at_work() == []
    story.collect("a")
    assert story.at_work() == ["b"]


def test_an_interruption_does_not_hide_what_was_wrong() -> None:
    """After a failed verification, an attempt that asks for later leaves the next one still told of the verification."""
    story = a_story(a_plan(a_task("a", verify=["make"], attempts=3)))
    story.work("a")
    story.merge("a")
    story.red("a", tail="boom")
    for _ in range(2):
        story.up("a")
        story.exit("a", 75, WorkerResult(retry_after_s=0.0, rate_limited=False))
        story.collect("a")
        story.wait(0.0)
    feedback = story.task("a").feedback
    assert len(feedback) == 2
    assert "boom" in feedback[0]
    assert "tried again later" in feedback[1]


# --- admission


def test_no_more_workers_than_allowed() -> None:
    """Ten tasks with a limit of three never have more than three workers, and always three while enough are left."""
    names = [f"t{n}" for n in range(10)]
    story = a_story(
        a_plan(*(a_task(name) for name in names)), bench=Story(Limits(workers_max=3, ramp_per_s=1000.0))
    )
    widths = []
    for name in names:
        widths.append(len(story.at_work()))
        story.land(name)
    assert widths == [3] * 8 + [2, 1]


@pytest.mark.parametrize(("cpu", "width"), [(5.0, 4), (60.0, 3), (75.0, 2), (85.0, 1)])
def test_the_busier_the_machine_the_fewer_start(cpu: float, width: int) -> None:
    """With four slots 60, 75 and 85 % leave three, two and one."""
    story = a_busy_story("abcde", busy(cpu=cpu))
    assert len(story.at_work()) == width


@pytest.mark.parametrize(
    ("readings", "reason"),
    [
        (busy(memory=95.0), "memory 95 % is at or above 90 %"),
        (busy(cpu=99.0), "CPU 99 % is at or above 90 %"),
        (busy(disk=10**8), "disk has 0.1 GB free, 1.0 GB wanted"),
    ],
)
def test_a_full_machine_starts_nothing_and_says_why(readings: Readings, reason: str) -> None:
    """With memory, CPU or disk at their limit nothing starts; the reason says so, and the machine is watched until that changes."""
    story = a_busy_story("a", readings)
    assert story.at_work() == []
    assert story.swarm.capacity.reason == reason
    assert [fact.data["reason"] for fact in story.told("CapacityChanged")] == [reason]
    assert story.sole(cmd.MeasureHost).target == 0
    story.send(m.HostMeasured(at=story.now, readings=CALM))
    assert story.at_work() == ["a"]


def test_a_full_house_is_not_measured() -> None:
    """When every slot is taken nobody looks at the machine, however old the readings are: only an end helps."""
    story = a_story(a_plan(*(a_task(name) for name in "abcde")))
    story.now += 600.0
    story.up("a")
    assert (story.swarm.capacity.reason, story.has(cmd.MeasureHost)) == ("all 4 slots taken", False)
    story.exit("a")
    assert story.has(cmd.MeasureHost)


def test_old_readings_are_taken_anew() -> None:
    """A start that comes more than two seconds after the last look at the machine waits for a new one."""
    story = a_story(a_plan(a_task("a")))
    story.land("a")
    story.now += 1.9
    story.send(submitted(a_plan(a_task("a"), a_task("b")), at=story.now))
    assert story.at_work() == ["b"]
    story.now += 2.1
    story.send(submitted(a_plan(a_task("a"), a_task("b"), a_task("c")), at=story.now))
    assert story.sole(cmd.MeasureHost).target is None
    assert story.at_work() == ["b"]
    story.send(m.HostMeasured(at=story.now, readings=CALM))
    assert story.at_work() == ["b", "c"]


def test_a_narrow_machine_is_watched_for_another_width() -> None:
    """Where the machine allows fewer workers than the limit, the look at it says which width it stands at, so that the answer can
    wait for another one."""
    story = a_busy_story("abcde", busy(cpu=75.0))
    assert [c.target for c in story.take(cmd.MeasureHost) if isinstance(c, cmd.MeasureHost)] == [2]
    story.send(m.HostMeasured(at=story.now, readings=CALM))
    assert len(story.at_work()) == 4


def test_a_slot_that_opens_while_the_machine_is_watched_is_filled() -> None:
    """While somebody watches for another width, a worker that ends is replaced at once, however old the readings are."""
    story = a_busy_story("abc", busy(cpu=75.0))
    assert story.at_work() == ["a", "b"]
    story.up("a")
    story.now += 600.0
    story.exit("a")
    assert story.at_work() == ["b", "c"]
    assert [c for c in pending_commands(story.swarm) if isinstance(c, cmd.MeasureHost)] == [
        cmd.MeasureHost(target=2)
    ]


def test_readings_that_nobody_asked_for_are_stale() -> None:
    """A look at the machine that is not outstanding is refused."""
    story = a_story(a_plan(a_task("a")))
    with pytest.raises(StaleEvent):
        story.send(m.HostMeasured(at=story.now, readings=CALM))


def test_growing_is_ramped_and_replacing_is_free() -> None:
    """With a ramp of one a second workers start one by one, each at its time; one that ended is replaced at once."""
    story = a_story(
        a_plan(*(a_task(f"t{n}") for n in range(8))), bench=Story(Limits(workers_max=6, ramp_per_s=1.0))
    )
    assert len(story.at_work()) == 1
    assert story.swarm.capacity.reason.startswith("growing: 5 more in")
    for width in (2, 3, 4):
        assert next_deadline(story.swarm) == pytest.approx(story.now + 1.0, abs=0.01)
        story.wait(1.001)
        assert len(story.at_work()) == width
    name = story.at_work()[0]
    story.up(name)
    story.exit(name)
    assert len(story.at_work()) == 4


def test_the_reason_does_not_outlive_its_cause() -> None:
    """When nothing waits any more, the capacity says so: not that slots are taken, nor that there is a pause."""
    story = a_story(a_plan(*(a_task(name) for name in "abcde")))
    story.wait(3.0)
    story.send(m.Paused(at=story.now))
    assert story.swarm.capacity.reason == "paused"
    story.send(m.Resumed(at=story.now))
    story.measure()
    assert story.swarm.capacity.reason == "all 4 slots taken"
    story.land(*"abcde")
    assert (story.swarm.capacity.reason, story.swarm.capacity.slots_open) == ("nothing waits", 4)
    story.send(m.Paused(at=story.now))
    story.send(m.Resumed(at=story.now))
    assert story.swarm.capacity.reason == "nothing waits"


# --- the daemon comes and goes


def test_a_graceful_stop_ends_workers_and_the_next_daemon_goes_on() -> None:
    """A stop ends running workers, hands their tasks back without using up an attempt, starts nothing, and lets finished work be
    collected; the next daemon starts what was handed back."""
    story = a_story(a_plan(a_task("a", attempts=1), a_task("b", attempts=1), a_task("c", attempts=1)))
    story.up("a", "b")
    story.exit("b")
    story.send(m.StopRequested(at=story.now, end_workers=True))
    assert [c.why for c in story.commands if isinstance(c, cmd.EndWorker)] == ["stopped"]
    story.send(m.WorktreeReady(**story.where(story.sole(cmd.TakeWorktree, "c")), path="/pool/c"))
    story.exit("a", 143)
    story.collect("a")
    story.collect("b")
    assert story.states() == {"a": "ready", "b": "queued", "c": "ready"}
    assert story.swarm.capacity.reason == "stopping"
    story.take(cmd.GiveBackWorktree)
    story.send(m.DaemonStopped(at=story.now))
    story.send(
        m.DaemonStarted(at=story.now, version="2", pid=2, limits=Limits(ramp_per_s=1000.0), rules=m.RULES)
    )
    story.measure()
    assert story.at_work() == ["a", "c"]
    assert story.attempt("a").n == 2
    story.fail("a")
    assert story.state("a") == "failed"


def test_a_drain_starts_nothing_and_lets_workers_end() -> None:
    """A stop without ending workers starts no new ones and lets the running work land."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"])))
    story.send(m.StopRequested(at=story.now))
    story.land("a")
    assert story.states() == {"a": "landed", "b": "ready"}
    assert not story.has(cmd.EndWorker)


def test_the_grace_of_a_stop_is_the_one_asked_for() -> None:
    """A stop that names a grace time ends workers with that; the next daemon has its own again."""
    story = a_story(a_plan(a_task("a")))
    story.up("a")
    story.send(m.StopRequested(at=story.now, end_workers=True, grace_s=0.0))
    assert story.sole(cmd.EndWorker).grace_s == 0.0
    story.send(m.DaemonStarted(at=story.now, version="2", pid=2, limits=Limits(grace_s=9.0), rules=m.RULES))
    assert [c.grace_s for c in pending_commands(story.swarm) if isinstance(c, cmd.EndWorker)] == [9.0]


def test_workers_are_adopted_by_the_next_daemon() -> None:
    """After a crash a running worker is watched again, with the time limit that it had, and its work lands."""
    story = a_story(a_plan(a_task("a", timeout_s=100.0)))
    story.up("a")
    story.now += 50.0
    story.send(m.DaemonStarted(at=story.now, version="2", pid=2, limits=Limits(), rules=m.RULES))
    look = cmd.LookAtStaging(run="plan", published=BASE, known="")
    assert pending_commands(story.swarm) == [look, cmd.WatchWorker(run="plan", task="a", attempt=1)]
    assert next_deadline(story.swarm) == 100.0
    story.exit("a")
    story.collect("a")
    assert story.state("a") == "queued"


def test_a_new_daemon_looks_at_the_machine_anew() -> None:
    """Readings and an outstanding look of the last daemon are forgotten: the next one asks again before it starts anything."""
    story = a_busy_story("ab", busy(cpu=99.0))
    assert story.has(cmd.MeasureHost)
    story.take(cmd.MeasureHost)
    story.send(m.DaemonStarted(at=story.now, version="2", pid=2, limits=Limits(), rules=m.RULES))
    assert story.sole(cmd.MeasureHost).target is None


# --- what can be made ready before it is wanted


def test_the_next_start_is_known_while_it_waits() -> None:
    """A task that waits for the slot will start from what is published then; nothing is made ready for a run that is paused."""
    story = a_story(
        a_plan(a_task("a"), a_task("b"), a_task("c")), Story(Limits(workers_max=1, ramp_per_s=1000.0))
    )
    assert next_base(story.swarm) == BASE
    story.land("a")
    assert next_base(story.swarm) == story.run.published != BASE
    story.send(m.Paused(at=story.now, run="plan"))
    assert next_base(story.swarm) is None


def test_nothing_is_made_ready_where_nothing_waits() -> None:
    """With all tasks started no worktree is wanted, and none either before the machine has let a first one start."""
    assert next_base(a_story(a_plan(a_task("a"))).swarm) is None
    waiting = Story()
    waiting.send(submitted(a_plan(a_task("a")), at=waiting.now))
    waiting.send(m.RunPrepared(at=waiting.now, run="plan", commit=BASE, worktree="/staging"))
    assert waiting.has(cmd.MeasureHost)
    assert next_base(waiting.swarm) is None

"""The machine in trouble: nothing new starts, what failed is tried until it succeeds, and no task pays for it."""

from __future__ import annotations

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.model import Limits, Reason, Step, SuiteResult
from swarm.core.state import pending_commands, wants_readings
from tests.builders import BASE, CALM, a_plan, a_task, submitted
from tests.stories import Story, a_story

FULL = "no space is left on the disk"
CLOSED = f"{FULL}; nothing new starts, and what failed is tried again"


def fails(story: Story, kind: type[cmd.AttemptCommand], task: str, trouble: str = FULL) -> None:
    """The outstanding command of an attempt can't be carried out, for want of what the machine lacks."""
    command = story.sole(kind, task)
    story.send(
        m.CommandFailed(**story.where(command), command=kind.__name__, text="write failed", trouble=trouble)
    )


def exits(story: Story, task: str, code: int, trouble: str) -> None:
    command = story.sole(cmd.WatchWorker, task)
    story.send(m.WorkerExited(**story.where(command), exit_code=code, trouble=trouble))


@pytest.mark.parametrize("failing", [cmd.TakeWorktree, cmd.StartWorker])
def test_the_machines_trouble_uses_up_no_attempt(failing: type[cmd.AttemptCommand]) -> None:
    """However often a worktree or worker can't be had because the disk is full, the task waits, is told why, and works after it."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    for _ in range(40):
        if failing is cmd.StartWorker and story.has(cmd.TakeWorktree):
            story.send(m.WorktreeReady(**story.where(story.sole(cmd.TakeWorktree)), path="/pool/a"))
        fails(story, failing, "a")
        reason = story.attempt("a").reason
        assert reason is not None
        assert (story.state("a"), reason.code, reason.text) == ("running", "retrying", "write failed")
        story.wait(5.0)
    if failing is cmd.TakeWorktree:
        story.land("a")
    else:
        story.send(m.WorkerStarted(**story.where(story.sole(cmd.StartWorker)), pid=1, started_at=story.now))
        assert story.attempt("a").step is Step.RUNNING
    assert len(story.task("a").attempts) == 1


def test_a_worker_that_comes_up_after_all_lets_others_start() -> None:
    """That a worker runs concerns nobody else, unless its start had failed for want of what others wait for too."""
    limits = Limits(workers_max=2, ramp_per_s=1000.0)
    story = a_story(a_plan(a_task("a"), a_task("b")), Story(limits))
    for task in ("a", "b"):
        story.send(m.WorktreeReady(**story.where(story.sole(cmd.TakeWorktree, task)), path=f"/pool/{task}"))
    fails(story, cmd.StartWorker, "a")
    fails(story, cmd.StartWorker, "b")
    story.wait(5.0)
    for task in ("a", "b"):
        assert story.swarm.capacity.reason == CLOSED
        start = story.sole(cmd.StartWorker, task)
        story.send(m.WorkerStarted(**story.where(start), pid=1, started_at=story.now))
    assert not story.swarm.trouble
    assert story.swarm.capacity.reason != CLOSED


@pytest.mark.parametrize("trouble", [FULL, ""], ids=["the machine's", "nobody's"])
def test_a_failure_that_lasts_for_hours_is_borne(trouble: str) -> None:
    """A step that fails some thousand times in a row is tried again as at the first, a little later each time and then no later."""
    story = a_story(a_plan(a_task("a")))
    story.up("a")
    story.exit("a")
    for _ in range(1100):
        fails(story, cmd.Collect, "a", trouble)
        story.wait(30.0)
    story.collect("a")
    assert story.state("a") == "queued"


def test_a_watch_that_fails_while_a_worker_is_ended_leaves_nobody_waiting() -> None:
    """Where the end of a worker can't be told by who watched it, after it was asked to end, it is asked for again."""
    story = a_story(a_plan(a_task("a", timeout_s=10.0)))
    story.up("a")
    watch = story.sole(cmd.WatchWorker, "a")
    story.wait(11.0)
    assert story.sole(cmd.EndWorker, "a").why == "timeout"
    story.send(
        m.CommandFailed(**story.where(watch), command="WatchWorker", text="no descriptor", trouble=FULL)
    )
    story.wait(1.0)
    assert story.has(cmd.EndWorker, "a")


def test_nothing_new_starts_until_it_is_over() -> None:
    """From the first failure on nothing starts, whatever the readings say; the first success opens the house again."""
    story = a_story(
        a_plan(*(a_task(name) for name in "abc")), bench=Story(Limits(workers_max=2, ramp_per_s=99.0))
    )
    assert story.at_work() == ["a", "b"]
    fails(story, cmd.TakeWorktree, "a")
    story.land("b")
    story.measure(CALM)
    assert story.at_work() == ["a"]
    assert (story.swarm.capacity.slots_open, story.swarm.capacity.reason) == (0, CLOSED)
    assert not wants_readings(story.swarm)
    story.wait(5.0)
    assert story.swarm.capacity.reason == CLOSED
    story.up("a")
    story.measure(CALM)
    assert story.at_work() == ["a", "c"]
    told = [(fact.data["slots_open"], fact.data["reason"]) for fact in story.told("CapacityChanged")]
    assert told[-2][1] == CLOSED
    assert told[-1][1] != CLOSED


def test_it_is_over_only_when_nobody_waits_for_the_machine() -> None:
    """Of two that failed, the first success opens nothing; a task that is cancelled does not keep the house shut."""
    story = a_story(
        a_plan(*(a_task(name) for name in "abc")), bench=Story(Limits(workers_max=2, ramp_per_s=99.0))
    )
    fails(story, cmd.TakeWorktree, "a")
    fails(story, cmd.TakeWorktree, "b")
    story.wait(1.0)
    story.land("a")
    assert story.swarm.capacity.reason == CLOSED
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("b",)))
    fails(story, cmd.TakeWorktree, "b")
    story.measure(CALM)
    assert story.swarm.trouble == {}
    assert story.at_work() == ["c"]


def test_a_command_of_the_run_shuts_the_house_too() -> None:
    """Staging that can't be published for want of room keeps new workers from starting, until it is."""
    story = a_story(a_plan(a_task("a"), a_task("b")), bench=Story(Limits(workers_max=1, ramp_per_s=99.0)))
    story.up("a")
    story.exit("a")
    story.measure(CALM)
    story.collect("a")
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "a"))))
    story.merge("a")
    story.advance("a")
    story.take(cmd.Publish)
    story.send(
        m.RunCommandFailed(at=story.now, run="plan", command="Publish", text="write failed", trouble=FULL)
    )
    assert story.swarm.capacity.reason == CLOSED
    assert story.run.failures == {"Publish": "write failed"}
    story.wait(1.0)
    story.publish()
    assert story.swarm.trouble == {}
    assert story.state("a") == "landed"


def test_a_next_daemon_knows_of_the_trouble() -> None:
    """After a restart the house is still shut, and what failed is outstanding at the time that it was to be tried again."""
    story = a_story(a_plan(a_task("a"), a_task("b")))
    story.up("b")
    fails(story, cmd.TakeWorktree, "a")
    story.send(m.DaemonStarted(at=story.now, version="2", pid=2, limits=Limits(), rules=m.RULES))
    assert [type(c).__name__ for c in pending_commands(story.swarm)] == ["LookAtStaging", "WatchWorker"]
    assert story.swarm.capacity.reason == CLOSED
    story.take(cmd.TakeWorktree)
    story.wait(1.0)
    assert story.has(cmd.TakeWorktree)


def test_a_worker_that_fails_on_a_full_disk_is_forgiven_a_few_times() -> None:
    """A worker that fails while the disk is full has used up no attempt, three times; what fills the disk each time fails in the
    end. One that ends well, and one that fails with room left, are taken at their word."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    for n in range(3):
        story.up("a")
        exits(story, "a", 1, FULL)
        story.collect("a")
        assert story.attempt("a").reason == Reason(
            "machine", f"the worker ended with exit code 1 while {FULL}", {"exit_code": 1}
        )
        assert story.state("a") == "ready"
        story.wait(6.0)
        assert story.attempt("a").n == n + 2
    story.up("a")
    exits(story, "a", 1, FULL)
    story.collect("a")
    assert (story.state("a"), story.why("a")) == ("failed", "worker_failed")

    story = a_story(a_plan(a_task("b", attempts=1)))
    story.up("b")
    exits(story, "b", 0, FULL)
    story.collect("b")
    assert story.state("b") in ("queued", "landing")


def test_a_verification_that_fails_on_a_full_disk_is_done_again() -> None:
    """A red suite says nothing while the disk is full: it runs again on the same candidate, a few times before it is believed."""
    story = a_story(a_plan(a_task("a", verify=["make"], attempts=1)))
    story.work("a")
    story.merge("a")
    for _ in range(3):
        command = story.sole(cmd.Verify)
        red = (SuiteResult(name=command.suites[0].name, outcome="failed"),)
        answer = m.Verified(**story.where(command), candidate=command.candidate, suites=red, trouble=FULL)
        story.send(answer)
        assert story.swarm.capacity.reason == CLOSED
        story.wait(5.0)
    assert story.attempt("a").suites == ()
    again = story.sole(cmd.Verify)
    assert again == command
    story.send(m.Verified(**story.where(again), candidate=again.candidate, suites=red, trouble=FULL))
    story.verify("a", "failed")
    assert (story.state("a"), story.why("a")) == ("failed", "verify_failed")
    assert story.swarm.trouble == {}


def test_a_machine_that_cannot_be_looked_at_says_why() -> None:
    """Where the readings fail nothing starts, the reason is the failure and not a figure, and the machine is looked at again."""
    story = Story()
    story.send(submitted(a_plan(a_task("a")), at=story.now))
    story.send(m.RunPrepared(at=story.now, run="plan", commit=BASE, worktree="/staging"))
    assert story.sole(cmd.MeasureHost).target is None
    story.send(m.HostMeasured(at=story.now, readings=CALM, trouble="no memory is left"))
    assert story.at_work() == []
    assert story.sole(cmd.MeasureHost).target == 0
    assert "can't be looked at: no memory is left" in story.swarm.capacity.reason
    story.send(m.HostMeasured(at=story.now, readings=CALM))
    assert story.at_work() == ["a"]

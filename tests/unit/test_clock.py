"""The clock is set, or a laptop sleeps: no worker has less time for it, and no wait of seconds becomes one of hours."""

from __future__ import annotations

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.model import Limits, WorkerResult
from swarm.core.state import next_deadline
from tests.builders import CALM, a_plan, a_task, submitted
from tests.stories import Story, a_story


def set_clock(story: Story, by_s: float) -> None:
    story.now += by_s
    story.send(m.ClockSet(at=story.now, by_s=by_s))


@pytest.mark.parametrize("by_s", [7200.0, -7200.0, 2.0])
def test_a_worker_has_the_time_that_it_was_given(by_s: float) -> None:
    """A worker with 100 seconds that has run for 60 is ended 40 seconds later, however the clock was set meanwhile."""
    story = a_story(a_plan(a_task("a", timeout_s=100.0)))
    story.up("a")
    story.wait(60.0)
    set_clock(story, by_s)
    story.wait(39.0)
    assert not story.has(cmd.EndWorker)
    story.wait(2.0)
    assert story.sole(cmd.EndWorker).why == "timeout"


def test_what_waits_for_a_moment_comes_no_later_than_it() -> None:
    """What is tried again at a time is, when the clock goes past it while a laptop sleeps; when it is set back, the wait stays as
    long as it was to be."""
    for by_s, left_s in ((7200.0, 0.0), (-7200.0, 40.0)):
        story = a_story(a_plan(a_task("a")))
        story.up("a")
        story.exit("a", 75, WorkerResult(retry_after_s=100.0))
        story.collect("a")
        story.wait(60.0)
        set_clock(story, by_s)
        story.wait(max(0.0, left_s - 1.0))
        assert (story.attempt("a").n == 2) == (left_s == 0.0)
        story.wait(2.0)
        assert story.attempt("a").n == 2


def test_a_clock_set_back_holds_nothing_up() -> None:
    """After the clock was set back by hours, failed commands are tried again within seconds, the ramp grows as before, and staging
    is followed."""
    limits = Limits(workers_max=3, ramp_per_s=1.0)
    story = a_story(a_plan(*(a_task(name) for name in "abc")), bench=Story(limits))
    command = story.sole(cmd.TakeWorktree, "a")
    story.send(m.CommandFailed(**story.where(command), command="TakeWorktree", text="busy"))
    publishing = story.swarm.runs["plan"]
    set_clock(story, -7200.0)
    due = next_deadline(story.swarm)
    assert due is not None
    assert due < story.now + 2.0
    story.wait(2.5)
    assert story.has(cmd.TakeWorktree, "a")
    assert story.at_work() == ["a", "b", "c"]
    story.land("a")
    story.wait(1.0)
    assert publishing.followed == publishing.published


def test_readings_taken_before_the_clock_was_set_back_get_old() -> None:
    """Readings from before are as old after the clock was set back as they were, and are taken anew."""
    story = a_story(a_plan(a_task("a")))
    story.land("a")
    set_clock(story, -7200.0)
    story.now += 3.0
    story.send(submitted(a_plan(a_task("a"), a_task("b")), at=story.now))
    assert story.has(cmd.MeasureHost)
    story.measure(CALM)
    assert story.at_work() == ["b"]


def test_a_daemon_that_starts_with_an_earlier_clock_goes_on() -> None:
    """A machine that comes up years back (no clock of its own) waits no longer than was left, and a worker has what it had left."""
    story = a_story(a_plan(a_task("a", timeout_s=100.0), a_task("b")))
    story.up("a")
    command = story.sole(cmd.TakeWorktree, "b")
    story.send(m.CommandFailed(**story.where(command), command="TakeWorktree", text="busy"))
    story.wait(0.1)
    story.now -= 1e9
    story.send(m.DaemonStarted(at=story.now, version="2", pid=2, limits=Limits(), rules=m.RULES))
    due = next_deadline(story.swarm)
    assert due is not None
    assert due < story.now + 2.0
    story.wait(98.0)
    assert not story.has(cmd.EndWorker)
    story.wait(3.0)
    assert story.has(cmd.EndWorker)

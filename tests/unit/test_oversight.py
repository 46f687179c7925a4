"""Workers that hang or run wild."""

from __future__ import annotations

import dataclasses

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core import report
from swarm.core.state import StaleEvent
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story


def a_silent_story(no_output_s: float = 60.0) -> Story:
    story = a_story(a_plan(dataclasses.replace(a_task("a", attempts=1), no_output_s=no_output_s)))
    story.up("a")
    return story


def test_a_worker_that_says_nothing_is_ended() -> None:
    """What watches a worker is told how long it may be silent; over it the worker is ended with its grace time and the task has
    failed as `no_output`, whatever its exit code then."""
    story = a_silent_story()
    watch = story.sole(cmd.WatchWorker)
    assert watch.no_output_s == 60.0
    story.send(m.WorkerSilent(**story.where(watch), silent_s=61.0))
    end = story.sole(cmd.EndWorker)
    assert (end.why, end.grace_s) == ("no_output", 5.0)
    story.commands.append(watch)
    story.exit("a", 0)
    story.collect("a")
    reason = story.task("a").reason
    assert reason is not None
    assert (story.state("a"), reason.code) == ("failed", "no_output")
    assert reason.text == "the worker wrote nothing for 60 s and was ended"


def test_a_worker_that_multiplies_gets_no_time_to() -> None:
    """One with too many processes is killed at once, and that is its task's failure."""
    story = a_silent_story()
    watch = story.sole(cmd.WatchWorker)
    story.send(m.WorkerMultiplied(**story.where(watch), processes=9999))
    end = story.sole(cmd.EndWorker)
    assert end.grace_s == 0.0
    story.commands.append(watch)
    story.exit("a", 137)
    story.collect("a")
    assert (story.state("a"), story.why("a")) == ("failed", "worker_failed")


def test_one_that_is_being_ended_is_left_to_that() -> None:
    """A worker that was asked to end for one reason is not ended for another."""
    story = a_silent_story()
    watch = story.sole(cmd.WatchWorker)
    story.send(m.WorkerSilent(**story.where(watch), silent_s=61.0))
    with pytest.raises(StaleEvent):
        story.send(m.WorkerMultiplied(**story.where(watch), processes=9999))


@pytest.mark.parametrize(
    ("no_output_s", "silent_s", "quiet"),
    [(60.0, 29.0, False), (60.0, 30.0, True), (0.0, 299.0, False), (0.0, 300.0, True)],
)
def test_a_silent_worker_is_flagged_before_it_is_ended(
    no_output_s: float, silent_s: float, quiet: bool
) -> None:
    """Row 61: status flags a worker after half of the time that it may be silent, or after five minutes where there is no limit."""
    story = a_silent_story(no_output_s)
    live = report.Live(True, silences={("plan", "a"): silent_s})
    (attempt,) = report.task_document(story.swarm, story.run, story.task("a"), live)["attempts"]
    assert (attempt["quiet"], attempt["silent_s"]) == (quiet, silent_s)

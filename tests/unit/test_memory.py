"""Memory: what becomes of workers that take more than their task may."""

from __future__ import annotations

import pytest

from swarm.core import messages as m
from swarm.core.model import Reason, Step
from swarm.core.state import StaleEvent, pending_commands
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story


def outgrows(story: Story, task: str, taken_mb: int) -> None:
    """A worker that is watched is seen to take so much."""
    watch = story.sole(m.WatchWorker, task)
    story.send(m.WorkerOutgrew(**story.where(watch), memory_bytes=taken_mb * 1_000_000))


def test_a_worker_over_its_memory_is_ended_and_tried_again() -> None:
    """It is ended like one whose time is over; whatever its exit code then, the attempt is over_memory and counts, and the next is
    told."""
    story = a_story(a_plan(a_task("a", memory_mb=500, attempts=2)))
    story.up("a")
    assert [c.memory_mb for c in story.commands if isinstance(c, m.WatchWorker)] == [500]
    outgrows(story, "a", 620)
    assert [c for c in story.commands if isinstance(c, m.EndWorker)] == pending_commands(story.swarm)
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

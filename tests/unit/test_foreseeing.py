"""Conflicts that are foreseen while workers still work."""

from __future__ import annotations

import pytest

from swarm.core import foreseeing, report
from swarm.core import messages as m
from swarm.core.state import StaleEvent
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story


def at_risk(story: Story) -> list[str]:
    return [each.task for each in foreseeing.at_risk(story.swarm)]


def compared(story: Story, task: str, *paths: str, other: str = "plan/b") -> None:
    """A worker's work has been held against another's."""
    story.send(m.WorkCompared(at=story.now, run="plan", task=task, attempt=1, other=other, paths=paths))


def test_only_work_that_may_meet_is_looked_at() -> None:
    """Workers that share a path or claim none are held against each other, those that claim all for themselves never; a single one
    is held against staging once that has moved on."""
    tasks = {"a": ["+log"], "b": [], "mine": ["x"], "other": ["y"]}
    story = a_story(a_plan(*(a_task(name, claims=claims) for name, claims in tasks.items())))
    story.up("a")
    assert at_risk(story) == []
    story.up("mine")
    assert at_risk(story) == []
    story.up("b")
    assert at_risk(story) == ["a", "b"]
    story.exit("b")
    assert at_risk(story) == []
    story.land("other")
    assert at_risk(story) == ["a"]


def test_what_is_foreseen_is_told_and_shown_until_it_is_gone() -> None:
    """A conflict is told with its paths when it comes up, stands in status, and is gone without a word when it is."""
    story = a_story(a_plan(a_task("a"), a_task("b")))
    story.up("a")
    compared(story, "a", "f", "g")
    (fact,) = story.told("ConflictForeseen")
    assert (fact.task, fact.data) == ("a", {"other": "plan/b", "paths": ["f", "g"]})
    compared(story, "a", "f", other=foreseeing.STAGING)
    shown = report.status(story.swarm, report.Live(True))["runs"][0]["tasks"][0]["attempts"][0]["foreseen"]
    assert [(each["with"], each["path"]) for each in shown] == [
        ("plan/b", "f"),
        ("plan/b", "g"),
        ("staging", "f"),
    ]
    compared(story, "a")
    assert len(story.told("ConflictForeseen")) == 2
    assert story.attempt("a").foreseen == (("staging", "f"),)


def test_what_comes_too_late_is_not_heard() -> None:
    """Of a worker that has ended nothing is foreseen any more."""
    story = a_story(a_plan(a_task("a")))
    story.up("a")
    story.exit("a")
    with pytest.raises(StaleEvent):
        compared(story, "a", "f")

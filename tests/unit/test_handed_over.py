"""Whether work of a run was handed over before: a finish is told, and so is its preview."""

from __future__ import annotations

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.model import Reason
from swarm.core.state import pending_commands
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story


def finish(story: Story, request: str, *, stage_only: bool = False, refused: bool = False) -> bool:
    """Has the run finished, or refused; gives what the command says of earlier ones."""
    at, commit = story.now, story.run.published
    story.send(
        m.FinishRequested(
            at=at, run="plan", request=request, target="main", commit=commit, stage_only=stage_only
        )
    )
    (command,) = [each for each in pending_commands(story.swarm) if isinstance(each, cmd.Finish)]
    if refused:
        why = Reason("conflict", "it conflicts")
        story.send(m.FinishRefused(at=at, run="plan", request=request, target="main", reason=why))
    else:
        story.send(
            m.Finished(
                at=at, run="plan", request=request, target="main", commit=commit, stage_only=stage_only
            )
        )
    return command.handed_over


@pytest.mark.parametrize("stage_only", [False, True])
def test_a_finish_that_brought_work_anywhere_counts(stage_only: bool) -> None:
    """Neither one before anything landed nor one that was refused hands anything over; every other does, into the index too."""
    story = a_story(a_plan(a_task("a")))
    assert not finish(story, "1", stage_only=stage_only)
    assert not story.run.handed_over
    story.land("a")
    assert not finish(story, "2", stage_only=stage_only, refused=True)
    assert not story.run.handed_over
    assert not finish(story, "3", stage_only=stage_only)
    assert story.run.handed_over
    assert finish(story, "4")

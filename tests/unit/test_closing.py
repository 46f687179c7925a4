"""What `swarm finish` is asked for, before anything is looked at."""

from __future__ import annotations

import pytest

from swarm.core.model import attempt_branch, staging_branch
from swarm.daemon.closing import _check_ended, refuse_ours
from swarm.daemon.discarding import STAGING, Loss, refusal
from swarm.errors import Refused, UsageError
from tests.builders import a_plan, a_task
from tests.stories import a_story


@pytest.mark.parametrize("target", [staging_branch("r"), attempt_branch("r", "t", 1), "swarm/anything"])
def test_nothing_is_finished_into_a_branch_of_swarms_own(target: str) -> None:
    """Staging and the branches of attempts are refused as a target, as a mistake in what was typed, with what to type."""
    with pytest.raises(UsageError, match="own branches") as refused:
        refuse_ours(target)
    assert "--into BRANCH" in str(refused.value)


@pytest.mark.parametrize(("began", "step"), [("main", "--run r, or"), ("", "--run r --into BRANCH, or")])
def test_a_refused_discard_names_a_finish_that_is_taken(began: str, step: str) -> None:
    """Where a run started from no branch, the finish that keeps what has landed must be told one."""
    assert f"swarm finish {step}" in str(refusal("r", [Loss(STAGING, "it landed")], began))


@pytest.mark.parametrize("target", ["main", "swarming", "my/swarm/x"])
def test_every_other_branch_may_be_a_target(target: str) -> None:
    """A branch of the user's is not refused, whatever it is called."""
    refuse_ours(target)


@pytest.mark.parametrize(
    ("names", "said"), [("a", "1 task of run plan has not"), ("ab", "2 tasks of run plan have not")]
)
def test_what_has_not_ended_is_counted_as_people_do(names: str, said: str) -> None:
    """One task has not ended, two have not; with what has landed so far it goes on only where that is asked for."""
    run = a_story(a_plan(*(a_task(name) for name in names))).run
    with pytest.raises(Refused, match=said):
        _check_ended(run, "", "swarm finish", {})
    _check_ended(run, "", "swarm finish", {"partial": True})

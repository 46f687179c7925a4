"""What `swarm finish` is asked for, before anything is looked at."""

from __future__ import annotations

import pytest

from swarm.core.model import attempt_branch, staging_branch
from swarm.daemon.closing import refuse_ours
from swarm.errors import UsageError


@pytest.mark.parametrize("target", [staging_branch("r"), attempt_branch("r", "t", 1), "swarm/anything"])
def test_nothing_is_finished_into_a_branch_of_swarms_own(target: str) -> None:
    """Staging and the branches of attempts are refused as a target, as a mistake in what was typed, with what to type."""
    with pytest.raises(UsageError, match="own branches") as refused:
        refuse_ours(target)
    assert "--into BRANCH" in str(refused.value)


@pytest.mark.parametrize("target", ["main", "swarming", "my/swarm/x"])
def test_every_other_branch_may_be_a_target(target: str) -> None:
    """A branch of the user's is not refused, whatever it is called."""
    refuse_ours(target)

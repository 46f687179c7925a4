"""How staging in the user's repository is looked at, against real git."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from swarm.core.model import Seen, Standing
from swarm.edge import git
from swarm.edge.landing import LandingRepository, StagingBranchMoved
from swarm.edge.lookout import Lookout
from tests.conftest import git as sh
from tests.integration.test_landing import Yard, work


def look(yard: Yard, landing: LandingRepository, published: str) -> Seen:
    with closing(git.Objects(yard.user.common_dir)) as objects:
        return Lookout(yard.user, landing, objects).look(
            "run", published, yard.repo / ".worktrees" / "run" / "staging"
        )


def test_where_the_last_landing_left_it_is_as_left_whatever_the_landing_repository_knows(repo: Path) -> None:
    """A branch that stands where it was left is not called moved while the landing repository is founded again."""
    yard = Yard(repo)
    first = yard.land(work(repo, yard.base, {"one": "1\n"}))
    assert look(yard, yard.landing, first) == Seen(Standing.AS_LEFT, first)
    assert look(yard, yard.landing, yard.base).kind is Standing.AS_LEFT  # published, and not yet told
    sh(repo, "branch", "-f", "swarm/run/staging", yard.base)
    assert look(yard, yard.landing, first) == Seen(Standing.MOVED, yard.base)
    sh(repo, "branch", "-f", "swarm/run/staging", first)
    yard.landing.close()
    shutil.rmtree(yard.path)
    founded = LandingRepository(yard.path, yard.user)
    founded.open_or_create()
    assert look(yard, founded, first) == Seen(Standing.AS_LEFT, first)
    founded.close()


def test_a_branch_that_is_being_rebased_is_as_good_as_checked_out(repo: Path) -> None:
    """While a rebase that somebody began on staging is under way, staging is neither published nor called as it was left."""
    yard = Yard(repo)
    first = yard.land(work(repo, yard.base, {"one": "1\n"}))
    sh(repo, "checkout", "-q", "swarm/run/staging")
    git.run("rebase", "--exec", "false", yard.base, cwd=repo, ok=range(256), user_config=True)
    seen = look(yard, yard.landing, first)
    assert seen == Seen(Standing.CHECKED_OUT, first, where="rebase", place=str(repo))
    second = yard.land(work(repo, first, {"two": "2\n"}), "u", first, publish=False)
    with pytest.raises(StagingBranchMoved):
        yard.landing.publish("run", second, first)
    assert sh(repo, "rev-parse", "swarm/run/staging") == first
    sh(repo, "rebase", "--abort")
    sh(repo, "checkout", "-q", "main")
    yard.landing.publish("run", second, first)
    assert look(yard, yard.landing, second) == Seen(Standing.AS_LEFT, second)
    yard.landing.close()


def before(yard: Yard, left: str) -> Seen | None:
    with closing(git.Objects(yard.user.common_dir)) as objects:
        tree = yard.repo / ".worktrees" / "run" / "staging"
        return Lookout(yard.user, yard.landing, objects).look_before("run", left, tree)


def test_before_a_landing_it_is_looked_for_commits_made_by_hand(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody committed on the branch, and a branch that was moved back, is found before the next landing; where nobody did
    anything no git is run, and commits that have landed are not found again."""
    yard = Yard(repo)
    first = yard.land(work(repo, yard.base, {"one": "1\n"}))
    assert before(yard, first) is None
    with monkeypatch.context() as patch:
        patch.setattr(git, "run", None)
        assert before(yard, first) is None
        assert before(yard, yard.base) is None  # published, and not yet told
    sh(repo, "branch", "-f", "swarm/run/staging", yard.base)
    assert before(yard, first) == Seen(Standing.MOVED, yard.base)
    theirs = work(repo, first, {"two": "2\n"})
    sh(repo, "branch", "-f", "swarm/run/staging", theirs)
    found = before(yard, first)
    assert found is not None
    assert (found.kind, found.found, found.base, found.touched) == (Standing.BY_HAND, theirs, first, ("two",))
    second = yard.land(theirs, "u", first, publish=False)
    assert before(yard, first) is None  # it is on its way to be published
    yard.landing.publish("run", second, theirs)
    assert before(yard, second) is None
    yard.landing.close()

"""How staging in the user's repository is looked at, against real git."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swarm.core.model import Seen, Standing
from swarm.edge import git
from swarm.edge.landing import LandingRepository, StagingBranchMoved
from swarm.edge.lockfile import MergeLockHeld, exclusive
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


def merged_work(repo: Path, base: str, name: str) -> str:
    """Commits work that a merge of two lines is the end of."""
    side = work(repo, base, {f"{name}-side": "s"}, name=f"{name}-side")
    work(repo, base, {f"{name}-own": "o"}, name=name)
    sh(repo, "checkout", "-q", "--detach", name)
    sh(repo, "merge", "-q", "--no-edit", side)
    head = sh(repo, "rev-parse", "HEAD")
    sh(repo, "branch", "-f", name, head)
    sh(repo, "checkout", "-q", "main")
    return head


@pytest.mark.parametrize("with_a_merge", [False, True])
@pytest.mark.parametrize("known_before", [False, True])
def test_what_lands_while_the_line_is_read_is_never_called_moved(
    repo: Path, monkeypatch: pytest.MonkeyPatch, with_a_merge: bool, known_before: bool
) -> None:
    """A landing that is advanced to and published while another thread reads the line from git is on the line, whatever it brings
    in: staging stands as it was left. Nor does the advance wait for that reading."""
    yard = Yard(repo)
    seen_landing = LandingRepository(yard.path, yard.user)
    if known_before:
        assert seen_landing.place("run", yard.base) == 0
    first = yard.land(merged_work(repo, yard.base, "one"), "one")  # by another, so that it is to be read
    head = merged_work(repo, first, "two") if with_a_merge else work(repo, first, {"two": "2\n"})
    onto, second = yard.candidate(head, "two", first)
    assert onto == first
    has_read, goes_on, real = threading.Event(), threading.Event(), git.run

    def slow(*args: str, **options: Any) -> git.Outcome:
        told = real(*args, **options)
        if args[0] == "rev-list" and threading.current_thread() is reader and not has_read.is_set():
            has_read.set()
            assert goes_on.wait(10)
        return told

    places: list[int | None] = []
    reader = threading.Thread(target=lambda: places.append(seen_landing.place("run", first)))
    monkeypatch.setattr(git, "run", slow)
    reader.start()
    try:
        assert has_read.wait(10)
        with exclusive(yard.lock, kind=MergeLockHeld) as held:
            assert seen_landing.advance("run", second, first, lock=held) is None
        yard.landing.publish("run", second, first)
    finally:
        goes_on.set()
        reader.join(10)
    assert places == [1]
    assert look(yard, seen_landing, first) == Seen(Standing.AS_LEFT, second)
    assert look(yard, seen_landing, second) == Seen(Standing.AS_LEFT, second)
    assert (seen_landing.place("run", second), seen_landing.came_in("run", head)) == (2, True)
    for each in (seen_landing, yard.landing):
        each.close()


def test_after_a_landing_that_brings_a_merge_in_only_the_new_is_read(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What such a landing brought in is read from git once it is asked for, from what was known on, and once."""
    yard = Yard(repo)
    first = yard.land(work(repo, yard.base, {"one": "1\n"}), "one")
    assert yard.landing.place("run", first) == 1
    head = merged_work(repo, first, "two")
    second = yard.land(head, "two", first)
    asked, real = [], git.run

    def told(*args: str, **options: Any) -> git.Outcome:
        asked.append(args)
        return real(*args, **options)

    monkeypatch.setattr(git, "run", told)
    assert (yard.landing.place("run", second), yard.landing.came_in("run", head)) == (2, True)
    assert [args[-1] for args in asked] == [f"{first}..{second}"]
    yard.landing.close()


def test_a_landing_is_never_called_moved_whatever_is_remembered(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the branch stands at a later landing it is as it was left also for one who does not remember that landing; where it
    stands at what is none, it is not."""
    yard = Yard(repo)
    first = yard.land(work(repo, yard.base, {"one": "1\n"}), "one")
    second = yard.land(work(repo, first, {"two": "2\n"}), "two", first)
    real = yard.landing.place
    monkeypatch.setattr(
        yard.landing, "place", lambda run, commit: None if commit == second else real(run, commit)
    )
    assert look(yard, yard.landing, first) == Seen(Standing.AS_LEFT, second)
    sh(repo, "branch", "-f", "swarm/run/staging", yard.base)
    assert look(yard, yard.landing, first) == Seen(Standing.MOVED, yard.base)
    yard.landing.close()


def test_a_line_that_was_founded_again_is_read_anew(repo: Path) -> None:
    """Where staging is not above what was known of it any more, nothing of that is taken for a landing."""
    yard = Yard(repo)
    other = Yard(repo)
    gone = yard.land(work(repo, yard.base, {"one": "1\n"}), "one", publish=False)
    assert yard.landing.place("run", gone) == 1
    git.run("update-ref", "refs/heads/run/staging", yard.base, git_dir=yard.path)
    first = other.land(work(repo, yard.base, {"two": "2\n"}), "two", publish=False)
    assert (yard.landing.place("run", first), yard.landing.place("run", gone)) == (1, None)
    for each in (yard.landing, other.landing):
        each.close()

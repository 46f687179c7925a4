"""Looking at worktrees: what is said of them is what git and the file system say, and a look changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.edge import survey
from tests.conftest import git, wait_until


@pytest.fixture
def linked(repo: Path, tmp_path: Path) -> Path:
    """A linked worktree, detached at main."""
    path = tmp_path / "linked tree"
    git(repo, "worktree", "add", "-q", "--detach", str(path), "main")
    return path


def look(found: survey.Found, base: str | None = None, **more: object) -> survey.Look:
    (seen,) = survey.look([(found, base, None)], **more)  # type: ignore[arg-type]
    return seen


def test_linked_worktrees_are_listed_as_git_lists_them(repo: Path, linked: Path) -> None:
    """Path, commit and branch of each linked worktree that is still there."""
    git(repo, "worktree", "add", "-q", "-b", "topic", str(repo / "second"))
    git(repo, "worktree", "add", "-q", "--detach", str(repo / "gone"))
    (repo / "gone" / ".git").unlink()
    for path in (repo / "gone").rglob("*"):
        if path.is_file():
            path.unlink()
    os.rename(repo / "gone", repo / "elsewhere")
    commit = git(repo, "rev-parse", "HEAD")
    found = [(each.path, each.commit, each.branch) for each in survey.linked_worktrees(repo / ".git")]
    assert sorted(found) == sorted(
        [
            (os.path.realpath(linked), commit, None),
            (os.path.realpath(repo / "second"), commit, "topic"),
        ]
    )


def test_ahead_and_dirt_are_gits_own_and_looking_changes_nothing(repo: Path, linked: Path) -> None:
    """Commits since the base, and changed, staged, deleted and untracked paths; ignored and lent ones are no dirt."""
    base = git(repo, "rev-parse", "main")
    (found,) = survey.linked_worktrees(repo / ".git")
    assert (look(found, base).ahead, look(found, base).dirty) == (0, 0)
    (linked / ".gitignore").write_text("*.log\n")
    git(linked, "add", "-A")
    git(linked, "-c", "user.name=w", "-c", "user.email=w@w", "commit", "-qm", "one")
    (linked / "src" / "a.py").write_text("changed\n")
    (linked / "src" / "b.py").unlink()
    (linked / "staged").write_text("s")
    git(linked, "add", "staged")
    (linked / "new").mkdir()
    (linked / "new" / "1").write_text("1")
    (linked / "x.log").write_text("ignored")
    (linked / ".env").write_text("lent")
    (found,) = survey.linked_worktrees(repo / ".git")
    index = (found.tree.admin / "index").read_bytes()
    assert (look(found, base).ahead, look(found, base, leave_out=(".env",)).dirty) == (1, 4)
    assert look(found, None).ahead is None
    assert look(found, "0" * 40).ahead is None
    assert (found.tree.admin / "index").read_bytes() == index


def test_the_index_that_counts_is_asked(repo: Path, linked: Path, tmp_path: Path) -> None:
    """Of a spare worktree whose own index is out of date, as a worker left it, dirt is what ours says."""
    (found,) = survey.linked_worktrees(repo / ".git")
    good = tmp_path / "index"
    good.write_bytes((found.tree.admin / "index").read_bytes())
    (linked / "left").write_text("x")
    git(linked, "add", "left")
    (linked / "left").unlink()
    ours = survey.Spare(good, 0.0)
    assert [seen.dirty for seen in survey.look([(found, None, None), (found, None, ours)])] == [1, 0]


def test_what_a_spare_worktree_was_left_with_is_no_change(repo: Path, linked: Path, tmp_path: Path) -> None:
    """Files of work that is kept may still lie there; from what comes after that on, it is told as changed."""
    (found,) = survey.linked_worktrees(repo / ".git")
    good = tmp_path / "index"
    good.write_bytes((found.tree.admin / "index").read_bytes())
    (linked / "kept").write_text("x")
    left = survey.Spare(good, (linked / "kept").stat().st_ctime)
    assert survey.look([(found, None, left)])[0].dirty == 0
    clock = tmp_path / "clock"

    def has_gone_on() -> bool:
        clock.touch()
        return clock.stat().st_ctime > left.since

    wait_until(has_gone_on)
    (linked / "mine").write_text("x")
    assert survey.look([(found, None, left)])[0].dirty == 2


def test_a_worktree_that_cannot_be_asked_is_not_called_clean(repo: Path, linked: Path) -> None:
    """A broken index gives no dirt that is known, and never 0."""
    (found,) = survey.linked_worktrees(repo / ".git")
    (found.tree.admin / "index").write_bytes(b"no index")
    assert look(found).dirty is None


def test_size_is_what_du_says_and_is_bounded(
    repo: Path, linked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files count, links are not followed; past the bound the figure is a lower one and says so, unless asked for exactly."""
    (linked / "big").write_bytes(b"x" * 300_000)
    (linked / "link").symlink_to("/usr")
    (found,) = survey.linked_worktrees(repo / ".git")
    whole = look(found)
    assert whole.size_exact
    assert 300_000 <= whole.size_bytes < 1_000_000
    monkeypatch.setattr(survey, "ENTRIES_MAX", 2)
    assert not look(found).size_exact
    assert look(found).size_bytes <= whole.size_bytes
    assert look(found, exact=True) == whole

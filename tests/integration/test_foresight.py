"""A look into worktrees at work: what has changed, what would conflict, and that nobody notices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.edge.foresight import STAGING, Foreseen, Work, look
from tests.conftest import git


@pytest.fixture
def works(repo: Path, tmp_path: Path) -> list[Work]:
    """Three worktrees at the first commit, staging at a second one that changes `src/b.py`."""
    base = git(repo, "rev-parse", "HEAD")
    (repo / "src" / "b.py").write_text("b = 2\n")
    git(repo, "commit", "-q", "-a", "-m", "second")
    staging = git(repo, "rev-parse", "HEAD")
    made = []
    for name in ("one", "two", "three"):
        git(repo, "worktree", "add", "-q", "--detach", str(tmp_path / name), base)
        made.append(Work(name, str(tmp_path / name), base, staging))
    return made


def write(work: Work, path: str, text: str) -> None:
    target = Path(work.worktree) / path
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)


def changed_line(line: int, text: str) -> str:
    lines = [f"line {n}\n" for n in range(20)]
    lines[line] = f"{text}\n"
    return "".join(lines)


def everything(top: Path) -> list[tuple[str, int, int]]:
    """Every file below a folder with its size and the time of its last change; git marks objects that it meets as in use."""
    found = []
    for folder, _, names in os.walk(top):
        for name in names:
            facts = os.lstat(Path(folder) / name)
            at = 0 if "/objects/" in folder else facts.st_mtime_ns
            found.append((f"{folder}/{name}", facts.st_size, at))
    return sorted(found)


def test_conflicts_are_seen_before_anything_is_collected(repo: Path, works: list[Work]) -> None:
    """Edits of one line by two, committed or not, and one that staging has made meanwhile, conflict; edits of one file in other
    places do not; new files are changes too."""
    one, two, three = works
    write(one, "src/a.py", changed_line(3, "mine"))
    git(Path(one.worktree), "commit", "-q", "-a", "-m", "mine")
    write(one, "new", "x\n")
    write(two, "src/a.py", changed_line(3, "yours"))
    write(two, "src/b.py", "b = 3\n")
    write(three, "src/a.py", changed_line(18, "far away"))
    assert look(repo / ".git", works) == [
        Foreseen("one", ("new", "src/a.py"), {"two": ("src/a.py",)}),
        Foreseen("two", ("src/a.py", "src/b.py"), {STAGING: ("src/b.py",), "one": ("src/a.py",)}),
        Foreseen("three", ("src/a.py",), {}),
    ]


def test_nobody_notices_a_look(repo: Path, works: list[Work]) -> None:
    """Worktrees, their indexes and the repository stay as they are to the byte, and a lock that a worker's git holds is in nobody's
    way."""
    write(works[0], "src/a.py", changed_line(3, "mine"))
    write(works[0], "src/b.py", "b = 9\n")
    (repo / ".git" / "worktrees" / "one" / "index.lock").touch()
    before = everything(repo.parent)
    (seen, *_) = look(repo / ".git", works)
    assert seen.changed == ("src/a.py", "src/b.py")
    assert everything(repo.parent) == before


def test_what_cannot_be_read_is_unknown(repo: Path, works: list[Work]) -> None:
    """A worktree that is gone, or whose index is torn, is told as unknown; the others are looked at. What was lent is no change."""
    one, _, three = works
    git(repo, "worktree", "remove", "--force", one.worktree)
    (repo / ".git" / "worktrees" / "two" / "index").write_bytes(b"DIRC")
    write(three, "node_modules/x", "lent\n")
    seen = look(repo / ".git", works, leave_out=("node_modules",))
    assert [each.changed for each in seen] == [None, None, ()]
    assert look(repo / ".git", []) == []

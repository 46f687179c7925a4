"""A look at the linked worktrees of a repository: which there are, what is checked out, how far ahead, how dirty, how large.

Hides where git and the file system say so. Rules for editing: read-only to the last byte, no lock taken and no index refreshed, so
that a look disturbs neither daemon nor workers; a worktree that can't be asked is told as unknown and never as clean.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from swarm.dataclass import dataclass
from swarm.edge import git
from swarm.edge.linked import LinkedTree, is_touched, one_line

ENTRIES_MAX = 20_000  # files and folders counted for a size that nobody asked to be exact: about 0.1 s
_AT_ONCE = 4
_STATUS_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """A linked worktree whose folder is there: the commit it stands at, the branch it is on (None: detached), when it was made."""

    path: str
    commit: str | None
    branch: str | None
    made_at: float
    tree: LinkedTree


@dataclass(frozen=True, slots=True)
class Spare:
    """How a worktree that nobody has was left: the index that counts there, and since when (seconds since the epoch) nothing came
    to be in it. Until then its files are those of work that is kept, whatever commit it stands at."""

    index: Path
    since: float


@dataclass(frozen=True, slots=True)
class Look:
    """What a look into one worktree gave: commits that its base has not, changed and untracked paths, space taken on the disk.

    None is "could not be told". `size_exact` is false where counting was given up: then it is at least `size_bytes`.
    """

    ahead: int | None
    dirty: int | None
    size_bytes: int
    size_exact: bool


def linked_worktrees(common: Path) -> list[Found]:
    """Lists the linked worktrees of a repository, by path; those whose folder is gone are left out."""
    try:
        admins = sorted(os.scandir(common / "worktrees"), key=lambda entry: entry.name)
    except OSError:
        return []
    found = []
    for entry in admins:
        admin = Path(entry.path)
        try:
            named = (one_line(admin / "gitdir") or "").strip()
            made_at = (
                (admin / "commondir").stat().st_mtime
            )  # git writes it once; it touches `gitdir` now and then
        except OSError:
            continue
        path = Path(os.path.normpath(admin / named)).parent
        tree = LinkedTree(path, admin, common)
        if named and path.is_dir():
            branch = tree.branch()
            short = branch.removeprefix("refs/heads/") if branch else None
            found.append(Found(str(path), _head(tree), short, made_at, tree))
    return sorted(found, key=lambda each: each.path)


def _head(tree: LinkedTree) -> str | None:
    try:
        return tree.head()
    except git.GitError:
        return None


def look(
    wanted: Iterable[tuple[Found, str | None, Spare | None]],
    *,
    leave_out: Sequence[str] = (),
    exact: bool = False,
) -> list[Look]:
    """Looks into worktrees, several at once; each comes with the commit that it is ahead of, or None, and with how it was left
    where nobody has it.

    `leave_out` are paths that were put there for the worker and are no dirt. With `exact` every file is counted for the size.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        looks = [pool.submit(_look, *each, leave_out, exact) for each in wanted]
        return [each.result() for each in looks]


def _look(found: Found, base: str | None, spare: Spare | None, leave_out: Sequence[str], exact: bool) -> Look:
    size_bytes, size_exact = size(found.path, None if exact else ENTRIES_MAX)
    return Look(_ahead(found, base), _dirty(found.tree, spare, leave_out), size_bytes, size_exact)


def _ahead(found: Found, base: str | None) -> int | None:
    if base is None or found.commit is None:
        return None
    if base == found.commit:
        return 0
    try:
        return int(found.tree.git("rev-list", "--count", f"{base}..{found.commit}").text)
    except (git.GitError, ValueError, OSError):
        return None


def _dirty(tree: LinkedTree, spare: Spare | None, leave_out: Sequence[str]) -> int | None:
    paths = [f":(top,exclude,literal){path}" for path in leave_out]
    # Looked into by git, a submodule would have the programs run that its worker's settings name.
    asked = ("status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=dirty")
    status = ("--no-optional-locks", *asked, "--", ".", *paths)
    try:
        if spare is not None and not is_touched(tree.path, spare.since):
            return 0
        index = spare.index if spare is not None else None
        return tree.git(*status, index=index, timeout_s=_STATUS_TIMEOUT_S).out.count(b"\0")
    except (git.GitError, OSError):
        return None


def size(path: str, entries_max: int | None = None) -> tuple[int, bool]:
    """Adds up what a folder takes on the disk; links are not followed. Tells whether all of it was counted."""
    total, left = 0, entries_max
    folders = [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if left is not None:
                        left -= 1
                        if left < 0:
                            return total, False
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue  # it went while we looked, or a worker shut it
    return total, True

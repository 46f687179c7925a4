"""What running workers have changed so far, and where that would conflict: with each other's, or with staging.

Hides how a worktree is read while somebody works in it: through a copy of its index, into a store of objects that is thrown
away, so that neither the worker nor the repository notices. Rules for editing: nothing is written outside the temporary
folder, no lock is taken, and what can't be read at this moment is told as unknown.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from swarm.edge import git
from swarm.edge.linked import LinkedTree
from swarm.edge.survey import linked_worktrees

_AT_ONCE = 4
_TIMEOUT_S = 60.0
_OURS = ("-c", "user.name=swarm", "-c", "user.email=swarm@localhost")
STAGING = "staging"


class Work(NamedTuple):
    """An attempt at work: its name among the others, its worktree, the commit it started from, and where staging stands now."""

    name: str
    worktree: str
    base: str
    staging: str


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What an attempt has changed so far, None where that can't be told now, and the paths in which it would conflict with others,
    by their names, or with STAGING."""

    name: str
    changed: tuple[str, ...] | None
    conflicts: dict[str, tuple[str, ...]]


def look(common: Path, works: Sequence[Work], *, leave_out: Sequence[str] = ()) -> list[Foreseen]:
    """Looks into the worktrees of attempts at work; `leave_out` are paths that were put there for the worker.

    Raises `OSError` where there is no room for the temporary folder.
    """
    trees = {found.path: found.tree for found in linked_worktrees(common)}
    folder = Path(tempfile.mkdtemp(prefix="swarm-look-"))
    try:
        desk = _Desk(folder, common, leave_out)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            seen = list(pool.map(lambda work: desk.see(work, trees.get(work.worktree)), works))
            meetings = list(_meetings(works, seen))
            met = pool.map(lambda meeting: desk.conflict(*meeting[2:]), meetings)
        conflicts: dict[str, dict[str, tuple[str, ...]]] = {work.name: {} for work in works}
        for (one, other, *_), paths in zip(meetings, met, strict=True):
            if paths:
                conflicts[one][other] = paths
                if other != STAGING:
                    conflicts[other][one] = paths
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    pairs = zip(works, seen, strict=True)
    return [Foreseen(work.name, each and each.changed, conflicts[work.name]) for work, each in pairs]


class _Seen(NamedTuple):
    commit: str
    changed: tuple[str, ...]


def _meetings(works: Sequence[Work], seen: Sequence[_Seen | None]) -> Iterator[tuple[str, str, str, str]]:
    """Lists whom to hold against whom: staging that has moved on since, and attempts that changed the same path."""
    known = [
        (work, each) for work, each in zip(works, seen, strict=True) if each is not None and each.changed
    ]
    for work, each in known:
        if work.staging != work.base:
            yield work.name, STAGING, each.commit, work.staging
    for (one, mine), (other, theirs) in itertools.combinations(known, 2):
        if set(mine.changed) & set(theirs.changed):
            yield one.name, other.name, mine.commit, theirs.commit


class _Desk:
    """A temporary folder beside a repository: what is made of its objects here is gone with it."""

    def __init__(self, folder: Path, common: Path, leave_out: Sequence[str]) -> None:
        self._folder = folder
        self._common = common
        self._paths = (".", *(f":(top,exclude,literal){path}" for path in leave_out))
        (folder / "objects").mkdir()
        self._env = {
            "GIT_OBJECT_DIRECTORY": str(folder / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(common / "objects"),
        }

    def see(self, work: Work, tree: LinkedTree | None) -> _Seen | None:
        """Makes a commit of everything that lies in a worktree; None where it can't be read, because it changes or is gone."""
        head = tree.head() if tree is not None else None
        if tree is None or head is None:
            return None
        index = Path(tempfile.mkdtemp(dir=self._folder)) / "index"
        try:
            shutil.copy2(tree.admin / "index", index)
            env = {**self._env, "GIT_INDEX_FILE": str(index), "GIT_COMMON_DIR": str(self._common)}
            there: dict[str, Any] = {"git_dir": tree.admin, "work_tree": tree.path, "cwd": tree.path}
            add = ("add", "-A", "--ignore-errors", "--", *self._paths)
            git.run(*add, **there, env=env, user_config=True, timeout_s=_TIMEOUT_S, ok=(0, 1))
            made = git.run("write-tree", **there, env=env).text
            commit = self._git(*_OURS, "commit-tree", made, "-p", head, "-m", "so far")
            listed = self._git("diff-tree", "-r", "-z", "--no-renames", "--name-only", work.base, commit)
            return _Seen(commit.strip(), tuple(filter(None, listed.split("\0"))))
        except (git.GitError, OSError):
            return None

    def conflict(self, one: str, other: str) -> tuple[str, ...]:
        """Lists the paths in which two commits conflict; none where git can't say."""
        try:
            said = self._git("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", one, other)
        except git.GitError:
            return ()
        return tuple(filter(None, said.split("\0")[1:]))

    def _git(self, *args: str) -> str:
        ran = git.run(*args, git_dir=self._common, env=self._env, timeout_s=_TIMEOUT_S, ok=(0, 1))
        return git.decode(ran.out).removesuffix("\n")

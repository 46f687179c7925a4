"""What running workers have changed so far, and where that would conflict: with each other's, or with staging.

Hides how a worktree is read while somebody works in it: through a copy of its index, into a store of objects that is thrown
away, so that neither the worker nor the repository notices. Whoever works there may write anything meanwhile, so a look has
bounds: in bytes, for which the file system is asked before anything is read, and in time. One git runs after the other: what ends
the look ends that, and a look never takes more than one core.

Rules for editing: nothing is written outside the temporary folder, no lock is taken, and what can't be read at this moment, or is
not, is told.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from swarm.core.foreseeing import STAGING
from swarm.dataclass import dataclass
from swarm.edge import git, submodules
from swarm.edge.difference import COMPARED_BYTES_MAX, as_checked_out
from swarm.edge.leftovers import Lent, too_large
from swarm.edge.linked import LinkedTree, remove
from swarm.edge.survey import linked_worktrees

TIME_MAX_S = 30.0  # of a look; some 30 ms are usual for each worktree
_GIT_MAX_S = 10.0  # of one git in it: a worktree in which nothing comes to an end does not take all the time
SHARE = 0.05  # of the time in which it is looked: a look takes one core at most
BYTES_MAX = 16 << 20  # of what changed in one worktree, read into objects
ALL_BYTES_MAX = 128 << 20  # in all of them together: the temporary folder may be memory
_LEFT_OUT_MAX = 100  # files of one worktree: git holds every path against each
_COMPARED_MAX = 1000  # changed files of one worktree
_LISTED_BYTES_MAX = 4 << 20  # names of changed files of one worktree, with their blobs
_INDEX_BYTES_MAX = 64 << 20  # half a million files
_LEFT_S = 600.0  # a folder of this age belongs to a look that was killed
_PREFIX = "swarm-look-"
_OURS = ("-c", "user.name=swarm", "-c", "user.email=swarm@localhost")
_CHANGED = ("-z", "-o", "-m", "--exclude-standard")
_GONE = "it is gone, or stands at no commit"
_T = TypeVar("_T")


class Work(NamedTuple):
    """An attempt at work: its name among the others, its worktree, the commit it started from, and where staging stands now."""

    name: str
    worktree: str
    base: str
    staging: str


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What an attempt has changed so far, None where that can't be told now, and the paths in which it would conflict with others,
    by their names, or with STAGING.

    `uncompared` are those of the changed paths that are too large to be compared; `why` says why no more than this was looked at,
    "" where all was.
    """

    name: str
    changed: tuple[str, ...] | None
    conflicts: dict[str, tuple[str, ...]]
    uncompared: tuple[str, ...] = ()
    why: str = ""


def look(
    common: Path,
    works: Sequence[Work],
    *,
    leave_out: Sequence[str] = (),
    time_max_s: float = TIME_MAX_S,
    reader: git.Reader | None = None,
) -> list[Foreseen]:
    """Looks into the worktrees of attempts at work; `leave_out` are paths that were put there for the worker.

    What `time_max_s` does not suffice for is told as such. Raises `OSError` where there is no room for the temporary folder, and
    `GitEnded` where the `reader` is ended.
    """
    trees = {found.path: found.tree for found in linked_worktrees(common)}
    with _desk(common, leave_out, time_max_s, reader) as desk:
        bytes_max = min(BYTES_MAX, ALL_BYTES_MAX // max(1, len(works)))
        seen = [desk.see(work, trees.get(work.worktree), bytes_max) for work in works]
        conflicts, unheld = _compare(desk, works, seen)
    found = []
    for work, each in zip(works, seen, strict=True):
        if isinstance(each, _Seen):
            why = unheld.get(work.name, "")
            found.append(Foreseen(work.name, each.changed, conflicts[work.name], each.uncompared, why))
        else:
            found.append(Foreseen(work.name, None, {}, (), each))
    return found


def changed(
    common: Path,
    works: Sequence[Work],
    *,
    leave_out: Sequence[str] = (),
    time_max_s: float = TIME_MAX_S,
    reader: git.Reader | None = None,
) -> list[tuple[str, ...] | None]:
    """Lists only the paths that each has changed so far, at half the cost of a whole look; None where that can't be told now.

    Raises as `look` does.
    """
    trees = {found.path: found.tree for found in linked_worktrees(common)}
    with _desk(common, leave_out, time_max_s, reader) as desk:
        return [desk.changed(work, trees.get(work.worktree)) for work in works]


class Patch(NamedTuple):
    """What an attempt has changed so far: the patch, for each file the lines added and deleted, (0, 0) for a binary one, and the
    paths that are too large to be in it."""

    text: bytes
    lines: dict[str, tuple[int, int]]
    left_out: tuple[str, ...]


def patch(common: Path, work: Work, *, leave_out: Sequence[str] = (), binary: bool) -> Patch | str:
    """Gives what one has changed so far, with `binary` so that git can apply it; or says why that can't be told now. Raises as
    `look` does."""
    trees = {found.path: found.tree for found in linked_worktrees(common)}
    with _desk(common, leave_out, TIME_MAX_S, None) as desk:
        return desk.patch(work, trees.get(work.worktree), binary=binary)


@contextmanager
def _desk(
    common: Path, leave_out: Sequence[str], time_max_s: float, reader: git.Reader | None
) -> Iterator[_Desk]:
    for left in left_behind():
        with suppress(OSError):
            remove(left)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        yield _Desk(folder, common, leave_out, time.monotonic() + time_max_s, reader)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pause_after(took_s: float, *, every_s: float) -> float:
    """Gives how long to wait after a look, for the next not to be due too often, nor to cost too much."""
    return max(every_s, took_s / SHARE)


def left_behind() -> list[Path]:
    """Lists the folders of looks that were killed; they may be removed."""
    found = []
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            facts = os.lstat(path)
            ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
            if ours and time.time() - facts.st_mtime > _LEFT_S:
                found.append(path)
    return sorted(found)


class _Seen(NamedTuple):
    commit: str
    changed: tuple[str, ...]
    uncompared: tuple[str, ...]

    def compared(self) -> set[str]:
        return set(self.changed).difference(self.uncompared)


class _TimeIsUp(Exception):
    """The time of a look is over: no more git is started."""


def _compare(
    desk: _Desk, works: Sequence[Work], seen: Sequence[_Seen | str]
) -> tuple[dict[str, dict[str, tuple[str, ...]]], dict[str, str]]:
    """Holds what was seen against each other and against staging; gives where each would conflict with whom, and whose work could
    not be held against all, with why."""
    conflicts: dict[str, dict[str, tuple[str, ...]]] = {work.name: {} for work in works}
    unheld: dict[str, str] = {}
    for one, other, mine, theirs in _meetings(works, seen):
        try:
            paths = desk.conflict(mine, theirs)
        except (_TimeIsUp, git.GitTimedOut):
            unheld |= dict.fromkeys((one, other), "it takes too long to hold it against all others")
            continue
        if paths:
            conflicts[one][other] = paths
            if other != STAGING:
                conflicts[other][one] = paths
    return conflicts, unheld


def _meetings(works: Sequence[Work], seen: Sequence[_Seen | str]) -> Iterator[tuple[str, str, str, str]]:
    """Lists whom to hold against whom: staging that has moved on since, and attempts that changed the same path."""
    known = [
        (work, each)
        for work, each in zip(works, seen, strict=True)
        if isinstance(each, _Seen) and each.compared()
    ]
    for work, each in known:
        if work.staging != work.base:
            yield work.name, STAGING, each.commit, work.staging
    for (one, mine), (other, theirs) in itertools.combinations(known, 2):
        if mine.compared() & theirs.compared():
            yield one.name, other.name, mine.commit, theirs.commit


class _Desk:
    """A temporary folder beside a repository: what is made of its objects here is gone with it."""

    def __init__(
        self,
        folder: Path,
        common: Path,
        leave_out: Sequence[str],
        deadline: float,
        reader: git.Reader | None,
    ) -> None:
        self._folder = folder
        self._common = common
        self._deadline = deadline
        self._reader = reader
        self._leave_out = [PurePosixPath(path).as_posix() for path in leave_out]
        (folder / "objects").mkdir()
        self._env = {
            "GIT_OBJECT_DIRECTORY": str(folder / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(common / "objects"),
        }

    def see(self, work: Work, tree: LinkedTree | None, bytes_max: int) -> _Seen | str:
        """Makes a commit of everything that lies in a worktree, save the largest files that go beyond `bytes_max`; says why where
        it can't be read, because it changes, is gone or is too much."""
        return self._tried(lambda: self._see(work, tree, bytes_max))

    def changed(self, work: Work, tree: LinkedTree | None) -> tuple[str, ...] | None:
        """Lists the paths that are not as in the commit that the worktree began from; None where it can't be read."""
        found = self._tried(lambda: self._changed(work, tree))
        return None if isinstance(found, str) else found

    def patch(self, work: Work, tree: LinkedTree | None, *, binary: bool) -> Patch | str:
        """Gives what was changed in a worktree since it began; says why where it can't be read."""
        seen = self.see(work, tree, BYTES_MAX)
        if isinstance(seen, str):
            return seen
        how = ("diff-tree", "-r", "--no-ext-diff", "--no-textconv", work.base, seen.commit)
        return self._tried(
            lambda: Patch(
                self._diff(*how, "-p", "-M", *(("--binary",) if binary else ())),
                git.lines_of(self._diff(*how, "--numstat", "-z", "--no-renames")),
                seen.uncompared,
            )
        )

    def _diff(self, *args: str) -> bytes:
        return self._run(*args, git_dir=self._common, env=self._env, output=2 * BYTES_MAX).out

    def _tried(self, read: Callable[[], _T]) -> _T | str:
        """Reads; says why where that can't be done."""
        try:
            return read()
        except git.GitEnded:
            raise
        except _TimeIsUp:
            return "the look into all of them took too long"
        except git.GitError as error:
            return error.cause
        except OSError as error:
            return error.strerror or str(error)

    def _changed(self, work: Work, tree: LinkedTree | None) -> tuple[str, ...] | str:
        if tree is None:
            return _GONE
        index = self._copied(tree.admin / "index")
        inner = tuple(submodules.links(tree, index, work.base))
        but = self._lent(work).within(tree.path).pathspecs(but=inner)
        against = (
            "diff",
            "--raw",
            "--no-abbrev",
            "-z",
            "--no-renames",
            "--no-ext-diff",
            "--ignore-submodules=all",
            work.base,
        )
        listed = self._in(tree, index, *against, *but).out
        known = {*filter(None, git.decode(listed).split("\0")[1::2])} - self._nobodys(work, tree, listed)
        others = self._in(tree, index, "ls-files", "-z", "-o", "--exclude-standard", *but).out
        return tuple(sorted({*known, *filter(None, git.decode(others).split("\0"))}))

    def _nobodys(self, work: Work, tree: LinkedTree, listed: bytes) -> set[str]:
        """Gives those of the paths in a raw difference from the base that are as they were checked out: nobody changed them, as far
        as can be told before the worker commits."""
        return as_checked_out(tree.path, listed, self._sizes) if tree.head() == work.base else set()

    def _sizes(self, blobs: list[str]) -> dict[str, int]:
        """Gives the sizes of blobs that are small enough to be read, where they are not very many."""
        if len(blobs) > _COMPARED_MAX:
            return {}
        asked = "".join(f"{oid}\n" for oid in blobs).encode()
        how = ("cat-file", "--batch-check=%(objectname) %(objectsize)")
        told = self._run(*how, git_dir=self._common, env=self._env, input=asked).out.decode().splitlines()
        sizes = {line.split(" ")[0]: int(line.split(" ")[1]) for line in told if line.split(" ")[1].isdigit()}
        return {oid: size for oid, size in sizes.items() if size <= COMPARED_BYTES_MAX}

    def _lent(self, work: Work) -> Lent:
        """Gives what was put there for the worker; what its base contains was not, see `Furnishing.lent`."""
        if not self._leave_out:
            return Lent()
        listed = self._git("ls-tree", "-z", "--name-only", "--full-tree", work.base, "--", *self._leave_out)
        held = set(listed.split("\0"))
        return Lent(tuple(path for path in self._leave_out if path not in held))

    def _see(self, work: Work, tree: LinkedTree | None, bytes_max: int) -> _Seen | str:
        head = tree.head() if tree is not None else None
        if tree is None or head is None:
            return _GONE
        index, lent = self._copied(tree.admin / "index"), self._lent(work)
        large = too_large(
            tree.path,
            self._in(tree, index, "ls-files", *_CHANGED, *lent.pathspecs()).out,
            bytes_max,
        )
        if len(large) > _LEFT_OUT_MAX:
            return f"what has changed there is more than {bytes_max} bytes"
        # Looked into as git does, a submodule would have the programs run that its worker's settings name.
        inner = tuple(submodules.links(tree, index, work.base))
        but = lent.within(tree.path).pathspecs(but=(*large, *inner))
        self._in(tree, index, "add", "-A", "--ignore-errors", *but)
        made = self._in(tree, index, "write-tree").text
        against = ("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", work.base)
        listed = self._run(*against, made, git_dir=self._common, env=self._env).out
        fields = git.decode(listed).split("\0")
        facts = dict(zip(fields[1::2], fields[::2], strict=False))
        if nobodys := self._nobodys(work, tree, listed):
            were = ((path, *facts.pop(path)[1:].split(" ")) for path in sorted(nobodys))
            told = "".join(f"{mode} {oid}\t{path}\0" for path, mode, _, oid, *_ in were)
            self._in(tree, index, "update-index", "-z", "--index-info", input=git.encode(told))
            made = self._in(tree, index, "write-tree").text
        commit = self._git(*_OURS, "commit-tree", made, "-p", head, "-m", "so far").strip()
        return _Seen(commit, tuple(sorted({*facts, *large})), tuple(large))

    def conflict(self, one: str, other: str) -> tuple[str, ...]:
        """Lists the paths in which two commits conflict; none where git can't say. Raises where that takes too long."""
        try:
            said = self._git("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", one, other)
        except (git.GitEnded, git.GitTimedOut):
            raise
        except git.GitError:
            return ()
        return tuple(filter(None, said.split("\0")[1:]))

    def _copied(self, source: Path) -> Path:
        """Copies an index with its time: a worker may have put anything there. Raises `OSError`."""
        index = Path(tempfile.mkdtemp(dir=self._folder)) / "index"
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as there:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > _INDEX_BYTES_MAX:
                raise OSError(errno.EINVAL, "its index is none that could be read")
            index.write_bytes(there.read(facts.st_size))
        os.utime(index, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        return index

    def _in(self, tree: LinkedTree, index: Path, *args: str, input: bytes | None = None) -> git.Outcome:
        env = {**self._env, "GIT_INDEX_FILE": str(index), "GIT_COMMON_DIR": str(self._common)}
        there: dict[str, Any] = {"git_dir": tree.admin, "work_tree": tree.path, "cwd": tree.path}
        return self._run(*args, **there, env=env, input=input, user_config=True)

    def _git(self, *args: str) -> str:
        ran = self._run(*args, git_dir=self._common, env=self._env)
        return git.decode(ran.out).removesuffix("\n")

    def _run(self, *args: str, output: int = _LISTED_BYTES_MAX, **where: Any) -> git.Outcome:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _TimeIsUp
        bounds: dict[str, Any] = {
            "timeout_s": min(left, _GIT_MAX_S),
            "output_max_bytes": output,
            "reader": self._reader,
        }
        return git.run(*args, **where, **bounds, ok=(0, 1))

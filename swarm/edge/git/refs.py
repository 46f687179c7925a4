"""Refs: read without a process where possible, moved only by compare-and-swap.

Hides how refs are stored and locked. Rules for editing: a ref is never moved without saying what it was, save where the caller
says outright that it does not matter; a move that was carried out before is a success, not a loss.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from swarm.edge.git.call import GitError, run
from swarm.edge.git.objects import is_object_id
from swarm.edge.git.standing import Helper

ZERO = "0" * 40
STALE_LOCK_S = 10.0  # a git holds the lock of a ref for milliseconds; one that was killed, for ever
TOGETHER_S = (
    2.0  # a git locks a branch and the HEAD that has it checked out, and writes its log, within milliseconds
)
_MESSAGE = "swarm"  # stands in the log of every ref that we move
_DONE = b"start: ok\nprepare: ok\ncommit: ok\n"


class RefMoved(GitError):
    """A ref was not where the caller thought: it stands at `found`, None where it does not exist."""

    def __init__(self, ref: str, found: str | None, err: str = "") -> None:
        super().__init__(
            ("git", "update-ref", ref), 128, err, cause=f"{ref} has moved: it stands at {found or 'nothing'}."
        )
        self.ref = ref
        self.found = found


class RefChange(NamedTuple):
    """One ref to move from `old` to `new`: None as `new` deletes it; as `old`, zeros mean "not there yet", None "wherever"."""

    ref: str
    new: str | None
    old: str | None


def read_ref(common_dir: Path | str, ref: str) -> str | None:
    """Gives the object that a full ref name holds, or None. Costs no process, save where refs are kept as reftable."""
    if os.path.isdir(os.path.join(common_dir, "reftable")):
        return _ask_for_ref(common_dir, ref)
    # Loose before packed, and loose once more: pack-refs writes the one before it deletes the other.
    for attempt in range(2):
        held = _read_bytes(os.path.join(common_dir, ref), 128).decode("ascii", "replace").rstrip("\n")
        if is_object_id(held):
            return held
        if held:
            return _ask_for_ref(common_dir, ref)  # a symbolic one
        if attempt == 0:
            packed = _packed_ref(_read_bytes(os.path.join(common_dir, "packed-refs")), ref)
            if packed is not None:
                return packed
    return None


def end_of(common_dir: Path | str, ref: str) -> str:
    """Gives the full name of the ref that a symbolic one stands for in the end, and of any other itself: what is checked out there,
    and moves. Costs a process only for a symbolic one, or where refs are kept as reftable."""
    loose = _read_bytes(os.path.join(common_dir, ref), 4)
    if loose != b"ref:" and not os.path.isdir(os.path.join(common_dir, "reftable")):
        return ref
    return run("symbolic-ref", "--quiet", ref, git_dir=common_dir, ok=(0, 1)).text or ref


def _read_bytes(path: str, most: int = -1) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return b""
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # git can have no such ref either
            raise
        return b""


def _packed_ref(packed: bytes, ref: str) -> str | None:
    at = packed.find(b" " + os.fsencode(ref) + b"\n")
    if at < 0:
        return None
    held = packed[packed.rfind(b"\n", 0, at) + 1 : at].decode("ascii", "replace")
    return held if is_object_id(held) else None


def _ask_for_ref(common_dir: Path | str, ref: str) -> str | None:
    listed = run("for-each-ref", "--format=%(objectname) %(refname)", ref, git_dir=common_dir).text
    for line in listed.splitlines():
        oid, _, name = line.partition(" ")
        if name == ref:
            return oid
    return None


def refs_below(common_dir: Path | str, *prefixes: str) -> dict[str, str]:
    """Gives the object of every ref whose full name begins with one of `prefixes`, which end in a slash."""
    listed = run("for-each-ref", "--format=%(objectname) %(refname)", *prefixes, git_dir=common_dir).text
    return {name: oid for oid, _, name in (line.partition(" ") for line in listed.splitlines())}


def is_on_a_branch(common_dir: Path | str, commit: str) -> bool:
    """Tells whether some branch or tag reaches a commit, so that git keeps it."""
    asked = (
        "for-each-ref",
        "--count=1",
        "--format=x",
        f"--contains={commit}",
        "refs/heads/",
        "refs/tags/",
        "refs/remotes/",
    )
    return bool(run(*asked, git_dir=common_dir).out)


def branches_with(common_dir: Path | str, commit: str, *, without: str | None, leave_out: str) -> list[str]:
    """Lists the branches that reach a commit and not another, without `refs/heads/`; those below `leave_out` are left out. None
    reaches one that is not there."""
    unless = [f"--no-contains={without}"] if without else []
    asked = ("for-each-ref", "--format=%(refname)", f"--contains={commit}", *unless, "refs/heads/")
    names = (
        name.removeprefix("refs/heads/") for name in run(*asked, git_dir=common_dir, ok=(0, 129)).text.split()
    )
    return [name for name in names if not name.startswith(leave_out)]


def is_tree_of_a_branch(common_dir: Path | str, tree: str) -> bool:
    """Tells whether some branch stands at a commit of just this tree, so that git keeps all that is in it."""
    return tree in run("for-each-ref", "--format=%(tree)", "refs/heads/", git_dir=common_dir).text.split()


def contains(git_dir: Path | str, tip: str, commit: str) -> bool:
    """Tells whether `tip` is `commit` or comes after it; one that is not there contains nothing and is nowhere."""
    asked = run("merge-base", "--is-ancestor", commit, tip, git_dir=git_dir, ok=(0, 1, 128))
    return asked.code == 0


def reached_by_none(common_dir: Path | str, commits: Sequence[str], *, besides: str) -> set[str]:
    """Gives those of `commits`, and of what they alone lead to, that no ref reaches besides those that the pattern `besides`
    matches. The HEAD of linked worktrees counts as none. A commit that is not there is left out."""
    there = [commit for commit in dict.fromkeys(commits) if commit]
    kinds = run(
        "cat-file", "--batch-check", git_dir=common_dir, input="".join(f"{c}\n" for c in there).encode()
    ).text
    there = [line.split()[0] for line in kinds.splitlines() if line.split()[1:2] == ["commit"]]
    if not there:
        return set()
    asked = ("rev-list", "--stdin", "--single-worktree", "--not", f"--exclude={besides}", "--all")
    out = run(*asked, git_dir=common_dir, input="".join(f"{c}\n" for c in there).encode(), timeout_s=600)
    return set(out.text.split())


class Refs:
    """Reads and moves refs of one repository. Thread-safe; close it when done. `ours` begins the names of those that nobody but us
    moves."""

    def __init__(self, common_dir: Path | str, *, ours: str = "refs/heads/swarm/") -> None:
        self.common_dir = common_dir
        self._ours = ours
        self._updates = Helper(("update-ref", "-m", _MESSAGE, "--stdin"), common_dir)
        self._note = os.path.join(common_dir, "swarm", "moving")

    def read(self, ref: str) -> str | None:
        """Gives the object that a full ref name holds, or None."""
        return read_ref(self.common_dir, ref)

    def move(self, ref: str, new: str, old: str | None) -> None:
        """Moves one ref from `old` (zeros: creates it; None: from wherever) to `new`; already there is done.

        Raises `RefMoved` when it stands elsewhere, `GitError` when git refuses for another reason.
        """
        self.commit((RefChange(ref, new, old),))

    def commit(self, changes: Sequence[RefChange]) -> None:
        """Carries out all changes or none, in one transaction. Raises `RefMoved` for the first that is not at its `old`."""
        theirs = [each for each in changes if each.new is not None and not each.ref.startswith(self._ours)]
        for change in theirs:
            self.release(change.ref, str(change.new))
        if changes:
            with self._noted(theirs):
                self._commit(changes)

    @contextmanager
    def _noted(self, theirs: Sequence[RefChange]) -> Iterator[None]:
        """Notes beside the journal, where there is one, that a git of ours moves a branch of the user's, for as long as it does.

        The note of a call that was killed stays until the same move succeeds: a lock that is too young yet may be from then.
        """
        note = "".join(_moving(change.ref, str(change.new)) for change in theirs).encode()
        left = note != b"" and _read_bytes(self._note) == note
        if note and not left:
            with suppress(OSError):  # without it a person has to look after such a lock
                Path(self._note).write_bytes(note)
        try:
            yield
            left = False
        finally:
            if note and not left:
                Path(self._note).unlink(missing_ok=True)

    def release(self, ref: str, new: str) -> None:
        """Removes the locks that a git of ours left which was killed while it moved a branch of the user's to `new`.

        Only while no other git of ours works here. That of the branch holds just this commit, or is empty, older than a git takes
        to fill it, and younger than a note that one of ours was moving the branch; that of HEAD, where the branch is checked out,
        is empty and was made together with it or, where the branch has moved already, with our line in its log.
        """
        lock, head = (os.path.join(self.common_dir, f"{name}.lock") for name in (ref, "HEAD"))
        log = os.path.join(self.common_dir, "logs", ref)
        filled = _read_bytes(lock, 128).strip() == new.encode()
        left = [lock] if filled or self._was_ours(lock, ref, new) else []
        entry = _read_bytes(log).rpartition(b"\n")[0].rpartition(b"\n")[2]
        ours = entry[len(new) + 1 :].startswith(new.encode()) and entry.endswith(f"\t{_MESSAGE}".encode())
        witness = lock if left else log if ours else None
        if witness is not None and os.path.exists(head):
            looks = os.stat(head)
            if looks.st_size == 0 and abs(looks.st_mtime - os.stat(witness).st_mtime) < TOGETHER_S:
                left.append(head)
        for path in left:
            os.unlink(path)

    def _was_ours(self, lock: str, ref: str, new: str) -> bool:
        """Tells of an empty lock whether a git of ours was killed before it wrote into it."""
        try:
            looks, noted = os.stat(lock), os.stat(self._note)
        except FileNotFoundError:
            return False
        old = time.time() - looks.st_mtime > STALE_LOCK_S and looks.st_mtime >= noted.st_mtime
        return looks.st_size == 0 and old and _read_bytes(self._note) == _moving(ref, new).encode()

    def _commit(self, changes: Sequence[RefChange]) -> None:
        question = "start\n" + "".join(_line(change) for change in changes) + "prepare\ncommit\n"
        try:
            # One try: the helper dies of a refused change, and the plain command then says why.
            self._updates.ask(
                question.encode(), lambda got: len(_DONE) if len(got) >= len(_DONE) else None, tries=1
            )
        except GitError as problem:
            found = [self.read(change.ref) for change in changes]
            if all(now == change.new for now, change in zip(found, changes, strict=True)):
                return  # carried out before, perhaps by ourselves just before the helper died
            for now, change in zip(found, changes, strict=True):
                expected = None if change.old is not None and not change.old.strip("0") else change.old
                if change.old is not None and now != expected:
                    raise RefMoved(change.ref, now, problem.err) from problem
            self._look_at_locks(changes, problem)
            raise

    def _look_at_locks(self, changes: Sequence[RefChange], problem: GitError) -> None:
        """Removes the locks that a killed git left of refs that are ours, for the next try; raises which other one is there."""
        for change in changes:
            ours = change.ref.startswith(self._ours)
            for name in (change.ref,) if ours else (change.ref, "HEAD"):
                lock = os.path.join(self.common_dir, f"{name}.lock")
                try:
                    age_s = time.time() - os.stat(lock).st_mtime
                    if ours and age_s > STALE_LOCK_S:
                        os.unlink(lock)
                except OSError:
                    continue  # there is none
                if not ours:
                    text = f"{change.ref} can't be moved while {lock} is there, made {age_s:.0f} s ago."
                    step = f"where no git is at work there, rm {lock}"
                    raise GitError(
                        problem.argv, problem.code, problem.err, cause=text, next_step=step
                    ) from problem

    def close(self) -> None:
        """Ends the standing helper."""
        self._updates.close()


def _moving(ref: str, new: str) -> str:
    return f"{ref} {new}\n"


def _line(change: RefChange) -> str:
    if re.search(r"[\x00-\x20\x7f]", change.ref):  # a blank would end the name and begin something else
        raise ValueError(f"{change.ref!r} is not a ref name")
    if change.new is None:
        return f"delete {change.ref} {change.old}\n" if change.old else f"delete {change.ref}\n"
    if change.old is None:
        return f"update {change.ref} {change.new}\n"
    old = change.old if change.old.strip("0") else "0" * len(change.new)
    return f"update {change.ref} {change.new} {old}\n"

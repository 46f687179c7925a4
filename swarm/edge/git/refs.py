"""Refs: read without a process where possible, moved only by compare-and-swap.

Hides how refs are stored and locked. Rules for editing: a ref is never moved without saying what it was, save where the caller
says outright that it does not matter; a move that was carried out before is a success, not a loss.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from swarm.edge.git.call import GitError, run
from swarm.edge.git.objects import is_object_id
from swarm.edge.git.standing import Standing

ZERO = "0" * 40
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
    """Gives the object that a full ref name holds, or None. A loose ref costs no process; packed ones and reftable do."""
    try:
        with open(os.path.join(common_dir, ref), "rb") as file:
            held = file.read(128).decode("ascii", "replace").rstrip("\n")
        if is_object_id(held):
            return held
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        pass
    listed = run("for-each-ref", "--format=%(objectname) %(refname)", ref, git_dir=common_dir).text
    for line in listed.splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return None


class Refs:
    """Reads and moves refs of one repository. Thread-safe; close it when done."""

    def __init__(self, common_dir: Path | str) -> None:
        self.common_dir = common_dir
        self._updates = Standing(("update-ref", "-m", "swarm", "--stdin"), common_dir)

    def read(self, ref: str) -> str | None:
        """Gives the object that a full ref name holds, or None."""
        return read_ref(self.common_dir, ref)

    def move(self, ref: str, new: str, old: str | None) -> None:
        """Moves one ref from `old` (zeros: creates it; None: from wherever) to `new`; already there is done.

        Raises `RefMoved` when it stands elsewhere, `GitError` when git refuses for another reason.
        """
        self.commit((RefChange(ref, new, old),))

    def delete(self, ref: str, old: str | None) -> None:
        """Deletes one ref that stands at `old` (None: anywhere); already gone is done. Raises `RefMoved`, `GitError`."""
        self.commit((RefChange(ref, None, old),))

    def commit(self, changes: Sequence[RefChange]) -> None:
        """Carries out all changes or none, in one transaction. Raises `RefMoved` for the first that is not at its `old`."""
        if not changes:
            return
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
            raise

    def close(self) -> None:
        """Ends the standing helper."""
        self._updates.close()


def _line(change: RefChange) -> str:
    if re.search(r"[\x00-\x20\x7f]", change.ref):  # a blank would end the name and begin something else
        raise ValueError(f"{change.ref!r} is not a ref name")
    old = "" if change.old is None else f" {change.old}"
    return f"delete {change.ref}{old}\n" if change.new is None else f"update {change.ref} {change.new}{old}\n"

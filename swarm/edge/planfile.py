"""A plan file: read within bounds, its states set in place, and how one sees that it was saved.

Rules for editing: nobody ever reads half a file of our writing, and a key or a line that is not understood stays as it is. Who only
hands a file to a daemon loads nothing that understands it: see `write_back`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from swarm.core.document import MAX_BYTES
from swarm.edge.lockfile import exclusive
from swarm.errors import UsageError

if TYPE_CHECKING:
    from swarm.core.model import TaskState

LATE_S = 0.02  # who saves a file opens it, writes and is done within milliseconds
TRIES_MAX = 100


def read(path: Path) -> bytes:
    """Reads a plan file, one byte more than allowed at the most, so that a huge one is refused without being read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"The plan {path} can't be read: {error.strerror}.", "Nothing was done.") from error


def write_back(path: Path, state: Path, states: Mapping[str, TaskState]) -> None:
    """Sets the states of tasks in a plan file of another system and changes nothing else in it.

    One writer of ours at a time, by a lock in the state folder, and the file is replaced whole: however many write at once, no
    state is lost and nobody ever reads half a file. What a person saves meanwhile is taken up, also where they had the file open
    that was just replaced. Raises `UsageError` for a native plan, which holds no states, and `OSError`.
    """
    from swarm.core import plan as plans

    path = path.resolve()
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    with exclusive(state / "locks" / f"plan-{name}.lock"):
        for _ in range(TRIES_MAX):
            before, seen = read(path), stamp(path)
            after = plans.write_back(before, states, source=str(path))
            if after == before:
                return
            with path.open("rb") as replaced:
                done = _all_of(replaced) == before and _put(path, after, seen)
                late = _written_late(replaced, before) if done else None
            if done and late is None:
                return
            if late is not None and late.startswith(
                before
            ):  # added to: that goes on below whatever stands there by now
                with path.open("ab", buffering=0) as file:
                    file.write(late[len(before) :])
                return
            if late is not None and not _put_back(path, after, late):
                with tempfile.NamedTemporaryFile(
                    dir=path.parent, prefix=f"{path.name}.saved-", delete=False
                ) as aside:
                    aside.write(late)
                text = f"it was saved twice while its states were written, once as it is now in {aside.name}"
                raise OSError(errno.EBUSY, text, str(path))
        raise OSError(errno.EBUSY, "somebody saves it again and again", str(path))


def _put(path: Path, data: bytes, seen: tuple[int, ...] | None) -> bool:
    """Puts a file in the place of one that still looks as it was seen; False where that does not."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
            os.fsync(file.fileno())
            same = stamp(path) == seen
            if same:
                os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
        if not same:
            os.unlink(file.name)
        return same


def _put_back(path: Path, ours: bytes, late: bytes) -> bool:
    """Puts what was written late in the place of what we wrote; False where somebody has changed that."""
    seen = stamp(path)
    return read(path) == ours and _put(path, late, seen)


def _written_late(file: IO[bytes], before: bytes) -> bytes | None:
    """Gives what a file that was replaced holds where somebody has written into it since it was read, having opened it before, once
    they are done; None where nobody has."""
    last = before
    for _ in range(TRIES_MAX):
        time.sleep(LATE_S)
        now = _all_of(file)
        if now == last:
            break
        last = now
    return last if last != before else None


def _all_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(MAX_BYTES + 1)


def stamp(path: str | Path) -> tuple[int, ...] | None:
    """Gives what changes whenever a file is saved, in place or by another in its place; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

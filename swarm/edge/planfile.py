"""A plan file: read within bounds, its states set in place, and how one sees that it was saved.

Rules for editing: nobody ever reads half a file of our writing, and a key or a line that is not understood stays as it is. Who only
hands a file to a daemon loads nothing that understands it: see `write_back`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.core.document import MAX_BYTES
from swarm.edge.lockfile import exclusive
from swarm.errors import UsageError

if TYPE_CHECKING:
    from swarm.core.model import TaskState


def read(path: Path) -> bytes:
    """Reads a plan file, one byte more than allowed at the most, so that a huge one is refused without being read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"The plan {path} can't be read: {error.strerror}.", "Nothing was done.") from error


def write_back(path: Path, state: Path, states: Mapping[str, TaskState]) -> None:
    """Sets the states of tasks in a plan file of another system and changes nothing else in it.

    One writer at a time, by a lock in the state folder, and the file is replaced whole: however many write at once, no state is
    lost and nobody ever reads half a file. Raises `UsageError` for a native plan, which holds no states, and `OSError`.
    """
    from swarm.core import plan as plans

    path = path.resolve()
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    with exclusive(state / "locks" / f"plan-{name}.lock"):
        before = read(path)
        after = plans.write_back(before, states, source=str(path))
        if after == before:
            return
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(after)
                file.flush()
                os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise


def stamp(path: str) -> tuple[int, ...] | None:
    """Gives what changes whenever a file is saved, in place or by another in its place; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

"""The seal of a journal that was closed in good order: what its file is to the byte, so that any change is noticed.

Records tell by their checksums whether they are what was written; half a page in which none stands does not. Whoever writes breaks
the seal first. It says nothing beside a `-wal` file that holds anything, since a daemon was killed, nor of a file that ends with
another record, which is another copy: that is told by those who know the record.

Rules for editing: the seal must be gone, also after a power cut, before the file is touched.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from swarm.edge import whole


def of(path: Path) -> Path:
    """Gives the file of the seal of a journal."""
    return Path(f"{path}-seal")


def put(path: Path, last: object) -> None:
    """Seals a journal that was closed, in which `last` stands for the last record; not where somebody still reads it, or the disk
    does not take it."""
    with suppress(OSError):
        if _was_left(path):
            return
        whole.write(of(path), _words(path, last), durable=False)


def is_broken(path: Path, last: object) -> bool:
    """Tells whether a journal that ends with the record that was sealed is not what was sealed."""
    try:
        sealed = of(path).read_text("ascii", "replace")
        if _was_left(path) or not sealed.startswith(f"{last} ") or sealed == _words(path, last):
            return False
        return of(path).exists()  # else a daemon has begun to write meanwhile
    except OSError:
        return False  # it was not sealed, or what can't be read is told by whoever reads it


def remove(path: Path) -> None:
    """Takes the seal off, so that it stays off. Raises `OSError`."""
    if not of(path).exists():
        return
    of(path).unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _was_left(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.stat(f"{path}-wal").st_size > 0
    return False


def _words(path: Path, last: object) -> str:
    with path.open("rb") as file:
        return f"{last} {hashlib.file_digest(file, 'blake2b').hexdigest()}\n"

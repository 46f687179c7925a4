"""What a worker or a suite writes, kept to a size on the disk: its beginning and its end stay, the middle goes.

Hides how: a hole is punched into the middle of the file. Whoever writes goes on undisturbed, at the end as before; there is no pipe
that somebody could hold open and no process in between. Where the file system can't do that, the end is written anew behind the
beginning, and the few bytes are lost that come in that moment.

Rules for editing: nothing before the first hole or behind the last is ever changed, so that whoever reads on from a place goes on.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_BLOCK = 4096  # what a hole begins and ends with, or the rest of a block would be wiped and not freed
_PUNCH = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from linux/falloc.h
_CANT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV)
LEFT_OUT = b"\n[... output left out here ...]\n"
_libc = ctypes.CDLL(None, use_errno=True)


def bound(path: Path, most_bytes: int) -> bool:
    """Brings a file that takes more than this on its disk back to three quarters of it; tells whether it was too large.

    A quarter stays of the beginning and half of the end. Raises `OSError`; one that is gone is not too large.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        found = os.fstat(file)
        if min(found.st_blocks * 512, found.st_size) <= most_bytes:
            return False
        start = _whole(most_bytes // 4)
        end = _whole(found.st_size - most_bytes // 2)
        if end > start and not _punched(file, start, end - start):
            _rewrite(path, file, start, end)
    finally:
        os.close(file)
    return True


def _whole(count: int) -> int:
    return count // _BLOCK * _BLOCK


def _punched(file: int, start: int, length: int) -> bool:
    """Gives a part of a file back to the disk; false where its file system can't."""
    fallocate = getattr(_libc, "fallocate", None)
    if fallocate is None:
        return False
    offset = ctypes.c_longlong
    if fallocate(ctypes.c_int(file), ctypes.c_int(_PUNCH), offset(start), offset(length)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANT:
        return False
    raise OSError(number, os.strerror(number))


def _rewrite(path: Path, file: int, start: int, end: int) -> None:
    tail = os.pread(file, os.fstat(file).st_size - end, end)
    os.ftruncate(file, start)
    with open(path, "ab") as again:
        again.write(LEFT_OUT + tail)

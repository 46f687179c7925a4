"""Tells the machine's trouble from that of an attempt: no room, no descriptor, no memory, nothing that may be written.

Such an error says nothing about the work. It passes, by itself or by somebody's hand, and what failed is tried again until then.
Rules for editing: an edge that answers a question by "not there" where it could not look asks `raise_if_troubled` first: a worker
must not be taken for dead because the daemon had no descriptor left to look at it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from swarm.errors import SwarmError

FULL = "no space is left on the disk"
READ_ONLY = "the file system is read-only"
_WORDS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: READ_ONLY,
    errno.EMFILE: "the daemon has no file descriptor left",
    errno.ENFILE: "the machine has no file descriptor left",
    errno.ENOMEM: "no memory is left",
    errno.EAGAIN: "no process can be made",
}
_NUMBERS = {os.strerror(number): number for number in _WORDS}
_COMPLAINT = re.compile(rf": ({'|'.join(map(re.escape, _NUMBERS))})$", re.MULTILINE)
_UNWRITTEN = re.compile(r"^error: unable to write file ", re.MULTILINE)  # git's entry.c
_NO_MEMORY = re.compile(
    r"^fatal: Out of memory, \w+ failed", re.MULTILINE
)  # git's own words, in its wrapper.c
_NO_THREAD = "can't start new thread"  # the words of Python's RuntimeError
_ROOM_BYTES = 64 << 10  # less than this is no room: what failed may have asked for more than one block


def of(error: BaseException, places: Iterable[Path] = ()) -> str:
    """Gives in a few words the machine's trouble that an error comes from; "" where it has another cause.

    Git does not always say why it could not write, so with `places` the disks that they lie on are looked at too.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError):
            return _WORDS[errno.ENOMEM]
        if isinstance(seen, RuntimeError) and _NO_THREAD in str(seen):
            return _WORDS[errno.EAGAIN]
        found = _WORDS.get(getattr(seen, "errno", None) or 0)
        if found is not None:
            return found
        seen = seen.__cause__
    return of_disks(places)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Makes an error of the machine one that a person is told: "`what`: why." Others pass as they are."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        lacks = of(error)
        if not lacks:
            raise
        raise SwarmError(f"{what}: {lacks}.", "Nothing was changed.", "see to that, then again") from error


def told(error: OSError, *, changes: bool) -> SwarmError:
    """Makes what the machine refused a daemon, while it answered somebody, an error that they are told; of a request that `changes`
    something nobody knows how far it came."""
    return SwarmError(
        f"The daemon could not do it: {of(error) or error}.",
        "What of it was done before that stays done." if changes else "Nothing was changed.",
        "see to that, then again; swarm doctor looks at the machine",
    )


def of_disks(places: Iterable[Path]) -> str:
    """Says of the first of these places whose disk takes nothing more why that is; "" where all have room."""
    for place in places:
        try:
            found = os.statvfs(place)
        except OSError:
            continue  # not made yet
        if found.f_flag & os.ST_RDONLY:
            return READ_ONLY
        if found.f_bavail * found.f_frsize < _ROOM_BYTES or (found.f_files and not found.f_favail):
            return FULL
    return ""


def named_in(text: str) -> int | None:
    """Finds the system's error that a line of a program's complaint ends with; None where none ends so.

    Only there: what comes before may be the name of a file, and a worker names files as it likes. A checkout that could not
    write a file that it has opened does not say why; there is one reason.
    """
    found = _COMPLAINT.search(text)
    if found is not None:
        return _NUMBERS[found[1]]
    if _NO_MEMORY.search(text):
        return errno.ENOMEM
    return errno.ENOSPC if _UNWRITTEN.search(text) else None


def raise_if_troubled(error: OSError) -> None:
    """Raises `error` again where it says that the machine is in trouble, not that something is not there."""
    if error.errno in _WORDS:
        raise error

"""Ports for workers: of all that live on a machine, whoever's they are and whichever daemon started them, no two have the same.

Hides how a range is held: by names of sockets that are in no file system, one for each block of ports that it touches. The kernel
has them for each network by itself, as it has ports, and for all users; it frees one when the last process ends that has the socket
open. A worker inherits it, and so keeps its ports however long its daemon lives, and nobody has to remember them.

Rules for editing: name and size of a block are the same in every version, since daemons of several may run beside each other. A
held socket can neither send nor receive: it would reach out of a sandbox.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

from swarm.errors import SwarmError, UsageError

BLOCK = 20  # ports; a range has as many descriptors as it touches blocks
LAST = 65_535
NAME = "swarm/ports/"  # and the first port of a block
_HANDLES_FROM = 10  # a shell has the one-digit descriptors to itself


class Range(NamedTuple):
    """The first port of a range, and the descriptors that hold it."""

    base: int
    handles: tuple[int, ...]


@contextmanager
def taken(slot: int, first: int, each: int) -> Iterator[Range]:
    """Takes `each` ports in a row for a worker: from `first + slot * each` on, or where somebody has some of them the next such
    range from `first` on. It is held while inside, and beyond by who inherits `handles`.

    Raises `UsageError` where a slot has none, `SwarmError` where none are left, `OSError`.
    """
    found = _take(slot, first, each)
    try:
        yield found
    finally:
        _close(found.handles)


def _take(slot: int, first: int, each: int) -> Range:
    ranges = (LAST + 1 - first) // each
    if not 0 <= slot < ranges:
        raise UsageError(
            f"Slot {slot} would have ports up to {first + (slot + 1) * each - 1}, and the last one is {LAST}.",
            "The worker was not started.",
            "Use fewer workers, fewer ports for each, or a lower first port.",
        )
    busy: set[int] = set()
    for number in chain((slot,), range(ranges)):
        base = first + number * each
        blocks = range(base - base % BLOCK, base + each, BLOCK)
        if busy.isdisjoint(blocks) and (handles := _hold(blocks, busy)) is not None:
            return Range(base, handles)
    raise SwarmError(
        f"No {each} ports in a row are left from {first} on: other workers of this machine have them.",
        "The worker was not started.",
        "Wait for some to end, or set ports.base lower or ports.step smaller.",
    )


def _hold(blocks: range, busy: set[int]) -> tuple[int, ...] | None:
    """Holds blocks of ports; None where somebody has one, which is then noted as busy."""
    handles: list[int] = []
    try:
        for block in blocks:
            handles.append(_bound(block))
    except OSError as error:
        _close(handles)
        if error.errno != errno.EADDRINUSE:
            raise
        busy.add(block)
        return None
    return tuple(handles)


def _bound(block: int) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0{NAME}{block}")
        made.shutdown(socket.SHUT_RDWR)
        return fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, _HANDLES_FROM)


def _close(handles: list[int] | tuple[int, ...]) -> None:
    for handle in handles:
        os.close(handle)

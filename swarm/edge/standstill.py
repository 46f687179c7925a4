"""Workers that stand still: the whole tree of one is stopped, and goes on later as if nothing had been.

Hides SIGSTOP and SIGCONT, and that one may be asked for while the other is under way: what was asked for last is what comes out.

Rules for editing: a process that forks while its tree is being stopped leaves a child that nobody has seen, so "all stopped" is
only true when looks that began after it was find the same. What forks and ends all the time may be in no look at all: so groups are
stopped as a whole, which the kernel does in one step. The launcher is stopped too: it may be about to start the command.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from swarm.edge import process
from swarm.edge.proctable import Identity, Stat

STOP_BOUND_S = (
    5.0  # what waits for a disk stops only when it is served; what forks faster than we look stops never
)
_LOOKS = 3  # in a row that find all stopped
_PAUSE_S = 0.002  # a signal takes effect when its process next leaves the kernel
_STOPPED = (b"T", b"t")

Key = TypeVar("Key")
Find = Callable[[], Mapping[int, Stat]]


class Standstill(Generic[Key]):
    """Which workers are to stand still, and has them do so. `want` and `free` are called in the order in which they are decided,
    the others from any thread."""

    def __init__(self) -> None:
        self._wanted: dict[Key, bool] = {}
        self._at_work = threading.Lock()

    def want(self, key: Key, *, still: bool) -> None:
        """Notes that a worker is to stand still, or to go on."""
        self._wanted[key] = still

    def free(self, key: Key) -> None:
        """Notes that neither is wanted of a worker any more, since it is being ended or has."""
        self._wanted.pop(key, None)

    def carry_out(self, key: Key, identity: Identity | None, find: Find) -> bool:
        """Does to a worker what is wanted of it by now, where `find` looks for its processes; tells whether that is so then."""
        with self._at_work:
            still = self._wanted.get(key)
            if still is None:
                return True
            if still:
                return _stop(identity, find, lambda: self._wanted.get(key) is True)
            _go_on(find)
            return True

    def settled(self) -> None:
        """Waits until nobody is being stopped any more of whom that is not wanted."""
        with self._at_work:
            pass


def _stop(identity: Identity | None, find: Find, wanted: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + STOP_BOUND_S
    asked: set[tuple[int, int]] = set()
    looks = 0
    while wanted() and looks < _LOOKS:
        found = find()
        running = {pid: each for pid, each in found.items() if not _is_still(pid, each, asked)}
        for pid, each in running.items():
            process.send_signal(pid, each, signal.SIGSTOP)
            asked.add((pid, each.start_ticks))
        if looks == 0 or running:
            process.signal_groups(found, identity, signal.SIGSTOP)
        looks = 0 if running else looks + 1
        if running and time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def _is_still(pid: int, found: Stat, asked: set[tuple[int, int]]) -> bool:
    """A process whose main thread has ended is shown as a zombie for good, also where the others were stopped."""
    return found.state in _STOPPED or (found.state == b"Z" and (pid, found.start_ticks) in asked)


def _go_on(find: Find) -> None:
    """One pass is enough: what is stopped starts nothing."""
    for pid, each in find().items():
        process.send_signal(pid, each, signal.SIGCONT)

"""What workers use of the machine now: CPU and memory of all that each started.

Memory is counted in two ways. What the kernel lists for each process at no cost counts a page that several share once for each of
them; what it works out on request gives each its part, for 0.1 ms and more a process. So the first is an upper bound that is looked
at all the time, and the second decides where that is above what a worker may take: a worker that forks twenty times from a large
parent must not be ended for memory that exists once.

Rules for editing: one pass over the process table for all of them, however many ask.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Generic, TypeVar

from swarm.edge import proctable
from swarm.edge.proctable import Identity, Stat, boot_id
from swarm.edge.trouble import raise_if_troubled

SAMPLE_WINDOW_S = 0.5  # CPU time is counted in steps of 10 ms: a shorter window would tell noise
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Key = TypeVar("Key")


def taken_bytes(tree: Mapping[int, Stat], allowed_bytes: int) -> int:
    """Gives the memory that the processes of a worker take: resident where that is at most what is allowed, else what is left of it
    when each shared page is counted once, with what was swapped out."""
    resident = sum(process.resident for process in tree.values()) * _PAGE_BYTES
    if resident <= allowed_bytes:
        return resident
    return sum(_share_bytes(pid, process.resident * _PAGE_BYTES) for pid, process in tree.items())


def _share_bytes(pid: int, resident_bytes: int) -> int:
    """The process's own pages and its part of those that it shares; what it holds at most where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb", buffering=0) as file:
            lines = file.read().splitlines()
    except ProcessLookupError:
        return 0  # it ended meanwhile
    except OSError as error:
        raise_if_troubled(error)
        return resident_bytes if proctable.stat_of(pid) is not None else 0
    return sum(int(line.split()[1]) for line in lines if line.startswith((b"Pss:", b"SwapPss:"))) * 1024


class Sampler(Generic[Key]):
    """Tells what workers use now. Keeps the last counts of CPU time, so there is one for as long as one asks."""

    def __init__(self) -> None:
        self._last: dict[Identity, tuple[float, int, float | None]] = {}  # when, ticks, percent then

    def sample(self, identities: Mapping[Key, Identity]) -> dict[Key, tuple[float | None, int]]:
        """Gives (percent of one core, resident bytes) for each worker with all it started, in one pass over /proc.

        The percentage is over the time since the last call (half a second at least), None at the first. Processes
        that left both the session and the descent of their worker are not counted. 10 us for each process.
        """
        now = time.monotonic()
        totals = _totals({i.pid: i for i in identities.values() if i.boot_id == boot_id()})
        kept: dict[Identity, tuple[float, int, float | None]] = {}
        result: dict[Key, tuple[float | None, int]] = {}
        for key, identity in identities.items():
            ticks, resident, _ = totals.get(identity, (0, 0, 0))
            before = self._last.get(identity)
            if before is None:
                kept[identity] = (now, ticks, None)
            elif now - before[0] < SAMPLE_WINDOW_S:
                kept[identity] = before
            else:
                percent = max(0, ticks - before[1]) * _TICK_S / (now - before[0]) * 100.0
                kept[identity] = (now, ticks, percent)
            result[key] = (kept[identity][2], resident * _PAGE_BYTES)
        self._last = kept
        return result


def processes(identities: Mapping[Key, Identity]) -> dict[Key, int]:
    """Gives how many processes each worker has, as `sample` counts them: its launcher too. 10 us for each process."""
    totals = _totals({i.pid: i for i in identities.values() if i.boot_id == boot_id()})
    return {key: totals.get(identity, (0, 0, 0))[2] for key, identity in identities.items()}


def threads_of_the_machine() -> int:
    """Gives how many threads there are in all, no fewer than processes: the kernel has that number ready."""
    with open("/proc/loadavg", "rb", buffering=0) as file:
        return int(file.read().split()[3].partition(b"/")[2])


def _totals(launchers: Mapping[int, Identity]) -> dict[Identity, tuple[int, int, int]]:
    """Ticks, pages and processes of each worker: a process counts for the launcher that leads its session or is above it."""
    if not launchers:
        return {}
    table = proctable.table(min(identity.start_ticks for identity in launchers.values()))
    owners: dict[int, Identity | None] = {0: None, 1: None}

    def owner(pid: int) -> Identity | None:
        path = []
        while pid not in owners:
            process = table.get(pid)
            if process is None:
                owners[pid] = None
                break
            led = launchers.get(process.session)
            if led is not None and led.start_ticks <= process.start_ticks:
                owners[pid] = led
                break
            path.append(pid)
            owners[pid] = None  # a table read while it changes may hold a circle
            pid = process.parent
        for below in path:
            owners[below] = owners[pid]
        return owners[pid]

    totals: dict[Identity, tuple[int, int, int]] = {}
    for pid, process in table.items():
        owned_by = owner(pid)
        if owned_by is not None:
            ticks, resident, number = totals.get(owned_by, (0, 0, 0))
            totals[owned_by] = (ticks + process.cpu_ticks, resident + process.resident, number + 1)
    return totals

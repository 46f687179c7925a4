"""What workers use of the machine now: CPU and memory of all that each started.

Rules for editing: one pass over the process table for all of them, however many ask.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Generic, TypeVar

from swarm.edge import proctable
from swarm.edge.proctable import Identity, boot_id

SAMPLE_WINDOW_S = 0.5  # CPU time is counted in steps of 10 ms: a shorter window would tell noise
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Key = TypeVar("Key")


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
            ticks, resident = totals.get(identity, (0, 0))
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


def _totals(launchers: Mapping[int, Identity]) -> dict[Identity, tuple[int, int]]:
    """Ticks and pages for each worker: a process counts for the launcher that leads its session or is above it."""
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

    totals: dict[Identity, tuple[int, int]] = {}
    for pid, process in table.items():
        owned_by = owner(pid)
        if owned_by is not None:
            ticks, resident = totals.get(owned_by, (0, 0))
            totals[owned_by] = (ticks + process.cpu_ticks, resident + process.resident)
    return totals

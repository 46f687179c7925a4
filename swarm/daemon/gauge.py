"""Looks at the machine, with CPU smoothed over time, whoever asks and however often.

Rules for editing: from any thread, and a look never fails: a machine that can't be looked at has no room.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

from swarm import log
from swarm.core import admission
from swarm.core.model import Readings
from swarm.edge import trouble
from swarm.edge.host import Host
from swarm.errors import SwarmError
from swarm.settings import LimitSettings

NO_ROOM = Readings(100.0, 100.0, 0, 0)  # what a machine that can't be looked at is taken for
_log = log.get("gauge")


class Gauge:
    """Gives the readings that are decided by. Readings from a file are taken as they are."""

    def __init__(self, host: Host, limits: LimitSettings, clock: Callable[[], float]) -> None:
        self._host = host
        self._limits = limits
        self._clock = clock
        self._smoothed: tuple[float, float] | None = None  # the CPU percentage, and when that was

    def look(self) -> tuple[Readings, str]:
        """Gives the readings; where the machine can't be looked at those of one without room, and why."""
        try:
            return self._measured(), ""
        except (SwarmError, OSError) as error:
            _log.error("host.unreadable", text=str(error))
            return NO_ROOM, trouble.of(error) or str(error)

    def _measured(self) -> Readings:
        """The first look falls into our own start, so the load of the last minute has a say in it."""
        raw, now = self._host.read(), self._clock()
        before, cpu = self._smoothed, raw.cpu_percent
        if not self._limits.readings_file:
            if before is None:
                cpu = min(cpu, 100.0 * os.getloadavg()[0] / (os.cpu_count() or 1))
            else:
                cpu = admission.smooth(before[0], cpu, now - before[1], self._limits.smoothing_s)
        self._smoothed = (cpu, now)
        return dataclasses.replace(raw, cpu_percent=cpu)

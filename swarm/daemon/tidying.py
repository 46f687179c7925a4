"""Removes from the landing repository, while nothing is to be done, what discarded runs left there and is old.

It is looked for in a thread, beside whatever comes. It goes in the loop's own thread, a few objects at a time, and only for as long
as nothing has happened since: no command can then be under way or begin meanwhile that finds an object there and counts on it.

Rules for editing: called in the loop's own thread, where nothing here may take longer than a moment. Work is never waited for and
never waits: what is not removed today is tomorrow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from swarm import log
from swarm.edge import pruning
from swarm.edge.lockfile import LockTaken, MergeLockHeld, exclusive
from swarm.errors import SwarmError

IDLE_S = 600.0  # so long nothing has happened when it begins
AT_ONCE = 100  # objects, in a few milliseconds
_log = log.get("tidying")


class Tidying:
    """The looks of a daemon after old objects: `idle` tells whether there is nothing to do, `seq` the number of the last record."""

    def __init__(
        self,
        landing: Path,
        lock: Path,
        *,
        idle: Callable[[], bool],
        seq: Callable[[], int],
        in_thread: Callable[[Callable[[], Any]], asyncio.Future[Any]],
        idle_s: float = IDLE_S,
    ) -> None:
        self._landing = landing
        self._lock = lock
        self._idle = idle
        self._seq = seq
        self._in_thread = in_thread
        self._idle_s = idle_s
        self._timer: asyncio.TimerHandle | None = None
        self._tidying: asyncio.Task[None] | None = None

    def at_rest(self) -> None:
        """Sees to it that it is looked later, if nothing happens until then; called when all is taken in."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._idle_s, self._look, self._seq())

    def close(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._tidying is not None:
            self._tidying.cancel()

    def _look(self, seq: int) -> None:
        self._timer = None
        if self._seq() != seq:
            self.at_rest()
        elif self._idle() and self._tidying is None:
            self._tidying = asyncio.get_running_loop().create_task(self._tidy(seq))

    async def _tidy(self, seq: int) -> None:
        try:
            found = await self._in_thread(lambda: pruning.find_if_many(self._landing))
            gone = await self._removed(found, seq)
            if gone:
                _log.info("landing.pruned", objects=gone, found=len(found))
        except (SwarmError, OSError) as error:
            _log.warning("landing.not_pruned", reason=str(error))
        finally:
            self._tidying = None

    async def _removed(self, found: Sequence[Path], seq: int) -> int:
        """Removes what was found for as long as nothing happens; gives how many went."""
        gone = 0
        while gone < len(found) and self._seq() == seq and self._idle():
            try:
                with exclusive(self._lock, wait_s=0, kind=MergeLockHeld) as held:
                    gone += pruning.remove(found[gone : gone + AT_ONCE], lock=held)
            except LockTaken:
                break
            await asyncio.sleep(0)  # whoever asks for something comes first
        return gone

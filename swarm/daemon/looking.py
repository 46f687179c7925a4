"""Looks again and again while there is anything to look at; with nothing, nothing wakes up.

Rules for editing: what a look raises is told and costs that look alone. What is looked after here is looked after by nobody else
until the next daemon comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from swarm import log

_log = log.get("looking")


class Looking:
    """Looks, and before each look waits for as many seconds as `pause_s` gives; None from it ends that until `begin` is called
    again. Everything is called in the loop's own thread."""

    def __init__(
        self, name: str, look: Callable[[], Awaitable[None]], pause_s: Callable[[], float | None]
    ) -> None:
        self._name = name
        self._look = look
        self._pause_s = pause_s
        self._failed = ""  # the last look, and by what
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def begin(self) -> None:
        """Sees to it that it is looked where there is anything to look at."""
        goes_on = self._task is not None and not self._task.done()
        if not (self._closed or goes_on) and self._pause_s() is not None:
            self._task = asyncio.get_running_loop().create_task(self._look_on())

    def close(self) -> None:
        """Looks no more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    async def _look_on(self) -> None:
        while (pause_s := self._pause_s()) is not None:
            await asyncio.sleep(pause_s)
            try:
                await self._look()
                self._failed = ""
            except Exception as error:
                if self._failed != repr(error):
                    _log.error("look.failed", at=self._name, exc_info=error)
                self._failed = repr(error)

"""Looks at the memory of workers, as long as one runs whose task says how much it may take.

Rules for editing: `watch` is called in the loop's own thread, what looks in another. With nobody to look at, nothing wakes up.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from swarm import log
from swarm.core import messages as m
from swarm.core.memory import MB
from swarm.daemon.watching import Key, Watcher, key_of
from swarm.edge import process, usage
from swarm.errors import SwarmError

LOOK_EVERY_S = 0.5  # 0.1 % of a core for each worker that is looked at
_log = log.get("memory")


class MemoryWatch:
    """Posts `WorkerOutgrew` once for a worker that takes more than it may, and remembers the most that each was seen to take."""

    def __init__(
        self,
        watcher: Watcher,
        in_thread: Callable[[Callable[[], None]], asyncio.Future[None]],
        tree_of: Callable[[m.AttemptCommand], tuple[str, Path]],
        post: Callable[[m.Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._watcher = watcher
        self._in_thread = in_thread
        self._tree_of = tree_of
        self._post = post
        self._clock = clock
        self._bounded: dict[Key, m.WatchWorker] = {}
        self._most: dict[Key, int] = {}
        self._looking: asyncio.Task[None] | None = None

    def watch(self, command: m.WatchWorker) -> None:
        """Has a worker looked at from now on, where there is a limit to what it may take."""
        if not command.memory_mb:
            return
        self._bounded[key_of(command)] = command
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_on())

    def most_of(self, command: m.AttemptCommand) -> int:
        """Gives the most that a worker, which has ended, was seen to take, in bytes; from any thread, once."""
        return self._most.pop(key_of(command), 0)

    def close(self) -> None:
        """Looks at nobody any more; the next daemon will."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look_on(self) -> None:
        while self._bounded:
            await asyncio.sleep(LOOK_EVERY_S)
            self._bounded = {key: each for key, each in self._bounded.items() if self._watcher.watches(each)}
            looks = functools.partial(self._look, dict(self._bounded), self._watcher.identities())
            await self._in_thread(looks)
        self._looking = None

    def _look(self, bounded: Mapping[Key, m.WatchWorker], known: Mapping[Key, process.Identity]) -> None:
        for key, command in bounded.items():
            identity = known.get(key)
            if identity is None:
                continue  # one of an earlier daemon, that is being looked for
            try:
                self._weigh(key, command, identity)
            except (SwarmError, OSError) as error:
                _log.warning("memory.unseen", task=command.task, attempt=command.attempt, reason=str(error))

    def _weigh(self, key: Key, command: m.WatchWorker, identity: process.Identity) -> None:
        nonce, folder = self._tree_of(command)
        allowed = command.memory_mb * MB
        taken = usage.taken_bytes(process.tree_of(nonce, identity, folder=folder), allowed)
        self._most[key] = max(taken, self._most.get(key, 0))
        if taken > allowed:
            self._bounded.pop(key, None)
            run, task, attempt = key
            self._post(
                m.WorkerOutgrew(at=self._clock(), run=run, task=task, attempt=attempt, memory_bytes=taken)
            )

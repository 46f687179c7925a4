"""Looks at memory while workers run: at what the machine has left, and at what they take.

Rules for editing: `watch` is called in the loop's own thread, what looks in another. With nobody to look at, nothing wakes up.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence

from swarm import log
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.admission import Expected
from swarm.core.memory import MB
from swarm.core.model import Readings
from swarm.daemon.looking import Looking
from swarm.daemon.watching import Key, Watcher, key_of
from swarm.edge import process, usage
from swarm.edge.proctable import Stat
from swarm.errors import SwarmError

LOOK_EVERY_S = 0.5  # costs 1 ms, and 0.3 ms for each worker
SURE_BYTES = (
    500 * MB
)  # up to here what the kernel lists is good enough for a worker that may take what it likes
_log = log.get("memory")


class MemoryWatch:
    """Posts `MemoryMeasured` when the readings tell of another pressure than is known, and `WorkerOutgrew` once for a
    worker that takes more than it may. Remembers the most that each was seen to take."""

    def __init__(
        self,
        watcher: Watcher,
        in_thread: Callable[[Callable[[], None]], asyncio.Future[None]],
        tree_of: Callable[[cmd.AttemptCommand, process.Identity], Mapping[int, Stat]],
        look: Callable[[], tuple[Readings, str]],
        is_news: Callable[[Readings], bool],
        post: Callable[[m.Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._watcher = watcher
        self._in_thread = in_thread
        self._tree_of = tree_of
        self._look_at_machine = look
        self._is_news = is_news
        self._post = post
        self._clock = clock
        self._watched: dict[Key, cmd.WatchWorker] = {}
        self._told: set[Key] = set()
        self._most: dict[Key, int] = {}
        self._taken: dict[Key, int] = {}
        self._looking = Looking("memory", self._look_once, lambda: LOOK_EVERY_S if self._watched else None)

    def watch(self, command: cmd.WatchWorker) -> None:
        """Has the machine looked at from now on as long as this worker runs, and the worker."""
        self._watched[key_of(command)] = command
        self._looking.begin()

    def most_of(self, command: cmd.AttemptCommand) -> int:
        """Gives the most that a worker, which has ended, was seen to take, in bytes; from any thread, once."""
        self._told.discard(key_of(command))
        return self._most.pop(key_of(command), 0)

    def taken(self, growing: Sequence[Expected]) -> tuple[Expected, ...]:
        """Gives what those of these workers take that run, as far as it was looked at."""
        keys = [(run, task, n) for run, task, n, _ in growing]
        return tuple((*key, self._taken[key]) for key in keys if key in self._taken)

    def close(self) -> None:
        """Looks at nobody any more; the next daemon will."""
        self._looking.close()

    async def _look_once(self) -> None:
        self._watched = {key: each for key, each in self._watched.items() if self._watcher.watches(each)}
        if self._watched:
            looks = functools.partial(self._look, dict(self._watched), self._watcher.identities())
            await self._in_thread(looks)

    def _look(self, watched: Mapping[Key, cmd.WatchWorker], known: Mapping[Key, process.Identity]) -> None:
        readings, why = self._look_at_machine()
        if not why and self._is_news(readings):
            self._post(m.MemoryMeasured(at=self._clock(), readings=readings))
        taken = {}
        for key, command in watched.items():
            identity = known.get(key)  # None for one of an earlier daemon, that is being looked for
            if identity is None or key in self._told:
                continue
            try:
                taken[key] = self._weigh(key, command, identity)
            except (SwarmError, OSError) as error:
                _log.warning("memory.unseen", task=command.task, attempt=command.attempt, reason=str(error))
        self._taken = taken

    def _weigh(self, key: Key, command: cmd.WatchWorker, identity: process.Identity) -> int:
        allowed, most = command.memory_mb * MB, self._most.get(key, 0)
        taken = usage.taken_bytes(self._tree_of(command, identity), allowed or max(SURE_BYTES, most))
        self._most[key] = max(taken, most)
        if 0 < allowed < taken:
            self._told.add(key)
            run, task, attempt = key
            self._post(
                m.WorkerOutgrew(at=self._clock(), run=run, task=task, attempt=attempt, memory_bytes=taken)
            )
        return taken

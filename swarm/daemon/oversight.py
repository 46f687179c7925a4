"""Looks after what runs, while anything does: that no output fills the disk, that no worker is silent for too long or multiplies.

Rules for editing: `watch`, `bounding` and `silences` are called in the loop's own thread, what touches files in another. One look
costs two system calls for each output; processes are counted only where the machine has so many more that it can matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from swarm import log
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.daemon.looking import Looking
from swarm.daemon.watching import Key, Watcher, key_of
from swarm.dataclass import dataclass
from swarm.edge import output, process, usage

LOOK_EVERY_S = 0.5
SOON_S = 0.05  # … while an output grows so fast that it would be far too large by then
_log = log.get("oversight")


@dataclass(slots=True)
class _Seen:
    """A worker, how large its output was and since when it is."""

    command: cmd.WatchWorker
    output: Callable[[], Path]
    since: float
    size: int = 0
    told: bool = False


@dataclass(slots=True)
class _Suite:
    """A suite that runs, how large its output was, and what to call where it has too many processes."""

    identity: process.Identity
    multiplied: Callable[[], None]
    size: int = 0


class Oversight:
    """Keeps outputs to `output_bytes_max` on the disk, and posts of a worker that it is silent for longer than its task allows, or
    that it has more processes than `processes_max` (0: no limit); of a suite the latter is told to who runs it. Without a `watcher`
    there are only suites."""

    def __init__(
        self,
        watcher: Watcher | None,
        in_thread: Callable[[Callable[[], None]], asyncio.Future[None]],
        post: Callable[[m.Event], None],
        clock: Callable[[], float],
        *,
        output_bytes_max: int,
        processes_max: int,
    ) -> None:
        self._watcher = watcher
        self._in_thread = in_thread
        self._post = post
        self._clock = clock
        self._output_bytes_max = output_bytes_max
        self._processes_max = processes_max
        self._workers: dict[Key, _Seen] = {}
        self._suites: dict[Path, _Suite] = {}  # by their output
        self._last_look: dict[Path, _Suite] = {}  # … those that have ended
        self._multiplied: set[Path] = set()  # outputs of suites that have too many processes
        self._counted_at = 0  # how many threads the machine had when processes were last counted
        self._soon = False
        self._looking = Looking("workers and suites", self._look_once, self._pause_s)

    def watch(self, command: cmd.WatchWorker, path: Callable[[], Path]) -> None:
        """Has a worker looked after until it has ended; `path` gives its output. What was before is not held against it."""
        self._workers[key_of(command)] = _Seen(command, path, time.monotonic())
        self._looking.begin()

    @contextlib.contextmanager
    def bounding(
        self, path: Path, identity: process.Identity, multiplied: Callable[[], None]
    ) -> Iterator[None]:
        """Has the output of a suite kept to its size meanwhile; `multiplied` is called, in the loop's own thread, where it has too
        many processes."""
        self._suites[path] = _Suite(identity, multiplied)
        self._looking.begin()
        try:
            yield
        finally:
            self._last_look[path] = self._suites.pop(path)

    def silences(self) -> dict[Key, float]:
        """Gives for how long each worker has written nothing, as far as that was looked at."""
        now = time.monotonic()
        return {key: now - seen.since for key, seen in self._workers.items()}

    def close(self) -> None:
        """Looks after nobody any more; the next daemon will."""
        self._looking.close()

    def _pause_s(self) -> float | None:
        if not (self._workers or self._suites or self._last_look):
            return None
        return SOON_S if self._soon else LOOK_EVERY_S

    async def _look_once(self) -> None:
        workers, suites = dict(self._workers), {**self._last_look, **self._suites}
        identities: Mapping[Key, process.Identity] = {}
        if self._watcher is not None:
            self._workers = {key: s for key, s in workers.items() if self._watcher.watches(s.command)}
            identities = self._watcher.identities()
        self._last_look.clear()  # what has ended may have written much since it was looked at
        running = {path: suite.identity for path, suite in self._suites.items()}
        await self._in_thread(functools.partial(self._look, workers, suites, identities, running))
        for path in self._multiplied & self._suites.keys():
            self._suites[path].multiplied()
        self._multiplied.clear()

    def _look(
        self,
        workers: Mapping[Key, _Seen],
        suites: Mapping[Path, _Suite],
        identities: Mapping[Key, process.Identity],
        running: Mapping[Path, process.Identity],
    ) -> None:
        self._soon = False
        for key, seen in workers.items():
            size = self._bounded(seen.output(), seen.size)
            self._listen(key, seen, size)
        for path, suite in suites.items():
            suite.size = self._bounded(path, suite.size)
        with contextlib.suppress(OSError):  # of no use where the machine does not let it be counted
            self._count({key: each for key, each in identities.items() if key in workers}, running)

    def _bounded(self, path: Path, before: int) -> int:
        """Keeps one output to its size, and gives how large it would be by now."""
        try:
            size = path.stat().st_size
            self._soon |= size - before > self._output_bytes_max // 2
            if size > self._output_bytes_max > 0:
                output.bound(path, self._output_bytes_max)
        except FileNotFoundError:
            return before
        except OSError as error:
            _log.warning("output.unbounded", path=str(path), reason=str(error))
            return before
        return size

    def _listen(self, key: Key, seen: _Seen, size: int) -> None:
        now = time.monotonic()  # the time that a machine sleeps is not a worker's silence
        if size != seen.size:
            seen.size, seen.since = size, now
        silent_s, most_s = now - seen.since, seen.command.no_output_s
        if most_s and silent_s >= most_s and not seen.told:
            seen.told = True
            self._post(m.WorkerSilent(at=self._clock(), **_where(key), silent_s=silent_s))

    def _count(
        self, workers: Mapping[Key, process.Identity], suites: Mapping[Path, process.Identity]
    ) -> None:
        """Counts the processes of each, where the machine has got enough more since the last time for it to matter."""
        if not self._processes_max:
            return
        threads = usage.threads_of_the_machine()
        self._counted_at = min(self._counted_at, threads)
        if threads < self._processes_max or threads - self._counted_at < self._processes_max // 4:
            return
        self._counted_at = threads
        for key, number in usage.processes({**workers, **suites}).items():
            if number <= self._processes_max:
                continue
            if isinstance(key, Path):
                self._multiplied.add(key)
            else:
                self._post(m.WorkerMultiplied(at=self._clock(), **_where(key), processes=number))


def _where(key: Key) -> dict[str, Any]:
    run, task, attempt = key
    return {"run": run, "task": task, "attempt": attempt}

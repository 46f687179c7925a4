"""What running workers have changed so far, for whoever looks at the status: paths outside the claims show while they are written.

Nobody looks while nobody asks. Whoever asks waits a moment for a look, and is told what the last one saw where that takes longer;
asked again and again, as by a live view, looking takes a small share of the time, and what has only just begun is left alone.

Rules for editing: called in the loop's own thread, and what reads files does so in another. Nothing of it is remembered in the
journal: what counts is what is collected.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from swarm import log
from swarm.core.model import Step
from swarm.core.state import Swarm
from swarm.daemon.edges import Edges
from swarm.edge import foresight, git

EVERY_S = 1.0
WAIT_S = 0.3
_log = log.get("so_far")

Changed = Mapping[tuple[str, str], tuple[str, ...]]


class SoFar:
    """The looks of a daemon; `in_thread` does blocking work, awaited."""

    def __init__(self, edges: Edges, in_thread: Callable[[Callable[[], Any]], asyncio.Future[Any]]) -> None:
        self._edges = edges
        self._in_thread = in_thread
        self._reader = git.Reader()
        self._looking: asyncio.Task[None] | None = None
        self._next = 0.0  # by the clock that never goes back
        self._seen: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}

    def close(self) -> None:
        """Looks no more; a look under way is ended."""
        self._reader.end()
        if self._looking is not None:
            self._looking.cancel()

    async def of(self, swarm: Swarm, now: float) -> Changed:
        """Gives, by run and task, the paths that each running worker has changed as far as was seen; `now` in seconds since the
        epoch."""
        works = _works(swarm, now)
        if works and self._looking is None and time.monotonic() >= self._next:
            self._looking = asyncio.get_running_loop().create_task(self._look(works))
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=WAIT_S)
        live = {key: n for key, n, _ in works}
        return {key: paths for key, (n, paths) in self._seen.items() if live.get(key) == n}

    async def _look(self, works: list[tuple[tuple[str, str], int, foresight.Work]]) -> None:
        began = time.monotonic()
        settings = self._edges.settings.worktrees
        try:
            found = await self._in_thread(
                lambda: foresight.changed(
                    self._edges.repository.common_dir,
                    [work for *_, work in works],
                    leave_out=(*settings.copied, *settings.share),
                    reader=self._reader,
                )
            )
            self._seen = {
                key: (n, paths) for (key, n, _), paths in zip(works, found, strict=True) if paths is not None
            }
        except (OSError, git.GitError) as error:
            _log.warning("so_far.failed", reason=str(error))
        finally:
            self._next = time.monotonic() + foresight.pause_after(time.monotonic() - began, every_s=EVERY_S)
            self._looking = None


def _works(swarm: Swarm, now: float) -> list[tuple[tuple[str, str], int, foresight.Work]]:
    """Lists who has been at work for a while, and where."""
    found = []
    for run in swarm.active():
        for name in run.live:
            attempt = run.tasks[name].live
            if attempt is None or attempt.step is not Step.RUNNING or not attempt.worktree:
                continue
            if attempt.started_at is not None and now - attempt.started_at >= EVERY_S:
                work = foresight.Work(f"{run.id}/{name}", attempt.worktree, attempt.base, run.published)
                found.append(((run.id, name), attempt.n, work))
    return found

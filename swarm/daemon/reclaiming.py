"""Keeps what idle worktrees hold, and can be made again, to `disk_budget_bytes`: of more, the oldest is removed and that is told.

It looks a little after something has happened, since only then can there be more of it, and the longer a look takes the less often.

Rules for editing: called in the loop's own thread; what reads or removes files does so in another. Only worktrees that nobody works
in are looked into: free ones, and those kept for attempts that have ended. Those that a person opened are theirs.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from functools import partial

from swarm import log
from swarm.core import messages as m
from swarm.core import reclaiming
from swarm.core.model import ATTEMPT_ENDS, Step, attempt_key
from swarm.core.reclaiming import Reclaimable
from swarm.core.state import Swarm
from swarm.daemon.coordinator import Coordinator
from swarm.daemon.execution import Execution
from swarm.daemon.looking import Looking
from swarm.errors import SwarmError

WAIT_S = 2.0
SHARE = 20  # of the time is for looking, one part
_log = log.get("reclaiming")


class Reclaiming:
    """The looks of a daemon after its idle worktrees, the first when it has come up; none without a budget."""

    def __init__(self, coordinator: Coordinator, execution: Execution) -> None:
        self._coordinator = coordinator
        self._execution = execution
        self._settings = execution.edges.settings.worktrees
        self._news = False
        self._took_s = 0.0
        self._looking = Looking(
            "idle worktrees", self._look, lambda: max(WAIT_S, SHARE * self._took_s) if self._news else None
        )
        self.at_rest()

    def at_rest(self) -> None:
        """Sees to it that it is looked; called when all is taken in."""
        self._news = self._settings.disk_budget_bytes > 0
        self._looking.begin()

    def close(self) -> None:
        """Looks no more."""
        self._looking.close()

    async def _look(self) -> None:
        self._news = False
        ended, begun = kept(self._coordinator.swarm), time.monotonic()
        gone: list[Reclaimable] = await self._execution.in_thread(partial(self._reclaim, ended))
        self._took_s = time.monotonic() - begun
        if gone:
            paths, size_bytes = tuple(each.path for each in gone), sum(each.size_bytes for each in gone)
            at = self._coordinator.now()
            self._coordinator.post(m.Reclaimed(at=at, paths=paths, size_bytes=size_bytes))

    def _reclaim(self, ended: Collection[str]) -> list[Reclaimable]:
        edges, names = self._execution.edges, self._settings.regenerable
        found = {
            each: pool for pool in (edges.pool, edges.scratch) for each in pool.reclaimable(ended, names)
        }
        gone = []
        for each in reclaiming.beyond(found, self._settings.disk_budget_bytes):
            try:
                if found[each].reclaim(each, ended, names):
                    _log.info("worktree.reclaimed", path=each.path, size_bytes=each.size_bytes)
                    gone.append(each)
            except (SwarmError, OSError) as error:
                _log.warning("worktree.not_reclaimed", path=each.path, reason=str(error))
        return gone


def kept(swarm: Swarm) -> set[str]:
    """Names the attempts that have ended and may have kept their worktree."""
    return {
        attempt_key(run.id, name, attempt.n)
        for run in swarm.runs.values()
        for name, task in run.tasks.items()
        for attempt in task.attempts
        if attempt.returned and attempt.step in ATTEMPT_ENDS and attempt.step is not Step.LANDED
    }

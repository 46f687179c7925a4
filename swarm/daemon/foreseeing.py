"""Looks, while workers work whose changes may meet, what they have changed so far, and posts where that would conflict.

It looks some time after such work has begun, and then every so often for as long as there is any; where nobody shares anything
nobody looks. What is read disturbs no worker (`edge/foresight`). However much there is to read, looking takes a small share of the
time: after a look that took long the next comes late.

Rules for editing: called in the loop's own thread; what reads files does so in another. A look that fails is told in the log and
costs nothing but itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from swarm import log
from swarm.core import foreseeing
from swarm.core import messages as m
from swarm.core.foreseeing import AtRisk
from swarm.daemon.coordinator import Coordinator
from swarm.daemon.execution import Execution
from swarm.daemon.looking import Looking
from swarm.edge import foresight, git

_log = log.get("foreseeing")


class Foreseeing:
    """The looks ahead of a daemon, every `every_s`; 0: none."""

    def __init__(self, coordinator: Coordinator, execution: Execution, *, every_s: float) -> None:
        self._coordinator = coordinator
        self._execution = execution
        self._every_s = every_s
        self._pause_s = every_s
        self._looking = Looking("what conflicts so far", self._look_once, self._pause)
        self._reader = git.Reader()
        self._gaps: dict[str, tuple[str, tuple[str, ...]]] = {}  # in what was seen last

    def at_rest(self) -> None:
        """Sees to it that it is looked where there is anything to look at; called when all is taken in."""
        if self._every_s:
            self._looking.begin()

    def close(self) -> None:
        """Looks no more; a look under way is ended."""
        self._reader.end()
        self._looking.close()

    def _pause(self) -> float | None:
        if foreseeing.at_risk(self._coordinator.swarm):
            return self._pause_s
        self._pause_s = self._every_s
        return None

    async def _look_once(self) -> None:
        works = foreseeing.at_risk(self._coordinator.swarm)
        try:
            seen, took_s = await self._execution.in_thread(partial(self._look, works))
        except (OSError, git.GitError) as error:
            _log.warning("foreseeing.failed", reason=str(error))
            return
        self._pause_s = foresight.pause_after(took_s, every_s=self._every_s)
        self._say_what_was_not_seen(seen, took_s, self._pause_s)
        for work, found in zip(works, seen, strict=True):
            self._tell(work, found)

    def _look(self, works: Sequence[AtRisk]) -> tuple[list[foresight.Foreseen], float]:
        """Looks; gives how long that took as well."""
        edges, began = self._execution.edges, time.monotonic()
        lent = (*edges.settings.worktrees.copied, *edges.settings.worktrees.share)
        asked = [foresight.Work(_name(each), each.worktree, each.base, each.staging) for each in works]
        seen = foresight.look(edges.repository.common_dir, asked, leave_out=lent, reader=self._reader)
        return seen, time.monotonic() - began

    def _say_what_was_not_seen(
        self, seen: Sequence[foresight.Foreseen], took_s: float, pause_s: float
    ) -> None:
        gaps = {
            each.name: (each.why, each.uncompared[: foreseeing.PATHS_TOLD])
            for each in seen
            if each.why or each.uncompared
        }
        if gaps != self._gaps:
            self._gaps = gaps
            _log.warning(
                "foreseeing.not_all", not_seen=gaps, took_s=round(took_s, 1), next_in_s=round(pause_s, 1)
            )

    def _tell(self, work: AtRisk, found: foresight.Foreseen) -> None:
        """Posts what is new: conflicts that have come up, changed or gone. None is gone while not all is compared."""
        if found.changed is None:
            return
        run = self._coordinator.swarm.runs.get(work.run)
        attempt = run.tasks[work.task].live if run is not None else None
        if attempt is None or attempt.n != work.attempt:
            return
        known: dict[str, list[str]] = {}
        for other, path in attempt.foreseen:
            known.setdefault(other, []).append(path)
        for other in dict.fromkeys((*known, *found.conflicts)):
            paths = found.conflicts.get(other, ())[: foreseeing.PATHS_TOLD]
            if not paths and (found.why or found.uncompared):
                continue
            if list(paths) != known.get(other, []):
                at, n = self._coordinator.now(), work.attempt
                self._coordinator.post(
                    m.WorkCompared(at=at, run=work.run, task=work.task, attempt=n, other=other, paths=paths)
                )


def _name(work: AtRisk) -> str:
    return f"{work.run}/{work.task}"

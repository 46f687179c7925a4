"""Watches plan files: what is added to one is taken into its run as it is saved, and what has landed is ticked off in it.

The kernel tells when something in the folder of a plan is saved, moved or removed; only then is the file looked at. Where it can't
be watched (too many of this user's watches are in use, or its folder is not there) it is looked at once a second.

Rules for editing: everything is found by looking, so that it makes no difference what happened while no daemon ran; and the machine
is told only what is new.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

from swarm import log
from swarm.core import messages as m
from swarm.core.model import TaskState
from swarm.core.run import Run
from swarm.core.state import IllegalEvent
from swarm.daemon import intake
from swarm.daemon.coordinator import Coordinator
from swarm.daemon.submitting import Submitter
from swarm.edge import notice, planfile
from swarm.errors import SwarmError, UsageError

LOOK_AFTER_S = 0.05  # an editor that saves touches its folder several times
LOOK_AGAIN_S = 1.0
HALF_SAVED_S = 0.3  # a file that is written in place is met unfinished for a moment
_log = log.get("backlog")


class Backlog:
    """The plan files that the runs of a daemon are watched in. Everything here is called in the loop's own thread."""

    def __init__(self, coordinator: Coordinator, submitter: Submitter) -> None:
        self._coordinator = coordinator
        self._submitter = submitter
        self._loop = asyncio.get_running_loop()
        self._notice: notice.Notice | None = None
        self._seen: dict[str, tuple[str, tuple[int, ...] | None]] = {}  # run: its file, as it was read last
        self._ticked: dict[str, frozenset[str]] = {}
        self._unticked: dict[
            str, tuple[str, float]
        ] = {}  # run: why that failed last, and when it is tried again
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None

    def at_rest(self) -> None:
        """Looks whether a file is to be watched since, or something has landed; called when all is taken in."""
        if any(self._is_new(run) for run in self._runs()):
            self._look_after(0.0)

    def close(self) -> None:
        """Watches nothing any more."""
        for waiting in (self._timer, self._work):
            if waiting is not None:
                waiting.cancel()
        if self._notice is not None:
            self._loop.remove_reader(self._notice.fileno())
            self._notice.close()
            self._notice = None

    def _runs(self) -> list[Run]:
        return [run for run in self._coordinator.swarm.runs.values() if run.watched and not run.discarding]

    def _is_new(self, run: Run) -> bool:
        return self._seen.get(run.id, ("", None))[0] != run.watched or run.counts[TaskState.LANDED] != len(
            self._ticked.get(run.id, ())
        )

    def _look_after(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._work is None:
            self._work = self._loop.create_task(self._go_over())
        else:
            self._look_after(LOOK_AFTER_S)

    async def _go_over(self) -> None:
        try:
            for run in self._runs():
                if not self._is_watched(os.path.dirname(run.watched)):
                    self._look_after(LOOK_AGAIN_S)
                await self._take_in(run)
                await self._tick_off(run)
        finally:
            self._work = None

    def _is_watched(self, folder: str) -> bool:
        """Has the kernel tell of a folder. Done again each time: it may have been replaced by another."""
        try:
            if self._notice is None:
                self._notice = notice.Notice(notice.SAVED_IN)
                self._loop.add_reader(self._notice.fileno(), self._noticed)
            self._notice.watch(folder)
        except OSError as error:
            _log.info("plan.unwatched", folder=folder, reason=str(error))
            return False
        return True

    def _noticed(self) -> None:
        assert self._notice is not None
        self._notice.take()
        self._look_after(LOOK_AFTER_S)

    # --- what is new in the file

    async def _take_in(self, run: Run) -> None:
        source, stamp = run.watched, planfile.stamp(run.watched)
        if self._seen.get(run.id) == (source, stamp):
            return
        problem = await self._submit(run, source)
        if problem:
            await asyncio.sleep(HALF_SAVED_S)
            if planfile.stamp(source) != stamp or self._coordinator.stuck is not None:
                self._look_after(LOOK_AFTER_S)
                return
            _log.warning("plan.refused", run=run.id, source=source, reason=problem)
        self._seen[run.id] = (source, stamp)
        if problem != run.watch_problem:
            event = m.WatchedPlanRefused(at=self._coordinator.now(), run=run.id, text=problem)
            with contextlib.suppress(SwarmError, IllegalEvent):  # told when it is read again
                await self._coordinator.ask(event)

    async def _submit(self, run: Run, source: str) -> str:
        """Submits the file as it is; gives why it can't be, or ""."""
        settings = self._submitter.edges.settings
        try:
            data = await asyncio.to_thread(lambda: planfile.read(Path(source)))
            plan = await asyncio.to_thread(lambda: intake.read(data, source, settings))
            if plan.id != run.id:
                return f"the plan in it is called {plan.id} now, and {run.id} is watched"
            async with self._submitter.lock:
                answer = await self._submitter.submit(
                    plan, if_new=True, sequential=run.sequential, fail_fast=run.fail_fast
                )
        except (SwarmError, IllegalEvent) as error:
            return error.cause if isinstance(error, SwarmError) else str(error)
        open_there = {
            spec.id for spec in plan.tasks if not spec.finished
        }  # saved from an older buffer, or checked out
        self._ticked[run.id] = self._ticked.get(run.id, frozenset()) - open_there
        if answer["added"] or answer["replaced"]:
            _log.info("plan.taken_in", run=run.id, added=answer["added"], replaced=answer["replaced"])
        return ""

    # --- what has landed

    async def _tick_off(self, run: Run) -> None:
        before = self._ticked.get(run.id, frozenset())
        landed = frozenset(name for name, task in run.tasks.items() if task.state is TaskState.LANDED)
        if landed == before:
            return
        _, again_at = self._unticked.get(run.id, ("", 0.0))
        if (
            time.monotonic() < again_at
        ):  # what the failed try left in the folder and took away again is noticed, too
            self._look_after(LOOK_AGAIN_S)
            return
        states = dict.fromkeys(landed - before, TaskState.LANDED)
        states |= {name: run.tasks[name].state for name in before - landed if name in run.tasks}
        place, state = Path(run.watched), self._submitter.edges.places.state
        try:
            await asyncio.to_thread(lambda: planfile.write_back(place, state, states))
        except (
            UsageError
        ) as error:  # a native plan holds no states, and a file that can't be read is told of above
            _log.info("plan.not_ticked", run=run.id, reason=error.cause)
        except (SwarmError, OSError) as error:
            if str(error) != self._unticked.get(run.id, ("", 0.0))[0]:
                _log.warning("plan.not_ticked", run=run.id, reason=str(error))
            self._unticked[run.id] = str(error), time.monotonic() + LOOK_AGAIN_S
            self._look_after(LOOK_AGAIN_S)
            return
        self._unticked.pop(run.id, None)
        self._ticked[run.id] = landed

"""The coordinator on a clock that is set: its timers run by the time that passes, and the times that it tells by the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.model import Limits
from swarm.core.state import Swarm
from swarm.daemon.coordinator import Coordinator
from swarm.edge.journal import Journal
from tests.builders import BASE, CALM, a_plan, a_task, submitted


class World:
    """A coordinator with a clock that can be set; remembers what it had carried out."""

    def __init__(self, journal: Journal) -> None:
        self.set_by_s = 0.0
        self.done: list[cmd.Command] = []
        self.coordinator = Coordinator(
            Swarm(), journal, self.done.append, wall=lambda: time.time() + self.set_by_s
        )

    async def send(self, kind: type[m.Event], **more: Any) -> None:
        await self.coordinator.ask(kind(at=self.coordinator.now(), **more))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(120):
            await self.coordinator.until(condition)

    def wanted(self, kind: type[cmd.Command]) -> int:
        return sum(isinstance(command, kind) for command in self.done)


def started(coordinator: Coordinator, boot: str = "this") -> m.DaemonStarted:
    """Gives the first event of a daemon in a boot of the machine."""
    about: dict[str, Any] = {
        "limits": Limits(ramp_per_s=1000.0),
        "rules": m.RULES,
        "boot": boot,
        "ahead_s": coordinator.ahead_s,
    }
    return m.DaemonStarted(at=coordinator.now(), version="1", pid=1, **about)


async def _a_worker_that_runs(world: World, timeout_s: float) -> asyncio.Task[None]:
    coordinator = world.coordinator
    coordinator.begin(started(coordinator))
    turning = asyncio.create_task(coordinator.run())
    plan = a_plan(a_task("a", timeout_s=timeout_s), a_task("b"))
    await coordinator.ask(submitted(plan, at=coordinator.now()))
    await world.send(m.RunPrepared, run="plan", commit=BASE, worktree="/staging")
    await world.send(m.HostMeasured, readings=CALM)
    where = {"run": "plan", "task": "a", "attempt": 1}
    await world.send(m.WorktreeReady, **where, path="/wt")
    await world.send(m.WorkerStarted, **where, pid=1, started_at=coordinator.now())
    return turning


@pytest.mark.parametrize("by_s", [-7200.0, 7200.0])
def test_a_clock_that_is_set_ends_no_worker_and_holds_nothing_up(tmp_path: Path, by_s: float) -> None:
    """With the clock set by two hours, ahead or back, a worker with a minute runs on, and a command that failed is carried out
    again within a second or two."""

    async def story() -> None:
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            journal.begin_epoch()
            world = World(journal)
            turning = await _a_worker_that_runs(world, 60.0)
            where = {"run": "plan", "task": "b", "attempt": 1}
            await world.send(m.CommandFailed, **where, command="TakeWorktree", text="busy")
            world.set_by_s = by_s
            await world.send(m.Paused)
            await world.until(lambda: world.wanted(cmd.TakeWorktree) == 3)
            assert world.wanted(cmd.EndWorker) == 0
            facts = [row.data for row in journal.read()]
            assert [data["by_s"] for data in facts if data["type"] == "ClockSet"] == [
                pytest.approx(by_s, abs=2)
            ]
            assert facts[-1]["at"] == pytest.approx(time.time() + by_s, abs=60)
            turning.cancel()

    asyncio.run(story())


def test_the_time_of_a_worker_runs_out_by_the_time_that_passes(tmp_path: Path) -> None:
    """A worker whose two seconds are not over when the clock is set back is ended when they are, not two hours later."""

    async def story() -> None:
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            journal.begin_epoch()
            world = World(journal)
            began = time.monotonic()
            turning = await _a_worker_that_runs(world, 2.0)
            world.set_by_s = -7200.0
            await world.send(m.Paused)
            await world.until(lambda: world.wanted(cmd.EndWorker))
            assert time.monotonic() - began >= 2.0
            turning.cancel()

    asyncio.run(story())


def test_a_clock_that_is_being_corrected_never_goes_back(tmp_path: Path) -> None:
    """A correction by less than two seconds is no event, and times do not go back for it."""

    async def story() -> None:
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            world = World(journal)
            before = world.coordinator.now()
            world.set_by_s = -1.0
            assert world.coordinator.now() >= before
            assert not world.coordinator._inbox

    asyncio.run(story())


@pytest.mark.parametrize(("boot", "noticed"), [("this", True), ("next", False)])
@pytest.mark.parametrize("by_s", [-7200.0, 7200.0])
def test_a_clock_that_is_set_while_no_daemon_runs_ends_no_worker(
    tmp_path: Path, by_s: float, boot: str, noticed: bool
) -> None:
    """The next daemon tells it by the time that has passed since the machine has booted; after another boot that can't be told, and
    no worker lives."""

    async def story() -> None:
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            journal.begin_epoch()
            world = World(journal)
            (await _a_worker_that_runs(world, 60.0)).cancel()
            swarm = world.coordinator.swarm
            [before] = [due.at for due in swarm.deadlines if due.kind == "timeout"]
            second = Coordinator(swarm, journal, world.done.append, wall=lambda: time.time() + by_s)
            second.begin(started(second, boot))
            assert world.wanted(cmd.EndWorker) == 0
            told = [row.data["by_s"] for row in journal.read() if row.data["type"] == "ClockSet"]
            assert told == ([pytest.approx(by_s, abs=2)] if noticed else [])
            if noticed:
                [after] = [due.at for due in swarm.deadlines if due.kind == "timeout"]
                assert after - before == pytest.approx(by_s, abs=2)
            assert second.ahead_s == swarm.ahead_s

    asyncio.run(story())

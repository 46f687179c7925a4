"""The loop at the centre, with a real journal and without edges: who waits for something, and when they are woken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from swarm.core import messages as m
from swarm.core.state import Swarm
from swarm.daemon.coordinator import Coordinator
from swarm.edge.journal import Journal
from tests.builders import a_plan, a_task, submitted


def test_who_waits_is_woken_when_it_has_come_and_not_before(tmp_path: Path) -> None:
    """Turns that bring nothing of what somebody waits for cost them no wake-up."""

    async def wakes() -> int:
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            journal.begin_epoch()
            coordinator = _coordinator(journal)
            looks: list[asyncio.Task[None]] = []

            def come() -> bool:
                current = asyncio.current_task()
                looks.extend([waiter] if current is waiter else ())
                return coordinator.swarm.paused

            waiter = asyncio.create_task(coordinator.until(come))
            for n in range(5):
                await coordinator.ask(m.LimitsChanged(at=coordinator.now(), workers_max=n + 1))
            assert not waiter.done()
            await coordinator.ask(m.Paused(at=coordinator.now()))
            await waiter
            return len(looks)

    assert asyncio.run(wakes()) == 2, "looked when it came to wait, and when it was woken"


def test_a_condition_that_fails_ends_whoever_waits_and_nobody_else(tmp_path: Path) -> None:
    """What goes wrong with what somebody waits for is theirs: the loop turns on."""

    async def turns_on() -> None:
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            journal.begin_epoch()
            coordinator = _coordinator(journal)
            waiter = asyncio.create_task(coordinator.until(lambda: coordinator.swarm.runs and 1 / 0))
            await coordinator.ask(m.Paused(at=coordinator.now()))
            await coordinator.ask(submitted(a_plan(a_task("a")), at=coordinator.now()))
            with pytest.raises(ZeroDivisionError):
                await waiter
            await coordinator.ask(m.Resumed(at=coordinator.now()))
            assert not coordinator.swarm.paused

    asyncio.run(asyncio.wait_for(turns_on(), 60))


def _coordinator(journal: Journal) -> Coordinator:
    return Coordinator(Swarm(), journal, lambda _: None)

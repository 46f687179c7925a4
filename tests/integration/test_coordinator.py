"""The loop at the centre, with a real journal and without edges: who waits for something, and when they are woken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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

    asyncio.run(asyncio.wait_for(turns_on(), 120))


def test_what_comes_close_together_shares_a_write(tmp_path: Path) -> None:
    """What threads post while the loop gathers is taken in by the next turn, in one write."""

    async def writes() -> list[list[str]]:
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            journal.begin_epoch()
            journal.follower = written = _Written()
            coordinator = _coordinator(journal, lambda: close_together.pop()() if close_together else None)

            def post() -> None:
                for n in (2, 3):
                    coordinator.post_from_thread(m.LimitsChanged(at=coordinator.now(), workers_max=n))

            close_together = [lambda: _in_a_thread(post)]
            await coordinator.ask(m.LimitsChanged(at=coordinator.now(), workers_max=1))
            await coordinator.until(lambda: coordinator.swarm.limits.workers_max == 3)
            return written.types

    once = "LimitsChanged"
    assert asyncio.run(asyncio.wait_for(writes(), 120)) == [[once], [once, once]]


def test_what_comes_while_a_turn_is_written_has_the_next_turn_and_no_other(tmp_path: Path) -> None:
    """The loop looks at what has come when it has gathered: it is not woken once more, to find nothing and gather again."""
    gathered = 0

    def gather() -> None:
        nonlocal gathered
        gathered += 1

    async def written() -> list[list[str]]:
        with Journal.open(tmp_path / "journal.sqlite") as journal:
            journal.begin_epoch()
            coordinator = _coordinator(journal, gather)
            event = m.LimitsChanged(at=coordinator.now(), workers_max=2)
            journal.follower = follower = _Written(
                lambda: _in_a_thread(lambda: coordinator.post_from_thread(event))
            )
            await coordinator.ask(m.LimitsChanged(at=coordinator.now(), workers_max=1))
            await coordinator.until(lambda: coordinator.swarm.limits.workers_max == 2)
            for _ in range(5):  # whatever is still to come in the loop
                await asyncio.sleep(0)
            return follower.types

    assert asyncio.run(asyncio.wait_for(written(), 120)) == [["LimitsChanged"], ["LimitsChanged"]]
    assert gathered == 2


class _Written:
    """Follows a journal, and remembers which types of events were written at once; meanwhile, the first time, does something."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.types: list[list[str]] = []
        self._meanwhile = meanwhile

    def take(self, rows: Sequence[tuple[Any, ...]]) -> None:
        if not self.types:
            self._meanwhile()
        self.types.append([row[3] for row in rows if row[1] == "event"])

    def close(self) -> None:
        """Has nothing to close."""


def _in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def _coordinator(journal: Journal, gather: Callable[[], None] = lambda: None) -> Coordinator:
    return Coordinator(Swarm(), journal, lambda _: None, gather=gather)

"""Hooks beside a real coordinator and journal, on a machine that lacks what it takes to tell them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.core import messages as m
from swarm.core.model import Limits
from swarm.core.places import Places
from swarm.core.state import Swarm
from swarm.daemon import hooks
from swarm.daemon.coordinator import Coordinator
from swarm.edge.journal import Journal
from swarm.settings import HookSettings
from tests.builders import a_plan, a_task, submitted


class NoThreads:
    """A machine that lets no thread of a hook be made while `lacking`; all others may be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lacking = True
        start = threading.Thread.start

        def begin(thread: threading.Thread) -> None:
            if self.lacking and thread.name.startswith("hook-"):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", begin)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_what_the_machine_lacks_for_a_while_leaves_nothing_untold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be made to tell a hook in, that is said, a stop does not wait for it, and once there are threads again
    all is told that has happened meanwhile."""
    monkeypatch.setattr(hooks, "AGAIN_S", 0.01)
    monkeypatch.setattr(hooks, "CLOSE_S", 1e9)
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        asyncio.run(_lacks_threads(tmp_path, journal, NoThreads(monkeypatch)))


async def _lacks_threads(tmp_path: Path, journal: Journal, machine: NoThreads) -> None:
    file = tmp_path / "told"
    settings = {"mine": HookSettings(command=f"cat >> {file}", on=["PlanAccepted"])}
    journal.begin_epoch()
    coordinator = Coordinator(Swarm(), journal, lambda _: None)
    coordinator.begin(m.DaemonStarted(at=1.0, version="1", pid=1, limits=Limits(), rules=m.RULES))
    turning = asyncio.create_task(coordinator.run())
    mine = hooks.Hooks(coordinator, settings, Places(tmp_path), tmp_path)
    await coordinator.ask(submitted(a_plan(a_task("a")), at=2.0))
    await _until(lambda: mine.notes)
    assert mine.notes == ["Hook mine can't be told of anything at present: can't start new thread."]
    async with asyncio.timeout(60):
        await mine.close(catch_up=True)
    assert not file.exists()
    mine = hooks.Hooks(coordinator, settings, Places(tmp_path), tmp_path)
    await _until(lambda: mine.notes)
    machine.lacking = False
    await _until(lambda: not mine.notes)
    assert [json.loads(line)["type"] for line in file.read_text().splitlines()] == ["PlanAccepted"]
    await coordinator.ask(submitted(a_plan(a_task("a"), a_task("b")), at=3.0))
    async with asyncio.timeout(60):
        await mine.close(catch_up=True)
    assert len(file.read_text().splitlines()) == 2
    turning.cancel()

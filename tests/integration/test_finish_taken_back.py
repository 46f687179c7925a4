"""When a finish can be taken back, and what becomes of what it is at just then."""

from __future__ import annotations

import asyncio

import pytest

from swarm.core.model import Reason
from swarm.daemon.finishing import STOPPED, TAKEN_BACK, Grip, Outlook, conflict_reason


async def _suites(began: asyncio.Event, ended: list[str]) -> Reason | None:
    began.set()
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("suites")
    return None


def test_what_is_taken_back_ends_its_suites_and_is_not_carried_over() -> None:
    """Suites that run are ended, the reason says that it was taken back, and nothing is carried over after it."""

    async def take_back() -> None:
        grip, began, ended = Grip(), asyncio.Event(), list[str]()
        waiting = asyncio.ensure_future(grip.through(_suites(began, ended)))
        await began.wait()
        grip.take_back(TAKEN_BACK)
        assert await waiting == TAKEN_BACK
        assert ended == ["suites"]
        assert grip.let_go() == TAKEN_BACK

    asyncio.run(take_back())


def test_what_is_taken_back_before_its_suites_begins_none() -> None:
    """A finish that was taken back while it was looked at runs no suite."""

    async def take_back() -> None:
        grip, began = Grip(), asyncio.Event()
        grip.take_back(STOPPED)
        assert await grip.through(_suites(began, [])) == STOPPED
        assert not began.is_set()

    asyncio.run(take_back())


def test_what_is_carried_over_is_not_taken_back() -> None:
    """From the first file on there is no way back: it is told as what it becomes."""
    grip = Grip()
    assert grip.let_go() is None
    grip.take_back(TAKEN_BACK)
    assert grip.why is None


def test_a_daemon_that_ends_is_nobody_who_takes_it_back() -> None:
    """When the task is cancelled itself, by a daemon that ends, that goes through: the next daemon goes on with the finish."""

    async def end() -> None:
        grip, began, ended = Grip(), asyncio.Event(), list[str]()
        waiting = asyncio.ensure_future(grip.through(_suites(began, ended)))
        await began.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert ended == ["suites"]
        assert grip.why is None

    asyncio.run(end())


def test_of_many_paths_in_conflict_it_is_said_how_many() -> None:
    """Five are named, and of the rest their number; all of them are in the facts."""
    paths = tuple(f"f{n}" for n in range(1500))
    reason = conflict_reason("main", Outlook("a", "b", paths, conflict=paths))
    assert reason.text == "staging conflicts with main in f0, f1, f2, f3, f4 and 1495 more"
    assert reason.facts["paths"] == list(paths)

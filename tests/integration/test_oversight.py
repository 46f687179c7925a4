"""What is looked at again and again while there is anything to look at: outputs of suites, and the loop that does it for all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from swarm.daemon import oversight
from swarm.daemon.looking import Looking
from swarm.edge import output, process


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def _turns() -> None:
    """Lets whatever is still to come in the loop happen."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_an_unforeseen_error_does_not_end_the_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody thought of costs one look and is logged; the next one keeps the output to its size."""
    monkeypatch.setattr(oversight, "LOOK_EVERY_S", 0.01)
    keeps, failures = output.bound, iter([ValueError("nobody thought of that")])

    def bound(path: Path, most: int) -> bool:
        for failure in failures:
            raise failure
        return keeps(path, most)

    monkeypatch.setattr(output, "bound", bound)
    path = tmp_path / "output"
    path.write_bytes(b"x" * 100_000)

    async def story() -> None:
        looks = oversight.Oversight(
            None,
            lambda work: asyncio.ensure_future(asyncio.to_thread(work)),
            lambda event: None,
            lambda: 0.0,
            output_bytes_max=10_000,
            processes_max=0,
        )
        with looks.bounding(path, process.identity_of(os.getpid()), lambda: None), capture_logs() as logged:
            await _until(lambda: path.stat().st_blocks * 512 <= 20_000)
            assert [each["event"] for each in logged if each["log_level"] == "error"] == ["look.failed"]
        looks.close()

    asyncio.run(story())


def test_nothing_wakes_up_where_there_is_nothing_to_look_at() -> None:
    """A look follows the other while there is anything to look at, none after that before it is begun again, and none at all after
    the close; an error that stays the same is told once."""

    async def story() -> None:
        things: list[str] = []
        looks: list[str] = []

        async def look() -> None:
            looks.append(things.pop())
            raise ValueError("always")

        looking = Looking("things", look, lambda: 0.0 if things else None)
        looking.begin()
        await _turns()
        assert looks == []
        for more in ("abc", "de"):
            things.extend(more)
            looking.begin()
            looking.begin()
            await _until(lambda: not things)
            await _turns()
        assert looks == ["c", "b", "a", "e", "d"]
        things.append("f")
        looking.close()
        looking.begin()
        await _turns()
        assert things == ["f"]

    with capture_logs() as logged:
        asyncio.run(story())
    assert [each["event"] for each in logged] == ["look.failed"]

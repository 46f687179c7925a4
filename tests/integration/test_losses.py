"""What is taken away under a daemon is noticed, once, and not before it is gone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.core.places import Places
from swarm.core.state import Swarm
from swarm.daemon import losses
from swarm.daemon.losses import Losses


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("held", [False, True], ids=["", "while somebody is in it"])
def test_what_is_half_gone_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """As long as a folder is being deleted nothing is made in its place; then its loss is told, once, whoever is still in it."""
    monkeypatch.setattr(losses, "LOOK_AFTER_S", 0.01)
    monkeypatch.setattr(losses, "LOOKS_MAX", 1_000_000)
    landing = Places(tmp_path).landing
    (landing / "objects").mkdir(parents=True)
    (landing / "HEAD").write_text("ref: refs/heads/main\n")
    if held:
        monkeypatch.chdir(landing)
    told: list[str] = []

    async def lose() -> None:
        watched = Losses(
            Places(tmp_path),
            Swarm(),
            refound=lambda: told.append("landing"),
            mend=lambda: told.append("staging"),
        )
        (landing / "HEAD").unlink()
        await until(lambda: watched._looks >= 3)
        assert told == []
        shutil.rmtree(landing)
        await until(lambda: bool(told))
        (tmp_path / "other").touch()
        watched.close()

    asyncio.run(lose())
    assert told == ["landing"]

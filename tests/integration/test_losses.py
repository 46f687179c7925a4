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
from tests.builders import a_plan, a_task
from tests.stories import a_story


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


def a_landing_repository(state: Path) -> Path:
    landing = Places(state).landing
    (landing / "objects").mkdir(parents=True)
    (landing / "HEAD").write_text("ref: refs/heads/main\n")
    return landing


@pytest.mark.parametrize("held", [False, True], ids=["", "while somebody is in it"])
def test_what_is_half_gone_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """As long as a folder is being deleted nothing is made in its place; then its loss is told, once, whoever is still in it."""
    monkeypatch.setattr(losses, "LOOK_AFTER_S", 0.01)
    monkeypatch.setattr(losses, "LOOKS_MAX", 1_000_000)
    landing = a_landing_repository(tmp_path)
    if held:
        monkeypatch.chdir(landing)
    told: list[str] = []

    async def mend() -> None:
        told.append("staging")

    async def lose() -> None:
        def refound() -> None:
            told.append("landing")
            watched.close()  # as the daemon does, which begins anew

        watched = Losses(Places(tmp_path), Swarm(), refound=refound, mend=mend)
        (landing / "HEAD").unlink()
        await until(lambda: watched._looks >= 3)
        assert told == []
        shutil.rmtree(landing)
        await until(lambda: bool(told))
        (tmp_path / "other").touch()

    asyncio.run(lose())
    assert told == ["landing"]


def test_what_goes_again_before_it_is_watched_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A staging worktree that is deleted in the moment in which it was made again is made once more; one that can't be made is not
    tried for ever."""
    monkeypatch.setattr(losses, "LOOK_AFTER_S", 0.01)
    story = a_story(a_plan(a_task("a")))
    story.run.worktree = str(tmp_path / "staging")
    mark = tmp_path / "staging" / ".git"
    made: list[bool] = []
    a_landing_repository(tmp_path)

    async def mend() -> None:
        made.append(len(made) == 1)  # the first is deleted at once, the third and fourth come to nothing
        if made[-1]:
            mark.parent.mkdir()
            mark.touch()

    async def lose() -> None:
        watched = Losses(Places(tmp_path), story.swarm, refound=made.clear, mend=mend)
        for expected in (2, 4):
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
            watched.watch()
            shutil.rmtree(mark.parent)
            while len(made) < expected or watched._mending is not None:
                await asyncio.sleep(0.01)
        for _ in range(20):
            watched.watch()
            await asyncio.sleep(0)
        assert watched._timer is None
        watched.close()

    asyncio.run(asyncio.wait_for(lose(), 120))
    assert made == [False, True, False, False]

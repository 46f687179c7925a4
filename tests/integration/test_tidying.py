"""Old objects of the landing repository go while nothing happens, and only then."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.daemon.tidying import AT_ONCE, Tidying
from swarm.edge import pruning
from swarm.edge.git.objects import write_loose
from tests.integration.test_landing import Yard, loose


class Quiet:
    """A daemon with nothing to do: `seq` is the number of its last record; `looked` is called, in a thread, once it was looked."""

    def __init__(
        self, yard: Yard, *, idle: bool = True, looked: Callable[[Quiet], None] = lambda _: None
    ) -> None:
        self.seq = 7
        self.tidying = Tidying(
            yard.path,
            yard.lock,
            idle=lambda: idle,
            seq=lambda: self.seq,
            in_thread=self._in_thread,
            idle_s=0.0,
        )
        self._looked = looked

    def _in_thread(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        def look() -> Any:
            found = work()
            self._looked(self)
            return found

        return asyncio.get_running_loop().run_in_executor(None, look)

    async def rest(self) -> None:
        """Comes to rest, and waits until nothing more is looked at."""
        self.tidying.at_rest()
        while self.tidying._timer is not None or self.tidying._tidying is not None:
            await asyncio.sleep(0.001)


@pytest.fixture
def yard(repo: Path) -> Iterator[Yard]:
    """The landing repository of a run."""
    made = Yard(repo)
    yield made
    made.landing.close()


@pytest.fixture
def many(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Old objects that nothing names, which count as many."""
    monkeypatch.setattr(pruning, "LOOSE_MIN", 0)
    return [an_old_object(yard, n) for n in range(3 * AT_ONCE)]


def an_old_object(yard: Yard, n: int) -> Path:
    oid = write_loose(str(yard.path / "objects"), b"blob", b"%d\n" % n, sha256=False, durable=False)
    path = yard.path / "objects" / oid[:2] / oid[2:]
    os.utime(path, (time.time() - pruning.OLD_S - 60,) * 2)
    return path


def test_old_objects_go_once_a_day_while_nothing_happens(yard: Yard, many: list[Path]) -> None:
    """All of them go, and what is needed stays; a day later they are looked for again, not before."""
    needed = loose(yard) - {path.parent.name + path.name for path in many}
    asyncio.run(Quiet(yard).rest())
    assert loose(yard) == needed
    again = an_old_object(yard, 0)
    asyncio.run(Quiet(yard).rest())
    assert again.exists()


def test_nothing_goes_where_something_is_to_be_done(yard: Yard, many: list[Path]) -> None:
    """While a run goes on nothing is looked for."""
    asyncio.run(Quiet(yard, idle=False).rest())
    assert all(path.exists() for path in many)


def test_what_happens_meanwhile_keeps_all_there(yard: Yard, many: list[Path]) -> None:
    """Something that happens between the look and the removal may count on an object: then none goes."""

    def happens(daemon: Quiet) -> None:
        daemon.seq += 1

    asyncio.run(Quiet(yard, looked=happens).rest())
    assert all(path.exists() for path in many)


def test_what_happens_while_it_is_removed_ends_it(
    yard: Yard, many: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is left no more goes once something has happened."""
    daemon = Quiet(yard)
    remove = pruning.remove

    def happens(*found: Any, **lock: Any) -> int:
        daemon.seq += 1
        return remove(*found, **lock)

    monkeypatch.setattr(pruning, "remove", happens)
    asyncio.run(daemon.rest())
    assert sum(path.exists() for path in many) == len(many) - AT_ONCE

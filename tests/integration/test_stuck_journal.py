"""A journal that the machine does not let be written: nothing is acted on, nothing is lost, and it goes on by itself."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.model import Limits
from swarm.core.state import Swarm
from swarm.daemon import recovery
from swarm.daemon.coordinator import Coordinator
from swarm.edge.journal import Journal, JournalDamaged, JournalFull, JournalStuck, Record, record_of
from swarm.errors import SwarmError
from tests.adversity import fill, small_disk
from tests.builders import a_plan, a_task, submitted


def a_record(n: int, text: str = "") -> Record:
    return record_of("fact", {"type": "Said", "at": float(n), "text": text})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.sqlite") as opened:
        opened.begin_epoch()
        yield opened


def test_an_append_that_is_repeated_is_not_written_twice(journal: Journal) -> None:
    """The same records again, after the number they followed, change nothing; others at that place are refused."""
    assert journal.append([a_record(1)], after=0) == 1
    assert journal.append([a_record(2), a_record(3)], after=1) == 3
    assert journal.append([a_record(2), a_record(3)], after=1) == 3
    assert journal.count() == 3
    for wrong in ([a_record(2)], [a_record(2), a_record(4)]):
        with pytest.raises(JournalDamaged):
            journal.append(wrong, after=1)
    assert journal.verify() == []


def test_what_keeps_the_journal_from_being_written_passes(journal: Journal, tmp_path: Path) -> None:
    """A journal on a file system that became read-only, or that somebody else holds, is stuck; afterwards the same append goes
    through."""
    journal._connection.execute("PRAGMA query_only=ON")
    with pytest.raises(JournalStuck):
        journal.append([a_record(1)], after=0)
    journal._connection.execute("PRAGMA query_only=OFF")
    journal._connection.execute("PRAGMA busy_timeout=10")
    other = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalStuck):
        journal.append([a_record(1)], after=0)
    other.close()
    assert journal.append([a_record(1)], after=0) == 1


def test_a_journal_in_a_folder_that_is_shut_is_reached_again(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this user's rights in its folder were taken away they are given back, and the record is written; where that can't be
    done, the journal is stuck and the folder named, not taken for replaced."""
    look = os.stat

    def as_a_user(path: str | Path, **more: Any) -> os.stat_result:
        """Has root find out what anybody else would."""
        if path == journal.path and look(tmp_path).st_mode & 0o100 == 0:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path, **more)

    monkeypatch.setattr(os, "stat", as_a_user)
    tmp_path.chmod(0)
    assert journal.append([a_record(1)], after=0) == 1
    assert look(tmp_path).st_mode & 0o700 == 0o700
    tmp_path.chmod(0)
    with monkeypatch.context() as refused:
        refused.setattr(os, "chmod", lambda *_: (_ for _ in ()).throw(PermissionError()))
        with pytest.raises(JournalStuck, match="its mode") as stuck:
            journal.append([a_record(2)], after=1)
    assert stuck.value.next_step == f"chmod u+rwx {tmp_path}"
    assert journal.append([a_record(2)], after=1) == 2


def test_a_full_disk_loses_no_record(tmp_path: Path) -> None:
    """However often the disk fills up and is relieved, each record that was appended is there once, in order."""
    with small_disk(tmp_path / "disk", "3m") as disk, Journal.open(disk / "journal.sqlite") as journal:
        journal.begin_epoch()
        seq = stuck = 0
        for n in range(1, 60):
            ballast = fill(disk, leave=4096 * (n % 7)) if n % 3 == 0 else None
            try:
                seq = journal.append([a_record(n, "x" * 9000)], after=seq)
            except JournalFull:
                stuck += 1
                assert ballast is not None
                ballast.unlink()
                seq = journal.append([a_record(n, "x" * 9000)], after=seq)
            if ballast is not None:
                ballast.unlink(missing_ok=True)
            assert seq == n
        assert stuck > 5
        assert [row.data["at"] for row in journal.read(check=True)] == [float(n) for n in range(1, 60)]
        assert journal.verify() == []


async def _settled(condition: Callable[[], object], coordinator: Coordinator) -> None:
    async with asyncio.timeout(120):
        await coordinator.until(condition)


def test_nothing_is_acted_on_that_is_not_remembered(tmp_path: Path) -> None:
    """While the disk is full a request is not answered and nothing is carried out, others are refused with the reason; after it
    everything happens once, and the journal has it."""
    with small_disk(tmp_path / "disk", "3m") as disk, Journal.open(disk / "journal.sqlite") as journal:
        asyncio.run(_fills_up(disk, journal))
        again = recovery.replay(journal)
        assert list(again.runs) == ["plan", "other"]


async def _fills_up(disk: Path, journal: Journal) -> None:
    journal.begin_epoch()
    done: list[cmd.Command] = []
    coordinator = Coordinator(Swarm(), journal, done.append)
    coordinator.begin(m.DaemonStarted(at=1.0, version="1", pid=1, limits=Limits(), rules=m.RULES))
    turning = asyncio.create_task(coordinator.run())
    ballast = fill(disk)
    big = a_plan(*(a_task(f"t{n}", title="x" * 1000) for n in range(100)))
    asked = asyncio.create_task(coordinator.ask(submitted(big, at=2.0)))
    await _settled(lambda: coordinator.stuck, coordinator)
    assert done == []
    assert not asked.done()
    assert coordinator.seq == journal.last_seq() == 1
    with pytest.raises(SwarmError, match="no room to write the journal"):
        await coordinator.ask(m.Paused(at=3.0))
    other = dataclasses.replace(a_plan(a_task("a")), id="other")
    coordinator.post(submitted(other, at=3.0))
    ballast.unlink()
    await _settled(lambda: coordinator.stuck is None and "other" in coordinator.swarm.runs, coordinator)
    await asked
    assert [(type(c).__name__, getattr(c, "run", None)) for c in done] == [
        ("PrepareRun", "plan"),
        ("PrepareRun", "other"),
    ]
    turning.cancel()


def test_who_would_give_up_hears_that_the_event_itself_can_not_be_remembered(tmp_path: Path) -> None:
    """Where the disk has become full unnoticed, who gives up is not kept until there is room: it hears why when that turns out, and
    the loop goes on with the event afterwards. With room it is answered like anybody."""
    with small_disk(tmp_path / "disk", "3m") as disk, Journal.open(disk / "journal.sqlite") as journal:
        asyncio.run(_gives_up(disk, journal))


async def _gives_up(disk: Path, journal: Journal) -> None:
    journal.begin_epoch()
    coordinator = Coordinator(Swarm(), journal, lambda _: None)
    coordinator.begin(m.DaemonStarted(at=1.0, version="1", pid=1, limits=Limits(), rules=m.RULES))
    turning = asyncio.create_task(coordinator.run())
    await coordinator.ask(m.Paused(at=2.0), gives_up=True)
    ballast = fill(disk)
    with pytest.raises(SwarmError, match="no room to write the journal"):
        async with asyncio.timeout(120):
            await coordinator.ask(m.StopRequested(at=3.0, end_workers=True), gives_up=True)
    assert coordinator.seq == journal.last_seq() == 2
    ballast.unlink()
    await _settled(lambda: coordinator.stuck is None, coordinator)
    assert coordinator.seq == journal.last_seq() == 3
    turning.cancel()

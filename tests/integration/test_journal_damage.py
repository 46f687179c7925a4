"""Damage of every kind, anywhere in the journal's file: it is noticed or harmless, it never gives a wrong state or a traceback, and
the journal can be rebuilt as it was."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.audit.folding import fold
from swarm.core.places import Places
from swarm.daemon import rebuild, recovery
from swarm.edge import git
from swarm.edge.journal import Journal, Record, data_of, record_of
from swarm.errors import SwarmError
from tests.stories import snapshot as everything
from tests.unit.test_random_walk import walk

FLIPS, CUTS = 75, 30


@pytest.fixture(scope="module")
def history() -> list[Record]:
    """The events of a walk, so many that little of the file is empty: what is flipped there harms nothing."""
    *_, world = walk(1, steps=1600)
    return [record_of("event", json.loads(line)) for line in world.log]


@pytest.fixture
def places(tmp_path: Path, history: list[Record]) -> Places:
    """A state folder whose daemon has ended in good order."""
    return closed(tmp_path, history)


def closed(tmp_path: Path, history: list[Record]) -> Places:
    places = Places(tmp_path / "state")
    places.state.mkdir()
    with recovery.open_journal(places) as journal:
        journal.begin_epoch()
        for start in range(0, len(history), 7):
            journal.append(history[start : start + 7])
    return places


def damages(whole: bytes) -> Iterator[bytes]:
    """Flipped bits in each region of the file, and cuts at many places; the same ones each time."""
    chance = random.Random(3)
    step = max(1, len(whole) // FLIPS)
    for start in range(0, len(whole), step):
        place = min(len(whole) - 1, start + chance.randrange(step))
        yield whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]
    for _ in range(CUTS):
        yield whole[: chance.randrange(len(whole))]


def at_start(places: Places) -> Any:
    """What a start gets from the journal: everything that is known, or the reason why nothing is."""
    try:
        with recovery.open_journal(places) as journal:
            journal.begin_epoch()
            return everything(recovery.restore(places, journal))
    except SwarmError as error:
        return error


def test_damage_is_noticed_or_harmless(places: Places) -> None:
    """A start on a damaged file gives the state that was, or refuses with cause, consequence and next step; nothing in between."""
    with Journal.open(places.journal, readonly=True) as journal:
        right = everything(recovery.replay(journal))
    whole, noticed = places.journal.read_bytes(), 0
    for content in damages(whole):
        for suffix in ("-wal", "-shm"):
            Path(f"{places.journal}{suffix}").unlink(missing_ok=True)
        places.journal.write_bytes(content)
        found = at_start(places)
        if isinstance(found, SwarmError):
            noticed += 1
            assert found.cause
            assert found.consequence
            assert found.next_step
        else:
            assert found == right
    assert noticed > CUTS + FLIPS // 2


def test_an_audit_tells_of_damage(tmp_path: Path, history: list[Record]) -> None:
    """An audit of a damaged file says that it is damaged, and never fails itself: a page that is half there has anything in its
    columns. That comes about where the file is small."""
    places = closed(tmp_path, history[:60])
    whole = places.journal.read_bytes()
    for content in [*damages(whole)][-CUTS:]:
        places.journal.write_bytes(content)
        assert any(breach.invariant == "I18" for breach in fold(places).breaches)


@pytest.mark.parametrize("text", [None, 7, "7", "[1]", "null", "{", b"\xff"])
def test_a_record_without_its_text_is_damage(text: Any) -> None:
    """A damaged page may have anything in any column: what is no text of a JSON table is damage like any other."""
    with pytest.raises(ValueError, match=r"JSON|Expecting|decode|object|sequence"):
        data_of(("event", 1.0, "TaskLanded", "run", "task", 1, text))


def test_a_damaged_journal_is_rebuilt_as_it_was(places: Places, repo: Path) -> None:
    """Whatever was flipped or cut off, the rebuilt journal has every record, the damaged file is kept, and a start goes on."""
    repository = git.Repository.discover(repo)
    with Journal.open(places.journal, readonly=True) as journal:
        right, rows = (
            everything(recovery.replay(journal)),
            [row for chunk in journal.chunks(0) for row in chunk],
        )
    whole = places.journal.read_bytes()
    for content in [b"", b"no database" * 99, *random.Random(4).sample(list(damages(whole)), 12)]:
        places.journal.write_bytes(content)
        found = rebuild.rebuild(places, repository)
        assert at_start(places) == right
        with Journal.open(places.journal, readonly=True) as journal:
            assert journal.verify() == []
            assert [row for chunk in journal.chunks(0) for row in chunk] == rows
        assert all(each.mended for each in found)
        kept = list(places.state.glob("journal.sqlite.damaged-*"))
        assert bool(kept) == bool(found)
        for each in kept:
            each.unlink()


def test_what_was_put_aside_in_the_same_second_stays(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something damaged is moved to a place of its own, also where another was moved in that second."""
    monkeypatch.setattr("swarm.daemon.recovery.time.strftime", lambda *_: "now")
    for _ in range(3):
        recovery.aside(places.journal).touch()
    kept = sorted(path.name for path in places.state.glob("*.damaged-*"))
    assert kept == [f"journal.sqlite.damaged-now{number}" for number in ("", "-2", "-3")]


def test_with_both_copies_damaged_the_longer_beginning_is_kept(places: Places, repo: Path) -> None:
    """Where neither copy is whole, every record before the first damage of the better one comes back, and both files are kept."""
    repository = git.Repository.discover(repo)
    (file,) = places.transcript.iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    lines[40] = lines[40].replace(b'"at":', b'"at":1', 1)
    file.write_bytes(b"".join(lines))
    places.journal.unlink()
    (told,) = [each for each in rebuild.rebuild(places, repository) if "transcript" in each.remedy]
    assert "40 records" in told.remedy
    with Journal.open(places.journal, readonly=True) as journal:
        assert journal.verify() == []
        assert journal.last_seq() == 40
    (aside,) = places.state.glob("transcript.damaged-*")
    assert (aside / file.name).read_bytes() == b"".join(lines)

"""Snapshots against real journals: they give what a replay gives, and what does not fit is never believed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.core import messages as m
from swarm.core.model import Limits
from swarm.core.places import Places
from swarm.core.state import Swarm, pending_commands
from swarm.daemon import recovery
from swarm.edge.journal import Journal, JournalDamaged, record_of, snapshot
from swarm.edge.journal.snapshot import Snapshot, SnapshotUnusable
from tests.builders import a_plan, a_task
from tests.stories import snapshot as everything
from tests.unit.test_random_walk import World, walk

SEEDS = int(os.environ.get("SWARM_WALK_SEEDS", "16"))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


@pytest.fixture
def journal(places: Places) -> Iterator[Journal]:
    with Journal.open(places.journal) as opened:
        opened.begin_epoch()
        yield opened


def remember(journal: Journal, world: World, start: int) -> int:
    """Appends what the world has logged from `start` on, and gives how much it has logged."""
    journal.append([record_of("event", json.loads(line)) for line in world.log[start:]])
    return len(world.log)


def take(places: Places, journal: Journal, swarm: Swarm) -> None:
    snapshots = recovery.Snapshots(places.snapshot, journal)
    snapshots.write(snapshots.take(swarm))


def a_swarm(journal: Journal) -> Swarm:
    """A small history in the journal, and the swarm that it gives."""
    events: list[m.Event] = [
        m.DaemonStarted(at=1.0, version="1", pid=1, limits=Limits(), rules=m.RULES),
        m.PlanSubmitted(
            at=2.0,
            run="r",
            plan=a_plan(a_task("t", claims=["a"]), name="r"),
            base_branch="main",
            base_commit="b" * 40,
        ),
    ]
    journal.append([record_of("event", m.event_to_json(event)) for event in events])
    return recovery.replay(journal)


# --- the same as a replay -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_snapshot_and_what_came_after_give_what_a_replay_gives(
    seed: int, places: Places, journal: Journal
) -> None:
    """Wherever a history is cut into a snapshot and a rest, the swarm, its outstanding commands and all that comes of it later are
    those of the replay from the first event on."""
    chance, logged, taken = random.Random(seed), 0, 0
    for world in walk(seed, steps=150):
        if chance.random() < 0.05:
            logged = remember(journal, world, logged)
            take(places, journal, world.swarm)
            taken += 1
        elif chance.random() < 0.05:
            logged = remember(journal, world, logged)
            restored = recovery.restore(places, journal)
            assert not taken or snapshot.read(places.snapshot)  # else both ways would be one
            assert everything(restored) == everything(recovery.replay(journal))
            assert pending_commands(restored) == pending_commands(world.swarm)
            world.swarm = restored  # the rest of the walk is decided by the restored one
        world.check()
    remember(journal, world, logged)
    assert (
        everything(recovery.restore(places, journal))
        == everything(recovery.replay(journal))
        == everything(world.swarm)
    )
    assert taken


def test_what_is_one_object_stays_one(places: Places, journal: Journal) -> None:
    """An attempt whose worktree is being given back is the task's own attempt, in the restored swarm too."""
    swarm = a_swarm(journal)
    for world in walk(3):
        if any(run.returning for run in world.swarm.runs.values()):
            swarm = world.swarm
            break
    take(places, journal, swarm)
    restored = snapshot.read(places.snapshot).swarm
    (run,) = [run for run in restored.runs.values() if run.returning]
    for (task, n), attempt in run.returning.items():
        assert attempt is run.tasks[task].attempts[n - 1]


def test_every_class_of_the_core_can_be_held() -> None:
    """Each dataclass that a swarm may hold has slots, by which alone a snapshot fills it."""
    for cls in snapshot._CLASSES.values():
        for field in dataclasses.fields(cls):
            assert hasattr(getattr(cls, field.name), "__set__"), f"{cls.__name__}.{field.name} is no slot"


# --- what does not fit ----------------------------------------------------------------------------------------------------


def test_a_snapshot_of_another_journal_is_not_used(places: Places, journal: Journal, tmp_path: Path) -> None:
    """A snapshot whose record has another checksum in this journal is passed over, and the events are replayed."""
    swarm = a_swarm(journal)
    take(places, journal, swarm)
    other = Places(tmp_path / "other")
    other.state.mkdir()
    with Journal.open(other.journal) as another:
        another.begin_epoch()
        start = m.DaemonStarted(at=1.0, version="2", pid=1, limits=Limits(), rules=m.RULES)
        another.append(
            [record_of("event", m.event_to_json(start)), record_of("fact", {"type": "F", "at": 1.0})]
        )
        os.rename(places.snapshot, other.snapshot)
        restored = recovery.restore(other, another)
    assert restored.version == "2"
    assert not restored.runs


def test_a_journal_that_is_older_than_its_snapshot_is_refused(
    places: Places, journal: Journal, tmp_path: Path
) -> None:
    """Where the snapshot knows more records than the journal has, the journal has lost its end; nothing is rebuilt from it."""
    start = m.DaemonStarted(at=1.0, version="1", pid=1, limits=Limits(), rules=m.RULES)
    journal.append([record_of("event", m.event_to_json(start))])
    copy = Places(tmp_path / "copy")
    copy.state.mkdir()
    with Journal.open(copy.journal) as older:
        older.begin_epoch()
        older.append([record_of("event", m.event_to_json(start))])
        journal.append([record_of("event", m.event_to_json(start))])
        take(copy, journal, recovery.replay(journal))
        with pytest.raises(JournalDamaged, match=r"ends at record 1, .* at record 2") as caught:
            recovery.restore(copy, older)
    assert caught.value.next_step


def test_a_snapshot_of_other_code_is_not_used(
    places: Places, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that another version of the core made is passed over, whatever it holds."""
    take(places, journal, a_swarm(journal))
    assert snapshot.read(places.snapshot).seq == 2
    monkeypatch.setattr(snapshot, "fingerprint", lambda: "another")
    with pytest.raises(SnapshotUnusable, match="another version"):
        snapshot.read(places.snapshot)
    assert set(recovery.restore(places, journal).runs) == {"r"}


def test_no_byte_of_a_snapshot_can_be_changed_unnoticed(places: Places, journal: Journal) -> None:
    """A flipped byte anywhere, a cut anywhere and an addition are noticed, and the start replays instead."""
    take(places, journal, a_swarm(journal))
    whole = places.snapshot.read_bytes()
    damaged = [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in range(len(whole))]
    damaged += [whole[:n] for n in range(0, len(whole), 7)] + [whole + b"x"]
    for content in damaged:
        places.snapshot.write_bytes(content)
        with pytest.raises(SnapshotUnusable):
            snapshot.read(places.snapshot)
    assert set(recovery.restore(places, journal).runs) == {"r"}
    assert snapshot.seq_of(places.snapshot) in (0, 2)


@pytest.mark.parametrize(
    "evil",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        pickle.dumps(os.getcwd),
        b"cswarm.core.model\nTask\n.",
        b"cswarm.edge.journal.snapshot\nfingerprint\n(tR.",
        b"cswarm.edge.journal.snapshot\n_at.__globals__\n.",
    ],
)
def test_a_snapshot_that_somebody_forged_runs_nothing(evil: bytes, places: Places, journal: Journal) -> None:
    """A file with right digests that names functions to call is refused before any is looked up."""
    content = snapshot.encode(Snapshot(2, 0, a_swarm(journal)))
    header, _ = snapshot._opened(content)
    forged = {**header, "bytes": len(evil), "sha256": hashlib.sha256(evil).hexdigest(), "counts": {}}
    line = json.dumps(forged).encode() + b"\n"
    digest = hashlib.sha256(line).hexdigest().encode()
    places.snapshot.write_bytes(snapshot._MAGIC + digest + b" " + line + evil)
    with pytest.raises(SnapshotUnusable, match="has no place"):
        snapshot.read(places.snapshot)


def test_a_snapshot_that_can_not_be_written_leaves_the_last_one(
    places: Places, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed or failed while the new one is written, the last one is there; the next one takes its place all the same."""
    swarm = a_swarm(journal)
    take(places, journal, swarm)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    journal.append([record_of("fact", {"type": "F", "at": 3.0})])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            take(places, journal, swarm)
    assert snapshot.read(places.snapshot).seq == 2
    take(places, journal, swarm)
    assert snapshot.read(places.snapshot).seq == 3
    assert sorted(file.name for file in places.state.glob("journal.snapshot*")) == ["journal.snapshot"]
    assert places.snapshot.stat().st_mode & 0o777 == 0o600


# --- when one is taken ----------------------------------------------------------------------------------------------------


def test_snapshots_are_taken_seldom(
    places: Places, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is due after so many records, and not before the time that the last one took has been spread fifty-fold."""
    clock = [100.0]
    monkeypatch.setattr("swarm.daemon.recovery.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(snapshot, "encode", lambda _: clock.__setitem__(0, clock[0] + 2.0) or b"")
    snapshots = recovery.Snapshots(places.snapshot, journal)
    apart = recovery.RECORDS_APART
    assert not snapshots.due(apart - 1)
    assert snapshots.due(apart)
    snapshots.take(a_swarm(journal))
    assert not snapshots.due(10 * apart)
    clock[0] += 2.0 * recovery.REST - 0.5
    assert not snapshots.due(10 * apart)
    clock[0] += 1.0
    assert snapshots.due(10 * apart)
    assert not snapshots.due(apart + 1)

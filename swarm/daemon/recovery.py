"""What a daemon does before its first turn: open the journal, rebuild the swarm from it, and look after what a crash left.

There is no second way of doing things for recovery: the rebuilt state says which commands are outstanding, and carrying them
out finds what is already done. Here is only what no command stands for.

The state is the fold of the journal's events, and `replay` is that fold. A snapshot only shortens the way: `restore` starts from
one where it fits this journal and this code, and gives what `replay` would have given.

Rules for editing: everything here may be killed at any point and done again.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swarm.core import machine
from swarm.core.messages import event_from_json
from swarm.core.places import Places
from swarm.core.state import IllegalEvent, Swarm
from swarm.edge import discards
from swarm.edge.journal import Journal, JournalDamaged, Transcript, TranscriptDamaged, ever_used, snapshot
from swarm.errors import SwarmError

RECORDS_APART = 10_000  # a start replays so many in about a second
RECORDS_AT_END = 1_000  # … and so many in no time
REST = 50  # a snapshot that took a second is followed by at least so many seconds without one


def open_journal(places: Places) -> Journal:
    """Opens the journal for writing, with its transcript; where anything says that there was one, it must be there and be no older.

    Raises `JournalDamaged`. A transcript that is damaged is moved aside and written anew: the journal has everything.
    """
    transcript = Transcript(places.transcript)
    journal = Journal.open(places.journal, expect_existing=ever_used(places))
    try:
        try:
            transcript.follow(journal)
        except TranscriptDamaged:
            transcript.move_aside(aside(places.transcript))
            transcript.follow(journal)
    except BaseException:
        journal.close()
        raise
    return journal


def aside(path: Path) -> Path:
    """Names the place to which something damaged is moved: beside where it was, with the time, and nobody else's of that second."""
    place = first = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    number = 1
    while os.path.lexists(place):
        number += 1
        place = first.with_name(f"{first.name}-{number}")
    return place


# --- the state ----------------------------------------------------------------------------------------------------------


def replay(journal: Journal, *, check: bool = True) -> Swarm:
    """Rebuilds the swarm from the first event on. Raises `SwarmError` where they don't make sense to this version."""
    with no_collection():
        return _step_through(Swarm(), journal, 0, check=check)


def restore(places: Places, journal: Journal, *, check: bool = True) -> Swarm:
    """Rebuilds the swarm from the newest snapshot and what came after it; from the first event on where none fits.

    Raises `JournalDamaged` where the journal is older than it was: the snapshot is of a record that it does not have, or a run is
    in it that was discarded.
    """
    with no_collection():
        swarm = _from_snapshot(places, journal, check=check)
    for name in discards.unknown(places, swarm):
        raise JournalDamaged(
            f"The journal {journal.path} has run {name} and does not know that it was discarded: it is an older copy.",
            "Going on from it would do the work of that run again. Nothing was started and nothing was changed.",
            "swarm recover --journal takes in what is missing",
        )
    return swarm


def _from_snapshot(places: Places, journal: Journal, *, check: bool) -> Swarm:
    try:
        taken = snapshot.read(places.snapshot)
    except snapshot.SnapshotUnusable:
        return replay(journal, check=check)
    if journal.checksum_at(taken.seq) != taken.checksum:
        _refuse_older(journal, taken.seq)
        return replay(journal, check=check)  # the journal is another one
    return _step_through(taken.swarm, journal, taken.seq, check=check)


def _step_through(swarm: Swarm, journal: Journal, after: int, *, check: bool) -> Swarm:
    for row in journal.read(after=after, kind="event", check=check):
        try:
            machine.step(swarm, event_from_json(row.data))
        except (IllegalEvent, ValueError, KeyError) as error:
            raise SwarmError(
                f"Record {row.seq} of {journal.path} can't be taken in: {error}.",
                "Nothing was started and nothing was changed.",
                "start the version of swarm that wrote it. Without it: put journal.sqlite and transcript elsewhere, "
                "and swarm recover --journal takes in all that has landed",
            ) from error
    return swarm


@contextmanager
def no_collection() -> Iterator[None]:
    """Keeps the garbage collector still: it would go through all that is known, again and again, and find nothing."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _refuse_older(journal: Journal, seq: int) -> None:
    last = journal.last_seq()
    if last < seq:
        raise JournalDamaged(
            f"The journal {journal.path} ends at record {last}, but a snapshot was taken at record {seq}.",
            "It is an older copy, or its -wal file was lost. Nothing was started and nothing was changed.",
            "swarm recover --journal brings back what is missing",
        )


# --- snapshots ----------------------------------------------------------------------------------------------------------


class Snapshots:
    """Keeps the snapshot so fresh that a start is quick, at little cost to the loop: see `due`."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self._path = path
        self._journal = journal
        self._seq = min(snapshot.seq_of(path), journal.last_seq())
        self._not_before = 0.0
        self._writing = threading.Lock()

    def behind(self, seq: int) -> int:
        """Tells how many records up to `seq` the snapshot does not have."""
        return seq - self._seq

    def due(self, seq: int) -> bool:
        """Tells whether enough has happened since the last one, and whether its cost has been spread over enough time."""
        return self.behind(seq) >= RECORDS_APART and time.monotonic() >= self._not_before

    def take(self, swarm: Swarm) -> bytes:
        """Gives the content of a snapshot of the swarm, which is as the journal says that it is."""
        began = time.monotonic()
        self._seq, checksum = self._journal.position()
        content = snapshot.encode(snapshot.Snapshot(self._seq, checksum, swarm))
        now = time.monotonic()
        self._not_before = now + REST * (now - began)
        return content

    def write(self, content: bytes) -> None:
        """Puts a snapshot in the place of the last one; from any thread. Raises `OSError`, and the last one stands."""
        with self._writing:
            snapshot.write(self._path, content)

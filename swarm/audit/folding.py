"""The journal, folded again: the state that its events give, held against the facts that were told at the time.

The fold decides as the daemon did. The facts were written by the daemon itself, so what is checked on them (numbers of attempts,
claims, slots, ends) does not rest on the machine being right.

Rules for editing: a journal that can't be read, or not to its end, is a breach; then there is no state, and what needs one is
left out. The same holds for one that is damaged or older than it was: held against its state, what is needed seems to be nobody's.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Any, NamedTuple

from swarm import __version__
from swarm.audit.breaches import Breach
from swarm.core import machine, report
from swarm.core import messages as m
from swarm.core.claims import ClaimHeld, ClaimTable
from swarm.core.invariants import forgotten, invariants
from swarm.core.places import Places
from swarm.core.rebuilt import LOST
from swarm.core.state import IllegalEvent, Swarm, pending_commands
from swarm.dataclass import dataclass
from swarm.edge import discards
from swarm.edge.journal import (
    Journal,
    JournalDamaged,
    Row,
    Transcript,
    TranscriptDamaged,
    hold_against,
    snapshot,
)
from swarm.edge.journal.snapshot import Snapshot
from swarm.edge.journal.transcript import Line
from swarm.errors import SwarmError

_ENDS = frozenset({"TaskLanded", "TaskHandedBack", "TaskFailed", "TaskCancelled"})
_FINAL = _ENDS - {"TaskHandedBack"}

TaskKey = tuple[str, str]  # run, task


class Advance(NamedTuple):
    """A landing, as the journal has it; of one that was `taken_in` from staging itself nothing else is known.

    Over one that is `between` others of a batch staging moves on: it was verified only with what came after it.
    """

    task: str
    attempt: int
    commit: str
    taken_in: bool = False
    between: bool = False


@dataclass(slots=True)
class Fold:
    """What a journal gives up to record `seq`. `swarm` is None where its events could not be followed to the end."""

    seq: int = 0
    swarm: Swarm | None = None
    advances: dict[str, list[Advance]] = field(default_factory=lambda: defaultdict(list))
    brought_in: set[tuple[str, str, int]] = field(default_factory=set)
    keeps_worktrees: bool = False
    breaches: list[Breach] = field(default_factory=list)


def fold(places: Places) -> Fold:
    """Reads and folds the journal; whatever is wrong with it, or with what stands beside it, is a breach."""
    made = Fold()
    try:
        told = _transcript(places, made)
        with Journal.open(places.journal, readonly=True) as journal:
            made.seq = journal.last_seq()
            made.breaches += [Breach("I18", f"The journal is damaged: {text}.") for text in journal.verify()]
            made.breaches += _beside(journal, told)
            swarm = _follow(journal, made, _snapshot(places.snapshot, journal, made))
    except SwarmError as error:
        made.breaches.append(Breach("I18", error.cause, next_step=error.next_step))
        return made
    if swarm is not None and not any(breach.doubts_journal for breach in made.breaches):
        made.swarm = swarm
        made.breaches += [
            Breach(
                "I18",
                f"The journal does not know that run {name} was discarded: it is older than it was.",
                run=name,
            )
            for name in discards.unknown(places, swarm)
        ]
        waiting = list(forgotten(swarm))
        made.breaches += [Breach("I19", f"{text}.") for text in waiting]
        sound = [text for text in invariants(swarm) if text not in waiting]
        made.breaches += [Breach("I8", f"{text}.") for text in sound]
    return made


def _transcript(places: Places, made: Fold) -> Line | None:
    """Reads the transcript to its last line, before the journal: a daemon writes the journal first."""
    try:
        return Transcript(places.transcript).last_of_whole()
    except TranscriptDamaged as error:
        anew = "swarm stop, then swarm recover --journal, which writes it anew from the journal"
        text = f"The transcript is damaged: {error}."
        made.breaches.append(Breach("I18", text, next_step=anew, of_transcript=True))
        return None


def _beside(journal: Journal, told: Line | None) -> Iterator[Breach]:
    """Holds the journal against the last line of its transcript; a transcript that is only behind is as it should be."""
    try:
        if told is not None:
            hold_against(told, journal)
    except JournalDamaged as error:
        yield Breach("I18", error.cause)


def _snapshot(path: Path, journal: Journal, made: Fold) -> Snapshot | None:
    """Reads the snapshot that the next daemon would start from, where there is one of this journal."""
    taken_at, last = snapshot.seq_of(path), journal.last_seq()
    if taken_at > last:
        text = f"A snapshot was taken at record {taken_at}, and the journal ends at {last}"
        made.breaches.append(Breach("I18", f"{text}: it is older than it was."))
        return None
    try:
        taken = snapshot.read(path)
        return taken if journal.checksum_at(taken.seq) == taken.checksum else None
    except snapshot.SnapshotUnusable:
        return None  # then no daemon uses it either


def _as_folded(taken: Snapshot, swarm: Swarm) -> Iterator[Breach]:
    """A start from the snapshot must know what a start from the first event knows."""
    if report.status(taken.swarm, report.Live()) != report.status(swarm, report.Live()):
        yield Breach(
            "I9", f"The snapshot taken at record {taken.seq} tells another state than the events do."
        )
    elif pending_commands(taken.swarm) != pending_commands(swarm):
        yield Breach(
            "I9", f"The snapshot taken at record {taken.seq} has other work outstanding than the events."
        )


def _follow(journal: Journal, made: Fold, taken: Snapshot | None) -> Swarm | None:
    """Takes every event in and holds the facts, and the snapshot, against what follows; None where an event does not fit."""
    swarm = Swarm()
    told = _Told(swarm)
    expected: list[dict[str, Any]] = []
    for row in _up_to(journal, made.seq):
        if taken is not None and row.seq > taken.seq:
            made.breaches += _as_folded(taken, swarm)
            taken = None
        if row.kind != "event":
            made.breaches += _told_as_expected(row, expected, swarm)
            made.breaches += told.take(row)
            continue
        made.breaches += _never_told(row, expected, swarm)
        try:
            event = m.event_from_json(row.data)
            made.breaches += told.heard(row, event)
            turn = machine.step(swarm, event)
        except (IllegalEvent, ValueError, KeyError, TypeError, AssertionError) as error:
            text = f"Record {row.seq} ({row.data.get('type')}) can't follow on what was before it: {error}."
            made.breaches.append(Breach("I8", text, run=_run_of(row)))
            return None
        told.found(event)
        _note(made, swarm, event)
        expected = [fact.to_json() for fact in turn.facts]
    if taken is not None and taken.seq == made.seq:
        made.breaches += _as_folded(taken, swarm)
    return swarm


def _up_to(journal: Journal, last: int) -> Iterator[Row]:
    for row in journal.read():
        if row.seq > last:
            return
        yield row


def _run_of(row: Row) -> str | None:
    run = row.data.get("run")
    return run if isinstance(run, str) else None


def _note(made: Fold, swarm: Swarm, event: m.Event) -> None:
    if isinstance(event, m.StagingAdvanced):
        tasks = swarm.runs[event.run].tasks
        for name in tasks[event.task].attempts[-1].batch or (event.task,):
            moved = tasks[name].attempts[-1]
            between = name != event.task
            made.advances[event.run].append(Advance(name, moved.n, str(moved.candidate), between=between))
    elif isinstance(event, m.JournalRebuilt):
        for name in event.discarded:
            _forget(made, name)
        for found in event.runs:
            tasks = swarm.runs[found.run].tasks
            for each in found.landings:
                of = (a.n for a in tasks[each.task].attempts if a.candidate == each.commit)
                n = next(of, each.attempt)
                made.advances[found.run].append(Advance(each.task, n, each.commit, taken_in=True))
    elif isinstance(event, m.Discarded):
        _forget(made, event.run)
    elif isinstance(event, m.BroughtIn) or (isinstance(event, m.Collected) and event.brought_in):
        made.brought_in.add((event.run, event.task, event.attempt))
    elif isinstance(event, m.DaemonStarted):
        made.keeps_worktrees = made.keeps_worktrees or swarm.limits.keep_worktrees


def _forget(made: Fold, run: str) -> None:
    made.advances.pop(run, None)
    made.brought_in -= {each for each in made.brought_in if each[0] == run}


# --- facts against the fold (I9) ---


def _told_as_expected(row: Row, expected: list[dict[str, Any]], swarm: Swarm) -> Iterator[Breach]:
    wanted = expected.pop(0) if expected else None
    if swarm.version != __version__:  # another version may have had other words
        return
    if wanted is None or json.loads(json.dumps(wanted)) != row.data:
        what = f"the events before it give {wanted['type'] if wanted else 'nothing'}"
        if wanted and wanted["type"] == row.data.get("type"):
            what = f"the events give it otherwise: {json.dumps(wanted, sort_keys=True)[:300]}"
        yield Breach("I9", f"Record {row.seq} tells {row.data.get('type')}, and {what}.", run=_run_of(row))


def _never_told(row: Row, expected: list[dict[str, Any]], swarm: Swarm) -> Iterator[Breach]:
    if expected and swarm.version == __version__:
        types = ", ".join(str(each["type"]) for each in expected)
        yield Breach("I9", f"Before record {row.seq} {types} should have been told and was not.")


# --- what the facts alone say (I8, I10, I11, I17) ---


class _Told:
    """Follows the facts; the fold is asked only for what a task claims and for how many workers were allowed at that moment."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._last: dict[TaskKey, int] = {}
        self._live: set[TaskKey] = set()
        self._final: dict[TaskKey, str] = {}
        self._running: dict[TaskKey, object] = {}  # to its slot
        self._claims: dict[str, ClaimTable[str]] = defaultdict(ClaimTable)

    def take(self, row: Row) -> Iterator[Breach]:
        kind, run, task = row.data.get("type"), row.data.get("run"), row.data.get("task")
        if kind == "RunDiscarded" and isinstance(run, str):
            self._forget(run)
        if not isinstance(run, str) or not isinstance(task, str):
            return
        if kind == "TaskStarted":
            yield from self._started(row, (run, task))
        elif kind == "UndoBegun" or (kind == "TaskQueued" and self._is_by_hand(run, task)):
            yield from self._joined(row, (run, task))
        elif kind in _ENDS:
            self._ended((run, task), str(kind))
        elif kind == "UndoRefused":
            self._ended((run, task), "TaskLanded")
        elif kind == "TaskRetried":
            self._final.pop((run, task), None)

    def heard(self, row: Row, event: m.Event) -> Iterator[Breach]:
        """Looks at an answer: it must be the newest attempt's, and after the end of a worker its slot is free."""
        if not isinstance(event, m.AttemptEvent) or isinstance(event, m.WorktreeReturned):
            return
        key = (event.run, event.task)
        if event.attempt != self._last.get(key):
            text = f"Record {row.seq}: {row.data['type']} of attempt {event.attempt} of {event.task} was listened to"
            yield Breach("I10", f"{text}, while attempt {self._last.get(key)} is the newest.", run=event.run)
        if isinstance(event, m.WorkerExited):
            self._running.pop(key, None)

    def found(self, event: m.Event) -> None:
        """Counts the attempts that a rebuilt journal knows without having told of them."""
        for run in event.runs if isinstance(event, m.JournalRebuilt) else ():
            for name, task in self._swarm.runs[run.run].tasks.items():
                self._last[run.run, name] = len(task.attempts)

    def _is_by_hand(self, run: str, task: str) -> bool:
        known = self._swarm.runs.get(run)
        return known is not None and task in known.tasks and known.tasks[task].spec.by_hand

    def _joined(self, row: Row, key: TaskKey) -> Iterator[Breach]:
        """Takes an attempt in that has no worker, slot or claims: an undo, or commits that a person made."""
        n = row.data.get("attempt")
        if key in self._live or n != self._last.get(key, 0) + 1:
            text = f"Record {row.seq}: attempt {n} of {key[1]} began after attempt {self._last.get(key, 0)}"
            yield Breach("I10", f"{text}.", run=key[0])
        self._last[key] = n if isinstance(n, int) else 0
        self._live.add(key)
        self._final.pop(key, None)

    def _started(self, row: Row, key: TaskKey) -> Iterator[Breach]:
        run, task = key
        n, slot = row.data.get("attempt"), row.data.get("slot")
        here = f"Record {row.seq}: attempt {n} of {task} started"
        if key in self._live:
            yield Breach("I10", f"{here} while attempt {self._last[key]} was live.", run=run)
        if n != self._last.get(key, 0) + 1 + self._made_up(key):
            yield Breach("I10", f"{here} after attempt {self._last.get(key, 0)}.", run=run)
        if key in self._final:
            yield Breach("I8", f"{here} after {self._final[key]}, without a retry.", run=run)
        for other, taken in self._running.items():
            if taken == slot:
                yield Breach("I17", f"{here} in slot {slot}, which {other[1]} had.", run=run)
        self._running[key] = slot
        if len(self._running) > self._swarm.limits.workers_max:
            allowed = self._swarm.limits.workers_max
            yield Breach(
                "I17", f"{here} as number {len(self._running)}, and {allowed} were allowed.", run=run
            )
        yield from self._claim(here, key)
        self._last[key] = n if isinstance(n, int) else 0
        self._live.add(key)

    def _made_up(self, key: TaskKey) -> int:
        """Counts the attempts since the last that was told which are known only from what a lost end of the journal left."""
        known = self._swarm.runs.get(key[0])
        attempts = known.tasks[key[1]].attempts if known is not None and key[1] in known.tasks else []
        return sum(each.reason == LOST and each.slot is None for each in attempts[self._last.get(key, 0) :])

    def _claim(self, here: str, key: TaskKey) -> Iterator[Breach]:
        run, task = key
        known = self._swarm.runs.get(run)
        if known is None or task not in known.tasks:
            yield Breach("I8", f"{here}, and no plan has that task.", run=run)
            return
        try:
            self._claims[run].take(task, known.wanted_claims(known.tasks[task]))
        except ClaimHeld as held:
            other = held.holding
            yield Breach(
                "I11", f"{here} with a claim that meets {other.claim.path!r} of {other.holder}.", run=run
            )

    def _forget(self, run: str) -> None:
        """The id of a discarded run may be used again, and its tasks begin anew."""
        self._claims.pop(run, None)
        self._live = {key for key in self._live if key[0] != run}
        self._last = {key: n for key, n in self._last.items() if key[0] != run}
        self._final = {key: end for key, end in self._final.items() if key[0] != run}
        self._running = {key: slot for key, slot in self._running.items() if key[0] != run}

    def _ended(self, key: TaskKey, kind: str) -> None:
        self._live.discard(key)
        self._running.pop(key, None)
        self._claims[key[0]].release(key[1])
        if kind in _FINAL and key in self._last:
            self._final[key] = kind

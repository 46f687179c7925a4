"""The journal, made anew when it is gone, damaged or older than it was: `swarm recover --journal`.

Journal and transcript are two copies of one chain; whichever is whole for longer is taken. What lies beyond its end is proved by
the landing repository (each landing names its run, task and attempt), by branches and by the folders of attempts, and becomes an
event of its own. Where all of that is an older copy, the staging branches in the user's repository know what landed since. Where
nothing lies beyond, the rebuilt state is exactly what it was, and workers that still run are adopted.

Rules for editing: nothing is deleted: what is replaced is kept beside it, with the time in its name. Killed at any point, it
can be done again. Only while no daemon runs.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from swarm.core import machine
from swarm.core import messages as m
from swarm.core.model import Finding, FoundAttempt, FoundLanding, FoundRun, Step, slug, staging_branch
from swarm.core.places import Places
from swarm.core.run import Run
from swarm.core.state import Swarm
from swarm.daemon import recovery
from swarm.dataclass import dataclass
from swarm.edge import discards, git
from swarm.edge.journal import (
    Journal,
    JournalDamaged,
    Record,
    Transcript,
    TranscriptDamaged,
    record,
    salvage,
    seal,
    snapshot,
    write_anew,
)
from swarm.edge.landing import PINS, Incoming, LandingRepository, founding_ref, is_old_finish
from swarm.edge.lockfile import MergeLockHeld, exclusive
from swarm.errors import SwarmError
from swarm.protocol import counted

_FORMAT = "%H%x00%P%x00%s%x00%(trailers:only,unfold)%x00%x00"


def rebuild(places: Places, repository: git.Repository, *, dry_run: bool = False) -> list[Finding]:
    """Makes the journal whole again from what is left; gives what was found and done, nothing where all was as it should be."""
    journal, transcript = _of_journal(places), _of_transcript(places)
    found = _compared(journal, transcript, mended=not dry_run)
    if dry_run:
        return found
    longer = journal if journal.seq >= transcript.seq else transcript
    if journal.problem or transcript.seq > journal.seq:
        _replace_journal(places, longer)
    if transcript.problem or _differ(journal, transcript):
        Transcript(places.transcript).move_aside(recovery.aside(places.transcript))
    with recovery.open_journal(places) as opened:
        opened.begin_epoch()
        _put_snapshot_aside(places, opened)
        swarm = recovery.replay(opened)
        done = (run.id for run in swarm.runs.values() if discards.is_done(places, run.id, run.created_at))
        gone = tuple(dict.fromkeys((*discards.unknown(places, swarm), *done)))
        known = {name: run for name, run in swarm.runs.items() if name not in gone}
        _take_up(gone, repository, places)
        beyond = look_beyond(known, LandingRepository(places.landing, repository), repository, places)
        records: list[Record] = []
        # What is forgotten is told before what is found: a later run may have the id of a discarded one.
        for runs, discarded in (((), gone), (beyond, ())):
            if runs or discarded:
                event = m.JournalRebuilt(
                    at=time.time(), runs=runs, discarded=discarded, publish_first=True, by_hand_anew=True
                )
                turn = machine.step(swarm, event)
                records += [record("event", *m.parts_of(event))]
                records += [record("fact", *m.parts_of(fact)) for fact in turn.facts]
        if records:
            opened.append(records)
    return [*found, *_taken_in(beyond, gone)]


# --- the two copies -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Copy:
    """How far one of the two copies is whole, its checksums up to there, and what is wrong with it."""

    name: str
    checksums: list[int]
    problem: str
    rows: Iterable[tuple[Any, ...]]

    @property
    def seq(self) -> int:
        return len(self.checksums)


class _Rows:
    """The whole rows of a copy, as often as they are asked for."""

    def __init__(self, read: Any) -> None:
        self._read = read

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._read())


def _of_journal(places: Places) -> _Copy:
    rows = _Rows(lambda: salvage(places.journal))
    problem = ""
    try:
        with Journal.open(places.journal, readonly=True) as journal:
            problem = next(iter(journal.verify()), "")
    except SwarmError as error:
        problem = error.cause.rstrip(".")
    return _Copy("journal", [row[-1] for row in rows], problem, rows)


def _of_transcript(places: Places) -> _Copy:
    transcript = Transcript(places.transcript)
    problem = ""
    checksums: list[int] = []
    try:
        checksums.extend(line.checksum for line in transcript.lines())
    except TranscriptDamaged as error:
        problem = str(error)

    def rows() -> Iterator[tuple[Any, ...]]:
        for line in transcript.lines():
            yield line.row
            if line.seq == len(checksums):
                return

    return _Copy("transcript", checksums, problem, _Rows(rows))


def _differ(journal: _Copy, transcript: _Copy) -> bool:
    """Tells whether the two are not beginnings of one chain."""
    both = min(journal.seq, transcript.seq)
    return both > 0 and journal.checksums[both - 1] != transcript.checksums[both - 1]


def _compared(journal: _Copy, transcript: _Copy, *, mended: bool) -> list[Finding]:
    found = []
    if journal.problem or transcript.seq > journal.seq:
        what = journal.problem or f"it ends at record {journal.seq}, and {transcript.seq} had been written"
        best = max(journal.seq, transcript.seq)
        source = "itself" if journal.seq == best else "the transcript"
        found.append(
            Finding(
                "journal",
                f"the journal is not whole: {what}",
                f"rebuilt with {best} records from {source}",
                mended,
            )
        )
    if transcript.problem or _differ(journal, transcript):
        what = transcript.problem or "it has other records than the journal"
        found.append(
            Finding("journal", f"the transcript is not whole: {what}", "moved aside and written anew", mended)
        )
    return found


def _replace_journal(places: Places, source: _Copy) -> None:
    """Puts a whole journal in place of what is there, which is kept under another name."""
    new = places.journal.with_name(f"{places.journal.name}.new")
    write_anew(new, source.rows)
    kept = recovery.aside(places.journal)
    for suffix in ("", "-wal"):
        path = Path(f"{places.journal}{suffix}")
        if path.exists() and (not suffix or path.stat().st_size):
            os.link(path, f"{kept}{suffix}")
    seal.remove(places.journal)
    for suffix in ("-wal", "-shm"):  # SQLite would take the old one's for the new one's
        Path(f"{places.journal}{suffix}").unlink(missing_ok=True)
    os.replace(new, places.journal)


def _put_snapshot_aside(places: Places, journal: Journal) -> None:
    """A snapshot of a record that the journal does not have any more would be taken for a sign that the journal is older."""
    if snapshot.seq_of(places.snapshot) > journal.last_seq():
        places.snapshot.rename(recovery.aside(places.snapshot))


# --- what lies beyond ---------------------------------------------------------------------------------------------------


def refuse_if_behind(swarm: Swarm, landing: LandingRepository, repository: git.Repository) -> None:
    """Raises `JournalDamaged` where staging holds landings that the journal does not know: it is an older one, or lost its end."""
    found, further = _unknown_landings(swarm.runs, landing), _published_beyond(landing, repository)
    for name in {**found, **further}:
        known = _known_commits(swarm.runs[name]) if name in swarm.runs else set()
        beyond = (each for each in further.get(name, ()) if each.commit not in known)
        if unknown := [*found.get(name, ()), *beyond]:
            listed = ", ".join(each.task for each in unknown[:5]) + (" …" if len(unknown) > 5 else "")
            raise JournalDamaged(
                f"Staging of {name} holds {counted(len(unknown), 'landing')} that the journal does not know: {listed}.",
                "The journal is an older one or lost its end; going on from it would do that work again. Nothing was started.",
                "swarm recover --journal takes in what is missing",
            )


def look_beyond(
    runs: Mapping[str, Run], landing: LandingRepository, repository: git.Repository, places: Places
) -> tuple[FoundRun, ...]:
    """Gives what landings, refs and folders prove that is not known of these runs; nothing where everything is."""
    if not (landing.path / "HEAD").exists():
        return ()
    try:
        landings = _unknown_landings(runs, landing)
        attempts = _unknown_attempts(runs, landing, repository, places)
        found = []
        for name in sorted({*landings, *attempts}):
            run = runs.get(name)
            base = landing.base(name) or (run.base_commit if run is not None else "")
            there = FoundRun(
                run=name,
                base=base,
                staging=landing.staging(name) or base,
                landings=tuple(landings.get(name, ())),
                attempts=tuple(attempts.get(name, ())),
            )
            if base and (there.landings or there.attempts):
                found.append(there)
        return tuple(found)
    finally:
        landing.close()


def _unknown_landings(runs: Mapping[str, Run], landing: LandingRepository) -> dict[str, list[FoundLanding]]:
    """Gives the landings on staging, of each run, that are not known, oldest first."""
    found: dict[str, list[FoundLanding]] = {}
    for ref in git.refs_below(landing.path, "refs/bases/"):
        name = ref.removeprefix("refs/bases/")
        run = runs.get(name)
        tip = landing.staging(name)
        if tip is None or (run is not None and tip == run.staging):
            continue
        known = _known_commits(run) if run is not None else set()
        moving = _moving(run) if run is not None else set()
        unknown = [each for each in _line(landing, name, tip) if each.commit not in known]
        # Else it is what a kill between a move and its record leaves.
        if {each.commit for each in unknown} - moving:
            found[name] = unknown
    return found


def _known_commits(run: Run) -> set[str]:
    ends = (attempt.landed_commit for task in run.tasks.values() for attempt in task.attempts)
    publishing = (run.tasks[name].attempts[-1].candidate for name in run.publishing)
    known = {commit for commit in (*ends, *publishing) if commit is not None}
    return known | {commit for _, commit in run.undone}


def _moving(run: Run) -> set[str]:
    live = (run.tasks[name].attempts[-1] for name in run.live)
    return {each.candidate for each in live if each.step is Step.ADVANCING and each.candidate is not None}


def _line(landing: LandingRepository, run: str, tip: str) -> Iterator[FoundLanding]:
    """Reads the landings and undos of a run off its staging line, oldest first."""
    return filter(None, _commits(landing.path, run, str(landing.base(run)), tip))


def _published_beyond(
    landing: LandingRepository, repository: git.Repository
) -> dict[str, list[FoundLanding]]:
    """Gives what the staging branches in the user's repository hold beyond the landing repository, oldest first: all of ours is an
    older copy then. What a person put on top of that is none of it: no landing of this run, or not in an unbroken line."""
    branches = git.refs_below(repository.common_dir, "refs/heads/swarm/")
    found = {}
    for ref in git.refs_below(landing.path, "refs/bases/"):
        name = ref.removeprefix("refs/bases/")
        tip, there = landing.staging(name), branches.get(f"refs/heads/{staging_branch(name)}")
        if tip is None or there in (None, tip) or landing.place(name, there) is not None:
            continue
        below = ("merge-base", "--is-ancestor", tip, there)
        if git.run(*below, git_dir=repository.common_dir, ok=(0, 1, 128)).code == 0:
            line = _commits(repository.common_dir, name, tip, there)
            if ours := [*filter(None, itertools.takewhile(bool, line))]:
                found[name] = ours
    return found


def _take_up(gone: Collection[str], repository: git.Repository, places: Places) -> None:
    """Brings the landing repository on to where the user's staging branches show that it had come. May be killed and done again."""
    landing = LandingRepository(places.landing, repository)
    if not (landing.path / "HEAD").exists():
        return
    try:
        landing.open_or_create()
        for name, further in _published_beyond(landing, repository).items():
            tip, base, last = landing.staging(name), landing.base(name), further[-1].commit
            if name in gone or tip is None or base is None:
                continue
            landing.bring_in([Incoming(founding_ref(name), last, base)])
            with exclusive(places.merge_lock, kind=MergeLockHeld) as held:
                landing.advance(name, last, tip, lock=held)
    finally:
        landing.close()


def _commits(git_dir: Path, run: str, since: str, tip: str) -> Iterator[FoundLanding | None]:
    """Reads the first-parent line up to `tip`, oldest first; None for what is no landing or undo of the run."""
    asked = ("log", "--first-parent", "--reverse", f"--format={_FORMAT}", f"{since}..{tip}")
    shown = git.run(*asked, git_dir=git_dir).text
    for entry in shown.split("\0\0"):
        fields = entry.lstrip("\n").split("\0")
        if len(fields) != 4:
            continue
        yield _as_landing(run, *fields)


def _as_landing(run: str, commit: str, parents: str, subject: str, trailers: str) -> FoundLanding | None:
    told = [line.split(": ", 1) for line in trailers.splitlines() if ": " in line]
    undoes = tuple(task for name, task in told if name == "Swarm-Undo")
    said = dict(told)
    if said.get("Swarm-Run") != run:
        return None
    verified = said.get("Swarm-Verified", "none")
    suites = () if verified == "none" else tuple(verified.split(", "))
    if undoes:  # newest landing first, so that the last is the one that the others needed
        return FoundLanding(undoes[-1], 0, subject, commit, "", suites, undoes=undoes)
    if len(parents.split()) != 2 or not said.get("Swarm-Attempt", "").isdigit():
        return None
    return FoundLanding(
        task=said["Swarm-Task"],
        attempt=int(said["Swarm-Attempt"]),
        title=subject.removeprefix(f"Land {said['Swarm-Task']}: "),
        commit=commit,
        head=parents.split()[1],
        verified=suites,
        by_hand="Swarm-By-Hand" in said,
    )


def _unknown_attempts(
    runs: Mapping[str, Run], landing: LandingRepository, repository: git.Repository, places: Places
) -> dict[str, list[FoundAttempt]]:
    """Gives the attempts that a pin, a branch or a folder names and that are not known."""
    heads: dict[tuple[str, str, int], str | None] = {}
    for folder in places.attempts.glob("*/*/*"):
        _note(heads, folder.parts[-3:], None)
    for ref, commit in git.refs_below(repository.common_dir, "refs/heads/swarm/").items():
        run, _, rest = ref.removeprefix("refs/heads/swarm/").partition("/task/")
        _note(heads, (run, *rest.split("/")), commit)
    for ref, commit in git.refs_below(landing.path, PINS).items():
        if not is_old_finish(ref):
            _note(heads, ref.removeprefix(PINS).split("/"), commit)
    known = {
        (run.id, slug(name)): len(task.attempts) for run in runs.values() for name, task in run.tasks.items()
    }
    found: dict[str, list[FoundAttempt]] = {}
    for (run, task, n), head in sorted(heads.items(), key=lambda item: item[0]):
        if n > known.get((run, task), 0):
            found.setdefault(run, []).append(FoundAttempt(task, n, head))
    return found


def _note(heads: dict[tuple[str, str, int], str | None], parts: Iterable[str], head: str | None) -> None:
    match tuple(parts):
        case (run, task, n) if n.isdigit():
            heads[run, task, int(n)] = head or heads.get((run, task, int(n)))


def _taken_in(beyond: Iterable[FoundRun], discarded: Iterable[str]) -> list[Finding]:
    found = [
        Finding("journal", f"run {name} was discarded, and the journal did not know", "it is forgotten", True)
        for name in discarded
    ]
    for run in beyond:
        for landing in run.landings:
            what, taken = f"{landing.task} is on staging", "taken in as landed"
            if landing.undoes:
                what, taken = f"{', '.join(landing.undoes)} taken off staging again", "taken in as undone"
            text = f"{run.run}/{what} as {landing.commit[:12]}, and the journal did not know"
            found.append(Finding("staging", text, taken, True))
        landed = {(slug(landing.task), landing.attempt) for landing in run.landings}
        for attempt in run.attempts:
            if (attempt.slug, attempt.n) not in landed:
                where = f", with work at {attempt.head[:12]}" if attempt.head else ""
                text = f"attempt {attempt.n} of {run.run}/{attempt.slug} was begun{where}, and the journal did not know"
                found.append(Finding("journal", text, "it is kept, and its number is not given again", True))
    return found

"""One audit from beginning to end: a consistent view of a repository, live or stopped, and everything looked at in it.

The journal is read first and the world after it, so the world may be ahead: of what the journal says is under way, which is allowed
for, and of what has happened in between, which is not. So what seems broken is looked at again, with the journal read anew; only
what is the same in every look counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from swarm.audit import keeping, line, processes
from swarm.audit.breaches import TITLES, Breach, Report
from swarm.audit.folding import Fold, fold
from swarm.audit.surroundings import Surroundings
from swarm.core.places import Places, state_of
from swarm.core.run import Run
from swarm.core.state import next_deadline
from swarm.dataclass import dataclass
from swarm.edge import git
from swarm.edge.journal import Journal, ever_used
from swarm.edge.landing import LandingRepository
from swarm.edge.lockfile import held
from swarm.edge.place import of_another, places_of
from swarm.errors import SwarmError, UsageError

LOOKS_MAX = 4
PAUSE_S = 0.3  # between two looks, unless the journal moves before
OVERDUE_S = 60.0
_MAY_MOVE = frozenset(
    {"I12", "I13", "I14", "I15", "I16", "I20"}
)  # without a daemon: by workers, and by a person's own git
_NOT_ASKED = {"I5": "suites run again only on request: swarm audit --verify N."}
_NO_STATE = "the state can't be told from this journal."
_WITHOUT_STATE = ("I8", "I9", "I10", "I11", "I15", "I17", "I18")  # can be broken, or be seen, without one
_OF_NOBODY = ("I12", "I13", "I14", "I16", "I20")  # name what it does not know, to be removed or ended
_OLDER = "the journal lacks what is known beside it."


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at everything."""

    fold: Fold
    runs: tuple[Run, ...]
    landings: tuple[line.Landing, ...]
    breaches: tuple[Breach, ...]
    notes: tuple[str, ...]
    alive: bool


def audit(top: Path, environ: Mapping[str, str], *, run: str | None = None, verify: int = 0) -> Report:
    """Audits the repository that holds `top`; with `verify` runs the suites of so many landings again. Changes nothing.

    Raises `UsageError` for a run that the journal does not know.
    """
    began = time.monotonic()
    repository = git.Repository.discover(top)
    places = places_of(state_of(repository.common_dir))
    if not ever_used(places):
        left = keeping.without_state(repository.common_dir)
        notes = [] if left else ["Nothing of swarm is in this repository."]
        return Report(breaches=left, notes=notes, elapsed_s=time.monotonic() - began)
    landing = LandingRepository(places.landing, repository)
    try:
        look, breaches, looks = _settled(repository, places, landing, run)
        doubted = any(each.doubts_journal for each in breaches)
        if doubted:
            breaches = [each for each in breaches if each.invariant not in _OF_NOBODY]
        report = Report(
            seq=look.fold.seq,
            runs=tuple(each.id for each in look.runs),
            landings=len(look.landings),
            breaches=breaches,
            notes=[*_of_another(places), *look.notes],
            unseen=_unseen(look, doubted=doubted),
            looks=looks,
        )
        if verify:
            from swarm.audit import again  # settings and the daemon's code cost more time than all the rest

            found, hindered = again.look(look.landings, verify, repository, places.landing, environ)
            report.breaches += found
            report.looked("I5", hindered)
    finally:
        landing.close()
    report.elapsed_s = time.monotonic() - began
    return report


def _of_another(places: Places) -> list[str]:
    """Says that what is looked at came with a copy of another repository, where that is so."""
    copied = of_another(places.state)
    return [] if copied is None else [f"{copied.cause} Next: {copied.next_step}"]


def _settled(
    repository: git.Repository, places: Places, landing: LandingRepository, run: str | None
) -> tuple[_Look, list[Breach], int]:
    """Looks until nothing is broken, or until what is broken has been so in look after look."""
    look = _look(repository, places, landing, run)
    breaches = list(look.breaches)
    looks = 1
    while breaches and looks < _looks_needed(look, breaches):
        _wait(places, look.fold.seq)
        look = _look(repository, places, landing, run)
        breaches = [breach for breach in look.breaches if breach in breaches]
        looks += 1
    return look, breaches, looks


def _looks_needed(look: _Look, breaches: Sequence[Breach]) -> int:
    if look.alive:
        return LOOKS_MAX
    return 2 if any(breach.invariant in _MAY_MOVE for breach in breaches) else 1


def _wait(places: Places, seq: int) -> None:
    """Waits until the journal has moved, a little at least and `PAUSE_S` at the most."""
    deadline = time.monotonic() + PAUSE_S
    while time.monotonic() < deadline:
        time.sleep(PAUSE_S / 10)
        try:
            with Journal.open(places.journal, readonly=True) as journal:
                if journal.last_seq() != seq:
                    return
        except SwarmError:
            pass


def _look(repository: git.Repository, places: Places, landing: LandingRepository, run: str | None) -> _Look:
    with ThreadPoolExecutor(1) as beside:  # git checks on another processor what the journal says nothing of
        whole = beside.submit(keeping.whole, landing.path)
        return _looked(repository, places, landing, run, whole)


def _looked(
    repository: git.Repository,
    places: Places,
    landing: LandingRepository,
    run: str | None,
    whole: Future[list[Breach]],
) -> _Look:
    alive = held(places.daemon_lock)
    folded = fold(places)
    breaches = list(folded.breaches)
    notes: list[str] = []
    landings: list[line.Landing] = []
    runs: tuple[Run, ...] = ()
    try:
        pins = git.refs_below(landing.path, "refs/") if (landing.path / "HEAD").exists() else {}
        users = git.refs_below(repository.common_dir, *keeping.OURS)
        if folded.swarm is not None:
            runs = _chosen(folded, run)
            breaches += _overdue(folded, alive=alive)
            if pins or any(each.prepared for each in runs):
                landings, found = line.look(folded, runs, landing, pins, users, repository.common_dir, notes)
                breaches += found
                breaches += keeping.work(folded, runs, landing, pins, users, repository.common_dir)
            breaches += keeping.unowned(folded, users, repository.common_dir)
            breaches += processes.look(runs, places, all_runs=run is None)
            commits = {each.commit.oid for each in landings}
            around = Surroundings(folded, runs, places, repository, landing, commits, notes)
            breaches += around.look()
        breaches += whole.result()
        breaches += keeping.reachable(repository.common_dir, users, [each.base_commit for each in runs])
    except (git.GitError, OSError) as error:
        breaches.append(Breach("I15", f"The audit could not go on: {_why(error, landing, runs)}"))
    if run is not None:
        breaches = [each for each in breaches if each.run in (None, run)]
    return _Look(folded, runs, tuple(landings), tuple(dict.fromkeys(breaches)), tuple(notes), alive)


def _why(error: git.GitError | OSError, landing: LandingRepository, runs: Sequence[Run]) -> str:
    """Says what is in the audit's way: where the landing repository is gone, that, and not what git says of it."""
    lacking = [run.id for run in runs if run.prepared and landing.staging(run.id) is None]
    if lacking:
        return f"{landing.path} lacks staging of {', '.join(lacking[:5])}; a daemon at work founds it again, else swarm start."
    return error.cause if isinstance(error, git.GitError) else str(error)


def _chosen(folded: Fold, run: str | None) -> tuple[Run, ...]:
    assert folded.swarm is not None
    known = folded.swarm.runs
    if run is not None and run not in known:
        raise UsageError(f'There is no run "{run}".', "Nothing was looked at.", "swarm status lists the runs")
    return (known[run],) if run is not None else tuple(known.values())


def _overdue(folded: Fold, *, alive: bool) -> list[Breach]:
    """A daemon that runs has done what was due."""
    assert folded.swarm is not None
    due = next_deadline(folded.swarm)
    if not alive or due is None or folded.swarm.stopping or time.time() - due < OVERDUE_S:
        return []
    what = folded.swarm.deadlines[0]
    return [
        Breach("I19", f"{what.kind} of {what.run} {what.task} was due {time.ctime(due)} and was not done.")
    ]


def _unseen(look: _Look, *, doubted: bool) -> dict[str, str]:
    if look.fold.swarm is None:
        return {name: _NO_STATE for name in TITLES if name not in _WITHOUT_STATE}
    return {**_NOT_ASKED, **(dict.fromkeys(_OF_NOBODY, _OLDER) if doubted else {})}

"""The search for the landings together with which work is red, though it is green without them.

Work that is red twice on staging may be right by itself, and break with what landed since it began. So before it is handed back its
own commit is verified where it began, by the suites that were red alone. Red there too: the work is at fault, as it is most of the
time, and nothing more is asked. Green there: the landings since then are halved until the one is found with which it fails; what
was red on the way runs once more, as ever.

Rules for editing: the attempt of a search has left the merge queue, and keeps its claims. It waits for a slot that the first of no
run wants, but not for ever. It says no more than was seen: where it can't go on (a conflict on the way, too many landings), all are
named between which it could not tell.
"""

from __future__ import annotations

import dataclasses

from swarm.core import train
from swarm.core.lifecycle import held_against
from swarm.core.model import Attempt, Reason, Search, Step, Task
from swarm.core.run import Run
from swarm.core.state import Swarm, Turn, go, some

PROBES_MAX = 8  # verifications of one search: enough for 128 landings


def begin(turn: Turn, run: Run, task: Task, attempt: Attempt, reason: Reason) -> bool:
    """Begins a search for an attempt that is red on staging for `reason`; false where there is nothing to search, or no work of
    an agent's. A suite that did not end in time says too little for what it would cost to ask it again."""
    line = run.line_since(attempt.base)
    makes_sense = bool(attempt.touched) and not attempt.undoes and not task.spec.by_hand
    if not (line and makes_sense and reason.code == "verify_failed"):
        return False
    attempt.search = Search(
        reason,
        attempt.candidate,
        attempt.onto,
        attempt.to_pass,
        attempt.suites,
        line,
        red=len(line),
        since=len(run.line),
    )
    attempt.to_pass, attempt.rebased = train.red(attempt), None
    run.landing.remove(task.spec.id)
    run.searching.append(task.spec.id)
    turn.stir(run)
    return True


def waiting(swarm: Swarm, *, landed: int = 0) -> list[tuple[Run, Task, Attempt]]:
    """Lists the searches that wait for a slot, the oldest of each run first; those alone that have let so many land meanwhile."""
    found = []
    for run in swarm.active():
        for name in run.searching if not run.discarding else ():
            task = run.tasks[name]
            attempt = task.live
            assert attempt is not None
            search = attempt.search
            assert search is not None
            if attempt.step is Step.VERIFIED and len(run.line) - search.since >= landed:
                found.append((run, task, attempt))
    return found


def probe(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    """Has the work verified once more: where it began, then on top of half of the landings in question."""
    search = attempt.search
    assert search is not None
    attempt.search = dataclasses.replace(search, probes=search.probes + 1, since=len(run.line))
    attempt.suites = attempt.again = ()
    if search.green is None:
        attempt.onto, attempt.candidate = attempt.base, attempt.head
        go(turn, run, task, attempt, Step.VERIFYING)
    else:
        attempt.onto, attempt.candidate = search.line[search.middle - 1][1], None
        go(turn, run, task, attempt, Step.MERGING)


def runs_again(attempt: Attempt) -> bool:
    """Tells whether what is red now runs once more before it counts: not where the work began, since then nothing is said of others
    either way."""
    return attempt.search is None or attempt.search.green is not None


def verified(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    """Takes the verdict of a probe in, and ends the search or has it wait for the next."""
    search = attempt.search
    assert search is not None
    red = bool(train.red(attempt))
    if search.green is None:
        search = search if red else dataclasses.replace(search, green=0)
    elif red:
        search = dataclasses.replace(search, red=search.middle)
    else:
        search = dataclasses.replace(search, green=search.middle)
    attempt.search = search
    if search.green is None or search.red - search.green == 1 or search.probes >= PROBES_MAX:
        settle(turn, run, task, attempt)
    else:
        go(turn, run, task, attempt, Step.VERIFIED)


def settle(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    """Ends a search, and with it the attempt, for the reason that it was red, and with what was found."""
    search = attempt.search
    assert search is not None
    attempt.search, attempt.again = None, ()
    attempt.candidate, attempt.onto = search.candidate, search.onto
    attempt.to_pass, attempt.suites = search.to_pass, search.suites
    held_against(turn, run, task, attempt, Step.HANDED_BACK, _reason(search))


def _reason(search: Search) -> Reason:
    if search.green is None:
        return search.reason
    partners = search.line[search.green : search.red]
    names = [name for name, _ in partners]
    if len(names) == 1:
        found = f"it passes without {names[0]}, which has landed since it began, and fails together with it"
    else:
        found = (
            f"it passes where it began, and fails together with one of what has landed since: {some(names)}"
        )
    facts = {"partners": names[:50], "partner_commits": [commit for _, commit in partners[:50]]}
    return Reason(
        search.reason.code,
        f"{search.reason.text}; red only in combination: {found}",
        {**search.reason.facts, **facts},
    )

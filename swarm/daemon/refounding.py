"""Founds the landing repository again where it was deleted or damaged: the journal says what must be there, the user's repository
has it.

Staging is brought back to where it was published, and what had advanced since, or waits to land, is made again: the same inputs
give the same commits, and where one does not come out as it was recorded nothing starts. So no run goes on from an empty one.

Rules for editing: all of it may be killed at any point and done again; a run counts as founded when what it published is on its
line.
"""

from __future__ import annotations

from swarm.core import commands as cmd
from swarm.core.model import Attempt, Finding, Step, Task
from swarm.core.places import Places
from swarm.core.run import Run
from swarm.core.state import COMMANDS, Swarm
from swarm.crashpoints import crash_at
from swarm.daemon import recovery
from swarm.daemon.edges import Edges
from swarm.daemon.landing import landing_message, undo_message
from swarm.edge import whole
from swarm.edge.landing import Incoming, founding_ref, lost_parts, pin_ref
from swarm.edge.lockfile import MergeLockHeld, exclusive
from swarm.edge.merging import Merged, Replayed
from swarm.errors import Refused, SwarmError


def set_aside(places: Places, *, dry_run: bool = False) -> list[Finding]:
    """Moves a landing repository aside that has lost a part of itself, before it is opened, so that it is founded again as if it
    were gone; what is left in it is kept. No daemon may be at work."""
    lost = lost_parts(places.landing)
    if not lost:
        return []
    place = recovery.aside(places.landing)
    if not dry_run:
        whole.move(places.landing, place)
    text = f"{places.landing} has lost its {' and '.join(lost)}"
    return [Finding("landing", text, f"it is kept as {place.name}, and another one is founded", not dry_run)]


def refound(swarm: Swarm, edges: Edges) -> list[Finding]:
    """Founds again what is missing of each run, and tells what was. Raises `Refused` where it can't be done."""
    found = []
    for run in swarm.runs.values():
        if not run.prepared or run.removing or _is_there(run, edges):
            continue  # what is being removed must not come back: where all of it is gone already, nothing removes it again
        try:
            _refound(swarm, run, edges)
        except SwarmError as error:
            raise Refused(
                f"{edges.places.landing} has lost staging of run {run.id}, and it can't be made again: {error.cause}",
                "No daemon was started and nothing was changed.",
                f"bring commit {run.published} back into this repository (git fetch from a clone that has it), then swarm start",
            ) from error
        text = f"{edges.places.landing} had lost staging of run {run.id}"
        found.append(
            Finding("landing", text, "it is founded again from this repository and the journal", True)
        )
    if found:
        edges.scratch.trim(0)  # their records were in the repository that is gone
    return found


def _is_there(run: Run, edges: Edges) -> bool:
    """Tells whether what the run published is on its line; of a run that is over, whether it has a line: there may be very many."""
    if not run.open_tasks and run.on_target is not None:
        return edges.landing.staging(run.id) is not None
    return edges.landing.place(run.id, run.published) is not None


def _refound(swarm: Swarm, run: Run, edges: Edges) -> None:
    landing, base = edges.landing, run.base_commit
    landing.seed(run.id, base)
    landing.bring_in([Incoming(founding_ref(run.id), run.published, base)])
    crash_at("refound.carried")
    with exclusive(edges.places.merge_lock, kind=MergeLockHeld) as held:
        landing.advance(run.id, run.published, base, lock=held)
        for name in (*run.publishing, *run.landing, *run.queue):
            task = run.tasks[name]
            attempt = task.live
            assert attempt is not None
            if attempt.step is Step.BRINGING_IN:
                continue
            _make_again(swarm, run, task, attempt, edges)
            if attempt.step is Step.PUBLISHING:
                landing.advance(run.id, str(attempt.candidate), str(attempt.onto), lock=held)
    crash_at("refound.advanced")


def _make_again(swarm: Swarm, run: Run, task: Task, attempt: Attempt, edges: Edges) -> None:
    """Brings an attempt in once more, and makes what had been made of it. Raises `Refused` where that comes out otherwise."""
    landing = edges.landing
    if attempt.head is not None:
        pin = pin_ref(run.id, task.spec.id, attempt.n)
        landing.bring_in([Incoming(pin, attempt.head, attempt.base)])
    if attempt.rebased is not None:
        command = COMMANDS[Step.REBASING](swarm, run, task, attempt)
        assert isinstance(command, cmd.Rebase)
        made = landing.rebase(command.head, command.base, command.onto, command.at)
        _same(task, made.head if isinstance(made, Replayed) else "", attempt.rebased)
    if attempt.candidate is not None:
        _same(task, _candidate(swarm, run, task, attempt, edges), attempt.candidate)


def _candidate(swarm: Swarm, run: Run, task: Task, attempt: Attempt, edges: Edges) -> str:
    command = COMMANDS[Step.REVERTING if attempt.undoes else Step.MERGING](swarm, run, task, attempt)
    if isinstance(command, cmd.Revert):
        landings = [commit for _, commit in command.landings]
        made = edges.landing.revert(command.onto, landings, message=undo_message(command), at=command.at)
        return made if isinstance(made, str) else ""
    assert isinstance(command, cmd.Merge)
    merged = edges.landing.merge(command.onto, command.head, run=run.id, base=command.base)
    if not isinstance(merged, Merged):
        return ""
    message = landing_message(command)
    return edges.landing.candidate(merged.tree, command.onto, command.head, message=message, at=command.at)


def _same(task: Task, made: str, recorded: str) -> None:
    if made != recorded:
        raise Refused(f"{task.spec.id} comes out as {made[:12] or 'a conflict'} and not as {recorded[:12]}.")

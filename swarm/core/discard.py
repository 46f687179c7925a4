"""How a run is given up for good: what is under way ends, what only waits is dropped, then everything of it is removed.

A run that is being discarded starts nothing. Its workers are ended and their work is collected, what already moves staging lands,
and when nothing is outstanding any more `Discard` goes out; `Discarded` takes the run off the list, and its id is free again.

Rules for editing: nothing is removed while any other command of the run may still be carried out, so that no late answer can reach
a later run of the same name. What can't be carried out and waits to be tried again is not waited for.
"""

from __future__ import annotations

import heapq

from swarm.core import merge_queue
from swarm.core import messages as m
from swarm.core.batch import spokesman
from swarm.core.lifecycle import cancel, cancel_in_queue, end_worker, free_slot
from swarm.core.model import TASK_ENDS, UP_STEPS, WORKER_STEPS, Attempt, Step
from swarm.core.run import Run
from swarm.core.state import StaleEvent, Turn, run_commands, the_run

_WHY = "its run was discarded"


def requested(turn: Turn, event: m.DiscardRequested) -> None:
    """Begins to give a run up; asked again it goes on."""
    run = the_run(turn, event.run)
    if run.discarding:
        return
    run.discarding = True
    run.looking = run.astray = None  # how staging stands matters to nobody any more
    turn.swarm.discarding[run.id] = None
    turn.tell("RunBeingDiscarded", run, lost=list(event.lost))
    cancel(turn, run, [task for task in run.tasks.values() if task.state not in TASK_ENDS], _WHY)


def wind_down(turn: Turn, run: Run) -> None:
    """Ends what has not ended, as far as it can be, and has everything removed once nothing is outstanding."""
    if run.removing:
        return
    for name in list(run.live):
        attempt = run.tasks[name].live
        if attempt is not None:
            _end(turn, run, name, attempt)
    if run.prepared and run.live and not run.publish_waits:
        merge_queue.publish(turn, run)
    if not (run.live or run.returning or any(run_commands(run))):
        run.removing = True
        turn.commands.extend(run_commands(run))


def _end(turn: Turn, run: Run, name: str, attempt: Attempt) -> None:
    task = run.tasks[name]
    may_run = attempt.step in UP_STEPS or attempt.may_run
    if attempt.step in WORKER_STEPS and (attempt.retry_at is None or may_run):
        if attempt.ending != "cancelled":
            attempt.ending = None
            end_worker(turn, run, task, attempt, "cancelled")
        return
    stuck = run.publish_waits or "Publish" in run.retry_at
    moving = (attempt.step is Step.ADVANCING and spokesman(run, attempt).retry_at is None) or (
        attempt.step is Step.PUBLISHING and not stuck
    )
    if not moving:
        cancel_in_queue(turn, run, task, attempt, _WHY)


def discarded(turn: Turn, event: m.Discarded) -> None:
    """Forgets the run: nothing of it is left."""
    run = the_run(turn, event.run)
    if not run.removing:
        raise StaleEvent(f"run {event.run!r} is not being removed")
    forget(turn, run)


def forget(turn: Turn, run: Run) -> None:
    """Takes a run off the list of which nothing is left, whatever was known to be under way."""
    turn.tell("RunDiscarded", run)
    swarm = turn.swarm
    for name in run.live:
        attempt = run.tasks[name].live
        assert attempt is not None
        free_slot(turn, attempt)
    del swarm.runs[run.id]
    swarm.discarding.pop(run.id, None)
    swarm.coming = {key for key in swarm.coming if key[0] != run.id}
    for key in [key for key in swarm.trouble if key[0] == run.id]:
        del swarm.trouble[key]
    # An attempt of a later run may have the same name and number, and its time is its own.
    swarm.deadlines = [due for due in swarm.deadlines if due.run != run.id]
    heapq.heapify(swarm.deadlines)
    turn.stirred.pop(run.id, None)

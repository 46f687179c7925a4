"""Workers that hang or run wild: one that says nothing for too long, or starts too many processes, is ended and has failed.

Rules for editing: pure; what a worker does comes in with the event. A worker that was asked to end already is left to that.
"""

from __future__ import annotations

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.lifecycle import end_worker
from swarm.core.model import Attempt, Reason, Step, Task
from swarm.core.state import StaleEvent, Turn, live

SILENT = "no_output"
QUIET_S = 300.0  # after which a worker that may be silent for ever is shown as one that may hang


def silent(turn: Turn, event: m.WorkerSilent) -> None:
    """Has a worker ended that has written nothing for as long as its task allows."""
    _end(turn, event, SILENT)


def multiplied(turn: Turn, event: m.WorkerMultiplied) -> None:
    """Has a worker ended that has started more processes than any may, without a grace time in which it could start others."""
    _end(turn, event, cmd.TOO_MANY)


def _end(turn: Turn, event: m.WorkerSilent | m.WorkerMultiplied, why: str) -> None:
    run, task, attempt = live(turn, event, Step.RUNNING)
    if attempt.ending is not None:
        raise StaleEvent(f"the worker of {event.task!r} is being ended already")
    end_worker(turn, run, task, attempt, why)


def reason(task: Task, attempt: Attempt) -> Reason | None:
    """Says why an attempt that was ended so has failed; None for any other."""
    if attempt.ending == SILENT:
        text = f"the worker wrote nothing for {task.spec.no_output_s:g} s and was ended"
        return Reason("no_output", text)
    if attempt.ending == cmd.TOO_MANY:
        return Reason(
            "worker_failed", "the worker had more processes than limits.processes_max and was ended"
        )
    return None


def quiet(task: Task, silent_s: float) -> bool:
    """Tells whether a worker that has written nothing for so long is worth a word: it may hang."""
    return silent_s >= (task.spec.no_output_s / 2 or QUIET_S)

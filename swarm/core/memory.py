"""What follows from the memory that workers take: one that takes more than its task may is ended, and that is held against it.

Rules for editing: pure; what a worker takes comes in with the event. A worker that was asked to end already is left to that.
"""

from __future__ import annotations

from swarm.core import messages as m
from swarm.core.lifecycle import end_worker
from swarm.core.model import Attempt, Reason, Step, Task
from swarm.core.state import StaleEvent, Turn, live

MB = 1_000_000
OVER = "over_memory"


def outgrew(turn: Turn, event: m.WorkerOutgrew) -> None:
    """Has a worker ended that takes more than its task may."""
    run, task, attempt = live(turn, event, Step.RUNNING)
    if attempt.ending is not None:
        raise StaleEvent(f"the worker of {event.task!r} is being ended already")
    attempt.memory_bytes = event.memory_bytes
    end_worker(turn, run, task, attempt, OVER)


def over(task: Task, attempt: Attempt) -> Reason:
    """Says why such an attempt has failed."""
    took, most = attempt.memory_bytes, task.spec.memory_mb
    text = f"the worker took {took / MB:,.0f} MB, more than the {most:,} MB of its memory_mb, and was ended"
    return Reason(OVER, text, {"memory_bytes": took})

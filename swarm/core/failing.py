"""What becomes of a failure: tried again, forgiven, or held against the task.

A command that can't be carried out is nobody's fault and is tried again; where the machine lacks something (`trouble`) until it
succeeds, and nothing new starts meanwhile. What a worker or a suite did is held against its task, unless the machine was in trouble
when it happened.

Rules for editing: nothing here looks at the machine; what it lacks comes in with the event.
"""

from __future__ import annotations

from swarm.core import messages as m
from swarm.core import searching
from swarm.core.lifecycle import end_attempt, ended_on_request, hand_back, held_against
from swarm.core.model import Attempt, Reason, Step, Task
from swarm.core.run import Run
from swarm.core.state import (
    COMMANDS,
    Deadline,
    StaleEvent,
    Turn,
    command_for,
    due,
    live,
    run_commands,
    the_run,
)

_OF_WORKER = frozenset({"WatchWorker", "SuspendWorker", "ThawWorker", "EndWorker"})
_BACKOFF_MAX_S = 30.0
TROUBLE_EVERY_S = 5.0  # nobody says when the machine is well again, and asking is cheap


def command_failed(turn: Turn, event: m.CommandFailed) -> None:
    """Has a command of an attempt carried out again; one that can't get a worker started fails in the end."""
    run, task, attempt = live(turn, event, *COMMANDS)
    expected = command_for(turn.swarm, run, task, attempt)
    wanted = type(expected).__name__
    # Whoever watched a worker of which something else is wanted by now still speaks for it: nobody else answers.
    if event.command != wanted and not {event.command, wanted} <= _OF_WORKER:
        raise StaleEvent(f"{event.command} of {event.task!r} is not outstanding")
    attempt.may_run = event.may_run
    nobody_runs = attempt.step in (Step.PREPARING, Step.STARTING) and not event.may_run
    if nobody_runs and attempt.ending in ("cancelled", "stopped"):
        ended_on_request(turn, run, task, attempt)
        return
    spent = attempt.infra_failures >= turn.swarm.limits.infra_max
    if nobody_runs and spent and not event.trouble:
        held_against(turn, run, task, attempt, Step.FAILED, Reason("spawn_failed", event.text))
        return
    if attempt.search is not None and spent and not event.trouble:  # what it would add is not worth more
        searching.settle(turn, run, task, attempt)
        return
    try_again(turn, run, task, attempt, event.text, trouble=event.trouble)


def run_command_failed(turn: Turn, event: m.RunCommandFailed) -> None:
    """Has a command of a run carried out again."""
    run = the_run(turn, event.run)
    if event.command not in {type(command).__name__ for command in run_commands(run)}:
        raise StaleEvent(f"{event.command} of run {event.run!r} is not outstanding")
    again = event.command in run.failures
    run.failures[event.command] = event.text
    if event.trouble:
        turn.swarm.trouble[run.id, "", event.command] = event.trouble
    run.retry_at[event.command] = turn.at + (5.0 if again else 0.5)
    due(turn.swarm, Deadline(run.retry_at[event.command], "run", run.id, event.command))


def try_again(turn: Turn, run: Run, task: Task, attempt: Attempt, text: str, *, trouble: str = "") -> None:
    """Has what the attempt's step stands for carried out again, later each time. While it waits for what the machine lacks
    (`trouble`) nothing new starts."""
    if trouble:
        attempt.troubles += 1
        turn.swarm.trouble[run.id, task.spec.id, ""] = trouble
        pause_s = _pause_s(attempt.troubles, TROUBLE_EVERY_S)
    else:
        attempt.infra_failures += 1
        pause_s = _pause_s(attempt.infra_failures, _BACKOFF_MAX_S)
    attempt.retry_at = turn.at + pause_s
    attempt.reason = Reason("retrying", text, {"until": attempt.retry_at})
    due(turn.swarm, Deadline(attempt.retry_at, "retry", run.id, task.spec.id, attempt.n))


def _pause_s(failures: int, most_s: float) -> float:
    return min(
        0.25 * 2.0 ** min(failures, 16), most_s
    )  # a float has no 2 ** 1024, and a disk may be full for hours


def worker_failed(turn: Turn, run: Run, task: Task, attempt: Attempt, reason: Reason) -> None:
    """Holds a failure against the task; a worker that failed while the machine was in trouble is forgiven, but not for ever: it may
    have been what filled the disk."""
    if not attempt.trouble or reason.code != "worker_failed" or blamed(turn, task):
        held_against(turn, run, task, attempt, Step.FAILED, reason)
        return
    forgive(
        turn, run, task, attempt, Reason("machine", f"{reason.text} while {attempt.trouble}", reason.facts)
    )


def blamed(turn: Turn, task: Task) -> bool:
    """Tells whether the machine has been blamed for attempts of this task so often that it is not any more."""
    tried = task.attempts[task.budget_from :]
    forgiven = sum(1 for each in tried if each.reason is not None and each.reason.code == "machine")
    return forgiven >= turn.swarm.limits.lost_max


def forgive(turn: Turn, run: Run, task: Task, attempt: Attempt, reason: Reason) -> None:
    """Ends an attempt that does not count, since it is the machine's doing, of which `reason` tells; the task is tried again."""
    attempt.counts = False
    end_attempt(turn, run, task, attempt, Step.HANDED_BACK, reason)
    hand_back(turn, run, task, attempt, reason, not_before=turn.at + TROUBLE_EVERY_S)

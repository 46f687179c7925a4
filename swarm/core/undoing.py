"""Taking a landed task off staging again, with what needed it: what that means for others, how it ends.

An undo is an attempt of the task that made the landing. It needs no worker: it begins in the merge queue, before all others but
what a person committed, and its candidate is a revert. It is verified, advanced and published like any landing; until it is
published the tasks have landed, and when it does not do they stay so. From its advance on nothing starts on what is taken off.

Rules for editing: which landings go is settled when the undo is asked for and recorded in the attempt; whoever starts to need one
of them later is cancelled or blocked when staging has moved.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarm.core import messages as m
from swarm.core.lifecycle import begin_in_queue, cancel, end_attempt, end_task
from swarm.core.model import MOVING_STEPS, Attempt, Reason, Step, Task, TaskState
from swarm.core.run import Run
from swarm.core.state import IllegalEvent, Turn, go, kept_run, some
from swarm.dataclass import dataclass

AGENT = "undo"  # stands where other attempts name their agent


@dataclass(frozen=True, slots=True)
class Undoing:
    """What an undo would do to the tasks of a run: taken off staging, newest landing first; cancelled at work; blocked before they
    start. `landing` are those that are just moving staging, so that it has to wait for them."""

    undone: tuple[str, ...]
    cancelled: tuple[str, ...]
    blocked: tuple[str, ...]
    landing: tuple[str, ...]


def outlook(run: Run, name: str) -> Undoing:
    """Says what undoing a task would do, without doing it."""
    needing = run.needs.dependents(name)
    landed = {each for each in (name, *needing) if run.tasks[each].state is TaskState.LANDED}
    order = [each for each, _ in run.landed]
    live = [(each, attempt) for each in needing if (attempt := run.tasks[each].live) is not None]
    waiting = (TaskState.PENDING, TaskState.READY)
    return Undoing(
        undone=tuple(each for each in reversed(order) if each in landed),
        cancelled=tuple(each for each, attempt in live if attempt.step not in MOVING_STEPS),
        blocked=tuple(each for each in needing if run.tasks[each].state in waiting),
        landing=tuple(each for each, attempt in live if attempt.step in MOVING_STEPS),
    )


def requested(turn: Turn, event: m.UndoRequested) -> None:
    """Puts a revert into the merge queue."""
    run = kept_run(turn, event.run)
    task = run.tasks.get(event.task)
    if task is None:
        raise IllegalEvent(f"no task {event.task!r} in run {run.id!r}")
    if task.state is not TaskState.LANDED:
        raise IllegalEvent(f"{event.task} is {task.state}, and only what has landed can be undone")
    others = [name for name in run.live if (attempt := run.tasks[name].live) is not None and attempt.undoes]
    if others:
        raise IllegalEvent(f"{others[0]} is being undone; one at a time")
    if run.finish is not None:
        raise IllegalEvent(f"run {run.id!r} is being finished")
    change = outlook(run, event.task)
    if change.landing:
        raise IllegalEvent(f"{some(change.landing)}, which needs {event.task}, is just landing")
    cancel(
        turn, run, [run.tasks[name] for name in change.cancelled], f"{event.task}, which it needs, is undone"
    )
    _begin(turn, run, task, change.undone)


def _begin(turn: Turn, run: Run, task: Task, undoes: tuple[str, ...]) -> None:
    attempt = begin_in_queue(turn, run, task, Step.WAITING, base=run.published, agent=AGENT)
    attempt.counts = False
    attempt.undoes = tuple((each, str(run.tasks[each].landed_commit)) for each in undoes)
    turn.tell("UndoBegun", run, task, tasks=list(undoes))
    go(turn, run, task, attempt, Step.WAITING)


def advanced(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    """The revert is on staging in the landing repository, and will be published: what needs these tasks starts no more."""
    names = [name for name, _ in attempt.undoes]
    reason = Reason("blocked", f"{task.spec.id}, which it needs, was undone", {"needs": [task.spec.id]})
    needing = dict.fromkeys(each for name in names for each in run.needs.dependents(name))
    cancel(turn, run, [run.tasks[name] for name in needing if run.tasks[name].live is not None], reason.text)
    run.needs.taken_back(names)
    for (
        each
    ) in run.tasks.values():  # phases that had landed are open again, with whatever died in them meanwhile
        if each.state not in (TaskState.PENDING, TaskState.READY):
            continue
        if run.needs.dead(each.spec.id):
            end_task(turn, run, each, TaskState.BLOCKED, reason)
        elif each.state is TaskState.READY and not run.needs.free(each.spec.id):
            run.set_state(each, TaskState.PENDING)
            each.reason, each.not_before = None, None


def published(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    """The landings are off the user's staging branch: their tasks have not landed any more."""
    assert attempt.candidate is not None
    facts = {"commit": attempt.candidate, "undo": task.spec.id}
    reason = Reason("undone", f"it was taken off staging again by {attempt.candidate[:12]}", facts)
    end_attempt(turn, run, task, attempt, Step.CANCELLED, reason)
    gone = {name for name, _ in attempt.undoes}
    run.landed = [landed for landed in run.landed if landed[0] not in gone]
    run.undone.append((task.spec.id, attempt.candidate))
    run.finished_commit = None
    for each in _tasks(
        run, attempt
    ):  # all first: one that needs another is to count as undone, not as blocked
        each.landed_commit = None
        run.set_state(each, TaskState.CANCELLED)
    for each in _tasks(run, attempt):
        end_task(turn, run, each, TaskState.CANCELLED, reason)


def _tasks(run: Run, attempt: Attempt) -> Iterable[Task]:
    return (run.tasks[name] for name, _ in attempt.undoes)

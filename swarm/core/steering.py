"""What people ask of a run that goes on: fewer or more workers, a pause, an end, another try, a word to the next attempt.

Rules for editing: a request for several tasks is carried out for all or refused for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from swarm.core import astray, building, feedback, lessons, providers, reviewing
from swarm.core import messages as m
from swarm.core.lifecycle import cancel, end_worker, settle
from swarm.core.model import GOOD_ENDS, TASK_ENDS, WORKER_STEPS, Step, Task, TaskState
from swarm.core.run import Run
from swarm.core.state import IllegalEvent, Turn, kept_run, some, the_run


def limits_changed(turn: Turn, event: m.LimitsChanged) -> None:
    """Sets the width."""
    if event.workers_max < 1:
        raise IllegalEvent("at least one worker")
    turn.swarm.limits = dataclasses.replace(turn.swarm.limits, workers_max=event.workers_max)
    turn.swarm.step_of_ladder = None


def paused(turn: Turn, event: m.Paused) -> None:
    """Holds starts up: of everything, a run or a task."""
    if event.task is not None:
        run = the_run(turn, event.run)
        (task,) = _known(run, [event.task])
        task.paused = True
        run.put_aside(task)
    elif event.run is not None:
        the_run(turn, event.run).paused = True
    else:
        turn.swarm.paused = True


def resumed(turn: Turn, event: m.Resumed) -> None:
    """Lets starts go on: of everything, a run or a task."""
    if event.task is not None:
        run = the_run(turn, event.run)
        (task,) = _known(run, [event.task])
        task.paused = False
        run.take_back_aside()
    elif event.run is not None:
        the_run(turn, event.run).paused = False
    else:
        turn.swarm.paused = False
        providers.resumed(turn)
        for run in turn.swarm.runs.values():
            run.paused = False


def stop_requested(turn: Turn, event: m.StopRequested) -> None:
    """Holds all starts up while the daemon goes down, and ends the workers where that is wanted."""
    turn.swarm.stopping = True
    turn.swarm.stop_grace_s = event.grace_s
    if not event.end_workers:
        return
    for run in turn.swarm.runs.values():
        for name in run.live:
            attempt = run.tasks[name].live
            assert attempt is not None
            if attempt.step in WORKER_STEPS and attempt.step is not Step.COLLECTING:  # that worker has ended
                end_worker(turn, run, run.tasks[name], attempt, "stopped")


def _known(run: Run, names: Iterable[str]) -> list[Task]:
    unknown = [name for name in names if name not in run.tasks]
    if unknown:
        raise IllegalEvent(f"no task {some(unknown)} in run {run.id!r}")
    return [run.tasks[name] for name in dict.fromkeys(names)]


def tasks_cancelled(turn: Turn, event: m.TasksCancelled) -> None:
    """Gives tasks up."""
    run = the_run(turn, event.run)
    cancel(turn, run, _known(run, event.tasks), "it was cancelled")


def tasks_retried(turn: Turn, event: m.TasksRetried) -> None:
    """Gives tasks that ended without landing another try, and with them those that waited for them in vain."""
    run = kept_run(turn, event.run)
    tasks = _known(run, event.tasks)
    wrong = [t.spec.id for t in tasks if t.state not in TASK_ENDS - GOOD_ENDS]
    if wrong:
        raise IllegalEvent(f"{some(wrong)} can't be retried")
    for task in tasks:
        astray.check_retry(run, task)
        reviewing.check_retry(task)
        building.check_retry(run, task)
    run.ended_at = None
    freed: list[str] = []
    for task in tasks:
        if task.state is TaskState.BLOCKED:
            continue
        task.feedback = feedback.after_the_end(task)
        task.budget_from, task.alone, task.ended_at = len(task.attempts), False, None
        freed.extend(run.needs.revived(task.spec.id))
        if task.spec.by_hand:
            astray.again(turn, run, task)
            continue
        run.set_state(task, TaskState.PENDING)
        task.reason = None
        turn.tell("TaskRetried", run, task)
    for name in freed:
        task = run.tasks[name]
        if task.state is TaskState.BLOCKED:
            run.set_state(task, TaskState.PENDING)
            task.reason, task.ended_at = None, None
    for task in [*tasks, *(run.tasks[name] for name in freed)]:
        if task.state is TaskState.PENDING:
            settle(turn, run, task)
    turn.stir(run)


def task_told(turn: Turn, event: m.TaskTold) -> None:
    """Keeps a word for the next attempt."""
    run = the_run(turn, event.run)
    (task,) = _known(run, [event.task])
    task.told = (*task.told, event.text)


def lessons_forgotten(turn: Turn, event: m.LessonsForgotten) -> None:
    """Has lessons not be told to later runs any more."""
    lessons.forget(turn.swarm.lessons, event.lessons)

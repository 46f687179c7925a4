"""What tasks need, read anew from what plans say of them and from what has landed: a second opinion on `swarm.core.needs`, which
counts. It shares no code with it, and takes as long as it takes."""

from __future__ import annotations

from collections.abc import Iterator

from swarm.core.model import PhaseSpec, Step, Task, TaskSpec, TaskState
from swarm.core.run import Run

_BAD = (TaskState.FAILED, TaskState.CANCELLED)


def needed(run: Run, task: Task) -> set[str]:
    """Names whatever has to land before a task may start: what it names, what its phase names, all of the phases that either names
    and what those need in their turn."""
    found: set[str] = set()
    phases: set[str] = set()
    todo: list[TaskSpec | PhaseSpec] = [task.spec]
    if task.spec.phase is not None:
        todo.append(run.phases[task.spec.phase])
    while todo:
        spec = todo.pop()
        found.update(spec.needs)
        for name in set(spec.phase_needs) - phases:
            phases.add(name)
            todo.append(run.phases[name])
            found.update(each.spec.id for each in run.tasks.values() if each.spec.phase == name)
    return found


def lacking(run: Run, task: Task) -> set[str]:
    """Names those of them that have not landed, or are off staging again."""
    return {name for name in needed(run, task) if name not in run.finished_before and not _there(run, name)}


def _there(run: Run, name: str) -> bool:
    task = run.tasks[name]
    good = task.landed_commit is not None or task.state is TaskState.ANSWERED
    return good and name not in _taken_off(run)


def _taken_off(run: Run) -> set[str]:
    """Names the tasks whose landings an undo has taken off that is not published yet."""
    live = (attempt for name in run.live if (attempt := run.tasks[name].live) is not None)
    return {name for attempt in live if attempt.step is Step.PUBLISHING for name, _ in attempt.undoes}


def in_vain(run: Run, task: Task) -> bool:
    """Tells whether a task waits for what has ended without landing, maybe through others that wait; what is at work may land."""
    gone, seen = _taken_off(run), set[str]()
    todo = [task]
    while todo:
        for name in lacking(run, todo.pop()) - seen:
            seen.add(name)
            other = run.tasks[name]
            if name in gone or other.state in _BAD:
                return True
            if other.live is None:
                todo.append(other)
    return False


def wrong(run: Run) -> Iterator[str]:
    """Gives a sentence for each task that stands otherwise than by what it needs."""
    for name, task in run.tasks.items():
        lacks, first = lacking(run, task), run.needs.before(name)
        if task.state is TaskState.READY and lacks:
            yield f"{run.id}: {name} is ready without {sorted(lacks)}"
        elif task.state is TaskState.PENDING and not lacks and first is None:
            yield f"{run.id}: {name} waits for nothing"
        if task.state in (TaskState.READY, TaskState.PENDING) and in_vain(run, task):
            yield f"{run.id}: {name} waits in vain for {sorted(lacks)}"
        elif task.state is TaskState.BLOCKED and not in_vain(run, task):
            yield f"{run.id}: {name} is blocked, though all of {sorted(lacks)} may still land"

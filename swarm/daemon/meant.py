"""Finds the run and the tasks that a request means: as `client.naming` does, but of what the daemon knows.

Rules for editing: reads only. A name that fits twice is never guessed; the message names the choices. A run that is finished,
or has answered what it was asked, is meant only where it is named, or nothing else can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from swarm.core import report
from swarm.core.model import Task, TaskState
from swarm.core.run import Run
from swarm.core.state import Swarm
from swarm.errors import UsageError

BEGIN = "swarm run PLAN, or swarm submit PLAN"
KNOWN_MAX = 5  # runs that are named where another was asked for


def run_of(swarm: Swarm, name: str | None, *, fits: Callable[[Run], object] = lambda _: True) -> Run:
    """Finds a run by its id; without one the only one that `fits`, that has not ended, or that is not finished. Raises
    `UsageError`."""
    runs = swarm.runs
    if name is not None:
        if name in runs:
            return runs[name]
        newest = [*runs][-KNOWN_MAX:]
        older = f", and {len(runs) - len(newest)} older" if len(runs) > len(newest) else ""
        known = f" Known: {', '.join(newest)}{older}." if newest else ""
        raise UsageError(
            f"There is no run {name}.", f"Nothing was done.{known}", "swarm status" if newest else BEGIN
        )
    fitting = [run for run in runs.values() if fits(run)]
    left = report.unfinished(fitting) or fitting
    active = [run for run in left if run.open_tasks]
    for choice in (left, active):
        if len(choice) == 1:
            return choice[0]
    if not left:
        raise UsageError("There is no run yet.", "Nothing was done.", BEGIN)
    names = ", ".join(run.id for run in active or left)
    raise UsageError(
        f"There are several runs: {names}.", "Nothing was done.", "say which: --run ID on the command line"
    )


def tasks_of(swarm: Swarm, run: str | None, names: Iterable[str]) -> tuple[Run, list[str]]:
    """Finds tasks, given as `task` or `run/task`, all of one run. Raises `UsageError`."""
    names = list(names)
    candidates = [run_of(swarm, run)] if run is not None else list(swarm.runs.values())
    found = [each for each in candidates if all(_in(each, name) is not None for name in names)]
    found = report.unfinished(found) or found
    if len(found) == 1:
        return found[0], [str(_in(found[0], name)) for name in names]
    listed = ", ".join(names)
    if not found:
        raise UsageError(f"There is no task {listed}.", "Nothing was done.", "swarm status lists the tasks")
    runs = ", ".join(each.id for each in found)
    raise UsageError(f"{listed} is in several runs: {runs}.", "Nothing was done.", "say which run: --run ID")


def to_retry(run: Run) -> list[str]:
    """Names the tasks of a run that failed or were cancelled, but for those of QA."""
    ended = (TaskState.FAILED, TaskState.CANCELLED)
    tasks = run.tasks.values() if any(run.counts[state] for state in ended) else ()
    return [task.spec.id for task in tasks if task.state in ended and not task.spec.qa]


def _in(run: Run, name: str) -> str | None:
    """Gives the task's id if `name`, plain or as `run/task`, is one of this run."""
    if name in run.tasks:
        return name
    head, slash, rest = name.partition("/")
    return rest if slash and head == run.id and rest in run.tasks else None


def stands(task: Task) -> str:
    """Says where a task stands, after its name: it `is running`, `has landed`."""
    had = task.state in (TaskState.LANDED, TaskState.FAILED)
    return f"{'has' if had else 'is'} {task.state}"

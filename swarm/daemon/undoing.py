"""Takes a landed task off staging again, with what needs it, and says how that went.

Rules for editing: the machine makes the revert and has it verified and landed like any work. Here it is asked for and waited for:
who asks while one is under way waits for that, and who asks again afterwards is told of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from swarm import shapes
from swarm.core import messages as m
from swarm.core.model import ATTEMPT_ENDS, TASK_ENDS, Attempt, Task, TaskState, staging_branch
from swarm.core.run import Run
from swarm.core.undoing import Undoing, outlook
from swarm.daemon.closing import look_at_staging
from swarm.daemon.coordinator import Coordinator
from swarm.daemon.edges import Edges
from swarm.daemon.meant import stands
from swarm.edge import git
from swarm.errors import Refused, SwarmError


async def undo(
    coordinator: Coordinator, edges: Edges, run: Run, task: Task, *, preview: bool
) -> shapes.UndoAnswer:
    """Undoes a task, or with `preview` says what that would do. Raises `Refused` where it has not landed or can't be taken off."""
    attempt = task.live
    if attempt is not None and attempt.undoes:  # asked for before; whoever asks again waits for the same
        change = None
    else:
        if task.state is not TaskState.LANDED:
            return await _undone_already(edges, run, task)
        change = outlook(run, task.spec.id)
    facts = _facts(run, task, change)
    if not preview:
        if change is not None:
            await look_at_staging(coordinator, edges, run, "Nothing was undone")
            await coordinator.ask(m.UndoRequested(at=coordinator.now(), run=run.id, task=task.spec.id))
            attempt = task.attempts[-1]
        assert attempt is not None
        facts["commit"] = await _undone(coordinator, run, task, attempt)
    landings = [landing for _, landing in attempt.undoes] if attempt is not None and attempt.undoes else []
    if change is not None and not landings:
        landings = [str(run.tasks[each].landed_commit) for each in change.undone]
    facts["still_on"] = await asyncio.to_thread(lambda: _still_on(edges, landings, facts["commit"]))
    return facts


def _still_on(edges: Edges, landings: Sequence[str], undo: str | None) -> list[str]:
    """Lists the user's branches that have a landing, of those that are undone newest first, and not the revert."""
    common = edges.repository.common_dir
    return git.branches_with(common, landings[-1], without=undo, leave_out="swarm/") if landings else []


async def _undone_already(edges: Edges, run: Run, task: Task) -> shapes.UndoAnswer:
    if task.reason is not None and task.reason.code == "undone":
        undo = task.reason.facts["commit"]
        by = (each for other in run.tasks.values() for each in other.attempts if each.candidate == undo)
        landings = [landing for each in by for _, landing in each.undoes]
        still_on = await asyncio.to_thread(lambda: _still_on(edges, landings, undo))
        return {**_facts(run, task, None), "still_on": still_on}
    name = f"{run.id}/{task.spec.id}"
    over = task.state in TASK_ENDS
    raise Refused(
        f'Task "{task.spec.id}" {stands(task)}; only what has landed can be undone.',
        "Nothing was done.",
        f"swarm show {name} says what came of it" if over else f"swarm cancel {name}, if it is not to land",
    )


async def _undone(coordinator: Coordinator, run: Run, task: Task, attempt: Attempt) -> str:
    """Waits for the end of an undo and gives its commit. Raises the reason why the task stays landed."""
    await coordinator.until(lambda: attempt.step in ATTEMPT_ENDS)
    if attempt.step not in ATTEMPT_ENDS:
        raise SwarmError(
            "The daemon stopped while it was undoing.", "The next one goes on with it.", "swarm start"
        )
    reason = attempt.reason
    assert reason is not None
    if reason.code == "undone":
        return str(attempt.candidate)
    kind = SwarmError if reason.code == "verify_failed" else Refused
    again = f"swarm undo {run.id}/{task.spec.id}, if it is to go all the same"
    by_hand = f"undo what came after it first, or change it by hand on {staging_branch(run.id)}"
    raise kind(
        f'Task "{task.spec.id}" was not undone: {reason.text}.',
        f"It stays landed; staging of run {run.id} is as it was.",
        again if reason.code == "cancelled" else by_hand,
    )


def _facts(run: Run, task: Task, change: Undoing | None) -> shapes.UndoAnswer:
    """Says what an undo means; of one that is under way what it takes off, of one that is over nothing."""
    live = task.live
    under_way = [name for name, _ in live.undoes] if live is not None else []
    return {
        "run": run.id,
        "task": task.spec.id,
        "undone": list(change.undone) if change is not None else under_way,
        "cancelled": list(change.cancelled) if change is not None else [],
        "blocked": list(change.blocked) if change is not None else [],
        "commit": None,
        "still_on": [],
    }

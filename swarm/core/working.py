"""The worker's part of an attempt: from the worktree it gets until its work is in the merge queue, or did not do, and the worktree
is back in the pool.

Rules for editing: work is judged once, when it has been collected, so that it is kept on its branch whatever the judgement. What is
not the worker's doing (it was lost, or ended on request, or its service put it off) comes before what is.
"""

from __future__ import annotations

from swarm.core import (
    budget,
    building,
    failing,
    memory,
    merge_queue,
    oversight,
    ownership,
    providers,
    reviewing,
)
from swarm.core import messages as m
from swarm.core.admission import Pressure
from swarm.core.claims import literal, strays
from swarm.core.lifecycle import ended_on_request, free_slot, held_against
from swarm.core.model import UP_STEPS, Attempt, Claim, Reason, Role, Step, Task, TaskState
from swarm.core.qa import REVIEW
from swarm.core.run import Run
from swarm.core.state import Deadline, StaleEvent, Turn, due, go, live, some, the_run


def worktree_ready(turn: Turn, event: m.WorktreeReady) -> None:
    """Starts the worker, or ends the attempt where that was asked for meanwhile."""
    run, task, attempt = live(turn, event, Step.PREPARING)
    attempt.worktree = event.path
    if attempt.ending is not None:
        ended_on_request(turn, run, task, attempt)
    else:
        go(turn, run, task, attempt, Step.STARTING)
        turn.own = _concerns_nobody_else(turn, run)


def _concerns_nobody_else(turn: Turn, run: Run) -> bool:
    """Tells whether nothing that waits can go on because an attempt is a step further on its way to a worker: who waits for time to
    pass has a deadline, and who waits for the machine is told of it."""
    swarm = turn.swarm
    calm = not (swarm.trouble or swarm.discarding or run.discarding)
    return calm and swarm.pressure is Pressure.NONE


def worker_started(turn: Turn, event: m.WorkerStarted) -> None:
    """Begins to count the time that the worker has."""
    run, task, attempt = live(turn, event, Step.STARTING)
    attempt.pid, attempt.started_at, attempt.sandbox = event.pid, event.started_at, event.sandbox
    due(
        turn.swarm,
        Deadline(event.started_at + task.spec.timeout_s, "timeout", run.id, task.spec.id, attempt.n),
    )
    go(turn, run, task, attempt, Step.RUNNING)
    memory.joined(turn)
    turn.own = _concerns_nobody_else(turn, run)


def worker_exited(turn: Turn, event: m.WorkerExited) -> None:
    """Has what the worker left collected; one that ended well gives its slot to the next at once."""
    run, task, attempt = live(turn, event, *UP_STEPS)
    attempt.suspended_at = None
    attempt.exit_code, attempt.result, attempt.exited_at = event.exit_code, event.result, event.at
    attempt.output = event.output
    attempt.trouble, attempt.memory_bytes = event.trouble, max(attempt.memory_bytes, event.memory_bytes)
    budget.spend(turn.swarm, run, event.result, turn.at)
    if attempt.ending == "timeout" and _was_in_time(task, attempt, event):
        attempt.ending = None
    providers.exited(turn, attempt, event.jitter)
    if event.exit_code == 0 and attempt.ending is None:
        free_slot(turn, attempt)
        turn.swarm.coming.add((run.id, task.spec.id, attempt.n))
        run.set_state(task, TaskState.QUEUED)
    go(turn, run, task, attempt, Step.COLLECTING)
    memory.left(turn)


def _was_in_time(task: Task, attempt: Attempt, event: m.WorkerExited) -> bool:
    """Tells whether a worker had ended well, or by itself, before its time was over, and the daemon was too late to see it."""
    if event.ended_at is None or attempt.started_at is None or not (event.exit_code == 0 or event.by_itself):
        return False
    return event.ended_at < attempt.started_at + task.spec.timeout_s


def collected(turn: Turn, event: m.Collected) -> None:
    """Judges what the worker left: it goes into the merge queue, or the attempt ends."""
    run, task, attempt = live(turn, event, Step.COLLECTING)
    attempt.head, attempt.commits, attempt.touched = event.head, event.commits, event.touched
    attempt.staged, attempt.tail = event.staged, event.tail
    if event.besides:
        attempt.besides = event.besides
        turn.tell("WorkSaved", run, task, attempt=attempt.n, place=event.besides)
    if attempt.ending in ("cancelled", "stopped"):
        ended_on_request(turn, run, task, attempt)
    elif attempt.ending == memory.SHORT:
        memory.gave_way(turn, run, task, attempt)
    elif event.gone:
        _lost(turn, run, task, attempt, event.problem)
    elif attempt.exit_code is None and attempt.ending is None:
        _lost(turn, run, task, attempt, "the worker is gone and left no exit code")
    elif providers.asks_for_later(attempt) and attempt.ending is None:
        providers.try_later(turn, run, task, attempt)
    else:
        reason = _worker_failure(task, attempt, event, turn.swarm.limits.roles)
        providers.judged(turn, run, task, attempt, reason)
        if reason is not None:
            failing.worker_failed(turn, run, task, attempt, reason)
        else:
            _submit(turn, run, task, attempt, event)


def _submit(turn: Turn, run: Run, task: Task, attempt: Attempt, event: m.Collected) -> None:
    """Puts work that a worker ended well with into the merge queue, unless it strayed too far; an answer is taken in."""
    if task.spec.answer:
        building.answered(turn, run, task, attempt, event)
        return
    owned = ownership.violation(turn.swarm.limits.roles, task.spec.role, attempt.touched)
    if owned is not None:
        held_against(turn, run, task, attempt, Step.HANDED_BACK, owned)
    elif (reason := _check_strays(turn, run, task, attempt)) is not None:
        held_against(turn, run, task, attempt, Step.HANDED_BACK, reason)
    else:
        merge_queue.enqueue(turn, run, task, attempt, event)


def _worker_failure(
    task: Task, attempt: Attempt, event: m.Collected, roles: tuple[Role, ...]
) -> Reason | None:
    """Says why what the worker did can't be submitted; None when it can."""
    if attempt.ending == "timeout":
        return Reason(
            "timeout", f"the worker was still running after {task.spec.timeout_s:g} s and was ended"
        )
    if attempt.ending == memory.OVER:
        return memory.over(task, attempt)
    if (reason := oversight.reason(task, attempt)) is not None:
        return reason
    if attempt.exit_code != 0:
        text = f"the worker ended with exit code {attempt.exit_code}"
        if attempt.result.failure:
            text = f"the agent reported that it failed: {attempt.result.failure}"
        return Reason("worker_failed", text, {"exit_code": attempt.exit_code})
    if event.problem:
        return Reason("worker_failed", event.problem)
    if task.spec.qa == REVIEW:
        return reviewing.failure(attempt)
    may_be_empty = task.spec.allow_empty or ownership.changes_nothing(roles, task.spec.role)
    if not attempt.touched and not may_be_empty:
        what = (
            "what the worker committed comes to no change"
            if attempt.commits
            else "the worker changed nothing"
        )
        text = f"{what}, and the task does not say allow_empty"
        if event.ignored:
            text += f"; what it changed, git ignores: {some(event.ignored)}"
        if attempt.besides:
            text += f"; what it left elsewhere (a stash, another branch, a tag, a merge half done) is kept on {attempt.besides}"
        return Reason("empty", text)
    return None


def _lost(turn: Turn, run: Run, task: Task, attempt: Attempt, text: str) -> None:
    reason = Reason("lost", text)
    lost = sum(1 for each in task.attempts[task.budget_from :] if each.step is Step.LOST) + 1
    attempt.counts = lost > turn.swarm.limits.lost_max
    held_against(turn, run, task, attempt, Step.LOST, reason)


def _check_strays(turn: Turn, run: Run, task: Task, attempt: Attempt) -> Reason | None:
    """Applies the policy to what was touched outside the claims; gives the reason where it must not go on."""
    found = strays(run.shown_claims(task), attempt.touched) if task.spec.claims else ()
    attempt.strays = found
    if not found:
        return None
    policy, name = turn.swarm.limits.strays, task.spec.id
    turn.tell("StrayFound", run, task, paths=list(found[:50]), policy=policy)
    if policy == "reject":
        text = f"it changed {some(found)} outside its claims, and strays are rejected"
        return Reason("stray", text, {"paths": list(found)})
    if policy == "extend":
        for path in found:
            holding = run.claims.first_conflict((Claim(literal(path)),), name)
            if holding is None:
                run.extend_claims(task, (Claim(literal(path)),))
            else:
                attempt.waits_for.add(str(holding.holder))
    return None


def worktree_returned(turn: Turn, event: m.WorktreeReturned) -> None:
    """Notes that the worktree is in the pool again, and tells where work is kept that lay in it."""
    run = the_run(turn, event.run)
    attempt = run.returning.pop((event.task, event.attempt), None)
    if attempt is None:
        raise StaleEvent(f"no worktree of {event.task!r} attempt {event.attempt} is being given back")
    attempt.returned = True
    turn.swarm.coming.discard((run.id, event.task, event.attempt))
    if event.saved:
        attempt.saved = event.saved
        turn.tell("WorkSaved", run, run.tasks[event.task], attempt=event.attempt, place=event.saved)

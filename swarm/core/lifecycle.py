"""How tasks become ready, begin without a worker, and end, as attempts do, with all that an end means for others.

Rules for editing: an end goes through `end_attempt` and `end_task` alone, so that slot, claims, place in the queue, worktree,
needs and counts are always given back together. What an end allows in the merge queue is done afterwards, once a turn.
"""

from __future__ import annotations

from swarm.core import budget, feedback, ownership
from swarm.core.model import (
    GOOD_ENDS,
    MOVING_STEPS,
    TASK_ENDS,
    UP_STEPS,
    WORKER_STEPS,
    Attempt,
    Reason,
    Step,
    Task,
    TaskSpec,
    TaskState,
    attempt_branch,
)
from swarm.core.run import Run
from swarm.core.state import Deadline, Turn, command_for, due, give_back


def settle(turn: Turn, run: Run, task: Task) -> None:
    """Gives a task that has not started the state that its needs call for."""
    if run.needs.dead(task.spec.id):
        end_task(turn, run, task, TaskState.BLOCKED, _blocked_by(run, task))
    elif run.needs.free(task.spec.id):
        ready(turn, run, task)


def ready(
    turn: Turn, run: Run, task: Task, not_before: float | None = None, reason: Reason | None = None
) -> None:
    """Makes a task ready, now or from a time on."""
    run.set_state(task, TaskState.READY)
    task.reason = reason
    task.not_before = not_before
    task.ready_at = turn.at if not_before is None else not_before
    if not_before is None:
        run.push(task)
    else:
        due(turn.swarm, Deadline(not_before, "ready", run.id, task.spec.id))


def begin(turn: Turn, run: Run, spec: TaskSpec) -> Task:
    """Adds a task that no plan has to a run, which goes on with it."""
    (task,) = run.add((), (spec,))
    run.ended_at = None
    settle(turn, run, task)
    turn.stir(run)
    return task


def begin_in_queue(turn: Turn, run: Run, task: Task, step: Step, *, base: str, agent: str) -> Attempt:
    """Makes an attempt that needs no worker and begins where others have been collected, before all that wait to land."""
    name, n = task.spec.id, len(task.attempts) + 1
    attempt = Attempt(
        n=n,
        step=step,
        base=base,
        agent=agent,
        branch=attempt_branch(run.id, name, n),
        created_at=turn.at,
        slot_free=True,
        returned=True,
        queued_at=turn.at,
    )
    task.attempts.append(attempt)
    run.ended_at = None
    run.live[name] = None
    run.queued += 1
    attempt.place = -run.queued
    run.line_up([name])
    run.set_state(task, TaskState.QUEUED)
    return attempt


def _blocked_by(run: Run, task: Task) -> Reason:
    ended = [need for need in task.spec.needs if need in run.tasks and _dead(run.tasks[need])]
    phases = [*task.spec.phase_needs, *(run.phases[task.spec.phase].phase_needs if task.spec.phase else ())]
    what = ", ".join([*ended, *(f"phase {phase}" for phase in phases)][:5]) or "what it needs"
    return Reason("blocked", f"{what} ended without landing", {"needs": ended})


def _dead(task: Task) -> bool:
    return task.state in TASK_ENDS - GOOD_ENDS


def end_task(turn: Turn, run: Run, task: Task, state: TaskState, reason: Reason | None) -> None:
    """Brings a task to an end, and to all that this means for those that need it."""
    run.set_state(task, state)
    task.reason, task.ended_at = reason, turn.at
    name = task.spec.id
    if state in GOOD_ENDS:
        for freed in run.needs.met(name):
            _unless_started(turn, run, freed)
    else:
        facts = {"code": reason.code, "text": reason.text, **reason.facts} if reason is not None else {}
        turn.tell(f"Task{state.value.capitalize()}", run, task, **facts)
        for blocked in run.needs.died(name) if state is not TaskState.BLOCKED else ():
            _block(turn, run, run.tasks[blocked])
    following = run.needs.over(name)
    if following is not None:
        _unless_started(turn, run, following)
    if state is TaskState.FAILED and run.fail_fast and not task.spec.by_hand:
        cancel(
            turn, run, [other for other in run.tasks.values() if other.state not in TASK_ENDS], "fail-fast"
        )
    turn.stir(run)


def _block(turn: Turn, run: Run, task: Task) -> None:
    if task.state in (TaskState.PENDING, TaskState.READY):
        end_task(turn, run, task, TaskState.BLOCKED, _blocked_by(run, task))


def _unless_started(turn: Turn, run: Run, name: str) -> None:
    task = run.tasks[name]
    if task.state is TaskState.PENDING and not run.needs.dead(name):
        ready(turn, run, task)


def stop_over_budget(turn: Turn, run: Run) -> bool:
    """Fails every task that is ready in a run over its budget; tells whether there was one."""
    over = budget.run_over(turn.swarm.limits, run.spent)
    if over is None or not run.counts[TaskState.READY]:
        return False
    for task in (
        run.tasks.values()
    ):  # in order, so that where they go one at a time each comes up after the one before it
        if task.state is TaskState.READY:
            end_task(turn, run, task, TaskState.FAILED, over)
    return True


def run_ended(turn: Turn, run: Run) -> None:
    """Tells once that every task that takes part has ended; asked at the end of each turn that touched the run."""
    if run.open_tasks == 0 and run.ended_at is None:
        run.ended_at = turn.at
        counts = {state.value: run.counts[state] for state in sorted(TASK_ENDS)}
        if not counts[TaskState.ANSWERED]:
            del counts[TaskState.ANSWERED]
        turn.tell("RunEnded", run, **counts)


def end_attempt(
    turn: Turn,
    run: Run,
    task: Task,
    attempt: Attempt,
    end: Step,
    reason: Reason | None,
    *,
    keep_claims: bool = False,
) -> None:
    """Brings an attempt to an end: slot, claims, place in the queue and worktree go back. Claims can be kept for the next one,
    made ready at once."""
    name = task.spec.id
    turn.drop(run, task, attempt)
    attempt.step, attempt.ended_at, attempt.reason, attempt.retry_at = end, turn.at, reason, None
    attempt.search = None
    turn.swarm.trouble.pop((run.id, name, ""), None)
    free_slot(turn, attempt)
    if not keep_claims:
        run.release_claims(task)
    del run.live[name]
    ownership.changed(turn.swarm, task)
    run.leave_queue(name)
    if run.solo == name:
        run.solo = None
    return_worktree(turn, run, task, attempt)
    turn.stir(run)


def free_slot(turn: Turn, attempt: Attempt) -> None:
    """Gives the slot back; the attempt keeps its number."""
    if attempt.slot is not None and attempt.slot in turn.swarm.slots and not attempt.slot_free:
        turn.swarm.slots.discard(attempt.slot)
        attempt.slot_free = True


def return_worktree(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    """Sends the worktree back to the pool, once."""
    key = (task.spec.id, attempt.n)
    if not attempt.returned and key not in run.returning:
        run.returning[key] = attempt
        turn.swarm.coming.add((run.id, *key))
        turn.commands.append(give_back(turn.swarm, run, task, attempt))


def held_against(turn: Turn, run: Run, task: Task, attempt: Attempt, end: Step, reason: Reason) -> None:
    """Ends an attempt that did not do; the task gets another while its budget lasts, with the reason as feedback."""
    if attempt.undoes:
        stays_landed(turn, run, task, attempt, Step.FAILED, reason)
        return
    end_attempt(turn, run, task, attempt, end, reason)
    tried = task.attempts[task.budget_from :]
    if sum(1 for each in tried if each.counts) >= task.spec.attempts:
        end_task(turn, run, task, TaskState.FAILED, feedback.in_the_end(tried, reason))
        return
    same, most = feedback.same_failures(tried), turn.swarm.limits.same_failure_max
    if same >= most > 0:
        text = f"{reason.text}, in the same way {same} times, so it is not tried again"
        end_task(turn, run, task, TaskState.FAILED, Reason(reason.code, text, reason.facts))
    else:
        hand_back(turn, run, task, attempt, reason)


def cancel_in_queue(turn: Turn, run: Run, task: Task, attempt: Attempt, text: str) -> None:
    """Ends an attempt that has no worker any more and does not move staging, and its task; that of an undo stays landed."""
    attempt.counts = False
    reason = Reason("cancelled", text)
    if attempt.undoes:
        stays_landed(turn, run, task, attempt, Step.CANCELLED, reason)
        return
    end_attempt(turn, run, task, attempt, Step.CANCELLED, reason)
    end_task(turn, run, task, TaskState.CANCELLED, reason)


def stays_landed(turn: Turn, run: Run, task: Task, attempt: Attempt, end: Step, reason: Reason) -> None:
    """Ends an attempt to undo that did not do: nothing has changed."""
    end_attempt(turn, run, task, attempt, end, reason)
    run.set_state(task, TaskState.LANDED)
    turn.tell("UndoRefused", run, task, code=reason.code, text=reason.text, **reason.facts)


def hand_back(
    turn: Turn, run: Run, task: Task, attempt: Attempt, reason: Reason, not_before: float | None = None
) -> None:
    """Makes a task whose attempt has ended ready for another, which is told why; where what it needs has been added to meanwhile it
    waits for that first.

    What was wrong with the work is still told after an attempt that was only interrupted. A task over its budget has failed.
    """
    over = budget.task_over(turn.swarm.limits, task)
    if over is not None:
        run.release_claims(task)  # kept for an attempt that does not come now
        end_task(turn, run, task, TaskState.FAILED, over)
        return
    task.feedback = feedback.handed_back(task, attempt, reason)
    tell_handed_back(turn, run, task, attempt, reason)
    name = task.spec.id
    dying = run.needs.at_rest(name)
    if run.needs.free(name) and not run.needs.dead(name):
        ready(turn, run, task, not_before, reason if not_before is not None else None)
        return
    run.release_claims(task)  # what it needs has been added to, and nobody knows when that will have landed
    run.set_state(task, TaskState.PENDING)
    task.reason, task.not_before = None, None
    for each in [name, *dying] if run.needs.dead(name) else ():
        _block(turn, run, run.tasks[each])


def tell_handed_back(turn: Turn, run: Run, task: Task, attempt: Attempt, reason: Reason) -> None:
    """Tells why an attempt did not land, and by which end, of a task that gets another."""
    facts = {**reason.facts, "end": attempt.step.value}
    turn.tell("TaskHandedBack", run, task, code=reason.code, text=reason.text, **facts)


def ended_on_request(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    """Brings an attempt to its end that was cancelled, or that a stop interrupted: that never counts."""
    attempt.counts = False
    if attempt.ending == "cancelled":
        reason = Reason("cancelled", "it was cancelled")
        end_attempt(turn, run, task, attempt, Step.CANCELLED, reason)
        end_task(turn, run, task, TaskState.CANCELLED, reason)
    else:
        reason = Reason("stopped", "the daemon was stopped while it ran")
        end_attempt(turn, run, task, attempt, Step.HANDED_BACK, reason)
        hand_back(turn, run, task, attempt, reason)


def end_worker(turn: Turn, run: Run, task: Task, attempt: Attempt, why: str) -> None:
    """Asks for the end of a worker; one that is not up yet ends as soon as it answers."""
    attempt.ending = attempt.ending or why
    if attempt.step in UP_STEPS:
        attempt.step, attempt.retry_at, attempt.suspended_at = Step.RUNNING, None, None
        command = command_for(turn.swarm, run, task, attempt)
        assert command is not None
        turn.commands.append(command)


def cancel(turn: Turn, run: Run, tasks: list[Task], text: str) -> None:
    """Cancels what has not ended; what is already moving staging can't be held up and lands."""
    idle = [task for task in tasks if task.live is None and task.state not in TASK_ENDS]
    for task in idle:  # all first: one that needs another is to count as cancelled, not as blocked
        run.set_state(task, TaskState.CANCELLED)
        run.aside.discard(task.spec.id)
    for task in idle:
        end_task(turn, run, task, TaskState.CANCELLED, Reason("cancelled", text))
    for task in tasks:
        attempt = task.live
        if attempt is None:
            continue
        if attempt.step in WORKER_STEPS:
            attempt.ending = None
            end_worker(turn, run, task, attempt, "cancelled")
            if attempt.step is Step.COLLECTING:  # what it left is kept, but need not be on its branch
                turn.dropped.append((run.id, task.spec.id, attempt.n))
        elif attempt.step not in MOVING_STEPS:
            cancel_in_queue(turn, run, task, attempt, text)

"""What must be true of every swarm, whatever happened: the random walk asks after every step, the audit on a replayed journal."""

from __future__ import annotations

from collections.abc import Iterator

from swarm.core import memory, train
from swarm.core.admission import Pressure
from swarm.core.model import (
    ATTEMPT_ENDS,
    LANDING_STEPS,
    QUEUE_STEPS,
    TASK_ENDS,
    WORKER_STEPS,
    Attempt,
    Step,
    Task,
    TaskState,
)
from swarm.core.run import Run
from swarm.core.state import Deadline, Swarm


def invariants(swarm: Swarm) -> list[str]:
    """Gives a sentence for each thing that is true of every swarm and is not of this one."""
    wrong: list[str] = []
    used = [a.slot for run in swarm.runs.values() for a in _attempts_with_slot(run)]
    if len(used) != len(set(used)) or set(used) != swarm.slots:
        wrong.append(
            f"slots {sorted(swarm.slots)} are not those of the live workers {sorted(map(str, used))}"
        )
    for run_id, task, command in swarm.trouble:
        run = swarm.runs[run_id]
        if (run.tasks[task].live is None) if task else (command not in run.failures):
            wrong.append(f"{run_id}: {task or command} waits for the machine and for nothing else")
    one_runs = any(
        run.tasks[name].attempts[-1].step is Step.RUNNING for run in swarm.runs.values() for name in run.live
    )
    waits = swarm.pressure is Pressure.EASED and one_runs
    if swarm.memory_at is None and not waits and memory.anybody(swarm, Step.SUSPENDED):
        wrong.append("workers stand still, and nothing will have them go on")
    if swarm.memory_at is not None and Deadline(swarm.memory_at, "memory", "") not in swarm.deadlines:
        wrong.append("what memory asks for next is nowhere to be found")
    coming = {key for run in swarm.runs.values() for key in _coming(run)}
    if coming != swarm.coming:
        wrong.append(f"worktrees on their way back are {sorted(coming)}, counted are {sorted(swarm.coming)}")
    for run in swarm.runs.values():
        wrong.extend(f"{run.id}: {text}" for text in (*_wrong_in(run), *_wrong_in_queue(swarm, run)))
        wrong.extend(f"{run.id}: {text}" for text in _wrong_with_qa(run))
    return [*wrong, *forgotten(swarm)]


def forgotten(swarm: Swarm) -> list[str]:
    """Gives a sentence for each ready task that would wait for ever, because no event will bring it up again."""
    return [f"{run.id}: {text}" for run in swarm.runs.values() for text in _forgotten(swarm, run)]


def _forgotten(swarm: Swarm, run: Run) -> Iterator[str]:
    filed = run.filed()
    for name, task in run.tasks.items():
        if task.state is not TaskState.READY:
            continue
        if task.not_before is not None:
            found = Deadline(task.not_before, "ready", run.id, name) in swarm.deadlines
        elif task.paused or not run.selected(task):
            found = name in run.aside or name in filed
        else:
            found = name in filed
        if not found:
            yield f"{name}: ready but nowhere to be found"


def _attempts_with_slot(run: Run) -> Iterator[Attempt]:
    for name in run.live:
        attempt = run.tasks[name].live
        if attempt is not None and not attempt.slot_free:
            yield attempt


def _coming(run: Run) -> Iterator[tuple[str, str, int]]:
    yield from ((run.id, name, n) for name, n in run.returning)
    for name in run.live:
        attempt = run.tasks[name].live
        if attempt is not None and attempt.step is Step.COLLECTING and attempt.slot_free:
            yield run.id, name, attempt.n


def _wrong_in(run: Run) -> Iterator[str]:
    live = {name for name, task in run.tasks.items() if task.live is not None}
    if live != set(run.live):
        yield f"live tasks {sorted(live)} are listed as {sorted(run.live)}"
    counted: dict[TaskState, int] = {}
    for name, task in run.tasks.items():
        counted[task.state] = counted.get(task.state, 0) + 1
        yield from _wrong_with(run, name, task)
    if any(run.counts[state] != counted.get(state, 0) for state in TaskState):
        yield f"counts {dict(run.counts)} are not {counted}"
    still_open = sum(1 for t in run.tasks.values() if run.selected(t) and t.state not in TASK_ENDS)
    if run.open_tasks != still_open:
        yield f"{run.open_tasks} tasks counted open, {still_open} are"
    idle = {str(held.holder) for held in run.claims.held()} - live
    if not all(run.keeps(run.tasks[name]) and name not in run.aside for name in idle):
        yield f"claims are held by {sorted(idle)}, which are not live"
    for held in run.claims.held():
        if run.claims.first_conflict((held.claim,), held.holder) is not None:
            yield f"{held.holder} and another hold {held.claim.path}"
    for name, (key, claims) in run.waiting.tasks().items():
        task = run.tasks[name]
        keeps_others = task.state is TaskState.READY and run.selected(task) and not task.paused
        if not keeps_others or key != (-task.spec.priority, task.order) or claims != run.wanted_claims(task):
            yield f"{name}: others let it go first although it does not wait as they were told"
    at_rest = not run.prepared or run.discarding  # a run that is given up need not be published
    if (run.publishing_commit is None) != (run.staging == run.published) and not at_rest:
        yield f"staging {run.staging}, published {run.published}, being published {run.publishing_commit}"


def _wrong_with_qa(run: Run) -> Iterator[str]:
    at_work = run.tasks[run.qa.task] if run.qa is not None and run.qa.task else None
    if at_work is not None and at_work.state in TASK_ENDS and not run.discarding:
        yield f"QA waits for {at_work.spec.id}, which has ended"


def _wrong_in_queue(swarm: Swarm, run: Run) -> Iterator[str]:
    if list(run.queue) != sorted(run.queue, key=lambda name: run.tasks[name].attempts[-1].place):
        yield f"{list(run.queue)} do not wait in the order of their places"
    fallen = [] if run.discarding else train.adrift(run, swarm.limits)
    if fallen:
        yield f"{fallen} stand on what will not land"


def _wrong_with(run: Run, name: str, task: Task) -> Iterator[str]:
    if [attempt.n for attempt in task.attempts] != list(range(1, len(task.attempts) + 1)):
        yield f"{name}: attempts are not numbered from 1 up"
    if any(attempt.step not in ATTEMPT_ENDS for attempt in task.attempts[:-1]):
        yield f"{name}: an older attempt is live"
    attempt = task.live
    landed = task.state is TaskState.LANDED or (attempt is not None and bool(attempt.undoes))
    if (task.landed_commit is not None) != landed:
        yield f"{name}: {task.state} with landed commit {task.landed_commit}"
    allowed = {
        TaskState.RUNNING: WORKER_STEPS,
        TaskState.QUEUED: QUEUE_STEPS | {Step.COLLECTING},
        TaskState.LANDING: LANDING_STEPS,
    }.get(task.state)
    if (attempt is None) != (allowed is None) or (
        attempt is not None and allowed and attempt.step not in allowed
    ):
        yield f"{name}: {task.state} while its attempt is {attempt.step if attempt else 'none'}"
    if attempt is not None and (attempt.step is Step.SUSPENDED) != (attempt.suspended_at is not None):
        yield f"{name}: {attempt.step} and stands still since {attempt.suspended_at}"
    if attempt is not None and attempt.step in QUEUE_STEPS and name not in run.queue:
        yield f"{name}: waits but is not in the queue"
    if attempt is not None and (attempt.step is Step.PUBLISHING) != (name in run.publishing):
        yield f"{name}: publishing and the list of those do not agree"
    if task.state is TaskState.READY and (run.needs.dead(name) or not run.needs.free(name)):
        yield f"{name}: ready although its needs are not met"
    if task.state is TaskState.PENDING and run.needs.free(name):
        yield f"{name}: pending although nothing that it needs is open"
    if task.state is TaskState.PENDING and run.needs.dead(name):
        yield f"{name}: pending although something that it needs ended without landing"
    if task.state is TaskState.BLOCKED and not run.needs.dead(name):
        yield f"{name}: blocked although nothing that it needs ended without landing"

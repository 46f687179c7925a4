"""What follows when the journal was rebuilt and lacks its end: staging proves landings, refs and folders prove attempts.

A landing that is found is published and told like any other, so that no task lands twice; attempts that are found only count, so
that no number is given twice and no work is written over. What was at work when the journal ends is not known any more: it ends as
lost, its branch stays, and the task gets another attempt. What was in the merge queue stays there, since it is verified anew.

Rules for editing: a run or a task of which only landings are left is known by name alone until its plan is submitted again.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarm.core import messages as m
from swarm.core.lifecycle import end_attempt, free_slot, hand_back
from swarm.core.model import (
    TASK_ENDS,
    WORKER_STEPS,
    Attempt,
    FoundAttempt,
    FoundLanding,
    FoundRun,
    PlanSpec,
    Reason,
    Step,
    SuiteResult,
    Task,
    TaskSpec,
    TaskState,
    attempt_branch,
    slug,
)
from swarm.core.run import Run
from swarm.core.state import Turn, run_commands

LOST = Reason("lost", "the journal lost its end, and what became of this attempt is not known")


def journal_rebuilt(turn: Turn, event: m.JournalRebuilt) -> None:
    """Takes in what was found, and ends what nobody knows about any more."""
    for found in event.runs:
        run = turn.swarm.runs.get(found.run) or _new_run(turn, found)
        _number_attempts(turn, run, found.attempts)
        for landing in found.landings:
            _land(turn, run, landing)
        if found.landings:
            run.staging = found.staging
        turn.stir(run)
    for run in turn.swarm.runs.values():
        for name in tuple(run.live):
            task = run.tasks[name]
            attempt = task.live
            if attempt is not None and attempt.step in WORKER_STEPS:
                _lose(turn, run, task, attempt)
                hand_back(turn, run, task, attempt, LOST)
    turn.tell(
        "JournalRebuilt",
        None,
        landings=sum(len(found.landings) for found in event.runs),
        runs=len(event.runs),
    )


def _new_run(turn: Turn, found: FoundRun) -> Run:
    run = Run(
        id=found.run,
        index=len(turn.swarm.runs),
        plan=PlanSpec(id=found.run, name=""),
        base_branch="",
        base_commit=found.base,
        created_at=turn.at,
        staging=found.base,
        published=found.base,
        followed=found.base,
    )
    turn.swarm.runs[run.id] = run
    turn.commands.extend(run_commands(run))
    return run


def _number_attempts(turn: Turn, run: Run, attempts: Iterable[FoundAttempt]) -> None:
    names = {slug(name): name for name in run.tasks}
    for found in sorted(attempts, key=lambda each: (each.slug, each.n)):
        if found.slug in names:
            _fill(turn, run, run.tasks[names[found.slug]], found.n, found.head)
        else:
            run.forgotten[found.slug] = (*run.forgotten.get(found.slug, ()), found)


def recall(turn: Turn, run: Run, tasks: Iterable[Task]) -> None:
    """Gives tasks that a plan has just named the attempts that were found before anybody knew them."""
    for task in tasks:
        for found in run.forgotten.pop(slug(task.spec.id), ()):
            _fill(turn, run, task, found.n, found.head)


def learn(run: Run, plan: PlanSpec) -> None:
    """Tells the run what its plan says of tasks that were known by their landings alone."""
    for spec in plan.tasks:
        if spec.id in run.unplanned:
            run.unplanned.discard(spec.id)
            task = run.tasks[spec.id]
            run.needs.forget(task.spec)
            task.spec = spec
            run.needs.replace(spec)
            run.needs.over(spec.id)


def _fill(turn: Turn, run: Run, task: Task, n: int, head: str | None) -> None:
    """Makes up for the attempts up to `n` that nothing is known of but that they were; the last has `head`."""
    if n <= len(task.attempts):
        return
    live = task.live
    if live is not None:
        _lose(turn, run, task, live)
        if task.state not in TASK_ENDS:
            hand_back(turn, run, task, live, LOST)
    for number in range(len(task.attempts) + 1, n + 1):
        task.attempts.append(
            Attempt(
                n=number,
                step=Step.LOST,
                base=run.base_commit,
                agent=task.spec.agent,
                branch=attempt_branch(run.id, task.spec.id, number),
                created_at=turn.at,
                ended_at=turn.at,
                slot_free=True,
                returned=True,
                head=head if number == n else None,
                reason=LOST,
                counts=False,
            )
        )


def _land(turn: Turn, run: Run, landing: FoundLanding) -> None:
    """Puts a task where a landing stands that waits to be published; publishing finds what is done, and lands it."""
    name = landing.task
    task = run.tasks.get(name)
    if task is None:
        (task,) = run.add((), (TaskSpec(id=name, title=landing.title),))
        run.unplanned.add(name)
        recall(turn, run, (task,))
    if task.state is TaskState.LANDED or name in run.publishing:
        return
    _fill(turn, run, task, landing.attempt, landing.head)
    attempt = task.attempts[-1]
    _reopen(run, task)
    free_slot(turn, attempt)
    if (name, attempt.n) not in run.returning:
        turn.swarm.coming.discard((run.id, name, attempt.n))
    turn.swarm.trouble.pop((run.id, name, ""), None)
    run.queue.pop(name, None)
    if name in run.landing:
        run.landing.remove(name)
    attempt.step, attempt.ended_at, attempt.reason, attempt.retry_at = Step.PUBLISHING, None, None, None
    attempt.head, attempt.candidate = landing.head, landing.commit
    attempt.suites = tuple(SuiteResult(name=suite, outcome="passed") for suite in landing.verified)
    run.live[name] = None
    run.publishing.append(name)
    run.set_state(task, TaskState.LANDING)


def _reopen(run: Run, task: Task) -> None:
    """Takes back that a task has ended without landing, and that others are blocked by it."""
    task.reason, task.ended_at, task.not_before, run.ended_at = None, None, None, None
    run.aside.discard(task.spec.id)
    for freed in run.needs.revived(task.spec.id):
        other = run.tasks[freed]
        if other.state is TaskState.BLOCKED:
            run.set_state(other, TaskState.PENDING)
            other.reason, other.ended_at = None, None


def _lose(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    attempt.counts = False
    end_attempt(turn, run, task, attempt, Step.LOST, LOST)

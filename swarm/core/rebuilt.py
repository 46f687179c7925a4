"""What follows when the journal was rebuilt and lacks its end: staging proves landings and undos, refs and folders prove attempts.

A landing that is found is published and told like any other, so that no task lands twice, and so is an undo, so that none is done
twice or forgotten; attempts that are found only count, so that no number is given twice and no work is written over. What was at
work when the journal ends is not known any more: it ends as lost, its branch stays, and the task gets another attempt. What was in
the merge queue stays there, since it is verified anew.

Rules for editing: a run or a task of which only landings are left is known by name alone until its plan is submitted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from swarm.core import astray, discard, undoing
from swarm.core import messages as m
from swarm.core.lifecycle import (
    end_attempt,
    end_task,
    ended_on_request,
    free_slot,
    hand_back,
    stays_landed,
)
from swarm.core.merge_queue import land
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

Heads = Mapping[tuple[str, int], str | None]  # the work of attempts that are known by slug and number alone


def journal_rebuilt(turn: Turn, event: m.JournalRebuilt) -> None:
    """Takes in what was found, and ends what nobody knows about any more."""
    for name in event.discarded:
        discard.forget(turn, turn.swarm.runs[name])
    for found in event.runs:
        run = turn.swarm.runs.get(found.run) or _new_run(turn, found)
        heads = {(each.slug, each.n): each.head for each in found.attempts}
        for landing in found.landings:
            _take_in(turn, run, landing, heads)
        _number_attempts(turn, run, found.attempts, heads)
        if found.landings:
            run.staging = found.staging
        run.behind = event.publish_first and run.published != run.staging
        turn.stir(run)
    for run in turn.swarm.runs.values():
        for name in tuple(run.live):
            task = run.tasks[name]
            attempt = task.live
            if attempt is not None and attempt.step in WORKER_STEPS:
                _lose(turn, run, task, attempt)
        if event.by_hand_anew:
            _look_anew(turn, run)
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


def _number_attempts(turn: Turn, run: Run, attempts: Iterable[FoundAttempt], heads: Heads) -> None:
    names = {slug(name): name for name in run.tasks}
    for found in attempts:
        if found.slug in names:
            _fill(turn, run, run.tasks[names[found.slug]], found.n, heads)
        else:
            run.forgotten[found.slug] = (*run.forgotten.get(found.slug, ()), found)


def recall(turn: Turn, run: Run, tasks: Iterable[Task]) -> None:
    """Gives tasks that a plan has just named the attempts that were found before anybody knew them."""
    for task in tasks:
        forgotten = run.forgotten.pop(slug(task.spec.id), ())
        heads = {(found.slug, found.n): found.head for found in forgotten}
        for found in forgotten:
            _fill(turn, run, task, found.n, heads)


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
            if task.state in TASK_ENDS and task.state is not TaskState.LANDED:
                run.needs.died(spec.id)


def _fill(turn: Turn, run: Run, task: Task, n: int, heads: Heads) -> None:
    """Makes up for the attempts up to `n` that nothing is known of but that they were, and the work of those in `heads`."""
    if n <= len(task.attempts):
        return
    if task.spec.id in run.publishing:
        _land_waiting(turn, run)
    if task.live is not None:
        _lose(turn, run, task, task.live)
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
                head=heads.get((slug(task.spec.id), number)),
                reason=LOST,
                counts=False,
            )
        )


def _land_waiting(turn: Turn, run: Run) -> None:
    """Lands what waits to be published: what comes after it could only be because it had landed."""
    waiting, run.publishing, run.publishing_count = run.publishing, [], 0
    for name in waiting:
        land(turn, run, run.tasks[name])


def _take_in(turn: Turn, run: Run, landing: FoundLanding, heads: Heads) -> None:
    """Puts a task where a landing, or an undo, stands that waits to be published; publishing finds what is done, and tells it."""
    if any(name in run.publishing for name in (landing.task, *landing.undoes)):
        _land_waiting(turn, run)
    if landing.undoes:
        _undo(turn, run, landing, heads)
    else:
        _land(turn, run, landing, heads)


def _land(turn: Turn, run: Run, landing: FoundLanding, heads: Heads) -> None:
    name = landing.task
    task = run.tasks.get(name)
    if task is None:
        spec = TaskSpec(id=name, title=landing.title)
        if landing.by_hand:
            spec = astray.spec(name, landing.title)
        else:
            run.unplanned.add(name)
        (task,) = run.add((), (spec,))
        recall(turn, run, (task,))
    if task.state is TaskState.LANDED:
        return
    _fill(turn, run, task, landing.attempt, heads)
    attempt = task.attempts[-1]
    _reopen(run, task)
    free_slot(turn, attempt)
    attempt.head = landing.head
    _wait_to_be_published(turn, run, task, attempt, landing)


def _undo(turn: Turn, run: Run, landing: FoundLanding, heads: Heads) -> None:
    task, attempt = run.tasks[landing.task], run.tasks[landing.task].live
    if attempt is None or not attempt.undoes:
        _fill(turn, run, task, len(task.attempts) + 1, heads)
        attempt = task.attempts[-1]
        attempt.agent, attempt.head = undoing.AGENT, None
    attempt.undoes = tuple((name, str(run.tasks[name].landed_commit)) for name in landing.undoes)
    run.ended_at = None
    _wait_to_be_published(turn, run, task, attempt, landing)
    undoing.advanced(turn, run, task, attempt)


def _wait_to_be_published(turn: Turn, run: Run, task: Task, attempt: Attempt, landing: FoundLanding) -> None:
    name = task.spec.id
    if (name, attempt.n) not in run.returning:
        turn.swarm.coming.discard((run.id, name, attempt.n))
    turn.swarm.trouble.pop((run.id, name, ""), None)
    run.leave_queue(name)
    attempt.search = None
    run.line.append((name, landing.commit))
    attempt.step, attempt.ended_at, attempt.reason, attempt.retry_at = Step.PUBLISHING, None, None, None
    attempt.suspended_at = None
    attempt.candidate = landing.commit
    attempt.suites = tuple(SuiteResult(name=suite, outcome="passed") for suite in landing.verified)
    if landing.verified != tuple(suite.name for suite in attempt.to_pass):
        attempt.to_pass = ()  # others were asked for in what is lost
    run.live[name] = None
    run.publishing.append(name)
    run.set_state(task, TaskState.LANDING)


def _reopen(run: Run, task: Task) -> None:
    """Takes back that a task has ended without landing, and that others are blocked by it."""
    task.reason, task.ended_at, task.not_before, run.ended_at = None, None, None, None
    run.aside.discard(task.spec.id)
    for freed in (*run.needs.revived(task.spec.id), *run.needs.at_work(task.spec.id)):
        other = run.tasks[freed]
        if other.state is TaskState.BLOCKED:
            run.set_state(other, TaskState.PENDING)
            other.reason, other.ended_at = None, None


def _look_anew(turn: Turn, run: Run) -> None:
    """Has staging looked at as if nothing were known of what people did to it, where an attempt to take that in was lost."""
    for name, task in run.tasks.items():
        if task.spec.by_hand and task.state is TaskState.READY:  # no worker can do it
            end_task(turn, run, task, TaskState.CANCELLED, LOST)
            if run.astray is not None and run.astray.task == name:
                run.astray, run.looking = None, ""


def _lose(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    """Ends an attempt as lost, and gives its task what that leaves: its landing, its end, or another attempt."""
    attempt.counts = False
    if attempt.undoes:
        stays_landed(turn, run, task, attempt, Step.LOST, LOST)
    elif attempt.ending == "cancelled":
        ended_on_request(turn, run, task, attempt)
    else:
        end_attempt(turn, run, task, attempt, Step.LOST, LOST)
        hand_back(turn, run, task, attempt, LOST)

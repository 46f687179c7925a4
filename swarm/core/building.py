"""How a run goes from its goal to work that is ready to be finished: research, a plan, an approval, builders, QA.

Each step is a task of the run like any other, so that it has a worker, a time limit, attempts, and outlives a crash. Where a run
stands on this way follows from its tasks and from what was approved of; nothing else is remembered.

Rules for editing: `move` is called once a turn for each run that was touched, after QA has moved. A plan is taken in by
`submission`, as every plan is; what it must be was looked at when its text was read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from swarm.core import goal as goals
from swarm.core import lifecycle, reviewing, submission, suites
from swarm.core import messages as m
from swarm.core.goal import Way
from swarm.core.model import (
    GOOD_ENDS,
    TASK_ENDS,
    Attempt,
    PlanSpec,
    Reason,
    Step,
    Task,
    TaskState,
    slug,
)
from swarm.core.places import Places
from swarm.core.run import Run
from swarm.core.state import IllegalEvent, Turn, kept_run, some


def stage(run: Run) -> str:
    """Says in one word where a run stands on its way: researching, answered, planning, approval, approved, building, reviewing,
    ready, or stopped, where something has to be seen to first."""
    way = run.way
    assert way is not None
    if way.ready and not run.open_tasks and (run.on_target is not None or _is_built(run, way)):
        return "ready"
    if way.taken_in:
        at_review = run.qa is not None and run.qa.task
        return "reviewing" if at_review else "building" if run.open_tasks else "stopped"
    if way.plan is not None:
        return "approved" if way.approved else "approval"
    task = run.tasks.get(way.architect)
    if task is not None:
        return "stopped" if task.state in TASK_ENDS else "planning"
    if not all(run.tasks[name].state in TASK_ENDS for name in way.scouts):
        return "researching"
    return (
        "answered" if any(run.tasks[name].state is TaskState.ANSWERED for name in way.scouts) else "stopped"
    )


def check_retry(run: Run, task: Task) -> None:
    """Raises `IllegalEvent` for research whose answer would come too late."""
    way = run.way
    if way is None or not task.spec.answer:
        return
    if way.plan is not None or (way.architect and task.spec.answer == goals.FINDINGS):
        raise IllegalEvent(f"{task.spec.id} would answer too late: what came of it has been used")


def answered(turn: Turn, run: Run, task: Task, attempt: Attempt, event: m.Collected) -> None:
    """Takes an answer in: of what else the worker changed nothing lands. A plan that is approved of beforehand is carried out."""
    plan, way = event.plan, run.way
    if (text := _refused(turn, run, task, plan)) is not None:
        lifecycle.held_against(turn, run, task, attempt, Step.FAILED, Reason("worker_failed", text))
        return
    attempt.answer = event.answer
    if attempt.touched:
        turn.tell("StrayFound", run, task, paths=list(attempt.touched[:50]), policy="not landed")
    lifecycle.end_attempt(turn, run, task, attempt, Step.ANSWERED, None)
    lifecycle.end_task(turn, run, task, TaskState.ANSWERED, None)
    turn.tell("TaskAnswered", run, task, agent=attempt.agent)
    if way is None or plan is None or task.spec.id != way.architect:
        return
    way.plan, way.attempt, way.digest = plan, attempt.n, goals.digest(goals.plan_text(event.answer))
    code = "approved" if way.goal.approved else "approval"
    turn.tell("PlanDrafted", run, task, tasks=len(plan.tasks), digest=way.digest, code=code)
    if way.goal.approved:
        _approve(turn, run, way, plan, way.digest)
        if way.goal.builds:
            _take_in(turn, run, way, plan)


def _refused(turn: Turn, run: Run, task: Task, plan: PlanSpec | None) -> str | None:
    """Says why the plan of an answer won't do, also where it is to be carried out at once and can't be; None where it will."""
    if plan is None:
        return None
    taken = [each.id for each in plan.tasks if _is_ours(run, each.id)]
    if taken:
        return f"its plan has tasks of the ids {some(taken)}, which this run uses for something else"
    way = run.way
    if way is not None and task.spec.id == way.architect and way.goal.approved and way.goal.builds:
        try:
            submission.check(turn.swarm, _wanted(turn, run, way, plan))
        except IllegalEvent as error:
            return f"its plan can't be taken in: {error}"
    return None


def approved(turn: Turn, event: m.ApprovalGiven) -> None:
    """Takes an approval in, and with `build` the plan."""
    run = kept_run(turn, event.run)
    way = run.way
    if way is None or way.plan is None:
        raise IllegalEvent(f"run {run.id!r} has no plan that could be approved of")
    taken = [each.id for each in event.plan.tasks if _is_ours(run, each.id)]
    if taken:
        raise IllegalEvent(f"run {run.id!r} uses the ids {some(taken)} for something else")
    if event.build:
        _take_in(turn, run, way, event.plan)
    _approve(turn, run, way, event.plan, event.digest)


def move(turn: Turn, run: Run) -> None:
    """Takes the next step when all that it waits for has ended."""
    way = run.way
    if way is None or way.ready or run.discarding:
        return
    if way.taken_in:
        way.told = way.told and not run.open_tasks
        if not run.open_tasks and not way.told:
            _built(turn, run, way)
    elif way.goal.architect is not None and not way.architect and _researched(run, way):
        _plan(turn, run, way)


def _is_ours(run: Run, name: str) -> bool:
    task = run.tasks.get(name)
    return task is not None and bool(task.spec.answer or task.spec.qa or task.spec.by_hand)


def _researched(run: Run, way: Way) -> bool:
    """Tells whether there is something to plan from; research that was cancelled was not wanted any more."""
    states = {run.tasks[name].state for name in way.scouts}
    return states <= TASK_ENDS - {TaskState.CANCELLED} and TaskState.ANSWERED in states


def findings(run: Run, way: Way) -> Iterator[tuple[Task, str]]:
    """Yields each scout's task and what it found, "" where that is nothing."""
    for name in way.scouts:
        task = run.tasks[name]
        yield task, task.attempts[-1].answer if task.state is TaskState.ANSWERED else ""


def _plan(turn: Turn, run: Run, way: Way) -> None:
    architect = way.goal.architect
    assert architect is not None
    number, name = 1, goals.ARCHITECT
    while name in run.tasks or slug(name) in run.forgotten:
        number += 1
        name = f"{goals.ARCHITECT}-{number}"
    found = [(task.spec.title, text or "Nobody found anything out.") for task, text in findings(run, way)]
    prompt = goals.plan_prompt(architect.prompt, way.goal.text, found)
    way.architect = name
    lifecycle.begin(turn, run, replace(architect, id=name, prompt=prompt, answer=goals.PLAN))


def _approve(turn: Turn, run: Run, way: Way, plan: PlanSpec, digest: str) -> None:
    way.plan, way.digest, way.approved = plan, digest, digest
    turn.tell("PlanApproved", run, digest=digest)


def _take_in(turn: Turn, run: Run, way: Way, plan: PlanSpec) -> None:
    """Has a plan taken into the run. Raises `IllegalEvent`, having changed nothing, where it can't be."""
    submission.plan_submitted(turn, _wanted(turn, run, way, plan))
    way.taken_in, way.told, way.ready = True, False, False
    run.width = goals.width(len(plan.tasks))


def _wanted(turn: Turn, run: Run, way: Way, plan: PlanSpec) -> m.PlanSubmitted:
    """Makes the plan that the run is to have of one that came of its goal."""
    verify = (*way.goal.verify, *plan.verify)
    tasks = tuple(task if task.role else replace(task, role=goals.BUILDER) for task in plan.tasks)
    wanted = suites.apart(replace(plan, id=run.id, base="", verify=verify, tasks=tasks))
    return m.PlanSubmitted(
        at=turn.at,
        run=run.id,
        plan=wanted,
        base_branch=run.base_branch,
        base_commit=run.base_commit,
        sequential=way.goal.sequential,
    )


def _lacking(run: Run) -> list[str]:
    """Names the tasks of builders that did not land, or were taken off again."""
    return [
        name for name, task in run.tasks.items() if task.state not in GOOD_ENDS and not _is_ours(run, name)
    ]


def _reviewed(run: Run) -> str:
    return run.qa.state(run.published) if run.qa is not None else "void"


def _is_built(run: Run, way: Way) -> bool:
    """Tells whether all of it stands on staging, approved of where somebody is to review it: after an undo it does not."""
    return not _lacking(run) and (way.goal.reviewer is None or _reviewed(run) == "approved")


def _built(turn: Turn, run: Run, way: Way) -> None:
    """Sees what the builders came to, and has it reviewed where somebody is to."""
    bad, reviewed, goal = _lacking(run), _reviewed(run), way.goal
    if bad:
        _stop(turn, run, way, f"{some(bad)} did not land")
    elif _is_built(run, way):
        way.ready = True
        turn.tell("BuildReady", run, commit=run.published)
    elif goal.reviewer is not None and reviewed == "void":
        reviewing.begin(turn, run, goal.reviewer, goal.fixer, goal.rounds_max)
    else:
        _stop(turn, run, way, "the reviewer did not approve of it")


def _stop(turn: Turn, run: Run, way: Way, text: str) -> None:
    way.told = True
    turn.tell("BuildStopped", run, text=text)


def drafted(run: Run, way: Way) -> str:
    """Gives the text of the plan as the architect wrote it."""
    return goals.plan_text(run.tasks[way.architect].attempts[way.attempt - 1].answer)


def draft(run: Run, way: Way, places: Places) -> Path:
    """Says which file holds the plan, which a person may change before approving of it."""
    name = goals.draft_name(drafted(run, way))
    return places.attempt(run.id, way.architect, way.attempt).draft(name)


def document(run: Run) -> dict[str, Any] | None:
    """Gives what is known of a run's way, as status shows it; None where it began with a plan."""
    way = run.way
    if way is None:
        return None
    return {
        "text": way.goal.text,
        "stage": stage(run),
        "builds": way.goal.builds,
        "approved": way.goal.approved,
        "findings": [
            {
                "task": task.spec.id,
                "question": task.spec.title,
                "state": task.state.value,
                "text": text,
                "changed": list(task.attempts[-1].touched[:50]) if task.attempts else [],
            }
            for task, text in findings(run, way)
        ],
        "plan": None
        if way.plan is None
        else {
            "tasks": [task.id for task in way.plan.tasks],
            "file": str(draft(run, way, Places(Path()))),
            "digest": way.digest,
            "approved": way.approved or None,
            "taken_in": way.taken_in,
        },
        "width": run.width or None,
    }

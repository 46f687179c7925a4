"""How a plan is taken in, for a new run or for one that there is: whatever of it has not started may still change.

Rules for editing: a plan is taken in whole or refused whole, so all that can be wrong with it is looked for before anything is
changed.
"""

from __future__ import annotations

import dataclasses
import hashlib

from swarm.core import feedback, lessons, ownership, providers, rebuilt
from swarm.core import messages as m
from swarm.core.goal import Way
from swarm.core.graph import shown
from swarm.core.lifecycle import settle
from swarm.core.model import GOOD_ENDS, TASK_ENDS, PhaseSpec, PlanSpec, Task, TaskSpec, TaskState
from swarm.core.needs import Needs
from swarm.core.run import Run
from swarm.core.state import (
    IllegalEvent,
    StaleEvent,
    Swarm,
    Turn,
    carried_out,
    kept_run,
    run_commands,
    some,
    the_run,
)
from swarm.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """What a plan would change in a run: ids of new and replaced tasks, of those at work or landed, which may not change, of needs
    that nobody knows, of a ring of needs that it would close, and of those that had not started and are finished now."""

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: int
    refused: tuple[str, ...]
    unknown: tuple[str, ...]
    ring: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()


def would_change(swarm: Swarm, run_id: str, plan: PlanSpec) -> Change:
    """Says what submitting `plan` would do, without doing it."""
    run = swarm.runs.get(run_id)
    known = run.tasks if run is not None else {}
    before = run.finished_before if run is not None else {}
    added, replaced, refused, finished, unchanged = [], [], [], [], 0
    for spec in plan.tasks:
        task = known.get(spec.id)
        if task is None and spec.id not in before:
            added.append(spec.id)
        elif task is not None and spec.finished and not (task.attempts or _is_ours(task)):
            finished.append(spec.id)
        elif task is None or task.spec == spec or spec.finished or (run and spec.id in run.unplanned):
            unchanged += 1
        elif task.attempts and not _may_begin_again(task):
            refused.append(spec.id)
        else:
            replaced.append(spec.id)
    names = {*known, *before, *(spec.id for spec in plan.tasks)}
    phases = {*(run.phases if run is not None else ()), *(phase.id for phase in plan.phases)}
    wanting: tuple[PhaseSpec | TaskSpec, ...] = (*plan.phases, *plan.tasks)
    unknown = [need for spec in wanting for need in spec.needs if need not in names]
    unknown += [need for spec in wanting for need in spec.phase_needs if need not in phases]
    unknown += [spec.phase for spec in plan.tasks if spec.phase is not None and spec.phase not in phases]
    ring = [] if unknown else _ring(run, plan, {*added, *replaced})
    return Change(
        tuple(added),
        tuple(replaced),
        unchanged,
        tuple(refused),
        tuple(unknown),
        tuple(ring),
        tuple(finished),
    )


def _may_begin_again(task: Task) -> bool:
    """Tells whether a task has ended without landing, and is one that plans have a say in."""
    return task.state in TASK_ENDS - GOOD_ENDS and not _is_ours(task)


def _is_ours(task: Task) -> bool:
    """Tells whether a task is none of a plan's, but was made by ourselves."""
    return bool(task.spec.by_hand or task.spec.qa or task.spec.answer)


def _ring(run: Run | None, plan: PlanSpec, changing: set[str]) -> list[str]:
    needs, unplanned = (run.needs, run.unplanned) if run is not None else (Needs(), set[str]())
    specs = [spec for spec in plan.tasks if spec.id in changing]
    learnt = [spec for spec in plan.tasks if spec.id in unplanned]  # with all that they need, finished or not
    return needs.ring(plan.phases, [*specs, *(dataclasses.replace(spec, finished=False) for spec in learnt)])


def id_of_title(run: Run, spec: TaskSpec) -> str:
    """Gives the id of a task whose id was made from its title: one of its own where that is taken by what has another title, since
    a title loses what no id may have. The same title has the same id again."""
    digest = hashlib.sha256(spec.title.encode("utf-8", "surrogatepass")).hexdigest()
    names = (spec.id, f"{spec.id}-{digest[:6]}")
    return next((name for name in names if _free_for(run, name, spec.title)), f"{spec.id}-{digest}")


def _free_for(run: Run, name: str, title: str) -> bool:
    task = run.tasks.get(name)
    known = run.finished_before.get(name) if task is None else task.spec
    return known.title == title if known is not None else name not in run.phases


def plan_submitted(turn: Turn, event: m.PlanSubmitted) -> None:
    """Takes a plan in, for a new run or into one that there is."""
    swarm, plan = turn.swarm, event.plan
    if event.run in swarm.runs and kept_run(turn, event.run) and event.goal is not None:
        raise IllegalEvent(f"there is a run {event.run!r} already")
    change = check(swarm, event)
    run = swarm.runs.get(event.run)
    if run is None:
        run = _new_run(turn, event)
    elif not run.plan.name:  # it was known from the landing repository alone
        run.plan, run.base_branch = dataclasses.replace(plan, tasks=(), phases=()), event.base_branch
    else:
        run.plan = dataclasses.replace(run.plan, verify=plan.verify)
    run.take_turns(event.sequential)
    run.fail_fast = event.fail_fast
    added = set(change.added)
    new = run.add(plan.phases, [spec for spec in plan.tasks if spec.id in added])
    providers.submitted(turn, run, plan)
    ownership.settle(swarm, swarm.limits.roles)
    rebuilt.learn(run, plan)
    rebuilt.recall(turn, run, new)
    replaced, finished = set(change.replaced), set(change.finished)
    changed = {spec.id: spec for spec in plan.tasks if spec.id in replaced}
    if changed:
        run.unfile(changed)
    retried = []
    for name, spec in changed.items():
        task = run.tasks[name]
        if task.state in (TaskState.FAILED, TaskState.CANCELLED):
            retried.append(task)
            task.feedback = feedback.after_the_end(task)
        run.needs.forget(task.spec)
        task.spec, task.reason, task.ended_at = spec, None, None
        task.budget_from, task.alone = len(task.attempts), False
        run.set_state(task, TaskState.PENDING)
        new.append(task)
    for spec in changed.values():
        run.needs.replace(spec)
    run.finish_before([spec for spec in plan.tasks if spec.id in finished])
    _remember_source(run, plan)
    run.needs.settle()
    run.select(event.only)
    if run.open_tasks:
        run.ended_at, run.finished_commit = None, None
    counts = {"added": len(added), "replaced": len(changed), "unchanged": change.unchanged}
    turn.tell("PlanAccepted", run, **counts, **({"finished_before": len(finished)} if finished else {}))
    for task in retried:
        turn.tell("TaskRetried", run, task)
    for name in dict.fromkeys((*(task.spec.id for task in new), *run.needs.take_changed())):
        _reconsider(turn, run, name)
    run.take_back_aside()
    turn.stir(run)


def _remember_source(run: Run, plan: PlanSpec) -> None:
    if plan.source:
        for spec in plan.tasks:
            task = run.tasks.get(spec.id)
            if task is not None:
                task.source = plan.source


def left_out(run: Run, plan: PlanSpec) -> tuple[str, ...]:
    """Lists the tasks that are still wanted though the file of `plan`, which named them last, does not name them any more; none
    where it is not known which file that is."""
    if not plan.source:
        return ()
    named = {spec.id for spec in plan.tasks}
    return tuple(
        name
        for name, task in run.tasks.items()
        if task.source == plan.source and name not in named and task.state not in TASK_ENDS
    )


def check(swarm: Swarm, event: m.PlanSubmitted) -> Change:
    """Says what a plan changes. Raises `IllegalEvent` where it can't be taken in; nothing has been changed yet."""
    change = would_change(swarm, event.run, event.plan)
    if change.refused:
        raise IllegalEvent(f"{some(change.refused)} changed in the plan and started already")
    if change.unknown:
        raise IllegalEvent(f"nobody knows {some(change.unknown)}, which the plan needs")
    if change.ring:
        raise IllegalEvent(f"needs would go round in a circle: {shown(change.ring)}")
    names = {spec.id for spec in event.plan.tasks}
    if len(names) < len(event.plan.tasks):
        raise IllegalEvent("two tasks of the plan have the same id")
    run = swarm.runs.get(event.run)
    known = {*names, *run.tasks, *run.finished_before} if run is not None else names
    unknown = [name for name in event.only if name not in known]
    if unknown:
        raise IllegalEvent(f"no task {some(unknown)} in run {event.run!r}")
    return change


def _reconsider(turn: Turn, run: Run, name: str) -> None:
    """Gives a task whose needs a plan has changed, its own or those of others, the state that they call for."""
    task = run.tasks.get(name)
    if task is None:
        return  # finished before
    dead = run.needs.dead(name)
    if (task.state is TaskState.BLOCKED and not dead) or (
        task.state is TaskState.READY and (dead or not run.needs.free(name))
    ):
        run.set_state(task, TaskState.PENDING)
        task.reason, task.ended_at, task.not_before = None, None, None
    if task.state is TaskState.PENDING:
        settle(turn, run, task)


def _new_run(turn: Turn, event: m.PlanSubmitted) -> Run:
    swarm = turn.swarm
    run = Run(
        id=event.run,
        index=1 + max((each.index for each in swarm.runs.values()), default=-1),
        plan=dataclasses.replace(event.plan, tasks=(), phases=()),
        base_branch=event.base_branch,
        base_commit=event.base_commit,
        created_at=event.at,
        staging=event.base_commit,
        published=event.base_commit,
        followed=event.base_commit,
        lessons=lessons.offered(swarm.lessons),
    )
    if event.goal is not None:
        run.way = Way(event.goal, tuple(spec.id for spec in event.plan.tasks if spec.answer))
    swarm.runs[run.id] = run
    turn.commands.extend(run_commands(run))
    turn.tell("RunStarted", run, base=run.base_commit, branch=run.base_branch)
    return run


def run_prepared(turn: Turn, event: m.RunPrepared) -> None:
    """Takes in where staging of a new run stands."""
    run = the_run(turn, event.run)
    if run.prepared:
        raise StaleEvent(f"run {event.run!r} is prepared already")
    run.prepared, run.worktree = True, event.worktree
    run.published = run.followed = event.commit
    if run.publishing or run.behind:  # found on staging when the journal was rebuilt
        turn.stir(run)
    else:
        run.staging = event.commit
    carried_out(turn, run, "PrepareRun")

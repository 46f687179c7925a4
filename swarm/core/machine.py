"""Decides everything: one event in, the commands and facts that follow from it out.

`step` changes the one `Swarm` it is given and nothing else; it reads no clock, disk, process or network, so the same events
give the same decisions when the journal is replayed. An illegal event raises `IllegalEvent`, a late answer `StaleEvent`, and
neither changes anything: handlers check first.

Rules for editing: a handler reads top-down and ends where its event ends. What needs the world goes out as a command (`state`);
how things end is in `lifecycle`, the merge queue in `merge_queue`, what must be true in `invariants`. Journals of other versions
are replayed here: a change of what is decided hangs on a field of `Limits` whose default is the old decision, since every
`DaemonStarted` has the limits that its daemon decided by.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from swarm.core import (
    admission,
    astray,
    backlog,
    budget,
    discard,
    failing,
    finishing,
    memory,
    merge_queue,
    oversight,
    ownership,
    providers,
    rebuilt,
    reviewing,
    train,
    undoing,
)
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.claims import literal, strays
from swarm.core.lifecycle import (
    cancel,
    end_worker,
    ended_on_request,
    free_slot,
    held_against,
    run_ended,
    settle,
    stop_over_budget,
)
from swarm.core.model import (
    TASK_ENDS,
    UP_STEPS,
    WORKER_STEPS,
    Attempt,
    Claim,
    PhaseSpec,
    PlanSpec,
    Reason,
    Role,
    Step,
    Task,
    TaskSpec,
    TaskState,
    attempt_branch,
)
from swarm.core.needs import Needs
from swarm.core.qa import REVIEW
from swarm.core.run import Run
from swarm.core.state import (
    Deadline,
    IllegalEvent,
    StaleEvent,
    Swarm,
    Turn,
    carried_out,
    clock_moved,
    command_for,
    due,
    go,
    kept_run,
    live,
    next_deadline,
    next_run,
    run_commands,
    some,
    the_run,
)

READINGS_MAX_AGE_S = 2.0
LOOKS_MAX = (
    1_000  # ready tasks that are passed over, because they wait for claims, in search of one that may start
)


def step(swarm: Swarm, event: m.Event) -> Turn:
    """Takes one event in. Raises `IllegalEvent`, having changed nothing, where it can't happen."""
    handler = _HANDLERS.get(type(event))
    if handler is None:
        raise IllegalEvent(f"{type(event).__name__} is not an event of the machine")
    turn = Turn(swarm, event.at)
    troubled = bool(swarm.trouble)
    handler(turn, event)
    for run in turn.stirred.values():
        if not run.discarding:
            _settle(turn, run)
    merge_queue.verify(turn)
    for name in tuple(swarm.discarding):
        discard.wind_down(turn, swarm.runs[name])
    swarm.last_at = event.at
    if troubled and not swarm.trouble:
        swarm.capacity = admission.Decision(0, "measuring", 0)
    _schedule(turn)
    if troubled != bool(swarm.trouble) and swarm.measuring is None:  # else the readings tell
        turn.tell("CapacityChanged", None, slots_open=swarm.capacity.slots_open, reason=swarm.capacity.reason)
    return turn


def _settle(turn: Turn, run: Run) -> None:
    """Looks what follows from all that an event has changed in a run."""
    again = True
    while again:
        merge_queue.move(turn, run)
        reviewing.move(turn, run)
        again = stop_over_budget(turn, run)
    run_ended(turn, run)


# --- starting workers ---


def _schedule(turn: Turn) -> None:
    """Starts what may start: the best ready task of the run with the fewest workers, as long as admission allows."""
    swarm = turn.swarm
    if (held_up := _nothing_may_start(swarm)) is not None:
        swarm.capacity = held_up
        return
    while (run := next_run(swarm)) is not None:
        if train.busy(swarm) >= swarm.limits.workers_max:  # no reading would change that
            swarm.capacity = admission.full_house(swarm.limits)
            return
        if (spent := budget.day_over(swarm, turn.at)) is not None:
            swarm.capacity = spent
            _wait_for_room(turn, spent)
            return
        if _worktrees_are_coming(swarm):
            swarm.capacity = admission.waits_for_worktree(swarm.capacity)
            return
        if turn.at - swarm.measured_at > READINGS_MAX_AGE_S and not _watched(swarm):
            _measure(turn, target=None)
            return
        decision = _decide(turn)
        if decision.slots_open < 1:
            _wait_for_room(turn, decision)
            return
        task = run.pop(LOOKS_MAX if run.in_plan_order else len(run.tasks))
        if task is not None:
            _start(turn, run, task)
        elif run.peek() is not None:  # on with the others in a turn of its own, so that none takes long
            due(swarm, Deadline(turn.at, "look", run.id))
            return
    swarm.capacity = _nothing_waits(swarm)
    if (
        swarm.verify_waits
        and swarm.step_of_ladder is not None
        and swarm.step_of_ladder < swarm.limits.workers_max
    ):
        _measure(turn, target=swarm.step_of_ladder)


def _nothing_may_start(swarm: Swarm) -> admission.Decision | None:
    """Says why nothing may start, however little is at work; None where that is not so."""
    if swarm.stopping or swarm.paused:
        return admission.Decision(0, "stopping" if swarm.stopping else "paused", 0)
    if swarm.trouble:
        return admission.in_trouble(next(iter(swarm.trouble.values())))
    if memory.is_short(swarm):
        return admission.Decision(0, memory.why(swarm), 0)
    return None


def _worktrees_are_coming(swarm: Swarm) -> bool:
    """Tells whether a start had better wait for a worktree that is on its way back: making one costs as much as all its files."""
    spare = swarm.limits.spare_worktrees
    if spare is None or not swarm.coming:
        return False
    return len(swarm.slots) + len(swarm.coming) >= swarm.limits.workers_max + spare


def _watched(swarm: Swarm) -> bool:
    """Tells whether somebody watches the machine for us: then old readings still say how many workers it allows."""
    return swarm.measuring is not None and swarm.measuring.target is not None


def _nothing_waits(swarm: Swarm) -> admission.Decision:
    width = swarm.limits.workers_max if swarm.step_of_ladder is None else swarm.step_of_ladder
    return admission.Decision(max(0, width - train.busy(swarm)), "nothing waits", width)


def _decide(turn: Turn) -> admission.Decision:
    swarm = turn.swarm
    assert swarm.readings is not None
    if swarm.blind:
        swarm.capacity = admission.Decision(0, f"the machine can't be looked at: {swarm.blind}", 0)
        return swarm.capacity
    running = train.busy(swarm)
    swarm.ramp = swarm.ramp.at(turn.at, running=running, limits=swarm.limits)
    decision, swarm.step_of_ladder = admission.decide(
        swarm.readings,
        limits=swarm.limits,
        running=running,
        ramp=swarm.ramp,
        previous_step=swarm.step_of_ladder,
    )
    swarm.capacity = decision
    return decision


def _wait_for_room(turn: Turn, decision: admission.Decision) -> None:
    """Looks at the machine again when that may help, and at the ramp when it opens."""
    swarm = turn.swarm
    if decision.opens_at is not None:
        if swarm.ramp_at != decision.opens_at:
            swarm.ramp_at = decision.opens_at
            due(swarm, Deadline(decision.opens_at, "ramp", ""))
    elif train.busy(swarm) >= decision.target:
        _measure(turn, target=decision.target)


def _measure(turn: Turn, target: int | None) -> None:
    if turn.swarm.measuring is None:
        turn.swarm.measuring = cmd.MeasureHost(target=target)
        turn.commands.append(turn.swarm.measuring)


def _start(turn: Turn, run: Run, task: Task) -> None:
    swarm, n = turn.swarm, len(task.attempts) + 1
    slot = next(number for number in range(len(swarm.slots) + 1) if number not in swarm.slots)
    attempt = Attempt(
        n=n,
        step=Step.PREPARING,
        base=run.published,
        agent=task.spec.agent,
        branch=attempt_branch(run.id, task.spec.id, n),
        created_at=turn.at,
        alone=task.alone,
        slot=slot,
    )
    swarm.slots.add(slot)
    swarm.ramp = swarm.ramp.started(turn.at, running=len(swarm.slots))
    providers.started(turn, attempt.agent)
    run.take_claims(task)
    run.live[task.spec.id] = None
    run.solo = task.spec.id if task.alone else None
    task.attempts.append(attempt)
    ownership.changed(swarm, task)
    task.reason = None
    task.not_before = None
    run.set_state(task, TaskState.RUNNING)
    turn.tell("TaskStarted", run, task, base=attempt.base, slot=slot, agent=attempt.agent)
    go(turn, run, task, attempt, Step.PREPARING)


# --- deadlines ---


def _ticked(turn: Turn, event: m.Ticked) -> None:
    swarm = turn.swarm
    while (at := next_deadline(swarm)) is not None and at <= event.at:
        due = heapq.heappop(swarm.deadlines)
        if due.kind == "ramp":
            swarm.ramp_at = None
        elif due.kind == "agent":
            providers.fell_due(turn, due.task)
        elif due.kind == "memory":
            memory.move(turn)
        else:
            _fell_due(turn, swarm.runs[due.run], due)


def _fell_due(turn: Turn, run: Run, due: Deadline) -> None:
    if due.kind == "look":
        return  # every turn ends with a look at what may start
    if run.discarding and due.kind in ("follow", "run") and due.task != "Discard":
        return  # given up with the run
    if due.kind == "follow":
        merge_queue.follow(turn, run)
        return
    if due.kind == "run":
        del run.retry_at[due.task]
        turn.commands.extend(c for c in run_commands(run) if type(c).__name__ == due.task)
        return
    task = run.tasks[due.task]
    if due.kind == "ready":
        task.not_before = None
        task.reason = None
        run.push(task)
        return
    attempt = task.live
    assert attempt is not None
    if due.kind == "retry":
        attempt.retry_at = None
        command = command_for(turn.swarm, run, task, attempt)
        assert command is not None
        turn.commands.append(command)
    else:
        end_worker(turn, run, task, attempt, "timeout")


# --- the daemon and the machine it stands on ---


def _clock_set(turn: Turn, event: m.ClockSet) -> None:
    clock_moved(turn.swarm, event.by_s)


def _daemon_started(turn: Turn, event: m.DaemonStarted) -> None:
    swarm = turn.swarm
    if event.at < swarm.last_at:  # the clock was set back, or the machine woke up, while no daemon ran
        clock_moved(swarm, event.at - swarm.last_at)
    roles_before, swarm.limits = swarm.limits.roles, event.limits
    ownership.limits_changed(swarm, roles_before)
    swarm.trials.clear()  # what did not work may have been mended meanwhile
    swarm.move_to(event.top or swarm.top)
    swarm.version, swarm.pid, swarm.started_at = event.version, event.pid, event.at
    swarm.sandbox, swarm.sandbox_why = event.sandbox, event.sandbox_why
    swarm.stopping, swarm.stop_grace_s = False, None
    swarm.measuring, swarm.readings, swarm.measured_at, swarm.blind = None, None, float("-inf"), ""
    swarm.ramp = admission.Ramp()
    for run in swarm.runs.values():
        run.in_plan_order = swarm.limits.in_plan_order
        if run.open_tasks or run.finished_commit is None:
            astray.look(turn, run)  # much may have been done by hand while no daemon ran


def _daemon_stopped(turn: Turn, _: m.DaemonStopped) -> None:
    turn.swarm.stopping = True


def _recovered(turn: Turn, event: m.Recovered) -> None:
    for found in event.found:
        turn.tell("Mended", None, kind=found.kind, text=found.text, remedy=found.remedy)


def _host_measured(turn: Turn, event: m.HostMeasured) -> None:
    swarm = turn.swarm
    if swarm.measuring is None:
        raise StaleEvent("nobody asked for readings")
    swarm.measuring = None
    swarm.readings, swarm.measured_at, swarm.blind = event.readings, event.at, event.trouble
    if swarm.trouble:
        return
    before = swarm.capacity.slots_open, swarm.capacity.target
    decision = _decide(turn)
    if (decision.slots_open, decision.target) != before:
        turn.tell("CapacityChanged", None, slots_open=swarm.capacity.slots_open, reason=swarm.capacity.reason)


def _limits_changed(turn: Turn, event: m.LimitsChanged) -> None:
    if event.workers_max < 1:
        raise IllegalEvent("at least one worker")
    turn.swarm.limits = dataclasses.replace(turn.swarm.limits, workers_max=event.workers_max)
    turn.swarm.step_of_ladder = None


def _paused(turn: Turn, event: m.Paused) -> None:
    if event.task is not None:
        run = the_run(turn, event.run)
        (task,) = _known(run, [event.task])
        task.paused = True
        run.put_aside(task)
    elif event.run is not None:
        the_run(turn, event.run).paused = True
    else:
        turn.swarm.paused = True


def _resumed(turn: Turn, event: m.Resumed) -> None:
    if event.task is not None:
        run = the_run(turn, event.run)
        (task,) = _known(run, [event.task])
        task.paused = False
        run.take_back_aside()
    elif event.run is not None:
        the_run(turn, event.run).paused = False
    else:
        turn.swarm.paused = False
        providers.resumed(turn)
        for run in turn.swarm.runs.values():
            run.paused = False


def _stop_requested(turn: Turn, event: m.StopRequested) -> None:
    turn.swarm.stopping = True
    turn.swarm.stop_grace_s = event.grace_s
    if not event.end_workers:
        return
    for run in turn.swarm.runs.values():
        for name in run.live:
            attempt = run.tasks[name].live
            assert attempt is not None
            if attempt.step in WORKER_STEPS and attempt.step is not Step.COLLECTING:  # that worker has ended
                end_worker(turn, run, run.tasks[name], attempt, "stopped")


# --- plans ---


@dataclass(frozen=True, slots=True)
class Submission:
    """What a plan would change in a run: ids of new and replaced tasks, of those that have started and may not change, of needs
    that nobody knows, and of tasks that would wait for each other in a ring."""

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: int
    refused: tuple[str, ...]
    unknown: tuple[str, ...]
    ring: tuple[str, ...] = ()


def submission(swarm: Swarm, run_id: str, plan: PlanSpec) -> Submission:
    """Says what submitting `plan` would do, without doing it."""
    run = swarm.runs.get(run_id)
    known = run.tasks if run is not None else {}
    before = run.finished_before if run is not None else {}
    added, replaced, refused, unchanged = [], [], [], 0
    for spec in plan.tasks:
        task = known.get(spec.id)
        if task is None and spec.id not in before:
            added.append(spec.id)
        elif task is None or task.spec == spec or spec.finished or (run and spec.id in run.unplanned):
            unchanged += 1
        elif task.attempts:
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
    return Submission(tuple(added), tuple(replaced), unchanged, tuple(refused), tuple(unknown), tuple(ring))


def _ring(run: Run | None, plan: PlanSpec, changing: set[str]) -> list[str]:
    needs = run.needs if run is not None else Needs()
    return needs.ring(plan.phases, [spec for spec in plan.tasks if spec.id in changing])


def _plan_submitted(turn: Turn, event: m.PlanSubmitted) -> None:
    swarm, plan = turn.swarm, event.plan
    if event.run in swarm.runs:
        kept_run(turn, event.run)
    change = submission(swarm, event.run, plan)
    _check_submission(swarm, event, change)
    run = swarm.runs.get(event.run)
    if run is None:
        run = _new_run(turn, event)
    elif not run.plan.name:  # it was known from the landing repository alone
        run.plan, run.base_branch = dataclasses.replace(plan, tasks=(), phases=()), event.base_branch
    elif plan.verify:
        run.plan = dataclasses.replace(run.plan, verify=plan.verify)
    run.take_turns(event.sequential)
    run.fail_fast = event.fail_fast
    added = set(change.added)
    new = run.add(plan.phases, [spec for spec in plan.tasks if spec.id in added])
    providers.submitted(turn, run, plan)
    ownership.settle(swarm, swarm.limits.roles)
    rebuilt.learn(run, plan)
    rebuilt.recall(turn, run, new)
    replaced = set(change.replaced)
    changed = {spec.id: spec for spec in plan.tasks if spec.id in replaced}
    for name, spec in changed.items():
        task = run.tasks[name]
        run.needs.forget(task.spec)
        task.spec, task.reason, task.ended_at = spec, None, None
        run.set_state(task, TaskState.PENDING)
        new.append(task)
    for spec in changed.values():
        run.needs.replace(spec)
    run.needs.settle()
    run.select(event.only)
    if run.open_tasks:
        run.ended_at, run.finished_commit = None, None
    turn.tell("PlanAccepted", run, added=len(added), replaced=len(changed), unchanged=change.unchanged)
    for name in dict.fromkeys((*(task.spec.id for task in new), *run.needs.take_changed())):
        _reconsider(turn, run, name)
    run.take_back_aside()
    turn.stir(run)


def _check_submission(swarm: Swarm, event: m.PlanSubmitted, change: Submission) -> None:
    """Raises `IllegalEvent` where the plan can't be taken in; nothing has been changed yet."""
    if change.refused:
        raise IllegalEvent(f"{some(change.refused)} changed in the plan and started already")
    if change.unknown:
        raise IllegalEvent(f"nobody knows {some(change.unknown)}, which the plan needs")
    if change.ring:
        raise IllegalEvent(f"{some(change.ring)} would wait for each other in a ring")
    names = {spec.id for spec in event.plan.tasks}
    if len(names) < len(event.plan.tasks):
        raise IllegalEvent("two tasks of the plan have the same id")
    run = swarm.runs.get(event.run)
    known = {*names, *run.tasks, *run.finished_before} if run is not None else names
    unknown = [name for name in event.only if name not in known]
    if unknown:
        raise IllegalEvent(f"no task {some(unknown)} in run {event.run!r}")


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
        in_plan_order=swarm.limits.in_plan_order,
        plan=dataclasses.replace(event.plan, tasks=(), phases=()),
        base_branch=event.base_branch,
        base_commit=event.base_commit,
        created_at=event.at,
        staging=event.base_commit,
        published=event.base_commit,
        followed=event.base_commit,
    )
    swarm.runs[run.id] = run
    turn.commands.extend(run_commands(run))
    turn.tell("RunStarted", run, base=run.base_commit, branch=run.base_branch)
    return run


# --- the worker's part of an attempt ---


def _run_prepared(turn: Turn, event: m.RunPrepared) -> None:
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


def _worktree_ready(turn: Turn, event: m.WorktreeReady) -> None:
    run, task, attempt = live(turn, event, Step.PREPARING)
    attempt.worktree = event.path
    if attempt.ending is not None:
        ended_on_request(turn, run, task, attempt)
    else:
        go(turn, run, task, attempt, Step.STARTING)


def _worker_started(turn: Turn, event: m.WorkerStarted) -> None:
    run, task, attempt = live(turn, event, Step.STARTING)
    attempt.pid, attempt.started_at, attempt.sandbox = event.pid, event.started_at, event.sandbox
    due(
        turn.swarm,
        Deadline(event.started_at + task.spec.timeout_s, "timeout", run.id, task.spec.id, attempt.n),
    )
    go(turn, run, task, attempt, Step.RUNNING)
    memory.joined(turn)


def _worker_exited(turn: Turn, event: m.WorkerExited) -> None:
    run, task, attempt = live(turn, event, *UP_STEPS)
    attempt.suspended_at = None
    attempt.exit_code, attempt.result, attempt.exited_at = event.exit_code, event.result, event.at
    attempt.trouble, attempt.memory_bytes = event.trouble, max(attempt.memory_bytes, event.memory_bytes)
    budget.spend(turn.swarm, run, event.result, turn.at)
    providers.exited(turn, attempt, event.jitter)
    if event.exit_code == 0 and attempt.ending is None:
        free_slot(turn, attempt)
        turn.swarm.coming.add((run.id, task.spec.id, attempt.n))
        run.set_state(task, TaskState.QUEUED)
    go(turn, run, task, attempt, Step.COLLECTING)
    memory.left(turn)


def _collected(turn: Turn, event: m.Collected) -> None:
    run, task, attempt = live(turn, event, Step.COLLECTING)
    attempt.head, attempt.commits, attempt.touched = event.head, event.commits, event.touched
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
        reason = _worker_failure(task, attempt, event.problem, turn.swarm.limits.roles)
        providers.judged(turn, run, task, attempt, reason)
        if reason is not None:
            failing.worker_failed(turn, run, task, attempt, reason)
        else:
            _submit(turn, run, task, attempt, brought_in=event.brought_in)


def _submit(turn: Turn, run: Run, task: Task, attempt: Attempt, *, brought_in: bool) -> None:
    """Puts work that a worker ended well with into the merge queue, unless it strayed too far."""
    owned = ownership.violation(turn.swarm.limits.roles, task.spec.role, attempt.touched)
    if owned is not None:
        held_against(turn, run, task, attempt, Step.HANDED_BACK, owned)
    elif (reason := _check_strays(turn, run, task, attempt)) is not None:
        held_against(turn, run, task, attempt, Step.HANDED_BACK, reason)
    else:
        merge_queue.enqueue(turn, run, task, attempt, brought_in=brought_in)


def _worker_failure(task: Task, attempt: Attempt, problem: str, roles: tuple[Role, ...]) -> Reason | None:
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
        return Reason("worker_failed", text, {"exit_code": attempt.exit_code})
    if problem:
        return Reason("worker_failed", problem)
    if task.spec.qa == REVIEW:
        return reviewing.failure(attempt)
    may_be_empty = task.spec.allow_empty or ownership.changes_nothing(roles, task.spec.role)
    if not attempt.touched and not may_be_empty:
        return Reason("empty", "the worker changed nothing, and the task does not say allow_empty")
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


def _worktree_returned(turn: Turn, event: m.WorktreeReturned) -> None:
    run = the_run(turn, event.run)
    attempt = run.returning.pop((event.task, event.attempt), None)
    if attempt is None:
        raise StaleEvent(f"no worktree of {event.task!r} attempt {event.attempt} is being given back")
    attempt.returned = True
    turn.swarm.coming.discard((run.id, event.task, event.attempt))
    if event.saved:
        turn.tell("WorkSaved", run, run.tasks[event.task], attempt=event.attempt, place=event.saved)


# --- what people ask for ---


def _known(run: Run, names: Iterable[str]) -> list[Task]:
    unknown = [name for name in names if name not in run.tasks]
    if unknown:
        raise IllegalEvent(f"no task {some(unknown)} in run {run.id!r}")
    return [run.tasks[name] for name in dict.fromkeys(names)]


def _tasks_cancelled(turn: Turn, event: m.TasksCancelled) -> None:
    run = the_run(turn, event.run)
    cancel(turn, run, _known(run, event.tasks), "it was cancelled")


def _tasks_retried(turn: Turn, event: m.TasksRetried) -> None:
    run = kept_run(turn, event.run)
    tasks = _known(run, event.tasks)
    wrong = [t.spec.id for t in tasks if t.state not in TASK_ENDS or t.state is TaskState.LANDED]
    if wrong:
        raise IllegalEvent(f"{some(wrong)} can't be retried")
    for task in tasks:
        astray.check_retry(run, task)
        reviewing.check_retry(task)
    run.ended_at = None
    freed: list[str] = []
    for task in tasks:
        if task.state is TaskState.BLOCKED:
            continue
        task.budget_from, task.alone, task.ended_at = len(task.attempts), False, None
        freed.extend(run.needs.revived(task.spec.id))
        if task.spec.by_hand:
            astray.again(turn, run, task)
            continue
        run.set_state(task, TaskState.PENDING)
        task.reason = None
        turn.tell("TaskRetried", run, task)
    for name in freed:
        task = run.tasks[name]
        if task.state is TaskState.BLOCKED:
            run.set_state(task, TaskState.PENDING)
            task.reason, task.ended_at = None, None
    for task in [*tasks, *(run.tasks[name] for name in freed)]:
        if task.state is TaskState.PENDING:
            settle(turn, run, task)
    turn.stir(run)


def _task_told(turn: Turn, event: m.TaskTold) -> None:
    run = the_run(turn, event.run)
    (task,) = _known(run, [event.task])
    task.told = (*task.told, event.text)


_HANDLERS: dict[type[m.Event], Callable[[Turn, Any], None]] = {
    m.DaemonStarted: _daemon_started,
    m.DaemonStopped: _daemon_stopped,
    m.ClockSet: _clock_set,
    m.Recovered: _recovered,
    m.JournalRebuilt: rebuilt.journal_rebuilt,
    m.Ticked: _ticked,
    m.HostMeasured: _host_measured,
    m.MemoryMeasured: memory.measured,
    m.LimitsChanged: _limits_changed,
    m.Paused: _paused,
    m.Resumed: _resumed,
    m.StopRequested: _stop_requested,
    m.PlanSubmitted: _plan_submitted,
    m.PlanWatched: backlog.watched,
    m.WatchedPlanRefused: backlog.refused,
    m.TasksRetried: _tasks_retried,
    m.TasksCancelled: _tasks_cancelled,
    m.FirstAsked: merge_queue.first_asked,
    m.UndoRequested: undoing.requested,
    m.TaskTold: _task_told,
    m.QaRequested: reviewing.requested,
    m.FinishRequested: finishing.requested,
    m.Finished: finishing.finished,
    m.FinishRefused: finishing.finished,
    m.DiscardRequested: discard.requested,
    m.Discarded: discard.discarded,
    m.RunPrepared: _run_prepared,
    m.Published: merge_queue.published,
    m.StagingLookAsked: astray.look_asked,
    m.StagingSeen: astray.seen,
    m.Followed: merge_queue.followed,
    m.RunCommandFailed: failing.run_command_failed,
    m.WorktreeReady: _worktree_ready,
    m.WorkerStarted: _worker_started,
    m.WorkerOutgrew: memory.outgrew,
    m.WorkerSilent: oversight.silent,
    m.WorkerMultiplied: oversight.multiplied,
    m.WorkerExited: _worker_exited,
    m.Collected: _collected,
    m.WorktreeReturned: _worktree_returned,
    m.BroughtIn: merge_queue.brought_in,
    m.CandidateMade: merge_queue.candidate_made,
    m.MergeConflicted: merge_queue.merge_conflicted,
    m.Rebased: merge_queue.rebased,
    m.RebaseConflicted: merge_queue.rebase_conflicted,
    m.Verified: merge_queue.verified,
    m.StagingAdvanced: merge_queue.staging_advanced,
    m.StagingMoved: merge_queue.staging_moved,
    m.CommandFailed: failing.command_failed,
}

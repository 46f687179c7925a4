"""Which task starts next, and when the machine is looked at to see whether it may.

Rules for editing: `start_what_may` ends every turn, and is the only place where a worker's attempt begins. It always leaves behind
why nothing more starts (`Swarm.capacity`) and, where only time or the machine can change that, a deadline or a look at the machine:
so nothing waits for an event that never comes. How many workers the readings allow is arithmetic, in `admission`.
"""

from __future__ import annotations

from swarm.core import admission, budget, memory, ownership, providers, train
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.admission import Pressure
from swarm.core.model import Attempt, Step, Task, TaskState, attempt_branch
from swarm.core.run import Run
from swarm.core.state import Deadline, StaleEvent, Swarm, Turn, due, go, next_run

READINGS_MAX_AGE_S = 2.0
LOOKS_MAX = (
    1_000  # ready tasks that are passed over, because they wait for claims, in search of one that may start
)


def start_what_may(turn: Turn) -> None:
    """Starts what may start: the best ready task of the run with the fewest workers, as long as admission allows."""
    swarm = turn.swarm
    swarm.wanted_bytes = 0
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
        if swarm.coming and _worktrees_are_coming(swarm):
            swarm.capacity = admission.waits_for_worktree(swarm.capacity)
            return
        if turn.at - swarm.measured_at > READINGS_MAX_AGE_S and not _watched(swarm):
            _measure(turn, target=None)
            return
        decision = _decide(turn)
        if decision.slots_open < 1:
            _wait_for_room(turn, decision)
            return
        task = _next_task(run)
        if task is not None and (lacks := memory.lacks_room(swarm, task)) is not None:
            run.push(task)
            swarm.wanted_bytes = memory.expected_bytes(task)
            swarm.capacity = admission.Decision(0, lacks, decision.target)
            _measure(turn, target=decision.target)
            return
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


def _next_task(run: Run) -> Task | None:
    """Takes the task of a run whose turn it is out of those that are ready; None where none that was looked at may start."""
    task = run.pop(LOOKS_MAX)
    return None if task is None else run.apart(task)


def _nothing_may_start(swarm: Swarm) -> admission.Decision | None:
    """Says why nothing may start, however little is at work; None where that is not so."""
    if swarm.stopping or swarm.paused:
        return admission.Decision(0, "stopping" if swarm.stopping else "paused", 0)
    if swarm.trouble:
        return admission.in_trouble(next(iter(swarm.trouble.values())))
    if (swarm.pressure is not Pressure.NONE or swarm.memory_at is not None) and memory.is_short(swarm):
        return admission.Decision(0, memory.why(swarm), 0)
    return None


def _worktrees_are_coming(swarm: Swarm) -> bool:
    """Tells whether a start had better wait for a worktree that is on its way back: making one costs as much as all its files."""
    return len(swarm.slots) + len(swarm.coming) >= swarm.limits.workers_max + swarm.limits.spare_worktrees


def _watched(swarm: Swarm) -> bool:
    """Tells whether somebody watches the machine for us: then old readings still say how many workers it allows."""
    return swarm.measuring is not None and swarm.measuring.target is not None


def _nothing_waits(swarm: Swarm) -> admission.Decision:
    width = swarm.limits.workers_max if swarm.step_of_ladder is None else swarm.step_of_ladder
    return admission.Decision(max(0, width - train.busy(swarm)), admission.NOTHING_WAITS, width)


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
    """Has the machine looked at: until it allows more than `target`, or at once where that is None, or where nothing is known of it
    yet: a watch may last, and meanwhile whoever becomes ready is decided about by what was last read."""
    if turn.swarm.measuring is None:
        turn.swarm.measuring = cmd.MeasureHost(target=target if turn.swarm.readings is not None else None)
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
    run.needs.at_work(task.spec.id)
    run.solo = task.spec.id if task.alone else None
    task.attempts.append(attempt)
    ownership.changed(swarm, task)
    task.reason = None
    task.not_before = None
    run.set_state(task, TaskState.RUNNING)
    turn.tell("TaskStarted", run, task, base=attempt.base, slot=slot, agent=attempt.agent)
    go(turn, run, task, attempt, Step.PREPARING)


def host_measured(turn: Turn, event: m.HostMeasured) -> None:
    """Takes readings in, and tells where they allow another width."""
    swarm = turn.swarm
    if swarm.measuring is None:
        raise StaleEvent("nobody asked for readings")
    swarm.measuring = None
    swarm.readings, swarm.measured_at, swarm.blind = event.readings, event.at, event.trouble
    swarm.taken = {(run, task, n): taken for run, task, n, taken in event.taken}
    if swarm.trouble:
        return
    before = swarm.capacity.slots_open, swarm.capacity.target
    decision = _decide(turn)
    if (decision.slots_open, decision.target) != before:
        turn.tell("CapacityChanged", None, slots_open=swarm.capacity.slots_open, reason=swarm.capacity.reason)

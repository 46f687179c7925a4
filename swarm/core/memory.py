"""What follows from memory: a worker that takes more than its task may is ended; on a machine that is short of it some stand still.

The youngest worker is suspended first, then the next, since each has least to lose. One that stood still for too long is ended and
its task tried again, which does not count. When there is memory again they go on one by one, the oldest first, and nothing new
starts before all of them do; in between those that run go on and the others wait for them. The time that a worker stood still is
not taken from what its task has.

Rules for editing: pure; what is taken and what there is comes in with events. As long as a worker stands still there is a next move
at `memory_at`, or one that runs, whose end is followed by a move: `invariants` holds it to this. Who is being ended is left to it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator

from swarm.core import admission, failing
from swarm.core import messages as m
from swarm.core.admission import Expected, Pressure
from swarm.core.lifecycle import end_worker, held_against
from swarm.core.model import UP_STEPS, Attempt, Reason, Step, Task
from swarm.core.run import Run
from swarm.core.state import Deadline, StaleEvent, Swarm, Turn, due, go, live

MB = 1_000_000
OVER = "over_memory"  # why a worker is ended: it took too much
SHORT = "short_of_memory"  # … or there was too little
SETTLE_S = 2.0  # after which it shows whether one more must stand still
THAW_EVERY_S = 2.0  # after which it shows whether one more may go on

GROWING_STEPS = UP_STEPS | {Step.PREPARING, Step.STARTING}

_Up = tuple[Run, Task, Attempt]


# --- one that takes too much ------------------------------------------------------------------------------------------------


def outgrew(turn: Turn, event: m.WorkerOutgrew) -> None:
    """Has a worker ended that takes more than its task may."""
    run, task, attempt = live(turn, event, *UP_STEPS)
    if attempt.ending is not None:
        raise StaleEvent(f"the worker of {event.task!r} is being ended already")
    attempt.memory_bytes = event.memory_bytes
    end_worker(turn, run, task, attempt, OVER)


def over(task: Task, attempt: Attempt) -> Reason:
    """Says why such an attempt has failed."""
    took, most = attempt.memory_bytes, task.spec.memory_mb
    text = f"the worker took {took / MB:,.0f} MB, more than the {most:,} MB of its memory_mb, and was ended"
    return Reason(OVER, text, {"memory_bytes": took})


# --- what is expected ---


def expected_bytes(task: Task) -> int:
    """Gives what a worker of the task is expected to take: what its plan says, or the most that an earlier one was seen to take; 0
    where nobody knows."""
    return max(task.spec.memory_mb * MB, *(attempt.memory_bytes for attempt in task.attempts), 0)


def growing(swarm: Swarm) -> tuple[Expected, ...]:
    """Lists the workers, there or on their way, of which something is expected."""
    live = ((run, run.tasks[name]) for run in swarm.runs.values() for name in run.live)
    return tuple(
        (run.id, task.spec.id, task.live.n, expected_bytes(task))
        for run, task in live
        if task.live is not None and task.live.step in GROWING_STEPS and expected_bytes(task)
    )


def lacks_room(swarm: Swarm, task: Task) -> str | None:
    """Says why a task waits for memory that it is expected to take; None where there is room, or nobody else takes any."""
    expected = expected_bytes(task)
    if not expected or not swarm.slots or swarm.readings is None:
        return None
    left = swarm.readings.memory_available_bytes - admission.to_grow(growing(swarm), swarm.taken)
    if expected <= left:
        return None
    return f"{_gb(expected)} expected to be taken, {_gb(max(0, left))} left beside what others still grow by"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / MB:.0f} MB"


# --- a machine that has too little ------------------------------------------------------------------------------------------


def measured(turn: Turn, event: m.MemoryMeasured) -> None:
    """Takes in that the machine is short of memory in another way than before."""
    swarm, limits = turn.swarm, turn.swarm.limits
    pressure = admission.pressure(event.readings, limits, before=swarm.pressure)
    if pressure is swarm.pressure:
        raise StaleEvent("that is known")
    if not anybody(swarm, *UP_STEPS):
        raise StaleEvent("no worker runs")
    swarm.pressure = pressure
    swarm.pressed = "" if pressure is Pressure.NONE else admission.shortage(event.readings, limits)
    move(turn)


def begun(turn: Turn) -> None:
    """Leaves the daemon that begins the time to look at the machine before the next move, on which an earlier one decided: there
    may be memory again."""
    if turn.swarm.memory_at is not None:
        _next_move(turn, SETTLE_S)


def joined(turn: Turn) -> None:
    """Sees to it that a worker which came up on a machine that is short of memory has its turn to stand still."""
    if turn.swarm.pressure is Pressure.SHORT and turn.swarm.memory_at is None:
        _next_move(turn, SETTLE_S)


def left(turn: Turn) -> None:
    """Has one go on in the place of a worker that has ended, where they waited for that."""
    if turn.swarm.pressure is Pressure.EASED:
        move(turn)


def is_short(swarm: Swarm) -> bool:
    """Tells whether nothing may start: the machine is short of memory, or what was suspended has not gone on. Forgets a shortage
    of which nobody can tell whether it lasts, since no worker runs."""
    if swarm.pressure is Pressure.NONE:
        return swarm.memory_at is not None
    if not anybody(swarm, *UP_STEPS):
        swarm.pressure, swarm.pressed, swarm.memory_at = Pressure.NONE, "", None
    return swarm.pressure is not Pressure.NONE


def why(swarm: Swarm) -> str:
    """Says so in words."""
    still = sum(1 for _ in _up(swarm, Step.SUSPENDED))
    workers = f"{still} worker{'s' if still != 1 else ''}"
    if swarm.pressed:
        return f"{swarm.pressed}: {workers} suspended, nothing new starts"
    return f"{workers} that stood still go{'es' if still == 1 else ''} on first"


def gave_way(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    """Brings an attempt to its end whose worker was ended to make room. It does not count, but not for ever: it may have been what
    the machine has no room for."""
    text = f"the machine was short of memory for {attempt.stood_still_s:.0f} s, and the worker was ended to make room"
    if failing.blamed(turn, task):
        held_against(turn, run, task, attempt, Step.FAILED, Reason(OVER, f"{text} once more"))
    else:
        failing.forgive(turn, run, task, attempt, Reason("machine", text))


def anybody(swarm: Swarm, *steps: Step) -> bool:
    """Tells whether a worker is at one of these steps and not being ended."""
    return any(True for _ in _up(swarm, *steps))


def _up(swarm: Swarm, *steps: Step) -> Iterator[_Up]:
    for run in swarm.runs.values():
        for name in run.live:
            task = run.tasks[name]
            attempt = task.live
            if attempt is not None and attempt.step in steps and attempt.ending is None:
                yield run, task, attempt


def _age(up: _Up) -> tuple[float, int, int]:
    """Orders workers, the oldest first."""
    run, task, attempt = up
    return attempt.started_at or 0.0, run.index, task.order


def move(turn: Turn) -> None:
    """Makes the next move."""
    turn.swarm.memory_at = None
    wait_s = _MOVES[turn.swarm.pressure](turn)
    if wait_s is not None:
        _next_move(turn, wait_s)


def _next_move(turn: Turn, wait_s: float) -> None:
    # A wait may be shorter than the step between two times: what is due at this very moment would be due again and again.
    turn.swarm.memory_at = max(turn.at + wait_s, math.nextafter(turn.at, math.inf))
    due(turn.swarm, Deadline(turn.swarm.memory_at, "memory", ""))


def _give_way(turn: Turn) -> float | None:
    """Has the youngest worker stand still; where all do, ends the youngest once it has for too long. Gives when to look again."""
    swarm = turn.swarm
    running = max(_up(swarm, Step.RUNNING), key=_age, default=None)
    if running is not None:
        _suspend(turn, *running)
        return SETTLE_S
    still = max(_up(swarm, Step.SUSPENDED), key=_age, default=None)
    if still is None:
        return None
    run, task, attempt = still
    assert attempt.suspended_at is not None
    stands_s = turn.at - attempt.suspended_at
    if stands_s < swarm.limits.suspended_s_max:
        return swarm.limits.suspended_s_max - stands_s
    attempt.stood_still_s += stands_s
    end_worker(turn, run, task, attempt, SHORT)
    return swarm.limits.grace_s + SETTLE_S


def _keep_one(turn: Turn) -> float | None:
    """Has the oldest go on where all stand still; the others wait for the end of those that run, or for more memory."""
    if not anybody(turn.swarm, Step.RUNNING):
        _take_up(turn)
    return None


def _take_up(turn: Turn) -> float | None:
    """Has the oldest that stands still go on; gives when to look again, None where none is left."""
    still = sorted(_up(turn.swarm, Step.SUSPENDED), key=_age)
    if still:
        _thaw(turn, *still[0])
    return THAW_EVERY_S if len(still) > 1 else None


def _suspend(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    swarm = turn.swarm
    mine = [each for each in swarm.deadlines if _is_of(each, run, task, attempt)]
    swarm.deadlines = [each for each in swarm.deadlines if each not in mine]
    heapq.heapify(swarm.deadlines)
    attempt.time_left = tuple((each.kind, max(0.0, each.at - turn.at)) for each in mine)
    attempt.suspended_at, attempt.retry_at = turn.at, None
    go(turn, run, task, attempt, Step.SUSPENDED)
    attempt.reason = Reason("suspended", f"{swarm.pressed}: stands still until there is more")
    turn.tell("WorkerSuspended", run, task, text=swarm.pressed)


def _is_of(each: Deadline, run: Run, task: Task, attempt: Attempt) -> bool:
    """Tells whether a deadline is one of the time that the worker has."""
    return (each.run, each.task, each.attempt) == (run.id, task.spec.id, attempt.n) and each.kind != "retry"


def _thaw(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    assert attempt.suspended_at is not None
    stood_s = max(0.0, turn.at - attempt.suspended_at)
    attempt.stood_still_s += stood_s
    attempt.suspended_at, attempt.thawed, attempt.retry_at = None, True, None
    for kind, left_s in attempt.time_left:
        due(turn.swarm, Deadline(turn.at + left_s, kind, run.id, task.spec.id, attempt.n))
    attempt.time_left = ()
    go(turn, run, task, attempt, Step.RUNNING)
    turn.tell("WorkerThawed", run, task, stood_still_s=round(stood_s, 3))


_MOVES: dict[Pressure, Callable[[Turn], float | None]] = {
    Pressure.SHORT: _give_way,
    Pressure.EASED: _keep_one,
    Pressure.NONE: _take_up,
}

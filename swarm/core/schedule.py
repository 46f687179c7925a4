"""What `swarm simulate` says of the schedules that a plan would get, and from which durations they are worked out.

Rules for editing: pure. Everything is read off what the machine did in `simulation`; nothing here decides anything. Times are
seconds since the submission.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from swarm.core.graph import longest_chain
from swarm.core.model import Attempt, Limits, PlanSpec, Task, TaskSpec, TaskState
from swarm.core.run import Run
from swarm.core.simulation import Assumed, Outcome, Waited, simulate
from swarm.dataclass import dataclass

SCHEMA = 1
COMPARED_MAX = 1_000  # tasks, up to which several numbers of workers are compared unasked
WIDTH_MAX = 64  # … and up to how many workers
GAINS_MIN = 0.05  # the share of the time that more workers must save to be worth it

NOT_MODELLED = "load and memory of the machine, merge conflicts, rate limits, flakes, people, and how long agents really take"


# --- durations ---


@dataclass(frozen=True, slots=True)
class Learned:
    """What earlier runs took, in seconds: tasks of the same run by id, suites by name, and the median of all `attempts`."""

    tasks_s: Mapping[str, float]
    suites_s: Mapping[str, float]
    task_s: float | None
    suite_s: float | None
    attempts: int

    def fill_in(self, assumed: Assumed, wanted: Mapping[str, Any]) -> Assumed:
        """Gives what is assumed where `wanted` was said: that goes first, then what the same task took, then what tasks took."""
        filled: dict[str, Any] = {"tasks_s": {**self.tasks_s, **wanted.get("tasks_s", {})}}
        if "suite_s" not in wanted:
            filled["suites_s"] = self.suites_s
        for key, seconds in (("task_s", self.task_s), ("suite_s", self.suite_s)):
            if seconds is not None:
                filled[key] = seconds
        return dataclasses.replace(assumed, **{**filled, **wanted, "tasks_s": filled["tasks_s"]})


def learn(runs: Iterable[Run], plan: str) -> Learned:
    """Reads off what workers that ended well and suites that passed took; of a task of the run `plan` what the last one did."""
    tasks: dict[str, float] = {}
    suites: dict[str, list[float]] = {}
    took: list[float] = []
    for run in runs:
        for task in run.tasks.values():
            for attempt in task.attempts:
                if (seconds := _worked_s(task, attempt)) is not None:
                    took.append(seconds)
                    if run.id == plan:
                        tasks[task.spec.id] = seconds
                for suite in attempt.suites:
                    if suite.outcome == "passed" and not suite.remembered:
                        suites.setdefault(suite.name, []).append(suite.duration_s)
    every = [seconds for each in suites.values() for seconds in each]
    return Learned(
        tasks_s=tasks,
        suites_s={name: _median(each) for name, each in suites.items()},
        task_s=_median(took) if took else None,
        suite_s=_median(every) if every else None,
        attempts=len(took),
    )


def _worked_s(task: Task, attempt: Attempt) -> float | None:
    """Gives how long a worker was at work that ended well; None for any other, and for what is no task of a plan."""
    spec = task.spec
    if attempt.exit_code != 0 or attempt.ending or spec.qa or spec.answer or spec.by_hand:
        return None
    if attempt.started_at is None or attempt.exited_at is None:
        return None
    return max(0.0, attempt.exited_at - attempt.started_at - attempt.stood_still_s)


def _median(seconds: Sequence[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def assumed_document(assumed: Assumed) -> dict[str, Any]:
    """Gives what was assumed; of attempts that fail null stands for every one."""
    fail = {
        key: {task: None if math.isinf(number) else number for task, number in attempts.items()}
        for key, attempts in (("fails", assumed.fails), ("reds", assumed.reds))
    }
    return {**dataclasses.asdict(assumed), **fail}


# --- several numbers of workers ---


def compare(plan: PlanSpec, limits: Limits, assumed: Assumed, workers: Sequence[int]) -> dict[str, Any]:
    """Gives what `swarm simulate --json` says of a plan's schedule with each of these numbers of workers.

    Without any it is the number of the limits, beside 1, 2, 4, … as long as more save time, unless the plan is too large for that.
    The schedule is told in full for the number of the limits, or for the most useful one of those that were named.
    """
    wanted = None if workers else limits.workers_max
    widths: list[dict[str, Any]] = []
    kept: list[Outcome] = []  # the others are let go of: each is as large as its plan
    best_s = math.inf
    for outcome in _outcomes(plan, limits, assumed, workers):
        widths.append(_width_document(outcome))
        best_s = min(best_s, _takes_s(outcome))
        kept = [each for each in (*kept, outcome) if each.workers == wanted or _does(each, best_s)]
    widths.sort(key=lambda each: each["workers"])
    first_s = widths[0]["makespan_s"] if widths[0]["workers"] == 1 else None
    for each in widths:
        each["speed_up"] = first_s / each["makespan_s"] if first_s and each["makespan_s"] else None
    useful = min(each.workers for each in kept if _does(each, best_s))
    path, path_s = longest_chain(plan, _alone_s(plan, assumed))
    return {
        "schema": SCHEMA,
        "run": plan.id,
        "tasks": sum(not task.finished for task in plan.tasks),
        "critical_path": path,
        "critical_path_s": path_s,
        "useful": useful if len(widths) > 1 else None,
        "not_modelled": NOT_MODELLED,
        "widths": widths,
        "schedule": _schedule_document(
            next(each for each in kept if each.workers == (useful if wanted is None else wanted))
        ),
    }


def _takes_s(outcome: Outcome) -> float:
    return outcome.makespan_s if outcome.ended else math.inf


def _does(outcome: Outcome, best_s: float) -> bool:
    """Tells whether a plan takes hardly longer than with the best number of workers."""
    return _takes_s(outcome) * (1 - GAINS_MIN) <= best_s


def _outcomes(plan: PlanSpec, limits: Limits, assumed: Assumed, workers: Sequence[int]) -> Iterator[Outcome]:
    """Carries the plan out with each number of workers that is compared."""

    def with_workers(number: int) -> Outcome:
        return simulate(plan, dataclasses.replace(limits, workers_max=number), assumed)

    if workers:
        yield from map(with_workers, sorted(set(workers)))
        return
    settings = with_workers(limits.workers_max)
    yield settings
    before_s, number = math.inf, 1
    while len(plan.tasks) <= COMPARED_MAX and number <= WIDTH_MAX:
        outcome = settings if number == limits.workers_max else with_workers(number)
        if outcome is not settings:
            yield outcome
        if outcome.makespan_s > before_s * (1 - GAINS_MIN / 5):
            return
        before_s, number = outcome.makespan_s, 2 * number


def _alone_s(plan: PlanSpec, assumed: Assumed) -> Callable[[TaskSpec], float]:
    """Gives what tells how long a task takes from its start until it has landed, if nothing holds it up."""
    of_phase = {phase.id: phase.verify for phase in plan.phases}

    def takes_s(task: TaskSpec) -> float:
        suites = (*plan.verify, *of_phase.get(task.phase or "", ()), *task.verify)
        return assumed.works_s(task.id) + assumed.verifies_s(suites)

    return takes_s


# --- documents ---


def _width_document(outcome: Outcome) -> dict[str, Any]:
    run, makespan_s = outcome.run, outcome.makespan_s
    worked_s = sum(until - since for since, until in _at_work(outcome))
    limits_s = {key: seconds for key, seconds in outcome.limited_by.items() if seconds}
    return {
        "workers": outcome.workers,
        "makespan_s": makespan_s,
        "speed_up": None,
        "mean_width": worked_s / makespan_s if makespan_s else 0.0,
        "limited_by": max(limits_s, key=lambda key: limits_s[key], default=None),
        "limited_by_s": dict(sorted(limits_s.items(), key=lambda item: -item[1])),
        "waited_s": _waited_document(_total(outcome.waited.values())),
        "counts": {state.value: run.counts[state] for state in TaskState if run.counts[state]},
        "ended": outcome.ended,
        "events": outcome.events,
    }


def _waited_document(waited: Waited) -> dict[str, float]:
    return {reason: round(seconds, 6) for reason, seconds in dataclasses.asdict(waited).items()}


def _total(waited: Iterable[Waited]) -> Waited:
    total = Waited()
    for each in waited:
        total.needs += each.needs
        total.claims += each.claims
        total.slots += each.slots
        total.queue += each.queue
    return total


def _schedule_document(outcome: Outcome) -> dict[str, Any]:
    nothing = Waited()
    return {
        "workers": outcome.workers,
        "width": [list(each) for each in width_over_time(_at_work(outcome))],
        "tasks": [
            _task_document(task, outcome.waited.get(name, nothing))
            for name, task in outcome.run.tasks.items()
        ],
    }


def _task_document(task: Task, waited: Waited) -> dict[str, Any]:
    attempts = [_attempt_document(attempt) for attempt in task.attempts]
    landed = task.state is TaskState.LANDED
    return {
        "id": task.spec.id,
        "state": task.state.value,
        "reason": task.reason.text if task.reason is not None else None,
        "starts_s": attempts[0]["starts_s"] if attempts else None,
        "ends_s": attempts[-1]["ends_s"] if attempts else None,
        "lands_s": task.ended_at if landed else None,
        "waited_s": _waited_document(waited),
        "attempts": attempts,
    }


def _attempt_document(attempt: Attempt) -> dict[str, Any]:
    return {
        "n": attempt.n,
        "starts_s": attempt.created_at,
        "ends_s": attempt.exited_at,
        "over_s": attempt.ended_at,
        "state": attempt.step.value,
        "reason": attempt.reason.code if attempt.reason is not None else None,
    }


# --- width ---


def _at_work(outcome: Outcome) -> list[tuple[float, float]]:
    """Lists from when until when workers were at work."""
    return [
        (attempt.created_at, outcome.makespan_s if attempt.exited_at is None else attempt.exited_at)
        for task in outcome.run.tasks.values()
        for attempt in task.attempts
    ]


def width_over_time(at_work: Iterable[tuple[float, float]]) -> list[tuple[float, int]]:
    """Gives how many workers are at work from which time on, as (time, workers)."""
    changes: Counter[float] = Counter()
    for since, until in at_work:
        changes[since] += 1
        changes[until] -= 1
    times = sorted(time for time, change in changes.items() if change)
    return list(zip(times, accumulate(changes[time] for time in times), strict=True))

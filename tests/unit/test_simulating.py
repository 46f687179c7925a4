"""What people read of a simulation."""

from __future__ import annotations

import dataclasses

import pytest

from swarm.client.simulating import mean_widths, text
from swarm.core import schedule
from swarm.core.model import Limits, PlanSpec
from swarm.core.simulation import ALWAYS, Assumed
from tests.builders import a_plan, a_task

WIDE = a_plan(*(a_task(f"t{n}") for n in range(8)))


def shown(plan: PlanSpec, *workers: int, first: int = 12, width: int = 80, **assumed: object) -> str:
    limits = Limits(ramp_per_s=1e6, breaker_failures=3)
    what = Assumed(**assumed)  # type: ignore[arg-type]
    document = {**schedule.compare(plan, limits, what, workers), "assumed": dataclasses.asdict(what)}
    document["assumed"]["learned_attempts"] = 0
    return text(document, first=first, width=width)


@pytest.mark.parametrize(
    ("changes", "means"),
    [
        ([(0, 2), (30, 1), (60, 0)], [2, 1, 0, 0]),
        ([(0, 1), (15, 3), (120, 0)], [2, 3, 3, 3]),
        ([(45, 4), (75, 0)], [0, 2, 2, 0]),
    ],
)
def test_the_width_over_time_is_a_mean_of_each_part(
    changes: list[tuple[float, int]], means: list[float]
) -> None:
    """Each part counts for how long so many were at work in it."""
    assert mean_widths(changes, 120, 4) == pytest.approx(means)


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        ((1, 2), "Useful: 2 workers; none are better of those compared, and more may be of use still."),
        ((4, 8), "Useful: 8 workers; none are better of those compared."),
        ((8, 16), "Useful: 8 workers; more save less than 5 % of the time."),
    ],
)
def test_what_is_useful_is_said_of_those_compared(workers: tuple[int, ...], said: str) -> None:
    """Nothing is promised of numbers of workers that were not simulated."""
    assert said in shown(WIDE, *workers)


def test_failures_and_waits_are_told() -> None:
    """Each task's line has its times, what it waited for, and how it ended where it did not land."""
    plan = a_plan(a_task("a", claims=["x"]), a_task("b", claims=["x"]), a_task("c", needs=["b"]))
    told = [" ".join(line.split()) for line in shown(plan, 2, fails={"b": ALWAYS}).splitlines()]
    assert "takes 3m00s: 1 landed, 1 failed, 1 blocked; 1.0 at work on average" in told
    assert "a 0.0 s 1m00s 1m00s" in told
    assert "b 1m00s 3m00s - claims 1m00s; 2 attempts; failed: the worker ended with exit code 1" in told
    assert "c - - - blocked: b ended without landing" in told


def test_a_stand_is_told() -> None:
    """A run that would stand still is not shown as if it had ended."""
    plan = a_plan(*(dataclasses.replace(task, agent="mine") for task in WIDE.tasks))
    told = shown(plan, 1, task_s=1.0, fail_rate=1.0)
    assert "comes to a stand after" in told


def test_it_fits_a_narrow_terminal() -> None:
    """What is said in words is broken to the width there is, and tasks that have no line of their own are counted."""
    told = shown(WIDE, 2, first=3, width=44)
    assert max(map(len, told.splitlines())) <= 48
    assert "and 5 more: --first N shows more" in told
    assert "t0 " not in shown(WIDE, 2, first=0)


def test_an_empty_plan_is_shown_too() -> None:
    """Nothing to do is no error."""
    assert "takes    0.0 s: nothing to do" in shown(a_plan(a_task("a", finished=True)), 2)


@pytest.mark.parametrize(
    ("seconds", "said"), [(60.0, "60"), (0.0423024, "0.042"), (1.26, "1.3"), (0.0, "0"), (123456.0, "123456")]
)
def test_what_was_learned_is_said_in_few_digits(seconds: float, said: str) -> None:
    """Nobody wants the microseconds that a task took on average."""
    assert f"Assumed: {said} s a task, {said} s a suite." in shown(WIDE, 4, task_s=seconds, suite_s=seconds)

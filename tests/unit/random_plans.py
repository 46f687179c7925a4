"""Plans and goals at random, for the random walk."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from swarm.core.goal import FINDINGS, Goal
from swarm.core.model import PhaseSpec, PlanSpec, TaskSpec
from tests.builders import a_claim, a_plan, a_task


def random_plan(pick: random.Random, name: str) -> PlanSpec:
    names = [f"t{number}" for number in range(pick.randint(1, 9))]
    phases = [PhaseSpec(id="p1", parallel_safe=pick.random() < 0.5), PhaseSpec(id="p2", phase_needs=("p1",))]
    tasks: list[TaskSpec] = []
    for place, task in enumerate(names):
        phase = pick.choice([None, None, "p1", "p2"])
        earlier = [
            n for n in names[:place] if not (phase == "p1" and n in {t.id for t in tasks if t.phase == "p2"})
        ]
        needs = pick.sample(earlier, k=min(len(earlier), pick.choice([0, 0, 1, 2])))
        spec = a_task(
            task,
            needs=[n for n in needs if phase != "p1"],
            phase=phase,
            claims=pick.choice([[], ["a/**"], ["a/1"], ["a/2", "b"], ["+c"], ["b", "+c"]]),
            verify=pick.choice([[], ["make test"], ["make test", "make lint"]]),
            attempts=pick.choice([1, 2, 3]),
            priority=pick.choice([0, 0, 5]),
            allow_empty=pick.random() < 0.2,
            finished=pick.random() < 0.05,
            timeout_s=pick.choice([5.0, 3600.0]),
            memory_mb=pick.choice([0, 0, 500]),
        )
        agent = pick.choice(["command", "command", "mine", "yours"])
        tasks.append(dataclasses.replace(spec, agent=agent, role=pick.choice(["", "", "one", "two"])))
    return a_plan(*tasks, phases=phases, name=name)


def random_goal(pick: random.Random, name: str) -> tuple[Goal, PlanSpec]:
    """A goal, and its scouts as a plan."""
    scouts = [
        a_task(f"s{number}", allow_empty=True, attempts=pick.choice([1, 2]))
        for number in range(pick.randint(1, 3))
    ]
    architect = a_task("architect", allow_empty=True, attempts=2)
    goal = Goal(
        "make it",
        architect=pick.choice([None, architect, architect, architect]),
        builds=pick.random() < 0.7,
        approved=pick.random() < 0.7,
        sequential=pick.random() < 0.1,
        reviewer=pick.choice([None, a_task("review", attempts=2)]),
        fixer=pick.choice([None, a_task("fix")]),
        rounds_max=pick.randint(1, 3),
    )
    return goal, a_plan(*(dataclasses.replace(each, answer=FINDINGS) for each in scouts), name=name)


def rush_plan(pick: random.Random, name: str) -> PlanSpec:
    suites: tuple[list[str], ...] = (["make"], ["make"], ["make", "lint"], [])
    names = [f"t{number}" for number in range(pick.randint(6, 12))]
    return a_plan(*(a_task(each, verify=pick.choice(suites), attempts=2) for each in names), name=name)


def grown_plan(pick: random.Random, plan: PlanSpec, phase: str, new: str) -> PlanSpec:
    """A plan with a `new` task of a phase, and mostly one that needs the phase; every now and then the new one needs others."""
    names = [task.id for task in plan.tasks]
    one = a_task(
        new, phase=phase, needs=pick.sample(names, k=pick.choice([0, 0, 0, min(1, len(names))])), attempts=2
    )
    other = a_task(f"{new}-after", phase_needs=[phase], attempts=3)
    more = [one, other] if pick.random() < 0.8 else [one]
    pick.shuffle(more)
    return dataclasses.replace(plan, tasks=(*plan.tasks, *more))


def changed_plan(
    pick: random.Random, plan: PlanSpec, one: str, new: str, *, finished: bool = False
) -> tuple[PlanSpec, tuple[str, ...]]:
    """A plan as it was, or with `one` of its tasks changed or `finished`, or a `new` one added; and what a run is limited to."""
    tasks = list(plan.tasks)
    names = [task.id for task in tasks]
    changes: dict[str, Any] = {
        "priority": pick.choice([0, 7]),
        "needs": tuple(pick.sample([*names, new], k=pick.choice([0, 1, 1, 2]))),
        "phase": pick.choice([None, "p1", "p2"]),
        "claims": tuple(a_claim(text) for text in pick.choice([[], ["a/2"], ["b", "b"]])),
    }
    if pick.random() < 0.6:
        kept = pick.choice(sorted(changes))
        tasks = [
            dataclasses.replace(task, **{kept: changes[kept]}) if task.id == one else task for task in tasks
        ]
    if finished:
        tasks = [dataclasses.replace(task, finished=True) if task.id == one else task for task in tasks]
    if pick.random() < 0.5:
        needs = pick.sample(names, k=pick.choice([0, 1]))
        tasks.insert(
            pick.randint(0, len(tasks)), a_task(new, needs=needs, phase=pick.choice([None, "p1", "p2"]))
        )
    only = tuple(pick.sample(names, k=1)) if pick.random() < 0.3 else ()
    return dataclasses.replace(plan, tasks=tuple(tasks)), only

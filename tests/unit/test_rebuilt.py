"""A journal that lost its end: the walk goes on from a cut, with what staging and refs prove, and nothing lands twice."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections.abc import Sequence

import pytest

from swarm.core import machine, submission
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import (
    TASK_ENDS,
    FoundAttempt,
    FoundLanding,
    FoundRun,
    Seen,
    Standing,
    Step,
    TaskState,
    slug,
)
from swarm.core.run import Run
from swarm.core.state import Swarm, next_deadline, pending_commands
from tests.builders import BASE, a_plan, a_task, submitted
from tests.unit.test_random_walk import World, _key, walk

SEEDS = int(os.environ.get("SWARM_WALK_SEEDS", "60"))


def _is_of(event: m.Event, run: str) -> bool:
    return getattr(event, "run", None) == run


def line(world: World, run: Run) -> list[FoundLanding]:
    """The landings and undos that staging of a run holds, as the commits would say it themselves."""
    found: list[FoundLanding] = []
    events = [event for event in map(m.event_from_json, map(json.loads, world.log)) if _is_of(event, run.id)]
    begins = max((at for at, event in enumerate(events) if isinstance(event, m.Discarded)), default=-1)
    for event in events[begins + 1 :]:
        if isinstance(event, m.StagingAdvanced):
            task = run.tasks[event.task]
            attempt = task.attempts[event.attempt - 1]
            gone = tuple(each for each, _ in attempt.undoes)
            n, head = (0, "") if gone else (attempt.n, attempt.submitted)
            found.append(
                FoundLanding(
                    gone[-1] if gone else event.task,
                    n,
                    "",
                    event.candidate,
                    head,
                    undoes=gone,
                    by_hand=task.spec.by_hand and not gone,
                )
            )
    return found


def of_staging(world: World, run: Run, known: Run | None) -> FoundRun:
    """What the landing repository would say of a run beyond what is known of it."""
    had = set()
    if known is not None:
        attempts = [attempt for task in known.tasks.values() for attempt in task.attempts]
        had = {a.landed_commit for a in attempts} | {
            a.candidate for a in attempts if a.step is Step.PUBLISHING
        }
        had |= {commit for _, commit in known.undone}
    landings = tuple(each for each in line(world, run) if each.commit not in had)
    found = tuple(
        FoundAttempt(slug(name), attempt.n, attempt.head)
        for name, task in run.tasks.items()
        for attempt in task.attempts
        if known is None or name not in known.tasks or attempt.n > len(known.tasks[name].attempts)
    )
    staging = landings[-1].commit if landings else run.staging
    return FoundRun(run.id, run.base_commit, staging, landings, found)


def cut(world: World, at: int) -> None:
    """Takes the world back to its first `at` events, and has the journal rebuilt with what the rest left."""
    whole, before, kept = list(world.log), world.swarm, Swarm()
    world.rebuilt = True
    for text in world.log[:at]:
        machine.step(kept, m.event_from_json(json.loads(text)))
    gone = discarded(kept, whole[at:])
    known = {name: run for name, run in kept.runs.items() if name not in gone}
    found = tuple(of_staging(world, run, known.get(run.id)) for run in before.runs.values())
    world.log, world.swarm = whole[:at], kept
    found = tuple(each for each in found if each.landings or each.attempts)
    event = m.JournalRebuilt(at=world.now, runs=found, discarded=gone, publish_first=True, by_hand_anew=True)
    event_again = m.event_from_json(json.loads(json.dumps(m.event_to_json(event))))
    assert event_again == event
    machine.step(world.swarm, event)
    world.log.append(json.dumps(m.event_to_json(event)))
    world.outstanding = {_key(command): command for command in pending_commands(world.swarm)}
    # What publishes goes on from whichever of our landings the branch stands at.
    world.branches = {run.id: Seen(Standing.AS_LEFT, run.published) for run in world.swarm.runs.values()}
    world.left = {run.id: run.published for run in world.swarm.runs.values()}
    end_unknown(world)
    world.crash()


def discarded(kept: Swarm, lost: Sequence[str]) -> tuple[str, ...]:
    """The runs that were discarded behind the cut, as is noted beside the journal."""
    names = {str(data["run"]) for data in map(json.loads, lost) if data["type"] == "Discarded"}
    return tuple(name for name in kept.runs if name in names)


def end_unknown(world: World) -> None:
    """Ends the workers that the rebuilt state does not know, and frees their worktrees: a start does so before anything else."""
    swarm, outside = world.swarm, world.outside
    known = {
        (run.id, name, a.n) for run in swarm.runs.values() for name in run.live if (a := run.tasks[name].live)
    }
    outside.alive = {key: claims for key, claims in outside.alive.items() if key in known}
    known |= {(run.id, name, n) for run in swarm.runs.values() for name, n in run.returning}
    outside.worktrees = {path: key for path, key in outside.worktrees.items() if key in known}


def submit_again(world: World, name: str) -> None:
    """Submits the newest plan, as a person must: what it changed behind the cut of tasks that were begun since is refused, so these
    stay as they are known; and of a ring, which comes of tasks or phases that are not as they were, the needs are left out."""
    plan, run = world.plans[name], world.swarm.runs.get(name)
    if run is not None and run.discarding:
        return
    refused = submission.would_change(world.swarm, name, plan).refused
    stay = {each: run.tasks[each].spec for each in refused} if run is not None else {}
    plan = dataclasses.replace(plan, tasks=tuple(stay.get(task.id, task) for task in plan.tasks))
    ring = set(submission.would_change(world.swarm, name, plan).ring) - stay.keys()
    loose = {
        task.id: dataclasses.replace(task, needs=(), phase=None) for task in plan.tasks if task.id in ring
    }
    plan = dataclasses.replace(plan, tasks=tuple(loose.get(task.id, task) for task in plan.tasks))
    world.send(m.PlanSubmitted(at=world.now, run=name, plan=plan, base_branch="main", base_commit=BASE))


def on_staging(run: Run) -> dict[str, str]:
    """The landings of a run that stand on staging and are not taken off it, published or not."""
    found = dict(run.landed)
    for attempt in (run.tasks[name].attempts[-1] for name in run.publishing):
        for name, _ in attempt.undoes:
            found.pop(name, None)
    waiting = {name: run.tasks[name].attempts[-1] for name in run.publishing}
    return found | {name: str(each.candidate) for name, each in waiting.items() if not each.undoes}


def asked_to_undo(swarm: Swarm) -> set[tuple[str, str]]:
    """The tasks that an undo under way takes off staging: what becomes of it is not settled yet."""
    live = ((run.id, run.tasks[name].attempts[-1]) for run in swarm.runs.values() for name in run.live)
    return {(run, name) for run, attempt in live for name, _ in attempt.undoes}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_has_landed_stays_and_all_else_goes_on(seed: int) -> None:
    """Wherever the end is cut off, even before any plan was known: the invariants hold, what staging holds has landed once and with
    that commit, no attempt number is given twice, and everything ends."""
    chance = random.Random(seed)
    steps = walk(seed, steps=chance.randint(20, 400))
    world = next(steps)
    while chance.random() > 0.01 and (further := next(steps, None)) is not None:
        world = further
    proved = {
        (run.id, name): commit
        for run in world.swarm.runs.values()
        for name, commit in on_staging(run).items()
    }
    numbers = {
        (run.id, name): len(task.attempts)
        for run in world.swarm.runs.values()
        for name, task in run.tasks.items()
    }
    cut(world, chance.choice([1, chance.randint(3, len(world.log))]))
    assert invariants(world.swarm) == []
    for undone in asked_to_undo(world.swarm):
        proved.pop(undone, None)
    world.kind = True
    for name in world.plans:
        submit_again(world, name)
    world.calm_down()
    for _ in range(3000):
        if not world.outstanding and next_deadline(world.swarm) is None:
            break
        world.answer()
        world.tick()
        world.check()
    for run in world.swarm.runs.values():
        assert {task.state for task in run.tasks.values()} <= TASK_ENDS
        assert run.staging == run.published
        assert len(run.landed) == len({name for name, _ in run.landed})
        landed = dict(run.landed)
        for (run_id, name), commit in proved.items():
            if run_id == run.id:
                assert landed[name] == commit
                assert run.tasks[name].state is TaskState.LANDED
        for (run_id, name), number in numbers.items():
            if run_id == run.id and name in run.tasks:
                assert len(run.tasks[name].attempts) >= number
        assert (
            run.base_branch == "main" or run.id not in world.plans
        )  # else nobody has the plan: it was discarded
        if run.id in world.plans:  # what it names is known by what it says, and no longer by landings alone
            assert not run.unplanned & {task.id for task in world.plans[run.id].tasks}


def test_a_plan_says_what_landed_tasks_are() -> None:
    """A task known by its landing alone takes its title, claims and needs from the plan when that comes, and is not run again."""
    world = next(iter(walk(1)))
    plan = world.plans["one"]
    name = plan.tasks[0].id
    fresh = World(99)
    landing = FoundLanding(name, 2, "A title", "c" * 40, "d" * 40, ("make test",))
    fresh.outside.parents |= {"d" * 40: (BASE,), "c" * 40: (BASE, "d" * 40)}
    fresh.outside.staging["one"], fresh.outside.landing_of["c" * 40] = "c" * 40, name
    fresh.send(m.JournalRebuilt(at=fresh.now, runs=(FoundRun("one", BASE, "c" * 40, (landing,)),)))
    fresh.plans = {"one": dataclasses.replace(plan)}
    run = fresh.swarm.runs["one"]
    assert run.tasks[name].spec.title == "A title"
    for _ in range(20):
        fresh.answer()
    assert run.tasks[name].state is TaskState.LANDED
    assert [suite.name for suite in run.tasks[name].attempts[-1].suites] == ["make test"]
    fresh.send(m.PlanSubmitted(at=fresh.now, run="one", plan=plan, base_branch="main", base_commit=BASE))
    assert run.tasks[name].spec == plan.tasks[0]
    assert run.tasks[name].state is TaskState.LANDED
    assert run.plan.name == plan.name
    assert invariants(fresh.swarm) == []


@pytest.mark.parametrize("publish_first", [True, False])
def test_nothing_starts_on_a_base_that_lacks_what_has_landed(publish_first: bool) -> None:
    """What was found on staging counts as landed where more is known of its task, and what needs it starts when it is published
    too; a journal of before, whose rebuilding did not wait for that, is still replayed as it was decided."""
    world = World(99)
    found = (FoundLanding("a", 1, "A", "c" * 40, "d" * 40),)
    attempts = (FoundAttempt("a", 2),)  # there can be another only because the first had landed
    world.outside.parents |= {"d" * 40: (BASE,), "c" * 40: (BASE, "d" * 40)}
    world.outside.staging["plan"] = "c" * 40
    here = FoundRun("plan", BASE, "c" * 40, found, attempts)
    world.send(m.JournalRebuilt(at=world.now, runs=(here,), publish_first=publish_first))
    world.send(submitted(a_plan(a_task("a"), a_task("b", needs=["a"])), at=world.now))
    run = world.swarm.runs["plan"]
    assert run.tasks["a"].state is TaskState.LANDED
    for _ in range(20):
        if run.tasks["b"].attempts:
            break
        world.answer()
        world.tick()
    assert run.tasks["b"].attempts[0].base == ("c" * 40 if publish_first else BASE)

"""Plans carried out in a made-up world: how long that takes is worked out by hand here, and what must never be is looked for."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest

from swarm.core import schedule
from swarm.core.claims import example, matches, normalise, overlap
from swarm.core.graph import longest_chain
from swarm.core.model import Limits, Mode, PhaseSpec, PlanSpec, Task, TaskSpec
from swarm.core.simulation import ALWAYS, Assumed, Outcome, simulate
from tests.builders import a_plan, a_task

LIMITS = Limits(
    ramp_per_s=1e6,
    verify_slots=2,
)


def with_workers(number: int, plan: PlanSpec, assumed: Assumed | None = None, **limits: object) -> Outcome:
    settings = dataclasses.replace(LIMITS, workers_max=number, **limits)  # type: ignore[arg-type]
    return simulate(plan, settings, assumed or Assumed())


def takes(number: int, *tasks: TaskSpec, assumed: Assumed | None = None, **plan: object) -> float:
    return with_workers(number, a_plan(*tasks, **plan), assumed).makespan_s  # type: ignore[arg-type]


def starts(outcome: Outcome) -> dict[str, list[float]]:
    return {name: [each.created_at for each in task.attempts] for name, task in outcome.run.tasks.items()}


def states(outcome: Outcome) -> dict[str, str]:
    return {name: task.state.value for name, task in outcome.run.tasks.items()}


CHAIN = (a_task("a"), a_task("b", needs=["a"]), a_task("c", needs=["b"]))
DIAMOND = (
    a_task("a"),
    a_task("b", needs=["a"]),
    a_task("c", needs=["a"]),
    a_task("d", needs=["b", "c"]),
)
ABCD = Assumed(tasks_s={"a": 10, "b": 20, "c": 30, "d": 5})


# --- as long as worked out by hand


def test_a_chain_takes_the_sum() -> None:
    """One after the other, however many workers there are; each is verified before the next begins."""
    assert takes(8, *CHAIN) == 3 * 60
    assert takes(8, *CHAIN, verify=["make"]) == 3 * (60 + 10)


@pytest.mark.parametrize(("number", "seconds"), [(1, 10 + 20 + 30 + 5), (2, 10 + 30 + 5), (9, 10 + 30 + 5)])
def test_a_diamond_takes_its_longer_side(number: int, seconds: float) -> None:
    """Its sides go beside each other where there are two workers."""
    assert takes(number, *DIAMOND, assumed=ABCD) == seconds


@pytest.mark.parametrize(("number", "seconds"), [(1, 600), (3, 240), (5, 120), (10, 60), (20, 60)])
def test_width_is_a_limit(number: int, seconds: float) -> None:
    """Ten tasks of a minute, with so many workers."""
    assert takes(number, *(a_task(f"t{n}") for n in range(10))) == seconds


@pytest.mark.parametrize(
    ("first", "second", "seconds"),
    [
        ("src/a.py", "src/b.py", 70),
        ("src/a.py", "src/a.py", 140),
        ("src/**", "src/a.py", 140),
        ("+log", "+log", 80),  # side by side, and verified one behind the other
        ("+log", "log", 140),
    ],
)
def test_claims_that_meet_take_turns(first: str, second: str, seconds: float) -> None:
    """A claim is held until its task has landed; only shared ones are held together."""
    plan = a_plan(a_task("a", claims=[first]), a_task("b", claims=[second]), verify=["make"])
    assert with_workers(2, plan, verify_slots=1 if seconds == 80 else 2).makespan_s == seconds


def test_a_phase_waits_for_the_one_before() -> None:
    """All of a phase lands before the next begins."""
    phases = [PhaseSpec("one"), PhaseSpec("two", phase_needs=("one",))]
    tasks = (a_task("a", phase="one"), a_task("c", phase="one"), a_task("d", phase="two"))
    assert takes(4, *tasks, phases=phases, assumed=ABCD) == 30 + 5


def test_a_phase_that_is_not_parallel_safe_goes_one_at_a_time() -> None:
    """Its tasks take the sum, while others go beside them."""
    phases = [PhaseSpec("one", parallel_safe=False)]
    tasks = (a_task("a", phase="one"), a_task("b", phase="one"), a_task("c"))
    assert takes(4, *tasks, phases=phases, assumed=ABCD) == 10 + 20


def test_red_work_is_verified_again_and_then_tried_again() -> None:
    """Work that no suite passes costs two verifications and another attempt."""
    outcome = with_workers(2, a_plan(a_task("a"), verify=["make"]), Assumed(reds={"a": 1}))
    assert starts(outcome) == {"a": [0, 80]}
    assert (outcome.makespan_s, states(outcome)) == (80 + 60 + 10, {"a": "landed"})
    assert outcome.waited["a"].queue == 0


def test_attempts_have_a_limit() -> None:
    """A task whose workers all fail has failed after its attempts, and what needs it is blocked."""
    plan = a_plan(a_task("a", attempts=3), a_task("b", needs=["a"]))
    outcome = with_workers(2, plan, Assumed(fails={"a": ALWAYS}))
    assert starts(outcome) == {"a": [0, 60, 120], "b": []}
    assert (outcome.makespan_s, states(outcome)) == (180, {"a": "failed", "b": "blocked"})


def test_a_worker_has_the_time_that_its_task_has() -> None:
    """One that would take longer is ended then, as the real one."""
    outcome = with_workers(1, a_plan(a_task("a", timeout_s=25, attempts=1)))
    reason = outcome.run.tasks["a"].reason
    assert reason is not None
    assert (outcome.makespan_s, reason.code) == (25, "timeout")


def test_a_breaker_leaves_the_rest_standing() -> None:
    """An agent whose first workers all fail at once starts nothing more: the simulation ends there and says so."""
    tasks = [dataclasses.replace(a_task(f"t{n}"), agent="mine") for n in range(6)]
    assumed = Assumed(task_s=1, tasks_s={"long": 1000}, fails={task.id: ALWAYS for task in tasks})
    plan = a_plan(a_task("long", timeout_s=25, attempts=1), *tasks)
    outcome = with_workers(3, plan, assumed, breaker_failures=3)
    assert (outcome.ended, outcome.makespan_s) == (False, 25)
    assert "ready" in states(outcome).values()


def test_what_is_finished_takes_no_time() -> None:
    """A plan of which nothing is left ends as it begins."""
    assert takes(1, a_task("a", finished=True)) == 0
    assert takes(1, a_task("a", finished=True), a_task("b", needs=["a"])) == 60


# --- what waited, and what limits


def test_each_wait_has_its_reason() -> None:
    """A task waits for what it needs, then for a slot while all are taken, and else for what it claims."""
    tasks = (
        a_task("a", claims=["x"]),
        a_task("b", claims=["x"]),
        a_task("c", needs=["a"]),
        a_task("d"),
        a_task("e"),
    )
    assumed = Assumed(tasks_s={"a": 10, "d": 30, "e": 40})
    waited = with_workers(3, a_plan(*tasks), assumed).waited
    assert dataclasses.astuple(waited["a"]) == (0, 0, 0, 0)
    assert (waited["b"].claims, waited["b"].slots) == (0, 10)  # all three are at work till then
    assert (waited["c"].needs, waited["c"].slots) == (10, 20)
    claims = with_workers(9, a_plan(*tasks), assumed).waited["b"]
    assert (claims.claims, claims.slots) == (10, 0)


def test_a_task_that_is_tried_again_waits_anew() -> None:
    """What it waited for before its first attempt, and the attempt itself, are no wait of the second."""
    plan = a_plan(a_task("b", priority=1), a_task("a"), a_task("c"))
    waited = with_workers(1, plan, Assumed(fails={"a": 1})).waited
    assert [waited[name].slots for name in "bac"] == [0, 60, 180]


def test_the_merge_queue_is_waited_for_too() -> None:
    """Where one candidate is verified at a time, work that ended together waits for those ahead."""
    outcome = with_workers(4, a_plan(*(a_task(f"t{n}") for n in range(4)), verify=["make"]), verify_slots=1)
    assert [each.queue for each in outcome.waited.values()] == [0, 10, 20, 30]
    assert outcome.makespan_s == 100
    assert dict(outcome.limited_by) == {"tail": 60, "verification": 40}


@pytest.mark.parametrize(
    ("number", "tasks", "limit"),
    [
        (1, [a_task("a"), a_task("b")], "slots"),
        (2, [a_task("a", claims=["x"]), a_task("b", claims=["x"])], "claims"),
        (2, [a_task("a"), a_task("b", needs=["a"])], "needs"),
    ],
)
def test_all_the_time_has_a_limit(number: int, tasks: list[TaskSpec], limit: str) -> None:
    """Up to the last task it is the slots, the claims or the needs that keep a run from going faster."""
    outcome = with_workers(number, a_plan(*tasks))
    assert dict(outcome.limited_by) == {limit: 60, "tail": 60}


# --- chance


def test_chance_comes_from_the_seed_alone() -> None:
    """The same seed fails the same attempts, for any number of workers; another one others."""
    plan = a_plan(*(a_task(f"t{n}") for n in range(200)))

    def failed(number: int, seed: int) -> set[str]:
        outcome = with_workers(number, plan, Assumed(fail_rate=0.3, seed=seed))
        return {name for name, each in starts(outcome).items() if len(each) > 1}

    assert 30 < len(failed(4, 1)) < 90
    assert failed(4, 1) == failed(7, 1) != failed(4, 2)


# --- what must never be


def _meet(one: TaskSpec, other: TaskSpec) -> bool:
    return any(
        overlap(a.path, b.path) and {a.mode, b.mode} != {Mode.SHARED}
        for a in one.claims
        for b in other.claims
    )


def _overlapping(one: Task, other: Task) -> bool:
    """Whether attempts at two tasks were live at the same time."""
    return any(
        a.created_at < (b.ended_at or 0) and b.created_at < (a.ended_at or 0)
        for a in one.attempts
        for b in other.attempts
    )


@pytest.mark.parametrize("seed", range(25))
def test_claims_and_width_are_kept(seed: int) -> None:
    """Of two tasks whose claims meet one has landed or ended before the other starts; there are never more workers than may be;
    and nothing starts before what it needs has landed."""
    chance = random.Random(seed)
    paths = ["a/1", "a/2", "a/**", "b/*.py", "+b/x.py", "+log", "log"]
    tasks = [
        a_task(
            f"t{n}",
            claims=chance.sample(paths, chance.randint(0, 2)),
            needs=[f"t{m}" for m in range(n) if chance.random() < 0.08],
            priority=chance.choice([0, 0, 1]),
            verify=chance.choice([(), ("make",)]),
        )
        for n in range(30)
    ]
    number = chance.randint(1, 5)
    names = [task.id for task in tasks]
    assumed = Assumed(
        tasks_s={name: chance.randint(1, 90) for name in names},
        reds=dict.fromkeys(chance.sample(names, 3), 1),
        fail_rate=0.1,
        seed=seed,
    )
    outcome = with_workers(number, a_plan(*tasks), assumed)
    assert outcome.ended
    done = list(outcome.run.tasks.values())
    for place, one in enumerate(done):
        for other in done[:place]:
            assert not (_meet(one.spec, other.spec) and _overlapping(one, other))
        for need in one.spec.needs if one.attempts else ():
            assert (outcome.run.tasks[need].ended_at or 0) <= one.attempts[0].created_at
    widths = schedule.width_over_time(
        (attempt.created_at, attempt.exited_at or 0) for task in done for attempt in task.attempts
    )
    assert max(width for _, width in widths) <= number
    assert sum(outcome.limited_by.values()) == pytest.approx(outcome.makespan_s)


# --- what is told of it


def test_several_widths_are_compared_without_being_asked() -> None:
    """1, 2, 4, … are tried as long as more save time, beside the width of the settings; the schedule told is that of the settings,
    the most useful width the smallest that does nearly as well as any."""
    plan = a_plan(*(a_task(f"t{n}") for n in range(4)), a_task("last", needs=["t0"]))
    document = schedule.compare(plan, dataclasses.replace(LIMITS, workers_max=3), Assumed(), ())
    assert [(each["workers"], each["makespan_s"]) for each in document["widths"]] == [
        (1, 300),
        (2, 180),
        (3, 120),
        (4, 120),
        (8, 120),
    ]
    assert (document["useful"], document["schedule"]["workers"]) == (3, 3)
    assert document["widths"][2]["speed_up"] == 2.5
    assert (document["critical_path"], document["critical_path_s"]) == (["t0", "last"], 120)


def test_of_named_widths_the_most_useful_is_told_in_full() -> None:
    """Where widths are named these alone are tried; speed-up needs the one of one worker."""
    plan = a_plan(*(a_task(f"t{n}") for n in range(4)))
    document = schedule.compare(plan, LIMITS, Assumed(), (8, 4, 2, 4))
    assert [each["workers"] for each in document["widths"]] == [2, 4, 8]
    assert (document["useful"], document["schedule"]["workers"]) == (4, 4)
    assert document["widths"][0]["speed_up"] is None
    assert document["schedule"]["width"] == [[0, 4], [60, 0]]


def test_a_stand_is_never_the_best() -> None:
    """A run that comes to a stand early is no fast one."""
    tasks = [dataclasses.replace(a_task(f"t{n}", attempts=1), agent="mine") for n in range(4)]
    limits = dataclasses.replace(LIMITS, breaker_failures=2)
    assumed = Assumed(task_s=1, tasks_s={"t0": 20}, fails={"t1": ALWAYS, "t2": ALWAYS})
    document = schedule.compare(a_plan(*tasks), limits, assumed, (1, 4))
    assert [each["ended"] for each in document["widths"]] == [True, False]
    assert document["useful"] == 1


def test_what_is_assumed_can_be_written_as_json() -> None:
    """JSON knows no infinity: an attempt that always fails is null."""
    made = schedule.assumed_document(Assumed(fails={"a": ALWAYS, "b": 2}))
    assert json.loads(json.dumps(made, allow_nan=False))["fails"] == {"a": None, "b": 2}


def test_what_earlier_runs_took_is_learned() -> None:
    """A task of the same run takes what it took, others the median of all; a failed worker teaches nothing, and what is said goes
    first."""
    tasks = [a_task(name, attempts=1) for name in "abcd"]
    ran = with_workers(
        4, a_plan(*tasks, verify=["make"], name="old"), dataclasses.replace(ABCD, fails={"d": 1})
    )
    learned = schedule.learn([ran.run], "old")
    assert (learned.tasks_s, learned.task_s, learned.attempts) == ({"a": 10, "b": 20, "c": 30}, 20, 3)
    assert learned.suites_s == {"make": 10}
    assert schedule.learn([ran.run], "new").tasks_s == {}
    filled = learned.fill_in(Assumed(), {"tasks_s": {"a": 1}, "suite_s": 3.0})
    assert [filled.works_s(name) for name in ("a", "b", "new")] == [1, 20, 20]
    assert (filled.suite_s, filled.suites_s) == (3.0, {})


def test_the_longest_chain_is_weighed() -> None:
    """The chain of what takes longest, not of the most tasks; phases that go one at a time are chains too."""
    phases = [PhaseSpec("one", parallel_safe=False)]
    plan = a_plan(*CHAIN, a_task("x", phase="one"), a_task("y", phase="one"), phases=phases)
    assert longest_chain(plan, lambda _: 60) == (["a", "b", "c"], 180)
    assert longest_chain(plan, lambda task: 100 if task.phase else 60) == (["x", "y"], 200)
    assert longest_chain(a_plan(), lambda _: 60) == ([], 0)


@pytest.mark.parametrize(
    "pattern", ["src/a.py", "src/", "**", "**/*.py", "a?b", "[!x0]y", "app/[id]/p*.ts", "a\\*b", "[a-c]*[!a]"]
)
def test_an_example_is_covered(pattern: str) -> None:
    """The path that stands for a pattern is one that it covers."""
    assert matches(normalise(pattern), example(normalise(pattern)))

"""The shape of plans: waves, longest chain, width and overlaps, held against a plain count on small random plans."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.core import claims, plan
from swarm.core.graph import OVERLAPS_MAX, WILD_MAX, order_and_cycles
from swarm.core.model import Claim, Defaults, Mode, PhaseSpec, PlanSpec, TaskSpec


def spec(tasks: list[TaskSpec], phases: list[PhaseSpec] | None = None) -> PlanSpec:
    return PlanSpec("p", "p", tasks=tuple(tasks), phases=tuple(phases or []))


def task(name: str, *paths: str, needs: str = "", phase: str | None = None, **more: Any) -> TaskSpec:
    return TaskSpec(
        name, name, phase=phase, needs=tuple(needs.split()), claims=tuple(map(Claim, paths)), **more
    )


def texts(made: PlanSpec) -> list[str]:
    return [overlap.text for overlap in plan.overlaps(made).found]


PHASES = ("p", "q", "r")


@st.composite
def plans(draw: st.DrawFn) -> PlanSpec:
    """Small plans, cycles and finished tasks among them."""
    names = [f"t{n}" for n in range(draw(st.integers(1, 7)))]
    some = st.lists(st.sampled_from(names), max_size=2, unique=True).map(tuple)
    some_phases = st.lists(st.sampled_from(PHASES), max_size=1).map(tuple)
    phases = [
        PhaseSpec(name, needs=draw(some) if draw(st.booleans()) else (), phase_needs=draw(some_phases))
        for name in PHASES
    ]
    tasks = [
        TaskSpec(
            name,
            name,
            phase=draw(st.sampled_from([None, *PHASES])),
            needs=draw(some),
            phase_needs=draw(some_phases),
            claims=tuple(
                Claim(path)
                for path in draw(st.lists(st.sampled_from(["a", "a/b", "c", "*"]), max_size=2, unique=True))
            ),
            finished=draw(st.integers(0, 5)) == 0,
        )
        for name in names
    ]
    return PlanSpec("x", "x", phases=tuple(phases), tasks=tuple(tasks))


@st.composite
def orderly_plans(draw: st.DrawFn, *, finished: bool) -> PlanSpec:
    """Plans without a ring, of which some of `plans` are too few to judge by: what waits stands later than all that it waits for.

    The tasks of a phase lie between two cuts. It needs tasks before the first, and phases that end before it.
    """
    size = draw(st.integers(1, 9))
    names = [f"t{n}" for n in range(size)]
    cuts = sorted(draw(st.tuples(*[st.integers(0, size)] * (len(PHASES) + 1))))

    def some(of: Sequence[str], most: int) -> tuple[str, ...]:
        return tuple(draw(st.lists(st.sampled_from(of), max_size=most, unique=True))) if of else ()

    phases = [
        PhaseSpec(name, needs=some(names[:cut], 1), phase_needs=some(PHASES[:k], 1))
        for k, (name, cut) in enumerate(zip(PHASES, cuts, strict=False))
    ]
    tasks = []
    for n, name in enumerate(names):
        over = [phase for phase, end in zip(PHASES, cuts[1:], strict=True) if end <= n]
        around = [phase for k, phase in enumerate(PHASES) if cuts[k] <= n < cuts[k + 1]]
        tasks.append(
            TaskSpec(
                name,
                name,
                phase=draw(st.sampled_from([None, *around, *around])),
                needs=some(names[:n], 2),
                phase_needs=some(over, 1),
                claims=tuple(map(Claim, some(("a", "a/b", "c", "*"), 2))),
                finished=finished and draw(st.integers(0, 5)) == 0,
            )
        )
    # Nothing is to follow from the order in which they stand.
    return PlanSpec("x", "x", phases=tuple(phases), tasks=tuple(draw(st.permutations(tasks))))


def waits_for(made: PlanSpec) -> dict[str, set[str]]:
    """Writes every need out as pairs of tasks and phases, and closes it: all that must be there before each."""
    nodes = {f"task {one.id}" for one in made.tasks}
    direct: dict[str, set[str]] = {node: set() for node in nodes}
    for phase in made.phases:
        entry, leave = f"entry {phase.id}", f"exit {phase.id}"
        direct[entry] = {f"task {need}" for need in phase.needs} | {
            f"exit {need}" for need in phase.phase_needs
        }
        direct[leave] = {entry} | {f"task {one.id}" for one in made.tasks if one.phase == phase.id}
    for one in made.tasks:
        direct[f"task {one.id}"] |= {f"task {need}" for need in one.needs} | {
            f"exit {need}" for need in one.phase_needs
        }
        if one.phase is not None:
            direct[f"task {one.id}"].add(f"entry {one.phase}")
    for middle in direct:
        for node in direct:
            if middle in direct[node]:
                direct[node] |= direct[middle]
    return direct


@settings(max_examples=100, deadline=None)
@given(plans())
def test_cycles_and_order_agree_with_a_plain_count(made: PlanSpec) -> None:
    """A cycle is found exactly where something waits for itself, and the order has each task after what it waits for."""
    before = waits_for(made)
    ringed = {node for node, above in before.items() if node in above}
    order, cycles = order_and_cycles(made)
    assert bool(cycles) == bool(ringed)
    for ring in cycles:
        assert ring[0] == ring[-1]
        assert set(ring) <= {node.split()[1] for node in ringed}
    free = {one.id for one in made.tasks if not (before[f"task {one.id}"] | {f"task {one.id}"}) & ringed}
    assert set(order) == free
    place = {name: number for number, name in enumerate(order)}
    for name in order:
        above = (node.split() for node in before[f"task {name}"])
        assert all(place[other] < place[name] for kind, other in above if kind == "task")


@settings(max_examples=100, deadline=None)
@given(orderly_plans(finished=True))
def test_waves_have_all_that_is_open(made: PlanSpec) -> None:
    """Each open task stands in one wave, the critical path is as long as there are waves, and no finished task counts."""
    shape = plan.graph(made)
    open_tasks = [one.id for one in made.tasks if not one.finished]
    assert sorted(name for wave in shape.waves for name in wave) == sorted(open_tasks)
    assert len(shape.critical_path) == len(shape.waves)
    assert 0 <= shape.widest <= max(map(len, shape.waves), default=0)


@settings(max_examples=100, deadline=None)
@given(orderly_plans(finished=False))
def test_waves_are_the_longest_chains(made: PlanSpec) -> None:
    """Each task stands in the wave of its longest chain, and the critical path is a chain; what lies behind finished tasks is
    judged by the example below."""
    shape = plan.graph(made)
    assert not order_and_cycles(made)[1]
    before = waits_for(made)
    level = {name: number for number, wave in enumerate(shape.waves) for name in wave}
    for name, above in ((one.id, before[f"task {one.id}"]) for one in made.tasks):
        ahead = [level[node.split()[1]] for node in above if node.startswith("task ")]
        assert level[name] == max(ahead, default=-1) + 1
    for first, second in zip(shape.critical_path, shape.critical_path[1:], strict=False):
        assert f"task {first}" in before[f"task {second}"]


@settings(max_examples=100, deadline=None)
@given(orderly_plans(finished=True))
def test_overlaps_agree_with_every_pair(made: PlanSpec) -> None:
    """Two open tasks are told to overlap exactly when their claims meet and no need orders them."""
    before = waits_for(made)
    expected = set()
    for a, b in combinations([one for one in made.tasks if not one.finished], 2):
        ordered = f"task {a.id}" in before[f"task {b.id}"] or f"task {b.id}" in before[f"task {a.id}"]
        if not ordered and any(claims.overlap(x.path, y.path) for x in a.claims for y in b.claims):
            different = a.phase and b.phase and a.phase != b.phase
            expected.add(tuple(sorted((str(a.phase), str(b.phase)))) if different else (a.id, b.id))
    found = plan.overlaps(made)
    assert {
        tuple(sorted((one.first, one.second))) if one.are_phases else (one.first, one.second)
        for one in found.found
    } == expected
    assert found.complete


def test_a_finished_task_takes_no_part() -> None:
    """Finished tasks stand in no wave and hold nobody up, not even for what they once needed."""
    made = spec([task("slow"), task("done", needs="slow", finished=True), task("next", needs="done")])
    shape = plan.graph(made)
    assert (shape.waves, shape.critical_path, shape.widest) == ([["slow", "next"]], ["slow"], 2)


def test_a_sequential_phase_is_a_chain() -> None:
    """Tasks of a phase that goes one at a time stand in waves one after the other, and the path through them is the longest."""
    phases = [PhaseSpec("one", parallel_safe=False), PhaseSpec("many", phase_needs=("one",))]
    tasks = [
        *(task(f"a{n}", phase="one") for n in range(3)),
        *(task(f"b{n}", phase="many") for n in range(3)),
    ]
    shape = plan.graph(spec(tasks, phases))
    assert shape.waves == [["a0"], ["a1"], ["a2"], ["b0", "b1", "b2"]]
    assert shape.critical_path == ["a0", "a1", "a2", "b0"]
    assert shape.widest == 3


def test_an_empty_phase_hands_its_needs_on() -> None:
    """What needs a phase without tasks waits for what that phase needs."""
    phases = [PhaseSpec("gate", needs=("first",))]
    made = spec([TaskSpec("second", "", phase_needs=("gate",)), task("first")], phases)
    assert plan.graph(made).waves == [["first"], ["second"]]


def test_width_respects_claims() -> None:
    """Tasks that claim one path count once; shared claims hold nobody up."""
    shared = Claim("CHANGELOG.md", Mode.SHARED)
    both = [TaskSpec(f"s{n}", "", claims=(shared, Claim(f"s{n}"))) for n in range(3)]
    made = spec([task("a", "src/**"), task("b", "src/x.py"), task("c"), *both])
    assert plan.graph(made).widest == 5
    assert texts(made) == ['tasks "a" and "b" both change src/x.py: they run one after the other there']


def test_phases_that_share_a_file_are_named() -> None:
    """Two phases on one file are told once, with both names and the file, unless one needs the other."""
    phases = [PhaseSpec("api"), PhaseSpec("ui")]
    tasks = [
        task("a", "src/app.py", phase="api"),
        task("b", "src/app.py", phase="ui"),
        task("c", "src/**", phase="ui"),
    ]
    found = texts(spec(tasks, phases))
    assert found[0].startswith('phases "api" and "ui" both change src/app.py')
    assert len([text for text in found if text.startswith("phases")]) == 1
    ordered = [PhaseSpec("api"), PhaseSpec("ui", phase_needs=("api",))]
    assert not [text for text in texts(spec(tasks, ordered)) if text.startswith("phases")]
    document = plan.check_document([("p", plan.Reading(spec(tasks, phases)))])
    assert "src/app.py" in document["plans"][0]["warnings"][0]["text"]


def test_tasks_of_one_sequential_phase_do_not_overlap() -> None:
    """They never run at the same time, so there is nothing to tell."""
    tasks = [task("a", "x", phase="p"), task("b", "x", phase="p")]
    assert texts(spec(tasks, [PhaseSpec("p", parallel_safe=False)])) == []


def test_what_is_shared_overlaps_only_with_what_is_exclusive() -> None:
    """Two shared claims on one path are fine; a shared and an exclusive one are told."""
    shared = [TaskSpec(name, "", claims=(Claim("log", Mode.SHARED),)) for name in ("a", "b")]
    assert texts(spec(shared)) == []
    assert len(texts(spec([*shared, task("c", "log")]))) == 2


def test_the_number_of_overlaps_told_is_bounded() -> None:
    """A thousand tasks on one file are no half million messages, and what is left out is counted or said."""
    found = plan.overlaps(spec([task(f"t{n}", "one.py") for n in range(1000)]))
    assert len(found.found) == OVERLAPS_MAX
    assert found.more > 100_000
    assert not found.complete
    made = plan.check_document([("p", plan.Reading(spec([task(f"t{n}", "one.py") for n in range(30)])))])
    assert f"and {30 * 29 // 2 - OVERLAPS_MAX} more overlaps" in made["plans"][0]["warnings"][-1]["text"]


def test_ten_thousand_tasks_through_phases_stay_linear() -> None:
    """Phases of thousands that need each other are never written out as pairs: no node has more edges than it has needs."""
    tasks = [
        {"id": f"t{n}", "run": "x", "phase": f"p{n % 100}", "claims": [f"m{n}/*"]} for n in range(10_000)
    ]
    phases = [{"id": f"p{n}", "needs": [f"p{n - 1}"] if n else []} for n in range(100)]
    data = json.dumps({"tasks": tasks, "phases": phases}).encode()
    reading = plan.read(data, source="p.json", defaults=Defaults())
    assert reading.plan is not None
    shape = plan.graph(reading.plan)
    assert (len(shape.waves), shape.widest, len(shape.critical_path)) == (100, 100, 100)
    assert WILD_MAX < 10_000
    assert plan.overlaps(reading.plan).found == ()


def test_a_chain_of_ten_thousand_and_a_ring_of_ten_thousand() -> None:
    """Depth meets no recursion limit, neither in the waves nor in naming the ring."""
    chain = [task(f"t{n}", needs=f"t{n - 1}" if n else "") for n in range(10_000)]
    assert len(plan.graph(spec(chain)).critical_path) == 10_000
    ring = [task(f"t{n}", needs=f"t{(n + 1) % 10_000}") for n in range(10_000)]
    (cycle,) = order_and_cycles(spec(ring))[1]
    assert len(cycle) == 10_001

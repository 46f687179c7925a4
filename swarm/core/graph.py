"""The shape of a plan: which tasks can run side by side, the longest chain, the cycles, and which claims get in each other's way.

Nodes are tasks and two gates for each phase, its entry and its exit, so that needs between phases are never written out as pairs of
tasks: the work is one step per need. Everything is iterative, since a chain of 10,000 tasks must not meet the recursion limit.

Rules for editing: pure; `needs` counts the same edges while a run goes on, so an edge added here belongs there too. Questions about
pairs (overlaps) have a bound and say when they have met it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from itertools import pairwise

from swarm.core.claims import ClaimTable
from swarm.core.model import Claim, Mode, PlanSpec, TaskSpec
from swarm.dataclass import dataclass

PAIRS_MAX = 200_000  # pairs of tasks looked at for overlaps
TASKS_MAX = 20_000  # tasks with claims looked at: their ancestors are kept as one bit each
OVERLAPS_MAX = 200  # overlaps reported
ROUNDS_MAX = 10  # rings named of one knot of needs
WILD_MAX = 1_000  # patterns with wildcards compared with each other


@dataclass(frozen=True, slots=True)
class Graph:
    """What a plan allows, by ids of tasks in plan order; tasks that are finished already take no part.

    `waves` are the tasks by the longest chain before them, `critical_path` is the longest chain, `widest` how many workers can
    be of use at once. Tasks on or behind a cycle are left out.
    """

    waves: list[list[str]]
    critical_path: list[str]
    widest: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two tasks (or, where `are_phases`, two phases) that nothing orders and whose claims meet: they will take turns."""

    first: str
    second: str
    are_phases: bool
    paths: tuple[str, ...]

    @property
    def text(self) -> str:
        """Says it in one sentence."""
        what = "phases" if self.are_phases else "tasks"
        shown = ", ".join(self.paths[:5]) + (
            f" and {len(self.paths) - 5} more" if len(self.paths) > 5 else ""
        )
        return f'{what} "{self.first}" and "{self.second}" both change {shown}: they run one after the other there'


@dataclass(frozen=True, slots=True)
class Overlaps:
    """The overlaps found; `more` counts those beyond the bound, `complete` is false when not every pair was looked at."""

    found: tuple[Overlap, ...]
    more: int = 0
    complete: bool = True


@dataclass(slots=True)
class _Net:
    """The plan as numbers: task i is node i, the gates of phase p are nodes n + 2p (entry) and n + 2p + 1 (exit)."""

    plan: PlanSpec
    task_of: dict[str, int] = field(default_factory=dict)
    phase_of: dict[str, int] = field(default_factory=dict)
    after: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        tasks, phases = self.plan.tasks, self.plan.phases
        self.task_of = {task.id: number for number, task in enumerate(tasks)}
        self.phase_of = {phase.id: len(tasks) + 2 * number for number, phase in enumerate(phases)}
        self.after = [[] for _ in range(len(tasks) + 2 * len(phases))]
        for phase in phases:
            entry = self.phase_of[phase.id]
            self.after[entry].append(entry + 1)
            self._needs(entry, phase.needs, phase.phase_needs)
        for number, task in enumerate(tasks):
            self._needs(number, task.needs, task.phase_needs)
            gate = self.phase_of.get(task.phase) if task.phase is not None else None
            if gate is not None:
                self.after[gate].append(number)
                self.after[number].append(gate + 1)

    def _needs(self, node: int, needs: Iterable[str], phase_needs: Iterable[str]) -> None:
        """Adds the edges into a node; a need that names nothing has been reported elsewhere and is left out."""
        for need in needs:
            if need in self.task_of:
                self.after[self.task_of[need]].append(node)
        for need in phase_needs:
            if need in self.phase_of:
                self.after[self.phase_of[need] + 1].append(node)

    def name(self, node: int) -> str:
        """Gives the id of the task or phase that a node belongs to."""
        tasks = self.plan.tasks
        return tasks[node].id if node < len(tasks) else self.plan.phases[(node - len(tasks)) // 2].id

    def sorted(self) -> list[int]:
        """Puts all nodes that are on no cycle, nor behind one, after what they need, earlier tasks of the plan first."""
        waiting = [0] * len(self.after)
        for targets in self.after:
            for target in targets:
                waiting[target] += 1
        tasks = len(self.plan.tasks)
        free = [
            node if node < tasks else node - len(waiting) for node, count in enumerate(waiting) if not count
        ]
        heapq.heapify(free)  # gates get numbers below zero: they cost nothing, so they go first
        order: list[int] = []
        while free:
            node = heapq.heappop(free) % len(waiting)
            order.append(node)
            for target in self.after[node]:
                waiting[target] -= 1
                if not waiting[target]:
                    heapq.heappush(free, target if target < tasks else target - len(waiting))
        return order


def graph(plan: PlanSpec) -> Graph:
    """Works out the shape of a plan, in time linear in the tasks and their needs. Unknown needs are passed over."""
    net = _Net(plan)
    order = net.sorted()
    levels, before = _levels(net, order)
    waves: list[list[str]] = []
    specs: list[list[TaskSpec]] = []
    for number, task in enumerate(plan.tasks):
        level = int(levels.get(number, 0))
        if level and not task.finished:
            while len(waves) < level:
                waves.append([])
                specs.append([])
            waves[level - 1].append(task.id)
            specs[level - 1].append(task)
    return Graph(
        waves=waves,
        critical_path=_longest(net, levels, before),
        widest=max(map(_width, specs), default=0),
    )


def longest_chain(plan: PlanSpec, takes_s: Callable[[TaskSpec], float]) -> tuple[list[str], float]:
    """Gives the chain of tasks that takes longest, where each takes so many seconds, and how long that is: no number of workers
    gets through sooner."""
    net = _Net(plan)
    reached, before = _levels(net, net.sorted(), takes_s)
    path = _longest(net, reached, before)
    return path, reached[net.task_of[path[-1]]] if path else 0.0


def order_and_cycles(plan: PlanSpec) -> tuple[list[str], list[list[str]]]:
    """Gives every task, finished ones too, so that each comes after what it needs, in plan order where that is free; and the rings
    of needs, each a list of ids that ends as it began. Tasks on or behind a ring are left out of the order."""
    net = _Net(plan)
    order = net.sorted()
    return [plan.tasks[node].id for node in order if node < len(plan.tasks)], _cycles(net, order)


def shown(ring: Sequence[str]) -> str:
    """Says a ring of needs in one line; the middle of a long one is counted."""
    long = len(ring) > 24
    return " -> ".join([*ring[:12], f"({len(ring) - 24} more)", *ring[-12:]] if long else ring)


def _chains(net: _Net, order: list[int]) -> dict[int, int]:
    """Gives, for tasks in phases that go one at a time, the task that comes next there."""
    plan = net.plan
    sequential: dict[str, list[int]] = {phase.id: [] for phase in plan.phases if not phase.parallel_safe}
    for node in order:
        if node < len(plan.tasks) and not plan.tasks[node].finished:
            members = sequential.get(plan.tasks[node].phase or "")
            if members is not None:
                members.append(node)
    return {first: second for members in sequential.values() for first, second in pairwise(members)}


def _levels(
    net: _Net, order: list[int], weighs: Callable[[TaskSpec], float] = lambda _: 1
) -> tuple[dict[int, float], dict[int, int]]:
    """Gives for each sorted node what the tasks of its heaviest chain weigh, itself included, and the node before it there: with
    weights of 1 how many they are."""
    tasks = net.plan.tasks
    following = _chains(net, order)
    reached: dict[int, float] = dict.fromkeys(order, 0)
    before: dict[int, int] = {}
    for node in order:
        if node < len(tasks):
            # A finished task is there already, whatever it once needed.
            reached[node] = 0 if tasks[node].finished else reached[node] + weighs(tasks[node])
        targets = net.after[node]
        for target in (*targets, following[node]) if node in following else targets:
            if target in reached and reached[target] < reached[node]:
                reached[target], before[target] = reached[node], node
    return reached, before


def _longest(net: _Net, levels: dict[int, float], before: dict[int, int]) -> list[str]:
    """Follows the heaviest chain back from its end, tasks only."""
    tasks = net.plan.tasks
    ends = [node for node in levels if node < len(tasks) and not tasks[node].finished]
    if not ends:
        return []
    node: int | None = min(ends, key=lambda end: (-levels[end], end))
    path: list[str] = []
    while node is not None:
        if node < len(tasks):
            if tasks[node].finished:
                break
            path.append(tasks[node].id)
        node = before.get(node)
    return path[::-1]


def _width(tasks: list[TaskSpec]) -> int:
    """Counts how many of these tasks, taken in plan order, can hold their claims at the same time."""
    table: ClaimTable[str] = ClaimTable()
    wild = width = 0
    for task in tasks:
        is_wild = any("*" in claim.path or "?" in claim.path for claim in task.claims)
        if is_wild and wild >= WILD_MAX:
            width += 1  # past any number of workers that a machine has; comparing on would be quadratic
        elif table.first_conflict(task.claims, task.id) is None:
            table.take(task.id, task.claims)
            width, wild = width + 1, wild + is_wild
    return width


# --- cycles -----------------------------------------------------------------------------------------------------------------


def _cycles(net: _Net, order: list[int]) -> list[list[str]]:
    """Names every self-need and the shortest rings of each knot of needs, along the needs: a needs b needs a gives `[a, b, a]`.

    A ring that was named is cut and what is left looked at again, so that rings which share a task are all told at once, up to
    `ROUNDS_MAX` of one knot.
    """
    if len(order) == len(net.after):
        return []
    sorted_nodes = set(order)
    before: dict[int, dict[int, None]] = {
        node: {} for node in range(len(net.after)) if node not in sorted_nodes
    }
    for node in before:
        for target in net.after[node]:
            if target in before:
                before[target][node] = None
    rings = [[node, node] for node in before if node in before[node]]
    for node, _ in rings:
        del before[node][node]
    for _ in range(ROUNDS_MAX):
        found = [_ring(before, knot) for knot in _knots(before)]
        rings += found
        for first, second in (step for ring in found for step in pairwise(ring)):
            del before[first][second]
        if not found:
            break
    named = (_named(net, ring) for ring in sorted(rings, key=lambda ring: ring[0]))
    return [list(ring) for ring in dict.fromkeys(named)]


def _named(net: _Net, ring: list[int]) -> tuple[str, ...]:
    """Names a ring; a phase on it counts once, not once for each of its gates."""
    names = [net.name(node) for node in ring]
    short = tuple(name for place, name in enumerate(names) if not place or names[place - 1] != name)
    return short if len(short) > 1 else short * 2


def _knots(edges: dict[int, dict[int, None]]) -> Iterator[list[int]]:
    """Finds the strongly connected parts of more than one node (Tarjan's algorithm, without recursion), in plan order."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    knots: list[list[int]] = []
    for root in edges:
        if root in index:
            continue
        work = [(root, iter(edges[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for target in rest:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(edges[target])))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    knot = [stack.pop()]
                    while knot[-1] != node:
                        knot.append(stack.pop())
                    on_stack.difference_update(knot)
                    if len(knot) > 1:
                        knots.append(sorted(knot))
    yield from sorted(knots)


def _ring(edges: dict[int, dict[int, None]], knot: list[int]) -> list[int]:
    """Finds a shortest way round from the first node of a knot back to itself."""
    inside, start = set(knot), knot[0]
    came_from: dict[int, int] = {}
    todo = deque([start])
    while todo:
        node = todo.popleft()
        for target in edges[node]:
            if target == start:
                path = [start, node]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if target in inside and target not in came_from:
                came_from[target] = node
                todo.append(target)
    raise AssertionError("a knot without a ring")


# --- overlaps ---------------------------------------------------------------------------------------------------------------


def overlaps(plan: PlanSpec) -> Overlaps:
    """Finds the tasks that could run at the same time but for their claims, gathered by phases where two phases meet.

    Looks at no more than `PAIRS_MAX` pairs and reports no more than `OVERLAPS_MAX`.
    """
    numbers = [i for i, task in enumerate(plan.tasks) if task.claims and not task.finished][:TASKS_MAX]
    complete = len(numbers) < TASKS_MAX
    grouped: dict[tuple[str, str, bool], dict[str, None]] = {}
    before: _Before | None = None
    for looked, (first, second, path) in enumerate(_meeting(plan, numbers)):
        if looked == PAIRS_MAX:
            complete = False
            break
        before = before or _Before(plan, numbers)
        if not before.ordered(first, second):
            grouped.setdefault(_sides(plan, first, second), {})[path] = None
    found = [
        Overlap(first, second, phases, tuple(paths)) for (first, second, phases), paths in grouped.items()
    ]
    return Overlaps(tuple(found[:OVERLAPS_MAX]), max(0, len(found) - OVERLAPS_MAX), complete)


def _sides(plan: PlanSpec, first: int, second: int) -> tuple[str, str, bool]:
    """Gives the two phases of two tasks where they have different ones, else the two tasks, in plan order."""
    a, b = plan.tasks[min(first, second)], plan.tasks[max(first, second)]
    if a.phase is not None and b.phase is not None and a.phase != b.phase:
        rank = [phase.id for phase in plan.phases if phase.id in (a.phase, b.phase)]
        return rank[0], rank[-1], True
    return a.id, b.id, False


def _meeting(plan: PlanSpec, numbers: list[int]) -> Iterator[tuple[int, int, str]]:
    """Gives pairs of tasks whose claims meet, with the narrower of the two patterns; the same pattern is filed once."""
    holders: dict[Claim, list[int]] = {}
    for number in numbers:
        for claim in dict.fromkeys(plan.tasks[number].claims):
            holders.setdefault(claim, []).append(number)
    table: ClaimTable[Claim] = ClaimTable()
    wild = 0
    for claim, mine in holders.items():
        if claim.mode is Mode.EXCLUSIVE:
            yield from ((a, b, claim.path) for place, b in enumerate(mine) for a in mine[:place])
        if "*" in claim.path or "?" in claim.path:
            wild += 1
            if wild > WILD_MAX:
                continue
        # Everything is filed as shared and asked for as exclusive: so nothing is refused and all that meets is found.
        for holding in table.conflicts((Claim(claim.path),), claim):
            if claim.mode is holding.holder.mode is Mode.SHARED:
                continue
            path = max(claim.path, holding.claim.path, key=len)
            yield from ((a, b, path) for a in holders[holding.holder] for b in mine if a != b)
        table.take(claim, (Claim(claim.path, Mode.SHARED),))


class _Before:
    """Which of some tasks come before which others, as one number per task whose bits are the tasks before it."""

    def __init__(self, plan: PlanSpec, numbers: list[int]) -> None:
        net = _Net(plan)
        order = net.sorted()
        self._tasks = plan.tasks
        self._sequential = {phase.id for phase in plan.phases if not phase.parallel_safe}
        self._place = {number: place for place, number in enumerate(numbers)}
        self._above = dict.fromkeys(order, 0)
        for node in order:
            mine = self._above[node] | (1 << self._place[node] if node in self._place else 0)
            for target in net.after[node]:
                if target in self._above:
                    self._above[target] |= mine

    def ordered(self, first: int, second: int) -> bool:
        """Tells whether two tasks never run at the same time: a need, a phase that goes one at a time, or a cycle keeps them."""
        a, b = self._above.get(first), self._above.get(second)
        if a is None or b is None:
            return True
        phase = self._tasks[first].phase
        if phase in self._sequential and phase == self._tasks[second].phase:
            return True
        return bool(b >> self._place[first] & 1 or a >> self._place[second] & 1)

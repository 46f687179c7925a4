"""Which tasks may start because what they need has landed: a graph of counters, one step per edge, never a rescan.

Nodes are tasks and two gates for each phase: its *entry* (the phase's own needs are met) and its *exit* (every task of it has
landed), so that a thousand tasks that need a phase of a thousand tasks cost two thousand edges and not a million. Apart
from needs there is *order*: in a phase that goes one at a time a task waits for the one before it to end, however it ends.

A gate is open while nothing that it needs is: one task more in a phase that has landed shuts it again, and the gates behind it.
What is at work goes on all the same, and what has died behind its back kills nobody through it: it may still land.

All needs that were ever said are kept, also those of what has landed, which may be undone and be done again. They form no ring
(`ring` passes over none of them), so that whatever is added, undone or tried again, nothing waits for itself.

Rules for editing: nothing here knows states, attempts or time; `machine` says `met`, `died`, `revived`, `over`, `at_work` and
`at_rest` and is told which tasks are concerned; a plan that is submitted again may concern any, and `take_changed` lists them. What
is counted follows from the edges and from who is met, dead by itself, or at work: `_count` says how. Walks are iterative: a chain
of 10,000 tasks must not meet the recursion limit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import field
from itertools import pairwise
from typing import NamedTuple

from swarm.core.model import PhaseSpec, TaskSpec
from swarm.dataclass import dataclass


class Gate(NamedTuple):
    """One side of a phase."""

    side: str
    phase: str


Node = str | Gate


def _sources(spec: PhaseSpec | TaskSpec) -> list[Node]:
    return [*spec.needs, *(Gate("exit", name) for name in spec.phase_needs)]


@dataclass(slots=True)
class _Counts:
    open: int = 0  # needs that have not been met
    dead: int = 0  # needs that have ended without landing
    met: bool = False


@dataclass(slots=True)
class Needs:
    """The needs of one run's tasks."""

    _nodes: dict[Node, _Counts] = field(default_factory=dict)
    _dependents: dict[Node, dict[Node, None]] = field(default_factory=dict)
    _died: set[str] = field(default_factory=set)  # without landing, by themselves
    _working: set[str] = field(default_factory=set)
    _miscounted: bool = False  # a gate that was open has got something to wait for
    _gates: list[Gate] = field(default_factory=list)
    _sequential: dict[str, dict[str, None]] = field(default_factory=dict)  # phase: its tasks
    _next: dict[str, str] = field(default_factory=dict)
    _previous: dict[str, str] = field(default_factory=dict)
    _waits_order: set[str] = field(default_factory=set)
    _over: set[str] = field(default_factory=set)
    _changed: list[str] = field(default_factory=list)

    def add(self, phases: Iterable[PhaseSpec], tasks: Sequence[TaskSpec]) -> None:
        """Adds tasks that are not known yet, and those of the phases that are not. Whoever calls has checked that every need exists
        and that `ring` finds none, and says `order` before anything starts."""
        new = [phase for phase in phases if Gate("entry", phase.id) not in self._nodes]
        for phase in new:
            if not phase.parallel_safe:
                self._sequential[phase.id] = {}
            entry, leave = Gate("entry", phase.id), Gate("exit", phase.id)
            self._nodes[entry], self._nodes[leave] = _Counts(), _Counts()
            self._gates += (entry, leave)
            self._edge(entry, leave)
        for task in tasks:
            self._nodes[task.id] = _Counts()
        for phase in new:
            for need in _sources(phase):
                self._edge(need, Gate("entry", phase.id))
        for task in tasks:
            if task.finished:  # it only meets the needs of others, and its phase's
                if task.phase is not None:
                    self._edge(task.id, Gate("exit", task.phase))
            else:
                self.replace(task)

    def settle(self) -> None:
        """Opens the gates that nothing keeps shut, and shuts those that something does; until then nothing is to be asked."""
        if self._miscounted:
            self._count()
            self._changed += (node for node in self._nodes if not isinstance(node, Gate))
        for gate in self._gates:
            counts = self._nodes[gate]
            if not counts.open and not counts.met:
                self._changed += self.met(gate)

    def take_changed(self) -> list[str]:
        """Gives the tasks for which adding, replacing, forgetting, ordering or settling may have changed anything."""
        changed, self._changed = self._changed, []
        return list(dict.fromkeys(changed))

    def free(self, task: str) -> bool:
        """Tells whether nothing that the task needs, and nothing before it in its phase, is open."""
        counts = self._nodes[task]
        return counts.open == 0 and task not in self._waits_order

    def dead(self, task: str) -> bool:
        """Tells whether something that the task needs has ended without landing."""
        return self._nodes[task].dead > 0

    def met(self, node: Node) -> list[str]:
        """Records that a task landed; gives the tasks that wait for nothing more now."""
        freed: list[str] = []
        todo: list[Node] = [node]
        while todo:
            current = todo.pop()
            counts = self._nodes[current]
            if counts.met:
                continue
            counts.met = True
            for dependent in self._dependents.get(current, ()):
                other = self._nodes[dependent]
                if other.met:
                    continue
                other.open -= 1
                if other.open == 0:
                    if isinstance(dependent, Gate):
                        todo.append(dependent)
                    elif self.free(dependent):
                        freed.append(dependent)
        return freed

    def died(self, task: str) -> list[str]:
        """Records that a task ended without landing by itself; gives the tasks that can't start any more. Again is nothing."""
        before = self._kills(task)
        self._working.discard(task)
        self._died.add(task)
        return self._told(task, before)

    def revived(self, task: str) -> list[str]:
        """Takes `died` back; gives the tasks for which nothing is dead any more."""
        before = self._kills(task)
        self._died.discard(task)
        return self._told(task, before)

    def at_work(self, task: str) -> list[str]:
        """Records that a task is at work, until it has landed, `died` or is `at_rest`; gives those for which nothing is dead any
        more."""
        before = self._kills(task)
        self._working.add(task)
        return self._told(task, before)

    def at_rest(self, task: str) -> list[str]:
        """Takes `at_work` back, so that the task waits as ever; gives the other tasks that can't start any more."""
        before = self._kills(task)
        self._working.discard(task)
        return self._told(task, before)

    def _kills(self, node: Node) -> bool:
        """Tells whether what needs a node can't start."""
        counts = self._nodes[node]
        return not counts.met and (node in self._died or (counts.dead > 0 and node not in self._working))

    def _told(self, node: Node, before: bool) -> list[str]:
        """Has what needs a node know whether it `_kills` now; gives the tasks for which that makes the difference."""
        changed: list[str] = []
        todo = [node] if self._kills(node) is not before else []
        by = -1 if before else +1
        while todo:
            for dependent in self._dependents.get(todo.pop(), ()):
                killed = self._kills(dependent)
                self._nodes[dependent].dead += by
                if self._kills(dependent) is not killed:
                    todo.append(dependent)
                    if not isinstance(dependent, Gate):
                        changed.append(dependent)
        return changed

    def dependents(self, task: str) -> list[str]:
        """Gives the tasks that need this one, directly, through others or through phases, each once."""
        found: dict[Node, None] = {task: None}
        todo: list[Node] = [task]
        while todo:
            new = [each for each in self._dependents.get(todo.pop(), ()) if each not in found]
            found.update(dict.fromkeys(new))
            todo += new
        return [each for each in found if not isinstance(each, Gate) and each != task]

    def taken_back(self, tasks: Iterable[str]) -> None:
        """Takes `met` back, for tasks that have died by that: the gates behind them shut, and whoever needs them waits again."""
        for task in tasks:
            self._nodes[task].met = False
            self._working.discard(task)
            self._died.add(task)
        self._count()

    def _count(self) -> None:
        """Counts everything anew, linear in the number of edges."""
        self._miscounted = False
        for counts in self._nodes.values():
            counts.open = counts.dead = 0
        for gate in self._gates:
            self._nodes[gate].met = False
        for node, dependents in self._dependents.items():
            if not self._nodes[node].met:
                for dependent in dependents:
                    self._nodes[dependent].open += 1
        for gate in self._gates:
            if not self._nodes[gate].open:
                self.met(gate)
        for task in self._died:
            if self._kills(task):
                self._told(task, before=False)

    def over(self, task: str) -> str | None:
        """Records that a task has ended in whatever way; gives the next one of its phase if that waits for nothing more."""
        if task in self._over:
            return None
        self._over.add(task)
        following = self._next.get(task)
        if following is None:
            return None
        self._waits_order.discard(following)
        return following if self.free(following) else None

    def before(self, task: str) -> str | None:
        """Gives the task of the same phase that has to end first, if it has not."""
        if task not in self._waits_order:
            return None
        return self._previous[task]

    def forget(self, task: TaskSpec) -> None:
        """Takes the needs of a task that has not started out again, because its spec is being replaced, and that it ended."""
        name, counts = task.id, self._nodes[task.id]
        killed = self._kills(name)
        self._died.discard(name)
        counts.open = counts.dead = 0
        self._changed += self._told(name, killed)
        self._over.discard(name)
        sources = _sources(task)
        if task.phase is not None:
            sources.append(Gate("entry", task.phase))
            leave = Gate("exit", task.phase)
            del self._dependents[name][leave]
            self._nodes[leave].open -= not counts.met
            if task.phase in self._sequential:
                del self._sequential[task.phase][name]
        for source in sources:
            self._dependents[source].pop(name, None)

    def replace(self, task: TaskSpec) -> None:
        """Puts the needs of a new or replaced spec in."""
        for need in _sources(task):
            self._edge(need, task.id)
        if task.phase is not None:
            self._edge(Gate("entry", task.phase), task.id)
            self._edge(task.id, Gate("exit", task.phase))
            if task.phase in self._sequential:
                self._sequential[task.phase][task.id] = None

    def finished(self, task: TaskSpec) -> None:
        """Has a task whose needs are forgotten meet those of others, as it is finished by what the plan says."""
        self._changed += self.met(task.id)
        if task.phase is not None:
            self._edge(task.id, Gate("exit", task.phase))

    def order(self, passed_over: Collection[str] = (), started: Collection[str] = ()) -> None:
        """Puts the tasks of phases that go one at a time into the order in which they were added, but none before what it needs.

        Those that have ended and those `passed_over`, which won't start, hold nobody up; those that have `started` once wait for
        nobody again. Linear in the number of edges.
        """
        before = self._waits_order
        self._next, self._previous, self._waits_order = {}, {}, set()
        if any(self._sequential.values()):
            place = {node: number for number, node in enumerate(self._sorted())}
            for members in self._sequential.values():
                waiting = [name for name in members if name not in self._over and name not in passed_over]
                waiting.sort(key=place.__getitem__)
                for first, second in pairwise(waiting):
                    self._next[first], self._previous[second] = second, first
                    if second not in started:
                        self._waits_order.add(second)
        self._changed += sorted(before ^ self._waits_order)

    def _sorted(self) -> list[Node]:
        """Puts every node behind what it needs, and else where it was added: only what is needed moves up."""
        sources: dict[Node, list[Node]] = {}
        for source, dependents in self._dependents.items():
            for dependent in dependents:
                sources.setdefault(dependent, []).append(source)
        found: dict[Node, None] = {}
        for node in self._nodes:
            todo = [node]
            while todo:
                missing = [each for each in sources.pop(todo[-1], ()) if each not in found]
                if missing:
                    todo += reversed(missing)
                else:
                    found[todo.pop()] = None
        return list(found)

    def ring(self, phases: Iterable[PhaseSpec], tasks: Iterable[TaskSpec]) -> list[str]:
        """Names a ring of needs that adding or replacing these would close, as `graph` does, or gives nothing. Changes nothing.

        Walks only what comes after them, and passes over nothing that has landed: that may be undone and be done again.
        """
        tasks = [task for task in tasks if not task.finished]
        changed = dict.fromkeys(task.id for task in tasks)
        fresh: dict[Node, list[Node]] = {}
        for phase in phases:
            entry = Gate("entry", phase.id)
            if entry not in self._nodes:
                fresh.setdefault(entry, []).append(Gate("exit", phase.id))
                for source in _sources(phase):
                    fresh.setdefault(source, []).append(entry)
        for task in tasks:
            for source in _sources(task):
                fresh.setdefault(source, []).append(task.id)
            if task.phase is not None:
                fresh.setdefault(Gate("entry", task.phase), []).append(task.id)
                fresh.setdefault(task.id, []).append(Gate("exit", task.phase))

        def after(node: Node) -> Iterator[Node]:
            for dependent in self._dependents.get(node, ()):
                stale = dependent in changed or (node in changed and isinstance(dependent, Gate))
                if not stale:
                    yield dependent
            yield from fresh.get(node, ())

        return _ring([*changed], after)

    def _edge(self, source: Node, target: Node) -> None:
        """Adds one need; what has landed needs nothing, and a gate that is open is left to `settle`."""
        dependents = self._dependents.setdefault(source, {})
        if target in dependents:
            return
        dependents[target] = None
        above, below = self._nodes[source], self._nodes[target]
        if above.met:
            return
        if below.met:
            self._miscounted = self._miscounted or isinstance(target, Gate)
            return
        below.open += 1
        if self._kills(source):
            killed = self._kills(target)
            below.dead += 1
            self._changed += self._told(target, killed)


def _ring(starts: Sequence[Node], after: Callable[[Node], Iterator[Node]]) -> list[str]:
    """Looks for a way from a node back to itself, depth first, and names what is on it, along the needs: `[a, b, a]` where a needs
    b and b needs a. A phase counts once."""
    done: set[Node] = set()
    for start in starts:
        if start in done:
            continue
        path: dict[Node, Iterator[Node]] = {start: after(start)}
        while path:
            node, rest = next(reversed(path.items()))
            following = next(rest, None)
            if following is None:
                del path[node]
                done.add(node)
            elif following in path:
                nodes = list(path)
                nodes = [following, *reversed(nodes[nodes.index(following) :])]
                names = [each.phase if isinstance(each, Gate) else each for each in nodes]
                return (
                    [names[0], *(two for one, two in pairwise(names) if one != two)]
                    if len({*names}) > 1
                    else names[:2]
                )
            elif following not in done:
                path[following] = after(following)
    return []

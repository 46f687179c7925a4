"""Which tasks may start because what they need has landed: a graph of counters, one step per edge, never a rescan.

Nodes are tasks and two gates for each phase: its *entry* (the phase's own needs are met) and its *exit* (every task of it has
landed), so that a thousand tasks that need a phase of a thousand tasks cost two thousand edges and not a million. Apart
from needs there is *order*: in a phase that goes one at a time a task waits for the one before it to end, however it ends.

Rules for editing: nothing here knows states, attempts or time; `machine` says `met`, `died`, `revived`, `over` and is told which
tasks are concerned. Walks are iterative: a chain of 10,000 tasks must not meet the recursion limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from swarm.core.model import PhaseSpec, TaskSpec


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
    _dependents: dict[Node, list[Node]] = field(default_factory=dict)
    _died: set[str] = field(default_factory=set)
    _next: dict[str, str] = field(default_factory=dict)
    _previous: dict[str, str] = field(default_factory=dict)
    _waits_order: set[str] = field(default_factory=set)
    _over: set[str] = field(default_factory=set)
    _last: dict[str, str] = field(default_factory=dict)

    def add(self, phases: Iterable[PhaseSpec], tasks: Sequence[TaskSpec]) -> None:
        """Adds phases and tasks that are not known yet. Whoever calls has checked that every need exists."""
        sequential = set()
        for phase in phases:
            if not phase.parallel_safe:
                sequential.add(phase.id)
            entry, leave = Gate("entry", phase.id), Gate("exit", phase.id)
            if entry in self._nodes:
                continue
            self._nodes[entry], self._nodes[leave] = _Counts(), _Counts()
            self._edge(entry, leave)
        for phase in phases:
            for need in _sources(phase):
                self._edge(need, Gate("entry", phase.id))
        for task in tasks:
            self._nodes[task.id] = _Counts()
            if task.phase is not None and task.phase in sequential and not task.finished:
                self._chain(task.phase, task.id)
        for task in tasks:
            if task.finished:  # it only meets the needs of others, and its phase's
                if task.phase is not None:
                    self._edge(task.id, Gate("exit", task.phase))
            else:
                self.replace(task)

    def settle(self) -> list[str]:
        """Opens the gates that nothing keeps shut; gives the tasks that this freed."""
        freed: list[str] = []
        for node, counts in list(self._nodes.items()):
            if isinstance(node, Gate) and not counts.open and not counts.met:
                freed.extend(self.met(node))
        return freed

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
                other.open -= 1
                if other.open == 0:
                    if isinstance(dependent, Gate):
                        todo.append(dependent)
                    elif self.free(dependent):
                        freed.append(dependent)
        return freed

    def died(self, task: str) -> list[str]:
        """Records that a task ended without landing by itself; gives the tasks that can't start any more."""
        self._died.add(task)
        return self._spread(task, +1) if self._nodes[task].dead == 0 else []

    def revived(self, task: str) -> list[str]:
        """Takes `died` back; gives the tasks for which nothing is dead any more."""
        if task not in self._died:
            return []
        self._died.remove(task)
        return self._spread(task, -1) if self._nodes[task].dead == 0 else []

    def _spread(self, node: Node, by: int) -> list[str]:
        changed: list[str] = []
        todo: list[Node] = [node]
        while todo:
            for dependent in self._dependents.get(todo.pop(), ()):
                counts = self._nodes[dependent]
                before, counts.dead = counts.dead, counts.dead + by
                if (before if by > 0 else counts.dead) == 0 and dependent not in self._died:
                    todo.append(dependent)
                    if not isinstance(dependent, Gate):
                        changed.append(dependent)
        return changed

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
        """Takes the needs of a task that has not started out again, because its spec is being replaced."""
        if self._nodes[task.id].dead and task.id not in self._died:
            self._spread(task.id, -1)
        sources = _sources(task)
        if task.phase is not None:
            sources.append(Gate("entry", task.phase))
            exit_gate = Gate("exit", task.phase)
            self._dependents[task.id].remove(exit_gate)
            self._nodes[exit_gate].open -= 1
        for source in sources:
            self._dependents[source].remove(task.id)
        self._nodes[task.id].open = 0
        self._nodes[task.id].dead = 0

    def replace(self, task: TaskSpec) -> None:
        """Puts the needs of a new or replaced spec in."""
        for need in _sources(task):
            self._edge(need, task.id)
        if task.phase is not None:
            self._edge(Gate("entry", task.phase), task.id)
            self._edge(task.id, Gate("exit", task.phase))

    def cycle(self) -> list[str]:
        """Gives the tasks of one cycle, or nothing. Linear in the number of edges."""
        waiting = dict.fromkeys(self._nodes, 0)
        for dependents in self._dependents.values():
            for dependent in dependents:
                waiting[dependent] += 1
        todo = [node for node, count in waiting.items() if count == 0]
        while todo:
            node = todo.pop()
            del waiting[node]
            for dependent in self._dependents.get(node, ()):
                waiting[dependent] -= 1
                if waiting[dependent] == 0:
                    todo.append(dependent)
        return [node for node in waiting if not isinstance(node, Gate)]

    def _edge(self, source: Node, target: Node) -> None:
        """Adds one need. A gate that is already open stays open: what came after it may have started."""
        self._dependents.setdefault(source, []).append(target)
        above, below = self._nodes[source], self._nodes[target]
        if not above.met and not below.met:
            below.open += 1
        if above.dead or source in self._died:
            below.dead += 1
            if below.dead == 1 and target not in self._died:
                self._spread(target, +1)

    def _chain(self, phase: str, task: str) -> None:
        last = self._last.get(phase)
        self._last[phase] = task
        if last is not None:
            self._next[last] = task
            self._previous[task] = last
            if last not in self._over:
                self._waits_order.add(task)

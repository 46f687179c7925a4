"""What of a run is done again, because what it was made from has changed: what the plan says of it, a file that it reads, or
something that it needs.

What has landed stays as it landed. A task that is done again is a task of its own: `gen-2` for the `gen` of the plan, which it
names in `again_of` and needs. So a plan whose tasks have such successors is read as if it named the newest of them.

Rules for editing: pure, and asked before a plan is submitted; the machine knows nothing of it but tasks that are added.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from swarm.core import claims
from swarm.core.model import Attempt, PhaseSpec, PlanSpec, Step, Task, TaskSpec, TaskState
from swarm.core.run import Run
from swarm.dataclass import dataclass

Why = tuple[str, ...]
_LIMITS = ("timeout_s", "no_output_s", "attempts", "priority", "memory_mb", "allow_empty")
_BOX = re.compile(r"(?m)^(\s*(?:[-*+]|\d+[.)])\s+)\[(?:[xX]|[^\w\s\]])\]")  # of a roadmap
WHY_MAX = 10  # reasons told of one task; the others are counted


@dataclass(frozen=True, slots=True)
class Made:
    """What a landed task was made from, as pairs of commits: where a path differs within one of them, it was made from something
    else than what is there now. `task` is the id that the plan has, `reads` are patterns of what it reads."""

    task: str
    reads: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    def read(self, changed: Iterable[str]) -> Iterator[str]:
        """Gives those of some paths that it reads."""
        return (path for path in changed if any(claims.matches(pattern, path) for pattern in self.reads))


def newest(run: Run) -> dict[str, str]:
    """Gives, by the plan's id, the newest task that does its work again, for those that have one."""
    return {task.spec.again_of: name for name, task in run.tasks.items() if task.spec.again_of}


def mistaken(run: Run, plan: PlanSpec) -> dict[str, str]:
    """Gives the tasks of a plan that are called as one of ours which does another's work again, each with that other."""
    ours = ((spec.id, run.tasks.get(spec.id)) for spec in plan.tasks)
    return {name: task.spec.again_of for name, task in ours if task is not None and task.spec.again_of}


def made(run: Run, plan: PlanSpec) -> list[Made]:
    """Lists what the landed tasks of a plan were made from, of those that read something.

    What a worker saw and left is the commit that it submitted. Where that was put on a newer staging by machine, its worker saw
    the older one.
    """
    successors, found = newest(run), []
    for spec in plan.tasks:
        task = run.tasks.get(successors.get(spec.id, spec.id))
        attempt = _landed(task)
        if attempt is not None and spec.reads:
            pairs = [(attempt.submitted, run.published)]
            if attempt.rebased is not None and attempt.onto is not None:
                pairs.append((attempt.base, attempt.onto))
            found.append(Made(spec.id, spec.reads, tuple(pairs)))
    return found


def _landed(task: Task | None) -> Attempt | None:
    """Gives the attempt by which a task has landed, and is still on staging."""
    if task is None or task.state is not TaskState.LANDED:
        return None
    landed = (each for each in reversed(task.attempts) if each.step is Step.LANDED and each.head is not None)
    return next((each for each in landed if each.landed_commit == task.landed_commit), None)


def outdated(run: Run, plan: PlanSpec, changed: Mapping[str, Sequence[str]]) -> dict[str, Why]:
    """Gives the landed tasks of a plan that would be made from something else now, by the plan's id, each with why.

    `changed` are the paths that a task reads and that have changed since.
    """
    successors = newest(run)
    landed = {
        spec.id: spec
        for spec in plan.tasks
        if _landed(run.tasks.get(successors.get(spec.id, spec.id))) is not None
    }
    found: dict[str, Why] = {}
    names = _Names.of(run, plan, successors)
    for name, spec in landed.items():
        known = run.tasks[successors.get(name, name)].spec
        why = [f"{path} has changed" for path in changed.get(name, ())]
        if name not in run.unplanned and not _says_the_same(known, spec, names, landed=True):
            why.insert(0, "the plan says something else")
        why += [
            f"{need} has landed again"
            for need in spec.needs
            if need in successors and successors[need] not in known.needs
        ]
        if why:
            more = [f"and {len(why) - WHY_MAX} more"] if len(why) > WHY_MAX else []
            found[name] = (*why[:WHY_MAX], *more)
    _spread(plan, landed, found)
    return found


def _spread(plan: PlanSpec, landed: Mapping[str, TaskSpec], found: dict[str, Why]) -> None:
    """Adds what needs one of those found, and what needs that."""
    needing = _needing(plan)
    due = list(found)
    for name in due:
        for other in needing.get(name, ()):
            if other in landed and other not in found:
                found[other] = (f"{name} is done again",)
                due.append(other)


def _needing(plan: PlanSpec) -> dict[str, list[str]]:
    """Gives, by task, the tasks that need it, also by way of phases."""
    phases = {phase.id: phase for phase in plan.phases}
    members: dict[str, list[str]] = {}
    for spec in plan.tasks:
        members.setdefault(spec.phase or "", []).append(spec.id)
    needing: dict[str, list[str]] = {}
    for spec in plan.tasks:
        wanting: list[PhaseSpec | TaskSpec] = [spec]
        if spec.phase in phases:
            wanting.append(phases[spec.phase])
        for each in wanting:
            of_phases = (name for phase in each.phase_needs for name in members.get(phase, ()))
            for need in dict.fromkeys((*each.needs, *of_phases)):
                needing.setdefault(need, []).append(spec.id)
    return needing


def carried_on(run: Run, plan: PlanSpec, again: Mapping[str, Why]) -> PlanSpec:
    """Gives the plan as the run takes it in: the tasks of `again` as new ones, the others as they are known, with their needs."""
    known = newest(run)
    successors = dict(known)
    taken = {*run.tasks, *run.finished_before, *run.phases, *(phase.id for phase in plan.phases)}
    taken.update(spec.id for spec in plan.tasks)
    for name in again:
        successors[name] = _free(name, taken)
    names = _Names.of(run, plan, successors)
    tasks = [
        _successor(spec, names, known.get(spec.id, spec.id), again[spec.id])
        if spec.id in again
        else _known(run, spec, names)
        for spec in plan.tasks
    ]
    return dataclasses.replace(plan, tasks=tuple(tasks))


@dataclass(frozen=True, slots=True)
class _Names:
    """What the tasks of a plan are called in its run: `newest` is what does the work of each again, by the plan's id, and `planned`
    the plan's id of everything that does or did. What a phase needs stays as it was, so `of_phase`, the tasks that it needs, are
    needed anew by each task of it; whatever comes into a phase is needed by that."""

    newest: Mapping[str, str]
    planned: Mapping[str, str]
    of_phase: Mapping[str | None, tuple[str, ...]]

    @classmethod
    def of(cls, run: Run, plan: PlanSpec, newest: Mapping[str, str]) -> _Names:
        """Gathers them."""
        planned = {name: task.spec.again_of for name, task in run.tasks.items() if task.spec.again_of}
        return cls(newest, planned, {phase.id: phase.needs for phase in plan.phases})

    def needs(self, spec: TaskSpec) -> tuple[str, ...]:
        """Gives what a task needs, the newest of each."""
        own = (self.newest.get(need, need) for need in spec.needs)
        of_phase = (self.newest[need] for need in self.of_phase.get(spec.phase, ()) if need in self.newest)
        return tuple(dict.fromkeys((*own, *of_phase)))

    def as_planned(self, spec: TaskSpec, needs: Iterable[str]) -> tuple[str, ...]:
        """Gives needs of a task as the plan has them in `spec`."""
        named = (self.planned.get(need, need) for need in needs)
        of_phase = self.of_phase.get(spec.phase, ())
        return tuple(need for need in named if need in spec.needs or need not in of_phase)


def told(plan: PlanSpec, again: Mapping[str, Why]) -> dict[str, list[str]]:
    """Names the tasks of a plan, as it is taken in, that do work again, each with why."""
    return {spec.id: list(spec.again_for) for spec in plan.tasks if spec.again_of in again}


def _free(name: str, taken: set[str]) -> str:
    """Finds a name for the next one that does the work of a task again, and takes it."""
    n = 2
    while f"{name[:190]}-{n}" in taken:
        n += 1
    taken.add(f"{name[:190]}-{n}")
    return f"{name[:190]}-{n}"


def _successor(spec: TaskSpec, names: _Names, before: str, why: Why) -> TaskSpec:
    """Makes the task that does the work of one again: it may well come to what is there."""
    return dataclasses.replace(
        spec,
        id=names.newest[spec.id],
        needs=tuple(dict.fromkeys((*names.needs(spec), before))),
        finished=False,  # that is said of the one before it
        again_of=spec.id,
        again_for=why,
        allow_empty=True,
    )


def _known(run: Run, spec: TaskSpec, names: _Names) -> TaskSpec:
    """Gives a task that is not done again: one on which work has started stays as it is where the plan says the same of it."""
    task = run.tasks.get(names.newest.get(spec.id, spec.id))
    landed = task is not None and task.state is TaskState.LANDED
    if task is not None and task.attempts and _says_the_same(task.spec, spec, names, landed=landed):
        return task.spec
    if task is not None and task.spec.again_of:
        return _successor(spec, names, task.spec.needs[-1], task.spec.again_for)
    return dataclasses.replace(spec, needs=names.needs(spec))


def _says_the_same(known: TaskSpec, spec: TaskSpec, names: _Names, *, landed: bool) -> bool:
    """Tells whether a plan says of a task what is known already. What it reads changes nothing for its worker, nor do its limits
    once it has landed; that it is finished, and which boxes are ticked, is written into the plan by ourselves then."""
    if known == spec:
        return True
    if landed:
        known = dataclasses.replace(
            known,
            prompt=spec.prompt if _unticked(known) == _unticked(spec) else known.prompt,
            verify=spec.verify if _commands(known) == _commands(spec) else known.verify,
            **{name: getattr(spec, name) for name in _LIMITS},
        )
    needs = known.needs[:-1] if known.again_of else known.needs
    as_planned = dataclasses.replace(
        known,
        id=spec.id,
        needs=names.as_planned(spec, needs),
        reads=spec.reads,
        finished=spec.finished if landed or known.again_of else known.finished,
        allow_empty=spec.allow_empty if known.again_of else known.allow_empty,
        again_of="",
        again_for=(),
    )
    return as_planned == spec


def _unticked(spec: TaskSpec) -> str:
    return _BOX.sub(r"\1[ ]", spec.prompt)


def _commands(spec: TaskSpec) -> list[str]:
    return [suite.run for suite in spec.verify]

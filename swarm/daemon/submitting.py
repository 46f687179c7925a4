"""Takes plans in: from a request, or from a file that is watched.

Rules for editing: one plan at a time, so that what is checked still holds when the machine is told.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swarm import config, shapes
from swarm.core import again, discover, submission, suites
from swarm.core import messages as m
from swarm.core.graph import shown
from swarm.core.model import PhaseSpec, PlanSpec, Suite, TaskState, staging_branch
from swarm.core.run import Run
from swarm.core.state import some
from swarm.daemon import intake
from swarm.daemon.closing import look_at_staging
from swarm.daemon.coordinator import Coordinator
from swarm.daemon.edges import Edges
from swarm.edge import git, linked
from swarm.errors import Refused, UsageError

SUITE_SHOWN = 80  # characters of a suite's command in an answer


class Submitter:
    """Submits plans to the machine; `lock` is held by who has made a plan from what the machine knows."""

    def __init__(self, coordinator: Coordinator, edges: Edges) -> None:
        self.lock = asyncio.Lock()
        self._coordinator = coordinator
        self.edges = edges

    async def submit(
        self,
        plan: PlanSpec,
        *,
        here: str = "",
        if_new: bool = False,
        changed: bool = False,
        only: tuple[str, ...] = (),
        **options: Any,
    ) -> shapes.SubmitAnswer:
        """Gives what that changed. Raises `Refused` or `UsageError`; the lock is held.

        `here` is the checkout in which somebody asks, `only` and `options` are those of `PlanSubmitted`. With `if_new` the machine
        is told only of a plan that adds, replaces or finishes something; with `changed` what has landed is done again where what it
        was made from has changed.
        """
        intake.check_agents(plan, self.edges.agents, self.edges.environ)
        intake.check_ownership(plan, config.to_roles(self.edges.settings))
        await asyncio.to_thread(lambda: intake.check_paths(plan, self.edges.repository, self.edges.settings))
        found: shapes.SubmitNotes = {}
        if discover.asks(plan):
            there = intake.checkout(self.edges.repository, here)
            fitting = await asyncio.to_thread(lambda: intake.suites_of(there))
            plan, found["verify_found"] = discover.filled_in(plan, fitting), discover.document(fitting)
        known = self._coordinator.swarm.runs.get(plan.id)
        if known is not None:
            if mistaken := again.mistaken(known, plan):
                raise _mistaken(mistaken)
            plan = _as_asked_before(known, plan)
            found.update(await asyncio.to_thread(lambda: _late(known, plan, self.edges)))
            outdated = await self._outdated(known, plan) if changed else {}
            plan = again.carried_on(known, plan, outdated)
            if changed:
                found["again"] = again.told(plan, outdated)
        plan = suites.apart(plan)
        change = self._checked(plan)
        news = change.added or change.replaced or change.finished
        if known is None or not if_new or news or known.plan.verify != plan.verify:
            base = await self._base(plan, known, here)
            at = self._coordinator.now()
            newest = {spec.again_of or spec.id: spec.id for spec in plan.tasks}
            options["only"] = tuple(newest.get(name, name) for name in only)
            await self._coordinator.ask(
                m.PlanSubmitted(
                    at=at,
                    run=plan.id,
                    plan=plan,
                    base_branch=base[0],
                    base_commit=base[1],
                    **options,
                )
            )
        if left := submission.left_out(self._coordinator.swarm.runs[plan.id], plan):
            found["left_out"] = list(left)
        done = {spec.id for spec in plan.tasks if spec.finished}
        if before := [*(name for name in change.added if name in done), *change.finished]:
            found["finished_before"] = before
        return {
            "run": plan.id,
            "added": [name for name in change.added if name not in done],
            "replaced": list(change.replaced),
            "unchanged": change.unchanged,
            "verify": _shown(plan.verify),
            **found,
        }

    def _checked(self, plan: PlanSpec) -> submission.Change:
        change = submission.would_change(self._coordinator.swarm, plan.id, plan)
        if change.refused:
            raise _started(self._coordinator.swarm.runs[plan.id], change.refused)
        if change.unknown:
            raise UsageError(
                f"Needed but unknown: {', '.join(map(str, change.unknown[:10]))}.",
                "Nothing was submitted.",
                f"name tasks or phases of the plan or of its run: swarm status --run {plan.id}",
            )
        known = self._coordinator.swarm.runs.get(plan.id)
        if change.ring:
            raise _goes_round(known, change.ring)
        changed = [] if known is None else [phase.id for phase in plan.phases if _differs(known, phase)]
        if changed:
            raise Refused(
                f"The needs, the order or the verification of phase {', '.join(changed)} changed in the plan.",
                "Nothing was submitted: tasks have been put in order by them already.",
                "leave the phase as it was, and put new tasks into a phase of their own",
            )
        return change

    async def _outdated(self, run: Run, plan: PlanSpec) -> dict[str, again.Why]:
        """Gives what would be made from something else now. Raises `Refused` where that is not on staging yet."""
        await look_at_staging(self._coordinator, self.edges, run, "Nothing was submitted")
        made = again.made(run, plan)
        staging, branch = run.published, run.base_branch
        changed, ahead = await asyncio.to_thread(
            lambda: (_changed(self.edges, made), _ahead(self.edges, staging, branch))
        )
        missing = {path for each in made for path in each.read(ahead)}
        if missing:
            raise Refused(
                f"{branch} has changes of {some(sorted(missing))} that are not on staging of run {run.id}.",
                "Nothing was submitted: tasks start from staging, and would be made from what is there.",
                f"{await asyncio.to_thread(lambda: _merging(self.edges, run))}, then the same command again",
            )
        return again.outdated(run, plan, changed)

    async def _base(self, plan: PlanSpec, known: Run | None, here: str) -> tuple[str, str]:
        if known is not None:
            return known.base_branch, known.base_commit
        repository = self.edges.repository
        root = self.edges.pool.root.parent
        base: tuple[str, str] = await asyncio.to_thread(
            lambda: intake.base_of(plan, intake.checkout(repository, here))
        )
        await asyncio.to_thread(lambda: intake.check_ground(plan.id, root, repository.top))
        await asyncio.to_thread(lambda: intake.check_promised(repository, base[1]))
        return base


def _started(run: Run, names: tuple[str, ...]) -> Refused:
    """Refuses a change of tasks that are at work or have landed."""
    at_work = [name for name in names if run.tasks[name].state is not TaskState.LANDED]
    stands = (
        "has landed" if not at_work else "is at work" if at_work == [*names] else "is at work or has landed"
    )
    instead = "--changed does again what has landed"
    if at_work:
        instead = f"swarm cancel {run.id}/{at_work[0]}, then the same command again"
    return Refused(
        f"{', '.join(names[:10])} changed in the plan, and work on it has started: it {stands}.",
        "Nothing was submitted.",
        f"leave it as it was, and give the changed task an id of its own; or {instead}",
    )


def _mistaken(names: Mapping[str, str]) -> Refused:
    """Refuses tasks whose ids we have given away."""
    name, before = next(iter(names.items()))
    return Refused(
        f"{name} is what the run calls the task that does {before} again.",
        "Nothing was submitted: the two could not be told apart.",
        f"give {some(names)} of the plan another id",
    )


def _goes_round(run: Run | None, ring: tuple[str, ...]) -> UsageError:
    """Refuses what would have tasks wait for themselves, now or after an undo."""
    there = [name for name in ring if run and name in run.tasks and run.tasks[name].state is TaskState.LANDED]
    instead = "leave one of these needs out"
    if there:
        instead += f": that {there[0]} comes first needs no saying, since it has landed; or name no phase"
    return UsageError(f"Needs would go round in a circle: {shown(ring)}.", "Nothing was submitted.", instead)


def _as_asked_before(run: Run, plan: PlanSpec) -> PlanSpec:
    """Gives a plan with the suites that `--verify` asked for when it was submitted before, unless it asks for some now: nobody has
    taken them out of the plan."""
    if any(suite.asked for suite in plan.verify):
        return plan
    there = {suite.run for suite in plan.verify}
    kept = [suite for suite in run.plan.verify if suite.asked and suite.run not in there]
    return dataclasses.replace(plan, verify=(*plan.verify, *kept))


def _late(run: Run, plan: PlanSpec, edges: Edges) -> shapes.SubmitNotes:
    """Says what a plan takes back of the verification of its run, and what of it comes too late for that."""
    found: shapes.SubmitNotes = {}
    now = {suite.run for suite in plan.verify}
    if lifted := _shown(suite for suite in run.plan.verify if suite.run not in now):
        found["verify_lifted"] = lifted
    base, began = plan.base, run.base_branch or run.plan.base
    same = not run.plan.name or base in (run.plan.base, run.base_branch)  # nameless: nobody knows what it had
    if not same and edges.repository.resolve(base or "HEAD") != run.base_commit:
        said = f'base = "{base}"' if base else "that the plan names no base any more"
        found["no_effect"] = [
            f"{said} has no effect: the run started from {began or 'commit'} {run.base_commit[:12]}. "
            f"Next: another name for the plan, or swarm discard {run.id} first"
        ]
    return found


def _shown(some: Iterable[Suite]) -> list[str]:
    return [" ".join(suite.run.split())[:SUITE_SHOWN] for suite in some]


def _merging(edges: Edges, run: Run) -> str:
    """Gives the command that brings the branch of a run onto its staging, also where the staging worktree stands elsewhere."""
    tree = linked.find(Path(run.worktree), edges.repository.common_dir)
    stands = tree is not None and tree.branch() is None and tree.head() == run.published
    first = "" if stands else f"git -C {run.shown_worktree} checkout --detach {staging_branch(run.id)} && "
    return f"{first}git -C {run.shown_worktree} merge --no-ff {run.base_branch}"


def _changed(edges: Edges, made: list[again.Made]) -> dict[str, list[str]]:
    """Gives, by task, the paths that it reads and that are not as they were when it was made."""
    paths = edges.landing.objects.changed_paths
    pairs = {pair: paths(*pair) for pair in {pair for each in made for pair in each.pairs}}
    return {
        each.task: sorted({path for pair in each.pairs for path in each.read(pairs[pair])}) for each in made
    }


def _ahead(edges: Edges, staging: str, branch: str) -> tuple[str, ...]:
    """Lists the paths that have changed on a branch since staging had all of it; none where there is no such branch."""
    repository = edges.repository
    tip = repository.branch_commit(branch) if branch else None
    if tip is None:
        return ()
    shared = git.run("merge-base", staging, tip, git_dir=repository.common_dir, ok=(0, 1)).text.strip()
    return edges.pool.objects.changed_paths(shared, tip) if shared else ()


def _differs(run: Run, phase: PhaseSpec) -> bool:
    """Tells whether a phase that the run knows has changed in what it means."""
    known = run.phases.get(phase.id)
    if known is None:
        return False
    return any(
        getattr(known, name) != getattr(phase, name)
        for name in ("needs", "phase_needs", "parallel_safe", "verify")
    )

"""What a plan is held against before anything is done for it, by the daemon that takes it in and by a client that would start one.

Rules for editing: reads only, and says everything that can be said without knowing the run; what depends on the run is the API's.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from swarm import config
from swarm.core import claims, discover, ownership
from swarm.core import goal as goals
from swarm.core import plan as plans
from swarm.core.adapters import Agent
from swarm.core.check import Reading
from swarm.core.document import Problem
from swarm.core.model import PlanSpec, Role, staging_branch
from swarm.daemon import usable
from swarm.edge import git, ground, orphans, project, promised
from swarm.errors import Refused, SwarmError, UsageError
from swarm.settings import Settings
from swarm.worker.agents import COMMAND, missing

ERRORS_SHOWN = 20
TASKS_SHOWN = 5
_NOT_SUBMITTED = "Nothing was submitted."


def check(
    data: bytes,
    source: str,
    only: Collection[str],
    settings: Settings,
    repository: git.Repository | None,
    environ: Mapping[str, str],
    root: Path | None = None,
) -> None:
    """Raises `UsageError` or `Refused` for a plan that no daemon would take in. `repository` is given where it begins a new run,
    `root` is the folder in which its worktrees would lie."""
    plan = read(data, source, settings)
    check_only(plan, only)
    if repository is not None:
        check_paths(plan, repository, settings)
    check_agents(plan, config.to_agents(settings), environ)
    check_ownership(plan, config.to_roles(settings))
    if repository is not None:
        base_of(plan, repository)
        if root is not None:
            check_ground(plan.id, root, repository.top)


def read(data: bytes, source: str, settings: Settings) -> PlanSpec:
    """Reads a plan. Raises `UsageError` with the errors and their places where it is not valid."""
    from swarm.core import plan as plans

    reading = plans.read(data, source=source, defaults=config.to_defaults(settings))
    if reading.errors or reading.plan is None:
        listed = [": ".join(filter(None, (each.place, each.text))) for each in reading.errors]
        raise UsageError(
            f"The plan {source} is not valid:\n{_some(listed, ERRORS_SHOWN)}",
            _NOT_SUBMITTED,
            f"mend it; swarm check {source} shows everything at once",
        )
    return reading.plan


def drafted(text: str, source: str, settings: Settings) -> Reading:
    """Reads a plan that came of a goal, with the agent of builders for tasks that name none. It starts where its run began."""
    builder = settings.roles.get(goals.BUILDER)
    defaults = config.to_defaults(settings)
    if builder is not None and builder.agent:
        defaults = dataclasses.replace(defaults, agent=builder.agent)
    reading = plans.read(text.encode("utf-8", "surrogatepass"), source=source, defaults=defaults)
    if reading.plan is None or not reading.plan.base:
        return reading
    wrong = Problem("base", "the plan is carried out where its run began already; leave this out")
    return dataclasses.replace(reading, errors=(*reading.errors, wrong))


def suites_of(repository: git.Repository) -> tuple[discover.Found, ...]:
    """Finds the suites that a project has, for `verify = "auto"`."""
    return discover.suites(project.look(repository.working_top()))


def check_only(plan: PlanSpec, only: Collection[str]) -> None:
    """Raises `UsageError` where `--only` names what is not in the plan."""
    known = {task.id for task in plan.tasks}
    unknown = [name for name in only if name not in known]
    if unknown:
        some = [task.id for task in plan.tasks[:TASKS_SHOWN]]
        others = " and others" if len(plan.tasks) > len(some) else ""
        raise UsageError(
            f"--only names no task of the plan: {', '.join(unknown)}.",
            _NOT_SUBMITTED,
            f"it has {', '.join(some)}{others}; swarm check PLAN shows all",
        )


def check_agents(plan: PlanSpec, agents: Mapping[str, Agent], environ: Mapping[str, str]) -> None:
    """Raises `UsageError` where a task could not be started: its agent is not known, or can't be used in this environment."""
    unusable = usable.not_usable(plan.tasks, agents, environ)
    if unusable:
        raise UsageError(
            "Tasks of the plan want agents that can't be used here:\n"
            + _some([f"{each.name}: {each.reason}" for each in unusable], 10),
            _NOT_SUBMITTED,
            "; ".join(each.remedy for each in unusable),
        )
    wrong = missing(plan.tasks, agents)
    if wrong:
        raise UsageError(
            f"Tasks of the plan can't be carried out:\n{_some(wrong, 10)}",
            _NOT_SUBMITTED,
            "give them a `run`, or define the agent in swarm.toml and name it by `agent`",
        )


def check_ownership(plan: PlanSpec, roles: tuple[Role, ...]) -> None:
    """Raises `UsageError` where a task claims what belongs to another role, which it names; `swarm check` calls that invalid."""
    wrong = list(ownership.refusals(roles, plan.tasks))
    if wrong:
        raise UsageError(
            f"Tasks of the plan claim what is not theirs:\n{_some(wrong, 10)}",
            _NOT_SUBMITTED,
            "give the task the `role` of the owner, or claim less; [ownership] in swarm.toml says what belongs to whom",
        )


def check_paths(plan: PlanSpec, repository: git.Repository, settings: Settings) -> None:
    """Raises `UsageError` where a task claims what is no part of the project: nothing that is changed there could land."""
    wrong = [f"{task}: {text}" for task, text in _astray(plan, repository, settings)]
    if wrong:
        raise UsageError(
            f"Tasks of the plan claim what is outside of the repository:\n{_some(wrong, 10)}",
            _NOT_SUBMITTED,
            "claim paths of files that git tracks, or is to track",
        )


def with_astray(reading: Reading, repository: git.Repository, settings: Settings) -> Reading:
    """Adds an error for each claim through a link that leads out of the repository, or in the folder of the worktrees."""
    plan, places = reading.plan, reading.places
    if plan is None:
        return reading
    key = ".claims" if plan.format.startswith("native") else ""
    errors = tuple(
        Problem(f"{places[task]}{key}" if task in places else "", text)
        for task, text in _astray(plan, repository, settings)
    )
    return dataclasses.replace(reading, errors=(*reading.errors, *errors))


def _astray(plan: PlanSpec, repository: git.Repository, settings: Settings) -> Iterator[tuple[str, str]]:
    """Gives the tasks that claim what is no part of the project, each with which claim that is and why. Looked at is the checkout
    as it is: a link that leads out of it and comes later is not let land."""
    top = Path(os.path.realpath(repository.working_top()))
    root = Path(os.path.realpath(top / settings.worktrees.root))
    below = [claims.fold(name) for name in root.relative_to(top).parts] if root.is_relative_to(top) else None
    ways: dict[tuple[str, ...], str] = {}
    for task in plan.tasks:
        for path in (claim.path for claim in task.claims if not task.finished):
            names = claims.folders(f"{path}/x")
            above = claims.folders(path)
            if below and [claims.fold(name) for name in names[: len(below)]] == below:
                yield task.id, f'"{path}" is in {settings.worktrees.root}, where worktrees lie'
                continue
            if above not in ways:
                ways[above] = ground.way_out(above, top, root)
            if ways[above]:
                yield task.id, f'"{path}" leaves the repository: {ways[above]}'


def with_foreign_claims(reading: Reading, settings: Settings) -> Reading:
    """Adds an error for each claim of a task that belongs to another role."""
    if reading.plan is None:
        return reading
    found = ownership.refusals(config.to_roles(settings), reading.plan.tasks)
    return dataclasses.replace(reading, errors=(*reading.errors, *(Problem("", text) for text in found)))


def with_unknown_agents(reading: Reading, settings: Settings) -> Reading:
    """Adds a warning for each agent that tasks want and nobody defines: the plan is valid, and no daemon would take it in."""
    if reading.plan is None:
        return reading
    known = {COMMAND, *config.to_agents(settings)}
    unknown = dict.fromkeys(t.agent for t in reading.plan.tasks if not t.finished and t.agent not in known)
    text = 'swarm.toml does not define the agent "{}": until it does, a run of this plan is refused'
    warnings = tuple(Problem("", text.format(name)) for name in unknown)
    return dataclasses.replace(reading, warnings=(*reading.warnings, *warnings))


def with_base_looked_up(reading: Reading, repository: git.Repository) -> Reading:
    """Adds an error where the plan starts from what is not here."""
    plan = reading.plan
    if plan is None or not plan.base or _base_commit(plan, repository) is not None:
        return reading
    wrong = Problem("base", f'"{plan.base}" is no branch or commit here')
    return dataclasses.replace(reading, errors=(*reading.errors, wrong))


def _base_commit(plan: PlanSpec, repository: git.Repository) -> str | None:
    return repository.branch_commit(plan.base) or repository.resolve(plan.base)


def checkout(repository: git.Repository, here: str) -> git.Repository:
    """Gives the checkout at `here` where it is one of the repository, so that HEAD is the one that a person looks at; else the
    repository as it is."""
    if not here:
        return repository
    try:
        found = git.Repository.discover(here)
    except SwarmError:
        return repository
    return found if found.common_dir == repository.common_dir else repository


def base_of(plan: PlanSpec, repository: git.Repository) -> tuple[str, str]:
    """Finds what a new run of the plan starts from: the branch, or "" for none, and the commit.

    Raises `Refused` where a branch is in the way, `UsageError` where the plan starts from nothing that is here.
    """
    if found := _no_name(plan.id, repository):
        raise found
    _check_unused(plan.id, repository)
    if plan.base:
        commit = _base_commit(plan, repository)
        if commit is None:
            raise UsageError(
                f'The plan starts from "{plan.base}", which is no branch or commit here.',
                _NOT_SUBMITTED,
                "name another as its base, or none: then it starts from what is checked out",
            )
        return repository.branch_named(plan.base), commit
    return repository.head_branch() or "", repository.head_commit()


def _no_name(run: str, repository: git.Repository) -> Refused | None:
    """Gives the refusal of a run that can't be called so here, None where it can."""
    if run in (ground.POOL, ground.UNOWNED):
        return Refused(
            f'No run can be called "{run}": swarm has that name for what is of no run.',
            _NOT_SUBMITTED,
            "give the plan another name",
        )
    return ground.branch_in_the_way(repository.common_dir, run, _NOT_SUBMITTED)


def check_ground(run: str, root: Path, top: Path | None) -> None:
    """Raises `Refused` where worktrees of a new run, which all lie below `root`, would be made in what is the user's. `top` is that
    of the checkout."""
    if refused := ground.in_the_way(Path(os.path.realpath(root)), run, top):
        raise Refused(
            refused.cause, "Nothing was submitted: git would hide what is in it.", refused.next_step
        )


def check_promised(repository: git.Repository, commit: str) -> None:
    """Raises `Refused` where a new run would start from a commit of which a partial clone lacks something that can't be had. It is
    fetched once the run begins."""
    try:
        promised.probe(repository, commit)
    except promised.NotToBeHad as error:
        raise Refused(error.cause, _NOT_SUBMITTED, error.next_step) from error


def check_worktrees(settings: Settings, repository: git.Repository) -> None:
    """Raises `SettingsError` where worktrees would lie among files that git tracks, or copies of such files in them."""
    top = Path(os.path.realpath(repository.working_top()))
    root = Path(os.path.realpath(top / settings.worktrees.root))
    if found := ground.tracked(root, top):
        config.refuse_root(settings, found)
    for path in settings.worktrees.copied:
        if (found := ground.tracked_at(path, top)) or root.is_relative_to(os.path.realpath(top / path)):
            config.refuse_copy(settings, path, found)


def with_hindrances(reading: Reading, repository: git.Repository, settings: Settings) -> Reading:
    """Adds a warning for what of the user's is in the way of a run: the plan is valid, and no daemon would take it in."""
    plan = reading.plan
    if plan is None:
        return reading
    root = Path(os.path.realpath(repository.working_top() / settings.worktrees.root))
    found = _no_name(plan.id, repository), ground.in_the_way(root, plan.id, repository.top)
    warnings = (
        Problem("", f"{each.cause} A run of this plan is refused: {each.next_step}") for each in found if each
    )
    return dataclasses.replace(reading, warnings=(*reading.warnings, *warnings))


def _check_unused(run: str, repository: git.Repository) -> None:
    """Raises `Refused` where branches, or the staging worktree, of a run of this name are here that nothing is known of: its work
    would be written over, or land."""
    prefix = f"refs/heads/{staging_branch(run).removesuffix('staging')}"
    found = [name.removeprefix("refs/heads/") for name in git.refs_below(repository.common_dir, prefix)]
    if found:
        raise Refused(
            f'Branches of an earlier run "{run}" are here, and swarm knows nothing of it any more:\n{_some(found, 5)}',
            "Nothing was submitted: the new run would write over them.",
            f"give the plan another id, or, {orphans.removal_of_branches(run)}",
        )
    worktree = orphans.staging_of(repository.common_dir, run)
    if worktree is not None:
        raise Refused(
            f'The staging worktree of an earlier run "{run}" is at {worktree}, and swarm knows nothing of it any more.',
            "Nothing was submitted: what is in it would land in the new run.",
            f"give the plan another id, or, {orphans.removal_of_worktree(worktree)}",
        )


def _some(lines: list[str], most: int) -> str:
    shown = [*lines[:most], f"and {len(lines) - most} more"] if len(lines) > most else lines
    return "\n".join(f"  {line}" for line in shown)

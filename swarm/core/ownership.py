"""Who may change what, for ever: paths that belong to a role, roles that change nothing, and roles of which only so many work.

A role of the settings owns paths; a plan gives its tasks roles. What a plan claims is held against that before it is taken in, what
a worker really changed before it may land, and how many of a role are at work before another starts, in all runs. A task is counted
from its start until its attempt has ended: landed, mostly, so that the next one of a role that works alone starts from its work.

Rules for editing: nothing here looks at files. A refusal names the owner.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

from swarm.core.claims import matches, overlap
from swarm.core.model import Attempt, Reason, Role, Task, TaskSpec
from swarm.core.run import Run, role_gate
from swarm.core.state import Swarm

SHOWN = 5


def refusals(roles: Iterable[Role], specs: Iterable[TaskSpec]) -> Iterator[str]:
    """Yields a sentence for each claim of a plan's tasks that is another role's; what is finished is not looked at."""
    roles = tuple(roles)
    for spec in specs:
        if spec.finished:
            continue
        if spec.claims and (mine := _role(roles, spec.role)) is not None and mine.read_only:
            claimed = spec.claims[0].path
            yield f'task "{spec.id}" claims {claimed}, and its role {spec.role} is read-only'
            continue
        for claim in spec.claims:
            owner = _owner(roles, spec.role, functools.partial(overlap, claim.path))
            if owner is not None:
                role, pattern = owner
                yield f'task "{spec.id}" claims {claim.path}; {pattern} belongs to {role}{_as(spec.role)}'


def violation(roles: Iterable[Role], role: str, touched: Iterable[str]) -> Reason | None:
    """Says why work of a role must not land: it changed what is another's, or anything where the role may change nothing."""
    roles, touched = tuple(roles), tuple(touched)
    if not roles or not touched:
        return None
    mine = _role(roles, role)
    if mine is not None and mine.read_only:
        text = f"it changed {_some(touched)}, and its role {role} is read-only"
        return Reason("stray", text, {"paths": list(touched[:50])})
    taken: dict[str, list[str]] = {}
    for path in touched:
        owner = _owner(roles, role, functools.partial(_is_below, path))
        if owner is not None:
            taken.setdefault(owner[0], []).append(path)
    if not taken:
        return None
    text = "; ".join(f"it changed {_some(paths)}, which belongs to {owner}" for owner, paths in taken.items())
    paths = [path for each in taken.values() for path in each]
    return Reason("stray", f"{text}{_as(role)}", {"paths": paths[:50], "owners": list(taken)})


def changes_nothing(roles: Iterable[Role], role: str) -> bool:
    """Tells whether a role is one for which no change is the only good end."""
    mine = _role(roles, role)
    return mine is not None and mine.read_only


def _role(roles: Iterable[Role], name: str) -> Role | None:
    return next((role for role in roles if role.name == name), None) if name else None


def _owner(roles: tuple[Role, ...], mine: str, meets: Callable[[str], bool]) -> tuple[str, str] | None:
    """Finds a role other than `mine`, and its pattern, that owns what `meets` tells; a pattern that is mine too is no other's."""
    own = {pattern for role in roles if role.name == mine for pattern in role.owns}
    for role in roles:
        for pattern in role.owns if role.name != mine else ():
            if pattern not in own and meets(pattern):
                return role.name, pattern
    return None


def _is_below(path: str, pattern: str) -> bool:
    return matches(pattern, path)


def _as(role: str) -> str:
    return f", and its role is {role}" if role else ", and it has no role"


def _some(paths: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


# --- how many of a role work at once ---


def counted(swarm: Swarm, role: str) -> list[str]:
    """Gives the tasks of a role that are at work or on their way to land."""
    return [
        name
        for run in swarm.active()
        for name in run.live
        if run.tasks[name].spec.role == role and _takes_part(run.tasks[name].live)
    ]


def _takes_part(attempt: Attempt | None) -> bool:
    return attempt is not None and attempt.slot is not None  # an undo, or a person's work, has no worker


def changed(swarm: Swarm, task: Task) -> None:
    """Lets no more tasks of a role start, or again some, after one has started or ended."""
    if task.spec.role:
        settle(swarm, (each for each in swarm.limits.roles if each.name == task.spec.role))


def settle(swarm: Swarm, roles: Iterable[Role]) -> None:
    """Holds the gates of roles against how many are at work."""
    for role in roles:
        if role.max:
            full = len(counted(swarm, role.name)) >= role.max
            for run in swarm.runs.values():
                (run.shut_gate if full else run.open_gate)(role_gate(role.name))


def limits_changed(swarm: Swarm, before: tuple[Role, ...]) -> None:
    """Takes other roles in: of those that were before nobody waits any more."""
    for run in swarm.runs.values():
        for role in before:
            run.open_gate(role_gate(role.name))
    settle(swarm, swarm.limits.roles)


def reason(swarm: Swarm, run: Run, task: Task) -> Reason | None:
    """Says why a ready task does not start, where as many of its role are at work as may be."""
    role = task.spec.role
    if not role or role_gate(role) not in run.shut:
        return None
    at_work = counted(swarm, role)
    most = next((each.max for each in swarm.limits.roles if each.name == role), 0)
    text = f"at most {most} of role {role} at once: {_some(at_work)} is at work"
    return Reason("role", text, {"role": role, "holders": at_work})

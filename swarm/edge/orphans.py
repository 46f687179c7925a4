"""What is left in a repository of runs that nobody knows any more, because the state folder was deleted: worktrees and branches.

Rules for editing: read-only. Nobody knows what they hold, so nothing removes them but a person, and `removal` is what they type.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from swarm.core.model import STAGING_WORKTREE, staging_branch
from swarm.dataclass import dataclass
from swarm.edge import git, leases, linked
from swarm.edge.ground import POOL


@dataclass(frozen=True, slots=True)
class Orphan:
    """A worktree (`kind` worktree), or the branches of a run (ref), that no run accounts for, and what removes it."""

    kind: str
    text: str
    removal: str


def find(common: Path, runs: Collection[str], *, before: float) -> list[Orphan]:
    """Finds what belongs to none of the `runs`. A worktree made since `before` is left out: it may be a newer run's."""
    trees, of_others = divided(common)
    worktrees = [Orphan("worktree", what_is_of_another(tree), removal_of_record(tree)) for tree in of_others]
    worktrees += [
        Orphan("worktree", f"nothing says whose {tree.path} is", removal_of_worktree(tree.path))
        for tree in trees
        if tree.path.parent.name != POOL  # which knows its own
        and not (tree.path.name == STAGING_WORKTREE and tree.path.parent.name in runs)
        and (tree.admin / "commondir").stat().st_mtime < before
    ]
    branches: dict[str, list[str]] = defaultdict(list)
    for ref in git.refs_below(common, "refs/heads/swarm/"):
        run, _, rest = ref.removeprefix("refs/heads/swarm/").partition("/")
        # What was saved says by itself whose it is.
        if run not in runs and rest.startswith(("staging", "task/")):
            branches[run].append(ref.removeprefix("refs/heads/"))
    refs = [
        Orphan(
            "ref",
            f"nothing says what these branches of a run {run} hold: {_some(names)}",
            removal_of_branches(run),
        )
        for run, names in branches.items()
    ]
    return [*worktrees, *refs]


def divided(common: Path) -> tuple[list[linked.LinkedTree], list[linked.LinkedTree]]:
    """Gives the worktrees by git's records of them, and apart those of another repository, from which this one was copied."""
    mine: list[linked.LinkedTree] = []
    of_others: list[linked.LinkedTree] = []
    for tree in linked.records(common):
        # While a worker has it, its folder names a git folder of the worker's own, or whatever that writes there: the pool knows.
        named = leases.record_of(tree.path) or linked.points_to(tree.path)
        (of_others if linked.of_another(tree, named) else mine).append(tree)
    return mine, of_others


def what_is_of_another(tree: linked.LinkedTree) -> str:
    """Says what a record is that came here with a copy."""
    return f"git has a record of {tree.path} here, which is a worktree of the repository that this one was copied from"


def removal_of_record(tree: linked.LinkedTree) -> str:
    """Says what removes a record and leaves the worktree, which git itself refuses to tell apart from one of its own."""
    return f"rm -r {shlex.quote(str(tree.admin))} removes the record and leaves the worktree"


def staging_of(common: Path, run: str) -> Path | None:
    """Gives the staging worktree that is here of a run, by git's record of it."""
    found = (tree.path for tree in divided(common)[0])
    return next((path for path in found if (path.parent.name, path.name) == (run, STAGING_WORKTREE)), None)


def removal_of_worktree(path: Path) -> str:
    """Says what removes a worktree, and refuses where something in it would be lost."""
    return f"once you have looked at it: git worktree remove {shlex.quote(str(path))}"


def removal_of_branches(run: str) -> str:
    """Says what removes all branches of a run."""
    prefix = f"refs/heads/{staging_branch(run).removesuffix('staging')}"
    return (
        "once you have looked at them: "
        f"git for-each-ref --format='delete %(refname)' {prefix} | git update-ref --stdin"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

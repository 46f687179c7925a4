"""What is kept of tasks, found by the refs that keep it and laid out again: `recover TASK`, `worktrees open`.

Hides where work may lie: on its attempt's own branch, as a worktree held it, or in a stash or on another branch that only a
recovery ref leads to. Rules for editing: as in `offline`, which it is a part of; refs alone are enough to find it, since the
journal may be lost.
"""

from __future__ import annotations

import os
import shlex

from swarm.errors import Refused, UsageError

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from swarm.edge.git import Objects, Repository
    from swarm.edge.saved import SavedWork


def work_of(top: Path, text: str, run: str | None) -> list[dict[str, Any]]:
    """Lists all that is kept of a task, given as `task` or `run/task`, by `_document`; the newest of the newest attempt comes last.

    Raises `UsageError` where there is nothing, or tasks of several runs have that name.
    """
    from swarm.edge import git, saved

    common = git.Repository.discover(top).common_dir
    found = [each for each in saved.kept(common, text) if run in (None, each.owner.run)]
    if not found and run is None and "/" in text:
        run, _, text = text.partition("/")
        found = [each for each in saved.kept(common, text) if each.owner.run == run]
    runs = sorted({each.owner.run for each in found})
    if not found:
        raise UsageError(
            f"Nothing is kept of a task {text} on a branch.",
            "Nothing was done.",
            set_aside(top, text) or "swarm status; git branch --list 'swarm/*'",
        )
    if len(runs) > 1:
        raise UsageError(
            f"{text} is in several runs: {', '.join(runs)}.", "Nothing was done.", "say which: --run ID"
        )
    return _documents(common, found)


def _documents(common: Path, found: Iterable[SavedWork]) -> list[dict[str, Any]]:
    from swarm.edge import git

    works = list(found)
    own = {each.owner: each.commit for each in works if not each.number}
    objects = git.Objects(common)
    try:
        return [_document(objects, each, own.get(each.owner)) for each in works]
    finally:
        objects.close()


def _document(objects: Objects, work: SavedWork, own: str | None) -> dict[str, Any]:
    """Describes kept work: whose, its branch, `elsewhere` what its worker left in a stash or on other branches, newest first, each
    with the command that gets it, and `shows` the commit that is laid out.

    That is its own where a worktree held something that is not on the branch of its attempt, `own`, else the newest from elsewhere.
    Where there is such a branch only a stash counts: other commits may be what a merge that was left unfinished names.
    """
    from swarm.edge import saved

    left = saved.elsewhere(objects, work.commit)
    wanted = [each.commit for each in left if own is None or each.kind == saved.STASH]
    shows = wanted[0] if wanted and not saved.holds_more(objects, work.commit, own) else work.commit
    return {
        "run": work.owner.run,
        "task": work.owner.task,
        "attempt": work.owner.attempt,
        "saved": work.number,
        "branch": work.branch,
        "commit": work.commit,
        "shows": shows,
        "elsewhere": [
            {"commit": each.commit, "kind": each.kind, "title": each.title}
            | {"next": _command(each.commit, each.kind, f"{work.owner.task}-{each.commit[:7]}")}
            for each in left
        ],
    }


def _command(commit: str, kind: str, name: str) -> str:
    from swarm.edge import saved

    if kind == saved.STASH:
        return f"git stash apply --index {commit}"
    return f"git worktree add --detach {shlex.quote(f'../{name}')} {commit}"


def set_aside(top: Path, task: str) -> str:
    """Says where worktrees of a task lie that were put aside as they were, or will be; "" where there are none."""
    from swarm import config
    from swarm.core.model import slug
    from swarm.edge import git, ground, leases, saved

    pool = top / config.load(top, os.environ).worktrees.root / ground.POOL
    places = saved.Aside(pool / ".kept", git.Repository.discover(top).common_dir).of_task(slug(task))
    members = leases.Leases(pool, None).load()
    places += [
        str(each.path) for each in members if each.given_up and saved.Owner.of(each.key).task == slug(task)
    ]
    return f"look at what was put aside as it lay: {', '.join(places)}" if places else ""


def bring_back(top: Path, state: Path, work: Mapping[str, Any], into: Path | None) -> Path:
    """Lays what kept work shows out again: in a worktree, as it lay when it was saved, or its files in the folder `into`; gives the
    place."""
    from swarm.edge import git, saved

    repository = git.Repository.discover(top)
    if into is not None:
        objects = git.Objects(repository.common_dir)
        try:
            commits = saved.layers(objects, work["shows"])
        finally:
            objects.close()
        saved.write_files(repository.common_dir, commits, into)
        return into.resolve()
    name = f"{work['task']}-{work['attempt']}" + (f".{work['saved']}" if work["saved"] else "")
    return _opened(repository, state, work["run"], name, work["shows"])


def open_worktree(
    top: Path, state: Path, run: str, task: str, n: int | None
) -> tuple[Path, dict[str, Any] | None, bool]:
    """Gives the kept work of an attempt a worktree of its own again, detached; where it has one, that. Gives its path, what the
    newest recovery ref of the attempt keeps, None without one, and whether that is what lies there, since its branch has nothing.

    It is an ordinary linked worktree; `git worktree remove` takes it away. Where all of the work is in a folder that was put
    aside as it lay, that is the path. Raises `Refused` while the attempt is under way.
    """
    from pathlib import Path

    from swarm.client.offline import attempt_of, find
    from swarm.core.model import ATTEMPT_ENDS, opened_worktree, slug
    from swarm.edge import git, saved

    _, _, found = find(state, run, task)
    attempt = attempt_of(found, n)
    if attempt is None:
        raise UsageError(
            f'Task "{task}" has had no attempt{"" if n is None else f" {n}"}.', "Nothing was done."
        )
    if attempt.step not in ATTEMPT_ENDS and attempt.head is None:
        raise Refused(
            f'Attempt {attempt.n} of "{task}" is at work.', "Nothing was done.", f"look in {attempt.worktree}"
        )
    repository = git.Repository.discover(top)
    commit = repository.branch_commit(attempt.branch) or attempt.head or attempt.base
    mine = saved.Owner(run, slug(task), attempt.n)
    works = [each for each in saved.kept(repository.common_dir, task) if each.owner == mine]
    newest = _documents(repository.common_dir, works)[-1] if works and works[-1].number else None
    if newest is not None and commit == attempt.base:
        return bring_back(top, state, newest, None), newest, True
    if commit == attempt.base and os.path.isabs(attempt.saved) and os.path.isdir(attempt.saved):
        return Path(attempt.saved), None, True
    return _opened(repository, state, run, opened_worktree(attempt.branch), commit), newest, False


def _opened(repository: Repository, state: Path, run: str, name: str, commit: str) -> Path:
    from pathlib import Path

    from swarm import config
    from swarm.core.places import Places
    from swarm.edge import git, opened
    from swarm.edge.trouble import explained

    root = repository.working_top() / config.load(repository.working_top(), os.environ).worktrees.root
    objects = git.Objects(repository.common_dir)
    place = Path(os.path.realpath(root)) / run / name
    try:
        with explained(f"The worktree {place} can't be made"):
            return opened.open_at(
                place, commit, repository.common_dir, objects, lock=Places(state).worktrees_lock
            )
    finally:
        objects.close()

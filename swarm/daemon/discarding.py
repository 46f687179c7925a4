"""Discards a run: says what of its work is nowhere else, and removes everything of it.

Rules for editing: nothing is removed before the machine says that the run has come to rest; every step may be killed anywhere and
done again, from what is there and not from what was there. What lies outside `refs/heads/swarm/<run>/`, the run's own worktrees and
its part of the state folder is not touched.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from swarm.core import commands as cmd
from swarm.core.model import GOOD_ENDS, attempt_key, slug, staging_branch
from swarm.core.places import Places
from swarm.core.run import Run
from swarm.crashpoints import crash_at
from swarm.dataclass import dataclass
from swarm.edge import discards, git, linked, opened
from swarm.edge.ground import is_checkout
from swarm.edge.landing import LandingRepository
from swarm.edge.saved import SavedWork, is_in_between, saved
from swarm.edge.worktrees import Pool
from swarm.errors import Refused

LISTED_MAX = 30  # of what would be lost
STAGING = "staging"  # the name of what has landed, among what would be lost


@dataclass(frozen=True, slots=True)
class Loss:
    """Work of a run that is nowhere else: the name to type for giving it up, and what it is."""

    name: str
    text: str


def refusal(run: str, holds: Sequence[Loss], began: str) -> Refused:
    """Says what would be lost, and what to type where that is wanted; `began` is the branch that the run started from, or empty."""
    shown = [f"  {each.name}: {each.text}" for each in holds[:LISTED_MAX]]
    if len(holds) > LISTED_MAX:
        shown.append(f"  and {len(holds) - LISTED_MAX} more")
    name, names = shlex.quote(run), " ".join(f"--yes {shlex.quote(each.name)}" for each in holds)
    landed = any(each.name == STAGING for each in holds)
    finish = f"swarm finish --run {name}{'' if began else ' --into BRANCH'}"
    saves = f"{finish}, or take out what is wanted" if landed else "take out what is wanted"
    return Refused(
        "\n".join([f"Run {run} holds work that is nowhere else:", *shown]),
        "Nothing was removed.",
        f"{saves}; to give it up: swarm discard {name} --force {names}",
    )


@dataclass(frozen=True, slots=True)
class Ground:
    """What the journal says of a run, taken down at one moment: `live` are tasks with an attempt under way, `work` the commits of
    attempts that have not landed, by task, `landed` those of all attempts at tasks that have, by the task's slug and the attempt,
    `collected` those of all attempts, `working` the leases of attempts under way, `staging` where staging stands, `worktrees` the
    names of its folders."""

    run: str
    base: str
    staging: tuple[str, ...]
    live: tuple[str, ...]
    working: tuple[str, ...]
    work: dict[str, tuple[str, ...]]
    landed: dict[tuple[str, int], str]
    collected: frozenset[str]
    worktrees: tuple[str, ...]


def ground(run: Run) -> Ground:
    """Takes a run down."""
    work: dict[str, tuple[str, ...]] = {}
    landed: dict[tuple[str, int], str] = {}
    for name, task in run.tasks.items():
        if task.state in GOOD_ENDS:
            landed |= {(slug(name), each.n): each.head for each in task.attempts if each.head is not None}
        else:
            heads = tuple(a.head for a in task.attempts if a.head is not None and a.head != a.base)
            if heads:
                work[name] = heads
    return Ground(
        run=run.id,
        base=run.base_commit,
        staging=tuple({run.published, run.staging} - {run.base_commit}),
        live=tuple(run.live),
        working=tuple(
            attempt_key(run.id, name, each.n) for name in run.live if (each := run.tasks[name].live)
        ),
        work=work,
        landed=landed,
        collected=frozenset(
            a.head for task in run.tasks.values() for a in task.attempts if a.head is not None
        ),
        worktrees=run.worktree_names(),
    )


@dataclass(frozen=True, slots=True)
class Discarder:
    """Discards runs of one repository."""

    repository: git.Repository
    pool: Pool
    landing: LandingRepository
    refs: git.Refs
    places: Places

    def losses(self, of: Ground) -> list[Loss]:
        """Lists what would be lost. Raises `Refused` where a branch of the run is checked out in a worktree of the user's own, or a
        rebase or bisection under way holds it."""
        common = self.repository.common_dir
        branches = git.refs_below(common, f"refs/heads/swarm/{of.run}/")
        self._refuse_in_use(of, branches)
        there = self._commits(of, branches)
        every = [commit for _, _, commits in there for commit in commits]
        alone = git.reached_by_none(common, every, besides=f"refs/heads/swarm/{of.run}/*")
        found = {name: Loss(name, f"{name} is under way") for name in of.live}
        for name, text, commits in there:
            if name not in found and alone.intersection(commits):
                found[name] = Loss(name, text)
        for name, text in (*self._dirty(of), *self._uncollected(of), *self.pool.aside.of(of.run)):
            found.setdefault(name, Loss(name, text))
        return list(found.values())

    def _commits(self, of: Ground, branches: dict[str, str]) -> list[tuple[str, str, tuple[str, ...]]]:
        """Lists (name, what it is, commits) of all that may be nowhere else."""
        target = "the branch it started from, nor on any other"
        known = {f"refs/heads/{staging_branch(of.run)}"}
        at = branches.get(f"refs/heads/{staging_branch(of.run)}")
        staging = tuple(dict.fromkeys((*of.staging, *((at,) if at and at != of.base else ()))))
        found = [(STAGING, f"what has landed on staging is not on {target}", staging)]
        for name, heads in of.work.items():
            found.append((name, f"the work of {name} has not landed", heads))
        for each in saved(self.repository.common_dir, of.run):
            known.add(f"refs/heads/{each.branch}")
            if self._has_landed(of, each):
                continue
            tail = each.branch.partition("/saved/")[2]
            found.append((f"saved/{tail}", f"{each.branch} keeps what lay in a worktree", (each.commit,)))
        for ref, commit in branches.items():
            # That of an attempt stands where its work was collected: elsewhere, somebody has committed on it, or made it.
            if ref not in known and (f"/{of.run}/task/" not in ref or commit not in of.collected):
                tail = ref.partition(f"/{of.run}/")[2]
                what = "commits of your own on" if "/task/" in ref else "a branch of your own,"
                found.append((f"branch/{tail}", f"{what} swarm/{of.run}/{tail}", (commit,)))
        stand = {tree.path: head for tree in self._worktrees(of.run, of.worktrees) if (head := tree.head())}
        made = git.reached_by_none(self.repository.common_dir, [*stand.values()], besides="")
        for path, head in stand.items():
            if head in made:  # else it was only opened at what a branch has, which counts for itself
                found.append((f"worktree/{path.name}", f"commits made in {path}", (head,)))
        return found

    def _has_landed(self, of: Ground, kept: SavedWork) -> bool:
        """Tells whether a recovery ref has only an earlier state of work whose task has landed: what was staged before its files
        were changed on. A stash, another branch or a merge half done was put where it is on purpose, and counts."""
        head = of.landed.get((kept.owner.task, kept.owner.attempt))
        try:
            return head is not None and is_in_between(self.pool.objects, kept.commit, head)
        except git.GitError:
            return False

    def _dirty(self, of: Ground) -> Iterator[tuple[str, str]]:
        for tree in self._worktrees(of.run, of.worktrees):
            if tree.path.is_dir() and opened.is_dirty(tree, self.pool.objects):
                yield f"worktree/{tree.path.name}", f"there are changes in {tree.path}"
            elif inside := opened.in_submodules(tree):
                yield f"worktree/{tree.path.name}", f"of {tree.path}, {inside}"

    def _uncollected(self, of: Ground) -> Iterator[tuple[str, str]]:
        """Lists what lies in worktrees of the pool that was not collected: git could not read it, or it came later."""
        for key, path in self.pool.held(of.run, of.working):
            task = key.partition("/")[2].rpartition("/")[0]
            yield f"worktree/pool/{path.name}", f"what {task} left in {path} is on no branch"

    def _worktrees(self, run: str, names: Collection[str]) -> list[linked.LinkedTree]:
        """Lists the worktrees that were made for the run, for staging and to look into attempts, as far as git knows them."""
        folder = self._folder(run)
        return [
            tree
            for tree in opened.below(self.repository.common_dir, folder)
            if tree.path.name.partition(".")[0] in names
        ]

    def _folder(self, run: str) -> Path:
        return Path(os.path.realpath(self.pool.root.parent)) / run

    def _refuse_in_use(self, of: Ground, branches: dict[str, str]) -> None:
        ours = {linked.place_of(tree.path) for tree in self._worktrees(of.run, of.worktrees)}
        for ref in branches:
            name = ref.removeprefix("refs/heads/")
            for place in self.repository.worktrees_of_branch(name):
                if linked.place_of(place) not in ours and not place.is_relative_to(self.pool.root):
                    raise Refused(
                        f"The branch {name} is checked out in {place}.",
                        "Nothing was removed.",
                        f"git -C {place} switch to another branch, then discard again",
                    )
            held = self.repository.holding(name)
            if held is not None and not held.place.is_relative_to(self.pool.root):
                raise Refused(
                    f"{name} is in the middle of a git {held.what} in {held.place}, which could not be ended without it.",
                    "Nothing was removed.",
                    f"{held.ends}; then discard again",
                )

    def remove(self, command: cmd.Discard) -> None:
        """Removes everything of a run that has come to rest."""
        run, common, places = command.run, self.repository.common_dir, self.places
        if discards.is_done(places, run, command.created_at):
            return  # by a daemon that was killed before it could remember it, or the journal is older than that
        discards.note(places, run, command.created_at, done=False)
        self.pool.drop(run)
        for tree in self._worktrees(run, command.worktrees):
            opened.remove(tree, lock=places.worktrees_lock, trash=self.pool.trash)
        folder = self._folder(run)
        # What the user has there is theirs, also where it has such a name.
        for path in folder.iterdir() if folder.is_dir() and not is_checkout(folder) else ():
            if path.name.partition(".")[0] in command.worktrees:
                linked.remove(path)
        opened.remove_if_empty(folder)
        crash_at("discard.worktrees")
        branches = git.refs_below(common, f"refs/heads/swarm/{run}/")
        self.refs.commit([git.RefChange(ref, None, None) for ref in branches])
        crash_at("discard.refs")
        self.landing.drop(run)
        crash_at("discard.landing")
        linked.remove(places.attempts / run)
        linked.remove(places.deploys(run))
        discards.note(places, run, command.created_at, done=True)
        crash_at("discard.folders")

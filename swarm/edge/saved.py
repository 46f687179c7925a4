"""Recovery refs: work that was about to be removed, as commits under `refs/heads/swarm/<run>/saved/<task>/<attempt>-<number>`.

Hides how everything that lies in a worktree goes into one commit and comes out again. Its tree are the files, tracked and
untracked, as they lay there; its first parent is the commit that the worktree stood at; where the index held something else, the
next parent is a commit of that; then come commits that only an unfinished merge or rebase named. Rules for editing: a ref is made
before anything is removed, and no ref is ever removed here: they go with their run. Saving the same again gives the same ref. When
there are too many nothing is dropped: `keep` refuses, and what it was asked to save stays where it is.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from swarm.core.model import STAGING_WORKTREE, slug
from swarm.core.places import state_of
from swarm.crashpoints import crash_at
from swarm.dataclass import dataclass
from swarm.edge import git, whole
from swarm.edge.ground import UNOWNED
from swarm.edge.leases import shield_folder
from swarm.edge.leftovers import OURS, Work
from swarm.edge.linked import LinkedTree, remove
from swarm.errors import Refused

PREFIX = "refs/heads/swarm/"
STASH, COMMITS = "stash", "commits"  # what a worker may leave elsewhere
NEARLY = 0.8  # of the most refs of a run: from here on it is told
_REF = re.compile(re.escape(PREFIX) + r"([^/]+)/saved/([^/]+)/([0-9]+)-([0-9]+)\Z")
_BRANCH = re.compile(re.escape(PREFIX) + r"([^/]+)/task/([^/]+)/([0-9]+)\Z")
_STAGED = re.compile(r"^Swarm-Staged: ([0-9a-f]+)$", re.MULTILINE)


class Owner(NamedTuple):
    """Whose work it was: the run, the task as a slug, the attempt's number."""

    run: str
    task: str
    attempt: int

    @classmethod
    def of(cls, key: str) -> Owner:
        """Reads the key of a lease, as `attempt_key` makes it; for any other text nobody is the owner."""
        run, _, rest = key.partition("/")
        task, _, attempt = rest.rpartition("/")
        return (
            cls(run, slug(task), int(attempt))
            if run and task and attempt.isdigit()
            else cls(UNOWNED, slug(key), 0)
        )


def owner_of_path(path: Path) -> Owner:
    """Reads from where a worktree lay whose it was: `<run>/staging`, or `<run>/<task>-<attempt>` for an opened one."""
    match = re.fullmatch(r"([^.]+)-([0-9]+)(\.[0-9]+)?", path.name)
    if path.name == STAGING_WORKTREE or match is None:
        return Owner(path.parent.name if path.name == STAGING_WORKTREE else UNOWNED, slug(path.name), 0)
    return Owner(path.parent.name, slug(match[1]), int(match[2]))


class SavedWork(NamedTuple):
    """A recovery ref: whose, the how-manieth of that attempt, and its commit. Number 0 is the attempt's own branch."""

    owner: Owner
    number: int
    commit: str

    @property
    def branch(self) -> str:
        """Its name without `refs/heads/`."""
        if not self.number:
            return f"swarm/{self.owner.run}/task/{self.owner.task}/{self.owner.attempt}"
        return f"swarm/{self.owner.run}/saved/{self.owner.task}/{self.owner.attempt}-{self.number}"


class TooManySaved(Refused):
    """A run has as many recovery refs as the settings allow, so nothing more of it is removed."""

    def __init__(self, run: str, most: int) -> None:
        super().__init__(
            f"Run {run} has {most} recovery refs, the most that limits.saved_refs_max allows.",
            "Nothing was dropped: what would have been saved next stays where it lies.",
            f"look at them (git branch --list 'swarm/{run}/saved/*'), delete what nobody needs, or raise the limit",
        )


@dataclass(frozen=True, slots=True)
class Saver:
    """Makes and lists the recovery refs of a repository; at most `refs_max` for a run."""

    common: Path
    objects: git.Objects
    refs_max: int = 1000

    def keep(self, owner: Owner, work: Work, *, where: Path, at: float) -> SavedWork:
        """Puts `work`, which lay in the folder `where`, under a ref of its owner. Raises `TooManySaved`, GitError, OSError."""
        known = saved(self.common, owner.run)
        mine = [each for each in known if each.owner == owner]
        for each in mine:
            if self._holds(each, work):
                return each
        if len(known) >= self.refs_max:
            raise TooManySaved(owner.run, self.refs_max)
        commit = self._commit(owner, work, where, at)
        refs = git.Refs(self.common)
        number = max((each.number for each in mine), default=0) + 1
        try:
            while True:
                made = SavedWork(owner, number, commit)
                try:
                    refs.move(f"refs/heads/{made.branch}", commit, git.ZERO)
                    crash_at("saved.kept")
                    return made
                except git.RefMoved:
                    number += 1  # another process was first
        finally:
            refs.close()

    def keep_besides(self, owner: Owner, work: Work | None, *, where: Path, at: float) -> tuple[bool, str]:
        """Keeps what of `work` the commit of its files does not have. Tells whether all of it is kept: there may be too many refs,
        and then it must stay where it lies; and on which branch, "" where there is nothing of the kind."""
        if work is None or not (work.staged or work.others):
            return True, ""
        try:
            return True, self.keep(owner, work, where=where, at=at).branch
        except TooManySaved:
            return False, ""

    def _holds(self, each: SavedWork, work: Work) -> bool:
        """Tells whether all of `work` is in a ref already; what was staged is known only the first time."""
        facts = self.objects.commit(each.commit)
        staged = staged_part(facts)
        return (
            (facts.tree, facts.parents[0]) == (work.tree, work.head)
            and work.staged in ("", self.objects.tree_of(staged) if staged else "")
            and set(work.others) <= set(facts.parents)
        )

    def _commit(self, owner: Owner, work: Work, where: Path, at: float) -> str:
        who = git.Signature(*OURS, at)
        parents = [work.head]
        trailers = f"Swarm-Run: {owner.run}\nSwarm-Task: {owner.task}\nSwarm-Attempt: {owner.attempt}\n"
        if work.staged:
            staged = git.write_commit(
                self.common, work.staged, [work.head], "What the index held\n\n" + trailers, who, who
            )
            parents.append(staged)
            trailers += f"Swarm-Staged: {staged}\n"
        parents += [other for other in work.others if other not in parents]
        message = f"Work saved before it was removed from {where}\n\n{trailers}"
        return git.write_commit(self.common, work.tree, parents, message, who, who)


def saved(common: Path, run: str | None = None) -> list[SavedWork]:
    """Lists recovery refs, of one run or of all, the oldest of each attempt first."""
    listed = git.refs_below(common, PREFIX if run is None else f"{PREFIX}{run}/saved/")
    found = [
        SavedWork(Owner(match[1], match[2], int(match[3])), int(match[4]), commit)
        for ref, commit in listed.items()
        if (match := _REF.match(ref))
    ]
    return sorted(found)


def staged_part(facts: git.CommitFacts) -> str:
    """Gives the commit of what the index held, "" where the saved commit has none."""
    named = _STAGED.findall(facts.message)
    return named[-1] if named and named[-1] in facts.parents[1:] else ""


@dataclass(frozen=True, slots=True)
class Aside:
    """The folder to which worktrees are moved that can't be saved whole; nothing removes what lies there but the end of its run."""

    folder: Path
    common: Path

    def put(
        self,
        path: Path,
        owner: Owner,
        why: str,
        *,
        staged: str = "",
        git_folder: Path | None = None,
        modules: Path | None = None,
    ) -> str:
        """Moves the folder `path` here, with a note of whose it is, and beside it the files of `staged`, the tree that its index
        held, the `git_folder` of its own that it had, and the git folders of its submodules, `modules`; gives where it lies now."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        shield_folder(self.folder)
        place = self.folder / f"{owner.task}-{secrets.token_hex(4)}"
        whole.write(Path(f"{place}.txt"), f"{owner.run}/{owner.task}/{owner.attempt}: {why}\n", durable=False)
        if staged:
            write_files(self.common, [staged], Path(f"{place}.staged"))
        if git_folder is not None:
            whole.move(git_folder, f"{place}.git")
        if modules is not None:
            shutil.move(modules, f"{place}.modules")
        whole.move(path, place)
        return str(place)

    def of(self, run: str) -> list[tuple[str, str]]:
        """Lists (name, what it is) of what lies here of a run."""
        said = [
            (note, note.read_text("utf-8", "replace").strip()) for note in sorted(self.folder.glob("*.txt"))
        ]
        return [
            (f"kept/{note.stem}", f"{note.with_suffix('')} could not be saved: {text}")
            for note, text in said
            if text.startswith(f"{run}/")
        ]

    def of_owner(self, owner: Owner) -> str | None:
        """Gives the folder that was put here last of an attempt; None where there is none."""
        began = f"{owner.run}/{owner.task}/{owner.attempt}:"
        try:
            notes = [Path(each.path) for each in os.scandir(self.folder) if each.name.endswith(".txt")]
        except FileNotFoundError:
            return None
        mine = [each for each in notes if each.read_text("utf-8", "replace").startswith(began)]
        latest = max(mine, key=lambda each: each.stat().st_mtime_ns, default=None)
        return str(latest.with_suffix("")) if latest is not None else None

    def of_task(self, task: str) -> list[str]:
        """Lists the folders that lie here of a task of any run."""
        notes = sorted(self.folder.glob("*.txt"))
        said = {note: note.read_text("utf-8", "replace").partition(":")[0].split("/") for note in notes}
        return [str(note.with_suffix("")) for note, names in said.items() if task in names[1:2]]

    def drop(self, run: str) -> None:
        """Removes what lies here of a run, for good."""
        for name, _ in self.of(run):
            place = self.folder / name.removeprefix("kept/")
            for suffix in ("", ".staged", ".git", ".modules", ".txt"):
                remove(Path(f"{place}{suffix}"))


# --- out again ----------------------------------------------------------------------------------------------


def lay_out(tree: LinkedTree, objects: git.Objects, commit: str) -> None:
    """Puts saved work into a worktree as it was: HEAD where it stood, the index as it was, the files as they lay there.

    The worktree is new, at any commit, and has no files yet. A commit that is neither of our saving nor a stash is checked out
    plainly.
    """
    facts = objects.commit(commit)
    tree.git("checkout", "-q", "-f", "--detach", commit)
    if is_saved(facts):
        index = staged_part(facts) or facts.parents[0]
    elif is_stash(objects, facts):
        index = facts.parents[1]
        for untracked in layers(objects, commit)[1:]:
            beside = tree.admin / "swarm-untracked"
            try:
                tree.git("read-tree", untracked, index=beside)
                tree.git("checkout-index", "-a", "-q", "-f", index=beside)
            finally:
                remove(beside)
    else:
        return
    tree.git("update-ref", "--no-deref", "HEAD", facts.parents[0])
    tree.git("read-tree", index)
    tree.git("update-index", "-q", "--refresh", ok=(0, 1))


def is_saved(facts: git.CommitFacts) -> bool:
    """Tells whether a commit was made here."""
    return facts.message.startswith("Work saved before it was removed") and facts.committer[:2] == OURS


def write_files(common: Path, commits: Sequence[str], folder: Path) -> None:
    """Writes the files of commits into `folder`, which is made; nothing may be in it yet. Raises `Refused`, GitError."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Refused(f"{folder} is not empty.", "Nothing was written.", "name a folder that is new or empty")
    index = state_of(common) / f"out-{secrets.token_hex(6)}.index"
    env = {"GIT_INDEX_FILE": os.fspath(index)}
    try:
        for commit in commits:
            git.run("read-tree", commit, git_dir=common, env=env)
            out = ("checkout-index", "-a", "-q")
            git.run(
                *out, git_dir=common, work_tree=folder, cwd=folder, env=env, user_config=True, timeout_s=1800
            )
    finally:
        remove(index)


class Left(NamedTuple):
    """Commits that a worker left where its worktree does not lead: the last of them, STASH or COMMITS, its subject."""

    commit: str
    kind: str
    title: str


def elsewhere(objects: git.Objects, commit: str) -> list[Left]:
    """Lists what a recovery ref at `commit` keeps besides what the worktree held, the newest first; nothing of any other commit."""
    facts = objects.commit(commit)
    if not is_saved(facts):
        return []
    others = [objects.commit(oid) for oid in facts.parents[1:] if oid != staged_part(facts)]
    others.sort(key=lambda each: each.committer.at, reverse=True)
    return [Left(each.oid, STASH if is_stash(objects, each) else COMMITS, each.subject) for each in others]


def holds_more(objects: git.Objects, commit: str, branch: str | None) -> bool:
    """Tells whether a recovery ref at `commit` has files or an index that neither the attempt's branch, at `branch`, has nor, where
    it has none, the commit that its worktree stood at."""
    facts = objects.commit(commit)
    return bool(staged_part(facts)) or facts.tree != objects.tree_of(branch or facts.parents[0])


def is_in_between(objects: git.Objects, commit: str, head: str) -> bool:
    """Tells whether a recovery ref at `commit` keeps nothing that the attempt's work at `head` has not, save what was staged before
    the files were changed on. Raises `GitError` where one of them is gone."""
    facts = objects.commit(commit)
    if not (is_saved(facts) and facts.parents[1:] and facts.parents[1:] == (staged_part(facts),)):
        return False
    return facts.tree == objects.tree_of(head) and git.contains(objects.git_dir, head, facts.parents[0])


def is_stash(objects: git.Objects, facts: git.CommitFacts) -> bool:
    """Tells whether `git stash` made a commit: on what it stood on come the index and, with -u, the untracked files."""
    if len(facts.parents) not in (2, 3):
        return False
    index = objects.commit(facts.parents[1])
    untracked = [objects.commit(each) for each in facts.parents[2:]]
    named = index.subject.startswith("index on ") and all(
        each.subject.startswith("untracked files on ") for each in untracked
    )
    return named and index.parents == facts.parents[:1] and not any(each.parents for each in untracked)


def layers(objects: git.Objects, commit: str) -> list[str]:
    """Gives the commits whose files together are what `commit` keeps: of a stash, the untracked files too."""
    facts = objects.commit(commit)
    return [commit, *(facts.parents[2:] if is_stash(objects, facts) else ())]


def kept(common: Path, task: str) -> list[SavedWork]:
    """Lists all that is kept of a task, in whichever run, the newest attempt last: its attempts' own branches, number 0, and the
    recovery refs after them. The task is given by its id or as it stands in a branch's name."""
    listed = git.refs_below(common, PREFIX)
    branches = [
        SavedWork(Owner(match[1], match[2], int(match[3])), 0, commit)
        for ref, commit in listed.items()
        if (match := _BRANCH.match(ref))
    ]
    return sorted(each for each in (*branches, *saved(common)) if each.owner.task in (task, slug(task)))

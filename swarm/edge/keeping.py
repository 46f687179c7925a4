"""What lies in the worktrees of a pool: collected when its worker has ended, and saved before it would go.

Hides where it ends up: the commits of an attempt, a recovery ref, or where none can be made the folder itself, set aside. Rules for
editing: the member's lock is held; what stands nowhere else is kept before `upkeep` touches the worktree, and what is known to
stand somewhere is not kept twice; what a person moved to another place is theirs.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

from swarm.crashpoints import crash_at
from swarm.dataclass import dataclass
from swarm.edge import git, linked, secluded, submodules
from swarm.edge.difference import Difference
from swarm.edge.indexfile import fingerprint
from swarm.edge.leases import Member
from swarm.edge.leftovers import Collected, Collector, Lent, Work
from swarm.edge.linked import LinkedTree
from swarm.edge.saved import Aside, Owner, Saver, TooManySaved, owner_of_path
from swarm.edge.upkeep import Upkeep

# A file that is a link at the next moment would be read by us, who may read more than they.
SOMEBODY = (
    "Something that it started could not be ended and may still write to its files, so none of them was read"
)
REFUSALS = 3  # so often git fails, and names neither a broken object nor the machine's trouble, until that is its judgement
UNKNOWN_MAX = 100  # paths that git is asked about by name


@dataclass(frozen=True, slots=True)
class Keeper:
    """Keeps work in the recovery refs of `saver`, and `aside` what can't be read or is too much. Without a saver nothing is saved,
    only collected. Of one worktree at most `bytes_max` go into commits, 0 for any size."""

    upkeep: Upkeep
    saver: Saver | None
    aside: Aside
    bytes_max: int

    def collect(
        self,
        member: Member,
        base: str,
        *,
        key: str,
        where: Path,
        message: str,
        identity: tuple[str, str] | None,
        at: float,
        reader: git.Reader,
    ) -> Collected:
        """Commits what the worker of `key` left in a member, which it knew to be at `where`; see `Pool.collect`."""
        upkeep = self.upkeep
        _take_away_if_emptied(member.path)
        tree = upkeep.seated(member)
        if tree is None:
            if member.admin is not None and member.admin.is_dir():
                self.take_home(member, upkeep.tree(member), asked_again=False)
            return Collected(base, 0, (), member.refused or f"The worktree {member.path} is gone.")
        if upkeep.leases.may_hold_somebody(member):
            nothing = Work(base, upkeep.objects.tree_of(base))
            problem = f"{SOMEBODY}. All of it is set aside whole, and it is told where."
            return Collected(base, 0, (), problem, nothing, unread=True)
        upkeep.leases.mend(member)
        tree, note = upkeep.relink_if_pruned(member, tree, base)
        note = self.take_home(member, tree) or note
        if _has_only_folders(member.path, but=".git") and self._tracks_more(tree):
            return Collected(base, 0, (), f"Everything in the worktree {member.path} was deleted.")
        found = self._collector(member, tree, base, message, identity, at, reader).collect()
        kept, place = True, ""
        if self.saver is not None:
            kept, place = self.saver.keep_besides(Owner.of(key), found.work, where=where, at=at)
        if kept:  # only now: what was staged in it is nowhere else before
            linked.copy_index(upkeep.leases.work(member), tree.admin / "index")
        others = found.work is not None and bool(found.work.others)
        staged = "" if others else place or (member.staged if member.collected else "")
        member.collected, member.kept, member.staged = kept and not found.unread, found.head, staged
        member.given_up = False
        member.stood, member.seen = tree.head() or "", fingerprint(tree.admin / "index")
        upkeep.leases.save(member)
        crash_at("collect.marked")
        left = (
            f"All of it is kept, below {self.aside.folder} or still in {tree.path}." if found.unread else ""
        )
        problem = " ".join(filter(None, (note, found.problem, left)))
        return dataclasses.replace(found, problem=problem, besides=place if others else "", staged=staged)

    def _collector(
        self,
        member: Member,
        tree: LinkedTree,
        base: str,
        message: str,
        identity: tuple[str, str] | None,
        at: float,
        reader: git.Reader,
    ) -> Collector:
        return Collector(
            tree=tree,
            objects=self.upkeep.objects,
            base=base,
            trusted=self.upkeep.leases.index(member),
            index=self.upkeep.leases.work(member),
            aside=self.upkeep.leases.folder / f"{member.number}.nested",
            bytes_max=self.bytes_max,
            lent=Lent(self.upkeep.lent(base)),
            message=message,
            identity=identity,
            at=at,
            reader=reader,
        )

    def take_home(self, member: Member, tree: LinkedTree, *, asked_again: bool = True) -> str:
        """Takes over what a worker that was shut in did with git; says so where git refuses it, which is then kept aside: as often
        as it is asked, since whoever heard it may have been killed before that was written down."""
        folder = self.upkeep.leases.git(member)
        shut_in = folder.is_dir()
        try:
            secluded.come_home(folder, tree, self.upkeep.objects)
        except git.GitError as problem:
            if problem.errno is not None or isinstance(problem, git.GitTimedOut) or (problem.code or 0) < 0:
                raise
            member.refusals += 1
            if asked_again and not problem.judgement and member.refusals < REFUSALS:
                raise
            member.refused = (
                "What the worker did with git can't be taken over and is kept below"
                f" {self.aside.folder}: {problem.cause}"
            )
            self.upkeep.leases.save(member)
            self.aside.put(folder, self._owner(member), str(problem))
        else:
            if shut_in:
                member.refused, member.refusals = "", 0
        return member.refused

    def look(self, member: Member) -> Difference | None:
        """Looks what in a member is not as in its base, where its work was collected; None where that can't be told."""
        if self.saver is None or not (member.collected and self.upkeep.is_whole(member)):
            return None
        try:
            return self.upkeep.look(member)
        except (git.GitError, OSError, ValueError):
            return None

    def put_away(self, member: Member, at: float | None = None, seen: Difference | None = None) -> str | None:
        """Sees to it that nothing in a member is lost by what comes next; gives the branch that keeps it, or the folder
        in which it lies, or None where there was nothing. What a person moved somewhere else is theirs from now on."""
        tree = self.upkeep.seated(member)
        if self.saver is None:
            linked.remove(self.upkeep.leases.git(member))
        if self.saver is None or member.filling:
            return None
        if tree is None:
            return self._save_left_record(member)
        place = None
        if self.upkeep.leases.may_hold_somebody(member):
            place = self._put_aside_unread(member, tree)
        elif self.is_dirty(member, tree, seen):
            place = self._save_work(self.saver, member, tree, member.since if at is None else at)
        if tree.path != member.path and tree.path.exists():
            self.upkeep.disown(tree, tree.path)
            member.admin = None
        return place

    def _tracks_more(self, tree: LinkedTree) -> bool:
        """Tells whether git still tracks files there, and not one alone, which a worker may have been to delete: who empties a
        whole project does so by git, which then tracks none."""
        index = tree.admin / "index"
        return index.exists() and tree.git("ls-files", "-z").out.count(b"\0") > 1

    def _save_left_record(self, member: Member) -> str | None:
        """Saves what was committed or staged in a worktree whose folder is gone, of which git still has a record."""
        if member.admin is None or not member.admin.is_dir():
            return None
        return self.save_record(self.upkeep.tree(member), member)

    def holds(self, member: Member) -> bool:
        """Tells whether in a member lies what stands nowhere else; so it is where that can't be told. Saves nothing, and counts
        nothing that a person moved to another place."""
        tree = self.upkeep.seated(member)
        if tree is None or tree.path != member.path or member.filling:
            return False
        if self.upkeep.leases.may_hold_somebody(member):
            return True
        try:
            if not self.is_dirty(member, tree):
                return False
            return self._nowhere_else(member, self._found(member, tree, member.since)[1])
        except (git.GitError, OSError):
            return True

    def _found(self, member: Member, tree: LinkedTree, at: float) -> tuple[LinkedTree, Collected]:
        self.upkeep.leases.mend(member)
        tree, _ = self.upkeep.relink_if_pruned(member, tree, member.base)
        self.take_home(member, tree)
        message = "Work found in the worktree"
        return tree, self._collector(member, tree, member.base, message, None, at, git.Reader()).collect()

    def _nowhere_else(self, member: Member, found: Collected) -> bool:
        return found.unread or not (found.work is None or self._is_known(member, found.work))

    def _save_work(self, saver: Saver, member: Member, tree: LinkedTree, at: float) -> str | None:
        tree, found = self._found(member, tree, at)
        if found.work is None or not self._nowhere_else(member, found):
            return None
        try:
            branch = saver.keep(self._owner(member), found.work, where=tree.path, at=at).branch
            why = found.problem if found.unread else ""
        except TooManySaved as problem:
            branch, why = "", str(problem)
        if not why:
            return branch
        if tree.path != member.path:
            return str(tree.path)  # a person moved it, and it stays there
        submodules.settle(tree)
        staged = found.work.staged
        return self.aside.put(
            tree.path, self._owner(member), why, staged=staged, modules=submodules.left(tree)
        )

    def _put_aside_unread(self, member: Member, tree: LinkedTree) -> str:
        """Puts a worktree in which somebody may still be aside, with what they did with git; gives where it lies. What a person
        moved to another place stays there."""
        folder = self.upkeep.leases.git(member)
        theirs = folder if folder.is_dir() else None
        if tree.path != member.path:
            return str(tree.path)
        modules = submodules.left(tree)
        return self.aside.put(tree.path, self._owner(member), SOMEBODY, git_folder=theirs, modules=modules)

    def set_aside(self, member: Member, why: str) -> str | None:
        """Moves the folder of a member to where what can't be saved is kept, and saves what only its record knows."""
        tree = self.upkeep.seated(member)
        if tree is None or tree.path != member.path:
            return None  # gone, or a person moved it
        self.save_record(tree, member)
        return self.aside.put(tree.path, self._owner(member), why, modules=submodules.left(tree))

    def is_dirty(self, member: Member, tree: LinkedTree, seen: Difference | None = None) -> bool:
        """Tells whether there may be something in a member that stands nowhere else. In a free one that is what came after it
        was cleaned: the files that it still has are those of work that was put away."""
        if member.collected:
            return self._is_changed(member, tree, seen)
        shut_in = self.upkeep.leases.git(member).is_dir()
        return not member.swept or shut_in or linked.is_touched(tree.path, member.since)

    def _is_changed(self, member: Member, tree: LinkedTree, seen: Difference | None) -> bool:
        """Tells whether something was written after the work was collected; git is asked of what `seen` does not tell."""
        if tree.head() != member.stood or fingerprint(tree.admin / "index") != member.seen:
            return True
        unknown = self._unknown(member, seen) if seen is not None else None
        if unknown == []:
            return False
        among = unknown if unknown and len(unknown) <= UNKNOWN_MAX else ()
        inside = submodules.links(tree, tree.admin / "index", member.base)
        if submodules.in_use(tree.path, inside):
            return True  # they are looked into as carefully as when the work was collected
        lent = Lent(self.upkeep.lent(member.base))
        status = tree.git("status", "--porcelain", "-z", "--no-renames", *lent.pathspecs(among))
        return any(entry[1:2] != " " for entry in git.decode(status.out).split("\0") if entry)

    def _unknown(self, member: Member, seen: Difference) -> list[str]:
        """Lists the paths of which can't be told without git that what lies there was collected."""
        base, kept = (self.upkeep.objects.tree_of(commit) for commit in (member.base, member.kept))
        return seen.unknown(member.path, self.upkeep.objects.diff(base, kept))

    def _is_known(self, member: Member, work: Work) -> bool:
        """Tells whether all of it stands under a ref already: it is the base, or what was collected."""
        heads = {member.base, member.stood} if member.collected else {member.base}
        kept = self.upkeep.objects.tree_of(member.kept if member.collected else member.base)
        return work.head in heads and work.tree == kept and not (work.staged or work.others)

    def save_record(self, tree: LinkedTree, member: Member | None) -> str | None:
        """Saves what only the record of a worktree knows whose folder is gone, a member's or another's: where HEAD stood, what was
        staged."""
        if member is not None:
            self.take_home(member, tree, asked_again=False)
        head = tree.head()
        if self.saver is None or head is None or self.upkeep.objects.kind(head) != "commit":
            return None
        tree_of_head = self.upkeep.objects.tree_of(head)
        work = Work(head, linked.tree_of_index(tree) or tree_of_head)
        if member is not None and self._is_known(member, work):
            return None
        kept = work.tree == tree_of_head or git.is_tree_of_a_branch(self.upkeep.common, work.tree)
        if kept and git.is_on_a_branch(self.upkeep.common, head):
            return None
        owner = self._owner(member) if member is not None else owner_of_path(tree.path)
        return self.saver.keep(owner, work, where=tree.path, at=time.time()).branch

    def keep_commit(self, owner: Owner, commit: str, *, above: str, where: str, at: float) -> None:
        """Keeps a commit that `above` does not lead to, and that stood at the ref `where`; see `Saver.keep`. One that differs from
        `above` by its date alone is what was made of the same work before a kill."""
        asked = ("merge-base", "--is-ancestor", commit, above)
        if self.saver is None or git.run(*asked, git_dir=self.upkeep.common, ok=(0, 1)).code == 0:
            return
        if self._undated(commit) == self._undated(above):
            return
        work = Work(commit, self.upkeep.objects.tree_of(commit))
        self.saver.keep(owner, work, where=Path(where), at=at)

    def _undated(self, commit: str) -> tuple[object, ...]:
        facts = self.upkeep.objects.commit(commit)
        who = facts.author
        return facts.tree, facts.parents, facts.message, facts.encoding, who.name, who.email

    def _owner(self, member: Member) -> Owner:
        return Owner.of(member.last or f"worktree-{member.number}")


def _take_away_if_emptied(path: Path) -> None:
    """Removes a worktree of which only folders are left, without its `.git`: its worker has deleted it, as far as the sandbox lets
    it, which keeps the folder itself. So it is gone, and that is not the work of taking every file out of the project."""
    if not os.path.lexists(path / ".git") and _has_only_folders(path):
        linked.remove(path)


def _has_only_folders(path: Path, but: str = "") -> bool:
    """Tells whether no file is left in a folder and below, `but` for one at its top: bubblewrap holds on to a worktree's `.git`."""
    left = [path]
    try:
        while left:
            with os.scandir(folder := left.pop()) as entries:
                for entry in entries:
                    if folder == path and entry.name == but:
                        continue
                    if not entry.is_dir(follow_symlinks=False):
                        return False
                    left.append(Path(entry.path))
    except OSError:
        return False  # gone, or what can't be looked into
    return True

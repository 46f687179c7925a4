"""A warm pool of worktrees: take, give back, collect, make, tear down, and find what was left lying.

Hides that worktrees are reused. Making one costs as much as all its files; a used one costs what differs.
Nothing of one attempt may reach the next: the pool keeps its own copy of each member's index and cleans by
that, so whatever a worker did to the worktree's index, record or settings does not count. A member is
cleaned when it is given back, which nobody waits for, and moved to its new base when it is taken; one that
already stands there costs no git process. Rules for editing: the lease is a file, written whole before the
worktree is touched; a member in doubt is renamed aside and made anew rather than mended; folders without
our marker are never removed; the pool's lock is never held while git runs, the lock file only around git's
bookkeeping. One `Pool` per root, shared by threads.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from swarm.core.model import Cleaned, Finding
from swarm.crashpoints import crash_at
from swarm.edge import git, linked, secluded
from swarm.edge.follower import Follower
from swarm.edge.furnish import Furnishing
from swarm.edge.indexfile import Tracked, fingerprint
from swarm.edge.leases import Lease, Leases, Member, WorktreeEntry, hide_folder, number_of
from swarm.edge.leftovers import Collected, Collector, Lent, Work
from swarm.edge.linked import LinkedTree
from swarm.edge.lockfile import exclusive
from swarm.edge.saved import Aside, Owner, Saver, TooManySaved, owner_of_path
from swarm.edge.suite_rooms import NO_ROOMS, Rooms
from swarm.errors import SwarmError

__all__ = ["Collected", "Pool", "WorktreeEntry", "WorktreeFailed"]

TRASH = ".trash"
_RETIRING = "\0"  # the key of a member that is being removed, so that nobody is given it
RACY_S = 1.0  # git compares whole seconds: with an index no older than its files it looks into each of them


class WorktreeFailed(SwarmError):
    """The file system refused something in a worktree; its files and lease are as the next try needs them."""


class Pool:
    """The worktrees below `root`, linked to one repository. Every method may be called by several threads
    at once."""

    def __init__(
        self,
        repository: git.Repository | Path,
        root: Path,
        *,
        lock: Path,
        objects: git.Objects | None = None,
        source: Path | None = None,
        setup: str = "",
        copy: Sequence[str] = (),
        share: Sequence[str] = (),
        setup_timeout_s: float = 1800.0,
        user_config: bool = True,
        saves: bool = True,
        saved_refs_max: int = 1000,
        rooms: Rooms = NO_ROOMS,
    ) -> None:
        """Opens the pool at `root`, which need not exist; `repository` may be a bare git folder.

        `lock` guards git's bookkeeping against other processes. `copy` and `share` are paths in `source`
        (default: the repository's own top) that each worktree gets as copies and as links; `setup` is a
        shell command run in it, in its room of `rooms`. With `saves` false nothing is saved before it is removed: for checkouts
        that nobody works in. Raises UsageError for paths that leave `source`.
        """
        top = repository.top if isinstance(repository, git.Repository) else None
        common = repository.common_dir if isinstance(repository, git.Repository) else Path(repository)
        self.common = Path(os.path.realpath(common))
        self.root = Path(os.path.realpath(root))
        self.user_config = user_config
        self.objects = objects or git.Objects(self.common)
        self._owns_objects = objects is None
        self._lock = lock
        self._top = top
        self._saver = Saver(self.common, self.objects, saved_refs_max) if saves else None
        self.furnishing = Furnishing(source or top, setup, tuple(copy), tuple(share), setup_timeout_s, rooms)
        self._lent = Lent(self.furnishing.paths)
        self._follower = Follower(self.common, lock, self.objects, self._save_record, user_config)
        self._choosing = threading.Lock()
        self._leases = Leases(self.root, top)
        self.aside = Aside(self.root / ".kept", self.common)
        self._members = {member.number: member for member in self._leases.load()}
        for member in self._members.values():  # the repository may have been moved since
            member.admin = member.admin and self.common / "worktrees" / member.admin.name

    def close(self) -> None:
        """Ends the standing helper, if the pool started it."""
        if self._owns_objects:
            self.objects.close()

    # --- take and give back ---------------------------------------------------------------------------------

    def take(self, key: str, base: str) -> Path:
        """Leases a worktree to `key` that holds exactly `base`, detached, and what is copied, shared and
        set up.

        The same key gets the same worktree, prepared again. Raises GitError, OSError, WorktreeSetupFailed;
        the lease then stays, so that the next try mends it and `give_back` ends it.
        """
        member = self._choose(key, base)
        with member.lock, _explained(f"A worktree for {key} could not be prepared"):
            if not (member.at_base and member.swept and member.base == base and self._is_whole(member)):
                self._stand_at(member, base)
            member.collected = member.swept = member.at_base = False
            self._furnish(member)
            member.filling = False
            self._leases.save(member)
            crash_at("worktree.ready")
        return member.path

    def give_back(self, key: str, *, at: float | None = None) -> str | None:
        """Ends the lease of `key` and cleans the worktree for the next one. No process of the worker may be
        left.

        What is in it and was not collected is saved first; gives the branch that keeps it, or the folder where it
        lies where no branch can. A key that has no lease is no error.
        """
        member = self._by_key(key)
        if member is None:
            return None
        with member.lock, _explained(f"The worktree of {key} could not be taken back"):
            if member.key != key:
                return None
            place = self._put_away(member, at)
            crash_at("give-back.saved")
            member.key, member.ready, member.swept, member.collected = "", "", False, False
            member.since = time.time()
            self._leases.save(member)
            crash_at("give-back.freed")
            self._sweep_or_retire(member)
            crash_at("give-back.cleaned")
            if member.swept:
                member.since = time.time()
                self._leases.save(member)
        return place

    def seclude(self, key: str, *, in_place: bool = False, anew: bool = True) -> Path | None:
        """Makes a git folder of its own for the worktree of `key`, to stand in for the repository's before a worker that is shut
        in, see `secluded.make`; None where none can. No worker may be there yet, unless it need not be `anew`."""
        member = self._by_key(key)
        if member is None or not secluded.can_stand_in(self.common):
            return None
        with member.lock:
            if anew or not self._leases.git(member).is_dir():
                secluded.make(self._leases.git(member), self._tree(member), in_place=in_place)
        return self._leases.git(member)

    def changed(self, key: str) -> list[str]:
        """Lists the tracked paths that are no more as in the commit that the worktree of `key` was taken at, save those lent."""
        member = self._by_key(key)
        if member is None:
            return []
        lent = (f":(top,exclude,literal){path}" for path in self.furnishing.paths)
        asked = ("diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=all")
        found = self._tree(member).git(
            *asked, member.base, "--", ":/", *lent, index=self._leases.index(member)
        )
        return [path for path in git.decode(found.out).split("\0") if path]

    def collect(
        self, path: Path, base: str, *, key: str, message: str, identity: tuple[str, str] | None, at: float
    ) -> Collected:
        """Commits what the worker of `key` left at `path`, moving no ref; `at` (seconds since the epoch) dates the
        commit. What was only staged, or only named by an unfinished operation, gets a recovery ref.

        Collecting again gives the same. A state that can't be submitted is told in `problem`, not raised.
        """
        member = self._at(path, key, base)
        with member.lock, _explained(f"The work in {path} could not be collected"):
            tree = self._seated(member)
            if tree is None:
                if member.admin is not None and member.admin.is_dir():
                    self._take_home(member, self._tree(member))
                return Collected(base, 0, False, (), f"The worktree {member.path} is gone.")
            tree, note = self._relink_if_pruned(member, tree, base)
            note = self._take_home(member, tree) or note
            found = self._collector(member, tree, base, message, identity, at).collect()
            saver = self._saver
            kept = saver is None or saver.keep_besides(Owner.of(key), found.work, where=path, at=at)
            if kept:  # only now: what was staged in it is nowhere else before
                linked.copy_index(self._leases.work(member), tree.admin / "index")
            member.collected, member.kept = kept and not found.unread, found.head
            member.stood, member.seen = tree.head() or "", fingerprint(tree.admin / "index")
            self._leases.save(member)
            crash_at("collect.marked")
        return dataclasses.replace(found, problem=f"{note} {found.problem}".strip()) if note else found

    def _collector(
        self,
        member: Member,
        tree: LinkedTree,
        base: str,
        message: str,
        identity: tuple[str, str] | None,
        at: float,
    ) -> Collector:
        return Collector(
            tree=tree,
            objects=self.objects,
            base=base,
            trusted=self._leases.index(member),
            index=self._leases.work(member),
            aside=self._leases.folder / f"{member.number}.nested",
            lent=self._lent,
            message=message,
            identity=identity,
            at=at,
        )

    def spare(self, n: int, base: str) -> None:
        """Sees to it that `n` free members stand at `base`, warm. For idle moments; raises as `take` does."""
        for _ in range(n):
            with self._choosing:
                free = [m for m in self._members.values() if not m.key and not m.lock.locked()]
                there = [m for m in free if m.at_base and m.base == base]
                behind = [m for m in free if m not in there]
                member = None if len(there) >= n else (behind[0] if behind else self._new_member())
            if member is None:
                break
            self._stand_free_at(member, base)
        self._warm()

    # --- looking after the pool -----------------------------------------------------------------------------

    def members(self) -> list[WorktreeEntry]:
        """Lists the members by number."""
        return [self._entry(member) for member in self._sorted() if member.path.is_dir()]

    def leases(self) -> list[Lease]:
        """Lists the members by number as they were recorded, whatever has become of them. Looks only."""
        return [Lease(member.path, member.key, self._is_whole(member)) for member in self._sorted()]

    def strangers(self) -> list[Path]:
        """Lists the folders where members lie that nothing says anything of."""
        return self._leases.strangers({member.path for member in self._sorted()})

    def teardown(self, path: Path) -> None:
        """Removes the member at `path`, folder and record, saving what is in it; one that is gone is no
        error."""
        with self._choosing:
            member = self._members.get(number_of(path)) if Path(path).parent == self.root else None
            if member is not None:
                member.key = _RETIRING
        if member is not None:
            self._remove(member)

    def trim(self, keep: int) -> int:
        """Removes free members beyond `keep`; gives how many went."""
        with self._choosing:
            free = sorted((m for m in self._members.values() if not m.key), key=lambda m: m.number)[keep:]
            for member in free:
                member.key = _RETIRING
        for member in free:
            self._remove(member)
        return len(free)

    def _remove(self, member: Member) -> str | None:
        """Removes a member for good; gives where what lay in it is kept, if anything did."""
        with member.lock:
            place = self._put_away(member)
            self._retire(member)
        with self._choosing:
            self._members.pop(member.number, None)
        return place

    def sweep(
        self,
        *,
        leases: Mapping[str, tuple[Path, str]] | None = None,
        alone: bool = False,
        dry_run: bool = False,
    ) -> list[Finding]:
        """Looks for what killed calls left and people moved, deleted or pruned, and mends it; with `dry_run` only
        says what.

        `leases` says who must have which worktree, from which base. `alone` says that nobody else takes any
        meanwhile, so that what anybody else has is given back.
        """
        found = self._sweep_trash(dry_run)
        if not dry_run:
            self._sweep_drafts()
        for tree in self._records():
            found += self._sweep_record(tree, dry_run)
        for key, (path, base) in (leases or {}).items():
            found += self._sweep_lease(key, path, base, dry_run)
        for member in self._sorted():
            if alone and leases is not None and member.key and member.key not in leases:
                found.append(self._free(member, dry_run))
            if not (member.key or dry_run or self._is_whole(member)):
                self.teardown(member.path)  # gone, or half made when its maker was killed
        expected = {path for path, _ in (leases or {}).values()}
        found += [
            Finding("worktree", f"nothing says whose {path} is")
            for path in self.strangers()
            if path not in expected
        ]
        return found

    def _sweep_drafts(self) -> None:
        """Removes what killed calls were writing; nobody ever read it."""
        with exclusive(self._lock) as held:
            linked.sweep_drafts(self.common, lock=held)
        for number, draft in self._leases.drafts():
            member = self._members.get(number)
            with member.lock if member is not None else nullcontext():
                linked.remove(draft)

    def _sweep_trash(self, dry_run: bool) -> list[Finding]:
        trash = self.root / TRASH
        if not (trash.is_dir() and any(trash.iterdir())):
            return []
        if not dry_run:
            _remove_quietly(trash)
        text = f"a removal was cut short in {trash}"
        return [Finding("worktree", text, "what is left of it is removed", not dry_run)]

    def _records(self) -> list[LinkedTree]:
        """Lists the records of our worktrees below the folder that holds the pool."""
        trees = linked.records(self.common, user_config=self.user_config)
        return [tree for tree in trees if tree.path.is_relative_to(self.root.parent)]

    def _sweep_record(self, tree: LinkedTree, dry_run: bool) -> list[Finding]:
        there = self._seat(tree)
        if there == tree.path:
            return []
        if there is None:
            place = None if dry_run else self._save_record(tree)
            if not dry_run:
                with exclusive(self._lock) as held:
                    linked.unlink(tree, lock=held)
            remedy = "the record is removed" + (f", what only it knew is kept on {place}" if place else "")
            return [
                Finding("worktree", f"git has a record of {tree.path}, which is gone", remedy, not dry_run)
            ]
        text = f"the worktree {tree.path} was moved to {there}"
        with self._choosing:
            member = next((m for m in self._members.values() if m.admin == tree.admin), None)
        if member is not None and member.key:
            return [Finding("worktree", f"{text}; the work in it is collected from there")]
        if not dry_run:
            self._disown(tree, there, member)
        return [
            Finding("worktree", text, "it is left there, and is no worktree of swarm's any more", not dry_run)
        ]

    def _disown(self, tree: LinkedTree, there: Path, member: Member | None) -> None:
        with exclusive(self._lock) as held:
            linked.disown(tree, there, lock=held)
        if member is not None:
            member.admin = None
            self._leases.forget(member)
            with self._choosing:
                self._members.pop(member.number, None)

    def _sweep_lease(self, key: str, path: Path, base: str, dry_run: bool) -> list[Finding]:
        """Sees to it that the worktree of a lease that the journal knows is known here, and to git."""
        if path.parent != self.root or not path.is_dir():
            return []  # gone altogether: its work can only be missed when it is collected
        with self._choosing:
            member = self._members.get(number_of(path))
        if member is None:
            text = f"the lease of {path} was lost; it is {key}'s"
            if not dry_run:
                self._at(path, key, base)
                self._leases.save(self._members[number_of(path)])
            return [Finding("worktree", text, "the lease is written anew", not dry_run)]
        tree = self._seated(member)
        if member.key != key or tree is None or tree.is_linked():
            return []
        if not dry_run:
            with member.lock:
                self._relink_if_pruned(member, tree, base)
        return [
            Finding(
                "worktree",
                f"git has no record of {path} any more",
                "it gets one; its files stay",
                not dry_run,
            )
        ]

    def _free(self, member: Member, dry_run: bool) -> Finding:
        text = f"{member.path} was still leased to {member.key}, which has ended"
        if dry_run:
            return Finding("worktree", text, "what lies in it is saved, and it is free again")
        try:
            place = self.give_back(member.key)
        except (SwarmError, OSError) as problem:
            return Finding("worktree", f"{text}; what lies in it can't be saved: {problem}")
        remedy = "it is free again" + (f", what lay in it is kept on {place}" if place else "")
        return Finding("worktree", text, remedy, True)

    def clean(self, ended: Collection[str], *, force: bool) -> list[Cleaned]:
        """Removes what nobody has: free members and those that were kept for attempts that have `ended`.

        One with changes that are nowhere else is left, unless `force`: then they are saved first.
        """
        done = []
        for member in self._sorted():
            key = member.key
            if key and key not in ended:
                continue
            with member.lock:
                tree = self._seated(member)
                dirty = tree is not None and tree.path == member.path and self._is_dirty(member, tree)
            if dirty and not force:
                done.append(Cleaned(str(member.path), False, "it has changes that are nowhere else"))
                continue
            place = self.give_back(key) if key else None
            with self._choosing:
                ours = not member.key
                member.key = _RETIRING if ours else member.key
            if ours:
                place = self._remove(member) or place
                done.append(Cleaned(str(member.path), True, saved=place or ""))
        return done

    def _is_dirty(self, member: Member, tree: LinkedTree) -> bool:
        """Tells whether there may be something in a member that stands nowhere else. In a free one that is what came after it
        was cleaned: the files that it still has are those of work that was put away."""
        if member.collected:
            return self._is_changed(member, tree)
        shut_in = self._leases.git(member).is_dir()
        return not member.swept or shut_in or linked.is_touched(tree.path, member.since)

    def drop(self, run: str) -> None:
        """Gives back what attempts of a run still have, and removes what was set aside of it, for good."""
        for member in self._sorted():
            if Owner.of(member.key).run == run and member.key:
                self.give_back(member.key)
        self.aside.drop(run)

    @property
    def trash(self) -> Path:
        """Where what is being removed lies for a moment; swept at every start."""
        return self.root / TRASH

    # --- the staging worktree -------------------------------------------------------------------------------

    def prepare_staging(self, path: Path, commit: str) -> None:
        """Makes the staging worktree at `path`, detached at `commit`; see `Follower.prepare`."""
        self._hide_staging(path)
        self._follower.prepare(path, commit)

    def _hide_staging(self, path: Path) -> None:
        if self._top is not None and path.is_relative_to(self._top) and path.parent.parent != self._top:
            hide_folder(path.parent.parent)
            hide_folder(path.parent)

    def mend_staging(self, path: Path, commit: str, going_to: str, *, dry_run: bool = False) -> list[Finding]:
        """Looks whether the staging worktree stands where it should, and makes one that is gone again; see `Follower.look`."""
        text, remedy = self._follower.look(path, commit, going_to)
        if remedy and not dry_run:
            self.prepare_staging(path, commit)
        return [Finding("staging", text, remedy, bool(remedy) and not dry_run)] if text else []

    def follow(self, path: Path, old: str, new: str, by_hand: Collection[str] = ()) -> str:
        """Moves the staging worktree from `old` to `new`; gives "" or why it was left, see `Follower.follow`."""
        self._hide_staging(path)  # all of it may have been deleted since
        return self._follower.follow(path, old, new, by_hand)

    # --- choosing -------------------------------------------------------------------------------------------

    def _choose(self, key: str, base: str) -> Member:
        with self._choosing:
            member = next((m for m in self._members.values() if m.key == key), None)
            if member is None:
                free = [m for m in self._members.values() if not m.key]
                member = min(free, key=lambda m: _cost(m, base)) if free else self._new_member()
            member.key = member.last = key
            member.since = time.time()
            return member

    def _new_member(self) -> Member:
        number = 1
        while number in self._members or os.path.lexists(self.root / str(number)):
            number += 1
        member = self._members[number] = Member(number, self.root / str(number))
        return member

    def _by_key(self, key: str) -> Member | None:
        with self._choosing:
            return next((m for m in self._members.values() if m.key == key and key), None)

    def _at(self, path: Path, key: str, base: str) -> Member:
        """Gives the member at `path`; one whose lease was lost is taken for `key`'s, since the caller knows it to be."""
        number = number_of(path)
        with self._choosing:
            member = self._members.get(number) if path.parent == self.root else None
            if member is None and path.parent == self.root and number:
                found = linked.find(path, self.common)
                admin = found.admin if found else self.common / "worktrees" / f"swarm-{number}-lost"
                member = Member(number, path, admin=admin, key=key, last=key, base=base, since=time.time())
                self._members[number] = member
        if member is None:
            raise SwarmError(f"{path} is no worktree of the pool at {self.root}.")
        return member

    def _sorted(self) -> list[Member]:
        with self._choosing:
            return sorted(self._members.values(), key=lambda member: member.number)

    # --- one member's files; its lock is held ---------------------------------------------------------------

    def _stand_at(self, member: Member, base: str) -> None:
        """Brings a member to `base`, anew where the old one refuses."""
        member.at_base, member.ready = False, ""
        member.swept = member.swept and not self.furnishing.furnishes
        member.filling = True
        self._leases.save(member)  # from here on a crash leaves a lease whose files are not to be believed
        crash_at("worktree.leased")
        if self._is_whole(member):
            try:
                self._clean(member)
                self._checkout(member, base)
                return
            except (git.GitError, OSError, ValueError):
                if self.objects.kind(base) != "commit":
                    raise
        self._retire(member)
        self._make(member, base)
        self._checkout(member, base)
        member.swept = member.cold = True

    def _make(self, member: Member, base: str) -> None:
        self._leases.hide()
        self._leases.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._leases.save(member)  # before there is a folder that a crash would leave to nobody
        with exclusive(self._lock) as held:
            name = f"swarm-{member.number}"
            tree = linked.link(member.path, name, self.common, base, user_config=self.user_config, lock=held)
        member.admin, member.base = tree.admin, base
        self._leases.save(member)

    def _clean(self, member: Member) -> None:
        """Removes all but tracked files, and all that git keeps besides."""
        if member.swept:
            return
        self._tree(member).purge(member.base)
        linked.remove(Path(f"{self._leases.index(member)}.lock"))
        tracked = Tracked(self._leases.index(member).read_bytes(), oid_bytes=len(member.base) // 2)
        linked.remove_untracked(member.path, tracked)
        member.swept = True

    def _checkout(self, member: Member, base: str) -> None:
        """Moves tracked files to `base` by our own index, whose copy the worker gets."""
        tree, index = self._tree(member), self._leases.index(member)
        tree.git("checkout", "-q", "-f", "--detach", base, index=index)
        if member.base != base and self._attributes_changed(member.base, base):
            linked.remove(index)  # git leaves files as they are whose content is the same, but not its form
            tree.git("checkout", "-q", "-f", "--detach", base, index=index)
        crash_at("worktree.filled")
        linked.copy_index(index, tree.admin / "index")
        member.base, member.at_base = base, True

    def _attributes_changed(self, old: str, new: str) -> bool:
        changed = self.objects.changed_paths(old, new)
        return any(path.rpartition("/")[2] == ".gitattributes" for path in changed)

    def _furnish(self, member: Member) -> None:
        tree = self._tree(member)
        self.furnishing.lend(tree.path)
        if self.furnishing.setup and self.furnishing.setup != member.ready:
            self.furnishing.run_setup(tree, self._leases.folder / f"{member.number}.setup.log")
            member.ready = self.furnishing.setup

    def _sweep_or_retire(self, member: Member) -> None:
        """Cleans a member that was given back; one that can't be cleaned is put aside, and made anew when
        taken."""
        if not self._is_whole(member):
            self._retire(member)
            return
        try:
            self._clean(member)
        except (git.GitError, OSError, ValueError):
            self._retire(member)

    def _retire(self, member: Member) -> None:
        """Puts folder, record and index of a member out of the way, in this order, then deletes them.
        Idempotent."""
        aside = self.root / TRASH / secrets.token_hex(6)
        member.at_base, member.swept, member.ready = False, False, ""
        if os.path.lexists(member.path):
            aside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.rename(member.path, aside)
        crash_at("teardown.moved")
        with exclusive(self._lock) as held:
            for admin in self._admins(member):
                tree = LinkedTree(member.path, admin, self.common)
                there = linked.seat(tree)
                if there is None:
                    linked.unlink(tree, lock=held)
                else:
                    linked.disown(tree, there, lock=held)
        crash_at("teardown.unlinked")
        member.admin = None
        self._leases.forget(member)
        crash_at("teardown.forgotten")
        _remove_quietly(aside)

    def _admins(self, member: Member) -> list[Path]:
        """Lists the records that are this member's, also one that was made just before a crash."""
        found = linked.find(member.path, self.common)
        return [admin for admin in {member.admin, found.admin if found else None} if admin is not None]

    # --- nothing is lost of what goes; the member's lock is held --------------------------------------------

    def _seat(self, tree: LinkedTree) -> Path | None:
        """Says where the folder of a record is, also where it was moved below our own folder without git's knowledge."""
        there = linked.seat(tree)
        if there is not None or not self.root.parent.is_dir():
            return there
        above = [path for path in self.root.parent.iterdir() if path.is_dir() and not path.is_symlink()]
        near = [*above, *(path for folder in above if folder != self.root for path in folder.iterdir())]
        near += self.root.iterdir() if self.root.is_dir() else []
        return next((path for path in near if linked.points_to(path) == tree.admin), None)

    def _seated(self, member: Member) -> LinkedTree | None:
        """Gives the member's worktree where it is now, None where it is gone."""
        if member.admin is None:
            return None
        tree = self._tree(member)
        there = self._seat(tree)
        return dataclasses.replace(tree, path=there) if there is not None and there.is_dir() else None

    def _take_home(self, member: Member, tree: LinkedTree) -> str:
        """Takes over what a worker that was shut in did with git; says so where git refuses it, which is then kept aside."""
        try:
            secluded.come_home(self._leases.git(member), tree, self.objects)
        except git.GitError as problem:
            if problem.errno is not None or isinstance(problem, git.GitTimedOut):
                raise
            place = self.aside.put(self._leases.git(member), self._owner(member), str(problem))
            return f"What the worker did with git can't be taken over and is kept in {place}: {problem.cause}"
        return ""

    def _relink_if_pruned(self, member: Member, tree: LinkedTree, base: str) -> tuple[LinkedTree, str]:
        """Gives a worktree whose record was pruned behind our back a new one; says so in a sentence."""
        if (tree.admin / "HEAD").exists():
            return tree, ""
        with exclusive(self._lock) as held:
            tree = linked.relink(tree, base, lock=held)
        member.admin = tree.admin
        if self._leases.index(member).exists() and member.base == base:
            linked.copy_index(self._leases.index(member), tree.admin / "index")
        self._leases.save(member)
        note = "git's record of the worktree had been removed; commits made in it may not be among these."
        return tree, note

    def _put_away(self, member: Member, at: float | None = None) -> str | None:
        """Sees to it that nothing in a member is lost by what comes next; gives the branch that keeps it, or the folder
        in which it lies, or None where there was nothing. What a person moved somewhere else is theirs from now on."""
        tree = self._seated(member)
        if self._saver is None:
            linked.remove(self._leases.git(member))
        if self._saver is None or tree is None or member.filling:
            return None
        place = None
        if self._is_dirty(member, tree):
            place = self._save_work(self._saver, member, tree, member.since if at is None else at)
        if tree.path != member.path and tree.path.exists():
            self._disown(tree, tree.path, None)
            member.admin = None
        return place

    def _save_work(self, saver: Saver, member: Member, tree: LinkedTree, at: float) -> str | None:
        tree, _ = self._relink_if_pruned(member, tree, member.base)
        self._take_home(member, tree)
        collector = self._collector(member, tree, member.base, "Work found in the worktree", None, at)
        found = collector.collect()
        if found.work is None or (self._is_known(member, found.work) and not found.unread):
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
        staged = found.work.staged
        return self.aside.put(tree.path, self._owner(member), why, staged=staged)

    def _is_changed(self, member: Member, tree: LinkedTree) -> bool:
        """Tells whether something was written after the work was collected."""
        if tree.head() != member.stood or fingerprint(tree.admin / "index") != member.seen:
            return True
        status = tree.git("status", "--porcelain", "-z", "--no-renames", *self._lent.pathspecs())
        return any(entry[1:2] != " " for entry in git.decode(status.out).split("\0") if entry)

    def _is_known(self, member: Member, work: Work) -> bool:
        """Tells whether all of it stands under a ref already: it is the base, or what was collected."""
        heads = {member.base, member.stood} if member.collected else {member.base}
        kept = self.objects.tree_of(member.kept if member.collected else member.base)
        return work.head in heads and work.tree == kept and not (work.staged or work.others)

    def _save_record(self, tree: LinkedTree) -> str | None:
        """Saves what only the record of a worktree knows whose folder is gone: where HEAD stood, what was staged."""
        with self._choosing:
            member = next((m for m in self._members.values() if m.path == tree.path), None)
        if member is not None:
            self._take_home(member, tree)
        head = tree.head()
        if self._saver is None or head is None or self.objects.kind(head) != "commit":
            return None
        tree_of_head = self.objects.tree_of(head)
        work = Work(head, linked.tree_of_index(tree) or tree_of_head)
        if member is not None and self._is_known(member, work):
            return None
        kept = work.tree == tree_of_head or git.is_tree_of_a_branch(self.common, work.tree)
        if kept and git.is_on_a_branch(self.common, head):
            return None
        owner = self._owner(member) if member is not None else owner_of_path(tree.path)
        return self._saver.keep(owner, work, where=tree.path, at=time.time()).branch

    def _owner(self, member: Member) -> Owner:
        return Owner.of(member.last or f"worktree-{member.number}")

    def _stand_free_at(self, member: Member, base: str) -> None:
        with member.lock, _explained("A spare worktree could not be prepared"):
            if not member.key:
                self._stand_at(member, base)
                self._furnish(member)
                member.filling = False
                member.since = time.time()
                self._leases.save(member)

    def _warm(self) -> None:
        """Has git write the index of new members again, a second later than their files."""
        for member in self._sorted():
            if member.cold and member.at_base and not member.key and member.lock.acquire(blocking=False):
                try:
                    index = self._leases.index(member)
                    if time.time() - os.stat(index).st_mtime > RACY_S and not member.key:
                        self._checkout(member, member.base)
                        member.cold = False
                finally:
                    member.lock.release()

    def _entry(self, member: Member) -> WorktreeEntry:
        admin = member.admin  # once: the member's lock is not held, and it may be retired meanwhile
        tree = LinkedTree(member.path, admin, self.common, self.user_config) if admin is not None else None
        head = tree.head() if tree is not None and tree.is_linked() else None
        age_s = max(0.0, time.time() - member.since)
        return WorktreeEntry(member.path, member.key, head, age_s, self._leases.index(member))

    # --- the pool's own files -------------------------------------------------------------------------------

    def _is_whole(self, member: Member) -> bool:
        return (
            member.admin is not None
            and self._tree(member).is_linked()
            and self._leases.index(member).exists()
        )

    def _tree(self, member: Member) -> LinkedTree:
        assert member.admin is not None
        return LinkedTree(member.path, member.admin, self.common, self.user_config)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        step = (
            "make room on that disk" if problem.errno in (errno.ENOSPC, errno.EDQUOT) else "see to that path"
        )
        raise WorktreeFailed(f"{what}: {problem}.", "What was in it is still there.", step) from problem


def _cost(member: Member, base: str) -> tuple[bool, bool, bool, int]:
    """Orders free members: those at the base first, then clean ones, then any; low numbers before high
    ones."""
    there = member.at_base and member.base == base
    return (not there, not member.swept, member.admin is None, member.number)


def _remove_quietly(path: Path) -> None:
    """Deletes what was put aside; what can't be deleted (files of another user) is met again by `sweep`."""
    try:
        linked.remove(path)
    except OSError:
        pass

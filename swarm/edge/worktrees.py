"""A warm pool of worktrees: who has which, for how long, and what becomes of those that nobody has.

Hides that worktrees are reused. Making one costs as much as all its files; a used one costs what differs.
Nothing of one attempt may reach the next. A member is cleaned when it is given back, which nobody waits for,
and moved to its new base when it is taken; one that already stands there costs no git process. How that is
done to its files is in `upkeep`, how nothing that lies in them is lost in `keeping`; both are called with the
member's lock held. Rules for editing: the lease is a file, written whole before the worktree is touched;
folders without our marker are never removed; the pool's lock is never held while git runs, the lock file only
around git's bookkeeping. One `Pool` per root, shared by threads.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from swarm.core.model import Cleaned, Finding
from swarm.core.reclaiming import Reclaimable
from swarm.crashpoints import crash_at
from swarm.edge import git, ground, ignored, linked, regenerable, secluded, survey
from swarm.edge.follower import Follower
from swarm.edge.furnish import USUAL, Bounds, Furnishing
from swarm.edge.keeping import Keeper
from swarm.edge.leases import Lease, Leases, Member, WorktreeEntry, hide_folder, hide_root, number_of
from swarm.edge.leftovers import Collected, Lent
from swarm.edge.linked import LinkedTree
from swarm.edge.lockfile import exclusive
from swarm.edge.saved import Aside, Owner, Saver
from swarm.edge.suite_rooms import NO_ROOMS, Rooms
from swarm.edge.upkeep import Upkeep
from swarm.errors import Refused, SwarmError

__all__ = ["Collected", "Pool", "WorktreeEntry", "WorktreeFailed"]

_RETIRING = "\0"  # the key of a member that is being removed, so that nobody is given it


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
        setup_bounds: Bounds = USUAL,
        user_config: bool = True,
        saves: bool = True,
        saved_refs_max: int = 1000,
        added_bytes_max: int = 0,
        rooms: Rooms = NO_ROOMS,
        home: git.Repository | None = None,
    ) -> None:
        """Opens the pool at `root`, which need not exist; `repository` may be a bare git folder.

        `lock` guards git's bookkeeping against other processes. `copy` and `share` are paths in `source`
        (default: the repository's own top) that each worktree gets as copies and as links; `setup` is a
        shell command run in it, in its room of `rooms`, which resolves relative addresses as `home` does. With `saves` false
        nothing is saved before it is removed: for checkouts that nobody works in. Of the files of one worktree at most
        `added_bytes_max` bytes go into commits, 0 for any size; one with more is kept as it lies. Raises UsageError for paths that
        leave `source`.
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
        lent = (tuple(copy), tuple(share))
        self.furnishing = Furnishing(source or top, setup, *lent, setup_bounds, rooms, home)
        self._follower = Follower(self.common, lock, self.objects, self._save_record, user_config)
        self._choosing = threading.Lock()
        self._staging: dict[
            Path, threading.RLock
        ] = {}  # held by who makes or moves the staging worktree there
        self._readers: dict[str, git.Reader] = {}  # of what is being collected, by key
        self._leases = Leases(self.root, top or source)
        self._upkeep = Upkeep(
            self.common, self.root, lock, self.objects, self._leases, self.furnishing, user_config
        )
        self.aside = Aside(self.root / ".kept", self.common)
        saver = Saver(self.common, self.objects, saved_refs_max) if saves else None
        self._keeper = Keeper(self._upkeep, saver, self.aside, added_bytes_max)
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
            if not (member.at_base and member.swept and member.base == base and self._upkeep.is_fit(member)):
                self._upkeep.stand_at(member, base)
            member.collected = member.swept = member.at_base = False
            member.off, member.refused, member.refusals, member.given_up = None, "", 0, False
            self._upkeep.furnish(member)
            member.filling = False
            self._leases.save(member)
            crash_at("worktree.ready")
        return member.path

    def give_back(self, key: str, *, at: float | None = None) -> str | None:
        """Ends the lease of `key` and cleans the worktree for the next one. No process of the worker may be
        left.

        What is in it and was not collected is saved first; gives the branch that keeps it, or the folder where it
        lies where no branch can. A key that has no lease is no error: what was set aside of it is told.
        """
        member = self._by_key(key)
        if member is None:
            return self.aside.of_owner(Owner.of(key))
        with member.lock, _explained(f"The worktree of {key} could not be taken back"):
            if member.key != key:
                return None
            seen = self._keeper.look(member)
            place = self._keeper.put_away(member, at, seen)
            crash_at("give-back.saved")
            member.key, member.ready, member.swept, member.collected = "", "", False, False
            member.since = time.time()
            self._leases.save(member)
            crash_at("give-back.freed")
            self._upkeep.sweep_or_retire(member, seen if place is None else None)
            crash_at("give-back.cleaned")
            if member.swept:
                member.since = time.time()
                self._leases.save(member)
        return place or self.aside.of_owner(Owner.of(key))

    def keep_commit(self, key: str, commit: str, *, above: str, where: str, at: float) -> None:
        """Keeps a commit on which `where`, a ref of the attempt of `key`, stood and that `above` does not lead to. Raises
        `TooManySaved`, GitError, OSError."""
        self._keeper.keep_commit(Owner.of(key), commit, above=above, where=where, at=at)

    def give_up(self, key: str) -> None:
        """Notes that what the worker of `key` left can't be collected, whatever is tried. Raises OSError, and `Refused`
        where something of the user's has taken the place of the pool."""
        member = self._by_key(key)
        if member is not None:
            with member.lock:
                member.given_up = True
                self._leases.save(member)

    def is_given_up(self, key: str) -> bool:
        """Tells whether `give_up` was called of what `key` still has."""
        member = self._by_key(key)
        return member is not None and member.given_up

    def held(self, run: str, but: Collection[str]) -> list[tuple[str, Path]]:
        """Lists, with who has it, each worktree that attempts of a run other than `but` still have, in which something lies that
        stands nowhere else. What git can't read counts."""
        found = []
        for member in self._sorted():
            key = member.key
            if Owner.of(key).run == run and key not in but:
                with member.lock:
                    if member.key == key and self._keeper.holds(member):
                        found.append((key, member.path))
        return found

    def set_aside(self, key: str, why: str) -> str | None:
        """Ends the lease of `key` where `give_back` can't, whatever is tried: the folder is kept whole, what git knows of it in a
        recovery ref; gives where it lies, None where there is nothing to keep. Raises GitError, OSError: then it stays leased."""
        member = self._by_key(key)
        if member is None:
            return None
        with member.lock:
            if member.key != key:
                return None
            place = self._keeper.set_aside(member, why)
            member.key, member.collected = "", False
            self._upkeep.retire(member)
        return place

    def seclude(self, key: str, *, in_place: bool = True, anew: bool = True) -> Path | None:
        """Makes a git folder of its own for the worktree of `key`, to stand in for the repository's before a worker that is shut
        in, see `secluded.make`; None where none can. No worker may be there yet, unless it need not be `anew`."""
        member = self._by_key(key)
        if member is None or not secluded.can_stand_in(self.common):
            return None
        with member.lock:
            if anew or not self._leases.git(member).is_dir():
                secluded.make(self._leases.git(member), self._upkeep.tree(member), in_place=in_place)
        return self._leases.git(member)

    def own(self, key: str) -> Path | None:
        """Gives a place for what belongs beside the worktree of `key`, and goes with its lease; None where it has none. Nothing is
        made there, and its path is short."""
        member = self._by_key(key)
        return None if member is None else self._leases.own(member)

    def changed(self, key: str) -> list[str]:
        """Lists the tracked paths that are no more as in the commit that the worktree of `key` was taken at, save those lent; all
        of them where it is lost."""
        member = self._by_key(key)
        if member is None:
            return []
        if self._is_lost(member):
            asked = ("ls-tree", "-r", "--name-only", "-z", "--full-tree", member.base)
            found = git.run(*asked, git_dir=self.common)
        else:
            lent = (f":(top,exclude,literal){path}" for path in self._upkeep.lent(member.base))
            asked = ("diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=all")
            tree = self._upkeep.tree(member)
            tree.mend_head(member.base)
            found = tree.git(*asked, member.base, "--", ":/", *lent, index=self._leases.index(member))
        return [path for path in git.decode(found.out).split("\0") if path]

    def is_lost(self, key: str) -> bool:
        """Tells whether the worktree of `key` is none any more: deleted, or moved, or its record gone from the repository."""
        member = self._by_key(key)
        return member is not None and self._is_lost(member)

    def _is_lost(self, member: Member) -> bool:
        tree = self._upkeep.tree(member)
        with suppress(FileNotFoundError, NotADirectoryError):
            linked.give_rights_back(os.fsencode(member.path))
        return not tree.is_linked()

    def collect(
        self, path: Path, base: str, *, key: str, message: str, identity: tuple[str, str] | None, at: float
    ) -> Collected:
        """Commits what the worker of `key` left at `path`, moving no ref; `at` (seconds since the epoch) dates the
        commit. What was only staged, or only named by an unfinished operation, gets a recovery ref.

        Collecting again gives the same. A state that can't be submitted is told in `problem`, not raised.
        """
        member = self._at(path, key, base)
        with (
            self._reading(key) as reader,
            member.lock,
            _explained(f"The work in {path} could not be collected"),
        ):
            return self._keeper.collect(
                member, base, key=key, where=path, message=message, identity=identity, at=at, reader=reader
            )

    def ignored(self, path: Path, base: str, *, key: str, after_ns: int) -> tuple[str, ...]:
        """Lists the first files at `path` that git ignores and that the worker of `key` has changed, after `after_ns`; see
        `ignored.changed`. Raises GitError and OSError."""
        member = self._at(path, key, base)
        with member.lock:
            tree = self._upkeep.tree(member)
            lent = Lent(self._upkeep.lent(base))
            return ignored.changed(tree, lent, index=self._leases.index(member), after_ns=after_ns)

    @contextmanager
    def _reading(self, key: str) -> Iterator[git.Reader]:
        reader = self._readers[key] = git.Reader()
        try:
            yield reader
        finally:
            self._readers.pop(key, None)

    def read_no_more(self, key: str) -> None:
        """Has a `collect` under way of what `key` left come to its end without all that is not committed: `give_back` saves it."""
        reader = self._readers.get(key)
        if reader is not None:
            reader.end()

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
        return [Lease(member.path, member.key, self._upkeep.is_whole(member)) for member in self._sorted()]

    def strangers(self) -> list[Path]:
        """Lists the folders where members lie that nothing says anything of."""
        return self._leases.strangers({member.path for member in self._sorted()})

    def teardown(self, path: Path) -> None:
        """Removes the member at `path`, folder and record, saving what is in it; one that is gone is no
        error."""
        with self._choosing:
            member = self._members.get(number_of(path)) if Path(path).parent == self.root else None
            if member is not None:
                key, member.key = member.key, _RETIRING
        if member is not None:
            self._remove(member, back=key)

    def trim(self, keep: int) -> int:
        """Removes free members beyond `keep`; gives how many went."""
        with self._choosing:
            free = sorted((m for m in self._members.values() if not m.key), key=lambda m: m.number)[keep:]
        gone = 0
        for member in free:
            if self._withdraw(member):
                self._remove(member)
                gone += 1
        return gone

    def reclaimable(self, ended: Collection[str], names: Collection[str]) -> list[Reclaimable]:
        """Lists what can be made again of what nobody works in: free members as they are, and the folders of these `names` in
        those that were kept for attempts that have `ended`. A member that is busy, or can't be looked at, has none."""
        found: list[Reclaimable] = []
        for member in self._sorted():
            if member.lock.acquire(blocking=False):
                try:
                    found += self._held(member, ended, names)
                finally:
                    member.lock.release()
        return found

    def _held(self, member: Member, ended: Collection[str], names: Collection[str]) -> list[Reclaimable]:
        if member.key and member.key not in ended:
            return []
        try:
            if not self._upkeep.is_whole(member):
                return []
            if not member.key:
                return [Reclaimable(str(member.path), member.since, survey.size(str(member.path))[0])]
            found = regenerable.find(self._upkeep.tree(member), names, ours=self._leases.index(member))
        except (git.GitError, OSError):
            return []
        return [Reclaimable(str(path), member.since, size_bytes) for path, size_bytes in found]

    def reclaim(self, found: Reclaimable, ended: Collection[str], names: Collection[str]) -> bool:
        """Removes what `reclaimable` listed, if it still may go; tells whether it did. Raises GitError, OSError."""
        path = Path(found.path)
        with self._choosing:
            member = next((m for m in self._members.values() if path.is_relative_to(m.path)), None)
        if member is None:
            return False
        if path == member.path:
            if free := self._withdraw(member):
                self._remove(member)
            return free
        with member.lock:
            if path not in [Path(each.path) for each in self._held(member, ended, names)]:
                return False
            self._upkeep.discard(path)
        return True

    def _withdraw(self, member: Member) -> bool:
        """Sees to it that nobody is given a free member any more, which is then to be removed; tells whether it was free."""
        with self._choosing:
            free = not member.key
            member.key = member.key or _RETIRING
        return free

    def _remove(self, member: Member, *, back: str = "") -> str | None:
        """Removes a member for good; gives where what lay in it is kept, if anything did. Where that fails it is
        `back`'s again, "" for nobody's, and the next try finds what is left of it."""
        try:
            with member.lock:
                place = self._keeper.put_away(member)
                self._upkeep.retire(member)
        except BaseException:
            member.key = back
            raise
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
        found = self._upkeep.sweep_trash(dry_run=dry_run)
        if not dry_run:
            self._sweep_drafts()
            with suppress(Refused):  # then a run is refused, which says why
                if self._members:
                    self._leases.hide()
        for tree in self._records():
            found += self._sweep_record(tree, dry_run)
        for key, (path, base) in (leases or {}).items():
            found += self._sweep_lease(key, path, base, dry_run)
        for member in self._sorted():
            if alone and leases is not None and member.key and member.key not in leases:
                found.append(self._free(member, dry_run))
            if not (member.key or dry_run or self._upkeep.is_whole(member)) and self._withdraw(member):
                self._remove(member)  # gone, or half made when its maker was killed
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

    def _records(self) -> list[LinkedTree]:
        """Lists the records of our worktrees below the folder that holds the pool."""
        trees = linked.records(self.common, user_config=self.user_config)
        return [tree for tree in trees if linked.place_of(tree.path).is_relative_to(self.root.parent)]

    def _sweep_record(self, tree: LinkedTree, dry_run: bool) -> list[Finding]:
        there = self._upkeep.seat(tree)
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
        if member is not None and (member.key if dry_run else not self._withdraw(member)):
            return [Finding("worktree", f"{text}; the work in it is collected from there")]
        if not dry_run:
            self._disown(tree, there, member)
        return [
            Finding("worktree", text, "it is left there, and is no worktree of swarm's any more", not dry_run)
        ]

    def _disown(self, tree: LinkedTree, there: Path, member: Member | None) -> None:
        if member is None:
            self._upkeep.disown(tree, there)
            return
        try:
            with member.lock:
                self._upkeep.disown(tree, there)
                member.admin = None
                self._leases.forget(member)
        except BaseException:
            member.key = ""  # nobody's again, and the next try finds it
            raise
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
        tree = self._upkeep.seated(member)
        if member.key != key or tree is None or tree.is_linked():
            return []
        if not dry_run:
            with member.lock:
                self._upkeep.relink_if_pruned(member, tree, base)
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
                tree = self._upkeep.seated(member)
                dirty = tree is not None and tree.path == member.path and self._keeper.is_dirty(member, tree)
            if dirty and not force:
                done.append(Cleaned(str(member.path), False, "it has changes that are nowhere else"))
                continue
            place = self.give_back(key) if key else None
            if self._withdraw(member):
                place = self._remove(member) or place
                done.append(Cleaned(str(member.path), True, saved=place or ""))
        return done

    def drop(self, run: str) -> None:
        """Gives back what attempts of a run still have, and removes what was set aside of it, for good."""
        for member in self._sorted():
            if Owner.of(member.key).run == run and member.key:
                self._give_back_or_set_aside(member.key)
        self.aside.drop(run)
        for path in [each for each in list(self._staging) if each.parent.name == run]:
            self._staging.pop(path, None)

    def _give_back_or_set_aside(self, key: str) -> None:
        """Ends a lease also where git can't read what lies there: else its run could never be given up."""
        try:
            self.give_back(key)
        except git.GitError as problem:
            self.set_aside(key, problem.cause)

    @property
    def trash(self) -> Path:
        """Where what is being removed lies for a moment; swept at every start."""
        return self._upkeep.trash

    # --- the staging worktree -------------------------------------------------------------------------------

    def prepare_staging(self, path: Path, commit: str) -> None:
        """Makes the staging worktree at `path`, detached at `commit`; see `Follower.prepare`. Raises `Refused` where the user has
        something of their own there."""
        if found := self._in_the_way(path):
            raise ground.refusal(path.parent, found, "the staging worktree")
        with self._alone_at(path):
            self._hide_staging(path)
            self._follower.prepare(path, commit)

    def _alone_at(self, path: Path) -> threading.RLock:
        """Gives the lock of one staging worktree: a recovery may make it again at the moment at which it is to follow a landing."""
        return self._staging.setdefault(path, threading.RLock())

    def _in_the_way(self, path: Path) -> str:
        """Says what of the user's a staging worktree at `path` would be made in; one that is there is only looked after."""
        if linked.find(path, self.common) is not None and os.path.lexists(path):
            return ""
        there = os.path.lexists(path) and not ground.is_checkout(path.parent)  # git has lost its record
        return "" if there else ground.theirs(path.parent)

    def _hide_staging(self, path: Path) -> None:
        if self._top is not None and path.is_relative_to(self._top) and path.parent.parent != self._top:
            hide_root(path.parent.parent)
            hide_folder(path.parent)

    def mend_staging(self, path: Path, commit: str, going_to: str, *, dry_run: bool = False) -> list[Finding]:
        """Looks whether the staging worktree stands where it should, and makes one that is gone again; see `Follower.look`."""
        text, remedy = self._follower.look(path, commit, going_to)
        if remedy and (found := self._in_the_way(path)):
            refused = ground.refusal(path.parent, found, "the staging worktree")
            return [Finding("staging", f"{text}. {refused.cause} Next: {refused.next_step}")]
        if remedy and not dry_run:
            self.prepare_staging(path, commit)
        return [Finding("staging", text, remedy, bool(remedy) and not dry_run)] if text else []

    def follow(self, path: Path, old: str, new: str, by_hand: Collection[str] = ()) -> str:
        """Moves the staging worktree from `old` to `new`; gives "" or why it was left, see `Follower.follow`."""
        if found := self._in_the_way(path):
            return ground.refusal(path.parent, found, "the staging worktree").cause
        with self._alone_at(path):
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

    def _save_record(self, tree: LinkedTree) -> str | None:
        with self._choosing:
            member = next((m for m in self._members.values() if m.path == tree.path), None)
        return self._keeper.save_record(tree, member)

    def _stand_free_at(self, member: Member, base: str) -> None:
        with member.lock, _explained("A spare worktree could not be prepared"):
            if not member.key:
                self._upkeep.stand_at(member, base)
                self._upkeep.furnish(member)
                member.filling = False
                member.since = time.time()
                self._leases.save(member)

    def _warm(self) -> None:
        """Has git write the index of new members again, a second later than their files."""
        for member in self._sorted():
            if member.cold and member.at_base and not member.key and member.lock.acquire(blocking=False):
                try:
                    if not member.key:
                        self._upkeep.warm(member)
                finally:
                    member.lock.release()

    def _entry(self, member: Member) -> WorktreeEntry:
        admin = member.admin  # once: the member's lock is not held, and it may be retired meanwhile
        tree = LinkedTree(member.path, admin, self.common, self.user_config) if admin is not None else None
        head = tree.head() if tree is not None and tree.is_linked() else None
        return WorktreeEntry(member.path, member.key, head, member.since, self._leases.index(member))


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

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
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarm.core.model import Finding
from swarm.crashpoints import crash_at
from swarm.edge import git, linked
from swarm.edge.follower import Follower
from swarm.edge.furnish import Furnishing
from swarm.edge.indexfile import Tracked
from swarm.edge.leftovers import Collected, Collector, Lent, save
from swarm.edge.linked import LinkedTree
from swarm.edge.lockfile import exclusive
from swarm.errors import SwarmError

__all__ = ["Collected", "Pool", "WorktreeEntry", "WorktreeFailed", "hide_folder"]

RECORDS = ".pool"
TRASH = ".trash"
_RETIRING = "\0"  # the key of a member that is being removed, so that nobody is given it
RACY_S = 1.0  # git compares whole seconds: with an index no older than its files it looks into each of them


@dataclass(slots=True)
class Member:
    """One worktree of the pool. `key` is who has it, "" nobody.

    `base` is the commit that our copy of the index describes, `at_base` that the files are exactly that,
    `swept` that nothing but tracked files is there, `cold` that the index is as young as its files. `ready`
    means: `setup` has run.
    """

    number: int
    path: Path
    admin: Path | None = None
    key: str = ""
    base: str = ""
    at_base: bool = False
    swept: bool = False
    ready: str = ""
    cold: bool = False
    collected: bool = False
    since: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class WorktreeEntry:
    """What `members` tells of a member: `key` is "" when nobody has it, `dirty` None when it was not asked
    for, `age_s` how many seconds ago it was taken or given back."""

    path: Path
    key: str
    head: str | None
    dirty: bool | None
    age_s: float


@dataclass(frozen=True, slots=True)
class Lease:
    """What the pool's own records tell of a member, also of one whose folder is gone: `key` is "" when nobody has it, `whole`
    whether its folder, git's record and ours are all there and are each other's."""

    path: Path
    key: str
    whole: bool


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
    ) -> None:
        """Opens the pool at `root`, which need not exist; `repository` may be a bare git folder.

        `lock` guards git's bookkeeping against other processes. `copy` and `share` are paths in `source`
        (default: the repository's own top) that each worktree gets as copies and as links; `setup` is a
        shell command run in it. With `saves` false work that was never collected is not saved: for checkouts
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
        self._saves = saves
        self._furnishing = Furnishing(source or top, setup, tuple(copy), tuple(share), setup_timeout_s)
        self._lent = Lent(self._furnishing.paths)
        self._follower = Follower(self.common, lock, self.objects, user_config)
        self._choosing = threading.Lock()
        self._members = {member.number: member for member in self._load()}

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
            self._save(member)
            crash_at("worktree.ready")
        return member.path

    def give_back(self, key: str, *, at: float | None = None) -> str | None:
        """Ends the lease of `key` and cleans the worktree for the next one. No process of the worker may be
        left.

        Work that was never collected is saved first as a commit, which is returned for the caller to keep
        by a ref. A key that has no lease is no error.
        """
        member = self._by_key(key)
        if member is None:
            return None
        with member.lock, _explained(f"The worktree of {key} could not be taken back"):
            if member.key != key:
                return None
            saved = self._save_work(member, at) if self._saves and not member.collected else None
            crash_at("give-back.saved")
            member.collected = False
            member.key, member.ready, member.swept = "", "", False
            member.since = time.time()
            self._save(member)
            crash_at("give-back.freed")
            self._sweep_or_retire(member)
            crash_at("give-back.cleaned")
        return saved

    def collect(
        self, path: Path, base: str, *, message: str, identity: tuple[str, str] | None, at: float
    ) -> Collected:
        """Commits what the worker left at `path`, moving no ref; `at` (seconds since the epoch) dates the
        commit.

        Collecting again gives the same. A state that can't be submitted is told in `problem`, not raised.
        """
        member = self._at(path)
        with member.lock, _explained(f"The work in {path} could not be collected"):
            if not member.path.is_dir() or member.admin is None:
                return Collected(base, 0, False, (), f"The worktree {member.path} is gone.")
            note = self._relink_if_pruned(member, base)
            collector = Collector(
                tree=self._tree(member),
                objects=self.objects,
                base=base,
                trusted=self._index(member),
                aside=self.root / RECORDS / f"{member.number}.nested",
                lent=self._lent,
                message=message,
                identity=identity,
                at=at,
            )
            found = collector.collect()
            member.collected = True
            self._save(member)
            crash_at("collect.marked")
        return dataclasses.replace(found, problem=f"{note} {found.problem}".strip()) if note else found

    def save(self, path: Path, *, at: float | None = None) -> str | None:
        """Makes a commit of all that is at `path` and not ignored, or None where nothing differs from its
        base.

        Nothing in the worktree changes; the caller keeps the commit by a ref.
        """
        member = self._at(path)
        with member.lock, _explained(f"The work in {path} could not be saved"):
            return self._save_work(member, at)

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

    def members(self, *, dirty: bool = False) -> list[WorktreeEntry]:
        """Lists the members by number; with `dirty` each is asked for changes, at one git process each."""
        return [self._entry(member, dirty) for member in self._sorted() if member.path.is_dir()]

    def leases(self) -> list[Lease]:
        """Lists the members by number as they were recorded, whatever has become of them. Looks only."""
        return [Lease(member.path, member.key, self._is_whole(member)) for member in self._sorted()]

    def teardown(self, path: Path) -> None:
        """Removes the member at `path`, folder and record; one that is gone is no error. What is in it is
        lost."""
        with self._choosing:
            member = self._members.get(_number(path)) if Path(path).parent == self.root else None
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

    def _remove(self, member: Member) -> None:
        with member.lock:
            self._retire(member)
        with self._choosing:
            self._members.pop(member.number, None)

    def sweep(self, *, dry_run: bool = False) -> list[Finding]:
        """Looks for what killed calls and deleted folders left, and removes it; with `dry_run` only says what.

        Leases are kept.
        """
        found = self._sweep_trash(dry_run)
        if not dry_run:
            self._sweep_drafts()
        found += [self._lost(tree, dry_run) for tree in self._records() if linked.seat(tree) is None]
        for member in self._sorted():
            if not member.key and not member.path.is_dir() and not dry_run:
                self.teardown(member.path)
        found += [Finding("worktree", f"nothing says whose {path} is") for path in self.strangers()]
        return found

    def _sweep_drafts(self) -> None:
        """Removes what killed calls were writing; nobody ever read it."""
        with exclusive(self._lock) as held:
            linked.sweep_drafts(self.common, lock=held)
        for draft in (self.root / RECORDS).glob("*.new"):
            member = self._members.get(_number(Path(draft.name.partition(".")[0])))
            with member.lock if member is not None else nullcontext():
                linked.remove(draft)

    def _records(self) -> list[LinkedTree]:
        """Lists the records of worktrees below the pool's folder."""
        trees = linked.records(self.common, user_config=self.user_config)
        return [tree for tree in trees if tree.path.parent == self.root]

    def _sweep_trash(self, dry_run: bool) -> list[Finding]:
        trash = self.root / TRASH
        if not (trash.is_dir() and any(trash.iterdir())):
            return []
        if not dry_run:
            _remove_quietly(trash)
        return [
            Finding(
                "worktree",
                f"a removal was cut short in {trash}",
                "what is left of it is removed",
                not dry_run,
            )
        ]

    def _lost(self, tree: LinkedTree, dry_run: bool) -> Finding:
        if not dry_run:
            with exclusive(self._lock) as held:
                linked.unlink(tree, lock=held)
        text = f"git has a record of {tree.path}, which is gone"
        return Finding("worktree", text, "the record is removed", not dry_run)

    # --- the staging worktree -------------------------------------------------------------------------------

    def prepare_staging(self, path: Path, commit: str) -> None:
        """Makes the staging worktree at `path`, detached at `commit`; see `Follower.prepare`."""
        if self._top is not None and path.is_relative_to(self._top) and path.parent.parent != self._top:
            hide_folder(path.parent.parent)
            hide_folder(path.parent)
        self._follower.prepare(path, commit)

    def mend_staging(self, path: Path, commit: str, going_to: str, *, dry_run: bool = False) -> list[Finding]:
        """Looks whether the staging worktree stands where it should, and makes one that is gone again; see `Follower.look`."""
        text, remedy = self._follower.look(path, commit, going_to)
        if remedy and not dry_run:
            self.prepare_staging(path, commit)
        return [Finding("staging", text, remedy, bool(remedy) and not dry_run)] if text else []

    def follow(self, path: Path, old: str, new: str, by_hand: Collection[str] = ()) -> str:
        """Moves the staging worktree from `old` to `new`; gives "" or why it was left, see
        `Follower.follow`."""
        return self._follower.follow(path, old, new, by_hand)

    # --- choosing -------------------------------------------------------------------------------------------

    def _choose(self, key: str, base: str) -> Member:
        with self._choosing:
            member = next((m for m in self._members.values() if m.key == key), None)
            if member is None:
                free = [m for m in self._members.values() if not m.key]
                member = min(free, key=lambda m: _cost(m, base)) if free else self._new_member()
            member.key, member.since = key, time.time()
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

    def _at(self, path: Path) -> Member:
        with self._choosing:
            member = self._members.get(_number(path)) if Path(path).parent == self.root else None
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
        member.swept = member.swept and not self._furnishing.furnishes
        self._save(member)  # from here on a crash leaves a lease whose files are not to be believed
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
        self._hide()
        (self.root / RECORDS).mkdir(parents=True, exist_ok=True, mode=0o700)
        with exclusive(self._lock) as held:
            name = f"swarm-{member.number}"
            tree = linked.link(member.path, name, self.common, base, user_config=self.user_config, lock=held)
        member.admin, member.base = tree.admin, base
        self._save(member)

    def _clean(self, member: Member) -> None:
        """Removes all but tracked files, and all that git keeps besides."""
        if member.swept:
            return
        self._tree(member).purge(member.base)
        linked.remove(Path(f"{self._index(member)}.lock"))
        tracked = Tracked(self._index(member).read_bytes(), oid_bytes=len(member.base) // 2)
        linked.remove_untracked(member.path, tracked)
        member.swept = True

    def _checkout(self, member: Member, base: str) -> None:
        """Moves tracked files to `base` by our own index, whose copy the worker gets."""
        tree, index = self._tree(member), self._index(member)
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
        self._furnishing.lend(tree.path)
        if self._furnishing.setup and self._furnishing.setup != member.ready:
            self._furnishing.run_setup(tree, self.root / RECORDS / f"{member.number}.setup.log")
            member.ready = self._furnishing.setup

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
                linked.unlink(LinkedTree(member.path, admin, self.common), lock=held)
        crash_at("teardown.unlinked")
        member.admin = None
        for path in (self._index(member), self._record(member)):
            for suffix in ("", ".lock", ".new"):
                linked.remove(Path(f"{path}{suffix}"))
        if member.key and member.key != _RETIRING:
            self._save(member)
        crash_at("teardown.forgotten")
        _remove_quietly(aside)

    def _admins(self, member: Member) -> list[Path]:
        """Lists the records that are this member's, also one that was made just before a crash."""
        found = linked.find(member.path, self.common)
        return [admin for admin in {member.admin, found.admin if found else None} if admin is not None]

    def _relink_if_pruned(self, member: Member, base: str) -> str:
        """Gives a worktree whose record was pruned behind our back a new one; says so in a sentence."""
        tree = self._tree(member)
        if tree.is_linked():
            return ""
        with exclusive(self._lock) as held:
            member.admin = linked.relink(tree, base, lock=held).admin
        self._save(member)
        return "git's record of the worktree had been removed; commits made in it may not be among these."

    def _save_work(self, member: Member, at: float | None) -> str | None:
        if member.admin is None or not self._tree(member).is_linked():
            return None
        tree = self._tree(member)
        tree.break_locks()
        work = self.root / RECORDS / f"{member.number}.saving"
        made = save(tree, self.objects, self._lent, work, member.since if at is None else at)
        head = tree.head()
        return made or (head if head != member.base else None)

    def _stand_free_at(self, member: Member, base: str) -> None:
        with member.lock, _explained("A spare worktree could not be prepared"):
            if not member.key:
                self._stand_at(member, base)
                self._furnish(member)
                self._save(member)

    def _warm(self) -> None:
        """Has git write the index of new members again, a second later than their files."""
        for member in self._sorted():
            if member.cold and member.at_base and not member.key and member.lock.acquire(blocking=False):
                try:
                    index = self._index(member)
                    if time.time() - os.stat(index).st_mtime > RACY_S and not member.key:
                        self._checkout(member, member.base)
                        member.cold = False
                finally:
                    member.lock.release()

    def _entry(self, member: Member, dirty: bool) -> WorktreeEntry:
        head, changed = None, None
        if member.admin is not None and self._tree(member).is_linked():
            tree = self._tree(member)
            head = tree.head()
            if dirty:
                changed = bool(tree.git("status", "--porcelain", "-z", *self._lent.pathspecs()).out)
        return WorktreeEntry(member.path, member.key, head, changed, max(0.0, time.time() - member.since))

    # --- the pool's own files -------------------------------------------------------------------------------

    def _is_whole(self, member: Member) -> bool:
        return member.admin is not None and self._tree(member).is_linked() and self._index(member).exists()

    def _tree(self, member: Member) -> LinkedTree:
        assert member.admin is not None
        return LinkedTree(member.path, member.admin, self.common, self.user_config)

    def _index(self, member: Member) -> Path:
        return self.root / RECORDS / f"{member.number}.index"

    def _record(self, member: Member) -> Path:
        return self.root / RECORDS / f"{member.number}.json"

    def _save(self, member: Member) -> None:
        """Writes the lease. Only a free member that was seen whole is believed by the next daemon."""
        record = self._record(member)
        text = json.dumps(
            {
                "key": member.key,
                "admin": str(member.admin or ""),
                "base": member.base,
                "at_base": member.at_base and not member.key,
                "swept": member.swept and not member.key,
                "ready": "" if member.key else member.ready,
                "collected": member.collected,
                "since": member.since,
            }
        )
        try:
            linked.write_text(record, text)
        except FileNotFoundError:
            self._hide()
            record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            linked.write_text(record, text)

    def _load(self) -> list[Member]:
        members = []
        for record in sorted((self.root / RECORDS).glob("*.json")):
            try:
                members.append(_member(json.loads(record.read_text("utf-8")), int(record.stem), self.root))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # its folder is then a stranger: told by `sweep`, handed to nobody
        return members

    def strangers(self) -> list[Path]:
        """Lists the folders where members lie that nothing says anything of."""
        known = {member.path for member in self._sorted()}
        if not self.root.is_dir():
            return []
        return [p for p in sorted(self.root.iterdir()) if re.fullmatch(r"[0-9]+", p.name) and p not in known]

    def _hide(self) -> None:
        """Keeps the folder that holds the pool out of the user's `git status`."""
        above = self.root.parent
        if self._top is not None and self.root.is_relative_to(self._top):
            hide_folder(self.root if above == self._top else above)
            hide_folder(self.root)


def _member(read: dict[str, Any], number: int, root: Path) -> Member:
    """Builds a member from its record. Raises KeyError, ValueError or TypeError for one that is not ours."""
    return Member(
        number,
        root / str(number),
        admin=Path(read["admin"]) if read["admin"] else None,
        key=str(read["key"]),
        base=str(read["base"]),
        at_base=bool(read["at_base"]),
        swept=bool(read["swept"]),
        ready=str(read["ready"]),
        collected=bool(read["collected"]),
        since=float(read["since"]),
    )


def hide_folder(folder: Path) -> None:
    """Writes a `.gitignore` into `folder` that ignores all in it, itself too; one that is there stays as it
    is."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with open(folder / ".gitignore", "x", encoding="ascii") as file:
            file.write("*\n")
    except FileExistsError:
        pass


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


def _number(path: Path) -> int:
    return int(Path(path).name) if re.fullmatch(r"[0-9]+", Path(path).name) else 0


def _remove_quietly(path: Path) -> None:
    """Deletes what was put aside; what can't be deleted (files of another user) is met again by `sweep`."""
    try:
        linked.remove(path)
    except OSError:
        pass

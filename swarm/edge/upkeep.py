"""The worktrees of a pool as folders: made, brought to a commit, cleaned, found where they were moved to, and taken away.

Hides that a worktree is used again and again: our own copy of its index says what is in it, so whatever a worker did to the
worktree's index, record or settings does not count. Rules for editing: the member's lock is held, and nothing of worth is in it any
more (`keeping`); its record is written before its files are touched; one in doubt is put aside and made anew rather than mended.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from swarm.core.model import Finding
from swarm.crashpoints import crash_at
from swarm.dataclass import dataclass
from swarm.edge import difference, git, linked, whole
from swarm.edge.difference import Difference
from swarm.edge.furnish import Furnishing, WorktreeSetupFailed
from swarm.edge.leases import Leases, Member
from swarm.edge.linked import LinkedTree
from swarm.edge.listing import Listing, folders_tell
from swarm.edge.lockfile import exclusive

TRASH = ".trash"
RACY_S = 1.0  # git compares whole seconds: with an index no older than its files it looks into each of them


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Looks after the folders below `root`, linked to the repository at `common`; `lock` guards git's bookkeeping."""

    common: Path
    root: Path
    lock: Path
    objects: git.Objects
    leases: Leases
    furnishing: Furnishing
    user_config: bool

    @property
    def trash(self) -> Path:
        """Where what is being removed lies for a moment."""
        return self.root / TRASH

    def stand_at(self, member: Member, base: str) -> None:
        """Brings a member to `base`, anew where the old one refuses."""
        member.at_base, member.ready = False, ""
        member.swept = member.swept and not self.furnishing.furnishes
        member.filling = True
        self.leases.save(member)  # from here on a crash leaves a lease whose files are not to be believed
        crash_at("worktree.leased")
        if self.is_fit(member):
            try:
                self._clean(member)
                self._checkout(member, base)
                return
            except (git.GitError, OSError, ValueError):
                if self.objects.kind(base) != "commit":
                    raise
        self.retire(member)
        self._make(member, base)
        self._checkout(member, base)
        member.swept = member.cold = True

    def _make(self, member: Member, base: str) -> None:
        self.leases.make()
        self.leases.save(member)  # before there is a folder that a crash would leave to nobody
        with exclusive(self.lock) as held:
            name = f"swarm-{member.number}"
            tree = linked.link(member.path, name, self.common, base, user_config=self.user_config, lock=held)
        member.admin, member.base = tree.admin, base
        self.leases.save(member)

    def _clean(self, member: Member, seen: Difference | None = None) -> None:
        """Removes all but tracked files, and all that git keeps besides; `seen` is what a look has just found."""
        if member.swept:
            return
        self.tree(member).purge(member.base)
        linked.remove(Path(f"{self.leases.index(member)}.lock"))
        _remove_quietly(self.leases.own(member))
        for path in seen.besides if seen else self._besides(member):
            linked.remove(member.path / path)
        member.swept, member.off = True, seen.tracked if seen else None

    def look(self, member: Member) -> Difference:
        """Looks what in a member is not as in its base. Raises GitError, OSError, ValueError."""
        besides = self._besides(member)  # first: it gives back the rights that git needs to look into folders
        return difference.look(self.tree(member), self.leases.index(member), besides)

    def _besides(self, member: Member) -> list[str]:
        listing = member.listing if folders_tell(self.leases.folder) else Listing()
        return listing.besides(member.path, self.objects, self.objects.tree_of(member.base))

    def _checkout(self, member: Member, base: str) -> None:
        """Moves tracked files to `base` by our own index, whose copy the worker gets."""
        tree, index, few = self.tree(member), self.leases.index(member), self._few_to_restore(member, base)
        member.off = None
        if few is not None:
            difference.restore(tree, index, base, few)
            tree.detach_at(base)
        else:
            self._check_out_all(member, base)
        crash_at("worktree.filled")
        linked.copy_index(index, tree.admin / "index")
        member.base, member.at_base, member.off = base, True, ()

    def _few_to_restore(self, member: Member, base: str) -> list[str] | None:
        """Lists the paths that bring a member to `base`; None where they are not known, or comparing all costs less."""
        if member.off is None:
            return None
        changed = self.objects.changed_paths(member.base, base) if member.base != base else ()
        paths = sorted({*member.off, *changed})
        return paths if difference.may_restore(paths) else None

    def _check_out_all(self, member: Member, base: str) -> None:
        tree, index = self.tree(member), self.leases.index(member)
        tree.git("checkout", "-q", "-f", "--detach", base, index=index)
        if member.base != base and self._attributes_changed(member.base, base):
            linked.remove(index)  # git leaves files as they are whose content is the same, but not its form
            tree.git("checkout", "-q", "-f", "--detach", base, index=index)

    def warm(self, member: Member) -> None:
        """Has git write the index of a new member again, a second later than its files."""
        if time.time() - os.stat(self.leases.index(member)).st_mtime > RACY_S:
            member.off = None  # so that every file is compared
            self._checkout(member, member.base)
            member.cold = False

    def _attributes_changed(self, old: str, new: str) -> bool:
        changed = self.objects.changed_paths(old, new)
        return any(path.rpartition("/")[2] == ".gitattributes" for path in changed)

    def lent(self, base: str) -> tuple[str, ...]:
        """Gives the paths that a member at `base` is lent, see `Furnishing.lent`."""
        return self.furnishing.lent(self.objects, base)

    def furnish(self, member: Member) -> None:
        """Gives a member what is copied and shared, and runs the setup command where that has not been done."""
        tree = self.tree(member)
        lent = self.lent(member.base)
        self.furnishing.lend(tree.path, lent)
        if self.furnishing.setup and self.furnishing.setup != member.ready:
            log = self.leases.folder / f"{member.number}.setup.log"
            self.furnishing.run_setup(tree, lent, log)
            if self.leases.may_hold_somebody(member):  # it would write into the worktree of a worker
                raise WorktreeSetupFailed(
                    f"What the setup command of the worktrees started could not all be ended: {self.furnishing.setup}",
                    "",
                    log,
                    "have it wait for what it starts, or end it",
                )
            member.ready = self.furnishing.setup

    def sweep_or_retire(self, member: Member, seen: Difference | None) -> None:
        """Cleans a member that was given back; one that can't be cleaned, or in which somebody may still be, is put aside, and
        made anew when taken: who was shut in with the old folder can't write to another in its place."""
        if not self.is_fit(member):
            self.retire(member)
            return
        try:
            self._clean(member, seen)
        except (git.GitError, OSError, ValueError):
            self.retire(member)

    def retire(self, member: Member) -> None:
        """Puts folder, record and index of a member out of the way, in this order, then deletes them.
        Idempotent."""
        # Where that fails the member is as it was; where it goes in parts nobody may believe what a kill leaves of it.
        aside = self._put_in_trash(member.path, apart=lambda: self.leases.forget(member))
        member.listing = Listing()
        member.at_base, member.swept, member.ready, member.off = False, False, "", None
        crash_at("teardown.moved")
        with exclusive(self.lock) as held:
            for admin in self._admins(member):
                tree = LinkedTree(member.path, admin, self.common)
                there = linked.seat(tree)
                if there is None:
                    linked.unlink(tree, lock=held)
                else:
                    linked.disown(tree, there, lock=held)
        crash_at("teardown.unlinked")
        member.admin = None
        self.leases.forget(member)
        _remove_quietly(self.leases.own(member))
        crash_at("teardown.forgotten")
        _remove_quietly(aside)

    def discard(self, folder: Path) -> None:
        """Removes a folder in a worktree: killed meanwhile, it is all there, or all gone once the trash has been swept."""
        _remove_quietly(self._put_in_trash(folder))

    def _put_in_trash(self, path: Path, *, apart: Callable[[], None] = lambda: None) -> Path:
        aside = self.trash / secrets.token_hex(6)
        if os.path.lexists(path):
            aside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            whole.move(path, aside, apart=apart)
        return aside

    def _admins(self, member: Member) -> list[Path]:
        """Lists the records that are this member's, also one that was made just before a crash."""
        found = linked.find(member.path, self.common)
        return [admin for admin in {member.admin, found.admin if found else None} if admin is not None]

    def disown(self, tree: LinkedTree, there: Path) -> None:
        """Leaves a worktree that was moved to `there` to whoever moved it."""
        with exclusive(self.lock) as held:
            linked.disown(tree, there, lock=held)

    def sweep_trash(self, *, dry_run: bool) -> list[Finding]:
        """Removes what a removal that was cut short left."""
        trash = self.trash
        if not (trash.is_dir() and any(trash.iterdir())):
            return []
        if not dry_run:
            _remove_quietly(trash)
        text = f"a removal was cut short in {trash}"
        return [Finding("worktree", text, "what is left of it is removed", not dry_run)]

    def seat(self, tree: LinkedTree) -> Path | None:
        """Says where the folder of a record is, also where it was moved below our own folder without git's knowledge."""
        there = linked.seat(tree)
        if there is not None or not self.root.parent.is_dir():
            return there
        above = [path for path in self.root.parent.iterdir() if path.is_dir() and not path.is_symlink()]
        near = [*above, *(path for folder in above if folder != self.root for path in folder.iterdir())]
        near += self.root.iterdir() if self.root.is_dir() else []
        return next((path for path in near if linked.points_to(path) == tree.admin), None)

    def seated(self, member: Member) -> LinkedTree | None:
        """Gives the member's worktree where it is now, None where it is gone. The rights to its folder that a worker took away are
        given back: nothing of it could be read."""
        if member.admin is None:
            return None
        tree = self.tree(member)
        with suppress(FileNotFoundError, NotADirectoryError):
            linked.give_rights_back(os.fsencode(member.path))
        there = self.seat(tree)
        return dataclasses.replace(tree, path=there) if there is not None and there.is_dir() else None

    def relink_if_pruned(self, member: Member, tree: LinkedTree, base: str) -> tuple[LinkedTree, str]:
        """Gives a worktree whose record was pruned behind our back a new one; says so in a sentence."""
        if (tree.admin / "HEAD").exists():
            return tree, ""
        with exclusive(self.lock) as held:
            tree = linked.relink(tree, base, lock=held)
        member.admin = tree.admin
        if self.leases.index(member).exists() and member.base == base:
            linked.copy_index(self.leases.index(member), tree.admin / "index")
        self.leases.save(member)
        note = "git's record of the worktree had been removed; commits made in it may not be among these."
        return tree, note

    def is_whole(self, member: Member) -> bool:
        """Tells whether a member's folder, git's record and our index are all there and are each other's."""
        return (
            member.admin is not None and self.tree(member).is_linked() and self.leases.index(member).exists()
        )

    def is_fit(self, member: Member) -> bool:
        """Tells whether a member is whole, and nothing that ran in it is left."""
        return self.is_whole(member) and not self.leases.may_hold_somebody(member)

    def tree(self, member: Member) -> LinkedTree:
        """Gives a member, which has been made, as git knows it."""
        assert member.admin is not None
        return LinkedTree(member.path, member.admin, self.common, self.user_config)


def _remove_quietly(path: Path) -> None:
    """Deletes what was put aside; what can't be deleted (files of another user) is met again by `sweep`."""
    try:
        linked.remove(path)
    except OSError:
        pass

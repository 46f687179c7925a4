"""What a pool of worktrees knows of its members, in files beside them: who has which, and what it holds.

Hides the folder `.pool` below the pool's root: a JSON record of each member, written whole, and our own copy of its index. Rules
for editing: a record is written before the worktree is touched; only a free member that was seen whole is believed by the next
daemon; a field that an older version did not write has its default. A record that can't be read is no record. To git the
folder is a repository, so that a person who cleans a checkout does not take it.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Collection
from dataclasses import field
from pathlib import Path
from typing import Any

from swarm.dataclass import dataclass
from swarm.edge import ground, linked, whole
from swarm.edge.ground import RECORDS
from swarm.edge.listing import Listing
from swarm.edge.proctable import boot_id

OWN = ".own"


@dataclass(slots=True)
class Member:
    """One worktree of the pool. `key` is who has it, "" nobody.

    `base` is the commit that our copy of the index describes, `at_base` that the files are exactly that,
    `swept` that nothing but tracked files is there, `cold` that the index is as young as its files. `ready`
    means: `setup` has run. `last` is who had it last, whose files may still be there. `collected` means that all
    that was there is the commit `kept`, while HEAD stood at `stood` and the index was as `seen` says; what
    it had held before is on the branch `staged`, where that is something else. `filling`
    means that it is being brought to its base: a difference from it is nobody's work. `refused` says of whoever has it
    what of its doings with git could not be taken over, and where it is kept. `off`, which only this daemon
    knows, lists the tracked paths that are not as in `base`; None where nobody has looked. `listing` and
    `refusals`, which are this daemon's too, know in which folders nothing but what is tracked lies, and how often git failed at
    what was done with it. `given_up` tells that what its worker left can't be collected, whatever is tried.
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
    last: str = ""
    kept: str = ""
    stood: str = ""
    staged: str = ""
    seen: str = ""
    filling: bool = False
    refused: str = ""
    refusals: int = 0
    given_up: bool = False
    since: float = 0.0
    off: tuple[str, ...] | None = None
    listing: Listing = field(default_factory=Listing)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class WorktreeEntry:
    """What `members` tells of a member: `key` is "" when nobody has it, `since` when it was taken or given
    back, in seconds since the epoch, `index` our copy of its index, which is the one that counts while nobody has it."""

    path: Path
    key: str
    head: str | None
    since: float
    index: Path


@dataclass(frozen=True, slots=True)
class Lease:
    """What the pool's own records tell of a member, also of one whose folder is gone: `key` is "" when nobody has it, `whole`
    whether its folder, git's record and ours are all there and are each other's."""

    path: Path
    key: str
    whole: bool


class Leases:
    """The records below `root`; `top` is that of the user's checkout, from whose `git status` they are kept out."""

    def __init__(self, root: Path, top: Path | None) -> None:
        self.root = root
        self.folder = root / RECORDS
        self._paths: dict[str, Path] = {}
        self._top = top

    def index(self, member: Member) -> Path:
        """Gives where our own copy of a member's index is."""
        return self._path(f"{member.number}.index")

    def work(self, member: Member) -> Path:
        """Gives where the index is into which what a worker left was collected."""
        return self._path(f"{member.number}.work")

    def git(self, member: Member) -> Path:
        """Gives where a git folder of its own is that a shut-in worker of a member has."""
        return self._path(f"{member.number}.git")

    def own(self, member: Member) -> Path:
        """Gives where who has a member may keep what goes with the lease. A short path: those of socket files have 107 bytes."""
        return self.root / OWN / str(member.number)

    def save(self, member: Member) -> None:
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
                "last": member.last,
                "kept": member.kept,
                "stood": member.stood,
                "staged": member.staged,
                "seen": member.seen,
                "filling": member.filling,
                "refused": member.refused,
                "given_up": member.given_up,
                "since": member.since,
            }
        )
        try:
            whole.write(record, text, durable=False)
        except FileNotFoundError:
            self.make()
            whole.write(record, text, durable=False)

    def make(self) -> None:
        """Makes the folder of the records. Raises `Refused` where the one that holds the pool is the user's."""
        self.hide()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        shield_folder(self.folder)

    def mend(self, member: Member) -> None:
        """Makes again what a person may take who cleans the checkout: what hides the pool, and a lease, beside which is collected
        what a worker left."""
        self.hide()
        if not self.folder.is_dir():
            self.save(member)

    def load(self) -> list[Member]:
        """Reads all records."""
        members = []
        for record in sorted(self.folder.glob("*.json")):
            try:
                members.append(_member(json.loads(record.read_text("utf-8")), int(record.stem), self.root))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # its folder is then a stranger: told by `sweep`, handed to nobody
        return members

    def strangers(self, known: Collection[Path]) -> list[Path]:
        """Lists folders that look like a member's and are none of the known ones."""
        if not self.root.is_dir():
            return []
        return [p for p in sorted(self.root.iterdir()) if re.fullmatch(r"[0-9]+", p.name) and p not in known]

    def forget(self, member: Member) -> None:
        """Removes what is known of a member."""
        for path in (self.index(member), self.work(member), self._record(member), self.git(member)):
            for suffix in ("", ".lock", ".new", ".gone"):
                linked.remove(Path(f"{path}{suffix}"))
        for sign in self._signs(member):
            linked.remove(sign)

    def may_hold_somebody(self, member: Member) -> bool:
        """Tells whether a program was shut in in a member of which nobody saw that all it started has ended, see `sign_of`."""
        return any(linked.one_line(sign) in ("", boot_id()) for sign in self._signs(member))

    def _signs(self, member: Member) -> list[Path]:
        beginning = os.path.basename(sign_of(member.path))
        try:
            names = os.listdir(self.folder)
        except (FileNotFoundError, PermissionError):
            return []
        return [self.folder / name for name in sorted(names) if name.startswith(beginning)]

    def drafts(self) -> list[tuple[int, Path]]:
        """Lists files that killed calls were writing, with the numbers of the members that they are about."""
        drafts = sorted(self.folder.glob("*.new"))
        return [(number_of(Path(draft.name.partition(".")[0])), draft) for draft in drafts]

    def _record(self, member: Member) -> Path:
        return self._path(f"{member.number}.json")

    def _path(self, name: str) -> Path:
        """Gives where a record is: there are few, each is asked for often, and to join a path takes as long as to look there."""
        return self._paths.get(name) or self._paths.setdefault(name, self.folder / name)

    def hide(self) -> None:
        """Keeps the folder that holds the pool out of the user's `git status`. Raises `Refused` where the folder is the user's."""
        above = self.root.parent
        if self._top is not None and (found := ground.theirs(self.root)):
            raise ground.refusal(self.root, found, "the worktrees of workers")
        if self._top is not None and self.root.is_relative_to(self._top):
            if above != self._top:
                hide_root(above)
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
        last=str(read.get("last", "")),
        kept=str(read.get("kept", "")),
        stood=str(read.get("stood", "")),
        staged=str(read.get("staged", "")),
        seen=str(read.get("seen", "")),
        filling=bool(read.get("filling", False)),
        refused=str(read.get("refused", "")),
        given_up=bool(read.get("given_up", False)),
        since=float(read["since"]),
    )


def record_of(path: Path) -> Path | None:
    """Gives git's record of the worktree at `path` as the pool that it is a member of knows it; None where it is of no pool."""
    try:
        read = json.loads((path.parent / RECORDS / f"{path.name}.json").read_text("utf-8"))
        return _member(read, number_of(path), path.parent).admin
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sign_of(path: Path) -> str:
    """Gives how the paths of files begin that are there while a program is shut in in the worktree of a pool at `path`, and stay
    where nobody saw all of it end."""
    folder, name = os.path.split(path)
    return f"{folder}/{RECORDS}/{name}.inside-"


def hide_root(folder: Path) -> None:
    """Hides the folder of all worktrees; not one in which something of the user's is, which git would not show any more. What we
    make in it is hidden by itself."""
    if not ground.others(folder):
        hide_folder(folder)


def hide_folder(folder: Path) -> None:
    """Writes a `.gitignore` into `folder` that ignores all in it, itself too; one that is there stays as it
    is, save an empty one: that is ours, from a call that was killed before it wrote. A checkout gets none: it is its user's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ground.HIDING
    if (not path.exists() or path.stat().st_size == 0) and not ground.is_checkout(folder):
        path.write_text(ground.ALL, encoding="ascii")


def shield_folder(folder: Path) -> None:
    """Has git take a folder of ours for a repository, an empty one: `git clean -fdx` and `git stash --all` in the user's checkout
    pass over those, as over the worktrees. What workers are doing with git lies in it, or work that is nowhere else."""
    there = folder / ".git"
    if not (there / "HEAD").exists():
        for name in ("objects", "refs"):
            (there / name).mkdir(parents=True, exist_ok=True)
        (there / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")


def number_of(path: Path) -> int:
    """Gives the number of the member that would lie at `path`, 0 where none would."""
    return int(Path(path).name) if re.fullmatch(r"[0-9]+", Path(path).name) else 0

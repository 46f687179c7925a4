"""What lies about: worktrees with git's records and the pool's leases of them, staging worktrees, lock files.

Rules for editing: a worktree that a live attempt has is its worker's to change; what is being prepared or given back is half done
by right. A person's edits in a staging worktree are a note, never a breach.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import field
from pathlib import Path

from swarm.audit.breaches import Breach
from swarm.audit.folding import Fold
from swarm.core.model import STAGING_WORKTREE, WORKER_STEPS, Attempt, Step, attempt_key
from swarm.core.places import Places
from swarm.core.run import Run
from swarm.core.state import Swarm, pending_commands
from swarm.daemon.verification import bench_key, finish_key
from swarm.dataclass import dataclass
from swarm.edge import git, linked, orphans, scratch
from swarm.edge.follower import MOVE
from swarm.edge.ground import POOL
from swarm.edge.landing import LandingRepository
from swarm.edge.leases import Lease
from swarm.edge.linked import LinkedTree
from swarm.edge.worktrees import Pool

TEMPORARY_MAX_AGE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Leases:
    """Who may have a worktree at this moment, by the key of the lease: what is being worked in, and what is half done by right."""

    working: dict[str, Attempt]
    passing: frozenset[str]
    verifying: frozenset[str]

    @classmethod
    def of(cls, fold: Fold, swarm: Swarm) -> Leases:
        working: dict[str, Attempt] = {}
        passing: set[str] = set()
        verifying: set[str] = set()
        for run in swarm.runs.values():
            for name, task in run.tasks.items():
                for attempt in task.attempts:
                    key = attempt_key(run.id, name, attempt.n)
                    if attempt.step in WORKER_STEPS and attempt.step is not Step.PREPARING:
                        working[key] = attempt
                    elif attempt.step is Step.PREPARING or not attempt.returned or fold.keeps_worktrees:
                        passing.add(key)
                    if attempt.step is Step.VERIFYING:
                        verifying.add(bench_key(key))
            if run.finish is not None:
                verifying.add(bench_key(finish_key(run.id, run.finish.request)))
        return cls(working, frozenset(passing), frozenset(verifying))


@dataclass(slots=True)
class Surroundings:
    """Looks at what lies about a repository; `landings` are the commits of all lines."""

    fold: Fold
    runs: Sequence[Run]
    places: Places
    repository: git.Repository
    landing: LandingRepository
    landings: Collection[str]
    notes: list[str] = field(default_factory=list)

    @property
    def common(self) -> Path:
        """The common git folder of the repository."""
        return self.repository.common_dir

    def look(self) -> Iterator[Breach]:
        """Finds what does not agree. What is no breach goes into `notes`."""
        swarm = self.fold.swarm
        assert swarm is not None
        leases = Leases.of(self.fold, swarm)
        yield from self._worktrees(swarm, leases)
        yield from self._verification(swarm, leases)
        for run in self.runs:
            yield from self._staging(run)
            yield from self._followed(swarm, run)
        yield from self._locks(leases)
        yield from self._temporary_objects()

    # --- worktrees (I12, I13) ---

    def _worktrees(self, swarm: Swarm, leases: Leases) -> Iterator[Breach]:
        records, of_others = orphans.divided(self.common)
        for tree in of_others:
            what = orphans.what_is_of_another(tree)
            yield Breach("I13", f"{what[0].upper()}{what[1:]}.", next_step=orphans.removal_of_record(tree))
        staging = {run.worktree for run in swarm.runs.values()}
        preparing = {run.id for run in swarm.runs.values() if not run.worktree}
        members: set[Path] = set()
        for root in self._roots(swarm, records):
            pool = Pool(self.common, root, lock=self.places.worktrees_lock)
            for lease in pool.leases():
                members.add(lease.path)
                yield from _lease(lease, leases)
            for path in pool.strangers():
                yield Breach("I13", f"{path} lies where worktrees are kept, and nothing says whose it is.")
            pool.close()
        for tree in records:
            begun = tree.path.name == STAGING_WORKTREE and tree.path.parent.name in preparing
            if tree.path not in members and str(tree.path) not in staging and not begun:
                yield Breach(
                    "I13",
                    f"Git has a record of a worktree at {tree.path} that nobody has ({tree.admin.name}).",
                    next_step=orphans.removal_of_worktree(tree.path),
                )
        leased = {lease.key for root in self._roots(swarm, records) for lease in self._leases_at(root)}
        for key, attempt in leases.working.items():
            if key not in leased:
                yield Breach(
                    "I13",
                    f"{key} is at work in {attempt.worktree}, and no lease says so.",
                    run=key.split("/")[0],
                )

    def _leases_at(self, root: Path) -> list[Lease]:
        pool = Pool(self.common, root, lock=self.places.worktrees_lock)
        try:
            return pool.leases()
        finally:
            pool.close()

    def _roots(self, swarm: Swarm, records: Iterable[LinkedTree]) -> list[Path]:
        """Lists the folders of pools, by what the journal and git's records name: the setting may have changed since."""
        roots = {tree.path.parent for tree in records if re.fullmatch(r"[0-9]+", tree.path.name)}
        for run in swarm.runs.values():
            if run.worktree:
                roots.add(Path(run.worktree).parent.parent / POOL)
        return sorted(roots)

    def _verification(self, swarm: Swarm, leases: Leases) -> Iterator[Breach]:
        records = linked.records(self.landing.path)
        roots = {tree.path.parent for tree in records}
        for run in swarm.runs.values():
            if run.worktree:
                root = Path(run.worktree).parent.parent
                roots.add(scratch.folder(self.repository.working_top(), root, self.places.state, os.environ))
        known: set[Path] = set()
        for root in sorted(roots):
            lock = self.places.worktrees_lock
            for lease in Pool(self.landing.path, root, lock=lock, objects=self.landing.objects).leases():
                known.add(lease.path)
                if lease.key and lease.key not in leases.verifying:
                    yield Breach("I12", f"{lease.path} is held by {lease.key}, which is not being verified.")
                elif (
                    not lease.whole and not lease.key and lease.path.exists()
                ):  # else it was cleared with its cache
                    yield Breach("I13", f"The verification worktree {lease.path} is not whole.")
        for tree in records:
            if tree.path not in known and tree.path.exists():
                yield Breach(
                    "I13",
                    f"The landing repository has a record of a worktree at {tree.path} that nobody has.",
                )

    # --- staging worktrees (I12, I13) ---

    def _staging(self, run: Run) -> Iterator[Breach]:
        if not run.prepared or run.on_target is not None:
            return
        path = Path(run.worktree)
        tree = linked.find(path, self.common)
        if tree is None or not tree.is_linked():
            yield Breach(
                "I13", f"The staging worktree {path} is gone, or git has no record of it.", run=run.id
            )
            return
        if (tree.admin / MOVE).exists() and run.following is None:
            yield Breach("I12", f"A move of the staging worktree {path} was begun and not ended.", run=run.id)
            return
        head, branch = tree.head(), tree.branch()
        if run.following is not None or run.follow_reason:
            return
        if branch is not None or (head != run.followed and head not in self.landings):
            self.notes.append(
                f"The staging worktree {path} was moved by hand to {branch or (head or 'nothing')[:12]}."
            )
        elif head != run.followed:
            text = f"The staging worktree {path} stands at {(head or 'nothing')[:12]}"
            yield Breach("I13", f"{text}, and was left at {run.followed[:12]}.", run=run.id)
        else:
            self._edits(tree)

    def _edits(self, tree: LinkedTree) -> None:
        asked = (
            "--no-optional-locks",
            "status",
            "--porcelain",
            "-z",
            "--untracked-files=no",
            "--ignore-submodules=all",
        )
        changed = [entry[3:] for entry in git.decode(tree.git(*asked).out).split("\0") if entry]
        if changed:
            self.notes.append(
                f"The staging worktree {tree.path} has local changes in {', '.join(changed[:5])}."
            )

    def _followed(self, swarm: Swarm, run: Run) -> Iterator[Breach]:
        """Where nothing is under way, the staging worktree has been brought to staging, or it was said why not."""
        if run.live or not run.prepared or pending_commands(swarm) or "Follow" in run.retry_at:
            return
        if run.published not in (run.followed, run.follow_refused):
            text = f"Staging of {run.id} is at {run.published[:12]}, its worktree at {run.followed[:12]}"
            yield Breach("I12", f"{text}, and nothing is under way.", run=run.id)

    # --- locks (I14) ---

    def _locks(self, leases: Leases) -> Iterator[Breach]:
        busy = {attempt.worktree for attempt in leases.working.values()}
        found = self.landing.lock_files()
        found += _below(self.common / "refs")
        found += [path for path in (self.common / "packed-refs.lock",) if path.exists()]
        for tree in linked.records(self.common):
            if str(tree.path) not in busy:
                found += _below(tree.admin)
        if not leases.verifying:
            for tree in linked.records(self.landing.path):
                found += _below(tree.admin)
        for path in found:
            try:
                facts = os.lstat(path)
            except OSError:
                continue
            yield Breach(
                "I14", f"{path} is locked (number {facts.st_ino}, since {time.ctime(facts.st_mtime)})."
            )

    def _temporary_objects(self) -> Iterator[Breach]:
        late = time.time() - TEMPORARY_MAX_AGE_S
        for folder in _entries(self.landing.path / "objects"):
            for entry in _entries(folder.path) if folder.is_dir() else [folder]:
                if entry.name.startswith("tmp_obj_") and entry.stat().st_mtime < late:
                    yield Breach("I14", f"{entry.path} was left by a git that was killed.")


def _lease(lease: Lease, leases: Leases) -> Iterator[Breach]:
    if lease.key in leases.passing:
        return
    if lease.key and lease.key not in leases.working:
        yield Breach("I12", f"{lease.path} is held by {lease.key}, which is not at work.")
    elif not lease.whole:
        whose = f" of {lease.key}" if lease.key else ""
        yield Breach(
            "I13",
            f"The worktree{whose} at {lease.path} is not whole: its folder or git's record of it is gone.",
        )


def _below(folder: Path) -> list[Path]:
    return [
        Path(here, name) for here, _, files in os.walk(folder) for name in files if name.endswith(".lock")
    ]


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []

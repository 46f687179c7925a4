"""Objects of the landing repository that nothing names any more, such as those of discarded runs: removed once they are old.

Git itself says which these are: nothing that refs, reflogs, or the HEADs and indexes of worktrees name needs them, and nothing that
is younger. It is only asked (`prune --dry-run`): a `git prune` would also forget that history is cut off at commits which lie in
packs and stay, and then miss their parents.

Rules for editing: only while nobody brings in or merges, in this process or another: what is found to be there is not written anew,
and would be missed once it had gone. What refers to others goes before them, so that killed anywhere what is left is whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from swarm.edge import git
from swarm.edge.lockfile import MergeLockHeld

OLD_S = 7 * 86400.0
EVERY_S = 86400.0
LOOSE_MIN = 5000  # with fewer objects it is not worth a look
TIMEOUT_S = 60.0
_LOOKED = "swarm-pruned"  # a file whose age is that of the last look
_ORDER = {"tag": 0, "commit": 1, "tree": 2, "blob": 3}


def prune_if_many(git_dir: Path, *, lock: MergeLockHeld) -> int:
    """Removes loose objects that nothing names and that are a week old, where there are many and nobody has looked for a day.

    Gives how many went. Raises GitError, OSError.
    """
    lock.require()
    return remove(find_if_many(git_dir), lock=lock)


def find_if_many(git_dir: Path) -> list[Path]:
    """Lists what `prune_if_many` removes. True for as long as nobody brings in or merges."""
    looked = git_dir / _LOOKED
    if _loose(git_dir) < LOOSE_MIN or (looked.exists() and time.time() - looked.stat().st_mtime < EVERY_S):
        return []
    looked.touch()  # first: a look that takes too long is not begun again by the next start
    return find(git_dir, older_than=time.time() - OLD_S)


def find(git_dir: Path, *, older_than: float) -> list[Path]:
    """Lists the loose objects that nothing names and that were last written before `older_than`, each before what it refers to."""
    told = git.run("prune", "--dry-run", f"--expire={int(older_than)}", git_dir=git_dir, timeout_s=TIMEOUT_S)
    found = []
    for line in told.text.splitlines():
        oid, _, kind = line.partition(" ")
        if git.is_object_id(oid) and kind in _ORDER:
            path = git_dir / "objects" / oid[:2] / oid[2:]
            found.append((_ORDER[kind], -path.stat().st_mtime, path))
    return [path for _, _, path in sorted(found)]


def remove(found: Sequence[Path], *, lock: MergeLockHeld) -> int:
    """Removes what was found, in this order; gives how many went."""
    lock.require()
    for path in found:
        path.unlink()
    return len(found)


def _loose(git_dir: Path) -> int:
    """Estimates how many loose objects there are by one of their folders, as git does."""
    try:
        return 256 * len(os.listdir(git_dir / "objects" / "17"))
    except FileNotFoundError:
        return 0

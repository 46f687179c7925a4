"""Where the worktrees lie in which candidates are verified: in the user's cache, with nothing of the checkout above them.

A test runner looks upwards for its settings and packages (`pytest.ini`, `tsconfig.json`, `node_modules`), and below the checkout it
would find those of the checkout: what passes with them need not pass as it lands. Some (jest) find nothing below a folder called
`.git`. All of it can be made again. Rules for editing: what is removed is a pool of ours, by git's record of it, or belongs to a
repository that is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from swarm.edge import linked, process, whole
from swarm.edge.ground import RECORDS
from swarm.edge.lockfile import LockHeld

BESIDE = ".verify"  # in the folder of all worktrees, where there is no cache; no run is called so
_OF = "of"  # the file that names the state folder whose it is
_PREFIX = "swarm-verify-"  # of a folder in which something is verified without a daemon; then who made it, as in a mark
_MARK = "alone-"


def folder(top: Path, root: Path, state: Path, environ: Mapping[str, str]) -> Path:
    """Gives the folder for the repository whose checkout is `top`, worktrees lie in `root` and state in `state`.

    It is beside the other worktrees where those lie outside of the checkout, which chooses the disk, and where no cache can be had:
    without a home, in one that can't be written to, or that is the checkout itself.
    """
    top, root = Path(os.path.realpath(top)), Path(os.path.realpath(root))
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(environ.get("HOME", ""), ".cache")
    if not root.is_relative_to(top) or not os.path.isabs(base):
        return root / BESIDE
    digest = hashlib.sha256(os.fsencode(os.path.realpath(state))).hexdigest()[:12]
    place = Path(os.path.realpath(base), "swarm", "verify", digest)
    there = next(above for above in (place, *place.parents) if os.path.lexists(above))
    usable = there.is_dir() and os.access(there, os.W_OK | os.X_OK) and not place.is_relative_to(top)
    return place if usable else root / BESIDE


def settle(place: Path, landing: Path, state: Path, *, lock: LockHeld) -> None:
    """Sees to it that `place` is there and has all worktrees of the landing repository, whose records follow what was moved: what
    lies elsewhere is removed, as is what is left of repositories that are gone. Raises OSError."""
    lock.require()
    linked.follow_moved(landing, place.glob("[0-9]*"), lock=lock)
    for tree in linked.records(landing, user_config=False):
        if tree.path.parent != place:
            if tree.is_linked():  # where the repository was copied they are the other's
                pool = tree.path.parent
                linked.remove(pool if (pool / RECORDS).is_dir() else tree.path)
            linked.unlink(tree, lock=lock)
    if place.name == BESIDE:
        return
    for part in (place, place / RECORDS):  # by which it is known for ours
        part.mkdir(parents=True, exist_ok=True, mode=0o700)
    whole.write(place / _OF, f"{state}\n", durable=False)
    for note in place.parent.glob(f"*/{_OF}"):
        with contextlib.suppress(OSError):
            whose = linked.one_line(note)
            if whose and not os.path.lexists(whose):
                linked.remove(note.parent)


# --- without a daemon ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def alone() -> Iterator[Path]:
    """Gives a temporary folder in which something is verified without a daemon, and removes it."""
    us = process.identity_of(os.getpid())
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{us.pid}-{us.start_ticks}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def mark_of(folder: Path) -> str:
    """Gives how the nonces begin of all that runs in such a folder."""
    return _MARK + folder.name.removeprefix(_PREFIX)


def left_alone() -> list[Path]:
    """Lists the folders that are left where whoever verified something without a daemon was killed; some of it may still run."""
    found = []
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            facts = os.lstat(path)
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and _is_left(path):
                found.append(path)
    return found


def end_alone(folder: Path) -> bool:
    """Ends what runs in such a folder, and removes it; tells whether all of it is gone."""
    gone = [process.end_tree(None, mark, grace_s=0.0) for mark in process.nonces(mark_of(folder))]
    shutil.rmtree(folder, ignore_errors=True)
    return all(gone) and not folder.exists()


def _is_left(folder: Path) -> bool:
    """Tells whether the maker that the name of a folder tells is gone; one that tells none is nobody's of ours."""
    made = re.match(rf"{_PREFIX}([0-9]+)-([0-9]+)-", folder.name)
    return made is not None and not process.alive(
        process.Identity(process.boot_id(), int(made[1]), int(made[2]))
    )

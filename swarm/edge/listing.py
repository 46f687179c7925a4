"""What lies in a worktree besides what its base tracks: found by listing its folders, save those that stand as they stood.

Hides when that may be trusted. Whatever is put into a folder, taken out of it or renamed in it changes the folder's times, of
which nobody can set the one called ctime. So a folder in which only tracked names were found holds nothing else while it stands so
and its base tracks the same in it, if it had stood so for a while when it was listed: a change in the same tick of the clock would
not show. Rules for editing: in doubt a folder is listed. Listing is stricter than git's own, which looks past sockets, pipes and a
`.git` in a tracked folder, and which stops at folders that a worker made read-only: these get their owner's rights back. Links are
not followed.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import NamedTuple

from swarm.dataclass import dataclass
from swarm.edge import git
from swarm.edge.linked import give_rights_back, remove

SETTLED_NS = 200_000_000  # a kernel's clock for files ticks every 10 ms at most
STEP_NS = 10_000_000
_probing = threading.Lock()


class _Listed(NamedTuple):
    """A folder in which only tracked names were found: what tracks them, how it stood, and its folders with what tracks theirs."""

    tree: str
    stood: tuple[int, ...]
    folders: list[tuple[bytes, str]]


@dataclass(slots=True)
class Listing:
    """Lists one worktree, again and again."""

    _known: dict[bytes, _Listed] = field(default_factory=dict)

    def besides(self, top: Path, objects: git.Objects, tree: str) -> list[str]:
        """Lists all below `top` that `tree` does not track but the top's own `.git`, of a folder only itself; what is in a
        submodule's place, and a folder where a file belongs, are not tracked either. Raises GitError and OSError."""
        base = os.fsencode(top)
        known, self._known = self._known, {}
        found: list[bytes] = []
        level = [(b"", tree)]
        while level:
            deeper: list[tuple[bytes, str]] = []
            to_list: list[tuple[bytes, str, tuple[int, ...], int]] = []
            for folder, oid in level:
                stood, now = _stands(base + folder), time.time_ns()
                listed = known.get(folder)
                if listed is not None and (listed.tree, listed.stood) == (oid, stood):
                    self._known[folder] = listed
                    deeper += listed.folders
                else:
                    to_list.append((folder, oid, stood, now))
            tracked_in = objects.trees([oid for _, oid, _, _ in to_list])
            for (folder, oid, stood, now), tracked in zip(to_list, tracked_in, strict=True):
                more, folders = _list(base + folder, folder, tracked)
                found += more
                deeper += folders
                settled = now - max(stood[-2:]) > SETTLED_NS and not (more or _has_submodules(tracked))
                if settled and _stands(base + folder) == stood:
                    self._known[folder] = _Listed(oid, stood, folders)
            level = deeper
        return [os.fsdecode(path[1:]) for path in found]


def folders_tell(place: Path) -> bool:
    """Tells whether the file system of `place`, a folder of ours, has a folder's time tell of what is done in it: some don't, some
    count in whole seconds, and some go by a clock of their own."""
    with _probing:
        return _probed(place)


@functools.cache
def _probed(place: Path) -> bool:
    probe = place / ".probe"
    one, other = probe / "one", probe / "other"
    changes = (one.touch, lambda: one.rename(other), other.unlink, one.mkdir, one.rmdir)
    try:
        remove(probe)
        probe.mkdir(mode=0o700)
        return all(_is_told(probe, change) for change in changes)
    except OSError:
        return False
    finally:
        remove(probe)


def _is_told(folder: Path, change: Callable[[], object]) -> bool:
    os.utime(folder, ns=(0, 0))
    before = time.time_ns()
    change()
    told = os.stat(folder).st_mtime_ns
    return before - 2 * STEP_NS <= told <= time.time_ns() and told % STEP_NS != 0


def _stands(folder: bytes) -> tuple[int, ...]:
    """Tells one state of a folder from another, once its owner has the right to list and change it."""
    found = os.lstat(folder)
    if found.st_mode & 0o700 != 0o700:
        give_rights_back(folder)
        found = os.lstat(folder)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _has_submodules(tracked: Mapping[bytes, git.TreeEntry]) -> bool:
    return any(entry.mode == git.GITLINK_MODE for entry in tracked.values())


def _list(
    place: bytes, folder: bytes, tracked: Mapping[bytes, git.TreeEntry]
) -> tuple[list[bytes], list[tuple[bytes, str]]]:
    """Lists one folder: the paths of what is not tracked, each behind a slash, and those of folders that hold something tracked."""
    found: list[bytes] = []
    folders: list[tuple[bytes, str]] = []
    with os.scandir(place) as entries:
        for entry in entries:
            path = folder + b"/" + entry.name
            there = tracked.get(entry.name)
            if there is None:
                if path != b"/.git":
                    found.append(path)
            elif there.mode == git.TREE_MODE:
                if entry.is_dir(follow_symlinks=False):
                    folders.append((path, there.oid))
                else:
                    found.append(path)
            elif there.mode == git.GITLINK_MODE:
                if give_rights_back(entry.path):
                    found += [path + b"/" + inner for inner in os.listdir(entry.path)]
            elif entry.is_dir(follow_symlinks=False):
                found.append(path)
    return found, folders

"""Folders in a worktree that tools make again, such as `node_modules`: found there, and how much room they take.

Hides how it is known that such a folder may go: its name is one of those asked for, git ignores all that lies in it and tracks none
of it, by the index of whoever works there as by ours, and nowhere in it lies a git repository or the root of another file system.

Rules for editing: in doubt it is not one. Links are not followed; nothing is removed here, and no index is written.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from swarm.edge import git
from swarm.edge.linked import LinkedTree


def find(tree: LinkedTree, names: Collection[str], *, ours: Path) -> list[tuple[Path, int]]:
    """Lists the folders with one of these `names` that may go, and the bytes of each; `ours` is our copy of the index.

    Raises GitError, OSError.
    """
    asked = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
    ignored = _listed(tree.git(*asked))
    folders = [path for path in ignored if path.endswith("/") and Path(path).name in names]
    if not folders:
        return []
    lit = [f":(top,literal){path}" for path in folders]
    of_worth = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *lit)
    worthy = [path for index in (None, ours) for path in _listed(tree.git(*of_worth, index=index))]
    found = []
    for path in folders:
        if not any(each.startswith(path) for each in worthy):
            size_bytes = _size(tree.path / path)
            if size_bytes is not None:
                found.append((tree.path / path, size_bytes))
    return found


def _listed(outcome: git.Outcome) -> list[str]:
    return [path for path in git.decode(outcome.out).split("\0") if path]


def _size(folder: Path) -> int | None:
    """Adds up what a folder takes on the disk; None where a repository or another file system lies in it, or some can't be seen."""
    total, waiting = 0, [os.fspath(folder)]
    try:
        device = os.lstat(folder).st_dev
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if entry.name == ".git" or found.st_dev != device:
                        return None
                    total += found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    except OSError:
        return None
    return total

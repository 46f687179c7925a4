"""What a worker changed of that which git ignores: told where it changed nothing else, since nobody sees it and it never lands.

Hides how that is known from what lay there before (what was copied, what the setup command made): nobody can set the time called
ctime, so a file that the worker wrote, moved or made is younger than one that was written just before it began. Rules for editing:
a hint for people, so what would take long is not looked at; links are not followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from swarm.edge import git
from swarm.edge.leftovers import Lent
from swarm.edge.linked import LinkedTree

NAMED_MAX = 20
LOOKS_MAX = 10_000
TIMEOUT_S = 10.0


def changed(tree: LinkedTree, lent: Lent, *, index: Path, after_ns: int) -> tuple[str, ...]:
    """Lists the first ignored files that have changed after `after_ns` (nanoseconds since the epoch), save what is `lent`; `index`
    knows what is tracked. Raises GitError and OSError."""
    asked = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
    told = tree.git(*asked, *lent.within(tree.path).pathspecs(), index=index, timeout_s=TIMEOUT_S).out
    left, folder = [LOOKS_MAX], "/"
    found: list[str] = []
    for path in sorted(filter(None, git.decode(told).split("\0"))):
        if path.startswith(folder):  # git lists some folders inside of others once more
            continue
        folder = path if path.endswith("/") else folder
        for each in _files(tree.path, path.rstrip("/"), lent, left):
            if os.lstat(tree.path / each).st_ctime_ns > after_ns:
                found.append(each)
            if len(found) == NAMED_MAX or not left[0]:
                return tuple(found)
    return tuple(found)


def _files(top: Path, path: str, lent: Lent, left: list[int]) -> Iterator[str]:
    """Yields the files at and below a path, by name, of as many things as are `left` to be looked at."""
    if path in lent.paths or not left[0]:
        return
    left[0] -= 1
    if not os.path.isdir(top / path) or os.path.islink(top / path):
        yield path
        return
    for name in sorted(os.listdir(top / path)):
        yield from _files(top, f"{path}/{name}", lent, left)

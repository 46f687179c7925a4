"""The refs of a git folder that a worker wrote, read without git, which would go by settings that the worker may have made.

Hides loose and packed refs and the log of the stash. Rules for editing: what lies there is a worker's, so no link is followed, no
name is believed, and what is too large to be read is nothing. Refs that are kept as reftable are not read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from swarm.edge import git
from swarm.edge.linked import is_file, is_folder, one_line

REFS_BYTES_MAX = 64 << 20
_STASHES = "logs/refs/stash"
_ID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


def head(folder: Path, admin: Path | None = None) -> str:
    """Gives the commit at which HEAD stands, that of the record `admin` where one is given; "" where that can't be read."""
    held = one_line((admin or folder) / "HEAD") or ""
    at = _ref(folder, held.removeprefix("ref: ")) if held.startswith("ref: refs/") else held
    return at if git.is_object_id(at) else ""


def refs(folder: Path) -> Iterator[tuple[str, str]]:
    """Gives the id and the full name of each ref, and of the older stashes, which only a log names. A packed one may be old."""
    if is_folder(folder / "refs"):
        for place, _, names in os.walk(folder / "refs"):
            for name in names:
                held = one_line(Path(place, name)) or ""
                if git.is_object_id(held):
                    yield held, os.path.relpath(os.path.join(place, name), folder)
    yield from _packed(folder)
    for line in _lines(folder / _STASHES):
        yield from ((oid, "refs/stash") for oid in _ID.findall(line)[1:2])


def _ref(folder: Path, name: str) -> str:
    loose = one_line(folder / name) if ".." not in name else None
    return loose or {ref: oid for oid, ref in _packed(folder)}.get(name, "")


def _packed(folder: Path) -> Iterator[tuple[str, str]]:
    for line in _lines(folder / "packed-refs"):
        oid, _, name = line.partition(" ")
        if git.is_object_id(oid):
            yield oid, name


def _lines(path: Path) -> list[str]:
    if not (is_folder(path.parent) and is_file(path)) or path.stat().st_size > REFS_BYTES_MAX:
        return []
    return path.read_text("ascii", "replace").splitlines()

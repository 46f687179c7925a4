"""What the content of a tree object says: the names in one folder, and what each is.

Hides git's format of it. Rules for editing: nothing is read or written here; names and their order are bytes, as in git.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

TREE_MODE = "040000"
GITLINK_MODE = "160000"
_ENTRY = {size: re.compile(rb"([0-7]{5,6}) ([^\0]+)\0(.{%d})" % size, re.DOTALL) for size in (20, 32)}


class TreeEntry(NamedTuple):
    """What a folder holds by one name: its mode, six octal digits, and the object."""

    mode: str
    oid: str


def read_tree(body: bytes, id_bytes: int) -> dict[bytes, TreeEntry]:
    """Reads the content of a tree, with object ids of so many bytes."""
    return {
        name: TreeEntry(mode.decode().zfill(6), oid.hex())
        for mode, name, oid in _ENTRY[id_bytes].findall(body)
    }


def tree_body(entries: Mapping[bytes, TreeEntry]) -> bytes:
    """Gives the content of the tree that holds these."""
    return b"".join(
        entry.mode.lstrip("0").encode() + b" " + name + b"\0" + bytes.fromhex(entry.oid)
        for name, entry in sorted(entries.items(), key=_place)
    )


def _place(item: tuple[bytes, TreeEntry]) -> bytes:
    """Gives what git sorts by: of a folder the name as if a slash followed."""
    name, entry = item
    return name + b"/" if entry.mode == TREE_MODE else name

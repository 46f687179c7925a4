"""What a git index says, read without git: whether paths are unmerged, whether changes may be hidden, what one path is.

Hides the index format (gitformat-index, versions 2 to 4). Rules for editing: read only, never write;
whatever is not understood is a ValueError, and the caller asks git instead or makes the index anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from swarm.dataclass import dataclass
from swarm.edge.git import TreeEntry

_MODE_AT = 24
_MODES = frozenset({0o100644, 0o100755, 0o120000})
_FLAGS_AT = 40  # ten 32-bit numbers of stat data and mode come first, then the object id, then the flags
_ASSUME_VALID, _EXTENDED, _STAGE, _LENGTH = 0x8000, 0x4000, 0x3000, 0x0FFF
_SKIP_WORKTREE = 0x40
_LINK_MODE, _LINK_BYTE = (0o160000).to_bytes(4, "big"), b"\xe0"


@dataclass(frozen=True, slots=True)
class IndexFlags:
    """Whether paths were left unmerged, and whether entries are marked so that changes of their files do
    not show."""

    unmerged: bool
    hides: bool
    split: bool = False


def read_flags(data: bytes, *, oid_bytes: int = 20) -> IndexFlags:
    """Reads the flags of all entries. Raises ValueError when `data` is no index."""
    seen, skips, after = 0, False, 12
    for at, flags, after in _entries(data, oid_bytes):  # noqa: B007 - the last one tells where the entries end
        seen |= flags
        if flags & _EXTENDED:
            skips = skips or bool(data[at + _FLAGS_AT + oid_bytes + 2] & _SKIP_WORKTREE)
    split = (
        data[after : after + 4] == b"link"
    )  # the entries are in another file: anything may be marked there
    return IndexFlags(bool(seen & _STAGE), bool(seen & _ASSUME_VALID) or skips or split, split)


def may_link(data: bytes, *, oid_bytes: int = 20) -> bool:
    """Tells whether an index may have a submodule among its entries: so rarely not rightly that git may be asked then."""
    at = data.find(_LINK_BYTE)  # among so many zeros its one rare byte is found sooner than all of it
    while at >= 0:
        if data[at - 2 : at + 2] == _LINK_MODE:
            return True
        at = data.find(_LINK_BYTE, at + 1)
    if b"link" not in data or b"link\0\0" not in data:  # of another file with entries, or the end of a name
        return False
    try:
        return read_flags(data, oid_bytes=oid_bytes).split
    except ValueError:
        return True


def find(data: bytes, path: bytes, *, oid_bytes: int = 20) -> TreeEntry | None:
    """Gives what a path is without reading the entries one by one; None where there is no ordinary entry of it: none, or one that
    is marked or unmerged. Raises ValueError where that can't be told, as in an index of another version."""
    if data[:4] != b"DIRC" or int.from_bytes(data[4:8], "big") not in (2, 3) or len(path) >= _LENGTH:
        raise ValueError("not an index in which a path can be searched for")
    # Flags of an ordinary entry are the length of its name. A name has no zero byte, and of a length below 256 the first byte is
    # zero: so this is in no name. Where an id or a time looks like it there are two places, or one where no entry can begin.
    looks = len(path).to_bytes(2, "big") + path + b"\0"
    at = data.rfind(looks)
    if at < 0:
        return None
    start = at - oid_bytes - _FLAGS_AT
    mode = int.from_bytes(data[start + _MODE_AT : start + _MODE_AT + 4], "big")
    if start < 12 or (start - 12) % 8 or mode not in _MODES or data.find(looks) != at:
        raise ValueError("it can't be told which entry that is")
    return TreeEntry(f"{mode:06o}", data[at - oid_bytes : at].hex())


def _entries(data: bytes, oid_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Yields where each entry begins, its flags, and where the next one begins."""
    version = int.from_bytes(data[4:8], "big")
    if data[:4] != b"DIRC" or version not in (2, 3, 4) or len(data) < 12 + oid_bytes:
        raise ValueError("not an index")
    fixed = _FLAGS_AT + oid_bytes + 2
    at = 12
    try:
        for _ in range(int.from_bytes(data[8:12], "big")):
            flags = data[at + fixed - 2] << 8 | data[at + fixed - 1]
            start = at + fixed + (2 if flags & _EXTENDED else 0)
            if version == 4:
                end = data.index(b"\0", _number(data, start)[1]) + 1
            else:
                length = flags & _LENGTH
                name_end = start + length if length != _LENGTH else data.index(b"\0", start)
                end = at + (name_end - at + 8 & ~7)  # padded by one to eight zeros
            yield at, flags, end
            at = end
    except IndexError:
        raise ValueError("the index is cut off") from None


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Reads a number of variable length, as in pack offsets; gives it and where the next byte is."""
    byte = data[at]
    value = byte & 0x7F
    while byte & 0x80:
        at += 1
        byte = data[at]
        value = (value + 1) << 7 | byte & 0x7F
    return value, at + 1


def fingerprint(index: Path) -> str:
    """Tells one state of an index from another; "" where there is none."""
    try:
        found = os.stat(index)
    except OSError:
        return ""
    return f"{found.st_mtime_ns}:{found.st_size}:{found.st_ino}"

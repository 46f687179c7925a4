"""Which state folder this is: known again after a move, told from a copy, and the mark that all its processes carry.

Hides the file `place.json`: the folder's own id, where it was last, its inode, and the mark. The mark is made once and kept, so
that a worker that was left running is known by it wherever the repository is moved to meanwhile.

Rules for editing: a file that an older version wrote has no mark; its workers carry one that was made of the path alone. A file
that was deleted is made again with the mark that it had, as long as the folder was not moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any

from swarm.core.places import Places
from swarm.edge import whole
from swarm.errors import Refused


def places_of(state: Path) -> Places:
    """Gives the places of a state folder, with the mark of its processes. Looks only."""
    return Places(state, _mark(state, read(Places(state).place)))


def settle(state: Path) -> None:
    """Notes where a state folder is; for who alone is at work here. Raises `Refused` for a copy of one that is still at its place:
    the worktrees and workers that it names are that one's. One that was moved is its own."""
    where = Places(state).place
    here: dict[str, Any] = {"path": os.path.realpath(state), "folder": inode(state)}
    noted = read(where)
    copied = of_another(state)
    if copied is not None:
        raise copied
    wanted = {"id": noted.get("id") or secrets.token_hex(8), "mark": _mark(state, noted), **here}
    if noted != wanted:
        write_whole(where, wanted, durable=False)


def of_another(state: Path) -> Refused | None:
    """Gives what is to be said of a state folder that is a copy of one that is still at its place; None of any other."""
    noted = read(Places(state).place)
    here = os.path.realpath(state)
    original = Path(str(noted.get("path", here)))
    if here == str(original) or inode(state) == noted.get("folder"):
        return None
    if not noted.get("id") or read(Places(original).place).get("id") != noted["id"]:
        return None
    return Refused(
        f"{state} is a copy of {original}: its worktrees and workers are those of that repository.",
        "No daemon was started and nothing was changed.",
        f"to begin anew in this one: mv {quote(str(state))} {quote(f'{state}-of-another')}, then swarm start",
    )


def _mark(state: Path, noted: Mapping[str, Any]) -> str:
    path = os.path.realpath(state)
    fallback = noted.get("path") or f"{path} {inode(state)}"  # another folder may be made where this one was
    return str(noted.get("mark") or hashlib.sha256(os.fsencode(fallback)).hexdigest()[:12])


def open_up(state: Path) -> bool:
    """Gives this user back the rights in a state folder of his, which a worker that is shut in by Landlock may take away; tells
    whether that was needed. What is another's stays as it is."""
    with suppress(OSError):
        found = os.lstat(state)
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if ours and found.st_mode & 0o700 != 0o700:
            os.chmod(state, 0o700)
            from swarm import log  # which commands that only read don't load

            mode = f"{stat.S_IMODE(found.st_mode):03o}"
            log.get("place").warning("state.opened_up", path=str(state), mode=mode)
            return True
    return False


def write_whole(path: Path, document: Mapping[str, Any], *, durable: bool) -> None:
    """Writes a JSON file in one step, as `whole.write` does."""
    whole.write(path, json.dumps(document) + "\n", durable=durable)


def read(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object; empty where it is not there or holds anything else."""
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def inode(path: Path | str) -> list[int] | None:
    """Names a file or folder wherever it is shown; None where there is none."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [found.st_dev, found.st_ino]

"""The summary that a daemon leaves when it ends, for `swarm status` while none runs: replaying the journal may take seconds.

Hides how it is told whether it still holds: the files of the journal and the last of its transcript are, by number, size and times,
those that the daemon closed. Whatever comes after changes one of them: another daemon, an older copy, a -wal file that is lost.
Rules for editing: in doubt it is not believed, and the journal itself is read. No import here may cost start-up time.
"""

from __future__ import annotations

import json
import os

from swarm.protocol import JOURNAL_FILE, PLACE_FILE, TRANSCRIPT_FOLDER

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NAME = "status.json"


def leave(state: str, document: Mapping[str, Any]) -> None:
    """Leaves the summary in a state folder whose journal is closed, and stays so while this is called. Raises OSError."""
    from swarm.edge import whole

    text = json.dumps({"files": _files(state), "document": document})
    whole.write(os.path.join(state, NAME), text, durable=False)


def read(state: str) -> dict[str, Any] | None:
    """Gives the summary that the last daemon left in a state folder; None where it left none, or the journal is another by now."""
    try:
        with open(os.path.join(state, NAME), encoding="utf-8") as file:
            left = json.load(file)
        document: dict[str, Any] = left["document"]
        return document if left["files"] == _files(state) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def mark(state: str) -> list[list[int]] | None:
    """Tells the journal of a state folder as it is apart from how it is when anything was added; None where there is none."""
    try:
        return _files(state)
    except OSError:
        return None


def _files(state: str) -> list[list[int]]:
    """Tells the state of the journal's files apart from any other. An empty -wal file, which reading may leave, is as none."""
    journal, transcript = os.path.join(state, JOURNAL_FILE), os.path.join(state, TRANSCRIPT_FOLDER)
    last = max(os.listdir(transcript), default="")
    found = [_file(journal), _file(os.path.join(transcript, last))]
    try:
        ahead = _file(f"{journal}-wal")
    except FileNotFoundError:
        return found
    return [*found, ahead] if os.path.getsize(f"{journal}-wal") else found


def _file(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def copied(state: str) -> dict[str, str]:
    """Says of a state folder that came with a copy of another repository what it is: `cause`, `next_step`; empty of any other."""
    try:
        with open(os.path.join(state, PLACE_FILE), "rb") as file:
            if json.load(file).get("path") in (None, os.path.realpath(state)):
                return {}
    except (OSError, ValueError, AttributeError):
        return {}
    from pathlib import Path

    from swarm.edge import place

    found = place.of_another(Path(state))
    return {} if found is None else {"cause": found.cause, "next_step": found.next_step}

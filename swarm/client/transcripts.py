"""What `swarm show` tells of the transcripts that attempts of the built-in agent leave.

Rules for editing: a worker wrote the file: whatever stands in it is shown only through `printable`, and nothing in it is believed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swarm.core import transcript
from swarm.core.places import Places
from swarm.protocol import printable

LINES_TOLD = 12  # the last ones, where not all are asked for


def add_paths(document: dict[str, Any], state: Path) -> None:
    """Adds to each attempt of a task's document where its transcript is, if it has one."""
    task = document["task"]
    for attempt in task["attempts"]:
        places = Places(state).attempt(document["run"], task["id"], attempt["n"])
        found = [str(path) for path in (places.transcript, places.own_transcript) if path.is_file()]
        attempt["transcript"] = found[0] if found else None


def chosen(task: dict[str, Any], n: int | None) -> dict[str, Any] | None:
    """Gives the attempt whose transcript is meant: that of number `n`, else the newest that has one."""
    found = [each for each in task["attempts"] if each["transcript"] and n in (None, each["n"])]
    return found[-1] if found else None


def told(attempt: dict[str, Any], *, whole: bool) -> Iterator[str]:
    """Tells a transcript line by line: all of it, or its last lines in short."""
    with open(attempt["transcript"], "rb") as file:
        lines = transcript.told(transcript.records(file), whole=whole)
        if whole:
            yield from (printable(line) for line in lines)
            return
        last = deque(lines, LINES_TOLD + 1)
    if len(last) > LINES_TOLD:
        last[0] = "…"
    yield from (printable(line) for line in last)

"""What workers and suites print, as far as the page shows it: the end of it, and what comes.

Rules for editing: an output may have any size and hold anything. It is read as `swarm logs` reads it, and shown only through its
`View`; of a flood only the newest part is shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from swarm.client import logs, naming, offline
from swarm.client.session import Session
from swarm.protocol import printable

LINES = 400  # from the end, to begin with
LINES_MAX = 2_000  # at one look
LINE_MAX = 2_000  # characters
BLOCKS_MAX = 8  # of what has come since, at one look
LAST_MAX = 200  # characters of the line that tells what a worker does
LAST_BYTES = 1 << 13  # in which that is looked for
STANDING_EVERY_S = 1.2  # so often it is asked whether the attempt has ended


def last_line(session: Session, run: str, task: str, attempt: int) -> str:
    """Gives the last line that a worker has printed; empty where it has printed none, or can't be read."""
    try:
        for _, path in offline.outputs(session.state, run, task, attempt, "worker"):
            view = logs.View(
                None, width_max=LAST_MAX, reader=offline.reader_of(session.state, run, task, attempt)
            )
            start = max(0, os.path.getsize(path) - LAST_BYTES)
            blocks = list(logs.Tail(path, start).blocks(last=True))
            lines = "".join(view.shown(block).decode("utf-8") for block in blocks).split("\n")
            return next(filter(None, map(str.strip, reversed(lines))), "")
    except OSError:
        pass  # it was cleared away just now
    return ""


class Output:
    """What the outputs of an attempt have grown by; `attempt` is None for the newest, which may be another one by the next look."""

    def __init__(self, session: Session, run: str, task: str, attempt: int | None) -> None:
        self._session = session
        self._run, self._task, self._attempt = run, task, attempt
        self._tails: dict[str, logs.Tail] = {}
        self._found: dict[str, Any] = {}
        self._over, self._asked_at = False, float("-inf")

    def come(self) -> tuple[list[list[str]], bool]:
        """Gives (label, line) of what has come, and whether that was all there will be."""
        if time.monotonic() - self._asked_at >= STANDING_EVERY_S:
            self._asked_at = time.monotonic()
            self._found, self._over = self._standing()
        found, over = self._found, self._over
        n = self._attempt or max((each["n"] for each in found.get("attempts") or []), default=0)
        if not n:
            return [], over
        reader = offline.reader_of(self._session.state, self._run, self._task, n)
        shown: list[list[str]] = []
        for label, path in offline.outputs(self._session.state, self._run, self._task, n, None):
            view = logs.View(None, width_max=LINE_MAX, reader=reader if label == "worker" else None)
            if path not in self._tails:
                self._tails[path] = logs.Tail(path, logs.start_of_last(path, LINES, view))
            for block in _newest(self._tails[path].blocks(last=over)):
                lines = view.shown(block).decode("utf-8").splitlines()
                shown += ([f"attempt {n}, {printable(label)}", line] for line in lines)
        return shown[-LINES_MAX:], over

    def _standing(self) -> tuple[dict[str, Any], bool]:
        """Gives the task as it stands, and whether nothing more will come of what is followed: asked before reading."""
        if self._session.daemon_or_none() is None:
            return self._session.task_document(self._run, self._task)["task"], True
        found = self._session.task(self._task, self._run)[1]
        newest = max((each["n"] for each in found.get("attempts") or []), default=0)
        return found, found.get("state") not in naming.UNDER_WAY or self._attempt not in (None, newest)


def _newest(blocks: Iterator[bytes]) -> list[bytes]:
    """Of a flood the newest part is shown."""
    kept: list[bytes] = []
    for block in blocks:
        kept = [*kept[-BLOCKS_MAX:], block]
    return kept

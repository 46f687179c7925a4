"""Hears workers: reads what was added to the output of one since the last time, and keeps what all of it comes to.

Hides the output file. It may be of any size and hold anything: what is read at once has a limit, and beyond it the oldest is left
out, so a look costs little however long nobody looked. May be used from any thread.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from datetime import tzinfo
from pathlib import Path

from swarm.core.places import AttemptPlaces
from swarm.core.rate_limits import Clock
from swarm.core.streams import Said, shown
from swarm.edge.trouble import raise_if_troubled

BYTES_MAX = 16 << 20  # read at once; programs that print more between two looks are heard from there on
LINE_BYTES_MAX = 4 << 20  # a longer line is not understood
LAST_BYTES = 1 << 18  # in which the last lines are looked for


def note_format(places: AttemptPlaces, parser: str, worktree: str) -> None:
    """Writes down, before a worker starts, the format of its output and where it works; nothing where it has none."""
    if parser:
        places.format.write_text(f"{parser}\n{worktree}\n", "utf-8", "surrogateescape")


def format_of(places: AttemptPlaces) -> tuple[str, str] | None:
    """Gives the format of a worker's output and the worktree it works in, None where its output has no format."""
    try:
        parser, _, worktree = places.format.read_text("utf-8", "surrogateescape").partition("\n")
    except OSError as error:
        raise_if_troubled(error)
        return None
    return parser, worktree.removesuffix("\n")


def listener(places: AttemptPlaces) -> Listener | None:
    """Gives what hears a worker from its first word on, None where its output has no format."""
    found = format_of(places)
    return None if found is None else Listener(places.output, *found)


def last_words(places: AttemptPlaces) -> str:
    """Gives what a worker that has ended said last, whole; "" where its output has no format."""
    found = listener(places)
    return "" if found is None else found.listen(0.0, last=True).final


def last_lines(places: AttemptPlaces, parser: str, top: str) -> list[str]:
    """Gives the last lines of a worker's output as people read them; none where it can't be read. With `OSError` where the machine
    is in trouble."""
    try:
        with open(places.output, "rb") as file:
            start = max(0, os.fstat(file.fileno()).st_size - LAST_BYTES)
            file.seek(start)
            data = file.read(LAST_BYTES)
    except OSError as error:
        raise_if_troubled(error)
        return []
    found: list[str] = []
    for line in data.split(b"\n")[1 if start else 0 :]:  # else it begins within a line
        text = line.decode("utf-8", "replace").rstrip("\r")
        told = shown(parser, text, top)
        found += told if told is not None else [text] if text else []
    return found


def _zone(name: str) -> tzinfo | None:
    """Gives a time zone by its name, None where this machine knows none of that name. It may be anything that a program prints."""
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return None


class Listener:
    """Hears one worker. `since` is when it was last seen to have printed something, by the clock that never goes back."""

    def __init__(self, output: Path, parser: str, top: str) -> None:
        self._output = output
        self._said = Said(parser, top, Clock(float(time.localtime().tm_gmtoff), _zone))
        self._lock = threading.Lock()
        self._place = 0
        self._rest = b""
        self.since = time.monotonic()

    def listen(self, at: float, *, last: bool = False) -> Said:
        """Reads what has come by `at` and gives what was said so far; with `last` nothing more will come, and an unfinished line
        counts. What can't be read is silence; `last` raises `OSError` where the machine is in trouble."""
        with self._lock:
            try:
                self._read(at)
            except OSError as error:
                if last:
                    raise_if_troubled(error)
            if last and self._rest:
                self._hear(self._rest, at)
                self._rest = b""
            return dataclasses.replace(self._said)

    def _read(self, at: float) -> None:
        with open(self._output, "rb") as file:
            end = os.fstat(file.fileno()).st_size
            if end == self._place:
                return
            self.since = time.monotonic()
            if end < self._place:  # its middle was taken out
                self._place, self._rest = end, b""
            if end - self._place > BYTES_MAX:
                self._place, self._rest = end - BYTES_MAX, b""
            file.seek(self._place)
            data = file.read(end - self._place)
        self._place += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
        for line in lines:
            self._hear(line, at)

    def _hear(self, line: bytes, at: float) -> None:
        if len(line) <= LINE_BYTES_MAX:
            self._said.hear(line.decode("utf-8", "replace").rstrip("\r"), at)

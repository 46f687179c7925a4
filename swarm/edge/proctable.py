"""The process table of the kernel's: which processes there are, whose child each is, since when, and what it has used.

Hides `/proc`. A pid alone is given to others again, so a process is named by its `Identity`. Rules for editing: what could not be
looked at, for want of a descriptor, raises; it is not "gone".
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from swarm.dataclass import dataclass
from swarm.edge.trouble import raise_if_troubled

REMEMBERED = 1000  # processes that we started, of which it is known where those that they start can be


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process it is, for as long as the machine's disk lives: a pid alone is given to others again."""

    boot_id: str
    pid: int
    start_ticks: int

    def to_json(self) -> dict[str, Any]:
        """Gives it as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Identity:
        """Reads it back. Raises `ValueError` where a part is missing or of the wrong kind."""
        boot_id, pid, ticks = data.get("boot_id"), data.get("pid"), data.get("start_ticks")
        if not isinstance(boot_id, str) or type(pid) is not int or type(ticks) is not int or pid <= 0:
            raise ValueError(f"not an identity: {data!r}")
        return cls(boot_id, pid, ticks)


@cache
def boot_id() -> str:
    """Gives the kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Stat(NamedTuple):
    """The part of proc(5) stat that is used here; times in ticks, memory in pages."""

    state: bytes
    parent: int
    group: int
    session: int
    cpu_ticks: int
    threads: int
    start_ticks: int
    resident: int

    @property
    def running(self) -> bool:
        # The main thread may have ended before others: the process is then shown as a zombie and runs on.
        return self.state not in (b"Z", b"X") or self.threads > 1


def stat_of(pid: int) -> Stat | None:
    try:
        handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise_if_troubled(error)
        return None
    try:
        data = os.read(handle, 1024)
    except OSError:  # it ended in between
        return None
    finally:
        os.close(handle)
    # The name in parentheses may hold anything, parentheses too.
    f = data[data.rindex(b")") + 2 :].split(b" ", 22)
    cpu = (
        int(f[11]) + int(f[12]) + int(f[13]) + int(f[14])
    )  # reaped children count, so that a sum never goes down
    return Stat(f[0], int(f[1]), int(f[2]), int(f[3]), cpu, int(f[17]), int(f[19]), int(f[21]))


def name_of(pid: int) -> bytes:
    """Gives the name of a process as the kernel has it, empty where it is gone."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read(64).rstrip(b"\n")
    except OSError as error:
        raise_if_troubled(error)
        return b""


def table(since_ticks: int = 0, above: int = 0) -> dict[int, Stat]:
    """Every running process that started at `since_ticks` or later; ours is left out. One pass over /proc."""
    own = os.getpid()
    table: dict[int, Stat] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        if pid < above or pid == own:
            continue
        found = stat_of(pid)
        if found is not None and found.start_ticks >= since_ticks and found.running:
            table[pid] = found
    return table


class PidSpace:
    """Tells whether pids may have started again from the bottom since a process got its own: then looking only above
    it would miss some. Sound, not exact: forks are counted for the whole machine, and every task counts as skipped."""

    def __init__(self) -> None:
        self._wraps_at: dict[Identity, int] = {}
        self._read_at = -math.inf
        self._forks = self._tasks = 0
        self._most = 0

    def note(self, process: Callable[[], Identity]) -> Identity:
        """Remembers, for the process made meanwhile, up to which count of forks its pid is lower than all later ones."""
        if time.monotonic() - self._read_at > 1.0:  # an older count is as true, it only ends earlier
            self._tasks = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
            self._most = int(Path("/proc/sys/kernel/pid_max").read_text())
            self._forks = _forks()
            self._read_at = time.monotonic()
        limit = self._forks + self._most - self._tasks
        made = process()
        if len(self._wraps_at) > REMEMBERED:
            self._wraps_at.clear()  # forgetting costs time, never truth
        self._wraps_at[made] = limit - made.pid
        return made

    def lowest(self, identity: Identity) -> int:
        """Gives the pid below which nothing that `identity` started can be."""
        limit = self._wraps_at.get(identity)
        return identity.pid if limit is not None and _forks() < limit else 0


def _forks() -> int:
    with open("/proc/stat", "rb") as file:
        text = file.read()
    return int(text[text.index(b"\nprocesses ") + 11 :].split(b"\n", 1)[0])


def link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""

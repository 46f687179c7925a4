"""The machine at this moment: how busy it is, and how much memory and disk are left.

Hides psutil, control groups and pressure files. Where a cgroup (v1 or v2) limits this process, CPU is told as a
percentage of its quota, and memory as whichever of the machine and the cgroup is fuller: in a container the machine's
own figures say little about what is left. Page cache that can be dropped does not count as used.

Rules for editing: a reading takes no longer than 0.5 ms and never fails the daemon. `psutil.cpu_percent` is not used: it
keeps its last counts per thread, and we are called from whichever thread is free, where it would answer 0.
"""

from __future__ import annotations

import json
import math
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import psutil

from swarm.core.model import Readings
from swarm.dataclass import dataclass
from swarm.protocol import at_once

WINDOW_S = 0.1  # CPU time is counted in steps of 10 ms: over less than this a percentage is noise
READINGS_FILE_MAX_BYTES = 64 << 10
_NEEDED = frozenset(item.name for item in fields(Readings) if item.default is MISSING)
_NO_LIMIT_BYTES = 1 << 60  # what cgroup v1 says when there is none is a little less than 2**63


class Host:
    """Takes readings; `note` is a sentence where the last ones are not what was asked for, else "". Thread-safe.

    `disk_paths` are in the file systems whose room counts: that of the fullest. `readings_file` (JSON, any of the fields of
    `Readings`) replaces what it names by its values, and is read each time. `cgroup_root`, `cgroup_of_self` and `pressure` are
    where the kernel shows control groups, and how much of the time is spent waiting for memory.
    """

    def __init__(
        self,
        disk_paths: Sequence[Path],
        readings_file: Path | None = None,
        *,
        cgroup_root: Path = Path("/sys/fs/cgroup"),
        cgroup_of_self: Path = Path("/proc/self/cgroup"),
        pressure: Path = Path("/proc/pressure/memory"),
    ) -> None:
        self.note = ""
        self._disk_paths = tuple(disk_paths)
        self._pressure = pressure
        self._file = readings_file
        self._from_file: dict[str, float] = {}
        self._cgroup = _find_cgroup(cgroup_root, cgroup_of_self)
        self._lock = threading.Lock()
        self._percent: float | None = None
        self._read_at = time.monotonic()
        self._counted = self._count()

    def read(self) -> Readings:
        """Gives the readings now; the first waits until a tenth of a second has passed since this was made."""
        with self._lock:
            given = self._given()
            if given.keys() >= _NEEDED:
                return _readings(given)
            return _readings({**asdict(self._measured()), **given})

    def _measured(self) -> Readings:
        memory = psutil.virtual_memory()
        percent, available = memory.percent, memory.available
        inside = self._cgroup.memory() if self._cgroup else None
        if inside is not None and inside[1] < memory.total:
            used, limit = inside
            percent = max(percent, min(100.0, 100.0 * used / limit))
            available = min(available, max(0, limit - used))
        rooms = [_room_on(path) for path in self._disk_paths]
        inodes = [number for _, number in rooms if number is not None]
        stalls = [_stall_percent(file) for file in self._stall_files()]
        return Readings(
            cpu_percent=self._cpu_percent(),
            memory_percent=percent,
            memory_available_bytes=available,
            disk_free_bytes=min(free_bytes for free_bytes, _ in rooms),
            memory_stall_percent=max((each for each in stalls if each is not None), default=None),
            disk_free_inodes=min(inodes, default=None),
        )

    def _stall_files(self) -> Iterator[Path]:
        yield self._pressure
        if self._cgroup is not None and self._cgroup.unified and self._cgroup.memory_folder is not None:
            yield self._cgroup.memory_folder / "memory.pressure"

    def _cpu_percent(self) -> float:
        passed_s = time.monotonic() - self._read_at
        if passed_s < WINDOW_S:
            if self._percent is not None:
                return self._percent
            time.sleep(WINDOW_S - passed_s)
        before, self._counted = self._counted, self._count()
        self._read_at = time.monotonic()
        busy, whole = self._counted[0] - before[0], self._counted[1] - before[1]
        self._percent = min(100.0, max(0.0, 100.0 * busy / whole)) if whole > 0 else self._percent or 0.0
        return self._percent

    def _count(self) -> tuple[float, float]:
        """Seconds of CPU used, and seconds that could have been used, both since some time in the past."""
        inside = self._cgroup.cpu() if self._cgroup else None
        if inside is not None:
            used_s, cores = inside
            return used_s, time.monotonic() * cores
        times = psutil.cpu_times()
        # A guest's time is counted in user time already; waiting for a disk leaves the core free.
        whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return whole - times.idle - getattr(times, "iowait", 0.0), whole

    def _given(self) -> dict[str, float]:
        """What the readings file says. A file that is being rewritten leaves the last values in force."""
        self.note = ""
        if self._file is None:
            return {}
        try:
            with open(self._file, "rb", opener=at_once) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ValueError("it is no file but a pipe or the like")
                found = json.loads(file.read(READINGS_FILE_MAX_BYTES))
            if not isinstance(found, dict):
                raise ValueError("not an object")
        except FileNotFoundError:
            self.note = f"The readings file {self._file} is missing: the machine's own readings are used."
            self._from_file = {}
        except (OSError, ValueError, RecursionError) as error:
            instead = "its last values" if self._from_file else "the machine's own readings"
            self.note = f"The readings file {self._file} can't be read ({error}): {instead} are used."
        else:
            self._from_file, wrong = _numbers(found)
            if wrong:
                self.note = f"The readings file {self._file} has no usable {', '.join(wrong)}."
        return self._from_file


def _readings(values: Mapping[str, float]) -> Readings:
    return Readings(
        cpu_percent=float(values["cpu_percent"]),
        memory_percent=float(values["memory_percent"]),
        memory_available_bytes=int(values["memory_available_bytes"]),
        disk_free_bytes=int(values["disk_free_bytes"]),
        memory_stall_percent=values.get("memory_stall_percent"),
        disk_free_inodes=int(inodes) if (inodes := values.get("disk_free_inodes")) is not None else None,
    )


def _stall_percent(file: Path) -> float | None:
    """How much of the last 10 s all that could run waited; None where the kernel does not tell."""
    for line in _text(file).splitlines():
        if line.startswith("full avg10="):
            return float(line.removeprefix("full avg10=").split()[0])
    return None


def _numbers(found: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """The usable values of the known names, and the names whose values are not."""
    usable: dict[str, float] = {}
    wrong: list[str] = []
    for name in Readings.__dataclass_fields__:
        value = found.get(name)
        if value is None:
            continue
        if type(value) in (int, float) and 0 <= value < 1e30 and math.isfinite(value):
            usable[name] = value
        else:
            wrong.append(name)
    return usable, wrong


def _room_on(path: Path) -> tuple[int, int | None]:
    """How many bytes and inodes are free on the disk of a path, for users who are not root; None for inodes where the file system
    has no fixed number of them."""
    while True:
        try:
            found = os.statvfs(path)
            return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None
        except OSError:
            if path == path.parent:
                return 0, None  # nothing can be told of the disk: nothing new is to start on it
            path = path.parent  # not made yet, or just removed


# --- control groups -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cgroup:
    """The folders that limit us: of memory, and of CPU time; each None where nothing does."""

    memory_folder: Path | None
    cpu_folder: Path | None
    unified: bool
    cpu_usage: Path | None

    def memory(self) -> tuple[int, int] | None:
        """Bytes used (without what can be dropped) and the limit; None where there is none."""
        if self.memory_folder is None:
            return None
        limit = _limit(self.memory_folder, self.unified)
        used = _number(self.memory_folder / ("memory.current" if self.unified else "memory.usage_in_bytes"))
        if limit is None or used is None:
            return None
        cached = _field(
            self.memory_folder / "memory.stat", "inactive_file" if self.unified else "total_inactive_file"
        )
        return max(0, used - (cached or 0)), limit

    def cpu(self) -> tuple[float, float] | None:
        """Seconds of CPU used, and the quota in cores; None where there is none."""
        if self.cpu_folder is None or self.cpu_usage is None:
            return None
        quota = _quota(self.cpu_folder, self.unified)
        used = _field(self.cpu_usage, "usage_usec") if self.unified else _number(self.cpu_usage)
        if quota is None or used is None:
            return None
        return used / (1e6 if self.unified else 1e9), quota


def _find_cgroup(root: Path, of_self: Path) -> _Cgroup | None:
    """The tightest limits above us, or None where nothing limits us. Looked for once; their values are read each time."""
    places = _places(of_self)
    if "memory" in places or "cpu" in places:
        memory = _tightest(_upward(root / "memory", places.get("memory", "")), unified=False)
        cpu = _slowest(_upward(root / "cpu", places.get("cpu", "")), unified=False)
        usage = _usage_beside(root, cpu) if cpu else None
        found = _Cgroup(memory, cpu, unified=False, cpu_usage=usage)
    else:
        folders = _upward(root, places.get("", ""))
        cpu = _slowest(folders, unified=True)
        found = _Cgroup(
            _tightest(folders, unified=True), cpu, unified=True, cpu_usage=cpu / "cpu.stat" if cpu else None
        )
    return found if found.memory_folder or found.cpu_folder else None


def _usage_beside(root: Path, cpu: Path) -> Path | None:
    """Where the time used by all that shares this quota is counted: in the same folder, or under another mount."""
    places = [cpu, root / "cpuacct" / cpu.relative_to(root / "cpu")]
    return next((place / "cpuacct.usage" for place in places if (place / "cpuacct.usage").exists()), None)


def _places(of_self: Path) -> dict[str, str]:
    """Our path for each controller; under "" the one of cgroup v2."""
    places = {}
    for line in _text(of_self).splitlines():
        _id, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            places[controller] = path
    return places


def _upward(root: Path, path: str) -> list[Path]:
    """The folders from ours up to the root; inside a container ours may be shown by its name outside, and not exist."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    folders = [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return [folder for folder in folders if folder.is_dir()]


def _tightest(folders: list[Path], *, unified: bool) -> Path | None:
    limits = [
        (limit, n) for n, folder in enumerate(folders) if (limit := _limit(folder, unified)) is not None
    ]
    return folders[min(limits)[1]] if limits else None


def _slowest(folders: list[Path], *, unified: bool) -> Path | None:
    quotas = [
        (quota, n) for n, folder in enumerate(folders) if (quota := _quota(folder, unified)) is not None
    ]
    return folders[min(quotas)[1]] if quotas else None


def _limit(folder: Path, unified: bool) -> int | None:
    limit = _number(folder / ("memory.max" if unified else "memory.limit_in_bytes"))
    return limit if limit is not None and 0 < limit < _NO_LIMIT_BYTES else None


def _quota(folder: Path, unified: bool) -> float | None:
    """Cores that may be used; None where there is no limit."""
    if unified:
        quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    else:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None  # "max", or no such file
    return cores if 0 < cores < (os.cpu_count() or 1) else None


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _field(path: Path, name: str) -> int | None:
    for line in _text(path).splitlines():
        found, _, value = line.partition(" ")
        if found == name:
            return int(value)
    return None


def _text(path: Path) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""

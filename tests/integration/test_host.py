"""Readings of the real machine, of real and laid-out control groups, and of a readings file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import pytest

from swarm.core.model import Readings
from swarm.edge import host as host_module
from swarm.edge.host import Host
from tests.adversity import small_disk

TOP = Path(__file__).resolve().parents[2]
ALL = {
    "cpu_percent": 12.5,
    "memory_percent": 34,
    "memory_available_bytes": 5_000_000_000,
    "disk_free_bytes": 7,
}


def spend_cpu(seconds: float) -> None:
    """Uses a core until that much wall time has passed."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        pass


def a_host(tmp_path: Path, **more: Any) -> Host:
    """A host without any control group."""
    return Host([tmp_path], **{"cgroup_root": tmp_path / "none", "cgroup_of_self": tmp_path / "none", **more})


# --- the machine --------------------------------------------------------------------------------------------


def test_the_first_reading_is_a_real_one(tmp_path: Path) -> None:
    """Right after construction a reading already tells a plausible machine, and CPU use is not a made-up 0."""
    host = a_host(tmp_path)
    busy = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        readings = host.read()
    finally:
        busy.kill()
        busy.wait()
    assert 0 < readings.cpu_percent <= 100
    assert 0 < readings.memory_percent < 100
    assert 0 < readings.memory_available_bytes < psutil.virtual_memory().total
    assert 0 < readings.disk_free_bytes <= psutil.disk_usage(str(tmp_path)).total
    assert host.note == ""


def test_every_thread_gets_the_same_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading from a thread that never took one before tells the use since the last one, not 0."""
    host = a_host(tmp_path)
    host.read()
    spend_cpu(0.25)
    found: list[Readings] = []
    thread = threading.Thread(target=lambda: found.append(host.read()))
    thread.start()
    thread.join()
    assert found[0].cpu_percent > 100 / (os.cpu_count() or 1) * 0.5
    monkeypatch.setattr(host_module, "WINDOW_S", 3600.0)
    assert host.read().cpu_percent == found[0].cpu_percent  # too soon for another figure


def test_a_disk_path_that_is_gone_tells_of_the_disk_it_was_on(tmp_path: Path) -> None:
    """Where the folder does not exist (yet) the file system of the nearest one above counts."""
    assert a_host(tmp_path / "not" / "yet").read().disk_free_bytes > 0


def test_the_fullest_disk_counts(tmp_path: Path) -> None:
    """Where state and worktrees lie on several disks, the room is that of the one that has the least."""
    with small_disk(tmp_path / "small", "1m") as small:
        assert 0 < Host([tmp_path, small]).read().disk_free_bytes <= 1 << 20


def test_free_inodes_are_told_where_there_is_a_number_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several disks the inodes of the one that has the least; a file system that says it has 0 in all makes them as needed."""
    free = {"many": (1000, 400), "few": (1000, 12), "full": (1000, 0), "any": (0, 0)}

    def statvfs(path: Path) -> os.statvfs_result:
        total, left = free[path.name]
        return os.statvfs_result((4096, 4096, 100, 50, 40, total, left, left, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    told = {
        "few": ["many", "few", "any"],
        "full": ["any", "full", "few"],
        "many": ["many", "any"],
        "any": ["any"],
    }
    for name, disks in told.items():
        readings = Host([tmp_path / disk for disk in disks]).read()
        assert readings.disk_free_inodes == (free[name][1] if name != "any" else None)
        assert readings.disk_free_bytes == 40 * 4096


def test_pressure_is_told_or_not(tmp_path: Path) -> None:
    """The share of the time in which all that could run waited for memory, of the machine or of our control group, whichever waits
    more; nothing where the kernel does not tell."""
    machine = tmp_path / "machine"
    host = a_host(tmp_path, pressure=machine)
    assert host.read().memory_stall_percent is None
    machine.write_text(
        "some avg10=9.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=4.25 avg60=0.00 avg300=0.00 total=1\n"
    )
    assert host.read().memory_stall_percent == 4.25
    lay_out(
        tmp_path / "cgroup", {**V2, "a/memory.pressure": "full avg10=31.00 avg60=0.00 avg300=0.00 total=1\n"}
    )
    (tmp_path / "self").write_text("0::/a/b\n")
    inside = Host(
        [tmp_path], cgroup_root=tmp_path / "cgroup", cgroup_of_self=tmp_path / "self", pressure=machine
    )
    assert inside.read().memory_stall_percent == 31.0
    if Path("/proc/pressure/memory").exists():
        waits = Host([tmp_path]).read().memory_stall_percent
        assert waits is not None
        assert 0 <= waits <= 100


# --- the readings file --------------------------------------------------------------------------------------


def test_a_readings_file_replaces_what_it_names(tmp_path: Path) -> None:
    """Values in the file count instead of the machine's, are read anew each time, and the rest is the machine's."""
    file = tmp_path / "readings.json"
    host = a_host(tmp_path, readings_file=file)
    file.write_text(json.dumps(ALL))
    assert host.read() == Readings(12.5, 34.0, 5_000_000_000, 7)
    file.write_text(json.dumps({**ALL, "disk_free_inodes": 3}))
    assert host.read() == Readings(12.5, 34.0, 5_000_000_000, 7, disk_free_inodes=3)
    file.write_text(json.dumps({"cpu_percent": 99, "unknown": []}))
    readings = host.read()
    assert readings.cpu_percent == 99.0
    assert readings.disk_free_bytes > 7
    assert host.note == ""


def test_a_missing_readings_file_is_noted(tmp_path: Path) -> None:
    """Without the file the machine's readings are given with a note; once it is there the note is gone."""
    file = tmp_path / "readings.json"
    host = a_host(tmp_path, readings_file=file)
    assert 0 <= host.read().cpu_percent <= 100
    assert "missing" in host.note
    file.write_text(json.dumps(ALL))
    assert host.read().disk_free_bytes == 7
    assert host.note == ""
    file.unlink()
    assert host.read().disk_free_bytes > 7
    assert "missing" in host.note


@pytest.mark.parametrize("text", ["", '{"cpu_percent": 9', "[1]", "nonsense", "\x00", "[" * 50_000])
def test_a_half_written_readings_file_leaves_the_last_values(tmp_path: Path, text: str) -> None:
    """A file that can't be read keeps the values it had, with a note, or the machine's where it never had any."""
    file = tmp_path / "readings.json"
    file.write_text(text)
    host = a_host(tmp_path, readings_file=file)
    assert host.read().disk_free_bytes > 7
    assert "the machine's own" in host.note
    file.write_text(json.dumps(ALL))
    host.read()
    file.write_text(text)
    assert host.read().disk_free_bytes == 7
    assert "its last values" in host.note


@pytest.mark.timeout(20)
def test_a_pipe_for_readings_is_not_waited_for(tmp_path: Path) -> None:
    """A readings file that is a pipe, into which nobody writes, holds nothing up: it is told."""
    pipe = tmp_path / "readings.json"
    os.mkfifo(pipe)
    host = a_host(tmp_path, readings_file=pipe)
    assert host.read().disk_free_bytes > 7
    assert "it is no file" in host.note


@pytest.mark.parametrize("value", ["50", True, -1, float("nan"), float("inf"), [], 10**400])
def test_a_wrong_value_in_the_readings_file_is_named(tmp_path: Path, value: Any) -> None:
    """A value that is no usable number is left out and named, and the others count."""
    file = tmp_path / "readings.json"
    file.write_text(json.dumps({**ALL, "memory_percent": value}))
    host = a_host(tmp_path, readings_file=file)
    readings = host.read()
    assert readings.cpu_percent == 12.5
    assert 0 < readings.memory_percent < 100
    assert readings.memory_percent != ALL["memory_percent"]
    assert "memory_percent" in host.note


# --- control groups -----------------------------------------------------------------------------------------


def lay_out(root: Path, files: dict[str, str]) -> None:
    """Writes files as the kernel shows them."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


V2 = {
    "a/cpu.max": "max 100000\n",
    "a/memory.max": "2000000000\n",
    "a/memory.current": "1700000000\n",
    "a/memory.stat": "anon 1\ninactive_file 200000000\n",
    "a/b/cpu.max": "50000 100000\n",
    "a/b/cpu.stat": "usage_usec 0\nuser_usec 0\n",
    "a/b/memory.max": "max\n",
    "a/b/memory.current": "5\n",
    "a/b/memory.stat": "inactive_file 0\n",
}
V1 = {
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/memory.usage_in_bytes": "1\n",
    "memory/a/memory.limit_in_bytes": "2000000000\n",
    "memory/a/memory.usage_in_bytes": "1700000000\n",
    "memory/a/memory.stat": "inactive_file 5\ntotal_inactive_file 200000000\n",
    "cpu/a/cpu.cfs_quota_us": "50000\n",
    "cpu/a/cpu.cfs_period_us": "100000\n",
    "cpuacct/a/cpuacct.usage": "0\n",
    "cpuacct/a/b/cpuacct.usage": "999\n",
    "cpu/a/b/cpu.cfs_quota_us": "-1\n",
    "cpu/a/b/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_cgroup_limit_counts_instead_of_the_machine(tmp_path: Path, version: str) -> None:
    """The tightest limit above us counts: memory without droppable cache against the limit, CPU against the quota."""
    root, of_self = tmp_path / "cgroup", tmp_path / "self"
    if version == "v1":
        lay_out(root, V1)
        of_self.write_text("9:name=systemd:/\n4:memory:/a/b\n3:cpuacct:/a/b\n2:cpu:/a/b\n0::/\n")
        used = root / "cpuacct/a/cpuacct.usage"
    else:
        lay_out(root, V2)
        of_self.write_text("0::/a/b\n")
        used = root / "a/b/cpu.stat"
    host = Host([tmp_path], cgroup_root=root, cgroup_of_self=of_self)
    host.read()
    spend_cpu(0.15)
    idle = host.read()  # the group used nothing, whatever the machine did
    used.write_text("900000000000\n" if version == "v1" else "usage_usec 900000000\n")
    spend_cpu(0.15)
    busy = host.read()
    assert (idle.cpu_percent, busy.cpu_percent) == (0.0, 100.0)
    assert busy.memory_percent == pytest.approx(max(75.0, psutil.virtual_memory().percent), abs=1)
    assert busy.memory_available_bytes == 500_000_000


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, ""),
        ({"memory.max": "max\n", "cpu.max": "max 100000\n"}, "0::/\n"),
        ({"memory.max": "99999999999999999\n", "memory.current": "1\n"}, "0::/\n"),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, "4:memory:/x/y\n"),
        ({"a/memory.max": "nonsense\n", "a/cpu.max": "5 0\n"}, "0::/a\n"),
        ({"a/memory.max": "1000\n"}, "0::/a\n"),
        ({"cpu.max": "100000000 100000\n"}, "0::/\n"),
        ({}, "garbage\n\n::\n"),
    ],
)
def test_no_usable_limit_is_no_limit(tmp_path: Path, files: dict[str, str], text: str) -> None:
    """Where no control group limits us, or what it says makes no sense, the machine's own readings are given."""
    lay_out(tmp_path / "cgroup", files)
    (tmp_path / "self").write_text(text)
    host = Host([tmp_path], cgroup_root=tmp_path / "cgroup", cgroup_of_self=tmp_path / "self")
    readings = host.read()
    assert readings.memory_available_bytes > 100_000_000
    assert abs(readings.memory_percent - psutil.virtual_memory().percent) < 10


def test_inside_a_container_our_name_outside_does_not_exist(tmp_path: Path) -> None:
    """Where /proc names a folder that is not shown here, the limit at the top of what is shown counts."""
    lay_out(
        tmp_path / "cgroup",
        {"memory.max": "1000000000\n", "memory.current": "900000000\n", "memory.stat": ""},
    )
    (tmp_path / "self").write_text("0::/../../outside/of/here\n")
    host = Host([tmp_path], cgroup_root=tmp_path / "cgroup", cgroup_of_self=tmp_path / "self")
    assert host.read().memory_percent == pytest.approx(90.0)


@pytest.fixture
def limited_cgroup() -> Iterator[Path]:
    """A real control group with 300 MB of memory, which processes can be put into."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        folder = root / f"swarm-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text("300000000")
        except OSError:
            folder.rmdir()
            continue
        yield folder
        folder.rmdir()
        return
    pytest.skip("no control group can be made here")


_INSIDE = """
import sys
from pathlib import Path
from swarm.edge.host import Host
hold = b"x" * 150_000_000
print(Host([Path("/")]).read().memory_percent)
"""


def test_a_real_cgroup_limit_is_seen(limited_cgroup: Path) -> None:
    """A process in a group of 300 MB that holds 150 MB reads more than half of its memory as used."""
    enter = f'echo $$ > "{limited_cgroup}/cgroup.procs" && exec "$0" "$@"'
    done = subprocess.run(
        ["sh", "-c", enter, sys.executable, "-c", _INSIDE], cwd=TOP, capture_output=True, text=True
    )
    assert 45 < float(done.stdout) <= 100, done.stderr

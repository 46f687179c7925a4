"""It never eats the machine: workers that take too much, and a machine that has too little left."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import wait_until
from tests.e2e.driver import Swarm

# Takes so many megabytes, in a process that left session and parent behind, and then runs on.
ESCAPED = (
    f"{sys.executable} -S -c '"
    "import os, time, pathlib\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "if os.fork(): os._exit(0)\n"
    'pathlib.Path(os.environ["PIDS"]).open("a").write(f"{os.getpid()}\\n")\n'
    'hold = b"x" * 150_000_000\n'
    "time.sleep(1000)'"
)


def task_of(swarm: Swarm, task: str) -> dict[str, Any]:
    (run,) = swarm.status()["runs"]
    return next(dict(each) for each in run["tasks"] if each["id"] == task)


@pytest.mark.slow
def test_readings_may_be_named_as_the_settings_stand(swarm: Swarm) -> None:
    """Row 20, from outside: a relative path is below the top, where swarm.toml is; slots are those of the readings of the moment,
    asked for before anything has run."""
    del swarm.env["SWARM_LIMITS__READINGS_FILE"]
    (swarm.top / "swarm.toml").write_text('[limits]\nworkers_max = 4\nreadings_file = "readings.json"\n')
    (swarm.top / ".git/info/exclude").write_text("swarm.toml\nreadings.json\n")
    shown = {}
    for percent in (20, 60, 75, 85, 92):
        readings = json.loads(swarm.readings.read_text()) | {"memory_percent": percent}
        temporary = swarm.outside / "readings.new"
        temporary.write_text(json.dumps(readings))
        temporary.replace(swarm.top / "readings.json")
        swarm("start", cwd=swarm.top / "src")
        capacity = swarm.status()["capacity"]
        assert (capacity["readings"]["memory_percent"], capacity["note"]) == (percent, "")
        shown[percent] = capacity["slots_open"]
    assert shown == {20: 4, 60: 3, 75: 2, 85: 1, 92: 0}
    (swarm.top / "readings.json").unlink()
    (swarm.top / "swarm.toml").unlink()
    swarm.look_again()


def test_a_worker_over_its_memory_ends_with_all_that_it_started(swarm: Swarm) -> None:
    """150 MB in a daemonised child where 90 are allowed: the whole tree goes, the attempt is over_memory and is tried again, and
    its neighbours land."""
    pids = swarm.outside / "pids"
    swarm.env["PIDS"] = str(pids)
    plan = swarm.plan(
        "big",
        [
            {**swarm.task("eats", f"{ESCAPED}; sleep 1000", claims=["x"], attempts=2), "memory_mb": 90},
            swarm.task("small"),
        ],
    )
    done = swarm("run", str(plan), code=1)
    assert "1 landed, 1 failed (over_memory)" in done.out
    eats = task_of(swarm, "eats")
    assert [each["reason"]["code"] for each in eats["attempts"]] == ["over_memory", "over_memory"]
    assert "more than the 90 MB of its memory_mb" in eats["reason"]["text"]
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    wait_until(lambda: not any(map(psutil.pid_exists, started)))


# Counts for as long as it lives, in a process of its own session too, and writes down that it was asked to end.
COUNTS = (
    "trap 'echo saved >> \"$OUT/saved-$SWARM_TASK\"; exit 143' TERM; "
    'setsid sh -c \'while [ -e "$OUT/go-on" ]; do echo >> "$OUT/apart-$SWARM_TASK"; sleep 0.02; done\' & '
    'while [ -e "$OUT/go-on" ]; do echo >> "$OUT/count-$SWARM_TASK"; sleep 0.02; done; wait'
)


def counting(swarm: Swarm, *names: str) -> None:
    """Starts tasks that count until `go-on` is removed, one after the other, so that the last is the youngest."""
    (swarm.outside / "go-on").touch()
    swarm.env["OUT"] = str(swarm.outside)
    swarm("start")
    for name in names:
        work = f"{COUNTS}; echo {name} > out-{name}"
        plan = swarm.plan(name, [swarm.task(name, work, claims=[f"out-{name}"], attempts=1)])
        swarm("submit", str(plan))
        wait_until(lambda task: count(swarm, task) > 1, name)


def count(swarm: Swarm, task: str) -> int:
    """How far both processes of a task have counted."""
    places = [swarm.outside / f"{kind}-{task}" for kind in ("count", "apart")]
    return min(place.stat().st_size if place.exists() else 0 for place in places)


def goes_on(swarm: Swarm, task: str) -> bool:
    """Waits until a task has counted further."""
    before = count(swarm, task)
    wait_until(lambda: count(swarm, task) > before + 2)
    return True


def attempts(swarm: Swarm, task: str) -> list[dict[str, Any]]:
    runs = {run["id"]: run for run in swarm.status()["runs"]}
    return list(runs[task]["tasks"][0]["attempts"])


def stands_still(swarm: Swarm, task: str) -> bool:
    return str(attempts(swarm, task)[-1]["state"]) == "suspended"


def states(swarm: Swarm, task: str) -> set[str]:
    """How the processes of a task stand, save those that have ended."""
    top = psutil.Process(attempts(swarm, task)[-1]["pid"])
    found: set[str] = set()
    for each in (top, *top.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(each.status())
    return found - {psutil.STATUS_ZOMBIE}


def all_stopped(swarm: Swarm, task: str) -> bool:
    """Tells whether no process of a task can run: a shell that waits for a stopped child to become its program sleeps for good."""
    return psutil.STATUS_STOPPED in (found := states(swarm, task)) and found <= {
        psutil.STATUS_STOPPED,
        psutil.STATUS_DISK_SLEEP,
    }


@pytest.mark.slow
def test_a_task_waits_for_the_memory_that_it_is_expected_to_take(swarm: Swarm) -> None:
    """With room for one of two tasks that say what they take, one runs and the other waits, and status says for what; it starts as
    soon as the machine has that much more, though nothing has ended."""
    swarm.measure(memory_available_bytes=3e9)
    swarm("start", "--workers", "4")
    tasks = [swarm.task(name, gate="go", memory_mb=2000) for name in ("a", "b")]
    swarm("submit", str(swarm.plan("r", tasks)))
    swarm.wait_for_gate("a")
    wait_until(lambda: "2.0 GB expected to be taken, 1.0 GB left" in swarm.status()["capacity"]["reason"])
    assert swarm.starts() == ["a"]
    swarm.measure(memory_available_bytes=5e9)
    swarm.wait_for_gate("b")
    swarm.open("go")
    swarm.check_landed(swarm.wait("r"))


def test_the_youngest_stands_still_while_memory_is_short_and_then_goes_on(swarm: Swarm) -> None:
    """Rows 79: at 97 % the youngest worker is stopped with all that it started, also for the next daemon when this one is killed;
    the older one goes on. With memory again it goes on where it was, and lands in its first attempt."""
    counting(swarm, "old", "young")
    swarm.measure(memory_percent=97.0)
    wait_until(lambda: stands_still(swarm, "young"))
    swarm.measure(memory_percent=92.0)
    wait_until(lambda: "memory 92 %: 1 worker suspended" in swarm.status()["capacity"]["reason"])
    assert "stands still until there is more" in attempts(swarm, "young")[0]["reason"]["text"]
    wait_until(lambda: all_stopped(swarm, "young"))
    before = count(swarm, "young")
    assert goes_on(swarm, "old")
    swarm.end_daemon()
    assert goes_on(swarm, "old")
    swarm("start")
    assert goes_on(swarm, "old")
    assert stands_still(swarm, "young")
    assert count(swarm, "young") == before
    assert "1 worker suspended, nothing new starts" in swarm.status()["capacity"]["reason"]
    swarm.measure()
    assert goes_on(swarm, "young")
    (swarm.outside / "go-on").unlink()
    for name in ("old", "young"):
        assert swarm.wait(name)["counts"]["landed"] == 1
        assert len(attempts(swarm, name)) == 1
    assert not (swarm.outside / "saved-young").exists()


@contextlib.contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[Path]:
    """Makes a control group below our own that may take so much memory; skips the test where that may not be done."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        group = Path("/sys/fs/cgroup", controllers, path.lstrip("/"), f"swarm-test-{os.getpid()}")
        limit = group / ("memory.limit_in_bytes" if controllers else "memory.max")
        if controllers not in ("memory", "") or not os.access(group.parent, os.W_OK):
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if limit.exists():
                limit.write_text(str(limit_bytes))
                yield group
                return
        finally:
            with contextlib.suppress(OSError):  # somebody is in it still, which is told elsewhere
                group.rmdir()
    pytest.skip("needs the right to make a control group with a limit of memory")


# Takes so many megabytes at once, more by and by, and holds them until a file is there.
GROWS = """
import pathlib, sys, time
at_once, at_most, until = int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
held = [b"x" * (at_once << 20)]
pathlib.Path(f"{until}-up").touch()
for _ in range(at_once, at_most, 2):
    held.append(b"x" * (2 << 20))
    time.sleep(0.05)
while not until.exists():
    time.sleep(0.02)
"""


@pytest.mark.slow
def test_real_memory_runs_short(swarm: Swarm) -> None:
    """Row 79: two workers together want more than their control group has. The younger is stopped before the kernel kills anybody;
    when the older has ended it goes on, and lands in its first attempt."""
    with memory_cgroup(600 << 20) as group:
        swarm.readings.write_text(json.dumps({"cpu_percent": 1.0, "disk_free_bytes": 1e12}))
        swarm.prefix = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
        (swarm.outside / "grows").write_text(GROWS)
        swarm("start")
        swarm.prefix = ()  # what asks it takes none of its memory
        for name, sizes in (("old", "260 260"), ("young", "120 320")):
            up = swarm.gate(name).with_name(f"gate-{name}-up")
            work = (
                f"{sys.executable} -S {swarm.outside}/grows {sizes} {swarm.gate(name)}; echo 1 > out-{name}"
            )
            task = swarm.task(name, work, claims=[f"out-{name}"], attempts=1)
            swarm("submit", str(swarm.plan(name, [task])))
            wait_until(up.exists)
        wait_until(lambda: stands_still(swarm, "young"))
        assert not stands_still(swarm, "old")
        swarm.open("old")
        swarm.open("young")
        for name in ("old", "young"):
            assert swarm.wait(name)["counts"]["landed"] == 1
            assert len(attempts(swarm, name)) == 1
        swarm("stop")
        wait_until(lambda: not (group / "cgroup.procs").read_text())


@pytest.mark.slow
def test_where_memory_stays_short_one_is_ended_and_no_attempt_used_up(swarm: Swarm) -> None:
    """After `suspended_s_max` the youngest is asked to end, saves what it has, and waits; with memory again the task is done,
    though it has one attempt only."""
    swarm.env["SWARM_LIMITS__SUSPENDED_S_MAX"] = "0.5"
    counting(swarm, "one")
    swarm.measure(memory_percent=97.0)
    wait_until((swarm.outside / "saved-one").exists)
    wait_until(lambda: attempts(swarm, "one")[0]["state"] == "handed_back")
    assert attempts(swarm, "one")[0]["reason"]["code"] == "machine"
    (swarm.outside / "go-on").unlink()
    swarm.measure()
    run = swarm.wait("one")
    swarm.check_landed(run)
    assert len(attempts(swarm, "one")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_a_worker_that_stands_still_is_ended_as_any_other(swarm: Swarm, how: str) -> None:
    """Cancelled, or with the daemon stopped, it goes on to save its work and ends, and nothing of it is left."""
    counting(swarm, "one")
    swarm.measure(memory_percent=97.0)
    wait_until(lambda: stands_still(swarm, "one"))
    top = psutil.Process(attempts(swarm, "one")[0]["pid"])
    tree = [top, *top.children(recursive=True)]
    swarm(*{"cancel": ("cancel", "--run", "one", "one"), "stop": ("stop",)}[how])
    wait_until((swarm.outside / "saved-one").exists)
    wait_until(lambda: not any(each.is_running() for each in tree))


@pytest.mark.slow
def test_a_daemon_killed_while_it_stops_or_thaws_a_worker(swarm: Swarm) -> None:
    """Killed before it stops one, and after it had one go on: the next daemon has a worker stand still that is to, and go on that
    is to."""
    for point, percent in (("worker.standing:kill:1", 97.0), ("worker.stood:kill:2", 20.0)):
        log = swarm.outside / f"points-{percent}"
        swarm.env |= {"SWARM_CRASH": point, "SWARM_CRASH_LOG": str(log)}
        if percent > 90:
            counting(swarm, "one")
        else:
            swarm("start")
        swarm.measure(memory_percent=percent)
        wait_until(lambda path: path.exists() and " kill" in path.read_text(), log)
        wait_until(lambda: not swarm.status()["daemon"]["running"])
    swarm.env.pop("SWARM_CRASH")
    swarm("start")
    assert goes_on(swarm, "one")
    (swarm.outside / "go-on").unlink()
    swarm.wait("one")
    assert len(attempts(swarm, "one")) == 1

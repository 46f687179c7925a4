"""It never eats the machine: workers that take too much, and a machine that has too little left."""

from __future__ import annotations

import sys
from typing import Any

import psutil

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

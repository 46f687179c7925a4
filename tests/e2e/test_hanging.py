"""Workers that hang or run wild, as they are met from outside."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

from tests.conftest import wait_until
from tests.e2e.driver import Swarm, common_dir, runs
from tests.e2e.test_ends import code_of, task_of


def on_disk(folder: Path) -> int:
    """How many bytes the files below a folder take."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def test_what_hangs_or_runs_wild_is_ended_and_holds_nobody_up(swarm: Swarm) -> None:
    """Row 61: a worker that writes nothing for its time is flagged and ended as `no_output`, one with too many processes is
    killed with all of them, and so is a suite, which has failed; one that writes more than may be kept goes on and lands, its
    output is bounded and can be read from both ends."""
    pids = swarm.outside / "pids"
    crowd = f"for n in $(seq 60); do sleep 300 & echo $! >> {pids}; done; wait"
    floods = (
        "echo first; yes $(seq 20) | head -c 60000000; echo; "
        f"until [ -e {swarm.gate('seen')} ]; do sleep 0.1; done; echo last; echo x > out"
    )
    plan = swarm.plan(
        "wild",
        [
            swarm.task("silent", "sleep 300", claims=["s"], attempts=1, no_output_s=2.0),
            swarm.task("crowd", crowd, claims=["c"], attempts=1),
            swarm.task("suite", claims=["v"], attempts=1, verify=[crowd]),
            swarm.task("flood", floods, claims=["out"], attempts=1),
        ],
    )
    swarm(
        "start",
        "--workers",
        "4",
        SWARM_LIMITS__OUTPUT_BYTES_MAX="2000000",
        SWARM_LIMITS__PROCESSES_MAX="40",
    )
    swarm("submit", str(plan))
    attempts = common_dir(swarm.top) / "swarm" / "attempts"
    wait_until(lambda: swarm.run_of("wild")["counts"]["failed"] == 3)
    wait_until(lambda: on_disk(attempts) < 4_000_000, at_most_s=60)
    swarm.open("seen")
    run = swarm.wait("wild", code=1)
    swarm.check_landed(run)
    assert (code_of(run, "silent"), code_of(run, "crowd")) == ("no_output", "worker_failed")
    assert code_of(run, "suite") == "verify_failed"
    assert "limits.processes_max" in task_of(run, "crowd")["reason"]["text"]
    assert "limits.processes_max" in task_of(run, "suite")["attempts"][0]["suites"][0]["note"]
    assert task_of(run, "flood")["state"] == "landed"
    assert not any(runs(int(pid)) for pid in pids.read_text().split())
    shown = swarm("logs", "flood").out.splitlines()
    assert (shown[0], shown[-1]) == ("first", "last")
    (gap,) = [line for line in shown if "bytes of output left out here" in line]
    assert int(gap.split()[1].replace(",", "")) > 55_000_000
    assert swarm("logs", "flood", "--lines", "1").out == "last\n"


def test_a_daemon_that_stands_still_is_told_and_hides_nothing(swarm: Swarm) -> None:
    """What looks shows what the journal has, and says so; what acts does nothing, and ends with 3; `wait` waits; `stop --now` ends
    it, the worker goes on, and the next daemon lands its work."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a", gate="a")])))
    swarm.wait_for_gate("a")
    daemon = psutil.Process(int(swarm.status()["daemon"]["pid"]))
    daemon.send_signal(signal.SIGSTOP)
    wait_until(lambda: daemon.status() == psutil.STATUS_STOPPED)
    shown = swarm.status()
    assert (shown["daemon"]["running"], shown["daemon"]["pid"]) == (True, daemon.pid)
    assert "is stopped" in shown["daemon"]["silent"]["cause"]
    assert shown["runs"][0]["counts"]["running"] == 1
    assert "is stopped" in swarm("status", "--all").out
    assert "This is what the journal says" in swarm("show", "a").err
    assert "Nothing was done" in swarm("cancel", "a", code=3).err
    assert "is waited for all the same" in swarm("wait", "--timeout", "0.2", code=124).err
    assert "Workers go on" in swarm("stop", "--now").err
    assert not runs(daemon.pid)
    swarm("start")
    swarm.open("a")
    swarm.check_landed(swarm.wait("r"))
    assert swarm.starts() == ["a"]

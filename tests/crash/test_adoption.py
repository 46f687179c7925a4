"""Workers outlive their daemon, and the next one takes over exactly those: by boot, pid, start time and lock, and nobody else's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PROJECT, Swarm, common_dir, runs
from tests.e2e.test_ends import task_of


def folder_of(swarm: Swarm, task: str, n: int = 1) -> Path:
    return common_dir(swarm.top) / "swarm" / "attempts" / "r" / task / str(n) / "worker"


def at_work(swarm: Swarm, *tasks: dict[str, Any], **more: Any) -> dict[str, int]:
    """Starts the daemon with these tasks at work; gives the launcher of each."""
    swarm("start", "--workers", "8")
    swarm("submit", str(swarm.plan("r", tasks, **more)))
    swarm.wait_for_gate(*(task["id"] for task in tasks if " gate && " in task["run"]))
    return swarm.launchers("r", *(task["id"] for task in tasks))


def end_all(launcher: int) -> None:
    """Kills a worker with all it started, as a machine that goes down does."""
    os.killpg(launcher, signal.SIGKILL)  # it leads a session of its own, and these workers leave it to nobody
    wait_until(lambda: not runs(launcher))


def test_eight_workers_find_their_next_daemon(swarm: Swarm) -> None:
    """Of eight workers whose daemon was killed, the next one takes over those that run, by the same processes; has the results of
    those that ended meanwhile, well or not; and retries the lost ones, whose uncommitted work is on a branch."""
    work = {f"w{n}": f"echo half > half-w{n}" for n in range(8)}
    tasks = [swarm.task(name, text, gate=f"{name}-$SWARM_ATTEMPT", attempts=1) for name, text in work.items()]
    tasks[3]["run"] += "; exit 3"
    launchers = at_work(swarm, *tasks)
    swarm.end_daemon()
    for name in ("w2", "w3"):
        swarm.open(f"{name}-1")
    wait_until(lambda: not runs(launchers["w2"]) and not runs(launchers["w3"]))
    for name in ("w4", "w5"):
        end_all(launchers[name])
    swarm("start", "--workers", "8")
    wait_until(lambda: [len(task_of(swarm.the_run(), name)["attempts"]) for name in ("w4", "w5")] == [2, 2])
    for name in ("w0", "w1", "w6", "w7"):
        (attempt,) = task_of(swarm.the_run(), name)["attempts"]
        assert (attempt["pid"], attempt["state"]) == (launchers[name], "running")
    for name in work:
        swarm.open(f"{name}-1")
        swarm.open(f"{name}-2")
    run = swarm.wait("r", code=1)
    swarm.check_landed(run)
    assert sorted(swarm.landings("r")) == ["w0", "w1", "w2", "w4", "w5", "w6", "w7"]
    assert task_of(run, "w3")["reason"]["exit_code"] == 3
    assert sorted(swarm.starts()) == sorted([*work, "w4", "w5"])
    for name in ("w4", "w5"):
        assert task_of(run, name)["attempts"][0]["state"] == "lost"
        assert git(swarm.top, "show", f"swarm/r/task/{name}/1:half-{name}") == "half"


@pytest.mark.parametrize("beside", [pytest.param("with a daemon", marks=pytest.mark.slow), "without one"])
def test_a_worker_without_its_launcher(swarm: Swarm, beside: str) -> None:
    """A worker whose launcher was killed has nobody who will write down how it ends: it is ended and counts as lost, its work is
    kept, and never do two attempts of a task run at once."""
    launchers = at_work(swarm, swarm.task("a", "echo half > half", gate="a-$SWARM_ATTEMPT", attempts=1))
    (worker, *_) = psutil.Process(launchers["a"]).children()
    if beside == "without one":
        swarm.end_daemon()
    os.kill(launchers["a"], signal.SIGKILL)
    if beside == "without one":
        assert runs(worker.pid)
        swarm("start", "--workers", "8")
    wait_until(lambda: len(swarm.starts()) == 2)
    assert not runs(worker.pid)
    swarm.open("a-2")
    run = swarm.wait("r")
    assert [attempt["state"] for attempt in task_of(run, "a")["attempts"]] == ["lost", "landed"]
    assert git(swarm.top, "show", "swarm/r/task/a/1:half") == "half"


@pytest.mark.slow
def test_a_worker_whose_start_cannot_be_repeated_is_taken_over(swarm: Swarm) -> None:
    """A worker whose daemon was killed before it could say that it had started it is taken over by the next one, which asks for
    nothing that a start needs: it runs once, though the prompt can't be written any more."""
    swarm("start", SWARM_CRASH="worker.spawned:kill:1")
    swarm("submit", str(swarm.plan("r", [swarm.task("t", gate="go", attempts=1)])))
    swarm.wait_for_start("t")
    wait_until(lambda: not swarm.status()["daemon"]["running"])
    prompt = folder_of(swarm, "t").parent / "prompt.md"
    prompt.unlink()
    prompt.mkdir()
    swarm("start")
    swarm.open("go")
    swarm.check_landed(swarm.wait("r"))
    assert swarm.starts() == ["t"]


@pytest.mark.slow
def test_an_attempt_whose_start_fails_behind_its_worker_ends_with_it(swarm: Swarm) -> None:
    """Cancelled while the daemon can't get hold of a worker that it has started, an attempt is not over before that has ended, and
    what it did is kept."""
    swarm("start", SWARM_CRASH=",".join(f"worker.known:raise:{hit}" for hit in (1, 2, 3)))
    swarm("submit", str(swarm.plan("r", [swarm.task("t", gate="never")])))
    swarm.wait_for_start("t")
    launcher = json.loads((folder_of(swarm, "t") / "identity").read_text())["pid"]
    swarm("cancel", "t")
    attempt = task_of(swarm.wait("r", code=1), "t")["attempts"][0]
    assert attempt["state"] == "cancelled"
    assert not runs(launcher)
    assert git(swarm.top, "show", f"{attempt['branch']}:out-t") == "t"


@pytest.mark.slow
def test_an_upgrade_takes_over_the_workers(swarm: Swarm) -> None:
    """`stop --leave-workers`, another version in another place, `start`: workers and suites go on under the new one, nothing runs
    twice, and status tells the new version."""
    looks = swarm.outside / "looks"
    suite = f"echo look >> {looks}; until [ -e {swarm.gate('suite')} ]; do sleep 0.02; done"
    at_work(swarm, swarm.task("a"), swarm.task("b", gate="b"), verify=[suite])
    wait_until(looks.exists)
    old = swarm.status()["daemon"]
    swarm("stop", "--leave-workers")
    assert not runs(old["pid"])
    upgraded = swarm.outside / "upgraded"
    shutil.copytree(PROJECT / "swarm", upgraded / "swarm", ignore=shutil.ignore_patterns("__pycache__"))
    text = (upgraded / "swarm" / "__init__.py").read_text()
    (upgraded / "swarm" / "__init__.py").write_text(text.replace(old["version"], "99.0"))
    swarm.env["PYTHONPATH"] = str(upgraded)
    swarm("start", "--workers", "8")
    assert swarm.status()["daemon"]["version"] == "99.0"
    swarm.open("b")
    swarm.open("suite")
    swarm.check_landed(swarm.wait("r"))
    assert sorted(swarm.starts()) == ["a", "b"]
    assert looks.read_text().split() == ["look", "look"]


def test_a_reboot_loses_no_work_and_signals_no_stranger(swarm: Swarm) -> None:
    """After a reboot no worker lives: each is recognised as lost whatever has its number now, its work is kept, and it is retried.
    A stranger that has the pid of a worker, of this boot or another, is never signalled."""
    tasks = [swarm.task(f"w{n}", f"echo half > half-w{n}", gate=f"w{n}-$SWARM_ATTEMPT") for n in range(3)]
    launchers = at_work(swarm, *tasks)
    swarm.end_daemon()
    for launcher in launchers.values():
        end_all(launcher)
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        ticks = int(Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19])
        now = {name: json.loads((folder_of(swarm, name) / "identity").read_text()) for name in launchers}
        changes: dict[str, dict[str, Any]] = {
            "w0": {"boot_id": "5c0de000-0000-4000-8000-000000000000"},
            "w1": {
                "boot_id": "5c0de000-0000-4000-8000-000000000000",
                "pid": stranger.pid,
                "start_ticks": ticks,
            },
            "w2": {"pid": stranger.pid, "start_ticks": ticks - 1},
        }
        for name, change in changes.items():
            (folder_of(swarm, name) / "identity").write_text(json.dumps({**now[name], **change}) + "\n")
        swarm("start", "--workers", "8")
        wait_until(lambda: len(swarm.starts()) == 6)
        for name in launchers:
            swarm.open(f"{name}-2")
        run = swarm.wait("r")
        swarm.check_landed(run)
        for name in launchers:
            states = [attempt["state"] for attempt in task_of(run, name)["attempts"]]
            assert states == ["lost", "landed"]
            assert git(swarm.top, "show", f"swarm/r/task/{name}/1:half-{name}") == "half"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_suite_that_died_without_its_daemon_runs_again(swarm: Swarm) -> None:
    """A suite that was killed while no daemon was there says nothing about its candidate: it runs again, and the task lands by its
    first attempt."""
    looks = swarm.outside / "looks"
    suite = f"echo $$ >> {looks}; until [ -e {swarm.gate('suite')} ]; do sleep 0.02; done"
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a")], verify=[suite])))
    wait_until(lambda: looks.exists() and looks.read_text().strip())
    swarm.end_daemon()
    end_all(psutil.Process(int(looks.read_text().split()[0])).ppid())
    swarm("start")
    wait_until(lambda: len(looks.read_text().split()) == 2)
    swarm.open("suite")
    run = swarm.wait("r")
    swarm.check_landed(run)
    assert len(task_of(run, "a")["attempts"]) == 1
    assert swarm.starts() == ["a"]


@pytest.mark.slow
def test_a_daemon_that_stood_still_is_still_the_one(swarm: Swarm) -> None:
    """While a daemon is stopped (SIGSTOP) a start says so and starts no other; continued, it goes on as before."""
    at_work(swarm, swarm.task("a", gate="a"))
    pid = swarm.status()["daemon"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        said = swarm("start", code=3)
        assert str(pid) in said.err
        swarm.open("a")
        wait_until(lambda: any(span.end < float("inf") for span in swarm.spans()))
    finally:
        os.kill(pid, signal.SIGCONT)
    swarm.check_landed(swarm.wait("r"))
    assert swarm.starts() == ["a"]
    assert swarm.status()["daemon"]["pid"] == pid

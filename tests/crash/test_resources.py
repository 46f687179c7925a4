"""Layer F9: the real daemon on a machine that runs out of something. Nothing is lost, no task pays, and it goes on by itself."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.adversity import bound, fill, need_to_trace, small_disk
from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, Swarm, common_dir, runs
from tests.e2e.test_ends import task_of


def reason(swarm: Swarm) -> str:
    return str(swarm.status()["capacity"]["reason"])


def each_ran_once_and_landed(swarm: Swarm, *names: str) -> None:
    run = swarm.wait("r")
    swarm.check_landed(run)
    assert sorted(swarm.landings("r")) == sorted(names)
    assert [len(task["attempts"]) for task in run["tasks"]] == [1] * len(names)
    assert sorted(swarm.starts()) == sorted(names)


@contextmanager
def on_a_disk_of_its_own(repo: Path, size: str, what: str) -> Iterator[Path]:
    """Puts the repository, or the part of it named, on a small disk."""
    place = repo / what
    place.mkdir(exist_ok=True)
    outside = repo.with_name("outside-the-disk")
    shutil.copytree(place, outside, symlinks=True)
    with small_disk(place, size):
        subprocess.run(["cp", "-a", f"{outside}/.", str(place)], check=True)
        yield place


def test_the_disk_of_the_repository_fills_up(repo: Path, swarm_in: Callable[..., Swarm]) -> None:
    """With workers at work the disk under .git is full: they run on, nothing new is begun, and status says why; with room again
    everything goes on by itself, and each task ran once and landed."""
    with on_a_disk_of_its_own(repo, "24m", ".git") as disk:
        swarm = swarm_in(repo)
        swarm("start", "--workers", "3")
        tasks = [*(swarm.task(f"w{n}", gate="w") for n in range(3)), swarm.task("after", needs=["w0"])]
        swarm("submit", str(swarm.plan("r", tasks)))
        swarm.wait_for_gate("w0", "w1", "w2")
        workers = swarm.launchers("r", "w0", "w1", "w2").values()
        ballast = fill(disk)
        assert all(runs(pid) for pid in workers)
        swarm.open("w")
        wait_until(lambda: "no room" in reason(swarm) or "no space" in reason(swarm))
        assert swarm.status()["capacity"]["slots_open"] == 0
        assert "no room" in swarm("status").out or "no space" in swarm("status").out
        assert swarm.landings("r") == []
        ballast.unlink()
        each_ran_once_and_landed(swarm, "after", "w0", "w1", "w2")
        swarm.end()


@pytest.mark.slow
def test_a_change_is_refused_while_nothing_can_be_remembered(
    repo: Path, swarm_in: Callable[..., Swarm]
) -> None:
    """While the journal can't be written a request ends with the reason, and a stop too, save one that leaves the workers; the next
    start goes on from what was remembered."""
    with on_a_disk_of_its_own(repo, "24m", ".git") as disk:
        swarm = swarm_in(repo)
        swarm("start")
        swarm("submit", str(swarm.plan("r", [swarm.task("a", gate="a")])))
        swarm.wait_for_gate("a")
        swarm.launchers("r", "a")
        ballast = fill(disk)
        asking = [swarm.spawn("tell", "a", "x" * 50_000) for _ in range(2)]
        wait_until(lambda: "no room to write the journal" in reason(swarm))
        for args in (("pause",), ("stop",), ("stop", "--now")):
            assert "no room to write the journal" in swarm(*args, code=1).err
        pid = swarm.status()["daemon"]["pid"]
        swarm("stop", "--leave-workers")
        assert not runs(pid)
        fill(disk)  # of what the daemon gave free when it ended, too
        refused = swarm("start", code=1).err
        assert "no space" in refused or "no room" in refused
        ballast.unlink()
        for child in asking:
            child.communicate(timeout=PATIENCE_S)
        swarm("start")
        swarm.open("a")
        each_ran_once_and_landed(swarm, "a")
        swarm.end()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("--leave-workers", marks=pytest.mark.slow),
        pytest.param("--now", marks=pytest.mark.slow),
        pytest.param("--drain", marks=pytest.mark.slow),
        "a signal",
    ],
)
def test_a_stop_is_what_finds_the_disk_full(repo: Path, swarm_in: Callable[..., Swarm], how: str) -> None:
    """Where a stop is the first that can't be remembered the daemon ends all the same and leaves its workers; the next start goes
    on with them."""
    with on_a_disk_of_its_own(repo, "24m", ".git") as disk:
        swarm = swarm_in(repo)
        swarm("start")
        swarm("submit", str(swarm.plan("r", [swarm.task("a", gate="a")])))
        swarm.wait_for_gate("a")
        worker = swarm.launchers("r", "a")["a"]
        wait_until(lambda: swarm.status()["runs"][0]["tasks"][0]["state"] == "running")
        ballast = fill(disk)
        pid = swarm.status()["daemon"]["pid"]
        if how == "a signal":
            os.kill(pid, signal.SIGTERM)
        else:
            swarm("stop", how)
        wait_until(lambda: not runs(pid))
        assert runs(worker)
        ballast.unlink()
        swarm("start")
        swarm.open("a")
        each_ran_once_and_landed(swarm, "a")
        swarm.end()


def test_worktrees_on_a_full_disk_wait_for_room(repo: Path, swarm_in: Callable[..., Swarm]) -> None:
    """Where only the disk of the worktrees is full, tasks wait with the reason shown and no attempt used up, what runs goes on and
    lands, and the others start when there is room."""
    with small_disk(repo.with_name("trees"), "3m") as disk:
        swarm = swarm_in(repo)
        swarm.env["SWARM_WORKTREES__ROOT"] = str(disk)
        (repo / "big").write_bytes(os.urandom(700_000))
        git(repo, "add", "-A")
        git(repo, "commit", "-qm", "big")
        swarm.look_again()
        swarm("start", "--workers", "2")
        ballast = fill(disk, leave=4096)
        swarm("submit", str(swarm.plan("r", [swarm.task("a"), swarm.task("b")])))
        wait_until(lambda: "no space is left" in reason(swarm))
        assert swarm.starts() == []
        assert swarm.the_run()["counts"]["failed"] == 0
        ballast.unlink()
        each_ran_once_and_landed(swarm, "a", "b")
        swarm.end()


@pytest.mark.slow
def test_a_worker_that_fails_on_a_full_disk_pays_nothing(repo: Path, swarm_in: Callable[..., Swarm]) -> None:
    """A worker that fails while its disk is full loses nothing that it wrote, and is tried again as an attempt that its task has
    not paid for."""
    with small_disk(repo.with_name("trees"), "3m") as disk:
        swarm = swarm_in(repo)
        swarm.env["SWARM_WORKTREES__ROOT"] = str(disk)
        gate, begun = swarm.gate("full"), swarm.gate("begun")
        first = f"echo kept > out; touch {begun}; until [ -e {gate} ]; do sleep 0.02; done; head -c 900000 /dev/zero > waste"
        work = f'if [ "$SWARM_ATTEMPT" = 1 ]; then {first}; fi; echo done > out'
        swarm("start")
        swarm("submit", str(swarm.plan("r", [swarm.task("a", work, claims=["out"], attempts=1)])))
        wait_until(begun.exists)
        ballast = fill(disk)
        swarm.open("full")
        wait_until(lambda: "no space is left" in reason(swarm))
        ballast.unlink()
        run = swarm.wait("r")
        before, after = task_of(run, "a")["attempts"]
        assert (before["reason"]["code"], after["state"]) == ("machine", "landed")
        assert git(repo, "show", f"{before['branch']}:out") == "kept"
        swarm.end()


@pytest.mark.slow
def test_a_read_only_repository(repo: Path, swarm_in: Callable[..., Swarm], tmp_path: Path) -> None:
    """On a file system that can't be written, whatever has to write says so in one sentence and ends with 1; what can be read is
    told, by the doctor too."""
    swarm = swarm_in(repo)
    swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task("a")])))
    swarm("stop")
    with bound(repo, repo, read_only=True):
        other = str(swarm.plan("s", [swarm.task("b")]))
        for args in (("start",), ("run", other), ("recover", "a"), ("worktrees", "open", "a")):
            refused = swarm(*args, code=1)
            assert "the file system is read-only" in refused.err
        assert "bad   stale" in swarm("doctor", code=1).out
        assert swarm.status()["runs"][0]["counts"]["landed"] == 1
    swarm("start")
    assert swarm.the_run()["counts"]["landed"] == 1


@pytest.mark.slow
def test_a_full_disk_keeps_a_daemon_from_coming_up(repo: Path, swarm_in: Callable[..., Swarm]) -> None:
    """On a disk without any room, starting says so in one sentence, ends with 1, and leaves nothing in the way of a later start."""
    with on_a_disk_of_its_own(repo, "8m", ".git") as disk:
        swarm = swarm_in(repo)
        ballast = fill(disk)
        for _ in range(2):
            refused = swarm("start", code=1)
            assert "no space" in refused.err or "no room" in refused.err
        ballast.unlink()
        swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task("a")])))
        swarm.end()


def test_a_daemon_that_is_killed_on_a_full_disk_loses_nothing(
    repo: Path, swarm_in: Callable[..., Swarm]
) -> None:
    """Killed while nothing can be remembered, with a worker that ends meanwhile: a start is refused until there is room, then the
    task has run once and lands."""
    with on_a_disk_of_its_own(repo, "24m", ".git") as disk:
        swarm = swarm_in(repo)
        swarm("start")
        swarm("submit", str(swarm.plan("r", [swarm.task("a", gate="a"), swarm.task("b", needs=["a"])])))
        swarm.wait_for_gate("a")
        swarm.launchers("r", "a")
        ballast = fill(disk)
        swarm.end_daemon()
        swarm.open("a")
        wait_until(lambda: all(span.end < float("inf") for span in swarm.spans()))
        refused = swarm("start", code=1).err
        assert "no space" in refused or "no room" in refused
        ballast.unlink()
        swarm("start")
        each_ran_once_and_landed(swarm, "a", "b")
        swarm.end()


def test_a_journal_that_the_disk_did_not_take_ends_the_daemon(swarm: Swarm) -> None:
    """After a sync that failed nobody knows what is on the disk: the daemon carries nothing out and ends, its log and `swarm
    status` say why and what to do, and the next start goes on from what it finds there, losing nothing."""
    need_to_trace()
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a", gate="a"), swarm.task("b", gate="b", needs=["a"])])))
    swarm.wait_for_gate("a")
    swarm.launchers("r", "a")
    daemon, state = int(swarm.status()["daemon"]["pid"]), common_dir(swarm.top) / "swarm"
    calls, files = "fsync,fdatasync", ("journal.sqlite", "journal.sqlite-wal")
    trace = subprocess.Popen(
        ["strace", "-f", "-p", str(daemon), *(word for name in files for word in ("-P", str(state / name))),
         "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO", "-o", str(swarm.outside / "trace")],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert trace.stderr is not None
    assert "attached" in trace.stderr.readline()
    swarm.open("a")
    wait_until(lambda: not runs(daemon))
    trace.communicate(timeout=PATIENCE_S)
    assert "EIO" in (swarm.outside / "trace").read_text()
    failed = swarm.status()["daemon"]["failed"]
    assert "disk I/O error" in failed["cause"]
    assert failed["next_step"] in swarm("status").out
    assert failed["cause"] in (state / "log" / "daemon.log").read_text()
    assert swarm.starts() == ["a"]
    assert not (state / "status.json").exists()  # of what was not remembered no summary may be left
    swarm("start")
    assert "failed" not in swarm.status()["daemon"]
    swarm.open("b")
    each_ran_once_and_landed(swarm, "a", "b")
    swarm("stop")
    assert "failed" not in swarm.status()["daemon"]


@pytest.mark.slow
def test_a_start_whose_journal_the_disk_does_not_take_says_so(swarm: Swarm) -> None:
    """Where the first sync of a start fails already it ends with 1 and says which file, what follows and what to do."""
    need_to_trace()
    swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task("a")])))
    swarm("stop")
    state, calls = common_dir(swarm.top) / "swarm", "fsync,fdatasync"
    swarm.prefix = (
        "strace", "-f", "-qq", "-P", str(state / "journal.sqlite-wal"), "-e", f"trace={calls}",
        "-e", f"inject={calls}:error=EIO", "-o", str(swarm.outside / "trace"),
    )  # fmt: skip
    said = swarm("start", code=1).err
    swarm.prefix = ()
    assert "journal.sqlite can't be read or written: disk I/O error" in said
    assert "Next: see to that disk" in said
    swarm("start")
    assert swarm.the_run()["counts"]["landed"] == 1


def limit_descriptors(pid: int, most: int) -> None:
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[1]))


def test_a_daemon_without_descriptors_comes_back(swarm: Swarm) -> None:
    """A daemon that can open nothing any more loses no worker, fails no task, and goes on when it can."""
    swarm("start", "--workers", "2")
    swarm(
        "submit",
        str(swarm.plan("r", [*(swarm.task(f"w{n}", gate="w") for n in range(2)), swarm.task("after")])),
    )
    swarm.wait_for_gate("w0", "w1")
    swarm.launchers("r", "w0", "w1")
    pid = swarm.status()["daemon"]["pid"]
    used = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    limit_descriptors(pid, 3)
    swarm.open("w")
    wait_until(lambda: sum(span.end < float("inf") for span in swarm.spans()) == 2)
    log = common_dir(swarm.top) / "swarm" / "log" / "daemon.log"
    wait_until(lambda: "no file descriptor left" in log.read_text())
    limit_descriptors(pid, used + 200)
    each_ran_once_and_landed(swarm, "after", "w0", "w1")
    assert swarm.status()["daemon"]["pid"] == pid

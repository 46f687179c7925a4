"""`swarm chaos`: what it shows when all is well, that it says so when it is not, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.e2e.driver import PROJECT, SWARM

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is no repository, to work in and for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def chaos(*args: str, timeout_s: float = 500, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SWARM, "chaos", *args], env={**os.environ, **env}, capture_output=True, text=True, timeout=timeout_s, check=False
    )  # fmt: skip


def left_running(folder: Path) -> list[str]:
    """The processes that have a path below a folder in their environment or arguments."""
    found, mark = [], os.fsencode(folder / "swarm-chaos-")
    for process in Path("/proc").iterdir():
        try:
            if (
                process.name.isdigit()
                and mark in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            ):
                found.append(process.name)
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_killed_at_the_given_points_nothing_is_lost(outside: Path) -> None:
    """Outside any repository the plan is carried out, killed at each given point; exit 0, no file and no process is left."""
    points = ["journal.committed", "finish.files"]
    done = chaos("--json", "--points", ",".join(points))
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], told["wrong"]) == (0, True, []), told
    assert set(told["killed"]) == set(points)
    assert (told["landed"], told["tasks"], told["audit"]["ok"]) == (8, 8, True)
    assert list(outside.iterdir()) == []
    assert left_running(outside) == []


@pytest.mark.slow
def test_what_breaks_is_told_and_the_repository_is_left(outside: Path) -> None:
    """Where a task's work is not what it must be the exit code is 1, the failure is named, and the folder stays."""
    (outside / "bin").mkdir()
    cat = outside / "bin" / "cat"
    cat.write_text("#!/bin/sh\necho lost\n")  # the last task writes down another text than it was to
    cat.chmod(0o755)
    done = chaos("--json", "--points", "landing.advanced", PATH=f"{cat.parent}:{os.environ['PATH']}")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (1, False)
    assert any(each.startswith("last on ") for each in told["wrong"]), told["wrong"]
    assert Path(told["folder"], "repository", ".git").is_dir()
    assert left_running(outside) == []


def test_an_interrupt_leaves_nothing(outside: Path) -> None:
    """Ctrl-C while workers run ends the command with 130; the folder has gone and so has every process."""
    child = subprocess.Popen(
        [*SWARM, "chaos", "--points", "finish.moved"], stderr=subprocess.PIPE, start_new_session=True
    )
    wait_until(lambda: any(path.stat().st_size for path in outside.glob("swarm-chaos-*/began")))
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=120)
    assert child.returncode == 130
    assert list(outside.iterdir()) == []
    assert left_running(outside) == []


def test_points_that_are_not_there_are_refused(outside: Path) -> None:
    """An unknown point is wrong usage and names the nearest; nothing is made."""
    done = chaos("--points", "landing.advance")
    assert done.returncode == 2
    assert "landing.advanced" in done.stderr
    assert list(outside.iterdir()) == []

"""What every test stands on: git sealed off from the machine's settings, no home, and a repository to work in."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVarTuple

import pytest

import swarm.dataclass

swarm.dataclass.guarded = True  # before any class is made: whatever changes a frozen one fails its test
if sys.dont_write_bytecode:
    # Where nothing compiled is kept beside the code, each of the thousands of programs that the tests start would compile it anew.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
for _ignored in (signal.SIGINT, signal.SIGQUIT):
    # A shell has its background jobs ignore these, and what is ignored goes on to every program that a test starts.
    if signal.getsignal(_ignored) is signal.SIG_IGN:
        signal.signal(_ignored, signal.default_int_handler)
if (
    signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
):  # by nohup, which means us to live on, but not what a test starts
    signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has what starts daemons come first: it waits more than it works, so that several run beside each other, and what is short
    fills up the end."""
    tests = Path(__file__).parent

    def is_short(item: pytest.Item) -> bool:
        return item.path.relative_to(tests).parts[0] in ("integration", "unit")

    items.sort(key=is_short)


@pytest.fixture(autouse=True)
def _sealed(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the machine, of the user or of an outer swarm reaches a test."""
    _seal(monkeypatch, tmp_path_factory)


def _seal(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in list(os.environ):
        if name.startswith(("GIT_", "SWARM_")) and not name.startswith("SWARM_WALK"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "NOTIFY_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def git(cwd: Path, *args: str, check: bool = True) -> str:
    """Runs git as a user would and gives what it printed, without the last newline. Where another git (the daemon's, moving the
    staging worktree) has its lock for this moment, it is run again, which a user would do too; a lock that stays is an error."""
    end = monotonic() + 30
    while True:
        done = subprocess.run(
            ["git", *args], cwd=cwd, capture_output=True, encoding="utf-8", errors="surrogateescape"
        )
        busy = done.returncode and ".lock': File exists" in done.stderr
        if not (check and busy and monotonic() < end):
            break
        sleep(0.05)
    if check and done.returncode:
        sys.stderr.write(done.stderr)  # which the error itself does not show
        done.check_returncode()
    return done.stdout.removesuffix("\n")


@pytest.fixture(scope="session")
def _repo_to_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `repo` is a copy of: a thousand tests would each start six gits to make it."""
    top = tmp_path_factory.mktemp("copied") / "repo"
    top.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        _seal(patched, tmp_path_factory)
        git(top, "init", "-q", "-b", "main")
        git(top, "config", "user.name", "Ada")
        git(top, "config", "user.email", "ada@example.org")
        (top / "src").mkdir()
        (top / "README.md").write_text("# A project\n")
        (top / "src" / "a.py").write_text("".join(f"line {n}\n" for n in range(20)))
        (top / "src" / "b.py").write_text("b = 1\n")
        git(top, "add", "-A")
        git(top, "commit", "-q", "-m", "first")
    return top


@pytest.fixture
def repo(tmp_path: Path, _repo_to_copy: Path) -> Path:
    """A repository on branch main with one commit of three files."""
    top = tmp_path / "repo"
    shutil.copytree(_repo_to_copy, top)
    git(top, "update-index", "--refresh")  # which the copied index does not know as the files it is of
    return top


def wait_for_session(leader: subprocess.Popen[bytes], folder: Path) -> None:
    """Waits until nothing runs any more that a killed leader of a session had started: a git, which has a session of its own and
    `folder` in its arguments, may still be at its work, and a daemon ends such a one before it begins."""

    def members() -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError):
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                mine = int(group) == leader.pid or os.fsencode(folder) in (entry / "cmdline").read_bytes()
                if entry.name.isdigit() and mine and state not in "ZX":
                    found.append(int(entry.name))
        return found

    wait_until(lambda: not members())


def is_gone(pid: int) -> bool:
    """Tells whether a process has ended, whether or not anybody has asked for its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


About = TypeVarTuple("About")


def wait_until(condition: Callable[[*About], object], *about: *About, at_most_s: float = 120.0) -> None:
    """Waits for a condition; fails the test when it has not come true in time. What changes in a loop around it is handed to it.

    Between two looks as much time goes by as a look takes: what runs programs does not keep the machine from what it waits for.
    """
    end, began = monotonic() + at_most_s, monotonic()
    while not condition(*about):
        assert monotonic() < end, f"{condition} did not come true within {at_most_s} s"
        sleep(max(0.01, min(monotonic() - began, 0.5)))
        began = monotonic()

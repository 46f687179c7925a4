"""Locks between processes and threads, with real processes and real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from swarm.edge.lockfile import (
    LockHeld,
    LockTaken,
    MergeLockHeld,
    exclusive,
    held,
    holder,
)

HOLD = """
import sys
from pathlib import Path
from swarm.edge.lockfile import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds tmp_path/lock until its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.stdin.close()
    process.wait()
    process.stdout.close()


def test_a_lock_excludes_another_process(tmp_path: Path, other_holder: subprocess.Popen[bytes]) -> None:
    """While another process holds the lock a try is refused, names the holder and leaves the lock alone."""
    with pytest.raises(LockTaken) as refused, exclusive(tmp_path / "lock", wait_s=0):
        pass
    assert refused.value.pid == other_holder.pid
    assert str(other_holder.pid) in str(refused.value)
    assert held(tmp_path / "lock")


def test_the_kernel_frees_the_lock_of_a_killed_holder(
    tmp_path: Path, other_holder: subprocess.Popen[bytes]
) -> None:
    """After kill -9 of the holder the next taker proceeds without anything being swept."""
    other_holder.send_signal(signal.SIGKILL)
    with exclusive(tmp_path / "lock", wait_s=120) as proof:
        assert not proof.released
        assert holder(tmp_path / "lock") == os.getpid()


def test_a_lock_excludes_another_thread_and_two_are_never_inside(tmp_path: Path) -> None:
    """Eight threads that wait for one lock are inside one at a time, and all get in."""
    inside, seen, entered = [0], [], []

    def enter() -> None:
        for _ in range(20):
            with exclusive(tmp_path / "lock"):
                inside[0] += 1
                seen.append(inside[0])
                inside[0] -= 1
            entered.append(1)

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) == 160
    assert set(seen) == {1}


@pytest.mark.parametrize("wait_s", [None, 120.0])
def test_a_waiter_gets_the_lock_when_it_is_given_up(tmp_path: Path, wait_s: float | None) -> None:
    """A waiter, with or without a time limit, is let in once the holder leaves."""
    got = threading.Event()

    def wait() -> None:
        with exclusive(tmp_path / "lock", wait_s=wait_s):
            got.set()

    with exclusive(tmp_path / "lock"):
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not got.is_set()
    assert got.wait(120)
    waiter.join()


def test_a_deleted_lock_file_does_not_let_two_in(tmp_path: Path) -> None:
    """A waiter on a lock file that was deleted meanwhile takes the new file, so two who come later exclude
    each other."""
    path, got, leave = tmp_path / "lock", threading.Event(), threading.Event()

    def wait() -> None:
        with exclusive(path):
            got.set()
            leave.wait(120)

    with exclusive(path):
        waiter = threading.Thread(target=wait)
        waiter.start()
        path.unlink()
    assert got.wait(120)
    with pytest.raises(LockTaken), exclusive(path, wait_s=0):
        pass
    leave.set()
    waiter.join()


def test_the_proof_is_void_after_the_block(tmp_path: Path) -> None:
    """A proof has the class that was asked for and can't be used after its lock was given up."""
    with exclusive(tmp_path / "merge.lock", kind=MergeLockHeld) as proof:
        assert type(proof) is MergeLockHeld
        proof.require()
    with pytest.raises(RuntimeError, match="void"):
        proof.require()
    with exclusive(tmp_path / "x.lock") as plain:
        assert type(plain) is LockHeld


def test_an_error_inside_gives_the_lock_up(tmp_path: Path) -> None:
    """An exception inside the block passes through and the lock is free."""
    with pytest.raises(KeyError), exclusive(tmp_path / "lock"):
        raise KeyError
    assert not held(tmp_path / "lock")


def test_held_makes_no_file_and_follows_the_lock(tmp_path: Path) -> None:
    """`held` says no for a missing or free lock, yes for a held one, and makes no file."""
    path = tmp_path / "lock"
    assert not held(path)
    assert not path.exists()
    with exclusive(path):
        assert held(path)
    assert not held(path)


def test_asking_does_not_make_a_try_fail(tmp_path: Path) -> None:
    """A try without waiting succeeds on a free lock although others keep asking whether it is held."""
    path, stop = tmp_path / "lock", threading.Event()
    with exclusive(path):
        pass

    def ask() -> None:
        while not stop.is_set():
            held(path)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for _ in range(300):
            with exclusive(path, wait_s=0):
                pass
    finally:
        stop.set()
        asker.join()


def test_a_child_started_while_holding_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A child that was started inside the block does not inherit the lock: it would outlive a holder that is killed."""
    with exclusive(tmp_path / "lock"):
        child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, close_fds=False)
    try:
        assert not held(tmp_path / "lock")
        files = []
        for file in Path(f"/proc/{child.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it loads its libraries
                files.append(os.readlink(file))
        assert str(tmp_path / "lock") not in files
    finally:
        child.communicate()


def test_missing_folders_are_made(tmp_path: Path) -> None:
    """The folder of a lock file is made, private to the user."""
    with exclusive(tmp_path / "state" / "locks" / "daemon.lock"):
        assert (tmp_path / "state" / "locks").stat().st_mode & 0o777 == 0o700

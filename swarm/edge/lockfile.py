"""Exclusive locks between processes and threads that the kernel frees at death; taking one yields a proof.

Hides `flock`. A lock is an open file description, so it excludes other threads as well as other processes,
and nothing has to be swept after kill -9. Rules for editing: descriptors are opened close-on-exec, because
a child that inherits one keeps the lock for its own life.
A lock file may be deleted by hand while somebody waits for it, so after locking the inode is compared with
the path. A lock can't be taken twice by one thread: it would wait for itself.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar, overload

from swarm.errors import Refused, SwarmError

FIRST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.05


class LockTaken(Refused):
    """Somebody else holds the lock; `pid` is who wrote itself down as its holder, if that can be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        who = f"by process {pid}" if pid is not None else "by another process"
        super().__init__(f"{path} is locked {who}.", "Nothing was done.", "wait for it to end, or stop it")
        self.path = path
        self.pid = pid


class LockHeld:
    """Proof that the lock on `path` is held; `released` becomes true when the `with` block ends."""

    __slots__ = ("path", "released")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.released = False

    def require(self) -> None:
        """Raises RuntimeError when the proof has outlived its lock."""
        if self.released:
            raise RuntimeError(f"the lock on {self.path} was given up, its proof is void")


class MergeLockHeld(LockHeld):
    """Proof that the merge lock is held: the only state in which staging may be moved."""

    __slots__ = ()


Held = TypeVar("Held", bound=LockHeld)


@overload
def exclusive(path: Path, *, wait_s: float | None = None) -> AbstractContextManager[LockHeld]: ...


@overload
def exclusive(
    path: Path, *, wait_s: float | None = None, kind: type[Held]
) -> AbstractContextManager[Held]: ...


def exclusive(
    path: Path, *, wait_s: float | None = None, kind: type[LockHeld] = LockHeld
) -> AbstractContextManager[LockHeld]:
    """Holds the lock on `path` for a `with` block and yields its proof, of class `kind`.

    `wait_s` is how many seconds to wait for it: None for as long as it takes, 0 not at all. The file and
    its folder are made where missing, and the file stays. Raises LockTaken when the time is over,
    SwarmError when the file system has no locks.
    """
    return _holding(Path(path), wait_s, kind)


@contextmanager
def _holding(path: Path, wait_s: float | None, kind: type[LockHeld]) -> Iterator[LockHeld]:
    descriptor = _lock(path, wait_s)
    proof = kind(path)
    try:
        _sign(descriptor)
        yield proof
    finally:
        proof.released = True
        # Unlocking, not just closing: a child of another thread that is between fork and exec has a copy
        # for a moment.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def held(path: Path) -> bool:
    """Tells whether somebody, this process included, holds the lock on `path`; never waits and makes no
    file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """Reads the process id that the last holder wrote into `path`; only a hint, since it may be gone."""
    try:
        return int(Path(path).read_text("ascii", "replace")[:20])
    except (OSError, ValueError):
        return None


def _lock(path: Path, wait_s: float | None) -> int:
    """Opens and locks `path`; the caller closes the descriptor."""
    deadline = None if wait_s is None else time.monotonic() + wait_s
    while True:
        descriptor = _open(path)
        try:
            _acquire(descriptor, path, deadline)
            if _is_still_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # deleted while we waited: whoever comes next locks another file


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(path, flags, 0o600)


def _acquire(descriptor: int, path: Path, deadline: float | None) -> None:
    if deadline is None:
        if not _try(descriptor, fcntl.LOCK_EX):
            _flock(descriptor, fcntl.LOCK_EX)
        return
    pause_s = FIRST_PAUSE_S
    while not _try(descriptor, fcntl.LOCK_EX):
        if time.monotonic() >= deadline and not _is_only_asked_for(descriptor):
            raise LockTaken(path, holder(path))
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)


def _is_only_asked_for(descriptor: int) -> bool:
    """Tells a holder from somebody in `held`, whose shared lock of a few microseconds must refuse nobody."""
    if not _try(descriptor, fcntl.LOCK_SH):
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def _try(descriptor: int, how: int) -> bool:
    try:
        _flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flock(descriptor: int, how: int) -> None:
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            raise SwarmError(
                f"The file system of the state folder has no file locks ({os.strerror(error.errno)}).",
                "Two daemons could not be kept apart there, so nothing was started.",
                "keep the repository on a local file system",
            ) from error
        raise


def _is_still_at(path: Path, descriptor: int) -> bool:
    ours = os.fstat(descriptor)
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (ours.st_ino, ours.st_dev) == (there.st_ino, there.st_dev)


def _sign(descriptor: int) -> None:
    """Writes who holds the lock, for the message of those who don't get it."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except OSError:
        pass  # a full disk must not keep anybody from a lock that is already held

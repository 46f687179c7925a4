"""Git processes that stay and answer many questions, with the plain command behind them.

Hides their life: started at the first question, restarted once when they die, replaced by one process for this one question
when that dies too, and given up where they never work. Rules for editing: a question and its answer must mean the same to a
standing process and to one that is started for it alone, so that falling back changes nothing but speed.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from swarm.edge.git.call import command, environment, kill_group, left_ms, run, spawn

FRUITLESS_MAX = 4
CLOSE_WITHIN_S = 2.0


class _Ended(Exception):
    """The helper is gone, or said something that is no answer."""


class Helper:
    """One `git <args>` that reads questions from stdin. Thread-safe; one question at a time.

    With `unbuffered` it runs under stdbuf, for commands that do not flush after each answer. After `renew_after` answers it
    is replaced, which bounds its memory; 0 is never. A question may take `limit_s` seconds.
    """

    def __init__(
        self,
        args: Sequence[str],
        git_dir: Path | str,
        *,
        env: Mapping[str, str] | None = None,
        unbuffered: bool = False,
        limit_s: float = 120.0,
        renew_after: int = 0,
    ) -> None:
        self._args = tuple(args)
        self._git_dir = git_dir
        self._env = env
        self._unbuffered = unbuffered
        self._limit_s = limit_s
        self._renew_after = renew_after
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._answers = 0
        self._fruitless = 0

    def ask(self, question: bytes, length: Callable[[bytearray], int | None], *, tries: int = 2) -> bytes:
        """Gives the answer to `question`; `length` tells how long it is as soon as enough of it is there, else None.

        Raises `GitError` where the plain command fails too, `GitTimedOut` where the answer takes too long.
        """
        with self._lock:
            for _ in range(tries):
                if self._fruitless >= FRUITLESS_MAX:
                    break
                try:
                    return self._ask_child(question, length)
                except _Ended:
                    self._end()
                except BaseException:
                    self._end()  # it may be half through an answer
                    raise
        return run(
            *self._args, git_dir=self._git_dir, env=self._env, input=question, timeout_s=self._limit_s
        ).out

    def pid(self) -> int | None:
        """Gives the process id of the helper while one runs."""
        child = self._child
        return None if child is None else child.pid

    def close(self) -> None:
        """Ends the helper; the next question starts another."""
        with self._lock:
            self._end(gently=True)

    def _ask_child(self, question: bytes, length: Callable[[bytearray], int | None]) -> bytes:
        child = self._started()
        deadline = time.monotonic() + self._limit_s
        answer = self._talk(child, question, length, deadline)
        self._fruitless = 0
        self._answers += 1
        if self._answers == self._renew_after:
            self._end(gently=True)
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None:
            return self._child
        argv = command(self._args, self._git_dir, None)
        if self._unbuffered:
            stdbuf = shutil.which("stdbuf")
            if stdbuf is None:
                self._fruitless = FRUITLESS_MAX
                raise _Ended
            argv = [stdbuf, "-o0", *argv]
        # What a dying helper says is not read: the plain command that follows says it again.
        child = spawn(argv, None, environment(False, self._env), subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert child.stdin is not None
        assert child.stdout is not None
        os.set_blocking(child.stdin.fileno(), False)
        os.set_blocking(child.stdout.fileno(), False)
        self._child = child
        self._answers = 0
        self._fruitless += 1
        return child

    def _talk(
        self,
        child: subprocess.Popen[bytes],
        question: bytes,
        length: Callable[[bytearray], int | None],
        deadline: float,
    ) -> bytes:
        assert child.stdin is not None
        assert child.stdout is not None
        in_fd, out_fd = child.stdin.fileno(), child.stdout.fileno()
        pending = memoryview(question)
        answer = bytearray()
        while True:
            pending = _write_some(in_fd, pending)
            poller = select.poll()
            poller.register(out_fd, select.POLLIN)
            if pending:
                poller.register(in_fd, select.POLLOUT)
            ready = poller.poll(left_ms(("git", *self._args), deadline))
            if any(fd == out_fd for fd, _ in ready):
                chunk = os.read(out_fd, 1 << 20)
                if not chunk:
                    raise _Ended
                answer += chunk
                wanted = None if pending else length(answer)
                if wanted is not None:
                    if wanted != len(answer):
                        raise _Ended
                    return bytes(answer)

    def _end(self, *, gently: bool = False) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        child.stdin.close()
        if gently and child.poll() is None:
            _await_end(child.pid)
        kill_group(child)


def _await_end(pid: int) -> None:
    """Waits a little for a helper that has read its last question."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        waiter = select.poll()
        waiter.register(pidfd, select.POLLIN)
        waiter.poll(CLOSE_WITHIN_S * 1000)
    finally:
        os.close(pidfd)


def _write_some(fd: int, pending: memoryview) -> memoryview:
    try:
        while pending:
            pending = pending[os.write(fd, pending[:65536]) :]
    except BlockingIOError:
        pass
    except BrokenPipeError as gone:
        raise _Ended from gone
    return pending

"""Tells somebody of an event: a command of the user's, or an address on the web.

Hides that both may hang, fail and say anything. Rules for editing: one call is one try, within its time; it gives what went wrong,
and raises nothing.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from swarm.edge import contract

_SAID_BYTES = 200  # of what a command wrote last, or of why there was no answer


class Try:
    """One try, which another thread may cut short."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._over = False

    def run(self, command: str, data: bytes, *, top: Path, facts: Mapping[str, str], timeout_s: float) -> str:
        """Runs a shell command at `top` with `data` on its standard input and `facts` in its environment; gives "" where it ended
        with 0. What it leaves in its session ends with it."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(data)
            given.seek(0)
            try:
                child = self._start(command, top, facts, given.fileno(), said.fileno())
            except OSError as error:
                return f"the command could not be started: {error.strerror}"
            if child is None:
                return "it was cut short"
            in_time = _wait(child.pid, timeout_s)
            code = _end(child)
            if not in_time:
                return f"the command did not end within {timeout_s:g} s"
            size = said.seek(0, os.SEEK_END)
            said.seek(max(0, size - _SAID_BYTES))
            last = said.read().decode("utf-8", "replace").strip()
        return f"the command ended with status {code}: {last}" if code else ""

    def _start(
        self, command: str, top: Path, facts: Mapping[str, str], stdin: int, stdout: int
    ) -> subprocess.Popen[bytes] | None:
        base = {name: value for name, value in os.environ.items() if contract.is_for_others(name)}
        with self._lock:
            if self._over:
                return None
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=top,
                env={**base, **facts},
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            return self._child

    def post(self, url: str, data: bytes, *, timeout_s: float) -> str:
        """Posts `data` as JSON; gives "" where the answer is a good one. The settings let in http and https alone."""
        headers = {"Content-Type": "application/json", "User-Agent": "git-swarm"}
        try:
            request = urllib.request.Request(url, data, headers, method="POST")  # noqa: S310
            with urllib.request.build_opener(_NoDetour).open(request, timeout=timeout_s):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                moved = error.headers.get("Location", "") if 300 <= error.code < 400 else ""
                return f"the answer was {error.code}{moved and f': it is at {moved}'}"[:_SAID_BYTES]
        except (OSError, ValueError) as error:
            return str(getattr(error, "reason", None) or error)[:_SAID_BYTES]

    def cut_short(self) -> None:
        """Ends the command that is being run, and lets none begin."""
        with self._lock:
            self._over = True
            if self._child is not None and self._child.returncode is None:
                _kill_group(self._child.pid)


class _NoDetour(urllib.request.HTTPRedirectHandler):
    """Takes an answer that names another address for the failure that it is: urllib goes there with GET, and without the event."""

    def redirect_request(self, *_: object) -> None:
        """Gives no other request."""


def _wait(pid: int, timeout_s: float) -> bool:
    """Waits for the end of a child without taking it, so that its number stays its own; tells whether it came in time."""
    handle = os.pidfd_open(pid)
    try:
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)


def _end(child: subprocess.Popen[bytes]) -> int:
    _kill_group(child.pid)
    return child.wait()


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # nobody is left in it

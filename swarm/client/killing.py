"""The daemons of a repository that are killed on purpose, one after the other: what `swarm chaos` and the crash tests are made of.

Each daemon runs in the foreground as our child, so that its death is seen at once; what kills it is ordered by `SWARM_CRASH` in its
environment, and the next one goes on. All that comes of a daemon has the same TMPDIR, by which it is found and ended.

Rules for editing: what was started is ended by its id; nothing is believed of a daemon but that it has ended, what it wrote down
about itself, and the points that it reached.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import NamedTuple

from swarm import crashpoints
from swarm.client import connection
from swarm.dataclass import dataclass

READY_S = 120.0
LOOK_S = 0.05
LOOK_ANYWAY_S = 1.0


class Stuck(Exception):
    """Something that must come about has not."""


class Reached(NamedTuple):
    """A line of the log of points: which process was where, and what was done to it there ("-" for nothing)."""

    pid: str
    point: str
    kind: str


@dataclass
class Daemons:
    """The daemons of the repository at `top`; `order` gives the next one's `SWARM_CRASH` from what has fired so far."""

    top: Path
    env: Mapping[str, str]
    log: Path
    order: Callable[[list[Reached]], str]
    workers: int = 4
    quiet_s: float = 180.0  # so long nothing may come about
    starts: int = 0
    deaths: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    child: subprocess.Popen[bytes] | None = None

    def reached(self) -> list[Reached]:
        """Gives every point that a daemon reached, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [Reached(*words) for line in lines if len(words := line.split()) == 3]

    def fired(self) -> list[Reached]:
        """Gives every point at which something was done, in order."""
        return [each for each in self.reached() if each.kind != "-"]

    def armed(self) -> dict[str, str]:
        """Gives the environment in which the next daemon is killed."""
        order = self.order(self.fired())
        armed = {crashpoints.VARIABLE: order} if order else {}
        return {**self.env, crashpoints.LOG_VARIABLE: str(self.log), **armed}

    def alive(self) -> bool:
        """Tells whether the last one that was started runs."""
        return self.child is not None and self.child.poll() is None

    def ensure(self) -> None:
        """Sees to it that a daemon runs and answers, however often it is killed on its way up."""
        end, fired = time.monotonic() + self.quiet_s, len(self.fired())
        while not self.alive():
            self.deaths += self.child is not None and self.child.returncode != 0
            self._end_others()
            began = time.monotonic()
            self._start()
            if self._answers():
                self.recoveries_s.append(time.monotonic() - began)
                return
            if len(self.fired()) > fired:
                end, fired = time.monotonic() + self.quiet_s, len(self.fired())
            if time.monotonic() > end:
                raise Stuck("no daemon comes up")

    def _start(self) -> None:
        self.starts += 1
        with open(self.log.with_name("daemon.out"), "ab") as out:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "swarm", "start", "--foreground", "--workers", str(self.workers)],
                cwd=self.top,
                env=self.armed(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        assert self.child is not None
        end = time.monotonic() + READY_S
        while self.child.poll() is None:
            if (connection.daemon_file(str(self.top / ".git" / "swarm")) or {}).get("pid") == self.child.pid:
                return True
            if time.monotonic() > end:
                raise Stuck("a daemon was started and does not answer")
            time.sleep(0.01)
        return False

    def _end_others(self) -> None:
        """A command whose daemon died may have started one by itself: it is killed, so that only ours run."""
        for pid in processes_of(self.env):
            with contextlib.suppress(OSError):
                if b"\0swarm.daemon\0" in Path("/proc", str(pid), "cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    connection.wait_for_end(pid, READY_S)

    def until(self, condition: Callable[[], bool], moved: Callable[[], object]) -> None:
        """Waits until something has come about, with a daemon that runs. What `moved` gives changes as long as anything goes on;
        both are asked when a daemon has reached another point, and now and then without that."""
        end, last, size, looked = time.monotonic() + self.quiet_s, moved(), -1, 0.0
        while True:
            self.ensure()
            now = self.log.stat().st_size
            if now != size or time.monotonic() - looked > LOOK_ANYWAY_S:
                size, looked = now, time.monotonic()
                if condition():
                    return
                if (seen := moved()) != last:
                    end, last = time.monotonic() + self.quiet_s, seen
            if time.monotonic() > end:
                raise Stuck(f"nothing has come about for {self.quiet_s:g} s")
            assert self.child is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(LOOK_S)

    def stop(self, *mode: str) -> None:
        """Stops the daemon, again where it is killed over that."""
        code: int | None = None
        while code != 0:
            self.ensure()
            assert self.child is not None
            done = subprocess.run(
                [sys.executable, "-m", "swarm", "stop", *mode],
                cwd=self.top, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=self.quiet_s, check=False,
            )  # fmt: skip
            try:
                code = self.child.wait(READY_S)
            except subprocess.TimeoutExpired:
                raise Stuck(f"swarm stop did not end the daemon: {done.stderr}") from None

    def end(self) -> None:
        """Kills all that has come of the daemons."""
        end = time.monotonic() + READY_S
        while (found := processes_of(self.env)) and time.monotonic() < end:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.alive()  # takes its exit status, so that it is no process any more
            time.sleep(0.02)


def processes_of(env: Mapping[str, str]) -> list[int]:
    """Lists the processes that have the same TMPDIR as `env`; this one is none of them."""
    mark, found = f"\0TMPDIR={env['TMPDIR']}\0".encode(), []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in b"\0" + Path("/proc", name, "environ").read_bytes():
                    found.append(int(name))
    return found

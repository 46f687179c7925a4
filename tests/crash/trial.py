"""One trial: a day carried out by daemons that are killed, failed or stopped at ordered points, and what is true afterwards.

The daemon runs in the foreground as our child, so that its death is seen at once. Each start is armed with the faults that have not
fired yet; the first that is reached fires, and the next daemon goes on with the rest. When none has fired for long the trial
ends without them, which the coverage table then shows.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tests.e2e.driver import SWARM, Done, Swarm, common_dir

LIMIT_S = 600.0  # of a trial; on a machine at rest it takes fifteen seconds
READY_S = 120.0


class Stuck(Exception):
    """Something that must come about has not: the liveness that I19 asks for."""


@dataclass
class Daemons:
    """The daemons of one repository, one after the other."""

    swarm: Swarm
    faults: list[str]
    nested: list[str] = field(default_factory=list)
    workers: int = 4
    env: dict[str, str] = field(default_factory=dict)
    starts: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    deaths: int = 0
    child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.swarm.outside / "points"

    def reached(self) -> list[list[str]]:
        """Every point that was reached: process, name, what was done."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [fields for line in lines if len(fields := line.split()) == 3]

    def fired(self) -> list[str]:
        return [f"{name}:{kind}" for _, name, kind in self.reached() if kind != "-"]

    def alive(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def ensure(self) -> None:
        """Sees to it that a daemon runs and answers, however often it is killed on its way up."""
        end = monotonic() + LIMIT_S
        while not self._up():
            if monotonic() > end:
                raise Stuck("no daemon comes up")

    def _up(self) -> bool:
        if self.child is not None and self.child.poll() is not None:
            self.deaths += self.child.returncode != 0
            self.child = None
        if self.child is None:
            self._end_stranger()
            began = monotonic()
            self._start()
            ready = self._ready()
            if ready:
                self.recoveries_s.append(monotonic() - began)
            return ready
        return True

    def _start(self) -> None:
        done = Counter(self.fired())
        left = []
        for fault in self.faults:
            name = fault.rsplit(":", 1)[0]
            if done[name] > 0:
                done[name] -= 1
            else:
                left.append(fault)
        if self.starts and self.nested:
            left.append(self.nested.pop(0))
        armed = {"SWARM_CRASH": ",".join(left)} if left else {}
        self.starts += 1
        with open(self.swarm.outside / "daemon.out", "ab") as out:
            self.child = subprocess.Popen(
                [*SWARM, "start", "--foreground", "--workers", str(self.workers)],
                cwd=self.swarm.top,
                env={**self.swarm.env, **self.env, **armed, "SWARM_CRASH_LOG": str(self.log)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _announced(self, key: str = "pid") -> int | None:
        """The process that wrote itself down as the daemon; with "socket" only where it can be asked."""
        try:
            about = json.loads((common_dir(self.swarm.top) / "swarm" / "daemon.json").read_text())
        except (OSError, ValueError):
            return None
        return int(about["pid"]) if key in about else None

    def _ready(self) -> bool:
        assert self.child is not None
        end = monotonic() + READY_S
        while self.child.poll() is None:
            if self._announced("socket") == self.child.pid:
                return True
            if monotonic() > end:
                raise Stuck("a daemon was started and does not answer")
            sleep(0.01)
        return False

    def _end_stranger(self) -> None:
        """A command whose daemon died may have started one by itself: it is killed, so that only ours run."""
        pid = self._announced()
        if pid is not None and _is_daemon(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            end = monotonic() + READY_S
            while _is_daemon(pid) and monotonic() < end:
                sleep(0.01)

    def kill(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()


def _is_daemon(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return b"swarm" in words and state != "Z"


@dataclass
class Trial:
    """A repository in `folder` whose daemons are interrupted; what is carried out in it is said by `play`."""

    folder: Path
    faults: Sequence[str] = ()
    nested: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)
    workers: int = 4
    limit_s: float = LIMIT_S

    def play(self) -> list[str]:
        """Carries everything out, to the last stop; gives what is not as it must be."""
        raise NotImplementedError

    def run(self, template: Path) -> dict[str, Any]:
        """Plays, checks, and gives the report."""
        began = monotonic()
        self.deadline = began + self.limit_s
        top = self.folder / "repo"
        shutil.copytree(template, top, symlinks=True)
        self.swarm = Swarm(top, self.folder / "outside")
        self.daemons = Daemons(
            self.swarm, list(self.faults), list(self.nested), env=self.env, workers=self.workers
        )
        try:
            wrong = self.play()
        except Stuck as stuck:
            wrong = [f"I19: {stuck}"]
        except (AssertionError, subprocess.SubprocessError, OSError, ValueError) as error:
            wrong = [f"{type(error).__name__}: {str(error)[-1500:]}"]
        finally:
            self.daemons.kill()
            for left in self.swarm.left_running():
                with suppress(ProcessLookupError):
                    os.kill(int(left.partition(":")[0]), signal.SIGKILL)
        reached = Counter(name for _, name, _ in self.daemons.reached())
        return {
            "faults": list(self.faults),
            "nested": list(self.nested),
            "fired": self.daemons.fired(),
            "points": dict(reached),
            "starts": self.daemons.starts,
            "deaths": self.daemons.deaths,
            "recovery_s": [round(each, 2) for each in self.daemons.recoveries_s],
            "seconds": round(monotonic() - began, 1),
            "wrong": wrong,
        }

    # --- what every play is made of

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits until something has come about, with a daemon that runs."""
        while True:
            self.daemons.ensure()
            if condition():
                return
            if monotonic() > self.deadline:
                raise Stuck(f"never came about: {what}")
            sleep(0.02)

    def do(self, *args: str, codes: Sequence[int] = (0,), again: Sequence[int] = ()) -> Done:
        """Has a command done, again where its daemon died over it; `again` are ends that are good then as well, since the daemon
        may have died after it did what was asked for."""
        refused = tries = 0
        while True:
            self.daemons.ensure()
            done = self.swarm(*args, code=None, timeout_s=LIMIT_S)
            tries += 1
            if done.code in codes or (tries > 1 and done.code in again):
                return done
            refused += self.daemons.alive()
            if refused > 3 or monotonic() > self.deadline:
                raise Stuck(f"swarm {' '.join(args)} ends with {done.code}: {done.err[-800:]}")

    def stop(self, *mode: str) -> None:
        """Stops the daemon; where it is killed over that it is gone as well."""
        self.daemons.ensure()
        done = self.swarm("stop", *mode, code=None, timeout_s=LIMIT_S)
        child = self.daemons.child
        if done.code != 0 or child is None:
            raise Stuck(f"swarm stop ends with {done.code}: {done.err[-800:]}")
        child.wait(60)

    def wait(self, name: str) -> dict[str, Any]:
        """Waits for the end of a run, however often its daemon is killed meanwhile, and gives its part of the document."""
        while True:
            done = self.do("wait", "--run", name, "--json", "--timeout", "60", codes=(0, 1, 3, 124))
            try:
                runs = [run for run in json.loads(done.out)["runs"] if run["id"] == name]
            except (ValueError, KeyError):
                runs = []
            if runs and done.code in (0, 1) and runs[0]["state"] != "active":
                return dict(runs[0])
            if monotonic() > self.deadline:
                raise Stuck(f"the run never ends: {json.dumps(runs)[:1500]}")

"""The product as the bench programs use it: through its command line and its public documents alone.

`Product` is one throwaway repository with the settings that a measurement needs: the product's own load must not throttle it,
so readings of a calm machine come from a file, which is a setting of the product. Nothing else is changed. Rule for editing:
ask the product through `swarm … --json`; the journal's file and the daemon's insides are not looked at here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.bench import floor

SWARM = str(Path(sys.prefix) / "bin" / "swarm")
CALM = {
    "cpu_percent": 1.0,
    "memory_percent": 10.0,
    "memory_available_bytes": 2**34,
    "disk_free_bytes": 2**40,
}


class Product:
    """A repository of `files` files, and `swarm` in it; as a context, it ends the daemon and removes the folder."""

    def __init__(
        self, scratch: Path, *, files: int = 200, slots: int = 4, sandbox: str = "off", program: str = SWARM
    ) -> None:
        self.program = program
        self.folder = scratch / f"product-{time.monotonic_ns()}"
        self.repository = floor.a_repository(self.folder / "repo", files)
        readings = self.folder / "readings.json"
        readings.write_text(json.dumps(CALM), encoding="utf-8")
        self.environment = {
            **floor.ENVIRONMENT,
            "SWARM_LIMITS__READINGS_FILE": str(readings),
            "SWARM_LIMITS__WORKERS_MAX": str(slots),
            "SWARM_LIMITS__RAMP_PER_S": "1000",
            "SWARM_SANDBOX": sandbox,
            "XDG_CACHE_HOME": str(self.folder / "cache"),  # on the disk that is measured
        }

    def __enter__(self) -> Product:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        subprocess.run(
            [self.program, "stop", "--now"],
            cwd=self.repository,
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        shutil.rmtree(self.folder, ignore_errors=True)

    def swarm(self, *arguments: str, timeout_s: float = 600.0, code: int = 0) -> str:
        """Runs a command and gives what it prints. Raises `RuntimeError` when its exit code is not `code`."""
        command = [self.program, *arguments]
        done = subprocess.run(
            command,
            cwd=self.repository,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != code:
            raise RuntimeError(
                f"{command}: exit {done.returncode}\n{done.stdout[-800:]}\n{done.stderr[-1600:]}"
            )
        return done.stdout

    def timed(self, *arguments: str, timeout_s: float = 600.0) -> float:
        """The seconds from the command typed to the prompt back."""
        started = time.perf_counter()
        self.swarm(*arguments, timeout_s=timeout_s)
        return time.perf_counter() - started

    def plan(self, name: str, tasks: Iterable[dict[str, Any]], **more: Any) -> str:
        """Writes a plan file beside the repository and gives its path."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"name": name, **more, "tasks": list(tasks)}), encoding="utf-8")
        return str(path)

    def daemon(self) -> int:
        """The process id of the daemon, which must run."""
        daemon = json.loads(self.swarm("status", "--json"))["daemon"]
        if not daemon["running"]:
            raise RuntimeError("no daemon runs")
        return int(daemon["pid"])

    def events(self) -> list[dict[str, Any]]:
        """Every line of `swarm events --json`."""
        return [json.loads(line) for line in self.swarm("events", "--json").splitlines()]

    def check(self, run: str, tasks: int) -> None:
        """Raises `RuntimeError` unless everything that the run promises is on staging; see `floor.check`."""
        staging = self.repository / ".worktrees" / run / "staging"
        deadline = time.monotonic() + 10
        branch = f"swarm/{run}/staging"
        while floor.git(staging, "rev-parse", "HEAD") != floor.git(self.repository, "rev-parse", branch):
            if time.monotonic() > deadline:
                break  # the check says so
            time.sleep(0.05)  # the staging worktree follows in its own time
        floor.check(self.repository, staging, branch, tasks)


def trivial(count: int) -> list[dict[str, Any]]:
    """The tasks of the floor program: each writes one small file."""
    return [
        {"id": f"t{n}", "title": f"task {n}", "run": f"echo x > file_{n}", "claims": [f"file_{n}"]}
        for n in range(count)
    ]

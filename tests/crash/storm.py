"""A storm: eight workers on mixed tasks, while daemons, workers, launchers, suites and git are killed and stopped at random.

The seed decides who is hit, how and when; what the kernel makes of it differs from run to run, so a seed repeats a storm's
character and not its every step. Tasks may be tried as often as it takes: all must land but the one that always fails.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from tests.conftest import git
from tests.crash import checks
from tests.crash.day import RUIN_INDEX
from tests.crash.trial import Trial
from tests.e2e.driver import Swarm

RUN = "storm"
TARGETS = {"daemon": 30, "worker": 20, "launcher": 15, "suite": 10, "git": 25}
STOPPED = 0.2  # so many of the blows only stop, for a second or two
WORK = (
    ("plain", "echo {n} > out-{n}"),
    ("commits", "for i in 1 2 3; do echo $i > out-{n}; git add out-{n}; {commit} -m $i; done"),
    ("dirt", "mkdir -p d-{n}; echo {n} > out-{n}; echo x > d-{n}/x.o; git add out-{n}"),
    ("shared", "echo {n} > out-{n}; sed -i '{line}s/.*/line by {n}/' src/a.py"),
    ("tree", "setsid sleep 0.2 & echo {n} > out-{n}; sleep 0.1"),
    ("vandal", f"echo {{n}} > out-{{n}}; {RUIN_INDEX}"),
)


@dataclass
class Storm(Trial):
    """A storm that blows until its run has ended or `kills_max` blows have been dealt."""

    seed: int = 0
    tasks: int = 32
    kills_max: int = 60
    every_s: float = 0.4
    blows: Counter[str] = field(default_factory=Counter)
    workers: int = 8
    limit_s: float = 900.0

    def play(self) -> list[str]:
        """Submits, has the storm blow beside it, and waits for the calm after it."""
        chance = random.Random(self.seed)
        swarm = self.swarm
        self.do("submit", str(plan(swarm, chance, self.tasks)))
        over = threading.Event()
        blowing = threading.Thread(target=self._blow, args=(chance, over))
        blowing.start()
        try:
            self.wait(RUN)
        finally:
            over.set()
            blowing.join()
        self.daemons.stop()
        self.daemons.ensure()
        run = self.wait(RUN)
        self.daemons.stop()
        return differences(swarm, run, self.tasks) + checks.broken(swarm)

    def run(self, template: Path) -> dict[str, Any]:
        """As a trial does, with the blows that were dealt."""
        return {**super().run(template), "blows": dict(self.blows)}

    def _blow(self, chance: random.Random, over: threading.Event) -> None:
        until = monotonic() + self.limit_s / 2
        while not over.wait(chance.expovariate(1 / self.every_s)):
            if self.blows.total() >= self.kills_max or monotonic() > until:
                return
            (wanted,) = chance.choices(list(TARGETS), list(TARGETS.values()))
            found = victims(self.swarm).get(wanted)
            if not found:
                continue
            pid, stops = chance.choice(found), wanted != "git" and chance.random() < STOPPED
            try:
                os.kill(pid, signal.SIGSTOP if stops else signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.blows[f"{wanted} {'stopped' if stops else 'killed'}"] += 1
            if stops:
                over.wait(chance.uniform(0.5, 2.5))
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    pass


def victims(swarm: Swarm) -> dict[str, list[int]]:
    """Finds whom to hit, by what they were started as."""
    mark = os.fsencode(swarm.top)
    found: dict[str, list[int]] = {name: [] for name in TARGETS}
    launchers: dict[int, str] = {}
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
            stat = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
            at_work_in = os.readlink(f"/proc/{name}/cwd") if b"--foreground" in words else ""
        except OSError:
            continue  # it has ended; a storm that ended with it would deal no more blows
        pid, parents[int(name)] = int(name), int(stat[1])
        if b"launcher.sh" in b" ".join(words[:2]) and mark in b" ".join(words):
            launchers[pid] = "suite" if b"/verify/" in words[2] else "worker"
            found["launcher"].append(pid)
        elif words[0].endswith(b"git") and mark in b" ".join(words):
            found["git"].append(pid)
        elif at_work_in == str(swarm.top):
            found["daemon"].append(pid)
    for pid, parent in parents.items():
        if parent in launchers and pid not in launchers:
            found[launchers[parent]].append(pid)
    return found


def plan(swarm: Swarm, chance: random.Random, tasks: int) -> Path:
    """Writes a plan of mixed tasks, some of which need others, and one that always fails."""
    commit = "git -c user.name=W -c user.email=w@x commit -q --allow-empty"
    made = []
    for n in range(tasks):
        kind, work = chance.choice(WORK)
        line = n % 20 + 1
        claims = [f"out-{n}", *([{"path": "src/a.py", "mode": "shared"}] if kind == "shared" else [])]
        needs = [f"t{chance.randrange(n)}"] if n and chance.random() < 0.3 else []
        made.append(
            swarm.task(
                f"t{n}",
                work.format(n=n, line=line, commit=commit),
                claims=claims,
                needs=needs,
                attempts=100,
                sleep_s=round(chance.uniform(0, 1.0), 2),
            )
        )
    made.append(swarm.task("fails", "exit 1", claims=["none"], attempts=1))
    return swarm.plan(RUN, made, verify=[{"name": "slow", "run": "sleep 0.2"}])


def differences(swarm: Swarm, run: dict[str, Any], tasks: int) -> list[str]:
    """Says which tasks have not ended as they must, and whose work is not on staging."""
    states = {task["id"]: task["state"] for task in run["tasks"]}
    wrong = [f"t{n} is {states.get(f't{n}')}" for n in range(tasks) if states.get(f"t{n}") != "landed"]
    wrong += [f"fails is {states.get('fails')}"] if states.get("fails") != "failed" else []
    listed = git(swarm.top, "ls-tree", "--name-only", f"refs/heads/swarm/{RUN}/staging").splitlines()
    return wrong + [f"out-{n} is not on staging" for n in range(tasks) if f"out-{n}" not in listed]

"""A day of `verify.mode = "batch"`: four that wait are one batch, red by its last two and halved until one is red alone.

First fifteen quick ones land, after which so little was red that batches of four are made. Then four gather in the merge queue
behind a suite that waits; from there on daemons are killed on the way of the batch: while its candidates are made, while it is
verified, when it is halved, before and after staging moves over several commits at once, and before and after the branch does.

Rules for editing: where staging stood is asked of git's own logs, in both repositories: nowhere but where suites had passed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from swarm.client.killing import Reached
from tests.conftest import git
from tests.crash import checks
from tests.crash.trial import Trial
from tests.e2e.driver import Swarm, common_dir

RUN = "batches"
EARLIER = tuple(f"e{n}" for n in range(15))
TOGETHER = ("a", "b", "c", "d")  # in this order in the queue; c and d are red together
ON_THE_WAY = ("merge.", "verify.", "landing.checked", "landing.advanced", "publish.")  # how points begin


def plan(swarm: Swarm) -> Path:
    """Writes the plan."""
    tasks = [
        *(swarm.task(name) for name in EARLIER),
        swarm.task("head", gate="head"),
        *(swarm.task(name, gate=name, attempts=1) for name in TOGETHER),
    ]
    held = f"[ ! -e out-head ] || until [ -e {shlex.quote(str(swarm.gate('batch')))} ]; do sleep 0.02; done"
    return swarm.plan(RUN, tasks, verify=[f"{held}; ! {{ [ -e out-c ] && [ -e out-d ]; }}"])


def differences(swarm: Swarm, run: dict[str, Any]) -> Iterator[str]:
    """Says where the end is not what it must be, by what the run says and by git."""
    tasks = {task["id"]: task for task in run["tasks"]}
    wanted = {**dict.fromkeys((*EARLIER, "head", *TOGETHER), "landed"), "d": "failed"}
    for name, state in wanted.items():
        if tasks[name]["state"] != state:
            yield f"{name} is {tasks[name]['state']}, not {state}"
    if (tasks["d"]["reason"] or {}).get("partners") != ["c"]:
        yield f"d is not told of c: {tasks['d']['reason']}"
    landed = swarm.landings(RUN)
    if landed[-4:] != ["head", "a", "b", "c"]:
        yield f"landed have {landed}"
    yield from stood_unverified(swarm, RUN)
    if "Swarm-Batch: a, b" not in git(swarm.top, "log", "-1", "--format=%B", f"{swarm.staging(RUN)}^"):
        yield "a and b were no batch"


def stood_unverified(swarm: Swarm, run: str) -> Iterator[str]:
    """Says where staging ever stood that is not known to be green, in either repository."""
    common, base = common_dir(swarm.top), git(swarm.top, "rev-parse", "main")
    for top, ref in ((common / "swarm" / "landing.git", run), (common, f"swarm/{run}")):
        log = (top / "logs" / "refs" / "heads" / ref / "staging").read_text("utf-8")
        for commit in {line.split()[1] for line in log.splitlines()} - {base}:
            trailer = "--format=%(trailers:key=Swarm-Verified,valueonly,separator=)"
            if (says := git(swarm.top, "log", "-1", trailer, commit)) in ("", "none"):
                yield f"staging stood at {commit} in {top}, which says of its suites {says or 'nothing'}"


class Batches(Trial):
    """The day, whose faults are for the daemons that have the batch before them."""

    gathered = False

    def _order(self, fired: Sequence[Reached]) -> str:
        return super()._order(fired) if self.gathered else ""

    def play(self) -> list[str]:
        """Has four gather behind one, and lets them go when the next daemon is to be killed."""
        swarm = self.swarm
        self.do("submit", str(plan(swarm)))
        self.until(lambda: set(EARLIER) <= set(swarm.landings(RUN)))
        swarm.open("head")
        for n, name in enumerate(TOGETHER):
            self.until(lambda n=n: swarm.waiting() == set(TOGETHER[:n]) and verifying(swarm))  # type: ignore[misc]
            swarm.open(name)
        self.until(lambda: swarm.waiting() == set(TOGETHER))
        self.daemons.stop("--leave-workers")
        self.gathered = True
        swarm.open("batch")
        run = self.wait(RUN)
        self.daemons.stop()
        self.daemons.ensure()
        self.daemons.stop()
        return [*differences(swarm, run), *checks.broken(swarm)]


def verifying(swarm: Swarm) -> bool:
    """Tells whether the one that the four gather behind is being verified."""
    return any(
        entry["task"] == "head" and entry["state"] == "verifying" for entry in swarm.status()["merge_queue"]
    )

"""What one event costs the machine that decides, with 100 to 100,000 tasks known: in this process, without any edge.

Every command is answered at once, as a perfect world would, and the first hundred tasks of the plan are carried through to landed.
It is decided by the limits that a daemon without settings decides by, with four slots.
Bar: the cost per event at 100,000 tasks is at most 1.5 x that at 100 (the caches of the processor account for some of it).
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from swarm import config
from swarm.core import commands as cmd
from swarm.core import machine
from swarm.core import messages as m
from swarm.core.model import Claim, PlanSpec, Readings, TaskSpec
from swarm.core.state import Swarm
from swarm.settings import Settings
from tests.bench.measure import Bars, Variant, in_turn, options

CALM = Readings(cpu_percent=5.0, memory_percent=20.0, memory_available_bytes=2**34, disk_free_bytes=2**40)
BASE = "b" * 40
LIMITS = dataclasses.replace(config.to_limits(Settings()), workers_max=4, ramp_per_s=1e6, follow_every_s=0.0)
SIZES = (100, 1_000, 10_000, 100_000)
FIRST = (
    10  # tasks landed before measuring: what a submission leaves to be done once is not the cost of an event
)
ENOUGH = 100  # and until so many have landed: all of the smallest plan


def a_task(n: int) -> TaskSpec:
    """A task with a claim of its own; every fourth needs the one before."""
    needs = (f"t{n - 1}",) if n % 4 == 3 else ()
    return TaskSpec(
        id=f"t{n}", title=f"Task {n}", run="true", claims=(Claim(f"d{n % 100}/f{n}"),), needs=needs
    )


class World:
    """A swarm whose commands are answered at once."""

    def __init__(self, tasks: int) -> None:
        self.swarm = Swarm()
        self.now = 1.0
        self.commits = 0
        self.events = 0
        self.landed = 0
        self.waiting: deque[cmd.Command] = deque()
        self.send(m.DaemonStarted(at=self.now, version="bench", pid=1, limits=LIMITS))
        plan = PlanSpec(id="plan", name="plan", tasks=tuple(a_task(n) for n in range(tasks)))
        self.send(m.PlanSubmitted(at=self.now, run="plan", plan=plan, base_branch="main", base_commit=BASE))

    def send(self, event: m.Event) -> None:
        """Takes an event in, and keeps the commands that follow."""
        self.events += 1
        turn = machine.step(self.swarm, event)
        self.waiting.extend(turn.commands)
        self.landed += sum(fact.type == "TaskLanded" for fact in turn.facts)

    def carry_on(self, until_landed: int) -> None:
        """Answers commands until so many tasks have landed."""
        while self.landed < until_landed:
            self.now += 0.0001
            command = self.waiting.popleft()
            self.send(ANSWERS[type(command)](self, command))

    def a_commit(self) -> str:
        """A commit id that was not given before."""
        self.commits += 1
        return f"{self.commits:040x}"


def _about(world: World, command: Any) -> dict[str, Any]:
    return {"at": world.now, "run": command.run, "task": command.task, "attempt": command.attempt}


ANSWERS: dict[type[cmd.Command], Callable[[World, Any], m.Event]] = {
    cmd.MeasureHost: lambda w, c: m.HostMeasured(at=w.now, readings=CALM),
    cmd.PrepareRun: lambda w, c: m.RunPrepared(at=w.now, run=c.run, commit=BASE, worktree="/staging"),
    cmd.TakeWorktree: lambda w, c: m.WorktreeReady(**_about(w, c), path="/worktree"),
    cmd.StartWorker: lambda w, c: m.WorkerStarted(**_about(w, c), pid=1, started_at=w.now),
    cmd.WatchWorker: lambda w, c: m.WorkerExited(**_about(w, c), exit_code=0),
    cmd.Collect: lambda w, c: m.Collected(
        **_about(w, c),
        head=w.a_commit(),
        commits=1,
        touched=(f"d{int(c.task[1:]) % 100}/f{c.task[1:]}",),
        brought_in=True,
    ),
    cmd.GiveBackWorktree: lambda w, c: m.WorktreeReturned(**_about(w, c)),
    cmd.Merge: lambda w, c: m.CandidateMade(**_about(w, c), onto=c.onto, candidate=w.a_commit()),
    cmd.Verify: lambda w, c: m.Verified(**_about(w, c), candidate=c.candidate),
    cmd.Advance: lambda w, c: m.StagingAdvanced(**_about(w, c), candidate=c.new),
    cmd.Publish: lambda w, c: m.Published(at=w.now, run=c.run, commit=c.commit),
    cmd.Follow: lambda w, c: m.Followed(at=w.now, run=c.run, commit=c.commit),
}


def per_event_s(tasks: int, repeats: int) -> float:
    """CPU seconds that an event costs on average, with so many tasks known."""
    spent, events = 0.0, 0
    for _ in range(repeats):
        world = World(tasks)
        world.carry_on(FIRST)
        before = world.events
        started = time.process_time()
        world.carry_on(ENOUGH)
        spent += time.process_time() - started
        events += world.events - before
    return spent / events


def main() -> int:
    """Prints the figures and says whether the bars are kept."""
    chosen = options("tests.bench.bench_machine", __doc__ or "", rounds=5)
    bars = Bars()
    variants = [
        Variant(f"{size:,} tasks known", partial(per_event_s, size, max(3, 2_000 // size))) for size in SIZES
    ]
    in_turn("one event", variants, rounds=chosen.rounds, unit="us")
    bars.at_most("an event with 100,000 tasks, in one with 100", variants[-1].ratio(variants[0]), 1.5, " x")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

"""What one event costs the machine that decides, with 100 to 100,000 tasks known: in this process, without any edge.

Every command is answered at once, by the world of `swarm simulate`, and the first hundred tasks of the plan are carried through to
landed. It is decided by the limits that a daemon without settings decides by, with four slots.
Bar: the cost per event at 100,000 tasks is at most 1.5 x that at 100 (the caches of the processor account for some of it).
"""

from __future__ import annotations

import dataclasses
import sys
import time
from functools import partial

from swarm import config
from swarm.core.model import Claim, PlanSpec, TaskSpec
from swarm.core.simulation import Assumed, World
from swarm.settings import Settings
from tests.bench.measure import Bars, Variant, in_turn, options

LIMITS = dataclasses.replace(config.to_limits(Settings()), workers_max=4, ramp_per_s=1e6)
AT_ONCE = Assumed(task_s=0.0)
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


def a_plan(tasks: int) -> PlanSpec:
    """A plan of so many tasks."""
    return PlanSpec(id="plan", name="plan", tasks=tuple(a_task(n) for n in range(tasks)))


def carry_on(world: World, until_landed: int) -> None:
    """Lets the world go on until so many tasks have landed."""
    while len(world.run.landed) < until_landed:
        event = world.next_event()
        assert event is not None
        world.send(event)


def per_event_s(tasks: int, repeats: int) -> float:
    """CPU seconds that an event costs on average, with so many tasks known."""
    spent, events = 0.0, 0
    for _ in range(repeats):
        world = World(a_plan(tasks), LIMITS, AT_ONCE)
        carry_on(world, FIRST)
        before = world.events
        started = time.process_time()
        carry_on(world, ENOUGH)
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

"""CPU time of the coordinator itself per task, outside git and outside the workers.

Taken from the kernel: user and system time of the daemon's own process (all its threads, none of its children), from just before
the plan is submitted until every task has landed. Bar: under 1 ms a task.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.measure import Bars, Variant, cpu_s, in_turn, options, scratch
from tests.bench.product import Product, trivial


def coordinator_s(folder: Path, tasks: int) -> float:
    """CPU seconds of the daemon for a run of so many trivial tasks."""
    with Product(folder) as product:
        product.swarm("start")
        pid = product.daemon()
        plan = product.plan("trivial", trivial(tasks))
        before = cpu_s(pid)
        product.swarm("submit", plan)
        product.swarm("wait")
        took = cpu_s(pid) - before
        product.check("trivial", tasks)
    return took


def main() -> int:
    """Prints the figure and says whether the bar is kept."""
    chosen = options("tests.bench.bench_coordinator", __doc__ or "", rounds=3, tasks=300)
    bars = Bars()
    with scratch() as folder:
        own = Variant("the daemon's own CPU", lambda: coordinator_s(folder, chosen.tasks))
        in_turn(f"{chosen.tasks} trivial tasks: per task", [own], rounds=chosen.rounds, per=chosen.tasks)
        bars.at_most("coordinator CPU outside git, per task", own.median * 1e3, 1, " ms")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

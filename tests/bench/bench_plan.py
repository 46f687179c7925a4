"""A plan of 10,000 tasks, checked and submitted, from the command typed to the prompt back.

The plan has phases, needs and claims of its own for every task; the daemon is running and paused. Bar: under 5 s for both
together. The memory of the daemon is shown as well: under 80 MiB and 2 kB a task.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.bench.measure import Bars, Variant, in_turn, options, resident_bytes, scratch
from tests.bench.product import Product

PHASES = 10


def layered(count: int) -> list[dict[str, Any]]:
    """Tasks in ten phases, each of which needs the one before; every tenth task needs its neighbour too."""
    tasks: list[dict[str, Any]] = []
    for n in range(count):
        name = f"d{n % 100}/file_{n}"
        task = {"id": f"t{n}", "title": f"task {n}", "phase": f"p{n * PHASES // count}", "claims": [name]}
        tasks.append({**task, "run": f"echo x > {name}", "needs": [f"t{n - 1}"] if n % 10 == 9 else []})
    return tasks


class Measured:
    """Checks and submits once a round, and keeps the parts."""

    def __init__(self, folder: Path, tasks: int) -> None:
        self.folder, self.tasks = folder, tasks
        self.parts = (0.0, 0.0)
        self.memory = 0

    def both(self) -> float:
        """Seconds for `swarm check` and `swarm submit`."""
        phases = [{"id": f"p{n}", "needs": [f"p{n - 1}"] if n else []} for n in range(PHASES)]
        with Product(self.folder) as product:
            product.swarm("start")
            product.swarm("pause")
            plan = product.plan("large", layered(self.tasks), phases=phases)
            self.parts = (product.timed("check", plan), product.timed("submit", plan))
            self.memory = resident_bytes(product.daemon())
        return sum(self.parts)


def main() -> int:
    """Prints the figures and says whether the bars are kept."""
    chosen = options("tests.bench.bench_plan", __doc__ or "", rounds=3, tasks=10_000)
    bars = Bars()
    with scratch() as folder:
        measured = Measured(folder, chosen.tasks)
        both = Variant("check and submit", measured.both)
        parts = [
            Variant("  swarm check", lambda: measured.parts[0]),
            Variant("  swarm submit", lambda: measured.parts[1]),
        ]
        in_turn(f"a plan of {chosen.tasks:,} tasks", [both, *parts], rounds=chosen.rounds)
        bars.at_most("check and submit", both.median, 5, " s")
        bars.at_most("the daemon's memory", measured.memory / 2**20, 80 + 2e3 * chosen.tasks / 2**20, " MiB")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

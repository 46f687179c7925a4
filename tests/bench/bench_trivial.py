"""Trivial tasks on four slots: the product against the floor programs, in the same rounds.

Bars: with 200 files at most 2 x mode C (a pool of worktrees, git commands, nothing else); with 4,800 files at least 4 x as fast
as mode E (a worktree added and removed per task). The floor is timed from its first task to its last, its worktrees made
beforehand. The product is timed from the command to the prompt with the daemon running (making its worktrees included), and, for
comparison, from the first task that starts to the last that lands; beside it the same with every worker shut in by bubblewrap.
"""

from __future__ import annotations

import shutil
import sys
from datetime import datetime
from pathlib import Path

from tests.bench.floor import Floor
from tests.bench.measure import Bars, Variant, in_turn, options, scratch
from tests.bench.product import Product, trivial

SLOTS = 4


class Timed:
    """Runs the product once a round; keeps the time between first start and last landing beside the whole."""

    def __init__(self, folder: Path, tasks: int, files: int, sandbox: str = "off") -> None:
        self.folder, self.tasks, self.files, self.sandbox = folder, tasks, files, sandbox
        self.inner = 0.0

    def whole(self) -> float:
        """Seconds from `swarm run` typed to the prompt back, with a daemon running."""
        with Product(self.folder, files=self.files, slots=SLOTS, sandbox=self.sandbox) as product:
            product.swarm("start")
            plan = product.plan("trivial", trivial(self.tasks))
            took = product.timed("run", plan)
            product.check("trivial", self.tasks)
            times = {"TaskStarted": [], "TaskLanded": []}  # type: dict[str, list[float]]
            for event in product.events():
                if event["type"] in times:
                    times[event["type"]].append(datetime.fromisoformat(event["at"]).timestamp())
            self.inner = max(times["TaskLanded"]) - min(times["TaskStarted"])
        return took

    def first_to_last(self) -> float:
        """Seconds from the first task that started to the last that landed, of the same run as `whole`."""
        return self.inner


def main() -> int:
    """Prints both comparisons and says whether the bars are kept."""
    chosen = options("tests.bench.bench_trivial", __doc__ or "", rounds=3, tasks=200, large_tasks=200)
    bars = Bars()
    with scratch() as folder:
        small = Floor(folder, chosen.tasks, SLOTS, 200)
        timed = Timed(folder, chosen.tasks, 200)
        pooled = Variant("C pool, git commands, merge-tree", small.pooled)
        whole = Variant("swarm run, to the prompt", timed.whole)
        inner = Variant("  first start to last landing", timed.first_to_last)
        naive = Variant("E worktree add and remove, git merge", small.naive)
        variants = [pooled, whole, inner, naive]
        if shutil.which("bwrap"):
            shut_in = Timed(folder, chosen.tasks, 200, "required")
            variants.append(Variant("swarm run, workers shut in", shut_in.whole))
        in_turn(
            f"{chosen.tasks} tasks, {SLOTS} slots, 200 files: per task",
            variants,
            rounds=chosen.rounds,
            per=chosen.tasks,
        )
        bars.at_most("200 files, to the prompt, in mode C", whole.ratio(pooled), 2, " x")

        large = Floor(folder, chosen.large_tasks, SLOTS, 4800)
        timed = Timed(folder, chosen.large_tasks, 4800)
        naive = Variant("E worktree add and remove, git merge", large.naive)
        whole = Variant("swarm run, to the prompt", timed.whole)
        inner = Variant("  first start to last landing", timed.first_to_last)
        title = f"{chosen.large_tasks} tasks, {SLOTS} slots, 4,800 files: per task"
        in_turn(title, [naive, whole, inner], rounds=chosen.rounds, per=chosen.large_tasks)
        bars.at_least("4,800 files, mode E in the time to the prompt", 1 / whole.ratio(naive), 4, " x")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

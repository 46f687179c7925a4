"""CPU time of the coordinator per task: what it costs to decide, remember, answer clients and wake the edges.

Taken from the kernel, from just before the plan is submitted until every task has landed. The daemon decides, writes the journal
and serves its socket on its main thread, and that thread's user and system time is the figure; bar: under 1 ms a task. Its other
threads are the edges: git's work done in the process (reading indexes, writing objects, sweeping worktrees) and starting
processes. The time of the whole process, without its children, stands beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.measure import Bars, Variant, cpu_s, in_turn, main_thread_cpu_s, options, scratch
from tests.bench.product import Product, trivial


class Measured:
    """Runs so many trivial tasks a round, and keeps both figures."""

    def __init__(self, folder: Path, tasks: int) -> None:
        self.folder, self.tasks = folder, tasks
        self.whole = 0.0

    def main_thread(self) -> float:
        """CPU seconds of the daemon's main thread."""
        with Product(self.folder) as product:
            product.swarm("start")
            pid = product.daemon()
            plan = product.plan("trivial", trivial(self.tasks))
            thread, whole = main_thread_cpu_s(pid), cpu_s(pid)
            product.swarm("submit", plan)
            product.swarm("wait")
            thread, self.whole = main_thread_cpu_s(pid) - thread, cpu_s(pid) - whole
            product.check("trivial", self.tasks)
        return thread

    def whole_process(self) -> float:
        """CPU seconds of all threads of the daemon, of the same run."""
        return self.whole


def main() -> int:
    """Prints the figures and says whether the bar is kept."""
    chosen = options("tests.bench.bench_coordinator", __doc__ or "", rounds=3, tasks=300)
    bars = Bars()
    with scratch() as folder:
        measured = Measured(folder, chosen.tasks)
        thread = Variant("the main thread", measured.main_thread)
        whole = Variant("the whole process, edges included", measured.whole_process)
        in_turn(
            f"{chosen.tasks} trivial tasks: CPU per task",
            [thread, whole],
            rounds=chosen.rounds,
            per=chosen.tasks,
        )
        bars.at_most("coordinator CPU outside git, per task", thread.median * 1e3, 1, " ms")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

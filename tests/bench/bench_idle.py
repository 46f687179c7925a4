"""An idle daemon: wake-ups, CPU and memory, before any work and after a run that has ended.

Wake-ups are the voluntary context switches of all threads of the daemon and of the processes it keeps. Bars: none without a cause,
under 0.2 % of a core, under 80 MiB and 2 kB a task.
"""

from __future__ import annotations

import sys
import time

from tests.bench.measure import Bars, children, cpu_s, options, resident_bytes, scratch, wakeups
from tests.bench.product import Product, trivial

SETTLE_S = 3.0  # what follows a run (the staging worktree, spare worktrees) has its own causes


def idle(product: Product, seconds: int, tasks: int, label: str, bars: Bars) -> None:
    """Watches the daemon for so long while nothing happens."""
    time.sleep(SETTLE_S)
    pid = product.daemon()
    time.sleep(SETTLE_S)
    woken, cpu = wakeups(pid), cpu_s(pid)
    time.sleep(seconds)
    woken, cpu = wakeups(pid) - woken, cpu_s(pid) - cpu
    kept = children(pid)
    mib = resident_bytes(pid) / 2**20
    helpers = sum(resident_bytes(child) for child in kept) / 2**20
    print(f"-- idle {label}, {seconds} s: {woken} wake-ups, {cpu * 1e3:.0f} ms CPU, {mib:.1f} MiB")
    print(f"   and {len(kept)} helper processes with {helpers:.1f} MiB")
    bars.at_most(f"wake-ups, {label}", woken, 0)
    bars.at_most(f"CPU, {label}", 100 * cpu / seconds, 0.2, " % of a core")
    bars.at_most(f"memory, {label}", mib, 80 + 2e3 * tasks / 2**20, " MiB")


def main() -> int:
    """Prints the figures and says whether the bars are kept."""
    chosen = options("tests.bench.bench_idle", __doc__ or "", rounds=1, seconds=20, tasks=200)
    bars = Bars()
    with scratch() as folder:
        for _ in range(chosen.rounds):
            with Product(folder) as product:
                product.swarm("start")
                idle(product, chosen.seconds, 0, "before any work", bars)
                product.swarm("run", product.plan("trivial", trivial(chosen.tasks)))
                idle(product, chosen.seconds, chosen.tasks, f"after {chosen.tasks} tasks", bars)
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

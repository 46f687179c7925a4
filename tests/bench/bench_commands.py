"""`swarm status` and `swarm --help` against `python -c pass`, with 100 and with 100,000 tasks known; then what starts things.

The tasks are submitted to a paused daemon, so that nothing runs meanwhile. `swarm status` is asked of the daemon, and again when
that has ended. Bar: under 5 x an interpreter that does nothing. `swarm check` reads a plan as `swarm run` does before it starts a
daemon, and `swarm start` is over when the daemon has said that it is up; of these the processor time is measured, the daemon's too.
Their bars are what was measured and a fifth more.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.measure import Bars, Variant, cpu_s, in_turn, options, scratch
from tests.bench.product import SWARM, Product, trivial

ONCE = 10  # calls in a round, so that a round is longer than a moment's noise
CHECK_MOST, START_MOST = 26, 55  # times an interpreter that does nothing


def calls(product: Product, *command: str, times: int = ONCE) -> Callable[[], float]:
    """Makes a function that calls a command a few times and gives the seconds."""

    def run() -> float:
        started = time.perf_counter()
        for _ in range(times):
            subprocess.run(
                command,
                cwd=product.repository,
                env=product.environment,
                stdout=subprocess.DEVNULL,
                check=True,
            )
        return time.perf_counter() - started

    return run


def measure(folder: Path, tasks: int, rounds: int, bars: Bars) -> None:
    """Compares the commands with so many tasks known, with the daemon running and without it."""
    with Product(folder) as product:
        product.swarm("start")
        product.swarm("pause")
        product.swarm("submit", product.plan("many", trivial(tasks)))
        status, help_text = calls(product, SWARM, "status"), calls(product, SWARM, "--help")
        nothing = Variant("python -c pass", calls(product, sys.executable, "-c", "pass"))
        asked = [Variant("swarm status", status), Variant("swarm --help", help_text)]
        in_turn(f"{tasks:,} tasks known", [nothing, *asked], rounds=rounds, per=ONCE)
        for variant in asked:
            bars.at_most(f"{variant.label} with {tasks:,} tasks", variant.ratio(nothing), 5, " x")
        product.swarm("stop")
        nothing = Variant("python -c pass", calls(product, sys.executable, "-c", "pass"))
        alone = Variant("swarm status, no daemon", status)
        in_turn(f"{tasks:,} tasks known, no daemon", [nothing, alone], rounds=rounds, per=ONCE)
        bars.at_most(f"{alone.label}, with {tasks:,} tasks", alone.ratio(nothing), 5, " x")


def processor(product: Product, *command: str, starts: bool = False) -> Callable[[], float]:
    """Makes a function that calls a command a few times and gives the seconds of processor time, with those of the daemon that it
    `starts`, which is ended each time."""

    def run() -> float:
        seconds = 0.0
        for _ in range(ONCE):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            calls(product, *command, times=1)()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            if starts:
                seconds += cpu_s(product.daemon())
                product.swarm("stop")
        return seconds

    return run


def measure_starts(folder: Path, rounds: int, bars: Bars) -> None:
    """Compares what comes before the first worker with an interpreter that does nothing."""
    with Product(folder) as product:
        nothing = Variant("python -c pass", processor(product, sys.executable, "-c", "pass"))
        plan = product.plan("few", trivial(10))
        check = Variant("swarm check", processor(product, SWARM, "check", plan))
        start = Variant("swarm start", processor(product, SWARM, "-q", "start", starts=True))
        in_turn("until something happens, processor time", [nothing, check, start], rounds=rounds, per=ONCE)
        bars.at_most(check.label, check.ratio(nothing), CHECK_MOST, " x")
        bars.at_most(start.label, start.ratio(nothing), START_MOST, " x")


def main() -> int:
    """Prints the comparisons and says whether the bars are kept."""
    chosen = options("tests.bench.bench_commands", __doc__ or "", rounds=7, few=100, many=100_000)
    bars = Bars()
    with scratch() as folder:
        for tasks in (chosen.few, chosen.many):
            measure(folder, tasks, chosen.rounds, bars)
        measure_starts(folder, chosen.rounds, bars)
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

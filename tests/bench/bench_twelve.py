"""Twelve two-second tasks at width four, from the command typed to the prompt back, daemon start included.

The ideal is three waves of two seconds: 6 s. Bar: under 10 s. Run with the product's own settings, the measured machine and the
ramp included, save that readings come from a file (see `product`). Beside it the same commands through `xargs -P4`, without git.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.bench.measure import Bars, Variant, in_turn, options, scratch
from tests.bench.product import Product

TASKS = 12


def with_xargs() -> float:
    """Seconds for the same sleeps by `xargs -P4`."""
    started = time.perf_counter()
    numbers = "\n".join(str(n) for n in range(TASKS))
    subprocess.run(["xargs", "-P4", "-n1", "sh", "-c", "sleep 2"], input=numbers, text=True, check=True)
    return time.perf_counter() - started


def with_swarm(folder: Path) -> float:
    """Seconds of `swarm run`, with no daemon before."""
    tasks = [
        {"id": f"t{n}", "title": f"task {n}", "run": f"sleep 2; echo x > file_{n}", "claims": [f"file_{n}"]}
        for n in range(TASKS)
    ]
    with Product(folder) as product:
        del product.environment["SWARM_LIMITS__RAMP_PER_S"]
        plan = product.plan("twelve", tasks)
        took = product.timed("run", "--workers", "4", plan)
        product.check("twelve", TASKS)
    return took


def main() -> int:
    """Prints the comparison and says whether the bar is kept."""
    chosen = options("tests.bench.bench_twelve", __doc__ or "", rounds=3)
    bars = Bars()
    with scratch() as folder:
        floor = Variant("xargs -P4, no git", with_xargs)
        product = Variant("swarm run, from nothing", lambda: with_swarm(folder))
        in_turn("twelve two-second tasks, width 4", [floor, product], rounds=chosen.rounds, unit="s")
        bars.at_most("from the command to the prompt", product.median, 10, " s")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

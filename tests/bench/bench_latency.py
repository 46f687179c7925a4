"""From the exit of a worker to the start of the next one in its slot, where a spare worktree is ready.

Seen from the workers themselves, not from the journal: each touches a file as the first and as the last thing it does, named by
its slot, and the times of those files are compared (they are as fine as the kernel's tick, 1 to 4 ms). The launcher's own start
and end are therefore included. Tasks take 0.3 s, so that there is time to make the next worktree ready. Bar: under 20 ms.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from tests.bench.measure import Bars, Variant, in_turn, options, scratch
from tests.bench.product import Product


def gaps_s(folder: Path, tasks: int, slots: int) -> list[float]:
    """The times between one worker's end and the next one's start, of every slot."""
    with Product(folder, slots=slots) as product:
        marks = product.folder / "marks"
        marks.mkdir()
        script = (
            ': > "{m}/$SWARM_SLOT.{n}.start"; sleep 0.3; echo x > file_{n}; : > "{m}/$SWARM_SLOT.{n}.end"'
        )
        plan = product.plan(
            "latency",
            [
                {
                    "id": f"t{n}",
                    "title": f"task {n}",
                    "run": script.format(m=marks, n=n),
                    "claims": [f"file_{n}"],
                }
                for n in range(tasks)
            ],
        )
        product.swarm("run", plan)
        product.check("latency", tasks)
        by_slot: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for mark in marks.iterdir():
            slot, _, kind = mark.name.split(".")
            by_slot[slot].append((mark.stat().st_mtime, kind))
    gaps = []
    for times in by_slot.values():
        times.sort()
        ends = pairwise(times)
        gaps += [after[0] - before[0] for before, after in ends if (before[1], after[1]) == ("end", "start")]
    return gaps


def main() -> int:
    """Prints the figure for one slot and for two, and says whether the bar is kept."""
    chosen = options("tests.bench.bench_latency", __doc__ or "", rounds=3, tasks=24)
    bars = Bars()
    with scratch() as folder:
        variants = [
            Variant("1 slot", lambda: statistics.median(gaps_s(folder, chosen.tasks, 1))),
            Variant("2 slots", lambda: statistics.median(gaps_s(folder, chosen.tasks, 2))),
        ]
        in_turn("exit of a worker to start of the next: median of a run", variants, rounds=chosen.rounds)
        for variant in variants:
            bars.at_most(f"exit to next start, {variant.label}", variant.median * 1e3, 20, " ms")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

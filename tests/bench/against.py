"""What a trivial task costs here and in another checkout, by turns: CPU of the coordinator's thread and the daemon, and its time.

The speed of a shared machine differs by half from one quarter of an hour to the next, so that two versions can be compared only so:
the figure that counts is the median of the ratios of the rounds. The other checkout, such as `git worktree add OLD COMMIT`, has to
be set up there by `make setup`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from tests.bench.measure import cpu_s, main_thread_cpu_s, scratch
from tests.bench.product import SWARM, Product, trivial

WHAT = ("CPU of the main thread", "CPU of the whole daemon", "wall time")


def costs_s(folder: Path, program: str, tasks: int) -> tuple[float, float, float]:
    """Runs so many tasks; gives what one cost, in seconds, as `WHAT` names them."""
    with Product(folder, program=program) as product:
        product.swarm("start")
        pid = product.daemon()
        plan = product.plan("trivial", trivial(tasks))
        thread, whole, began = main_thread_cpu_s(pid), cpu_s(pid), time.perf_counter()
        product.swarm("submit", plan)
        product.swarm("wait")
        ended = time.perf_counter()
        thread, whole = main_thread_cpu_s(pid) - thread, cpu_s(pid) - whole
        product.check("trivial", tasks)
    return thread / tasks, whole / tasks, (ended - began) / tasks


def main() -> None:
    """Prints the medians of both, and the median of the ratios."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against", description=about)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--tasks", type=int, default=300, help="default 300")
    chosen = parser.parse_args()
    other = str(chosen.other.resolve() / ".venv" / "bin" / "swarm")
    found: dict[str, list[tuple[float, float, float]]] = {other: [], SWARM: []}
    with scratch() as folder:
        for number in range(chosen.rounds):
            for program in (other, SWARM) if number % 2 else (SWARM, other):
                found[program].append(costs_s(folder, program, chosen.tasks))
    print(
        f"{chosen.tasks} trivial tasks, {chosen.rounds} rounds, for a task{'there':>12}{'here':>10}{'ratio':>10}"
    )
    for place, name in enumerate(WHAT):
        there, here = ([costs[place] for costs in found[program]] for program in (other, SWARM))
        ratio = statistics.median(mine / its for mine, its in zip(here, there, strict=True))
        middles = [statistics.median(each) * 1e3 for each in (there, here)]
        print(f"{name:40s}{middles[0]:9.2f} ms{middles[1]:7.2f} ms{ratio:10.2f}")


if __name__ == "__main__":
    main()

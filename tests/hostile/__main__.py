"""`make hostile`: odd histories, each landed by swarm and merged by plain git, which must agree; a JSON line for each.

Where they do not, the history is made as small as it gets while they still do not, and printed. `--only SEED` repeats one, and
`--whole 0` leaves out those that go through a real daemon.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

from tests.crash.__main__ import seal
from tests.hostile import trial, whole
from tests.hostile.histories import History, make
from tests.hostile.shrinking import shrink
from tests.hostile.trial import Result

Carry = Callable[[History, Path], Result]


def try_seed(base: Path, seed: int, way: str, *, tries_max: int) -> tuple[int, str, Result]:
    """Carries the history of a seed out, prints what came of it, and, where that is a disagreement, the smallest that shows it."""
    carry: Carry = whole.run if way == "whole" else trial.run
    history = make(seed)
    result = carry(history, base / f"{way}-{seed}")
    found = result.disagreement
    told = {"seed": seed, "way": way, "agreed": result.agreed, "wrong": str(found) if found else ""}
    print(json.dumps(told), flush=True)
    if found is not None:
        kind = found.kind

        def fails(smaller: History) -> bool:
            place = Path(tempfile.mkdtemp(dir=base)) / "again"
            again = carry(smaller, place).disagreement
            shutil.rmtree(place.parent, ignore_errors=True)
            return again is not None and again.kind == kind

        print(described(seed, way, shrink(history, fails, tries_max=tries_max)), flush=True)
    return seed, way, result


def described(seed: int, way: str, history: History) -> str:
    """Writes a history for people."""
    lines = [f"seed {seed}, {way}, the smallest history that shows it:"]
    lines += [f"  before   {step}" for step in history.before]
    lines += [f"  attempt  {attempt}" for attempt in history.attempts]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Carries histories out; 1 where swarm and git disagree on any."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1 << 32), help="the first; the others follow"
    )
    parser.add_argument("--count", type=int, default=300, help="histories")
    parser.add_argument("--whole", type=int, default=12, help="histories through a real daemon as well")
    parser.add_argument("--quick", action="store_true", help="few of both")
    parser.add_argument("--only", type=int, help="this seed alone")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--tries", type=int, default=200, help="so often, at most, a history is tried smaller"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.count, options.whole = 12, 1
    if options.only is not None:
        options.seed, options.count, options.whole = options.only, 1, min(1, options.whole)
    orders = [(options.seed + n, "whole") for n in range(options.whole)]
    orders += [(options.seed + n, "landing") for n in range(options.count)]
    base = Path(tempfile.mkdtemp(prefix="swarm-hostile-"))
    (base / "home").mkdir()
    seal(base / "home")
    began = monotonic()
    print(f"seed {options.seed}, {len(orders)} histories, {options.jobs} at a time", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda order: try_seed(base, *order, tries_max=options.tries), orders))
    agreed = sum((result.agreed for _, _, result in results), Counter[str]())
    wrong = [(seed, way) for seed, way, result in results if result.disagreement is not None]
    for what, times in sorted(agreed.items()):
        print(f"{what:24}{times:>6}")
    for seed, way in wrong:
        print(f"disagreement: {way}, python -m tests.hostile --only {seed}")
    print(
        f"{len(results)} histories, {len(wrong)} disagreements, {monotonic() - began:.0f} s, seed {options.seed}"
    )
    if not wrong:
        shutil.rmtree(base, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

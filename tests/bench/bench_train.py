"""Sixty tasks whose verification takes two seconds, one in twenty of them red: two verification slots beside one.

Bar: with two slots at least 1.6 times the landings per time of one by one, each measured from the first verification to the last
landing of a run of its own. Afterwards every first-parent commit of staging is verified again, and must be green. Run with the
product's own settings, save that readings come from a file (see `product`).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.bench import floor
from tests.bench.measure import Bars, Variant, in_turn, options, scratch
from tests.bench.product import Product

RED_EVERY = 20
LOOKS = 8  # checkouts in which staging is verified again, beside each other
SUITE = "sleep {seconds}; ! grep -q bad file_*"


def tasks(number: int) -> list[dict[str, Any]]:
    """Work of which one in twenty breaks the suite; a red one gets no second attempt."""
    return [
        {
            "id": f"t{n}",
            "title": f"task {n}",
            "run": f"echo {'bad' if n % RED_EVERY == RED_EVERY // 2 else 'good'} > file_{n}",
            "claims": [f"file_{n}"],
            "attempts": 1,
        }
        for n in range(number)
    ]


class Queue:
    """Runs of the same tasks with a number of verification slots."""

    def __init__(self, folder: Path, number: int, seconds: float, slots: int) -> None:
        self.folder, self.number, self.slots = folder, number, slots
        self.suite = SUITE.format(seconds=seconds)
        self.landed = 0

    def seconds_for_each(self) -> float:
        """Seconds for each landing, from the first worker's end to the last landing."""
        with Product(self.folder) as product:
            product.environment["SWARM_VERIFY__SLOTS"] = str(self.slots)
            plan = product.plan("train", tasks(self.number), verify=[self.suite])
            product.swarm("run", plan, timeout_s=1200, code=1)
            events = product.events()
            self.check(product)
        landed = [event for event in events if event["type"] == "TaskLanded"]
        first = next(event for event in events if event["type"] == "TaskQueued")
        self.landed = len(landed)
        return (moment(landed[-1]) - moment(first)) / len(landed)

    def check(self, product: Product) -> None:
        """Raises `RuntimeError` unless all good work has landed and every commit of staging is green when it is looked at again."""
        branch = "swarm/train/staging"
        listed = floor.git(product.repository, "rev-list", "--first-parent", f"main..{branch}").split()
        red = sum(n % RED_EVERY == RED_EVERY // 2 for n in range(self.number))
        if len(listed) != self.number - red:
            raise RuntimeError(f"{len(listed)} landed, and {self.number - red} of the tasks are good")
        shares = [(product.repository, listed[n::LOOKS]) for n in range(LOOKS)]
        with ThreadPoolExecutor(LOOKS) as looks:
            reds = [commit for found in looks.map(self.red_among, shares) for commit in found]
        if reds:
            raise RuntimeError(f"{', '.join(reds)} are on staging and are red")

    def red_among(self, share: tuple[Path, list[str]]) -> list[str]:
        """Runs the suite again on commits, each in a clean checkout, and gives those that it fails on."""
        repository, commits = share
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="again-"))
        floor.git(folder, "clone", "-q", "--no-checkout", str(repository), ".")
        red = []
        for commit in commits:
            floor.git(folder, "checkout", "-q", "--force", "--detach", commit)
            floor.git(folder, "clean", "-ffdxq")
            if subprocess.run(["/bin/sh", "-c", self.suite], cwd=folder, check=False).returncode:
                red.append(commit)
        return red


def moment(event: dict[str, Any]) -> float:
    """The time of an event in seconds."""
    return datetime.fromisoformat(event["at"]).timestamp()


def main() -> int:
    """Prints the comparison and says whether the bar is kept."""
    chosen = options("tests.bench.bench_train", __doc__ or "", rounds=1, tasks=60, seconds=2)
    bars = Bars()
    with scratch() as folder:
        queues = [Queue(folder, chosen.tasks, chosen.seconds, slots) for slots in (1, 2)]
        names = ("one by one", "two slots")
        one, two = (Variant(name, queue.seconds_for_each) for name, queue in zip(names, queues, strict=True))
        in_turn("seconds for each landing", [one, two], rounds=chosen.rounds, unit="s")
        bars.at_least("landings per time with two slots, to one", one.median / two.median, 1.6, " x")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

"""The audit of a repository with 1,000 landings: under 5 s, and far under 1 s where there are few.

The landings are real ones of the product, in one run on one staging line, each cut from the staging of its time. Beside it the time
of `git fsck --connectivity-only`, one of its twenty checks, of the same landing repository.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from tests.bench.measure import Bars, options, scratch
from tests.bench.product import Product, trivial

FEW = 20


def audited(product: Product, landings: int) -> float:
    """The seconds of an audit, which must find nothing broken and all the landings."""
    began = time.perf_counter()
    document = json.loads(product.swarm("audit", "--json"))
    took = time.perf_counter() - began
    if not document["ok"] or document["landings"] != landings:
        raise RuntimeError(json.dumps(document)[:2000])
    return took


def checked(product: Product) -> float:
    """The seconds of git's own check of the landing repository."""
    landing = product.repository / ".git" / "swarm" / "landing.git"
    began = time.perf_counter()
    fsck = ["git", "fsck", "--connectivity-only", "--no-dangling", "--no-progress"]
    subprocess.run(fsck, cwd=landing, capture_output=True, check=True)
    return time.perf_counter() - began


def main() -> int:
    """Prints the times, the best of each, and says whether the bars are kept."""
    chosen = options("tests.bench.bench_audit", __doc__ or "", rounds=3, tasks=1000)
    bars = Bars()
    with scratch() as folder:
        for tasks, most_s in ((FEW, 1.0), (chosen.tasks, 5.0)):
            with Product(folder) as product:
                product.swarm("run", product.plan("audited", trivial(tasks)), timeout_s=1800)
                took = min(audited(product, tasks) for _ in range(chosen.rounds))
                fsck = min(checked(product) for _ in range(chosen.rounds))
            print(f"{tasks} landings: audit {took:.2f} s, git fsck alone {fsck:.2f} s")
            bars.at_most(f"audit of {tasks} landings", took, most_s, " s")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

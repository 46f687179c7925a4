"""How long a start takes when very much has happened: `swarm status` without a daemon, and `swarm start` after kill -9.

The journal of a million events is made by the machine itself, with every command answered at once, and written by the journal's own
code; the snapshot in it is as far behind as a running daemon lets it fall. The bar is 2 s for either; beside it stand the same
without a snapshot, where every event is replayed (from fewer events, or it would take minutes), and `swarm status --json`, most of
whose time goes into writing out each of 100,000 tasks in full, 80 MB of it, and what a daemon does with the same journal before
its first turn.
The second part is real: a plan of 10,000 tasks, 50 workers in 50 worktrees, the daemon killed, and the next one timed until it
answers and has adopted them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from swarm.core import messages as m
from swarm.core.places import Places
from swarm.core.simulation import World
from swarm.core.state import Turn
from swarm.daemon import recovery
from swarm.edge.journal import Journal, Record, record
from tests.bench.bench_machine import AT_ONCE, LIMITS, a_plan, carry_on
from tests.bench.measure import Bars, Variant, in_turn, options, scratch
from tests.bench.product import Product

EVENTS_PER_TASK, RECORDS_PER_TASK = 9, 12
REPLAYED = 100_000
WORKERS = 50


class Remembered(World):
    """A world that keeps its records until they are taken."""

    def __init__(self, tasks: int) -> None:
        self.records: list[Record] = []
        super().__init__(a_plan(tasks), LIMITS, AT_ONCE)

    def send(self, event: m.Event) -> Turn | None:
        """Takes an event in, and keeps what a journal would."""
        turn = super().send(event)
        if turn is not None:
            self.records.append(record("event", *m.parts_of(event)))
            self.records.extend(record("fact", *m.parts_of(fact)) for fact in turn.facts)
        return turn


def a_history(state: Path, events: int) -> None:
    """Writes the journal of a run of so many events, with a snapshot as far behind as it gets."""
    places = Places(state)
    state.mkdir(parents=True)
    tasks = events // EVENTS_PER_TASK
    world = Remembered(tasks)
    with Journal.open(places.journal) as journal:
        journal.begin_epoch()
        snapshots = recovery.Snapshots(places.snapshot, journal)
        taken_at = max(100, (tasks - recovery.RECORDS_APART // RECORDS_PER_TASK) // 100 * 100)
        for landed in _steps(tasks):
            carry_on(world, landed)
            journal.append(world.records)
            world.records.clear()
            if landed == taken_at:
                snapshots.write(snapshots.take(world.swarm))
        print(
            f"   {world.events:,} events, {journal.last_seq():,} records, {tasks:,} tasks: the journal has "
            f"{places.journal.stat().st_size / 1e6:.0f} MB ({places.journal.stat().st_size / tasks:.0f} bytes a task), "
            f"the snapshot {places.snapshot.stat().st_size / 1e6:.1f} MB and is "
            f"{snapshots.behind(journal.last_seq()):,} records behind",
            flush=True,
        )


def _steps(tasks: int) -> Iterator[int]:
    yield from range(100, tasks, 100)
    yield tasks


def status_s(product: Product, *options: str) -> float:
    """Seconds of `swarm status` with no daemon."""
    return product.timed("status", *options)


def with_history(product: Product, events: int, *, snapshot: bool) -> Product:
    """Gives the repository a history."""
    state = product.repository / ".git" / "swarm"
    shutil.rmtree(state, ignore_errors=True)
    a_history(state, events)
    if not snapshot:
        Places(state).snapshot.unlink()
    return product


RESTORED = """
import sys, time
from pathlib import Path
from swarm.core.places import Places
from swarm.daemon import recovery

places = Places(Path(sys.argv[1]))
started = time.perf_counter()
with recovery.open_journal(places) as journal:
    known = recovery.restore(places, journal)
print(time.perf_counter() - started)
assert known.runs
"""


def restored_s(product: Product) -> float:
    """Seconds that a daemon takes for the journal: opened, and the state rebuilt from it, in a process of its own."""
    state = product.repository / ".git" / "swarm"
    command = [sys.executable, "-c", RESTORED, str(state)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600).stdout)


def many_workers(product: Product, tasks: int) -> None:
    """Submits so many tasks and waits until every slot has a worker, which stays until it is ended."""
    plan = [
        {"id": f"t{n}", "title": f"task {n}", "run": "sleep 3600", "claims": [f"file_{n}"]}
        for n in range(tasks)
    ]
    product.swarm("start")
    product.swarm("submit", product.plan("many", plan))
    while running(product) < WORKERS:
        time.sleep(0.2)


def running(product: Product) -> int:
    """How many attempts have a live worker."""
    return sum(event["type"] == "WorkerStarted" for event in product.events())


def start_after_kill_s(product: Product) -> float:
    """Seconds from `swarm start` typed to the prompt back, after kill -9 of the daemon."""
    pid = product.daemon()
    os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            time.sleep(0.01)
    return product.timed("start")


def main() -> int:
    """Prints the figures and says whether the bars are kept."""
    chosen = options("tests.bench.bench_start", __doc__ or "", rounds=3, events=1_000_000, tasks=10_000)
    bars = Bars()
    with scratch() as folder:
        with Product(folder) as long, Product(folder) as replayed:
            with_history(long, chosen.events, snapshot=True)
            with_history(replayed, min(REPLAYED, chosen.events), snapshot=False)
            fast = Variant(f"{chosen.events:,} events, with a snapshot", partial(status_s, long))
            whole = Variant(f"{chosen.events:,} events, --json", partial(status_s, long, "--json"))
            daemon = Variant(f"{chosen.events:,} events, in a daemon", partial(restored_s, long))
            slow = Variant(f"{REPLAYED:,} events, every one replayed", partial(status_s, replayed))
            variants = [fast, whole, daemon, slow]
            in_turn("swarm status without a daemon", variants, rounds=chosen.rounds, unit="s")
            bars.at_most(f"swarm status, {chosen.events:,} events", fast.median, 2, " s")
            bars.at_most(f"the same in a daemon, {chosen.events:,} events", daemon.median, 2, " s")
        with Product(folder, slots=WORKERS) as product:
            many_workers(product, chosen.tasks)
            start = Variant(
                f"{chosen.tasks:,} tasks, {WORKERS} workers", partial(start_after_kill_s, product)
            )
            in_turn("swarm start after kill -9", [start], rounds=chosen.rounds, unit="s")
            bars.at_most("swarm start after kill -9", start.median, 2, " s")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

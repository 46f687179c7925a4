"""How the bench programs measure: variants in turn, medians, ratios to a floor of the same round, and the bar each must keep.

Load from outside falls on all variants of a round alike, so figures are given as the median of the per-round ratios to the
first variant, the floor; milliseconds of this machine stand beside them for orientation only. Everything happens in a scratch
folder in memory where there is one. Rule for editing: what is timed lies between two readings of one clock, and preparing and
checking lie outside.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MEMORY = Path("/dev/shm")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Gives a new folder, in memory where possible, and removes it afterwards."""
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="swarm-bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Variant:
    """One thing to time: `run` prepares, times and checks itself, and returns the seconds that count."""

    label: str
    run: Callable[[], float]
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of the rounds, in seconds."""
        return statistics.median(self.seconds)

    def ratio(self, floor: Variant) -> float:
        """The median of the per-round ratios to `floor`."""
        return statistics.median(mine / its for mine, its in zip(self.seconds, floor.seconds, strict=True))


def in_turn(title: str, variants: Sequence[Variant], *, rounds: int, per: int = 1, unit: str = "ms") -> None:
    """Runs the variants in turn, `rounds` times, and prints a line for each; times are divided by `per`."""
    scale = {"us": 1e6, "ms": 1e3, "s": 1.0}[unit]
    for _ in range(rounds):
        for variant in variants:
            variant.seconds.append(variant.run() / per)
    width = max(len(variant.label) for variant in variants)
    print(f"-- {title}  ({rounds} rounds, in turn; load {os.getloadavg()[0]:.2f})")
    for variant in variants:
        low, high = min(variant.seconds) * scale, max(variant.seconds) * scale
        ratio = variant.ratio(variants[0])
        middle = variant.median * scale
        print(f"{variant.label:{width}s} {middle:10.2f} {unit} {ratio:8.2f} x  [{low:.2f}..{high:.2f}]")
    sys.stdout.flush()


class Bars:
    """The bars of one bench program, printed as they are met or missed; `finish` gives the exit code."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def at_most(self, what: str, figure: float, bar: float, unit: str = "") -> None:
        """Notes that `figure` should not be above `bar`."""
        self._note(what, figure, bar, unit, "at most", kept=figure <= bar)

    def at_least(self, what: str, figure: float, bar: float, unit: str = "") -> None:
        """Notes that `figure` should not be below `bar`."""
        self._note(what, figure, bar, unit, "at least", kept=figure >= bar)

    def _note(self, what: str, figure: float, bar: float, unit: str, side: str, *, kept: bool) -> None:
        text = f"{what}: {figure:.3g}{unit} ({side} {bar:g}{unit})"
        print(f"{'kept  ' if kept else 'MISSED'} {text}", flush=True)
        if not kept:
            self.missed.append(text)

    def finish(self) -> int:
        """0 when every bar was kept, else 1."""
        return 1 if self.missed else 0


def options(module: str, about: str, *, rounds: int, **numbers: int) -> argparse.Namespace:
    """Reads `--rounds` and other whole numbers from the command line, and prints the command that repeats the measurement."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about.split("\n", 1)[0])
    for name, default in {"rounds": rounds, **numbers}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    chosen = parser.parse_args()
    given = " ".join(f"--{name} {getattr(chosen, name)}" for name in ("rounds", *numbers))
    print(f"\n# {about.splitlines()[0]}\n  python -m {module} {given}", flush=True)
    return chosen


# --- what the kernel says of a process ------------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """The CPU time of a process itself, in seconds: all its threads, none of its children."""
    return _cpu_s(f"/proc/{pid}/stat")


def main_thread_cpu_s(pid: int) -> float:
    """The CPU time of the main thread of a process, in seconds."""
    return _cpu_s(f"/proc/{pid}/task/{pid}/stat")


def _cpu_s(path: str) -> float:
    fields = Path(path).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in RAM."""
    return int(_status(pid, "VmRSS").split()[0]) * 1024


def wakeups(pid: int) -> int:
    """How often the threads of a process, and of the processes it keeps, went to sleep of their own accord so far."""
    total = 0
    for one in (pid, *children(pid)):
        for thread in Path(f"/proc/{one}/task").iterdir():
            total += int(_status(int(thread.name), "voluntary_ctxt_switches"))
    return total


def children(pid: int) -> list[int]:
    """The processes that a process keeps, theirs too."""
    direct: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        direct += [int(child) for child in (thread / "children").read_text().split()]
    return [*direct, *(grandchild for child in direct for grandchild in children(child))]


def _status(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    raise RuntimeError(f"/proc/{pid}/status has no {name}")

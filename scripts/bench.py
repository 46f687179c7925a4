"""Runs the bench programs of `tests/bench` one after another, as `make bench` does, and ends with the bars that were missed.

Each is a program of its own and can be run by itself; the command that repeats it is printed with its figures. Rule for editing:
nothing is measured here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
LIMIT_S = 1800.0


def main() -> int:
    """Runs what was asked for; exit code 1 when a bar was missed or a program failed."""
    known = sorted(
        path.stem.removeprefix("bench_") for path in (PROJECT / "tests" / "bench").glob("bench_*.py")
    )
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"some of: {', '.join(known)} (default: all)"
    )
    chosen = parser.parse_args().names or known
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"no such bench program: {', '.join(unknown)}")
    failed = [name for name in chosen if not kept(name)]
    print(
        f"\n{len(chosen) - len(failed)} of {len(chosen)} kept every bar"
        + (f"; not: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


def kept(name: str) -> bool:
    """Runs one bench program; says whether it kept every bar."""
    command = [sys.executable, "-m", f"tests.bench.bench_{name}"]
    try:
        return subprocess.run(command, cwd=PROJECT, timeout=LIMIT_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"bench_{name} did not end within {LIMIT_S:.0f} s")
        return False


if __name__ == "__main__":
    sys.exit(main())

"""Makes the journal that a release leaves behind, to be kept for ever: `python scripts/journal_sample.py`, once at each release.

A real run in a throwaway repository goes through what a journal can tell: tasks that land, a conflict, a worker that fails and is
retried, a verification that does not pass, a need that is never met, and a finish. The journal goes to
`tests/data/journals/<version>.sqlite.gz` and the status document that this version reads out of it beside it. A test replays
every one of them with the code of the day. Rule for editing: what has been released is never made anew.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

import swarm  # noqa: E402
from swarm.core import report  # noqa: E402
from swarm.daemon import recovery  # noqa: E402
from swarm.edge.journal import Journal  # noqa: E402

SAMPLES = PROJECT / "tests" / "data" / "journals"
CALM = {
    "cpu_percent": 5.0,
    "memory_percent": 20.0,
    "memory_available_bytes": 1 << 34,
    "disk_free_bytes": 1 << 40,
}
RETRIED = "red"


def plan() -> dict[str, Any]:
    """A plan in which every end occurs but `cancelled`."""

    def task(name: str, run: str, **more: Any) -> dict[str, Any]:
        return {"id": name, "title": f"The {name} part", "run": run, **more}

    return {
        "name": "sample",
        "verify": ["test ! -e broken"],
        "phases": [{"id": "first", "parallel_safe": False}, {"id": "second", "needs": ["plain"]}],
        "tasks": [
            task("plain", "echo plain > plain", claims=["plain"], phase="first"),
            task("naïve file", "echo ü > 'naïve file'", claims=["naïve file"], phase="first"),
            task("stray", "echo x > elsewhere", claims=["stray"], phase="second"),
            task("left", "echo left > both; sleep 1", claims=[], attempts=1),
            task("right", "echo right > both; sleep 1", claims=[], attempts=1),
            task("empty", "true", allow_empty=True, needs=["plain"]),
            task("flaky", "test $SWARM_ATTEMPT -gt 1 && echo done > flaky", claims=["flaky"], attempts=2),
            task(RETRIED, "echo no > broken", claims=["broken"], attempts=1),
            task("blocked", "echo never > never", needs=[RETRIED]),
        ],
    }


def main() -> int:
    """Makes the sample of this version and says where it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--again", action="store_true", help="replace a sample of a version that is not released yet"
    )
    target = SAMPLES / f"{swarm.__version__}.sqlite.gz"
    if target.exists() and not parser.parse_args().again:
        print(f"{target} is there already; a released one is never made anew (--again before the release).")
        return 1
    with tempfile.TemporaryDirectory(prefix="journal-sample-") as folder:
        journal = carry_out(Path(folder).resolve())
        with Journal.open(journal, readonly=True) as opened:
            document = report.status(recovery.replay(opened), report.Live())
        SAMPLES.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(journal.read_bytes(), mtime=0))
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    target.with_name(f"{swarm.__version__}.json").write_text(text + "\n", "utf-8")
    states = {task["id"]: task["state"] for task in document["runs"][0]["tasks"]}
    print(f"{target.relative_to(PROJECT)}: {states}")
    return 0


def carry_out(folder: Path) -> Path:
    """Carries the plan out in a repository below `folder`, and gives the journal of its daemon, which has ended."""
    top = folder / "repository"
    top.mkdir()
    readings = folder / "readings.json"
    readings.write_text(json.dumps(CALM))
    written = folder / "plan.json"
    written.write_text(json.dumps(plan()))
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "SWARM_"))},
        "SWARM_LIMITS__READINGS_FILE": str(readings),
        "SWARM_LIMITS__WORKERS_MAX": "4",
        "PYTHONPATH": str(PROJECT),
    }

    def do(*words: str, codes: tuple[int, ...] = (0,)) -> None:
        done = subprocess.run(words, cwd=top, env=environ, capture_output=True, text=True, timeout=300)
        if done.returncode not in codes:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    program = (sys.executable, "-m", "swarm")
    do("git", "init", "-q", "-b", "main")
    do("git", "config", "user.name", "Ada")
    do("git", "config", "user.email", "ada@example.org")
    (top / "README").write_text("A sample\n")
    do("git", "add", "README")
    do("git", "commit", "-q", "-m", "first")
    do(*program, "start")
    try:
        do(*program, "submit", str(written))
        do(*program, "wait", "--timeout", "120", codes=(1,))
        do(*program, "tell", RETRIED, "not like that")
        do(*program, "retry", RETRIED)
        do(*program, "wait", "--timeout", "120", codes=(1,))
        do(*program, "finish", "--partial")
    finally:
        do(*program, "stop")
    return top / ".git" / "swarm" / "journal.sqlite"


if __name__ == "__main__":
    sys.exit(main())

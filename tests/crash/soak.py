"""`make soak`: a daemon kept busy for a given time while what it works with is killed at random; nothing may pile up.

Wave after wave of small tasks is submitted, landed, finished and discarded. Meanwhile workers, launchers and git programs are
killed, and every now and then the daemon. After each wave, when nothing is left to do, one JSON line tells what is there; the last
tells how each figure grew and whether it is flat.

How it is judged: over the part that follows the warm-up, the growth of a figure by wave is the median of the growths between any
two waves (Theil and Sen), so that no spike and no quarter of bad values moves it. What belongs to one daemon is compared within its
life alone, once it is no more young. Flat is what grows, over the most waves that were compared, by no more than a part of its own
middle, or by an allowed number. What is history grows: of journal and transcript, of the two repositories and of what suites are
remembered to have passed it is told by how much, and not judged.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.measure import children, resident_bytes
from tests.conftest import git, wait_until
from tests.crash.__main__ import seal
from tests.crash.day import make_repository
from tests.crash.storm import victims
from tests.e2e.driver import Swarm, common_dir

TASKS = 8
KILLED = ("worker", "launcher", "git")
KILLS_MAX = 3  # in a wave, besides the daemon
WARM_UP = 0.25  # of all waves
YOUNG = 200  # waves of a daemon that are not looked at: until then it fills what it keeps of commits, processes, records
PAIRS_MIN = 10  # of waves; with fewer a figure is not judged

# What is judged, and by how much it may grow over all: a part of its middle, or so many.
OF_A_DAEMON = {"memory_kb": (0.05, 2000), "descriptors": (0, 2), "threads": (0, 1), "programs": (0, 1)}
OF_ALL = {
    "worktrees": (0, 1),
    "processes": (0, 1),
    "refs": (0, 1),
    "state_files": (0, 2),
    "temporary": (0, 1),
}
# What is history: how much it grows is told.
HISTORY = ("landing_objects", "remembered", "journal_kb", "transcript_kb", "repository_objects")
_Sample = dict[str, Any]


# --- one wave ---------------------------------------------------------------------------------------------------------------


def tasks(swarm: Swarm, wave: int) -> list[dict[str, Any]]:
    """What a wave does: the same files each time, so that only history grows."""
    commit = "git -c user.name=W -c user.email=w@x commit -q"
    works = (
        "echo {wave} > out-{n}",
        f"echo {{wave}} > out-{{n}} && git add out-{{n}} && {commit} -m one",
        "setsid sleep 0.3 & echo {wave} > out-{n}; head -c 3000000 /dev/zero",
        '[ "$SWARM_ATTEMPT" -gt 1 ] || exit 1; echo {wave} > out-{n}',
    )
    return [
        swarm.task(
            f"t{n}",
            works[n % len(works)].format(wave=wave, n=n),
            claims=[f"out-{n}"],
            attempts=100,
            needs=[f"t{n - 1}"] if n % 3 == 2 else [],
        )
        for n in range(TASKS)
    ]


def carry_out(swarm: Swarm, chance: random.Random, wave: int, *, kills_daemon: bool) -> int:
    """One wave from its plan to where nothing of it is left; gives how many were killed."""
    name = f"wave-{wave}"
    plan, killed = swarm.plan(name, tasks(swarm, wave), verify=["true"]), 0
    swarm("submit", str(plan))
    plan.unlink()
    for _ in range(chance.randrange(KILLS_MAX + 1)):
        time.sleep(chance.uniform(0.05, 0.5))
        found = victims(swarm).get(chance.choice(KILLED))
        if found:
            killed += kill(chance.choice(found))
    if kills_daemon:
        swarm.end_daemon()
        swarm("start")
        killed += 1
    swarm("wait", "--run", name, "--timeout", "600")
    swarm("finish", "--run", name)
    swarm("discard", name)
    return killed


def settling(swarm: Swarm) -> bool:
    """Tells whether something of a wave is still under way: its worktrees are taken away in their own time."""
    document = swarm.status()
    trash = list((swarm.top / ".worktrees").glob("*/.trash/*"))
    return bool(document["capacity"]["running"] or document["merge_queue"] or trash)


def kill(pid: int) -> int:
    """Kills a process; gives how many that were."""
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return 0
    return 1


# --- what is there ----------------------------------------------------------------------------------------------------------


def look(swarm: Swarm, wave: int) -> _Sample:
    """Counts what there is when nothing is left to do."""
    daemon = int(swarm.status()["daemon"]["pid"])
    state = common_dir(swarm.top) / "swarm"
    kept = [Path(folder, name) for folder, _, names in os.walk(state) for name in names]
    apart = {"landing.git", "remembered", "transcript"}
    return {
        "wave": wave,
        "daemon": daemon,
        "memory_kb": resident_bytes(daemon) // 1024,
        "descriptors": len(os.listdir(f"/proc/{daemon}/fd")),
        "threads": len(os.listdir(f"/proc/{daemon}/task")),
        "programs": len(children(daemon)),
        "worktrees": len(git(swarm.top, "worktree", "list", "--porcelain").split("\n\n")),
        "processes": len(swarm.left_running()),
        "refs": len(git(swarm.top, "for-each-ref").splitlines()),
        "landing_objects": count_objects(state / "landing.git"),
        "remembered": sum(1 for path in kept if "remembered" in path.parts),
        "state_files": sum(1 for path in kept if not apart.intersection(path.parts)),
        "temporary": len(os.listdir(swarm.outside)),
        "journal_kb": sum(path.stat().st_size for path in state.glob("journal.sqlite*")) // 1024,
        "transcript_kb": sum(path.stat().st_size for path in state.glob("transcript/*")) // 1024,
        "repository_objects": count_objects(common_dir(swarm.top)),
    }


def count_objects(git_dir: Path) -> int:
    """The objects of a repository, loose and packed."""
    said = git(git_dir, "--git-dir=.", "count-objects", "-v")
    counts = dict(line.split(": ") for line in said.splitlines())
    return int(counts["count"]) + int(counts["in-pack"])


# --- the judgement ----------------------------------------------------------------------------------------------------------


def judged(samples: Sequence[_Sample]) -> dict[str, dict[str, float | bool]]:
    """Says of each figure its middle, how much it grew by the middle of all growths, and whether that is flat."""
    warm = list(samples[int(len(samples) * WARM_UP) :])
    lives: dict[int, list[_Sample]] = {}
    for sample in samples:
        lives.setdefault(sample["daemon"], []).append(sample)
    grown = [life[YOUNG:] for life in lives.values()]
    found = {name: _judged(name, grown, *allowed) for name, allowed in OF_A_DAEMON.items()}
    found |= {name: _judged(name, [warm], *allowed) for name, allowed in OF_ALL.items()}
    return found | {name: _judged(name, [warm], math.inf, 0) for name in HISTORY}


def _judged(
    name: str, series: Sequence[Sequence[_Sample]], part: float, number: float
) -> dict[str, float | bool]:
    growths = [
        (late[name] - early[name]) / (late["wave"] - early["wave"])
        for each in series
        for at, early in enumerate(each)
        for late in each[at + 1 :]
    ]
    if len(growths) < PAIRS_MIN:
        return {"compared": len(growths), "flat": True}
    middle = statistics.median(sample[name] for each in series for sample in each)
    waves = max(each[-1]["wave"] - each[0]["wave"] for each in series if each)
    grew = statistics.median(growths) * waves
    flat = grew <= max(part * middle, number)
    return {"compared": len(growths), "waves": waves, "middle": middle, "grew": round(grew, 1), "flat": flat}


def main() -> int:
    """Prints the lines; 0 where all that is judged is flat."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.soak", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--daemon-every", type=int, default=60, help="waves, after which the daemon is killed"
    )
    chosen = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="swarm-soak-"))
    (base / "home").mkdir()
    seal(base / "home")
    make_repository(base / "repo")
    swarm, chance = Swarm(base / "repo", base / "outside"), random.Random(chosen.seed)
    print(json.dumps({"seed": chosen.seed, "minutes": chosen.minutes, "folder": str(base)}), flush=True)
    began, killed = time.monotonic(), 0
    samples: list[_Sample] = []
    swarm("start", "--workers", "4")
    try:
        while (passed_s := time.monotonic() - began) < chosen.minutes * 60:
            wave = len(samples) + 1
            killed += carry_out(swarm, chance, wave, kills_daemon=wave % chosen.daemon_every == 0)
            wait_until(lambda: not settling(swarm))
            samples.append({"at_s": round(passed_s), **look(swarm, wave)})
            print(json.dumps(samples[-1]), flush=True)
        audit = swarm("audit", code=None)
    finally:
        swarm("stop", "--now", code=None)
    found = judged(samples)
    well = audit.code == 0 and all(each["flat"] for each in found.values())
    lasted_s = round(time.monotonic() - began)
    print(
        json.dumps(
            {"lasted_s": lasted_s, "waves": len(samples), "killed": killed, "audit": audit.code, **found}
        )
    )
    print("flat" if well else f"NOT flat; the folder is left: {base}")
    if well:
        shutil.rmtree(base)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

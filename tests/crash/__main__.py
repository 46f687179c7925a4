"""`make crash`: trials of the fault plan, one JSON line each, and the table of what was hit; `make crash-long` is a night's work.

Layers: F1 each crash point by each kind, F1B those on the way onto staging while batches are verified, F3 the n-th call of git, F4
random kills, F5 kills while coming back. A trial is repeated
by the same arguments with the seed that was printed and `--only` its number; where something was wrong its folder is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from time import monotonic
from typing import Any

from swarm.crashpoints import KINDS, POINTS
from tests.crash import shim
from tests.crash.batches import ON_THE_WAY, Batches
from tests.crash.day import Day, make_repository
from tests.crash.storm import Storm
from tests.crash.trial import Trial

PROJECT = Path(__file__).resolve().parents[2]
DEPTH_MAX = 5
GIT_CALLS = 150  # a day calls git at least so often; with more, a fault might never fire
# No day reaches these. They are killed in tests/e2e: `discard` in test_discard.py, the others in test_killed_mending.py; the last
# is in test_rules.py.
ELSEWHERE = ("discard.", "refound.", "worktree.followed", "worker.standing", "worker.stood", "finish.failed")
# Reached only where a daemon was killed at another point before.
AFTER = {"follow.finishing": "follow.noted"}
AGAIN_MAX = 3  # so often what has not fired is tried again
RECOVERY_POINTS = 40  # so many are reached until a daemon is up and has taken up its work


def seal(home: Path) -> None:
    """Keeps this machine's settings out, as tests/conftest.py does."""
    for name in list(os.environ):
        if name.startswith(("GIT_", "SWARM_")):
            del os.environ[name]
    os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
    os.environ |= {"XDG_RUNTIME_DIR": "", "HOME": str(home)}


def f1(options: argparse.Namespace, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Each point by each kind at each hit; several faults share a day, in which each kills a daemon of its own."""
    faults = [
        f"{name}:{kind}:{hit}" for kind in options.kinds for hit in options.hits for name in options.points
    ]
    late = {fault: AFTER[name] for fault in faults if (name := fault.partition(":")[0]) in AFTER}
    faults = [fault for fault in faults if fault not in late]
    chance.shuffle(faults)
    for at in range(0, len(faults), options.batch):
        yield {"layer": "F1", "faults": faults[at : at + options.batch]}
    for fault, first in late.items():
        yield {"layer": "F1", "faults": [f"{first}:kill:1", fault]}


def f1b(options: argparse.Namespace, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Each point on the way of a batch, by each kind at each hit, and the merges also between the members of one."""
    on_the_way = [name for name in options.points if name.startswith(ON_THE_WAY)]
    faults = [f"{name}:{kind}:{hit}" for kind in options.kinds for hit in options.hits for name in on_the_way]
    faults += [f"{name}:kill:3" for name in on_the_way if name.startswith("merge.")]
    chance.shuffle(faults)
    for at in range(0, len(faults), options.batch):
        yield {"layer": "F1B", "faults": faults[at : at + options.batch]}


def f5(options: argparse.Namespace, chance: random.Random) -> Iterator[dict[str, Any]]:
    """A kill at a random point, and kills at random points of the recovery from it, up to five deep."""
    for _ in range(options.nested):
        first = f"{chance.choice(options.points)}:kill:1"
        depth = chance.randint(1, DEPTH_MAX)
        again = [f"*:kill:{chance.randint(1, RECOVERY_POINTS)}" for _ in range(depth)]
        yield {"layer": "F5", "faults": [first], "nested": again}


def f3(options: argparse.Namespace, chance: random.Random) -> Iterator[dict[str, Any]]:
    """The n-th call of git, for every n or a choice of them, with each fault."""
    for fault in options.git_faults:
        calls = list(range(1, GIT_CALLS + 1))
        for call in sorted(chance.sample(calls, min(options.git_calls, len(calls)))):
            yield {"layer": "F3", "fault": fault, "call": call}


def f4(options: argparse.Namespace, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Storms, each with a seed of its own, every other one with batches."""
    for number in range(options.storms):
        yield {"layer": "F4", "storm": chance.randrange(1 << 32), "mode": ("batch", "strict")[number % 2]}


LAYERS = {"F1": f1, "F1B": f1b, "F3": f3, "F4": f4, "F5": f5}


def carry_out(base: Path, number: int, spec: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Runs one trial in a folder of its own, which is left where something was wrong."""
    folder = base / f"{spec['layer']}-{number}"
    folder.mkdir()
    trial: Trial
    if spec["layer"] == "F4":
        mode = {"SWARM_VERIFY__MODE": spec["mode"]}
        storm, tasks, kills_max = spec["storm"], options.storm_tasks, options.storm_kills
        trial = Storm(folder, seed=storm, tasks=tasks, kills_max=kills_max, env=mode)
    elif spec["layer"] == "F3":
        shim.make(folder / "shim", spec["fault"], spec["call"])
        trial = Day(folder, env={"PATH": f"{folder / 'shim'}:{os.environ['PATH']}"})
    elif spec["layer"] == "F1B":
        mode = {"SWARM_VERIFY__MODE": "batch", "SWARM_VERIFY__SLOTS": "1"}
        trial = Batches(folder, spec["faults"], env=mode)
    else:
        trial = Day(folder, spec["faults"], spec.get("nested", ()))
    report = {**spec, **trial.run(base / "template")}
    if spec["layer"] == "F3":
        report |= {"calls": shim.calls(folder / "shim"), "misbehaved": shim.fired(folder / "shim")}
    if report["wrong"]:
        report["folder"] = str(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return {"trial": number, "seed": options.seed, **report}


def table(options: argparse.Namespace, reports: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Gives the lines of "point x kind -> hits", and the faults that were ordered and never fired."""
    fired = Counter(name for report in reports for name in report["fired"])
    reached = Counter[str]()
    for report in reports:
        reached.update(report["points"])
    kinds = sorted({name.rpartition(":")[2] for name in fired} | set(options.kinds), key=KINDS.index)
    lines = [f"{'point':24}{'reached':>9}" + "".join(f"{kind:>7}" for kind in kinds)]
    for name in options.points:
        counts = "".join(f"{fired[f'{name}:{kind}']:>7}" for kind in kinds)
        lines.append(f"{name:24}{reached[name]:>9}{counts}")
    return lines, [json.dumps(spec) for spec in missed(reports)]


def missed(reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gives a trial for each fault that has not fired yet: alone, or at an earlier call of git.

    What one fault of a day does may keep another from being reached, and how often a day calls git hangs on the machine.
    """
    specs: list[dict[str, Any]] = []
    for layer in ("F1", "F1B"):
        same = [each for each in reports if (each["layer"] == "F1B") == (layer == "F1B")]
        fired = {name for each in same for name in each["fired"]}
        ordered = dict.fromkeys(fault for each in same if each["layer"] == layer for fault in each["faults"])
        for fault in ordered:  # NAME:KIND:HIT
            if fault.rpartition(":")[0] not in fired:
                first = AFTER.get(fault.partition(":")[0])
                faults = [*([f"{first}:kill:1"] if first else ()), fault]
                specs.append({"layer": layer, "faults": faults})
    misbehaved = {each["fault"] for each in reports if each.get("misbehaved")}
    calls = {each["fault"]: each["call"] for each in reports if each.get("misbehaved") == ""}
    specs += [
        {"layer": "F3", "fault": fault, "call": max(1, call // 2)}
        for fault, call in calls.items()
        if fault not in misbehaved
    ]
    return specs


def main(arguments: Sequence[str]) -> int:
    """Runs what was asked for; 1 where anything was wrong or a point was never hit."""
    options = parse(arguments)
    chance = random.Random(options.seed)
    specs = [spec for name in options.layers for spec in LAYERS[name](options, chance)]
    numbered = [(n, spec) for n, spec in enumerate(specs, 1) if n in (options.only or (n,))]
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False
    ).stdout.strip()
    base = Path(tempfile.mkdtemp(prefix="swarm-crash-"))
    seal(base / "home")
    (base / "home").mkdir()
    make_repository(base / "template")
    print(
        f"seed {options.seed}, commit {commit}, {len(numbered)} trials, {options.jobs} at a time", flush=True
    )
    began, reports = monotonic(), run_trials(base, numbered, options, commit)
    for _ in range(AGAIN_MAX if not options.only else 0):
        more = list(enumerate(missed(reports), len(specs) + len(reports)))
        reports += run_trials(base, more, options, commit)
    lines, never = table(options, reports)
    wrong = [report for report in reports if report["wrong"]]
    print("\n".join(lines))
    for report in wrong:  # once more, where the end of a long log is all that is kept
        print(
            f"wrong, trial {report['trial']} {report['faults'] or report.get('misbehaved', '')}: {report['wrong']}"
        )
    print(
        f"{len(reports)} trials, {sum(report['deaths'] for report in reports)} daemons died, {len(wrong)} trials wrong, "
        f"{len(never)} faults never hit, {monotonic() - began:.0f} s, seed {options.seed}"
    )
    for each in never:
        print(f"never hit: {each}")
    if not wrong:
        shutil.rmtree(base, ignore_errors=True)
    return 1 if wrong or never else 0


def run_trials(
    base: Path, numbered: Sequence[tuple[int, dict[str, Any]]], options: argparse.Namespace, commit: str
) -> list[dict[str, Any]]:
    """Runs trials, some at a time, and prints each when it is over."""
    reports = []
    with ThreadPoolExecutor(options.jobs) as pool:
        running = [pool.submit(carry_out, base, n, spec, options) for n, spec in numbered]
        for done in as_completed(running):
            report = {"commit": commit, **done.result()}
            reports.append(report)
            told = {key: value for key, value in report.items() if key != "points"}
            print(json.dumps(told), flush=True)
    return reports


QUICK: dict[str, Any] = {
    "layers": ["F1", "F1B", "F3", "F4", "F5"], "kinds": ["kill"], "hits": [1], "git_faults": ["before", "after", "fails", "killed"],
    "git_calls": 1, "storms": 1, "storm_tasks": 16, "storm_kills": 20, "nested": 4,
}  # fmt: skip
LONG: dict[str, Any] = {
    "layers": ["F1", "F1B", "F3", "F4", "F5"], "kinds": list(KINDS), "hits": [1, 2], "git_faults": list(shim.FAULTS),
    "git_calls": 25, "storms": 50, "storm_tasks": 32, "storm_kills": 60, "nested": 100,
}  # fmt: skip


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line: what is not given is as the quick or the long run has it."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--long", action="store_true", help="everything, for hours")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    parser.add_argument("--batch", type=int, default=6, help="faults of F1 that share a trial")
    parser.add_argument(
        "--only", type=_numbers, help="numbers of trials, with the seed of the run they are from"
    )
    parser.add_argument(
        "--points", type=_words, default=[name for name in POINTS if not name.startswith(ELSEWHERE)]
    )
    for name, default in QUICK.items():
        kind = int if isinstance(default, int) else _numbers if name == "hits" else _words
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind)
    options = parser.parse_args(arguments)
    for name, default in (LONG if options.long else QUICK).items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    return options


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

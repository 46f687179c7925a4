"""Kills each process of each step of a landing at each of its mutating system calls, and has the step carried out again.

A step (`steps.py`) runs in a process of its own; that process and every git it starts is counted and, one after the other, run
under strace, which kills it on entry to the n-th call of one kind, or has that call fail. Afterwards the step is carried out
again without a fault. Its answer, the refs of both repositories and the worktrees must then be what an undisturbed run gives,
both repositories must pass fsck, and no lock may be left.

`python -m tests.crash.sweep [--steps a,b] [--faults KILL,ENOSPC] [--every N]` prints one JSON line a step and exits with 1 when
anything differs. Needs strace and the right to trace.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash.steps import JOURNAL, REMOVE, STEPS

PROJECT = Path(__file__).resolve().parents[2]
# What changes a file, a folder or a ref; reads say nothing about durability. `openat` makes files too and is met by the
# calls around it: strace can't tell those that make from those that read.
CALLS = (
    "write,pwrite64,writev,ftruncate,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,"
    "fsync,fdatasync,chmod,fchmod,fchmodat,flock,fcntl,copy_file_range,sendfile,utimensat"
)
_COUNTED = frozenset(CALLS.split(",")) - {"fcntl"}
WORKS = {
    "take": ("work", {"new.txt": "new\n", "a.txt": "changed\n"}),
    "take_again": ("dirt", {"lost.txt": "kept\n"}),
}
THEN = {"give_back": "take_next", "give_back_dirty": "take_next"}
TRIES = 3
TRACER_S = 60.0
ALL = (JOURNAL, *STEPS, REMOVE)
MAIN = 0  # the step's own process; git processes are numbered from 1 in the order in which they start


class Point(NamedTuple):
    """Where a fault strikes: in which process of the step, at which system call, at its how-manyeth time, and what happens."""

    process: int
    call: str
    n: int
    fault: str


@dataclass
class Report:
    """What one step's sweep did: points tried, how many really struck and which did not, and what was wrong afterwards."""

    step: str
    points: int = 0
    struck: int = 0
    missed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    by_call: Counter[str] = field(default_factory=Counter)


class Yard:
    """A folder in which one step after the other is prepared, saved, and carried out with faults."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "place"  # always the same path: git writes absolute ones
        self.bin = folder / "bin"
        self.logs = folder / "logs"
        self.runs = 0
        self.bin.mkdir()
        self.git = shutil.which("git")

    # --- the repository

    def begin(self) -> None:
        """Makes the user's repository."""
        repo = self.place / "repo"
        repo.mkdir(parents=True)
        self._git(repo, "init", "-q", "-b", "main")
        for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
            self._git(repo, "config", key, value)
        for name in ("a.txt", "b.txt", "sub/c.txt"):
            (repo / name).parent.mkdir(exist_ok=True)
            (repo / name).write_text(f"{name}\n" * 30)
        self._git(repo, "add", "-A")
        self._git(repo, "commit", "-q", "-m", "first", "--date", "@1700000000 +0000")
        self.answers: dict[str, Any] = {"start": {"base": self._git(repo, "rev-parse", "HEAD")}}
        self._write_answers()

    def keep(self, name: str) -> None:
        """Keeps the folder as it is under a name."""
        shutil.copytree(self.place, self.folder / name, symlinks=True)

    def restore(self, name: str) -> None:
        """Puts the folder back as it was kept."""
        shutil.rmtree(self.place)
        shutil.copytree(self.folder / name, self.place, symlinks=True)

    def answered(self, step: str, answer: Mapping[str, Any]) -> None:
        """Takes in what a step answered, and does what its worker would do then."""
        self.answers[step] = dict(answer)
        self._write_answers()
        for name, text in WORKS.get(step, ("", {}))[1].items():
            (Path(answer["path"]) / name).write_text(text)

    def _write_answers(self) -> None:
        (self.place / "answers.json").write_text(json.dumps(self.answers))

    # --- carrying out

    def run(
        self, step: str, point: Point | None = None, *, count: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Carries a step out, with a fault at a point, or with every process traced."""
        self.runs += (
            1  # a folder of its own each: what a killed step had started may still write into the last
        )
        self.logs = self.folder / "logs" / str(self.runs)
        self.logs.mkdir(parents=True)
        spec = ""
        if point is not None:
            what = "signal=KILL" if point.fault == "KILL" else f"error={point.fault}"
            spec = f"inject={point.call}:{what}:when={point.n}"
        self._arm("all" if count else str(point.process if point is not None else ""), spec)
        env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "SWARM_"))},
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        argv = [sys.executable, "-m", "tests.crash.steps", str(self.place), step]
        if count or (point is not None and point.process == MAIN):
            argv = [*_strace(self.logs / "0.trace", spec), *argv]
        done = subprocess.run(
            argv, cwd=self.folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120
        )  # fmt: skip
        _wait_for_tracers(self.logs)
        return done

    def again(self, step: str) -> subprocess.CompletedProcess[str]:
        """Carries a step out without a fault, as often as the machine would: what fails is tried again, some seconds later."""
        done = self.run(step)
        for _ in range(TRIES):
            if done.returncode == 0:
                break
            for lock in _locks(self.place / "repo" / ".git"):
                os.utime(lock, (time.time() - 60, time.time() - 60))  # those seconds
            done = self.run(step)
        return done

    def points(self, faults: tuple[str, ...]) -> list[Point]:
        """Reads off the last counted run where faults can strike."""
        found = []
        for log in sorted(self.logs.glob("*.trace")):
            counts = Counter(_calls(log))
            for call, most in sorted(counts.items()):
                found += [
                    Point(int(log.stem), call, n, fault) for n in range(1, most + 1) for fault in faults
                ]
        return found

    # --- what must be true

    def truth(self) -> dict[str, Any]:
        """Says what counts of the folder: refs of both repositories, worktrees as git knows them, and their files."""
        repo, landing = self.place / "repo", self.place / "repo" / ".git" / "swarm" / "landing.git"
        found: dict[str, Any] = {"locks": sorted(map(str, _locks(repo / ".git")))}
        for name, folder in (("user", repo), ("landing", landing)):
            if not (folder / "HEAD").exists() and not (folder / ".git").exists():
                continue
            found[f"{name} refs"] = self._git(folder, "for-each-ref", "--format=%(refname) %(objectname)")
            done = subprocess.run(
                ["git", "fsck", "--connectivity-only", "--no-dangling"], cwd=folder, capture_output=True, text=True, check=False
            )  # fmt: skip
            found[f"{name} fsck"] = (done.returncode, done.stdout)
        listed = self._git(repo, "worktree", "list", "--porcelain")
        found["worktrees"] = listed
        found["files"] = {
            str(path.relative_to(repo)): path.read_text(errors="replace")
            for path in sorted((repo / ".worktrees").rglob("*"))
            if path.is_file() and ".pool" not in path.parts and path.name not in (".git",)
        }
        found["checkout"] = self._git(repo, "status", "--porcelain=v2", "--branch")
        return found

    def _git(self, cwd: Path, *args: str) -> str:
        done = subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    # --- the git that numbers its calls: mkdir is the counter, for it is atomic and several may start at once

    def _arm(self, process: str, spec: str) -> None:
        """Says which git is traced from now on: all, one by its number, or none. The shim gets nothing by environment, which is
        cleaned for it. The tracer is nobody's child (-DD): whoever ends git would else end the tracer before its last line."""
        inject = f'-e "{spec}"' if spec else ""
        trace = f"strace -DD -qq -e trace={CALLS} {inject} -o '{self.logs}'/$n.trace"
        text = f"""#!/bin/sh
n=1
while ! mkdir '{self.logs}'/$n 2>/dev/null; do n=$((n + 1)); done
case "{process}" in all | $n) exec {trace} {self.git} "$@" ;; esac
exec {self.git} "$@"
"""
        shim = self.bin / "git"
        shim.with_suffix(".new").write_text(text)
        shim.with_suffix(".new").chmod(0o755)
        shim.with_suffix(".new").replace(shim)


def _strace(log: Path, spec: str) -> list[str]:
    return ["strace", "-qq", "-e", f"trace={CALLS}", *(("-e", spec) if spec else ()), "-o", str(log)]


_CALL = re.compile(r"^([a-z0-9_]+)\(")


def _calls(log: Path) -> Iterator[str]:
    for line in log.read_text(errors="replace").splitlines():
        found = _CALL.match(line)
        if found and found[1] in _COUNTED:
            yield found[1]


def _locks(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.lock"):
        if path.parent != folder / "swarm" / "locks" and stat.S_ISREG(path.lstat().st_mode):
            yield path


def sweep(step: str, yard: Yard, faults: tuple[str, ...], every: int = 1) -> Report:
    """Sweeps one step; the folder is kept as the step before left it, and is left as this one leaves it."""
    report, started = Report(step), time.monotonic()
    yard.keep(step)
    counted = yard.run(step, count=True)
    assert counted.returncode == 0, counted.stderr[-2000:]
    points = yard.points(faults)[::every]
    yard.restore(step)
    wanted_answer = _answer(yard.run(step))
    wanted = _afterwards(yard, step)
    for point in points:
        yard.restore(step)
        faulty = yard.run(step, point)
        report.points += 1
        struck = _struck(yard.logs)
        report.struck += struck
        if not struck:
            report.missed.append(str(point))
        report.by_call[point.call] += struck
        again = yard.again(step)
        problem = _difference(_answer(again), wanted_answer) or _difference(_afterwards(yard, step), wanted)
        if problem:
            report.wrong.append(f"{point}: {problem} | {faulty.stderr[-300:]} | {again.stderr[-600:]}")
    yard.restore(step)
    if step != JOURNAL:
        yard.answered(step, _answer(yard.run(step)))
    report.seconds = time.monotonic() - started
    return report


def _afterwards(yard: Yard, step: str) -> dict[str, Any]:
    """Gives what counts of the folder after a step, and after the one that shows what it has left."""
    if step not in THEN:
        return yard.truth()
    return {**_answer(yard.run(THEN[step])), **yard.truth()}


def _struck(logs: Path) -> bool:
    texts = [log.read_text() for log in logs.glob("*.trace")]
    return any("+++ killed" in text or "INJECTED" in text for text in texts)


def _wait_for_tracers(logs: Path) -> None:
    """Waits until no tracer writes into this folder any more: what they trace may end, or be ended, before they do."""
    until = time.monotonic() + TRACER_S
    while any(_is_about(process, os.fsencode(logs)) for process in Path("/proc").glob("[0-9]*/cmdline")):
        assert time.monotonic() < until, f"a tracer still writes into {logs}"
        time.sleep(0.02)


def _is_about(process: Path, text: bytes) -> bool:
    try:
        return text in process.read_bytes()
    except OSError:
        return False  # ended meanwhile


def _answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    try:
        answer = dict(json.loads(done.stdout.splitlines()[-1]))
        answer.pop("saved", None)  # told once, by whoever saved it; the branch itself is among the refs
        return answer
    except (ValueError, IndexError):
        return {"failed": done.stderr[-600:]}


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    parts = []
    for key in sorted({*found, *wanted}):
        one, other = found.get(key), wanted.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            parts += [f"{key}: {inner}"] if (inner := _difference(one, other)) else []
        elif one != other:
            parts.append(f"{key}: {one!r} != {other!r}"[:500])
    return "; ".join(parts)[:1500]


def sweep_all(
    folder: Path, steps: tuple[str, ...], faults: tuple[str, ...], every: int = 1
) -> Iterator[Report]:
    """Goes through the steps in order, sweeping those that are named and only carrying out the others."""
    yard = Yard(folder)
    yard.begin()
    for step in ALL:
        if step in steps:
            yield sweep(step, yard, faults, every)
            continue
        answer = _answer(yard.run(step))
        assert "failed" not in answer, answer
        if step != JOURNAL:
            yard.answered(step, answer)


def main() -> int:
    """Sweeps from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", default=",".join(ALL))
    parser.add_argument("--faults", default="KILL")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="swarm-sweep-") as folder:
        for report in sweep_all(
            Path(folder), tuple(options.steps.split(",")), tuple(options.faults.split(",")), options.every
        ):
            print(json.dumps({**report.__dict__, "seconds": round(report.seconds, 1)}), flush=True)
            wrong += len(report.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Drives the real program from outside: its command line, its documents, git for the truth, and a log that the workers write.

Rules for editing: nothing of the package is imported here, save the audit, which as a program of its own would cost a fifth of
what a test does; no file below the state folder is believed; what a test says must be seen by `swarm … --json`, by git, or by what
the workers wrote themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from swarm.audit import inspection
from tests.conftest import git, wait_until
from tests.crash.checker import Checker

SWARM = (sys.executable, "-m", "swarm")
CALM = {
    "cpu_percent": 5.0,
    "memory_percent": 20.0,
    "memory_available_bytes": 16 << 30,
    "disk_free_bytes": 1 << 40,
}
PATIENCE_S = 240  # for one command: against hanging, and nothing that a busy machine comes near to
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Span:
    """One attempt as its worker saw it; times in seconds, `end` is infinite where it never said so."""

    task: str
    attempt: int
    start: float
    end: float

    def overlaps(self, other: Span) -> bool:
        return self.start < other.end and other.start < self.end


class Swarm:
    """`swarm` in one repository, on a calm machine; `outside` is a folder beside it for plans, gates and the workers' log."""

    def __init__(self, top: Path, outside: Path) -> None:
        self.top = top
        self.outside = outside
        outside.mkdir(parents=True, exist_ok=True)
        self.log = outside / "log"
        self.log.touch()
        self.readings = outside / "readings.json"
        self.measure()
        self.env = {
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "TMPDIR": str(outside),
            "SWARM_LIMITS__READINGS_FILE": str(self.readings),
            "SWARM_LIMITS__READINGS_EVERY_S": "0.1",
            "SWARM_LIMITS__RAMP_PER_S": "1000",
            "SWARM_LIMITS__GRACE_S": "1",
            "SWARM_SANDBOX": "off",
        }
        self.note = outside / "note"
        self.note.write_text(
            "#!/bin/sh\n"
            'printf \'%s\\t%s\\t%s\\t%s\\t%s\\n\' "$SWARM_RUN" "$SWARM_TASK" "$SWARM_ATTEMPT" "$1" "$(date +%s.%N)" >> '
            f"{shlex.quote(str(self.log))}\n"
        )
        self.note.chmod(0o755)
        self.program = SWARM
        self.prefix: tuple[str, ...] = ()  # a program that starts each command, such as setpriv
        self.background: list[subprocess.Popen[str]] = []
        self.before = snapshot(top)
        self.ended = False
        self.left_broken: set[str] = set()  # the invariants that a test breaks on purpose and leaves broken

    def shut_in(self) -> Swarm:
        """Has workers shut in from now on; the folder outside stays open to them, where they log what they do."""
        self.env |= {
            "SWARM_SANDBOX": "required",
            "SWARM_SANDBOX_PATHS__WRITE": json.dumps([str(self.outside)]),
        }
        return self

    # --- the machine

    def measure(self, **readings: float) -> None:
        """Says what the machine's readings are from now on; what is not given is calm."""
        temporary = self.readings.with_suffix(".new")
        temporary.write_text(json.dumps({**CALM, **readings}))
        temporary.replace(self.readings)

    def with_constants(self, module: str, **values: float) -> dict[str, str]:
        """Gives the environment in which a daemon is started that has other values for constants of one of its modules."""
        folder = self.outside / "constants"
        folder.mkdir(exist_ok=True)
        assigned = "".join(f"{module}.{name} = {value!r}\n" for name, value in values.items())
        (folder / "sitecustomize.py").write_text(f"import {module}\n{assigned}")
        return {"PYTHONPATH": os.pathsep.join((str(folder), self.env["PYTHONPATH"]))}

    # --- commands

    def __call__(
        self,
        *args: str,
        code: int | None = 0,
        cwd: Path | None = None,
        timeout_s: float = PATIENCE_S,
        env: Mapping[str, str] | None = None,
        **variables: str,
    ) -> Done:
        """Runs a command to its end, which must be `code` unless that is None; `env` and variables are added to its environment."""
        done = subprocess.run(
            [*self.prefix, *self.program, *args],
            cwd=cwd or self.top,
            env={**self.env, **(env or {}), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout_s,
            check=False,
        )
        said = f"swarm {' '.join(args)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert code is None or done.returncode == code, said
        assert "Traceback (most recent call last)" not in done.stdout + done.stderr, said
        return Done(done.returncode, done.stdout, done.stderr)

    def spawn(self, *args: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """Starts a command and lets it run, in a session of its own, as a terminal would."""
        child = subprocess.Popen(
            [*SWARM, *args],
            cwd=cwd or self.top,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.background.append(child)
        return child

    def status(self, *args: str) -> dict[str, Any]:
        """Gives the status document."""
        found: dict[str, Any] = self("status", "--json", *args).json
        return found

    def run(
        self, plan: Path, *args: str, code: int | None = 0, timeout_s: float = PATIENCE_S, **env: str
    ) -> dict[str, Any]:
        """Carries a plan out in one go and gives its run's part of the document that comes at the end."""
        done = self("run", str(plan), "--json", *args, code=code, timeout_s=timeout_s, env=env)
        (run,) = done.json["runs"]
        return dict(run)

    def wait(self, run: str, *, code: int = 0) -> dict[str, Any]:
        """Waits for the end of a run and gives its part of the document."""
        done = self("wait", "--run", run, "--json", "--timeout", str(PATIENCE_S - 10), code=code)
        return next(dict(each) for each in done.json["runs"] if each["id"] == run)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Gives the journal's events, all or those of one type."""
        found = [json.loads(line) for line in self("events", "--json").out.splitlines()]
        return [event for event in found if kind is None or event["type"] == kind]

    def run_of(self, name: str) -> dict[str, Any]:
        """Gives a run's part of the status document."""
        return next(dict(run) for run in self.status("--run", name)["runs"] if run["id"] == name)

    def the_run(self) -> dict[str, Any]:
        """Gives the only run, or the first."""
        return dict(self.status()["runs"][0])

    def waiting(self) -> set[str]:
        """Names the tasks that wait in the merge queue."""
        return {entry["task"] for entry in self.status()["merge_queue"] if entry["state"] == "waiting"}

    def without_settings(self) -> None:
        """Removes the settings, so that what is looked at in the end needs none of what they name."""
        (self.top / "swarm.toml").unlink()
        self.look_again()

    def launchers(self, run: str, *tasks: str) -> dict[str, int]:
        """Gives the process of the first attempt of each of these tasks, once status names them all: a worker is at work before
        its daemon has taken in that it is."""
        found: dict[str, int] = {}

        def all_named() -> bool:
            for task in self.run_of(run)["tasks"]:
                if task["id"] in tasks and task["attempts"] and task["attempts"][0]["pid"]:
                    found[task["id"]] = int(task["attempts"][0]["pid"])
            return set(found) == set(tasks)

        wait_until(all_named)
        return {task: found[task] for task in tasks}

    def wait_for_landed(self, run: str, *tasks: str) -> None:
        """Waits until status says that these tasks have landed, which it does after they stand on the branch."""

        def all_landed() -> bool:
            states = {task["id"]: task["state"] for task in self.run_of(run)["tasks"]}
            return {states.get(task) for task in tasks} == {"landed"}

        wait_until(all_landed)

    def wait_for_follow(self, run: str) -> Path:
        """Waits until the staging worktree stands where staging does, with nothing of its move left, and gives its path: a task
        has landed before that."""
        tree = Path(self.run_of(run)["staging"]["worktree"])

        def stands() -> bool:
            if not tree.is_dir() or git(tree, "rev-parse", "HEAD", check=False) != self.staging(run):
                return False
            move = git(tree, "rev-parse", "--path-format=absolute", "--git-path", "swarm-move", check=False)
            return not Path(move).exists() and git(tree, "status", "--porcelain", check=False) == ""

        wait_until(stands)
        return tree

    def wait_for_rest(self) -> None:
        """Waits until nothing runs here any more: a daemon that ends answers nobody some time before it has written all down."""
        wait_until(lambda: not self.left_running())

    def end_daemon(self) -> int:
        """Kills the daemon with -9 and gives its process id."""
        pid = int(self.status()["daemon"]["pid"])
        daemon = psutil.Process(pid)
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([daemon], timeout=120)
        return pid

    # --- plans

    def plan(self, name: str, tasks: Iterable[dict[str, Any]], **more: Any) -> Path:
        """Writes a native plan outside the repository."""
        path = self.outside / f"{name}.json"
        path.write_text(json.dumps({"name": name, **more, "tasks": list(tasks)}, ensure_ascii=False), "utf-8")
        return path

    def does(self, work: str, *, sleep_s: float = 0.0, gate: str | None = None) -> str:
        """Gives a shell command that logs its start, works, waits, and logs its end. It waits for `gate` to be opened, if named,
        in which the shell's variables are put in."""
        parts = [f"{shlex.quote(str(self.note))} start", work]
        if sleep_s:
            parts.append(f"sleep {sleep_s}")
        if gate is not None:
            parts.append(f"{shlex.quote(str(self.note))} gate")
            parts.append(f'until [ -e "{self.gate(gate)}" ]; do sleep 0.02; done')
        return " && ".join(["set -e; true", *parts, f"{shlex.quote(str(self.note))} end"])

    def task(self, name: str, work: str | None = None, **more: Any) -> dict[str, Any]:
        """Gives a task that claims and writes one file named after it; `sleep_s` and `gate` as in `does`."""
        timing = {key: more.pop(key) for key in ("sleep_s", "gate") if key in more}
        if work is None:
            work = f"echo {shlex.quote(name)} > {shlex.quote(f'out-{name}')}"
            more.setdefault("claims", [f"out-{name}"])
        return {
            "id": name,
            "title": more.pop("title", f"Task {name}"),
            "run": self.does(work, **timing),
            **more,
        }

    def gate(self, name: str) -> Path:
        return self.outside / f"gate-{name}"

    def open(self, name: str) -> None:
        """Lets the workers that wait at a gate go on."""
        self.gate(name).touch()

    # --- what the workers wrote

    def spans(self, run: str | None = None) -> list[Span]:
        """Gives each attempt as its worker logged it, in order of start."""
        started: dict[tuple[str, str, int], float] = {}
        ended: dict[tuple[str, str, int], float] = {}
        marks = {"start": started, "end": ended}
        for line in self.log.read_text("utf-8").splitlines():
            of, task, attempt, what, at = line.split("\t")
            if what in marks and (run is None or of == run):
                marks[what][of, task, int(attempt)] = float(at)
        spans = [Span(key[1], key[2], at, ended.get(key, float("inf"))) for key, at in started.items()]
        return sorted(spans, key=lambda span: span.start)

    def starts(self) -> list[str]:
        """Gives the task of every start that a worker logged, as often as it started."""
        return self._logged("start")

    def wait_for_start(self, *tasks: str) -> None:
        """Waits until workers of these tasks have logged that they started; they may not have done anything else yet."""
        wait_until(lambda: set(tasks) <= set(self.starts()))

    def wait_for_gate(self, *tasks: str) -> None:
        """Waits until workers of these tasks have done their work and stand at their gates."""
        wait_until(lambda: set(tasks) <= set(self._logged("gate")))

    def _logged(self, what: str) -> list[str]:
        lines = [line.split("\t") for line in self.log.read_text("utf-8").splitlines()]
        return [line[1] for line in lines if line[3] == what]

    # --- git's word

    def staging(self, run: str) -> str:
        """Gives the commit of a run's staging branch."""
        return git(self.top, "rev-parse", f"refs/heads/swarm/{run}/staging")

    def is_landed(self, run: str, commit: str | None) -> bool:
        """Asks git whether a commit is on a run's staging branch."""
        asked = ["git", "merge-base", "--is-ancestor", str(commit), f"refs/heads/swarm/{run}/staging"]
        return subprocess.run(asked, cwd=self.top, capture_output=True, check=False).returncode == 0

    def landings(self, run: str, base: str = "main") -> list[str]:
        """Gives the tasks that landed, oldest first, as the trailers of staging's first-parent history say."""
        shown = git(
            self.top, "log", "--first-parent", "--reverse", "--format=%(trailers:key=Swarm-Task,valueonly,separator=)",
            f"{base}..refs/heads/swarm/{run}/staging", check=False,
        )  # fmt: skip
        return [line for line in shown.splitlines() if line]  # none as long as the branch is not there yet

    def content(self, run: str, path: str) -> str | None:
        """Gives a file as it is on staging, None where it is not there."""
        shown = subprocess.run(
            ["git", "show", f"refs/heads/swarm/{run}/staging:{path}"],
            cwd=self.top, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return shown.stdout if shown.returncode == 0 else None

    def check_landed(self, run: dict[str, Any]) -> None:
        """Holds a run's part of the status document against git."""
        base = run["base"]["commit"]
        assert run["staging"]["commit"] == self.staging(run["id"])
        said = [task["id"] for task in run["tasks"] if task["state"] == "landed"]
        assert sorted(self.landings(run["id"], base)) == sorted(said)
        for task in run["tasks"]:
            assert (task["landed_commit"] is not None) == (task["state"] == "landed")
            if task["landed_commit"] is not None:
                assert self.is_landed(run["id"], task["landed_commit"])

    # --- afterwards

    def look_again(self) -> None:
        """Takes the user's checkout as it is now for how it should stay."""
        self.before = snapshot(self.top)

    def end(self) -> None:
        """Stops the daemon and holds what is left against what must be: nothing, and the user's things as they were.

        Once: a test whose disk goes away before the test is over does so itself.
        """
        if self.ended:
            return
        self.ended = True
        for child in self.background:
            if child.poll() is None:
                child.kill()
            child.communicate()
        self("stop", "--now")
        wait_until(lambda: not self.left_running())
        assert snapshot(self.top) == self.before
        state = common_dir(self.top) / "swarm"
        assert not (state / "api.sock").exists()
        assert not (state / "daemon.json").exists()
        assert list(lock_files(common_dir(self.top))) == []
        self.check_all_is_well()

    def check_all_is_well(self) -> None:
        """Has both who know the invariants look: what they find broken is what the test says that it leaves broken, if anything."""
        found = [*self.audited(), *Checker(self.top).check()]
        unsaid = [each for each in found if each[0] not in self.left_broken]
        assert not unsaid, unsaid
        assert self.left_broken <= {number for number, _ in found}

    def audited(self) -> list[tuple[str, str]]:
        """Gives the invariants that the audit finds broken, each with its cause."""
        if self.prefix:  # by who may see other things than we may
            broken = self("audit", "--json", code=None).json["broken"]
            return [(each["invariant"], each["cause"]) for each in broken]
        report = inspection.audit(self.top, self.env)
        return [(breach.invariant, breach.cause) for breach in report.breaches]

    def left_running(self) -> list[str]:
        """Lists processes that have this repository's folder in their arguments, working directory or environment."""
        mark, found = str(self.top), []
        for each in psutil.process_iter():
            if each.pid == os.getpid():
                continue
            try:
                words = [*each.cmdline(), each.cwd(), *each.environ().values()]
            except (psutil.Error, OSError):
                continue
            if any(mark in word for word in words):
                found.append(f"{each.pid}: {' '.join(words[:8])}")
        return found


def runs(pid: int) -> bool:
    """Tells whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def verified_in(top: Path) -> Path:
    """Gives the folder of the worktrees in which candidates of a repository are verified, by whose it says that it is."""
    state = common_dir(top) / "swarm"
    notes = Path(os.environ["HOME"], ".cache/swarm/verify").glob("*/of")
    ours = [note.parent for note in notes if note.read_bytes() == os.fsencode(f"{state}\n")]
    return ours[0] if ours else Path(os.path.realpath(top / ".worktrees/.verify"))


def common_dir(top: Path) -> Path:
    return Path(git(top, "rev-parse", "--path-format=absolute", "--git-common-dir"))


def lock_files(folder: Path) -> Iterator[str]:
    """Lists git's lock files below a git folder; ours under `swarm/locks` are held by the kernel and stay."""
    for path in folder.rglob("*.lock"):
        if path.parent != folder / "swarm" / "locks":
            yield str(path)


def snapshot(top: Path) -> dict[str, Any]:
    """Says all about the user's checkout that nobody may change: HEAD, index, files, status, refs, config, hooks, stash."""
    own, common = Path(git(top, "rev-parse", "--absolute-git-dir")), common_dir(top)
    refs = git(top, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return {
        "HEAD": (own / "HEAD").read_bytes(),
        "HEAD log": _bytes(own / "logs" / "HEAD"),
        "index": _digest(own / "index"),
        "status": git(top, "--no-optional-locks", "status", "--porcelain=v2", "--untracked-files=all"),
        "refs": [ref for ref in refs if not ref.startswith("refs/heads/swarm/")],
        "config": _bytes(common / "config"),
        "worktree config": _bytes(own / "config.worktree"),
        "exclude": _bytes(common / "info" / "exclude"),
        "hooks": {str(path): _digest(path) for path in sorted((common / "hooks").glob("*"))},
        "stash": _bytes(common / "logs" / "refs" / "stash"),
        "files": dict(_files(top)),
    }


def _files(top: Path) -> Iterator[tuple[str, str]]:
    for folder, names, files in os.walk(top):
        if Path(folder) == top:
            names[:] = [name for name in names if name not in (".git", ".worktrees")]
        for name in files:
            path = Path(folder, name)
            if path.is_symlink():
                yield str(path), f"-> {path.readlink()}"
            elif path.is_file():
                yield str(path), f"{stat.S_IMODE(path.stat().st_mode):o} {_digest(path)}"


def _digest(path: Path) -> str:
    return hashlib.sha256(_bytes(path)).hexdigest()


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def widest(spans: Iterable[Span]) -> int:
    """Gives the most spans that lie over one moment."""
    edges = sorted((at, step) for span in spans for at, step in ((span.start, 1), (span.end, -1)))
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most

"""`swarm chaos`: a small plan in a throwaway repository, whose daemon is killed at every step, and what is true afterwards.

Everything is done as a user does it: by the program's own command line, by git, and with `SWARM_CRASH` in the daemon's environment.
Each daemon is armed with the points at which none has been killed yet; the first one that it reaches kills it, and the next goes
on with the rest.

Rules for editing: nothing of the user's is read or written; a task of the plan does what it was told however often it is tried.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import click

from swarm import crashpoints, protocol
from swarm.client.killing import Daemons, Reached, Stuck, processes_of
from swarm.client.options import ENDING, command, ended_by_signals, split
from swarm.client.session import Session
from swarm.dataclass import dataclass
from swarm.errors import EXIT_NOT_LANDED, EXIT_OK, UsageError

RUN = "chaos"
STAGING = f"refs/heads/swarm/{RUN}/staging"
UNDONE = "mistake"
COMMAND_S = 180.0
ENDED_S = 3.0  # between two looks at whether the run has ended too early
RANDOM_KILLS = 40
RANDOM_POINTS = 60  # at most so many points are passed before a random kill; coming up passes about 20

# Beyond what can be measured: a demonstration goes on, on a machine that others keep busy too.
SETTINGS = {
    "SWARM_LIMITS__CPU_PERCENT_MAX": "1000",
    "SWARM_LIMITS__MEMORY_PERCENT_MAX": "1000",
    "SWARM_LIMITS__RAMP_PER_S": "1000",
    "SWARM_LIMITS__GRACE_S": "1",
    "SWARM_SANDBOX": "off",
}

# Three tasks change the same file at once, as their priority has it (one is rebased, one conflicts and is made anew), one fails its
# verification first, one ruins the index of its worktree, one is stopped and begun again, one is taken back. `began` notes each
# start of a worker.
PLAN = r"""
name = "chaos"
attempts = 50
verify = [{name = "not-wrong", run = "! grep -qs wrong advice"}]

[[tasks]]
id = "header"
claims = [{path = "pages", mode = "shared"}]
priority = 1
run = '''began; sed -i 's/^line 5$/header/; s/^line 9$/same/' pages; wait_until both_began'''

[[tasks]]
id = "title"
claims = [{path = "pages", mode = "shared"}]
priority = 1
run = '''began; sed -i 's/^line 5$/title/; s/^header$/title/' pages; wait_until header_landed'''

[[tasks]]
id = "footer"
claims = [{path = "pages", mode = "shared"}]
priority = 1
run = '''
began; sed -i 's/^line 9$/same/' pages; git commit -qam one --allow-empty
sed -i 's/^same$/footer/' pages; git commit -qam two; wait_until header_landed'''

[[tasks]]
id = "advice"
claims = ["advice"]
run = '''began; if grep -qs not-wrong "$SWARM_FEEDBACK_FILE"; then echo right > advice; else echo wrong > advice; fi'''

[[tasks]]
id = "vandal"
claims = ["vandal"]
run = '''began; echo vandal > vandal; echo junk > "../.pool/$(basename "$SWARM_WORKTREE").index"'''

[[tasks]]
id = "mistake"
claims = ["mistake"]
run = '''began; echo mistake > mistake'''

[[tasks]]
id = "patience"
needs = ["header", "title", "footer", "advice", "vandal"]
claims = ["patience"]
run = '''began; echo half > patience; wait_until test -e "$TMPDIR/open"; echo patience > patience'''

[[tasks]]
id = "last"
needs = ["patience"]
claims = ["last"]
run = '''began; cat advice vandal patience > last'''
"""
# What the tasks above call. Every wait has an end, so that whatever happens no worker is left for long.
SHELL = r"""
began() { printf '%s %s\n' "$SWARM_TASK" "$SWARM_ATTEMPT" >> "$TMPDIR/began"; }
wait_until() { n=0; until "$@" || [ $n -gt 300 ]; do sleep 0.1; n=$((n+1)); done; }
both_began() { grep -q title "$TMPDIR/began" && grep -q footer "$TMPDIR/began"; }
header_landed() { git show swarm/chaos/staging:pages | grep -qE 'header|title'; }
"""
TASKS = ("header", "title", "footer", "advice", "vandal", "mistake", "patience", "last")
CONTENT = {
    "advice": "right\n",
    "vandal": "vandal\n",
    "patience": "patience\n",
    "last": "right\nvandal\npatience\n",
}
LINES = {5: "title", 9: "footer"}  # of pages


@dataclass
class Report:
    """What a demonstration has shown; `wrong` are sentences, and empty where all is well."""

    killed: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    landed: int = 0
    attempts: int = 0
    audit: dict[str, Any] | None = None
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


@command("chaos", shows=True, steers=True)
@click.option("--points", multiple=True, metavar="NAME", help="Kill only at these points; several by commas.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    help=f"Kill {RANDOM_KILLS} times at random points instead, drawn from this number.",
)
@click.option("--keep", is_flag=True, help="Leave the throwaway repository, to look at it.")
def chaos(session: Session, points: tuple[str, ...], seed: int | None, keep: bool) -> int:
    """Show that nothing is lost when the service is killed at every step.

    Carries out a small plan in a throwaway repository. Its service is killed at one named point after the other and started again
    each time; in the end everything is checked, by swarm audit too. Needs no key, no network and no repository, and touches none
    of yours. Ends with 0 only when all is well; else with what broke, and the repository is left.
    """
    wanted = _known(split(points))
    if wanted and seed is not None:
        raise UsageError(
            "--points and --seed exclude each other.", "Nothing was done.", "leave one of them out"
        )
    left, show = False, Progress(session)
    with ended_by_signals():
        folder = Path(tempfile.mkdtemp(prefix="swarm-chaos-")).resolve()
        demonstration = Demonstration(folder, wanted, seed, show.show)
        try:
            report = demonstration.carry_out()
            left = keep or bool(report.wrong)
        finally:
            for number in ENDING:
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave everything running
            show.close()
            demonstration.daemons.end()
            if not left:
                shutil.rmtree(folder, ignore_errors=True)
    again = " ".join(["swarm chaos", *(f"--points {each}" for each in wanted)])
    again += f" --seed {seed}" if seed is not None else ""
    if session.as_json:
        session.json(_document(report, folder if left else None, again))
    else:
        session.out(_text(report, folder if left else None, again))
    return EXIT_NOT_LANDED if report.wrong else EXIT_OK


def _known(points: Sequence[str]) -> list[str]:
    for name in points:
        if name not in crashpoints.POINTS:
            import difflib

            near = difflib.get_close_matches(name, crashpoints.POINTS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"There is no point {name!r}.{hint}",
                "Nothing was done.",
                "they are listed in docs/explanation/crash-tests.md",
            )
    return list(dict.fromkeys(points))


# --- what is carried out ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _failures_in(report: Report) -> Iterator[None]:
    """Has what fails in a `with` block end that and stand in the report."""
    try:
        yield
    except Stuck as stuck:
        report.wrong.append(str(stuck))
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        report.wrong.append(f"{type(error).__name__}: {protocol.printable(error)}")


class Demonstration:
    """The plan, carried out once in `folder` while its daemons are killed."""

    def __init__(
        self, folder: Path, points: Sequence[str], seed: int | None, show: Callable[[str, int, int], None]
    ) -> None:
        self.folder, self.top = folder, folder / "repository"
        self.points = list(points or crashpoints.POINTS)
        self.strict = bool(points)
        self.chance = None if seed is None else random.Random(seed)  # noqa: S311  (no secret)
        self.show = show
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "SWARM_"))}
        self.env = kept | SETTINGS | {
            "TMPDIR": str(folder),
            "XDG_RUNTIME_DIR": "",
            "XDG_STATE_HOME": str(folder / "state"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), kept.get("PYTHONPATH", "")))),
        }  # fmt: skip
        self.daemons = Daemons(self.top, self.env, folder / "points", self._order)
        self._progress: tuple[int, int] | None = None
        self._looked = time.monotonic()

    def _order(self, fired: list[Reached]) -> str:
        self._show()
        if self.chance is not None:
            return f"*:kill:{self.chance.randint(1, RANDOM_POINTS)}" if len(fired) < RANDOM_KILLS else ""
        killed = {each.point for each in fired}
        return ",".join(f"{name}:kill:1" for name in self.points if name not in killed)

    def _killed(self) -> list[str]:
        return [each.point for each in self.daemons.fired()]

    def carry_out(self) -> Report:
        """Plays, checks, and gives the report; nothing of it runs afterwards."""
        began, report = time.monotonic(), Report()
        with _failures_in(report):
            self._make_repository()
            self._play()
            report.wrong += self._differences()
            report.wrong += [f"still running: process {pid}" for pid in processes_of(self.env)]
        self.daemons.end()
        with _failures_in(report):
            report.audit = self._audit()
            report.wrong += [
                f"audit: {each['invariant']}: {each['cause']}" for each in report.audit["broken"]
            ]
        report.killed = self._killed()
        report.missed = [] if self.chance else [each for each in self.points if each not in report.killed]
        if not report.killed:
            report.wrong.append("nothing was killed")
        elif self.strict:
            report.wrong += [f"never reached, so nothing was killed there: {each}" for each in report.missed]
        trailers = self._landings()
        report.landed = len(set(trailers) & set(TASKS))
        report.attempts = len(set(self._began()))
        report.wrong += [f"{task} landed {n} times" for task, n in Counter(trailers).items() if n > 1]
        report.wrong += [
            f"attempt {each} ran {n} times" for each, n in Counter(self._began()).items() if n > 1
        ]
        report.seconds = time.monotonic() - began
        return report

    def _make_repository(self) -> None:
        self.top.mkdir()
        self.git("init", "-q", "--template=", "-b", "main")
        self.git("config", "user.name", "swarm chaos")
        self.git("config", "user.email", "chaos@example.invalid")
        (self.top / "pages").write_text("".join(f"line {n}\n" for n in range(1, 21)))
        self._commit("pages")
        (self.folder / "plan.toml").write_text(PLAN.replace("began;", '. "$TMPDIR/shell"; began;'))
        (self.folder / "shell").write_text(SHELL)

    def _play(self) -> None:
        self._until(lambda: bool(self._runs()) or self._ask("submit", str(self.folder / "plan.toml")))
        self._until(lambda: "patience" in " ".join(self._began()))
        self.daemons.stop()
        self.git("branch", "-D", f"swarm/{RUN}/staging")
        (self.folder / "open").touch()
        self._until(lambda: set(TASKS) <= set(self._landings()))
        self._until(lambda: bool(self._landings("Swarm-Undo")) or self._ask("undo", UNDONE, "--yes"))
        (self.top / "notes").write_text("notes\n")
        self._commit("notes")
        self._until(lambda: self._finished() or self._ask("finish"))
        self.daemons.stop()
        self.daemons.ensure()  # once more: what a stop that was cut short left is looked after too
        self._until(lambda: self._run_state() == "finished")
        self.daemons.stop()

    def _until(self, condition: Callable[[], bool]) -> None:
        self.daemons.until(condition, self._moved)

    def _moved(self) -> tuple[int, int]:
        self._give_up_on_failures()
        return self._show()

    def _show(self) -> tuple[int, int]:
        """Shows how far it is, where that has changed, and gives it."""
        killed = self._killed()
        now = (len(killed), len(set(self._landings())))
        if now != self._progress:
            self._progress = now
            self.show(killed[-1] if killed else "", *now)
        return now

    def _give_up_on_failures(self) -> None:
        if time.monotonic() - self._looked < ENDED_S:
            return
        self._looked = time.monotonic()
        failed = [each for each in self._tasks() if each["state"] in ("failed", "blocked")]
        if failed:
            told = "; ".join(
                f"{each['id']} {each['state']}: {(each.get('reason') or {}).get('text', '')}"
                for each in failed
            )
            raise Stuck(told)

    def _ask(self, *args: str) -> bool:
        """Has a command done, which is armed as the daemons are since it starts one itself where that was killed over it. What came
        of it is to be looked at."""
        self._swarm(*args, armed=True)
        return False

    # --- what there is to see

    def _swarm(self, *args: str, armed: bool = False) -> subprocess.CompletedProcess[str]:
        env = self.daemons.armed() if armed else self.env
        return self._run(sys.executable, "-m", "swarm", *args, env=env)

    def git(self, *args: str) -> str:
        """Gives what git prints; empty where it fails."""
        return self._run("git", *args).stdout

    def _run(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.top, env=env or self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S,
            start_new_session=True, check=False,
        )  # fmt: skip

    def _commit(self, path: str) -> None:
        self.git("add", path)
        self.git("commit", "-q", "-m", path)

    def _tasks(self) -> list[dict[str, Any]]:
        return [task for run in self._runs() for task in run["tasks"]]

    def _run_state(self) -> str:
        return next((str(run["state"]) for run in self._runs()), "")

    def _runs(self) -> list[dict[str, Any]]:
        try:
            return list(json.loads(self._swarm("status", "--json").stdout)["runs"])
        except ValueError:  # its daemon was killed over it
            return []

    def _landings(self, trailer: str = "Swarm-Task") -> list[str]:
        """The tasks of the trailers on staging's own line, oldest first."""
        shown = self.git(
            "log",
            "--first-parent",
            "--reverse",
            f"--format=%(trailers:key={trailer},valueonly,separator=%x0A)",
            STAGING,
        )
        return [line for line in shown.splitlines() if line]

    def _finished(self) -> bool:
        return bool(self.git("branch", "--list", "main", "--contains", STAGING).strip())

    def _began(self) -> list[str]:
        path = self.folder / "began"
        return path.read_text().splitlines() if path.exists() else []

    def _audit(self) -> dict[str, Any]:
        done = self._swarm("audit", "--json")
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise Stuck(f"swarm audit ends with {done.returncode}: {done.stderr[-800:]}") from None
        return found

    def _differences(self) -> list[str]:
        """Says where the end is not what it must be: states, and what stands on staging and on main."""
        states = {task["id"]: task["state"] for task in self._tasks()}
        expected = {**dict.fromkeys(TASKS, "landed"), UNDONE: "cancelled"}
        wrong = [
            f"{name} is {states.get(name)}, not {state}"
            for name, state in expected.items()
            if states.get(name) != state
        ]
        wrong += [f"{name} never landed" for name in TASKS if name not in self._landings()]
        if self._landings("Swarm-Undo") != [UNDONE]:
            wrong.append(f"taken back is {self._landings('Swarm-Undo')}, not {UNDONE} once")
        for branch in (STAGING, "refs/heads/main"):
            for path, text in CONTENT.items():
                if (found := self.git("show", f"{branch}:{path}")) != text:
                    wrong.append(f"{path} on {branch} is {found!r}")
            if self.git("show", f"{branch}:{UNDONE}"):
                wrong.append(f"{UNDONE} is still on {branch}")
            lines = dict(enumerate(self.git("show", f"{branch}:pages").splitlines(), 1))
            wrong += [
                f"line {n} of pages on {branch} is not {text!r}"
                for n, text in LINES.items()
                if lines.get(n) != text
            ]
        dirt = self.git("status", "--porcelain")
        return [*wrong, f"the checkout is dirty: {dirt}"] if dirt else wrong


# --- what is told -----------------------------------------------------------------------------------------------------------


class Progress:
    """Says how far it is: one line that is written over in a terminal, a line for each kill elsewhere."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._live = sys.stderr.isatty() and session.environ.get("TERM") != "dumb"

    def show(self, point: str, kills: int, landed: int) -> None:
        """Tells of a kill or a landing."""
        text = f"killed {kills} times{f', last at {point}' if point else ''}; {landed} of {len(TASKS)} tasks landed"
        if self._live and not self._session.quiet:
            sys.stderr.write(f"\r\x1b[K{text[: self._session.width - 1]}")
            sys.stderr.flush()
        else:
            self._session.note(text)

    def close(self) -> None:
        """Takes the line away."""
        if self._live and not self._session.quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _document(report: Report, folder: Path | None, again: str) -> dict[str, Any]:
    return {
        "schema": protocol.SCHEMA,
        "ok": not report.wrong,
        "killed": report.killed,
        "not_reached": report.missed,
        "tasks": len(TASKS),
        "landed": report.landed,
        "attempts": report.attempts,
        "audit": report.audit,
        "wrong": report.wrong,
        "seconds": round(report.seconds, 1),
        "folder": str(folder) if folder else None,
        "again": again,
    }


def _text(report: Report, folder: Path | None, again: str) -> str:
    """Shows a report to people."""
    audit = "not run" if report.audit is None else "clean" if report.audit["ok"] else "broken"
    rows = [
        ("killed", f"{len(report.killed)} times at {len(set(report.killed))} points"),
        ("not reached", ", ".join(report.missed)),
        ("tasks", f"{report.landed} of {len(TASKS)} landed"),
        ("attempts", str(report.attempts)),
        ("audit", audit),
        ("took", f"{report.seconds:.0f} s"),
    ]
    lines = [f"{name:<12} {text}" for name, text in rows if text]
    if report.wrong:
        lines += [
            "",
            "Not well:",
            *(f"  {protocol.printable(each)}" for each in report.wrong),
            "",
            f"Once more: {again}",
        ]
    else:
        lines += [
            "",
            "Nothing was lost: each task landed once, no attempt ran twice, nothing is left running.",
        ]
    if folder:
        lines.append(f"The repository is left in {folder / 'repository'}; to remove it: rm -rf {folder}")
    return "\n".join(lines) + "\n"

"""A second opinion on the invariants, written apart from `swarm audit`: git, SQL and /proc only, and nothing of the package.

    python tests/crash/checker.py REPO      says what is broken; exit 1 where anything is

For a repository at rest: no daemon, nothing being done. It goes by what is public (facts and events, trailers, refs, what workers
have in their environment) and in the plainest way; docs/explanation/invariants.md says what each number means. It does not see I5
and I19, which are for those who run suites and wait; I6, which follows from I7; and of I20 only what is ours.

Rules for editing: nothing is imported from swarm, nothing is taken over from its code, and all of it can be read in one go.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Broken = Iterator[tuple[str, str]]  # the number of an invariant, a sentence

ENDS = ("TaskLanded", "TaskHandedBack", "TaskFailed", "TaskCancelled", "UndoRefused")


@dataclass
class Task:
    """What the journal tells of a task."""

    claims: list[Row] = field(default_factory=list)
    attempts: dict[int, Row] = field(default_factory=dict)  # what is known of each, by its number
    newest: int = 0
    live: bool = False
    over: bool = False
    slot: int | None = None  # of its worker
    landed: str = ""


@dataclass
class Run:
    """What the journal tells of a run."""

    base: str
    stands: str  # where its staging worktree was left
    prepared: bool = False
    line: dict[str, tuple[str, int]] = field(default_factory=dict)  # whose task and attempt a commit is
    shown: set[str] = field(default_factory=set)  # those that were published
    between: set[str] = field(default_factory=set)  # those that were verified only with what came after them
    undone: set[str] = field(default_factory=set)
    made: dict[str, tuple[str, int, str]] = field(
        default_factory=dict
    )  # candidates: whose, and made from what
    tasks: dict[str, Task] = field(default_factory=lambda: defaultdict(Task))  # by their names in refs


class Checker:
    """One repository, looked at once."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.common = Path(git(top, "rev-parse", "--path-format=absolute", "--git-common-dir"))
        self.state = self.common / "swarm"
        self.landing = self.state / "landing.git"
        notes = Path(os.environ["HOME"], ".cache/swarm/verify").glob("*/of")
        places = [note.parent for note in notes if note.read_bytes() == os.fsencode(f"{self.state}\n")]
        self.verified_in = [*places, Path(os.path.realpath(self.top / ".worktrees/.verify"))][0]
        self.runs: dict[str, Run] = {}
        self.width = 0
        self.keeps = False  # worktrees of attempts that did not land, because somebody wants it so

    def check(self) -> Broken:
        """Gives everything that is broken."""
        if not any((self.state / name).exists() for name in ("landing.git", "journal.sqlite", "transcript")):
            return  # no daemon ever came up
        yield from self.journal()
        self.pins = refs(self.landing)
        self.users = refs(self.top, "refs/heads/swarm/", "refs/attempts/", "refs/bases/")
        tasks = [(name, of, task) for name, run in self.runs.items() for of, task in run.tasks.items()]
        self.live = {(name, of, str(task.newest)) for name, of, task in tasks if task.live}
        self.known = {(name, of, n): facts for name, of, task in tasks for n, facts in task.attempts.items()}
        for name, run in self.runs.items():
            if run.prepared:
                yield from self.staging(name, run)
        for look in (self.told, self.work, self.worktrees, self.left, self.processes, self.foreign):
            yield from look()

    # --- the journal (I8, I9, I10, I11, I17, I18) ---

    def journal(self) -> Broken:
        try:
            with sqlite3.connect(f"file:{self.state / 'journal.sqlite'}?mode=ro", uri=True) as base:
                if (said := base.execute("PRAGMA quick_check").fetchone()) != ("ok",):
                    yield "I18", f"SQLite says {said}"
                rows = base.execute("SELECT * FROM journal ORDER BY seq").fetchall()
                (promised,) = base.execute("SELECT seq FROM head").fetchone()
        except (sqlite3.Error, TypeError) as error:
            yield "I18", f"the journal can't be read: {error}"
            return
        checksum = 0
        for number, (*columns, stored) in enumerate(rows, 1):
            checksum = zlib.crc32("\x1f".join(map(str, columns)).encode(), checksum)
            if columns[0] != number or checksum != stored:
                yield "I18", f"record {number} is missing or changed"
                break
            _, kind, _, name, of, task, n, data = columns
            row = {**json.loads(data), "type": name, "run": of, "task": slug(task or ""), "n": n}
            yield from self.event(row) if kind == "event" else self.fact(row)
        if promised != len(rows):
            yield "I18", f"{promised} records were promised, {len(rows)} are there"

    def fact(self, row: Row) -> Broken:
        kind, run = row["type"], self.runs.get(row["run"])
        if run is None or kind == "RunDiscarded":
            self.runs.pop(row["run"], None)
            return
        task = run.tasks[row["task"]] if row["task"] else Task()
        if kind == "TaskStarted":
            yield from self.start(row, run, task)
        elif kind == "UndoBegun" or (kind == "TaskQueued" and row["n"] != task.newest):
            head = row.get("head")  # no worker: a landing is undone, or a person's commits are brought in
            yield from begin(row, task)
            task.attempts[row["n"]] |= {"head": head, "work": head, "undoes": kind == "UndoBegun"}
        elif kind in ENDS:
            task.live, task.slot, task.over = False, None, kind not in ("TaskHandedBack", "UndoRefused")
            if kind == "TaskCancelled":
                run.undone.add(task.landed)
            if kind in ("TaskCancelled", "TaskLanded"):
                task.landed = row.get("commit", "") if kind == "TaskLanded" else ""
        elif kind == "TaskRetried":
            task.over = False

    def start(self, row: Row, run: Run, task: Task) -> Broken:
        name = f"attempt {row['n']} of {row['task']}"
        if task.over:
            yield "I8", f"{name} started after the task had ended"
        if any(meet(task.claims, other.claims) for other in run.tasks.values() if other.live):
            yield "I11", f"{name} started while another held what it claims"
        task.slot = row["slot"]
        tasks = [each for of in self.runs.values() for each in of.tasks.values()]
        slots = [each.slot for each in tasks if each.slot is not None]
        if len(slots) > self.width or len(set(slots)) < len(slots):
            yield "I17", f"{name} started as number {len(slots)} of {self.width}, slots {slots}"
        yield from begin(row, task)

    def event(self, row: Row) -> Broken:
        kind, name = row["type"], row["run"]
        if kind in ("DaemonStarted", "LimitsChanged"):
            limits = row.get("limits", row)
            self.width = limits["workers_max"]
            self.keeps = self.keeps or limits.get("keep_worktrees", False)
        elif kind == "JournalRebuilt":
            for found in row["runs"]:
                self.rebuilt(found)
        elif kind == "PlanSubmitted":
            run = self.runs.setdefault(name, Run(row["base_commit"], row["base_commit"]))
            for each in row["plan"]["tasks"]:
                run.tasks[slug(each["id"])].claims = each.get("claims", [])
        elif kind == "RunPrepared":
            self.runs[name].prepared = True
        elif kind == "Published":
            self.runs[name].shown.add(row["commit"])
        elif kind == "Followed" and not row.get("reason"):
            self.runs[name].stands = row["commit"]
        elif row["n"] is not None and kind != "WorktreeReturned":
            yield from self.answer(row, self.runs[name])

    def rebuilt(self, found: Row) -> None:
        """Takes in what a journal that was made again knows by staging and folders alone."""
        run = self.runs.setdefault(found["run"], Run(found["base"], found["base"]))
        for each in found.get("landings", []):
            name, n = slug(each["task"]), each.get("attempt") or 0  # an undo does not say its number
            run.line[each["commit"]] = name, n or run.tasks[name].newest + 1
        attempts = [*run.line.values(), *((each["slug"], each["n"]) for each in found.get("attempts", []))]
        for name, n in attempts:
            run.tasks[name].attempts.setdefault(n, {})
            run.tasks[name].newest = max(n, run.tasks[name].newest)

    def answer(self, row: Row, run: Run) -> Broken:
        kind, n, task = row["type"], row["n"], run.tasks[row["task"]]
        if n != task.newest:
            yield "I10", f"{kind} of attempt {n} of {row['task']} was taken, {task.newest} is the newest"
        facts = task.attempts.setdefault(n, {})
        if kind in ("Collected", "Rebased"):
            facts["head"] = row["head"]
        if kind == "Collected":
            facts["work"] = row["head"] if row["commits"] else None
        if kind == "BroughtIn" or row.get("brought_in"):
            facts["pinned"] = facts.get("head")
        elif kind in ("CandidateMade", "Verified"):
            good = [suite["name"] for suite in row.get("suites", []) if suite["outcome"] == "passed"]
            if row.get("again") and facts.get("verified") == row["candidate"]:
                good += facts["passed"]  # the others ran once more on the same commit
            facts |= {"verified": row["candidate"], "passed": sorted(good)}
            if kind == "CandidateMade":
                run.made[row["candidate"]] = row["task"], n, row["onto"]
        elif kind == "WorkerExited":
            task.slot = None
        elif kind == "StagingAdvanced":
            batch, at = [(row["candidate"], row["task"], n)], row["candidate"]
            while (at := run.made.get(at, ("", 0, ""))[2]) in run.made.keys() - run.line.keys():
                batch.append((at, *run.made[at][:2]))  # verified with it, and moved over by the same step
            run.line |= {commit: (of, number) for commit, of, number in reversed(batch)}
            run.between |= {commit for commit, _, _ in batch[1:]}

    def told(self) -> Broken:
        for run, name, task in ((of, *each) for of in self.runs.values() for each in of.tasks.items()):
            if task.landed and run.line.get(task.landed, ("",))[0] != name:
                yield "I9", f"{name} is told to have landed and staging never moved there"
            mine = {commit: n for commit, (of, n) in run.line.items() if of == name}
            silent = mine.keys() & run.shown - run.undone if not task.landed else ()
            if any(not task.attempts[mine[commit]].get("undoes") for commit in silent):
                yield "I9", f"{name} landed and nobody was told"

    # --- staging (I1, I2, I3, I4, I7) ---

    def staging(self, name: str, run: Run) -> Broken:
        base, tip = self.pins.get(f"refs/bases/{name}"), self.pins.get(f"refs/heads/{name}/staging")
        if base != run.base or not tip:
            yield "I3", f"{name} begins at {base} and stands at {tip}"
            return
        own = ("--first-parent", "--reverse", f"{base}..{tip}")
        told = git(self.landing, "log", "-z", "--format=%H %P%n%B", *own).split("\0")
        line = {each.split()[0]: each.partition("\n") for each in told if each}
        for commit in run.line.keys() - line.keys():
            yield "I1", f"{run.line[commit]} landed as {commit} and is not on staging"
        under_way = {task.attempts[task.newest].get("verified") for task in run.tasks.values() if task.live}
        for commit in line.keys() - run.line.keys() - under_way:
            yield "I2", f"{commit} is on staging and the journal does not know it"
        if [each for each in line if each in run.line] != [each for each in run.line if each in line]:
            yield "I3", f"staging of {name} has another order than the journal"
        names = []
        for commit, (ids, _, text) in line.items():
            says = dict(re.findall(r"^Swarm-(Run|Task|Attempt|Verified|Undo): *(.*)$", text, re.M))
            names.append([says.get("Run"), says.get("Task"), says.get("Attempt"), "Undo" in says and commit])
            if commit in run.line:
                yield from self.landed(commit, ids.split()[2:], says, name, *run.line[commit])
        if twice := [each for each in names if names.count(each) > 1]:
            yield "I1", f"{twice} are on staging twice"
        log = self.landing / "logs" / "refs" / "heads" / name / "staging"
        steps = [each.split()[1] for each in log.read_text().splitlines()] if log.exists() else [tip]
        moves = [move for move, _ in groupby(steps)]
        if moves != [each for each in (base, *line) if each in moves] or moves[-1] != tip:
            yield "I3", f"git's log of staging of {name} has other moves than the landings"
        if stood := run.between & {*moves, *run.shown}:
            yield "I4", f"staging of {name} stood at {stood}, which was verified only with what came after"
        shown = self.users.get(f"refs/heads/swarm/{name}/staging")
        for each, task in run.tasks.items():
            if task.landed and not self.above(task.landed, shown):
                yield "I1", f"{each} is not on swarm/{name}/staging, which is at {shown}"

    def landed(self, commit: str, second: list[str], says: Row, run: str, task: str, n: int) -> Broken:
        """One commit of the line, against the attempt that the journal has for it."""
        facts, who = self.known[run, task, n], (run, task, str(n))
        if "verified" not in facts:
            return  # of before the journal was made again
        undo = facts.get("undoes") and "Undo" in says  # brings nothing in
        if not undo and (says.get("Run"), slug(says.get("Task", "")), says.get("Attempt")) != who:
            yield "I1", f"{commit} is the landing of {who} and says {says}"
        if second != ([] if undo else [facts.get("head")]):
            yield "I2", f"{who} brought in {second} and submitted {facts.get('head')}"
        passed = ", ".join(facts["passed"]) or "none"
        named = (
            sorted(says.get("Verified", "").split(", ")),
            sorted(passed.split(", ")),
        )  # in the plan's order, or sorted
        if commit != facts["verified"] or named[0] != named[1]:
            yield "I4", f"{commit} says that {says.get('Verified')} passed; verified was {facts}"
        with tempfile.TemporaryDirectory() as scratch:  # nothing is written where we look
            places = {"GIT_OBJECT_DIRECTORY": scratch}
            places["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = f"{self.landing}/objects"
            for head in second:
                within = self.attributes(f"{commit}^", Path(scratch, "files"))
                places |= {"GIT_DIR": str(self.landing), "GIT_WORK_TREE": str(within)}
                merged = git(within, "merge-tree", "--write-tree", f"{commit}^", head, env=places)
                if merged.split("\n")[0] != git(self.landing, "rev-parse", f"{commit}^{{tree}}"):
                    yield "I7", f"{commit} is not the merge of its parents"

    def attributes(self, commit: str, folder: Path) -> Path:
        """Lays out what a commit's own attribute files say, which decides how its files are merged."""
        folder.mkdir()
        for path in git(self.landing, "ls-tree", "-r", "-z", "--name-only", commit).split("\0"):
            if Path(path).name == ".gitattributes":
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                text = git(self.landing, "cat-file", "blob", f"{commit}:{path}")
                (folder / path).write_text(f"{text}\n", "utf-8", "surrogateescape")
        return folder

    def above(self, commit: str, tip: str | None) -> bool:
        return bool(tip and git(self.top, "merge-base", "--is-ancestor", commit, tip, code=True))

    # --- what lies about (I12 to I16, I18, I20) ---

    def work(self) -> Broken:
        """All finished work stands on a branch, or has landed; what was brought in is pinned; nothing of it is unknown."""
        for (run, task, n), facts in self.known.items():
            branch = self.users.get(f"refs/heads/swarm/{run}/task/{task}/{n}")
            landed = self.runs[run].tasks[task].landed
            if facts.get("work") and not landed and not self.above(facts["work"], branch):
                yield "I15", f"the work of attempt {n} of {task} is on no branch"
            pinned = self.pins.get(f"refs/attempts/{run}/{task}/{n}")
            # where staging was founded again only what was under way then was brought in once more
            again = f"refs/attempts/{run}/staging/0" in self.pins and not pinned
            if facts.get("pinned", pinned) != pinned and not again:
                yield "I15", f"attempt {n} of {task} is not pinned in the landing repository"
        pins = (re.fullmatch(r"refs/attempts/(.*)/(.*)/([1-9]\d*)", each) for each in self.pins)
        folders = (each.parts[-5:-2] for each in self.state.glob("attempts/*/*/[0-9]*/worker/identity"))
        for run, task, number in [*(each.groups() for each in pins if each), *folders]:
            if (run, task, int(number)) not in self.known:
                yield "I18", f"the journal does not know attempt {number} of {task} of {run}"

    def worktrees(self) -> Broken:
        roots = {(self.landing, self.verified_in)}
        for name, run in self.runs.items():
            records = list(self.common.glob(f"worktrees/swarm-{name}-staging-*"))
            linked = (record / "gitdir" for record in records[:1])
            place = next(
                (Path(os.path.normpath(each.read_text())).parent for each in linked),
                self.top / ".worktrees/x/y",
            )
            roots.add((self.top, Path(os.path.realpath(place.parent.parent)) / "pool"))
            stands = git(place, "rev-parse", "HEAD") if (place / ".git").exists() else "gone"
            ours = {"gone", *run.line} if run.prepared else ()  # anywhere else a person took it
            if stands != run.stands and stands in ours:
                yield "I13", f"the staging worktree of {name} is at {stands}, not at {run.stands}"
            elif any((record / "swarm-move").exists() for record in records):
                yield "I12", f"a move of the staging worktree of {name} was begun"
        held = {"", *(f"{run}/{task}/{n}" for run, task, n in self.live)}
        for repository, root in roots:
            listed = git(repository, "worktree", "list", "--porcelain").split("\n\n")
            entries = {Path(each.partition("\n")[0].removeprefix("worktree ")): each for each in listed}
            recorded = {path for path in entries if path.parent == root}
            here = {path for path in root.glob("[0-9]*") if path.is_dir()}
            leases = {root / path.stem: json.loads(path.read_text()) for path in root.glob(".pool/*.json")}
            if not recorded == here == set(leases):
                yield "I13", f"{root}: git has {len(recorded)}, on disk are {len(here)}, leases {len(leases)}"
            for path in recorded:
                if re.search(r"^(locked|prunable)", entries[path], re.M):
                    yield "I13", f"git would not use {path}: {entries[path]}"
            for path, lease in leases.items():
                if lease["key"].removeprefix("verify/") not in held and not self.keeps:
                    yield "I12", f"{path} is leased to {lease['key']}"

    def left(self) -> Broken:
        """Locks, and objects that are missing."""
        records = () if self.live else self.common.glob("worktrees/swarm-*")
        places = (self.landing, self.common / "refs", *records)
        locks = [lock for place in places for lock in place.rglob("*.lock")]
        for lock in (*locks, *self.common.glob("packed-refs.lock")):
            yield "I14", f"{lock} is left"
        for repository in (self.landing, self.top):
            if not git(repository, "fsck", "--connectivity-only", "--no-dangling", code=True):
                yield "I15", f"git fsck finds {repository} damaged"

    def processes(self) -> Broken:
        """By the environment that workers have, by where suites run, and by the locks of attempts that have ended."""
        mark = json.loads((self.state / "place.json").read_text())["mark"]
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                pairs = (entry / "environ").read_text("utf-8", "replace").split("\0")
                env, place = dict(pair.partition("=")[::2] for pair in pairs), os.readlink(entry / "cwd")
                run, task, n, nonce = (
                    env.get(f"SWARM_{name}", "") for name in ("RUN", "TASK", "ATTEMPT", "NONCE")
                )
                of = (run, slug(task), n)
                ours = nonce.startswith(mark) or place.startswith(f"{self.verified_in}/")
                if ours and of not in self.live and not (self.live and not task):
                    yield "I16", f"process {entry.name} of {of} is alive in {place}"
        for lock in self.state.glob("attempts/*/*/*/**/worker/lock"):
            if lock.relative_to(self.state / "attempts").parts[:3] not in self.live and taken(lock):
                yield "I16", f"{lock} is held"

    def foreign(self) -> Broken:
        """Refs and settings of ours in the user's repository that nothing accounts for."""
        known = {f"refs/heads/swarm/{run}/task/{task}/{n}" for run, task, n in self.known}
        saved = tuple(f"refs/heads/swarm/{run}/saved/{task}/{n}-" for run, task, n in self.known)
        for ref in self.users.keys() - known - {f"refs/heads/swarm/{run}/staging" for run in self.runs}:
            if not ref.startswith(saved) and "/unowned/saved/" not in ref:
                yield "I20", f"nobody accounts for {ref}"
        for line in git(self.top, "config", "--local", "--list").splitlines():
            if line.startswith("swarm.") or line == "core.hookspath=/dev/null":
                yield "I20", f"the user's configuration has {line}"


def begin(row: Row, task: Task) -> Broken:
    if task.live or row["n"] != task.newest + 1:
        yield "I10", f"attempt {row['n']} of {row['task']} began after {task.newest}"
    task.attempts.setdefault(row["n"], {})
    task.newest, task.live = row["n"], True


def git(where: Path, *args: str, code: bool = False, env: dict[str, str] | None = None) -> Any:
    """Runs git and gives what it said, or with `code` whether it ended well."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    clean |= {"GIT_OPTIONAL_LOCKS": "0", **(env or {})}
    done = subprocess.run(["git", *args], cwd=where, env=clean, capture_output=True, check=False)
    return done.returncode == 0 if code else done.stdout.decode("utf-8", "surrogateescape").strip("\n")


def refs(where: Path, *prefixes: str) -> dict[str, str]:
    lines = git(where, "for-each-ref", "--format=%(refname) %(objectname)", *prefixes).splitlines()
    return dict(line.split(" ", 1) for line in lines)


def slug(text: str) -> str:
    """The public rule for names in refs (contract, section 1): what is plain stays, the rest gets a short hash."""
    plain = re.sub(r"[^a-z0-9]+", "-", unicodedata.normalize("NFKC", text).lower()).strip("-")[:60].strip("-")
    return text if plain == text else f"{plain or 'x'}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def meet(some: list[Row], others: list[Row]) -> bool:
    """Whether two lists of claims touch where one of the two is exclusive; of two patterns, where one covers the other's text."""
    both = [(a, b) for a in some for b in others if (a.get("mode"), b.get("mode")) != ("shared", "shared")]
    return any(covers(a["path"], b["path"]) or covers(b["path"], a["path"]) for a, b in both)


def covers(claim: str, path: str) -> bool:
    parts = re.escape(claim.casefold()).replace(r"\*\*", ".*").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return re.fullmatch(f"{parts}(/.*)?", path.casefold()) is not None


def taken(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


if __name__ == "__main__":
    broken = list(Checker(Path(sys.argv[1]).resolve()).check())
    print("".join(f"{number}: {text}\n" for number, text in broken), end="")
    sys.exit(1 if broken else 0)

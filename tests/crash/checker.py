"""A second opinion on the invariants, written apart from `swarm audit`: git, SQL and /proc only, and nothing of the package.

    python tests/crash/checker.py REPO [--before SNAPSHOT.json]      says what is broken; exit 1 where anything is
    python tests/crash/checker.py --snapshot REPO > SNAPSHOT.json    what of the user's nobody may change (I20)

For a repository at rest: no daemon, nothing being done. It goes by what is public (facts and events, trailers, refs, what workers
have in their environment) and in the plainest way; docs/explanation/invariants.md says what each number means. It sees neither I5
nor I19, which are for those who run suites and wait.

Rules for editing: nothing is imported from swarm, nothing is taken over from its code, and all of it can be read in one go.
"""

from __future__ import annotations

import fcntl
import fnmatch
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
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[str, str]  # run, task


class Checker:
    """One repository, looked at once; `broken` are the numbers of invariants, each with a sentence."""

    def __init__(self, repo: Path) -> None:
        self.top = repo
        self.common = Path(git(repo, "rev-parse", "--path-format=absolute", "--git-common-dir"))
        self.state = self.common / "swarm"
        self.landing = self.state / "landing.git"
        self.broken: list[tuple[str, str]] = []
        self.runs: dict[str, Row] = {}
        self.attempts: dict[tuple[str, str, int], Row] = defaultdict(dict)
        self.newest: dict[Key, int] = {}
        self.live: set[Key] = set()
        self.working: dict[Key, Any] = {}  # to its slot
        self.over: set[Key] = set()
        self.landed: dict[Key, str] = {}
        self.undone: set[str] = set()
        self.width = 0
        self.recorded = str(repo)  # the checkout that the daemon worked beside

    def no(self, number: str, text: str) -> None:
        self.broken.append((number, text))

    def check(self, before: Row | None = None) -> list[tuple[str, str]]:
        """Gives everything that is broken."""
        begun = [self.landing, self.state / "journal.sqlite", self.state / "transcript"]
        if any(path.exists() for path in begun):  # else no daemon ever came up
            for row in self.journal():
                (self.event if row["kind"] == "event" else self.fact)(row)
            self.there = refs(self.landing)
            self.users = refs(self.top, "refs/heads/swarm/", "refs/attempts/", "refs/bases/")
            for run in [name for name, facts in self.runs.items() if "worktree" in facts]:
                self.line(run)
                self.staging_worktree(run)
            for look in (
                self.told,
                self.work,
                self.worktrees,
                self.locks,
                self.objects,
                self.processes,
                self.foreign,
            ):
                look()
        now = snapshot(self.top) if before is not None else {}
        for key in before or ():
            if before is not None and before[key] != now[key]:
                self.no("I20", f"{key} of the user's changed")
        return self.broken

    # --- the journal (I8, I9, I10, I11, I17, I18) ---

    def journal(self) -> list[Row]:
        try:
            with sqlite3.connect(f"file:{self.state / 'journal.sqlite'}?mode=ro", uri=True) as base:
                if (said := base.execute("PRAGMA quick_check").fetchone()) != ("ok",):
                    self.no("I18", f"SQLite says {said}")
                rows = base.execute("SELECT * FROM journal ORDER BY seq").fetchall()
                (promised,) = base.execute("SELECT seq FROM head").fetchone()
        except (sqlite3.Error, TypeError) as error:
            self.no("I18", f"the journal can't be read: {error}")
            return []
        found, checksum = [], 0
        for number, (*columns, stored) in enumerate(rows, 1):
            checksum = zlib.crc32("\x1f".join(map(str, columns)).encode(), checksum)
            if columns[0] != number or checksum != stored:
                self.no("I18", f"record {number} is missing or changed")
                break
            _, kind, _, name, run, task, attempt, data = columns
            found.append(
                {**json.loads(data), "kind": kind, "type": name, "run": run, "task": task, "n": attempt}
            )
        if promised != len(rows):
            self.no("I18", f"{promised} records were promised, {len(rows)} are there")
        return found

    def fact(self, row: Row) -> None:
        key, kind = (row["run"], row["task"]), row["type"]
        if kind == "TaskStarted":
            self.start(row, key)
        elif kind == "UndoBegun" or (kind == "TaskQueued" and row["n"] != self.newest.get(key)):
            self.number(row, key)  # no worker: a landing is undone, or a person's commits are brought in
            work = row.get("head")
            self.attempts[*key, row["n"]].update(head=work, work=work, undoes=kind == "UndoBegun")
        elif kind in ("TaskLanded", "TaskHandedBack", "TaskFailed", "TaskCancelled", "UndoRefused"):
            self.live.discard(key)
            self.working.pop(key, None)
            if kind not in ("TaskHandedBack", "UndoRefused") and key in self.newest:
                self.over.add(key)
            if kind == "TaskLanded":
                self.landed[key] = row["commit"]
            elif kind == "TaskCancelled":
                self.undone.add(self.landed.pop(key, ""))
        elif kind == "TaskRetried":
            self.over.discard(key)
        elif kind == "RunDiscarded":
            self.forget(row["run"])

    def forget(self, run: str) -> None:
        """Nothing of a discarded run may be left, and its id may be used again."""
        tables: list[dict[Any, Any]] = [self.attempts, self.newest, self.working, self.landed]
        for known in tables:
            for key in [key for key in known if key[0] == run]:
                del known[key]
        for some in (self.live, self.over):
            some.difference_update([key for key in some if key[0] == run])
        del self.runs[run]

    def start(self, row: Row, key: Key) -> None:
        run, task = key
        name, claims = f"attempt {row['n']} of {task}", self.runs[run]["claims"]
        if key in self.over:
            self.no("I8", f"{name} started after the task had ended")
        for other in (other for of, other in self.live if of == run and other != task):
            if meet(claims.get(task, []), claims.get(other, [])):
                self.no("I11", f"{name} started while {other} held what it claims")
        self.working[key] = row["slot"]
        slots = sorted(self.working.values())
        if len(slots) > self.width or len(set(slots)) < len(slots):
            self.no("I17", f"{name} started as number {len(slots)} of {self.width}, slots {slots}")
        self.number(row, key)

    def number(self, row: Row, key: Key) -> None:
        last = max(self.newest.get(key, 0), self.newest.get((key[0], slug(key[1])), 0))
        if key in self.live or row["n"] != last + 1:
            self.no("I10", f"attempt {row['n']} of {key} began after {last}")
        self.newest[key] = row["n"]
        self.live.add(key)

    def event(self, row: Row) -> None:
        kind, run = row["type"], row["run"]
        if kind in ("DaemonStarted", "LimitsChanged"):
            self.width = row.get("limits", row)["workers_max"]
            self.move(row.get("top"))
        elif kind == "PlanSubmitted":
            claims = {task["id"]: task.get("claims", []) for task in row["plan"]["tasks"]}
            self.begin(run, row["base_commit"])["claims"].update(claims)
        elif kind == "JournalRebuilt":
            for found in row["runs"]:
                self.begin(found["run"], found["base"])
                self.found(found)
        elif kind == "RunPrepared":
            self.runs[run]["worktree"] = Path(row["worktree"])
        elif kind == "Published":
            self.runs[run]["shown"].add(row["commit"])
        elif kind == "Followed" and not row.get("reason"):
            self.runs[run]["stands"] = row["commit"]
        elif row["n"] is not None and kind != "WorktreeReturned":
            self.answer(row, (run, row["task"]))

    def move(self, top: str | None) -> None:
        """What was recorded below a checkout that was moved is where it is now."""
        for facts in self.runs.values() if top else ():
            if "worktree" in facts and facts["worktree"].is_relative_to(self.recorded):
                facts["worktree"] = Path(str(top)) / facts["worktree"].relative_to(self.recorded)
        self.recorded = top or self.recorded

    def begin(self, run: str, base: str) -> Row:
        new = {"base": base, "stands": base, "line": [], "shown": set(), "claims": {}}
        return self.runs.setdefault(run, new)

    def found(self, found: Row) -> None:
        """What a rebuilt journal knows by staging, refs and folders alone; attempts are told by the slugs of their tasks."""
        run = found["run"]
        for each in found.get("landings", []):
            key = (run, each["task"])
            n = each.get("attempt") or self.newest.get(key, 0) + 1  # an undo does not say its number
            self.newest[key] = max(n, self.newest.get(key, 0))
            self.working.pop(key, None)
            self.live.add(key)
            facts = {"head": each.get("head"), "candidate": each["commit"], "verified": each["commit"]}
            undoes = bool(each.get("undoes"))
            self.attempts[*key, n].update(facts, passed=sorted(each.get("verified", [])), undoes=undoes)
            self.runs[run]["line"].append((each["task"], n, each["commit"]))
        for each in found.get("attempts", []):
            key = (run, each["slug"])
            self.newest[key] = max(each["n"], self.newest.get(key, 0))
            _ = self.attempts[*key, each["n"]]  # known from now on, and that is all

    def answer(self, row: Row, key: Key) -> None:
        kind, facts = row["type"], self.attempts[*key, row["n"]]
        if row["n"] != self.newest.get(key):
            self.no(
                "I10",
                f"{kind} of attempt {row['n']} of {key} was taken, {self.newest.get(key)} is the newest",
            )
        if kind == "WorkerExited":
            self.working.pop(key, None)
        elif kind == "Collected":
            facts.update(head=row["head"], work=row["head"] if row["commits"] else None)
        elif kind == "Rebased":
            facts["head"] = row["head"]
        elif kind == "BroughtIn":
            facts["pinned"] = facts["head"]
        elif kind == "CandidateMade":
            facts.update(candidate=row["candidate"], passed=[], verified=row["candidate"])
        elif kind == "Verified":
            good = [suite["name"] for suite in row.get("suites", []) if suite["outcome"] == "passed"]
            facts.update(passed=sorted(good), verified=row["candidate"])
        elif kind == "StagingAdvanced":
            self.runs[key[0]]["line"].append((key[1], row["n"], row["candidate"]))

    def told(self) -> None:
        """Who is told to have landed did, and who did and was published is told of."""
        for (run, task), commit in self.landed.items():
            if commit not in [each for name, _, each in self.runs[run]["line"] if name == task]:
                self.no("I9", f"{task} is told to have landed and staging never moved there")
        for run, facts in self.runs.items():
            for task, n, commit in facts["line"]:
                known = commit in self.undone or self.attempts[run, task, n].get("undoes")
                if commit in facts["shown"] and (run, task) not in self.landed and not known:
                    self.no("I9", f"{task} landed and nobody was told")

    # --- staging (I1, I2, I3, I4, I6, I7) ---

    def line(self, run: str) -> None:
        line, base, tip = (
            self.runs[run]["line"],
            self.there.get(f"refs/bases/{run}"),
            self.there.get(f"refs/heads/{run}/staging"),
        )
        if base != self.runs[run]["base"] or not tip:
            self.no("I3", f"{run} begins at {base} and stands at {tip}")
            return
        walk = git(
            self.landing, "rev-list", "--first-parent", "--parents", "--reverse", f"{base}..{tip}"
        ).splitlines()
        commits = {commit: parents for commit, *parents in map(str.split, walk)}
        told = {commit: (task, n) for task, n, commit in line}
        under_way = {self.attempts[*key, self.newest[key]].get("candidate") for key in self.live}
        for commit in told.keys() - commits.keys():
            self.no("I1", f"{told[commit]} landed as {commit} and is not on staging")
        for commit in commits.keys() - told.keys() - under_way:
            self.no("I2", f"{commit} is on staging and the journal does not know it")
        if [each for each in commits if each in told] != [each for each in told if each in commits]:
            self.no("I3", f"staging of {run} has another order than the journal")
        names = [
            self.landing_commit(run, commit, parents, told.get(commit)) for commit, parents in commits.items()
        ]
        for name in {name for name in names if names.count(name) > 1}:
            self.no("I1", f"{name} is on staging twice")
        self.log(run, [str(base), *commits], tip)
        shown = self.users.get(f"refs/heads/swarm/{run}/staging", "")
        for (of, task), commit in self.landed.items():
            if of == run and not self.above(commit, shown):
                self.no("I1", f"{task} is not on swarm/{run}/staging, which is at {shown or 'nothing'}")

    def above(self, commit: str, tip: str) -> bool:
        return bool(tip) and git(self.top, "merge-base", "--is-ancestor", commit, tip, code=True)

    def landing_commit(self, run: str, commit: str, parents: list[str], told: tuple[str, int] | None) -> Any:
        """Checks one commit of the line; gives the attempt that it says it is."""
        message = git(self.landing, "log", "-1", "--format=%B", commit)
        says = dict(re.findall(r"^Swarm-(Run|Task|Attempt|Verified): *(.*)$", message, re.M))
        name = (says.get("Run"), says.get("Task"), says.get("Attempt"))
        if told is None:
            return name
        facts = self.attempts[run, *told]
        undo = (
            facts.get("undoes") and "\nSwarm-Undo: " in message
        )  # names what it takes off, brings nothing in
        if not undo and name != (run, told[0], str(told[1])):
            self.no("I1", f"{commit} is the landing of {told} and says {name}")
        if parents[1:] != ([] if undo else [facts.get("head")]):
            self.no("I2", f"{told} brought in {parents[1:]} and submitted {facts.get('head')}")
        if commit != facts.get("candidate") or commit != facts.get("verified"):
            self.no("I4", f"{commit} is not what was verified for {told}")
        if sorted(says.get("Verified", "").split(", ")) != (facts.get("passed") or ["none"]):
            self.no("I4", f"{commit} says that {says.get('Verified')} passed, and {facts.get('passed')} did")
        if len(parents) == 2:
            self.merge(commit, *parents)
        return commit if undo else name

    def merge(self, commit: str, first: str, second: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:  # nothing is written where we look
            env = {
                "GIT_OBJECT_DIRECTORY": scratch,
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self.landing / "objects"),
            }
            merged = git(self.landing, "merge-tree", "--write-tree", first, second, env=env).split("\n")[0]
        if merged != git(self.landing, "rev-parse", f"{commit}^{{tree}}"):
            self.no("I7", f"{commit} is not the merge of its parents")
        fork = git(self.landing, "merge-base", first, second)
        foreign = self.paths(first, commit) - self.paths(fork, second)
        if foreign - self.paths(fork, first, "-M", "--diff-filter=R"):
            self.no("I6", f"{commit} changes {sorted(foreign)[:5]}, which its attempt did not")

    def paths(self, old: str, new: str, *how: str) -> set[str]:
        return set(git(self.landing, "diff-tree", "-r", "--name-only", *how, old, new).splitlines())

    def log(self, run: str, line: list[str], tip: str) -> None:
        path = self.landing / "logs" / "refs" / "heads" / run / "staging"
        moves = [each.split()[1] for each in path.read_text().splitlines()] if path.exists() else []
        steps = [move for at, move in enumerate(moves) if at == 0 or move != moves[at - 1]]
        if moves and (steps != [commit for commit in line if commit in steps] or steps[-1] != tip):
            self.no("I3", f"git's log of staging of {run} has other moves than the landings")

    # --- what lies about (I12 to I16, I20) ---

    def work(self) -> None:
        """All finished work stands on a branch, or has landed; what was brought in is pinned; nothing of it is unknown."""
        pins = {
            f"refs/attempts/{run}/{slug(task)}/{n}": facts for (run, task, n), facts in self.attempts.items()
        }
        for (run, task, n), facts in self.attempts.items():
            branch = self.users.get(f"refs/heads/swarm/{run}/task/{slug(task)}/{n}", "")
            if facts.get("work") and (run, task) not in self.landed and not self.above(facts["work"], branch):
                self.no("I15", f"the work of attempt {n} of {task} is on no branch")
        for pin, facts in pins.items():
            # where staging was founded again only what was under way then was brought in once more
            again = f"{pin.rsplit('/', 2)[0]}/staging/0" in self.there and pin not in self.there
            if "pinned" in facts and self.there.get(pin) != facts["pinned"] and not again:
                self.no("I15", f"{pin} is not in the landing repository")
        for ref in self.there:
            if (
                ref.startswith("refs/attempts/")
                and ref not in pins
                and not ref.startswith("refs/attempts/finish/")
                and not ref.endswith("/staging/0")  # no attempt: what staging was founded again from
            ):
                self.no("I18", f"the journal does not know {ref}")
        for (run, task), last in self.newest.items():
            for each in (self.state / "attempts" / run / slug(task)).glob("[0-9]*/worker/identity"):
                if int(each.parts[-3]) > last:
                    self.no("I18", f"the journal does not know the worker of {each}")

    def worktrees(self) -> None:
        working = {"", *(f"{run}/{task}/{self.newest[run, task]}" for run, task in self.live)}
        roots = {facts["worktree"].parent.parent for facts in self.runs.values() if "worktree" in facts}
        pools = [(self.top, root / "pool") for root in sorted(roots)]
        for repository, root in [*pools, (self.landing, self.state / "scratch")]:
            listed = re.findall(r"^worktree (.*)$", git(repository, "worktree", "list", "--porcelain"), re.M)
            recorded = {Path(path) for path in listed if Path(path).parent == root}
            here = {path for path in root.glob("[0-9]*") if path.is_dir()}
            leases = {root / path.stem: json.loads(path.read_text()) for path in root.glob(".pool/*.json")}
            if not recorded == here == set(leases):
                self.no(
                    "I13", f"{root}: git has {len(recorded)}, on disk are {len(here)}, leases {len(leases)}"
                )
            for path, lease in leases.items():
                if lease["key"].removeprefix("verify/") not in working:
                    self.no("I12", f"{path} is leased to {lease['key']}")

    def staging_worktree(self, run: str) -> None:
        path, wanted = self.runs[run]["worktree"], self.runs[run]["stands"]
        stands = git(path, "rev-parse", "HEAD") if (path / ".git").exists() else "gone"
        landings = [
            "gone",
            *(commit for _, _, commit in self.runs[run]["line"]),
        ]  # anywhere else a person took it
        if stands != wanted and stands in landings:
            self.no("I13", f"the staging worktree of {run} is at {stands}, not at {wanted}")
        elif list(self.common.glob(f"worktrees/swarm-{run}-staging-*/swarm-move")):
            self.no("I12", f"a move of the staging worktree of {run} was begun")

    def locks(self) -> None:
        places = [
            self.landing,
            self.common / "refs",
            *([] if self.live else self.common.glob("worktrees/swarm-*")),
        ]
        for path in [
            *self.common.glob("packed-refs.lock"),
            *(lock for each in places for lock in each.rglob("*.lock")),
        ]:
            self.no("I14", f"{path} is left")

    def objects(self) -> None:
        for repository in (self.landing, self.top):
            if not git(repository, "fsck", "--connectivity-only", "--no-dangling", code=True):
                self.no("I15", f"git fsck finds {repository} damaged")

    def processes(self) -> None:
        """By the environment that workers have, by where suites run, and by the locks of attempts that have ended."""
        working = {(run, task, str(self.newest[run, task])) for run, task in self.live}
        mark = json.loads((self.state / "place.json").read_text())["mark"]
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                pairs = (entry / "environ").read_bytes().decode("utf-8", "replace").split("\0")
                place = os.readlink(entry / "cwd")
            except OSError:
                continue
            env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            of = (env.get("SWARM_RUN"), env.get("SWARM_TASK"), env.get("SWARM_ATTEMPT"))
            ours = env.get("SWARM_NONCE", "").startswith(mark) or place.startswith(f"{self.state}/scratch/")
            if ours and of not in working and not (of[1] is None and self.live):
                self.no("I16", f"process {entry.name} of {of} is alive in {place}")
        busy = {(run, slug(task), n) for run, task, n in working}
        for lock in self.state.glob("attempts/**/worker/lock"):
            if lock.relative_to(self.state / "attempts").parts[:3] not in busy and taken(lock):
                self.no("I16", f"{lock} is held")

    def foreign(self) -> None:
        """Refs and settings of ours in the user's repository that nothing accounts for."""
        numbers = [
            (run, slug(task), n) for (run, task), last in self.newest.items() for n in range(1, last + 1)
        ]
        known = {f"refs/heads/swarm/{run}/task/{name}/{n}" for run, name, n in numbers}
        saved = {f"refs/heads/swarm/{run}/saved/{name}/{n}-" for run, name, n in numbers}
        for ref in self.users.keys() - known - {f"refs/heads/swarm/{run}/staging" for run in self.runs}:
            if ref.rstrip("0123456789") not in saved and "/unowned/saved/" not in ref:
                self.no("I20", f"nobody accounts for {ref}")
        for line in git(self.top, "config", "--local", "--list").splitlines():
            if line.startswith("swarm.") or line == "core.hookspath=/dev/null":
                self.no("I20", f"the user's configuration has {line}")


# --- small things ---


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
    return (
        text if plain and plain == text else f"{plain or 'x'}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    )


def meet(some: list[Row], others: list[Row]) -> bool:
    """Whether two lists of claims touch where one of the two is exclusive."""
    both = ((a, b) for a in some for b in others if (a.get("mode"), b.get("mode")) != ("shared", "shared"))
    return any(_meet(a["path"].casefold().split("/"), b["path"].casefold().split("/")) for a, b in both)


def _meet(a: list[str], b: list[str]) -> bool:
    if not a or not b:
        return True  # a folder has all below it
    if a[0] == "**":
        return _meet(a[1:], b) or _meet(a, b[1:])
    if b[0] == "**":
        return _meet(b, a)
    wild = "*" in a[0] and "*" in b[0]
    return (wild or fnmatch.fnmatch(a[0], b[0]) or fnmatch.fnmatch(b[0], a[0])) and _meet(a[1:], b[1:])


def taken(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def snapshot(repo: Path) -> Row:
    """Everything of the user's that nobody may change: files, HEAD, index, refs, stash, hooks and settings; as plain JSON data."""
    own = Path(git(repo, "rev-parse", "--absolute-git-dir"))
    common = Path(git(repo, "rev-parse", "--path-format=absolute", "--git-common-dir"))
    files = {}
    for folder, names, inside in os.walk(repo):
        names[:] = [name for name in names if name not in (".git", ".worktrees")]
        for path in (Path(folder, name) for name in (*inside, *names)):
            if path.is_symlink() or path.is_file():
                content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
                files[str(path.relative_to(repo))] = [
                    path.lstat().st_mode,
                    hashlib.sha256(content).hexdigest(),
                ]
    kept = [
        own / "HEAD",
        own / "index",
        own / "config.worktree",
        common / "config",
        common / "info" / "exclude",
    ]
    kept += [common / "logs" / "refs" / "stash", *sorted((common / "hooks").glob("*"))]
    return {
        "files": files,
        "refs": {name: oid for name, oid in refs(repo).items() if not name.startswith("refs/heads/swarm/")},
        "settings": {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept if path.is_file()
        },
    }


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--snapshot"]:
        print(json.dumps(snapshot(Path(arguments[1]).resolve())))
        return 0
    before = json.loads(Path(arguments[2]).read_text()) if arguments[1:2] == ["--before"] else None
    broken = Checker(Path(arguments[0]).resolve()).check(before)
    for number, text in broken:
        print(f"{number}: {text}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What must be true after the last fault, seen by git, by the journal's events, by what workers wrote, and by looking at the disk.

Nothing of the package is imported. Each function gives sentences about what is wrong; none is right.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conftest import git
from tests.e2e.driver import Swarm, common_dir, lock_files, snapshot

_TEMPORARY = re.compile(r"(\.[0-9a-f]{8}|\.tmp|\.new|\.saving)$")


def broken(swarm: Swarm, run: dict[str, Any]) -> list[str]:
    """Checks everything that does not depend on the plan; the daemon is stopped."""
    found = [
        *_landed_once(swarm, run),
        *_nothing_twice(swarm),
        *_work_is_kept(swarm, run),
        *_nothing_left(swarm),
        *_worktrees(swarm),
        *_staging_worktree(swarm, run),
        *_journal(swarm),
    ]
    if snapshot(swarm.top) != swarm.before:
        now = snapshot(swarm.top)
        changed = [key for key, value in swarm.before.items() if now[key] != value]
        found.append(f"I20: of the user's own things changed: {', '.join(changed)}")
    return found


def _landed_once(swarm: Swarm, run: dict[str, Any]) -> Iterator[str]:
    """Every landed task is on staging exactly once, with the commit that its attempt made, and nothing else is."""
    name, base = run["id"], run["base"]["commit"]
    said = sorted(task["id"] for task in run["tasks"] if task["state"] == "landed")
    chain = git(
        swarm.top, "log", "--first-parent", "--format=%H %P %(trailers:key=Swarm-Task,valueonly,separator=)",
        f"{base}..refs/heads/swarm/{name}/staging", check=False,
    )  # fmt: skip
    landings = [line.split(" ", 3) for line in chain.splitlines()]
    if sorted(fields[3] for fields in landings) != said:
        yield f"I1: landed {said}, on staging {sorted(fields[3] for fields in landings)}"
    by_commit = {fields[0]: fields for fields in landings}
    for task in run["tasks"]:
        if task["state"] != "landed":
            continue
        fields = by_commit.get(task["landed_commit"])
        heads = [attempt["head"] for attempt in task["attempts"] if attempt["state"] == "landed"]
        if fields is None or len(heads) != 1:
            yield f"I1: {task['id']} says it landed as {task['landed_commit']}, attempts {heads}"
    truth = git(common_dir(swarm.top) / "swarm" / "landing.git", "rev-parse", f"refs/heads/{name}/staging")
    if truth != git(swarm.top, "rev-parse", f"refs/heads/swarm/{name}/staging"):
        yield "I3: staging in the user's repository is not the true one"


def _nothing_twice(swarm: Swarm) -> Iterator[str]:
    lines = [line.split("\t") for line in swarm.log.read_text("utf-8").splitlines()]
    started = Counter((line[1], line[2]) for line in lines if line[3] == "start")
    for (task, attempt), times in started.items():
        if times > 1:
            yield f"I10: attempt {attempt} of {task} ran {times} times"


def _work_is_kept(swarm: Swarm, run: dict[str, Any]) -> Iterator[str]:
    """Every commit that an attempt is known to have made is on a branch, landed or not."""
    for task in run["tasks"]:
        for attempt in task["attempts"]:
            head = attempt["head"]
            if head is None or head == attempt["base"]:
                continue
            if git(swarm.top, "rev-parse", f"refs/heads/{attempt['branch']}", check=False) != head:
                yield f"work of {task['id']} attempt {attempt['n']} ({head[:12]}) is not on {attempt['branch']}"


def _nothing_left(swarm: Swarm) -> Iterator[str]:
    for line in swarm.left_running():
        yield f"I16: still runs: {line}"
    common = common_dir(swarm.top)
    for path in lock_files(common):
        yield f"I14: lock file left: {path}"
    for name in ("api.sock", "daemon.json"):
        if (common / "swarm" / name).exists():
            yield f"{name} is left"
    for folder in (common / "swarm" / "linking",):
        for path in folder.glob("*"):
            yield f"I13: left from making or removing a worktree: {path}"
    for path in (common / "swarm").glob("*"):
        if _TEMPORARY.search(path.name):
            yield f"temporary file left: {path}"
    for repository in (swarm.top, common / "swarm" / "landing.git"):
        said = git(repository, "fsck", "--connectivity-only", "--no-dangling", check=False)
        if "missing" in said or "broken" in said or "error" in said:
            yield f"I15: fsck of {repository}: {said[:300]}"


def _worktrees(swarm: Swarm) -> Iterator[str]:
    """Worktrees on disk, git's records and the pool's leases are the same, nothing is leased, no record is locked or lost."""
    common = common_dir(swarm.top)
    pools = (
        (swarm.top, swarm.top / ".worktrees" / "pool"),
        (common / "swarm" / "landing.git", common / "swarm" / "scratch"),
    )
    for repository, root in pools:
        shown = git(repository, "worktree", "list", "--porcelain").split("\n\n")
        entries = [dict(_fields(entry)) for entry in shown if entry.strip()]
        for entry in entries:
            if "locked" in entry or "prunable" in entry:
                yield f"I13: {entry}"
        known = {Path(entry["worktree"]) for entry in entries if Path(entry["worktree"]).parent == root}
        if not root.exists():
            continue
        there = {path for path in root.iterdir() if path.name.isdigit()}
        leases = {root / path.stem: json.loads(path.read_text()) for path in (root / ".pool").glob("*.json")}
        if not known == there == set(leases):
            yield f"I13: git knows {_names(known)}, on disk {_names(there)}, leases for {_names(leases)}"
        for path, lease in leases.items():
            if lease["key"]:
                yield f"I12: {path} is still leased to {lease['key']!r}"
        for path in (root / ".pool").iterdir():
            if _TEMPORARY.search(path.name):
                yield f"temporary file left: {path}"
        if (root / ".trash").exists() and any((root / ".trash").iterdir()):
            yield f"{root / '.trash'} is not empty"


def _fields(entry: str) -> Iterator[tuple[str, str]]:
    for line in entry.splitlines():
        key, _, value = line.partition(" ")
        yield key, value


def _names(paths: Any) -> str:
    return ", ".join(sorted(path.name for path in paths)) or "none"


def _staging_worktree(swarm: Swarm, run: dict[str, Any]) -> Iterator[str]:
    worktree = Path(run["staging"]["worktree"])
    if git(worktree, "rev-parse", "HEAD", check=False) != git(
        swarm.top, "rev-parse", f"refs/heads/swarm/{run['id']}/staging", check=False
    ):
        yield "I13: the staging worktree does not stand at staging"
    dirt = git(worktree, "status", "--porcelain", check=False)
    if dirt:
        yield f"I13: the staging worktree is dirty: {dirt[:200]}"


def _journal(swarm: Swarm) -> Iterator[str]:
    events = swarm.events()
    numbers = [event["seq"] for event in events]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "I8: the journal has gaps"
    landed = Counter((event["run"], event["task"]) for event in events if event["type"] == "TaskLanded")
    for key, times in landed.items():
        if times > 1:
            yield f"I8: {key} landed {times} times"

"""What must be true after the last fault: what `swarm audit` says, what the independent checker says, and what neither can see.

That is what workers wrote themselves (no attempt ran twice), what was left lying (temporary files, trash, leases, processes,
sockets), and the user's checkout file by file. Each function gives sentences about what is wrong; none is right.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.conftest import git
from tests.crash.checker import Checker
from tests.e2e.driver import Swarm, common_dir, snapshot

_TEMPORARY = re.compile(r"(\.[0-9a-f]{8}|\.tmp|\.new|\.saving)$|^\.(config|shallow)-")


def broken(swarm: Swarm) -> list[str]:
    """Checks everything that does not depend on the plan; the daemon is stopped."""
    found = [*_nothing_twice(swarm), *_nothing_left(swarm), *_worktrees(swarm)]
    found += [f"{number}: {text} (checker)" for number, text in Checker(swarm.top).check()]
    audit = swarm("audit", code=None, timeout_s=300)
    if audit.code != 0:
        found.append(f"swarm audit: {(audit.out + audit.err)[-1500:]}")
    now = snapshot(swarm.top)
    changed = [key for key, value in swarm.before.items() if now[key] != value]
    if changed:
        found.append(f"I20: of the user's own things changed: {', '.join(changed)}")
    return found


def _nothing_twice(swarm: Swarm) -> Iterator[str]:
    lines = [line.split("\t") for line in swarm.log.read_text("utf-8").splitlines()]
    started = Counter((line[1], line[2]) for line in lines if line[3] == "start")
    for (task, attempt), times in started.items():
        if times > 1:
            yield f"I10: attempt {attempt} of {task} ran {times} times"


def _nothing_left(swarm: Swarm) -> Iterator[str]:
    for line in swarm.left_running():
        yield f"I16: still runs: {line}"
    state = common_dir(swarm.top) / "swarm"
    for name in ("api.sock", "daemon.json"):
        if (state / name).exists():
            yield f"{name} is left"
    for path in (state / "linking").glob("*"):
        yield f"I13: left from making or removing a worktree: {path}"
    for folder in (
        state,
        state / "landing.git",
        swarm.top / ".worktrees" / "pool" / ".pool",
        state / "scratch" / ".pool",
    ):
        for path in folder.glob("*"):
            if _TEMPORARY.search(path.name):
                yield f"temporary file left: {path}"


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
        if (root / ".trash").exists() and any((root / ".trash").iterdir()):
            yield f"{root / '.trash'} is not empty"


def _fields(entry: str) -> Iterator[tuple[str, str]]:
    for line in entry.splitlines():
        key, _, value = line.partition(" ")
        yield key, value


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(sorted(path.name for path in paths)) or "none"

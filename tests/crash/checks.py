"""What must be true after the last fault: what `swarm audit` says, what the independent checker says, and what neither can see.

That is what workers wrote themselves (no attempt ran twice), what was left lying (temporary files, trash, processes, sockets), and
the user's checkout file by file. Each function gives sentences about what is wrong; none is right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tests.crash.checker import Checker
from tests.e2e.driver import Swarm, common_dir, snapshot, verified_in

_TEMPORARY = re.compile(r"(\.[0-9a-f]{8}|\.tmp|\.new|\.saving)$|^\.(config|shallow)-")


def broken(swarm: Swarm) -> list[str]:
    """Checks everything that does not depend on the plan; the daemon is stopped."""
    found = [*_nothing_twice(swarm), *_nothing_left(swarm)]
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
    pools = (swarm.top / ".worktrees" / "pool", verified_in(swarm.top))
    for folder in (state, state / "landing.git", *(pool / ".pool" for pool in pools)):
        for path in folder.glob("*"):
            if _TEMPORARY.search(path.name):
                yield f"temporary file left: {path}"
    for pool in pools:
        for path in (pool / ".trash").glob("*"):
            yield f"left in the trash: {path}"

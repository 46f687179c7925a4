"""The user's deploy command: run once for each commit that a finish left on the target, its output and exit status kept.

Hides that it is a process like a worker: one whose `swarm finish` was killed goes on, and the next one waits for it instead of
running it twice. One that failed runs again. Rules for editing: what it does is the user's; nothing is retried by itself.
"""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from swarm.edge import contract, process

_GRACE_S = 5.0


class Deployed(NamedTuple):
    """How it ended: `exit_code` is None where its time was over or nobody can say; `ran` is false if it had succeeded before."""

    exit_code: int | None
    log: Path
    ran: bool


def deploy(folder: Path, command: str, *, top: Path, facts: Mapping[str, str], timeout_s: float) -> Deployed:
    """Runs `command` in a shell at `top` with `facts` in its environment, unless it has succeeded in this folder before.

    Ctrl-C and the end of its time end it with all it has started. Raises `SwarmError` where no process can be made.
    """
    worker, log = folder / "worker", folder / "output.log"
    known = process.started(worker)
    if known is not None and not process.alive(known):
        ended = process.exit_of(worker)
        if ended is not None and ended.code == 0:
            return Deployed(0, log, ran=False)
        shutil.rmtree(folder)
    nonce = f"deploy-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:20]}"
    base = {name: value for name, value in os.environ.items() if contract.is_for_others(name)}
    folder.mkdir(parents=True, exist_ok=True)
    identity = process.start(
        worker, ("/bin/sh", "-c", command), cwd=top, env={**base, **facts}, nonce=nonce, output=log
    )
    in_time = False
    try:
        in_time = _wait(identity, timeout_s)
    finally:
        if not in_time:
            process.end_tree(identity, nonce, folder=worker, grace_s=_GRACE_S)
    process.reap(identity)
    ended = process.exit_of(worker) if in_time else None
    return Deployed(ended.code if ended is not None else None, log, ran=True)


def _wait(identity: process.Identity, timeout_s: float) -> bool:
    """Waits for the end of a process; tells whether it came in time, of which one that was begun earlier has had some."""
    handle = process.exit_handle(identity)
    if handle is None:
        return True
    try:
        waiter = select.poll()
        waiter.register(handle, select.POLLIN)
        end = time.monotonic() + max(0.0, timeout_s - process.age_s(identity))
        return bool(waiter.poll(max(0.0, end - time.monotonic()) * 1000))
    finally:
        os.close(handle)

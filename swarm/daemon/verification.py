"""Runs suites on exactly one commit, in a scratch worktree of the landing repository.

A suite is a process like a worker: started through the launcher, known by its folder, so that after a crash of the daemon
the same suites on the same commit are waited for, or their result is read, instead of running twice.

Rules for editing: the worktree is prepared only when none of the candidate's suites lives in it. Nothing is decided: the
outcomes go back as they are.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from swarm.core.model import Suite, SuiteResult
from swarm.core.places import AttemptPlaces, Places
from swarm.edge import process
from swarm.edge.worktrees import Pool

TAIL_BYTES = 6000
TAIL_LINES = 60
_GRACE_S = 2.0
_NO_TESTS = 5  # pytest's exit code where it found no test

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
Exited = Callable[[process.Identity], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies candidates; `in_thread` and `exited` are how it waits without holding up the loop."""

    places: Places
    scratch: Pool
    environ: Mapping[str, str]
    in_thread: InThread
    exited: Exited

    async def verify(
        self, key: str, nonce: str, places: AttemptPlaces, candidate: str, suites: Sequence[Suite]
    ) -> tuple[SuiteResult, ...]:
        """Runs every suite, side by side, in one worktree at `candidate`; gives their outcomes in the same order.

        When cancelled, ends what it started.
        """
        folders = [places.suite(candidate, n, suite.name) for n, suite in enumerate(suites, 1)]
        names = [f"{nonce}-{folder.name}" for folder in folders]
        try:
            if not await self.in_thread(lambda: _any_alive(folders)):
                tree = await self.in_thread(lambda: self.scratch.take(f"verify/{key}", candidate))
            else:
                tree = await self.in_thread(lambda: self._leased(f"verify/{key}"))
            work = zip(suites, folders, names, strict=True)
            results = await asyncio.gather(
                *(self._run(suite, folder, name, tree) for suite, folder, name in work)
            )
        except asyncio.CancelledError:
            ended = [_end(folder, name) for folder, name in zip(folders, names, strict=True)]
            await asyncio.shield(self.in_thread(lambda: [end() for end in ended]))
            raise
        await self.in_thread(lambda: self.scratch.give_back(f"verify/{key}"))
        return tuple(results)

    def _leased(self, key: str) -> Path:
        return next(entry.path for entry in self.scratch.members() if entry.key == key)

    async def _run(self, suite: Suite, folder: Path, nonce: str, tree: Path) -> SuiteResult:
        started = monotonic()
        worker, output = folder / "worker", folder / "output.log"

        def start() -> process.Identity:
            temporary = folder / "tmp"
            os.makedirs(temporary, mode=0o700, exist_ok=True)
            env = _environment(self.environ, temporary)
            argv = ("/bin/sh", "-c", suite.run)
            return process.start(worker, argv, cwd=tree, env=env, nonce=nonce, output=output)

        identity = await self.in_thread(start)
        timed_out = False
        try:
            await asyncio.wait_for(self.exited(identity), suite.timeout_s)
        except TimeoutError:
            timed_out = True
        code = await self.in_thread(lambda: _settle(identity, nonce, folder, timed_out=timed_out))
        outcome = "timeout" if timed_out else _outcome(suite, code)
        return SuiteResult(
            name=suite.name,
            outcome=outcome,
            exit_code=code,
            duration_s=monotonic() - started,
            log=str(output),
            tail="" if outcome == "passed" else tail_of(output),
        )


def _environment(base: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """A suite gets the daemon's environment without what points git or swarm at this repository, and a folder for its own files."""
    env = {name: value for name, value in base.items() if not name.startswith(("GIT_", "SWARM_"))}
    return {**env, "TMPDIR": str(temporary), "GIT_TERMINAL_PROMPT": "0"}


def _outcome(suite: Suite, code: int | None) -> str:
    if code == 0:
        return "passed"
    return "none" if code == _NO_TESTS and "pytest" in suite.run else "failed"


def _any_alive(folders: Sequence[Path]) -> bool:
    identities = [process.identity(folder / "worker") for folder in folders]
    return any(identity is not None and process.alive(identity) for identity in identities)


def _settle(identity: process.Identity, nonce: str, folder: Path, *, timed_out: bool) -> int | None:
    """Ends what a suite left, or all of it when its time is over; gives its exit code. Nobody's word left means run again."""
    worker = folder / "worker"
    process.reap(identity)
    if timed_out or process.members(nonce, identity, folder=worker):
        process.end_tree(identity, nonce, folder=worker, grace_s=_GRACE_S)
        process.reap(identity)
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    ended = process.exit_of(worker)
    if ended is None and not timed_out:
        shutil.rmtree(worker, ignore_errors=True)  # so that the next try starts it anew
        raise OSError(f"the suite in {folder} was ended from outside before it could say how it went")
    return ended.code if ended is not None else None


def _end(folder: Path, nonce: str) -> Callable[[], bool]:
    worker = folder / "worker"
    return lambda: process.end_tree(process.identity(worker), nonce, folder=worker, grace_s=_GRACE_S)


def tail_of(path: Path, *, lines: int = TAIL_LINES) -> str:
    """Gives the last lines of an output file, at most `TAIL_BYTES` of them; "" where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])

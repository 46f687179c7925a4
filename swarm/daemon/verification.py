"""Runs suites on exactly one commit, in a scratch worktree of the landing repository.

A suite is a process like a worker: started through the launcher, known by its folder, so that after a crash of the daemon
the same suites on the same commit are waited for, or their result is read, instead of running twice.

Rules for editing: the worktree is prepared only when none of the candidate's suites lives in it. Nothing is decided: the
outcomes go back as they are.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import select
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from swarm.core.model import Suite, SuiteResult
from swarm.core.places import AttemptPlaces, Places
from swarm.crashpoints import crash_at
from swarm.edge import contract, process, trouble
from swarm.edge.worktrees import Pool

TAIL_BYTES = 6000
TAIL_LINES = 60
VOID = "void"  # in a suite's folder: what it says does not count
_GRACE_S = 2.0
_NO_TESTS = 5  # pytest's exit code where it found no test

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
Exited = Callable[[process.Identity], Awaitable[None]]


class Outcomes(NamedTuple):
    """What the suites said, and what the machine lacked when one of them failed."""

    suites: tuple[SuiteResult, ...]
    trouble: str


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies candidates; `in_thread` and `exited` are how it waits without holding up the loop. While `leaving` the suites are
    left to the next daemon, which goes on waiting for them."""

    places: Places
    scratch: Pool
    environ: Mapping[str, str]
    in_thread: InThread
    exited: Exited
    leaving: Callable[[], bool] = lambda: False

    async def verify(
        self, key: str, nonce: str, places: AttemptPlaces, candidate: str, suites: Sequence[Suite]
    ) -> Outcomes:
        """Runs every suite, side by side, in one worktree at `candidate`; gives their outcomes in the same order.

        Where the disk is full when one has failed, none of it counts: they are forgotten and run anew when asked for again. When
        cancelled, ends what it started.
        """
        key = f"verify/{key}"
        folders = [places.suite(candidate, n, suite.name) for n, suite in enumerate(suites, 1)]
        names = [f"{nonce}-{folder.name}" for folder in folders]
        try:
            tree = await self.in_thread(lambda: self._prepare(key, candidate, folders, names))
            crash_at("verify.prepared")
            work = zip(suites, folders, names, strict=True)
            results = await asyncio.gather(
                *(self._run(suite, folder, name, tree) for suite, folder, name in work)
            )
        except asyncio.CancelledError:
            if not self.leaving():
                await asyncio.shield(self.in_thread(lambda: self._drop(key, folders, names)))
            raise
        crash_at("verify.settled")
        lacks = next((said for result, said in results if said and result.outcome == "failed"), "")
        if lacks:
            await self.in_thread(lambda: self._drop(key, folders, names))
        else:
            await self.in_thread(lambda: self.scratch.give_back(key))
        return Outcomes(tuple(result for result, _ in results), lacks)

    def _prepare(self, key: str, candidate: str, folders: Sequence[Path], names: Sequence[str]) -> Path:
        """Gives the worktree in which the suites run already, else a clean one at the candidate."""
        for folder, name in zip(folders, names, strict=True):
            if (folder / VOID).exists():
                _void(folder, name)
        identities = [process.started(folder / "worker") for folder in folders]
        if any(identity is not None and process.alive(identity) for identity in identities):
            return next(entry.path for entry in self.scratch.members() if entry.key == key)
        return self.scratch.take(key, candidate)

    def _drop(self, key: str, folders: Sequence[Path], names: Sequence[str]) -> None:
        """Ends suites whose outcome nobody wants any more.

        What is being ended says nothing about the candidate: it is marked first, so that a daemon that is killed meanwhile
        leaves no failure behind.
        """
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / VOID).touch()
        for folder, name in zip(folders, names, strict=True):
            _void(folder, name)
        self.scratch.give_back(key)

    async def _run(self, suite: Suite, folder: Path, nonce: str, tree: Path) -> tuple[SuiteResult, str]:
        """Runs one suite; gives its outcome, and what the machine lacked when it ended."""
        started = monotonic()
        worker, output = folder / "worker", folder / "output.log"

        def start() -> process.Identity:
            temporary = folder / "tmp"
            os.makedirs(temporary, mode=0o700, exist_ok=True)
            env = _environment(self.environ, temporary)
            argv = ("/bin/sh", "-c", suite.run)
            return process.start(worker, argv, cwd=tree, env=env, nonce=nonce, output=output)

        identity = await self.in_thread(start)
        crash_at("verify.started")
        timed_out = False
        try:
            await asyncio.wait_for(self.exited(identity), suite.timeout_s)
        except TimeoutError:
            timed_out = True
        lacks = trouble.of_disks((folder, tree))  # now: what it left in its folder goes, and makes room
        code = await self.in_thread(lambda: _settle(identity, nonce, folder, timed_out=timed_out))
        outcome = "timeout" if timed_out else _outcome(suite, code)
        result = SuiteResult(
            name=suite.name,
            outcome=outcome,
            exit_code=code,
            duration_s=monotonic() - started,
            log=str(output),
            tail="" if outcome == "passed" else tail_of(output),
        )
        return result, lacks


def verify_alone(
    scratch: Pool, places: AttemptPlaces, environ: Mapping[str, str], candidate: str, suites: Sequence[Suite]
) -> Outcomes:
    """Verifies one commit where no daemon is, and waits for the outcome; `places` gets what a verification leaves."""
    verifier = Verifier(Places(places.folder), scratch, environ, asyncio.to_thread, _exited_by_thread)
    nonce = f"alone-{secrets.token_hex(8)}"
    return asyncio.run(verifier.verify(nonce, nonce, places, candidate, suites))


async def _exited_by_thread(identity: process.Identity) -> None:
    """Waits for the end of a process; a thread that is left waiting ends with the process, which a timeout ends."""
    handle = process.exit_handle(identity)
    if handle is not None:
        await asyncio.to_thread(_wait_and_close, handle)


def _wait_and_close(handle: int) -> None:
    try:
        waiter = select.poll()
        waiter.register(handle, select.POLLIN)
        waiter.poll()
    finally:
        os.close(handle)


def _environment(base: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """A suite gets the daemon's environment without what points git or swarm at this repository, and a folder for its own files."""
    env = {name: value for name, value in base.items() if contract.is_for_others(name)}
    return {**env, "TMPDIR": str(temporary), "GIT_TERMINAL_PROMPT": "0"}


def _outcome(suite: Suite, code: int | None) -> str:
    if code == 0:
        return "passed"
    return "none" if code == _NO_TESTS and "pytest" in suite.run else "failed"


def _settle(identity: process.Identity, nonce: str, folder: Path, *, timed_out: bool) -> int | None:
    """Ends what a suite left, or all of it when its time is over; gives its exit code. Nobody's word left means run again."""
    worker = folder / "worker"
    crash_at("verify.exited")
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


def _void(folder: Path, nonce: str) -> None:
    """Ends a suite and forgets that it ran."""
    worker = folder / "worker"
    process.end_tree(process.identity(worker), nonce, folder=worker, grace_s=_GRACE_S)
    shutil.rmtree(worker, ignore_errors=True)
    (folder / VOID).unlink(missing_ok=True)


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

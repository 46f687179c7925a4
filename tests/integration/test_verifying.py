"""Suites as processes: what is said of one by who comes late, and what is left of those that nobody wants any more."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from swarm.core.model import Suite
from swarm.core.places import Places
from swarm.daemon.verification import KILLED_MAX, Outcomes, Verifier, _exited_by_thread
from swarm.edge import process
from swarm.edge.worktrees import Pool
from tests.conftest import git, wait_until

TIMEOUT_S = 1.0


def nonce(folder: Path) -> str:
    """Gives one that is nobody else's: what has it in its environment is ended, by a test that runs beside this one too."""
    return folder.as_posix()


def test_a_suite_that_had_passed_is_not_out_of_its_time(repo: Path, pool: Pool, tmp_path: Path) -> None:
    """Where the daemon stood still, a suite that passed meanwhile has passed, though its time is over when that is seen."""
    gate, places = tmp_path / "gate", Places(tmp_path / "state")
    candidate = git(repo, "rev-parse", "HEAD")

    async def stand_still(identity: process.Identity) -> None:
        """Holds up the loop, and with it the clock of the suite, as SIGSTOP does."""
        gate.touch()
        (worker,) = (tmp_path / "state").rglob("worker")
        wait_until(lambda: process.exit_of(worker) is not None)
        wait_until(lambda: process.age_s(identity) > 2 * TIMEOUT_S)
        await asyncio.to_thread(lambda: None)

    async def verify() -> str:
        verifier = Verifier(places, pool, {"PATH": "/bin:/usr/bin"}, asyncio.to_thread, stand_still)
        suite = Suite("unit", f"until [ -e {gate} ]; do sleep 0.02; done", TIMEOUT_S)
        outcomes = await verifier.verify(
            "k", nonce(tmp_path), places.attempt("r", "t", 1), candidate, [suite]
        )
        return outcomes.suites[0].outcome

    assert asyncio.run(verify()) == "passed"


class Held:
    """A pool of which one method does not go on before it `may`."""

    def __init__(self, pool: Pool, name: str) -> None:
        self._pool, self._name = pool, name
        self.there, self.may = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._pool, name)
        return self._held(method) if name == self._name else method

    def _held(self, method: Any) -> Any:
        def held(*args: Any, **options: Any) -> Any:
            self.there.set()
            self.may.wait()
            return method(*args, **options)

        return held


@pytest.mark.parametrize(
    ("suite", "held"),
    [("true", "take"), ("true", "changed"), ("true", "give_back"), ("sleep 1000", "give_back")],
)
def test_one_that_is_not_wanted_has_let_go_of_its_worktree(
    repo: Path, pool: Pool, tmp_path: Path, suite: str, held: str
) -> None:
    """However often a verification is cancelled, it is not over before its threads are done with its worktree, which the next one
    has by the same name; then that is free."""
    candidate, slow = git(repo, "rev-parse", "HEAD"), Held(pool, held)
    places = Places(tmp_path / "state")

    async def cancel() -> None:
        verifier = Verifier(
            places, cast(Pool, slow), {"PATH": "/bin:/usr/bin"}, asyncio.to_thread, _exited_by_thread
        )
        suites = [Suite("unit", suite, 100.0)]
        verifying = asyncio.create_task(
            verifier.verify("k", nonce(tmp_path), places.attempt("r", "t", 1), candidate, suites)
        )
        if suite != "true":
            while not list((tmp_path / "state").rglob("identity")):
                await asyncio.sleep(0.01)
            verifying.cancel()
        while not slow.there.is_set():
            await asyncio.sleep(0.01)
        for _ in range(3):
            verifying.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
        over = verifying.done()
        slow.may.set()
        with pytest.raises(asyncio.CancelledError):
            await verifying
        assert not over
        assert [lease.key for lease in pool.leases()] == [""]

    asyncio.run(cancel())


def test_a_suite_that_ends_who_started_it_has_failed(repo: Path, pool: Pool, tmp_path: Path) -> None:
    """It may have been ended from outside, so it runs again; where that comes to no word of its own either, it has failed, and why
    is said: nothing waits behind it for ever."""
    candidate, places = git(repo, "rev-parse", "HEAD"), Places(tmp_path / "state")

    async def verify() -> Outcomes:
        verifier = Verifier(places, pool, {"PATH": "/bin:/usr/bin"}, asyncio.to_thread, _exited_by_thread)
        suites = [Suite("unit", "kill -9 $PPID", 100.0)]
        return await verifier.verify("k", nonce(tmp_path), places.attempt("r", "t", 1), candidate, suites)

    for _ in range(KILLED_MAX - 1):
        with pytest.raises(OSError, match="ended from outside"):
            asyncio.run(verify())
    (result,) = asyncio.run(verify()).suites
    assert result.outcome == "failed"
    assert "ended from outside" in result.note
    assert "ended from outside" in result.tail

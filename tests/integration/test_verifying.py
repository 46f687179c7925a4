"""Suites as processes: what is said of one by who comes late."""

from __future__ import annotations

import asyncio
from pathlib import Path

from swarm.core.model import Suite
from swarm.core.places import Places
from swarm.daemon.verification import Verifier
from swarm.edge import process
from swarm.edge.worktrees import Pool
from tests.conftest import git, wait_until

TIMEOUT_S = 1.0


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
        outcomes = await verifier.verify("k", "n", places.attempt("r", "t", 1), candidate, [suite])
        return outcomes.suites[0].outcome

    assert asyncio.run(verify()) == "passed"

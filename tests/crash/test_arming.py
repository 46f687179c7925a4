"""The crash points reach the daemon that was armed, its launchers, and nobody else."""

from __future__ import annotations

import pytest

from tests.conftest import wait_until
from tests.e2e.driver import Swarm


def reached(swarm: Swarm) -> list[tuple[str, str]]:
    """The points that were reached, in order, each with what was done there."""
    log = swarm.outside / "points"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(line.split()[1], line.split()[2]) for line in lines]


def test_no_worker_suite_or_setup_sees_the_variables(swarm: Swarm) -> None:
    """What arms the daemon is in the environment of no worker, no suite and no setup command, and their launchers are armed."""
    seen = [swarm.outside / name for name in ("worker", "suite", "setup")]
    worker, suite, setup = (f"env > {path}" for path in seen)
    plan = swarm.plan("r", [swarm.task("t", f"{worker}; echo x > x", claims=["x"])], verify=[suite])
    run = swarm.run(
        plan,
        SWARM_WORKTREES__SETUP=setup,
        SWARM_CRASH="finish.moved:kill:1",
        SWARM_CRASH_LOG=str(swarm.outside / "points"),
    )
    assert run["counts"]["landed"] == 1
    for path in seen:
        assert "SWARM_CRASH" not in path.read_text()
    assert ("landing.advanced", "-") in reached(swarm)
    assert reached(swarm).count(("launcher.wrote", "-")) == 2


@pytest.mark.parametrize("point", ["landing.advanced", "launcher.ended"])
def test_the_ordered_point_kills(swarm: Swarm, point: str) -> None:
    """The process that reaches the ordered point is killed there and then; the next start does the rest, and it lands once."""
    armed = {"SWARM_CRASH": f"{point}:kill:1", "SWARM_CRASH_LOG": str(swarm.outside / "points")}
    swarm("start", env=armed)
    swarm("submit", str(swarm.plan("r", [swarm.task("t")])))
    wait_until(lambda: (point, "kill") in reached(swarm))
    if not point.startswith("launcher."):
        wait_until(lambda: not swarm.status()["daemon"]["running"])
        assert reached(swarm)[-1] == (point, "kill")
    swarm("start")
    swarm.check_landed(swarm.wait("r"))
    assert swarm.landings("r") == ["t"]

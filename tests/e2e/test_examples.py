"""The small plans of `examples/`, carried out in a repository that knows nothing of them."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import git
from tests.e2e.driver import Swarm

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_smallest_plan_lands_in_any_repository(swarm: Swarm) -> None:
    """`swarm run examples/hello.toml` lands its three files on staging, and the branch of the user stays as it was."""
    before = git(swarm.top, "rev-parse", "main")
    run = swarm.run(EXAMPLES / "hello.toml")
    assert run["counts"]["landed"] == 3
    added = git(swarm.top, "diff", "--name-only", "main", "swarm/hello/staging").splitlines()
    assert added == ["hello/english.txt", "hello/french.txt", "hello/japanese.txt"]
    assert git(swarm.top, "rev-parse", "main") == before


def test_the_middle_plan_lands_in_its_order_and_verified(swarm: Swarm) -> None:
    """`swarm run examples/phases.toml` lands every task after what it needs, each verified, and the check passes at the end."""
    run = swarm.run(EXAMPLES / "phases.toml")
    landed = [event["task"] for event in swarm.events("TaskLanded")]
    assert landed[:2] == ["skeleton", "contents"]
    assert sorted(landed[2:5]) == ["install", "repair", "use"]
    assert landed[5:] == ["index", "links"]
    trailers = git(
        swarm.top,
        "log",
        "--first-parent",
        "--format=%(trailers:key=Swarm-Verified,valueonly)",
        "main..swarm/phases/staging",
    )
    assert set(trailers.split("\n")) - {""} == {"python3 handbook/check.py"}
    assert run["staging"]["verified"] is True

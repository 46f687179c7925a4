"""Verdicts on real candidates: a flake lands, what is red twice does not, and neither is run a third time."""

from __future__ import annotations

from typing import Any

from tests.conftest import wait_until
from tests.e2e.driver import Swarm
from tests.e2e.test_ends import code_of, task_of


def counts(swarm: Swarm, name: str) -> str:
    """A line of a suite that notes that it runs, on which commit."""
    return f"git rev-parse HEAD >> {swarm.outside / name}"


def ran(swarm: Swarm, name: str) -> list[str]:
    """The commits on which such a suite ran."""
    return (swarm.outside / name).read_text().split()


def test_a_flake_lands_and_is_told(swarm: Swarm) -> None:
    """A suite that fails and then passes on the same commit lands the task; `status`, `show`, events and documents tell the flake,
    and what had passed beside it did not run a second time."""
    unit = (
        f"{counts(swarm, 'unit')}; [ -e {swarm.gate('once')} ] || {{ touch {swarm.gate('once')}; exit 1; }}"
    )
    suites = [{"name": "unit", "run": unit}, {"name": "lint", "run": counts(swarm, "lint")}]
    run = swarm.run(swarm.plan("flaky", [swarm.task("t")], verify=suites))
    swarm.check_landed(run)
    commit = task_of(run, "t")["landed_commit"]
    assert (ran(swarm, "unit"), ran(swarm, "lint")) == ([commit, commit], [commit])
    (flake,) = swarm.events("SuiteFlaked")
    assert (flake["suite"], flake["outcome"], flake["ran"], flake["flaked"]) == ("unit", "failed", 2, 1)
    seen: dict[str, Any] = {suite["name"]: suite for suite in run["suites"]}
    assert (seen["unit"]["flaked"], seen["unit"]["flake_percent"], seen["lint"]["flaked"]) == (1, 50.0, 0)
    told = "suite unit is a flake: 1 of 2 times red, then green on the same commit"
    assert told in swarm("status").out
    assert told in swarm("events").out
    assert "failed at first, passed on the same commit" in swarm("show", "t").out


def test_what_is_red_twice_does_not_land(swarm: Swarm) -> None:
    """A suite that fails on a commit runs there once more and no third time; the second output is what the task is told."""
    suite = f'{counts(swarm, "unit")}; echo "look $(wc -l < {swarm.outside / "unit"})"; exit 1'
    plan = swarm.plan("red", [swarm.task("t", attempts=1)], verify=[{"name": "unit", "run": suite}])
    run = swarm.run(plan, code=1)
    first, second = ran(swarm, "unit")
    assert first == second == task_of(run, "t")["attempts"][0]["candidate"]
    assert code_of(run, "t") == "verify_failed"
    assert "twice on the same commit" in task_of(run, "t")["reason"]["text"]
    assert swarm("logs", "t", "--of", "verify").out.count("look 2") == 1


def test_a_daemon_that_is_killed_between_the_two_goes_on_with_the_second(swarm: Swarm) -> None:
    """Killed while a suite runs for the second time, the next daemon waits for that very run."""
    gate, first = swarm.gate("second"), swarm.gate("first-was-red")
    suite = f"{counts(swarm, 'unit')}; [ -e {first} ] || {{ touch {first}; exit 1; }}; until [ -e {gate} ]; do sleep 0.02; done"
    swarm("start")
    swarm("submit", str(swarm.plan("kill", [swarm.task("t")], verify=[{"name": "unit", "run": suite}])))
    wait_until(lambda: first.exists() and len(ran(swarm, "unit")) == 2)
    swarm.end_daemon()
    swarm("start")
    gate.touch()
    swarm.check_landed(swarm.wait("kill"))
    assert len(ran(swarm, "unit")) == 2

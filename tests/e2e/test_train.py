"""Verdicts on real candidates: a flake lands, what is red twice does not, and neither is run a third time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import wait_until
from tests.e2e.driver import Swarm, runs
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


# --- several at once


def waits_for(swarm: Swarm, number: int) -> str:
    """A suite that notes on which commit and with which work it runs, and ends when so many have begun."""
    begun = swarm.outside / "begun"
    return f"{noted(swarm)}; until [ $(wc -l < {begun}) -ge {number} ]; do sleep 0.02; done"


def noted(swarm: Swarm) -> str:
    return f"echo $(git rev-parse HEAD) $(ls out-* | tr '\\n' ' ') >> {swarm.outside / 'begun'}"


def begun(swarm: Swarm) -> list[list[str]]:
    """For each run of such a suite its commit and the work in it."""
    path = swarm.outside / "begun"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_two_are_verified_at_once_and_land_as_they_were(swarm: Swarm) -> None:
    """Two candidates are verified side by side, the second with the work of the first in it, and land as exactly these commits."""
    plan = swarm.plan("pair", [swarm.task("a"), swarm.task("b")], verify=[waits_for(swarm, 2)])
    run = swarm.run(plan)
    swarm.check_landed(run)
    (first, *one), (second, *both) = sorted(begun(swarm), key=len)
    assert (len(one), both) == (1, ["out-a", "out-b"])
    landed = [task_of(run, name)["landed_commit"] for name in swarm.landings("pair")]
    assert landed == [first, second]


@pytest.mark.slow
def test_what_stands_on_red_lands_without_it(swarm: Swarm) -> None:
    """A candidate that stood on one that is red is merged anew without it and lands, verified as it lands."""
    suite = f"{waits_for(swarm, 2)}; [ ! -e out-bad ]"
    tasks = [swarm.task("bad", attempts=1), swarm.task("good", gate="good")]
    swarm("start")
    swarm("submit", str(swarm.plan("red", tasks, verify=[suite])))
    wait_until(lambda: len(begun(swarm)) == 1)
    swarm.open("good")
    run = swarm.wait("red", code=1)
    swarm.check_landed(run)
    assert (code_of(run, "bad"), swarm.landings("red")) == ("verify_failed", ["good"])
    commit = task_of(run, "good")["landed_commit"]
    assert [commit, "out-good"] in begun(swarm)
    assert len(task_of(run, "good")["attempts"]) == 1


@pytest.mark.slow
def test_a_killed_daemon_leaves_no_candidate_unseen(swarm: Swarm) -> None:
    """Killed while two candidates are verified, the next daemon waits for both and starts no suite a second time."""
    gate = swarm.gate("go")
    suite = f"{noted(swarm)}; until [ -e {gate} ]; do sleep 0.02; done"
    swarm("start")
    swarm("submit", str(swarm.plan("kill", [swarm.task("a"), swarm.task("b")], verify=[suite])))
    wait_until(lambda: len(begun(swarm)) == 2)
    swarm.end_daemon()
    swarm("start")
    gate.touch()
    run = swarm.wait("kill")
    swarm.check_landed(run)
    assert len(begun(swarm)) == 2


@pytest.mark.slow
def test_what_is_cancelled_ends_what_stands_on_it(swarm: Swarm) -> None:
    """When a candidate is cancelled, the suites of those that stand on it end, and these are verified anew without it."""
    pids = swarm.outside / "pids"
    suite = f"{noted(swarm)}; [ ! -e out-a ] || {{ echo $$ >> {pids}; sleep 600; }}"
    swarm("start")
    swarm("submit", str(swarm.plan("gone", [swarm.task("a"), swarm.task("b", gate="b")], verify=[suite])))
    wait_until(lambda: len(begun(swarm)) == 1)
    swarm.open("b")
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    swarm("cancel", "a")
    run = swarm.wait("gone", code=1)
    assert swarm.landings("gone") == ["b"]
    assert begun(swarm)[-1] == [task_of(run, "b")["landed_commit"], "out-b"]
    assert not any(runs(int(pid)) for pid in pids.read_text().split())


@pytest.mark.slow
def test_a_person_lets_one_land_first(swarm: Swarm) -> None:
    """`swarm first` has a task that waits in the merge queue land before those that are verified already; what has landed is
    refused with exit 4."""
    gate = swarm.gate("go")
    suite = f"{noted(swarm)}; until [ -e {gate} ]; do sleep 0.02; done"
    tasks = [swarm.task("a"), swarm.task("b", gate="b"), swarm.task("c", gate="c")]
    swarm("start")
    swarm("submit", str(swarm.plan("hurry", tasks, verify=[suite])))
    for number, name in ((1, "b"), (2, "c")):
        wait_until(lambda count: len(begun(swarm)) == count, number)
        swarm.open(name)
    waiting = {"task": "c", "state": "waiting"}
    wait_until(lambda: any(waiting.items() <= entry.items() for entry in swarm.status()["merge_queue"]))
    swarm("first", "c")
    gate.touch()
    run = swarm.wait("hurry")
    swarm.check_landed(run)
    assert swarm.landings("hurry") == ["c", "a", "b"]
    assert "landed" in swarm("first", "c", code=4).err


@pytest.mark.slow
def test_two_that_are_red_only_together_are_both_named(swarm: Swarm) -> None:
    """Of two that are green alone and red together the first lands; the other is told of it by name, in `status`, `show` and what
    its next attempt reads, and how to see what it changed."""
    suite = f"{noted(swarm)}; ! {{ [ -e out-a ] && [ -e out-b ]; }}"
    told = swarm.outside / "told"
    work = (
        f'[ ! -e "$SWARM_FEEDBACK_FILE" ] || {{ cp "$SWARM_FEEDBACK_FILE" {told}; exit 1; }}; echo b > out-b'
    )
    tasks = [swarm.task("a"), swarm.task("b", work, gate="b"), swarm.task("c")]
    swarm("start")
    swarm("submit", str(swarm.plan("pair", tasks, verify=[suite])))
    wait_until(lambda: task_of(swarm.status()["runs"][0], "b")["state"] == "running")
    wait_until(lambda: len(swarm.landings("pair")) == 2)
    swarm.open("b")
    run = swarm.wait("pair", code=1)
    assert sorted(swarm.landings("pair")) == ["a", "c"]
    first = task_of(run, "b")["attempts"][0]["reason"]
    landing = task_of(run, "a")["landed_commit"]
    assert (first["code"], first["partners"], first["partner_commits"]) == ("verify_failed", ["a"], [landing])
    for said in (swarm("show", "b").out, told.read_text()):
        assert "red only in combination: it passes without a" in said
    assert f"git diff {landing}^1 {landing}" in told.read_text()


@pytest.mark.slow
def test_the_partner_is_named_in_the_end_too(swarm: Swarm) -> None:
    """What changes the same again after it was told so fails with the one named that it is red together with, not only as red."""
    suite = f"{noted(swarm)}; ! {{ [ -e out-a ] && [ -e out-b ]; }}"
    swarm("start")
    tasks = [swarm.task("a"), swarm.task("b", gate="b", attempts=2)]
    swarm("submit", str(swarm.plan("pair", tasks, verify=[suite])))
    wait_until(lambda: task_of(swarm.status()["runs"][0], "b")["state"] == "running")
    wait_until(lambda: swarm.landings("pair") == ["a"])
    swarm.open("b")
    task = task_of(swarm.wait("pair", code=1), "b")
    first, second = (each["reason"] for each in task["attempts"])
    assert (first["partners"], second.get("partners")) == (["a"], None)
    assert (task["reason"]["code"], task["reason"]["partners"]) == ("verify_failed", ["a"])
    assert "an earlier attempt was red only together with a" in swarm("show", "b").out

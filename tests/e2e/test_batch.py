"""Batches on real candidates: verified once, landed in one move, and never with a commit on staging that says more than is true."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.crash.checker import Checker
from tests.e2e.driver import Swarm, common_dir
from tests.e2e.test_ends import task_of
from tests.e2e.test_train import begun, noted


@pytest.fixture
def batches(swarm: Swarm) -> Swarm:
    swarm.env |= {"SWARM_VERIFY__MODE": "batch", "SWARM_VERIFY__SLOTS": "1"}
    return swarm


def behind_one(swarm: Swarm, name: str, suite: str) -> None:
    """Has `a` and `b` wait in the merge queue until the suite of `first`, which ends when its gate opens, has begun."""
    tasks = [swarm.task("first"), *(swarm.task(name, gate="rest", attempts=1) for name in "ab")]
    held = f"[ -e out-a ] || [ -e out-b ] || until [ -e {swarm.gate('first')} ]; do sleep 0.02; done"
    swarm("start")
    swarm("submit", str(swarm.plan(name, tasks, verify=[f"{noted(swarm)}; {held}; {suite}"])))
    wait_until(lambda: len(begun(swarm)) == 1)
    swarm.open("rest")
    wait_until(lambda: swarm.waiting() == {"a", "b"})
    swarm.open("first")


def trailers(swarm: Swarm, run: dict[str, Any], name: str) -> dict[str, str]:
    said = git(
        swarm.top, "log", "-1", "--format=%(trailers:only,unfold)", task_of(run, name)["landed_commit"]
    )
    return dict(line.split(": ", 1) for line in said.splitlines() if line)


def test_a_batch_lands_as_verified_by_its_last(batches: Swarm) -> None:
    """Two that wait are verified once, as the candidate of the second; both land as commits of their own that say so, and a daemon
    that is killed meanwhile verifies nothing twice. Had staging stood at the first of them, audit and checker would both say so."""
    swarm = batches
    behind_one(swarm, "pair", f"[ ! -e out-a ] || until [ -e {swarm.gate('second')} ]; do sleep 0.02; done")
    wait_until(lambda: len(begun(swarm)) == 2)
    swarm.end_daemon()
    swarm("start")
    swarm.open("second")
    run = swarm.wait("pair")
    swarm.check_landed(run)
    ahead, last = swarm.landings("pair")[1:]
    assert begun(swarm)[-1] == [task_of(run, last)["landed_commit"], "out-a", "out-b", "out-first"]
    assert len(begun(swarm)) == 2
    assert trailers(swarm, run, ahead)["Swarm-Verified"] == "none"
    assert trailers(swarm, run, ahead)["Swarm-Verified-With"] == last
    assert trailers(swarm, run, last)["Swarm-Batch"] == f"{ahead}, {last}"
    assert trailers(swarm, run, last)["Swarm-Verified"] != "none"
    assert task_of(run, ahead)["attempts"][0]["batch"] == [ahead, last]
    assert f"{ahead}, {last}: verified together, as the candidate of {last}" in swarm("show", ahead).out
    swarm("stop")
    log = common_dir(swarm.top) / "swarm" / "landing.git" / "logs" / "refs" / "heads" / "pair" / "staging"
    *before, move = (told := log.read_text()).splitlines(keepends=True)
    (old, new, who), between = move.split(" ", 2), task_of(run, ahead)["landed_commit"]
    log.write_text("".join((*before, f"{old} {between} {who}", f"{between} {new} {who}")))
    assert {number for number, _ in swarm.audited()} == {"I4"}
    assert {number for number, _ in Checker(swarm.top).check()} == {"I4"}
    log.write_text(told)


@pytest.mark.slow
def test_a_red_batch_names_the_pair(batches: Swarm) -> None:
    """Of a batch of two that are red only together the first lands, and the second is told of it."""
    swarm = batches
    behind_one(swarm, "red", "! { [ -e out-a ] && [ -e out-b ]; }")
    run = swarm.wait("red", code=1)
    swarm.check_landed(run)
    landed = swarm.landings("red")
    assert len(landed) == 2
    other = "b" if "a" in landed else "a"
    assert task_of(run, other)["reason"]["partners"] == landed[1:]

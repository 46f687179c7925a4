"""Finishes of several runs into one checkout: one after the other, whoever asks and when, and each with all that it changes."""

from __future__ import annotations

import signal

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm
from tests.e2e.test_finish import commit

FILES = 60


def runs_alike(swarm: Swarm, *names: str) -> None:
    """Has runs land that have paths in common, which all change alike, beside those of their own; writing them takes a while."""
    commit(swarm.top, "a.txt", "a\n")
    commit(swarm.top, "b.txt", "b\n")
    (swarm.top / ".git" / "info" / "attributes").write_text("*.dat filter=slow\n")
    git(swarm.top, "config", "filter.slow.smudge", "sleep 0.01; cat")
    git(swarm.top, "config", "filter.slow.clean", "cat")
    swarm("start")
    for name in names:
        run = f"""
            mkdir n {name}; for j in $(seq {FILES}); do echo $j > n/$j.dat; echo $j > {name}/$j.dat; done
            echo same >> a.txt; git rm -q b.txt"""
        swarm("submit", str(swarm.plan(name, [swarm.task("t", run, claims=["+**"])])))
    for name in names:
        swarm.wait(name)
    swarm.look_again()


@pytest.mark.slow
def test_finishes_of_several_runs_go_one_after_the_other(swarm: Swarm) -> None:
    """Asked for at once, each merges onto what the one before it left; none takes files of another for changes of the user's, or
    puts them back, and the checkout is what its branch says."""
    names = ("f1", "f2", "f3")
    runs_alike(swarm, *names)
    asked = [swarm.spawn("finish", "--run", name) for name in names]
    for each in asked:
        out, err = each.communicate(timeout=200)
        assert each.returncode == 0, out + err
    assert git(swarm.top, "status", "--porcelain") == ""
    there = git(swarm.top, "ls-files").splitlines()
    assert {f"{folder}/{n}.dat" for folder in ("n", *names) for n in range(1, FILES + 1)} <= set(there)
    assert "b.txt" not in there
    swarm.look_again()


@pytest.mark.slow
def test_a_finish_that_waits_for_another_can_be_taken_back(swarm: Swarm) -> None:
    """Ctrl-C on one that waits for its turn ends it; the one at work goes through."""
    runs_alike(swarm, "f1", "f2")
    began = swarm.outside / "began"
    git(
        swarm.top,
        "config",
        "filter.slow.smudge",
        f"touch {began}; until [ -e {swarm.gate('go')} ]; do sleep 0.02; done; cat",
    )
    first = swarm.spawn("finish", "--run", "f1")
    wait_until(began.exists)
    second = swarm.spawn("finish", "--run", "f2")
    wait_until(lambda: len(swarm.events("StagingLookAsked")) == 2)
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=100) == 130
    swarm.open("go")
    assert first.wait(timeout=100) == 0
    assert [run["finished_commit"] is not None for run in swarm.status()["runs"]] == [True, False]
    assert git(swarm.top, "status", "--porcelain") == ""
    swarm.look_again()

"""Mending is killed in its middle: what a start does for a repository that was moved, or whose landing repository is gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import git
from tests.e2e.driver import Swarm, common_dir
from tests.e2e.test_behind_our_back import staging_tree, up


def killed_start(swarm: Swarm, point: str, hit: int = 1) -> None:
    """Has a start killed where it reaches this point for the `hit`-th time."""
    log = swarm.outside / "points"
    log.unlink(missing_ok=True)
    swarm("start", code=None, SWARM_CRASH=f"{point}:kill:{hit}", SWARM_CRASH_LOG=str(log))
    assert f"{point} kill" in log.read_text()
    assert not swarm.status()["daemon"]["running"]


@pytest.mark.slow
@pytest.mark.parametrize("hit", [1, 2])
def test_following_a_move_that_was_killed_is_finished(
    swarm: Swarm, repo: Path, tmp_path: Path, hit: int
) -> None:
    """Killed while it points git's records at the worktrees of a repository that was moved, a start is gone on with by the next:
    every worktree is known at its new place, none is made anew or removed as a stranger, and what lay in it is there."""
    run = up(swarm, "moved", swarm.task("second", gate="go"))
    (staging_tree(run) / "mine").write_text("a person's\n")
    swarm("stop")
    swarm.top = tmp_path / "elsewhere"
    repo.rename(swarm.top)
    killed_start(swarm, "worktree.followed", hit)
    swarm("start")
    swarm.open("go")
    run = swarm.wait("moved")
    swarm.check_landed(run)
    assert not repo.exists()
    assert (staging_tree(run) / "mine").read_text() == "a person's\n"
    listed = git(swarm.top, "worktree", "list", "--porcelain")
    assert f"worktree {repo}/" not in listed
    assert f"worktree {staging_tree(run)}\n" in listed
    assert "prunable" not in listed
    swarm.look_again()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["refound.carried", "refound.advanced"])
def test_a_refounding_that_was_killed_is_gone_on_with(swarm: Swarm, point: str) -> None:
    """Killed while it founds the landing repository again, for one run and then for the other, a start is gone on with by the
    next: each staging stands where it was published, and what comes after lands on it, once."""
    up(swarm, "one", swarm.task("second", gate="go"))
    up(swarm, "two", swarm.task("second", gate="go"))
    swarm("stop")
    before = {run: swarm.staging(run) for run in ("one", "two")}
    shutil.rmtree(common_dir(swarm.top) / "swarm" / "landing.git")
    for _ in before:
        killed_start(swarm, point)
    swarm("start")
    assert {run: swarm.staging(run) for run in before} == before
    swarm.open("go")
    for run, published in before.items():
        swarm.check_landed(swarm.wait(run))
        assert swarm.landings(run) == ["first", "second"]
        assert git(swarm.top, "rev-parse", f"{swarm.staging(run)}^") == published

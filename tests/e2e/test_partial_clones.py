"""Partial clones: what they have left with their remote is had from there, as git itself has it, or it is said that it can't be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import git
from tests.e2e.driver import Swarm, common_dir, snapshot

MakeSwarm = Callable[..., Swarm]


@pytest.fixture
def upstream(repo: Path) -> Path:
    """A repository of several commits, each with its own version of a file, that serves partial clones."""
    git(repo, "config", "uploadpack.allowFilter", "true")
    for n in range(3):
        (repo / "src" / "b.py").write_text(f"b = {n}\n")
        (repo / f"only-{n}").write_text(f"{n}\n")
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", f"number {n}")
    return repo


def a_clone(upstream: Path, leaves_out: str) -> Path:
    """Makes a partial clone of which nearly nothing is checked out, so that nearly nothing is there."""
    top = upstream.parent / "clone"
    git(
        upstream,
        *("clone", "-q", f"--filter={leaves_out}", "--no-checkout", f"file://{upstream}", str(top)),
    )
    git(top, "config", "user.name", "Ada")
    git(top, "config", "user.email", "ada@example.org")
    git(top, "sparse-checkout", "set", "--no-cone", "/README.md")
    git(top, "checkout", "-q", "main")
    return top


def lacks(top: Path) -> int:
    """Counts what is missing of the files of the commit that is checked out."""
    listed = git(top, "rev-list", "--objects", "--missing=print", "--no-walk", "HEAD").splitlines()
    return sum(line.startswith("?") for line in listed)


@pytest.mark.parametrize("leaves_out", ["blob:none", pytest.param("tree:0", marks=pytest.mark.slow)])
def test_what_is_missing_is_fetched(swarm_in: MakeSwarm, upstream: Path, leaves_out: str) -> None:
    """Workers have all files of the base, also such as the clone never had; what lands can be merged into a branch of which files
    are missing. No setting and no ref of the user's changes."""
    top = a_clone(upstream, leaves_out)
    (upstream / "late").write_text("late\n")
    git(upstream, "add", "-A")
    git(upstream, "commit", "-q", "-m", "late")
    git(top, "fetch", "-q")
    git(top, "branch", "other", "origin/main")
    assert lacks(top) > 0
    fetched = (top / ".git" / "FETCH_HEAD").read_bytes()
    swarm = swarm_in(top)
    assert "is fetched from origin" in swarm("doctor").out
    made = swarm.task("made", "cat src/b.py only-* > made", claims=["made"])
    older = swarm.task("older", "git show HEAD~3:src/b.py > older", claims=["older"], needs=["made"])
    swarm.check_landed(swarm.run(swarm.plan("r", [made, older])))
    assert git(top, "show", "swarm/r/staging:made") == "b = 2\n0\n1\n2"
    assert git(top, "show", "swarm/r/staging:older") == "b = 0"
    assert snapshot(top) == swarm.before
    assert (top / ".git" / "FETCH_HEAD").read_bytes() == fetched
    swarm("finish", "--into", "other")
    expected = {*git(upstream, "ls-tree", "--name-only", "main").split(), "made", "older"}
    assert set(git(top, "ls-tree", "--name-only", "other").split()) == expected
    swarm.look_again()


@pytest.mark.slow
def test_a_remote_that_is_not_there(swarm_in: MakeSwarm, upstream: Path) -> None:
    """Where what is missing can't be had, a run is refused with what to do, and begins once it can be."""
    top = a_clone(upstream, "blob:none")
    swarm = swarm_in(top)
    away = upstream.rename(upstream.parent / "away")
    plan = swarm.plan("r", [swarm.task("one")])
    refused = swarm("run", str(plan), code=4).err
    assert "This is a partial clone" in refused
    assert "git fetch origin" in refused
    assert json.loads(swarm("status", "--json").out)["runs"] == []
    git(top, "config", "--unset", "remote.origin.promisor")
    assert "no remote is said to have them" in swarm("run", str(plan), code=4).err
    assert "remote.NAME.promisor" in swarm("doctor").out
    git(top, "config", "remote.origin.promisor", "true")
    swarm.look_again()
    away.rename(upstream)
    swarm.check_landed(swarm.run(plan))


@pytest.mark.slow
def test_a_remote_that_is_gone_once_the_run_is_taken_in(swarm_in: MakeSwarm, upstream: Path) -> None:
    """A run whose staging can't be made yet says why, also to who would finish it, and begins once it can be."""
    top = a_clone(upstream, "blob:none")
    swarm = swarm_in(top)
    # One object is had, as when it is asked whether they can be; then they can't be any more.
    packs = common_dir(top) / "objects" / "pack"
    there = len(list(packs.glob("*.promisor")))
    gone = swarm.outside / "upload-pack"
    gone.write_text(
        f'#!/bin/sh\n[ -e {swarm.gate("back")} ] || [ "$(ls {packs}/*.promisor | wc -l)" = {there} ] || exit 1\n'
        'exec git-upload-pack "$@"\n'
    )
    gone.chmod(0o755)
    git(top, "config", "remote.origin.uploadpack", str(gone))
    swarm.look_again()
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("one")])))
    assert "can't go on" in swarm("wait", "--timeout", "3", code=124).err
    refused = swarm("finish", "--partial", code=4).err
    assert "its staging branch could not be made yet" in refused
    assert "git fetch origin" in refused
    swarm.open("back")
    swarm.check_landed(swarm.wait("r"))

"""One test for each rule of recovery that a crash test found missing: what was wrong comes back if the rule goes."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm, common_dir, runs, snapshot


def killed_at(swarm: Swarm, point: str, *command: str) -> None:
    """Has a command done by a daemon that is killed at a point on the way."""
    swarm("stop")
    swarm("start", SWARM_CRASH=f"{point}:kill:1")
    daemon = int(swarm.status()["daemon"]["pid"])
    asked = swarm.spawn(*command)
    wait_until(lambda: not runs(daemon))
    asked.kill()


@pytest.mark.slow
def test_a_run_that_was_killed_in_its_preparation_is_no_breach(swarm: Swarm) -> None:
    """A daemon that was killed between making a staging worktree and saying so leaves one that `swarm audit` accounts for, and the
    next daemon goes on with."""
    plan = swarm.plan("r", [swarm.task("t", "echo 2 >> src/b.py", claims=["**"])], verify=["true"])
    killed_at(swarm, "staging.linked", "submit", str(plan))
    assert (swarm.top / ".worktrees" / "r" / "staging" / ".git").exists()
    assert swarm.status()["runs"][0]["staging"]["worktree"] in (None, "")
    swarm("audit")
    swarm("start")
    swarm.check_landed(swarm.wait("r"))
    swarm("audit")


@pytest.mark.parametrize(
    "point",
    [
        "finish.carried",
        pytest.param("finish.noted", marks=pytest.mark.slow),
        pytest.param("finish.files", marks=pytest.mark.slow),
        "finish.moved",
    ],
)
def test_a_killed_finish_is_completed(swarm: Swarm, point: str) -> None:
    """A finish whose daemon was killed is completed by the next one, by itself: files that were moved before the branch are not
    the user's edits."""
    work = "echo 2 >> src/b.py; rm README.md; ln -s src link; echo new > new; chmod +x new"
    swarm.run(swarm.plan("r", [swarm.task("t", work, claims=["**"])], verify=["true"]))
    (swarm.top / "mine").write_text("mine\n")
    git(swarm.top, "add", "mine")
    git(swarm.top, "commit", "-q", "-m", "mine")
    (swarm.top / "src" / "a.py").write_text("edited\n")
    killed_at(swarm, point, "finish")
    swarm("start")
    wait_until(lambda: swarm.status()["runs"][0]["state"] == "finished")
    assert git(swarm.top, "merge-base", "main", swarm.staging("r")) == swarm.staging("r")
    assert git(swarm.top, "status", "--porcelain") == " M src/a.py"
    assert (swarm.top / "src" / "b.py").read_text() == "b = 1\n2\n"
    swarm.look_again()


@pytest.mark.slow
def test_a_finish_that_was_killed_where_it_failed_is_put_back(swarm: Swarm) -> None:
    """Files that were moved before a filter failed are put back by the next daemon, where the one that failed was killed before."""
    for way, command in (("clean", "cat"), ("smudge", "cat"), ("required", "true")):
        git(swarm.top, "config", f"filter.bad.{way}", command)
    (swarm.top / ".git" / "info" / "attributes").write_text("src/new filter=bad\n")
    work = "echo 2 >> src/b.py; rm README.md; echo new > src/new"
    swarm.run(swarm.plan("r", [swarm.task("t", work, claims=["**"])]))
    (swarm.top / "mine").write_text("mine\n")
    git(swarm.top, "config", "filter.bad.smudge", "false")
    swarm.look_again()
    killed_at(swarm, "finish.failed", "finish")
    assert git(swarm.top, "status", "--porcelain").splitlines() == [" D README.md", " M src/b.py", "?? mine"]
    swarm("start")
    wait_until(lambda: len(swarm.events("FinishRefused")) == 1)
    assert swarm.events("FinishRefused")[0]["reason"]["code"] == "filter"
    assert git(swarm.top, "status", "--porcelain") == "?? mine"
    assert {**snapshot(swarm.top), "index": ""} == {**swarm.before, "index": ""}
    git(swarm.top, "config", "filter.bad.smudge", "cat")
    swarm("finish")
    assert git(swarm.top, "rev-parse", "main") == swarm.staging("r")
    assert git(swarm.top, "status", "--porcelain") == "?? mine"
    swarm.look_again()


@pytest.mark.slow
def test_a_killed_finish_keeps_what_was_edited_since(swarm: Swarm) -> None:
    """What the user made of the files of a finish that was killed on the way is theirs: it is named, the others are put back, and
    main stays."""
    swarm.run(swarm.plan("r", [swarm.task("t", "echo 2 >> src/b.py; echo new > new", claims=["**"])]))
    killed_at(swarm, "finish.files", "finish")
    edited = swarm.top / "src" / "b.py"
    edited.write_text(edited.read_text() + "mine\n")
    before = git(swarm.top, "rev-parse", "main")
    swarm("start")
    wait_until(lambda: len(swarm.events("FinishRefused")) == 1)
    assert "src/b.py" in swarm.events("FinishRefused")[0]["reason"]["text"]
    assert edited.read_text() == "b = 1\n2\nmine\n"
    assert git(swarm.top, "status", "--porcelain") == " M src/b.py"
    assert git(swarm.top, "rev-parse", "main") == before
    swarm.look_again()


@pytest.mark.slow
def test_a_finish_keeps_what_is_staged_and_edited_again(swarm: Swarm) -> None:
    """A file that is as on staging while another version of it is staged stops a finish: that version is nowhere else."""
    swarm.run(swarm.plan("r", [swarm.task("t", "echo new > new", claims=["new"])]))
    (swarm.top / "new").write_text("precious\n")
    git(swarm.top, "add", "new")
    (swarm.top / "new").write_text("new\n")
    subprocess.run(["git", "fetch", "-q", ".", swarm.staging("r")], cwd=swarm.top, check=True)
    swarm.look_again()
    assert "new" in swarm("finish", code=4).err
    assert git(swarm.top, "show", ":new") == "precious"


def test_a_finish_that_fails_midway_leaves_the_checkout_as_it_was(swarm: Swarm) -> None:
    """An error after the files were moved takes them back; asked again, the finish is made."""
    swarm.run(swarm.plan("r", [swarm.task("t", "echo new > new; rm README.md", claims=["**"])]))
    swarm("stop")
    swarm("start", SWARM_CRASH="finish.files:raise:1")
    swarm("finish", code=None)
    assert git(swarm.top, "status", "--porcelain") == ""
    assert git(swarm.top, "rev-parse", "main") != swarm.staging("r")
    swarm("finish")
    assert git(swarm.top, "rev-parse", "main") == swarm.staging("r")
    assert git(swarm.top, "status", "--porcelain") == ""
    swarm.look_again()


@pytest.mark.slow
def test_a_worktree_that_could_not_be_given_back_is_given_back(swarm: Swarm) -> None:
    """An error while a worktree is given back leaves it leased to nobody in the end."""
    swarm("start", SWARM_CRASH="give-back.saved:raise:1")
    swarm("submit", str(swarm.plan("r", [swarm.task("t")])))
    swarm.wait("r")
    lease = swarm.top / ".worktrees" / "pool" / ".pool" / "1.json"
    wait_until(lambda: json.loads(lease.read_text())["key"] == "")


def test_what_a_killed_daemon_had_started_is_ended(swarm: Swarm) -> None:
    """A setup command, and a git, that outlive their daemon are ended before the next one does the same beside them."""
    pids = swarm.outside / "pids"
    setup = f"echo $$ >> {pids}; [ $(wc -l < {pids}) -gt 1 ] || sleep 1000"
    env = {"SWARM_WORKTREES__SETUP": setup}
    swarm("start", env=env)
    swarm("submit", str(swarm.plan("r", [swarm.task("t")])))
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    orphan = int(pids.read_text())
    swarm.end_daemon()
    assert runs(orphan)
    swarm("start", env=env)
    swarm.check_landed(swarm.wait("r"))
    assert not runs(orphan)
    assert swarm.starts() == ["t"]


def test_what_ended_a_daemon_is_in_the_log_that_is_named(swarm: Swarm) -> None:
    """Where a daemon ends by a fault, status says so and where the details are, and there they are."""
    plan = swarm.plan("r", [swarm.task("t", "echo 2 >> src/b.py", claims=["**"])])
    swarm("start", SWARM_CRASH="turn.decided:raise:1")
    daemon = int(swarm.status()["daemon"]["pid"])
    asked = swarm.spawn("submit", str(plan))
    wait_until(lambda: not runs(daemon))
    asked.kill()
    said = swarm("status").out
    log = common_dir(swarm.top) / "swarm" / "log" / "daemon.log"
    assert f"the details are in {log}" in said
    assert "Traceback" in log.read_text()

"""`swarm recover`: what a crash or a person left of worktrees, branches and processes is found, mended and told."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, Swarm, common_dir, runs, verified_in
from tests.e2e.test_ends import task_of

WITH_AND_WITHOUT = pytest.mark.parametrize(
    "daemon", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["with a daemon", "without one"]
)


def looks_when_asked(swarm: Swarm) -> dict[str, str]:
    """The environment of a daemon that mends what was taken away under it when it is asked to, not a second later by itself."""
    return swarm.with_constants("swarm.daemon.losses", LOOK_AFTER_S=3600.0)


def landed(swarm: Swarm, *, daemon: bool, by_itself: bool = False) -> dict[str, Any]:
    """Lands one task and leaves another's work on its branch; with or without the daemon still there."""
    swarm("start", env=None if by_itself else looks_when_asked(swarm))
    failing = swarm.task("kept", "echo precious > kept; exit 1", claims=["kept"], attempts=1)
    swarm("submit", str(swarm.plan("r", [swarm.task("done"), failing])))
    run = swarm.wait("r", code=1)
    swarm.wait_for_follow("r")
    if not daemon:
        swarm("stop")
    return run


def staging(swarm: Swarm) -> Path:
    return swarm.top / ".worktrees" / "r" / "staging"


def found(swarm: Swarm, *args: str, code: int = 0) -> list[dict[str, Any]]:
    """Gives what `swarm recover` found."""
    document = swarm("recover", "--json", *args, code=code).json
    assert document["schema"] == 1
    return list(document["found"])


def check_mended(swarm: Swarm, *kinds: str, code: int = 0) -> None:
    """A dry run tells of these kinds and changes nothing; then they are mended, once, and told in the journal by a daemon."""
    before = git(swarm.top, "worktree", "list", "--porcelain"), git(swarm.top, "for-each-ref")
    planned = found(swarm, "--dry-run", code=code)
    assert {each["kind"] for each in planned if each["remedy"]} >= set(kinds), planned
    assert not any(each["mended"] for each in planned)
    assert (git(swarm.top, "worktree", "list", "--porcelain"), git(swarm.top, "for-each-ref")) == before
    mended = [each for each in found(swarm, code=code) if each["mended"]]
    assert {each["kind"] for each in mended} >= set(kinds)
    assert not any(each["mended"] for each in found(swarm, code=code))
    if swarm.status()["daemon"]["running"]:
        told = swarm.events("Mended")
        assert {each["text"] for each in mended} <= {each["text"] for each in told}


@WITH_AND_WITHOUT
def test_nothing_is_found_where_all_is_well(swarm: Swarm, daemon: bool) -> None:
    """Where everything is as the journal has it, recover finds nothing, says so and ends with 0."""
    landed(swarm, daemon=daemon)
    assert found(swarm) == []
    assert "as the journal has it" in swarm("recover").out
    assert found(swarm, "--dry-run") == []


@pytest.mark.slow
@WITH_AND_WITHOUT
def test_what_could_not_be_looked_at_is_no_success(swarm: Swarm, daemon: bool) -> None:
    """Where the machine refuses something, the rest is mended all the same, and recover ends with 1 and says of which kind it was
    and why; with that out of the way it ends with 0."""
    landed(swarm, daemon=daemon)
    pool = swarm.top / ".worktrees" / "pool"
    for index in pool.glob(".*/*.index"):  # so that the spare worktrees are not whole, and are to go
        index.unlink()
    shutil.rmtree(pool / ".trash", ignore_errors=True)
    (pool / ".trash").write_text("in the way\n")
    shutil.rmtree(staging(swarm))
    told = found(swarm, code=1)
    (failed,) = [each for each in told if each["failed"]]
    assert failed["kind"] == "worktree"
    assert "not every worktree could be looked at: [Errno 17] File exists" in failed["text"]
    assert "staging" in {each["kind"] for each in told if each["mended"]}
    assert "failed  not every worktree" in swarm("recover", code=1).out
    (pool / ".trash").unlink()
    assert not any(each["failed"] for each in found(swarm))


@pytest.mark.parametrize("daemon", [True, False], ids=["with a daemon", "without one"])
@pytest.mark.parametrize(
    "pruned", [pytest.param(False, marks=pytest.mark.slow), True], ids=["deleted", "pruned"]
)
def test_worktrees_gone_altogether(swarm: Swarm, daemon: bool, pruned: bool) -> None:
    """Row 101: with `.worktrees` deleted, and perhaps pruned, recover makes the staging worktree again and the next run works."""
    landed(swarm, daemon=daemon)
    shutil.rmtree(swarm.top / ".worktrees")
    if pruned:
        git(swarm.top, "worktree", "prune")
    check_mended(swarm, "staging", *(() if pruned else ("worktree",)))
    assert (staging(swarm) / "out-done").read_text() == "done\n"
    assert git(staging(swarm), "status", "--porcelain") == ""
    swarm.check_landed(swarm.run(swarm.plan("next", [swarm.task("a"), swarm.task("b")])))


@pytest.mark.slow
@WITH_AND_WITHOUT
def test_a_staging_branch_that_was_deleted_is_made_again(swarm: Swarm, daemon: bool) -> None:
    """Deleted while nothing lands, and its objects pruned too, staging stands again where the last landing left it."""
    landed(swarm, daemon=daemon)
    before = swarm.staging("r")
    git(staging(swarm), "checkout", "-q", "--detach", "main")
    git(swarm.top, "branch", "-q", "-D", "swarm/r/staging")
    git(swarm.top, "reflog", "expire", "--expire=now", "--all")
    git(swarm.top, "gc", "-q", "--prune=now")
    swarm.look_again()
    (run,) = swarm.status()["runs"]
    assert (run["staging"]["found"], run["staging"]["verified"]) == (None, False)
    assert run["problems"] == ["swarm/r/staging is gone. Next: swarm recover"]
    assert "swarm/r/staging is gone" in swarm("recover", "--dry-run").out
    check_mended(swarm, "ref")
    assert swarm.staging("r") == before
    assert swarm.content("r", "out-done") == "done\n"


@pytest.mark.slow
@WITH_AND_WITHOUT
def test_the_staging_branch_of_a_finished_run_may_be_deleted(swarm: Swarm, daemon: bool) -> None:
    """Who tidies up after a finish has done an ordinary thing as long as the target has all of it: neither a start nor recover
    makes the branch again, and the audit notes it. Once nothing of theirs has it, it is missing, and recover makes it again."""
    landed(swarm, daemon=True)
    swarm("finish")
    swarm.look_again()
    if not daemon:
        swarm("stop")
    before = swarm.staging("r")
    git(swarm.top, "branch", "-q", "-D", "swarm/r/staging")
    if daemon:
        swarm("stop")
        swarm("start")
    assert git(swarm.top, "branch", "--list", "swarm/r/staging") == ""
    assert found(swarm) == []
    assert git(swarm.top, "branch", "--list", "swarm/r/staging") == ""
    noted = "Branch swarm/r/staging of run r, which is finished, is gone; main has all of it."
    assert noted in swarm("audit").out
    git(swarm.top, "reset", "-q", "--hard", f"{before}^")
    swarm.look_again()
    assert "I1 is broken" in swarm("audit", code=1).out
    check_mended(swarm, "ref")
    assert swarm.staging("r") == before
    swarm("audit")


@pytest.mark.slow
def test_workers_that_are_gone_with_their_daemon_are_told(swarm: Swarm) -> None:
    """With no daemon, recover tells of workers that the journal has at work and that were killed, or have ended meanwhile, with the
    way on; not of one that is still at work. The start that it names goes on with all."""
    swarm("start")
    tasks = [swarm.task(name, gate=name) for name in ("killed", "ended", "works")]
    swarm("submit", str(swarm.plan("r", tasks)))
    swarm.wait_for_gate("killed", "ended", "works")
    pids = swarm.launchers("r", "killed", "ended", "works")
    swarm.end_daemon()
    tree = psutil.Process(pids["killed"])
    for process in (
        tree,
        *tree.children(recursive=True),
    ):  # the launcher first, which would note how it ended
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    swarm.open("ended")
    wait_until(lambda: not runs(pids["killed"]) and not runs(pids["ended"]))
    for args in (("--dry-run",), ()):
        told = {each["text"] for each in found(swarm, *args) if each["kind"] == "process"}
        assert len(told) == 2, told
        assert any("worker of r/killed, attempt 1, is gone" in text for text in told)
        assert any("worker of r/ended, attempt 1, has ended with exit code 0" in text for text in told)
        assert all("swarm start goes on" in text for text in told)
    assert "as the journal has it" not in swarm("recover").out
    swarm("start")
    swarm.open("killed")
    swarm.open("works")
    swarm.check_landed(swarm.wait("r"))
    assert [span.attempt for span in swarm.spans("r") if span.task == "works"] == [1]


def test_a_worker_that_is_gone_with_its_worktree_is_told_as_that(swarm: Swarm) -> None:
    """Of a worker that is gone and whose worktree was deleted and pruned nobody is sent there: what is gone is said, and that the
    task is tried again, which the next start does. A worktree that is there is named as before."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task(name, gate=name) for name in ("bare", "kept")])))
    swarm.wait_for_gate("bare", "kept")
    trees = {task["id"]: Path(task["attempts"][0]["worktree"]) for task in swarm.run_of("r")["tasks"]}
    pids = swarm.launchers("r", "bare", "kept")
    swarm.end_daemon()
    for pid in pids.values():
        tree = psutil.Process(pid)
        for process in (tree, *tree.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    wait_until(lambda: not any(map(runs, pids.values())))
    shutil.rmtree(trees["bare"])
    git(swarm.top, "worktree", "prune")
    told = [each["text"] for each in found(swarm, "--dry-run") if each["kind"] == "process"]
    (bare,) = (text for text in told if "r/bare" in text)
    (kept,) = (text for text in told if "r/kept" in text)
    assert f"its worktree {trees['bare']} is gone, and with it what was on no branch" in bare
    assert "swarm start counts it as lost and tries the task again" in bare
    assert f"what it left is in {trees['kept']}: swarm start goes on" in kept
    again = [each["text"] for each in found(swarm) if each["kind"] == "process"]
    assert not any("what it left is in" in text for text in again if "r/bare" in text)
    swarm("start")
    swarm.open("bare")
    swarm.open("kept")
    swarm.check_landed(swarm.wait("r"))
    (task,) = (task for task in swarm.run_of("r")["tasks"] if task["id"] == "bare")
    assert [each["state"] for each in task["attempts"]] == ["lost", "landed"]


@pytest.mark.slow
@WITH_AND_WITHOUT
def test_a_branch_of_kept_work_that_was_deleted_is_made_again(swarm: Swarm, daemon: bool) -> None:
    """Finished work that has not landed stands on its branch again, after the branch was deleted and its objects pruned too."""
    run = landed(swarm, daemon=daemon)
    head = task_of(run, "kept")["attempts"][0]["head"]
    git(swarm.top, "branch", "-D", "swarm/r/task/kept/1")
    check_mended(swarm, "ref")
    assert git(swarm.top, "rev-parse", "swarm/r/task/kept/1") == head
    assert git(swarm.top, "show", "swarm/r/task/kept/1:kept") == "precious"


def test_a_staging_worktree_deleted_under_the_daemon_comes_back(swarm: Swarm) -> None:
    """Deleted while nothing is to be done, the staging worktree stands again without a landing or a question, and that is told."""
    landed(swarm, daemon=True, by_itself=True)

    def told() -> int:
        return sum(event["kind"] == "staging" for event in swarm.events("Mended"))

    for times in (1, 2):
        shutil.rmtree(swarm.top / ".worktrees")
        wait_until(lambda often: told() == often, times)
        swarm.wait_for_follow("r")
    swarm.check_landed(swarm.run(swarm.plan("next", [swarm.task("a")])))


def test_a_landing_repository_deleted_under_the_daemon_is_founded_again(swarm: Swarm) -> None:
    """Deleted under a daemon that works, the landing repository is founded again by the same daemon, which begins anew: the worker
    goes on, what it does lands on what had landed, that is told, and who waits for the run goes on waiting."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a"), swarm.task("b", gate="go")])))
    waiting = swarm.spawn("wait")
    swarm.wait_for_gate("b")
    swarm.wait_for_landed("r", "a")
    swarm.wait_for_follow("r")
    pid = swarm.status()["daemon"]["pid"]
    shutil.rmtree(common_dir(swarm.top) / "swarm" / "landing.git")
    wait_until(lambda: "landing" in [event["kind"] for event in swarm.events("Mended")])
    wait_until(lambda: swarm.status()["daemon"]["running"])
    assert swarm.status()["daemon"]["pid"] == pid
    swarm.open("go")
    assert waiting.wait(PATIENCE_S) == 0
    run = swarm.run_of("r")
    swarm.check_landed(run)
    assert swarm.landings("r") == ["a", "b"]
    assert sorted(swarm.starts()) == ["a", "b"]


@pytest.mark.slow
def test_a_worktree_of_a_verification_that_nobody_asks_for_is_freed(swarm: Swarm) -> None:
    """Killed between the word that a candidate is not wanted any more and giving its worktree back, the daemon leaves it lent to
    nobody; that is found and given back."""
    swarm.run(swarm.plan("r", [swarm.task("t")], verify=["true"]))
    wait_until(
        lambda: not swarm.status()["daemon"]["running"]
    )  # beside one that works nothing is taken for left
    pool = verified_in(swarm.top) / ".pool"
    (record,) = pool.glob("*.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "key": "verify/r/t/1"}))
    check_mended(swarm, "worktree")
    assert json.loads(record.read_text())["key"] == ""


@pytest.mark.slow
@WITH_AND_WITHOUT
def test_what_landed_comes_back_although_its_branch_was_moved(swarm: Swarm, daemon: bool) -> None:
    """Where a person moved staging to their own branch and a gc took what had landed, recover brings that back and leaves their
    branch alone: the staging worktree stands on it, git finds nothing broken, and the way back that is told works."""
    landed(swarm, daemon=daemon)
    left, main = swarm.staging("r"), git(swarm.top, "rev-parse", "main")
    git(swarm.top, "worktree", "remove", "--force", str(staging(swarm)))
    git(swarm.top, "update-ref", "refs/heads/swarm/r/staging", "main")
    shutil.rmtree(swarm.top / ".worktrees")
    git(swarm.top, "worktree", "prune")
    git(swarm.top, "reflog", "expire", "--expire=now", "--all")
    git(swarm.top, "gc", "-q", "--prune=now")
    swarm.look_again()
    check_mended(swarm, "object", "staging", code=1)
    assert git(staging(swarm), "rev-parse", "HEAD") == left
    git(swarm.top, "fsck", "--no-dangling")
    assert swarm.staging("r") == main
    git(swarm.top, "branch", "--force", "swarm/r/staging", left)
    assert swarm.content("r", "out-done") == "done\n"


@pytest.mark.slow
@WITH_AND_WITHOUT
@pytest.mark.parametrize("to", ["back", "away", "back in a checkout"])
def test_a_staging_branch_that_was_moved_is_told(swarm: Swarm, daemon: bool, to: str) -> None:
    """Moved off what has landed, the staging branch stays where a person put it; recover and its dry run end with 1 and tell where
    it stands and where it was left, as audit and finish do, and what they say to type keeps what is there and is enough."""
    landed(swarm, daemon=daemon)
    branch, left, target = "swarm/r/staging", swarm.staging("r"), git(swarm.top, "rev-parse", "main")
    checkout = swarm.outside / "a checkout"
    if to == "away":
        target = git(swarm.top, "commit-tree", "-m", "of a person", "main^{tree}")
    if to == "back in a checkout":
        git(swarm.top, "worktree", "add", "-q", str(checkout), branch)
        git(checkout, "reset", "-q", "--hard", "main")
    else:
        git(swarm.top, "branch", "--force", branch, target)
    stands = f"it stands at {target[:12]}, and the last landing left it at {left[:12]}"
    (run,) = swarm.status()["runs"]
    assert (run["staging"]["commit"], run["staging"]["found"]) == (left, target)
    assert run["problems"] == [f"{branch} was moved by hand: {stands}. Next: swarm recover"]
    (told,) = found(swarm, "--dry-run", code=1)
    assert (told["kind"], told["mended"]) == ("moved", False)
    text, step = told["text"].split(". Nothing lands until then: ")
    assert text == f"{branch} was moved by hand: {stands}"
    assert found(swarm, code=1) == [told]
    assert f"left    {told['text']}" in swarm("recover", code=1).out
    assert told["text"] in swarm("doctor", code=None).out
    assert swarm.staging("r") == target
    way_back = step.removeprefix(f"git -C '{checkout}' switch --detach && ")
    assert (way_back != step) == (to == "back in a checkout")
    assert f"Next: {way_back}" in swarm("audit", code=1).out
    if to != "back in a checkout":  # which is told first, and the move once that is settled
        assert told["text"] in swarm("finish", "--partial", code=4).err
    subprocess.run(step, shell=True, check=True, cwd=swarm.top)
    assert (swarm.staging("r"), git(swarm.top, "rev-parse", f"found-{target[:12]}")) == (left, target)
    swarm.look_again()
    assert found(swarm) == []
    swarm("audit")


@pytest.mark.slow
def test_commits_on_staging_that_no_daemon_has_seen_are_told(swarm: Swarm) -> None:
    """What a person committed on staging while no daemon ran is theirs to keep and no fault: recover tells of it and ends with 0,
    and the start that it names lands it."""
    landed(swarm, daemon=False)
    checkout = swarm.outside / "checkout"
    git(swarm.top, "worktree", "add", "-q", str(checkout), "swarm/r/staging")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "by hand")
    git(checkout, "switch", "-q", "--detach")
    (told,) = found(swarm, "--dry-run")
    assert (told["kind"], told["mended"]) == ("by_hand", False)
    assert f"swarm/r/staging has commits made by hand, up to {swarm.staging('r')[:12]}" in told["text"]
    assert found(swarm) == [told]
    swarm("start")
    swarm.wait_for_landed("r", "by-hand-1")
    swarm.wait_for_follow("r")
    assert found(swarm) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", ["refs", "objects"])
def test_a_landing_repository_that_is_damaged_is_founded_again(swarm: Swarm, part: str) -> None:
    """Where a part of the landing repository is gone, recover says so, keeps what is left of it aside and founds it again; then
    nothing is amiss and work goes on."""
    landed(swarm, daemon=False)
    state = common_dir(swarm.top) / "swarm"
    shutil.rmtree(state / "landing.git" / part)
    assert f"has lost its {part}" in swarm("recover", "--dry-run").out
    assert list(state.glob("landing.git.damaged-*")) == []
    assert {each["kind"] for each in found(swarm) if each["mended"]} >= {"landing"}
    assert (next(state.glob("landing.git.damaged-*")) / "HEAD").exists()
    assert not any(each["mended"] for each in found(swarm))
    swarm("audit")
    swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task("done"), swarm.task("more")]), code=1))

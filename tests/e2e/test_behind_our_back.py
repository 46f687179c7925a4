"""What a person does to staging, its branch and its worktree while a run goes on, or while no daemon runs."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, Swarm, common_dir
from tests.e2e.test_ends import code_of, task_of


def staging_tree(run: dict[str, Any]) -> Path:
    return Path(run["staging"]["worktree"])


def commit(top: Path, path: str, text: str, message: str) -> str:
    """Commits a file as a person would and gives the commit.

    Two gits at once in one worktree: each reads the index before it locks it, so what was added just then may be out of it again.
    """
    (top / path).write_text(text)
    who = ("-c", "user.name=Eve", "-c", "user.email=eve@example.org")

    def committed() -> bool:
        git(top, "add", path)
        git(top, *who, "commit", "-q", "-m", message, check=False)
        return git(top, "log", "-1", "--format=%s") == message

    wait_until(committed)
    return git(top, "rev-parse", "HEAD")


def commit_on_branch(swarm: Swarm, run: str, path: str, text: str, message: str) -> str:
    """Commits on the staging branch from another checkout, which leaves the branch again."""
    away = swarm.outside / "away"
    git(swarm.top, "worktree", "add", "-q", str(away), f"swarm/{run}/staging")
    try:
        return commit(away, path, text, message)
    finally:
        git(swarm.top, "worktree", "remove", "--force", str(away))


def trailers(swarm: Swarm, commit: str, key: str) -> str:
    return git(swarm.top, "log", "-1", f"--format=%(trailers:key={key},valueonly,separator=)", commit)


def state_of(swarm: Swarm, run: str, task: str) -> str | None:
    return next((t["state"] for t in swarm.run_of(run)["tasks"] if t["id"] == task), None)


def up(swarm: Swarm, name: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Lands one task, which the staging worktree has followed, with the others at their gates, and gives the run."""
    plan = swarm.plan(name, [swarm.task("first"), *tasks], **more)
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_landed(name, "first")
    swarm.wait_for_start(*(task["id"] for task in tasks))
    swarm.launchers(name, *(task["id"] for task in tasks))
    swarm.wait_for_follow(name)
    return swarm.run_of(name)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["branch", "worktree"])
def test_a_persons_commit_on_staging_lands_as_their_own(swarm: Swarm, where: str) -> None:
    """A commit made by hand on the staging branch, or in its worktree, lands verified, under a name of its own."""
    run = up(swarm, "hand", swarm.task("second", gate="go"), verify=["test -f README.md"])
    tree = staging_tree(run)
    if where == "branch":
        theirs = commit_on_branch(swarm, "hand", "theirs.txt", "mine\n", "Mend a thing")
    else:
        theirs = commit(tree, "theirs.txt", "mine\n", "Mend a thing")
    swarm.open("go")
    run = swarm.wait("hand")
    swarm.check_landed(run)
    assert swarm.landings("hand") == ["first", "by-hand-1", "second"]
    task = task_of(run, "by-hand-1")
    assert (task["state"], task["title"], task["by_hand"]) == ("landed", "Mend a thing", True)
    assert not task_of(run, "second")["by_hand"]
    landed = task["landed_commit"]
    assert git(swarm.top, "rev-parse", f"{landed}^2") == theirs
    assert trailers(swarm, landed, "Swarm-By-Hand") == "yes"
    assert trailers(swarm, landed, "Swarm-Verified") == "test -f README.md"
    assert swarm.content("hand", "theirs.txt") == "mine\n"
    swarm.wait_for_follow("hand")
    told = [
        (event["type"], event.get("code")) for event in swarm.events() if event["type"].startswith("Staging")
    ]
    assert ("StagingAstray", "by_hand") in told
    assert ("StagingSettled", None) in told
    assert run["staging"]["reason"] is None
    swarm("audit")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["branch", "worktree"])
def test_work_that_conflicts_with_what_a_person_committed_before_it_is_handed_back(
    swarm: Swarm, where: str
) -> None:
    """A commit made by hand before a task on the same line has ended lands first, and the task meets it as it meets any landing: it
    has its second chance, and nothing stands."""
    task = swarm.task("second", "echo both > line.txt", gate="go", claims=["line.txt"], attempts=1)
    run = up(swarm, "met", task)
    if where == "branch":
        commit_on_branch(swarm, "met", "line.txt", "mine\n", "Draw a line")
    else:
        commit(staging_tree(run), "line.txt", "mine\n", "Draw a line")
    swarm.open("go")
    run = swarm.wait("met")
    swarm.check_landed(run)
    assert swarm.landings("met") == ["first", "by-hand-1", "second"]
    before, after = task_of(run, "second")["attempts"]
    assert (before["reason"]["code"], before["reason"]["landings"]) == ("conflict", ["by-hand-1"])
    assert after["state"] == "landed"
    assert swarm.content("met", "line.txt") == "both\n"
    swarm("audit")


def test_what_a_person_commits_while_no_daemon_runs_is_found_at_the_start(swarm: Swarm) -> None:
    """Commits made by hand while no daemon runs are taken in at the next start, several of them as one landing."""
    run = swarm.run(swarm.plan("down", [swarm.task("first")]))
    swarm.wait_for_follow("down")
    swarm("stop")
    tree = staging_tree(run)
    commit(tree, "one.txt", "1\n", "One")
    commit(tree, "two.txt", "2\n", "Two")
    swarm("start")
    swarm.wait_for_landed("down", "by-hand-1")
    run = swarm.wait("down")
    assert task_of(run, "by-hand-1")["title"] == "Two (and 1 more)"
    swarm.check_landed(run)
    swarm.wait_for_follow("down")


@pytest.mark.slow
def test_finish_lands_first_what_a_person_committed(swarm: Swarm) -> None:
    """`finish`, and its preview, take in commits made by hand first, so that nothing is left behind; also a commit that comes right
    after another one has landed, while staging is still watched for that."""
    run = swarm.run(swarm.plan("fin", [swarm.task("first")]))
    swarm("start")
    swarm.wait_for_follow("fin")
    theirs = commit(staging_tree(run), "theirs.txt", "mine\n", "Mine")
    preview = swarm("finish", "--run", "fin", "--preview", "--json").json["finish"]
    assert "theirs.txt" in preview["paths"]
    done = swarm("finish", "--run", "fin", "--json").json["finish"]
    assert done["commit"] == preview["commit"] == git(swarm.top, "rev-parse", "main")
    git(swarm.top, "merge-base", "--is-ancestor", theirs, "main")
    swarm.look_again()
    tree = staging_tree(run)
    for n in range(3):
        git(tree, "checkout", "-q", "--detach", "swarm/fin/staging")
        more = commit(tree, f"more-{n}", "mine\n", "More")
        swarm("finish", "--run", "fin")
        git(swarm.top, "merge-base", "--is-ancestor", more, "main")
        swarm.look_again()


@pytest.mark.slow
def test_commits_by_hand_that_do_not_pass_hold_landings_up_until_they_are_mended(swarm: Swarm) -> None:
    """A person's commit that fails verification is neither landed nor lost: others wait, it is told what to do, and a fix on top
    lands both, before whoever finishes at once."""
    up(swarm, "red", swarm.task("second", gate="go"), verify=["! test -f broken"])
    commit_on_branch(swarm, "red", "broken", "", "Break it")
    before = swarm.staging("red")
    swarm.open("go")
    wait_until(lambda: state_of(swarm, "red", "by-hand-1") == "failed")
    run = swarm.run_of("red")
    assert code_of(run, "by-hand-1") == "verify_failed"
    assert task_of(run, "second")["state"] in ("queued", "landing")
    assert swarm.staging("red") == before
    assert "commit a fix on top" in run["staging"]["reason"]["text"]
    (told,) = run["problems"]
    assert "commit a fix on top" in told
    assert (run["staging"]["found"], run["staging"]["verified"]) == (before, False)
    assert "by hand" in swarm("status").out
    assert "! test -f broken" in swarm("show", "by-hand-1").out
    refused = swarm("finish", "--run", "red", "--partial", code=4)
    assert "Break it" in refused.err
    away = swarm.outside / "away"
    git(swarm.top, "worktree", "add", "-q", str(away), "swarm/red/staging")
    git(away, "rm", "-q", "broken")
    git(away, "commit", "-q", "-m", "Mend it")
    git(swarm.top, "worktree", "remove", str(away))
    swarm(
        "finish", "--run", "red", "--partial", "--preview"
    )  # at once: what was refused a moment ago is not said again
    run = swarm.wait("red")
    swarm.check_landed(run)
    assert task_of(run, "by-hand-1")["state"] == "landed"
    assert len(task_of(run, "by-hand-1")["attempts"]) == 2
    assert swarm.content("red", "broken") is None
    swarm("audit")
    swarm.wait_for_follow("red")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["merge", "take off"])
def test_commits_by_hand_that_conflict_can_be_merged_or_taken_off(swarm: Swarm, way: str) -> None:
    """A person's commit that conflicts with a landing which is not on the branch yet, as after a kill in between, is held up with
    it; merging what it is told to merge, or taking the commit off, lets both go on, and the commit is kept."""
    swarm.env["SWARM_CRASH"] = "landing.advanced:kill:2"
    up(swarm, "clash", swarm.task("second", "echo swarm > clash.txt", gate="go"))
    swarm.open("go")
    wait_until(lambda: not swarm.status()["daemon"]["running"])
    left = swarm.staging("clash")
    theirs = commit_on_branch(swarm, "clash", "clash.txt", "person\n", "Mine")
    swarm.env.pop("SWARM_CRASH")
    swarm("start")
    wait_until(lambda: state_of(swarm, "clash", "by-hand-1") == "failed")
    run = swarm.run_of("clash")
    reason = run["staging"]["reason"]["text"]
    onto = task_of(run, "by-hand-1")["reason"]["onto"]
    assert task_of(run, "by-hand-1")["reason"]["landings"] == ["second"]
    assert swarm.staging("clash") == theirs == git(swarm.top, "rev-parse", "swarm/clash/task/by-hand-1/1")
    assert f"git merge {onto}" in reason
    if way == "merge":
        away = swarm.outside / "away"
        git(swarm.top, "worktree", "add", "-q", str(away), "swarm/clash/staging")
        git(away, "merge", "-q", onto, check=False)
        commit(away, "clash.txt", "both\n", "Merge by hand")
        git(swarm.top, "worktree", "remove", str(away))
    else:
        off = f"git branch --force swarm/clash/staging {left}"
        assert off in reason
        git(swarm.top, *off.split()[1:])
    run = swarm.wait("clash", code=0 if way == "merge" else 1)
    swarm.check_landed(run)
    assert task_of(run, "by-hand-1")["state"] == ("landed" if way == "merge" else "cancelled")
    assert swarm.content("clash", "clash.txt") == ("both\n" if way == "merge" else "swarm\n")
    swarm("audit")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["back", "away"])
def test_a_staging_branch_that_was_moved_is_left_alone_and_told(swarm: Swarm, to: str) -> None:
    """A staging branch moved back or to something else stays there; landings wait, the way on is told, and typing it is enough."""
    up(swarm, "moved", swarm.task("second", gate="go"))
    left = swarm.staging("moved")
    target = git(swarm.top, "rev-parse", "main")
    if to == "away":
        target = git(swarm.top, "commit-tree", "-m", "unrelated", "main^{tree}")
    git(swarm.top, "branch", "--force", "swarm/moved/staging", target)
    swarm.open("go")
    wait_until(lambda: swarm.run_of("moved")["staging"]["reason"] is not None)
    run = swarm.run_of("moved")
    assert run["staging"]["reason"]["code"] == "moved"
    told = f"git branch --force swarm/moved/staging {left}"
    assert told in run["staging"]["reason"]["text"]
    assert told in swarm("status").out.replace("\n", " ")
    assert swarm.staging("moved") == target
    audited = swarm("audit", code=1).out
    assert "I1 is broken" in audited
    assert "A person moved it" in audited
    git(swarm.top, *told.split()[1:])
    swarm.check_landed(swarm.wait("moved"))


def said_until(child: subprocess.Popen[str], words: str) -> str:
    """Reads what a command writes to stderr until these words are in it, and leaves the rest."""
    assert child.stderr is not None
    pipe, said = child.stderr.fileno(), ""
    while words not in said:
        wait_until(lambda: select.select([pipe], [], [], 0)[0])
        more = os.read(pipe, 65536).decode()
        assert more, f"it ended, having said: {said}"
        said += more
    return said


@pytest.mark.slow
def test_a_required_filter_that_fails_is_told_with_what_to_do(swarm: Swarm) -> None:
    """Nothing can be checked out until it works: which file and which filter, once, with what shows it and what lets it go on; then
    it goes on by itself."""
    (swarm.top / ".gitattributes").write_text("*.bin filter=odd\n")
    (swarm.top / "a.bin").write_text("x\n")
    git(swarm.top, "add", ".")
    git(swarm.top, "commit", "-qm", "filtered")
    for key, value in (("clean", "cat"), ("smudge", "exit 3"), ("required", "true")):
        git(swarm.top, "config", f"filter.odd.{key}", value)
    running = swarm.spawn("run", str(swarm.plan("r", [swarm.task("a")])))
    wait_until(
        lambda: len(swarm.events("RunCommandFailed")) > 2 if swarm.status()["runs"] else False,
        at_most_s=PATIENCE_S,
    )
    (problem,) = swarm.status()["runs"][0]["problems"]
    assert "git can't check a.bin out: its filter odd, which your settings call required, fails" in problem
    assert "(external filter 'exit 3' failed 3)" in problem
    _, _, step = problem.partition("; or ")
    command = step.partition(",")[0]
    assert command == "git config filter.odd.required false"
    git(swarm.top, *command.split()[1:])
    swarm.look_again()
    out, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0
    assert out.count("failed and is tried again") == 1
    assert err.count("can't go on") == 1
    assert "PrepareRun" not in out + err


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wait", "wait -q", "run", "run -q", "run --json"])
def test_whoever_waits_is_told_once_why_a_run_cannot_go_on(swarm: Swarm, how: str) -> None:
    """Who waits for a run whose staging was moved by hand is told what status says, with the way on, whether it was moved before
    or after they came and however quiet they want it; they go on waiting, and are told nothing twice."""
    plan = swarm.plan("stands", [swarm.task("first"), swarm.task("second", gate="go")])
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_landed("stands", "first")
    swarm.wait_for_follow("stands")
    swarm.wait_for_start("second")
    words = how.split()
    command = (*words, str(plan)) if words[0] == "run" else (*words, "--run", "stands")
    early = swarm.spawn(*command)
    left = swarm.staging("stands")
    git(swarm.top, "branch", "--force", "swarm/stands/staging", "main")
    swarm.open("go")
    wait_until(lambda: swarm.run_of("stands")["problems"])
    late = swarm.spawn(*command)
    back = f"git branch --force swarm/stands/staging {left}"
    for child in (early, late):
        assert back in said_until(child, "waited for all the same")
        assert child.poll() is None
    git(swarm.top, *back.split()[1:])
    for child in (early, late):
        rest = child.communicate(timeout=PATIENCE_S)[1]
        assert child.returncode == 0
        assert "can't go on" not in rest
    swarm.check_landed(swarm.wait("stands"))


@pytest.mark.slow
def test_whoever_waits_for_a_paused_task_is_told_how_it_goes_on(swarm: Swarm) -> None:
    """A pause outlives the daemon and may be days old: `wait` and `run` tell of it, and the command that they tell works."""
    plan = swarm.plan("p", [swarm.task("held")])
    swarm("start")
    swarm("pause")
    swarm("submit", str(plan))
    swarm("pause", "held")
    children = [swarm.spawn("wait"), swarm.spawn("run", "-q", str(plan))]
    for child in children:
        assert "everything is paused: swarm resume goes on" in said_until(child, "waited for all the same")
    swarm("resume", "--run", "p")
    swarm("resume")
    swarm("resume", "p/held")
    for child in children:
        child.communicate(timeout=PATIENCE_S)
        assert child.returncode == 0
    swarm.check_landed(swarm.wait("p"))


def test_a_staging_branch_that_is_gone_is_made_again(swarm: Swarm) -> None:
    """A deleted staging branch is made again where the last landing left it, and told, at the next landing or start."""
    up(swarm, "gone", swarm.task("second", gate="go"))
    git(swarm.top, "branch", "-q", "-D", "swarm/gone/staging")
    git(swarm.top, "reflog", "expire", "--expire=now", "--all")
    git(swarm.top, "gc", "-q", "--prune=now")
    swarm.open("go")
    run = swarm.wait("gone")
    swarm.check_landed(run)
    assert len(swarm.events("StagingRestored")) == 1
    swarm("stop")
    left = swarm.staging("gone")
    git(swarm.top, "branch", "-q", "-D", "swarm/gone/staging")
    git(staging_tree(run), "checkout", "-q", "--detach", "main")
    git(swarm.top, "reflog", "expire", "--expire=now", "--all")
    git(swarm.top, "gc", "-q", "--prune=now")
    swarm.look_again()
    swarm("start")
    wait_until(
        lambda: git(swarm.top, "rev-parse", "-q", "--verify", "swarm/gone/staging", check=False) == left
    )
    wait_until(
        lambda: "branch swarm/gone/staging is gone" in [event["text"] for event in swarm.events("Mended")]
    )


@pytest.mark.slow
def test_a_staging_branch_that_is_checked_out_is_not_moved_under_the_checkout(swarm: Swarm) -> None:
    """While somebody has the staging branch checked out it does not move; commits made there land once it is left."""
    run = up(swarm, "held", swarm.task("second", gate="go"))
    tree = staging_tree(run)
    git(tree, "switch", "-q", "swarm/held/staging")
    commit(tree, "theirs.txt", "mine\n", "Mine")
    swarm.open("go")
    wait_until(lambda: swarm.run_of("held")["staging"]["reason"] is not None)
    reason = swarm.run_of("held")["staging"]["reason"]
    assert reason["code"] == "checked_out"
    assert f"git -C {tree} switch --detach" in reason["text"]
    assert git(tree, "status", "--porcelain") == ""
    git(tree, "switch", "-q", "--detach")
    run = swarm.wait("held")
    swarm.check_landed(run)
    assert task_of(run, "by-hand-1")["state"] == "landed"
    swarm.wait_for_follow("held")


@pytest.mark.slow
def test_looking_at_something_else_in_the_staging_worktree_is_no_commit_by_hand(swarm: Swarm) -> None:
    """A person who checks out another branch or an attempt's work in the staging worktree has made nothing: it is left there."""
    run = swarm.run(swarm.plan("look", [swarm.task("first")]))
    swarm("stop")
    tree = staging_tree(run)
    commit(swarm.top, "later.txt", "later\n", "Later on main")
    swarm.look_again()
    git(tree, "checkout", "-q", "--detach", "main")
    swarm("start")
    wait_until(lambda: any(e["type"] == "StagingSeen" for e in swarm.events()))
    assert [task["id"] for task in swarm.run_of("look")["tasks"]] == ["first"]
    assert git(tree, "rev-parse", "HEAD") == git(swarm.top, "rev-parse", "main")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["rebased", "reset", "renamed"])
def test_finish_refuses_a_target_that_is_not_what_the_run_started_from(swarm: Swarm, how: str) -> None:
    """A target that was rewritten below the run's base, or is gone, stays as it is: `finish` and its preview say so and refuse."""
    commit(swarm.top, "dropped.txt", "dropped\n", "Dropped later")
    swarm.look_again()
    swarm.run(swarm.plan("lost", [swarm.task("first")]))
    staging = swarm.staging("lost")
    if how == "renamed":
        git(swarm.top, "branch", "-m", "main", "trunk")
    else:
        git(swarm.top, "reset", "-q", "--hard", "HEAD~1")
    if how == "rebased":
        commit(swarm.top, "other.txt", "other\n", "Another history")
    swarm.look_again()
    where = git(swarm.top, "rev-parse", "HEAD")
    for more in (["--preview"], []):
        refused = swarm("finish", "--run", "lost", *more, code=4)
        assert ("gone" if how == "renamed" else "rebased, reset or replaced") in refused.err
    assert git(swarm.top, "rev-parse", "HEAD") == where
    assert swarm.staging("lost") == staging
    if how == "renamed":
        swarm("finish", "--run", "lost", "--into", "trunk")
        assert git(swarm.top, "rev-parse", "HEAD") == staging
    swarm.look_again()


def test_a_repository_that_was_moved_goes_on_where_it_is(swarm: Swarm, repo: Path, tmp_path: Path) -> None:
    """A repository moved while no daemon runs goes on at its new place with its worktrees; nothing is made where it was."""
    up(swarm, "moved", swarm.task("second", gate="go"))
    swarm("stop")
    swarm.top = tmp_path / "elsewhere"
    repo.rename(swarm.top)
    swarm("start")
    swarm.open("go")
    run = swarm.wait("moved")
    swarm.check_landed(run)
    assert not repo.exists()
    tree = staging_tree(run)
    assert tree == swarm.top / ".worktrees" / "moved" / "staging"
    swarm.wait_for_follow("moved")
    assert f"worktree {repo}/" not in git(swarm.top, "worktree", "list", "--porcelain")
    swarm.look_again()


@pytest.mark.slow
def test_workers_that_were_left_running_go_along_with_a_move(
    swarm: Swarm, repo: Path, tmp_path: Path
) -> None:
    """A worker left running while the repository is moved is adopted at the new place: it runs once, its exit code is read and
    its work lands; what it left running ends with it."""
    away = "setsid -f sh -c 'while :; do sleep 1; done' > /dev/null 2>&1"
    up(swarm, "moved", swarm.task("second", f"echo second > out-second; {away}", gate="go", attempts=1))
    swarm("stop", "--leave-workers")
    swarm.top = tmp_path / "elsewhere"
    repo.rename(swarm.top)
    swarm("start")
    assert task_of(swarm.run_of("moved"), "second")["attempts"][0]["state"] == "running"
    swarm.open("go")
    run = swarm.wait("moved")
    swarm.check_landed(run)
    assert sorted(swarm.starts()) == ["first", "second"]
    assert len(task_of(run, "second")["attempts"]) == 1
    assert not repo.exists()
    swarm.look_again()


def test_gc_and_tidying_by_hand_lose_nothing(swarm: Swarm) -> None:
    """Whatever a person tidies up between two landings (gc, reflogs, packed refs, worktree prune, branches of ours), finished
    work is kept, and landing goes on."""
    red = swarm.task("red", attempts=1, verify=["false"])
    up(swarm, "tidy", swarm.task("second", gate="go"), red)
    wait_until(lambda: state_of(swarm, "tidy", "red") == "failed")
    kept = git(swarm.top, "rev-parse", "swarm/tidy/task/red/1")
    git(swarm.top, "pack-refs", "--all")
    git(swarm.top, "worktree", "prune", "--expire=now")
    git(swarm.top, "branch", "-q", "-D", "swarm/tidy/staging", "swarm/tidy/task/first/1")
    git(swarm.top, "reflog", "expire", "--expire=now", "--all")
    git(swarm.top, "gc", "-q", "--prune=now")
    swarm.look_again()
    swarm.open("go")
    swarm.check_landed(swarm.wait("tidy", code=1))
    git(swarm.top, "fsck", "--connectivity-only", "--no-dangling")
    assert git(swarm.top, "rev-parse", "swarm/tidy/task/red/1") == kept
    assert swarm.content("tidy", "out-first") == "first\n"


@pytest.mark.slow
def test_what_gc_took_of_a_landing_while_it_was_published_is_brought_back_for_who_stands_on_it(
    swarm: Swarm,
) -> None:
    """A `gc --prune=now` between the copying of a landing and the move of its branch leaves staging without some of its objects:
    the attempt that began there is collected all the same, and no attempt is used up."""
    up(swarm, "short", swarm.task("second", needs=["first"], gate="go"))
    tree = git(swarm.top, "rev-parse", "swarm/short/staging^{tree}")
    (common_dir(swarm.top) / "objects" / tree[:2] / tree[2:]).unlink()
    swarm.open("go")
    run = swarm.wait("short")
    assert len(task_of(run, "second")["attempts"]) == 1
    swarm.check_landed(run)
    git(swarm.top, "fsck", "--connectivity-only", "--no-dangling")


def test_a_landing_repository_that_was_deleted_is_founded_again(swarm: Swarm) -> None:
    """Without its landing repository a run goes on from what is in the user's repository: nothing landed is lost or lands twice."""
    up(swarm, "found", swarm.task("staging", gate="go"))
    swarm("stop")
    before = swarm.staging("found")
    shutil.rmtree(common_dir(swarm.top) / "swarm" / "landing.git")
    swarm("start")
    swarm.open("go")
    run = swarm.wait("found")
    swarm.check_landed(run)
    assert swarm.landings("found") == ["first", "staging"]
    assert git(swarm.top, "rev-parse", f"{swarm.staging('found')}^") == before


@pytest.mark.slow
def test_the_landing_repository_of_a_finished_run_is_founded_again_too(swarm: Swarm) -> None:
    """A run that is over can be added to after its landing repository was deleted, which the audit tells in plain words; after that
    it finds nothing amiss."""
    swarm.run(swarm.plan("over", [swarm.task("first")]))
    swarm("finish", "--run", "over")
    swarm("stop")
    shutil.rmtree(common_dir(swarm.top) / "swarm" / "landing.git")
    audited = swarm("audit", code=1).out
    assert "landing.git lacks staging of over" in audited
    assert "fatal:" not in audited
    swarm.look_again()
    swarm("start")
    swarm("audit")
    swarm.run(swarm.plan("over", [swarm.task("first"), swarm.task("second")]))
    assert swarm.landings("over", "main")[-1] == "second"


@pytest.mark.slow
def test_a_landing_repository_that_cant_be_founded_again_starts_nothing(swarm: Swarm) -> None:
    """Where what was published is nowhere else a start is refused and says what is missing; with it the run goes on."""
    run = swarm.run(swarm.plan("lone", [swarm.task("first")]))
    swarm("stop")
    staging = swarm.staging("lone")
    spare = swarm.outside / "spare"
    git(swarm.top, "clone", "-q", "--bare", ".", str(spare))
    shutil.rmtree(common_dir(swarm.top) / "swarm" / "landing.git")
    git(swarm.top, "branch", "-q", "-D", "swarm/lone/staging", "swarm/lone/task/first/1")
    git(staging_tree(run), "checkout", "-q", "--detach", "main")
    git(swarm.top, "reflog", "expire", "--expire=now", "--all")
    git(swarm.top, "gc", "-q", "--prune=now")
    refused = swarm("start", code=4)
    assert staging in refused.err
    git(swarm.top, "fetch", "-q", str(spare), "swarm/lone/staging:swarm/lone/staging")
    swarm.look_again()
    swarm("start")
    swarm.check_landed(swarm.run_of("lone"))

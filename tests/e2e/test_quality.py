"""What is looked at before a merge: `swarm verify`, and QA that `swarm finish` may ask for; and the deploy command after it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import git, is_gone, wait_until
from tests.e2e.driver import PATIENCE_S, Swarm


def verdict(word: str, *issues: str) -> str:
    """A shell command with which a reviewer says this."""
    said = json.dumps({"verdict": word, "issues": list(issues)})
    return f'printf %s {shlex.quote(said)} > "$SWARM_RESULT_FILE"'


def with_qa(swarm: Swarm, reviewer: str, fixer: str = "", **more: str) -> None:
    swarm.env |= {"SWARM_QA__REVIEWER": swarm.does(reviewer), "SWARM_QA__FIXER": fixer}
    swarm.env |= {f"SWARM_QA__{name.upper()}": value for name, value in more.items()}


def rounds(run: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(each["task"], each["verdict"], each["fix"]) for each in run["qa"]["rounds"]]


def test_staging_is_reviewed_mended_and_approved_before_it_is_finished(swarm: Swarm) -> None:
    """Reject, mend, approve: two rounds are recorded, the reviewer sees what landed and the base has not, the fixer changes what
    its role owns, and a finish is refused until there is an approval of exactly what stands on staging."""
    seen = swarm.outside / "seen"
    reviewer = (
        f"cat out-a >> {shlex.quote(str(seen))}; "
        f"if [ -e mended ]; then {verdict('approve')}; else {verdict('reject', 'not mended')}; fi"
    )
    with_qa(swarm, reviewer, 'cp "$SWARM_FEEDBACK_FILE" mended')
    swarm.env |= {"SWARM_OWNERSHIP__EDITOR": '["mended"]', "SWARM_OWNERSHIP__FIXER": '["mended"]'}
    swarm.run(swarm.plan("r", [swarm.task("a")], verify=["test -e out-a"]))
    refused = swarm("finish", code=4).err
    assert "has not been reviewed" in refused
    assert "swarm qa" in refused
    told = swarm("qa").out
    assert "qa-1 rejects" in told
    assert "Approved: staging" in told
    run = swarm.run_of("r")
    assert rounds(run) == [("qa-1", "reject", "qa-1-fix"), ("qa-2", "approve", None)]
    assert seen.read_text() == "a\n" * 2
    assert swarm.content("r", "mended") == "- not mended\n"
    assert git(swarm.top, "ls-tree", "--name-only", "main", "out-a") == ""
    assert swarm.landings("r") == ["a", "qa-1", "qa-1-fix", "qa-2"]
    swarm("start")
    swarm("add", "--title", "b", "--run", swarm.does("echo b > b", gate="b"))
    assert "Approved: staging" in swarm("qa", "--partial").out  # it does not wait for b
    reviewed = swarm("qa", "--partial", "--json").json["runs"][0]
    assert [each["id"] for each in reviewed["tasks"]] == [each["id"] for each in swarm.run_of("r")["tasks"]]
    assert "tasks_omitted" not in reviewed
    assert "would go from" in swarm("finish", "--partial", "--preview").out
    swarm.open("b")
    swarm.wait("r")
    assert swarm.run_of("r")["qa"]["state"] == "void"
    assert "has moved since it was approved" in swarm("finish", code=4).err
    assert "has moved since it was approved" in swarm("finish", "--preview", code=1).out
    swarm("qa")
    swarm("finish")
    assert git(swarm.top, "rev-parse", "main") == swarm.staging("r")
    swarm.look_again()
    swarm("discard", "r", "--force", "--yes", "staging")


@pytest.mark.slow
def test_a_finish_that_needs_no_approval_says_that_there_is_none(swarm: Swarm) -> None:
    """With qa.required = false what was not reviewed, or rejected, is merged, and that nobody approved is told."""
    with_qa(swarm, verdict("reject", "No docs"), required="false")
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    assert "it has not been reviewed" in swarm("finish", "--preview").out
    swarm("qa", code=1)
    done = swarm("finish", "--json").json["finish"]
    assert done["outcome"] == "finished"
    assert "No docs" in done["unapproved"]
    assert git(swarm.top, "rev-parse", "main") == swarm.staging("r")
    assert "approved" not in swarm("finish").out
    swarm.look_again()


@pytest.mark.slow
def test_qa_goes_on_where_a_kill_left_it(swarm: Swarm) -> None:
    """The daemon is killed while a reviewer works and again while the fixer does: neither runs twice, and QA ends as it would."""
    reviewer = f"if [ -e mended ]; then {verdict('approve')}; else {verdict('reject', 'not mended')}; fi"
    with_qa(swarm, "true")
    swarm.env["SWARM_QA__REVIEWER"] = swarm.does(reviewer, gate="$SWARM_TASK")
    swarm.env["SWARM_QA__FIXER"] = swarm.does("echo x > mended", gate="$SWARM_TASK")
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm("start")
    asked = swarm.spawn("qa")
    for at in ("qa-1", "qa-1-fix"):
        swarm.wait_for_start(at)
        swarm.end_daemon()
        swarm("start")
        swarm.open(at)
    swarm.open("qa-2")
    swarm.wait("r")
    asked.communicate()
    assert rounds(swarm.run_of("r")) == [("qa-1", "reject", "qa-1-fix"), ("qa-2", "approve", None)]
    assert swarm.starts() == ["a", "qa-1", "qa-1-fix", "qa-2"]
    assert swarm.run_of("r")["qa"]["state"] == "approved"


@pytest.mark.slow
def test_qa_that_comes_to_nothing_says_why(swarm: Swarm) -> None:
    """The same issue three times ends it with exit 1 and names the issue; without a reviewer, or while tasks are open, it does not
    begin."""
    assert "no run" in swarm("qa", code=2).err
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    assert "qa.reviewer" in swarm("qa", code=2).err
    swarm("stop")  # what was begun for it is just ending
    with_qa(swarm, verdict("reject", "No docs"), "echo $SWARM_TASK > $SWARM_TASK")
    ended = swarm("qa", code=1)
    assert 'the same issue came up 3 times: "No docs"' in ended.out
    assert len(rounds(swarm.run_of("r"))) == 3
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a"), swarm.task("b", gate="b")])))
    assert "1 task of run r has not ended" in swarm("qa", code=4).err
    swarm.open("b")
    swarm.wait("r")
    with_qa(swarm, "exit 1", "true")
    swarm("stop")
    assert "did not land" in swarm("qa", code=1).out
    swarm("start")
    assert "nothing to try again" in swarm("retry", "--failed").out
    assert "swarm qa" in swarm("retry", "qa-4", code=4).err


def test_verify_runs_every_suite_on_staging(swarm: Swarm) -> None:
    """`swarm verify` runs the suites of the plan and of what landed on the commit that stands on staging, also one moved by hand,
    each time and without a daemon; one that does not pass any more is named, with its output, and nothing is changed."""
    broken, ran = swarm.outside / "broken", swarm.outside / "ran"
    suite = f"echo x >> {shlex.quote(str(ran))}; echo looked at $(cat out-a); test ! -e {shlex.quote(str(broken))}"
    tasks = [swarm.task("a", verify=[{"name": "own", "run": "test -e out-a"}])]
    swarm.run(swarm.plan("r", tasks, verify=[{"name": "all", "run": suite}]))
    swarm.wait_for_rest()
    before = swarm.staging("r"), git(swarm.top, "for-each-ref"), ran.read_text()
    document = swarm("verify", "--json").json
    assert document["commit"] == before[0]
    assert [(each["name"], each["outcome"]) for each in document["suites"]] == [
        ("all", "passed"),
        ("own", "passed"),
    ]
    broken.touch()
    failed = swarm("verify", code=1).out
    assert "looked at a" in failed
    assert "1 of 2 suites passed" in failed
    assert ran.read_text() == before[2] + "x\n" * 2
    assert (swarm.staging("r"), git(swarm.top, "for-each-ref")) == before[:2]
    assert swarm.status()["daemon"]["running"] is False
    git(swarm.top, "branch", "-f", "swarm/r/staging", "main")
    moved = swarm("verify", code=1).out
    assert f"at {git(swarm.top, 'rev-parse', 'main')[:9]}, moved there by hand" in moved
    git(swarm.top, "branch", "-f", "swarm/r/staging", before[0])


@pytest.mark.slow
def test_verify_runs_on_what_was_committed_on_staging_by_hand(swarm: Swarm) -> None:
    """A commit that a person made on staging is verified before any daemon has taken it in; its history is there for the suites."""
    seen = swarm.outside / "seen"
    suite = f"test ! -e by-hand || git log --format=%s > {shlex.quote(str(seen))}"
    swarm.run(swarm.plan("r", [swarm.task("a")], verify=[suite]))
    swarm.wait_for_rest()
    landed, tree = swarm.staging("r"), Path(swarm.run_of("r")["staging"]["worktree"])
    (tree / "by-hand").write_text("mine\n")
    git(tree, "add", "by-hand")
    git(tree, "commit", "-q", "-m", "mine")
    git(swarm.top, "branch", "-f", "swarm/r/staging", git(tree, "rev-parse", "HEAD"))
    assert swarm("verify", "--json").json["ok"] is True
    assert seen.read_text().splitlines()[:2] == ["mine", "Land a: Task a"]
    git(swarm.top, "branch", "-f", "swarm/r/staging", landed)
    git(tree, "checkout", "-q", "--detach", landed)


@pytest.mark.slow
def test_verify_says_why_no_suite_could_run(swarm: Swarm) -> None:
    """Where the setup of the worktrees fails, `swarm verify` shows the end of its output, and names no file that is gone; also on
    what the run started from, before which there is nothing that one could try."""
    git(swarm.top, "commit", "-q", "--allow-empty", "-m", "second")
    swarm.look_again()
    swarm.run(swarm.plan("r", [swarm.task("a")], verify=["true"]))
    swarm.wait_for_rest()
    landed = swarm.staging("r")
    for commit in (landed, "main", "main~1"):
        git(swarm.top, "branch", "-f", "swarm/r/staging", commit)
        said = swarm("verify", code=1, SWARM_WORKTREES__SETUP="echo no network >&2; exit 1").err
        assert said.startswith("The setup command of the worktrees ended with status 1: echo no network")
        assert "No suite has run. Its output ends:\nno network\n" in said
        assert "No worker" not in said
        assert "swarm-verify-" not in said
    git(swarm.top, "branch", "-f", "swarm/r/staging", landed)


def left_in(folder: Path) -> list[int]:
    """Lists the processes that work below a folder."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if each.cwd().startswith(f"{folder}/"):
                found.append(each.pid)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "number"),
    [
        (("verify",), signal.SIGTERM),
        (("audit", "--verify", "1"), signal.SIGHUP),
        (("verify",), signal.SIGKILL),
    ],
)
def test_a_verification_that_is_ended_leaves_nothing(
    swarm: Swarm, words: tuple[str, ...], number: signal.Signals
) -> None:
    """A polite kill and a closed terminal end its suites and remove its checkout, as Ctrl-C does; what one that was killed left is
    ended and removed by recover."""
    place, began = swarm.outside / "tmp", swarm.outside / "began"
    place.mkdir()
    swarm.env["TMPDIR"] = str(place)
    swarm.run(
        swarm.plan(
            "r", [swarm.task("a")], verify=[f"test ! -e {began}.now || (touch {began}; exec sleep 500)"]
        )
    )
    swarm.wait_for_rest()
    Path(f"{began}.now").touch()
    asked = swarm.spawn(*words)
    wait_until(began.exists)
    os.kill(asked.pid, number)
    asked.communicate(timeout=PATIENCE_S)
    Path(f"{began}.now").unlink()
    if number is signal.SIGKILL:
        assert left_in(place)
        (found,) = swarm("recover", "--json").json["found"]
        assert (found["kind"], found["mended"]) == ("process", True)
    else:
        assert asked.returncode == 130
    wait_until(lambda: not left_in(place))
    assert [path.name for path in place.iterdir() if path.name.startswith("swarm-verify-")] == []


@pytest.mark.slow
def test_a_run_that_nothing_verifies_says_so(swarm: Swarm) -> None:
    """Where the plan has no suites nothing has passed either."""
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    assert "Nothing verifies" in swarm("verify").out


def deploys(swarm: Swarm, command: str) -> Path:
    swarm.env["SWARM_DEPLOY__COMMAND"] = command
    return swarm.outside / "deployed"


@pytest.mark.slow
def test_the_deploy_command_runs_once_after_a_finish(swarm: Swarm) -> None:
    """It runs for the commit that the target was left at, its output is kept, a failure is exit 1 and the next finish runs it
    again; once it has succeeded it does not run again, and a preview does not run it."""
    ready = swarm.outside / "ready"
    done = deploys(
        swarm,
        f'echo "$SWARM_RUN $SWARM_TARGET $SWARM_COMMIT" | tee -a {swarm.outside}/deployed; test -e {ready}',
    )
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm("finish", "--preview")
    assert not done.exists()
    failed = swarm("finish", "--json", code=1).json["finish"]
    swarm.look_again()
    line = f"r main {swarm.staging('r')}\n"
    assert (failed["outcome"], failed["deploy"]["exit_code"]) == ("finished", 1)
    assert Path(failed["deploy"]["log"]).read_text() == line
    ready.touch()
    assert "Deployed: " in swarm("finish").out
    assert "It was deployed before" in swarm("finish").out
    assert done.read_text() == line * 2
    swarm("start")
    swarm("discard", "r", "--force", "--yes", "staging")
    assert not Path(failed["deploy"]["log"]).exists()


@pytest.mark.slow
def test_a_deploy_runs_where_the_target_is_checked_out(swarm: Swarm) -> None:
    """In a linked worktree that has the target checked out, with what was merged; at the top where it is checked out nowhere."""
    done = deploys(swarm, f'echo "$PWD $(ls out-*)" >> {swarm.outside}/deployed')
    other = swarm.outside / "other"
    git(swarm.top, "worktree", "add", "-q", "-b", "release", str(other))
    git(swarm.top, "branch", "nowhere")
    swarm.look_again()
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm("finish", "--into", "release")
    swarm.run(swarm.plan("s", [swarm.task("b")]))
    swarm("finish", "--run", "s", "--into", "nowhere")
    assert done.read_text() == f"{other} out-a\n{swarm.top} \n"
    swarm.look_again()


@pytest.mark.parametrize(
    ("brought", "said"),
    [
        (
            '[deploy]\ncommand = "touch {outside}/theirs"\n',
            "have another command for [deploy], which was not run",
        ),
        pytest.param(
            "[limits]\nzork = 3\n",
            "main has it all, and with it came settings that have an error:\n  swarm.toml:2: limits.zork",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["command", "error"],
)
def test_a_finish_deploys_by_the_settings_before_it(swarm: Swarm, brought: str, said: str) -> None:
    """What a worker wrote into swarm.toml is not run by the finish that brings it, nor read as an error of a finish that went
    well; it is told."""
    text = brought.format(outside=swarm.outside)
    task = swarm.task("cfg", f"printf %s {shlex.quote(text)} > swarm.toml", claims=["swarm.toml"])
    swarm.run(swarm.plan("r", [task]))
    finished = swarm("finish")
    assert said in finished.err
    assert "Nothing was done" not in finished.err
    assert "Run r is on main" in finished.out
    assert not (swarm.outside / "theirs").exists()
    swarm.look_again()


def test_a_deploy_whose_finish_was_killed_is_waited_for(swarm: Swarm) -> None:
    """The command goes on when `swarm finish` is killed, and the next one takes its result instead of deploying twice."""
    done = deploys(
        swarm, f"echo x >> {swarm.outside}/deployed; until [ -e {swarm.gate('go')} ]; do sleep 0.05; done"
    )
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    finishing = swarm.spawn("finish")
    wait_until(done.exists)
    finishing.kill()
    finishing.communicate()
    again = swarm.spawn("finish")
    swarm.open("go")
    out, _ = again.communicate(timeout=PATIENCE_S)
    swarm.look_again()
    assert again.returncode == 0
    assert "eployed" in out
    assert done.read_text() == "x\n"


@pytest.mark.slow
def test_a_deploy_that_takes_too_long_is_ended(swarm: Swarm) -> None:
    """When its time is over it is ended with all that it started, and said to have failed."""
    deploys(swarm, "sleep 1000 & sleep 1000")
    swarm.env["SWARM_DEPLOY__TIMEOUT_S"] = "0.5"
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    assert "did not end in time" in swarm("finish", code=1).out
    swarm.look_again()
    wait_until(lambda: not any("sleep" in line for line in swarm.left_running()))


@pytest.mark.slow
def test_collisions_are_told_while_workers_work(swarm: Swarm) -> None:
    """`swarm claims --work` says what each running worker has changed so far, what of it lies outside its claims, and with whom it
    would conflict; nothing is changed by asking. Ended, it leaves neither a git that still reads nor what that has read."""
    tasks = [
        swarm.task("one", "echo one > shared; echo x > own", claims=["own"], gate="go"),
        swarm.task("two", "echo two > shared", claims=["shared"], gate="go"),
    ]
    swarm("start")
    swarm("submit", str(swarm.plan("r", tasks)))
    swarm.wait_for_start("one", "two")
    wait_until(lambda: all(each["changed"] for each in swarm("claims", "--work", "--json").json["work"]))
    work = {each["task"]: each for each in swarm("claims", "--work", "--json").json["work"]}
    assert (work["one"]["changed"], work["one"]["strays"]) == (["own", "shared"], ["shared"])
    assert work["two"]["strays"] == []
    assert work["two"]["conflicts"] == [{"with": "r/one", "paths": ["shared"]}]
    told = swarm("claims", "--work").out
    assert "would conflict with r/two in shared" in told

    temporary, begun = swarm.outside / "temporary", swarm.outside / "begun"
    temporary.mkdir()
    attributes = swarm.top / ".git" / "info" / "attributes"
    attributes.write_text("* filter=slow\n")
    git(swarm.top, "config", "filter.slow.clean", f"echo $$ >> {begun}; exec sleep 1000")
    asking = swarm.spawn("claims", "--work", TMPDIR=str(temporary))
    # The daemon, asked how things stand, has a git of its own meet that filter, maybe before this one has any.
    # A folder: Python tries first whether files can be made there, and ended in between leaves that one.
    wait_until(
        lambda: (
            any(path.is_dir() for path in temporary.iterdir())
            and begun.exists()
            and begun.read_text().endswith("\n")
        )
    )
    asking.terminate()
    assert asking.wait(PATIENCE_S) == 130
    assert not list(temporary.iterdir())
    attributes.unlink()
    git(swarm.top, "config", "--remove-section", "filter.slow")
    for pid in begun.read_text().split():
        wait_until(is_gone, int(pid))
    swarm.open("go")
    swarm("wait", "--run", "r", code=None)


def test_a_conflict_is_told_before_it_comes_about(swarm: Swarm) -> None:
    """Of two workers that share a file it is told, while both still work, that they would conflict there."""
    shared = [{"path": "both", "mode": "shared"}]
    tasks = [swarm.task(name, f"echo {name} > both", claims=shared, gate="go") for name in ("one", "two")]
    swarm("start", SWARM_LIMITS__FORESEE_EVERY_S="0.1")
    swarm("submit", str(swarm.plan("r", [*tasks, swarm.task("apart", gate="go")])))
    swarm.wait_for_gate("one", "two", "apart")
    wait_until(lambda: len(swarm.events("ConflictForeseen")) == 2)
    shown = {each["id"]: each["attempts"][0]["foreseen"] for each in swarm.run_of("r")["tasks"]}
    assert shown["one"] == [{"with": "r/two", "path": "both"}]
    assert shown["two"] == [{"with": "r/one", "path": "both"}]
    assert shown["apart"] == []
    assert "would conflict with r/two" in swarm("status").out
    swarm.open("go")
    swarm.check_landed(swarm.wait("r"))

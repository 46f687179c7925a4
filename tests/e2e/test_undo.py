"""`swarm undo`: landed work off staging again by a verified revert, with what needed it, and anew by a retry."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, SWARM, Swarm
from tests.e2e.test_behind_our_back import commit
from tests.e2e.test_ends import code_of, task_of


def three(swarm: Swarm, name: str, **more: Any) -> dict[str, Any]:
    """A run of three landed tasks, of which the second needs the first, with a daemon beside it."""
    plan = swarm.plan(
        name, [swarm.task("base"), swarm.task("top", needs=["base"]), swarm.task("other")], **more
    )
    swarm("start")
    swarm("submit", str(plan))
    return swarm.wait(name)


def test_undo_takes_a_task_off_with_what_needed_it(swarm: Swarm) -> None:
    """An undo is one commit on staging, verified, with a trailer for each task it takes off; the others stay, the worktree follows,
    and a retry lands them anew."""
    three(swarm, "off", verify=["test -f README.md"])
    before = swarm.staging("off")
    said = swarm("undo", "base", "--json")
    assert said.err == "To be taken off staging again: top, base\n"
    done = said.json
    assert (done["undone"], done["cancelled"], done["blocked"]) == (["top", "base"], [], [])
    assert done["commit"] == swarm.staging("off")
    assert git(swarm.top, "rev-parse", f"{done['commit']}^@") == before
    shown = git(swarm.top, "log", "-1", "--format=%s%n%(trailers)", done["commit"]).splitlines()
    assert shown == [
        "Undo base: Task base",
        "Swarm-Run: off",
        "Swarm-Undo: top",
        "Swarm-Undo: base",
        "Swarm-Verified: test -f README.md",
    ]
    assert [swarm.content("off", f"out-{name}") for name in ("base", "top", "other")] == [
        None,
        None,
        "other\n",
    ]
    run = swarm.run_of("off")
    assert [(task["id"], task["state"], task["landed_commit"]) for task in run["tasks"][:2]] == [
        ("base", "cancelled", None),
        ("top", "cancelled", None),
    ]
    assert {code_of(run, "base"), code_of(run, "top")} == {"undone"}
    assert run["staging"]["verified"]
    swarm.wait_for_follow("off")
    assert "undone already" in swarm("undo", "base", "--yes").out
    told = swarm("retry", "top", code=1).out
    why = "base ended without landing\n  Next: swarm retry base\n"
    assert told == f"off/top is blocked again, before any attempt: {why}"
    refused = swarm("cancel", "top", code=4).err
    assert "finish merges without what did not land" in refused
    refused = swarm("undo", "top", code=4).err
    assert 'Task "top" is blocked; only what has landed can be undone' in refused
    assert "Next: swarm show off/top" in refused
    swarm("retry", "base")  # top goes on with it
    run = swarm.wait("off")
    assert [task["state"] for task in run["tasks"]] == ["landed"] * 3
    assert [swarm.content("off", f"out-{name}") for name in ("base", "top", "other")] == [
        "base\n",
        "top\n",
        "other\n",
    ]
    assert sorted(swarm.landings("off")) == ["base", "base", "other", "top", "top"]
    swarm("audit")


@pytest.mark.slow
@pytest.mark.parametrize("why", ["conflict", "red"])
def test_an_undo_that_does_not_do_changes_nothing(swarm: Swarm, why: str) -> None:
    """An undo that conflicts with what came later is refused with exit 4, one that does not pass with 1; staging and tasks stay."""
    (swarm.top / "f").write_text("zero\n")
    git(swarm.top, "add", "f")
    git(swarm.top, "commit", "-q", "-m", "f")
    swarm.look_again()
    tasks = [swarm.task(name, f"echo {name} > f", claims=["f"]) for name in ("one", "two")]
    red = {"verify": ["test $(cat f) != zero"]}
    plan = swarm.plan("stay", tasks if why == "conflict" else tasks[:1], **({} if why == "conflict" else red))
    swarm("start")
    swarm("submit", str(plan))
    run = swarm.wait("stay")
    before = swarm.staging("stay")
    refused = swarm("undo", "one", "--yes", code=4 if why == "conflict" else 1)
    assert "was not undone" in refused.err
    assert swarm.staging("stay") == before
    assert {task["state"] for task in swarm.run_of("stay")["tasks"]} == {"landed"}
    assert task_of(swarm.run_of("stay"), "one")["landed_commit"] == task_of(run, "one")["landed_commit"]
    assert len(swarm.events("UndoRefused")) == 1
    swarm("audit")


def undo_under_way(swarm: Swarm, name: str) -> subprocess.Popen[str]:
    """An undo of the task "base" of a run of three, which is verified until the gate "suite" is open."""
    slow, gate = swarm.gate("slow"), swarm.gate("suite")
    suite = f"! test -f {slow} || until test -f {gate}; do sleep 0.05; done"
    three(swarm, name, verify=[{"name": "suite", "run": suite, "remember": False}])
    swarm.open("slow")
    asked = swarm.spawn("undo", "base", "--yes")
    wait_until(
        lambda: any(a["state"] == "verifying" for a in task_of(swarm.run_of(name), "base")["attempts"])
    )
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_undo_that_nobody_waits_for_goes_on_and_can_be_given_up(
    swarm: Swarm, number: signal.Signals
) -> None:
    """Ctrl-C ends the waiting alone, and says so with what gives the undo up; given up, all stays on staging."""
    asked = undo_under_way(swarm, "waited")
    before = swarm.staging("waited")
    os.kill(asked.pid, number)
    err = asked.communicate(timeout=PATIENCE_S)[1]
    assert asked.returncode == 130
    assert "Detached: the undo of waited/base goes on, and lands once its suites have passed." in err
    assert "Give it up: swarm cancel base\n" in err
    swarm("cancel", "base")
    swarm.open("suite")
    run = swarm.wait("waited")
    assert {task["state"] for task in run["tasks"]} == {"landed"}
    assert swarm.staging("waited") == before
    assert swarm("undo", "base", "--yes", "--json").json["undone"] == ["top", "base"]
    swarm("audit")


@pytest.mark.slow
def test_who_waits_for_an_undo_that_is_given_up_is_told_so(swarm: Swarm) -> None:
    """Another one gave it up: nothing came after what was to be undone, and the same again is all there is to do."""
    asked = undo_under_way(swarm, "given-up")
    swarm("cancel", "base")
    err = asked.communicate(timeout=PATIENCE_S)[1]
    assert asked.returncode == 4
    assert "was not undone: it was cancelled" in err
    assert "Next: swarm undo given-up/base, if it is to go all the same" in err
    swarm.open("suite")


@pytest.mark.slow
def test_an_undo_survives_the_death_of_the_daemon(swarm: Swarm) -> None:
    """An undo whose daemon is killed while it is verified is finished by the next one."""
    asked = undo_under_way(swarm, "dies")
    swarm.end_daemon()
    asked.communicate(timeout=PATIENCE_S)
    swarm.open("suite")
    swarm("start")
    run = swarm.wait("dies", code=1)
    assert {code_of(run, "base"), code_of(run, "top")} == {"undone"}
    assert swarm.content("dies", "out-base") is None
    swarm("audit")


@pytest.mark.slow
def test_undo_of_what_a_person_committed_and_of_a_finished_run(swarm: Swarm) -> None:
    """A landing made by hand is undone like any other, after `finish` too: it is said that the target still has it, and the next
    finish brings the undo there."""
    swarm.run(swarm.plan("hand", [swarm.task("first")]))
    swarm("start")
    commit(swarm.wait_for_follow("hand"), "theirs.txt", "mine\n", "Mine")
    swarm("finish", "--run", "hand")
    assert (swarm.top / "theirs.txt").exists()
    git(swarm.top, "branch", "before", "main~1")
    assert swarm("undo", "by-hand-1", "--json").json["still_on"] == ["main"]
    assert swarm.content("hand", "theirs.txt") is None
    assert "is still on main" in swarm("undo", "by-hand-1").out
    swarm("retry", "by-hand-1", code=4)
    swarm("finish", "--run", "hand")
    assert not (swarm.top / "theirs.txt").exists()
    assert swarm("undo", "by-hand-1", "--json").json["still_on"] == []
    swarm("audit")
    swarm.look_again()


@pytest.mark.slow
def test_undo_asks_at_a_terminal(swarm: Swarm) -> None:
    """At a terminal an undo says what goes with it and asks; no leaves everything as it is."""
    three(swarm, "ask")
    before = swarm.staging("ask")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [*SWARM, "undo", "base"], cwd=swarm.top, env=swarm.env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, b"n\n")
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:
        pass  # the other side is closed
    child.wait(timeout=PATIENCE_S)
    os.close(ours)
    assert b"top, base" in said
    assert b"Go on?" in said
    assert b"Nothing was undone." in said
    assert child.returncode == 1
    assert swarm.staging("ask") == before

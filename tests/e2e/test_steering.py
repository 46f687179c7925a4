"""Steering what runs: pausing, telling, cancelling; and the exit codes that scripts rely on."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, PROJECT, Swarm, runs
from tests.e2e.test_behind_our_back import said_until
from tests.e2e.test_ends import code_of, task_of


def test_a_pause_holds_starts_and_nothing_else(swarm: Swarm) -> None:
    """Row 73: a pause starts nothing new, what runs goes on and lands; resume goes on; one task can be held alone."""
    plan = swarm.plan(
        "r",
        [swarm.task("a", gate="a"), swarm.task("b", needs=["a"], gate="b"), swarm.task("held", needs=["b"])],
    )
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("a")
    swarm("pause")
    assert swarm.status()["daemon"]["paused"] is True
    swarm.open("a")
    swarm.wait_for_landed("r", "a")
    run = swarm.run_of("r")
    assert [task["state"] for task in run["tasks"]] == ["landed", "ready", "pending"]
    assert code_of(run, "b") == "paused"
    assert "paused" in swarm("status").out
    swarm("resume")
    swarm.wait_for_start("b")
    swarm("pause", "held")
    swarm.open("b")
    swarm.wait_for_landed("r", "a", "b")
    assert code_of(swarm.run_of("r"), "held") == "paused"
    assert swarm.starts() == ["a", "b"]
    swarm("resume", "held")
    swarm.check_landed(swarm.wait("r"))


def test_a_note_reaches_the_next_attempt(swarm: Swarm) -> None:
    """Row 73: what a person tells a task is in the feedback and the prompt of its next attempt; an empty note is refused."""
    heard = swarm.outside / "heard"
    work = f'[ "$SWARM_ATTEMPT" = 2 ] || exit 1; cat "$SWARM_FEEDBACK_FILE" "$SWARM_PROMPT_FILE" > {heard}; echo x > out'
    slow = f"until [ -e {swarm.gate('told')} ]; do sleep 0.02; done; {work}"
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("t", slow, claims=["out"], prompt="Do it")])))
    swarm.wait_for_start("t")
    assert "The note is empty" in swarm("tell", "t", " ", code=2).err
    swarm("tell", "t", "use", "the", "other", "parser")
    swarm.open("told")
    swarm.check_landed(swarm.wait("r"))
    assert heard.read_text().count("use the other parser") == 2
    assert "Do it" in heard.read_text()


def test_a_cancelled_run_ends_its_workers_and_keeps_their_work(swarm: Swarm) -> None:
    """Row 94: cancelling a run ends its workers with their children and keeps what they did on branches; wait ends with 1."""
    pid = swarm.outside / "pid"
    work = f"echo half > half; setsid sleep 300 & echo $! > {pid}; sleep 300"
    suite = "sleep 300"
    plan = swarm.plan(
        "r",
        [
            swarm.task("t", work, claims=["half"]),
            swarm.task("later", needs=["t"]),
            swarm.task("landing", verify=[suite]),
        ],
    )
    swarm("start")
    swarm("submit", str(plan))
    wait_until(
        lambda: (
            task_of(swarm.status()["runs"][0], "landing")["state"] == "landing"
            and pid.exists()
            and pid.read_text()
        )
    )
    swarm("cancel", "--run", "r")
    run = swarm.wait("r", code=1)
    assert [task["state"] for task in run["tasks"]] == ["cancelled"] * 3
    assert not runs(int(pid.read_text()))
    assert git(swarm.top, "show", "swarm/r/task/t/1:half") == "half"
    assert git(swarm.top, "show", "swarm/r/task/landing/1:out-landing") == "landing"
    wait_until(lambda: not [line for line in swarm.left_running() if "sleep 300" in line])
    assert swarm.staging("r") == git(swarm.top, "rev-parse", "main")


def test_one_task_can_be_cancelled_and_tried_again(swarm: Swarm) -> None:
    """A cancelled task blocks what needs it; retry brings both back."""
    work = '[ "$SWARM_ATTEMPT" -gt 1 ] || sleep 300; echo x > out'
    swarm("start")
    swarm(
        "submit",
        str(
            swarm.plan(
                "r",
                [
                    swarm.task("t", work, claims=["out"]),
                    swarm.task("child", needs=["t"]),
                    swarm.task("other"),
                ],
            )
        ),
    )
    swarm.wait_for_start("t")
    swarm("cancel", "t")
    run = swarm.wait("r", code=1)
    assert [task["state"] for task in run["tasks"]] == ["cancelled", "blocked", "landed"]
    again = swarm("cancel", "t")
    assert "Cancelled: r/t" in again.out
    assert "has landed already" in swarm("cancel", "t", "other", code=4).err
    swarm("retry", "t")
    swarm.check_landed(swarm.wait("r"))
    assert sorted(swarm.landings("r")) == ["child", "other", "t"]


def test_exit_codes(swarm: Swarm) -> None:
    """Row 76: all landed 0, one failed 1, invalid plan or use 2, no daemon 3, refused 4, a wait that timed out 124."""
    good = swarm.plan("good", [swarm.task("t")])
    bad = swarm.plan("bad", [swarm.task("t", "exit 1", claims=["x"], attempts=1)])
    wrong = swarm.plan("wrong", [swarm.task("t", needs=["t"])])
    for words in (
        ["wait"],
        ["submit", str(good)],
        ["pause"],
        ["retry", "t"],
        ["cancel", "t"],
        ["scale", "2"],
        ["tell", "t", "x"],
    ):
        expected = 3 if words != ["wait"] else None
        done = swarm(*words, code=expected)
        assert done.code in (2, 3)
        assert done.err
    swarm("run", str(good), code=0)
    swarm("run", str(bad), code=1)
    swarm("run", str(wrong), code=2)
    swarm("check", str(wrong), code=2)
    swarm("run", str(swarm.outside / "missing.toml"), code=2)
    swarm("nonsense", code=2)
    swarm("status", "--nonsense", code=2)
    swarm("start")
    swarm("submit", str(swarm.plan("long", [swarm.task("t", gate="t")])))
    swarm("wait", "--run", "long", "--timeout", "0.2", code=124)
    swarm("retry", "t", "--run", "long", code=4)
    swarm("finish", "--run", "long", code=4)
    swarm.open("t")
    swarm("wait", "--run", "long", code=0)
    swarm("wait", "--run", "bad", code=1)
    swarm("stop")
    swarm("wait", "--run", "bad", code=1)
    swarm("wait", "--run", "good", code=0)
    swarm("stop", code=0)


@pytest.mark.slow
def test_a_wait_that_names_no_run_is_for_all_that_are_active(swarm: Swarm) -> None:
    """Every active run is waited for within one time, and told of by its name, also what keeps it from going on; one that has ended
    is not. Where none is active, those that are not finished are told of, with a daemon or without one."""
    swarm.run(swarm.plan("old", [swarm.task("t", "exit 1", claims=["x"], attempts=1)]), code=1)
    swarm("start")
    swarm("pause")
    for name in ("p", "q"):
        swarm("submit", str(swarm.plan(name, [swarm.task(name)])))
    late = swarm("wait", "--timeout", "0.2", code=124)
    assert late.out == ""
    assert "Runs p, q have not ended within 0.2 s." in late.err
    children = [swarm.spawn("wait", "-q"), swarm.spawn("wait", "--json")]
    for child in children:
        said = ""
        while said.count("waited for all the same") < 2:
            said += said_until(child, "waited for all the same")
        assert all(f"Run {name} can't go on: everything is paused" in said for name in ("p", "q"))
    swarm("resume")
    told, document = (child.communicate(timeout=PATIENCE_S)[0] for child in children)
    assert [child.returncode for child in children] == [0, 0]
    assert [line.partition(" landed")[0] for line in told.splitlines()] == ["p: 1", "q: 1"]
    assert [run["id"] for run in json.loads(document)["runs"]] == ["p", "q"]
    swarm("finish", "--run", "p")
    swarm.look_again()
    for _ in range(2):
        lines = swarm("wait", code=1).out.splitlines()
        assert [line.partition(":")[0] for line in lines if " landed, " in line] == ["old", "q"]
        assert [run["id"] for run in swarm("wait", "--json", code=1).json["runs"]] == ["old", "q"]
        swarm("stop")


@pytest.mark.slow
def test_what_is_said_of_tasks_that_have_ended(swarm: Swarm) -> None:
    """Of a task that has landed, tell, retry, cancel and pause say how there could be another attempt; of one that failed,
    tell does; what wait says to type next is right for a daemon that runs."""
    swarm("start")
    tasks = [swarm.task("good"), swarm.task("bad", "exit 1", claims=["x"], attempts=1)]
    swarm("submit", str(swarm.plan("r", tasks)))
    ended = swarm("wait", code=1)
    assert ended.out.splitlines()[-2] == "  Again: swarm retry --failed"
    assert swarm("tell", "bad", "x").out == "The next attempt at bad is told. Next: swarm retry bad\n"
    assert "swarm undo good, then swarm retry good" in swarm("tell", "r/good", "x").out.replace(
        "r/good", "good"
    )
    for words in ("retry", "cancel", "pause"):
        refused = swarm(words, "good", code=4)
        assert 'Task "good" has landed' in refused.err
        assert "Next: swarm undo good" in refused.err
    assert "Next: swarm show bad" in swarm("pause", "bad", code=4).err
    assert swarm("pause", "--run", "r").out.endswith("Next: swarm resume --run r\n")
    preview = swarm("finish", "--preview").out.splitlines()
    assert preview[-1] == "1 landed, 1 failed (worker_failed), 0 blocked"
    assert "is not in the range" in swarm("scale", "-1", code=2).err


@pytest.mark.parametrize("how", ["as printed", pytest.param("everything", marks=pytest.mark.slow)])
def test_each_pause_is_lifted_by_what_is_printed(swarm: Swarm, how: str) -> None:
    """Of a task, a run, and both together: what status prints lifts the pause that holds a task, and `swarm resume` every one."""
    swarm("start")
    tasks = [swarm.task("t", gate="go"), swarm.task("later", needs=["t"])]
    swarm("submit", str(swarm.plan("r", tasks)))
    swarm("submit", str(swarm.plan("other", [swarm.task("t", gate="never")])))
    swarm.wait_for_start("t")
    assert swarm("pause", "later").out.endswith("Next: swarm resume later\n")
    assert swarm("pause", "t", "--run", "other").out.endswith("Next: swarm resume other/t\n")
    swarm.open("go")
    swarm.wait_for_landed("r", "t")

    def text() -> str:
        return str(task_of(swarm.run_of("r"), "later")["reason"]["text"])

    assert text() == "paused; swarm resume r/later goes on"
    swarm("pause", "--run", "r")
    assert text() == "paused; swarm resume goes on"
    if how == "everything":
        assert swarm("resume").out == "Resumed everything.\n"
    else:
        swarm("resume", "r/later")
        assert text() == "paused; swarm resume --run r goes on"
        swarm("resume", "--run", "r")
    swarm.wait("r")
    resumed = [(event.get("run"), event.get("task")) for event in swarm.events("Resumed")]
    assert ("other", "t") in resumed or how != "everything"
    swarm("cancel", "--run", "other")


@pytest.mark.slow
@pytest.mark.parametrize("older", ["finished", "ended"])
def test_what_is_printed_works_beside_an_older_run(swarm: Swarm, older: str) -> None:
    """With an older run in the repository, whose tasks have the same names, each command that is printed about a newer one does
    what it says, as it is printed; while the older one is finished, nothing has to be said of runs."""
    names = ("a", "z")
    swarm.run(swarm.plan("old", [swarm.task(name) for name in names]))
    swarm("start")
    if older == "finished":
        swarm("finish")
        swarm.look_again()
    again = [swarm.task("a", "echo 2 > out-a"), swarm.task("z", "echo no > z; exit 1", attempts=1)]
    ended = swarm("run", str(swarm.plan("new", again)), code=1).out
    assert ("new" in ended.partition("  Merge:")[2]) == (older != "finished")
    look, why, retry, merge = (printed(ended, label) for label in ("Look", "Why", "Again", "Merge"))
    assert look[0].startswith("git log --first-parent main..swarm/new/staging")
    shown = "".join(swarm(*each.split()[1:]).out for each in why)
    assert "new/z  failed" in shown
    more, once = printed(shown, "Look"), printed(shown, "Again")
    for each in more:
        assert swarm(*each.partition(";")[0].split()[1:]).out
    assert "new/z" in swarm(*retry[0].split()[1:]).out
    swarm.wait("new", code=1)
    assert "new/z" in swarm(*once[0].split()[1:]).out
    swarm.wait("new", code=1)
    swarm(*merge[0].split()[1:])
    assert swarm.run_of("new")["state"] == "finished"
    swarm.look_again()


def printed(text: str, label: str) -> list[str]:
    """Gives the commands of the line with this label."""
    line = next(line for line in text.splitlines() if line.strip().startswith(f"{label}:"))
    return line.partition(":")[2].strip().replace(", or ", ", ").split(", ")


def test_an_error_says_cause_consequence_and_next_step(swarm: Swarm) -> None:
    """What goes wrong is said on stderr in a few lines for people, never as a traceback, and stdout stays empty."""
    done = swarm("submit", str(swarm.plan("r", [swarm.task("t")])), code=3)
    assert done.out == ""
    assert "swarm start" in done.err
    assert len(done.err.splitlines()) <= 4


def test_both_names_and_the_module_are_the_program(swarm: Swarm) -> None:
    """`swarm`, `git-swarm` and `python -m swarm` are one program; its version is the package's."""
    said = {swarm("--version").out}
    for name in ("swarm", "git-swarm"):
        program = PROJECT / ".venv" / "bin" / name
        if program.exists():
            said.add(
                subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            )
    assert len(said) == 1

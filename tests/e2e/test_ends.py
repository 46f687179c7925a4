"""How tasks end, and that they say so truthfully."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm, runs


def task_of(run: dict[str, Any], task: str) -> dict[str, Any]:
    return next(dict(each) for each in run["tasks"] if each["id"] == task)


def code_of(run: dict[str, Any], task: str) -> str:
    return str(task_of(run, task)["reason"]["code"])


def test_any_command_is_a_worker(swarm: Swarm) -> None:
    """Row 78: a plain `sed -i` is a whole task; changes it left, and commits it made itself, land alike."""
    plan = swarm.plan(
        "plain",
        [
            {"id": "sed", "title": "Sed", "run": "sed -i s/1/2/ src/b.py", "claims": ["src/b.py"]},
            {
                "id": "own",
                "title": "Own commits",
                "run": "echo 1 > n && git add n && git commit -qm one && echo 2 > n && git commit -qam two && echo 3 > n",
                "claims": ["n"],
            },
        ],
    )
    run = swarm.run(plan)
    swarm.check_landed(run)
    assert swarm.content("plain", "src/b.py") == "b = 2\n"
    assert swarm.content("plain", "n") == "3\n"
    subjects = git(swarm.top, "log", "--format=%s", "main..swarm/plain/staging").splitlines()
    assert {"one", "two"} <= set(subjects)
    left = git(swarm.top, "log", "-1", "--format=%an <%ae>", "swarm/plain/task/sed/1")
    assert left == "Ada <ada@example.org>"


@pytest.mark.slow
def test_a_result_file_that_does_not_count_is_told(swarm: Swarm) -> None:
    """What a worker wrote of itself and nobody could read is not passed over without a word; the work lands all the same."""
    tasks = [
        swarm.task("broken", 'echo x > a; echo "cost: 3" > "$SWARM_RESULT_FILE"', claims=["a"]),
        swarm.task(
            "kinds",
            """echo x > b; echo '{"summary": "did", "cost_usd": "3"}' > "$SWARM_RESULT_FILE\"""",
            claims=["b"],
        ),
        swarm.task("none", "echo x > c", claims=["c"]),
    ]
    run = swarm.run(swarm.plan("told", tasks))
    swarm.check_landed(run)
    broken, kinds, none = (task_of(run, name)["attempts"][0] for name in ("broken", "kinds", "none"))
    assert broken["result_problem"].startswith("The result file is not JSON")
    assert kinds["result_problem"] == "The result file has values of the wrong kind: cost_usd."
    assert (kinds["summary"], kinds["cost_usd"], none["result_problem"]) == ("did", None, None)
    assert "The result file is not JSON" in swarm("show", "broken").out


@pytest.mark.slow
def test_a_worker_that_fails_in_the_same_way_three_times_has_failed(swarm: Swarm) -> None:
    """Row 63: attempts that are left are not spent on what fails in the same way, by its output but for times and numbers, or by
    what it says of itself; another approach each time is another way."""
    says = """printf '{"summary": "%s"}' "$SAYS" > "$SWARM_RESULT_FILE"; exit 1"""
    tasks = [
        swarm.task("prints", "echo broken after $(date +%s%N) in process $$; exit 1", attempts=5),
        swarm.task("says", f"SAYS='change the pattern'; echo of $(date); {says}", attempts=5),
        swarm.task("searches", f"SAYS='approach '$SWARM_ATTEMPT; echo broken; {says}", attempts=4),
    ]
    run = swarm.run(swarm.plan("again", tasks), code=1)
    assert [len(task["attempts"]) for task in run["tasks"]] == [3, 3, 4]
    assert code_of(run, "prints") == code_of(run, "says") == "worker_failed"
    text = "the worker ended with exit code 1, in the same way 3 times, so it is not tried again"
    assert [task["reason"]["text"] for task in run["tasks"][:2]] == [text, text]
    assert "3 times" not in task_of(run, "searches")["reason"]["text"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_run_whose_daemon_ends_has_not_failed(swarm: Swarm, how: str) -> None:
    """Without a daemon a run does not go on, and is not over: exit 3 says so to whoever watches it, as to whoever begins to wait
    then; and what had started is not said not to have."""
    swarm("start")
    watching = swarm.spawn("run", str(swarm.plan("cut", [swarm.task("t", gate="go")])))
    swarm.wait_for_start("t")
    if how == "stop":
        swarm("stop", "--now")
    else:
        swarm.end_daemon()
    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 3, err
    assert "nothing has started" not in out + err
    swarm("wait", code=3)
    swarm.open("go")
    swarm("start")
    swarm.check_landed(swarm.wait("cut"))


def test_doing_nothing_is_no_success_unless_declared(swarm: Swarm) -> None:
    """Rows 59 and 77: an undeclared empty result fails as `empty`; with allow_empty it lands a merge with the same tree."""
    plan = swarm.plan(
        "empty",
        [
            swarm.task("idle", "true", claims=["x"], attempts=1),
            swarm.task("content", "true", claims=["y"], allow_empty=True),
            swarm.task("after", needs=["content"]),
        ],
    )
    ran = swarm("run", str(plan), code=1)
    run = swarm.run_of("empty")
    swarm.check_landed(run)
    assert "content landed, no change (" in ran.out
    assert f"{task_of(run, 'content')['landed_commit']}, no change\n" in swarm("show", "content").out
    assert re.search(r"landed +content +\w{9}, no change  Task content\n", swarm("status").out)
    assert "; without a change: 1\n" in swarm("report").out
    assert swarm("report", "--json").json["totals"]["unchanged"] == 1
    assert ran.out.count("no change") == swarm("status").out.count("no change") == 1
    assert code_of(run, "idle") == "empty"
    assert swarm.landings("empty") == ["content", "after"]
    landed = task_of(run, "content")["landed_commit"]
    assert git(swarm.top, "rev-parse", f"{landed}^{{tree}}") == git(swarm.top, "rev-parse", "main^{tree}")
    assert len(git(swarm.top, "log", "-1", "--format=%P", landed).split()) == 2


@pytest.mark.slow
def test_what_git_ignores_is_told_where_nothing_else_changed(swarm: Swarm) -> None:
    """A worker that wrote only ignored files is told which, and so is the next attempt; what lay there before is not named."""
    exclude = swarm.top / ".git" / "info" / "exclude"
    exclude.parent.mkdir(exist_ok=True)
    before = exclude.read_text() if exclude.exists() else ""
    exclude.write_text(f"{before}build/\n")
    swarm.env["SWARM_WORKTREES__SETUP"] = "mkdir build && echo 1 > build/before"
    first = "echo 1 > build/out"
    second = f'grep -q "git ignores: build/out" "$SWARM_FEEDBACK_FILE" && echo 1 > {swarm.outside}/told'
    work = f"if [ $SWARM_ATTEMPT = 1 ]; then {first}; else {second}; fi"
    run = swarm.run(swarm.plan("r", [swarm.task("t", work, claims=["x"], attempts=2)]), code=1)
    reasons = [each["reason"]["text"] for each in task_of(run, "t")["attempts"]]
    assert reasons[0].endswith("; what it changed, git ignores: build/out")
    assert "git ignores" not in reasons[1]
    assert (swarm.outside / "told").exists()
    exclude.write_text(before)


def test_a_failure_is_told_and_blocks_only_what_needs_it(swarm: Swarm) -> None:
    """Rows 65, 67: what is independent of a failure lands, what needs it is blocked, both are counted, the exit code is 1."""
    plan = swarm.plan(
        "honest",
        [
            swarm.task("bad", "echo half > half && exit 3", claims=["half"], attempts=1),
            swarm.task("child", needs=["bad"]),
            swarm.task("grandchild", needs=["child"]),
            swarm.task("good"),
        ],
    )
    done = swarm("run", str(plan), code=1)
    assert "1 landed, 1 failed (worker_failed), 2 blocked" in done.out
    run = swarm.status()["runs"][0]
    swarm.check_landed(run)
    assert [task["state"] for task in run["tasks"]] == ["failed", "blocked", "blocked", "landed"]
    assert run["counts"]["failed"] == 1
    assert run["counts"]["blocked"] == 2
    assert code_of(run, "bad") == "worker_failed"
    assert task_of(run, "bad")["attempts"][0]["exit_code"] == 3
    assert git(swarm.top, "show", "swarm/honest/task/bad/1:half") == "half"
    assert swarm.starts() == ["bad", "good"] or swarm.starts() == ["good", "bad"]


@pytest.mark.slow
def test_fail_fast_gives_the_rest_up(swarm: Swarm) -> None:
    """`run --fail-fast` starts nothing more after the first failure; what it gave up is cancelled, not failed."""
    tasks = [swarm.task("bad", "exit 1", claims=["x"], attempts=1), swarm.task("later"), swarm.task("last")]
    run = swarm.run(swarm.plan("fast", tasks), "--fail-fast", "--workers", "1", code=1)
    assert [task["state"] for task in run["tasks"]] == ["failed", "cancelled", "cancelled"]
    assert swarm.starts() == ["bad"]


@pytest.mark.parametrize(
    "with_names", [["--failed"], pytest.param(["child", "shaky"], marks=pytest.mark.slow)]
)
def test_what_failed_can_be_run_again(swarm: Swarm, with_names: list[str]) -> None:
    """Row 66: `retry` tries what failed again, and what was blocked by it goes on, also where it is named with it; what landed is
    left alone."""
    fixed = swarm.gate("fixed")
    plan = swarm.plan(
        "again",
        [
            swarm.task("shaky", f"test -e {fixed} && echo x > out", claims=["out"], attempts=1),
            swarm.task("child", needs=["shaky"]),
            swarm.task("fine"),
        ],
    )
    run = swarm.run(plan, code=1)
    assert [task["state"] for task in run["tasks"]] == ["failed", "blocked", "landed"]
    swarm.open("fixed")
    swarm("start")
    swarm("retry", "fine", code=4)
    assert "it goes on by itself when what it needs has landed" in swarm("retry", "child", code=4).err
    assert swarm("retry", *with_names).out == "Tried again: again/shaky\n"
    run = swarm.wait("again")
    swarm.check_landed(run)
    assert run["counts"]["landed"] == 3
    assert sorted(swarm.starts()) == ["child", "fine", "shaky", "shaky"]


def test_a_worker_that_takes_too_long_is_ended_whole(swarm: Swarm) -> None:
    """Row 60: at its time limit a worker ends with all it started, children in sessions of their own too; what it did is kept."""
    for limit_s in (0.7, 7, 70):
        name, pids = f"slow-{limit_s:g}".replace(".", "-"), swarm.outside / f"pids-{limit_s}"
        pids.touch()
        work = (
            f"echo part > part; setsid sh -c 'echo $$ >> {pids}; trap \"\" TERM; while :; do sleep 1; done' & "
            f"(nohup sleep 300 & echo $! >> {pids}) ; echo $$ >> {pids}; sleep 300"
        )
        slow = swarm.task("slow", work, claims=["part"], timeout_s=limit_s, attempts=1)
        run = swarm.run(swarm.plan(name, [slow, swarm.task("quick")]), code=1)
        assert code_of(run, "slow") == "timeout"
        assert task_of(run, "quick")["state"] == "landed"
        started = [int(pid) for pid in pids.read_text().split()]
        assert not [pid for pid in started if runs(pid)]
        if (
            len(started) == 3
        ):  # else the machine was too busy for the worker to start all that within its limit
            break
    assert len(started) == 3
    assert git(swarm.top, "show", f"swarm/{name}/task/slow/1:part") == "part"


@pytest.mark.slow
def test_what_a_worker_leaves_running_ends_with_it(swarm: Swarm) -> None:
    """A server that a worker left in the background, with a session of its own, is gone when the task has landed."""
    pid = swarm.outside / "pid"
    work = f"setsid sh -c 'echo $$ > {pid}; exec sleep 300' & until [ -s {pid} ]; do sleep 0.01; done; echo x > out"
    swarm.check_landed(swarm.run(swarm.plan("server", [swarm.task("serve", work, claims=["out"])])))
    assert not runs(int(pid.read_text()))


def test_try_later_uses_no_attempt_up(swarm: Swarm) -> None:
    """Exit code 75 puts a task off until the time that the worker named, and costs none of its attempts."""
    work = (
        'echo "{\\"retry_after_s\\": 0.3, \\"summary\\": \\"limit\\"}" > "$SWARM_RESULT_FILE"; '
        '[ "$SWARM_ATTEMPT" -gt 2 ] || exit 75; echo x > out'
    )
    run = swarm.run(swarm.plan("later", [swarm.task("put-off", work, claims=["out"], attempts=1)]))
    swarm.check_landed(run)
    spans = swarm.spans()
    assert [span.attempt for span in spans] == [1, 2, 3]
    assert all(late.start - early.start >= 0.3 for early, late in pairwise(spans))
    attempts = task_of(run, "put-off")["attempts"]
    assert [each["exit_code"] for each in attempts] == [75, 75, 0]
    for early, late in pairwise(attempts):
        assert datetime.fromisoformat(early["reason"]["until"]) <= datetime.fromisoformat(late["started_at"])


def test_attempts_are_bounded_and_the_next_is_told_why(swarm: Swarm) -> None:
    """A task that fails is tried as often as its attempts allow; from the second on its feedback says why the last did not land,
    with the end of what it printed."""
    told = swarm.outside / "told"
    work = f'[ -z "$SWARM_FEEDBACK_FILE" ] || cat "$SWARM_FEEDBACK_FILE" >> {told}; echo said-$((40 + SWARM_ATTEMPT)); exit 9'
    run = swarm.run(swarm.plan("bounded", [swarm.task("t", work, claims=["x"], attempts=3)]), code=1)
    assert [attempt["n"] for attempt in task_of(run, "t")["attempts"]] == [1, 2, 3]
    assert swarm.starts() == ["t", "t", "t"]
    assert told.read_text().count("exit code 9") == 2
    assert "Attempt 1" in told.read_text()
    assert "Attempt 2" in told.read_text()
    assert re.findall(r"said-\d+", told.read_text()) == ["said-41", "said-42"]


def test_a_retry_is_told_why_the_last_attempt_did_not_land(swarm: Swarm) -> None:
    """Row 66: the attempt that used up the last of them is told of like any other, in the feedback and in the prompt; after an undo
    it is told that the last one had landed."""
    told = swarm.outside / "told"
    work = (
        f'cat "${{SWARM_FEEDBACK_FILE:-/dev/null}}" "$SWARM_PROMPT_FILE" > {told}-$SWARM_ATTEMPT; '
        "echo $SWARM_ATTEMPT > out"
    )
    task = swarm.task(
        "t", work, claims=["out"], attempts=1, prompt="Do it", verify=["echo NO-$((40 + 2)); grep 2 out"]
    )
    swarm("start")
    swarm("submit", str(swarm.plan("again", [task])))
    swarm.wait("again", code=1)
    swarm("retry", "t")
    swarm.check_landed(swarm.wait("again"))
    after_red = Path(f"{told}-2").read_text()
    assert after_red.count("Attempt 1 did not land: verification did not pass") == 2
    assert after_red.count("NO-42") == 2
    commit = swarm("undo", "t", "--json").json["commit"]
    swarm("retry", "t")
    swarm.wait("again", code=1)
    after_undo = Path(f"{told}-4").read_text()  # the undo was the third
    assert after_undo.count("Attempt 2 had landed, and the user had it undone (swarm undo t): ") == 2
    assert after_undo.count(commit) == 2
    assert "did not land" not in after_undo


def test_what_a_worker_is_given(swarm: Swarm) -> None:
    """Row 31: live workers differ in slot and ports, both are given out again, and the environment is that of the contract: to
    workers and suites beside it the user's own, with nothing of what the daemon is started with."""
    del swarm.env["PYTHONPATH"]
    work = (
        f"env -0 > {swarm.outside}/env-$SWARM_TASK; pwd > {swarm.outside}/pwd-$SWARM_TASK; "
        f"cat $SWARM_PROMPT_FILE > {swarm.outside}/prompt-$SWARM_TASK; echo x > out-$SWARM_TASK"
    )
    tasks = [swarm.task(f"t{n}", work, gate="all", claims=[f"out-t{n}"], prompt="Say x") for n in range(3)]
    plan = swarm.plan(
        "given",
        [*tasks, swarm.task("late", work, needs=["t0", "t1", "t2"], claims=["out-late"])],
        verify=[f"env -0 > {swarm.outside}/env-suite"],
    )
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("t0", "t1", "t2")
    swarm.open("all")
    run = swarm.wait("given")
    swarm.check_landed(run)
    found = {name: _environment(swarm, name) for name in ("t0", "t1", "t2", "late")}
    for name, env in found.items():
        attempt = task_of(run, name)["attempts"][0]
        assert env["SWARM_RUN"] == "given"
        assert env["SWARM_TASK"] == name
        assert env["SWARM_ATTEMPT"] == "1"
        assert env["SWARM_WORKTREE"] == attempt["worktree"]
        assert (swarm.outside / f"pwd-{name}").read_text().strip() == attempt["worktree"]
        assert env["SWARM_BASE"] == attempt["base"]
        assert json.loads(env["SWARM_CLAIMS"]) == [{"path": f"out-{name}", "mode": "exclusive"}]
        assert "SWARM_FEEDBACK_FILE" not in env
        assert not [name for name in env if name.startswith("SWARM_LIMITS")]
        assert _users(env) == _users(swarm.env)
    suite = _users(_environment(swarm, "suite"))
    assert suite.pop("COVERAGE_FILE")  # beside others that measure in the same tree
    assert suite == _users(swarm.env)
    assert "Say x" in (swarm.outside / "prompt-t0").read_text()
    live = [found[f"t{n}"] for n in range(3)]
    assert len({env["SWARM_SLOT"] for env in live}) == 3
    assert len({env["SWARM_PORT_BASE"] for env in live}) == 3
    assert found["late"]["SWARM_SLOT"] in {env["SWARM_SLOT"] for env in live}


def _users(env: Mapping[str, str]) -> dict[str, str]:
    """Gives the part of an environment that neither swarm nor a shell sets."""
    return {
        name: value
        for name, value in env.items()
        if not name.startswith(("SWARM_", "GIT_")) and name not in {"PWD", "OLDPWD", "SHLVL", "_", "TMPDIR"}
    }


def _environment(swarm: Swarm, task: str) -> dict[str, str]:
    raw = (swarm.outside / f"env-{task}").read_text()
    return dict(entry.split("=", 1) for entry in raw.split("\0") if entry)


def test_a_worker_may_look_but_not_steer(swarm: Swarm) -> None:
    """Inside a worker commands that start or steer are refused with exit 4, and reading works."""
    from tests.e2e.driver import SWARM

    swarm_command = " ".join(SWARM)
    codes = swarm.outside / "codes"
    steering = [
        "run p.toml",
        "start",
        "stop",
        "submit p.toml",
        "cancel t",
        "retry --failed",
        "pause",
        "scale 2",
        "finish",
        "tell t x",
    ]
    steps = [
        f"c=0; {swarm_command} {words} || c=$?; echo {words.split()[0]} $c >> {codes}"
        for words in [*steering, "status", "claims"]
    ]
    work = f"export PYTHONPATH={swarm.env['PYTHONPATH']}; {'; '.join(steps)}; echo x > out"
    swarm.check_landed(swarm.run(swarm.plan("inside", [swarm.task("t", work, claims=["out"])])))
    found = dict(line.split() for line in codes.read_text().splitlines())
    assert found.pop("status") == "0"
    assert found.pop("claims") == "0"
    assert found == {words.split()[0]: "4" for words in steering}


@pytest.mark.parametrize(
    "policy",
    ["extend", pytest.param("reject", marks=pytest.mark.slow), pytest.param("warn", marks=pytest.mark.slow)],
)
def test_changes_outside_the_claims_are_noticed(swarm: Swarm, policy: str) -> None:
    """Rows 36 and 41: a change to an unclaimed file is flagged before it lands; extend and warn let it land, reject does not."""
    work = "echo x > out; echo stray >> src/b.py"
    plan = swarm.plan("strays", [swarm.task("t", work, claims=["out"], attempts=1)])
    done = swarm("run", str(plan), "--json", code=1 if policy == "reject" else 0, SWARM_STRAYS=policy)
    (run,) = done.json["runs"]
    assert task_of(run, "t")["attempts"][0]["strays"] == ["src/b.py"]
    found = {event["type"]: event for event in swarm.events() if event.get("task") == "t"}
    assert found["StrayFound"]["paths"] == ["src/b.py"]
    if policy == "reject":
        assert code_of(run, "t") == "stray"
        assert "src/b.py" in task_of(run, "t")["reason"]["text"]
        assert swarm.staging("strays") == git(swarm.top, "rev-parse", "main")
        assert git(swarm.top, "show", "swarm/strays/task/t/1:src/b.py") == "b = 1\nstray"
    else:
        assert found["StrayFound"]["seq"] < found["TaskLanded"]["seq"]
        assert swarm.content("strays", "src/b.py") == "b = 1\nstray\n"


def test_a_stray_under_anothers_claim_lands_after_its_holder(swarm: Swarm) -> None:
    """Row 41: with strays = extend a change to what another task holds waits for that one's worker, and both lie on staging."""
    plan = swarm.plan(
        "holder",
        [
            swarm.task("holder", "sed -i '1s/.*/first/' src/a.py", gate="held", claims=["src/a.py"]),
            swarm.task("strayer", "echo x > out; sed -i '20s/.*/last/' src/a.py; true", claims=["out"]),
        ],
    )
    swarm("start")
    swarm("submit", str(plan))
    wait_until(lambda: _waits_for_holder(swarm))
    swarm.open("held")
    swarm.check_landed(swarm.wait("holder"))
    seq = {(each["type"], each.get("task")): each["seq"] for each in swarm.events()}
    assert seq["TaskLanded", "strayer"] > seq["WorkerExited", "holder"]
    lines = str(swarm.content("holder", "src/a.py")).splitlines()
    assert (lines[0], lines[-1]) == ("first", "last")


def _waits_for_holder(swarm: Swarm) -> bool:
    task = task_of(swarm.status()["runs"][0], "strayer")
    return task["state"] == "queued" and task["reason"] is not None and "holder" in task["reason"]["text"]

"""What lands, in which order, verified how, and what becomes of what does not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm, common_dir
from tests.e2e.test_ends import code_of, task_of

SHARED = [{"path": "src/a.py", "mode": "shared"}]


def test_five_finishers_land_in_strict_order(swarm: Swarm) -> None:
    """Row 43: five that finish at once are merged one after the other, each verified as the commit that lands: staging's first
    parents are exactly the five landings."""
    log = swarm.outside / "verify"
    suite = f"sleep 0.03; git rev-parse HEAD >> {log}"
    plan = swarm.plan("five", [swarm.task(f"t{n}", gate="all") for n in range(5)], verify=[suite])
    swarm("start", "--workers", "5")
    swarm("submit", str(plan))
    swarm.wait_for_start(*(f"t{n}" for n in range(5)))
    swarm.open("all")
    run = swarm.wait("five")
    swarm.check_landed(run)
    assert sorted(log.read_text().split()) == sorted(task["landed_commit"] for task in run["tasks"])
    chain = git(swarm.top, "log", "--first-parent", "--reverse", "--format=%H %P", "main..swarm/five/staging")
    before = git(swarm.top, "rev-parse", "main")
    heads = {task["landed_commit"]: task["attempts"][0]["head"] for task in run["tasks"]}
    for line in chain.splitlines():
        commit, first, second = line.split()
        assert first == before
        assert second == heads[commit]
        before = commit
    assert before == swarm.staging("five")


def test_a_landing_says_what_it_is(swarm: Swarm) -> None:
    """A landing's message has subject and trailers of the contract: the suites that passed, or none."""
    plan = swarm.plan(
        "said",
        [
            swarm.task("plain", title="Plain one"),
            swarm.task(
                "checked", title="Checked one", verify=[{"name": "unit", "run": "test -f out-checked"}]
            ),
        ],
    )
    run = swarm.run(plan)
    shown = {
        task: git(swarm.top, "log", "-1", "--format=%B", task_of(run, task)["landed_commit"]).splitlines()
        for task in ("plain", "checked")
    }
    assert shown["plain"] == [
        "Land plain: Plain one", "", "Swarm-Run: said", "Swarm-Task: plain", "Swarm-Attempt: 1", "Swarm-Verified: none", "",
    ][: len(shown["plain"])]  # fmt: skip
    assert "Swarm-Verified: unit" in shown["checked"]


def test_landed_is_never_said_before_it_is_true(swarm: Swarm) -> None:
    """Row 57: at every moment of a run each task that status calls landed is on the staging branch."""
    plan = swarm.plan("true", [swarm.task(f"t{n}", sleep_s=0.02 * n) for n in range(8)], verify=["true"])
    swarm("start")
    swarm("submit", str(plan))
    seen: set[str] = set()
    while len(seen) < 8:
        run = swarm.status()["runs"][0]
        landed = {task["id"]: task["landed_commit"] for task in run["tasks"] if task["state"] == "landed"}
        assert all(swarm.is_landed("true", commit) for commit in landed.values())
        assert run["counts"]["failed"] == 0
        seen |= set(landed)
    swarm.check_landed(swarm.wait("true"))


@pytest.mark.slow
def test_a_suite_that_fails_fails_the_task(swarm: Swarm) -> None:
    """Row 58: verification really runs: though the worker exits 0, what does not pass is not landed, and its work is kept."""
    plan = swarm.plan(
        "red",
        [swarm.task("bad", "echo bad > out-bad", claims=["out-bad"], attempts=1), swarm.task("good")],
        verify=[{"name": "no-bad", "run": "echo looking; ! grep -r bad out-*"}],
    )
    run = swarm.run(plan, code=1)
    swarm.check_landed(run)
    assert swarm.landings("red") == ["good"]
    assert code_of(run, "bad") == "verify_failed"
    assert "no-bad" in task_of(run, "bad")["reason"]["text"]
    assert swarm.content("red", "out-bad") is None
    assert git(swarm.top, "show", "swarm/red/task/bad/1:out-bad") == "bad"
    assert "looking" in swarm("logs", "bad", "--of", "verify").out


def test_the_next_attempt_is_told_what_failed(swarm: Swarm) -> None:
    """An attempt whose verification failed is followed by one that finds the suite's output in its feedback, and can land."""
    told = swarm.outside / "told"
    work = f'if [ "$SWARM_ATTEMPT" = 1 ]; then echo wrong > out; else cp "$SWARM_FEEDBACK_FILE" {told}; echo right > out; fi'
    suite = {"name": "is-right", "run": "echo expected right, found $(cat out); grep -q right out"}
    run = swarm.run(swarm.plan("taught", [swarm.task("t", work, claims=["out"], attempts=2)], verify=[suite]))
    swarm.check_landed(run)
    assert swarm.content("taught", "out") == "right\n"
    assert "expected right, found wrong" in told.read_text()
    assert "is-right" in told.read_text()
    assert [each["state"] for each in task_of(run, "t")["attempts"]] == ["handed_back", "landed"]


def test_verification_sees_exactly_what_lands(swarm: Swarm) -> None:
    """A suite runs on the very commit that lands, with all that landed before, and outside the user's checkout."""
    seen = swarm.outside / "seen"
    suite = (
        f"echo $(git rev-parse HEAD) $(ls out-* | tr '\\n' ' ') >> {seen}; echo junk > junk; pwd > {seen}.pwd"
    )
    plan = swarm.plan("exact", [swarm.task("a"), swarm.task("b", needs=["a"])], verify=[suite])
    run = swarm.run(plan)
    swarm.check_landed(run)
    lines = [line.split() for line in seen.read_text().splitlines()]
    assert lines == [
        [task_of(run, "a")["landed_commit"], "out-a"],
        [task_of(run, "b")["landed_commit"], "out-a", "out-b"],
    ]
    assert run["staging"]["verified"] is True
    assert swarm.content("exact", "junk") is None
    assert Path(f"{seen}.pwd").read_text().strip() != str(swarm.top)


def test_a_suite_that_hangs_is_ended(swarm: Swarm) -> None:
    """A suite has a time limit; past it the suite ends with all it started and has not passed."""
    plan = swarm.plan(
        "hang",
        [swarm.task("t", attempts=1)],
        verify=[{"name": "hang", "run": "setsid sleep 300 & sleep 300", "timeout_s": 0.5}],
    )
    run = swarm.run(plan, code=1)
    assert code_of(run, "t") == "timeout"
    assert task_of(run, "t")["attempts"][0]["suites"][0]["outcome"] == "timeout"
    assert swarm.staging("hang") == git(swarm.top, "rev-parse", "main")


def _edit(line: int, text: str) -> str:
    return f"sed -i '{line}s/.*/{text}/' src/a.py"


def _together(swarm: Swarm, name: str, tasks: list[dict[str, Any]], *, code: int = 0) -> dict[str, Any]:
    """Carries out tasks that all start from the same base, whose first is the first to finish."""
    plan = swarm.plan(name, tasks)
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start(*(task["id"] for task in tasks))
    swarm.open("first")
    swarm.wait_for_landed(name, tasks[0]["id"])
    swarm.open("rest")
    return swarm.wait(name, code=code)


@pytest.mark.slow
def test_edits_of_one_file_that_do_not_touch_merge(swarm: Swarm) -> None:
    """Row 47: two that edited different lines of one file from the same base both land at their first attempt."""
    run = _together(
        swarm,
        "lines",
        [
            swarm.task("t0", _edit(2, "zero"), gate="first", claims=SHARED),
            swarm.task("t1", _edit(18, "one"), gate="rest", claims=SHARED),
        ],
    )
    swarm.check_landed(run)
    lines = str(swarm.content("lines", "src/a.py")).splitlines()
    assert (lines[1], lines[17]) == ("zero", "one")
    assert swarm.starts() == ["t0", "t1"] or swarm.starts() == ["t1", "t0"]


@pytest.mark.slow
def test_several_commits_are_rebased_by_machine(swarm: Swarm) -> None:
    """Row 47: commits that conflict when merged but not when replayed one by one land without bothering the worker again."""
    twice = f"{_edit(5, 'same')}; git commit -qam one; {_edit(5, 'better')}; git commit -qam two"
    run = _together(
        swarm,
        "rebase",
        [
            swarm.task("t0", _edit(5, "same"), gate="first", claims=SHARED),
            swarm.task("t1", twice, gate="rest", claims=SHARED),
        ],
    )
    swarm.check_landed(run)
    assert str(swarm.content("rebase", "src/a.py")).splitlines()[4] == "better"
    assert sorted(swarm.starts()) == ["t0", "t1"]
    assert git(swarm.top, "status", "--porcelain") == ""


def test_a_conflict_gets_a_second_chance_with_its_claims_kept(swarm: Swarm) -> None:
    """Rows 46, 49, 120: a conflict leaves all clean, names files and both tasks, and is handed back as it is: nobody else gets what
    it claims meanwhile, not even who comes first in the plan."""
    told = swarm.outside / "told"
    again = f'[ -z "$SWARM_FEEDBACK_FILE" ] || cp "$SWARM_FEEDBACK_FILE" {told}; {_edit(5, "one")}'
    tasks = [
        swarm.task("t0", _edit(5, "zero"), gate="first", claims=SHARED),
        swarm.task("next", _edit(9, "next"), needs=["t0"], claims=["src/a.py"]),
        swarm.task("t1", again, gate="rest", claims=SHARED, attempts=1),
    ]
    swarm("start")
    swarm("submit", str(swarm.plan("chance", tasks)))
    swarm.wait_for_start("t0", "t1")
    swarm.open("first")
    swarm.wait_for_landed("chance", "t0")
    swarm.open("rest")
    run = swarm.wait("chance")
    swarm.check_landed(run)
    assert str(swarm.content("chance", "src/a.py")).splitlines()[4] == "one"
    assert swarm.landings("chance") == ["t0", "t1", "next"]
    assert [attempt["alone"] for attempt in task_of(run, "t1")["attempts"]] == [False, False]
    (event,) = [each for each in swarm.events("TaskHandedBack") if each["code"] == "conflict"]
    assert event["task"] == "t1"
    assert event["paths"] == ["src/a.py"]
    assert "t0" in str(event["landings"])
    text, head = told.read_text(), task_of(run, "t1")["attempts"][0]["head"]
    for side, commit in (("base", run["base"]["commit"]), ("staging", event["onto"]), ("own", head)):
        assert f"{side} {git(swarm.top, 'rev-parse', f'{commit}:src/a.py')}" in text
    swarm.wait_for_follow("chance")


def _person_commits(swarm: Swarm, run: str, edit: str) -> None:
    """Puts a commit on the true staging, as a person who knows where that is may."""
    landing = common_dir(swarm.top) / "swarm" / "landing.git"
    folder = swarm.outside / "person"
    git(swarm.outside, "clone", "-q", str(swarm.top), str(folder))
    git(folder, "checkout", "-q", f"origin/swarm/{run}/staging")
    subprocess.run(edit, shell=True, cwd=folder, check=True)
    git(folder, "-c", "user.name=P", "-c", "user.email=p@x", "commit", "-qam", "by hand")
    (ref,) = [
        line.split()[1]
        for line in git(
            landing, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads"
        ).splitlines()
        if line.split()[0] == swarm.staging(run)
    ]
    git(landing, "fetch", "-q", "--update-shallow", str(folder), f"+HEAD:{ref}")


def test_a_conflict_that_stays_fails_and_keeps_the_work(swarm: Swarm) -> None:
    """Rows 48, 49: after a third conflict, alone, a task has failed with its paths, its work is kept, and what to type is said.

    Nothing of ours moves staging while a task works alone; here a person does, by a commit in the landing repository.
    """
    plan = swarm.plan(
        "stuck",
        [
            swarm.task("t0", _edit(5, "zero"), gate="first", claims=SHARED),
            swarm.task("t1", _edit(5, "one"), gate="$SWARM_ATTEMPT", claims=SHARED, attempts=1),
            swarm.task("t2", _edit(5, "two"), gate="second", needs=["t0"], claims=SHARED),
        ],
    )
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("t0", "t1")
    swarm.open("first")
    swarm.wait_for_landed("stuck", "t0")
    swarm.open("1")
    wait_until(lambda: swarm.starts().count("t1") == 2)
    swarm.open("second")
    swarm.wait_for_landed("stuck", "t2")
    swarm.open("2")
    wait_until(lambda: swarm.starts().count("t1") == 3)
    swarm.wait_for_follow("stuck")
    _person_commits(swarm, "stuck", _edit(5, "person"))
    swarm.open("3")
    run = swarm.wait("stuck", code=1)
    swarm.check_landed(run)
    reason = task_of(run, "t1")["reason"]
    assert reason["code"] == "conflict"
    assert reason["paths"] == ["src/a.py"]
    assert [attempt["alone"] for attempt in task_of(run, "t1")["attempts"]] == [False, False, True]
    assert str(swarm.content("stuck", "src/a.py")).splitlines()[4] == "person"
    assert git(swarm.top, "show", "swarm/stuck/task/t1/3:src/a.py").splitlines()[4] == "one"
    shown = swarm("show", "t1").out
    assert "src/a.py" in shown
    assert "swarm/stuck/task/t1/3" in shown
    assert "swarm retry t1" in shown
    opened = Path(swarm("worktrees", "open", "t1").out.strip())
    assert (opened / "src" / "a.py").read_text().splitlines()[4] == "one"
    assert git(opened, "status", "--porcelain") == ""
    swarm.left_broken = {"I2"}  # the person's commit, in a repository where none has any business


@pytest.mark.slow
def test_a_second_chance_that_changes_nothing_leaves_the_conflict(swarm: Swarm) -> None:
    """Row 120: a task whose second chance changes nothing has failed by the conflict; what to type shows the work of the first."""
    edit = "sed -i s/^line$/$SWARM_TASK/ file.txt"
    (swarm.top / "file.txt").write_text("line\n")
    git(swarm.top, "add", "file.txt")
    git(swarm.top, "commit", "-q", "-m", "A line")
    swarm.look_again()
    plan = swarm.plan(
        "once", [swarm.task("t0", edit), swarm.task("t1", edit, gate="late", attempts=1, claims=["other"])]
    )
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("t1")
    swarm.wait_for_landed("once", "t0")
    swarm.open("late")
    run = swarm.wait("once", code=1)
    swarm.check_landed(run)
    task = task_of(run, "t1")
    reason = task["reason"]
    assert (reason["code"], reason["paths"], reason["landings"]) == ("conflict", ["file.txt"], ["t0"])
    assert [attempt["reason"]["code"] for attempt in task["attempts"]] == ["conflict", "empty"]
    assert swarm("report", "--json").json["totals"]["in_vain"] == {"conflict": 1, "empty": 1}
    shown = swarm("show", "t1").out
    assert "swarm worktrees open t1 --attempt 1; its work is kept" in shown
    opened = Path(swarm("worktrees", "open", "t1", "--attempt", "1").out.strip())
    assert (opened / "file.txt").read_text() == "t1\n"


def test_a_person_at_work_in_the_staging_worktree_is_not_disturbed(swarm: Swarm) -> None:
    """A dirty staging worktree is left as it is while landings go on, and status says that it does not follow."""
    plan = swarm.plan("edited", [swarm.task("a"), swarm.task("b", needs=["a"], gate="b")])
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("b")
    worktree = swarm.wait_for_follow("edited")
    (worktree / "README.md").write_text("a person's edit\n")
    swarm.open("b")
    run = swarm.wait("edited")
    swarm.check_landed(run)
    wait_until(lambda: swarm.status()["runs"][0]["staging"]["worktree_reason"])
    assert "! the staging worktree has local changes in README.md: left at " in swarm("status").out
    assert (worktree / "README.md").read_text() == "a person's edit\n"
    assert not (worktree / "out-b").exists()


@pytest.mark.slow
def test_width_of_trust(swarm: Swarm) -> None:
    """`--verify CMD`, the plan's `verify` and a task's are all run; a suite's environment has nothing of the swarm's settings."""
    swarm("start")
    for where in ("flag", "plan", "task"):
        seen = swarm.outside / f"seen-{where}"
        suite = f"env | grep -c '^SWARM_LIMITS' > {seen} || true; test -f out-t"
        task = swarm.task("t", verify=[suite] if where == "task" else [])
        plan = swarm.plan(where, [task], verify=[suite] if where == "plan" else [])
        run = swarm.run(plan, *(["--verify", suite] if where == "flag" else []))
        swarm.check_landed(run)
        assert seen.read_text().strip() == "0"
        assert len(task_of(run, "t")["attempts"][0]["suites"]) == 1

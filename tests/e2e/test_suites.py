"""Suites of one candidate: side by side, each by itself, all to their end, and what they say of one another."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm, runs
from tests.e2e.test_ends import code_of, task_of


def meets(swarm: Swarm, mine: str, *others: str) -> str:
    """A suite that ends only when the others run at the same time as it does."""
    waits = "; ".join(f"until [ -e {swarm.gate(other)} ]; do sleep 0.02; done" for other in others)
    return f"touch {swarm.gate(mine)}; {waits}"


def test_suites_of_plan_phase_and_task_run_side_by_side(swarm: Swarm) -> None:
    """Row 85: the suites of plan, phase and task run at once, each with a folder for temporary files and a file for coverage of its
    own, with a short path and gone afterwards; the slowest is named in the fact, in `show`, in `status` and in their documents."""
    seen = swarm.outside / "seen"
    look = f'echo "$TMPDIR $COVERAGE_FILE" >> {seen}; touch "$TMPDIR/x"'
    plan = swarm.plan(
        "wide",
        [
            swarm.task(
                "t",
                phase="p",
                verify=[{"name": "lint", "run": f"{look}; {meets(swarm, 'lint', 'unit', 'e2e')}"}],
            )
        ],
        phases=[
            {
                "id": "p",
                "verify": [{"name": "e2e", "run": f"{look}; {meets(swarm, 'e2e', 'unit', 'lint')}"}],
            }
        ],
        verify=[{"name": "unit", "run": f"{look}; {meets(swarm, 'unit', 'e2e', 'lint')}"}],
    )
    run = swarm.run(plan)
    swarm.check_landed(run)
    own = [line.split() for line in seen.read_text().splitlines()]
    assert len({temporary for temporary, _ in own}) == len({coverage for _, coverage in own}) == 3
    assert not any(os.path.exists(temporary) for temporary, _ in own)
    assert (
        max(len(temporary) for temporary, _ in own) <= len(str(swarm.top)) + 40
    )  # of 107 that a socket may have
    (attempt,) = task_of(run, "t")["attempts"]
    assert [suite["name"] for suite in attempt["suites"]] == ["unit", "e2e", "lint"]
    took = {suite["name"]: suite["duration_s"] for suite in attempt["suites"]}
    assert took[attempt["bottleneck"]] == max(
        took.values()
    )  # which are rounded, so that two may be the longest
    (landed,) = swarm.events("TaskLanded")
    assert (landed["bottleneck"], landed["verify_s"]) == (attempt["bottleneck"], max(took.values()))
    assert run["staging"]["bottleneck"] == {"suite": attempt["bottleneck"], "duration_s": max(took.values())}
    assert f"; slowest suite {attempt['bottleneck']}, " in swarm("status").out
    assert (
        f"{attempt['bottleneck']}: passed in {max(took.values()):.1f} s, the slowest"
        in swarm("show", "t").out
    )


@pytest.mark.slow
def test_one_red_suite_lets_the_others_run_to_their_end(swarm: Swarm) -> None:
    """Where one suite fails at once the others still end by themselves, and the next attempt is told of all that failed."""
    told = swarm.outside / "told"
    work = f'if [ "$SWARM_ATTEMPT" = 2 ]; then cp "$SWARM_FEEDBACK_FILE" {told}; touch right; else touch wrong; fi'
    suites = [
        {"name": "lint", "run": "[ -e right ] || { echo ugly; exit 1; }"},
        {"name": "unit", "run": "sleep 0.5; [ -e right ] || { echo broken; exit 1; }"},
    ]
    run = swarm.run(swarm.plan("red", [swarm.task("t", work, claims=["*"])], verify=suites))
    first, second = task_of(run, "t")["attempts"]
    assert [suite["outcome"] for suite in first["suites"]] == ["failed", "failed"]
    assert "ugly" in told.read_text()
    assert "broken" in told.read_text()
    assert second["state"] == "landed"


@pytest.mark.slow
def test_a_setup_that_a_candidate_breaks_is_its_failure(swarm: Swarm) -> None:
    """Where setup fails at a candidate and not before it, its suites have failed: the next attempt is told what it said, and what
    has nothing to do with it lands. One that fails everywhere is tried again, and `status` says so."""
    told, broken = swarm.outside / "told", swarm.outside / "broken"
    (swarm.top / "setup.sh").write_text(f"[ ! -e {broken} ]\n")
    (swarm.top / "swarm.toml").write_text('[worktrees]\nsetup = "sh setup.sh"\n')
    git(swarm.top, "add", "-A")
    git(swarm.top, "commit", "-qm", "setup")
    swarm.look_again()
    work = f"""case $SWARM_ATTEMPT in
        1) echo 'echo no such package; exit 3' > setup.sh;; 2) cp "$SWARM_FEEDBACK_FILE" {told}; touch right;; esac"""
    breaks = swarm.task("breaks", work, claims=["setup.sh", "right"])
    run = swarm.run(swarm.plan("setup", [breaks, swarm.task("other")], verify=["true"]))
    swarm.check_landed(run)
    assert "no such package" in told.read_text()
    first, _ = task_of(run, "breaks")["attempts"]
    assert first["reason"]["code"] == "verify_failed"
    assert "did not run: The setup command of the worktrees ended with status 3" in first["suites"][0]["note"]
    assert "no such package" in Path(first["suites"][0]["log"]).read_text()

    later = swarm.task("t", f"touch {broken}; echo x > out-t", claims=["out-t"])
    swarm("start")
    swarm("submit", str(swarm.plan("later", [later], verify=["true"])))
    wait_until(lambda: "verifying retrying: The setup command" in " ".join(swarm("status").out.split()))
    broken.unlink()
    swarm("wait", "--run", "later")


def test_a_suite_that_leaves_tracked_files_changed_fails(swarm: Swarm) -> None:
    """A suite that changes tracked files has not passed, whatever it says, and the paths are told."""
    suite = {"name": "format", "run": "echo changed > out-t; rm README.md; git add -A; echo built > built"}
    run = swarm.run(swarm.plan("dirt", [swarm.task("t", attempts=1)], verify=[suite]), code=1)
    assert code_of(run, "t") == "verify_failed"
    assert "format (changed tracked files: README.md, out-t)" in task_of(run, "t")["reason"]["text"]
    (found,) = task_of(run, "t")["attempts"][0]["suites"]
    assert (found["outcome"], found["exit_code"], found["changed"]) == ("failed", 0, ["README.md", "out-t"])
    assert "changed while it ran: README.md, out-t" in swarm("show", "t").out
    assert swarm.landings("dirt") == []


@pytest.mark.slow
def test_what_a_suite_puts_back_is_nobodys_business(swarm: Swarm) -> None:
    """A test that changes a tracked file and puts it back fails neither itself nor the suite that ends in between."""
    back = f"""
        cp README.md "$TMPDIR/keep"; echo other > README.md; touch {swarm.gate("changed")}
        until ! kill -0 $(cat {swarm.outside}/other); do sleep 0.02; done; cp "$TMPDIR/keep" README.md
    """
    whose = f"echo $$ > {swarm.outside}/new; mv {swarm.outside}/new {swarm.outside}/other"
    other = f"{whose}; until [ -e {swarm.gate('changed')} ]; do sleep 0.02; done"
    swarm.check_landed(swarm.run(swarm.plan("back", [swarm.task("t")], verify=[back, other])))


@pytest.mark.slow
@pytest.mark.parametrize("point", ["verify.exited:kill:1", "verify.settled:kill:1", "give-back.freed:kill:2"])
def test_changed_files_are_not_forgotten_by_a_kill(swarm: Swarm, point: str) -> None:
    """Where the daemon is killed after a suite has changed tracked files, the next one still does not let it pass; also where its
    worktree, the second that is given back, is another's by then."""
    swarm("start", SWARM_CRASH=point)
    daemon = psutil.Process(swarm.status()["daemon"]["pid"])
    plan = swarm.plan("dirt", [swarm.task("t", attempts=1, verify=["echo changed > out-t"])])
    swarm("submit", str(plan))
    psutil.wait_procs([daemon], timeout=120)
    swarm("start")
    run = swarm.wait("dirt", code=1)
    assert task_of(run, "t")["attempts"][0]["suites"][0]["changed"] == ["out-t"]
    assert swarm.landings("dirt") == []


@pytest.mark.slow
def test_a_suite_that_deletes_its_worktree_fails_and_the_queue_goes_on(swarm: Swarm) -> None:
    """Without a sandbox a suite may delete the worktree that it runs in, or have git do so: it has failed, whatever it says, and so
    has one that still ran there; it is said what happened, and what stands behind it lands. That the file `.git` is gone, or what
    HEAD names, is nobody's business."""
    here = '"$PWD"'
    does = {
        "deletes": [f"rm -rf {here}; true"],
        "removes": [f"git worktree remove --force {here}"],
        "links": [f"here={here}; cd ..; rm -rf $here; ln -s {swarm.top} $here"],
        "beside": ["until ! [ -e README.md ]; do sleep 0.02; done", f"rm -rf {here}; true"],
        "file": ["rm .git"],
        "head": ['echo odd > "$(git rev-parse --git-dir)/HEAD"'],
        "behind": ["true"],
    }
    tasks = [swarm.task(name, attempts=1, verify=suites) for name, suites in does.items()]
    run = swarm.run(swarm.plan("gone", tasks), code=1)
    ends = {name: task_of(run, name)["state"] for name in does}
    lost = ("deletes", "removes", "links", "beside")
    assert ends == {name: "failed" if name in lost else "landed" for name in does}
    for name in lost:
        assert code_of(run, name) == "verify_failed"
        for suite in task_of(run, name)["attempts"][0]["suites"]:
            assert suite["changed"][0] == "README.md"
            told = ["its worktree was deleted or moved away while it ran"]
            if name == "beside":  # run again, the one may be done with it before the other has begun
                told.append("its worktree had been deleted or moved away by a suite beside it")
            assert any(each in suite["note"] for each in told), suite["note"]


@pytest.mark.slow
def test_what_a_suite_does_with_git_is_its_own(swarm: Swarm) -> None:
    """Also without a sandbox a suite may set what it likes in its repository, delete branches and objects there, and commit: the
    landing repository has none of it, and what comes after lands by swarm's own settings."""
    does = """
        git config user.name Other; git config core.hooksPath hooks; git config core.bare true; git stash list
        git commit -qm "by the suite" --allow-empty; git branch -D own/staging; git gc -q --prune=now
        test "$(git config user.name)" = Other
    """
    tasks = [swarm.task("first", verify=[does]), swarm.task("second", needs=["first"], verify=["git fsck"])]
    swarm("start")
    landing = swarm.top / ".git" / "swarm" / "landing.git"
    settings = (landing / "config").read_bytes()
    run = swarm.run(swarm.plan("own", tasks))
    swarm.check_landed(run)
    assert (landing / "config").read_bytes() == settings
    assert "by the suite" not in git(landing, "log", "--all", "--format=%s")
    assert swarm("audit").code == 0


@pytest.mark.slow
def test_a_suite_whose_worktree_is_deleted_before_it_starts_did_not_run(swarm: Swarm) -> None:
    """Where one suite deletes the worktree, one that waits for room does not start in it, has failed, and it is said why."""
    swarm("start", SWARM_VERIFY__SUITES_MAX="1")
    suites = ['rm -rf "$PWD"; true', f"echo x >> {swarm.outside}/ran"]
    run = swarm.run(swarm.plan("gone", [swarm.task("t", attempts=1, verify=suites)]), code=1)
    assert code_of(run, "t") == "verify_failed"
    _, second = task_of(run, "t")["attempts"][0]["suites"]
    assert (second["outcome"], second["exit_code"]) == ("failed", None)
    assert "did not run: its worktree had been deleted" in second["note"]
    assert not (swarm.outside / "ran").exists()


@pytest.mark.slow
def test_a_deleted_worktree_is_not_forgotten_by_a_kill(swarm: Swarm) -> None:
    """Where the daemon is killed when a suite has deleted its worktree, the next one still does not let it pass."""
    swarm("start", SWARM_CRASH="verify.exited:kill:1")
    daemon = psutil.Process(swarm.status()["daemon"]["pid"])
    plan = swarm.plan("gone", [swarm.task("t", attempts=1, verify=['rm -rf "$PWD"; true'])])
    swarm("submit", str(plan))
    psutil.wait_procs([daemon], timeout=120)
    swarm("start")
    assert code_of(swarm.wait("gone", code=1), "t") == "verify_failed"
    assert swarm.landings("gone") == []


def test_a_killed_daemon_leaves_no_suite_unseen(swarm: Swarm) -> None:
    """Killed while two suites run, one of which ends meanwhile: the next daemon takes both outcomes and ends the one whose time is
    over, counting from its start. That one alone is then run once more."""
    looks = swarm.outside / "looks"
    waits = f"echo $$ >> {looks}; until [ -e {swarm.gate('go')} ]; do sleep 0.02; done"
    suites = [
        {"name": "ends", "run": waits},
        {"name": "hangs", "run": f"echo $$ >> {looks}; sleep 300", "timeout_s": 4},
    ]
    swarm("start")
    daemon = psutil.Process(swarm.status()["daemon"]["pid"])
    swarm("submit", str(swarm.plan("r", [swarm.task("t", attempts=1)], verify=suites)))
    wait_until(lambda: looks.exists() and len(looks.read_text().split()) == 2)
    daemon.kill()  # at once, before the time of the one is over
    pids = [int(pid) for pid in looks.read_text().split()]
    swarm.open("go")
    wait_until(lambda: sum(map(runs, pids)) == 1 and not runs(daemon.pid))
    swarm("start")
    run = swarm.wait("r", code=1)
    outcomes = [(each["name"], each["outcome"]) for each in task_of(run, "t")["attempts"][0]["suites"]]
    assert outcomes == [("ends", "passed"), ("hangs", "timeout")]
    assert not any(map(runs, pids))
    assert len(looks.read_text().split()) == 3


@pytest.mark.slow
def test_what_is_cancelled_leaves_no_suite_running(swarm: Swarm) -> None:
    """A task that is cancelled while its suites run leaves none of them, and its worktree is clean for the next candidate."""
    looks = swarm.outside / "looks"
    swarm("start")
    hangs = f"echo $$ >> {looks}; echo junk > out-t; sleep 300"
    swarm("submit", str(swarm.plan("r", [swarm.task("t")], verify=[hangs, f"{hangs} # again"])))
    wait_until(lambda: looks.exists() and len(looks.read_text().split()) == 2)
    swarm("cancel", "t")
    wait_until(lambda: not any(runs(int(pid)) for pid in looks.read_text().split()))
    swarm("submit", str(swarm.plan("s", [swarm.task("u")], verify=["! grep -s junk out-t"])))
    swarm.check_landed(swarm.wait("s"))


@pytest.mark.slow
def test_one_suite_that_is_killed_from_outside_says_nothing(swarm: Swarm) -> None:
    """Where one of two suites loses its launcher, both run again in a clean worktree, and the task lands by its first attempt."""
    looks = swarm.outside / "looks"
    waits = f"echo $PPID >> {looks}; [ ! -e junk ] || exit 1; touch junk-$$; until [ -e {swarm.gate('go')} ]; do sleep 0.02; done"
    swarm("start")
    suites = [{"name": "one", "run": waits}, {"name": "two", "run": f"{waits}; true"}]
    swarm("submit", str(swarm.plan("r", [swarm.task("t")], verify=suites)))
    wait_until(lambda: looks.exists() and len(looks.read_text().split()) == 2)
    os.kill(int(looks.read_text().split()[0]), signal.SIGKILL)
    wait_until(lambda: len(looks.read_text().split()) == 4)
    swarm.open("go")
    run = swarm.wait("r")
    swarm.check_landed(run)
    assert len(task_of(run, "t")["attempts"]) == 1


# --- parts, and runners that break

PYTEST = f"{sys.executable} -m pytest -q -p no:cacheprovider"


def written(files: dict[str, str]) -> str:
    """A worker's command that writes files of tests."""
    return "\n".join([*(f"cat > {name} <<'END'\n{text}\nEND" for name, text in files.items()), "true"])


def suite_of(run: dict[str, Any], task: str = "t", attempt: int = 0) -> dict[str, Any]:
    (suite,) = task_of(run, task)["attempts"][attempt]["suites"]
    return dict(suite)


def test_a_suite_in_parts_runs_every_test_once(swarm: Swarm) -> None:
    """Row 86: the test files of a suite with `shard` are shared out over its parts, which run at once; together they are all, none
    twice, and the suite is one outcome of so many parts."""
    ran = swarm.outside / "ran"
    ran.mkdir()
    test = f"import os\ndef test(): open({str(ran)!r} + '/' + os.path.basename(__file__), 'x').write(os.environ['SWARM_SHARD'])"
    work = written({f"test_{n}.py": test for n in range(20)})
    suite = {"name": "unit", "run": PYTEST, "shard": 4}
    run = swarm.run(swarm.plan("parts", [swarm.task("t", work, claims=["*"])], verify=[suite]))
    swarm.check_landed(run)
    assert sorted(path.name for path in ran.iterdir()) == sorted(f"test_{n}.py" for n in range(20))
    assert {path.read_text() for path in ran.iterdir()} == {"1", "2", "3", "4"}
    found = suite_of(run)
    assert (found["name"], found["outcome"], found["parts"], found["note"]) == ("unit", "passed", 4, None)
    assert [label for label in swarm("logs", "t", "--of", "verify").err.split() if "of4" in label]


@pytest.mark.slow
def test_a_red_part_is_a_red_suite(swarm: Swarm) -> None:
    """A command that splits by itself finds its part in SWARM_SHARD, from 1 to SWARM_SHARDS; one red part is enough, and its output
    is what is told."""
    seen = swarm.outside / "seen"
    suite = {
        "name": "e2e",
        "run": f"echo $SWARM_SHARD/$SWARM_SHARDS | tee -a {seen}; [ $SWARM_SHARD != 2 ]",
        "shard": 3,
    }
    run = swarm.run(swarm.plan("parts", [swarm.task("t", attempts=1)], verify=[suite]), code=1)
    assert sorted(seen.read_text().split()) == sorted(2 * ["1/3", "2/3", "3/3"])  # it runs once more
    assert (suite_of(run)["outcome"], suite_of(run)["parts"]) == ("failed", 3)
    assert "2/3" in Path(suite_of(run)["log"]).read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "suite"),
    [
        (
            {
                "test_a.py": "import os\nfor n in range(int(os.environ.get('SWARM_SHARD', 7))):\n    exec(f'def test_{n}(): pass')"
            },
            {"run": PYTEST, "shard": 2},
        ),
        ({"test_a.py": "def test(): pass"}, {"run": f"PYTHONPATH= {PYTEST}", "shard": 2}),
    ],
    ids=["other tests in each part", "the splitter can't be loaded"],
)
def test_parts_that_do_not_add_up_are_run_as_a_whole(
    swarm: Swarm, files: dict[str, str], suite: dict[str, Any]
) -> None:
    """Row 88: where the parts together are not every test once, or the splitter breaks, the suite runs once more as a whole, which
    alone counts, and it is told."""
    task = swarm.task("t", written(files), claims=["*"], attempts=1)
    run = swarm.run(swarm.plan("whole", [task], verify=[{"name": "unit", **suite}]))
    swarm.check_landed(run)
    assert (suite_of(run)["outcome"], suite_of(run)["parts"]) == ("passed", 1)
    assert suite_of(run)["note"].startswith("ran as a whole, since its parts do not add up: ")
    (landed,) = swarm.events("TaskLanded")
    assert landed["notes"] == {"unit": suite_of(run)["note"]}
    assert "ran as a whole" in swarm("show", "t").out


@pytest.mark.slow
def test_a_parallel_runner_that_breaks_is_followed_by_one_after_the_other(swarm: Swarm) -> None:
    """Row 88: where workers of pytest-xdist crash, the suite runs again one test after the other; that counts, and it is told."""
    crash = "import os\ndef test(request):\n    if hasattr(request.config, 'workerinput'): os._exit(3)"
    task = swarm.task("t", written({"test_a.py": crash}), claims=["*"], attempts=1)
    run = swarm.run(swarm.plan("broken", [task], verify=[{"name": "unit", "run": f"{PYTEST} -n 2"}]))
    swarm.check_landed(run)
    assert suite_of(run)["outcome"] == "passed"
    assert "ran again one test after the other, since its parallel runner broke" in suite_of(run)["note"]


@pytest.mark.parametrize("parts", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_tests_found_is_not_passed(swarm: Swarm, parts: int) -> None:
    """Row 87: where pytest finds no test, whole or in parts, the outcome is none, and nothing lands by it."""
    suite = {"name": "unit", "run": PYTEST, "shard": parts}
    run = swarm.run(swarm.plan("empty", [swarm.task("t", attempts=1)], verify=[suite]), code=1)
    assert suite_of(run)["outcome"] == "none"
    assert code_of(run, "t") == "verify_failed"
    assert swarm.landings("empty") == []


# --- what is remembered


def test_what_passed_is_not_run_again_on_the_same_tree(swarm: Swarm) -> None:
    """A suite that passed does not run again on the same tree, and that is told; it does on another tree, by another command, in
    another environment, where it did not pass, and where one does not want it remembered."""
    looks = swarm.outside / "looks"
    command = f"echo look >> {looks}; test -f out-t"

    def ran(
        name: str, suite: dict[str, Any], *, content: str = "t", code: int = 0, **env: str
    ) -> tuple[int, dict[str, Any]]:
        if env or name == "first":  # the daemon gives suites its own
            swarm("stop")
            swarm("start", env=env)
        before = len(looks.read_text().split()) if looks.exists() else 0
        task = swarm.task("t", f"echo {content} > out-t", claims=["out-t"], attempts=1)
        run = swarm.run(swarm.plan(name, [task], verify=[{"name": "unit", **suite}]), code=code)
        return len(looks.read_text().split()) - before, suite_of(run)

    assert ran("first", {"run": command})[0] == 1
    times, known = ran("again", {"run": command})
    assert times == 0
    assert (known["outcome"], known["remembered"], known["duration_s"]) == ("passed", True, 0.0)
    assert "not run again: it passed on the same tree" in swarm("show", "t", "--run", "again").out
    assert [event["notes"] for event in swarm.events("TaskLanded") if event["run"] == "again"] == [
        {"unit": known["note"]}
    ]
    assert ran("tree", {"run": command}, content="u")[0] == 1
    assert ran("command", {"run": f"{command}; true"})[0] == 1
    assert ran("unwanted", {"run": command, "remember": False})[0] == 1
    for name in ("red", "still-red"):  # each twice on the same commit
        assert ran(name, {"run": f"{command}; false"}, code=1)[0] == 2
    assert ran("environment", {"run": command}, OTHER="1")[0] == 1
    assert ran("off", {"run": command}, SWARM_VERIFY__REMEMBER_S="0")[0] == 1


# --- suites that are found


@pytest.mark.slow
def test_suites_are_found_without_being_told(swarm: Swarm) -> None:
    """Row 122: with `verify = "auto"` what lands passed the suites that the project has, and `swarm check` says which; where it has
    none it says so, and the landing says `none`."""
    plan = swarm.plan("found", [swarm.task("t")], verify="auto")
    assert "auto finds no suites" in swarm("check", str(plan)).out
    none = swarm.plan("none", [swarm.task("t")], verify="auto")
    assert "auto finds no suites, so nothing verifies what lands" in swarm("run", str(none)).err
    assert suites_of(swarm.wait("none")) == []
    (swarm.top / "Makefile").write_text("test:\n\ttest -f out-t\n")
    git(swarm.top, "add", "Makefile")
    git(swarm.top, "commit", "-q", "-m", "A check")
    swarm.look_again()
    assert "verify   test: make test (found by Makefile, target test)" in swarm("check", str(plan)).out
    assert "1 added, 0 replaced, 0 unchanged; verified by make test" in swarm("run", str(plan)).err
    run = swarm.wait("found")
    swarm.check_landed(run)
    assert [(suite["name"], suite["outcome"]) for suite in suites_of(run)] == [("test", "passed")]
    extra = swarm.run(swarm.plan("extra", [swarm.task("u", attempts=1)]), "--verify", "auto", code=1)
    assert [(suite["name"], suite["outcome"]) for suite in suites_of(extra, "u")] == [("test", "failed")]


def suites_of(run: dict[str, Any], task: str = "t") -> list[dict[str, Any]]:
    return list(task_of(run, task)["attempts"][-1]["suites"])

"""What status, events, logs and the others show, held against the contract and against the truth."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from swarm import Swarm as Library
from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, SWARM, Swarm
from tests.e2e.test_ends import task_of
from tests.e2e.test_places import a_repository

NUMBER, TEXT, FLAG = (int, float), (str,), (bool,)
NONE = (type(None),)
READINGS = {
    "cpu_percent": NUMBER,
    "memory_percent": NUMBER,
    "memory_available_bytes": NUMBER,
    "disk_free_bytes": NUMBER,
}
REASON = {"code": TEXT, "text": TEXT}
ATTEMPT = {
    "n": NUMBER, "state": TEXT, "agent": TEXT, "branch": TEXT + NONE, "base": TEXT, "head": TEXT + NONE, "worktree": TEXT + NONE,
    "pid": NUMBER + NONE, "cpu_percent": NUMBER + NONE, "rss_bytes": NUMBER + NONE, "started_at": TEXT, "ended_at": TEXT + NONE,
    "exit_code": NUMBER + NONE, "touched": (list,), "strays": (list,), "cost_usd": NUMBER + NONE, "tokens_in": NUMBER + NONE,
    "tokens_out": NUMBER + NONE,
}  # fmt: skip
TASK = {
    "id": TEXT, "title": TEXT, "phase": TEXT + NONE, "state": TEXT, "needs": (list,), "claims": [{"path": TEXT, "mode": TEXT}],
    "landed_commit": TEXT + NONE, "attempts": [ATTEMPT],
}  # fmt: skip
COUNTS = dict.fromkeys(
    ("pending", "ready", "running", "queued", "landing", "landed", "failed", "cancelled", "blocked"), NUMBER
)
STATUS = {
    "schema": NUMBER,
    "daemon": {"running": FLAG, "pid": NUMBER + NONE, "version": TEXT, "started_at": TEXT + NONE, "paused": FLAG},
    "capacity": {"workers_max": NUMBER, "slots_open": NUMBER, "running": NUMBER, "reason": TEXT},
    "runs": [
        {
            "id": TEXT, "state": TEXT, "base": {"branch": TEXT, "commit": TEXT},
            "staging": {"branch": TEXT, "commit": TEXT, "worktree": TEXT, "verified": FLAG},
            "counts": COUNTS, "tasks": [TASK],
        }
    ],
    "merge_queue": [{"run": TEXT, "task": TEXT, "attempt": NUMBER, "state": TEXT, "candidate": TEXT + NONE}],
    "claims": [{"run": TEXT, "task": TEXT, "attempt": NUMBER, "path": TEXT, "mode": TEXT}],
}  # fmt: skip
TASK_STATES = set(COUNTS)
ENDS = {"landed", "handed_back", "failed", "cancelled", "lost"}
UNDER_WAY = {"preparing", "starting", "running", "suspended", "queued", "merging", "verifying", "advancing"}


def hold(found: Any, shape: Any, place: str = "") -> None:
    """Holds a document against its shape: every key there, every value of its type; more keys may be there."""
    if isinstance(shape, dict):
        assert isinstance(found, dict), place
        for key, inner in shape.items():
            assert key in found, f"{place}.{key} is missing"
            hold(found[key], inner, f"{place}.{key}")
    elif isinstance(shape, list):
        assert isinstance(found, list), place
        for n, each in enumerate(found):
            hold(each, shape[0], f"{place}[{n}]")
    else:
        kinds = shape if bool in shape else tuple(kind for kind in shape if kind is not bool)
        right = isinstance(found, kinds) and (bool in shape or not isinstance(found, bool))
        assert right, f"{place} is {found!r}"


def hold_status(document: dict[str, Any]) -> None:
    """Holds a status document against section 5 of the contract."""
    hold(document, STATUS)
    assert document["schema"] == 1
    if document["capacity"]["readings"] is not None:
        hold(document["capacity"]["readings"], READINGS)
    for run in document["runs"]:
        assert sum(run["counts"].values()) == len(run["tasks"])
        for task in run["tasks"]:
            assert task["state"] in TASK_STATES
            if task["reason"] is not None:
                hold(task["reason"], REASON)
            for attempt in task["attempts"]:
                assert attempt["state"] in ENDS | UNDER_WAY
                assert (attempt["ended_at"] is not None) == (attempt["state"] in ENDS)
                kept = attempt["head"] not in (None, attempt["base"])
                assert attempt["branch"] is not None or (attempt["state"] in ENDS and not kept)
                if attempt["reason"] is not None:
                    hold(attempt["reason"], REASON)
                for key in ("started_at", "ended_at"):
                    if attempt[key] is not None:
                        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", attempt[key])


def test_the_document_has_the_shape_of_the_contract(swarm: Swarm) -> None:
    """`status --json` has every key and type of the contract: empty, amid a run with all states, ended, without a daemon."""
    hold_status_but_version(swarm.status())
    suite = f"until [ -e {swarm.gate('suite')} ]; do sleep 0.02; done"
    plan = swarm.plan(
        "r",
        [
            swarm.task("bad", "exit 1", claims=["bad"], attempts=1),
            swarm.task("blocked", needs=["bad"]),
            swarm.task("landing", verify=[suite]),
            swarm.task("queued", gate="queue"),
            swarm.task("running", gate="run"),
            swarm.task("ready", claims=["out-running"]),
            swarm.task("pending", needs=["running"], phase="late"),
        ],
        phases=[{"id": "late"}],
    )
    swarm("start", SWARM_VERIFY__SLOTS="1")  # so that one waits while another is verified
    swarm("submit", str(plan))
    wait_until(lambda: [entry["state"] for entry in swarm.status()["merge_queue"]] == ["verifying"])
    swarm.open("queue")
    states = {"bad": "failed", "blocked": "blocked", "landing": "landing", "queued": "queued", "running": "running",
              "ready": "ready", "pending": "pending"}  # fmt: skip
    wait_until(lambda: {task["id"]: task["state"] for task in swarm.status()["runs"][0]["tasks"]} == states)
    line = [
        ("landing", "verifying"),
        ("queued", "waiting"),
    ]  # it is queued from its worker's end on, before its work is collected
    wait_until(lambda: [(each["task"], each["state"]) for each in swarm.status()["merge_queue"]] == line)
    now = swarm.status()
    hold_status(now)
    assert {claim["task"] for claim in now["claims"]} == {"landing", "queued", "running"}
    reason = task_of(now["runs"][0], "ready")["reason"]
    assert reason["code"] == "claim"
    assert "running" in reason["text"]
    assert "out-running" in reason["text"]
    shown = swarm("status").out
    for word in ("running", "verifying", "out-running"):
        assert word in shown
    swarm.open("suite")
    swarm.open("run")
    hold_status({**now, "runs": [swarm.wait("r", code=1)]})
    hold_status(swarm.status())
    swarm("stop")
    hold_status(swarm.status())
    assert swarm.status("--run", "r")["runs"][0]["id"] == "r"
    swarm("status", "--run", "nothing", code=2)


def hold_status_but_version(document: dict[str, Any]) -> None:
    """Where there has never been a daemon, there is no version to tell."""
    assert document["runs"] == document["merge_queue"] == document["claims"] == []
    hold(
        document, {**STATUS, "daemon": {"running": FLAG, "pid": NONE, "version": TEXT + NONE, "paused": FLAG}}
    )


def test_status_is_the_truth_about_who_works(swarm: Swarm) -> None:
    """Row 96: whom status calls running is whose worker has started and not ended, with its process and what it takes."""
    plan = swarm.plan("r", [swarm.task(f"t{n}", gate=f"g{n}") for n in range(3)])
    swarm("start")
    swarm("submit", str(plan))
    swarm.launchers("r", "t0", "t1", "t2")
    for n in range(3):
        run = swarm.run_of("r")
        working = [task for task in run["tasks"] if task["state"] == "running"]
        assert [task["id"] for task in working] == [f"t{k}" for k in range(n, 3)]
        for task in working:
            (attempt,) = task["attempts"]
            assert attempt["rss_bytes"] > 0
            assert psutil.Process(attempt["pid"]).environ()["SWARM_TASK"] == task["id"]
        swarm.open(f"g{n}")
        swarm.wait_for_landed("r", f"t{n}")
    swarm.check_landed(swarm.wait("r"))


def test_events_tell_everything_in_order(swarm: Swarm) -> None:
    """Events are numbered from 1 without a gap, read the same with and without a daemon, and -f shows those that come."""
    swarm("start")
    following = swarm.spawn("events", "-f", "--json")
    swarm("submit", str(swarm.plan("r", [swarm.task("t")])))
    swarm.wait("r")
    assert following.stdout is not None
    seen: list[dict[str, Any]] = []
    while not any(event["type"] == "RunEnded" for event in seen):
        seen.append(json.loads(following.stdout.readline()))
    during = swarm.events()
    assert [event["seq"] for event in during] == list(range(1, len(during) + 1))
    assert seen == during[: len(seen)]
    for event in during:
        for name in (name for name in event if name == "at" or name.endswith("_at")):
            datetime.fromisoformat(event[name].replace("Z", "+00:00"))
        assert event["type"]
    (began,) = (event["started_at"] for event in during if event["type"] == "WorkerStarted")
    (ended,) = (event["ended_at"] for event in during if event["type"] == "WorkerExited")
    assert began <= ended
    (landed,) = [event for event in during if event["type"] == "TaskLanded"]
    assert (landed["run"], landed["task"], landed["attempt"]) == ("r", "t", 1)
    swarm("stop")
    after = swarm.events()
    assert after[: len(during)] == during
    last = [json.loads(line) for line in swarm("events", "--json", "--after", "3").out.splitlines()]
    assert last == after[3:]
    assert "landed" in swarm("events").out.lower()
    report = swarm("report", "--json").json
    facts = [event["type"] for event in after]
    assert report["totals"]["attempts"] == facts.count("TaskStarted") == 1
    assert report["totals"]["landed"] == facts.count("TaskLanded") == 1
    assert [task["state"] for task in report["tasks"]] == ["landed"]
    assert "1 landed" in swarm("report").out.splitlines()[0]
    assert report["daemon"] == {"running": False}
    assert swarm("report", "--html", "-").out.startswith("<!doctype html>")
    assert not (swarm.top / "-").exists()
    assert "Known: r." in swarm("report", "--run", "zzz", code=2).err
    assert "--json" in swarm("report", "--html", "-", "--json", code=2).err


def test_a_worker_never_ends_before_it_started(swarm: Swarm) -> None:
    """Where the clock of files is behind, by seconds here, the end of a worker is told as that of its start at the earliest."""
    folder = swarm.outside / "behind"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "from swarm.edge import process\n"
        "said = process.exit_of\n"
        "def behind(folder):\n"
        "    found = said(folder)\n"
        "    return found and process.Exit(found.code, found.at - 10)\n"
        "process.exit_of = behind\n"
    )
    behind = os.pathsep.join((str(folder), swarm.env["PYTHONPATH"]))
    swarm.run(swarm.plan("r", [swarm.task("t")]), PYTHONPATH=behind)
    (began,) = (event["started_at"] for event in swarm.events("WorkerStarted"))
    (ended,) = (event["ended_at"] for event in swarm.events("WorkerExited"))
    assert began == ended


@pytest.mark.slow
def test_logs_can_be_filtered_and_followed(swarm: Swarm) -> None:
    """Row 95: the last 50 lines that match a pattern, of one attempt or while they come."""
    work = 'for i in $(seq 1 200); do echo "line $i"; echo "other $i"; done; [ "$SWARM_ATTEMPT" = 2 ] && echo x > out'
    plan = swarm.plan(
        "r",
        [
            swarm.task("t", work, claims=["out"], attempts=2),
            swarm.task("slow", "echo begin; echo y > y", gate="slow", claims=["y"]),
        ],
    )
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("slow")
    following = swarm.spawn("logs", "slow", "-f")
    assert following.stdout is not None
    assert following.stdout.readline() == "begin\n"
    swarm.open("slow")
    assert following.wait(PATIENCE_S) == 0
    swarm.wait("r")
    assert swarm("logs", "t", "--grep", "^line", "--lines", "50").out.splitlines() == [
        f"line {n}" for n in range(151, 201)
    ]
    assert len(swarm("logs", "t", "--attempt", "1").out.splitlines()) == 400
    swarm("logs", "nobody", code=2)
    swarm("logs", "t", "--grep", "(", code=2)
    for words in (["logs", "t"], ["worktrees", "open", "t"], ["logs", "-f", "t"]):
        said = swarm(*words, "--attempt", "9", code=2).err
        assert "has had no attempt 9" in said
        assert "There are 1, 2." in said


@pytest.mark.slow
def test_the_last_words_of_a_worker_are_followed(swarm: Swarm) -> None:
    """logs -f begins with the last lines and shows each further one once and whole, the very last too, and that of every suite."""
    work = swarm.does("echo one; echo two; printf thr; true", gate="w") + "; printf ee; echo x > x"
    task = {
        "id": "w",
        "title": "w",
        "run": work,
        "claims": ["x"],
        "verify": ["echo first suite", "echo second suite"],
    }
    swarm("start")
    swarm("submit", str(swarm.plan("words", [task])))
    swarm.wait_for_gate("w")
    following = swarm.spawn("logs", "w", "-f", "--lines", "2")
    assert following.stdout is not None
    assert following.stdout.readline() == "two\n"
    swarm.open("w")
    out, err = following.communicate(timeout=PATIENCE_S)
    assert out == "three\nfirst suite\nsecond suite\n"
    assert [line for line in err.splitlines() if line.startswith("==>")][-1].startswith("==> verification")
    swarm.wait("words")


@pytest.mark.slow
def test_all_suites_of_a_verification_are_shown_in_both_runs(swarm: Swarm) -> None:
    """`logs` shows what every suite printed, also where one of them is red and runs once more: then both of its outputs, the first
    first. So does the method."""
    times = swarm.outside / "times"
    red = f"echo x >> {times}; echo red-$(grep -c x {times}); false"
    suites = [
        {"name": "lint", "run": "echo lint-ok"},
        {"name": "unit", "run": red},
        {"name": "e2e", "run": "echo e2e-ok"},
    ]
    swarm.run(swarm.plan("r", [swarm.task("a", attempts=1, verify=suites)]), code=1)
    said = swarm("logs", "a", "--of", "verify")
    assert said.out.splitlines() == ["lint-ok", "red-1", "e2e-ok", "red-2"]
    labels = [f"verification {name}" for name in ("1-lint", "2-unit", "3-e2e", "2-unit, again")]
    assert said.err.splitlines() == [f"==> {label} <==" for label in labels]
    lines = swarm("logs", "a", "--of", "verify", "--json").out.splitlines()
    told = [(each["output"], each["line"]) for each in map(json.loads, lines)]
    assert told == list(zip(labels, said.out.splitlines(), strict=True))
    assert swarm("logs", "a", "--grep", "ok$").out.splitlines() == ["lint-ok", "e2e-ok"]


@pytest.mark.slow
def test_of_a_suite_that_did_not_run_again_that_is_said(swarm: Swarm) -> None:
    """A suite that passed on the same tree before has no output of this attempt; a note says why, and none where nobody asks for
    verification, or reads JSON."""
    suites = [{"name": "unit", "run": "echo unit-ok"}]
    for name in ("one", "two"):
        task = swarm.task("t", "echo same > out", claims=["out"], verify=suites)
        swarm.run(swarm.plan(name, [task]))
    assert swarm("logs", "one/t").out == "unit-ok\n"
    note = "The verification unit was not run again: it passed on the same tree.\n"
    said = swarm("logs", "two/t", "--of", "verify")
    assert (said.out, said.err) == ("", note)
    assert note in swarm("logs", "two/t").err
    assert note not in swarm("logs", "one/t").err
    for words in (["--of", "worker"], ["--json"]):
        assert "not run again" not in swarm("logs", "two/t", *words).err


@pytest.mark.slow
def test_what_printed_or_changed_nothing_is_said(swarm: Swarm) -> None:
    """As notes, `logs` says which output is empty and how what should have written it ended, `diff` that nothing was changed."""
    tasks = [
        swarm.task("a", verify=["test -e nothing"], attempts=1),
        swarm.task("b", "echo words; exit 3", claims=["b"], attempts=1),
        swarm.task("c", needs=["b"]),
    ]
    swarm.run(swarm.plan("r", tasks), code=1)
    said = swarm("logs", "a")
    assert said.out == ""
    assert "The worker printed nothing and ended with exit code 0.\n" in said.err
    assert "printed nothing: failed, exit code 1.\n" in said.err
    assert swarm("logs", "b").err == ""
    assert swarm("logs", "c").err == "There is no output of c: it has had no attempt.\n"
    assert (swarm("diff", "b").out, swarm("diff", "b").err) == ("", "b has changed nothing.\n")
    assert swarm("diff", "c").err == "c has had no attempt.\n"


@pytest.mark.slow
def test_a_wait_tells_the_time_of_the_run(swarm: Swarm) -> None:
    """Whoever waits for a run that has ended reads how long that took, and not how long it was waited for, with a daemon or without
    one."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a", "sleep 0.3; echo > out", claims=["out"])])))
    run = swarm.wait("r")
    began, ended = (
        datetime.fromisoformat(run[key].replace("Z", "+00:00")) for key in ("created_at", "ended_at")
    )
    line = f"1 landed, 0 failed, 0 blocked in {(ended - began).total_seconds():.1f} s"
    assert swarm("wait").out.splitlines()[-1] == line
    swarm("stop")
    assert swarm("wait", "-q").out == f"{line}\n"


@pytest.mark.slow
def test_show_names_a_worktree_only_while_it_is_the_attempts(swarm: Swarm) -> None:
    """Of an attempt that has ended `show` names the worktree where it was kept, and none that went back to the pool."""
    swarm.run(swarm.plan("r", [swarm.task("a", "exit 1", claims=["x"], attempts=1)]), code=1)
    assert swarm("show", "a", "--json").json["task"]["attempts"][0]["worktree"] is None
    assert "worktree" not in swarm("show", "a").out
    swarm("stop")
    plan = swarm.plan("s", [swarm.task("b", "exit 1", claims=["x"], attempts=1)])
    swarm.run(plan, code=1, SWARM_WORKTREES__KEEP="true")
    kept = swarm("show", "b", "--json").json["task"]["attempts"][0]["worktree"]
    assert kept in git(swarm.top, "worktree", "list", "--porcelain")
    assert "worktree" in swarm("show", "b").out


def test_show_and_diff_of_a_task(swarm: Swarm) -> None:
    """`show` knows every attempt and why it ended; `diff` gives a patch that git applies to the base."""
    work = '[ "$SWARM_ATTEMPT" = 2 ] || exit 7; sed -i s/1/2/ src/b.py; printf "no end" > new'
    swarm.run(swarm.plan("r", [swarm.task("t", work, title="The title", claims=["src/b.py", "new"])]))
    shown = swarm("show", "t").out
    for words in ("The title", "exit code 7", "attempt 1", "attempt 2", "src/b.py", "swarm/r/task/t/2"):
        assert words in shown
    document = swarm("show", "t", "--json").json
    assert document["schema"] == 1
    assert [attempt["exit_code"] for attempt in document["task"]["attempts"]] == [7, 0]
    patch = swarm.outside / "patch"
    patch.write_text(swarm("diff", "t").out)
    clone = swarm.outside / "clone"
    git(swarm.outside, "clone", "-q", str(swarm.top), str(clone))
    git(clone, "apply", "--index", str(patch))
    assert git(clone, "write-tree") == git(swarm.top, "rev-parse", "swarm/r/staging^{tree}")


@pytest.mark.slow
def test_what_a_running_worker_writes_shows_at_once(swarm: Swarm) -> None:
    """Paths that it has changed so far, and those outside its claims, stand in the status while it works; `diff` shows them."""
    task = swarm.task("t", "echo x > mine; echo y > theirs", claims=["mine"], gate="go")
    swarm("start")
    swarm("submit", str(swarm.plan("r", [task])))

    def seen() -> tuple[list[str], list[str]]:
        (attempt,) = swarm.status()["runs"][0]["tasks"][0]["attempts"] or [{"touched": [], "strays": []}]
        return attempt["touched"], attempt["strays"]

    wait_until(lambda: seen() == (["mine", "theirs"], ["theirs"]))
    assert "writes outside its claims: theirs" in swarm("status").out
    so_far = swarm("diff", "t")
    assert ("+x\n" in so_far.out, "Attempt 1 of t is at work" in so_far.err) == (True, True)
    document = swarm("diff", "t", "--json").json
    assert (document["attempt"], document["head"], document["patch"]) == (1, None, so_far.out)
    assert [each["path"] for each in document["files"]] == ["mine", "theirs"]
    swarm.open("go")
    swarm.wait("r")
    assert swarm("diff", "t").err == ""


@pytest.mark.slow
def test_show_tells_of_a_task_what_status_tells(swarm: Swarm) -> None:
    """Of one at work what it has changed so far, of one that waits what for: that no daemon is at work only where none is."""
    first = swarm.task("first", "echo x > theirs", claims=["mine"], gate="go")
    plan = swarm.plan("r", [first, swarm.task("second", "true", claims=["mine"])])
    swarm("start")
    swarm("submit", str(plan))

    def shown(name: str) -> dict[str, Any]:
        task: dict[str, Any] = swarm("show", name, "--json").json["task"]
        return task

    wait_until(lambda: [each["strays"] for each in shown("first")["attempts"]] == [["theirs"]])
    assert shown("first")["attempts"][0]["touched"] == ["theirs"]
    told = [task["reason"] for task in swarm.status()["runs"][0]["tasks"]]
    assert [shown("first")["reason"], shown("second")["reason"]] == told
    assert told[1]["code"] == "claim"
    assert "first holds mine" in swarm("show", "second").out
    assert "theirs" in swarm("show", "first").out
    swarm("stop", "--now")
    assert "no daemon is at work" in swarm("show", "second").out


@pytest.mark.slow
def test_what_a_worker_left_shows_while_it_is_collected(swarm: Swarm) -> None:
    """Between the end of a worker and the commit of what it left `diff` shows that; it is not taken for nothing."""
    first, begun, go = (swarm.outside / name for name in ("first", "begun", "go"))
    slow = f"mkdir {first} 2>/dev/null && {{ touch {begun}; until [ -e {go} ]; do sleep 0.05; done; }}; cat"
    git(swarm.top, "config", "filter.slow.clean", slow)
    (swarm.top / ".git" / "info" / "attributes").write_text("mine filter=slow\n")
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("t", "echo x > mine", claims=["mine"])])))
    wait_until(begun.exists)
    left = swarm("diff", "t")
    assert ("+x\n" in left.out, "Attempt 1 of t has ended, and is being collected" in left.err) == (
        True,
        True,
    )
    document = swarm("diff", "t", "--json").json
    assert (document["attempt"], document["head"], document["patch"]) == (1, None, left.out)
    go.touch()
    swarm.wait("r")
    git(swarm.top, "config", "--remove-section", "filter.slow")
    (swarm.top / ".git" / "info" / "attributes").unlink()
    assert "+x\n" in swarm("diff", "t").out


@pytest.mark.slow
def test_diff_of_an_attempt_that_is_named(swarm: Swarm) -> None:
    """What an earlier attempt did can be looked at beside what landed; of one that kept nothing that is said, and one that there
    is none of is refused."""
    work = 'echo $SWARM_ATTEMPT > try; test "$SWARM_ATTEMPT" != 2 || rm try; exit 0'
    task = swarm.task("t", work, claims=["try"], verify=["grep -q 3 try"], attempts=3)
    swarm.run(swarm.plan("r", [task]))
    added = {n: swarm("diff", "t", "--attempt", n).out.count("\n+") - 1 for n in "13"}
    assert added == {"1": 1, "3": 1}
    assert "+1\n" in swarm("diff", "t", "--attempt", "1").out
    assert "+3\n" in swarm("diff", "t").out
    nothing = swarm("diff", "t", "--attempt", "2")
    assert (nothing.out, nothing.err) == ("", "Attempt 2 of t has changed nothing.\n")
    assert "has had no attempt 4" in swarm("diff", "t", "--attempt", "4", code=2).err


@pytest.mark.slow
def test_a_patch_that_is_cut_is_told(swarm: Swarm) -> None:
    """Who pipes the patch of much into a file is told that it is not all of it, and where all of it is."""
    work = "seq 900000 > out"
    swarm.run(swarm.plan("r", [swarm.task("t", work, claims=["out"]), swarm.task("u")]))
    told = swarm("diff", "t")
    assert told.out.endswith("bytes]\n")
    assert "only the beginning of the patch" in told.err
    found = swarm("diff", "t", "--json").json
    assert "Next: git diff of the two commits that are named by swarm diff t --json" in told.err
    assert git(swarm.top, "diff", found["base"], found["head"]).endswith("+900000")
    assert "beginning" not in swarm("diff", "u").err


@pytest.mark.slow
def test_diff_as_a_document(swarm: Swarm) -> None:
    """`diff --json` tells whose work it is, between which commits, the lines of each file, and the patch; of what changed nothing
    the same fields."""
    work = r'printf "one\n\377\n" > try; test "$SWARM_ATTEMPT" = 1 || { rm try; echo 2 > "a b"; }'
    task = swarm.task("t", work, claims=["try", "a b"], verify=["! test -e try"], attempts=2)
    swarm.run(swarm.plan("r", [task, swarm.task("u", needs=["t"])]))
    found = swarm("diff", "t", "--json").json
    landed = swarm.status()["runs"][0]["tasks"][0]["landed_commit"]
    assert found.pop("patch") == git(swarm.top, "diff", "--binary", f"{landed}^1", landed) + "\n"
    ends = {"base": git(swarm.top, "rev-parse", f"{landed}^1"), "head": landed}
    files = [{"path": "a b", "added": 1, "deleted": 0}]
    whose = {"schema": 1, "run": "r", "task": "t"}
    assert found == {**whose, "attempt": 2, "landed": True, **ends, "files": files}
    first = swarm("diff", "t", "--attempt", "1", "--json").json
    assert (first["attempt"], first["landed"]) == (1, False)
    assert first["files"] == [{"path": "try", "added": 2, "deleted": 0}]
    assert "+one\n+\ufffd\n" in first["patch"]


@pytest.mark.slow
def test_of_what_changed_nothing_there_is_a_document(swarm: Swarm) -> None:
    """`diff --json` of a task that changed nothing, or has had no attempt, has the same fields, and nothing beside it."""
    tasks = [swarm.task("a", "exit 3", claims=["b"], attempts=1), swarm.task("b", needs=["a"])]
    swarm.run(swarm.plan("r", tasks), code=1)
    for task in ("a", "b"):
        done = swarm("diff", task, "--json")
        assert done.err == ""
        whose = {"schema": 1, "run": "r", "task": task, "attempt": None}
        assert done.json == whose | {"landed": False, "base": None, "head": None, "files": [], "patch": ""}


def test_logs_as_json_lines(swarm: Swarm) -> None:
    """`logs --json` gives an object for each line that is shown, followed or not: whose it is, and its text."""
    work = (
        swarm.does("echo one; printf '\\033[1mtwo\\033[0m\\n'; true", gate="w") + "; echo three; echo x > x"
    )
    verify = [{"name": "unit", "run": "echo passed"}]
    task = {"id": "w", "title": "w", "run": work, "claims": ["x"], "verify": verify}
    swarm("start")
    swarm("submit", str(swarm.plan("r", [task])))
    swarm.wait_for_gate("w")
    following = swarm.spawn("logs", "w", "-f", "--json")
    assert following.stdout is not None
    begun = [json.loads(following.stdout.readline()) for _ in range(2)]
    worker = {"run": "r", "task": "w", "attempt": 1, "output": "worker"}
    assert begun == [{**worker, "line": "one"}, {**worker, "line": "two"}]
    swarm.open("w")
    out, _ = following.communicate(timeout=PATIENCE_S)
    swarm.wait("r")

    def lines(text: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in text.splitlines()]

    suite = {**worker, "output": "verification 1-unit", "line": "passed"}
    whole = [*begun, {**worker, "line": "three"}, suite]
    assert [*begun, *lines(out)] == whole
    assert lines(swarm("logs", "w", "--json").out) == whole
    assert lines(swarm("logs", "w", "--json", "--of", "verify").out) == [suite]
    assert lines(swarm("logs", "w", "--json", "--grep", "^t", "--lines", "1").out) == [whole[2]]
    assert lines(swarm("logs", "w", "--json", "--raw").out)[1]["line"] == "\x1b[1mtwo\x1b[0m"


def test_what_is_in_force(swarm: Swarm) -> None:
    """`config` shows each value and its source, the environment over the file; an unknown key is named with the nearest."""
    (swarm.top / "swarm.toml").write_text("[limits]\nworkers_max = 3\ngrace_s = 2.0\n")
    swarm.look_again()
    found = {
        row["key"]: row for row in swarm("config", "--json", SWARM_LIMITS__WORKERS_MAX="7").json["settings"]
    }
    assert (found["limits.workers_max"]["value"], found["limits.workers_max"]["source"]) == (
        7,
        "environment SWARM_LIMITS__WORKERS_MAX",
    )
    assert found["limits.attempts"]["source"] == "default"
    (swarm.top / "swarm.toml").write_text("[limits]\nworker_max = 3\n")
    swarm.look_again()
    refused = swarm("start", code=2)
    assert "workers_max" in refused.err
    assert "swarm.toml" in refused.err


@pytest.mark.slow
def test_what_a_running_daemon_does_not_take(swarm: Swarm) -> None:
    """A daemon keeps the settings that it started with: `config` says which it has otherwise, and `start` and `run` warn of what is
    given now and not in force, but not of what was set by hand for the daemon."""
    swarm("start", "--workers", "3", SWARM_LIMITS__ATTEMPTS="5")
    alone = swarm("config", "--json").json["daemon"]
    assert alone["pid"] == swarm.status()["daemon"]["pid"]
    assert alone["differs"] == [
        {"key": "limits.workers_max", "value": 3, "source": "flag"},
        {"key": "limits.attempts", "value": 5, "source": "environment SWARM_LIMITS__ATTEMPTS"},
    ]
    assert swarm("start").err == ""
    (swarm.top / "swarm.toml").write_text(
        "[limits]\nworkers_max = 2\ngrace_s = 7.0\n[agents.mine]\ncommand = ['x']\n"
    )
    swarm.look_again()
    plan = str(swarm.plan("r", [swarm.task("a")]))
    attempts = "limits.attempts: 4 (environment SWARM_LIMITS__ATTEMPTS); it has 5 (environment SWARM_LIMITS__ATTEMPTS)"
    for words in (("start",), ("run", plan)):
        said = swarm(*words, SWARM_LIMITS__ATTEMPTS="4").err
        assert f"\n  {attempts}\n" in said
        assert '\n  agents.mine.command: ["x"] (swarm.toml); it has nothing (not set)\n' in said
        assert "workers_max" not in said  # a flag stands above the file, and the environment too
        assert "grace_s" not in said
        assert "swarm stop --leave-workers" in said
    swarm("scale", "6")
    told = swarm("config")
    (row,) = [line for line in told.out.splitlines() if line.startswith("limits.workers_max ")]
    assert row.split(maxsplit=2)[1:] == ["2", "swarm.toml; the daemon has 6 (swarm scale)"]
    assert "Next: swarm stop --leave-workers" in told.err
    assert "warn  settings: the daemon has others than are set now: " in swarm("doctor", code=None).out
    swarm("stop", "--leave-workers")
    assert swarm("config", "--json").json["daemon"] is None
    swarm("start")
    assert swarm("config", "--json").json["daemon"]["differs"] == []


@pytest.mark.slow
def test_init_writes_one_file(swarm: Swarm) -> None:
    """`init` writes a swarm.toml that changes nothing and is valid, and does not write over one."""
    before = swarm("config").out
    swarm("init")
    assert swarm("config").out == before
    swarm("init", code=4)
    (swarm.top / "swarm.toml").unlink()
    assert swarm("schema").out.startswith("{")


@pytest.mark.slow
def test_worktrees_are_listed_with_branch_commits_dirt_age_and_size(swarm: Swarm) -> None:
    """Row 99: of a worker's worktree and of staging's the list shows branch, commits ahead, dirt, age and size; git agrees."""
    work = "echo 1 > one && git add one && git commit -qm one && echo 2 > two && touch three"
    swarm("start")
    swarm("submit", str(swarm.plan("trees", [swarm.task("t", f"{work} && true", claims=["**"], gate="t")])))
    swarm.wait_for_gate("t")
    swarm.launchers("trees", "t")
    row = _worktree(swarm, "t")
    assert (row["state"], row["run"], row["attempt"], row["dirty"]) == ("running", "trees", 1, 2)
    assert row["branch"] == "swarm/trees/task/t/1"
    assert row["ahead"] == int(git(swarm.top, "-C", row["path"], "rev-list", "--count", "main..HEAD")) == 1
    assert row["commit"] == git(swarm.top, "-C", row["path"], "rev-parse", "HEAD")
    assert 0 <= row["age_s"] < 3600
    assert row["size_bytes"] > 0
    swarm.open("t")
    swarm.wait("trees")
    swarm.wait_for_follow("trees")
    row = _worktree(swarm, None)
    assert (row["state"], row["branch"], row["ahead"], row["dirty"]) == (
        "staging",
        "swarm/trees/staging",
        3,
        0,
    )
    line = next(line for line in swarm("worktrees").out.splitlines() if "staging" in line)
    assert re.search(r"swarm/trees/staging +3 ahead +\S+ old +clean +\d", line), line


def _worktree(swarm: Swarm, task: str | None) -> dict[str, Any]:
    rows = swarm("worktrees", "--json").json["worktrees"]
    return dict(next(row for row in rows if row["run"] == "trees" and row["task"] == task))


@pytest.mark.slow
def test_names_and_contents_that_are_no_text(swarm: Swarm) -> None:
    """A file whose name is no UTF-8 breaks no document, and the patch that diff gives a pipe can be applied, binary files too."""
    work = "printf 'caf\\351\\n' > \"$(printf 'n\\351')\"; head -c 999 /dev/urandom > binary"
    run = swarm.run(swarm.plan("r", [swarm.task("t", work, claims=["**"])]))
    assert task_of(run, "t")["attempts"][0]["touched"] == ["binary", "n\udce9"]
    swarm("start")
    assert task_of(swarm.status()["runs"][0], "t")["attempts"][0]["touched"] == ["binary", "n\udce9"]
    assert "n\\udce9" in swarm("show", "t").out
    patch = swarm("diff", "t").out.encode("utf-8", "surrogateescape")
    applied = subprocess.run(
        ["git", "apply", "--check", "-"], cwd=swarm.top, input=patch, capture_output=True, check=False
    )
    assert applied.returncode == 0, applied.stderr


def in_shell(swarm: Swarm, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of shell in the repository; Python writes as it does by itself, by blocks."""
    environment = {name: value for name, value in swarm.env.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["sh", "-c", script], cwd=swarm.top, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_output_that_cannot_be_written(swarm: Swarm) -> None:
    """On a terminal without the characters they are written as escapes; a full disk is told, a closed output is no error."""
    swarm.run(swarm.plan("r", [swarm.task("ü")]))
    assert "\\xfc" in swarm("show", "ü", PYTHONIOENCODING="ascii").out
    ways = ((" > /dev/full", 1, "The output can't be written: No space left on device.\n"), (" >&-", 0, ""))
    for command in ("status", "--help", "--version", "-q --version", "status --help", "worktrees -h"):
        for way, code, said in ways:
            done = in_shell(swarm, f"{shlex.join(SWARM)} {command} {way}")
            assert (done.returncode, done.stderr) == (code, said), command


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error(swarm: Swarm) -> None:
    """Whoever reads help, the version or a result and leaves before all is written ends the command well, without a word."""
    for command in ("status", "--help", "--version", "-q --version", "status --help", "worktrees -h"):
        with subprocess.Popen(
            [*SWARM, *command.split()],
            cwd=swarm.top,
            env=swarm.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as reader_gone:
            assert reader_gone.stdout is not None
            reader_gone.stdout.close()
            assert reader_gone.stderr is not None
            assert (reader_gone.stderr.read(), reader_gone.wait()) == (b"", 0), command


@pytest.mark.slow
def test_every_repository_of_this_machine_is_seen_at_once(
    swarm: Swarm, swarm_in: Callable[..., Swarm], tmp_path: Path
) -> None:
    """Row 114: from outside of any, two repositories are told with their daemons and runs; one whose daemon was killed says that
    none runs, with what its journal knows. The Python API gives the same documents."""
    other = swarm_in(a_repository(tmp_path / "other"))
    for each, name in ((swarm, "here"), (other, "there")):
        each("start")
        each("submit", str(each.plan(name, [each.task("a", gate="a")])))
        each.wait_for_gate("a")
    everywhere = swarm("status", "--all", "--json", cwd=tmp_path).json["repositories"]
    assert [(each["path"], each["runs"][0]["id"]) for each in everywhere] == [
        (str(other.top), "there"),
        (str(swarm.top), "here"),
    ]
    assert {each["daemon"]["pid"] for each in everywhere} == {
        swarm.status()["daemon"]["pid"],
        other.status()["daemon"]["pid"],
    }
    assert "2 repositories, 2 with a daemon, workers 2" in swarm("status", "--all", cwd=tmp_path).out
    assert [each["path"] for each in Library.everywhere()] == [each["path"] for each in everywhere]
    other.end_daemon()
    told = swarm("status", "--all", cwd=tmp_path).out.splitlines()
    assert told[0] == "2 repositories, 1 with a daemon, workers 1"
    assert told[-2:] == [f"{other.top}  no daemon runs", "  there  active  0 of 1 landed, 1 running"]
    for each, name in ((swarm, "here"), (other, "there")):
        each.open("a")
        each("start")
        each.check_landed(each.wait(name))


@pytest.mark.slow
def test_paths_and_merging_are_said_for_where_one_stands(swarm: Swarm, tmp_path: Path) -> None:
    """From the top, a folder below it, a linked worktree and elsewhere, the paths that are shown are there; the run of a detached
    HEAD ends with a command that merges it."""
    (swarm.top / "sub").mkdir()
    git(swarm.top, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"), "main")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    plan = str(swarm.plan("p", [swarm.task("a"), swarm.task("b", "exit 1", claims=["b"], attempts=1)]))
    ended = swarm("run", plan, code=1, cwd=tmp_path / "linked").out
    places = (swarm.top, swarm.top / "sub", tmp_path / "linked")
    for here, args in (*((each, ()) for each in places), (elsewhere, ("-C", str(swarm.top)))):
        text = swarm(*args, "status", cwd=here).out
        (line,) = [each for each in text.splitlines() if "look at it in " in each]
        path = line.partition("look at it in ")[2]
        assert (here / path / "out-a").exists(), (here, path)
        assert path.startswith(("/", ".worktrees/"))
    again = swarm("run", plan, code=1, cwd=tmp_path / "linked").out
    for said in (ended, again):
        assert "Merge: git merge swarm/p/staging, or swarm finish --into BRANCH" in said
    git(tmp_path / "linked", *["merge", "-q", "swarm/p/staging"])
    assert (tmp_path / "linked" / "out-a").exists()
    git(swarm.top, "worktree", "remove", "--force", str(tmp_path / "linked"))


@pytest.mark.slow
def test_a_shell_completes_names_of_runs_and_tasks(swarm: Swarm) -> None:
    """Those that there are, by the daemon's word and without one by the journal's; with the run where two have the name, and none
    twice. Where there is no repository nothing is completed, and nothing printed."""

    def offered(words: str, cwd: Path | None = None) -> list[str]:
        asked = {"_SWARM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = swarm(cwd=cwd, env=asked)
        assert done.err == ""
        return [line.partition(",")[2] for line in done.out.splitlines() if line]

    assert offered("swarm show ") == []
    assert offered("swarm show ", swarm.outside) == []
    swarm("start")
    for name, tasks in (("one", ("parse", "print")), ("two", ("parse", "send"))):
        swarm("submit", str(swarm.plan(name, [swarm.task(task, "exit 9", attempts=1) for task in tasks])))
        swarm.wait(name, code=1)
    for _ in ("with a daemon", "without"):
        assert offered("swarm wait --run ") == ["one", "two"]
        assert offered("swarm discard t") == ["two"]
        assert offered("swarm show p") == ["print"]
        assert offered("swarm show ") == ["one/parse", "print", "two/parse", "send"]
        assert offered("swarm show two/") == ["two/parse", "two/send"]
        assert offered("swarm logs --run two ") == ["parse", "send"]
        assert offered("swarm retry print s") == ["send"]
        assert offered("swarm retry print p") == []
        assert offered(f"swarm -C {swarm.top} diff s", swarm.outside) == ["send"]
        swarm("stop")

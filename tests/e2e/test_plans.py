"""Plans as their users have them: found, checked, refused and carried out."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, PROJECT, Swarm, widest

REAL = PROJECT / "tests" / "data" / "plans"


class Supervisor(threading.Thread):
    """Hears what a daemon tells who supervises it, until it ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.heard: list[str] = []
        self._wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._wire.bind("")  # a name of its own, that is no file
        self.address = "@" + self._wire.getsockname()[1:].decode()
        self._wire.settimeout(PATIENCE_S)
        self.start()

    def run(self) -> None:
        with self._wire:
            while self.heard[-1:] != ["STOPPING=1"]:
                self.heard.append(self._wire.recv(4096).decode())


def check(swarm: Swarm, plan: Path | str, *, code: int = 0) -> dict[str, Any]:
    """Gives what `check --json` says of one plan."""
    document = swarm("check", str(plan), "--json", code=code).json
    assert document["ok"] is (code == 0)
    (found,) = document["plans"]
    assert set(found) >= {
        "file",
        "format",
        "id",
        "tasks",
        "waves",
        "critical_path",
        "widest",
        "errors",
        "warnings",
    }
    return dict(found)


def real(name: str) -> Path:
    (path,) = REAL.glob(f"{name}-*.json")
    return path


def an_agent(
    swarm: Swarm, run: str = 'echo "$SWARM_TASK" > "done-$(echo "$SWARM_TASK" | tr -c "a-zA-Z0-9\\n" -)"'
) -> None:
    """Has every task that names no command carried out by a little program of our own."""
    (swarm.top / "swarm.toml").write_text(
        f'agent = "mine"\n[agents.mine]\ncommand = ["sh", "-c", {json.dumps(f"{swarm.note} start; {run}; {swarm.note} end")}]\n'
    )
    swarm.look_again()


@pytest.mark.slow
def test_a_feature_list(swarm: Swarm) -> None:
    """Row 1: an array of three features, one of which passes, is three tasks of which one is finished and is not run again."""
    plan = swarm.outside / "feature_list.json"
    features = [
        {"category": "functional", "description": f"Feature {n}", "steps": ["Do it"], "passes": n == 1}
        for n in range(3)
    ]
    plan.write_text(json.dumps(features))
    found = check(swarm, plan)
    assert [task["finished"] for task in found["tasks"]].count(True) == 1
    assert len(found["tasks"]) == 3
    an_agent(swarm)
    run = swarm.run(plan)
    assert run["counts"]["landed"] == 2
    assert len(run["finished_before"]) == 1
    assert len(swarm.starts()) == 2


@pytest.mark.slow
def test_phases_of_chunks(swarm: Swarm) -> None:
    """Row 2: phases with `chunks` and integer ids have as many tasks, in the same states, as the file counts by itself."""
    raw = json.loads(real("01").read_text())
    chunks = [chunk for phase in raw["phases"] for chunk in phase["chunks"]]
    found = check(swarm, real("01"))
    assert len(found["tasks"]) == len(chunks)
    done = [chunk for chunk in chunks if chunk["status"] == "completed"]
    assert [task["finished"] for task in found["tasks"]].count(True) == len(done)


def test_phases_of_subtasks(swarm: Swarm) -> None:
    """Row 3: a plan with string ids has its ten phases and 36 tasks, and phases need what the file says they need."""
    raw = json.loads(real("06").read_text())
    found = check(swarm, real("06"))
    assert len(raw["phases"]) == 10
    assert len({task["phase"] for task in found["tasks"]}) == 10
    assert len(found["tasks"]) == 36
    wanted = {phase["id"]: set(phase.get("depends_on") or []) for phase in raw["phases"]}
    open_phases = {task["phase"] for task in found["tasks"]}
    waves = {name: n for n, wave in enumerate(found["waves"]) for name in wave}
    first: dict[str, list[int]] = {}
    for task in found["tasks"]:
        if task["id"] in waves:
            first.setdefault(task["phase"], []).append(waves[task["id"]])
    for phase, needs in wanted.items():
        for need in needs & set(first):
            if phase in first:
                assert min(first[phase]) > max(first[need])
    assert open_phases == set(wanted)


@pytest.mark.slow
def test_dependencies_by_number_or_text(swarm: Swarm) -> None:
    """Row 4: a phase that names what it needs by id, by number or by numeric text waits for exactly that."""
    plan = swarm.outside / "implementation_plan.json"
    phases = [
        {"phase": 1, "name": "First", "subtasks": [{"id": "a", "description": "a"}]},
        {"phase": 2, "name": "Second", "depends_on": ["1"], "subtasks": [{"id": "b", "description": "b"}]},
        {"phase": 3, "name": "Third", "depends_on": [2], "subtasks": [{"id": "c", "description": "c"}]},
        {"phase": 4, "name": "Free", "depends_on": [], "subtasks": [{"id": "d", "description": "d"}]},
    ]
    plan.write_text(json.dumps({"feature": "numbers", "phases": phases}))
    waves = check(swarm, plan)["waves"]
    assert [sorted(name.rpartition("/")[2] for name in wave) for wave in waves] == [["a", "d"], ["b"], ["c"]]
    an_agent(swarm)
    run = swarm.run(plan)
    swarm.check_landed(run)
    order = [name.rpartition("/")[2] for name in swarm.landings(run["id"])]
    assert order.index("a") < order.index("b") < order.index("c")


def test_what_is_done_is_not_run_again(swarm: Swarm) -> None:
    """Row 5: in a plan whose states say `done` those tasks are finished; running it starts none of them."""
    found = check(swarm, real("18"))
    finished = [task for task in found["tasks"] if task["finished"]]
    assert finished
    an_agent(swarm)
    run = swarm.run(real("18"), code=None)
    assert len(run["finished_before"]) == len(finished)
    assert len(swarm.starts()) == len(found["tasks"]) - len(finished)
    again = swarm.run(real("18"), code=None)
    assert again["counts"] == run["counts"]


@pytest.mark.slow
def test_kinds_of_verification_that_nobody_knows(swarm: Swarm) -> None:
    """Row 6: a plan with verification of types e2e, manual and browser is read without complaint."""
    assert check(swarm, real("10"))["errors"] == []


def test_a_plan_that_contradicts_itself(swarm: Swarm) -> None:
    """Row 8: a plan that says it is in review while tasks are pending is read, with a warning that names this."""
    warnings = " ".join(warning["text"] for warning in check(swarm, real("08"))["warnings"])
    assert "review" in warnings
    assert "11 of 34" in warnings


@pytest.mark.slow
def test_build_tasks(swarm: Swarm) -> None:
    """Row 10: a `build-tasks.json` has its nine tasks, in three levels of needs below those that need nothing."""
    found = check(swarm, real("24"))
    assert len(found["tasks"]) == 9
    assert [len(wave) for wave in found["waves"]] == [5, 2, 1, 1]


NO_PLANS = {
    "package.json": b'{"name": "x", "scripts": {}, "dependencies": {}}',
    "implementation_plan.json": b'{"compilerOptions": {"strict": true}}',
    "cut.json": b'{"name": "x", "tasks": [{"id": "a"',
    "plan.toml": b"\x00\xff\x00\x01binary",
    "empty.toml": b"",
    "none.json": b'{"name": "x", "tasks": []}',
}


@pytest.mark.slow
def test_what_is_no_plan_is_refused(swarm: Swarm) -> None:
    """Row 9: an unrelated file of the same name, a truncated or binary or empty one: exit 2, the reason, no side effect."""
    paths = [swarm.outside / name for name in NO_PLANS]
    for path in paths:
        path.write_bytes(NO_PLANS[path.name])
    document = swarm("check", *map(str, paths), "--json", code=2).json
    assert [found["file"] for found in document["plans"]] == [str(path) for path in paths]
    for found in document["plans"]:
        assert found["errors"], found
        assert all(error["text"] and "place" in error for error in found["errors"])
    swarm("start")
    for path in (paths[0], paths[3]):  # one that is read as something else, and one that can't be read
        assert path.name in swarm("submit", str(path), code=2).err
    swarm("stop")
    assert swarm("run", str(paths[0]), code=2).err
    assert git(swarm.top, "for-each-ref", "refs/heads/swarm") == ""
    assert swarm.status()["runs"] == []


@pytest.mark.slow
def test_a_plan_that_is_not_there_hides_nothing_of_the_others(swarm: Swarm) -> None:
    """Of several plans each is told of, also where one can't be found; a name that is empty never means the plan that lies here."""
    (swarm.outside / "broken.toml").write_text('name = "b"\n[[tasks]]\nid = 5\n')
    (swarm.top / "plan.toml").write_text('name = "here"\n[[tasks]]\nid = "a"\nrun = "true"\n')
    names = [str(swarm.outside / "broken.toml"), str(swarm.outside / "none.toml"), "", "plan.toml"]
    document = swarm("check", *names, "--json", code=2).json
    assert not document["ok"]
    assert [found["file"] for found in document["plans"]] == names
    broken, missing, empty, here = document["plans"]
    assert any("should be text" in error["text"] for error in broken["errors"])
    assert missing["errors"] == [{"place": "", "text": f"There is no plan {names[1]}."}]
    assert empty["errors"] == [{"place": "", "text": "The name of the plan is empty."}]
    assert (here["id"], here["errors"]) == ("here", [])
    for command in ("check", "run", "submit", "simulate"):
        assert "The name of the plan is empty." in swarm(command, "", code=2).err
    assert swarm.status()["runs"] == []
    (swarm.top / "plan.toml").unlink()


@pytest.mark.slow
def test_a_plan_that_nobody_would_take_has_no_side_effect(swarm: Swarm) -> None:
    """Whatever is wrong with it, run, start --plan and submit end with 2 before a daemon is started or anything is written."""
    cut_off = swarm.outside / "cut.json"
    cut_off.write_text('{"name": "x", "tasks": [')
    bad = [
        ([str(cut_off)], 2),
        ([str(swarm.plan("idle", [{"id": "a", "title": "No command"}]))], 2),
        ([str(swarm.plan("nowhere", [swarm.task("a")], base="no-such-branch"))], 2),
        ([str(swarm.plan("good", [swarm.task("a")])), "--only", "b"], 2),
        ([str(swarm.outside / "missing.toml")], 2),
    ]
    for words, code in bad:
        for command in ("run", "submit"):
            said = swarm(command, *words, code=code).err
            assert "Nothing was" in said, said
        if "--only" not in words:
            for flags in ([], ["--foreground"]):
                swarm("start", *flags, "--plan", words[0], code=code)
        assert not (swarm.top / ".git" / "swarm").exists(), words
        assert not (swarm.top / ".worktrees").exists()
    assert "No daemon" in swarm("submit", str(swarm.plan("good", [swarm.task("a")])), code=3).err


@pytest.mark.slow
def test_a_plan_is_submitted_by_a_daemon_in_the_foreground(swarm: Swarm) -> None:
    """`start --foreground --plan` is the daemon, and carries the plan out as soon as it answers. A supervisor hears when that is,
    what it does, and that it ends; workers can't speak to it."""
    supervisor = Supervisor()
    daemon = swarm.spawn(
        "start",
        "--foreground",
        "--workers",
        "1",
        "--plan",
        str(swarm.plan("fg", [swarm.task("a"), swarm.task("b", 'echo "b$NOTIFY_SOCKET" > b', claims=["b"])])),
        NOTIFY_SOCKET=supervisor.address,
    )
    wait_until(lambda: supervisor.heard)
    assert supervisor.heard[0] == "READY=1"
    wait_until(lambda: swarm.status()["runs"])
    assert swarm.status()["daemon"]["pid"] == daemon.pid
    swarm.check_landed(swarm.wait("fg"))
    assert widest(swarm.spans()) == 1
    swarm("stop")
    out, err = daemon.communicate(timeout=PATIENCE_S)
    assert daemon.returncode == 0, err
    assert out == "fg: 2 added, 0 replaced, 0 unchanged\n"
    assert swarm.content("fg", "b") == "b\n"
    supervisor.join(PATIENCE_S)
    assert "STATUS=workers 1 of 1; fg: 0 of 2 landed" in supervisor.heard
    assert supervisor.heard[-2:] == ["STATUS=workers 0 of 1; no run is active", "STOPPING=1"]


def test_every_error_at_once(swarm: Swarm) -> None:
    """check names a ring, an unknown need, a doubled id, an absolute claim and one outside, all at once and each with its place."""
    plan = swarm.outside / "wrong.toml"
    plan.write_text(
        'name = "wrong"\n'
        '[[tasks]]\nid = "a"\nrun = "x"\nneeds = ["b"]\nclaims = ["/etc/passwd"]\n'
        '[[tasks]]\nid = "b"\nrun = "x"\nneeds = ["a"]\nclaims = ["../outside"]\n'
        '[[tasks]]\nid = "c"\nrun = "x"\nneeds = ["nobody"]\n'
        '[[tasks]]\nid = "c"\nrun = "x"\n'
    )
    errors = check(swarm, plan, code=2)["errors"]
    told = " | ".join(f"{error['place']}: {error['text']}" for error in errors)
    for words in ("/etc/passwd", "../outside", "nobody", "c", "a", "b"):
        assert words in told
    assert len(errors) >= 5, told
    assert all(error["place"] for error in errors)


@pytest.mark.slow
def test_a_claim_by_a_link_that_leads_out_is_refused(swarm: Swarm) -> None:
    """Through a link in the checkout that leads out of it, into .git or among the worktrees, and in their folder; with its place,
    by check, run and a daemon. The link itself, and one to elsewhere in the checkout, may be claimed."""
    links = {"out": "/etc", "hooks": ".git/hooks", "trees": ".worktrees", "in": "."}
    for name, to in links.items():
        (swarm.top / name).symlink_to(to)
    swarm.look_again()
    good = swarm.task("good", claims=["out", "in/out-x", "file", "[h]ooks/x", "**/passwd"])
    wrong = ["out/passwd", "out/**", "in/out/x", "hooks/*", "trees/x", ".worktrees", ".worktrees/pool/**"]
    plan = swarm.plan("out", [good, *(swarm.task(f"t{n}", claims=[claim]) for n, claim in enumerate(wrong))])
    errors = check(swarm, plan, code=2)["errors"]
    assert [each["place"] for each in errors] == [f"tasks[{n}].claims" for n in range(1, len(wrong) + 1)]
    assert (
        f'"out/passwd" leaves the repository: out is a link to {Path("/etc").resolve()}' in errors[0]["text"]
    )
    for claim, each in zip(wrong, errors, strict=True):
        assert claim in each["text"]
    assert 't0: "out/passwd"' in swarm("run", str(plan), code=2).err
    assert not swarm.status()["daemon"]["running"]
    swarm("start")
    swarm("submit", str(plan), code=2)
    swarm("submit", str(swarm.plan("fine", [swarm.task("a")])))
    added = swarm("add", "--title", "b", "--run", "true", "--claim", "out/x", code=2)
    assert "claim what is outside of the repository" in added.err
    swarm.wait("fine")
    for name in links:
        (swarm.top / name).unlink()
    swarm.look_again()


def test_check_tells_how_wide_it_can_go(swarm: Swarm) -> None:
    """check gives waves, the critical path, and the widest useful number of workers, for people too."""
    tasks = [
        swarm.task("a"),
        swarm.task("b", needs=["a"]),
        swarm.task("c", needs=["a"]),
        swarm.task("d", needs=["b", "c"]),
    ]
    plan = swarm.plan("wide", tasks)
    found = check(swarm, plan)
    assert found["waves"] == [["a"], ["b", "c"], ["d"]]
    assert found["critical_path"][0] == "a"
    assert found["critical_path"][-1] == "d"
    assert len(found["critical_path"]) == 3
    assert found["widest"] == 2
    assert "2" in swarm("check", str(plan)).out


@pytest.mark.slow
def test_plans_are_found_as_their_users_say_them(swarm: Swarm) -> None:
    """Row 118: a spec folder's number, a folder, and a path all find the plan; comments in JSON are allowed."""
    folder = swarm.top / ".auto-claude" / "specs" / "001-first"
    folder.mkdir(parents=True)
    shutil.copy(real("22"), folder / "implementation_plan.json")
    swarm.look_again()
    documents = [
        check(swarm, name) for name in ("001", str(folder), str(folder / "implementation_plan.json"))
    ]
    assert len({json.dumps(document["tasks"]) for document in documents}) == 1
    swarm("check", "002", code=2)
    commented = swarm.outside / "commented.json"
    commented.write_text(
        '// about it\n{"name": "c", // here\n "tasks": ['
        '{"id": "t", "title": "T", "run": "echo http://x > out", "claims": ["out"]}]}\n'
    )
    swarm.check_landed(swarm.run(commented))
    assert swarm.content("c", "out") == "http://x\n"


def test_a_native_plan_in_toml(swarm: Swarm) -> None:
    """The plan of the contract's example, in TOML with phases, shared claims, priorities and suites, is carried out as it says."""
    plan = swarm.outside / "modernise.toml"
    plan.write_text(
        f"""name = "modernise"
base = "main"
verify = ["test -f README.md"]
[defaults]
timeout_s = 60
attempts = 2
[[phases]]
id = "types"
parallel_safe = false
[[tasks]]
id = "types-a"
phase = "types"
title = "Types"
run = "echo t > types"
claims = ["types", {{path = "CHANGELOG.md", mode = "shared"}}]
[[tasks]]
id = "header"
title = "Header component"
phase = "ui"
needs = ["types"]
claims = ["src/header/**", {{path = "CHANGELOG.md", mode = "shared"}}]
run = '''mkdir -p src/header && cp types src/header/h && {swarm.note} start'''
verify = [{{name = "own", run = "test -f src/header/h"}}]
priority = 5
memory_mb = 50
role = "builder"
[[phases]]
id = "ui"
"""
    )
    run = swarm.run(plan)
    swarm.check_landed(run)
    assert swarm.landings("modernise") == ["types-a", "header"]
    assert swarm.content("modernise", "src/header/h") == "t\n"
    trailers = git(
        swarm.top, "log", "-1", "--format=%(trailers:key=Swarm-Verified,valueonly)", "swarm/modernise/staging"
    )
    assert "own" in trailers


@pytest.mark.slow
def test_what_was_made_from_something_else_is_done_again(swarm: Swarm) -> None:
    """Row 91: with nothing changed no task is done again; once one file has changed, on staging too, what reads it and what needs
    that are done again, and nothing else."""
    plan = swarm.plan(
        "made",
        [
            swarm.task("upper", "tr a-z A-Z < in.txt > upper.txt", claims=["upper.txt"], reads=["in.txt"]),
            swarm.task("count", "wc -c < upper.txt > count.txt", claims=["count.txt"], needs=["upper"]),
            swarm.task("other"),
        ],
    )
    (swarm.top / "in.txt").write_text("one\n")
    git(swarm.top, "add", "in.txt")
    git(swarm.top, "commit", "-qm", "in")
    swarm("start")
    swarm.run(plan)
    asked = swarm("run", str(plan), "--changed")
    assert "nothing that its landed tasks were made from has changed" in asked.err
    assert sorted(swarm.starts()) == ["count", "other", "upper"]

    (swarm.top / "in.txt").write_text("three\n")
    git(swarm.top, "commit", "-qam", "in changed")
    swarm.look_again()
    refused = swarm("submit", str(plan), "--changed", code=4)
    assert "in.txt" in refused.err
    staging = swarm.wait_for_follow("made")
    assert f"Next: git -C {staging} merge --no-ff main, then" in refused.err
    git(staging, "checkout", "-q", "--detach", "main")
    refused = swarm("submit", str(plan), "--changed", code=4)
    assert (
        f"Next: git -C {staging} checkout --detach swarm/made/staging && git -C {staging} merge"
        in refused.err
    )
    git(staging, "checkout", "-q", "--detach", "swarm/made/staging")
    git(staging, "merge", "-q", "--no-ff", "-m", "main", "main")
    run = swarm.run(plan, "--changed")
    assert {task["id"]: task["again_of"] for task in run["tasks"] if not task["by_hand"]} == {
        "upper": None, "count": None, "other": None, "upper-2": "upper", "count-2": "count",
    }  # fmt: skip
    assert swarm.starts()[3:] == ["upper-2", "count-2"]
    assert (swarm.content("made", "upper.txt"), swarm.content("made", "count.txt")) == ("THREE\n", "6\n")
    assert swarm("submit", str(plan), "--changed", "--json").json["submitted"]["again"] == {}
    mistaken = swarm.plan("made", [swarm.task("upper"), swarm.task("upper-2")])
    for option in ([], ["--changed"]):
        refused = swarm("submit", str(mistaken), *option, code=4)
        assert "upper-2 is what the run calls the task that does upper again." in refused.err


@pytest.mark.slow
def test_what_a_plan_says_anew_of_its_run_holds_or_is_said_not_to(swarm: Swarm) -> None:
    """A suite that is taken out verifies nothing more, what --verify asked for stays; another base has no effect. All are told."""
    ran = [swarm.task("a", "echo > out-a", claims=["out-a"])]
    swarm("run", str(swarm.plan("r", ran, verify=["exit 3"])), "--verify", "test -e out-a", code=1)
    swarm("start")
    plan = swarm.plan("r", ran, verify=[], base="nowhere")
    said = swarm("submit", str(plan))
    assert "is verified by test -e out-a, and no longer verified by exit 3" in said.out
    assert 'warning: base = "nowhere" has no effect: the run started from main ' in said.out
    assert "no longer" not in swarm("submit", str(plan)).out
    swarm("retry", "a")
    (task,) = swarm.wait("r")["tasks"]
    assert task["state"] == "landed"
    trailers = git(
        swarm.top, "log", "-1", "--format=%(trailers:key=Swarm-Verified,valueonly)", "swarm/r/staging"
    )
    assert trailers.strip() == "test -e out-a"
    problems = check(swarm, plan, code=2)["errors"]
    assert problems == [{"place": "base", "text": '"nowhere" is no branch or commit here'}]
    check(swarm, swarm.plan("r", ran, base="main"))
    check(swarm, swarm.plan("r", ran, base=git(swarm.top, "rev-parse", "main").strip()))
    assert "warning" not in swarm("submit", str(swarm.plan("r", ran, base="main"))).out


@pytest.mark.slow
def test_names_that_nobody_knows_are_refused_with_what_there_is(swarm: Swarm) -> None:
    """A task for `--only`, a need and a phase that are not there: what is wrong, that nothing was done, and what to type."""
    plan = str(swarm.plan("r", [swarm.task(each) for each in "abcdef"]))
    only = "--only names no task of the plan: zzz.\n  Nothing was submitted.\n  Next: it has a, b, c, d, e and others; swarm check"
    assert swarm("run", plan, "--only", "zzz", code=2).err.startswith(only)
    swarm("start")
    assert only in swarm("submit", plan, "--only", "zzz", code=2).err
    swarm("submit", plan)
    add = ("add", "--to", "r", "--title", "x", "--run", "true")
    said = swarm(*add, "--needs", "zzz", code=2).err
    assert said.startswith("Needed but unknown: zzz.\n  Nothing was added.\n  Next: ")
    assert 'There is no phase "ui" in run r.' in swarm(*add, "--phase", "ui", code=2).err
    said = swarm("status", "--run", "nosuch", code=2).err
    assert said == "There is no run nosuch.\n  Nothing was done. Known: r.\n  Next: swarm status\n"


@pytest.mark.slow
def test_what_is_taken_out_of_a_plan_is_told(swarm: Swarm) -> None:
    """A task that the same file named before is named when it is still wanted, with what gives it up, by whatever path the file is
    named; one that was added, or that another plan named, is not. Once it has been cancelled nothing is said."""
    first = swarm.task("a", gate="a")
    plan = swarm.plan("r", [first, swarm.task("b", needs=["a"]), swarm.task("c", needs=["a"])])
    swarm("start")
    swarm("submit", str(plan))
    swarm("add", "--to", "r", "--title", "more", "--run", "echo > more", "--needs", "a")
    other = swarm.plan("s", [first])
    other.write_text(other.read_text().replace('"s"', '"r"'))
    assert "no longer" not in swarm("submit", str(other)).out
    swarm.plan("r", [first, swarm.task("c", needs=["a"])])
    said = swarm("submit", f"{plan.parent}/../{plan.parent.name}/r.json").out
    assert (
        "1 task of the run is no longer in the plan: b; it is still wanted. Next: swarm cancel r/b\n" in said
    )
    answer = swarm("submit", str(plan), "--json").json["submitted"]
    assert answer["left_out"] == ["b"]
    swarm("cancel", "r/b")
    assert "left_out" not in swarm("submit", str(plan), "--json").json["submitted"]
    swarm.open("a")
    swarm.wait("r", code=1)


def test_a_task_that_failed_is_mended_in_the_plan(swarm: Swarm) -> None:
    """The everyday step: the command fails, it is mended, the same command again lands it and what waited for it; what it had made
    before stays on its branch, and what has landed may not be changed."""
    rest = [swarm.task("b", needs=["a"]), swarm.task("c")]
    run = swarm.run(
        swarm.plan("r", [swarm.task("a", "echo half > out-a; exit 1", attempts=1), *rest]), code=1
    )
    assert {task["id"]: task["state"] for task in run["tasks"]} == {
        "a": "failed",
        "b": "blocked",
        "c": "landed",
    }
    mended = swarm.plan("r", [swarm.task("a", "echo all > out-a", attempts=1), *rest])
    done = swarm("run", str(mended))
    assert "r: 0 added, 1 replaced, 2 unchanged" in done.err
    run = swarm.run_of("r")
    swarm.check_landed(run)
    assert [each["state"] for each in next(t for t in run["tasks"] if t["id"] == "a")["attempts"]] == [
        "failed",
        "landed",
    ]
    assert swarm.content("r", "out-a") == "all\n"
    assert git(swarm.top, "show", "swarm/r/task/a/1:out-a") == "half"
    told = swarm("report", "--json").json
    assert [task["title"] for task in told["tasks"] if task["id"] == "a"] == ["Task a"]
    other = swarm.plan("r", [swarm.task("a", "echo more > out-a"), *rest])
    refused = swarm("run", str(other), code=4).err
    assert "a changed in the plan, and work on it has started: it has landed." in refused
    assert "or --changed does again what has landed" in refused


@pytest.mark.slow
def test_a_task_at_work_may_be_changed_once_it_is_cancelled(swarm: Swarm) -> None:
    """What is at work is refused by name; what is printed then, followed to the letter, has it done as the plan says now."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a", gate="never")])))
    swarm.wait_for_gate("a")
    mended = str(swarm.plan("r", [swarm.task("a", "echo all > out-a")]))
    refused = swarm("submit", mended, code=4).err
    assert "it is at work." in refused
    command = refused.partition("; or swarm ")[2].partition(",")[0].split()
    assert command == ["cancel", "r/a"]
    swarm(*command)
    wait_until(lambda: swarm.run_of("r")["tasks"][0]["state"] == "cancelled")
    assert "0 added, 1 replaced, 0 unchanged" in swarm("submit", mended).out
    swarm.check_landed(swarm.wait("r"))
    assert swarm.content("r", "out-a") == "all\n"

"""Order and width, as the workers themselves logged them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import Span, Swarm, widest


def span_of(swarm: Swarm, task: str) -> Span:
    """The only attempt at a task."""
    (found,) = [span for span in swarm.spans() if span.task == task]
    return found


def attempt_of(run: dict[str, Any], task: str) -> dict[str, Any]:
    """The newest attempt at a task, in the status document."""
    return next(dict(each["attempts"][-1]) for each in run["tasks"] if each["id"] == task)


def landed_commit(run: dict[str, Any], task: str) -> str:
    return next(str(each["landed_commit"]) for each in run["tasks"] if each["id"] == task)


def holds(swarm: Swarm, commit: str, ancestor: str) -> bool:
    return git(swarm.top, "merge-base", commit, ancestor) == ancestor


def states(run: dict[str, Any]) -> dict[str, str]:
    return {task["id"]: task["state"] for task in run["tasks"]}


def test_a_phase_waits_for_the_last_merge_of_the_phase_that_it_needs(swarm: Swarm) -> None:
    """Row 13: no task of the second phase starts before every task of the first has landed, and each is based on all of them."""
    plan = swarm.plan(
        "phases",
        [
            swarm.task("a", phase="one"),
            swarm.task("b", phase="one", sleep_s=0.2),
            swarm.task("c", phase="two"),
            swarm.task("d", phase="two"),
        ],
        phases=[{"id": "one"}, {"id": "two", "needs": ["one"]}],
    )
    run = swarm.run(plan)
    swarm.check_landed(run)
    for late in ("c", "d"):
        for early in ("a", "b"):
            assert span_of(swarm, late).start > span_of(swarm, early).end
            assert holds(swarm, attempt_of(run, late)["base"], landed_commit(run, early))


def test_a_task_starts_on_what_it_needs(swarm: Swarm) -> None:
    """Rows 14 and 39: B, which needs A, starts after A has landed, and finds A's change in its worktree."""
    plan = swarm.plan(
        "needs",
        [
            swarm.task("b", "cat out-a > out-b", needs=["a"], claims=["out-b"]),
            swarm.task("a", sleep_s=0.1),
        ],
    )
    run = swarm.run(plan)
    swarm.check_landed(run)
    assert swarm.landings("needs") == ["a", "b"]
    assert swarm.content("needs", "out-b") == "a\n"
    assert holds(swarm, attempt_of(run, "b")["base"], landed_commit(run, "a"))


@pytest.mark.slow
def test_there_is_no_barrier_between_levels(swarm: Swarm) -> None:
    """Row 15: B lands when A is done, though A's slow sibling C is still at work."""
    plan = swarm.plan("levels", [swarm.task("a"), swarm.task("c", gate="slow"), swarm.task("b", needs=["a"])])
    swarm("start")
    swarm("submit", str(plan))
    wait_until(lambda: states(swarm.status()["runs"][0])["b"] == "landed")
    assert swarm.landings("levels") == ["a", "b"]
    assert states(swarm.status()["runs"][0])["c"] == "running"
    swarm.open("slow")
    swarm.check_landed(swarm.wait("levels"))
    assert span_of(swarm, "b").overlaps(span_of(swarm, "c"))


@pytest.mark.slow
def test_a_phase_that_is_not_parallel_safe_goes_one_at_a_time(swarm: Swarm) -> None:
    """Row 16: inside a phase with parallel_safe = false one works at a time, in plan order, while others go beside it."""
    tasks = [swarm.task(f"s{n}", phase="one", sleep_s=0.1) for n in range(4)]
    plan = swarm.plan(
        "turns",
        [*tasks, swarm.task("free", gate="free")],
        phases=[{"id": "one", "parallel_safe": False}],
    )
    swarm("start")
    swarm("submit", str(plan))
    wait_until(lambda: len(swarm.starts()) == 5)
    swarm.open("free")
    swarm.check_landed(swarm.wait("turns"))
    inside = [span for span in swarm.spans() if span.task != "free"]
    assert widest(inside) == 1
    assert [span.task for span in inside] == ["s0", "s1", "s2", "s3"]
    assert widest(swarm.spans()) == 2


@pytest.mark.slow
def test_after_a_sequential_phase_work_is_parallel_again(swarm: Swarm) -> None:
    """Row 17: after a sequential phase three independent tasks are at work at the same time."""
    plan = swarm.plan(
        "fan",
        [
            *(swarm.task(f"s{n}", phase="one") for n in range(2)),
            *(swarm.task(f"p{n}", phase="two", gate="all") for n in range(3)),
        ],
        phases=[{"id": "one", "parallel_safe": False}, {"id": "two", "needs": ["one"]}],
    )
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("p0", "p1", "p2")
    assert swarm.status()["capacity"]["running"] == 3
    swarm.open("all")
    swarm.check_landed(swarm.wait("fan"))
    assert widest(swarm.spans()) == 3


@pytest.mark.slow
def test_no_more_workers_than_allowed(swarm: Swarm) -> None:
    """Row 18: of ten tasks at a limit of three, three are at work at the same time, and never four."""
    plan = swarm.plan("ten", [swarm.task(f"t{n}", gate="all") for n in range(10)])
    swarm("start", "--workers", "3")
    swarm("submit", str(plan))
    wait_until(lambda: len(swarm.starts()) >= 3)
    now = swarm.status()
    assert now["capacity"] | {"readings": 0} == now["capacity"] | {
        "readings": 0, "workers_max": 3, "running": 3, "slots_open": 0,
    }  # fmt: skip
    waiting = [task for task in now["runs"][0]["tasks"] if task["state"] == "ready"]
    assert len(waiting) == 7
    assert {task["reason"]["code"] for task in waiting} == {"slot"}
    swarm.open("all")
    swarm.check_landed(swarm.wait("ten"))
    assert widest(swarm.spans()) == 3
    assert sorted(swarm.starts()) == [f"t{n}" for n in range(10)]


def test_scaling_while_it_runs(swarm: Swarm) -> None:
    """`swarm scale` widens a run that is under way, and `--workers` of a run that joins does too."""
    plan = swarm.plan("scaled", [swarm.task(f"t{n}", gate="all") for n in range(4)])
    swarm("start", "--workers", "1")
    swarm("submit", str(plan))
    swarm.wait_for_start("t0")
    assert swarm.status()["capacity"]["running"] == 1
    swarm("scale", "3")
    swarm.wait_for_start("t0", "t1", "t2")
    assert swarm.status()["capacity"]["workers_max"] == 3
    swarm.open("all")
    swarm.check_landed(swarm.wait("scaled"))
    assert widest(swarm.spans()) == 3


@pytest.mark.parametrize(
    ("cpu", "width"),
    [pytest.param(60, 3, marks=pytest.mark.slow), (75, 2), pytest.param(85, 1, marks=pytest.mark.slow)],
)
def test_the_ladder_narrows_the_swarm(swarm: Swarm, cpu: int, width: int) -> None:
    """Row 20: at 60, 75 and 85 % of CPU four slots become three, two and one."""
    swarm.measure(cpu_percent=cpu)
    swarm("start", "--workers", "4")
    swarm("submit", str(swarm.plan("ladder", [swarm.task(f"t{n}", gate="all") for n in range(4)])))
    wait_until(lambda: len(swarm.starts()) == width)
    waiting = [task for task in swarm.run_of("ladder")["tasks"] if task["state"] == "ready"]
    assert [task["reason"]["code"] for task in waiting] == ["slot"] * (4 - width)
    swarm.open("all")
    swarm.check_landed(swarm.wait("ladder"))
    assert widest(swarm.spans()) == width


@pytest.mark.parametrize(
    ("readings", "word"),
    [
        ({"memory_percent": 95.0}, "memory"),
        pytest.param({"cpu_percent": 97.0}, "cpu", marks=pytest.mark.slow),
        pytest.param({"disk_free_bytes": 1000}, "disk", marks=pytest.mark.slow),
    ],
)
def test_nothing_starts_on_a_full_machine(swarm: Swarm, readings: dict[str, float], word: str) -> None:
    """Rows 21, 22: with 95 % of memory taken, or next to no disk, nothing starts, no worktree is made, the reason is shown."""
    swarm.measure(**readings)
    plan = swarm.plan("full", [swarm.task("a")])
    swarm("start")
    swarm("submit", str(plan))
    wait_until(lambda: swarm.events("CapacityChanged"))
    now = swarm.status()
    (task,) = now["runs"][0]["tasks"]
    assert task["state"] == "ready"
    assert task["reason"]["code"] == "slot"
    assert word in task["reason"]["text"].lower()
    assert word in now["capacity"]["reason"].lower()
    assert now["capacity"]["slots_open"] == 0
    assert word in swarm("status").out.lower()
    assert not (swarm.top / ".worktrees" / "pool" / "1").exists()
    assert swarm.starts() == []
    swarm.measure()
    swarm.check_landed(swarm.wait("full"))


def test_two_tasks_on_one_file_never_overlap(swarm: Swarm) -> None:
    """Rows 34 and 39: tasks that claim one file go one after the other, in plan order, each based on what the one before landed."""
    work = "echo $SWARM_TASK >> src/b.py"
    plan = swarm.plan("file", [swarm.task(f"t{n}", work, sleep_s=0.1, claims=["src/b.py"]) for n in range(4)])
    run = swarm.run(plan)
    swarm.check_landed(run)
    assert widest(swarm.spans()) == 1
    assert swarm.content("file", "src/b.py") == "b = 1\nt0\nt1\nt2\nt3\n"
    for early, late in (("t0", "t1"), ("t1", "t2"), ("t2", "t3")):
        assert holds(swarm, attempt_of(run, late)["base"], landed_commit(run, early))


def test_patterns_that_overlap_keep_tasks_apart(swarm: Swarm) -> None:
    """Row 35: a claim on `src/*` keeps off one on `src/a.py`, `./a` is `a`, a folder is what is in it, and case makes no twins."""
    swarm("start", "--workers", "8")
    others = {
        "src/*": "src/a.py",
        "./lib/a.py": "lib/a.py",
        "doc": "doc/new/x.py",
        "core/**/*.c": "core/b.c",
        "web/A.js": "web/a.js",
    }
    firsts = [swarm.task(f"a{n}", "true", gate="all", claims=[one]) for n, one in enumerate(others)]
    seconds = [swarm.task(f"b{n}", "true", claims=[other]) for n, other in enumerate(others.values())]
    swarm("submit", str(swarm.plan("globs", [*firsts, *seconds])))
    swarm.wait_for_gate(*(f"a{n}" for n in range(len(others))))
    waiting = [task for task in swarm.run_of("globs")["tasks"] if task["id"].startswith("b")]
    assert [task["reason"]["code"] for task in waiting] == ["claim"] * len(others)
    swarm.open("all")
    swarm.wait("globs", code=1)
    for n in range(len(others)):
        assert widest([span for span in swarm.spans() if span.task in (f"a{n}", f"b{n}")]) == 1


@pytest.mark.slow
def test_patterns_that_do_not_overlap_let_tasks_go_together(swarm: Swarm) -> None:
    """Row 35, the other way round: claims on different folders, and shared claims on one file, are held at the same time."""
    shared = {"path": "CHANGELOG.md", "mode": "shared"}
    plan = swarm.plan(
        "apart",
        [
            swarm.task("t0", "mkdir -p x; echo x > x/a", gate="all", claims=["x/**", shared]),
            swarm.task("t1", "mkdir -p y; echo y > y/a", gate="all", claims=["y/**", shared]),
        ],
    )
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("t0", "t1")
    held = swarm("claims", "--json").json["claims"]
    assert sorted((claim["task"], claim["path"], claim["mode"]) for claim in held) == [
        ("t0", "CHANGELOG.md", "shared"), ("t0", "x/**", "exclusive"),
        ("t1", "CHANGELOG.md", "shared"), ("t1", "y/**", "exclusive"),
    ]  # fmt: skip
    swarm.open("all")
    swarm.check_landed(swarm.wait("apart"))


def test_fifty_claimers_of_one_file(swarm: Swarm) -> None:
    """Row 38: of fifty tasks that want one claim one at a time has it, and none of their additions is lost."""
    work = "echo $(( $(cat counter 2>/dev/null || echo 0) + 1 )) > counter"
    plan = swarm.plan("race", [swarm.task(f"t{n}", work, claims=["counter"]) for n in range(50)])
    run = swarm.run(plan, "--workers", "8")
    swarm.check_landed(run)
    assert widest(swarm.spans()) == 1
    assert swarm.content("race", "counter") == "50\n"
    assert swarm.landings("race") == [f"t{n}" for n in range(50)]


@pytest.mark.slow
def test_phases_that_share_a_file_are_named_and_kept_apart(swarm: Swarm) -> None:
    """Row 119: check names two phases on one file and the file, and they run one after the other."""
    plan = swarm.plan(
        "shared-file",
        [
            swarm.task("a", "echo a >> src/b.py", phase="front", sleep_s=0.1, claims=["src/b.py"]),
            swarm.task("b", "echo b >> src/b.py", phase="back", claims=["src/b.py"]),
        ],
        phases=[{"id": "front"}, {"id": "back"}],
    )
    (found,) = swarm("check", str(plan), "--json").json["plans"]
    told = [each["text"] for each in found["warnings"] if "src/b.py" in each["text"]]
    assert any("front" in text and "back" in text for text in told), found["warnings"]
    swarm.check_landed(swarm.run(plan))
    assert widest(swarm.spans()) == 1


@pytest.mark.slow
def test_one_at_a_time_on_request(swarm: Swarm) -> None:
    """`run --sequential` has one worker at a time, in the order of the plan."""
    plan = swarm.plan("seq", [swarm.task(f"t{n}", sleep_s=0.05) for n in range(3)])
    swarm.check_landed(swarm.run(plan, "--sequential"))
    assert widest(swarm.spans()) == 1
    assert swarm.landings("seq") == ["t0", "t1", "t2"]


def test_priority_goes_first(swarm: Swarm) -> None:
    """With one worker the task of the highest priority goes first, and among equals the order of the plan decides."""
    plan = swarm.plan(
        "prio", [swarm.task("low"), swarm.task("mid", priority=3), swarm.task("mid2", priority=3), swarm.task("high", priority=9)]
    )  # fmt: skip
    swarm.run(plan, "--workers", "1")
    assert swarm.starts() == ["high", "mid", "mid2", "low"]


def test_four_workers_work_at_the_same_time(swarm: Swarm) -> None:
    """Row 107: four independent tasks with four workers all work over one moment, none after another."""
    plan = swarm.plan("four", [swarm.task(f"t{n}", gate="all") for n in range(4)])
    swarm("start", "--workers", "4")
    swarm("submit", str(plan))
    swarm.wait_for_start("t0", "t1", "t2", "t3")
    swarm.open("all")
    swarm.check_landed(swarm.wait("four"))
    assert widest(swarm.spans()) == 4


def test_only_one_task_and_what_it_needs(swarm: Swarm) -> None:
    """Row 121: `run --only T` carries out T and what it needs, and nothing else; the rest can be run afterwards."""
    plan = swarm.plan(
        "only", [swarm.task("a"), swarm.task("b", needs=["a"]), swarm.task("c"), swarm.task("d", needs=["c"])]
    )
    run = swarm.run(plan, "--only", "b")
    assert swarm.landings("only") == ["a", "b"]
    assert sorted(swarm.starts()) == ["a", "b"]
    assert states(run)["c"] not in ("landed", "running")
    swarm.check_landed(swarm.run(plan))
    assert sorted(swarm.starts()) == ["a", "b", "c", "d"]


@pytest.mark.slow
def test_the_document_of_a_plan_that_only_needs_itself(swarm: Swarm) -> None:
    """Rows 11 and 12: a ring of needs is refused and named, an unknown need too, before anything starts."""
    ring = swarm.plan("ring", [swarm.task("a", needs=["b"]), swarm.task("b", needs=["a"])])
    unknown = swarm.plan("unknown", [swarm.task("a", needs=["nobody"])])
    for plan, words in ((ring, ("a", "b")), (unknown, ("nobody",))):
        checked = swarm("check", str(plan), "--json", code=2).json
        assert not checked["ok"]
        assert any(all(word in error["text"] for word in words) for error in checked["plans"][0]["errors"])
        refused = swarm("run", str(plan), code=2)
        assert all(word in refused.err for word in words)
    assert swarm.starts() == []
    assert json.loads(swarm("status", "--json").out)["runs"] == []


@pytest.mark.slow
def test_a_worktree_stands_ready_for_the_next_start(swarm: Swarm) -> None:
    """While a worker has the only slot and a task waits for it, a spare worktree stands where that task starts; it gets it."""
    swarm("start", "--workers", "1")
    swarm("submit", str(swarm.plan("ready", [swarm.task("a"), swarm.task("b", gate="b"), swarm.task("c")])))
    swarm.wait_for_start("b")
    wait_until(lambda: swarm.landings("ready") == ["a"] and _spares(swarm, swarm.staging("ready")))
    (spare,) = _spares(swarm, swarm.staging("ready"))
    swarm.open("b")
    last = attempt_of(swarm.wait("ready"), "c")
    assert (last["worktree"], last["base"]) == (spare["path"], spare["commit"])


def _spares(swarm: Swarm, commit: str) -> list[dict[str, Any]]:
    rows = swarm("worktrees", "--json").json["worktrees"]
    return [row for row in rows if row["state"] == "spare" and row["commit"] == commit]


@pytest.mark.slow
def test_tasks_start_in_the_order_that_was_simulated(swarm: Swarm) -> None:
    """What is simulated is what the daemon decides: with one worker the tasks start in the very order, and what they took is
    learned from the journal then."""
    plan = swarm.plan(
        "foretold",
        [
            swarm.task("last", needs=["first"], priority=-1),
            swarm.task("third"),
            swarm.task("first", priority=3),
            swarm.task("second", priority=1),
        ],
    )
    foretold = swarm("simulate", str(plan), "--workers", "1", "--json").json["schedule"]["tasks"]
    order = [task["id"] for task in sorted(foretold, key=lambda task: task["starts_s"])]
    assert order == ["first", "second", "third", "last"]
    swarm.check_landed(swarm.run(plan, "--workers", "1"))
    assert [span.task for span in sorted(swarm.spans(), key=lambda span: span.start)] == order
    learned = swarm("simulate", str(plan), "--learn", "--json").json
    assert learned["assumed"]["learned_attempts"] == 4
    assert learned["assumed"]["tasks_s"].keys() == set(order)


@pytest.mark.slow
def test_what_comes_into_a_phase_that_has_landed_is_waited_for(swarm: Swarm) -> None:
    """A phase that has landed and gets more is waited for by what needs it and has not started, whether that came before or by the
    same submission; what would have it wait for itself is refused with the circle, also where the rest of that has landed."""
    before = [
        swarm.task("a", phase="p", gate="a"),
        swarm.task("held", "cat out-a out-more > held", needs=["p"]),
    ]
    more = [
        swarm.task("b", "cat out-a out-more > b", needs=["p"]),
        swarm.task("more", phase="p", gate="more"),
    ]
    phases = [{"id": "p"}]
    swarm("start", "--workers", "4")
    swarm("submit", str(swarm.plan("grown", before, phases=phases)))
    swarm("pause", "held")
    swarm.open("a")
    swarm.wait_for_landed("grown", "a")
    assert {task["id"]: task["state"] for task in swarm.the_run()["tasks"]} == {
        "a": "landed",
        "held": "ready",
    }
    swarm("submit", str(swarm.plan("grown", [*before, *more], phases=phases)))
    swarm("resume", "held")
    swarm.wait_for_gate("more")
    tasks = {task["id"]: (task["state"], task["reason"]) for task in swarm.the_run()["tasks"]}
    for name in ("held", "b"):
        assert tasks[name] == ("pending", {"code": "needs", "text": "needs phase p", "needs": ["phase p"]})
    assert swarm.starts() == ["a", "more"]
    round_it = ("add", "--title", "round", "--phase", "p", "--run", "true", "--needs", "held")
    said = swarm(*round_it, code=2).err
    assert "Needs would go round in a circle: round -> held -> p -> round." in said
    swarm.open("more")
    run = swarm.wait("grown")
    swarm.check_landed(run)
    assert swarm.landings("grown")[:2] == ["a", "more"]
    assert swarm.content("grown", "b") == swarm.content("grown", "held") == "a\nmore\n"
    said = swarm(*round_it, code=2).err
    assert "leave one of these needs out: that held comes first needs no saying" in said

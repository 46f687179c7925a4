"""The machine: how a run begins, what may start and when, who holds which claim, and that a replay gives the same."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from swarm.client import render
from swarm.core import admission, machine, report, scheduling
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import Limits, PhaseSpec, Step, WorkerResult
from swarm.core.state import IllegalEvent, StaleEvent, Swarm, next_deadline, pending_commands
from tests.builders import BASE, CALM, a_plan, a_task, submitted
from tests.stories import Story, a_story, snapshot

ONE_AT_A_TIME = (PhaseSpec(id="p", parallel_safe=False),)
THEN = (PhaseSpec(id="p"), PhaseSpec(id="q", phase_needs=("p",)))


# --- a run begins


def test_a_run_is_prepared_before_anything_starts() -> None:
    """A new plan has its staging made first; its free tasks are ready, and start when that is done."""
    story = Story()
    turn = story.send(submitted(a_plan(a_task("a"), a_task("b", needs=["a"]))))
    assert turn.commands == [cmd.PrepareRun(run="plan", base=BASE)]
    assert story.states() == {"a": "ready", "b": "pending"}
    story.send(m.RunPrepared(at=1.0, run="plan", commit=BASE, worktree="/staging"))
    assert story.has(cmd.MeasureHost)
    story.measure()
    assert story.states() == {"a": "running", "b": "pending"}
    assert story.sole(cmd.TakeWorktree).base == BASE


def test_a_run_goes_on_from_where_staging_stands() -> None:
    """Where staging was there already, further on than the base, work starts from it."""
    story = Story()
    story.send(submitted(a_plan(a_task("a"))))
    story.send(m.RunPrepared(at=1.0, run="plan", commit="staged", worktree="/staging"))
    story.measure()
    assert story.sole(cmd.TakeWorktree).base == "staged"
    assert invariants(story.swarm) == []


def test_preparing_is_tried_again() -> None:
    """A run that could not be prepared is prepared later, first soon and then every five seconds."""
    story = Story()
    story.send(submitted(a_plan(a_task("a"))))
    for pause_s in (0.5, 5.0, 5.0):
        prepare = story.sole(cmd.PrepareRun)
        story.send(m.RunCommandFailed(at=story.now, run="plan", command="PrepareRun", text="disk full"))
        assert next_deadline(story.swarm) == story.now + pause_s
        story.wait(pause_s)
        assert [c for c in story.commands if isinstance(c, cmd.PrepareRun)] == [prepare]
    story.send(m.RunPrepared(at=story.now, run="plan", commit=BASE, worktree="/staging"))
    assert story.run.failures == {}


def test_a_run_is_prepared_once() -> None:
    """A second answer to the preparing is stale."""
    story = a_story(a_plan(a_task("a")))
    with pytest.raises(StaleEvent):
        story.send(m.RunPrepared(at=1.0, run="plan", commit=BASE, worktree="/other"))
    assert story.run.worktree == "/staging"


def test_a_worker_is_told_all_it_needs() -> None:
    """A worker is started with its task, base, worktree, slot and claims; its attempt is numbered and has a branch of its own."""
    story = a_story(a_plan(a_task("a", claims=["src/**", "+LOG"])))
    take = story.sole(cmd.TakeWorktree)
    story.send(m.WorktreeReady(**story.where(take), path="/pool/0"))
    start = story.sole(cmd.StartWorker)
    assert (start.attempt, start.base, start.worktree, start.slot) == (1, BASE, "/pool/0", 0)
    assert start.spec == story.task("a").spec
    assert start.claims == start.spec.claims
    assert story.attempt("a").branch == "swarm/plan/task/a/1"
    story.send(m.WorkerStarted(**story.where(start), pid=7, started_at=2.0))
    assert story.sole(cmd.WatchWorker).task == "a"
    assert story.told("TaskStarted")[0].data == {"base": BASE, "slot": 0, "agent": "command"}


# --- needs and phases


def test_there_is_no_barrier_between_levels() -> None:
    """A task starts when what it needs has landed, though others of the level before still run."""
    story = a_story(a_plan(a_task("slow"), a_task("a"), a_task("b", needs=["a"])))
    story.land("a")
    assert story.at_work() == ["slow", "b"]


def test_a_phase_starts_after_the_last_landing_of_the_phase_before() -> None:
    """No task of a phase starts before every task of the phase that it needs has landed."""
    tasks = [a_task(name, phase="p") for name in "abc"] + [a_task("d", phase="q")]
    story = a_story(a_plan(*tasks, phases=THEN))
    for name in "abc":
        assert story.state("d") == "pending"
        story.land(name)
    assert story.at_work() == ["d"]


def test_a_phase_that_goes_one_at_a_time_keeps_its_order() -> None:
    """In such a phase one task runs at a time, in plan order whatever the priority, each when the one before has landed."""
    tasks = [a_task("a", phase="p"), a_task("b", phase="p", priority=9), a_task("c", phase="p")]
    story = a_story(a_plan(*tasks, a_task("x"), phases=ONE_AT_A_TIME))
    for name in "abc":
        assert set(story.at_work()) == {name, "x"}
        story.land(name)


def test_an_ended_predecessor_lets_the_next_go() -> None:
    """In a phase that goes one at a time the next task starts although the one before failed: order is no need."""
    story = a_story(a_plan(a_task("a", phase="p", attempts=1), a_task("b", phase="p"), phases=ONE_AT_A_TIME))
    story.fail("a")
    assert story.states() == {"a": "failed", "b": "running"}


def test_a_second_attempt_keeps_its_turn() -> None:
    """A task that is handed back goes again before the next one of its phase."""
    story = a_story(a_plan(a_task("a", phase="p"), a_task("b", phase="p"), phases=ONE_AT_A_TIME))
    story.fail("a")
    assert story.states() == {"a": "running", "b": "pending"}


def test_three_independent_tasks_run_at_once_after_a_sequential_phase() -> None:
    """A phase that goes one at a time does not slow down the parallel phase after it."""
    phases = (*ONE_AT_A_TIME, PhaseSpec(id="q", phase_needs=("p",)))
    tasks = [a_task(name, phase="p") for name in "ab"] + [a_task(name, phase="q") for name in "cde"]
    story = a_story(a_plan(*tasks, phases=phases))
    story.land("a", "b")
    assert story.at_work() == ["c", "d", "e"]


def test_what_needs_a_failed_task_is_blocked_and_says_by_what() -> None:
    """When a task fails, all that needs it, through tasks and phases, is blocked; what does not goes on, and the run ends."""
    tasks = [
        a_task("a", phase="p", attempts=1),
        a_task("b", needs=["a"]),
        a_task("c", needs=["b"]),
        a_task("d", phase="q"),
        a_task("e"),
    ]
    story = a_story(a_plan(*tasks, phases=THEN))
    story.fail("a")
    assert story.states() == {"a": "failed", "b": "blocked", "c": "blocked", "d": "blocked", "e": "running"}
    reasons = {name: story.task(name).reason for name in "bd"}
    assert all(reason is not None and reason.code == "blocked" for reason in reasons.values())
    assert "a ended without landing" in str(reasons["b"])
    assert "phase p ended without landing" in str(reasons["d"])
    story.land("e")
    ended = story.told("RunEnded")
    assert [fact.data for fact in ended] == [{"blocked": 3, "cancelled": 0, "failed": 1, "landed": 1}]


def test_a_retried_task_unblocks_what_needs_it() -> None:
    """Retrying a failed task makes it ready again and what was blocked by it pending again; then all of it lands."""
    tasks = [a_task("a", phase="p", attempts=1), a_task("b", needs=["a"]), a_task("c", phase="q")]
    story = a_story(a_plan(*tasks, phases=THEN))
    story.fail("a")
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a",)))
    story.measure()
    assert story.states() == {"a": "running", "b": "pending", "c": "pending"}
    assert story.task("b").reason is None
    story.land("a", "b", "c")
    assert len(story.told("RunEnded")) == 2


def test_a_task_that_needs_two_failed_ones_waits_for_both_retries() -> None:
    """Retrying one of two failed needs leaves the task blocked; retrying the other frees it."""
    story = a_story(a_plan(a_task("a", attempts=1), a_task("b", attempts=1), a_task("c", needs=["a", "b"])))
    story.fail("a")
    story.fail("b")
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a",)))
    assert story.state("c") == "blocked"
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("b",)))
    assert story.state("c") == "pending"


def test_a_retried_task_whose_need_has_failed_is_blocked() -> None:
    """Retrying a cancelled task whose own need ended without landing leaves it blocked, not waiting for ever."""
    story = a_story(a_plan(a_task("a", attempts=1), a_task("b", needs=["a"])))
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("b",)))
    story.fail("a")
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("b",)))
    assert story.state("b") == "blocked"
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a",)))
    assert story.state("b") == "pending"


def test_higher_priority_starts_first_then_plan_order() -> None:
    """Of the ready tasks those with the higher priority start first, equal ones in plan order."""
    tasks = [a_task("a"), a_task("b", priority=5), a_task("c"), a_task("d", priority=5)]
    story = a_story(a_plan(*tasks), bench=Story(Limits(workers_max=3, ramp_per_s=1000.0)))
    assert story.at_work() == ["b", "d", "a"]


def test_a_ready_task_that_a_plan_makes_less_urgent_waits_as_such() -> None:
    """Who waits for a slot when a plan says another priority starts by that, and by what it was no more."""
    story = Story(Limits(workers_max=1, ramp_per_s=1000.0))
    tasks = [a_task("a", priority=9), a_task("b", priority=5), a_task("c", priority=3)]
    story = a_story(a_plan(*tasks), bench=story)
    story.send(submitted(a_plan(a_task("b", priority=1)), at=story.now))
    story.land("a")
    assert story.at_work() == ["c"]


def test_two_runs_share_the_workers() -> None:
    """Of two runs with equal priorities the one with fewer workers is served next, and their branches differ."""
    story = Story(Limits(workers_max=2, ramp_per_s=1000.0))
    for name in ("one", "two"):
        story.send(submitted(a_plan(a_task("a"), a_task("b"), name=name)))
        story.send(m.RunPrepared(at=1.0, run=name, commit=BASE, worktree="/staging"))
    story.measure()
    taken = story.take(cmd.TakeWorktree)
    assert sorted((c.run, c.task) for c in taken if isinstance(c, cmd.TakeWorktree)) == [
        ("one", "a"),
        ("two", "a"),
    ]
    branches = {run.tasks["a"].attempts[0].branch for run in story.swarm.runs.values()}
    assert branches == {"swarm/one/task/a/1", "swarm/two/task/a/1"}


# --- claims


def test_overlapping_tasks_run_one_after_the_other_in_plan_order() -> None:
    """Tasks whose claims meet never run at the same time; the earlier in the plan goes first, others go beside them."""
    tasks = [a_task("a", claims=["src/**"]), a_task("b", claims=["src/x"]), a_task("c", claims=["./doc"])]
    story = a_story(a_plan(*tasks))
    assert story.at_work() == ["a", "c"]
    assert story.parked() == {"b": ("src/**", "a")}
    story.land("a")
    assert story.at_work() == ["c", "b"]
    assert story.parked() == {}


def test_a_task_that_waits_for_a_claim_goes_before_later_ones_that_overlap_it() -> None:
    """Of overlapping ready tasks the earlier goes first, also where another holds a part of what it wants; the rest go beside."""
    tasks = [
        a_task("first", claims=["a/1"]),
        a_task("wide", claims=["a/**"]),
        a_task("late", claims=["a/2"]),
        a_task("later", claims=["a/2", "b"]),
        a_task("other", claims=["c"]),
    ]
    story = a_story(a_plan(*tasks))
    assert story.at_work() == ["first", "other"]
    assert story.parked() == {"wide": ("a/1", "first"), "late": ("a/**", "wide"), "later": ("a/**", "wide")}
    story.land("first")
    assert story.at_work() == ["other", "wide"]
    story.land("wide")
    assert story.at_work() == ["other", "late"]
    assert story.parked() == {"later": ("a/2", "late")}
    story.land("late")
    assert story.at_work() == ["other", "later"]


APART = Limits(ramp_per_s=1000.0, workers_max=2)


def test_every_command_has_words_for_people() -> None:
    """What failed and is tried again is told in words, not by the name of a class."""
    general = {cmd.Command, cmd.RunCommand, cmd.AttemptCommand}
    known = [each for each in vars(cmd).values() if isinstance(each, type) and issubclass(each, cmd.Command)]
    assert {each.__name__ for each in known if cmd.in_words(each.__name__) == each.__name__} == {
        each.__name__ for each in general
    }
    assert cmd.in_words("OfAnotherVersion") == "OfAnotherVersion"


def test_two_that_share_a_path_are_not_started_together_where_a_third_fits() -> None:
    """Of three ready tasks and two slots the one that shares nothing with the first starts beside it. The
    second starts when the first has landed, or beside it where nothing else is left."""
    tasks = [a_task("a", claims=["+log", "a"]), a_task("b", claims=["+log"]), a_task("c", claims=["c"])]
    story = a_story(a_plan(*tasks), bench=Story(APART))
    assert story.at_work() == ["a", "c"]
    story.land("c")
    assert story.at_work() == ["a", "b"]


def test_who_shares_a_path_is_passed_over_by_none_that_it_would_have_to_wait_for() -> None:
    """What starts in its place overlaps it in nothing."""
    tasks = [
        a_task("a", claims=["+log"]),
        a_task("b", claims=["+log", "x"]),
        a_task("c", claims=["x"]),
        a_task("d"),
    ]
    story = a_story(a_plan(*tasks), bench=Story(APART))
    assert story.at_work() == ["a", "d"]
    story.land("d")
    assert story.at_work() == ["a", "b"]
    story.land("b")
    assert story.at_work() == ["a", "c"]


def test_who_shares_a_path_is_passed_over_by_none_of_less_priority() -> None:
    """What a person gave more weight to starts first, though it may conflict with what is at work."""
    first = [a_task(name, claims=["+log"], priority=1) for name in "ab"]
    assert a_story(a_plan(*first, a_task("c")), bench=Story(APART)).at_work() == ["a", "b"]


@pytest.mark.parametrize("rules", [0, m.RULES - 1, m.RULES + 1])
def test_what_was_decided_by_other_rules_is_refused(rules: int) -> None:
    """A replay that decides otherwise than the daemon did would be about another world: nothing of it is taken in."""
    story = a_story(a_plan(a_task("a")))
    before = snapshot(story.swarm)
    start = m.DaemonStarted(at=story.now, version="0", pid=2, limits=story.swarm.limits, rules=rules)
    with pytest.raises(IllegalEvent, match=f"rules {rules}"):
        machine.step(story.swarm, start)
    assert snapshot(story.swarm) == before
    (event,) = (m.event_to_json(event) for event in story.events if isinstance(event, m.DaemonStarted))
    del event["rules"]
    with pytest.raises(IllegalEvent, match="rules 0"):  # as in journals from before there were any
        machine.step(story.swarm, m.event_from_json(event))


def test_who_waits_keeps_back_only_what_comes_after_it() -> None:
    """A more urgent task goes before one that waits, and shared claims keep nobody back that shares them."""
    tasks = [
        a_task("first", claims=["a/1"]),
        a_task("wide", claims=["a/**", "+LOG"]),
        a_task("urgent", claims=["a/2"], priority=3),
        a_task("sharing", claims=["+LOG"]),
    ]
    story = a_story(a_plan(*tasks))
    assert story.at_work() == ["urgent", "first", "sharing"]
    story.land("urgent")
    story.land("first")
    assert story.at_work() == ["sharing", "wide"]


@pytest.mark.parametrize("how", ["cancelled", "paused", "left out", "replaced"])
def test_who_waits_no_more_keeps_nobody_back(how: str) -> None:
    """When the task that would go first is cancelled, paused, left out by --only or wants something else, those behind it start."""
    tasks = [a_task("first", claims=["a/1"]), a_task("wide", claims=["a/**"]), a_task("late", claims=["a/2"])]
    story = a_story(a_plan(*tasks))
    assert story.at_work() == ["first"]
    if how == "cancelled":
        story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("wide",)))
    elif how == "paused":
        story.send(m.Paused(at=story.now, run="plan", task="wide"))
    elif how == "left out":
        story.submit(a_plan(*tasks), only=("late",))
    else:
        story.submit(a_plan(tasks[0], a_task("wide", claims=["b"]), tasks[2]))
    assert set(story.at_work()) == {"first", "late", *(["wide"] if how == "replaced" else [])}
    if how == "paused":
        story.send(m.Resumed(at=story.now, run="plan", task="wide"))
        story.land("first")
        story.land("late")
        assert story.at_work() == ["wide"]


def test_what_waits_is_told_by_whom_it_really_waits_for() -> None:
    """A ready task that no slot is free for and whose claim is held names the holder, and not the slots."""
    story = a_story(
        a_plan(a_task("a", claims=["x"]), a_task("b"), a_task("c", claims=["x"])),
        bench=Story(Limits(workers_max=2)),
    )
    assert story.at_work() == ["a", "b"]
    (run,) = report.status(story.swarm, report.Live(running=True))["runs"]
    reasons = {task["id"]: task["reason"] for task in run["tasks"]}
    assert reasons["c"] == {"code": "claim", "text": "a holds x", "path": "x", "holder": "a"}


def test_without_a_daemon_nothing_is_being_verified() -> None:
    """What lands and what could start waits for a daemon where none is at work, as it is shown; a worker outlives its daemon."""
    story = a_story(a_plan(a_task("a"), a_task("b"), verify=["make"]))
    story.work("a")
    story.merge("a")
    assert story.attempt("a").step is Step.VERIFYING
    for running in (True, False):
        (run,) = report.status(story.swarm, report.Live(running=running))["runs"]
        codes = {each["id"]: (each["reason"] or {}).get("code") for each in run["tasks"]}
        shown = {each["id"]: render.task_detail(each, 0.0) for each in run["tasks"]}
        assert shown["a"].startswith("verifying" if running else "no daemon is at work; swarm start goes on")
        assert codes["a"] == (None if running else "stopped")
        assert codes["b"] is None
    ready = a_story(a_plan(a_task("a", claims=["x"]), a_task("b", claims=["x"])))
    assert report.status(ready.swarm, report.Live())["runs"][0]["tasks"][1]["reason"]["code"] == "stopped"


@pytest.mark.parametrize(
    ("readings", "slots", "reason"),
    [
        ({}, 4, "nothing waits"),
        ({"memory_percent": 60.0}, 3, "memory 60 %: 3 of 4 slots"),
        ({"cpu_percent": 75.0}, 2, "CPU 75 %: 2 of 4 slots"),
        ({"memory_percent": 85.0}, 1, "memory 85 %: 1 of 4 slots"),
        ({"memory_percent": 92.0}, 0, "memory 92 % is at or above 90 %"),
        ({"disk_free_bytes": 5}, 0, "disk has 0.0 GB free, 1.0 GB wanted"),
    ],
)
def test_the_capacity_follows_the_readings_while_nothing_waits(
    readings: dict[str, Any], slots: int, reason: str
) -> None:
    """Row 20: nobody looks at the machine then, but who asks does, and is told what would be; with a worker at work there is one
    slot fewer. What was measured while work waited, and the machine has room again since, is not told any more."""
    story = a_story(a_plan(a_task("a")))
    live = report.Live(running=True, readings=dataclasses.replace(CALM, **readings))
    shown = report.status(story.swarm, live)["capacity"]
    assert (shown["running"], shown["slots_open"]) == (1, max(0, slots - 1))
    story.land("a")
    shown = report.status(story.swarm, live)["capacity"]
    assert (shown["running"], shown["slots_open"], shown["reason"]) == (0, slots, reason)
    story.swarm.capacity = admission.Decision(0, admission.NOTHING_WAITS, 0)
    assert report.status(story.swarm, live)["capacity"]["slots_open"] == slots


def test_a_ready_task_that_wants_no_slot_waits_all_the_same() -> None:
    """Beside a task that waits for a claim the capacity does not say that nothing waits; it does when that one has landed."""
    story = a_story(a_plan(a_task("a", claims=["x"]), a_task("b", claims=["x"]), a_task("c", needs=["b"])))
    live = report.Live(running=True)
    assert story.state("b") == "ready"
    assert report.status(story.swarm, live)["capacity"]["reason"] == "nothing waits for a slot"
    assert story.swarm.capacity.reason == "nothing waits"
    story.land("a", "b")
    assert report.status(story.swarm, live)["capacity"]["reason"] == "nothing waits"


def test_a_turn_passes_over_a_bounded_number_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where very many ready tasks wait for one claim they are looked at some at a time, and one that may start is still found."""
    monkeypatch.setattr(scheduling, "LOOKS_MAX", 10)
    tasks = [a_task("a", claims=["x"]), *(a_task(f"t{n}", claims=["x"]) for n in range(95)), a_task("free")]
    story = a_story(a_plan(*tasks))
    turns = 0
    while "free" not in story.at_work():
        assert next_deadline(story.swarm) == story.now
        before = len(story.run.waiting.tasks())
        story.send(m.Ticked(at=story.now))
        assert len(story.run.waiting.tasks()) <= before + 10
        turns += 1
    assert turns == 9
    assert next_deadline(story.swarm) is None or next_deadline(story.swarm) != story.now


def test_a_claim_is_held_until_it_has_landed() -> None:
    """The next holder of a claim starts only when the work of the last is published, from a base that holds it."""
    story = a_story(a_plan(a_task("a", claims=["x"]), a_task("b", claims=["x"])))
    story.work("a")
    story.merge("a")
    landed = story.advance("a")
    assert story.state("b") == "ready"
    story.publish()
    assert story.sole(cmd.TakeWorktree, "b").base == landed


def test_shared_claims_are_held_together() -> None:
    """Tasks that share a claim run at the same time; one that wants it alone waits for all of them."""
    tasks = [a_task("a", claims=["+LOG"]), a_task("b", claims=["+LOG"]), a_task("c", claims=["LOG"])]
    story = a_story(a_plan(*tasks))
    assert story.at_work() == ["a", "b"]
    story.land("a")
    assert story.at_work() == ["b"]
    story.land("b")
    assert story.at_work() == ["c"]


@pytest.mark.parametrize("claims", [["x", "x"], ["x", "+x"], ["+x", "+x"]])
def test_a_claim_named_twice_is_free_again(claims: list[str]) -> None:
    """A task that names a claim twice gives it back altogether when it ends."""
    story = a_story(a_plan(a_task("a", claims=claims), a_task("b", claims=["x"])))
    assert story.at_work() == ["a"]
    story.land("a")
    assert story.at_work() == ["b"]


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_claim_is_freed_at_the_end(end: str) -> None:
    """A task that ends without landing frees its claims for the next, and not before its worker has gone."""
    story = a_story(a_plan(a_task("a", claims=["x"], attempts=1), a_task("b", claims=["x"])))
    story.up("a")
    if end == "cancelled":
        story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("a",)))
        assert {held.holder for held in story.run.claims.held()} == {"a"}
        assert story.state("b") == "ready"
    story.exit("a", 1)
    story.collect("a")
    assert story.states() == {"a": end, "b": "running"}


def test_a_task_without_claims_runs_beside_all() -> None:
    """Tasks that claim nothing hold nobody up."""
    story = a_story(a_plan(a_task("a"), a_task("b", claims=["**"]), a_task("c")))
    assert story.at_work() == ["a", "b", "c"]


def test_parked_tasks_come_up_again_with_their_priority() -> None:
    """When a claim is freed, the most urgent of those parked under it starts first, then the earliest."""
    tasks = [a_task("a", claims=["x"]), a_task("b", claims=["x"]), a_task("c", claims=["x"], priority=1)]
    story = a_story(a_plan(*tasks))
    assert story.at_work() == ["c"]
    story.land("c")
    assert story.at_work() == ["a"]
    story.land("a")
    assert story.at_work() == ["b"]


def test_a_task_parked_under_two_claims_waits_for_both() -> None:
    """A task that meets two held claims starts when the second is freed."""
    tasks = [a_task("a", claims=["x"]), a_task("b", claims=["y"]), a_task("c", claims=["x", "y"])]
    story = a_story(a_plan(*tasks))
    story.land("a")
    assert story.at_work() == ["b"]
    assert story.parked() == {"c": ("y", "b")}
    story.land("b")
    assert story.at_work() == ["c"]


@pytest.mark.parametrize("claims", [["x"], ["x", "b"]])
def test_a_free_stray_is_taken_on_the_spot(claims: list[str]) -> None:
    """With `extend` a touched path that nobody holds is added to the claim: who claims it waits until the work has landed."""
    story = a_story(
        a_plan(a_task("a", claims=claims), a_task("b", claims=["stray*"], needs=["n"]), a_task("n"))
    )
    story.up("a")
    story.exit("a")
    story.collect("a", ["x", "stray[1]", "stray[1]"])
    assert story.attempt("a").strays == ("stray[1]", "stray[1]")
    assert story.told("StrayFound")[0].data == {"paths": ["stray[1]", "stray[1]"], "policy": "extend"}
    story.land("n")
    assert (story.state("b"), story.parked()["b"][1]) == ("ready", "a")
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "a"))))
    story.merge("a")
    story.advance("a")
    story.publish()
    assert story.at_work() == ["b"]


def test_a_stray_is_rejected() -> None:
    """With `reject` work outside the claims goes back, told which paths; at the end of the budget the task failed as `stray`."""
    story = a_story(
        a_plan(a_task("a", claims=["x"])), bench=Story(Limits(strays="reject", ramp_per_s=1000.0))
    )
    story.up("a")
    story.exit("a")
    story.collect("a", ["x", "y"])
    (feedback,) = story.task("a").feedback
    assert "it changed y outside its claims" in feedback
    story.up("a")
    story.exit("a")
    story.collect("a", ["y"])
    assert (story.state("a"), story.why("a")) == ("failed", "stray")


def test_what_must_not_come_in_is_handed_back_and_what_is_only_noticed_is_told() -> None:
    """Work with a problem is not queued, and the next attempt is told of it; what is only noticed is told, and lands."""
    story = a_story(a_plan(a_task("a")))
    story.up("a")
    story.exit("a")
    story.collect("a", ["up"], problem="What it changed must not come in: up is a link.", noticed=("x",))
    assert (story.attempt("a").n, story.told("ChangeNoticed")) == (2, [])
    assert "up is a link" in story.task("a").feedback[-1]
    story.up("a")
    story.exit("a")
    story.collect("a", ["a"], noticed=(".gitattributes says how",))
    assert story.told("ChangeNoticed")[0].data == {"texts": [".gitattributes says how"]}
    assert story.state("a") == "queued"


def test_a_stray_is_only_told_of() -> None:
    """With `warn` a stray is told of and lands; its path is not claimed."""
    story = a_story(
        a_plan(a_task("a", claims=["x"]), a_task("b", claims=["y"])),
        bench=Story(Limits(strays="warn", ramp_per_s=1000.0)),
    )
    story.work("a", touched=["x", "y"])
    assert story.told("StrayFound")[0].data["policy"] == "warn"
    assert story.has(cmd.Merge, "a")


def test_without_claims_nothing_is_a_stray() -> None:
    """What a task without claims changes is no stray, also in a run that goes one at a time."""
    story = a_story(
        a_plan(a_task("a")), bench=Story(Limits(strays="reject", ramp_per_s=1000.0)), sequential=True
    )
    story.work("a", touched=["anything"])
    assert story.attempt("a").strays == ()
    assert story.has(cmd.Merge, "a")


# --- replay


def a_long_story() -> Story:
    """A story with a bit of everything."""
    tasks = [
        a_task("a", phase="p", claims=["x"], verify=["make"]),
        a_task("b", phase="p", claims=["x", "+log"]),
        a_task("c", phase="q", attempts=1),
        a_task("d", needs=["c"]),
        a_task("e", timeout_s=3.0),
    ]
    story = a_story(a_plan(*tasks, phases=THEN))
    story.work("a", touched=["x", "stray"], commits=2)
    story.merge("a")
    story.red("a", tail="boom")
    story.up("e")
    story.wait(4.0)
    story.exit("e", 143)
    story.collect("e")
    story.land("a")
    story.work("b")
    story.conflict("b", "x", landings=["a"])
    story.send(m.TaskTold(at=story.now, run="plan", task="b", text="mind x"))
    story.send(m.Paused(at=story.now, run="plan", task="d"))
    story.land("e", "b")
    story.fail("c")
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("c",)))
    story.send(m.LimitsChanged(at=story.now, workers_max=7))
    story.up("c")
    story.exit("c", 75, WorkerResult(retry_after_s=500.0, summary="busy"))
    story.collect("c")
    story.send(
        m.FinishRequested(
            at=story.now,
            run="plan",
            request="r",
            target="main",
            commit=story.run.published,
            author=("Ada", "ada@example.org"),
        )
    )
    return story


def test_a_replay_gives_the_same() -> None:
    """Taking the same events in again, from their JSON text, gives the same state, the same commands and the same facts."""
    story = a_long_story()
    again, facts = Swarm(), []
    for event in story.events:
        turn = machine.step(again, m.event_from_json(json.loads(json.dumps(m.event_to_json(event)))))
        facts += turn.facts
    assert snapshot(again) == snapshot(story.swarm)
    assert pending_commands(again) == pending_commands(story.swarm)
    assert [json.dumps(f.to_json()) for f in facts] == [json.dumps(f.to_json()) for f in story.facts]


def test_state_implies_the_commands() -> None:
    """At any moment the commands that were sent out and not answered are exactly those that the state stands for."""
    story = a_long_story()
    story.take(cmd.GiveBackWorktree)
    outstanding = [c for c in story.commands if not isinstance(c, cmd.EndWorker)]
    pending = [c for c in pending_commands(story.swarm) if not isinstance(c, cmd.GiveBackWorktree)]
    assert sorted(map(repr, outstanding)) == sorted(map(repr, pending))

"""Agents that start nothing for a while: how a limit holds all workers of one, and how it comes back."""

from __future__ import annotations

import dataclasses
import json

import pytest

from swarm.core import commands as cmd
from swarm.core import machine, report
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import Limits, PlanSpec, TaskSpec, WorkerResult
from swarm.core.state import Swarm, next_deadline
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story, snapshot

LIMITS = Limits(ramp_per_s=1000.0, workers_max=5, breaker_failures=3)
SAID_100 = WorkerResult(retry_after_s=100.0)


def of_agent(agent: str, *names: str, **more: object) -> list[TaskSpec]:
    return [dataclasses.replace(a_task(name, **more), agent=agent) for name in names]  # type: ignore[arg-type]


def a_held_story(plan: PlanSpec, limits: Limits = LIMITS) -> Story:
    return a_story(plan, Story(limits))


def waits_for(story: Story, name: str) -> tuple[str, str]:
    """The code and the text that status tells of a task."""
    document = report.task_document(story.swarm, story.run, story.task(name), report.Live(True))
    return document["reason"]["code"], document["reason"]["text"]


def limit(
    story: Story, name: str, result: WorkerResult = SAID_100, jitter: float = 0.0, code: int = 75
) -> None:
    """The worker of a task ends because it met a limit."""
    command = story.sole(cmd.WatchWorker, name)
    story.send(m.WorkerExited(**story.where(command), exit_code=code, result=result, jitter=jitter))
    story.collect(name, touched=[])


def test_one_limit_holds_every_start_of_its_agent() -> None:
    """Row 80: five workers, one hits the limit: no sixth of that agent starts before the reset, in no run; others do; no attempt is
    used up; those at work go on."""
    story = a_held_story(a_plan(*of_agent("mine", *"abcdefg"), a_task("other"), name="plan"))
    story.up(*"abcde")
    limit(story, "a")
    assert story.at_work() == ["b", "c", "d", "e", "other"]
    story.submit(a_plan(*of_agent("mine", "z"), name="second"))
    story.land("other")
    story.wait(99.0)
    assert story.at_work() == ["b", "c", "d", "e"]
    assert waits_for(story, "f") == ("rate_limit", "a rate limit of mine until 1970-01-01 00:01:40 UTC")
    assert waits_for(story, "a") == waits_for(story, "f")
    assert [(f.run, f.data["until"]) for f in story.told("AgentHeld")] == [
        ("plan", "1970-01-01T00:01:40.000Z"),
        ("second", "1970-01-01T00:01:40.000Z"),
    ]
    story.wait(2.0)
    assert list(story.swarm.runs["second"].live) == ["z"]
    assert [attempt.counts for attempt in story.task("a").attempts] == [False]
    assert invariants(story.swarm) == []


def test_after_the_reset_starts_grow_step_by_step() -> None:
    """All resume at the reset, first one worker, then two more, then four more, then as any others."""
    story = a_held_story(
        a_plan(*of_agent("mine", *(f"t{n:02}" for n in range(20)))),
        dataclasses.replace(LIMITS, workers_max=20),
    )
    names = story.at_work()
    assert len(names) == 20
    story.up(*names)
    for name in names:
        limit(story, name)
    assert story.at_work() == []
    story.wait(100.0)
    grown = [len(story.at_work())]
    for _ in range(6):
        story.wait(0.5)
        grown.append(len(story.at_work()))
    assert grown == [1, 3, 7, 15, 20, 20, 20]
    assert story.swarm.holds == {}
    assert next_deadline(story.swarm) is None


def test_chance_puts_a_reset_off_and_never_brings_it_forward() -> None:
    """What comes back at the same reset is spread by the number that came in with the event, a tenth of the wait at the most."""
    story = a_held_story(a_plan(*of_agent("mine", "a")))
    story.up("a")
    limit(story, "a", WorkerResult(retry_after_s=20.0), jitter=0.5)
    story.wait(20.9)
    assert story.at_work() == []
    story.wait(0.2)
    assert story.at_work() == ["a"]


def test_the_later_of_two_resets_counts() -> None:
    """A second limit, known by another worker of the agent, can put the reset off and does not bring it forward."""
    story = a_held_story(a_plan(*of_agent("mine", "a", "b", "c")))
    story.up("a", "b", "c")
    for name, wait_s in (("a", 50.0), ("b", 100.0), ("c", 10.0)):
        limit(story, name, WorkerResult(retry_after_s=wait_s))
    story.wait(99.0)
    assert story.at_work() == []
    story.wait(5.0)
    assert story.at_work() == ["a", "b", "c"]


def test_a_limit_that_still_holds_after_its_reset_shuts_it_again() -> None:
    """The first worker after the reset that meets the limit anew holds the agent once more."""
    story = a_held_story(a_plan(*of_agent("mine", "a", "b", "c")))
    story.up("a", "b", "c")
    for name in "abc":
        limit(story, name)
    story.wait(100.0)
    assert story.at_work() == ["a"]
    story.up("a")
    limit(story, "a")
    story.wait(99.0)
    assert story.at_work() == []
    story.wait(5.0)
    assert len(story.at_work()) == 3


@pytest.mark.parametrize(
    ("result", "holds"),
    [
        (WorkerResult(), False),
        (WorkerResult(retry_after_s=5.0), True),
        (WorkerResult(rate_limited=True), True),
        (WorkerResult(retry_after_s=5.0, rate_limited=False), False),
    ],
)
def test_a_tasks_own_command_speaks_for_all_where_it_says_so(result: WorkerResult, holds: bool) -> None:
    """A bare 75 of a command puts off that task; one that knows a reset, or says rate_limited, puts off all commands, unless it
    says that it does not."""
    story = a_held_story(a_plan(a_task("a"), a_task("b")), dataclasses.replace(LIMITS, workers_max=1))
    story.up("a")
    limit(story, "a", result)
    assert ("command" in story.swarm.holds) is holds
    assert story.at_work() == ([] if holds else ["b"])


def test_a_worker_that_says_it_was_limited_is_believed_with_any_failure() -> None:
    """A program that has no 75 may fail as it does and say rate_limited: that uses up no attempt; one that exits 0 has finished."""
    story = a_held_story(a_plan(*of_agent("mine", "a", "b", attempts=1)))
    story.up("a", "b")
    limit(story, "a", WorkerResult(rate_limited=True), code=1)
    assert (story.state("a"), story.attempt("a").counts) == ("ready", False)
    story.exit("b", 0, WorkerResult(rate_limited=True))
    story.collect("b")
    assert story.state("b") == "landing" or story.state("b") == "queued"


def test_a_person_ends_a_hold() -> None:
    """`swarm resume` lets a held agent go on at once."""
    story = a_held_story(a_plan(*of_agent("mine", "a", "b")))
    story.up("a", "b")
    limit(story, "a")
    story.send(m.Resumed(at=story.now))
    story.measure()
    assert story.at_work() == ["b", "a"]


def test_what_waits_for_its_agent_keeps_no_other_agent_back() -> None:
    """A task that waits for a claim and whose agent is held lets later ones that overlap it go, and has its turn afterwards."""
    first, held = of_agent("mine", "a", "b")
    plan = a_plan(
        first,
        a_task("holder", claims=["x"]),
        dataclasses.replace(held, claims=a_task("_", claims=["x", "y"]).claims),
        a_task("later", claims=["y"]),
    )
    story = a_held_story(plan)
    assert story.at_work() == ["a", "holder"]
    story.up("a")
    limit(story, "a")
    assert story.at_work() == ["holder", "later"]
    story.land("holder", "later")
    story.wait(102.0)
    assert story.at_work() == ["a", "b"]
    assert invariants(story.swarm) == []


def test_a_task_that_must_run_alone_comes_back_too() -> None:
    """A task that runs by itself after a conflict, and whose agent is held, is not forgotten."""
    story = a_held_story(a_plan(*of_agent("mine", "a", "b")))
    story.up("a", "b")
    story.task("a").alone = True
    limit(story, "a")
    limit(story, "b")
    story.measure()
    assert invariants(story.swarm) == []
    story.wait(102.0)
    assert invariants(story.swarm) == []
    story.land("b") if "b" in story.at_work() else None
    story.wait(10.0)
    assert "a" in story.at_work()


def test_a_hold_outlives_the_daemon() -> None:
    """The hold is in the journal: replayed it is the same, a new daemon keeps it, and its reset comes when it is due."""
    story = a_held_story(a_plan(*of_agent("mine", "a", "b", "c")), dataclasses.replace(LIMITS, workers_max=2))
    story.up("a", "b")
    limit(story, "a")
    again = Swarm()
    for event in story.events:
        machine.step(again, m.event_from_json(json.loads(json.dumps(m.event_to_json(event)))))
    assert snapshot(again) == snapshot(story.swarm)
    story.now += 10.0
    story.send(m.DaemonStarted(at=story.now, version="next", pid=2, limits=story.swarm.limits, rules=m.RULES))
    story.measure()
    assert story.at_work() == ["b"]
    story.wait(90.0)
    assert story.at_work() == ["b", "a"]


# --- the breaker


def test_an_agent_that_does_not_work_is_stopped_and_burns_no_plan() -> None:
    """When the first three workers of an agent fail alike within seconds no more start, their attempts are given back, status says
    so, and `swarm resume` goes on."""
    story = a_held_story(
        a_plan(*of_agent("mine", *"abcde"), a_task("other")), dataclasses.replace(LIMITS, workers_max=2)
    )
    story.fail("a", 127)
    story.fail("b", 127)
    story.fail("a", 127)
    assert "mine" in story.swarm.holds
    assert {name: story.state(name) for name in "ae"} == {"a": "ready", "e": "ready"}
    story.wait(3600.0)
    assert set(story.at_work()) <= {"other", "b"}
    code, text = waits_for(story, "e")
    assert code == "breaker"
    assert text.startswith("the first 3 workers of mine all ended with exit code 127 within 10 s")
    assert not any(
        attempt.counts for name in "ab" for attempt in story.task(name).attempts if attempt.exit_code
    )
    story.send(m.Resumed(at=story.now))
    assert story.swarm.holds == {}


@pytest.mark.parametrize("how", ["another code", "long", "proven", "command"])
def test_only_first_workers_that_all_fail_alike_at_once_stop_an_agent(how: str) -> None:
    """Failures of different kinds, late ones, those after a worker that did well, and those of tasks' own commands stop nobody."""
    agent = "command" if how == "command" else "mine"
    story = a_held_story(
        a_plan(*of_agent(agent, *"abcd", attempts=1)), dataclasses.replace(LIMITS, workers_max=1)
    )
    for place, name in enumerate("abcd"):
        if how == "proven" and name == "a":
            story.land("a")
            continue
        story.up(name)
        if how == "long" and name == "b":
            story.wait(11.0)
        story.exit(name, 1 + place % 2 if how == "another code" else 1)
        story.collect(name)
    assert story.swarm.holds == {}
    assert "ready" not in story.states().values()


def test_a_new_daemon_looks_anew_and_keeps_what_was_stopped() -> None:
    """What workers of an agent showed counts for one daemon; an agent that was stopped stays so until a person resumes it."""
    story = a_held_story(a_plan(*of_agent("mine", *"abcd")), dataclasses.replace(LIMITS, workers_max=1))
    restart = m.DaemonStarted(at=story.now, version="next", pid=2, limits=story.swarm.limits, rules=m.RULES)
    story.fail("a", 9)
    story.fail("a", 9)
    story.send(restart)
    story.measure()
    story.fail("b", 9)
    assert story.swarm.holds == {}
    story.fail("b", 9)
    story.fail("c", 9)
    assert story.swarm.holds["mine"].code == "breaker"
    story.send(restart)
    story.measure()
    assert story.at_work() == []


def test_one_task_that_fails_again_and_again_stops_no_agent() -> None:
    """That all attempts of one single task fail says something about the task."""
    story = a_held_story(a_plan(*of_agent("mine", "a", attempts=4)))
    for _ in range(4):
        story.fail("a", 1)
    assert (story.state("a"), story.swarm.holds) == ("failed", {})

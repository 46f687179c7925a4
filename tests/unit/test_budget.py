"""Budgets: what workers cost is summed, and what would start next is stopped by it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from swarm.core import budget, machine, report
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.budget import Budget
from swarm.core.invariants import invariants
from swarm.core.model import Limits, PhaseSpec, Spent, WorkerResult
from swarm.core.state import Swarm
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story, snapshot

LIMITS = Limits(ramp_per_s=1000.0, workers_max=1)


def a_budget_story(*names: str, attempts: int = 2, **limits: object) -> Story:
    story = Story(dataclasses.replace(LIMITS, **limits))  # type: ignore[arg-type]
    return a_story(a_plan(*(a_task(name, attempts=attempts) for name in names)), story)


def costs(usd: float = 0.0, tokens_in: int = 0, tokens_out: int = 0) -> WorkerResult:
    return WorkerResult(cost_usd=usd, tokens_in=tokens_in, tokens_out=tokens_out)


def end(story: Story, name: str, result: WorkerResult, code: int = 0) -> None:
    story.up(name)
    story.exit(name, code, result)
    story.collect(name)


def test_a_run_over_its_budget_starts_nothing_more_and_ends() -> None:
    """What is ready, and what becomes ready, fails as `over_budget`; what was finished lands all the same, and the run ends."""
    story = a_budget_story("a", "b", budget_usd=1.0)
    story.submit(a_plan(a_task("a"), a_task("b"), a_task("c", needs=["a"]), name="plan"))
    end(story, "a", costs(1.0))
    assert story.states() == {"a": "queued", "b": "failed", "c": "pending"}
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "a"))))
    story.merge("a")
    story.advance("a")
    story.publish()
    assert story.states() == {"a": "landed", "b": "failed", "c": "failed"}
    assert story.why("c") == "over_budget"
    assert story.task("b").reason.text == "the run is over its budget: $1.00 of a budget of $1.00 spent"  # type: ignore[union-attr]
    assert story.run.ended_at is not None
    assert invariants(story.swarm) == []


def test_a_run_in_its_budget_goes_on() -> None:
    """Below its budget, in money and in tokens, a run knows no limit, and workers that say nothing cost nothing."""
    story = a_budget_story("a", "b", "c", budget_usd=1.0, budget_tokens=100)
    end(story, "a", costs(0.5, 40, 19))
    end(story, "b", WorkerResult())
    assert story.at_work() == ["c"]
    assert story.run.spent == Spent(0.5, 59)


def test_tokens_count_in_and_out_together() -> None:
    """A run that has used as many tokens as its budget, in and out, is over it."""
    story = a_budget_story("a", "b", budget_tokens=100)
    end(story, "a", costs(0.0, 60, 40))
    assert story.why("b") == "over_budget"


def test_another_run_has_a_budget_of_its_own() -> None:
    """The budget is each run's: one that is over it stops no other."""
    story = a_budget_story("a", "b", budget_usd=1.0)
    end(story, "a", costs(2.0))
    story.submit(a_plan(a_task("z"), name="second"))
    assert list(story.swarm.runs["second"].live) == ["z"]


def test_tasks_that_go_one_at_a_time_all_end() -> None:
    """In a phase that goes in order each task comes up after the one before it and fails alike, all in one turn."""
    phase = PhaseSpec(id="p", parallel_safe=False)
    tasks = [a_task(f"t{n}", phase="p") for n in range(500)]
    story = a_story(a_plan(*tasks, phases=[phase]), Story(dataclasses.replace(LIMITS, budget_usd=1.0)))
    end(story, "t0", costs(5.0))
    assert {story.state(f"t{n}") for n in range(1, 500)} <= {"failed", "pending"}
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "t0"))))
    story.merge("t0")
    story.advance("t0")
    story.publish()
    assert {story.state(f"t{n}") for n in range(1, 500)} == {"failed"}
    assert story.run.ended_at is not None


def test_a_task_over_its_budget_gets_no_other_attempt() -> None:
    """What a task's attempts have cost together ends it, though it has attempts left; a retry gives it the whole budget again."""
    story = a_budget_story("a", attempts=9, task_budget_usd=1.0)
    end(story, "a", costs(0.6), code=1)
    assert story.state("a") == "running"
    end(story, "a", costs(0.6), code=75)
    assert (story.state("a"), story.why("a")) == ("failed", "over_budget")
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a",)))
    story.measure()
    end(story, "a", costs(0.6), code=1)
    assert story.state("a") == "running"


def test_a_task_that_is_done_lands_whatever_it_has_cost() -> None:
    """Work that is finished was paid for: it lands."""
    story = a_budget_story("a", task_budget_usd=1.0, task_budget_tokens=5)
    end(story, "a", costs(100.0, 100, 100))
    assert story.state("a") == "queued"


def test_a_days_budget_holds_everything_until_the_next_day() -> None:
    """Nothing starts, in any run, before the next day by UTC, and nothing fails."""
    story = a_budget_story("a", "b", day_budget_usd=1.0)
    story.now = 3 * 86400.0 - 100.0
    end(story, "a", costs(1.5))
    assert story.states() == {"a": "queued", "b": "ready"}
    assert (
        story.swarm.capacity.reason
        == "$1.50 of a budget of $1.00 spent today; nothing starts before 00:00 UTC"
    )
    document = report.status(story.swarm, report.Live(True))
    assert document["day"] == {
        "date": "1970-01-03",
        "cost_usd": 1.5,
        "tokens": 0,
        "budget_usd": 1.0,
        "budget_tokens": None,
    }
    story.wait(99.0)
    assert story.state("b") == "ready"
    story.wait(2.0)
    assert story.at_work() == ["b"]


def test_what_was_spent_is_what_the_journal_says() -> None:
    """Replayed, the events give the same sums, and status says them."""
    story = a_budget_story("a", "b", budget_usd=10.0, attempts=3)
    for cost in (0.1, 0.2, 0.3):
        end(story, "a", costs(cost, 7, 3), code=1)
    again = Swarm()
    for event in story.events:
        machine.step(again, m.event_from_json(json.loads(json.dumps(m.event_to_json(event)))))
    assert snapshot(again) == snapshot(story.swarm)
    said = [event.result.cost_usd for event in story.events if isinstance(event, m.WorkerExited)]
    run = report.run_document(again, again.runs["plan"], report.Live())
    assert run["spent"] == {"cost_usd": 0.6, "tokens": 30, "budget_usd": 10.0, "budget_tokens": None}
    assert sum(each or 0.0 for each in said) == pytest.approx(0.6)


def test_a_budget_of_zero_is_none() -> None:
    """Without a budget nothing is ever passed."""
    assert Budget().passed(Spent(1e9, 10**12)) == ""


@pytest.mark.parametrize(
    ("amount", "text"), [(0.0, "$0.00"), (0.0123, "$0.012"), (1.239, "$1.24"), (1e4, "$10,000.00")]
)
def test_amounts_are_shown_as_people_write_them(amount: float, text: str) -> None:
    """Cents where they say enough, and a tenth of them for what is less than a dollar."""
    assert budget.usd(amount) == text


def test_a_daemon_that_begins_with_a_lower_budget_goes_by_it_at_once() -> None:
    """What is ready in a run that is over its budget by the new settings fails before anything starts."""
    story = a_budget_story("a", "b")
    end(story, "a", costs(0.6), code=1)
    story.send(m.Paused(at=story.now, run="plan"))
    end(story, "a", costs(0.6), code=1)
    limits = dataclasses.replace(LIMITS, budget_usd=1.0)
    story.send(m.DaemonStarted(at=story.now, version="next", pid=2, limits=limits, rules=m.RULES))
    story.send(m.Resumed(at=story.now))
    story.measure()
    assert (story.why("b"), story.at_work()) == ("over_budget", [])

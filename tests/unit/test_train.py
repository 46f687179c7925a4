"""What the verdicts on candidates mean: red once and red for good, flakes, suites whose time was over."""

from __future__ import annotations

import pytest

from swarm.core import messages as m
from swarm.core.model import Limits, SuiteCount, SuiteResult
from swarm.core.state import StaleEvent, pending_commands
from swarm.core.train import is_flaky
from tests.builders import BASE, a_plan, a_task
from tests.stories import Story, a_story, snapshot

AGAIN = Limits(ramp_per_s=1000.0, verify_again=True)


def a_queue(*suites: str, attempts: int = 1) -> Story:
    """Task `a`, whose candidate is being verified."""
    story = a_story(a_plan(a_task("a", verify=suites, attempts=attempts)), bench=Story(AGAIN))
    story.work("a")
    story.merge("a")
    return story


def test_red_and_then_green_on_the_same_commit_lands() -> None:
    """A suite that did not pass runs once more on the same commit; when it passes then, the task lands, and the flake is told."""
    story = a_queue("unit")
    first = story.verify("a", "failed")
    second = story.verify("a", "passed")
    assert (first.again, second.again, second.candidate) == (False, True, first.candidate)
    story.advance("a")
    story.publish()
    assert story.state("a") == "landed"
    (flake,) = story.told("SuiteFlaked")
    assert dict(flake.data) == {"suite": "unit", "outcome": "failed", "ran": 2, "flaked": 1}
    assert story.told("TaskLanded")[0].data["notes"] == {"unit": "failed at first, passed on the same commit"}


def test_red_twice_is_handed_back() -> None:
    """A suite that fails on the same commit twice is held against the task, which is told so; there is no third time."""
    story = a_queue("unit", attempts=2)
    story.verify("a", "failed")
    story.verify("a", "failed", tail="E  assert 1 == 2")
    assert not story.has(m.Verify)
    assert story.run.staging == BASE
    (back,) = story.told("TaskHandedBack")
    assert back.data["code"] == "verify_failed"
    assert back.data["text"] == "verification did not pass, twice on the same commit: unit (failed)"
    assert "assert 1 == 2" in story.task("a").feedback[-1]
    assert not story.told("SuiteFlaked")


def test_only_what_did_not_pass_runs_again() -> None:
    """What has passed on the commit stands; the others run once more, and each must pass."""
    story = a_queue("unit", "lint", "e2e")
    story.verify("a", "failed", "passed", "failed")
    second = story.verify("a", "passed", "failed")
    assert [suite.name for suite in second.suites] == ["unit", "e2e"]
    ended = story.attempt("a")
    assert [(each.name, each.outcome) for each in ended.suites] == [
        ("unit", "passed"),
        ("lint", "passed"),
        ("e2e", "failed"),
    ]
    assert (story.state("a"), story.why("a")) == ("failed", "verify_failed")
    assert [fact.data["suite"] for fact in story.told("SuiteFlaked")] == ["unit"]


def test_suites_that_said_nothing_all_run_again() -> None:
    """Where fewer suites answered than were asked for, nothing is known of any, and all run once more."""
    story = a_queue("unit", "lint")
    verify = story.sole(m.Verify)
    story.send(m.Verified(**story.where(verify), candidate=verify.candidate, suites=()))
    assert [suite.name for suite in story.verify("a").suites] == ["unit", "lint"]
    assert story.has(m.Advance)


def test_a_timeout_is_an_outcome_of_its_own() -> None:
    """A suite whose time is over has once more its limit, or twice the longest that it took to pass; then it ends as `timeout`."""
    story = a_queue("unit", "lint")
    story.run.suites_seen = {"unit": SuiteCount(longest_s=1000.0), "lint": SuiteCount(longest_s=10.0)}
    first = story.verify("a", "timeout")
    assert [suite.timeout_s for suite in first.suites] == [1800.0, 1800.0]
    second = story.verify("a", "timeout")
    assert [suite.timeout_s for suite in second.suites] == [2000.0, 1800.0]
    assert (story.state("a"), story.why("a")) == ("failed", "timeout")


def test_what_failed_and_what_was_too_slow_is_a_failure() -> None:
    """Where a suite failed beside one that was too slow, the task is told of a failure."""
    story = a_queue("unit", "lint")
    story.verify("a", "timeout", "failed")
    story.verify("a", "timeout", "failed")
    assert story.why("a") == "verify_failed"


def test_the_machines_trouble_is_neither_red_nor_a_second_time() -> None:
    """What did not pass for want of what the machine lacks runs again as the same try, first or second."""
    story = a_queue("unit")
    story.verify("a", "failed")
    second = story.sole(m.Verify)
    story.send(
        m.Verified(**story.where(second), candidate=second.candidate, again=True, trouble="the disk is full")
    )
    story.wait(30.0)
    assert story.sole(m.Verify) == second
    assert story.task("a").attempts[-1].step == "verifying"


def test_an_answer_of_the_first_time_is_none_of_the_second() -> None:
    """What was said the first time is refused the second time and changes nothing."""
    story = a_queue("unit")
    first = story.verify("a", "failed")
    before = snapshot(story.swarm)
    with pytest.raises(StaleEvent):
        story.send(m.Verified(**story.where(first), candidate=first.candidate))
    assert snapshot(story.swarm) == before
    assert story.sole(m.Verify) == next(c for c in pending_commands(story.swarm) if isinstance(c, m.Verify))


def test_a_candidate_that_is_made_anew_begins_at_the_first_time() -> None:
    """When staging moved, the new candidate is verified from the start, whatever the old one's suites said."""
    story = a_queue("unit")
    story.verify("a", "failed")
    story.verify("a")
    story.send(m.StagingMoved(**story.where(story.sole(m.Advance)), found="theirs"))
    story.merge("a")
    assert not story.verify("a", "failed").again
    assert story.verify("a").again


def test_suites_are_counted() -> None:
    """Of each suite is known how often it ran, was a flake, and the longest that it took to pass; not what was only remembered."""
    story = a_queue("unit")
    story.verify("a", "failed", duration_s=9.0)
    story.verify("a", duration_s=3.0)
    assert story.run.suites_seen == {"unit": SuiteCount(ran=2, flaked=1, longest_s=3.0)}
    story = a_queue("unit")
    command = story.sole(m.Verify)
    passed = SuiteResult("unit", "passed", remembered=True)
    story.send(m.Verified(**story.where(command), candidate=command.candidate, suites=(passed,)))
    assert story.run.suites_seen == {}


def test_one_flake_is_chance_and_one_in_twenty_is_not() -> None:
    """A suite is called flaky above one flake in twenty runs; a single one says nothing."""
    assert not is_flaky(SuiteCount(ran=2, flaked=1))
    assert is_flaky(SuiteCount(ran=20, flaked=2))
    assert not is_flaky(SuiteCount(ran=40, flaked=2))

"""What the verdicts on candidates mean: red once and red for good, flakes, suites whose time was over."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import Limits, Step, SuiteCount, SuiteResult
from swarm.core.state import IllegalEvent, StaleEvent, pending_commands
from swarm.core.train import is_flaky
from tests.builders import BASE, a_plan, a_task
from tests.stories import Story, a_story, snapshot

AGAIN = Limits(ramp_per_s=1000.0)


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
    assert not story.has(cmd.Verify)
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
    verify = story.sole(cmd.Verify)
    story.send(m.Verified(**story.where(verify), candidate=verify.candidate, suites=()))
    assert [suite.name for suite in story.verify("a").suites] == ["unit", "lint"]
    assert story.has(cmd.Advance)


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
    second = story.sole(cmd.Verify)
    story.send(
        m.Verified(**story.where(second), candidate=second.candidate, again=True, trouble="the disk is full")
    )
    story.wait(30.0)
    assert story.sole(cmd.Verify) == second
    assert story.task("a").attempts[-1].step == "verifying"


def test_an_answer_of_the_first_time_is_none_of_the_second() -> None:
    """What was said the first time is refused the second time and changes nothing."""
    story = a_queue("unit")
    first = story.verify("a", "failed")
    before = snapshot(story.swarm)
    with pytest.raises(StaleEvent):
        story.send(m.Verified(**story.where(first), candidate=first.candidate))
    assert snapshot(story.swarm) == before
    assert story.sole(cmd.Verify) == next(
        c for c in pending_commands(story.swarm) if isinstance(c, cmd.Verify)
    )


def test_a_candidate_that_is_made_anew_begins_at_the_first_time() -> None:
    """When staging moved, the new candidate is verified from the start, whatever the old one's suites said."""
    story = a_queue("unit")
    story.verify("a", "failed")
    story.verify("a")
    story.moved("theirs")
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
    command = story.sole(cmd.Verify)
    passed = SuiteResult("unit", "passed", remembered=True)
    story.send(m.Verified(**story.where(command), candidate=command.candidate, suites=(passed,)))
    assert story.run.suites_seen == {}


def test_one_flake_is_chance_and_one_in_twenty_is_not() -> None:
    """A suite is called flaky above one flake in twenty runs; a single one says nothing."""
    assert not is_flaky(SuiteCount(ran=2, flaked=1))
    assert is_flaky(SuiteCount(ran=20, flaked=2))
    assert not is_flaky(SuiteCount(ran=40, flaked=2))


# --- several candidates at once

TRAIN = Limits(workers_max=12, ramp_per_s=1000.0, verify_slots=2)


def a_train(
    *names: str, slots: int = 2, merged: int | None = None, suites: Sequence[str] = ("make",)
) -> Story:
    """Tasks that have all come to the merge queue, as many of them merged behind each other as slots allow."""
    limits = dataclasses.replace(TRAIN, verify_slots=slots)
    story = a_story(a_plan(*(a_task(name, verify=suites, attempts=1) for name in names)), bench=Story(limits))
    for name in names:
        story.work(name)
        if name in names[: slots if merged is None else merged]:
            story.merge(name)
    assert invariants(story.swarm) == []
    return story


def candidate(story: Story, name: str) -> str:
    found = story.attempt(name).candidate
    assert found is not None
    return found


def merging(story: Story) -> list[str]:
    """The tasks whose merge is outstanding."""
    return [command.task for command in story.commands if isinstance(command, cmd.Merge)]


def test_each_candidate_is_made_from_the_one_ahead() -> None:
    """With two slots two candidates are verified at once, the second made from the first; a third waits for a slot."""
    story = a_train("a", "b", "c")
    assert story.attempt("b").onto == candidate(story, "a")
    assert [c.task for c in story.commands if isinstance(c, cmd.Verify)] == ["a", "b"]
    assert story.attempt("c").step is Step.WAITING


def test_green_behind_one_that_is_verified_waits() -> None:
    """A green candidate does not move staging before all ahead of it have; then it does at once, as it was verified."""
    story = a_train("a", "b")
    story.verify("b")
    assert not story.has(cmd.Advance)
    second = candidate(story, "b")
    story.verify("a")
    first = story.advance("a")
    advance = story.sole(cmd.Advance)
    assert (advance.task, advance.old, advance.new) == ("b", first, second)


def test_a_slot_that_is_free_goes_to_the_next() -> None:
    """While a green one waits its slot is free: the next is merged behind it, as far as the window allows."""
    story = a_train("a", "b", "c", "d")
    story.verify("b")
    assert not story.has(cmd.Merge)  # the window is as wide as there are slots
    story.verify("a")
    story.advance("a")
    assert [(c.task, c.onto) for c in story.commands if isinstance(c, cmd.Merge)] == [
        ("c", candidate(story, "b"))
    ]


def test_red_behind_others_is_judged_when_they_have_landed() -> None:
    """A candidate that is red twice is not judged before those ahead of it have landed; then it is looked for which of them it is
    red with."""
    story = a_train("a", "b")
    story.verify("b", "failed")
    story.verify("b", "failed")
    assert (story.state("b"), story.attempt("b").step) == ("landing", Step.VERIFIED)
    story.verify("a")
    story.advance("a")
    assert (story.run.landing, story.run.searching) == ([], ["b"])


def test_red_because_of_one_ahead_is_forgotten() -> None:
    """What was red behind a candidate that is sent back is merged anew without it, and lands when it is green then."""
    story = a_train("a", "b")
    for name in "ba":
        story.verify(name, "failed")
        story.verify(name, "failed")
    assert (story.state("a"), story.state("b")) == ("failed", "landing")
    assert [(c.task, c.onto) for c in story.commands if isinstance(c, cmd.Merge)] == [("b", BASE)]
    story.merge("b")
    assert not story.verify("b").again
    story.advance("b")
    story.publish()
    assert story.state("b") == "landed"


def test_what_stands_on_red_is_merged_anew_onto_the_one_ahead_of_it() -> None:
    """Once a candidate is red twice, those behind it are made from the one ahead of it, and their suites end."""
    story = a_train("a", "b", "c", slots=3)
    story.verify("b", "failed")
    story.verify("b", "failed")
    assert ("plan", "c", 1) in story.turn.dropped
    assert [(c.task, c.onto) for c in story.commands if isinstance(c, cmd.Merge)] == [
        ("c", candidate(story, "a"))
    ]
    story.merge("c")
    third = candidate(story, "c")
    story.take(cmd.Verify, "c")
    story.verify("a")
    story.advance("a")
    assert story.run.searching == ["b"]
    assert (story.attempt("c").step, story.attempt("c").candidate) == (Step.VERIFYING, third)


def test_the_window_grows_by_landings_and_halves_by_red() -> None:
    """As many as there are slots at first, one more for each landing up to twice that, half for each that is sent back."""
    names = [f"t{n}" for n in range(9)]
    story = a_train(*names, slots=2)
    for name in names[:4]:
        story.verify(name)
        story.advance(name)
        for each in merging(story):
            story.merge(each)
    assert story.run.window == 4
    story.verify(names[4], "failed")
    story.verify(names[4], "failed")
    assert story.run.window == 2


def test_a_conflict_with_one_ahead_is_nobodys_fault() -> None:
    """A conflict with a candidate that has not landed waits until that has, and counts only when it is there then."""
    story = a_train("a", "b", "c", merged=1)
    story.conflict("b")
    assert (story.state("b"), story.attempt("b").step) == ("queued", Step.WAITING)
    assert [(c.task, c.onto) for c in story.commands if isinstance(c, cmd.Merge)] == [
        ("c", candidate(story, "a"))
    ]
    story.merge("c")
    story.verify("a")
    story.advance("a")
    assert [(c.task, c.onto) for c in story.commands if isinstance(c, cmd.Merge)] == [
        ("b", candidate(story, "c"))
    ]
    story.merge("b")
    assert story.state("b") == "landing"


def test_a_conflict_with_what_has_landed_counts() -> None:
    """When the one ahead has landed and the conflict is still there, the task is told of it."""
    story = a_train("a", "b", merged=1)
    story.conflict("b")
    story.verify("a")
    story.advance("a")
    story.conflict("b", "src/x")
    assert story.told("TaskHandedBack")[-1].data["paths"] == ["src/x"]


def test_nobody_is_passed_by_for_ever() -> None:
    """One that conflicts with candidates ahead is passed by at most twice as often as there are slots; then it is merged when
    those ahead have landed, before all others."""
    names = [f"t{n}" for n in range(12)]
    story = a_train(*names, merged=1)
    story.conflict("t1")
    passed: list[str] = []
    for _ in range(9):
        while names := merging(story):
            if names == ["t1"] and story.attempt("t1").onto == story.run.staging:
                assert len(passed) == 4
                return
            for name in names:
                if name == "t1":
                    story.conflict(name)
                else:
                    passed.append(name)
                    story.merge(name)
        first = story.run.landing[0]
        story.verify(first)
        story.advance(first)
    raise AssertionError(f"{passed} passed it by")


def test_staging_that_moved_makes_the_whole_train_anew() -> None:
    """When staging is not where the first was made from, all are merged anew behind it."""
    story = a_train("a", "b")
    story.verify("a")
    story.moved("theirs")
    assert [(c.task, c.onto) for c in story.commands if isinstance(c, cmd.Merge)] == [("a", "theirs")]
    assert story.attempt("b").step is Step.WAITING
    story.merge("a")
    assert [(c.task, c.onto) for c in story.commands if isinstance(c, cmd.Merge)] == [
        ("b", candidate(story, "a"))
    ]


def test_one_that_is_cancelled_takes_those_behind_it_off() -> None:
    """What stands on a candidate that was cancelled is merged anew without it, and both verifications end."""
    story = a_train("a", "b")
    turn = story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("a",)))
    assert turn.dropped == [("plan", "a", 1), ("plan", "b", 1)]
    assert [(c.task, c.onto) for c in story.commands if isinstance(c, cmd.Merge)] == [("b", BASE)]


def test_an_undo_goes_before_the_train() -> None:
    """What goes before all others is merged onto staging at once; the train is made anew behind it."""
    story = a_story(a_plan(*(a_task(name, verify=["make"]) for name in "xab")), bench=Story(TRAIN))
    story.land("x")
    for name in "ab":
        story.work(name)
        story.merge(name)
    turn = story.send(m.UndoRequested(at=story.now, run="plan", task="x"))
    assert turn.dropped == [("plan", "a", 1), ("plan", "b", 1)]
    assert (story.run.landing, list(story.run.queue)) == (["x"], ["a", "b"])
    assert story.sole(cmd.Revert).onto == story.run.staging


def test_a_person_lets_one_land_first() -> None:
    """A task that a person wants first is merged onto staging at once, wherever it was; all others are made anew behind it."""
    for wanted in "bc":
        story = a_train("a", "b", "c")
        turn = story.send(m.FirstAsked(at=story.now, run="plan", tasks=(wanted,)))
        assert set(turn.dropped) == {("plan", "a", 1), ("plan", "b", 1)}
        assert story.run.landing == [wanted]
        assert list(story.run.queue) == [name for name in "abc" if name != wanted]
        assert [c.onto for c in story.commands if isinstance(c, cmd.Merge)] == [BASE]


def test_with_one_slot_what_is_verified_is_not_interrupted() -> None:
    """With one slot the one that is verified goes on, and the one that a person wants first comes next."""
    story = a_train("a", "b", "c", slots=1)
    turn = story.send(m.FirstAsked(at=story.now, run="plan", tasks=("c",)))
    assert (turn.dropped, story.run.landing, list(story.run.queue)) == ([], ["a"], ["c", "b"])


def test_only_what_waits_in_the_merge_queue_goes_first() -> None:
    """What moves staging already, or is not finished, can't be put first, and nothing changes."""
    story = a_train("a", "b")
    story.verify("a")
    for name in ("a", "nobody"):
        before = snapshot(story.swarm)
        with pytest.raises(IllegalEvent):
            story.send(m.FirstAsked(at=story.now, run="plan", tasks=("b", name)))
        assert snapshot(story.swarm) == before


def test_nothing_is_built_ahead_of_what_is_not_verified() -> None:
    """Where nothing is to pass, landings go one after the other as ever."""
    story = a_story(a_plan(a_task("a"), a_task("b")), bench=Story(TRAIN))
    story.work("a")
    story.work("b")
    story.merge("a")
    assert [type(c) for c in story.commands] == [cmd.Advance]


def test_verification_takes_the_room_of_a_worker() -> None:
    """A second candidate is verified only where the machine has room for one worker more, and goes before a worker that waits."""
    tasks = [a_task(name, verify=["make"]) for name in "abc"]
    story = a_story(
        a_plan(*tasks), bench=Story(dataclasses.replace(TRAIN, workers_max=2))
    )  # a and b work, c waits
    story.work("a")  # c starts
    story.merge("a")
    story.work("b")
    assert story.at_work() == ["c"]
    assert story.has(cmd.Merge, "b")
    story = a_story(a_plan(*tasks), bench=Story(dataclasses.replace(TRAIN, workers_max=1)))
    story.work("a")
    story.merge("a")
    story.work("b")  # c starts in the room that b leaves, before b is brought in
    assert story.at_work() == ["c"]
    assert not story.has(cmd.Merge, "b")
    story.up("c")
    story.exit("c")
    assert story.has(cmd.Merge, "b")


def test_a_daemon_that_begins_on_a_busy_machine_looks_at_it_before_it_waits_for_room() -> None:
    """With a candidate that waits for the room of a worker, a new daemon reads the machine first, so that a task that becomes ready
    meanwhile is decided about."""
    tasks = [a_task(name, verify=["make"], attempts=2) for name in "abf"]
    limits = dataclasses.replace(TRAIN, workers_max=3)
    story = a_story(a_plan(*tasks), bench=Story(limits))
    story.work("a")
    story.merge("a")
    story.up("b", "f")
    story.exit("b")
    story.collect("b")
    story.swarm.step_of_ladder = 1  # the machine became busy
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "b"))))
    assert not story.has(cmd.Merge, "b")
    story.take(cmd.MeasureHost)
    story.send(m.DaemonStarted(at=story.now, version="next", pid=2, limits=limits, rules=m.RULES))
    story.exit("f", code=1)
    story.collect("f")
    assert story.attempt("f").n == 2
    assert story.state("f") == "running"


def test_the_first_of_each_run_waits_for_a_slot_too() -> None:
    """Slots are those of all runs: what is first in its own run is made when one is free, before what comes behind others."""
    story = a_train("a", "b", slots=2)
    story.submit(a_plan(a_task("x", verify=["make"]), a_task("y", verify=["make"]), name="other"))
    story.work("x")
    story.work("y")
    assert [c.task for c in story.commands if isinstance(c, cmd.Verify)] == ["a", "b"]
    assert not story.has(cmd.Merge)
    story.verify("b")
    assert [c.task for c in story.commands if isinstance(c, cmd.Merge)] == ["x"]
    story.merge("x")
    story.verify("a")
    assert [c.task for c in story.commands if isinstance(c, cmd.Merge)] == ["y"]


# --- who goes first among those that wait


def in_line(*priorities: int) -> list[str]:
    """The order in which tasks of these priorities wait, that come in this order while another is verified."""
    names = [f"t{n}" for n in range(len(priorities))]
    tasks = [a_task(name, verify=["make"], priority=p) for name, p in zip(names, priorities, strict=True)]
    limits = dataclasses.replace(TRAIN, workers_max=40, verify_slots=1)
    story = a_story(a_plan(a_task("now", verify=["make"], priority=99), *tasks), bench=Story(limits))
    story.up("now", *names)
    for name in ("now", *names):
        story.exit(name)
        story.collect(name, brought_in=True)
    assert story.run.landing == ["now"]
    assert invariants(story.swarm) == []
    return list(story.run.queue)


def test_finished_work_of_a_higher_priority_lands_first() -> None:
    """Of those that wait in the merge queue the one of higher priority goes first, else who came first; what is verified is not
    interrupted."""
    assert in_line(0, 5, 0, 7, -3) == ["t3", "t1", "t0", "t2", "t4"]


def test_nobody_of_low_priority_waits_for_ever() -> None:
    """Each point of priority is worth four places: who comes later than that goes behind."""
    assert in_line(0, *[1] * 8) == ["t1", "t2", "t3", "t0", "t4", "t5", "t6", "t7", "t8"]


def test_the_highest_priority_still_goes_behind_what_goes_before_all_others() -> None:
    """However high, a priority is no undo and no wish of a person's."""
    story = a_story(
        a_plan(
            *(a_task(name, verify=["make"], priority=p) for name, p in (("a", 0), ("b", 0), ("c", 10**6)))
        ),
        bench=Story(dataclasses.replace(TRAIN, verify_slots=1)),
    )
    for name in ("a", "b", "c"):
        story.work(name)
    story.send(m.FirstAsked(at=story.now, run="plan", tasks=("b",)))
    assert next(iter(story.run.queue)) == "b"

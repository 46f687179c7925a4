"""Whether what staging stands at has passed the suites that are in force now: also after a batch, an undo, or a rebuilt journal."""

from __future__ import annotations

import dataclasses

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import FoundLanding, FoundRun, Limits, Suite
from swarm.core.state import pending_commands
from tests.builders import BASE, a_plan, a_task
from tests.stories import Story, a_story
from tests.unit.test_undoing import undo

BATCHES = Limits(workers_max=12, ramp_per_s=1000.0, batches=True)


def asks_for(story: Story, *suites: str) -> bool:
    """The plan comes again with these suites; tells whether staging has passed them."""
    story.submit(a_plan(*(task.spec for task in story.run.tasks.values()), verify=suites))
    return story.run.has_passed(story.run.published)


def test_what_came_after_a_landing_has_not_passed_on_it() -> None:
    """A suite counts that the landing had to pass and passed, whoever asked for it; one that was given later has not passed, nor
    has a command that is called like one that did. An unmoved staging has passed nothing."""
    story = a_story(a_plan(a_task("a", verify=["own"]), verify=["make"]))
    assert not story.run.has_passed(BASE)
    story.land("a")
    assert story.run.has_passed(story.run.published)
    assert asks_for(story, "make", "own")
    assert not asks_for(story, "make", "late")
    assert asks_for(story)
    story.run.plan = dataclasses.replace(story.run.plan, verify=(Suite(name="make", run="make more"),))
    assert not story.run.has_passed(story.run.published)


@pytest.mark.parametrize(("ran", "passed"), [(("make", "late"), True), (("make",), False), ((), False)])
def test_what_a_finish_ran_on_staging_has_passed_there(ran: tuple[str, ...], passed: bool) -> None:
    """Until staging moves on, or a suite comes that did not run."""
    story = a_story(a_plan(a_task("a"), a_task("b"), verify=["make"]))
    story.land("a")
    story.submit(a_plan(*(task.spec for task in story.run.tasks.values()), verify=["make", "late"]))
    staging = story.run.published
    story.send(m.FinishRequested(at=story.now, run="plan", request="1", target="main", commit=staging))
    assert not story.run.has_passed(staging)
    story.send(m.Finished(at=story.now, run="plan", request="1", target="main", commit=staging, suites=ran))
    assert story.run.has_passed(staging) is passed
    assert not asks_for(story, "make", "late", "later")
    assert asks_for(story, "make", "late") is passed
    story.land("b")
    assert story.run.published != staging
    assert story.run.has_passed(story.run.published)  # by its own landing


def test_what_ran_under_no_suite_has_passed_none() -> None:
    """What landed unverified is not verified by that no suite is asked for."""
    story = a_story(a_plan(a_task("a")))
    story.land("a")
    assert not story.run.has_passed(story.run.published)


def test_a_flake_has_passed() -> None:
    """A suite that was red and green on the same commit has passed there, each suite by its own outcome."""
    story = a_story(a_plan(a_task("a"), verify=["make", "flaky"]))
    story.work("a")
    story.merge("a")
    story.verify("a", "passed", "failed")
    story.verify("a")
    story.advance("a")
    story.publish()
    assert asks_for(story, "make", "flaky")
    assert asks_for(story, "flaky")


def in_a_batch(*names: str, verify: tuple[str, ...] = ("make",)) -> Story:
    """These have landed together behind one that landed by itself, each with a suite of its own."""
    tasks = [a_task(name, verify=[f"own-{name}"]) for name in ("first", *names)]
    story = a_story(a_plan(*tasks, verify=verify), bench=Story(BATCHES))
    story.run.red_share = 0.04
    for name in ("first", *names):
        story.work(name)
    story.merge("first")
    story.verify("first")
    story.advance("first")
    story.publish()
    for name in names:
        story.merge(name)
    story.verify(names[-1])
    story.advance(names[-1])
    story.publish()
    assert [name for name, _ in story.run.landed] == ["first", *names]
    return story


def test_a_batch_has_passed_where_its_last_candidate_did() -> None:
    """The last of a batch passed the suites of all of it; where staging never stood nothing has passed by itself."""
    story = in_a_batch("a", "b", "c")
    commits = dict(story.run.landed)
    assert story.run.published == commits["c"]
    assert [story.run.has_passed(commits[name]) for name in ("first", "a", "b", "c")] == [
        True,
        False,
        False,
        True,
    ]
    assert asks_for(story, "make", "own-a", "own-b", "own-c")
    assert not asks_for(story, "own-first")


def test_an_undo_has_passed_what_the_plan_asked_for_then() -> None:
    """The commit of an undo is verified by the plan's suites and not by those of what it takes off; what it took off stood
    nowhere."""
    story = a_story(a_plan(a_task("a", verify=["own-a"]), a_task("b", verify=["own-b"]), verify=["make"]))
    story.land("a", "b")
    before = story.run.published
    assert undo(story, "b") == story.run.published
    assert asks_for(story, "make")
    assert not story.run.has_passed(before)
    assert story.run.has_passed(dict(story.run.landed)["a"])
    assert not asks_for(story, "make", "own-b")
    assert not asks_for(story, "make", "own-a")


def test_an_undo_within_a_batch() -> None:
    """One of a batch that is undone leaves a commit that passed by itself, of the plan's suites."""
    story = in_a_batch("a", "b", "c")
    undo(story, "b")
    assert asks_for(story, "make")
    assert not asks_for(story, "make", "own-c")


def test_an_undo_of_a_plan_without_suites_has_passed_nothing() -> None:
    """Where the plan has no suites an undo ran under none, and counts as unverified, whatever the tasks have of their own."""
    story = a_story(a_plan(a_task("a", verify=["own-a"]), a_task("b", verify=["own-b"])))
    story.land("a", "b")
    assert story.run.has_passed(story.run.published)
    undo(story, "b")
    assert not story.run.has_passed(story.run.published)


def found(story: Story, *landings: FoundLanding) -> None:
    """The journal is rebuilt, and what is on staging beyond its end is published."""
    run = FoundRun("plan", BASE, landings[-1].commit, landings)
    story.send(m.JournalRebuilt(at=story.now, runs=(run,), publish_first=True, by_hand_anew=True))
    story.commands = pending_commands(story.swarm)
    if story.take(cmd.PrepareRun):
        story.send(m.RunPrepared(at=story.now, run="plan", commit=BASE, worktree="/staging"))
    story.publish()
    assert invariants(story.swarm) == []
    assert story.run.published == landings[-1].commit


def a_landing(task: str, *verified: str, undoes: tuple[str, ...] = ()) -> FoundLanding:
    head = "" if undoes else "d" * 40
    return FoundLanding(task, 0 if undoes else 1, "", "c" * 40, head, verified, undoes)


@pytest.mark.parametrize("known", ["not at all", "by its plan", "verified otherwise", "verified so"])
def test_a_landing_that_was_found_again_has_passed_what_it_says(known: str) -> None:
    """Its commit names what it has passed, whatever it had to pass by what is left of the journal: other suites may have come."""
    story = Story()
    plan = a_plan(a_task("a"), verify=["make", "unit"] if known == "verified so" else ["make", "lint"])
    if known != "not at all":
        story.submit(plan)
    if known.startswith("verified"):
        story.work("a")
        story.merge("a")
        story.verify("a")  # and what came of it is lost, as is that other suites were asked for
    found(story, a_landing("a", "make", "unit"))
    if known == "not at all":
        story.submit(plan)
    assert story.run.has_passed("c" * 40) is (known == "verified so")
    assert asks_for(story, "unit", "make")
    assert not asks_for(story, "make", "late")


def test_a_landing_that_was_found_again_and_names_none() -> None:
    """What landed unverified is not verified by being found."""
    story = a_story(a_plan(a_task("a")))
    found(story, a_landing("a"))
    assert not story.run.has_passed("c" * 40)


def test_an_undo_that_was_found_again_has_passed_what_it_says() -> None:
    """As with a landing; the landing that it took off stood where staging does not stand any more."""
    story = a_story(a_plan(a_task("a"), verify=["make"]))
    story.land("a")
    before = story.run.published
    found(story, a_landing("a", "make", undoes=("a",)))
    assert story.state("a") == "cancelled"
    assert story.run.has_passed("c" * 40)
    assert not story.run.has_passed(before)
    assert not asks_for(story, "make", "lint")


def test_what_lands_after_a_rebuilding_counts_as_ever() -> None:
    """A landing behind those that were found is judged by what it passed itself."""
    story = a_story(a_plan(a_task("a"), a_task("b"), verify=["make"]))
    found(story, a_landing("a", "make"))
    assert story.run.has_passed("c" * 40)
    story.land("b")
    assert asks_for(story, "make")
    assert not asks_for(story, "make", "late")

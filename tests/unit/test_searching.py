"""What work that is red on staging is red together with: found out before it is handed back, told, and never guessed."""

from __future__ import annotations

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import Limits, Step
from swarm.core.state import IllegalEvent, pending_commands
from tests.builders import BASE, a_plan, a_task
from tests.stories import Story, a_story

NAMING = Limits(workers_max=12, ramp_per_s=1000.0)


def red_after(*landed: str, attempts: int = 2, limits: Limits = NAMING) -> Story:
    """Task `x`, red twice on staging, on which these have landed since it began."""
    names = (*landed, "x")
    story = a_story(
        a_plan(*(a_task(name, verify=["unit", "lint"], attempts=attempts) for name in names)),
        bench=Story(limits),
    )
    for name in names:
        story.work(name)
        story.merge(name)
        if name != "x":
            story.verify(name)
            story.advance(name)
            story.publish()
    for _ in range(2):
        command = story.sole(cmd.Verify)
        story.commands.append(command)
        story.verify("x", *(["failed"] if command.again else ["failed", "passed"]), tail="E  together")
    assert invariants(story.swarm) == []
    return story


def probe(story: Story, *outcomes: str) -> cmd.Verify:
    """Answers one probe: the merge that it begins with, if any, and its verdicts."""
    if story.has(cmd.Merge, "x"):
        story.merge("x")
    first = story.verify("x", outcomes[0])
    for outcome in outcomes[1:]:
        assert story.verify("x", outcome).candidate == first.candidate
    assert invariants(story.swarm) == []
    return first


def test_two_that_are_green_alone_and_red_together_are_both_named() -> None:
    """Work that passes where it began and fails on the one landing since then is handed back with that landing's name; the landing
    stays. It is the suite that was red that is asked, and the work's own commit."""
    story = red_after("a")
    asked = probe(story, "passed")
    assert (asked.candidate, [suite.name for suite in asked.suites]) == (
        story.task("x").attempts[0].head,
        ["unit"],
    )
    (back,) = story.told("TaskHandedBack")
    assert (back.task, back.data["partners"], back.data["partner_commits"]) == (
        "x",
        ["a"],
        [story.task("a").landed_commit],
    )
    assert "red only in combination: it passes without a" in back.data["text"]
    assert story.states() == {"a": "landed", "x": "running"}


def test_the_next_attempt_is_told_of_the_partner_and_of_what_failed() -> None:
    """What the worker reads has the partner, how to see what it changed, and the output of the run on staging."""
    story = red_after("a")
    probe(story, "passed")
    (told,) = story.task("x").feedback
    landing = story.task("a").landed_commit
    assert f"What a changed: git diff {landing}^1 {landing}" in told
    assert "E  together" in told


def test_what_is_red_where_it_began_is_at_fault_itself() -> None:
    """Red on its own base too, once, work is handed back without another's name."""
    story = red_after("a", "b")
    probe(story, "failed")
    (back,) = story.told("TaskHandedBack")
    assert "partners" not in back.data
    assert back.data["text"] == "verification did not pass, twice on the same commit: unit (failed)"


def test_the_landing_with_which_it_breaks_is_found_by_halves() -> None:
    """Of several landings the one is named with which the work fails first; what is red on the way runs once more."""
    story = red_after(*"abcd")
    probe(story, "passed")
    onto = [story.task(name).landed_commit for name in "abcd"]
    assert story.attempt("x").onto == onto[1]
    probe(story, "passed")
    assert story.attempt("x").onto == onto[2]
    probe(story, "failed", "failed")
    (back,) = story.told("TaskHandedBack")
    assert back.data["partners"] == ["c"]


def test_a_flake_on_the_way_accuses_nobody() -> None:
    """What is red and then green on the way is green."""
    story = red_after("a", "b")
    probe(story, "passed")
    probe(story, "failed", "passed")
    assert story.told("TaskHandedBack")[0].data["partners"] == ["b"]
    assert story.told("SuiteFlaked")


def test_a_conflict_on_the_way_ends_the_search_with_what_is_known() -> None:
    """Where the work does not merge onto a landing on the way, all are named between which it can't be told."""
    story = red_after(*"abc")
    probe(story, "passed")
    story.conflict("x")
    (back,) = story.told("TaskHandedBack")
    assert back.data["code"] == "verify_failed"
    assert back.data["partners"] == ["a", "b", "c"]
    assert "one of what has landed since: a, b, c" in back.data["text"]


def test_a_task_without_another_attempt_fails_with_the_partner() -> None:
    """The partner is found out also where the task gets no other attempt."""
    story = red_after("a", attempts=1)
    probe(story, "passed")
    assert story.states() == {"a": "landed", "x": "failed"}
    assert story.told("TaskFailed")[0].data["partners"] == ["a"]


def test_where_nothing_has_landed_meanwhile_nothing_is_asked() -> None:
    """Red on the very commit that it began at, work is handed back at once."""
    story = red_after()
    assert (story.state("x"), story.has(cmd.Verify)) == ("running", False)


def test_a_suite_that_was_too_slow_is_not_asked_again() -> None:
    """A time that was over says nothing about others and would cost as much again."""
    story = a_story(a_plan(a_task("a"), a_task("x", verify=["unit"])), bench=Story(NAMING))
    story.land("a")
    story.work("x")
    story.merge("x")
    story.verify("x", "timeout")
    story.verify("x", "timeout")
    assert story.told("TaskHandedBack")[0].data["code"] == "timeout"


def test_a_search_keeps_the_claims_and_holds_up_no_landing() -> None:
    """While it goes on the claims are kept; with one slot the first of the queue goes before it, but not for ever."""
    names = [f"t{n}" for n in range(5)]
    tasks = [a_task(name, verify=["unit"], claims=[name]) for name in ("a", "x", *names)]
    story = a_story(a_plan(*tasks, a_task("later", claims=["x"])), bench=Story(NAMING))
    story.work("a")
    story.merge("a")
    for name in ("x", *names):
        story.work(name)
    story.verify("a")
    story.advance("a")
    story.publish()
    story.merge("x")
    story.verify("x", "failed")
    story.verify("x", "failed")
    assert story.parked()["later"] == ("x", "x")
    for name in names[:2]:  # as many as twice the slots
        assert story.attempt("x").step is Step.VERIFIED
        story.merge(name)
        story.verify(name)
        story.advance(name)
        story.publish()
    assert not story.has(cmd.Merge)
    assert story.sole(cmd.Verify).task == "x"
    assert invariants(story.swarm) == []


def test_what_is_searched_for_is_asked_for_again_after_a_crash() -> None:
    """At each step of a search its command follows from the state alone."""
    story = red_after(*"abc")
    for expected in (cmd.Verify, cmd.Merge):
        (command,) = [c for c in pending_commands(story.swarm) if getattr(c, "task", "") == "x"]
        assert isinstance(command, expected)
        if expected is cmd.Verify:
            probe(story, "passed")


def test_a_search_ends_with_its_task() -> None:
    """Cancelled, the verification of a probe ends and the task with it; put first it can't be."""
    story = red_after("a")
    with pytest.raises(IllegalEvent):
        story.send(m.FirstAsked(at=story.now, run="plan", tasks=("x",)))
    turn = story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("x",)))
    assert turn.dropped == [("plan", "x", 1)]
    assert (story.state("x"), story.run.searching) == ("cancelled", [])
    assert invariants(story.swarm) == []


def test_a_probe_that_can_not_be_carried_out_is_given_up() -> None:
    """A search that meets the same trouble again and again ends with what is known."""
    story = red_after("a")
    for _ in range(NAMING.infra_max + 1):
        command = story.sole(cmd.Verify)
        story.send(m.CommandFailed(**story.where(command), command="Verify", text="no scratch worktree"))
        story.wait(60.0)
    assert story.told("TaskHandedBack")[0].data["code"] == "verify_failed"
    assert story.run.staging != BASE


# --- slots


def test_the_first_of_another_run_waits_for_a_slot() -> None:
    """No more is verified at once than there are slots, of all runs together; the run that has waited longest comes first, and one
    with nothing to verify waits for nobody."""
    story = a_story(a_plan(a_task("a", verify=["unit"]), name="one"), bench=Story(NAMING))
    story.submit(a_plan(a_task("b", verify=["unit"]), name="two"))
    story.submit(a_plan(a_task("c"), name="three"))
    for name in "abc":
        story.work(name)
    story.merge("a")
    assert not story.has(cmd.Merge, "b")
    assert story.has(cmd.Merge, "c")
    story.verify("a")
    assert story.has(cmd.Merge, "b")

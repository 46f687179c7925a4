"""The way from a goal to work that is ready: research, plan, approval, builders, QA, and what stops it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from swarm.core import building, report
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.goal import FINDINGS, Goal, digest
from swarm.core.invariants import invariants
from swarm.core.model import Limits, PlanSpec, TaskSpec, WorkerResult
from swarm.core.state import IllegalEvent
from swarm.daemon import meant
from tests.builders import a_plan, a_task, submitted
from tests.stories import Story, a_story, snapshot
from tests.unit.test_undoing import undo

ARCHITECT = TaskSpec(
    id="architect", title="Plan: it", run="plan", role="architect", attempts=3, allow_empty=True
)
REVIEWER = TaskSpec(id="review", title="review", run="look", role="reviewer")
TEXT = "the plan"


def a_scout(name: str) -> TaskSpec:
    return dataclasses.replace(
        a_task(name, allow_empty=True, attempts=1), role="scout", answer=FINDINGS, prompt="look"
    )


def begun(*, scouts: int = 2, **more: Any) -> Story:
    goal = Goal("make it", **{"architect": ARCHITECT, **more})
    return a_story(a_plan(*(a_scout(f"scout-{n}") for n in range(1, scouts + 1))), goal=goal)


def stage(story: Story) -> str:
    assert invariants(story.swarm) == []
    return building.stage(story.run)


def answer(story: Story, task: str, text: str = "found", plan: PlanSpec | None = None, **left: Any) -> None:
    story.up(task)
    story.exit(task)
    story.collect(task, **{"touched": (), **left}, answer=text, plan=plan)


def land(story: Story, task: str, result: WorkerResult | None = None, **left: Any) -> None:
    story.exit(task, result=result)
    story.collect(task, **left)
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, task))))
    story.merge(task)
    story.verify(task)
    story.advance(task)
    story.publish()


def planned(story: Story, *tasks: TaskSpec) -> Story:
    for name in list(story.run.tasks):
        answer(story, name)
    answer(story, "architect", TEXT, a_plan(*(tasks or (a_task("a"), a_task("b"))), name="other"))
    return story


def approve(story: Story, plan: PlanSpec, *, build: bool = False) -> None:
    story.send(m.ApprovalGiven(at=story.now, run="plan", plan=plan, digest="d", build=build))
    story.measure()


def test_the_whole_way_without_a_question() -> None:
    """Scouts look at once, the architect is told what they found, the plan that was approved of beforehand is built at the width of
    its size, reviewed, and then all is ready; nothing of the research lands."""
    story = begun(builds=True, approved=True, reviewer=REVIEWER, rounds_max=2)
    assert (stage(story), story.at_work()) == ("researching", ["scout-1", "scout-2"])
    answer(story, "scout-1", "it is in a.py")
    assert story.state("scout-1") == "answered"
    answer(story, "scout-2")
    assert stage(story) == "planning"
    assert "it is in a.py" in story.task("architect").spec.prompt
    answer(story, "architect", TEXT, a_plan(*(a_task(name) for name in "abc"), name="other", verify=["make"]))
    assert (stage(story), story.at_work()) == ("building", ["a", "b"])
    waits = report.status(story.swarm, report.Live(True))["runs"][0]["tasks"][-1]["reason"]
    assert waits["code"] == "width"
    assert [suite.run for suite in story.run.plan.verify] == ["make"]
    story.up("a", "b")
    story.wait(1.0)
    for name in ("a", "b"):
        land(story, name)
    story.wait(1.0)
    story.land("c")
    assert stage(story) == "reviewing"
    story.up("qa-1")
    land(story, "qa-1", WorkerResult(verdict="approve"), touched=())
    assert stage(story) == "ready"
    assert [name for name, _ in story.run.landed] == ["a", "b", "c", "qa-1"]
    assert len(story.told("BuildReady")) == 1
    assert story.told("PlanDrafted")[0].data["code"] == "approved"  # nobody is told to approve of it
    found = report.status(story.swarm, report.Live())["runs"][0]
    assert (found["mode"], found["width"]) == ("parallel", 2)


def test_what_was_taken_off_again_is_not_ready() -> None:
    """After an undo something is missing; once it has landed anew, nobody has approved of staging as it then is; a new review
    does."""
    story = planned(begun(reviewer=REVIEWER))
    approve(story, a_plan(a_task("a"), a_task("b"), verify=["make"]), build=True)
    story.land("a", "b")
    story.up("qa-1")
    land(story, "qa-1", WorkerResult(verdict="approve"), touched=())
    assert stage(story) == "ready"
    undo(story, "b")
    assert (stage(story), meant.to_retry(story.run)) == ("stopped", ["b"])
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("b",)))
    assert stage(story) == "building"
    story.land("b")
    assert stage(story) == "stopped"
    story.send(m.QaRequested(at=story.now, run="plan", reviewer=REVIEWER, fixer=None, rounds_max=1))
    assert stage(story) == "reviewing"
    (review,) = story.at_work()
    story.up(review)
    land(story, review, WorkerResult(verdict="approve"), touched=())
    assert stage(story) == "ready"


def test_an_approval_is_waited_for_and_names_what_it_is_of() -> None:
    """A plan waits until a person approves of it, as it was or edited; it is built when that is asked for, and not twice."""
    story = planned(begun())
    assert (stage(story), report.run_state(story.run)) == ("approval", "waiting")
    assert story.told("PlanDrafted")[0].data["code"] == "approval"
    assert story.run.way is not None
    assert story.run.way.digest == digest(TEXT)
    edited = a_plan(a_task("x"))
    approve(story, edited)
    assert (stage(story), story.run.way.approved) == ("approved", "d")
    approve(story, edited, build=True)
    assert (stage(story), story.at_work()) == ("building", ["x"])
    assert story.task("x").spec.role == "builder"
    approve(story, edited, build=True)
    assert story.at_work() == ["x"]
    story.land("x")
    assert stage(story) == "ready"
    found = report.status(story.swarm, report.Live())["runs"][0]
    assert (found["mode"], found["width"], found["goal"]["stage"]) == ("sequential", 1, "ready")


def test_research_alone_ends_with_what_was_found() -> None:
    """Without an architect the findings are the end; what a scout changed is told, kept, and does not land."""
    story = begun(architect=None)
    answer(story, "scout-1", "one", touched=("stray",))
    answer(story, "scout-2", "two")
    assert stage(story) == "answered"
    assert story.told("StrayFound")[0].data["paths"] == ["stray"]
    document = building.document(story.run)
    assert document is not None
    assert [each["text"] for each in document["findings"]] == ["one", "two"]
    assert story.run.open_tasks == 0
    assert len(story.told("RunEnded")) == 1
    assert not story.has(cmd.BringIn)


def test_a_plan_that_would_change_what_has_started_goes_back_to_its_author() -> None:
    """A person's task may have begun under an id that a plan which is carried out at once has too: the next attempt is told."""
    story = begun(scouts=1, builds=True, approved=True)
    story.submit(a_plan(a_task("a"), name="plan"))
    answer(story, "scout-1")
    answer(story, "architect", TEXT, a_plan(a_task("a", priority=4), name="other"))
    assert (stage(story), story.attempt("architect").n) == ("planning", 2)
    assert (
        "can't be taken in: a changed in the plan and started already" in story.task("architect").feedback[-1]
    )
    answer(story, "architect", TEXT, a_plan(a_task("b"), name="other"))
    assert (stage(story), "b" in story.run.tasks) == ("building", True)


def test_no_plan_says_that_research_is_finished() -> None:
    """A scout that waits stays one of the run, whatever a plan says of its id."""
    story = begun(scouts=5)
    assert not story.task("scout-5").attempts
    plan = a_plan(a_task("scout-5", finished=True), name="plan")
    story.send(submitted(plan, at=story.now))
    assert (stage(story), story.state("scout-5")) == ("researching", "ready")


def test_an_invalid_plan_goes_back_to_its_author() -> None:
    """What is wrong with a plan is told to the architect's next attempt; after the last the way stops, and a retry goes on."""
    story = begun(scouts=1)
    answer(story, "scout-1")
    for n in (1, 2, 3):
        assert story.attempt("architect").n == n
        if n > 1:
            assert "tasks[0].needs" in "".join(story.task("architect").feedback)
        answer(story, "architect", "bad", problem="the plan is not valid:\n  tasks[0].needs: …")
    assert (stage(story), story.state("architect")) == ("stopped", "failed")
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("architect",)))
    story.measure()
    answer(story, "architect", TEXT, a_plan(a_task("a")))
    assert stage(story) == "approval"


def test_a_plan_may_not_take_the_names_of_research() -> None:
    """A plan with a task named like one of the run's own goes back; one that a person edited so is refused and changes nothing."""
    story = begun(scouts=1)
    answer(story, "scout-1")
    answer(story, "architect", TEXT, a_plan(a_task("scout-1")))
    assert "scout-1" in "".join(story.task("architect").feedback)
    answer(story, "architect", TEXT, a_plan(a_task("a")))
    before = snapshot(story.swarm)
    with pytest.raises(IllegalEvent, match="scout-1"):
        approve(story, a_plan(a_task("scout-1")), build=True)
    assert snapshot(story.swarm) == before


def test_one_scout_that_fails_does_not_stop_the_others() -> None:
    """The architect is told who found nothing; where nobody found anything there is no plan, and where research was cancelled none
    is wanted."""
    story = begun()
    story.fail("scout-1")
    answer(story, "scout-2", "two")
    assert "Nobody found anything out." in story.task("architect").spec.prompt
    story = begun(scouts=1)
    story.fail("scout-1")
    assert (stage(story), "architect" in story.run.tasks) == ("stopped", False)
    story = begun()
    answer(story, "scout-1")
    story.up("scout-2")
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("scout-2",)))
    story.exit("scout-2", 143)
    story.collect("scout-2")
    assert "architect" not in story.run.tasks


def test_a_build_with_a_failure_stops_and_goes_on_when_that_is_mended() -> None:
    """No review, and not ready, while a task did not land; both once it has been tried again."""
    story = planned(begun(builds=True, approved=True, scouts=1), a_task("a", attempts=1))
    story.fail("a")
    assert (stage(story), story.run.qa) == ("stopped", None)
    assert story.told("BuildStopped")[0].data["text"] == "a did not land"
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a",)))
    story.measure()
    assert stage(story) == "building"
    story.land("a")
    assert stage(story) == "ready"


def test_answers_are_not_asked_for_again_once_they_were_used() -> None:
    """A scout can't be retried after the architect began, nor the architect once there is a plan; neither is begun a second run."""
    story = begun()
    story.fail("scout-1")
    answer(story, "scout-2")
    with pytest.raises(IllegalEvent, match="too late"):
        story.send(m.TasksRetried(at=story.now, run="plan", tasks=("scout-1",)))
    with pytest.raises(IllegalEvent, match="already"):
        story.submit(a_plan(a_scout("scout-1")), goal=Goal("make it"))


def test_sequential_holds_for_builders_alone() -> None:
    """Scouts look at once; what was asked for one at a time is built so."""
    story = begun(builds=True, approved=True, sequential=True)
    assert story.at_work() == ["scout-1", "scout-2"]
    planned(story)
    assert story.at_work() == ["a"]


def test_the_width_is_under_the_machine() -> None:
    """Admission holds: with one worker at most, a plan of any size goes one at a time."""
    story = a_story(
        a_plan(a_scout("scout-1")),
        Story(Limits(workers_max=1, ramp_per_s=1000.0)),
        goal=Goal("make it", ARCHITECT, builds=True, approved=True),
    )
    planned(story, *(a_task(f"t{n}") for n in range(12)))
    assert story.run.width == 4
    assert len(story.at_work()) == 1

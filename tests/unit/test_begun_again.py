"""What the next attempt is told: of a task that had ended without landing and is begun again, by `swarm retry` or by another plan,
and of what a worker printed that failed."""

from __future__ import annotations

import dataclasses

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.model import Limits, WorkerResult
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story

QUICK = Limits(workers_max=4, ramp_per_s=1000.0)


def a_task_of(attempts: int = 1, **limits: float) -> Story:
    """Task `x`, which its suite `make` verifies."""
    quick = dataclasses.replace(QUICK, **limits)  # type: ignore[arg-type]
    return a_story(a_plan(a_task("x", verify=["make"], attempts=attempts)), bench=Story(quick))


def retry(story: Story, task: str = "x") -> tuple[str, ...]:
    """Retries a task that has ended; gives what its next attempt is told."""
    assert story.state(task) in ("failed", "cancelled")
    story.send(m.TasksRetried(at=story.now, run=story.run.id, tasks=(task,)))
    story.measure()
    return next_is_told(story, task)


def next_is_told(story: Story, task: str = "x") -> tuple[str, ...]:
    """Gives what the next attempt of a task is told as its worker starts."""
    take = story.sole(cmd.TakeWorktree, task)
    story.send(m.WorktreeReady(**story.where(take), path=f"/pool/{task}"))
    start = story.sole(cmd.StartWorker, task)
    story.send(m.WorkerStarted(**story.where(start), pid=100, started_at=story.now))
    return start.feedback


def ends(story: Story, end: str) -> None:
    """Brings the newest attempt of `x` to an end, from its start on."""
    if end == "worker_failed":
        story.fail("x", 4)
    elif end == "verify_failed":
        story.work("x")
        story.merge("x")
        story.red("x", tail="SUITE SAYS NO")
    elif end == "conflict":
        story.work("x", ["src/x"])
        story.conflict("x", "src/x", landings=["old"])
    elif end == "empty":
        story.up("x")
        story.exit("x")
        story.collect("x", touched=())
    elif end == "timeout":
        story.up("x")
        story.wait(story.task("x").spec.timeout_s + 1)
        story.exit("x", 143)
        story.collect("x")
    else:
        story.up("x")
        cancel(story)
        story.exit("x", 143)
        story.collect("x")


def cancel(story: Story) -> None:
    story.send(m.TasksCancelled(at=story.now, run=story.run.id, tasks=("x",)))


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("worker_failed", "the worker ended with exit code 4"),
        ("verify_failed", "make (failed)"),
        ("empty", "the worker changed nothing"),
        ("timeout", "the worker was still running after"),
    ],
)
def test_the_attempt_that_ended_a_task_is_told_of(end: str, why: str) -> None:
    """Row 66: also where the last attempt that there was ended the task; after a second retry the newest is told of, alone."""
    story = a_task_of()
    ends(story, end)
    (told,) = retry(story)
    assert told.startswith("Attempt 1 did not land: ")
    assert why in told
    assert ("SUITE SAYS NO" in told) == (end == "verify_failed")
    story.exit("x", 9)
    story.collect("x")
    (told,) = retry(story)
    assert told == "Attempt 2 did not land: the worker ended with exit code 9"


def test_the_last_of_several_attempts_is_told_of() -> None:
    """Not only the one before it, of which the last was told itself."""
    story = a_task_of(attempts=2)
    ends(story, "verify_failed")
    ends(story, "worker_failed")
    (told,) = retry(story)
    assert told == "Attempt 2 did not land: the worker ended with exit code 4"


def test_what_the_user_says_after_the_end_comes_after_it() -> None:
    """The note is told beside why the last attempt did not land, and does not take its place."""
    story = a_task_of()
    ends(story, "verify_failed")
    story.send(m.TaskTold(at=story.now, run=story.run.id, task="x", text="use the other parser"))
    told = retry(story)
    assert len(told) == 2
    assert "SUITE SAYS NO" in told[0]
    assert told[1] == "use the other parser"


def test_a_failure_that_is_always_the_same_is_told_as_that() -> None:
    """So the next attempt knows that it has to find another way."""
    story = a_task_of(attempts=9)
    for _ in range(3):
        ends(story, "verify_failed")
    (told,) = retry(story)
    assert told.startswith("Attempt 3 did not land: ")
    assert "in the same way 3 times" in told


def test_a_conflict_that_ended_a_task_is_told_with_its_versions() -> None:
    """Also where an attempt that changed nothing came after it: what it was to settle is told, of the work that conflicts."""
    story = a_task_of()
    ends(story, "conflict")
    branch, head = story.task("x").attempts[0].branch, story.task("x").attempts[0].head
    ends(story, "empty")
    (told,) = retry(story)
    assert told.startswith(
        "Attempt 2 did not land: it conflicts with staging in src/x, changed there by old; tried again, "
    )
    assert f"its work is {head}, on branch {branch};" in told
    assert "--- src/x ---\nbase 1\nstaging 2\nown 3" in told


def test_a_conflict_alone_that_ended_a_task_is_told() -> None:
    """The third conflict, after which it has failed, is told like those before it."""
    story = a_task_of(attempts=9)
    for _ in range(3):
        ends(story, "conflict")
    (told,) = retry(story)
    head, branch = story.task("x").attempts[2].head, story.task("x").attempts[2].branch
    assert told.startswith("Attempt 3 did not land: it conflicts with staging in src/x")
    assert f"its work is {head}, on branch {branch};" in told


def test_a_cancelled_attempt_does_not_hide_what_was_wrong_with_the_work_before() -> None:
    """That somebody cancelled it says nothing about the work: both are told."""
    story = a_task_of(attempts=2)
    ends(story, "verify_failed")
    ends(story, "cancelled")
    first, second = retry(story)
    assert "SUITE SAYS NO" in first
    assert second == "Attempt 2 did not land: it was cancelled"


def test_what_is_cancelled_between_attempts_is_told_once() -> None:
    """However often; why the last attempt did not land is told before it."""
    story = a_task_of(attempts=9)
    story.up("x")
    story.send(m.Paused(at=story.now, run="plan", task="x"))
    story.exit("x", 4)
    story.collect("x")
    for _ in range(2):
        cancel(story)
        story.send(m.TasksRetried(at=story.now, run="plan", tasks=("x",)))
    story.send(m.Resumed(at=story.now, run="plan", task="x"))
    assert next_is_told(story) == (
        "Attempt 1 did not land: the worker ended with exit code 4",
        "After that the task was cancelled",
    )


def test_a_budget_that_ends_a_task_does_not_hide_its_attempt() -> None:
    """Both are told: why the attempt did not land, and what ended the task."""
    story = a_task_of(attempts=9, task_budget_tokens=5)
    story.up("x")
    story.exit("x", 4, WorkerResult(tokens_out=7))
    story.collect("x")
    assert story.why("x") == "over_budget"
    attempt, task = retry(story)
    assert attempt == "Attempt 1 did not land: the worker ended with exit code 4"
    assert task.startswith("After that the task failed: the task is over its budget: ")


def test_a_task_that_was_never_tried_is_told_nothing() -> None:
    """Cancelled before its first attempt there is nothing that could be told of one."""
    story = a_story(a_plan(a_task("first"), a_task("x", needs=["first"])), bench=Story(QUICK))
    cancel(story)
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("x",)))
    story.land("first")
    assert next_is_told(story) == ()


def test_another_plan_begins_it_again_with_the_same_words() -> None:
    """A task that has failed and that the plan now says something else of is told why its last attempt did not land."""
    story = a_task_of()
    ends(story, "worker_failed")
    story.submit(a_plan(dataclasses.replace(a_task("x", verify=["make"]), prompt="Otherwise")))
    (told,) = next_is_told(story)
    assert told == "Attempt 1 did not land: the worker ended with exit code 4"


def undone() -> tuple[Story, str, str, str]:
    """Tasks `a` and, which needs it, `b` have landed, and `a` was undone; gives the landings and the undo's commit too."""
    plan = a_plan(a_task("a", attempts=2), a_task("b", needs=["a"]))
    story = a_story(plan, bench=Story(QUICK))
    story.fail("a")
    story.land("a", "b")
    landings = [str(story.task(name).landed_commit) for name in "ab"]
    story.send(m.UndoRequested(at=story.now, run="plan", task="a"))
    command = story.sole(cmd.Revert, "a")
    story.send(m.CandidateMade(**story.where(command), onto=command.onto, candidate=story.commit()))
    new = story.advance("a")
    story.publish()
    return story, landings[0], landings[1], new


def test_after_an_undo_it_is_told_that_it_had_landed() -> None:
    """And that the user wanted it undone: of what was wrong before it landed nothing is told any more."""
    story, landing, _, new = undone()
    (told,) = retry(story, "a")
    assert told == (
        f"Attempt 2 had landed, and the user had it undone (swarm undo a): {new} took it off staging again."
        f"\nWhat it had changed: git diff {landing}^1 {landing}"
    )


def test_what_went_with_an_undo_is_told_of_which_task_the_user_wanted_it() -> None:
    """The user asked to undo what it needs."""
    story, _, landing, new = undone()
    retry(story, "a")
    story.exit("a")
    story.collect("a")
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "a"))))
    story.merge("a")
    story.advance("a")
    story.publish()
    (told,) = retry(story, "b")
    assert told.startswith(
        "Attempt 1 had landed, and the user had a, which it needs, undone (swarm undo a): "
    )
    assert f"{new} took it off staging again." in told
    assert f"git diff {landing}^1 {landing}" in told


PRINTED = "Traceback:\nboom\0"


@pytest.mark.parametrize(("code", "told"), [(4, True), (143, True), (0, False), (75, False), (None, False)])
def test_what_a_worker_printed_that_failed_is_told(code: int | None, told: bool) -> None:
    """The next attempt gets its last lines as it gets those of a suite; what one printed that ended well, asked to be tried later
    or is lost says nothing of a failure."""
    story = a_task_of(attempts=9)
    story.up("x")
    story.exit("x", code)
    story.collect("x", touched=(), tail=PRINTED)
    story.wait(60.0)
    (found,) = next_is_told(story)
    assert found.endswith("\n--- the worker ---\nTraceback:\nboom") == told
    assert ("boom" in found) == told
    assert "\0" not in found  # no program takes it in an argument


def test_what_a_worker_printed_whose_time_was_over_is_told() -> None:
    """Whatever exit code it gave as it was ended."""
    story = a_task_of()
    story.up("x")
    story.wait(story.task("x").spec.timeout_s + 1)
    story.exit("x", 0)
    story.collect("x", tail=PRINTED)
    assert story.why("x") == "timeout"
    (found,) = retry(story)
    assert found.endswith("\n--- the worker ---\nTraceback:\nboom")


def test_of_a_worker_that_was_cancelled_it_is_not_told() -> None:
    """It did nothing wrong."""
    story = a_task_of()
    story.up("x")
    cancel(story)
    story.exit("x", 143)
    story.collect("x", tail=PRINTED)
    assert retry(story) == ("Attempt 1 did not land: it was cancelled",)


def test_a_rate_limit_does_not_hide_what_was_wrong_with_the_work_before() -> None:
    """It says nothing of the work: both are told."""
    story = a_task_of(attempts=9)
    ends(story, "verify_failed")
    story.up("x")
    story.exit("x", 75, WorkerResult(rate_limited=True, retry_after_s=5.0))
    story.collect("x", touched=())
    story.wait(60.0)
    first, second = next_is_told(story)
    assert "SUITE SAYS NO" in first
    assert second.startswith("Attempt 2 did not land: command met a rate limit")

"""What becomes of work that conflicts: handed back with its claims kept, then once more alone, then it has failed."""

from __future__ import annotations

import dataclasses

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import Limits, Mode, WorkerResult
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story

KEEPING = Limits(workers_max=4, ramp_per_s=1000.0)


def in_conflict(*others: str, claims: tuple[str, ...] = ("src/**",), path: str = "src/x") -> Story:
    """Task `x`, whose work has conflicted once while only one worker may run; `later` wants what it claims."""
    names = [a_task(name) for name in others]
    limits = dataclasses.replace(KEEPING, workers_max=1)
    story = a_story(
        a_plan(a_task("x", claims=claims), *names, a_task("later", claims=["src/x"])), bench=Story(limits)
    )
    story.work("x", [path])  # the next one starts in its place
    story.conflict("x", path, landings=["old"])
    assert invariants(story.swarm) == []
    return story


def held(story: Story) -> dict[str, list[str]]:
    """The paths that each task holds."""
    found: dict[str, list[str]] = {}
    for each in story.run.claims.held():
        found.setdefault(str(each.holder), []).append(each.claim.path)
    return found


def test_claims_are_kept_from_a_conflict_to_the_next_attempt() -> None:
    """While the task waits for its next attempt nobody else gets what it claims, and that attempt holds it all the same."""
    story = in_conflict("a", "b")
    assert (story.state("x"), held(story)) == ("ready", {"x": ["src/**"]})
    story.land("a")
    assert story.at_work() == ["x"]  # before b, which comes after it in the plan
    assert held(story) == {"x": ["src/**"]}
    story.land("x", "b", "later")
    assert held(story) == {}


def test_the_first_conflict_is_handed_back_as_it_is() -> None:
    """The next attempt runs beside others, and is told of the conflict."""
    story = a_story(a_plan(a_task("x"), a_task("b")), bench=Story(KEEPING))
    story.work("x")
    story.conflict("x", "src/x", landings=["old"])
    assert story.at_work() == ["b", "x"]
    assert not story.attempt("x").alone
    assert "conflicts with staging in src/x, changed there by old" in story.task("x").feedback[-1]


def test_the_second_runs_alone_and_the_third_ends_it() -> None:
    """After a second conflict the task runs with nothing beside it, its paths held; after a third it has failed, its work kept."""
    story = a_story(a_plan(a_task("x", claims=["src/**"]), a_task("b")), bench=Story(KEEPING))
    for _ in range(2):
        story.work("x", ["src/x"])
        story.conflict("x", "src/x")
    assert (story.state("x"), held(story)) == ("ready", {"x": ["src/**"]})
    story.land("b")
    assert story.attempt("x").alone
    story.work("x")
    story.conflict("x", "src/x")
    assert (story.state("x"), story.why("x"), held(story)) == ("failed", "conflict", {})
    assert [each.head is not None for each in story.task("x").attempts] == [True] * 3
    assert invariants(story.swarm) == []


def test_the_paths_in_conflict_are_held_too() -> None:
    """A path in conflict that no claim of the task's covers is held until its next attempt has ended, unless another has it. A task
    that claimed nothing is told of no claims, and nothing that it changes is a stray."""
    story = in_conflict("a", claims=(), path="src/x")
    assert held(story) == {"x": ["src/x"]}
    story.land("a")
    start = story.sole(cmd.TakeWorktree)
    assert start.task == "x"
    story.send(m.WorktreeReady(**story.where(start), path="/pool/x"))
    start_worker = story.sole(cmd.StartWorker)
    assert start_worker.claims == ()
    story.send(m.WorkerStarted(**story.where(start_worker), pid=1, started_at=story.now))
    story.exit("x")
    story.collect("x", ["elsewhere"])
    assert story.attempt("x").strays == ()


def test_what_is_shared_stays_shared() -> None:
    """A conflict in a file that several may change at once keeps nobody else from it."""
    tasks = [a_task(name, claims=["+CHANGELOG.md"]) for name in ("x", "y")]
    story = a_story(a_plan(*tasks), bench=Story(KEEPING))
    story.work("x", ["CHANGELOG.md"])
    story.conflict("x", "CHANGELOG.md")
    assert [claim.mode for claim in story.run.shown_claims(story.task("x"))] == [Mode.SHARED]
    assert story.at_work() == ["y", "x"]


@pytest.mark.parametrize("how", ["cancelled", "paused", "left out"])
def test_claims_are_not_kept_for_what_does_not_come(how: str) -> None:
    """A task that is cancelled, paused or left out holds nothing while it does not run."""
    story = in_conflict("a")
    if how == "cancelled":
        story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("x",)))
    elif how == "paused":
        story.send(m.Paused(at=story.now, run="plan", task="x"))
    else:
        story.submit(a_plan(), only=("later", "a"))
    story.land("a", "later")
    assert held(story) == {}
    assert invariants(story.swarm) == []


def test_an_earlier_task_that_waits_does_not_hold_up_the_one_it_waits_for() -> None:
    """A task that comes first in the plan and wants what was kept waits for it, and not the other way round."""
    story = a_story(
        a_plan(a_task("n"), a_task("first", needs=["n"], claims=["src/x"]), a_task("x", claims=["src/**"])),
        bench=Story(dataclasses.replace(KEEPING, workers_max=2)),
    )
    story.up("x")
    story.land("n")
    assert story.parked() == {"first": ("src/**", "x")}
    story.exit("x")
    story.collect("x", ["src/x"], brought_in=True)
    story.conflict("x", "src/x")
    assert story.at_work() == ["x"]
    story.land("x", "first")


def test_who_is_to_run_alone_waits_for_what_another_has_kept() -> None:
    """A task whose turn alone has come may meet claims that another keeps, which waits for its agent: it starts
    once they are free."""
    claims = {"x": "src/**", "y": "src/y", "z": "src/z"}
    tasks = [
        dataclasses.replace(a_task(name, claims=[path]), agent="one" if name == "x" else "two")
        for name, path in claims.items()
    ]
    story = a_story(a_plan(*tasks), bench=Story(KEEPING))
    for _ in range(2):
        story.work("x", ["src/x"])
        story.conflict("x", "src/x")
    story.up("x")
    assert story.attempt("x").alone
    story.exit("x", 75, WorkerResult(retry_after_s=10.0))
    story.collect("x", touched=[])
    story.work("y", ["src/y"])
    story.up("z")
    story.exit("z", 75, WorkerResult(retry_after_s=100.0))
    story.collect("z", touched=[])
    story.conflict("y", "src/y")
    story.wait(10.0)
    assert (story.at_work(), held(story)) == ([], {"y": ["src/y"]})
    story.wait(90.0)
    story.land("y")
    assert story.at_work() == ["x"]
    assert invariants(story.swarm) == []
    story.land("x")
    story.wait(1.0)  # the agent of z comes back one by one
    story.land("z")


def test_who_is_over_its_budget_after_a_conflict_keeps_no_claims() -> None:
    """A task that fails since its next attempt would be over its budget lets others have what it claims."""
    limits = dataclasses.replace(KEEPING, task_budget_tokens=5)
    story = a_story(
        a_plan(a_task("x", claims=["src/**"]), a_task("y", claims=["src/y"])), bench=Story(limits)
    )
    story.up("x")
    story.exit("x", result=WorkerResult(tokens_out=5))
    story.collect("x", touched=["src/x"])
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "x"))))
    story.conflict("x", "src/x")
    assert (story.state("x"), story.why("x")) == ("failed", "over_budget")
    assert story.at_work() == ["y"]
    assert invariants(story.swarm) == []


ENDS = dataclasses.replace(KEEPING)


def tried_after_a_conflict(*ends: str, limits: Limits = ENDS) -> Story:
    """Task `x`, whose work conflicted with that of `old` in src/x, and whose next attempts came to these ends."""
    attempts = sum(end not in ("conflict", "stopped") for end in ends)
    story = a_story(a_plan(a_task("x", attempts=attempts)), bench=Story(limits))
    for end in ("conflict", *ends):
        if end == "empty":
            story.up("x")
            story.exit("x")
            story.collect("x", touched=())
        elif end == "worker_failed":
            story.fail("x")
        else:
            story.work("x", ["src/x"])
            story.conflict("x", "src/x", landings=["old"])
    assert story.state("x") == "failed"
    return story


@pytest.mark.parametrize(
    "ends", [("empty",), ("empty", "empty"), ("worker_failed", "empty"), ("conflict", "empty")]
)
def test_work_that_conflicted_and_that_nothing_came_of_since_failed_by_the_conflict(
    ends: tuple[str, ...],
) -> None:
    """A task whose second chance changes nothing has not settled the conflict: it fails as `conflict`, with the paths, the landings
    that touched them and where its work is, and says what became of the second chance."""
    story = tried_after_a_conflict(*ends)
    reason = story.task("x").reason
    assert reason is not None
    assert reason.code == "conflict"
    assert reason.text == (
        "it conflicts with staging in src/x, changed there by old; tried again, the worker changed nothing,"
        " and the task does not say allow_empty"
    )
    first = story.task("x").attempts[ends.count("conflict")]
    assert (reason.facts["paths"], reason.facts["landings"]) == (["src/x"], ["old"])
    assert reason.facts["head"] == first.head
    failed = story.told("TaskFailed")[-1].data
    assert (failed["code"], failed["paths"], failed["landings"]) == ("conflict", ["src/x"], ["old"])
    assert failed["last"] == "empty"
    last = story.attempt("x").reason
    assert last is not None
    assert last.code == "empty"  # of the attempt itself is told what it did


def test_a_worker_that_fails_on_its_second_chance_failed_by_itself_and_the_conflict_is_told() -> None:
    """Its exit code is what there is to look at; that there was a conflict to settle is said beside it."""
    story = tried_after_a_conflict("worker_failed")
    reason = story.task("x").reason
    assert reason is not None
    assert (reason.code, reason.facts) == ("worker_failed", {"exit_code": 1})
    assert reason.text == (
        "the worker ended with exit code 1; it was to settle that the work before it conflicts with staging in src/x"
    )


def test_work_that_has_merged_since_a_conflict_does_not_fail_by_it() -> None:
    """Once the next attempt has merged, the conflict is settled, whatever its suites say."""
    story = a_story(a_plan(a_task("x", verify=["make"], attempts=2)), bench=Story(ENDS))
    story.work("x", ["src/x"])
    story.conflict("x", "src/x", landings=["old"])
    story.work("x", ["src/x"])
    story.merge("x")
    story.red("x")
    story.up("x")
    story.exit("x")
    story.collect("x", touched=())
    assert (story.state("x"), story.why("x")) == ("failed", "empty")

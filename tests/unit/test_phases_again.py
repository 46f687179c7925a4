"""A phase that had landed and got another task: what has not started waits for it, what has goes on as it is."""

from __future__ import annotations

import pytest

from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import FoundLanding, FoundRun, Limits, PhaseSpec, TaskSpec, WorkerResult
from swarm.core.state import IllegalEvent
from tests.builders import BASE, a_plan, a_task
from tests.stories import Story, a_story, snapshot
from tests.unit.test_undoing import undo

P, Q = PhaseSpec(id="p"), PhaseSpec(id="q", phase_needs=("p",))
THREE = (P, Q, PhaseSpec(id="r", phase_needs=("q",)))
ONE_AT_A_TIME = (PhaseSpec(id="p", parallel_safe=False), Q)
A = a_task("a", phase="p")


def begun(
    *tasks: TaskSpec, phases: tuple[PhaseSpec, ...] = (P, Q), workers: int = 4, lands: str = "a"
) -> Story:
    """A run in which these have landed."""
    story = a_story(
        a_plan(*tasks, phases=phases), bench=Story(Limits(workers_max=workers, ramp_per_s=1000.0))
    )
    story.land(*lands)
    return story


def add(story: Story, *tasks: TaskSpec, phases: tuple[PhaseSpec, ...] = ()) -> None:
    """More comes, as `swarm add` has it: by itself."""
    story.submit(a_plan(*tasks, phases=phases))
    assert invariants(story.swarm) == []


@pytest.mark.parametrize("first", ["n", "b"])
def test_what_comes_with_it_waits_for_it(first: str) -> None:
    """A task that needs the phase and comes by the same submission starts when the new one of the phase has landed, whichever the
    plan names first."""
    story = begun(A, phases=(P,))
    new = {"n": a_task("n", phase="p"), "b": a_task("b", phase_needs=["p"])}
    add(story, new.pop(first), *new.values())
    assert story.states() == {"a": "landed", "n": "running", "b": "pending"}
    story.land("n")
    assert story.states()["b"] == "running"


@pytest.mark.parametrize("held", ["slot", "pause", "claim", "later"])
def test_what_is_ready_waits_for_it(held: str) -> None:
    """A task that was held up as the phase opened and has not started waits again, and goes on by itself."""
    spec = a_task("b", phase="q", claims=["x"])
    story = begun(A, a_task("other", claims=["x"]), spec, workers=1 if held == "slot" else 4, lands="")
    if held == "pause":
        story.send(m.Paused(at=story.now, run="plan", task="b"))
    if held == "later":
        story.land("other", "a")
        story.up("b")
        story.exit("b", 75, WorkerResult(retry_after_s=50.0, rate_limited=False))
        story.collect("b")
    else:
        story.land("a")
    assert story.state("b") == "ready"
    add(story, a_task("n", phase="p"))
    assert story.state("b") == "pending"
    if held != "later":
        story.land("other")
    story.send(m.Resumed(at=story.now, run="plan", task="b"))
    assert story.state("b") == "pending"
    story.land("n")
    assert story.state("b") == "running"


def test_what_has_started_goes_on() -> None:
    """A task at work lands beside the new one, and what needs that task alone starts."""
    story = begun(A, a_task("b", phase="q"), a_task("c", needs=["b"]))
    story.up("b")
    add(story, a_task("n", phase="p"))
    assert story.at_work() == ["b", "n"]
    story.exit("b")
    story.collect("b")
    story.send(m.BroughtIn(at=story.now, run="plan", task="b", attempt=1))
    story.merge("b")
    story.advance("b")
    story.publish()
    assert story.states() == {"a": "landed", "b": "landed", "c": "running", "n": "running"}


def test_what_comes_back_waits_for_it() -> None:
    """A task whose attempt did not do has the next one when the new task has landed, and gives its claims up until then."""
    story = begun(A, a_task("b", phase="q", claims=["x"]))
    story.up("b")
    add(story, a_task("n", phase="p"), a_task("other", claims=["x"]))
    story.exit("b", 1)
    story.collect("b")
    assert invariants(story.swarm) == []
    assert story.states() == {"a": "landed", "b": "pending", "n": "running", "other": "running"}
    story.land("other", "n")
    assert (story.state("b"), story.attempt("b").n) == ("running", 2)
    assert "exit code 1" in story.task("b").feedback[0]


def test_what_kept_its_claims_gives_them_up() -> None:
    """What is handed back with a conflict keeps its claims for the next attempt, but not while it waits for what it needs."""
    story = begun(A, a_task("b", phase="q", claims=["x"]))
    story.work("b")
    add(story, a_task("n", phase="p"), a_task("other", claims=["x"]))
    story.conflict("b", "x")
    assert invariants(story.swarm) == []
    story.measure()
    assert story.states() == {"a": "landed", "b": "pending", "n": "running", "other": "running"}
    story.land("other", "n", "b")


def test_a_stopped_worker_waits_too() -> None:
    """What a stop of the daemon interrupted has begun; it begins anew when what came meanwhile has landed."""
    story = begun(A, a_task("b", phase="q"))
    story.up("b")
    add(story, a_task("n", phase="p"))
    story.send(m.StopRequested(at=story.now, end_workers=True))
    for name in "bn":
        if name == "n":
            story.send(m.WorktreeReady(at=story.now, run="plan", task="n", attempt=1, path="/n"))
        else:
            story.exit("b", 143)
            story.collect("b")
    assert story.states() == {"a": "landed", "b": "pending", "n": "ready"}
    assert invariants(story.swarm) == []


def test_its_failure_blocks_what_has_not_started() -> None:
    """If it ends without landing what needs the phase is blocked, but what is at work goes on and blocks nobody; if that comes back
    it is blocked too. A retry that lands frees them all."""
    story = begun(
        A, a_task("b", phase="q"), a_task("c", needs=["b"]), a_task("d", needs=["e"]), a_task("e", phase="q")
    )
    story.up("b", "e")
    add(story, a_task("n", phase="p", attempts=1), a_task("late", phase_needs=["p"]))
    story.fail("n")
    assert story.states() == {
        "a": "landed",
        "b": "running",
        "c": "pending",
        "d": "pending",
        "e": "running",
        "n": "failed",
        "late": "blocked",
    }
    story.exit("b", 1)
    story.collect("b")
    assert invariants(story.swarm) == []
    states = story.states()
    assert (states["b"], states["c"], states["d"]) == ("blocked", "blocked", "pending")
    story.exit("e")
    story.collect("e")
    story.send(m.BroughtIn(at=story.now, run="plan", task="e", attempt=1))
    story.merge("e")
    story.advance("e")
    story.publish()
    assert story.state("d") == "running"
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("n",)))
    story.measure()
    assert story.states() | {"d": ""} == states | {"b": "pending", "c": "pending", "d": "", "e": "landed"} | {
        "n": "running",
        "late": "pending",
    }
    story.land("n", "b", "late", "c", "d")
    assert set(story.states().values()) == {"landed"}
    assert len(story.told("RunEnded")) == 1


def test_phases_behind_it_open_again_too() -> None:
    """A phase behind one that got another task waits for it as well, also where all in between has landed; and the order within a
    phase that goes one at a time is kept."""
    story = begun(A, a_task("b", phase="q"), a_task("c", phase="r"), phases=THREE, lands="ab")
    assert story.state("c") == "running"
    add(story, a_task("n", phase="p"), a_task("d", phase="r"), phases=THREE)
    assert story.states() == {"a": "landed", "b": "landed", "c": "running", "n": "running", "d": "pending"}
    story.land("n")
    assert story.state("d") == "running"
    story = begun(A, a_task("b", phase="q"), phases=ONE_AT_A_TIME)
    add(story, a_task("c", phase="q"), a_task("m", phase="p"), a_task("n", phase="p"))
    assert story.states() == {
        "a": "landed",
        "b": "running",
        "c": "pending",
        "m": "running",
        "n": "pending",
    }
    story.land("m")
    assert (story.state("n"), story.state("c")) == ("running", "pending")
    story.land("n")
    assert story.state("c") == "running"


def test_a_phase_that_was_empty_opens_again() -> None:
    """A phase without tasks holds nobody up until it gets one."""
    story = begun(a_task("x"), a_task("b", phase="q"), workers=1, lands="")
    assert story.states() == {"x": "running", "b": "ready"}
    add(story, a_task("n", phase="p"))
    assert story.states() == {"x": "running", "b": "pending", "n": "ready"}


def test_a_task_that_is_moved_there_is_waited_for() -> None:
    """A task that had not started and comes into the phase by an edit of the plan is waited for, and one that leaves it is not."""
    story = begun(A, a_task("x"), a_task("n"), a_task("b", phase="q"), workers=1, lands="a")
    add(story, a_task("n", phase="p"))
    assert story.states() == {"a": "landed", "x": "running", "n": "ready", "b": "pending"}
    add(story, a_task("n"))
    assert story.states() == {"a": "landed", "x": "running", "n": "ready", "b": "ready"}
    add(story, a_task("n", phase="p", finished=True))
    assert story.states() == {"a": "landed", "x": "running", "b": "ready"}


@pytest.mark.parametrize("landed", ["a", "ab"])
def test_what_would_go_round_in_a_circle_is_refused(landed: str) -> None:
    """A task of the phase can't need what needs the phase, also where that has landed: undone and done again, all would wait for
    each other for ever."""
    story = begun(A, a_task("b", phase="q"), lands=landed)
    before = snapshot(story.swarm)
    with pytest.raises(IllegalEvent, match="in a circle: n -> b -> q -> p -> n"):
        story.submit(a_plan(a_task("n", phase="p", needs=["b"])))
    assert snapshot(story.swarm) == before
    add(story, a_task("n", phase="q", needs=["b"]), a_task("m", needs=["b"]))
    if landed == "a":
        story.land("b")
    story.land("m", "n")


def test_all_can_be_done_again_after_an_undo() -> None:
    """Whatever came into a phase late: undone and retried, everything lands again, in the order of the needs of today."""
    story = begun(A, a_task("b", phase="q"), lands="ab")
    add(story, a_task("n", phase="p"), a_task("c", needs=["b", "n"]))
    story.land("n", "c")
    undo(story, "a")
    assert story.states() == {"a": "cancelled", "b": "cancelled", "n": "landed", "c": "cancelled"}
    undo(story, "n")
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=tuple("abnc")))
    story.measure()
    assert story.states() == {"a": "running", "b": "pending", "n": "running", "c": "pending"}
    story.land("a", "n", "b", "c")


def test_what_left_a_phase_again_is_not_waited_for() -> None:
    """The new task cancelled blocks; discarded from the phase by an edit it frees."""
    story = begun(A, a_task("x"), a_task("b", phase="q"), workers=1)
    add(story, a_task("n", phase="p"))
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("n",)))
    assert story.states() == {"a": "landed", "x": "running", "b": "blocked", "n": "cancelled"}
    add(story, a_task("n"))
    assert story.states() == {"a": "landed", "x": "running", "b": "ready", "n": "ready"}


@pytest.mark.parametrize("finished", [False, True])
def test_what_was_known_by_its_landing_closes_a_circle_too(finished: bool) -> None:
    """After a rebuilding of the journal plans say little by little what has landed; also they may not go round in a circle."""
    story = Story()
    landings = tuple(FoundLanding(name, 1, "", name * 40, "d" * 40) for name in "abc")
    story.send(m.JournalRebuilt(at=0.0, runs=(FoundRun("plan", BASE, "c" * 40, landings),)))
    add(story, a_task("a", phase="p"), a_task("c", phase="p", needs=["b"]), phases=(P,))
    before = snapshot(story.swarm)
    with pytest.raises(IllegalEvent, match="in a circle: b -> p -> c -> b"):
        story.submit(a_plan(a_task("b", phase_needs=["p"], finished=finished)))
    assert snapshot(story.swarm) == before
    add(story, a_task("b", phase="p"))

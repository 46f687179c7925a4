"""Steering: pause, cancel, retry, tell and scale, at every step of a task."""

from __future__ import annotations

import itertools

import pytest

from swarm.core import commands as cmd
from swarm.core import machine, report
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import Limits, Step, TaskState
from swarm.core.state import IllegalEvent, pending_commands
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story, snapshot

# --- steering


def test_scaling_up_starts_more_and_down_ends_nobody() -> None:
    """More slots are filled at once; fewer leave the running workers alone and start no new ones."""
    story = a_story(
        a_plan(*(a_task(f"t{n}") for n in range(6))),
        bench=Story(Limits(workers_max=2, ramp_per_s=1000.0, spare_worktrees=9)),
    )
    story.send(m.LimitsChanged(at=story.now, workers_max=4))
    assert len(story.at_work()) == 4
    story.send(m.LimitsChanged(at=story.now, workers_max=1))
    assert len(story.at_work()) == 4
    for left in (3, 2, 1, 1):
        name = story.at_work()[0]
        story.up(name)
        story.exit(name)
        assert len(story.at_work()) == left


def test_a_scale_to_nothing_is_refused() -> None:
    """At least one worker is allowed; anything less is illegal and changes nothing."""
    story = a_story(a_plan(a_task("a")))
    with pytest.raises(IllegalEvent):
        story.send(m.LimitsChanged(at=story.now, workers_max=0))
    assert story.swarm.limits.workers_max == 4


def test_a_pause_stops_starts_and_nothing_else() -> None:
    """While everything is paused nothing starts and running work lands; after `resume` it goes on."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"])))
    story.send(m.Paused(at=story.now))
    story.land("a")
    assert story.states() == {"a": "landed", "b": "ready"}
    assert story.swarm.capacity.reason == "paused"
    story.send(m.Resumed(at=story.now))
    story.measure()
    assert story.at_work() == ["b"]


def test_whoever_waits_for_what_is_paused_is_told_how_it_goes_on() -> None:
    """Once nothing of a run is under way: that everything, the run or each of its ready tasks is paused. While anything goes on, or
    may start, nothing is told."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"]), a_task("c", needs=["a"])))

    def told() -> list[str]:
        return report.hindrances(story.swarm, story.run, "")

    story.send(m.Paused(at=story.now, run="plan"))
    assert told() == []
    story.land("a")
    assert told() == ["it is paused: swarm resume --run plan goes on"]
    story.send(m.Paused(at=story.now))
    assert told() == ["everything is paused: swarm resume goes on"]
    story.send(m.Paused(at=story.now, run="plan", task="b"))
    story.send(m.Resumed(at=story.now))
    story.measure()
    story.land("c")
    assert told() == ["b is paused: swarm resume plan/b goes on"]
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("b",)))
    assert told() == []


def test_a_summary_has_what_has_not_ended() -> None:
    """Of a run whose first task has landed and whose others wait for each other a summary leaves out none."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"]), a_task("c", needs=["b"])))
    story.land("a")
    (run,) = report.status(story.swarm, report.Live(), summary=True)["runs"]
    assert [(task["id"], task["state"]) for task in run["tasks"]][2:] == [("c", "pending")]
    assert run["tasks_omitted"] == 0


def test_a_paused_run_leaves_the_others_alone() -> None:
    """Pausing one run holds back its starts only."""
    story = Story(Limits(workers_max=9, ramp_per_s=1000.0))
    for name in ("one", "two"):
        story.submit(a_plan(a_task("a"), a_task("b", needs=["a"]), name=name))
        story.send(m.Paused(at=story.now, run=name))
        story.submit(a_plan(a_task("c"), name=name))
    assert [run.counts[TaskState.READY] for run in story.swarm.runs.values()] == [1, 1]
    story.send(m.Resumed(at=story.now, run="two"))
    story.measure()
    assert [run.counts[TaskState.READY] for run in story.swarm.runs.values()] == [1, 0]
    story.send(m.Resumed(at=story.now))
    assert [run.counts[TaskState.READY] for run in story.swarm.runs.values()] == [0, 0]


@pytest.mark.parametrize("when", ["pending", "ready", "parked"])
def test_a_paused_task_waits_and_the_others_go_on(when: str) -> None:
    """A paused task does not start, whether it was paused before it was ready, while it waited, or while it was parked."""
    limits = Limits(workers_max=1 if when == "ready" else 4, ramp_per_s=1000.0)
    tasks = [
        a_task("a", claims=["x"]),
        a_task("b", claims=["x"] if when == "parked" else [], needs=["a"] if when == "pending" else []),
        a_task("c", claims=["x"]),
    ]
    story = a_story(a_plan(*tasks), bench=Story(limits))
    story.send(m.Paused(at=story.now, run="plan", task="b"))
    story.land("a")
    assert "b" not in story.at_work()
    assert "c" in story.at_work()
    story.land("c")
    assert story.state("b") == "ready"
    story.send(m.Resumed(at=story.now, run="plan", task="b"))
    story.measure()
    assert story.at_work() == ["b"]


@pytest.mark.parametrize("kind", [m.Paused, m.Resumed])
def test_pausing_what_nobody_knows_is_refused(kind: type[m.Paused] | type[m.Resumed]) -> None:
    """A pause of an unknown run or task is illegal."""
    story = a_story(a_plan(a_task("a")))
    for run, task in (("plan", "nobody"), ("nowhere", None), (None, "a")):
        with pytest.raises(IllegalEvent):
            story.send(kind(at=story.now, run=run, task=task))


STEPS = [
    "pending",
    "ready",
    "preparing",
    "starting",
    "running",
    "collecting",
    "bringing_in",
    "waiting",
    "merging",
]
STEPS += ["rebasing", "verifying"]


def a_story_at(step: str) -> Story:
    """Task `a` at this step; `b` needs it and `other` is before it in the queue."""
    tasks = [
        a_task("first"),
        a_task("a", needs=["first"] if step == "pending" else [], claims=["x"], verify=["make"]),
        a_task("b", needs=["a"]),
    ]
    width = 1 if step == "ready" else 4
    story = a_story(a_plan(*tasks), bench=Story(Limits(workers_max=width, ramp_per_s=1000.0)))
    if step in ("pending", "ready", "preparing"):
        return story
    take = story.sole(cmd.TakeWorktree, "a")
    story.send(m.WorktreeReady(**story.where(take), path="/pool/a"))
    if step == "starting":
        return story
    story.send(m.WorkerStarted(**story.where(story.sole(cmd.StartWorker)), pid=1, started_at=story.now))
    if step == "running":
        return story
    story.exit("a")
    if step == "collecting":
        return story
    if step == "waiting":
        story.work("first")
    story.collect("a", ["x"], commits=2)
    if step == "bringing_in":
        return story
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn))))
    if step in ("waiting", "merging"):
        return story
    if step == "rebasing":
        story.conflict("a")
    else:
        story.merge("a")
    return story


@pytest.mark.parametrize("step", STEPS)
def test_a_task_can_be_cancelled_at_every_step(step: str) -> None:
    """A cancelled task ends as cancelled, at once or when its worker has ended and its work is kept; its slot and claims are
    free, its dependants blocked, and nothing of it is outstanding."""
    story = a_story_at(step)
    attempt = story.task("a").attempt
    assert (attempt.step if attempt else story.state("a")) == step
    turn = story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("a",)))
    dropped = step in ("collecting", "verifying")  # what goes on for it and is not waited for any more
    assert turn.dropped == ([("plan", "a", 1)] if dropped else [])
    if step == "preparing":
        story.send(m.WorktreeReady(**story.where(story.sole(cmd.TakeWorktree, "a")), path="/pool/a"))
    if step == "starting":
        story.send(m.WorkerStarted(**story.where(story.sole(cmd.StartWorker, "a")), pid=1, started_at=1.0))
    if step in ("starting", "running"):
        assert [c.why for c in story.commands if isinstance(c, cmd.EndWorker)] == ["cancelled"]
        story.exit("a", 143)
    if step in ("starting", "running", "collecting"):
        assert story.sole(cmd.Collect).branch == "swarm/plan/task/a/1"
        collected = m.Collected(at=1.0, run="plan", task="a", attempt=1, head="h", commits=1, touched=("x",))
        story.send(collected)
    assert (story.state("a"), story.why("a"), story.state("b")) == ("cancelled", "cancelled", "blocked")
    assert "a" not in {held.holder for held in story.run.claims.held()}
    left = [c for c in pending_commands(story.swarm) if getattr(c, "task", None) == "a"]
    assert {type(command) for command in left} <= {cmd.GiveBackWorktree}
    assert invariants(story.swarm) == []


@pytest.mark.parametrize("step", ["advancing", "publishing"])
def test_what_moves_staging_already_lands(step: str) -> None:
    """A task that is moving staging can't be held up any more: a cancel leaves it and it lands."""
    story = a_story(a_plan(a_task("a")))
    story.work("a")
    story.merge("a")
    if step == "publishing":
        story.advance("a")
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("a",)))
    if step == "advancing":
        story.advance("a")
    story.publish()
    assert story.state("a") == "landed"


@pytest.mark.parametrize("names", list(itertools.permutations("abc")), ids="".join)
def test_a_whole_run_is_cancelled_and_nothing_of_it_counts_as_blocked(names: tuple[str, ...]) -> None:
    """Cancelling every task of a run, named in any order, ends all of them as cancelled, and tells the end once, last."""
    story = a_story(a_plan(a_task("a", needs=["b"]), a_task("b", needs=["c"]), a_task("c")))
    story.up("c")
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=names))
    assert story.states() == {"a": "cancelled", "b": "cancelled", "c": "running"}
    assert story.told("RunEnded") == []
    story.exit("c", 143)
    story.collect("c")
    assert set(story.states().values()) == {"cancelled"}
    assert story.facts[-1].type == "RunEnded"
    assert story.facts[-1].data["cancelled"] == 3
    assert invariants(story.swarm) == []


def test_cancelling_twice_is_once() -> None:
    """A task named twice, or cancelled again, is cancelled once; a retry frees its dependants as ever."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["c"]), a_task("c", needs=["a"])))
    for _ in range(2):
        story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("c", "c")))
    assert [fact.task for fact in story.told("TaskCancelled")] == ["c"]
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("c", "c")))
    assert story.states() == {"a": "running", "b": "pending", "c": "pending"}


def test_a_worker_whose_watch_failed_can_be_ended() -> None:
    """Cancel, timeout and stop reach a worker whose watch could not be carried out and waits to be tried again."""
    for ask in (
        m.TasksCancelled(at=0.0, run="plan", tasks=("a",)),
        m.StopRequested(at=0.0, end_workers=True),
        None,
    ):
        story = a_story(a_plan(a_task("a", timeout_s=0.1)))
        story.up("a")
        story.send(
            m.CommandFailed(**story.where(story.sole(cmd.WatchWorker)), command="WatchWorker", text="no")
        )
        if ask is None:
            story.wait(0.2)
        else:
            story.send(ask)
        assert pending_commands(story.swarm) == [story.sole(cmd.EndWorker)]


def test_only_what_ended_badly_can_be_retried() -> None:
    """Retrying a task that runs, waits or has landed is refused and changes nothing, also beside one that failed."""
    story = a_story(a_plan(a_task("a", attempts=1), a_task("b"), a_task("c"), a_task("d", needs=["b"])))
    story.fail("a")
    story.land("c")
    before = snapshot(story.swarm)
    for wrong in ("b", "c", "d"):
        with pytest.raises(IllegalEvent):
            story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a", wrong)))
    assert snapshot(story.swarm) == before


def test_a_retry_gives_a_new_budget_and_keeps_the_numbers() -> None:
    """A retried task has all its attempts again; they are numbered on, and the first is told why the last one failed."""
    story = a_story(a_plan(a_task("a", attempts=2)))
    story.fail("a")
    story.fail("a")
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a",)))
    assert story.told("TaskRetried")[0].task == "a"
    story.measure()
    story.fail("a")
    assert story.state("a") == "running"
    story.fail("a")
    assert story.state("a") == "failed"
    assert [attempt.n for attempt in story.task("a").attempts] == [1, 2, 3, 4]


def test_a_task_retried_after_a_conflict_runs_beside_others_again() -> None:
    """A person's retry after a conflict alone is an ordinary attempt."""
    story = a_story(a_plan(a_task("a"), a_task("b")))
    for _ in range(3):
        story.work("a")
        story.conflict("a")
        if story.state("b") == "running":
            story.land("b")
    assert story.why("a") == "conflict"
    story.submit(a_plan(a_task("a"), a_task("b"), a_task("c")))
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a",)))
    assert story.at_work() == ["c", "a"]


def test_what_is_told_reaches_the_next_attempt() -> None:
    """A note of the user's is in the feedback of the attempts that start after it, after the reason of the last one."""
    story = a_story(a_plan(a_task("a", attempts=3)))
    story.up("a")
    story.send(m.TaskTold(at=story.now, run="plan", task="a", text="mind the tests"))
    story.exit("a", 1)
    story.collect("a")
    take = story.sole(cmd.TakeWorktree)
    story.send(m.WorktreeReady(**story.where(take), path="/pool/a"))
    feedback = story.sole(cmd.StartWorker).feedback
    assert len(feedback) == 2
    assert "exit code 1" in feedback[0]
    assert feedback[1] == "mind the tests"


def test_what_is_told_before_the_start_reaches_the_first_attempt() -> None:
    """A note for a task that has not started is not lost."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"])))
    story.send(m.TaskTold(at=story.now, run="plan", task="b", text="be brief"))
    story.land("a")
    story.send(m.WorktreeReady(**story.where(story.sole(cmd.TakeWorktree)), path="/pool/b"))
    assert story.sole(cmd.StartWorker).feedback == ("be brief",)


def test_requests_about_what_nobody_knows_are_refused() -> None:
    """Requests for unknown runs and tasks are illegal and change nothing."""
    story = a_story(a_plan(a_task("a")))
    before = snapshot(story.swarm)
    for run, name in (("nowhere", "a"), ("plan", "nobody")):
        for request in (
            m.TasksCancelled(at=1.0, run=run, tasks=("a", name)),
            m.TasksRetried(at=1.0, run=run, tasks=(name,)),
            m.TaskTold(at=1.0, run=run, task=name, text="x"),
        ):
            with pytest.raises(IllegalEvent):
                story.send(request)
    assert snapshot(story.swarm) == before


# --- every step


def test_every_step_is_reached() -> None:
    """There is no step of an attempt that no story leads to."""
    seen: set[Step] = set()
    for step in STEPS[2:]:
        seen.add(Step(a_story_at(step).attempt("a").step))
    story = a_story(a_plan(a_task("a", attempts=1), *(a_task(name, attempts=1) for name in "bcd")))
    story.work("a")
    story.merge("a")
    seen.add(story.attempt("a").step)
    story.advance("a")
    seen.add(story.attempt("a").step)
    story.publish()
    story.fail("b")
    story.up("c", "d")
    story.exit("c", None)
    story.collect("c")
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("d",)))
    story.exit("d", 143)
    story.collect("d")
    seen |= {attempt.step for task in story.run.tasks.values() for attempt in task.attempts}
    story = a_story(a_plan(a_task("a")))
    story.work("a")
    story.conflict("a")
    seen.add(story.task("a").attempts[0].step)
    # An undo, a verdict that waits for those ahead, a worker that stands still, one that answers: test_undoing, test_train,
    # test_memory, test_building.
    assert seen == set(Step) - {Step.REVERTING, Step.VERIFIED, Step.SUSPENDED, Step.ANSWERED}


STRANGERS: list[m.Event] = [
    m.WorktreeReady(at=9.0, run="plan", task="a", attempt=1, path="/x"),
    m.WorkerStarted(at=9.0, run="plan", task="a", attempt=1, pid=1, started_at=9.0),
    m.WorkerExited(at=9.0, run="plan", task="a", attempt=1, exit_code=0),
    m.Collected(at=9.0, run="plan", task="a", attempt=1, head="h", commits=1, touched=("x",)),
    m.WorktreeReturned(at=9.0, run="plan", task="a", attempt=9),
    m.BroughtIn(at=9.0, run="plan", task="a", attempt=1),
    m.CandidateMade(at=9.0, run="plan", task="a", attempt=1, onto="x", candidate="c"),
    m.MergeConflicted(at=9.0, run="plan", task="a", attempt=9, onto="x", paths=("p",)),
    m.Rebased(at=9.0, run="plan", task="a", attempt=9, onto="x", head="h"),
    m.RebaseConflicted(at=9.0, run="plan", task="a", attempt=9, onto="x", paths=("p",)),
    m.Verified(at=9.0, run="plan", task="a", attempt=1, candidate="other"),
    m.StagingAdvanced(at=9.0, run="plan", task="a", attempt=9, candidate="c"),
    m.StagingMoved(at=9.0, run="plan", task="a", attempt=9, found="c", candidate="d"),
    m.CommandFailed(at=9.0, run="plan", task="a", attempt=1, command="Nothing", text="x"),
    m.RunCommandFailed(at=9.0, run="plan", command="Nothing", text="x"),
    m.RunPrepared(at=9.0, run="plan", commit="c", worktree="/w"),
    m.Published(at=9.0, run="plan", commit="nothing"),
    m.Followed(at=9.0, run="plan", commit="nothing"),
    m.Finished(at=9.0, run="plan", request="nothing", target="main", commit="c"),
    m.TasksRetried(at=9.0, run="plan", tasks=("b",)),
    m.Event(at=9.0),
]


EXPECTED = {
    "preparing": m.WorktreeReady,
    "starting": m.WorkerStarted,
    "running": m.WorkerExited,
    "collecting": m.Collected,
    "bringing_in": m.BroughtIn,
}


@pytest.mark.parametrize("step", STEPS)
def test_an_event_out_of_place_is_refused_and_changes_nothing(step: str) -> None:
    """At every step an event that does not belong there raises `IllegalEvent` and leaves everything as it was."""
    story = a_story_at(step)
    before = snapshot(story.swarm)
    for event in STRANGERS:
        if type(event) is not EXPECTED.get(step):
            with pytest.raises(IllegalEvent):
                machine.step(story.swarm, event)
            assert snapshot(story.swarm) == before

"""Submissions: a plan that comes again, a part of one, and the finish."""

from __future__ import annotations

import dataclasses
import re

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core import submission
from swarm.core.invariants import invariants
from swarm.core.model import Limits, PhaseSpec, Reason, TaskSpec
from swarm.core.state import IllegalEvent, StaleEvent, pending_commands
from tests.builders import BASE, a_plan, a_task, submitted
from tests.stories import Story, a_story, snapshot

ONE_AT_A_TIME = (PhaseSpec(id="p", parallel_safe=False),)
THEN = (PhaseSpec(id="p"), PhaseSpec(id="q", phase_needs=("p",)))


# --- a plan comes again


def test_the_same_plan_again_changes_nothing() -> None:
    """Submitting a plan twice adds nothing, starts nothing again, and keeps what has landed."""
    plan = a_plan(a_task("a", phase="p"), a_task("b", phase="q"), phases=THEN)
    story = a_story(plan)
    story.land("a")
    before = snapshot(story.run)
    change = submission.would_change(story.swarm, "plan", plan)
    assert (change.added, change.replaced, change.unchanged, change.refused) == ((), (), 2, ())
    turn = story.submit(plan)
    assert turn.commands == []
    assert snapshot(story.run) == before


def test_the_same_plan_after_its_end_keeps_the_end() -> None:
    """A plan that has ended and been finished stays so when it is submitted again unchanged."""
    plan = a_plan(a_task("a"))
    story = a_story(plan)
    story.land("a")
    story.send(
        m.FinishRequested(at=story.now, run="plan", request="1", target="main", commit=story.run.published)
    )
    story.send(m.Finished(at=story.now, run="plan", request="1", target="main", commit="merged"))
    ended = story.run.ended_at
    story.now += 100.0
    story.submit(plan)
    assert (story.run.ended_at, story.run.finished_commit) == (ended, "merged")
    assert len(story.told("RunEnded")) == 1


def test_what_is_finished_is_what_was_looked_at() -> None:
    """What lands between the look, or the approval, and the request is not merged with it, and the run is not finished then."""
    story = a_story(a_plan(a_task("a"), a_task("b")))
    story.land("a")
    approved = story.run.published
    story.land("b")
    story.send(m.FinishRequested(at=story.now, run="plan", request="1", target="main", commit=approved))
    assert story.sole(cmd.Finish).commit == approved != story.run.published
    story.send(m.Finished(at=story.now, run="plan", request="1", target="main", commit=approved))
    assert not story.run.on_target


def test_what_is_new_is_added_and_runs() -> None:
    """New tasks of a plan that has ended run, and its end is told again."""
    story = a_story(a_plan(a_task("a")))
    story.land("a")
    story.submit(a_plan(a_task("a"), a_task("b", needs=["a"])))
    assert story.told("PlanAccepted")[-1].data == {"added": 1, "replaced": 0, "unchanged": 1}
    story.land("b")
    assert [fact.data["landed"] for fact in story.told("RunEnded")] == [1, 2]


def test_what_a_plan_leaves_out_that_the_same_file_named() -> None:
    """Only what that very file named last and has not ended, not what another one did or was added, and nothing of a plan that is
    in no file."""
    tasks = [a_task("a"), a_task("b", needs=["a"]), a_task("c", needs=["a"]), a_task("d", needs=["a"])]
    story = a_story(dataclasses.replace(a_plan(*tasks), source="/p"))
    story.submit(dataclasses.replace(a_plan(tasks[2], a_task("x", needs=["a"])), source="/q"))
    story.submit(a_plan(a_task("added", needs=["a"])))

    def left_out(*names: str, source: str = "/p") -> tuple[str, ...]:
        plan = a_plan(*(each for each in tasks if each.id in names))
        return submission.left_out(story.run, dataclasses.replace(plan, source=source))

    assert left_out("a", "b", "c", "d") == ()
    assert left_out("a", "d") == ("b",)
    assert left_out() == ("a", "b", "d")
    assert left_out("c", source="/q") == ("x",)
    assert left_out(source="") == left_out(source="/else") == ()
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("b",)))
    story.land("a")
    assert left_out() == ("d",)


def test_what_changed_and_has_not_started_is_replaced() -> None:
    """A changed task that has not started runs as it is written now, with its new needs and claims."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"]), a_task("c")))
    story.submit(a_plan(a_task("a"), a_task("b", claims=["x"], title="New"), a_task("c")))
    assert story.told("PlanAccepted")[-1].data["replaced"] == 1
    assert "b" in story.at_work()
    start = story.run.tasks["b"]
    assert (start.spec.title, story.run.shown_claims(start)) == ("New", start.spec.claims)


def test_a_changed_task_that_has_started_is_refused_by_name() -> None:
    """A plan that changes a started task is illegal, names it, and changes nothing of the rest either."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"])))
    plan = a_plan(a_task("a", title="Other"), a_task("b", title="Other"), a_task("c"))
    assert submission.would_change(story.swarm, "plan", plan).refused == ("a",)
    before = snapshot(story.swarm)
    with pytest.raises(IllegalEvent, match="a changed in the plan and started"):
        story.send(submitted(plan))
    assert snapshot(story.swarm) == before


def test_titles_that_make_the_same_id_are_tasks_of_their_own() -> None:
    """The id that a title makes is changed where something else has it: a task with another title, one that was finished before, or
    a phase; the same title has the same id again."""
    tasks = (a_task("fix-c", title="Fix C++", phase="ui"), a_task("old", title="Old", finished=True))
    story = a_story(a_plan(*tasks, phases=(PhaseSpec(id="ui"),)))

    def named(title: str, made: str) -> str:
        return submission.id_of_title(story.run, a_task(made, title=title))

    assert named("Fix D", "fix-d") == "fix-d"
    assert (named("Fix C++", "fix-c"), named("Old", "old")) == ("fix-c", "old")
    others = {named("Fix C#", "fix-c"), named("Fix C", "fix-c"), named("OLD", "old"), named("UI", "ui")}
    assert len(others) == 4
    assert all(re.fullmatch("(fix-c|old|ui)-[0-9a-f]{6}", name) for name in others)
    other = named("Fix C#", "fix-c")
    story.submit(a_plan(a_task(other, title="Fix C#")))
    assert named("Fix C#", "fix-c") == other
    story.submit(a_plan(a_task(named("Fix C", "fix-c"), title="By hand, with that very id")))
    assert named("Fix C", "fix-c") not in story.run.tasks


def test_a_replaced_ready_task_waits_for_its_new_need() -> None:
    """A ready task that gets a need goes back to pending and starts after it."""
    limits = Limits(workers_max=1, ramp_per_s=1000.0)
    story = a_story(a_plan(a_task("a"), a_task("b"), a_task("c")), bench=Story(limits))
    story.submit(a_plan(a_task("a"), a_task("b", needs=["c"]), a_task("c")))
    assert story.states() == {"a": "running", "b": "pending", "c": "ready"}
    story.land("a", "c")
    assert story.at_work() == ["b"]


def test_a_replaced_cancelled_task_runs_with_all_that_needs_it() -> None:
    """A cancelled task that is written anew before it ever started is wanted again, and so is what it had blocked."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"]), a_task("c", needs=["b"])))
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("b",)))
    assert story.states() == {"a": "running", "b": "cancelled", "c": "blocked"}
    story.submit(a_plan(a_task("a"), a_task("b", needs=["a"], title="Again"), a_task("c", needs=["b"])))
    assert story.states() == {"a": "running", "b": "pending", "c": "pending"}
    assert (story.task("b").reason, story.task("c").reason) == (None, None)
    story.land("a", "b", "c")


def test_a_blocked_task_without_its_dead_need_goes_on() -> None:
    """Taking a failed need out of the plan unblocks the task and what needs it."""
    story = a_story(a_plan(a_task("a", attempts=1), a_task("b", needs=["a"]), a_task("c", needs=["b"])))
    story.fail("a")
    story.submit(a_plan(a_task("a", attempts=1), a_task("b"), a_task("c", needs=["b"])))
    assert story.states() == {"a": "failed", "b": "running", "c": "pending"}


def test_a_replaced_task_that_needs_a_failed_one_blocks_its_dependants() -> None:
    """Giving a task a need that has failed blocks it and what needs it, so that nothing waits for ever."""
    tasks = [a_task("a", attempts=1), a_task("x"), a_task("b", needs=["x"]), a_task("c", needs=["b"])]
    story = a_story(a_plan(*tasks))
    story.fail("a")
    tasks[2] = a_task("b", needs=["a"])
    story.submit(a_plan(*tasks))
    assert (story.state("b"), story.state("c")) == ("blocked", "blocked")
    assert invariants(story.swarm) == []


def test_a_dead_task_added_to_a_phase_blocks_what_waits_for_it() -> None:
    """A new task that needs a failed one is blocked, and with it what waits for its phase: the run ends all the same."""
    tasks = [a_task("x", attempts=1), a_task("a", phase="p"), a_task("b", phase="q")]
    story = a_story(a_plan(*tasks, phases=THEN))
    story.fail("x")
    story.submit(a_plan(*tasks, a_task("n", phase="p", needs=["x"]), phases=THEN))
    assert (story.state("n"), story.state("b")) == ("blocked", "blocked")
    story.land("a")
    assert len(story.told("RunEnded")) == 1


def test_a_task_added_to_a_finished_phase_runs() -> None:
    """A task added to a phase that has landed runs; what came after that phase and has started goes on."""
    story = a_story(a_plan(a_task("a", phase="p"), a_task("b", phase="q"), phases=THEN))
    story.land("a")
    story.submit(a_plan(a_task("a", phase="p"), a_task("b", phase="q"), a_task("n", phase="p"), phases=THEN))
    assert story.at_work() == ["b", "n"]


@pytest.mark.parametrize(
    ("tasks", "names"),
    [
        ([a_task("a", needs=["b"]), a_task("b", needs=["a"])], "in a circle: a -> b -> a"),
        ([a_task("a", needs=["nobody"])], "nobody knows nobody"),
        ([a_task("a", phase="nowhere")], "nobody knows nowhere"),
        ([a_task("a", phase_needs=["nowhere"])], "nobody knows nowhere"),
        ([a_task("a"), a_task("a")], "the same id"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(tasks: list[TaskSpec], names: str) -> None:
    """Rings, unknown needs and phases, and double ids are illegal; not even the run is made."""
    story = Story()
    before = snapshot(story.swarm)
    with pytest.raises(IllegalEvent, match=names):
        story.send(submitted(a_plan(*tasks)))
    assert snapshot(story.swarm) == before


def test_a_ring_with_what_is_there_is_refused() -> None:
    """An added task that closes a ring with tasks of the run, through a phase, is illegal."""
    story = a_story(a_plan(a_task("a", phase="p"), a_task("b", phase="q"), phases=THEN))
    before = snapshot(story.swarm)
    with pytest.raises(IllegalEvent, match="in a circle: n -> b -> q -> p -> n"):
        story.send(submitted(a_plan(a_task("n", phase="p", needs=["b"]))))
    assert snapshot(story.swarm) == before


def test_finished_tasks_meet_needs_and_are_never_run() -> None:
    """Tasks that a foreign plan says are done satisfy needs and phases, are no tasks of the run, and stay so."""
    tasks = [a_task("a", phase="p", finished=True), a_task("b", needs=["a"]), a_task("c", phase="q")]
    story = a_story(a_plan(*tasks, phases=THEN))
    assert story.states() == {"b": "running", "c": "running"}
    assert list(story.run.finished_before) == ["a"]
    assert submission.would_change(story.swarm, "plan", a_plan(*tasks, phases=THEN)).unchanged == 3


def test_what_has_not_started_and_is_finished_now_only_meets_needs() -> None:
    """A task that a plan submitted again says is finished is no task of the run any more: what needs it goes on, it holds no place
    in its phase, and one added later has an order of its own. What has started, or landed, stays what it is."""
    limits = Limits(workers_max=1, ramp_per_s=1000.0)
    phases = (PhaseSpec(id="s", parallel_safe=False), PhaseSpec(id="t", phase_needs=("s",)))
    tasks = {
        "a": a_task("a"),
        "b": a_task("b", claims=["x"]),
        "c": a_task("c", needs=["b"]),
        "d": a_task("d", phase="s"),
        "e": a_task("e", phase="s"),
        "f": a_task("f", phase="t"),
        "z": a_task("z"),
    }
    story = a_story(a_plan(*tasks.values(), phases=phases), bench=Story(limits))
    assert story.states()["a"] == "running"
    over = {name: a_task(name, phase=tasks[name].phase, finished=True) for name in "abdz"}
    plan = a_plan(*{**tasks, **over, "n": a_task("n")}.values(), phases=phases)
    change = submission.would_change(story.swarm, "plan", plan)
    assert (change.added, change.finished, change.unchanged) == (("n",), ("b", "d", "z"), 4)
    story.send(submitted(plan))
    assert story.told("PlanAccepted")[-1].data["finished_before"] == 3
    assert story.states() == {"a": "running", "c": "ready", "e": "ready", "f": "pending", "n": "ready"}
    assert list(story.run.finished_before) == ["b", "d", "z"]
    assert not invariants(story.swarm)
    assert len({task.order for task in story.run.tasks.values()}) == len(story.run.tasks)
    story.land("a", "c", "e", "n", "f")
    assert story.told("RunEnded")[-1].data["landed"] == 5


def test_what_a_finished_task_had_blocked_goes_on() -> None:
    """Also where it was cancelled before it had started, and where nothing else is open the run ends."""
    tasks = [a_task("a"), a_task("b"), a_task("c", needs=["b"])]
    story = a_story(a_plan(*tasks), bench=Story(Limits(workers_max=1, ramp_per_s=1000.0)))
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("b",)))
    story.land("a")
    assert story.states() == {"a": "landed", "b": "cancelled", "c": "blocked"}
    story.send(submitted(a_plan(tasks[0], a_task("b", finished=True), tasks[2])))
    assert story.states() == {"a": "landed", "c": "running"}
    story.fail("c")
    story.fail("c")
    story.send(submitted(a_plan(tasks[0], a_task("c", finished=True))))
    assert story.states() == {"a": "landed", "c": "failed"}


def test_suites_that_are_taken_out_of_a_plan_verify_nothing_more() -> None:
    """What is merged from then on has to pass none of them."""
    story = a_story(a_plan(a_task("a", attempts=1), verify=["make"]))
    assert [suite.run for suite in story.run.plan.verify] == ["make"]
    story.submit(a_plan(a_task("a", attempts=1)))
    assert story.run.plan.verify == ()
    story.land("a")
    assert story.told("TaskLanded")[-1].data.get("verified", []) == []


def test_what_ended_without_landing_and_was_changed_is_begun_again() -> None:
    """A failed task that a plan says something else of has all its attempts again, by what is said now; its former ones stay, and
    what it had blocked goes on. What says the same, is at work or has landed stays as it is."""
    tasks = [
        a_task("a", attempts=1),
        a_task("b", needs=["a"]),
        a_task("c", attempts=1),
        a_task("d"),
        a_task("e"),
    ]
    story = a_story(a_plan(*tasks))
    story.fail("a")
    story.fail("c")
    story.land("d")
    assert story.states() == {"a": "failed", "b": "blocked", "c": "failed", "d": "landed", "e": "running"}
    mended = a_plan(a_task("a", attempts=1, title="Mended", claims=["x"]), *tasks[1:])
    change = submission.would_change(story.swarm, "plan", mended)
    assert (change.replaced, change.refused, change.unchanged) == (("a",), (), 4)
    story.send(submitted(mended))
    assert not invariants(story.swarm)
    assert [fact.task for fact in story.told("TaskRetried")] == ["a"]
    assert story.states() == {"a": "running", "b": "pending", "c": "failed", "d": "landed", "e": "running"}
    again = story.task("a")
    assert ([each.n for each in again.attempts], again.spec.title) == ([1, 2], "Mended")
    assert story.run.shown_claims(again) == again.spec.claims
    story.fail("a")
    assert story.states()["b"] == "blocked"
    story.send(submitted(a_plan(tasks[0], *tasks[1:])))
    story.land("a", "b")
    for name in ("d", "e"):
        other = a_plan(*(a_task(task.id, title="Other") if task.id == name else task for task in tasks))
        assert submission.would_change(story.swarm, "plan", other).refused == (name,)


def test_what_was_cancelled_at_work_is_begun_again_once_it_has_ended() -> None:
    """And only where the plan says something else of it; until then that is refused."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    same, other = a_plan(a_task("a", attempts=1)), a_plan(a_task("a", attempts=1, title="Other"))
    story.up("a")
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("a",)))
    assert submission.would_change(story.swarm, "plan", other).refused == ("a",)
    story.exit("a", 143)
    story.collect("a")
    story.send(submitted(same))
    assert story.states() == {"a": "cancelled"}
    story.send(submitted(other))
    assert story.states() == {"a": "running"}
    story.land("a")


def test_a_plan_has_no_say_in_tasks_of_our_own() -> None:
    """A task that asks something for a goal is none of a plan's, also where it has one of that id that it says is finished."""
    asks = dataclasses.replace(a_task("s", attempts=1), answer="findings")
    story = a_story(a_plan(a_task("a"), asks), bench=Story(Limits(workers_max=1, ramp_per_s=1000.0)))
    over = a_plan(a_task("a", finished=True), a_task("s", finished=True))
    assert submission.would_change(story.swarm, "plan", over).finished == ()
    story.land("a")
    story.fail("s")
    other = a_plan(a_task("s", title="Other"))
    assert submission.would_change(story.swarm, "plan", other).refused == ("s",)


# --- parts of a plan


def test_only_runs_a_task_and_what_it_needs() -> None:
    """With `only` the named task and what it needs run, through tasks and phases; the rest stays, and the run ends without it."""
    tasks = [
        a_task("a", phase="p"),
        a_task("b", phase="p"),
        a_task("c", phase="q", needs=["x"]),
        a_task("x"),
        a_task("d", phase="q"),
        a_task("e"),
    ]
    story = a_story(a_plan(*tasks, phases=THEN), only=("c",))
    story.land("a", "b", "x", "c")
    assert story.states() == {
        "a": "landed",
        "b": "landed",
        "c": "landed",
        "x": "landed",
        "d": "ready",
        "e": "ready",
    }
    assert len(story.told("RunEnded")) == 1
    assert (story.run.open_tasks, pending_commands(story.swarm)) == (0, [])
    story.submit(a_plan(*tasks, phases=THEN))
    assert story.at_work() == ["d", "e"] or story.at_work() == ["e", "d"]


def test_only_in_a_phase_that_goes_one_at_a_time() -> None:
    """A task picked by `only` does not wait for one before it in its phase that was left out; later the order holds again."""
    tasks = [a_task(name, phase="p") for name in "abcd"]
    story = a_story(a_plan(*tasks, phases=ONE_AT_A_TIME), only=("b", "d"))
    assert story.at_work() == ["b"]
    story.land("b")
    assert story.at_work() == ["d"]
    story.land("d")
    assert len(story.told("RunEnded")) == 1
    story.submit(a_plan(*tasks, phases=ONE_AT_A_TIME))
    assert story.at_work() == ["a"]
    story.land("a", "c")


def test_only_of_what_nobody_knows_is_refused() -> None:
    """`only` with an unknown task is illegal, and no run is made."""
    story = Story()
    with pytest.raises(IllegalEvent, match="no task nobody"):
        story.send(submitted(a_plan(a_task("a")), only=("nobody",)))
    assert story.swarm.runs == {}


def test_sequential_runs_one_task_at_a_time() -> None:
    """With `sequential` no two tasks run at once, whatever their claims, and all of them land."""
    story = a_story(a_plan(*(a_task(name) for name in "abc")), sequential=True)
    for name in "abc":
        assert story.at_work() == [name]
        story.land(name)


def test_fail_fast_cancels_the_rest() -> None:
    """With `fail_fast` the first failure cancels all that has not ended; running workers are ended and their work is kept."""
    story = a_story(
        a_plan(a_task("a", attempts=1), a_task("b"), a_task("c", needs=["b"]), a_task("d", needs=["a"])),
        fail_fast=True,
    )
    story.up("b")
    story.fail("a")
    assert story.states() == {"a": "failed", "b": "running", "c": "cancelled", "d": "blocked"}
    assert story.sole(cmd.EndWorker, "b").why == "cancelled"
    story.exit("b", 143)
    story.collect("b")
    assert story.state("b") == "cancelled"
    assert len(story.told("RunEnded")) == 1


def test_without_fail_fast_the_rest_goes_on() -> None:
    """One failure does not stop a task that is independent of it."""
    story = a_story(a_plan(a_task("a", attempts=1), a_task("b")))
    story.fail("a")
    story.land("b")
    assert story.states() == {"a": "failed", "b": "landed"}


# --- finishing


def test_finishing_is_asked_and_answered_once() -> None:
    """A request to finish goes out with the commit that staging stood at, comes back as finished, and is told."""
    story = a_story(a_plan(a_task("a"), a_task("b"), verify=["make"]))
    story.land("a")
    landed = story.run.published
    story.send(
        m.FinishRequested(at=story.now, run="plan", request="r1", target="main", commit=story.run.published)
    )
    finish = story.sole(cmd.Finish)
    assert (finish.commit, finish.base, finish.target, finish.request) == (landed, BASE, "main", "r1")
    assert [suite.run for suite in finish.suites] == ["make"]
    story.land("b")
    assert [c for c in pending_commands(story.swarm) if isinstance(c, cmd.Finish)] == [finish]
    story.send(m.Finished(at=story.now, run="plan", request="r1", target="main", commit="merged"))
    assert story.run.finished_commit == "merged"
    assert story.told("RunFinished")[0].data["commit"] == "merged"
    with pytest.raises(StaleEvent):
        story.send(m.Finished(at=story.now, run="plan", request="r1", target="main", commit="merged"))


def test_the_same_request_again_is_the_same() -> None:
    """A repeated request to finish with its own key sends nothing more; another one meanwhile is refused."""
    story = a_story(a_plan(a_task("a")))
    story.send(
        m.FinishRequested(at=story.now, run="plan", request="r1", target="main", commit=story.run.published)
    )
    assert (
        story.send(
            m.FinishRequested(
                at=story.now, run="plan", request="r1", target="main", commit=story.run.published
            )
        ).commands
        == []
    )
    with pytest.raises(IllegalEvent, match="being finished already"):
        story.send(
            m.FinishRequested(
                at=story.now, run="plan", request="r2", target="main", commit=story.run.published
            )
        )


def test_a_refused_finish_leaves_the_run_as_it_was() -> None:
    """After a refusal nothing is outstanding and the run can be finished later; staging it only does not count as finished."""
    story = a_story(a_plan(a_task("a")))
    story.send(
        m.FinishRequested(at=story.now, run="plan", request="r1", target="main", commit=story.run.published)
    )
    reason = Reason("dirty", "main has edits")
    story.send(m.FinishRefused(at=story.now, run="plan", request="r1", target="main", reason=reason))
    assert story.run.finished_commit is None
    story.send(
        m.FinishRequested(
            at=story.now, run="plan", request="r2", target="main", stage_only=True, commit=story.run.published
        )
    )
    story.send(m.Finished(at=story.now, run="plan", request="r2", target="main", commit="c", stage_only=True))
    assert story.run.finished_commit is None


def test_a_run_that_is_not_prepared_cannot_be_finished() -> None:
    """Before staging exists there is nothing to finish."""
    story = Story()
    story.send(submitted(a_plan(a_task("a"))))
    with pytest.raises(IllegalEvent, match="not prepared"):
        story.send(m.FinishRequested(at=1.0, run="plan", request="r1", target="main", commit=BASE))

"""Taking landed tasks off staging again: what goes with them, how an undo lands, and how it leaves things when it does not."""

from __future__ import annotations

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import PhaseSpec, PlanSpec, Reason, Sides
from swarm.core.needs import Needs
from swarm.core.report import run_state
from swarm.core.state import IllegalEvent
from swarm.core.undoing import outlook
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story


def landed(plan: PlanSpec, *names: str) -> Story:
    story = a_story(plan)
    story.land(*names)
    return story


def ask(story: Story, task: str) -> None:
    story.send(m.UndoRequested(at=story.now, run="plan", task=task))


def revert(story: Story, task: str) -> cmd.Revert:
    """The revert of a task is made."""
    command = story.sole(cmd.Revert, task)
    story.send(m.CandidateMade(**story.where(command), onto=command.onto, candidate=story.commit()))
    return command


def undo(story: Story, task: str) -> str:
    """The whole way of an undo; gives its commit."""
    ask(story, task)
    revert(story, task)
    if story.has(cmd.Verify, task):
        story.verify(task)
    new = story.advance(task)
    story.publish()
    assert invariants(story.swarm) == []
    return new


def test_an_undo_is_a_revert_that_lands_like_anything_else() -> None:
    """The revert is made onto staging, verified by the plan's suites and not by those of what is taken off, and published; then the
    task is cancelled with `undone`, and the run has ended again."""
    story = landed(a_plan(a_task("a", verify=["test -f a"]), verify=["make"]), "a")
    commit = story.task("a").landed_commit
    ask(story, "a")
    assert (story.state("a"), story.task("a").landed_commit) == ("landing", commit)
    command = revert(story, "a")
    assert (command.onto, command.landings, command.verified) == (commit, (("a", commit),), ("make",))
    story.verify("a")
    (advance,) = [c for c in story.commands if isinstance(c, cmd.Advance)]
    assert (advance.old, advance.reverts) == (commit, (commit,))
    new = story.advance("a")
    story.publish()
    assert (story.state("a"), story.why("a"), story.task("a").landed_commit) == ("cancelled", "undone", None)
    assert story.run.landed == []
    assert story.run.published == new
    assert [a.step.value for a in story.task("a").attempts] == ["landed", "cancelled"]
    assert [fact.data["cancelled"] for fact in story.told("RunEnded")] == [0, 1]


def test_what_needed_it_goes_with_it_newest_first() -> None:
    """Landed tasks that needed it are in the same revert, those at work are cancelled, those that wait are blocked."""
    plan = a_plan(
        a_task("a"),
        a_task("b", needs=["a"]),
        a_task("c", needs=["b"]),
        a_task("d", needs=["b"]),
        a_task("e", needs=["d"]),
        a_task("f"),
    )
    story = landed(plan, "a", "f", "b", "c")
    story.up("d")
    change = outlook(story.run, "a")
    assert (change.undone, change.cancelled, change.blocked) == (("c", "b", "a"), ("d",), ("e",))
    ask(story, "a")
    story.exit("d", 143)
    story.collect("d")
    assert [name for name, _ in story.sole(cmd.Revert).landings] == ["c", "b", "a"]
    assert story.states() == {
        **dict.fromkeys("bc", "landed"), "a": "landing", "d": "cancelled", "e": "blocked", "f": "landed",
    }  # fmt: skip


def test_a_retry_of_what_was_undone_makes_it_anew() -> None:
    """A retried task starts from staging as it is after the undo, and with it what was blocked by it can land again."""
    story = landed(
        a_plan(a_task("a"), a_task("b", needs=["a"]), a_task("c", needs=["b", "d"]), a_task("d")), "a", "b"
    )
    new = undo(story, "a")
    assert story.states() == {"a": "cancelled", "b": "cancelled", "c": "blocked", "d": "running"}
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a", "b")))
    story.measure()
    assert [c.base for c in story.commands if isinstance(c, cmd.TakeWorktree) and c.task == "a"] == [new]
    story.land("a", "b", "d", "c")
    assert story.states() == dict.fromkeys("abcd", "landed")
    assert [a.n for a in story.task("a").attempts] == [1, 2, 3]
    assert len(story.run.landed) == 4
    assert invariants(story.swarm) == []


def finish(story: Story, *, refused: bool = False) -> None:
    """A finish into main goes through, or is refused."""
    key = str(story.now)
    story.now += 1
    story.send(
        m.FinishRequested(at=story.now, run="plan", request=key, target="main", commit=story.run.published)
    )
    if refused:
        why = Reason("dirty", "main has edits")
        story.send(m.FinishRefused(at=story.now, run="plan", request=key, target="main", reason=why))
    else:
        story.send(m.Finished(at=story.now, run="plan", request=key, target="main", commit=story.commit()))


def test_what_lands_after_a_finish_is_not_finished() -> None:
    """A run whose retried task lands after finish, undo and finish has ended, and is finished only when a finish brought that to
    the target too; a refused one does not."""
    story = landed(a_plan(a_task("a")), "a")
    finish(story)
    assert run_state(story.run) == "finished"
    undo(story, "a")
    assert run_state(story.run) == "ended"
    finish(story)
    assert run_state(story.run) == "finished"
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a",)))
    story.measure()
    story.land("a")
    assert run_state(story.run) == "ended"
    finish(story, refused=True)
    assert run_state(story.run) == "ended"
    finish(story)
    assert run_state(story.run) == "finished"


@pytest.mark.parametrize("how", ["conflict", "red", "cancel"])
def test_an_undo_that_does_not_do_changes_nothing(how: str) -> None:
    """After a conflict, a red verification or a cancel of it the tasks have landed as before, and it is told why."""
    story = landed(a_plan(a_task("a"), a_task("b", needs=["a"]), verify=["make"]), "a", "b")
    before = dict(story.run.landed)
    ask(story, "a")
    if how == "conflict":
        command = story.sole(cmd.Revert)
        story.send(
            m.MergeConflicted(**story.where(command), onto=command.onto, paths=("x",), versions=(Sides("x"),))
        )
    else:
        revert(story, "a")
        if how == "red":
            story.red("a")
        else:
            story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("a",)))
    assert story.states() == dict.fromkeys("ab", "landed")
    assert dict(story.run.landed) == before
    (refused,) = story.told("UndoRefused")
    assert (
        refused.data["code"] == {"conflict": "conflict", "red": "verify_failed", "cancel": "cancelled"}[how]
    )
    assert invariants(story.swarm) == []
    story.take(cmd.Verify)
    undo(story, "a")


def test_nothing_starts_on_what_is_being_taken_off() -> None:
    """From the moment that staging has moved, what needs an undone task is blocked, also before the branch is published."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"])))
    story.send(m.Paused(at=story.now, run="plan", task="b"))
    story.land("a")
    ask(story, "a")
    revert(story, "a")
    assert story.state("b") == "ready"
    story.advance("a")
    assert (story.state("a"), story.state("b")) == ("landing", "blocked")
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("b",)))
    assert story.state("b") == "blocked"
    story.publish()
    assert (story.state("a"), story.state("b")) == ("cancelled", "blocked")


def test_an_undo_goes_before_what_waits_to_land() -> None:
    """A person waits for it, so it goes to the front of the merge queue."""
    story = landed(a_plan(a_task("a"), a_task("b"), a_task("c")), "a")
    story.work("b")
    story.work("c")
    ask(story, "a")
    story.merge("b")
    story.advance("b")
    assert story.has(cmd.Revert, "a")
    assert not story.has(cmd.Merge, "c")


def test_what_cant_be_undone_is_refused() -> None:
    """Only what has landed can be undone, one at a time, and not while something that needs it is just moving staging."""
    story = landed(a_plan(a_task("a"), a_task("b", needs=["a"]), a_task("c")), "a")
    with pytest.raises(IllegalEvent, match="only what has landed"):
        ask(story, "c")
    with pytest.raises(IllegalEvent, match="no task"):
        ask(story, "z")
    story.work("b")
    story.merge("b")
    with pytest.raises(IllegalEvent, match="just landing"):
        ask(story, "a")
    story.advance("b")
    story.publish()
    ask(story, "b")
    with pytest.raises(IllegalEvent, match="one at a time"):
        ask(story, "a")


def test_a_phase_that_was_over_is_not_over_without_an_undone_task() -> None:
    """What a phase comes before waits again when a task of the phase is undone, and goes on when that has landed anew."""
    phases = [PhaseSpec(id="one"), PhaseSpec(id="two", phase_needs=("one",))]
    plan = a_plan(a_task("a", phase="one"), a_task("b", phase="two"), a_task("c", phase="two"), phases=phases)
    story = landed(plan, "a", "b")
    story.up("c")
    ask(story, "a")
    story.exit("c", 143)
    story.collect("c")
    revert(story, "a")
    story.advance("a")
    story.publish()
    assert story.states() == {"a": "cancelled", "b": "cancelled", "c": "cancelled"}
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a", "b", "c")))
    story.measure()
    assert story.states() == {"a": "running", "b": "pending", "c": "pending"}
    story.land("a", "b", "c")
    assert story.states() == dict.fromkeys("abc", "landed")


def test_taking_back_counts_who_waits_for_whom_anew() -> None:
    """A need that is taken back is open again for all that need it, once each, also behind a gate that others joined later."""
    needs = Needs()
    needs.add(
        [PhaseSpec(id="p")],
        [a_task("a", phase="p"), a_task("b", phase_needs=["p"]), a_task("c", needs=["a"])],
    )
    needs.settle()
    needs.met("a")
    needs.add([], [a_task("late", phase="p")])
    needs.settle()
    needs.taken_back(["a"])
    assert not needs.free("b")
    assert not needs.free("c")
    assert needs.met("a") == ["c"]
    assert needs.met("late") == ["b"]
    assert sorted(needs.dependents("a")) == ["b", "c"]

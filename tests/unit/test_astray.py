"""What the machine makes of a staging branch that a person committed to, moved, deleted or checked out."""

from __future__ import annotations

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core import report
from swarm.core.astray import UNDER_WAY, explain
from swarm.core.invariants import invariants
from swarm.core.model import FoundAttempt, FoundRun, Seen, Standing
from swarm.core.state import IllegalEvent, StaleEvent, pending_commands
from tests.builders import BASE, a_plan, a_task
from tests.stories import Story, a_story, snapshot

THEIRS = "e" * 40
MOVED = Seen(Standing.MOVED, THEIRS)
AWAY = Seen(Standing.CHECKED_OUT, THEIRS, place="/away")


def by_hand(found: str = THEIRS, where: str = "branch", base: str = BASE) -> Seen:
    return Seen(Standing.BY_HAND, found, where, base, "Mend it", 2, ("x",))


def published(story: Story, seen: Seen) -> None:
    """The outstanding publish finds staging like this."""
    story.sole(cmd.Publish)
    story.send(m.StagingSeen(at=story.now, run="plan", command="Publish", seen=seen))


def looked(story: Story, seen: Seen) -> None:
    """The outstanding look finds staging like this."""
    story.sole(cmd.LookAtStaging)
    story.send(m.StagingSeen(at=story.now, run="plan", command="LookAtStaging", seen=seen))
    assert invariants(story.swarm) == []


def ask(story: Story) -> None:
    story.send(m.StagingLookAsked(at=story.now, run="plan"))


def bring_in(story: Story, task: str) -> None:
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, task))))


def advanced(*others: str, verify: tuple[str, ...] = ()) -> Story:
    """Task a has advanced and is to be published; the others are ready or run."""
    story = a_story(a_plan(a_task("a"), *(a_task(name) for name in others), verify=verify))
    story.work("a")
    story.merge("a")
    if verify:
        story.verify("a")
    story.advance("a")
    return story


def test_commits_by_hand_become_a_task_that_lands_before_the_others() -> None:
    """A person's commits are brought in, merged as they are, verified by the plan's suites, and published with what waited, from
    where they left the branch."""
    story = advanced("b", verify=("make",))
    story.work("b")
    published(story, by_hand())
    assert story.state("by-hand-1") == "queued"
    bring = story.sole(cmd.BringIn, "by-hand-1")
    assert (bring.head, bring.base, bring.branch) == (THEIRS, BASE, "swarm/plan/task/by-hand-1/1")
    story.send(m.BroughtIn(**story.where(bring)))
    story.merge("b")  # it was being merged already
    story.verify("b")
    story.advance("b")
    (merge,) = [c for c in story.commands if isinstance(c, cmd.Merge)]
    assert (merge.task, merge.by_hand, merge.verified) == ("by-hand-1", True, ("make",))
    assert not story.has(cmd.Publish)
    story.merge("by-hand-1")
    story.verify("by-hand-1")
    new = story.advance("by-hand-1")
    (publish,) = [c for c in story.commands if isinstance(c, cmd.Publish)]
    assert (publish.commit, publish.old, publish.published) == (new, THEIRS, BASE)
    story.publish()
    assert story.states() == {"a": "landed", "b": "landed", "by-hand-1": "landed"}
    assert [fact.type for fact in story.facts if fact.type.startswith("StagingA")] == ["StagingAstray"]
    assert len(story.told("StagingSettled")) == 1
    looked(story, Seen(Standing.AS_LEFT, new))
    assert not story.has(cmd.LookAtStaging)


def found_astray(story: Story, kind: type[cmd.Merge | cmd.Advance], task: str, seen: Seen) -> None:
    """Before this is done for a task, staging is found like this."""
    command = story.sole(kind, task)
    assert command.left == story.run.published
    story.send(m.StagingFoundAstray(**story.where(command), seen=seen))
    assert invariants(story.swarm) == []


@pytest.mark.parametrize("kind", [cmd.Merge, cmd.Advance])
def test_commits_by_hand_that_are_found_before_a_task_moves_staging_land_before_it(
    kind: type[cmd.Merge | cmd.Advance],
) -> None:
    """A task in whose landing a person's commits are found goes back to its place, and meets them as it meets any other landing:
    what conflicts is handed back, nothing stands."""
    story = a_story(a_plan(a_task("a", attempts=1), verify=("make",)))
    story.work("a")
    if kind is cmd.Advance:
        story.merge("a")
        story.verify("a")
    found_astray(story, kind, "a", by_hand())
    assert story.state("a") == "queued"
    assert not story.has(cmd.Merge)
    assert not story.has(cmd.Advance)
    bring_in(story, "by-hand-1")
    assert story.sole(cmd.Merge, "by-hand-1").left == ""  # nobody looks for what is being taken in
    story.send(
        m.CandidateMade(
            at=story.now,
            run="plan",
            task="by-hand-1",
            attempt=1,
            onto=story.run.staging,
            candidate="c" * 40,
            head=THEIRS,
            verified=("make",),
        )
    )
    story.verify("by-hand-1")
    story.advance("by-hand-1")
    story.publish()
    story.conflict("a", "x", landings=["by-hand-1"])
    assert story.states() == {"a": "running", "by-hand-1": "landed"}
    assert story.sole(cmd.TakeWorktree, "a").base == story.run.published
    assert len(story.told("StagingAstray")) == len(story.told("StagingSettled")) == 1


def test_a_task_that_finds_the_staging_branch_moved_waits_until_it_is_back() -> None:
    """It is not merged while that lasts, and by itself when it is over; what was found late changes nothing."""
    story = a_story(a_plan(a_task("a"), a_task("b")))
    story.work("a")
    where = story.where(story.sole(cmd.Merge, "a"))
    story.send(m.StagingFoundAstray(**where, seen=MOVED))
    with pytest.raises(StaleEvent):
        story.send(m.StagingFoundAstray(**where, seen=MOVED))
    story.work("b")
    assert not story.has(cmd.Merge)
    looked(story, Seen(Standing.AS_LEFT, BASE))
    story.merge("a")
    story.advance("a")
    story.publish()
    assert story.state("a") == "landed"


def test_nothing_else_is_merged_before_commits_by_hand() -> None:
    """While a person's commits wait, the merge queue lets only them go on."""
    story = advanced("b")
    published(story, by_hand())
    story.work("b")
    assert not story.has(cmd.Merge)
    bring_in(story, "by-hand-1")
    assert story.has(cmd.Merge, "by-hand-1")


def test_commits_by_hand_in_the_worktree_leave_the_branch_where_it_was() -> None:
    """Commits on the detached HEAD of the staging worktree are published from where the branch is, and the worktree follows from
    them."""
    story = a_story(a_plan(a_task("a")))
    story.land("a")
    left = story.run.published
    ask(story)
    looked(story, by_hand(where="worktree", base=left))
    bring_in(story, "by-hand-1")
    story.merge("by-hand-1")
    story.advance("by-hand-1")
    assert [c.old for c in story.commands if isinstance(c, cmd.Publish)] == [left]
    publish = story.sole(cmd.Publish)
    story.send(m.Published(at=story.now, run="plan", commit=publish.commit))
    assert story.sole(cmd.Follow).by_hand == (THEIRS,)


@pytest.mark.parametrize("how", ["conflict", "red"])
def test_commits_by_hand_that_do_not_do_fail_at_once_and_hold_the_others_up(how: str) -> None:
    """No worker makes a person's commits again, nor are they rebased: the task fails, and what is told names the way on."""
    story = advanced("b", verify=("make",))
    published(story, by_hand())
    bring_in(story, "by-hand-1")
    if how == "conflict":
        story.conflict("by-hand-1", "x", landings=["a"])
    else:
        story.merge("by-hand-1")
        story.red("by-hand-1")
    assert (story.state("by-hand-1"), story.why("by-hand-1")) == (
        "failed",
        "conflict" if how == "conflict" else "verify_failed",
    )
    story.work("b")
    assert not story.has(cmd.Merge)
    assert not story.has(cmd.Publish)
    assert not story.has(cmd.TakeWorktree)
    reason = explain(story.run)
    assert reason is not None
    assert f": git branch --force swarm/plan/staging {BASE}" in reason.text
    assert ("git merge" in reason.text) == (how == "conflict")
    (run,) = report.status(story.swarm, report.Live())["runs"]
    assert run["problems"] == [reason.text]
    assert {t["id"]: (t["reason"] or {}).get("code") for t in run["tasks"]}["a"] == "by_hand"


def failed() -> Story:
    story = advanced("b", verify=("make",))
    published(story, by_hand())
    bring_in(story, "by-hand-1")
    story.merge("by-hand-1")
    story.red("by-hand-1")
    return story


def test_a_fix_on_top_is_another_attempt() -> None:
    """What a person commits on top of their commits that failed is taken in by the same task, and all of it lands."""
    story = failed()
    looked(story, by_hand("f" * 40))
    assert [a.head for a in story.task("by-hand-1").attempts] == [THEIRS, "f" * 40]
    bring_in(story, "by-hand-1")
    story.merge("by-hand-1")
    story.verify("by-hand-1")
    story.advance("by-hand-1")
    assert story.sole(cmd.Publish).old == "f" * 40


def test_taking_the_commits_off_again_lets_everything_go_on() -> None:
    """When the branch is back where the last landing left it, their task is cancelled and what waited is published from there."""
    story = failed()
    looked(story, Seen(Standing.AS_LEFT, BASE))
    assert (story.state("by-hand-1"), story.why("by-hand-1")) == ("cancelled", "withdrawn")
    assert story.sole(cmd.Publish).old == BASE
    with pytest.raises(IllegalEvent, match="not on staging any more"):
        story.send(m.TasksRetried(at=story.now, run="plan", tasks=("by-hand-1",)))


def test_commits_by_hand_can_be_tried_again_as_they_are() -> None:
    """A retry lands the same commits once more: no worker is started."""
    story = failed()
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("by-hand-1",)))
    assert story.attempt("by-hand-1").head == THEIRS
    assert story.has(cmd.BringIn, "by-hand-1")
    assert not story.has(cmd.TakeWorktree, "by-hand-1")


def test_more_commits_while_the_first_are_verified_take_their_place() -> None:
    """A person who commits on while their commits are verified has all of them verified together."""
    story = advanced(verify=("make",))
    published(story, by_hand())
    bring_in(story, "by-hand-1")
    story.merge("by-hand-1")
    looked(story, by_hand("f" * 40))
    assert [a.step.value for a in story.task("by-hand-1").attempts] == ["handed_back", "bringing_in"]


def test_commits_that_come_after_those_that_have_advanced_are_a_task_of_their_own() -> None:
    """What has advanced lands; commits by hand that come then are taken in by a second task, before anything is published."""
    story = advanced()
    published(story, by_hand())
    bring_in(story, "by-hand-1")
    story.merge("by-hand-1")
    story.advance("by-hand-1")
    published(story, by_hand("f" * 40))
    assert not story.has(cmd.Publish)
    bring_in(story, "by-hand-2")
    story.merge("by-hand-2")
    story.advance("by-hand-2")
    assert story.sole(cmd.Publish).old == "f" * 40


def test_a_late_sight_of_commits_that_have_landed_means_nothing() -> None:
    """A look that was taken just before their publishing does not take the same commits in twice."""
    story = advanced()
    published(story, by_hand())
    bring_in(story, "by-hand-1")
    story.merge("by-hand-1")
    story.advance("by-hand-1")
    story.publish()
    looked(story, by_hand())
    assert list(story.run.tasks) == ["a", "by-hand-1"]
    assert story.run.astray is None


@pytest.mark.parametrize(
    "seen",
    [MOVED, AWAY, *(Seen(Standing.CHECKED_OUT, BASE, where=what, place="/away") for what in UNDER_WAY)],
)
def test_a_branch_that_was_moved_or_is_checked_out_holds_publishing_up(seen: Seen) -> None:
    """Nothing is merged or published until a look finds the branch as it was left, and it is told once."""
    story = advanced("b")
    published(story, seen)
    story.work("b")
    assert not story.has(cmd.Publish)
    assert not story.has(cmd.Merge)
    look = story.sole(cmd.LookAtStaging)
    assert look.known == seen.known
    assert [fact.data["code"] for fact in story.told("StagingAstray")] == [seen.kind]
    story.commands.append(look)
    looked(story, Seen(Standing.AS_LEFT, BASE))
    assert story.sole(cmd.Publish).old == BASE
    assert story.has(cmd.Merge, "b")


@pytest.mark.parametrize(("what", "step"), [*UNDER_WAY.items()])
def test_what_holds_the_branch_is_told_with_what_ends_it(what: str, step: str) -> None:
    """A rebase or bisection that holds the staging branch is named, with where it is under way and what to type there."""
    story = advanced()
    published(story, Seen(Standing.CHECKED_OUT, BASE, where=what, place="/away"))
    (told,) = story.told("StagingAstray")
    assert f"a git {what} that is under way in /away" in told.data["text"]
    assert told.data["text"].endswith(f"git -C /away {step}")


def test_commits_made_while_the_branch_was_checked_out_are_not_taken_in_twice() -> None:
    """What has advanced and could not be published for a checkout of the branch is published once that has gone."""
    story = advanced()
    published(story, by_hand())
    bring_in(story, "by-hand-1")
    story.merge("by-hand-1")
    story.advance("by-hand-1")
    published(story, AWAY)
    assert not story.has(cmd.Publish)
    looked(story, by_hand())
    assert list(story.run.tasks) == ["a", "by-hand-1"]
    assert story.sole(cmd.Publish).old == THEIRS


def test_a_branch_that_was_made_again_is_told() -> None:
    """A staging branch that was gone is told to be back, and publishing goes on."""
    story = advanced()
    published(story, Seen(Standing.RESTORED, BASE))
    assert [fact.data["commit"] for fact in story.told("StagingRestored")] == [BASE]
    assert story.has(cmd.Publish)


def test_looks_are_taken_at_a_start_and_not_at_runs_that_are_over() -> None:
    """A new daemon looks at the staging of each run that is not finished; an answer that nobody waits for is refused."""
    story = a_story(a_plan(a_task("a")))
    story.land("a")
    with pytest.raises(StaleEvent):
        story.send(
            m.StagingSeen(
                at=story.now, run="plan", command="LookAtStaging", seen=Seen(Standing.AS_LEFT, BASE)
            )
        )
    start = m.DaemonStarted(at=story.now, version="2", pid=2, limits=story.swarm.limits, rules=m.RULES)
    story.send(start)
    looked(story, Seen(Standing.AS_LEFT, story.run.published))
    story.send(
        m.FinishRequested(at=story.now, run="plan", request="1", target="main", commit=story.run.published)
    )
    story.send(m.Finished(at=story.now, run="plan", request="1", target="main", commit="f" * 40))
    story.send(start)
    assert not story.has(cmd.LookAtStaging)


def test_a_replay_finds_staging_as_astray_as_it_was() -> None:
    """The same events give the same state and the same outstanding commands, with commits by hand in the queue."""
    story = failed()
    looked(story, by_hand("f" * 40))
    again = Story()
    again.swarm = type(again.swarm)()
    for event in story.events:
        again.send(m.event_from_json(m.event_to_json(event)))
    assert snapshot(again.swarm) == snapshot(story.swarm)
    assert pending_commands(again.swarm) == pending_commands(story.swarm)


def test_fail_fast_does_not_fail_for_what_a_person_did() -> None:
    """With fail-fast, commits by hand that do not pass hold the run up but cancel nothing of it."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"])), fail_fast=True)
    story.work("a")
    story.merge("a")
    story.advance("a")
    published(story, by_hand())
    bring_in(story, "by-hand-1")
    story.conflict("by-hand-1")
    assert story.state("b") == "pending"


def test_a_staging_branch_that_was_moved_away_is_not_shown_as_verified() -> None:
    """What has landed stays landed; where the branch should be and where it is are both said; it is not verified."""
    story = a_story(a_plan(a_task("a"), verify=("make",)))
    story.land("a")
    (before,) = report.status(story.swarm, report.Live())["runs"]
    assert (before["staging"]["found"], before["staging"]["verified"]) == (story.run.published, True)
    ask(story)
    looked(story, MOVED)
    (run,) = report.status(story.swarm, report.Live())["runs"]
    staging = run["staging"]
    assert (staging["commit"], staging["found"], staging["verified"]) == (story.run.published, THEIRS, False)
    assert run["tasks"][0]["state"] == "landed"


def test_the_way_back_can_be_pasted() -> None:
    """After staging was moved by hand, what is said ends with the commands that keep what is there and move it back."""
    story = a_story(a_plan(a_task("a")))
    ask(story)
    looked(story, MOVED)
    reason = explain(story.run)
    assert reason is not None
    keep = f"git branch --force found-{THEIRS[:12]} {THEIRS}"
    assert reason.text.endswith(f": {keep} && git branch --force swarm/plan/staging {BASE}")


def test_a_journal_that_lost_its_end_takes_commits_by_hand_in_once_more() -> None:
    """Of commits by hand on their way the journal lost what became of the attempt: no worker is started for them, as they are
    nobody's to make; they are found again where they are, and land."""
    story = advanced("b")
    published(story, by_hand())
    forgotten = FoundAttempt("by-hand-1", 2)  # there was a second attempt behind the end that was lost
    here = FoundRun("plan", BASE, story.run.staging, (), (forgotten,))
    story.send(m.JournalRebuilt(at=story.now, runs=(here,), by_hand_anew=True))
    story.commands = list(pending_commands(story.swarm))
    assert story.state("by-hand-1") == "cancelled"
    assert invariants(story.swarm) == []
    looked(story, by_hand())
    bring_in(story, "by-hand-2")
    story.merge("by-hand-2")
    story.advance("by-hand-2")
    assert [task for task in story.states() if story.has(cmd.TakeWorktree, task)] == ["b"]

"""The merge queue: the way of finished work onto staging, and all that can happen on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import Limits, Step, Suite
from swarm.core.state import IllegalEvent, StaleEvent, pending_commands
from tests.builders import BASE, a_plan, a_task
from tests.stories import Story, a_story, snapshot


def test_a_task_lands_step_by_step() -> None:
    """Finished work is brought in, merged onto staging, verified as that very commit, advanced and published; only then landed."""
    story = a_story(a_plan(a_task("a", verify=["make"])))
    story.up("a")
    story.exit("a")
    assert story.state("a") == "queued"
    story.collect("a", ["x"], commits=2)
    head = story.attempt("a").head
    bring = story.sole(cmd.BringIn)
    assert (bring.head, bring.base) == (head, BASE)
    story.send(m.BroughtIn(**story.where(bring)))
    assert story.state("a") == "landing"
    merge = story.sole(cmd.Merge)
    assert (merge.onto, merge.head, merge.verified) == (BASE, head, ("make",))
    story.send(m.CandidateMade(**story.where(merge), onto=BASE, candidate="c1"))
    verify = story.sole(cmd.Verify)
    assert (verify.candidate, verify.suites) == ("c1", (Suite(name="make", run="make"),))
    story.commands.append(verify)
    story.verify("a")
    advance = story.sole(cmd.Advance)
    assert (advance.new, advance.old, advance.head, advance.base) == ("c1", BASE, head, BASE)
    story.send(m.StagingAdvanced(**story.where(advance), candidate="c1"))
    assert story.state("a") == "landing"
    publish = story.sole(cmd.Publish)
    assert (publish.commit, publish.old) == ("c1", BASE)
    story.send(m.Published(at=story.now, run="plan", commit="c1"))
    assert story.state("a") == "landed"
    assert story.task("a").landed_commit == "c1"
    assert [fact.data["commit"] for fact in story.told("TaskLanded")] == ["c1"]
    assert [fact.data["landed"] for fact in story.told("RunEnded")] == [1]


def test_work_that_was_brought_in_when_it_was_collected_is_merged_at_once() -> None:
    """Where the same answer says that work is collected and brought in, nobody is asked to bring it in."""
    story = a_story(a_plan(a_task("a")))
    story.up("a")
    story.exit("a")
    story.collect("a", brought_in=True)
    assert not story.has(cmd.BringIn)
    assert story.attempt("a").step is Step.MERGING


@pytest.mark.parametrize(("code", "wanted"), [(0, True), (1, False), (75, False), (None, False)])
def test_only_work_of_a_worker_that_ended_well_is_to_be_brought_in(code: int | None, wanted: bool) -> None:
    """Collecting brings in what goes into the merge queue as far as that is known: what failed stays out."""
    story = a_story(a_plan(a_task("a")))
    story.up("a")
    story.exit("a", code)
    assert story.sole(cmd.Collect, "a").bring_in is wanted


def test_work_of_a_worker_that_was_cancelled_is_not_to_be_brought_in() -> None:
    """A worker that is being ended may still end well; its work is kept on its branch alone."""
    story = a_story(a_plan(a_task("a")))
    story.up("a")
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("a",)))
    end = story.sole(cmd.EndWorker, "a")
    story.send(m.WorkerExited(**story.where(end), exit_code=0))
    assert not story.sole(cmd.Collect, "a").bring_in


def test_with_nothing_to_verify_a_candidate_goes_straight_on() -> None:
    """A task without suites lands unverified, and its landing says `none`."""
    story = a_story(a_plan(a_task("a")))
    story.work("a")
    assert [c.verified for c in story.commands if isinstance(c, cmd.Merge)] == [()]
    story.merge("a")
    assert not story.has(cmd.Verify)
    story.advance("a")
    story.publish()
    assert story.state("a") == "landed"


def test_suites_of_plan_phase_and_task_are_run_once_each() -> None:
    """A candidate passes the plan's suites and the task's own; the same command is not run twice."""
    story = a_story(a_plan(a_task("a", verify=["lint", "make"]), verify=["make"]))
    story.work("a")
    story.merge("a")
    assert [suite.run for suite in story.sole(cmd.Verify).suites] == ["make", "lint"]


def test_landings_go_in_the_order_of_coming() -> None:
    """Work is merged in the order in which it was collected, one at a time, each onto the one before."""
    story = a_story(a_plan(a_task("a"), a_task("b"), a_task("c")))
    for name in "bca":
        story.work(name)
    assert story.has(cmd.Merge, "b")
    assert not story.has(cmd.Merge, "c")
    story.merge("b")
    first = story.advance("b")
    assert [c.onto for c in story.commands if isinstance(c, cmd.Merge)] == [first]
    story.merge("c")
    second = story.advance("c")
    assert [c.onto for c in story.commands if isinstance(c, cmd.Merge)] == [second]


def test_one_that_is_not_brought_in_yet_holds_nobody_up() -> None:
    """The next in the queue is merged while the first is still being copied."""
    story = a_story(a_plan(a_task("a"), a_task("b")))
    story.up("a", "b")
    for name in "ab":
        story.exit(name)
        story.collect(name)
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "b"))))
    assert story.has(cmd.Merge, "b")


def test_one_publish_covers_several_landings() -> None:
    """What lands while a publish is under way is published together by the next one."""
    story = a_story(a_plan(*(a_task(name) for name in "abc")))
    for name in "abc":
        story.work(name)
        story.merge(name)
        story.advance(name)
    assert story.states() == {"a": "landing", "b": "landing", "c": "landing"}
    story.publish()
    assert story.states() == {"a": "landed", "b": "landing", "c": "landing"}
    story.publish()
    assert story.states() == {"a": "landed", "b": "landed", "c": "landed"}
    assert [name for name, _ in story.run.landed] == ["a", "b", "c"]
    assert not story.has(cmd.Publish)


def test_publishing_a_commit_of_somebody_else_lands_only_what_is_in_it() -> None:
    """When staging was found elsewhere, publishing that commit does not count a later candidate as landed."""
    story = a_story(a_plan(a_task("a"), a_task("b"), a_task("c", needs=["b"])))
    story.work("a")
    story.work("b")
    story.merge("a")
    story.advance("a")  # its publish is under way
    story.merge("b")
    moved = story.sole(cmd.Advance, "b")
    story.send(m.StagingMoved(**story.where(moved), found="theirs", candidate=moved.new))
    assert [c.onto for c in story.commands if isinstance(c, cmd.Merge)] == ["theirs"]
    story.publish()
    assert story.states() == {"a": "landed", "b": "landing", "c": "pending"}
    story.merge("b")
    candidate = story.advance("b")
    assert story.publish() == "theirs"
    assert story.states() == {"a": "landed", "b": "landing", "c": "pending"}
    assert story.publish() == candidate
    assert story.sole(cmd.TakeWorktree, "c").base == candidate


def test_what_waits_to_be_published_lands_with_a_commit_that_holds_it() -> None:
    """A candidate on which staging was moved further by somebody else has landed when that commit is published."""
    story = a_story(a_plan(*(a_task(name) for name in "abc")))
    for name in "abc":
        story.work(name)
    for name in "ab":
        story.merge(name)
        story.advance(name)
    story.merge("c")
    story.moved("theirs", "c")
    story.publish()
    assert story.states() == {"a": "landed", "b": "landing", "c": "landing"}
    assert story.publish() == "theirs"
    assert story.states() == {"a": "landed", "b": "landed", "c": "landing"}


def test_a_dependant_starts_from_the_published_commit() -> None:
    """A task that needs another starts only when that is published, from a base that holds it."""
    story = a_story(a_plan(a_task("a"), a_task("b", needs=["a"])))
    story.work("a")
    story.merge("a")
    landed = story.advance("a")
    assert story.state("b") == "pending"
    story.publish()
    assert story.sole(cmd.TakeWorktree, "b").base == landed


def test_a_publish_that_fails_is_tried_again() -> None:
    """A publish that could not be carried out comes again later, and what waits for it stays."""
    story = a_story(a_plan(a_task("a")))
    story.work("a")
    story.merge("a")
    story.advance("a")
    failed = story.sole(cmd.Publish)
    story.send(m.RunCommandFailed(at=story.now, run="plan", command="Publish", text="disk full"))
    assert pending_commands(story.swarm) == []
    assert story.run.failures == {"Publish": "disk full"}
    story.wait(1.0)
    assert pending_commands(story.swarm) == [failed]
    story.publish()
    assert story.state("a") == "landed"
    assert story.run.failures == {}


# --- conflicts


def rebased() -> tuple[Story, str | None, cmd.Rebase]:
    """An attempt of two commits that conflicted, was rebased by machine and is merged again; its head before; what was asked."""
    story = a_story(a_plan(a_task("a"), a_task("b")))
    story.land("b")
    story.work("a", commits=2)
    head = story.attempt("a").head
    story.conflict("a")
    rebase = story.sole(cmd.Rebase)
    story.send(m.Rebased(**story.where(rebase), onto=rebase.onto, head="rebased"))
    return story, head, rebase


def test_a_conflict_of_several_commits_is_rebased_first() -> None:
    """An attempt of several commits that conflicts is rebased by machine and then merged again from its new head."""
    story, head, rebase = rebased()
    assert (rebase.onto, rebase.head, rebase.base) == (story.run.staging, head, BASE)
    merge = story.sole(cmd.Merge)
    assert (merge.onto, merge.head, merge.base) == (rebase.onto, "rebased", rebase.onto)
    story.send(m.CandidateMade(**story.where(merge), onto=merge.onto, candidate="c"))
    advance = story.sole(cmd.Advance)
    assert (advance.head, advance.base) == ("rebased", rebase.onto)


@pytest.mark.parametrize("kind", [m.CandidateMade, m.MergeConflicted])
def test_what_was_merged_before_is_no_answer_to_another_merge(
    kind: type[m.CandidateMade] | type[m.MergeConflicted],
) -> None:
    """Of two merges of an attempt onto the same commit, of its work and of that rebased, each is told by what was merged."""
    story, head, _ = rebased()
    merge = story.sole(cmd.Merge)
    more: dict[str, Any] = {"candidate": "c"} if kind is m.CandidateMade else {"paths": ("x",)}
    with pytest.raises(StaleEvent):
        story.send(kind(**story.where(merge), onto=merge.onto, head=str(head), **more))
    story.send(kind(**story.where(merge), onto=merge.onto, head=merge.head, **more))
    assert (story.attempt("a").candidate == "c") is (kind is m.CandidateMade)


def test_one_commit_is_not_rebased() -> None:
    """A conflict of a single commit is taken as it is: merged again it would be the same merge."""
    story = a_story(a_plan(a_task("a")))
    story.work("a", commits=1)
    story.conflict("a")
    assert not story.has(cmd.Rebase)
    assert story.attempt("a").n == 2


def test_a_rebased_attempt_that_conflicts_again_is_not_rebased_again() -> None:
    """The machine rebases once."""
    story = a_story(a_plan(a_task("a")))
    story.work("a", commits=3)
    story.conflict("a")
    rebase = story.sole(cmd.Rebase)
    story.send(m.Rebased(**story.where(rebase), onto=rebase.onto, head="rebased"))
    story.conflict("a")
    assert story.task("a").attempts[0].step is Step.HANDED_BACK


def twice_in_conflict(story: Story, task: str, *paths: str, landings: Sequence[str] = ()) -> None:
    """Has two attempts of a task conflict: from then on it runs alone."""
    for _ in range(2):
        story.work(task)
        story.conflict(task, *paths, landings=landings)


def test_after_a_second_conflict_the_task_runs_alone_after_the_others() -> None:
    """A task twice in conflict waits until the others of the run are through, then runs with nothing beside it, told what was
    wrong."""
    story = a_story(a_plan(a_task("a"), a_task("b"), a_task("c"), a_task("d", needs=["c"])))
    twice_in_conflict(story, "a", "src/x", landings=["old"])
    assert story.state("a") == "ready"
    assert story.told("TaskHandedBack")[-1].data["paths"] == ["src/x"]
    assert story.told("TaskHandedBack")[-1].data["landings"] == ["old"]
    story.land("b", "c")
    assert story.at_work() == ["d"]
    story.up("d")
    story.exit("d")
    story.collect("d")
    assert not story.has(cmd.TakeWorktree)
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "d"))))
    story.merge("d")
    story.advance("d")
    assert not story.has(cmd.TakeWorktree)
    story.publish()
    take = story.sole(cmd.TakeWorktree)
    assert (take.task, take.attempt, take.base) == ("a", 3, story.run.published)
    story.send(m.WorktreeReady(**story.where(take), path="/pool/a"))
    (feedback,) = story.sole(cmd.StartWorker).feedback
    assert "conflicts with staging in src/x, changed there by old" in feedback


def test_nothing_starts_beside_one_that_runs_alone() -> None:
    """While a task runs alone no other of its run starts, though slots are open; afterwards they do."""
    story = a_story(a_plan(a_task("a")))
    twice_in_conflict(story, "a")
    story.submit(a_plan(a_task("a"), a_task("b")))
    assert story.at_work() == ["a"]
    story.land("a")
    assert story.at_work() == ["b"]


def test_two_in_conflict_run_alone_one_after_the_other() -> None:
    """Several tasks in conflict take their turns alone, in plan order."""
    story = a_story(a_plan(a_task("a"), a_task("b")))
    twice_in_conflict(story, "a")
    twice_in_conflict(story, "b")
    assert story.at_work() == ["a"]
    story.land("a")
    assert story.at_work() == ["b"]


def test_a_conflict_alone_fails_the_task() -> None:
    """The third conflict ends the task as `conflict`, with the paths and the landings that touched them; its branch is kept."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    twice_in_conflict(story, "a", "x")
    story.work("a")
    story.conflict("a", "x", "y", landings=["b"])
    reason = story.task("a").reason
    assert story.state("a") == "failed"
    assert reason is not None
    assert reason.code == "conflict"
    assert (reason.facts["paths"], reason.facts["landings"]) == (["x", "y"], ["b"])
    failed = story.told("TaskFailed")[-1].data
    assert (failed["code"], failed["paths"], failed["landings"]) == ("conflict", ["x", "y"], ["b"])
    assert [attempt.branch for attempt in story.task("a").attempts] == [
        "swarm/plan/task/a/1",
        "swarm/plan/task/a/2",
        "swarm/plan/task/a/3",
    ]


def test_a_conflict_uses_up_no_attempt() -> None:
    """A task with one attempt is tried again after a conflict, and a failure then is its first."""
    story = a_story(a_plan(a_task("a", attempts=2)))
    story.work("a")
    story.conflict("a")
    story.fail("a")
    assert story.state("a") == "running"
    story.fail("a")
    assert (story.state("a"), story.why("a")) == ("failed", "worker_failed")


def test_a_conflict_leaves_staging_and_frees_the_queue() -> None:
    """A conflict changes nothing on staging, and the next in the queue is merged at once."""
    story = a_story(a_plan(a_task("a"), a_task("b")))
    story.work("a")
    story.work("b")
    story.conflict("a")
    assert story.run.staging == BASE
    assert story.has(cmd.Merge, "b")


# --- verification


def test_a_failed_verification_goes_back_with_its_output() -> None:
    """A task whose candidate fails verification gets a second attempt that is told the output; staging does not move."""
    story = a_story(a_plan(a_task("a", verify=["make test"])))
    story.work("a")
    story.merge("a")
    story.red("a", tail="E   assert 1 == 2")
    assert story.run.staging == BASE
    take = story.sole(cmd.TakeWorktree)
    assert take.attempt == 2
    story.send(m.WorktreeReady(**story.where(take), path="/pool/a"))
    (feedback,) = story.sole(cmd.StartWorker).feedback
    assert "make test (failed)" in feedback
    assert "assert 1 == 2" in feedback


@pytest.mark.parametrize("outcome", ["failed", "timeout", "none"])
def test_verification_that_never_passes_fails_the_task(outcome: str) -> None:
    """A suite that fails, takes too long or says nothing counts as not passed; when the attempts are used up, the task failed."""
    story = a_story(a_plan(a_task("a", verify=["make"], attempts=2)))
    for _ in range(2):
        story.work("a")
        story.merge("a")
        story.red("a", outcome)
    why = "timeout" if outcome == "timeout" else "verify_failed"
    assert (story.state("a"), story.why("a")) == ("failed", why)
    assert story.run.staging == BASE


def test_a_suite_that_is_missing_has_not_passed() -> None:
    """A candidate does not advance on fewer answers than suites were asked for."""
    story = a_story(a_plan(a_task("a", verify=["make", "lint"], attempts=1)))
    story.work("a")
    story.merge("a")
    verify = story.sole(cmd.Verify)
    story.send(m.Verified(**story.where(verify), candidate=verify.candidate, suites=()))
    story.verify("a", "failed")
    assert (story.state("a"), story.why("a")) == ("failed", "verify_failed")


def test_the_next_is_merged_when_the_one_before_fails_verification() -> None:
    """A red candidate frees the queue: the next is merged onto staging without it."""
    story = a_story(a_plan(a_task("a", verify=["make"]), a_task("b")))
    story.work("a")
    story.work("b")
    story.merge("a")
    story.red("a")
    assert [(c.task, c.onto) for c in story.commands if isinstance(c, cmd.Merge)] == [("b", BASE)]


def test_suites_that_change_meanwhile_do_not_touch_a_candidate() -> None:
    """A candidate is verified by the suites that its message names, even when the plan has got others since."""
    story = a_story(a_plan(a_task("a"), verify=["old"]))
    story.work("a")
    story.submit(a_plan(a_task("a"), verify=["new"]))
    merge = story.sole(cmd.Merge)
    assert merge.verified == ("old",)
    assert [c for c in pending_commands(story.swarm) if isinstance(c, cmd.Merge)] == [merge]
    story.send(m.CandidateMade(**story.where(merge), onto=merge.onto, candidate="c"))
    assert [suite.run for suite in story.sole(cmd.Verify).suites] == ["old"]


# --- staging that moved


def test_staging_that_moved_is_merged_onto_anew() -> None:
    """When staging is not where the candidate was built on, the attempt is merged again onto what was found, and verified again."""
    story = a_story(a_plan(a_task("a", verify=["make"])))
    story.work("a")
    story.merge("a")
    story.verify("a")
    story.moved("theirs")
    assert [c.onto for c in story.commands if isinstance(c, cmd.Merge)] == ["theirs"]
    story.merge("a")
    story.verify("a")
    assert story.sole(cmd.Advance).old == "theirs"


def test_that_staging_had_moved_under_an_earlier_candidate_is_no_answer_for_the_next() -> None:
    """Heard again once the next candidate moves staging, which it may have done by then, it changes nothing."""
    story = a_story(a_plan(a_task("a")))
    story.work("a")
    story.merge("a")
    first = story.sole(cmd.Advance)
    moved = m.StagingMoved(**story.where(first), found="theirs", candidate=first.new)
    story.send(moved)
    story.merge("a")
    with pytest.raises(StaleEvent):
        story.send(moved)
    assert story.sole(cmd.Advance).old == "theirs"


def test_staging_that_moves_for_ever_is_given_up() -> None:
    """After twenty moves the attempt goes back, so that nobody chases staging without end."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.work("a")
    for number in range(21):
        story.merge("a")
        story.moved(f"theirs{number}")
    assert (story.state("a"), story.why("a")) == ("failed", "conflict")


def test_an_infrastructure_error_is_never_a_conflict() -> None:
    """A merge that could not be carried out is tried again after a pause and counts against nobody."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.work("a")
    merge = story.sole(cmd.Merge)
    for _ in range(20):
        story.send(m.CommandFailed(**story.where(merge), command="Merge", text="git was killed"))
        assert story.state("a") == "landing"
        assert story.attempt("a").reason is not None
        story.wait(31.0)
        assert story.sole(cmd.Merge) == merge
    story.send(m.CandidateMade(**story.where(merge), onto=merge.onto, candidate="c"))
    story.advance("a")
    story.publish()
    assert story.state("a") == "landed"


# --- strays in the queue


def test_a_stray_under_a_claim_waits_for_its_holder() -> None:
    """Work that changed a file that another holds is merged after that one's worker has ended, whatever became of it."""
    story = a_story(a_plan(a_task("a", claims=["a"]), a_task("b", claims=["b"])))
    story.work("a", touched=["a", "b"])
    assert story.attempt("a").step is Step.WAITING
    assert not story.has(cmd.Merge)
    story.up("b")
    story.exit("b")
    assert not story.has(cmd.Merge)
    story.collect("b")
    assert story.has(cmd.Merge, "a")


def test_strays_of_those_in_the_queue_are_not_waited_for() -> None:
    """Work whose stray is held by one that is in the queue already is not held up: queue order decides."""
    story = a_story(a_plan(a_task("a", claims=["a"]), a_task("b", claims=["b"])))
    story.work("b")
    story.work("a", touched=["a", "b"])
    story.merge("b")
    story.advance("b")
    assert story.has(cmd.Merge, "a")


def test_the_next_overtakes_one_that_waits_for_a_holder() -> None:
    """One that waits for the holder of its stray does not hold up those behind it."""
    story = a_story(a_plan(a_task("a", claims=["a"]), a_task("b", claims=["b"]), a_task("c", claims=["c"])))
    story.work("a", touched=["a", "b"])
    story.work("c")
    assert story.has(cmd.Merge, "c")


# --- the staging worktree


def test_the_worktree_follows_at_once_when_nothing_else_goes_on() -> None:
    """After the last landing the staging worktree is sent after staging without delay."""
    story = a_story(a_plan(a_task("a")))
    story.work("a")
    story.merge("a")
    commit = story.advance("a")
    publish = story.sole(cmd.Publish)
    story.send(m.Published(at=story.now, run="plan", commit=publish.commit))
    follow = story.sole(cmd.Follow)
    assert (follow.commit, follow.old) == (commit, BASE)


def test_the_worktree_follows_now_and_then_while_work_goes_on() -> None:
    """While tasks run the staging worktree is moved every half second at most, to the newest commit."""
    story = a_story(a_plan(*(a_task(name) for name in "abc")), bench=Story(Limits(follow_every_s=10.0)))
    story.now = 100.0
    story.land("a")
    assert story.run.followed == story.run.published
    story.land("b")
    assert story.run.followed != story.run.published
    assert not story.has(cmd.Follow)
    story.wait(10.0)
    assert story.sole(cmd.Follow).commit == story.run.published


@pytest.mark.parametrize(("took_s", "rests_s"), [(0.01, 0.5), (0.2, 4.0), (60.0, 10.0)])
def test_the_worktree_follows_the_less_often_the_longer_it_takes(took_s: float, rests_s: float) -> None:
    """While tasks run, moving the staging worktree takes a twentieth of the time at most; it is never more than 10 s behind."""
    limits = Limits(follow_every_s=0.5, follow_share=0.05)
    story = a_story(a_plan(*(a_task(name) for name in "abc")), bench=Story(limits))
    story.now = 100.0
    story.work("a")
    story.merge("a")
    story.advance("a")
    story.send(m.Published(at=story.now, run="plan", commit=story.sole(cmd.Publish).commit))
    follow = story.sole(cmd.Follow)
    story.now += took_s
    story.send(m.Followed(at=story.now, run="plan", commit=follow.commit))
    story.land("b")
    assert not story.has(cmd.Follow)
    story.wait(rests_s - 0.01)
    assert not story.has(cmd.Follow)
    story.wait(0.02)
    assert story.sole(cmd.Follow).commit == story.run.published


def test_a_dirty_worktree_stays_and_says_why() -> None:
    """A staging worktree with a person's edits stays, says why, once, and is looked at again after 30 s."""
    story = a_story(a_plan(a_task("a")))
    story.work("a")
    story.merge("a")
    commit = story.advance("a")
    story.send(m.Published(at=story.now, run="plan", commit=story.sole(cmd.Publish).commit))
    for number in range(3):
        story.send(
            m.Followed(at=story.now, run="plan", commit=story.sole(cmd.Follow).commit, reason="it has edits")
        )
        assert (story.run.followed, story.run.follow_reason) == (BASE, "it has edits")
        assert len(story.told("StagingWorktreeFollows")) == 1
        story.wait(29.0)
        assert not story.has(cmd.Follow), number
        story.wait(1.0)
    story.send(m.Followed(at=story.now, run="plan", commit=story.sole(cmd.Follow).commit))
    assert (story.run.followed, story.run.follow_reason) == (commit, "")
    assert len(story.told("StagingWorktreeFollows")) == 2
    story.wait(3600.0)
    assert not story.has(cmd.Follow)


def test_a_follow_that_fails_is_tried_again() -> None:
    """A staging worktree that could not be moved is moved later, to where it was meant to go."""
    story = a_story(a_plan(a_task("a")))
    story.work("a")
    story.merge("a")
    story.advance("a")
    story.send(m.Published(at=story.now, run="plan", commit=story.sole(cmd.Publish).commit))
    follow = story.sole(cmd.Follow)
    story.send(m.RunCommandFailed(at=story.now, run="plan", command="Follow", text="locked"))
    assert not story.has(cmd.Follow)
    story.wait(1.0)
    assert story.sole(cmd.Follow) == follow


# --- answers that come late


@pytest.mark.parametrize(
    "wrong",
    [
        m.CandidateMade(at=1.0, run="plan", task="a", attempt=1, onto="elsewhere", candidate="c"),
        m.CandidateMade(at=1.0, run="plan", task="a", attempt=2, onto=BASE, candidate="c"),
        m.Verified(at=1.0, run="plan", task="a", attempt=1, candidate="c"),
        m.StagingAdvanced(at=1.0, run="plan", task="a", attempt=1, candidate="c"),
        m.StagingMoved(at=1.0, run="plan", task="a", attempt=1, found="x", candidate="y"),
        m.RebaseConflicted(at=1.0, run="plan", task="a", attempt=1, onto=BASE, paths=("x",)),
        m.Published(at=1.0, run="plan", commit="c"),
        m.Followed(at=1.0, run="plan", commit="c"),
        m.RunCommandFailed(at=1.0, run="plan", command="Publish", text="x"),
        m.CommandFailed(at=1.0, run="plan", task="a", attempt=1, command="Verify", text="x"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_answer_to_what_is_not_asked_changes_nothing(wrong: m.Event) -> None:
    """While a merge is outstanding every other answer is stale: it is refused and changes nothing."""
    story = a_story(a_plan(a_task("a")))
    story.work("a")
    before = snapshot(story.swarm)
    with pytest.raises(StaleEvent):
        story.send(wrong)
    assert snapshot(story.swarm) == before
    assert story.has(cmd.Merge)


def test_a_verdict_on_another_candidate_is_stale() -> None:
    """A verification of a commit that is not the candidate says nothing about it."""
    story = a_story(a_plan(a_task("a", verify=["make"])))
    story.work("a")
    story.merge("a")
    with pytest.raises(StaleEvent):
        story.send(m.Verified(at=story.now, run="plan", task="a", attempt=1, candidate="other"))


def test_an_answer_for_nobody_is_illegal() -> None:
    """Answers for runs and tasks that don't exist are refused."""
    story = a_story(a_plan(a_task("a")))
    for run, task in (("plan", "nobody"), ("nowhere", "a")):
        with pytest.raises(IllegalEvent):
            story.send(m.BroughtIn(at=story.now, run=run, task=task, attempt=1))


def test_what_has_landed_is_consistent() -> None:
    """After a run with every kind of trouble nothing is left over: no slot, claim, queue, worktree or command."""
    story = a_story(
        a_plan(a_task("a", claims=["x"], verify=["make"]), a_task("b", claims=["x"]), a_task("c"))
    )
    story.work("a")
    story.merge("a")
    story.red("a")
    twice_in_conflict(story, "c")
    story.land("a", "b", "c")
    assert set(story.states().values()) == {"landed"}
    assert invariants(story.swarm) == []
    assert pending_commands(story.swarm) == []
    assert (story.swarm.slots, list(story.run.claims.held()), story.run.queue) == (set(), [], {})

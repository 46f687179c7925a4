"""Several attempts verified as one candidate: formed where little is red, closed, halved when red, and landed in one move."""

from __future__ import annotations

import dataclasses

import pytest

from swarm.core import batch
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import Limits, Seen, Standing, Step, SuiteCount
from swarm.core.state import StaleEvent, pending_commands
from swarm.daemon.landing import landing_message
from tests.builders import BASE, a_plan, a_task
from tests.stories import Story, a_story

BATCHES = Limits(workers_max=12, ramp_per_s=1000.0, batches=True)


def waiting(*names: str, red_share: float = 0.04, limits: Limits = BATCHES) -> Story:
    """Tasks in the merge queue behind one that is being verified by itself."""
    tasks = [a_task(name, verify=["unit", f"own-{name}"], attempts=1) for name in ("first", *names)]
    story = a_story(a_plan(*tasks), bench=Story(limits))
    story.run.red_share = red_share
    for name in ("first", *names):
        story.work(name)
    story.merge("first")
    return story


def made(*names: str, red_share: float = 0.04) -> Story:
    """A batch of these, whose last candidate is being verified."""
    story = waiting(*names, red_share=red_share)
    story.verify("first")
    story.advance("first")
    story.publish()
    for name in names[: batch.size(story.run)]:
        story.merge(name)
    assert invariants(story.swarm) == []
    return story


def test_a_batch_is_verified_once_and_moves_staging_in_one_step() -> None:
    """Of a batch only the last candidate is verified, by the suites of all members; when it is green, staging moves from the first
    to the last in one step that names each, and all of them land."""
    story = made(*"abc")
    verify = story.sole(cmd.Verify)
    story.commands.append(verify)
    assert (verify.task, [suite.name for suite in verify.suites]) == (
        "c",
        ["unit", "own-a", "own-b", "own-c"],
    )
    story.verify("c")
    (advance,) = [c for c in story.commands if isinstance(c, cmd.Advance)]
    attempts = [story.attempt(name) for name in "abc"]
    assert (advance.old, advance.new) == (story.run.staging, attempts[2].candidate)
    assert [(over[0], over[1], over[2]) for over in advance.over] == [
        (each.candidate, each.onto, each.head) for each in attempts
    ]
    assert pending_commands(story.swarm).count(advance) == 1
    story.advance("c")
    assert story.run.publishing == ["a", "b", "c"]
    assert story.publish() == attempts[2].candidate
    assert [name for name, _ in story.run.landed] == ["first", "a", "b", "c"]
    told = {
        fact.task: (fact.data["verified"], fact.data.get("verified_with"))
        for fact in story.told("TaskLanded")
    }
    assert told["a"] == told["b"] == ([], "c")
    assert told["c"] == (["unit", "own-a", "own-b", "own-c"], None)


def test_each_commit_says_how_it_was_verified() -> None:
    """A commit between says that it was verified with the last alone; the last names the suites and the batch."""
    story = waiting("a", "b")
    story.verify("first")
    story.advance("first")
    between = story.sole(cmd.Merge)
    assert "\nSwarm-Verified: none\nSwarm-Verified-With: b\n" in landing_message(between)
    story.send(m.CandidateMade(**story.where(between), onto=between.onto, candidate="c1"))
    last = landing_message(story.sole(cmd.Merge))
    assert "\nSwarm-Verified: unit, own-a, own-b\nSwarm-Batch: a, b\n" in last


def test_the_less_is_red_the_larger_a_batch() -> None:
    """One at a time from one red in ten on; two, four and eight below a tenth, a twentieth, a fiftieth. Where a
    suite is a flake too often, one at a time."""
    for share, size in ((0.12, 1), (0.09, 2), (0.04, 4), (0.01, 8)):
        story = waiting(*"abcdefghi", red_share=share)
        story.verify("first")
        story.advance("first")
        first = story.sole(cmd.Merge)
        assert len(first.batch or [first.task]) == size
    story = waiting(*"ab")
    story.run.suites_seen["lint"] = SuiteCount(ran=20, flaked=2)
    story.verify("first")
    story.advance("first")
    assert story.sole(cmd.Merge).batch == ()


def test_strict_stays_strict() -> None:
    """Without `batch` nothing is verified with others, however little is red."""
    story = waiting(*"ab", red_share=0.0, limits=dataclasses.replace(BATCHES, batches=False))
    story.verify("first")
    story.advance("first")
    assert story.sole(cmd.Merge).batch == ()


def test_a_red_batch_is_halved_until_one_is_red_by_itself() -> None:
    """Red twice, a batch is halved, each half closed to others; what is red alone is handed back, and the rest lands."""
    story = made(*"abcd")
    story.verify("d", "failed")
    story.verify("d", "failed")
    assert [c.batch for c in story.commands if isinstance(c, cmd.Merge)] == [("a", "b")]
    story.merge("a")
    story.merge("b")
    story.verify("b")
    story.advance("b")
    story.publish()
    assert [c.batch for c in story.commands if isinstance(c, cmd.Merge)] == [("c", "d")]
    story.merge("c")
    story.merge("d")
    for _ in range(2):
        story.verify("d", "failed")
    assert [(c.task, c.batch) for c in story.commands if isinstance(c, cmd.Merge)] == [("c", ())]
    story.merge("c")
    for _ in range(2):
        story.verify("c", "failed")
    story.merge("d")
    story.verify("d")
    story.advance("d")
    story.publish()
    story.verify("c", "failed")  # where it began: its own doing
    assert story.states() == {"first": "landed", "a": "landed", "b": "landed", "c": "failed", "d": "landed"}
    assert invariants(story.swarm) == []


def test_the_pair_that_breaks_only_together_is_named() -> None:
    """Of a batch of two that are green alone and red together the first lands, and the other is told of it."""
    story = made("a", "b")
    story.verify("b", "failed", "passed", "passed")
    story.verify("b", "failed")
    for name, outcome in (("a", "passed"), ("b", "failed")):
        story.merge(name)
        story.verify(name, outcome, "passed")
        if name == "a":
            story.advance(name)
            story.publish()
    story.verify("b", "failed")
    story.verify("b", "passed")  # where it began
    story.merge("b")  # on top of `first`
    story.verify("b", "passed")
    assert story.states()["a"] == "landed"
    assert story.told("TaskFailed")[-1].data["partners"] == ["a"]


def test_nobody_joins_a_batch_that_has_been_formed() -> None:
    """Who comes later waits for the next, also when the batch is halved."""
    story = made(*"ab", red_share=0.09)
    story.submit(a_plan(*(a_task(name, verify=["unit"]) for name in ("late", "later"))))
    story.work("late")
    story.work("later")
    for _ in range(2):
        story.verify("b", "failed")
    assert [(c.task, c.batch) for c in story.commands if isinstance(c, cmd.Merge)] == [("a", ())]


@pytest.mark.parametrize("gone", ["a", "b", "c"])
def test_a_batch_that_loses_a_member_is_made_anew_without_it(gone: str) -> None:
    """When a member is cancelled the verification ends, and the others are merged and verified without it."""
    story = made(*"abc")
    turn = story.send(m.TasksCancelled(at=story.now, run="plan", tasks=(gone,)))
    assert turn.dropped == [("plan", "c", 1)]
    story.take(cmd.Verify)
    left = [name for name in "abc" if name != gone]
    for name in left:
        assert story.sole(cmd.Merge).batch == tuple(left)
        story.send(
            m.CandidateMade(
                at=story.now,
                run="plan",
                task=name,
                attempt=1,
                onto=str(story.attempt(name).onto),
                candidate=story.commit(),
            )
        )
    story.verify(left[-1])
    story.advance(left[-1])
    story.publish()
    assert [name for name, _ in story.run.landed] == ["first", *left]
    assert invariants(story.swarm) == []


def test_a_candidate_that_was_made_for_a_batch_which_is_gone_is_refused() -> None:
    """Its message would say that it is verified with who has left; the one that is asked for now is made as well."""
    story = made(*"ab")
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("b",)))
    story.take(cmd.Verify)
    merge = story.sole(cmd.Merge)
    assert (merge.batch, merge.verified) == ((), ("unit", "own-a"))
    answer = m.CandidateMade(
        at=story.now,
        run="plan",
        task="a",
        attempt=1,
        onto=merge.onto,
        candidate="c",
        head=merge.head,
        batch=("a", "b"),
    )
    with pytest.raises(StaleEvent):
        story.send(answer)
    story.send(dataclasses.replace(answer, verified=merge.verified, batch=()))
    assert story.sole(cmd.Verify).candidate == "c"


def test_a_member_that_conflicts_leaves_the_batch() -> None:
    """One that conflicts with a member ahead is merged again after them; the others are a batch without it."""
    story = waiting(*"abc")
    story.verify("first")
    story.advance("first")
    story.publish()
    story.merge("a")
    story.conflict("b")
    assert [c.batch for c in story.commands if isinstance(c, cmd.Merge)] == [("a", "c")]
    assert invariants(story.swarm) == []


def test_a_member_that_a_person_wants_first_lands_by_itself() -> None:
    """`swarm first` takes a member out: it is verified alone before anything else, and nothing lands that was not verified."""
    story = made(*"ab")
    story.send(m.FirstAsked(at=story.now, run="plan", tasks=("a",)))
    (merge,) = [c for c in story.commands if isinstance(c, cmd.Merge)]
    assert (merge.task, merge.batch, merge.verified) == ("a", (), ("unit", "own-a"))
    assert not story.has(cmd.Advance)


def test_what_moves_staging_can_not_be_called_back() -> None:
    """From the move on no member can be cancelled, and a move that finds staging elsewhere makes all of them anew."""
    story = made(*"ab")
    story.verify("b")
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("a", "b")))
    assert [story.attempt(name).step for name in "ab"] == [Step.ADVANCING] * 2
    story.moved("theirs")
    (merge,) = [c for c in story.commands if isinstance(c, cmd.Merge)]
    assert (merge.task, merge.onto, merge.batch) == ("a", "theirs", ("a", "b"))
    assert story.run.staging != BASE
    assert invariants(story.swarm) == []


def test_a_batch_is_one_in_the_train() -> None:
    """With two slots a second batch is made behind the first and verified beside it; it waits for the first to land."""
    limits = dataclasses.replace(BATCHES, verify_slots=2)
    story = waiting(*"abcd", red_share=0.09, limits=limits)
    for name in "ab":
        story.merge(name)
    story.verify("first")
    story.advance("first")
    story.publish()
    for name in "cd":
        story.merge(name)
    assert sorted(c.task for c in story.commands if isinstance(c, cmd.Verify)) == ["b", "d"]
    story.verify("d")
    assert not story.has(cmd.Advance)
    story.verify("b")
    story.advance("b")
    assert story.sole(cmd.Advance).new == story.attempt("d").candidate
    assert invariants(story.swarm) == []


def test_all_of_a_batch_go_back_where_a_person_did_something_to_staging() -> None:
    """A batch moves staging in one step, so that none of it lands before a person's commits, and all of it after them."""
    story = made(*"ab")
    story.verify("b")
    advance = story.sole(cmd.Advance)
    assert advance.left == story.run.published
    seen = Seen(Standing.BY_HAND, "e" * 40, base=story.run.published, title="Mend it", commits=1)
    story.send(m.StagingFoundAstray(**story.where(advance), seen=seen))
    assert invariants(story.swarm) == []
    assert (story.state("a"), story.state("b")) == ("queued", "queued")
    assert not story.has(cmd.Merge)
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "by-hand-1"))))
    story.merge("by-hand-1")
    story.advance("by-hand-1")
    story.publish()
    while story.has(cmd.Merge):
        (merge,) = [c for c in story.commands if isinstance(c, cmd.Merge)]
        story.merge(merge.task)
    story.verify("b")
    story.advance("b")
    story.publish()
    assert story.states() == {"first": "landed", "a": "landed", "b": "landed", "by-hand-1": "landed"}

"""QA of staging: reviews and repairs as tasks of the run, what ends them, and what an approval is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import Issue, TaskSpec, WorkerResult
from swarm.core.qa import Qa, Round
from swarm.core.state import IllegalEvent
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story, snapshot

REVIEWER = TaskSpec(id="review", title="review", run="look", role="reviewer")
FIXER = TaskSpec(id="fix", title="fix", run="mend", role="fixer")
NO_TESTS = Issue("No tests", "a")


def landed(verify: Sequence[str] = ()) -> Story:
    story = a_story(a_plan(a_task("a"), verify=verify))
    story.land("a")
    return story


def ask(story: Story, rounds: int = 5, fixer: TaskSpec | None = FIXER) -> None:
    story.send(m.QaRequested(at=story.now, run="plan", reviewer=REVIEWER, fixer=fixer, rounds_max=rounds))
    story.measure()


def say(
    story: Story, task: str, verdict: str, issues: Sequence[Issue] = (), touched: Sequence[str] = ()
) -> None:
    """The reviewer ends with a verdict."""
    story.up(task)
    story.exit(task, result=WorkerResult(verdict=verdict, issues=tuple(issues)))
    story.collect(task, touched=touched)


def on_to_staging(story: Story, task: str) -> None:
    story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, task))))
    story.merge(task)
    if story.has(cmd.Verify, task):
        story.verify(task)
    story.advance(task)
    story.publish()


def review(story: Story, task: str, verdict: str, *issues: Issue) -> None:
    """A whole review."""
    say(story, task, verdict, issues)
    on_to_staging(story, task)
    assert invariants(story.swarm) == []


def qa(story: Story) -> Qa:
    found = story.run.qa
    assert found is not None
    return found


def state(story: Story) -> str:
    return qa(story).state(story.run.published)


def test_what_is_rejected_is_mended_and_looked_at_again() -> None:
    """A rejection sends the issues to a fixer, whose work lands as any, and the next reviewer is told of them; an approval is one
    of the commit that stands on staging then, and the run has ended again."""
    story = landed(verify=["make"])
    ask(story)
    assert story.task("qa-1").spec.run == "look"
    review(story, "qa-1", "reject", NO_TESTS)
    assert story.task("qa-1-fix").told == ("- a: No tests",)
    assert "a: No tests" in story.task("qa-1-fix").spec.prompt
    story.land("qa-1-fix")
    assert "a: No tests" in story.task("qa-2").told[0]
    assert len(story.told("RunEnded")) == 1
    review(story, "qa-2", "approve")
    assert [(each.task, each.approved, each.fix) for each in qa(story).rounds] == [
        ("qa-1", False, "qa-1-fix"),
        ("qa-2", True, ""),
    ]
    assert (state(story), qa(story).approved) == ("approved", story.run.published)
    assert [fact.data["commit"] for fact in story.told("QaApproved")] == [story.run.published]
    assert len(story.told("RunEnded")) == 2


def test_a_verdict_counts_only_with_suites_that_pass() -> None:
    """What a reviewer approves of is verified once more before that counts; where it does not pass there is no approval."""
    story = landed(verify=["make"])
    ask(story)
    for _ in range(2):
        say(story, "qa-1", "approve")
        story.send(m.BroughtIn(**story.where(story.sole(cmd.BringIn, "qa-1"))))
        story.merge("qa-1")
        story.red("qa-1")
        story.take(cmd.GiveBackWorktree)
    assert (story.state("qa-1"), state(story)) == ("failed", "rejected")
    assert "did not pass" in qa(story).reason


def test_an_approval_is_void_once_anything_else_lands() -> None:
    """Whatever lands after an approval voids it, and QA can be asked for again."""
    story = landed()
    ask(story)
    review(story, "qa-1", "approve")
    approved = qa(story).approved
    more = a_plan(a_task("a"), a_task("b"))
    story.submit(more)
    story.land("b")
    assert (state(story), qa(story).approved) == ("void", approved)
    ask(story)
    review(story, "qa-2", "approve")
    assert state(story) == "approved"


def test_staging_that_moved_under_a_review_is_reviewed_again() -> None:
    """A verdict about what does not stand on staging any more approves nothing; a rejection counts all the same."""
    story = landed()
    ask(story)
    story.submit(a_plan(a_task("a"), a_task("b")))
    say(story, "qa-1", "approve")
    story.land("b")
    on_to_staging(story, "qa-1")
    assert (qa(story).rounds[0].moved, qa(story).approved, qa(story).task) == (True, "", "qa-2")
    review(story, "qa-2", "approve")
    assert state(story) == "approved"


@pytest.mark.parametrize(
    ("verdict", "touched", "code"), [("", (), "worker_failed"), ("approve", ("a",), "stray")]
)
def test_no_verdict_or_a_change_is_no_review(verdict: str, touched: tuple[str, ...], code: str) -> None:
    """A reviewer that says nothing, or changes something, has failed whatever its exit code is; QA ends without an approval."""
    story = landed()
    ask(story)
    for _ in range(2):
        say(story, "qa-1", verdict, touched=touched)
    assert (story.state("qa-1"), story.why("qa-1"), state(story)) == ("failed", code, "rejected")
    assert invariants(story.swarm) == []


def test_the_rounds_have_an_end() -> None:
    """After `rounds_max` reviews there is no other, whatever the last one says."""
    story = landed()
    ask(story, rounds=2)
    review(story, "qa-1", "reject", Issue("One"))
    story.land("qa-1-fix")
    review(story, "qa-2", "reject", Issue("Two"))
    assert state(story) == "rejected"
    assert "the last of 2 rounds" in qa(story).reason
    assert "Two" in qa(story).reason
    assert story.told("QaRejected")[0].data["text"] == qa(story).reason


def test_the_same_issue_three_times_ends_it() -> None:
    """An issue that comes back in the third round, however it is numbered or punctuated, is not sent to the fixer again."""
    story = landed()
    ask(story, rounds=50)
    for number in (1, 2, 3):
        review(
            story,
            f"qa-{number}",
            "reject",
            Issue(f"No tests ({number})", "a"),
            Issue(f"other {'x' * number}"),
        )
        if number < 3:
            story.land(f"qa-{number}-fix")
    assert state(story) == "rejected"
    assert '3 times: "No tests (3)"' in qa(story).reason


def test_without_a_fixer_the_first_objection_ends_it() -> None:
    """Nobody mends what is objected to where there is no fixer; a rejection without an issue says what it can."""
    story = landed()
    ask(story, fixer=None)
    review(story, "qa-1", "reject")
    assert "rejected without a word, and there is no fixer" in qa(story).reason


def test_a_repair_that_fails_ends_it() -> None:
    """Where the fixer fails, or its task is cancelled, there is no approval and it is said why."""
    story = landed()
    ask(story)
    review(story, "qa-1", "reject", NO_TESTS)
    story.up("qa-1-fix")
    story.send(m.TasksCancelled(at=story.now, run="plan", tasks=("qa-1-fix",)))
    story.exit("qa-1-fix", 143)
    story.collect("qa-1-fix")
    assert story.state("qa-1-fix") == "cancelled"
    assert "qa-1-fix did not land" in qa(story).reason
    ask(story)
    assert (state(story), qa(story).task) == ("at_work", "qa-2")


def test_one_qa_at_a_time_and_no_retry_of_its_tasks() -> None:
    """While a review is at work another is refused, and a task of a round that is over is not tried again; nothing is changed."""
    story = landed()
    ask(story)
    before = snapshot(story.swarm)
    with pytest.raises(IllegalEvent, match="qa-1"):
        ask(story)
    assert snapshot(story.swarm) == before
    say(story, "qa-1", "")
    say(story, "qa-1", "")
    with pytest.raises(IllegalEvent, match="swarm qa"):
        story.send(m.TasksRetried(at=story.now, run="plan", tasks=("qa-1",)))


def test_names_that_are_taken_are_passed_over() -> None:
    """A plan may have a task named like a review."""
    story = a_story(a_plan(a_task("qa-1")))
    story.land("qa-1")
    ask(story)
    assert qa(story).task == "qa-2"


def test_a_review_takes_part_whatever_only_says() -> None:
    """`--only` limits a run to some tasks of its plan, and a review is none of these."""
    story = a_story(a_plan(a_task("a"), a_task("b")), only=("a",))
    story.land("a")
    ask(story)
    review(story, "qa-1", "approve")
    assert state(story) == "approved"


def test_issues_are_known_again_by_path_and_words() -> None:
    """Letter case, numbers and punctuation do not make another issue of the same; another file does."""
    seen = Round("qa-1", "0", approved=False, issues=(Issue("No tests: 3 of 7", "A.py"),))
    other = Round(
        "qa-2", "0", approved=False, issues=(Issue("no tests (1 of 7)", "a.py"), Issue("No tests", "b.py"))
    )
    assert Qa(REVIEWER, FIXER, 9, rounds=[seen, other, seen]).recurring() == "No tests: 3 of 7"
    assert Qa(REVIEWER, FIXER, 9, rounds=[seen, other]).recurring() == ""
    apart = dataclasses.replace(other, issues=other.issues[1:])
    assert Qa(REVIEWER, FIXER, 9, rounds=[seen, apart, seen]).recurring() == ""

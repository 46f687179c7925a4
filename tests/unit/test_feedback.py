"""What the next attempt is told, and when trying again would say nothing new."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.claims import unused
from swarm.core.feedback import mark, normalised
from swarm.core.model import Claim, Limits, Sides, WorkerResult
from tests.builders import BASE, a_claim, a_plan, a_task
from tests.stories import Story, a_story

quietly = settings(database=None, deadline=None, max_examples=100)
NOW = Limits(ramp_per_s=1000.0, same_failure_max=3)

# What one and the same failure prints at two times.
ALIKE = [
    ("/tmp/pytest-of-me/pytest-7/test_x0/a.py:12: AssertionError", "/home/you/w/3/a.py:15: AssertionError"),
    ("1 failed in 0.31s", "1 failed in 12.02s"),
    ("took 3 ms", "took 1.5 s"),
    ("<Thing object at 0x7f11a5a5a8e0>", "<Thing object at 0x7f00deadbeef>"),
    ("2026-11-25T22:07:20.123Z start", "2027-01-02T03:04:05.9Z start"),
    ("commit 4a8565e636c62e607a994c2c7b85601debed676c", "commit a5ffbb44e3c615be2fde6a5c8b96be9e047f2e64"),
    ("id 123e4567-e89b-12d3-a456-426614174000", "id 00000000-0000-4000-8000-000000000000"),
    ("\x1b[31mFAILED\x1b[0m x", "FAILED  x"),
    ("wrote /tmp/tmpab12cd34", "wrote /tmp/tmpzz98yy76"),
    ("a\n\n  b\r\n", "a\nb"),
    ("C:\\work\\x.py", "/srv/x.py"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_what_differs_from_time_to_time_does_not_count(one: str, other: str) -> None:
    """Paths, times, durations, addresses, numbers, ids, colours and blanks do not make two failures differ."""
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("KeyError: 'a'", "KeyError: 'b'"),
        ("test_a failed", "test_b failed"),
        ("x.py: error", "y.py: error"),
        ("a", ""),
    ],
)
def test_what_says_something_counts(one: str, other: str) -> None:
    """Other words, tests, files and errors are another failure."""
    assert normalised(one) != normalised(other)


words = st.text(alphabet=st.sampled_from("abf019 ~./\\:x-_\n\tTmps#\x1b[m,"), max_size=60)


@quietly
@given(words, st.integers(0, 10**12), st.integers(0, 10**12), words)
def test_a_number_between_words_says_nothing(before: str, one: int, other: int, after: str) -> None:
    """Any number in the place of another gives the same."""
    assert normalised(f"{before} {one} {after}") == normalised(f"{before} {other} {after}")


def a_failing(limits: Limits, attempts: int, *tails: str) -> Story:
    """Task `a`, whose verification fails with these outputs."""
    story = a_story(a_plan(a_task("a", verify=["make"], attempts=attempts)), bench=Story(limits))
    for tail in tails:
        story.work("a")
        story.merge("a")
        story.red("a", tail=tail)
    return story


def test_the_same_failure_three_times_is_enough() -> None:
    """A task whose verification fails in the same way three times is not tried again, though attempts are left, and says so."""
    story = a_failing(NOW, 9, "x.py:1: boom", "x.py:2: boom")
    assert story.state("a") == "running"
    story = a_failing(NOW, 9, "x.py:1: boom", "x.py:2: boom", "x.py:3: boom")
    assert (story.state("a"), story.why("a")) == ("failed", "verify_failed")
    (failed,) = story.told("TaskFailed")
    assert (
        failed.data["text"]
        == "verification did not pass, twice on the same commit: make (failed), in the same way 3 times, so it is not tried again"
    )


def a_worker_failing(limits: Limits, *ends: tuple[int, str, str]) -> Story:
    """Task `a`, whose workers ended with these exit codes, summaries and outputs."""
    story = a_story(a_plan(a_task("a", attempts=9)), bench=Story(limits))
    for code, summary, output in ends:
        story.up("a")
        where = story.where(story.sole(cmd.WatchWorker, "a"))
        said = WorkerResult(summary=summary)
        story.send(m.WorkerExited(**where, exit_code=code, result=said, output=mark(output)))
        story.collect("a")
    return story


@pytest.mark.parametrize(
    "ends",
    [
        [
            (1, "I change the pattern", "one"),
            (1, "I change the  pattern\n", "two"),
            (1, "I change the pattern", ""),
        ],
        [(1, "", "pid 12: no such file"), (1, "", "pid 14: no such file"), (1, "", "pid 9: no such file")],
    ],
)
def test_a_worker_that_fails_in_the_same_way_three_times_is_not_tried_again(
    ends: list[tuple[int, str, str]],
) -> None:
    """Row 63: what a worker says it tried, or where it says nothing the end of its output, is the same three times: that is
    enough, as it is of suites."""
    assert a_worker_failing(NOW, *ends[:2]).state("a") == "running"
    story = a_worker_failing(NOW, *ends)
    assert (story.state("a"), story.why("a")) == ("failed", "worker_failed")
    (failed,) = story.told("TaskFailed")
    text = "the worker ended with exit code 1, in the same way 3 times, so it is not tried again"
    assert failed.data["text"] == text


@pytest.mark.parametrize(
    "ends",
    [
        [
            (1, "the first way", ""),
            (1, "the second way", ""),
            (1, "way 3", ""),
            (1, "way 4", ""),
            (1, "way 5", ""),
        ],
        [(1, "", "boom"), (2, "", "boom"), (1, "", "boom"), (2, "", "boom")],
        [(1, "", "boom"), (1, "", "bang"), (1, "", "boom"), (1, "", "boom")],
        [(1, "", "")] * 5,
    ],
)
def test_workers_that_fail_otherwise_or_say_nothing_are_tried_again(ends: list[tuple[int, str, str]]) -> None:
    """Another way, another exit code or other words are news; of silence nobody knows whether it is the same."""
    assert a_worker_failing(NOW, *ends).state("a") == "running"


def test_another_failure_is_news() -> None:
    """Failures that differ are tried again while attempts last."""
    assert a_failing(NOW, 9, "boom", "bang", "boom", "bang", "boom").state("a") == "running"


def test_without_a_limit_it_is_tried_on() -> None:
    """Without the limit a task is tried until its attempts are used up."""
    without = dataclasses.replace(NOW, same_failure_max=0)
    assert a_failing(without, 9, *["boom"] * 8).state("a") == "running"


def test_retried_by_a_person_it_is_counted_anew() -> None:
    """After a retry the failures of before do not count."""
    story = a_failing(NOW, 9, "boom", "boom", "boom")
    story.send(m.TasksRetried(at=story.now, run=story.run.id, tasks=("a",)))
    story.work("a")
    story.merge("a")
    story.red("a", tail="boom")
    assert story.state("a") == "running"


def test_a_conflict_is_told_with_all_sides() -> None:
    """The next attempt is told where the last began, what its work is, and the blobs of each side of each path in conflict."""
    story = a_story(a_plan(a_task("a")), bench=Story(NOW))
    story.work("a")
    merge = story.sole(cmd.Merge, "a")
    sides = (Sides("src/x", "1" * 40, "2" * 40, "3" * 40), Sides("gone", "4" * 40, "", "5" * 40))
    where = {**story.where(merge), "onto": merge.onto}
    story.send(m.MergeConflicted(**where, paths=("src/x", "gone"), landings=("b",), versions=sides))
    (text,) = story.task("a").feedback
    head = story.task("a").attempts[0].head
    assert f"began at {BASE}; its work is {head}, on branch {story.task('a').attempts[0].branch}" in text
    assert "changed there by b" in text
    assert f"--- src/x ---\nbase {'1' * 40}\nstaging {'2' * 40}\nown {'3' * 40}" in text
    assert "staging has none" in text
    (back,) = story.told("TaskHandedBack")
    assert back.data["versions"][0] == {
        "path": "src/x",
        "base": "1" * 40,
        "staging": "2" * 40,
        "own": "3" * 40,
    }


def test_a_claim_that_was_not_needed_is_told() -> None:
    """Of a task that landed it is told which of its claims nothing was changed under; of one that used them all nothing."""
    story = a_story(
        a_plan(a_task("a", claims=["a", "b/**", "+c"]), a_task("d", claims=["d"])), bench=Story(NOW)
    )
    story.land("a", "d")
    (fact,) = story.told("ClaimUnused")
    assert (fact.task, fact.data["paths"]) == ("a", ["b/**", "c"])


def test_what_is_unused() -> None:
    """A claim is used by a path that it covers; a token claims no path."""
    claims = [a_claim("src/**"), a_claim("docs/*.md"), Claim("\0port:80")]
    assert unused(claims, ("src/a/b", "docs/x/y.md")) == ("docs/*.md",)

"""How suites run and what they say: parts, broken runners, the slowest, and why one did not pass."""

from __future__ import annotations

import dataclasses

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.model import Suite, SuiteResult, each_once
from swarm.core.suites import (
    Share,
    apart,
    asked_for,
    blamed,
    broken_runner,
    does_not_add_up,
    is_split_for,
    no_tests,
    not_passed,
    one_by_one,
    slowest,
    together,
)
from swarm.errors import UsageError
from tests.builders import a_plan, a_task
from tests.stories import a_story


def test_what_verify_asks_for_is_named_after_its_command() -> None:
    """As a suite of a plan is; no name is that of another command's anywhere in the plan, nor that of no suite at all."""
    asked = asked_for(["make  test", "make  test", "none", "unit", "x" * 90 + "1", "x" * 90 + "2"])
    assert [each.name for each in asked][:3] == ["make test", "none", "unit"]
    plan = a_plan(a_task("a", verify=["make unit"]), verify=["lint"])
    (of_task,) = (dataclasses.replace(each, name="unit") for each in plan.tasks[0].verify)
    plan = dataclasses.replace(plan, tasks=(dataclasses.replace(plan.tasks[0], verify=(of_task,)),))
    made = apart(dataclasses.replace(plan, verify=(*plan.verify, *asked)))
    names = [each.name for each in made.verify]
    assert names[:4] == ["lint", "make test", "none (2)", "unit (2)"]
    assert names[5] == f"{names[4]} (2)"
    assert apart(made) == made
    same = dataclasses.replace(plan, verify=asked_for([plan.verify[0].run]))
    assert [each.name for each in apart(same).verify] == [plan.verify[0].run]
    with pytest.raises(UsageError):
        asked_for(["make", " "])


def test_a_command_is_one_suite_but_by_several_names() -> None:
    """Asked for by the plan, a phase and a task it runs once, by the name that one of them gives it; by two names twice, each with
    its own time and parts."""
    make, task, unit = (
        Suite("make", "make"),
        Suite("make", "make", 5.0),
        Suite("unit", "make", 7.0, named=True),
    )
    lint, other = Suite("lint", "make", shard=2, named=True), Suite("other", "true")
    assert each_once([make, other, task]) == (make, other)
    assert each_once([make, other, unit, task]) == (other, unit)
    assert each_once([unit, make, lint, unit]) == (unit, lint)
    assert each_once([]) == ()


def test_suites_of_one_command_and_several_names_all_run() -> None:
    """What lands says that each passed."""
    suites = [Suite("unit", "true", named=True), Suite("lint", "true", named=True)]
    plan = dataclasses.replace(a_plan(a_task("a")), verify=tuple(suites))
    story = a_story(plan)
    assert story.run.all_suites() == story.run.suites(story.run.tasks["a"]) == tuple(suites)
    story.work("a")
    story.merge("a")
    assert story.verify("a", "passed", "failed").suites == tuple(suites)
    assert story.sole(cmd.Verify).suites == (suites[1],)


def test_the_slowest_of_several_is_named() -> None:
    """Of suites that ran side by side the slowest is the one to mend; one alone is no bottleneck."""
    unit, lint = SuiteResult("unit", "passed", duration_s=3.0), SuiteResult("lint", "failed", duration_s=0.5)
    assert slowest([lint, unit]) is unit
    assert slowest([unit]) is None
    assert slowest([]) is None


def test_a_landing_tells_its_slowest_suite() -> None:
    """The fact of a landing names the slowest suite and how long it took, where there were several."""
    story = a_story(a_plan(a_task("a", verify=["unit"]), verify=["lint"]))
    story.work("a")
    story.merge("a")
    verify = story.sole(cmd.Verify)
    said = (SuiteResult("lint", "passed", 0, 0.25), SuiteResult("unit", "passed", 0, 2.0))
    story.send(m.Verified(**story.where(verify), candidate=verify.candidate, suites=said))
    story.advance("a")
    story.publish()
    (landed,) = story.told("TaskLanded")
    assert (landed.data["bottleneck"], landed.data["verify_s"]) == ("unit", 2.0)


def test_why_suites_did_not_pass() -> None:
    """Each that did not pass is named with how it ended. That it changed tracked files is said only of one that ran by itself: of
    several that share a worktree it may have been any."""
    said = [
        SuiteResult("unit", "passed"),
        SuiteResult("e2e", "timeout"),
        SuiteResult("docs", "none"),
        SuiteResult("lint", "failed", changed=("a", "b")),
    ]
    beside = "tracked files were changed while it ran, by it or a suite beside it: a, b"
    assert not_passed(said) == f"e2e (timeout), docs (none), lint ({beside})"
    assert not_passed(said[3:]) == "lint (changed tracked files: a, b)"


def test_who_is_blamed_for_a_changed_file() -> None:
    """A file that is changed in the end is held against a suite at whose end it was; one that was put back against nobody."""
    assert blamed(["a", "b"], {"b", "c"}) == ("b",)
    assert blamed(["a"], set()) == ()
    assert blamed([], {"a"}) == ()


def share(part: int, *mine: str, files: str = "abcd", size: int = 1) -> Share:
    return Share(part, dict.fromkeys(files, size), frozenset(mine))


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ([share(1, "a", "b"), share(2, "c", "d")], ""),
        ([share(1, "a", "b"), share(1, "a", "b"), share(2, "c", "d")], ""),  # two processes of one part
        ([share(1, "a", "b", "c", "d"), share(2)], ""),
        ([share(1, "a", "b"), share(2, "c", "d"), share(1, "x", files="x"), share(2, files="x")], ""),
        ([], "no part said which test files it had"),
        ([share(1, "a", "b")], "part 2 of 2 did not see the 4 test files that others saw"),
        (
            [share(1, "a", "b"), share(2, "c", "d", size=2)],
            "part 2 of 2 did not see the 4 test files that others saw",
        ),
        ([share(1, "a", "b"), share(2, "c")], "d would have run 0 times"),
        ([share(1, "a", "b"), share(2, "b", "c", "d")], "b would have run 2 times"),
        ([share(1, "a", "b"), share(2, "c", "d", "x")], "x would have run 1 times"),
    ],
)
def test_parts_are_every_test_file_once(shares: list[Share], why: str) -> None:
    """Parts are believed only where all saw the same tests and together have each file once."""
    assert does_not_add_up(shares, 2).startswith(why)
    assert bool(does_not_add_up(shares, 2)) == bool(why)


@pytest.mark.parametrize(
    ("run", "code", "output", "none"),
    [
        ("pytest -q", 5, "no tests ran in 0.01s", True),
        ("make test", 5, "", False),
        ("pytest -q", 1, "", False),
        ("go test ./...", 0, "?   \texample.org/a\t[no test files]", True),
        ("go test ./...", 0, "ok  \texample.org/a\t0.002s [no tests to run]", True),
        ("go test ./...", 0, "?   \texample.org/a\t[no test files]\nok  \texample.org/b\t0.002s", False),
        ("go vet ./...", 0, "[no test files]", False),
        ("cargo test", 0, "running 0 tests\n\ntest result: ok. 0 passed", True),
        ("cargo test", 0, "running 2 tests\n...\n   Doc-tests x\nrunning 0 tests", False),
        ("cargo test", 101, "running 0 tests", False),
        ("python3 -m unittest discover", 0, "Ran 0 tests in 0.000s\n\nOK", True),
        ("python3 -m unittest", 0, "Ran 3 tests in 0.1s\n\nOK", False),
        ("npx jest --passWithNoTests", 0, "No tests found, exiting with code 0", True),
        ("npx vitest run --passWithNoTests", 0, "No test files found, exiting with code 0", True),
        ("npx jest", 0, "Tests:       3 passed, 3 total", False),
    ],
)
def test_no_tests_are_told_from_passed(run: str, code: int, output: str, none: bool) -> None:
    """Row 87: a runner that found no test has verified nothing, also where it ends with 0; one that ran any has."""
    assert no_tests(run, code, output) is none


@pytest.mark.parametrize(
    ("outcomes", "whole"),
    [
        ({"passed"}, "passed"),
        ({"passed", "none"}, "passed"),
        ({"none"}, "none"),
        ({"passed", "timeout"}, "timeout"),
        ({"failed", "timeout", "none"}, "failed"),
    ],
)
def test_what_parts_come_to(outcomes: set[str], whole: str) -> None:
    """A suite has passed when each part has; a part without tests says nothing as long as others had some."""
    assert together(outcomes) == whole


def test_whose_files_are_shared_out() -> None:
    """The built-in splitter is for pytest in several parts, unless the command splits by itself."""
    assert is_split_for(Suite("a", "python -m pytest -q", shard=2))
    assert not is_split_for(Suite("a", "python -m pytest -q"))
    assert not is_split_for(Suite("a", "npx jest --shard=$SWARM_SHARD/$SWARM_SHARDS", shard=2))
    assert not is_split_for(Suite("a", "pytest --splits $SWARM_SHARDS --group $SWARM_SHARD", shard=2))


@pytest.mark.parametrize(
    ("output", "broke"),
    [
        ("[gw0] node down: Not properly terminated", True),
        ("worker 'gw12' crashed while running 'test_a.py::test'", True),
        ("Different tests were collected between gw0 and gw1.", True),
        ('INTERNALERROR>   File "/x/xdist/dsession.py"', True),
        ("FAILED test_a.py::test_gw0 - AssertionError", False),
        ("INTERNALERROR> KeyError", False),
        ("", False),
    ],
)
def test_a_parallel_runner_that_broke_is_recognised(output: str, broke: bool) -> None:
    """What pytest-xdist says when it breaks is told from tests that fail."""
    assert bool(broken_runner(f"some\n{output}\nmore")) is broke


@pytest.mark.parametrize(
    ("run", "alone"),
    [
        ("pytest -n 4 -q", "pytest -n 0 -q"),
        ("pytest -n4", "pytest -n0"),
        ("pytest -n auto --dist loadfile", "pytest -n 0 --dist loadfile"),
        ("pytest --numprocesses=logical x", "pytest --numprocesses=0 x"),
        ("pytest -k 'not-n 4'", "pytest -k 'not-n 4'"),
        ("make test", "make test"),
    ],
)
def test_one_test_after_the_other(run: str, alone: str) -> None:
    """A command is made to use no parallel processes where it says how many."""
    assert one_by_one(run) == alone


def test_a_note_is_told_with_the_landing() -> None:
    """What was run otherwise than asked stands in the fact of the landing."""
    story = a_story(a_plan(a_task("a"), verify=["unit"]))
    story.work("a")
    story.merge("a")
    verify = story.sole(cmd.Verify)
    said = (SuiteResult("unit", "passed", 0, 0.25, note="ran as a whole"),)
    story.send(m.Verified(**story.where(verify), candidate=verify.candidate, suites=said))
    story.advance("a")
    story.publish()
    (landed,) = story.told("TaskLanded")
    assert landed.data["notes"] == {"unit": "ran as a whole"}

"""What suites say: the slowest, and why one did not pass."""

from __future__ import annotations

from swarm.core import messages as m
from swarm.core.model import SuiteResult
from swarm.core.suites import blamed, not_passed, slowest
from tests.builders import a_plan, a_task
from tests.stories import a_story


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
    verify = story.sole(m.Verify)
    said = (SuiteResult("lint", "passed", 0, 0.25), SuiteResult("unit", "passed", 0, 2.0))
    story.send(m.Verified(**story.where(verify), candidate=verify.candidate, suites=said))
    story.advance("a")
    story.publish()
    (landed,) = story.told("TaskLanded")
    assert (landed.data["bottleneck"], landed.data["verify_s"]) == ("unit", 2.0)


def test_why_suites_did_not_pass() -> None:
    """Each that did not pass is named with how it ended; one that changed tracked files with the paths."""
    said = [
        SuiteResult("unit", "passed"),
        SuiteResult("e2e", "timeout"),
        SuiteResult("docs", "none"),
        SuiteResult("lint", "failed", changed=("a", "b")),
    ]
    assert not_passed(said) == "e2e (timeout), docs (none), lint (changed tracked files: a, b)"


def test_who_is_blamed_for_a_changed_file() -> None:
    """A file that is changed in the end is held against a suite at whose end it was; one that was put back against nobody."""
    assert blamed(["a", "b"], {"b", "c"}) == ("b",)
    assert blamed(["a"], set()) == ()
    assert blamed([], {"a"}) == ()

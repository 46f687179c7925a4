"""What belongs to a role, and how many of it work at once."""

from __future__ import annotations

import dataclasses

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core import ownership, report
from swarm.core.invariants import invariants
from swarm.core.model import Limits, Role, TaskSpec
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story

ARCHITECT = Role("architect", ("docs/architecture/**", "PLAN.md"), max=1)
SCOUT = Role("scout", read_only=True)
WRITER = Role("writer", ("docs/*.txt", "PLAN.md"))
ROLES = (ARCHITECT, SCOUT, WRITER)
LIMITS = Limits(ramp_per_s=1000.0, roles=ROLES)


def of_role(role: str, name: str, *claims: str, **more: object) -> TaskSpec:
    return dataclasses.replace(a_task(name, claims=claims, **more), role=role)  # type: ignore[arg-type]


def a_role_story(*specs: TaskSpec, limits: Limits = LIMITS) -> Story:
    return a_story(a_plan(*specs), Story(limits))


def done(story: Story, name: str, *touched: str) -> None:
    story.up(name)
    story.exit(name)
    story.collect(name, touched=touched)


@pytest.mark.parametrize(
    ("role", "claim", "owner"),
    [
        ("", "docs/architecture/a.md", "architect"),
        ("builder", "docs/**", "architect"),
        ("builder", "**", "architect"),
        ("architect", "docs/notes.txt", "writer"),
        ("architect", "docs/architecture/a.md", None),
        ("architect", "PLAN.md", None),
        ("writer", "PLAN.md", None),
        ("", "PLAN.md", "architect"),
        ("", "src/**", None),
    ],
)
def test_a_claim_of_what_belongs_to_another_role_is_refused(role: str, claim: str, owner: str | None) -> None:
    """Row 40: a claim that could touch what another role owns is refused, the owner named; one's own, what two roles own, and what
    nobody owns may be claimed."""
    found = list(ownership.refusals(ROLES, [of_role(role, "t", claim)]))
    assert [f"belongs to {owner}" in text for text in found] == ([True] if owner else [])


def test_a_read_only_role_claims_nothing() -> None:
    """A task of a read-only role that claims something is refused; one that is finished is not looked at."""
    (text,) = ownership.refusals(ROLES, [of_role("scout", "t", "src/a")])
    assert text == 'task "t" claims src/a, and its role scout is read-only'
    assert list(ownership.refusals(ROLES, [of_role("scout", "t", "src/a", finished=True)])) == []


def test_work_that_changed_what_belongs_to_another_does_not_land() -> None:
    """Whatever was claimed and whatever is done about strays, such work is handed back, told whose it is, and in the end failed."""
    story = a_role_story(
        of_role("builder", "t", attempts=1), limits=dataclasses.replace(LIMITS, strays="warn")
    )
    done(story, "t", "src/a", "docs/architecture/a.md", "docs/b.txt")
    reason = story.task("t").reason
    assert reason is not None
    assert (story.state("t"), reason.code) == ("failed", "stray")
    assert reason.text == (
        "it changed docs/architecture/a.md, which belongs to architect; it changed docs/b.txt, which belongs to writer, "
        "and its role is builder"
    )
    assert reason.facts == {
        "paths": ["docs/architecture/a.md", "docs/b.txt"],
        "owners": ["architect", "writer"],
    }
    assert not story.has(cmd.BringIn)


def test_the_owner_and_everybody_elsewhere_lands() -> None:
    """The owner's work lands, and so does that of any role on what nobody owns."""
    story = a_role_story(of_role("architect", "a", "docs/architecture/**"), of_role("", "b", "src/**"))
    done(story, "a", "docs/architecture/a.md")
    done(story, "b", "src/a")
    assert story.states() == {"a": "queued", "b": "queued"}


def test_a_role_that_may_change_nothing_does_well_with_nothing() -> None:
    """Of a read-only role no change lands, undeclared, and any change is refused."""
    story = a_role_story(of_role("scout", "a", attempts=1), of_role("scout", "b", attempts=1))
    done(story, "a")
    done(story, "b", "src/a")
    assert story.states() == {"a": "landing", "b": "failed"} or story.states() == {
        "a": "queued",
        "b": "failed",
    }
    assert story.task("b").reason.text == "it changed src/a, and its role scout is read-only"  # type: ignore[union-attr]


def test_one_at_a_time_from_start_to_landing_in_all_runs() -> None:
    """Row 98: of a role with `max = 1` the next task starts when the one before has landed, in whatever run it is; others go on."""
    story = a_role_story(of_role("architect", "a"), of_role("architect", "b"), of_role("builder", "c"))
    story.submit(a_plan(of_role("architect", "z"), name="second"))
    assert story.at_work() == ["a", "c"]
    assert list(story.swarm.runs["second"].live) == []
    document = report.task_document(story.swarm, story.run, story.task("b"), report.Live(True))
    assert document["reason"] == {
        "code": "role",
        "text": "at most 1 of role architect at once: a is at work",
        "role": "architect",
        "holders": ["a"],
    }
    story.work("a")
    assert story.at_work() == ["c"]
    story.merge("a")
    story.advance("a")
    story.publish()
    assert len(ownership.counted(story.swarm, "architect")) == 1
    assert invariants(story.swarm) == []


def test_a_failure_lets_the_next_of_the_role_start() -> None:
    """What has ended without landing holds nobody of its role up any more."""
    story = a_role_story(of_role("architect", "a", attempts=1), of_role("architect", "b"))
    story.fail("a")
    assert story.at_work() == ["b"]


def test_a_daemon_with_other_roles_forgets_the_old_bounds() -> None:
    """A bound that is in the settings no more holds nobody up, and a new one holds from then on."""
    story = a_role_story(of_role("architect", "a"), of_role("architect", "b"), of_role("architect", "c"))
    assert story.at_work() == ["a"]
    wider = dataclasses.replace(LIMITS, roles=(dataclasses.replace(ARCHITECT, max=2),))
    story.send(m.DaemonStarted(at=story.now, version="next", pid=2, limits=wider, rules=m.RULES))
    story.measure()
    assert story.at_work() == ["a", "b"]
    story.send(
        m.DaemonStarted(at=story.now, version="next", pid=2, limits=Limits(ramp_per_s=1000.0), rules=m.RULES)
    )
    story.measure()
    assert story.at_work() == ["a", "b", "c"]

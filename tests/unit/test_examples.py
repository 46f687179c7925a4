"""The plans of `examples/` are what they say they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.core import plan
from swarm.core.graph import graph, overlaps
from swarm.core.model import Defaults, Mode, PlanSpec

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def plans() -> dict[str, plan.Reading]:
    files = sorted(EXAMPLES.glob("*.toml"))
    return {file.stem: plan.read(file.read_bytes(), source=file.name, defaults=Defaults()) for file in files}


@pytest.fixture(scope="module")
def demonstration(plans: dict[str, plan.Reading]) -> PlanSpec:
    found = plans["boltons"].plan
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "tasks"), [("hello", 3), ("phases", 7), ("boltons", 17), ("boltons-model", 6)]
)
def test_each_example_is_a_native_plan_without_any_error(
    plans: dict[str, plan.Reading], name: str, tasks: int
) -> None:
    """Every shipped plan reads without an error, and its run has the name of its file."""
    reading = plans[name]
    assert reading.errors == ()
    assert reading.plan is not None
    assert (reading.plan.format, reading.plan.id, len(reading.plan.tasks)) == ("native TOML", name, tasks)


def test_no_example_is_left_out_of_these_tests(plans: dict[str, plan.Reading]) -> None:
    """A plan that is added to the examples has to be added here."""
    assert set(plans) == {"hello", "phases", "boltons", "boltons-model"}


@pytest.mark.parametrize("name", ["hello", "phases"])
def test_the_small_examples_read_without_a_warning(plans: dict[str, plan.Reading], name: str) -> None:
    """Who starts from a small example does not start from a warning."""
    assert plans[name].warnings == ()


def test_the_demonstration_has_what_it_promises(demonstration: PlanSpec) -> None:
    """At least twelve tasks in three phases, one of them sequential, all with claims, verified by two suites."""
    assert len(demonstration.tasks) >= 12
    assert [phase.parallel_safe for phase in demonstration.phases] == [False, True, True]
    assert all(task.claims and task.run for task in demonstration.tasks)
    assert len(demonstration.verify) == 2
    assert graph(demonstration).widest >= 4


def test_the_demonstration_shares_a_claim_and_has_two_that_overlap(demonstration: PlanSpec) -> None:
    """Several tasks share the changelog, and exactly `interleave` and `exports` claim what overlaps at the same time."""
    sharing = [task.id for task in demonstration.tasks for claim in task.claims if claim.mode is Mode.SHARED]
    assert {"contributing", "security"} < set(sharing)
    assert [(found.first, found.second) for found in overlaps(demonstration).found] == [
        ("interleave", "exports")
    ]


def test_the_tutorial_shows_the_smallest_plan_as_it_is() -> None:
    """What the tutorial tells a reader to write is the shipped plan, below its opening comment."""
    shipped = (EXAMPLES / "hello.toml").read_text(encoding="utf-8")
    tutorial = (EXAMPLES.parent / "docs" / "tutorial" / "first-run.md").read_text(encoding="utf-8")
    assert shipped[shipped.index("name =") :] in tutorial

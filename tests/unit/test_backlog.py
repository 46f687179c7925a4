"""Which plan file a run is watched in, and why it is not taken in."""

from __future__ import annotations

import pytest

from swarm.core import machine, report
from swarm.core import messages as m
from swarm.core.state import IllegalEvent, Swarm
from tests.builders import a_plan, a_task, submitted


def a_swarm() -> Swarm:
    swarm = Swarm()
    machine.step(swarm, submitted(a_plan(a_task("a"), name="p")))
    return swarm


def of_run(swarm: Swarm) -> dict[str, object]:
    return report.run_document(swarm, swarm.runs["p"], report.Live())


def test_a_file_is_watched_until_there_is_none() -> None:
    """The status names the file; an empty path ends it."""
    swarm = a_swarm()
    assert of_run(swarm)["watched"] is None
    turn = machine.step(swarm, m.PlanWatched(at=2.0, run="p", source="/x/road.md"))
    assert [(fact.type, fact.data) for fact in turn.facts] == [("BacklogWatched", {"source": "/x/road.md"})]
    assert of_run(swarm)["watched"] == "/x/road.md"
    machine.step(swarm, m.PlanWatched(at=3.0, run="p", source=""))
    assert of_run(swarm)["watched"] is None


def test_what_is_not_taken_in_is_a_problem_until_it_is() -> None:
    """The run says why; when the file is good again nothing is left of it, and that is told to nobody."""
    swarm = a_swarm()
    machine.step(swarm, m.PlanWatched(at=2.0, run="p", source="/x/road.md"))
    turn = machine.step(swarm, m.WatchedPlanRefused(at=3.0, run="p", text="no plan"))
    assert [fact.type for fact in turn.facts] == ["BacklogRefused"]
    assert of_run(swarm)["problems"] == ["/x/road.md: no plan"]
    assert machine.step(swarm, m.WatchedPlanRefused(at=4.0, run="p", text="")).facts == []
    assert of_run(swarm)["problems"] == []


def test_a_problem_goes_with_its_file() -> None:
    """Another file that is watched begins without one."""
    swarm = a_swarm()
    machine.step(swarm, m.WatchedPlanRefused(at=2.0, run="p", text="no plan"))
    machine.step(swarm, m.PlanWatched(at=3.0, run="p", source="/y"))
    assert of_run(swarm)["problems"] == []


@pytest.mark.parametrize(
    "event",
    [m.PlanWatched(at=2.0, run="q", source="/x"), m.WatchedPlanRefused(at=2.0, run="q", text="no")],
)
def test_an_unknown_run_is_not_watched(event: m.Event) -> None:
    """It is refused."""
    with pytest.raises(IllegalEvent):
        machine.step(a_swarm(), event)

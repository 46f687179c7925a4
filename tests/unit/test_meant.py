"""Which run and which task a request means, and by what word a task is found again."""

from __future__ import annotations

import pytest

from swarm.client import naming
from swarm.core import building, report
from swarm.core.goal import Goal, Way
from swarm.core.model import TaskState
from swarm.core.state import Swarm
from swarm.daemon import meant
from swarm.errors import UsageError
from tests.builders import Bench, a_plan, a_task, submitted

STATES = {"active": TaskState.READY, "ended": TaskState.LANDED, "failed": TaskState.FAILED}


def a_swarm(**runs: str) -> Swarm:
    """Gives a swarm with runs that each have a task `t` and one called like themselves, both active, ended, failed, finished or
    answered."""
    bench = Bench()
    for name, state in runs.items():
        bench.send(submitted(a_plan(a_task("t"), a_task(name), name=name)))
        run = bench.swarm.runs[name]
        run.prepared = True
        for task in run.tasks.values():
            run.set_state(task, STATES.get(state, TaskState.LANDED))
        if state == "answered":
            run.way = Way(Goal("find it out"), tuple(run.tasks))
            for task in run.tasks.values():
                run.set_state(task, TaskState.ANSWERED)
        if state == "finished":
            run.finished_commit, run.finished_from = "c" * 40, run.published
    return bench.swarm


@pytest.mark.parametrize(
    ("runs", "name", "to_retry"),
    [
        ({"a": "finished"}, "a", None),
        ({"a": "failed"}, "a", "a"),
        ({"old": "finished", "a": "failed"}, "a", "a"),
        ({"old": "finished", "older": "finished", "a": "ended"}, "a", None),
        ({"old": "ended", "a": "active"}, "a", None),
        ({"old": "failed", "a": "active"}, "a", "old"),
        ({"old": "failed", "a": "failed"}, None, None),
        ({"old": "ended", "a": "failed"}, None, "a"),
        ({"a": "active", "b": "active"}, None, None),
        ({"asked": "answered", "a": "ended"}, "a", None),
        ({"asked": "answered"}, "asked", None),
        ({"asked": "answered", "a": "ended", "b": "ended"}, None, None),
    ],
)
def test_the_run_that_is_meant_where_none_is_named(
    runs: dict[str, str], name: str | None, to_retry: str | None
) -> None:
    """It is the only one that is active, else the only one that is not finished; to try again, the only one that has something."""
    swarm = a_swarm(**runs)
    for wanted, fits in ((name, lambda _: True), (to_retry, meant.to_retry)):
        if wanted is None:
            with pytest.raises(UsageError):
                meant.run_of(swarm, None, fits=fits)
        else:
            assert meant.run_of(swarm, None, fits=fits).id == wanted
    shown = [
        {
            "id": run.id,
            "state": report.run_state(run),
            "goal": None if run.way is None else {"stage": building.stage(run)},
        }
        for run in swarm.runs.values()
    ]
    found = [run["id"] for run in naming.runs_of({"runs": shown}, None)]
    assert found == [name] if name is not None else len(found) > 1


def test_a_task_of_a_run_that_is_finished_is_meant_only_where_no_other_has_it() -> None:
    """Of two runs with a task of the same name the one that is not finished is meant; of two such, none."""
    swarm = a_swarm(old="finished", a="failed")
    assert meant.tasks_of(swarm, None, ["t"])[0].id == "a"
    assert meant.tasks_of(swarm, None, ["old"])[0].id == "old"
    assert meant.tasks_of(swarm, None, ["old/t"]) == (swarm.runs["old"], ["t"])
    assert meant.tasks_of(swarm, "old", ["t"])[0].id == "old"
    for runs in ({"a": "failed", "b": "ended"}, {"a": "finished", "b": "finished"}):
        with pytest.raises(UsageError, match="several runs"):
            meant.tasks_of(a_swarm(**runs), None, ["t"])


@pytest.mark.parametrize(
    "runs",
    [
        {"a": "finished"},
        {"a": "finished", "b": "failed"},
        {"a": "failed", "b": "active"},
        {"a": "finished", "b": "finished"},
        {"a": "finished", "b": "ended", "c": "failed"},
        {"asked": "answered", "b": "ended"},
    ],
)
def test_the_word_that_is_printed_for_a_task_finds_it(runs: dict[str, str]) -> None:
    """Whatever other runs there are, a task is found by the word that is printed for it."""
    swarm = a_swarm(**runs)
    for run in swarm.runs.values():
        for task in run.tasks:
            assert meant.tasks_of(swarm, None, [report.called(swarm, run, task)]) == (run, [task])

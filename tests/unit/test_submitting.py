"""What commands that bring work in make of their options, and say of the answer."""

from __future__ import annotations

from typing import Any, cast

import pytest

from swarm.client import progress, submitting
from swarm.client.connection import Connection
from swarm.client.session import Session
from swarm.errors import UsageError, WaitTimedOut


def given(**more: Any) -> dict[str, Any]:
    """The options of `swarm add` as they come where only a title and a command are given."""
    options = ("task_id", "prompt", "agent", "phase", "timeout_s", "attempts", "priority")
    bare = {"title": "Wide doors", "shell": "true", "claims": (), "shared": (), "needs": (), "verify": ()}
    return {**dict.fromkeys(options), **bare, "allow_empty": False, **more}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"attempts": 0}, "--attempts 0 "),
        ({"attempts": -1}, "--attempts -1 "),
        ({"timeout_s": 0.0}, "--timeout 0 "),
        ({"timeout_s": -5.0}, "--timeout -5 "),
        ({"timeout_s": float("nan")}, "--timeout nan "),
        ({"timeout_s": float("inf")}, "--timeout inf "),
    ],
)
def test_a_number_that_no_plan_may_have_is_refused(options: dict[str, Any], named: str) -> None:
    """By the name of the option, with what follows and what to do; nothing of it is passed over."""
    with pytest.raises(UsageError) as refused:
        submitting._task_table(given(**options))
    assert refused.value.cause.startswith(named)
    assert refused.value.consequence
    assert refused.value.next_step


def test_what_was_given_is_in_the_task_and_nothing_else() -> None:
    """A nought is given too; what was not given is left to the settings."""
    assert submitting._task_table(given()) == {"id": "wide-doors", "title": "Wide doors", "run": "true"}
    more = given(priority=0, attempts=1, timeout_s=0.5, allow_empty=True)
    table = submitting._task_table(more)
    assert {"priority": 0, "attempts": 1, "timeout_s": 0.5, "allow_empty": True}.items() <= table.items()


def test_suites_are_said_to_verify_only_what_is_still_to_land() -> None:
    """Submitted again, a plan may have landed before there were these suites, and nothing runs them for it."""
    answer: dict[str, Any] = {
        "run": "r",
        "added": ["a"],
        "replaced": [],
        "unchanged": 0,
        "verify": ["exit 1"],
    }
    assert submitting._submitted(answer) == "r: 1 added, 0 replaced, 0 unchanged; verified by exit 1"
    again = submitting._submitted({**answer, "added": [], "unchanged": 3})
    assert again == "r: 0 added, 0 replaced, 3 unchanged; what lands from now on is verified by exit 1"


def test_what_is_lifted_and_what_comes_too_late_is_said() -> None:
    """That something is verified no more, that a plan says something which has no effect, and what it does not name any more."""
    answer: dict[str, Any] = {"run": "r", "added": [], "replaced": [], "unchanged": 1, "verify": []}
    counts = "r: 0 added, 0 replaced, 1 unchanged; what lands from now on is"
    lifted = {**answer, "verify_lifted": ["make", "lint"]}
    assert submitting._submitted(lifted) == f"{counts} no longer verified by make, lint"
    other = {**lifted, "verify": ["check"]}
    assert submitting._submitted(other) == f"{counts} verified by check, and no longer verified by make, lint"
    gone = submitting._submitted({**answer, "left_out": ["a b"]})
    assert gone.splitlines()[1:] == [
        "  warning: 1 task of the run is no longer in the plan: a b; it is still wanted. Next: swarm cancel 'r/a b'"
    ]
    many = submitting._submitted({**answer, "left_out": [f"t{n}" for n in range(12)]})
    assert "12 tasks of the run are no longer in the plan: t0, " in many
    assert "t9 and 2 more; they are still wanted. Next: swarm cancel r/t0 r/t1 " in many
    late = submitting._submitted({**answer, "no_effect": ["that has no effect", "nor this"]})
    assert late.splitlines()[1:] == ["  warning: that has no effect", "  warning: nor this"]


@pytest.mark.parametrize("late", [True, False])
def test_of_several_runs_each_that_has_ended_is_told_of(
    late: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also behind one that is late, or that was discarded meanwhile: then something did not land."""

    def wait_for_end(_: object, __: object, run: str, **___: object) -> dict[str, Any]:
        if run == "a":
            raise WaitTimedOut("late") if late else UsageError("There is no run a.")
        return {"runs": [{"id": run, "counts": {"landed": 2}}]}

    monkeypatch.setattr(progress, "wait_for_end", wait_for_end)
    session, daemon = Session(), cast(Connection, object())
    session.quiet = True
    runs = [{"id": "a"}, {"id": "b"}]
    if late:
        with pytest.raises(WaitTimedOut, match="Run a has not ended within 3 s"):
            submitting._wait_for_all(session, daemon, {}, runs, 3.0)
    else:
        assert submitting._wait_for_all(session, daemon, {}, runs, None) == 1
    told = capsys.readouterr()
    assert told.out == "b: 2 landed, 0 failed, 0 blocked\n"
    assert ("no run a" in told.err) is not late

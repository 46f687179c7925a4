"""The audit as people use it: its answer and exit code, live, stopped, broken, and where there is nothing. What it can find is in
tests/crash/test_audit.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import git
from tests.e2e.driver import Swarm, common_dir


def audit(swarm: Swarm, *args: str, code: int = 0, **env: str) -> dict[str, Any]:
    found: dict[str, Any] = swarm("audit", "--json", *args, code=code, env=env).json
    return found


def broken(document: dict[str, Any]) -> set[str]:
    return {each["invariant"] for each in document["broken"]}


def test_nothing_of_swarm_is_nothing_broken(swarm: Swarm) -> None:
    """In a repository where swarm was never used the audit ends with 0 and makes nothing."""
    assert audit(swarm)["ok"] is True
    assert not (common_dir(swarm.top) / "swarm").exists()


def test_a_healthy_run_is_clean_while_it_works_and_afterwards(swarm: Swarm) -> None:
    """At every moment of a run, and after it with and without a daemon, no invariant is broken; the document says what was seen."""
    tasks = [swarm.task(f"t{n}") for n in range(6)]
    tasks += [swarm.task("slow", gate="open"), swarm.task("bad", "exit 1", claims=["bad"], attempts=2)]
    swarm("start", "--workers", "4")
    swarm("submit", str(swarm.plan("r", tasks, verify=["test -f README.md"])))
    while not {"TaskLanded", "TaskFailed"} <= {event["type"] for event in swarm.events()}:
        assert audit(swarm)["broken"] == []
    swarm.wait_for_start("slow")
    assert audit(swarm)["broken"] == []
    swarm.gate("open").touch()
    swarm.wait("r", code=1)
    assert audit(swarm)["broken"] == []
    swarm("stop")
    document = audit(swarm, "--run", "r")
    assert document["broken"] == []
    assert document["schema"] == 1
    assert (document["runs"], document["landings"]) == (["r"], 7)
    assert [each["id"] for each in document["invariants"]] == [f"I{n}" for n in range(1, 21)]
    assert [each["id"] for each in document["invariants"] if each["ok"] is None] == ["I5"]
    assert "hold" in swarm("audit").out
    assert "swarm status" in swarm("audit", "--run", "other", code=2).err


@pytest.mark.slow
def test_suites_run_again_on_request(swarm: Swarm) -> None:
    """With --verify the suites of landings run again in a checkout of their own; one that fails now is I5, with its output, and one
    that multiplies is ended."""
    flag, crowd = swarm.outside / "flag", swarm.outside / "crowd"
    flag.touch()
    many = f"test ! -e {crowd} || {{ for n in $(seq 60); do sleep 1000 & done; wait; }}"
    suite = f"{many}; test -e {flag} || {{ echo torn; exit 1; }}"
    swarm.run(swarm.plan("r", [swarm.task("a"), swarm.task("b")], verify=[suite]))
    assert audit(swarm, "--verify", "2")["ok"] is True
    crowd.touch()
    document = audit(swarm, "--verify", "1", code=1, SWARM_LIMITS__PROCESSES_MAX="40")
    assert "limits.processes_max" in document["broken"][0]["cause"]
    crowd.unlink()
    flag.unlink()
    document = audit(swarm, "--verify", "1", code=1)
    assert broken(document) == {"I5"}
    assert "torn" in document["broken"][0]["cause"]
    assert audit(swarm)["ok"] is True


@pytest.mark.slow
def test_suites_that_could_not_run_are_no_breach(swarm: Swarm) -> None:
    """Where the setup of the worktrees fails nobody knows whether what landed passes: that is told with what it said, as not looked
    at, and no task is to be undone for it. Nor did the audit come to its end: it ends with 1."""
    swarm.run(swarm.plan("r", [swarm.task("a"), swarm.task("b")], verify=["true"]))
    setup = {"SWARM_WORKTREES__SETUP": "echo no network >&2; exit 1"}
    document = audit(swarm, "--verify", "2", code=1, **setup)
    assert (document["ok"], document["broken"]) == (False, [])
    (unseen,) = [each for each in document["invariants"] if each["ok"] is not True]
    assert unseen["id"] == "I5"
    assert unseen["unseen"].count("The setup command of the worktrees ended with status 1") == 1
    assert all(f"the landing of {task} attempt 1" in unseen["unseen"] for task in ("a", "b"))
    told = swarm("audit", "--verify", "1", code=1, env=setup).out
    assert "broken" not in told.lower()
    assert "undo" not in told
    assert "Not looked at: I5; " in told
    assert "No suite has run. Its output ends: no network. Next: see to what it lacks" in told
    assert "All 19 invariants that were looked at hold, but I5 could not be looked at" in told
    assert "swarm-verify-" not in told  # where its log was


@pytest.mark.slow
def test_what_is_broken_is_told_with_its_number(swarm: Swarm) -> None:
    """A breach ends with 1 and is told by number, cause, consequence and next step; the same with a daemon that lives."""
    swarm.run(swarm.plan("r", [swarm.task("a"), swarm.task("b", needs=["a"])]))
    swarm.wait_for_rest()
    landing = common_dir(swarm.top) / "swarm" / "landing.git"
    ref = landing / "refs" / "heads" / "r" / "staging"
    stood = ref.read_text()
    ref.write_text(git(landing, "rev-parse", f"{stood.strip()}^") + "\n")
    document = audit(swarm, code=1)
    assert {"I1", "I3"} <= broken(document)
    assert all(each["cause"] and each["consequence"] and each["next"] for each in document["broken"])
    text = swarm("audit", code=1).out
    assert "I1 is broken" in text
    assert "Next: " in text
    swarm("start")
    assert "I1" in broken(audit(swarm, code=1))
    swarm("stop")
    ref.write_text(stood)


@pytest.mark.slow
def test_a_journal_that_is_gone_is_a_finding(swarm: Swarm) -> None:
    """Without its journal the audit says that it is missing and what it could not look at; no traceback, exit 1."""
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm.wait_for_rest()
    journal = common_dir(swarm.top) / "swarm" / "journal.sqlite"
    journal.rename(swarm.outside / "journal")
    document = audit(swarm, code=1)
    assert broken(document) == {"I18"}
    assert next(each for each in document["invariants"] if each["id"] == "I1")["ok"] is None
    (swarm.outside / "journal").rename(journal)

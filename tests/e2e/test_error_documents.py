"""What a program reads that asked for JSON and whose command failed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from swarm.errors import SwarmError
from tests.e2e.driver import Done, Swarm


@pytest.mark.slow
def test_every_schema_has_its_number_and_one_alone_is_pure(swarm: Swarm) -> None:
    """All schemas together are a document; one is a JSON Schema, without any key that a strict validator would not know."""
    every = swarm("schema").json
    assert every.pop("schema") == 1
    assert swarm("--json", "schema", "all").json == {"schema": 1, **every}
    assert set(every) == {"plan", "config", "error"}
    for name, schema in every.items():
        assert swarm("schema", name).json == schema
        assert swarm("schema", name, "--json").json == {"schema": 1, **schema}
        assert "schema" not in schema


def as_schema_says(swarm: Swarm, document: dict[str, Any]) -> None:
    """Holds a document against what `swarm schema error` says of it."""
    schema = swarm("schema", "error").json
    assert set(schema["required"]) <= set(document)
    assert document["schema"] == schema["properties"]["schema"]["const"]
    parts = schema["properties"]["error"]
    assert set(document["error"]) == set(parts["required"]) == set(parts["properties"])
    assert all(isinstance(text, str) for text in document["error"].values())


def told(swarm: Swarm, done: Done, command: str | None) -> dict[str, Any]:
    """Gives the only document on stdout, having held it against what stderr says and the exit code."""
    (line,) = done.out.splitlines()
    document: dict[str, Any] = json.loads(line)
    as_schema_says(swarm, document)
    assert (document["command"], document["exit_code"]) == (command, done.code)
    assert document["error"]["cause"]
    if document["error"]["next_step"].startswith("Look: "):
        assert document["error"]["next_step"] in done.err
    else:
        assert done.err.rstrip().endswith(str(SwarmError(*document["error"].values())))
    return document


@pytest.mark.parametrize(
    ("words", "code", "command", "cause"),
    [
        ("check nofile --json", 2, "check", "There is no plan nofile"),
        pytest.param("--json check nofile", 2, "check", "There is no plan nofile", marks=pytest.mark.slow),
        ("completion bash --json", 2, "completion", "No such option"),
        pytest.param("--json completion bash", 2, "completion", "no document", marks=pytest.mark.slow),
        ("--json scale 3", 3, "scale", "No daemon runs"),
        pytest.param("retry --json", 2, "retry", "Name tasks", marks=pytest.mark.slow),
        ("statsu --json", 2, None, "Did you mean status?"),
        pytest.param("--json", 2, None, "Missing command", marks=pytest.mark.slow),
        ("worktrees --json --force", 2, "worktrees", "--force goes with --clean"),
        pytest.param("wait --timeout soon --json", 2, "wait", "soon", marks=pytest.mark.slow),
        ("-C nowhere status --json", 2, "status", "nowhere"),
        pytest.param("status --run x --json", 2, "status", "There is no run x", marks=pytest.mark.slow),
        ("show x --json", 2, "show", "There is no task x"),
        pytest.param("add --json --title t --run true", 3, "add", "No daemon runs", marks=pytest.mark.slow),
        pytest.param("discard x --json", 2, "discard", "There is no run x", marks=pytest.mark.slow),
    ],
)
def test_what_is_refused_is_one_document(
    swarm: Swarm, words: str, code: int, command: str | None, cause: str
) -> None:
    """With --json, wherever it stands, stdout has what stderr says, part by part, with the command and its exit code."""
    assert cause in told(swarm, swarm(*words.split(), code=code), command)["error"]["cause"]


def test_what_only_does_something_says_so_in_a_document(swarm: Swarm) -> None:
    """A command without anything to show has what it says as text, with its exit code, wherever --json stands."""

    def said(words: str, text: str, code: int = 0) -> None:
        done = swarm(*words.split(), code=code)
        (line,) = done.out.splitlines()
        command = next(word for word in words.split() if not word.startswith("-"))
        document = json.loads(line)
        assert text in document.pop("text")
        assert document == {"schema": 1, "command": command, "exit_code": code}

    said("init --json", "Wrote ")
    (swarm.top / "swarm.toml").unlink()
    said("--json start --workers 1", "swarm submit PLAN")
    said("start --json", "already running")
    plan = swarm.plan("one", [swarm.task("a", gate="go"), swarm.task("b")])
    said(f"start --plan {plan} --json", "one")
    swarm.wait_for_gate("a")
    said("--json tell b be quick", "The next attempt at b is told.")
    said("pause --json", "Paused everything")
    said("resume --json", "Resumed everything.")
    said("scale 2 --json", "at most 2 workers at a time")
    said("cancel a --json", "Cancelled: one/a.")
    swarm.wait("one", code=1)
    said("retry a --json", "Tried again: one/a")
    said("stop --now --json", "Stopped.")
    said("--json stop", "No daemon runs")


def test_outside_a_repository_it_is_a_document_too(swarm: Swarm) -> None:
    """Where there is no repository at all; but what prints lines prints none, and --json behind -- is no option."""

    def elsewhere(*words: str) -> Done:
        return swarm(*words, code=2, cwd=Path("/"), GIT_CEILING_DIRECTORIES="/")

    for words in (["status", "--json"], ["--json", "claims"]):
        document = told(swarm, elsewhere(*words), words[-1].replace("--json", "status"))
        assert "is not in a git repository" in document["error"]["cause"]
        assert "runs" not in document
    for words in (["events", "--json"], ["logs", "x", "--json"], ["show", "--", "--json"]):
        assert elsewhere(*words).out == ""


def test_a_check_that_could_not_be_made_is_not_ok(swarm: Swarm) -> None:
    """Its document has what a check's always has, so that nobody takes it for a plan that is valid."""
    document = swarm("check", "nofile", "--json", code=2).json
    assert (document["ok"], document["plans"]) == (False, [])


@pytest.mark.slow
def test_a_wait_that_is_over_tells_what_holds(swarm: Swarm) -> None:
    """A wait that timed out, for one run or for several, and a run that one detaches from, give the status document of these runs
    with the error beside it; a finish that is refused gives the error."""
    swarm("start")
    swarm("submit", str(swarm.plan("one", [swarm.task("a", gate="go")])))
    swarm.wait_for_gate("a")
    late = told(swarm, swarm("wait", "--timeout", "0.1", "--json", code=124), "wait")
    assert "has not ended within 0.1 s" in late["error"]["cause"]
    (run,) = late["runs"]
    assert (run["id"], run["state"], run["counts"]["running"]) == ("one", "active", 1)
    assert set(late) == {*swarm.status(), "command", "exit_code", "error"}
    refused = told(swarm, swarm("finish", "--json", code=4), "finish")
    assert "runs" not in refused
    child = swarm.spawn("run", str(swarm.plan("two", [swarm.task("b", gate="go")])), "--json")
    swarm.wait_for_gate("b")
    both = told(swarm, swarm("wait", "--timeout", "0.1", "--json", code=124), "wait")
    assert [run["id"] for run in both["runs"]] == ["one", "two"]
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=240)
    left = told(swarm, Done(child.returncode, out, err), "run")
    assert left["exit_code"] == 130
    assert left["error"]["cause"] == "Detached: run two goes on in the background."
    assert [run["id"] for run in left["runs"]] == ["two"]
    swarm.open("go")
    assert swarm.wait("two")["counts"]["landed"] == 1


def test_a_document_that_has_been_printed_stands_alone(swarm: Swarm) -> None:
    """A run in which something did not land ends with 1 and its own document, which says so; nothing is added to it."""
    done = swarm("run", str(swarm.plan("bad", [swarm.task("a", "exit 3", attempts=1)])), "--json", code=1)
    (line,) = done.out.splitlines()
    assert json.loads(line)["runs"][0]["counts"]["failed"] == 1
    assert "error" not in json.loads(line)

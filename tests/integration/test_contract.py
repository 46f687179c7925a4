"""What a worker is given, and what it may say of itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swarm.core.model import Claim, Issue, Mode, WorkerResult
from swarm.edge import pytest_split
from swarm.edge.contract import RESULT_MAX_BYTES, environment, read_result
from swarm.protocol import WORKER_ENVIRONMENT


def given(base: dict[str, str], **more: Any) -> dict[str, str]:
    """The environment of a worker of which only what matters is said."""
    usual: dict[str, Any] = {
        "run": "r",
        "task": "t",
        "attempt": 1,
        "worktree": Path("/w"),
        "base_commit": "c" * 40,
        "claims": [Claim("src/**"), Claim("CHANGELOG.md", Mode.SHARED)],
        "prompt_file": Path("/p"),
        "result_file": Path("/r"),
        "slot": 3,
        "port_base": 20_060,
    }
    return environment(base, **{**usual, **more})


def test_a_worker_is_given_what_the_contract_promises() -> None:
    """Every promised variable is there with its value, the files for feedback and an answer only where there are such."""
    env = given({})
    assert {name: value for name, value in env.items() if name.startswith("SWARM_")} == {
        "SWARM_RUN": "r",
        "SWARM_TASK": "t",
        "SWARM_ATTEMPT": "1",
        "SWARM_WORKTREE": "/w",
        "SWARM_BASE": "c" * 40,
        "SWARM_CLAIMS": '[{"path": "src/**", "mode": "exclusive"}, {"path": "CHANGELOG.md", "mode": "shared"}]',
        "SWARM_PROMPT_FILE": "/p",
        "SWARM_RESULT_FILE": "/r",
        "SWARM_SLOT": "3",
        "SWARM_PORT_BASE": "20060",
    }
    assert given({}, attempt=2, feedback_file=Path("/f"))["SWARM_FEEDBACK_FILE"] == "/f"
    assert given({}, answer_file=Path("/a"))["SWARM_ANSWER_FILE"] == "/a"
    all_given = given({}, feedback_file=Path("/f"), answer_file=Path("/a"))
    given_names = {name for name in all_given if name.startswith("SWARM_")}
    of_suites = {"SWARM_SHARD", "SWARM_SHARDS", pytest_split.REPORTS}
    assert given_names | {"SWARM_NONCE"} | of_suites == WORKER_ENVIRONMENT


def test_what_is_the_daemons_own_does_not_reach_a_worker() -> None:
    """Settings and what points git elsewhere are left out; the person's identity, keys and other variables stay."""
    kept = {
        "PATH": "/bin",
        "LANG": "C",
        "GIT_AUTHOR_NAME": "A",
        "GIT_COMMITTER_EMAIL": "c@example.org",
        "GIT_SSH_COMMAND": "ssh -i key",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_SSL_CAINFO": "/ca",
        "API_KEY": "secret",
    }
    dropped = {
        "GIT_DIR": "/x",
        "GIT_INDEX_FILE": "/x",
        "GIT_WORK_TREE": "/x",
        "GIT_OBJECT_DIRECTORY": "/x",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": "/x",
        "GIT_COMMON_DIR": "/x",
        "GIT_NAMESPACE": "x",
        "GIT_CONFIG_PARAMETERS": "'a.b=c'",
        "GIT_TRACE": "1",
        "GIT_SSH_COMMAND_X": "1",
        "SWARM_LIMITS__WORKERS_MAX": "2",
        "SWARM_SANDBOX": "off",
        "SWARM_NONCE": "of an outer worker",
        "SWARM_FEEDBACK_FILE": "/old",
        "PWD": "/daemon",
        "no-name": "1",
    }
    env = given({**kept, **dropped})
    assert {name: env.get(name) for name in kept} == kept
    assert not set(env) & set(dropped)


def test_a_key_goes_on_to_whoever_is_to_have_it() -> None:
    """Keys of the Messages API reach only a worker whose agent is given them by name, and nothing else is given so."""
    base = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_AUTH_TOKEN": "t", "ANTHROPIC_BASE_URL": "u", "GIT_DIR": "/d"}

    def names(*keys: str) -> set[str]:
        return {name for name in given(base, keys=keys) if name in base}

    assert names() == {"ANTHROPIC_BASE_URL"}
    assert names("ANTHROPIC_API_KEY", "GIT_DIR") == {"ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"}


def test_git_believes_the_given_settings(repo: Path) -> None:
    """Git reads ours from the environment, and what the person gave in the same way before, and ours wins."""
    base = {
        **os.environ,
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "user.name",
        "GIT_CONFIG_VALUE_0": "From Environment",
        "GIT_CONFIG_KEY_1": "gc.auto",
        "GIT_CONFIG_VALUE_1": "50",
    }

    def value(name: str, env: dict[str, str]) -> str:
        return subprocess.check_output(["git", "config", name], cwd=repo, env=env, text=True).strip()

    env = given(base)
    expected = {
        "gc.auto": "0",
        "maintenance.auto": "false",
        "rerere.enabled": "false",
        "core.fsmonitor": "false",
    }
    assert {name: value(name, env) for name in expected} == expected
    assert value("user.name", env) == "From Environment"
    assert value("gc.auto", given({**os.environ, "GIT_CONFIG_COUNT": "nonsense"})) == "0"


def test_a_result_is_read(tmp_path: Path) -> None:
    """Everything that a worker may say is read, unknown keys are ignored, and there is no note."""
    said = {"summary": "done", "retry_after_s": 5, "cost_usd": 0.25, "tokens_in": 10, "tokens_out": 2.0}
    (tmp_path / "r").write_text(json.dumps({**said, "files_read": ["a", "b"], "new": {"x": 1}, "x": None}))
    assert read_result(tmp_path / "r") == (WorkerResult("done", 5.0, 0.25, 10, 2, ("a", "b")), "")


@pytest.mark.parametrize(
    ("said", "verdict"), [("approve", "approve"), (" Approved", "approve"), ("rejected", "reject")]
)
def test_a_verdict_is_read(tmp_path: Path, said: str, verdict: str) -> None:
    """A reviewer approves or rejects, and names its issues in full or by their titles alone."""
    issues = [{"title": "No tests", "path": "a.py", "text": "none\nat all", "line": 3}, "Too long"]
    (tmp_path / "r").write_text(json.dumps({"verdict": said, "issues": issues}))
    result, note = read_result(tmp_path / "r")
    assert (result.verdict, note) == (verdict, "")
    assert result.issues == (Issue("No tests", "a.py", "none\nat all"), Issue("Too long"))


@pytest.mark.parametrize(
    ("said", "issues"),
    [
        ("No tests", [Issue("No tests")]),
        ("No tests:\nnone of b", [Issue("No tests: none of b", text="No tests:\nnone of b")]),
        ({"title": "No tests"}, [Issue("No tests")]),
        ([{"text": "no test covers x"}], [Issue("no test covers x")]),
        ([{"path": "a", "text": "one\ntwo"}], [Issue("one two", "a", "one\ntwo")]),
        (
            [{"summary": "no tests", "description": "none at all", "file": "a"}],
            [Issue("no tests", "a", "none at all")],
        ),
        ([{"path": "a"}, 5, None, ""], [Issue('{"path": "a"}', "a"), Issue("5")]),
        ([{"title": 5}], [Issue('{"title": 5}')]),
        (["x" * 300], [Issue("x" * 199 + "…", text="x" * 300)]),
    ],
)
def test_an_issue_in_another_form_is_not_lost(tmp_path: Path, said: Any, issues: list[Issue]) -> None:
    """What a reviewer objects to reaches the person and the fixer whatever it is called, as a title and a text."""
    (tmp_path / "r").write_text(json.dumps({"verdict": "reject", "issues": said}))
    result, note = read_result(tmp_path / "r")
    assert (list(result.issues), note) == (issues, "")


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_saying_nothing_is_fine(tmp_path: Path, text: str | None) -> None:
    """No result file, or an empty one, is an empty result without a note."""
    if text is not None:
        (tmp_path / "r").write_text(text)
    assert read_result(tmp_path / "r") == (WorkerResult(), "")


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b"[" * 200_000,
        b"{" + b" " * RESULT_MAX_BYTES + b"}",
        b'{"tokens_in": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda data: str(data[:9]),
)
def test_what_is_no_result_is_a_note(tmp_path: Path, data: bytes) -> None:
    """A file that is no JSON object, or too large, is an empty result and a note in one line, never an error."""
    (tmp_path / "r").write_bytes(data)
    result, note = read_result(tmp_path / "r")
    assert result == WorkerResult()
    assert note.startswith("The result file")
    assert "\n" not in note


@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "link to nothing"])
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str) -> None:
    """A folder, a pipe, and a link to somebody else's file are not read, and reading never waits."""
    path = tmp_path / "r"
    (tmp_path / "secret").write_text('{"summary": "secret"}')
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / ("secret" if kind == "link" else "nothing"))
    result, note = read_result(path)
    assert result == WorkerResult()
    assert "can't be read" in note


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("summary", 5),
        ("summary", ["x"]),
        ("retry_after_s", "5"),
        ("retry_after_s", -1),
        ("retry_after_s", True),
        ("cost_usd", float("nan")),
        ("cost_usd", float("inf")),
        ("cost_usd", 10**400),
        ("tokens_in", 1.5),
        ("tokens_out", False),
        ("files_read", "a"),
        ("files_read", ["a", 1]),
        ("verdict", "maybe"),
        ("verdict", True),
        ("issues", 5),
        ("issues", True),
        ("rate_limited", "yes"),
        ("rate_limited", 1),
    ],
)
def test_a_value_of_the_wrong_kind_is_dropped_and_named(tmp_path: Path, name: str, value: Any) -> None:
    """One wrong value costs only itself: the note names it, and the others are kept."""
    (tmp_path / "r").write_text(json.dumps({"summary": "kept", "cost_usd": 1, name: value}))
    result, note = read_result(tmp_path / "r")
    assert name in note
    assert getattr(result, name) == getattr(WorkerResult(), name)
    assert result.summary == ("" if name == "summary" else "kept")


def test_what_was_said_can_be_printed(tmp_path: Path) -> None:
    """A lone surrogate, which JSON can hold and no terminal can show, is replaced; a long summary is cut."""
    (tmp_path / "r").write_text('{"summary": "a\\ud800' + "b" * 50_000 + '", "files_read": ["\\udcff"]}')
    result, note = read_result(tmp_path / "r")
    assert note == ""
    assert result.summary.startswith("a?b")
    assert len(result.summary) == 10_000
    assert result.files_read == ("?",)

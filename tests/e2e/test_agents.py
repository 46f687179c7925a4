"""Coding-agent programs: stand-ins of their names print the streams of tests/data, and what they say counts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import git
from tests.e2e.driver import Swarm

DATA = Path(__file__).resolve().parents[1] / "data" / "streams"


def program(swarm: Swarm, name: str, script: str) -> None:
    """Puts a program of this name on the daemon's PATH; its arguments and its prompt are kept beside it."""
    folder = swarm.outside / "bin"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{name} 1.2.3"; exit; fi\n'
        f'for word in "$@"; do printf "%s\\n" "$word"; done >> {shlex.quote(str(folder))}/args-$SWARM_TASK-$SWARM_ATTEMPT\n'
        f"cat > {shlex.quote(str(folder))}/prompt-$SWARM_TASK-$SWARM_ATTEMPT\n{script}\n"
    )
    path.chmod(0o755)
    swarm.env["PATH"] = f"{folder}:{swarm.env['PATH']}".replace(f"{folder}:{folder}:", f"{folder}:")
    swarm.env |= {"ANTHROPIC_API_KEY": "none", "OPENAI_API_KEY": "none"}


def arguments(swarm: Swarm, task: str, attempt: int) -> list[str]:
    return (swarm.outside / "bin" / f"args-{task}-{attempt}").read_text().splitlines()


def asks(name: str, agent: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "title": f"Task {name}",
        "agent": agent,
        "prompt": f"do {name}",
        "claims": [f"{name}.txt"],
        **more,
    }


def stream(name: str, lines: str = "1,$") -> str:
    return f"sed -n '{lines}p' {shlex.quote(str(DATA / name))}"


WRITES = 'echo done > "$SWARM_TASK.txt"'


def test_two_agents_work_and_what_they_say_is_told(swarm: Swarm) -> None:
    """Their work lands; tokens, cost and last words are in the attempt, and their events are shown as lines for people."""
    program(swarm, "claude", f"{WRITES}; {stream('claude-work.jsonl')}")
    program(swarm, "codex", f"{WRITES}; {stream('codex-work.jsonl')}")
    run = swarm.run(swarm.plan("r", [asks("a", "claude"), asks("b", "codex")]))
    swarm.check_landed(run)
    assert {task["id"]: task["state"] for task in run["tasks"]} == {"a": "landed", "b": "landed"}
    (of_a,), (of_b,) = (task["attempts"] for task in run["tasks"])
    assert (of_a["tokens_in"], of_a["tokens_out"], of_a["cost_usd"]) == (620, 28, 0.0725)
    assert of_a["summary"].startswith("Made src/a.py.")
    assert (of_b["tokens_in"], of_b["cost_usd"], of_b["summary"]) == (3000, None, "Made src/a.py.")
    assert (swarm.outside / "bin" / "prompt-a-1").read_text().startswith("do a\n")
    assert "stream-json" in arguments(swarm, "a", 1)
    assert swarm("logs", "a").out.splitlines()[-1] == "ended, 4 turns, 620 tokens in, 28 out, 0.07 USD"
    assert (
        swarm("logs", "b", "--grep", "^> edit", "--lines", "1").out
        == "> editing /srv/tree/src/a.py, /srv/tree/src/b.py\n"
    )
    assert '{"type": "result"' in swarm("logs", "a", "--raw").out
    assert "Made src/a.py. It says x = 2." in swarm("show", "a").out


def test_a_limit_is_waited_for_and_costs_no_attempt(swarm: Swarm) -> None:
    """One that ends because of a limit is tried again when it is over, goes on with its conversation, and has used up nothing.

    An attempt that was held against the task brings the model for the second one."""
    limit = '{"type": "error", "message": "You have hit your usage limit. Try again in 1 second."}'
    program(
        swarm,
        "codex",
        f"case $SWARM_ATTEMPT in 1) echo {shlex.quote(limit)}; exit 1;; 2) {stream('codex-limit.jsonl', '1,7')}; "
        f"echo {shlex.quote(limit)}; exit 1;; 3) exit 1;; *) {WRITES}; {stream('codex-work.jsonl')};; esac",
    )
    (swarm.top / "swarm.toml").write_text('[agents.codex]\nmodel = "small"\nretry_model = "large"\n')
    run = swarm.run(swarm.plan("r", [asks("a", "codex", attempts=2)]))
    attempts = run["tasks"][0]["attempts"]
    assert [each["state"] for each in attempts] == ["handed_back", "handed_back", "failed", "landed"]
    assert [(each["reason"] or {}).get("code") for each in attempts] == [
        "rate_limit",
        "rate_limit",
        "worker_failed",
        None,
    ]
    models = [arguments(swarm, "a", n)[arguments(swarm, "a", n).index("--model") + 1] for n in (1, 2, 3, 4)]
    assert models == ["small", "small", "small", "large"]
    assert "resume" not in arguments(swarm, "a", 2)
    assert arguments(swarm, "a", 3)[-3:] == ["resume", "01a21576-0000-7000-8000-000000000001", "-"]
    assert "swarm/r/task/a/2" in (swarm.outside / "bin" / "prompt-a-3").read_text()
    assert "resume" not in arguments(swarm, "a", 4)
    (swarm.top / "swarm.toml").unlink()


@pytest.mark.slow
def test_an_agent_may_be_a_program_of_the_repository(swarm: Swarm) -> None:
    """A command with a relative path is that of the worktree in which it is started, as it is there: it need not be in PATH."""
    tool = swarm.top / "tools" / "agent"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\ncat "$1" > made\n')
    tool.chmod(0o755)
    (swarm.top / "swarm.toml").write_text('[agents.mine]\ncommand = ["tools/agent", "{prompt_file}"]\n')
    git(swarm.top, "add", "-A")
    git(swarm.top, "commit", "-qm", "an agent of our own")
    swarm.look_again()
    swarm.check_landed(swarm.run(swarm.plan("r", [asks("a", "mine")])))
    assert "do a" in (swarm.content("r", "made") or "")
    assert "mine       usable" in swarm("agents").out


@pytest.mark.slow
def test_an_agent_that_cannot_be_used_is_refused_with_the_reason(swarm: Swarm) -> None:
    """Neither a missing program nor a missing key is found out by a worker: the plan is refused, and swarm agents says the same."""
    swarm.env |= {"HOME": str(swarm.outside), "PATH": "/usr/bin:/bin"}
    for name in ("ANTHROPIC_API_KEY", "CODEX_API_KEY", "OPENAI_API_KEY", "CODEX_HOME"):
        swarm.env.pop(name, None)
    refused = swarm("run", str(swarm.plan("r", [asks("a", "aider")])), code=2)
    assert "aider: aider is not on PATH" in refused.err
    (swarm.top / "swarm.toml").write_text('[agents.mine]\ncommand = ["/nowhere/mine", "{prompt_file}"]\n')
    assert (
        "/nowhere/mine is not on PATH" in swarm("run", str(swarm.plan("r", [asks("a", "mine")])), code=2).err
    )
    (swarm.top / "swarm.toml").unlink()
    program(swarm, "codex", "true")
    del swarm.env["OPENAI_API_KEY"], swarm.env["ANTHROPIC_API_KEY"]
    refused = swarm("run", str(swarm.plan("r", [asks("a", "codex")])), code=2)
    assert "it has no key and no login: none of CODEX_API_KEY" in refused.err
    found = {each["name"]: each for each in swarm("agents", "--json").json["agents"]}
    assert found["command"]["usable"]
    assert not found["aider"]["tested"]
    assert (found["codex"]["usable"], found["codex"]["version"]) == (False, "codex 1.2.3")
    (swarm.top / "swarm.toml").write_text("[agents.codex]\nkeys = []\nlogins = []\n")
    assert "codex      usable" in swarm("agents").out
    (swarm.top / "swarm.toml").unlink()
    swarm.env["CODEX_HOME"] = str(swarm.outside)
    (swarm.outside / "auth.json").touch()
    assert "codex      usable" in swarm("agents").out

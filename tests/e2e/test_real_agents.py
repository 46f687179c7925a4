"""The real Claude Code and Codex, where they are, against endpoints of our own; `make e2e-agents` says which are missing.

They are looked for on PATH, or where REAL_CLAUDE and REAL_CODEX say.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.driver import Swarm
from tests.fakes import messages, responses
from tests.fakes.messages import Failure, Reply, answered, first_text


def real(swarm: Swarm, name: str) -> None:
    """Puts the real program on the daemon's PATH, with a home of its own, or skips the test by its name."""
    found = os.environ.get(f"REAL_{name.upper()}") or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    folder = swarm.outside / "bin"
    folder.mkdir()
    (folder / name).symlink_to(Path(found).resolve())
    home = swarm.outside.parent / f"home-{name}"
    home.mkdir()
    swarm.env |= {
        "PATH": f"{folder}:{swarm.env['PATH']}",
        "HOME": str(home),
        "SWARM_LIMITS__TRY_LATER_S": "1",
    }


def asks(name: str, agent: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "agent": agent, "prompt": f"make {name}.txt", "claims": [f"{name}.txt"], **more}


def test_claude_code_works_for_three_tasks_and_waits_for_a_limit(swarm: Swarm) -> None:
    """Three at once, one of which meets a limit first: all lands, no attempt is used up, and what they said is told."""
    real(swarm, "claude")
    lock = threading.Lock()
    refused: list[str] = []

    def answers(request: dict[str, Any], _number: int) -> Reply | Failure:
        task = next(name for name in ("one", "two", "three") if f"make {name}.txt" in first_text(request))
        with lock:
            if task == "two" and not refused:
                refused.append(task)
                return Failure(429, "rate_limit_error", {"x-should-retry": "false"})
        done = answered(request) - (1 if task == "two" and answered(request) else 0)
        if done <= 0:
            return Reply(
                calls=[
                    ("Bash", {"command": f"echo {task} > {task}.txt && git add . && git commit -qm {task}"})
                ]
            )
        return Reply(f"Made {task}.txt.")

    with messages.serving(answers) as endpoint:
        swarm.env |= {
            "ANTHROPIC_BASE_URL": endpoint.url,
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        run = swarm.run(
            swarm.plan("r", [asks(name, "claude", attempts=1) for name in ("one", "two", "three")])
        )
    swarm.check_landed(run)
    attempts = {task["id"]: task["attempts"] for task in run["tasks"]}
    assert [len(attempts[name]) for name in ("one", "three")] == [1, 1]
    assert [each["state"] for each in attempts["two"]] == ["handed_back", "landed"]
    assert attempts["two"][0]["reason"]["code"] == "rate_limit"
    assert swarm.content("r", "two.txt") == "two\n"
    assert attempts["one"][0]["summary"] == "Made one.txt."
    assert attempts["one"][0]["tokens_in"] == 200
    assert "> running echo one > one.txt" in swarm("logs", "one").out


def test_codex_works_for_two_tasks_and_waits_for_a_limit(swarm: Swarm) -> None:
    """What it left is committed for it; a limit is waited for, and the conversation gone on with.

    Its own sandbox is off: it refuses to set it up for a home in a temporary folder, as a test's is."""
    real(swarm, "codex")
    (swarm.top / "swarm.toml").write_text(
        '[agents.codex]\ncommand = ["codex", "exec", "--json", "-s", "danger-full-access"]\nprompt = "stdin"\n'
        'resume = ["resume", "{session}", "-"]\nparser = "codex"\nkeys = ["OPENAI_API_KEY"]\n'
    )
    home = Path(swarm.env["HOME"]) / ".codex"
    home.mkdir()
    limit = {
        "type": "usage_limit_reached",
        "message": "The usage limit has been reached",
        "plan_type": "plus",
    }
    command = 'echo "$SWARM_TASK" > "$SWARM_TASK.txt"'
    with responses.serving([command], limits=[limit]) as endpoint:
        (home / "config.toml").write_text(
            'model = "some-model"\nmodel_provider = "ours"\n[model_providers.ours]\nname = "ours"\n'
            f'base_url = "{endpoint.url}"\nenv_key = "OPENAI_API_KEY"\nwire_api = "responses"\n'
            "request_max_retries = 0\nstream_max_retries = 0\n"
        )
        swarm.env["OPENAI_API_KEY"] = "none"
        run = swarm.run(swarm.plan("r", [asks(name, "codex", attempts=1) for name in ("one", "two")]))
    swarm.check_landed(run)
    attempts = [each for task in run["tasks"] for each in task["attempts"]]
    assert sorted(each["state"] for each in attempts) == ["handed_back", "landed", "landed"]
    landed = [each for each in attempts if each["state"] == "landed"]
    assert {each["summary"] for each in landed} == {"All is done."}
    assert all(each["tokens_in"] for each in landed)
    assert swarm.content("r", "one.txt") == "one\n"
    (swarm.top / "swarm.toml").unlink()

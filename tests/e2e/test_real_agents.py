"""The real Claude Code, Codex and MCP Inspector against endpoints of our own; `make e2e-agents` says which are missing.

They are looked for on PATH, or where REAL_CLAUDE and REAL_CODEX say.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, Swarm
from tests.e2e.test_sandbox import works
from tests.fakes import messages, responses
from tests.fakes.messages import Answers, Endpoint, Failure, Reply, Request, answered, first_text


def real(swarm: Swarm, name: str) -> None:
    """Puts the real program on the daemon's PATH, with a home of its own, or skips the test by its name."""
    found = os.environ.get(f"REAL_{name.upper()}") or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine")
    folder = swarm.outside / "bin"
    folder.mkdir(exist_ok=True)
    (folder / name).symlink_to(Path(found).resolve())
    home = swarm.outside.parent / "home-of-agents"
    home.mkdir(exist_ok=True)
    swarm.env |= {
        "PATH": f"{folder}:{swarm.env['PATH']}",
        "HOME": str(home),
        "SWARM_LIMITS__TRY_LATER_S": "1",
    }


@contextmanager
def claude_at(swarm: Swarm, answers: Answers) -> Iterator[Endpoint]:
    """Has the real Claude Code ask an endpoint of ours."""
    real(swarm, "claude")
    with messages.serving(answers) as endpoint:
        swarm.env |= {
            "ANTHROPIC_BASE_URL": endpoint.url,
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        yield endpoint


@contextmanager
def codex_at(swarm: Swarm, commands: Sequence[str], **more: Any) -> Iterator[responses.Endpoint]:
    """Has the real Codex ask an endpoint of ours, which has it do these commands.

    Its own sandbox is off: it refuses to set it up for a home in a temporary folder, as a test's is."""
    real(swarm, "codex")
    home = Path(swarm.env["HOME"]) / ".codex"
    home.mkdir()
    with responses.serving(commands, **more) as endpoint:
        (home / "config.toml").write_text(
            'model = "some-model"\nmodel_provider = "ours"\n[model_providers.ours]\nname = "ours"\n'
            f'base_url = "{endpoint.url}"\nenv_key = "OPENAI_API_KEY"\nwire_api = "responses"\n'
            "request_max_retries = 0\nstream_max_retries = 0\n"
        )
        swarm.env["OPENAI_API_KEY"] = "none"
        yield endpoint


CODEX = """\
[agents.codex]
command = ["codex", "exec", "--json", "-s", "danger-full-access"]
prompt = "stdin"
resume = ["resume", "{session}", "-"]
parser = "codex"
keys = ["OPENAI_API_KEY"]
"""


def bash(command: str) -> Reply:
    return Reply(calls=[("Bash", {"command": command})])


def settings(swarm: Swarm, text: str) -> None:
    (swarm.top / "swarm.toml").write_text(text)
    swarm.look_again()


def asks(name: str, agent: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "agent": agent, "prompt": f"make {name}.txt", "claims": [f"{name}.txt"], **more}


def test_claude_code_works_for_three_tasks_and_waits_for_a_limit(swarm: Swarm) -> None:
    """Three at once, one of which meets a limit first: all lands, no attempt is used up, and what they said is told.
    Shut in where that works."""
    if works():
        swarm.shut_in()
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

    with claude_at(swarm, answers):
        run = swarm.run(
            swarm.plan("r", [asks(name, "claude", attempts=1) for name in ("one", "two", "three")])
        )
    swarm.check_landed(run)
    attempts = {task["id"]: task["attempts"] for task in run["tasks"]}
    assert [len(attempts[name]) for name in ("one", "three")] == [1, 1]
    *put_off, landed = attempts["two"]
    assert landed["state"] == "landed"
    assert put_off[0]["reason"]["code"] == "rate_limit"
    # Shut in, it does not see in other worktrees where its conversation was, and begins anew.
    assert [each["reason"]["code"] for each in put_off[1:]] in ([], ["try_later"])
    assert swarm.content("r", "two.txt") == "two\n"
    assert attempts["one"][0]["summary"] == "Made one.txt."
    assert attempts["one"][0]["tokens_in"] == 200
    assert "> running echo one > one.txt" in swarm("logs", "one").out


def test_codex_works_for_two_tasks_and_waits_for_a_limit(swarm: Swarm) -> None:
    """What it left is committed for it; a limit is waited for, and the conversation gone on with."""
    settings(swarm, CODEX)
    limit = {
        "type": "usage_limit_reached",
        "message": "The usage limit has been reached",
        "plan_type": "plus",
    }
    with codex_at(swarm, ['echo "$SWARM_TASK" > "$SWARM_TASK.txt"'], limits=[limit]):
        run = swarm.run(swarm.plan("r", [asks(name, "codex", attempts=1) for name in ("one", "two")]))
    swarm.check_landed(run)
    attempts = [each for task in run["tasks"] for each in task["attempts"]]
    assert sorted(each["state"] for each in attempts) == ["handed_back", "landed", "landed"]
    landed = [each for each in attempts if each["state"] == "landed"]
    assert {each["summary"] for each in landed} == {"All is done."}
    assert all(each["tokens_in"] for each in landed)
    assert swarm.content("r", "one.txt") == "one\n"
    swarm.without_settings()


def test_claude_code_settles_a_conflict_and_keeps_to_its_claim(swarm: Swarm) -> None:
    """Two that write the same line meet in a conflict: one lands, the other is told what is in its way, and lands on top of it. One
    that changed what it had not claimed is told so, and lands without."""
    settings(swarm, 'strays = "reject"\n')
    asked: set[str] = set()
    both = threading.Event()

    def answers(request: Request, _number: int) -> Reply:
        text = first_text(request)
        task = next(name for name in ("left", "right", "inside") if f"make {name}.txt" in text)
        asked.add(task)
        if {"left", "right"} <= asked:
            both.set()
        if answered(request):
            return Reply("Done.")
        again = "conflict" in text or "claim" in text.partition("make ")[0] + text.partition(".txt")[2]
        if task == "inside":
            return bash("echo x > inside.txt" + ("" if again else "; echo x > elsewhere.txt"))
        return bash(f"echo {task} >> both.txt" if again else f"echo {task} > both.txt")

    shared = {"claims": [{"path": "both.txt", "mode": "shared"}]}
    with claude_at(swarm, answers):
        tasks = [
            asks("left", "claude", **shared),
            asks("right", "claude", **shared),
            asks("inside", "claude"),
        ]
        run = swarm.run(swarm.plan("r", tasks))
    swarm.check_landed(run)
    attempts = {
        task["id"]: [each["reason"] and each["reason"]["code"] for each in task["attempts"]]
        for task in run["tasks"]
    }
    assert sorted(attempts["left"] + attempts["right"], key=str) == [None, None, "conflict"]
    assert attempts["inside"] == ["stray", None]
    assert sorted(str(swarm.content("r", "both.txt")).split()) == ["left", "right"]
    assert swarm.content("r", "elsewhere.txt") is None
    swarm.without_settings()


def test_claude_code_is_killed_and_goes_on(swarm: Swarm) -> None:
    """The daemon is killed while it works, and then it itself: the next daemon has taken it over, and the next attempt goes on with
    the same conversation, with the work of the first before it; nothing that was asked is asked again."""
    gate = swarm.gate("go")

    def answers(request: Request, _number: int) -> Reply:
        told = answered(request)
        if told == 0:
            return bash("echo half > one.txt; git add . && git commit -qm half")
        if told == 1:
            return bash(
                f"touch {swarm.gate('there')}; until [ -e {gate} ]; do sleep 0.05; done; kill -9 $PPID; sleep 60"
            )
        return bash("echo whole >> one.txt") if told == 2 else Reply("Done.")

    with claude_at(swarm, answers) as endpoint:
        swarm("start")
        swarm("submit", str(swarm.plan("r", [asks("one", "claude", attempts=2)])))
        wait_until(swarm.gate("there").exists, at_most_s=PATIENCE_S)
        swarm.end_daemon()
        swarm("start")
        gate.touch()
        run = swarm.wait("r")
    swarm.check_landed(run)
    first, second = run["tasks"][0]["attempts"]
    assert (first["state"], second["state"]) == ("failed", "landed")
    assert "whole" in str(swarm.content("r", "one.txt"))
    begun = [each for each in endpoint.requests if answered(each) == 0]
    assert len(begun) == 1
    assert all("make one.txt" in first_text(each) for each in endpoint.requests)


def test_a_budget_ends_a_run_of_claude_code(swarm: Swarm) -> None:
    """Tokens that the program tells count: with the budget spent nothing new starts, and what landed stays."""
    settings(swarm, "[limits]\nbudget_tokens = 150\n")

    def answers(request: Request, _number: int) -> Reply:
        task = next(name for name in ("one", "two") if f"make {name}.txt" in first_text(request))
        return Reply("Done.") if answered(request) else bash(f"echo {task} > {task}.txt")

    with claude_at(swarm, answers):
        plan = swarm.plan("r", [asks("one", "claude"), asks("two", "claude")])
        run = swarm.run(plan, "--workers", "1", code=1)
    swarm.check_landed(run)
    assert [task["state"] for task in run["tasks"]] == ["landed", "failed"]
    assert run["tasks"][1]["reason"]["code"] == "over_budget"
    assert run["spent"]["tokens"] == 220
    swarm.without_settings()


def test_real_programs_go_the_whole_way(swarm: Swarm) -> None:
    """Codex scouts, Claude Code is the architect, builds and reviews: their last messages are findings and plan, and what they
    built is on the target."""
    settings(swarm, f'agent = "claude"\n[roles.scout]\nagent = "codex"\n{CODEX}')
    tasks = "".join(
        f'[[tasks]]\nid = "{name}"\nclaims = ["{name}.txt"]\nprompt = "make {name}.txt"\n'
        for name in ("one", "two")
    )
    plan = f'Here it is.\n\n```toml\nname = "words"\nverify = ["true"]\n{tasks}```\n'

    def answers(request: Request, _number: int) -> Reply:
        text = first_text(request)
        if "Write the plan" in text:
            assert "All is done." in text
            return Reply(plan)
        if '"verdict"' in text:
            verdict = bash('echo "{\\"verdict\\": \\"approve\\"}" > "$SWARM_RESULT_FILE"')
            return Reply("It is well.") if answered(request) else verdict
        found = re.search(r"make (\w+)\.txt", text)
        assert found is not None, text
        return Reply("Done.") if answered(request) else bash(f"echo {found[1]} > {found[1]}.txt")

    with codex_at(swarm, ["ls"]), claude_at(swarm, answers):
        run = swarm("build", "--yes", "--json", "write two words down").json["runs"][0]
        swarm("finish")
    assert (run["goal"]["stage"], run["qa"]["state"], run["mode"]) == ("ready", "approved", "parallel")
    assert {"one", "two"} <= set(swarm.landings(run["id"], run["base"]["commit"]))
    assert [each["text"] for each in run["goal"]["findings"]] == ["All is done."] * 2
    assert git(swarm.top, "show", "main:two.txt") == "two"
    swarm.without_settings()


def test_the_inspector_drives_a_whole_run(swarm: Swarm) -> None:
    """Row 111: a client of MCP that is not ours, by its command line: one call begins the job and gives its id at once, others wait
    for it, look and finish; each starts a server of its own, and the run goes on all the same."""
    pytest.importorskip("mcp", reason="the mcp extra is not installed")
    inspector = shutil.which("mcp-inspector")
    if inspector is None:
        pytest.skip("mcp-inspector is not on this machine")

    def call(tool: str, **arguments: str) -> dict[str, Any]:
        given = [word for name, value in arguments.items() for word in ("--tool-arg", f"{name}={value}")]
        server = (*swarm.program, "-C", str(swarm.top), "mcp")
        asked = [str(inspector), "--cli", *server, "--method", "tools/call", "--tool-name", tool, *given]
        done = subprocess.run(
            asked,
            env=swarm.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
            check=True,
        )
        answer = json.loads(done.stdout)
        assert not answer.get("isError"), answer
        return dict(answer["structuredContent"])

    run = call("run_task", task="Write out", command="echo done > out", verify='["test -e out"]')["run"]
    ended = call("wait", run=run)
    assert (ended["ended"], ended["counts"]["landed"], ended["verified"]) == (True, 1, True)
    assert call("finish", run=run)["outcome"] == "finished"
    assert git(swarm.top, "show", "main:out") == "done"
    swarm.look_again()

"""`swarm mcp`, driven by a client of the mcp package as a coding agent drives it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.e2e.driver import PATIENCE_S, Swarm, runs
from tests.e2e.test_goals import side_by_side, with_roles

pytest.importorskip("mcp", reason="the mcp extra is not installed")

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import TextContent

Call = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def a_client(swarm: Swarm, told: list[str] | None = None) -> AsyncIterator[Call]:
    """Starts the server and gives what calls a tool: the structured result, or the text of an error."""

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        if told is not None:
            told.append(str(message))

    server = StdioServerParameters(
        command=sys.executable, args=["-m", "swarm", "mcp"], cwd=swarm.top, env=dict(swarm.env)
    )
    async with stdio_client(server) as (reads, writes), ClientSession(reads, writes) as session:
        await session.initialize()

        async def call(name: str, **arguments: Any) -> Any:
            answer = await session.call_tool(name, arguments, progress_callback=hear)
            if answer.is_error:
                cause = answer.content[0]
                assert isinstance(cause, TextContent)
                return cause.text
            found = answer.structured_content
            return found["result"] if set(found) == {"result"} else found

        yield call


def carry_out(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with anyio.fail_after(PATIENCE_S):
            await story()

    anyio.run(bounded)


def test_one_call_does_the_job(swarm: Swarm) -> None:
    """Row 111: one call returns an id at once; waiting tells progress, and the result has types. Server and daemon may go and come
    back in between: the run goes on."""
    told: list[str] = []
    gate = swarm.gate("go")

    async def story() -> None:
        command = f"until [ -e {gate} ]; do sleep 0.05; done; echo done > out"
        async with a_client(swarm, told) as call:
            begun = await call(
                "run_task", task="Write out", command=command, claims=["out"], verify=["test -e out"]
            )
            run = begun["run"]
            assert begun["added"] == ["task"]
            assert (await call("wait", run=run, timeout_s=0.5))["ended"] is False
        pid = swarm.status()["daemon"]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not runs(pid), at_most_s=PATIENCE_S)
        swarm("start")
        gate.touch()
        async with a_client(swarm, told) as call:
            ended = await call("wait", run=run)
            assert (ended["ended"], ended["counts"]["landed"], ended["verified"]) == (True, 1, True)
            assert "+done" in await call("diff", task="task")
            assert (await call("verify", run=run))["ok"] is True
            assert (await call("finish", run=run, preview=True))["outcome"] == "preview"

    carry_out(story)
    assert any("0 landed" in each for each in told)


def test_a_plan_with_a_failure_is_steered(swarm: Swarm) -> None:
    """A plan is checked, submitted, looked at; what failed says why, is told something, and tried again; each attempt is shown."""
    plan = swarm.outside / "p.json"
    tasks = [
        {"id": "a", "title": "a", "run": "echo a > out-a", "claims": ["out-a"]},
        {
            "id": "b",
            "title": "b",
            "run": 'echo trying | tee out-b; grep -q please "$SWARM_FEEDBACK_FILE" && echo b > out-b',
            "claims": ["out-b"],
            "attempts": 1,
        },
    ]
    plan.write_text(json.dumps({"name": "p", "tasks": tasks}))

    async def story() -> None:
        async with a_client(swarm) as call:
            checked = await call("check", plan=str(plan))
            assert (checked["ok"], checked["waves"]) == (True, [["a", "b"]])
            assert (await call("submit", plan=str(plan), workers=2))["run"] == "p"
            ended = await call("wait", run="p")
            assert ended["counts"]["failed"] == 1
            found = await call("status")
            reasons = {task["id"]: task["reason"] for task in found["runs"][0]["tasks"]}
            assert "exit code" in reasons["b"]
            assert "trying" in (await call("logs", task="b"))["worker"]
            assert (await call("show", task="b"))["task"]["id"] == "b"
            await call("tell", task="b", text="please")
            assert await call("retry", run="p") == {"run": "p", "tasks": ["b"]}
            assert (await call("wait", run="p"))["counts"]["landed"] == 2
            assert "+b\n" in await call("diff", task="b")
            assert "+trying\n" in await call("diff", task="b", attempt=1)
            assert "has had no attempt 3" in await call("diff", task="b", attempt=3)

    carry_out(story)


@pytest.mark.slow
def test_an_error_is_told_in_words(swarm: Swarm) -> None:
    """What the command would print is the tool's error; the server goes on."""

    async def story() -> None:
        async with a_client(swarm) as call:
            assert "There is no plan nothing" in await call("submit", plan="nothing")
            assert "There is no run x" in await call("cancel", run="x")
            assert "is not in a git repository" in await call("status", directory="/")
            assert (await call("status"))["runs"] == []

    carry_out(story)


@pytest.mark.slow
def test_a_goal_goes_its_whole_way(swarm: Swarm) -> None:
    """Row 124: build returns at once with an id, and the result names the mode that really ran; a plan is looked at before it is
    approved of, and what scouts found is one text."""
    with_roles(swarm, *side_by_side(swarm, "a", "b"))

    async def story() -> None:
        async with a_client(swarm) as call:
            begun = await call("build", goal="make two things", approve=True)
            ended = await call("wait", run=begun["id"])
            assert (ended["stage"], ended["mode"], ended["width"]) == ("ready", "parallel", 2)
            made = await call("plan", goal="make two other things", wait=True)
            assert (made["stage"], made["approved"], '"tasks"' in made["text"]) == ("approval", False, True)
            done = await call("build", goal=made["run"], approve=True, wait=True)
            assert done["stage"] == "ready"
            assert "scout-1 looked" in (await call("scout", questions=["what is this?"], wait=True))["merged"]

    carry_out(story)

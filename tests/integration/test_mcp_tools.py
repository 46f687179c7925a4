"""The tools of `swarm mcp` as the package calls them, without a client and without a swarm."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the mcp extra is not installed")

from mcp.server.mcpserver.exceptions import ToolError

from swarm.client.mcp import server


def refusal(tool: str, **arguments: Any) -> str:
    """Gives the error that a call ends with."""
    with pytest.raises(ToolError) as caught:
        asyncio.run(server().call_tool(tool, arguments))
    return str(caught.value)


def test_an_argument_that_a_tool_does_not_have_is_refused() -> None:
    """Before anything is done, with the nearest that there is; a client is told beforehand that there are no others."""
    said = refusal("finish", previw=True, bogus=1)
    assert (
        "finish has no argument previw, bogus.\n  Nothing was done. Did you mean preview?\n  Next: it takes run, "
        in said
    )
    assert all(
        tool.input_schema["additionalProperties"] is False for tool in asyncio.run(server().list_tools())
    )


def test_no_task_is_refused_in_words() -> None:
    """What is to be done is said in words or as a command."""
    assert "There is no task." in refusal("run_task", task=" \n")


def test_arguments_that_are_missing_or_of_another_kind_are_told_in_words() -> None:
    """All at once, with what the tool takes, and nothing of the package's own text."""
    said = refusal("run_task")
    assert said.startswith("run_task needs task.\n  Nothing was done.\n  Next: it takes task, ")
    several = refusal("logs", lines="many", run=[1])
    assert several.startswith("logs needs task. logs can't take ")
    assert "lines: input should be a valid integer" in several
    assert "run: input should be a valid string" in several
    for text in (said, several, refusal("logs", task="a", lines=0), refusal("scout")):
        assert "pydantic" not in text
        assert "http" not in text
        assert "Error executing" not in text

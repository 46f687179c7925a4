"""How agents are called: arguments in the order that programs take them, and what the settings change of it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from swarm import config
from swarm.core import streams
from swarm.core.adapters import ANTHROPIC, BUILT_IN, Agent, expanded
from swarm.core.model import TaskSpec
from swarm.settings import AgentSettings, Settings
from swarm.worker import agents
from swarm.worker.agents import Interrupted, call

PROMPT = Path("/state/prompt.md")


def called(agent: Agent, **more: object) -> agents.Call:
    spec = TaskSpec(id="t", title="T", agent="a")
    return call(spec, {"a": agent}, PROMPT, "do it\n", **more)  # type: ignore[arg-type]


def argv(agent: Agent, **more: object) -> list[str]:
    return list(called(agent, **more).argv)


def test_arguments_come_in_the_order_that_programs_take_them() -> None:
    """Command, model, conversation, prompt; what is not set leaves nothing behind."""
    agent = Agent(("x", "-q"), "argument", model="m", resume=("resume", "{session}"))
    assert argv(agent) == ["x", "-q", "--model", "m", "do it\n"]
    assert argv(agent, session="s") == ["x", "-q", "--model", "m", "resume", "s", "do it\n"]
    assert argv(Agent(("x",), resume=("resume", "{session}"))) == ["x"]
    assert argv(Agent(("x", "-m={model}", "{prompt}", '{"a": {title}}'), "argument", model="m")) == [
        "x",
        "-m=m",
        "do it\n",
        '{"a": T}',
    ]


def test_inside_a_sandbox_it_may_be_called_otherwise() -> None:
    """Codex leaves its own sandbox out in swarm's, where it can't be set up; who says nothing is called as ever."""
    assert argv(BUILT_IN["codex"], shut_in=True)[-2:] == ["-s", "danger-full-access"]
    assert argv(BUILT_IN["codex"])[-2:] == ["-s", "workspace-write"]
    assert argv(Agent(("x",), model="m"), shut_in=True) == ["x", "--model", "m"]


def test_the_second_attempt_may_have_another_model() -> None:
    """`retry_model` counts from then on, and only where there is one."""
    assert argv(Agent(("x",), model="m", retry_model="r"), again=True)[-1] == "r"
    assert argv(Agent(("x",), retry_model="r"), again=True)[-1] == "r"
    assert argv(Agent(("x",), retry_model="r")) == ["x"]
    assert argv(Agent(("x",), model="m"), again=True)[-1] == "m"


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_built_in_can_be_called(name: str) -> None:
    """Each gets its prompt, prints what can be understood, and can be asked for before it is let in."""
    agent = BUILT_IN[name]
    found = called(agent)
    if name != ANTHROPIC:  # which looks where SWARM_PROMPT_FILE says
        assert found.stdin == PROMPT or str(PROMPT) in found.argv
    assert found.parser in streams.PARSERS
    assert agent.keys
    assert agent.logins
    assert not any("{" in part for part in found.argv)


def test_one_that_was_interrupted_is_told_where_its_work_is() -> None:
    """The prompt of the next names the branch, and has the task too."""
    spec = TaskSpec(id="t", title="T", prompt="do it")
    text = agents.prompt_text(spec, (), Interrupted("s", "swarm/r/task/t/1"))
    assert "git merge --squash swarm/r/task/t/1" in text
    assert "do it" in text


def test_settings_change_what_is_built_in_or_replace_it() -> None:
    """Without a command a table changes single keys; with one nothing of the built-in agent remains."""
    changed = Settings(agents={"claude": AgentSettings(model="m", keys=[])})
    of = config.to_agents(changed)["claude"]
    assert (of.model, of.keys) == ("m", ())
    assert (of.command, of.parser, of.resume) == (
        BUILT_IN["claude"].command,
        "claude",
        BUILT_IN["claude"].resume,
    )
    own = config.to_agents(Settings(agents={"claude": AgentSettings(command=["mine"])}))["claude"]
    assert own == Agent(("mine",))
    assert set(config.to_agents(Settings())) == set(BUILT_IN)


def test_settings_have_every_field_of_an_agent() -> None:
    """What an agent can have said about it can be set, with the same default, and every parser can be named."""
    settable = set(AgentSettings.model_fields)
    assert settable | {"tested"} == set(Agent.__dataclass_fields__)
    assert config.to_agents(Settings(agents={"a": AgentSettings(command=["x"])}))["a"] == Agent(("x",))
    assert AgentSettings(command=["x"]).model_flags == list(Agent().model_flags)
    assert set(get_args(AgentSettings.model_fields["parser"].annotation)) == set(streams.PARSERS)


def test_folders_of_programs_are_found() -> None:
    """Home and variables are those of the environment that is asked about."""
    environ = {"HOME": "/home/p", "CODEX_HOME": "/c"}
    assert expanded("${CODEX_HOME:-~/.codex}/auth.json", environ) == "/c/auth.json"
    assert expanded("${OTHER:-~/.codex}/auth.json", environ) == "/home/p/.codex/auth.json"
    assert expanded("~", environ) == "/home/p"
    assert expanded("/a~b", environ) == "/a~b"
    assert expanded("~/x", {}) == "~/x"

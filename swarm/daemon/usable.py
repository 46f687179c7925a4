"""Which agents can be used here, and why not: their programs are there, and they have a key or a login.

Rules for editing: `look` starts nothing and asks no service; whether a key is good shows when it is used.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from swarm import config, protocol
from swarm.core.adapters import ANTHROPIC, Agent, expanded, is_built_in
from swarm.core.model import COMMAND, TaskSpec
from swarm.dataclass import dataclass
from swarm.settings import Settings

ASK_TIMEOUT_S = 5.0  # for another program to say its version, or that it works


@dataclass(frozen=True, slots=True)
class Found:
    """An agent as it is here: `reason` says why it can't be used, `remedy` what to do. `needs` is what its service lets it in by,
    `version` None where it was not asked or said none; `tested` is false where nobody has tried it with the real program."""

    name: str
    usable: bool
    reason: str
    remedy: str
    program: str
    version: str | None
    needs: str
    source: str
    tested: bool
    model: str
    retry_model: str
    parser: str


def look(name: str, agent: Agent, environ: Mapping[str, str]) -> Found:
    """Looks whether an agent can be used in this environment."""
    program = agent.command[0]
    in_worktree = "/" in program and not os.path.isabs(program)  # which commit is in there nobody knows yet
    path = program if in_worktree else shutil.which(program, path=environ.get("PATH"))
    needs = " or ".join([*agent.keys, *agent.logins])
    reason = remedy = ""
    if path is None:
        reason = f"{program} is not on PATH"
        remedy = f"install {program}, or correct agents.{name}.command in swarm.toml"
    elif needs and not _let_in(agent, environ):
        reason = f"it has no key and no login: none of {', '.join([*agent.keys, *agent.logins])}"
        log_in = "" if name == ANTHROPIC else f"log in with {program}, or "
        remedy = (
            f"{log_in}set {agent.keys[0] if agent.keys else 'its key'} before the daemon starts; where it "
            f"is let in by other means, say [agents.{name}] keys = [], logins = [] in swarm.toml"
        )
    source = "built in" if is_built_in(name, agent) else protocol.SETTINGS_FILE
    return Found(
        name=name,
        usable=not reason,
        reason=reason,
        remedy=remedy,
        program=path or program,
        version=None,
        needs=needs,
        source=source,
        tested=agent.tested,
        model=agent.model,
        retry_model=agent.retry_model,
        parser=agent.parser,
    )


def not_usable(
    specs: Iterable[TaskSpec], agents: Mapping[str, Agent], environ: Mapping[str, str]
) -> list[Found]:
    """Gives the agents that these tasks want, are known, and can't be used in this environment."""
    wanted = dict.fromkeys(spec.agent for spec in specs if not spec.finished and spec.agent in agents)
    return [found for name in wanted if not (found := look(name, agents[name], environ)).usable]


def _let_in(agent: Agent, environ: Mapping[str, str]) -> bool:
    mine = {**environ, **agent.env}
    return any(mine.get(key) for key in agent.keys) or any(
        os.path.exists(expanded(path, mine)) for path in agent.logins
    )


def look_at_all(settings: Settings, environ: Mapping[str, str]) -> list[Found]:
    """Looks at every agent there is, and asks those that are there for their version."""
    agents = config.to_agents(settings)
    with ThreadPoolExecutor(8) as threads:
        return [_shell(), *threads.map(lambda name: _with_version(look(name, agents[name], environ)), agents)]


def _shell() -> Found:
    """The agent that needs nothing: a task's own command."""
    return Found(COMMAND, True, "", "", "/bin/sh", None, "", "built in", True, "", "", "")


def _with_version(found: Found) -> Found:
    if not os.path.isabs(found.program):
        return found  # it is not there, or in a worktree only
    if found.name == ANTHROPIC and found.source == "built in":  # its program is Python, of which nobody asks
        from importlib import metadata  # 15 ms, which no plan that is taken in has to wait

        return dataclasses.replace(found, version=f"anthropic {metadata.version('anthropic')}")
    said = says([found.program, "--version"])
    return dataclasses.replace(found, version=said or None)


def says(argv: list[str]) -> str | None:
    """Gives the first line that a program says where it ends well in time."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_TIMEOUT_S,
            check=False,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout or done.stderr).strip().partition("\n")[0][:100] if done.returncode == 0 else None

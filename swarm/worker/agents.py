"""How each agent is called: argument lists as data, filled in by pure functions.

Rules for editing: nothing is started or looked up here. An agent is its arguments, how the prompt reaches it, and variables that
it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarm.core.model import COMMAND as COMMAND
from swarm.core.model import TaskSpec


@dataclass(frozen=True, slots=True)
class Agent:
    """A program that carries out tasks; `prompt` says how the prompt reaches it: file, stdin or argument."""

    command: tuple[str, ...]
    prompt: str = "file"
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """What is started: arguments, the file on its standard input if any, and variables on top of the worker's own."""

    argv: tuple[str, ...]
    stdin: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)


def missing(specs: Sequence[TaskSpec], agents: Mapping[str, Agent]) -> list[str]:
    """Gives a sentence for each task that could not be started: an agent nobody knows, or no command to run."""
    wrong = []
    for spec in specs:
        if spec.finished:
            continue
        if spec.agent == COMMAND:
            if not spec.run.strip():
                wrong.append(f'task "{spec.id}" has no command to run and its agent is "command"')
        elif spec.agent not in agents:
            wrong.append(f'task "{spec.id}" wants the agent "{spec.agent}", which swarm.toml does not define')
    return wrong


def call(spec: TaskSpec, agents: Mapping[str, Agent], prompt_file: Path, prompt: str) -> Call:
    """Builds the call for a task. Raises `KeyError` for an agent that `missing` would have named."""
    if spec.agent == COMMAND:
        return Call(("/bin/sh", "-c", spec.run))
    agent = agents[spec.agent]
    names = {"prompt_file": str(prompt_file), "prompt": prompt, "task": spec.id, "title": spec.title}
    argv = tuple(_filled(part, names) for part in agent.command)
    if agent.prompt == "stdin":
        return Call(argv, stdin=prompt_file, env=agent.env)
    if agent.prompt == "argument" and not any("{prompt}" in part for part in agent.command):
        argv = (*argv, prompt)
    return Call(argv, env=agent.env)


def _filled(part: str, names: Mapping[str, str]) -> str:
    """Fills `{name}` in; other braces stay, since arguments may hold JSON."""
    for name, value in names.items():
        part = part.replace("{" + name + "}", value)
    return part


def prompt_text(spec: TaskSpec, feedback: Sequence[str]) -> str:
    """Writes what an agent that takes a prompt is asked to do: the task, its paths, and why an earlier attempt did not land."""
    parts = [spec.prompt.strip() or spec.title]
    if spec.claims:
        paths = "\n".join(f"- {claim.path}" for claim in spec.claims)
        parts.append(f"Change only these paths:\n{paths}")
    if feedback:
        parts.append("What came before:\n" + "\n\n".join(feedback))
    return "\n\n".join(parts) + "\n"

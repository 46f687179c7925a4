"""How each agent is called: its arguments (`core.adapters`) filled in for one attempt, by pure functions.

Rules for editing: nothing is started or looked up here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from swarm.core.adapters import Agent
from swarm.core.model import COMMAND as COMMAND
from swarm.core.model import TaskSpec
from swarm.dataclass import dataclass
from swarm.protocol import KEYS


@dataclass(frozen=True, slots=True)
class Call:
    """What is started: arguments, the file on its standard input if any, variables on top of the worker's own, the format of what
    it prints ("" for text), and the names of variables with keys that go on to it."""

    argv: tuple[str, ...]
    stdin: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    parser: str = ""
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An earlier attempt that did not come to its end: its conversation with the model, and the branch with what it had done."""

    session: str
    branch: str


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


def call(
    spec: TaskSpec,
    agents: Mapping[str, Agent],
    prompt_file: Path,
    prompt: str,
    *,
    again: bool = False,
    session: str = "",
    shut_in: bool = False,
) -> Call:
    """Builds the call for a task; `again` after an attempt that was held against it, with the `session` of an interrupted one, and
    `shut_in` where a sandbox holds it.

    Raises `KeyError` for an agent that `missing` would have named.
    """
    if spec.agent == COMMAND:
        return Call(("/bin/sh", "-c", spec.run))
    agent = agents[spec.agent]
    model = (agent.retry_model if again else "") or agent.model
    names = {
        "prompt_file": str(prompt_file),
        "prompt": prompt,
        "task": spec.id,
        "title": spec.title,
        "model": model,
        "session": session,
    }
    command = (agent.command_in_sandbox if shut_in else ()) or agent.command
    parts = [*command]
    if model and not any("{model}" in part for part in parts):
        parts += agent.model_flags
    if session:
        parts += agent.resume
    argv = tuple(_filled(part, names) for part in parts)
    if agent.prompt == "argument" and not any("{prompt}" in part for part in command):
        argv = (*argv, prompt)
    stdin = prompt_file if agent.prompt == "stdin" else None
    return Call(argv, stdin, agent.env, agent.parser, frozenset(agent.keys) or KEYS)


def _filled(part: str, names: Mapping[str, str]) -> str:
    """Fills `{name}` in; other braces stay, since arguments may hold JSON."""
    for name, value in names.items():
        part = part.replace("{" + name + "}", value)
    return part


def prompt_text(
    spec: TaskSpec, feedback: Sequence[str], before: Interrupted | None = None, lessons: Sequence[str] = ()
) -> str:
    """Writes what an agent that takes a prompt is asked to do: the task, its paths, what earlier runs taught, and why an earlier
    attempt did not land. One that goes on with a conversation that was interrupted is told where the work of that lies."""
    parts = [spec.prompt.strip() or spec.title]
    if before is not None:
        parts.insert(
            0,
            "You were interrupted and go on now, in a new worktree that has none of what you had changed. As far as it was "
            f"kept, that is the branch {before.branch}; `git merge --squash {before.branch}` brings it here.",
        )
    if spec.claims:
        paths = "\n".join(f"- {claim.path}" for claim in spec.claims)
        parts.append(f"Change only these paths:\n{paths}")
    if spec.again_for:
        why = "\n".join(f"- {text}" for text in spec.again_for)
        parts.append(
            f"This was done before, and what came of it is here. Do again as much of it as calls for it now, since:\n{why}"
        )
    if spec.contracts:
        agreed = "\n".join(f"- {text}" for text in spec.contracts)
        parts.append(f"Keep to what was agreed with those who work beside you:\n{agreed}")
    if lessons:
        parts.append(
            "What earlier work on this project showed:\n" + "\n".join(f"- {text}" for text in lessons)
        )
    if feedback:
        parts.append("What came before:\n" + "\n\n".join(feedback))
    return "\n\n".join(parts) + "\n"

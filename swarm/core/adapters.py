"""Agents as data: how a program that carries out tasks is called, what it needs, and what of its output is understood.

Rules for editing: nothing is started or looked up here. A field is what a program of somebody else's may need said about it, and
can be set in `[agents.NAME]` under the same name. What is built in was proven with the real program, or says `tested = False`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from swarm.dataclass import dataclass

ANTHROPIC = "anthropic"  # the agent that is no program of somebody else's: swarm.worker.anthropic

_FOLDER = re.compile(r"\$\{(\w+):-([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Agent:
    """A program that carries out tasks, in the worktree that it is started in.

    `command`, `model_flags` and `resume` are arguments, in this order; names in braces are filled in (docs/howto/agents.md), and
    the prompt comes last where `prompt` is argument. `command_in_sandbox` is instead of `command` where swarm's sandbox holds it:
    for a program whose own can't be set up inside another. `keys` are variables and `logins` files of which one is enough for it to
    be let in by its service; with neither it needs none. `writable` are folders that it writes to besides its worktree. In `logins`
    and `writable` `~` is the home folder and `${NAME:-default}` the value of a variable.
    """

    command: tuple[str, ...] = ()
    prompt: str = "file"
    env: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    retry_model: str = ""
    model_flags: tuple[str, ...] = ("--model", "{model}")
    resume: tuple[str, ...] = ()
    command_in_sandbox: tuple[str, ...] = ()
    parser: str = ""
    keys: tuple[str, ...] = ()
    logins: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    tested: bool = True


def is_built_in(name: str, agent: Agent) -> bool:
    """Tells whether an agent is the one of that name that is built in, whatever settings changed of it."""
    own = BUILT_IN.get(name)
    return own is not None and agent.command[1 : len(own.command)] == own.command[1:]


def expanded(path: str, environ: Mapping[str, str]) -> str:
    """Gives a path of `logins` or `writable` as it is with these variables."""
    path = _FOLDER.sub(lambda found: environ.get(found[1]) or found[2], path)
    return environ.get("HOME", "~") + path[1:] if path == "~" or path.startswith("~/") else path


_CLAUDE_HOME = "${CLAUDE_CONFIG_DIR:-~/.claude}"
_CODEX_HOME = "${CODEX_HOME:-~/.codex}"

BUILT_IN: Mapping[str, Agent] = {
    # `config.to_agents` puts in which Python, and adds the settings. A worktree may hold modules of any name; -P takes none of it.
    ANTHROPIC: Agent(
        command=("python", "-P", "-m", "swarm.worker.anthropic", "{model}"),
        model="claude-sonnet-5-5",
        parser="anthropic",
        keys=(
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_PROFILE",
            "ANTHROPIC_IDENTITY_TOKEN",
            "ANTHROPIC_IDENTITY_TOKEN_FILE",
        ),
        logins=("${ANTHROPIC_CONFIG_DIR:-~/.config/anthropic}",),
    ),
    # Shell commands run without being asked for: who lets many agents work unattended has decided that, and the sandbox is
    # what holds them. It updates itself otherwise, which many at once do to each other.
    "claude": Agent(
        command=(
            "claude",
            "-p",
            "--output-format",
            "stream-json",
            "--verbose",
            "--permission-mode",
            "acceptEdits",
            "--allowedTools",
            "Bash,WebFetch,WebSearch",
        ),
        prompt="stdin",
        env={"DISABLE_AUTOUPDATER": "1"},
        resume=("--resume", "{session}"),
        parser="claude",
        keys=(
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
        ),
        logins=(f"{_CLAUDE_HOME}/.credentials.json",),
        writable=(_CLAUDE_HOME, "~/.claude.json"),
    ),
    # Its own sandbox keeps a linked worktree's git folder read-only, so it can't commit: what it leaves is committed for it. Inside
    # swarm's it can't set its own up, and every command of it would fail.
    "codex": Agent(
        command=("codex", "exec", "--json", "-s", "workspace-write"),
        command_in_sandbox=("codex", "exec", "--json", "-s", "danger-full-access"),
        prompt="stdin",
        resume=("resume", "{session}", "-"),
        parser="codex",
        keys=("CODEX_API_KEY", "OPENAI_API_KEY"),
        logins=(f"{_CODEX_HOME}/auth.json", f"{_CODEX_HOME}/config.toml"),
        writable=(_CODEX_HOME,),
    ),
    "gemini": Agent(
        command=("gemini", "-o", "stream-json", "--approval-mode", "yolo", "--skip-trust"),
        prompt="stdin",
        parser="gemini",
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA"),
        logins=("~/.gemini/oauth_creds.json",),
        writable=("~/.gemini",),
        tested=False,
    ),
    # It would write a .gitignore, which is nobody's claim.
    "aider": Agent(
        command=(
            "aider",
            "--message-file",
            "{prompt_file}",
            "--yes-always",
            "--no-check-update",
            "--no-gitignore",
            "--no-stream",
            "--analytics-disable",
        ),
        parser="aider",
        keys=(
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "GEMINI_API_KEY",
            "DEEPSEEK_API_KEY",
            "OPENROUTER_API_KEY",
        ),
        logins=("~/.aider.conf.yml", "~/.env"),
        writable=("~/.aider",),
        tested=False,
    ),
}

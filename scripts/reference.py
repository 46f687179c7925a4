"""Writes the reference pages that are made from the code, or with --check says which of them are out of date.

Rules for editing: a page is a function that gives its text, named in `PAGES`; a test holds every page against the code.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Union, get_args, get_origin

TOP = Path(__file__).resolve().parents[1]
MADE = "<!-- Made by scripts/reference.py from the code: edit there. -->\n"


_CONFIG_FILE = """
Settings stand in `swarm.toml` at the top of the repository; `swarm init` writes one that explains itself. Every setting has a
default. The environment overrides the file, flags override both; `swarm config` shows what is in force and where each value
comes from.
"""
_CONFIG_ENVIRONMENT = """
In the environment the name of a setting is `SWARM_`, its section, two underscores and its key, in capitals:
`SWARM_LIMITS__WORKERS_MAX=2`, and at the top level `SWARM_SANDBOX=off`. A value is written as in TOML, but text without
quotes, which would be part of it.
"""
_CONFIG_ERRORS = """
An unknown key, a value out of its limits and a file that can't be read end every command that needs settings with exit code 2;
all errors are shown at once, each with its place and the nearest known name. In the environment that goes for a name that is
a setting's but for its underscores, its section or a slip (`SWARM_LIMITS_WORKERS_MAX`); one that is far from every setting is
taken to be somebody else's.
"""


def _names(names: Iterable[str]) -> str:
    return textwrap.fill(", ".join(f"`{name}`" for name in sorted(names)), width=120, break_long_words=False)


def config_page() -> str:
    """Gives docs/reference/config.md."""
    from swarm import config
    from swarm.protocol import WORKER_ENVIRONMENT

    parts = [
        "# Settings",
        MADE,
        _CONFIG_FILE,
        _CONFIG_ENVIRONMENT,
        f"Names that a worker is given are no settings and are ignored:\n{_names(WORKER_ENVIRONMENT)}.",
        _CONFIG_ERRORS,
        *_sections(config),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _sections(config: Any) -> list[str]:
    from swarm import settings

    rows: dict[str, list[str]] = {}
    for key, field in config.described():
        section, _, name = key.rpartition(".")
        rows.setdefault(section, []).append(_row(name, field, config.in_toml(field.get_default())))
    parts = []
    for section, lines in rows.items():
        parts += [f"## `[{section}]`" if section else "## Top level", _table(lines)]
    agent, hook, role, price = (
        [_row(name, field, _default(field, config)) for name, field in table.model_fields.items()]
        for table in (
            settings.AgentSettings,
            settings.HookSettings,
            settings.RoleSettings,
            settings.PriceSettings,
        )
    )
    parts += [
        "## `[anthropic.usd_per_million.MODEL]`",
        "What a million tokens of a model cost, in USD. swarm knows no prices by itself; yours are on your provider's price list.",
        _table(price),
        "## `[agents.NAME]`",
        "A program of your own. It is started in the worktree of its task, and what it leaves there is committed for it.",
        _table(agent),
        "## `[hooks.NAME]`",
        "Somebody who is told of what happens ([how](../howto/hooks.md)).",
        _table(hook),
        "## `[ownership]`",
        "`role = [patterns]`: paths that only tasks of this role may change.",
        '```toml\n[ownership]\narchitect = ["docs/architecture/**"]\n```',
        "## `[roles.NAME]`",
        "What else holds for tasks of a role ([how](../explanation/limits.md#roles)).",
        _table(role),
    ]
    return parts


def _default(field: Any, config: Any) -> str:
    if field.is_required():
        return ""
    return "none" if field.get_default() is None else str(config.in_toml(field.get_default()))


def _table(rows: list[str]) -> str:
    return "\n".join(["| key | type | default | |", "| --- | --- | --- | --- |", *rows])


def _row(name: str, field: Any, default: str) -> str:
    shown = f"`{default}`" if default else "needed"
    return f"| `{name}` | {_type(field.annotation)}{_limits(field)} | {shown} | {field.description} |"


def _type(kind: Any) -> str:
    if kind in _NAMES:
        return _NAMES[kind]
    if type(None) in get_args(kind):
        return _type(next(each for each in get_args(kind) if each is not type(None)))
    if get_args(kind) and all(isinstance(arg, str) for arg in get_args(kind)):
        return ", ".join(f"`{arg}`" for arg in get_args(kind))
    if get_origin(kind) is Union:
        return " or ".join(_type(each) for each in get_args(kind))
    if get_origin(kind) is list:
        inner = get_args(kind)[0]
        return f"list of {'text' if inner is str else 'pairs'}"
    return "table of text" if get_args(kind)[1] is str else "table"


_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def _limits(field: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤"}
    found = [
        f"{signs[name]} {getattr(rule, name):g}"
        for rule in field.metadata
        for name in signs
        if hasattr(rule, name)
    ]
    return f" {', '.join(found)}" if found else ""


_CLI_HEAD = """
`swarm COMMAND --help` says the same in the terminal. The commands are installed as `git-swarm` too, so that `git swarm status`
works. Global options may stand before or after the command, `-C` before it.
"""
_CLI_EXITS = """
| code | means |
| --- | --- |
| 0 | all well |
| 1 | it ran, and something did not land, or a check fails |
| 2 | usage, or a plan or setting that is not valid |
| 3 | no daemon runs where one is needed, or the one that runs does not answer |
| 4 | refused, because it would lose or overwrite something |
| 124 | a wait timed out |
| 130 | interrupted |

Errors go to stderr: the cause, what it means, what to do next. A task may be named `task` or `run/task`.

With `--json` the same is on stdout too, as one document (`swarm schema error`):
`{"schema": 1, "command": "wait", "exit_code": 124, "error": {"cause": "…", "consequence": "…", "next_step": "…"}}`. Beside these
keys `run`, `wait`, `qa` and what begins with a goal have the status document of their runs as they stand then, and `check` has its
`ok` and `plans`. A command that does something and has nothing to show gives what it says:
`{"schema": 1, "command": "pause", "exit_code": 0, "text": "Paused everything: …"}`. `events` and `logs` print a line for each
event, or line of output, and nothing else. Where a command that has printed its document ends with 1, 2 or 4, the document says
why.
"""


def cli_page() -> str:
    """Gives docs/reference/cli.md."""
    import importlib

    import click

    from swarm.client import commands

    parts = ["# Commands", MADE, _CLI_HEAD, "## Global options"]
    parts.append("\n".join(f"* `{name}`: {text}" for name, text in commands.GLOBAL_OPTIONS))
    parts += ["## Exit codes", _CLI_EXITS]
    for theme, entries in commands.THEMES:
        parts.append(f"## {theme}")
        for name, module, attribute, _ in entries:
            command = getattr(importlib.import_module(f"swarm.client.{module}"), attribute)
            parts += _command(click, command, f"swarm {name}")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _command(click: Any, command: Any, path: str) -> list[str]:
    settings = {**command.context_settings, "max_content_width": 110}
    context = click.Context(command, info_name=path, terminal_width=110, **settings)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [f"### `{usage.strip()}`", inspect.cleandoc(command.help or "")]
    rows = [record for each in command.get_params(context) if (record := each.get_help_record(context))]
    if rows:
        parts.append("\n".join(f"* `{flags}`: {text}" for flags, text in rows if text))
    for name, inner in getattr(command, "commands", {}).items():
        parts += _command(click, inner, f"{path} {name}")
    return [part for part in parts if part]


_EVENTS_HEAD = """
`swarm events` shows the journal from its first record on; with `--json` one JSON object a line, with `-f` as it grows. Every object
has `seq` (1, 2, 3, … without a gap), `at` (RFC 3339, UTC) and `type`, and `run`, `task` and `attempt` where it is about one. Fields
that end in `_at` are times too.

The journal holds two kinds of records under one numbering. *Facts* say what became of a task in words for people and programs.
*Events* are what the decisions were made from; a replay of them gives the state of the daemon again. Most fields that are empty
are left out. What belongs to a `code` stands beside it, as in the `reason` of a task: `paths`, `exit_code`, `until`, `suites`,
`needs`, … New fields and types may come; none is given another meaning.
"""


def events_page() -> str:
    """Gives docs/reference/events.md."""
    import dataclasses

    from swarm.core import messages

    facts = [f"| `{name}` | {text} |" for name, text in messages.FACTS.items()]
    events = []
    for cls in sorted(messages.event_types(), key=lambda each: each.__name__):
        fields = ", ".join(f"`{each.name}`" for each in dataclasses.fields(cls) if each.name not in _COMMON)
        text = " ".join((cls.__doc__ or "").split())
        events.append(f"| `{cls.__name__}` | {fields} | {text} |")
    parts = [
        "# Events",
        MADE,
        _EVENTS_HEAD,
        "## Facts",
        "\n".join(["| type | says |", "| --- | --- |", *facts]),
        "## Events",
        "\n".join(["| type | fields | says |", "| --- | --- | --- |", *events]),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def crash_tests_page() -> str:
    """Gives docs/explanation/crash-tests.md, written by hand but for the points of each row."""
    from swarm.crashpoints import POINTS

    def filled(row: re.Match[str]) -> str:
        points = [f"`{name}`" for name, point in POINTS.items() if row["number"] in point.stands_for.split()]
        return f"{row['before']} {' '.join(points) or 'none'} |"

    text = (TOP / "docs/explanation/crash-tests.md").read_text(encoding="utf-8")
    return re.sub(r"^(?P<before>\| (?P<number>C\d+) \|[^|]*\|)[^|]*\|", filled, text, flags=re.MULTILINE)


_COMMON = ("at", "run", "task", "attempt")

PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/config.md": config_page,
    "docs/reference/cli.md": cli_page,
    "docs/reference/events.md": events_page,
    "docs/explanation/crash-tests.md": crash_tests_page,
}


def main(arguments: list[str]) -> int:
    """Writes every page; with --check writes none and gives 1 where one is out of date."""
    old = []
    for name, page in PAGES.items():
        path, text = TOP / name, page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        old.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in old:
        print(f"{name}: {'out of date' if '--check' in arguments else 'written'}")
    return 1 if old and "--check" in arguments else 0


if __name__ == "__main__":
    sys.path.insert(0, str(TOP))
    sys.exit(main(sys.argv[1:]))

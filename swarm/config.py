"""Settings: what `swarm.toml` may say, what the environment and flags override, and where each value comes from.

What may be set is in `settings`. Rules for editing: every error is told at once, with its place. Loads pydantic: never import this
on the way of a command that only asks the daemon.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import os
import re
import stat
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from swarm.core.adapters import ANTHROPIC, BUILT_IN, Agent
from swarm.core.entries import Policy
from swarm.core.model import Defaults, Role
from swarm.core.model import Limits as MachineLimits
from swarm.errors import UsageError
from swarm.protocol import (
    SETTINGS_BYTES_MAX,
    SETTINGS_FILE,
    SETTINGS_PREFIX,
    WORKER_ENVIRONMENT,
    at_once,
    printable,
)
from swarm.settings import Place, Settings, WorktreeSettings

WORDS_MAX = 16  # in the name of a variable that may be a setting written otherwise
ROOT = ("worktrees", "root")
FOLLOW_SHARE = 0.05  # a move of a large checkout takes a second, and the workers need the processor
SAME_FAILURE_MAX = 3  # alike, after which one more would say nothing new


class SettingsError(UsageError):
    """Settings that can't be used; `problems` holds (place, text) of every one."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        count = "an error" if len(problems) == 1 else f"{len(problems)} errors"
        lines = "".join(f"\n  {printable(place)}: {printable(text)}" for place, text in problems)
        super().__init__(
            f"The settings have {count}:{lines}",
            "Nothing was done.",
            "correct this, then look with: swarm config",
        )


# --- reading ----------------------------------------------------------------------------------------------------------------


def load(top: Path | str, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Settings:
    """Reads the settings of the repository whose top is `top`: the defaults, under `swarm.toml`, the environment and `flags`.

    `flags` are values by key, `{"limits.workers_max": 2}` or `{"limits": {"workers_max": 2}}`; None among them means not given.
    Raises `SettingsError` (exit 2) with every error at once.
    """
    text = _read(Path(top) / SETTINGS_FILE)
    data = _parse(text)
    places = dict.fromkeys(_leaves(data), SETTINGS_FILE)
    labels: dict[Place, str] = {}
    problems: list[tuple[str, str]] = []
    for name, place, raw in _from_environment(environ, problems):
        _put(data, place, _value_from_text(place, raw))
        places[place], labels[place] = f"environment {name}", name
    for place, value in _given(flags or {}):
        _put(data, place, value)
        places[place] = labels[place] = "flag"
    if wrong := _wrong_root(Path(top), data.get(ROOT[0])):
        problems.append((_place_of(ROOT, _Lines(text), labels), wrong))
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        problems += _problems(error, _Lines(text), labels)
        raise SettingsError(problems) from None
    if problems:
        raise SettingsError(problems)
    settings._sources.update(places)
    return settings


def _read(path: Path) -> str:
    try:
        with open(path, "rb", opener=at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError([(SETTINGS_FILE, "is no file but a pipe or the like")])
            raw = file.read(SETTINGS_BYTES_MAX + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SettingsError([(SETTINGS_FILE, f"can't be read: {error.strerror}")]) from None
    if len(raw) > SETTINGS_BYTES_MAX:
        raise SettingsError([(SETTINGS_FILE, f"is larger than {SETTINGS_BYTES_MAX} bytes")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SettingsError([(f"{SETTINGS_FILE}:{line}", "is not UTF-8 text")]) from None


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
        place = f"{SETTINGS_FILE}:{found[2]}:{found[3]}" if found else SETTINGS_FILE
        raise SettingsError([(place, f"not TOML: {found[1] if found else error}")]) from None


def _leaves(data: Mapping[str, Any], prefix: Place = ()) -> Iterator[Place]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*prefix, key))
        else:
            yield (*prefix, key)


def _given(flags: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Yields (place, value) of the flags that were given."""
    for place in _leaves(flags):
        value = _at(flags, place)
        if value is not None:
            yield tuple(part for key in place for part in key.split(".")), value


def _put(data: dict[str, Any], place: Place, value: Any) -> None:
    for key in place[:-1]:
        inner = data.setdefault(key, {})
        if not isinstance(
            inner, dict
        ):  # the file has a value where a section belongs: it is reported, the rest can wait
            return
        data = inner
    data[place[-1]] = value


def readings_file(settings: Settings, top: Path) -> Path | None:
    """Gives the file that has readings instead of the machine, None for none: below the top of the repository, as `swarm.toml` is,
    where the daemon, which works elsewhere, would not look by itself."""
    said = settings.limits.readings_file
    return top / os.path.expanduser(said) if said else None


# --- where worktrees may lie ------------------------------------------------------------------------------------------------


def _wrong_root(top: Path, table: Any) -> str:
    """Says why worktrees can't lie where their table says; "" where they can, or where that is no text, which whoever checks types
    finds."""
    default = WorktreeSettings.model_fields[ROOT[1]].default
    root = table.get(ROOT[1], default) if isinstance(table, dict) else default
    if not isinstance(root, str) or not root:
        return ""
    place = os.path.realpath(top / os.path.expanduser(root))
    if place == os.path.realpath(top):
        return f"{root!r} is the checkout itself, in which the worktrees would show as your own files; name a folder for them"
    if Path(os.path.realpath(top)).is_relative_to(place):
        return (
            f"{root!r} is {place}, in which the checkout itself lies: worktrees would be made among what else is there; name a"
            f" folder for them alone, such as '../{Path(os.path.realpath(top)).name}-worktrees'"
        )
    if ".git" in Path(os.path.normpath(root)).parts or _is_in_git_folder(top, place):
        return (
            f"{root!r} is in the git folder, which is hidden from a worker in the sandbox: what it writes there is lost; name a"
            " folder beside the code, such as '.worktrees', or one outside the repository"
        )
    there = place
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        return f"{root!r} can't be a folder, since {there} is a file; name another, or move that away"
    return ""


def refuse_root(settings: Settings, tracked: str) -> None:
    """Raises `SettingsError` since the folder of the worktrees has the file `tracked`, a path from the top of the checkout."""
    place = settings._sources.get(ROOT, SETTINGS_FILE)
    usual = WorktreeSettings.model_fields[ROOT[1]].default
    instead = usual if os.path.normpath(settings.worktrees.root) != usual else f"{usual}-of-swarm"
    text = (
        f"{settings.worktrees.root!r} has tracked files, such as {tracked}: worktrees would be made among them, and what a task"
        f" changes there could not land; name a folder for the worktrees alone, such as {instead!r}"
    )
    raise SettingsError([(f"{place}: {'.'.join(ROOT)}", text)])


def refuse_moved(settings: Settings, runs: Sequence[str], there: str) -> None:
    """Raises `SettingsError` since `runs` have their worktrees in another folder, `there`."""
    place = settings._sources.get(ROOT, SETTINGS_FILE)
    text = (
        f"{settings.worktrees.root!r} is not where the worktrees of {', '.join(runs[:5])}{' and others' if runs[5:] else ''} are:"
        f" {there}; set it back until they are discarded (swarm discard RUN)"
    )
    raise SettingsError([(f"{place}: {'.'.join(ROOT)}", text)])


def refuse_copy(settings: Settings, path: str, tracked: str) -> None:
    """Raises `SettingsError` since `path` of worktrees.copy has the file `tracked`, or is it; "" where the worktrees lie in it."""
    key = (ROOT[0], "copy")
    holds = (
        "the worktrees lie in it, and would be copied into themselves; name what else of it is to be copied"
    )
    if tracked:
        what = "git tracks it" if tracked == path else f"git tracks files in it, such as {tracked}"
        holds = (
            f"{what}: a copy of yours would be verified instead of what lands, and what a task changes there could not land;"
            " name only what git does not track, such as '.env'"
        )
    place = settings._sources.get(key, SETTINGS_FILE)
    raise SettingsError([(f"{place}: {'.'.join(key)}", f"{path!r}: {holds}")])


def _is_in_git_folder(top: Path, place: str) -> bool:
    """Tells whether a path is in the git folder of the checkout at `top`, which may lie elsewhere and be named in a file."""
    dot = top / ".git"
    try:
        named = dot.read_text("utf-8", "surrogateescape") if dot.is_file() else ""
    except OSError:
        named = ""
    folder = os.path.realpath(top / named.removeprefix("gitdir:").strip() if named else dot)
    return place == folder or place.startswith(folder + os.sep)


# --- the environment --------------------------------------------------------------------------------------------------------


def _from_environment(
    environ: Mapping[str, str], problems: list[tuple[str, str]]
) -> Iterator[tuple[str, Place, str]]:
    """Yields (variable, place, text) of every override. A name that is far from every setting belongs to somebody else."""
    for name in sorted(environ):
        if not name.startswith(SETTINGS_PREFIX) or name in WORKER_ENVIRONMENT:
            continue
        place = tuple(name[len(SETTINGS_PREFIX) :].lower().split("__"))
        kind = _kind(place)
        if _is_table(kind):
            problems.append((f"environment {name}", f"is a section: name a key of it, such as {name}__KEY"))
        elif kind is not None:
            yield name, place, environ[name]
        elif meant := _meant(name):
            problems.append((f"environment {name}", f"no such setting; did you mean {' or '.join(meant)}?"))
        elif len(place) > 1 or difflib.get_close_matches(place[0], Settings.model_fields, cutoff=0.75):
            known = [_variable(key) for key in _all_keys()]
            problems.append((f"environment {name}", f"no such setting{_nearest(name, known)}"))


def _meant(name: str) -> list[str]:
    """Gives the variables that one without a place of its own stands for: those spelled so but for underscores, else those whose
    section was left out, else the nearest; none where it is somebody else's."""
    words = [word for word in name[len(SETTINGS_PREFIX) :].lower().split("_") if word]
    keys = _all_keys()
    found = [".".join(place) for place in _spellings(words)]
    if not found and len(words) > 1:  # one word alone, such as SWARM_MODE, may be anybody's
        found = [key for key in keys if key.endswith("." + "_".join(words))]
    if not found:
        near = {key.replace(".", "_"): key for key in keys}
        found = [near[each] for each in difflib.get_close_matches("_".join(words), near, n=1, cutoff=0.85)]
    return [_variable(key) for key in found]


def _spellings(words: list[str]) -> Iterator[Place]:
    """Yields the places of values whose names are made of these words: settings stand one to three levels deep."""
    if len(words) > WORDS_MAX:
        return
    ends = range(1, len(words))
    cuts = [(), *((end,) for end in ends), *itertools.combinations(ends, 2)]
    for cut in cuts:
        bounds = itertools.pairwise((0, *cut, len(words)))
        place = tuple("_".join(words[start:end]) for start, end in bounds)
        kind = _kind(place)
        if kind is not None and not _is_table(kind):
            yield place


def _value_from_text(place: Place, text: str) -> Any:
    """Reads a variable the way its setting is written in TOML; text stays text."""
    kind = _kind(place)
    if kind is str or get_origin(kind) is Literal:
        return text
    switch = kind is bool or bool in get_args(kind)
    if switch and text.lower() in {"1", "on", "yes", "true", "0", "off", "no", "false"}:
        return text.lower() in {"1", "on", "yes", "true"}
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _variable(key: str) -> str:
    return SETTINGS_PREFIX + key.replace(".", "__").upper()


def _kind(place: Place) -> Any:
    """Gives the type of the value at `place`, or None where no such setting is."""
    kind: Any = Settings
    for key in place:
        if get_origin(kind) is dict and key:
            kind = get_args(kind)[1]
        elif _is_model(kind):
            field = _fields(kind).get(key)
            kind = field.annotation if field is not None else None
        else:
            return None
    return kind


def _is_model(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_table(kind: Any) -> bool:
    return _is_model(kind) or get_origin(kind) is dict


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


# --- errors with their place ------------------------------------------------------------------------------------------------


class _Lines:
    """Finds the line of a key in a TOML text; a rough reading is enough, since it only serves messages."""

    def __init__(self, text: str) -> None:
        self._found: dict[Place, int] = {}
        section: Place = ()
        for number, line in enumerate(text.splitlines(), start=1):
            if header := re.match(r"\s*\[+\s*([^\]#]+?)\s*\]", line):
                section = self._keys(header[1])
                self._found.setdefault(section, number)
            elif pair := re.match(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+|\s*\.\s*)+?)\s*=""", line):
                self._found.setdefault(section + self._keys(pair[1]), number)

    @staticmethod
    def _keys(text: str) -> Place:
        parts = re.findall(r""""([^"]*)"|'([^']*)'|([\w-]+)""", text)
        return tuple("".join(part) for part in parts)

    def __contains__(self, place: Place) -> bool:
        return any(each[: len(place)] == place for each in self._found)

    def of(self, place: Place) -> str:
        while place:
            if place in self._found:
                return f"{SETTINGS_FILE}:{self._found[place]}"
            place = place[:-1]
        return SETTINGS_FILE


def _problems(error: ValidationError, lines: _Lines, labels: Mapping[Place, str]) -> list[tuple[str, str]]:
    found = []
    for item in error.errors(include_url=False, include_context=False):
        loc = tuple(str(part) for part in item["loc"])
        text = _say(item, loc)
        found.append((_place_of(loc, lines, labels), text))
    return found


def _place_of(loc: Place, lines: _Lines, labels: Mapping[Place, str]) -> str:
    """Says where the value of a setting comes from; of two that contradict each other, nothing in particular."""
    if not loc:
        return "settings"
    key = ".".join(loc)
    label = next((labels[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in labels), None)
    if label is None and loc not in lines:  # a table of which only another place gives anything
        label = next((labels[place] for place in labels if place[: len(loc)] == loc), None)
    if label == "flag":
        return f"flag for {key}"
    return f"environment {label}" if label is not None else f"{lines.of(loc)}: {key}"


def _say(item: Any, loc: Place) -> str:
    if item["type"] == "extra_forbidden":
        parent = _kind(loc[:-1])
        known = list(_fields(parent)) if _is_model(parent) else []
        return f"no such setting{_nearest(str(loc[-1]), known)}"
    if item["type"] == "missing":
        return "is needed and missing"
    if item["type"] == "value_error":
        return str(item["msg"]).removeprefix("Value error, ")
    message = str(item["msg"]).replace("dictionary", "table").replace("Input should be", "should be")
    shown = repr(item["input"])
    return f"{message}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    if not known:
        return ""
    return (
        f"; there are {', '.join(sorted(known))}"
        if len(known) <= 20
        else "; swarm config lists all there are"
    )


# --- what others ask for ----------------------------------------------------------------------------------------------------


def to_limits(settings: Settings) -> MachineLimits:
    """Gives the limits that the machine decides by."""
    limits = settings.limits
    return MachineLimits(
        workers_max=limits.workers_max,
        ladder=tuple((float(below), float(share)) for below, share in limits.ladder),
        cpu_percent_max=limits.cpu_percent_max,
        memory_percent_max=limits.memory_percent_max,
        memory_percent_suspend=limits.memory_percent_suspend,
        memory_stall_percent_suspend=limits.memory_stall_percent_suspend,
        suspended_s_max=limits.suspended_s_max,
        disk_free_bytes_min=limits.disk_free_bytes_min,
        disk_free_inodes_min=limits.disk_free_inodes_min,
        ramp_per_s=limits.ramp_per_s,
        smoothing_s=limits.smoothing_s,
        readings_every_s=limits.readings_every_s,
        strays=settings.strays,
        try_later_s=limits.try_later_s,
        lost_max=limits.lost_max,
        try_later_max=limits.try_later_max,
        infra_max=limits.infra_max,
        follow_every_s=limits.follow_every_s,
        follow_share=FOLLOW_SHARE,
        grace_s=limits.grace_s,
        keep_worktrees=settings.worktrees.keep,
        spare_worktrees=settings.worktrees.spare,
        same_failure_max=SAME_FAILURE_MAX,
        batches=settings.verify.mode == "batch",
        verify_slots=settings.verify.slots,
        breaker_failures=limits.breaker_failures,
        breaker_within_s=limits.breaker_within_s,
        budget_usd=limits.budget_usd,
        budget_tokens=limits.budget_tokens,
        task_budget_usd=limits.task_budget_usd,
        task_budget_tokens=limits.task_budget_tokens,
        day_budget_usd=limits.day_budget_usd,
        day_budget_tokens=limits.day_budget_tokens,
        roles=to_roles(settings),
    )


def to_policy(settings: Settings, worktrees: str) -> Policy:
    """Gives what may come in with an attempt's work; `worktrees` is the folder in the repository where they lie, if they do."""
    return Policy(**settings.policy.model_dump(), worktrees=worktrees)


def to_roles(settings: Settings) -> tuple[Role, ...]:
    """Gives the roles that the settings know: those that own something, and those of which something else is said."""
    made = []
    for name in dict.fromkeys((*settings.ownership, *settings.roles)):
        owns, said = tuple(settings.ownership.get(name, ())), settings.roles.get(name)
        made.append(Role(name, owns) if said is None else Role(name, owns, said.max, said.read_only))
    return tuple(made)


def to_defaults(settings: Settings) -> Defaults:
    """Gives what a task gets where its plan says nothing."""
    return Defaults(
        agent=settings.agent,
        timeout_s=settings.limits.timeout_s,
        attempts=settings.limits.attempts,
        suite_timeout_s=settings.verify.timeout_s,
        no_output_s=settings.limits.no_output_s,
    )


def to_agents(settings: Settings) -> dict[str, Agent]:
    """Gives the agents that are known by name: those that are built in, as the settings change them, and the user's own. One with a
    command is the user's own, whatever its name."""
    found = {**BUILT_IN, ANTHROPIC: _anthropic(settings)}
    for name, table in settings.agents.items():
        given = {key: _frozen(getattr(table, key)) for key in table.model_fields_set}
        found[name] = dataclasses.replace(Agent() if table.command else found[name], **given)
    return found


def _anthropic(settings: Settings) -> Agent:
    """Gives the agent of our own, whose program is told its settings by an argument: its worktree may hold another swarm.toml."""
    agent = BUILT_IN[ANTHROPIC]
    orders = {**settings.anthropic.model_dump(mode="json"), "strays": settings.strays}
    return dataclasses.replace(agent, command=(sys.executable, *agent.command[1:], json.dumps(orders)))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def flat(settings: Settings) -> list[tuple[str, Any, str]]:
    """Lists (key, value, source) of every setting; tables of the user's own are listed by their keys, empty ones not at all."""
    data = settings.model_dump(mode="json", by_alias=True)
    return [(".".join(place), _at(data, place), settings._source_at(place)) for place in _leaves(data)]


def schema() -> dict[str, Any]:
    """Gives the JSON Schema of `swarm.toml`."""
    made = Settings.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "swarm.toml"}


def _at(data: Any, place: Place) -> Any:
    for key in place:
        data = data[key]
    return data


def _all_keys() -> list[str]:
    return [key for key, _ in described()]


def described() -> list[tuple[str, FieldInfo]]:
    """Lists (key, field) of every setting that has a fixed name, sections after the top level."""
    top = [(name, field) for name, field in _fields(Settings).items() if not _is_table(field.annotation)]
    inner = [
        (f"{section}.{name}", field)
        for section, table in _fields(Settings).items()
        if _is_model(model := table.annotation)
        for name, field in _fields(model).items()
    ]
    return top + inner


def in_toml(value: Any) -> str:
    """Writes a value of a setting as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}" if abs(value) >= 1_000_000 else str(value)
    if isinstance(value, float):
        return str(int(value)) if value == int(value) else repr(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{in_toml(str(key))} = {in_toml(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(in_toml(item) for item in value) + "]"


_EXAMPLES = """\
# Agents that are built in (swarm agents lists them) take changes, such as the model, and another
# one from the second attempt on:
#
#     [agents.claude]
#     model = "sonnet"
#     retry_model = "opus"

# Agents of your own, any program. It works in the worktree that it is started in:
#
#     [agents.mine]
#     command = ["mycoder", "--message-file", "{prompt_file}"]
#     prompt = "file"             # file | stdin | argument
#     env = {MODEL = "small"}

# Who is told of what happens: a command that gets the event on its standard input, or an address
# that it is posted to:
#
#     [hooks.desk]
#     command = "jq -r .type | xargs notify-send swarm"
#     on = ["TaskFailed", "RunEnded"]

# Paths that only tasks of a role may change:
#
#     [ownership]
#     architect = ["docs/architecture/**"]

# How many tasks of a role may be at work at once (0: any), and whether they may change anything:
#
#     [roles.architect]
#     max = 1
#     read_only = false
"""


def template() -> str:
    """Writes the `swarm.toml` that `swarm init` makes: every setting commented out with its default and why one would change it."""
    import textwrap

    lines = [
        "# Settings of swarm for this repository. Every value is the default; take the # away to change one.",
        "# The environment overrides this file (SWARM_LIMITS__WORKERS_MAX=2), flags override both.",
        "# What is in force, and where it comes from: swarm config",
    ]
    section = ""
    for key, field in described():
        table, _, name = key.rpartition(".")
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        lines.append("")
        lines += textwrap.wrap(str(field.description), width=98, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"#{name} = {in_toml(field.get_default(call_default_factory=True))}")
    return "\n".join(lines) + "\n\n" + _EXAMPLES

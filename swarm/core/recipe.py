"""What a foreign plan says about checking a task: which part is a command to run, and which is text for people.

Only a real command is ever run. A verification of another type (manual, browser, e2e, api, …), a sentence where a command
should be, and a command that leaves the candidate's tree for a folder of somebody's machine become text for the worker instead.

Rules for editing: when in doubt it is text. A check that cannot fail, or that looks at another tree, is worse than none, since a
landing would be called verified.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import field
from typing import Any

from swarm.core.document import Problem, one_line
from swarm.core.model import Suite
from swarm.dataclass import dataclass

_COMMAND_KEYS = ("run", "command", "cmd")
_STATUS_KEYS = ("expect_status", "expected_status")
_OUTPUT_KEYS = ("expect_contains", "expected", "expected_output")
# A sentence begins with a capitalised word or a numbered step; commands are lower case, paths, or assignments (`CI=1 make`).
_SENTENCE = re.compile(r"(?:[A-Z][a-z]+[:,]?\s+\S+\s+\S+|\d+[.)]\s)")
_SENTENCE_LOWER = re.compile(
    r"(?:manual(?:ly)?|check that|verify (?:that|the)|ensure|confirm|open the|no |none\b|n/a\b)",
    re.IGNORECASE,
)
_CAPITALISED = frozenset({"Rscript", "Xvfb", "MSBuild", "Godot", "Unity"})
_ELSEWHERE = re.compile(
    r"(?:^|[;&|(\n])\s*(?:cd|pushd)\s+(?:--\s+)?[\"']?(?:/|~|\.\./|\.\.(?=[\s;&\"']|$)|[A-Za-z]:[\\/])"
)


@dataclass(frozen=True, slots=True)
class Checks:
    """What a verification comes to: suites to run, a text for people, and what is worth saying."""

    suites: tuple[Suite, ...] = ()
    for_people: str = ""
    warnings: list[Problem] = field(default_factory=list)


def checks_of(value: Any, place: str, timeout_s: float) -> Checks:
    """Reads a task's `verification`: an object, a list of them, or a text for people."""
    if value in (None, "", [], {}):
        return Checks()
    suites: list[Suite] = []
    texts: list[str] = []
    warnings: list[Problem] = []
    many = isinstance(value, list)
    for index, one in enumerate(value if many else [value]):
        here = f"{place}[{index}]" if many else place
        suite = _suite(one, here, warnings) if isinstance(one, dict) else None
        if suite is not None:
            number = f"-{len(suites) + 1}" if suites else ""
            suites.append(Suite(f"verification{number}", suite, timeout_s))
        elif one not in (None, "", {}):
            texts.append(_for_people(one))
    text = "To be checked by a person or agent, not run by swarm:\n" + "\n".join(texts) if texts else ""
    return Checks(tuple(suites), text, warnings)


def _suite(check: dict[str, Any], place: str, warnings: list[Problem]) -> str | None:
    """Gives the shell command of a check that is one."""
    if str(check.get("type") or "command").strip().casefold() != "command":
        return None
    command = next(
        (check[key] for key in _COMMAND_KEYS if isinstance(check.get(key), str) and check[key].strip()), None
    )
    if command is None:
        return None
    if _is_sentence(command):
        warnings.append(
            Problem(place, f'"{one_line(command, 60)}" reads like a sentence, not a command; it is not run')
        )
        return None
    if "\0" in command:
        warnings.append(Problem(place, "the command holds a NUL character; it is not run"))
        return None
    if _ELSEWHERE.search(command):
        shown = one_line(command, 60)
        text = f'"{shown}" leaves the repository and would check another tree than the one that lands; it is not run'
        warnings.append(Problem(place, text))
        return None
    return _with_expectation(command, check, place, warnings)


def _is_sentence(command: str) -> bool:
    """Tells a sentence from a command, by how it begins."""
    text = command.strip()
    first = text.split(None, 1)[0]
    if first.strip(":,") in _CAPITALISED:
        return False
    return bool(_SENTENCE.match(text) or _SENTENCE_LOWER.match(text))


def _with_expectation(command: str, check: dict[str, Any], place: str, warnings: list[Problem]) -> str:
    """Wraps a command so that the check holds what the file expects: an exit status, or something in the output."""
    status = next((check[key] for key in _STATUS_KEYS if check.get(key) not in (None, "")), 0)
    status = int(status) if str(status).strip().isdigit() and int(status) < 256 else 0
    expected = next((check[key] for key in _OUTPUT_KEYS if check.get(key) not in (None, "")), None)
    if isinstance(expected, list | dict | bool):
        expected = None
    text = "" if expected is None else str(expected).strip()
    if text and not _is_output(text, command, explicit="expect_contains" in check):
        said = f'"{one_line(text, 60)}" describes the output and is not looked for; the exit status of the command counts'
        warnings.append(Problem(place, said))
        text = ""
    if not text:
        return command if not status else f"( {command}\n); [ $? -eq {status} ]"
    # Counting commands such as `grep -c` exit 1 on nothing found, so where a number is expected only the number counts.
    number = re.fullmatch(r"\d+", text)
    grep = f"grep -Eqx -e '[[:space:]]*{text}[[:space:]]*'" if number else f"grep -Fq -e {shlex.quote(text)}"
    judged = "" if number else f'[ "$code" -eq {status} ] && '
    return f"out=$( {{ {command}\n}} 2>&1 ); code=$?; printf '%s\\n' \"$out\"; {judged}printf '%s\\n' \"$out\" | {grep}"


def _is_output(text: str, command: str, *, explicit: bool) -> bool:
    """Tells output (`True`, `7`, a text that the command itself prints) from a description of it (`No errors`)."""
    if "\n" in text:
        return False
    return explicit or " " not in text or text in command


def _for_people(check: Any) -> str:
    """Writes a check as lines for people."""
    if not isinstance(check, dict):
        return f"- {check}"
    kind = check.get("type")
    lines = [f"- {kind or 'check'}:"]
    for key, value in check.items():
        if key == "type" or value in (None, "", [], {}):
            continue
        if isinstance(value, list):
            lines.append(f"  {key}:")
            lines += [f"    - {one}" for one in value]
        else:
            lines.append(f"  {key}: {value}")
    return "\n".join(lines)

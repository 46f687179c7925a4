"""What runs taught, for the prompts of later ones: where work conflicted, which suites are flaky, what was tried and did not land.

A lesson is learned from what is told to people, so that nothing else need know of lessons; it outlives its run. A run is given
those there were when it began, and keeps them, so that all its workers are told the same.

Rules for editing: pure, and nothing is decided by a lesson. Few and short: each costs every later prompt its length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from swarm.core.model import Task
from swarm.dataclass import dataclass

LESSONS_MAX = 100  # kept; the one that was longest not met goes first
OFFERED_MAX = 20  # told to a run: those met last
TEXT_MAX = 300
TEACH = frozenset({"TaskHandedBack", "SuiteFlaked", "TaskFailed", "TaskLanded"})  # the facts that may
_ABOUT_THE_WORK = frozenset(
    {"conflict", "verify_failed", "stray", "empty", "worker_failed", "timeout", "no_output"}
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was met `times` times, last in `run` at time `at`; `kind` is conflict, flaky or failed."""

    id: str
    kind: str
    text: str
    run: str
    at: float
    times: int = 1


def learn(
    known: dict[str, Lesson],
    kind: str,
    at: float,
    run: str,
    task: str,
    data: Mapping[str, Any],
    about: Task | None = None,
) -> None:
    """Takes in what a fact of this kind teaches, if anything; `about` is the task that it tells of, where that is still known."""
    if kind == "TaskHandedBack" and data.get("code") == "conflict" and data.get("paths"):
        paths = ", ".join(sorted(map(str, data["paths"]))[:5])
        text = f"Work side by side conflicted in {paths}: let one task alone change that, or the tasks go one after the other."
        _note(known, "conflict", paths, text, run, at)
    elif kind == "SuiteFlaked":
        name = str(data.get("suite"))
        text = f'The suite "{name}" is flaky: it was red, then green on the same commit.'
        _note(known, "flaky", name, text, run, at)
    elif kind == "TaskFailed" and data.get("code") in _ABOUT_THE_WORK:
        why = str(data.get("text", "")).rstrip(".")
        text = f"Tried, and it did not land: {_what(task, about)}. Why: {why}.{_said(about)}"
        _note(known, "failed", f"{run}/{task}", text, run, at)
    elif kind == "TaskLanded" and known:
        known.pop(_id("failed", f"{run}/{task}"), None)


def offered(known: Mapping[str, Lesson]) -> tuple[str, ...]:
    """Gives the texts that a run which begins now is told."""
    return tuple(lesson.text for lesson in list(known.values())[-OFFERED_MAX:])


def document(known: Mapping[str, Lesson]) -> list[dict[str, Any]]:
    """Lists lessons, the one met last at the end; times are in seconds."""
    return [
        {
            "id": each.id,
            "kind": each.kind,
            "text": each.text,
            "run": each.run,
            "times": each.times,
            "at": each.at,
        }
        for each in known.values()
    ]


def forget(known: dict[str, Lesson], wanted: Iterable[str]) -> None:
    """Forgets lessons; one that is met again is learned again."""
    for name in wanted:
        known.pop(name, None)


def _what(task: str, about: Task | None) -> str:
    """Says what was wanted: a later run has no task of that id."""
    title = "" if about is None else about.spec.title.strip().rstrip(".")
    return f"{title} ({task})" if title not in ("", task) else task


def _said(about: Task | None) -> str:
    """Says what the last worker wrote of what it tried."""
    attempt = None if about is None else about.attempt
    summary = "" if attempt is None else attempt.result.summary.strip()
    return f" Its worker said: {summary}" if summary else ""


def _id(kind: str, key: str) -> str:
    return hashlib.sha256(f"{kind} {key}".encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _note(known: dict[str, Lesson], kind: str, key: str, text: str, run: str, at: float) -> None:
    name = _id(kind, key)
    before = known.pop(name, None)
    line = " ".join(text.split())
    line = line if len(line) <= TEXT_MAX else f"{line[: TEXT_MAX - 1]}…"
    known[name] = Lesson(name, kind, line, run, at, 1 if before is None else before.times + 1)
    while len(known) > LESSONS_MAX:
        del known[next(iter(known))]

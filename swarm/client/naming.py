"""Finds the run and the task that a person means: `task`, `run/task`, or nothing at all where there is only one.

Rules for editing: pure functions of a status document. A name that fits twice is never guessed; the message names the choices.
"""

from __future__ import annotations

from swarm.errors import UsageError
from swarm.protocol import printable

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

BEGIN = "swarm run PLAN, or swarm submit PLAN"
KNOWN_MAX = 5  # runs that are named where another was asked for
ACTIVE = frozenset({"preparing", "active", "paused"})
UNDER_WAY = frozenset(
    {"pending", "ready", "running", "queued", "landing"}
)  # states of a task that has not ended


def run_of(document: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Gives the run called `name`, or with None the only one there is, or that is active, or that is not over. Raises
    `UsageError` otherwise."""
    runs: list[dict[str, Any]] = list(document.get("runs") or [])
    if name is not None:
        for run in runs:
            if run.get("id") == name:
                return run
        ids = _ids(runs)
        raise UsageError(
            f"There is no run {printable(name)}.",
            f"Nothing was done. {near(name, ids) or _known(ids)}".rstrip(),
            "swarm status" if ids else BEGIN,
        )
    meant = runs_of(document, None)
    if len(meant) == 1:
        return meant[0]
    names = ", ".join(printable(each) for each in _ids(meant))
    raise UsageError(
        f"There are several runs: {names}.", "Nothing was done.", "say which: --run ID on the command line"
    )


def runs_of(document: Mapping[str, Any], name: str | None) -> list[dict[str, Any]]:
    """Gives the runs that are meant, one at least: that called `name`, or with None all that are active, else all that are not
    over, else all. Raises `UsageError` where there is none."""
    if name is not None:
        return [run_of(document, name)]
    runs: list[dict[str, Any]] = list(document.get("runs") or [])
    if not runs:
        raise UsageError("There is no run yet.", "Nothing was done.", BEGIN)
    active = [run for run in runs if run.get("state") in ACTIVE]
    return active or [run for run in runs if not _is_over(run)] or runs


def _is_over(run: Mapping[str, Any]) -> bool:
    """Tells of a run whether it is finished, or was to find something out and has."""
    return run.get("state") == "finished" or (run.get("goal") or {}).get("stage") == "answered"


def task_of(document: Mapping[str, Any], text: str, run: str | None = None) -> tuple[str, dict[str, Any]]:
    """Gives (run id, task) for `task` or `run/task`. Raises `UsageError` where it is in no run, or in several."""
    runs = [run_of(document, run)] if run is not None else list(document.get("runs") or [])
    head, slash, rest = text.partition("/")
    found = []
    for each in runs:
        there = {
            str(task.get("id")): task for task in each.get("tasks") or [] if task.get("id") in (text, rest)
        }
        inner = rest if slash and run is None and each.get("id") == head else text
        if (task := there.get(text) or there.get(inner)) is not None:
            found.append((str(each.get("id")), task))
    if len(found) > 1:  # where a run that is finished has it too, that is not meant
        over = {each.get("id") for each in runs if _is_over(each)}
        found = [each for each in found if each[0] not in over] or found
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(printable(each) for each, _ in found)
        raise UsageError(
            f"Task {printable(text)} is in several runs: {names}.",
            "Nothing was done.",
            f"say which, for example --run {shell_word(found[0][0])} {shell_word(str(found[0][1].get('id')))}",
        )
    known = [str(task.get("id")) for each in runs for task in each.get("tasks") or []]
    raise UsageError(
        f"There is no task {printable(text)}.",
        f"Nothing was done. {near(text, known)}".rstrip(),
        "swarm status",
    )


def called(run: Mapping[str, Any], task: str) -> str:
    """Gives the word for the command line by which a task is found: with its run in front where it might be another's."""
    return shell_word(task if run.get("meant", True) else f"{run.get('id')}/{task}")


def chosen(run: Mapping[str, Any]) -> str:
    """Gives what a command about a run needs besides its name: nothing, or a blank and the option that says which."""
    return "" if run.get("meant", True) else f" --run {shell_word(str(run.get('id')))}"


def into(run: Mapping[str, Any]) -> str:
    """Gives what `swarm finish` needs besides: a branch, where a run started from none."""
    base = run.get("base")
    return " --into BRANCH" if isinstance(base, dict) and not base.get("branch") else ""


def shell_word(text: str) -> str:
    """Writes a name so that it can be typed into a shell."""
    from shlex import quote

    return quote(printable(text))


def attempt_of(task: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Gives attempt `n` of a task. Raises `UsageError` with those that there are where there is none."""
    attempts: list[dict[str, Any]] = list(task.get("attempts") or [])
    for attempt in attempts:
        if attempt.get("n") == n:
            return attempt
    numbers = ", ".join(str(each.get("n")) for each in attempts)
    there = (
        f"There is {numbers}."
        if len(attempts) == 1
        else f"There are {numbers}."
        if attempts
        else "It has had none."
    )
    raise UsageError(
        f"Task {printable(task.get('id'))} has had no attempt {n}.",
        there,
        f"say one that there is: --attempt {attempts[-1].get('n')}" if attempts else "swarm status",
    )


def tasks_by_run(
    document: Mapping[str, Any], texts: Iterable[str], run: str | None = None
) -> dict[str, list[str]]:
    """Groups tasks by the run they are in. Raises `UsageError` before anything is done where one is not clear."""
    grouped: dict[str, list[str]] = {}
    for text in texts:
        found, task = task_of(document, text, run)
        grouped.setdefault(found, []).append(str(task["id"]))
    return grouped


def near(name: str, known: list[str]) -> str:
    """Asks whether that one was meant which is most like `name`; says nothing where none is like it."""
    import difflib

    like = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {printable(like[0])}?" if like else ""


def _known(ids: list[str]) -> str:
    """Names the runs that there are, the newest where they are many."""
    newest = [printable(each) for each in ids[-KNOWN_MAX:]]
    more = f", and {len(ids) - KNOWN_MAX} older" if len(ids) > KNOWN_MAX else ""
    return f"Known: {', '.join(newest)}{more}." if newest else ""


def _ids(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(run.get("id")) for run in runs]

"""What a task changed, as `swarm diff` gives it: its patch, and a document around that. Needs no daemon.

Rules for editing: commits and trees are read by `edge.history` alone, which is imported where it is needed: it costs start-up time.
"""

from __future__ import annotations

from swarm import protocol
from swarm.client import offline

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from swarm.core.model import Attempt


def patch(top: Path, state: Path, run: str, task: str, *, attempt: int | None = None, binary: bool) -> bytes:
    """Gives what a task changed: its landing where it has landed, else the work of its newest attempt that kept any; of an
    `attempt` that is named only what that one did. Where nothing is kept yet, what the worker that runs has changed so far; raises
    `SwarmError` where that can't be told now."""
    from swarm.edge import history

    made = _work(state, run, task, attempt)
    if made is not None:
        return history.patch(top, *_ends(made), binary=binary)
    works = at_work(state, run, task, attempt)
    if works is None:
        return b""
    so_far = offline.so_far(top, state, works, binary=binary)[0]
    if _is_over(state, run, task, works):
        return patch(top, state, run, task, attempt=attempt, binary=binary)
    return so_far


def is_cut(patch: bytes) -> bool:
    """Tells whether a patch is only the beginning of one, as its last line says."""
    if not patch.endswith(b"]\n"):
        return False
    from swarm.edge import history

    return patch.endswith(history.CUT % history.DIFF_MAX_BYTES)


def document(top: Path, state: Path, run: str, task: str, *, attempt: int | None = None) -> dict[str, Any]:
    """Gives what `patch` does as a document: whose work it is, from which commit to which, each file with its lines, and the patch
    as text, in which what is no UTF-8 is replaced. Where nothing was changed `attempt`, `base` and `head` are null; `head` alone
    where the worker still runs."""
    from swarm.edge import history

    found: dict[str, Any] = {"schema": protocol.SCHEMA, "run": run, "task": task}
    made = _work(state, run, task, attempt)
    if made is None:
        works = at_work(state, run, task, attempt)
        if works is None:
            nothing = {"attempt": None, "landed": False, "base": None, "head": None}
            return {**found, **nothing, "files": [], "patch": ""}
        so_far, lines = offline.so_far(top, state, works, binary=True)
        if _is_over(state, run, task, works):
            return document(top, state, run, task, attempt=attempt)
        ends = {"attempt": works.n, "landed": False, "base": works.base, "head": None}
        return {**found, **ends, **_contents(lines, so_far)}
    base, head = (history.commit_facts(top, end).oid for end in _ends(made))
    lines = history.diff_stat(top, base, head)
    return {
        **found,
        "attempt": made.n,
        "landed": made.landed_commit is not None,
        "base": base,
        "head": head,
        **_contents(lines, history.patch(top, base, head, binary=True)),
    }


def at_work(state: Path, run: str, task: str, n: int | None) -> Attempt | None:
    """Finds the attempt that is at work, or being collected, where it is meant and nothing is kept yet of what is."""
    attempt = offline.at_work(state, run, task)
    if attempt is None or n not in (None, attempt.n):
        return None
    return attempt if _work(state, run, task, n) is None else None


def _is_over(state: Path, run: str, task: str, looked_at: Attempt) -> bool:
    """Tells whether an attempt at work has come to its end since: its worktree may have been another's by the time of the look."""
    attempt = offline.at_work(state, run, task)
    return attempt is None or attempt.n != looked_at.n


def _contents(lines: Mapping[str, tuple[int, int]], patch: bytes) -> dict[str, Any]:
    return {
        "files": [
            {"path": path, "added": added, "deleted": deleted} for path, (added, deleted) in lines.items()
        ],
        "patch": patch.decode("utf-8", "replace"),
    }


def _work(state: Path, run: str, task: str, n: int | None) -> Attempt | None:
    """Finds the attempt whose work is meant; None where nothing was kept."""
    attempts = reversed(offline.find(state, run, task)[2].attempts)
    kept = (each for each in attempts if n in (None, each.n))
    return next(
        (each for each in kept if each.landed_commit is not None or each.head not in (None, each.base)), None
    )


def _ends(made: Attempt) -> tuple[str, str]:
    """Gives the two commits between which the work of an attempt is."""
    if made.landed_commit is not None:
        return f"{made.landed_commit}^1", made.landed_commit
    assert made.head is not None
    return made.base, made.head

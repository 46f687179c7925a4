"""What a task changed, as `swarm diff` gives it: its patch, and a document around that. Needs no daemon.

Rules for editing: commits and trees are read by `edge.history` alone, which is imported where it is needed: it costs start-up time.
"""

from __future__ import annotations

from swarm import protocol
from swarm.client import offline

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from swarm.core.model import Attempt


def patch(top: Path, state: Path, run: str, task: str, *, attempt: int | None = None, binary: bool) -> bytes:
    """Gives what a task changed: its landing where it has landed, else the work of its newest attempt that kept any; of an
    `attempt` that is named only what that one did."""
    from swarm.edge import history

    made = _work(state, run, task, attempt)
    return b"" if made is None else history.patch(top, *_ends(made), binary=binary)


def document(top: Path, state: Path, run: str, task: str, *, attempt: int | None = None) -> dict[str, Any]:
    """Gives what `patch` does as a document: whose work it is, from which commit to which, each file with its lines, and the patch
    as text, in which what is no UTF-8 is replaced. Where nothing was changed `attempt`, `base` and `head` are null."""
    from swarm.edge import history

    found: dict[str, Any] = {"schema": protocol.SCHEMA, "run": run, "task": task}
    made = _work(state, run, task, attempt)
    if made is None:
        nothing = {"attempt": None, "landed": False, "base": None, "head": None}
        return {**found, **nothing, "files": [], "patch": ""}
    base, head = (history.commit_facts(top, end).oid for end in _ends(made))
    lines = history.diff_stat(top, base, head).items()
    return {
        **found,
        "attempt": made.n,
        "landed": made.landed_commit is not None,
        "base": base,
        "head": head,
        "files": [{"path": path, "added": added, "deleted": deleted} for path, (added, deleted) in lines],
        "patch": history.patch(top, base, head, binary=True).decode("utf-8", "replace"),
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

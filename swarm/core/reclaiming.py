"""Which of what idle worktrees hold, and could be made again, has to go so that it takes no more room than it may.

Rules for editing: arithmetic only. What may be made again at all is for the edge to find (`swarm/edge/regenerable.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from swarm.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Reclaimable:
    """A folder that can be made again: since when its worktree has been as it is, and the room that it takes."""

    path: str
    since: float
    size_bytes: int


def beyond(found: Iterable[Reclaimable], budget_bytes: int) -> list[Reclaimable]:
    """Lists what has to go, oldest first, until what is left takes no more than the budget; 0 is no budget."""
    oldest_first = sorted(found, key=lambda each: (each.since, each.path))
    over = sum(each.size_bytes for each in oldest_first) - budget_bytes
    going: list[Reclaimable] = []
    for each in oldest_first if budget_bytes else ():
        if over <= 0:
            break
        if each.size_bytes:
            going.append(each)
            over -= each.size_bytes
    return going

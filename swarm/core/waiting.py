"""Which ready tasks wait for a claim, and what they keep later ones from: of two that overlap the earlier goes first.

Hides that one question costs about the same however many wait: equal claims are filed once, with the best of those that want them.
Bounds keep it so in plans of a great many wildcards; beyond them the order of tasks that wait is no longer kept, and nothing else.

Rules for editing: pure; knows keys (smaller is better), names and claims, and neither states nor heaps.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from swarm.core.claims import ClaimTable
from swarm.core.model import Claim, Mode

WILD_MAX = 1_000  # different patterns with wildcards that are filed; they are compared with each other
LOOKED_MAX = 1_000  # different claims looked at for one question

Key = tuple[int, int]


class Before(NamedTuple):
    """A task that waits and goes first, and the path for which it does."""

    path: str
    task: str


class Waiting:
    """The tasks that wait, by name, each with its key and the claims that it will take."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[Key, tuple[Claim, ...]]] = {}
        self._wanting: dict[
            Claim, list[tuple[Key, str]]
        ] = {}  # heaps; what has gone is dropped when it comes up
        self._wild = 0
        # As in the overlaps of a plan: everything is filed as shared and asked for as exclusive, so that nothing is refused.
        self._table: ClaimTable[Claim] = ClaimTable()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def __contains__(self, task: str) -> bool:
        return task in self._tasks

    def tasks(self) -> dict[str, tuple[Key, tuple[Claim, ...]]]:
        """Gives everything that is known; `add` of all of it makes the same again."""
        return dict(self._tasks)

    def add(self, task: str, key: Key, claims: Iterable[Claim]) -> None:
        """Has a task wait; one that does already stays as it is."""
        if task in self._tasks:
            return
        self._tasks[task] = key, tuple(claims)
        for claim in self._tasks[task][1]:
            heap = self._wanting.get(claim)
            if heap is None:
                if (wild := _is_wild(claim)) and self._wild >= WILD_MAX:
                    continue
                self._wild += wild
                heap = self._wanting[claim] = []
                self._table.take(claim, (Claim(claim.path, Mode.SHARED),))
            heapq.heappush(heap, (key, task))

    def remove(self, task: str) -> tuple[Claim, ...]:
        """Has a task wait no more; gives its claims, nothing for one that did not wait."""
        _, claims = self._tasks.pop(task, (None, ()))
        for claim in claims:
            if claim in self._wanting:
                self._best(claim)
        return claims

    def first(self, claims: Iterable[Claim], key: Key) -> Before | None:
        """Gives the best of the tasks that wait for what meets these claims and come before `key`; None when none does."""
        found: tuple[Key, Before] | None = None
        for claim in claims:
            for holding in [*islice(self._table.meeting(Claim(claim.path), claim), LOOKED_MAX)]:
                found = self._better(found, key, claim, holding.holder)
            found = self._better(found, key, claim, claim)
        return None if found is None else found[1]

    def _better(
        self, found: tuple[Key, Before] | None, key: Key, claim: Claim, other: Claim
    ) -> tuple[Key, Before] | None:
        if claim.mode is other.mode is Mode.SHARED or other not in self._wanting:
            return found
        best = self._best(other)
        if best is None or best[0] >= (key if found is None else found[0]):
            return found
        return best[0], Before(other.path, best[1])

    def _best(self, claim: Claim) -> tuple[Key, str] | None:
        """Gives the best task that wants a claim; one that nobody wants any more is taken out."""
        heap = self._wanting[claim]
        while heap:
            key, task = heap[0]
            now, claims = self._tasks.get(task, (None, ()))
            if now == key and claim in claims:
                return key, task
            heapq.heappop(heap)
        del self._wanting[claim]
        self._table.release(claim)
        self._wild -= _is_wild(claim)
        return None


def _is_wild(claim: Claim) -> bool:
    return "*" in claim.path or "?" in claim.path

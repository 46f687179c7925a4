"""Makes a history that shows a fault as small as it gets, by leaving out one thing after the other.

Rules for editing: what is left out only ever makes a history smaller, so that this comes to an end; whether it still shows the
fault is the caller's question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.hostile.histories import Attempt, History, Step

TRIES_MAX = 400


def shrink(history: History, fails: Callable[[History], bool], *, tries_max: int = TRIES_MAX) -> History:
    """Gives the smallest history found that still fails."""
    tries = 0
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(history):
            tries += 1
            if tries > tries_max:
                return history
            if fails(candidate):
                history, smaller = candidate, True
                break
    return history


def _smaller(history: History) -> Iterator[History]:
    """Lists what is one thing smaller, the largest things first."""
    for attempts in _without_one(history.attempts):
        yield history._replace(attempts=attempts)
    for before in _without_one(history.before):
        yield history._replace(before=before)
    for at, attempt in enumerate(history.attempts):
        for steps in _without_one(attempt.steps):
            yield history._replace(attempts=_with(history.attempts, at, attempt._replace(steps=steps)))
    for at, step in enumerate(history.before):
        for less in _smaller_step(step):
            yield history._replace(before=_with(history.before, at, less))
    for at, attempt in enumerate(history.attempts):
        for changed in _smaller_attempt(attempt):
            yield history._replace(attempts=_with(history.attempts, at, changed))


def _smaller_attempt(attempt: Attempt) -> Iterator[Attempt]:
    if attempt.start:
        yield attempt._replace(start=0)
    for at, step in enumerate(attempt.steps):
        for less in _smaller_step(step):
            yield attempt._replace(steps=_with(attempt.steps, at, less))


def _smaller_step(step: Step) -> Iterator[Step]:
    for operations in _without_one(step.operations):
        yield step._replace(operations=operations)
    for merged in _without_one(step.merged):
        yield step._replace(merged=merged)
    if step.on is not None:
        yield step._replace(on=None)


def _without_one(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for at in range(len(items)):
        yield items[:at] + items[at + 1 :]


def _with(items: tuple[Any, ...], at: int, item: Any) -> tuple[Any, ...]:
    return (*items[:at], item, *items[at + 1 :])

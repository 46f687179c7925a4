"""Conflicts that are foreseen while workers still work: whose work is worth a look, and what is told of it.

Claims keep most work apart. What is left are workers that share a path with others, and those that claim none: what they have
changed so far is held against each other and against staging by `daemon/foreseeing`, and an event says what came of it.

Rules for editing: pure; it is told, and decides nothing: what happens is decided when the work is collected and merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from swarm.core import messages as m
from swarm.core.model import Mode, Step
from swarm.core.run import Run
from swarm.core.state import Swarm, Turn, live

STAGING = "staging"  # stands where others are named by run and task
PATHS_TOLD = 50


class AtRisk(NamedTuple):
    """An attempt at work whose changes may meet others', where it works and what it began from; `staging` is where that stands."""

    run: str
    task: str
    attempt: int
    worktree: str
    base: str
    staging: str


def at_risk(swarm: Swarm) -> list[AtRisk]:
    """Lists whose work to look at: none of a run in which a single one could only meet what it began from."""
    found = []
    for run in swarm.active():
        those = list(_of(run))
        if len(those) > 1 or any(each.base != each.staging for each in those):
            found += those
    return found


def _of(run: Run) -> Iterator[AtRisk]:
    for name in run.live:
        task = run.tasks[name]
        attempt = task.live
        if attempt is None or attempt.step is not Step.RUNNING or not attempt.worktree:
            continue
        claims = run.shown_claims(task)
        if not claims or any(claim.mode is Mode.SHARED for claim in claims):
            yield AtRisk(run.id, name, attempt.n, attempt.worktree, attempt.base, run.published)


def compared(turn: Turn, event: m.WorkCompared) -> None:
    """Remembers in which paths a worker's changes so far would conflict with another's, and tells it."""
    run, task, attempt = live(turn, event, Step.RUNNING)
    others = [each for each in attempt.foreseen if each[0] != event.other]
    attempt.foreseen = (*others, *((event.other, path) for path in event.paths[:PATHS_TOLD]))
    if event.paths:
        turn.tell("ConflictForeseen", run, task, other=event.other, paths=list(event.paths[:PATHS_TOLD]))

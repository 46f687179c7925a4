"""A plan file that is watched: whoever saves it adds work to its run.

Rules for editing: pure; that the file was saved, and what is in it, comes in as a plan like any other.
"""

from __future__ import annotations

from swarm.core import messages as m
from swarm.core.state import Turn, kept_run


def watched(turn: Turn, event: m.PlanWatched) -> None:
    """Remembers which file a run's plan is watched in; "" for none any more."""
    run = kept_run(turn, event.run)
    run.watched, run.watch_problem = event.source, ""
    turn.tell("BacklogWatched", run, source=event.source)


def refused(turn: Turn, event: m.WatchedPlanRefused) -> None:
    """Remembers why the file as it was saved last is not taken in; "" when it is again."""
    run = kept_run(turn, event.run)
    run.watch_problem = event.text
    if event.text:
        turn.tell("BacklogRefused", run, source=run.watched, text=event.text)

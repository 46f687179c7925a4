"""What a daemon does before its first turn: open the journal, rebuild the swarm from it, and look after what a crash left.

There is no second way of doing things for recovery: the replayed state says which commands are outstanding, and carrying them
out finds what is already done. Here is only what no command stands for: stale locks and half-removed worktrees.

Rules for editing: everything here may be killed at any point and done again.
"""

from __future__ import annotations

from swarm.core import machine
from swarm.core.messages import event_from_json
from swarm.core.places import Places
from swarm.core.state import IllegalEvent, Swarm
from swarm.edge.journal import Journal
from swarm.errors import SwarmError


def open_journal(places: Places) -> Journal:
    """Opens the journal for writing; where a landing repository stands beside it, it must have been there before."""
    return Journal.open(places.journal, expect_existing=(places.landing / "HEAD").exists())


def replay(journal: Journal, *, check: bool = True) -> Swarm:
    """Rebuilds the swarm from the journal's events. Raises `SwarmError` where they don't make sense to this version."""
    swarm = Swarm()
    for row in journal.read(kind="event", check=check):
        try:
            machine.step(swarm, event_from_json(row.data))
        except (IllegalEvent, ValueError, KeyError) as error:
            raise SwarmError(
                f"Record {row.seq} of {journal.path} can't be taken in: {error}.",
                "Nothing was started and nothing was changed.",
                "start the version of swarm that wrote it, or keep the file and report this",
            ) from error
    return swarm

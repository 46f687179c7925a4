"""Which runs were discarded, noted beside the journal: of a run refs and folders prove that it was, and of these nothing is left.

So a journal that was put back from a backup is known to be older than a discard. A later run may have the same id, therefore the
moment at which a run began names it as well. Rules for editing: a run is noted before anything of it is removed, and once more when
all of it is; both stay noted. Two runs may be removed at once, in two threads of the one daemon: what is read, changed and written
by one is not written over by the other.
"""

from __future__ import annotations

import threading

from swarm.core.places import Places
from swarm.core.state import Swarm
from swarm.edge.place import read, write_whole

_noting = threading.Lock()


def note(places: Places, run: str, created_at: float, *, done: bool) -> None:
    """Notes that a run is about to be removed, or that it has been."""
    with _noting:
        noted = read(places.discards)
        noted.setdefault(run, {})[repr(created_at)] = done
        write_whole(places.discards, noted, durable=True)


def is_done(places: Places, run: str, created_at: float) -> bool:
    """Tells whether all of a run has been removed: what bears its id since then is another one."""
    return _noted(places, run, created_at) is True


def unknown(places: Places, swarm: Swarm) -> list[str]:
    """Gives the runs of which the swarm does not know that they were given up."""
    runs = [run for run in swarm.runs.values() if not run.discarding]
    return [run.id for run in runs if _noted(places, run.id, run.created_at) is not None]


def _noted(places: Places, run: str, created_at: float) -> bool | None:
    done: bool | None = read(places.discards).get(run, {}).get(repr(created_at))
    return done

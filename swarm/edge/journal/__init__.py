"""The journal: what happened, in order, and what is kept beside it so that it can be read quickly and is never the only copy.

`store` is the journal itself, one SQLite file; `snapshot` is the swarm at one record of it, `transcript` every record once more as
text.

Rules for editing: from outside this folder only what is named here is used, and the module `snapshot`.
"""

from swarm.core.places import Places
from swarm.edge.journal.store import (
    Journal,
    JournalDamaged,
    JournalFull,
    JournalStuck,
    JournalTaken,
    Record,
    Row,
    salvage,
    write_anew,
)
from swarm.edge.journal.transcript import Transcript, TranscriptDamaged

__all__ = [
    "Journal",
    "JournalDamaged",
    "JournalFull",
    "JournalStuck",
    "JournalTaken",
    "Record",
    "Row",
    "Transcript",
    "TranscriptDamaged",
    "ever_used",
    "salvage",
    "write_anew",
]


def ever_used(places: Places) -> bool:
    """Tells whether there has ever been a daemon here: then there must be a journal."""
    there = (places.journal, places.landing / "HEAD", places.snapshot, places.transcript)
    return any(each.exists() for each in there)

"""The journal: what happened, in order, and what is kept beside it so that it can be read quickly and is never the only copy.

`store` is the journal itself, one SQLite file. Rules for editing: only what is named here is used from outside this folder.
"""

from swarm.edge.journal.store import (
    Journal,
    JournalDamaged,
    JournalFull,
    JournalTaken,
    Record,
    Row,
)

__all__ = ["Journal", "JournalDamaged", "JournalFull", "JournalTaken", "Record", "Row"]

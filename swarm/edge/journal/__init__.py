"""The journal: what happened, in order, and what is kept beside it so that it can be read quickly and is never the only copy.

`store` is the journal itself, one SQLite file; `snapshot` is the swarm at one record of it.

Rules for editing: from outside this folder only what is named here is used, and the module `snapshot`.
"""

from swarm.edge.journal.store import (
    Journal,
    JournalDamaged,
    JournalFull,
    JournalStuck,
    JournalTaken,
    Record,
    Row,
)

__all__ = ["Journal", "JournalDamaged", "JournalFull", "JournalStuck", "JournalTaken", "Record", "Row"]

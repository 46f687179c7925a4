"""The journal: what happened, in order, and what is kept beside it so that it can be read quickly and is never the only copy.

`store` is the journal itself, one SQLite file of `rows`; `snapshot` is the swarm at one record of it; `transcript` is every record
once more, as text.

Rules for editing: from outside this folder only what is named here is used, and the module `snapshot`.
"""

from contextlib import suppress

from swarm.core.places import Places
from swarm.edge.journal.rows import Record, Row, data_of, record, record_of
from swarm.edge.journal.store import (
    Journal,
    JournalDamaged,
    JournalFull,
    JournalStuck,
    JournalTaken,
    refuse_long,
    salvage,
    write_anew,
)
from swarm.edge.journal.transcript import Transcript, TranscriptDamaged, hold_against

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
    "data_of",
    "ever_used",
    "hold_against",
    "open_to_read",
    "record",
    "record_of",
    "refuse_damaged",
    "refuse_long",
    "salvage",
    "write_anew",
]


def ever_used(places: Places) -> bool:
    """Tells whether there has ever been a daemon here: then there must be a journal."""
    there = (places.journal, places.landing / "HEAD", places.snapshot, places.transcript)
    return any(each.exists() for each in there)


def open_to_read(places: Places) -> Journal:
    """Opens the journal to read, where it has the last record that its transcript has: an older copy, or one whose -wal file is
    lost, is whole in itself and would be believed.

    Raises `JournalDamaged`. The transcript is looked at first: a daemon may write meanwhile, and always the journal before it.
    """
    line = None
    with suppress(TranscriptDamaged, OSError):  # then the journal alone is believed
        line = Transcript(places.transcript).last()
    journal = Journal.open(places.journal, readonly=True)
    try:
        if line is not None:
            hold_against(line, journal)
    except BaseException:
        journal.close()
        raise
    return journal


def refuse_damaged(places: Places) -> None:
    """Reads all of the journal, and raises `JournalDamaged` where it is not as it was written; a start reads what it needs."""
    with open_to_read(places) as journal:
        problems = journal.verify()
    if problems:
        more = f", and {len(problems) - 1} more (swarm audit lists them)" if problems[1:] else ""
        raise JournalDamaged(
            f"The journal is damaged: {problems[0]}{more}.",
            "What happened so far can't be trusted from it; nothing was changed.",
            "swarm recover --journal rebuilds it from what is written beside it; the damaged file is kept",
        )

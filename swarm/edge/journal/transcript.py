"""The transcript: every record of the journal once more, as lines of JSON in files of their own, for the day the journal is gone.

Hides these files. A line is written when its record is in the journal, never before, so that the transcript is at most behind it,
and then it catches up: one that knows more shows that the journal lost its end. Each line carries the journal's own chain of
checksums, by which every change, gap and cut is noticed. A file that has grown to `FILE_BYTES_MAX` is packed, to a seventh.

Rules for editing: it is never the reason that an append fails. Lines that are whole are never changed or removed; what is no
longer the journal's is moved aside under another name. Old lines are read for ever, so no field is renamed.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from swarm.crashpoints import crash_at
from swarm.edge.journal.rows import Record, chained
from swarm.edge.journal.store import Journal, JournalDamaged

FILE_BYTES_MAX = 2 << 20  # packing so much takes 20 ms, once in some thousand records
SYNCED = frozenset(
    {"Published"}
)  # a landing is told when it is here too; a sync takes as long as the journal's own commit
_TAIL_BYTES = 1 << 16
_text = json.encoder.encode_basestring_ascii


class TranscriptDamaged(Exception):
    """A line is not what was written, or lines are missing; the message says where."""


class Line(NamedTuple):
    """A record with its number and the checksum of the chain there."""

    seq: int
    record: Record
    checksum: int

    @property
    def row(self) -> tuple[Any, ...]:
        """The record as it is in the journal's file."""
        return (self.seq, *self.record, self.checksum)


class Transcript:
    """The transcript in a folder. To be written by one process only, the one that writes the journal.

    `problem` says why it can't follow at present; it tries again with each append.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seq = 0  # the last record that it has
        self.problem = ""
        self._file: IO[bytes] | None = None
        self._size = 0
        self._lock = threading.Lock()
        self._journal: Journal

    # --- reading --------------------------------------------------------------------------------------------------------

    def lines(self) -> Iterator[Line]:
        """Gives every line in order, held against the chain. Raises `TranscriptDamaged` at the first that does not fit.

        What a kill left half written at the very end is no damage.
        """
        after = checksum = 0
        files = self._files()
        for place, file in enumerate(files):
            for raw in _content(file):
                line = _read(raw)
                if line is None and place == len(files) - 1 and not raw.endswith(b"\n"):
                    return
                if line is None or line.seq != after + 1 or not _follows(line, checksum):
                    raise TranscriptDamaged(f"record {after + 1} is not what was written to {file.name}")
                after, checksum = line.seq, line.checksum
                yield line

    def last(self) -> Line | None:
        """Gives the last whole line, looking at the end of the last file only. Raises `TranscriptDamaged` where that is none."""
        for file in reversed(self._files()):
            raw = _last_line(file)
            if raw:
                line = _read(raw)
                if line is None:
                    raise TranscriptDamaged(f"the end of {file.name} is not what was written")
                return line
        return None

    def last_of_whole(self) -> Line | None:
        """Gives the last whole line, having looked at every one. Raises `TranscriptDamaged`."""
        return next(iter(deque(self.lines(), maxlen=1)), None)

    def exists(self) -> bool:
        """Tells whether there is anything of it."""
        return bool(self._files())

    def _files(self) -> list[Path]:
        """Its files in order; where a kill left one both packed and not, the one that is not."""
        found: dict[int, Path] = {}
        with contextlib.suppress(FileNotFoundError):
            for file in sorted(self.folder.iterdir()):
                first, _, kind = file.name.partition(".")
                if first.isdigit() and kind in ("jsonl", "jsonl.gz"):
                    found.setdefault(int(first), file)
        return [found[first] for first in sorted(found)]

    # --- writing --------------------------------------------------------------------------------------------------------

    def follow(self, journal: Journal) -> None:
        """Catches up with the journal, and from then on has each record as soon as the journal has it.

        Raises `JournalDamaged` where the journal does not have what was written here: it is older, or another one.
        """
        line = self.last()
        if line is not None:
            hold_against(line, journal)
            if journal.row_at(line.seq) != line.row:
                raise TranscriptDamaged(f"record {line.seq} is not what was written")
            self.seq = line.seq
        self._journal = journal
        journal.follower = self
        self.take([])

    def take(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Takes in rows that the journal has now, and those before them that are not here yet. Never raises for want of room."""
        with self._lock:
            try:
                if self._file is None:
                    self._open()
                if rows and rows[0][0] == self.seq + 1:
                    self._add(rows)
                else:
                    for some in self._journal.chunks(self.seq):
                        self._add(some)
                self.problem = ""
            except OSError as error:
                self.problem = str(error)

    def _open(self) -> None:
        """Makes it ready to go on after its last whole line: what a kill left half done is completed."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for unfinished in self.folder.glob("*.new"):
            unfinished.unlink()
        files = self._files()
        for file in files[:-1]:
            if file.suffix == ".jsonl":
                _pack(file)
        if files and files[-1].suffix == ".jsonl":
            self._go_on(files[-1])
            self._file = _opened(files[-1])

    def _go_on(self, file: Path) -> None:
        """Cuts off what follows the last whole line: the journal has that record, whole."""
        content = file.read_bytes()
        self._size = content.rfind(b"\n") + 1
        if self._size < len(content):
            os.truncate(file, self._size)

    def _add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Writes rows that follow on the last; all or none."""
        if self._size >= FILE_BYTES_MAX:
            self._turn_over()
        if self._file is None:
            self._file, self._size = _opened(self.folder / f"{rows[0][0]:012}.jsonl"), 0
        content = b"".join(map(_written, rows))
        try:
            written = self._file.write(content)
            if written != len(content):
                raise OSError(28, "written in part only")
            crash_at("transcript.written")
            if not SYNCED.isdisjoint([row[3] for row in rows]):
                os.fdatasync(self._file.fileno())
        except OSError:
            os.ftruncate(self._file.fileno(), self._size)
            raise
        self._size += len(content)
        self.seq = rows[-1][0]

    def _turn_over(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file, self._size = None, 0
            _pack(self._files()[-1])

    def close(self) -> None:
        """Writes through to the disk, and closes."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def move_aside(self, place: Path) -> None:
        """Moves the folder away; the next one begins empty. Raises `OSError`."""
        self.close()
        self.folder.rename(place)
        self.seq = self._size = 0


def _opened(file: Path) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return open(os.open(file, flags, 0o600), "ab", buffering=0)


def hold_against(line: Line, journal: Journal) -> None:
    """Raises `JournalDamaged` where the journal does not have what this line says was written to it."""
    found = journal.row_at(line.seq)
    if found is not None and found[-1] == line.checksum:
        return
    if found is None:
        cause = f"The journal {journal.path} ends at record {journal.last_seq()}, but record {line.seq} had been written."
    else:
        cause = (
            f"The journal {journal.path} has another record {line.seq} than the one that had been written."
        )
    raise JournalDamaged(
        cause,
        "It is an older copy, or its -wal file was lost. Nothing was started and nothing was changed.",
        "swarm recover --journal brings back what is missing",
    )


def _written(row: tuple[Any, ...]) -> bytes:
    seq, kind, at, name, run, task, attempt, text, checksum = row
    run = "null" if run is None else _text(run)
    task = "null" if task is None else _text(task)
    attempt = "null" if attempt is None else attempt
    return (
        f'{{"seq":{seq},"checksum":{checksum},"kind":{_text(kind)},"at":{at!r},"type":{_text(name)},'
        f'"run":{run},"task":{task},"attempt":{attempt},"data":{text}}}\n'
    ).encode()


def _read(raw: bytes) -> Line | None:
    """Reads a line; None where it is none. The data stays as it was written, since the chain is made of it."""
    head, mark, text = raw.partition(b',"data":')
    if not mark or not text.endswith(b"}\n"):
        return None
    try:
        found = json.loads(head + b"}")
        record = (
            *(found[name] for name in ("kind", "at", "type", "run", "task", "attempt")),
            text[:-2].decode(),
        )
        return Line(found["seq"], record, found["checksum"])
    except (ValueError, KeyError, TypeError):
        return None


def _follows(line: Line, checksum: int) -> bool:
    try:
        return chained(checksum, line.seq, line.record) == line.checksum
    except UnicodeEncodeError:  # no journal ever held such a text
        return False


def _content(file: Path) -> Iterator[bytes]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            yield from opened
    except (OSError, EOFError, zlib.error) as error:
        raise TranscriptDamaged(f"{file.name} can't be read: {error}") from error


def _last_line(file: Path) -> bytes:
    """Gives the last whole line of a file, empty where it has none."""
    if file.suffix == ".gz":
        content = b"".join(_content(file))
    else:
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - _TAIL_BYTES))
            content = opened.read()
            if content.count(b"\n") < 2 and size > _TAIL_BYTES:  # a very long line
                opened.seek(0)
                content = opened.read()
    end = content.rfind(b"\n")
    return content[content.rfind(b"\n", 0, end) + 1 : end + 1] if end >= 0 else b""


def _pack(file: Path) -> None:
    """Packs a file that is full; killed in between, it is there as it was."""
    packed = file.with_name(f"{file.name}.gz")
    new = file.with_name(f"{file.name}.gz.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as opened:
        opened.write(gzip.compress(file.read_bytes(), compresslevel=1, mtime=0))
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(new, packed)
    file.unlink()

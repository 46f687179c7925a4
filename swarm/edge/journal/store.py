"""The journal: what happened, in order, in one SQLite file (WAL, synchronous=FULL).

Hides SQLite. A record is an event (what the machine is rebuilt from) or a fact (told to people); both share
one numbering that starts at 1 and has no gaps. `append` is one durable transaction: when it returns the records
survive a kill and a power cut, when it raises the file is as it was before. An error of a commit on a failing
disk is the one exception: the records may then appear at the next opening, so the daemon stops at such a failure
and reads the file again. `JournalStuck` is none: what it refuses can be appended again as it is.

Rules for editing: every write checks the epoch in its own transaction (whoever lost the lock must not
write); a change of schema is a new function at the end of `_MIGRATIONS` and never an edit of an old one; nothing
here ever starts empty where something was before. A `Journal` may be used from several threads.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from swarm.crashpoints import crash_at
from swarm.edge.journal import seal
from swarm.edge.journal.rows import Record, Row, chained, data_of, fitting
from swarm.errors import Refused, SwarmError

APPLICATION_ID = (
    0x53574A31  # "SWJ1" in the header: told apart from other SQLite files before anything is read
)
BUSY_TIMEOUT_S = 10.0
ROWS_AT_ONCE = 2000  # one read transaction per chunk, so that a slow reader never holds up checkpoints
CHECKED_ON_OPEN_BYTES = 64 << 20  # quick_check reads every page: about 0.1 s for this much
PROBLEMS_MAX = 100
WAL_KEPT_BYTES = 16 << 20
INSERTED_AT_ONCE = 64
_NO_ROOM_BYTES = 64 << 10
_IO_ERROR = 10  # sqlite's primary codes, the low byte of an extended one
_FULL = 13
_NOT_A_DATABASE = 26
_CORRUPT = 11
# Somebody else holds it; no memory; read-only; no descriptor. They pass, and nothing has been written.
_STUCK = frozenset({5, 7, 8, 14})
# Of errors of the disk those of writing and of memory. One of fsync is none of them: nobody knows then what is on the disk.
_STUCK_IO = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_NOMEM, sqlite3.SQLITE_IOERR_SHMSIZE})


# The module itself trips over words of SQLite's that hold a damaged name.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)

T = TypeVar("T")


class JournalTaken(Refused):
    """Another daemon began a newer epoch, or the file was replaced: this process must not write any more."""


PATH_BYTES_MAX = 500  # SQLite takes 512 (os_unix.c); the rest is for the names of our draft and its files


class JournalStuck(SwarmError):
    """The machine does not let the journal be written at present; it stands as it was, and the same append may be tried again."""


class JournalFull(JournalStuck):
    """There is no room to write."""


class JournalDamaged(SwarmError):
    """The file is missing, torn, or not a journal that this version can read."""


class Follower(Protocol):
    """Is told of rows (number, columns, checksum) as soon as they are in the journal; never raises."""

    def take(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Takes in what the journal has now."""

    def close(self) -> None:
        """The journal is being closed."""


class Journal:
    """An open journal; made by `Journal.open`, to be closed (it is its own context manager)."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, *, readonly: bool, scratch: Path | None = None
    ) -> None:
        self.path = path
        self.readonly = readonly
        self._connection = connection
        self._scratch = scratch
        self._lock = threading.RLock()
        self._epoch: int | None = None
        self._tip: tuple[int, int] | None = (
            None  # last record and its checksum, as far as we know: nobody else moves them now
        )
        self.follower: Follower | None = None
        found = os.stat(path)
        self._inode = (found.st_dev, found.st_ino)

    @classmethod
    def open(cls, path: Path, *, readonly: bool = False, expect_existing: bool = False) -> Journal:
        """Opens the journal at `path`, making it where there is none.

        Read-only opening needs no daemon, works while one writes, and on a file system that can't be written.
        With `expect_existing` (other state is beside it) a missing or empty file is an error, not a fresh start.
        Raises `JournalDamaged`, or `JournalFull` where there is no room to create it, `Refused` where its path is too long.
        """
        refuse_long(path)
        _refuse_absence(path, must_exist=readonly or expect_existing)
        try:
            if readonly:
                return cls._open_to_read(path)
            _create(path)
            connection = _connect(path)
            try:
                _check_pages(connection, path)
                _check_seal(connection, path)
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(f"PRAGMA journal_size_limit={WAL_KEPT_BYTES}")
                _migrate(connection, path)
                # What is read may be in the system's memory alone, where a sync failed before: here it is written once more.
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                return cls(path, connection, readonly=False)
            except BaseException:
                connection.close()
                raise
        except _ERRORS as error:
            raise _explained(error, path) from error

    @classmethod
    def _open_to_read(cls, path: Path) -> Journal:
        connection, scratch = _connect_to_read(path)
        try:
            _check_version(connection, path, expected=(len(_MIGRATIONS),))
            return cls(path, connection, readonly=True, scratch=scratch)
        except BaseException:
            connection.close()
            _drop(scratch)
            raise

    def close(self) -> None:
        """Closes the file; closing twice is harmless."""
        with self._lock:
            if self.follower is not None:
                self.follower.close()
            self._connection.close()
            _drop(self._scratch)

    def seal(self) -> None:
        """Closes the file, and notes what it is to the byte: nothing is written any more until it is opened to be written."""
        with self._lock:
            last = _last(self._connection)
            self.close()
            seal.put(self.path, last)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- writing --------------------------------------------------------------------------------------------

    def begin_epoch(self) -> int:
        """Begins the epoch of a daemon that just took the lock, and gives its number; only this `Journal` may now write."""
        assert not self.readonly
        with self._lock:
            self._epoch = None

            def begin() -> int:
                self._connection.execute("UPDATE head SET epoch = epoch + 1")
                epoch = self._head()[0]
                self._connection.execute("DROP TRIGGER IF EXISTS temp.appended")
                self._connection.execute(_TRIGGER.format(epoch=epoch))
                return epoch

            self._epoch, self._tip = self._durably(begin), None
            return self._epoch

    def append(self, records: Sequence[Record], *, after: int | None = None) -> int:
        """Remembers the records durably, all or none, and gives the number of the last.

        With `after`, the last number that the caller knows, an append that failed may be tried again: where it had been
        written all the same, it is not written twice. Raises `JournalTaken` when somebody else began an epoch (or this
        one never did), `JournalStuck` when the machine does not let it write; nothing was written then.
        """
        if not records:
            return self.last_seq()
        with self._lock:
            self._check_not_replaced()
            tip, self._tip = self._tip, None  # not known again before this has succeeded
            seq, checksum = tip or self._durably(self._current_tip)
            if after is not None and seq != after:
                self._tip = self._written_already(records, after, (seq, checksum))
                return self._tip[0]
            rows: list[tuple[Any, ...]] = []
            for record in records:
                seq += 1
                checksum = chained(checksum, seq, record)
                rows.append((seq, *record, checksum))
            self._durably(lambda: self._insert(rows), one_statement=len(rows) <= INSERTED_AT_ONCE)
            self._tip = (seq, checksum)
            if self.follower is not None:
                self.follower.take(rows)
            return seq

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Inserts rows, many by one statement: each lets other threads have the interpreter and must get it back. `executemany` of
        one does so once less, as it asks for no number of the last row. The trigger checks the epoch and moves the head."""
        for start in range(0, len(rows), INSERTED_AT_ONCE):
            some = rows[start : start + INSERTED_AT_ONCE]
            self._connection.executemany(_inserting(len(some)), ([*chain.from_iterable(some)],))

    def _written_already(
        self, records: Sequence[Record], after: int, tip: tuple[int, int]
    ) -> tuple[int, int]:
        """Gives the last record where exactly these follow `after`, and nothing else."""
        expected = self.checksum_at(after) or 0
        for number, record in enumerate(records, after + 1):
            expected = chained(expected, number, record)
        if (after + len(records), expected) != tip:
            raise _damaged(self.path, f"it ends with record {tip[0]}, where {after} was the last")
        return tip

    def _current_tip(self) -> tuple[int, int]:
        """Reads the number and checksum of the last record, where this is still the daemon's epoch."""
        epoch, seq, checksum = self._head()
        if epoch != self._epoch:
            raise self._taken()
        return seq, checksum

    def _taken(self) -> JournalTaken:
        return JournalTaken(
            f"The journal {self.path} is in epoch {self._head()[0]}, this process in {self._epoch or 'none'}.",
            "Another daemon took over; nothing was written.",
            "swarm status shows the one that runs.",
        )

    def _durably(self, work: Callable[[], T], *, one_statement: bool = False) -> T:
        """Does work in one transaction; one statement is one by itself. Not a context manager: its generator costs as much here as
        two statements."""
        assert not self.readonly
        execute = self._connection.execute
        try:
            if not one_statement:
                execute("BEGIN IMMEDIATE")
            try:
                crash_at("journal.begun")
                result = work()
                if not one_statement:
                    crash_at("journal.written")
                    execute("COMMIT")
                crash_at("journal.committed")
            except BaseException:
                if self._connection.in_transaction:
                    execute("ROLLBACK")
                raise
        except _ERRORS as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
                raise self._taken() from error
            raise _explained(error, self.path) from error
        return result

    def _check_not_replaced(self) -> None:
        try:
            found = os.stat(self.path)
        except PermissionError as error:
            found = _reached_again(self.path, error)
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._inode:
            raise JournalTaken(
                f"The journal {self.path} was moved, deleted or replaced while it was open.",
                "Writing on would be lost, so nothing was written.",
                "Put the file back, then swarm recover.",
            )

    def _head(self) -> tuple[int, int, int]:
        row = self._connection.execute("SELECT epoch, seq, checksum FROM head").fetchone()
        epoch, seq, checksum = self._whole_head(row)
        return epoch, seq, checksum

    def _whole_head(self, row: tuple[Any, ...] | None) -> tuple[int, ...]:
        """Gives what was read of the head. Raises `JournalDamaged` where damage has left none, or made it no number."""
        if row is None or not all(isinstance(each, int) for each in row):
            raise _damaged(self.path, "its head is not what was written")
        return row

    # --- reading --------------------------------------------------------------------------------------------

    def read(
        self,
        after: int = 0,
        *,
        kind: str | None = None,
        run: str | None = None,
        task: str | None = None,
        types: Container[str] | None = None,
        limit: int | None = None,
        check: bool = False,
    ) -> Iterator[Row]:
        """Gives the records numbered above `after`, in order, that fit every filter given; at most `limit`.

        With `check` the chain of checksums is followed on the way: so a daemon rebuilds its state.
        Raises `JournalDamaged` where the file can't be read or (with `check`) is not what was written.
        """
        rows = self._checked_rows(after) if check else self._rows(after, (kind, run, task))
        fits = (row for row in fitting(rows, kind, run, task) if types is None or row[1][2] in types)
        for seq, record in islice(fits, limit):
            try:
                data = data_of(record)
            except ValueError as error:
                raise _damaged(self.path, f"record {seq} is not JSON any more") from error
            yield Row(seq, record[0], data)

    def chunks(self, after: int) -> Iterator[list[tuple[Any, ...]]]:
        """Gives the rows above `after` as they are in the file: number, columns, checksum; many at once."""
        while chunk := self._chunk(after, _NO_FILTERS):
            yield chunk
            after = chunk[-1][0]

    def _rows(self, after: int, filters: _Filters) -> Iterator[tuple[int, Record]]:
        chunk = self._chunk(after, filters)
        while chunk:
            for seq, *columns, _checksum in chunk:
                yield seq, tuple(columns)
            chunk = self._chunk(seq, filters) if len(chunk) == ROWS_AT_ONCE else []

    def _checked_rows(self, after: int) -> Iterator[tuple[int, Record]]:
        """Every row after `after`, each held against the chain: a chain can't be followed through filtered rows."""
        found = self.checksum_at(after)
        if found is None:
            raise _damaged(self.path, f"record {after} is missing")
        checksum = found
        while chunk := self._chunk(after, _NO_FILTERS):
            for seq, *rest, stored in chunk:
                record: Record = tuple(rest)
                checksum = chained(checksum, seq, record)
                if seq != after + 1 or checksum != stored:
                    raise _damaged(self.path, f"record {after + 1} is not what was written")
                after = seq
                yield seq, record
        if self._promised(after) > after:
            raise _damaged(self.path, f"the records after {after} are missing")

    def _chunk(self, after: int, filters: _Filters) -> list[Any]:
        where = ["seq > ?"]
        values: list[Any] = [after]
        for column, value in zip(("kind", "run", "task"), filters, strict=True):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        query = f"SELECT * FROM journal WHERE {' AND '.join(where)} ORDER BY seq LIMIT {ROWS_AT_ONCE}"  # noqa: S608
        return self._all(query, values)

    def _promised(self, after: int) -> int:
        """The last number by the head, for a reader who found nothing above `after`; newer rows are no damage."""
        rows = self._all("SELECT head.seq, coalesce((SELECT max(seq) FROM journal), 0) FROM head", ())
        promised, present = self._whole_head(next(iter(rows), None))
        return promised if present <= after else after

    def count(self, kind: str | None = None) -> int:
        """Gives how many records there are, of one kind or of all."""
        if kind is None:
            return int(self._all("SELECT count(*) FROM journal", ())[0][0])
        return int(self._all("SELECT count(*) FROM journal WHERE kind = ?", (kind,))[0][0])

    def last_seq(self) -> int:
        """Gives the number of the last record, 0 where there is none."""
        return self._whole_head(next(iter(self._all("SELECT seq FROM head", ())), None))[0]

    def position(self) -> tuple[int, int]:
        """Gives the number of the last record and the checksum of the chain there."""
        with self._lock:
            return self._head()[1:]

    def checksum_at(self, seq: int) -> int | None:
        """Gives the checksum of the chain at a record, 0 before the first; None where there is none that is a number."""
        if seq == 0:
            return 0
        found = self.row_at(seq)
        return found[-1] if found is not None and isinstance(found[-1], int) else None

    def row_at(self, seq: int) -> tuple[Any, ...] | None:
        """Gives a row as it is in the file; None where there is no such record."""
        found = self._all("SELECT * FROM journal WHERE seq = ?", (seq,))
        return found[0] if found else None

    def verify(self) -> list[str]:
        """Gives every difference between the file and what was written: damaged pages, changed or missing records.

        At most 100 sentences; none means that the file is whole. What a lost `-wal` file held can't be noticed here
        (the file is then whole, and older): that is what the comparison with the landing repository is for.
        """
        problems: list[str] = []
        try:
            if seal.is_broken(self.path, _last(self._connection)):
                problems.append("it is not what was closed: a byte was changed since")
            pages = self._all("PRAGMA quick_check(20)", ())
            problems += [f"SQLite: {row[0]}" for row in pages if row[0] != "ok"]
            for problem in self._broken_links():
                problems.append(problem)
                if len(problems) >= PROBLEMS_MAX:
                    break
        except JournalDamaged as error:
            problems.append(error.cause)
        return problems

    def _broken_links(self) -> Iterator[str]:
        after = checksum = 0
        while chunk := self._chunk(after, _NO_FILTERS):
            for seq, *rest, stored in chunk:
                record: Record = tuple(rest)
                right = chained(checksum, seq, record)
                if seq != after + 1:
                    yield f"records {after + 1} to {seq - 1} are missing"
                elif stored != right:
                    yield f"record {seq} is not what was written"
                # The chain goes on from what the record says, so that damage is told once, unless that is no number any more.
                after, checksum = seq, stored if isinstance(stored, int) else right
        head = self._all("SELECT seq, checksum FROM head", ())
        if len(head) != 1:
            yield "the head is missing"
        elif self._promised(after) > after:
            yield f"records {after + 1} to {head[0][0]} are missing"
        elif head[0][0] == after and head[0][1] != checksum:
            yield f"the head does not fit record {after}"
        elif head[0][0] < after:
            yield f"records {head[0][0] + 1} to {after} were never acknowledged"

    def _all(self, query: str, values: Sequence[Any]) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(query, values).fetchall()
        except _ERRORS as error:
            raise _explained(error, self.path) from error


def salvage(path: Path) -> Iterator[tuple[Any, ...]]:
    """Gives the rows of a journal, however damaged, from the first on and as far as they are whole; never raises for damage."""
    after = checksum = 0
    try:
        with Journal.open(path, readonly=True) as journal:
            for chunk in journal.chunks(0):
                for row in chunk:
                    if row[0] != after + 1 or chained(checksum, after + 1, row[1:-1]) != row[-1]:
                        return
                    yield row
                    after, checksum = row[0], row[-1]
    except SwarmError:
        return


def write_anew(path: Path, rows: Iterable[tuple[Any, ...]]) -> None:
    """Makes a journal at `path` of rows of an earlier one, in place of what is there; whole when this returns."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    seal.remove(path)
    with Journal.open(path) as journal:
        journal.begin_epoch()

        def fill() -> None:
            rest = iter(rows)
            while some := list(islice(rest, ROWS_AT_ONCE)):
                journal._insert(some)

        journal._durably(fill)


# --- statements ---------------------------------------------------------------------------------------------------

_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
# Of the connection that began the epoch, not of the file: with it, an append is a single statement.
_TRIGGER = """CREATE TEMP TRIGGER appended AFTER INSERT ON main.journal BEGIN
    SELECT raise(ABORT, 'another epoch has begun') WHERE NOT EXISTS (SELECT 1 FROM head WHERE epoch = {epoch});
    UPDATE head SET seq = NEW.seq, checksum = NEW.checksum;
END"""
_Filters = tuple[str | None, str | None, str | None]  # kind, run, task
_NO_FILTERS: _Filters = (None, None, None)


@cache
def _inserting(rows: int) -> str:
    return f"INSERT INTO journal VALUES {', '.join([_VALUES] * rows)}"  # noqa: S608


# --- opening ------------------------------------------------------------------------------------------------


def refuse_long(path: Path) -> None:
    """Raises `Refused` for a path that SQLite opens no journal at: links in it count as what they lead to."""
    length = len(os.fsencode(os.path.realpath(path)))
    if length > PATH_BYTES_MAX:
        raise Refused(
            f"The path of the journal has {length} bytes, and SQLite opens none of more than {PATH_BYTES_MAX}: {path}.",
            "Nothing was begun.",
            f"move the repository where its path is shorter by {length - PATH_BYTES_MAX} bytes",
        )


def _refuse_absence(path: Path, *, must_exist: bool) -> None:
    """Raises where an empty start would hide a loss: SQLite deletes the `-wal` file of a missing or empty database."""
    size = _size(path)
    if size > 0:
        return
    state = "is missing" if size < 0 else "is empty"
    if must_exist or _size(Path(f"{path}-wal")) > 0:
        raise JournalDamaged(
            f"The journal {path} {state}.",
            "What happened so far can't be read; nothing was started anew.",
            "swarm recover --journal rebuilds it from what is written beside it and from the landing repository",
        )


def _check_seal(connection: sqlite3.Connection, path: Path) -> None:
    """Breaks the seal of a journal that is to be written. A large one is not read for it, as its pages are not."""
    try:
        if _size(path) <= CHECKED_ON_OPEN_BYTES and seal.is_broken(path, _last(connection)):
            raise _damaged(path, "a byte of it was changed since it was closed")
        seal.remove(path)
    except OSError as error:
        raise JournalStuck(
            f"The journal {path} can't be written at present: {error.strerror}.",
            "Nothing was begun.",
            "swarm doctor checks the place.",
        ) from error


def _last(connection: sqlite3.Connection) -> str:
    """Gives what stands for the last record: its number and checksum, "" where that can't be said."""
    try:
        ((seq, checksum),) = connection.execute("SELECT seq, checksum FROM head").fetchall()
    except (*_ERRORS, ValueError):
        return ""
    return f"{seq}-{checksum}"


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise _damaged(path, str(error)) from error


def _create(path: Path) -> None:
    """Makes an empty journal, schema and all, where there is no file: nobody who reads meets a half of it."""
    if _size(path) >= 0:
        return
    draft = Path(f"{path}.new")
    try:
        for suffix in ("", "-journal"):
            Path(f"{draft}{suffix}").unlink(missing_ok=True)
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = _connect(draft)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            _migrate(connection, draft)
        finally:
            connection.close()
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _damaged(path, f"it can't be created: {error.strerror}") from error


def _connect(path: Path, options: str = "mode=rw") -> sqlite3.Connection:
    quoted = os.fspath(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{quoted}?{options}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_TIMEOUT_S,
    )


def _connect_to_read(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("PRAGMA user_version").fetchone()
        return connection, None
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF not in (14, 8):  # CANTOPEN, READONLY: no place for the -shm file
            raise
    if _size(Path(f"{path}-wal")) <= 0:
        return _connect(path, "mode=ro&immutable=1"), None
    import shutil
    import tempfile  # neither is worth its time in every `swarm status`

    # The newest records are in the -wal file, which SQLite reads only where it may write beside it.
    scratch = Path(tempfile.mkdtemp(prefix="swarm-journal-"))
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", scratch / f"journal{suffix}")
    return _connect(scratch / "journal"), scratch


def _drop(scratch: Path | None) -> None:
    if scratch is not None:
        import shutil

        shutil.rmtree(scratch, ignore_errors=True)


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    if os.stat(path).st_size > CHECKED_ON_OPEN_BYTES:
        return
    answers = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
    if answers != ["ok"]:
        raise _damaged(path, str(answers[0]).splitlines()[-1])


def _check_version(connection: sqlite3.Connection, path: Path, expected: Sequence[int]) -> int:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if mark != APPLICATION_ID and (version, mark) != (0, 0):
        raise _damaged(path, "it is a database of another program")
    if version > len(_MIGRATIONS):
        raise JournalDamaged(
            f"The journal {path} has schema {version}; this version of swarm knows up to {len(_MIGRATIONS)}.",
            "Nothing was read or changed.",
            "Use the newer swarm that wrote it.",
        )
    if version not in expected:
        raise JournalDamaged(
            f"The journal {path} has schema {version}, older than this version of swarm reads.",
            "Nothing was read or changed.",
            "swarm start brings it up to date.",
        )
    return int(version)


# --- schema -------------------------------------------------------------------------------------------------


def _first_schema(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE journal (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, at REAL NOT NULL, "
        "type TEXT NOT NULL, run TEXT, task TEXT, attempt INTEGER, data TEXT NOT NULL, "
        "checksum INTEGER NOT NULL) STRICT"
    )
    connection.execute(
        "CREATE TABLE head (epoch INTEGER NOT NULL, seq INTEGER NOT NULL, checksum INTEGER NOT NULL) STRICT"
    )
    connection.execute("INSERT INTO head VALUES (0, 0, 0)")
    # Nothing but the time of creation is in there, for whoever looks at a file by hand.
    connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID")
    connection.execute("INSERT INTO meta VALUES ('created', strftime('%s', 'now'))")


_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _first_schema,
)  # number n brings schema n-1 to n


def _migrate(
    connection: sqlite3.Connection,
    path: Path,
    steps: Sequence[Callable[[sqlite3.Connection], None]] = _MIGRATIONS,
) -> None:
    """Brings the schema up to date in one transaction: killed or failed in between, the old one stands."""
    if _check_version(connection, path, expected=range(len(steps) + 1)) == len(steps):
        return
    connection.execute("BEGIN EXCLUSIVE")
    try:
        version = _check_version(
            connection, path, expected=range(len(steps) + 1)
        )  # somebody else may have been first
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version == 0 and tables:
            raise _damaged(path, "it is a database of another program")
        for step in steps[version:]:
            step(connection)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


# --- errors -------------------------------------------------------------------------------------------------


def _damaged(path: Path, what: str) -> JournalDamaged:
    return JournalDamaged(
        f"The journal {path} can't be used: {what}.",
        "What happened so far can't be trusted from it; nothing was changed.",
        "swarm recover --journal rebuilds it from what is written beside it; the damaged file is kept",
    )


def _explained(error: Exception, path: Path) -> SwarmError:
    """Gives the error that a person sees for one of SQLite's."""
    whole = getattr(error, "sqlite_errorcode", 0)
    code = whole & 0xFF
    if code == _FULL or (code == _IO_ERROR and _no_room(path)):
        return JournalFull(
            f"There is no room to write the journal {path}.",
            "The last step was not remembered and not carried out; everything before it is safe.",
            "Free some disk space, then swarm start.",
        )
    if code == _NOT_A_DATABASE:
        return _damaged(path, "it is not a database")
    if code == _CORRUPT or "decode" in str(error):  # the module's own words for a text that is not UTF-8
        return _damaged(path, "its pages are damaged")
    if code in _STUCK or whole in _STUCK_IO:
        return JournalStuck(
            f"The journal {path} can't be written at present: {error}.",
            "The last step was not remembered and not carried out; everything before it is safe.",
            "swarm doctor checks the place.",
        )
    return SwarmError(
        f"The journal {path} can't be read or written: {error}.",
        "Nobody knows what of the last step is on the disk, so it was not carried out; workers go on.",
        "see to that disk, then swarm start: it reads what is there",
    )


def _reached_again(path: Path, error: PermissionError) -> os.stat_result:
    """Looks at a journal in a folder that was shut, and is opened for it. Raises `JournalStuck` where it can't be."""
    from swarm import protocol
    from swarm.edge.place import open_up

    if open_up(path.parent):
        return os.stat(path)
    why = protocol.closed(str(path.parent)) or SwarmError(f"{error}.")
    raise JournalStuck(f"{path} is out of reach: {why.cause}", "It is tried again.", why.next_step) from error


def _no_room(path: Path) -> bool:
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _NO_ROOM_BYTES

"""The journal against real SQLite files, real kills, and real damage."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.core import messages as m
from swarm.core import plain
from swarm.core.model import Claim, Limits, Mode, PlanSpec, TaskSpec, TaskState
from swarm.edge.journal import (
    Journal,
    JournalDamaged,
    JournalFull,
    JournalTaken,
    Record,
    Row,
    data_of,
    record,
    record_of,
    salvage,
    seal,
    write_anew,
)
from swarm.edge.journal import store as module
from swarm.errors import SwarmError

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal may be made."""
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """An open journal whose epoch has begun."""
    with Journal.open(path) as opened:
        opened.begin_epoch()
        yield opened


def event(n: int, **more: Any) -> Record:
    """A record like those of the machine."""
    return record_of(
        "event",
        {"type": "Ticked", "at": 1000.5 + n, "run": "r", "task": f"t{n % 3}", "attempt": 1, "n": n, **more},
    )


def numbers(journal: Journal) -> list[int]:
    """The numbers of all records."""
    return [row.seq for row in journal.read()]


def test_records_of_some_types_alone_are_read(journal: Journal) -> None:
    """Asked for types, only those come, with their numbers; the most that are wanted counts them alone."""
    journal.append([event(0), event(1, type="TaskLanded"), event(2), event(3, type="TaskFailed")])
    wanted = frozenset({"TaskLanded", "TaskFailed"})
    assert [row.seq for row in journal.read(types=wanted)] == [2, 4]
    assert [row.seq for row in journal.read(types=wanted, limit=1)] == [2]


def test_records_come_back_as_they_were_given(journal: Journal) -> None:
    """What is appended is read back equal, with numbers from 1, whatever its shape."""
    given: list[tuple[str, dict[str, Any]]] = [
        ("fact", {"type": "DaemonStarted", "at": 5}),
        (
            "event",
            {"type": "Odd", "at": 0.1, "run": None, "task": 7, "attempt": "one", "deep": {"a": [1, None]}},
        ),
        (
            "event",
            {"type": "Paths", "at": 1e9, "touched": ["caf\udce9", "naïve\n", "\x00"], "task": "t\ud800"},
        ),
        ("event", {"type": "Ünï", "at": 2.5, "run": "läuft", "task": "日本", "attempt": 0}),
    ]
    records = [record_of(kind, data) for kind, data in given]
    assert journal.append(records) == len(given)
    assert list(journal.read()) == [Row(n, kind, data) for n, (kind, data) in enumerate(given, 1)]
    assert [data_of(each) for each in records] == [data for _, data in given]
    assert journal.verify() == []


def test_numbers_go_on_after_reopening(path: Path) -> None:
    """Numbers have no gap over appends of many, of none, and over a reopening; the epoch goes up by one each time."""
    for start in (1, 2, 3):
        with Journal.open(path, expect_existing=start > 1) as journal:
            assert journal.begin_epoch() == start
            before = journal.last_seq()
            assert journal.append([]) == before
            assert journal.append([event(n) for n in range(4)]) == before + 4
    with Journal.open(path, readonly=True) as journal:
        assert numbers(journal) == list(range(1, 13))
        assert journal.count() == 12
        assert journal.verify() == []


@pytest.mark.parametrize("check", [False, True])
def test_reading_filters(journal: Journal, check: bool) -> None:
    """A reader gets exactly the records after a number that fit every filter, with and without following the chain."""
    journal.append(
        [event(n) for n in range(9)]
        + [record_of("fact", {"type": "F", "at": 1, "run": "other", "task": "t1"})]
    )

    def read(*after: int, **filters: Any) -> list[int]:
        return [row.seq for row in journal.read(*after, check=check, **filters)]

    assert read() == list(range(1, 11))
    assert read(7) == [8, 9, 10]
    assert read(10) == []
    assert read(kind="fact") == [10]
    assert read(task="t1") == [2, 5, 8, 10]
    assert read(2, task="t1", run="r", kind="event", limit=1) == [5]
    assert read(limit=0) == []
    assert (journal.count("event"), journal.count("fact"), journal.count("none")) == (9, 1, 0)


def test_reading_goes_over_many_chunks_while_records_are_added(journal: Journal) -> None:
    """A reader gets every record once and in order although more are appended while it reads."""
    journal.append([event(n) for n in range(module.ROWS_AT_ONCE + 5)])
    seen = []
    for row in journal.read(check=True):
        if row.seq % 1000 == 0 and row.seq < 6000:
            journal.append([event(n) for n in range(1500)])
        seen.append(row.seq)
    assert seen == list(range(1, journal.last_seq() + 1))
    assert len(seen) > 2 * module.ROWS_AT_ONCE


def test_values_of_the_core_are_kept_as_their_json() -> None:
    """A record made from what an event or a fact holds is the one made of its JSON form: tuples, plans, limits, words of a list."""
    task = TaskSpec(id="a", title="A", claims=(Claim(path="x/**", mode=Mode.SHARED),))
    submitted = m.PlanSubmitted(
        at=1.5,
        run="r",
        plan=PlanSpec(id="r", name="P", tasks=(task,)),
        base_branch="main",
        base_commit="c",
        only=("a",),
    )
    for event in (submitted, m.DaemonStarted(at=2.0, version="1", pid=3, limits=Limits(), rules=m.RULES)):
        assert record("event", *m.parts_of(event)) == record_of("event", m.event_to_json(event))
    fact = m.Fact(
        type="TaskFailed",
        at=2.5,
        run="r",
        data={"paths": ("a", "b"), "task_spec": task, "ended": TaskState.FAILED},
    )
    made = record("fact", *m.parts_of(fact))
    assert made == record_of("fact", plain.dump(fact.to_json()))
    assert data_of(made)["ended"] == "failed"


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "NoTime"},
        {"at": 1.0},
        {"type": 3, "at": 1.0},
        {"type": "T", "at": float("nan")},
        {"type": "T", "at": 1.0, "x": float("inf")},
        {"type": "T", "at": 1.0, "x": b"bytes"},
        {"type": "T\ud800", "at": 1.0},
    ],
)
def test_what_is_not_json_is_refused_whole(journal: Journal, bad: dict[str, Any]) -> None:
    """A batch with one record that can't be written writes none of them, and the journal goes on."""
    with pytest.raises((ValueError, TypeError)):
        journal.append([event(1), record_of("event", bad)])
    assert journal.append([event(2)]) == 1
    assert journal.verify() == []


def test_a_batch_that_fails_halfway_leaves_nothing(path: Path, journal: Journal) -> None:
    """Where the second record of a batch can't be written the first is not there either."""
    journal.append([event(1)])
    _edit(path, "INSERT INTO journal SELECT 3, kind, at, type, run, task, attempt, data, 0 FROM journal")
    with pytest.raises(SwarmError):
        journal.append([event(2), event(3)])
    assert numbers(journal) == [1, 3]
    assert journal.last_seq() == 1


def test_every_append_reaches_the_disk(journal: Journal) -> None:
    """The file is written in the mode in which a commit also survives a power cut, which no kill can show."""
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_a_start_reads_is_written_once_more(path: Path, tmp_path: Path) -> None:
    """After a sync that failed, what the log of SQLite has may be in the system's memory alone, and no later sync would write it;
    whoever opens the journal to write has it in the database itself before anything is read."""
    with Journal.open(path) as first:
        first.begin_epoch()
        first.append([event(n) for n in range(3)])
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", tmp_path / f"left.sqlite{suffix}")
    with Journal.open(tmp_path / "left.sqlite"):
        shutil.copy(tmp_path / "left.sqlite", tmp_path / "alone.sqlite")
    with Journal.open(tmp_path / "alone.sqlite", readonly=True) as alone:
        assert numbers(alone) == [1, 2, 3]


def test_threads_share_one_journal(journal: Journal) -> None:
    """Eight threads append and read at once: every record is there once, numbered without gaps."""

    def work(who: int) -> None:
        for n in range(20):
            journal.append([event(n, who=who)])
            journal.last_seq()

    threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = list(journal.read(check=True))
    assert [row.seq for row in rows] == list(range(1, 161))
    assert {(row.data["who"], row.data["n"]) for row in rows} == {(w, n) for w in range(8) for n in range(20)}


# --- fencing ------------------------------------------------------------------------------------------------


def test_an_older_daemon_cannot_write(path: Path) -> None:
    """Once a second daemon has begun an epoch the first one's appends are refused and leave nothing behind."""
    with Journal.open(path) as first, Journal.open(path) as second:
        first.begin_epoch()
        first.append([event(1)])
        second.begin_epoch()
        with pytest.raises(JournalTaken, match="epoch 2"):
            first.append([event(2)])
        assert second.append([event(3)]) == 2
        assert [row.data["n"] for row in second.read()] == [1, 3]


def test_nobody_writes_without_an_epoch(path: Path) -> None:
    """A journal whose opener never began an epoch refuses to write."""
    with Journal.open(path) as journal:
        with pytest.raises(JournalTaken):
            journal.append([event(1)])
        assert journal.last_seq() == 0


def test_a_replaced_file_is_noticed(path: Path, journal: Journal) -> None:
    """A daemon whose journal was moved away or replaced stops instead of writing into a file that nobody will read."""
    journal.append([event(1)])
    os.rename(path, path.with_name("away"))
    with pytest.raises(JournalTaken, match="moved"):
        journal.append([event(2)])
    shutil.copyfile(path.with_name("away"), path)
    with pytest.raises(JournalTaken, match="replaced"):
        journal.append([event(2)])
    os.rename(path.with_name("away"), path)
    assert journal.append([event(2)]) == 2


# --- opening ------------------------------------------------------------------------------------------------


def test_the_file_is_private(path: Path, journal: Journal) -> None:
    """Nobody but the owner may read the journal or the files beside it, whatever the umask."""
    journal.append([event(1)])
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.glob("journal.sqlite*")}
    assert modes == {"journal.sqlite": 0o600, "journal.sqlite-wal": 0o600, "journal.sqlite-shm": 0o600}


def test_readers_see_what_a_writer_acknowledged(path: Path, journal: Journal) -> None:
    """A read-only journal opened beside a writing one sees each record as soon as append has returned."""
    with Journal.open(path, readonly=True) as reader:
        for n in range(1, 6):
            journal.append([event(n)])
            assert reader.last_seq() == n
            assert numbers(reader) == list(range(1, n + 1))


def test_a_head_that_is_gone_is_damage(path: Path) -> None:
    """Without its head a journal is refused as damaged, by who reads it and by who would write on."""
    with Journal.open(path) as journal:
        journal.begin_epoch()
        journal.append([event(1)])
    with sqlite3.connect(path) as damaged:
        damaged.execute("DELETE FROM head")
    damaged.close()
    with Journal.open(path, readonly=True) as journal:
        assert journal.verify() == ["the head is missing"]
        for ask in (journal.last_seq, lambda: list(journal.read(check=True))):
            with pytest.raises(JournalDamaged, match="its head"):
                ask()
    with Journal.open(path) as journal, pytest.raises(JournalDamaged, match="its head"):
        journal.begin_epoch()


def test_never_starts_empty_where_something_was(path: Path) -> None:
    """A missing or emptied journal beside other state is an error with a next step, and the file is not made anew."""
    with pytest.raises(JournalDamaged, match="missing") as caught:
        Journal.open(path, expect_existing=True)
    assert caught.value.consequence
    assert caught.value.next_step
    assert not path.exists()
    path.touch()
    with pytest.raises(JournalDamaged, match="empty"):
        Journal.open(path, expect_existing=True)
    with pytest.raises(JournalDamaged, match="empty"):
        Journal.open(path, readonly=True)
    assert path.stat().st_size == 0


@pytest.mark.parametrize("loss", ["deleted", "emptied"])
def test_a_wal_without_its_database_is_not_thrown_away(path: Path, journal: Journal, loss: str) -> None:
    """Where only the -wal file is left, opening refuses and leaves it, although SQLite itself would delete it."""
    journal.append([event(1)])
    wal = Path(f"{path}-wal")
    kept = wal.read_bytes()
    if loss == "deleted":
        path.unlink()
    else:
        os.truncate(path, 0)
    with pytest.raises(JournalDamaged):
        Journal.open(path)
    assert wal.read_bytes() == kept


def test_a_missing_wal_is_fine(path: Path) -> None:
    """After an orderly end the journal is whole in its one file: without -wal and -shm it opens with every record."""
    with Journal.open(path) as journal:
        journal.begin_epoch()
        journal.append([event(n) for n in range(10)])
    assert [file.name for file in path.parent.iterdir()] == ["journal.sqlite"]
    with Journal.open(path, expect_existing=True) as journal:
        assert numbers(journal) == list(range(1, 11))


@pytest.mark.parametrize("readonly", [False, True])
def test_other_files_are_refused_and_untouched(path: Path, readonly: bool) -> None:
    """A text file, another program's database and a newer schema are refused with a reason, and stay as they are."""
    path.write_bytes(b"this is not a database, but it is long enough to be taken for one" * 100)
    with pytest.raises(JournalDamaged, match="not a database"):
        Journal.open(path, readonly=readonly)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE songs (title)")
    other.close()
    kept = path.read_bytes()
    with pytest.raises(JournalDamaged):
        Journal.open(path, readonly=readonly)
    with Journal.open(path.with_name("new")) as journal:
        journal.begin_epoch()
    with sqlite3.connect(path.with_name("new")) as newer:
        newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(JournalDamaged, match="schema 99") as caught:
        Journal.open(path.with_name("new"), readonly=readonly)
    assert "newer" in caught.value.next_step
    with sqlite3.connect(path) as other:
        assert [name for (name,) in other.execute("SELECT name FROM sqlite_schema")] == ["songs"]
    other.close()
    assert len(path.read_bytes()) == len(kept)


def test_a_failed_migration_leaves_the_old_schema(path: Path) -> None:
    """Where the second of two migrations fails, neither has happened, and the next opening goes on from the old one."""
    with Journal.open(path) as journal:
        journal.begin_epoch()
        journal.append([event(1)])

    def second(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE more (x)")

    def third(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO nowhere VALUES (1)")

    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        module._migrate(connection, path, [*module._MIGRATIONS, second, third])
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'more'").fetchone() == (0,)
    module._migrate(connection, path, [*module._MIGRATIONS, second])
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert connection.execute("SELECT seq FROM journal").fetchall() == [(1,)]
    connection.execute("PRAGMA user_version=1")
    connection.close()
    with Journal.open(path, expect_existing=True) as journal:
        assert numbers(journal) == [1]


@pytest.mark.parametrize("left_by", ["end", "kill"])
def test_reading_where_nothing_can_be_written(left_by: str) -> None:
    """A user who may not write beside the journal reads every record, also those that are only in the -wal file."""
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / "journal.sqlite"
        if left_by == "end":
            with Journal.open(path) as journal:
                journal.begin_epoch()
                journal.append([event(n) for n in range(5)])
        else:
            child = _writer(path, acknowledged=5)
            child.kill()
            child.communicate()
            Path(f"{path}-shm").unlink()
        for file in folder.iterdir():
            file.chmod(0o444)
        folder.chmod(0o555)
        assert _read_as_nobody(path) >= 5
        assert not Path(f"{path}-shm").exists()
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


_READ_AS_NOBODY = """
import os, shutil, sys, tempfile  # before the user changes: the interpreter may be readable by its owner only
from pathlib import Path
from swarm.edge.journal import Journal
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with Journal.open(Path(sys.argv[1]), readonly=True) as journal:
    print(len(list(journal.read(check=True))))
"""


def _read_as_nobody(path: Path) -> int:
    """How many records a process without any right to write can read; it must leave no copy behind."""
    command = [sys.executable, "-S", "-c", _READ_AS_NOBODY, str(path)]
    # A place of its own for copies: into the machine's, other tests put theirs meanwhile.
    with tempfile.TemporaryDirectory() as copies:
        os.chmod(copies, 0o777)
        text = subprocess.check_output(command, cwd=TOP, env={**os.environ, "TMPDIR": copies})
        assert os.listdir(copies) == []
    return int(text)


# --- damage -------------------------------------------------------------------------------------------------


def _edit(path: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "UPDATE journal SET data = replace(data, '\"n\":40', '\"n\":41') WHERE seq = 41",
            "record 41 is not",
        ),
        ("UPDATE journal SET at = at + 1e-6 WHERE seq = 7", "record 7 is not"),
        ("UPDATE journal SET task = NULL WHERE seq = 7", "record 7 is not"),
        ("UPDATE journal SET kind = 'fact' WHERE seq = 7", "record 7 is not"),
        ("DELETE FROM journal WHERE seq BETWEEN 10 AND 12", "records 10 to 12 are missing"),
        ("DELETE FROM journal WHERE seq > 90", "records 91 to 100 are missing"),
        ("DELETE FROM journal", "records 1 to 100 are missing"),
        ("UPDATE head SET seq = 99", "records 100 to 100 were never acknowledged"),
        ("UPDATE head SET checksum = checksum + 1", "the head does not fit record 100"),
        ("DELETE FROM head", "the head is missing"),
    ],
)
def test_changed_and_missing_records_are_noticed(path: Path, statement: str, problem: str) -> None:
    """Any change to a row, a gap, a cut tail and a wrong head are told by verify, each in its own sentence."""
    with Journal.open(path) as journal:
        journal.begin_epoch()
        journal.append([event(n) for n in range(100)])
    _edit(path, statement)
    with Journal.open(path, readonly=True) as journal:
        problems = journal.verify()
        assert any(problem in text for text in problems), problems
        if "head" not in statement:
            with pytest.raises(JournalDamaged):
                list(journal.read(check=True))


def test_flipped_bytes_never_pass(path: Path) -> None:
    """Whichever byte of the file is flipped, the journal either can't be opened, or verify tells, or every record is
    still what was written."""
    with Journal.open(path) as journal:
        journal.begin_epoch()
        journal.append([event(n) for n in range(60)])
        rows = list(journal.read())
    whole = path.read_bytes()
    chosen = random.Random(5)
    told = 0
    for _ in range(150):
        at = chosen.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << chosen.randrange(8))]) + whole[at + 1 :])
        try:
            with Journal.open(path, readonly=True) as journal:
                if journal.verify():
                    told += 1
                else:
                    assert list(journal.read(check=True)) == rows, f"byte {at}"
        except SwarmError:
            told += 1
    assert told > 20


def test_of_a_sealed_journal_no_flipped_byte_passes(path: Path) -> None:
    """Also where no record stands: verify tells, and nobody writes to it. Whoever opens it whole to write breaks the seal for good;
    one beside what a killed daemon left, or beside an earlier copy, says nothing."""
    with Journal.open(path) as journal:
        journal.begin_epoch()
        journal.append([event(n) for n in range(60)])
        earlier = tuple(list(salvage(path))[:50])
        journal.seal()
    whole, sealed = path.read_bytes(), seal.of(path).read_bytes()
    gap = whole.index(bytes(300)) + 150
    for at in (gap, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(JournalDamaged):
            Journal.open(path)
        if at == gap:
            with Journal.open(path, readonly=True) as journal:
                assert journal.verify() == ["it is not what was closed: a byte was changed since"]
    path.write_bytes(whole)
    with Journal.open(path, readonly=True) as journal:
        assert journal.verify() == []
    with Journal.open(path) as journal:
        assert not seal.of(path).exists()
        journal.begin_epoch()
        journal.append([event(60)])
        seal.of(path).write_bytes(sealed)  # as if the power had gone before it was off for good
        with Journal.open(path, readonly=True) as reader:
            assert reader.verify() == []
    write_anew(path, earlier)
    seal.of(path).write_bytes(sealed)
    with Journal.open(path) as journal:
        assert journal.verify() == []
        journal.seal()
    with Journal.open(path, readonly=True) as journal:
        assert journal.verify() == []


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_torn_file_is_refused(path: Path, keep: float) -> None:
    """A file that was cut off can't be opened for writing, and the error says what to do."""
    with Journal.open(path) as journal:
        journal.begin_epoch()
        journal.append([event(n) for n in range(2000)])
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(JournalDamaged) as caught:
        Journal.open(path)
    assert caught.value.next_step


def test_a_torn_wal_loses_only_what_was_never_acknowledged(path: Path) -> None:
    """Cutting the -wal file of a killed daemon anywhere leaves a whole journal with the first records, never a mixture."""
    child = _writer(path, acknowledged=30)
    child.kill()
    child.communicate()
    main, wal = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    counts = []
    for part in (0.2, 0.5, 0.8, 1.0):
        path.write_bytes(main)
        Path(f"{path}-wal").write_bytes(wal[: int(len(wal) * part)])
        Path(f"{path}-shm").unlink(missing_ok=True)
        try:
            with Journal.open(path) as journal:
                assert journal.verify() == []
                assert numbers(journal) == list(range(1, journal.last_seq() + 1))
                counts.append(journal.last_seq())
        except JournalDamaged:
            counts.append(0)  # cut before the schema was there
    assert counts == sorted(counts)
    assert counts[-1] >= 30
    assert counts[0] < counts[-1]


# --- no room ------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_harmless(path: Path, journal: Journal) -> None:
    """Without room append raises JournalFull, the records before are readable, and appending works again with room."""
    journal.append([event(n) for n in range(10)])
    journal._connection.execute("PRAGMA max_page_count=12")
    big = "x" * 3000

    def fill() -> None:
        for n in range(100):
            journal.append([event(n, big=big), event(n, big=big)])

    with pytest.raises(JournalFull) as caught:
        fill()
    assert "room" in caught.value.cause
    kept = journal.last_seq()
    assert kept % 2 == 0
    assert journal.verify() == []
    journal._connection.execute("PRAGMA max_page_count=100000")
    assert journal.append([event(1, big=big)]) == kept + 1
    assert journal.verify() == []


_ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from swarm.edge.journal import Journal, JournalFull, record_of
folder = Path(sys.argv[1])
filler = (folder / "filler").open("wb")
filler.write(bytes(400_000)); filler.flush()
with Journal.open(folder / "j") as journal:
    journal.begin_epoch()
    told = 0
    for n in range(10000):
        try:
            last = journal.append([record_of("event", {"type": "T", "at": n, "text": "x" * 500})])
        except JournalFull:
            told += 1
            assert [row.seq for row in journal.read(check=True)] == list(range(1, last + 1))
            if told == 3:
                break
    filler.truncate(0)
    assert journal.append([record_of("event", {"type": "T", "at": 0})]) == last + 1
with Journal.open(folder / "j", expect_existing=True) as journal:
    assert journal.verify() == [] and journal.last_seq() == last + 1
print("held", told)
"""


def test_a_really_full_file_system(tmp_path: Path) -> None:
    """On a file system that fills up, appends are refused as JournalFull, reading goes on, and room makes it work again."""
    mounted = f'mount -t tmpfs -o size=1m none "{tmp_path}" && exec "$0" -c "$1" "{tmp_path}"'
    command = ["unshare", *([] if os.getuid() == 0 else ["-r"]), "-m", "sh", "-c", mounted]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command[:-2], "-c", mounted.split("&&")[0]]).returncode
    ):
        pytest.skip("no private mounts here")
    done = subprocess.run(
        [*command, sys.executable, _ON_A_SMALL_DISK], cwd=TOP, capture_output=True, text=True
    )
    assert done.stdout == "held 3\n", done.stderr


# --- kill -9 ------------------------------------------------------------------------------------------------

_WRITER = """
import os, sys
from pathlib import Path
from swarm.edge.journal import Journal, record_of
with Journal.open(Path(sys.argv[1])) as journal:
    epoch = journal.begin_epoch()
    n = 0
    while True:
        records = [record_of("event", {"type": "T", "at": n, "epoch": epoch, "n": n + i}) for i in range(1 + n % 7)]
        n += len(records)
        os.write(1, b"%d\\n" % journal.append(records))
"""


def _writer(path: Path, acknowledged: int) -> subprocess.Popen[bytes]:
    """A process that appends for ever, and has had at least that many records acknowledged when this returns."""
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", _WRITER, str(path)], stdout=subprocess.PIPE, cwd=TOP
    )
    assert child.stdout is not None
    while int(child.stdout.readline()) < acknowledged:
        pass
    return child


def test_kill_loses_nothing_that_was_acknowledged(path: Path) -> None:
    """Over 20 kills at random moments every acknowledged record is there, in order, without gaps, and the file is whole."""
    chosen = random.Random(os.urandom(8))
    before = 0
    for round_ in range(1, 21):
        child = _writer(path, acknowledged=before + chosen.randrange(1, 200))
        child.send_signal(signal.SIGKILL)
        assert child.stdout is not None
        tail = child.communicate()[0].split(b"\n")[:-1]  # a line without its end was not acknowledged
        with Journal.open(path, readonly=True) as journal:
            last = journal.last_seq()
            assert numbers(journal) == list(range(1, last + 1))
            assert last >= (int(tail[-1]) if tail else before + 1)
            rows = [row for row in journal.read(before) if row.data["epoch"] == round_]
            assert [row.data["n"] for row in rows] == list(
                range(last - before)
            )  # batches are whole and in order
            assert journal.verify() == []
        before = last
    with Journal.open(path) as journal:
        assert journal.begin_epoch() == 21


def test_nobody_meets_half_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a new journal has its schema there is no file of its name, and a making that was cut short is no obstacle."""
    path = tmp_path / "journal.sqlite"

    def cut_short(*_: object) -> None:
        assert not path.exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("swarm.edge.journal.store._migrate", cut_short)
        with pytest.raises(KeyboardInterrupt):
            Journal.open(path)
    assert not path.exists()
    with Journal.open(path) as journal:
        journal.begin_epoch()
    assert [each.name for each in tmp_path.iterdir()] == ["journal.sqlite"]
    assert path.stat().st_mode & 0o777 == 0o600

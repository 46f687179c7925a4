"""The transcript against real journals, real kills and real damage: it has what the journal has, and says so when it has more."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.audit.folding import fold
from swarm.client import offline
from swarm.core.places import Places
from swarm.daemon import recovery
from swarm.edge.journal import (
    Journal,
    JournalDamaged,
    Record,
    Transcript,
    TranscriptDamaged,
    open_to_read,
    record_of,
    transcript,
)

TOP = Path(__file__).resolve().parents[2]
ODD = ["plain", 'quo"te', ',"data":', "back\\slash", "läuft", "日本", "line\nbreak", "\x00", "caf\udce9"]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "state")


@pytest.fixture
def journal(places: Places) -> Iterator[Journal]:
    """An open journal with a transcript, and twenty odd records in both."""
    with opened(places) as journal:
        journal.append([record(n) for n in range(20)])
        yield journal


def opened(places: Places) -> Journal:
    places.state.mkdir(exist_ok=True)
    journal = recovery.open_journal(places)
    journal.begin_epoch()
    return journal


def last(places: Places) -> tuple[int, int]:
    line = Transcript(places.transcript).last()
    assert line is not None
    return line.seq, line.checksum


def record(n: int, **more: Any) -> Record:
    text = ODD[n % len(ODD)]
    return record_of(
        "event",
        {
            "type": "Ticked",
            "at": 1e9 + n / 7,
            "run": text,
            "task": text,
            "attempt": n,
            "x": [text],
            **more,
        },
    )


def of_journal(journal: Journal) -> list[tuple[Any, ...]]:
    return [row for chunk in journal.chunks(0) for row in chunk]


def of_transcript(places: Places) -> list[tuple[Any, ...]]:
    return [line.row for line in Transcript(places.transcript).lines()]


def test_it_has_what_the_journal_has(places: Places, journal: Journal) -> None:
    """After each append the transcript holds every record, equal to the last byte, and each line is an object of JSON."""
    for n in range(20, 30):
        journal.append([record(n), record_of("fact", {"type": "F", "at": 5})])
        assert of_transcript(places) == of_journal(journal)
    (file,) = places.transcript.iterdir()
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, 41))
    assert file.stat().st_mode & 0o777 == 0o600
    assert last(places) == journal.position()


def test_full_files_are_packed(places: Places, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is full is packed and the next one begun; all of it is read in order, and the last line is found in either."""
    monkeypatch.setattr(transcript, "FILE_BYTES_MAX", 3000)
    for n in range(100):
        journal.append([record(n)])
        assert last(places) == journal.position()
    names = sorted(file.name for file in places.transcript.iterdir())
    assert len(names) > 3
    assert [name.endswith(".gz") for name in names] == [True] * (len(names) - 1) + [False]
    assert of_transcript(places) == of_journal(journal)
    os.unlink(places.transcript / names[-1])
    assert last(places)[0] == int(names[-1].partition(".")[0]) - 1


@pytest.mark.parametrize("left", ["nothing", "half a line", "no folder", "unpacked", "both", "half packed"])
def test_it_catches_up_when_the_journal_is_opened(
    places: Places, journal: Journal, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a kill left of the newest lines and of a packing, after the next opening the transcript is whole."""
    monkeypatch.setattr(transcript, "FILE_BYTES_MAX", 2000)
    for n in range(20):
        journal.append([record(n)])
    journal.close()
    files = sorted(places.transcript.iterdir())
    if left == "nothing":
        shutil.rmtree(places.transcript)
        places.transcript.mkdir()
    elif left == "half a line":
        os.truncate(files[-1], files[-1].stat().st_size - 20)
    elif left == "no folder":
        shutil.rmtree(places.transcript)
    elif left in ("unpacked", "both"):
        files[-2].with_suffix("").write_bytes(gzip.decompress(files[-2].read_bytes()))
        if left == "unpacked":
            files[-2].unlink()
    else:
        (places.transcript / "000000000001.jsonl.gz.new").write_bytes(b"half")
    with opened(places) as again:
        again.append([record(99)])
        assert of_transcript(places) == of_journal(again)
    assert not list(places.transcript.glob("*.new"))
    assert len({file.name.partition(".")[0] for file in places.transcript.iterdir()}) == len(
        list(places.transcript.iterdir())
    )


def test_a_full_disk_never_stops_the_journal(
    places: Places, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the transcript can't be written the append succeeds all the same, and what is missing is written when there is room."""

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, content: bytes) -> int:
            return int(self.file.write(content[: len(content) // 2]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    whole = transcript._opened
    followed = journal.follower
    assert isinstance(followed, Transcript)
    followed._file = Full(followed._file)  # type: ignore[assignment]
    journal.append([record(20)])
    journal.append([record(21)])
    assert followed.problem
    assert len(of_transcript(places)) == 20
    assert followed._file is not None
    followed._file.close()
    followed._file = whole(next(places.transcript.iterdir()))
    journal.append([record(22)])
    assert not followed.problem
    assert of_transcript(places) == of_journal(journal)

    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    journal.close()
    monkeypatch.setattr(transcript, "_opened", refused)
    with opened(places) as again:
        assert again.append([record(23)]) == 24
    monkeypatch.undo()
    with opened(places) as again:
        assert of_transcript(places) == of_journal(again)


# --- a journal that is not what it was ------------------------------------------------------------------------------------


def lose(places: Places, how: str) -> None:
    """Does to the journal what a person or a disk might."""
    journal, wal = places.journal, Path(f"{places.journal}-wal")
    if how == "deleted":
        journal.unlink()
    elif how == "emptied":
        os.truncate(journal, 0)
    elif how == "cut":
        os.truncate(journal, journal.stat().st_size // 2 + 100)
    elif how == "flipped":
        content = bytearray(journal.read_bytes())
        place = content.rindex(b"Ticked")
        content[place] ^= 1
        journal.write_bytes(content)
    elif how == "wal deleted":
        wal.unlink()
    elif how == "another":
        journal.unlink()
        with Journal.open(journal) as other:
            other.begin_epoch()
            other.append([record(n, other=True) for n in range(50)])


@pytest.mark.parametrize("how", ["deleted", "emptied", "cut", "flipped", "another"])
def test_a_journal_that_is_gone_or_changed_is_noticed_at_start(
    places: Places, journal: Journal, how: str
) -> None:
    """A journal that is missing, empty, cut, changed or another one is refused with cause, consequence and next step; nothing is
    touched."""
    journal.close()
    kept = of_transcript(places)
    lose(places, how)
    before = places.journal.read_bytes() if places.journal.exists() else None
    with pytest.raises(JournalDamaged) as caught, recovery.open_journal(places) as damaged:
        recovery.restore(places, damaged)
    assert str(places.journal) in caught.value.cause
    assert caught.value.consequence
    assert "swarm recover --journal" in caught.value.next_step
    assert of_transcript(places) == kept
    if how != "another":
        assert (places.journal.read_bytes() if places.journal.exists() else None) == before


def test_an_older_copy_is_noticed_at_start(places: Places, journal: Journal) -> None:
    """A whole journal that ends earlier than its transcript is an older copy, and is refused."""
    journal.close()
    older = places.journal.read_bytes()
    with opened(places) as again:
        again.append([record(30)])
    places.journal.write_bytes(older)
    with pytest.raises(JournalDamaged, match="ends at record 20, but record 21 had been written"):
        recovery.open_journal(places)


def test_a_lost_wal_is_noticed_at_start(tmp_path: Path) -> None:
    """Where a daemon was killed and its -wal file deleted, the journal is whole, and older: it is refused."""
    places = Places(tmp_path / "state")
    script = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from tests.integration.test_transcript import opened, record, Places\n"
        "journal = opened(Places(Path(sys.argv[1])))\n"
        "journal.append([record(n) for n in range(9)]); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(places.state), str(TOP)], cwd=TOP)
    assert done.returncode == -signal.SIGKILL
    lose(places, "wal deleted")
    with pytest.raises(JournalDamaged) as caught:
        recovery.open_journal(places)
    assert "swarm recover --journal" in caught.value.next_step
    with pytest.raises(JournalDamaged, match="had been written"):
        open_to_read(places)


READERS: dict[str, Callable[[Path], object]] = {
    "status": offline.status,
    "summary": lambda state: offline.summary(str(state)),
    "events": lambda state: list(offline.events(state, 0)),
}


@pytest.mark.parametrize("reader", READERS)
def test_an_older_copy_is_told_by_who_only_reads(places: Places, reader: str) -> None:
    """No reader shows the state of a journal that ends earlier than its transcript, not even what the last daemon left of it; where
    only the transcript's end is damaged, or behind, the journal is believed."""
    with opened(places) as journal:
        older = places.journal.read_bytes()
        wal = Path(f"{places.journal}-wal").read_bytes()
        journal.append([record_of("fact", {"type": "SpaceReclaimed", "at": 1.0})] * 3)
    READERS[reader](places.state)
    (file,) = places.transcript.iterdir()
    whole = file.read_bytes()
    for other in (whole[: whole.index(b"\n") + 1], whole[:-9] + b"\n"):
        file.write_bytes(other)
        READERS[reader](places.state)
    file.write_bytes(whole)
    places.journal.write_bytes(older)
    Path(f"{places.journal}-wal").write_bytes(wal)
    (places.state / "status.json").write_text('{"seq": 0, "document": {"runs": []}}')
    with pytest.raises(JournalDamaged, match="ends at record 0, but record 3 had been written") as caught:
        READERS[reader](places.state)
    assert "swarm recover --journal" in caught.value.next_step


def test_the_audit_tells_of_it(places: Places, journal: Journal) -> None:
    """A journal that lacks what its transcript has is doubted, with one way to have it back; a transcript that is damaged is told,
    and one that is behind is as it should be."""
    (file,) = places.transcript.iterdir()
    whole = file.read_bytes()

    def told() -> list[tuple[str, bool]]:
        found = [each for each in fold(places).breaches if each.invariant == "I18"]
        assert len({each.next for each in found}) <= 1
        return [(each.cause, each.doubts_journal) for each in found]

    assert told() == []
    file.write_bytes(whole[: whole.index(b"\n") + 1])
    assert told() == []
    file.write_bytes(whole.replace(b'"attempt":3', b'"attempt":4', 1))
    assert told() == [(f"The transcript is damaged: record 4 is not what was written to {file.name}.", False)]
    file.write_bytes(whole)
    with sqlite3.connect(places.journal) as raw:
        raw.execute("DELETE FROM journal WHERE seq = 20")
    raw.close()
    causes = told()
    assert any("record 20 had been written" in cause for cause, _ in causes)
    assert all(doubted for _, doubted in causes)


# --- damage of the transcript itself ---------------------------------------------------------------------------------------


def test_every_change_of_it_is_noticed_or_harmless(
    places: Places, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flipped byte, a cut and a line taken out: reading gives only what was written, and says where it ends."""
    monkeypatch.setattr(transcript, "FILE_BYTES_MAX", 1500)
    for n in range(20):
        journal.append([record(n)])
    written, chance = of_journal(journal), random.Random(1)
    files = sorted(places.transcript.iterdir())
    for file in files:
        whole = file.read_bytes()
        places_of = range(len(whole)) if file == files[-1] else chance.sample(range(len(whole)), 60)
        damaged = [
            whole[:n] + bytes([whole[n] ^ 1 << chance.randrange(8)]) + whole[n + 1 :] for n in places_of
        ]
        damaged += [whole[:n] for n in chance.sample(range(len(whole)), 20)]
        damaged += [whole.replace(b'"task":"plain"', b'"task":"\\ud800"')]
        for content in damaged:
            file.write_bytes(content)
            found: list[tuple[Any, ...]] = []
            try:
                found.extend(line.row for line in Transcript(places.transcript).lines())
            except TranscriptDamaged:
                pass
            assert found == written[: len(found)]
        file.write_bytes(whole)
    assert of_transcript(places) == written


def test_a_damaged_end_is_moved_aside(places: Places, journal: Journal) -> None:
    """Where the end of the transcript can't be read, it is kept under another name and written anew from the journal."""
    journal.close()
    (file,) = places.transcript.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-10] + b"\x00\x00" + content[-8:])
    with opened(places) as again:
        assert of_transcript(places) == of_journal(again)
    (kept,) = places.state.glob("transcript.damaged-*")
    assert (kept / file.name).read_bytes() == content[:-10] + b"\x00\x00" + content[-8:]


def test_a_kill_at_any_moment_leaves_both_in_step(tmp_path: Path) -> None:
    """After kill -9 at random moments of appending the transcript is at most behind, and the next opening completes it."""
    places, chance = Places(tmp_path / "state"), random.Random(7)
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from swarm.edge.journal import transcript; transcript.FILE_BYTES_MAX = 4000\n"
        "from tests.integration.test_transcript import opened, record, Places\n"
        "journal = opened(Places(Path(sys.argv[1]))); n = 0; print('up', flush=True)\n"
        "while True: n += 1; journal.append([record(n), record(n + 1)])"
    )
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(places.state), str(TOP)], cwd=TOP, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        child.stdout.close()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(chance.random() * 0.3)
        child.kill()
        child.wait()
        with opened(places) as journal:
            assert journal.verify() == []
            assert of_transcript(places) == of_journal(journal)
    assert len(list(places.transcript.iterdir())) > 3

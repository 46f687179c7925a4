"""The summary that a daemon leaves, against real journals: shown while the journal is the one that it closed, and never after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.client import offline
from swarm.core.places import Places
from swarm.daemon import recovery, service
from swarm.edge import last_status
from swarm.edge.journal import Journal, JournalDamaged, open_to_read, record_of

TOP = Path(__file__).resolve().parents[2]
LEFT = {"schema": 1, "runs": [{"id": "left"}]}
KILLED = (
    "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
    "from tests.integration.test_last_status import goes_on; from swarm.core.places import Places\n"
    "goes_on(Places(Path(sys.argv[1]))); os.kill(os.getpid(), 9)"
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A state folder whose daemon has ended and left a summary."""
    places = Places(tmp_path / "state")
    places.state.mkdir()
    went_on(places)
    last_status.leave(str(places.state), LEFT)
    return places


def goes_on(places: Places) -> Journal:
    """Is a daemon that writes one record."""
    journal = recovery.open_journal(places)
    journal.begin_epoch()
    journal.append([record_of("fact", {"type": "SpaceReclaimed", "at": 1.0})])
    return journal


def went_on(places: Places) -> None:
    goes_on(places).close()


def was_killed(places: Places) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(places.state), str(TOP)], cwd=TOP)
    assert done.returncode == -signal.SIGKILL


def was_put_back(places: Places) -> None:
    found = places.journal.stat()
    copy = places.journal.with_suffix(".copy")
    copy.write_bytes(places.journal.read_bytes())
    os.replace(copy, places.journal)
    os.utime(places.journal, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_it_is_shown_while_nothing_has_happened(places: Places) -> None:
    """What was left is shown, also after somebody has read the journal, and after the repository was moved."""
    assert offline.summary(str(places.state)) == LEFT
    with open_to_read(places) as journal:
        assert journal.last_seq() == 1
        assert offline.summary(str(places.state)) == LEFT
    assert offline.summary(str(places.state)) == LEFT
    moved = places.state.rename(places.state.with_name("moved"))
    assert offline.summary(str(moved)) == LEFT


@pytest.mark.parametrize("what", [went_on, was_killed, was_put_back])
def test_it_is_not_shown_once_the_journal_is_another(places: Places, what: Callable[[Places], None]) -> None:
    """After another daemon, one that was killed too, or with a copy in the journal's place, the journal itself is read."""
    what(places)
    assert last_status.read(str(places.state)) is None
    assert offline.summary(str(places.state))["runs"] == []


def test_it_does_not_hide_that_the_journal_lost_its_end(places: Places) -> None:
    """Where what a later daemon wrote is gone, that is told, although the journal's own file is as the summary knows it."""
    before = places.journal.stat()
    was_killed(places)
    Path(f"{places.journal}-wal").unlink()
    now = places.journal.stat()
    assert (before.st_size, before.st_mtime_ns) == (now.st_size, now.st_mtime_ns)
    with pytest.raises(JournalDamaged, match="had been written"):
        offline.summary(str(places.state))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": [], "document": {}}', '{"seq": 1, "document": {"runs": []}}']
)
def test_what_is_no_summary_is_not_shown(places: Places, text: str) -> None:
    """A summary that is torn, or that another version left, is passed over."""
    (places.state / last_status.NAME).write_text(text)
    assert offline.summary(str(places.state))["runs"] == []


def test_what_ended_a_daemon_is_told_with_a_next_step(tmp_path: Path) -> None:
    """Of an error of ours that has no words either its kind is told, where the details are, and what to type."""
    places = Places(tmp_path)
    service._leave_failure(places, AssertionError(), 0.0)
    found = offline.failure(str(tmp_path))
    assert found["cause"] == "AssertionError"
    assert found["next_step"].startswith("swarm start")
    assert str(places.log) in found["next_step"]

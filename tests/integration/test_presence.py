"""The place of the one daemon: who may take it, and what is noticed when it is taken away."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.core.places import Places
from swarm.daemon.presence import hold
from swarm.edge.lockfile import LockTaken
from swarm.edge.notice import Notice
from swarm.edge.place import places_of
from swarm.errors import Refused


@pytest.fixture
def places(tmp_path: Path) -> Places:
    state = tmp_path / "swarm"
    state.mkdir()
    (state / "journal.sqlite").write_bytes(b"")
    return Places(state)


def test_the_place_is_held_by_one(places: Places) -> None:
    """While it is held nobody else gets it; afterwards its announcement is gone and the next one does."""
    for _ in range(2):
        with hold(places, {}):
            with pytest.raises(LockTaken), hold(places, {}):
                pass
            assert (places.state / "daemon.json").exists()
        assert not (places.state / "daemon.json").exists()


def test_a_copy_is_refused_as_long_as_the_original_is_there(places: Places, tmp_path: Path) -> None:
    """A state folder that was moved, by its name or to another disk, is its own; a copy beside its original is refused, and one
    whose original has gone is taken for it."""
    with hold(places, {}):
        pass
    moved = Places(tmp_path / "moved")
    os.rename(places.state, moved.state)
    with hold(moved, {}):
        pass
    copy = Places(tmp_path / "copy")
    shutil.copytree(moved.state, copy.state)
    before = sorted(path.read_bytes() for path in copy.state.iterdir() if path.is_file())
    with pytest.raises(Refused, match=f"copy of {moved.state}"), hold(copy, {}):
        pass
    assert sorted(path.read_bytes() for path in copy.state.iterdir() if path.is_file()) == before
    with hold(moved, {}):
        pass
    shutil.rmtree(moved.state)
    with hold(copy, {}):
        pass


def test_the_mark_of_its_processes_stays_with_a_state_folder(places: Places, tmp_path: Path) -> None:
    """Moved, a state folder keeps its mark, and one that is made where it was gets another; a `place.json` that was deleted is made
    again with the same mark, and what an older version wrote gives the mark that its workers have."""
    state = places.state
    with hold(places, {}) as presence:
        mark = presence.places.nonce_head
    places.place.unlink()
    with hold(places, {}) as presence:
        assert presence.places.nonce_head == mark
    moved = tmp_path / "moved"
    state.rename(moved)
    state.mkdir()
    for folder, same in ((moved, True), (state, False)):
        with hold(Places(folder), {}) as presence:
            assert (presence.places.nonce_head == mark) is same
            assert places_of(folder) == presence.places
    written = json.loads((state / "place.json").read_text())
    (state / "place.json").write_text(json.dumps({key: written[key] for key in ("id", "path", "folder")}))
    assert places_of(state).nonce_head == hashlib.sha256(str(state).encode()).hexdigest()[:12]


def delete_lock(places: Places) -> None:
    places.daemon_lock.unlink()


def rename_journal(places: Places) -> None:
    os.rename(places.journal, places.state / "old")


def replace_journal(places: Places) -> None:
    (places.state / "new").write_bytes(b"")
    os.rename(places.state / "new", places.journal)


def move_state(places: Places) -> None:
    os.rename(places.state, places.state.with_name("elsewhere"))


def shut_state(places: Places) -> None:
    places.state.chmod(0)


@pytest.mark.parametrize(
    ("do", "lost"),
    [
        (delete_lock, False),
        (shut_state, False),
        (rename_journal, True),
        (replace_journal, True),
        (move_state, True),
    ],
)
def test_what_is_taken_away_is_noticed_at_once(
    places: Places, do: Callable[[Places], None], lost: bool
) -> None:
    """Without asking every now and then it is noticed, once, that lock, journal or state folder went; a lock is put back, and
    so are our own rights in the folder."""
    reasons: list[str] = []
    looks: list[tuple[int, Callable[[], None]]] = []
    with hold(places, {}) as presence:
        listener = presence.listen()
        presence.announce(ends_when_idle=False)
        presence.watch(lambda handle, look: looks.append((handle, look)), reasons.append)
        ((handle, look),) = looks
        while select.select([handle], [], [], 0)[0]:
            look()
        assert reasons == []
        do(places)
        assert select.select([handle], [], [], 120)[0]
        look()
        assert bool(reasons) == lost
        if not lost:
            assert places.state.stat().st_mode & 0o700 == 0o700
            with pytest.raises(LockTaken), hold(places, {}):
                pass
        listener.close()


def test_neighbours_wake_nobody(tmp_path: Path) -> None:
    """What happens beside a watched file, and what is written into it, is not told."""
    watched = tmp_path / "watched"
    watched.write_text("")
    notice = Notice()
    notice.watch(watched)
    notice.watch(tmp_path)
    (tmp_path / "other").write_text("x")
    (tmp_path / "other").unlink()
    watched.write_text("more")
    assert not select.select([notice], [], [], 0)[0]
    watched.unlink()
    assert select.select([notice], [], [], 120)[0]
    notice.take()
    assert not select.select([notice], [], [], 0)[0]
    notice.close()

"""What is said in two places, so that one can do without loading the other, is the same in both."""

from __future__ import annotations

from pathlib import Path

from swarm import protocol
from swarm.core.places import Places, state_of


def test_names_in_the_state_folder_are_those_of_places() -> None:
    """Who looks before anything is loaded looks where `Places` says that it lies."""
    assert state_of(Path("git")) == Path("git", protocol.STATE_FOLDER)
    places = Places(Path("state"))
    assert [places.journal, places.transcript, places.failure, places.place] == [
        Path("state", name)
        for name in (
            protocol.JOURNAL_FILE,
            protocol.TRANSCRIPT_FOLDER,
            protocol.FAILURE_FILE,
            protocol.PLACE_FILE,
        )
    ]

"""What is said in two places, so that one can do without loading the other, is the same in both."""

from __future__ import annotations

from pathlib import Path

from swarm import protocol
from swarm.audit import breaches
from swarm.core import account, report, schedule
from swarm.core.places import Places, state_of


def test_names_in_the_state_folder_are_those_of_places() -> None:
    """Who looks before anything is loaded looks where `Places` says that it lies."""
    assert state_of(Path("git")) == Path("git", protocol.STATE_FOLDER)
    places = Places(Path("state"))
    assert [places.journal, places.transcript, places.failure, places.place, places.start_log] == [
        Path("state", name)
        for name in (
            protocol.JOURNAL_FILE,
            protocol.TRANSCRIPT_FOLDER,
            protocol.FAILURE_FILE,
            protocol.PLACE_FILE,
            protocol.START_LOG,
        )
    ]


def test_documents_are_numbered_and_cut_alike() -> None:
    """Every document has the schema that clients know, and what is shown of a summary is as long as what it lists."""
    assert {each.SCHEMA for each in (account, breaches, report, schedule)} == {protocol.SCHEMA}
    listed = report.LISTED, report.LANDED_LISTED
    assert listed == (protocol.SUMMARY_LISTED, protocol.SUMMARY_LANDED)

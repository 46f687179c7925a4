"""The note of the runs that were discarded: what tells a journal that is older than a discard."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swarm.core.places import Places
from swarm.edge import discards

RUNS = 4
EACH = 100


def test_runs_that_are_discarded_at_once_are_all_noted(tmp_path: Path) -> None:
    """Of several runs that are removed at the same time, each in a thread of its own, none is left out of the note."""
    places, together = Places(tmp_path), threading.Barrier(RUNS)

    def note_all(run: str) -> None:
        together.wait(60)
        for moment in range(EACH):
            discards.note(places, run, float(moment), done=True)

    names = [f"r{n}" for n in range(RUNS)]
    with ThreadPoolExecutor(RUNS) as threads:
        for noting in [threads.submit(note_all, name) for name in names]:
            noting.result(120)
    assert [
        (name, moment)
        for name in names
        for moment in range(EACH)
        if not discards.is_done(places, name, float(moment))
    ] == []


def test_a_note_that_the_disk_refuses_leaves_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note is brought to the disk before it takes the place of the last, since torn by a power cut it would tell of no discard at
    all. Where that fails it is an error, so that nothing is removed, and the last one stays."""
    places = Places(tmp_path)
    discards.note(places, "old", 1.0, done=True)

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="Input/output"):
            discards.note(places, "new", 2.0, done=False)
    assert discards.is_done(places, "old", 1.0)
    discards.note(places, "new", 2.0, done=True)
    assert discards.is_done(places, "new", 2.0)

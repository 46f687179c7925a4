"""The journals of every released version, made by real runs of it (scripts/journal_sample.py), read by the code of today."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from swarm.core import report
from swarm.core.invariants import invariants
from swarm.core.state import pending_commands
from swarm.daemon import recovery
from swarm.edge.journal import Journal

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "journals"
VERSIONS = sorted(path.name.removesuffix(".sqlite.gz") for path in SAMPLES.glob("*.sqlite.gz"))


def differences(then: Any, now: Any, where: str = "") -> list[str]:
    """Lists what a document said then and does not say now; what has been added since is no difference."""
    if isinstance(then, dict) and isinstance(now, dict):
        return [
            each for key in then for each in differences(then[key], now.get(key, "(gone)"), f"{where}/{key}")
        ]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        return [each for place, (a, b) in pairs for each in differences(a, b, f"{where}/{place}")]
    return [] if then == now else [f"{where}: {then!r} then, {now!r} now"]


def unpacked(version: str, folder: Path) -> Path:
    path = folder / "journal.sqlite"
    path.write_bytes(gzip.decompress((SAMPLES / f"{version}.sqlite.gz").read_bytes()))
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_a_released_journal_gives_the_state_that_it_gave_then(version: str, tmp_path: Path) -> None:
    """Brought up to date and replayed, the journal of a released version gives the document that this version itself gave."""
    path = unpacked(version, tmp_path)
    with Journal.open(path, expect_existing=True) as journal:
        assert journal.verify() == []
        replayed = recovery.replay(journal)
    then = json.loads((SAMPLES / f"{version}.json").read_text("utf-8"))
    now = json.loads(json.dumps(report.status(replayed, report.Live())))
    assert differences(then, now) == []
    assert invariants(replayed) == []
    assert pending_commands(replayed) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sample_holds_what_a_journal_can_tell(version: str, tmp_path: Path) -> None:
    """A sample in which no conflict, no failure, no retry or no finish happened would prove little."""
    with Journal.open(unpacked(version, tmp_path), readonly=True) as journal:
        found = {row.data["type"] for row in journal.read()}
    assert {
        "MergeConflicted",
        "TaskHandedBack",
        "TaskFailed",
        "TaskBlocked",
        "TasksRetried",
        "TaskTold",
    } <= found
    assert {"Verified", "StrayFound", "TaskLanded", "RunFinished", "DaemonStopped"} <= found


def test_differences_are_seen() -> None:
    """A changed value, a missing key and another length are told with their place; an added key is not."""
    assert differences({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}], "d": 3}) == []
    assert differences({"a": [{"b": 1}]}, {"a": [{"b": 2}]}) == ["/a/0/b: 1 then, 2 now"]
    assert differences({"a": 1}, {}) == ["/a: 1 then, '(gone)' now"]
    assert len(differences({"a": [1]}, {"a": [1, 2]})) == 1

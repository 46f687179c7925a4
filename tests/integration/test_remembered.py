"""What is remembered of suites that passed: by tree, command and environment, for a while."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from swarm.core.model import Suite, SuiteResult
from swarm.edge.furnish import Furnishing
from swarm.edge.remembered import Remembered

SUITE = Suite("unit", "make test")
PASSED = SuiteResult("unit", "passed", 0, 1.5, "/log")


def key(remembered: Remembered, top: Path, **other: Any) -> str:
    given = {
        "tree": "t" * 40,
        "suite": SUITE,
        "env": {"A": "1"},
        "furnishing": Furnishing(top, "", (".env", "conf")),
    }
    return remembered.key(**{**given, **other})


@pytest.fixture
def top(tmp_path: Path) -> Path:
    made = tmp_path / "top"
    (made / "conf").mkdir(parents=True)
    (made / ".env").write_text("SECRET=1\n")
    (made / "conf" / "a").write_text("a\n")
    return made


def test_each_of_the_three_makes_another_key(tmp_path: Path, top: Path) -> None:
    """Tree, command and environment (variables, setup, what the copied files hold) each make another key; name and time limit do
    not."""
    remembered = Remembered(tmp_path / "remembered", 60)
    keys = [
        key(remembered, top),
        key(remembered, top, tree="u" * 40),
        key(remembered, top, suite=dataclasses.replace(SUITE, run="make test2")),
        key(remembered, top, suite=dataclasses.replace(SUITE, shard=2)),
        key(remembered, top, env={"A": "2"}),
        key(remembered, top, env={"A": "1", "B": ""}),
        key(remembered, top, furnishing=Furnishing(top, "npm ci", (".env", "conf"))),
        key(remembered, top, furnishing=Furnishing(top, "", (".env",))),
    ]
    (top / ".env").write_text("SECRET=2\n")
    keys.append(key(remembered, top))
    (top / "conf" / "b").write_text("")
    keys.append(key(remembered, top))
    (top / "conf" / "b").chmod(0o755)
    keys.append(key(remembered, top))
    assert len(set(keys)) == len(keys)
    assert key(remembered, top) == keys[-1]
    assert key(remembered, top, suite=Suite("other", "make test", 5.0)) == keys[-1]


def test_what_is_not_remembered(tmp_path: Path, top: Path) -> None:
    """Nothing is where it is switched off, for all or for one suite, or where folders are shared that can't be compared."""
    remembered = Remembered(tmp_path / "remembered", 60)
    assert key(Remembered(tmp_path / "remembered", 0), top) == ""
    assert key(remembered, top, suite=dataclasses.replace(SUITE, remember=False)) == ""
    assert key(remembered, top, furnishing=Furnishing(top, "", (), ("node_modules",))) == ""


def test_what_passed_is_found_for_a_while(tmp_path: Path) -> None:
    """What was noted is found as it was, until its time is over; then its file goes with the next note."""
    remembered = Remembered(tmp_path / "remembered", 60)
    assert remembered.find("a") is None
    remembered.note([("a", PASSED)])
    assert remembered.find("a") == dataclasses.replace(PASSED)
    assert remembered.find("b") is None
    file = tmp_path / "remembered" / "a"
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 61))
    assert remembered.find("a") is None
    remembered.note([("b", PASSED)])
    assert [path.name for path in file.parent.iterdir()] == ["b"]


@pytest.mark.parametrize(
    "text", ["", '{"name": "unit", "outc', "[]", '{"name": "unit"}', '{"name": "x", "outcome": "failed"}']
)
def test_a_file_that_does_not_say_passed_is_not_there(tmp_path: Path, text: str) -> None:
    """A torn or foreign file, and one that says anything but passed, makes the suite run."""
    remembered = Remembered(tmp_path, 60)
    (tmp_path / "a").write_text(text)
    assert remembered.find("a") is None


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    """Where nothing can be noted the suite runs again, and nothing fails."""
    (tmp_path / "remembered").write_text("in the way")
    remembered = Remembered(tmp_path / "remembered", 60)
    remembered.note([("a", PASSED)])
    assert remembered.find("a") is None

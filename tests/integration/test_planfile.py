"""States are set in a plan file beside a person who saves it: nothing of either is lost."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.core import plan as plans
from swarm.core.model import TaskState
from swarm.edge import planfile

ROADMAP = "# Work\n\n- [ ] one\n- [ ] two\n"
LANDED = {"one": TaskState.LANDED}


@pytest.fixture
def roadmap(tmp_path: Path) -> Path:
    made = tmp_path / "work" / "ROADMAP.md"
    made.parent.mkdir()
    made.write_text(ROADMAP)
    return made


def tick_off(roadmap: Path) -> None:
    planfile.write_back(roadmap, roadmap.parent.parent / "state", LANDED)


def append(roadmap: Path, what: str = "three") -> None:
    with roadmap.open("a") as file:
        file.write(f"- [ ] {what}\n")


def replace(roadmap: Path) -> None:
    other = roadmap.with_name("other")
    other.write_text(ROADMAP + "- [ ] three\n")
    other.rename(roadmap)


@pytest.mark.parametrize("saved", [append, replace])
def test_what_is_saved_while_states_are_set_is_taken_up(
    roadmap: Path, monkeypatch: pytest.MonkeyPatch, saved: Callable[[Path], None]
) -> None:
    """Between the moment in which the file is read and that in which the next version is made somebody saves it."""
    once = iter([saved])
    real = plans.write_back

    def meanwhile(data: bytes, *args: object, **kwargs: object) -> bytes:
        after: bytes = real(data, *args, **kwargs)  # type: ignore[arg-type]
        for save in once:
            save(roadmap)
        return after

    monkeypatch.setattr(plans, "write_back", meanwhile)
    tick_off(roadmap)
    assert roadmap.read_text() == "# Work\n\n- [x] one\n- [ ] two\n- [ ] three\n"
    assert os.listdir(roadmap.parent) == ["ROADMAP.md"]


def test_what_is_written_into_the_file_that_was_replaced_is_taken_up(
    roadmap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the file open when it is replaced writes into one that nobody would read any more."""
    opened, real = roadmap.open("a"), os.replace

    def meanwhile(source: str, target: Path) -> None:
        real(source, target)
        if not opened.closed:
            with opened:
                opened.write("- [ ] three\n")

    monkeypatch.setattr(os, "replace", meanwhile)
    tick_off(roadmap)
    assert roadmap.read_text() == "# Work\n\n- [x] one\n- [ ] two\n- [ ] three\n"
    assert os.listdir(roadmap.parent) == ["ROADMAP.md"]


def test_what_both_have_added_is_in_the_file(roadmap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One person adds a line to the file that was replaced, another to ours."""
    opened, real = roadmap.open("a"), os.replace

    def meanwhile(source: str, target: Path) -> None:
        real(source, target)
        with opened:
            opened.write("- [ ] three\n")
        append(roadmap, "four")

    monkeypatch.setattr(os, "replace", meanwhile)
    tick_off(roadmap)
    assert roadmap.read_text() == "# Work\n\n- [x] one\n- [ ] two\n- [ ] four\n- [ ] three\n"
    assert os.listdir(roadmap.parent) == ["ROADMAP.md"]


def test_where_both_were_saved_both_are_kept(roadmap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One person writes the file anew that was replaced, another adds to ours: the one is kept beside the other, and it is said."""
    opened, real = roadmap.open("r+"), os.replace

    def meanwhile(source: str, target: Path) -> None:
        real(source, target)
        with opened:
            opened.truncate()
            opened.write("# Anew\n")
        append(roadmap, "four")

    monkeypatch.setattr(os, "replace", meanwhile)
    with pytest.raises(OSError, match=r"saved twice .*/ROADMAP\.md\.saved-"):
        tick_off(roadmap)
    assert roadmap.read_text() == "# Work\n\n- [x] one\n- [ ] two\n- [ ] four\n"
    (aside,) = roadmap.parent.glob("ROADMAP.md.saved-*")
    assert aside.read_text() == "# Anew\n"


def test_a_file_that_is_added_to_all_the_time_loses_no_line(roadmap: Path) -> None:
    """Lines are added as fast as they can be while states go to and fro; all of them are there in the end."""
    lines = [f"- [ ] line {number}\n" for number in range(400)]

    def add() -> None:
        for line in lines:
            with roadmap.open("a") as file:
                file.write(line)

    adding = threading.Thread(target=add)
    adding.start()
    states = [TaskState.LANDED, TaskState.PENDING]
    while adding.is_alive():
        states.reverse()
        with contextlib.suppress(OSError):  # that it is saved again and again, or twice at once
            planfile.write_back(roadmap, roadmap.parent.parent / "state", {"one": states[0]})
    adding.join()
    there = "".join(path.read_text() for path in roadmap.parent.iterdir()).splitlines(keepends=True)
    assert [line for line in lines if line not in there] == []

"""Outputs that grow too large, on a real file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.client import logs
from swarm.edge import output

MOST = 1 << 20


def write(path: Path, first: int, last: int) -> None:
    with path.open("ab") as file:
        file.writelines(b"line %07d\n" % number for number in range(first, last))


def takes(path: Path) -> int:
    return path.stat().st_blocks * 512


def lines(path: Path) -> list[bytes]:
    return [line for block in logs.Tail(str(path)).blocks(last=True) for line in block.split(b"\n")]


def test_a_small_output_is_left_alone(tmp_path: Path) -> None:
    """An output within its bound stays as it is, and one that is gone is no error."""
    path = tmp_path / "output"
    assert not output.bound(path, MOST)
    write(path, 0, 1000)
    assert not output.bound(path, MOST)
    assert lines(path) == [b"line %07d" % number for number in range(1000)]


def test_beginning_and_end_stay_and_the_middle_goes(tmp_path: Path) -> None:
    """Of an output that grows and grows no more than its bound stays on the disk while its writer goes on; what is read is its
    beginning, a line that says how much is missing, and its end to the last line."""
    path = tmp_path / "output"
    with path.open("ab") as writer:  # which has it open all the time
        for start in range(0, 1_000_000, 50_000):
            writer.writelines(b"line %07d\n" % number for number in range(start, start + 50_000))
            writer.flush()
            output.bound(path, MOST)
            assert takes(path) <= MOST
    found = lines(path)
    (place,) = [n for n, line in enumerate(found) if line.startswith(b"[... ")]
    missing = int(found[place].split()[1].replace(b",", b""))
    assert found[: place - 1] == [b"line %07d" % number for number in range(place - 1)]
    assert place > MOST // 4 // 13 - 400
    after = found[place + 2 :]
    assert after == [b"line %07d" % number for number in range(1_000_000 - len(after), 1_000_000)]
    assert len(after) > 2 * place - 1000
    kept = sum(len(line) + 1 for line in found) - len(found[place]) - 2
    assert kept + missing == path.stat().st_size == 13_000_000


@pytest.mark.parametrize("pattern", [None, "line"])
def test_the_last_lines_are_found_from_the_end_past_what_is_missing(
    tmp_path: Path, pattern: str | None
) -> None:
    """`--lines N` counts from the end, and where the end has not so many goes on before what is missing."""
    path = tmp_path / "output"
    write(path, 0, 1_000_000)
    output.bound(path, MOST)
    view = logs.View(pattern)
    start = logs.start_of_last(str(path), 5, view)
    shown = [line for block in logs.Tail(str(path), start).blocks(last=True) for line in block.split(b"\n")]
    assert shown == [b"line %07d" % number for number in range(999_995, 1_000_000)]
    in_end = sum(1 for line in lines(path) if line > b"line 0500000")
    start = logs.start_of_last(str(path), in_end + 100, view)
    assert start < MOST
    shown = [line for block in logs.Tail(str(path), start).blocks(last=True) for line in block.split(b"\n")]
    assert sum(line.startswith(b"[... ") for line in shown) == 1
    assert in_end + 90 <= len(shown) <= in_end + 110


def test_where_there_are_no_holes_the_end_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without holes beginning and end stay as well, and a line between them says so."""
    monkeypatch.setattr(output, "_punched", lambda *_: False)
    path = tmp_path / "output"
    write(path, 0, 200_000)
    with path.open("ab") as writer:
        assert output.bound(path, MOST)
        writer.write(b"later\n")
    assert path.stat().st_size <= MOST
    found = lines(path)
    assert found[0] == b"line 0000000"
    assert b"[... output left out here ...]" in found
    assert found[-2:] == [b"line 0199999", b"later"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Where a worker has put a link in the place of its output nothing behind it is changed."""
    victim = tmp_path / "victim"
    write(victim, 0, 200_000)
    (tmp_path / "output").symlink_to(victim)
    with pytest.raises(OSError):
        output.bound(tmp_path / "output", MOST)
    assert os.stat(victim).st_blocks * 512 > MOST

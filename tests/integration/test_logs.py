"""Output files of any size and content: the last lines from the end, filtered, as they come; never more in memory than a little."""

from __future__ import annotations

import os
import random
import re
import time
import tracemalloc
from pathlib import Path

import pytest

from swarm.client import logs
from swarm.client.logs import Tail, View, start_of_last
from swarm.errors import UsageError

ESC = "\x1b"


def shown(path: Path, view: View, number: int | None = None) -> str:
    """What `swarm logs` writes of a file."""
    start = 0 if number is None else start_of_last(str(path), number, view)
    return b"".join(map(view.shown, Tail(str(path), start).blocks(last=True))).decode()


@pytest.mark.parametrize("block", [1, 2, 7, 64, 1 << 18])
def test_the_last_lines_are_those_of_a_plain_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Whatever the size of a block, the last N lines, filtered or not, are those that reading everything gives."""
    monkeypatch.setattr(logs, "BLOCK_BYTES", block)
    chance = random.Random(block)
    path = tmp_path / "output.log"
    for _ in range(150):
        lines = ["".join(chance.choices("abé ", k=chance.randint(0, 5))) for _ in range(chance.randint(0, 8))]
        path.write_text("\n".join(lines) + ("\n" if lines and chance.random() < 0.7 else ""))
        text = path.read_text()
        whole = text.removesuffix("\n").split("\n") if text else []
        for pattern in (None, "a", "^$", "b.*a"):
            wanted = [line for line in whole if pattern is None or re.search(pattern, line)]
            view = View(pattern)
            assert shown(path, view) == "".join(f"{line}\n" for line in wanted), (text, pattern)
            for number in range(len(lines) + 2):
                last = wanted[len(wanted) - number :] if number < len(wanted) else wanted
                assert shown(path, view, number) == "".join(f"{line}\n" for line in last), (
                    text,
                    pattern,
                    number,
                )


def test_the_end_of_a_huge_file_is_there_at_once(tmp_path: Path) -> None:
    """Of 20 GB (most of it a hole) the last lines are found without reading what comes before."""
    path = tmp_path / "output.log"
    with path.open("wb") as file:
        file.seek(20_000_000_000)
        file.write(b"\n" + b"".join(b"line %d\n" % n for n in range(100_000)))
    began = time.process_time()
    assert shown(path, View(None), 2) == "line 99998\nline 99999\n"
    assert shown(path, View("7$"), 1) == "line 99997\n"
    assert shown(path, View(None), 1_000).count("\n") == 1_000
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("number", [None, 1, 3])
def test_memory_stays_small_whatever_a_worker_wrote(tmp_path: Path, number: int | None) -> None:
    """A line of 40 MB, and binary, are shown in pieces; of a huge line that comes last only the end is read."""
    path = tmp_path / "output.log"
    path.write_bytes(b"first\n" + b"x" * 40_000_000 + b"\n" + bytes(range(256)) * 4_000 + b"\nlast")
    view = View(None, width_max=100)
    tracemalloc.start()
    try:
        start = 0 if number is None else start_of_last(str(path), number, view)
        pieces = [
            piece
            for block in Tail(str(path), start).blocks(last=True)
            for piece in view.shown(block).split(b"\n")
        ]
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()
    assert pieces[-2] == b"last"
    assert all(len(piece) < 1_000 for piece in pieces)
    assert not any(byte < 32 and byte != 9 for piece in pieces for byte in piece)


def test_terminal_commands_of_a_worker_do_nothing() -> None:
    """Colours and the commands of progress bars are left out, what is left of a line written over is its last state, and
    everything else that a terminal would obey is shown as text; --raw gives the bytes."""
    written = (
        f"{ESC}[1;31mred{ESC}[0m {ESC}]0;title\x07and {ESC}]8;;http://x{ESC}\\a link{ESC}]8;;{ESC}\\\n"
        f"{ESC}[2K\r 10 %\r{ESC}[2K\r100 %\r\n{ESC}cbell\x07{ESC}Pq"
    ).encode()
    assert View(None).shown(written).decode().split("\n") == [
        "red and a link",
        "100 %",
        "\\x1bcbell\\x07\\x1bPq",
        "",
    ]
    assert View(None, raw=True).shown(written) == written + b"\n"
    assert View("red and", raw=True).shown(written) == written.split(b"\n")[0] + b"\n"
    assert View("bell").shown(b"\xff\xfe bell \x00") == "\ufffd\ufffd bell \\x00\n".encode()
    with pytest.raises(UsageError, match="--grep"):
        View("(")


def test_a_line_without_an_end_waits_for_it(tmp_path: Path) -> None:
    """What is followed is shown line by line as lines become whole; the last one is shown when nothing more comes."""
    path = tmp_path / "output.log"
    path.write_bytes(b"one\ntw")
    tail = Tail(str(path))
    assert list(tail.blocks()) == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\nth")
    assert list(tail.blocks()) == [b"two"]
    assert list(tail.blocks()) == []
    with path.open("ab") as file:
        file.write("ré".encode())
    os.truncate(path, path.stat().st_size)
    assert list(tail.blocks(last=True)) == ["thré".encode()]
    assert list(tail.blocks(last=True)) == []

"""Workers are heard as they print, whatever they print, and at little cost."""

from __future__ import annotations

import json
import time
import zoneinfo
from pathlib import Path

import pytest

from swarm.core import streams
from swarm.core.places import AttemptPlaces
from swarm.edge import heard

DATA = Path(__file__).resolve().parents[1] / "data" / "streams"


@pytest.fixture
def places(tmp_path: Path) -> AttemptPlaces:
    found = AttemptPlaces(tmp_path / "attempt")
    found.folder.mkdir()
    heard.note_format(found, "claude", "/srv/tree")
    return found


def listening(places: AttemptPlaces) -> heard.Listener:
    found = heard.listener(places)
    assert found is not None
    return found


def test_only_what_was_added_is_read(places: AttemptPlaces) -> None:
    """However the output grows, byte by byte too, what was said is what the whole of it says."""
    data = (DATA / "claude-work.jsonl").read_bytes()
    ears = listening(places)
    assert ears.listen(0.0).doing == ""  # there is no output yet
    with places.output.open("ab", buffering=0) as file:
        for start in range(0, len(data), 97):
            file.write(data[start : start + 97])
            said = ears.listen(0.0)
    assert (said.ended, said.turns, said.tokens_in) == (True, 4, 620)
    assert ears.listen(0.0) == said == listening(places).listen(0.0)


def test_an_unfinished_line_counts_at_the_end(places: AttemptPlaces) -> None:
    """A program that was cut off in its last line is heard as far as it came."""
    places.output.write_bytes((DATA / "claude-work.jsonl").read_bytes().rstrip(b"\n"))
    ears = listening(places)
    assert not ears.listen(0.0).ended
    assert ears.listen(0.0, last=True).ended


def test_the_last_lines_are_those_that_people_read(places: AttemptPlaces) -> None:
    """Of a stream of events what `swarm logs` shows of them, and what is none as it is; nothing where there is no output."""
    assert heard.last_lines(places, "claude", "/srv/tree") == []
    data = (DATA / "claude-work.jsonl").read_bytes()
    places.output.write_bytes(b"a warning\r\n\n" + data)
    lines = heard.last_lines(places, "claude", "/srv/tree")
    each = (streams.shown("claude", line, "/srv/tree") for line in data.decode().splitlines())
    assert lines == ["a warning", *(text for told in each for text in told or ())]
    assert not any(line.startswith("{") for line in lines)


def test_of_a_huge_output_the_last_lines_are_whole(places: AttemptPlaces) -> None:
    """Of 20 GB only the end is read, and the line within which that begins is left out."""
    last = (DATA / "claude-work.jsonl").read_bytes().splitlines(keepends=True)[-1]
    with places.output.open("wb") as file:
        file.seek(20_000_000_000)
        file.write(json.dumps({"type": "system", "text": "x" * heard.LAST_BYTES}).encode() + b"\n" + last)
    (line,) = heard.last_lines(places, "claude", "/srv/tree")
    assert line.startswith("ended, ")


def test_huge_outputs_and_lines_cost_little(places: AttemptPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 GB only the end is read, and a line that is too long is passed over."""
    monkeypatch.setattr(heard, "LINE_BYTES_MAX", 1000)
    end = (DATA / "claude-work.jsonl").read_bytes().splitlines(keepends=True)[-1]
    with places.output.open("wb") as file:
        file.seek(20_000_000_000)
        file.write(b"\n" + json.dumps({"type": "system", "text": "x" * 2000}).encode() + b"\n" + b"y" * 3000)
    ears = listening(places)
    ears.listen(0.0)
    with places.output.open("ab") as file:
        file.write(b"\n" + end)
    assert ears.listen(0.0).cost_usd == 0.0725


def test_an_output_that_got_shorter_is_heard_from_its_end_on(places: AttemptPlaces) -> None:
    """Of one whose middle was taken out by writing its end anew nothing is heard twice, and what comes then is heard."""
    lines = (DATA / "claude-work.jsonl").read_bytes().splitlines(keepends=True)
    places.output.write_bytes(b"".join(lines[:-1]) + b"x" * 10_000)
    ears = listening(places)
    assert ears.listen(0.0).turns == 4
    with places.output.open("r+b") as file:
        file.truncate(len(lines[0]))
    since = ears.listen(0.0) and ears.since
    assert ears.listen(0.0).turns == 4
    assert ears.since == since
    with places.output.open("ab") as file:
        file.write(b"\n" + lines[-1])
    assert ears.listen(0.0).cost_usd == 0.0725


def test_who_prints_nothing_that_is_known_is_not_heard(tmp_path: Path) -> None:
    """Without a format there is nothing to listen to, and nothing is written for it."""
    places = AttemptPlaces(tmp_path)
    heard.note_format(places, "", "/srv")
    assert heard.listener(places) is None
    assert list(tmp_path.iterdir()) == []


def test_the_last_words_are_whole(places: AttemptPlaces) -> None:
    """What is said last may be an answer, such as a plan, and is given whole, however much of it a summary keeps."""
    words = f"[[tasks]]\n{'x' * 300_000}\nend"
    places.output.write_text(json.dumps({"type": "result", "subtype": "success", "result": words}) + "\n")
    assert heard.last_words(places) == words
    assert heard.last_words(AttemptPlaces(places.folder.parent / "other")) == ""


@pytest.mark.skipif(not zoneinfo.available_timezones(), reason="this machine knows no time zones")
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America", "Etc/passwd", "A/" * 30, "Tokyo"])
def test_a_limit_is_over_by_the_zone_that_was_said(
    places: AttemptPlaces, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """The zones that this machine knows are known; what is none of them is passed over, and its own clock counts."""
    with monkeypatch.context() as its_own:
        its_own.setenv("TZ", "UTC")
        time.tzset()
        ears = listening(places)
    time.tzset()
    result = {"type": "result", "is_error": True, "result": f"You've hit your limit · resets 6pm ({zone})"}
    places.output.write_text(json.dumps(result) + "\n")
    noon = 1_800_014_400.0  # 2027-01-15 12:00:00 UTC
    limit = ears.listen(noon).limit
    assert limit is not None
    assert limit.until == noon + 3600 * (21 if zone == "Asia/Tokyo" else 6)

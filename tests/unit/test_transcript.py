"""Transcripts: what is read of any file, and how it is told."""

from __future__ import annotations

import json
from typing import Any

from swarm.core import transcript

BEGAN: dict[str, Any] = {"type": "began", "model": "m", "base": "abc", "continues": None}
ASKED: dict[str, Any] = {"type": "message", "role": "user", "content": [{"type": "text", "text": "do it"}]}
CALLED: dict[str, Any] = {
    "type": "message",
    "role": "assistant",
    "content": [
        {"type": "text", "text": "I look.\nThen I change."},
        {"type": "tool_use", "id": "1", "name": "bash", "input": {"command": "make test\necho"}},
        {"type": "tool_use", "id": "2", "name": "edit", "input": {"command": "create", "path": "a.py"}},
    ],
}
FAILED: dict[str, Any] = {
    "type": "message",
    "role": "user",
    "content": [
        {"type": "tool_result", "tool_use_id": "1", "content": "fine"},
        {"type": "tool_result", "tool_use_id": "2", "content": "not claimed", "is_error": True},
    ],
}


def lines(*records: object) -> list[bytes]:
    return [json.dumps(record).encode() for record in records]


def test_what_was_written_is_read_back() -> None:
    """Messages come back as they were, with the model and the base, and one without an end is interrupted."""
    line = transcript.line({"type": "began", "model": "ü", "base": "b", "continues": 2})
    told = transcript.read(transcript.records([line, *lines(ASKED, CALLED)]))
    assert told is not None
    assert (told.model, told.base, told.continues, told.interrupted) == ("ü", "b", 2, True)
    assert told.messages == (
        {"role": "user", "content": ASKED["content"]},
        {"role": "assistant", "content": CALLED["content"]},
    )


def test_how_it_ended_says_whether_to_go_on() -> None:
    """What was put off or stopped is gone on with; what came to an end of its own is not."""
    for how, interrupted in (("later", True), ("stopped", True), ("finished", False), ("over_budget", False)):
        told = transcript.read(transcript.records(lines(BEGAN, ASKED, {"type": "ended", "how": how})))
        assert told is not None
        assert told.interrupted is interrupted


def test_whatever_a_file_holds_is_read() -> None:
    """Torn and foreign lines are passed over, and what does not begin as a transcript is none."""
    odd = [b'{"type": "mess', b"\xff\x00", b"[1]", b'{"type": 3}', b"", b"[" * 100_000]
    found = [*lines(BEGAN), *odd, *lines(ASKED), b'{"type": "message", "role"']
    told = transcript.read(transcript.records(found))
    assert told is not None
    assert len(told.messages) == 1
    assert transcript.read(transcript.records(odd)) is None
    contents: list[object] = [
        "text",
        [],
        [3],
        [{}],
        [{"type": "text"}],
        [{"type": "tool_use", "id": 1, "name": "x"}],
    ]
    bad = [{"type": "message", "role": "user", "content": content} for content in contents]
    told = transcript.read(transcript.records(lines(BEGAN, *bad, {"type": "message", "role": "system"})))
    assert told is not None
    assert told.messages == ()
    assert list(transcript.told(transcript.records(lines(*bad)))) == []


def test_it_is_told_in_short_and_in_whole() -> None:
    """In short: what was said, done and refused, each in few lines; in whole: results too."""
    ended = {"type": "ended", "how": "over_budget"}
    found = lines(BEGAN, ASKED, CALLED, FAILED, {"type": "note", "text": "waits"}, ended)
    assert list(transcript.told(transcript.records(found))) == [
        "began with m",
        "asked: do it",
        "says: I look.",
        "Then I change.",
        "> running make test …",
        "> writing a.py",
        "  failed: not claimed",
        "(waits)",
        "ended, over budget",
    ]
    whole = list(transcript.told(transcript.records(found), whole=True))
    assert "  fine" in whole
    assert '{"command": "make test\\necho"}' in whole
    text = "x" * 999 + "\nx" * 99
    long = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": text}]}
    told = list(transcript.told(transcript.records(lines(long))))
    assert len(told) < 10
    assert max(map(len, told)) < 200


def test_whatever_is_called_is_told() -> None:
    """A call of any tool with any input is told in a few words."""
    assert transcript.doing("search", {"pattern": "x", "path": "src"}) == "searching src for x"
    assert transcript.doing("search", {"files": "*.py"}) == "searching . for files *.py"
    assert transcript.doing("edit", {"command": "view", "path": "a"}) == "reading a"
    inputs: list[object] = [None, 3, [], {}, {"command": None, "path": 4}, {"command": ["x"] * 1000}]
    for given in inputs:
        for tool in ("bash", "search", "edit"):
            assert len(transcript.doing(tool, given)) < 200

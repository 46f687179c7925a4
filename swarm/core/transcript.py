"""The transcript of an attempt by the built-in agent: what its lines are, how they are read back, and how they are told to people.

A transcript is a file of JSON objects, one a line, each with `at` and `type`:

    began    `model`, `base` (the commit that the worktree began at), `system`, and `continues`: the attempt that it goes on with
    message  `role` and `content` as the Messages API has them; an answer has its `usage` and `stop_reason` as well
    note     `text`: what happened between two messages, such as a wait
    ended    `how` (finished, failed, over_budget, later, stopped) and `text`

One that was killed has no `ended`, and its last line may be torn. Rules for editing: pure. Lines of every version are read for
ever; whatever does not look like a line of ours is passed over, never raised.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from swarm.dataclass import dataclass

INTERRUPTED = frozenset({"later", "stopped"})  # ends after which the next attempt goes on
TEXT_LINES_TOLD = 6
LINE_TOLD_MAX = 160

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What a transcript says: with which `model` and from which `base` it began, its messages, and whether it came to an end."""

    model: str = ""
    base: str = ""
    continues: int | None = None
    messages: tuple[Record, ...] = ()
    interrupted: bool = True


def line(record: Mapping[str, Any]) -> bytes:
    """Writes one line."""
    return (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Reads lines; what is torn or is no object with a type is passed over."""
    for raw in lines:
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("type"), str):
            yield found


def read(found: Iterable[Record]) -> Told | None:
    """Gives what the records say; None where they do not begin as a transcript does."""
    began: Record | None = None
    messages: list[Record] = []
    end = ""
    for record in found:
        if record["type"] == "began":
            began = record
        elif record["type"] == "message" and _is_message(record):
            messages.append({"role": record["role"], "content": record["content"]})
        elif record["type"] == "ended":
            end = str(record.get("how"))
    if began is None:
        return None
    continues = began.get("continues")
    return Told(
        model=str(began.get("model") or ""),
        base=str(began.get("base") or ""),
        continues=continues if isinstance(continues, int) else None,
        messages=tuple(messages),
        interrupted=not end or end in INTERRUPTED,
    )


def _is_message(record: Record) -> bool:
    content = record.get("content")
    return (
        record.get("role") in ("user", "assistant")
        and isinstance(content, list)
        and bool(content)
        and all(isinstance(block, dict) and _is_block(block) for block in content)
    )


_TEXTS = {"text": ("text",), "tool_use": ("id", "name"), "tool_result": ("tool_use_id", "content")}


def _is_block(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    return isinstance(kind, str) and all(isinstance(block.get(name), str) for name in _TEXTS.get(kind, ()))


# --- for people ---------------------------------------------------------------------------------------------------------------


def told(found: Iterable[Record], *, whole: bool = False) -> Iterator[str]:
    """Tells a transcript line by line: what was said, what was done, what failed. With `whole` nothing is shortened."""
    for record in found:
        kind = record["type"]
        if kind == "began":
            after = f", going on with attempt {record['continues']}" if record.get("continues") else ""
            yield f"began with {record.get('model')}{after}"
        elif kind == "note":
            yield f"({record.get('text')})"
        elif kind == "ended":
            text = f": {record['text']}" if record.get("text") else ""
            yield from _shortened(f"ended, {str(record.get('how')).replace('_', ' ')}{text}", whole)
        elif kind == "message" and _is_message(record):
            for block in record["content"]:
                yield from _block(str(record["role"]), block, whole)


def _block(role: str, block: Mapping[str, Any], whole: bool) -> Iterator[str]:
    kind = block["type"]
    if kind == "text":
        yield from _shortened(f"{'asked' if role == 'user' else 'says'}: {block.get('text')}", whole)
    elif kind == "tool_use":
        yield f"> {doing(str(block.get('name')), block.get('input'))}"
        if whole:
            yield from _shortened(json.dumps(block.get("input"), ensure_ascii=False), whole)
    elif kind == "tool_result" and (whole or block.get("is_error")):
        yield from _shortened(
            f"{'  failed: ' if block.get('is_error') else '  '}{block.get('content')}", whole
        )


def _shortened(text: str, whole: bool) -> Iterator[str]:
    lines = text.splitlines() or [""]
    if whole:
        yield from lines
        return
    for each in lines[:TEXT_LINES_TOLD]:
        yield _cut(each)
    if len(lines) > TEXT_LINES_TOLD:
        yield f"  … and {len(lines) - TEXT_LINES_TOLD} more lines"


def doing(tool: str, given: Any) -> str:
    """Says in a few words what a call of a tool does: `editing src/a.py`."""
    fields = given if isinstance(given, dict) else {}
    path = _cut(str(fields.get("path") or "."))
    if tool == "bash":
        lines = str(fields.get("command") or "").strip().splitlines() or [""]
        return _cut(f"running {lines[0]}{' …' if len(lines) > 1 else ''}")
    if tool == "search":
        pattern, files = fields.get("pattern"), fields.get("files")
        what = f"for {pattern}" if pattern else f"for files {files or ''}".rstrip()
        return _cut(f"searching {path} {what}")
    words = {"view": "reading", "create": "writing", "str_replace": "editing", "insert": "editing"}
    word = words.get(str(fields.get("command")))
    return f"{word} {path}" if word else f"using {_cut(tool)}"


def _cut(text: str) -> str:
    return text if len(text) <= LINE_TOLD_MAX else f"{text[: LINE_TOLD_MAX - 1]}…"

"""What a coding-agent program prints while it works, understood: one parser for each format, and what all lines so far come to.

A line becomes notes (`notes`), notes are shown as lines for people (`shown`) or added up (`Said.hear`), and at the end the sum says
what the program's end means (`outcome`). The formats are those of the programs' documentation and of streams that they printed;
they change without notice, so nothing here may raise: what is not understood is no note.

Rules for editing: pure. Whether a limit was met is read only from what a program says as its own error, never from what a model
wrote or a tool printed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from swarm.core.model import TRY_LATER, WorkerResult
from swarm.core.rate_limits import Clock, Limit, limit_in
from swarm.dataclass import dataclass

TEXT_MAX = 1 << 20  # characters of one text, and of what a program says last, which may be an answer
SUMMARY_MAX = 10_000  # … of which so many are the summary of an attempt
FAILURE_MAX = 200  # … and so many, from their beginning, say why it failed
DOING_MAX = 200  # characters of what it is doing
_LINE_MAX = 120  # … of which so many are one line of what somebody said
_SIGNALLED = 128  # exit codes from here on mean that a signal ended it


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that a line says. `kind` is begun, turn, doing, said, failing, waits, figures, limit, error, ended, or failed: an
    end whose exit code says by itself whether it was a limit.

    `message` names what a usage belongs to: one message may come in several lines. Figures with `total` replace what was added up.
    """

    kind: str
    text: str = ""
    session: str = ""
    message: str = ""
    part: bool = False
    total: bool = False
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    turns: int | None = None
    failed: bool = False
    lost: bool = False
    status: int | None = None
    until: float | None = None


@dataclass(slots=True)
class Said:
    """What a program has said so far. `ended` once it gave its final result, `failed` where that was a failure, `lost` where it did
    not find the conversation that it was to go on with; `limit` while the last thing it met was one. `top` is the worktree, for
    short paths; `clock` is what times of day that it tells go by."""

    parser: str
    top: str = ""
    clock: Clock = Clock()
    doing: str = ""
    session: str = ""
    final: str = ""
    turns: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    ended: bool = False
    failed: bool = False
    lost: bool = False
    limit: Limit | None = None
    _message: str = ""
    _reset: float | None = None
    _in_part: bool = False

    def hear(self, line: str, at: float) -> None:
        """Takes in one line that was printed at about that time."""
        for note in notes(self.parser, line, self.top) or ():
            self._take(note, at)

    def _take(self, note: Note, at: float) -> None:
        self.session = note.session or self.session
        if note.kind == "limit":
            self._reset = note.until
        elif note.kind in ("error", "ended"):
            self._take_end(note, at)
        elif note.kind == "failed":
            self.ended = self.failed = True
            self.final = note.text.partition(": ")[2]
        else:
            self.ended = self.failed = False
            if note.kind != "waits":
                self.limit = None
            if note.kind in ("doing", "waits"):
                self.doing = note.text[:DOING_MAX]
            elif note.kind == "said":
                before = self.final if self._in_part and note.part else ""
                self.final = (before + note.text)[-TEXT_MAX:]
            self._in_part = note.kind == "said" and note.part
        self._add_up(note)

    def _take_end(self, note: Note, at: float) -> None:
        if note.kind == "ended":
            self.ended, self.failed, self.lost, self.doing = True, note.failed, note.lost, ""
            self.final = note.text[-TEXT_MAX:] or self.final
            if not note.failed:
                self.limit = None
                return
        limit = limit_in(note.text, at, self.clock, note.status)
        if limit is not None and self._reset is not None and self._reset > at:
            limit = dataclasses.replace(limit, until=self._reset)  # exact, where words give a time of day
        if limit is not None and (limit.until is not None or self.limit is None):
            self.limit = limit

    def _add_up(self, note: Note) -> None:
        if note.kind == "turn":
            if note.message and note.message == self._message:
                return  # told again, with each part of the message
            self._message = note.message
            self.turns += 1
        if note.turns is not None:
            self.turns = note.turns
        for name in ("tokens_in", "tokens_out", "cost_usd"):
            more, before = getattr(note, name), getattr(self, name)
            if more is not None:
                setattr(self, name, more if note.total or before is None else before + more)


def outcome(
    said: Said, exit_code: int | None, result: WorkerResult, at: float
) -> tuple[int | None, WorkerResult]:
    """Gives what the end of a program means, and its result with what it did not say in its result file.

    One that met a limit asks to be tried later, and so does at once one that did not find its conversation. One that was ended by
    a signal after its final result ended with that: several stay when they are done. A final result that is a failure is never
    success.
    """
    result = dataclasses.replace(
        result,
        summary=result.summary or said.final[-SUMMARY_MAX:],
        tokens_in=said.tokens_in if result.tokens_in is None else result.tokens_in,
        tokens_out=said.tokens_out if result.tokens_out is None else result.tokens_out,
        cost_usd=said.cost_usd if result.cost_usd is None else result.cost_usd,
    )
    if exit_code is None:
        return None, result
    if said.limit is not None:
        until = said.limit.until
        wait_s = result.retry_after_s if until is None else max(0.0, until - at)
        return TRY_LATER, dataclasses.replace(result, retry_after_s=wait_s, rate_limited=True)
    if said.lost:
        return TRY_LATER, dataclasses.replace(result, retry_after_s=0.0, rate_limited=False)
    by_result = said.ended and (exit_code == 0 or exit_code >= _SIGNALLED)
    if said.ended and said.failed:
        why = " ".join(said.final.split())[:FAILURE_MAX]
        result = dataclasses.replace(result, failure=why or ("no reason given" if by_result else ""))
    return (int(said.failed) if by_result else exit_code), result


def shown(parser: str, line: str, top: str = "") -> list[str] | None:
    """Gives a line as people read it: none or several lines; None where it is to be shown as it is."""
    found = notes(parser, line, top)
    return None if found is None else [text for note in found for text in _as_lines(note)]


def _as_lines(note: Note) -> Iterable[str]:
    text = note.text.strip()
    if note.kind == "doing":
        yield f"> {text}"
    elif note.kind in ("error", "failing", "failed", "waits"):
        yield f"! {text}"
    elif note.kind == "begun":
        yield f"session {note.session}{f', {text}' if text else ''}"
    elif note.kind == "said":
        yield from text.splitlines()
    elif note.kind == "ended":
        if note.failed and text:
            yield f"! {text}"
        yield f"{'failed' if note.failed else 'ended'}{figures(note)}"


def figures(of: Note | Said) -> str:
    """Gives turns, tokens and cost in words, each with a comma before it; what is not known is left out."""
    parts = [f"{of.turns} turn{'' if of.turns == 1 else 's'}"] if of.turns else []
    if of.tokens_in or of.tokens_out:
        parts.append(f"{of.tokens_in or 0} tokens in, {of.tokens_out or 0} out")
    if of.cost_usd:
        parts.append(f"{of.cost_usd:.2f} USD")
    return "".join(f", {part}" for part in parts)


def notes(parser: str, line: str, top: str = "") -> list[Note] | None:
    """Gives what a line says; None where the line is none of the format's."""
    if parser in _PLAIN:
        return _PLAIN[parser](line)
    read = _READERS.get(parser)
    if read is None or not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return read(event, top) if isinstance(event, dict) and isinstance(event.get("type"), str) else None


# --- what strangers wrote, in the kinds that are wanted ---------------------------------------------------------------------


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    # A lone surrogate can be written in JSON, and printed nowhere.
    return value[:TEXT_MAX].encode(errors="replace").decode() if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [_text(each) for each in value] if isinstance(value, list) else []


def _error(value: Any) -> str:
    """Gives the text of an error, which is an object with a message, or the message alone."""
    return _text(value) or _text(_table(value).get("message"))


def _amount(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value < 1e15 else None


def _count(value: Any) -> int | None:
    amount = _amount(value)
    return None if amount is None else int(amount)


def _sum(table: dict[str, Any], *names: str) -> int | None:
    found = [count for name in names if (count := _count(table.get(name))) is not None]
    return sum(found) if found else None


def _short(path: str, top: str) -> str:
    return path[len(top) + 1 :] if top and path.startswith(f"{top}/") else path


def _line_of(text: str) -> str:
    """Gives the first line that says anything, cut."""
    line = next((each.strip() for each in text.splitlines() if each.strip()), "")
    return line if len(line) <= _LINE_MAX else f"{line[: _LINE_MAX - 1]}…"


_VERBS = {
    "edit": "editing",
    "multiedit": "editing",
    "replace": "editing",
    "notebookedit": "editing",
    "write": "writing",
    "write_file": "writing",
    "read": "reading",
    "read_file": "reading",
    "grep": "searching for",
    "search_file_content": "searching for",
    "glob": "looking for",
    "bash": "running",
    "run_shell_command": "running",
    "task": "delegating",
    "agent": "delegating",
    "webfetch": "fetching",
    "websearch": "searching the web for",
}
_OBJECTS = (
    "file_path",
    "notebook_path",
    "absolute_path",
    "path",
    "command",
    "pattern",
    "description",
    "url",
    "query",
)


def _tool(name: str, given: dict[str, Any], top: str) -> str:
    """Says what a call of a tool does: `editing src/a.py`, `running make test`."""
    verb = _VERBS.get(name.lower(), f"using {name}")
    what = next((text for key in _OBJECTS if (text := _text(given.get(key)))), "")
    return f"{verb} {_line_of(_short(what, top))}".strip()


# --- Claude Code: claude -p --output-format stream-json --verbose -----------------------------------------------------------


def _claude(event: dict[str, Any], top: str) -> list[Note]:
    kind, session = event["type"], _text(event.get("session_id"))
    if kind == "assistant":
        return _claude_message(_table(event.get("message")), top)
    if kind == "user":
        found = _rows(_table(event.get("message")).get("content"))
        return [Note("failing", text) for each in found if each.get("is_error") and (text := _content(each))]
    if kind == "result":
        return [_claude_result(event)]
    if kind == "rate_limit_event":
        about = _table(event.get("rate_limit_info"))
        return (
            [Note("limit", until=_amount(about.get("resetsAt")))] if about.get("status") == "rejected" else []
        )
    if kind == "system" and event.get("subtype") == "init":
        return [Note("begun", _text(event.get("model")), session=session)]
    if kind == "system" and event.get("subtype") == "api_retry":
        wait_s = (_amount(event.get("retry_delay_ms")) or 0.0) / 1000
        why = _text(event.get("error")).replace("_", " ") or "error"
        return [Note("waits", f"waiting {wait_s:.0f} s after an error of the service ({why})")]
    return []


def _content(block: dict[str, Any]) -> str:
    inner = block.get("content")
    return _line_of(_text(inner) or " ".join(_text(each.get("text")) for each in _rows(inner)))


def _claude_message(message: dict[str, Any], top: str) -> list[Note]:
    if message.get("model") == "<synthetic>":
        return []  # the program's own words about an error, which its result says again
    usage = _table(message.get("usage"))
    found = [
        Note(
            "turn",
            message=_text(message.get("id")),
            tokens_in=_sum(usage, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
            tokens_out=_count(usage.get("output_tokens")),
        )
    ]
    for block in _rows(message.get("content")):
        if block.get("type") == "text":
            found.append(Note("said", _text(block.get("text"))))
        elif block.get("type") == "tool_use":
            found.append(Note("doing", _tool(_text(block.get("name")), _table(block.get("input")), top)))
    return found


_UNKNOWN = (
    "No conversation found"  # it looks for them by worktree, and knows no other where a sandbox hides those
)


def _claude_result(event: dict[str, Any]) -> Note:
    usage, subtype = _table(event.get("usage")), _text(event.get("subtype"))
    failed = bool(event.get("is_error")) or subtype not in ("", "success")
    errors = _texts(event.get("errors"))
    why = "; ".join(each for each in errors if each) or subtype.replace("_", " ")
    return Note(
        "ended",
        _text(event.get("result")) or (why if failed else ""),
        session=_text(event.get("session_id")),
        total=True,
        tokens_in=_sum(usage, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
        tokens_out=_count(usage.get("output_tokens")),
        cost_usd=_amount(event.get("total_cost_usd")),
        turns=_count(event.get("num_turns")),
        failed=failed,
        lost=failed and any(_UNKNOWN in each for each in errors),
        status=_count(event.get("api_error_status")),
    )


# --- Codex: codex exec --json -----------------------------------------------------------------------------------------------


def _codex(event: dict[str, Any], top: str) -> list[Note]:
    kind = event["type"]
    if kind in ("item.started", "item.completed"):
        return _codex_item(_table(event.get("item")), top, started=kind == "item.started")
    if kind == "thread.started":
        return [Note("begun", session=_text(event.get("thread_id")))]
    if kind == "turn.completed":
        usage = _table(event.get("usage"))
        tokens_in, tokens_out = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
        return [Note("ended", total=True, tokens_in=tokens_in, tokens_out=tokens_out)]
    if kind == "turn.failed":
        return [Note("ended", _error(event.get("error")), failed=True)]
    return [Note("error", _text(event.get("message")))] if kind == "error" else []


def _codex_item(item: dict[str, Any], top: str, *, started: bool) -> list[Note]:
    kind = item.get("type")
    if kind == "command_execution":
        if started:
            return [Note("doing", f"running {_line_of(_shell(_text(item.get('command'))))}")]
        code = item.get("exit_code")
        return [Note("failing", f"exit code {code}")] if code else []
    if kind == "file_change":
        paths = [_short(_text(each.get("path")), top) for each in _rows(item.get("changes"))]
        return [] if started else [Note("doing", f"editing {', '.join(paths[:5])}")]
    if kind == "mcp_tool_call" and started:
        return [Note("doing", f"using {_text(item.get('server'))} {_text(item.get('tool'))}")]
    if kind == "web_search" and not started:
        return [Note("doing", f"searching the web for {_line_of(_text(item.get('query')))}")]
    if kind == "agent_message" and not started:
        return [Note("said", _text(item.get("text")))]
    return [Note("failing", _text(item.get("message")))] if kind == "error" and not started else []


def _shell(command: str) -> str:
    """Gives what a shell is asked to do: `/bin/bash -lc 'make test'` is `make test`."""
    found = re.fullmatch(r"""\S*sh -l?c (['"])(.*)\1""", command, re.DOTALL)
    return found[2] if found else command


# --- Gemini CLI: gemini -o stream-json --------------------------------------------------------------------------------------


def _gemini(event: dict[str, Any], top: str) -> list[Note]:
    kind = event["type"]
    if kind == "init":
        return [Note("begun", _text(event.get("model")), session=_text(event.get("session_id")))]
    if kind == "message" and event.get("role") == "assistant":
        return [Note("said", _text(event.get("content")), part=bool(event.get("delta")))]
    if kind == "tool_use":
        name, given = _text(event.get("tool_name")), _table(event.get("parameters"))
        return [Note("doing", _tool(name, given, top))]
    if kind == "tool_result" and event.get("status") == "error":
        why = _error(event.get("error")) or _text(event.get("output"))
        return [Note("failing", _line_of(why))]
    if kind == "error":
        return [Note("error", _text(event.get("message")))]
    if kind == "result":
        stats, failed = _table(event.get("stats")), event.get("status") != "success"
        text = _error(event.get("error"))
        tokens_in, tokens_out = _count(stats.get("input_tokens")), _count(stats.get("output_tokens"))
        return [Note("ended", text, total=True, tokens_in=tokens_in, tokens_out=tokens_out, failed=failed)]
    return []


_READERS: dict[str, Callable[[dict[str, Any], str], list[Note]]] = {
    "claude": _claude,
    "codex": _codex,
    "gemini": _gemini,
}

# --- plain text ------------------------------------------------------------------------------------------------------

_AIDER_EDIT = re.compile(r"Applied edit to (.+)")
_AIDER_ERROR = re.compile(
    r"(?:litellm\.)?(\w*(?:RateLimitError|OverloadedError|ServiceUnavailableError)\b.*)"
)
_AIDER_TOKENS = re.compile(
    r"Tokens: ([\d.]+[kM]?) sent.*?([\d.]+[kM]?) received\.(?: Cost: .*?\$([\d.]+) session)?"
)
_SCALES = {"k": 1_000, "M": 1_000_000}
_OWN_END = "! ended, "
_OWN_FAILURES = (f"{_OWN_END}failed: ", f"{_OWN_END}over budget: ")
_OWN_FIGURES = re.compile(r"= turn (\d+): (\d+) tokens in, (\d+) out(?:, ([\d.]+) USD)?")


def _aider(line: str) -> list[Note] | None:
    if found := _AIDER_TOKENS.match(line):
        cost = float(found[3]) if found[3] and found[3].count(".") < 2 else None
        figures_of = Note("turn", tokens_in=_scaled(found[1]), tokens_out=_scaled(found[2]))
        return [figures_of, *([Note("figures", total=True, cost_usd=cost)] if cost is not None else ())]
    if found := _AIDER_EDIT.match(line):
        return [Note("doing", f"editing {found[1]}")]
    if found := _AIDER_ERROR.match(line):
        return [Note("error", found[1])]
    return None


def _scaled(text: str) -> int | None:
    scale = _SCALES.get(text[-1], 1)
    try:
        return int(float(text.rstrip("kM")) * scale)
    except ValueError:
        return None


def own_figures(turns: int, tokens_in: int, tokens_out: int, cost_usd: float | None) -> str:
    """Gives the line by which the built-in agent says after each answer what it has used so far."""
    cost = "" if cost_usd is None else f", {cost_usd:.4f} USD"
    return f"= turn {turns}: {tokens_in} tokens in, {tokens_out} out{cost}"


def own_end(how: str, text: str) -> str:
    """Gives the line by which the built-in agent tells that it ended before its model was done, which `Said` understands."""
    return f"{_OWN_END}{how.replace('_', ' ')}: {text}"


def _own(line: str) -> list[Note] | None:
    if line.startswith("> "):
        return [Note("doing", line[2:])]
    if line.startswith("! "):
        return [Note("failed" if line.startswith(_OWN_FAILURES) else "waits", line[2:])]
    if found := _OWN_FIGURES.fullmatch(line):
        cost = float(found[4]) if found[4] and found[4].count(".") < 2 else None
        turns, tokens_in, tokens_out = (int(found[n]) for n in (1, 2, 3))
        used = Note("figures", total=True, turns=turns, tokens_in=tokens_in, tokens_out=tokens_out)
        return [dataclasses.replace(used, cost_usd=cost)]
    return None


_PLAIN: dict[str, Callable[[str], list[Note] | None]] = {"aider": _aider, "anthropic": _own}
PARSERS = ("", *_PLAIN, *_READERS)

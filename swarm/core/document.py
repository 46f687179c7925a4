"""From the bytes of a plan file to a document of dicts and lists, with the place of everything that cannot be read.

This hides the file formats: JSON with `//` and `/* */` comments, TOML, YAML (when the `yaml` extra is installed) and Markdown,
which is handed on as text. It knows too how to change one value in a JSON text and leave every other byte as it was.

Rules for editing: nothing here knows what a plan is, and nothing opens a file. What is wrong becomes a `Problem` that is collected,
never an exception, so that a person sees all of it at once.
"""

from __future__ import annotations

import datetime
import importlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from difflib import get_close_matches
from typing import Any

from swarm.dataclass import dataclass

MAX_BYTES = 50_000_000
_SNIFFED_TOML = re.compile(r"\[\[?[\w.\"' -]+\]\]?\s*(#.*)?$|[\w.\"'-]+\s*=")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
# A string (also one that its line leaves open, so that the search stays linear) or a comment.
_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"?|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_JSON_TOKEN = re.compile(r'[{}\[\],:]|"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+')
_NEW_LINE = re.compile(r"\s*?(\r?\n[ \t]*)(?=\S)")
# Line ends of other kinds too, and what turns the direction of writing around: a title goes into the subject of a commit.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028-\u202e\u2066-\u2069]")


Key = str | int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong or worth saying: where (`tasks[3].needs[0]`, `line 12 column 4`, or "" for the whole file), and what."""

    place: str
    text: str


def place_at(path: Iterable[Key]) -> str:
    """Writes a path into a document for people: keys joined by dots, indices in brackets."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def kind_of(value: Any) -> str:
    """Names the type of a value as JSON and TOML know it."""
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "nothing")


@dataclass(slots=True)
class Document:
    """A file as read: `syntax` is json, toml, yaml or markdown; `root` a value, or the text for Markdown; None when unreadable."""

    syntax: str
    root: Any = None
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def parse(data: bytes, source: str) -> Document:
    """Reads a plan file's bytes; `source` is its name, whose ending tells the syntax where it is a known one."""
    if len(data) > MAX_BYTES:
        size = f"the file has more than {MAX_BYTES // 1_000_000} MB, and no larger plans are read"
        return Document("", errors=[Problem("", size)])
    text = _decode(data)
    if isinstance(text, Problem):
        return Document("", errors=[text])
    if not text.strip():
        return Document("", errors=[Problem("line 1 column 1", "the file is empty")])
    syntax = _syntax(text, source)
    if syntax == "markdown":
        return Document(syntax, text)
    reader = {"json": _read_json, "toml": _read_toml, "yaml": _read_yaml}[syntax]
    document = Document(syntax)
    try:
        document.root = reader(text, document)
    except RecursionError:
        document.errors.append(Problem("", "the file is nested too deeply to be read"))
    return document


def _decode(data: bytes) -> str | Problem:
    """Gives the text without a byte order mark, or says which byte is none of UTF-8's."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "; it looks like UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        before = data[: error.start].decode("utf-8-sig")
        return Problem(place_of(before, len(before)), f"the file is not UTF-8 text{hint}")
    if "\0" in text:
        return Problem(place_of(text, text.index("\0")), "the file is binary: it holds a NUL byte")
    return text


def place_of(text: str, offset: int) -> str:
    """Names a place in a text, counted from 1, as editors do."""
    return f"line {text.count(chr(10), 0, offset) + 1} column {offset - text.rfind(chr(10), 0, offset)}"


def _syntax(text: str, source: str) -> str:
    """Tells the syntax by the file's ending, else by how the text begins."""
    ending = source.rpartition(".")[2].lower() if "." in source else ""
    known = {"json": "json", "jsonc": "json", "toml": "toml", "yaml": "yaml", "yml": "yaml", "md": "markdown"}
    if ending in (*known, "markdown"):
        return known.get(ending, "markdown")
    for line in text.splitlines():
        begin = line.strip()
        if begin.startswith(("{", "//", "/*")) or (begin.startswith("[") and not _SNIFFED_TOML.match(begin)):
            return "json"
        if _SNIFFED_TOML.match(begin):
            return "toml"
        if begin and not begin.startswith("#"):
            break
    return "markdown" if re.search(r"^\s*(?:[-*+]|\d+[.)]) \[[ xX]\] ", text, re.MULTILINE) else "json"


# --- JSON -------------------------------------------------------------------------------------------------------------------


def without_comments(text: str) -> str:
    """Blanks `//` and `/* */` outside strings, keeping every other character at its place."""

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        return found if found[0] == '"' else re.sub(r"[^\r\n]", " ", found)

    return _STRING_OR_COMMENT.sub(blank, text) if "//" in text or "/*" in text else text


def _read_json(text: str, document: Document) -> Any:
    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) != len(members):
            keys = [key for key, _ in members]
            twice = next(key for key in keys if keys.count(key) > 1)
            where = f"beside id {json.dumps(found['id'])}" if "id" in found else ""
            document.warnings.append(
                Problem(where, f'the key "{twice}" stands twice in one object; the last counts')
            )
        return found

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON value")

    plain = without_comments(text)
    try:
        root = json.loads(plain, object_pairs_hook=pairs, parse_constant=refuse)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(root, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        document.errors.append(_json_problem(plain, error))
    except UnicodeEncodeError:
        document.errors.append(Problem("", "a string holds half of a surrogate pair, which no file can hold"))
    except ValueError as error:  # also an integer of more digits than Python reads
        document.errors.append(Problem("", f"a number cannot be read: {error}"))
    else:
        return root
    return None


def _json_problem(text: str, error: json.JSONDecodeError) -> Problem:
    """Says what is wrong with a JSON text, and whether it is just its end that is missing."""
    place = f"line {error.lineno} column {error.colno}"
    at_end = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
    what = "the JSON ends before it is complete; the file looks cut off" if at_end else "not valid JSON"
    return Problem(place, f"{what} ({error.msg})")


# --- TOML and YAML ----------------------------------------------------------------------------------------------------------


def _read_toml(text: str, document: Document) -> Any:
    try:
        return jsonable(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = _TOML_PLACE.search(message)
        place = "" if found is None else f"line {found[1]} column {found[2]}" if found[1] else "end of file"
        document.errors.append(
            Problem(place, f"not valid TOML ({message[: found.start()] if found else message})")
        )
    except ValueError as error:
        document.errors.append(Problem("", f"not valid TOML ({error})"))
    return None


def _read_yaml(text: str, document: Document) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        missing = (
            "YAML plans need the yaml extra: pip install 'git-swarm[yaml]', or write the plan as TOML or JSON"
        )
        document.errors.append(Problem("", missing))
        return None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # Aliases of aliases make a short file as large as one likes.
        if "*" in text and any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)
        ):
            document.errors.append(Problem("", "YAML aliases (`*name`) are not read; write the value out"))
            return None
        return jsonable(yaml.load(text, Loader=loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1} column {mark.column + 1}" if mark is not None else ""
        document.errors.append(Problem(place, f"not valid YAML ({getattr(error, 'problem', None) or error})"))
    except ValueError as error:
        document.errors.append(Problem("", f"not valid YAML ({error})"))
    return None


def jsonable(value: Any) -> Any:
    """Turns what TOML and YAML have and JSON has not (dates, times, sets, keys that are no text) into text and lists."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else as_text(key): jsonable(inner) for key, inner in value.items()
        }
    if isinstance(value, list | tuple | set):
        return [jsonable(inner) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def as_text(value: Any) -> str:
    """Gives the text of an id however it is written: `1`, `1.0` and `"1"` are the same, and blanks around it do not count."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def one_line(text: str, at_most: int = 120) -> str:
    """Gives a text on one line, without control characters, cut at a length."""
    line = " ".join(_CONTROL.sub(" ", text).split())
    return line if len(line) <= at_most else line[: at_most - 1].rstrip() + "…"


def has_control_characters(text: str) -> bool:
    """Tells whether there is a line break or another control character in a text that must be one line."""
    return _CONTROL.search(text) is not None


class Suggestions:
    """Guesses which name was meant; only for the first unknown ones, since each guess compares with every known name."""

    at_most = 20

    def __init__(self) -> None:
        self._made = 0

    def nearest(self, name: str, known: Callable[[], Iterable[str]]) -> str:
        """Gives `; did you mean "…"?`, or nothing where no name is near."""
        self._made += 1
        names = list(known()) if self._made <= self.at_most else []
        close = get_close_matches(name, names, n=1) if len(names) <= 5_000 else []
        return f'; did you mean "{close[0]}"?' if close else ""


# --- changing a JSON text and nothing else in it ------------------------------------------------------------------------------


@dataclass(slots=True)
class Span:
    """Where a JSON value stands in its text (`end` exclusive); `members` of an object or an array, by key or index."""

    start: int
    end: int = 0
    members: dict[Any, Span] = field(default_factory=dict)


def spans(text: str) -> Span:
    """Finds where each value of a valid JSON text (comments blanked) stands. Of a key written twice it gives the last."""
    tokens = _JSON_TOKEN.finditer(text)
    root = Span(0)
    stack: list[tuple[Span, bool]] = []
    key: Any = 0
    for match in tokens:
        mark = match.group()
        if mark in "}]":
            closed, _ = stack.pop()
            closed.end = match.end()
        elif mark == ":":
            continue
        elif mark != ",":
            parent = stack[-1][0] if stack else None
            in_object = bool(stack) and stack[-1][1]
            if in_object and key is None:
                key = json.loads(mark)
                continue
            span = Span(match.start(), match.end())
            if parent is None:
                root = span
            else:
                parent.members[key if in_object else len(parent.members)] = span
            if mark in "{[":
                stack.append((span, mark == "{"))
        key = None
    return root


def member_edits(text: str, span: Span, values: Mapping[str, Any]) -> Iterator[tuple[int, int, str]]:
    """Gives the replacements (start, end, new text) that set members of the object at `span`; a new key goes last."""
    for key, value in values.items():
        written = json.dumps(value, ensure_ascii=False)
        there = span.members.get(key)
        if there is not None:
            yield there.start, there.end, written
            continue
        named = f"{json.dumps(key, ensure_ascii=False)}: {written}"
        if not span.members:
            yield span.start + 1, span.start + 1, named
            continue
        new_line = _NEW_LINE.match(text, span.start + 1)
        last = max(member.end for member in span.members.values())
        yield last, last, f",{new_line[1] if new_line else ' '}{named}"


def apply_edits(text: str, edits: list[tuple[int, int, str]]) -> str:
    """Carries out replacements that do not cross each other."""
    parts: list[str] = []
    at = 0
    for start, end, new in sorted(edits, key=lambda edit: edit[0]):
        parts += (text[at:start], new)
        at = end
    return "".join((*parts, text[at:]))

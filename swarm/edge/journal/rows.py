"""A record as a row: the columns that it is kept in, and the chain of checksums that holds each row to the one before it.

Hides the form of a row. Rules for editing: rows are read for ever, and a chain is made of what was written, to the letter: a record
may be written otherwise one day, but what is read is chained as it stands.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from swarm.core import plain

# Something to remember, as columns: kind ("event" or "fact"), at (seconds), type, run, task, attempt, and the rest as JSON.
Record = tuple[str, float, str, str | None, str | None, int | None, str]


class Row(NamedTuple):
    """A record as read back, with the number it got; `data` is equal to what was appended."""

    seq: int
    kind: str
    data: dict[str, Any]


def _encoder() -> Callable[[Any], str]:
    """Gives what makes JSON of data and of values of the core: in ASCII, so that a path that is not UTF-8 survives.

    `JSONEncoder.encode` makes its half in C anew for each text, which takes as long as a small text; where that half can be had, it
    is made once.
    """
    standard = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=plain.dump)
    within: dict[int, Any] = {}  # what is being written, so that what holds itself is noticed
    try:
        chunks = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
            within,
            standard.default,
            json.encoder.encode_basestring_ascii,
            None,
            ":",
            ",",
            False,
            False,
            False,
        )
        if "".join(chunks({"a": [1]}, 0)) != standard.encode({"a": [1]}):
            return standard.encode
    except (AttributeError, TypeError):  # an interpreter that has it otherwise, or not
        return standard.encode

    def encode(data: Any) -> str:
        try:
            return "".join(chunks(data, 0))
        except BaseException:
            within.clear()
            raise

    return encode


_encode = _encoder()


def record(
    kind: str,
    name: str,
    at: float,
    run: str | None = None,
    task: str | None = None,
    attempt: int | None = None,
    rest: Mapping[str, Any] | None = None,
) -> Record:
    """Makes a record of type `name`; `rest` is JSON data, or values that `plain.dump` makes some of.

    Raises `ValueError` or `TypeError` where it is not, or `at` is no time.
    """
    at = float(at)
    if at - at != 0.0:
        raise ValueError(f"a record needs a time, got {at!r}")
    # A lone surrogate can't be a TEXT column; it stays in the JSON, which can hold it.
    if run is not None and not run.isascii() and not _is_text(run):
        run, rest = None, {"run": run, **(rest or {})}
    if task is not None and not task.isascii() and not _is_text(task):
        task, rest = None, {"task": task, **(rest or {})}
    return kind, at, name, run, task, attempt, _encode(rest) if rest else "{}"


def record_of(kind: str, data: Mapping[str, Any]) -> Record:
    """Makes a record of JSON data with at least `type` and `at`. Raises `ValueError` or `TypeError` where it is none."""
    rest = dict(data)
    try:
        name, at = rest.pop("type"), rest.pop("at")
    except KeyError as missing:
        raise ValueError(f"a record needs {missing}") from None
    if not isinstance(name, str):
        raise ValueError(f"a record needs a type, got {name!r}")
    columns = {key: rest.pop(key) for key in ("run", "task") if isinstance(rest.get(key), str)}
    attempt = rest.pop("attempt") if type(rest.get("attempt")) is int else None
    return record(kind, name, at, columns.get("run"), columns.get("task"), attempt, rest)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def data_of(record: Record) -> dict[str, Any]:
    """Gives a record as JSON data. Raises `ValueError` where it is damaged."""
    _kind, at, name, run, task, attempt, text = record
    data: dict[str, Any] = {"type": name, "at": at}
    if run is not None:
        data["run"] = run
    if task is not None:
        data["task"] = task
    if attempt is not None:
        data["attempt"] = attempt
    if text != "{}":
        try:
            data.update(json.loads(text))
        except TypeError as error:  # no text, or of no table: SQLite's columns hold anything
            raise ValueError(str(error)) from error
    return data


def chained(checksum: int, seq: int, record: Record) -> int:
    """Gives the checksum of the chain at a row, from that of the row before it."""
    kind, at, name, run, task, attempt, text = record
    whole = f"{seq}\x1f{kind}\x1f{at!r}\x1f{name}\x1f{run}\x1f{task}\x1f{attempt}\x1f{text}"
    return zlib.crc32(whole.encode(), checksum)


def fitting(
    rows: Iterable[tuple[int, Record]], kind: str | None, run: str | None, task: str | None
) -> Iterator[tuple[int, Record]]:
    """Gives those rows that fit every filter given."""
    for row in rows:
        found_kind, _at, _name, found_run, found_task, *_rest = row[1]
        if kind in (None, found_kind) and run in (None, found_run) and task in (None, found_task):
            yield row

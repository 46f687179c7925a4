"""A record as a row: the columns that it is kept in, and the chain of checksums that holds each row to the one before it.

Hides the form of a row. Rules for editing: rows are read for ever, and a chain is made of what was written, to the letter: a record
may be written otherwise one day, but what is read is chained as it stands.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

# kind, at, type, run, task, attempt, data
Columns = tuple[str, float, str, str | None, str | None, int | None, str]


class Record(NamedTuple):
    """Something to remember: `kind` is "event" or "fact"; `data` is JSON data with at least `type` and `at` (seconds)."""

    kind: str
    data: Mapping[str, Any]


class Row(NamedTuple):
    """A record as read back, with the number it got; `data` is equal to what was appended."""

    seq: int
    kind: str
    data: dict[str, Any]


def _encoder() -> Callable[[Any], str]:
    """Gives what makes JSON of data: in ASCII, so that a path that is not UTF-8 survives.

    `JSONEncoder.encode` makes its half in C anew for each text, which takes as long as a small text; where that half can be had, it
    is made once.
    """
    standard = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
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


def columns_of(record: Record) -> Columns:
    """Gives a record as columns. Raises `ValueError` or `TypeError` for data that is not JSON or lacks `type` or `at`."""
    kind, data = record
    rest = dict(data)
    pop = rest.pop
    try:
        at, name = float(pop("at")), pop("type")
    except KeyError as missing:
        raise ValueError(f"a record needs {missing}") from None
    if not isinstance(name, str) or at - at != 0.0:
        raise ValueError(f"a record needs a type and a time, got {name!r} and {at!r}")
    run = pop("run") if _fits_a_column(rest.get("run")) else None
    task = pop("task") if _fits_a_column(rest.get("task")) else None
    attempt = pop("attempt") if type(rest.get("attempt")) is int else None
    return kind, at, name, run, task, attempt, _encode(rest) if rest else "{}"


def _fits_a_column(value: Any) -> bool:
    """Whether a value can be a TEXT column; anything else stays in the JSON, which can hold a lone surrogate too."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def data_of(columns: Columns) -> dict[str, Any]:
    """Gives the data that was made into these columns. Raises `ValueError` where they are damaged."""
    _kind, at, name, run, task, attempt, text = columns
    data: dict[str, Any] = {"type": name, "at": at}
    if run is not None:
        data["run"] = run
    if task is not None:
        data["task"] = task
    if attempt is not None:
        data["attempt"] = attempt
    if text != "{}":
        data.update(json.loads(text))
    return data


def chained(checksum: int, seq: int, columns: Columns) -> int:
    """Gives the checksum of the chain at a row, from that of the row before it."""
    kind, at, name, run, task, attempt, text = columns
    whole = f"{seq}\x1f{kind}\x1f{at!r}\x1f{name}\x1f{run}\x1f{task}\x1f{attempt}\x1f{text}"
    return zlib.crc32(whole.encode(), checksum)


def fitting(
    rows: Iterable[tuple[int, Columns]], kind: str | None, run: str | None, task: str | None
) -> Iterator[tuple[int, Columns]]:
    """Gives those rows that fit every filter given."""
    for row in rows:
        found_kind, _at, _name, found_run, found_task, *_rest = row[1]
        if kind in (None, found_kind) and run in (None, found_run) and task in (None, found_task):
            yield row

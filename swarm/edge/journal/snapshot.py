"""A snapshot: the whole swarm at one record of the journal, so that a start replays only what came after.

Hides the file and its form: a line of JSON (which code made it, at which record, how long, which digest) and then the values. It
is an aid and never a truth: whatever does not fit raises `SnapshotUnusable`, and the events are replayed from the first on.

The form is column by column: of each class the instances are numbered as they are met, and each field of all of them is one list.
So the work is done in C, in half the time that pickling object by object takes, and reading needs no class by name: a table of
ours makes the empty objects and fills their slots, and the unpickler may call two functions, which make values of the core only.

Rules for editing: nothing of a file is looked at before its digest is right, and nothing in one may name what is called.
"""

from __future__ import annotations

import dataclasses
import enum
import gc
import hashlib
import io
import json
import os
import pickle
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import repeat
from operator import attrgetter, is_
from pathlib import Path
from typing import Any, NamedTuple

import swarm as package
from swarm.core import admission, claims, commands, goal, lessons, messages, model, needs, qa, state
from swarm.core import run as runs
from swarm.core.claims import ClaimTable
from swarm.core.state import Swarm
from swarm.core.waiting import Waiting
from swarm.edge import whole

_MAGIC = b"swarm snapshot 1\n"
_HEADER_MAX = 1 << 16
_MODULES = (admission, claims, commands, goal, lessons, messages, model, needs, qa, runs, state)


class SnapshotUnusable(Exception):
    """There is no snapshot, or it is damaged, or other code made it; the message says which."""


class Snapshot(NamedTuple):
    """The swarm as it was after record `seq`, at which the journal's chain had this checksum."""

    seq: int
    checksum: int
    swarm: Swarm


# --- the file ---------------------------------------------------------------------------------------------------------


def encode(snapshot: Snapshot) -> bytes:
    """Gives a snapshot as the content of a file; the swarm may change as soon as this has returned."""
    with _no_collections():
        counts, payload = _dump(snapshot.swarm)
    header = {
        "code": fingerprint(),
        "seq": snapshot.seq,
        "checksum": snapshot.checksum,
        "counts": counts,
        "bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    line = json.dumps(header).encode() + b"\n"
    return b"".join((_MAGIC, hashlib.sha256(line).hexdigest().encode(), b" ", line, payload))


def write(path: Path, content: bytes) -> None:
    """Puts a snapshot where the last one was: killed at any point, the old or the new one is there. Raises `OSError`."""
    whole.write(path, content, durable=True, mode=0o600)


def read(path: Path) -> Snapshot:
    """Reads the snapshot at `path`. Raises `SnapshotUnusable`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SnapshotUnusable(str(error.strerror)) from error
    try:
        header, payload = _opened(content)
        if header["code"] != fingerprint():
            raise SnapshotUnusable("another version made it")
        with _no_collections():
            return Snapshot(header["seq"], header["checksum"], _load(header["counts"], payload))
    except SnapshotUnusable:
        raise
    except Exception as error:  # the digests are right, so somebody made it so
        raise SnapshotUnusable(f"it can't be read: {error}") from error


def seq_of(path: Path) -> int:
    """Gives the number of the record that a snapshot was taken at, whatever code made it; 0 where it can't be known."""
    try:
        with path.open("rb") as file:
            return int(_header(file.read(_HEADER_MAX))[0]["seq"])
    except (OSError, SnapshotUnusable, LookupError, ValueError, TypeError):
        return 0


def _opened(content: bytes) -> tuple[dict[str, Any], memoryview]:
    header, start = _header(content[:_HEADER_MAX])
    payload = memoryview(content)[start:]
    if len(payload) != header["bytes"] or hashlib.sha256(payload).hexdigest() != header["sha256"]:
        raise SnapshotUnusable("it is damaged")
    if sum(header["counts"].values()) > len(payload):
        raise SnapshotUnusable("it promises more than it holds")
    return header, payload


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    digest, _, line = content[len(_MAGIC) :].partition(b"\n")[0].partition(b" ")
    if not content.startswith(_MAGIC) or hashlib.sha256(line + b"\n").hexdigest().encode() != digest:
        raise SnapshotUnusable("it is damaged")
    header: dict[str, Any] = json.loads(line)
    return header, len(_MAGIC) + len(digest) + len(line) + 2


@cache
def fingerprint() -> str:
    """Names the code whose values a snapshot holds: every file that says what a value is or what an event does to it.

    So a snapshot is read only by the very code that would have replayed to it. Where the files are not to be had, each process is a
    code of its own.
    """
    digest = hashlib.sha256(f"{package.__version__} {sys.implementation.cache_tag}".encode())
    files = [Path(__file__), *sorted(Path(model.__file__).parent.glob("*.py"))]
    for file in files:
        try:
            digest.update(file.read_bytes())
        except OSError:
            digest.update(os.urandom(16))
    return digest.hexdigest()


@contextmanager
def _no_collections() -> Iterator[None]:
    """Keeps the garbage collector away while very many objects are made: it would go through all of them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


# --- the values -------------------------------------------------------------------------------------------------------


def _known(base: type) -> dict[str, type[Any]]:
    """The classes of the core that a swarm may hold, by name."""
    found: dict[str, type[Any]] = {}
    for module in _MODULES:
        for name, each in vars(module).items():
            if isinstance(each, type) and each.__module__ == module.__name__ and issubclass(each, base):
                assert name not in found
                found[name] = each
    return found


_CLASSES = {name: cls for name, cls in _known(object).items() if dataclasses.is_dataclass(cls)}
_FIELDS = {cls: tuple(field.name for field in dataclasses.fields(cls)) for cls in _CLASSES.values()}
_ENUMS = _known(enum.Enum)
_TUPLES = _known(tuple)


def _at(kind: str, place: int) -> Any:
    """Stands in a snapshot for the object `place` of a class."""
    raise AssertionError(
        f"{kind} {place}: only the name of this is used; a reader puts another function in its place"
    )


def _made(kind: str, value: Any) -> Any:
    """Stands in a snapshot for a value that is made of a simpler one."""
    raise AssertionError(f"{kind} {value!r}: only the name of this is used, as above")


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, 5)
        self.found: dict[type[Any], list[Any]] = {}

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        known = self.found.get(kind)
        if known is None:
            if kind not in _FIELDS:
                return self._odd(value, kind)
            known = self.found[kind] = []
        known.append(value)
        return _at, (kind.__name__, len(known) - 1)

    def _odd(self, value: Any, kind: type[Any]) -> Any:
        if kind is ClaimTable or kind is Waiting:
            # Filled from what is held and who waits, which makes the index again.
            return _made, (kind.__name__, None)
        if kind is Counter:
            return _made, ("Counter", dict(value))
        if kind.__name__ in _ENUMS:
            return _made, (kind.__name__, value.value)
        if kind.__name__ in _TUPLES:
            return _made, (kind.__name__, tuple(value))
        if value is _at or value is _made:
            return NotImplemented
        raise TypeError(f"a snapshot can't hold {kind.__name__}")


def _dump(swarm: Swarm) -> tuple[dict[str, int], bytes]:
    """Gives how many objects there are of each class, and all of them as bytes."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(swarm)
    pickler.dump([(tuple(run.claims.held()), run.waiting.tasks()) for run in swarm.runs.values()])
    done: Counter[type[Any]] = Counter()
    while fresh := [(kind, objects) for kind, objects in pickler.found.items() if len(objects) > done[kind]]:
        for kind, objects in fresh:  # its fields may hold more objects, of this class too
            start, done[kind] = done[kind], len(objects)
            columns = [_column(name, objects[start : done[kind]]) for name in _FIELDS[kind]]
            pickler.dump((kind.__name__, start, done[kind], columns))
    pickler.dump(None)
    return {kind.__name__: len(objects) for kind, objects in pickler.found.items()}, file.getvalue()


def _column(name: str, objects: list[Any]) -> list[Any] | tuple[Any]:
    """Gives a field of many objects: a list of the values, or a tuple of the one that all have."""
    values = list(map(attrgetter(name), objects))
    return (values[0],) if all(map(is_, values, repeat(values[0]))) else values


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, counts: dict[str, int]) -> None:
        super().__init__(file)
        self.objects: dict[str, list[Any]] = {
            name: list(map(object.__new__, repeat(_CLASSES[name], count))) for name, count in counts.items()
        }

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name in ("_at", "_made"):
            return getattr(self, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a snapshot")

    def _at(self, kind: str, place: int) -> Any:
        return self.objects[kind][place]

    def _made(self, kind: str, value: Any) -> Any:
        if kind == "ClaimTable":
            return ClaimTable()
        if kind == "Waiting":
            return Waiting()
        if kind == "Counter":
            return Counter(value)
        return _ENUMS[kind](value) if kind in _ENUMS else _TUPLES[kind](*value)


def _load(counts: dict[str, int], payload: memoryview) -> Swarm:
    unpickler = _Unpickler(io.BytesIO(payload), counts)
    swarm, held = unpickler.load(), unpickler.load()
    while (part := unpickler.load()) is not None:
        kind, start, end, columns = part
        objects, cls = unpickler.objects[kind][start:end], _CLASSES[kind]
        for name, column in zip(_FIELDS[cls], columns, strict=True):
            values = column if isinstance(column, list) else repeat(column[0])
            deque(map(getattr(cls, name).__set__, objects, values), maxlen=0)  # frozen or not
    if not isinstance(swarm, Swarm):
        raise ValueError("it holds something else")
    for run, (holdings, waiting) in zip(swarm.runs.values(), held, strict=True):
        run.claims.__setstate__(holdings)
        for task, (key, wanted) in waiting.items():
            run.waiting.add(task, key, wanted)
    return swarm

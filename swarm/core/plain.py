"""Values of the model and messages as plain JSON data, and back.

Rules for editing: what stands in journals is read for ever. A field is left out only where its default is empty, so that another
default never changes what was written.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Container, Mapping
from datetime import datetime, timezone
from functools import cache, partial
from operator import attrgetter
from typing import Any

_PLAIN = frozenset({str, int, float, bool, type(None)})


def dump(value: Any) -> Any:
    """Gives a value of the model or of a message as plain JSON data."""
    if type(value) in _PLAIN:  # nearly every field of nearly every event
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dump_fields(value, {})
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [dump(item) for item in value]
    if isinstance(value, Mapping):
        return {key: dump(item) for key, item in value.items()}
    return value


def dump_fields(value: Any, out: dict[str, Any]) -> dict[str, Any]:
    """Adds the fields of a dataclass to `out` as plain JSON data, as `fields_of` gives them, and gives that."""
    cls = type(value)
    get = _KNOWN_FIELDS.get(cls) or _KNOWN_FIELDS.setdefault(cls, fields_of(cls))
    for name, item in get(value).items():
        out[name] = item if type(item) in _PLAIN else dump(item)
    return out


def fields_of(cls: type[Any], but: Container[str] = ()) -> Callable[[Any], dict[str, Any]]:
    """Gives what gives the fields of a dataclass as they are, but some: those without a default first, then the others, of which
    what is empty by default is left out. Only emptiness is: another default must not change old events."""
    defaults = {name: default for name, default in _defaults(cls) if name not in but}
    wanted = tuple(name for name, default in defaults.items() if default is _MISSING)
    others = tuple(name for name in defaults if name not in wanted)
    empty = tuple(_MISSING if defaults[name] else defaults[name] for name in others)
    get_wanted, get_others = _getter(wanted), _getter(others)

    def get(value: Any) -> dict[str, Any]:
        out = dict(zip(wanted, get_wanted(value), strict=True))
        items = get_others(value)
        if items != empty:
            for name, item, nothing in zip(others, items, empty, strict=True):
                if item or item != nothing:
                    out[name] = item
        return out

    return get


_KNOWN_FIELDS: dict[type[Any], Callable[[Any], dict[str, Any]]] = {}


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


_MISSING = object()


_KNOWN_DEFAULTS: dict[type[Any], tuple[tuple[str, Any], ...]] = {}


def _defaults(cls: type[Any]) -> tuple[tuple[str, Any], ...]:
    known = _KNOWN_DEFAULTS.get(cls)
    if known is not None:
        return known
    pairs: list[tuple[str, Any]] = []
    for item in dataclasses.fields(cls):
        if item.default is not dataclasses.MISSING:
            pairs.append((item.name, item.default))
        elif item.default_factory is not dataclasses.MISSING:
            pairs.append((item.name, item.default_factory()))
        else:
            pairs.append((item.name, _MISSING))
    return _KNOWN_DEFAULTS.setdefault(cls, tuple(pairs))


def load(kind: Any, data: Any) -> Any:
    """Reads a value of type `kind` back from plain JSON data. Raises `ValueError` where it does not fit; ignores fields
    that it does not know."""
    reader = _reader(kind)
    return data if reader is None else reader(data)


@cache
def _reader(kind: Any) -> Callable[[Any], Any] | None:
    """Gives what reads a value of a type back; None where that is plain data already. Made once for each type: a journal that is
    replayed has many of few."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return partial(_load_fields, kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        reader = _reader(next(arg for arg in arguments if arg is not type(None)))
        return None if reader is None else lambda data: None if data is None else reader(data)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return partial(_load_items, _reader(arguments[0]))
    if origin is tuple:
        return partial(_load_each, tuple(map(_reader, arguments)))
    return kind if isinstance(kind, type) and issubclass(kind, enum.Enum) else None


def _load_items(reader: Callable[[Any], Any] | None, data: Any) -> tuple[Any, ...]:
    return tuple(_listed(data) if reader is None else map(reader, _listed(data)))


def _load_each(readers: tuple[Callable[[Any], Any] | None, ...], data: Any) -> tuple[Any, ...]:
    pairs = zip(readers, _listed(data), strict=True)
    return tuple(item if reader is None else reader(item) for reader, item in pairs)


def _listed(data: Any) -> Any:
    if not isinstance(data, (list, tuple)):
        raise ValueError(f"wants a list, got {type(data).__name__}")
    return data


def _load_fields(cls: Any, data: Any) -> Any:
    if not isinstance(data, Mapping):
        raise ValueError(f"{cls.__name__} wants an object, got {type(data).__name__}")
    readers, wanted = _readers(cls)
    values = {}
    for name, item in data.items():
        if name in readers:
            reader = readers[name]
            values[name] = item if reader is None else reader(item)
    if not wanted <= values.keys():
        lacking = next(name for name, _ in _defaults(cls) if name in wanted - values.keys())
        raise ValueError(f"{cls.__name__} lacks {lacking!r}")
    return cls(**values)


@cache
def _readers(cls: Any) -> tuple[dict[str, Callable[[Any], Any] | None], frozenset[str]]:
    """Gives what reads each field of a dataclass, and the names of those that it can't do without."""
    hints, defaults = typing.get_type_hints(cls), _defaults(cls)
    wanted = frozenset(name for name, default in defaults if default is _MISSING)
    return {name: _reader(hints[name]) for name, _ in defaults}, wanted


def rfc3339(at: float | None) -> str | None:
    """Gives a time in seconds as RFC 3339 in UTC, to the millisecond."""
    if at is None:
        return None
    moment = datetime.fromtimestamp(at, timezone.utc)  # noqa: UP017  (datetime.UTC costs an import lookup)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_told(record: Mapping[str, Any]) -> dict[str, Any]:
    """Gives a record of the journal as it is told to people and programs: its times, which are `at` and what ends in `_at`, are
    seconds there and RFC 3339 outside."""
    return {
        name: rfc3339(value)
        if (name == "at" or name.endswith("_at")) and isinstance(value, (int, float))
        else value
        for name, value in record.items()
    }

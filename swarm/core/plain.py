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
_KNOWN_HINTS: dict[type[Any], dict[str, Any]] = {}


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


def _hints(cls: type[Any]) -> dict[str, Any]:
    if cls not in _KNOWN_HINTS:
        _KNOWN_HINTS[cls] = typing.get_type_hints(cls)
    return _KNOWN_HINTS[cls]


def load(kind: type[Any], data: Any) -> Any:
    """Reads a value of type `kind` back from plain JSON data. Raises `ValueError` where it does not fit; ignores fields
    that it does not know."""
    return _load(kind, data)


def _load(kind: Any, data: Any) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _load_fields(kind, data)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        return _load(next(arg for arg in typing.get_args(kind) if arg is not type(None)), data)
    if origin is tuple:
        if not isinstance(data, (list, tuple)):
            raise ValueError(f"wants a list, got {type(data).__name__}")
        arguments = typing.get_args(kind)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_load(arguments[0], item) for item in data)
        return tuple(_load(arg, item) for arg, item in zip(arguments, data, strict=True))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(data)
    return data


def _load_fields(cls: type[Any], data: Any) -> Any:
    if not isinstance(data, Mapping):
        raise ValueError(f"{cls.__name__} wants an object, got {type(data).__name__}")
    hints = _hints(cls)
    values = {}
    for name, default in _defaults(cls):
        if name in data:
            values[name] = _load(hints[name], data[name])
        elif default is _MISSING:
            raise ValueError(f"{cls.__name__} lacks {name!r}")
    return cls(**values)


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

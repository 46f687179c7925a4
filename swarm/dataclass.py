"""Makes our data classes: `dataclass` of the standard library, of which only `__init__` is compiled for each class.

The standard library writes and compiles six methods for each frozen class; with 240 classes that was a quarter of a daemon's start.
Here all classes share what compares, hashes and shows them, and it says the same. That nothing frozen is changed the type checker
sees to; tests have the classes refuse it too (`guarded`). Without that guard they are also made several times as fast, and a daemon
decides an eighth faster: it makes an event, facts and commands each time.

Rules for editing: the type checker takes this for the standard library's own, so it must behave as that does.
"""

from __future__ import annotations

import dataclasses
import reprlib
from functools import cache
from operator import attrgetter

TYPE_CHECKING = False  # importing typing would cost the commands that need none of it
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass as dataclass
    from typing import Any
else:

    def dataclass(cls: type | None = None, /, *, frozen: bool = False, **how: bool) -> Any:
        """Makes a class one of data, as `dataclasses.dataclass` does; what it compares and shows can't be turned off."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen, **how)
        shared = {"__eq__": _equal, "__hash__": _hash if frozen else None, "__repr__": _repr}
        for name, method in shared.items():
            if name not in vars(cls):
                setattr(cls, name, method)
        return dataclasses.dataclass(cls, frozen=frozen and guarded, eq=False, repr=False, **how)


guarded = False  # whether frozen classes that are made from now on refuse to be changed


@cache
def _compared(cls: Any) -> Callable[[Any], object]:
    """Gives what gives the values that instances of a class are told apart by."""
    names = [field.name for field in dataclasses.fields(cls) if field.compare]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple([getattr(value, name) for name in names])


def _equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    values_of = _compared(self.__class__)
    return values_of(self) == values_of(other)


def _hash(self: Any) -> int:
    return hash(_compared(self.__class__)(self))


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = [
        f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr
    ]
    return f"{type(self).__qualname__}({', '.join(shown)})"

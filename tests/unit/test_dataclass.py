"""What our own `dataclass` makes, held against what the standard library's does of the same classes."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from dataclasses import field
from typing import Any

import pytest

import swarm.dataclass
from swarm.core import messages as m
from swarm.core.model import Claim, Mode
from swarm.dataclass import dataclass


def two_of_each(make: Any) -> dict[str, tuple[Any, Any]]:
    """Two instances each, which differ, of classes of every kind that we have; made by one `dataclass` or the other."""

    class Nothing:
        """No field."""

    class One:
        """One field."""

        a: Any

    one = make(frozen=True, slots=True)(One)

    class Named(one):  # type: ignore[misc, valid-type]
        """Fields of its own, and one from above."""

        b: tuple[int, ...] = ()
        c: dict[str, int] = field(default_factory=dict)

    class Changing:
        """Not frozen."""

        a: int
        b: list[int] = field(default_factory=list)

    class Plain:
        """Nothing said, in two ways."""

        a: int = 1

    class Secret:
        """Not all of it is shown, nor compared."""

        a: int
        token: str = field(repr=False)
        seen: int = field(default=0, compare=False)

    nothing = make(frozen=True, slots=True)(Nothing)
    named = make(frozen=True, slots=True, kw_only=True)(Named)
    changing, plain, secret = make(slots=True)(Changing), make(Plain), make(frozen=True)(Secret)
    return {
        "no field": (nothing(), one(1)),
        "one field": (one(1), one(2)),
        "a list in it": (one([1]), one([2])),
        "unequal to itself": (one(math.nan), one("x")),
        "by name": (named(a=1, b=(2,)), named(a=1, c={"x": 1})),
        "of the class above": (one(1), named(a=1)),
        "changing": (changing(1), changing(1, [2])),
        "plain": (plain(), plain(2)),
        "secret": (secret(1, "x", 5), secret(1, "y")),
        "not compared": (secret(1, "x", 5), secret(1, "x", 6)),
    }


CASES = list(two_of_each(dataclass))


@pytest.fixture(params=[True, False], ids=["guarded", "as a user has it"], autouse=True)
def _guarded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm.dataclass, "guarded", request.param)


def hash_of(value: Any) -> int | str:
    """The hash, or what is said of there being none."""
    try:
        return hash(value)
    except TypeError as error:
        return str(error)


@pytest.mark.parametrize("case", CASES)
def test_values_are_equal_as_ever(case: str) -> None:
    """What is equal for the standard library is equal for us, and nothing else; the hash is the same to the digit."""
    ours, theirs = two_of_each(dataclass)[case], two_of_each(dataclasses.dataclass)[case]
    assert (ours[0] == ours[1]) is (theirs[0] == theirs[1])
    for mine, its in zip(ours, theirs, strict=True):
        twin, their_twin = dataclasses.replace(mine), dataclasses.replace(its)
        assert mine is not twin
        assert (mine == twin) is (its == their_twin) is True
        assert mine != its  # of another class, which has the same fields
        assert mine.__eq__(1) is its.__eq__(1) is NotImplemented
        assert hash_of(mine) == hash_of(twin) == hash_of(its)


@pytest.mark.parametrize("case", CASES)
def test_values_are_shown_as_ever(case: str) -> None:
    """The repr of a value is that of the standard library, to the letter."""
    ours, theirs = two_of_each(dataclass)[case], two_of_each(dataclasses.dataclass)[case]
    assert list(map(repr, ours)) == list(map(repr, theirs))


@pytest.mark.parametrize("case", CASES)
def test_values_are_copied(case: str) -> None:
    """A value can be copied with all below it, whatever its class is made by."""
    for mine in two_of_each(dataclass)[case]:
        assert repr(copy.deepcopy(mine)) == repr(mine)


def test_a_value_that_holds_itself_is_shown() -> None:
    """The repr of a circle ends."""

    @dataclass(slots=True)
    class Ring:
        next: Any = None

    ring = Ring()
    ring.next = ring
    assert repr(ring).endswith("Ring(next=...)")


def test_what_a_class_says_itself_holds() -> None:
    """A method that a class writes out is not replaced."""

    @dataclass(frozen=True, slots=True)
    class Own:
        a: int

        def __repr__(self) -> str:
            return "mine"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    assert repr(Own(1)) == "mine"
    assert Own(1) == Own(2)
    assert hash(Own(1)) == 7


def test_only_the_guard_makes_methods_for_one_class() -> None:
    """What classes compare, hash and show themselves by is shared; only guarded ones refuse to be changed."""

    @dataclass(frozen=True, slots=True)
    class Made:
        a: int

    shared = ("__eq__", "__hash__", "__repr__")
    assert all(vars(Made)[name] is vars(Claim)[name] for name in shared)
    refuses = ("__setattr__", "__delattr__")
    assert all((name in vars(Made)) is swarm.dataclass.guarded for name in refuses)


def test_frozen_classes_refuse_in_tests() -> None:
    """What is frozen in the house refuses to be changed wherever tests use it."""
    claim = Claim("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        claim.path = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del claim.path
    assert claim == Claim("a")


def test_values_of_the_house_are_kept_and_read_back() -> None:
    """What was pickled is the same again."""
    made = [Claim("a", Mode.SHARED), m.RunEvent(at=1.0, run="r"), m.Ticked(at=2.0)]
    assert pickle.loads(pickle.dumps(made)) == made

"""Messages: what the journal keeps can be read back, and nothing in it changes by that."""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.core import commands as cmd
from swarm.core import machine, plain
from swarm.core import messages as m
from swarm.core.model import Limits, PlanSpec, Readings, Reason, SuiteResult, TaskSpec, WorkerResult
from tests.builders import a_claim, a_plan, a_task

quietly = settings(database=None, deadline=None, max_examples=10)


def leaves(base: type[Any]) -> list[type[Any]]:
    """The messages of a kind that nothing is derived from."""
    found = [each for each in vars(m).values() if isinstance(each, type) and issubclass(each, base)]
    bases = {parent for each in found for parent in each.__mro__[1:]}
    return [each for each in found if each not in bases]


EVENTS = leaves(m.Event)
COMMANDS = leaves(cmd.Command)
_texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)
_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | _texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_texts, inner, max_size=2),
    max_leaves=4,
)
_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    str: _texts,
    bool: st.booleans(),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    Any: _plain,
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type as the messages use it."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if dataclasses.is_dataclass(kind):
        return instances(typing.cast("type[Any]", kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return st.none() | values(inner)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    return st.dictionaries(_texts, _plain, max_size=2)


def instances(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Instances with every field made up."""
    hints = typing.get_type_hints(cls)
    fields = {item.name: values(hints[item.name]) for item in dataclasses.fields(cls)}
    return st.builds(cls, **fields)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda cls: cls.__name__)
def test_every_event_has_its_handler(kind: type[m.Event]) -> None:
    """There is no event that the machine does not know."""
    assert kind in machine._HANDLERS


@pytest.mark.parametrize("kind", EVENTS, ids=lambda cls: cls.__name__)
@given(data=st.data())
@quietly
def test_every_event_comes_back_from_json_as_it_was(kind: type[m.Event], data: st.DataObject) -> None:
    """Whatever an event holds, writing it as JSON text and reading it back gives an equal event."""
    event = data.draw(instances(kind))
    assert m.event_from_json(json.loads(json.dumps(m.event_to_json(event)))) == event


@pytest.mark.parametrize("kind", EVENTS, ids=lambda cls: cls.__name__)
@given(data=st.data())
@quietly
def test_the_parts_of_an_event_are_its_json_taken_apart(kind: type[m.Event], data: st.DataObject) -> None:
    """What is kept of an event in columns, and the rest beside them, are together what its JSON form says, nothing twice."""
    event = data.draw(instances(kind))
    name, at, run, task, attempt, rest = m.parts_of(event)
    head = {"type": name, "at": at, "run": run, "task": task, "attempt": attempt}
    assert not head.keys() & rest.keys()
    written = {key: value for key, value in head.items() if value is not None or key in ("type", "at")}
    assert {**written, **plain.dump(rest)} == m.event_to_json(event)


@pytest.mark.parametrize("kind", [*EVENTS, *COMMANDS], ids=lambda cls: cls.__name__)
def test_messages_are_frozen_and_say_what_they_are(kind: type[Any]) -> None:
    """A message can't be changed, has no room for other fields, and has a sentence of its own that says what it is."""
    parameters = kind.__dataclass_params__
    assert parameters.frozen
    assert "__slots__" in vars(kind)
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")


def test_emptiness_is_left_out_and_nothing_else() -> None:
    """An empty field whose default is empty is not written; any other value is, so that a new default changes no old event."""
    written = m.event_to_json(
        m.PlanSubmitted(at=1.0, run="r", plan=a_plan(), base_branch="main", base_commit="b")
    )
    assert "only" not in written
    assert "fail_fast" not in written
    assert plain.dump(Limits(smoothing_s=0.0))["smoothing_s"] == 0.0
    assert plain.dump(Limits())["workers_max"] == 4
    assert plain.dump(WorkerResult(retry_after_s=0.0)) == {"retry_after_s": 0.0}
    assert plain.dump(SuiteResult(name="x", outcome="passed", exit_code=0))["exit_code"] == 0


def test_a_plan_with_everything_comes_back() -> None:
    """Claims, suites and phases of a plan survive the journal."""
    task = a_task("ä", claims=["a/**", "+c"], verify=["make"], needs=["b"])
    plan = a_plan(task, a_task("b"), verify=["make test"])
    assert plain.load(PlanSpec, json.loads(json.dumps(plain.dump(plan)))) == plan
    assert plain.dump(a_claim("+c")) == {"path": "c", "mode": "shared"}


def test_an_unknown_type_is_refused() -> None:
    """An event of a type that this version does not know is not read as another."""
    with pytest.raises(ValueError, match="unknown event type 'Later'"):
        m.event_from_json({"type": "Later", "at": 1.0})
    with pytest.raises(ValueError, match="unknown event type None"):
        m.event_from_json({"at": 1.0})


def test_a_missing_field_is_named() -> None:
    """An event without a field that has no default is refused with the name of that field."""
    with pytest.raises(ValueError, match="Published lacks 'commit'"):
        m.event_from_json({"type": "Published", "at": 1.0, "run": "r"})


def test_a_field_of_a_later_version_is_passed_over() -> None:
    """A field that is not known does not hinder the reading."""
    event = m.event_from_json({"type": "Ticked", "at": 1.0, "colour": "red"})
    assert event == m.Ticked(at=1.0)


def test_what_does_not_fit_is_refused() -> None:
    """A text where an object belongs, and a word that an enumeration does not have, are refused."""
    with pytest.raises(ValueError, match="Readings wants an object, got str"):
        m.event_from_json({"type": "HostMeasured", "at": 1.0, "readings": "calm"})
    with pytest.raises(ValueError, match="borrowed"):
        plain.load(TaskSpec, {"id": "a", "title": "A", "claims": [{"path": "x", "mode": "borrowed"}]})
    with pytest.raises(ValueError, match="wants a list"):
        plain.load(TaskSpec, {"id": "a", "title": "A", "needs": None})


def test_a_fact_says_only_what_it_is_about() -> None:
    """The public form of a fact has its own data beside type, time, run, task and attempt, and leaves out what it is not about."""
    fact = m.Fact(type="TaskLanded", at=1.5, run="r", task="t", attempt=2, data={"commit": "c"})
    assert fact.to_json() == {
        "type": "TaskLanded",
        "at": 1.5,
        "run": "r",
        "task": "t",
        "attempt": 2,
        "commit": "c",
    }
    assert m.parts_of(fact) == ("TaskLanded", 1.5, "r", "t", 2, {"commit": "c"})
    assert m.Fact(type="CapacityChanged", at=2.0).to_json() == {"type": "CapacityChanged", "at": 2.0}


def test_reasons_and_readings_keep_their_numbers() -> None:
    """Numbers stay numbers: no rounding, no text."""
    readings = Readings(0.1 + 0.2, 1e-9, 2**40, 1)
    assert plain.load(Readings, json.loads(json.dumps(plain.dump(readings)))) == readings
    reason = Reason("conflict", "it conflicts", {"paths": ["a"], "n": 3})
    assert plain.load(Reason, json.loads(json.dumps(plain.dump(reason)))) == reason


def test_the_times_of_every_event_are_told_as_such() -> None:
    """Each float of an event is a time and named `at` or `…_at`, or has a unit, or is one that is known to have none; and what has
    such a name is told as RFC 3339, the rest as it is."""
    for kind in m.event_types():
        for name, hint in typing.get_type_hints(kind).items():
            if hint in (float, float | None):
                assert name == "at" or name == "jitter" or name.endswith(("_at", "_s")), (
                    f"{kind.__name__}.{name}"
                )
    record = {"type": "X", "at": 0, "ended_at": 1.5, "never_at": None, "said_at": "noon", "by_s": 2.0}
    assert plain.as_told(record) == {
        **record,
        "at": "1970-01-01T00:00:00.000Z",
        "ended_at": "1970-01-01T00:00:01.500Z",
    }

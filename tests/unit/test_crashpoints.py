"""The catalogue of crash points and the places that name them are one."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from swarm import crashpoints

SWARM = Path(crashpoints.__file__).parent


def named_in_python(text: str) -> list[str]:
    """The points that a module names, as written: a name that is put together could not be found."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    ours = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "crash_at"]
    return [
        str(argument.value) for call in ours for argument in call.args if isinstance(argument, ast.Constant)
    ]


def named_in_source() -> Counter[str]:
    found: Counter[str] = Counter()
    for path in SWARM.rglob("*.py"):
        found.update(named_in_python(path.read_text("utf-8")))
    for path in SWARM.rglob("*.sh"):
        found.update(re.findall(r"^ *crash_at ([a-z.-]+)$", path.read_text("utf-8"), re.MULTILINE))
    return found


def test_every_point_of_the_catalogue_is_one_place_in_the_code() -> None:
    """Each point is named at exactly one place, and each place names a point of the catalogue."""
    assert named_in_source() == Counter(crashpoints.POINTS.keys())


def test_every_point_says_what_it_is_for() -> None:
    """Each point says which bug it would show and which crash points it stands for, and is named area.what-happened."""
    for name, point in crashpoints.POINTS.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)?\.[a-z]+", name), name
        assert len(point.exposes) > 20, name
        assert all(re.fullmatch(r"C([1-9]|1\d|2[0-8])", each) for each in point.stands_for.split()), name


def test_unarmed_is_nothing() -> None:
    """Without its variables the module binds a function that does nothing, and tells launchers nothing."""
    assert crashpoints.crash_at is crashpoints._nothing
    assert crashpoints.for_launcher() == {}


@pytest.mark.parametrize(
    "text", ["turn.decided", "no.such:kill:1", "turn.decided:maim:1", "turn.decided:kill:0"]
)
def test_an_order_that_could_never_fire_is_refused(text: str) -> None:
    """A name, kind or hit that can't be would make a test that kills nothing and passes."""
    with pytest.raises(ValueError):
        crashpoints._faults(text)


def test_the_ordered_hit_fires_once() -> None:
    """Of many times that a point is reached the ordered one fires, and no other; other points don't count, unless any is meant."""
    for order, expected in (("turn.decided:raise:2", [1]), ("*:raise:3", [2])):
        armed = crashpoints._arm({crashpoints.VARIABLE: order})
        assert armed is not None
        fired = []
        for n, name in enumerate(["turn.decided", "turn.decided", "journal.begun", "turn.decided"]):
            try:
                armed(name)
            except crashpoints.CrashPointReached:
                fired.append(n)
        assert fired == expected


def test_several_faults_each_fire_at_their_hit() -> None:
    """Of several ordered faults each fires at its own hit."""
    armed = crashpoints._arm(
        {crashpoints.VARIABLE: "turn.decided:raise:1,turn.decided:stall:2,journal.begun:kill:1"}
    )
    assert armed is not None
    assert [armed._due("turn.decided"), armed._due("turn.decided"), armed._due("turn.decided")] == [
        "raise",
        "stall",
        "-",
    ]
    assert armed._due("journal.begun", crashpoints.ANY) == "kill"


def test_a_launcher_is_told_at_the_ordered_start() -> None:
    """The launcher of the ordered start is told its fault, the others only to write down what they reach."""
    armed = crashpoints._arm({crashpoints.VARIABLE: "launcher.ended:kill:2"})
    assert armed is not None
    told = [armed.for_launcher()[crashpoints.VARIABLE].split() for _ in range(3)]
    assert ["launcher.ended:kill" in each for each in told] == [False, True, False]

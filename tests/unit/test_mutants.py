"""The list of planted bugs fits the code that it is about."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.crash.mutants import MUTANTS, PROJECT, Mutant, planted


@pytest.mark.parametrize("name", MUTANTS)
def test_every_bug_can_still_be_planted(name: str) -> None:
    """What a planted bug replaces is in its file exactly once, and what comes out is another program that Python reads."""
    mutant = MUTANTS[name]
    text = (PROJECT / mutant.file).read_text("utf-8")
    ast.parse(planted(text, mutant))
    assert mutant.old != mutant.new


@pytest.mark.parametrize("name", MUTANTS)
def test_the_checks_of_every_bug_are_there(name: str) -> None:
    """A check is a random walk, a day killed at a point, or a test that exists."""
    for check in MUTANTS[name].checks:
        if check == "walk" or check.startswith("day "):
            continue
        file, _, test = check.partition("::")
        assert not test or f"def {test}(" in (PROJECT / file).read_text("utf-8"), check


def test_a_bug_without_its_place_is_refused() -> None:
    """A list that no longer fits the code is an error, not a bug that was not caught."""
    mutant = Mutant("nothing", "swarm/errors.py", "no such text", "", ("walk",))
    with pytest.raises(ValueError, match="0 times"):
        planted(Path(PROJECT / mutant.file).read_text("utf-8"), mutant)

"""Swarm lands what plain git merges, to the byte, and nothing else: a few odd histories each time, hundreds by `make hostile`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.hostile import histories, trial, whole
from tests.hostile.histories import Attempt, Edit, File, History, Move, Remove, Step, Write
from tests.hostile.shrinking import shrink

LINES = b"".join(b"line %d\n" % n for n in range(20))
SEEDS = 4


@pytest.mark.parametrize("first", range(1_000, 1_000 + 3 * SEEDS, SEEDS))
def test_swarm_and_git_agree(tmp_path: Path, first: int) -> None:
    """Whatever lies in a repository and whatever attempts do to it, what swarm lands is what plain git merges in a clean clone, and
    where one of them says conflict the other does too, of the same paths and versions."""
    for seed in range(first, first + SEEDS):
        result = trial.run(histories.make(seed), tmp_path / str(seed))
        assert result.disagreement is None, (
            f"{result.disagreement}\n  Next: python -m tests.hostile --only {seed}"
        )


def test_the_whole_program_and_git_agree(tmp_path: Path) -> None:
    """A real daemon commits what its workers leave as plain git would, and lands what plain git merges."""
    result = whole.run(histories.make(7), tmp_path / "whole")
    assert result.disagreement is None, f"{result.disagreement}\n  Next: python -m tests.hostile --only 7"


def carried_out(tmp_path: Path, before: tuple[Step, ...], *attempts: Attempt) -> Counter[str]:
    result = trial.run(History(before, attempts), tmp_path / "trial")
    assert result.disagreement is None, result.disagreement
    return result.agreed


def wrote(path: bytes, data: bytes, mode: str = histories.PLAIN) -> Write:
    return Write(path, File(mode, data))


def one(*operations: histories.Operation) -> Attempt:
    return Attempt(0, (Step(operations),))


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [(b"", "merge clean"), (b"a.txt -merge\n", "merge conflict"), (b"* binary\n", "merge conflict")],
)
def test_files_that_are_not_merged_by_lines_are_not(tmp_path: Path, rule: bytes, outcome: str) -> None:
    """A file whose attributes say that it is not merged by lines conflicts where two changed it, however far apart."""
    before = (Step((wrote(b".gitattributes", rule), wrote(b"a.txt", LINES))),)
    agreed = carried_out(tmp_path, before, one(Edit(b"a.txt", 1, b"x")), one(Edit(b"a.txt", 17, b"y")))
    assert agreed[outcome] >= 1
    assert agreed["merge conflict"] == (outcome == "merge conflict")


def test_both_sides_are_kept_where_the_attributes_say_so(tmp_path: Path) -> None:
    """With `merge=union`, also from a folder's own attributes, two changes of one place are both kept."""
    before = (Step((wrote(b"d/.gitattributes", b"*.md merge=union\n"), wrote(b"d/log.md", LINES))),)
    both = [one(Edit(b"d/log.md", 19, text)) for text in (b"one", b"two")]
    assert carried_out(tmp_path, before, *both) == {"merge clean": 2}


def test_a_file_in_the_way_of_a_folder_is_told_by_its_own_name(tmp_path: Path) -> None:
    """Where one made a folder of what another changed, the conflict names the path as it is in the repository."""
    before = (Step((wrote(b"a", LINES),)),)
    found = carried_out(tmp_path, before, one(Remove(b"a"), wrote(b"a/in", b"x")), one(Edit(b"a", 3, b"y")))
    assert found["merge conflict"] == 1


def test_a_file_in_the_way_of_a_folder_is_told_by_its_own_name_when_a_landing_is_taken_back(
    tmp_path: Path,
) -> None:
    """The same where a landing that removed a file is undone after others laid a folder there."""
    before = (Step((wrote(b"a", LINES),)),)
    attempts = (one(Remove(b"a")), Attempt(1, (Step((wrote(b"a/in", b"x"),)),)), Attempt(0, (), undoes=0))
    found = carried_out(tmp_path, before, *attempts)
    assert found == {"merge clean": 2, "revert conflict": 1}


def test_taking_back_what_others_landed_is_a_conflict(tmp_path: Path) -> None:
    """A merge commit that drops what another attempt has landed does not land: to git it would be the newer word, and no claim was
    ever asked for these paths."""
    before = (Step((wrote(b"a", LINES),)),)
    theirs = Attempt(0, (Step((Remove(b"a"),)),))
    ours = Attempt(0, (Step((wrote(b"b", b"x"),), merged=(histories.Ref("attempt", 0),)),))
    assert carried_out(tmp_path, before, theirs, ours) == {"merge clean": 1, "taken back": 1}


def test_whatever_a_path_is_called_a_conflict_names_it(tmp_path: Path) -> None:
    """Names that are no UTF-8, hold a newline, a quote or a leading dash, or look like a revision, are told as they are."""
    names = [name for name in histories.ODD if not name.startswith(b".git")]
    before = (Step(tuple(wrote(name, LINES) for name in names)),)
    sides = [one(*(Edit(name, 3, text) for name in names)) for text in (b"x", b"y")]
    assert carried_out(tmp_path, before, *sides) == {"merge clean": 1, "merge conflict": 1}


def test_a_mode_alone_is_a_change(tmp_path: Path) -> None:
    """That a file became executable is committed for a worker that leaves it so, and lands."""
    before = (Step((wrote(b"a", LINES), wrote(b"b", LINES + b"b"))),)
    history = History(before, (one(histories.Mode(b"a")), one(histories.Mode(b"b"))))
    result = whole.run(history, tmp_path / "whole")
    assert result.disagreement is None, result.disagreement
    assert result.agreed["left"] == 1


def test_commits_that_fit_one_by_one_land(tmp_path: Path) -> None:
    """Work that begins with what has landed by then, and goes on from there, conflicts as a whole and lands commit by commit."""
    before = (Step((wrote(b"a", LINES),)),)
    same, further = Step((Edit(b"a", 3, b"x"),)), Step((Edit(b"a", 3, b"y"),))
    found = carried_out(tmp_path, before, Attempt(0, (same,)), Attempt(0, (same, further)))
    assert found == {"merge clean": 1, "merge conflict": 1, "replay clean": 1}


def test_a_failing_history_gets_small() -> None:
    """What is not needed to show a fault is left out of the history that shows it."""

    def fails(history: History) -> bool:
        steps = [step for attempt in history.attempts for step in attempt.steps]
        return any(isinstance(each, Move) for step in steps for each in step.operations)

    big = next(history for history in map(histories.make, range(100)) if fails(history))
    (attempt,) = shrink(big, fails).attempts
    (step,) = attempt.steps
    assert [type(each) for each in step.operations] == [Move]
    assert shrink(big, fails).before == ()


def test_a_seed_makes_one_history() -> None:
    """The same seed makes the same history, and all that there is to do to a tree is done within a few."""
    assert histories.make(5) == histories.make(5)
    made = [histories.make(seed) for seed in range(60)]
    operations = [
        each
        for history in made
        for attempt in history.attempts
        for step in attempt.steps
        for each in step.operations
    ]
    assert {type(each) for each in operations} == set(histories.Operation.__args__)

"""What a merge passes over without a word, against real git: changed there and back on one side, and on the other with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from swarm.edge.git import Objects
from swarm.edge.merging import Merged, Merger
from swarm.edge.passed_over import passed_over
from tests.conftest import git

Files = Mapping[str, str | None]
LINES = [f"line {n}\n" for n in range(20)]


def with_line(number: int, text: str, lines: str = "".join(LINES)) -> str:
    """Gives the file of twenty lines, or another, with one of them changed."""
    split = lines.splitlines(keepends=True)
    return "".join([*split[:number], f"{text}\n", *split[number + 1 :]])


THEIRS, MINE = with_line(2, "staging's"), with_line(15, "mine")
BOTH = with_line(15, "mine", THEIRS)


def commits(repo: Path, start: str, *changes: Files) -> str:
    """Commits one change after the other on top of `start` (None deletes), and gives the last."""
    git(repo, "checkout", "-q", "--detach", start)
    for files in changes:
        for path, text in files.items():
            file = repo / path
            if text is None:
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", "work")
    return git(repo, "rev-parse", "HEAD")


def found(repo: Path, onto: str, staging: str) -> list[str]:
    """Gives what the merge of `staging` passes over; git takes it for one without conflict."""
    folder, base = repo / ".git", git(repo, "merge-base", onto, staging)
    with closing(Objects(folder)) as objects, closing(Merger(folder, objects)) as merger:
        assert isinstance(merger.merge(onto, staging), Merged)
        return passed_over(folder, objects, merger, base=base, onto=onto, staging=staging)


def state(text: str | None, path: str = "src/a.py") -> Files:
    """One file with this text, None where it is deleted."""
    return {path: text}


PLAIN = "".join(LINES)
# What a file is at first, then on staging, then on the branch.
Cases = Mapping[str, tuple[str, Sequence[str | None], Sequence[str | None]]]
LOST: Cases = {
    "what landed again and the branch has taken off": (THEIRS, [PLAIN, THEIRS], [PLAIN]),
    "… while it changed something else in that file": (THEIRS, [PLAIN, THEIRS], [MINE]),
    "what was undone and the branch has taken on": (PLAIN, [THEIRS, PLAIN], [THEIRS]),
    "… and then changed something else in that file": (PLAIN, [THEIRS, PLAIN], [THEIRS, BOTH]),
    "a file that landed again and the branch has deleted": (PLAIN, [None, PLAIN], [None]),
    "in doubt: the branch has changed the same line": (PLAIN, [THEIRS, PLAIN], [with_line(2, "mine")]),
}
KEPT: Cases = {
    "the branch has changed other lines": (PLAIN, [THEIRS, PLAIN], [MINE]),
    "… on top of what it has taken on": (THEIRS, [PLAIN, THEIRS], [BOTH]),
    "the branch has changed nothing in it": (PLAIN, [THEIRS, PLAIN], []),
    "staging has not been back": (PLAIN, [THEIRS], [MINE]),
    "both have gone the same way": (PLAIN, [THEIRS], [THEIRS]),
    "staging has not touched it": (PLAIN, [], [MINE]),
}


@pytest.mark.parametrize(
    ("case", "lost"), [*((each, True) for each in LOST), *((each, False) for each in KEPT)]
)
def test_what_is_passed_over(repo: Path, case: str, lost: bool) -> None:
    """A file counts where doing after one another what staging did comes to something else than the branch has; other files that
    either side changes don't. In a folder, too, and where its name is a pattern."""
    path = "app/[id] x/ü.ts"
    begun, there, onto = {**LOST, **KEPT}[case]
    base = commits(repo, "main", state(begun, path))
    staging = commits(repo, base, {"new": "new\n"}, *(state(text, path) for text in there))
    mine = commits(repo, base, {"README.md": "mine\n"}, *(state(text, path) for text in onto))
    assert found(repo, mine, staging) == ([path] if lost else [])


def test_what_a_merge_brought_to_staging_is_none_of_its_changes(repo: Path) -> None:
    """Where somebody merges the branch into staging, what comes with it is the branch's: it may change it on. What staging does to
    it after that, there and back, is its own."""
    base = git(repo, "rev-parse", "main")
    mine = commits(repo, base, state(MINE))
    staging = commits(repo, base, state("1\n", "new"))
    git(repo, "merge", "-q", "-m", "by hand", mine)
    staging = git(repo, "rev-parse", "HEAD")
    assert found(repo, commits(repo, mine, state(PLAIN)), staging) == []
    back = commits(repo, staging, state(BOTH), state(MINE))
    assert found(repo, commits(repo, mine, state(BOTH)), back) == ["src/a.py"]


def test_of_many_steps_each_counts(repo: Path) -> None:
    """Several files and several rounds: those are named of which the last word does not arrive."""
    base = commits(repo, "main", {"a": "a\n", "b": "b\n", "c": "c\n"})
    away: Files = {"a": "other\n", "b": None, "c": "other\n"}
    home: Files = {"a": "a\n", "b": "b\n", "c": "c\n"}
    staging = commits(repo, base, away, home, away, home)
    mine = commits(repo, base, {"a": "other\n", "b": None})
    assert found(repo, mine, staging) == ["a", "b"]

"""What the tests of the edges share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.edge import git
from swarm.edge.worktrees import Pool


def open_pool(repo: Path, **settings: object) -> Pool:
    """Opens the pool of a repository where the daemon would."""
    root = settings.pop("root", repo / ".worktrees" / "pool")
    lock = repo / ".git" / "swarm" / "locks" / "worktrees.lock"
    return Pool(git.Repository.discover(repo), root, lock=lock, **settings)  # type: ignore[arg-type]


@pytest.fixture
def pool(repo: Path) -> Iterator[Pool]:
    """The pool of `repo`, where the daemon has it."""
    opened = open_pool(repo)
    yield opened
    opened.close()

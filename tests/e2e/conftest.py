"""What end-to-end tests stand on: the real program in a repository of their own, and nothing left of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.driver import Swarm


@pytest.fixture
def swarm_in(tmp_path: Path) -> Iterator[Callable[..., Swarm]]:
    """Gives a function that makes the program ready in a repository; at the end of the test nothing of it may be left there."""
    made: list[Swarm] = []

    def make(top: Path, outside: Path | None = None) -> Swarm:
        made.append(Swarm(top, outside or tmp_path / f"outside-{len(made)}"))
        return made[-1]

    yield make
    for driver in made:
        driver.end()


@pytest.fixture
def swarm(repo: Path, swarm_in: Callable[..., Swarm]) -> Swarm:
    """The program in the test's repository."""
    return swarm_in(repo)

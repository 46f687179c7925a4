"""What end-to-end tests stand on: the real program in a repository of their own, and nothing left of it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.driver import Swarm


@pytest.fixture
def swarm(repo: Path, tmp_path: Path) -> Iterator[Swarm]:
    """The program in the test's repository; at the end its daemon is stopped and nothing may be left."""
    driver = Swarm(repo, tmp_path / "outside")
    yield driver
    driver.end()

"""Has a project's own pytest run one part of its test files: `swarm_pytest_split` is the plugin that is loaded there.

Hides the plugin, which imports pytest and is never imported here, and the form of what it writes down. Rules for editing: the two
names below are those of the plugin; a test holds them together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from swarm.core.suites import Share

NAME = "swarm_pytest_split"
REPORTS = "SWARM_SPLIT_REPORTS"


def environment(base: Mapping[str, str], reports: Path) -> dict[str, str]:
    """Gives what has a pytest load the plugin and write into `reports`, besides SWARM_SHARD and SWARM_SHARDS."""
    paths = [str(Path(__file__).parent), *filter(None, [base.get("PYTHONPATH")])]
    addopts = f"{base.get('PYTEST_ADDOPTS', '')} -p {NAME}".strip()
    return {REPORTS: str(reports), "PYTHONPATH": os.pathsep.join(paths), "PYTEST_ADDOPTS": addopts}


def shares(reports: Path) -> Iterator[Share]:
    """Reads what the plugin wrote. Raises `ValueError` where one can't be read."""
    for file in sorted(reports.glob("*.json")):
        try:
            said = json.loads(file.read_bytes())
            yield Share(said["part"], said["files"], frozenset(said["mine"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"what it wrote of its test files can't be read: {error}") from error

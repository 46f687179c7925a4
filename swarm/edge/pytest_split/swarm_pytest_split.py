"""A pytest plugin that runs one part of the test files, and writes down all of them and its own, so that the parts can be added up.

Loaded into the project's own pytest, whatever its version: this folder is put on PYTHONPATH. Every part collects everything and
shares the files out by the same rule: the largest first, each to the part that has fewest tests so far.

Rules for editing: Python 3.7, pytest 6, nothing imported of swarm. What tests start themselves must see nothing of this, so the
environment is put back before the first test.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

NAME = "swarm_pytest_split"
REPORTS = "SWARM_SPLIT_REPORTS"  # the folder where reports go, one file for each process that collects
_reports = ""


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Takes what the environment says, and takes it out of the environment."""
    global _reports
    _reports = os.environ.pop(REPORTS, "")
    _leave("PYTEST_ADDOPTS", os.environ.get("PYTEST_ADDOPTS", "").replace("-p " + NAME, "").strip())
    for name, between, ours in (
        ("PYTHONPATH", os.pathsep, os.path.dirname(__file__)),
        ("PYTEST_PLUGINS", ",", NAME),
    ):
        _leave(name, between.join(each for each in os.environ.get(name, "").split(between) if each != ours))


def _leave(name: str, value: str) -> None:
    if value:
        os.environ[name] = value
    else:
        os.environ.pop(name, None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: Iterable[Any]) -> None:
    """Has the workers of pytest-xdist, which are about to be started and which alone collect, load this too."""
    if _reports:
        for spec in specs:
            others = os.environ.get("PYTEST_PLUGINS", "")
            spec.env.update({REPORTS: _reports, "PYTEST_PLUGINS": ",".join(filter(None, [others, NAME]))})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Keeps the tests of this part's files, once all that is left out otherwise has been."""
    if not _reports:
        return
    sizes = Counter(item.nodeid.split("::", 1)[0] for item in items)
    part, parts = int(os.environ["SWARM_SHARD"]), int(os.environ["SWARM_SHARDS"])
    mine = shared_out(sizes, parts)[part - 1]
    with open(os.path.join(_reports, str(os.getpid()) + ".json"), "w", encoding="utf-8") as file:
        json.dump({"part": part, "files": sizes, "mine": sorted(mine)}, file)
    left = [item for item in items if item.nodeid.split("::", 1)[0] not in mine]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item.nodeid.split("::", 1)[0] in mine]


def shared_out(sizes: dict[str, int], parts: int) -> list[set[str]]:
    """Shares files out by their number of tests; the same files always in the same way."""
    shares: list[set[str]] = [set() for _ in range(parts)]
    loads = [0] * parts
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        least = loads.index(min(loads))
        shares[least].add(name)
        loads[least] += sizes[name]
    return shares

"""Verification commands of foreign plans, run by the real shell: what the file expects decides, not only the exit status."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swarm.core import plan
from swarm.core.model import Defaults


def passes(check: dict[str, Any], folder: Path) -> bool:
    """Tells whether the suite made of a check ends with 0 in a folder."""
    document = {"subtasks": [{"id": "a", "description": "x", "verification": {"type": "command", **check}}]}
    reading = plan.read(json.dumps(document).encode(), source="p.json", defaults=Defaults())
    assert reading.plan is not None
    (suite,) = reading.plan.tasks[0].verify
    return (
        subprocess.run(["sh", "-c", suite.run], cwd=folder, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize(
    ("check", "right"),
    [
        ({"run": "true"}, True),
        ({"run": "false"}, False),
        ({"run": "exit 3", "expect_status": 3}, True),
        ({"run": "exit 3", "expected_status": "3"}, True),
        ({"run": "true", "expect_status": 3}, False),
        ({"command": "echo Import OK", "expected": "Import OK"}, True),
        ({"command": "echo Import OK; false", "expected": "Import OK"}, False),
        ({"command": "echo nothing # Import OK", "expected": "Import OK"}, False),
        ({"command": "grep -c nothing words", "expected": "0"}, True),
        ({"command": "grep -c a words", "expected": "0"}, False),
        ({"command": "printf '%s\\n' 10 | cat", "expected": "0"}, False),
        ({"command": "cat words | wc -l", "expected": 2}, True),
        ({"command": "echo \"it's a 'quote'\"", "expect_contains": "it's a 'quote'"}, True),
        ({"command": "echo other >&2", "expected": "other"}, True),
        ({"command": "echo yes", "expected": "Prints something nice"}, True),
        ({"command": "echo yes", "expect_contains": "Prints something nice"}, False),
        ({"command": "echo -e", "expect_contains": "-e"}, True),
    ],
)
def test_a_check_holds_what_the_file_expects(check: dict[str, Any], right: bool, tmp_path: Path) -> None:
    """The suite passes exactly when exit status and output are what the file asks for."""
    (tmp_path / "words").write_text("a\nb\n")
    assert passes(check, tmp_path) is right

"""A few points of the sweep over system calls, so that every run of the suite shows that it works; `make crash-sweep` does all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversity import need_to_trace
from tests.crash.sweep import sweep_all


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_step_killed_at_a_system_call_is_carried_out_again(tmp_path: Path) -> None:
    """Killed inside the compare-and-swap, or inside the making of a worktree, the same step gives the same end."""
    need_to_trace()
    reports = list(sweep_all(tmp_path, ("take", "advance"), ("KILL",), every=41))
    assert [report.wrong for report in reports] == [[], []]
    assert all(report.struck for report in reports)

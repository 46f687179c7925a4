"""What is told to whoever waits for a run that can't go on."""

from __future__ import annotations

from swarm.client.progress import Hindrances
from swarm.core.report import mark


def test_each_reason_is_told_once_and_again_when_it_comes_back() -> None:
    """A reason is told on one line when it comes up, not while it lasts, whatever comes beside it, and again when it had gone."""
    said: list[str] = []
    hindrances = Hindrances("r", said.append)
    heard = [
        ["moved\n  by hand"],
        ["moved\n  by hand"],
        ["moved\n  by hand", "Publish: full"],
        [],
        ["moved\n  by hand"],
    ]
    counts = []
    for problems in heard:
        hindrances.hear({"ended": False, "problems": problems, "mark": mark(problems)})
        counts.append(len(said))
    assert counts == [1, 1, 2, 2, 3]
    assert said[0].startswith("Run r can't go on: moved by hand\n")
    assert "Publish: full" in said[1]


def test_a_daemon_of_before_says_nothing_of_it() -> None:
    """An answer without reasons, as older daemons give, is none that is told."""
    said: list[str] = []
    Hindrances("r", said.append).hear({"ended": False})
    assert said == []


def test_marks_differ_by_what_they_stand_for() -> None:
    """Nothing has the empty mark, and other reasons, or others beside them, another one."""
    marks = [mark([]), mark(["a"]), mark(["a", "b"]), mark(["b"]), mark(["\udcff"])]
    assert marks[0] == ""
    assert len(set(marks)) == len(marks)

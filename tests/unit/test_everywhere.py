"""How every repository of the machine is told side by side."""

from __future__ import annotations

from typing import Any

from swarm.client import everywhere
from tests.unit.test_render import NOW, a_run, a_task

TIME = "2026-11-21T03:00:00Z"


def there(path: str, *runs: dict[str, Any], daemon: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is told of a repository."""
    about = (
        {"running": False} if daemon is None else {"running": True, "pid": 7, "started_at": TIME, **daemon}
    )
    capacity = {"running": 2, "workers_max": 4, "reason": ""} if daemon is not None else {}
    return {"path": path, "schema": 1, "daemon": about, "capacity": capacity, "runs": list(runs)}


def told(*repositories: dict[str, Any], width: int = 100) -> list[str]:
    """The lines for people."""
    document = {"repositories": list(repositories)}
    return [line for _, line in everywhere.lines(document, now=NOW, width=width)]


def failed(name: str) -> dict[str, Any]:
    """A task that met a conflict."""
    return a_task(name, "failed", reason={"code": "conflict", "text": "src/a.py"})


def test_each_repository_is_told_with_its_daemon_its_runs_and_what_failed() -> None:
    """Those with a daemon come first, with their workers; runs with progress, failures, approvals; what is finished in one line."""
    many = a_run(*(failed(f"f{n}") for n in range(5)), a_task("x", "landed"), id="many")
    assert told(
        there("/idle", a_run(id="old", state="finished"), a_run(id="older", state="finished")),
        there("/r", many, a_run(id="new", state="waiting"), daemon={"paused": True}),
    ) == [
        "2 repositories, 1 with a daemon, workers 2",
        "/r  daemon 7, up 1h00m, paused; workers 2 of 4",
        "  many  active  1 of 6 landed, 5 failed",
        "    failed  f0  conflict: src/a.py",
        "    failed  f1  conflict: src/a.py",
        "    failed  f2  conflict: src/a.py",
        "    … and 2 more failed",
        "  new  the plan waits for you: swarm plan new",
        "/idle  no daemon runs",
        "  finished: old, older",
    ]


def test_what_is_wrong_with_one_repository_is_told_beside_it() -> None:
    """A daemon that does not answer, one that ended by itself, and a journal that can't be read are told in their own line."""
    error = {"cause": "The journal is broken.", "consequence": "", "next_step": "swarm recover --journal"}
    lines = told(
        there("/silent", daemon={"silent": {"cause": "It is stopped.", "next_step": "kill -CONT 7"}}),
        {"path": "/ended", "daemon": {"running": False, "failed": {"cause": "The disk is full."}}},
        {"path": "/broken", "daemon": {"running": None, "unreadable": error}},
    )
    assert lines[0] == "3 repositories, 1 with a daemon, workers 2"
    assert lines[1].startswith("/silent  It is stopped. This is what the journal says. Next: kill -CONT 7")
    assert lines[2] == "/ended  No daemon runs. The last one ended by itself: The disk is full."
    assert lines[3] == "/broken  The journal is broken. Next: swarm recover --journal"


def test_no_text_of_others_gets_to_the_terminal_and_rows_keep_to_the_width() -> None:
    """Paths, names and reasons with terminal commands in them are shown as escapes; rows are cut, a path never is."""
    evil = "\x1b]0;x\x07" * 9
    path = f"/long/{'x' * 60}{evil}"
    run = a_run(failed(evil), id=evil, problems=[evil])
    lines = told(there(path, run, a_run(id=evil, state="finished"), daemon={}), width=40)
    assert all("\x1b" not in line and "\x07" not in line for line in lines)
    assert lines[1].startswith(f"/long/{'x' * 60}\\x1b")
    assert all(len(line) <= 40 for line in lines[2:])

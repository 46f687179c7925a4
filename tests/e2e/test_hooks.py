"""Hooks: commands of the user's that are told of what happens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.e2e.driver import PATIENCE_S, Swarm, runs
from tests.e2e.test_goals import with_roles


def hook(swarm: Swarm, command: str, *on: str) -> None:
    """Writes a swarm.toml with one hook; the test removes it again."""
    lines = f"command = {json.dumps(command)}\non = {json.dumps(on)}\n"
    (swarm.top / "swarm.toml").write_text(f"[hooks.mine]\n{lines}")
    swarm.look_again()


def told(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.slow
def test_a_run_tells_its_hook_to_the_end(swarm: Swarm) -> None:
    """What is wanted is told once and in order, as the events show it, the end of the run too, before a daemon that ends by itself
    has ended; nothing else is."""
    file = swarm.outside / "told"
    hook(swarm, f"cat >> {file}", "TaskLanded", "TaskFailed:worker_failed", "RunEnded")
    bad = {"id": "b", "title": "b", "run": "exit 1", "attempts": 1}
    swarm.run(swarm.plan("r", [swarm.task("a"), bad]), code=1)
    wait_until(lambda: not swarm.status()["daemon"]["running"], at_most_s=PATIENCE_S)
    got = told(file)
    assert sorted(event["type"] for event in got) == ["RunEnded", "TaskFailed", "TaskLanded"]
    assert got[-1]["type"] == "RunEnded"
    shown = {event["seq"]: event for event in swarm.events()}
    assert [shown[event["seq"]] for event in got] == got
    swarm.without_settings()


@pytest.mark.slow
def test_what_a_killed_daemon_had_not_told_is_told_by_the_next(swarm: Swarm) -> None:
    """A hook that hangs holds nothing up; killed with its daemon it is told again by the next one, and of nothing twice that it
    had taken."""
    file, gate = swarm.outside / "told", swarm.outside / "gate"
    hook(swarm, f"until [ -e {gate} ]; do sleep 0.05; done; cat >> {file}", "TaskLanded")
    swarm("start")
    run = swarm.run(swarm.plan("r", [swarm.task("a"), swarm.task("b", needs=["a"])]))
    assert (run["counts"]["landed"], told(file)) == (2, [])
    pid = swarm.status()["daemon"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not runs(pid), at_most_s=PATIENCE_S)
    swarm("start")
    gate.touch()
    wait_until(lambda: {event["task"] for event in told(file)} == {"a", "b"}, at_most_s=PATIENCE_S)
    swarm("stop")
    before = told(file)
    swarm("start")
    swarm("submit", str(swarm.plan("s", [swarm.task("c")])))
    wait_until(lambda: len(told(file)) > len(before), at_most_s=PATIENCE_S)
    assert [event["task"] for event in told(file)[len(before) :]] == ["c"]
    swarm.without_settings()


@pytest.mark.slow
def test_a_hook_that_fails_is_said(swarm: Swarm) -> None:
    """It is tried again, then left, and the status says which and why until it takes something again."""
    count, good = swarm.outside / "count", swarm.outside / "good"
    hook(swarm, f"echo >> {count}; test -e {good} || {{ echo no channel; exit 7; }}", "TaskLanded")
    swarm("start", env=swarm.with_constants("swarm.daemon.hooks", AGAIN_S=0.01))
    swarm("submit", str(swarm.plan("r", [swarm.task("a")])))

    def note() -> str:
        return str(swarm.status()["capacity"]["note"])

    wait_until(lambda: "no channel" in note(), at_most_s=PATIENCE_S)
    assert "Hook mine did not take TaskLanded of r/a" in note()
    assert "Hook mine" in swarm("status").out
    assert len(count.read_text().splitlines()) == 4
    good.touch()
    swarm("submit", str(swarm.plan("s", [swarm.task("b")])))
    wait_until(lambda: note() == "", at_most_s=PATIENCE_S)
    swarm.without_settings()


@contextlib.contextmanager
def dripping() -> Iterator[tuple[str, list[socket.socket]]]:
    """Serves an address whose answers come a byte at a time and never to their end; gives it, and who has come."""
    came: list[socket.socket] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            while not over.wait(0.05):
                with contextlib.suppress(BlockingIOError):
                    came.append(server.accept()[0])
                for each in came:
                    with contextlib.suppress(OSError):
                        each.send(b"H")

        server.setblocking(False)
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", came
        finally:
            over.set()
            thread.join()
            for each in came:
                each.close()


@pytest.mark.slow
def test_an_address_that_never_ends_its_answer_is_left(swarm: Swarm) -> None:
    """It is waited for no longer than a try may take, by one thread at most, and said; a plan that waits for an approval is told
    without being asked for."""
    with dripping() as (url, came):
        with_roles(swarm, swarm.task("a"))
        with (swarm.top / "swarm.toml").open("a") as file:
            file.write(f'[hooks.mine]\nurl = "{url}"\ntimeout_s = 0.5\n')
        swarm.look_again()
        swarm("start", env=swarm.with_constants("swarm.daemon.hooks", AGAIN_S=0.01, LATE_S=0.5))
        swarm("plan", "make one thing")

        def note() -> str:
            return str(swarm.status()["capacity"]["note"])

        wait_until(lambda: "RunEnded" in note(), at_most_s=PATIENCE_S)
        assert "an earlier try is still being answered" in note()
        assert [b'"PlanDrafted"' in each.recv(1 << 16) for each in came] == [True]
    swarm.without_settings()

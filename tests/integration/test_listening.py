"""Listening to real workers: what they do is told, one that stays after its final result is ended, and no other."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from swarm.core import commands as cmd
from swarm.core.adapters import BUILT_IN
from swarm.core.model import TaskSpec
from swarm.core.places import Places
from swarm.daemon import listening
from swarm.daemon.listening import Ears
from swarm.edge import heard, process
from swarm.worker.agents import Interrupted
from tests.conftest import wait_until

DATA = Path(__file__).resolve().parents[1] / "data" / "streams"


@dataclass
class Workers:
    """Workers of one run; what is left of them is ended afterwards."""

    top: Path
    places: Places
    started: list[tuple[process.Identity, str, Path]] = field(default_factory=list)

    def start(self, n: int, script: str) -> cmd.StartWorker:
        """Starts the n-th attempt's worker."""
        spec = TaskSpec(id="t", title="T", agent="claude")
        command = cmd.StartWorker(
            run="r", task="t", attempt=n, spec=spec, base="", worktree=str(self.top), slot=0, claims=()
        )
        places = self.places.attempt("r", "t", n)
        places.worker.mkdir(parents=True)
        heard.note_format(places, "claude", "/srv/tree")
        nonce = self.places.nonce("r", "t", n)
        argv, env = ("/bin/sh", "-c", script), {"PATH": os.environ["PATH"]}
        identity = process.start(
            places.worker, argv, cwd=self.top, env=env, nonce=nonce, output=places.output
        )
        self.started.append((identity, nonce, places.worker))
        return command

    def exit_code(self, n: int) -> int | None:
        """Gives how the worker of an attempt ended, None while it runs."""
        found = process.exit_of(self.places.attempt("r", "t", n).worker)
        return None if found is None else found.code


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.setattr(listening, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(listening, "LINGER_S", 0.1)
    made = Workers(tmp_path, Places(tmp_path / "state", f"test-{tmp_path.name}-{os.getpid()}"))
    yield made
    for identity, nonce, folder in made.started:
        process.end_tree(identity, nonce, folder=folder, grace_s=0)
        process.reap(identity)


def listen(workers: Workers, work: Callable[[Ears], Awaitable[None]]) -> None:
    """Does something in a loop in which somebody listens."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def in_thread(what: Callable[[], Any]) -> asyncio.Future[Any]:
            return loop.run_in_executor(None, what)

        ears = Ears(loop, time.time, in_thread, workers.places)
        try:
            await work(ears)
        finally:
            ears.close()

    asyncio.run(main())


def prints(lines: str) -> str:
    return f"sed -n {shlex.quote(lines)} {shlex.quote(str(DATA / 'claude-work.jsonl'))}"


def test_one_that_stays_after_its_final_result_is_ended_and_no_other(workers: Workers) -> None:
    """A program that has given its result and hangs is ended, with what it started; one that is at work is left alone.

    It is told what both do, also by one who listens from the middle on."""
    stays = workers.start(1, f"{prints('1,$p')}; sleep 1000 & sleep 1000")
    works = workers.start(2, f"{prints('1,5p')}; sleep 1000")

    async def until_ended(ears: Ears) -> None:
        ears.add(stays)
        ears.add(works)
        await asyncio.to_thread(wait_until, lambda: workers.exit_code(1) is not None)
        said = ears.take(stays, time.time())
        assert said is not None
        assert (said.ended, said.failed, said.cost_usd) == (True, False, 0.0725)
        assert (await ears.said())["r", "t"].doing == "running make test"

    listen(workers, until_ended)
    assert workers.exit_code(1) == 143
    assert process.members(workers.started[0][1], workers.started[0][0]) == []
    assert process.alive(workers.started[1][0])

    async def again(ears: Ears) -> None:
        ears.add(works)
        assert (await ears.said())["r", "t"].turns == 2

    listen(workers, again)


def test_a_conversation_that_was_not_found_begins_anew_with_its_work(workers: Workers) -> None:
    """However often it was not found, the attempt after it is told where the work of the interrupted one is, and names none."""
    lost = f"cat {shlex.quote(str(DATA / 'claude-lost.jsonl'))}; exit 1"
    for n, script in enumerate((prints("1,4p"), lost, lost), 1):
        workers.start(n, script)
    wait_until(lambda: all(workers.exit_code(n) is not None for n in range(1, 4)))
    command = workers.start(4, "true")

    async def looked_at(ears: Ears) -> None:
        assert ears.interrupted(command, BUILT_IN) == Interrupted("", "swarm/r/task/t/1")

    listen(workers, looked_at)


def test_an_interrupted_conversation_is_gone_on_with_and_no_other(workers: Workers) -> None:
    """After an end before the final result, or by a limit, the next attempt has the conversation; after a result it has none, nor
    with another program, nor where the program can't."""
    scripts = (prints("1,4p"), prints("1,$p"), f"cat {shlex.quote(str(DATA / 'claude-limit.jsonl'))}", "true")
    commands = [workers.start(n, script) for n, script in enumerate(scripts, 1)]
    wait_until(lambda: all(workers.exit_code(n) is not None for n in range(1, 5)))
    commands.append(workers.start(5, "true"))

    async def looked_at(ears: Ears) -> None:
        session = "0b5f1c52-0000-4000-8000-000000000001"
        found = [ears.interrupted(command, BUILT_IN) for command in commands]
        assert found == [
            None,
            Interrupted(session, "swarm/r/task/t/1"),
            None,
            Interrupted(session, "swarm/r/task/t/3"),
            None,
        ]
        assert ears.interrupted(commands[1], {"claude": BUILT_IN["codex"]}) is None
        assert ears.interrupted(commands[1], {"claude": BUILT_IN["gemini"]}) is None
        assert ears.interrupted(commands[1], {}) is None

    listen(workers, looked_at)

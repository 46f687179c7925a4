"""Listens to workers whose output has a format: what they do at the moment, and those that stay when they are done.

Nothing is done here for workers without one, nor while no worker with one runs; while some do, their files are looked at now and
then, and whenever somebody asks.

Rules for editing: `add`, `take` and `interrupted` are called from threads, the rest in the loop's own; a listener is kept for as
long as its worker is watched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from swarm import log
from swarm.core import commands as cmd
from swarm.core.adapters import Agent
from swarm.core.model import attempt_branch
from swarm.core.places import Places
from swarm.core.streams import Said
from swarm.daemon.looking import Looking
from swarm.daemon.watching import Key, key_of
from swarm.edge import heard, process
from swarm.errors import SwarmError
from swarm.worker.agents import Interrupted

LOOK_EVERY_S = 5.0
GRACE_S = 2.0
LINGER_S = 10.0  # after its final result, and without another word, a program is ended
_log = log.get("listening")


class Ears:
    """Listens to all workers that can be understood."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        in_thread: Callable[[Callable[[], Any]], asyncio.Future[Any]],
        places: Places,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._in_thread = in_thread
        self._places = places
        self._heard: dict[Key, tuple[cmd.AttemptCommand, heard.Listener]] = {}
        self._looking = Looking("lingering", self._look, lambda: LOOK_EVERY_S if self._heard else None)

    def add(self, command: cmd.AttemptCommand) -> None:
        """Listens to a worker from now on, where it can be understood."""
        if key_of(command) in self._heard:
            return
        listener = heard.listener(self._places.attempt(*key_of(command)))
        if listener is not None:
            self._heard[key_of(command)] = command, listener
            self._loop.call_soon_threadsafe(self._looking.begin)

    def take(self, command: cmd.AttemptCommand, at: float) -> Said | None:
        """Gives all that a worker said which ended `at` that time, None where it can't be understood; nobody listens any more."""
        _, listener = self._heard.pop(key_of(command), (None, None))
        listener = listener or heard.listener(self._places.attempt(*key_of(command)))
        return None if listener is None else listener.listen(at, last=True)

    def interrupted(self, command: cmd.StartWorker, agents: Mapping[str, Agent]) -> Interrupted | None:
        """Gives the conversation of the attempt before, where the same program held it, can go on with it, and had not come to its
        end; without its name where the program did not find it any more: then only its work is gone on with."""
        agent, n = agents.get(command.spec.agent), command.attempt - 1
        if agent is None or not agent.resume or not n:
            return None
        said, known = self._said_in(command, n), True
        while n > 1 and said is not None and said.lost:
            n, known = n - 1, False
            said = self._said_in(command, n)
        if said is None or said.parser != agent.parser or not said.session:
            return None
        if said.ended and said.limit is None:
            return None
        return Interrupted(said.session if known else "", attempt_branch(command.run, command.task, n))

    def _said_in(self, command: cmd.StartWorker, n: int) -> Said | None:
        before = heard.listener(self._places.attempt(command.run, command.task, n))
        return None if before is None else before.listen(self._clock(), last=True)

    async def said(self) -> Mapping[tuple[str, str], Said]:
        """Gives what each worker has said so far, by run and task."""
        if not self._heard:
            return {}
        found: Mapping[tuple[str, str], Said] = await self._in_thread(self._listen)
        return found

    def close(self) -> None:
        """Listens to nobody any more."""
        self._looking.close()

    def _listen(self) -> dict[tuple[str, str], Said]:
        at = self._clock()
        return {key[:2]: listener.listen(at) for key, (_, listener) in list(self._heard.items())}

    async def _look(self) -> None:
        await self._in_thread(self._end_lingering)

    def _end_lingering(self) -> None:
        at = self._clock()
        for key, (command, listener) in list(self._heard.items()):
            said = listener.listen(at)
            if said.ended and time.monotonic() - listener.since > LINGER_S and key in self._heard:
                _log.info("worker.lingers", task=command.task, attempt=command.attempt)
                try:
                    self._end(command)
                except (SwarmError, OSError) as error:  # it is looked at again
                    _log.warning("worker.stays", task=command.task, reason=str(error))

    def _end(self, command: cmd.AttemptCommand) -> None:
        """Ends a worker; whoever watches it tells."""
        folder = self._places.attempt(*key_of(command)).worker
        nonce = self._places.nonce(*key_of(command))
        process.end_tree(process.started(folder), nonce, folder=folder, grace_s=GRACE_S)

"""Waits for the end of processes: a descriptor for each worker, one for them all in the event loop, and no thread and no task.

Hides process descriptors. The thread that starts a worker hands its descriptor over; one of an earlier daemon is looked for first.
Rules for editing: all but `started` is called in the loop's own thread; a worker is watched once, and its end is told once.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.dataclass import dataclass
from swarm.edge import process

Key = tuple[str, str, int]
AnswerInThread = Callable[[Callable[[Any], m.Event | None], cmd.AttemptCommand], None]
FolderOf = Callable[[cmd.AttemptCommand], Path]


@dataclass(slots=True)
class Watched:
    """A worker; `identity` None where nobody is known. `handle` is readable when it has ended, None where it already had."""

    identity: process.Identity | None = None
    handle: int | None = None


class Watcher:
    """Watches workers. `answer_in_thread` does blocking work for a command and posts what it gives;
    `answer` makes, in a thread, the event of an end, and closes the handle."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        answer_in_thread: AnswerInThread,
        folder_of: FolderOf,
        answer: Callable[[cmd.AttemptCommand, Watched], m.Event],
    ) -> None:
        self._loop = loop
        self._answer_in_thread = answer_in_thread
        self._folder_of = folder_of
        self._answer = answer
        self._watches: dict[Key, Watched] = {}
        self._fresh: dict[Key, Watched] = {}
        # To take a worker in and out again there costs one system call, and in the loop ten times as much.
        self._ends = select.epoll()
        self._waited_for: dict[int, cmd.AttemptCommand] = {}  # by the handle
        loop.add_reader(self._ends.fileno(), self._some_ended)

    def started(self, command: cmd.AttemptCommand, identity: process.Identity) -> None:
        """Takes note, once, of a worker that was just started, so that watching it costs nothing more; from any thread."""
        key = key_of(command)
        if key not in self._fresh:  # else its start is told once more, and there is a descriptor already
            self._fresh[key] = Watched(identity, process.exit_handle(identity))

    def watches(self, command: cmd.AttemptCommand) -> bool:
        """Tells whether the end of this worker will be told without being asked for."""
        return key_of(command) in self._watches

    def knows(self, command: cmd.AttemptCommand) -> bool:
        """Tells whether this daemon started the worker, or watches it already."""
        return key_of(command) in self._fresh or key_of(command) in self._watches

    def identities(self) -> dict[Key, process.Identity]:
        """Gives the workers that are alive as far as is known."""
        return {key: each.identity for key, each in self._watches.items() if each.identity is not None}

    def watch(self, command: cmd.AttemptCommand) -> None:
        """Has the end of a worker answered, its own child or one that an earlier daemon started; one that is watched stays so."""
        key = key_of(command)
        if key in self._watches:
            return
        fresh = self._fresh.pop(key, None)
        if fresh is not None:
            self._wait(command, fresh)
        else:
            self._watches[key] = Watched()
            self._answer_in_thread(self._find, command)

    def _find(self, command: cmd.AttemptCommand) -> m.Event | None:
        """Looks for a worker that was started earlier; in a thread."""
        found = Watched()
        try:
            found.identity = process.started(self._folder_of(command))
            if found.identity is not None:
                found.handle = process.exit_handle(found.identity)
        except BaseException:
            self._loop.call_soon_threadsafe(self._watches.pop, key_of(command), None)
            raise
        self._loop.call_soon_threadsafe(self._wait, command, found)
        return None

    def _wait(self, command: cmd.AttemptCommand, found: Watched) -> None:
        self._watches[key_of(command)] = found
        if found.handle is None:
            self._ended(command)
        else:
            self._waited_for[found.handle] = command
            self._ends.register(found.handle, select.EPOLLIN | select.EPOLLONESHOT)

    def _some_ended(self) -> None:
        for handle, _ in self._ends.poll(0):
            self._ended(self._waited_for.pop(handle))

    def _ended(self, command: cmd.AttemptCommand) -> None:
        """Has the end answered; closing the handle, which the answer does, takes it out of what is waited for."""
        ended = self._watches.pop(key_of(command))
        self._answer_in_thread(lambda command: self._answer(command, ended), command)

    async def exited(self, identity: process.Identity) -> None:
        """Waits until a process has ended."""
        descriptor = process.exit_handle(identity)
        if descriptor is None:
            return
        ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(descriptor, _resolve, ended)
        try:
            await ended
        finally:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Watches nobody any more; the next daemon will."""
        for each in (*self._watches.values(), *self._fresh.values()):
            if each.handle is not None:
                os.close(each.handle)
        self._watches.clear()
        self._fresh.clear()
        self._waited_for.clear()
        if not self._ends.closed:
            self._loop.remove_reader(self._ends.fileno())
            self._ends.close()


def key_of(command: cmd.AttemptCommand) -> Key:
    """Names the attempt that a command is about."""
    return command.run, command.task, command.attempt


def _resolve(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)

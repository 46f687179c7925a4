"""Threads that are all there from the start: one that could not be made later would lose what it was to do.

What one of them has begun is done, whoever does not want it any more: `to_its_end` waits for it.

Rules for editing: `do` is on the way of every command, so it makes nothing: no future, no lock of its own, no look at how many
threads there are.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

from swarm import log

_log = log.get("threads")
_Result = TypeVar("_Result")


class Threads:
    """So many threads that do what they are given, in its order. Raises `RuntimeError` where the machine does not let so many be
    made."""

    def __init__(self, number: int, name: str) -> None:
        self._given: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._ends = False
        try:
            for n in range(number):
                thread = threading.Thread(target=self._work, name=f"{name}_{n}", daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError:
            self.shutdown()
            raise

    def do(self, work: Callable[..., object], *arguments: Any) -> None:
        """Has something done; what it raises is logged. Raises `RuntimeError` once they are being ended."""
        if self._ends:
            raise RuntimeError("the threads are being ended")
        self._given.put((work, arguments))

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Has something done of which the end can be waited for, as an executor does. Raises as `do` does."""
        done: Future[Any] = Future()
        self.do(_into, done, work, arguments)
        return done

    def shutdown(self) -> None:
        """Waits until all that was given before is done, and ends the threads."""
        self._ends = True
        for _ in self._threads:
            self._given.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (given := self._given.get()) is not None:
            work, arguments = given
            try:
                work(*arguments)
            except BaseException as error:
                _log.error("thread.failed", work=repr(work), exc_info=error)
            del given, work, arguments  # what was done is not kept until there is something else to do


def _into(done: Future[Any], work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(work(*arguments))
    except BaseException as error:
        done.set_exception(error)


def executor(number: int, name: str) -> ThreadPoolExecutor:
    """Gives such threads as an executor, for what wants one of the standard library's. Raises as `Threads` does."""
    pool, all_there = ThreadPoolExecutor(number, name), threading.Barrier(number)
    try:
        for _ in range(number):
            pool.submit(all_there.wait)
    except RuntimeError:
        all_there.abort()
        pool.shutdown(wait=False)
        raise
    return pool


async def to_its_end(work: Awaitable[_Result]) -> _Result:
    """Waits until `work` is done, however often this is cancelled, and is cancelled only then: whoever comes next finds nobody at
    work any more. Gives the result and raises as `work` does."""
    done, unwanted = asyncio.ensure_future(work), False
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError:
            unwanted = True
    if unwanted:
        done.exception()
        raise asyncio.CancelledError
    return done.result()

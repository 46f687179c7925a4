"""The threads that commands are carried out in: all there from the start, in order, and none of them lost by what goes wrong."""

from __future__ import annotations

import asyncio
import threading

import pytest

from swarm.daemon.threads import Threads, to_its_end


def test_what_is_given_is_done_in_its_order() -> None:
    threads = Threads(1, "one")
    done: list[int] = []
    for n in range(50):
        threads.do(done.append, n)
    threads.shutdown()
    assert done == list(range(50))


def test_what_goes_wrong_takes_no_thread_along() -> None:
    """A thread goes on after whatever was raised, and who waits for an end hears of it."""
    threads = Threads(1, "one")
    threads.do(lambda: 1 / 0)
    refused = threads.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        refused.result(60)
    assert threads.submit(lambda: threading.current_thread().name).result(60) == "one_0"
    threads.shutdown()


def test_all_threads_are_at_work_at_once() -> None:
    threads, together = Threads(3, "three"), threading.Barrier(4)
    for _ in range(3):
        threads.do(together.wait, 60)
    together.wait(60)
    threads.shutdown()
    with pytest.raises(RuntimeError):
        threads.do(print)


def test_who_gives_up_waiting_keeps_nobody_from_the_rest() -> None:
    """What was cancelled before its turn is not begun."""
    threads, held = Threads(1, "one"), threading.Event()
    begun: list[str] = []
    threads.do(held.wait, 60)
    unwanted = threads.submit(begun.append, "unwanted")
    wanted = threads.submit(begun.append, "wanted")
    assert unwanted.cancel()
    held.set()
    wanted.result(60)
    assert begun == ["wanted"]
    threads.shutdown()


def test_what_has_begun_is_waited_for_however_often_it_is_cancelled() -> None:
    """Who waits is cancelled once the work is done, and not before; nobody complains of what the work raised."""

    async def scenario(fails: bool) -> list[str]:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        goes_on = asyncio.Event()

        async def work() -> None:
            await goes_on.wait()
            told.append("done")
            if fails:
                raise ValueError("nobody's")

        waiting = asyncio.ensure_future(to_its_end(work()))
        for _ in range(3):
            await asyncio.sleep(0)
            waiting.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return told

    assert asyncio.run(scenario(fails=False)) == ["done"]
    assert asyncio.run(scenario(fails=True)) == ["done"]


def test_what_is_wanted_gives_its_result() -> None:
    async def fails() -> None:
        raise ValueError("as the work does")

    assert asyncio.run(to_its_end(asyncio.sleep(0, "result"))) == "result"
    with pytest.raises(ValueError, match="as the work does"):
        asyncio.run(to_its_end(fails()))

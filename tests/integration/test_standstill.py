"""Workers that stand still, against the real kernel."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import pytest

from swarm.edge import process, standstill
from swarm.edge.process import Identity
from swarm.edge.proctable import Stat
from swarm.edge.standstill import Standstill
from tests.conftest import wait_until
from tests.integration.test_process import Workplace
from tests.integration.test_process import place as place

# Six processes, half of them in sessions of their own, each of which starts another all the time, and both count in a file.
RESTLESS = """
    def count(n):
        with open(f"count-{n}", "a") as file: file.write(".")
    def go(n):
        if n % 2: os.setsid()
        while True:
            count(n)
            if not os.fork():
                count(n); time.sleep(0.002); count(n); os._exit(0)
            os.wait()
    for n in range(6):
        if not os.fork(): go(n)
    tell("up")
    time.sleep(1000)
"""


def counted(place: Workplace) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in place.worktree.glob("count-*")}


class Still:
    """One worker, and whether it stands still."""

    def __init__(self, place: Workplace, identity: Identity) -> None:
        self.place = place
        self.identity = identity
        self.all: Standstill[str] = Standstill()

    def find(self) -> Mapping[int, Stat]:
        return process.tree_of(self.place.nonce, self.identity, folder=self.place.folder)

    def stand(self, *, still: bool) -> bool:
        self.all.want("worker", still=still)
        return self.all.carry_out("worker", self.identity, self.find)


def test_a_whole_tree_stands_still_whatever_it_starts_meanwhile(place: Workplace) -> None:
    """Processes that fork all the time, away from session and parent, are all stopped: nothing of the worker moves until it goes
    on, and then all of it does. Both may be asked for twice."""
    worker = Still(place, place.start(place.python(RESTLESS)))
    place.told("up")
    wait_until(lambda: len(counted(place)) == 6)
    for _ in range(2):
        assert worker.stand(still=True)
    before = counted(place)
    assert {each.state for each in worker.find().values()} == {b"T"}
    assert len(worker.find()) >= 7
    time.sleep(0.2)  # nothing can be waited for: a miss would have counted a hundred times
    assert counted(place) == before
    for _ in range(2):
        assert worker.stand(still=False)
    wait_until(lambda: all(counted(place)[name] > before[name] for name in before))


def test_a_worker_that_stands_still_saves_its_work_when_it_is_ended(place: Workplace) -> None:
    """It is asked to end, goes on and does what it does then."""
    identity = place.start(
        place.python("""
            def save(*_): tell("saved"); os._exit(3)
            signal.signal(signal.SIGTERM, save)
            tell("up")
            while True: time.sleep(1000)
        """)
    )
    place.told("up")
    worker = Still(place, identity)
    assert worker.stand(still=True)
    worker.all.free("worker")
    assert place.end(identity)
    assert place.told("saved")
    ended = process.exit_of(place.folder)
    assert ended is not None
    assert ended.code == 3


def test_what_was_wanted_last_is_what_comes_out(place: Workplace) -> None:
    """However the threads come to it: one that is to go on is not stopped by whoever was to stop it before."""
    worker = Still(place, place.start(place.python(RESTLESS)))
    place.told("up")
    wait_until(lambda: len(counted(place)) == 6)
    for still in (True, False) * 5:
        worker.all.want("worker", still=still)
        threads = [
            threading.Thread(target=worker.all.carry_out, args=("worker", worker.identity, worker.find))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
    worker.all.want("worker", still=False)
    worker.all.carry_out("worker", worker.identity, worker.find)
    worker.all.settled()
    before = counted(place)
    wait_until(lambda: all(counted(place)[name] > before[name] for name in before))


def test_what_does_not_stop_is_said(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs on although it was stopped, as a process does that waits for a disk, is not waited for for ever."""
    worker = Still(place, place.start(["sleep", "1000"]))
    with monkeypatch.context() as patch:  # or nobody could end it after the test
        patch.setattr(standstill, "STOP_BOUND_S", 0.05)
        patch.setattr(process, "send_signal", lambda *_: None)
        patch.setattr(process, "signal_groups", lambda *_: None)
        assert not worker.stand(still=True)


def test_one_that_has_ended_stands_still_enough() -> None:
    """Nothing is waited for where no process is left."""
    gone: Standstill[str] = Standstill()
    gone.want("gone", still=True)
    assert gone.carry_out("gone", None, dict)
    assert gone.carry_out("unknown", None, dict)

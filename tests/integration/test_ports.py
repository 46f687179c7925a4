"""Ports for workers: a range is held by whoever has inherited it, and nobody on the machine takes any of it meanwhile."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from swarm.edge import ports, process
from swarm.errors import SwarmError, UsageError
from tests.conftest import wait_until

FIRST = 20_000
LATE = ports.LAST + 1 - 3 * ports.BLOCK


@pytest.fixture(autouse=True)
def _nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a test be alone on the machine."""
    monkeypatch.setattr(ports, "NAME", f"swarm-test-{os.getpid()}/")


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """What is entered here is given back when the test is over."""
    with ExitStack() as stack:
        yield stack


def block_is_free(block: int) -> bool:
    try:
        ports._close([ports._bound(block)])
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def test_each_has_its_own(held: ExitStack) -> None:
    """Slots have neighbouring ranges as long as nobody is in the way, and where somebody is, another one, which is told."""
    mine = [held.enter_context(ports.taken(slot, FIRST, 20)).base for slot in range(3)]
    assert mine == [FIRST, FIRST + 20, FIRST + 40]
    theirs = [held.enter_context(ports.taken(slot, FIRST, 20)).base for slot in range(4)]
    assert theirs == [FIRST + 60, FIRST + 80, FIRST + 100, FIRST + 120]


@pytest.mark.parametrize(("first", "each"), [(FIRST + 10, 20), (FIRST, 1), (FIRST - 5, 50), (FIRST + 1, 7)])
def test_ranges_of_other_sizes_do_not_overlap(held: ExitStack, first: int, each: int) -> None:
    """Daemons whose settings cut the ports otherwise share none either."""
    ranges = []
    for slot in range(3):
        ranges.append((held.enter_context(ports.taken(slot, FIRST, 20)).base, 20))
        ranges.append((held.enter_context(ports.taken(slot, first, each)).base, each))
    taken = [port for base, size in ranges for port in range(base, base + size)]
    assert len(taken) == len(set(taken))


def test_who_inherits_it_holds_it(tmp_path: Path, held: ExitStack) -> None:
    """A worker has its range until the last process of it has ended, whoever started it; then it is free."""
    gate = tmp_path / "gate"
    with ports.taken(0, FIRST, 20) as range_:
        worker = process.start(
            tmp_path / "worker",
            ["/bin/sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done"],
            cwd=tmp_path,
            env=dict(os.environ),
            nonce="n",
            output=tmp_path / "output",
            inherits=range_.handles,
        )
    assert not block_is_free(FIRST)
    assert held.enter_context(ports.taken(0, FIRST, 20)).base == FIRST + 20
    gate.touch()
    wait_until(lambda: not process.alive(worker))
    process.reap(worker)
    assert block_is_free(FIRST)


def test_another_process_sees_it(held: ExitStack) -> None:
    """What is held here is taken for whoever else asks."""
    held.enter_context(ports.taken(0, FIRST, 20))
    asked = (
        f"from swarm.edge import ports\nports.NAME = {ports.NAME!r}\n"
        f"with ports.taken(0, {FIRST}, 20) as found: print(found.base)"
    )
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert told == f"{FIRST + 20}\n"


def test_none_are_left(held: ExitStack) -> None:
    """Where all are taken that is said, and nothing stays held; so it is where a slot has none at all."""
    for slot in range(2):
        held.enter_context(ports.taken(slot, LATE, 20))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SwarmError, match="No 25 ports in a row are left"), ports.taken(0, LATE, 25):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
    for slot in (-1, 3):
        with pytest.raises(UsageError, match="65535"), ports.taken(slot, LATE, 20):
            pass


def test_what_holds_it_is_of_no_other_use(held: ExitStack) -> None:
    """Whoever inherits it can reach nobody by it, and nobody them: a sandbox may be around them."""
    (handle,) = held.enter_context(ports.taken(0, FIRST, 20)).handles
    assert handle > 9
    own = held.enter_context(socket.socket(fileno=os.dup(handle)))
    other = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    other.bind(b"\0swarm-test-%d" % os.getpid())
    for sender, to in ((own, other), (other, own)):
        with pytest.raises(BrokenPipeError):
            sender.sendto(b"x", to.getsockname())
    with pytest.raises(OSError, match="not supported"):
        own.listen()

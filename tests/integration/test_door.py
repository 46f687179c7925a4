"""The daemon's socket, against clients that are slow, broken, many, or somebody else's."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from swarm import awaited
from swarm.daemon import door
from swarm.edge import landlock
from tests.conftest import wait_until
from tests.e2e.test_sandbox import needs_landlock

GOOD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


async def _answer(request: Request) -> Response:
    return PlainTextResponse(f"{len(await request.body())} bytes")


class Place:
    """A server behind the door, in a thread."""

    def __init__(self, path: Path, connection: type[door.Connection] = door.Connection) -> None:
        self.path = path
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(512)
        app = Starlette(routes=[Route("/", _answer, methods=["POST"])])
        settings = uvicorn.Config(app, log_config=None, lifespan="off", http=connection, ws="none")
        self.server = uvicorn.Server(settings)
        self.server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(sockets=[listener])))
        self.thread.start()
        wait_until(lambda: self.server.started)

    def end(self) -> None:
        self.server.should_exit = True
        self.thread.join()

    def open(self, sent: bytes = b"") -> socket.socket:
        wire = socket.socket(socket.AF_UNIX)
        wire.settimeout(60)
        wire.connect(str(self.path))
        wire.sendall(sent)
        return wire

    def works(self) -> bool:
        """Whether a good request is answered. On a busy machine its own time may be over before it is sent."""
        try:
            with self.open(GOOD) as wire:
                return b"2 bytes" in received(wire, until=b"bytes")
        except ConnectionError:
            return False


def received(wire: socket.socket, until: bytes = b"") -> bytes:
    """What comes back, up to some bytes or the end of the connection."""
    data = b""
    try:
        while not (until and until in data):
            chunk = wire.recv(65536)
            if not chunk:
                break
            data += chunk
    except ConnectionError:
        pass
    return data


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(awaited, "REQUEST_S", 1.0)
    monkeypatch.setattr(awaited, "CONNECTIONS_MAX", 20)
    made = Place(tmp_path / "s")
    yield made
    made.end()
    assert door.Connection.waiting == {}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST / HT",
        b"POST / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
    ],
    ids=["nothing", "half a line", "half a head", "half a body"],
)
def test_a_request_that_does_not_come_whole_is_not_awaited_for_ever(place: Place, sent: bytes) -> None:
    """Whoever says nothing, half a head or half a body is sent away after a while, and others are answered meanwhile."""
    with place.open(sent) as wire:
        wait_until(place.works)
        assert received(wire) == b""


def _is_gone(wire: socket.socket) -> bool:
    """Sends one more byte, and tells whether the connection has ended."""
    try:
        wire.sendall(b"x")
        return wire.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_one_byte_now_and_then_buys_no_more_time(place: Place) -> None:
    """The time counts from the first moment of a request, however busy its sender looks."""
    with place.open(b"POST / HTTP/1.1\r\nX: ") as wire:
        wire.settimeout(0.05)
        wait_until(lambda: _is_gone(wire))
    wait_until(place.works)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"POST / HTTP/1.1\r\nX: " + b"x" * 300_000,
        b"\r\n" * 50_000,
    ],
    ids=["garbage", "huge head", "empty lines"],
)
def test_what_is_no_request_costs_nobody_else_anything(place: Place, sent: bytes) -> None:
    """Garbage and heads that never end are refused or dropped."""
    with place.open() as wire:
        try:
            wire.sendall(sent)
        except OSError:
            pass
        assert b"200" not in received(wire)
        wait_until(place.works)


def test_many_that_say_nothing_keep_nobody_out(place: Place) -> None:
    """Beyond the number of connections the oldest that has no whole request goes, so that one with a request is always let in."""
    idle = [place.open() for _ in range(60)]
    wait_until(place.works)
    for wire in idle:
        wire.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_not_let_in(place: Place, tmp_path: Path) -> None:
    """Even where the socket's mode would let anybody in, a connection of another user's gets no answer."""
    tmp_path.chmod(0o755)
    place.path.chmod(0o666)
    program = (
        "import os, socket; os.setresuid(65534, 65534, 65534); w = socket.socket(socket.AF_UNIX); w.connect('s');\n"
        f"try:\n    w.sendall({GOOD!r}); print(w.recv(1000))\nexcept OSError as error:\n    print(b'')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "b''\n"
    wait_until(place.works)


@needs_landlock
def test_who_is_shut_in_is_refused(tmp_path: Path) -> None:
    """Where suites that are shut in reach the socket, one gets a refusal for an answer, whatever it has become meanwhile, and who
    is outside what it asked for."""
    place = Place(tmp_path / "s", door.FromOutside)
    ask = f"import socket; w = socket.socket(socket.AF_UNIX); w.connect('s'); w.sendall({GOOD!r}); print(w.recv(1000))"
    inside = landlock.prefix([("write", "/")], place=str(tmp_path), network=True, sockets=True)
    cleared = ("env", "-i", "setsid", "-w", sys.executable, "-I", "-c", ask)
    said = [
        subprocess.run([*before, *cleared], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for before in ((), inside)
    ]
    place.end()
    assert "200 OK" in said[0]
    assert "409 Conflict" in said[1]


def test_a_burst_goes_on_at_once_and_the_rest_at_a_steady_pace() -> None:
    """Up to its burst nobody waits; beyond it each waits a little longer than the one before; a pause gives the burst back."""
    pace = door.Pace(rate_per_s=10.0, burst=5)
    assert [pace.take(100.0) for _ in range(5)] == [0.0] * 5
    assert [pytest.approx(pace.take(100.0)) for _ in range(3)] == [0.1, 0.2, 0.3]
    assert [pace.take(101.0) for _ in range(5)] == [0.0] * 5

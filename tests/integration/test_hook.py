"""One try to tell somebody of an event, against real commands and a real server."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from swarm.edge.hook import Try
from tests.conftest import wait_until

EVENT = b'{"type": "TaskLanded"}\n'


def told(command: str, top: Path, *, timeout_s: float = 60.0) -> str:
    return Try().run(command, EVENT, top=top, facts={"SWARM_EVENT": "TaskLanded"}, timeout_s=timeout_s)


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_a_command_is_given_the_event(tmp_path: Path) -> None:
    """On its standard input, with the facts in its environment, at the top of the checkout."""
    assert told('cat > given; echo "$SWARM_EVENT" > kind', tmp_path) == ""
    assert (tmp_path / "given").read_bytes() == EVENT
    assert (tmp_path / "kind").read_text() == "TaskLanded\n"


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    """The status and the end of what it wrote are given, however much it is."""
    problem = told("head -c 1000000 /dev/zero; echo no such channel >&2; exit 3", tmp_path)
    assert problem.startswith("the command ended with status 3: ")
    assert problem.endswith("no such channel")
    assert len(problem) < 300


def test_a_command_that_hangs_ends_in_time(tmp_path: Path) -> None:
    """With what it has started in its session, whoever holds its output."""
    problem = told("sleep 3600 & echo $! > pid; sleep 3600", tmp_path, timeout_s=2.0)
    assert problem == "the command did not end within 2 s"
    child = int((tmp_path / "pid").read_text())
    wait_until(lambda: has_ended(child))


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """A child in the background is not waited for and does not stay."""
    assert told("sleep 3600 & echo $! > pid", tmp_path) == ""
    child = int((tmp_path / "pid").read_text())
    wait_until(lambda: has_ended(child))


def test_a_try_is_cut_short(tmp_path: Path) -> None:
    """From another thread; one that has not begun then does not begin."""
    one, said = Try(), [""]

    def make() -> None:
        said[0] = one.run("touch begun; sleep 3600", EVENT, top=tmp_path, facts={}, timeout_s=600)

    thread = threading.Thread(target=make)
    thread.start()
    wait_until((tmp_path / "begun").exists)
    one.cut_short()
    thread.join(60)
    assert not thread.is_alive()
    assert said[0].startswith("the command ended with status -9")
    assert one.run("touch again", EVENT, top=tmp_path, facts={}, timeout_s=60) == "it was cut short"
    assert not (tmp_path / "again").exists()


class _Server(http.server.BaseHTTPRequestHandler):
    got: ClassVar[list[tuple[str | None, bytes]]] = []

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.headers["Content-Type"], data))
        self.send_response({"/bad": 500, "/moved": 302}.get(self.path, 204))
        if self.path == "/moved":
            self.send_header("Location", "/here")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    listener = http.server.HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    _Server.got.clear()
    yield f"http://127.0.0.1:{listener.server_port}"
    listener.shutdown()
    listener.server_close()
    thread.join()


def test_an_address_is_posted_the_event(server: str) -> None:
    """As JSON; an answer that is no good one is a problem."""
    assert Try().post(server, EVENT, timeout_s=60) == ""
    assert _Server.got == [("application/json", EVENT)]
    assert Try().post(f"{server}/bad", EVENT, timeout_s=60) == "the answer was 500"


def test_an_address_that_has_moved_has_not_taken_the_event(server: str) -> None:
    """Nobody is asked at the new one, and it is told."""
    assert Try().post(f"{server}/moved", EVENT, timeout_s=60) == "the answer was 302: it is at /here"


def test_nobody_at_an_address_is_told() -> None:
    """A server that is not there, and an address that is none, are problems too."""
    assert "refused" in Try().post("http://127.0.0.1:9", EVENT, timeout_s=60)
    assert Try().post("http://[", EVENT, timeout_s=60) != ""

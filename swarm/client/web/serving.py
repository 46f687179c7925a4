"""`swarm web`: the dashboard in the browser, served on the loopback until Ctrl-C.

Hides uvicorn. It is a client like the others: the daemon is asked over its socket, may end and come again, and need not be there.

Rules for editing: the loopback and nothing else is listened on. The token goes to the terminal of whoever started this, and into no
log, no argument of a program and no file that others can read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from html import escape

import click
import uvicorn

from swarm.awaited import Awaited
from swarm.client import place
from swarm.client.options import command
from swarm.client.session import Session
from swarm.client.web.door import Door
from swarm.client.web.feed import Feed
from swarm.client.web.routes import application
from swarm.errors import EXIT_INTERRUPTED, SwarmError, UsageError

ADDRESS = "127.0.0.1"


@command("web", steers=True)
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="The port; a free one if not given.")
@click.option("--open", "opens", is_flag=True, help="Open it in a browser.")
def web(session: Session, port: int | None, opens: bool) -> int:
    """Show the dashboard in the browser, on this machine only, until Ctrl-C.

    The address that is printed holds a token: who does not have it sees nothing. Every repository in which swarm was used is shown,
    the one that this is started in first. Needs no daemon, and goes on when one ends or starts.
    """
    home = _home(session)
    with _bound(port) as listening:
        listening.listen()  # who comes before it is served waits
        port = int(listening.getsockname()[1])
        token = secrets.token_urlsafe(32)
        address = f"http://{ADDRESS}:{port}/?token={token}"
        session.line(address)
        session.note("Ctrl-C ends it. Whoever has this address can see and steer: don't pass it on.")
        with _opened(address) if opens else contextlib.nullcontext():
            return asyncio.run(_serve(session, home, listening, token, port))


def _home(session: Session) -> place.Place | None:
    """Gives the repository that this was started in. Where that is none, swarm must have been used in another."""
    try:
        return session.place
    except UsageError:
        if not place.known(session.environ):
            raise
        return None


def _bound(port: int | None) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if port is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ADDRESS, port or 0))
    except OSError as error:
        listening.close()
        raise SwarmError(
            f"Port {port} can't be listened on: {error.strerror}.",
            "Nothing is shown.",
            "another --port, or none for a free one",
        ) from None
    return listening


@contextlib.contextmanager
def _opened(address: str) -> Iterator[None]:
    """Has a browser show the page. It is given a file that leads there, which is its owner's alone: what it is started with every
    user of the machine can read."""
    with tempfile.TemporaryDirectory(prefix="swarm-web-") as folder:
        path = os.path.join(folder, "open.html")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(address)}">')
        if not (_has_screen() and webbrowser.open(f"file://{path}")):
            sys.stderr.write("There is no browser to open it with. Next: open the address above\n")
        yield


def _has_screen() -> bool:
    """Tells whether a browser would have a window: one that draws in this terminal would take it away."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))


class _Server(uvicorn.Server):
    """Serves without a tick and without taking over signals."""

    def __init__(self, settings: uvicorn.Config, over: asyncio.Event) -> None:
        super().__init__(settings)
        self._over = over

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self._over.wait()


async def _serve(
    session: Session, home: place.Place | None, listening: socket.socket, token: str, port: int
) -> int:
    """Serves until a signal comes; gives the exit code for it."""
    over, codes = asyncio.Event(), [EXIT_INTERRUPTED]
    feed = Feed(home, session.environ)

    def end(code: int) -> None:
        if over.is_set():
            os._exit(code)  # who asks twice does not wait for a daemon that says nothing
        codes[0] = code
        feed.close()  # or its streams would be waited for
        over.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, end, EXIT_INTERRUPTED)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, 0)
    settings = uvicorn.Config(
        Door(application(feed), token, port),
        log_config=None,
        log_level="critical",  # whoever sends nonsense writes no line into this terminal
        access_log=False,
        lifespan="off",
        loop="none",
        http=Awaited,  # any user of the machine can connect, and say nothing
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    await _Server(settings, over).serve(sockets=[listening])
    return codes[0]

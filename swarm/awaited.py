"""How long somebody who connects is waited for, and who goes when there are too many: whoever has no whole request goes first.

Hides uvicorn's connection, for the daemon's socket and for the page of `swarm web`. Whoever is slow with a request is sent away
after a while, and before that when others need the place.

Rules for editing: nothing here knows who asks, or what. One connection that is dropped costs no other its answer.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 30.0  # for a whole request to come in; 64 MB take a tenth of a second
CONNECTIONS_MAX = 256


class Awaited(H11Protocol):
    """One connection, which is dropped when its request does not come."""

    waiting: dict[Awaited, asyncio.TimerHandle] = {}  # noqa: RUF012  (of this process: oldest first)
    dropped = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > CONNECTIONS_MAX:
            same = (each for each in self.waiting if each.connections is self.connections)
            next(same).drop("others need its place")

    def data_received(self, data: bytes) -> None:
        if self not in self.connections:
            return
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._wait()
        else:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        if self in self.connections:
            super().connection_lost(exc)

    def drop(self, why: str) -> None:
        """Ends the connection at once, and keeps `why`."""
        self.dropped = why
        self._wait_no_more()
        self.transport.abort()

    def _wait(self) -> None:
        """Has the rest of a request awaited, from its first moment on."""
        if self not in self.waiting:
            self.waiting[self] = self.loop.call_later(REQUEST_S, self.drop, "no whole request came in time")

    def _wait_no_more(self) -> None:
        timer = self.waiting.pop(self, None)
        if timer is not None:
            timer.cancel()

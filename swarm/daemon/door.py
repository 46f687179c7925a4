"""Who is let in at the daemon's socket, and for how long: its owner, with a whole request, soon.

The socket is its owner's alone already (mode 0600); who is behind a connection is asked of the kernel all the same, since modes
and folders can be wrong. What is asked faster than the daemon should answer waits.

Rules for editing: nothing here knows what is asked. One connection that is dropped costs one line in the log and no other its
answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from typing import Any

from starlette.responses import JSONResponse

from swarm import log, protocol
from swarm.awaited import Awaited
from swarm.edge import landlock
from swarm.errors import Refused

RATE_PER_S = 500.0
BURST = 500
LARGE_BYTES = 1 << 20
LARGE_AT_ONCE = 4  # requests above that, each of which may take REQUEST_BYTES_MAX of memory
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid of struct ucred
_refused = Refused(
    "This is refused to programs that are shut in.",
    "Nothing was done: what a suite or the setup command runs was written by workers.",
    "ask from outside; an editor or agent with a sandbox of its own counts as inside where swarm uses Landlock",
)
_INSIDE = JSONResponse(protocol.error_body(_refused), protocol.error_status(_refused))
_log = log.get("door")


class Connection(Awaited):
    """One connection, which is dropped when it is not the owner's, or its request does not come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        _, uid = peer(transport.get_extra_info("socket"))
        if uid not in (os.geteuid(), 0):
            _log.warning("connection.refused", uid=uid)
            transport.abort()
            self.transport = transport  # which whoever is asked for later finds closed
            return
        super().connection_made(transport)

    def drop(self, why: str) -> None:
        _log.info("connection.dropped", reason=why)
        super().drop(why)


class FromOutside(Connection):
    """One connection where suites that are shut in can reach the socket: they are refused whatever they ask for."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        pid, _ = peer(transport.get_extra_info("socket"))
        ours, theirs = landlock.filters(os.getpid()), landlock.filters(pid)
        if ours is not None and (theirs is None or theirs > ours):
            _log.warning("connection.from_inside", pid=pid)
            self.app = _INSIDE


def peer(wire: Any) -> tuple[int, int]:
    """Tells which process of which user made a local connection, as the kernel noted at that moment; ourselves where it can't."""
    if wire is None or wire.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return os.getpid(), os.geteuid()
    found = wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(found)
    return pid, uid


class Pace:
    """Lets requests go on at a bounded rate: a burst at once, then each in its turn. Nobody is refused for it."""

    def __init__(self, rate_per_s: float = RATE_PER_S, burst: int = BURST) -> None:
        self._step_s = 1.0 / rate_per_s
        self._ahead_s = burst / rate_per_s
        self._next = 0.0

    async def turn(self) -> None:
        """Waits until it is one's turn."""
        wait_s = self.take(time.monotonic())
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def take(self, now: float) -> float:
        """Takes the next turn and gives how long it is until then."""
        self._next = max(self._next, now - self._ahead_s) + self._step_s
        return max(0.0, self._next - now)

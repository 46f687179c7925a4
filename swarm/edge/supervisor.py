"""Tells who supervises this process, such as systemd, how it stands: when it is ready, what it does, that it ends.

Hides the protocol of sd_notify(3): a datagram of lines to the Unix socket that NOTIFY_SOCKET names.

Rules for editing: nobody is told where nobody asked. The name is taken off the environment, so that no worker speaks for us. There
is no watchdog: see docs/explanation/decisions/0014.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping

SAID_WITHIN_S = 5.0  # that it is ready has to be heard; what it does need not


class Supervisor:
    """Who supervises this process; made without an address, nobody does."""

    def __init__(self, address: str = "") -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._status = ""

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str]) -> Supervisor:
        """Takes the supervisor's address off an environment."""
        return cls(environ.pop("NOTIFY_SOCKET", ""))

    @property
    def listens(self) -> bool:
        """Whether anybody wants to be told."""
        return bool(self._address)

    def ready(self) -> None:
        """Says that the socket answers."""
        self._tell("READY=1", wait_s=SAID_WITHIN_S)

    def stopping(self) -> None:
        """Says that it ends; once: after this it is not ready again."""
        self._tell("STOPPING=1", wait_s=SAID_WITHIN_S)

    def status(self, text: str) -> None:
        """Says in one line what it does, where that is news; again next time where nobody takes it in just now."""
        if text != self._status and self._tell(f"STATUS={text}", wait_s=0.0):
            self._status = text

    def _tell(self, line: str, *, wait_s: float) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
                wire.settimeout(wait_s)
                wire.sendto(line.encode("utf-8", "replace"), self._address)
        except OSError:  # a supervisor that hears nothing sees for itself that the process lives or ends
            return False
        return True

"""Has a supervisor, such as systemd, told what the daemon does and that it ends.

Rules for editing: told when all is taken in, never on a timer: an idle daemon does not wake up for it.
"""

from __future__ import annotations

from collections.abc import Callable

from swarm.core import report
from swarm.core.state import Swarm
from swarm.edge.supervisor import Supervisor


class Supervised:
    """What the supervisor hears of a daemon that is ready; one that `begins_again` does not end."""

    def __init__(self, supervisor: Supervisor, swarm: Swarm, begins_again: Callable[[], bool]) -> None:
        self._supervisor = supervisor
        self._swarm = swarm
        self._begins_again = begins_again

    def at_rest(self) -> None:
        """Tells what goes on, where that is news."""
        if self._supervisor.listens:
            self._supervisor.status(report.in_a_line(self._swarm))

    def close(self) -> None:
        """Tells that the daemon ends. Only now: from here on it is given a time limit, and draining takes as long as workers do."""
        if not self._begins_again():
            self._supervisor.stopping()

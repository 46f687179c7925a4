"""What crash tests stand on: the real program, as the end-to-end tests drive it."""

from __future__ import annotations

from tests.e2e.conftest import swarm, swarm_in

__all__ = ["swarm", "swarm_in"]

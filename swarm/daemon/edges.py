"""Everything outside that commands are carried out with, in one place.

Rules for editing: what is here is opened once, by `reconcile.open_edges`, and closed once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from swarm import config
from swarm.core import commands as cmd
from swarm.core.adapters import Agent
from swarm.core.entries import Policy
from swarm.core.model import STAGING_WORKTREE, attempt_key
from swarm.core.places import AttemptPlaces, Places
from swarm.dataclass import dataclass
from swarm.edge import git, sandbox
from swarm.edge.host import Host
from swarm.edge.landing import LandingRepository
from swarm.edge.suite_rooms import NO_ROOMS, Rooms
from swarm.edge.worktrees import Pool
from swarm.settings import Settings


@dataclass(slots=True)
class Edges:
    """Everything outside that commands are carried out with."""

    places: Places
    repository: git.Repository
    settings: Settings
    pool: Pool
    scratch: Pool
    landing: LandingRepository
    refs: git.Refs
    host: Host
    agents: Mapping[str, Agent]
    environ: Mapping[str, str]
    identity: tuple[str, str] | None = None
    sandbox: sandbox.Sandbox = sandbox.NO_SANDBOX
    rooms: Rooms = NO_ROOMS

    @property
    def disks(self) -> tuple[Path, ...]:
        """Folders on every disk that is written to."""
        return self.places.state, self.pool.root.parent, self.repository.working_top()

    def attempt(self, command: cmd.AttemptCommand) -> AttemptPlaces:
        """Gives the folder of the attempt that a command is about."""
        return self.places.attempt(command.run, command.task, command.attempt)

    def nonce(self, command: cmd.AttemptCommand) -> str:
        """Names a worker in the environment of all its processes; the same after a restart of the daemon."""
        return self.places.nonce(command.run, command.task, command.attempt)

    def staging_worktree(self, run: str) -> Path:
        """Gives where a run's staging worktree is."""
        root = Path(self.settings.worktrees.root)
        return self.repository.working_top() / root / run / STAGING_WORKTREE

    @property
    def policy(self) -> Policy:
        """What may come in with an attempt's work."""
        root = os.path.relpath(self.pool.root.parent, os.path.realpath(self.repository.working_top()))
        return config.to_policy(self.settings, "" if root.startswith("..") else root)

    def close(self) -> None:
        """Ends the standing helpers."""
        for edge in (self.pool, self.scratch, self.landing, self.refs):
            edge.close()


def lease_key(command: cmd.AttemptCommand) -> str:
    """Names the attempt that has a worktree of the pool."""
    return attempt_key(command.run, command.task, command.attempt)

"""Prepares where a worker is shut in: its git folder, with what it may know of the attempts before it, and what it sees.

Rules for editing: called before a worker starts, again after a crash: all of it is made anew.
"""

from __future__ import annotations

from pathlib import Path

from swarm import protocol
from swarm.core import commands as cmd
from swarm.core.adapters import Agent
from swarm.core.model import attempt_branch, slug
from swarm.core.places import AttemptPlaces
from swarm.daemon.edges import Edges
from swarm.edge import git, sandbox, secluded
from swarm.edge.saved import saved

EARLIER_MAX = 5  # attempts whose work the next one is shown


def shut_in(
    command: cmd.StartWorker, agent: Agent | None, edges: Edges, places: AttemptPlaces, key: str
) -> tuple[str, ...]:
    """Prepares the room of the worker that has its worktree as `key`; gives what stands before its command, nothing without a
    sandbox in force."""
    if not edges.sandbox.shuts_in:
        return ()
    git_folder = edges.pool.seclude(key, in_place=edges.sandbox.moves)
    if git_folder is not None:
        secluded.show(git_folder, _earlier_work(command, edges.refs, edges.repository.common_dir))
    room = sandbox.worker_room(
        Path(command.worktree),
        git_folder,
        common=edges.repository.common_dir,
        top=edges.repository.working_top(),
        look=Path(protocol.look_path(str(edges.places.state), edges.environ)).parent,
        places=places,
        read_only=bool(command.spec.answer),
    )
    return edges.sandbox.prefix(room, edges.environ, agent)


def _earlier_work(command: cmd.StartWorker, refs: git.Refs, common: Path) -> dict[str, str]:
    """Gives the branches that keep the work of the last attempts at the task, which this one may go on with, and what these left
    besides."""
    earlier = range(max(1, command.attempt - EARLIER_MAX), command.attempt)
    names = [f"refs/heads/{attempt_branch(command.run, command.task, n)}" for n in earlier]
    found = {name: commit for name in names if (commit := refs.read(name)) is not None}
    for each in saved(common, command.run) if earlier else ():
        if each.owner.task == slug(command.task) and each.owner.attempt in earlier:
            found[f"refs/heads/{each.branch}"] = each.commit
    return found

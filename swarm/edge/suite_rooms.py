"""Where code that workers wrote runs without its worker: the rooms of suites, and of the command that makes a worktree ready.

Hides what of the machine they see. Both run what lies in a candidate, so they are held as workers are: they write to their worktree
and to a folder of their own, and of the user's repository, its branches and what swarm keeps beside it they see nothing, or no more
than they can read. A suite has a git folder of its own, in which it may do as it likes and which is thrown away with it.

Rules for editing: what bubblewrap takes from an honest suite can be given back by settings. What Landlock would take can't
(sockets, locks, and `/tmp`, for test databases and process pools), so there these stay those of the machine. A folder of ours that
may lie in such a place is `kept` or `hidden`; whoever adds one names it there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from swarm import protocol
from swarm.core.places import state_of
from swarm.dataclass import dataclass
from swarm.edge import git
from swarm.edge.leases import sign_of
from swarm.edge.linked import LinkedTree
from swarm.edge.sandbox import NO_SANDBOX, Mount, Room, Sandbox
from swarm.edge.secluded import SHARED_OBJECTS
from swarm.settings import Settings


@dataclass(frozen=True, slots=True)
class Rooms:
    """The rooms of one repository, whose folder is `common`. Nothing inside writes to what is `kept`, nor sees what is `hidden`,
    wherever it lies. `lent` are further folders of objects that git reads inside."""

    sandbox: Sandbox = NO_SANDBOX
    common: Path = Path()
    kept: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    lent: tuple[Path, ...] = ()
    holds_suites: bool = False
    holds_setup: bool = False

    @classmethod
    def of(
        cls,
        shut_in: Sandbox,
        settings: Settings,
        common: Path,
        top: Path,
        environ: Mapping[str, str],
        verified_in: Path,
    ) -> Rooms:
        """Gives the rooms that the settings want where workers are shut in so; suites run in `verified_in`."""
        if not shut_in.shuts_in:
            return cls()
        held = dataclasses.replace(shut_in, network=settings.sandbox_suites_network)
        kept = (top, top / settings.worktrees.root, verified_in)
        at = Path(protocol.socket_path(str(state_of(common)), environ)).parent
        hidden = () if held.moves else (at,)  # where it would be seen, and written to
        suites, setup = settings.sandbox_suites, settings.sandbox_setup
        return cls(held, common, kept, hidden, environ, holds_suites=suites, holds_setup=setup)

    @property
    def told(self) -> dict[str, str]:
        """Gives what is different inside, for whoever compares two suites."""
        held = self.sandbox
        return {"SWARM_SANDBOX_SUITES": f"{held.name} {held.network} {held.read} {held.write} {held.env}"}

    def suite(
        self, tree: Path, git_folder: Path | None, stands_in_for: Path, own: Path, shares: Path
    ) -> tuple[str, ...]:
        """Makes the room of a suite in `tree`, and gives what stands before its command. `git_folder` stands in for the repository
        of the worktree."""
        mounts = [
            *map(_hide, (self.common, *self.hidden)),
            *(_read(folder) for folder in self.lent),
            _write(tree),
            _read(tree / ".git"),
        ]
        if git_folder is not None:
            mounts += [Mount("write", str(git_folder), str(stands_in_for))]
            mounts += [Mount("read", str(stands_in_for / "objects"), str(stands_in_for / SHARED_OBJECTS))]
        theirs = own / "home" if self.sandbox.moves else own  # with what is seen as `/tmp`, or nowhere else
        mounts += [_write(theirs), _write(shares)]
        room = Room(tree, own, self.kept, tuple(mounts), open=True, sign=sign_of(tree))
        return self.sandbox.prefix(room, self.environ)

    def setup(self, tree: LinkedTree, own: Path) -> tuple[str, ...]:
        """Makes the room of a setup command in `tree`, and gives what stands before it. Its git can read."""
        seen = (*(_read(folder) for folder in self.lent), _read(tree.common))
        mounts = (
            *map(_hide, (state_of(self.common), *self.hidden)),
            *seen,
            _write(tree.path),
            _read(tree.path / ".git"),
            _write(own),
        )
        shown = (*self.kept, self.common, *git.alternates(tree.common / "objects"))
        room = Room(tree.path, own, shown, mounts, open=True, sign=sign_of(tree.path))
        return self.sandbox.prefix(room, self.environ)

    def environment(self, base: Mapping[str, str], own: Path) -> dict[str, str]:
        """Gives of `base` what may be known inside: all but what is named like a secret, unless the settings name it."""
        kept = {name: value for name, value in base.items() if self.sandbox.tells(name)}
        return {**kept, **self.sandbox.own_places(own)}


def weaker(shut_in: Sandbox, settings: Settings) -> str:
    """Says what suites and the setup command may that workers who are shut in so may not; "" where that is nothing."""
    if not shut_in.shuts_in:
        return ""
    outside = [name for name in ("sandbox_suites", "sandbox_setup") if not getattr(settings, name)]
    said = [f"{name} = false, so they run outside" for name in outside]
    if not shut_in.moves and len(outside) < 2:
        said.append("suites and setup reach Unix sockets, /tmp and /dev/shm")
    return "; ".join(said)


NO_ROOMS = Rooms()


def _hide(folder: Path) -> Mount:
    return Mount("empty folder", "", str(folder))


def _read(path: Path) -> Mount:
    return Mount("read", str(path), str(path))


def _write(path: Path) -> Mount:
    return Mount("write", str(path), str(path))

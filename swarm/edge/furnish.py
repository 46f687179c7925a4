"""What a worktree gets besides its files: copies, links to shared folders, and what the setup command makes.

Hides the `copy`, `share` and `setup` of `[worktrees]`. Rules for editing: a link points into the user's
checkout, so it is made and removed as a link and never followed; nothing is written outside the worktree,
whatever links the checked-out tree has; what is tracked is not replaced by a link.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from swarm.edge import contract, git
from swarm.edge.linked import LinkedTree, remove
from swarm.edge.process import NONCE_NAME
from swarm.edge.suite_rooms import NO_ROOMS, Rooms
from swarm.errors import SwarmError, UsageError

TAIL_BYTES = 4096
NAMED_MAX = 5


class WorktreeSetupFailed(SwarmError):
    """The setup command did not succeed; `tail` is the end of its output, `log` the file that holds all of
    it."""

    def __init__(self, cause: str, tail: str, log: Path, next_step: str) -> None:
        shown = f"No worker was started there. Its output ends:\n{tail}" if tail else ""
        super().__init__(cause, shown, next_step)
        self.tail = tail
        self.log = log


@dataclass(frozen=True, slots=True)
class Furnishing:
    """The settings. `source` is the folder that `copy` and `share` are relative to; without one they do
    nothing."""

    source: Path | None
    setup: str = ""
    copy: tuple[str, ...] = ()
    share: tuple[str, ...] = ()
    setup_timeout_s: float = 1800.0
    rooms: Rooms = NO_ROOMS

    def __post_init__(self) -> None:
        for path in (*self.copy, *self.share):
            parts = Path(path).parts
            if not parts or Path(path).is_absolute() or ".." in parts or ".git" in parts:
                raise UsageError(
                    f'worktrees.copy and worktrees.share take paths inside the repository, not "{path}".',
                    "Nothing was done.",
                    "write it relative to the top of the repository, such as node_modules",
                )

    @property
    def paths(self) -> tuple[str, ...]:
        """Gives the lent paths as git writes them."""
        return tuple(Path(path).as_posix() for path in (*self.copy, *self.share))

    @property
    def furnishes(self) -> bool:
        """Tells whether a worktree gets anything besides its files."""
        return bool(self.copy or self.share or self.setup)

    def lend(self, worktree: Path) -> None:
        """Makes the copies and links in `worktree`, again where they are there already. Raises OSError."""
        if self.source is None:
            return
        for path in self.copy:
            if os.path.lexists(self.source / path) and _is_inside(worktree, worktree / path):
                _copy(self.source / path, worktree / path)
        for path in self.share:
            if os.path.lexists(self.source / path) and _is_inside(worktree, worktree / path):
                _link(self.source / path, worktree / path)

    def run_setup(self, tree: LinkedTree, log: Path) -> None:
        """Runs the setup command in a worktree. Raises WorktreeSetupFailed, also for what it must not
        leave."""
        env = {n: value for n, value in os.environ.items() if contract.is_for_others(n) or n == NONCE_NAME}
        prefix: tuple[str, ...] = ()
        own = log.with_suffix(".own")
        if self.rooms.holds_setup:
            prefix, env = self.rooms.setup(tree, own), self.rooms.environment(env, own)
        with open(log, "wb") as output:
            child = subprocess.Popen(
                [*prefix, "/bin/sh", "-c", self.setup],
                cwd=tree.path,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = child.wait(self.setup_timeout_s)
                ended = f"ended with status {code}"
            except subprocess.TimeoutExpired:
                code, ended = -1, f"did not end within {self.setup_timeout_s:g} s"
            finally:
                _end_group(child)
                remove(own)
        if code:
            step = f"see {log}"
            if prefix:
                step += (
                    "; it is shut in by the sandbox, so one that writes elsewhere needs sandbox_setup = false"
                )
            raise WorktreeSetupFailed(
                f"The setup command of the worktrees {ended}: {self.setup}", _tail(log), log, step
            )
        self._check_setup(tree, log)

    def _check_setup(self, tree: LinkedTree, log: Path) -> None:
        """Refuses files that git would take for the worker's: they would be in every landing."""
        lent = [f":(top,exclude,literal){path}" for path in self.paths]
        asked = tree.git("status", "--porcelain", "-z", "--no-renames", "--", ":/", *lent)
        names = [entry[3:] for entry in git.decode(asked.out).split("\0") if entry]
        if names:
            named = ", ".join(names[:NAMED_MAX]) + (" and others" if len(names) > NAMED_MAX else "")
            raise WorktreeSetupFailed(
                f"The setup command of the worktrees leaves changes that git sees: {named}.",
                "",
                log,
                "ignore what it makes, and take one that changes no tracked file (npm ci, not npm install)",
            )


def _is_inside(worktree: Path, target: Path) -> bool:
    """Tells whether the folder of `target` lies in the worktree once all links are followed."""
    return Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(worktree))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(target)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _link(source: Path, target: Path) -> None:
    if target.is_symlink() and os.readlink(target) == str(source):
        return
    if os.path.lexists(target):
        return  # tracked, or made by an earlier hand: the files of the base win
    target.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(source, target)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """Ends what the setup left running: it would write into the worktree of a worker."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def _tail(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        return file.read().decode("utf-8", "replace").strip()

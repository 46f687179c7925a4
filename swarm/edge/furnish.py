"""What a worktree gets besides its files: copies, links to shared folders, and what the setup command makes.

Hides the `copy`, `share` and `setup` of `[worktrees]`. Rules for editing: a link points into the user's
checkout, so it is made and removed as a link and never followed; nothing is written outside the worktree,
whatever links the checked-out tree has; what is tracked is not replaced by a link.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from swarm.dataclass import dataclass
from swarm.edge import contract, git, output, process, usage
from swarm.edge.linked import LinkedTree, remove
from swarm.edge.suite_rooms import NO_ROOMS, Rooms
from swarm.errors import SwarmError, UsageError

TAIL_BYTES = 4096
LOOK_EVERY_S = 0.5
NAMED_MAX = 5
ORIGIN = "swarm-origin"  # in a worktree's record: settings for the git of the setup command


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a setup command may take: time, room for its output on the disk, processes (0: any number)."""

    timeout_s: float = 1800.0
    output_bytes: int = 100_000_000
    processes: int = 4000


USUAL = Bounds()


class WorktreeSetupFailed(SwarmError):
    """The setup command did not succeed; `tail` is the end of its output, `log` the file that holds all of it, `remedy` what is to
    be done where that can be told without looking there."""

    def __init__(self, cause: str, tail: str, log: Path, remedy: str, *, see_log: bool = False) -> None:
        shown = f"Its output ends:\n{tail}" if tail else ""
        steps = (f"see {log}" if see_log else "", remedy)
        super().__init__(cause, shown, "; ".join(filter(None, steps)))
        self.tail = tail
        self.log = log
        self.remedy = "; ".join(filter(None, ("see to what it lacks" if see_log else "", remedy)))


@dataclass(frozen=True, slots=True)
class Furnishing:
    """The settings. `source` is the folder that `copy` and `share` are relative to; without one they do nothing. In worktrees of a
    repository of ours, which has no remote, the setup command's git resolves relative addresses of submodules as in `home`."""

    source: Path | None
    setup: str = ""
    copy: tuple[str, ...] = ()
    share: tuple[str, ...] = ()
    bounds: Bounds = USUAL
    rooms: Rooms = NO_ROOMS
    home: git.Repository | None = None

    def __post_init__(self) -> None:
        for path in (*self.copy, *self.share):
            parts = Path(path).parts
            if not parts or Path(path).is_absolute() or ".." in parts or ".git" in parts:
                raise UsageError(
                    f'worktrees.copy and worktrees.share take paths inside the repository, not "{path}".',
                    "Nothing was done.",
                    "write it relative to the top of the repository, such as node_modules",
                )

    def lent(self, objects: git.Objects, commit: str) -> tuple[str, ...]:
        """Gives the paths that a worktree at a commit is lent, as git writes them: what the commit itself contains is the work, and
        neither replaced nor left out of it. Raises GitError."""
        paths = tuple(Path(path).as_posix() for path in (*self.copy, *self.share))
        return tuple(path for path in paths if not objects.holds(commit, path)) if paths else ()

    @property
    def furnishes(self) -> bool:
        """Tells whether a worktree gets anything besides its files."""
        return bool(self.copy or self.share or self.setup)

    def lend(self, worktree: Path, lent: Collection[str]) -> None:
        """Makes the copies and links of what is `lent` in `worktree`, again where they are there already. Raises OSError."""
        if self.source is None:
            return
        for paths, place in ((self.copy, _copy), (self.share, _link)):
            for path in paths:
                wanted = Path(path).as_posix() in lent and os.path.lexists(self.source / path)
                if wanted and _has_place(worktree, worktree / path):
                    place(self.source / path, worktree / path)

    def run_setup(self, tree: LinkedTree, lent: Collection[str], log: Path) -> None:
        """Runs the setup command in a worktree that is `lent` these paths. Raises WorktreeSetupFailed, also for what it must not
        leave."""
        env = {name: value for name, value in os.environ.items() if contract.is_for_others(name)}
        prefix: tuple[str, ...] = ()
        own = log.with_suffix(".own")
        if self.rooms.holds_setup:
            prefix, env = self.rooms.setup(tree, own), self.rooms.environment(env, own)
        if self.home is not None:
            env |= _with_origin(tree, self.home.origin())
        try:
            wrong = self._carry_out([*prefix, "/bin/sh", "-c", self.setup], tree.path, env, log)
        finally:
            remove(own)
            lost = not tree.is_linked()
            if not lost:
                tree.name_record(tree.admin)  # not every sandbox can hold the file that does
        if lost:
            raise WorktreeSetupFailed(
                f"The setup command of the worktrees deletes the worktree, or moves it away: {self.setup}",
                _tail(log),
                log,
                "have it leave the folder that it runs in",
            )
        if wrong:
            held = "it is shut in by the sandbox, so one that writes elsewhere needs sandbox_setup = false"
            cause = f"The setup command of the worktrees {wrong}: {self.setup}"
            raise WorktreeSetupFailed(cause, _tail(log), log, held if prefix else "", see_log=True)
        self._check_setup(tree, lent, log)

    def _carry_out(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path) -> str:
        """Runs a program to its end, with all that it started; says what went wrong, if anything."""
        mark = process.own_mark()
        remove(log)
        with open(log, "ab") as sink:  # at its end, also where its middle was given back meanwhile
            child = subprocess.Popen(
                argv,
                cwd=cwd,
                env={**env, process.NONCE_NAME: mark},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        identity = process.identity_of(child.pid)
        try:
            return self._wait(child, identity, log)
        finally:  # it would write into the worktree of a worker
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            process.end_tree(identity, mark, grace_s=0.0)
            child.wait()

    def _wait(self, child: subprocess.Popen[bytes], identity: process.Identity, log: Path) -> str:
        bounds = self.bounds
        deadline = time.monotonic() + bounds.timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(min(left_s, LOOK_EVERY_S))
                return f"ended with status {code}" if code else ""
            if 0 < bounds.processes < usage.processes({"": identity})[""]:
                return f"had more than {bounds.processes} processes (limits.processes_max)"
            output.bound(log, bounds.output_bytes)
        return f"did not end within {bounds.timeout_s:g} s"

    def _check_setup(self, tree: LinkedTree, lent: Collection[str], log: Path) -> None:
        """Refuses files that git would take for the worker's: they would be in every landing."""
        status = ("status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=dirty")
        asked = tree.git(*status, "--", ":/", *(f":(top,exclude,literal){path}" for path in lent))
        names = [entry[3:] for entry in git.decode(asked.out).split("\0") if entry]
        if names:
            named = ", ".join(names[:NAMED_MAX]) + (" and others" if len(names) > NAMED_MAX else "")
            raise WorktreeSetupFailed(
                f"The setup command of the worktrees leaves changes that git sees: {named}.",
                "",
                log,
                "ignore what it makes, and take one that changes no tracked file (npm ci, not npm install)",
            )


def _has_place(worktree: Path, target: Path) -> bool:
    """Tells whether the folder of `target` lies in the worktree once all links are followed, or can be made: a commit may hold a
    file there, whose it then is."""
    inside = Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(worktree))
    return inside and next(above for above in target.parents if os.path.lexists(above)).is_dir()


def _copy(source: Path, target: Path) -> None:
    """Copies a file, a link or a folder; what can't be copied, such as the socket of a program that runs, is left out."""
    if not _is_copied(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(target)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, ignore=_left_out)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _is_copied(path: Path) -> bool:
    mode = os.lstat(path).st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


def _left_out(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not _is_copied(Path(folder, name))]


def _link(source: Path, target: Path) -> None:
    if target.is_symlink() and os.readlink(target) == str(source):
        return
    if os.path.lexists(target):
        return  # tracked, or made by an earlier hand: the files of the base win
    target.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(source, target)


def _with_origin(tree: LinkedTree, address: str) -> dict[str, str]:
    """Gives the variables by which git takes `address` for the remote `origin` of a worktree, and of nothing else: a setting that
    was given plainly would count in its submodules too, and theirs would be resolved by it."""
    admin = os.fspath(tree.admin)
    if "\n" in admin:
        return {}  # git has no words for it
    quoted = address.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    origin = tree.admin / ORIGIN
    origin.write_text(f'[remote "origin"]\n\turl = "{quoted}"\n', "utf-8", "surrogateescape")
    only_here = re.sub(r"[\\*?\[]", r"\\\g<0>", admin)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"includeIf.gitdir:{only_here}.path",
        "GIT_CONFIG_VALUE_0": os.fspath(origin),
    }


def _tail(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        return file.read().decode("utf-8", "replace").strip()

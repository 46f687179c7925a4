"""What lies outside the machine, made of dicts: git, worktrees and workers that live on whatever becomes of the daemon.

The random walk has commands carried out here. Each does what the real edge does as far as the machine can tell: it first looks
whether the work is done, so that a command whose answer was lost may come again. What the real world would not survive is a failed
assertion: two workers in one worktree, two that hold the same claim, staging moved to what was never verified.

Rules for editing: nothing of the machine's state is believed here; what is known comes from commands alone. Chance is the walk's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from swarm.core import commands as cmd
from swarm.core.claims import overlap
from swarm.core.model import Claim, Mode

Key = tuple[str, str, int]


def key_of(command: cmd.AttemptCommand) -> Key:
    """Names an attempt."""
    return command.run, command.task, command.attempt


@dataclass(slots=True)
class Outside:
    """The world of one repository. `parents` is git; `landing_of` and `reverted` say what commits of ours are for."""

    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    staging: dict[str, str] = field(default_factory=dict)  # in the landing repository
    landing_of: dict[str, str] = field(default_factory=dict)  # a candidate, to its task
    reverted: dict[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # the candidate of an undo, to landings
    made: dict[tuple[str, ...], str] = field(default_factory=dict)  # the same inputs give the same commit
    passed: set[tuple[str, str]] = field(default_factory=set)  # commit, suite
    worktrees: dict[str, Key] = field(default_factory=dict)
    alive: dict[Key, tuple[Claim, ...]] = field(default_factory=dict)
    started: set[Key] = field(default_factory=set)
    still: set[Key] = field(default_factory=set)  # workers that stand still

    def commit(self, *parents: str) -> str:
        """Makes a commit of its own."""
        oid = f"{len(self.parents):040x}"
        self.parents[oid] = parents
        return oid

    def is_below(self, commit: str, tip: str) -> bool:
        """Tells whether `commit` is `tip` or in its history."""
        ahead, seen = [tip], set()
        while ahead:
            at = ahead.pop()
            if at == commit:
                return True
            if at not in seen:
                seen.add(at)
                ahead += self.parents[at]
        return False

    def line(self, run: str) -> list[str]:
        """Lists the first parents of staging, oldest first."""
        at, found = self.staging[run], []
        while self.parents[at]:
            found.append(at)
            at = self.parents[at][0]
        return found[::-1]

    def landed(self, run: str) -> list[tuple[str, str]]:
        """Lists what is on staging and was not taken off again: tasks with their landings, oldest first."""
        line = self.line(run)
        gone = {each for commit in line for each in self.reverted.get(commit, ())}
        return [
            (self.landing_of[commit], commit)
            for commit in line
            if commit in self.landing_of and commit not in gone
        ]

    # --- worktrees and workers

    def take(self, command: cmd.TakeWorktree) -> str:
        """Leases a worktree; the same attempt gets the same."""
        assert command.base in self.parents, f"{command.task} starts from {command.base}, which is nowhere"
        key = key_of(command)
        taken = {mine: path for path, mine in self.worktrees.items()}
        path = taken.get(key) or next(path for path in self._paths() if path not in self.worktrees)
        self.worktrees[path] = key
        return path

    def _paths(self) -> Iterator[str]:
        return (f"/wt/{number}" for number in range(len(self.worktrees) + 1))

    def start(self, command: cmd.StartWorker, claims: Sequence[Claim]) -> None:
        """Starts a worker, once: in a worktree of its own, while no other works on its task or holds what it claims."""
        key = key_of(command)
        assert self.worktrees.get(command.worktree) == key, f"{key} works in the worktree of another"
        if key in self.started:
            return
        for other, theirs in self.alive.items():
            assert other[:2] != key[:2], f"{key} starts beside {other}"
            if other[0] == key[0]:
                meet = [
                    c
                    for c in claims
                    for d in theirs
                    if overlap(c.path, d.path) and {c.mode, d.mode} != {Mode.SHARED}
                ]
                assert not meet, f"{key} starts while {other}, which still runs, holds {meet}"
        self.started.add(key)
        self.alive[key] = tuple(claims)

    def stand_still(self, command: cmd.SuspendWorker) -> None:
        """Has a worker stand still."""
        assert key_of(command) in self.started, f"{key_of(command)} is suspended and was never started"
        self.still.add(key_of(command))

    def go_on(self, command: cmd.ThawWorker) -> None:
        """Has a worker go on."""
        self.still.discard(key_of(command))

    def runs(self, command: cmd.WatchWorker) -> None:
        """A worker works on, which one that stands still can't."""
        assert key_of(command) not in self.still, f"{key_of(command)} stands still and nobody has it go on"

    def collect(self, command: cmd.Collect) -> None:
        """Looks into a worktree, in which nobody works any more."""
        key = key_of(command)
        assert key not in self.alive, f"what {key} does is collected while it runs"
        assert self.worktrees.get(command.worktree) == key, f"the worktree of {key} was given to another"

    def give_back(self, command: cmd.GiveBackWorktree) -> None:
        """Frees a worktree, in which nobody works any more."""
        key = key_of(command)
        assert key not in self.alive, f"the worktree of {key} is given back while it runs"
        self.worktrees = {path: mine for path, mine in self.worktrees.items() if mine != key}

    def discard(self, run: str) -> None:
        """Removes all of a run, whose id is free then; nobody works for it and nothing of it is lent."""
        busy = [key for key in (*self.alive, *self.worktrees.values()) if key[0] == run]
        assert not busy, f"{run} is discarded under {busy}"
        self.staging.pop(run, None)
        self.started = {key for key in self.started if key[0] != run}
        self.still = {key for key in self.still if key[0] != run}
        self.made = {inputs: commit for inputs, commit in self.made.items() if inputs[1] != run}

    # --- landing

    def make(self, *inputs: str, parents: Sequence[str]) -> str:
        """Makes a commit; the same inputs give the same, so that a command that is repeated finds what was made."""
        if inputs not in self.made:
            self.made[inputs] = self.commit(*parents)
        return self.made[inputs]

    def merge(self, command: cmd.Merge) -> str:
        """Makes the candidate of a landing."""
        inputs = ("merge", command.run, command.task, str(command.attempt), command.onto, command.head)
        commit = self.make(*inputs, parents=(command.onto, command.head))
        self.landing_of[commit] = command.task
        return commit

    def revert(self, command: cmd.Revert) -> str:
        """Makes the candidate of an undo."""
        inputs = ("revert", command.run, command.task, str(command.attempt), command.onto)
        commit = self.make(*inputs, parents=(command.onto,))
        self.reverted[commit] = tuple(landing for _, landing in command.landings)
        return commit

    def advance(self, command: cmd.Advance, suites: Sequence[str]) -> str | None:
        """Moves staging by compare-and-swap; gives where it was found when it could not. At the new commit or above it is done."""
        found = self.staging[command.run]
        if self.is_below(command.new, found):
            return None
        if found != command.old:
            return found
        missing = [name for name in suites if (command.new, name) not in self.passed]
        assert not missing, f"{command.task} lands as {command.new}, on which {missing} did not pass"
        line = command.over or ((command.new, command.old, command.head, command.base),)
        for (new, onto, head, _), below in zip(
            line, (command.old, *(each[0] for each in line)), strict=False
        ):
            assert self.parents[new][0] == onto == below
            assert not command.over or self.parents[new][1] == head
        assert line[-1][0] == command.new
        self.staging[command.run] = command.new
        return None

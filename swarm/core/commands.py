"""Every command: what is to be done at an edge.

A command is built from what was recorded, can be carried out twice, and is answered by exactly one event (`messages`), which its
docstring names. None is ever written down: after a crash the state says again which stand out (`state.pending_commands`).

Rules for editing: a command has all that carrying it out needs, since no edge looks at the state.
"""

from __future__ import annotations

from typing import Any

from swarm.core.model import Claim, TaskSpec
from swarm.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something to be done at an edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureHost(Command):
    """Look at the machine: `HostMeasured`. With `target`, the width that the last readings allowed, the answer may wait until
    readings allow another one, or there are the `wanted_bytes` of memory that a start waits for."""

    target: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCommand(Command):
    """A command for a run."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRun(RunCommand):
    """Seed the landing repository, make the staging branch and worktree: `RunPrepared` or `RunCommandFailed`."""

    base: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(RunCommand):
    """Bring `commit` and the branch staging into the user's repository, from `old`: `Published`, or `StagingSeen` where the branch
    is not there, or `RunCommandFailed`. `published` is where the last landing left it."""

    commit: str
    old: str
    published: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAtStaging(RunCommand):
    """Look whether staging in the user's repository is as the landing of `published` left it: `StagingSeen` or `RunCommandFailed`.
    With `known`, the answer may wait until something else is to be seen."""

    published: str
    known: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow(RunCommand):
    """Move the staging worktree from `old`, or from a commit in `by_hand`, to `commit`: `Followed` or `RunCommandFailed`."""

    commit: str
    old: str
    by_hand: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(RunCommand):
    """Merge staging at `commit` into `target`: `Finished` or `FinishRefused`. The suites run on what a merge with a target that has
    moved comes to, which is by `author` and `committer`; without one on `commit`, unless it has `passed` them. Something of the
    run was `handed_over` where an earlier one brought work of it anywhere."""

    request: str
    target: str
    commit: str
    base: str
    base_branch: str
    at: float
    stage_only: bool = False
    suites: tuple[Any, ...] = ()
    passed: bool = False
    author: tuple[str, str] | None = None
    committer: tuple[str, str] | None = None
    handed_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard(RunCommand):
    """Remove everything of a run that has come to rest: `Discarded` or `RunCommandFailed`. `worktrees` are the names of the folders
    that may lie below the run's own; `created_at` tells it from a later run with its id."""

    worktrees: tuple[str, ...]
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptCommand(RunCommand):
    """A command for an attempt."""

    task: str
    attempt: int

    @property
    def about(self) -> dict[str, Any]:
        """The attempt, by the fields with which its answer names it."""
        return {"run": self.run, "task": self.task, "attempt": self.attempt}


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeWorktree(AttemptCommand):
    """`WorktreeReady` or `CommandFailed`."""

    base: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWorker(AttemptCommand):
    """`WorkerStarted` or `CommandFailed`. `again` where an earlier attempt at the task was held against it; `lessons` are what
    earlier runs taught."""

    spec: TaskSpec
    base: str
    worktree: str
    slot: int
    claims: tuple[Claim, ...]
    feedback: tuple[str, ...] = ()
    again: bool = False
    lessons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchWorker(AttemptCommand):
    """Answered by `WorkerExited` when the worker's whole tree has ended, or before that by `WorkerOutgrew` once it takes more than
    `memory_mb`, by `WorkerSilent` once it has written nothing for `no_output_s` (0 for either: no limit), by `WorkerMultiplied`."""

    memory_mb: int = 0
    no_output_s: float = 0.0


TOO_MANY = "too_many_processes"  # why a worker is ended that must not get any time to start more


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendWorker(WatchWorker):
    """Have the worker's whole tree stand still; answered as `WatchWorker` is, by the same watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThawWorker(WatchWorker):
    """Have the worker's whole tree go on, where it stands still; answered as `WatchWorker` is, by the same watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndWorker(AttemptCommand):
    """End the worker's whole tree; the watch of it, or else this, answers with `WorkerExited`."""

    why: str
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect(AttemptCommand):
    """`Collected` or `CommandFailed`. With `bring_in` work that can be submitted is brought in too, as `BringIn` does; where that
    fails, it is left to `BringIn`. With `answer`, findings or plan, the worker's answer is read: from its file, else what it `said`
    last of itself, else what it printed. With `gives_up` it has failed so often that what was left must be why: where it is not the
    machine's trouble this time either, `Collected` says so in `problem`, and the worktree stays as it is. With `failed` the last
    lines that the worker printed are read too."""

    base: str
    worktree: str
    branch: str
    title: str
    bring_in: bool = False
    answer: str = ""
    said: str = ""
    gives_up: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBackWorktree(AttemptCommand):
    """`WorktreeReturned`, whatever happens: a worktree that can't be cleaned is torn down. With `keep` it stays for its owner."""

    worktree: str
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BringIn(AttemptCommand):
    """`BroughtIn` or `CommandFailed`. With `branch` the work is kept on it first, as no `Collect` did."""

    head: str
    base: str
    branch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(AttemptCommand):
    """`CandidateMade`, `MergeConflicted`, `StagingFoundAstray` or `CommandFailed`. The same inputs give the same candidate. `batch`
    are the tasks that are verified together, as the candidate of the last. With `left` it is looked first whether staging in the
    user's repository still stands there."""

    onto: str
    head: str
    title: str
    verified: tuple[str, ...]
    at: float
    base: str
    by_hand: bool = False
    batch: tuple[str, ...] = ()
    left: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revert(AttemptCommand):
    """Take landings, (task, commit) newest first, back on top of `onto`: answered like `Merge`."""

    onto: str
    landings: tuple[tuple[str, str], ...]
    title: str
    verified: tuple[str, ...]
    at: float
    left: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebase(AttemptCommand):
    """`Rebased`, `RebaseConflicted` or `CommandFailed`."""

    onto: str
    head: str
    base: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify(AttemptCommand):
    """`Verified` or `CommandFailed`. With `again` these suites have run on the candidate and did not pass: what they said then, and
    what is remembered, counts no more."""

    candidate: str
    suites: tuple[Any, ...]
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance(AttemptCommand):
    """`StagingAdvanced`, `StagingMoved`, `StagingFoundAstray` (see `Merge`) or `CommandFailed`. `head` and `base`, or for an undo
    the landings that it `reverts`, are for the checks before the move. Of a batch, whose last candidate is `new`, `over` are all,
    as (candidate, onto, head, base)."""

    new: str
    old: str
    head: str
    base: str
    reverts: tuple[str, ...] = ()
    over: tuple[tuple[str, str, str, str], ...] = ()
    left: str = ""


_IN_WORDS = {
    "MeasureHost": "the look at the machine",
    "PrepareRun": "making the staging branch and its worktree",
    "Publish": "moving the staging branch",
    "LookAtStaging": "the look at the staging branch",
    "Follow": "bringing the staging worktree along",
    "Finish": "the finish",
    "Discard": "removing the run",
    "TakeWorktree": "making a worktree",
    "StartWorker": "starting the worker",
    "WatchWorker": "watching the worker",
    "SuspendWorker": "suspending the worker",
    "ThawWorker": "having the worker go on",
    "EndWorker": "ending the worker",
    "Collect": "collecting its work",
    "GiveBackWorktree": "cleaning its worktree",
    "BringIn": "taking its work into the landing repository",
    "Merge": "merging it",
    "Revert": "undoing it",
    "Rebase": "rebasing it",
    "Verify": "verifying it",
    "Advance": "moving staging to it",
}


def in_words(command: str) -> str:
    """Says for people what a command of this name does; one of another version is only named."""
    return _IN_WORDS.get(command, command)

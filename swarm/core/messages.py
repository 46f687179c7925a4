"""What has happened: every event that comes in, every fact that is told, and their JSON form.

Rules for editing: events are past facts and carry `at`, the time they happened, and everything that deciding needs; the journal
keeps them, so a field is added with a default and none is ever renamed or given another meaning. Most answer a command
(`commands`). Facts are what the journal tells people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from operator import attrgetter
from typing import Any, ClassVar

from swarm.core import plain
from swarm.core.goal import Goal
from swarm.core.model import (
    Finding,
    FoundRun,
    Limits,
    PlanSpec,
    Readings,
    Reason,
    Seen,
    Sides,
    SuiteResult,
    TaskSpec,
    WorkerResult,
)
from swarm.dataclass import dataclass

# --- events -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at time `at`."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent(Event):
    """Something that happened to a run."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEvent(RunEvent):
    """Something that happened to an attempt; refused when the attempt is not the task's live one."""

    task: str
    attempt: int


RULES = 2  # those that `machine` decides by; each change of what is decided is one more


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted(Event):
    """A daemon took over; the limits it decides by are recorded so that a replay decides alike. `top` is the checkout that it works
    beside: where that is another than before, the repository was moved, and what was recorded below it went along. `sandbox` is
    what workers are shut in by, `sandbox_why` why that is not more. `rules` are those that it decided by; nothing said: those of a
    version from before there was a first release. `ahead_s` is by how many seconds its clock is ahead of the time that passed since
    this `boot` of the machine, which the kernel has a name for: the next daemon sees by it whether the clock was set meanwhile."""

    version: str
    pid: int
    limits: Limits
    rules: int = 0
    top: str = ""
    sandbox: str = ""
    sandbox_why: str = ""
    boot: str = ""
    ahead_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopped(Event):
    """A daemon ended in good order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered(Event):
    """Worktrees, processes and refs were held against the journal, at a start or by `swarm recover`; `found` is what was mended."""

    found: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaimed(Event):
    """Idle worktrees held more than `disk_budget_bytes` that can be made again: the oldest of it, `paths`, was removed;
    `size_bytes` in all."""

    paths: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSet(Event):
    """The clock was set, or stood still for us as a laptop sleeps: since the last event it went on by `by_s` seconds more than time
    passed here (less, where it was set back). Where that was while no daemon ran, it comes before the next `DaemonStarted`."""

    by_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRebuilt(Event):
    """The journal was rebuilt and lacks its end: what refs and folders prove to have happened after its last record. The runs that
    were `discarded` meanwhile are forgotten first. With `publish_first` no task of these runs starts before all that is on staging
    is published. With `by_hand_anew` commits made by hand whose attempt was lost are looked for and taken in once more; before it
    their task was started as if a worker were to do it."""

    runs: tuple[FoundRun, ...]
    discarded: tuple[str, ...] = ()
    publish_first: bool = False
    by_hand_anew: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked(Event):
    """A deadline passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMeasured(Event):
    """The machine was looked at; `trouble` says why it could not be, and nothing may start on it. `taken` are (run, task, attempt,
    bytes) of workers that are expected to take some."""

    readings: Readings
    trouble: str = ""
    taken: tuple[tuple[str, str, int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMeasured(Event):
    """The machine was looked at while workers ran, and is short of memory in another way than before."""

    readings: Readings


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChanged(Event):
    """`swarm scale`: another width."""

    workers_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Event):
    """No new starts: of everything, or of one task."""

    run: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """Starts again: everything, or one task."""

    run: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested(Event):
    """No new starts while the daemon goes down. With `end_workers` running ones are ended, after `grace_s` (None: as the limits
    say), and their attempts go back."""

    end_workers: bool = False
    grace_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSubmitted(RunEvent):
    """A plan came in. For a new run `base_branch` and `base_commit` say what it starts from.

    `only` limits the run to these tasks and what they need; `sequential` to one at a time; `fail_fast` cancels the rest at the
    first failure. With a `goal` the run is new, and its tasks are the research that comes before a plan. A task
    that has not started is finished before where the plan says so now, and one that has ended without landing is begun again by
    what the plan says of it now, where that is something else; a plan without suites takes those off that there were.
    """

    plan: PlanSpec
    base_branch: str
    base_commit: str
    only: tuple[str, ...] = ()
    sequential: bool = False
    fail_fast: bool = False
    goal: Goal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven(RunEvent):
    """A person approved of the plan that came of the run's goal: `plan` is what its file, whose content is named by `digest`, says.
    With `build` its tasks are taken in."""

    plan: PlanSpec
    digest: str
    build: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanWatched(RunEvent):
    """The run's plan file `source` is watched from now on: what is added to it is taken in as it is saved; "" for none."""

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedPlanRefused(RunEvent):
    """The watched plan file, as it was saved last, can't be taken in, and why; with an empty `text` it can again."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonsForgotten(Event):
    """`swarm lessons --forget`: these are not to be told to later runs."""

    lessons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksRetried(RunEvent):
    """Failed, cancelled or blocked tasks are to be tried again."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksCancelled(RunEvent):
    """These tasks are not wanted any more; their work is kept."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAsked(RunEvent):
    """These tasks, which are in the merge queue, are to land before all others, in this order."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoRequested(RunEvent):
    """A landed task is to be taken off staging again, with the landed tasks that needed it."""

    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTold(RunEvent):
    """A note of the user's for the next attempt."""

    task: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QaRequested(RunEvent):
    """`swarm qa`: what stands on staging is to be reviewed, and mended until it is approved, in `rounds_max` reviews at most. The
    tasks are made from the two specs; without a fixer the first objection ends it."""

    reviewer: TaskSpec
    fixer: TaskSpec | None = None
    rounds_max: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRequested(RunEvent):
    """`swarm finish`: staging is wanted on `target`, a branch; `request` is the asker's own key, so that a repeat is the same.
    `commit` is where staging stood when it was looked at and found approved. A merge is by `author` and `committer`, each a name
    and an address; None: by swarm."""

    request: str
    target: str
    stage_only: bool = False
    commit: str
    author: tuple[str, str] | None = None
    committer: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(RunEvent):
    """Staging is on the target (or, with `stage_only`, in the index of its checkout). `suites` are the commands that ran on staging
    itself for that, and passed."""

    request: str
    target: str
    commit: str
    stage_only: bool = False
    suites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRefused(RunEvent):
    """The target stays as it was."""

    request: str
    target: str
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardRequested(RunEvent):
    """`swarm discard`: the run ends and all of it is removed; `lost` names the work that was nowhere else and was given up."""

    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarded(RunEvent):
    """Nothing of the run is left: worktrees, branches, recovery refs, what the landing repository had, attempts' folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPrepared(RunEvent):
    """The landing repository knows the base, staging stands at `commit`, in both repositories."""

    commit: str
    worktree: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(RunEvent):
    """Staging in the user's repository stands at `commit`."""

    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingLookAsked(RunEvent):
    """Somebody wants to be sure that nothing was done to staging in the user's repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingSeen(RunEvent):
    """Staging in the user's repository was looked at, in answer to LookAtStaging or to a Publish that found it not as left."""

    command: str
    seen: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed(RunEvent):
    """The staging worktree stands at `commit`, or stays where it is because of `reason`."""

    commit: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCommandFailed(RunEvent):
    """A command of the run could not be carried out; it is tried again later. `trouble` as in `CommandFailed`."""

    command: str
    text: str
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorktreeReady(AttemptEvent):
    """A clean worktree stands at the attempt's base."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(AttemptEvent):
    """The worker runs; `pid` is its launcher's, `sandbox` what it is shut in by, "" where that was not written down."""

    pid: int
    started_at: float
    sandbox: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOutgrew(AttemptEvent):
    """The worker's process tree takes `memory_bytes`, more than its task may; it still runs."""

    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSilent(AttemptEvent):
    """The worker has written nothing for `silent_s`, as long as its task allows; it still runs."""

    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMultiplied(AttemptEvent):
    """The worker has `processes`, more than any may; it still runs."""

    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCompared(AttemptEvent):
    """What the worker has changed so far would conflict in `paths`, if any, with `other`, a RUN/TASK at work or "staging"."""

    other: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerExited(AttemptEvent):
    """The worker's process tree is gone. `exit_code` is None where nobody wrote it down: the worker is lost. `trouble` is the
    machine's at that moment (its disk was full); `memory_bytes` the most that the tree was seen to take, 0 where nobody looked.
    `jitter`, a random number from 0 to 1, spreads what is tried again later. `ended_at` is when its command ended, which a
    daemon that was late learns only now; None where nobody wrote it down. `output` stands for the end of what a worker put out that
    failed, without what differs from one time to the next: where it is the same, that was; "" where it put out nothing.
    `by_itself` tells that it had ended before anybody began to end it."""

    exit_code: int | None
    result: WorkerResult = field(default_factory=WorkerResult)
    trouble: str = ""
    memory_bytes: int = 0
    jitter: float = 0.0
    ended_at: float | None = None
    output: str = ""
    by_itself: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected(AttemptEvent):
    """What the worker left is committed as `head` (equal to the base when nothing changed) and kept on the attempt's branch.

    `problem` is a sentence where the worktree was in a state that can't be submitted (unmerged paths, …). `gone` tells that there
    was no worktree any more: whatever was done in it is not the worker's fault. `brought_in` tells that no `BroughtIn` follows,
    since the commits are in the landing repository already. `besides` is the branch that keeps the commits that the worker left
    elsewhere: in a stash, on another branch, under a tag; `staged` the one that keeps what it had staged and then changed on, where
    it left nothing else. `ignored` are the first paths that it changed and git ignores, where it
    changed nothing else. `noticed` is what the settings want told of what came in. Of a task
    that is asked for one it has the `answer`, and the `plan` that this was read as; then `problem` says what is wrong with that.
    `tail` are the last lines that a worker printed that failed, as people read them.
    """

    head: str
    commits: int
    touched: tuple[str, ...]
    problem: str = ""
    gone: bool = False
    brought_in: bool = False
    besides: str = ""
    staged: str = ""
    ignored: tuple[str, ...] = ()
    noticed: tuple[str, ...] = ()
    answer: str = ""
    plan: PlanSpec | None = None
    tail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorktreeReturned(AttemptEvent):
    """The attempt's worktree went back to the pool; also told of attempts that have ended. `saved` is the branch, or the folder,
    that keeps what lay there and had not been collected."""

    saved: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtIn(AttemptEvent):
    """The attempt's commits are in the landing repository and pinned there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateMade(AttemptEvent):
    """`candidate` merges the attempt onto `onto`: of a merge its commit `head`, with a message that says that `verified` have
    passed, for all of the `batch` where there is one. An undo tells none of these."""

    onto: str
    candidate: str
    head: str = ""
    verified: tuple[str, ...] = ()
    batch: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeConflicted(AttemptEvent):
    """The attempt does not merge onto `onto`: `paths` conflict; `landings` are the tasks on staging that changed them; `versions`
    are those of the paths that both sides have a version of, as far as they are not too many. `why` says what is wrong where the
    same lines are not. `head` is the commit that was merged, "" for an undo."""

    onto: str
    paths: tuple[str, ...]
    landings: tuple[str, ...] = ()
    versions: tuple[Sides, ...] = ()
    why: str = ""
    head: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebased(AttemptEvent):
    """The attempt's commits were replayed onto `onto`; `head` is the last of them."""

    onto: str
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RebaseConflicted(AttemptEvent):
    """The machine could not replay the attempt's commits either."""

    onto: str
    paths: tuple[str, ...]
    landings: tuple[str, ...] = ()
    versions: tuple[Sides, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(AttemptEvent):
    """The suites were run on `candidate`; it passed when every one did. No suite at all passes unverified. `trouble` is the
    machine's when one did not pass: they are then forgotten and can be run again. With `again` these are the ones that had not
    passed on it, and ran once more."""

    candidate: str
    suites: tuple[SuiteResult, ...] = ()
    trouble: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingAdvanced(AttemptEvent):
    """Staging in the landing repository moved to the candidate."""

    candidate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingMoved(AttemptEvent):
    """Staging was not where the candidate was built on; it stands at `found`. `candidate` is where it was to move."""

    found: str
    candidate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingFoundAstray(AttemptEvent):
    """Staging in the user's repository was not as left, so no candidate was made, or staging not moved to it."""

    seen: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFailed(AttemptEvent):
    """A command could not be carried out for a reason that is not the attempt's doing; it is tried again, a few times.

    `trouble` says in a few words what the machine lacks, if that is the reason: then it is tried until it succeeds. `may_run` tells
    that a worker was, or may have been, started all the same: then too, since only its own end may end the attempt.
    """

    command: str
    text: str
    trouble: str = ""
    may_run: bool = False


# --- facts told to people ---------------------------------------------------------------------------------------------------


FACTS: dict[str, str] = {
    "RunStarted": "a run began: `base` is the commit it starts from, `branch` the branch",
    "PlanAccepted": "a plan was taken in: how many tasks were `added`, `replaced`, `unchanged`, and of which "
    "that had not started it is said now that they were `finished_before`",
    "BacklogWatched": "what is added to the plan file `source` is taken in from now on as it is saved; an empty one ends that",
    "BacklogRefused": "the watched plan file `source`, as it was saved, was not taken in: `text` says why",
    "TaskStarted": "an attempt began: its `base`, `slot` and `agent`",
    "WorkerSuspended": "the worker stands still, since memory is short: `text`",
    "WorkerThawed": "the worker goes on, after it stood still for `stood_still_s`",
    "ConflictForeseen": "what the worker has changed so far would conflict in `paths` with `other`, a RUN/TASK at work or staging",
    "StrayFound": "the attempt changed `paths` outside its claims; `policy` says what follows",
    "ChangeNoticed": "the attempt changed what the settings want told: `texts` say what",
    "TaskQueued": "the work is committed as `head`, changes `touched` paths, and waits to land",
    "TaskHandedBack": "the attempt did not land and the task gets another: `code` and `text` say why, `end` is the state that the "
    "attempt ended in (`handed_back`, `failed`, `lost`); of a conflict `versions` has "
    "the blobs of each of its paths: `base`, `staging` and `own`; `partners` are the landings with which alone it is red",
    "ClaimUnused": "the attempt changed nothing under `paths`, which it had claimed",
    "TaskLanded": "the landing `commit` is on staging in the user's repository; `title` is the task's, `verified` names the suites "
    "that passed, `verified_with` the last task of its batch where it was verified with others; "
    "of several side by side `bottleneck` is the slowest, which took `verify_s`; `notes` tell what ran otherwise than asked; "
    "`unchanged` tells that it changes nothing, as the task may (allow_empty)",
    "SuiteFlaked": "`suite` did not pass on a candidate (`outcome`) and passed on the same commit when it ran once more: that "
    "`flaked` times of the `ran` times it ran; `often` tells that this is too often to be chance",
    "TaskAnswered": "the task gave its answer, of which nothing lands; `agent` gave it",
    "PlanDrafted": "the architect wrote a plan, of `tasks` tasks, whose content is named by `digest`; `code` is approval "
    "where it waits for one, approved where that was given beforehand",
    "PlanApproved": "the plan that came of the run's goal, as named by `digest`, was approved of",
    "BuildReady": "all that the goal's plan asks for stands on staging, verified and reviewed as far as anybody is to review",
    "BuildStopped": "the build can't go on by itself: `text` says why",
    "TaskFailed": "the task ended without landing: `code` and `text` say why; its work is kept; `last` is how its last attempt "
    "ended where a conflict before that is why",
    "TaskCancelled": "the task was given up, or undone: `code` and `text` say why; its work is kept",
    "TaskBlocked": "something that the task needs ended without landing: `text` and `needs` say what",
    "TaskRetried": "the task is tried again",
    "UndoBegun": "`tasks` that have landed are to be taken off staging again; they end as cancelled, with `undone`",
    "UndoRefused": "they stay landed: `code` and `text` say why",
    "StagingReviewed": "a review of `reviewed`, a commit of staging, has landed: `verdict`, the `issues` and a `summary`",
    "QaApproved": "the reviewer approved of staging as it stands at `commit`; whatever lands later voids that",
    "QaRejected": "QA ended without an approval: `text` says why",
    "RunEnded": "every task that takes part has ended: how many `landed`, `failed`, `cancelled`, `blocked`, and `answered` "
    "where one did",
    "StagingAstray": "staging in your repository is not as it was left: `code` and `text` say how, `found` where it is",
    "StagingSettled": "staging in your repository is as it should be again",
    "StagingRestored": "the staging branch was gone and was made again at `commit`",
    "StagingWorktreeFollows": "the staging worktree stands at `commit`, or stays for the `reason` given",
    "RunFinished": "staging is on `target` at `commit`",
    "RunBeingDiscarded": "a run was given up for good; `lost` names the work that was nowhere else",
    "RunDiscarded": "nothing of the run is left, and its id is free again",
    "WorkSaved": "what lay in the worktree of an attempt and had not been collected, or what it left in a stash, on another branch "
    "or under a tag, is kept at `place`, a branch or a folder",
    "Mended": "something that a crash or a person left was mended: `kind`, `text` says what was found, `remedy` what was done",
    "SpaceReclaimed": "idle worktrees held more than `disk_budget_bytes` that can be made again: of it `paths` were removed, the "
    "oldest, `size_bytes` in all",
    "JournalRebuilt": "the journal was rebuilt without its end: how many `landings` of how many `runs` were found on staging",
    "AgentHeld": "nothing of `agent` starts: `code` (rate_limit or breaker) and `text` say why, `until` when its limit is reset",
    "AgentGoesOn": "`agent` starts workers again: few at first, where a rate limit held it",
    "CapacityChanged": "the machine allows another number of workers: `slots_open` and the `reason`",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of the event log for people and programs: `type` such as `TaskLanded`, and what it is about."""

    type: str
    at: float
    run: str | None = None
    task: str | None = None
    attempt: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Gives the public form, without `seq`; `at` stays in seconds."""
        out: dict[str, Any] = {"type": self.type, "at": self.at}
        if self.run is not None:
            out["run"] = self.run
        if self.task is not None:
            out["task"] = self.task
        if self.attempt is not None:
            out["attempt"] = self.attempt
        out.update(self.data)
        return out


# --- JSON -------------------------------------------------------------------------------------------------------------------


_HEAD = ("at", "run", "task", "attempt")
_Taker = tuple[str, Callable[[Any], tuple[Any, ...]], Callable[[Any], dict[str, Any]]]


class _Registry:
    by_name: ClassVar[dict[str, type[Event]]] = {}
    takers: ClassVar[dict[type[Any], _Taker]] = {}


def _events() -> dict[str, type[Event]]:
    # Not by `__subclasses__`: with `slots=True` every class is made twice, and the first one lingers there.
    return {name: cls for name, cls in globals().items() if isinstance(cls, type) and issubclass(cls, Event)}


def event_types() -> list[type[Event]]:
    """Lists every kind of event that can happen."""
    abstract = (Event, RunEvent, AttemptEvent)
    return [cls for cls in _events().values() if cls not in abstract]


# What a message is made of: its type, when and of what it tells, and the rest of its fields by name, as they are.
Parts = tuple[str, float, str | None, str | None, int | None, Mapping[str, Any]]


def parts_of(message: Event | Fact) -> Parts:
    """Takes a message apart; empty fields whose default is empty are left out. `event_to_json` is the same as JSON data."""
    if type(message) is Fact:
        return message.type, message.at, message.run, message.task, message.attempt, message.data
    name, head, rest = _Registry.takers.get(type(message)) or _taker(type(message))
    at, run, task, attempt = head(message)
    return name, at, run, task, attempt, rest(message)


def _taker(cls: type[Any]) -> _Taker:
    head = attrgetter(*_HEAD) if issubclass(cls, AttemptEvent) else _head
    return _Registry.takers.setdefault(cls, (cls.__name__, head, plain.fields_of(cls, _HEAD)))


def _head(event: Any) -> tuple[Any, ...]:
    return tuple(getattr(event, name, None) for name in _HEAD)


def event_to_json(event: Event) -> dict[str, Any]:
    """Gives an event as plain JSON data, its class name under `type`; empty fields whose default is empty are left out."""
    return plain.dump_fields(event, {"type": type(event).__name__})


def event_from_json(data: Mapping[str, Any]) -> Event:
    """Reads an event back. Raises `ValueError` for an unknown type or a missing field; ignores fields it does not know."""
    if not _Registry.by_name:
        _Registry.by_name = _events()
    cls = _Registry.by_name.get(str(data.get("type")))
    if cls is None:
        raise ValueError(f"unknown event type {data.get('type')!r}")
    event = plain.load(cls, data)
    assert isinstance(event, Event)
    return event

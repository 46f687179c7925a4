"""The nouns: plans as read, and runs, tasks, attempts and landings as they stand.

Rules for editing: nothing here decides or acts. What a plan says is frozen (`PlanSpec`, `TaskSpec`, …); what changes while
a run goes on (`Run`, `Task`, `Attempt`) is changed by `machine` alone. Words are those of the public contract. Times are
seconds since the epoch, in UTC; durations end in `_s`; sizes end in `_bytes` or `_mb`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from swarm.dataclass import dataclass

COMMAND = "command"  # the agent that runs a task's own shell command
TRY_LATER = 75  # EX_TEMPFAIL: the exit code by which a worker asks to be tried again later


class TaskState(StrEnum):
    """Where a task stands; the last five are ends. Only a task that is asked for an answer ends as `answered`."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    QUEUED = "queued"
    LANDING = "landing"
    LANDED = "landed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"
    ANSWERED = "answered"


GOOD_ENDS = frozenset({TaskState.LANDED, TaskState.ANSWERED})
TASK_ENDS = GOOD_ENDS | {TaskState.FAILED, TaskState.CANCELLED, TaskState.BLOCKED}


class Step(StrEnum):
    """Where an attempt stands, to the step: each unfinished step has exactly one command outstanding, or waits its turn."""

    PREPARING = "preparing"  # TakeWorktree
    STARTING = "starting"  # StartWorker
    RUNNING = "running"  # WatchWorker, ThawWorker where it ever stood still, EndWorker once `ending` says why
    SUSPENDED = "suspended"  # SuspendWorker
    COLLECTING = "collecting"  # Collect: commit what the worker left, list what it touched
    BRINGING_IN = "bringing_in"  # BringIn
    WAITING = "waiting"  # in the merge queue, its turn has not come
    MERGING = "merging"  # Merge
    REBASING = "rebasing"  # Rebase
    REVERTING = "reverting"  # Revert, in place of Merge where the attempt undoes landings
    VERIFYING = "verifying"  # Verify
    VERIFIED = (
        "verified"  # its suites have ended; what that means is settled when all ahead of it have landed
    )
    ADVANCING = "advancing"  # Advance
    PUBLISHING = "publishing"  # on the landing repository's staging; the run's Publish is outstanding
    LANDED = "landed"
    HANDED_BACK = "handed_back"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    ANSWERED = "answered"


ATTEMPT_ENDS = frozenset(
    {Step.LANDED, Step.HANDED_BACK, Step.FAILED, Step.CANCELLED, Step.LOST, Step.ANSWERED}
)
UP_STEPS = frozenset({Step.RUNNING, Step.SUSPENDED})
WORKER_STEPS = UP_STEPS | {Step.PREPARING, Step.STARTING, Step.COLLECTING}
QUEUE_STEPS = frozenset({Step.BRINGING_IN, Step.WAITING})
VERIFYING_STEPS = frozenset({Step.MERGING, Step.REBASING, Step.REVERTING, Step.VERIFYING})
MOVING_STEPS = frozenset({Step.ADVANCING, Step.PUBLISHING})  # from here on a landing can't be called back
LANDING_STEPS = VERIFYING_STEPS | MOVING_STEPS | {Step.VERIFIED}


class Standing(StrEnum):
    """How staging was found in the user's repository: as swarm left it, with a person's commits on it, made again because the
    branch was gone, elsewhere, or checked out somewhere so that moving it would put that checkout out of step."""

    AS_LEFT = "as_left"
    BY_HAND = "by_hand"
    RESTORED = "restored"
    MOVED = "moved"
    CHECKED_OUT = "checked_out"


class Mode(StrEnum):
    """How a claim is held: by one attempt alone, or by several at once."""

    EXCLUSIVE = "exclusive"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Claim:
    """A path pattern, relative to the top of the repository, with `/` between folders and no leading `./`."""

    path: str
    mode: Mode = Mode.EXCLUSIVE


NO_SUITE = "none"  # in the trailer of a landing, where the names of suites stand


@dataclass(frozen=True, slots=True)
class Suite:
    """One verification command; `shard` is into how many parts it is split. With `remember` it need not run again on a tree on
    which it passed a short while ago. `asked` is one of `--verify`, which the plan does not have; `named` one that the plan calls
    by a name of its own."""

    name: str
    run: str
    timeout_s: float = 1800.0
    shard: int = 1
    remember: bool = True
    asked: bool = False
    named: bool = False


def each_once(suites: Iterable[Suite]) -> tuple[Suite, ...]:
    """Gives suites without those that run again what another does: the same command is one suite, but where the plan has several
    names for it."""
    found: dict[tuple[str, str], Suite] = {}
    for suite in suites:
        found.setdefault((suite.name if suite.named else "", suite.run), suite)
    named = {suite.run for suite in found.values() if suite.named}
    return tuple(suite for suite in found.values() if suite.named or suite.run not in named)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One wanted change, as a plan says it, with the plan's defaults already filled in.

    `needs` are ids of tasks, `phase_needs` ids of phases. `finished` is true for a task that a foreign plan says is done: it
    satisfies needs and is never run. `by_hand` marks a task that no plan has: it takes in what a person committed on staging; `qa`
    one of a round of QA, "review" or "fix"; `answer` one whose answer counts in place of a change, "findings" or "plan".
    `contracts` is what was agreed with tasks beside it. `reads` are patterns of the files that it is made from; `again_of` is the
    task of the plan that it does again, `again_for` why (see `again`).
    """

    id: str
    title: str
    phase: str | None = None
    needs: tuple[str, ...] = ()
    phase_needs: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    prompt: str = ""
    run: str = ""
    agent: str = COMMAND
    verify: tuple[Suite, ...] = ()
    timeout_s: float = 3600.0
    attempts: int = 2
    priority: int = 0
    allow_empty: bool = False
    memory_mb: int = 0
    role: str = ""
    finished: bool = False
    by_hand: bool = False
    qa: str = ""
    no_output_s: float = 0.0
    answer: str = ""
    contracts: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    again_of: str = ""
    again_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contract:
    """What tasks that go on side by side agree on: the ids of the tasks, and the text that each of them is told."""

    between: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """A named group of tasks; with `parallel_safe` false they go one at a time, in plan order."""

    id: str
    title: str = ""
    needs: tuple[str, ...] = ()
    phase_needs: tuple[str, ...] = ()
    parallel_safe: bool = True
    verify: tuple[Suite, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanSpec:
    """A plan as read: `id` is the run's id, `format` tells which form it had, `base` the branch to start from ("" = the one
    checked out), `source` the file, as messages name it and then by its real path, "" for one that is in none."""

    id: str
    name: str
    format: str = "native"
    base: str = ""
    verify: tuple[Suite, ...] = ()
    phases: tuple[PhaseSpec, ...] = ()
    tasks: tuple[TaskSpec, ...] = ()
    source: str = ""
    contracts: tuple[Contract, ...] = ()


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a task gets where the plan says nothing; the settings give these."""

    agent: str = COMMAND
    timeout_s: float = 3600.0
    attempts: int = 2
    suite_timeout_s: float = 1800.0
    no_output_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a task or an attempt is where it is: a code for programs, a text for people, and facts (paths, holders, …)."""

    code: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a crash, a full disk or a person left: `text` says what was found, `remedy` what is done about it.

    `kind` is journal, landing, staging, worktree, ref, object, process, lock, finish, saved, by_hand or moved; what is moved keeps
    a run from going on until a person has settled it. `mended` tells that it was carried out; without a remedy it is left as it is.
    With `failed` there was no looking to the end at what is of this kind, and `text` says why.
    """

    kind: str
    text: str
    remedy: str = ""
    mended: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What cleaning did with one worktree: removed it, or left it because of `why`; `saved` is where what lay there is kept."""

    path: str
    removed: bool
    why: str = ""
    saved: str = ""


@dataclass(frozen=True, slots=True)
class Sides:
    """The versions of a path that does not merge, as blobs: of what both come from, of staging, of the attempt; "" for none."""

    path: str
    base: str = ""
    staging: str = ""
    own: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """The machine at one moment. Percentages are of the whole machine, or of the cgroup where one sets a limit.

    `memory_stall_percent` is how much of the last 10 s everything that could run waited for memory; None where nobody tells.
    `disk_free_inodes` is how many more files the disk takes; None where its file system makes them as they are needed.
    """

    cpu_percent: float
    memory_percent: float
    memory_available_bytes: int
    disk_free_bytes: int
    memory_stall_percent: float | None = None
    disk_free_inodes: int | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """What tasks of a role alone may change, how many of them may be at work at once (0: any number), and whether they may change
    anything at all."""

    name: str
    owns: tuple[str, ...] = ()
    max: int = 0
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that the machine decides by. `ladder` steps are (below percent, share of the slots).

    `ramp_per_s` is how many workers more than before may run for each second that has passed; replacing one that ended is free.
    `try_later_s` is how long a worker that exits 75 without saying is left alone; `lost_max`, `try_later_max` and `infra_max` bound
    what does not count as an attempt. `spare_worktrees` is how many worktrees more than workers there may be before a start waits
    for one that is on its way back. `same_failure_max` is how often a task's verification, or its worker, may fail in one and the
    same way before it is not tried again, 0 for any number. `batches` lets several attempts be verified at once where little is red
    (opt-in). `verify_slots` is how many candidates are verified at once, of all runs.
    `follow_share` is the share of the time that moving the staging worktree may take while a run is at work, 0 for any.
    `breaker_failures` is how many first workers of an agent must fail alike, each within `breaker_within_s`, for it to be stopped,
    0 for never. The budgets are of each run, of each task and of a day; 0: none.
    From `memory_percent_suspend` or `memory_stall_percent_suspend` on workers are suspended, for at most `suspended_s_max`.
    """

    workers_max: int = 4
    ladder: tuple[tuple[float, float], ...] = ((50.0, 1.0), (70.0, 0.75), (80.0, 0.5))
    cpu_percent_max: float = 90.0
    memory_percent_max: float = 90.0
    disk_free_bytes_min: int = 1_000_000_000
    ramp_per_s: float = 4.0
    smoothing_s: float = 5.0
    readings_every_s: float = 1.0
    strays: str = "extend"
    try_later_s: float = 30.0
    lost_max: int = 3
    try_later_max: int = 1000
    infra_max: int = 5
    follow_every_s: float = 0.5
    follow_share: float = 0.0
    grace_s: float = 5.0
    keep_worktrees: bool = False
    spare_worktrees: int = 1
    same_failure_max: int = 3
    verify_slots: int = 1
    breaker_failures: int = 0
    breaker_within_s: float = 10.0
    budget_usd: float = 0.0
    budget_tokens: int = 0
    task_budget_usd: float = 0.0
    task_budget_tokens: int = 0
    day_budget_usd: float = 0.0
    day_budget_tokens: int = 0
    roles: tuple[Role, ...] = ()
    batches: bool = False
    memory_percent_suspend: float = 95.0
    memory_stall_percent_suspend: float = 40.0
    suspended_s_max: float = 60.0
    disk_free_inodes_min: int = 0


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What one suite said of one candidate: `outcome` is passed, failed, timeout or none; `log` a path, `tail` its last lines.

    `changed` are tracked files that it, or one beside it, left changed: that is failed whatever it said, since what it looked at
    was not the candidate. `parts` is into how many it was split, 1 where it ran as a whole; `note` what else is worth telling,
    such as that it ran again one test after the other. `remembered` tells that it passed on the same tree before and did not run.
    """

    name: str
    outcome: str
    exit_code: int | None = None
    duration_s: float = 0.0
    log: str = ""
    tail: str = ""
    changed: tuple[str, ...] = ()
    parts: int = 1
    note: str = ""
    remembered: bool = False


@dataclass(frozen=True, slots=True)
class SuiteCount:
    """What a run has seen of one suite: how often it `ran`, how often it was a flake (red, then green on the same commit), and the
    longest that it took to pass."""

    ran: int = 0
    flaked: int = 0
    longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """How and where staging was found: `where` is branch or worktree, `found` the commit, `place` the checkout that
    has the branch, or in which a rebase or bisect (`where`) that is under way holds it.

    Of commits made by hand: `base` is the newest commit of staging that they contain, `title` the subject of the last,
    `commits` their number and `touched` the paths that they change.
    """

    kind: Standing
    found: str | None = None
    where: str = "branch"
    base: str = ""
    title: str = ""
    commits: int = 0
    touched: tuple[str, ...] = ()
    place: str = ""

    @property
    def known(self) -> str:
        """Tells one finding from another."""
        return f"{self.kind} {self.where} {self.found or '-'} {self.place}"


@dataclass(frozen=True, slots=True)
class Astray:
    """Staging in the user's repository is not as it was left: how, and the task, if any, that takes a person's commits in."""

    seen: Seen
    task: str = ""


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that a reviewer objects to: what in a few words, in which file if it is one, and whatever else is to be said."""

    title: str
    path: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """What a worker may say of itself in SWARM_RESULT_FILE; nothing in it is believed about success.

    `verdict` and `issues` are a reviewer's: "approve", "reject", or "" where it gave none. `rate_limited` says whether what it asks
    to be tried later for holds its whole agent up; None where it did not say. `problem` says what of the file did not count.
    `failure` is why it failed in its agent's own words, a line, where the program ended as if it had not (then its exit code is 1).
    """

    summary: str = ""
    retry_after_s: float | None = None
    cost_usd: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    files_read: tuple[str, ...] = ()
    verdict: str = ""
    issues: tuple[Issue, ...] = ()
    rate_limited: bool | None = None
    problem: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """What workers have cost, in dollars and in tokens, in and out."""

    usd: float = 0.0
    tokens: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.usd + other.usd, self.tokens + other.tokens)


@dataclass(slots=True)
class Hold:
    """Why an agent starts nothing: `code` is rate_limit or breaker. `until` is the reset, None where only a person ends it.

    After the reset it starts few at first, more with each `step`: `room` is how many more, before the next one at `due`. `jitter`,
    from 0 to 1, keeps the daemons that met the same limit from coming back in the same moment.
    """

    code: str
    text: str
    until: float | None = None
    jitter: float = 0.0
    due: float | None = None
    step: int = 0
    room: int = 0


@dataclass(slots=True)
class Trial:
    """What the first workers of an agent showed: `proven` once one did not fail at once; until then those that `failed` with
    `exit_code`, each as (run, task, attempt)."""

    proven: bool = False
    exit_code: int = 0
    failed: list[tuple[str, str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FoundLanding:
    """A landing on staging that a rebuilt journal does not know, as its commit and the trailers of it say.

    One that `undoes` tasks takes their landings off again, at the wish for `task`; it has no `head`, and `attempt` is 0, since its
    commit does not say which it was. `by_hand` marks what takes in a person's commits.
    """

    task: str
    attempt: int
    title: str
    commit: str
    head: str
    verified: tuple[str, ...] = ()
    undoes: tuple[str, ...] = ()
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class FoundAttempt:
    """An attempt that a rebuilt journal does not know: its number, and its work where a ref keeps any. `slug` names the task."""

    slug: str
    n: int
    head: str | None = None


@dataclass(frozen=True, slots=True)
class FoundRun:
    """What of a run is beyond the end of a rebuilt journal: landings in the order of staging, which stands at `staging`."""

    run: str
    base: str
    staging: str
    landings: tuple[FoundLanding, ...] = ()
    attempts: tuple[FoundAttempt, ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """What an attempt that is red on staging is red together with: what is known by now (see `searching`).

    It was red for `reason`, as `candidate` made from `onto`, of which `suites` were said of what had `to_pass`. `line` are the
    landings since its base, as (task, commit): it is green with the first `green` of them (None: not known yet with none of them)
    and not with the first `red`. `probes` counts the verifications for that, `since` how much had landed at the last of them.
    """

    reason: Reason
    candidate: str | None
    onto: str | None
    to_pass: tuple[Suite, ...]
    suites: tuple[SuiteResult, ...]
    line: tuple[tuple[str, str], ...]
    red: int
    green: int | None = None
    probes: int = 0
    since: int = 0

    @property
    def middle(self) -> int:
        """How many of the landings are under the work at the next probe."""
        return ((self.green or 0) + self.red) // 2


@dataclass(slots=True)
class Attempt:
    """One try at a task. `n` is the fencing number: an answer that carries another one is refused.

    `counts` is false where the attempt is not held against the task (try later, lost, conflict). `ending` is why its worker is
    being ended. `retry_at` is set while a failed command waits to be carried out again, `may_run` where that was the start of a
    worker that may run all the same; `troubles` counts how often the machine's trouble made the step fail, `trouble` is what it was
    when the worker ended. `slot` keeps its number after `slot_free`. `memory_bytes` is the most that its worker was seen to take.
    `suspended_at` is since when its worker stands still, `time_left` what was left then until each deadline of its; `thawed` tells
    that it ever stood still, for `stood_still_s` in all.
    `undoes` are the tasks and landings that it takes off staging again, newest first, where it is no try at the task at all.
    `to_pass` are the suites that its candidate has to pass, as they were when its merge began; `again` those of them that did not
    and run once more on the same candidate, each with the time that it has then.
    `place` is its place in the merge queue, lower ones first, below 0 for those that go before all others. `clash` is a candidate
    ahead of it that it could not be merged onto, `passed_by` how many went ahead of it because of that.
    `left` is where staging was published as its candidate was asked for, or staging to move to it; "" where nobody is to look
    whether it still stands there.
    `output` stands for the end of what its worker put out, where that failed; `tail` are the last lines of it.
    `foreseen` are those that its worker's changes so far would conflict with, each with a path.
    `search` goes on while it is found out what the attempt is red together with; then it has left the merge queue.
    `batch` names the tasks, its own among them, that are verified together, as the candidate of the last (see `batch`).
    `answer` is what it gave where its task is asked for one. `saved` is the branch or folder that keeps what lay in its worktree
    and was not collected, `besides` the branch that keeps what it left in a stash, on another branch or under a tag, `staged` the
    one that keeps what it had staged before it changed on, where it is only that.
    """

    n: int
    step: Step
    base: str
    agent: str
    branch: str
    created_at: float
    alone: bool = False
    slot: int | None = None
    slot_free: bool = False
    worktree: str | None = None
    returned: bool = False
    saved: str = ""
    besides: str = ""
    staged: str = ""
    pid: int | None = None
    sandbox: str = ""
    started_at: float | None = None
    exited_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    output: str = ""
    ending: str | None = None
    head: str | None = None
    commits: int = 0
    touched: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    foreseen: tuple[tuple[str, str], ...] = ()
    result: WorkerResult = WorkerResult()
    memory_bytes: int = 0
    suspended_at: float | None = None
    time_left: tuple[tuple[str, float], ...] = ()
    thawed: bool = False
    stood_still_s: float = 0.0
    rebased: str | None = None
    onto: str | None = None
    left: str = ""
    candidate: str | None = None
    to_pass: tuple[Suite, ...] = ()
    again: tuple[Suite, ...] = ()
    suites: tuple[SuiteResult, ...] = ()
    reason: Reason | None = None
    counts: bool = True
    infra_failures: int = 0
    troubles: int = 0
    trouble: str = ""
    may_run: bool = False
    retry_at: float | None = None
    queued_at: float | None = None
    place: int = 0
    clash: str | None = None
    passed_by: int = 0
    waits_for: set[str] = field(default_factory=set)
    landed_commit: str | None = None
    merge_moves: int = 0
    undoes: tuple[tuple[str, str], ...] = ()
    search: Search | None = None
    batch: tuple[str, ...] = ()
    answer: str = ""
    tail: str = ""

    @property
    def unchanged(self) -> bool:
        """Whether it is known to have changed nothing: of one that was found again after the journal was lost nobody knows."""
        return not self.touched and (self.commits > 0 or self.head in (None, self.base))

    @property
    def submitted(self) -> str:
        """The commit that is merged: the worker's, or its rebased form."""
        commit = self.rebased or self.head
        assert commit is not None
        return commit


@dataclass(slots=True)
class Task:
    """A task of a run. `order` is its place in the plan; attempts from `budget_from` on count against `spec.attempts`.

    `alone` is set after a conflict: the next attempt runs with nothing else of the run beside it. `ready_at` is when it became
    ready for its newest attempt, or will. `source` is the file of the plan that named it last, where one is known.
    """

    spec: TaskSpec
    order: int
    state: TaskState = TaskState.PENDING
    attempts: list[Attempt] = field(default_factory=list)
    reason: Reason | None = None
    not_before: float | None = None
    paused: bool = False
    alone: bool = False
    budget_from: int = 0
    feedback: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    landed_commit: str | None = None
    ended_at: float | None = None
    ready_at: float | None = None
    source: str = ""

    @property
    def attempt(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def live(self) -> Attempt | None:
        """The attempt that has not ended, if there is one."""
        if not self.attempts:
            return None
        last = self.attempts[-1]
        return None if last.step in ATTEMPT_ENDS else last


@lru_cache(maxsize=4096)  # of a task, nearly every command asks for it
def slug(text: str, *, max_length: int = 60) -> str:
    """Turns a name into one that git, file systems and shells take: lower case `a-z0-9-`.

    Two different names never give the same slug: when anything had to be changed, letter case too, a short hash of the
    original follows (rule of the public contract, section 1).
    """
    normal = unicodedata.normalize("NFKC", text)
    plain = re.sub(r"[^a-z0-9]+", "-", normal.lower()).strip("-")[:max_length].strip("-")
    if plain and plain == text:
        return plain
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{plain}-{digest}" if plain else f"x-{digest}"


OUR_BRANCHES = "swarm/"  # what the names of all of ours begin with


def staging_branch(run: str) -> str:
    """Names the staging branch of a run, without `refs/heads/`."""
    return f"swarm/{run}/staging"


STAGING_WORKTREE = "staging"


def opened_worktree(branch: str) -> str:
    """Names the folder, below that of the run, in which the attempt that has this branch is looked at."""
    task, n = branch.split("/")[-2:]
    return f"{task}-{n}"


def attempt_branch(run: str, task: str, n: int) -> str:
    """Names the branch that keeps an attempt's work, without `refs/heads/`."""
    return f"swarm/{run}/task/{slug(task)}/{n}"


def attempt_key(run: str, task: str, n: int) -> str:
    """Names an attempt as the pool does, to say who has a worktree."""
    return f"{run}/{task}/{n}"

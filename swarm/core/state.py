"""The state of the whole coordinator and what it implies: which command each step stands for, and when something falls due.

`command_for` is the law that makes recovery easy: a turn sends out what it says, and after a crash `pending_commands` asks it
again for everything that is unfinished. A command is built from what the attempt recorded, never from "now".

Rules for editing: nothing here decides. Every step of an attempt that waits for the world has one line in `COMMANDS`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from typing import Any, NamedTuple

from swarm.core import admission
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.batch import members, together
from swarm.core.lessons import Lesson
from swarm.core.model import TRY_LATER, Attempt, Hold, Limits, Readings, Spent, Step, Task, TaskState, Trial
from swarm.core.run import Run
from swarm.dataclass import dataclass

# Why a worker is ended that did nothing wrong: a person wanted it, or others need the memory.
_ENDED_FOR_OTHERS = frozenset({"cancelled", "stopped", "short_of_memory"})


class IllegalEvent(Exception):
    """The event can't happen in this state; nothing was changed."""


class StaleEvent(IllegalEvent):
    """An answer of an attempt that is not the live one, or to a command that is not outstanding any more."""


class Deadline(NamedTuple):
    """Something that falls due at time `at`."""

    at: float
    kind: str
    run: str
    task: str = ""
    attempt: int = 0


@dataclass(slots=True)
class Swarm:
    """Everything the coordinator knows. `slots` are the numbers of the workers that live; `coming` are the attempts whose
    worker has ended and whose worktree is on its way back to the pool; `measuring` is the outstanding look at the machine.

    `trouble` is what the machine lacks, by who waits for it: (run, task, ""), or (run, "", command) for a command of the run.
    `taken` is the memory that workers took when they were looked at last, `wanted_bytes` what the next start waits for, 0: none.
    `pressure` says whether there is too little memory for the workers that run, `pressed` so in words; at `memory_at` the next of
    them is suspended, thawed or ended. `blind` says why the last look at the machine saw nothing, `verify_waits` that one more
    candidate would be verified if the machine had room. `holds` says which agents start nothing, or little, and why; `trials` what
    their first workers showed. `spent_today` is what workers that ended on the day `spent_on` have cost. `last_at` is the time of
    the last event, `lessons` what runs taught, the one met last at the end. `ahead_s` is by how much the clock is ahead of the
    time that has passed in this `boot` of the machine.
    """

    limits: Limits = field(default_factory=Limits)
    runs: dict[str, Run] = field(default_factory=dict)
    paused: bool = False
    stopping: bool = False
    stop_grace_s: float | None = None
    slots: set[int] = field(default_factory=set)
    coming: set[tuple[str, str, int]] = field(default_factory=set)
    readings: Readings | None = None
    measured_at: float = float("-inf")
    measuring: cmd.MeasureHost | None = None
    blind: str = ""
    taken: dict[tuple[str, str, int], int] = field(default_factory=dict)
    wanted_bytes: int = 0
    pressure: admission.Pressure = admission.Pressure.NONE
    pressed: str = ""
    memory_at: float | None = None
    verify_waits: bool = False
    trouble: dict[tuple[str, str, str], str] = field(default_factory=dict)
    ramp: admission.Ramp = field(default_factory=lambda: admission.Ramp())
    ramp_at: float | None = None
    step_of_ladder: int | None = None
    capacity: admission.Decision = field(
        default_factory=lambda: admission.Decision(0, admission.NOTHING_WAITS, 0)
    )
    holds: dict[str, Hold] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    spent_on: int = 0
    spent_today: Spent = field(default_factory=Spent)
    discarding: dict[str, None] = field(default_factory=dict)
    deadlines: list[Deadline] = field(default_factory=list)
    lessons: dict[str, Lesson] = field(default_factory=dict)
    version: str = ""
    top: str = ""
    sandbox: str = ""
    sandbox_why: str = ""
    pid: int = 0
    started_at: float = 0.0
    boot: str = ""
    ahead_s: float = 0.0
    last_at: float = float("-inf")

    def here(self, path: str, top: str) -> str:
        """Gives a path as it is for a daemon beside `top`: what lay below the former checkout went along when it was moved."""
        moved = self.top and top and self.top != top and path.startswith(f"{self.top}/")
        return top + path.removeprefix(self.top) if moved else path

    def move_to(self, top: str) -> None:
        """Takes in that the checkout is at `top` now, and with it all worktrees below it."""
        for run in self.runs.values() if self.top not in ("", top) else ():
            run.worktree = self.here(run.worktree, top)
            for attempt in (attempt for task in run.tasks.values() for attempt in task.attempts):
                attempt.worktree = attempt.worktree and self.here(attempt.worktree, top)
        self.top = top

    def active(self) -> list[Run]:
        """Gives the runs that have something to do."""
        return [run for run in self.runs.values() if run.open_tasks or run.live]


@dataclass(slots=True)
class Turn:
    """What follows from one event. `dropped` are the attempts whose verification nobody wants to hear of any more, which is ended
    before the `commands` are carried out, or for the collecting of whose work nobody waits. `own` is set where nothing can follow
    for anybody else."""

    swarm: Swarm
    at: float
    commands: list[cmd.Command] = field(default_factory=list)
    dropped: list[tuple[str, str, int]] = field(default_factory=list)
    facts: list[m.Fact] = field(default_factory=list)
    stirred: dict[str, Run] = field(default_factory=dict)
    own: bool = False

    def stir(self, run: Run) -> None:
        """Notes that something of this run changed, so that its merge queue is looked at before the turn ends."""
        self.stirred[run.id] = run

    def drop(self, run: Run, task: Task, attempt: Attempt) -> None:
        """Has the verification of an attempt ended, if it goes on."""
        if attempt.step is Step.VERIFYING:
            self.dropped.append((run.id, task.spec.id, attempt.n))

    def tell(self, kind: str, run: Run | None, task: Task | None = None, /, **data: Any) -> None:
        """Adds a fact for people."""
        attempt = task.attempt if task is not None else None
        self.facts.append(
            m.Fact(
                type=kind,
                at=self.at,
                run=run.id if run else None,
                task=task.spec.id if task else None,
                attempt=attempt.n if attempt else None,
                data=data,
            )
        )


def pending_commands(swarm: Swarm) -> list[cmd.Command]:
    """Gives every command that the present state stands for, in an order in which they can be carried out."""
    commands: list[cmd.Command] = []
    for run in swarm.runs.values():
        commands.extend(run_commands(run))
        for name in run.live:
            task = run.tasks[name]
            attempt = task.live
            assert attempt is not None
            command = command_for(swarm, run, task, attempt)
            if command is not None:
                commands.append(command)
        for (name, _), attempt in run.returning.items():
            commands.append(give_back(swarm, run, run.tasks[name], attempt))
    if swarm.measuring is not None:
        commands.append(swarm.measuring)
    return commands


def next_deadline(swarm: Swarm) -> float | None:
    """Gives the time at which a `Ticked` is due, or None. Drops deadlines whose reason is gone."""
    while swarm.deadlines and not still_due(swarm, swarm.deadlines[0]):
        heapq.heappop(swarm.deadlines)
    return swarm.deadlines[0].at if swarm.deadlines else None


def run_commands(run: Run) -> Iterator[cmd.Command]:
    """Gives the commands that stand out for the run itself."""
    if run.removing:
        if "Discard" not in run.retry_at:
            yield cmd.Discard(run=run.id, worktrees=run.worktree_names(), created_at=run.created_at)
        return
    if not run.prepared:
        if "PrepareRun" not in run.retry_at:
            yield cmd.PrepareRun(run=run.id, base=run.base_commit)
        return
    if run.publishing_commit is not None and not run.publish_waits and "Publish" not in run.retry_at:
        commit, old = run.publishing_commit, run.publishing_from
        yield cmd.Publish(run=run.id, commit=commit, old=old, published=run.published)
    if run.looking is not None and "LookAtStaging" not in run.retry_at:
        yield cmd.LookAtStaging(run=run.id, published=run.published, known=run.looking)
    if run.following is not None and "Follow" not in run.retry_at:
        yield cmd.Follow(run=run.id, commit=run.following, old=run.followed, by_hand=tuple(run.by_hand))
    if run.finish is not None and "Finish" not in run.retry_at:
        yield finish_command(run, run.finish)


def finish_command(run: Run, asked: m.FinishRequested) -> cmd.Finish:
    """Builds the command for a request to finish."""
    return cmd.Finish(
        run=run.id,
        request=asked.request,
        target=asked.target,
        commit=run.finish_from,
        base=run.base_commit,
        base_branch=run.base_branch,
        at=asked.at,
        stage_only=asked.stage_only,
        suites=run.plan.verify,
        passed=run.finish_from == run.base_commit or run.has_passed(run.finish_from),
        author=asked.author,
        committer=asked.committer,
        handed_over=run.handed_over,
    )


def command_for(swarm: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command | None:
    """Says which command a live attempt's step stands for; None where it waits its turn."""
    if attempt.retry_at is not None:
        return None
    maker = COMMANDS.get(attempt.step)
    return maker(swarm, run, task, attempt) if maker is not None else None


def _take_worktree(_: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command:
    return cmd.TakeWorktree(run=run.id, task=task.spec.id, attempt=attempt.n, base=attempt.base)


def _start_worker(_: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command:
    assert attempt.worktree is not None
    assert attempt.slot is not None
    return cmd.StartWorker(
        run=run.id,
        task=task.spec.id,
        attempt=attempt.n,
        spec=task.spec,
        base=attempt.base,
        worktree=attempt.worktree,
        slot=attempt.slot,
        claims=run.shown_claims(task) if task.spec.claims else (),
        feedback=(*task.feedback, *task.told),
        again=any(each.counts for each in task.attempts[:-1]),
        lessons=run.lessons,
    )


def _watch_worker(swarm: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command:
    if attempt.ending is None:
        kind = cmd.ThawWorker if attempt.thawed else cmd.WatchWorker
        return kind(
            run=run.id,
            task=task.spec.id,
            attempt=attempt.n,
            memory_mb=task.spec.memory_mb,
            no_output_s=task.spec.no_output_s,
        )
    grace_s = swarm.limits.grace_s if swarm.stop_grace_s is None else swarm.stop_grace_s
    grace_s = 0.0 if attempt.ending == cmd.TOO_MANY else grace_s
    return cmd.EndWorker(
        run=run.id, task=task.spec.id, attempt=attempt.n, why=attempt.ending, grace_s=grace_s
    )


def _suspend_worker(_: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command:
    return cmd.SuspendWorker(run=run.id, task=task.spec.id, attempt=attempt.n, memory_mb=task.spec.memory_mb)


def _collect(swarm: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command:
    assert attempt.worktree is not None
    return cmd.Collect(
        run=run.id,
        task=task.spec.id,
        attempt=attempt.n,
        base=attempt.base,
        worktree=attempt.worktree,
        branch=attempt.branch,
        title=task.spec.title,
        bring_in=attempt.exit_code == 0 and attempt.ending is None and not task.spec.answer,
        answer=task.spec.answer,
        said=attempt.result.summary if task.spec.answer else "",
        gives_up=attempt.infra_failures >= swarm.limits.infra_max,
        failed=_worker_failed(attempt),
    )


def _worker_failed(attempt: Attempt) -> bool:
    """Tells whether a worker came to a bad end by its own doing, so that what it printed last may say why."""
    if attempt.ending is not None:
        return attempt.ending not in _ENDED_FOR_OTHERS
    return attempt.exit_code not in (None, 0, TRY_LATER)


def _bring_in(_: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command:
    assert attempt.head is not None
    return cmd.BringIn(
        run=run.id,
        task=task.spec.id,
        attempt=attempt.n,
        head=attempt.head,
        base=attempt.base,
        branch=attempt.branch if task.spec.by_hand else "",
    )


def _merge(_: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command:
    assert attempt.onto is not None
    assert attempt.queued_at is not None
    return cmd.Merge(
        run=run.id,
        task=task.spec.id,
        attempt=attempt.n,
        onto=attempt.onto,
        head=attempt.submitted,
        title=task.spec.title,
        verified=tuple(suite.name for suite in attempt.to_pass),
        at=attempt.queued_at,
        base=_base(attempt),
        by_hand=task.spec.by_hand,
        batch=together(attempt),
        left=attempt.left if attempt.search is None else "",
    )


def _rebase(_: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command:
    assert attempt.onto is not None
    assert attempt.head is not None
    assert attempt.queued_at is not None
    return cmd.Rebase(
        run=run.id,
        task=task.spec.id,
        attempt=attempt.n,
        onto=attempt.onto,
        head=attempt.head,
        base=attempt.base,
        at=attempt.queued_at,
    )


def _revert(_: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command:
    assert attempt.onto is not None
    assert attempt.queued_at is not None
    return cmd.Revert(
        run=run.id,
        task=task.spec.id,
        attempt=attempt.n,
        onto=attempt.onto,
        landings=attempt.undoes,
        title=task.spec.title,
        verified=tuple(suite.name for suite in attempt.to_pass),
        at=attempt.queued_at,
        left=attempt.left,
    )


def _verify(_: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command:
    assert attempt.candidate is not None
    return cmd.Verify(
        run=run.id,
        task=task.spec.id,
        attempt=attempt.n,
        candidate=attempt.candidate,
        suites=attempt.again or attempt.to_pass,
        again=bool(attempt.again),
    )


def _base(attempt: Attempt) -> str:
    """Gives the commit of staging that the submitted work stands on."""
    base = attempt.base if attempt.rebased is None else attempt.onto
    assert base is not None
    return base


def _advance(_: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.Command | None:
    assert attempt.candidate is not None
    assert attempt.onto is not None
    batch = members(run, attempt)
    if attempt is not batch[-1]:
        return None  # it moves staging with the last one
    over = tuple(
        (str(each.candidate), str(each.onto), each.submitted, _base(each)) for each in batch if len(batch) > 1
    )
    return cmd.Advance(
        run=run.id,
        task=task.spec.id,
        attempt=attempt.n,
        new=attempt.candidate,
        old=str(batch[0].onto),
        head="" if attempt.undoes else attempt.submitted,
        base=_base(attempt),
        reverts=tuple(commit for _, commit in attempt.undoes),
        over=over,
        left=attempt.left,
    )


COMMANDS: dict[Step, Callable[[Swarm, Run, Task, Attempt], cmd.Command | None]] = {
    Step.PREPARING: _take_worktree,
    Step.STARTING: _start_worker,
    Step.RUNNING: _watch_worker,
    Step.SUSPENDED: _suspend_worker,
    Step.COLLECTING: _collect,
    Step.BRINGING_IN: _bring_in,
    Step.MERGING: _merge,
    Step.REBASING: _rebase,
    Step.REVERTING: _revert,
    Step.VERIFYING: _verify,
    Step.ADVANCING: _advance,
}


def give_back(swarm: Swarm, run: Run, task: Task, attempt: Attempt) -> cmd.GiveBackWorktree:
    return cmd.GiveBackWorktree(
        run=run.id,
        task=task.spec.id,
        attempt=attempt.n,
        worktree=attempt.worktree or "",
        keep=swarm.limits.keep_worktrees and attempt.step is not Step.LANDED,
    )


# --- moving on ----


def go(turn: Turn, run: Run, task: Task, attempt: Attempt, to: Step) -> None:
    """Moves an attempt to its next step and sends out the command that the step stands for."""
    attempt.step = to
    attempt.infra_failures, attempt.troubles, attempt.reason = 0, 0, None
    if turn.swarm.trouble:
        turn.swarm.trouble.pop((run.id, task.spec.id, ""), None)
    turn.stirred[run.id] = run
    command = command_for(turn.swarm, run, task, attempt)
    if command is not None:
        turn.commands.append(command)


def carried_out(turn: Turn, run: Run, command: str) -> None:
    """Forgets what kept a command of the run from being carried out."""
    run.failures.pop(command, None)
    turn.swarm.trouble.pop((run.id, "", command), None)


def due(swarm: Swarm, deadline: Deadline) -> None:
    """Notes a deadline. Its reason names the same moment, so that one whose reason has gone never counts again."""
    if (
        deadline not in swarm.deadlines[:4]
    ):  # the ramp and the follower ask for the same moment again and again
        heapq.heappush(swarm.deadlines, deadline)


def clock_moved(swarm: Swarm, by_s: float) -> None:
    """Takes what was to come after a time along with a clock that was set: no wait gets longer by it, and no worker has less time.

    A clock that goes ahead may bring everything else forward, since that is when it was to be; one that goes back moves all of it.
    """
    swarm.deadlines = [
        due._replace(at=due.at + by_s) if by_s < 0 or due.kind == "timeout" else due
        for due in swarm.deadlines
    ]
    heapq.heapify(swarm.deadlines)
    for run in swarm.runs.values():  # nobody stood still for the hours that a clock was set ahead
        for attempt in (run.tasks[name].live for name in run.live):
            if attempt is not None:
                attempt.suspended_at = _moved(attempt.suspended_at, by_s)
    if by_s >= 0:
        return
    swarm.measured_at, swarm.ramp_at = swarm.measured_at + by_s, _moved(swarm.ramp_at, by_s)
    swarm.memory_at = _moved(swarm.memory_at, by_s)
    swarm.ramp = swarm.ramp.moved(by_s)
    for hold in swarm.holds.values():
        hold.until, hold.due = _moved(hold.until, by_s), _moved(hold.due, by_s)
    for run in swarm.runs.values():
        run.retry_at = {command: at + by_s for command, at in run.retry_at.items()}
        run.followed_at, run.follow_at = run.followed_at + by_s, _moved(run.follow_at, by_s)
        run.following_since = _moved(run.following_since, by_s)
        for task in run.tasks.values():
            task.not_before = _moved(task.not_before, by_s)
            if task.live is not None:
                task.live.retry_at = _moved(task.live.retry_at, by_s)


def _moved(at: float | None, by_s: float) -> float | None:
    return None if at is None else at + by_s


def still_due(swarm: Swarm, due: Deadline) -> bool:
    """Tells whether the reason for a deadline is still there."""
    if due.kind == "ramp":
        return swarm.ramp_at == due.at
    if due.kind == "agent":
        return due.task in swarm.holds and swarm.holds[due.task].due == due.at
    if due.kind == "memory":
        return swarm.memory_at == due.at
    run = swarm.runs[due.run]
    if due.kind == "look":
        return run.peek() is not None
    if due.kind == "follow":
        return run.follow_at == due.at
    if due.kind == "run":
        return run.retry_at.get(due.task) == due.at
    task = run.tasks[due.task]
    if due.kind == "ready":
        return task.state is TaskState.READY and task.not_before == due.at
    attempt = task.live
    if attempt is None or attempt.n != due.attempt:
        return False
    return (
        attempt.retry_at == due.at
        if due.kind == "retry"
        else attempt.step is Step.RUNNING and not attempt.ending
    )


def next_run(swarm: Swarm) -> Run | None:
    """Gives the run whose best ready task starts next: that of the highest priority, of those the run with the fewest workers."""
    best: tuple[int, int, int] | None = None
    found = None
    for run in swarm.runs.values():
        if not (run.open_tasks or run.live) or not run.may_start():
            continue
        key = run.peek()
        if key is not None and (best is None or (key[0], len(run.live), run.index) < best):
            best, found = (key[0], len(run.live), run.index), run
    return found


def next_base(swarm: Swarm) -> str | None:
    """Gives the commit that the next start would begin from, as things stand; None where nothing waits for a worker to end.

    A machine that allows no worker at all has no room for what a worker would need either.
    """
    if swarm.paused or swarm.stopping or swarm.trouble or not swarm.slots or swarm.capacity.target < 1:
        return None
    run = next_run(swarm)
    return run.published if run is not None else None


def wants_readings(swarm: Swarm) -> bool:
    """Tells whether a ready task waits for room, or one more candidate to be verified."""
    if swarm.verify_waits:
        return True
    if swarm.paused or swarm.stopping or swarm.trouble or len(swarm.slots) >= swarm.limits.workers_max:
        return False
    return any(run.may_start() and run.peek() is not None for run in swarm.active())


# --- finding ---


def the_run(turn: Turn, run_id: str | None) -> Run:
    run = turn.swarm.runs.get(run_id or "")
    if run is None:
        raise IllegalEvent(f"no run {run_id!r}")
    return run


def kept_run(turn: Turn, run_id: str | None) -> Run:
    """Finds a run that something may be asked of. Raises `IllegalEvent` for one that is being discarded."""
    run = the_run(turn, run_id)
    if run.discarding:
        raise IllegalEvent(f"run {run_id!r} is being discarded")
    return run


def live(turn: Turn, event: m.AttemptEvent, *steps: Step) -> tuple[Run, Task, Attempt]:
    """Finds the attempt that an answer is about; refuses the answer of any other."""
    run = the_run(turn, event.run)
    task = run.tasks.get(event.task)
    if task is None:
        raise IllegalEvent(f"no task {event.task!r} in run {event.run!r}")
    attempt = task.live
    if attempt is None or attempt.n != event.attempt:
        raise StaleEvent(f"attempt {event.attempt} of {event.task!r} is not live")
    if attempt.step not in steps:
        raise StaleEvent(
            f"{type(event).__name__} while attempt {event.attempt} of {event.task!r} is {attempt.step}"
        )
    return run, task, attempt


def some(paths: Iterable[str], most: int = 5) -> str:
    paths = list(paths)
    return ", ".join(paths[:most]) + (f" and {len(paths) - most} more" if len(paths) > most else "")

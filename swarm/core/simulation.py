"""A plan carried out in a made-up world: the machine decides as ever, and what it asks for is answered by a clock that is a number.

Hides the world: a queue of answers, each due at a time. A worker takes the time that is assumed for its task, a suite that of a
suite, and everything else none. So what comes out is what the daemon would decide if the world were so, and there is no second
scheduler that could be wrong about it.

Rules for editing: pure, and the same input gives the same schedule: chance comes from a seed and from what it is about, never from
the order in which it is asked for. Nothing here decides who starts or lands. Answers that are due at the same time come in the
order in which they were asked for.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any

from swarm.core import commands as cmd
from swarm.core import machine, ownership
from swarm.core import messages as m
from swarm.core.claims import example
from swarm.core.model import Limits, PlanSpec, Readings, Suite, SuiteResult, TaskSpec, TaskState
from swarm.core.run import Run
from swarm.core.state import StaleEvent, Swarm, Turn, next_deadline
from swarm.dataclass import dataclass

ALWAYS = math.inf  # of attempts: every one
BASE = "0" * 40
CALM = Readings(cpu_percent=0.0, memory_percent=0.0, memory_available_bytes=2**60, disk_free_bytes=2**60)
ENDED = 143  # the exit code of a worker that was ended

_Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Assumed:
    """What nobody knows before: how long tasks and suites take, by their names or else `task_s` and `suite_s`, and what fails.

    `fails` says how many attempts at a task fail, from the first on; `reds` how many bring work that no suite passes. Besides, each
    worker fails with the chance `fail_rate`: which ones follows from `seed` alone, and is the same for any number of workers.
    """

    task_s: float = 60.0
    tasks_s: Mapping[str, float] = field(default_factory=dict)
    suite_s: float = 10.0
    suites_s: Mapping[str, float] = field(default_factory=dict)
    fails: Mapping[str, float] = field(default_factory=dict)
    reds: Mapping[str, float] = field(default_factory=dict)
    fail_rate: float = 0.0
    seed: int = 0

    def works_s(self, task: str) -> float:
        """Gives how long a worker takes for a task."""
        return self.tasks_s.get(task, self.task_s)

    def verifies_s(self, suites: Iterable[Suite]) -> float:
        """Gives how long suites take side by side."""
        return max((self.suites_s.get(suite.name, self.suite_s) for suite in suites), default=0.0)

    def worker_fails(self, task: str, attempt: int) -> bool:
        """Tells whether the worker of an attempt fails."""
        if attempt <= self.fails.get(task, 0):
            return True
        if not self.fail_rate:
            return False
        about = f"{self.seed}\0{task}\0{attempt}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.sha256(about).digest()[:8]) < self.fail_rate * 2**64


@dataclass(slots=True)
class Waited:
    """How many seconds a task has waited: until what it `needs` had landed, while a slot was open for what it `claims` (or for its
    turn in a phase, its role, its agent), for a worker's slot, and in the merge `queue` before it was verified."""

    needs: float = 0.0
    claims: float = 0.0
    slots: float = 0.0
    queue: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went: the run as it ended, what each task that was begun has waited, and for how long what kept the run from going
    faster: slots, claims, needs, verification, or nothing but the last tasks (`tail`). `ended` is false where it came to a stand
    with work left; `events` is how many the machine took in."""

    run: Run
    workers: int
    makespan_s: float
    ended: bool
    waited: Mapping[str, Waited]
    limited_by: Mapping[str, float]
    events: int


def simulate(plan: PlanSpec, limits: Limits, assumed: Assumed) -> Outcome:
    """Carries a plan out, from its submission until all has ended or nothing goes on."""
    return World(plan, limits, assumed).outcome()


class World:
    """The world of one run: when what was asked for is answered, and which commits hold work that no suite passes."""

    def __init__(self, plan: PlanSpec, limits: Limits, assumed: Assumed) -> None:
        self.assumed, self.limits = assumed, limits
        self.specs = {task.id: task for task in plan.tasks}
        self.swarm = Swarm()
        self.now = 0.0
        self.commits = 0
        self.events = 0
        self.bad: set[str] = set()  # commits that are red
        self.answers: list[tuple[float, int, cmd.Command]] = []
        self.asked = 0
        self.awaited: dict[tuple[str, _Key], int] = {}  # of what takes time the number of the last question
        self.verified_since: dict[_Key, float] = {}
        self.waited: dict[str, Waited] = {}
        self.limited_by: defaultdict[str, float] = defaultdict(float)
        self.shut_s = 0.0  # for how long there was no slot
        self.shut_until: dict[float, float] = {}  # … until the times at which something happened
        self.send(m.DaemonStarted(at=0.0, version="", pid=0, limits=limits, rules=m.RULES))
        self.send(m.PlanSubmitted(at=0.0, run=plan.id, plan=plan, base_branch="", base_commit=BASE))
        self.run = self.swarm.runs[plan.id]

    def outcome(self) -> Outcome:
        """Lets time go by until the run has ended."""
        while self.run.ended_at is None and (event := self.next_event()) is not None:
            self.send(event)
        self.add_up_queues()
        ended = self.run.ended_at is not None
        return Outcome(
            run=self.run,
            workers=self.limits.workers_max,
            makespan_s=self.now,
            ended=ended,
            waited=self.waited,
            limited_by=self.limited_by,
            events=self.events,
        )

    # --- time ---

    def next_event(self) -> m.Event | None:
        """Gives what happens next, and moves the clock there; None where nothing more will happen."""
        due = next_deadline(self.swarm)
        while self.answers and (due is None or self.answers[0][0] <= due):
            at, number, command = heapq.heappop(self.answers)
            if (key := _key(command)) is not None and self.awaited.get(key) != number:
                continue  # something else was asked for meanwhile: the worker was ended, or another candidate made
            self.pass_time(at)
            return _ANSWERS[type(command)](self, command)
        if due is None:
            return None
        self.pass_time(max(due, self.now))
        return m.Ticked(at=self.now)

    def pass_time(self, at: float) -> None:
        """Moves the clock, and counts the time to what kept the run from going faster in it."""
        if at > self.now:
            shut = self.swarm.capacity.slots_open < 1
            self.limited_by[_limit(self.run, shut=shut)] += at - self.now
            self.shut_s += (at - self.now) * shut
            self.now = at
        self.shut_until[at] = self.shut_s

    def send(self, event: m.Event) -> Turn | None:
        """Has the machine take an event in, and notes when what it asks for will be answered. None where that was wanted otherwise
        by now, as happens in the daemon too."""
        try:
            turn = machine.step(self.swarm, event)
        except StaleEvent:
            return None
        self.events += 1
        for command in turn.commands:
            self.ask(command)
        self.note_starts(turn)
        return turn

    def ask(self, command: cmd.Command) -> None:
        """Notes when a command will be answered. Whoever waits for the machine to change waits for ever, and there is no staging
        worktree to move."""
        takes_s = 0.0
        if isinstance(command, cmd.Follow) or (
            isinstance(command, cmd.MeasureHost) and command.target is not None
        ):
            return
        if isinstance(command, cmd.WatchWorker):
            takes_s = self.assumed.works_s(command.task)
        elif isinstance(command, cmd.Verify):
            takes_s = self.assumed.verifies_s(command.suites)
            if not command.again:
                self.verified_since[command.run, command.task, command.attempt] = self.now
        self.asked += 1
        if (key := _key(command)) is not None:
            self.awaited[key] = self.asked
        heapq.heappush(self.answers, (self.now + takes_s, self.asked, command))

    # --- what waited ---

    def note_starts(self, turn: Turn) -> None:
        """Adds to what tasks have waited that start now: while there was no slot for slots, else for what they claim."""
        for fact in turn.facts:
            if fact.type == "TaskStarted" and fact.task is not None:
                since = self.run.tasks[fact.task].ready_at
                assert since is not None
                waited = self.waited.get(fact.task)
                if waited is None:
                    waited = self.waited[fact.task] = Waited(needs=since)
                shut_s = self.shut_s - self.shut_until[since]
                waited.slots += shut_s
                waited.claims += max(0.0, self.now - since - shut_s)

    def add_up_queues(self) -> None:
        """Adds what tasks have waited in the merge queue, before that was verified which decided about them."""
        for name, waited in self.waited.items():
            for attempt in self.run.tasks[name].attempts:
                if attempt.queued_at is not None:
                    until = attempt.ended_at if attempt.ended_at is not None else self.now
                    since = self.verified_since.get((self.run.id, name, attempt.n), until)
                    waited.queue += since - attempt.queued_at

    # --- what is asked for ---

    def commit(self, *parents: str) -> str:
        """Makes a commit, which is red where one of those that it is made from is."""
        self.commits += 1
        made = f"{self.commits:040x}"
        if self.bad and not self.bad.isdisjoint(parents):
            self.bad.add(made)
        return made

    def collected(self, command: cmd.Collect) -> m.Event:
        """The worker has done its work, within what its task claims."""
        spec = self.specs[command.task]
        head = self.commit()
        if command.attempt <= self.assumed.reds.get(command.task, 0):
            self.bad.add(head)
        return m.Collected(
            at=self.now,
            **command.about,
            head=head,
            commits=1,
            touched=_touched(spec, self.limits),
            brought_in=command.bring_in,
        )

    def merged(self, command: cmd.Merge) -> m.Event:
        """Nothing conflicts."""
        candidate = self.commit(command.onto, command.head)
        return m.CandidateMade(at=self.now, **command.about, onto=command.onto, candidate=candidate)

    def said(self, command: cmd.Verify) -> m.Event:
        """All suites say the same of a candidate."""
        outcome = "failed" if command.candidate in self.bad else "passed"
        suites = tuple(
            SuiteResult(name=suite.name, outcome=outcome, duration_s=self.assumed.verifies_s((suite,)))
            for suite in command.suites
        )
        return m.Verified(
            at=self.now, **command.about, candidate=command.candidate, suites=suites, again=command.again
        )

    def exited(self, command: cmd.AttemptCommand, code: int) -> m.Event:
        """The worker has ended."""
        return m.WorkerExited(at=self.now, **command.about, exit_code=code)


def _key(command: cmd.Command) -> tuple[str, _Key] | None:
    """Names what takes time: the end of a worker, by whatever it comes about, or a verification."""
    if isinstance(command, (cmd.WatchWorker, cmd.EndWorker)):
        return "Worker", (command.run, command.task, command.attempt)
    if isinstance(command, cmd.Verify):
        return "Verify", (command.run, command.task, command.attempt)
    return None


def _limit(run: Run, *, shut: bool) -> str:
    """Says what keeps a run from going faster now."""
    counts = run.counts
    if counts[TaskState.READY]:
        return "slots" if shut else "claims"
    if not counts[TaskState.RUNNING]:
        return "verification"
    return "needs" if counts[TaskState.PENDING] else "tail"


def _touched(spec: TaskSpec, limits: Limits) -> tuple[str, ...]:
    """Gives what the work at a task changes: something under each of its claims."""
    if ownership.changes_nothing(limits.roles, spec.role):
        return ()
    return tuple(example(claim.path) for claim in spec.claims) or ("work",)


_ANSWERS: dict[type[cmd.Command], Callable[[World, Any], m.Event]] = {
    cmd.MeasureHost: lambda w, _: m.HostMeasured(at=w.now, readings=CALM),
    cmd.PrepareRun: lambda w, c: m.RunPrepared(at=w.now, run=c.run, commit=c.base, worktree="staging"),
    cmd.TakeWorktree: lambda w, c: m.WorktreeReady(at=w.now, **c.about, path="worktree"),
    cmd.StartWorker: lambda w, c: m.WorkerStarted(at=w.now, **c.about, pid=1, started_at=w.now),
    cmd.WatchWorker: lambda w, c: w.exited(c, int(w.assumed.worker_fails(c.task, c.attempt))),
    cmd.EndWorker: lambda w, c: w.exited(c, ENDED),
    cmd.Collect: World.collected,
    cmd.GiveBackWorktree: lambda w, c: m.WorktreeReturned(at=w.now, **c.about),
    cmd.BringIn: lambda w, c: m.BroughtIn(at=w.now, **c.about),
    cmd.Merge: World.merged,
    cmd.Verify: World.said,
    cmd.Advance: lambda w, c: m.StagingAdvanced(at=w.now, **c.about, candidate=c.new),
    cmd.Publish: lambda w, c: m.Published(at=w.now, run=c.run, commit=c.commit),
}

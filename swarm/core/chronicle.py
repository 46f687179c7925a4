"""What a run went through, task by task, as the journal's records tell it: where each task stood from when to when, what was tried,
what verification said, what it cost. `account` makes the report of it.

A record is taken in as it was told; nothing is decided again, and no state of the coordinator is needed, so a report costs one
reading of the journal. Times are the run's own, in seconds since it began: while all of its tasks have ended they stand still, and
jumps of the clock are taken out.

Rules for editing: pure. A record type is named in `TYPES` by having a method here; those of other runs are passed over. What a task
waits for before it starts is not in the records; `holdups` finds it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from functools import partial
from typing import Any, NamedTuple

from swarm.core.claims import OPAQUE_PREFIX
from swarm.core.model import Claim, Mode
from swarm.dataclass import dataclass

NANO = 1_000_000_000  # of a dollar: money is added up in whole numbers, so that every sum is exact
UNDONE = "undone"  # why a task that has landed is cancelled
NEVER = 1 << 62  # the number of a record that has not come yet
_BEGUN_AGAIN = frozenset({"failed", "cancelled", "blocked"})  # where a plan says something else of them
TEXT_MAX = 300  # characters kept of why an attempt ended
# The claims that all take where they go one at a time: of the run, and of a phase, whose name follows.
TURN_OF_RUN, TURN_OF_PHASE = f"{OPAQUE_PREFIX}run", f"{OPAQUE_PREFIX}phase "

Record = Mapping[str, Any]


class Kind:
    """What a task's time goes into, in the order in which it comes to that. A task that waits to start is `READY` in the records;
    `holdups` says what for. Plain text: an enum would cost as much as all the rest."""

    NEEDS = "needs"
    PAUSED = "paused"
    STOPPED = "stopped"
    LATER = "later"
    AGENT = "agent"
    CLAIM = "claim"
    TURN = "turn"
    SLOT = "slot"
    ADMISSION = "admission"
    READY = "ready"
    PREPARING = "preparing"
    WORKING = "working"
    SUSPENDED = "suspended"
    COLLECTING = "collecting"
    QUEUE = "queue"
    VERIFYING = "verifying"
    LANDING = "landing"
    ENDED = "ended"


_IN_LINE = frozenset(
    {Kind.QUEUE, Kind.VERIFYING, Kind.LANDING}
)  # others stand behind an attempt that stands there


class Cause(NamedTuple):
    """What let a task go on: another task, by record `seq` at a time; "" for no task of the run."""

    task: str = ""
    seq: int = 0
    at: float = 0.0


NOBODY = Cause()


class Move(NamedTuple):
    """A task comes to stand where it stands, by record `seq`; `cause` is what let it."""

    seq: int
    at: float
    kind: str
    cause: Cause = NOBODY


class Stretch(NamedTuple):
    """A task stood somewhere from when to when, until record `seq`; `cause` is what let it leave, or what held it where that has no
    record, and `path` the claim that it waited for."""

    kind: str
    begin: float
    end: float
    seq: int
    cause: Cause = NOBODY
    path: str = ""

    @property
    def took(self) -> float:
        """How long that was, in seconds."""
        return self.end - self.begin


@dataclass(slots=True)
class Spans:
    """Stretches of time during which something held; `since` while it does."""

    closed: list[tuple[float, float]] = field(default_factory=list)
    since: float | None = None

    def begin(self, at: float) -> None:
        """It holds from now on."""
        if self.since is None:
            self.since = at

    def end(self, at: float) -> None:
        """It holds no more."""
        if self.since is not None:
            self.closed.append((self.since, at))
            self.since = None

    def until(self, now: float) -> list[tuple[float, float]]:
        """Gives all of them, one that goes on until now."""
        return [*self.closed, *([] if self.since is None else [(self.since, max(now, self.since))])]


class Landing(NamedTuple):
    """A task landed, by record `seq`; `verified` tells that suites had passed on it."""

    task: str
    seq: int
    at: float
    verified: bool


@dataclass(slots=True)
class Try:
    """One attempt: from when to when, how it ended and why, what it cost (in billionths of a dollar), how many of its candidates
    were verified and how many of them were red. `worker` tells that it had one, which took a slot and claims, `in_slot` that it is
    there still, `keeps` that its task kept the claims for the next attempt."""

    n: int
    agent: str
    begin: float
    worker: bool = False
    in_slot: bool = False
    end: float | None = None
    end_seq: int = 0
    outcome: str = ""
    code: str = ""
    text: str = ""
    nanos: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    verified: int = 0
    red: int = 0
    keeps: bool = False

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.tokens_in + self.tokens_out


@dataclass(slots=True)
class Course:
    """What one task went through. `state` is how it stands: as the public contract calls it once it has ended, else "open";
    `good_at` is when it first landed, or answered, by record `good_seq`; `later` are the times that its workers asked to be left
    alone, in order and apart."""

    id: str
    title: str = ""
    phase: str = ""
    needs: tuple[str, ...] = ()
    phase_needs: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    agent: str = ""
    finished: bool = False
    state: str = "open"
    good_at: float | None = None
    good_seq: int = 0
    moves: list[Move] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)
    paused: Spans = field(default_factory=Spans)
    later: list[tuple[float, float]] = field(default_factory=list)

    @property
    def live(self) -> Try | None:
        """The attempt that has not ended, if there is one."""
        last = self.tries[-1] if self.tries else None
        return last if last is not None and last.end is None else None

    def stretches(self, now: float) -> Iterator[Stretch]:
        """Gives where it stood, one after the other without a gap, until now or until it ended; not while it had ended."""
        for move, following in zip(self.moves, [*self.moves[1:], None], strict=True):
            if move.kind is Kind.ENDED:
                continue
            if following is None:
                yield Stretch(move.kind, move.at, max(now, move.at), NEVER)
            else:
                yield Stretch(move.kind, move.at, following.at, following.seq, following.cause)


@dataclass(slots=True)
class Phase:
    """A phase as the plan has it."""

    needs: tuple[str, ...] = ()
    phase_needs: tuple[str, ...] = ()
    parallel_safe: bool = True


@dataclass(slots=True)
class SuiteSeen:
    """What a suite took each time that it ran, how often it did not pass, and what it was spared or a flake."""

    took: list[float] = field(default_factory=list)
    red: int = 0
    flaked: int = 0
    remembered: int = 0


class House:
    """Takes the records of all runs in, and keeps when every slot was taken: by workers that live, or candidates that are verified
    beside the first of their run. A slot that is free to one run is so to all."""

    def __init__(self) -> None:
        self._most = 0  # of workers at once; 0 while nobody has said, and then no slot is known to be free
        self._workers: set[tuple[str, str]] = set()
        self._verified: dict[str, dict[str, None]] = {}  # by run, in the order in which they were made
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forgets what was: the time of a run begins."""
        self.full = Spans()
        self.freed: dict[float, Cause] = {}  # what ended a time during which all was full, by when that was
        self._look(0.0, NOBODY)

    def allow(self, at: float, most: int) -> None:
        """Takes in that so many workers may live."""
        self._most = most
        self._look(at, NOBODY)

    def take(self, kind: str, record: Record, at: float, cause: Cause) -> None:
        """Takes a record in, at a time of the run that is told of; `cause` stands for its task where that is of this run."""
        run, task = str(record.get("run")), str(record.get("task"))
        if kind == "TaskStarted":
            self._workers.add((run, task))
        elif kind == "CandidateMade":
            self._verified.setdefault(run, {})[task] = None
        elif kind == "RunDiscarded":
            self._workers = {each for each in self._workers if each[0] != run}
            self._verified.pop(run, None)
        elif kind in _VERIFIED:
            self._verified.get(run, {}).pop(task, None)
        elif kind in _LEAVES or (kind == "WorkerExited" and record.get("exit_code") == 0):
            self._workers.discard((run, task))
            self._falls(run, task)
        else:
            return
        self._look(at, cause)

    def _falls(self, run: str, task: str) -> None:
        """A candidate that comes to nothing takes with it what was made on top of it."""
        made = self._verified.get(run, {})
        if task in made:
            behind = list(made)
            for each in behind[behind.index(task) :]:
                del made[each]

    def _look(self, at: float, cause: Cause) -> None:
        beside = sum(max(0, len(each) - 1) for each in self._verified.values())
        if len(self._workers) + beside >= self._most:
            self.full.begin(at)
        elif self.full.since is not None:
            self.full.end(at)
            self.freed[at] = cause


_VERIFIED = frozenset(("Verified", "StagingAdvanced"))  # with these a candidate is verified no more
# … and with these an attempt has ended, or has no worker any more.
_LEAVES = frozenset(
    (
        "TaskQueued",
        "TaskHandedBack",
        "TaskFailed",
        "TaskCancelled",
        "TaskBlocked",
        "TaskAnswered",
        "TaskLanded",
        "UndoRefused",
    )
)


class Chronicle:
    """Takes in the records of the journal, from the first on, and keeps what they say of one run."""

    def __init__(self, run: str) -> None:
        self.run = run
        # What goes beyond the run: it may begin while everything is paused.
        self.stopped, self.paused = Spans(), Spans()
        self.workers: list[tuple[float, int]] = []
        self.house = House()
        self._now = 0.0  # the newest time of the clock, jumps taken out
        self._jumped = 0.0
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.began_at: float | None = None
        self.over = False
        self.courses: dict[str, Course] = {}
        self.phases: dict[str, Phase] = {}
        self.suites: dict[str, SuiteSeen] = {}
        self.told: Counter[str] = Counter()  # facts of the run, by type
        self.landings: list[Landing] = []
        self.undone = 0
        self.unchanged = 0
        self.starts: list[float] = []
        self.only: tuple[str, ...] = ()
        self.sequential = False
        self.run_paused = Spans()
        self.held: dict[str, Spans] = {}  # agents that started nothing
        self._zero = 0.0  # the clock's time that is 0 of the run
        self._ended = 0.0  # the run's time when all of its tasks had ended
        self._plan: Mapping[str, Any] | None = None
        self._freed = self._moved = NOBODY

    # --- time -----------------------------------------------------------------------------------------------------------

    def take(self, seq: int, kind: str, record: Record) -> None:
        """Takes a record in. All of `TYPES` have to come, in their order; others may."""
        take = _TAKES.get(record["type"])
        run = record.get("run")
        if take is None:
            return
        if run not in (None, self.run):
            now = max(self._now, record["at"] - self._jumped)
            at = self._ended if self.over else max(0.0, round(now - self._zero, 3))
            self.house.take(record["type"], record, at, NOBODY)
            return
        self._now = max(self._now, record["at"] - self._jumped)
        if run is not None:
            if self.began_at is None:
                self.began_at, self._zero = record["at"], self._now
                self.house.begin_anew()
            if kind == "fact":
                self.told[record["type"]] += 1
        take(self, seq, self.time, record)
        if run is not None:
            self.house.take(record["type"], record, self.time, Cause(str(record.get("task")), seq, self.time))

    @property
    def time(self) -> float:
        """The run's time at the last record."""
        return self._ended if self.over else max(0.0, round(self._now - self._zero, 3))

    def at(self, clock: float) -> float:
        """Gives the run's time at a time of the clock, not before the last record."""
        return self._ended if self.over else max(self.time, clock - self._jumped - self._zero)

    def _clock_set(self, _seq: int, _at: float, record: Record) -> None:
        self._jumped += record["by_s"]
        self._now = record["at"] - self._jumped

    def _run_ended(self, _seq: int, at: float, _record: Record) -> None:
        self.over, self._ended = True, at

    def _goes_on(self) -> float:
        """Lets the run's time go on, where it stood still; gives it."""
        if self.over:
            self.over, self._zero = False, self._now - self._ended
        return self.time

    # --- the daemon -------------------------------------------------------------------------------------------------------

    def _daemon_started(self, _seq: int, at: float, record: Record) -> None:
        limits = record.get("limits") or {}
        self._allowed(at, int(limits.get("workers_max") or 0))
        self.stopped.end(at)

    def _daemon_stopped(self, _seq: int, at: float, _record: Record) -> None:
        self.stopped.begin(at)

    def _limits_changed(self, _seq: int, at: float, record: Record) -> None:
        self._allowed(at, int(record["workers_max"]))

    def _allowed(self, at: float, most: int) -> None:
        self.workers.append((at, most))
        self.house.allow(at, most)

    def _on_pause(self, seq: int, at: float, record: Record) -> None:
        if record.get("task"):
            self._course(seq, record).paused.begin(at)
        else:
            (self.run_paused if record.get("run") else self.paused).begin(at)

    def _resumed(self, seq: int, at: float, record: Record) -> None:
        if record.get("task"):
            self._course(seq, record).paused.end(at)
            return
        self.run_paused.end(at)
        if not record.get("run"):
            self.paused.end(at)

    def _agent_held(self, _seq: int, at: float, record: Record) -> None:
        self.held.setdefault(str(record["agent"]), Spans()).begin(at)

    def _agent_goes_on(self, _seq: int, at: float, record: Record) -> None:
        self.held.setdefault(str(record["agent"]), Spans()).end(at)

    # --- plans ------------------------------------------------------------------------------------------------------------

    def _run_started(self, _seq: int, _at: float, record: Record) -> None:
        plan, only, sequential = self._plan, self.only, self.sequential
        self._begin_anew()  # an id that was discarded is free again
        self._plan, self.only, self.sequential = plan, only, sequential
        self.began_at, self._zero = record["at"], self._now
        self.told["RunStarted"] = 1
        for spans in (self.stopped, self.paused):
            spans.closed.clear()
            spans.since = None if spans.since is None else 0.0
        self.house.begin_anew()
        self.workers = [(0.0, number) for _, number in self.workers[-1:]]

    def _discarded(self, _seq: int, _at: float, _record: Record) -> None:
        self._begin_anew()

    def _plan_given(self, _seq: int, _at: float, record: Record) -> None:
        """Keeps a plan that came with an event, for `PlanAccepted` says whether it was taken in."""
        if record.get("plan"):
            self._plan = record["plan"]
        if record["type"] == "PlanSubmitted":
            self.only, self.sequential = tuple(record.get("only", ())), bool(record.get("sequential"))

    def _plan_accepted(self, seq: int, _at: float, record: Record) -> None:
        at = self._goes_on() if record.get("added") or record.get("replaced") else self.time
        plan, self._plan = self._plan or {}, None
        for each in plan.get("phases", ()):
            needs, phases = tuple(each.get("needs", ())), tuple(each.get("phase_needs", ()))
            self.phases.setdefault(each["id"], Phase(needs, phases, bool(each.get("parallel_safe"))))
        for spec in plan.get("tasks", ()):
            course = self.courses.get(spec["id"])
            if course is None:
                course = self._add(spec["id"], seq, at)
            elif course.tries and (course.live is not None or course.state not in _BEGUN_AGAIN):
                continue
            course.title, course.phase = str(spec.get("title", "")), spec.get("phase") or ""
            course.needs, course.phase_needs = (
                tuple(spec.get("needs", ())),
                tuple(spec.get("phase_needs", ())),
            )
            course.claims = tuple(Claim(c["path"], Mode(c["mode"])) for c in spec.get("claims", ()))
            course.agent = str(spec.get("agent", ""))
            course.finished = bool(spec.get("finished")) and not course.tries

    def _add(self, name: str, seq: int, at: float) -> Course:
        course = self.courses[name] = Course(name, moves=[Move(seq, at, Kind.READY)])
        return course

    def wanted(self, course: Course) -> tuple[Claim, ...]:
        """Gives what a start of the task takes: its claims, and the turn where tasks go one at a time."""
        phase = self.phases.get(course.phase)
        in_order = phase is not None and not phase.parallel_safe
        turns = [Claim(f"{TURN_OF_PHASE}{course.phase}")] if in_order else []
        return (*course.claims, *turns, *([Claim(TURN_OF_RUN)] if self.sequential else []))

    # --- attempts -----------------------------------------------------------------------------------------------------------

    def _course(self, seq: int, record: Record) -> Course:
        name = str(record["task"])
        found = self.courses.get(name)
        return found if found is not None else self._add(name, seq, self.time)

    def _begin(self, seq: int, record: Record, kind: str, agent: str, cause: Cause = NOBODY) -> Try:
        at, course = self._goes_on(), self._course(seq, record)
        if course.live is not None:
            self._end(course, seq, at, "lost", "lost", "")
        attempt = Try(int(record.get("attempt") or 0), agent, at)
        course.tries.append(attempt)
        course.state = "open"
        course.moves.append(Move(seq, at, kind, cause))
        return attempt

    def _end(self, course: Course, seq: int, at: float, outcome: str, code: str, text: str) -> Try | None:
        attempt = course.live
        if attempt is not None:
            attempt.end, attempt.end_seq, attempt.outcome = at, seq, outcome
            attempt.code, attempt.text = code, text[:TEXT_MAX]
            if course.moves[-1].kind in _IN_LINE:
                self._moved = Cause(course.id, seq, at)
            self._leaves_slot(course, attempt, seq, at)
        return attempt

    def _leaves_slot(self, course: Course, attempt: Try, seq: int, at: float) -> None:
        if attempt.in_slot:
            attempt.in_slot, self._freed = False, Cause(course.id, seq, at)

    def _task_started(self, seq: int, _at: float, record: Record) -> None:
        attempt = self._begin(seq, record, Kind.PREPARING, str(record.get("agent", "")), self._freed)
        attempt.worker = attempt.in_slot = True
        if (
            attempt.agent in self.held
        ):  # what starts a worker is not held, though nobody said that of a run that had ended
            self.held[attempt.agent].end(attempt.begin)
        self.starts.append(attempt.begin)

    def _stands(self, seq: int, at: float, record: Record, *, kind: str, cause: Cause = NOBODY) -> None:
        course = self._course(seq, record)
        if course.live is not None:
            course.moves.append(Move(seq, at, kind, cause))

    def _worker_exited(self, seq: int, at: float, record: Record) -> None:
        course = self._course(seq, record)
        attempt, result = course.live, record.get("result") or {}
        if attempt is None:
            return
        course.moves.append(Move(seq, at, Kind.COLLECTING))
        attempt.nanos += round((result.get("cost_usd") or 0.0) * NANO)
        attempt.tokens_in += result.get("tokens_in") or 0
        attempt.tokens_out += result.get("tokens_out") or 0
        if record.get("exit_code") == 0:
            self._leaves_slot(course, attempt, seq, at)

    def _task_queued(self, seq: int, at: float, record: Record) -> None:
        course = self._course(seq, record)
        if course.live is None:  # what a person committed comes without a worker
            self._begin(seq, record, Kind.QUEUE, "by hand")
        else:
            course.moves.append(Move(seq, at, Kind.QUEUE))

    def _candidate_made(self, seq: int, at: float, record: Record) -> None:
        self._stands(seq, at, record, kind=Kind.VERIFYING, cause=self._moved)

    def _verified(self, seq: int, at: float, record: Record) -> None:
        course = self._course(seq, record)
        attempt, suites = course.live, record.get("suites", ())
        if attempt is None or record.get("trouble"):  # then nothing was said of it, and it goes on
            return
        if record.get("again"):  # what was red ran once more, from its first verdict on
            attempt.red -= all(each["outcome"] == "passed" for each in suites)
            if course.moves[-1].kind is Kind.QUEUE:
                course.moves[-1] = course.moves[-1]._replace(kind=Kind.VERIFYING)
        else:
            attempt.verified += 1
            attempt.red += any(each["outcome"] != "passed" for each in suites)
        course.moves.append(Move(seq, at, Kind.QUEUE))
        for each in suites:
            seen = self.suites.setdefault(each["name"], SuiteSeen())
            if each.get("remembered"):
                seen.remembered += 1
            else:
                seen.took.append(each.get("duration_s") or 0.0)
                seen.red += each["outcome"] != "passed"

    def _suite_flaked(self, _seq: int, _at: float, record: Record) -> None:
        self.suites.setdefault(record["suite"], SuiteSeen()).flaked += 1

    def _staging_advanced(self, seq: int, at: float, record: Record) -> None:
        self._stands(seq, at, record, kind=Kind.LANDING, cause=self._moved)
        self._moved = Cause(str(record["task"]), seq, at)

    # --- ends -----------------------------------------------------------------------------------------------------------------

    def _task_landed(self, seq: int, at: float, record: Record) -> None:
        course = self._course(seq, record)
        passed = bool(record.get("verified")) or "verified_with" in record
        if not passed:  # there was nothing to verify
            kinds = ((m, Kind.LANDING if m.kind is Kind.VERIFYING else m.kind) for m in course.moves)
            course.moves = [move._replace(kind=kind) for move, kind in kinds]
        self._over(course, seq, at, "landed", record)
        course.title = course.title or str(record.get("title", ""))
        self.landings.append(Landing(course.id, seq, at, passed))
        self.unchanged += bool(record.get("unchanged"))

    def _over(self, course: Course, seq: int, at: float, state: str, record: Record) -> None:
        """Ends a task, and the attempt at it; one that had ended already only stands differently now."""
        code = str(record.get("last", record.get("code", "")))
        self._end(course, seq, at, state, code, str(record.get("text", "")))
        course.state = state
        self.undone += record.get("code") == UNDONE
        if course.good_at is None and state in ("landed", "answered"):
            course.good_at, course.good_seq = at, seq
        if course.moves[-1].kind is not Kind.ENDED:
            course.moves.append(Move(seq, at, Kind.ENDED))

    def _ends(self, seq: int, at: float, record: Record, *, state: str) -> None:
        self._over(self._course(seq, record), seq, at, state, record)

    def _handed_back(self, seq: int, at: float, record: Record) -> None:
        course, code = self._course(seq, record), str(record["code"])
        end = str(record["end"])
        attempt = self._end(course, seq, at, end, code, str(record["text"]))
        if attempt is not None:
            attempt.keeps = code == "conflict"
        if isinstance(
            until := record.get("until"), float | int
        ):  # a time of the clock: its worker asked to be tried again then
            course.later.append((at, max(at, round(until - self._jumped - self._zero, 3))))
        course.moves.append(Move(seq, at, Kind.READY))

    def _task_retried(self, seq: int, _at: float, record: Record) -> None:
        at, course = self._goes_on(), self._course(seq, record)
        course.state = "open"
        course.moves.append(Move(seq, at, Kind.READY))

    def _undo_begun(self, seq: int, _at: float, record: Record) -> None:
        self._begin(seq, record, Kind.QUEUE, "undo")


_TAKES: dict[str, Callable[[Chronicle, int, float, Record], None]] = {
    "AgentGoesOn": Chronicle._agent_goes_on,
    "AgentHeld": Chronicle._agent_held,
    "ApprovalGiven": Chronicle._plan_given,
    "CandidateMade": Chronicle._candidate_made,
    "ClockSet": Chronicle._clock_set,
    "Collected": Chronicle._plan_given,
    "DaemonStarted": Chronicle._daemon_started,
    "DaemonStopped": Chronicle._daemon_stopped,
    "LimitsChanged": Chronicle._limits_changed,
    "Paused": Chronicle._on_pause,
    "PlanAccepted": Chronicle._plan_accepted,
    "PlanSubmitted": Chronicle._plan_given,
    "Resumed": Chronicle._resumed,
    "RunDiscarded": Chronicle._discarded,
    "RunEnded": Chronicle._run_ended,
    "RunStarted": Chronicle._run_started,
    "StagingAdvanced": Chronicle._staging_advanced,
    "SuiteFlaked": Chronicle._suite_flaked,
    "TaskAnswered": partial(Chronicle._ends, state="answered"),
    "TaskBlocked": partial(Chronicle._ends, state="blocked"),
    "TaskCancelled": partial(Chronicle._ends, state="cancelled"),
    "TaskFailed": partial(Chronicle._ends, state="failed"),
    "TaskHandedBack": Chronicle._handed_back,
    "TaskLanded": Chronicle._task_landed,
    "TaskQueued": Chronicle._task_queued,
    "TaskRetried": Chronicle._task_retried,
    "TaskStarted": Chronicle._task_started,
    "UndoBegun": Chronicle._undo_begun,
    "UndoRefused": partial(Chronicle._ends, state="landed"),
    "Verified": Chronicle._verified,
    "WorkerExited": Chronicle._worker_exited,
    "WorkerStarted": partial(Chronicle._stands, kind=Kind.WORKING),
    "WorkerSuspended": partial(Chronicle._stands, kind=Kind.SUSPENDED),
    "WorkerThawed": partial(Chronicle._stands, kind=Kind.WORKING),
}
TYPES = frozenset(_TAKES)

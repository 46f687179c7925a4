"""The loop at the centre: events in, decisions made, remembered, and only then carried out.

Order within a turn: `machine.step` for every event that is there, one durable append of all of them, then the answers to those
who asked, then the commands. After a turn the loop gathers for a moment: what comes close together shares the next turn and its
write, and what comes alone waits for nothing. Nothing polls: the loop sleeps until an event comes or a deadline falls due.

While the machine does not let the journal be written (its disk is full) the turn stands still: nothing is acted on and nothing
answered, reading goes on and says why, and the same records are tried again. If it can't be written for another reason the loop
ends with that: the next daemon goes on from what the journal holds.

Rules for editing: no decision is made here, and nothing is carried out here; both would escape the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import field
from typing import Any

from swarm import log
from swarm.core import commands as cmd
from swarm.core import machine
from swarm.core import messages as m
from swarm.core.state import IllegalEvent, StaleEvent, Swarm, Turn, next_deadline, pending_commands
from swarm.crashpoints import crash_at
from swarm.dataclass import dataclass
from swarm.edge.journal import Journal, JournalStuck, Record, data_of, record
from swarm.errors import SwarmError

BATCH_MAX = 512  # events that share one durable write
GATHER_S = 0.003  # after each turn, of which most costs the same however many events it has
RECENT = 2000  # records kept in memory for those who follow
READ_AT_ONCE = 500
CLOCK_SET_S = 2.0  # a clock that goes on so much more or less than time passes was set; below that it is being corrected
AGAIN_S = (
    0.25,
    5.0,
)  # a journal that could not be written is tried again after so long at first, and at the most
_log = log.get("coordinator")

CarryOut = Callable[[cmd.Command], None]


@dataclass(slots=True)
class _Decided:
    """A turn that was decided: what is to be remembered of it, and what follows once that is done."""

    records: list[Record] = field(default_factory=list)
    dropped: list[tuple[str, str, int]] = field(default_factory=list)
    commands: list[cmd.Command] = field(default_factory=list)
    answers: list[tuple[asyncio.Future[Turn], Turn]] = field(default_factory=list)


def _records(event: m.Event, turn: Turn) -> list[Record]:
    records = [record("event", *m.parts_of(event))]
    for fact in turn.facts:
        records.append(record("fact", *m.parts_of(fact)))
    return records


def _not_remembered(why: JournalStuck) -> SwarmError:
    return SwarmError(
        why.cause,
        "The daemon can't take anything in until it can be remembered; nothing was changed.",
        "see to that disk, then again; swarm status tells when it goes on",
    )


class Coordinator:
    """Owns the swarm and the journal. `carry_out` starts a command and returns at once; its answer comes by `post`. `drop` ends the
    verification of an attempt of which nobody wants to hear any more."""

    def __init__(
        self,
        swarm: Swarm,
        journal: Journal,
        carry_out: CarryOut,
        wall: Callable[[], float] = time.time,
        drop: Callable[[str, str, int], None] = lambda *_: None,
        gather: Callable[[], None] = lambda: time.sleep(GATHER_S),
    ) -> None:
        self.swarm = swarm
        self.journal = journal
        self.seq = journal.last_seq()
        self._carry_out = carry_out
        self._drop = drop
        self._gather = gather
        self._inbox: deque[tuple[m.Event, asyncio.Future[Turn] | None]] = deque()
        self._awake = False  # a turn is coming that takes in whatever is in the inbox by then
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: dict[asyncio.Future[None], Callable[[], object]] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        # The deadline that the timer is for, and the clock that it was set by.
        self._timer_at: tuple[float | None, float] | None = None
        self._wall = wall
        # By how much the wall clock is ahead of the time that has passed since the machine booted.
        self.ahead_s = wall() - time.monotonic()
        self._clock = threading.Lock()
        self._recent: deque[Record] = deque(maxlen=RECENT)
        self._last_at = 0.0
        self.finished: dict[str, m.Finished | m.FinishRefused] = {}  # by request, for those who wait for it
        self.ended = False
        self.stuck: JournalStuck | None = None  # why what was decided last can't be remembered
        self._decided: _Decided | None = None  # … and what that is
        self._again: asyncio.TimerHandle | None = None
        self._again_s = AGAIN_S[0]
        self.at_rest: Callable[[], None] = lambda: None  # called when nothing more is to be taken in

    # --- events in

    def now(self) -> float:
        """Gives the time for an event: seconds since the epoch. From any thread.

        It goes back only where the clock was set back; that is an event of its own, which comes before the one that asks.
        """
        with self._clock:
            at = self._wall()
            by_s = at - time.monotonic() - self.ahead_s
            if abs(by_s) < CLOCK_SET_S:
                self._last_at = max(self._last_at, at)
                return self._last_at
            self.ahead_s += by_s
            self._last_at = at
            self._inbox.append((m.ClockSet(at=at, by_s=by_s), None))
        _log.warning("clock.set", by_s=round(by_s, 3))
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._wake(self._loop.call_soon_threadsafe)
        return at

    def post(self, event: m.Event) -> None:
        """Takes an event in; from the loop's own thread."""
        self._put(event, None, self._loop.call_soon)

    def post_from_thread(self, event: m.Event) -> None:
        """Takes an event in from any thread; one that comes after the loop has ended is dropped, as after a crash."""
        with contextlib.suppress(RuntimeError):
            self._put(event, None, self._loop.call_soon_threadsafe)

    async def ask(self, event: m.Event, *, gives_up: bool = False) -> Turn:
        """Takes an event in and waits until it is in the journal. Raises `IllegalEvent` where it can't happen, `SwarmError` where
        nothing can be remembered at present; who `gives_up` hears that also where it turns out meanwhile, of an event that may
        be remembered later all the same."""
        if self.stuck is not None:
            raise _not_remembered(self.stuck)
        answer: asyncio.Future[Turn] = self._loop.create_future()
        self._put(event, answer, self._loop.call_soon)
        if gives_up:
            await self.until(lambda: answer.done() or self.stuck is not None)
            if self.stuck is not None and not answer.done():
                raise _not_remembered(self.stuck)
        return await answer

    def _put(self, event: m.Event, answer: asyncio.Future[Turn] | None, call: Callable[..., object]) -> None:
        """Lays an event in the inbox. Waking the loop costs more than the event, so all that come before its turn share one."""
        self._inbox.append((event, answer))
        self._wake(call)

    def _wake(self, call: Callable[..., object]) -> None:
        if not self._awake:
            self._awake = True
            call(self._take_turn)

    # --- the loop

    def begin(self, started: m.DaemonStarted) -> None:
        """Takes the first event in, before the loop turns, and has everything carried out that is outstanding then: what a crash
        interrupted and what the event brings are one list. Before it comes that the clock was set, where it was since the last
        daemon."""
        events: list[m.Event] = [started]
        by_s = started.ahead_s - self.swarm.ahead_s
        if started.boot and started.boot == self.swarm.boot and abs(by_s) >= CLOCK_SET_S:
            _log.warning("clock.set", by_s=round(by_s, 3))
            events.insert(0, m.ClockSet(at=started.at, by_s=by_s))
        records = [each for event in events for each in _records(event, machine.step(self.swarm, event))]
        self.seq = self.journal.append(records)
        self._recent.clear()
        self.start(pending_commands(self.swarm))

    async def run(self) -> None:
        """Turns until cancelled. Raises what the journal raises when it can't be written."""
        try:
            self._set_timer()
            await self._over
        finally:
            self.ended = True
            if self._timer is not None:
                self._timer.cancel()
            waiting = [answer for answer, _ in self._decided.answers] if self._decided else []
            for answer in (*waiting, *(answer for _, answer in self._inbox)):
                if answer is not None and not answer.done():
                    answer.cancel()
            self._announce()

    def _take_turn(self) -> None:
        """Turns once, and comes again where more has arrived meanwhile.

        Gathering holds up everything in this loop, on purpose: a timer would cost one more round of the loop each time.
        """
        if self.ended or self._over.done():
            return
        self._awake = True  # nobody has to wake the loop meanwhile: the inbox is looked at again at the end
        try:
            self._turn()
            if self.stuck is not None:
                self._awake = False
                return
            self._gather()
            self._awake = False
            if self._inbox:
                self._wake(self._loop.call_soon)
            else:
                self.at_rest()
        except Exception as error:
            self._over.set_exception(error)

    def _turn(self) -> None:
        """Takes in what is there, remembers it in one write, answers, and carries out; what could not be remembered comes first."""
        if self._decided is None:
            self._decided = self._decide()
        if not self._remembered(self._decided):
            return
        decided, self._decided = self._decided, None
        for answer, turn in decided.answers:
            if not answer.done():
                answer.set_result(turn)
        crash_at("turn.answered")
        for attempt in decided.dropped:
            self._drop(*attempt)
        self.start(decided.commands)
        self._set_timer()
        self._announce()

    def _decide(self) -> _Decided:
        decided = _Decided()
        for _ in range(min(len(self._inbox), BATCH_MAX)):
            event, answer = self._inbox.popleft()
            turn = self._step(event, answer)
            if turn is None:
                continue
            decided.records += _records(event, turn)
            decided.dropped.extend(turn.dropped)
            decided.commands.extend(turn.commands)
            if answer is not None:
                decided.answers.append((answer, turn))
        return decided

    def _remembered(self, decided: _Decided) -> bool:
        """Tells whether the turn is in the journal now; where the machine does not let it be, it is tried again later."""
        if not decided.records:
            return True
        crash_at("turn.decided")
        try:
            self.seq = self.journal.append(decided.records, after=self.seq)
        except JournalStuck as error:
            if self.stuck is None:
                _log.error("journal.stuck", reason=error.cause)
            self.stuck = error
            if self._again is not None:  # an event that came in tried sooner
                self._again.cancel()
            self._again = self._loop.call_later(self._again_s, self._take_turn)
            self._again_s = min(2 * self._again_s, AGAIN_S[1])
            self._announce()
            return False
        if self.stuck is not None:
            _log.info("journal.goes_on", seq=self.seq)
            self.stuck, self._again_s = None, AGAIN_S[0]
        self._recent.extend(decided.records)
        return True

    def _step(self, event: m.Event, answer: asyncio.Future[Turn] | None) -> Turn | None:
        try:
            turn = machine.step(self.swarm, event)
            if isinstance(event, (m.Finished, m.FinishRefused)):
                self.finished[event.request] = event
            return turn
        except IllegalEvent as error:
            if answer is not None:
                answer.set_exception(error)
            else:
                level = _log.info if isinstance(error, StaleEvent) else _log.error
                level("event.refused", event_type=type(event).__name__, reason=str(error))
            return None

    def start(self, commands: Iterable[cmd.Command]) -> None:
        """Has commands carried out."""
        for command in commands:
            self._carry_out(command)

    # --- time

    def _set_timer(self) -> None:
        due = next_deadline(self.swarm)
        if (due, self.ahead_s) == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at, self._timer = (due, self.ahead_s), None
        if due is not None:
            passes_s = due - self.ahead_s - time.monotonic()
            self._timer = self._loop.call_later(max(0.0, passes_s), self._fell_due, due)

    def _fell_due(self, due: float) -> None:
        self._timer_at = self._timer = None
        before, at = self.ahead_s, self.now()
        self.post(
            m.Ticked(at=max(due, at) if self.ahead_s == before else at)
        )  # a timer may be a little early

    # --- telling others

    def _announce(self) -> None:
        """Wakes those who wait and whose time has come."""
        for woken, condition in self._waiting.items():
            if not woken.done() and self._has_come(condition):
                woken.set_result(None)

    def _has_come(self, condition: Callable[[], object]) -> bool:
        try:
            return self.ended or bool(condition())
        except Exception:  # whoever waits meets it
            return True

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until a condition on what is known holds, or the loop has ended.

        It is looked at in the turns of this loop: who waits for the end of a run is woken then, and not once a turn until then.
        """
        while not (self.ended or condition()):
            woken: asyncio.Future[None] = self._loop.create_future()
            self._waiting[woken] = condition
            try:
                await woken
            finally:
                del self._waiting[woken]

    async def events(self, after: int, *, follow: bool) -> AsyncIterator[list[dict[str, Any]]]:
        """Gives the journal's records after a number, and with `follow` those that come, in batches; each record with its `seq`.

        The newest are given from memory: a client that follows must not cost a query a turn.
        """

        def more() -> bool:
            return self.seq > after

        while True:
            batch = self._newer(after)
            if batch:
                after = batch[-1]["seq"]
                yield batch
            elif not follow or self.ended:
                return
            else:
                await self.until(more)

    def _newer(self, after: int) -> list[dict[str, Any]]:
        if after >= self.seq:
            return []
        first = self.seq - len(self._recent) + 1
        if after + 1 >= first:
            start = after + 1 - first
            found = list(itertools.islice(self._recent, start, start + READ_AT_ONCE))
            return [{"seq": first + start + place, **data_of(each)} for place, each in enumerate(found)]
        rows = self.journal.read(after=after, limit=READ_AT_ONCE)
        return [{"seq": row.seq, **row.data} for row in rows if row.seq <= self.seq]

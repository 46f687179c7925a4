"""The loop at the centre: events in, decisions made, remembered, and only then carried out.

Order within a turn: `machine.step` for every event that is there, one durable append of all of them, then the answers to those
who asked, then the commands. If the journal can't be written the loop ends with that error and nothing was acted on: the
next daemon goes on from what the journal holds. Nothing polls: the loop sleeps until an event comes or a deadline falls due.

Rules for editing: no decision is made here, and nothing is carried out here; both would escape the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from swarm import log
from swarm.core import machine
from swarm.core import messages as m
from swarm.core.state import IllegalEvent, StaleEvent, Swarm, Turn, next_deadline, pending_commands
from swarm.crashpoints import crash_at
from swarm.edge.journal import Journal, Record

BATCH_MAX = 512  # events that share one durable write
RECENT = 2000  # records kept in memory for those who follow
READ_AT_ONCE = 500
_log = log.get("coordinator")

CarryOut = Callable[[m.Command], None]


class Coordinator:
    """Owns the swarm and the journal. `carry_out` starts a command and returns at once; its answer comes by `post`."""

    def __init__(self, swarm: Swarm, journal: Journal, carry_out: CarryOut) -> None:
        self.swarm = swarm
        self.journal = journal
        self.seq = journal.last_seq()
        self._carry_out = carry_out
        self._inbox: deque[tuple[m.Event, asyncio.Future[Turn] | None]] = deque()
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=RECENT)
        self._last_at = 0.0
        self.finished: dict[str, m.Finished | m.FinishRefused] = {}  # by request, for those who wait for it
        self.ended = False
        self.at_rest: Callable[[], None] = lambda: None  # called when nothing more is to be taken in

    # --- events in

    def now(self) -> float:
        """Gives the time for an event: seconds since the epoch, never going back within this daemon."""
        self._last_at = max(self._last_at, time.time())
        return self._last_at

    def post(self, event: m.Event) -> None:
        """Takes an event in; from the loop's own thread."""
        self._inbox.append((event, None))
        self._wake.set()

    def post_from_thread(self, event: m.Event) -> None:
        """Takes an event in from any thread; one that comes after the loop has ended is dropped, as after a crash."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.post, event)

    async def ask(self, event: m.Event) -> Turn:
        """Takes an event in and waits until it is in the journal. Raises `IllegalEvent` where it can't happen."""
        answer: asyncio.Future[Turn] = self._loop.create_future()
        self._inbox.append((event, answer))
        self._wake.set()
        return await answer

    # --- the loop

    def begin(self, event: m.Event) -> None:
        """Takes the first event in, before the loop turns, and has everything carried out that is outstanding then: what a crash
        interrupted and what the event brings are one list."""
        turn = machine.step(self.swarm, event)
        facts = [Record("fact", fact.to_json()) for fact in turn.facts]
        self.seq = self.journal.append([Record("event", m.event_to_json(event)), *facts])
        self._recent.clear()
        self.start(pending_commands(self.swarm))

    async def run(self) -> None:
        """Turns until cancelled. Raises what the journal raises when it can't be written."""
        try:
            self._set_timer()
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._inbox:
                    self._turn()
                    await asyncio.sleep(0)
                self.at_rest()
        finally:
            self.ended = True
            if self._timer is not None:
                self._timer.cancel()
            for _, answer in self._inbox:
                if answer is not None and not answer.done():
                    answer.cancel()
            self._announce()

    def _turn(self) -> None:
        """Takes in what is there, remembers it in one write, answers, and carries out."""
        records: list[Record] = []
        commands: list[m.Command] = []
        answers: list[tuple[asyncio.Future[Turn], Turn]] = []
        for _ in range(min(len(self._inbox), BATCH_MAX)):
            event, answer = self._inbox.popleft()
            turn = self._step(event, answer)
            if turn is None:
                continue
            records.append(Record("event", m.event_to_json(event)))
            records.extend(Record("fact", fact.to_json()) for fact in turn.facts)
            commands.extend(turn.commands)
            if answer is not None:
                answers.append((answer, turn))
        if records:
            crash_at("turn.decided")
            self.seq = self.journal.append(records)
            self._recent.extend(record.data for record in records)
        for answer, turn in answers:
            if not answer.done():
                answer.set_result(turn)
        crash_at("turn.answered")
        self.start(commands)
        self._set_timer()
        self._announce()

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

    def start(self, commands: Iterable[m.Command]) -> None:
        """Has commands carried out."""
        for command in commands:
            self._carry_out(command)

    # --- time

    def _set_timer(self) -> None:
        due = next_deadline(self.swarm)
        if due == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at, self._timer = due, None
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - time.time()), self._fell_due, due)

    def _fell_due(self, due: float) -> None:
        self._timer_at = self._timer = None
        self.post(m.Ticked(at=max(due, self.now())))

    # --- telling others

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Waits until something has changed."""
        await self._changed.wait()

    async def events(self, after: int, *, follow: bool) -> AsyncIterator[list[dict[str, Any]]]:
        """Gives the journal's records after a number, and with `follow` those that come, in batches; each record with its `seq`.

        The newest are given from memory: a client that follows must not cost a query a turn.
        """
        while True:
            changed = self._changed
            batch = self._newer(after)
            if batch:
                after = batch[-1]["seq"]
                yield batch
            elif not follow or self.ended:
                return
            else:
                await changed.wait()

    def _newer(self, after: int) -> list[dict[str, Any]]:
        if after >= self.seq:
            return []
        first = self.seq - len(self._recent) + 1
        if after + 1 >= first:
            start = after + 1 - first
            found = list(itertools.islice(self._recent, start, start + READ_AT_ONCE))
            return [{"seq": first + start + place, **data} for place, data in enumerate(found)]
        rows = self.journal.read(after=after, limit=READ_AT_ONCE)
        return [{"seq": row.seq, **row.data} for row in rows if row.seq <= self.seq]

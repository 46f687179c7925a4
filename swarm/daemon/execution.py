"""Carries commands out: each uses an edge and is answered by exactly one event.

Blocking work goes to threads; a worker that runs costs no thread, its end is a descriptor in the event loop. Whatever an edge
raises becomes a `CommandFailed`, which the machine tries again, so no command is ever left without its answer.

Commands of one topic are carried out by one class each, of which this knows only which command is whose: `Workers`, `Lander`,
`Verifier`, `Finisher`, `Discarder`.

Rules for editing: nothing is decided here. Every function may be called twice for the same command, after a crash: it first looks
whether the work is done. Paths, names and limits come from the command or from the settings, never from "now".
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import field
from typing import Any

from swarm import log
from swarm.core import admission
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.model import Limits, Readings, Reason, attempt_key
from swarm.daemon import collecting
from swarm.daemon.discarding import Discarder
from swarm.daemon.edges import Edges, lease_key
from swarm.daemon.finishing import Finisher, Grip
from swarm.daemon.gauge import NO_ROOM, Gauge
from swarm.daemon.landing import Lander
from swarm.daemon.threads import Threads, to_its_end
from swarm.daemon.verification import Verifier
from swarm.daemon.workers import Workers
from swarm.dataclass import dataclass
from swarm.edge import git, trouble
from swarm.edge.remembered import Remembered
from swarm.errors import SwarmError

THREADS = 16  # git waits on the disk and on the other core; more only queue elsewhere
AGAIN_S = 2.0  # after which a worktree that could not be given back is given back again
RETURNS_MAX = 5  # so often, save where the machine lacks something
LOOK_EVERY_S = 1.0  # while staging has gone astray
DROPPED_S = (
    5.0  # for collecting what nobody waits for: nearly all is collected sooner, and is then on its branch
)
LATE_LOOK_S = 0.2  # while what is late is ended
_log = log.get("execution")

Post = Callable[[m.Event], None]


@dataclass(slots=True)
class Execution:
    """Starts commands and posts their answers; `post` may be called from any thread."""

    edges: Edges
    post: Post
    clock: Callable[[], float]
    loop: asyncio.AbstractEventLoop
    wants_readings: Callable[[], bool]
    limits: Callable[[], Limits]
    pressure: Callable[[], admission.Pressure]
    growing: Callable[[], tuple[admission.Expected, ...]]
    wanted_bytes: Callable[[], int]
    _threads: Threads = field(default_factory=lambda: Threads(THREADS, "edge"))
    _tasks: dict[asyncio.Task[None], str] = field(default_factory=dict)  # and the run that each is about
    _discarding: set[str] = field(default_factory=set)
    _verifying: dict[tuple[str, str, int], asyncio.Task[Any]] = field(default_factory=dict)
    _finishing: dict[str, Grip] = field(default_factory=dict)  # by request
    _finish_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _returns: Counter[str] = field(default_factory=Counter)  # failed ones
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _under_way: dict[int, str] = field(
        default_factory=dict
    )  # the run that each command is about which threads are at
    _one_ended: asyncio.Event = field(default_factory=asyncio.Event)  # of those of a run that is discarded
    _spared: str | None = None
    begins: asyncio.Event = field(default_factory=asyncio.Event)  # without readings nothing new is started
    closing: bool = False
    leaving: bool = False
    gauge: Gauge = field(init=False)
    workers: Workers = field(init=False)
    lander: Lander = field(init=False)
    _suites_room: asyncio.Semaphore = field(init=False)
    _threaded: dict[type[cmd.Command], Callable[[Any], m.Event | None]] = field(init=False)
    _looped: dict[type[cmd.Command], Callable[[Any], Coroutine[Any, Any, m.Event | None]]] = field(init=False)
    _at_once: dict[type[cmd.Command], Callable[[Any], None]] = field(init=False)

    def __post_init__(self) -> None:
        self._suites_room = asyncio.Semaphore(self.edges.settings.verify.suites_max)
        self.gauge = Gauge(self.edges.host, self.edges.settings.limits, self.clock)
        self.workers = workers = Workers(
            self.edges,
            self.loop,
            self.clock,
            self.post,
            self._answer_in_thread,
            self.in_thread,
            self.gauge.look,
            self._is_news,
        )
        self.lander = lander = Lander(self.edges, self.clock)
        self._threaded = {
            cmd.TakeWorktree: self._take_worktree,
            cmd.GiveBackWorktree: self._give_back_worktree,
            cmd.StartWorker: workers.start,
            cmd.Collect: lambda command: collecting.collect(command, self.edges, self.clock),
            cmd.PrepareRun: lander.prepare_run,
            cmd.BringIn: lambda command: collecting.bring_in(command, self.edges, self.clock),
            cmd.Merge: lander.merge,
            cmd.Rebase: lander.rebase,
            cmd.Revert: lander.revert,
            cmd.Advance: lander.advance,
            cmd.Publish: lander.publish,
            cmd.Follow: lander.follow,
        }
        self._looped = {
            cmd.MeasureHost: self._measure_host,
            cmd.Verify: self._verify,
            cmd.Finish: self._finish,
            cmd.LookAtStaging: self._look_at_staging,
            cmd.Discard: self._discard,
        }
        self._at_once = {
            cmd.WatchWorker: workers.watch,
            cmd.SuspendWorker: workers.suspend,
            cmd.ThawWorker: workers.thaw,
            cmd.EndWorker: workers.end,
        }

    # --- dispatch

    def carry_out(self, command: cmd.Command) -> None:
        """Starts a command; returns at once. Its answer comes by `post`. When closing, the next daemon will do it."""
        if self.closing:
            return
        kind = type(command)
        if (work := self._threaded.get(kind)) is not None:
            self._answer_in_thread(work, command)
        elif kind in self._looped:
            self._spawn(self._looped[kind](command), command)
        else:
            self._at_once[kind](command)

    def discarder(self) -> Discarder:
        """Gives what discards runs."""
        edges = self.edges
        return Discarder(edges.repository, edges.pool, edges.landing, edges.refs, edges.places)

    def _answer_in_thread(self, work: Callable[[Any], m.Event | None], command: cmd.Command) -> None:
        """Has blocking work done in a thread; what it gives is posted."""
        if not self.closing:
            number = next(self._numbers)
            self._under_way[number] = _run_of(command)
            self._threads.do(self._answer, work, command, number)

    def _answer(self, work: Callable[[Any], m.Event | None], command: cmd.Command, number: int) -> None:
        event = None
        try:
            event = work(command)
        except BaseException as error:
            self._mend(command, error)
            event = self._failed(command, error)
        finally:
            run = self._under_way.pop(number)
            if event is not None:
                self.post(event)
            # Else nobody waits for it, and waking the loop costs more than all this.
            if run in self._discarding:
                self.loop.call_soon_threadsafe(self._one_ended.set)

    def _mend(self, command: cmd.Command, error: BaseException) -> None:
        """Brings back what may be missing in the user's repository of the landings on which a worktree stands: `gc --prune=now`
        takes what was copied there and is not on the branch yet. The next try then finds it."""
        match command:
            case cmd.TakeWorktree(base=commit) | cmd.Collect(base=commit) | cmd.Follow(commit=commit):
                if isinstance(error, git.GitError):
                    with contextlib.suppress(SwarmError, OSError):
                        self.edges.landing.mend(command.run, commit)

    def make_ready(self, next_base: Callable[[], str | None]) -> None:
        """Has a worktree made ready for the next start, where there is nothing else to do; called when all is taken in."""
        if self._under_way or self.closing or not self.edges.settings.worktrees.spare:
            return
        base = next_base()
        if base is not None and base != self._spared:
            self._spared = base
            self._threads.do(self._make_ready, base)

    def _make_ready(self, base: str) -> None:
        try:
            self.edges.pool.spare(1, base)
        except (SwarmError, OSError) as error:
            _log.warning(
                "worktree.no_spare", reason=str(error)
            )  # the next start makes it, or says what is wrong

    def _spawn(self, work: Coroutine[Any, Any, m.Event | None], command: cmd.Command) -> None:
        task = self.loop.create_task(self._answered(work, command))
        self._tasks[task] = _run_of(command)
        task.add_done_callback(self._tasks.pop)

    async def _answered(self, work: Coroutine[Any, Any, m.Event | None], command: cmd.Command) -> None:
        try:
            event = await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            event = self._failed(command, error)
        if event is not None:
            self.post(event)

    def _failed(self, command: cmd.Command, error: BaseException) -> m.Event | None:
        """Makes the answer of a command that could not be carried out; None where it is carried out again first."""
        text = error.cause if isinstance(error, SwarmError) else f"{type(error).__name__}: {error}"
        if isinstance(error, SwarmError) and error.next_step:
            text = f"{text} Next: {error.next_step}"
        expected = isinstance(error, (SwarmError, OSError))
        kind = type(command).__name__
        lacks = trouble.of(error, self.edges.disks)
        _log.warning(
            "command.failed", command=kind, text=text, trouble=lacks, exc_info=None if expected else error
        )
        at = self.clock()
        try:
            if isinstance(command, cmd.GiveBackWorktree):
                return self._not_given_back(command, text, lacks)
            if isinstance(command, cmd.Collect) and command.gives_up and not (lacks or self.closing):
                return collecting.given_up(command, text, at, self.edges)
        except Exception as unforeseen:  # answered all the same: a run waits for it, and its discard too
            _log.error("command.not_given_up", command=kind, exc_info=unforeseen)
            if isinstance(command, cmd.GiveBackWorktree):
                return m.WorktreeReturned(at=at, **command.about)  # it stays leased, as below
        if isinstance(command, cmd.AttemptCommand):
            may_run = isinstance(command, cmd.StartWorker) and self.workers.may_run(command)
            return m.CommandFailed(
                at=at, command=kind, text=text, trouble=lacks, may_run=may_run, **command.about
            )
        if isinstance(command, cmd.Finish):
            reason = Reason("error", text)
            if isinstance(error, SwarmError) and error.next_step:
                reason = Reason("error", error.cause, {"next_step": error.next_step})
            return m.FinishRefused(
                at=at, run=command.run, request=command.request, target=command.target, reason=reason
            )
        if isinstance(command, cmd.MeasureHost):
            return m.HostMeasured(at=at, readings=NO_ROOM, trouble=lacks or text)
        assert isinstance(command, cmd.RunCommand)
        return m.RunCommandFailed(at=at, run=command.run, command=kind, text=text, trouble=lacks)

    def _not_given_back(
        self, command: cmd.GiveBackWorktree, why: str, lacks: str
    ) -> m.WorktreeReturned | None:
        """Has a worktree given back again in a moment, or set aside where that can't succeed."""
        self._returns[lease_key(command)] += 1
        hopeless = self.edges.pool.is_given_up(lease_key(command))
        tries_left = self._returns[lease_key(command)] < RETURNS_MAX
        if lacks or (not hopeless and (self.closing or tries_left)):
            self.loop.call_soon_threadsafe(self.loop.call_later, AGAIN_S, self.carry_out, command)
            return None
        return self._set_aside(command, why)

    def _set_aside(self, command: cmd.GiveBackWorktree, why: str) -> m.WorktreeReturned:
        """Answers for a worktree that can't be given back, whatever is tried: work that nobody has collected may lie in it."""
        try:
            place = self.edges.pool.set_aside(lease_key(command), why)
        except (SwarmError, OSError) as error:
            place = None  # it stays leased, and the next daemon tries again
            _log.warning(
                "worktree.not_set_aside", task=command.task, attempt=command.attempt, reason=str(error)
            )
        return m.WorktreeReturned(at=self.clock(), **command.about, saved=place or "")

    def in_thread(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Does blocking work in a thread; awaited in the loop."""
        return asyncio.wrap_future(self._threads.submit(work), loop=self.loop)

    def drop(self, run: str, task: str, attempt: int) -> None:
        """Ends the suites of an attempt of which nobody wants to hear any more, and in a moment, if that still goes on, the
        reading of what its worker left."""
        running = self._verifying.get((run, task, attempt))
        if running is not None:
            running.cancel()
        self.loop.call_later(DROPPED_S, self.edges.pool.read_no_more, attempt_key(run, task, attempt))

    def take_back(self, request: str, why: Reason) -> None:
        """Has a finish given up that nobody wants any more, unless it is being carried over. One that the end of the daemon cuts
        short is left to the next."""
        grip = self._finishing.get(request)
        if grip is not None and not self.closing:
            grip.take_back(why)

    async def close(self, *, leave: bool, late: bool = False) -> None:
        """Stops carrying out: what is under way in threads is finished, suites are ended or, with `leave`, left running. Where it
        is `late`, a git that still reads what a worker left is ended; the next daemon collects that."""
        self.closing, self.leaving = True, leave
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.workers.close()
        finished = self.loop.run_in_executor(None, self._threads.shutdown)
        while late and not finished.done():
            git.end_readers()
            await asyncio.wait({finished}, timeout=LATE_LOOK_S)
        await finished
        self.edges.close()

    # --- the machine

    async def _measure_host(self, command: cmd.MeasureHost) -> m.Event:
        """Looks at the machine; with a target, until it would allow another width or nobody wants to know any more."""
        await self.begins.wait()
        while True:
            limits = self.limits()
            readings, why = await self.in_thread(self.gauge.look)
            if command.target is None or not self.wants_readings() or self._has_room(readings):
                break
            if admission.width(readings, limits=limits, previous=command.target) != command.target:
                break
            await asyncio.sleep(limits.readings_every_s)
        taken = self.workers.memory.taken(self.growing())
        return m.HostMeasured(at=self.clock(), readings=readings, trouble=why, taken=taken)

    def _has_room(self, readings: Readings) -> bool:
        """Tells whether there is now the memory that a start waits for, besides what those that run still grow by."""
        wanted, growing = self.wanted_bytes(), self.growing()
        taken = {(run, task, n): size for run, task, n, size in self.workers.memory.taken(growing)}
        return 0 < wanted <= readings.memory_available_bytes - admission.to_grow(growing, taken)

    def _is_news(self, readings: Readings) -> bool:
        """Tells whether readings say of memory what is not known yet."""
        known = self.pressure()
        return admission.pressure(readings, self.limits(), before=known) is not known

    # --- worktrees

    def _take_worktree(self, command: cmd.TakeWorktree) -> m.Event:
        self._spared = None
        path = self.edges.pool.take(lease_key(command), command.base)
        return m.WorktreeReady(at=self.clock(), **command.about, path=str(path))

    def _give_back_worktree(self, command: cmd.GiveBackWorktree) -> m.Event:
        if not command.keep:
            place = self.edges.pool.give_back(lease_key(command), at=self.clock())
            if place is not None:
                _log.warning("worktree.saved", task=command.task, attempt=command.attempt, place=place)
                return m.WorktreeReturned(at=self.clock(), **command.about, saved=place)
        return m.WorktreeReturned(at=self.clock(), **command.about)

    # --- staging

    def _verifier(self) -> Verifier:
        edges = self.edges
        return Verifier(
            edges.places,
            edges.scratch,
            edges.environ,
            self.in_thread,
            self.workers.watcher.exited,
            lambda: self.leaving,
            self._suites_room,
            Remembered(edges.places.remembered, edges.settings.verify.remember_s),
            self.workers.oversight.bounding,
            edges.rooms,
        )

    async def _verify(self, command: cmd.Verify) -> m.Event:
        """Verifies a candidate once what is left of an earlier verification of the attempt has ended: they share a worktree."""
        key, mine = (command.run, command.task, command.attempt), asyncio.current_task()
        before = self._verifying.get(key)
        assert mine is not None
        self._verifying[key] = mine
        try:
            if before is not None:
                before.cancel()
                await to_its_end(asyncio.wait([before]))  # and not to what it raises
            found = await self._verifier().verify(
                lease_key(command),
                self.edges.nonce(command),
                self.edges.attempt(command),
                command.candidate,
                command.suites,
                again=command.again,
            )
        finally:
            if self._verifying.get(key) is mine:
                del self._verifying[key]
        return m.Verified(
            at=self.clock(),
            **command.about,
            candidate=command.candidate,
            suites=found.suites,
            trouble=found.trouble,
            again=command.again,
        )

    async def _look_at_staging(self, command: cmd.LookAtStaging) -> m.Event | None:
        """Looks at staging in the user's repository; where something is known of it, until there is something else to tell."""
        lookout, worktree = self.lander.lookout(), self.edges.staging_worktree(command.run)
        mend = not command.known
        while True:
            seen = await self.in_thread(
                lambda: lookout.look(command.run, command.published, worktree, mend=mend)
            )
            if seen.known != command.known:
                break
            await asyncio.sleep(LOOK_EVERY_S)
            if command.run in self._discarding:
                return None  # nobody wants to know any more
        return m.StagingSeen(at=self.clock(), run=command.run, command="LookAtStaging", seen=seen)

    def _finish(self, command: cmd.Finish) -> Coroutine[Any, Any, m.Event]:
        """Finishes; from the moment that the command is given it can be taken back."""
        grip = self._finishing[command.request] = Grip()
        return self._finish_held(command, grip)

    async def _finish_held(self, command: cmd.Finish, grip: Grip) -> m.Event:
        edges = self.edges
        finisher = Finisher(edges.repository, edges.landing, edges.refs, edges.places, self._verifier())
        try:
            return await finisher.finish(
                command, self.in_thread, self.clock, edges.places.nonce_head, grip, self._finish_turn
            )
        finally:
            del self._finishing[command.request]

    async def _discard(self, command: cmd.Discard) -> m.Event:
        """Removes a run once nothing of it is under way any more, so that nothing is written after it."""
        self._discarding.add(command.run)
        while True:
            self._one_ended.clear()
            if tasks := [task for task, run in self._tasks.items() if run == command.run]:
                await asyncio.wait(tasks)
            elif command.run in [*self._under_way.values()]:
                await self._one_ended.wait()
            else:
                break
        await self.in_thread(lambda: self.discarder().remove(command))
        self._discarding.discard(command.run)
        return m.Discarded(at=self.clock(), run=command.run)


def _run_of(command: cmd.Command) -> str:
    """Gives the run that a command is about, "" where it is none, or is what waits for the others."""
    return command.run if isinstance(command, cmd.RunCommand) and not isinstance(command, cmd.Discard) else ""

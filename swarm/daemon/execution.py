"""Carries commands out: each uses an edge and is answered by exactly one event.

Blocking work goes to threads; a worker that runs costs no thread, its end is a descriptor in the event loop. Whatever an edge
raises becomes a `CommandFailed`, which the machine tries again, so no command is ever left without its answer.

Rules for editing: nothing is decided here. Every function may be called twice for the same command, after a crash: it first looks
whether the work is done. Paths, names and limits come from the command or from the settings, never from "now".
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarm import log
from swarm.core import admission
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.adapters import Agent
from swarm.core.model import Limits, Readings, Reason
from swarm.core.places import AttemptPlaces, Places
from swarm.core.streams import outcome
from swarm.crashpoints import crash_at
from swarm.daemon import collecting, rooms
from swarm.daemon.discarding import Discarder
from swarm.daemon.finishing import Finisher
from swarm.daemon.gauge import NO_ROOM, Gauge
from swarm.daemon.listening import Ears
from swarm.daemon.memory import MemoryWatch
from swarm.daemon.oversight import Oversight
from swarm.daemon.verification import Verifier
from swarm.daemon.watching import Key, Watched, Watcher, key_of
from swarm.edge import contract, git, heard, process, sandbox, trouble
from swarm.edge.host import Host
from swarm.edge.landing import LandingRepository, StagingBranchMoved
from swarm.edge.lockfile import MergeLockHeld, exclusive
from swarm.edge.lookout import Lookout
from swarm.edge.merging import Conflict
from swarm.edge.proctable import Stat
from swarm.edge.remembered import Remembered
from swarm.edge.standstill import Standstill
from swarm.edge.suite_rooms import NO_ROOMS, Rooms
from swarm.edge.worktrees import Pool
from swarm.errors import SwarmError
from swarm.settings import Settings
from swarm.worker import agents

VERSIONS_MAX = 50  # of paths in conflict, that are told
THREADS = 16  # git waits on the disk and on the other core; more only queue elsewhere
AGAIN_S = 2.0  # after which a worktree that could not be given back is given back again
RETURNS_MAX = 5  # so often, save where the machine lacks something
LOOK_EVERY_S = 1.0  # while staging has gone astray
LEFTOVER_GRACE_S = 1.0  # for what a worker that has ended left running
_log = log.get("execution")

Post = Callable[[m.Event], None]


@dataclass(slots=True)
class Edges:
    """Everything outside that commands are carried out with."""

    places: Places
    repository: git.Repository
    settings: Settings
    pool: Pool
    scratch: Pool
    landing: LandingRepository
    refs: git.Refs
    host: Host
    agents: Mapping[str, Agent]
    environ: Mapping[str, str]
    identity: tuple[str, str] | None = None
    sandbox: sandbox.Sandbox = sandbox.NO_SANDBOX
    rooms: Rooms = NO_ROOMS

    @property
    def disks(self) -> tuple[Path, ...]:
        """Folders on every disk that is written to."""
        return self.places.state, self.pool.root.parent, self.repository.working_top()

    def close(self) -> None:
        """Ends the standing helpers."""
        for edge in (self.pool, self.scratch, self.landing, self.refs):
            edge.close()


def started_threads(number: int, name: str) -> ThreadPoolExecutor:
    """Gives threads that are all there already: one that could not be made later would lose what it was to do.

    Raises `RuntimeError` where the machine does not let so many be made.
    """
    pool, all_there = ThreadPoolExecutor(number, name), threading.Barrier(number)
    try:
        for _ in range(number):
            pool.submit(all_there.wait)
    except RuntimeError:
        all_there.abort()
        pool.shutdown(wait=False)
        raise
    return pool


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
    _threads: ThreadPoolExecutor = field(default_factory=lambda: started_threads(THREADS, "edge"))
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _discarding: set[str] = field(default_factory=set)
    _of_run: dict[str, set[Future[None] | asyncio.Future[None]]] = field(default_factory=dict)  # under way
    _verifying: dict[tuple[str, str, int], asyncio.Task[Any]] = field(default_factory=dict)
    _returns: Counter[str] = field(default_factory=Counter)  # failed ones
    _under_way: set[int] = field(default_factory=set)  # ids of the commands that threads are at
    _spared: str | None = None
    begins: asyncio.Event = field(default_factory=asyncio.Event)  # without readings nothing new is started
    closing: bool = False
    leaving: bool = False
    gauge: Gauge = field(init=False)
    watcher: Watcher = field(init=False)
    memory: MemoryWatch = field(init=False)
    ears: Ears = field(init=False)
    oversight: Oversight = field(init=False)
    _standstill: Standstill[Key] = field(default_factory=Standstill)
    _suites_room: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._suites_room = asyncio.Semaphore(self.edges.settings.verify.suites_max)
        self.watcher = Watcher(
            self.loop, self._start, lambda command: self._places(command).worker, self._worker_exited
        )
        limits = self.edges.settings.limits
        self.gauge = Gauge(self.edges.host, limits, self.clock)
        self.oversight = Oversight(
            self.watcher,
            self.in_thread,
            self.post,
            self.clock,
            output_bytes_max=limits.output_bytes_max,
            processes_max=limits.processes_max,
        )
        self.memory = MemoryWatch(
            self.watcher, self.in_thread, self._tree_of, self.gauge.look, self._is_news, self.post, self.clock
        )
        self.ears = Ears(self.loop, self.clock, self.in_thread, self.edges.places)

    # --- dispatch

    def carry_out(self, command: cmd.Command) -> None:
        """Starts a command; returns at once. Its answer comes by `post`. When closing, the next daemon will do it."""
        if self.closing:
            return
        kind = type(command)
        if kind in _IN_THREAD:
            self._start(functools.partial(_IN_THREAD[kind], self), command)
        elif kind in _IN_LOOP:
            self._spawn(_IN_LOOP[kind](self, command), command)
        else:
            _AT_ONCE[kind](self, command)

    def discarder(self) -> Discarder:
        """Gives what discards runs."""
        edges = self.edges
        return Discarder(edges.repository, edges.pool, edges.landing, edges.refs, edges.places)

    def _note(self, command: cmd.Command, done: Future[None] | asyncio.Future[None]) -> None:
        """Remembers what is under way for a run, so that its end can be waited for. A thread does not tell the loop of it, whose
        waking costs more than this."""
        if isinstance(command, cmd.RunCommand) and not isinstance(command, cmd.Discard):
            under_way = self._of_run.setdefault(command.run, set())
            under_way.add(done)
            done.add_done_callback(under_way.discard)

    def _start(self, work: Callable[[Any], m.Event | None], command: cmd.Command) -> None:
        """Has blocking work done in a thread; what it gives is posted."""
        if not self.closing:
            self._under_way.add(id(command))
            done = self._threads.submit(self._in_thread, work, command)
            self._note(command, done)

    def _in_thread(self, work: Callable[[Any], m.Event | None], command: cmd.Command) -> None:
        try:
            event = work(command)
        except BaseException as error:
            event = self._failed(command, error)
        self._under_way.discard(id(command))
        if event is not None:
            self.post(event)

    def make_ready(self, next_base: Callable[[], str | None]) -> None:
        """Has a worktree made ready for the next start, where there is nothing else to do; called when all is taken in."""
        if self._under_way or self.closing or not self.edges.settings.worktrees.spare:
            return
        base = next_base()
        if base is not None and base != self._spared:
            self._spared = base
            self._threads.submit(self._make_ready, base)

    def _make_ready(self, base: str) -> None:
        try:
            self.edges.pool.spare(1, base)
        except (SwarmError, OSError) as error:
            _log.warning(
                "worktree.no_spare", reason=str(error)
            )  # the next start makes it, or says what is wrong

    def _spawn(self, work: Coroutine[Any, Any, m.Event | None], command: cmd.Command) -> None:
        task = self.loop.create_task(self._answered(work, command))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._note(command, task)

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
        if isinstance(command, cmd.GiveBackWorktree):
            self._returns[self._key(command)] += 1
            if (
                lacks or self._returns[self._key(command)] < RETURNS_MAX
            ):  # work that nobody has collected may lie in it
                self.loop.call_soon_threadsafe(self.loop.call_later, AGAIN_S, self.carry_out, command)
                return None
            return m.WorktreeReturned(at=at, run=command.run, task=command.task, attempt=command.attempt)
        if isinstance(command, cmd.AttemptCommand):
            may_run = isinstance(command, cmd.StartWorker) and self._may_run(command)
            return m.CommandFailed(
                at=at, command=kind, text=text, trouble=lacks, may_run=may_run, **_where(command)
            )
        if isinstance(command, cmd.Finish):
            reason = Reason("error", text)
            return m.FinishRefused(
                at=at, run=command.run, request=command.request, target=command.target, reason=reason
            )
        if isinstance(command, cmd.MeasureHost):
            return m.HostMeasured(at=at, readings=NO_ROOM, trouble=lacks or text)
        assert isinstance(command, cmd.RunCommand)
        return m.RunCommandFailed(at=at, run=command.run, command=kind, text=text, trouble=lacks)

    def in_thread(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Does blocking work in a thread; awaited in the loop."""
        return self.loop.run_in_executor(self._threads, work)

    def drop_verification(self, run: str, task: str, attempt: int) -> None:
        """Ends the suites of an attempt of which nobody wants to hear any more."""
        running = self._verifying.get((run, task, attempt))
        if running is not None:
            running.cancel()

    async def close(self, *, leave: bool) -> None:
        """Stops carrying out: what is under way in threads is finished, suites are ended or, with `leave`, left running."""
        self.closing, self.leaving = True, leave
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.memory.close()
        self.oversight.close()
        self.watcher.close()
        self.ears.close()
        await self.loop.run_in_executor(None, self._threads.shutdown)
        self.edges.close()

    # --- names

    def _key(self, command: cmd.AttemptCommand) -> str:
        return f"{command.run}/{command.task}/{command.attempt}"

    def nonce(self, command: cmd.AttemptCommand) -> str:
        """Names a worker in the environment of all its processes; the same after a restart of the daemon."""
        return self.edges.places.nonce(command.run, command.task, command.attempt)

    def _places(self, command: cmd.AttemptCommand) -> AttemptPlaces:
        return self.edges.places.attempt(command.run, command.task, command.attempt)

    def _tree_of(self, command: cmd.AttemptCommand, identity: process.Identity | None) -> Mapping[int, Stat]:
        """Looks for all processes of a worker."""
        return process.tree_of(self.nonce(command), identity, folder=self._places(command).worker)

    # --- the machine

    async def _measure_host(self, command: cmd.MeasureHost) -> m.Event:
        """Looks at the machine; with a target, until it would allow another width or nobody wants to know any more."""
        await self.begins.wait()
        while True:
            limits = self.limits()
            readings, why = await self.in_thread(self.gauge.look)
            if command.target is None or not self.wants_readings():
                break
            if admission.width(readings, limits=limits, previous=command.target) != command.target:
                break
            await asyncio.sleep(limits.readings_every_s)
        return m.HostMeasured(at=self.clock(), readings=readings, trouble=why)

    def _is_news(self, readings: Readings) -> bool:
        """Tells whether readings say of memory what is not known yet."""
        known = self.pressure()
        return admission.pressure(readings, self.limits(), before=known) is not known

    # --- worktrees and workers

    def _take_worktree(self, command: cmd.TakeWorktree) -> m.Event:
        self._spared = None
        path = self.edges.pool.take(self._key(command), command.base)
        return m.WorktreeReady(at=self.clock(), **_where(command), path=str(path))

    def _give_back_worktree(self, command: cmd.GiveBackWorktree) -> m.Event:
        if not command.keep:
            place = self.edges.pool.give_back(self._key(command), at=self.clock())
            if place is not None:
                _log.warning("worktree.saved", task=command.task, attempt=command.attempt, place=place)
                return m.WorktreeReturned(at=self.clock(), **_where(command), saved=place)
        return m.WorktreeReturned(at=self.clock(), **_where(command))

    def _start_worker(self, command: cmd.StartWorker) -> m.Event:
        """Starts a worker, once: one that a daemon which was killed, or a try that failed, has started is taken as it is."""
        places = self._places(command)
        identity = process.started(places.worker) or self._start_anew(command)
        self.watcher.started(command, identity)
        self.ears.add(command)
        crash_at("worker.known")
        return m.WorkerStarted(
            at=self.clock(),
            **_where(command),
            pid=identity.pid,
            started_at=self.clock(),
            sandbox=self.edges.sandbox.name if places.own.exists() else sandbox.NONE,
        )

    def _may_run(self, command: cmd.StartWorker) -> bool:
        """Tells whether a worker was started although its start failed; where that can't be seen, one may have been."""
        folder = self._places(command).worker
        try:
            return process.started(folder) is not None or bool(
                process.members(self.nonce(command), None, folder=folder)
            )
        except (SwarmError, OSError):
            return True

    def _start_anew(self, command: cmd.StartWorker) -> process.Identity:
        places, spec = self._places(command), command.spec
        os.makedirs(places.worker, mode=0o700, exist_ok=True)
        before = self.ears.interrupted(command, self.edges.agents)
        prompt = agents.prompt_text(spec, command.feedback, before)
        places.prompt.write_text(prompt, "utf-8", "replace")
        feedback = None
        if command.feedback or command.attempt > 1:
            feedback = places.feedback
            feedback.write_text("\n\n".join(command.feedback) + "\n", "utf-8", "replace")
        crash_at("worker.told")
        session = before.session if before is not None else ""
        called = agents.call(
            spec,
            self.edges.agents,
            places.prompt,
            prompt,
            again=command.again,
            session=session,
            shut_in=self.edges.sandbox.shuts_in,
        )
        heard.note_format(places, called.parser, command.worktree)
        shut_in, agent = self.edges.sandbox, self.edges.agents.get(spec.agent)
        prefix = rooms.shut_in(command, agent, self.edges, places, self._key(command))
        env = contract.environment(
            shut_in.environment(self.edges.environ, places.own, agent) if prefix else self.edges.environ,
            run=command.run,
            task=spec.id,
            attempt=command.attempt,
            worktree=Path(command.worktree),
            base_commit=command.base,
            claims=command.claims,
            prompt_file=places.prompt,
            result_file=places.own_result if prefix else places.result,
            slot=command.slot,
            feedback_file=feedback,
            ports_from=self.edges.settings.ports.base,
            ports_each=self.edges.settings.ports.step,
            keys=called.keys,
        )
        return process.start(
            places.worker,
            called.argv,
            cwd=Path(command.worktree),
            env={**env, **called.env},
            nonce=self.nonce(command),
            output=places.output,
            stdin=called.stdin,
            prefix=prefix,
        )

    def _watch_worker(self, command: cmd.WatchWorker) -> None:
        if not self.watcher.knows(command):
            self._start(self.ears.add, command)
        self.watcher.watch(command)
        self.memory.watch(command)
        self.oversight.watch(command, self._places(command).output)

    def _suspend_worker(self, command: cmd.SuspendWorker) -> None:
        self._stand(command, still=True)

    def _thaw_worker(self, command: cmd.ThawWorker) -> None:
        self._stand(command, still=False)

    def _stand(self, command: cmd.WatchWorker, *, still: bool) -> None:
        """Has a worker stand still or go on; its watch answers, which is begun where there is none, as after a restart."""
        self._watch_worker(command)
        self._standstill.want(key_of(command), still=still)
        self._start(self._do_stand, command)

    def _do_stand(self, command: cmd.WatchWorker) -> None:
        identity = process.started(self._places(command).worker)
        crash_at("worker.standing")
        find = functools.partial(self._tree_of, command, identity)
        if not self._standstill.carry_out(key_of(command), identity, find):
            _log.warning("worker.moves", task=command.task, attempt=command.attempt)
        crash_at("worker.stood")

    def _worker_exited(self, command: cmd.AttemptCommand, ended: Watched) -> m.Event:
        """Ends what the worker left running, and reads what it left behind."""
        lacks = trouble.of_disks(self.edges.disks)  # now: what it left may go, and make room
        identity = ended.identity
        places = self._places(command)
        self._standstill.free(key_of(command))
        crash_at("worker.exited")
        if identity is not None:
            process.reap(identity, ended.handle)
        nonce = self.nonce(command)
        if process.members(nonce, identity, folder=places.worker):
            _log.info("worker.leftovers", task=command.task, attempt=command.attempt)
            process.end_tree(identity, nonce, folder=places.worker, grace_s=LEFTOVER_GRACE_S)
        crash_at("worker.swept")
        sandbox.take_out(places)
        said = process.exit_of(places.worker)
        result, problem = contract.read_result(places.result)
        if problem:
            _log.warning("worker.result", task=command.task, attempt=command.attempt, problem=problem)
        code = said.code if said is not None else None
        at = self.clock()
        words = self.ears.take(command, said.at if said is not None else at)
        if words is not None:
            code, result = outcome(words, code, result, at)
        return m.WorkerExited(
            at=at,
            **_where(command),
            exit_code=code,
            result=result,
            trouble=lacks,
            memory_bytes=self.memory.most_of(command),
            jitter=random.random(),  # noqa: S311  (nobody is to be kept from guessing it)
        )

    def _end_worker(self, command: cmd.EndWorker) -> None:
        """Ends a worker's whole tree; the watch answers, which is begun where there is none, as after a restart."""
        watched = self.watcher.watches(command)
        self._standstill.free(key_of(command))
        self._start(lambda command: self._end_tree(command, watched), command)

    def _end_tree(self, command: cmd.EndWorker, watched: bool) -> None:
        places, nonce = self._places(command), self.nonce(command)
        identity = process.started(places.worker)
        crash_at("worker.ending")
        self._standstill.settled()
        gone = process.end_tree(identity, nonce, folder=places.worker, grace_s=command.grace_s)
        crash_at("worker.ended")
        if not gone:
            _log.error("worker.survives", task=command.task, attempt=command.attempt, why=command.why)
        if not watched:
            self.loop.call_soon_threadsafe(self.watcher.watch, command)

    def _collect(self, command: cmd.Collect) -> m.Event:
        return collecting.collect(command, self.edges, self.clock)

    # --- landing

    def _prepare_run(self, command: cmd.PrepareRun) -> m.Event:
        landing = self.edges.landing
        with exclusive(self.edges.places.merge_lock, kind=MergeLockHeld):
            landing.seed(command.run, command.base)
        crash_at("prepare.seeded")
        landing.publish(
            command.run, command.base, command.base
        )  # the branch is there before the first landing
        crash_at("prepare.published")
        worktree = self.staging_worktree(command.run)
        self.edges.pool.prepare_staging(worktree, command.base)
        return m.RunPrepared(at=self.clock(), run=command.run, commit=command.base, worktree=str(worktree))

    def staging_worktree(self, run: str) -> Path:
        """Gives where a run's staging worktree is."""
        root = Path(self.edges.settings.worktrees.root)
        return self.edges.repository.working_top() / root / run / "staging"

    def _bring_in(self, command: cmd.BringIn) -> m.Event:
        collecting.bring_in(command, self.edges)
        return m.BroughtIn(at=self.clock(), **_where(command))

    def _merge(self, command: cmd.Merge) -> m.Event:
        landing = self.edges.landing
        merged = landing.merge_attempt(command.onto, command.head, run=command.run, base=command.base)
        if isinstance(merged, Conflict):
            if command.by_hand:  # whoever made it can only settle it with what it conflicts with
                landing.hand_over(command.run, command.onto, command.base)
            return self._conflicted(m.MergeConflicted, command, merged)
        message = landing_message(command)
        candidate = landing.candidate(merged.tree, command.onto, command.head, message=message, at=command.at)
        return m.CandidateMade(at=self.clock(), **_where(command), onto=command.onto, candidate=candidate)

    def _rebase(self, command: cmd.Rebase) -> m.Event:
        landing = self.edges.landing
        made = landing.rebase(command.head, command.base, command.onto, command.at)
        if isinstance(
            made, Conflict
        ):  # told is what conflicts of the work as a whole, not of the commit it stopped at
            whole = landing.merge_attempt(command.onto, command.head, run=command.run, base=command.base)
            return self._conflicted(
                m.RebaseConflicted, command, whole if isinstance(whole, Conflict) else made
            )
        return m.Rebased(at=self.clock(), **_where(command), onto=command.onto, head=made.head)

    def _revert(self, command: cmd.Revert) -> m.Event:
        landings = [commit for _, commit in command.landings]
        message = undo_message(command)
        made = self.edges.landing.revert(command.onto, landings, message=message, at=command.at)
        if isinstance(made, Conflict):
            return self._conflicted(m.MergeConflicted, command, made)
        return m.CandidateMade(at=self.clock(), **_where(command), onto=command.onto, candidate=made)

    def _conflicted(
        self,
        kind: type[m.MergeConflicted] | type[m.RebaseConflicted],
        command: cmd.Merge | cmd.Rebase | cmd.Revert,
        found: Conflict,
    ) -> m.Event:
        since = command.landings[-1][1] if isinstance(command, cmd.Revert) else command.base
        landings = self.edges.landing.touched_by(found.paths, since=since, until=command.onto)
        return kind(
            at=self.clock(),
            **_where(command),
            onto=command.onto,
            paths=tuple(found.paths),
            landings=tuple(landings),
            versions=found.sides()[:VERSIONS_MAX],
            why="" if found.blobs else "; ".join(found.messages),
        )

    def _verifier(self) -> Verifier:
        edges = self.edges
        return Verifier(
            edges.places,
            edges.scratch,
            edges.environ,
            self.in_thread,
            self.watcher.exited,
            lambda: self.leaving,
            self._suites_room,
            Remembered(edges.places.remembered, edges.settings.verify.remember_s),
            self.oversight.bounding,
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
                await _ended(before)
            found = await self._verifier().verify(
                self._key(command),
                self.nonce(command),
                self._places(command),
                command.candidate,
                command.suites,
                again=command.again,
            )
        finally:
            if self._verifying.get(key) is mine:
                del self._verifying[key]
        return m.Verified(
            at=self.clock(),
            **_where(command),
            candidate=command.candidate,
            suites=found.suites,
            trouble=found.trouble,
            again=command.again,
        )

    def _advance(self, command: cmd.Advance) -> m.Event:
        landing = self.edges.landing
        if command.reverts:
            landing.check_revert(command.new, command.old, command.reverts)
        alone = (command.new, command.old, command.head, command.base)
        for new, old, head, base in () if command.reverts else command.over or (alone,):
            landing.check(new, old, head, base, run=command.run)
        with exclusive(self.edges.places.merge_lock, kind=MergeLockHeld) as held:
            found = landing.advance(command.run, command.new, command.old, lock=held)
        if found is not None:
            return m.StagingMoved(at=self.clock(), **_where(command), found=found)
        return m.StagingAdvanced(at=self.clock(), **_where(command), candidate=command.new)

    def _publish(self, command: cmd.Publish) -> m.Event:
        try:
            self.edges.landing.publish(command.run, command.commit, command.old)
        except StagingBranchMoved:
            seen = self._lookout().look(command.run, command.published, self.staging_worktree(command.run))
            return m.StagingSeen(at=self.clock(), run=command.run, command="Publish", seen=seen)
        return m.Published(at=self.clock(), run=command.run, commit=command.commit)

    def _lookout(self) -> Lookout:
        return Lookout(self.edges.repository, self.edges.landing, self.edges.pool.objects)

    async def _look_at_staging(self, command: cmd.LookAtStaging) -> m.Event | None:
        """Looks at staging in the user's repository; where something is known of it, until there is something else to tell."""
        lookout, worktree = self._lookout(), self.staging_worktree(command.run)
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

    def _follow(self, command: cmd.Follow) -> m.Event:
        worktree = self.staging_worktree(command.run)
        reason = self.edges.pool.follow(worktree, command.old, command.commit, command.by_hand)
        return m.Followed(at=self.clock(), run=command.run, commit=command.commit, reason=reason)

    async def _finish(self, command: cmd.Finish) -> m.Event:
        finisher = Finisher(
            self.edges.repository, self.edges.landing, self.edges.refs, self.edges.places, self._verifier()
        )
        return await finisher.finish(command, self.in_thread, self.clock, self.edges.places.nonce_head)

    async def _discard(self, command: cmd.Discard) -> m.Event:
        """Removes a run once nothing of it is under way any more, so that nothing is written after it."""
        self._discarding.add(command.run)
        while under_way := list(self._of_run.get(command.run, ())):
            await asyncio.wait([_awaitable(each) for each in under_way])
        self._of_run.pop(command.run, None)
        await self.in_thread(lambda: self.discarder().remove(command))
        self._discarding.discard(command.run)
        return m.Discarded(at=self.clock(), run=command.run)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Waits until a task has ended, even where nobody wants to wait any more: whoever comes next waits for this one alone."""
    unwanted = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            unwanted = True
    if unwanted:
        raise asyncio.CancelledError


def _awaitable(done: Future[None] | asyncio.Future[None]) -> asyncio.Future[None]:
    return done if isinstance(done, asyncio.Future) else asyncio.wrap_future(done)


def _where(command: cmd.AttemptCommand) -> dict[str, Any]:
    return {"run": command.run, "task": command.task, "attempt": command.attempt}


def landing_message(command: cmd.Merge) -> str:
    """Writes the message of a landing: subject and trailers of the public contract, section 3."""
    title = " ".join(command.title.split()) or command.task
    verified = ", ".join(command.verified) or "none"
    by_hand = "Swarm-By-Hand: yes\n" if command.by_hand else ""
    if command.batch:
        last = command.batch[-1]
        with_it = f"Swarm-Batch: {', '.join(command.batch)}\n"
        by_hand = with_it if command.task == last else f"Swarm-Verified-With: {last}\n"
    return (
        f"Land {command.task}: {title}\n\nSwarm-Run: {command.run}\nSwarm-Task: {command.task}\n"
        f"Swarm-Attempt: {command.attempt}\nSwarm-Verified: {verified}\n{by_hand}"
    )


def undo_message(command: cmd.Revert) -> str:
    """Writes the message of an undo: subject and trailers of the public contract, section 3."""
    title = " ".join(command.title.split()) or command.task
    undone = "".join(f"Swarm-Undo: {task}\n" for task, _ in command.landings)
    verified = ", ".join(command.verified) or "none"
    return f"Undo {command.task}: {title}\n\nSwarm-Run: {command.run}\n{undone}Swarm-Verified: {verified}\n"


_IN_LOOP: dict[type[cmd.Command], Callable[[Execution, Any], Coroutine[Any, Any, m.Event | None]]] = {
    cmd.MeasureHost: Execution._measure_host,
    cmd.Verify: Execution._verify,
    cmd.Finish: Execution._finish,
    cmd.LookAtStaging: Execution._look_at_staging,
    cmd.Discard: Execution._discard,
}
_AT_ONCE: dict[type[cmd.Command], Callable[[Execution, Any], None]] = {
    cmd.WatchWorker: Execution._watch_worker,
    cmd.SuspendWorker: Execution._suspend_worker,
    cmd.ThawWorker: Execution._thaw_worker,
    cmd.EndWorker: Execution._end_worker,
}
_IN_THREAD: dict[type[cmd.Command], Callable[[Execution, Any], m.Event | None]] = {
    cmd.TakeWorktree: Execution._take_worktree,
    cmd.GiveBackWorktree: Execution._give_back_worktree,
    cmd.StartWorker: Execution._start_worker,
    cmd.Collect: Execution._collect,
    cmd.PrepareRun: Execution._prepare_run,
    cmd.BringIn: Execution._bring_in,
    cmd.Merge: Execution._merge,
    cmd.Rebase: Execution._rebase,
    cmd.Revert: Execution._revert,
    cmd.Advance: Execution._advance,
    cmd.Publish: Execution._publish,
    cmd.Follow: Execution._follow,
}

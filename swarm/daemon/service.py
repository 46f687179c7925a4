"""The daemon's life: one per repository, up in order, ready when its socket answers, down in order.

Up: lock, settings, journal, replay, socket, then the commands that are outstanding. Down: no new starts, workers ended (or left to
the next daemon), edges closed, journal closed, socket removed, lock freed by the kernel at the very end.

Rules for editing: the lock is taken before anything is looked at and is never given up by hand. A signal does what `swarm stop`
does. Nothing here wakes up without a cause: uvicorn's ticking main loop is replaced by waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import uvicorn

import swarm as package
from swarm import config, log, protocol
from swarm.core import memory, report
from swarm.core import messages as m
from swarm.core.model import WORKER_STEPS, Finding
from swarm.core.places import Places, state_of
from swarm.core.state import next_base, wants_readings
from swarm.crashpoints import crash_at
from swarm.daemon import api, door, intake, rebuild, reconcile, recovery, refounding, threads
from swarm.daemon.backlog import Backlog
from swarm.daemon.closing import Wishes
from swarm.daemon.coordinator import Coordinator
from swarm.daemon.edges import Edges
from swarm.daemon.execution import Execution
from swarm.daemon.finishing import STOPPED
from swarm.daemon.foreseeing import Foreseeing
from swarm.daemon.hooks import Hooks
from swarm.daemon.losses import Losses
from swarm.daemon.presence import Presence, hold
from swarm.daemon.reclaiming import Reclaiming
from swarm.daemon.submitting import Submitter
from swarm.daemon.supervised import Supervised
from swarm.daemon.tidying import Tidying
from swarm.dataclass import dataclass
from swarm.edge import git, last_status, process, sandbox, suite_rooms
from swarm.edge.lockfile import LockTaken
from swarm.edge.place import write_whole
from swarm.edge.supervisor import Supervisor
from swarm.edge.trouble import explained
from swarm.errors import SwarmError
from swarm.settings import Settings

IDLE_S = 1.0  # how long a daemon that was started for one run stays after its end, so that those who wait hear of it
NEVER_USED_S = 60.0  # … and how long it waits to be asked for anything
LOOK_EVERY_S = 0.05  # … whether what was asked is answered
API_THREADS = 6  # for what requests look up in files and processes
M_ARENA_MAX = -8  # of malloc.h
STOP_S = 60.0  # after this a stop goes on although something has not answered
NOW_S = 20.0  # and one that is to be at once
HASTE = {"drain": 0, "graceful": 1, "now": 2, "leave-workers": 2}  # of the modes of a stop
_log = log.get("service")


@dataclass(frozen=True, slots=True)
class Options:
    """How a daemon is started: for which checkout, with settings from flags, and whether it ends by itself when all is done. One
    that does not begin work was started to be asked something: it starts nothing new and ends when it has answered, unless it is
    given work."""

    top: Path
    flags: Mapping[str, Any]
    ends_when_idle: bool = False
    begins_work: bool = True


class _Server(uvicorn.Server):
    """Serves without a tick and without taking over signals."""

    def __init__(self, settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self.over = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.over.wait()


class Service:
    """A daemon that runs; `stop` may be called by the API, by signals, or by itself when idle."""

    def __init__(self, options: Options, coordinator: Coordinator, execution: Execution) -> None:
        self.options = options
        self.coordinator = coordinator
        self.execution = execution
        self.submitter = Submitter(coordinator, execution.edges)
        self.wishes = Wishes()
        self.resumed = [run.finish for run in coordinator.swarm.runs.values() if run.finish is not None]
        self.ending: asyncio.Task[None] | None = None
        self._ends_by = ""  # the mode of that
        self.leave_workers = False
        self.late = False
        self.lost = False  # its place was taken away: nothing is written any more
        self.begins_again = False
        self.over = asyncio.Event()
        self.changing = 0  # requests for a change that are being answered
        self.used = asyncio.Event()  # one has been answered
        self.leaving = False
        self.idle: asyncio.Task[None] | None = None
        self.found: Sequence[Finding] = ()  # what was not as the journal has it when the daemon came up
        self.announce: Callable[[bool], object] = lambda _: None
        self.notes: Callable[[], Sequence[str]] = lambda: ()

    @property
    def closed(self) -> bool:
        """Whether it is too late to ask for a change: the next daemon takes it."""
        return self.leaving or self.over.is_set()

    def tell_found(self, found: Sequence[Finding]) -> None:
        """Writes what was found into the log, and what was mended into the journal as well."""
        for each in found:
            say = _log.info if each.mended else _log.warning
            say("recovery.found", kind=each.kind, text=each.text, remedy=each.remedy, mended=each.mended)
        mended = tuple(each for each in found if each.mended)
        if mended:
            self.coordinator.post(m.Recovered(at=self.coordinator.now(), found=mended))

    def stay(self) -> None:
        """Gives up the intention to end when idle: somebody started a daemon for good."""
        self.begin_work()
        if self.idle is not None:
            self.idle.cancel()
            self.idle = None
            self.announce(False)

    def lose(self, reason: str) -> None:
        """Ends the daemon, which is not the one of its repository any more, and leaves everything to the next one."""
        _log.error("presence.lost", reason=reason)
        self.lost = self.leave_workers = True
        self.over.set()

    def begin_again(self) -> None:
        """Ends the daemon like one that leaves its workers, and has it come up anew: then it founds what it has lost. One that is
        being stopped only ends."""
        if self.ending is None:
            _log.warning("service.begins_again")
            self.begins_again = self.leave_workers = True
            self.over.set()

    async def recover(self, *, dry_run: bool = False) -> Sequence[Finding]:
        """Holds worktrees, processes and refs against what the daemon knows, and mends what is not as it should be."""
        edges = self.execution.edges
        before = await asyncio.to_thread(lambda: reconcile.running(edges.places))
        must = reconcile.known(self.coordinator.swarm, edges.places, before, alone=False, asked=True)
        found = await asyncio.to_thread(lambda: reconcile.reconcile(must, edges, dry_run=dry_run))
        if not dry_run:
            self.tell_found(found)
        return found

    def stop(self, mode: str) -> None:
        """Begins to stop; a second request only makes it faster, one that would not is left to the first. See `swarm stop` for the
        modes. Where nothing can be remembered, workers are left to the next daemon, whatever was asked."""
        _log.info("stop.requested", mode=mode)
        self.begins_again = False
        if self.ending is not None and not self.ending.done():
            if mode == self._ends_by or HASTE[mode] < HASTE[self._ends_by]:
                _log.info("stop.goes_on", mode=self._ends_by)
                return
            self.ending.cancel()
        self._ends_by = mode
        self.ending = asyncio.get_running_loop().create_task(self._stop(mode))

    async def _stop(self, mode: str) -> None:
        coordinator = self.coordinator
        if mode != "drain" and coordinator.stuck is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NOW_S):
                    await self._give_up_finishes()
        ends, grace = mode != "drain", 0.0 if mode == "now" else None
        asked = m.StopRequested(at=coordinator.now(), end_workers=ends, grace_s=grace)
        if mode == "leave-workers" or not await self._remembered(asked):
            self.leave_workers = True
            self.over.set()
            return
        crash_at("stop.requested")
        try:
            async with asyncio.timeout(NOW_S if mode == "now" else STOP_S if ends else None):
                await coordinator.until(lambda: not self._busy(drain=not ends))
        except TimeoutError:
            self.late = True
            _log.error("stop.late", mode=mode)
        self.over.set()

    async def _remembered(self, event: m.Event) -> bool:
        """Tells whether an event of a stop is in the journal; not where nothing can be remembered, which may turn out with it."""
        try:
            await self.coordinator.ask(event, gives_up=True)
        except SwarmError as error:
            _log.warning("stop.not_remembered", reason=error.cause)
            return False
        return True

    async def _give_up_finishes(self) -> None:
        """Has all finishes given up that are not being carried over yet. One that nobody waits for, since the daemon that it was
        asked of was killed, only by a person's word: a daemon that leaves by itself leaves it to the next."""
        runs = self.coordinator.swarm.runs.values()
        under_way = [] if self.leaving else [run.finish for run in runs if run.finish is not None]
        for each in under_way:
            self.execution.take_back(each.request, STOPPED)
        await self.wishes.end()
        await self.coordinator.until(
            lambda: not any(run.finish in under_way and "Finish" not in run.failures for run in runs)
        )

    def _busy(self, *, drain: bool) -> bool:
        """Whether there is something to wait for: workers and what they leave, or, draining, all that is under way."""
        for run in self.coordinator.swarm.runs.values():
            moving = run.live or run.publishing_commit is not None or run.following is not None
            finishing = run.finish is not None and "Finish" not in run.failures
            # What waits for a person is not waited for.
            if drain and (moving or finishing) and not run.held_up():
                return True
            if any((a := run.tasks[name].live) and a.step in WORKER_STEPS for name in run.live):
                return True
        return False

    def begin_work(self) -> None:
        """Has a daemon start work that was started only to be asked something."""
        self.execution.begins.set()

    async def end_when_answered(self) -> None:
        """Waits until what was asked is answered, then ends the daemon and leaves the workers that it found; where it was given
        work meanwhile, it goes on until it is idle."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.used.wait(), NEVER_USED_S)
        while self.changing:
            await asyncio.sleep(LOOK_EVERY_S)
        # One that an earlier daemon had begun: the start has said that it goes on with it.
        await self.coordinator.until(
            lambda: not any(run.finish for run in self.coordinator.swarm.runs.values())
        )
        with contextlib.suppress(TimeoutError):  # what the answer was about may still have to be followed
            async with asyncio.timeout(STOP_S):
                await self.coordinator.until(self._stands_still)
        if self.execution.begins.is_set():
            await self.end_when_idle()
        else:
            self.leaving = True
            self.stop("leave-workers")

    def _stands_still(self) -> bool:
        """Whether no staging is on its way."""
        runs = self.coordinator.swarm.runs.values()
        return not any(run.publishing_commit or run.following for run in runs)

    async def end_when_idle(self) -> None:
        """Waits until somebody has asked for something and every run has ended, then ends the daemon."""
        coordinator = self.coordinator
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.used.wait(), NEVER_USED_S)
        while True:
            await coordinator.until(self.is_idle)
            await asyncio.sleep(IDLE_S)
            if self.is_idle() and not self.changing:
                self.leaving = True
                self.stop("drain")
                return

    def is_idle(self) -> bool:
        """Tells whether every run has ended, and nothing of it is under way."""
        runs = self.coordinator.swarm.runs.values()
        return not any(
            run.open_tasks
            or run.discarding
            or run.live
            or run.returning
            or run.finish
            or run.following
            or run.publishing_commit
            for run in runs
        )


# --- up and down ----------------------------------------------------------------------------------------------------


def serve(options: Options, environ: Mapping[str, str], starter: Starter | None = None) -> None:
    """Runs the daemon until it is told to stop. `starter` hears when the socket answers.

    Raises `LockTaken` when one runs for this repository already, `SwarmError` when it can't come up.
    """
    starter = starter or Starter()
    _share_memory()
    while _serve_once(options, environ, starter):
        pass


def _share_memory() -> None:
    """Has the threads take their memory from two places; from one each, as the C library has it, most of that stays unused."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_ARENA_MAX, 2)


def _serve_once(options: Options, environ: Mapping[str, str], starter: Starter) -> bool:
    """Comes up, serves and goes down; tells whether that is to be done again."""
    repository = git.Repository.discover(options.top)
    git.probe()
    with (
        explained("The daemon can't come up"),
        hold(Places(state_of(repository.common_dir)), environ) as presence,
    ):
        places = presence.places
        process.mark_own_programs(places.nonce_head)
        top = repository.working_top()
        presence.settings_given = protocol.settings_given(str(top), environ)
        settings = config.load(top, environ, options.flags)
        intake.check_worktrees(settings, repository)
        shut_in = sandbox.choose(settings, environ)
        os.chmod(places.state, 0o700)
        log.setup(places.log)
        return asyncio.run(_serve(options, environ, repository, presence, settings, starter, shut_in))


async def _serve(
    options: Options,
    environ: Mapping[str, str],
    repository: git.Repository,
    presence: Presence,
    settings: Settings,
    starter: Starter,
    shut_in: sandbox.Sandbox,
) -> bool:
    loop, places = asyncio.get_running_loop(), presence.places
    loop.set_default_executor(threads.executor(API_THREADS, "api"))
    journal = recovery.open_journal(places)
    crash_at("daemon.opened")
    listener: socket.socket | None = None
    try:
        journal.begin_epoch()
        swarm = recovery.restore(places, journal)
        swarm.move_to(str(repository.working_top()))  # as the event of this start will say
        gc.freeze()  # what is known by now stays: the collector need not look through it again and again
        gc.enable()
        crash_at("daemon.replayed")
        reconcile.refuse_moved_root(swarm, repository, settings)
        founded = refounding.set_aside(places)
        edges = reconcile.open_edges(places, repository, settings, environ, shut_in=shut_in)
        founded += refounding.refound(swarm, edges)
        rebuild.refuse_if_behind(swarm, edges.landing, repository)
        found = reconcile.reconcile(
            reconcile.known(swarm, places, reconcile.running(places), alone=True), edges
        )
        listener = presence.listen()
        crash_at("daemon.listening")
        coordinator = Coordinator(
            swarm,
            journal,
            lambda command: execution.carry_out(command),
            drop=lambda *attempt: execution.drop(*attempt),
        )
        execution = Execution(
            edges,
            coordinator.post_from_thread,
            coordinator.now,
            loop,
            wants_readings=lambda: wants_readings(swarm),
            limits=lambda: swarm.limits,
            pressure=lambda: swarm.pressure,
            growing=lambda: memory.growing(swarm),
            wanted_bytes=lambda: swarm.wanted_bytes,
        )
        service = Service(options, coordinator, execution)
        if options.begins_work:
            service.begin_work()
        service.found = [*founded, *found]
        await _run(service, presence, listener, starter)
        return service.begins_again
    finally:
        journal.close()
        if listener is not None:
            listener.close()


def _begin(coordinator: Coordinator, edges: Edges) -> None:
    """Puts down by what this daemon decides, and what workers are shut in by; logs where that is nothing."""
    shut_in, settings = edges.sandbox, edges.settings
    coordinator.begin(
        m.DaemonStarted(
            at=coordinator.now(),
            version=package.__version__,
            pid=os.getpid(),
            limits=config.to_limits(settings),
            rules=m.RULES,
            top=str(edges.repository.working_top()),
            sandbox=shut_in.name,
            sandbox_why="; ".join(filter(None, (shut_in.why, suite_rooms.weaker(shut_in, settings)))),
            boot=process.boot_id(),
            ahead_s=coordinator.ahead_s,
        )
    )
    if not shut_in.shuts_in:
        _log.warning("sandbox.none", why=shut_in.why)


async def _run(service: Service, presence: Presence, listener: socket.socket, starter: Starter) -> None:
    coordinator, execution, loop = service.coordinator, service.execution, asyncio.get_running_loop()
    places, settings = execution.edges.places, execution.edges.settings
    _listen_to_signals(service, loop)
    _begin(coordinator, execution.edges)
    crash_at("daemon.begun")
    service.tell_found(service.found)
    snapshots = recovery.Snapshots(places.snapshot, coordinator.journal)
    losses = Losses(places, coordinator.swarm, refound=service.begin_again, mend=service.recover)
    losses.watch()
    others = _look_at_rest(service, starter)
    looks = (losses.watch, *(each.at_rest for each in others))
    coordinator.at_rest = lambda: _at_rest(looks, snapshots, coordinator, execution)
    turning = loop.create_task(coordinator.run())
    hooks = Hooks(coordinator, settings.hooks, places, execution.edges.repository.working_top())
    service.notes = lambda: hooks.notes
    served = await _answer_at_sockets(service, presence, listener, execution.edges.sandbox)
    serving = served[0][1]
    ends_when_idle = service.options.ends_when_idle
    service.announce = lambda ends: presence.announce(ends_when_idle=ends)
    if ends_when_idle:
        begins = service.options.begins_work
        service.idle = loop.create_task(service.end_when_idle() if begins else service.end_when_answered())
    presence.watch(loop.add_reader, service.lose)
    places.failure.unlink(missing_ok=True)
    resumes = [{"run": each.run, "into": each.target} for each in service.resumed]
    starter.ready({**presence.announce(ends_when_idle=ends_when_idle), "resumes": resumes})
    crash_at("daemon.announced")
    over = loop.create_task(service.over.wait())
    await asyncio.wait({turning, over, serving}, return_when=asyncio.FIRST_COMPLETED)
    if service.idle is not None:
        service.idle.cancel()
    losses.close()
    for looking in others:
        looking.close()
    # Who can't go on because the journal is another's, or not to be written, ends nothing that the next one waits for.
    await execution.close(leave=service.leave_workers or turning.done(), late=service.late)
    await hooks.close(catch_up=not turning.done() and not service.begins_again)
    crash_at("stop.closed")
    if not turning.done():
        # Where it can't be remembered, or the journal is another's by now, it was like a crash.
        with contextlib.suppress(SwarmError, asyncio.CancelledError):
            await coordinator.ask(m.DaemonStopped(at=coordinator.now()), gives_up=True)
        turning.cancel()
    crash_at("stop.told")
    for each, _ in served:
        each.over.set()
    await asyncio.wait({turning, *(task for _, task in served)}, timeout=5.0)
    if turning.done() and not turning.cancelled() and (error := turning.exception()) is not None:
        _leave_failure(places, error, coordinator.now())
        raise error  # what was decided last was not remembered: nothing of this state may be left to be read
    if coordinator.stuck is not None or service.lost:
        return
    if snapshots.behind(coordinator.seq) >= recovery.RECORDS_AT_END:
        _write_snapshot(snapshots, snapshots.take(coordinator.swarm))
    _leave_status(places, coordinator)


class _Looks(Protocol):
    """Looks after something whenever all is taken in."""

    def at_rest(self) -> None: ...

    def close(self) -> None: ...


def _look_at_rest(service: Service, starter: Starter) -> tuple[_Looks, ...]:
    coordinator, execution = service.coordinator, service.execution
    places, settings = execution.edges.places, execution.edges.settings
    return (
        Backlog(coordinator, service.submitter),
        Foreseeing(coordinator, execution, every_s=settings.limits.foresee_every_s),
        Reclaiming(coordinator, execution),
        Tidying(
            places.landing,
            places.merge_lock,
            idle=service.is_idle,
            seq=lambda: coordinator.seq,
            in_thread=execution.in_thread,
        ),
        Supervised(starter.supervisor, coordinator.swarm, lambda: service.begins_again),
    )


def _at_rest(
    looks: Iterable[Callable[[], None]],
    snapshots: recovery.Snapshots,
    coordinator: Coordinator,
    execution: Execution,
) -> None:
    """Does what nobody waits for."""
    for look in looks:
        look()
    _keep_snapshot(snapshots, coordinator)
    execution.make_ready(lambda: next_base(coordinator.swarm))


def _keep_snapshot(snapshots: recovery.Snapshots, coordinator: Coordinator) -> None:
    """Takes a snapshot where one is due; only taking it holds the loop up, writing it does not."""
    if snapshots.due(coordinator.seq):
        content = snapshots.take(coordinator.swarm)
        _log.info("snapshot.taken", seq=coordinator.seq, bytes=len(content))
        asyncio.get_running_loop().run_in_executor(None, _write_snapshot, snapshots, content)


def _write_snapshot(snapshots: recovery.Snapshots, content: bytes) -> None:
    try:
        snapshots.write(content)
    except OSError as error:  # the next start takes longer, and that is all
        _log.warning("snapshot.not_written", reason=str(error))


def _listen_to_signals(service: Service, loop: asyncio.AbstractEventLoop) -> None:
    """Has signals stop the daemon in good order, and has workers start with none ignored.

    A signal that was ignored when we were started (`nohup`, a shell's background job) is not taken for a stop. It gets a handler
    all the same: what a process ignores it hands on to what it starts, what it handles it does not.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)
        elif number is not signal.SIGQUIT:
            loop.add_signal_handler(number, service.stop, "graceful")


def _nothing(*_: object) -> None:
    """Handles a signal that means nothing to us."""


async def _answer_at_sockets(
    service: Service, presence: Presence, listener: socket.socket, shut_in: sandbox.Sandbox
) -> list[tuple[_Server, asyncio.Task[None]]]:
    """Serves at the socket, and at that for workers that are shut in; gives both when somebody is there to answer."""
    hidden = shut_in.moves or not shut_in.shuts_in
    settings = _server_settings(api.application(service), door.Connection if hidden else door.FromOutside)
    made = [(_Server(settings), listener)]
    if shut_in.shuts_in:
        looking = _server_settings(api.application(service, looks_only=True), door.Connection)
        made.append((_Server(looking), presence.listen_to_workers()))
    loop = asyncio.get_running_loop()
    served = [(server, loop.create_task(server.serve(sockets=[at]))) for server, at in made]
    while not all(server.started for server, _ in served):
        await asyncio.sleep(0)
    return served


def _server_settings(app: Any, connection: type[door.Connection]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        loop="none",
        http=connection,
        ws="none",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=2,
    )


# --- what it leaves, and what it says to who started it --------------------------------------------------------------


class Starter:
    """Who started the daemon and waits for one line of it, on a descriptor; with none, nobody does. A supervisor hears more."""

    def __init__(self, descriptor: int | None = None, supervisor: Supervisor | None = None) -> None:
        self._descriptor = descriptor
        self.supervisor = supervisor or Supervisor()

    def ready(self, document: Mapping[str, Any]) -> None:
        """Says that the socket answers, with what the daemon says of itself."""
        self.tell(document)
        self.supervisor.ready()

    def tell(self, document: Mapping[str, Any]) -> None:
        """Says how it went. Once: after that the number of the descriptor may be that of any file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(descriptor, (json.dumps(document) + "\n").encode())
            os.close(descriptor)


def _leave_status(places: Places, coordinator: Coordinator) -> None:
    """Leaves the summary for `swarm status` without a daemon, which otherwise has to replay the journal. That is closed first: it
    is told by its files whether the summary still holds."""
    document = report.status(coordinator.swarm, report.Live(), summary=True)
    coordinator.journal.seal()
    last_status.leave(str(places.state), document)


def _leave_failure(places: Places, error: BaseException, at: float) -> None:
    """Leaves word of what ended the daemon for `swarm status`, if the disk takes it; the log has it as well."""
    cause = f"{type(error).__name__}: {error}".removesuffix(": ")
    step = f"swarm start goes on with all that is known; the details are in {places.log}"
    if isinstance(error, SwarmError):
        cause, step = error.cause, error.next_step
    with contextlib.suppress(OSError):
        if not isinstance(error, SwarmError):  # which is logged where it ends the process
            _log.error("daemon.failed", exc_info=error)
        write_whole(
            places.failure, {"at": report.rfc3339(at), "cause": cause, "next_step": step}, durable=False
        )


def main(arguments: list[str]) -> int:
    """The daemon's own process: `TOP READY_FD ENDS FLAGS_JSON IMPORT_PATH_JSON`, where it ends never, when idle, or when it has
    answered, and the path is the user's PYTHONPATH, or null. What went wrong goes to the descriptor, for who started it."""
    _give_back_import_path(json.loads(arguments[4]))
    top, starter, ends, flags = (
        Path(arguments[0]),
        Starter(int(arguments[1])),
        arguments[2],
        json.loads(arguments[3]),
    )
    try:
        serve(Options(top, flags, ends != "never", ends != "answered"), dict(os.environ), starter)
    except LockTaken as error:
        starter.tell({"running": True, "pid": error.pid})
        return 0
    except SwarmError as error:
        starter.tell(protocol.error_body(error))
        with contextlib.suppress(OSError):  # before there is a log it goes to where a full disk is
            _log.error("daemon.failed", cause=error.cause, next_step=error.next_step)
        return error.exit_code
    except OSError as error:  # the machine did not let it; what exactly it was doing is for the log
        starter.tell(protocol.error_body(_not_let(error)))
        raise
    return 0


def _not_let(error: OSError) -> SwarmError:
    return SwarmError(
        f"The daemon could not start: {error}.",
        "No daemon runs; what was there is as it was.",
        "see to that, then the same command again; swarm doctor looks at the machine",
    )


def _give_back_import_path(users: str | None) -> None:
    """Takes what the daemon was started with off its environment, which workers, suites, setup and hooks get: a project of another
    Python, or with other versions of what we stand on, would be worked on and verified with ours."""
    os.environ.pop("PYTHONPATH", None)
    if users is not None:
        os.environ["PYTHONPATH"] = users

"""Workers as processes: starts them, has them watched, stand still and ended, and says how they came to their end.

Rules for editing: a worker outlives the daemon, so each of these may be about one that an earlier daemon has started: it is looked
for first, by what it wrote into its folder. What touches files or processes runs in threads, the rest in the loop's own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from swarm import log
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.feedback import mark
from swarm.core.model import Readings
from swarm.core.streams import outcome
from swarm.crashpoints import crash_at
from swarm.daemon import rooms
from swarm.daemon.edges import Edges, lease_key
from swarm.daemon.listening import Ears
from swarm.daemon.memory import MemoryWatch
from swarm.daemon.oversight import Oversight
from swarm.daemon.so_far import SoFar
from swarm.daemon.verification import tail_of
from swarm.daemon.watching import AnswerInThread, Key, Watched, Watcher, key_of
from swarm.dataclass import dataclass
from swarm.edge import contract, heard, ports, process, sandbox, trouble
from swarm.edge.proctable import Stat
from swarm.edge.standstill import Standstill
from swarm.errors import SwarmError
from swarm.worker import agents

LEFTOVER_GRACE_S = 1.0  # for what a worker that has ended left running
_log = log.get("workers")


@dataclass(slots=True)
class Workers:
    """All workers. `answer_in_thread` has the answer of a command made in a thread and posts it, `in_thread` has anything done in
    one; `look` gives readings, of which `is_news` says whether they tell of memory what is not known."""

    edges: Edges
    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    post: Callable[[m.Event], None]
    answer_in_thread: AnswerInThread
    in_thread: Callable[[Callable[[], Any]], asyncio.Future[Any]]
    look: Callable[[], tuple[Readings, str]]
    is_news: Callable[[Readings], bool]
    watcher: Watcher = field(init=False)
    memory: MemoryWatch = field(init=False)
    ears: Ears = field(init=False)
    oversight: Oversight = field(init=False)
    so_far: SoFar = field(init=False)
    _standstill: Standstill[Key] = field(default_factory=Standstill)
    _started_at: dict[Key, float] = field(
        default_factory=dict
    )  # of those that were started here and have not ended
    _ended_here: set[Key] = field(default_factory=set)  # while they still ran

    def __post_init__(self) -> None:
        limits = self.edges.settings.limits
        self.watcher = Watcher(
            self.loop, self.answer_in_thread, lambda command: self.edges.attempt(command).worker, self._exited
        )
        self.oversight = Oversight(
            self.watcher,
            self.in_thread,
            self.post,
            self.clock,
            output_bytes_max=limits.output_bytes_max,
            processes_max=limits.processes_max,
        )
        self.memory = MemoryWatch(
            self.watcher, self.in_thread, self._tree_of, self.look, self.is_news, self.post, self.clock
        )
        self.ears = Ears(self.loop, self.clock, self.in_thread, self.edges.places)
        self.so_far = SoFar(self.edges, self.in_thread)

    def close(self) -> None:
        """Looks after nobody any more; all of them go on."""
        self.memory.close()
        self.oversight.close()
        self.watcher.close()
        self.ears.close()
        self.so_far.close()

    def start(self, command: cmd.StartWorker) -> m.Event:
        """Starts a worker, once: one that a daemon which was killed, or a try that failed, has started is taken as it is."""
        places = self.edges.attempt(command)
        identity = process.started(places.worker) or self._start_anew(command)
        started_at = self._started_at[key_of(command)] = self.clock()  # before its end can be seen
        self.watcher.started(command, identity)
        self.ears.add(command)
        crash_at("worker.known")
        return m.WorkerStarted(
            at=self.clock(),
            **command.about,
            pid=identity.pid,
            started_at=started_at,
            sandbox=self.edges.sandbox.name if places.own.exists() else sandbox.NONE,
        )

    def may_run(self, command: cmd.StartWorker) -> bool:
        """Tells whether a worker was started although its start failed; where that can't be seen, one may have been."""
        folder = self.edges.attempt(command).worker
        try:
            return process.started(folder) is not None or bool(
                process.members(self.edges.nonce(command), None, folder=folder)
            )
        except (SwarmError, OSError):
            return True

    def _start_anew(self, command: cmd.StartWorker) -> process.Identity:
        places, spec = self.edges.attempt(command), command.spec
        os.makedirs(places.worker, mode=0o700, exist_ok=True)
        before = self.ears.interrupted(command, self.edges.agents)
        prompt = agents.prompt_text(spec, command.feedback, before, command.lessons)
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
        prefix = rooms.shut_in(command, agent, self.edges, places, lease_key(command))
        by = self.edges.settings.ports
        with ports.taken(command.slot, by.base, by.step) as held:
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
                port_base=held.base,
                feedback_file=feedback,
                answer_file=(places.own_answer if prefix else places.answer) if spec.answer else None,
                keys=called.keys,
            )
            return process.start(
                places.worker,
                called.argv,
                cwd=Path(command.worktree),
                env={**env, **called.env},
                nonce=self.edges.nonce(command),
                output=places.output,
                stdin=called.stdin,
                prefix=prefix,
                inherits=held.handles,
            )

    def watch(self, command: cmd.WatchWorker) -> None:
        """Has the end of a worker told, and what it does before that may end it."""
        if not self.watcher.knows(command):
            self.answer_in_thread(self.ears.add, command)
        self.watcher.watch(command)
        self.memory.watch(command)
        self.oversight.watch(command, lambda: self.edges.attempt(command).output)

    def suspend(self, command: cmd.SuspendWorker) -> None:
        """Has a worker's whole tree stand still."""
        self._stand(command, still=True)

    def thaw(self, command: cmd.ThawWorker) -> None:
        """Has a worker's whole tree go on."""
        self._stand(command, still=False)

    def _stand(self, command: cmd.WatchWorker, *, still: bool) -> None:
        """Has a worker stand still or go on; its watch answers, which is begun where there is none, as after a restart."""
        self.watch(command)
        self._standstill.want(key_of(command), still=still)
        self.answer_in_thread(self._do_stand, command)

    def _do_stand(self, command: cmd.WatchWorker) -> None:
        identity = process.started(self.edges.attempt(command).worker)
        crash_at("worker.standing")
        find = functools.partial(self._tree_of, command, identity)
        if not self._standstill.carry_out(key_of(command), identity, find):
            _log.warning("worker.moves", task=command.task, attempt=command.attempt)
        crash_at("worker.stood")

    def _exited(self, command: cmd.AttemptCommand, ended: Watched) -> m.Event:
        """Ends what the worker left running, and reads what it left behind."""
        lacks = trouble.of_disks(self.edges.disks)  # now: what it left may go, and make room
        identity = ended.identity
        places = self.edges.attempt(command)
        self._standstill.free(key_of(command))
        crash_at("worker.exited")
        if identity is not None:
            process.reap(identity, ended.handle)
        nonce = self.edges.nonce(command)
        if process.members(nonce, identity, folder=places.worker):
            _log.info("worker.leftovers", task=command.task, attempt=command.attempt)
            process.end_tree(identity, nonce, folder=places.worker, grace_s=LEFTOVER_GRACE_S)
        crash_at("worker.swept")
        sandbox.take_out(places)
        said = process.exit_of(places.worker)
        result, problem = contract.read_result(places.result)
        if problem:
            _log.warning("worker.result", task=command.task, attempt=command.attempt, problem=problem)
            result = dataclasses.replace(result, problem=problem)
        code = said.code if said is not None else None
        at = self.clock()
        words = self.ears.take(command, said.at if said is not None else at)
        if words is not None:
            code, result = outcome(words, code, result, at)
        output = mark(tail_of(places.output)) if code else ""
        return m.WorkerExited(
            at=at,
            **command.about,
            exit_code=code,
            result=result,
            trouble=lacks,
            memory_bytes=self.memory.most_of(command),
            ended_at=self._ended_at(command, said),
            by_itself=self._by_itself(command, said),
            output=output,
            jitter=random.random(),  # noqa: S311  (nobody is to be kept from guessing it)
        )

    def _ended_at(self, command: cmd.AttemptCommand, said: process.Exit | None) -> float | None:
        """Tells when a worker ended by what its launcher wrote then, and never before it is said to have started: the clock of
        files goes by ticks of some milliseconds, and a worker may have ended before its start was told."""
        began = self._started_at.pop(key_of(command), None)
        return None if said is None else max(said.at, began or 0.0)

    def _by_itself(self, command: cmd.AttemptCommand, said: process.Exit | None) -> bool:
        """Tells whether a worker had ended before this daemon began to end it. That an earlier one did so is not known: then its
        time was over, which `ended_at` says."""
        ended_here = key_of(command) in self._ended_here
        self._ended_here.discard(key_of(command))
        return said is not None and not ended_here

    def end(self, command: cmd.EndWorker) -> None:
        """Ends a worker's whole tree; the watch answers, which is begun where there is none, as after a restart."""
        watched = self.watcher.watches(command)
        self._standstill.free(key_of(command))
        self.answer_in_thread(lambda command: self._end_tree(command, watched), command)

    def _end_tree(self, command: cmd.EndWorker, watched: bool) -> None:
        places, nonce = self.edges.attempt(command), self.edges.nonce(command)
        identity = process.started(places.worker)
        if process.exit_of(places.worker) is None:
            self._ended_here.add(key_of(command))
        crash_at("worker.ending")
        self._standstill.settled()
        gone = process.end_tree(
            identity,
            nonce,
            folder=places.worker,
            grace_s=command.grace_s,
            multiplies=command.why == cmd.TOO_MANY,
        )
        crash_at("worker.ended")
        if not gone:
            _log.error("worker.survives", task=command.task, attempt=command.attempt, why=command.why)
        if not watched:
            self.loop.call_soon_threadsafe(self.watcher.watch, command)

    def _tree_of(self, command: cmd.AttemptCommand, identity: process.Identity | None) -> Mapping[int, Stat]:
        """Looks for all processes of a worker."""
        return process.tree_of(self.edges.nonce(command), identity, folder=self.edges.attempt(command).worker)

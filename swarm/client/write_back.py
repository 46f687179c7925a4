"""Keeps the states of tasks in a plan file as they are in the run, while the run goes on.

Two threads: one hears what happens, one writes. While a write goes on more may happen, and the next write has all of it: so a plan
of any size is followed without a pause and without a clock. Rules for editing: what fails in between is tried again with the next
change; it is said at the end alone, when all states are written.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType

from swarm import protocol
from swarm.client import failure, naming, planfiles
from swarm.client.connection import AnswerBroken, Connection, Stream
from swarm.client.session import Session
from swarm.errors import NoDaemon, SwarmError

STATES = {  # what an event says of its task
    "TaskStarted": "running",
    "TaskQueued": "queued",
    "TaskHandedBack": "pending",
    "TaskRetried": "pending",
    "TaskLanded": "landed",
    "TaskFailed": "failed",
    "TaskCancelled": "cancelled",
    "TaskBlocked": "blocked",
}


class WriteBack:
    """Writes back as long as it is open, and everything once more when it is closed; `after` is the last event not wanted."""

    def __init__(self, session: Session, daemon: Connection, path: Path, run: str, *, after: int) -> None:
        self._session, self._daemon, self._path, self._run, self._after = session, daemon, path, run, after
        self._changed: dict[str, str] = {}
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._over = False
        self.failed = False  # at the end
        self._stream: Stream | None = None
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._hear, self._write)]

    def __enter__(self) -> WriteBack:
        with contextlib.suppress(NoDaemon, AnswerBroken):  # it has ended, and the run with it
            query = {"run": self._run, "after": self._after, "follow": 1}
            self._stream = self._daemon.stream(protocol.EVENTS, query)
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
            self._over = True
            self._news.set()
            for thread in self._threads:
                thread.join()
        tasks = naming.run_of(self._session.document(run=self._run), self._run).get("tasks") or []
        states = {str(task["id"]): str(task["state"]) for task in tasks}
        try:
            planfiles.write_back(self._path, self._session.state, states)
        except (SwarmError, OSError) as problem:
            self.failed = True
            why = problem.cause if isinstance(problem, SwarmError) else f"{problem.strerror}."
            failure.say(f"The states of the tasks were not written back to {self._path}: {why}")

    def _hear(self) -> None:
        assert self._stream is not None
        with contextlib.suppress(NoDaemon, AnswerBroken):
            for event in self._stream:
                state = STATES.get(str(event.get("type")))
                if state is not None:
                    with self._lock:
                        self._changed[str(event.get("task"))] = state
                    self._news.set()

    def _write(self) -> None:
        while self._news.wait() and not self._over:
            self._news.clear()
            with self._lock:
                changed, self._changed = self._changed, {}
            try:
                planfiles.write_back(self._path, self._session.state, changed)
            except (SwarmError, OSError):
                with self._lock:
                    self._changed = {**changed, **self._changed}

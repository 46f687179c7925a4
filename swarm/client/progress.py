"""Follows a run until it has ended: a live view in a terminal, plain lines elsewhere.

Rules for editing: nothing polls where it can wait. Lines come from the event stream in the moment they happen, the end from a
request that is answered when the run has ended; the stream is then read to its last line, so that no line is missing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from swarm import protocol
from swarm.client import failure, naming, render, telling
from swarm.client.connection import AnswerBroken, AnswerLate, Connection, Stream
from swarm.client.connection import wait_for_end as wait_for_death
from swarm.client.session import Session
from swarm.errors import NoDaemon, SwarmError, UsageError, WaitTimedOut

ANSWER_MARGIN_S = 30.0
FRAME_S = 0.5
QUIET_S = 3.0  # so long nothing need happen without a word
ANEW_S = 60.0  # how long a daemon may take to begin anew
STILL_S = 1.0  # how often a daemon that stands still is asked again


class Hindrances:
    """Tells people what keeps a run that they wait for from going on: each reason once, and again only when it has changed
    meanwhile."""

    def __init__(self, run: str, say: Callable[[str], object]) -> None:
        self.mark = ""  # what the daemon calls that which has been told
        self._run = run
        self._say = say
        self._told: list[str] = []

    def hear(self, answer: Mapping[str, Any]) -> None:
        """Takes in what the daemon says of a run that has not ended; one of an older version says nothing of this."""
        problems = [str(each) for each in answer.get("problems") or []]
        for problem in problems:
            if problem not in self._told:
                self._say(
                    f"Run {protocol.printable(self._run)} can't go on: {render.on_one_line(problem)}\n"
                    "  It is waited for all the same."
                )
        self.mark, self._told = str(answer.get("mark") or ""), problems


@contextlib.contextmanager
def telling_what_holds(session: Session, *runs: str) -> Iterator[None]:
    """Has an error out of a `with` block carry the status document of these runs as they stand then, for who asked for JSON."""
    try:
        yield
    except SwarmError as error:
        if session.as_json:
            with contextlib.suppress(SwarmError):  # it can't be asked for: the error says enough
                error.holds = of_runs(session, None, [{"id": run} for run in runs])
        raise


def of_runs(session: Session, document: dict[str, Any] | None, ended: list[dict[str, Any]]) -> dict[str, Any]:
    """Gives the status document of these runs; where that can't be asked for any more the one there was, if any, with them as they
    ended."""
    try:
        document = session.document()
    except SwarmError:
        if document is None:
            raise
        document = {**document, "runs": ended}
    ids = {each["id"] for each in ended}
    return {
        **document,
        "runs": [each for each in document["runs"] if each["id"] in ids],
        "merge_queue": [each for each in document["merge_queue"] if each["run"] in ids],
        "claims": [each for each in document["claims"] if each["run"] in ids],
    }


def wait_for_end(
    session: Session,
    daemon: Connection,
    run: str,
    *,
    timeout_s: float | None = None,
    until: str = protocol.UNTIL_END,
    hindrances: Hindrances | None = None,
) -> dict[str, Any]:
    """Waits until every task of a run has ended, or its QA has, and gives its status document.

    Raises `UsageError` where `timeout_s` is no such number, `WaitTimedOut` (exit 124) after it, and `NoDaemon` (exit 3) when the
    daemon ended before the run did.
    """
    if timeout_s is not None and not timeout_s >= 0:  # what is no number is neither
        raise UsageError(f"{timeout_s} is no number of seconds to wait.", "Whatever was begun goes on.")
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = protocol.WAIT_SLICE_S if deadline is None else deadline - time.monotonic()
        slice_s = max(0.0, min(protocol.WAIT_SLICE_S, left))
        document = ended(session, daemon, run, slice_s=slice_s, until=until, hindrances=hindrances)
        if document is not None:
            return document
        if deadline is not None and time.monotonic() >= deadline:
            raise WaitTimedOut(
                f"Run {protocol.printable(run)} has not ended within {timeout_s:g} s.",
                "It goes on.",
                f"swarm status, or swarm wait --run {protocol.printable(run)} again",
            )


def wait_for_ends(
    session: Session, daemon: Connection, runs: Sequence[str], timeout_s: float | None
) -> dict[str, Future[dict[str, Any]]]:
    """Waits for several runs at once, so that what keeps any of them from going on is told; gives by run what `wait_for_end` gives
    or raises. A Ctrl-C need not wait for them."""

    def wait(run: str, answer: Future[dict[str, Any]]) -> None:
        try:
            hindrances = Hindrances(run, failure.say)
            answer.set_result(wait_for_end(session, daemon, run, timeout_s=timeout_s, hindrances=hindrances))
        except BaseException as error:  # handed to who waits for it
            answer.set_exception(error)

    answers: dict[str, Future[dict[str, Any]]] = {run: Future() for run in runs}
    for run, answer in answers.items():
        threading.Thread(target=wait, args=(run, answer), name=f"wait {run}", daemon=True).start()
    return answers


def ended(
    session: Session,
    daemon: Connection,
    run: str,
    *,
    slice_s: float,
    until: str = protocol.UNTIL_END,
    hindrances: Hindrances | None = None,
) -> dict[str, Any] | None:
    """Waits up to `slice_s` for the end of a run, or of its QA; gives its document then, else None. A daemon that stands still may
    go on: it is told once, and waited for. What keeps the run from going on is told `hindrances`, and ends the wait too."""
    told = hindrances.mark if hindrances is not None else None
    try:
        answer: dict[str, Any] = daemon.get(
            protocol.WAIT,
            {"run": run, "timeout_s": f"{slice_s:.3f}", "until": until, "told": told},
            timeout_s=slice_s + ANSWER_MARGIN_S,
        )
    except (NoDaemon, AnswerBroken):
        return _without_daemon(session, daemon, run)
    except AnswerLate as late:
        document = session.journal_document(run)
        if naming.run_of(document, run).get("state") not in naming.ACTIVE:
            return document
        session.note_once(f"{late.cause}\n  It is waited for all the same.\n  Next: {late.next_step}")
        wait_for_death(daemon.pid, min(STILL_S, slice_s))
        return None
    if answer.get("ended") is not False:
        return answer
    if hindrances is not None:
        hindrances.hear(answer)
    return None


def _without_daemon(session: Session, daemon: Connection, run: str) -> dict[str, Any] | None:
    """Looks what became of the run when its daemon went away: it may have ended just before. One that lives on begins anew, because
    its landing repository is gone."""
    if session.outlast(daemon.pid, time.monotonic() + ANEW_S) is not None:
        return None  # it has, or another one has taken over
    document = session.journal_document(run)
    if naming.run_of(document, run).get("state") in naming.ACTIVE:
        raise NoDaemon(  # not that the run has failed: it is open, and one is needed for it to go on
            f"The daemon ended before run {protocol.printable(run)} did.",
            "Nothing is lost: what is known is kept, and workers that still run are taken over.",
            "swarm start, then swarm status --watch",
        )
    return document


def follow(
    session: Session, daemon: Connection, run: str, *, after: int, until: str = protocol.UNTIL_END
) -> dict[str, Any]:
    """Shows a run's progress until it has ended, or its QA has, and gives its status document. `after` is the last event that is
    not wanted."""
    if session.quiet or session.as_json:
        return wait_for_end(session, daemon, run, until=until, hindrances=Hindrances(run, failure.say))
    if session.interactive and session.environ.get("TERM") != "dumb":
        return _follow_live(session, daemon, run, until)
    return _Lines(session, daemon, run, after, until).follow()


def _follow_live(session: Session, daemon: Connection, run: str, until: str) -> dict[str, Any]:
    from swarm.client.live import Screen

    with Screen(session) as screen:
        while True:
            screen.show(session.document(run=run, full=False))
            document = ended(session, daemon, run, slice_s=FRAME_S, until=until)
            if document is not None:
                return document


class _Lines:
    """Plain progress: one line an event, from two requests at once."""

    def __init__(self, session: Session, daemon: Connection, run: str, after: int, until: str) -> None:
        self._session = session
        self._daemon = daemon
        self._run = run
        self._last = after
        self._until = until
        self._landed: set[str] = set()
        self._working: set[str] = set()
        self._began = False
        self._total = 0
        self._before = 0
        self._document: dict[str, Any] | None = None
        self._error: BaseException | None = None
        self._failures: set[tuple[str, ...]] = set()  # what fails and was told; it is tried every few seconds
        self._hindrances = Hindrances(run, failure.say)

    def follow(self) -> dict[str, Any]:
        try:
            self._count()
            stream = self._daemon.stream(
                protocol.EVENTS, {"run": self._run, "after": self._last, "follow": 1}
            )
        except (
            NoDaemon,
            AnswerBroken,
            AnswerLate,
        ):  # the run, and the daemon, had ended already; or it stands still
            return self._to_the_end()
        waiting = threading.Thread(target=self._wait, args=(stream,), daemon=True)
        waiting.start()
        with contextlib.suppress(AnswerBroken):  # the other request finds out what that means
            self._tell(stream)
        waiting.join()
        if self._error is not None:
            raise self._error
        assert self._document is not None
        with contextlib.suppress(NoDaemon, AnswerBroken, AnswerLate):
            self._tell(
                self._daemon.stream(protocol.EVENTS, {"run": self._run, "after": self._last, "follow": 0})
            )
        return self._document

    def _count(self) -> None:
        document = self._daemon.get(protocol.STATUS, {"run": self._run, "view": protocol.VIEW_SUMMARY})
        counts = naming.run_of(document, self._run).get("counts") or {}
        self._total = sum(counts.values()) - counts.get("answered", 0)
        self._before = counts.get("landed", 0)
        # What landed between submitting and this moment comes again as an event, and must not count twice.
        self._before -= sum(
            1
            for event in self._daemon.stream(
                protocol.EVENTS, {"run": self._run, "after": self._last, "follow": 0}
            )
            if event.get("type") == "TaskLanded"
        )

    def _wait(self, stream: Stream) -> None:
        try:
            self._document = ended(
                self._session,
                self._daemon,
                self._run,
                slice_s=QUIET_S,
                until=self._until,
                hindrances=self._hindrances,
            )
            if self._document is None:
                self._say_why_nothing_starts()
                self._document = self._to_the_end()
        except BaseException as error:  # handed to the other thread
            self._error = error
        finally:
            stream.close()

    def _to_the_end(self) -> dict[str, Any]:
        return wait_for_end(
            self._session, self._daemon, self._run, until=self._until, hindrances=self._hindrances
        )

    def _say_why_nothing_starts(self) -> None:
        """Says it once: a gate that was shut from the beginning does not change, so no event tells of it."""
        if self._began or self._landed or self._hindrances.mark:
            return
        document = self._session.document(run=self._run, full=False)
        if not document["daemon"]["running"]:
            return  # which is told by itself
        capacity = document.get("capacity") or {}
        if not capacity.get("slots_open") and not capacity.get("running"):
            self._session.line(f"nothing has started yet: {capacity.get('reason')}")

    def _tell(self, stream: Stream) -> None:
        for event in stream:
            self._last = max(self._last, int(event.get("seq") or 0))
            kind, task = str(event.get("type")), str(event.get("task"))
            progress = ""
            if kind == "TaskStarted":
                self._working.add(task)
                self._began = True
            elif kind.startswith("Task"):
                self._working.discard(task)
            if kind == "PlanDrafted":
                self._total = self._before + int(event.get("tasks") or 0)
            if kind == "TaskLanded":
                self._landed.add(task)
                landed = self._before + len(self._landed)
                self._total = max(self._total, landed)  # QA adds tasks as it goes
                progress = f"{landed}/{self._total}"
            # Why nothing happens is worth a line only while nothing happens.
            stuck = kind == "CapacityChanged" and not event.get("slots_open") and not self._working
            if (stuck or kind in telling.PROGRESS_EVENTS) and not self._was_told(event):
                self._session.line(telling.event_text(event, progress=progress))

    def _was_told(self, event: Mapping[str, Any]) -> bool:
        """Tells of what fails and is tried again whether just that has a line already."""
        if event.get("type") not in ("CommandFailed", "RunCommandFailed"):
            return False
        what = tuple(str(event.get(key)) for key in ("command", "task", "attempt", "text"))
        told = what in self._failures
        self._failures.add(what)
        return told

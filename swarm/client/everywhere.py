"""`swarm status --all`: every repository of this machine in which this user has used swarm, side by side.

Daemons are asked at the same time, so that one that does not answer holds up nobody; what their journals say is read one after the
other. Rules for editing: nothing is started or written. What is wrong with one repository is told beside it, and the others are
shown all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from swarm import protocol
from swarm.client import offline, place, render
from swarm.client.session import Session
from swarm.errors import SwarmError
from swarm.protocol import printable

Document = dict[str, Any]

WITHIN_S = 5.0  # a daemon that takes longer is not waited for
ASKED_AT_ONCE = 32
FAILED_LISTED = 3  # tasks of a run that get a line of their own
GONE_LISTED = 5


class Everywhere:
    """Looks at every repository, as often as it is asked to."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._read: dict[str, tuple[object, Document]] = {}

    def document(self) -> Document:
        """Gives for each repository its path and what `swarm status --json` says there, or the summary of that for people."""
        session = self._session
        there = [
            Session(top, found=place.Place(top, top, os.path.dirname(state)))
            for top, state in place.known(session.environ)
        ]
        with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
            answers = list(threads.map(self._asked, there))
        found = [
            {"path": each.directory, **self._told(each, *answer)}
            for each, answer in zip(there, answers, strict=True)
        ]
        if gone := place.gone(session.environ):
            more = f" and {len(gone) - GONE_LISTED} more" if len(gone) > GONE_LISTED else ""
            named = ", ".join(printable(each) for each in gone[:GONE_LISTED])
            session.note_once(
                f"Not there any more, deleted or moved, and forgotten at the next swarm start: {named}{more}"
            )
        return {"schema": protocol.SCHEMA, "repositories": found}

    def text(self, document: Mapping[str, Any]) -> str:
        """Gives it as text for this terminal, at this moment."""
        session = self._session
        if not document["repositories"]:
            return f"{place.nowhere(session.environ)}\n"
        told = lines(document, now=time.time(), width=session.width)
        return "".join(f"{render.paint(line, state, session.colour)}\n" for state, line in told)

    def picture(self) -> Any:
        """Gives what draws it live."""
        from swarm.client import live

        return lambda document, now, width: live.of_lines(lines(document, now=now, width=width))

    def _asked(self, there: Session) -> tuple[Document | None, Document]:
        try:
            return there.asked(full=self._session.as_json, within_s=WITHIN_S)
        except (SwarmError, OSError) as error:
            return _unreadable(error), {}

    def _told(self, there: Session, document: Document | None, about: Document) -> Document:
        """Gives what a daemon answered, or with what is known of one that did not what the journal says."""
        if document is None:
            try:
                document = self._from_journal(there)
            except (SwarmError, OSError) as error:
                document = _unreadable(error)
        return {**document, "daemon": {**(document.get("daemon") or {}), **about}}

    def _from_journal(self, there: Session) -> Document:
        """Reads the journal of a repository; again only where it has changed, since after a kill it may have to be replayed."""
        state = there.place.state
        mark = offline.journal_mark(state)
        before, document = self._read.get(state, (None, {}))
        if mark is None or mark != before:
            document = there.journal_document(full=self._session.as_json)
            self._read[state] = mark, document
        return document


def _unreadable(error: SwarmError | OSError) -> Document:
    if isinstance(error, OSError):
        error = SwarmError(f"{error.filename or 'A file'} can't be read: {error.strerror}.")
    told = {"cause": error.cause, "consequence": error.consequence, "next_step": error.next_step}
    about = {"running": None, "unreadable": told}
    return {
        "schema": protocol.SCHEMA,
        "daemon": about,
        "capacity": {},
        "runs": [],
        "merge_queue": [],
        "claims": [],
    }


# --- for people -------------------------------------------------------------------------------------------------------------


def lines(document: Mapping[str, Any], *, now: float, width: int) -> Iterator[tuple[str, str]]:
    """Yields (state, line), the state for its colour: one line for each repository, and below it its runs and what needs a person.
    Those with a daemon come first."""
    found = document["repositories"]
    yield "", _total(found)
    for each in sorted(found, key=lambda each: not each["daemon"].get("running")):
        wrong = any(key in each["daemon"] for key in ("silent", "failed", "copied", "unreadable"))
        yield "failed" if wrong else "", f"{printable(each['path'])}  {daemon_words(each, now)}"
        for line in render.held_lines(each):
            yield "ready", render.cut(f"  {line}", width)
        for run in each.get("runs") or []:
            if run.get("state") != "finished":
                for state, line in _run_lines(run):
                    yield state, render.cut(f"  {line}", width)
        if over := [
            printable(run.get("id", "?")) for run in each.get("runs") or [] if run.get("state") == "finished"
        ]:
            yield "", render.cut(f"  finished: {', '.join(over)}", width)


def _total(found: list[Document]) -> str:
    running = [each for each in found if each["daemon"].get("running")]
    workers = sum((each.get("capacity") or {}).get("running") or 0 for each in running)
    what = "1 repository" if len(found) == 1 else f"{len(found)} repositories"
    return f"{what}, {len(running)} with a daemon, workers {workers}"


def daemon_words(document: Mapping[str, Any], now: float) -> str:
    """Says in a few words whether a daemon runs, how many workers it has, and what is wrong with it."""
    daemon = document["daemon"]
    if unreadable := daemon.get("unreadable"):
        step = f" Next: {printable(unreadable['next_step'])}" if unreadable["next_step"] else ""
        return f"{printable(unreadable['cause'])}{step}"
    if daemon.get("silent") or daemon.get("failed") or daemon.get("copied"):
        return render.daemon_line(document, now)
    if not daemon.get("running"):
        return "no daemon runs"
    since = render.epoch(daemon.get("started_at"))
    words = [f"daemon {daemon.get('pid', '?')}"]
    if since is not None:
        words.append(f"up {render.duration(now - since)}")
    if daemon.get("paused"):
        words.append("paused")
    return "; ".join(filter(None, (", ".join(words), render.capacity_line(document))))


def _run_lines(run: Document) -> Iterator[tuple[str, str]]:
    told = "" if render.plan_waits(run) else render.counts_text(run)
    waits = "ready" if render.plan_waits(run) else ""
    yield waits, ", ".join(filter(None, (render.run_title(run), told)))
    for problem in run.get("problems") or []:
        yield "failed", f"  can't go on: {render.on_one_line(problem)}"
    tasks = run.get("tasks") or []
    failed = [task for task in tasks if task.get("state") == "failed" and not render.is_settled(run, task)]
    for task in failed[:FAILED_LISTED]:
        why = render.reason_text(task.get("reason"), "failed")
        yield "failed", f"  failed  {printable(task.get('id', '?'))}  {why}"
    if (more := render.counts(run).get("failed", 0) - len(failed[:FAILED_LISTED])) > 0:
        yield "failed", f"  … and {more} more failed"

"""Commands that look: status, logs, show, diff, claims, events. None of them needs a daemon."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import click

from swarm import protocol
from swarm.client import naming, telling
from swarm.client import status as plain
from swarm.client.options import command, run_option
from swarm.client.session import Session
from swarm.errors import NoDaemon, SwarmError, UsageError

FRAME_S = 1.0
FOLLOW_S = 0.2
BLOCK_BYTES = 1 << 16
LINE_BYTES_MAX = 1 << 20
_COLOUR = re.compile("\x1b\\[[0-9;:]*m")


@command("status", shows=True)
@run_option
@click.option("--watch", is_flag=True, help="Keep it on the screen, live, until Ctrl-C.")
@click.option("--all", "everywhere", is_flag=True, help="Every repository of this machine.")
def status(session: Session, run: str | None, watch: bool, everywhere: bool) -> None:
    """Show runs, workers and what waits for what."""
    if everywhere:
        if watch or run:
            raise UsageError("--all goes with neither --watch nor --run.", "Nothing was done.")
        plain.show_all(session)
    elif not watch:
        plain.show(session, run)
    elif session.interactive and not session.as_json and session.environ.get("TERM") != "dumb":
        _watch_live(session, run)
    else:
        _watch_plain(session, run)


def _watch_live(session: Session, run: str | None) -> None:
    from swarm.client.live import Screen

    with Screen(session) as screen:
        while True:
            screen.show(session.document(run=run, full=False))
            time.sleep(FRAME_S)


def _watch_plain(session: Session, run: str | None) -> None:
    """Writes the status again whenever it says something new."""
    shown = ""
    while True:
        document = session.document(run=run, full=session.as_json)
        text = json.dumps(document) + "\n" if session.as_json else plain.as_text(session, document)
        if text != shown:
            session.out(text if session.as_json or not shown else f"\n{text}")
            shown = text
        time.sleep(FRAME_S)


# --- logs -------------------------------------------------------------------------------------------------------------------


@command("logs")
@click.argument("task")
@run_option
@click.option("-f", "--follow", is_flag=True, help="Keep showing what comes, until the attempt has ended.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Which attempt; the last if not given.")
@click.option("--grep", "pattern", metavar="RE", help="Only lines in which this regular expression is found.")
@click.option("--lines", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
@click.option(
    "--of",
    "which",
    type=click.Choice(["worker", "verify"]),
    help="Only the worker's output, or verification's.",
)
@click.option("--raw", is_flag=True, help="As it was written, terminal commands in it too.")
def logs(session: Session, task: str, run: str | None, **wanted: Any) -> None:
    """Show the output of a task's worker and of its verification."""
    from swarm.client import offline

    run_id, found = naming.task_of(session.document(), task, run)
    wanted_of = [wanted["which"]] if wanted["which"] else ["worker", "verify"]
    show = _line_filter(wanted["pattern"], wanted["raw"])
    paths = []
    for which in wanted_of:
        path = offline.log_path(session.state, run_id, str(found["id"]), wanted["attempt"], which)
        if path is not None and os.path.exists(path):
            paths.append((which, str(path)))
    if not paths and not wanted["follow"]:
        session.note(f"There is no output of {protocol.printable(task)} yet.")
    for which, shown in paths:
        if len(paths) > 1:
            session.note(f"==> {which} <==")
        for line in _last_lines(shown, wanted["lines"], show):
            session.out(line)
    if wanted["follow"]:
        _follow(session, run_id, str(found["id"]), wanted, dict(paths), show)


def _line_filter(pattern: str | None, raw: bool) -> Any:
    """Makes the function from a line as written to the line as shown, or None for one that is not."""
    try:
        sought = re.compile(pattern) if pattern else None
    except re.error as error:
        raise UsageError(f"--grep: {error}.", "Nothing was done.") from None

    def show(line: bytes) -> str | None:
        text = line.decode("utf-8", "replace")
        plain_text = _COLOUR.sub("", text)
        if sought is not None and not sought.search(plain_text):
            return None
        if raw:
            return text
        # Of a line that a progress bar has written over and over, the last state is what a person would see.
        seen = plain_text.rstrip("\r\n").rpartition("\r")[2]
        return protocol.printable(seen) + "\n"

    return show


def _last_lines(path: str, number: int | None, show: Any) -> Iterator[str]:
    """Yields the lines of a file that are shown; with `number` only the last ones of them."""
    from collections import deque

    with open(path, "rb") as file:
        shown = (
            text
            for line in iter(lambda: file.readline(LINE_BYTES_MAX), b"")
            if (text := show(line)) is not None
        )
        if number is None:
            yield from shown
        else:
            yield from deque(shown, maxlen=number)


def _follow(
    session: Session, run: str, task: str, wanted: dict[str, Any], shown: dict[str, str], show: Any
) -> None:
    """Shows what is added to the logs until the attempt has ended; what was there before has been shown."""
    from swarm.client import offline

    places = {path: os.path.getsize(path) for path in shown.values()}
    rest: dict[str, bytes] = {}
    while True:
        over = not _is_live(
            session, run, task, wanted["attempt"]
        )  # asked before reading, so that the last words are read
        for which in [wanted["which"]] if wanted["which"] else ["worker", "verify"]:
            path = offline.log_path(session.state, run, task, wanted["attempt"], which)
            if path is not None and os.path.exists(path):
                _show_added(session, str(path), places, rest, show)
        if over:
            return
        time.sleep(FOLLOW_S)


def _show_added(
    session: Session, path: str, places: dict[str, int], rest: dict[str, bytes], show: Any
) -> None:
    with open(path, "rb") as file:
        file.seek(places.get(path, 0))
        while block := file.read(BLOCK_BYTES):
            *lines, rest[path] = (rest.get(path, b"") + block).split(b"\n")
            if len(rest[path]) > LINE_BYTES_MAX:
                lines.append(rest.pop(path))
            for line in lines:
                text = show(line + b"\n")
                if text is not None:
                    session.out(text)
        places[path] = file.tell()


def _is_live(session: Session, run: str, task: str, attempt: int | None) -> bool:
    try:
        document = session.daemon().get(protocol.STATUS, {"run": run, "view": protocol.VIEW_FULL})
    except NoDaemon:
        return False
    _, found = naming.task_of(document, task, run)
    last = (found.get("attempts") or [{}])[-1]
    if attempt is not None and last.get("n") != attempt:
        return False
    return found.get("state") in ("pending", "ready", "running", "queued", "landing")


# --- the others -------------------------------------------------------------------------------------------------------------


@command("show", shows=True)
@click.argument("task")
@run_option
def show(session: Session, task: str, run: str | None) -> None:
    """Show everything known of a task, its attempts and why each ended."""
    from swarm.client import offline

    run_id, found = naming.task_of(session.document(), task, run)
    document = offline.task_document(session.state, run_id, str(found["id"]))
    if session.as_json:
        session.json(document)
    else:
        session.out(telling.task_text(document, now=time.time(), top=session.place.top))


@command("diff")
@click.argument("task")
@run_option
def diff(session: Session, task: str, run: str | None) -> None:
    """Show what a task changed."""
    from swarm.client import offline

    run_id, found = naming.task_of(session.document(), task, run)
    text = offline.diff_text(session.top, session.state, run_id, str(found["id"]))
    if session.interactive:  # a pipe gets the bytes, so that git apply can read them
        text = protocol.printable(text, keep_newlines=True)
    session.out(text)


@command("claims", shows=True)
def claims(session: Session) -> None:
    """Show who may change what now."""
    document = session.document(full=False)
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, "claims": document.get("claims") or []})
    else:
        session.out(telling.claims_text(document))


@command("events", shows=True)
@run_option
@click.option("-f", "--follow", is_flag=True, help="Keep showing what happens, until Ctrl-C.")
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="SEQ", help="Only events after this number."
)
def events(session: Session, run: str | None, follow: bool, after: int) -> None:
    """Show what happened, from the first event on, as the journal has it."""
    if follow:
        query = {"after": after, "follow": 1, "run": run}
        for event in session.daemon().stream(protocol.EVENTS, query):
            _tell(session, event)
        raise SwarmError(
            "The daemon ended, and with it the events.", "", "swarm start; what happened is kept"
        )
    from swarm.client import offline

    for event in offline.events(session.state, after):
        if run is None or event.get("run") == run:
            _tell(session, event)


def _tell(session: Session, event: dict[str, Any]) -> None:
    session.line(json.dumps(event) if session.as_json else telling.event_text(event))

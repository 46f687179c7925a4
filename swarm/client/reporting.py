"""The command that tells how a run went: report. It needs no daemon."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import click

from swarm.client import naming
from swarm.client.options import command, files, run_option
from swarm.client.session import Session
from swarm.errors import Refused, UsageError
from swarm.protocol import printable


@command("report", shows=True)
@run_option
@click.option(
    "--html",
    "page",
    metavar="FILE",
    shell_complete=files,
    help="Write it as one page that needs nothing else, and say where; - writes it to stdout.",
)
def report(session: Session, run: str | None, page: str | None) -> None:
    """Show how a run went: how long it took and what for, what held it up, what was tried in vain, what it cost.

    Made from the journal, so that it can be asked for at any time, also while the run goes on. "At once on average" is measured:
    the time that workers were at work by the time that passed. "One after the other" is an estimate. FILE is written over only
    where it is such a page.
    """
    if page == "-" and session.as_json:
        raise UsageError("--html - and --json both write to stdout.", "Nothing was written.", "name a file")
    document = report_document(session, run)
    if page is not None:
        from swarm.client.report_page import report_page

        if page == "-":
            session.out(report_page(document))
            return
        place = write_page(page, report_page(document))
        if not session.as_json:
            session.say(f"Wrote {printable(place)}")
            return
    if session.as_json:
        session.json(document)
    else:
        from swarm.client.report_text import report_text

        whole = not session.interactive and not session.environ.get("COLUMNS")
        session.out(report_text(document, width=session.width, colour=session.colour, whole=whole))


def report_document(session: Session, run: str | None) -> dict[str, Any]:
    """Gives the report of a run, or of the one that is meant where none is named, up to this moment while it goes on."""
    from swarm.client import offline

    session.need_files()
    document = session.document(full=False)
    session.heed_silence(document)
    name = str(naming.run_of(document, run)["id"])
    running = bool(document["daemon"]["running"])
    told = offline.report(session.state, name, time.time() if running else None)
    return {**told, "daemon": {"running": running}}


def write_page(path: str, text: str) -> str:
    """Writes a page whole, or nothing; gives its path. Raises `UsageError` where no file can be, `Refused` where one is."""
    if not path:
        raise UsageError("The page has no name.", "Nothing was written.", "name a file, or - for stdout")
    place, shown = os.path.realpath(path), printable(path)
    if os.path.lexists(place) and not os.path.isfile(place):
        raise UsageError(f"{shown} is no file.", "Nothing was written.", "name a file")
    try:
        if os.path.exists(place) and not _is_page(place):
            raise Refused(f"{shown} is there and is no report.", "It was left as it is.", "name another file")
        draft = f"{place}.{os.getpid()}.new"
        try:
            with open(draft, "x", encoding="utf-8") as file:
                file.write(text)
            os.replace(draft, place)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft)
    except OSError as error:
        why = f"{shown} can't be written: {error.strerror}."
        raise UsageError(why, "Nothing was written.", "name another file") from None
    return place


def _is_page(place: str) -> bool:
    """Tells whether a file is a report, or empty, so that nothing is lost when it is written over."""
    from swarm.client.report_page import MARK

    with open(place, "rb") as file:
        begins = file.read(len(MARK))
    return begins in (b"", MARK.encode())

"""`swarm status` without click: asks, shows, ends.

Rules for editing: this is the command that people put into prompts and loops; it must stay under five times the start of Python.
What it does not understand of a command line is left to the real parser.
"""

from __future__ import annotations

import os
import time

from swarm.client import render
from swarm.client.session import Session

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def plain_request(arguments: list[str]) -> tuple[Session, str | None] | None:
    """Reads `[-C DIR] [--json] [-q] [-v] status [--json] [--run ID]`; None for every other command line."""
    session, run = Session(), None
    seen_status = False
    rest = iter(arguments)
    for word in rest:
        value = None
        if word in ("-C", "--run"):
            value = next(rest, None)
            if value is None or (word == "--run" and not value):  # missing, or empty, which is refused
                return None
        if word == "status" and not seen_status:
            seen_status = True
        elif word == "-C" and not seen_status and value is not None:
            session.directory = os.path.join(session.directory, value)
        elif word == "--run" and seen_status:
            run = value
        elif word == "--json":
            session.as_json = True
        elif word in ("-q", "--quiet"):
            session.quiet = True
        elif word in ("-v", "--verbose"):
            session.verbose = True
        else:
            return None
    return (session, run) if seen_status else None


def show(session: Session, run: str | None = None) -> None:
    """Shows the status once: the whole document as JSON, or a summary as text."""
    write(session, session.document(run=run, full=session.as_json), lambda found: as_text(session, found))


def write(session: Session, document: dict[str, Any], text: Callable[[dict[str, Any]], str]) -> None:
    """Writes a document as JSON where that is wanted, else as text."""
    if session.as_json:
        session.json(document)
    else:
        session.out(text(document))


def as_text(session: Session, document: dict[str, Any]) -> str:
    """Gives a status document as text for this terminal, at this moment."""
    return render.status_text(
        document,
        now=time.time(),
        width=session.width,
        colour=session.colour,
        top=session.here,
    )

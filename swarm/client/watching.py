"""Commands that look: status, show, diff, claims, events. None of them needs a daemon."""

from __future__ import annotations

import json
import time
from typing import Any, Protocol

import click

from swarm import protocol
from swarm.client import naming, telling
from swarm.client import status as plain
from swarm.client.options import command, ended_by_signals, known_tasks, run_option, until_interrupted
from swarm.client.session import Session
from swarm.errors import SwarmError, UsageError

Document = dict[str, Any]

FRAME_S = 1.0


@command("status", shows=True)
@run_option
@click.option("--watch", is_flag=True, help="Keep it on the screen, live, until Ctrl-C.")
@click.option(
    "--all", "everywhere", is_flag=True, help="Every repository of this machine in which you have used swarm."
)
def status(session: Session, run: str | None, watch: bool, everywhere: bool) -> None:
    """Show runs, workers and what waits for what.

    With --all a few lines for each repository: whether its daemon runs, how far its runs are, what has failed or waits for you.
    """
    if everywhere and run is not None:
        raise UsageError("--all and --run exclude each other.", "Nothing was done.", "leave one of them out")
    look = _everywhere(session) if everywhere else _Here(session, run)
    if watch:
        live = session.interactive and not session.as_json and session.environ.get("TERM") != "dumb"
        with until_interrupted():
            (_watch_live if live else _watch_plain)(session, look)
    plain.write(session, look.document(), look.text)


class _Look(Protocol):
    """Looks how things stand, as often as it is asked to, and has that as text or as a picture of the live view."""

    def document(self) -> Document: ...

    def text(self, document: Document) -> str: ...

    def picture(self) -> Any: ...


def _everywhere(session: Session) -> _Look:
    from swarm.client.everywhere import Everywhere

    return Everywhere(session)


class _Here:
    """Looks at this repository."""

    def __init__(self, session: Session, run: str | None) -> None:
        self._session = session
        self._run = run

    def document(self) -> Document:
        return self._session.document(run=self._run, full=self._session.as_json)

    def text(self, document: Document) -> str:
        return plain.as_text(self._session, document)

    def picture(self) -> Any:
        from swarm.client import live

        return live.of_one(self._session.here)


def _watch_live(session: Session, look: _Look) -> None:
    from swarm.client.live import Screen

    with Screen(session, look.picture(), stays=True) as screen:
        while True:
            screen.show(look.document())
            time.sleep(FRAME_S)


def _watch_plain(session: Session, look: _Look) -> None:
    """Writes the status again whenever it says something new."""
    shown = ""
    while True:
        document = look.document()
        text = json.dumps(document) + "\n" if session.as_json else look.text(document)
        if text != shown:
            session.out(text if session.as_json or not shown else f"\n{text}")
            shown = text
        time.sleep(FRAME_S)


# --- the others -------------------------------------------------------------------------------------------------------------


@command("show", shows=True)
@click.argument("task", shell_complete=known_tasks)
@run_option
@click.option(
    "--transcript", "whole", is_flag=True, help="Only what the built-in agent and its model said, all of it."
)
@click.option(
    "--attempt",
    type=click.IntRange(1),
    metavar="N",
    help="Whose transcript; the newest that has one if not given.",
)
def show(session: Session, task: str, run: str | None, whole: bool, attempt: int | None) -> None:
    """Show everything known of a task, its attempts and why each ended."""
    from swarm.client import transcripts

    run_id, found = session.task(task, run)
    if attempt is not None:
        naming.attempt_of(found, attempt)
    document = session.task_document(run_id, str(found["id"]))
    transcripts.add_paths(document, session.state)
    if session.as_json:
        session.json(document)
        return
    talked = transcripts.chosen(document["task"], attempt)
    if not whole:
        session.out(telling.task_text(document, now=time.time(), top=session.here))
        if talked is not None:
            lines = transcripts.told(talked, whole=False)
            name = naming.called({**document, "id": run_id}, str(found["id"]))
            session.out(telling.transcript_text(name, talked, lines))
    elif talked is None:
        session.note("There is no transcript: only the built-in agent keeps one.")
    else:
        session.out("".join(f"{line}\n" for line in transcripts.told(talked, whole=True)))


@command("diff", shows=True)
@click.argument("task", shell_complete=known_tasks)
@run_option
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Of which attempt; else what counts.")
def diff(session: Session, task: str, run: str | None, attempt: int | None) -> None:
    """Show what a task changed: its landing, else the work of its newest attempt that kept any, else what its worker has changed so
    far.

    With --json whose work it is, between which commits, each file with its lines added and deleted (0 of a binary one), and the
    patch as text, in which what is no UTF-8 is replaced.
    """
    from swarm.client import changes

    session.need_files()
    run_id, found = session.task(task, run)
    name = protocol.printable(task)
    on_terminal = session.interactive
    if attempt is not None:
        naming.attempt_of(found, attempt)
        name = f"Attempt {attempt} of {name}"
    whose = (session.top, session.state, run_id, str(found["id"]))
    if session.as_json:
        session.json(changes.document(*whose, attempt=attempt))
        return
    works = changes.at_work(*whose[1:], attempt)
    if works is not None:
        ended = (
            "has ended, and is being collected; it" if works.step == "collecting" else "is at work; so far it"
        )
        session.note(f"Attempt {works.n} of {protocol.printable(task)} {ended} has changed:")
    patch = changes.patch(*whose, attempt=attempt, binary=not on_terminal)
    if not patch:
        session.note(_no_patch(name, found, attempt))
    elif on_terminal:
        session.out(protocol.printable(patch.decode("utf-8", "replace"), keep_newlines=True))
    else:  # a pipe gets the bytes, so that git apply can read them
        session.out_bytes(patch)
    if changes.is_cut(patch):
        words = f"swarm diff {protocol.printable(task)}{f' --attempt {attempt}' if attempt else ''} --json"
        session.note(
            "This is only the beginning of the patch, as its last line says; git apply can't take it."
            + (f"\n  Next: git diff of the two commits that are named by {words}" if works is None else "")
        )


def _no_patch(name: str, task: dict[str, Any], n: int | None) -> str:
    """Says why there is nothing to be shown of a task, or of its attempt `n`, and where what could not be committed lies."""
    tried = [each for each in task.get("attempts") or [] if n in (None, each.get("n"))]
    if not tried:
        return f"{name} has had no attempt."
    if aside := tried[-1].get("saved"):
        return f"{name} has nothing on its branch; what lay in its worktree is kept in {protocol.printable(aside)}."
    return f"{name} has changed nothing."


@command("claims", shows=True)
@click.option(
    "--work",
    is_flag=True,
    help="Also look what running workers have changed so far, and where that would conflict.",
)
def claims(session: Session, work: bool) -> None:
    """Show who may change what now, and who waits for whom because of it.

    With --work the worktrees of running workers are read as they are at this moment, disturbing nobody: paths changed so far, those
    outside the claims, and where two of them, or one and staging, would conflict.
    """
    with ended_by_signals():  # a git that reads what a worker wrote, and its folder, go with us
        shown = claims_document(session, work=work)
    if session.as_json:
        session.json(shown)
    else:
        session.out(telling.claims_text(shown))


def claims_document(session: Session, *, work: bool) -> dict[str, Any]:
    """Gives who may change what and who waits for whom; with `work` also what running workers have changed so far."""
    document = session.document(full=True)
    session.heed_silence(document)
    shown: dict[str, Any] = {
        "schema": protocol.SCHEMA,
        "claims": document.get("claims") or [],
        "waiting": telling.waiting_for_claims(document),
    }
    return {**shown, "work": _foresee(session, document)} if work else shown


def _foresee(session: Session, document: dict[str, Any]) -> list[dict[str, Any]]:
    from pathlib import Path

    from swarm import config
    from swarm.client import offline

    settings = config.load(session.top, session.environ).worktrees
    lent = (*settings.copied, *settings.share)
    return offline.foresee(Path(session.place.common_dir), document, lent=lent)


@command("events", shows=True)
@run_option
@click.option("-f", "--follow", is_flag=True, help="Keep showing what happens, until Ctrl-C.")
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="SEQ", help="Only events after this number."
)
def events(session: Session, run: str | None, follow: bool, after: int) -> None:
    """Show what happened, from the first event on, as the journal has it."""
    if follow:
        if run is not None:
            naming.run_of(session.document(full=False), run)
        query = {"after": after, "follow": 1, "run": run}
        with until_interrupted():
            for event in session.daemon().stream(protocol.EVENTS, query):
                _tell(session, event)
        raise SwarmError(
            "The daemon ended, and with it the events.", "", "swarm start; what happened is kept"
        )
    told = False
    for event in session.events(after):
        if run is None or event.get("run") == run:
            told = True
            _tell(session, event)
    if run is not None and not told:
        naming.run_of(session.document(full=False), run)


def _tell(session: Session, event: dict[str, Any]) -> None:
    session.line(json.dumps(event) if session.as_json else telling.event_text(event))

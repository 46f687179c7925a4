"""Commands for when something went wrong, or may have, and for what is over and done with: audit, doctor, recover, discard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from swarm import protocol
from swarm.client.connection import AnswerBroken, AnswerLate, Connection
from swarm.client.options import command, ended_by_signals, folders, known_runs, known_tasks, run_option
from swarm.client.session import Session
from swarm.errors import EXIT_NOT_LANDED, EXIT_OK, NoDaemon, Refused, SwarmError, UsageError

MOVED = "moved"  # of what is found: a staging branch that was moved by hand, and holds its run up until a person moves it back
_NOTHING = {
    "kind": "",
    "text": "",
    "remedy": "",
    "mended": False,
    "failed": False,
}  # a finding, as it is shown


@command("audit", shows=True)
@run_option
@click.option(
    "--verify",
    type=click.IntRange(1),
    metavar="N",
    help="Also run the suites of N landings again, spread over staging, in a throw-away checkout.",
)
def audit(session: Session, run: str | None, verify: int | None) -> int:
    """Check that everything that must be true of the repository and the journal is.

    Changes nothing, needs no daemon and may be run while one works. Ends with 1 where an invariant is broken, with its number and
    what to do; the invariants are explained in docs/explanation/invariants.md.
    """
    from swarm.client import offline

    session.need_state()
    with ended_by_signals():
        document, text, code = offline.audit(session.top, run, verify or 0)
    if session.as_json:
        session.json(document)
    else:
        session.out(text)
    return code


@command("doctor", shows=True)
def doctor(session: Session) -> int:
    """Check the machine, git, the sandbox, agents, limits and what is kept; each line that is not well has a remedy.

    Changes nothing. Ends with 1 where something is bad.
    """
    from swarm.client import offline

    checks = offline.doctor(session.top)
    daemon = session.daemon_or_none()
    checks.append(_about_daemon(daemon))
    if not any(each["state"] == "bad" for each in checks):
        checks += _old_settings(session, daemon) if daemon is not None else []
        checks += _stale(session)
    bad = any(each["state"] == "bad" for each in checks)
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, "ok": not bad, "checks": checks})
        return EXIT_NOT_LANDED if bad else EXIT_OK
    for each in checks:
        session.line(f"{each['state']:<5} {each['name']}: {protocol.printable(each['text'])}")
        if each["remedy"]:
            session.line(f"        Next: {protocol.printable(each['remedy'])}")
    return EXIT_NOT_LANDED if bad else EXIT_OK


@command("agents", shows=True)
def agents(session: Session) -> None:
    """Show the agents there are, which of them can be used here, and why the others can't.

    Only what can be seen without asking anybody is looked at: the program, and whether it has a key or a login.
    """
    from swarm.client import offline

    found = offline.agents(session.top)
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, "agents": found})
        return
    for each in found:
        session.line(f"{each['name']:<10} {'usable' if each['usable'] else 'no'}  {_about_agent(each)}")
        if each["remedy"]:
            session.line(f"           Next: {protocol.printable(each['remedy'])}")


def _about_daemon(daemon: Connection | None) -> dict[str, Any]:
    """Says whether a daemon runs, as a line for the doctor, and whether it answers."""
    line = {"name": "daemon", "state": "ok", "text": "none runs", "remedy": ""}
    if daemon is None:
        return line
    try:
        daemon.get(protocol.PING)
    except AnswerLate as late:
        return line | {"state": "bad", "text": late.cause, "remedy": late.next_step}
    except (NoDaemon, AnswerBroken):
        return line
    return line | {"text": f"process {daemon.pid} runs"}


def _about_agent(agent: Mapping[str, Any]) -> str:
    about = agent["program"] if agent["usable"] else agent["reason"]
    model = f"model {agent['model']}" if agent["model"] else ""
    retry = f"from the second attempt on {agent['retry_model']}" if agent["retry_model"] else ""
    untested = "" if agent["tested"] else "untested with the real program"
    parts = [about, agent["version"], model, retry, untested]
    return protocol.printable(", ".join(part for part in parts if part))


def _old_settings(session: Session, daemon: Connection) -> list[dict[str, Any]]:
    """Says that the daemon goes by other settings than those that the doctor looked at, where it does."""
    from swarm.client import in_force

    names = ", ".join(in_force.differences(session, daemon))
    text = f"the daemon has others than are set now: {names}"
    line = {"name": "settings", "state": "warn", "text": text, "remedy": "swarm config shows both"}
    return [line] if names else []


def _stale(session: Session) -> list[dict[str, Any]]:
    """Lists what is not as the journal has it, as lines for the doctor."""
    try:
        found = recovered(session, dry_run=True)
    except SwarmError as error:
        return [{"name": "stale", "state": "bad", "text": error.cause, "remedy": error.next_step}]
    return [
        {
            "name": "stale",
            "state": "warn",
            "text": each["text"],
            "remedy": "swarm recover" if each.get("remedy") else "see to it",
        }
        for each in found
    ]


@command("recover", shows=True, steers=True)
@click.argument("task", required=False, shell_complete=known_tasks)
@run_option
@click.option(
    "--attempt", type=click.IntRange(1), metavar="N", help="Of TASK: which attempt; the last if not given."
)
@click.option(
    "--saved",
    type=click.IntRange(0),
    metavar="K",
    help="Of TASK: which of its recovery refs; 0 is the attempt's own branch.",
)
@click.option(
    "--into",
    metavar="DIR",
    shell_complete=folders,
    help="Of TASK: write the files into this new folder instead of a worktree.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only say what is wrong and would be done; of TASK, what is kept."
)
@click.option(
    "--journal",
    is_flag=True,
    help="First make the journal anew, from its transcript and the landing repository, where it is gone, damaged or an older copy.",
)
def recover(
    session: Session,
    task: str | None,
    run: str | None,
    dry_run: bool,
    journal: bool,
    into: str | None,
    **which: int | None,
) -> int:
    """Bring worktrees, processes, refs and journal into agreement; or bring back the work of TASK.

    Every start does the former. It works with and without a daemon, after deleted folders, git worktree prune, a killed daemon, a
    full disk; nothing that holds work is removed, and nothing that is not swarm's own is touched. Ends with 1 where a staging
    branch was moved by hand: it stays where it is, and what moves it back is told; and where something could not be looked at.

    With TASK, what is kept of it is laid out in a worktree as it was when it was saved, untracked files and index too, and the path
    is printed. The newest recovery ref of the last attempt comes first, else the attempt's own branch. Of a ref that keeps what a
    worker left in a stash or on another branch, and nothing of its worktree, the newest of that is laid out; the others are named
    with the git command that gets each.
    """
    if task is not None:
        _bring_back(session, task, run, into, which, dry_run=dry_run)
        return EXIT_OK
    if into is not None or run is not None or any(each is not None for each in which.values()):
        raise UsageError("These options are about a task.", "Nothing was done.", "swarm recover TASK")
    daemon = session.daemon_or_none()
    rebuilt: list[dict[str, Any]] = []
    if journal:
        if daemon is not None:
            raise Refused(
                "A daemon runs, so its journal is not rebuilt.", "Nothing was done.", "swarm stop, then again"
            )
        from swarm.client import offline

        rebuilt = offline.rebuild_journal(session.top, session.state, dry_run=dry_run)
    nothing_yet = journal and dry_run  # that worktrees and refs could be held against
    found = [*rebuilt, *([] if nothing_yet else recovered(session, dry_run=dry_run))]
    if session.as_json:
        shown = [{**_NOTHING, **each} for each in found]
        session.json(
            {"schema": protocol.SCHEMA, "dry_run": dry_run, "daemon": daemon is not None, "found": shown}
        )
    else:
        for each in found:
            session.line(_finding_line(each, dry_run))
        if not found:
            session.line("Everything is as the journal has it.")
    left = any(each.get("kind") == MOVED or each.get("failed") for each in found)
    return EXIT_NOT_LANDED if left else EXIT_OK


def recovered(session: Session, *, dry_run: bool) -> list[dict[str, Any]]:
    """Has what there is held against the journal, by the daemon or without one, and gives what was found."""

    def alone() -> list[dict[str, Any]]:
        from swarm.client import offline

        return list(offline.recover(session.top, session.state, dry_run=dry_run))

    return session.asked_or_else(
        lambda daemon: list(daemon.post(protocol.RECOVER, {"dry_run": dry_run})["found"]), alone
    )


def _bring_back(
    session: Session,
    task: str,
    run: str | None,
    into: str | None,
    which: Mapping[str, int | None],
    *,
    dry_run: bool,
) -> None:
    from pathlib import Path

    from swarm.client import kept as keeping
    from swarm.client import render

    kept = keeping.work_of(session.top, task, run)
    fits = [
        each
        for each in kept
        if which["attempt"] in (None, each["attempt"]) and which["saved"] in (None, each["saved"])
    ]
    if not fits:
        known = ", ".join(f"--attempt {each['attempt']} --saved {each['saved']}" for each in kept)
        aside = keeping.set_aside(session.top, kept[-1]["task"])
        step = "; ".join(filter(None, (f"one of: {known}", aside)))
        raise UsageError("That is not among what is kept on a branch.", "Nothing was done.", step)
    chosen = fits[-1]
    place = None
    if not dry_run:
        place = str(keeping.bring_back(session.top, session.state, chosen, Path(into) if into else None))
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, "place": place, **chosen, "kept": kept})
        return
    for each in kept:
        if dry_run or each is not chosen:
            options = f"--attempt {each['attempt']} --saved {each['saved']}"
            session.note(
                f"{'kept' if dry_run else 'also kept'}: {protocol.printable(each['branch'])} ({options})"
            )
            for line in render.kept_text(each, laid_out=False):
                session.note(line)
    if aside := keeping.set_aside(session.top, chosen["task"]):
        session.note(f"Besides, {protocol.printable(aside)}")
    if place is not None:
        session.note(f"From {protocol.printable(chosen['branch'])}:")
        for line in render.kept_text(chosen, laid_out=True):
            session.note(line)
        session.line(place)


def _finding_line(found: Mapping[str, Any], dry_run: bool) -> str:
    text, remedy = (protocol.printable(found.get(name) or "") for name in ("text", "remedy"))
    if found.get("failed"):
        return f"failed  {text}"
    if found.get("mended"):
        return f"mended  {text}: {remedy}"
    if remedy and dry_run:
        return f"wrong   {text}: {remedy} (not done: --dry-run)"
    return f"left    {text}" + (f": {remedy}, which did not succeed" if remedy else "")


@command("discard", shows=True, steers=True)
@click.argument("run", shell_complete=known_runs)
@click.option(
    "--force", is_flag=True, help="Also what is nowhere else, once its names were typed, or came on stdin."
)
@click.option(
    "--yes",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name of what is to be given up, instead of typing it.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be lost.")
def discard(session: Session, run: str, force: bool, names: tuple[str, ...], dry_run: bool) -> None:
    """End a run and remove its worktrees, branches and recovery refs.

    Refused while it holds work that is nowhere else: not landed, or on staging and not on your branch. With --force that is given
    up, if each name of it is typed, or read from stdin where that is no terminal. The name of the run is free again afterwards.
    """
    document = _discard(session, run, force, names, dry_run)
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, **document})
        return
    for each in document["holds"] if dry_run else ():
        session.line(f"nowhere else  {protocol.printable(each['name'])}: {protocol.printable(each['text'])}")
    if dry_run and not document["holds"]:
        session.line("Nothing would be lost.")
    if not dry_run:
        session.line(f"Run {protocol.printable(run)} is gone, and so are its worktrees and branches.")
        _say_what_stays(session)


def _say_what_stays(session: Session) -> None:
    """Says that spare worktrees are kept, which belong to no run, where there is none left that they could serve."""
    from swarm.client.finishing import worktree_rows

    if not session.document(full=False)["runs"]:
        spare = sum(row["state"] == "spare" for row in worktree_rows(session, exact=False))
        if spare:
            session.line(
                f"Spare worktrees ({spare}) stay, clean, for the next run. To remove them: swarm worktrees --clean"
            )


def _discard(
    session: Session, run: str, force: bool, names: tuple[str, ...], dry_run: bool
) -> dict[str, Any]:
    """Has a run discarded, or says what would be lost. A daemon that was started to say that may be gone when it has been read, so
    it is asked for once more."""

    def asked(ask: Callable[[Connection], dict[str, Any]]) -> dict[str, Any]:
        return session.with_daemon(
            lambda daemon, _: ask(daemon),
            before_start=lambda: session.check_run(run, looks=dry_run),
            ends="answered",
        )

    body: dict[str, Any] = {"run": run, "force": force, "names": list(names), "dry_run": True}
    if dry_run or (force and not names):
        document: dict[str, Any] = asked(lambda daemon: dict(daemon.post(protocol.DISCARD, body)))
        if dry_run:
            return document
        if document["holds"]:
            body["names"] = _typed(session, document["holds"])
    return asked(lambda daemon: _done(daemon, body))


def _done(daemon: Connection, body: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = daemon.post(
        protocol.DISCARD, {**body, "dry_run": False}, timeout_s=protocol.FINISH_TIMEOUT_S
    )
    return document


def _typed(session: Session, holds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Has a person type the names of what is to be given up, in a line; without a terminal they are read from stdin, until all are
    there. Raises `UsageError` for a quote that is not closed."""
    import shlex
    import sys

    for each in holds:
        session.note(f"{protocol.printable(each['name'])}: {protocol.printable(each['text'])}")
    try:
        if sys.stdin is not None and sys.stdin.isatty():
            asked = "Type the names of all that is to be given up"
            return shlex.split(click.prompt(asked, default="", show_default=False, err=True))
        typed: list[str] = []
        for line in sys.stdin or ():
            typed += shlex.split(line)
            if {str(each["name"]) for each in holds} <= set(typed):
                break
        return typed
    except ValueError as error:
        raise UsageError(
            f"The names can't be read: {error}.",
            "Nothing was removed.",
            "type them again, or give --yes NAME",
        ) from None

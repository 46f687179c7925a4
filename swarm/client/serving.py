"""Commands about the service and its settings: init, start, stop, config, schema."""

from __future__ import annotations

import os
import select
import time
from typing import Any

import click

from swarm import protocol
from swarm.client import place
from swarm.client.connection import AnswerBroken, AnswerLate, Connection, handle
from swarm.client.options import command, files
from swarm.client.session import Session
from swarm.client.submitting import Submission
from swarm.errors import NoDaemon, Refused, SwarmError, UsageError

STOP_TIMEOUT_S = 120.0  # beyond the grace time of workers and the landing that is under way


@command("init", does=True, steers=True)
def init(session: Session) -> None:
    """Write a swarm.toml that explains every setting.

    Every value in it is commented out and the default. Nothing else in the repository changes.
    """
    from swarm import config
    from swarm.client import offline

    path = os.path.join(offline.checkout(session.top), protocol.SETTINGS_FILE)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(config.template())
    except FileExistsError:
        raise Refused(
            f"{path} is there already.",
            "It was not touched.",
            "edit it, or move it away and run swarm init again",
        ) from None
    except OSError as error:
        raise SwarmError(f"{path} can't be written: {error.strerror}.", "Nothing was done.") from None
    session.line(f"Wrote {path}. Next: swarm check PLAN, then swarm run PLAN")


@command("start", does=True, steers=True)
@click.option(
    "--workers",
    type=click.IntRange(1, protocol.WORKERS_MAX),
    metavar="N",
    help="Most workers at the same time.",
)
@click.option("--foreground", is_flag=True, help="Stay in the foreground, for systemd and friends.")
@click.option("--plan", metavar="PLAN", shell_complete=files, help="Submit this plan when it has started.")
@click.option(
    "--watch",
    metavar="PLAN",
    shell_complete=files,
    help="Submit this plan, and from then on whatever is added to its file; what lands is ticked off there.",
)
def start(
    session: Session, workers: int | None, foreground: bool, plan: str | None, watch: str | None
) -> None:
    """Start the background service of this repository.

    There is one per repository; where it is already running this says so and is well. It goes on until swarm stop. A plan that is
    watched is watched again by the next service, until its run is cancelled or discarded.
    """
    if plan is not None and watch is not None:
        raise UsageError(
            "--plan and --watch exclude each other.", "Nothing was done.", "--watch submits it too"
        )
    given = plan if watch is None else watch
    submission = None if given is None else Submission(session, given, watch=watch is not None)
    if foreground and session.daemon_or_none() is None and _serve(session, workers, submission):
        return
    running = session.with_daemon(
        lambda daemon, started: _stays(session, daemon, started, workers),
        workers=workers,
        ends="never",
    )
    if submission is not None:
        submission.submit(running)


def _stays(session: Session, daemon: Connection, started: bool, workers: int | None) -> Connection:
    """Says what there is, and has a daemon that `swarm run` started stay for good."""
    if started:
        session.say("Next: swarm submit PLAN, swarm status")
        return daemon
    from swarm.client import in_force

    if daemon.about.get("ends_when_idle"):
        daemon.post(protocol.STAY, {})
    daemon.get(protocol.PING)  # raises where it does not answer
    session.say(f"The daemon is already running (process {daemon.pid}).")
    in_force.warn(session, daemon, but=() if workers is None else (in_force.WORKERS,))
    if workers is not None:
        daemon.post(protocol.SCALE, {"workers_max": workers})
        session.line(f"From now on at most {protocol.counted(workers, 'worker')} at a time.")
    return daemon


def _serve(session: Session, workers: int | None, submission: Submission | None) -> bool:
    """Is the daemon until it is told to stop; a plan is submitted as soon as it answers. False where another is it already."""
    from swarm.client import failure, spawning

    def submit() -> None:
        try:
            if submission is not None:
                submission.submit(session.daemon())
        except SwarmError as error:
            failure.exit_code(error)  # says it; the daemon goes on

    place.remember(session.place, session.environ)
    return spawning.become(session.top, workers=workers, when_ready=submit)


@command("stop", does=True, steers=True)
@click.option("--drain", "mode", flag_value="drain", help="Let running workers finish first.")
@click.option("--now", "mode", flag_value="now", help="Kill workers, without a grace time.")
@click.option(
    "--leave-workers", "mode", flag_value="leave-workers", help="End the daemon only; the next adopts them."
)
def stop(session: Session, mode: str | None) -> None:
    """Stop the background service of this repository.

    Nothing new starts, workers get a grace time, and everything known is kept: after swarm start it goes on. A service that does
    not answer is killed by --now; its workers then go on, and the next one adopts them. Where none runs, workers and suites
    that the last one left are named.
    """
    daemon = session.daemon_or_none()
    if daemon is None:
        session.line(_without_daemon(session))
        return
    end(session, daemon, mode or "graceful")
    session.line("Stopped. What it knows is kept; swarm start goes on with it.")


def _without_daemon(session: Session) -> str:
    """Says that no daemon runs, which workers and suites go on all the same, and what to do about them."""
    from swarm.client import offline

    try:
        left = offline.left_running(session.place.state)
    except (SwarmError, OSError):  # of a journal that can't be read `status` tells
        left = []
    if not left:
        return "No daemon runs."
    suites = sum(each["suite"] for each in left)
    counts = [(len(left) - suites, "worker"), (suites, "suite")]
    what = " and ".join(protocol.counted(n, word) for n, word in counts if n)
    goes, them = ("goes", "it") if len(left) == 1 else ("go", "them")
    told = [f"No daemon runs; {what} that the last one left {goes} on:"]
    for each in left:
        name = protocol.printable(f"{each['run']}/{each['task']}")
        suite = ", a suite" if each["suite"] else ""
        told.append(f"  {name}, attempt {each['attempt']}{suite}: process {each['pid']}")
    told.append(f"  Next: swarm start, which takes {them} over; swarm stop --now then ends {them}")
    return "\n".join(told)


def end(session: Session, daemon: Connection, mode: str) -> None:
    """Tells a daemon to end, in one of the `STOP_MODES`, and waits until it has."""
    process, drains = handle(daemon.pid), mode == "drain"
    try:
        daemon.post(protocol.STOP, {"mode": mode})
    except (NoDaemon, AnswerBroken):
        drains = False  # it ends by itself just now; that it does is seen below
    except AnswerLate as late:
        from swarm.client import spawning

        if mode != "now" or not spawning.kill(daemon.about):
            raise
        session.note(f"{late.cause}\n  It is killed. Workers go on, and swarm start takes them over.")
    if drains:
        session.note("Waiting for running workers (Ctrl-C leaves it to itself) …")
    _wait_for_end(daemon, process, None if drains else STOP_TIMEOUT_S)


def _wait_for_end(daemon: Connection, end: int | None, timeout_s: float | None) -> None:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    if end is not None:
        try:
            ready, _, _ = select.select([end], [], [], timeout_s)
        finally:
            os.close(end)
        if ready:
            return
    while deadline is None or time.monotonic() < deadline:  # no handle: the socket tells
        try:
            daemon.open().close()
        except NoDaemon:
            return
        time.sleep(0.05)
    raise SwarmError(
        f"The daemon (process {daemon.pid}) has not ended within {timeout_s:g} s.",
        "It is told to and may still be at it.",
        "swarm status; swarm stop --now",
    )


@command("config", shows=True)
def config(session: Session) -> None:
    """Show every setting and where it comes from, and what the running daemon has where that differs.

    A daemon keeps the settings that it started with.
    """
    from swarm import config as settings
    from swarm.client import in_force, telling

    rows = settings.flat(settings.load(session.top, session.environ))
    daemon = session.daemon_or_none()
    differs = {}
    try:
        differs = in_force.differences(session, daemon) if daemon is not None else {}
    except AnswerLate as late:
        session.note(f"{late.cause}\n  What it has is not known.\n  Next: {late.next_step}")
    if session.as_json:
        others = [_setting(key, *running) for key, (_, running) in differs.items()]
        about = None if daemon is None else {"pid": daemon.pid, "differs": others}
        listed = [_setting(*row) for row in rows]
        session.json({"schema": protocol.SCHEMA, "settings": listed, "daemon": about})
        return
    shown = {key: (key, settings.in_toml(value), source) for key, value, source in rows}
    for key, (now, running) in differs.items():
        value = "" if now.value is None else settings.in_toml(now.value)
        shown[key] = (key, value, f"{now.source}; the daemon has {running.text}")
    session.out(telling.table([tuple(protocol.printable(cell) for cell in row) for row in shown.values()]))
    if daemon is not None and differs:
        session.note(
            f"The daemon (process {daemon.pid}) keeps the settings that it started with.\n"
            "  Next: swarm stop --leave-workers, then swarm start: it takes these, and no work is lost"
        )


def _setting(key: str, value: Any, source: str) -> dict[str, Any]:
    return {"key": key, "value": value, "source": source}


@command("schema", shows=True)
@click.argument("what", type=click.Choice(["plan", "config", "error", "all"]), default="all")
def schema(session: Session, what: str) -> None:
    """Print the JSON Schema of plans, of swarm.toml, and of what a command prints with --json when it fails, for editors and
    validators.

    All of them are one document, which has each by its name and, as every document, "schema": 1. One alone is a JSON Schema and
    nothing else; only with --json it has that key too, which strict validators don't know.
    """
    import json

    from swarm import config as settings
    from swarm.client import failure, planfiles

    parts = {}
    if what in ("plan", "all"):
        parts["plan"] = planfiles.schema()
    if what in ("config", "all"):
        parts["config"] = settings.schema()
    if what in ("error", "all"):
        parts["error"] = failure.schema()
    document = parts if what == "all" else parts[what]
    numbered = what == "all" or session.as_json
    session.line(json.dumps({"schema": protocol.SCHEMA, **document} if numbered else document, indent=2))

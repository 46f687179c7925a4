"""Commands that look at what stands on staging before it is merged: verify, qa."""

from __future__ import annotations

from typing import Any

import click

from swarm import protocol
from swarm.client import naming, progress, telling
from swarm.client.connection import Connection
from swarm.client.options import command, ended_by_signals, run_option
from swarm.client.session import OutputClosed, Session
from swarm.errors import EXIT_NOT_LANDED, EXIT_OK, Interrupted, SwarmError


@command("verify", shows=True, steers=True)
@run_option
def verify(session: Session, run: str | None) -> int:
    """Run the verification suites on staging now: the plan's, and those of all that has landed.

    In a throw-away checkout of exactly the commit that stands there; nothing is changed and no daemon is needed. Every suite really
    runs, also one that passed a moment ago. Ends with 1 where one does not pass.
    """
    from swarm.client import offline

    run_id = str(naming.run_of(session.document(full=False), run)["id"])
    with ended_by_signals():
        document = offline.verify(session.top, session.state, run_id)
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, **document})
    else:
        session.out(telling.verify_text(document))
    return EXIT_OK if document["ok"] else EXIT_NOT_LANDED


@command("qa", shows=True, steers=True)
@run_option
@click.option(
    "--rounds", type=click.IntRange(1, 100), metavar="N", help="Most reviews, instead of qa.rounds_max."
)
@click.option("--partial", is_flag=True, help="Also while tasks have not ended.")
def qa(session: Session, run: str | None, rounds: int | None, partial: bool) -> int:
    """Have staging reviewed by the agent that [qa] names, and mended by its fixer, until it is approved or the rounds are over.

    Reviews and repairs are tasks of the run: they land like all others, after the suites have passed. An approval is one of exactly
    what stands on staging; whatever lands later voids it. Ctrl-C detaches. Ends with 1 where staging is not approved.
    """
    body = {"run": run, "rounds": rounds, "partial": partial}
    daemon, after, run_id = begin(session, body)
    with progress.telling_what_holds(session, run_id):
        try:
            document = progress.follow(session, daemon, run_id, after=after, until=protocol.UNTIL_REVIEWED)
        except (KeyboardInterrupt, click.Abort, OutputClosed):
            name = protocol.printable(run_id)
            raise Interrupted(
                f"\nDetached: the QA of run {name} goes on.", "", f"swarm qa --run {name} waits again"
            ) from None
    reviewed = naming.run_of(document, run_id)
    if session.as_json:
        session.json(session.in_full(document, run_id))
    else:
        session.out(telling.qa_text(reviewed))
    approved = (reviewed.get("qa") or {}).get("state") == "approved"
    return EXIT_OK if approved else EXIT_NOT_LANDED


def begin(session: Session, body: dict[str, Any]) -> tuple[Connection, int, str]:
    """Has a run reviewed: `body` has run, rounds and partial. Gives the daemon, the last event before, and the run's id; a review
    that goes on already is joined."""
    return session.with_daemon(
        lambda daemon, started: _asked(session, daemon, started, body),
        before_start=lambda: session.check_run(body["run"]),
    )


def _asked(
    session: Session, daemon: Connection, started: bool, body: dict[str, Any]
) -> tuple[Connection, int, str]:
    if not started:
        from swarm.client import in_force

        in_force.warn(session, daemon)
    after = int(daemon.get(protocol.PING).get("seq") or 0)
    try:
        answer = daemon.post(protocol.QA, body, timeout_s=protocol.FINISH_TIMEOUT_S)
    except SwarmError:
        if started:  # for a review that was not begun nothing should stay behind
            daemon.post(protocol.STOP, {"mode": "graceful"})
        raise
    if answer["joined"]:
        session.note(f"A review is going on already: {protocol.printable(answer['task'])}")
    return daemon, after, str(answer["run"])

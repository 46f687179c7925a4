"""Commands that begin with a goal: scout, plan, build; and lessons, which they and all others go by.

Rules for editing: a word that may be a run's id never begins anything: what only looks must cost nothing. What begins something can
be typed again and goes on with it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from swarm import protocol
from swarm.client import goal_text, naming, progress, proposing, telling
from swarm.client.connection import Connection
from swarm.client.options import command, folders
from swarm.client.session import OutputClosed, Session
from swarm.errors import EXIT_NOT_LANDED, EXIT_OK, Detached, SwarmError, UsageError

PLANNED = ("approval", "approved", "building", "reviewing", "ready")  # stages in which there is a plan
UNDER_WAY = ("researching", "planning", "building", "reviewing")

_id = click.option(
    "--id", "run_id", default="", metavar="ID", help="The run's id, instead of one made from the goal."
)
_detach = click.option("--detach", is_flag=True, help="Return at once; it goes on in the background.")
_verify = click.option(
    "--verify", multiple=True, metavar="CMD", help="Verify what is built with this command too."
)


@command("scout", shows=True, steers=True)
@click.argument("questions", nargs=-1, metavar="QUESTION...")
@click.option("--show", metavar="ID", help="Show again what an earlier one found; starts nothing.")
@_id
@_detach
def scout(session: Session, questions: tuple[str, ...], show: str | None, run_id: str, detach: bool) -> int:
    """Have questions about the project looked into, all at once, by workers that change nothing.

    Who does it is said by [roles.scout]. What they found is kept until the run is discarded. Ends with 1 where nobody found out
    anything.
    """
    if show is not None:
        return _show_findings(session, show)
    asked = [question for question in questions if question.strip()]
    if not asked:
        raise UsageError(
            "There is no question.", "Nothing was begun.", 'swarm scout "how are errors reported?"'
        )
    daemon, after, run = begin(session, goal_request(session, "scout", "\n".join(asked), asked, run_id))
    if detach:
        return _say_begun(session, run, f"swarm scout --show {run}")
    _follow(session, daemon, run, after)
    return _show_findings(session, run)


def _show_findings(session: Session, run: str) -> int:
    document = findings(session, run)
    if session.as_json:
        session.json(document)
    else:
        session.out(goal_text.findings_text(document))
    return EXIT_OK if any(each["text"] for each in document["findings"]) else EXIT_NOT_LANDED


def findings(session: Session, run: str) -> dict[str, Any]:
    """Gives what the scouts of a run found, as `swarm scout --json` prints it."""
    goal = _goal_of(session, run)
    return {
        "schema": protocol.SCHEMA,
        "run": run,
        "stage": goal["stage"],
        "findings": goal["findings"],
        "merged": goal_text.merged_findings(goal["findings"]),
    }


@command("plan", shows=True, steers=True)
@click.argument("goal", nargs=-1, required=True, metavar="GOAL|@FILE|ID")
@click.option("--approve", is_flag=True, help="Approve of the plan of run ID as its file says now.")
@click.option("--yes", is_flag=True, help="Approve of whatever plan comes of it.")
@_verify
@_id
@_detach
def plan(
    session: Session,
    goal: tuple[str, ...],
    approve: bool,
    yes: bool,
    verify: tuple[str, ...],
    run_id: str,
    detach: bool,
) -> int:
    """Have a goal researched and a plan written for it, for you to approve of; or show that of run ID.

    Scouts look into the project, the architect writes the plan, and gets it back as long as it is not valid. Its file is yours to
    edit until you approve of it; an edit after that voids the approval. swarm build ID carries it out.
    """
    text = _text(goal)
    known = _known(session, text)
    if known is None and approve:
        raise UsageError(
            f"There is no run {protocol.printable(text)} with a plan.", "Nothing was done.", "swarm status"
        )
    if known is None:
        body = goal_request(session, "plan", text, (), run_id) | {"approved": yes, "verify": list(verify)}
        daemon, after, known = begin(session, body)
        if detach:
            return _say_begun(session, known, f"swarm plan {known}")
        _follow(session, daemon, known, after)
    shown = plan_document(session, known)
    asked = not approve and shown["stage"] == "approval" and _asks(session)
    agreed = _agreed(session, shown) if asked else shown if approve else None
    if agreed is not None:
        approved(session, known, digest=agreed["plan"]["digest"] if agreed["plan"] else "")
    shown = plan_document(session, known)
    if session.as_json:
        session.json(shown)
    elif asked:
        session.out(goal_text.goal_text({"id": known, "goal": shown}))
    else:
        session.out(goal_text.plan_text(shown))
    return EXIT_OK if shown["stage"] in PLANNED else EXIT_NOT_LANDED


@command("build", shows=True, steers=True)
@click.argument("goal", nargs=-1, required=True, metavar="GOAL|@FILE|ID")
@click.option(
    "--new",
    metavar="DIR",
    shell_complete=folders,
    help="Begin a new project in DIR: a repository with a first commit.",
)
@click.option(
    "--github",
    metavar="NAME",
    help="When all is ready make a private repository NAME on GitHub, and push there.",
)
@click.option("--yes", is_flag=True, help="Approve of whatever plan comes of it.")
@click.option("--sequential", is_flag=True, help="Build one task at a time, in the order of the plan.")
@click.option(
    "--workers",
    type=click.IntRange(1, protocol.WORKERS_MAX),
    metavar="N",
    help="Most workers at the same time.",
)
@_verify
@_id
@_detach
def build(
    session: Session,
    goal: tuple[str, ...],
    new: str | None,
    github: str | None,
    yes: bool,
    workers: int | None,
    run_id: str,
    detach: bool,
    **wanted: Any,
) -> int:
    """Go the whole way from a sentence to a verified staging branch: research, plan, approval, build, suites, QA.

    Then swarm finish merges it. A run ID whose plan was approved of is built; one that was begun is waited for. Ctrl-C detaches,
    and the same command again goes on. Ends with 0 when all is ready to be finished.
    """
    began = time.monotonic()
    text = _text(goal)
    if github is not None:
        _check_github(detach)
    if new is not None:
        if not _is_goal(text) and not Path(session.directory, new).exists():
            raise _no_goal(text)
        session = new_project(session, new)
    known = _known(session, text)
    if known is None:
        body = goal_request(session, "build", text, (), run_id) | {
            "approved": yes,
            **wanted,
            "verify": list(wanted["verify"]),
        }
        daemon, after, known = begin(session, body, workers=workers)
    else:
        daemon, after = go_on(session, known, yes=yes, workers=workers)
    if detach:
        return _say_begun(session, known, f"swarm build {known}")
    _follow(session, daemon, known, after)
    begun = built(session, known, yes=yes)
    if begun is not None:
        _follow(session, begun[0], known, begun[1])
    code = _end(session, known, time.monotonic() - began, github)
    if new is not None and not session.as_json:
        session.out(f"The project is in {protocol.printable(new)}: cd there for what comes next.\n")
    return code


def _check_github(detach: bool) -> None:
    """Sees before anything is spent that what comes of it could be pushed."""
    from swarm.client import offline

    if detach:
        raise UsageError(
            "--github and --detach exclude each other: it is pushed from here, when all is ready.",
            "Nothing was begun.",
            "swarm build ID --github NAME once it is",
        )
    offline.check_forge()


def _end(session: Session, run: str, elapsed_s: float, github: str | None) -> int:
    document = session.document(run=run)
    found = naming.run_of(document, run)
    if not session.as_json:
        if found["goal"]["plan"] and found["goal"]["plan"]["taken_in"]:
            session.out(telling.result_text(found, elapsed_s, top=session.here))
        session.out(goal_text.goal_text(found))
    if github is not None and found["goal"]["stage"] == "ready":
        with progress.telling_what_holds(session, run):
            proposing.publish(session, run, document, github)
        if not session.as_json:
            session.out(proposing.publish_text(document))
    if session.as_json:
        session.json(document)
    return EXIT_OK if found["goal"]["stage"] == "ready" else EXIT_NOT_LANDED


def new_project(session: Session, folder: str) -> Session:
    """Makes a repository with a first commit, where there is none yet, and gives the session that is about it."""
    from swarm.client import offline

    path = Path(session.directory, folder)
    offline.new_project(path)
    return Session(os.fspath(path), as_json=session.as_json, quiet=session.quiet, verbose=session.verbose)


@command("lessons", shows=True, steers=True)
@click.option("--forget", multiple=True, metavar="ID", help="Don't tell this to later runs.")
@click.option("--forget-all", "everything", is_flag=True, help="Forget all of them.")
def lessons(session: Session, forget: tuple[str, ...], everything: bool) -> None:
    """Show what earlier runs taught, which the prompts of later ones are told.

    Where work conflicted, which suites are flaky, what was tried and did not land.
    """
    from swarm.client import offline

    if everything:
        forget = (*forget, *(each["id"] for each in offline.lessons(session.state)))
    if forget:
        forgotten(session, forget)
    found = offline.lessons(session.state)
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, "lessons": found})
    else:
        session.out(goal_text.lessons_text(found))


def forgotten(session: Session, names: Sequence[str]) -> None:
    """Forgets lessons."""
    session.with_daemon(
        lambda daemon, _: daemon.post(protocol.FORGET, {"lessons": list(names)}), ends="answered"
    )


# --- asking the daemon ---


def goal_request(
    session: Session, kind: str, text: str, questions: Sequence[str], run_id: str
) -> dict[str, Any]:
    """Makes the body of a request for a goal, `shapes.GoalRequest`."""
    return {
        "kind": kind,
        "text": text,
        "questions": list(questions),
        "id": run_id,
        "approved": False,
        "sequential": False,
        "verify": [],
        "here": session.place.here,
    }


def begin(
    session: Session, body: dict[str, Any], *, workers: int | None = None
) -> tuple[Connection, int, str]:
    """Begins a run for a goal, or joins the one there is; gives the daemon, the last event before, and the run's id."""

    def ask(daemon: Connection, started: bool) -> tuple[Connection, int, str]:
        if not started:
            from swarm.client import in_force

            in_force.warn(session, daemon, but=() if workers is None else (in_force.WORKERS,))
        after = int(daemon.get(protocol.PING).get("seq") or 0)
        answer = _asked(daemon, started, protocol.GOAL, body)
        if workers is not None and not started:
            daemon.post(protocol.SCALE, {"workers_max": workers})
        if answer["joined"]:
            session.note(f"Run {protocol.printable(answer['run'])} is on its way already.")
        return daemon, after, str(answer["run"])

    return session.with_daemon(ask, workers=workers)


def approved(
    session: Session, run: str, *, digest: str = "", build: bool = False, workers: int | None = None
) -> tuple[Connection, int]:
    """Approves of the plan of a run as `digest` names it, or with "" holds it against what was approved of; with `build` it is
    carried out. Gives the daemon and the last event before."""

    def ask(daemon: Connection, started: bool) -> tuple[Connection, int]:
        after = int(daemon.get(protocol.PING).get("seq") or 0)
        _asked(daemon, started, protocol.APPROVE, {"run": run, "digest": digest, "build": build})
        return daemon, after

    return session.with_daemon(ask, workers=workers)


def _asked(daemon: Connection, started: bool, route: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = daemon.post(route, body)
    except SwarmError:
        if started:  # for what was refused nothing should stay behind
            daemon.post(protocol.STOP, {"mode": "graceful"})
        raise
    return answer


def go_on(session: Session, run: str, *, yes: bool, workers: int | None = None) -> tuple[Connection, int]:
    """Goes on with a run that has begun: builds what is approved of, or joins what is under way."""
    shown = plan_document(session, run)
    if shown["stage"] == "approved" or (shown["stage"] == "approval" and yes):
        digest = shown["plan"]["digest"] if yes else ""
        return approved(session, run, digest=digest, build=True, workers=workers)
    ends = (
        "idle" if shown["stage"] in UNDER_WAY else "answered"
    )  # nothing is begun where nothing is to be done
    return session.with_daemon(
        lambda daemon, _: (daemon, int(daemon.get(protocol.PING).get("seq") or 0)), workers=workers, ends=ends
    )


def built(session: Session, run: str, *, yes: bool) -> tuple[Connection, int] | None:
    """Begins to build the plan that a run has come to, where it is approved of or somebody agrees; None where that is not so, or it
    is being built."""
    shown = plan_document(session, run)
    if shown["stage"] == "approved":
        return approved(session, run, build=True)
    if shown["stage"] != "approval":
        return None
    agreed = shown if yes else _agreed(session, shown) if _asks(session) else None
    return None if agreed is None else approved(session, run, digest=agreed["plan"]["digest"], build=True)


def nobody_approves(goal: dict[str, Any]) -> bool:
    """Tells of a run that was just to be built and approved of whether neither is known to it."""
    return goal["stage"] in ("researching", "planning") and not (goal["builds"] and goal["approved"])


def _follow(session: Session, daemon: Connection, run: str, after: int) -> None:
    """Shows progress until nothing of a run goes on. Raises `Detached` where somebody did not want to wait."""
    with progress.telling_what_holds(session, run):
        try:
            progress.follow(session, daemon, run, after=after)
        except (KeyboardInterrupt, click.Abort, OutputClosed):
            name = protocol.printable(run)
            raise Detached(
                f"\nDetached: run {name} goes on in the background.",
                "",
                f"Look: swarm status --watch   Wait: swarm wait --run {name}   End it: swarm cancel --run {name}",
            ) from None


def _say_begun(session: Session, run: str, show: str) -> int:
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, "run": run})
    else:
        session.line(run)
        session.note(f"  Look: swarm status --run {run}   Wait: swarm wait --run {run}   Then: {show}")
    return EXIT_OK


# --- reading ---


def _text(words: tuple[str, ...]) -> str:
    """Gives the goal that is meant: the words, or what is in the file that follows an @. Raises `UsageError`."""
    text = " ".join(words).strip()
    if not text.startswith("@"):
        return text
    try:
        read = Path(text[1:]).read_text("utf-8", "replace").strip()
    except OSError as error:
        raise UsageError(
            f"{text[1:]} can't be read: {error.strerror}.",
            "Nothing was begun.",
            "say the goal, or @ and a file with it",
        ) from None
    if not read:
        raise UsageError(f"{text[1:]} is empty.", "Nothing was begun.", "write the goal into it")
    return read


def _known(session: Session, text: str) -> str | None:
    """Gives the run whose id a text is, None for a goal. Raises `UsageError` for a word that is neither."""
    document = session.document(full=False)
    found = next((run for run in document["runs"] if run["id"] == text), None)
    if found is not None and found.get("goal") is None:
        raise UsageError(
            f"Run {protocol.printable(text)} began with a plan, not with a goal.",
            "Nothing was done.",
            "swarm status",
        )
    if found is None and not _is_goal(text):
        raise _no_goal(text)
    return text if found is not None else None


def _is_goal(text: str) -> bool:
    return len(text.split()) > 1


def _no_goal(text: str) -> UsageError:
    return UsageError(
        f"There is no run {protocol.printable(text)}, and one word is no goal.",
        "Nothing was begun.",
        "say in a sentence what is wanted; swarm status lists the runs",
    )


def _goal_of(session: Session, run: str) -> dict[str, Any]:
    goal = naming.run_of(session.document(run=run), run).get("goal")
    if not isinstance(goal, dict):
        raise UsageError(
            f"Run {protocol.printable(run)} began with a plan, not with a goal.",
            "Nothing was done.",
            "swarm status",
        )
    return goal


def plan_document(session: Session, run: str) -> dict[str, Any]:
    """Gives the plan that a run came to, with its text and whether it was edited since it was approved of."""
    goal = _goal_of(session, run)
    document = {
        "schema": protocol.SCHEMA,
        "run": run,
        "goal": goal["text"],
        "stage": goal["stage"],
        "plan": None,
    }
    if goal["plan"] is None:
        return document
    file = session.state / goal["plan"]["file"]
    try:
        text = file.read_bytes().decode("utf-8", "replace")
    except OSError:
        text = ""
    found = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]  # as core/goal.digest names a content
    told = {
        "file": str(file),
        "text": text,
        "gone": not text,
        "digest": found if text else goal["plan"]["digest"],
        "approved": goal["plan"]["approved"],
        "edited": bool(text) and found != goal["plan"]["digest"],
        "tasks": goal["plan"]["tasks"],
        "errors": [],
    }
    if told["edited"]:
        from swarm import config
        from swarm.client import planfiles

        settings = config.load(session.top, session.environ)
        told["tasks"], told["errors"] = planfiles.read_edited(text, file.name, settings)
    return {**document, "plan": told}


def _asks(session: Session) -> bool:
    """Tells whether there is somebody to be asked about a plan."""
    return session.asks and not session.as_json and not session.quiet


def _agreed(session: Session, shown: dict[str, Any]) -> dict[str, Any] | None:
    """Shows a plan to whoever sits at the terminal, and asks; gives it as they agree to it, perhaps edited by them, else None."""
    while True:
        session.out(goal_text.plan_text(shown))
        answers = (
            ("n", "e")
            if shown["plan"]["errors"]
            else ("y", "n")
            if shown["plan"]["gone"]
            else ("y", "n", "e")
        )
        answer = click.prompt(
            "Approve of this plan (e: edit it)?" if "e" in answers else "Approve of this plan?",
            type=click.Choice(answers, case_sensitive=False),
            default="n",
            err=True,
        )
        if answer != "e":
            return shown if answer == "y" else None
        _edit(shown)
        shown = plan_document(session, shown["run"])


def _edit(shown: dict[str, Any]) -> None:
    """Has a plan edited in the editor of whoever sits at the terminal. Raises `UsageError`."""
    file = shown["plan"]["file"]
    try:
        click.edit(filename=file)
    except click.ClickException as error:
        raise UsageError(
            f"{error.format_message()}",
            "Nothing was approved of.",
            f"edit {file}, then swarm plan {shown['run']}; EDITOR names your editor",
        ) from None

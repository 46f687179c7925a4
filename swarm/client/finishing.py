"""Commands about what is done: finish, worktrees."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import click

from swarm import protocol
from swarm.client import naming, proposing, render, telling
from swarm.client.connection import Connection
from swarm.client.options import (
    SETTINGS,
    HelpedGroup,
    command,
    ended_by_signals,
    known_tasks,
    refuse_inside_worker,
    run_option,
)
from swarm.client.session import Session
from swarm.errors import EXIT_NOT_LANDED, EXIT_OK, EXIT_REFUSED, Interrupted, SwarmError, UsageError

if TYPE_CHECKING:
    from swarm.settings import DeploySettings


class CutShort(KeyboardInterrupt):
    """A finish that a person interrupted, with what came of it."""

    def __init__(self, told: SwarmError) -> None:
        super().__init__(str(told))
        self.told = told


@command("finish", shows=True, steers=True)
@run_option
@click.option(
    "--into", metavar="BRANCH", help="Merge into this branch instead of the one that the run started from."
)
@click.option(
    "--stage-only", is_flag=True, help="Put it into the index and the files of your checkout; commit nothing."
)
@click.option("--preview", is_flag=True, help="Only show what would be merged.")
@click.option("--partial", is_flag=True, help="Also while tasks have not ended.")
@click.option(
    "--pr",
    "propose",
    is_flag=True,
    help="Push it and open a pull request instead, through gh; merge nothing.",
)
def finish(
    session: Session,
    run: str | None,
    into: str | None,
    stage_only: bool,
    preview: bool,
    partial: bool,
    propose: bool,
) -> int:
    """Merge verified work from staging into your branch.

    Never forced: the branch moves only from where it was looked at, and a checkout of it only where nothing that changes is dirty.
    Then the command of [deploy] runs, if there is one; where it fails, finish again runs it again. With --pr nothing is merged
    and deployed: staging is pushed, and what lands later goes into the same pull request by --pr again.

    Ctrl-C takes it back, as long as nothing has been moved, and ends with 130; what came of it is told. Done, it ends with 0, also
    where other tasks of the run have failed: swarm wait ended with 1 then.
    """
    if stage_only + preview + propose > 1:
        raise UsageError(
            "--stage-only, --preview and --pr exclude each other.", "Nothing was done.", "one at a time"
        )
    began = time.monotonic()
    wanted = {
        "into": into,
        "stage_only": stage_only,
        "preview": preview,
        "partial": partial,
        "propose": propose,
    }
    try:
        run_id, document = finished(session, run, wanted, ended_by_signals())
    except CutShort as interrupted:
        told = interrupted.told
        raise Interrupted(told.cause, told.consequence, told.next_step) from None
    if session.as_json:
        session.json(document)
    else:
        session.out(telling.finish_text(document))
        elapsed_s = None if preview else time.monotonic() - began
        session.line(telling.summary_line(naming.run_of(document, run_id), elapsed_s))
    return EXIT_OK if telling.finished_well(document) else EXIT_NOT_LANDED


def finished(
    session: Session,
    run: str | None,
    wanted: dict[str, Any],
    interruptible: contextlib.AbstractContextManager[None] | None = None,
) -> tuple[str, dict[str, Any]]:
    """Has a run finished and deployed; gives its id and the status document with what came of it. `wanted` is what
    `shapes.FinishRequest` has besides the run and its key. Raises `CutShort` at a Ctrl-C while the daemon works at it, and where
    signals are that while it is `interruptible`."""
    if wanted["propose"]:
        from swarm.client import offline

        offline.check_forge()
    by = _deploying(session)
    with interruptible or contextlib.nullcontext():
        run_id, document = session.with_daemon(
            lambda daemon, _: _ask_to_finish(daemon, run, wanted, by),
            before_start=lambda: session.check_run(run, looks=bool(wanted.get("preview"))),
            ends="answered",
        )
    if wanted["propose"]:
        proposing.propose(session, run_id, document)
    _deploy(session, run_id, document["finish"], by)
    return run_id, document


def _deploying(session: Session) -> DeploySettings:
    from swarm import config

    return config.load(session.top, os.environ).deploy


def _deploy(session: Session, run: str, facts: dict[str, Any], by: DeploySettings) -> None:
    """Runs what the settings say follows a finish; where staging was on the target already, unless it has succeeded.

    `by` is what they said before it: the merge may bring a swarm.toml that a worker wrote, and what that says is nobody's word yet.
    """
    if facts["outcome"] not in ("finished", "nothing") or not facts["landed"]:
        return
    from swarm.client import offline

    done = offline.deploy(by, session.top, session.state, run, str(facts["into"]), str(facts["commit"]))
    if done is not None:
        facts["deploy"] = done
    try:
        now = _deploying(session)
    except SwarmError as error:  # it was well before, so it came with the merge, which stands
        wrong = error.cause.removeprefix("The settings have ")
        brought = f"{facts['into']} has it all, and with it came settings that have {wrong}"
        step = error.next_step or "see to it, then look with: swarm config"
        session.note(
            str(SwarmError(brought, "What reads the settings ends with 2 until that is mended.", step))
        )
        return
    if now.command != by.command:
        shown = protocol.printable(repr(now.command))
        session.note(
            f"The settings that this finish brought have another command for [deploy], which was not run: {shown}. It counts from"
            " the next swarm finish on."
        )


def _ask_to_finish(
    daemon: Connection, run: str | None, wanted: dict[str, Any], by: DeploySettings
) -> tuple[str, dict[str, Any]]:
    run_id = str(naming.run_of(daemon.get(protocol.STATUS, {"view": protocol.VIEW_SUMMARY}), run)["id"])
    key = secrets.token_hex(8)
    answer: Future[dict[str, Any]] = Future()

    def ask() -> None:
        try:
            body = {"run": run_id, "key": key, **wanted}
            answer.set_result(daemon.post(protocol.FINISH, body, timeout_s=protocol.FINISH_TIMEOUT_S))
        except BaseException as error:
            answer.set_exception(error)

    # Signals come to the main thread, so whatever they interrupt, the answer is read to its end.
    threading.Thread(target=ask, name="finish", daemon=True).start()
    try:
        return run_id, answer.result()
    except KeyboardInterrupt:
        raise CutShort(_taken_back(daemon, run_id, key, answer, by)) from None


def _taken_back(
    daemon: Connection, run: str, key: str, answer: Future[dict[str, Any]], by: DeploySettings
) -> SwarmError:
    """Takes a finish back, where that can still be done, and says what came of it; `by` is what would deploy it."""
    try:
        daemon.post(protocol.TAKE_BACK, {"key": key})
        facts = answer.result(timeout=protocol.ANSWER_TIMEOUT_S)["finish"]
    except SwarmError as error:
        return SwarmError(f"Interrupted. {error.cause}", error.consequence, error.next_step)
    except TimeoutError:
        return SwarmError(
            f"Interrupted. The daemon has not said yet what came of the finish of run {run}.",
            "It may be carried over just now.",
            "swarm status",
        )
    if facts["outcome"] not in ("finished", "staged"):
        return SwarmError(f"Interrupted. {facts['text']}")
    too_late = f"Interrupted, but it was too late to take it back: {facts['text']}"
    if facts["outcome"] == "staged" or not by.command:
        return SwarmError(too_late)
    step = f"swarm finish --run {naming.shell_word(run)} runs it"
    return SwarmError(too_late, "The command of [deploy] was not run.", step)


@click.group("worktrees", cls=HelpedGroup, invoke_without_command=True, context_settings=SETTINGS)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Say more about what is done.")
@click.option("--exact", is_flag=True, help="Count every file for the size, however many there are.")
@click.option(
    "--clean", is_flag=True, help="Remove those that nobody needs and that hold nothing of their own."
)
@click.option(
    "--force", is_flag=True, help="With --clean: also those with changes, which get a recovery ref first."
)
@click.pass_context
def worktrees(
    ctx: click.Context, as_json: bool, quiet: bool, verbose: bool, exact: bool, clean: bool, force: bool
) -> int | None:
    """Show the worktrees of runs: whose, branch, commits ahead of the base, age, changed paths, size on the disk.

    swarm worktrees open TASK gives a task's kept work a worktree again.
    """
    session = ctx.ensure_object(Session)
    session.as_json = session.as_json or as_json
    session.quiet, session.verbose = session.quiet or quiet, session.verbose or verbose
    if ctx.invoked_subcommand is not None:
        return None
    if clean:
        refuse_inside_worker("swarm worktrees --clean")
        return _clean(session, force=force)
    if force:
        raise UsageError("--force goes with --clean.", "Nothing was done.", "swarm worktrees --clean --force")
    rows = worktree_rows(session, exact=exact)
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, "worktrees": rows})
    else:
        session.out(telling.worktrees_text(rows, top=session.here))
    return None


def worktree_rows(session: Session, *, exact: bool) -> list[dict[str, Any]]:
    """Lists the worktrees of runs, with whose each is and how it stands."""
    from pathlib import Path

    from swarm import config
    from swarm.client import offline

    settings = config.load(session.top, session.environ).worktrees
    root = Path(os.path.realpath(session.top / settings.root))
    owners = telling.worktree_owners(session.document(), root=str(root))
    lent = (*settings.copied, *settings.share)
    return list(offline.worktrees(Path(session.place.common_dir), root, owners, lent=lent, exact=exact))


def _clean(session: Session, *, force: bool) -> int:
    """Removes worktrees that nobody needs; ends with 4 where some were left because of what is in them."""

    def alone() -> list[dict[str, Any]]:
        from swarm.client import offline

        return list(offline.clean(session.top, session.state, force=force))

    done = session.asked_or_else(
        lambda daemon: list(daemon.post(protocol.CLEAN, {"force": force})["worktrees"]), alone
    )
    done = [{"removed": False, "why": "", "saved": "", **each} for each in done]
    left = [each for each in done if not each["removed"]]
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, "worktrees": done})
    else:
        session.out(telling.cleaned_text(done, top=session.here))
    if left:
        session.note(
            "Next: look into what was left, or swarm worktrees --clean --force, which saves it on recovery refs first"
        )
    return EXIT_REFUSED if left else EXIT_OK


@command("open", does=True, steers=True)
@click.argument("task", shell_complete=known_tasks)
@run_option
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Which attempt; the last if not given.")
def open_task(session: Session, task: str, run: str | None, attempt: int | None) -> None:
    """Give a task's kept work a worktree again and print its path.

    Where its attempt left nothing on its branch but something in a stash or on another one, that is laid out, as by swarm recover.
    """
    from swarm.client import kept

    run_id, found = session.task(task, run)
    if attempt is not None:
        naming.attempt_of(found, attempt)
    place, newest, laid_out = kept.open_worktree(
        session.top, session.state, run_id, str(found["id"]), attempt
    )
    if newest is None and laid_out:
        session.note("Nothing of it is on a branch; what lay in its worktree was put aside as it was:")
    if newest is not None and newest["elsewhere"]:
        head = f"From {newest['branch']}" if laid_out else f"Besides, {telling.LEFT_ELSEWHERE}"
        session.note(f"{protocol.printable(head)}:")
        for line in render.kept_text(newest, laid_out=laid_out):
            session.note(line)
    session.line(str(place))


worktrees.add_command(open_task)

"""Commands that bring work in: check, run, submit, add, wait."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarm import protocol
from swarm.client import failure, naming, progress, telling
from swarm.client.connection import Connection
from swarm.client.options import command, files, known_runs, known_tasks, run_option, split
from swarm.client.session import OutputClosed, Session
from swarm.errors import (
    EXIT_NOT_LANDED,
    EXIT_OK,
    Detached,
    Interrupted,
    SwarmError,
    UsageError,
    WaitTimedOut,
)

if TYPE_CHECKING:
    from swarm.client.planfiles import Given
    from swarm.client.write_back import WriteBack

LEFT_OUT_SHOWN = 10  # tasks that are named


@command("check", shows=True)
@click.argument("plans", nargs=-1, required=True, metavar="PLAN...", shell_complete=files)
def check(session: Session, plans: tuple[str, ...]) -> int:
    """Validate plans without running them.

    PLAN is a file, a folder, or the number of a spec folder such as 001. Every error is shown at once with its place; then the
    waves, the critical path and how many workers can be of use.
    """
    from swarm import config
    from swarm.client import planfiles

    try:
        settings = config.load(session.top, session.environ)
        document, text, code = planfiles.check(list(plans), session.top, settings)
    except SwarmError as error:
        error.holds = {"schema": protocol.SCHEMA, "ok": False, "plans": []}
        raise
    if session.as_json:
        session.json(document)
    else:
        shown = protocol.printable(
            text, keep_newlines=True
        )  # ids are shown as they are in the file, also ones that are no ids
        session.out(shown if shown.endswith("\n") else f"{shown}\n")
    return int(code)


_PLAN_OPTIONS = (
    click.option("--only", multiple=True, metavar="TASK...", help="Only these tasks, and what they need."),
    click.option("--sequential", is_flag=True, help="One task at a time, in the order of the plan."),
    click.option(
        "--verify", multiple=True, metavar="CMD", help="Verify every candidate with this command too."
    ),
    click.option(
        "--fail-fast/--keep-going",
        default=False,
        help="Give the rest up at the first failure, or go on (default).",
    ),
    click.option(
        "--changed",
        is_flag=True,
        help="Do again what has landed and was made from something that has changed since.",
    ),
)


def _plan_options(body: Any) -> Any:
    for option in reversed(_PLAN_OPTIONS):
        body = option(body)
    return body


@command("run", shows=True, steers=True)
@click.argument("plan", shell_complete=files)
@click.argument("more", nargs=-1, metavar="")
@click.option(
    "--workers",
    type=click.IntRange(1, protocol.WORKERS_MAX),
    metavar="N",
    help="Most workers at the same time.",
)
@click.option(
    "--write-back",
    is_flag=True,
    help="Keep the states of the tasks in the plan file of another system as they are, until the run ends or is left.",
)
@_plan_options
def run(
    session: Session, plan: str, more: tuple[str, ...], workers: int | None, write_back: bool, **wanted: Any
) -> int:
    """Carry out a plan: start the service if none runs, submit, show progress, wait.

    Ctrl-C detaches: the run goes on. A service that this started ends by itself once no run is active. Ends with 0 when everything
    has landed, else with 1.
    """
    began = time.monotonic()
    body = _request(session, plan, more, wanted)
    path = _plan_to_write(body) if write_back else None
    try:
        daemon, after, answer = session.with_daemon(
            lambda daemon, started: _submit_for_run(session, daemon, started, body, workers),
            before_start=lambda: check_request(session, body),
            workers=workers,
        )
    except (KeyboardInterrupt, click.Abort):
        raise Interrupted(
            "\nInterrupted while the plan was being submitted; whether it was taken in is not known.",
            "",
            "swarm status; the same command again submits nothing twice",
        ) from None
    if not session.as_json:
        session.note(_submitted(answer))
    run_id = str(answer["run"])
    with progress.telling_what_holds(session, run_id):
        try:
            with _writing_back(session, daemon, path, run_id, after) as written:
                document = progress.follow(session, daemon, run_id, after=after)
        except (KeyboardInterrupt, click.Abort, OutputClosed):
            raise _detached(run_id) from None
    code = _end(session, document, run_id, time.monotonic() - began)
    return EXIT_NOT_LANDED if written is not None and written.failed else code


def _plan_to_write(body: dict[str, Any]) -> Path:
    """Gives the plan file, having made sure that it can hold states."""
    import binascii

    from swarm.client import planfiles

    plan = body["plan"]
    _need_file(plan, "--write-back")
    planfiles.check_write_back(binascii.a2b_base64(plan["data_base64"]), plan["source"])
    return Path(plan["source"])


def _need_file(plan: dict[str, Any], option: str) -> None:
    """Raises `UsageError` where a plan came through a pipe, in which nothing can be written or looked at again."""
    if "path" not in plan:
        raise UsageError(
            f"{option} needs the plan in a file, and this one came through a pipe.",
            "Nothing was done.",
            "save it first",
        )


def _writing_back(
    session: Session, daemon: Connection, path: Path | None, run_id: str, after: int
) -> contextlib.AbstractContextManager[WriteBack | None]:
    if path is None:
        return contextlib.nullcontext()
    from swarm.client.write_back import WriteBack

    return WriteBack(session, daemon, path, run_id, after=after)


def _submit_for_run(
    session: Session, daemon: Connection, started: bool, body: dict[str, Any], workers: int | None
) -> tuple[Connection, int, dict[str, Any]]:
    """Submits; gives the daemon, the last event before, and the answer."""
    if not started:
        from swarm.client import in_force

        in_force.warn(session, daemon, but=() if workers is None else (in_force.WORKERS,))
    after = int(daemon.get(protocol.PING).get("seq") or 0)
    return daemon, after, submit_to(daemon, started, body, workers)


def submit_to(daemon: Connection, started: bool, body: dict[str, Any], workers: int | None) -> dict[str, Any]:
    """Submits to a daemon that was or was not `started` for this; gives its answer."""
    try:
        answer: dict[str, Any] = daemon.post(protocol.SUBMIT, body)
    except SwarmError:
        if started:  # for a plan that was not taken nothing should stay behind
            daemon.post(protocol.STOP, {"mode": "graceful"})
        raise
    if workers is not None and not started:
        daemon.post(protocol.SCALE, {"workers_max": workers})
    return answer


def _detached(run_id: str) -> Detached:
    name = protocol.printable(run_id)
    return Detached(
        f"\nDetached: run {name} goes on in the background.",
        "",
        f"Look: swarm status --watch   Wait: swarm wait --run {name}   End it: swarm stop, or swarm cancel --run {name}",
    )


def _end(session: Session, document: dict[str, Any], run_id: str, elapsed_s: float | None) -> int:
    ended = naming.run_of(document, run_id)
    with contextlib.suppress(OutputClosed):  # how it ended is said by the exit code all the same
        if session.as_json:
            session.json(session.in_full(document, run_id))
        else:
            _tell_end(session, ended, elapsed_s)
    return EXIT_OK if telling.all_landed(ended) else EXIT_NOT_LANDED


def _tell_end(session: Session, ended: dict[str, Any], elapsed_s: float | None, title: str = "") -> None:
    """Writes how a run ended, for people; `title` stands before its summary."""
    if session.quiet:
        session.line(f"{title}{telling.summary_line(ended, elapsed_s)}")
    else:
        daemon = session.daemon_or_none()
        stays = daemon is not None and not daemon.about.get("ends_when_idle")
        text = telling.result_text(ended, elapsed_s, title=title, top=session.here, daemon_stays=stays)
        session.out(text)


def _request(session: Session, plan: str, more: tuple[str, ...], wanted: dict[str, Any]) -> dict[str, Any]:
    """Makes the body of a submission. `more` are words after `--only TASK`, which is how the contract writes it."""
    only = split(wanted["only"])
    if more and not only:
        raise UsageError(
            f"One plan at a time, and {protocol.printable(more[0])} is one too many.",
            "Nothing was done.",
            "swarm run PLAN --only TASK names single tasks",
        )
    from swarm.client import planfiles

    given = planfiles.given(plan, session.top)
    return request(session, given, **{**wanted, "only": only + split(more)})


def request(
    session: Session,
    given: Given,
    *,
    only: Iterable[str],
    sequential: bool,
    fail_fast: bool,
    verify: Iterable[str],
    changed: bool = False,
) -> dict[str, Any]:
    """Makes the body of a submission, `shapes.SubmitRequest`."""
    import binascii

    plan = {
        "source": given.source,
        "data_base64": binascii.b2a_base64(given.data, newline=False).decode(),
    }
    return {
        "plan": plan if given.path is None else {**plan, "path": given.path},
        "only": list(only),
        "sequential": sequential,
        "fail_fast": fail_fast,
        "verify": list(verify),
        "changed": changed,
        "here": session.place.here,
    }


def _submitted(answer: dict[str, Any]) -> str:
    counts = (
        f"{len(answer['added'])} added, {len(answer['replaced'])} replaced, {answer['unchanged']} unchanged"
    )
    if before := answer.get("finished_before"):
        counts += f", {len(before)} finished before"
    late = "".join(f"\n  warning: {protocol.printable(text)}" for text in answer.get("no_effect") or ())
    late += _left_out(answer["run"], answer.get("left_out") or ())
    return f"{protocol.printable(answer['run'])}: {counts}{_verified_by(answer)}{_again(answer.get('again'))}{late}"


def _left_out(run: str, names: Sequence[str]) -> str:
    """Says which tasks have been taken out of the plan and are done all the same, and how to give them up."""
    if not names:
        return ""
    some = names[:LEFT_OUT_SHOWN]
    listed = ", ".join(map(protocol.printable, some))
    listed += f" and {len(names) - len(some)} more" if len(names) > len(some) else ""
    are, they = ("task of the run is", "it is") if len(names) == 1 else ("tasks of the run are", "they are")
    words = " ".join(naming.shell_word(f"{run}/{name}") for name in some)
    return f"\n  warning: {len(names)} {are} no longer in the plan: {listed}; {they} still wanted. Next: swarm cancel {words}"


def _again(again: dict[str, list[str]] | None) -> str:
    """Says what is done again and why; nothing where it was not asked for."""
    if again is None:
        return ""
    if not again:
        return "\n  nothing that its landed tasks were made from has changed"
    return "".join(
        f"\n  again {protocol.printable(name)}: {protocol.printable('; '.join(why))}"
        for name, why in again.items()
    )


def _verified_by(answer: dict[str, Any]) -> str:
    """Says what every candidate has to pass, what no more, and that `verify = "auto"` came to nothing where it did."""
    names = ", ".join(map(protocol.printable, answer.get("verify") or ()))
    lifted = ", ".join(map(protocol.printable, answer.get("verify_lifted") or ()))
    found_none = "; auto finds no suites, so nothing verifies what lands" if "verify_found" in answer else ""
    landed_perhaps = answer["unchanged"] or lifted  # of that nobody says by what it was verified
    said = [f"verified by {names}"] if names else []
    said += [f"no longer verified by {lifted}"] if lifted else []
    text = f"; {'what lands from now on is ' if landed_perhaps else ''}{', and '.join(said)}" if said else ""
    return text if names else found_none + text


def check_request(session: Session, body: dict[str, Any]) -> None:
    """Raises what a daemon would say against a submission, so that none is started for it."""
    import binascii

    from swarm.client import planfiles

    plan = body["plan"]
    data = binascii.a2b_base64(plan["data_base64"])
    here = Path(session.place.here)
    planfiles.check_submission(data, plan["source"], body["only"], session.top, here, session.state)


class Submission:
    """A plan to be submitted as it is, and watched if so wanted, once there is a daemon. Raises at once where none would take it
    in."""

    def __init__(self, session: Session, plan: str, *, watch: bool = False) -> None:
        self._session = session
        self._watch = watch
        nothing = {"only": (), "sequential": False, "fail_fast": False, "verify": ()}
        self._body = _request(session, plan, (), nothing)
        if watch:
            _need_file(self._body["plan"], "--watch")
        check_request(session, self._body)

    def submit(self, daemon: Connection) -> None:
        """Submits it and says what that changed."""
        answer = daemon.post(protocol.SUBMIT, self._body)
        self._session.line(_submitted(answer))
        if self._watch:
            source = self._body["plan"]["path"]
            daemon.post(protocol.WATCH, {"run": answer["run"], "source": source})
            self._session.line(f"What is added to {protocol.printable(source)} is taken in from now on.")


@command("submit", shows=True, steers=True)
@click.argument("plan", shell_complete=files)
@click.argument("more", nargs=-1, metavar="")
@_plan_options
def submit(session: Session, plan: str, more: tuple[str, ...], **wanted: Any) -> None:
    """Add a plan's work to its run.

    What has landed stays, what is new is added, what changed and has not started is replaced; so is what changed and has ended
    without landing, which is tried again by what the plan says now. A change to a task that is at work or has landed is refused.
    """
    body = _request(session, plan, more, wanted)
    daemon = session.daemon_or_none()
    if daemon is None:
        check_request(session, body)
        daemon = session.daemon()  # says that none runs
    answer = daemon.post(protocol.SUBMIT, body)
    _tell_submitted(session, daemon, answer)
    if not session.as_json:
        _tell_so_far(session, daemon, answer["run"])


def _tell_so_far(session: Session, daemon: Connection, run_id: str) -> None:
    """Writes how far the run is, in the line in which it is summed up when it has ended."""
    with contextlib.suppress(SwarmError):  # what was submitted is in, whatever became of the daemon since
        found = daemon.get(protocol.STATUS, {"run": run_id, "view": protocol.VIEW_SUMMARY})
        session.line(telling.summary_line(naming.run_of(found, run_id), None))


def _tell_submitted(session: Session, daemon: Connection, answer: dict[str, Any]) -> None:
    if session.as_json:
        document = daemon.get(protocol.STATUS, {"run": answer["run"], "view": protocol.VIEW_FULL})
        session.json({**document, "submitted": answer})
    else:
        session.line(_submitted(answer))


@command("add", shows=True, steers=True)
@click.option("--title", required=True, help="What is wanted, in a few words.")
@click.option("--id", "task_id", help="The task's id; made from the title if not given.")
@click.option("--claim", "claims", multiple=True, metavar="PATTERN", help="Paths that it may change.")
@click.option(
    "--shared", multiple=True, metavar="PATTERN", help="Paths that it may change together with others."
)
@click.option("--run", "shell", metavar="CMD", help="A shell command that does it.")
@click.option("--prompt", help="What to tell the agent that does it.")
@click.option(
    "--needs",
    multiple=True,
    metavar="TASK",
    shell_complete=known_tasks,
    help="Tasks that must have landed before.",
)
@click.option("--agent", help="The agent that does it.")
@click.option("--phase", help="The phase that it belongs to.")
@click.option("--verify", multiple=True, metavar="CMD", help="Verify it with this command too.")
@click.option("--timeout", "timeout_s", type=float, metavar="S", help="Seconds for one attempt.")
@click.option("--attempts", type=int, metavar="N", help="How often it is tried.")
@click.option("--priority", type=int, metavar="N", help="Higher goes first.")
@click.option("--allow-empty", is_flag=True, help="No change at all is a good end too.")
@click.option(
    "--to",
    "run_id",
    metavar="ID",
    shell_complete=known_runs,
    help="The run that it is added to, where there are several.",
)
def add(session: Session, run_id: str | None, **given: Any) -> None:
    """Add one task to a run, and say by which id it is known there.

    The same again adds nothing twice. Where the id that a title makes is that of a task with another title, it gets one of its own.
    """
    if (given["shell"] is None) == (given["prompt"] is None):
        raise UsageError(
            "A task needs --run CMD or --prompt TEXT, one of the two.",
            "Nothing was done.",
            "swarm add --help",
        )
    table = _task_table(given)
    daemon = session.daemon()
    if run_id is None:
        run_id = str(naming.run_of(daemon.get(protocol.STATUS, {"view": protocol.VIEW_SUMMARY}), None)["id"])
    body = {"run": run_id, "task": table, "id_from_title": not given["task_id"]}
    answer = daemon.post(protocol.ADD, body)
    _tell_submitted(session, daemon, answer)
    if not session.as_json:
        session.line(f"  its id is {protocol.printable(answer.get('task', table['id']))}")


def _task_table(given: dict[str, Any]) -> dict[str, Any]:
    """Writes the options as a task of a native plan; what was not given is not in it. Raises `UsageError`."""
    _check_numbers(given["attempts"], given["timeout_s"])
    claims: list[Any] = split(given["claims"])
    claims += [{"path": path, "mode": "shared"} for path in split(given["shared"])]
    table = {
        "id": given["task_id"] or _id_from(given["title"]),
        "title": given["title"],
        "claims": claims,
        "run": given["shell"],
        "prompt": given["prompt"],
        "needs": split(given["needs"]),
        "verify": list(given["verify"]),
        "allow_empty": given["allow_empty"],
    }
    table |= {key: given[key] for key in ("agent", "phase", "timeout_s", "attempts", "priority")}
    return {key: value for key, value in table.items() if value not in (None, []) and value is not False}


def _id_from(title: str) -> str:
    """Makes a task's id of its title: of the letters and digits that git, shells and people take alike, or, where it has none, one
    by the rule for names."""
    plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60]
    if plain:
        return plain
    from swarm.client import planfiles

    return planfiles.name_for(title)


def _check_numbers(attempts: int | None, timeout_s: float | None) -> None:
    """Refuses what no plan may say, by the name of its option: the service knows keys of plans only, and by JSON no NaN."""
    option, given, wanted = "", 0.0, ""
    if attempts is not None and attempts < 1:
        option, given, wanted = "--attempts", attempts, "number of attempts from 1 up"
    elif timeout_s is not None and not 0 < timeout_s < math.inf:
        option, given, wanted = "--timeout", timeout_s, "time in seconds, more than 0"
    if option:
        raise UsageError(
            f"{option} {given:g} is no {wanted}.",
            "Nothing was added.",
            f"without {option} what the settings say holds: swarm config",
        )


@command("wait", shows=True)
@run_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0),
    metavar="S",
    help="Give up after S seconds (exit 124).",
)
def wait(session: Session, run: str | None, timeout_s: float | None) -> int:
    """Wait until every task of a run has ended.

    Without --run that is every run that is active; where none is, those that are not finished are told of. Then what did not land
    in any of them counts.

    What keeps a run from going on is told once, on stderr, and waited for all the same. The time in the summary is that of the
    run, from its beginning to its end, however long of it was waited for.
    """
    daemon = session.daemon_or_none()
    document = session.journal_document() if daemon is None else session.document(full=False)
    if daemon is None and not document["runs"] and run is None:
        daemon = session.daemon()  # says that none runs, and what to type
    meant = naming.runs_of(document, run)
    with progress.telling_what_holds(session, *(str(each["id"]) for each in meant)):
        if daemon is None and any(each.get("state") in naming.ACTIVE for each in meant):
            daemon = session.daemon()  # says that none runs, and what to type
        if len(meant) > 1:
            return _wait_for_all(session, daemon, document, meant, timeout_s)
        return _wait_for_one(session, daemon, document, meant[0], timeout_s)


def _wait_for_one(
    session: Session,
    daemon: Connection | None,
    document: dict[str, Any],
    found: dict[str, Any],
    timeout_s: float | None,
) -> int:
    """Waits for a run and tells how it ended; without a daemon it has. Raises `WaitTimedOut`."""
    run_id = str(found["id"])
    if daemon is None:
        return _end(session, {**document, "runs": [found]}, run_id, telling.run_time_s(found))
    hindrances = progress.Hindrances(run_id, failure.say)
    document = progress.wait_for_end(session, daemon, run_id, timeout_s=timeout_s, hindrances=hindrances)
    return _end(session, document, run_id, telling.run_time_s(naming.run_of(document, run_id)))


def _wait_for_all(
    session: Session,
    daemon: Connection | None,
    document: dict[str, Any],
    runs: list[dict[str, Any]],
    timeout_s: float | None,
) -> int:
    """Waits for several runs beside each other, and tells of each how it ended. Without a daemon all of them have ended.

    Raises `WaitTimedOut` where some have not within `timeout_s`, when all that have are told of.
    """
    ended: list[dict[str, Any]] = []
    late: list[str] = []
    waits = (
        {}
        if daemon is None
        else progress.wait_for_ends(session, daemon, [str(run["id"]) for run in runs], timeout_s)
    )
    for run in runs:
        run_id = str(run["id"])
        if run_id in waits:
            try:
                found = waits[run_id].result()
            except WaitTimedOut:
                late.append(run_id)
                continue
            except UsageError as gone:  # it was discarded meanwhile; the others are waited for all the same
                failure.say(str(gone))
                continue
            run = naming.run_of(found, run_id)
        ended.append(run)
        if not session.as_json:
            with contextlib.suppress(OutputClosed):
                _tell_end(session, run, telling.run_time_s(run), f"{protocol.printable(run_id)}: ")
    if late:
        raise WaitTimedOut(
            f"{_called(late)} not ended within {timeout_s:g} s.",
            "It goes on." if len(late) == 1 else "They go on.",
            "swarm status, or swarm wait again",
        )
    if session.as_json:
        with contextlib.suppress(OutputClosed):
            session.json(progress.of_runs(session, document, ended))
    landed = len(ended) == len(runs) and all(map(telling.all_landed, ended))
    return EXIT_OK if landed else EXIT_NOT_LANDED


def _called(late: Sequence[str]) -> str:
    names = ", ".join(map(protocol.printable, late))
    return f"Run {names} has" if len(late) == 1 else f"Runs {names} have"

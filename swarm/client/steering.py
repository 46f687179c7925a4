"""Commands that steer what runs: retry, cancel, undo, pause, resume, scale, tell. All of them need a daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from swarm import protocol
from swarm.client import naming
from swarm.client.connection import Connection
from swarm.client.naming import shell_word
from swarm.client.options import command, ended_by_signals, known_runs, known_tasks, run_option
from swarm.client.session import Session
from swarm.errors import EXIT_NOT_LANDED, EXIT_OK, Detached, SwarmError, UsageError


def _named(daemon: Connection, tasks: tuple[str, ...], run: str | None) -> dict[str | None, list[str]]:
    """Groups tasks by run. One task alone is left to the daemon to find: the document of all of them may be large."""
    if len(tasks) == 1:
        return {run: list(tasks)}
    grouped = naming.tasks_by_run(daemon.get(protocol.STATUS, {"view": protocol.VIEW_FULL}), tasks, run)
    return dict(grouped.items())  # a dict is invariant in its keys


def _typed(task: str, run: str | None) -> str:
    """Gives a task as it is to be typed by itself, which was found by what was typed now."""
    inside = run is None or task.startswith(f"{run}/")
    return shell_word(task if inside else f"{run}/{task}")


def _listed(answer: Mapping[str, Any]) -> str:
    return ", ".join(protocol.printable(f"{answer['run']}/{task}") for task in answer["tasks"])


@command("retry", does=True, steers=True)
@click.argument("tasks", nargs=-1, metavar="TASK...", shell_complete=known_tasks)
@click.option("--failed", is_flag=True, help="Every task of the run that failed or was cancelled.")
@run_option
def retry(session: Session, tasks: tuple[str, ...], failed: bool, run: str | None) -> int:
    """Try failed or cancelled tasks again. What was blocked by them goes on when they have landed.

    The next attempt is told why the last one did not land, and what you tell it by swarm tell.

    Ends with 1 where one can't be tried, since a need of it has not landed or the budget is spent: it is said what to do.
    """
    if bool(tasks) == failed:
        raise UsageError("Name tasks, or say --failed.", "Nothing was done.", "swarm retry --help")
    daemon = session.daemon()
    grouped = {run: []} if failed else _named(daemon, tasks, run)
    code = EXIT_OK
    for each, names in grouped.items():
        answer = daemon.post(protocol.RETRY, {"run": each, "tasks": names, "failed": failed})
        ended = answer.get("ended") or []
        gone = {one["task"] for one in ended}
        tried = [name for name in answer["tasks"] if name not in gone]
        if tried or not ended:
            said = f"Tried again: {_listed({**answer, 'tasks': tried})}"
            session.line(said if tried else "There is nothing to try again.")
        for one in ended:
            code = EXIT_NOT_LANDED
            name, state = _listed({**answer, "tasks": [one["task"]]}), one["state"]
            how = "is blocked again" if state == "blocked" else f"has {state} again"
            session.line(f"{name} {how}, before any attempt: {protocol.printable(one['text'])}")
            session.line(f"  Next: {protocol.printable(one['next'])}")
    return code


@command("first", does=True, steers=True)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...", shell_complete=known_tasks)
@run_option
def first(session: Session, tasks: tuple[str, ...], run: str | None) -> None:
    """Let finished tasks land before all others in the merge queue, in this order. They are verified as any."""
    daemon = session.daemon()
    for each, names in _named(daemon, tasks, run).items():
        answer = daemon.post(protocol.FIRST, {"run": each, "tasks": names})
        session.line(f"First in the merge queue: {_listed(answer)}.")


@command("cancel", does=True, steers=True)
@click.argument("tasks", nargs=-1, metavar="TASK...", shell_complete=known_tasks)
@click.option(
    "--run",
    "run",
    metavar="ID",
    shell_complete=known_runs,
    help="The run that the tasks are in; without tasks the whole of it.",
)
def cancel(session: Session, tasks: tuple[str, ...], run: str | None) -> None:
    """Give tasks or a whole run up; the work done so far is kept on its branches."""
    if not tasks and run is None:
        raise UsageError("Name tasks, or a run: --run ID.", "Nothing was done.", "swarm cancel --help")
    daemon = session.daemon()
    if tasks:
        for each, names in _named(daemon, tasks, run).items():
            answer = daemon.post(protocol.CANCEL, {"run": each, "tasks": names})
            session.line(f"Cancelled: {_listed(answer)}. Work done is kept.")
    else:
        answer = daemon.post(protocol.CANCEL, {"run": run, "tasks": None})
        number = len(answer["tasks"])
        tasks_text = "1 task" if number == 1 else f"{number} tasks"
        session.line(f"Cancelled run {protocol.printable(answer['run'])}: {tasks_text}. Work done is kept.")


@command("undo", shows=True, steers=True)
@click.argument("task", shell_complete=known_tasks)
@run_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask at a terminal either.")
def undo(session: Session, task: str, run: str | None, yes: bool) -> None:
    """Take a landed task off staging again, by a revert that is verified, with the landed tasks that needed it.

    Its work is kept; swarm retry makes it anew. Says what goes with it first, on stderr, and asks where there is a terminal. Ctrl-C
    ends the waiting alone: swarm cancel TASK gives it up while it is verified.
    """
    daemon = session.daemon()
    body = {"run": run, "task": task, "preview": True}
    plan = daemon.post(protocol.UNDO, body)
    if plan["undone"]:
        _say_first(session, plan)
        if session.asks and not yes and not click.confirm("Go on?", err=True):
            raise SwarmError("Nothing was undone.")
    try:
        with ended_by_signals():
            done = daemon.post(protocol.UNDO, {**body, "preview": False}, timeout_s=protocol.FINISH_TIMEOUT_S)
    except KeyboardInterrupt:
        raise _goes_on(plan, _typed(task, run)) from None
    if session.as_json:
        session.json({"schema": protocol.SCHEMA, **done})
        return
    if done["commit"] is None:
        session.line(f"{_listed({**done, 'tasks': [done['task']]})} was undone already.")
    else:
        listed = _listed({**done, "tasks": done["undone"]})
        session.line(
            f"Undone: {listed}, by {done['commit'][:12]}. To make it anew: swarm retry {_typed(task, run)}"
        )
    if done.get("still_on"):
        session.line(_still_there(done))


def _goes_on(plan: Mapping[str, Any], typed: str) -> Detached:
    """Says what becomes of an undo that nobody waits for any more: it is the daemon's by now."""
    name = protocol.printable(f"{plan['run']}/{plan['task']}")
    return Detached(
        f"\nDetached: the undo of {name} goes on, and lands once its suites have passed.",
        next_step=f"Look: swarm status   Give it up: swarm cancel {typed}",
    )


def _still_there(done: Mapping[str, Any]) -> str:
    """Says that an undo takes a task off staging only, where the run was finished before."""
    others = ", ".join(map(protocol.printable, done["still_on"]))
    run = shell_word(done["run"])
    return (
        f"It was finished before, and is still on {others}: only staging is without it.\n"
        f"  Next: swarm finish --run {run}, which brings the undo there (another branch than the run's: --into BRANCH)"
    )


def _say_first(session: Session, plan: Mapping[str, Any]) -> None:
    """Says what an undo means before it is done."""
    for what, names in (
        ("To be taken off staging again:", plan["undone"]),
        ("To be cancelled, because they need it:", plan["cancelled"]),
        ("Blocked then, because they need it:", plan["blocked"]),
    ):
        if names:
            session.note(f"{what} {', '.join(map(protocol.printable, names))}")
    if plan.get("still_on"):
        session.note(
            f"It would stay on {', '.join(map(protocol.printable, plan['still_on']))} until the next swarm finish."
        )


def _pause_or_resume(session: Session, route: str, task: str | None, run: str | None) -> str:
    session.daemon().post(route, {"run": run, "task": task})
    if task is not None:
        return f"task {protocol.printable(task)}"
    return f"run {protocol.printable(run)}" if run is not None else "everything"


@command("pause", does=True, steers=True)
@click.argument("task", required=False, shell_complete=known_tasks)
@run_option
def pause(session: Session, task: str | None, run: str | None) -> None:
    """Start nothing new: of everything, of one run, or of one task that has not ended. What runs goes on."""
    what = _pause_or_resume(session, protocol.PAUSE, task, run)
    words = (
        f"swarm resume {_typed(task, run)}"
        if task
        else f"swarm resume --run {shell_word(run)}"
        if run
        else "swarm resume"
    )
    session.line(f"Paused {what}: nothing new of it starts, what runs goes on. Next: {words}")


@command("resume", does=True, steers=True)
@click.argument("task", required=False, shell_complete=known_tasks)
@run_option
def resume(session: Session, task: str | None, run: str | None) -> None:
    """Go on after a pause.

    Without TASK and --run that is every pause, of runs and tasks too; and agents that a rate limit holds, or that were stopped
    because they did not work, start workers again.
    """
    session.line(f"Resumed {_pause_or_resume(session, protocol.RESUME, task, run)}.")


@command("scale", does=True, steers=True, takes_negative=True)
@click.argument("workers", type=click.IntRange(1, protocol.WORKERS_MAX), metavar="N")
def scale(session: Session, workers: int) -> None:
    """Change how many workers may run, until the daemon ends; what runs already goes on."""
    session.daemon().post(protocol.SCALE, {"workers_max": workers})
    session.line(
        f"From now on at most {protocol.counted(workers, 'worker')} at a time. To keep it: workers_max in swarm.toml"
    )


@command("tell", does=True, steers=True)
@click.argument("task", shell_complete=known_tasks)
@click.argument("text", nargs=-1, required=True)
@run_option
def tell(session: Session, task: str, text: tuple[str, ...], run: str | None) -> None:
    """Leave a note that the next attempt at a task is given."""
    answer = session.daemon().post(protocol.TELL, {"run": run, "task": task, "text": " ".join(text)})
    name = _typed(task, run)
    line = f"The next attempt at {protocol.printable(task)} is told."
    again = {
        "landed": f"It has landed, so there is none unless it is undone: swarm undo {name}, then swarm retry {name}",
        "failed": f"Next: swarm retry {name}",
        "cancelled": f"Next: swarm retry {name}",
    }
    session.line(" ".join(filter(None, (line, again.get(str(answer.get("state")))))))

"""How a command is declared: with the global flags that also stand behind its name, and refused inside a worker if it steers.

Rules for editing: every command is made by `command` here, takes the `Session` first, and gives its exit code or None for 0.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from swarm import protocol
from swarm.client.naming import shell_word
from swarm.client.session import Session
from swarm.errors import EXIT_INTERRUPTED, EXIT_OK, Refused, SwarmError, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Body = Callable[..., "int | None"]
COMPLETED_WITHIN_S = 2.0  # a daemon that takes longer for its status is not waited for at a prompt
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Helped(click.Command):
    """A command whose help is written as every result is: a reader that has enough of it, or a full disk, is no fault of ours."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Gives click's option with a callback of our own."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


def _show_help(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        Session().line(ctx.get_help())
        ctx.exit()


class HelpedGroup(Helped, click.Group):
    """A group of commands, of which the same holds."""


class Command(Helped):
    """A command that lets the global flags stand behind its name too."""

    steers = False
    shows = False
    does = False

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command. Raises `Refused` where it would steer and this process is a worker's."""
        if self.steers:
            refuse_inside_worker(ctx.command_path)
        self._refuse_empty(ctx)
        session = ctx.ensure_object(Session)
        session.quiet = ctx.params.pop("quiet", False) or session.quiet
        session.verbose = ctx.params.pop("verbose", False) or session.verbose
        session.as_json = ctx.params.pop("as_json", False) or session.as_json
        if self.does and session.as_json:
            return self._told(ctx, session)
        if session.as_json and not self.shows:
            raise click.UsageError(f"{ctx.command_path} has no document to show with --json.", ctx)
        return super().invoke(ctx)

    def _told(self, ctx: click.Context, session: Session) -> int:
        """Runs the command, and writes what it says as a document."""
        said: list[str] = []
        session.as_json, session.said = False, said
        code: int = super().invoke(ctx) or EXIT_OK
        session.said = None
        about = {"schema": protocol.SCHEMA, "command": self.name, "exit_code": code}
        session.json({**about, "text": "".join(said).rstrip("\n")})
        return code

    def _refuse_empty(self, ctx: click.Context) -> None:
        """Raises `UsageError` for an option without any text: a variable of a shell was not set, and what it was to say is not
        as if nothing had been said."""
        for option in self.params:
            value = ctx.params.get(option.name or "")
            texts = value if isinstance(value, tuple) else (value,)
            given = ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
            if isinstance(option, click.Option) and given and any(each == "" for each in texts):
                raise UsageError(
                    f"{option.opts[0]} is empty.",
                    "Nothing was done.",
                    "say what is meant, or leave it out; a variable in the command may not be set",
                )


def command(
    name: str,
    *,
    shows: bool = False,
    does: bool = False,
    steers: bool = False,
    takes_negative: bool = False,
    **attributes: Any,
) -> Callable[[Body], Command]:
    """Declares a command: `shows` gives it --json, for a document of its own, `does` too, for one that has what it says as text;
    `steers` has it refused inside a worker, `takes_negative` has -1 read as a number, which may be a wrong one, and not as an
    option."""
    settings = {**SETTINGS, "ignore_unknown_options": takes_negative}

    def declare(body: Body) -> Command:
        body = click.option("-v", "--verbose", is_flag=True, help="Say more about what is done.")(body)
        body = click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")(body)
        if shows or does:
            body = click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")(body)
        made = click.command(name, cls=Command, context_settings=settings, **attributes)(click.pass_obj(body))
        made.steers, made.shows, made.does = steers, shows, does
        return made

    return declare


def refuse_inside_worker(what: str) -> None:
    """Raises `Refused` when this process was started by a worker: a task must not steer the run that it is part of."""
    if protocol.inside_worker(os.environ):
        raise Refused(
            f"{what} is refused inside a worker (task {protocol.printable(os.environ['SWARM_TASK'])}).",
            "Commands that start or steer are for people; those that only look say what is shown in here.",
        )


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Ends the program without a word at Ctrl-C, where that is how something ends that goes on for ever."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Has a closed terminal and a polite kill end a `with` block as Ctrl-C does; a second one does not end what cleans up."""

    def interrupt(*_: object) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: what for number in ENDING if (what := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, what in before.items():
            signal.signal(number, what)


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Has a shell complete a path: without it, it completes nothing here, as it does without us."""
    return _paths(incomplete, "file")


def folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Has a shell complete the path of a folder."""
    return _paths(incomplete, "dir")


def _paths(incomplete: str, kind: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type=kind)]


def known_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Has a shell complete the name of a run."""
    return _names((run["id"] for run in _told_runs(ctx)), incomplete)


def known_tasks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Has a shell complete the name of a task: with its run where others have one of that name, and none that is named already."""
    wanted = ctx.params.get("run") or ctx.params.get("run_id")
    known = [run for run in _told_runs(ctx) if wanted in (None, run["id"])]
    ids = [(run["id"], task["id"]) for run in known for task in run["tasks"]]
    times = Counter(task for _, task in ids)
    names = [task if times[task] == 1 else f"{run}/{task}" for run, task in ids]
    if "/" in incomplete:
        names = [f"{run}/{task}" for run, task in ids]
    named = ctx.params.get(param.name or "") or ()
    return _names((name for name in names if name not in named), incomplete)


def _names(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    # What a shell would take for something else, it would not complete as one word.
    return [
        CompletionItem(name) for name in names if name.startswith(incomplete) and shell_word(name) == name
    ]


def _told_runs(ctx: click.Context) -> list[dict[str, Any]]:
    """Gives the runs of the status document; none where it can't be had soon, since a person waits at a prompt."""
    try:
        for directory in ctx.find_root().params.get("directories") or ():
            os.chdir(directory)
        session = Session(quiet=True)
        document = session.asked(None, within_s=COMPLETED_WITHIN_S)[0] or session.journal_document(full=False)
        found: list[dict[str, Any]] = document["runs"]
        return found
    except (SwarmError, OSError):
        return []


def run_option(body: Body) -> Body:
    """Adds --run ID."""
    described = "The run that is meant, where there are several."
    return click.option("--run", "run", metavar="ID", shell_complete=known_runs, help=described)(body)


def split(values: tuple[str, ...]) -> list[str]:
    """Takes `--only a --only b` and `--only a,b` alike. Raises `UsageError` where that comes to nothing."""
    parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
    if values and not parts:
        raise UsageError(
            f"{protocol.printable(values[0])!r} names nothing.", "Nothing was done.", "name a task"
        )
    return parts

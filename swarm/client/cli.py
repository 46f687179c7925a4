"""The command line as click sees it: the group with its global flags, whose commands are loaded when they are given.

Rules for editing: a new command goes into `commands` and into the module that its theme names; nothing is imported here that a
command can import itself.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from swarm import __version__
from swarm.client import commands, failure
from swarm.client.options import SETTINGS, HelpedGroup, folders
from swarm.client.session import Session
from swarm.errors import EXIT_OK, SwarmError, UsageError
from swarm.protocol import printable


class Program(HelpedGroup):
    """Loads a command's module when the command is given."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Lists every command."""
        return commands.names()

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Gives a command, or None."""
        found = commands.find(name)
        if found is None:
            return None
        made = getattr(importlib.import_module(found[0]), found[1])
        assert isinstance(made, click.Command)
        return made

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that is meant; for an unknown one says which it may have been."""
        if not args[0].startswith("-") and commands.find(args[0]) is None:
            import difflib

            near = difflib.get_close_matches(args[0], commands.names(), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Writes the same text as the short way in `__main__`."""
        formatter.write(commands.help_text())


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        Session().line(f"swarm {__version__}")
        ctx.exit()


@click.group("swarm", cls=Program, context_settings=SETTINGS)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
@click.option(
    "-C",
    "directories",
    metavar="DIR",
    multiple=True,
    shell_complete=folders,
    help="Work as if started in DIR.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Say more about what is done.")
@click.pass_context
def program(
    ctx: click.Context, directories: tuple[str, ...], as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Runs many coding agents on one git repository at once and lands only what merges cleanly and passes."""
    for directory in directories:  # one after the other, each from the one before, as git has it
        try:
            os.chdir(directory or ".")
        except OSError as error:
            raise UsageError(
                f"{directory}: {error.strerror}.", "Nothing was done.", "-C takes a folder"
            ) from None
    ctx.obj = Session(os.curdir, as_json=as_json, quiet=quiet, verbose=verbose)


def _in_our_words(error: click.ClickException) -> SwarmError:
    """Gives what click refuses as every error is told: cause, consequence, next step."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    path = ctx.command_path if ctx is not None else "swarm"
    told = UsageError(printable(error.format_message()), "Nothing was done.", f"{path} --help")
    told.exit_code = error.exit_code
    return told


def run(arguments: list[str]) -> int:
    """Carries out a command line and gives its exit code. Errors but those of usage are left to the caller."""
    try:
        answer: Any = program.main(arguments, prog_name="swarm", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return failure.exit_code(_in_our_words(error), arguments)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        return failure.exit_code(KeyboardInterrupt(), arguments)
    return answer if isinstance(answer, int) else EXIT_OK

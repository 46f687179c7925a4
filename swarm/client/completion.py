"""The command that has a shell complete commands, options, paths, and the names of runs and tasks."""

from __future__ import annotations

import click

from swarm.client.options import command
from swarm.client.session import Session

PROGRAM = "swarm"
ASKED_BY = (
    "_SWARM_COMPLETE"  # the shell's function sets it and runs the program, which answers instead of working
)


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, session: Session, shell: str) -> None:
    """Print what makes a shell complete commands, options, paths, and names of runs and tasks.

    For bash: put eval "$(swarm completion bash)" into ~/.bashrc; for zsh likewise into ~/.zshrc; for fish:
    swarm completion fish > ~/.config/fish/completions/swarm.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    session.out(kind(ctx.find_root().command, {}, PROGRAM, ASKED_BY).source())

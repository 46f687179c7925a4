"""The command that serves the tools of `mcp`; they stand on the library, as every program does, and need a package of their own."""

from __future__ import annotations

import os

from swarm.client.options import command
from swarm.client.session import Session
from swarm.errors import UsageError


@command("mcp", steers=True)
def mcp(session: Session) -> None:
    """Serve tools of the Model Context Protocol on standard input and output, for the coding agent that starts this.

    They are about the repository that this is started in, or the one of -C, unless a call names another. Needs the mcp extra.
    """
    try:
        from swarm.client import mcp as tools
    except ImportError:
        raise UsageError(
            "swarm mcp needs the mcp package, which is not installed.",
            "Nothing was done.",
            "pip install 'git-swarm[mcp]'",
        ) from None
    os.chdir(session.directory)
    tools.serve()

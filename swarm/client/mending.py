"""Commands for when something went wrong: recover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from swarm import protocol
from swarm.client.options import command
from swarm.client.session import Session


@command("recover", shows=True, steers=True)
@click.option("--dry-run", is_flag=True, help="Only say what is wrong and what would be done.")
def recover(session: Session, dry_run: bool) -> None:
    """Bring worktrees, processes, refs and journal into agreement.

    Every start does the same. Works with and without a daemon, after deleted folders, git worktree prune, a killed daemon, a full
    disk. Nothing that holds work is removed, and nothing that is not swarm's own is touched.
    """
    daemon = session.daemon_or_none()
    if daemon is not None:
        found = daemon.post(protocol.RECOVER, {"dry_run": dry_run})["found"]
    else:
        from swarm.client import offline

        found = offline.recover(session.top, session.state, dry_run=dry_run)
    if session.as_json:
        shown = [{"kind": "", "text": "", "remedy": "", "mended": False, **each} for each in found]
        session.json(
            {"schema": protocol.SCHEMA, "dry_run": dry_run, "daemon": daemon is not None, "found": shown}
        )
        return
    for each in found:
        session.line(_finding_line(each, dry_run))
    if not found:
        session.line("Everything is as the journal has it.")


def _finding_line(found: Mapping[str, Any], dry_run: bool) -> str:
    text, remedy = (protocol.printable(found.get(name) or "") for name in ("text", "remedy"))
    if found.get("mended"):
        return f"mended  {text}: {remedy}"
    if remedy and dry_run:
        return f"wrong   {text}: {remedy} (not done: --dry-run)"
    return f"left    {text}" + (f": {remedy}, which did not succeed" if remedy else "")

"""The live view in a terminal: bars, workers, what waits for what, the merge queue, capacity, last landings, failures.

Rules for editing: rich is loaded here and nowhere else. `view` is a pure function of a status document; text of others goes through
`printable`, since rich lets control characters through.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from swarm.client import render
from swarm.client.naming import ACTIVE
from swarm.client.session import Session
from swarm.protocol import printable

_STYLES = {
    "running": "cyan",
    "landing": "magenta",
    "queued": "magenta",
    "ready": "yellow",
    "failed": "red",
    "blocked": "red",
    "cancelled": "dim",
    "landed": "green",
}


Picture = Callable[[Mapping[str, Any], float, int], RenderableType]  # of a document, now, in so many columns


class Screen:
    """Draws documents over one another while it is open: status documents, unless another picture is given."""

    def __init__(self, session: Session, picture: Picture | None = None) -> None:
        self._picture = picture or of_one(session.place.top)
        self._console = Console(no_color=not session.colour, highlight=False, soft_wrap=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Screen:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, document: Mapping[str, Any]) -> None:
        """Draws a document."""
        self._live.update(self._picture(document, time.time(), self._console.width), refresh=True)


def of_one(top: str) -> Picture:
    """Gives what draws the status document of one repository."""
    return lambda document, now, width: view(document, now=now, width=width, top=top)


def of_lines(told: Iterable[tuple[str, str]]) -> RenderableType:
    """Gives the picture of lines of text, each of which is about something in a state."""
    return Group(*(Text(line, style=_STYLES.get(state, "")) for state, line in told))


def view(document: Mapping[str, Any], *, now: float, width: int, top: str = "") -> RenderableType:
    """Gives the picture of a status document."""
    parts: list[RenderableType] = [Text(render.daemon_line(document, now), style="dim")]
    if capacity := render.capacity_line(document):
        parts.append(Text(capacity, style="dim"))
    parts += [Text(line, style="yellow") for line in render.held_lines(document)]
    runs = document.get("runs") or []
    if not runs:
        parts.append(Text("No runs yet. Next: swarm run PLAN"))
    for run in sorted(runs, key=lambda run: run.get("state") not in ACTIVE):  # the end may not fit the screen
        parts += [Text(""), *_run(run, now, width, top)]
    queue = [_queued(entry) for entry in document.get("merge_queue") or []]
    if queue:
        parts += [Text(""), Text(f"merge queue: {', '.join(queue)}", style="magenta")]
    return Group(*parts)


def _run(run: Mapping[str, Any], now: float, width: int, top: str) -> list[RenderableType]:
    counts = run.get("counts") or {}
    title = Table.grid(padding=(0, 2))
    title.add_row(
        Text(render.run_title(run), style="bold"),
        ProgressBar(
            total=max(1, sum(counts.values())),
            completed=counts.get("landed", 0),
            width=max(10, min(40, width - 50)),
        ),
    )
    parts: list[RenderableType] = [title]
    if text := render.counts_text(run):
        parts.append(Text(f"  {text}"))
    staging = run.get("staging") or {}
    if staging.get("worktree"):
        parts.append(
            Text(f"  staging in {printable(render.short_path(staging['worktree'], top))}", style="dim")
        )
    if run.get("qa"):
        parts.append(Text(f"  {render.qa_line(run)}"))
    for problem in run.get("problems") or []:
        parts.append(Text(f"  can't go on: {render.on_one_line(problem)}", style="red"))
    parts.append(_rows(run, now))
    if omitted := render.omitted_text(run):
        parts.append(Text(f"  {omitted}", style="dim"))
    return parts


def _rows(run: Mapping[str, Any], now: float) -> Table:
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True, max_width=24, overflow="ellipsis")
    rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for state, name, detail in render.task_rows(run, now):
        style = _STYLES.get(state, "")
        rows.add_row(Text(f"  {state}", style=style), Text(name), Text(detail))
    return rows


def _queued(entry: Mapping[str, Any]) -> str:
    return f"{printable(entry.get('task', '?'))} ({printable(entry.get('state', ''))})"

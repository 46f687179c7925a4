"""The live view in a terminal: bars, workers, what waits for what, the merge queue, capacity, last landings, failures.

Rules for editing: rich is loaded here and nowhere else. `view` is a pure function of a status document; text of others goes through
`printable`, since rich lets control characters through.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
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


DEADLY = (signal.SIGTERM, signal.SIGHUP)
SHOW_CURSOR = b"\x1b[?25h\n"  # and what comes next begins below the picture
Picture = Callable[[Mapping[str, Any], float, int], RenderableType]  # of a document, now, in so many columns


class Screen:
    """Draws documents over one another while it is open: status documents, unless another picture is given. The last one stays
    where nothing else is said in the end."""

    def __init__(self, session: Session, picture: Picture | None = None, *, stays: bool = False) -> None:
        self._picture = picture or of_one(session.here)
        self._console = Console(no_color=not session.colour, highlight=False, soft_wrap=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=not stays)
        self._taken: list[signal.Signals] = []

    def __enter__(self) -> Screen:
        if threading.current_thread() is threading.main_thread():  # others may handle no signals
            for number in DEADLY:
                if signal.getsignal(number) is signal.SIG_DFL:  # who ignores it, as nohup does, goes on
                    signal.signal(number, _end_visibly)
                    self._taken.append(number)
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._live.__exit__(kind, error, trace)
        finally:
            while self._taken:
                signal.signal(self._taken.pop(), signal.SIG_DFL)

    def show(self, document: Mapping[str, Any]) -> None:
        """Draws a document."""
        drawn = self._picture(document, time.time(), self._console.width)
        self._live.update(_Fitting(drawn), refresh=True)


def _end_visibly(number: int, _: FrameType | None) -> None:
    """Ends the program by the signal that it got, as it would have ended anyway, and shows the cursor first. It is written past
    all buffers: the signal may have come in the middle of a picture. The terminal may be gone."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stdout.fileno(), SHOW_CURSOR)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


class _Fitting:
    """A picture cut to the height of the terminal, with an empty line below it: behind a full line the `^C` that a terminal shows
    would begin one more, and what is drawn next be one line too low."""

    def __init__(self, picture: RenderableType) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._picture, options, pad=False)
        room = max(1, options.size.height - 1)
        if len(lines) > room:
            lines = [*lines[: room - 1], [Segment("…")]]
        for line in lines:
            yield from line
            yield Segment.line()
        yield Segment(" ")  # nothing at all would not count as a line


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
    parts: list[RenderableType] = [_title(run, width)]
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
    parts += _rows(run, now, width)
    if omitted := render.omitted_text(run):
        parts.append(Text(f"  {omitted}", style="dim"))
    return parts


def _title(run: Mapping[str, Any], width: int) -> RenderableType:
    """Gives the title of a run, and behind it how far that is as a bar where there is room for one."""
    title, counts = Text(render.run_title(run), style="bold"), run.get("counts") or {}
    room = min(max(10, min(40, width - 50)), width - title.cell_len - 2)
    if room < 8:
        return title
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(1, sum(counts.values())), completed=counts.get("landed", 0), width=room)
    grid.add_row(title, bar)
    return grid


def _rows(run: Mapping[str, Any], now: float, width: int) -> Iterator[Text]:
    for state, line in render.row_lines(run, now, width):
        row = Text(line, no_wrap=True, overflow="ellipsis")
        row.stylize(_STYLES.get(state, ""), 0, render.STATE_WIDTH)
        yield row


def _queued(entry: Mapping[str, Any]) -> str:
    return f"{printable(entry.get('task', '?'))} ({printable(entry.get('state', ''))})"

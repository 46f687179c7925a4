"""`swarm logs`: the output of a task's worker and of its verification, from the end, filtered, followed, and made readable.

An output file may have any size and hold anything: it is read in blocks, the last lines are looked for from its end, and no more of
it is kept than a block and one line. Of one that grew too large the daemon has given the middle back to the disk: that is a hole in
the file, which is passed over and told. Rules for editing: what a worker wrote reaches a terminal only through `View`.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

import click

from swarm import protocol
from swarm.client import naming
from swarm.client.options import command, known_tasks, run_option, until_interrupted
from swarm.client.session import Session
from swarm.errors import NoDaemon, UsageError

Reader = Callable[[str], list[str] | None] | None

FOLLOW_S = 0.2
BLOCK_BYTES = 1 << 18
LINE_BYTES_MAX = 1 << 20  # a longer line is taken as several
TERMINAL_LINE_MAX = 1 << 14  # characters of one line that a terminal is given
# Terminal commands as ECMA-48 has them (CSI: colours, moving about, wiping) and those that name windows and links (OSC).
_COMMANDS = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\))")


@command("logs", shows=True)
@click.argument("task", shell_complete=known_tasks)
@run_option
@click.option("-f", "--follow", is_flag=True, help="Keep showing what comes, until the attempt has ended.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Which attempt; the last if not given.")
@click.option("--grep", "pattern", metavar="RE", help="Only lines in which this regular expression is found.")
@click.option("--lines", type=click.IntRange(0), metavar="N", help="Only the last N lines of each output.")
@click.option(
    "--of",
    "which",
    type=click.Choice(["worker", "verify"]),
    help="Only the worker's output, or verification's.",
)
@click.option(
    "--raw",
    is_flag=True,
    help="As it was written: with terminal commands, and an agent's events as it printed them.",
)
def logs(
    session: Session,
    task: str,
    run: str | None,
    follow: bool,
    attempt: int | None,
    pattern: str | None,
    lines: int | None,
    which: str | None,
    raw: bool,
) -> None:
    """Show the output of a task's worker and of its verification.

    Of the verification that is all suites of the newest; of one that did not pass and ran once more both outputs.

    With --json one JSON object for each line that is shown, as it comes: `run`, `task`, `attempt`, `output` ("worker", or
    "verification" and the suite, with ", again" where it ran once more) and `line`.
    """
    narrow = session.interactive and not session.as_json
    view = View(pattern, raw=raw, width_max=TERMINAL_LINE_MAX if narrow else None)
    session.need_files()
    run_id, found = session.task(task, run)
    if attempt is not None:
        naming.attempt_of(found, attempt)
    reader = _Reader(session, view, run_id, str(found["id"]), attempt, which, lines)
    reader.show(found, last=not follow)
    if follow:
        with until_interrupted():
            reader.follow()
    reader.tell_silent()


# --- what is shown of a line ------------------------------------------------------------------------------------------------


class View:
    """Which lines are shown, and how; `reader` makes lines for people of one that is not, and gives None for one that is. Raises
    `UsageError` for a pattern that is none."""

    def __init__(
        self, pattern: str | None, *, raw: bool = False, width_max: int | None = None, reader: Reader = None
    ) -> None:
        try:
            self._search = re.compile(pattern).search if pattern else None
        except re.error as error:
            raise UsageError(
                f"--grep: {error}.",
                "Nothing was done.",
                "it is a regular expression as Python has them: \\( means a bracket itself",
            ) from None
        self._raw = raw
        self._width_max = width_max
        self._reader = reader

    def reading(self, reader: Reader) -> View:
        """Gives this view of an output that `reader` makes readable; shown raw, it is not."""
        view = copy.copy(self)
        view._reader = None if self._raw else reader
        return view

    @property
    def filters(self) -> bool:
        """Whether there are lines that are not shown."""
        return self._search is not None or self._reader is not None

    def found(self, block: bytes) -> list[bool]:
        """Tells of each line of a block whether anything of it is shown."""
        return [any(self._search is None or self._search(row) for row in rows) for rows in self._rows(block)]

    def shown(self, block: bytes) -> bytes:
        """Gives the lines of a block as they are shown, each with its end."""
        if self._raw:
            return b"".join(line + b"\n" for line in self._as_written(block))
        return "".join(f"{row}\n" for row in self._seen(block)).encode("utf-8", "replace")

    def lines(self, block: bytes) -> list[str]:
        """Gives the lines of a block as they are shown, as text; shown raw, what is no UTF-8 is replaced."""
        if self._raw:
            return [line.decode("utf-8", "replace") for line in self._as_written(block)]
        return list(self._seen(block))

    def _as_written(self, block: bytes) -> list[bytes]:
        return [line for line, found in zip(block.split(b"\n"), self.found(block), strict=True) if found]

    def _seen(self, block: bytes) -> Iterator[str]:
        for rows in self._rows(block):
            yield from (self._as_seen(row) for row in rows if self._search is None or self._search(row))

    def _rows(self, block: bytes) -> Iterator[Sequence[str]]:
        """Yields of each line what a person reads of it."""
        text = block.decode("utf-8", "replace")
        for line in (_COMMANDS.sub("", text) if "\x1b" in text else text).split("\n"):
            made = None if self._reader is None else self._reader(line.rstrip("\r"))
            yield (line,) if made is None else made

    def _as_seen(self, row: str) -> str:
        """Of a line that a progress bar has written over and over, the last state is what a person would see."""
        row = row.rstrip("\r").rpartition("\r")[2]
        if self._width_max is not None and len(row) > self._width_max:
            row = f"{row[: self._width_max]} … and {len(row) - self._width_max} more characters"
        return protocol.printable(row)


# --- reading files of any size ----------------------------------------------------------------------------------------------


class Tail:
    """An output file that may still grow: what has come since it was last read, in blocks of whole lines."""

    def __init__(self, path: str, start: int = 0) -> None:
        self.path = path
        self._place = start
        self._rest = b""

    def blocks(self, *, last: bool = False) -> Iterator[bytes]:
        """Yields what is there by now, without the line end of each block; a line without an end waits for it, unless nothing more
        will come."""
        with open(self.path, "rb") as file:
            end_of_file = os.fstat(file.fileno()).st_size
            hole, until = left_out(file)
            while self._place < end_of_file:
                if hole <= self._place < until:
                    yield (
                        self._rest
                        + b"\n"
                        + f"[... {until - hole:,} bytes of output left out here ...]".encode()
                    )
                    self._rest, self._place = b"", until
                file.seek(self._place)
                most = (hole if self._place < hole else end_of_file) - self._place
                block = file.read(min(BLOCK_BYTES, most))
                if not block:
                    break
                self._place += len(block)
                whole, end, rest = (self._rest + block).rpartition(b"\n")
                self._rest = rest
                if end:
                    yield whole
                if len(self._rest) >= LINE_BYTES_MAX:
                    whole, self._rest = self._rest, b""
                    yield whole
        if last and self._rest:
            whole, self._rest = self._rest, b""
            yield whole


def left_out(file: IO[bytes]) -> tuple[int, int]:
    """Finds the part of an output that was given back to the disk, from a place to another; both are its end where none was."""
    found = os.fstat(file.fileno())
    if found.st_blocks * 512 < found.st_size - BLOCK_BYTES:
        with contextlib.suppress(OSError):  # a file system that knows no holes, or nothing written behind one
            hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
            return hole, os.lseek(file.fileno(), hole, os.SEEK_DATA)
    return found.st_size, found.st_size


def start_of_last(path: str, number: int, view: View) -> int:
    """Finds from the end where the last `number` lines begin that are shown; 0 where there are not so many."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        if number == 0 or end == 0:
            return end
        file.seek(end - 1)
        stop = end - (file.read(1) == b"\n")
        return _start_of_found(file, stop, number, view) if view.filters else _start(file, stop, number)


def _start(file: IO[bytes], stop: int, number: int) -> int:
    """Counts line ends, back from `stop`, and not further than so many lines of the greatest length."""
    hole, until = left_out(file)
    least = max(0, stop - number * LINE_BYTES_MAX)
    place = stop
    while place > least:
        if hole < place <= until:
            place = hole
        size = min(BLOCK_BYTES, place - (until if place > until else 0))
        place -= size
        file.seek(place)
        block = file.read(size)
        ends = block.count(b"\n")
        if ends >= number:
            at = len(block)
            for _ in range(number):
                at = block.rfind(b"\n", 0, at)
            return max(least, place + at + 1)
        number -= ends
    return least


def _start_of_found(file: IO[bytes], stop: int, number: int, view: View) -> int:
    """Counts lines that are shown, back from `stop`, block by block; what a block begins with belongs to the one before it."""
    place, tail = stop, b""
    hole, until = left_out(file)
    while place > 0:
        if hole < place <= until:
            place = hole
        size = min(BLOCK_BYTES, place - (until if place > until else 0))
        place -= size
        file.seek(place)
        block = file.read(size) + tail
        end = block.find(b"\n")
        if end < 0 and place > 0 and len(block) < LINE_BYTES_MAX:
            tail = block
            continue
        cut = 0 if place == 0 else end + 1
        tail, body = block[: max(0, cut - 1)], block[cut:]
        found = view.found(body)
        if sum(found) >= number:
            first = [line for line, is_found in enumerate(found) if is_found][-number]
            return place + cut + sum(len(line) + 1 for line in body.split(b"\n")[:first])
        number -= sum(found)
    return 0


# --- the outputs of a task --------------------------------------------------------------------------------------------------


class _Reader:
    """Shows the outputs of one task. `attempt` is None for the newest, which may be another one by the time of the next look."""

    def __init__(
        self,
        session: Session,
        view: View,
        run: str,
        task: str,
        attempt: int | None,
        which: str | None,
        lines: int | None,
    ) -> None:
        self._session = session
        self._view = view
        self._run, self._task = run, task
        self._attempt, self._which, self._lines = attempt, which, lines
        self._tails: dict[str, Tail] = {}
        self._shown: Tail | None = None
        self._of: dict[str, Any] = {}  # the attempt that was shown last
        self._outputs: list[tuple[str, str]] = []

    def show(self, found: dict[str, Any], *, last: bool) -> None:
        """Shows what has come since the last time. With `last` nothing more will come."""
        from swarm.client import offline

        self._of = max(found.get("attempts") or [{}], key=lambda each: each.get("n") or 0)
        if self._attempt is not None:
            self._of = naming.attempt_of(found, self._attempt)
        if not self._of:
            return
        n = self._of["n"]
        outputs = offline.outputs(self._session.state, self._run, self._task, n, self._which)
        self._outputs = outputs
        read = self._view.reading(offline.reader_of(self._session.state, self._run, self._task, n))
        for label, path in outputs:
            view = read if label == "worker" else self._view
            if path not in self._tails:
                start = 0 if self._lines is None else start_of_last(path, self._lines, view)
                self._tails[path] = Tail(path, start)
            over = last or (label == "worker" and len(outputs) > 1)  # being verified, the work is done
            self._show(self._tails[path], label, view, several=len(outputs) > 1, last=over)

    def _show(self, tail: Tail, label: str, view: View, *, several: bool, last: bool) -> None:
        for block in tail.blocks(last=last):
            if self._session.as_json:
                self._tell(label, view.lines(block))
                continue
            shown = view.shown(block)
            if shown and self._shown is not tail:
                if several or self._shown is not None:
                    self._session.note(f"==> {protocol.printable(label)} <==")
                self._shown = tail
            self._session.out_bytes(shown)

    def _tell(self, label: str, lines: Iterable[str]) -> None:
        """Writes lines as JSON, an object each: a block is all that is kept, and whoever follows reads each as it comes."""
        whose = {"run": self._run, "task": self._task, "attempt": self._of["n"], "output": label}
        self._session.out("".join(f"{json.dumps({**whose, 'line': line})}\n" for line in lines))

    def tell_silent(self) -> None:
        """Says, as a note, which output has nothing in it, and how what should have written it ended, and which suites did not run
        at all: an empty screen says less."""
        remembered = self._remembered()
        for name in remembered:
            text = (
                f"The verification {protocol.printable(name)} was not run again: it passed on the same tree."
            )
            self._session.note(text)
        if not self._outputs and not remembered:
            why = "it has had no attempt" if not self._of else "nothing has been written yet"
            self._session.note(f"There is no output of {protocol.printable(self._task)}: {why}.")
        for label, path in self._outputs:
            if os.path.getsize(path) == 0:
                self._session.note(
                    f"The {protocol.printable(label)} printed nothing{self._end(label, path)}."
                )

    def _remembered(self) -> list[str]:
        """Names the suites that have no output, since they passed on the same tree before; for people, who look for them."""
        if self._which == "worker" or self._session.as_json:
            return []
        return [each["name"] for each in self._of.get("suites") or [] if each.get("remembered")]

    def _end(self, label: str, path: str) -> str:
        suites = [each for each in self._of.get("suites") or [] if each.get("log") == path]
        code = (suites[0] if suites else self._of if label == "worker" else {}).get("exit_code")
        outcome = f": {protocol.printable(suites[0].get('outcome'))}" if suites else ""
        return (
            f"{outcome}{',' if outcome else ' and ended with'} exit code {code}"
            if code is not None
            else outcome
        )

    def follow(self) -> None:
        """Shows what is added until the attempt has ended."""
        while True:
            found, over = self._now()  # asked before reading, so that the last words are read
            self.show(found, last=over)
            if over:
                return
            time.sleep(FOLLOW_S)

    def _now(self) -> tuple[dict[str, Any], bool]:
        """Gives the task as it is now, and whether nothing more will come of what is followed."""
        try:
            self._session.daemon()
        except NoDaemon:
            return self._session.task(self._task, self._run)[1], True
        _, found = self._session.task(self._task, self._run)
        newest = max((each["n"] for each in found.get("attempts") or []), default=0)
        over = found.get("state") not in naming.UNDER_WAY
        return found, over or (self._attempt is not None and self._attempt != newest)

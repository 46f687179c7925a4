"""One command line at work: the global flags, the repository it is about, the daemon to ask, and where output goes.

Rules for editing: no import at the top that costs start-up time; everything is found only when it is asked for.
"""

from __future__ import annotations

import json
import os
import sys

from swarm.client import connection, place
from swarm.errors import EXIT_OK, NoDaemon, Refused, SwarmError, UsageError

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any, TypeVar

    Result = TypeVar("Result")

LAST_BREATH_S = 10.0  # how long a daemon may take to end that answers no more
LOOK_EVERY_S = 0.05  # … and how often it is looked whether another one has come up
SUMMARY_WITHIN_S = (
    20.0  # a daemon that takes longer for a page of text is not waited for: the journal says nearly the same
)


class OutputClosed(SystemExit):
    """Whoever read the output has enough: ends the program well, unless who wrote it has more to say by the exit code."""


class Session:
    """What the commands share. `directory` is that of `-C`, or the current one; `found` the repository, where it is known."""

    wrote = False  # whether this process has written a result, in whichever session

    def __init__(
        self,
        directory: str = ".",
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        found: place.Place | None = None,
    ) -> None:
        self.directory = directory
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.environ: Mapping[str, str] = os.environ
        self._place = found
        self._noted: set[str] = set()
        self.said: list[str] | None = None  # where it is, what `out` is given goes there

    @property
    def place(self) -> place.Place:
        """The repository. Raises `UsageError` where there is none."""
        if self._place is None:
            self._place = place.locate(self.directory, self.environ)
        return self._place

    @property
    def top(self) -> Path:
        """The top of the repository's main checkout."""
        from pathlib import Path

        return Path(self.place.top)

    @property
    def here(self) -> str:
        """The folder that the person stands in, from which paths are shown; "" where it is gone."""
        try:
            return os.getcwd()
        except FileNotFoundError:
            return ""

    @property
    def state(self) -> Path:
        """The state folder; it may not exist yet."""
        from pathlib import Path

        return Path(self.place.state)

    # --- the daemon ---

    def daemon(self) -> connection.Connection:
        """Finds the daemon. Raises `NoDaemon` (exit 3) where none runs, and `Refused` inside a sandbox that does not show whether
        one does."""
        try:
            return self._listening()
        except NoDaemon:
            if self.shut_in:
                raise connection.not_shown() from None
            raise

    def daemon_or_none(self) -> connection.Connection | None:
        """Finds the daemon, or gives None."""
        try:
            return self._listening()
        except NoDaemon:
            return None

    def _listening(self) -> connection.Connection:
        daemon = connection.find(self.place.state, self.environ)
        self.detail(f"The daemon of {self.place.top} is asked: process {daemon.pid}, at {daemon.path}.")
        return daemon

    def start_daemon(
        self, *, workers: int | None = None, ends: str = "idle"
    ) -> tuple[connection.Connection, bool]:
        """Starts a daemon in the background and finds it; it `ends` by itself when idle, that is once no run is active, when it has
        answered, and starts no work then, or never. Gives the one that somebody else has started meanwhile, and False, where that
        was faster."""
        import time

        from swarm import protocol
        from swarm.client import spawning

        deadline = time.monotonic() + spawning.READY_S
        while True:
            said = spawning.start(self.place, workers=workers, ends=ends)
            if not said.get("running"):
                place.remember(self.place, self.environ)
                self.note(f"Started the daemon (process {said['pid']}).")
                for each in said.get("resumes") or ():
                    run, into = protocol.printable(each["run"]), protocol.printable(each["into"])
                    self.note(
                        f"It goes on with a finish of run {run} into {into} that the last one was killed at; swarm stop gives it up"
                        " while nothing is merged."
                    )
                return self.daemon(), True
            other = self.outlast(said.get("pid"), deadline)
            if other is not None:
                return other, False
            if time.monotonic() >= deadline:
                raise SwarmError(
                    f"Process {said.get('pid') or 'unknown'} has the place of this repository's daemon and does not answer.",
                    "None was started beside it.",
                    "try again; if it hangs, end that process",
                )

    def outlast(self, pid: int | None, deadline: float) -> connection.Connection | None:
        """Waits for a daemon that does not answer, because it is just coming up, ending, or beginning anew: gives it once it
        answers, and None when it has ended, or the time is over."""
        import time

        while time.monotonic() < deadline:
            daemon = self.daemon_or_none()
            if daemon is not None or connection.wait_for_end(pid, LOOK_EVERY_S):
                return daemon
        return None

    def with_daemon(
        self,
        work: Callable[[connection.Connection, bool], Result],
        *,
        before_start: Callable[[], None] | None = None,
        workers: int | None = None,
        ends: str = "idle",
    ) -> Result:
        """Does something with the daemon that runs (False), or with one started for it (True).

        Where the one that runs turns out to be just ending, it is done with one that is started then; so `work` must be something
        that may be asked for twice. `before_start` raises where none is to be started.
        """

        def with_a_new_one() -> Result:
            if before_start is not None:
                before_start()
            return work(*self.start_daemon(workers=workers, ends=ends))

        return self.asked_or_else(lambda daemon: work(daemon, False), with_a_new_one)

    def asked_or_else(
        self, ask: Callable[[connection.Connection], Result], otherwise: Callable[[], Result]
    ) -> Result:
        """Asks the daemon for something. Where none runs, or the one that does turns out to be just ending, does it otherwise; so
        it must be something that may be done twice."""
        daemon = self.daemon_or_none()
        if daemon is not None:
            try:
                return ask(daemon)
            except (NoDaemon, connection.AnswerBroken):
                if not connection.wait_for_end(daemon.pid, LAST_BREATH_S):
                    raise
        return otherwise()

    def document(self, *, run: str | None = None, full: bool = True) -> dict[str, Any]:
        """Gives the status document: the daemon's, or without one that answers what the journal says."""
        document, about = self.asked(run, full=full)
        if document is None:
            document = self.journal_document(run, full=full)
            document["daemon"] |= about
        return document

    def in_full(self, summary: dict[str, Any], run: str) -> dict[str, Any]:
        """Gives the whole document of a run for its summary, which it stays where that can't be had any more."""
        try:
            return self.document(run=run)
        except SwarmError:
            return summary

    def asked(
        self, run: str | None = None, *, full: bool = True, within_s: float | None = None
    ) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Gives the daemon's status document. Where that does not answer None, and what is known of it: `running`, `pid`, and why
        it is `silent`; nothing where there is no daemon."""
        from swarm import protocol

        daemon = self.daemon_or_none()
        if daemon is None:
            return None, {}
        view = protocol.VIEW_FULL if full else protocol.VIEW_SUMMARY
        if within_s is None:
            within_s = protocol.ANSWER_TIMEOUT_S if full else SUMMARY_WITHIN_S
        try:
            return daemon.get(protocol.STATUS, {"run": run, "view": view}, timeout_s=within_s), {}
        except (NoDaemon, connection.AnswerBroken):  # it ended between the two
            return None, {}
        except connection.AnswerLate as late:
            silent = {"cause": late.cause, "next_step": late.next_step}
            return None, {"running": True, "pid": daemon.pid, "silent": silent}

    def heed_silence(self, document: Mapping[str, Any]) -> None:
        """Says that a status document, of which only a part is shown, is the journal's because the daemon does not answer."""
        if silent := document["daemon"].get("silent"):
            self.note_once(
                f"{silent['cause']}\n  This is what the journal says.\n  Next: {silent['next_step']}"
            )

    def journal_document(self, run: str | None = None, *, full: bool = True) -> dict[str, Any]:
        """Gives the status document as the journal has it. Raises `UsageError` for a run that it does not know."""
        from swarm.client import naming, offline

        self.need_state()
        state = self.place.state
        self.detail(f"The journal in {state} is read.")
        document: dict[str, Any] = offline.status(self.state) if full else offline.summary(state)
        if failed := offline.failure(state):
            document["daemon"]["failed"] = failed
        if copied := offline.copied(state):
            document["daemon"]["copied"] = copied
        if run is not None:
            document["runs"] = [naming.run_of(document, run)]
        return document

    def check_run(self, run: str | None, *, looks: bool = False) -> None:
        """Raises `UsageError` where the journal knows no such run: then no daemon is started to say so. For what only `looks`
        raises `Refused` where a daemon that starts would go on with a finish."""
        from swarm import protocol
        from swarm.client import naming

        document = self.journal_document(full=False)
        naming.run_of(document, run)
        for each in document["runs"] if looks else ():
            if pending := each.get("finishing"):
                which = f"run {protocol.printable(each['id'])} into {protocol.printable(pending['into'])}"
                raise Refused(
                    f"A finish of {which} was under way when the daemon ended, and the next one goes on with it.",
                    "None was started to look: that would have moved files and branch.",
                    "swarm start goes on with it; then again",
                )

    def task(self, text: str, run: str | None = None) -> tuple[str, dict[str, Any]]:
        """Gives (run id, task) of the status document for `task` or `run/task`. Raises `UsageError` where that is not clear."""
        from swarm.client import naming

        some = self.document(run=run, full=False)
        self.heed_silence(some)
        # Then nothing that the summary leaves out can have the same name.
        if len(some.get("runs") or []) == 1:
            try:
                return naming.task_of(some, text, run)
            except UsageError:
                pass
        return naming.task_of(self.document(run=run), text, run)

    @property
    def shut_in(self) -> bool:
        """Whether this is inside the sandbox, where the daemon may be asked how things stand, and its files are not there."""
        from swarm import protocol

        is_there = os.path.exists(os.path.join(self.place.state, protocol.JOURNAL_FILE))
        return protocol.inside_worker(self.environ) and not is_there

    def task_document(self, run: str, task: str) -> dict[str, Any]:
        """Gives everything known of a task: how it stands by the word of the daemon, where one runs, and what the journal has
        of it. Inside the sandbox that is the former alone."""
        from swarm import protocol
        from swarm.client import naming, offline

        if self.shut_in:
            document = self.document(run=run)
            found = naming.task_of(document, task, run)[1]
            meant = naming.run_of(document, run).get("meant", True)
            return {"schema": protocol.SCHEMA, "run": run, "meant": meant, "task": {**found, "run": run}}
        # Of what is at work, and of what waits, the daemon knows more than the journal says.
        standing = None if self.daemon_or_none() is None else self.task(task, run)[1]
        return offline.task_document(self.state, run, task, standing)

    def events(self, after: int) -> Iterator[dict[str, Any]]:
        """Gives what happened after a number, from the first event on."""
        from swarm import protocol
        from swarm.client import offline

        if self.shut_in:
            return iter(self.daemon().stream(protocol.EVENTS, {"after": after}))
        return offline.events(self.state, after)

    def need_state(self) -> None:
        """Raises `Refused` inside the sandbox, for what is told of all that swarm keeps."""
        if self.shut_in:
            raise connection.not_shown()

    def need_files(self) -> None:
        """Raises `Refused` inside the sandbox, for what is only in files."""
        if self.shut_in:
            self.daemon()  # where nobody can be asked either, that is what is said
            raise Refused(
                "What workers printed and changed, and the journal's files, are not shown inside the sandbox.",
                "Nothing was done.",
                "swarm status, show, claims and events work here",
            )

    # --- output ---

    def out(self, text: str) -> None:
        """Writes a result to stdout; ends the program well when its reader has enough (`swarm events | head`)."""
        if self.said is not None:
            self.said.append(text)
            return
        self._write(lambda: sys.stdout.write(text))

    def out_bytes(self, data: bytes) -> None:
        """Writes a result that is no text, or is encoded already."""
        sys.stdout.flush()
        self._write(lambda: sys.stdout.buffer.write(data))

    def _write(self, write: Callable[[], object]) -> None:
        Session.wrote = True
        try:
            write()
            sys.stdout.flush()
        except BrokenPipeError:
            _leave_stdout()
            raise OutputClosed(EXIT_OK) from None
        except OSError as error:
            _leave_stdout()
            raise SwarmError(f"The output can't be written: {error.strerror}.") from None

    def line(self, text: str) -> None:
        """Writes one line of a result to stdout."""
        self.out(f"{text}\n")

    def say(self, text: str) -> None:
        """Writes to stdout what is worth a line and no result; `-q` leaves it out."""
        if not self.quiet:
            self.line(text)

    def json(self, document: Any) -> None:
        """Writes a document as JSON: indented for a person at a terminal, compact for a program."""
        if self.interactive:
            self.line(json.dumps(document, indent=2, ensure_ascii=True))
        else:
            self.line(json.dumps(document, separators=(",", ":"), ensure_ascii=True))

    def note(self, text: str) -> None:
        """Writes to stderr what helps a person and is no result; `-q` leaves it out."""
        if not self.quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def note_once(self, text: str) -> None:
        """Writes a note that may come up again and again the first time only."""
        if text not in self._noted:
            self._noted.add(text)
            self.note(text)

    def detail(self, text: str) -> None:
        """Writes to stderr what only `-v` asks for, and the same thing once."""
        if self.verbose:
            self.note_once(text)

    @property
    def interactive(self) -> bool:
        """Whether stdout is a terminal."""
        return sys.stdout.isatty()

    @property
    def asks(self) -> bool:
        """Whether there is somebody to ask: a terminal to type at and one to read on."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def colour(self) -> bool:
        """Whether colours are wanted: a terminal that can, and no NO_COLOR (https://no-color.org)."""
        return self.interactive and not self.environ.get("NO_COLOR") and self.environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        """Columns of the terminal: COLUMNS, else what it says, else 80."""
        given = self.environ.get("COLUMNS", "")
        if given.isascii() and given.isdigit() and 0 < len(given) < 6 and int(given) > 0:
            return max(20, int(given))
        try:
            return max(20, os.get_terminal_size(sys.stdout.fileno()).columns)
        except (OSError, ValueError):
            return 80


def _leave_stdout() -> None:
    """Has what is still to be written go nowhere, or Python complains when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

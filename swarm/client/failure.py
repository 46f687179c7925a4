"""Ends a command that failed: what a person reads on stderr, the document that a program which asked for JSON reads on stdout, the
exit code, and a traceback in a file where it is our fault.

Rules for editing: never a traceback on the terminal; cause, consequence and next step, each once. A document that a command has
printed stands alone. No import at the top that costs start-up time.
"""

from __future__ import annotations

import os
import sys

from swarm.errors import EXIT_NOT_LANDED, EXIT_OK, Interrupted, Refused, SwarmError
from swarm.protocol import SCHEMA, closed, printable

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LOG_BYTES_MAX = 1_000_000
LINES = (
    "events",
    "logs",
)  # of which each line of stdout is an event, or a line of output: nothing else stands there


def exit_code(error: BaseException, arguments: Sequence[str] = ()) -> int:
    """Shows an error that ended the command of these arguments and gives the exit code of the contract for it."""
    if isinstance(error, SystemExit):
        return (
            error.code if isinstance(error.code, int) else EXIT_OK if error.code is None else EXIT_NOT_LANDED
        )
    told = _as_told(error)
    say(printable(str(told), keep_newlines=True))
    _write_document(told, arguments)
    return told.exit_code


def _as_told(error: BaseException) -> SwarmError:
    if isinstance(error, SwarmError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("Interrupted.")
    if isinstance(error, PermissionError):
        what = printable(error.filename) if error.filename else "A file that is needed"
        shut = closed(os.path.dirname(error.filename)) if isinstance(error.filename, str) else None
        return shut or Refused(
            f"{what} can't be used: {error.strerror}.", "", "work as the user that it belongs to"
        )
    path = _keep_traceback(error)
    where = f"The details are in {path}." if path else "The details could not be written anywhere."
    what = f"{type(error).__name__}: {printable(error)[:200]}"
    return SwarmError(f"swarm failed in a way that it should not: {what}", where)


def _write_document(error: SwarmError, arguments: Sequence[str]) -> None:
    """Writes an error to stdout as JSON, where that is asked for and nothing is there yet."""
    from swarm.client.session import Session

    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    name = _command(options)
    if "--json" not in options or name in LINES or Session.wrote:
        return
    try:
        Session(as_json=True).json(document(error, name))
    except (SwarmError, SystemExit, ValueError, AttributeError):
        pass  # closed: there is nobody to tell


def document(error: SwarmError, command: str | None) -> dict[str, Any]:
    """Gives an error as a document, `schema()`: beside what holds all the same, where that is known."""
    return {
        **(error.holds or {"schema": SCHEMA}),
        "command": command,
        "exit_code": error.exit_code,
        "error": {
            "cause": error.cause.strip(),
            "consequence": error.consequence,
            "next_step": error.next_step,
        },
    }


def schema() -> dict[str, Any]:
    """Gives the JSON Schema of the document that a command which fails prints with --json."""
    texts = {
        "cause": "What happened.",
        "consequence": 'What that means; "" where there is nothing to say.',
        "next_step": 'What to type or to do; "" where there is nothing to do.',
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A command that failed",
        "description": "What a command prints on stdout with --json when it fails: these keys, and beside them those of the"
        " document of what holds all the same, where there is one. events and logs, which print lines, print none.",
        "type": "object",
        "required": ["schema", "command", "exit_code", "error"],
        "properties": {
            "schema": {"const": SCHEMA},
            "command": {
                "type": ["string", "null"],
                "description": "The command; null where there is none of that name.",
            },
            "exit_code": {"type": "integer", "description": "What the command ends with."},
            "error": {
                "type": "object",
                "required": list(texts),
                "properties": {name: {"type": "string", "description": text} for name, text in texts.items()},
            },
        },
    }


def _command(options: Sequence[str]) -> str | None:
    """Finds the command among arguments: the first word that is no global option, nor the folder of one."""
    from swarm.client import commands

    words = iter(options)
    for word in words:
        if word == "-C":
            next(words, None)
        elif not word.startswith("-"):
            return word if commands.find(word) else None
    return None


def say(text: str) -> None:
    """Writes a message to stderr, where there still is one."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # closed: there is nobody to tell


def _keep_traceback(error: BaseException) -> str:
    import time
    import traceback

    text = "".join(traceback.format_exception(error))
    entry = f"--- {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {sys.argv[1:]!r}\n{text}\n"
    for path in _log_files():
        try:
            over = os.path.exists(path) and os.path.getsize(path) > LOG_BYTES_MAX
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if over else os.O_APPEND)
            with open(os.open(path, flags, 0o600), "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(entry)
            return path
        except OSError:
            continue
    return ""


def _log_files() -> list[str]:
    """Names the files that the traceback may go to, the best first."""
    import tempfile

    paths = []
    try:
        from swarm.client.place import locate

        state = locate(os.getcwd(), os.environ).state
        if os.path.isdir(state):
            folder = os.path.join(state, "log")
            os.makedirs(folder, mode=0o700, exist_ok=True)
            paths.append(os.path.join(folder, "client.log"))
    except (SwarmError, OSError):
        pass  # not in a repository, or one that can't be written to
    paths.append(os.path.join(tempfile.gettempdir(), f"swarm-client-{os.getuid()}.log"))
    return paths

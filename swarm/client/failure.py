"""Ends a command that failed: what a person reads on stderr, the exit code, and a traceback in a file where it is our fault.

Rules for editing: never a traceback on the terminal; cause, consequence and next step, each once. No import at the top that costs
start-up time.
"""

from __future__ import annotations

import os
import sys

from swarm.errors import EXIT_INTERRUPTED, EXIT_NOT_LANDED, EXIT_OK, Refused, SwarmError
from swarm.protocol import closed, printable

LOG_BYTES_MAX = 1_000_000


def exit_code(error: BaseException) -> int:
    """Shows an error that ended a command and gives the exit code of the contract for it."""
    if isinstance(error, SystemExit):
        return (
            error.code if isinstance(error.code, int) else EXIT_OK if error.code is None else EXIT_NOT_LANDED
        )
    if isinstance(error, SwarmError):
        say(printable(str(error), keep_newlines=True))
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        say("Interrupted.")
        return EXIT_INTERRUPTED
    if isinstance(error, PermissionError):
        what = printable(error.filename) if error.filename else "A file that is needed"
        shut = closed(os.path.dirname(error.filename)) if isinstance(error.filename, str) else None
        refused = shut or Refused(
            f"{what} can't be used: {error.strerror}.", "", "work as the user that it belongs to"
        )
        say(printable(str(refused), keep_newlines=True))
        return refused.exit_code
    path = _keep_traceback(error)
    where = f"The details are in {path}." if path else "The details could not be written anywhere."
    say(
        f"swarm failed in a way that it should not: {type(error).__name__}: {printable(error)[:200]}\n  {where}"
    )
    return EXIT_NOT_LANDED


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

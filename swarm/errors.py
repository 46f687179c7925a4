"""Errors that a person sees: what happened, what it means, what to do next.

Rules: every error that can reach a user is a `SwarmError`. Its exit code is one of the contract's: 1 a check failed,
2 usage or an invalid plan or setting, 3 no daemon where one is needed, 4 refused because something would be lost.
Anything else that escapes is a bug and goes to the log with its traceback, never to the terminal.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_NOT_LANDED = 1
EXIT_USAGE = 2
EXIT_NO_DAEMON = 3
EXIT_REFUSED = 4
EXIT_TIMED_OUT = 124
EXIT_INTERRUPTED = 130


TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class SwarmError(Exception):
    """A failure with its cause, its consequence and the next step, each one sentence or empty. `holds` is the document of what
    holds all the same, where a command that prints one was asked for JSON."""

    exit_code = EXIT_NOT_LANDED
    before_next = "Next: "  # what stands before the next step
    holds: Mapping[str, Any] | None = None

    def __init__(self, cause: str, consequence: str = "", next_step: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.consequence = consequence
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [self.cause]
        if self.consequence:
            lines.append(f"  {self.consequence}")
        if self.next_step:
            lines.append(f"  {self.before_next}{self.next_step}")
        return "\n".join(lines)


class UsageError(SwarmError):
    """The command, the plan or a setting is not valid; nothing was done."""

    exit_code = EXIT_USAGE


class NoDaemon(SwarmError):
    """A daemon is needed and none runs for this repository."""

    exit_code = EXIT_NO_DAEMON


class Refused(SwarmError):
    """Carrying on would lose or overwrite something, so nothing was done."""

    exit_code = EXIT_REFUSED


class WaitTimedOut(SwarmError):
    """A wait ended before what it waited for."""

    exit_code = EXIT_TIMED_OUT


class Interrupted(SwarmError):
    """A person broke a command off. What begins with a line end stands below the ^C that a terminal shows."""

    exit_code = EXIT_INTERRUPTED


class Detached(Interrupted):
    """… and what it was about goes on; the next step says itself what each of its commands is for."""

    before_next = ""

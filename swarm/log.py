"""The daemon's log: one JSON object a line, in a file that turns over before it grows large.

Rules for editing: one process writes a file; workers have their own. Imported by the daemon only, since structlog takes its time.
Lines of other libraries go the same way. Nothing secret is logged: no environment, no prompt, no output of workers.
"""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any, cast

_APART = "rich" not in sys.modules
if _APART:  # structlog takes it in wherever it is installed, for consoles: a twelfth of a daemon's start, and nothing that we write
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _APART:
        del sys.modules["rich"]

FILE_BYTES_MAX = 10 * 1024 * 1024
FILES = 3
_FIRST_STEPS: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


_installed: list[logging.Handler] = []


class _PrivateFile(RotatingFileHandler):
    """A rotating file that only its owner can read."""

    def _open(self) -> Any:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.fdopen(
            os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8", errors="backslashreplace"
        )


def setup(path: Path, *, level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Sends everything that is logged to `path`, and to `stream` too where one is given (a daemon in the foreground).

    At most `FILES` files of `FILE_BYTES_MAX` bytes are kept. Raises `OSError` when the file can't be opened; later, a log that
    can't be written (the disk is full) stops nobody.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [_PrivateFile(path, maxBytes=FILE_BYTES_MAX, backupCount=FILES - 1)]
    if stream is not None:
        handlers.append(logging.StreamHandler(stream))
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_FIRST_STEPS,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    root = logging.getLogger()
    close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
        _installed.append(handler)
    root.setLevel(level)
    logging.raiseExceptions = False  # a full disk must not fill stderr as well
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_FIRST_STEPS,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get(name: str = "swarm") -> structlog.stdlib.BoundLogger:
    """Gives a logger; what is bound to it stands on every line. May be called before `setup`."""
    return cast(structlog.stdlib.BoundLogger, structlog.get_logger(name))


def close() -> None:
    """Closes the files; what is logged after this goes nowhere."""
    while _installed:
        handler = _installed.pop()
        logging.getLogger().removeHandler(handler)
        handler.close()

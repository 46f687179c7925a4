"""Notices when files or folders are taken away from their places: deleted, renamed, or replaced by others.

Hides inotify, which Python does not have. Watched are the files themselves, so that nothing wakes up for their neighbours.
Rules for editing: what it tells is a hint to look, never a fact; where it can't be had (too many of this user's are in use) the
caller goes without.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# linux/inotify.h; the link count, which IN_ATTRIB tells of, changes as soon as a name goes, however many hold the file open
_IN_ATTRIB, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x4, 0x400, 0x800
_MASK = _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF


class Notice:
    """Becomes readable when one of the watched places has changed. Raises `OSError` where there is no more to be had."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._called(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def fileno(self) -> int:
        """Gives the descriptor for an event loop."""
        return self._handle

    def watch(self, path: Path | str) -> None:
        """Watches one more place; one that is watched already is no error."""
        self._called(self._libc.inotify_add_watch(self._handle, os.fsencode(path), _MASK))

    def take(self) -> None:
        """Takes what has been noticed, so that only what comes later is told again."""
        try:
            while os.read(self._handle, 65536):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Ends it."""
        os.close(self._handle)

    @staticmethod
    def _called(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

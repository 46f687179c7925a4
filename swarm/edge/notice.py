"""Notices when files or folders are taken away from their places, or when something is saved in a folder.

Hides inotify, which Python does not have. Where it is about single files these themselves are watched, so that nothing wakes up for
their neighbours; a file that is saved is replaced by another, so there it is the folder.
Rules for editing: what it tells is a hint to look, never a fact; where it can't be had (too many of this user's are in use) the
caller goes without.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# linux/inotify.h; the link count, which IN_ATTRIB tells of, changes as soon as a name goes, however many hold the file open
_IN_ATTRIB, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x4, 0x400, 0x800
_IN_CLOSE_WRITE, _IN_MOVED_FROM, _IN_MOVED_TO, _IN_DELETE = 0x8, 0x40, 0x80, 0x200
TAKEN_AWAY = _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF
SAVED_IN = _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF


class Notice:
    """Becomes readable when `what` has happened to one of the watched places. Raises `OSError` where there is no more to be had."""

    def __init__(self, what: int = TAKEN_AWAY) -> None:
        self._what = what
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._called(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def fileno(self) -> int:
        """Gives the descriptor for an event loop."""
        return self._handle

    def watch(self, path: Path | str) -> None:
        """Watches one more place; one that is watched already is no error."""
        self._called(self._libc.inotify_add_watch(self._handle, os.fsencode(path), self._what))

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

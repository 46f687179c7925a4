"""What is put into its place in one step, and what is removed however it lies there.

Hides the file in which the next version is made. Rules for editing: whether a file outlives a power cut is said where it is
written; what is made again, or looked at before it is believed, need not.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def write(path: Path | str, content: str | bytes, *, durable: bool, mode: int = 0o666) -> None:
    """Writes a small file in one step: its readers see the old or the new one, wherever the writer is killed. One thread at a time
    for one path.

    With `durable` that holds after a power cut too; without, what is there then may be empty. A text is written as UTF-8, and what
    is none as it was read; `mode` is that of the file, less the umask. Raises `OSError`, and then the old one is there.
    """
    draft = draft_of(path)
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(fd)
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


def draft_of(path: Path | str) -> str:
    """Names the file in which the next version of `path` is made: always the same, so that what a killed call left there goes, and
    removed, because a worker may have put a link there."""
    draft = f"{path}.new"
    remove(draft)
    return draft


def remove(path: Path | str) -> None:
    """Removes a file or a whole folder, whatever modes a worker gave it; one that is gone is no error. Raises
    `OSError`."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError:
        if not os.path.isdir(path) or os.path.islink(path):
            raise
        shutil.rmtree(path, onerror=_open_up)
        if os.path.lexists(path):
            shutil.rmtree(path)


def move(source: Path | str, target: Path | str, *, apart: Callable[[], None] = lambda: None) -> None:
    """Moves a file or a folder to where nothing is, in one step; entry by entry where the kernel refuses that of a folder, as
    overlayfs does of one in a lower layer (a repository in an image). `apart` is called before, since a kill then leaves two parts.
    Raises `OSError`."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV or os.path.islink(source) or not os.path.isdir(source):
            raise
        apart()
        os.mkdir(target, 0o700)
        for name in os.listdir(source):
            move(os.path.join(source, name), os.path.join(target, name))
        shutil.copystat(source, target)
        os.rmdir(source)


def _open_up(call: Callable[..., Any], path: str, _error: object) -> None:
    """Answers a refused removal: opens the folder up and tries once more."""
    try:
        os.chmod(os.path.dirname(path), 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
            shutil.rmtree(path)
        else:
            call(path)
    except FileNotFoundError:
        return

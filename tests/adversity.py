"""A machine in trouble, for real: small disks, read-only ones, no descriptors left. Tests that lack the right to make it skip."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CLONE_NEWNS = 0x00020000
_private: list[bool] = []


def need_private_mounts() -> None:
    """Gives this process mounts of its own, which end with it; skips where that is not allowed."""
    if not _private:
        made = ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) == 0
        _private.append(made and _tried("mount", "--make-rprivate", "/"))
    if not _private[0]:
        pytest.skip("needs the right to mount: run as root")


def _tried(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _must(*words: str) -> None:
    subprocess.run(words, capture_output=True, check=True)


def need_to_write(folder: str) -> None:
    """Skips where nothing can be made in a folder that on most machines everybody may write to."""
    if not os.access(folder, os.W_OK):
        pytest.skip(f"nothing can be made in {folder} here")


def need_to_trace() -> None:
    """Skips where strace is missing, or not allowed to trace."""
    if shutil.which("strace") is None or not _tried("strace", "-qq", "true"):
        pytest.skip("needs strace and the right to trace")


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """Mounts an empty disk of this size at a folder."""
    need_private_mounts()
    at.mkdir(parents=True, exist_ok=True)
    _must("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(at))
    try:
        yield at
    finally:
        _must("umount", "-l", str(at))


@contextmanager
def bound(source: Path, at: Path, *, read_only: bool = False) -> Iterator[Path]:
    """Shows a folder a second time, at `at`; there it can't be written to where that is wanted."""
    need_private_mounts()
    at.mkdir(parents=True, exist_ok=True)
    _must("mount", "--bind", str(source), str(at))
    try:
        if read_only:
            _must("mount", "-o", "remount,bind,ro", str(at))
        yield at
    finally:
        _must("umount", "-l", str(at))


@contextmanager
def layered(at: Path, beside: Path) -> Iterator[Path]:
    """Makes what is in a folder the lower layer of a file system that is mounted there, as an image is to its container; what is
    written goes to a disk mounted at `beside`. Skips where overlayfs can't be had."""
    with small_disk(beside, "64m"):
        for name in ("upper", "work"):
            (beside / name).mkdir()
        layers = f"lowerdir={at},upperdir={beside / 'upper'},workdir={beside / 'work'}"
        if not _tried("mount", "-t", "overlay", "-o", layers, "overlay", str(at)):
            pytest.skip("needs overlayfs")
        try:
            yield at
        finally:
            _must("umount", "-l", str(at))


def fill(folder: Path, *, leave: int = 0) -> Path:
    """Fills the disk that a folder is on, but for `leave` bytes; gives the file that takes the room."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * (1 << 20))
        except OSError:
            pass
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
        if leave:
            file.truncate(file.tell() - leave)
    return ballast


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Leaves this process no file descriptor to open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used[-1] + 1, before[1]))
    taken = []
    try:
        while True:
            try:
                taken.append(os.dup(used[0]))
            except OSError:
                break
        yield
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

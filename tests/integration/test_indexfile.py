"""The index reader against indexes that git wrote."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from swarm.edge.indexfile import find, may_link, read_flags


def sh(cwd: Path, *args: str) -> bytes:
    """Runs git and gives what it printed."""
    return subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True).stdout


@pytest.fixture(params=[(2, "sha1"), (3, "sha1"), (4, "sha1"), (2, "sha256"), (4, "sha256")], ids=str)
def indexed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A repository whose index has another version and other object names each time, and names of many
    lengths."""
    version, algorithm = request.param
    sh(tmp_path, "init", "-q", f"--object-format={algorithm}")
    names = ["a" * n for n in range(1, 20)] + [
        "deep/er/ä b",
        "deep/er.x",
        "deep/er-y",
        "deep2",
        "x/" + "long" * 60,
    ]
    names += ["/".join(["very"] * 40) + f"/{'n' * 200}/{'m' * 250}/{n}" for n in range(9)]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    sh(tmp_path, "add", "-A")
    if version == 3:
        (tmp_path / "intended").touch()
        sh(tmp_path, "add", "-N", "intended")
    sh(tmp_path, "update-index", "--index-version", str(version))
    assert (tmp_path / ".git" / "index").read_bytes()[7] == version
    return tmp_path


def oid_bytes(repo: Path) -> int:
    """Gives the length of an object name."""
    return len(sh(repo, "hash-object", "/dev/null").strip()) // 2


def test_submodules_are_seen(indexed: Path) -> None:
    """An index with a submodule may link, a split one too, since its entries are elsewhere, and none that only names links."""
    length = oid_bytes(indexed)

    def may() -> bool:
        return may_link((indexed / ".git" / "index").read_bytes(), oid_bytes=length)

    for more in range(1, 9):
        (indexed / f"{'s' * more}link").touch()
    sh(indexed, "add", "-A")
    assert not may()
    sh(indexed, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 2 * length},module")
    assert may()
    sh(indexed, "rm", "-q", "--cached", "module")
    assert not may()
    sh(indexed, "update-index", "--split-index")
    assert may()


@pytest.mark.parametrize(
    ("mark", "hides"),
    [(None, False), ("--assume-unchanged", True), ("--skip-worktree", True), ("--split-index", True)],
)
def test_marks_that_hide_changes_are_seen(indexed: Path, mark: str | None, hides: bool) -> None:
    """Assume-unchanged, skip-worktree and a split index are told; an ordinary index is not accused."""
    if mark is not None:
        sh(indexed, "update-index", mark, *([] if mark == "--split-index" else ["aaa"]))
    flags = read_flags((indexed / ".git" / "index").read_bytes(), oid_bytes=oid_bytes(indexed))
    assert (flags.unmerged, flags.hides) == (False, hides)


def test_unmerged_paths_are_seen(indexed: Path) -> None:
    """Entries of a conflict are told."""
    blob = sh(indexed, "hash-object", "-w", "aaa").decode().strip()
    lines = "".join(f"100644 {blob} {stage}\taaa\n" for stage in (1, 2, 3))
    subprocess.run(["git", "update-index", "--index-info"], cwd=indexed, input=lines.encode(), check=True)
    assert read_flags((indexed / ".git" / "index").read_bytes(), oid_bytes=oid_bytes(indexed)).unmerged


def test_a_path_is_what_git_lists(indexed: Path) -> None:
    """A path that is searched for is what `ls-files` says it is; one that is not there is nothing, however alike its name."""
    data, size = (indexed / ".git" / "index").read_bytes(), oid_bytes(indexed)
    listed = sh(indexed, "ls-files", "-s", "-z").split(b"\0")[:-1]
    if data[7] == 4:
        with pytest.raises(ValueError):
            find(data, b"aaa", oid_bytes=size)
        return
    for line in listed:
        about, _, path = line.partition(b"\t")
        mode, oid, _stage = about.decode().split()
        marked = path == b"intended"
        assert find(data, path, oid_bytes=size) == (None if marked else (mode, oid)), path
    for path in (b"aa" * 10, b"deep", b"er/\xc3\xa4 b", b"deep/er", b"eep2", b"deep2/x", b"x"):
        assert find(data, path, oid_bytes=size) is None


def test_what_looks_like_an_entry_is_not_taken_for_one(indexed: Path) -> None:
    """Where something else looks like the entry of a path, nothing is said of it."""
    data, size = (indexed / ".git" / "index").read_bytes(), oid_bytes(indexed)
    if data[7] == 4:
        return
    looks = b"\0\x05deep2\0"
    of_another = data.index(b"\0\x01a\0") - size
    there = data.index(looks)
    twice = data[:of_another] + looks + data[of_another + len(looks) :]
    alone = twice[:there] + b"\0\x05xxxxx\0" + twice[there + len(looks) :]
    for forged in (twice, alone):
        with pytest.raises(ValueError):
            find(forged, b"deep2", oid_bytes=size)
    assert find(data, b"deep2", oid_bytes=size) is not None


def test_what_is_no_index_is_refused(indexed: Path) -> None:
    """Junk, nothing, an unknown version and a cut index raise ValueError, at whatever byte it was cut in an
    entry."""
    data, size = (indexed / ".git" / "index").read_bytes(), oid_bytes(indexed)
    for junk in (b"", b"junk", os.urandom(400), data[:4] + b"\0\0\0\x09" + data[8:], data[:12] + b"\0" * 3):
        with pytest.raises(ValueError):
            read_flags(junk, oid_bytes=size)
    for end in range(12, 400, 7):
        with pytest.raises(ValueError):
            read_flags(data[:end], oid_bytes=size)

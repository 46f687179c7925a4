"""Small files that are written in one step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.edge import whole


def test_what_a_killed_call_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """A draft that was left, a link or a folder in its place, goes; what the link leads to stays as it is."""
    path, draft, precious = tmp_path / "note", tmp_path / "note.new", tmp_path / "precious"
    precious.write_text("mine")
    draft.write_text("half")
    whole.write(path, "one\n", durable=False)
    draft.symlink_to(precious)
    whole.write(path, b"two\n", durable=True)
    (draft / "deep").mkdir(parents=True)
    os.chmod(draft, 0)
    whole.write(path, "\udcff\n", durable=False)
    assert path.read_bytes() == b"\xff\n"
    assert (precious.read_text(), sorted(os.listdir(tmp_path))) == ("mine", ["note", "precious"])


def test_what_can_not_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk refuses, the file is as it was, and no draft lies beside it."""
    path = tmp_path / "note"
    whole.write(path, "old", durable=True)

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        whole.write(path, "new", durable=True)
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["note"])
    whole.write(path, "new", durable=False)
    assert path.read_text() == "new"
    whole.write(path, "private", durable=False, mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600

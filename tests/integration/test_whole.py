"""Small files that are written in one step."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from swarm.edge import whole
from tests.adversity import layered


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


def test_a_folder_of_a_lower_layer_is_moved_in_parts(tmp_path: Path) -> None:
    """Where overlayfs refuses to rename a folder it is moved with all in it as it was, and who asked is told before."""
    at = tmp_path / "image"
    (at / "old" / "deep").mkdir(parents=True)
    (at / "old" / "deep" / "tool").write_text("x")
    (at / "old" / "deep" / "tool").chmod(0o750)
    (at / "old" / "link").symlink_to("nowhere")
    os.mkfifo(at / "old" / "pipe")
    (at / "old" / "deep").chmod(0o711)
    with layered(at, tmp_path / "beside"):
        with pytest.raises(OSError, match="cross-device"):
            os.rename(at / "old", at / "new")
        there: list[bool] = []
        whole.move(at / "old", at / "new", apart=lambda: there.append((at / "old" / "link").is_symlink()))
        assert there == [True]
        assert sorted(os.listdir(at)) == ["new"]
        assert sorted(os.listdir(at / "new")) == ["deep", "link", "pipe"]
        assert os.readlink(at / "new" / "link") == "nowhere"
        assert stat.S_ISFIFO(os.lstat(at / "new" / "pipe").st_mode)
        assert stat.S_IMODE(os.stat(at / "new" / "deep").st_mode) == 0o711
        assert stat.S_IMODE(os.stat(at / "new" / "deep" / "tool").st_mode) == 0o750


def test_a_folder_that_may_not_be_moved_stays(tmp_path: Path) -> None:
    """What is missing, or is not to be moved for another reason, is told and not tried in parts."""
    told: list[str] = []
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    for source in ("missing", "there"):
        with pytest.raises(OSError):
            whole.move(tmp_path / source, tmp_path / "there" / "below", apart=lambda: told.append("apart"))
    assert (told, os.listdir(tmp_path / "there")) == ([], ["file"])

"""A checkout of the user's moves whole, or is put back as it was; what they changed meanwhile stays theirs."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from swarm.edge.checkout import NOTE, Move
from tests.conftest import git

OLD = {
    "a.txt": "a\n",
    "b.txt": "b\n",
    "d/c.txt": "c\n",
    "flat": "flat\n",
    "deep/er": "er\n",
    "x.txt": "x\n",
    "y.txt": "y\n",
}
NEW = {
    "a.txt": "a\n2\n",
    "d/c.txt": "c\n2\n",
    "flat/now": "now\n",
    "deep": "deep\n",
    "n/e/w": "new\n",
    "x.txt": "x2\n",
    "y.txt": "y\n",
}


def write(top: Path, files: dict[str, str]) -> str:
    """Commits exactly these files, and the links that begin with `->`."""
    git(top, "rm", "-q", "-r", "-f", "--ignore-unmatch", ".")
    for path, text in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            (top / path).symlink_to(text[2:])
        else:
            (top / path).write_text(text)
    git(top, "add", "-A")
    git(top, "commit", "-q", "--allow-empty", "-m", "files")
    return git(top, "rev-parse", "HEAD")


def move(top: Path, old: dict[str, str], new: dict[str, str]) -> tuple[Move, list[str], dict[str, str]]:
    """Makes two commits, of which the first is checked out; gives the move, its paths, and the entries of the second."""
    before = write(top, old)
    git(top, "branch", "old")
    after = write(top, new)
    git(top, "reset", "-q", "--hard", before)
    paths = git(top, "diff", "--name-only", "--no-renames", before, after).splitlines()
    listed = [line.partition("\t") for line in git(top, "ls-tree", "-r", after).splitlines()]
    return Move(top, before, after, top.parent / "aside"), paths, {path: facts for facts, _, path in listed}


def files(top: Path) -> dict[str, object]:
    """Gives what lies in a checkout: files with times and modes, links, folders, and what git says of it."""
    found: dict[str, object] = {"": git(top, "status", "--porcelain"), ".": git(top, "ls-files", "-s")}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if name.split("/")[0] == ".git":
            continue
        at = path.lstat()
        found[name] = (
            os.readlink(path)
            if path.is_symlink()
            else (path.read_bytes(), at.st_mtime_ns, at.st_mode)
            if path.is_file()
            else None
        )
    return found


def required_filter(top: Path, smudge: str, *paths: str) -> None:
    """Has files go through a filter of the user's that must work."""
    for way, command in (("clean", "cat"), ("smudge", smudge), ("required", "true")):
        git(top, "config", f"filter.bad.{way}", command)
    (top / ".git" / "info" / "attributes").write_text("".join(f"{path} filter=bad\n" for path in paths))


@pytest.mark.parametrize("fails_at", [("x.txt",), ("n/e/w",), ("a.txt",), ("flat/now",)])
def test_a_move_that_fails_is_put_back(repo: Path, fails_at: tuple[str, ...]) -> None:
    """Where a filter fails on the way, for the old content too, files, times, folders and index are as before."""
    made, paths, entries = move(repo, OLD, NEW)
    required_filter(repo, "false", *fails_at)
    (repo / "mine").write_text("mine\n")
    (repo / "y.txt").write_text("edited\n")
    before = files(repo)
    made.begin(paths)
    assert "smudge filter bad failed" in made.make([])
    assert files(repo) != before
    assert made.undo(entries) == []
    assert files(repo) == before
    assert not made.aside.exists()
    assert Move.begun(made.aside) is None


@pytest.mark.parametrize("fails", [True, False])
def test_a_file_that_only_seems_changed_moves_too(repo: Path, fails: bool) -> None:
    """What git shows as changed although nobody did, line ends that its attributes would make others, is moved as said, and is put
    back byte for byte where another file can't be moved."""
    (repo / "crlf.txt").write_bytes(b"a\r\n")
    git(repo, "add", "crlf.txt")
    made, paths, entries = move(repo, {"crlf.txt": "a\r\n", "z": "z\n"}, {"crlf.txt": "b\r\n", "z": "z2\n"})
    (repo / ".git" / "info" / "attributes").write_text("*.txt text\n")
    if fails:
        required_filter(repo, "false", "z")
        with (repo / ".git" / "info" / "attributes").open("a") as told:
            told.write("*.txt text\n")
    os.utime(repo / "crlf.txt")
    before = files(repo)
    assert before[""] == " M crlf.txt"
    made.begin(paths)
    said = made.make([], ["crlf.txt"])
    if fails:
        assert "smudge filter bad failed" in said
        assert not (repo / "crlf.txt").exists() or (repo / "crlf.txt").read_bytes() == b"b\r\n"
        assert made.undo(entries) == []
        assert files(repo) == before
    else:
        assert said == ""
        assert (repo / "crlf.txt").read_bytes() == b"b\r\n"
        assert (repo / "z").read_text() == "z2\n"


def test_a_move_that_was_made_is_put_back(repo: Path) -> None:
    """A checkout that was moved, index and all, is put back too: another one could not be, or the branch had moved."""
    made, paths, entries = move(repo, OLD, NEW)
    (repo / "mine").write_text("mine\n")
    git(repo, "add", "mine")
    before = files(repo)
    made.begin(paths)
    assert made.make([]) == ""
    again = Move.begun(made.aside)
    assert again == made
    assert made.stands()
    assert again.undo(entries) == []
    assert files(repo) == before


def test_what_the_user_changed_meanwhile_is_left(repo: Path) -> None:
    """Edits, new files and commits that come after the move are not touched, and are named."""
    made, paths, entries = move(repo, OLD, NEW)
    made.begin(paths)
    assert made.make([]) == ""
    (repo / "a.txt").write_text("precious\n")
    (repo / "n" / "e" / "w").write_text("precious too\n")
    (repo / "flat" / "mine").write_text("mine\n")
    assert made.undo(entries) == ["a.txt", "flat", "n/e/w"]
    assert (repo / "a.txt").read_text() == "precious\n"
    assert (repo / "n" / "e" / "w").read_text() == "precious too\n"
    assert (repo / "flat" / "mine").read_text() == "mine\n"
    assert (repo / "b.txt").read_text() == "b\n"
    assert [path.read_text() for path in made.aside.iterdir() if path.name == str(paths.index("flat"))] == [
        "flat\n"
    ]
    git(repo, "commit", "-q", "--allow-empty", "-m", "mine")
    assert not made.stands()


def test_what_was_half_put_back_is_put_back_again(repo: Path) -> None:
    """A call that was killed on the way is repeated: what is back already, or as it was, is nobody's edit."""
    made, paths, entries = move(repo, OLD, NEW)
    before = files(repo)
    made.begin(paths)
    assert made.make([]) == ""
    (made.aside / str(paths.index("b.txt"))).replace(repo / "b.txt")
    (repo / "a.txt").write_text("a\n")
    assert made.undo(entries) == []
    assert files(repo).keys() == before.keys()
    assert git(repo, "status", "--porcelain") == ""


def test_the_beginning_of_a_file_is_no_edit(repo: Path) -> None:
    """What git leaves of a file on a full disk is not taken for the user's, also where the content is not what its object is."""
    made, paths, entries = move(repo, OLD, {**NEW, "x.txt": "one\ntwo\n"})
    required_filter(repo, "sed s/t/T/", "x.txt")
    made.begin(paths)
    assert made.make([]) == ""
    (repo / "x.txt").write_text("one\nTw")
    assert made.undo(entries) == []
    assert (repo / "x.txt").read_text() == "x\n"


def test_nothing_is_written_through_a_link(repo: Path) -> None:
    """A link that a person put in the place of a folder is left, and so is what it leads to."""
    outside = repo.parent / "outside"
    outside.mkdir()
    (outside / "er").write_text("outside\n")
    made, paths, entries = move(repo, OLD, {**OLD, "deep/er": "2\n"} | {"b.txt": "2\n"})
    made.begin(paths)
    assert made.make([]) == ""
    (repo / "deep" / "er").unlink()
    (repo / "deep").rmdir()
    (repo / "deep").symlink_to(outside)
    assert made.undo(entries) == ["deep/er"]
    assert (outside / "er").read_text() == "outside\n"


def test_a_folder_that_became_a_link_is_one_again(repo: Path) -> None:
    """What is behind the link is not looked at, and not written to."""
    outside = repo.parent / "outside"
    outside.mkdir()
    (outside / "er").write_text("er\n")
    old = {path: text for path, text in OLD.items() if path != "deep/er"}
    made, paths, entries = move(repo, OLD, {**old, "deep": f"->{outside}"})
    before = files(repo)
    made.begin(paths)
    assert made.make([]) == ""
    assert made.undo(entries) == []
    assert files(repo) == before
    assert (outside / "er").read_text() == "er\n"


def test_what_cannot_be_put_back_is_named_and_kept(repo: Path) -> None:
    """Where something lies in the way of a file it is named, and its copy stays."""
    made, paths, entries = move(repo, OLD, NEW)
    made.begin(paths)
    assert made.make([]) == ""
    (repo / "b.txt").mkdir()
    (repo / "b.txt" / "mine").write_text("mine\n")
    assert made.undo(entries) == ["b.txt"]
    assert [path.read_text() for path in made.aside.iterdir()] == ["b\n"]
    assert (repo / "b.txt" / "mine").read_text() == "mine\n"


def test_what_a_power_cut_left_empty_is_not_believed(repo: Path) -> None:
    """A copy that has lost its content is put in the place of nothing; a note that has lost its own is none."""
    made, paths, entries = move(repo, OLD, NEW)
    made.begin(paths)
    assert made.make([]) == ""
    (made.aside / str(paths.index("a.txt"))).write_text("")
    note = (made.aside / NOTE).read_text()
    (made.aside / NOTE).write_text("")
    assert Move.begun(made.aside) is None
    (made.aside / NOTE).write_text(note)
    assert made.undo(entries) == ["a.txt"]
    assert (repo / "a.txt").read_text() == "a\n2\n"
    assert (repo / "b.txt").read_text() == "b\n"


def test_a_copy_that_fails_begins_nothing(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for the copies nothing is moved, and nothing is left of them."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    made, paths, _ = move(repo, OLD, NEW)
    before = files(repo)
    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space"):
        made.begin(paths)
    assert files(repo) == before
    assert not made.aside.exists()

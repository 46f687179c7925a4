"""Listing a worktree against a real file system: nothing that comes to lie there is passed over, however little is read again."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from swarm.edge import listing
from swarm.edge.git import GitError, Objects
from swarm.edge.listing import Listing
from tests.conftest import git, wait_until

FOLDERS = ("", "a/", "a/b/", "c/")


@pytest.fixture
def top(repo: Path, tmp_path: Path) -> Path:
    """A checkout whose folders hold tracked files, written at least a tick of the clock ago."""
    for folder in FOLDERS:
        (repo / folder).mkdir(exist_ok=True)
        (repo / folder / "tracked").write_text("x")
    git(repo, "add", "-A")
    made_at, clock = (repo / "c").stat().st_ctime_ns, tmp_path / "clock"

    def has_ticked() -> bool:
        clock.touch()
        return clock.stat().st_ctime_ns > made_at

    wait_until(has_ticked)
    return repo


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has times be trusted at once: what is done here is further apart than a tick, or in another folder."""
    monkeypatch.setattr(listing, "SETTLED_NS", -(10**9))


@pytest.fixture
def objects(top: Path) -> Iterator[Objects]:
    """The objects of `top`."""
    opened = Objects(top / ".git")
    yield opened
    opened.close()


def tracked(top: Path) -> str:
    """Gives the tree of what is tracked in `top`."""
    return git(top, "write-tree")


def read_again(monkeypatch: pytest.MonkeyPatch, looks: Callable[[], object]) -> list[str]:
    """Gives the folders that are listed meanwhile."""
    seen: list[str] = []
    real = os.scandir

    def scandir(path: bytes) -> object:
        seen.append(os.fsdecode(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr("swarm.edge.listing.os.scandir", scandir)
        looks()
    return seen


def a_file(place: Path) -> None:
    (place / "new").write_text("x")


def a_folder(place: Path) -> None:
    (place / "new").mkdir()


def a_link(place: Path) -> None:
    (place / "new").symlink_to("tracked")


def a_pipe(place: Path) -> None:
    os.mkfifo(place / "new")


def a_repository(place: Path) -> None:
    (place / "tracked").unlink()
    (place / "tracked").mkdir()


def a_socket(place: Path) -> None:
    os.chdir(place)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("new")


def a_file_shut_away(place: Path) -> None:
    a_file(place)
    place.chmod(0o500)


def a_file_by_the_old_time(place: Path) -> None:
    before = place.stat()
    a_file(place)
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    "what",
    [a_file, a_folder, a_link, a_pipe, a_repository, a_socket, a_file_shut_away, a_file_by_the_old_time],
)
def test_whatever_comes_to_lie_there_is_found(
    top: Path, objects: Objects, folder: str, what: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a look that found nothing, whatever is put into a folder is found, and once it is gone no more."""
    monkeypatch.chdir(top)
    looks, names = Listing(), tracked(top)
    assert looks.besides(top, objects, names) == []
    what(top / folder)
    for _ in range(2):  # what was found is found again
        (found,) = looks.besides(top, objects, names)
        assert found in (f"{folder}new", f"{folder}tracked")


@pytest.mark.usefixtures("settled")
def test_what_stands_as_it_stood_is_not_read_again(
    top: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the folder in which something was done is listed again, and one with a submodule, whose own folder tells nothing."""
    looks, names = Listing(), tracked(top)
    looks.besides(top, objects, names)
    assert read_again(monkeypatch, lambda: looks.besides(top, objects, names)) == []
    a_file(top / "a")
    assert read_again(monkeypatch, lambda: looks.besides(top, objects, names)) == [f"{top}/a"]
    git(top, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},c/module")
    names = tracked(top)
    (top / "a" / "new").unlink()
    looks.besides(top, objects, names)
    for _ in range(2):
        assert read_again(monkeypatch, lambda: looks.besides(top, objects, names)) == [f"{top}/c"]


def test_what_was_just_done_is_not_trusted(
    top: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that changed a moment before it was listed is listed again: something in the same tick would not show."""
    looks, names = Listing(), tracked(top)
    all_of_them = read_again(monkeypatch, lambda: looks.besides(top, objects, names))
    assert read_again(monkeypatch, lambda: looks.besides(top, objects, names)) == all_of_them


@pytest.mark.usefixtures("settled")
def test_what_is_tracked_no_more_is_found(top: Path, objects: Objects) -> None:
    """A file that another base does not track is found where it lies, although its folder stands as it stood; so is what a base
    holds as something else, and nothing is found where the base that tracks it is back."""
    looks, before = Listing(), tracked(top)
    assert looks.besides(top, objects, before) == []
    git(top, "rm", "-q", "--cached", "a/b/tracked")
    assert looks.besides(top, objects, tracked(top)) == ["a/b"]
    git(top, "rm", "-q", "--cached", "c/tracked")
    git(top, "update-index", "--add", "--cacheinfo", f"100644,{git(top, 'hash-object', '-w', 'tracked')},c")
    assert sorted(looks.besides(top, objects, tracked(top))) == ["a/b", "c"]
    assert looks.besides(top, objects, before) == []


def test_a_base_that_is_not_there_is_an_error(top: Path, objects: Objects) -> None:
    """Where a folder's tree can't be read nothing is said of what lies in it."""
    for oid in ("1" * 40, git(top, "hash-object", "-w", "tracked")):
        with pytest.raises(GitError, match="no tree"):
            Listing().besides(top, objects, oid)


def test_a_file_system_that_keeps_no_times_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a folder's time does not tell of what is done in it, that is found out, and nothing is left of the try."""
    places = [tmp_path / name for name in ("one", "other")]
    for place in places:
        place.mkdir()
    assert listing.folders_tell(places[0])
    monkeypatch.setattr(listing, "_is_told", lambda folder, change: change() is not None)
    assert not listing.folders_tell(places[1])
    assert not any(list(place.iterdir()) for place in places)
    assert not listing.folders_tell(tmp_path / "gone")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("seed", range(5))
def test_it_finds_what_a_first_look_finds(top: Path, objects: Objects, seed: int) -> None:
    """Over many changes in any order, one that remembers finds exactly what one that remembers nothing finds."""
    chance, looks, names = random.Random(seed), Listing(), tracked(top)
    for step in range(300):
        folder = top / chance.choice(FOLDERS)
        if folder.is_dir():
            place = folder / chance.choice(["tracked", "new", "a", "b", "c"])
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            elif os.path.lexists(place):
                place.unlink()
            else:
                makers: list[Callable[[], None]] = [place.mkdir, place.touch, partial(place.symlink_to, "x")]
                chance.choice(makers)()
            os.utime(folder, ns=(step, step))  # as if a tick had passed
        if step % 3 == 0:
            assert sorted(looks.besides(top, objects, names)) == sorted(
                Listing().besides(top, objects, names)
            ), step

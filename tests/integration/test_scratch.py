"""Where candidates are verified, and what becomes of where they were."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from swarm.edge import linked, scratch
from swarm.edge.lockfile import exclusive
from swarm.edge.worktrees import Pool
from tests.conftest import git


@pytest.mark.parametrize(
    ("environ", "inside"),
    [
        ({"HOME": "{home}"}, "{home}/.cache/swarm/verify"),
        ({"HOME": "{home}", "XDG_CACHE_HOME": "relative"}, "{home}/.cache/swarm/verify"),
        ({"XDG_CACHE_HOME": "{home}/else"}, "{home}/else/swarm/verify"),
        ({"HOME": "{top}"}, "{top}/.worktrees"),
        ({"HOME": "{top}/a file"}, "{top}/.worktrees"),
        ({"HOME": "relative"}, "{top}/.worktrees"),
        ({}, "{top}/.worktrees"),
    ],
)
def test_the_cache_where_there_is_one(tmp_path: Path, environ: dict[str, str], inside: str) -> None:
    """In the user's cache, in a folder for each repository, unless there is none or the checkout is above it."""
    top, home = tmp_path / "top", tmp_path / "home"
    top.mkdir()
    (top / "a file").touch()
    named = {name: value.format(top=top, home=home) for name, value in environ.items()}
    found = [scratch.folder(top, top / ".worktrees", top / ".git" / name, named) for name in ("a", "b")]
    assert {each.parent for each in found} == {Path(inside.format(top=top, home=home))}
    assert (found[0] == found[1]) == (found[0].name == scratch.BESIDE)
    assert scratch.folder(top, tmp_path / "out", top / ".git/a", named) == tmp_path / "out" / scratch.BESIDE


def test_a_cache_that_can_not_be_written_to_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no right to write there works beside the other worktrees."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert (
        scratch.folder(tmp_path, tmp_path / "w", tmp_path / "s", {"HOME": "/"})
        == tmp_path / "w" / scratch.BESIDE
    )


def bench(landing: Path, state: Path, place: Path) -> Path:
    """Settles at a place, and gives a worktree there that somebody has."""
    with exclusive(state / "lock") as held:
        scratch.settle(place, landing, state, lock=held)
    pool = Pool(landing, place, lock=state / "lock", source=state.parent, user_config=False, saves=False)
    path = pool.take("verify/r/t/1", git(landing, "rev-parse", "HEAD"))
    pool.close()
    return path


def test_worktrees_are_in_one_place_only(repo: Path, tmp_path: Path) -> None:
    """Where the place changes, the pool that was elsewhere is gone, folder and record, and nothing else; that of a repository which
    is gone goes too, that of the one that this was copied from stays."""
    state = repo / ".git" / "swarm"
    state.mkdir()
    landing = state / "landing.git"
    git(repo, "clone", "-q", "--bare", ".", str(landing))
    old, new = tmp_path / "old", tmp_path / "cache" / "new"
    mine = tmp_path / "mine"
    mine.write_text("x")
    assert bench(landing, state, old).parent == old
    copied = tmp_path / "copied"
    shutil.copytree(repo, copied, symlinks=True)
    gone = tmp_path / "cache" / "gone"
    gone.mkdir(parents=True)
    (gone / "of").write_text(f"{tmp_path}/nothing\n")
    assert bench(landing, state, new).parent == new
    assert not old.exists()
    assert mine.exists()
    assert not gone.exists()
    assert [tree.path for tree in linked.records(landing)] == [new / "1"]
    its = copied / ".git" / "swarm"
    assert bench(its / "landing.git", its, tmp_path / "cache" / "its").parent.name == "its"
    assert (new / "1" / ".git").exists()
    assert [tree.path for tree in linked.records(its / "landing.git")] == [tmp_path / "cache" / "its" / "1"]

"""A git folder of its own: the worker's git works in it, the repository does not change, and what was made comes home."""

from __future__ import annotations

import errno
import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from swarm.edge import git, orphans, secluded
from swarm.edge.keeping import REFUSALS
from swarm.edge.saved import is_in_between, saved, staged_part
from swarm.edge.secluded import SHARED_OBJECTS
from swarm.edge.worktrees import Pool
from tests.conftest import git as sh
from tests.integration.conftest import open_pool
from tests.integration.test_worktrees import collect

KEY = "r/t/1"


@pytest.fixture
def base(repo: Path) -> str:
    """The commit that workers start from."""
    return sh(repo, "rev-parse", "HEAD")


class Inside:
    """A worktree whose worker has a git folder of its own, seen as it would be in a sandbox, without one: in the place of the
    repository's, or where the worktree says that it is."""

    def __init__(self, repo: Path, pool: Pool, base: str, *, in_place: bool) -> None:
        self.tree = pool.take(KEY, base)
        folder = pool.seclude(KEY, in_place=in_place)
        assert folder is not None
        self.folder = folder
        self.in_place = in_place
        # What a mount does in a sandbox.
        (folder / SHARED_OBJECTS).rmdir()
        (folder / SHARED_OBJECTS).symlink_to(repo / ".git" / "objects")
        (self.admin,) = (folder / "worktrees").iterdir()

    def git(self, *args: str, ok: bool = True) -> str:
        env = {
            "GIT_DIR": str(self.admin),
            "GIT_COMMON_DIR": str(self.folder),
            "GIT_WORK_TREE": str(self.tree),
        }
        done = subprocess.run(
            ["git", *args],
            cwd=self.tree,
            env={**os.environ, **(env if self.in_place else {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not ok, done.stderr
        return done.stdout.removesuffix("\n")

    def write(self, name: str, text: str) -> None:
        (self.tree / name).write_text(text)


@pytest.fixture(params=["in its place", "named"])
def inside(repo: Path, pool: Pool, base: str, request: pytest.FixtureRequest) -> Inside:
    """A worker's worktree with a git folder of its own."""
    return Inside(repo, pool, base, in_place=request.param == "in its place")


def all_of(repo: Path) -> tuple[str, str, set[Path]]:
    """Says what the repository holds: refs, the HEAD of every worktree, and its files besides the pool's own."""
    files = {path for path in (repo / ".git").rglob("*") if path.is_file()}
    heads = sh(repo, "worktree", "list", "--porcelain")
    return sh(repo, "for-each-ref"), heads, files


def test_git_works_and_the_repository_does_not_change(repo: Path, inside: Inside) -> None:
    """In a folder of its own a worker commits, branches, stashes, tags, configures and collects garbage; in the repository nothing
    changes by it, and every git there goes on working."""
    before = all_of(repo)
    inside.write("new", "1\n")
    inside.git("add", "new")
    inside.git("commit", "-qm", "mine")
    inside.git("switch", "-qc", "feature")
    inside.write("new", "2\n")
    inside.git("stash")
    inside.git("tag", "mark")
    inside.git("config", "alias.x", "!true")
    inside.git("gc", "-q", "--prune=now")
    assert "first" in inside.git("log", "--all", "--format=%s")
    assert all_of(repo) == before
    assert "mine" not in sh(repo, "log", "--all", "--format=%s")
    sh(repo, "fsck", "--strict")


@pytest.mark.parametrize("in_place", [True, False], ids=["in its place", "named"])
def test_git_works_below_a_path_of_several_lines(tmp_path: Path, in_place: bool) -> None:
    """There may be line ends in the path of the repository: the worker's git finds the objects that it shares, and what it made
    comes home."""
    repo = tmp_path / 'two\nlines "and" \\more'
    repo.mkdir()
    sh(repo, "init", "-q", "-b", "main")
    sh(repo, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "first")
    base = sh(repo, "rev-parse", "HEAD")
    pool = open_pool(repo)
    inside = Inside(repo, pool, base, in_place=in_place)
    assert inside.git("log", "--format=%s") == "first"
    inside.write("new", "1\n")
    inside.git("add", "new")
    inside.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "mine")
    assert collect(pool, inside.tree, base).touched == ("new",)
    pool.close()


def test_what_was_made_comes_home(repo: Path, pool: Pool, inside: Inside, base: str) -> None:
    """Commits on a branch, staged and loose files are collected as from a shared repository; what only another branch or a stash
    names is kept under a recovery ref; nothing is left of the folder, and collecting again gives the same."""
    inside.write("stashed", "s\n")
    inside.git("add", "stashed")
    inside.git("stash")
    inside.git("switch", "-qc", "other")
    inside.git("commit", "-q", "--allow-empty", "-m", "aside")
    aside = inside.git("rev-parse", "HEAD")
    inside.git("switch", "-q", "-c", "feature", base)
    inside.write("new", "1\n")
    inside.git("add", "new")
    inside.git("commit", "-qm", "mine")
    inside.write("loose", "l\n")
    found = collect(pool, inside.tree, base)
    assert (found.touched, found.problem, found.commits) == (("loose", "new"), "", 2)
    assert "mine" in sh(repo, "log", "--format=%s", found.head)
    assert found.besides == "swarm/r/saved/t/1-1"
    kept = sh(repo, "log", "--format=%s", "refs/heads/swarm/r/saved/t/1-1")
    assert "aside" in kept
    assert aside in sh(repo, "rev-list", "refs/heads/swarm/r/saved/t/1-1")
    assert "stashed" in sh(repo, "log", "--name-only", "--format=", "-m", "refs/heads/swarm/r/saved/t/1-1")
    assert not inside.folder.exists()
    assert sh(inside.tree, "rev-parse", "--path-format=absolute", "--git-common-dir") == str(repo / ".git")
    assert collect(pool, inside.tree, base) == found
    sh(repo, "fsck", "--strict")


def test_what_was_only_staged_is_not_told_as_left_elsewhere(pool: Pool, inside: Inside, base: str) -> None:
    """An earlier state of a file that was staged and then edited on is kept, as work is, and where; nobody has to be told of each.
    Once the task has landed it holds nothing that has not; a ref with a stash in it does, and one of other files."""
    inside.write("new", "1\n")
    inside.git("add", "new")
    inside.write("new", "2\n")
    found = collect(pool, inside.tree, base)
    assert (found.touched, found.besides, found.staged) == (("new",), "", "swarm/r/saved/t/1-1")
    assert collect(pool, inside.tree, base) == found
    (kept,) = saved(pool.common)
    assert is_in_between(pool.objects, kept.commit, found.head)
    assert not is_in_between(pool.objects, kept.commit, base)
    facts = pool.objects.commit(kept.commit)
    staged, who = staged_part(facts), (facts.author, facts.committer)
    for parents in ((base,), (base, staged, base), (found.head, staged), (staged, staged)):
        other = git.write_commit(pool.common, facts.tree, parents, facts.message, *who)
        assert is_in_between(pool.objects, other, found.head) == (parents == (found.head, staged))
    later = git.write_commit(pool.common, pool.objects.tree_of(base), facts.parents, facts.message, *who)
    assert not is_in_between(pool.objects, later, found.head)


@pytest.mark.parametrize("lost", [False, True])
def test_a_split_index_comes_home(repo: Path, pool: Pool, inside: Inside, base: str, *, lost: bool) -> None:
    """What was staged or committed where git keeps most of an index in another file (`core.splitIndex`) is collected, a file that
    only the index knows among it; where that other file is gone or is a link, all that lies in the worktree is."""
    sh(repo, "config", "core.splitIndex", "true")
    inside.git("config", "core.splitIndex", "true")
    inside.git("rm", "-q", "README.md")
    inside.write("new", "1\n")
    inside.git("add", "new")
    inside.git("commit", "-qm", "mine")
    inside.write("staged.log", "l\n")
    (inside.folder / "info" / "exclude").write_text("*.log\n")
    (repo / ".git" / "info" / "exclude").write_text("*.log\n")
    inside.git("add", "-f", "staged.log")
    shared = list(inside.admin.glob("sharedindex.*"))
    assert shared
    for path in shared if lost else ():
        path.unlink()
        path.symlink_to("/etc/hostname")
    found = collect(pool, inside.tree, base)
    kept = () if lost else ("staged.log",)
    assert (found.touched, found.problem) == (("README.md", "new", *kept), "")
    assert collect(pool, inside.tree, base) == found


def test_coming_home_may_be_killed(
    repo: Path, pool: Pool, inside: Inside, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before or after the folder was put away, coming home is done again and gives the same."""
    inside.git("switch", "-qc", "feature")
    inside.write("new", "1\n")
    inside.git("add", "new")
    inside.git("commit", "-qm", "mine")
    real = os.rename

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("swarm.edge.secluded.os.rename", killed)
    with pytest.raises(KeyboardInterrupt):
        collect(pool, inside.tree, base)
    monkeypatch.setattr("swarm.edge.secluded.os.rename", real)
    monkeypatch.setattr(secluded, "remove", lambda path: None)
    once = collect(pool, inside.tree, base)
    monkeypatch.undo()
    again = collect(pool, inside.tree, base)
    assert once == again
    assert once.commits == 1


def test_nothing_planted_is_followed_or_run(
    repo: Path, pool: Pool, inside: Inside, base: str, tmp_path: Path
) -> None:
    """Pipes, links out, paths that climb, settings, hooks and alternates in the folder have no effect: nothing hangs, runs or is
    read, and the files are collected."""
    ran = tmp_path / "ran"
    inside.write("new", "1\n")
    inside.git("config", "core.fsmonitor", f"touch {ran}; false")
    inside.git("config", "core.sshCommand", f"touch {ran}")
    (inside.folder / "hooks").mkdir(exist_ok=True)
    for name in ("post-index-change", "reference-transaction", "post-checkout"):
        hook = inside.folder / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
        hook.chmod(0o755)
    (inside.folder / "objects" / "info" / "alternates").write_text("/nowhere\n")
    (inside.admin / "index").unlink()
    os.mkfifo(inside.admin / "index")
    (inside.admin / "HEAD").write_text("ref: refs/heads/../../../../../etc/passwd\n")
    os.mkfifo(inside.folder / "refs" / "heads" / "pipe")
    (inside.folder / "packed-refs").unlink(missing_ok=True)
    (inside.folder / "packed-refs").symlink_to("/dev/zero")
    (inside.admin / "MERGE_HEAD").symlink_to("/etc/passwd")
    found = collect(pool, inside.tree, base)
    assert (found.touched, found.problem) == (("new",), "")
    assert not ran.exists()


def test_broken_objects_are_refused_and_kept(repo: Path, pool: Pool, inside: Inside, base: str) -> None:
    """Where git fails at what the worker made, again and again, none of that comes in; what it did with git is kept aside and told,
    and its files are collected."""
    inside.write("new", "1\n")
    inside.git("add", "new")
    inside.git("commit", "-qm", "mine")
    commit = inside.git("rev-parse", "HEAD")
    tree = inside.git("rev-parse", "HEAD^{tree}")
    path = inside.folder / "objects" / tree[:2] / tree[2:]
    path.unlink()
    for _ in range(REFUSALS - 1):
        with pytest.raises(git.GitError):
            collect(pool, inside.tree, base)
    found = collect(pool, inside.tree, base)
    assert found.touched == ("new",)
    assert "can't be taken over" in found.problem
    assert collect(pool, inside.tree, base) == found
    assert sh(repo, "cat-file", "-e", commit, check=False) == ""
    assert not inside.folder.exists()
    lie = (repo / ".worktrees" / "pool" / ".kept").iterdir()
    (kept,) = [place for place in lie if place.is_dir() and place.name != ".git"]
    assert (kept / "refs").is_dir()
    sh(repo, "fsck", "--strict")


def test_what_the_machine_lacks_says_nothing_of_what_was_done(
    pool: Pool, inside: Inside, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no process can be made, collecting fails and takes nothing aside; afterwards the worker's commits are all there."""
    inside.write("new", "1\n")
    inside.git("add", "new")
    inside.git("commit", "-qm", "mine")

    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("swarm.edge.git.call.subprocess.Popen", refused)
    with pytest.raises(git.GitError, match="could not be started"):
        collect(pool, inside.tree, base)
    monkeypatch.undo()
    found = collect(pool, inside.tree, base)
    assert (found.commits, found.problem) == (1, "")


def test_what_a_killed_worker_did_is_saved(repo: Path, pool: Pool, inside: Inside) -> None:
    """A worktree that is given back uncollected has its commits saved first, also where they changed no file."""
    inside.git("commit", "-q", "--allow-empty", "-m", "paid for")
    branch = pool.give_back(KEY)
    assert branch == "swarm/r/saved/t/1-1"
    assert "paid for" in sh(repo, "log", "--format=%s", branch)
    assert not inside.folder.exists()


def test_a_folder_without_rights_comes_home(repo: Path, pool: Pool, inside: Inside, base: str) -> None:
    """A git folder whose rights the worker took away from itself is opened: what was committed in it is collected."""
    inside.write("k", "precious")
    inside.git("add", "k")
    inside.git("commit", "-qm", "mine")
    for folder, _, names in os.walk(inside.folder, topdown=False):
        for path in (*(os.path.join(folder, name) for name in names), folder):
            if not os.path.islink(path):
                os.chmod(path, 0)
    assert collect(pool, inside.tree, base).commits == 1


def test_a_worktree_at_work_is_of_this_repository(repo: Path, inside: Inside, tmp_path: Path) -> None:
    """Whatever its worktree names as its git folder, a worker's record is this repository's and nobody's to remove; in a copy
    of the repository the record is of another one."""
    admin = repo / ".git" / "worktrees" / inside.admin.name
    shutil.copytree(repo / ".git", tmp_path / "copy.git", symlinks=True)
    for text in ((inside.tree / ".git").read_text(), f"gitdir: {tmp_path}/copy.git/worktrees/{admin.name}\n"):
        (inside.tree / ".git").write_text(text)
        mine, of_others = orphans.divided(repo / ".git")
        assert ([tree.admin for tree in mine], of_others) == ([admin], [])
        assert orphans.find(repo / ".git", (), before=math.inf) == []
        mine, of_others = orphans.divided(tmp_path / "copy.git")
        assert (mine, [tree.path for tree in of_others]) == ([], [inside.tree])

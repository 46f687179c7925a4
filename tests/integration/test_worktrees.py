"""The pool of worktrees against real git: nothing leaks from one attempt to the next, and nothing is lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.edge import git
from swarm.edge.furnish import WorktreeSetupFailed
from swarm.edge.leftovers import Collected
from swarm.edge.worktrees import Pool
from swarm.errors import SwarmError, UsageError

ADA = ("Ada", "ada@example.org")


def sh(cwd: Path, *args: str, ok: bool = True) -> str:
    """Runs git as a worker would."""
    done = subprocess.run(["git", *args], cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0 or not ok, done.stderr
    return done.stdout.removesuffix("\n")


def open_pool(repo: Path, **settings: object) -> Pool:
    """Opens the pool of a repository where the daemon would."""
    root = settings.pop("root", repo / ".worktrees" / "pool")
    lock = repo / ".git" / "swarm" / "locks" / "worktrees.lock"
    return Pool(git.Repository.discover(repo), root, lock=lock, **settings)  # type: ignore[arg-type]


@pytest.fixture
def pool(repo: Path) -> Iterator[Pool]:
    """The pool of `repo`."""
    opened = open_pool(repo)
    yield opened
    opened.close()


@pytest.fixture
def base(repo: Path) -> str:
    """The first commit, with a .gitignore and a few more files."""
    (repo / ".gitignore").write_text("*.log\nnode_modules/\n.env\n")
    (repo / "src" / "tool.sh").write_text("#!/bin/sh\n")
    (repo / "src" / "tool.sh").chmod(0o755)
    sh(repo, "add", "-A")
    sh(repo, "commit", "-qm", "more")
    return sh(repo, "rev-parse", "HEAD")


def commit_on(repo: Path, path: str, text: str) -> str:
    """Makes a commit on main and gives its id."""
    (repo / path).parent.mkdir(parents=True, exist_ok=True)
    (repo / path).write_text(text)
    sh(repo, "add", "-A")
    sh(repo, "commit", "-qm", path)
    return sh(repo, "rev-parse", "HEAD")


def listing(top: Path) -> dict[str, str]:
    """Lists everything below a folder but the top `.git`: kind, mode for files, content or target."""
    found = {}
    for folder, names, files in os.walk(top):
        for name in [*names, *files]:
            path = Path(folder) / name
            relative = str(path.relative_to(top))
            if relative == ".git" or relative.startswith(".git/"):
                continue
            if path.is_symlink():
                found[relative] = f"link {os.readlink(path)}"
            elif path.is_dir():
                found[relative] = "folder"
            elif path.is_file():
                found[relative] = f"{path.stat().st_mode & 0o111:o} {path.read_bytes()!r}"
            else:
                found[relative] = "special"
    return found


def pristine(repo: Path, commit: str, tmp_path: Path) -> dict[str, str]:
    """Lists what a fresh clone holds at a commit."""
    clone = tmp_path / f"clone-{commit[:8]}"
    if not clone.exists():
        sh(tmp_path, "clone", "-q", "--no-checkout", str(repo), str(clone))
        sh(clone, "checkout", "-q", "--detach", commit)
    return listing(clone)


def collect(pool: Pool, path: Path, base: str) -> Collected:
    """Collects as the daemon does."""
    return pool.collect(path, base, message="work\n", identity=ADA, at=1_700_000_000.0)


def snapshot(repo: Path) -> dict[str, str]:
    """Hashes everything of the user's: checkout, index, HEAD, refs, config, hooks, stash."""
    found = {}
    for path in sorted(repo.rglob("*")):
        parts = path.relative_to(repo).parts
        if parts[0] == ".worktrees" or parts[:2] in {
            (".git", "swarm"),
            (".git", "worktrees"),
            (".git", "objects"),
        }:
            continue
        if path.is_file() and not path.is_symlink():
            found["/".join(parts)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found["/".join(parts)] = os.readlink(path) if path.is_symlink() else "folder"
    return found


# --- take and give back ----------------------------------------------------------------------------------------------


def test_a_worktree_stands_detached_and_clean_at_its_base(
    repo: Path, pool: Pool, base: str, tmp_path: Path
) -> None:
    """A taken worktree holds exactly the base, is detached there, and git sees nothing to commit."""
    path = pool.take("run/t/1", base)
    assert listing(path) == pristine(repo, base, tmp_path)
    assert sh(path, "rev-parse", "HEAD") == base
    assert sh(path, "symbolic-ref", "-q", "HEAD", ok=False) == ""
    assert sh(path, "status", "--porcelain", "--ignored") == ""


def test_two_keys_get_two_worktrees_and_one_key_the_same_again(pool: Pool, base: str) -> None:
    """A key keeps its worktree when it asks again; another key never gets that one."""
    first, second = pool.take("r/a/1", base), pool.take("r/b/1", base)
    assert first != second
    (first / "half-made").write_text("by a killed daemon")
    assert pool.take("r/a/1", base) == first
    assert not (first / "half-made").exists()


def test_a_worktree_given_back_is_used_again(repo: Path, pool: Pool, base: str, tmp_path: Path) -> None:
    """The next key gets the member that came back, at its own base, and giving back twice is no error."""
    first = pool.take("r/a/1", base)
    pool.give_back("r/a/1")
    pool.give_back("r/a/1")
    newer = commit_on(repo, "src/new.py", "n = 1\n")
    assert pool.take("r/b/1", newer) == first
    assert listing(first) == pristine(repo, newer, tmp_path)
    assert [entry.key for entry in pool.members()] == ["r/b/1"]


def test_the_lease_survives_the_daemon(repo: Path, pool: Pool, base: str) -> None:
    """Another pool opened on the same folder knows who has which worktree and what is free."""
    taken, free = pool.take("r/a/1", base), pool.take("r/b/1", base)
    pool.give_back("r/b/1")
    later = open_pool(repo)
    assert {entry.path: entry.key for entry in later.members()} == {taken: "r/a/1", free: ""}
    assert later.take("r/c/1", base) == free
    assert later.take("r/a/1", base) == taken
    later.close()


def _ignored(path: Path, _repo: Path) -> None:
    (path / "debug.log").write_text("x")
    (path / "node_modules" / "deep").mkdir(parents=True)
    (path / "node_modules" / "deep" / "x.js").write_text("x")


def _untracked(path: Path, _repo: Path) -> None:
    (path / "new folder" / "é").mkdir(parents=True)
    (path / "new folder" / "é" / "ü.txt").write_text("x")
    (path / "empty").mkdir()


def _edited(path: Path, _repo: Path) -> None:
    (path / "src" / "a.py").write_text("changed\n")
    (path / "src" / "b.py").unlink()
    (path / "src" / "tool.sh").chmod(0o644)


def _staged(path: Path, _repo: Path) -> None:
    (path / "src" / "b.py").write_text("staged\n")
    (path / "debug.log").write_text("forced in")
    sh(path, "add", "-f", "debug.log", "src/b.py")


def _nested_repository(path: Path, _repo: Path) -> None:
    for folder in (path / "inner", path / "node_modules" / "dep"):
        folder.mkdir(parents=True)
        sh(folder, "init", "-q")
        (folder / "x").write_text("x")


def _git_in_tracked_folder(path: Path, _repo: Path) -> None:
    sh(path / "src", "init", "-q")


def _file_to_folder(path: Path, _repo: Path) -> None:
    (path / "README.md").unlink()
    (path / "README.md").mkdir()
    (path / "README.md" / "x").write_text("x")
    shutil.rmtree(path / "src")
    (path / "src").symlink_to("/tmp")


def _unfinished_merge(path: Path, repo: Path) -> None:
    (path / "src" / "b.py").write_text("mine\n")
    sh(path, "commit", "-qam", "mine")
    other = sh(repo, "rev-parse", "HEAD~1")
    sh(path, "checkout", "-q", "-b", "side", other)
    (path / "src" / "b.py").write_text("theirs\n")
    sh(path, "commit", "-qam", "theirs")
    sh(path, "merge", "HEAD@{2}", ok=False)
    assert sh(path, "ls-files", "-u") != ""


def _unfinished_rebase_and_bisect(path: Path, repo: Path) -> None:
    sh(path, "bisect", "start")
    sh(path, "-c", "sequence.editor=sed -i 1i\\\nbreak", "rebase", "-i", "HEAD~1", ok=False)


def _hiding_flags(path: Path, _repo: Path) -> None:
    sh(path, "update-index", "--assume-unchanged", "src/a.py")
    sh(path, "update-index", "--skip-worktree", "src/b.py")
    (path / "src" / "a.py").write_text("hidden\n")
    (path / "src" / "b.py").write_text("hidden\n")


def _sparse(path: Path, _repo: Path) -> None:
    sh(path, "sparse-checkout", "set", "--no-cone", "/README.md")
    assert not (path / "src").exists()


def _index_lock(path: Path, _repo: Path) -> None:
    admin = Path(sh(path, "rev-parse", "--absolute-git-dir"))
    (admin / "index.lock").write_text("")
    (admin / "HEAD.lock").write_text("")


def _broken_index(path: Path, _repo: Path) -> None:
    Path(sh(path, "rev-parse", "--absolute-git-dir"), "index").write_bytes(b"junk")


def _broken_head(path: Path, _repo: Path) -> None:
    Path(sh(path, "rev-parse", "--absolute-git-dir"), "HEAD").write_text("ref: refs/heads/gone\n")


def _own_git_folder(path: Path, _repo: Path) -> None:
    (path / ".git").unlink()
    sh(path, "init", "-q")


def _special_files(path: Path, _repo: Path) -> None:
    os.mkfifo(path / "src" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path)
        listener.bind("socket")


def _read_only(path: Path, _repo: Path) -> None:
    (path / "locked" / "in").mkdir(parents=True)
    (path / "locked" / "in" / "x").write_text("x")
    (path / "locked" / "in").chmod(0o500)
    (path / "src" / "extra").write_text("x")
    (path / "src").chmod(0o500)


def _unreadable(path: Path, _repo: Path) -> None:
    (path / "secret").mkdir()
    (path / "secret" / "x").write_text("x")
    (path / "secret").chmod(0)
    (path / "src").chmod(0)


def _record_gone(path: Path, _repo: Path) -> None:
    shutil.rmtree(sh(path, "rev-parse", "--absolute-git-dir"))


def _folder_gone(path: Path, _repo: Path) -> None:
    shutil.rmtree(path)


def _own_settings(path: Path, repo: Path) -> None:
    sh(repo, "config", "extensions.worktreeConfig", "true")
    sh(path, "config", "--worktree", "core.hooksPath", "/somewhere")


def _same_size_same_second(path: Path, _repo: Path) -> None:
    times = (path / "src" / "b.py").stat()
    (path / "src" / "b.py").write_text("b = 2\n")
    os.utime(path / "src" / "b.py", ns=(times.st_atime_ns, times.st_mtime_ns))


MESSES = [
    _ignored,
    _untracked,
    _edited,
    _staged,
    _nested_repository,
    _git_in_tracked_folder,
    _file_to_folder,
    _unfinished_merge,
    _unfinished_rebase_and_bisect,
    _hiding_flags,
    _sparse,
    _index_lock,
    _broken_index,
    _broken_head,
    _own_git_folder,
    _special_files,
    _read_only,
    _unreadable,
    _record_gone,
    _folder_gone,
    _own_settings,
    _same_size_same_second,
]


@pytest.mark.parametrize("mess", MESSES, ids=lambda mess: mess.__name__.strip("_"))
@pytest.mark.parametrize("moved", [False, True], ids=["same-base", "newer-base"])
def test_nothing_of_one_attempt_reaches_the_next(
    repo: Path,
    pool: Pool,
    base: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mess: object,
    moved: bool,
) -> None:
    """Whatever a worker left in a worktree, the next key gets exactly its base and a git that knows nothing else."""
    assert callable(mess)
    monkeypatch.chdir(tmp_path)
    for name in ("user.name", "user.email"):
        sh(repo, "config", name, "ada@example.org")
    path = pool.take("r/a/1", base)
    mess(path, repo)
    pool.give_back("r/a/1")
    target = commit_on(repo, "src/b.py", "b = 3\n") if moved else base
    again = pool.take("r/b/1", target)
    assert listing(again) == pristine(repo, target, tmp_path)
    assert sh(again, "status", "--porcelain", "--ignored") == ""
    assert sh(again, "rev-parse", "HEAD") == target
    assert sh(again, "rev-parse", "--show-toplevel") == str(again)
    assert "H " in sh(again, "ls-files", "-v")
    assert not [line for line in sh(again, "ls-files", "-v").splitlines() if not line.startswith("H ")]
    admin = Path(sh(again, "rev-parse", "--absolute-git-dir"))
    assert {p.name for p in admin.iterdir()} <= {
        "HEAD",
        "index",
        "gitdir",
        "commondir",
        "swarm",
        "logs",
        "ORIG_HEAD",
    }
    assert [entry.path for entry in pool.members()] == [again]

"""The pool of worktrees against real git: nothing leaks from one attempt to the next, and nothing is lost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from swarm.core.model import Cleaned
from swarm.edge import foresight, git, leases, linked
from swarm.edge.follower import Follower
from swarm.edge.furnish import Bounds, WorktreeSetupFailed
from swarm.edge.leftovers import Collected
from swarm.edge.linked import remove
from swarm.edge.upkeep import Upkeep
from swarm.edge.worktrees import Pool, WorktreeFailed
from swarm.errors import SwarmError, UsageError
from tests.adversity import layered
from tests.conftest import git as sh
from tests.conftest import wait_for_session
from tests.integration.conftest import open_pool

ADA = ("Ada", "ada@example.org")


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
    key = next((entry.key for entry in pool.members() if entry.path == path), "r/a/1")
    found = pool.collect(path, base, key=key, message="work\n", identity=ADA, at=1_700_000_000.0)
    return dataclasses.replace(found, work=None)


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


# --- take and give back -------------------------------------------------------------------------------------


def test_a_worktree_stands_detached_and_clean_at_its_base(
    repo: Path, pool: Pool, base: str, tmp_path: Path
) -> None:
    """A taken worktree holds exactly the base, is detached there, and git sees nothing to commit."""
    path = pool.take("run/t/1", base)
    assert listing(path) == pristine(repo, base, tmp_path)
    assert sh(path, "rev-parse", "HEAD") == base
    assert sh(path, "symbolic-ref", "-q", "HEAD", check=False) == ""
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
    (taken / "junk").write_text("of a worker that never came to be")
    later = open_pool(repo)
    assert {entry.path: entry.key for entry in later.members()} == {taken: "r/a/1", free: ""}
    assert later.take("r/c/1", base) == free
    assert later.take("r/a/1", base) == taken
    assert not (taken / "junk").exists()
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
    sh(path, "merge", "HEAD@{2}", check=False)
    assert sh(path, "ls-files", "-u") != ""


def _unfinished_rebase_and_bisect(path: Path, repo: Path) -> None:
    sh(path, "bisect", "start")
    sh(path, "-c", "sequence.editor=sed -i 1i\\\nbreak", "rebase", "-i", "HEAD~1", check=False)


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


def test_a_folder_where_the_next_base_has_nothing_goes(
    repo: Path, pool: Pool, base: str, tmp_path: Path
) -> None:
    """A file that the worker made a folder of, and that the next base no longer has, leaves nothing
    behind."""
    path = pool.take("r/a/1", base)
    _file_to_folder(path, repo)
    pool.give_back("r/a/1")
    (repo / "README.md").unlink()
    newer = commit_on(repo, "new", "n")
    assert listing(pool.take("r/b/1", newer)) == pristine(repo, newer, tmp_path)


def test_files_get_the_form_that_new_attributes_ask_for(
    repo: Path, pool: Pool, base: str, tmp_path: Path
) -> None:
    """When a base brings other line endings for files it does not change, a reused worktree has them too."""
    pool.take("r/a/1", base)
    pool.give_back("r/a/1")
    newer = commit_on(repo, ".gitattributes", "*.py text eol=crlf\n")
    path = pool.take("r/b/1", newer)
    assert (path / "src" / "b.py").read_bytes() == b"b = 1\r\n"
    assert listing(path) == pristine(repo, newer, tmp_path)
    assert sh(path, "status", "--porcelain") == ""


@pytest.mark.parametrize("mess", MESSES, ids=lambda mess: mess.__name__.strip("_"))
@pytest.mark.parametrize("moved", [False, True], ids=["same-base", "newer-base"])
@pytest.mark.parametrize("collected", [False, True], ids=["not-collected", "collected"])
def test_nothing_of_one_attempt_reaches_the_next(
    repo: Path,
    pool: Pool,
    base: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mess: object,
    moved: bool,
    collected: bool,
) -> None:
    """Whatever a worker left in a worktree, the next key gets exactly its base and a git that knows nothing
    else, also where the work was collected, so that only what is not as in the base is taken back."""
    assert callable(mess)
    monkeypatch.chdir(tmp_path)
    for name in ("user.name", "user.email"):
        sh(repo, "config", name, "ada@example.org")
    path = pool.take("r/a/1", base)
    mess(path, repo)
    if collected:
        collect(pool, path, base)
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


def test_a_file_in_another_form_is_written_anew(repo: Path, pool: Pool, base: str, tmp_path: Path) -> None:
    """A file with other line ends than its attributes ask for is no change to git, and still is not what the next key gets."""
    newer = commit_on(repo, ".gitattributes", "*.py text eol=crlf\n")
    path = pool.take("r/a/1", newer)
    (path / "src" / "b.py").write_bytes(b"b = 1\n")
    (path / "work").write_text("x")
    assert collect(pool, path, newer).touched == ("work",)
    assert pool.give_back("r/a/1") is None
    assert listing(pool.take("r/b/1", newer)) == pristine(repo, newer, tmp_path)


@pytest.mark.parametrize("new", [True, False], ids=["new", "used"])
def test_what_a_checkout_shows_as_changed_is_nobodys_work(repo: Path, pool: Pool, new: bool) -> None:
    """A file with line ends that its attributes would make others is as it was checked out, whatever git says of it: it is no work
    of who has the worktree, beside other work as little as alone, however often that is collected, and nothing to be saved.
    What a worker wrote to it, staged or committed of it is its work."""
    (repo / "old.txt").write_bytes(b"a\r\nb\r\n")
    (repo / "older.txt").write_bytes(b"c\r\n")
    sh(repo, "add", "-A")
    sh(repo, "commit", "-qm", "raw")
    (repo / ".gitattributes").write_text("*.txt text\n")
    sh(repo, "add", ".gitattributes")
    sh(repo, "commit", "-qm", "text")
    newer = sh(repo, "rev-parse", "HEAD")

    def attempt(key: str, work: str) -> Collected:
        path = pool.take(key, newer)
        os.utime(path / "old.txt")  # so that git looks at it, also where its index is younger than the file
        os.utime(path / "older.txt")
        sh(path, "status")
        subprocess.run(work, shell=True, cwd=path, check=True)
        found = collect(pool, path, newer)
        assert collect(pool, path, newer) == found
        assert pool.give_back(key) is None
        return found

    if not new:
        attempt("r/z/1", "true")
    assert attempt("r/a/1", "true") == Collected(newer, 0, ())
    assert attempt("r/b/1", "echo x > work").touched == ("work",)
    assert attempt("r/c/1", "echo x > own; git add own; git commit -qm own -- own").touched == ("own",)
    written = attempt("r/d/1", "printf 'a\\r\\nB\\r\\n' > old.txt")
    assert written.touched == ("old.txt",)
    assert sh(repo, "show", f"{written.head}:old.txt") == "a\nB"
    assert attempt("r/e/1", "git add --renormalize old.txt").touched == ("old.txt",)
    assert attempt("r/f/1", "git add -u; git commit -qm all").touched == ("old.txt", "older.txt")
    assert attempt("r/g/1", "chmod +x old.txt").touched == ("old.txt",)


@pytest.mark.parametrize("committed", [False, True])
def test_what_git_was_told_and_no_file_shows_is_work(
    repo: Path, pool: Pool, base: str, committed: bool
) -> None:
    """A file made executable in the index alone, and an ignored one that is tracked no more but lies there, staged or committed,
    are work as the worker has it in git, beside other work too; unless the file shows another thing."""
    (repo / "run.sh").write_text("#!/bin/sh\n")
    (repo / "old").write_text("old\n")
    newer = commit_on(repo, "kept", "kept\n")
    sh(repo, "reset", "-q", "--hard", newer)

    def attempt(key: str, told: str, after: str = "true") -> tuple[tuple[str, ...], str]:
        path = pool.take(key, newer)
        commit = "git commit -qm told" if committed else "true"
        subprocess.run(f"set -e; {told}; {commit}; {after}", shell=True, cwd=path, check=True)
        found = collect(pool, path, newer)
        assert collect(pool, path, newer) == found
        assert pool.give_back(key) is None
        return found.touched, sh(repo, "ls-tree", "-r", found.head)

    executable = "git update-index --chmod=+x run.sh"
    no_more = "git rm -q --cached old; echo old >> .gitignore; git add .gitignore"
    for number, (after, more) in enumerate((("true", ()), ("echo x > other", ("other",)))):
        touched, tree = attempt(f"r/a/{number}", f"{executable}; {no_more}", after)
        assert touched == (".gitignore", "old", *more, "run.sh")
        assert "100755 blob" in next(line for line in tree.splitlines() if line.endswith("run.sh"))
    for number, after in enumerate(("echo new > old", "chmod +x old", "rm old; ln -s run.sh old")):
        assert attempt(f"r/c/{number}", no_more, after)[0] == (".gitignore", "old")
    for number, told in enumerate((executable, "echo x > new.sh; git add --chmod=+x new.sh")):
        for after in ("true", f"echo new > {told.split()[-1]}"):
            touched, tree = attempt(f"r/b/{number}", told, after)
            assert touched == (told.split()[-1],)
            assert "100755 blob" in next(line for line in tree.splitlines() if line.endswith(touched[0]))
    touched, tree = attempt("r/b/4", "echo x > new.sh; git add new.sh", "chmod +x new.sh")
    assert "100755 blob" in next(line for line in tree.splitlines() if line.endswith("new.sh"))
    assert attempt("r/b/3", "echo staged > old; git add old", "echo old > old")[0] == ()


TAKEN_OUT = {
    "rm --cached": "git rm -q --cached old",
    "rm": "git rm -q old; echo old > old",
    "mv": "git mv old older; cp older old",
    "mv into another folder": "mkdir -p in; git mv old in/old; cp in/old old",
    "emptied": "git read-tree --empty",
    "an older index": "git restore --staged --source=HEAD~1 .",
    "not ignored after all": "git rm -q --cached old; printf 'o*\\n!old\\n' > .gitignore",
}


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("how", TAKEN_OUT)
def test_a_file_that_git_was_told_to_drop_and_that_lies_there_is_work(
    repo: Path, pool: Pool, base: str, how: str, committed: bool
) -> None:
    """A file that lies there and that git does not ignore is kept as it lies, whatever the index or the worker's own last commit
    says: as it was, with other content, with another mode, as a link. What was staged of it stands on a branch."""
    newer = commit_on(repo, "old", "old\n")

    def attempt(number: int, after: str) -> tuple[Collected, dict[str, tuple[str, str]]]:
        path = pool.take(f"r/a/{number}", newer)
        commit = (
            "git commit -q --allow-empty -m told; test -z $(git ls-tree HEAD old)" if committed else "true"
        )
        subprocess.run(f"set -e; {TAKEN_OUT[how]}; {commit}; {after}", shell=True, cwd=path, check=True)
        found = collect(pool, path, newer)
        assert collect(pool, path, newer) == found
        assert found.problem == ""
        assert bool(found.staged) == (not committed)
        assert pool.give_back(f"r/a/{number}") is None
        listed = (line.split(maxsplit=3) for line in sh(repo, "ls-tree", "-r", found.head).splitlines())
        return found, {name: (mode, oid) for mode, _, oid, name in listed}

    was = sh(repo, "rev-parse", f"{newer}:old")
    assert attempt(1, "true")[1]["old"] == ("100644", was)
    assert attempt(2, "echo x > other")[1]["old"] == ("100644", was)
    assert attempt(3, "chmod +x old")[1]["old"] == ("100755", was)
    found, tree = attempt(4, "echo new > old")
    assert "old" in found.touched
    assert sh(repo, "cat-file", "blob", tree["old"][1]) == "new"
    assert attempt(5, "rm old; ln -s README.md old")[1]["old"][0] == "120000"


@pytest.mark.parametrize("committed", [False, True])
def test_a_file_that_was_taken_out_and_put_back_has_no_other_form(
    repo: Path, pool: Pool, base: str, committed: bool
) -> None:
    """Line ends that git would make anew are not, where the file is byte for byte what it was."""
    (repo / "old").write_bytes(b"one\r\ntwo\r\n")
    sh(repo, "-c", "core.autocrlf=false", "add", "old")
    sh(repo, "commit", "-qm", "old")
    newer = commit_on(repo, ".gitattributes", "* text=auto\n")
    path = pool.take("r/a/1", newer)
    sh(path, "rm", "-q", "--cached", "old")
    if committed:
        sh(path, "commit", "-qm", "old is out")
    (path / "other").write_text("x")
    assert collect(pool, path, newer).touched == ("other",)


@pytest.mark.parametrize("where", [".gitignore", "info/exclude", "core.excludesFile"])
def test_an_ignored_file_that_a_commit_takes_out_behind_the_index_is_none(
    repo: Path, pool: Pool, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Where the index still tracks a file that the last commit has no more, git would add it again: the commit counts where it is
    ignored, by whatever says so, and for that one file of two."""
    newer = commit_on(repo, ":(top)old", "old\n")
    newer = commit_on(repo, "kept", "kept\n")
    path = pool.take("r/a/1", newer)
    rule = ":(top)o*\n"
    if where == "info/exclude":
        (repo / ".git" / "info" / "exclude").write_text(rule)
    elif where == ".gitignore":
        (path / ".gitignore").write_text(rule)
    else:
        (tmp_path / "ignored").write_text(rule)
        sh(repo, "config", "core.excludesFile", str(tmp_path / "ignored"))
    (tmp_path / "index").write_bytes((Path(sh(path, "rev-parse", "--git-dir")) / "index").read_bytes())
    with monkeypatch.context() as behind:
        behind.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
        sh(path, "--literal-pathspecs", "rm", "-q", "--cached", ":(top)old", "kept")
        sh(path, "commit", "-qm", "out")
    found = collect(pool, path, newer)
    assert [each for each in found.touched if each != ".gitignore"] == [":(top)old"]
    assert collect(pool, path, newer) == found


def test_git_is_asked_what_it_ignores_only_where_something_was_taken_out(
    repo: Path, pool: Pool, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New, changed and removed files, staged or committed, cost no process more."""
    asked: list[str] = []
    run = git.call.run

    def noted(*args: str, **how: Any) -> git.Outcome:
        asked.extend(word for word in args if word == "check-ignore")
        return run(*args, **how)

    monkeypatch.setattr(git, "run", noted)
    path = pool.take("r/a/1", base)
    for number, told in enumerate(("git add -A", "git commit -qam own", "git rm -qr src", "true")):
        (path / f"new-{number}").mkdir()
        (path / f"new-{number}" / "file").write_text("x")
        (path / "README.md").write_text(f"{number}\n")
        subprocess.run(told, shell=True, cwd=path, check=True)
        collect(pool, path, base)
    assert asked == []
    sh(path, "rm", "-q", "--cached", "README.md")
    collect(pool, path, base)
    assert asked == ["check-ignore"]


def test_collected_work_is_taken_back_without_a_look_at_every_file(
    repo: Path, pool: Pool, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worktree that goes from one attempt to the next costs one look by git; changed, new and removed files are all told."""
    path = pool.take("r/a/1", base)
    _edited(path, repo)
    (path / "new").mkdir()
    (path / "new" / "file").write_text("x")
    collect(pool, path, base)
    newer = commit_on(repo, "src/b.py", "b = 3\n")
    asked: list[str] = []
    run = git.call.run

    def noted(*args: str, **how: Any) -> git.Outcome:
        asked.extend(word for word in args if word in ("diff-files", "status", "restore", "checkout"))
        return run(*args, **how)

    monkeypatch.setattr(git, "run", noted)
    assert pool.give_back("r/a/1") is None
    assert listing(pool.take("r/b/1", newer)) == pristine(repo, newer, tmp_path)
    assert asked == ["diff-files", "restore"]


NAMES = (
    "README.md",
    "src",
    "src/b.py",
    "src/deep/new",
    "src/deep",
    "src.py",
    "src-b",
    "ä",
    "new.log",
    "a 'b'",
)
FORGED = ("x'\nadd 'README.md", "x'\nadd 'x", "x'\nremove 'src/b.py", "x")


def _change_at_random(chance: random.Random, top: Path, names: Sequence[str]) -> None:
    place = top / chance.choice(names)
    for above in (place, *place.parents):
        stays = above != place and above.is_dir() and not above.is_symlink()
        if above != top and above.is_relative_to(top) and not stays:
            remove(above)
    place.parent.mkdir(parents=True, exist_ok=True)
    kind = chance.choice(["file", "file", "program", "link", "gone"])
    if kind == "link":
        place.symlink_to(chance.choice(["README.md", "nowhere"]))
    elif kind != "gone":
        place.write_text(str(chance.random()))
        place.chmod(0o755 if kind == "program" else 0o644)


@pytest.mark.parametrize("seed", range(4))
def test_the_commit_is_what_git_would_write(
    repo: Path, pool: Pool, base: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a worker changes, and whatever the names are, the tree is that of `git write-tree`, which is rarely asked for it."""
    chance, run = random.Random(seed), git.call.run
    asked: list[str] = []

    def noted(*args: str, **how: Any) -> git.Outcome:
        asked.extend(word for word in args if word == "write-tree")
        return run(*args, **how)

    for name in FORGED[: chance.randrange(4)]:
        base = commit_on(repo, name, "x")
    monkeypatch.setattr(git, "run", noted)
    for number in range(8):
        path = pool.take(f"r/{number}/1", base)
        names = NAMES if number % 2 else (*NAMES, *FORGED)
        for _ in range(chance.randrange(1, 7)):
            _change_at_random(chance, path, names)
        asked.clear()
        found = collect(pool, path, base)
        by_git, index = {**os.environ, "GIT_INDEX_FILE": f"{repo}/.git/by-git"}, ["git", "-C", str(path)]
        for command in (["read-tree", base], ["add", "-A"], ["write-tree"]):
            told = subprocess.run(
                [*index, *command], env=by_git, check=True, capture_output=True, text=True
            ).stdout
        assert sh(repo, "rev-parse", f"{found.head}^{{tree}}") == told.strip()
        assert number % 2 == 0 or found.head == base or not asked
        pool.give_back(f"r/{number}/1")


def test_a_member_that_can_not_be_cleaned_is_replaced(
    repo: Path, pool: Pool, base: str, tmp_path: Path
) -> None:
    """A worktree whose trusted index was lost is put aside and made anew, and its remains are deleted."""
    path = pool.take("r/a/1", base)
    (path / "mess").write_text("x")
    next((pool.root / ".pool").glob("*.index")).write_bytes(b"junk")
    pool.give_back("r/a/1")
    assert listing(pool.take("r/b/1", base)) == pristine(repo, base, tmp_path)
    assert list((pool.root / ".trash").iterdir()) == []


def test_the_user_is_not_touched(repo: Path, pool: Pool, base: str) -> None:
    """Checkout, index, HEAD, refs, settings, hooks and stash of the user are the same bytes before and
    after."""
    hook = repo / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\ntouch fired-by-hook\n")
    hook.chmod(0o755)
    (repo / "src" / "a.py").write_text("stashed\n")
    sh(repo, "stash")
    (repo / "src" / "b.py").write_text("dirty\n")
    (repo / "notes").write_text("untracked\n")
    before = snapshot(repo)
    for number in range(2):
        path = pool.take(f"r/a/{number}", base)
        (path / "new").write_text("x")
        collect(pool, path, base)
        pool.give_back(f"r/a/{number}")
    pool.prepare_staging(repo / ".worktrees" / "r" / "staging", base)
    pool.spare(2, base)
    pool.sweep()
    assert snapshot(repo) == before
    assert sh(repo, "status", "--porcelain") == " M src/b.py\n?? notes"


def test_a_pool_outside_the_repository_and_odd_names_work(
    repo: Path, base: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A root elsewhere, with spaces and letters beyond ASCII, serves as well, and gets no .gitignore."""
    root = tmp_path_factory.mktemp("elsewhere") / "wörk trees" / "pool"
    pool = open_pool(repo, root=root)
    path = pool.take("rün/täsk/1", base)
    (path / "ünïcode \n name").write_text("x")
    found = collect(pool, path, base)
    assert found.touched == ("ünïcode \n name",)
    pool.give_back("rün/täsk/1")
    assert not (root.parent / ".gitignore").exists()
    assert open_pool(repo, root=root).take("x", base) == path
    pool.close()


LOOP = """
import sys
from pathlib import Path
from swarm.edge import git
from swarm.edge.worktrees import Pool
repo = Path(sys.argv[1])
lock = repo / ".git" / "swarm" / "locks" / "worktrees.lock"
pool = Pool(git.Repository.discover(repo), repo / ".worktrees" / "pool", lock=lock)
bases, n = sys.argv[2:], 0
while True:
    path = pool.take(f"r/t/{n}", bases[n % 2])
    print(n, flush=True)
    (path / "junk").mkdir()
    (path / "src" / "junk").write_text("x")
    pool.collect(path, bases[n % 2], key=f"r/t/{n}", message="m", identity=None, at=1.0)
    if n % 3 == 2:
        pool.teardown(path)
    pool.give_back(f"r/t/{n}")
    n += 1
"""


def test_half_a_checkout_is_nobodys_work(repo: Path, base: str) -> None:
    """A worktree whose filling was killed half-way is given back without a recovery ref: no worker ever saw it."""
    pool = open_pool(repo)
    path = pool.take("r/t/1", base)
    record = pool.root / ".pool" / "1.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "filling": True}))
    (path / "README.md").unlink()
    pool.close()
    again = open_pool(repo)
    again.sweep(leases={}, alone=True)
    again.close()
    assert sh(repo, "for-each-ref", "refs/heads/swarm/") == ""
    assert [entry.key for entry in again.members()] in ([], [""])


@pytest.mark.parametrize(
    "point", ["worktree.leased", "worktree.made", "worktree.drafted", "worktree.pointed"]
)
def test_a_spare_whose_making_was_cut_short_leaves_nothing_to_strangers(
    repo: Path, base: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while a worktree in reserve is made leaves nothing that the next daemon does not know and clear away."""

    def killed(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    pool = open_pool(repo)
    with monkeypatch.context() as patched:
        patched.setattr("swarm.edge.upkeep.crash_at", killed)
        patched.setattr("swarm.edge.linked.crash_at", killed)
        with pytest.raises(KeyboardInterrupt):
            pool.spare(1, base)
    pool.close()
    later = open_pool(repo)
    assert later.sweep(leases={}, alone=True) == []
    assert not later.members()
    assert not later.strangers()
    assert not later.leases()
    later.take("r/t/1", base)
    assert [entry.path.name for entry in later.members()] == ["1"]
    later.close()


def test_a_folder_is_hidden_although_the_one_who_hid_it_was_killed(repo: Path, base: str) -> None:
    """An empty .gitignore, left by a kill between making and writing it, does not show the pool in the user's status."""
    (repo / ".worktrees" / "pool").mkdir(parents=True)
    for folder in (repo / ".worktrees", repo / ".worktrees" / "pool"):
        (folder / ".gitignore").touch()
    pool = open_pool(repo)
    pool.take("r/t/1", base)
    pool.close()
    assert sh(repo, "status", "--porcelain") == ""


def test_a_move_that_was_cut_short_is_not_believed(
    repo: Path, pool: Pool, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spare worktree whose files were being moved to another commit holds its former one again when that is asked for."""
    pool.spare(1, base)
    (path,) = (entry.path for entry in pool.members())
    newer = commit_on(repo, "src/new.py", "n\n")

    def killed(name: str) -> None:
        if name == "worktree.filled":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("swarm.edge.upkeep.crash_at", killed)
        with pytest.raises(KeyboardInterrupt):
            pool.take("r/b/1", newer)
    later = open_pool(repo)
    later.give_back("r/b/1")
    assert later.take("r/c/1", base) == path
    assert not (path / "src" / "new.py").exists()
    later.close()


def test_a_killed_daemon_leaves_a_pool_that_works(repo: Path, base: str, tmp_path: Path) -> None:
    """After kill -9 at any moment the next daemon's pool gives pristine worktrees and git's records are in
    order."""
    newer = commit_on(repo, "src/new.py", "n\n")
    for seed in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(repo), base, newer],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdout is not None
        for _ in range(1 + seed % 4):
            assert child.stdout.readline()
        # a busy wait of another length each time moves the kill through all that one round does
        end = time.perf_counter() + seed * 0.0017
        while time.perf_counter() < end:
            pass
        child.kill()
        child.wait()
        child.stdout.close()
        wait_for_session(child, repo)
        pool = open_pool(repo)
        pool.sweep()
        for entry in pool.members():
            pool.give_back(entry.key)
        for key in ("after/a", "after/b"):
            assert listing(pool.take(key, newer)) == pristine(repo, newer, tmp_path)
            pool.give_back(key)
        on_disk = {str(entry.path) for entry in pool.members()}
        records = sh(repo, "worktree", "list", "--porcelain").splitlines()
        assert {line[9:] for line in records if line.startswith("worktree ")} == on_disk | {str(repo)}
        pool.close()


def test_many_threads_take_collect_and_give_back_at_once(repo: Path, pool: Pool, base: str) -> None:
    """Six threads with four rounds each never share a worktree and each gets exactly its own work."""
    busy: set[Path] = set()
    shared: list[Path] = []
    wrong: list[object] = []

    def work(name: str) -> None:
        try:
            for n in range(4):
                key = f"r/{name}/{n}"
                path = pool.take(key, base)
                shared.extend(busy & {path})
                busy.add(path)
                (path / f"{name}-{n}").write_text(key)
                found = collect(pool, path, base)
                if found.touched != (f"{name}-{n}",):
                    wrong.append(found)
                busy.discard(path)
                pool.give_back(key)
        except BaseException as problem:
            wrong.append(problem)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert shared == []
    assert len(pool.members()) <= 6
    assert len(sh(repo, "worktree", "list").splitlines()) == 1 + len(pool.members())


def test_the_folder_of_records_may_go_in_the_moment_after_it_was_made(
    repo: Path, pool: Pool, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A git of the user's that removes the last record removes their folder too; a worktree is made all the same."""
    rename = os.rename
    removed: list[str | Path] = []

    def late(source: str | Path, target: str | Path) -> None:
        if not removed and Path(target).parent == repo / ".git" / "worktrees":
            removed.append(target)
            Path(target).parent.rmdir()
        rename(source, target)

    monkeypatch.setattr("swarm.edge.linked.os.rename", late)
    assert sh(pool.take("r/a/1", base), "status", "--porcelain") == ""
    assert removed


def test_making_is_safe_beside_the_users_own_prune_and_add(repo: Path, pool: Pool, base: str) -> None:
    """Worktrees are made while the user's git adds and prunes worktrees in a loop, and neither disturbs the
    other."""
    stop, failed = threading.Event(), []

    def disturb() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path = repo.parent / f"own-{number}"
            for args in (["add", "-q", "--detach", str(path)], ["prune"], ["remove", "-f", str(path)]):
                done = subprocess.run(["git", "worktree", *args], cwd=repo, capture_output=True, text=True)
                if done.returncode:
                    failed.append(done.stderr)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for number in range(25):
            pool.take(f"r/a/{number}", base)
    finally:
        stop.set()
        thread.join()
    assert failed == []
    assert all(entry.head == base for entry in pool.members())


def test_spare_members_are_ready_at_the_base(repo: Path, pool: Pool, base: str, tmp_path: Path) -> None:
    """`spare` makes members and moves free ones; taking one that stands ready starts no git."""
    pool.spare(2, base)
    newer = commit_on(repo, "src/new.py", "n\n")
    pool.spare(2, newer)
    assert [(entry.key, entry.head) for entry in pool.members()] == [("", newer), ("", newer)]
    kept, os.environ["PATH"] = os.environ["PATH"], str(tmp_path)
    try:
        path = pool.take("r/a/1", newer)
    finally:
        os.environ["PATH"] = kept
    assert listing(path) == pristine(repo, newer, tmp_path)


def test_one_at_a_time_makes_a_staging_worktree(
    repo: Path, pool: Pool, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a staging worktree is gone, a recovery and a landing that it is to follow do not both make it: git has one record."""
    path, real = pool.root.parent / "r" / "staging", Follower.prepare
    inside: list[int] = [0, 0]
    other = threading.Thread(target=lambda: pool.prepare_staging(path, base))

    def prepare(self: Follower, *args: Any) -> None:
        inside[0] += 1
        inside[1] = max(inside)
        if threading.current_thread() is not other:
            other.start()
            other.join(0.3)  # it waits for us
        real(self, *args)
        inside[0] -= 1

    monkeypatch.setattr(Follower, "prepare", prepare)
    assert pool.follow(path, base, base) == ""
    other.join(60)
    assert inside == [0, 1]
    assert sh(repo, "worktree", "list", "--porcelain").count(f"worktree {path}\n") == 1
    assert sh(path, "status", "--porcelain") == ""


@pytest.mark.parametrize("what", ["gone", "moved"])
def test_a_sweep_removes_nothing_that_somebody_takes_meanwhile(
    repo: Path, pool: Pool, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whoever takes a worktree at the moment at which a sweep has found a free one gone, or moved away, has one, and keeps it."""
    free = pool.take("r/t/1", base)
    pool.give_back("r/t/1")
    if what == "gone":
        shutil.rmtree(free)
    else:
        sh(repo, "worktree", "move", str(free), str(tmp_path / "theirs"))
    taken: list[Path] = []
    name = "is_whole" if what == "gone" else "disown"
    real = getattr(Upkeep, name)

    def meanwhile(self: Upkeep, *args: Any) -> Any:
        found = real(self, *args) if what == "gone" else None
        if not taken and not found:
            taken.append(Path())
            taken[0] = pool.take("r/u/1", base)
        return found if what == "gone" else real(self, *args)

    monkeypatch.setattr(Upkeep, name, meanwhile)
    pool.sweep(leases={})
    assert [(lease.path, lease.key) for lease in pool.leases() if lease.key] == [(taken[0], "r/u/1")]
    assert sh(taken[0], "rev-parse", "HEAD") == base
    assert pool.give_back("r/u/1") is None
    assert [lease.key for lease in pool.leases()].count("r/u/1") == 0


def test_sweep_removes_what_is_left_and_keeps_what_is_not_ours(repo: Path, pool: Pool, base: str) -> None:
    """Records of deleted worktrees and remains of killed removals go; leases and strangers stay."""
    lost, kept = pool.take("r/a/1", base), pool.take("r/b/1", base)
    pool.give_back("r/a/1")
    shutil.rmtree(lost)
    (pool.root / ".trash" / "x").mkdir(parents=True)
    half_removed = repo / ".git" / "swarm" / "linking" / "old-0123abcd"
    half_removed.mkdir(parents=True)
    half_written = [pool.root / ".pool" / name for name in ("1.json.new", "9.index.new")]
    for draft in half_written:
        draft.write_text("{")
    (pool.root / "7").mkdir()
    (pool.root / "7" / "precious").write_text("x")
    planned = pool.sweep(dry_run=True)
    assert not any(each.mended for each in planned)
    assert len(sh(repo, "worktree", "list").splitlines()) == 3
    found = pool.sweep()
    assert [each.text for each in found] == [each.text for each in planned]
    mended = {each.text for each in found if each.mended}
    assert any(str(lost) in text for text in mended)
    assert any(".trash" in text for text in mended)
    left = [each for each in found if not each.mended]
    assert [str(pool.root / "7") in each.text for each in left] == [True]
    assert (pool.root / "7" / "precious").exists()
    assert not any(draft.exists() for draft in (half_removed, *half_written))
    assert [entry.path for entry in pool.members()] == [kept]
    assert len(sh(repo, "worktree", "list").splitlines()) == 2
    assert pool.sweep() == left


def test_a_link_where_a_draft_goes_is_not_followed(pool: Pool, base: str, tmp_path: Path) -> None:
    """A worker that puts a link where our next version of a file is made has nothing written through it."""
    path = pool.take("r/a/1", base)
    precious = tmp_path / "precious"
    precious.write_text("mine\n")
    (path / ".git.new").symlink_to(precious)
    (path / ".git").write_text("gitdir: /nowhere\n")
    pool.give_back("r/a/1")
    again = pool.take("r/b/1", base)
    assert precious.read_text() == "mine\n"
    assert not os.path.lexists(again / ".git.new")


def test_trim_removes_free_members_only(repo: Path, pool: Pool, base: str) -> None:
    """Free members beyond the wanted number go with folder and record; a leased one stays."""
    keys = ["r/a/1", "r/b/1", "r/c/1"]
    paths = [pool.take(key, base) for key in keys]
    for key in keys[1:]:
        pool.give_back(key)
    assert pool.trim(1) == 1
    assert len([path for path in paths if path.exists()]) == 2
    assert paths[0].exists()
    assert len(sh(repo, "worktree", "list").splitlines()) == 3


def test_a_refused_base_harms_nothing(pool: Pool, base: str) -> None:
    """A base that is not there is an error, the member survives it, and the next try works."""
    path = pool.take("r/a/1", base)
    pool.give_back("r/a/1")
    with pytest.raises(git.GitError):
        pool.take("r/b/1", "1" * 40)
    assert pool.take("r/b/1", base) == path


def test_a_refusing_file_system_is_told_and_the_next_try_works(repo: Path, base: str, tmp_path: Path) -> None:
    """An error of the file system names its cause and leaves nothing that blocks the same key later."""
    (tmp_path / "elsewhere").write_text("a file where a folder should be")
    pool = open_pool(repo, root=tmp_path / "elsewhere" / "pool")
    with pytest.raises(WorktreeFailed, match="Not a directory"):
        pool.take("r/a/1", base)
    (tmp_path / "elsewhere").unlink()
    assert listing(pool.take("r/a/1", base)) == pristine(repo, base, tmp_path)
    pool.close()


def test_the_workers_index_is_as_old_as_the_files_it_lists(repo: Path, pool: Pool, base: str) -> None:
    """The copy that a worker gets has the time of the pool's own: a younger one would make git trust stale
    entries."""
    path = pool.take("r/a/1", base)
    given = Path(sh(path, "rev-parse", "--absolute-git-dir"), "index")
    (own,) = (pool.root / ".pool").glob("*.index")
    assert given.stat().st_mtime_ns == own.stat().st_mtime_ns
    assert given.read_bytes() == own.read_bytes()


def test_work_that_was_never_collected_is_saved_when_given_back(repo: Path, pool: Pool, base: str) -> None:
    """Giving back without collecting gives a commit that holds the files; after collecting, or unchanged,
    none."""
    path = pool.take("r/a/1", base)
    (path / "unsaved").write_text("precious")
    saved = pool.give_back("r/a/1")
    assert saved is not None
    assert sh(repo, "show", f"{saved}:unsaved") == "precious"
    assert sh(repo, "rev-parse", f"{saved}^") == base
    pool.take("r/b/1", base)
    assert pool.give_back("r/b/1") is None
    (pool.take("r/c/1", base) / "x").write_text("x")
    collect(pool, path, base)
    assert pool.give_back("r/c/1") is None


def test_a_checkout_that_nobody_works_in_is_not_saved(repo: Path, base: str) -> None:
    """With `saves` off, what a test run left is thrown away without making objects of it."""
    pool = open_pool(repo, saves=False)
    (pool.take("candidate/1", base) / "report").write_text("x")
    assert pool.give_back("candidate/1") is None
    pool.close()


def test_what_was_collected_is_known_to_the_next_daemon(repo: Path, pool: Pool, base: str) -> None:
    """A daemon that only gives back what an earlier one collected saves nothing twice."""
    path = pool.take("r/a/1", base)
    (path / "x").write_text("x")
    collect(pool, path, base)
    later = open_pool(repo)
    assert later.give_back("r/a/1") is None
    later.close()


# --- collect ------------------------------------------------------------------------------------------------


def test_what_a_worker_left_is_one_commit_on_its_base(repo: Path, pool: Pool, base: str) -> None:
    """Edits, new files and deletions become one commit by the user; no ref moves; collecting again is the
    same."""
    path = pool.take("r/a/1", base)
    (path / "src" / "a.py").write_text("changed\n")
    (path / "src" / "b.py").unlink()
    (path / "new").write_text("n")
    (path / "debug.log").write_text("ignored")
    refs = sh(repo, "for-each-ref")
    found = collect(pool, path, base)
    assert found == Collected(found.head, 1, ("new", "src/a.py", "src/b.py"), "")
    assert sh(repo, "log", "-1", "--format=%an %ae %at %P %s", found.head) == (
        f"Ada ada@example.org 1700000000 {base} work"
    )
    assert sh(repo, "for-each-ref") == refs
    assert sh(path, "rev-parse", "HEAD") == base
    assert collect(pool, path, base) == found
    assert sh(repo, "fsck", "--strict", "--no-dangling") == ""


def test_a_setting_that_has_git_believe_its_index_hides_no_work(repo: Path, pool: Pool, base: str) -> None:
    """With core.ignoreStat git takes what it checks out for unchanged ever after; what a worker wrote is seen all the same."""
    sh(repo, "config", "core.ignoreStat", "true")
    path = pool.take("r/a/1", base)
    (path / "src" / "b.py").write_text("changed\n")
    assert collect(pool, path, base).touched == ("src/b.py",)


def test_what_lies_beside_a_worktree_goes_with_its_lease(pool: Pool, base: str) -> None:
    """Whoever has a worktree has a place beside it, the same for as long; given back or torn down, it is gone."""
    assert pool.own("r/a/1") is None
    for end in ("give back", "tear down"):
        path = pool.take("r/a/1", base)
        own = pool.own("r/a/1")
        assert own is not None
        assert own == pool.own("r/a/1")
        assert not own.is_relative_to(path)
        (own / "suite").mkdir(parents=True)
        (own / "suite" / "file").write_text("x")
        if end == "give back":
            pool.give_back("r/a/1")
        else:
            pool.teardown(path)
        assert not own.exists()
        assert pool.own("r/a/1") is None


def test_what_was_staged_is_not_dropped_for_one_failure(
    repo: Path, pool: Pool, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where git fails once at writing what was staged, and does not say by what, it is asked again."""
    path = pool.take("r/a/1", base)
    (path / "src" / "b.py").write_text("staged")
    sh(path, "add", "-A")
    (path / "src" / "b.py").write_text("written after it")
    wrapper, once = tmp_path / "bin" / "git", tmp_path / "once"
    wrapper.parent.mkdir()
    real = shutil.which("git")
    wrapper.write_text(
        f'#!/bin/sh\ncase " $* " in *" write-tree "*) [ -e {once} ] || {{ touch {once}; exit 128; }};; esac\nexec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
        collect(pool, path, base)
    assert once.exists()
    (ref,) = sh(repo, "for-each-ref", "--format=%(refname)", "refs/heads/swarm/r/saved").split()
    kept = sh(repo, "log", "--format=%H", ref).split()
    assert "staged" in [sh(repo, "show", f"{commit}:src/b.py") for commit in kept]


BOOT = Path("/proc/sys/kernel/random/boot_id")


def signed(path: Path, start: str) -> Path:
    """Leaves what who shuts a program in leaves where it could not end all of it, at that start of the machine."""
    sign = Path(f"{leases.sign_of(path)}0123")
    sign.write_text(start)
    return sign


@pytest.mark.parametrize("how", ["collect", "give back"])
def test_nothing_is_read_where_somebody_may_be_left(repo: Path, pool: Pool, base: str, how: str) -> None:
    """Who is left in a worktree could have us read, by a link in place of a file, what it may not: the worktree is put aside whole,
    told as often as it is asked, and none of it is in the repository."""
    path = pool.take("r/a/1", base)
    (path / "secret").write_text("read through a link")
    signed(path, BOOT.read_text())
    if how == "collect":
        found = collect(pool, path, base)
        assert (found.touched, found.unread, found.head) == ((), True, base)
        assert "could not be ended" in found.problem
        assert collect(pool, path, base).problem == found.problem
    (pool.root / ".pool" / "1.git").mkdir()
    kept = Path(pool.give_back("r/a/1") or "")
    assert kept.with_suffix(".git").is_dir()
    assert (kept / "secret").read_text() == "read through a link"
    assert not sh(repo, "for-each-ref", "refs/heads/swarm")
    assert sh(repo, "cat-file", "-t", sh(repo, "hash-object", str(kept / "secret")), check=False) == ""
    again = pool.take("r/a/2", base)
    assert not (again / "secret").exists()
    assert collect(pool, again, base).problem == ""


def test_nobody_is_left_from_before_the_machine_started(pool: Pool, base: str) -> None:
    """After a power cut the sign is still there, and who it was for is not: what was done is collected."""
    path = pool.take("r/a/1", base)
    (path / "new").write_text("x")
    signed(path, "another start\n")
    assert collect(pool, path, base).touched == ("new",)


def test_a_setup_leaves_nobody_behind(repo: Path, base: str, tmp_path: Path) -> None:
    """Where what the setup command started could not be ended, no worker gets that worktree; the next try makes another."""
    sign = f"{leases.sign_of(repo / '.worktrees' / 'pool' / '1')}0123"
    pool = open_pool(
        repo, setup=f"[ -e {tmp_path}/once ] || {{ cat {BOOT} > {sign}; touch {tmp_path}/once; }}"
    )
    with pytest.raises(WorktreeSetupFailed, match="could not all be ended"):
        pool.take("r/a/1", base)
    held = os.open(repo / ".worktrees" / "pool" / "1", os.O_RDONLY)  # so that its number is nobody else's
    path = pool.take("r/a/1", base)
    assert path.stat().st_ino != os.fstat(held).st_ino
    os.close(held)
    assert not Path(sign).exists()
    pool.close()


def test_few_files_are_looked_at_in_one_thread(repo: Path, pool: Pool, base: str, tmp_path: Path) -> None:
    """Git is told to start no threads for the files of a small index, and is left its choice with a large one."""
    path = pool.take("r/a/1", base)
    tree = linked.find(path, repo / ".git")
    assert tree is not None
    asked = ("config", "--get", "core.preloadIndex")
    assert tree.git(*asked).text == "false"
    large = tmp_path / "index"
    large.touch()
    os.truncate(large, linked.IN_ONE_THREAD_BYTES + 1)
    assert tree.git(*asked, index=large, ok=(1,)).code == 1


def test_the_workers_own_commits_count(pool: Pool, base: str) -> None:
    """Commits of the worker, on a branch or not, are kept as they are, with what it left on top."""
    path = pool.take("r/a/1", base)
    sh(path, "switch", "-qc", "feature")
    for name in ("one", "two"):
        (path / name).write_text(name)
        sh(path, "add", "-A")
        sh(path, "commit", "-qm", name)
    head = sh(path, "rev-parse", "HEAD")
    assert collect(pool, path, base) == Collected(head, 2, ("one", "two"), "")
    (path / "three").write_text("three")
    found = collect(pool, path, base)
    assert (found.commits, found.touched) == (3, ("one", "three", "two"))
    assert sh(path, "rev-parse", f"{found.head}^") == head
    assert sh(path, "rev-parse", "feature") == head


def test_no_change_is_the_base(pool: Pool, base: str) -> None:
    """A worker that changed nothing gives the base and touches nothing."""
    assert collect(pool, pool.take("r/a/1", base), base) == Collected(base, 0, (), "")


@pytest.mark.parametrize("last", ["commit -q --allow-empty -m done", "revert --no-edit HEAD", "rm -q one"])
def test_commits_that_come_to_no_change_are_work_all_the_same(pool: Pool, base: str, last: str) -> None:
    """What a worker committed is told by its commit also where it touches nothing in the end, so that it can be kept."""
    path = pool.take("r/a/1", base)
    if last.startswith(("re", "rm")):
        (path / "one").write_text("precious")
        sh(path, "add", "-A")
        sh(path, "commit", "-qm", "one")
    made = sh(path, "rev-parse", "HEAD")
    sh(path, *last.split())
    found = collect(pool, path, base)
    assert (found.commits, found.touched, found.problem) == (1 if "empty" in last else 2, (), "")
    assert made in sh(path, "rev-list", found.head).split()
    assert collect(pool, path, base) == found


def test_an_unfinished_merge_is_a_problem_and_its_files_are_kept(repo: Path, pool: Pool, base: str) -> None:
    """Conflict markers are committed as they lie, and the problem says that a merge was left unfinished."""
    path = pool.take("r/a/1", base)
    _unfinished_merge(path, repo)
    found = collect(pool, path, base)
    assert "merge was left unfinished" in found.problem
    assert "unmerged" in found.problem
    assert "<<<<<<<" in sh(repo, "show", f"{found.head}:src/b.py")
    assert collect(pool, path, base).head == found.head


@pytest.mark.parametrize("mess", [_index_lock, _broken_index, _hiding_flags], ids=["lock", "index", "flags"])
def test_a_spoilt_index_hides_no_work(repo: Path, pool: Pool, base: str, mess: object) -> None:
    """A stale lock, a broken index and marks that hide changes keep nothing out of the commit."""
    assert callable(mess)
    path = pool.take("r/a/1", base)
    mess(path, repo)
    (path / "src" / "a.py").write_text("hidden\n")
    (path / "src" / "b.py").write_text("hidden\n")
    found = collect(pool, path, base)
    assert (found.touched, found.problem) == (("src/a.py", "src/b.py"), "")


def test_files_left_out_by_a_sparse_checkout_are_not_deleted(repo: Path, pool: Pool, base: str) -> None:
    """A worker that made its checkout sparse did not delete the rest."""
    path = pool.take("r/a/1", base)
    _sparse(path, repo)
    (path / "new").write_text("x")
    assert collect(pool, path, base).touched == ("new",)


def test_a_branch_that_does_not_come_from_the_base_is_a_problem(repo: Path, pool: Pool, base: str) -> None:
    """A worker that went to another history is told of, and its work is kept."""
    path = pool.take("r/a/1", base)
    sh(path, "checkout", "-q", "HEAD~1")
    (path / "x").write_text("x")
    found = collect(pool, path, base)
    assert "do not start from its base" in found.problem
    assert sh(repo, "show", f"{found.head}:x") == "x"


def test_a_head_without_commit_is_a_problem(repo: Path, pool: Pool, base: str) -> None:
    """An orphan branch has no commit to build on: the files are kept on top of the base."""
    path = pool.take("r/a/1", base)
    sh(path, "checkout", "-q", "--orphan", "fresh")
    (path / "x").write_text("x")
    found = collect(pool, path, base)
    assert "HEAD" in found.problem
    assert found.touched == ("x",)


@pytest.mark.parametrize("how", ["no commit", "commit", "worker commits the link"])
def test_a_repository_inside_is_a_problem_and_its_files_are_kept(
    repo: Path, pool: Pool, base: str, how: str
) -> None:
    """Files of a nested repository are kept as files, the problem names it, and it still is a repository
    after."""
    path = pool.take("r/a/1", base)
    inner = path / "vendor" / "inner"
    inner.mkdir(parents=True)
    (inner / "code").write_text("code")
    sh(inner, "init", "-q")
    if how != "no commit":
        sh(inner, "add", "-A")
        sh(inner, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x")
    if how == "worker commits the link":
        sh(path, "add", "-A")
        sh(path, "commit", "-qm", "oops")
    found = collect(pool, path, base)
    assert "vendor/inner" in found.problem
    assert found.touched == ("vendor/inner/code",)
    assert sh(repo, "show", f"{found.head}:vendor/inner/code") == "code"
    assert (inner / ".git").is_dir()
    assert collect(pool, path, base) == found


def test_a_link_to_a_repository_that_is_not_here_is_told(repo: Path, pool: Pool, base: str) -> None:
    """A link to a commit that no .gitmodules names and whose repository is nowhere keeps nothing from being collected: the problem
    names it, and the other files are kept."""
    path = pool.take("r/a/1", base)
    (path / "work").write_text("work")
    (path / "far" / "away").mkdir(parents=True)
    sh(path, "update-index", "--add", "--cacheinfo", f"160000,{base},far/away")
    sh(path, "commit", "-qm", "a link")
    found = collect(pool, path, base)
    assert "far/away" in found.problem
    assert sh(repo, "show", f"{found.head}:work") == "work"
    assert collect(pool, path, base) == found


def test_a_gitmodules_that_git_cannot_read_is_told(repo: Path, pool: Pool, base: str) -> None:
    """What is no configuration in .gitmodules keeps nothing from being collected either."""
    path = pool.take("r/a/1", base)
    (path / "work").write_text("work")
    (path / ".gitmodules").write_text("[submodule\n")
    found = collect(pool, path, base)
    assert sh(repo, "show", f"{found.head}:work") == "work"


def test_a_submodule_is_no_problem(repo: Path, pool: Pool, base: str, tmp_path: Path) -> None:
    """A link that .gitmodules names is committed as a link; the next attempt finds its folder empty."""
    sh(tmp_path, "clone", "-q", str(repo), "other")
    path = pool.take("r/a/1", base)
    sh(
        path,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(tmp_path / "other"),
        "dep",
    )
    found = collect(pool, path, base)
    assert (found.touched, found.problem) == ((".gitmodules", "dep"), "")
    pool.give_back("r/a/1")
    again = pool.take("r/b/1", found.head)
    sh(again, "-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init")
    assert (again / "dep" / "README.md").exists()
    pool.give_back("r/b/1")
    assert list((pool.take("r/c/1", found.head) / "dep").iterdir()) == []


def test_work_survives_a_pruned_record_and_a_deleted_folder_is_told(
    repo: Path, pool: Pool, base: str
) -> None:
    """With git's record removed behind our back the files are still collected; without the folder it is
    said."""
    path = pool.take("r/a/1", base)
    (path / "x").write_text("x")
    _record_gone(path, repo)
    found = collect(pool, path, base)
    assert found.touched == ("x",)
    assert "record" in found.problem
    shutil.rmtree(path)
    assert "gone" in collect(pool, path, base).problem


# --- copy, share, setup -------------------------------------------------------------------------------------


@pytest.fixture
def furnished(repo: Path, base: str) -> Iterator[Pool]:
    """A pool with a copied file, a copied folder and a shared folder; the last two are not ignored by git."""
    (repo / ".env").write_text("SECRET=1\n")
    (repo / "config.local").mkdir()
    (repo / "config.local" / "x").write_text("x")
    (repo / "node_modules" / "dep").mkdir(parents=True)
    (repo / "node_modules" / "dep" / "index.js").write_text("js")
    opened = open_pool(repo, copy=[".env", "config.local", "absent"], share=["node_modules", "absent too"])
    yield opened
    opened.close()


def test_copies_and_links_are_there_each_time_and_fresh(repo: Path, furnished: Pool, base: str) -> None:
    """Each worktree has the user's present copy and a working link, whatever the last worker did to them."""
    path = furnished.take("r/a/1", base)
    assert (path / "node_modules" / "dep" / "index.js").read_text() == "js"
    (path / ".env").write_text("SECRET=stolen\n")
    (path / "node_modules").unlink()
    (path / "node_modules").mkdir()
    collect(furnished, path, base)
    furnished.give_back("r/a/1")
    (repo / ".env").write_text("SECRET=2\n")
    assert furnished.take("r/b/1", base) == path
    assert (path / ".env").read_text() == "SECRET=2\n"
    assert (path / "config.local" / "x").read_text() == "x"
    assert os.readlink(path / "node_modules") == str(repo / "node_modules")


def test_a_shared_folder_survives_every_cleaning(repo: Path, furnished: Pool, base: str) -> None:
    """Nothing is deleted through the link when a worktree is given back, torn down or trimmed."""
    for number in range(2):
        path = furnished.take(f"r/a/{number}", base)
        collect(furnished, path, base)
        furnished.give_back(f"r/a/{number}")
    furnished.trim(0)
    assert (repo / "node_modules" / "dep" / "index.js").read_text() == "js"


@pytest.mark.parametrize("worker_adds", [False, True])
def test_what_is_lent_is_never_part_of_the_work(
    repo: Path, furnished: Pool, base: str, worker_adds: bool
) -> None:
    """Copies and links stay out of the commit, also where the worker added and committed everything
    itself."""
    path = furnished.take("r/a/1", base)
    (path / "real").write_text("work")
    if worker_adds:
        sh(path, "add", "-A", "-f")
        sh(path, "commit", "-qm", "everything")
    found = collect(furnished, path, base)
    assert found.touched == ("real",)
    assert found.problem == ""
    assert collect(furnished, path, base) == found


def test_a_link_in_place_of_a_folder_that_something_was_lent_into_hides_nothing(
    repo: Path, base: str, tmp_path: Path
) -> None:
    """A worker put a link where the folder of a copy was: what else it did is collected, what lies beyond the link is no part of
    it, and the next worker has the copy in a folder again."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / ".env").write_text("another's")
    (repo / "conf").mkdir()
    (repo / "conf" / ".env").write_text("SECRET=1\n")
    pool = open_pool(repo, copy=["conf/.env"], share=["conf/shared"])
    path = pool.take("r/a/1", base)
    shutil.rmtree(path / "conf")
    (path / "conf").symlink_to(tmp_path / "outside")
    (path / "real").write_text("work")
    found = collect(pool, path, base)
    assert (found.touched, found.problem) == (("conf", "real"), "")
    assert collect(pool, path, base) == found
    pool.give_back("r/a/1")
    assert pool.take("r/b/1", base) == path
    assert not (path / "conf").is_symlink()
    assert (path / "conf" / ".env").read_text() == "SECRET=1\n"
    assert (tmp_path / "outside" / ".env").read_text() == "another's"
    pool.close()


def test_setup_runs_in_every_worktree_before_its_worker(repo: Path, base: str) -> None:
    """What setup makes is there for each attempt, also in a member that was cleaned."""
    pool = open_pool(repo, setup="mkdir -p node_modules && pwd > node_modules/where")
    for number in range(2):
        path = pool.take(f"r/a/{number}", base)
        assert (path / "node_modules" / "where").read_text() == f"{path}\n"
        pool.give_back(f"r/a/{number}")
    pool.close()


def test_spare_members_are_set_up_and_another_setup_runs_anew(repo: Path, base: str) -> None:
    """A spare member has run its setup before it is taken; a pool with another setup command runs that
    one."""
    pool = open_pool(repo, setup="echo one >> made.log")
    pool.spare(1, base)
    path = pool.take("r/a/1", base)
    assert (path / "made.log").read_text() == "one\n"
    pool.give_back("r/a/1")
    pool.spare(1, base)
    pool.close()
    other = open_pool(repo, setup="echo two >> other.log")
    assert (other.take("r/b/1", base) / "other.log").read_text() == "two\n"
    other.close()


def test_a_spare_member_moved_to_another_base_is_set_up_anew(repo: Path, pool: Pool, base: str) -> None:
    """What setup made for an older base is gone when the member is taken at a newer one."""
    furnished = open_pool(repo, setup="touch $(cat src/b.py | wc -c).log")
    furnished.spare(1, base)
    path = furnished.take("r/a/1", commit_on(repo, "src/b.py", "b = 100\n"))
    assert [log.name for log in path.glob("*.log")] == ["8.log"]
    furnished.close()


def test_a_failed_setup_says_why_and_the_next_try_works(repo: Path, base: str, tmp_path: Path) -> None:
    """The error carries the end of the output; the same key can try again once the cause is gone."""
    pool = open_pool(repo, setup=f"echo no registry >&2; test -e {tmp_path}/there")
    with pytest.raises(WorktreeSetupFailed, match="status 1") as failed:
        pool.take("r/a/1", base)
    assert failed.value.tail == "no registry"
    (tmp_path / "there").touch()
    assert pool.take("r/a/1", base).is_dir()
    pool.close()


def test_a_setup_that_changes_what_git_sees_is_refused(repo: Path, base: str) -> None:
    """A setup whose results would end up in every landing is an error that names them."""
    pool = open_pool(repo, setup="echo x >> src/a.py; touch made")
    with pytest.raises(WorktreeSetupFailed, match="made"):
        pool.take("r/a/1", base)
    pool.close()


@pytest.mark.parametrize("setup", ['rm -rf "$PWD"', 'git worktree remove --force "$PWD"'])
def test_a_setup_that_deletes_the_worktree_is_refused(repo: Path, base: str, setup: str) -> None:
    """A setup after which there is no worktree is an error that says so; the next try has one again."""
    pool = open_pool(repo, setup=setup)
    with pytest.raises(WorktreeSetupFailed, match="deletes the worktree"):
        pool.take("r/a/1", base)
    pool.close()
    pool = open_pool(repo)
    assert (pool.take("r/a/1", base) / "src" / "a.py").exists()
    pool.close()


def test_a_setup_that_does_not_end_is_killed_with_its_children(repo: Path, base: str) -> None:
    """A setup over its time limit is an error, and nothing of it is left running."""
    pool = open_pool(
        repo,
        setup="cat /dev/zero > /dev/null & cat /dev/zero > /dev/null",
        setup_bounds=Bounds(timeout_s=0.2),
    )
    with pytest.raises(WorktreeSetupFailed, match=r"0\.2 s"):
        pool.take("r/a/1", base)
    pool.close()


def test_what_a_setup_leaves_running_ends_with_it(repo: Path, base: str) -> None:
    """A setup that ends well may have left something in a session of its own: that is gone before a worker comes."""
    leaves = "setsid sh -c 'echo $$ > pid.log; exec sleep 1000' & until [ -s pid.log ]; do sleep 0.01; done"
    pool = open_pool(repo, setup=leaves)
    left = int((pool.take("r/a/1", base) / "pid.log").read_text())
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE
    pool.close()


def test_a_setup_that_multiplies_is_ended(repo: Path, base: str) -> None:
    """A setup with more processes than it may have is an error, however long it would have gone on."""
    pool = open_pool(
        repo, setup="for n in 1 2 3 4 5; do sleep 1000 & done; wait", setup_bounds=Bounds(processes=4)
    )
    with pytest.raises(WorktreeSetupFailed, match="more than 4 processes"):
        pool.take("r/a/1", base)
    pool.close()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ".git/config", ""])
def test_lent_paths_stay_inside_the_repository(repo: Path, path: str) -> None:
    """A path that leaves the repository, or goes into its git folder, is refused before anything is done."""
    with pytest.raises(UsageError):
        open_pool(repo, copy=[path])


def test_where_a_commit_holds_a_file_nothing_is_lent(repo: Path, base: str) -> None:
    """A commit with a file where the folder of a copy or a link would be stands as it is: the file is the commit's."""
    for folder in ("conf", "deps"):
        (repo / folder / "inner").mkdir(parents=True)
    pool = open_pool(repo, copy=["conf/inner"], share=["deps/inner/more"])
    (repo / "deps" / "inner" / "more").mkdir()
    by_file = sh(repo, "hash-object", "-w", "README.md")
    index = {**os.environ, "GIT_INDEX_FILE": str(repo / ".git" / "other")}
    for command in (
        ["read-tree", base],
        ["update-index", "--add", "--cacheinfo", f"100644,{by_file},conf"],
        ["update-index", "--add", "--cacheinfo", f"100644,{by_file},deps"],
    ):
        subprocess.run(["git", *command], cwd=repo, env=index, check=True)
    tree = subprocess.run(
        ["git", "write-tree"], cwd=repo, env=index, check=True, capture_output=True, text=True
    )
    path = pool.take("r/a/1", sh(repo, "commit-tree", "-p", base, "-m", "files", tree.stdout.strip()))
    assert (path / "conf").read_text() == (path / "deps").read_text() == (path / "README.md").read_text()
    pool.close()


def test_what_a_commit_contains_is_neither_lent_nor_left_out(repo: Path, base: str) -> None:
    """Where the commit of a worktree has something at a path that is copied or shared, it is the commit's there, as it is, and what
    a worker does to it is its work; in a worktree at a commit without it the path is lent as ever."""
    (repo / "conf").mkdir()
    (repo / "data").mkdir()
    for name in ("conf/app.ini", "data/x"):
        newer = commit_on(repo, name, "committed\n")
    for name in ("conf/app.ini", "data/x"):
        (repo / name).write_text("in the checkout\n")
    (repo / "conf" / "secret").write_text("s")
    pool = open_pool(repo, copy=["conf"], share=["data"])
    path = pool.take("r/a/1", newer)
    assert (path / "conf" / "app.ini").read_text() == (path / "data" / "x").read_text() == "committed\n"
    assert not (path / "conf" / "secret").exists()
    for name in ("conf/app.ini", "conf/new", "data/new"):
        (path / name).write_text("work")
    names = ("conf/app.ini", "conf/new", "data/new")
    work = foresight.Work("a", str(path), newer, newer)
    assert foresight.changed(repo / ".git", [work], leave_out=["conf", "data"]) == [names]
    assert pool.changed("r/a/1") == ["conf/app.ini"]
    assert collect(pool, path, newer).touched == names
    assert pool.give_back("r/a/1") is None
    path = pool.take("r/a/2", base)
    assert (path / "conf" / "app.ini").read_text() == (path / "data" / "x").read_text() == "in the checkout\n"
    assert collect(pool, path, base) == Collected(base, 0, ())
    assert foresight.changed(
        repo / ".git", [foresight.Work("a", str(path), base, base)], leave_out=["conf", "data"]
    ) == [()]
    pool.close()


def test_what_can_not_be_copied_is_left_out_of_a_copy(repo: Path, base: str) -> None:
    """A pipe or a socket in a folder that is copied, or in its place, is no reason to do without the rest."""
    (repo / "local").mkdir()
    (repo / "local" / "x").write_text("x")
    os.mkfifo(repo / "local" / "pipe")
    os.mkfifo(repo / "alone")
    pool = open_pool(repo, copy=["local", "alone"])
    path = pool.take("r/a/1", base)
    assert listing(path).keys() >= {"local", "local/x"}
    assert not listing(path).keys() & {"local/pipe", "alone"}
    pool.close()


def test_a_copy_is_not_written_through_a_link_of_the_tree(repo: Path, base: str, tmp_path: Path) -> None:
    """A tracked link to a folder elsewhere is not followed when something is copied below it, nor in the way of collecting."""
    (tmp_path / "outside").mkdir()
    (repo / "conf").symlink_to(tmp_path / "outside")
    sh(repo, "add", "-A")
    sh(repo, "commit", "-qm", "a link")
    head = sh(repo, "rev-parse", "HEAD")
    (repo / "conf").unlink()
    (repo / "conf").mkdir()
    (repo / "conf" / "secret").write_text("x")
    pool = open_pool(repo, copy=["conf/secret"])
    path = pool.take("r/a/1", head)
    assert list((tmp_path / "outside").iterdir()) == []
    assert collect(pool, path, head).head == head
    pool.close()


def test_a_bare_landing_repository_serves_scratch_worktrees(repo: Path, base: str, tmp_path: Path) -> None:
    """A pool on a bare repository gives clean checkouts with what the user's folder lends."""
    bare = tmp_path / "landing.git"
    sh(tmp_path, "clone", "-q", "--bare", str(repo), str(bare))
    (repo / ".env").write_text("x")
    pool = Pool(
        bare, tmp_path / "scratch", lock=tmp_path / "lock", source=repo, copy=[".env"], user_config=False
    )
    for number in range(2):
        path = pool.take(f"candidate/{number}", base)
        assert sh(path, "rev-parse", "HEAD") == base
        assert (path / ".env").read_text() == "x"
        assert sh(path, "status", "--porcelain") == ""
        (path / "junk").write_text("x")
        pool.give_back(f"candidate/{number}")
    assert not (tmp_path / ".gitignore").exists()
    pool.close()


def test_a_path_that_is_not_the_pools_is_refused(repo: Path, pool: Pool, base: str) -> None:
    """Collecting or tearing down a folder that the pool did not make is refused or does nothing."""
    with pytest.raises(SwarmError):
        collect(pool, repo, base)
    pool.teardown(repo)
    assert (repo / "README.md").exists()


# --- the staging worktree -----------------------------------------------------------------------------------


@pytest.fixture
def staging(repo: Path) -> Path:
    """Where the staging worktree of run `r` lies."""
    return repo / ".worktrees" / "r" / "staging"


def test_staging_follows_with_its_files(
    repo: Path, pool: Pool, base: str, staging: Path, tmp_path: Path
) -> None:
    """The staging worktree is made at its commit, moves with all files, and asking again changes nothing."""
    newer = commit_on(repo, "src/deep/new.py", "n\n")
    pool.prepare_staging(staging, base)
    assert listing(staging) == pristine(repo, base, tmp_path)
    assert pool.follow(staging, base, newer) == ""
    assert pool.follow(staging, base, newer) == ""
    pool.prepare_staging(staging, base)
    assert listing(staging) == pristine(repo, newer, tmp_path)
    assert sh(staging, "status", "--porcelain", "--branch") == "## HEAD (no branch)"
    assert sh(staging, "rev-parse", "HEAD") == newer
    assert sh(repo, "status", "--porcelain") == ""


def test_staging_that_was_barely_begun_is_filled(
    repo: Path, pool: Pool, base: str, staging: Path, tmp_path: Path
) -> None:
    """A staging worktree whose making was killed before its first file is filled, whatever else was begun, and follows then."""
    newer = commit_on(repo, "src/deep/new.py", "n\n")
    pool.prepare_staging(staging, base)
    admin = Path((staging / ".git").read_text().removeprefix("gitdir: ").strip())
    for path in staging.iterdir():
        if path.name != ".git":
            remove(path)
    (admin / "index").unlink()
    (admin / "index.lock").touch()
    (admin / "swarm-move").write_text(f"- {base}\n")
    pool.prepare_staging(staging, base)
    assert listing(staging) == pristine(repo, base, tmp_path)
    assert pool.follow(staging, base, newer) == ""
    assert listing(staging) == pristine(repo, newer, tmp_path)


def test_staging_whose_first_checkout_was_killed_at_its_end_is_finished(
    repo: Path, pool: Pool, base: str, staging: Path
) -> None:
    """Killed with all files there and a lock still held, the making is finished by the next call, and the lock is gone."""
    pool.prepare_staging(staging, base)
    admin = Path(sh(staging, "rev-parse", "--absolute-git-dir"))
    (admin / "HEAD.lock").touch()
    (admin / "swarm-move").write_text(f"- {base}\n")
    pool.prepare_staging(staging, base)
    assert not (admin / "HEAD.lock").exists()
    assert not (admin / "swarm-move").exists()
    assert sh(staging, "status", "--porcelain") == ""


def test_staging_with_a_persons_edits_is_left(repo: Path, pool: Pool, base: str, staging: Path) -> None:
    """Local changes, a file in the way, a moved HEAD and a branch are each left and named."""
    newer = commit_on(repo, "src/new.py", "n\n")
    pool.prepare_staging(staging, base)
    (staging / "src" / "a.py").write_text("mine\n")
    assert pool.follow(staging, base, newer) == (
        f"the staging worktree has local changes in src/a.py: left at {base[:12]}"
    )
    assert (staging / "src" / "a.py").read_text() == "mine\n"
    sh(staging, "checkout", "-q", "src/a.py")
    (staging / "src" / "new.py").write_text("in the way\n")
    assert "src/new.py" in pool.follow(staging, base, newer)
    assert (staging / "src" / "new.py").read_text() == "in the way\n"
    (staging / "src" / "new.py").unlink()
    sh(staging, "switch", "-qc", "mine")
    assert "is on mine" in pool.follow(staging, base, newer)
    sh(staging, "checkout", "-q", "--detach", "HEAD~1")
    assert "moved by hand" in pool.follow(staging, base, newer)
    sh(staging, "checkout", "-q", "--detach", base)
    (Path(sh(staging, "rev-parse", "--absolute-git-dir")) / "index.lock").touch()
    assert "another git" in pool.follow(staging, base, newer)
    (Path(sh(staging, "rev-parse", "--absolute-git-dir")) / "index.lock").unlink()
    assert pool.follow(staging, base, newer) == ""


@pytest.mark.parametrize("late", [False, True])
def test_a_commit_made_while_staging_moves_is_left_standing(
    repo: Path, pool: Pool, base: str, staging: Path, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    """A person who commits in the staging worktree at the very moment of a move keeps HEAD at their commit, and clean files."""
    newer = commit_on(repo, "src/new.py", "n\n")
    pool.prepare_staging(staging, base)
    theirs = []

    def commits(*_: object) -> None:
        (staging / "mine").write_text("mine\n")
        sh(staging, "add", "mine")
        if late:  # git read the index before our move, and moves HEAD behind it
            tree = sh(staging, "write-tree")
            sh(staging, "read-tree", "-m", "-u", base, newer)
            theirs.append(sh(staging, "commit-tree", "-p", base, "-m", "mine", tree))
            sh(staging, "update-ref", "--no-deref", "HEAD", theirs[0])
        else:
            sh(staging, "commit", "-qm", "mine")
            theirs.append(sh(staging, "rev-parse", "HEAD"))

    with monkeypatch.context() as patched:
        patched.setattr("swarm.edge.follower.crash_at", commits)
        reason = pool.follow(staging, base, newer)
    assert reason == f"the staging worktree was moved by hand: left at {theirs[0][:12]}"
    assert sh(staging, "rev-parse", "HEAD") == theirs[0]
    assert sh(staging, "status", "--porcelain") == ""
    assert pool.follow(staging, base, newer) == reason


def test_a_commit_made_after_a_killed_move_is_left_standing(
    repo: Path, pool: Pool, base: str, staging: Path
) -> None:
    """A person's commit on a worktree whose move was killed, with its files moved or not, is no part of what is finished."""
    newer = commit_on(repo, "src/new.py", "n\n")
    pool.prepare_staging(staging, base)
    (staging / "mine").write_text("mine\n")
    sh(staging, "add", "mine")
    sh(staging, "commit", "-qm", "mine")
    theirs = sh(staging, "rev-parse", "HEAD")
    admin = Path(sh(staging, "rev-parse", "--absolute-git-dir"))
    for moved in (False, True):
        if moved:
            sh(staging, "read-tree", "-m", "-u", base, newer)
        (admin / "swarm-move").write_text(f"{base} {newer}\n")
        assert "moved by hand" in pool.follow(staging, base, newer)
        assert sh(staging, "rev-parse", "HEAD") == theirs
        assert sh(staging, "status", "--porcelain") == ""


def _with_crlf(repo: Path) -> str:
    """Commits files with line ends that the attributes would make others: git shows them as changed in every checkout."""
    for name in ("old.txt", "older.txt"):
        (repo / name).write_bytes(b"a\r\nb\r\n")
    _commit_only(repo, **{"old.txt": None, "older.txt": None})
    return _commit_only(repo, **{".gitattributes": "*.txt text\n"})


def _commit_only(repo: Path, **files: str | None) -> str:
    """Commits these files with these texts, as they are where there is none, and no others."""
    for name, text in files.items():
        if text is not None:
            (repo / name).write_text(text)
        sh(repo, "add", name)
    sh(repo, "commit", "-qm", "only these")
    return sh(repo, "rev-parse", "HEAD")


def _looked_at(staging: Path) -> Path:
    """Has git look at the files of a worktree, also where its index is younger than they are."""
    for name in ("old.txt", "older.txt"):
        os.utime(staging / name)
    assert sh(staging, "status", "--porcelain") == " M old.txt\n M older.txt"
    return staging


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_checkout_shows_as_changed_keeps_staging_nowhere(
    repo: Path, pool: Pool, staging: Path, killed: bool
) -> None:
    """Staging follows past files that are as they were checked out, whatever git says of them, and moves these too, also where a
    move was killed that had taken them out of the way; a person's edit of one is left."""
    base = _with_crlf(repo)
    pool.prepare_staging(staging, base)
    other = _commit_only(repo, other="o\n")
    assert pool.mend_staging(_looked_at(staging), base, other) == []
    admin = Path(sh(staging, "rev-parse", "--absolute-git-dir"))
    if killed:
        (admin / "swarm-move").write_text(f"{base} {other}\n")
    assert pool.follow(staging, base, other) == ""
    assert sh(staging, "rev-parse", "HEAD") == other
    newer = _commit_only(repo, **{"old.txt": "new\n", "other": "p\n"})
    _looked_at(staging)
    if killed:
        (admin / "swarm-move").write_text(f"{other} {newer}\n")
        (staging / "old.txt").unlink()
    assert pool.follow(staging, other, newer) == ""
    assert (staging / "old.txt").read_text() == "new\n"
    assert (staging / "older.txt").read_bytes() == b"a\r\nb\r\n"
    assert not (admin / "swarm-move").exists()
    (staging / "older.txt").write_bytes(b"a\r\nB\r\n")
    newest = _commit_only(repo, other="q\n")
    assert "has local changes in older.txt" in pool.follow(staging, newer, newest)
    assert (staging / "older.txt").read_bytes() == b"a\r\nB\r\n"


def test_what_was_taken_out_of_the_way_comes_back(repo: Path, pool: Pool, staging: Path) -> None:
    """Where a file of a person's keeps staging from moving all the same, the others are as they were."""
    base = _with_crlf(repo)
    pool.prepare_staging(staging, base)
    newer = _commit_only(repo, **{"old.txt": "new\n", "src/new.py": "n\n"})
    (_looked_at(staging) / "src" / "new.py").write_text("in the way\n")
    assert "src/new.py" in pool.follow(staging, base, newer)
    assert (staging / "old.txt").read_bytes() == b"a\r\nb\r\n"
    assert (staging / "src" / "new.py").read_text() == "in the way\n"
    assert sh(staging, "rev-parse", "HEAD") == base


def _half_moved(repo: Path, staging: Path, base: str) -> tuple[str, Path]:
    """Makes a move to a commit that changes, adds and removes files, stopped as a kill would stop it."""
    (repo / "src" / "tool.sh").unlink()
    (repo / "src" / "a.py").write_text("new a\n" * 50)
    (repo / "README.md").write_text("new readme\n")
    newer = commit_on(repo, "src/added.py", "added\n" * 50)
    admin = Path(sh(staging, "rev-parse", "--absolute-git-dir"))
    (admin / "swarm-move").write_text(f"{base} {newer}\n")
    (admin / "index.lock").write_bytes(b"half an index")
    (admin / "HEAD.lock").touch()
    (admin / "ORIG_HEAD.lock").touch()
    (staging / "README.md").write_text("new readme\n")
    (staging / "src" / "a.py").unlink()
    (staging / "src" / "added.py").write_text("added\n" * 20)
    return newer, admin


def test_a_killed_move_is_finished(repo: Path, pool: Pool, base: str, staging: Path, tmp_path: Path) -> None:
    """A stale lock with old, new, missing and half-written files is ours: the next follow finishes the
    move."""
    pool.prepare_staging(staging, base)
    newer, admin = _half_moved(repo, staging, base)
    assert pool.follow(staging, base, newer) == ""
    assert listing(staging) == pristine(repo, newer, tmp_path)
    assert sh(staging, "status", "--porcelain") == ""
    assert [name for name in os.listdir(admin) if name == "swarm-move" or name.endswith(".lock")] == []
    assert pool.follow(staging, newer, commit_on(repo, "next", "n\n")) == ""


@pytest.mark.parametrize("at", ["follow.finishing", "taken"])
def test_a_commit_made_while_a_killed_move_is_finished_is_left_standing(
    repo: Path, pool: Pool, base: str, staging: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """A person who commits in the staging worktree at the very moment at which a killed move is finished, before its index is
    ours or after, keeps HEAD at their commit, and clean files."""
    pool.prepare_staging(staging, base)
    newer, admin = _half_moved(repo, staging, base)
    take_index = Follower._take_index
    theirs = []

    def commits(self: Follower | str, *given: Any) -> None:
        if isinstance(self, Follower):
            take_index(self, *given)
        elif self != at:
            return
        (staging / "mine").write_text("mine\n")
        sh(staging, "add", "mine")
        sh(staging, "commit", "-qm", "mine")
        theirs.append(sh(staging, "rev-parse", "HEAD"))

    with monkeypatch.context() as patched:
        patched.setattr("swarm.edge.follower.crash_at", commits)
        if at == "taken":
            patched.setattr(Follower, "_take_index", commits)
        reason = pool.follow(staging, base, newer)
    assert reason == f"the staging worktree was moved by hand: left at {theirs[0][:12]}"
    assert sh(staging, "rev-parse", "HEAD") == theirs[0]
    assert sh(staging, "show", "HEAD:mine") == "mine"
    assert not (admin / "swarm-move").exists()
    assert sh(staging, "status", "--porcelain") == ""
    assert pool.follow(staging, base, newer) == reason


def test_a_persons_edit_in_a_killed_move_is_kept(repo: Path, pool: Pool, base: str, staging: Path) -> None:
    """An edit that is neither the old nor the new version stops the move and stays, until it is taken
    away."""
    pool.prepare_staging(staging, base)
    newer, _ = _half_moved(repo, staging, base)
    (staging / "src" / "b.py").write_text("a person's\n")
    assert "src/b.py" in pool.follow(staging, base, newer)
    assert (staging / "src" / "b.py").read_text() == "a person's\n"
    (staging / "src" / "b.py").write_text("b = 1\n")
    assert pool.follow(staging, base, newer) == ""


def test_a_deleted_staging_worktree_is_made_again(repo: Path, pool: Pool, base: str, staging: Path) -> None:
    """A staging worktree that was deleted, and perhaps pruned, is made again at the new commit."""
    newer = commit_on(repo, "src/new.py", "n\n")
    pool.prepare_staging(staging, base)
    shutil.rmtree(repo / ".worktrees")
    assert pool.follow(staging, base, newer) == ""
    assert sh(staging, "rev-parse", "HEAD") == newer
    assert sh(repo, "status", "--porcelain") == ""
    shutil.rmtree(staging)
    sh(repo, "worktree", "prune")
    pool.prepare_staging(staging, base)
    assert sh(staging, "status", "--porcelain") == ""


# --- what can be made again -----------------------------------------------------------------------------------


RECLAIM = ("node_modules", "kept")


def fill(folder: Path, size_bytes: int = 50_000) -> None:
    """Makes a folder with one file of that size."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "big").write_bytes(b"x" * size_bytes)


def reclaimable(pool: Pool, *ended: str) -> dict[str, int]:
    return {
        os.path.relpath(each.path, pool.root): each.size_bytes for each in pool.reclaimable(ended, RECLAIM)
    }


def test_only_what_git_ignores_whole_is_made_again(repo: Path, pool: Pool, base: str) -> None:
    """Of a kept worktree what may go is folders of the given names in which git ignores everything: nothing tracked, added by force
    or merely untracked lies there, no repository, and no link; of one that is worked in, and of another name, nothing may."""
    base = commit_on(repo, ".gitignore", "node_modules/\n/kept/*\n!/kept/mine\nother/\n")
    (repo / "lib").mkdir()
    fill(repo / "lib" / "node_modules")
    sh(repo, "add", "-f", "lib")
    sh(repo, "commit", "-qm", "one that is tracked")
    base = sh(repo, "rev-parse", "HEAD")
    path = pool.take("r/a/1", base)
    for folder in ("node_modules", "pkg/node_modules", "lib/node_modules", "forced/node_modules", "other"):
        fill(path / folder)
    fill(path / "kept")
    (path / "kept" / "mine").write_text("neither tracked nor ignored\n")
    fill(path / "nested" / "node_modules" / "dependency")
    sh(path / "nested" / "node_modules" / "dependency", "init", "-q")
    sh(path, "add", "-f", "forced/node_modules")
    (path / "linked").mkdir()
    (path / "linked" / "node_modules").symlink_to(path / "node_modules")
    pool.take("r/b/1", base)
    assert reclaimable(pool) == {}
    found = reclaimable(pool, "r/a/1")
    assert set(found) == {"1/node_modules", "1/pkg/node_modules"}
    assert all(size_bytes >= 50_000 for size_bytes in found.values())
    sh(path, "rm", "-rq", "--cached", "lib")  # to the index of whoever worked there it is ignored now
    assert set(reclaimable(pool, "r/a/1")) == {"1/node_modules", "1/pkg/node_modules"}


def test_what_is_reclaimed_is_gone_and_nothing_else(repo: Path, pool: Pool, base: str) -> None:
    """A folder that can be made again, and a free worktree, are removed, and the kept one's files and changes stay; so does what
    may not go any more, since it was taken or added to git meanwhile."""
    path, other = pool.take("r/a/1", base), pool.take("r/b/1", base)
    fill(path / "node_modules")
    fill(path / "pkg" / "node_modules")
    (path / "README.md").write_text("changed\n")
    (path / "new").write_text("untracked\n")
    pool.give_back("r/b/1")
    modules, packages, free = pool.reclaimable(["r/a/1"], RECLAIM)
    assert [modules.path, free.path] == [str(path / "node_modules"), str(other)]
    assert pool.reclaim(modules, ["r/a/1"], RECLAIM)
    assert not (path / "node_modules").exists()
    assert not pool.reclaim(modules, ["r/a/1"], RECLAIM)
    sh(path, "add", "-f", "pkg")
    assert not pool.reclaim(packages, ["r/a/1"], RECLAIM)
    assert (path / "pkg" / "node_modules" / "big").exists()
    assert (path / "README.md").read_text() == "changed\n"
    assert (path / "new").exists()
    assert pool.take("r/c/1", base) == other
    assert not pool.reclaim(free, ["r/a/1"], RECLAIM)
    assert other.is_dir()
    pool.give_back("r/c/1")
    assert pool.reclaim(free, ["r/a/1"], RECLAIM)
    assert not other.exists()
    assert [entry.path for entry in pool.members()] == [path]
    assert not pool.trash.is_dir() or not any(pool.trash.iterdir())
    assert pool.sweep(dry_run=True) == []


def test_a_member_that_could_not_be_removed_is_still_one(pool: Pool, base: str) -> None:
    """Where the file system refuses its removal a free member is free as before, a leased one whose it was: it is listed, removed
    by the next try, or taken by the next attempt, and no second one is made beside it."""
    path, other = pool.take("r/a/1", base), pool.take("r/b/1", base)
    pool.give_back("r/a/1")
    (free,) = pool.reclaimable([], RECLAIM)
    remove(pool.trash)
    pool.trash.write_text("in the way\n")
    for removal in (
        lambda: pool.reclaim(free, [], RECLAIM),
        lambda: pool.clean([], force=True),
        lambda: pool.trim(0),
        lambda: pool.teardown(other),
    ):
        with pytest.raises(OSError, match="trash"):
            removal()
        assert [(entry.path, entry.key) for entry in pool.members()] == [(path, ""), (other, "r/b/1")]
    assert [each.path for each in pool.reclaimable([], RECLAIM)] == [free.path]
    pool.trash.unlink()
    assert pool.clean([], force=False) == [Cleaned(str(path), True)]
    assert pool.take("r/c/1", base) == path
    pool.give_back("r/c/1")
    remove(pool.trash)
    pool.trash.write_text("in the way\n")
    with pytest.raises(OSError, match="trash"):
        pool.trim(0)
    pool.trash.unlink()
    assert pool.take("r/d/1", base) == path
    assert sh(path, "status", "--porcelain") == ""


def test_a_reclaim_that_was_cut_short_is_swept(
    repo: Path, pool: Pool, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while a folder is removed, no half of it stays in the worktree, and what is left of it goes at the next start."""
    path = pool.take("r/a/1", base)
    fill(path / "node_modules")
    (found,) = pool.reclaimable(["r/a/1"], RECLAIM)
    monkeypatch.setattr("swarm.edge.upkeep._remove_quietly", lambda _: None)
    pool.reclaim(found, ["r/a/1"], RECLAIM)
    monkeypatch.undo()
    assert not (path / "node_modules").exists()
    assert any(pool.trash.iterdir())
    again = open_pool(repo)
    again.sweep(leases={"r/a/1": (path, base)}, alone=True)
    again.close()
    assert not pool.trash.is_dir() or not any(pool.trash.iterdir())
    assert path.is_dir()


def test_worktrees_in_a_lower_layer_are_used_and_removed(repo: Path, base: str, tmp_path: Path) -> None:
    """In a repository that came with an image a worktree is prepared anew where it must be, set aside, and removed."""
    first = open_pool(repo)
    for key in ("r/a/1", "r/b/1", "r/c/1"):
        first.take(key, base)
    for key in ("r/a/1", "r/b/1", "r/c/1"):
        first.give_back(key)
    first.close()
    with layered(repo, tmp_path / "beside"):
        pool = open_pool(repo)
        for index in (pool.root / ".pool").glob("*.index"):
            index.unlink()
        path = pool.take("r/d/1", base)
        assert listing(path) == pristine(repo, base, tmp_path)
        (pool.take("r/e/1", base) / "new").write_text("mine")
        kept = Path(pool.set_aside("r/e/1", "why") or "")
        assert (kept / "new").read_text() == "mine"
        pool.give_back("r/d/1")
        pool.trim(0)
        assert [name for name in os.listdir(pool.root) if name.isdigit()] == []
        assert len(sh(repo, "worktree", "list").splitlines()) == 1
        pool.close()

"""Running git: clean environment, limits that hold, helpers that may die, and objects that git itself accepts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from swarm.client.place import locate
from swarm.edge import git
from swarm.edge.git import call
from swarm.edge.git.refs import STALE_LOCK_S
from swarm.errors import Refused, SwarmError, UsageError
from tests.adversity import need_to_trace
from tests.conftest import git as sh
from tests.conftest import is_gone, wait_until

WHO = git.Signature("Ada", "ada@example.org", 1_700_000_000)


@pytest.fixture
def objects(repo: Path) -> Iterator[git.Objects]:
    """Reads the objects of `repo`."""
    opened = git.Objects(repo / ".git")
    yield opened
    opened.close()


@pytest.fixture
def refs(repo: Path) -> Iterator[git.Refs]:
    """Moves the refs of `repo`."""
    opened = git.Refs(repo / ".git")
    yield opened
    opened.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has git wait a tenth of a second for the lock of a ref that stays locked, instead of two."""
    with monkeypatch.context() as patched:
        short = {"core.filesRefLockTimeout": "100"}
        patched.setattr(call, "SETTINGS", tuple((key, short.get(key, value)) for key, value in call.SETTINGS))
        call._base_environment.cache_clear()
        yield
    call._base_environment.cache_clear()


@pytest.fixture
def fake_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called git, to be written by the test, that is found first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "git"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return program


# --- running ----------------------------------------------------------------------------------------------------------------


def test_a_folder_that_git_can_not_run_in_is_named(repo: Path) -> None:
    """Where the folder to run in is gone, or is none, that is said and which it is; it is not git that is missing."""
    for folder, how in ((repo / "gone", "is gone"), (repo / "README.md", "is no folder")):
        with pytest.raises(git.GitError, match=f"git status could not be started in {folder}, which {how}"):
            git.run("status", cwd=folder)


def test_output_error_and_status_are_values(repo: Path) -> None:
    """What git prints and its status come back; a status that was not expected raises with git's last line."""
    head = sh(repo, "rev-parse", "HEAD")
    assert git.run("rev-parse", "HEAD", git_dir=repo / ".git").text == head
    assert git.run("diff", "--no-index", "--quiet", "README.md", "src/b.py", cwd=repo, ok=(0, 1)).code == 1
    with pytest.raises(git.GitError) as failed:
        git.run("cat-file", "commit", "12" * 20, git_dir=repo / ".git")
    assert failed.value.code == 128
    assert "12" * 20 in failed.value.err
    assert "cat-file" in str(failed.value)


def test_nothing_is_inherited_from_a_hook(
    repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """GIT_* variables of whoever started us reach no call, sealed or not."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.bare=true'")
    for user_config in (False, True):
        assert git.run("rev-parse", "--show-toplevel", cwd=repo, user_config=user_config).text == str(repo)
    assert git.Repository.discover(repo).top == repo


def test_settings_of_the_user_count_only_when_wanted(
    repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A sealed call does not see the user's global settings, an open one does, and a change of them at once."""
    mine = tmp_path / "mine"
    mine.write_text("[swarm]\n\tseen = one\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(mine))
    ask = ("config", "--get", "swarm.seen")
    assert git.run(*ask, git_dir=repo / ".git", ok=(1,)).out == b""
    assert git.run(*ask, git_dir=repo / ".git", user_config=True).text == "one"
    other = tmp_path / "other"
    other.write_text("[swarm]\n\tseen = two\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(other))
    assert git.run(*ask, git_dir=repo / ".git", user_config=True).text == "two"


def test_no_hook_no_fsmonitor_no_gc(repo: Path, tmp_path: Path) -> None:
    """Hooks and fsmonitor do not run and automatic gc is off, even in calls that see the user's settings."""
    mark = tmp_path / "ran"
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    trap.chmod(0o755)
    hooks = repo / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-checkout", "post-commit", "pre-commit"):
        shutil.copy(trap, hooks / name)
    sh(repo, "config", "core.fsmonitor", str(trap))
    for user_config in (False, True):
        git.run("status", cwd=repo, user_config=user_config)
        git.run("update-ref", "refs/heads/x", "HEAD", cwd=repo, user_config=user_config)
        git.run("checkout", "-q", "--detach", cwd=repo, user_config=user_config)
        assert git.run("config", "gc.auto", cwd=repo, user_config=user_config).text == "0"
    assert not mark.exists()


def test_no_repository_is_found_by_accident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path
) -> None:
    """Without a git_dir and a cwd no repository is used, wherever the process stands."""
    monkeypatch.chdir(repo)
    with pytest.raises(git.GitError, match="not a git repository"):
        git.run("rev-parse", "--git-dir")


def test_time_limit_ends_all_children(fake_git: Path, tmp_path: Path) -> None:
    """A call over its time is killed with everything that it started."""
    pid_file = tmp_path / "pid"
    pid_file.touch()
    fake_git.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > '{pid_file}'\nwait\n")
    for limit_s in (0.3, 3, 30):
        with pytest.raises(git.GitTimedOut, match="time limit"):
            git.run("status", timeout_s=limit_s)
        if pid_file.read_text():  # else the machine was too busy for it to start anything within its limit
            break
    pid = int(pid_file.read_text())
    wait_until(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_child_that_closes_its_output_still_has_a_limit(fake_git: Path) -> None:
    """A git that has closed its output and does not end is killed at its limit."""
    fake_git.write_text("#!/bin/sh\nexec >&- 2>&-\nexec sleep 600\n")
    with pytest.raises(git.GitTimedOut):
        git.run("status", timeout_s=0.3)


def test_output_is_bounded(fake_git: Path) -> None:
    """More output than allowed ends the call with an error; of endless error text only the end is kept."""
    fake_git.write_text("#!/bin/sh\nexec yes\n")
    with pytest.raises(git.GitError, match="more than 1000 bytes"):
        git.run("log", output_max_bytes=1000)
    fake_git.write_text("#!/bin/sh\nyes noise | head -c 1000000 >&2\necho the end >&2\nexit 3\n")
    with pytest.raises(git.GitError, match="the end") as failed:
        git.run("log")
    assert failed.value.code == 3


def test_much_input_while_there_is_much_output(repo: Path) -> None:
    """Megabytes go in and come out at the same time without a standstill; a child that does not read them is no error."""
    blob = sh(repo, "rev-parse", "HEAD:src/a.py")
    done = git.run("cat-file", "--batch", git_dir=repo / ".git", input=f"{blob}\n".encode() * 8_000)
    assert done.out.count(b" blob ") == 8_000
    for _ in range(20):  # whether its end or the closed pipe is seen first is chance
        assert git.run("rev-parse", "HEAD", git_dir=repo / ".git", input=b"x" * 5_000_000).code == 0


def test_no_git_at_all_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no git the error says so and what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(git.GitError, match="was not found on PATH") as failed:
        git.run("version")
    assert "install git" in failed.value.next_step


def test_many_threads_run_git(repo: Path) -> None:
    """Sixteen threads that run git at once each get their own answer."""
    told: dict[int, str] = {}

    def ask(k: int) -> None:
        told[k] = git.run("hash-object", "--stdin", git_dir=repo / ".git", input=b"%d" % k).text

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == {k: git.run("hash-object", "--stdin", cwd=repo, input=b"%d" % k).text for k in range(16)}
    assert len(set(told.values())) == 16


def test_pipe_tells_who_failed(repo: Path) -> None:
    """Of two piped commands the one that failed is named, with what it said."""
    common = repo / ".git"
    pack = ("pack-objects", "--revs", "--stdout", "-q")
    done = git.pipe(pack, _index, git_dir=common, input=b"HEAD\n")
    assert done.text.startswith("pack\t")
    with pytest.raises(git.GitError, match="pack-objects"):
        git.pipe(pack, _index, git_dir=common, input=b"12" * 20 + b"\n")
    with pytest.raises(git.GitError, match="index-pack"):
        git.pipe(pack, lambda _: ["index-pack", "--no-such"], git_dir=common, input=b"HEAD\n")
    with pytest.raises(git.GitTimedOut):
        git.pipe(("cat-file", "--batch"), _index, git_dir=common, timeout_s=0.0)


def _index(header: bytes) -> list[str]:
    count = int.from_bytes(header[8:12], "big")
    return ["index-pack", "--stdin", "--strict", f"--pack_header=2,{count}"]


# --- repositories -----------------------------------------------------------------------------------------------------------


def test_discover_from_everywhere(repo: Path, tmp_path: Path) -> None:
    """The same repository is found from its top, a folder in it, a linked worktree, and through a symbolic link."""
    (tmp_path / "link").symlink_to(repo)
    sh(repo, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    for place in (repo, repo / "src", tmp_path / "link", tmp_path / "tree"):
        found = git.Repository.discover(place)
        assert found.common_dir == repo / ".git"
        assert (found.object_format, found.is_bare) == ("sha1", False)
    linked = git.Repository.discover(tmp_path / "tree")
    assert (linked.top, linked.git_dir) == (tmp_path / "tree", repo / ".git" / "worktrees" / "tree")


@pytest.mark.parametrize(
    "name", ["new\nline", "\n", "end\n", "car\rriage", "u\u2028line", "white \t"], ids=ascii
)
def test_a_repository_is_found_whatever_is_in_its_path(tmp_path: Path, name: str) -> None:
    """Whatever ends a line in some list, git's or Python's, may be in the path of a repository, a linked worktree of it, a bare one
    and a git folder that lies elsewhere: each is found where it is, as the command line finds it."""
    top, tree, apart = (
        tmp_path / name / name,
        tmp_path / "trees" / name / "tree",
        tmp_path / f"apart {name}dir",
    )
    top.mkdir(parents=True)
    tree.parent.mkdir(parents=True)
    sh(top, "init", "-q")
    sh(top, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "first")
    sh(top, "worktree", "add", "-q", "--detach", str(tree))
    sh(tmp_path, "init", "-q", "--bare", f"{name}bare")
    sh(tmp_path, "init", "-q", f"--separate-git-dir={apart}", "plain")
    found = git.Repository.discover(top)
    assert (found.top, found.git_dir, found.common_dir) == (top, top / ".git", top / ".git")
    linked = git.Repository.discover(tree)
    assert (linked.top, linked.common_dir, linked.git_dir.parent) == (
        tree,
        top / ".git",
        top / ".git" / "worktrees",
    )
    bare = git.Repository.discover(tmp_path / f"{name}bare")
    assert (bare.top, bare.git_dir, bare.is_bare) == (None, tmp_path / f"{name}bare", True)
    plain = git.Repository.discover(tmp_path / "plain")
    assert (plain.top, plain.common_dir) == (tmp_path / "plain", apart)
    for here, as_found in ((top, found), (tree, linked), (tmp_path / "plain", plain)):
        place = locate(str(here), {})
        assert (place.here, place.common_dir) == (str(as_found.top), str(as_found.common_dir))


def test_places_that_will_not_do(repo: Path, tmp_path: Path) -> None:
    """No repository, a bare one, the inside of .git and one without a commit each say what is wrong and what to do."""
    with pytest.raises(UsageError, match="not in a git repository"):
        git.Repository.discover(tmp_path)
    sh(tmp_path, "init", "-q", "--bare", "bare.git")
    bare = git.Repository.discover(tmp_path / "bare.git")
    assert bare.is_bare
    with pytest.raises(UsageError, match="bare repository"):
        bare.working_top()
    with pytest.raises(UsageError, match="inside of a repository"):
        git.Repository.discover(repo / ".git").working_top()
    sh(tmp_path, "init", "-q", "empty")
    with pytest.raises(UsageError, match="no commit yet") as told:
        git.Repository.discover(tmp_path / "empty").head_commit()
    assert "git commit" in told.value.next_step


def test_repository_of_somebody_else_is_refused(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where git refuses a folder for its owner, the refusal says how to allow it."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give a folder to somebody else")
    for path in (repo, repo / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(Refused, match="belongs to somebody else") as told:
        git.Repository.discover(repo)
    assert "safe.directory" in told.value.next_step


def test_a_checkout_whose_git_folder_is_elsewhere_is_found(repo: Path, tmp_path: Path) -> None:
    """Git knows no place of the main checkout of a repository that was made with --separate-git-dir, and names its git folder; that
    is where it was found."""
    top = tmp_path / "top"
    sh(tmp_path, "clone", "-q", f"--separate-git-dir={tmp_path / 'elsewhere'}", str(repo), str(top))
    sh(top, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    user = git.Repository.discover(top)
    assert user.worktrees_of_branch("main") == [top]
    assert user.worktrees_of_branch("side") == [tmp_path / "side"]


def test_a_branch_is_known_by_any_of_its_names(repo: Path) -> None:
    """By its own name first, which may look like a longer one of another; what is no branch has none."""
    sh(repo, "branch", "heads/main")
    sh(repo, "tag", "v1")
    user = git.Repository.discover(repo)
    names = {name: user.branch_named(name) for name in ("main", "heads/main", "refs/heads/main", "HEAD", "@")}
    assert names == {
        "main": "main",
        "heads/main": "heads/main",
        "refs/heads/main": "main",
        "HEAD": "main",
        "@": "main",
    }
    assert [user.branch_named(name) for name in ("v1", "refs/tags/v1", "none", user.head_commit())] == [
        ""
    ] * 4
    sh(repo, "branch", "-D", "heads/main")
    assert user.branch_named("heads/main") == "main"
    sh(repo, "checkout", "-q", "--detach")
    assert user.branch_named("HEAD") == ""


def test_a_branch_that_stands_for_another_is_that_one(repo: Path, tmp_path: Path) -> None:
    """A symbolic ref, which who renamed a branch leaves under the old name, also over several: what is checked out by it is a
    checkout of the one that it comes to in the end, and of no other."""
    sh(repo, "branch", "-m", "main", "trunk")
    sh(repo, "symbolic-ref", "refs/heads/main", "refs/heads/trunk")
    sh(repo, "symbolic-ref", "refs/heads/older", "refs/heads/main")
    (repo / ".git" / "HEAD").write_text("ref: refs/heads/older\n")
    other = tmp_path / "other"
    sh(repo, "worktree", "add", "-q", "-b", "side", str(other))
    user = git.Repository.discover(repo)
    assert [user.branch_meant(name) for name in ("older", "main", "trunk", "side", "none", "")] == [
        *("trunk", "trunk", "trunk", "side", "none", ""),
    ]
    assert user.worktrees_of_branch("trunk") == [repo]
    assert user.worktrees_of_branch("side") == [other]
    assert user.worktrees_of_branch("main") == []
    other.rename(tmp_path / "away")
    assert user.worktrees_of_branch("side") == []
    assert user.away_with_branch("side") == [other]
    assert user.away_with_branch("trunk") == []


def begin(top: Path, what: str) -> str:
    """Has something begin in the checkout at `top` that holds the branch which is checked out there; gives what ends it."""
    if what == "bisect":
        sh(top, "bisect", "start", "HEAD", "HEAD~2")
        return "bisect reset"
    backend = ["--apply"] if what == "apply" else ["--exec", "false"]
    moves = ["--update-refs"] if what == "update-refs" else []
    git.run("rebase", *backend, *moves, "aside", cwd=top, ok=range(256), user_config=True)
    return "rebase --abort"


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("what", ["merge", "apply", "bisect", "update-refs"])
def test_what_is_under_way_in_a_checkout_holds_its_branch(
    repo: Path, tmp_path: Path, what: str, linked: bool
) -> None:
    """A branch that a rebase, by either of git's ways, or a bisection began from is found to be held exactly as long as git refuses
    to move it, in the main checkout and in another, asked from either; so is one that a rebase moves along."""
    sh(repo, "branch", "aside")
    for name, text in (("one", "1"), ("README.md", "mine")):
        (repo / name).write_text(text)
        sh(repo, "add", name)
        sh(repo, "commit", "-q", "-m", name)
    sh(repo, "branch", "below", "HEAD~1")
    mine = sh(repo, "rev-parse", "HEAD")
    sh(repo, "checkout", "-q", "aside")
    (repo / "README.md").write_text("theirs")
    sh(repo, "commit", "-q", "-a", "-m", "theirs")
    other = tmp_path / "a b"
    sh(repo, "worktree", "add", "-q", str(other), "main")
    sh(repo, "checkout", "-q", "--detach")
    top, asked = (other, repo) if linked else (repo, other)
    if not linked:
        sh(other, "checkout", "-q", "--detach")
        sh(repo, "checkout", "-q", "main")
    branch = "below" if what == "update-refs" else "main"
    users = [git.Repository.discover(place) for place in (top, asked)]
    ends = begin(top, what)
    assert git.run("branch", "-f", branch, mine, cwd=asked, ok=range(256)).code != 0
    for user in users:
        assert user.worktrees_of_branch(branch) == []
        held = user.holding(branch)
        assert held is not None
        assert held.place == top
        assert ends.split()[0] in held.ends
        assert user.holding("aside") is None
    sh(top, *ends.split())
    assert [user.holding(branch) for user in users] == [None, None]


def test_the_folders_of_borrowed_objects_are_found(tmp_path: Path) -> None:
    """Each line names a folder, from the place of the objects on; comments, what is gone and rings are passed over, quotes are
    read, and so is what a folder borrows itself."""
    one, two, three = (tmp_path / name / "objects" for name in ("one", "two", 'three "ä"'))
    for folder in (one, two, three):
        (folder / "info").mkdir(parents=True)
    assert git.alternates(one) == []
    (one / "info" / "alternates").write_text(f"# comment\n/nowhere\n../../two/objects\n{tmp_path / 'file'}\n")
    (tmp_path / "file").touch()
    (two / "info" / "alternates").write_text(f'{one}\n"{tmp_path}/three \\"\\303\\244\\"/objects"\n"broken\n')
    assert git.alternates(two) == [one, three, two]
    assert git.alternates(one) == [two, one, three]


def test_questions_about_a_repository(repo: Path, tmp_path: Path) -> None:
    """Commits, branches, dirt, checkouts and settings are told as git has them."""
    user = git.Repository.discover(repo)
    head = sh(repo, "rev-parse", "HEAD")
    assert (
        user.resolve("HEAD")
        == user.resolve("main~0")
        == user.branch_commit("main")
        == user.head_commit()
        == head
    )
    assert user.resolve("nothing") is user.resolve("--help") is user.resolve("HEAD:README.md") is None
    assert user.branch_commit("mai") is None
    assert user.head_branch() == "main"
    sh(repo, "worktree", "add", "-q", "-b", "side", str(tmp_path / "a b"))
    assert user.worktrees_of_branch("side") == [tmp_path / "a b"]
    assert user.worktrees_of_branch("none") == []
    sh(repo, "checkout", "-q", "--detach")
    assert user.head_branch() is None


def test_identity_is_never_made_up(repo: Path) -> None:
    """The user's identity is what is configured; without one there is none, whatever the host is called."""
    user = git.Repository.discover(repo)
    assert user.identity() == ("Ada", "ada@example.org")
    sh(repo, "config", "--unset", "user.email")
    assert user.identity() is None


def test_probe_knows_a_git_that_is_too_old(fake_git: Path) -> None:
    """The probe passes for this git and names the version of one that can't merge in memory."""
    real = shutil.which("git", path=os.environ["PATH"].partition(":")[2])
    fake_git.write_text(f'#!/bin/sh\nexec "{real}" "$@"\n')
    git.probe()
    fake_git.write_text(
        f"""#!/bin/sh
case "$*" in *merge-tree*) echo "usage: git merge-tree <base-tree> <branch1> <branch2>" >&2; exit 129;; esac
exec "{real}" "$@"
"""
    )
    with pytest.raises(git.GitError, match=r"can't merge in memory \(git version") as told:
        git.probe()
    assert "2.38" in told.value.next_step


# --- objects ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_commits_written_are_commits_of_git(tmp_path: Path, object_format: str) -> None:
    """A commit written without git has the id and the bytes that git gives it, and passes its strictest check."""
    sh(tmp_path, "init", "-q", f"--object-format={object_format}", "-b", "main", "repo")
    repo = tmp_path / "repo"
    (repo / "ä").write_text("x")
    sh(repo, "add", "-A")
    tree = sh(repo, "write-tree")
    root = git.write_commit(repo / ".git", tree, (), "root", WHO, WHO)
    made = git.write_commit(
        repo / ".git", tree, (root,), "süß\n\nbody\n", WHO, git.Signature("B <x>\n", "b@c d", 9.7)
    )
    env = {**os.environ, "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
    env |= {"GIT_COMMITTER_NAME": "B x", "GIT_COMMITTER_EMAIL": "b@cd"}
    env |= {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "@9 +0000"}
    args = ["git", "commit-tree", tree, "-p", root, "-m", "süß\n\nbody\n"]
    assert (
        subprocess.run(args, cwd=repo, env=env, check=True, capture_output=True, text=True).stdout.strip()
        == made
    )
    sh(repo, "update-ref", "refs/heads/main", made)
    assert git.run("fsck", "--strict", git_dir=repo / ".git").err.replace("notice: ", "") == ""
    again = git.write_commit(
        repo / ".git", tree, (root,), "süß\n\nbody\n", WHO, git.Signature("B x", "b@cd", 9)
    )
    assert again == made
    mode = (repo / ".git" / "objects" / made[:2] / made[2:]).stat().st_mode
    assert mode & 0o222 == 0
    assert not list((repo / ".git" / "objects").rglob("tmp_obj_*"))


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_folders_are_what_git_lists(tmp_path: Path, object_format: str) -> None:
    """A folder, loose or packed, holds what `ls-tree` lists, whatever bytes are in ids and names; what is none is an error."""
    sh(tmp_path, "init", "-q", f"--object-format={object_format}")
    for number in range(100):  # enough for ids with nearly every byte in them
        (tmp_path / f"{number}\nä b").write_text(str(number))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "run").touch(mode=0o755)
    (tmp_path / "link").symlink_to("folder")
    sh(tmp_path, "add", "-A")
    oid = sh(tmp_path, "hash-object", "-w", "folder/run")
    sh(tmp_path, "update-index", "--add", "--cacheinfo", f"160000,{oid},module")
    top = sh(tmp_path, "write-tree")
    opened = git.Objects(tmp_path / ".git")
    try:
        for _ in range(2):
            trees = [top, sh(tmp_path, "rev-parse", f"{top}:folder")]
            for tree, found in zip(trees, opened.trees(trees), strict=True):
                listed = git.run("ls-tree", "-z", tree, git_dir=tmp_path / ".git").out.split(b"\0")[:-1]
                told = {line.split(b"\t")[1]: line.split()[0:3:2] for line in listed}
                assert {name: [held.mode.encode(), held.oid.encode()] for name, held in found.items()} == told
            sh(tmp_path, "repack", "-q", "-d", "-a", "-k")
        for none in (oid, "1" * len(top)):
            with pytest.raises(git.GitError, match="no tree"):
                opened.trees([top, none])
    finally:
        opened.close()


def test_what_is_written_is_read_back(repo: Path, objects: git.Objects) -> None:
    """Names, zones, encodings and messages come back from a commit as they went in."""
    tree = objects.tree_of(sh(repo, "rev-parse", "HEAD"))
    author = git.Signature("Jörg", "j@x", 1, "-0330")
    made = git.write_commit(repo / ".git", tree, (), "caf\udce9\n", author, WHO, encoding="ISO-8859-1")
    read = objects.commit(made)
    assert (read.author, read.committer, read.message, read.encoding) == (
        author,
        WHO,
        "caf\udce9\n",
        "ISO-8859-1",
    )
    assert (read.tree, read.parents, read.subject) == (tree, (), "caf\udce9")


def test_objects_that_are_not_there(repo: Path, objects: git.Objects) -> None:
    """An object that is missing is None, or an error where a commit was asked for; an odd name is refused."""
    blob = sh(repo, "rev-parse", "HEAD:README.md")
    assert objects.kinds([blob, "12" * 20]) == [("blob", 12), None]
    assert objects.read(["12" * 20, blob]) == [None, git.Found("blob", b"# A project\n")]
    for oid in (blob, "12" * 20):
        with pytest.raises(git.GitError, match="is not a commit"):
            objects.commit(oid)
    for name in ("HEAD", f"{blob}\ninfo {blob}", ""):
        with pytest.raises(ValueError, match="not an object id"):
            objects.kind(name)


def test_a_tree_that_is_not_there_is_no_empty_one(repo: Path, objects: git.Objects) -> None:
    """What differs can't be told where one of the trees is missing, at the top or below: that is an error and never "nothing"."""
    top, below = sh(repo, "rev-parse", "HEAD^{tree}", "HEAD:src").splitlines()
    empty = sh(repo, "mktree")
    for oid, pairs in ((below, [(empty, top), (top, empty)]), (top, [(top, empty), (empty, top)])):
        (repo / ".git" / "objects" / oid[:2] / oid[2:]).unlink()
        for pair in pairs:
            with pytest.raises(git.GitError):
                objects.diff(*pair)
            with pytest.raises(git.GitError):
                objects.diffs([(empty, empty), pair])


def test_differences_are_gits(repo: Path, objects: git.Objects) -> None:
    """Added, deleted, changed, moved and retyped paths are listed, with odd names and without folders."""
    before = sh(repo, "rev-parse", "HEAD")
    sh(repo, "mv", "src/a.py", "src/moved é\n.py")
    sh(repo, "rm", "-q", "src/b.py")
    (repo / "deep" / "er").mkdir(parents=True)
    (repo / "deep" / "er" / "new").write_text("n")
    (repo / "README.md").unlink()
    (repo / "README.md").symlink_to("deep")
    sh(repo, "add", "-A")
    sh(repo, "commit", "-qm", "second")
    after = sh(repo, "rev-parse", "HEAD")
    expected = {"src/a.py", "src/moved é\n.py", "src/b.py", "deep/er/new", "README.md"}
    assert set(objects.changed_paths(before, after)) == expected
    assert objects.changed_paths(after, after) == ()
    assert set(objects.changed_paths(after, before)) == expected


def test_folder_in_place_of_a_file(repo: Path, objects: git.Objects) -> None:
    """A file that becomes a folder is listed, and so is what is in the folder."""
    before = sh(repo, "rev-parse", "HEAD")
    (repo / "README.md").unlink()
    (repo / "README.md").mkdir()
    (repo / "README.md" / "in").write_text("x")
    sh(repo, "add", "-A")
    sh(repo, "commit", "-qm", "second")
    assert set(objects.changed_paths(before, sh(repo, "rev-parse", "HEAD"))) == {"README.md", "README.md/in"}


def test_new_objects_and_packs_are_seen(repo: Path, objects: git.Objects) -> None:
    """A standing helper sees objects written after it started, and still sees all after a repack."""
    head = sh(repo, "rev-parse", "HEAD")
    assert objects.kind(head) == "commit"
    (repo / "new").write_text("new")
    sh(repo, "add", "-A")
    sh(repo, "commit", "-qm", "second")
    newer = sh(repo, "rev-parse", "HEAD")
    assert objects.kind(newer) == "commit"
    sh(repo, "gc", "-q", "--prune=now")
    assert objects.changed_paths(head, newer) == ("new",)
    assert objects.read([newer, head])[1] is not None


def test_dead_and_silent_helpers(repo: Path, objects: git.Objects) -> None:
    """A helper that was killed is replaced at the next question, again and again."""
    head = sh(repo, "rev-parse", "HEAD")
    for _ in range(6):
        assert objects.kind(head) == "commit"
        pid = objects._contents.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


def test_helper_that_never_works_is_given_up(
    repo: Path, fake_git: Path, objects: git.Objects, tmp_path: Path
) -> None:
    """Where a standing helper always dies, each question takes a process of its own, and no more helpers are started."""
    log = tmp_path / "log"
    head = "12" * 20
    fake_git.write_text(f'#!/bin/sh\necho x >> "{log}"\nexit 9\n')
    for _ in range(4):
        with pytest.raises(git.GitError):
            objects.kind(head)
    started = len(log.read_text().split())
    with pytest.raises(git.GitError):
        objects.kind(head)
    assert len(log.read_text().split()) == started + 1


def test_helper_that_says_nothing_is_killed(repo: Path, fake_git: Path) -> None:
    """A helper that does not answer within the limit is killed, and the question raises."""
    fake_git.write_text("#!/bin/sh\nexec sleep 600\n")
    helper = git.Helper(("cat-file", "--batch-command"), repo / ".git", limit_s=0.3)
    with pytest.raises(git.GitTimedOut):
        helper.ask(b"info x\n", lambda got: None)
    assert helper.pid() is None
    helper.close()


def test_helper_is_renewed(repo: Path) -> None:
    """A helper with a bounded life is replaced when it has answered so often, and answers alike."""
    helper = git.Helper(("cat-file", "--batch-command"), repo / ".git", renew_after=2)
    pids = set()
    for _ in range(5):
        assert helper.ask(
            b"info " + b"12" * 20 + b"\n", lambda got: len(got) if got.endswith(b"\n") else None
        )
        pids.add(helper.pid())
    assert len(pids - {None}) == 3
    helper.close()


def test_large_batches_through_one_helper(repo: Path, objects: git.Objects) -> None:
    """Thousands of questions at once, with megabytes of answers, are cut into the right pieces."""
    made = {
        git.write_loose(objects.folder, b"blob", b"\n%d missing\n" % k * 50, sha256=False, durable=False): k
        for k in range(2000)
    }
    read = objects.read(list(made))
    assert all(
        item is not None and item.body == b"\n%d missing\n" % k * 50
        for item, k in zip(read, made.values(), strict=True)
    )


# --- refs -------------------------------------------------------------------------------------------------------------------


def test_compare_and_swap(repo: Path, refs: git.Refs) -> None:
    """A ref moves only from where it was said to be; the repeat of a move is done; the loser is told where it stands."""
    first = sh(repo, "rev-parse", "HEAD")
    second = sh(repo, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "second")
    refs.move("refs/heads/x", first, git.ZERO)
    refs.move("refs/heads/x", first, git.ZERO)
    refs.move("refs/heads/x", second, first)
    with pytest.raises(git.RefMoved) as moved:
        refs.move("refs/heads/x", git.Refs(repo / ".git").read("refs/heads/main") or "", first)
    assert moved.value.found == second
    with pytest.raises(git.RefMoved):
        refs.commit([git.RefChange("refs/heads/x", None, first)])
    refs.commit([git.RefChange("refs/heads/x", None, second)])
    refs.commit([git.RefChange("refs/heads/x", None, second)])
    assert refs.read("refs/heads/x") is None


def test_transaction_is_all_or_none(repo: Path, refs: git.Refs) -> None:
    """Of several changes either all are carried out or none."""
    head = sh(repo, "rev-parse", "HEAD")
    with pytest.raises(git.RefMoved) as moved:
        refs.commit(
            [
                git.RefChange("refs/heads/new", head, git.ZERO),
                git.RefChange("refs/heads/gone", head, "12" * 20),
            ]
        )
    assert (moved.value.ref, moved.value.found) == ("refs/heads/gone", None)
    assert refs.read("refs/heads/new") is None
    refs.commit([git.RefChange(f"refs/heads/n{k}", head, git.ZERO) for k in range(50)])
    assert all(refs.read(f"refs/heads/n{k}") == head for k in range(50))


@pytest.mark.usefixtures("hasty")
def test_ref_locked_by_another(repo: Path, refs: git.Refs) -> None:
    """A ref that stays locked is an error of git, not a ref that moved."""
    head = sh(repo, "rev-parse", "HEAD")
    refs.move("refs/heads/x", head, git.ZERO)
    (repo / ".git" / "refs" / "heads" / "x.lock").touch()
    other = sh(repo, "commit-tree", "HEAD^{tree}", "-m", "other")
    with pytest.raises(git.GitError, match="lock") as failed:
        refs.move("refs/heads/x", other, head)
    assert not isinstance(failed.value, git.RefMoved)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("name", "age_s", "goes"),
    [("swarm/r/staging", 20, True), ("swarm/r/staging", 1, False), ("main", 3600, False)],
)
def test_the_lock_of_a_killed_git_goes_by_the_next_try(
    repo: Path, refs: git.Refs, name: str, age_s: float, goes: bool
) -> None:
    """A lock that a git held far too long is removed, where the ref is ours; a young one, and any of the user's, stays."""
    lock = repo / ".git" / "refs" / "heads" / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    made = time.time() - age_s
    os.utime(lock, (made, made))
    new = sh(repo, "commit-tree", "HEAD^{tree}", "-m", "new")
    with pytest.raises(git.GitError, match="lock"):
        refs.move(f"refs/heads/{name}", new, None)
    assert lock.exists() is not goes
    if goes:
        refs.move(f"refs/heads/{name}", new, None)
    assert (refs.read(f"refs/heads/{name}") == new) is goes


def test_an_object_is_on_the_disk_before_it_has_its_name(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a ref may name after a power cut has been synced: a loose object is, before it is moved to where git looks."""
    synced: list[int] = []
    sync = os.fsync

    def noted(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        sync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    store = repo / ".git" / "objects"
    oid = git.write_loose(str(store), b"blob", b"kept\n", sha256=False, durable=True)
    assert (store / oid[:2] / oid[2:]).stat().st_ino in synced


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("call", "left", "moved", "goes"),
    [
        ("rename:when=1", {"refs/heads/main.lock", "HEAD.lock"}, False, True),
        ("write:when=3", {"refs/heads/main.lock"}, False, True),
        ("unlink:when=1", {"HEAD.lock"}, True, True),
        ("write:when=2", {"refs/heads/main.lock"}, False, False),  # empty still: it could be anybody's
    ],
)
def test_the_locks_of_our_killed_git_go_from_the_users_branch(
    repo: Path, refs: git.Refs, call: str, left: set[str], moved: bool, goes: bool
) -> None:
    """What a git of ours left locked that was killed while it moved the user's branch is known by the commit it was to move to, or
    by its line in the log; it is removed, and the user can commit. Whatever else is there is named with its age, and stays."""
    need_to_trace()
    folder, old = repo / ".git", sh(repo, "rev-parse", "main")
    new = sh(repo, "commit-tree", "HEAD^{tree}", "-p", old, "-m", "new")
    inject = (
        "strace",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"inject={call.partition(':')[0]}:signal=KILL:when={call[-1]}",
    )
    subprocess.run(
        [*inject, "git", "update-ref", "-m", "swarm", "--stdin"], cwd=repo, check=False,
        input=f"start\nupdate refs/heads/main {new} {old}\nprepare\ncommit\n".encode(),
    )  # fmt: skip
    locks = {str(path.relative_to(folder)) for path in folder.rglob("*.lock")}
    assert (locks, sh(repo, "rev-parse", "main") == new) == (left, moved)
    if not goes:
        with pytest.raises(git.GitError, match=r"main\.lock is there, made \d+ s ago"):
            refs.move("refs/heads/main", new, old)
        assert list(folder.rglob("*.lock"))
        return
    refs.move("refs/heads/main", new, old)
    assert refs.read("refs/heads/main") == new
    sh(repo, "commit", "--allow-empty", "-q", "-m", "mine")


@pytest.mark.parametrize(("noted", "age_s"), [(True, 60.0), (True, 1.0), (False, 60.0)])
def test_an_empty_lock_of_the_users_branch_goes_where_it_is_known_to_be_ours(
    repo: Path, refs: git.Refs, *, noted: bool, age_s: float
) -> None:
    """A lock into which nothing was written yet is removed where a git of ours was moving this branch when it was killed, as soon
    as no git that lives can have made it; else it stays and is named."""
    folder, old = repo / ".git", sh(repo, "rev-parse", "main")
    new = sh(repo, "commit-tree", "HEAD^{tree}", "-p", old, "-m", "new")
    (folder / "swarm").mkdir()
    lock, note = folder / "refs" / "heads" / "main.lock", folder / "swarm" / "moving"
    killed = (
        "import os, sys; from pathlib import Path; from swarm.edge import git\n"
        "git.Refs._commit = lambda *_: (Path(sys.argv[2]).touch(), os._exit(0))\n"
        "git.Refs(sys.argv[1]).move('refs/heads/main', *sys.argv[3:])\n"
    )
    subprocess.run([sys.executable, "-c", killed, folder, lock, new, old], check=True)
    assert note.exists()
    if not noted:
        note.unlink()
    made = time.time() - age_s
    for path in (note, lock) if noted else (lock,):
        os.utime(path, (made, made))
    if noted:
        if age_s < STALE_LOCK_S:  # tried too early: it is not forgotten
            with pytest.raises(git.GitError, match=r"main\.lock is there"):
                refs.move("refs/heads/main", new, old)
            assert note.exists()
            os.utime(note, (made - 60, made - 60))
            os.utime(lock, (made - 60, made - 60))
        refs.move("refs/heads/main", new, old)
        assert refs.read("refs/heads/main") == new
        assert not lock.exists()
        assert not note.exists()
    else:
        with pytest.raises(git.GitError, match=r"main\.lock is there, made \d+ s ago"):
            refs.move("refs/heads/main", new, old)
        assert lock.exists()


def test_a_head_that_the_user_has_locked_stays_locked(repo: Path, refs: git.Refs) -> None:
    """A lock of HEAD that a git of the user's holds is none of ours, whatever we moved before."""
    old = sh(repo, "rev-parse", "main")
    new = sh(repo, "commit-tree", "HEAD^{tree}", "-p", old, "-m", "new")
    refs.move("refs/heads/main", new, old)
    lock = repo / ".git" / "HEAD.lock"
    lock.touch()
    made = time.time() + 60
    os.utime(lock, (made, made))
    refs.release("refs/heads/main", new)
    assert lock.exists()


@pytest.mark.parametrize("packed", [False, True])
def test_refs_are_read_exactly(repo: Path, packed: bool) -> None:
    """Loose, packed and symbolic refs are read by their full name only; a branch named like the start of another is none."""
    head = sh(repo, "rev-parse", "HEAD")
    sh(repo, "branch", "a/b/c")
    sh(repo, "tag", "-a", "-m", "t", "v1")
    sh(repo, "update-ref", "refs/tags/refs/heads/trap", head)
    sh(repo, "symbolic-ref", "refs/heads/link", "refs/heads/main")
    if packed:
        sh(repo, "pack-refs", "--all")
    common = repo / ".git"
    assert git.read_ref(common, "refs/heads/a/b/c") == git.read_ref(common, "refs/heads/link") == head
    assert git.read_ref(common, "refs/tags/v1") == sh(repo, "rev-parse", "v1")
    for name in (
        "refs/heads/a/b",
        "refs/heads/a",
        "refs/heads/trap",
        "refs/heads/b/c",
        "heads/main",
        "x" * 300,
    ):
        assert git.read_ref(common, name) is None


def test_names_that_would_be_something_else(refs: git.Refs) -> None:
    """A ref name with a blank or a line end is refused before git sees it."""
    for name in ("refs/heads/a b", "refs/heads/a\ndelete refs/heads/main", ""):
        with pytest.raises((ValueError, SwarmError)):
            refs.move(name, "12" * 20, None)
    assert refs.read("refs/heads/main") is not None


def test_eight_writers_lose_nothing(repo: Path) -> None:
    """Eight threads that each add to one ref by compare-and-swap lose no step and double none."""
    refs = git.Refs(repo / ".git")
    objects = git.Objects(repo / ".git")
    tree = objects.tree_of(sh(repo, "rev-parse", "HEAD"))
    refs.move("refs/heads/count", sh(repo, "rev-parse", "HEAD"), git.ZERO)

    def add(k: int) -> None:
        for n in range(5):
            while True:
                old = refs.read("refs/heads/count") or ""
                new = git.write_commit(repo / ".git", tree, (old,), f"{k} {n}", WHO, WHO)
                try:
                    refs.move("refs/heads/count", new, old)
                    break
                except git.RefMoved:
                    continue

    threads = [threading.Thread(target=add, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    subjects = sh(repo, "log", "--format=%s", "main..count").splitlines()
    assert sorted(subjects) == sorted(f"{k} {n}" for k in range(8) for n in range(5))
    refs.close()
    objects.close()


def test_a_git_that_reads_for_long_can_be_ended(repo: Path) -> None:
    """What reads all that somebody left is killed by a word from another thread; one who is told so reads nothing else either."""
    os.mkfifo(repo / "endless")
    with ThreadPoolExecutor(1) as threads:
        reader = git.Reader()
        for end, raised in ((git.end_readers, git.GitError), (reader.end, git.GitEnded)):
            running = threads.submit(git.run, "hash-object", "endless", cwd=repo, reader=reader)
            wait_until(lambda: bool(call._readers))
            end()
            with pytest.raises(git.GitError) as told:
                running.result(60)
            assert type(told.value) is raised
        with pytest.raises(git.GitEnded):
            git.run("hash-object", "endless", cwd=repo, reader=reader)
    assert not call._readers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_git_is_being_started_leaves_none_running(
    repo: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Ctrl-C that comes before anybody has the new process in hand ends it too, and is not overlooked."""
    started = []

    class Interrupted(subprocess.Popen[bytes]):
        """A child whose start a signal falls into."""

        def __init__(self, *args: Any, **named: Any) -> None:
            """Starts it."""
            super().__init__(*args, **named)
            started.append(self.pid)
            signal.raise_signal(number)

    os.mkfifo(repo / "endless")
    before = signal.signal(number, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "Popen", Interrupted)
            with pytest.raises(KeyboardInterrupt):
                git.run("hash-object", "endless", cwd=repo)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert [is_gone(pid) for pid in started] == [True]

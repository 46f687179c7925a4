"""The landing repository against real git: what is brought in is whole, what merges is what git says, staging never lies."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swarm.daemon import reconcile
from swarm.daemon.reconcile import Known
from swarm.edge import git, pruning
from swarm.edge.landing import (
    PINS,
    Incoming,
    LandingCheckFailed,
    LandingRepository,
    StagingBranchMoved,
    finish_ref,
    pin_ref,
    staging_ref,
)
from swarm.edge.lockfile import MergeLockHeld, exclusive
from swarm.edge.merging import Conflict, Merged, Replayed
from swarm.errors import Refused
from tests.adversity import need_to_write
from tests.conftest import git as sh
from tests.conftest import wait_for_session

LINES = "".join(f"line {n}\n" for n in range(20))


def work(
    repo: Path, base: str, files: Mapping[str, str | None], *, name: str = "topic", message: str = "work"
) -> str:
    """Commits files (None deletes) on top of `base`, keeps it on a branch, and gives the commit."""
    sh(repo, "checkout", "-q", "--detach", base)
    for path, text in files.items():
        target = repo / path
        if text is None:
            target.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    sh(repo, "add", "-A")
    sh(repo, "commit", "-q", "--allow-empty", "-m", message)
    head = sh(repo, "rev-parse", "HEAD")
    sh(repo, "branch", "-f", name, head)
    sh(repo, "checkout", "-q", "main")
    return head


class Yard:
    """A repository with its landing repository, and the steps of a landing in one word each."""

    def __init__(self, repo: Path, path: Path | None = None) -> None:
        self.repo = repo
        self.user = git.Repository.discover(repo)
        self.path = path or self.user.common_dir / "swarm" / "landing.git"
        self.landing = LandingRepository(self.path, self.user)
        self.landing.open_or_create()
        self.base = self.user.head_commit()
        self.landing.seed("run", self.base)
        self.landing.publish("run", self.base, self.base)
        self.lock = repo.parent / f"{repo.name}.lock"

    def bring(self, head: str, task: str = "t", base: str = "") -> None:
        self.landing.bring_in([Incoming(pin_ref("run", task, 1), head, base or self.base)])

    def candidate(self, head: str, task: str = "t", base: str = "") -> tuple[str, str]:
        onto = self.landing.staging("run")
        assert onto is not None
        self.bring(head, task, base)
        merged = self.landing.merge(onto, head, run="run", base=base or self.base)
        assert isinstance(merged, Merged), merged
        message = f"Land {task}: x\n\nSwarm-Run: run\nSwarm-Task: {task}\n"
        return onto, self.landing.candidate(merged.tree, onto, head, message=message, at=1_700_000_000)

    def land(self, head: str, task: str = "t", base: str = "", *, publish: bool = True) -> str:
        onto, new = self.candidate(head, task, base)
        self.landing.check(new, onto, head, base or self.base, run="run")
        with exclusive(self.lock, kind=MergeLockHeld) as held:
            assert self.landing.advance("run", new, onto, lock=held) is None
        if publish:
            self.landing.publish("run", new, onto)
        return new

    def fsck(self) -> None:
        for folder in (self.path, self.user.common_dir):
            done = git.run("fsck", "--strict", "--no-dangling", git_dir=folder)
            assert "missing" not in done.err + done.text


@pytest.fixture
def yard(repo: Path) -> Iterator[Yard]:
    """The landing repository of `repo`, seeded for the run "run"."""
    made = Yard(repo)
    yield made
    made.landing.close()


def files(git_dir: Path, commit: str) -> list[str]:
    return git.run("ls-tree", "-r", "--name-only", commit, git_dir=git_dir).text.splitlines()


# --- twins ---------------------------------------------------------------------------------------------------------------


def test_a_name_that_differs_in_case_from_what_another_landed_is_a_conflict(yard: Yard) -> None:
    """Two attempts that each add one of two twins can't both land: the second conflicts in both names and is told why, unless the
    settings let twins land; what merges with what another landed beside it lands."""
    first = work(yard.repo, yard.base, {"src/New.py": "1"})
    second = work(yard.repo, yard.base, {"src/new.py": "2", "src/other.py": "3"})
    honest = work(yard.repo, yard.base, {"src/honest.py": "4"})
    onto = yard.land(first, "one")
    for head in (second, honest):
        yard.bring(head, head[:8])
    strict = LandingRepository(yard.path, yard.user, twins_land=False)
    met = strict.merge_attempt(onto, second, run="run", base=yard.base)
    assert isinstance(met, Conflict)
    assert (met.paths, met.blobs) == (("src/New.py", "src/new.py"), ())
    assert met.messages == (
        "src/New.py and src/new.py differ in case alone, and on some machines are one file",
    )
    assert isinstance(strict.merge_attempt(onto, honest, run="run", base=yard.base), Merged)
    assert isinstance(yard.landing.merge_attempt(onto, second, run="run", base=yard.base), Merged)
    strict.close()


# --- seeding ----------------------------------------------------------------------------------------------------------------


def test_seed_brings_only_the_base(repo: Path) -> None:
    """Seeding brings the base whole and none of the history below it."""
    first = sh(repo, "rev-parse", "HEAD")
    work(repo, first, {"c.py": "c"}, name="main2")
    sh(repo, "merge", "-q", "--ff-only", "main2")
    yard = Yard(repo)
    assert yard.landing.staging("run") == yard.landing.base("run") == yard.base
    assert yard.landing.objects.kind(first) is None
    yard.fsck()
    yard.landing.close()


def test_seed_twice_is_once(yard: Yard) -> None:
    """Seeding again gives where staging stands, even after landings and by another process's eyes."""
    landed = yard.land(work(yard.repo, yard.base, {"n": "1"}))
    again = LandingRepository(yard.path, yard.user)
    again.open_or_create()
    assert again.seed("run", yard.base) == landed
    again.close()


def test_half_made_repository_is_completed(repo: Path, tmp_path: Path) -> None:
    """A landing repository whose making was killed at any point is completed by the next opening."""
    user = git.Repository.discover(repo)
    whole = tmp_path / "whole.git"
    LandingRepository(whole, user).open_or_create()
    for cut in ("config", "HEAD", "objects", "refs"):
        path = tmp_path / f"half-{cut}.git"
        shutil.copytree(whole, path)
        (path / "config").write_text("[core]\n\tbare = tr")
        for name in ("config.lock", "HEAD.lock"):
            (path / name).touch()
        gone = path / cut
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink(missing_ok=True)
        landing = LandingRepository(path, user)
        landing.open_or_create()
        assert landing.seed("run", user.head_commit()) == user.head_commit()
        landing.close()


@pytest.mark.parametrize(
    "does",
    [
        ("config", "user.name", "Evil"),
        ("config", "core.bare", "false"),
        ("config", "core.hooksPath", "hooks"),
        ("config", "core.filemode", "false"),
        ("config", "--unset", "gc.auto"),
        ("config", "extensions.worktreeConfig", "true"),
    ],
)
def test_settings_of_others_go(yard: Yard, does: tuple[str, ...]) -> None:
    """Settings that somebody left in the landing repository are gone when it is opened again, and what has landed is there."""
    own = (yard.path / "config").read_text()
    landed = yard.land(work(yard.repo, yard.base, {"n": "1"}))
    sh(yard.path, *does)
    (yard.path / "info").mkdir(exist_ok=True)
    (yard.path / "info" / "attributes").write_text("* merge=ours\n")
    (yard.path / "config.worktree").write_text("[user]\n\tname = Evil\n")
    again = LandingRepository(yard.path, yard.user)
    again.open_or_create()
    assert (yard.path / "config").read_text() == own
    assert not (yard.path / "info" / "attributes").exists()
    assert not (yard.path / "config.worktree").exists()
    assert again.staging("run") == landed
    again.close()


def test_settings_that_are_whole_stay(yard: Yard) -> None:
    """Opening a landing repository that is as it was made writes nothing."""
    before = (yard.path / "config").stat()
    again = LandingRepository(yard.path, yard.user)
    again.open_or_create()
    assert (yard.path / "config").stat() == before
    again.close()


def test_seed_after_a_killed_seed(repo: Path, tmp_path: Path) -> None:
    """A seed that was killed after the cut, or after the objects came, is carried out again to the same end."""
    user = git.Repository.discover(repo)
    base = user.head_commit()
    landing = LandingRepository(tmp_path / "l.git", user)
    landing.open_or_create()
    (tmp_path / "l.git" / "shallow").write_text(f"{base}\n")
    assert landing.seed("run", base) == base
    landing.close()
    for ref in (staging_ref("run"), f"refs/bases/{'run'}"):
        git.run("update-ref", "-d", ref, git_dir=tmp_path / "l.git")
    again = LandingRepository(tmp_path / "l.git", user)
    assert again.seed("run", base) == base
    again.close()


def test_seed_killed_between_its_refs_is_completed(repo: Path, tmp_path: Path) -> None:
    """Killed when the base was noted and staging not, the next seed makes staging: without it nothing could ever land."""
    user = git.Repository.discover(repo)
    base = user.head_commit()
    landing = LandingRepository(tmp_path / "l.git", user)
    landing.open_or_create()
    landing.seed("run", base)
    git.run("update-ref", "-d", staging_ref("run"), git_dir=tmp_path / "l.git")
    assert landing.seed("run", base) == base
    assert landing.staging("run") == base
    landing.close()


def test_branch_in_the_way_is_named(yard: Yard) -> None:
    """A branch called swarm, or swarm/<run>, refuses the run before anything is made."""
    sh(yard.repo, "branch", "-D", "swarm/run/staging")
    sh(yard.repo, "branch", "swarm")
    with pytest.raises(Refused, match='branch named "swarm" is in the way'):
        yard.landing.seed("other", yard.base)
    sh(yard.repo, "branch", "-D", "swarm")
    sh(yard.repo, "branch", "swarm/other")
    with pytest.raises(Refused, match='branch named "swarm/other" is in the way'):
        yard.landing.seed("other", yard.base)
    assert yard.landing.staging("other") is None


def test_second_run_from_what_the_first_landed(yard: Yard) -> None:
    """A run may start from a commit that another run landed, and from one the landing repository has never seen."""
    landed = yard.land(work(yard.repo, yard.base, {"n": "1"}))
    assert yard.landing.seed("two", landed) == landed
    other = work(yard.repo, yard.base, {"o": "1"}, name="other")
    assert yard.landing.seed("three", other) == other
    yard.fsck()


# --- bringing in and publishing --------------------------------------------------------------------------------------------


def test_a_landing_from_end_to_end(yard: Yard) -> None:
    """What a worker committed is on staging in both repositories, as a merge with the old staging first."""
    head = work(yard.repo, yard.base, {"src/new.py": "new\n", "src/a.py": LINES.replace("line 3", "LINE 3")})
    landed = yard.land(head)
    assert sh(yard.repo, "rev-parse", "swarm/run/staging") == landed == yard.landing.staging("run")
    assert sh(yard.repo, "show", "-s", "--format=%P %an", landed) == f"{yard.base} {head} swarm"
    assert sh(yard.repo, "show", f"{landed}:src/new.py") == "new"
    assert yard.landing.above("run", yard.base) == [landed]
    yard.fsck()


def test_many_landings_from_one_old_base_equal_git_merge(yard: Yard) -> None:
    """Topics cut from the same old base give, landed one by one, the trees that `git merge` gives."""
    sh(yard.repo, "branch", "expected")
    for n in range(12):
        head = work(
            yard.repo, yard.base, {f"d{n % 3}/f{n}.txt": f"{n}\n", "src/b.py": "b = 1\n" if n else "b = 2\n"}
        )
        landed = yard.land(head, f"t{n}")
        sh(yard.repo, "checkout", "-q", "expected")
        sh(yard.repo, "merge", "-q", "--no-ff", "-m", "m", head)
        expected = sh(yard.repo, "rev-parse", "HEAD^{tree}")
        sh(yard.repo, "checkout", "-q", "main")
        assert sh(yard.repo, "rev-parse", f"{landed}^{{tree}}") == expected
    assert len(yard.landing.above("run", yard.base)) == 12


def test_bring_in_survives_gc_in_the_users_repository(yard: Yard) -> None:
    """Once brought in, a commit lands whole although its branch is deleted and everything unreachable pruned there."""
    head = work(yard.repo, yard.base, {"n": "precious\n"})
    yard.bring(head)
    sh(yard.repo, "branch", "-D", "topic")
    sh(yard.repo, "reflog", "expire", "--expire=now", "--all")
    sh(yard.repo, "gc", "-q", "--prune=now")
    assert sh(yard.repo, "cat-file", "-t", head, check=False) == ""
    landed = yard.land(head)
    assert sh(yard.repo, "show", f"{landed}:n") == "precious"
    yard.fsck()


def test_bring_in_twice_and_several_at_once(yard: Yard) -> None:
    """Several attempts come in by one call; those that are pinned already are left alone, even if gone from their origin."""
    heads = [work(yard.repo, yard.base, {f"n{k}": "x"}, name=f"t{k}") for k in range(3)]
    items = [Incoming(pin_ref("run", f"t{k}", 1), head, yard.base) for k, head in enumerate(heads)]
    yard.landing.bring_in(items[:2])
    yard.landing.bring_in(items)
    for item in items:
        assert git.read_ref(yard.path, item.ref) == item.head
    shutil.move(yard.repo / ".git" / "objects", yard.repo / ".git" / "hidden")
    yard.landing.bring_in(items)


def test_much_work_comes_in_as_a_pack(yard: Yard) -> None:
    """A commit of 600 files comes in, lands and is published just like one of one file."""
    landed = yard.land(work(yard.repo, yard.base, {f"many/{k // 50}/f{k}.txt": f"{k}\n" for k in range(600)}))
    assert len(files(yard.user.common_dir, landed)) == 603
    yard.fsck()


def test_odd_names_come_in(yard: Yard) -> None:
    """Names with blanks, umlauts, quotes and bytes that are no UTF-8 land unchanged."""
    raw = os.fsdecode(b"raw-\xff.txt")
    head = work(yard.repo, yard.base, {"a b.txt": "1", "süß/ö.txt": "2", "q\"'.txt": "3", raw: "4"})
    landed = yard.land(head)
    assert set(yard.landing.objects.changed_paths(yard.base, landed)) == {
        "a b.txt",
        "süß/ö.txt",
        "q\"'.txt",
        raw,
    }
    yard.fsck()


def crafted(repo: Path, base: str, entries: bytes, parents: tuple[str, ...] | None = None) -> str:
    """Writes a commit whose tree is the given raw bytes, as a hostile worker can."""
    store = str(repo / ".git" / "objects")
    tree = git.write_loose(store, b"tree", entries, sha256=False, durable=False)
    who = git.Signature("m", "m@example.org", 1_700_000_000)
    return git.write_commit(repo / ".git", tree, parents or (base,), "crafted", who, who)


@pytest.mark.parametrize("name", [b".git", b".GIT", b"..", b"a/b", b"git~1"])
def test_broken_trees_are_refused(yard: Yard, name: bytes) -> None:
    """A tree with a name that a checkout must never write is refused by git's own check, and nothing is pinned."""
    blob = git.write_loose(str(yard.repo / ".git" / "objects"), b"blob", b"x", sha256=False, durable=False)
    head = crafted(yard.repo, yard.base, b"100644 " + name + b"\0" + bytes.fromhex(blob))
    with pytest.raises(git.GitError):
        yard.bring(head)
    assert git.read_ref(yard.path, pin_ref("run", "t", 1)) is None


def test_unsorted_and_doubled_trees_are_refused(yard: Yard) -> None:
    """Trees whose entries are out of order or appear twice are refused."""
    blob = bytes.fromhex(
        git.write_loose(str(yard.repo / ".git" / "objects"), b"blob", b"x", sha256=False, durable=False)
    )
    for entries in (b"100644 b\0" + blob + b"100644 a\0" + blob, b"100644 a\0" + blob + b"100644 a\0" + blob):
        with pytest.raises(git.GitError):
            yard.bring(crafted(yard.repo, yard.base, entries))


def test_commit_with_missing_parts_is_refused(yard: Yard) -> None:
    """A commit that refers to a blob nobody has is refused, and nothing is pinned."""
    head = crafted(yard.repo, yard.base, b"100644 a\0" + bytes.fromhex("12" * 20))
    with pytest.raises(git.GitError):
        yard.bring(head)
    assert git.read_ref(yard.path, pin_ref("run", "t", 1)) is None


def test_damaged_object_is_refused(yard: Yard) -> None:
    """An object whose content does not match its name does not come in."""
    head = work(yard.repo, yard.base, {"n": "good\n"})
    blob = sh(yard.repo, "rev-parse", f"{head}:n")
    path = yard.repo / ".git" / "objects" / blob[:2] / blob[2:]
    other = git.write_loose(
        str(yard.repo / ".git" / "objects"), b"blob", b"evil\n", sha256=False, durable=False
    )
    path.unlink()
    shutil.copy(yard.repo / ".git" / "objects" / other[:2] / other[2:], path)
    with pytest.raises(git.GitError):
        yard.bring(head)
    assert yard.landing.objects.kind(blob) is None


def test_older_history_is_fetched_when_an_attempt_merged_it(repo: Path) -> None:
    """An attempt that merged something cut off below the base makes history come in, and merges as git merges it."""
    root = sh(repo, "rev-parse", "HEAD")
    side = work(repo, root, {"side": "s\n"}, name="side")
    for n in range(3):
        sh(
            repo,
            "merge",
            "-q",
            "--ff-only",
            work(repo, sh(repo, "rev-parse", "main"), {f"m{n}": "m\n"}, name=f"m{n}"),
        )
    yard = Yard(repo)
    assert yard.landing.objects.kind(root) is None
    work(repo, yard.base, {"own": "o\n"}, name="own")
    sh(repo, "checkout", "-q", "own")
    sh(repo, "merge", "-q", "--no-ff", "-m", "with side", side)
    head = sh(repo, "rev-parse", "HEAD")
    sh(repo, "checkout", "-q", "main")
    yard.land(work(repo, yard.base, {"first": "1\n"}), "first")
    landed = yard.land(head, "second")
    assert yard.landing.objects.kind(root) == "commit"
    assert {"side", "own", "first", "m2"} <= set(files(yard.path, landed))
    yard.fsck()
    yard.landing.close()


def test_attempt_that_merged_newer_staging(yard: Yard) -> None:
    """A worker may merge newer staging into its own work; that lands too, through the ordinary merge base."""
    first = yard.land(work(yard.repo, yard.base, {"one": "1\n"}, name="one"), "one")
    work(yard.repo, yard.base, {"two": "2\n"}, name="two")
    sh(yard.repo, "checkout", "-q", "two")
    sh(yard.repo, "merge", "-q", "--no-ff", "-m", "catch up", first)
    head = sh(yard.repo, "rev-parse", "HEAD")
    sh(yard.repo, "checkout", "-q", "main")
    landed = yard.land(work(yard.repo, yard.base, {"three": "3\n"}, name="three"), "three")
    assert landed
    assert {"one", "two", "three"} <= set(files(yard.path, yard.land(head, "two")))
    yard.fsck()


def test_submodule_lands_as_a_link(yard: Yard) -> None:
    """A gitlink lands as it is; the commit it names need not be there."""
    sh(yard.repo, "checkout", "-q", "--detach", yard.base)
    sh(yard.repo, "update-index", "--add", "--cacheinfo", f"160000,{'ab' * 20},vendored")
    tree = sh(yard.repo, "write-tree")
    head = sh(yard.repo, "commit-tree", tree, "-p", yard.base, "-m", "link")
    sh(yard.repo, "reset", "-q", "--hard")
    sh(yard.repo, "checkout", "-q", "main")
    landed = yard.land(head)
    assert "160000" in sh(yard.repo, "ls-tree", landed, "vendored")


@pytest.mark.parametrize("kind", ["sha256", "shallow", "replaced", "packed", "elsewhere"])
def test_other_kinds_of_repository(repo: Path, tmp_path: Path, kind: str) -> None:
    """SHA-256, shallow, replaced and packed repositories and another file system make no difference."""
    path: Path | None = None
    if kind == "sha256":
        repo = tmp_path / "sha256"
        sh(tmp_path, "init", "-q", "-b", "main", "--object-format=sha256", str(repo))
        (repo / "README.md").write_text("x\n")
        sh(repo, "config", "user.name", "Ada")
        sh(repo, "config", "user.email", "ada@example.org")
        sh(repo, "add", "-A")
        sh(repo, "commit", "-qm", "first")
    elif kind == "shallow":
        sh(repo, "commit", "-q", "--allow-empty", "-m", "second")
        sh(tmp_path, "clone", "-q", "--depth", "1", f"file://{repo}", str(tmp_path / "cut"))
        repo = tmp_path / "cut"
        sh(repo, "config", "user.name", "Ada")
        sh(repo, "config", "user.email", "ada@example.org")
    elif kind == "replaced":
        sh(repo, "commit", "-q", "--allow-empty", "-m", "second")
        sh(repo, "replace", "--graft", "HEAD")
    elif kind == "packed":
        sh(repo, "gc", "-q")
    else:
        need_to_write("/dev/shm")
        path = Path(f"/dev/shm/swarm-test-{os.getpid()}-{tmp_path.name}.git")
    yard = Yard(repo, path)
    try:
        for n in range(3):
            landed = yard.land(work(repo, yard.base, {f"n{n}": "x\n"}), f"t{n}")
        assert {"README.md", "n0", "n1", "n2"} <= set(files(yard.user.common_dir, landed))
        yard.fsck()
    finally:
        yard.landing.close()
        if path is not None:
            shutil.rmtree(path)


def test_publish_is_repeatable_and_never_forced(yard: Yard) -> None:
    """Publishing what is there is done; a branch that somebody moved or deleted is refused and left alone."""
    first = yard.land(work(yard.repo, yard.base, {"one": "1\n"}), "one")
    second = yard.land(work(yard.repo, yard.base, {"two": "2\n"}), "two")
    yard.landing.publish("run", second, first)
    yard.landing.publish("run", first, yard.base)
    assert sh(yard.repo, "rev-parse", "swarm/run/staging") == second
    onto, new = yard.candidate(work(yard.repo, yard.base, {"three": "3\n"}), "three")
    with exclusive(yard.lock, kind=MergeLockHeld) as held:
        yard.landing.advance("run", new, onto, lock=held)
    mine = work(yard.repo, second, {"mine": "m\n"}, name="mine")
    sh(yard.repo, "branch", "-f", "swarm/run/staging", mine)
    with pytest.raises(StagingBranchMoved) as moved:
        yard.landing.publish("run", new, onto)
    assert moved.value.found == mine
    assert sh(yard.repo, "rev-parse", "swarm/run/staging") == mine
    sh(yard.repo, "branch", "-D", "swarm/run/staging")
    with pytest.raises(StagingBranchMoved, match="is gone"):
        yard.landing.publish("run", new, onto)
    sh(yard.repo, "branch", "swarm/run/staging", second)
    yard.landing.publish("run", new, onto)
    assert sh(yard.repo, "rev-parse", "swarm/run/staging") == new


def test_one_publish_covers_several_landings(yard: Yard) -> None:
    """Landings that were not published yet come over together, although nothing of them is left in the user's repository."""
    heads = [work(yard.repo, yard.base, {f"n{k}": "x\n"}, name=f"t{k}") for k in range(4)]
    for k, head in enumerate(heads):
        last = yard.land(head, f"t{k}", publish=False)
    for k in range(4):
        sh(yard.repo, "branch", "-D", f"t{k}")
    sh(yard.repo, "reflog", "expire", "--expire=now", "--all")
    sh(yard.repo, "gc", "-q", "--prune=now")
    yard.landing.publish("run", last, yard.base)
    assert {f"n{k}" for k in range(4)} <= set(files(yard.user.common_dir, "swarm/run/staging"))
    yard.fsck()


def test_nothing_of_the_users_runs(yard: Yard, tmp_path: Path) -> None:
    """Hooks, filters, merge drivers, fsmonitor and aliases planted in the user's repository do not run in a landing."""
    mark = tmp_path / "ran"
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\necho \"$0 $@\" >> '{mark}'\n")
    trap.chmod(0o755)
    head = work(
        yard.repo,
        yard.base,
        {".gitattributes": "* filter=trap merge=trap diff=trap\n", "src/b.py": "b = 2\n"},
    )
    other = work(yard.repo, yard.base, {"n": "1\n", "src/a.py": LINES + "end\n"}, name="other")
    hooks = yard.repo / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in (
        "reference-transaction",
        "post-merge",
        "pre-commit",
        "post-checkout",
        "update",
        "pre-auto-gc",
    ):
        shutil.copy(trap, hooks / name)
    settings = (
        "filter.trap.clean",
        "filter.trap.smudge",
        "merge.trap.driver",
        "diff.trap.textconv",
        "core.fsmonitor",
    )
    for key in (
        *settings,
        "core.sshCommand",
        "diff.external",
        "uploadpack.packObjectsHook",
        "core.alternateRefsCommand",
    ):
        sh(yard.repo, "config", key, str(trap))
    landed = yard.land(head, "one")
    assert "n" in files(yard.user.common_dir, yard.land(other, "two"))
    assert landed
    assert not mark.exists(), mark.read_text()


# --- merging ----------------------------------------------------------------------------------------------------------------


def test_conflict_is_data(yard: Yard) -> None:
    """Two changes of one line are a conflict that names the path, its three versions and the task that landed first."""
    yard.land(
        work(yard.repo, yard.base, {"src/a.py": LINES.replace("line 3\n", "mine\n")}, name="one"),
        "first-task",
    )
    head = work(yard.repo, yard.base, {"src/a.py": LINES.replace("line 3\n", "yours\n")}, name="two")
    yard.bring(head, "two")
    onto = yard.landing.staging("run")
    assert onto is not None
    found = yard.landing.merge(onto, head, run="run", base=yard.base)
    assert isinstance(found, Conflict)
    assert found.paths == ("src/a.py",)
    assert sorted(blob.stage for blob in found.blobs) == [1, 2, 3]
    assert any("src/a.py" in message for message in found.messages)
    assert yard.landing.touched_by(found.paths, yard.base, onto) == ["first-task"]
    assert yard.landing.touched_by(["src/b.py"], yard.base, onto) == []
    assert yard.landing.staging("run") == onto


def test_kinds_of_conflict_name_their_paths(yard: Yard) -> None:
    """Delete against change, folder against file, and both adding one path are conflicts with their paths."""
    yard.land(
        work(
            yard.repo,
            yard.base,
            {"src/a.py": None, "thing": "file\n", "both": "1\n"},
            name="one",
            message="one",
        ),
        "one",
    )
    onto = yard.landing.staging("run")
    assert onto is not None
    for task, (change, path) in enumerate(
        [
            ({"src/a.py": LINES + "more\n"}, "src/a.py"),
            ({"thing/in": "x\n"}, "thing"),
            ({"both": "2\n"}, "both"),
        ]
    ):
        head = work(yard.repo, yard.base, change, name=f"c{task}")
        yard.bring(head, f"c{task}")
        found = yard.landing.merge(onto, head, run="run", base=yard.base)
        assert isinstance(found, Conflict)
        assert any(each.startswith(path) for each in found.paths)


def test_moved_folder_is_a_conflict_with_paths(yard: Yard) -> None:
    """A file added to a folder that staging has renamed is a conflict that names a path, not a silent guess."""
    sh(yard.repo, "checkout", "-q", "--detach", yard.base)
    sh(yard.repo, "mv", "src", "lib")
    sh(yard.repo, "commit", "-qm", "move")
    moved = sh(yard.repo, "rev-parse", "HEAD")
    sh(yard.repo, "checkout", "-q", "main")
    yard.land(moved, "move")
    head = work(yard.repo, yard.base, {"src/new.py": "new\n"})
    yard.bring(head, "new")
    onto = yard.landing.staging("run")
    assert onto is not None
    found = yard.landing.merge(onto, head, run="run", base=yard.base)
    assert isinstance(found, Conflict)
    assert found.paths


def test_failure_of_git_is_never_a_conflict(yard: Yard) -> None:
    """Merging something that is not there raises, whether or not a standing helper answers."""
    for run in ("run", ""):
        with pytest.raises(git.GitError):
            yard.landing.merge(yard.base, "12" * 20, run=run, base=yard.base)


def test_unrelated_history_is_a_conflict_that_says_so(yard: Yard) -> None:
    """A head that has nothing in common with staging is handed back, not retried as a failure of git."""
    tree = sh(yard.repo, "rev-parse", f"{yard.base}^{{tree}}")
    head = sh(yard.repo, "commit-tree", tree, "-m", "orphan")
    yard.bring(head, "orphan")
    found = yard.landing.merge(yard.base, head, run="run", base=yard.base)
    assert isinstance(found, Conflict)
    assert "nothing in common" in found.messages[0]


def test_commit_landed_before_merges_by_its_true_base(yard: Yard) -> None:
    """A topic that goes on from one that has landed merges from where that one ended, and so without conflict."""
    one = work(yard.repo, yard.base, {"src/a.py": LINES.replace("line 3\n", "first\n")}, name="one")
    landed = yard.land(one, "one")
    yard.land(
        work(yard.repo, landed, {"src/a.py": LINES.replace("line 3\n", "second\n")}, name="x"),
        "x",
        base=landed,
    )
    two = work(yard.repo, one, {"n": "1\n"}, name="two")
    assert "second" in sh(yard.repo, "show", f"{yard.land(two, 'two')}:src/a.py")


def test_topic_from_newer_staging_merges_onto_older(yard: Yard) -> None:
    """A topic cut from newer staging merges onto an older commit of it as git merges it, taking along what it stands on."""
    first = yard.land(work(yard.repo, yard.base, {"one": "1\n"}, name="one"), "one")
    second = yard.land(work(yard.repo, yard.base, {"two": "2\n"}, name="two"), "two")
    head = work(yard.repo, second, {"three": "3\n"}, name="three")
    yard.bring(head, "three", second)
    merged = yard.landing.merge(first, head, run="run", base=second)
    assert isinstance(merged, Merged)
    assert {"one", "two", "three"} <= set(files(yard.path, merged.tree))


def test_restart_merges_alike(yard: Yard) -> None:
    """A landing repository opened anew gives the same candidate as the one that ran all along."""
    for n in range(3):
        yard.land(work(yard.repo, yard.base, {f"n{n}": "x\n"}, name=f"t{n}"), f"t{n}")
    head = work(yard.repo, yard.base, {"last": "x\n"})
    onto, candidate = yard.candidate(head)
    anew = Yard.__new__(Yard)
    anew.__dict__ |= yard.__dict__
    anew.landing = LandingRepository(yard.path, yard.user)
    assert anew.candidate(head) == (onto, candidate)
    anew.landing.check(candidate, onto, head, yard.base, run="run")
    anew.landing.close()


def test_merge_equals_plain_git_on_random_topics(yard: Yard) -> None:
    """Whatever the topics do (several commits, renames, deletions, modes), outcome and tree are those of plain merge-tree."""
    dice = random.Random(20)
    clean = conflicts = 0
    for n in range(25):
        base = dice.choice([yard.base, yard.landing.staging("run") or yard.base])
        head = base
        for k in range(dice.randint(1, 3)):
            line = dice.randrange(20)
            change: dict[str, str | None] = {
                dice.choice(["src/b.py", f"new{dice.randrange(4)}"]): f"{n} {k}\n",
            }
            here = git.run(
                "cat-file", "-p", f"{head}:src/a.py", git_dir=yard.user.git_dir, ok=(0, 128)
            ).out.decode()
            if here and dice.random() < 0.6:
                change["src/a.py"] = here.replace(f"line {line}\n", f"{n}.{k}\n")
            head = work(yard.repo, head, change, name=f"r{n}")
        yard.bring(head, f"r{n}", base)
        onto = yard.landing.staging("run")
        assert onto is not None
        outcome = yard.landing.merge(onto, head, run="run", base=base)
        plain = git.run(
            "merge-tree", "--write-tree", "-z", "--name-only", onto, head, git_dir=yard.path, ok=(0, 1)
        )
        if plain.code == 0:
            clean += 1
            assert outcome == Merged(plain.text.split("\0")[0])
            yard.land(head, f"r{n}", base)
        else:
            conflicts += 1
            assert isinstance(outcome, Conflict)
    assert clean >= 3
    assert conflicts >= 3


def test_dead_helpers_change_nothing(yard: Yard) -> None:
    """Killing every standing helper between any two steps changes no result."""
    for n in range(4):
        head = work(yard.repo, yard.base, {f"n{n}": "x\n"}, name=f"t{n}")
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        yard.land(head, f"t{n}")
    assert len(yard.landing.above("run", yard.base)) == 4
    yard.fsck()


def children(pid: int) -> list[int]:
    """Lists the standing git helpers of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(each) for each in (task / "children").read_text().split()]
    return [each for each in found if b"git" in _command(each)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def test_without_stdbuf_merges_still_work(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where there is no stdbuf, each merge takes a process of its own and gives the same."""
    only_git = tmp_path / "bin"
    only_git.mkdir()
    (only_git / "git").symlink_to(shutil.which("git") or "")
    yard.land(work(yard.repo, yard.base, {"n0": "x\n"}), "t0")
    head = work(yard.repo, yard.base, {"n1": "x\n"})
    monkeypatch.setenv("PATH", str(only_git))
    assert "n1" in files(yard.path, yard.land(head, "t1"))


# --- rebasing ---------------------------------------------------------------------------------------------------------------


def test_rebase_replays_line_by_line(yard: Yard) -> None:
    """Each commit is replayed with its author and message on the new base, twice to the same ids; empty ones are left out."""
    onto = yard.land(work(yard.repo, yard.base, {"one": "1\n", "same": "s\n"}, name="one"), "one")
    first = work(yard.repo, yard.base, {"two": "2\n"}, name="two", message="second\n\nwith a body")
    empty = work(yard.repo, first, {"same": "s\n"}, name="two", message="same as staging")
    head = work(yard.repo, empty, {"three": "3\n"}, name="two", message="third")
    yard.bring(head, "two")
    found = yard.landing.rebase(head, yard.base, onto, 1_700_000_000)
    assert isinstance(found, Replayed)
    assert found == yard.landing.rebase(head, yard.base, onto, 1_700_000_000)
    assert sh(yard.landing.path, "rev-list", "--count", f"{onto}..{found.head}") == "2"
    last = yard.landing.objects.commit(found.head)
    assert (last.message, last.author) == ("third\n", yard.landing.objects.commit(head).author)
    assert yard.landing.objects.commit(last.parents[0]).message == "second\n\nwith a body\n"
    assert {"one", "two", "three"} <= set(files(yard.path, found.head))
    assert yard.landing.is_ancestor(onto, found.head)
    assert not yard.landing.is_ancestor(found.head, onto)


def test_rebase_tells_conflicts(yard: Yard) -> None:
    """A commit that does not fit is a conflict of its paths, and so is history that is not one line."""
    onto = yard.land(work(yard.repo, yard.base, {"src/b.py": "b = 2\n"}, name="one"), "one")
    head = work(yard.repo, yard.base, {"src/b.py": "b = 3\n"}, name="two")
    yard.bring(head, "two")
    found = yard.landing.rebase(head, yard.base, onto, 0)
    assert isinstance(found, Conflict)
    assert found.paths == ("src/b.py",)
    side = work(yard.repo, yard.base, {"side": "s\n"}, name="side")
    sh(yard.repo, "checkout", "-q", "two")
    sh(yard.repo, "merge", "-q", "--no-ff", "-m", "m", side)
    merged = sh(yard.repo, "rev-parse", "HEAD")
    sh(yard.repo, "checkout", "-q", "main")
    yard.bring(merged, "three")
    found = yard.landing.rebase(merged, yard.base, onto, 0)
    assert isinstance(found, Conflict)
    assert set(found.paths) == {"side", "src/b.py"}


# --- checking and advancing ------------------------------------------------------------------------------------------------


def test_check_refuses_what_is_no_true_merge(yard: Yard) -> None:
    """Wrong parents, a tree that the merge does not give, and paths that the attempt did not change are told apart."""
    head = work(yard.repo, yard.base, {"n": "1\n"})
    onto, good = yard.candidate(head)
    yard.landing.check(good, onto, head, yard.base, run="run")
    tree = yard.landing.objects.tree_of(good)
    swapped = yard.landing.candidate(tree, head, onto, message="m", at=0)
    with pytest.raises(LandingCheckFailed) as failed:
        yard.landing.check(swapped, onto, head, yard.base)
    assert failed.value.which == "parents"
    lost = yard.landing.candidate(yard.landing.objects.tree_of(onto), onto, head, message="m", at=0)
    with pytest.raises(LandingCheckFailed) as failed:
        yard.landing.check(lost, onto, head, yard.base)
    assert failed.value.which == "tree"


def test_check_refuses_the_undoing_of_others_work(yard: Yard) -> None:
    """A merge from a wrong base, which takes another landing back, is refused for its paths though it is a true merge."""
    landed = yard.land(work(yard.repo, yard.base, {"theirs": "1\n"}, name="one"), "one")
    head = work(yard.repo, landed, {"theirs": None, "mine": "1\n"}, name="two")
    onto, candidate = yard.candidate(head, "two", landed)
    with pytest.raises(LandingCheckFailed) as failed:
        # the attempt is said to have changed less than it did
        yard.landing.check(
            candidate, onto, head, work(yard.repo, landed, {"theirs": None}, name="wrong") and head
        )
    assert failed.value.which == "paths"
    yard.landing.check(candidate, onto, head, landed, run="run")


def test_check_follows_renames(yard: Yard) -> None:
    """A change that the merge carries to a file's new name is the attempt's own."""
    sh(yard.repo, "checkout", "-q", "--detach", yard.base)
    sh(yard.repo, "mv", "src/a.py", "src/z.py")
    sh(yard.repo, "commit", "-qm", "move")
    moved = sh(yard.repo, "rev-parse", "HEAD")
    sh(yard.repo, "checkout", "-q", "main")
    yard.land(moved, "move")
    landed = yard.land(work(yard.repo, yard.base, {"src/a.py": LINES.replace("line 3\n", "new\n")}), "edit")
    assert "new" in sh(yard.repo, "show", f"{landed}:src/z.py")


def test_advance_is_compare_and_swap(yard: Yard) -> None:
    """Staging moves only from where the candidate was built; the loser is told where it stands, the repeat is done."""
    onto, one = yard.candidate(work(yard.repo, yard.base, {"one": "1\n"}, name="one"), "one")
    _, two = yard.candidate(work(yard.repo, yard.base, {"two": "2\n"}, name="two"), "two")
    with exclusive(yard.lock, kind=MergeLockHeld) as held:
        assert yard.landing.advance("run", one, onto, lock=held) is None
        assert yard.landing.advance("run", two, onto, lock=held) == one
        assert yard.landing.advance("run", one, onto, lock=held) is None
    assert yard.landing.staging("run") == one
    yard.landing.publish("run", one, onto)
    yard.land(work(yard.repo, yard.base, {"three": "3\n"}, name="three"), "three")
    with exclusive(yard.lock, kind=MergeLockHeld) as held:
        assert yard.landing.advance("run", one, onto, lock=held) is None
    with pytest.raises(RuntimeError, match="void"):
        yard.landing.advance("run", two, onto, lock=held)


def test_an_advance_that_is_repeated_counts_once(yard: Yard) -> None:
    """After a crash the last advance is made again, by a program that read the line with it: what lands next is still published."""
    landed = yard.land(work(yard.repo, yard.base, {"one": "1\n"}), "one")
    again = Yard(yard.repo)
    try:
        onto, new = again.candidate(work(yard.repo, yard.base, {"two": "2\n"}), "two")
        with exclusive(again.lock, kind=MergeLockHeld) as held:
            assert again.landing.advance("run", landed, yard.base, lock=held) is None
            assert again.landing.advance("run", new, onto, lock=held) is None
        again.landing.publish("run", new, onto)
        assert sh(yard.repo, "rev-parse", "swarm/run/staging") == new
    finally:
        again.landing.close()


def test_advance_may_move_over_several(yard: Yard) -> None:
    """A chain of candidates lands by one move to its last, and each of them is on the line."""
    onto, one = yard.candidate(work(yard.repo, yard.base, {"one": "1\n"}, name="one"), "one")
    head = work(yard.repo, yard.base, {"two": "2\n"}, name="two")
    yard.bring(head, "two")
    merged = yard.landing.merge(one, head, run="run", base=yard.base)
    assert isinstance(merged, Merged)
    two = yard.landing.candidate(merged.tree, one, head, message="two", at=1)
    with exclusive(yard.lock, kind=MergeLockHeld) as held:
        assert yard.landing.advance("run", two, onto, lock=held) is None
    yard.landing.publish("run", two, onto)
    assert yard.landing.above("run", yard.base) == [one, two]
    assert {"one", "two"} <= set(files(yard.user.common_dir, "swarm/run/staging"))
    yard.land(work(yard.repo, yard.base, {"three": "3\n"}, name="three"), "three")


def test_stale_locks_are_swept(yard: Yard) -> None:
    """A lock that a killed git left on staging stops landings until it is swept under the merge lock."""
    onto, one = yard.candidate(work(yard.repo, yard.base, {"one": "1\n"}))
    stale = yard.path / f"{staging_ref('run')}.lock"
    stale.touch()
    with exclusive(yard.lock, kind=MergeLockHeld) as held:
        assert yard.landing.sweep_locks(lock=held) == [stale]
        assert yard.landing.advance("run", one, onto, lock=held) is None


def test_half_written_files_are_swept(yard: Yard) -> None:
    """What killed writes left goes: everything of it here, in the user's store only what a process of ours that is gone wrote."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    user = yard.user.common_dir / "objects" / "ab"
    user.mkdir(exist_ok=True)
    (yard.path / "objects" / "ab").mkdir(exist_ok=True)
    (yard.path / "objects" / "pack").mkdir(exist_ok=True)
    left = [
        yard.path / ".shallow-x1",
        yard.path / "objects" / "ab" / "tmp_obj_Xq2Zz1",
        yard.path / "objects" / "pack" / "tmp_pack_Xq2Zz1",
        user / f"tmp_obj_{ended.pid}_7",
    ]
    kept = [user / "tmp_obj_Xq2Zz1", user / f"tmp_obj_{os.getpid()}_7", yard.path / "config"]
    for path in [*left, *kept[:2]]:
        path.write_text("half")
    with exclusive(yard.lock, kind=MergeLockHeld) as held:
        assert sorted(yard.landing.sweep_drafts(lock=held, dry_run=True)) == sorted(left)
        yard.landing.sweep_drafts(lock=held)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_many_threads_bring_in_and_merge(yard: Yard) -> None:
    """Eight threads bring in and merge at once without mixing up each other's answers."""
    heads = [work(yard.repo, yard.base, {f"n{k}": f"{k}\n"}, name=f"t{k}") for k in range(24)]
    yard.land(work(yard.repo, yard.base, {"first": "1\n"}), "first")
    onto = yard.landing.staging("run")
    assert onto is not None
    trees: dict[int, str] = {}
    problems: list[BaseException] = []

    def some(start: int) -> None:
        try:
            for k in range(start, 24, 8):
                yard.bring(heads[k], f"t{k}")
                merged = yard.landing.merge(onto, heads[k], run="run", base=yard.base)
                assert isinstance(merged, Merged)
                trees[k] = merged.tree
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=some, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    for k, tree in trees.items():
        assert f"n{k}" in files(yard.path, tree)
        assert len(files(yard.path, tree)) == 5


def test_target_branch_can_be_merged_for_finish(yard: Yard) -> None:
    """A target that went on is brought in and merged with staging, and the result handed over without moving a branch."""
    staging = yard.land(work(yard.repo, yard.base, {"one": "1\n"}, name="one"), "one")
    target = work(yard.repo, yard.base, {"target": "t\n"}, name="target")
    yard.landing.bring_in([Incoming(finish_ref("run", target), target, yard.base)])
    merged = yard.landing.merge(target, staging)
    assert isinstance(merged, Merged)
    commit = yard.landing.candidate(merged.tree, target, staging, message="Merge run\n", at=1)
    before = sh(yard.repo, "for-each-ref")
    yard.landing.hand_over("run", commit, staging)
    assert sh(yard.repo, "for-each-ref") == before
    assert {"one", "target"} <= set(files(yard.user.common_dir, commit))
    yard.fsck()


def test_target_below_the_base_makes_history_come_in(repo: Path) -> None:
    """A target that is an ancestor of the base is found to be one, although the base came in without its history."""
    target = sh(repo, "rev-parse", "HEAD")
    sh(repo, "merge", "-q", "--ff-only", work(repo, target, {"m": "m\n"}, name="m"))
    yard = Yard(repo)
    staging = yard.land(work(repo, yard.base, {"one": "1\n"}, name="one"), "one")
    yard.landing.bring_in([Incoming(finish_ref("run", target), target, staging)])
    assert yard.landing.is_ancestor(target, staging)
    assert sh(yard.landing.path, "rev-list", "--count", f"{target}..{staging}") == "3"
    yard.land(work(repo, yard.base, {"two": "2\n"}, name="two"), "two")
    yard.fsck()
    yard.landing.close()


# --- killed at any moment --------------------------------------------------------------------------------------------------

STORM = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from swarm.edge import git
    from swarm.edge.landing import Incoming, LandingRepository, pin_ref
    from swarm.edge.lockfile import MergeLockHeld, exclusive
    repo, heads = Path(sys.argv[1]), sys.argv[2:]
    user = git.Repository.discover(repo)
    landing = LandingRepository(user.common_dir / "swarm" / "landing.git", user)
    with exclusive(repo.parent / "storm.lock", kind=MergeLockHeld) as held:
        landing.open_or_create()
        landing.sweep_locks(lock=held)
        base = user.branch_commit("main")
        staging = landing.seed("run", base)
        landing.publish("run", base, base)
        landing.publish("run", staging, user.branch_commit("swarm/run/staging"))
        done = {landing.objects.commit(each).parents[1] for each in landing.above("run", base)}
        print("up", flush=True)
        for n, head in enumerate(heads):
            if head in done:
                continue
            landing.bring_in([Incoming(pin_ref("run", f"t{n}", 1), head, base)])
            merged = landing.merge(staging, head, run="run", base=base)
            new = landing.candidate(merged.tree, staging, head, message=f"Land {n}\\n", at=1700000000 + n)
            landing.check(new, staging, head, base, run="run")
            assert landing.advance("run", new, staging, lock=held) is None
            landing.publish("run", new, staging)
            staging = new
        landing.close()
    """
)


def test_killed_at_any_moment_nothing_is_lost_or_doubled(repo: Path) -> None:
    """However often the lander is killed, in the end each topic is on staging exactly once, published, and all is whole."""
    base = sh(repo, "rev-parse", "HEAD")
    heads = [work(repo, base, {f"d{k % 4}/n{k}": "x\n"}, name=f"t{k}") for k in range(40)]
    dice = random.Random(7)
    kills = 0
    while True:
        args = [sys.executable, "-c", STORM, str(repo), *heads]
        child = subprocess.Popen(args, stdout=subprocess.PIPE, start_new_session=True)
        assert child.stdout is not None
        child.stdout.readline()
        killer = threading.Timer(dice.uniform(0.0, 0.06), child.kill)
        if kills < 12:
            killer.start()
        child.stdout.read()
        child.stdout.close()
        code = child.wait()
        killer.cancel()
        wait_for_session(child, repo)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills >= 3
    yard = Yard(repo)
    line = yard.landing.above("run", yard.base)
    assert sorted(yard.landing.objects.commit(each).parents[1] for each in line) == sorted(heads)
    assert sh(repo, "rev-parse", "swarm/run/staging") == yard.landing.staging("run")
    assert len(files(yard.path, line[-1])) == 43
    yard.fsck()
    yard.landing.close()


def test_a_landing_repository_without_its_head_gets_one_again(yard: Yard) -> None:
    """Git takes a folder without HEAD for no repository; it is put back, and everything else stays."""
    landed = yard.land(work(yard.repo, yard.base, {"new": "new\n"}))
    yard.landing.close()
    (yard.path / "HEAD").unlink()
    yard.landing.open_or_create()
    assert yard.landing.staging("run") == landed
    yard.fsck()


# --- what nothing names any more ---------------------------------------------------------------------------------------------


def loose(yard: Yard) -> set[str]:
    found = (yard.path / "objects").glob("??/*")
    return {f"{path.parent.name}{path.name}" for path in found}


def grow_old(yard: Yard) -> float:
    """Makes all objects there are an hour old, packs too, and gives a time since then."""
    for path in (yard.path / "objects").glob("*/*"):
        os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    return time.time() - 1800


def prune(yard: Yard, older_than: float) -> int:
    with exclusive(yard.lock, kind=MergeLockHeld) as held:
        return pruning.remove(pruning.find(yard.path, older_than=older_than), lock=held)


def test_what_a_dropped_run_left_goes_when_it_is_old(yard: Yard) -> None:
    """Of a run that was dropped all old objects go, but for what another run, a worktree that stands at a candidate, or a younger
    object needs. Where history is cut off stays known: work that stands on the dropped run's base too still comes in."""
    later = work(yard.repo, yard.base, {"later": "later\n"}, name="later")
    yard.landing.seed("other", later)
    dropped = work(yard.repo, yard.base, {"src/a.py": LINES + "dropped\n"}, name="dropped")
    yard.land(dropped)
    pinned = work(yard.repo, later, {"src/b.py": "pinned\n"}, name="pinned")
    yard.landing.bring_in([Incoming(pin_ref("other", "t", 1), pinned, later)])
    _, candidate = yard.candidate(work(yard.repo, yard.base, {"c": "c\n"}, name="c"), "c")
    _, young = yard.candidate(work(yard.repo, yard.base, {"d": "d\n"}, name="d"), "d")
    checkout = yard.repo.parent / "checkout"
    git.run("worktree", "add", "-q", "--detach", os.fspath(checkout), candidate, git_dir=yard.path)
    cut, before = (yard.path / "shallow").read_text(), loose(yard)
    yard.landing.drop("run")
    old = grow_old(yard)
    os.utime(yard.path / "objects" / young[:2] / young[2:])
    prune(yard, old)
    needed = [dropped, candidate, young, *git.run("rev-list", young, git_dir=yard.path).text.split()]
    assert git.missing(yard.path, needed) == set()  # the candidates stand on what was dropped
    yard.fsck()
    git.run("worktree", "remove", "--force", os.fspath(checkout), git_dir=yard.path)
    grow_old(yard)
    assert prune(yard, old) > 0
    assert dropped not in loose(yard)
    assert git.missing(yard.path, [dropped, candidate, young]) == {dropped, candidate, young}
    assert git.missing(yard.path, [pinned, later]) == set()
    assert len(loose(yard)) < len(before)
    assert (yard.path / "shallow").read_text() == cut
    yard.fsck()
    sh(yard.repo, "checkout", "-q", "--detach", pinned)
    sh(yard.repo, "merge", "-q", "-m", "both", work(yard.repo, yard.base, {"e": "e\n"}, name="e"))
    both = work(yard.repo, sh(yard.repo, "rev-parse", "HEAD"), {"f": "f\n"}, name="f")
    yard.landing.bring_in([Incoming(pin_ref("other", "t", 2), both, later)])
    yard.landing.seed("run", yard.base)
    yard.land(dropped, publish=False)
    yard.fsck()


def test_a_prune_that_is_killed_leaves_what_is_whole(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever removing is cut short, no object that is left lacks one that it refers to, and the same work lands again."""
    head = work(yard.repo, yard.base, {"src/deep/new.py": "new\n", "src/a.py": LINES + "more\n"})
    unlink, rounds = Path.unlink, 0
    while True:
        yard.land(head, publish=False)
        yard.landing.drop("run")
        old, left = grow_old(yard), rounds

        def cut_short(path: Path, **how: bool) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            unlink(path, **how)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", cut_short)
            try:
                prune(yard, old)
                break
            except KeyboardInterrupt:
                rounds += 1
        whole = ("rev-list", "--objects", "--quiet", "--stdin")  # fsck does not look into what nothing names
        git.run(*whole, git_dir=yard.path, input="".join(f"{oid}\n" for oid in loose(yard)).encode())
        yard.landing.seed("run", yard.base)
    assert rounds > 5
    yard.landing.seed("run", yard.base)
    yard.land(head, publish=False)
    yard.fsck()


def test_a_run_called_finish_is_a_run_like_any_other(yard: Yard) -> None:
    """What is dropped of a run are its own commits and those of its finishes, also where older versions kept these: among those of
    a run that is called `finish`, of which nothing goes."""
    head = work(yard.repo, yard.base, {"a": "a\n"}, name="a")
    old = f"{PINS}finish/run/{head[:16]}"
    kept = [pin_ref("finish", "run", 1), pin_ref("finish", "other", 1), finish_ref("finish", head)]
    of_run = [pin_ref("run", "t", 1), finish_ref("run", head), old]
    yard.landing.bring_in([Incoming(ref, head, yard.base) for ref in (*kept, *of_run)])
    yard.landing.drop("run")
    assert set(git.refs_below(yard.path, "refs/")) == set(kept)
    yard.landing.bring_in([Incoming(old, head, yard.base)])
    yard.landing.drop("finish")
    assert set(git.refs_below(yard.path, "refs/")) == {old}


def test_nobody_looks_for_old_objects_more_than_once_a_day(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks where there are few objects, and no more than once a day where there are many; what goes is a week old."""
    yard.land(work(yard.repo, yard.base, {"a": "a\n"}), publish=False)
    yard.landing.drop("run")
    for oid in loose(yard):
        path = yard.path / "objects" / oid[:2] / oid[2:]
        os.utime(path, (time.time() - 8 * 86400,) * 2)

    def many() -> int:
        with exclusive(yard.lock, kind=MergeLockHeld) as held:
            return pruning.prune_if_many(yard.path, lock=held)

    assert many() == 0
    monkeypatch.setattr(pruning, "LOOSE_MIN", 0)
    assert many() > 0
    yard.landing.seed("run", yard.base)
    yard.land(work(yard.repo, yard.base, {"b": "b\n"}, name="b"), publish=False)
    yard.landing.drop("run")
    for oid in loose(yard):
        path = yard.path / "objects" / oid[:2] / oid[2:]
        os.utime(path, (time.time() - 8 * 86400,) * 2)
    assert many() == 0
    os.utime(yard.path / "swarm-pruned", (time.time() - 90000,) * 2)
    assert many() > 0


@pytest.mark.parametrize(
    ("known", "dry_run"), [(Known(nonces={"a"}), False), (Known(verifying={"a"}), False), (Known(), True)]
)
def test_while_an_attempt_is_under_way_no_object_goes(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, known: Known, dry_run: bool
) -> None:
    """Beside an attempt that is under way, and where it is only looked, no object is removed: a candidate stands under no ref."""
    monkeypatch.setattr(pruning, "LOOSE_MIN", 0)
    monkeypatch.setattr(pruning, "OLD_S", -60.0)
    _, candidate = yard.candidate(work(yard.repo, yard.base, {"a": "a\n"}))
    edges: Any = SimpleNamespace(landing=yard.landing, places=SimpleNamespace(merge_lock=yard.lock))
    reconcile._old_objects(known, edges, dry_run)
    assert git.missing(yard.path, [candidate]) == set()
    reconcile._old_objects(Known(), edges, False)
    assert git.missing(yard.path, [candidate]) == {candidate}

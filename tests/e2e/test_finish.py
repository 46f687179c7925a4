"""`swarm finish`: what is on staging comes into the user's branch, and nothing of the user's is ever lost for it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm, snapshot


def landed(swarm: Swarm, work: str = "echo 2 >> src/b.py; echo new > new", **more: Any) -> str:
    """Carries out one task named `t` as the run `r`, and gives the commit that staging stands at."""
    swarm.check_landed(
        swarm.run(swarm.plan("r", [swarm.task("t", work, claims=["src/b.py", "new"])], **more))
    )
    return swarm.staging("r")


def commit(top: Path, path: str, text: str) -> str:
    """Commits one file as the user would."""
    (top / path).write_text(text)
    git(top, "add", path)
    git(top, "commit", "-q", "-m", f"mine: {path}")
    return git(top, "rev-parse", "HEAD")


def test_the_branch_and_its_clean_checkout_move(swarm: Swarm) -> None:
    """Rows 52, 53: finish brings branch, index and files of a clean checkout to staging; once more it has nothing to do."""
    staging = landed(swarm)
    done = swarm("finish")
    assert staging[:7] in done.out
    assert git(swarm.top, "rev-parse", "main") == staging
    assert git(swarm.top, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(swarm.top, "status", "--porcelain") == ""
    assert (swarm.top / "new").read_text() == "new\n"
    for branch in git(swarm.top, "for-each-ref", "--format=%(objectname)", "refs/heads/swarm").split():
        assert git(swarm.top, "merge-base", "main", branch) == branch
    again = swarm("finish", "--json").json["finish"]
    assert again["outcome"] == "nothing"
    assert git(swarm.top, "rev-parse", "main") == staging
    assert swarm.status()["runs"][0]["state"] == "finished"
    swarm.look_again()


@pytest.mark.slow
def test_a_checkout_whose_git_folder_is_elsewhere_moves(
    swarm: Swarm, swarm_in: Callable[..., Swarm], tmp_path: Path
) -> None:
    """The checkout of a repository made with --separate-git-dir moves along like any other."""
    top = tmp_path / "top"
    git(tmp_path, "clone", "-q", f"--separate-git-dir={tmp_path / 'elsewhere'}", str(swarm.top), str(top))
    there = swarm_in(top)
    staging = landed(there)
    assert there("finish", "--preview", "--json").json["finish"]["refused"] == ""
    there("finish")
    assert git(top, "rev-parse", "main") == staging
    assert git(top, "status", "--porcelain") == ""
    assert (top / "new").read_text() == "new\n"
    there.look_again()


@pytest.mark.slow
def test_a_checkout_in_which_git_fails_is_told_with_a_next_step(swarm: Swarm) -> None:
    """Where git can do nothing in a checkout, such as one whose index is broken, finish says where to look, and nothing moves."""
    landed(swarm)
    before = git(swarm.top, "rev-parse", "main")
    index = (swarm.top / ".git" / "index").read_bytes()
    (swarm.top / ".git" / "index").write_bytes(b"no index" * 10)
    for way in ([], ["--preview"]):
        failed = swarm("finish", *way, code=1)
        assert f"Next: see what git -C {swarm.top} status says" in failed.err
    (swarm.top / ".git" / "index").write_bytes(index)
    assert git(swarm.top, "rev-parse", "main") == before
    swarm.look_again()


def test_edits_elsewhere_stay_as_they_are(swarm: Swarm) -> None:
    """Rows 27 and 54: with edits, staged and untracked files in other paths, a run and finish go through and leave them alone."""
    (swarm.top / "README.md").write_text("mid-edit\n")
    (swarm.top / "untracked").write_text("mine\n")
    (swarm.top / "staged").write_text("staged\n")
    git(swarm.top, "add", "staged")
    git(swarm.top, "stash", "list")
    swarm.look_again()
    before = snapshot(swarm.top)
    staging = landed(swarm)
    assert snapshot(swarm.top) == before
    swarm("finish")
    assert git(swarm.top, "rev-parse", "main") == staging
    assert git(swarm.top, "status", "--porcelain").splitlines() == [
        " M README.md",
        "A  staged",
        "?? untracked",
    ]
    assert (swarm.top / "README.md").read_text() == "mid-edit\n"
    assert (swarm.top / "src" / "b.py").read_text() == "b = 1\n2\n"
    swarm.look_again()


@pytest.mark.slow
def test_what_stops_the_checkout_is_told_with_a_step_that_helps(swarm: Swarm) -> None:
    """Where somebody's git holds the index, or a merge was left with conflicts, anywhere, finish is refused with exit 4, says what
    to do, moves nothing, and goes through once that is done."""
    landed(swarm)
    lock = swarm.top / ".git" / "index.lock"
    lock.touch()
    swarm.look_again()
    refused = swarm("finish", code=4).err
    assert f"remove {lock} if none is" in refused
    assert "stash" not in refused
    assert snapshot(swarm.top) == swarm.before
    lock.unlink()
    before = git(swarm.top, "rev-parse", "HEAD")
    git(swarm.top, "checkout", "-q", "-b", "other")
    commit(swarm.top, "README.md", "one\n")
    git(swarm.top, "checkout", "-q", "main")
    git(swarm.top, "reset", "-q", "--hard", before)
    ours = commit(swarm.top, "README.md", "two\n")
    git(swarm.top, "merge", "other", check=False)
    swarm.look_again()
    refused = swarm("finish", code=4).err
    assert "README.md" in refused
    assert f"git -C {swarm.top} status" in refused
    assert snapshot(swarm.top) == swarm.before
    git(swarm.top, "merge", "--abort")
    swarm("finish")
    assert git(swarm.top, "merge-base", ours, "main") == ours
    assert git(swarm.top, "status", "--porcelain") == ""
    swarm.look_again()


@pytest.mark.slow
def test_a_file_that_was_only_touched_stops_nothing(swarm: Swarm) -> None:
    """A file with the content that the commit has is no edit, whatever its times and its inode: the checkout moves."""
    staging = landed(swarm)
    touched = swarm.top / "src" / "b.py"
    body = touched.read_bytes()
    touched.unlink()
    touched.write_bytes(body)
    os.utime(touched, (1, 1))
    swarm("finish")
    assert git(swarm.top, "rev-parse", "main") == staging
    assert git(swarm.top, "status", "--porcelain") == ""
    swarm.look_again()


def required_filter(swarm: Swarm, smudge: str) -> None:
    """Sets the filter that the files named x* go through, and that must work."""
    for way, command_of in (("clean", "cat"), ("smudge", smudge), ("required", "true")):
        git(swarm.top, "config", f"filter.bad.{way}", command_of)


def as_it_is(top: Path) -> dict[str, Any]:
    """Gives what is in a checkout and its repository; of the index what is staged, and not what it remembers of the files."""
    return snapshot(top) | {"index": git(top, "ls-files", "-s")}


@pytest.mark.slow
@pytest.mark.parametrize("second", [False, True])
def test_a_filter_that_fails_leaves_the_checkout_as_it_was(swarm: Swarm, second: bool) -> None:
    """Where a filter that must work fails while files are moved, finish says which, and what mends that, and every checkout is as
    before: files that had been written, replaced and removed by then too. Once it is mended finish goes through."""
    required_filter(swarm, "cat")
    commit(swarm.top, ".gitattributes", "x* filter=bad\n")
    git(swarm.top, "checkout", "-q", "-B", "main")
    commit(swarm.top, "x-old", "old\n")
    other = swarm.outside / "second"
    if second:
        git(swarm.top, "worktree", "add", "-q", "-f", str(other), "main")
    work = "echo 2 >> src/b.py; rm README.md; echo 1 > new/x; echo 2 > x-old; echo 1 > z"
    swarm.look_again()
    landed(swarm, f"mkdir new; {work}", claims=["**"])
    required_filter(swarm, "false")
    if second:  # the first is moved, and back again
        git(swarm.top, "config", "extensions.worktreeConfig", "true")
        git(swarm.top, "config", "--worktree", "filter.bad.smudge", "cat")
    swarm.look_again()
    before = [as_it_is(top) for top in (swarm.top, other)[: 1 + second]]
    refused = swarm("finish", code=1).err
    assert "its filter bad, which your settings call required, fails" in refused
    assert "git config filter.bad.required false" in refused
    assert "stash" not in refused
    assert "main stays as it was" in refused
    assert [as_it_is(top) for top in (swarm.top, other)[: 1 + second]] == before
    for top in (swarm.top, other)[: 1 + second]:
        assert git(top, "status", "--porcelain") == ""
    required_filter(swarm, "cat")
    swarm("finish")
    assert git(swarm.top, "rev-parse", "main") == swarm.staging("r")
    for top in (swarm.top, other)[: 1 + second]:
        assert git(top, "status", "--porcelain") == ""
    assert list((swarm.top / ".git" / "swarm" / "attempts" / "r" / "finish").glob("*/moves/*")) == []
    swarm.look_again()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["skip-worktree", "assume-unchanged"])
def test_edits_that_git_is_told_not_to_see_are_told(swarm: Swarm, flag: str) -> None:
    """A file with edits that git's status does not show stops finish, and it is said what has git look at it again."""
    landed(swarm)
    edited = swarm.top / "src" / "b.py"
    edited.write_text("mine\n")
    git(swarm.top, "update-index", f"--{flag}", "src/b.py")
    swarm.look_again()
    refused = swarm("finish", code=4).err
    assert "changes of its own in src/b.py, which git was told not to look at" in refused
    assert f"Next: git -C {swarm.top} update-index --no-{flag} src/b.py" in refused
    assert snapshot(swarm.top) == swarm.before
    git(swarm.top, "update-index", f"--no-{flag}", "src/b.py")
    assert "commit or stash" in swarm("finish", code=4).err
    git(swarm.top, "checkout", "-q", "src/b.py")
    swarm("finish")
    assert git(swarm.top, "status", "--porcelain") == ""
    swarm.look_again()


@pytest.mark.slow
def test_what_would_be_overwritten_stops_it(swarm: Swarm) -> None:
    """Row 54: where a path that changes is dirty in the checkout, finish is refused with exit 4, names it, and moves nothing."""
    swarm("start")
    landed(swarm)
    for dirt in ("edited", "staged", "untracked", "ignored", "folder", "ignored in a folder"):
        path = "src/b.py" if dirt in ("edited", "staged") else "new/mine/file" if "folder" in dirt else "new"
        (swarm.top / path).parent.mkdir(parents=True, exist_ok=True)
        (swarm.top / path).write_text("mine\n")
        if dirt == "staged":
            git(swarm.top, "add", path)
        (swarm.top / ".git" / "info" / "exclude").write_text(
            {"ignored": "new\n", "ignored in a folder": "file\n"}.get(dirt, "")
        )
        swarm.look_again()
        assert path in swarm("finish", "--preview", "--json", code=1).json["finish"]["refused"]
        refused = swarm("finish", code=4).err
        assert path in refused, dirt
        step = f"move {path} out of the way" if path != "src/b.py" else "commit or stash what is changed"
        assert step in refused, dirt
        assert snapshot(swarm.top) == swarm.before, dirt
        if path == "new":
            (swarm.top / path).unlink()
        elif path == "src/b.py":
            git(swarm.top, "checkout", "-q", "HEAD", "--", path)
    shutil.rmtree(swarm.top / "new")
    swarm.look_again()


@pytest.mark.slow
@pytest.mark.parametrize("becomes", ["file", "above", "folder", "nothing"])
def test_a_submodule_whose_place_is_taken_keeps_what_only_it_has(swarm: Swarm, becomes: str) -> None:
    """Git deletes the folder of a clean submodule for a file that comes there, with its branches and ignored files, and writes into
    it for a folder. So it is for the user to take it out of the way; where only its entry goes, the folder stays."""
    other = swarm.outside / "other"
    git(swarm.outside, "init", "-q", str(other))
    for name, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        git(other, "config", name, value)
    commit(other, ".gitignore", "*.log\n")
    commit(other, "f", "1\n")
    git(swarm.top, "clone", "-q", str(other), "vendor/lib")
    shutil.copy(other / ".git" / "config", swarm.top / "vendor/lib/.git/config")
    git(
        swarm.top, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "vendor/lib"
    )
    git(swarm.top, "commit", "-q", "-m", "submodule")
    lib = swarm.top / "vendor" / "lib"
    mine = commit(lib, "mine", "mine\n")
    git(lib, "switch", "-q", "--detach", "HEAD~1")
    git(lib, "branch", "-f", "mine", mine)
    (lib / "x.log").write_text("mine\n")
    swarm.look_again()
    comes = {
        "file": "echo new > vendor/lib",
        "above": "rmdir vendor 2>/dev/null; echo new > vendor",
        "folder": "mkdir -p vendor/lib; echo new > vendor/lib/f",
        "nothing": "git rm -q --cached .gitmodules; rm .gitmodules",
    }
    work = f"git rm -q --cached vendor/lib; rm -rf vendor/lib; {comes[becomes]}"
    run = swarm.run(swarm.plan("sub", [swarm.task("t", work, claims=["vendor/**", "vendor", ".gitmodules"])]))
    swarm.check_landed(run)
    swarm("start")
    if becomes != "nothing":
        refused = swarm("finish", code=4).err
        assert "has a submodule in vendor/lib, where something else comes" in refused
        assert git(swarm.top, "status", "--porcelain") == ""
        lib.rename(swarm.outside / "lib")
        lib = swarm.outside / "lib"
        lib.parent.mkdir(exist_ok=True)
        (swarm.top / "vendor" / "lib").mkdir()
    assert swarm("finish", "--json").json["finish"]["outcome"] == "finished"
    assert ((lib / "x.log").read_text(), git(lib, "show", "mine:mine")) == ("mine\n", "mine")
    swarm.look_again()
    where = {"file": "vendor/lib", "above": "vendor", "folder": "vendor/lib/f"}
    if becomes in where:
        assert (swarm.top / where[becomes]).read_text() == "new\n"


@pytest.mark.slow
def test_an_ignored_folder_that_gets_files_keeps_those_of_the_user(swarm: Swarm) -> None:
    """Of a folder that is ignored git names none of its files, and would overwrite them: one that lies where another comes, or on
    the way there, stops the finish by its own name; others, and one that is the same already, do not."""
    (swarm.top / ".git" / "info" / "exclude").write_text("build/\n")
    work = "mkdir -p build/deep/er; echo new > build/deep/er/o; echo same > build/same; git add -f build"
    swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task("t", work, claims=["build/**"])])))
    swarm("start")
    (swarm.top / "build" / "deep").mkdir(parents=True)
    (swarm.top / "build" / "mine").write_text("mine\n")
    (swarm.top / "build" / "same").write_text("same\n")
    for place in ("build/deep/er/o", "build/deep/er"):
        (swarm.top / place).parent.mkdir(exist_ok=True)
        (swarm.top / place).write_text("mine\n")
        swarm.look_again()
        refused = swarm("finish", code=4).err
        assert f"has changes of its own in {place}." in refused
        assert (swarm.top / place).read_text() == "mine\n"
        (swarm.top / place).unlink()
        if place.endswith("/o"):
            (swarm.top / place).parent.rmdir()
    swarm("finish")
    swarm.look_again()
    assert git(swarm.top, "status", "--porcelain") == ""
    names = ("build/deep/er/o", "build/same", "build/mine")
    assert [(swarm.top / name).read_text() for name in names] == ["new\n", "same\n", "mine\n"]


@pytest.mark.slow
def test_branches_go_by_their_long_names_too(swarm: Swarm) -> None:
    """What git takes as the name of a branch names it here: as the base of a plan, which is then its target, and to `--into`."""
    git(swarm.top, "branch", "side")
    run = swarm.run(swarm.plan("long", [swarm.task("t")], base="refs/heads/main"))
    assert run["base"]["branch"] == "main"
    swarm("start")
    assert swarm("finish", "--json", "--run", "long").json["finish"]["into"] == "main"
    done = swarm("finish", "--into", "heads/side", "--run", "long", "--json").json["finish"]
    assert (done["into"], git(swarm.top, "log", "-1", "--format=%s", "side")) == ("side", "Land t: Task t")
    swarm.look_again()
    assert git(swarm.top, "for-each-ref", "--format=%(refname)", "refs/heads/refs", "refs/heads/heads") == ""


@pytest.mark.slow
def test_a_target_that_stands_for_another_branch_moves_its_checkout(swarm: Swarm) -> None:
    """Where HEAD, or the branch that is named, is a symbolic ref, as the old name of a branch that was renamed, the branch that it
    comes to is finished into, and its checkout goes along: else the next commit there would take all back."""
    git(swarm.top, "branch", "-m", "main", "trunk")
    git(swarm.top, "symbolic-ref", "refs/heads/main", "refs/heads/trunk")
    git(swarm.top, "symbolic-ref", "HEAD", "refs/heads/main")
    (swarm.top / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    swarm.look_again()
    staging = landed(swarm)
    done = swarm("finish", "--into", "main", "--json").json["finish"]
    assert (done["outcome"], done["into"]) == ("finished", "trunk")
    assert (swarm.top / ".git" / "HEAD").read_text() == "ref: refs/heads/main\n"
    assert (swarm.top / ".git" / "refs/heads/main").read_text() == "ref: refs/heads/trunk\n"
    assert git(swarm.top, "rev-parse", "trunk", "main", "HEAD").splitlines() == [staging] * 3
    assert git(swarm.top, "status", "--porcelain") == ""
    assert (swarm.top / "new").exists()
    swarm.look_again()


@pytest.mark.slow
@pytest.mark.parametrize("locked", [True, False])
def test_a_target_whose_checkout_is_away_is_not_moved(swarm: Swarm, locked: bool) -> None:
    """As git itself refuses: back again, that checkout would hold the old files as changes of its user's, and commit them."""
    git(swarm.top, "checkout", "-q", "-b", "mine")
    other, away = swarm.outside / "other", swarm.outside / "away"
    git(swarm.top, "worktree", "add", "-q", str(other), "main")
    if locked:
        git(swarm.top, "worktree", "lock", str(other))
    swarm.look_again()
    staging = landed(swarm)
    other.rename(away)
    refused = swarm("finish", "--into", "main", code=4).err
    assert f"main is checked out in {other}, which is not there" in refused
    assert f"git worktree remove --force --force {other}" in refused
    away.rename(other)
    swarm("finish", "--into", "main")
    assert git(other, "rev-parse", "HEAD") == staging
    assert git(other, "status", "--porcelain") == ""
    swarm.look_again()


def test_staged_only(swarm: Swarm) -> None:
    """Row 51: --stage-only puts the result into index and files, makes no commit and moves no branch."""
    before = git(swarm.top, "rev-parse", "main")
    staging = landed(swarm)
    swarm("finish", "--stage-only")
    assert git(swarm.top, "rev-parse", "HEAD") == before
    assert git(swarm.top, "diff", "--cached", "--name-only").splitlines() == ["new", "src/b.py"]
    assert git(swarm.top, "diff", "--name-only") == ""
    assert git(swarm.top, "write-tree") == git(swarm.top, "rev-parse", f"{staging}^{{tree}}")
    swarm.look_again()


@pytest.mark.slow
def test_settings_that_come_with_a_landing_are_told(swarm: Swarm) -> None:
    """That work changes swarm.toml is told while the run is watched, by `show`, and by `finish --preview` with what shows it."""
    task = swarm.task("t", "echo '[limits]' > swarm.toml", claims=["swarm.toml"])
    said = swarm("run", str(swarm.plan("r", [task, swarm.task("other")])))
    assert "noticed: swarm.toml holds swarm's settings, with commands that run as you" in said.out + said.err
    assert "swarm.toml holds commands that run as you" in swarm("show", "t").out
    assert "holds commands" not in swarm("show", "other").out
    preview = swarm("finish", "--preview").out
    look = preview.partition("look first: ")[2].splitlines()[0]
    assert "+[limits]" in git(swarm.top, *look.split()[1:])


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("forward", marks=pytest.mark.slow),
        pytest.param("merge", marks=pytest.mark.slow),
        "conflict",
    ],
)
def test_the_preview_is_what_happens(swarm: Swarm, case: str) -> None:
    """Row 50: --preview tells paths and outcome of a plain move, a merge and a conflict as they then happen, moving nothing."""
    landed(swarm)
    if case == "merge":
        commit(swarm.top, "other", "mine\n")
    if case == "conflict":
        commit(swarm.top, "src/b.py", "b = 3\n")
    swarm.look_again()
    old = git(swarm.top, "rev-parse", "main")
    merged = git(swarm.top, "merge-tree", "--write-tree", old, swarm.staging("r"), check=False)
    preview = swarm("finish", "--preview", "--json", code=None).json["finish"]
    assert snapshot(swarm.top) == swarm.before
    if case == "conflict":
        assert preview["conflicts"] == ["src/b.py"]
        refused = swarm("finish", code=4).err
        assert "src/b.py" in refused
        assert git(swarm.top, "rev-parse", "main") == old
        tree = swarm.top / ".worktrees" / "r" / "staging"
        assert f"git -C {tree} merge main, settle and commit it there, then swarm finish again" in refused
        git(tree, "merge", "-q", "main", check=False)
        git(tree, "checkout", "-q", "--ours", "src/b.py")
        git(tree, "commit", "-q", "-a", "-m", "Settled")
        swarm("finish")
        assert git(swarm.top, "merge-base", "main", old) == old
        swarm.look_again()
        return
    done = swarm("finish", "--json").json["finish"]
    new = git(swarm.top, "rev-parse", "main")
    assert done["commit"] == new
    assert preview["paths"] == git(swarm.top, "diff", "--name-only", old, new).splitlines()
    assert git(swarm.top, "rev-parse", f"{new}^{{tree}}") == merged
    if case == "forward":
        assert preview["commit"] == new
    swarm.look_again()


def test_a_target_that_has_moved_is_merged_with(swarm: Swarm) -> None:
    """When the target has moved meanwhile, finish makes a merge of it and staging, verified before the target moves."""
    seen = swarm.outside / "seen"
    staging = landed(swarm, verify=[f"git rev-parse HEAD >> {seen}; ls >> {seen}.ls"])
    mine = commit(swarm.top, "other", "mine\n")
    swarm("finish")
    new = git(swarm.top, "rev-parse", "main")
    assert git(swarm.top, "log", "-1", "--format=%P", new).split() == [mine, staging]
    assert seen.read_text().split()[-1] == new
    assert git(swarm.top, "status", "--porcelain") == ""
    assert (swarm.top / "other").read_text() == "mine\n"
    assert (swarm.top / "new").read_text() == "new\n"
    swarm.look_again()


AUTHOR = {"GIT_AUTHOR_NAME": "Cy", "GIT_AUTHOR_EMAIL": "cy@example.org"}
COMMITTER = {"GIT_COMMITTER_NAME": "Di", "GIT_COMMITTER_EMAIL": "di@example.org"}


@pytest.mark.parametrize(
    ("settings", "env", "author", "committer"),
    [
        ("name = Bo\n\temail = bo@example.org", {}, "Bo <bo@example.org>", "Bo <bo@example.org>"),
        pytest.param(
            "name = Bo",
            AUTHOR | COMMITTER,
            "Cy <cy@example.org>",
            "Di <di@example.org>",
            marks=pytest.mark.slow,
        ),
        pytest.param("", AUTHOR, "Cy <cy@example.org>", "swarm <swarm@localhost>", marks=pytest.mark.slow),
    ],
)
def test_the_merge_of_a_finish_is_the_users_own(
    swarm: Swarm, settings: str, env: dict[str, str], author: str, committer: str
) -> None:
    """The merge that a finish makes on a branch of the user's is by whom git would take for its author and committer there; by
    swarm where it knows nobody, and so are the landings in any case."""
    landed(swarm, verify=["true"])
    commit(swarm.top, "other", "mine\n")
    (swarm.outside / "me").write_text(f"[user]\n\t{settings}\n")
    git(swarm.top, "config", "--remove-section", "user")
    git(swarm.top, "config", f"includeIf.gitdir:{swarm.top}/.path", str(swarm.outside / "me"))
    swarm.look_again()
    swarm.wait_for_rest()
    swarm("finish", env=env)
    signed = "--format=%s, %an <%ae>, %cn <%ce>"
    assert git(swarm.top, "log", "-1", signed, "main") == f"Merge run r, {author}, {committer}"
    ours = "swarm <swarm@localhost>"
    assert git(swarm.top, "log", "-1", signed, "main^2") == f"Land t: Task t, {ours}, {ours}"
    swarm.look_again()


@pytest.mark.slow
@pytest.mark.parametrize("further", [False, True])
def test_a_target_that_another_run_started_from_is_merged_with(swarm: Swarm, further: bool) -> None:
    """A run is finished into a branch that moved on and from which another run began since: the merge is a real one, with what both
    sides have; nobody is told that all of it is there already."""
    staging = landed(swarm)
    mine = commit(swarm.top, "src/mine.py", "mine\n")
    swarm.look_again()
    swarm.run(swarm.plan("later", [swarm.task("other")]))
    if further:
        mine = commit(swarm.top, "src/more.py", "more\n")
        swarm.look_again()
    document = swarm("finish", "--run", "r", "--preview", "--json").json
    assert document["runs"][0].keys() == swarm.status()["runs"][0].keys()  # a document of the same shape
    preview = document["finish"]
    assert sorted(preview["paths"]) == ["new", "src/b.py"]
    done = swarm("finish", "--run", "r", "--json").json["finish"]
    assert done["outcome"] == "finished"
    assert git(swarm.top, "rev-list", "--parents", "-1", "main").split()[1:] == [mine, staging]
    assert git(swarm.top, "show", "main:new") == "new"
    assert (swarm.top / "src" / "mine.py").read_text() == "mine\n"
    swarm.look_again()


@pytest.mark.slow
def test_a_target_with_nothing_in_common_is_refused(swarm: Swarm) -> None:
    """Into a branch that shares no commit with staging nothing is merged, and nobody is told that it was."""
    landed(swarm)
    tree = git(swarm.top, "rev-parse", "main^{tree}")
    git(swarm.top, "branch", "alien", git(swarm.top, "commit-tree", "-m", "alien", tree))
    swarm.look_again()
    for more in ((), ("--preview",)):
        assert "have no commit in common" in swarm("finish", "--into", "alien", *more, code=4).err
    assert swarm.status()["runs"][0]["state"] == "ended"


def test_a_merge_that_does_not_pass_moves_nothing(swarm: Swarm) -> None:
    """When staging merged with a target that moved does not pass verification, finish ends with 1 and the target stays."""
    landed(swarm, verify=["! test -e other"])
    commit(swarm.top, "other", "mine\n")
    swarm.look_again()
    refused = swarm("finish", code=1)
    assert "pass" in refused.err
    assert snapshot(swarm.top) == swarm.before


@pytest.mark.slow
def test_what_landed_before_a_suite_was_given_has_to_pass_it_too(swarm: Swarm) -> None:
    """A suite that came after the landing runs on staging before that is merged; until all have passed it is not verified."""
    landed(swarm, verify=["true"])
    assert swarm.status()["runs"][0]["staging"]["verified"] is True
    swarm("run", str(swarm.outside / "r.json"), "--verify", "test -e nothere")
    assert swarm.status()["runs"][0]["staging"]["verified"] is False
    refused = swarm("finish", code=1)
    assert "staging does not pass: test -e nothere (failed)" in refused.err
    assert snapshot(swarm.top) == swarm.before
    swarm.look_again()


def test_what_a_suite_passed_at_the_finish_is_verified_by_it(swarm: Swarm) -> None:
    """A suite that came after the landing and passed for the finish has passed on staging: it is verified, and a finish more runs
    nothing again. A suite that is given after that has not."""
    ran = swarm.outside / "ran"
    landed(swarm, verify=["true"])
    git(swarm.top, "branch", "other")
    swarm.look_again()
    swarm("run", str(swarm.outside / "r.json"), "--verify", f"echo ran >> {ran}")
    assert swarm.status()["runs"][0]["staging"]["verified"] is False
    swarm("finish")
    swarm.look_again()
    assert swarm.status()["runs"][0]["staging"]["verified"] is True
    swarm("finish", "--into", "other")
    assert ran.read_text() == "ran\n"
    swarm.look_again()
    swarm("run", str(swarm.outside / "r.json"), "--verify", "test -e nothere")
    assert swarm.status()["runs"][0]["staging"]["verified"] is False


@pytest.mark.slow
def test_a_target_that_moves_in_the_very_moment_is_not_overwritten(swarm: Swarm) -> None:
    """Compare and swap: a target that moves while finish verifies is refused with exit 4; what moved it is kept."""
    top = shlex.quote(str(swarm.top))
    race = f"! test -e other || git -C {top} update-ref refs/heads/main $(git -C {top} commit-tree -p main -m race 'main^{{tree}}')"
    landed(swarm, verify=[race])
    mine = commit(swarm.top, "other", "mine\n")
    files = snapshot(swarm.top)["files"]
    refused = swarm("finish", code=4)
    assert "main" in refused.err
    assert git(swarm.top, "log", "-1", "--format=%s %P", "main") == f"race {mine}"
    assert git(swarm.top, "status", "--porcelain") == ""
    assert snapshot(swarm.top)["files"] == files
    swarm.look_again()
    swarm("finish", "--preview")


@pytest.mark.slow
def test_into_a_branch_that_is_checked_out_elsewhere(swarm: Swarm) -> None:
    """`--into` a branch moves the second worktree in which that is checked out, and not the main one."""
    second = swarm.outside / "second"
    git(swarm.top, "worktree", "add", "-q", "-b", "develop", str(second))
    swarm.look_again()
    staging = landed(swarm)
    swarm("finish", "--into", "develop")
    assert git(second, "rev-parse", "HEAD") == staging
    assert git(second, "symbolic-ref", "HEAD") == "refs/heads/develop"
    assert git(second, "status", "--porcelain") == ""
    assert (second / "new").exists()
    swarm.before["refs"] = [ref for ref in swarm.before["refs"] if "develop" not in ref] + [
        f"refs/heads/develop {staging}"
    ]
    swarm.before["refs"].sort()


@pytest.mark.slow
def test_into_a_branch_that_is_checked_out_nowhere(swarm: Swarm) -> None:
    """`--into` a branch that nobody has checked out moves that branch alone; a branch that is not there is refused."""
    git(swarm.top, "branch", "release")
    staging = landed(swarm)
    swarm("finish", "--into", "nowhere", code=2)
    swarm("finish", "--into", "release", "--stage-only", code=4)
    swarm("finish", "--into", "release")
    assert git(swarm.top, "rev-parse", "release") == staging
    assert git(swarm.top, "status", "--porcelain") == ""
    swarm.before["refs"].append(f"refs/heads/release {staging}")


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_a_branch_that_a_rebase_holds_is_not_moved(swarm: Swarm, late: bool) -> None:
    """While a rebase of the target is under way, also one that began while its merge was verified, finish is refused with exit 4,
    moves nothing, and says what ends it; then it goes through."""
    top = shlex.quote(str(swarm.top))
    begin = f"git -C {top} rebase -q --exec false HEAD~1"
    suite = (
        f'! test -e mine || test -e {swarm.gate("go")} || {{ ! env -i PATH="$PATH" HOME="$HOME" {begin}; }}'
    )
    landed(swarm, verify=[suite] if late else [])
    mine = commit(swarm.top, "mine", "mine\n")
    if not late:
        git(swarm.top, *begin.split()[3:], check=False)
        assert "is in the middle of a git rebase" in swarm("finish", "--preview", code=1).out
    refused = swarm("finish", code=4).err
    assert f"git -C {swarm.top} rebase --continue, or --abort" in refused
    assert git(swarm.top, "rev-parse", "main") == mine
    assert git(swarm.top, "status", "--porcelain") == ""
    git(swarm.top, "rebase", "--abort")
    swarm.look_again()
    swarm.open("go")
    swarm("finish")
    assert git(swarm.top, "log", "-1", "--format=%s", "main") == "Merge run r"
    swarm.look_again()


def test_not_before_every_task_has_ended(swarm: Swarm) -> None:
    """While tasks are open finish is refused with exit 4; --partial takes what has landed, and the rest can be finished later."""
    plan = swarm.plan("r", [swarm.task("a"), swarm.task("b", gate="b")])
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("b")
    swarm.wait_for_landed("r", "a")
    refused = swarm("finish", code=4)
    assert "--partial" in refused.err
    swarm("finish", "--partial")
    assert (swarm.top / "out-a").exists()
    swarm.open("b")
    swarm.wait("r")
    swarm("finish")
    assert (swarm.top / "out-b").exists()
    assert git(swarm.top, "rev-parse", "main") == swarm.staging("r")
    swarm.look_again()


@pytest.mark.slow
def test_a_branch_named_swarm_is_in_the_way(swarm: Swarm) -> None:
    """A branch of the user's named `swarm` leaves no room for ours: exit 4, it says so, and nothing happens."""
    git(swarm.top, "branch", "swarm")
    swarm.look_again()
    refused = swarm("run", str(swarm.plan("r", [swarm.task("t")])), code=4)
    assert "swarm" in refused.err
    assert "git branch -m" in refused.err
    assert swarm.starts() == []
    assert swarm.status()["runs"] == []


@pytest.mark.slow
def test_a_target_that_moves_while_the_files_do_is_left(swarm: Swarm) -> None:
    """A commit that reaches the target between the look at it and its move is not lost: finish refuses, and the files are back.

    Here it is made by a filter of the user's, which git runs while it writes the files of their checkout.
    """
    armed, other, script = (swarm.outside / name for name in ("armed", "other", "smudge"))
    script.write_text(
        f"#!/bin/sh\nrm {armed} 2>/dev/null && git update-ref refs/heads/main $(cat {other})\nexec cat\n"
    )
    script.chmod(0o755)
    git(swarm.top, "config", "filter.meddle.smudge", str(script))
    (swarm.top / ".gitattributes").write_text("*.txt filter=meddle\n")
    git(swarm.top, "add", "-A")
    git(swarm.top, "commit", "-q", "-m", "a filter")
    swarm.look_again()
    swarm.run(swarm.plan("r", [swarm.task("t", "echo new > new.txt", claims=["new.txt"])]))
    other.write_text(git(swarm.top, "commit-tree", "main^{tree}", "-p", "main", "-m", "mine"))
    armed.touch()
    assert "main moved to" in swarm("finish", code=4).err
    assert git(swarm.top, "rev-parse", "main") == other.read_text()
    assert git(swarm.top, "status", "--porcelain") == ""
    assert not (swarm.top / "new.txt").exists()
    swarm.look_again()


def finish_under_way(swarm: Swarm, *args: str) -> subprocess.Popen[str]:
    """Begins a `swarm finish` of a run "r" whose merge is verified until the gate "go" is open."""
    began = swarm.outside / "began"
    suite = f"test ! -e mine || {{ touch {began}; until test -e {swarm.gate('go')}; do sleep 0.05; done; }}"
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a")], verify=[suite])))
    swarm.wait("r")
    commit(swarm.top, "mine", "mine\n")
    swarm.look_again()
    finishing = swarm.spawn("finish", *args)
    wait_until(began.exists, at_most_s=120)
    return finishing


@pytest.mark.slow
def test_a_finish_waits_for_one_that_goes_on(swarm: Swarm) -> None:
    """A second `swarm finish`, while the first verifies its merge, waits for that and finds everything done."""
    first = finish_under_way(swarm, "--json")
    second = swarm.spawn("finish", "--json")
    wait_until(lambda: len(swarm.events("StagingLookAsked")) == 2, at_most_s=120)
    swarm.open("go")
    said = [json.loads(each.communicate(timeout=200)[0])["finish"] for each in (first, second)]
    swarm.look_again()
    assert [each["outcome"] for each in said] == ["finished", "nothing"]
    assert {each["commit"] for each in said} == {git(swarm.top, "rev-parse", "main")}


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_finish_that_is_interrupted_is_taken_back(swarm: Swarm, number: signal.Signals) -> None:
    """A `swarm finish` that is interrupted or killed while its merge is verified merges nothing, ends the suites, and says so where
    it can; the next one goes through."""
    began, first = swarm.outside / "began", swarm.outside / "first"
    suite = f"test ! -e mine || test -e {swarm.gate('go')} || {{ echo $$ > {first}; mv {first} {began}; sleep 500; }}"
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a")], verify=[suite])))
    swarm.wait("r")
    mine = commit(swarm.top, "mine", "mine\n")
    finishing = swarm.spawn("finish")
    wait_until(began.exists, at_most_s=120)
    swarm.look_again()
    os.kill(finishing.pid, number)
    err = finishing.communicate(timeout=200)[1]
    wait_until(lambda: len(swarm.events("FinishRefused")) == 1, at_most_s=120)
    assert [each["reason"]["code"] for each in swarm.events("FinishRefused")] == ["taken_back"]
    if number is not signal.SIGKILL:
        assert finishing.returncode == 130
        assert "Run r was not finished: it was taken back" in err
        assert "main stays as it was" in err
    wait_until(lambda: not psutil.pid_exists(int(began.read_text())), at_most_s=120)
    assert git(swarm.top, "rev-parse", "main") == mine
    assert snapshot(swarm.top) == swarm.before
    swarm.open("go")
    swarm("finish")
    assert git(swarm.top, "log", "-1", "--format=%s", "main") == "Merge run r"
    swarm.look_again()


def killed_in_finish(swarm: Swarm) -> str:
    """Kills a daemon, and who asked it, while it verifies the merge of a finish of the run "r"; the suite goes on until the gate
    "go" is open. Gives the commit that main stands at."""
    asked = finish_under_way(swarm)
    os.kill(asked.pid, signal.SIGSTOP)  # else it starts the next daemon by itself
    swarm.end_daemon()
    asked.kill()
    asked.communicate(timeout=200)
    return git(swarm.top, "rev-parse", "main")


@pytest.mark.slow
def test_a_finish_that_a_killed_daemon_had_begun_is_taken_back_with_the_next(swarm: Swarm) -> None:
    """Ctrl-C on a finish that waits for one which the next daemon goes on with takes that back too, as it says; until then status
    and the start say that it is under way, and nothing is merged afterwards, whatever is started."""
    mine = killed_in_finish(swarm)
    (run,) = swarm.status()["runs"]
    assert (run["finishing"]["state"], run["finishing"]["into"]) == ("pending", "main")
    assert (
        "a finish into main was under way when the daemon ended: the next one goes on with it"
        in swarm("status").out
    )
    finishing = swarm.spawn("finish")
    wait_until(lambda: len(swarm.events("StagingLookAsked")) == 2, at_most_s=120)
    assert swarm.status()["runs"][0]["finishing"]["state"] == "under_way"
    assert "a finish into main is under way for" in swarm("status").out
    os.kill(finishing.pid, signal.SIGINT)
    err = finishing.communicate(timeout=200)[1]
    assert finishing.returncode == 130
    assert "It goes on with a finish of run r into main" in err
    assert "it was taken back before anything was merged" in err
    assert "main stays as it was" in err
    assert [each["reason"]["code"] for each in swarm.events("FinishRefused")] == ["taken_back"]
    assert swarm.status()["runs"][0]["finishing"] is None
    swarm.open("go")
    swarm("stop")
    assert "It goes on" not in swarm("start").err
    assert git(swarm.top, "rev-parse", "main") == mine
    assert snapshot(swarm.top) == swarm.before
    swarm("finish")
    assert git(swarm.top, "log", "-1", "--format=%s", "main") == "Merge run r"
    swarm.look_again()


@pytest.mark.slow
def test_a_finish_that_a_killed_daemon_had_begun_is_given_up_by_a_stop(swarm: Swarm) -> None:
    """`swarm start` says that it goes on with it, `swarm stop` gives it up, and the next daemon merges nothing."""
    mine = killed_in_finish(swarm)
    assert "It goes on with a finish of run r into main" in swarm("start").err
    swarm("stop")
    assert [each["reason"]["code"] for each in swarm.events("FinishRefused")] == ["stopped"]
    swarm.open("go")
    assert "It goes on" not in swarm("start").err
    assert git(swarm.top, "rev-parse", "main") == mine
    assert snapshot(swarm.top) == swarm.before


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_of_two_finishes_one_is_taken_back_and_it_is_said_that_the_other_goes_on(
    swarm: Swarm, first: bool
) -> None:
    """Ctrl-C on one of two, whichever is at work, does not say that main stays: the other goes on, and merges."""
    asked = finish_under_way(swarm)
    waits = swarm.spawn("finish")
    wait_until(lambda: len(swarm.events("StagingLookAsked")) == 2, at_most_s=120)
    taken, other = (asked, waits) if first else (waits, asked)
    os.kill(taken.pid, signal.SIGINT)
    err = taken.communicate(timeout=200)[1]
    assert taken.returncode == 130
    assert "Another swarm finish of run r goes on, and merges when its turn comes" in err
    assert "stays as it was" not in err
    swarm.open("go")
    assert "Run r is on main" in other.communicate(timeout=200)[0]
    assert other.returncode == 0
    assert git(swarm.top, "log", "-1", "--format=%s", "main") == "Merge run r"
    swarm.look_again()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [(), ("--now",), ("--leave-workers",)])
def test_a_finish_is_given_up_by_a_stop_and_not_gone_on_with(swarm: Swarm, mode: tuple[str, ...]) -> None:
    """A daemon that is stopped while the merge of a finish is verified says that nothing was merged, and the next daemon merges
    nothing by itself: whoever asked was told to ask again."""
    began = swarm.outside / "began"
    suite = f"test ! -e mine || test -e {swarm.gate('go')} || {{ touch {began}; sleep 500; }}"
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a")], verify=[suite])))
    swarm.wait("r")
    mine = commit(swarm.top, "mine", "mine\n")
    swarm.look_again()
    finishing = swarm.spawn("finish")
    wait_until(began.exists, at_most_s=120)
    swarm("stop", *mode)
    err = finishing.communicate(timeout=200)[1]
    assert finishing.returncode == 1
    assert "Run r was not finished: the daemon was stopped before anything was merged" in err
    assert "Next: swarm finish again" in err
    swarm.open("go")
    swarm("start")
    assert [each["reason"]["code"] for each in swarm.events("FinishRefused")] == ["stopped"]
    assert git(swarm.top, "rev-parse", "main") == mine
    swarm("finish")
    assert git(swarm.top, "log", "-1", "--format=%s", "main") == "Merge run r"
    swarm.look_again()


@pytest.mark.slow
def test_a_daemon_that_drains_finishes_first(swarm: Swarm) -> None:
    """A finish under way is waited for by `swarm stop --drain`, as all that is."""
    finishing = finish_under_way(swarm)
    stopping = swarm.spawn("stop", "--drain")
    wait_until(lambda: bool(swarm.events("StopRequested")), at_most_s=120)
    swarm.open("go")
    said = finishing.communicate(timeout=200)
    assert finishing.returncode == 0, said
    assert stopping.wait(timeout=200) == 0
    assert git(swarm.top, "log", "-1", "--format=%s", "main") == "Merge run r"
    swarm.look_again()


@pytest.mark.parametrize("deploys", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_finish_that_is_interrupted_too_late_says_what_it_did(swarm: Swarm, deploys: bool) -> None:
    """Once the files of the checkout are being written a `swarm finish` that is interrupted goes through, says so, and that
    nothing was deployed where something would have been; the exit code is 130 all the same."""
    armed, began, script = (swarm.outside / name for name in ("armed", "began", "smudge"))
    script.write_text(
        f"#!/bin/sh\nif rm {armed} 2>/dev/null; then touch {began}; until [ -e {swarm.gate('go')} ]; do sleep 0.05; done; fi\n"
        "exec cat\n"
    )
    script.chmod(0o755)
    git(swarm.top, "config", "filter.slow.smudge", str(script))
    commit(swarm.top, ".gitattributes", "*.txt filter=slow\n")
    swarm.look_again()
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("t", "echo new > new.txt", claims=["new.txt"])])))
    swarm.wait("r")
    armed.touch()
    finishing = swarm.spawn(
        "finish", SWARM_DEPLOY__COMMAND=f"touch {swarm.outside}/deployed" if deploys else ""
    )
    wait_until(began.exists, at_most_s=120)
    os.kill(finishing.pid, signal.SIGINT)
    swarm.open("go")
    err = finishing.communicate(timeout=200)[1]
    swarm.look_again()
    assert (finishing.returncode, (swarm.outside / "deployed").exists()) == (130, False)
    assert f"too late to take it back: main stands at {swarm.staging('r')[:12]}" in err
    assert ("Next: swarm finish --run r" in err, "[deploy]" in err) == (deploys, deploys)
    assert git(swarm.top, "rev-parse", "main") == swarm.staging("r")

"""Submodules that a person set up in a worktree of a run: what only they have goes with no worktree unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm


@pytest.fixture
def base(swarm: Swarm) -> Swarm:
    """A repository that has another as its submodule `lib`."""
    other = swarm.outside / "library"
    git(swarm.outside, "init", "-q", "-b", "main", str(other))
    (other / "code").write_text("1\n")
    commit(other)
    git(swarm.top, *ALLOWED, "submodule", "--quiet", "add", str(other), "lib")
    git(swarm.top, "commit", "-q", "-m", "with a submodule")
    swarm.look_again()
    return swarm


ALLOWED = ("-c", "protocol.file.allow=always")


def commit(top: Path) -> None:
    git(top, "add", "-A")
    git(top, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-q", "-m", "work")


def set_up(worktree: Path) -> Path:
    git(worktree, *ALLOWED, "submodule", "--quiet", "update", "--init")
    return worktree / "lib"


def a_branch_of_ones_own(lib: Path) -> None:
    """Leaves the submodule as it was, but for a branch."""
    at = git(lib, "rev-parse", "HEAD")
    git(lib, "switch", "-q", "-c", "mine")
    (lib / "code").write_text("2\n")
    commit(lib)
    git(lib, "checkout", "-q", "--detach", at)


@pytest.mark.slow
def test_a_discard_names_the_worktree_with_commits_in_a_submodule(base: Swarm) -> None:
    """A branch in a submodule of the staging worktree, which git shows as no change, is work that is nowhere else; a submodule that
    only was set up is not, and nothing is asked for once the branch is gone or elsewhere."""
    base.run(base.plan("r", [base.task("a")]))
    base("finish")
    base.look_again()
    lib = set_up(base.wait_for_follow("r"))
    assert base("discard", "r", "--dry-run", "--json").json["holds"] == []
    a_branch_of_ones_own(lib)
    (lost,) = base("discard", "r", "--dry-run", "--json").json["holds"]
    assert (lost["name"], "its submodule lib has commits" in lost["text"]) == ("worktree/staging", True)
    base("discard", "r", code=4)
    git(lib, "push", "-q", "origin", "mine")
    base("discard", "r")
    assert git(base.outside / "library", "show", "mine:code") == "2"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["branch", "stash", "file"])
def test_an_opened_worktree_stays_for_what_is_in_a_submodule(base: Swarm, what: str) -> None:
    """Commits of a submodule, and files in it, can be kept by no ref of the repository: --force does not remove them either."""
    base.run(base.plan("r", [base.task("a", "echo x > a; exit 1", claims=["a"], attempts=1)]), code=1)
    opened = Path(base("worktrees", "open", "a").out.strip())
    lib = set_up(opened)
    if what == "branch":
        a_branch_of_ones_own(lib)
    else:
        (lib / "code").write_text("2\n")
    if what == "stash":
        git(lib, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "stash", "-q")
    for force in ([], ["--force"]):
        told = base("worktrees", "--clean", *force, code=4).out
        reason = "changed or new files" if what == "file" else "commits that its remote does not have"
        assert f"its submodule lib has {reason}" in told
    assert (lib / "code").exists()
    undo = {
        "branch": ["branch", "-D", "mine"],
        "stash": ["stash", "drop"],
        "file": ["checkout", "-q", "code"],
    }
    git(lib, *undo[what])
    base("worktrees", "--clean")
    assert not opened.exists()


@pytest.mark.slow
def test_the_staging_worktree_stays_for_a_submodule_whose_place_is_taken(base: Swarm) -> None:
    """Git would delete its folder for the file that lands there, with what a person has in it; it is said why it stays behind."""
    work = "git rm -q --cached lib; rm -rf lib; echo file > lib"
    base("start")
    tasks = [base.task("a"), base.task("b", work, gate="go", claims=["lib", "lib/**"])]
    base("submit", str(base.plan("r", tasks)))
    wait_until(lambda: base.landings("r") == ["a"])
    lib = set_up(base.wait_for_follow("r"))
    a_branch_of_ones_own(lib)
    base.open("go")
    base.check_landed(base.wait("r"))
    wait_until(lambda: base.run_of("r")["staging"]["worktree_reason"])
    assert "has a submodule in lib, where something else comes" in base("status").out
    assert git(lib, "show", "mine:code") == "2"
    assert base.content("r", "lib") == "file\n"

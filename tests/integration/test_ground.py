"""What of the user's lies where worktrees would be made is seen before a run begins, and never written into."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from swarm import config
from swarm.client import planfiles
from swarm.core.places import Places
from swarm.daemon import intake
from swarm.daemon.reconcile import open_edges
from swarm.edge import git as edge
from swarm.edge import ground
from swarm.edge.worktrees import Pool
from swarm.errors import Refused
from tests.conftest import git

PLAN = json.dumps({"name": "login", "tasks": [{"id": "x", "run": "true", "claims": ["x"]}]}).encode()


def submit(repo: Path, plan: bytes = PLAN) -> None:
    """Holds the plan against the repository as a client does that would start a daemon for it."""
    planfiles.check_submission(plan, "p.json", (), repo, repo, repo / ".git" / "swarm")


def warnings(repo: Path, said: bytes = PLAN) -> str:
    """Gives what `swarm check` warns of."""
    plan = repo.parent / "p.json"
    plan.write_bytes(said)
    document, _, code = planfiles.check([str(plan)], repo, config.load(repo, {}))
    assert code == 0  # the plan itself is valid
    return "\n".join(each["text"] for each in document["plans"][0]["warnings"])


def worktree(repo: Path, name: str) -> Path:
    """Makes a worktree of the user's below `.worktrees`, with a file of theirs."""
    path = repo / ".worktrees" / name
    git(repo, "worktree", "add", "-q", "-b", f"of-mine-{name}", str(path))
    (path / "new.txt").write_text("mine\n")
    return path


@pytest.mark.parametrize("name", ["login", "pool"])
def test_a_worktree_of_the_users_refuses_the_run(repo: Path, name: str) -> None:
    """Where the staging worktree or the pool would lie in it, `submit` refuses (4) with what moves it, and `check` warns."""
    theirs = worktree(repo, name)
    with pytest.raises(Refused, match=f"{theirs} is in the way: it is a worktree of your own") as refused:
        submit(repo)
    assert f"git worktree move {theirs}" in refused.value.next_step
    assert f"{theirs} is in the way" in warnings(repo)
    git(repo, "worktree", "move", str(theirs), str(repo.parent / "elsewhere"))
    submit(repo)
    assert warnings(repo) == ""


def test_a_daemon_refuses_it_too(repo: Path) -> None:
    """A daemon holds the plan of a new run against its own root, in which other worktrees of the user's may lie."""
    worktree(repo, "another")
    edges = open_edges(
        Places(repo / ".git" / "swarm"), edge.Repository.discover(repo), config.load(repo, {}), {}
    )
    try:
        root = edges.pool.root.parent
        intake.check_ground("login", root, repo)
        worktree(repo, "login")
        with pytest.raises(Refused, match="login is in the way"):
            intake.check_ground("login", root, repo)
    finally:
        edges.close()


def test_a_folder_a_file_and_a_repository_of_the_users_refuse_the_run(repo: Path) -> None:
    """What of theirs lies there is named; an empty folder, and one in which only linked worktrees are, are no hindrance."""
    place = repo / ".worktrees" / "login"
    place.mkdir(parents=True)
    submit(repo)
    (place / "notes.txt").write_text("mine\n")
    with pytest.raises(Refused, match=r"a folder of your own, with notes\.txt"):
        submit(repo)
    (place / "notes.txt").unlink()
    git(repo, "worktree", "add", "-q", "--detach", str(place / "look"))
    submit(repo)
    git(repo, "worktree", "remove", str(place / "look"))
    git(repo, "init", "-q", str(place))
    with pytest.raises(Refused, match="a repository of its own"):
        submit(repo)
    os.rename(place, repo.parent / "elsewhere")
    place.write_text("mine\n")
    with pytest.raises(Refused, match="it is a file"):
        submit(repo)


def test_a_root_that_is_a_worktree_of_the_users_refuses_the_run(repo: Path) -> None:
    """A `.gitignore` of ours would hide what they make in it."""
    git(repo, "worktree", "add", "-q", "-b", "mine", str(repo / ".worktrees"))
    with pytest.raises(Refused, match=r"\.worktrees is in the way"):
        submit(repo)


def test_what_swarm_made_is_no_hindrance(repo: Path, pool: Pool) -> None:
    """The pool, and what an earlier run of that name left, are ours."""
    base = git(repo, "rev-parse", "HEAD")
    pool.prepare_staging(repo / ".worktrees" / "login" / "staging", base)
    pool.take("login/x/1", base)
    pool.give_back("login/x/1")
    git(repo, "worktree", "remove", "--force", str(repo / ".worktrees" / "login" / "staging"))
    submit(repo)


def test_a_worktree_that_came_after_the_submission_is_not_written_into(repo: Path, pool: Pool) -> None:
    """Staging is not made in it, nor followed there, nor mended there, nor the pool begun there; each says why."""
    base = git(repo, "rev-parse", "HEAD")
    theirs = [worktree(repo, name) for name in ("login", "pool")]
    staging = theirs[0] / "staging"
    with pytest.raises(Refused, match="login is in the way"):
        pool.prepare_staging(staging, base)
    assert "login is in the way" in pool.follow(staging, base, base)
    (found,) = pool.mend_staging(staging, base, base)
    assert "login is in the way" in found.text
    assert not found.mended
    with pytest.raises(Refused, match="pool is in the way"):
        pool.take("login/x/1", base)
    for path in theirs:
        assert git(path, "status", "--porcelain") == "?? new.txt"
        assert not (path / ".gitignore").exists()
        assert not (path / "staging").exists()


def test_staging_that_lies_in_a_worktree_of_the_users_is_still_followed(repo: Path, pool: Pool) -> None:
    """What an earlier version made there goes on, and gets no `.gitignore` again."""
    staging, base = repo / ".worktrees" / "login" / "staging", git(repo, "rev-parse", "HEAD")
    pool.prepare_staging(staging, base)
    os.rename(staging, repo.parent / "aside")
    (repo / ".worktrees" / "login" / ".gitignore").unlink()
    worktree(repo, "login")
    os.rename(repo.parent / "aside", staging)
    git(repo, "commit", "-q", "--allow-empty", "-m", "newer")
    newer = git(repo, "rev-parse", "HEAD")
    assert pool.follow(staging, base, newer) == ""
    assert git(staging, "rev-parse", "HEAD") == newer
    assert not (repo / ".worktrees" / "login" / ".gitignore").exists()


@pytest.mark.parametrize("name", ["swarm", "swarm/login"])
def test_a_branch_in_the_way_is_known_before_the_run_begins(repo: Path, name: str) -> None:
    """`submit` refuses (4) with what renames it, and `check` warns: beside it the run's own branches can't be made."""
    git(repo, "branch", name)
    with pytest.raises(Refused, match=f'branch named "{name}" is in the way') as refused:
        submit(repo)
    assert f"git branch -m {name}" in refused.value.next_step
    assert f'"{name}" is in the way' in warnings(repo)
    git(repo, "branch", "-m", name, "another")
    submit(repo)
    assert warnings(repo) == ""


@pytest.mark.parametrize("name", ["pool", "unowned"])
def test_a_name_that_swarm_has_for_itself_is_refused(repo: Path, name: str) -> None:
    """No run can be called as the folder of the pool, or as what stands for nobody's: it would be taken for that."""
    plan = PLAN.replace(b"login", name.encode())
    with pytest.raises(Refused, match=f'No run can be called "{name}"'):
        submit(repo, plan)
    assert f'No run can be called "{name}"' in warnings(repo, plan)
    submit(repo, PLAN.replace(b"login", b"finish"))


# --- a folder that has other things in it ---------------------------------------------------------------------


def test_a_folder_with_tracked_files_is_refused(repo: Path) -> None:
    """Where git tracks files in the folder that `worktrees.root` names no run is taken in, the daemon does not start, and `check`
    says so; also where an earlier version has hidden what is in it."""
    (repo / "src" / ".gitignore").write_text("*\n")
    (repo / "swarm.toml").write_text('[worktrees]\nroot = "src"\n')
    found = edge.Repository.discover(repo)
    settings = config.load(repo, {})
    for asks in (
        lambda: submit(repo),
        lambda: planfiles.check([str(plan_file(repo))], repo, settings),
        lambda: intake.check_worktrees(settings, found),
    ):
        with pytest.raises(config.SettingsError, match=r"src/a\.py") as refused:
            asks()
        assert refused.value.exit_code == 2
        assert "such as '.worktrees'" in str(refused.value)


def test_no_folder_is_named_in_place_of_itself(repo: Path) -> None:
    """Where it is the folder that is usual which has tracked files, another one is named."""
    (repo / ".worktrees" / "mine").mkdir(parents=True)
    (repo / ".worktrees" / "mine" / "file").write_text("mine\n")
    git(repo, "add", "-f", ".worktrees")
    with pytest.raises(config.SettingsError, match=r"mine/file") as refused:
        submit(repo)
    assert "such as '.worktrees-of-swarm'" in str(refused.value)


def plan_file(repo: Path) -> Path:
    """Writes the plan to a file."""
    path = repo.parent / "p.json"
    path.write_bytes(PLAN)
    return path


@pytest.mark.parametrize("kept", [".gitkeep", ".gitignore"])
def test_a_folder_that_is_only_kept_in_commits_is_taken(repo: Path, kept: str) -> None:
    """A tracked file that keeps an empty folder in commits is no hindrance."""
    (repo / "wt").mkdir()
    (repo / "wt" / kept).write_text("*\n")
    git(repo, "add", "-f", "wt")
    (repo / "swarm.toml").write_text('[worktrees]\nroot = "wt"\n')
    submit(repo)


@pytest.mark.parametrize("root", ["mine", "../mine"])
def test_what_lies_beside_worktrees_is_not_hidden(repo: Path, root: str) -> None:
    """In a folder with files of the user's, inside the checkout or beside it, only what is made in it is hidden; one in which there
    is nothing else is hidden as a whole."""
    folder, base = repo / root, git(repo, "rev-parse", "HEAD").strip()
    folder.mkdir()
    (folder / "notes").write_text("mine")
    pool = Pool(
        edge.Repository.discover(repo), folder / "pool", lock=repo / ".git" / "swarm" / "locks" / "w.lock"
    )
    pool.take("r/a/1", base)
    pool.prepare_staging(folder / "login" / "staging", base)
    assert not (folder / ".gitignore").exists()
    (folder / "later").write_text("mine too")
    if root == "mine":
        assert git(repo, "status", "--short", "-uall", "--", root).split() == [
            "??",
            "mine/later",
            "??",
            "mine/notes",
        ]
    (folder / "later").unlink()
    (folder / "notes").unlink()
    pool.prepare_staging(folder / "other" / "staging", base)
    assert (folder / ".gitignore").exists()
    pool.close()


def test_a_folder_that_becomes_ours_while_it_is_looked_at_is_not_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers start at once, and one of them makes the pool between two looks of the other."""
    look = os.listdir

    def made_meanwhile(folder: Path) -> list[str]:
        (folder / ground.HIDING).write_text(ground.ALL)
        return look(folder)

    monkeypatch.setattr("swarm.edge.ground.os.listdir", made_meanwhile)
    assert ground.theirs(tmp_path) == ""

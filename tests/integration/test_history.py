"""What is read of commits and trees, against real repositories."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from swarm.edge import history
from swarm.errors import UsageError
from tests.conftest import git as sh


def diff_text(*asked: object, **more: object) -> str:
    """The patch as text."""
    return history.patch(*asked, **more).decode("utf-8", "replace")  # type: ignore[arg-type]


def commit(repo: Path, path: str, text: str | bytes, message: str) -> str:
    (repo / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    sh(repo, "add", "-A")
    sh(repo, "commit", "-q", "-m", message)
    return sh(repo, "rev-parse", "HEAD")


def test_facts_of_a_commit(repo: Path) -> None:
    """A commit is found by branch, by id and by expression, with tree, parents, author and whole message."""
    base = sh(repo, "rev-parse", "HEAD")
    head = commit(repo, "n", "1", "subject\n\nbody")
    facts = history.commit_facts(repo, "main")
    assert facts == history.commit_facts(repo, head)
    assert facts.parents == (base,)
    assert (facts.author.name, facts.subject, facts.message) == ("Ada", "subject", "subject\n\nbody\n")
    assert history.commit_facts(repo, "main^1").oid == base


@pytest.mark.parametrize("rev", ["nothing", "--output=planted", "-h", "", "main..main", "HEAD:README.md"])
def test_text_that_names_no_commit_is_refused(repo: Path, rev: str) -> None:
    """A person's text that names no commit is an error about that text, never an option and never a file."""
    for ask in (
        lambda: history.commit_facts(repo, rev),
        lambda: diff_text(repo, rev, "main"),
        lambda: history.diff_stat(repo, "main", rev),
    ):
        with pytest.raises(UsageError, match="names no commit"):
            ask()
    assert not (repo / "planted").exists()


def test_no_repository_is_said(tmp_path: Path) -> None:
    """A folder that is no repository, or is not there, is an error that names it."""
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="not a git repository"):
            history.commit_facts(path, "HEAD")


def test_diff_is_what_changed(repo: Path) -> None:
    """The patch holds what changed, of the named paths only when there are any, whatever they are called."""
    commit(repo, "--stat", "odd name\n", "odd")
    commit(repo, "plain", "plain\n", "plain")
    both = diff_text(repo, "main~2", "main")
    assert "+odd name" in both
    assert "+plain" in both
    only = diff_text(repo, "main~2", "main", ["--stat"])
    assert "+odd name" in only
    assert "+plain" not in only
    assert history.diff_stat(repo, "main~2", "main") == {"--stat": (1, 0), "plain": (1, 0)}


def test_diff_is_bounded_and_never_breaks_on_bytes(repo: Path) -> None:
    """A long patch is cut at a line and says so; bytes that are no text are shown, binary files are named."""
    commit(repo, "long", b"caf\xe9 line\n" * 50_000, "long")
    text = diff_text(repo, "main~1", "main", max_bytes=10_000)
    assert len(text) < 12_000
    assert text.endswith("+caf\ufffd line\n[cut after 10000 bytes]\n")
    commit(repo, "blob", bytes(range(256)), "binary")
    assert "Binary files" in diff_text(repo, "main~1", "main")
    assert history.diff_stat(repo, "main~1", "main") == {"blob": (0, 0)}


def test_nothing_configured_runs(repo: Path, tmp_path: Path) -> None:
    """External diffs and text conversions of the repository do not run, nor do a stray GIT_DIR's."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    trap.chmod(0o755)
    commit(repo, ".gitattributes", "* diff=trap\n", "attributes")
    sh(repo, "config", "diff.external", str(trap))
    sh(repo, "config", "diff.trap.textconv", str(trap))
    sh(repo, "config", "diff.trap.command", str(trap))
    assert "+* diff=trap" in diff_text(repo, "main~1", "main")
    assert not (tmp_path / "ran").exists()


def test_inherited_variables_do_not_mislead(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIT_DIR and its like, inherited from a hook, do not change which repository is read."""
    head = sh(repo, "rev-parse", "HEAD")
    sh(tmp_path, "init", "-q", "--bare", "other.git")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "other.git" / "objects"))
    assert history.commit_facts(repo, "main").oid == head


def test_worktrees_and_bare_repositories_are_read_alike(repo: Path, tmp_path: Path) -> None:
    """A linked worktree and a bare repository answer as the checkout does, in SHA-256 too."""
    head = sh(repo, "rev-parse", "HEAD")
    sh(repo, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    assert history.commit_facts(tmp_path / "tree", "HEAD").oid == head
    sh(tmp_path, "clone", "-q", "--bare", str(repo), "bare.git")
    assert history.commit_facts(tmp_path / "bare.git", "main").oid == head
    sh(tmp_path, "init", "-q", "-b", "main", "--object-format=sha256", "long")
    for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        sh(tmp_path / "long", "config", key, value)
    long = commit(tmp_path / "long", "n", "1", "first")
    assert history.commit_facts(tmp_path / "long", "main").oid == long
    assert len(long) == 64


def test_threads_ask_at_once(repo: Path) -> None:
    """Eight threads that ask at once each get their own answer."""
    ids = [commit(repo, f"n{k}", str(k), f"commit {k}") for k in range(8)]
    told: dict[int, str] = {}

    def ask(k: int) -> None:
        told[k] = history.commit_facts(repo, ids[k]).subject

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == {k: f"commit {k}" for k in range(8)}

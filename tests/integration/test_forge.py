"""Pushing to a real remote, and asking a stand-in for `gh`."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.edge import forge
from swarm.errors import Refused, SwarmError, UsageError
from tests.conftest import git
from tests.fakes.gh import StandIn

WANTED = {"head": "swarm/r/staging", "base": "main", "title": "Three things", "body": "- one\n"}
RESOLVE = "error connecting to api.forge.invalid\ncheck your internet connection"


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in on PATH, and no waiting between tries."""
    stand_in = StandIn(tmp_path / "bin")
    for name, value in stand_in.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(forge, "AGAIN_S", 0.0)
    return stand_in


@pytest.fixture
def remote(repo: Path, tmp_path: Path) -> Path:
    """A bare repository that is origin."""
    path = tmp_path / "remote.git"
    git(repo, "init", "-q", "--bare", str(path))
    git(repo, "remote", "add", "origin", str(path))
    return path


def kinds(gh: StandIn) -> list[str]:
    return [" ".join(words[:2]) for words, _ in gh.said()["calls"]]


def test_a_pull_request_is_made_once(repo: Path, gh: StandIn) -> None:
    """Row 104: the one that is open is used again; the text is what was given."""
    made = forge.pull_request(repo, **WANTED)
    again = forge.pull_request(repo, **WANTED)
    assert made == ("https://forge.invalid/pull/1", True)
    assert again == (made.url, False)
    assert kinds(gh) == ["pr list", "pr create", "pr list"]
    assert gh.said()["calls"][1][1] == "- one\n"


def test_what_fails_for_a_moment_is_tried_again(repo: Path, gh: StandIn) -> None:
    """Row 104: a network that is away for three tries makes no difference, for a fourth the error says so."""
    gh.fails(
        RESOLVE, "HTTP 502: Bad Gateway (https://api.forge.invalid/graphql)", "read: connection reset by peer"
    )
    assert forge.pull_request(repo, **WANTED).made
    gh.fails(*[RESOLVE] * 9)
    with pytest.raises(SwarmError, match="tried 4 times"):
        forge.pull_request(repo, **WANTED)
    assert len(gh.said()["trouble"]) == 5


def test_an_answer_that_was_lost_makes_no_second_one(repo: Path, gh: StandIn) -> None:
    """Where the pull request was made and the answer did not come through, the next try finds it."""
    gh.fails("", "unexpected EOF", lost=True)
    assert forge.pull_request(repo, **WANTED) == ("https://forge.invalid/pull/1", False)
    assert kinds(gh) == ["pr list", "pr create", "pr list"]


@pytest.mark.parametrize(
    "said", ["HTTP 401: Bad credentials", "GraphQL: Head sha can't be blank (createPullRequest)"]
)
def test_what_is_no_passing_failure_is_told_at_once(repo: Path, gh: StandIn, said: str) -> None:
    """It is not tried again, and what gh said is said."""
    gh.fails(said)
    with pytest.raises(SwarmError) as caught:
        forge.pull_request(repo, **WANTED)
    assert said in str(caught.value)
    assert "tried" not in str(caught.value)
    assert caught.value.consequence.startswith("swarm/r/staging is pushed")
    assert kinds(gh) == ["pr list"]


@pytest.mark.parametrize("listed", ["<html>", "7", "[7]", '[{"title": "x"}]', '{"url": "x"}'])
def test_what_gh_answers_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path, listed: str
) -> None:
    """A gh that ends well and prints what is no list, or names no pull request, is told of, and that the branch is pushed."""
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "gh").write_text(f"#!/bin/sh\n[ $2 = create ] || echo '{listed}'\n")
    (folder / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    with pytest.raises(forge.Failed, match=r"something else than a list") as caught:
        forge.pull_request(repo, **WANTED)
    assert "swarm/r/staging is pushed" in caught.value.consequence
    (folder / "gh").write_text("#!/bin/sh\n[ $2 = create ] || echo '[]'\n")
    with pytest.raises(forge.Failed, match="named no pull request") as caught:
        forge.pull_request(repo, **WANTED)
    assert "swarm/r/staging is pushed" in caught.value.consequence


def test_a_push_moves_branches_there_and_forces_nothing(repo: Path, remote: Path, gh: StandIn) -> None:
    """What is there and would be dropped stays, with what to do; once more the same is well."""
    first = git(repo, "rev-parse", "HEAD")
    for _ in range(2):
        forge.push(repo, "origin", [(first, "swarm/r/staging"), ("refs/heads/main", "main")])
    assert git(remote, "rev-parse", "swarm/r/staging", "main").split() == [first, first]
    git(repo, "commit", "-q", "--amend", "-m", "rewritten")
    with pytest.raises(Refused, match="dropped"):
        forge.push(repo, "origin", [("refs/heads/main", "main")])
    assert git(remote, "rev-parse", "main") == first


def test_a_remote_that_is_away_is_tried_again(
    repo: Path, gh: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remote that can't be reached for a moment is asked again; one that is nowhere is an error at once."""
    waits: list[float] = []
    monkeypatch.setattr("swarm.edge.forge.time.sleep", waits.append)
    git(repo, "remote", "add", "away", "http://127.0.0.1:9/nothing.git")
    with pytest.raises(SwarmError, match="tried 4 times"):
        forge.push(repo, "away", [("refs/heads/main", "main")])
    assert len(waits) == 3
    git(repo, "remote", "add", "nowhere", str(repo / "nothing.git"))
    with pytest.raises(SwarmError, match=r"was not pushed to: .*[^.]\.\n"):
        forge.push(repo, "nowhere", [("refs/heads/main", "main")])
    assert len(waits) == 3


def test_which_remote_a_branch_belongs_to(repo: Path) -> None:
    """Its own, else origin, else the only one; with none, or several, that is said."""
    with pytest.raises(UsageError, match="no remote"):
        forge.remote(repo, "main")
    git(repo, "remote", "add", "only", "x")
    assert forge.remote(repo, "main") == "only"
    git(repo, "remote", "add", "second", "y")
    with pytest.raises(UsageError, match="none named origin"):
        forge.remote(repo, "main")
    git(repo, "remote", "add", "origin", "z")
    assert forge.remote(repo, "main") == "origin"
    git(repo, "config", "branch.main.remote", "second")
    assert forge.remote(repo, "main") == "second"


def test_a_repository_is_made_where_there_is_none(repo: Path, gh: StandIn) -> None:
    """Row 123: it is origin afterwards, and once more nothing is made."""
    for _ in range(2):
        forge.create(repo, "tool")
    assert kinds(gh) == ["repo create"]
    assert "--private" in gh.said()["calls"][0][0]
    forge.push(repo, "origin", [("refs/heads/main", "main")])
    assert git(gh.home / "tool.git", "rev-parse", "main") == git(repo, "rev-parse", "main")

"""`swarm finish --pr` and `swarm build --github`: a real remote, and a stand-in for `gh`."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import git
from tests.e2e.driver import Swarm
from tests.e2e.test_goals import with_roles
from tests.fakes.gh import StandIn


@pytest.fixture
def gh(swarm: Swarm) -> StandIn:
    """The stand-in on the PATH of commands."""
    stand_in = StandIn(swarm.outside / "gh")
    swarm.env |= stand_in.env
    return stand_in


def test_staging_becomes_a_pull_request(swarm: Swarm, gh: StandIn) -> None:
    """Row 104: what stands on staging is pushed and proposed, nothing of the user's is merged or deployed; later landings go into
    the same pull request, and what may not be finished is not proposed."""
    remote = swarm.outside / "remote.git"
    git(swarm.top, "init", "-q", "--bare", str(remote))
    git(swarm.top, "remote", "add", "origin", str(remote))
    (swarm.top / "swarm.toml").write_text('[deploy]\ncommand = "touch deployed"\n')
    swarm.look_again()
    main = git(swarm.top, "rev-parse", "main")
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    done = swarm("finish", "--pr", "--json").json["finish"]
    assert (done["outcome"], done["pull_request"]["made"]) == ("proposed", True)
    assert git(remote, "rev-parse", "swarm/r/staging") == swarm.staging("r") == done["commit"]
    assert git(swarm.top, "rev-parse", "main") == main
    assert not (swarm.top / "deployed").exists()
    (_, body) = gh.said()["calls"][1]
    assert "- Task a (`a`)" in body

    swarm.run(
        swarm.plan("r", [swarm.task("a"), swarm.task("b"), swarm.task("c", "exit 3", attempts=1)]), code=1
    )
    assert "it was open already" in swarm("finish", "--pr").out
    assert git(remote, "rev-parse", "swarm/r/staging") == swarm.staging("r")
    assert len(gh.said()["open"]) == 1

    (swarm.top / "out-a").write_text("another\n")
    git(swarm.top, "add", "out-a")
    git(swarm.top, "commit", "-q", "-m", "mine")
    assert "conflicts with main in out-a" in swarm("finish", "--pr", code=4).err
    assert len(gh.said()["calls"]) == 3
    swarm.look_again()


@pytest.mark.slow
def test_a_new_project_is_pushed_once_it_is_ready(swarm: Swarm, gh: StandIn) -> None:
    """Row 123: a repository is made on GitHub when all is ready, with the branch and its staging; the same command again makes
    none, and without gh nothing is begun. Where gh fails what was built is told all the same."""
    place = swarm.outside / "new"
    wanted = ("build", "--new", str(place), "--github", "tool", "--yes", "--json", "make a thing")
    assert "gh was not found" in swarm(*wanted, code=2, PATH="/nowhere").err
    assert not place.exists()
    git(swarm.outside, "init", "-q", "-b", "main", str(place))
    with_roles(swarm, swarm.task("a"))
    shutil.copyfile(swarm.top / "swarm.toml", place / "swarm.toml")
    gh.fails(*["HTTP 401: Bad credentials"] * 2)
    failed = swarm(*wanted, code=1).json
    assert "401" in failed["error"]["cause"]
    assert failed["runs"][0]["goal"]["stage"] == "ready"
    assert "ready to be finished" in swarm(*(word for word in wanted if word != "--json"), code=1).out
    for _ in range(2):
        done = swarm(*wanted).json
        assert done["github"]["branches"] == ["main", done["runs"][0]["staging"]["branch"]]
        remote = gh.home / "tool.git"
        for branch in done["github"]["branches"]:
            assert git(remote, "rev-parse", branch) == git(place, "rev-parse", branch)
    assert [words[:2] for words, _ in gh.said()["calls"]] == [["repo", "create"]] * 3
    swarm("-C", str(place), "stop")

"""`swarm doctor`: what is well is said, what is not has a remedy, and only what is bad fails."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

from swarm.edge.saved import Aside, Owner
from tests.conftest import git
from tests.e2e.driver import Swarm, common_dir


def checks(swarm: Swarm, *, code: int = 0) -> dict[str, dict[str, Any]]:
    document = swarm("doctor", "--json", code=code).json
    assert document["ok"] == (code == 0)
    for each in document["checks"]:
        assert each["state"] in ("ok", "warn", "bad")
        assert bool(each["remedy"]) == (each["state"] != "ok"), each
    return {each["name"]: each for each in document["checks"]}


def test_a_healthy_repository(swarm: Swarm) -> None:
    """Before the first run and after one nothing is bad, with a daemon and without; machine, git and journal are named."""
    assert {"machine", "git", "repository", "disk", "journal", "sandbox", "worktrees", "daemon"} <= set(
        checks(swarm)
    )
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    assert "records" in checks(swarm)["journal"]["text"]
    swarm("start")
    assert "process" in checks(swarm)["daemon"]["text"]
    assert "ok    git" in swarm("doctor").out


@pytest.mark.slow
def test_what_is_wrong_has_a_remedy(swarm: Swarm) -> None:
    """Little room, an agent that is not there and a branch in the way are named; the bad ones end it with 1."""
    (swarm.top / "swarm.toml").write_text('[agents.mine]\ncommand = ["no-such-program"]\n')
    swarm.measure(disk_free_bytes=1000)
    found = checks(swarm, code=1)
    assert found["disk"]["state"] == "bad"
    assert found["agent mine"]["state"] == "warn"
    swarm.measure()
    git(swarm.top, "branch", "swarm")
    assert "git branch -m swarm" in checks(swarm, code=1)["repository"]["remedy"]
    git(swarm.top, "branch", "-D", "swarm")
    (swarm.top / "swarm.toml").write_text("nonsense = 1\n")
    assert "nonsense" in checks(swarm, code=1)["repository"]["text"]
    (swarm.top / "swarm.toml").unlink()


def test_a_damaged_journal_and_stale_things_are_seen(swarm: Swarm) -> None:
    """A staging worktree that is gone is stale, with recover as the remedy; a journal that is gone is bad."""
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm("stop")
    shutil.rmtree(swarm.top / ".worktrees")
    assert checks(swarm)["stale"]["remedy"] == "swarm recover"
    state = common_dir(swarm.top) / "swarm"
    kept = swarm.outside / "journal.sqlite"
    shutil.move(state / "journal.sqlite", kept)
    assert checks(swarm, code=1)["journal"]["state"] == "bad"
    shutil.move(kept, state / "journal.sqlite")
    swarm.left_broken = {"I13"}  # nobody has looked after the worktrees since


@pytest.mark.slow
def test_what_was_set_aside_is_told_of_once_and_no_longer_than_it_lies_there(swarm: Swarm) -> None:
    """Of work that was set aside, with its git folder, there is one line, with a note that is there; of our own
    folder there none."""
    (swarm.outside / "work").mkdir()
    (swarm.outside / "git").mkdir()
    kept = swarm.top / ".worktrees" / "pool" / ".kept"
    aside = Aside(kept, common_dir(swarm.top))
    place = aside.put(swarm.outside / "work", Owner("r", "a", 1), "why", git_folder=swarm.outside / "git")
    told = [each for each in swarm("doctor", "--json").json["checks"] if each["name"] == "set aside"]
    assert [each["text"] for each in told] == [f"{place} could not be saved and was kept whole"]
    assert f"{place}.txt" in told[0]["remedy"]
    shutil.rmtree(place)
    assert "set aside" not in checks(swarm)
    shutil.rmtree(swarm.top / ".worktrees")


@pytest.mark.slow
def test_a_link_to_the_worktrees_is_told_of_while_git_shows_it(swarm: Swarm) -> None:
    """Git shows a link as the file that it is to it; what is told hides it. Of a link that git does not show nothing is told."""
    (swarm.outside / "else").mkdir()
    (swarm.top / ".worktrees").symlink_to(swarm.outside / "else")
    swarm.look_again()
    swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task("a")])))
    found = checks(swarm)["worktrees"]
    assert found["state"] == "warn"
    assert ".worktrees is a link" in found["text"]
    assert git(swarm.top, "status", "--porcelain") == "?? .worktrees"
    subprocess.run(found["remedy"], shell=True, check=True, cwd="/")
    assert git(swarm.top, "status", "--porcelain") == ""
    assert checks(swarm)["worktrees"]["state"] == "ok"
    swarm.look_again()


@pytest.mark.slow
def test_recovery_refs_near_their_limit_are_told(swarm: Swarm) -> None:
    """From four fifths of the limit on the doctor warns, before anything has to be moved aside."""
    commit = git(swarm.top, "rev-parse", "HEAD")
    for number in range(1, 5):
        git(swarm.top, "branch", f"swarm/r/saved/t/1-{number}", commit)
    assert checks(swarm)["recovery refs"]["state"] == "ok"
    swarm.env["SWARM_LIMITS__SAVED_REFS_MAX"] = "5"
    assert checks(swarm)["recovery refs"]["state"] == "warn"

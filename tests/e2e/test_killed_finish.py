"""A finish whose daemon was killed: who only looks moves nothing, `recover` puts the checkout back, who goes on with it ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm, snapshot
from tests.e2e.test_finish import commit, killed_in_finish


def killed_among_files(swarm: Swarm) -> None:
    """Kills daemon and client while the files of the checkout are being written for a finish of the run "r"."""
    armed, began = swarm.outside / "armed", swarm.outside / "began"
    script = swarm.outside / "smudge"
    slow = f"rm {armed} 2>/dev/null && touch {began} && until [ -e {swarm.gate('go')} ]; do sleep 0.05; done"
    script.write_text(f"#!/bin/sh\nread -r word\n[ $word = b ] && {{ {slow}; }}\necho $word\n")
    script.chmod(0o755)
    git(swarm.top, "config", "filter.slow.smudge", str(script))
    commit(swarm.top, ".gitattributes", "*.txt filter=slow\n")
    swarm.look_again()
    swarm("start")
    run = "for n in a b c; do echo $n > $n.txt; done"
    swarm("submit", str(swarm.plan("r", [swarm.task("t", run, claims=["*.txt"])])))
    swarm.wait("r")
    armed.touch()
    finishing = swarm.spawn("finish")
    wait_until(began.exists)
    finishing.kill()
    finishing.communicate()
    swarm.end_daemon()


@pytest.mark.slow
def test_a_killed_finish_is_not_gone_on_with_to_look(swarm: Swarm) -> None:
    """`discard --dry-run` and `finish --preview` change nothing, so they start no daemon that would merge, and say what does. What
    it merges then is by whoever had asked for it."""
    mine = killed_in_finish(swarm)
    for look in (["discard", "r", "--dry-run"], ["finish", "--preview"]):
        refused = swarm(*look, code=4).err
        assert "A finish of run r into main was under way when the daemon ended" in refused
        assert "Next: swarm start" in refused
    assert not swarm.status()["daemon"]["running"]
    assert "a finish of run r into main has not ended: swarm start goes on with it" in swarm("recover").out
    assert git(swarm.top, "rev-parse", "main") == mine
    assert snapshot(swarm.top) == swarm.before
    swarm.open("go")
    git(swarm.top, "config", "user.name", "Somebody else")
    swarm("start")
    wait_until(lambda: len(swarm.events("Finished")) == 1)
    assert git(swarm.top, "log", "-1", "--format=%s, %an, %cn", "main") == "Merge run r, Ada, Ada"
    swarm.look_again()


@pytest.mark.slow
def test_a_daemon_for_one_answer_ends_after_the_finish_that_it_went_on_with(swarm: Swarm) -> None:
    """One that was started to answer a single question says that it goes on with the finish, and does, to its end."""
    killed_in_finish(swarm)
    asked = swarm("discard", "r", code=4)
    assert "It goes on with a finish of run r into main" in asked.err
    swarm.open("go")
    wait_until(lambda: not swarm.status()["daemon"]["running"])
    assert len(swarm.events("Finished")) == 1
    assert git(swarm.top, "log", "-1", "--format=%s", "main") == "Merge run r"
    assert swarm.status()["runs"][0]["finishing"] is None
    swarm.look_again()


@pytest.mark.slow
def test_recover_puts_the_files_of_a_killed_finish_back(swarm: Swarm) -> None:
    """The git that was left writing files is ended, and what it had written is put back and told; the next start merges."""
    killed_among_files(swarm)
    assert (Path(swarm.top) / "a.txt").exists()
    told = swarm("recover", "--dry-run").out
    assert (
        f"files of {swarm.top} are as a finish of run r left them that was killed: they are put back (not done"
        in told
    )
    assert (Path(swarm.top) / "a.txt").exists()
    told = swarm("recover").out
    assert (
        f"mended  files of {swarm.top} are as a finish of run r left them that was killed: they are put back"
        in told
    )
    assert "a finish of run r into main has not ended: swarm start goes on with it" in told
    assert git(swarm.top, "status", "--porcelain") == ""
    assert snapshot(swarm.top) == swarm.before
    swarm.open("go")
    swarm("start")
    wait_until(lambda: git(swarm.top, "rev-parse", "main") == swarm.staging("r"))
    wait_until(lambda: len(swarm.events("Finished")) == 1)
    assert git(swarm.top, "status", "--porcelain") == ""
    swarm.look_again()

"""`swarm finish` after work was handed over, taken back and landed anew: what a merge would drop without a word is refused."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import git
from tests.e2e.driver import Swarm
from tests.e2e.test_finish import commit


def two_landed(swarm: Swarm) -> None:
    """Has two tasks land, each of which writes a file of its own."""
    swarm("start")
    tasks = [swarm.task(name, f"echo {name} > f{name}", claims=[f"f{name}"]) for name in ("t3", "t4")]
    swarm("submit", str(swarm.plan("m", tasks)))
    swarm.wait("m")


def undo(swarm: Swarm, task: str = "t3") -> None:
    """Takes a task off staging."""
    swarm("undo", task, "--yes")
    swarm("wait", code=1)


def land_again(swarm: Swarm, task: str = "t3") -> None:
    """Has a task that was undone land anew."""
    swarm("retry", task)
    swarm.wait("m")


def taken_over(swarm: Swarm) -> None:
    """What was staged is committed, and a task of it undone."""
    swarm("finish", "--stage-only")
    git(swarm.top, "commit", "-q", "-m", "mine")
    undo(swarm)


def pushed(swarm: Swarm) -> None:
    """The same by a push, whose branch is merged on the host as one commit."""
    git(swarm.outside, "init", "-q", "--bare", "host.git")
    git(swarm.top, "remote", "add", "origin", str(swarm.outside / "host.git"))
    git(swarm.top, "push", "-q", "origin", "swarm/m/staging")
    git(swarm.top, "merge", "-q", "--squash", "swarm/m/staging")
    git(swarm.top, "commit", "-q", "-m", "as the host does it")
    undo(swarm)


def undone_by_index(swarm: Swarm) -> None:
    """It was finished; a task is undone, which is taken over by the index, and lands anew."""
    swarm("finish")
    undo(swarm)
    swarm("finish", "--stage-only")
    git(swarm.top, "commit", "-q", "-m", "mine")
    land_again(swarm)


def reverted(swarm: Swarm) -> None:
    """It was finished; a task is reverted on the branch, undone in the run, and lands anew."""
    swarm("finish")
    git(swarm.top, "revert", "--no-edit", "-m", "1", landing_of(swarm, "t3"))
    undo(swarm)
    land_again(swarm)


def merged_by_hand(swarm: Swarm) -> None:
    """The same after a merge by git, and no finish."""
    git(swarm.top, "merge", "-q", "swarm/m/staging")
    git(swarm.top, "revert", "--no-edit", "-m", "1", landing_of(swarm, "t3"))
    undo(swarm)
    land_again(swarm)


def landing_of(swarm: Swarm, task: str) -> str:
    """Gives the landing of a task on the target."""
    return git(swarm.top, "log", "-1", "--format=%H", "--grep", f"Land {task}")


WAYS = [
    *((taken_over, as_staging) for as_staging in (True, False)),
    (pushed, True),
    (undone_by_index, False),
    *((reverted, as_staging) for as_staging in (True, False)),
    (merged_by_hand, True),
]


def steps(said: str) -> tuple[list[str], list[str]]:
    """Gives the two commands that a refusal prints: the merge, and what takes staging's side."""
    (line,) = [each.partition("Next: ")[2] for each in said.splitlines() if "Next: " in each]
    merge = line.partition(", which")[0]
    ours = line.partition("as on staging: ")[2].partition(";")[0]
    return shlex.split(merge), shlex.split(ours)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "as_staging"), WAYS)
def test_what_a_merge_would_drop_is_refused_and_settled(
    swarm: Swarm, way: Callable[[Swarm], None], as_staging: bool
) -> None:
    """Preview and finish name the file and the task, nothing moves (exit 4), and with what is printed it is settled either way."""
    two_landed(swarm)
    way(swarm)
    swarm.look_again()
    before, there = git(swarm.top, "rev-parse", "main"), (swarm.top / "ft3").exists()
    wanted = swarm.content("m", "ft3") is not None
    assert there is not wanted
    preview = swarm("finish", "--preview", "--json", code=1).json["finish"]
    assert preview["conflicts"] == ["ft3"]
    assert "main changed ft3" in preview["text"]
    assert "(t3)" in preview["text"]
    for how in ([], ["--stage-only"]):
        refused = swarm("finish", *how, code=4).err
        assert "main changed ft3" in refused
    assert git(swarm.top, "rev-parse", "main") == before
    assert git(swarm.top, "status", "--porcelain") == ""
    merge, ours = steps(refused)
    worktree = Path(merge[2])
    git(worktree, *merge[3:])
    if as_staging:
        git(worktree, *ours[3:])
    git(worktree, "commit", "-q", "--no-edit")
    swarm("finish")
    assert (swarm.top / "ft3").exists() is (wanted if as_staging else there)
    assert (swarm.top / "ft4").exists()
    assert git(swarm.top, "status", "--porcelain") == ""
    swarm("finish")
    swarm.look_again()


def test_what_merges_as_it_should_is_no_conflict(swarm: Swarm) -> None:
    """A first finish merges what two landings changed there and back; a second one where the target has moved, in another file or
    in other lines of the same, and where staging has gone on."""
    commit(swarm.top, "mine", "mine\n")
    lines = "".join(f"line {n}\n" for n in range(20))
    commit(swarm.top, "both", lines)
    swarm("start")
    there = swarm.task("there", "sed -i s/line.3$/three/ both", claims=["both"])
    back = swarm.task("back", "sed -i s/three/line\\ 3/ both", claims=["both"], needs=["there"])
    swarm("submit", str(swarm.plan("m", [there, back])))
    swarm.wait("m")
    commit(swarm.top, "both", lines.replace("line 3\n", "mine\n"))
    swarm("finish")
    assert "mine\n" in (swarm.top / "both").read_text()
    swarm("add", "--title", "more", "--claim", "more", "--run", "echo more > more")
    swarm("add", "--title", "once", "--claim", "both", "--run", "sed -i s/line.17/seventeen/ both")
    swarm.wait("m")
    undo(swarm, "once")
    commit(swarm.top, "mine", "again\n")
    commit(swarm.top, "both", (swarm.top / "both").read_text().replace("line 9\n", "nine\n"))
    swarm("finish")
    assert (swarm.top / "more").read_text() == "more\n"
    assert "nine\n" in (swarm.top / "both").read_text()
    swarm.look_again()

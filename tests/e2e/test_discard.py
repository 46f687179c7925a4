"""`swarm discard`: a run goes with all it has, but never with work that is nowhere else unless that was named."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, SWARM, Swarm, common_dir, runs
from tests.e2e.test_ends import task_of


def refs(swarm: Swarm) -> list[str]:
    return git(swarm.top, "for-each-ref", "--format=%(refname)", "refs/heads/swarm/").splitlines()


def check_gone(swarm: Swarm, run: str) -> None:
    """Nothing is left of a run: no ref, worktree, record or folder, in neither repository."""
    state = common_dir(swarm.top) / "swarm"
    assert [ref for ref in refs(swarm) if f"/swarm/{run}/" in ref] == []
    assert not (swarm.top / ".worktrees" / run).exists()
    assert f"/{run}/" not in git(swarm.top, "worktree", "list", "--porcelain")
    assert not (state / "attempts" / run).exists()
    in_landing = git(state / "landing.git", "for-each-ref", "--format=%(refname)").splitlines()
    assert [ref for ref in in_landing if f"/{run}/" in f"{ref}/"] == []
    assert run not in [each["id"] for each in swarm.status()["runs"]]


@pytest.mark.slow
def test_a_finished_run_goes_without_a_question(swarm: Swarm) -> None:
    """A run whose staging is on the target holds nothing: it is removed, its id is free again, and staging starts anew."""
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm("finish")
    swarm.look_again()
    assert swarm("discard", "r", "--dry-run", "--json").json["holds"] == []
    assert swarm("discard", "r", "--json").json["discarded"] is True
    check_gone(swarm, "r")
    run = swarm.run(swarm.plan("r", [swarm.task("b")]))
    assert [task["id"] for task in run["tasks"]] == ["b"]
    assert task_of(run, "b")["attempts"][0]["n"] == 1
    swarm.check_landed(run)
    assert "RunDiscarded" in [event["type"] for event in swarm.events()]


@pytest.mark.slow
@pytest.mark.parametrize("linked", ["the folder itself", "one above it"])
def test_worktrees_that_lie_beyond_a_link(swarm: Swarm, linked: str) -> None:
    """A link to the folder of worktrees, or in the way to it, is no matter: what was edited in staging is held, a run goes with
    git's record of it, its id is free again, and of a record whose folder is gone it is told."""
    elsewhere = swarm.top.parent / "elsewhere"
    (elsewhere / "trees").mkdir(parents=True)
    if linked == "the folder itself":
        (swarm.top / ".worktrees").symlink_to(elsewhere / "trees")
    else:
        (swarm.top.parent / "way").symlink_to(elsewhere)
        swarm.env |= {"SWARM_WORKTREES__ROOT": str(swarm.top.parent / "way" / "trees")}
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm("finish")
    swarm.look_again()
    (swarm.wait_for_follow("r") / "README.md").write_text("mine\n")
    assert "there are changes in" in swarm("discard", "r", code=4).err
    known = len(git(swarm.top, "worktree", "list").splitlines()) - 1
    assert f"worktrees: {known} below" in swarm("doctor").out
    swarm("discard", "r", "--force", "--yes", "worktree/staging")
    check_gone(swarm, "r")
    assert not (elsewhere / "trees" / "r").exists()
    swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task("b")])))
    swarm("stop")
    shutil.rmtree(swarm.run_of("r")["staging"]["worktree"])
    assert any("which is gone" in each["text"] for each in swarm("recover", "--json").json["found"])


@pytest.mark.slow
def test_after_a_discard_every_start_goes_on(swarm: Swarm) -> None:
    """Nothing is left of a discarded run that a later start takes for a journal that lost its end, nor of a new one with its id.
    The spare worktrees that stay are told, and what old objects it left in the landing repository are removed."""
    swarm.env |= swarm.with_constants("swarm.edge.pruning", LOOSE_MIN=0, OLD_S=-60.0, EVERY_S=0.0)
    loose = (common_dir(swarm.top) / "swarm" / "landing.git" / "objects").glob
    swarm.run(swarm.plan("r", [swarm.task("a"), swarm.task("b")]))
    swarm("start")
    said = swarm("discard", "r", "--force", "--yes", "staging").out
    assert f"Spare worktrees ({len(git(swarm.top, 'worktree', 'list').splitlines()) - 1}) stay" in said
    swarm("stop")
    before = len(list(loose("??/*")))
    swarm("start")
    assert len(list(loose("??/*"))) < before
    assert swarm("recover", "--dry-run", "--json").json["found"] == []
    swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task("a")])))
    swarm("stop")
    swarm("start")
    run = swarm.wait("r")
    assert [(task["id"], len(task["attempts"])) for task in run["tasks"]] == [("a", 1)]


def test_work_that_is_nowhere_else_is_named_and_kept(swarm: Swarm) -> None:
    """Landed work that was not finished, kept work, and edits in the staging worktree: refused with exit 4, each by its name."""
    failing = swarm.task("kept", "echo x > kept; exit 1", claims=["kept"], attempts=1)
    swarm.run(
        swarm.plan("r", [swarm.task("a"), failing, swarm.task("nothing", "exit 1", attempts=1)]), code=1
    )
    (swarm.wait_for_follow("r") / "README.md").write_text("mine\n")
    before = refs(swarm)
    refused = swarm("discard", "r", code=4)
    names = [each["name"] for each in swarm("discard", "r", "--dry-run", "--json").json["holds"]]
    assert sorted(names) == ["kept", "staging", "worktree/staging"]
    assert "swarm finish --run r" in refused.err
    for name in names:
        assert f"--yes {name}" in refused.err
    for some in ([], ["kept"], ["kept", "staging"], ["a", "nothing", "r"]):
        swarm("discard", "r", "--force", *(word for name in some for word in ("--yes", name)), code=4)
    swarm("discard", "r", *(word for name in names for word in ("--yes", name)), code=4)
    assert refs(swarm) == before
    assert (swarm.top / ".worktrees" / "r" / "staging" / "README.md").read_text() == "mine\n"
    swarm("discard", "r", "--force", *(word for name in names for word in ("--yes", name)))
    check_gone(swarm, "r")


def test_commits_of_a_person_on_the_branch_of_an_attempt_are_held(swarm: Swarm) -> None:
    """What somebody committed on the branch of an attempt, landed or not, or on one with the name of one that there never was, is
    work of its own: it has its own name. Where such a branch was only moved back, nothing is asked for."""
    failing = swarm.task("kept", "echo x > kept; exit 1", claims=["kept"], attempts=1)
    swarm.run(swarm.plan("r", [swarm.task("a"), swarm.task("b"), failing]), code=1)
    swarm("finish", "--partial")
    swarm.look_again()
    for branch in ("swarm/r/task/a/1", "swarm/r/task/kept/1"):
        git(swarm.top, "branch", "--force", branch, made_on(swarm, branch))
    git(swarm.top, "branch", "swarm/r/task/a/9", made_on(swarm, "main"))
    git(swarm.top, "branch", "--force", "swarm/r/task/b/1", "main~1")
    names = [each["name"] for each in swarm("discard", "r", "--dry-run", "--json").json["holds"]]
    assert sorted(names) == ["branch/task/a/1", "branch/task/a/9", "branch/task/kept/1", "kept"]
    refused = swarm("discard", "r", "--force", "--yes", "kept", code=4)
    assert "branch/task/a/1: commits of your own on swarm/r/task/a/1" in refused.err
    swarm("discard", "r", "--force", *(word for name in names for word in ("--yes", name)))
    check_gone(swarm, "r")


def made_on(swarm: Swarm, commit: str) -> str:
    return git(swarm.top, "commit-tree", f"{commit}^{{tree}}", "-p", commit, "-m", "mine")


@pytest.mark.slow
def test_work_that_is_on_another_branch_is_not_held(swarm: Swarm) -> None:
    """What a person has put on a branch of their own, or finished, is not asked for again."""
    failing = swarm.task("kept", "echo x > kept; exit 1", claims=["kept"], attempts=1)
    swarm.run(swarm.plan("r", [swarm.task("a"), failing]), code=1)
    git(swarm.top, "branch", "mine", "swarm/r/task/kept/1")
    swarm("finish", "--into", "main", "--partial")
    swarm.look_again()
    swarm("discard", "r")
    check_gone(swarm, "r")
    assert git(swarm.top, "show", "mine:kept") == "x"


def test_a_run_that_is_at_work_is_ended_first(swarm: Swarm) -> None:
    """Workers are ended, and with the names of their tasks given nothing is left of the run; another one goes on untouched."""
    swarm("start", "--workers", "4")
    swarm("submit", str(swarm.plan("r", [swarm.task("t", gate="never"), swarm.task("after", needs=["t"])])))
    swarm("submit", str(swarm.plan("other", [swarm.task("o", gate="o")])))
    swarm.wait_for_start("t", "o")
    refused = swarm("discard", "r", code=4).err
    assert ("t: t is under way" in refused, "swarm finish" in refused) == (True, False)
    swarm("discard", "r", "--force", "--yes", "t")
    check_gone(swarm, "r")
    swarm.open("o")
    swarm.check_landed(swarm.wait("other"))
    swarm("submit", str(swarm.plan("r", [swarm.task("t")])))
    swarm.check_landed(swarm.wait("r"))


@pytest.mark.slow
def test_a_branch_that_is_checked_out_elsewhere_stops_it(swarm: Swarm) -> None:
    """A branch of the run in a worktree of the user's own is not pulled from under it, forced or not."""
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    mine = swarm.outside / "mine"
    git(swarm.top, "worktree", "add", "-q", str(mine), "swarm/r/task/a/1")
    refused = swarm("discard", "r", "--force", "--yes", "staging", code=4)
    assert str(mine) in refused.err
    assert git(mine, "rev-parse", "--abbrev-ref", "HEAD") == "swarm/r/task/a/1"
    git(swarm.top, "worktree", "remove", str(mine))
    swarm("discard", "r", "--force", "--yes", "staging")
    check_gone(swarm, "r")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["rebase", "bisect"])
@pytest.mark.parametrize("where", ["mine", "staging"])
def test_a_branch_that_a_rebase_or_bisection_holds_stops_it(swarm: Swarm, what: str, where: str) -> None:
    """A branch of the run that a rebase or bisection in some worktree will go back to stays, forced or not, until that is over."""
    swarm.run(swarm.plan("r", [swarm.task("a"), swarm.task("b", needs=["a"])]))
    swarm.wait_for_follow("r")
    place = swarm.outside / "mine" if where == "mine" else swarm.top / ".worktrees" / "r" / "staging"
    if where == "mine":
        git(swarm.top, "worktree", "add", "-q", str(place), "swarm/r/staging")
    else:
        git(place, "switch", "-q", "swarm/r/staging")
    if what == "rebase":
        git(place, "rebase", "-q", "-r", "--exec", "false", "HEAD~1", check=False)
    else:
        git(place, "bisect", "start", "HEAD", "main")
    for args in (["--dry-run"], ["--force", "--yes", "staging", "--yes", "worktree/staging"]):
        refused = swarm("discard", "r", *args, code=4).err
        assert f"in the middle of a git {what} in {place}" in refused
    assert (
        f"git -C {place} {'rebase --continue, or --abort' if what == 'rebase' else 'bisect reset'}" in refused
    )
    git(place, *(("rebase", "--abort") if what == "rebase" else ("bisect", "reset")))
    git(place, "switch", "-q", "--detach")
    swarm("discard", "r", "--force", "--yes", "staging")
    if where == "mine":
        git(swarm.top, "worktree", "remove", str(place))
    check_gone(swarm, "r")


@pytest.mark.slow
def test_a_discard_that_was_killed_is_finished(swarm: Swarm) -> None:
    """Killed after any step, the next start finishes what was asked for, and brings nothing of the run back."""
    points = {
        "r0": "discard.worktrees",
        "r1": "discard.refs",
        "r2": "discard.landing",
        "r3": "discard.folders",
    }
    swarm("start")
    for run in points:
        swarm("submit", str(swarm.plan(run, [swarm.task("a")])))
    for run in points:
        swarm.wait(run)
    for run, point in points.items():
        swarm("stop")
        swarm("start", SWARM_CRASH=f"{point}:kill:1")
        daemon = int(swarm.status()["daemon"]["pid"])
        swarm("discard", run, "--force", "--yes", "staging", code=None)
        wait_until(lambda pid: not runs(pid), daemon)
        swarm("start")
        wait_until(lambda name: name not in [each["id"] for each in swarm.status()["runs"]], run)
        check_gone(swarm, run)
        swarm.check_landed(swarm.run(swarm.plan(run, [swarm.task("a")])))


@pytest.mark.slow
def test_what_cannot_be_prepared_can_be_discarded(swarm: Swarm) -> None:
    """A run that never came up, because its state can't be made, goes all the same."""
    swarm("start")
    (common_dir(swarm.top) / "swarm" / "landing.git" / "refs" / "bases").mkdir(parents=True, exist_ok=True)
    blocker = common_dir(swarm.top) / "swarm" / "landing.git" / "refs" / "bases" / "r"
    (blocker / "in the way").mkdir(parents=True)
    (blocker / "in the way" / "file").touch()
    swarm("pause")  # what comes up behind the blocker has nothing under way
    swarm("submit", str(swarm.plan("r", [swarm.task("a")])))
    wait_until(lambda: swarm.status()["runs"][0]["problems"])
    shutil.rmtree(blocker)
    swarm("discard", "r")
    check_gone(swarm, "r")


def test_an_unknown_run(swarm: Swarm) -> None:
    """A run that there is not is wrong usage, exit 2."""
    assert "no run" in swarm("discard", "nothing", code=2).err


@pytest.mark.slow
def test_recovery_refs_are_named(swarm: Swarm) -> None:
    """A recovery ref of the run is work that is nowhere else: it is named, and goes only with its name."""
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm("finish")
    swarm.look_again()
    git(
        swarm.top,
        "branch",
        "swarm/r/saved/a/1-1",
        git(swarm.top, "commit-tree", "main^{tree}", "-m", "saved"),
    )
    assert "saved/a/1-1" in swarm("discard", "r", code=4).err
    swarm("discard", "r", "--force", "--yes", "saved/a/1-1")
    check_gone(swarm, "r")


@pytest.mark.slow
def test_what_was_staged_before_it_was_changed_on_holds_up_nothing_once_it_landed(swarm: Swarm) -> None:
    """An earlier state of what landed, by the attempt that landed or one before it, is no work that is nowhere else, and `show`
    says where it is; of a task that has not landed it is."""
    edits = "echo 1 > {0}; git add {0}; echo 2 >> {0}"
    twice = f"{edits.format('b')}; [ $SWARM_ATTEMPT = 2 ]"
    tasks = [
        swarm.task("a", edits.format("a"), claims=["a"]),
        swarm.task("b", twice, claims=["b"], attempts=2),
        swarm.task("c", f"{edits.format('c')}; exit 1", claims=["c"], attempts=1),
    ]
    swarm.run(swarm.plan("r", tasks), code=1)
    swarm("finish", "--partial")
    swarm.look_again()
    names = [each["name"] for each in swarm("discard", "r", "--dry-run", "--json").json["holds"]]
    assert sorted(names) == ["c", "saved/c/1-1"]
    assert "git diff swarm/r/saved/a/1-1^2 swarm/r/saved/a/1-1" in swarm("show", "a").out
    assert [ref.rpartition("/saved/")[2] for ref in refs(swarm) if "/saved/" in ref] == [
        "a/1-1",
        "b/1-1",
        "b/2-1",
        "c/1-1",
    ]
    swarm("discard", "r", "--force", "--yes", "c", "--yes", "saved/c/1-1")
    check_gone(swarm, "r")


@pytest.mark.slow
def test_who_only_asks_starts_no_work(swarm: Swarm) -> None:
    """After a stop with work left, a discard that only looks, one that is refused and a finish that is refused start no worker, and
    no daemon of theirs stays; work goes on when somebody wants it."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a"), swarm.task("b", gate="b", needs=["a"])])))
    swarm.wait_for_gate("b")
    swarm("stop", "--now")
    begun = len(swarm.events("TaskStarted"))
    assert "nowhere else" in swarm("discard", "r", "--dry-run").out
    swarm("discard", "r", code=4)
    swarm("finish", code=4)
    wait_until(lambda: not swarm.status()["daemon"]["running"], at_most_s=PATIENCE_S)
    assert len(swarm.events("TaskStarted")) == begun
    swarm("start")
    swarm.wait_for_gate("b")
    swarm.open("b")
    swarm.check_landed(swarm.wait("r"))


@pytest.mark.slow
def test_the_names_may_come_on_stdin(swarm: Swarm) -> None:
    """Without a terminal --force reads the names from stdin, in one line or several; not all of them, or none, are refused with 4,
    and a quote that is not closed with 2. It stops reading when it has all."""
    tasks = [
        swarm.task(name, f"echo {name} > {name}; exit 1", attempts=1, claims=[name]) for name in ("a", "b")
    ]
    swarm.run(swarm.plan("r", tasks), code=1)

    def given(**stdin: Any) -> subprocess.CompletedProcess[str]:
        asked, limit = [*SWARM, "discard", "r", "--force"], PATIENCE_S
        return subprocess.run(
            asked, cwd=swarm.top, env=swarm.env, capture_output=True, text=True, timeout=limit, **stdin
        )

    for text, code in (("", 4), ("a\n", 4), ("a c\n", 4), ("a 'b", 2)):
        done = given(input=text)
        assert done.returncode == code, done.stderr
        assert "Nothing was removed." in done.stderr
    read, write = os.pipe()
    with os.fdopen(read) as names, os.fdopen(write, "w") as open_one:
        open_one.write("a\n'b'\n")
        open_one.flush()
        done = given(stdin=names)
    assert done.returncode == 0, done.stderr
    assert "is gone" in done.stdout
    assert swarm.status()["runs"] == []

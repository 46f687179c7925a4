"""There is one daemon for a repository, however it is reached and whatever is done to what it stands on; a copy is another one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.adversity import bound
from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm, common_dir, runs
from tests.e2e.test_ends import task_of


def pid_of(swarm: Swarm) -> int:
    return int(swarm.status()["daemon"]["pid"])


def daemons(swarm: Swarm) -> list[str]:
    return [line for line in swarm.left_running() if " swarm.daemon " in line]


def at_work(swarm: Swarm, *names: str) -> int:
    """Starts the daemon with these tasks at work, each waiting at the gate of its name; gives the daemon's process."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task(name, gate=name) for name in names])))
    swarm.wait_for_gate(*names)
    swarm.launchers("r", *names)
    return pid_of(swarm)


def there_is_one(swarm: Swarm) -> None:
    """Waits until one process is the daemon: one that was started too late may still be ending, and a program that the daemon
    starts looks like it for a moment."""
    wait_until(lambda: len(daemons(swarm)) == 1)


def copied(source: Path, to: Path) -> None:
    """Copies a folder in which a daemon works; what goes while it is copied is not copied."""

    def copy(path: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(path, target)

    shutil.copytree(source, to, symlinks=True, ignore=lambda *_: ["api.sock"], copy_function=copy)


def lands_once(swarm: Swarm, *names: str) -> None:
    """Lets the workers go on and holds what comes of it: each ran once and landed once."""
    for name in names:
        swarm.open(name)
    swarm.check_landed(swarm.wait("r"))
    assert sorted(swarm.starts()) == sorted(names)
    assert sorted(swarm.landings("r")) == sorted(names)


def test_a_daemon_that_the_machine_lets_do_nothing_says_so(swarm: Swarm) -> None:
    """What can't be made where it has to be is one sentence with a next step to who starts it, and details for the log alone."""
    place = swarm.outside / ("x" * 300)
    said = swarm("start", XDG_CACHE_HOME=str(place), code=1).err
    assert said.startswith("The daemon could not start: [Errno 36] File name too long")
    assert "swarm doctor" in said
    assert "Traceback" not in said
    assert "Traceback" in (swarm.top / ".git/swarm/log/start.log").read_text()


def test_twenty_starts_at_once(swarm: Swarm) -> None:
    """Of twenty starts at the same moment one daemon comes, each of them ends with 0, and all tell of the same one."""
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda _: swarm("start"), range(20)))
    there_is_one(swarm)
    assert all(str(pid_of(swarm)) in each.out + each.err for each in done)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["symlink", "worktree", "subfolder", "bind mount"])
def test_every_way_into_a_repository_leads_to_its_daemon(swarm: Swarm, tmp_path: Path, way: str) -> None:
    """Started through a link, a linked worktree, a folder inside or a mount, a second daemon is none: the one that runs is told."""
    pid = at_work(swarm, "a")
    other = tmp_path / "other"
    if way == "bind mount":
        with bound(swarm.top, other):
            assert f"{pid}" in swarm("-C", str(other), "start").out
            assert swarm("-C", str(other), "status", "--json").json["daemon"]["pid"] == pid
    else:
        if way == "symlink":
            other.symlink_to(swarm.top)
        elif way == "worktree":
            git(swarm.top, "worktree", "add", "-q", "--detach", str(other))
        else:
            other = swarm.top / "src"
        assert f"{pid}" in swarm("-C", str(other), "start").out
        assert swarm("-C", str(other), "status", "--json").json["daemon"]["pid"] == pid
        if way == "worktree":
            git(swarm.top, "worktree", "remove", "--force", str(other))
    there_is_one(swarm)
    lands_once(swarm, "a")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["locks/daemon.lock", "locks", "daemon.json"])
def test_a_daemon_whose_lock_was_deleted_stays_the_only_one(swarm: Swarm, what: str) -> None:
    """Deleting the lock, its folder or the announcement lets no second daemon in; the one that runs puts them back at once."""
    pid = at_work(swarm, "a")
    path = common_dir(swarm.top) / "swarm" / what
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: swarm("start"), range(4)))
    wait_until(path.exists)
    assert pid_of(swarm) == pid
    there_is_one(swarm)
    lands_once(swarm, "a")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["replaced", "moved away", "journal replaced", "socket deleted"])
def test_a_daemon_whose_place_was_taken_ends_by_itself(swarm: Swarm, how: str) -> None:
    """A daemon whose state folder, journal or socket is another's by now, or gone, ends though nobody asks it anything, and harms
    neither what stands there now nor its workers; the next one goes on with them."""
    pid = at_work(swarm, "a", "b")
    state = common_dir(swarm.top) / "swarm"
    aside = state.with_name("swarm-aside")
    workers = [task_of(swarm.the_run(), name)["attempts"][0]["pid"] for name in ("a", "b")]
    if how == "replaced":
        copied(state, aside)
        os.rename(state, state.with_name("swarm-old"))
        os.rename(aside, state)
    elif how == "moved away":
        os.rename(state, aside)
    elif how == "journal replaced":
        shutil.copy(state / "journal.sqlite", state / "new")
        os.rename(state / "new", state / "journal.sqlite")
    else:
        os.unlink(json.loads((state / "daemon.json").read_text())["socket"])
    wait_until(lambda: not runs(pid))
    assert all(runs(worker) for worker in workers)
    if how == "moved away":
        assert not state.exists()
        os.rename(aside, state)
    elif how == "replaced":  # its workers hold locks and write down their ends in the one that they know
        shutil.rmtree(state, ignore_errors=True)
        os.rename(state.with_name("swarm-old"), state)
    swarm("start")
    assert [task_of(swarm.the_run(), name)["attempts"][0]["pid"] for name in ("a", "b")] == workers
    lands_once(swarm, "a", "b")


@pytest.mark.slow
def test_a_daemon_that_another_has_followed_writes_nothing_more(swarm: Swarm) -> None:
    """A daemon in whose journal another epoch was begun ends at its next word, with nothing written and no worker ended."""
    pid = at_work(swarm, "a")
    worker = task_of(swarm.the_run(), "a")["attempts"][0]["pid"]
    journal = common_dir(swarm.top) / "swarm" / "journal.sqlite"
    other = sqlite3.connect(journal, timeout=60, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before = other.execute("SELECT seq FROM head").fetchone()
    other.execute("UPDATE head SET epoch = epoch + 1")
    other.execute("COMMIT")
    other.close()
    swarm("pause", code=None)
    wait_until(lambda: not runs(pid))
    with sqlite3.connect(journal) as other:
        assert other.execute("SELECT seq FROM head").fetchone() == before
    other.close()
    assert runs(worker)
    swarm("start")
    lands_once(swarm, "a")


@pytest.mark.slow
def test_a_copy_is_another_repository(swarm: Swarm, swarm_in: Callable[..., Swarm], tmp_path: Path) -> None:
    """In a copy of a repository whose daemon is at work nobody speaks to that daemon, touches its worktrees or ends its workers;
    starting one there is refused, with the way on."""
    pid = at_work(swarm, "a")
    worker = task_of(swarm.the_run(), "a")["attempts"][0]["pid"]
    copied(swarm.top, tmp_path / "copy")
    copy = swarm_in(tmp_path / "copy")
    state = common_dir(copy.top) / "swarm"
    assert (state / "daemon.json").exists()
    assert copy.status()["daemon"] == {**copy.status()["daemon"], "running": False, "pid": None}
    copy("pause", code=3)
    for args in (("start",), ("recover",), ("run", str(copy.plan("s", [copy.task("x")])))):
        refused = copy(*args, code=4)
        assert f"copy of {common_dir(swarm.top) / 'swarm'}" in refused.err
        assert f"mv {state}" in refused.err
    assert runs(worker)
    os.rename(state, tmp_path / "not-ours")
    copy.left_broken = {
        "I13",
        "I20",
    }  # of the state that was put away branches and worktrees stay, which nobody accounts for
    other = copy.run(copy.plan("s", [copy.task("x")]))
    assert other["counts"]["landed"] == 1
    assert pid_of(swarm) == pid
    lands_once(swarm, "a")


@pytest.mark.slow
def test_a_copy_is_used_by_typing_what_is_printed(
    swarm: Swarm, swarm_in: Callable[..., Swarm], tmp_path: Path
) -> None:
    """In a copy of a repository with a run, status and audit say what it is; each command that is printed works as it is, until the
    plan is carried out there and nothing is left to do. The worktrees of the other one stay as they are."""
    swarm.run(swarm.plan("p", [swarm.task("a")]))
    tree = swarm.wait_for_follow("p")
    before = git(swarm.top, "worktree", "list", "--porcelain")
    copied(swarm.top, tmp_path / "a copy")
    copy = swarm_in(tmp_path / "a copy")
    for shown in (copy("status").out, copy("audit", code=None).out):
        assert f"copy of {common_dir(swarm.top) / 'swarm'}" in shown
        assert "Next: to begin anew in this one: mv " in shown
    plan = copy.plan("p", [copy.task("a", "echo again > again", claims=["again"])])
    typed = []
    while (done := copy("run", str(plan), code=None)).code != 0:
        typed.append(next_step(done.err))
        assert len(typed) < 5, typed
        subprocess.run(["sh", "-ec", typed[-1]], cwd=copy.top, check=True, capture_output=True)
    assert copy.content("p", "again") == "again\n"
    left = [each["text"] for each in copy("recover", "--json").json["found"]]
    assert left
    for text in left:
        assert "the repository that this one was copied from" in text
        command = text.partition("; ")[2].removesuffix(" removes the record and leaves the worktree")
        assert f"rm -r '{common_dir(copy.top)}/worktrees/" in command
        subprocess.run(["sh", "-ec", command], cwd=copy.top, check=True, capture_output=True)
    assert "Everything is as the journal has it." in copy("recover").out
    copy("audit")
    assert str(swarm.top / ".worktrees") not in git(copy.top, "worktree", "list", "--porcelain")
    assert git(swarm.top, "worktree", "list", "--porcelain") == before
    assert git(tree, "status", "--porcelain") == ""
    shutil.rmtree(common_dir(copy.top) / "swarm-of-another")


def next_step(said: str) -> str:
    """Gives the command of the next step of an error, out of the words around it."""
    step = said.partition("Next: ")[2].strip()
    return re.split(r"in this one: |once you have looked at (?:it|them): ", step)[-1].partition(", then ")[0]


@pytest.mark.slow
@pytest.mark.parametrize("shut_in", [False, True])
def test_workers_of_all_repositories_have_ports_of_their_own(
    swarm: Swarm, swarm_in: Callable[..., Swarm], tmp_path: Path, shut_in: bool
) -> None:
    """Live workers have no port in common, whichever daemon of the machine started them; so it stays where one was killed whose
    worker lives on, and is that of another."""
    both = (swarm, swarm_in(Path(shutil.copytree(swarm.top, tmp_path / "other"))))

    def plan(of: Swarm, *names: str) -> str:
        told = [(name, of.outside / f"base-{name}") for name in names]
        return str(
            of.plan(
                names[0],
                [of.task(n, f"echo $SWARM_PORT_BASE > {p}", gate="all", allow_empty=True) for n, p in told],
            )
        )

    def bases(*names: str) -> list[int]:
        return [int((of.outside / f"base-{name}").read_text()) for of in both for name in names]

    for of in both:
        if shut_in:
            of.shut_in()
        of("start", "--workers", "3")
        of("submit", plan(of, "one", "two"))
    for of in both:
        of.wait_for_gate("one", "two")
    first = bases("one", "two")
    swarm.end_daemon()
    swarm("start", "--workers", "3")
    for of in both:
        of("submit", plan(of, "three"))
        of.wait_for_gate("three")
    assert len({*first, *bases("three")}) == 6
    for of in both:
        of.open("all")
        for run in ("one", "three"):
            of.check_landed(of.wait(run))

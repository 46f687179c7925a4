"""The journal is deleted, torn, changed or put back from an older copy: every start notices, and `swarm recover --journal` brings
it back so that nothing lands twice and no work is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swarm.edge.journal import Journal, record_of
from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm, common_dir
from tests.e2e.test_behind_our_back import commit

KEPT = ("journal.sqlite", "journal.sqlite-wal", "journal.snapshot", "status.json", "transcript")


def state(swarm: Swarm) -> Path:
    return common_dir(swarm.top) / "swarm"


def take_away(swarm: Swarm, *names: str) -> None:
    for name in names:
        path = state(swarm) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def copy_of(swarm: Swarm, outside: Path) -> Path:
    """Copies the journal and all that is written beside it, as a backup might."""
    outside.mkdir()
    for name in KEPT:
        path = state(swarm) / name
        if path.is_dir():
            shutil.copytree(path, outside / name)
        elif path.exists():
            shutil.copy2(path, outside / name)
    return outside


def put_back(swarm: Swarm, copy: Path, *names: str) -> None:
    for name in names:
        take_away(swarm, name)
        if (copy / name).is_dir():
            shutil.copytree(copy / name, state(swarm) / name)
        elif (copy / name).exists():
            shutil.copy2(copy / name, state(swarm) / name)


def tasks_of(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (task["id"], task["state"], task["landed_commit"], len(task["attempts"]))
        for run in document["runs"]
        for task in run["tasks"]
    ]


def refused(swarm: Swarm) -> str:
    """Starts, which must be refused with cause, consequence and next step; gives what was said."""
    done = swarm("start", code=1)
    assert "Traceback" not in done.err
    assert "swarm recover --journal" in done.err
    assert len(done.err.strip().splitlines()) >= 3
    for words in (["recover"], ["recover", "--dry-run"]):
        told = swarm(*words, code=1)
        assert "swarm recover --journal" in told.err
        assert "as the journal has it" not in told.out
    audited = swarm("audit", code=1)
    assert "Traceback" not in audited.err + audited.out
    return done.err


def plan_of_four(swarm: Swarm) -> Path:
    return swarm.plan(
        "four",
        [
            swarm.task("a"),
            swarm.task("b", needs=["a"]),
            swarm.task("c", "exit 1", attempts=1),
            swarm.task("d", needs=["c"]),
        ],
    )


@pytest.mark.slow
def test_a_journal_that_is_gone_is_rebuilt_as_it_was(swarm: Swarm) -> None:
    """From its transcript the journal comes back with every record; the damaged file is kept, and nothing runs again."""
    swarm.run(plan_of_four(swarm), code=1)
    swarm("stop")
    for how in ("deleted", "emptied", "cut", "flipped", "not a database"):
        damaged_and_rebuilt(swarm, how)
    starts = swarm.starts()
    swarm.run(plan_of_four(swarm), code=1)
    assert swarm.starts() == starts


def damaged_and_rebuilt(swarm: Swarm, how: str) -> None:
    before, events = tasks_of(swarm.status()), swarm("events", "--json").out
    journal = state(swarm) / "journal.sqlite"
    content, earlier = journal.read_bytes(), set(state(swarm).glob("journal.sqlite.damaged-*"))
    if how == "deleted":
        journal.unlink()
    elif how == "emptied":
        os.truncate(journal, 0)
    elif how == "cut":
        os.truncate(journal, len(content) // 2)
    elif how == "flipped":
        place = content.rindex(b"TaskStarted")
        journal.write_bytes(content[:place] + b"X" + content[place + 1 :])
    else:
        journal.write_bytes(b"this was a journal once\n" * 1000)
    refused(swarm)
    damaged = journal.read_bytes() if journal.exists() else None
    told = swarm("recover", "--journal", "--dry-run").out
    assert "the journal is not whole" in told
    assert "mended" not in told
    assert (journal.read_bytes() if journal.exists() else None) == damaged
    told = swarm("recover", "--journal").out
    assert "rebuilt with" in told
    assert tasks_of(swarm.status()) == before
    assert swarm("events", "--json").out == events
    swarm("audit")
    kept = set(state(swarm).glob("journal.sqlite.damaged-*")) - earlier
    assert [each.read_bytes() for each in kept] == ([damaged] if damaged is not None else [])


@pytest.mark.slow
def test_what_another_version_decided_otherwise_is_refused_and_what_landed_is_not_lost(swarm: Swarm) -> None:
    """A journal of other rules is left as it is, and what is said of it is a way on: with it aside, all that landed is known."""
    swarm.run(swarm.plan("two", [swarm.task("a"), swarm.task("b", needs=["a"])]))
    swarm("stop")
    before, starts = tasks_of(swarm.status()), swarm.starts()
    take_away(swarm, *KEPT)
    with Journal.open(state(swarm) / "journal.sqlite") as journal:
        journal.begin_epoch()
        started = {"type": "DaemonStarted", "at": 1.0, "version": "0", "pid": 1, "limits": {}}
        journal.append([record_of("event", started)])
    told = swarm("start", code=1).err
    assert "decided by rules 0" in told
    assert "swarm recover --journal" in told
    take_away(swarm, *KEPT)
    swarm("recover", "--journal")
    swarm.run(swarm.plan("two", [swarm.task("a"), swarm.task("b", needs=["a"])]))
    assert [task[:3] for task in tasks_of(swarm.status())] == [task[:3] for task in before]
    assert swarm.starts() == starts
    swarm("audit")


def test_who_only_reads_says_what_mends_a_damaged_journal(swarm: Swarm) -> None:
    """A command that needs no daemon, and meets a record that was changed, names the damage and not another version."""
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm("stop")
    (state(swarm) / "journal.snapshot").unlink(missing_ok=True)
    journal = state(swarm) / "journal.sqlite"
    content = journal.read_bytes()
    place = content.rindex(b"WorkerStarted")
    journal.write_bytes(content[:place] + b"X" + content[place + 1 :])
    assert "The journal is damaged" in (told := swarm("show", "a", code=1).err)
    assert "swarm recover --journal" in told
    swarm("recover", "--journal")


@pytest.mark.slow
def test_a_byte_that_no_record_has_is_missed_as_well(swarm: Swarm) -> None:
    """Of a journal that a daemon closed, audit tells of a byte that was flipped where nothing stands, start refuses it, and recover
    makes it whole."""
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm("stop")
    journal = state(swarm) / "journal.sqlite"
    content = journal.read_bytes()
    at = content.index(bytes(200)) + 100
    journal.write_bytes(content[:at] + b"X" + content[at + 1 :])
    assert "I18" in swarm("audit", code=1).out
    assert "a byte of it was changed" in swarm("start", code=1).err
    assert "a byte was changed since" in swarm("recover", "--dry-run", code=1).err
    assert "mended" in swarm("recover", "--journal").out
    swarm("start")
    swarm("stop")
    swarm("audit")


@pytest.mark.slow
def test_with_both_copies_gone_staging_still_says_what_landed(swarm: Swarm) -> None:
    """Without journal and transcript the landing repository proves the landings: the plan goes on from there, nothing lands twice,
    and the number of no attempt is given again."""
    swarm.run(plan_of_four(swarm), code=1)
    swarm("stop")
    landings, starts = swarm.landings("four"), swarm.starts()
    take_away(swarm, *KEPT)
    assert "is missing" in refused(swarm)
    ran = swarm("run", str(plan_of_four(swarm)), code=1).err  # which names no branches to be deleted
    assert "swarm recover --journal" in ran
    assert "delete" not in ran
    told = swarm("recover", "--journal").out
    assert "four/a is on staging" in told
    assert "attempt 1 of four/c was begun" in told
    swarm("start")
    run = swarm.wait("four")
    assert [(task["id"], task["state"]) for task in run["tasks"]] == [("a", "landed"), ("b", "landed")]
    swarm("submit", str(plan_of_four(swarm)))
    run = swarm.wait("four", code=1)
    assert {task["id"]: task["state"] for task in run["tasks"]} == {
        "a": "landed",
        "b": "landed",
        "c": "failed",
        "d": "blocked",
    }
    assert swarm.landings("four") == landings == ["a", "b"]
    assert sorted(swarm.starts()) == sorted([*starts, "c"])
    (c,) = [task for task in run["tasks"] if task["id"] == "c"]
    assert [attempt["n"] for attempt in c["attempts"]] == [1, 2]
    swarm.check_landed(run)
    swarm("stop")
    swarm("audit")


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["journal", "both"])
def test_an_older_copy_that_is_put_back_is_noticed(swarm: Swarm, tmp_path: Path, lost: str) -> None:
    """A journal, or journal and transcript, from an older backup is refused by every start, whatever has landed since is taken in,
    and what was at work then is tried anew under a new number."""
    swarm.open("g")
    swarm.run(swarm.plan("r", [swarm.task("a")]))
    swarm("stop")
    copy = copy_of(swarm, tmp_path / "backup")
    both = swarm.plan("r", [swarm.task("a"), swarm.task("b"), swarm.task("c", needs=["b"])])
    swarm.run(both)
    swarm("stop")
    before = tasks_of(swarm.status())
    assert [state for _, state, *_ in before] == ["landed"] * 3
    if lost == "journal":
        put_back(swarm, copy, "journal.sqlite", "journal.sqlite-wal")
        assert "had been written" in refused(swarm)
    else:
        put_back(swarm, copy, *KEPT)
        assert "landings that the journal does not know" in refused(swarm)
    swarm("recover", "--journal")
    starts = swarm.starts()
    run = swarm.run(both)
    assert {task["state"] for task in run["tasks"]} == {"landed"}
    assert swarm.landings("r") == ["a", "b", "c"]
    assert swarm.starts() == starts
    swarm.check_landed(run)
    swarm("stop")
    swarm("audit")


@pytest.mark.slow
def test_an_older_copy_of_everything_is_noticed(swarm: Swarm, tmp_path: Path) -> None:
    """Where the landing repository is an older copy too, the staging branch still knows what landed and what was undone since: that
    is refused, taken in, and neither done again nor taken for commits made by hand; those a person made on top are."""
    swarm.run(swarm.plan("r", [swarm.task("a")], verify=["true"]))
    swarm("stop")
    shutil.copytree(state(swarm), tmp_path / "backup", symlinks=True)
    plan = swarm.plan("r", [swarm.task(name) for name in ("a", "b", "c")], verify=["true"])
    swarm.run(plan)
    swarm("start")
    swarm("undo", "b", "--yes")
    landed = swarm.landings("r")
    swarm("stop")
    known = tasks_of(swarm.status())
    shutil.rmtree(state(swarm))
    shutil.copytree(tmp_path / "backup", state(swarm), symlinks=True)
    commit(swarm.top / ".worktrees" / "r" / "staging", "theirs", "mine\n", "Mine")
    git(
        swarm.top,
        "update-ref",
        "refs/heads/swarm/r/staging",
        git(swarm.top / ".worktrees/r/staging", "rev-parse", "HEAD"),
    )
    assert "landings that the journal does not know" in refused(swarm)
    told = swarm("recover", "--journal").out
    assert "r/c is on staging" in told
    assert "r/b taken off staging again" in told
    starts = swarm.starts()
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait("r", code=1)
    wait_until(lambda: swarm.landings("r") == [*landed, "by-hand-1"])
    now = {
        name: (state, commit) for name, state, commit, _ in tasks_of(swarm.status()) if name != "by-hand-1"
    }
    assert now == {name: (state, commit) for name, state, commit, _ in known}
    assert swarm.starts() == starts


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["journal", "both", "both, and its id is another's"])
def test_a_copy_from_before_a_discard_is_noticed(swarm: Swarm, tmp_path: Path, lost: str) -> None:
    """A journal from before a run was discarded is refused by every start and named by the audit; once what is missing is taken
    in the run is forgotten and nothing of it runs again, while a later run with its id keeps what it has."""
    swarm.run(swarm.plan("r", [swarm.task("a"), swarm.task("b", "exit 1", attempts=1)]), code=1)
    swarm("stop")
    copy = copy_of(swarm, tmp_path / "backup")
    swarm("start")
    swarm("discard", "r", "--force", "--yes", "staging")
    later = ["c"] if lost == "both, and its id is another's" else []
    if later:
        swarm.run(swarm.plan("r", [swarm.task("c")]))
    swarm("stop")
    starts, refs = swarm.starts(), git(swarm.top, "for-each-ref")
    if lost == "journal":
        put_back(swarm, copy, "journal.sqlite", "journal.sqlite-wal")
        assert "had been written" in refused(swarm)
        assert "rebuilt with" in swarm("recover", "--journal").out
    else:
        put_back(swarm, copy, *KEPT)
        assert "has run r and does not know that it was discarded" in refused(swarm)
        assert "run r was discarded" in swarm("recover", "--journal").out
    swarm("start")
    assert [name for name, *_ in tasks_of(swarm.status())] == later
    assert (swarm.starts(), git(swarm.top, "for-each-ref")) == (starts, refs)
    swarm.check_landed(swarm.run(swarm.plan("r", [swarm.task("c"), swarm.task("d", needs=["c"])])))
    assert swarm.landings("r") == ["c", "d"]
    assert swarm.starts() == [*starts, "d"] if later else [*starts, "c", "d"]


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["the end", "all"])
def test_an_undo_and_a_persons_commit_are_known_from_staging(swarm: Swarm, tmp_path: Path, lost: str) -> None:
    """What a lost journal knew of undos, of what landed anew after one, and of commits made by hand, comes back from staging."""
    plan = swarm.plan("r", [swarm.task("a"), swarm.task("b"), swarm.task("c", needs=["b"])], verify=["true"])
    swarm.run(plan)
    swarm("stop")
    copy = copy_of(swarm, tmp_path / "backup")
    swarm("start")
    swarm("undo", "a", "--yes")
    swarm("undo", "b", "--yes")
    swarm("retry", "a")
    wait_until(lambda: swarm.landings("r").count("a") == 2)
    commit(swarm.wait_for_follow("r"), "theirs", "mine\n", "Mine")
    swarm("stop")
    swarm("start")
    wait_until(lambda: "by-hand-1" in swarm.landings("r"))
    swarm.wait("r", code=1)
    swarm("stop")
    known = tasks_of(swarm.status())
    take_away(swarm, *KEPT)
    if lost == "the end":
        put_back(swarm, copy, *KEPT)
    refused(swarm)
    told = swarm("recover", "--journal").out
    assert "r/c, b taken off staging again" in told
    starts = swarm.starts()
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait("r", code=1)
    now = {name: (state, commit) for name, state, commit, _ in tasks_of(swarm.status())}
    assert now == {name: (state, commit) for name, state, commit, _ in known}
    assert {name: state for name, (state, _) in now.items()} == {
        "a": "landed",
        "b": "cancelled",
        "c": "cancelled",
        "by-hand-1": "landed",
    }
    assert swarm.starts() == starts


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r", "finish"])
def test_work_that_the_rebuilt_journal_does_not_know_is_kept(swarm: Swarm, tmp_path: Path, name: str) -> None:
    """A branch with an attempt's work outlives the loss: the next attempt gets the next number and does not write over it."""
    swarm.run(swarm.plan(name, [swarm.task("a")]))
    swarm("stop")
    copy = copy_of(swarm, tmp_path / "backup")
    bad = swarm.plan(name, [swarm.task("a"), swarm.task("w", "echo work > w; exit 3", attempts=1)])
    swarm.run(bad, code=1)
    swarm("stop")
    branch = f"refs/heads/swarm/{name}/task/w/1"
    work = git(swarm.top, "rev-parse", branch)
    put_back(swarm, copy, *KEPT)
    told = swarm("recover", "--journal").out
    assert f"attempt 1 of {name}/w was begun, with work at" in told
    run = swarm.run(bad, code=1)
    (task,) = [each for each in run["tasks"] if each["id"] == "w"]
    assert [(attempt["n"], attempt["state"]) for attempt in task["attempts"]] == [(1, "lost"), (2, "failed")]
    assert git(swarm.top, "rev-parse", branch) == work
    swarm("stop")


def type_what_is_told(swarm: Swarm, said: str) -> None:
    """Does as the message says."""
    command = said.partition("looked at ")[2].partition(": ")[2]
    subprocess.run(["sh", "-c", command], cwd=swarm.top, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("landed", [True, False])
def test_a_run_whose_state_is_gone_is_never_written_over(swarm: Swarm, *, landed: bool) -> None:
    """With the whole state folder deleted `audit` and `recover` agree on what is left, a run of the same name is refused, and each
    branch of the earlier one stays. What is told to type makes way: nothing of the earlier run lands in the new one."""
    plan = swarm.plan("r", [swarm.task("a")], verify=["true" if landed else "false"])
    swarm.run(plan, code=0 if landed else 1)
    swarm("stop")
    before = git(swarm.top, "for-each-ref", "refs/heads/swarm/")
    assert "swarm/r/task/a/1" in before
    shutil.rmtree(state(swarm))
    audit = swarm("audit", code=1).out
    assert "Broken: I13, I20" in audit
    left = swarm("recover").out
    for what in ("swarm/r/task/a/1", str(swarm.top / ".worktrees" / "r" / "staging")):
        assert what in audit
        assert what in left
    for command in ("run", "submit"):
        if command == "submit":
            swarm("start")
        said = swarm(command, str(plan), code=4).err
        assert "swarm/r/staging" in said
        assert "another id" in said
    assert git(swarm.top, "for-each-ref", "refs/heads/swarm/") == before
    type_what_is_told(swarm, said)
    type_what_is_told(swarm, swarm("submit", str(plan), code=4).err)
    assert swarm("recover").out == "Everything is as the journal has it.\n"
    run = swarm.run(plan, code=0 if landed else 1)
    assert [task["id"] for task in run["tasks"]] == ["a"]

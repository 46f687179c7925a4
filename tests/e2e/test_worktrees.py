"""Worktrees as people treat them: cleaned, opened, deleted under a worker, and their work brought back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm
from tests.e2e.test_ends import task_of
from tests.e2e.test_recover import WITH_AND_WITHOUT, found, looks_when_asked
from tests.e2e.test_sandbox import needs_bubblewrap


def kept(swarm: Swarm, *, daemon: bool) -> Path:
    """Has one task fail whose worktree is kept, and gives that worktree; with or without the daemon still there."""
    swarm.env["SWARM_WORKTREES__KEEP"] = "true"
    swarm("start", env=looks_when_asked(swarm))
    failing = swarm.task("t", "echo half > half; exit 1", claims=["half"], attempts=1)
    swarm("submit", str(swarm.plan("r", [failing, swarm.task("a")])))
    run = swarm.wait("r", code=1)
    swarm.wait_for_follow("r")
    if not daemon:
        swarm("stop")
    return Path(task_of(run, "t")["attempts"][0]["worktree"])


def cleaned(swarm: Swarm, *args: str, code: int = 0) -> dict[str, dict[str, Any]]:
    document = swarm("worktrees", "--clean", "--json", *args, code=code).json
    return {each["path"]: each for each in document["worktrees"]}


@WITH_AND_WITHOUT
def test_what_is_safe_to_remove_is_removed(swarm: Swarm, daemon: bool) -> None:
    """Row 100: spare worktrees, kept ones whose work stands on its branch, and opened ones without changes go; staging stays."""
    path = kept(swarm, daemon=daemon)
    opened = swarm("worktrees", "open", "a").out.strip()
    done = cleaned(swarm)
    assert {str(path), opened} <= set(done)
    assert all(each["removed"] and not each["saved"] for each in done.values())
    assert not path.exists()
    assert not Path(opened).exists()
    assert (swarm.top / ".worktrees" / "r" / "staging" / "out-a").exists()
    assert git(swarm.top, "show", "swarm/r/task/t/1:half") == "half"
    assert cleaned(swarm) == {}
    swarm.check_landed(swarm.run(swarm.plan("next", [swarm.task("b")])))


@WITH_AND_WITHOUT
def test_what_would_be_lost_is_left_and_can_be_brought_back(swarm: Swarm, daemon: bool) -> None:
    """Rows 33, 100: a dirty worktree and one with a commit on no branch are refused; with --force they are saved, and come back."""
    path = kept(swarm, daemon=daemon)
    (path / "only here").write_text("precious\n")
    opened = Path(swarm("worktrees", "open", "a").out.strip())
    (opened / "mine").write_text("commit\n")
    git(opened, "add", "mine")
    git(opened, "commit", "-q", "-m", "mine")
    left = {name: each for name, each in cleaned(swarm, code=4).items() if not each["removed"]}
    assert set(left) == {str(path), str(opened)}
    assert "on no branch" in left[str(opened)]["why"]
    assert (path / "only here").exists()
    forced = cleaned(swarm, "--force")
    assert {name for name, each in forced.items() if each["saved"]} >= {str(path)}
    assert not path.exists()
    assert not opened.exists()
    back = Path(swarm("recover", "t").out.strip())
    assert (back / "only here").read_text() == "precious\n"
    assert '?? "only here"' in git(back, "status", "--porcelain")
    assert swarm("recover", "t").out.strip() == str(back)
    (row,) = [row for row in swarm("worktrees", "--json").json["worktrees"] if row["path"] == str(back)]
    assert (row["state"], row["run"], row["task"], row["attempt"]) == ("open", "r", "t", 1)
    assert row["branch"] == forced[str(path)]["saved"]
    assert git(swarm.top, "show", f"{forced[str(opened)]['saved']}:mine") == "commit"


@pytest.mark.slow
def test_what_the_machine_refuses_is_told_by_the_daemon(swarm: Swarm) -> None:
    """Where a worktree can't be removed the daemon says what it was that the machine refused, and goes on: with that out of the way
    it is removed."""
    path = kept(swarm, daemon=True)
    trash = path.parent / ".trash"
    if trash.exists():
        trash.rmdir()
    trash.write_text("in the way\n")
    failed = swarm("worktrees", "--clean", code=1).err
    assert "The daemon could not do it: [Errno 17] File exists" in failed
    assert "What of it was done before that stays done." in failed
    trash.unlink()
    assert any(each["removed"] for each in cleaned(swarm).values())
    assert not path.exists()


@pytest.mark.slow
def test_paths_that_are_no_text_go_through_the_daemon(
    tmp_path: Path, repo: Path, swarm_in: Callable[..., Swarm]
) -> None:
    """In a repository below a folder whose name is no UTF-8 its worktrees are cleaned and told, and a run is discarded."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    swarm = swarm_in(shutil.move(repo, folder / "repo"))
    path = kept(swarm, daemon=True)
    assert cleaned(swarm)[str(path)]["removed"]
    assert not path.exists()
    holds = swarm("discard", "r", "--dry-run", "--json").json["holds"]
    gone = swarm("discard", "r", "--force", *(f"--yes={each['name']}" for each in holds), "--json").json
    assert gone["discarded"]


def test_the_work_of_a_task_comes_back(swarm: Swarm) -> None:
    """`recover TASK` finds what is kept by its refs, lists it, and lays it out in a worktree or writes it into a folder."""
    plan = swarm.plan(
        "r", [swarm.task("t", "echo $SWARM_ATTEMPT > half; exit 1", claims=["half"], attempts=2)]
    )
    swarm.run(plan, code=1)
    swarm("stop")
    assert [each["attempt"] for each in swarm("recover", "t", "--dry-run", "--json").json["kept"]] == [1, 2]
    assert (Path(swarm("recover", "r/t").out.strip()) / "half").read_text() == "2\n"
    done = swarm("recover", "t", "--attempt", "1", "--into", str(swarm.outside / "out"), "--json").json
    assert (done["branch"], done["attempt"]) == ("swarm/r/task/t/1", 1)
    assert (swarm.outside / "out" / "half").read_text() == "1\n"
    swarm("recover", "t", "--into", str(swarm.outside / "out"), code=4)
    swarm("recover", "t", "--attempt", "7", code=2)
    swarm("recover", "nothing", code=2)
    shutil.rmtree(swarm.top / ".git" / "swarm" / "attempts")
    for journal in (swarm.top / ".git" / "swarm").glob("journal*"):
        journal.unlink() if journal.is_file() else shutil.rmtree(journal)
    assert swarm("recover", "t").code == 0
    shutil.rmtree(swarm.top / ".git" / "swarm")
    swarm.left_broken = {"I13", "I20"}  # a worktree and branches of which nothing is known any more


STASHES = "echo 1 > new; echo 2 > added; git add added; echo more >> README.md; git stash -q -u"
BRANCHES = (
    "git switch -q -c other; echo 3 > h; git add h; GIT_COMMITTER_DATE=2020-01-01T00:00:00Z git commit -q -m elsewhere;"
    " git checkout -q --detach HEAD^"
)


@pytest.mark.slow
@needs_bubblewrap
@pytest.mark.parametrize("how", ["recover", "into", "open"])
def test_what_was_left_in_a_stash_is_laid_out(swarm: Swarm, how: str) -> None:
    """The work of who stashed all of it lies there as it lay before the stash, untracked files and index too, and as files."""
    swarm.shut_in().run(swarm.plan("r", [swarm.task("t", STASHES, claims=["**"], attempts=1)]), code=1)
    told = swarm("recover", "t", "--dry-run")
    assert (told.out, "a stash, " in told.err, "git stash apply --index " in told.err) == ("", True, True)
    args = {
        "recover": ("recover", "t"),
        "into": ("recover", "t", "--into"),
        "open": ("worktrees", "open", "t"),
    }
    done = swarm(*args[how], *([str(swarm.outside / "out")] if how == "into" else []))
    place = Path(done.out.strip())
    assert "laid out here: a stash, " in done.err
    assert (place / "new").read_text() + (place / "added").read_text() == "1\n2\n"
    assert (place / "README.md").read_text().endswith("more\n")
    if how != "into":
        assert git(place, "status", "--porcelain").split("\n") == [" M README.md", "A  added", "?? new"]
        (row,) = [row for row in swarm("worktrees", "--json").json["worktrees"] if row["path"] == str(place)]
        whose = (row["state"], row["run"], row["task"], row["attempt"], row["branch"])
        assert whose == ("open", "r", "t", 1, "swarm/r/saved/t/1-1")


@pytest.mark.slow
@needs_bubblewrap
def test_the_newest_of_what_was_left_elsewhere_is_laid_out(swarm: Swarm) -> None:
    """Of several places the newest is laid out and the others are named with the command that gets each; a branch alone is checked
    out at its commits, and nobody is said to have made commits in a worktree in which none was made."""
    plan = [
        swarm.task("first"),  # so that the base of the others is a landing
        swarm.task("both", f"{BRANCHES}; {STASHES}", claims=["**"], needs=["first"], attempts=1),
        swarm.task("branch", f"{BRANCHES}; echo x > f", claims=["f"], needs=["first"], attempts=1),
        swarm.task("alone", BRANCHES, claims=["h"], needs=["first"], attempts=1),
        swarm.task("merge", f"{BRANCHES}; git merge -q --no-ff --no-commit other", claims=["h"], attempts=1),
    ]
    swarm.shut_in().run(swarm.plan("r", plan), code=1)
    both = swarm("recover", "both", "--json").json
    stash, commits = both["elsewhere"]
    assert (stash["kind"], commits["kind"], commits["title"]) == ("stash", "commits", "elsewhere")
    assert both["shows"] == stash["commit"]
    assert (Path(both["place"]) / "new").exists()
    told = swarm("recover", "both", "--into", str(swarm.outside / "out")).err
    assert f'  commits, {commits["commit"][:12]} "elsewhere": {commits["next"]}\n' in told
    subprocess.run(commits["next"], shell=True, check=True, cwd=swarm.top)
    assert (swarm.top.parent / f"both-{commits['commit'][:7]}" / "h").read_text() == "3\n"
    opened = swarm("worktrees", "open", "branch")
    assert (Path(opened.out.strip()) / "f").exists()
    assert "  commits, " in opened.err  # its branch has work of its own, and the other is named
    recovered = swarm("recover", "branch")
    assert "  commits, " in recovered.err
    assert git(Path(recovered.out.strip()), "status", "--porcelain") == "?? f"
    place = Path(swarm("recover", "alone").out.strip())
    assert (place / "h").read_text() == "3\n"
    assert git(place, "status", "--porcelain") == ""
    place = Path(swarm("recover", "merge").out.strip())
    assert git(place, "status", "--porcelain") == "?? h"  # as the worktree lay, and not what is merged there
    first = swarm("worktrees", "open", "first").out.strip()
    assert all(row["state"] != "unknown" for row in swarm("worktrees", "--json").json["worktrees"])
    git(Path(first), "commit", "-q", "--allow-empty", "-m", "mine")
    held = swarm("discard", "r", "--dry-run").out
    assert [line.split(":")[0] for line in held.splitlines() if "commits made in" in line] == [
        "nowhere else  worktree/first-1"
    ]


@pytest.mark.slow
def test_work_that_git_would_not_take_is_shown_where_it_lies(swarm: Swarm) -> None:
    """What could not be committed was put aside as it lay: `diff` says where, instead of that nothing was changed, and `worktrees
    open` leads there, and not to a worktree of the base."""
    git(swarm.top, "config", "core.safecrlf", "true")
    git(swarm.top, "config", "core.autocrlf", "input")
    task = swarm.task("t", r"printf 'a\r\nb\n' > out", claims=["out"], attempts=1)
    swarm.look_again()
    swarm.run(swarm.plan("crlf", [task]), code=1)

    def place() -> str:
        return str(task_of(swarm.run_of("crlf"), "t")["attempts"][0]["saved"] or "")

    wait_until(place)  # it is put aside once the attempt has ended
    kept = place()
    assert f"what lay in its worktree is kept in {kept}" in swarm("diff", "t").err
    opened = swarm("worktrees", "open", "t")
    assert "put aside as it was" in opened.err
    assert (opened.out.strip(), (Path(kept) / "out").read_bytes()) == (kept, b"a\r\nb\n")


@pytest.mark.slow
def test_a_branch_under_the_name_of_an_attempt_is_kept(swarm: Swarm) -> None:
    """What somebody put there before the attempt had its work, made or fetched, is on a recovery ref afterwards."""
    theirs = git(swarm.top, "commit-tree", "main^{tree}", "-p", "main", "-m", "theirs").strip()
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("t", gate="go"), swarm.task("u")])))
    swarm.wait_for_start("t")
    git(swarm.top, "branch", "-f", "swarm/r/task/t/1", theirs)
    swarm.open("go")
    swarm.check_landed(swarm.wait("r"))
    own, kept = "swarm/r/task/t/1", "swarm/r/saved/t/1-1"
    assert git(swarm.top, "rev-parse", f"{kept}^1").strip() == theirs
    assert git(swarm.top, "show", f"{own}:out-t") == "t"
    assert "nowhere else  saved/t/1-1" in swarm("discard", "r", "--dry-run").out


@pytest.mark.slow
@pytest.mark.parametrize("how", ["opened", "staging"])
def test_untracked_files_count_whatever_status_shows(swarm: Swarm, how: str) -> None:
    """`status.showUntrackedFiles = no`, as in a home that is a repository, hides nothing from what removes worktrees."""
    git(swarm.top, "config", "status.showUntrackedFiles", "no")
    git(swarm.top, "config", "diff.orderFile", "not/there")
    swarm.look_again()
    swarm.run(swarm.plan("r", [swarm.task("t")]))
    opened = Path(swarm("worktrees", "open", "t").out.strip())
    place = opened if how == "opened" else swarm.top / ".worktrees" / "r" / "staging"
    (place / "mine").write_text("mine\n")
    listed = {each["path"]: each for each in swarm("worktrees", "--json").json["worktrees"]}
    assert listed[str(place)]["dirty"] == 1
    cleaned(swarm, code=4 if how == "opened" else 0)
    assert (place / "mine").read_text() == "mine\n"
    assert ("worktree/t-1" if how == "opened" else "worktree/staging") in swarm(
        "discard", "r", "--dry-run"
    ).out


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_a_worker_that_deletes_its_worktree_has_lost_it(swarm: Swarm, sandbox: str) -> None:
    """In the sandbox its folder stays, and by bubblewrap its `.git`; without it nothing does. None of that is the wish to take
    every file out of the project. What it had committed is kept, and another attempt does the task."""
    work = (
        "echo done > out; [ $SWARM_ATTEMPT -gt 1 ] && exit 0; git add out;"
        " git -c user.name=w -c user.email=w@example.org commit -q -m mine;"
        ' cd /; rm -rf "$SWARM_WORKTREE" || true; exit 0'
    )
    task = {"id": "t", "title": "T", "run": work, "claims": ["out"], "attempts": 1}
    run = swarm.run(swarm.plan("r", [task]), SWARM_SANDBOX=sandbox)
    first, second = task_of(run, "t")["attempts"]
    assert (first["state"], second["state"]) == ("lost", "landed")
    assert swarm.content("r", "src/a.py") is not None
    wait_until(lambda: swarm.events("WorkSaved"))  # once the next attempt has its place
    (kept,) = {event["place"] for event in swarm.events("WorkSaved")}
    assert git(swarm.top, "log", "-1", "--format=%s", "--grep=^mine$", kept) == "mine"


@pytest.mark.parametrize("how", ["running", pytest.param("killed", marks=pytest.mark.slow)])
def test_worktrees_deleted_under_workers(swarm: Swarm, how: str) -> None:
    """Rows 69, 101: with `.worktrees` deleted and pruned under a live worker, while the daemon runs or is down, the attempt is lost
    and not failed, it is said, and the task is done by another."""
    work = f'[ "$SWARM_ATTEMPT" = 1 ] || {{ echo x > out; exit 0; }}; until [ -e {swarm.gate("t")} ]; do sleep 0.02; done'
    plan = swarm.plan("r", [swarm.task("t", work, claims=["out"], attempts=1)])
    swarm("start")
    swarm("submit", str(plan))
    swarm.wait_for_start("t")
    if how == "killed":
        swarm.end_daemon()
    shutil.rmtree(swarm.top / ".worktrees")
    git(swarm.top, "worktree", "prune")
    swarm.open("t")
    if how == "killed":
        swarm("start")
    run = swarm.wait("r")
    first, second = task_of(run, "t")["attempts"]
    assert (first["state"], second["state"]) == ("lost", "landed")
    assert "is gone" in first["reason"]["text"]
    swarm.check_landed(run)
    wait_until(lambda: (swarm.top / ".worktrees" / "r" / "staging" / "out").exists())
    assert found(swarm) == []


def test_a_pruned_worktree_of_a_live_worker_is_mended(swarm: Swarm) -> None:
    """With git's record removed under a live worker, recover makes another, git works there again, and the work lands."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("t", "echo x > out", claims=["out"], gate="t")])))
    swarm.wait_for_gate("t")
    worktree = Path(task_of(swarm.run_of("r"), "t")["attempts"][0]["worktree"])
    shutil.rmtree(git(worktree, "rev-parse", "--absolute-git-dir"))
    assert [each["kind"] for each in found(swarm) if each["mended"]] == ["worktree"]
    assert git(worktree, "status", "--porcelain") == "?? out"
    swarm.open("t")
    swarm.check_landed(swarm.wait("r"))


@pytest.mark.slow
def test_a_moved_worktree_of_a_live_worker_is_collected_where_it_is(swarm: Swarm) -> None:
    """`git worktree move` under a live worker: its work lands all the same, and the worktree is the user's from then on."""
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("t", "echo x > out", claims=["out"], gate="t")])))
    swarm.wait_for_gate("t")
    worktree = Path(task_of(swarm.run_of("r"), "t")["attempts"][0]["worktree"])
    mine = swarm.outside / "mine"
    git(swarm.top, "worktree", "move", str(worktree), str(mine))
    assert any(str(mine) in each["text"] for each in found(swarm))
    swarm.open("t")
    swarm.check_landed(swarm.wait("r"))
    assert (mine / "out").read_text() == "x\n"
    assert found(swarm) == []
    swarm.check_landed(swarm.run(swarm.plan("next", [swarm.task("a")])))
    assert git(mine, "status", "--porcelain") == "A  out"
    git(swarm.top, "worktree", "remove", "--force", str(mine))


@pytest.mark.slow
@WITH_AND_WITHOUT
@pytest.mark.parametrize("what", ["deleted", "pruned", "record"])
def test_a_staging_worktree_that_was_lost_comes_back(swarm: Swarm, daemon: bool, what: str) -> None:
    """Deleted, deleted and pruned, or without git's record: it stands again where staging stands, and a person's edits stay."""
    kept(swarm, daemon=daemon)
    staging = swarm.top / ".worktrees" / "r" / "staging"
    (staging / "README.md").write_text("mine\n")
    if what == "record":
        shutil.rmtree(git(staging, "rev-parse", "--absolute-git-dir"))
    else:
        shutil.rmtree(staging)
        if what == "pruned":
            git(swarm.top, "worktree", "prune")
    assert "staging" in [each["kind"] for each in found(swarm) if each["mended"]]
    assert git(staging, "rev-parse", "HEAD") == swarm.staging("r")
    assert git(staging, "status", "--porcelain") == (" M README.md" if what == "record" else "")


@pytest.mark.slow
@WITH_AND_WITHOUT
def test_a_staging_worktree_that_a_person_uses_is_told_and_left(swarm: Swarm, daemon: bool) -> None:
    """Edits, and a branch of a person's own, are named by recover and stay as they are."""
    kept(swarm, daemon=daemon)
    staging = swarm.top / ".worktrees" / "r" / "staging"
    (staging / "README.md").write_text("mine\n")
    (told,) = found(swarm)
    assert not told["mended"]
    assert "README.md" in told["text"]
    git(staging, "checkout", "-q", "README.md")
    git(staging, "switch", "-q", "-c", "mine")
    (told,) = found(swarm)
    assert "is on mine" in told["text"]
    assert git(staging, "branch", "--show-current") == "mine"
    git(staging, "checkout", "-q", "--detach")
    git(swarm.top, "branch", "-D", "mine")
    assert found(swarm) == []


@pytest.mark.slow
def test_a_disk_budget_takes_the_oldest_that_can_be_made_again(swarm: Swarm) -> None:
    """Row 32: where kept worktrees hold more than `disk_budget_bytes` in regenerable folders, the older one's goes, and it is told;
    its other files, untracked or ignored, stay, and so does all of the newer one, which fits."""
    (swarm.top / ".gitignore").write_text("node_modules/\nnotes/\n")
    git(swarm.top, "add", ".gitignore")
    git(swarm.top, "commit", "-q", "-m", "what is ignored")
    swarm.look_again()
    swarm.env |= {"SWARM_WORKTREES__KEEP": "true", "SWARM_LIMITS__WORKERS_MAX": "1"}
    work = "mkdir node_modules notes; head -c 2000000 /dev/zero | tee node_modules/big > notes/big; exit 1"
    names = ("older", "newer")
    run = swarm.run(swarm.plan("r", [swarm.task(name, work, attempts=1) for name in names]), code=1)
    older, newer = (Path(task_of(run, name)["attempts"][0]["worktree"]) for name in names)
    (older / "mine").write_text("untracked\n")
    swarm("stop")
    swarm.env["SWARM_WORKTREES__DISK_BUDGET_BYTES"] = "3000000"
    swarm("start", env=swarm.with_constants("swarm.daemon.reclaiming", WAIT_S=0.1))
    wait_until(lambda: swarm.events("SpaceReclaimed"))
    (told,) = swarm.events("SpaceReclaimed")
    assert told["paths"] == [str(older / "node_modules")]
    assert 2_000_000 <= told["size_bytes"] < 2_200_000
    left = [
        not (older / "node_modules").exists(),
        (older / "mine").exists(),
        (older / "notes" / "big").exists(),
    ]
    assert all([*left, (newer / "node_modules" / "big").exists(), (newer / "notes" / "big").exists()])


@pytest.mark.slow
def test_a_folder_of_worktrees_beside_the_checkout_is_shown_plainly(swarm: Swarm) -> None:
    """Where `worktrees.root` begins with `..` no path in the status has that, of staging as little as of an attempt, and the list
    of worktrees knows staging by it."""
    root = {"SWARM_WORKTREES__ROOT": "../beside"}
    swarm("start", env=root)
    swarm("submit", str(swarm.plan("r", [swarm.task("a", gate="go")])))
    swarm.wait_for_gate("a")
    run = swarm.run_of("r")
    beside = (swarm.top.parent / "beside").resolve()
    assert run["staging"]["worktree"] == str(beside / "r" / "staging")
    assert Path(run["tasks"][0]["attempts"][0]["worktree"]).parent == beside / "pool"
    swarm.open("go")
    swarm.wait("r")
    listed = swarm("worktrees", "--json", env=root).json["worktrees"]
    assert [each["path"] for each in listed if each["state"] == "staging"] == [str(beside / "r" / "staging")]
    assert "/../" not in swarm("status", "--json").out + swarm("show", "a", "--json").out
    swarm("stop")
    assert swarm.run_of("r")["staging"]["worktree"] == str(beside / "r" / "staging")


@pytest.mark.slow
def test_files_that_only_seem_changed_are_in_nobodys_way(swarm: Swarm) -> None:
    """Files with line ends that their attributes would make others show as changed in every checkout. Staging follows all the same,
    is finished into a checkout of that kind, and goes; an edit of the user's in one stops the finish and stays."""
    crlf = [swarm.top / name for name in ("one.txt", "two.txt")]
    for file in crlf:
        file.write_bytes(b"a\r\nb\r\n")
    git(swarm.top, "add", "-A")
    git(swarm.top, "commit", "-q", "-m", "raw")
    (swarm.top / ".gitattributes").write_text("*.txt text\n")
    git(swarm.top, "add", ".gitattributes")
    git(swarm.top, "commit", "-q", "-m", "text")
    for file in crlf:
        os.utime(file)
    assert git(swarm.top, "status", "--porcelain") == " M one.txt\n M two.txt"
    swarm.look_again()
    swarm("start")
    swarm("submit", str(swarm.plan("r", [swarm.task("a"), swarm.task("b", "echo new > one.txt")])))
    swarm.check_landed(swarm.wait("r"))
    staging = Path(swarm.run_of("r")["staging"]["worktree"])
    wait_until(lambda: git(staging, "rev-parse", "HEAD") == swarm.staging("r"))
    wait_until(lambda: (staging / "one.txt").read_text() == "new\n")
    crlf[0].write_bytes(b"a\r\nB\r\n")
    assert "has changes of its own in one.txt" in swarm("finish", code=4).err
    assert crlf[0].read_bytes() == b"a\r\nB\r\n"
    crlf[0].write_bytes(b"a\r\nb\r\n")
    swarm("finish")
    assert crlf[0].read_text() == "new\n"
    assert crlf[1].read_bytes() == b"a\r\nb\r\n"
    assert git(swarm.top, "rev-parse", "HEAD") == swarm.staging("r")
    swarm.look_again()
    os.utime(staging / "two.txt")
    swarm("discard", "r")
    assert not staging.exists()

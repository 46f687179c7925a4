"""Recovery refs and what people do to worktrees, against real git: nothing is removed that stands nowhere else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.edge import git, leftovers, linked
from swarm.edge.lockfile import exclusive
from swarm.edge.saved import Aside, Owner, lay_out, saved, write_files
from swarm.edge.worktrees import Pool
from swarm.errors import Refused, SwarmError
from tests.conftest import git as sh
from tests.integration.conftest import open_pool
from tests.integration.test_worktrees import collect, listing, snapshot

KEY = "r/Task one/2"
AT = 1_700_000_000.0


@pytest.fixture
def base(repo: Path) -> str:
    """The first commit, in which logs are ignored."""
    (repo / ".gitignore").write_text("*.log\n")
    sh(repo, "add", "-A")
    sh(repo, "commit", "-qm", "more")
    sh(repo, "config", "merge.conflictStyle", "merge")
    return sh(repo, "rev-parse", "HEAD")


def branches(repo: Path) -> list[str]:
    """Names the recovery refs there are."""
    return [each.branch for each in saved(repo / ".git")]


def brought_back(repo: Path, pool: Pool, branch: str) -> Path:
    """Lays saved work out in a new worktree, as `swarm recover TASK` does."""
    path = repo.parent / "back"
    commit = sh(repo, "rev-parse", branch)
    with exclusive(repo.parent / "lock") as held:
        tree = linked.link(path, "back", pool.common, commit, user_config=True, lock=held)
    lay_out(tree, pool.objects, commit)
    return path


def state(path: Path) -> tuple[str, str, dict[str, str]]:
    """Says all about a worktree that git or a person sees, but for ignored files."""
    files = {name: what for name, what in listing(path).items() if not name.endswith(".log")}
    return sh(path, "rev-parse", "HEAD"), sh(path, "status", "--porcelain"), files


# --- what is saved, and that it comes back ------------------------------------------------------------------


def _untracked(path: Path) -> None:
    (path / "new folder").mkdir()
    (path / "new folder" / "only here").write_text("precious")


def _edited(path: Path) -> None:
    (path / "src" / "a.py").write_text("edited\n")
    (path / "src" / "b.py").unlink()
    (path / "README.md").chmod(0o755)


def _staged_then_edited(path: Path) -> None:
    (path / "src" / "a.py").write_text("staged\n")
    sh(path, "add", "src/a.py")
    (path / "src" / "a.py").write_text("edited after that\n")


def _staged_then_deleted(path: Path) -> None:
    (path / "idea").write_text("only staged\n")
    sh(path, "add", "idea")
    (path / "idea").unlink()


def _committed(path: Path) -> None:
    (path / "src" / "a.py").write_text("committed\n")
    sh(path, "commit", "-qam", "mine")
    (path / "more").write_text("and more\n")


def _link_and_odd_names(path: Path) -> None:
    (path / "link").symlink_to("src/a.py")
    (path / "ünïcode \n name").write_text("x")


def _forced_in(path: Path) -> None:
    (path / "x.log").write_text("ignored, but added\n")
    sh(path, "add", "-f", "x.log")


def _hidden(path: Path) -> None:
    sh(path, "update-index", "--assume-unchanged", "src/a.py")
    (path / "src" / "a.py").write_text("hidden\n")


MESSES: list[Callable[[Path], None]] = [
    _untracked,
    _edited,
    _staged_then_edited,
    _staged_then_deleted,
    _committed,
    _link_and_odd_names,
]


@pytest.mark.parametrize("mess", MESSES, ids=lambda mess: mess.__name__.strip("_"))
def test_what_was_never_collected_comes_back_as_it_was(
    repo: Path, pool: Pool, base: str, mess: Callable[[Path], None]
) -> None:
    """Row 33: tracked, staged and untracked files of a worktree that was cleaned come back: HEAD, index and files."""
    path = pool.take(KEY, base)
    mess(path)
    before = state(path)
    branch = pool.give_back(KEY, at=AT)
    assert branch == "swarm/r/saved/task-one-bfad4d/2-1" or (branch or "").startswith(
        "swarm/r/saved/task-one-"
    )
    assert branches(repo) == [branch]
    assert not (path / "new folder").exists()
    assert state(brought_back(repo, pool, str(branch))) == before


@pytest.mark.parametrize("mess", [_forced_in, _hidden], ids=["forced in", "hidden"])
def test_files_that_git_would_pass_over_are_saved(
    repo: Path, pool: Pool, base: str, mess: Callable[[Path], None]
) -> None:
    """An ignored file that was added all the same, and a change marked as none, are in the saved files."""
    path = pool.take(KEY, base)
    mess(path)
    files = listing(path)
    branch = pool.give_back(KEY, at=AT)
    write_files(pool.common, [sh(repo, "rev-parse", str(branch))], repo.parent / "out")
    assert listing(repo.parent / "out") == files


def test_files_are_written_into_a_new_folder_only(repo: Path, pool: Pool, base: str) -> None:
    """A folder with something in it is refused and left as it is."""
    (repo.parent / "out").mkdir()
    (repo.parent / "out" / "mine").write_text("x")
    with pytest.raises(Refused):
        write_files(pool.common, [base], repo.parent / "out")
    assert listing(repo.parent / "out") == {"mine": "0 b'x'"}


def test_who_collects_again_finds_what_was_only_staged(repo: Path, pool: Pool, base: str) -> None:
    """A collecting that failed before the ref was made has taken nothing away: not from the next one, and not from a gc between."""
    path = pool.take(KEY, base)
    _staged_then_edited(path)
    sh(repo, "branch", "swarm/r/saved")  # no ref can be made below it
    for _ in range(2):
        with pytest.raises(SwarmError):
            collect(pool, path, base)
    sh(repo, "branch", "-D", "swarm/r/saved")
    sh(repo, "gc", "-q", "--prune=now")
    found = collect(pool, path, base)
    assert sh(repo, "show", f"{found.head}:src/a.py") == "edited after that"
    (branch,) = branches(repo)
    assert sh(repo, "show", f"{branch}^2:src/a.py") == "staged"


def test_what_was_only_staged_is_saved_when_work_is_collected(repo: Path, pool: Pool, base: str) -> None:
    """Collecting takes the files as they lie; a staged version that is another is kept besides."""
    path = pool.take(KEY, base)
    _staged_then_edited(path)
    found = collect(pool, path, base)
    assert sh(repo, "show", f"{found.head}:src/a.py") == "edited after that"
    (branch,) = branches(repo)
    assert sh(repo, "show", f"{branch}^2:src/a.py") == "staged"
    assert collect(pool, path, base) == found
    assert pool.give_back(KEY, at=AT) is None
    assert branches(repo) == [branch]


def _late_file(path: Path) -> None:
    (path / "late").write_text("written after collection\n")


def _late_commit(path: Path) -> None:
    (path / "late").write_text("written after collection\n")
    sh(path, "add", "late")
    sh(path, "commit", "-qm", "late")


def _late_edit(path: Path) -> None:
    (path / "src" / "b.py").write_text("b = 2\n")


@pytest.mark.parametrize("late", [_late_file, _late_commit, _late_edit], ids=["file", "commit", "edit"])
def test_what_is_written_after_collection_is_saved(
    repo: Path, pool: Pool, base: str, late: Callable[[Path], None]
) -> None:
    """A process that escaped and wrote on after its work was collected loses nothing: that gets a ref of its own."""
    path = pool.take(KEY, base)
    (path / "work").write_text("collected\n")
    found = collect(pool, path, base)
    late(path)
    files = listing(path)
    branch = pool.give_back(KEY, at=AT)
    assert branch is not None
    write_files(pool.common, [sh(repo, "rev-parse", branch)], repo.parent / "out")
    assert listing(repo.parent / "out") == files
    assert found.touched == ("work",)


def test_collected_work_that_stayed_as_it_was_gets_no_ref(repo: Path, pool: Pool, base: str) -> None:
    """Nothing is saved twice: what was collected, and a worktree in which nothing was done, need no ref."""
    path = pool.take(KEY, base)
    _committed(path)
    (path / "out.log").write_text("ignored")
    collect(pool, path, base)
    assert pool.give_back(KEY) is None
    pool.take(KEY, base)
    assert pool.give_back(KEY) is None
    assert branches(repo) == []


def test_an_unfinished_merge_is_saved_with_its_other_side(repo: Path, pool: Pool, base: str) -> None:
    """Conflict markers are in the files, and the commit that was being merged stays reachable though no branch has it."""
    path = pool.take(KEY, base)
    (path / "src" / "b.py").write_text("theirs\n")
    sh(path, "commit", "-qam", "theirs")
    theirs = sh(path, "rev-parse", "HEAD")
    sh(path, "checkout", "-q", "--detach", base)
    (path / "src" / "b.py").write_text("ours\n")
    sh(path, "commit", "-qam", "ours")
    sh(path, "merge", theirs, check=False)
    branch = pool.give_back(KEY, at=AT)
    assert "<<<<<<<" in sh(repo, "show", f"{branch}:src/b.py")
    assert theirs in sh(repo, "rev-list", str(branch)).split()


def test_commits_that_an_unfinished_rebase_set_aside_are_saved(repo: Path, pool: Pool, base: str) -> None:
    """A rebase that stopped half-way names the commits still to come; they stay reachable."""
    path = pool.take(KEY, base)
    for name in ("one", "two"):
        (path / name).write_text(name)
        sh(path, "add", name)
        sh(path, "commit", "-qm", name)
    tip = sh(path, "rev-parse", "HEAD")
    sh(path, "-c", "sequence.editor=sed -i 1i\\\\break", "rebase", "-i", base, check=False)
    branch = pool.give_back(KEY, at=AT)
    assert tip in sh(repo, "rev-list", str(branch)).split()


@pytest.mark.parametrize(
    "head", ["ref: refs/heads/unborn\n", "0" * 40 + "\n", "junk\n"], ids=["unborn", "zeros", "junk"]
)
def test_an_odd_head_costs_no_files(repo: Path, pool: Pool, base: str, head: str) -> None:
    """With HEAD on a branch without a commit, or at none, the files are saved on top of the base."""
    path = pool.take(KEY, base)
    (path / "only here").write_text("precious")
    Path(sh(path, "rev-parse", "--absolute-git-dir"), "HEAD").write_text(head)
    branch = pool.give_back(KEY, at=AT)
    assert sh(repo, "show", f"{branch}:only here") == "precious"
    assert sh(repo, "rev-parse", f"{branch}^") == base


def test_files_of_a_nested_repository_are_saved(repo: Path, pool: Pool, base: str) -> None:
    """A repository that the worker made inside its worktree is saved as plain files, not as a link that leads nowhere."""
    path = pool.take(KEY, base)
    (path / "inner").mkdir()
    sh(path / "inner", "init", "-q")
    (path / "inner" / "code").write_text("code")
    branch = pool.give_back(KEY, at=AT)
    assert sh(repo, "show", f"{branch}:inner/code") == "code"


def test_a_file_without_rights_is_saved(repo: Path, pool: Pool, base: str) -> None:
    """A file whose rights the worker took away from itself is read all the same."""
    path = pool.take(KEY, base)
    (path / "secret").write_text("precious")
    (path / "secret").chmod(0)
    branch = pool.give_back(KEY, at=AT)
    assert sh(repo, "show", f"{branch}:secret") == "precious"


def test_a_large_file_is_saved(repo: Path, pool: Pool, base: str) -> None:
    """A file of many megabytes is saved like any other."""
    path = pool.take(KEY, base)
    with open(path / "large", "wb") as file:
        file.truncate(64 << 20)
    branch = pool.give_back(KEY, at=AT)
    assert sh(repo, "cat-file", "-s", f"{branch}:large") == str(64 << 20)


def test_saving_the_same_again_gives_the_same_ref(repo: Path, base: str) -> None:
    """A daemon that was killed after saving and before cleaning makes no second ref."""
    first = open_pool(repo)
    path = first.take(KEY, base)
    first.close()
    _staged_then_edited(path)
    for _ in range(2):
        pool = open_pool(repo)
        (member,) = pool._sorted()
        pool._keeper.put_away(member)
        pool.close()
    assert len(branches(repo)) == 1
    (path / "another").write_text("x")
    last = open_pool(repo)
    (member,) = last._sorted()
    last._keeper.put_away(member)
    last.close()
    assert [branch.rpartition("/")[2] for branch in branches(repo)] == ["2-1", "2-2"]


def test_where_the_limit_is_reached_nothing_is_dropped(repo: Path, base: str) -> None:
    """With as many recovery refs as allowed a worktree is moved aside as it is, and the next one still works."""
    pool = open_pool(repo, saved_refs_max=1)
    for number in (1, 2):
        path = pool.take(f"r/t/{number}", base)
        (path / "only here").write_text(f"precious {number}")
        place = pool.give_back(f"r/t/{number}", at=AT)
    assert branches(repo) == ["swarm/r/saved/t/1-1"]
    aside = Path(str(place))
    assert (aside / "only here").read_text() == "precious 2"
    assert "saved_refs_max" in Path(f"{aside}.txt").read_text()
    assert sh(pool.take("r/t/3", base), "status", "--porcelain") == ""
    assert len(sh(repo, "worktree", "list").splitlines()) == 2
    pool.close()


def test_at_the_limit_what_was_only_staged_is_moved_aside(repo: Path, base: str) -> None:
    """Work is collected although no ref can be made of what was staged besides; the worktree then goes aside as it lies."""
    pool = open_pool(repo, saved_refs_max=1)
    for number in (1, 2):
        path = pool.take(f"r/t/{number}", base)
        _staged_then_edited(path)
        found = collect(pool, path, base)
        assert sh(repo, "show", f"{found.head}:src/a.py") == "edited after that"
        place = pool.give_back(f"r/t/{number}", at=AT)
    assert branches(repo) == ["swarm/r/saved/t/1-1"]
    assert (Path(str(place)) / "src" / "a.py").read_text() == "edited after that\n"
    assert Path(f"{place}.staged", "src", "a.py").read_text() == "staged\n"
    assert "saved_refs_max" in Path(f"{place}.txt").read_text()
    pool.close()


def test_what_git_can_not_take_in_is_not_removed(repo: Path, pool: Pool, base: str) -> None:
    """A worktree in which git refuses a file stays as it is, leased, until it can be saved; then it is."""
    path = pool.take(KEY, base)
    (path / ".gitattributes").write_text("odd filter=broken\n")
    (path / "odd").write_text("precious")
    sh(repo, "config", "filter.broken.clean", "false")
    sh(repo, "config", "filter.broken.required", "true")
    with pytest.raises(git.GitError):
        pool.give_back(KEY, at=AT)
    assert (path / "odd").read_text() == "precious"
    (found,) = pool.sweep(leases={}, alone=True)
    assert not found.mended
    assert (path / "odd").read_text() == "precious"
    sh(repo, "config", "filter.broken.clean", "cat")
    (found,) = pool.sweep(leases={}, alone=True)
    assert found.mended
    assert sh(repo, "show", f"{branches(repo)[0]}:odd") == "precious"


@pytest.mark.parametrize("removal", ["trim", "teardown"])
def test_nothing_is_trimmed_or_torn_down_unsaved(repo: Path, pool: Pool, base: str, removal: str) -> None:
    """What somebody wrote into a worktree that waits in the pool has a ref before the worktree goes."""
    path = pool.take(KEY, base)
    pool.give_back(KEY)
    (path / "a person's").write_text("precious")
    if removal == "trim":
        assert pool.trim(0) == 1
    else:
        pool.teardown(path)
    assert not path.exists()
    (branch,) = branches(repo)
    assert sh(repo, "show", f"{branch}:a person's") == "precious"


# --- what people do to worktrees ----------------------------------------------------------------------------


def mend(pool: Pool, lease: tuple[Path, str] | None = None) -> list[str]:
    """Sweeps, first without doing anything, and gives what was mended."""
    leases = {} if lease is None else {KEY: lease}
    planned = pool.sweep(leases=leases, dry_run=True)
    found = pool.sweep(leases=leases)
    assert [each.text for each in planned] == [each.text for each in found]
    return [f"{each.text}: {each.remedy}" for each in found if each.mended]


def test_commits_in_a_deleted_worktree_are_kept(repo: Path, pool: Pool, base: str) -> None:
    """A record without a folder goes only after what it alone knew has a ref: where HEAD stood, and what was staged."""
    path = pool.take(KEY, base)
    _committed(path)
    (path / "staged").write_text("staged\n")
    sh(path, "add", "staged")
    head = sh(path, "rev-parse", "HEAD")
    shutil.rmtree(path)
    (told,) = mend(pool)
    (branch,) = branches(repo)
    assert branch in told
    assert sh(repo, "rev-parse", f"{branch}^") == head
    assert sh(repo, "show", f"{branch}:staged") == "staged"
    assert len(sh(repo, "worktree", "list").splitlines()) == 1
    found = pool.collect(path, base, key=KEY, message="m", identity=None, at=AT)
    assert found.work is None
    assert "gone" in found.problem


def test_a_branch_is_free_again_when_its_worktree_was_deleted(repo: Path, pool: Pool, base: str) -> None:
    """A worker's branch that a dead worktree held can be checked out again."""
    path = pool.take(KEY, base)
    sh(path, "switch", "-qc", "feature")
    shutil.rmtree(path)
    mend(pool)
    sh(repo, "worktree", "add", "-q", str(repo.parent / "mine"), "feature")
    assert branches(repo) == []


def test_a_pruned_record_comes_back(repo: Path, pool: Pool, base: str) -> None:
    """A folder that git no longer knows gets a record again, at once, and its work is collected whole."""
    path = pool.take(KEY, base)
    (path / "work").write_text("x")
    shutil.rmtree(sh(path, "rev-parse", "--absolute-git-dir"))
    (told,) = mend(pool, lease=(path, base))
    assert "no record" in told
    assert sh(path, "status", "--porcelain") == "?? work"
    assert collect(pool, path, base).touched == ("work",)
    assert pool.give_back(KEY) is None


def _git_move(repo: Path, path: Path, to: Path) -> None:
    sh(repo, "worktree", "move", str(path), str(to))


def _mv_and_repair(repo: Path, path: Path, to: Path) -> None:
    path.rename(to)
    sh(repo, "worktree", "repair", str(to))


@pytest.mark.parametrize("move", [_git_move, _mv_and_repair], ids=["git worktree move", "mv and repair"])
def test_a_worktree_that_was_moved_belongs_to_who_moved_it(
    repo: Path, pool: Pool, base: str, move: Callable[[Path, Path, Path], None]
) -> None:
    """Its work is collected from where it is; then it is an ordinary worktree of the user's, and never touched again."""
    path, there = pool.take(KEY, base), repo.parent / "elsewhere"
    (path / "work").write_text("x")
    move(repo, path, there)
    assert mend(pool, lease=(path, base)) == []
    found = pool.collect(path, base, key=KEY, message="m", identity=None, at=AT)
    assert found.touched == ("work",)
    assert pool.give_back(KEY) is None
    assert mend(pool) == []
    assert (there / "work").read_text() == "x"
    assert sh(there, "status", "--porcelain") == "A  work"
    assert pool.take("r/next/1", base) == path
    assert str(there) in sh(repo, "worktree", "list")


def test_a_spare_worktree_that_was_moved_is_given_up(repo: Path, pool: Pool, base: str) -> None:
    """A worktree that nobody had and that a person took away is theirs; the pool makes another."""
    path, there = pool.take(KEY, base), repo.parent / "elsewhere"
    pool.give_back(KEY)
    _git_move(repo, path, there)
    (told,) = mend(pool)
    assert "no worktree of swarm's any more" in told
    assert sh(there, "status", "--porcelain") == ""
    assert mend(pool) == []
    assert pool.take("r/next/1", base) == path


def test_a_worktree_that_was_moved_nearby_by_hand_is_found(repo: Path, pool: Pool, base: str) -> None:
    """After a plain `mv` below `.worktrees` its work is found there by what its `.git` names."""
    path, there = pool.take(KEY, base), repo / ".worktrees" / "look-at-this"
    (path / "work").write_text("x")
    path.rename(there)
    mend(pool, lease=(path, base))
    assert pool.collect(path, base, key=KEY, message="m", identity=None, at=AT).touched == ("work",)
    pool.give_back(KEY)
    assert sh(there, "status", "--porcelain") == "A  work"


def test_lost_leases_are_written_anew(repo: Path, base: str) -> None:
    """With the pool's own files deleted the next daemon learns from the journal whose worktree it is, and collects it."""
    pool = open_pool(repo)
    path = pool.take(KEY, base)
    (path / "work").write_text("x")
    pool.close()
    shutil.rmtree(pool.root / ".pool")
    later = open_pool(repo)
    (told,) = mend(later, lease=(path, base))
    assert KEY in told
    assert later.take("r/other/1", base) != path
    assert later.collect(path, base, key=KEY, message="m", identity=None, at=AT).touched == ("work",)
    assert later.give_back(KEY) is None
    later.close()


def _cleans(repo: Path) -> None:
    """Takes untracked and ignored files, and what hides the pool."""
    sh(repo, "clean", "-qfdx")


def _stashes(repo: Path) -> None:
    """Takes them into a stash."""
    sh(repo, "stash", "--all", "--quiet")


def _removes(repo: Path) -> None:
    """Takes the pool's own files, which git does not."""
    shutil.rmtree(repo / ".worktrees" / "pool" / ".pool")
    (repo / ".worktrees" / "pool" / ".gitignore").unlink()


@pytest.mark.parametrize("takes", [_cleans, _stashes, _removes])
@pytest.mark.parametrize("collected", [True, False])
def test_who_cleans_the_checkout_takes_no_work(
    repo: Path, pool: Pool, base: str, takes: Callable[[Path], None], *, collected: bool
) -> None:
    """A person who cleans the checkout of ignored files while workers run: what these left is collected, or saved, and nothing of
    ours shows in the checkout afterwards."""
    path = pool.take(KEY, base)
    (path / "a").write_text("committed")
    sh(path, "add", "a")
    sh(path, "commit", "-qm", "mine")
    (path / "b").write_text("left")
    takes(repo)
    if collected:
        found = pool.collect(path, base, key=KEY, message="m", identity=None, at=AT)
        assert (found.touched, found.commits, found.problem) == (("a", "b"), 2, "")
        assert pool.give_back(KEY) is None
    else:
        kept = pool.give_back(KEY) or ""
        assert {"a", "b"} <= set(sh(repo, "ls-tree", "-r", "--name-only", kept).split())
    assert sh(pool.take("r/b/1", base), "status", "--porcelain") == ""
    assert sh(repo, "status", "--porcelain", "--", ".worktrees/pool") == ""


@pytest.mark.parametrize("takes", [_cleans, _stashes])
def test_git_cleaning_the_checkout_passes_over_what_is_ours(
    repo: Path, pool: Pool, base: str, takes: Callable[[Path], None]
) -> None:
    """What a shut-in worker is doing with git, and what could only be kept as it lies, outlives `git clean` and `git stash`."""
    (pool.take("r/kept/1", base) / "w").write_text("nowhere else")
    kept = Path(pool.set_aside("r/kept/1", "why") or "")
    pool.take(KEY, base)
    own = pool.seclude(KEY)
    assert own is not None
    takes(repo)
    assert (kept / "w").read_text() == "nowhere else"
    assert Path(f"{kept}.txt").exists()
    assert (own / "HEAD").exists()
    pool.sweep()
    assert sh(repo, "status", "--porcelain") == ""


def test_everything_below_worktrees_deleted_while_the_pool_is_open(repo: Path, pool: Pool, base: str) -> None:
    """With `.worktrees` gone, pruned or not, what is asked next is told of it or works."""
    path = pool.take(KEY, base)
    spare = pool.take("r/spare/1", base)
    pool.give_back("r/spare/1")
    shutil.rmtree(repo / ".worktrees")
    found = pool.collect(path, base, key=KEY, message="m", identity=None, at=AT)
    assert found.work is None
    assert pool.give_back(KEY) is None
    assert {pool.take("r/a/1", base), pool.take("r/b/1", base)} == {path, spare}
    assert sh(path, "status", "--porcelain") == ""
    assert sh(repo, "status", "--porcelain") == ""


@pytest.mark.parametrize("kept", [True, False])
def test_what_a_branch_has_already_is_not_saved_again(repo: Path, base: str, *, kept: bool) -> None:
    """With `.worktrees` deleted, a record that knows no more than the work that was collected from there, and stands on its branch,
    goes without a ref; where no branch has that, it gets one."""
    pool = open_pool(repo)
    path = pool.take(KEY, base)
    (path / "work").write_text("x")
    found = pool.collect(path, base, key=KEY, message="m", identity=None, at=AT)
    if kept:
        sh(repo, "branch", "swarm/r/task/t/1", found.head)
    pool.close()
    shutil.rmtree(repo / ".worktrees")
    later = open_pool(repo)
    mend(later)
    later.close()
    assert [branch.partition("/saved/")[0] for branch in branches(repo)] == (
        [] if kept else ["swarm/unowned"]
    )


def test_a_lease_that_nobody_needs_is_given_back(repo: Path, base: str) -> None:
    """A worktree still leased to an attempt that has ended is saved and free again, but only where nobody else takes any."""
    pool = open_pool(repo)
    (pool.take(KEY, base) / "only here").write_text("precious")
    assert pool.sweep(leases={}, alone=False) == []
    (found,) = pool.sweep(leases={}, alone=True)
    (branch,) = branches(repo)
    assert branch in found.remedy
    assert [entry.key for entry in pool.members()] == [""]
    pool.close()


def test_worktrees_of_the_users_own_are_never_touched(repo: Path, pool: Pool, base: str) -> None:
    """Their records stay byte for byte: whole, deleted, locked, and one whose making was killed."""
    for name in ("whole", "deleted", "locked"):
        sh(repo, "worktree", "add", "-q", "-b", name, str(repo.parent / name))
    sh(repo, "worktree", "lock", str(repo.parent / "locked"))
    shutil.rmtree(repo.parent / "deleted")
    half = repo / ".git" / "worktrees" / "half"
    half.mkdir()
    (half / "locked").write_text("initializing")
    before = {
        str(each): each.read_bytes() for each in (repo / ".git" / "worktrees").rglob("*") if each.is_file()
    }
    kept = snapshot(repo)
    shutil.rmtree(pool.take(KEY, base))
    mend(pool)
    pool.give_back(KEY)
    pool.trim(0)
    after = {
        str(each): each.read_bytes() for each in (repo / ".git" / "worktrees").rglob("*") if each.is_file()
    }
    assert after == before
    assert snapshot(repo) == kept


def test_a_commit_in_a_deleted_staging_worktree_is_kept(repo: Path, pool: Pool, base: str) -> None:
    """What a person committed in the staging worktree has a ref before the worktree is made again."""
    staging = repo / ".worktrees" / "r" / "staging"
    pool.prepare_staging(staging, base)
    (staging / "mine").write_text("x")
    sh(staging, "add", "mine")
    sh(staging, "commit", "-qm", "mine")
    head = sh(staging, "rev-parse", "HEAD")
    shutil.rmtree(staging)
    (found,) = pool.mend_staging(staging, base, base)
    assert found.mended
    assert sh(staging, "rev-parse", "HEAD") == base
    (branch,) = branches(repo)
    assert branch.startswith("swarm/r/saved/staging/")
    assert head in sh(repo, "rev-list", branch).split()


def test_a_staging_worktree_that_was_moved_stays_where_it_is(repo: Path, pool: Pool, base: str) -> None:
    """It is the user's from then on, whole; another one is made in its place."""
    staging, there = repo / ".worktrees" / "r" / "staging", repo.parent / "mine"
    pool.prepare_staging(staging, base)
    _git_move(repo, staging, there)
    pool.mend_staging(staging, base, base)
    assert sh(there, "status", "--porcelain") == ""
    assert sh(staging, "status", "--porcelain") == ""
    assert git.Repository.discover(there).common_dir == repo / ".git"


@pytest.mark.parametrize("closed", [".", "d"])
def test_what_lies_in_a_folder_without_rights_is_collected(
    repo: Path, pool: Pool, base: str, closed: str
) -> None:
    """A folder whose rights the worker took away from itself, the worktree's own too, is opened and collected."""
    path = pool.take(KEY, base)
    (path / "d").mkdir()
    (path / "d" / "k").write_text("precious")
    (path / closed).chmod(0)
    found = collect(pool, path, base)
    assert (found.touched, found.problem) == (("d/k",), "")
    assert pool.give_back(KEY, at=AT) is None


def test_what_lies_too_deep_for_a_path_is_told_and_kept(repo: Path, pool: Pool, base: str) -> None:
    """Files that git can't see are not taken for nothing: it is said, and their worktree is kept as it lies."""
    path = pool.take(KEY, base)
    here = os.open(path, os.O_RDONLY)
    for _ in range(90):
        os.mkdir("x" * 50, dir_fd=here)
        here, above = os.open("x" * 50, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    found = collect(pool, path, base)
    assert found.problem.startswith("Not everything could be read: could not open directory 'xxx")
    assert str(pool.aside.folder) in found.problem
    place = Path(str(pool.give_back(KEY, at=AT)))
    assert place.parent == pool.aside.folder
    assert os.listdir(here) == ["f"]
    os.close(here)
    assert sh(pool.take("r/t/3", base), "status", "--porcelain") == ""


def test_what_is_too_large_is_not_read_but_kept(
    repo: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of many gigabytes that was made in a moment is told by its size once reading it has taken a while, and its worktree
    kept; the rest is collected."""
    monkeypatch.setattr(leftovers, "SOON_S", 0.5)
    pool = open_pool(repo, added_bytes_max=1_000_000)
    path = pool.take(KEY, base)
    (path / "small").write_text("precious")
    (path / "sub").mkdir()
    sh(path / "sub", "init", "-q")
    for name in ("large", "sub/large"):
        with open(path / name, "wb") as file:
            file.truncate(90 << 30)
    found = collect(pool, path, base)
    assert found.touched == ("small",)
    assert "too large to be taken in: " in found.problem
    place = Path(str(pool.give_back(KEY, at=AT)))
    assert all((place / name).stat().st_size == 90 << 30 for name in ("large", "sub/large"))
    pool.close()


def test_a_nested_repository_beside_a_path_that_git_refuses_is_collected(
    repo: Path, pool: Pool, base: str
) -> None:
    """What git takes is collected, what it refuses is told, and the worktree is kept."""
    path = pool.take(KEY, base)
    (path / "g" / ".GIT").mkdir(parents=True)
    (path / "g" / ".GIT" / "config").write_text("x")
    (path / "g" / "sub").mkdir()
    (path / "g" / "sub" / "k").write_text("precious")
    sh(path / "g" / "sub", "init", "-q")
    found = collect(pool, path, base)
    assert found.touched == ("g/sub/k",)
    assert "'g/.GIT/config'" in found.problem
    assert (Path(str(pool.give_back(KEY, at=AT))) / "g" / ".GIT" / "config").read_text() == "x"


def test_what_was_put_aside_of_a_task_is_found(tmp_path: Path, repo: Path) -> None:
    """A folder that was put aside is found by its task, with the git folder beside it, and goes with its run."""
    aside = Aside(tmp_path / "kept", repo / ".git")
    for name in ("tree", "git", "other"):
        (tmp_path / name).mkdir()
    place = aside.put(tmp_path / "tree", Owner("r", "a", 1), "it: could not", git_folder=tmp_path / "git")
    other = aside.put(tmp_path / "other", Owner("s", "b", 1), "it could not")
    assert (aside.of_task("a"), aside.of_task("b"), aside.of_task("r")) == ([place], [other], [])
    aside.drop("r")
    assert sorted(path.name for path in aside.folder.iterdir()) == [
        ".git",  # it is to look like a repository
        Path(other).name,
        f"{Path(other).name}.txt",
    ]


def test_what_was_collected_before_a_kill_is_not_kept_besides(repo: Path, pool: Pool, base: str) -> None:
    """Who collects again, later, makes the same commit with another date; the earlier one on the attempt's branch is nobody's work.
    One of which only the message is another's is kept."""
    path = pool.take(KEY, base)
    (path / "work").write_text("x")
    first, again = (
        pool.collect(path, base, key=KEY, message="m\n", identity=None, at=at).head for at in (AT, AT + 13)
    )
    assert first != again
    told = sh(repo, "commit-tree", f"{again}^{{tree}}", "-p", base, "-m", "mine")
    pool.keep_commit(KEY, first, above=again, where="refs/heads/x", at=AT)
    assert branches(repo) == []
    pool.keep_commit(KEY, told, above=again, where="refs/heads/x", at=AT)
    (kept,) = branches(repo)
    assert sh(repo, "merge-base", kept, told) == told

"""A look into worktrees at work: what has changed, what would conflict, and that nobody notices."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest

from swarm import config
from swarm.core.foreseeing import STAGING
from swarm.daemon import reconcile
from swarm.edge import foresight
from swarm.edge.foresight import Foreseen, Work, look
from swarm.edge.git import GitEnded, Reader, Repository
from swarm.edge.place import places_of
from tests.conftest import git, is_gone, wait_until


@pytest.fixture
def works(repo: Path, tmp_path: Path) -> list[Work]:
    """Three worktrees at the first commit, staging at a second one that changes `src/b.py`."""
    base = git(repo, "rev-parse", "HEAD")
    (repo / "src" / "b.py").write_text("b = 2\n")
    git(repo, "commit", "-q", "-a", "-m", "second")
    staging = git(repo, "rev-parse", "HEAD")
    made = []
    for name in ("one", "two", "three"):
        git(repo, "worktree", "add", "-q", "--detach", str(tmp_path / name), base)
        made.append(Work(name, str(tmp_path / name), base, staging))
    return made


def write(work: Work, path: str, text: str) -> None:
    target = Path(work.worktree) / path
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)


def changed_line(line: int, text: str) -> str:
    lines = [f"line {n}\n" for n in range(20)]
    lines[line] = f"{text}\n"
    return "".join(lines)


def everything(top: Path) -> list[tuple[str, int, int]]:
    """Every file below a folder with its size and the time of its last change; git marks objects that it meets as in use."""
    found = []
    for folder, _, names in os.walk(top):
        for name in names:
            facts = os.lstat(Path(folder) / name)
            at = 0 if "/objects/" in folder else facts.st_mtime_ns
            found.append((f"{folder}/{name}", facts.st_size, at))
    return sorted(found)


@pytest.mark.parametrize("index", ["whole", "split"])
def test_nothing_runs_by_the_settings_of_a_submodule(
    repo: Path, works: list[Work], tmp_path: Path, index: str
) -> None:
    """Git looks into a submodule by a git that goes by the settings of that, which a worker makes; who looks is not shut in."""
    top, ran = Path(works[0].worktree), tmp_path / "ran"
    inner = top / "inner"
    git(top, "init", "-q", "inner")
    git(inner, "fetch", "-q", str(repo), "main")
    git(inner, "checkout", "-q", "--detach", "FETCH_HEAD")
    git(top, "add", "inner")
    if index == "split":
        git(top, "update-index", "--split-index")
    git(inner, "config", "core.fsmonitor", f"touch {ran}; false")
    write(works[0], "new", "x\n")
    (seen, *_) = look(repo / ".git", works)
    assert "new" in (seen.changed or ())
    assert not ran.exists()


def test_conflicts_are_seen_before_anything_is_collected(repo: Path, works: list[Work]) -> None:
    """Edits of one line by two, committed or not, and one that staging has made meanwhile, conflict; edits of one file in other
    places do not; new files are changes too."""
    one, two, three = works
    write(one, "src/a.py", changed_line(3, "mine"))
    git(Path(one.worktree), "commit", "-q", "-a", "-m", "mine")
    write(one, "new", "x\n")
    write(two, "src/a.py", changed_line(3, "yours"))
    write(two, "src/b.py", "b = 3\n")
    write(three, "src/a.py", changed_line(18, "far away"))
    assert look(repo / ".git", works) == [
        Foreseen("one", ("new", "src/a.py"), {"two": ("src/a.py",)}),
        Foreseen("two", ("src/a.py", "src/b.py"), {STAGING: ("src/b.py",), "one": ("src/a.py",)}),
        Foreseen("three", ("src/a.py",), {}),
    ]


def test_nobody_notices_a_look(repo: Path, works: list[Work]) -> None:
    """Worktrees, their indexes and the repository stay as they are to the byte, and a lock that a worker's git holds is in nobody's
    way."""
    write(works[0], "src/a.py", changed_line(3, "mine"))
    write(works[0], "src/b.py", "b = 9\n")
    (repo / ".git" / "worktrees" / "one" / "index.lock").touch()
    before = everything(repo.parent)
    (seen, *_) = look(repo / ".git", works)
    assert seen.changed == ("src/a.py", "src/b.py")
    assert foresight.changed(repo / ".git", works)[0] == seen.changed
    assert isinstance(foresight.patch(repo / ".git", works[0], binary=True), foresight.Patch)
    assert everything(repo.parent) == before


def test_the_paths_alone_are_those_of_a_whole_look(repo: Path, works: list[Work]) -> None:
    """What was committed, staged, deleted, only touched or never told to git, ignored or lent: the short look lists what the long
    one does, and of a worktree that is gone nothing."""
    one, two, three = works
    write(one, "src/a.py", changed_line(3, "mine"))
    git(Path(one.worktree), "commit", "-q", "-a", "-m", "mine")
    write(one, "new", "x\n")
    git(Path(one.worktree), "add", "new")
    write(two, ".gitignore", "*.o\n")
    write(two, "a.o", "ignored\n")
    write(two, "lent", "lent\n")
    (Path(two.worktree) / "src" / "b.py").unlink()
    os.utime(Path(two.worktree) / "src" / "a.py", (1, 1))
    git(repo, "worktree", "remove", "--force", three.worktree)
    found = foresight.changed(repo / ".git", works, leave_out=("lent",))
    assert found == [each.changed for each in look(repo / ".git", works, leave_out=("lent",))]
    assert found == [("new", "src/a.py"), (".gitignore", "src/b.py"), None]


@pytest.mark.parametrize("commits", [False, True])
def test_what_a_checkout_shows_as_changed_is_not_foreseen(
    repo: Path, works: list[Work], tmp_path: Path, commits: bool
) -> None:
    """A file with line ends that its attributes would make others is changed by nobody who left it as it was checked out, and is in
    conflict with nothing; what is written to it, or committed of it, counts."""
    (repo / "old.txt").write_bytes(b"a\r\nb\r\n")
    git(repo, "add", "old.txt")
    git(repo, "commit", "-q", "-m", "raw")
    (repo / ".gitattributes").write_text("*.txt text\n")
    git(repo, "add", ".gitattributes")
    git(repo, "commit", "-q", "-m", "text")
    base = git(repo, "rev-parse", "HEAD")
    (repo / "old.txt").write_text("other\n")
    git(repo, "commit", "-q", "-a", "-m", "staging")
    work = Work("w", str(tmp_path / "w"), base, git(repo, "rev-parse", "HEAD"))
    git(repo, "worktree", "add", "-q", "--detach", work.worktree, base)
    os.utime(Path(work.worktree) / "old.txt")
    write(work, "new", "x\n")
    assert look(repo / ".git", [work]) == [Foreseen("w", ("new",), {})]
    assert foresight.changed(repo / ".git", [work]) == [("new",)]
    assert foresight.patch(repo / ".git", work, binary=False).lines == {"new": (1, 0)}  # type: ignore[union-attr]
    if commits:
        git(Path(work.worktree), "commit", "-q", "-a", "-m", "made anew")
    else:
        (Path(work.worktree) / "old.txt").write_bytes(b"a\r\nB\r\n")
    assert foresight.changed(repo / ".git", [work]) == [("new", "old.txt")]
    assert look(repo / ".git", [work]) == [Foreseen("w", ("new", "old.txt"), {STAGING: ("old.txt",)})]


def test_what_changed_so_far_is_a_patch_that_git_applies(
    repo: Path, works: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed or not, text or not, it leads from where the worktree began to what lies there; a file that is too large to be read
    is named, and of a worktree that is gone the reason is given."""
    one, two, _ = works
    write(one, "src/a.py", changed_line(3, "mine"))
    git(Path(one.worktree), "commit", "-q", "-a", "-m", "mine")
    (Path(one.worktree) / "blob").write_bytes(bytes(range(256)) * 8)
    found = foresight.patch(repo / ".git", one, binary=True)
    assert isinstance(found, foresight.Patch)
    assert (found.lines, found.left_out) == ({"blob": (0, 0), "src/a.py": (1, 1)}, ())
    there = Path(two.worktree)
    (there.parent / "patch").write_bytes(found.text)
    git(there, "apply", "--index", "../patch")
    git(Path(one.worktree), "add", "-A")
    assert git(there, "write-tree") == git(Path(one.worktree), "write-tree")
    monkeypatch.setattr(foresight, "BYTES_MAX", 3000)
    (Path(one.worktree) / "large").write_bytes(bytes(4000))
    found = foresight.patch(repo / ".git", one, binary=True)
    assert isinstance(found, foresight.Patch)
    assert found.left_out == ("large",)
    git(repo, "worktree", "remove", "--force", one.worktree)
    assert "gone" in str(foresight.patch(repo / ".git", one, binary=True))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files in which nothing else lies."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def never_ends(repo: Path, work: Work, tmp_path: Path) -> Path:
    """Has git never come to an end with what lies in a worktree; gives the file that says that it has begun."""
    git(repo, "config", "filter.slow.clean", f"echo $$ > {tmp_path}/begun; exec sleep 1000")
    write(work, ".gitattributes", "slow filter=slow\n")
    write(work, "slow", "x\n")
    return tmp_path / "begun"


def test_what_cannot_be_read_is_unknown(repo: Path, works: list[Work]) -> None:
    """A worktree that is gone, or whose index is torn, is told as unknown; the others are looked at. What was lent is no change."""
    one, _, three = works
    git(repo, "worktree", "remove", "--force", one.worktree)
    (repo / ".git" / "worktrees" / "two" / "index").write_bytes(b"DIRC")
    write(three, "node_modules/x", "lent\n")
    seen = look(repo / ".git", works, leave_out=("node_modules",))
    assert [each.changed for each in seen] == [None, None, ()]
    assert [bool(each.why) for each in seen] == [True, True, False]
    assert look(repo / ".git", []) == []


def test_what_is_too_large_is_told_and_not_read(repo: Path, works: list[Work], temporary: Path) -> None:
    """The largest of the changed files are left out until the others are few enough bytes, and told as changed and not compared;
    the others are compared. Where too many had to be left out, that is told, and none is."""
    one, two, three = works
    for work, text in ((one, "mine"), (two, "yours")):
        write(work, "src/a.py", changed_line(3, text))
    for work in (one, two):
        with open(Path(work.worktree) / "huge", "wb") as huge:
            huge.truncate(8 << 30)
    for number in range(101):
        with open(Path(three.worktree) / f"large{number}", "wb") as large:
            large.truncate(foresight.BYTES_MAX + 1)
    seen = look(repo / ".git", works)
    assert seen[:2] == [
        Foreseen("one", ("huge", "src/a.py"), {"two": ("src/a.py",)}, ("huge",)),
        Foreseen("two", ("huge", "src/a.py"), {"one": ("src/a.py",)}, ("huge",)),
    ]
    assert (seen[2].changed, "more than" in seen[2].why) == (None, True)
    assert not list(temporary.iterdir())


def test_what_lies_beyond_a_link_is_elsewhere(repo: Path, works: list[Work], tmp_path: Path) -> None:
    """A link in place of a folder is a change, and hides no others: not by what was lent into the folder, nor by a file of the name
    of a tracked one that is larger than what is compared."""
    one, two, _ = works
    (tmp_path / "outside").mkdir()
    with open(tmp_path / "outside" / "a.py", "wb") as huge:
        huge.truncate(8 << 30)
    shutil.rmtree(Path(one.worktree) / "src")
    for work in (one, two):
        write(work, "new", "x\n")
    for name in ("src", "conf"):
        (Path(one.worktree) / name).symlink_to(tmp_path / "outside")
    seen = look(repo / ".git", works, leave_out=("conf/.env",))
    assert [each.changed for each in seen] == [("conf", "new", "src", "src/a.py", "src/b.py"), ("new",), ()]
    assert not any(each.why or each.uncompared for each in seen)


def test_a_look_takes_bounded_time(
    repo: Path, works: list[Work], temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where git comes to no end in a worktree it is ended, with what it started, and that is told; the others are looked at. When
    the time for all is over nothing more is begun. Nothing is left of either."""
    begun = never_ends(repo, works[0], tmp_path)
    write(works[1], "src/b.py", "b = 3\n")
    with monkeypatch.context() as short:
        short.setattr(foresight, "_GIT_MAX_S", 3.0)
        slow, other, _ = look(repo / ".git", works, time_max_s=300)
    assert (slow.changed, "time limit" in slow.why) == (None, True)
    assert (other.changed, other.conflicts) == (("src/b.py",), {STAGING: ("src/b.py",)})
    wait_until(lambda: is_gone(int(begun.read_text())))
    assert [each.changed for each in look(repo / ".git", works, time_max_s=0)] == [None, None, None]
    assert not list(temporary.iterdir())


def test_a_look_can_be_ended(repo: Path, works: list[Work], temporary: Path, tmp_path: Path) -> None:
    """Whoever waits for a look no more ends it with the git that runs for it, and nothing is left."""
    begun, reader, raised = never_ends(repo, works[0], tmp_path), Reader(), []

    def looking() -> None:
        try:
            look(repo / ".git", works, reader=reader)
        except GitEnded as ended:
            raised.append(ended)

    thread = threading.Thread(target=looking)
    thread.start()
    wait_until(lambda: begun.exists() and begun.read_text())
    reader.end()
    thread.join()
    assert raised
    assert is_gone(int(begun.read_text()))
    assert not list(temporary.iterdir())


def test_what_a_killed_look_left_goes_with_the_next(repo: Path, works: list[Work], temporary: Path) -> None:
    """The folder of a look that was killed is removed when it is older than any look can be; that of another stays, and so does
    whatever else has such a name."""
    for name in ("killed", "another"):
        (temporary / f"swarm-look-{name}" / "objects").mkdir(parents=True)
    (temporary / "swarm-look-file").touch()
    os.symlink(repo, temporary / "swarm-look-link")
    for name in ("killed", "file", "link"):
        long_ago = time.time() - 3600
        os.utime(temporary / f"swarm-look-{name}", (long_ago, long_ago), follow_symlinks=False)
    assert [path.name for path in foresight.left_behind()] == ["swarm-look-killed"]
    look(repo / ".git", works)
    left = {path.name for path in temporary.iterdir()}
    assert left == {"swarm-look-another", "swarm-look-file", "swarm-look-link"}


def test_what_a_killed_look_left_goes_when_a_daemon_starts(repo: Path, temporary: Path) -> None:
    """Looking after what is left removes it, where nobody looks any more; a dry run does not."""
    repository = Repository.discover(repo)
    places = places_of(repository.common_dir / "swarm")
    places.state.mkdir()
    edges = reconcile.open_edges(places, repository, config.load(repo, {}), {})
    (temporary / "swarm-look-killed").mkdir()
    os.utime(temporary / "swarm-look-killed", (1, 1))
    reconcile.reconcile(reconcile.Known(), edges, dry_run=True)
    assert (temporary / "swarm-look-killed").exists()
    reconcile.reconcile(reconcile.Known(), edges)
    assert not (temporary / "swarm-look-killed").exists()
    edges.close()


def test_only_a_files_own_bytes_are_an_index(repo: Path, works: list[Work], tmp_path: Path) -> None:
    """A link or a pipe that a worker put in place of what git keeps of its worktree is neither followed nor waited for."""
    admins = repo / ".git" / "worktrees"
    (admins / "one" / "index").rename(tmp_path / "index")
    (admins / "one" / "index").symlink_to(tmp_path / "index")
    (admins / "two" / "gitdir").unlink()
    os.mkfifo(admins / "two" / "gitdir")
    write(works[2], "new", "x\n")
    assert [each.changed for each in look(repo / ".git", works)] == [None, None, ("new",)]


def test_looking_takes_a_small_share_of_the_time() -> None:
    """After a short look the next comes when it is asked for, after a long one when that was a twentieth of the time."""
    assert foresight.pause_after(0.1, every_s=30) == 30
    assert foresight.pause_after(20, every_s=30) == pytest.approx(400)

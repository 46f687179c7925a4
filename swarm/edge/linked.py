"""One linked worktree: its folder, its admin folder in the repository, and git run in it.

Hides how git keeps account of worktrees (`<common>/worktrees/<id>`: HEAD, gitdir, commondir, index). A
record is made complete in a private folder and moved to its place in one step, so that no other git ever
reads a half-made one and a kill leaves nothing that blocks; `git worktree add`, measured, failed in 8 of
100 concurrent runs and left locked records behind when killed. Repositories with reftable need git's own
command and get it, under the lock. Rules for editing: git is always told the admin folder, the common
folder and the worktree, so that nothing a worker did to `.git` or `commondir` counts; a folder is removed
only when its marker says that it is ours.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from swarm.core.places import state_of
from swarm.crashpoints import crash_at
from swarm.dataclass import dataclass
from swarm.edge import git, whole
from swarm.edge.lockfile import LockHeld
from swarm.edge.trouble import raise_if_troubled
from swarm.edge.whole import remove as remove

MARKER = "swarm"  # a file in the admin folder; its text is the path of the worktree that we made
_PARTS = frozenset({"HEAD", "gitdir", "commondir", MARKER})
UNFINISHED = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
}
TIMEOUT_S = 1800.0  # of one git in a worktree, whatever lies there
MOVES_MAX = 100  # tries to add a record beside a git that removes the folder of records each time
TIPS = "swarm-tips"  # in the record: commits that only branches or stashes of a worker's own name
# Files of the record that may name a commit which nothing else names; all but the first belong to unfinished operations.
NAMED_BY = (
    TIPS,
    *("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "MERGE_AUTOSTASH"),
    *("rebase-merge/orig-head", "rebase-merge/stopped-sha", "rebase-merge/amend", "rebase-merge/autostash"),
    *("rebase-apply/orig-head", "rebase-apply/autostash"),
)
# Settings under which a user's own choice would make worktrees differ from what is recorded, or hide a
# change.
_PLAIN = (
    *("-c", "core.splitIndex=false", "-c", "index.sparse=false", "-c", "core.sparseCheckout=false"),
    *("-c", "core.trustctime=true", "-c", "core.checkStat=default", "-c", "core.untrackedCache=false"),
    *("-c", "core.ignoreStat=false", "-c", "status.showUntrackedFiles=normal"),
    *("-c", "diff.orderFile=/dev/null"),  # one that is not there has git status fail
)
# Git looks at the files of an index in a thread for every 500 of them. Beside other workers these cost more than they save where
# there are few: each command of 4,800 files 0.8 to 1.6 ms of CPU.
_IN_ONE_THREAD = ("-c", "core.preloadIndex=false")
IN_ONE_THREAD_BYTES = 2 << 20  # of an index: some 20,000 files, looked at in 20 ms


@dataclass(frozen=True, slots=True)
class LinkedTree:
    """A worktree at `path` whose record is the folder `admin` below `common`, the repository's common
    folder."""

    path: Path
    admin: Path
    common: Path
    user_config: bool = True

    def git(
        self,
        *args: str,
        index: Path | None = None,
        ok: Collection[int] = (0,),
        input: bytes | None = None,
        timeout_s: float = TIMEOUT_S,
        reader: git.Reader | None = None,
    ) -> git.Outcome:
        """Runs git in this worktree, with another index file where `index` is given. Raises GitError."""
        index = index or self.admin / "index"
        env = {"GIT_COMMON_DIR": str(self.common), "GIT_INDEX_FILE": str(index)}
        if self.user_config and "GIT_LFS_SKIP_SMUDGE" in os.environ:
            env["GIT_LFS_SKIP_SMUDGE"] = os.environ["GIT_LFS_SKIP_SMUDGE"]
        return git.run(
            *_PLAIN,
            *(_IN_ONE_THREAD if size_of(index) <= IN_ONE_THREAD_BYTES else ()),
            *args,
            git_dir=self.admin,
            work_tree=self.path,
            cwd=self.path,
            env=env,
            ok=ok,
            input=input,
            timeout_s=timeout_s,
            user_config=self.user_config,
            reader=reader,
        )

    def is_linked(self) -> bool:
        """Tells whether folder and record are both there and are each other's, and the record is ours."""
        try:
            return (
                one_line(f"{self.admin}/{MARKER}") == str(self.path)
                and stat.S_ISDIR(os.lstat(self.path).st_mode)
                and one_line(f"{self.admin}/HEAD") is not None
            )
        except OSError as error:
            raise_if_troubled(error)
            return False

    def head(self) -> str | None:
        """Gives the commit that HEAD stands at, or None where it stands at none that can be read."""
        text = one_line(f"{self.admin}/HEAD") or ""
        if git.is_object_id(text):
            return text
        if text.startswith("ref: refs/") and not _has_reftable(self.common):
            return git.read_ref(self.common, text.removeprefix("ref: "))
        asked = self.git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", ok=(0, 1, 128))
        return asked.text if git.is_object_id(asked.text) else None

    def branch(self) -> str | None:
        """Gives the full ref name that HEAD is on, or None when it is detached."""
        text = one_line(self.admin / "HEAD") or ""
        return text.removeprefix("ref: ") if text.startswith("ref: ") else None

    def unfinished(self) -> str:
        """Names the operation that somebody has begun here and not finished, such as a rebase; "" for none."""
        return next(
            (what for name, what in UNFINISHED.items() if os.path.lexists(f"{self.admin}/{name}")), ""
        )

    def mend_head(self, commit: str) -> None:
        """Writes `commit` where HEAD holds neither an object nor the name of a ref: git would take it for no worktree."""
        text = one_line(self.admin / "HEAD") or ""
        if not git.is_object_id(text) and not text.startswith("ref: refs/"):
            remove(self.admin / "HEAD")
            whole.write(self.admin / "HEAD", f"{commit}\n", durable=False)

    def break_locks(self) -> None:
        """Removes the lock files that a killed git left here. No process may be at work in the worktree."""
        for name in ("index.lock", "HEAD.lock", "ORIG_HEAD.lock"):
            _unlink(f"{self.admin}/{name}")

    def detach_at(self, commit: str) -> None:
        """Has HEAD name a commit, and changes nothing else."""
        if _has_reftable(self.common):
            self.git("update-ref", "--no-deref", "HEAD", commit)
        else:
            whole.write(f"{self.admin}/HEAD", f"{commit}\n", durable=False)

    def purge(self, head: str) -> None:
        """Takes the record back to what it was when made, detached at `head`.

        Everything that is not on the short list goes: locks, unfinished merges, rebases and bisections,
        sparse patterns, the worktree's own settings and refs. The index stays where it is. Raises OSError.
        """
        kept = _PARTS | {"index"} | ({"reftable", "refs"} if _has_reftable(self.common) else set())
        with os.scandir(self.admin) as entries:
            extra = [entry.path for entry in entries if entry.name not in kept]
        for path in extra:
            remove(path)
        for name, text in _record(self.path, head).items():
            if one_line(f"{self.admin}/{name}") != text and not (
                name == "HEAD" and _has_reftable(self.common)
            ):
                remove(self.admin / name)
                whole.write(self.admin / name, text + "\n", durable=False)
        self.name_record(self.admin)

    def name_record(self, admin: Path) -> None:
        """Sees to it that the folder names this record: what is to be read by whoever works in it. Raises OSError."""
        if one_line(self.path / ".git") != f"gitdir: {admin}":
            remove(self.path / ".git")
            whole.write(self.path / ".git", f"gitdir: {admin}\n", durable=False)


def link(
    path: Path, name: str, common: Path, commit: str, *, user_config: bool, lock: LockHeld
) -> LinkedTree:
    """Makes a worktree at `path`, which must not exist or be empty, detached at `commit`, with no files yet.

    `name` begins the name of its record. Raises OSError or GitError; what a killed call leaves is swept by
    `sweep_drafts`, and never blocks the next one.
    """
    lock.require()
    path.mkdir(parents=True, exist_ok=True)
    crash_at("worktree.made")
    if _has_reftable(common):
        return _link_by_git(path, common, commit, user_config)
    admin = common / "worktrees" / f"{name}-{secrets.token_hex(4)}"
    tree = LinkedTree(path, admin, common, user_config)
    made = _private(common) / admin.name
    made.mkdir(parents=True)
    for part, text in _record(path, commit).items():
        whole.write(made / part, text + "\n", durable=False)
    crash_at("worktree.drafted")
    # First the folder's side: a record whose folder does not point back is pruned by any gc that comes along.
    remove(path / ".git")
    whole.write(path / ".git", f"gitdir: {admin}\n", durable=False)
    crash_at("worktree.pointed")
    _move_in(made, admin)
    crash_at("worktree.linked")
    return tree


def _move_in(made: Path, admin: Path) -> None:
    """Puts a drafted record among git's. The folder of records goes with the last one that a git of the user's removes, also in
    the moment after it was made here."""
    for _ in range(MOVES_MAX):
        admin.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            os.rename(made, admin)
            return
    os.rename(made, admin)


def follow_moved(common: Path, folders: Iterable[Path], *, lock: LockHeld) -> None:
    """Points our records at those of these worktrees that were moved, with the repository or without it.

    A folder names its record, and the record the place where the folder was: where nothing is left there, it was moved. Told by
    the record's name, since the folders of a moved repository still name the old place.
    """
    lock.require()
    for folder in folders:
        named = Path((one_line(folder / ".git") or "").removeprefix("gitdir: "))
        admin = common / "worktrees" / named.name
        was = one_line(admin / MARKER) if named.parent.name == "worktrees" else None
        if was in (None, str(folder)) or os.path.lexists(str(was)):
            continue
        whole.write(folder / ".git", f"gitdir: {admin}\n", durable=False)
        whole.write(admin / "gitdir", f"{folder / '.git'}\n", durable=False)
        crash_at("worktree.followed")
        whole.write(admin / MARKER, f"{folder}\n", durable=False)  # last: until then it is found again


def relink(tree: LinkedTree, commit: str, *, lock: LockHeld) -> LinkedTree:
    """Makes a new record for a folder whose old one was pruned; the files stay as they are."""
    unlink(tree, lock=lock)
    name = tree.admin.name.rpartition("-")[0] or "swarm"
    return link(tree.path, name, tree.common, commit, user_config=tree.user_config, lock=lock)


def unlink(tree: LinkedTree, *, lock: LockHeld, whose_ever: bool = False) -> None:
    """Removes the record, and nothing else: only one of ours, unless `whose_ever`. Removing one that is gone is no error."""
    lock.require()
    ours = one_line(tree.admin / MARKER) == str(tree.path) or (whose_ever and tree.admin.is_dir())
    if tree.admin.parent == tree.common / "worktrees" and ours:
        aside = _private(tree.common) / f"old-{secrets.token_hex(4)}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        whole.move(tree.admin, aside)
        crash_at("teardown.detached")
        remove(aside)


def records(common: Path, *, user_config: bool = True) -> list[LinkedTree]:
    """Lists our worktrees by their records; whether a folder is there is another question."""
    found = []
    for admin in _folders(common / "worktrees"):
        path = one_line(admin / MARKER)
        if path is not None:
            found.append(LinkedTree(Path(path), admin, common, user_config))
    return sorted(found, key=lambda tree: tree.path)


def sweep_drafts(common: Path, *, lock: LockHeld) -> None:
    """Removes the records that killed calls were making or unmaking; git never read them."""
    lock.require()
    remove(_private(common))


def seat(tree: LinkedTree) -> Path | None:
    """Says where the folder of a record is: at its path, or where `git worktree move` or `repair` says that a person took it;
    None where it is gone."""
    if os.path.lexists(tree.path):
        return tree.path
    there = Path(one_line(tree.admin / "gitdir") or tree.path / ".git").parent
    return there if one_line(there / ".git") == f"gitdir: {tree.admin}" else None


def points_to(folder: Path) -> Path | None:
    """Gives the record that a worktree's folder names, None for any other folder."""
    text = one_line(folder / ".git") or ""
    return Path(text.removeprefix("gitdir: ")) if text.startswith("gitdir: ") else None


def place_of(path: Path) -> Path:
    """Gives where the folder of a worktree truly lies, also where a link leads to the folder above it: a record may name either way
    there, since git writes some of them anew, and paths of the two ways are never equal."""
    return Path(os.path.realpath(path.parent)) / path.name


def tree_of_index(tree: LinkedTree) -> str:
    """Writes what the index of a record holds as a tree, also where its folder is gone; "" where it can't be."""
    index = tree.admin / "index"
    if not index.exists():
        return ""
    env = {"GIT_INDEX_FILE": str(index)}
    asked = git.run("write-tree", git_dir=tree.common, env=env, ok=(0, 128))
    return asked.text if asked.code == 0 else ""


def disown(tree: LinkedTree, there: Path, *, lock: LockHeld) -> None:
    """Leaves a worktree that a person took to `there` to them: git goes on knowing it, we don't."""
    lock.require()
    if one_line(tree.admin / "gitdir") != f"{there / '.git'}":
        whole.write(tree.admin / "gitdir", f"{there / '.git'}\n", durable=False)
    _unlink(tree.admin / MARKER)


def of_another(tree: LinkedTree, named: Path | None) -> bool:
    """Tells whether the folder of a record is a worktree of another repository, this one having been copied from it, records and
    all: by the record that is `named` as its own."""
    try:
        return named is not None and not os.path.samefile(named.parent, tree.admin.parent)
    except FileNotFoundError:
        return False


def find(path: Path, common: Path, *, user_config: bool = True) -> LinkedTree | None:
    """Finds our worktree at `path` by its record, or None."""
    claimed = (one_line(path / ".git") or "").removeprefix("gitdir: ")
    records, named, here = f"{common}/worktrees", os.path.dirname(claimed), str(path)
    if named == records and one_line(f"{claimed}/{MARKER}") == here:  # as nearly always, and asked for often
        return LinkedTree(path, Path(claimed), common, user_config)
    for admin in _folders(common / "worktrees"):
        if one_line(admin / MARKER) == here:
            return LinkedTree(path, admin, common, user_config)
    return None


def open_up(top: Path) -> list[str]:
    """Gives the owner back the right to list and change every folder at and below `top`, and to read every file; lists the folders
    below it that hold a `.git`, relative to it. Links are not followed; what belongs to others, or lies deeper than a path can
    name, stays as it is. Raises only where the machine is in trouble (`OSError`)."""
    found, waiting = [], [str(top)]
    while waiting:
        folder = waiting.pop()
        try:
            give_rights_back(os.fsencode(folder))
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError as error:
            raise_if_troubled(error)
            continue
        for entry in listed:
            if entry.name == ".git":
                found.append(os.path.relpath(folder, top))
            if entry.is_dir(follow_symlinks=False):
                if entry.name != ".git":
                    waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                _give_right_to_read(entry.path)
    return sorted(folder for folder in found if folder != ".")


def is_touched(top: Path, since: float) -> bool:
    """Tells whether anything at or below `top` was written, made, moved or removed after `since`, in seconds since the epoch."""
    if os.lstat(top).st_ctime > since:
        return True
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            try:
                if os.lstat(os.path.join(folder, name)).st_ctime > since:
                    return True
            except FileNotFoundError:
                return True
    return False


def _give_right_to_read(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
        if not mode & 0o400:
            os.chmod(path, stat.S_IMODE(mode) | 0o400)
    except OSError as error:
        raise_if_troubled(error)


def give_rights_back(path: bytes) -> bool:
    """Undoes what a worker did to its own right to list and change a folder; tells whether it is a folder."""
    mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode):
        return False
    if mode & 0o700 != 0o700:
        os.chmod(path, 0o755)  # noqa: S103 - what a checkout makes under the usual mask
    return True


def is_folder(path: Path) -> bool:
    """Tells whether a folder lies there, and no link to one."""
    return stat.S_ISDIR(_mode(path))


def is_beyond_a_link(top: Path, path: str) -> bool:
    """Tells whether a folder on the way from `top` to a path below it is a link, so that the path lies elsewhere."""
    return any(os.path.islink(top / folder) for folder in [*Path(path).parents][:-1])


def is_file(path: Path) -> bool:
    """Tells whether a file with bytes of its own lies there: no link, pipe or socket."""
    return stat.S_ISREG(_mode(path))


def _mode(path: Path) -> int:
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def size_of(path: Path) -> int:
    """Gives how many bytes reading a file would give, 0 for whatever is no file."""
    try:
        found = os.lstat(path)
    except OSError as error:
        raise_if_troubled(error)
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def copy_index(source: Path, target: Path) -> None:
    """Copies an index with its time: git trusts an entry only when it is older than the index that lists
    it."""
    temporary = whole.draft_of(target)
    shutil.copyfile(source, temporary)
    times = os.stat(source)
    os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
    if os.path.isdir(target) and not os.path.islink(target):
        remove(target)
    os.replace(temporary, target)


def _link_by_git(path: Path, common: Path, commit: str, user_config: bool) -> LinkedTree:
    git.run("worktree", "add", "-q", "-f", "--no-checkout", "--detach", str(path), commit, git_dir=common)
    admin = Path((one_line(path / ".git") or "").removeprefix("gitdir: "))
    whole.write(admin / MARKER, f"{path}\n", durable=False)
    return LinkedTree(path, admin, common, user_config)


def _record(path: Path, head: str) -> dict[str, str]:
    return {"HEAD": head, "commondir": "../..", "gitdir": f"{path / '.git'}", MARKER: str(path)}


def _private(common: Path) -> Path:
    """Names the folder where records are made and unmade: on the repository's file system, and not read by
    git."""
    return state_of(common) / "linking"


def _has_reftable(common: Path) -> bool:
    return os.path.isdir(common / "reftable")


def _folders(parent: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def one_line(path: Path | str) -> str | None:
    """Reads a one-line file; None where there is none, or something else lies there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise_if_troubled(error)
        return None
    try:
        return os.read(descriptor, 8192).decode("utf-8", "surrogateescape").rstrip("\n")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _unlink(path: Path | str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass

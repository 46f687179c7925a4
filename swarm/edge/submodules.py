"""What a worker did in the submodules of its worktree, of which a landing takes no more than the commits that they are at.

Hides where their git folders lie, and how it is told whether they hold something that is nowhere else. Rules for editing: git never
runs by the settings of a submodule, which are a worker's and may name programs; it is given a folder of ours that borrows only the
objects. Nor does it look into one from above, as `add` and `status` do by a git of their own. What can't be told counts as work.
Nothing is changed but by `bring_home` and `settle`, and both may be killed and done again.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path, PurePosixPath

from swarm.dataclass import dataclass
from swarm.edge import git, theirs
from swarm.edge.indexfile import may_link
from swarm.edge.linked import (
    TIMEOUT_S,
    LinkedTree,
    is_beyond_a_link,
    is_file,
    is_folder,
    one_line,
    open_up,
    remove,
    size_of,
)

MODULES = (
    "modules"  # in a repository's folder, and in the record of a worktree: the git folders of its submodules
)
NAMED_MAX = 3  # files that are named of one submodule
DEEPEST = 8  # submodules in submodules
SHALLOW_BYTES_MAX = 16 << 20
_NOTHING = "000000"
_LINK = re.compile(r"160000 ([0-9a-f]+) [0-3]\t(.+)\Z", re.DOTALL)


def links(tree: LinkedTree, index: Path, base: str) -> dict[str, str]:
    """Gives the paths of an index that are submodules, each with its commit; without a process where there are none. `base` is any
    commit of the repository. Raises GitError and OSError."""
    try:
        if not may_link(index.read_bytes(), oid_bytes=len(base) // 2):
            return {}
    except FileNotFoundError:
        return {}
    return _parsed(tree.git("ls-files", "-s", "-z", index=index).out)


def standing(top: Path, paths: Collection[str]) -> list[str]:
    """Lists those of these submodules that are set up: a git that is asked of them from above would run by their settings."""
    return [path for path in paths if not _is_away(top, path) and os.path.lexists(top / path / ".git")]


def replaced(top: Path, changes: Collection[git.Change]) -> list[str]:
    """Lists those submodules set up at `top` in whose place these changes put something else. For a file git deletes such a folder,
    clean or not, with the branches, stashes and ignored files that are only there; files of a folder it writes into it."""
    comes = {
        each.path: each.new_mode for each in changes if each.new_mode not in (git.GITLINK_MODE, _NOTHING)
    }
    files = {path for path, mode in comes.items() if mode != git.TREE_MODE}
    inside = {each.path for each in changes if each.old_mode == git.GITLINK_MODE}
    taken = [
        path
        for path in inside
        if path in comes or not files.isdisjoint(map(str, PurePosixPath(path).parents))
    ]
    return standing(top, sorted(taken))


def in_use(top: Path, paths: Collection[str]) -> bool:
    """Tells whether anything lies in the folder of one of these submodules."""
    return any(not _is_away(top, path) and bool(os.listdir(top / path)) for path in paths)


def _is_away(top: Path, path: str) -> bool:
    return is_beyond_a_link(top, path) or not is_folder(top / path)


def _parsed(listed: bytes) -> dict[str, str]:
    found = (_LINK.match(entry) for entry in git.decode(listed).split("\0"))
    return {match[2]: match[1] for match in found if match is not None}


def _store(tree: LinkedTree, folder: Path) -> Path | None:
    """Gives where the git folder of the submodule in `folder` is, None where it is none that this worktree could have: what names
    it names the place where it was made, which a shut-in worker sees in another."""
    if is_folder(folder / ".git"):
        return folder / ".git"
    named = one_line(folder / ".git") or ""
    _, found, below = named.rpartition(f"/worktrees/{tree.admin.name}/{MODULES}/")
    inside = f"{MODULES}/{below}"
    if not named.startswith("gitdir: ") or not found or ".." in below.split("/"):
        return None
    store = tree.admin / inside
    return None if is_beyond_a_link(tree.admin, inside) or not _is_store(store) else store


def _is_store(folder: Path) -> bool:
    return is_folder(folder) and is_file(folder / "HEAD") and is_folder(folder / "objects")


def head(tree: LinkedTree, path: str) -> str:
    """Gives the commit at which a submodule that is set up stands, "" where that can't be told."""
    store = _store(tree, tree.path / path)
    return theirs.head(store) if store is not None else ""


@dataclass(slots=True)
class Look:
    """Looks into the submodules of one worktree. `draft` is a free name for a git folder of ours, `known` are commits that a
    submodule may be at because its base says so."""

    tree: LinkedTree
    draft: Path
    known: set[str]
    reader: git.Reader | None = None
    _seen: set[Path] = field(default_factory=set)
    _told: list[tuple[str, str]] = field(default_factory=list)

    def work(self, paths: Mapping[str, str]) -> list[tuple[str, str]]:
        """Says of each submodule, by its path, what it holds that is nowhere else; `paths` gives the commit that each is to be at.
        Raises GitEnded, and GitError and OSError where the machine is in trouble."""
        for path, commit in sorted(paths.items()):
            self._look(path, commit, 0)
        return self._with_the_rest()

    def commits(self, paths: Collection[str]) -> list[tuple[str, str]]:
        """Says of these submodules, and of those in them, which have commits that are nowhere else: of a worktree of a person's,
        whose files their own git looks at. Raises as `work` does."""
        for path in sorted(paths):
            store = None if _is_away(self.tree.path, path) else _store(self.tree, self.tree.path / path)
            if store is not None:
                self._guarded(path, functools.partial(self._commits, store))
        return self._with_the_rest()

    def _with_the_rest(self) -> list[tuple[str, str]]:
        for store in stores(self.tree.admin / MODULES):
            if store not in self._seen:  # its folder is gone, or another's
                name = os.path.relpath(store, self.tree.admin / MODULES)
                self._guarded(name, functools.partial(self._commits, store))
        remove(self.draft)
        return self._told

    def _look(self, path: str, commit: str, depth: int) -> None:
        if _is_away(self.tree.path, path):
            return  # gone, or it is another thing by now: that is in the tree
        self._guarded(path, functools.partial(self._look_into, path, commit, depth))

    def _guarded(self, path: str, look: Callable[[], str]) -> None:
        try:
            what = look()
        except git.GitError as error:
            troubled = error.errno is not None or (error.code or 0) < 0
            if troubled or isinstance(error, git.GitEnded):
                raise
            what = f"it can't be told what ({error.cause})"
        if what:
            self._told.append((path, what))

    def _look_into(self, path: str, commit: str, depth: int) -> str:
        folder = self.tree.path / path
        open_up(folder)
        if not os.path.lexists(folder / ".git"):
            return _some_files(_files(folder))
        store = _store(self.tree, folder)
        at = theirs.head(store) if store is not None else ""
        if store is None or not at or depth > DEEPEST:
            return "it can't be told what, since its git folder can't be read"
        self._seen.add(store)
        self._lay_out(store, at)
        asked = ("status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=all")
        listed = self._git(*asked, work_tree=folder)
        here = (self.draft / "index").read_bytes()
        linked = may_link(here, oid_bytes=len(at) // 2)
        inner = _parsed(self._git("ls-files", "-s", "-z").out) if linked else {}
        changed = _some_files([entry[3:] for entry in git.decode(listed.out).split("\0") if entry])
        ahead = "" if at == commit else f"it is at {at[:12]}, and {commit[:12]} was to land"
        told = "; ".join(filter(None, (changed, self._commits(store, at), ahead)))
        self.known |= set(inner.values()) if not told else set()
        for below, oid in inner.items():
            self._look(f"{path}/{below}", oid, depth + 1)
        return told

    def _commits(self, store: Path, at: str = "") -> str:
        """Says which commit of a git folder neither its remotes nor the user's own copy of the submodule have."""
        self._seen.add(store)
        refs = list(theirs.refs(store))
        tips = [oid for oid, name in refs if not name.startswith(("refs/remotes/", "refs/tags/"))]
        tips = [
            oid
            for oid in dict.fromkeys((*filter(None, (at, theirs.head(store))), *tips))
            if oid not in self.known
        ]
        if not tips:
            return ""
        self._lay_out(store)
        theirs_too = [*self.known, *(oid for oid, name in refs if name.startswith("refs/remotes/"))]
        own = self._beyond(tips, theirs_too)
        users = self.tree.common / MODULES / os.path.relpath(store, self.tree.admin / MODULES)
        if own and _is_store(users):
            absent = git.missing(users, tips)
            own = self._beyond(
                [oid for oid in tips if oid in absent],
                [*theirs_too, *(oid for oid in tips if oid not in absent)],
            )
        return (
            f"commits that its remote does not have, such as {own[:12]}; push them from there first"
            if own
            else ""
        )

    def _beyond(self, tips: Sequence[str], others: Sequence[str]) -> str:
        if not tips:
            return ""
        told = "".join(f"{line}\n" for line in (*tips, *(f"^{oid}" for oid in others)))
        return self._git("rev-list", "--max-count=1", "--ignore-missing", "--stdin", input=told.encode()).text

    def _lay_out(self, store: Path, at: str = "") -> None:
        """Makes a git folder of ours over the objects of another: standing at `at`, with the index that this has."""
        remove(self.draft)
        for part in ("objects/info", "refs"):
            os.makedirs(self.draft / part, mode=0o700)
        (self.draft / "objects/info/alternates").write_text(
            f"{store / 'objects'}\n", errors="surrogateescape"
        )
        (self.draft / "HEAD").write_text(f"{at or 'ref: refs/heads/none'}\n")
        sha256 = len(at or next(iter(self.known), "")) == 64
        (self.draft / "config").write_text(
            "[core]\n\trepositoryformatversion = 1\n" + "[extensions]\n\tobjectFormat = sha256\n" * sha256
        )
        if 0 < size_of(store / "shallow") <= SHALLOW_BYTES_MAX:
            shutil.copyfile(store / "shallow", self.draft / "shallow")
        if at:
            self._git("read-tree", at)

    def _git(self, *args: str, work_tree: Path | None = None, input: bytes | None = None) -> git.Outcome:
        return git.run(
            *args,
            git_dir=self.draft,
            work_tree=work_tree,
            cwd=work_tree or self.draft,
            input=input,
            user_config=self.tree.user_config,
            timeout_s=TIMEOUT_S,
            reader=self.reader,
        )


def _files(top: Path) -> list[str]:
    """Lists what lies in a submodule that is not set up: no git takes it."""
    found = []
    for place, folders, names in os.walk(top):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found += [os.path.relpath(os.path.join(place, name), top) for name in (*names, *links)]
    return found


def _some_files(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"files that are no part of its commit ({', '.join(sorted(names)[:NAMED_MAX])}{more})"


# --- their git folders ----------------------------------------------------------------------------------------------


def stores(folder: Path) -> Iterator[Path]:
    """Gives the git folders of submodules at and below a folder, those of submodules of theirs after them."""
    if not is_folder(folder):
        return
    if _is_store(folder):
        yield folder
        yield from stores(folder / MODULES)
        return
    for entry in sorted(os.listdir(folder)):
        yield from stores(folder / entry)


def bring_home(source: Path, target: Path) -> None:
    """Moves the git folders that lie in `source` to `target`, where those are of a worker that was shut in. Raises OSError."""
    found = list(stores(source))
    for store in found:
        below = os.path.relpath(store, source)
        if any(store.is_relative_to(other) for other in found if other != store):
            continue  # goes with the one that it is in
        remove(target / below)
        (target / below).parent.mkdir(parents=True, exist_ok=True)
        _move(store, target / below)


def settle(tree: LinkedTree) -> None:
    """Puts the git folders of the submodules of a worktree into the folders of these, so that it can be moved away with them.
    Raises GitError and OSError."""
    if not is_folder(tree.admin / MODULES):
        return
    for path in sorted(open_up(tree.path), key=lambda path: -path.count("/")):
        folder = tree.path / path
        store = _store(tree, folder)
        if store is None or store == folder / ".git":
            continue
        if is_file(
            store / "config"
        ):  # its place in the worktree is told there, by a path that leads nowhere else
            git.run("config", "--file", str(store / "config"), "--unset-all", "core.worktree", ok=(0, 5))
        remove(folder / ".git.new")
        _move(store, folder / ".git.new")
        remove(folder / ".git")
        os.rename(folder / ".git.new", folder / ".git")


def left(tree: LinkedTree) -> Path | None:
    """Gives the folder of a worktree's record that still holds git folders of submodules, None where there is none."""
    return tree.admin / MODULES if next(stores(tree.admin / MODULES), None) is not None else None


def _move(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        draft = Path(f"{target}.copy")
        remove(draft)
        shutil.copytree(source, draft, symlinks=True)
        os.rename(draft, target)
        remove(source)

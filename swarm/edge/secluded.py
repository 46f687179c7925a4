"""A git folder of its own for a worktree whose worker is shut in: to its programs it is the repository, and nobody else reads it.

Hides how it stands in for the repository's folder, which a sandbox puts it in the place of, or the worktree names it instead:
settings, refs and the worktree's own record are copies, the objects are the repository's own, read-only behind an empty store. So a
worker may commit, stash, make branches, plant hooks or collect garbage as it likes: the repository that the user and everybody else
works in does not change, and no HEAD in it names a commit that is not there. What the worker made comes home when it has ended: its
objects, judged by git, and then where HEAD, index, branches and stash stand, and the git folders of its submodules.

Rules for editing: what lies in the folder is a worker's, so nothing there is followed, run or believed; git reads no settings of
it. Coming home may be killed anywhere and done again: the folder goes last. `make` is called before the worker is there,
`come_home` when none of its processes is left.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from swarm.edge import git, submodules, theirs, whole
from swarm.edge.carrying import carry_all
from swarm.edge.linked import (
    MARKER,
    NAMED_BY,
    TIPS,
    UNFINISHED,
    LinkedTree,
    copy_index,
    is_file,
    is_folder,
    one_line,
    open_up,
    remove,
)

SHARED_OBJECTS = "shared-objects"  # in the folder: where the repository's own objects are seen
TIPS_MAX = 200

_COPIED = ("config", "HEAD", "packed-refs", "shallow")
_SHARED_INDEX = re.compile(r"sharedindex\.([0-9a-f]{40}|[0-9a-f]{64})")
# Thousands, and of use to nobody inside: the branches of attempts, and in the landing repository what it pins.
_NOT_COPIED = re.compile(r"heads/swarm/[^/]+/(task|saved)\Z|\A\./attempts\Z")


def can_stand_in(common: Path) -> bool:
    """Tells whether a folder of ours can stand in for this repository's: not where refs are kept as reftable."""
    return not (common / "reftable").is_dir()


def make(folder: Path, tree: LinkedTree, *, in_place: bool) -> None:
    """Makes `folder` anew, to stand in for `tree.common` in front of a worker in `tree`. Raises OSError.

    With `in_place` it will be seen where the repository's is; else the worktree names it, until it has come home.
    """
    remove(folder)
    for part in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info", SHARED_OBJECTS):
        os.makedirs(folder / part, mode=0o700)
    shared = f"../{SHARED_OBJECTS}" if in_place else str(tree.common / "objects")
    (folder / "objects" / "info" / "alternates").write_text(f"{quoted(shared)}\n", errors="surrogateescape")
    info = ((f"info/{name}", f"info/{name}") for name in ("exclude", "attributes", "grafts"))
    for name, target in [*((name, name) for name in _COPIED), *info]:
        if (tree.common / name).is_file():
            shutil.copyfile(tree.common / name, folder / target)
    _copy_loose_refs(tree.common / "refs", folder / "refs")
    admin = folder / "worktrees" / tree.admin.name
    admin.mkdir(parents=True)
    for name in ("HEAD", "gitdir", "commondir", MARKER):
        (admin / name).write_text((one_line(tree.admin / name) or "") + "\n", errors="surrogateescape")
    copy_index(tree.admin / "index", admin / "index")
    if not in_place:
        tree.name_record(admin)


def quoted(path: str) -> str:
    """Writes a path as git reads it in a list of paths, one a line: quoted like a string of C where there is a line end in it."""
    if "\n" not in path:
        return path
    for sign, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        path = path.replace(sign, escaped)
    return f'"{path}"'


def show(folder: Path, refs: Mapping[str, str]) -> None:
    """Puts refs, by full name, into a folder that was made: a worker may know of them, and what it does with them is its own."""
    for name, commit in refs.items():
        path = folder / name
        os.makedirs(path.parent, exist_ok=True)
        path.write_text(f"{commit}\n")


def _copy_loose_refs(source: Path, target: Path) -> None:
    for folder, folders, names in os.walk(source):
        below = os.path.relpath(folder, source)
        folders[:] = [name for name in folders if not _NOT_COPIED.search(f"{below}/{name}")]
        for name in names:
            held = one_line(Path(folder, name))
            if held is not None and not name.endswith(".lock"):
                os.makedirs(target / below, exist_ok=True)
                (target / below / name).write_text(held + "\n")


def come_home(folder: Path, tree: LinkedTree, objects: git.Objects) -> None:
    """Takes over what a worker in `tree` did with the git folder of its own, and removes that; does nothing where there is none.

    Raises `GitError` where git judges the objects broken: then nothing was taken over and the folder stays.
    """
    gone = Path(f"{folder}.gone")
    remove(gone)
    if not folder.is_dir():
        return
    open_up(folder)
    if tree.path.is_dir():  # else its files are gone, and what it did with git is all there is
        tree.name_record(tree.admin)
    made = _bring_objects(folder, tree)
    admin = _record_in(folder, tree)
    if admin is not None:
        _bring_record(folder, admin, tree)
        head = one_line(tree.admin / "HEAD")
        known = dict.fromkeys(oid for oid, _ in theirs.refs(folder))
        tips = [oid for oid in known if oid in made and oid != head]
        if tips:
            ends = _ends(tree, objects, head, tips)
            whole.write(tree.admin / TIPS, "".join(f"{oid}\n" for oid in ends), durable=False)
    os.rename(folder, gone)
    remove(gone)


def _record_in(folder: Path, tree: LinkedTree) -> Path | None:
    """Finds the worktree's record; its name is an older one where the repository's was pruned meanwhile and made anew."""
    if not is_folder(folder / "worktrees"):
        return None
    records = [path for path in sorted((folder / "worktrees").iterdir()) if is_folder(path)]
    named = [path for path in records if path.name == tree.admin.name]
    return next(iter(named or [path for path in records if one_line(path / MARKER) == str(tree.path)]), None)


def _bring_objects(folder: Path, tree: LinkedTree) -> set[str]:
    """Copies every object of the worker's into the repository; gives their ids."""
    objects = folder / "objects"
    if not is_folder(objects):
        return set()
    remove(objects / "info")  # the worker's word on where further objects are
    return carry_all(objects, tree.common)


def _bring_record(folder: Path, admin: Path, tree: LinkedTree) -> None:
    """Brings HEAD, detached, the index, and what an unfinished merge or rebase names."""
    head = theirs.head(folder, admin)
    if head:
        whole.write(tree.admin / "HEAD", f"{head}\n", durable=False)
    if is_file(admin / "index"):
        _bring_shared_index(admin, tree)
        copy_index(admin / "index", tree.admin / "index")
    else:
        remove(tree.admin / "index")
    submodules.bring_home(admin / submodules.MODULES, tree.admin / submodules.MODULES)
    for name in UNFINISHED:
        if is_folder(admin / name):
            (tree.admin / name).mkdir(exist_ok=True)
    for name in NAMED_BY:
        text = one_line(admin / name) if is_folder((admin / name).parent) else None
        if text is not None:
            whole.write(tree.admin / name, f"{text}\n", durable=False)


def _bring_shared_index(admin: Path, tree: LinkedTree) -> None:
    """Brings the file in which a split index (`core.splitIndex`) has most of its entries: git looks for it in the record."""
    there = [name for name in os.listdir(admin) if _SHARED_INDEX.fullmatch(name) and is_file(admin / name)]
    held = (admin / "index").read_bytes() if there else b""
    for name in there:
        if bytes.fromhex(name.partition(".")[2]) in held:
            copy_index(admin / name, tree.admin / name)


def _ends(tree: LinkedTree, objects: git.Objects, head: str | None, tips: list[str]) -> list[str]:
    """Leaves out the tips that `head` or others of them lead to, and what is no commit."""
    asked = [*([head] if head else []), *tips[:TIPS_MAX]]
    commits = [
        oid for oid, kind in zip(asked, objects.kinds(asked), strict=True) if kind and kind[0] == "commit"
    ]
    if not commits:
        return []
    found = git.run("merge-base", "--independent", *commits, git_dir=tree.common).text.split()
    return [oid for oid in found if oid != head]

"""Worktrees that a person asked for, below `.worktrees/<run>/`: ordinary linked worktrees, the user's to work in.

Hides that making one may be killed: until it is filled its record bears our marker, and who asks for it again finishes it. Rules
for editing: once filled it is never changed here; it is removed only on request, and by default only where nothing would be lost.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from swarm.core.model import Cleaned
from swarm.edge import git, ground, linked, saved, submodules, survey, whole
from swarm.edge.difference import UNSTAGED, as_checked_out
from swarm.edge.leases import hide_root
from swarm.edge.leftovers import Work
from swarm.edge.linked import LinkedTree
from swarm.edge.lockfile import exclusive
from swarm.errors import Refused

HIDDEN = ".gitignore"  # what may be left in a folder of ours that counts as empty


def open_at(path: Path, commit: str, common: Path, objects: git.Objects, *, lock: Path) -> Path:
    """Makes a worktree at `path` that holds `commit`, or saved work as it lay when it was saved; one that is there stays as it is.

    Raises `Refused` where something else lies there, GitError, OSError.
    """
    tree = linked.find(path, common)
    if tree is None:
        if linked.points_to(path) is not None:
            return path  # filled: it is the user's
        if path.is_dir() and any(path.iterdir()):
            raise Refused(f"{path} is in the way.", "Nothing was made.", "move it away, or look into it")
        if ground.is_checkout(path.parent):
            raise ground.refusal(path.parent, ground.theirs(path.parent), "the worktree")
        hide_root(path.parent.parent)
        with exclusive(lock) as held:
            name = f"{path.parent.name}-{path.name}"
            tree = linked.link(path, name, common, commit, user_config=True, lock=held)
    saved.lay_out(tree, objects, commit)
    with exclusive(lock) as held:
        linked.disown(tree, path, lock=held)
    return path


def below(common: Path, folder: Path) -> list[LinkedTree]:
    """Lists the worktrees right below `folder` that git has a record of, whoever made them."""
    places: dict[Path, LinkedTree] = {}
    for tree in (*linked.records(common), *(found.tree for found in survey.linked_worktrees(common))):
        places.setdefault(linked.place_of(tree.path), tree)
    folder = Path(os.path.realpath(folder))
    return [tree for place, tree in places.items() if place.parent == folder]


def is_dirty(tree: LinkedTree, objects: git.Objects) -> bool:
    """Tells whether a worktree holds changes, or files that git does not ignore; what is as it was checked out is no change."""
    status = tree.git("status", "--porcelain", "-z", "--ignore-submodules=none")
    found = [entry for entry in git.decode(status.out).split("\0") if entry]
    if not all(entry.startswith(" M ") for entry in found):
        return True
    nobodys = as_checked_out(tree.path, tree.git(*UNSTAGED).out, objects.sizes) if found else ()
    return any(entry[3:] not in nobodys for entry in found)


def why_kept(tree: LinkedTree, objects: git.Objects) -> str:
    """Says what would be lost if a worktree were removed, "" where nothing would."""
    if tree.path.is_dir() and is_dirty(tree, objects):
        return "it has changes"
    head = tree.head()
    if head is not None and tree.branch() is None and not git.is_on_a_branch(tree.common, head):
        return f"its commit {head[:12]} is on no branch"
    return ""


def in_submodules(tree: LinkedTree) -> str:
    """Says what submodules of a worktree hold that is nowhere else and no ref of ours can keep, "" where that is nothing: files of
    their own, and commits, also of a branch or a stash, which git shows as no change. Their git folders go with its record."""
    head = tree.head()
    if head is None:
        return ""
    links = submodules.links(tree, tree.admin / "index", head)
    if not links and submodules.left(tree) is None:
        return ""
    # Not what the worktree's own commits say of a submodule: a person may have committed that there before it was pushed.
    told = submodules.Look(tree, tree.admin / "swarm-looking", {head}).commits(links)
    told += [(path, "changed or new files") for path in _edited(tree) if path in links]
    return "; ".join(f"its submodule {path} has {what}" for path, what in told)


def _edited(tree: LinkedTree) -> list[str]:
    """Lists the submodules in which git sees files changed, or new ones."""
    if not tree.path.is_dir():
        return []
    asked = ("status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=none")
    entries = git.decode(tree.git(*asked).out).split("\0")
    changed = [entry.split(" ", 8) for entry in entries if entry.startswith("1 ")]
    return [entry[8] for entry in changed if entry[2][:1] == "S" and entry[2][2:] != ".."]


def clean(
    trees: Iterable[LinkedTree], saver: saved.Saver, *, force: bool, lock: Path, trash: Path
) -> list[Cleaned]:
    """Removes opened worktrees of which nothing would be lost; with `force` the others too, saving what is in them first: not those
    with something in a submodule."""
    done = []
    for tree in trees:
        why, inside, place = why_kept(tree, saver.objects), in_submodules(tree), ""
        if inside or (why and not force):
            done.append(Cleaned(str(tree.path), False, inside or why))
            continue
        if why and tree.path.is_dir():
            place = saver.keep(
                saved.owner_of_path(tree.path), _work(tree, saver.objects), where=tree.path, at=time.time()
            ).branch
        remove(tree, lock=lock, trash=trash)
        done.append(Cleaned(str(tree.path), True, saved=place))
    return done


def _work(tree: LinkedTree, objects: git.Objects) -> Work:
    """Takes all that is in an opened worktree into objects; its own index stays as it is."""
    head = tree.head()
    assert head is not None
    index = tree.admin / "swarm-saving"
    try:
        staged = linked.tree_of_index(tree)
        linked.copy_index(tree.admin / "index", index)
        tree.git("add", "-A", index=index)
        everything = tree.git("write-tree", index=index).text
    finally:
        linked.remove(index)
    return Work(head, everything, "" if staged in (everything, objects.tree_of(head)) else staged)


def remove(tree: LinkedTree, *, lock: Path, trash: Path) -> None:
    """Removes a worktree, folder first, whatever is in it; what a kill leaves is found by the next call, and in the trash."""
    aside = trash / secrets.token_hex(6)
    if os.path.lexists(tree.path):
        trash.mkdir(parents=True, exist_ok=True, mode=0o700)
        whole.move(tree.path, aside)
    with exclusive(lock) as held:
        linked.unlink(tree, lock=held, whose_ever=True)
    linked.remove(aside)


def remove_if_empty(folder: Path) -> None:
    """Removes a folder of ours in which nothing is left."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {HIDDEN}:
        linked.remove(folder)

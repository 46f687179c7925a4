"""What an attempt's commits bring, as far as it has to be known to judge whether they may come in.

Hides how little of it must be read: what differs is known already from collecting, and what is young lies loose.
Rules for editing: an attempt of a few files costs no process here, since every landing passes through. What only passed through
the commits in between is looked at too, for it stays in the history, but not where that is no single line: git judges it then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from swarm.core import entries
from swarm.core.entries import Entry, Judgement, Policy
from swarm.edge import git
from swarm.edge.git import Change, Objects

COMMITS_MAX = 64
_LINK, _NOTHING = "120000", "000000"
_NO_BLOB = frozenset({git.TREE_MODE, _NOTHING, git.GITLINK_MODE})


def judge(objects: Objects, base: str, head: str, policy: Policy) -> Judgement:
    """Judges what the commits from `base` to `head` bring in. Raises `GitError`."""
    tree = objects.tree_of(head)
    changes = objects.diff(objects.tree_of(base), tree)
    steps = [objects.diff(*step) for step in _steps(objects, base, head)] or [changes]
    found = _entries(objects, changes, steps, policy.file_bytes_max)
    return entries.judge(found, twins(objects, tree, changes), policy)


def twins(objects: Objects, tree: str, changes: Sequence[Change]) -> list[tuple[str, str]]:
    """Lists the pairs of names that differ in case alone, of which `changes`, as they led to `tree`, added one."""
    added = [change.path for change in changes if change.old_mode == _NOTHING]
    if not added:
        return []
    folders = {"": tree, **{each.path: each.new for each in changes if each.new_mode == git.TREE_MODE}}
    wanted = [
        folder for folder in dict.fromkeys(path.rpartition("/")[0] for path in added) if folder in folders
    ]
    held = objects.trees([folders[folder] for folder in wanted])
    names = {folder: [git.decode(name) for name in tree] for folder, tree in zip(wanted, held, strict=True)}
    return list(entries.twins(added, names))


def _steps(objects: Objects, base: str, head: str) -> list[tuple[str, str]]:
    """Lists the trees that each commit goes from and to, the oldest first; none where they are no line, or very many."""
    found: list[tuple[str, str]] = []
    while head != base:
        commit = objects.commit(head)
        if len(commit.parents) != 1 or len(found) >= COMMITS_MAX:
            return []
        (head,) = commit.parents
        found.append((objects.tree_of(head), commit.tree))
    return found[::-1]


def _entries(
    objects: Objects, changes: Sequence[Change], steps: Sequence[Sequence[Change]], large: int
) -> Iterator[Entry]:
    """Yields what changed, then what only passed through the `steps`. Of content that is `large` it is told how much was there
    before."""
    known = {(change.path, change.new) for change in changes}
    passing = (change for step in steps for change in step if (change.path, change.new) not in known)
    here = [change for change in changes if not _is_folder(change)]
    gone = [change for change in passing if change.new_mode not in (_NOTHING, git.TREE_MODE)]
    sizes = objects.sizes(_brought(steps))
    replaced = (
        change for change in here if sizes.get(change.new, 0) > large and change.old_mode not in _NO_BLOB
    )
    before = objects.sizes([change.old for change in replaced])
    targets = _targets(objects, [change.new for change in here if change.new_mode == _LINK])
    for change in (*here, *gone):
        target = targets.get(change.new) if change.new_mode == _LINK else None
        passed = (change.path, change.new) not in known
        size = sizes.pop(change.new, 0)  # what several paths have is there once
        yield Entry(change.path, size, before.get(change.old, 0), target, passed)


def _brought(steps: Sequence[Sequence[Change]]) -> list[str]:
    """Lists the contents that were nowhere among what changes before."""
    seen: set[str] = set()
    found: dict[str, None] = {}
    for step in steps:
        seen.update(change.old for change in step)
        new = (change.new for change in step if change.new_mode not in _NO_BLOB)
        found |= dict.fromkeys(oid for oid in new if oid not in seen)
        seen.update(found)
    return list(found)


def _is_folder(change: Change) -> bool:
    return {change.old_mode, change.new_mode} <= {git.TREE_MODE, _NOTHING}


def _targets(objects: Objects, links: Sequence[str]) -> dict[str, str]:
    """Reads where links lead; of one that is too long only that it is."""
    sizes = objects.sizes(links)
    short = [oid for oid in links if sizes.get(oid, 0) <= entries.TARGET_MAX_BYTES]
    read = zip(short, objects.read(short), strict=True)
    long = dict.fromkeys(set(links).difference(short), "x" * (entries.TARGET_MAX_BYTES + 1))
    return {**long, **{oid: git.decode(item.body) for oid, item in read if item is not None}}

"""What a merge into a branch passes over without a word: paths that staging has changed there and back.

Between the merge base and staging these are the same, so the branch's own version is kept, as git has it. That is right where
the branch changed them by itself. Where it had staging's version in between and took that on, or back, by a commit of its own, what
staging says last is lost: a task that was undone stays on the branch, or one that landed anew never comes there.

The two are told apart by doing one after the other what staging did: where that leaves the branch as it is, nothing is passed over.

Rules for editing: in doubt a path is passed over, for a person then looks at it. Nothing but objects is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from swarm.edge import git
from swarm.edge.git import Change, Objects, Signature, TreeEntry
from swarm.edge.merging import OURSELVES, Conflict, Merger

_WHO = Signature(*OURSELVES, 0)


def passed_over(
    git_dir: Path, objects: Objects, merger: Merger, *, base: str, onto: str, staging: str
) -> list[str]:
    """Lists the files that a merge of `staging` into `onto`, with the merge base `base`, passes over. Raises `GitError`."""
    trees = [objects.tree_of(commit) for commit in (base, onto, staging)]
    theirs = dict.fromkeys(git.files_of(objects.diff(trees[0], trees[1])))
    for path in git.files_of(objects.diff(trees[0], trees[2])):
        theirs.pop(path, None)
    if not theirs:
        return []
    steps: dict[str, list[Change]] = {path: [] for path in theirs}
    line = [objects.tree_of(commit) for commit in _line(git_dir, objects, base, staging)]
    for changes in objects.diffs(list(itertools.pairwise(line))):
        for change in changes:
            if change.path in steps:
                steps[change.path].append(change)
    return [
        path for path, each in steps.items() if each and not _stays(git_dir, objects, merger, trees[1], each)
    ]


def _line(git_dir: Path, objects: Objects, base: str, staging: str) -> Sequence[str]:
    """Gives the base and what staging came to from there, oldest first: of the landings those that stand on it. Those before a
    merge that brought the base in were settled against it by whoever made that merge."""
    above = git.run("rev-list", "--ancestry-path", f"{base}..{staging}", git_dir=git_dir).text.split()
    after, line, at = set(above), [], staging
    while at in after:
        line.append(at)
        at = next(iter(objects.commit(at).parents), "")
    return [base, *reversed(line)]


def _stays(git_dir: Path, objects: Objects, merger: Merger, tree: str, steps: Iterable[Change]) -> bool:
    """Tells whether a file of this tree is the same again after all these changes of it, one merged after the other."""
    at = tree
    for step in steps:
        path = git.encode(step.path)
        sides = ((step.old_mode, step.old), (step.new_mode, step.new))
        entries = [TreeEntry(mode, oid) if int(oid, 16) else None for mode, oid in sides]
        commits: list[str] = []
        for entry in entries:
            side = objects.changed_tree(tree, {path: entry})
            commits.append(git.write_commit(git_dir, side, commits, "step\n", _WHO, _WHO, durable=False))
        outcome = merger.merge_over(commits[0], at, commits[1])
        if isinstance(outcome, Conflict):
            return False
        at = outcome.tree
    return at == tree

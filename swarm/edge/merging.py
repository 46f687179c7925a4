"""Merges in memory, and replaying commits in memory: no index, no checkout, nothing half done when killed.

Hides `git merge-tree` and what it prints. Rules for editing: a conflict is data, any failure of git is a `GitError`, and the
two are never taken for each other. No strategy option that decides a conflict for either side is ever given. What the repository's
own attributes say of merging holds, as it does where a person merges (`swarm/edge/attributes.py`).
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from swarm.core.model import Sides
from swarm.dataclass import dataclass
from swarm.edge import git
from swarm.edge.attributes import REMEMBERED_TREES, MergeRules, Rules, lay_out
from swarm.edge.carrying import store_env, view_env
from swarm.edge.git import CommitFacts, GitError, Objects, Signature

OURSELVES = ("swarm", "swarm@localhost")
MERGES_PER_HELPER = 2000  # a standing merge-tree grew from 5.5 to 20.7 MB over 5,000 merges
MERGE_ALL_TIMEOUT_S = 1800.0
_STDIN = ("merge-tree", "--write-tree", "--stdin", "-z", "--no-messages")


@dataclass(frozen=True, slots=True)
class Blob:
    """One version of a conflicting path: stage 1 is the merge base's, 2 the target's, 3 the topic's."""

    path: str
    stage: int
    mode: str
    oid: str


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge without conflict, as a tree."""

    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """What does not merge: the paths, what git says of them, and the versions of each."""

    paths: tuple[str, ...]
    messages: tuple[str, ...] = ()
    blobs: tuple[Blob, ...] = ()

    def sides(self) -> tuple[Sides, ...]:
        """Gives the versions of each path that has any."""
        found: dict[str, dict[int, str]] = {}
        for blob in self.blobs:
            found.setdefault(blob.path, {})[blob.stage] = blob.oid
        return tuple(
            Sides(path, *(stages.get(stage, "") for stage in (1, 2, 3))) for path, stages in found.items()
        )


@dataclass(frozen=True, slots=True)
class Replayed:
    """Commits replayed on another base; `head` is the last, or the base where nothing was left of them."""

    head: str


class Merger:
    """Merges commits of one repository in memory. Thread-safe; close it when done."""

    def __init__(self, git_dir: Path, objects: Objects) -> None:
        self._git_dir = git_dir
        self._objects = objects
        self._rules = MergeRules(objects)
        self._helper = git.Helper(_STDIN, git_dir, unbuffered=True, renew_after=MERGES_PER_HELPER)

    def close(self) -> None:
        """Ends the standing helper."""
        self._helper.close()

    def merge(self, ours: str, theirs: str) -> Merged | Conflict:
        """Merges two commits. Raises `GitError` where git fails, which is never a conflict."""
        return self._merge(self._objects.tree_of(ours), ours, theirs)

    def merge_over(self, base: str, ours_tree: str, theirs: str) -> Merged | Conflict:
        """Merges the tree `ours_tree` with `theirs`, a descendant of `base`, taking `base` as the merge base.

        A throw-away commit stands in for our side, one step from the base, so that git need not walk all that was merged
        since: its cost does not grow with the number of landings. (git before 2.40 has no `--merge-base`.)
        """
        who = Signature(*OURSELVES, 0)
        stand_in = git.write_commit(self._git_dir, ours_tree, (base,), "stand-in\n", who, who, durable=False)
        return self._merge(ours_tree, stand_in, theirs)

    def _merge(self, ours_tree: str, ours: str, theirs: str) -> Merged | Conflict:
        rules = self._rules.of(ours_tree)
        try:
            if rules:
                return _ask_once(self._git_dir, ours, theirs, rules)
            answer = self._helper.ask(f"{ours} {theirs}\n".encode(), _answer_length)
        except GitError as problem:
            if "unrelated histories" in problem.err:
                return Conflict((), ("its history has nothing in common with staging's",))
            raise
        status, tree, _rest = answer.split(b"\0", 2)
        if status == b"1":
            return Merged(tree.decode())
        # With messages: they name paths that the versions may lack.
        outcome = _ask_once(self._git_dir, ours, theirs, rules)
        if isinstance(outcome, Merged):
            raise GitError(
                ("git", "merge-tree"), 0, "", cause="git merge-tree gave two answers to one question."
            )
        return outcome

    def revert(self, onto: str, commits: Sequence[str]) -> Merged | Conflict:
        """Takes commits of a first-parent line, newest first, back on top of `onto`: each is merged the other way round, its parent
        into what there is with the commit itself as the merge base. A conflict is of the first that does not come off."""
        tree, who = self._objects.tree_of(onto), Signature(*OURSELVES, 0)
        for commit in commits:
            before = self._objects.tree_of(self._objects.commit(commit).parents[0])
            undone = git.write_commit(self._git_dir, before, (commit,), "undone\n", who, who, durable=False)
            outcome = self.merge_over(commit, tree, undone)
            if isinstance(outcome, Conflict):
                return outcome
            tree = outcome.tree
        return Merged(tree)

    def replay(self, commits: Sequence[CommitFacts], onto: str, at: float) -> Replayed | Conflict:
        """Replays linear commits, oldest first, on `onto`, keeping author and message; what becomes empty is left out.

        The same arguments give the same ids. A conflict is of the first commit that does not fit.
        """
        head, tree = onto, self._objects.tree_of(onto)
        for commit in commits:
            outcome = self.merge_over(commit.parents[0], tree, commit.oid)
            if isinstance(outcome, Conflict):
                return outcome
            if outcome.tree == tree:
                continue
            tree = outcome.tree
            who = Signature(*OURSELVES, at)
            head = git.write_commit(
                self._git_dir, tree, (head,), commit.message, commit.author, who, encoding=commit.encoding
            )
        return Replayed(head)


def _ask_once(
    git_dir: Path, ours: str, theirs: str, rules: Rules, env: Mapping[str, str] | None = None
) -> Merged | Conflict:
    """Asks a git of its own, in a folder that has the attributes, if any, as a checkout of our side would."""
    asked = ("merge-tree", "--write-tree", "-z", "--messages", ours, theirs)
    if not rules:
        done = git.run(*asked, git_dir=git_dir, env=env, ok=(0, 1))
    else:
        with tempfile.TemporaryDirectory(prefix="swarm-merge-") as folder:
            lay_out(rules, folder)
            done = git.run(*asked, git_dir=git_dir, work_tree=folder, cwd=folder, env=env, ok=(0, 1))
    if done.code == 0:
        return Merged(done.out.partition(b"\0")[0].decode())
    return _parse_conflict(done.out, (ours, theirs))


def merge_all(git_dir: Path, pairs: Sequence[tuple[str, str]]) -> list[str | None]:
    """Merges many pairs of commits and gives the trees; None for a pair that conflicts or can't be merged.

    Nothing is written into the repository: new objects go into a folder that is thrown away. For looking, not for landing.
    """
    with tempfile.TemporaryDirectory(prefix="swarm-merge-") as scratch, closing(Objects(git_dir)) as objects:
        env = {**store_env(scratch), **view_env(git_dir / "objects")}
        trees: dict[tuple[str, str], str | None] = {}
        plain: list[tuple[str, str]] = []
        for ours, theirs, rules in _with_rules(objects, pairs):
            try:
                outcome = _ask_once(git_dir, ours, theirs, rules, env) if rules else None
            except GitError:
                outcome = None
            if isinstance(outcome, Merged):
                trees[ours, theirs] = outcome.tree
            elif outcome is None:
                plain.append((ours, theirs))
        trees.update(zip(plain, _merge_plain(git_dir, plain, env), strict=True))
    return [trees.get(pair) for pair in pairs]


def _with_rules(
    objects: Objects, pairs: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, str, Rules | None]]:
    """Yields each pair with what the tree of the first says of merging; None where that can't be read, and so not merged either."""
    known = MergeRules(objects)
    for at in range(0, len(pairs), REMEMBERED_TREES):
        part = pairs[at : at + REMEMBERED_TREES]
        trees: dict[str, str] = {}
        for ours, _ in part:
            with contextlib.suppress(GitError):
                trees[ours] = objects.tree_of(ours)
        known.learn(list(trees.values()))
        for ours, theirs in part:
            try:
                yield ours, theirs, known.of(trees[ours]) if ours in trees else None
            except GitError:
                yield ours, theirs, None


def _merge_plain(git_dir: Path, pairs: Sequence[tuple[str, str]], env: Mapping[str, str]) -> list[str | None]:
    """Merges pairs that no attributes speak of, in one process as long as git lives."""
    trees: list[str | None] = []
    while len(trees) < len(pairs):
        asked = "".join(f"{ours} {theirs}\n" for ours, theirs in pairs[len(trees) :]).encode()
        done = git.run(
            *_STDIN, git_dir=git_dir, env=env, input=asked, ok=range(256), timeout_s=MERGE_ALL_TIMEOUT_S
        )
        trees += _trees_in(done.out)
        if len(trees) < len(pairs):
            if done.code == 0:
                raise GitError(("git", "merge-tree"), done.code, done.err)
            trees.append(None)  # git ended over this one; the rest is asked again
    return trees


def _trees_in(out: bytes) -> Iterator[str | None]:
    """Reads as many answers `status NUL tree NUL (entry NUL)* NUL` as are there whole."""
    fields = out.split(b"\0")
    at = 0
    while at + 3 < len(fields):
        end = fields.index(b"", at + 2)
        if end == len(fields) - 1:
            return
        yield fields[at + 1].decode() if fields[at] == b"1" else None
        at = end + 1


def _answer_length(got: bytearray) -> int | None:
    """Finds the end of `status NUL tree NUL (entry NUL)* NUL`."""
    at = got.find(b"\0", got.find(b"\0") + 1)
    if at < 0 or got.count(b"\0") < 3:
        return None
    if got[at + 1 : at + 2] == b"\0":
        return at + 2
    end = got.find(b"\0\0", at + 1)
    return None if end < 0 else end + 2


def _parse_conflict(out: bytes, sides: tuple[str, str]) -> Conflict:
    fields = git.decode(out).split("\0")
    # A file that a folder is in the way of is set aside as NAME~SIDE, which nobody but git knows by that name.
    aside = re.compile(rf"~(?:{'|'.join(sides)})(?:_\d+)?\Z")
    blobs: list[Blob] = []
    at = 1  # the tree comes first
    while fields[at]:
        facts, _, path = fields[at].partition("\t")
        mode, oid, stage = facts.split(" ")
        blobs.append(Blob(aside.sub("", path), int(stage), mode, oid))
        at += 1
    at += 1
    paths = [blob.path for blob in blobs]
    messages: list[str] = []
    while at < len(fields) and fields[at].isdigit():
        count = int(fields[at])
        named = fields[at + 1 : at + 1 + count]
        kind, text = fields[at + 1 + count : at + 3 + count]
        at += 3 + count
        if kind != "Auto-merging":
            paths.extend(aside.sub("", path) for path in named)
            messages.append(text.strip())
    return Conflict(tuple(dict.fromkeys(paths)), tuple(messages), tuple(blobs))

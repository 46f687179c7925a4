"""What a tree's own `.gitattributes` say of how its files are merged: not line by line, or both sides one after the other.

Hides where they are and when they matter. A repository without a checkout has no attributes, so that a merge in one would put lines
together in files of which their owner said that they must not be. Rules for editing: only what git knows by itself is ever heeded
(`-merge`, `binary`, `merge=union`); a driver that somebody's configuration names runs nowhere here, and git merges such a file by
lines.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from swarm.edge import git
from swarm.edge.git import Change, GitError, Objects

NAME = ".gitattributes"
REMEMBERED_TREES = 64
FILE_MAX_BYTES = 1 << 20
_OF_MERGING = (
    b"merge",
    b"binary",
)  # `binary` is `-diff -merge -text`; a macro of theirs has one of the two in it
_FILES = frozenset({"100644", "100755"})  # git follows no link here

Rules = Mapping[str, bytes]  # attribute files: path to content


class MergeRules:
    """Finds the attributes of trees of one repository. Thread-safe."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Mapping[str, str]] = OrderedDict()
        self._texts: OrderedDict[str, bytes] = OrderedDict()

    def of(self, tree: str) -> Rules:
        """Gives the attribute files of a tree where any of them is about merging; empty where none is."""
        with self._lock:
            found = {path: self._text(blob) for path, blob in self._files(tree).items()}
        return found if any(word in text for text in found.values() for word in _OF_MERGING) else {}

    def learn(self, trees: Sequence[str]) -> None:
        """Asks in one question for what `of` needs of these trees, at most `REMEMBERED_TREES`. Of one that is not there nothing is
        learnt, nor of the others: `of` tells which it is."""
        with self._lock:
            new = [tree for tree in dict.fromkeys(trees) if tree not in self._known]
            if not new:
                return
            before, files = self._newest(new[0])
            try:
                answers = self._objects.diffs(list(pairwise((before, *new))))
            except GitError:
                return
            for tree, changes in zip(new, answers, strict=True):
                files = self._remember(tree, files, changes)

    def _files(self, tree: str) -> Mapping[str, str]:
        """Gives the blob of each attribute file. From one merge to the next little changes, and that was asked for before."""
        known = self._known.get(tree)
        if known is not None:
            return known
        before, files = self._newest(tree)
        return self._remember(tree, files, self._objects.diff(before, tree))

    def _newest(self, tree: str) -> tuple[str, Mapping[str, str]]:
        """Gives the tree that was looked at last, else one without files whose name is as long as that of `tree`."""
        return next(reversed(self._known.items()), (_empty_tree(len(tree)), {}))

    def _remember(self, tree: str, files: Mapping[str, str], changes: Iterable[Change]) -> Mapping[str, str]:
        """Takes in the attribute files of a tree that differs by `changes` from one that has `files`."""
        found = dict(files)
        for change in changes:
            if change.path.rpartition("/")[2] == NAME:
                found.pop(change.path, None)
                if change.new_mode in _FILES:
                    found[change.path] = change.new
        self._known[tree] = found
        if len(self._known) > REMEMBERED_TREES:
            self._known.popitem(last=False)
        return found

    def _text(self, blob: str) -> bytes:
        known = self._texts.get(blob)
        if known is None:
            size = self._objects.kinds([blob])[0]
            (read,) = self._objects.read([blob]) if size and size[1] <= FILE_MAX_BYTES else (None,)
            known = self._texts[blob] = read.body if read is not None else b""
            if len(self._texts) > REMEMBERED_TREES:
                self._texts.popitem(last=False)
        return known


def lay_out(rules: Rules, folder: str) -> None:
    """Lays attribute files into a folder, as in a checkout."""
    for path, text in rules.items():
        file = os.path.join(os.fsencode(folder), git.encode(path))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as written:
            written.write(text)


def _empty_tree(digits: int) -> str:
    """Names the tree without files, which git knows although it is nowhere."""
    made = hashlib.sha256 if digits == 64 else hashlib.sha1
    return made(b"tree 0\0").hexdigest()

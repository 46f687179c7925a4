"""The judge: what plain `git merge` makes of two commits, in a clean clone, with its files checked out as a person has them.

Rules for editing: swarm is not imported and none of its repositories is looked into: the judge sees the user's repository alone,
and takes git's word. It is asked about commits, and does not know what swarm answered.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from tests.hostile.making import git

Listing = dict[bytes, bytes]


class Version(NamedTuple):
    """One side of a path that does not merge, as the index has it: stage 1 is what both come from, 2 ours, 3 theirs."""

    path: bytes
    stage: int
    mode: str
    oid: str


class Verdict(NamedTuple):
    """What comes of it: a tree, or a conflict with its versions. Neither: git says that the two have nothing in common."""

    tree: str | None
    versions: frozenset[Version] = frozenset()

    @property
    def paths(self) -> frozenset[bytes]:
        """The paths in conflict."""
        return frozenset(each.path for each in self.versions)


class Unsaid(Exception):
    """Git refuses to work over files that seem to be changed, as those with other ends of lines than their attributes say do as
    soon as they are checked out, has no name left for one that it sets aside, or no index for a link to a commit of zeros; so there
    is no word of it."""


class Judge:
    """A clean clone of the repository at `top`."""

    def __init__(self, top: Path, clone: Path) -> None:
        self.clone = clone
        # It borrows the objects, so that commits that come later are seen without a fetch.
        git(clone.parent, "clone", "-q", "--shared", "--no-checkout", str(top), str(clone))

    def merge(self, ours: str, theirs: str) -> Verdict:
        """Merges as a person would who has `ours` checked out."""
        self._stand_at(ours)
        done = git(self.clone, "merge", "-q", "--no-ff", "--no-edit", theirs, ok=(0, 1, 2, 128))
        if b"unrelated histories" in done.stderr:
            return Verdict(None)
        if done.returncode == 0:
            return Verdict(self._tree("HEAD"))
        try:
            return self._conflict(done.stderr)
        except Unsaid:
            return self._merge_without_files(ours, theirs)

    def _merge_without_files(self, ours: str, theirs: str) -> Verdict:
        """Asks for the same merge in the same place, files left alone."""
        done = git(self.clone, "merge-tree", "--write-tree", "-z", ours, theirs, ok=(0, 1))
        tree, _, rest = done.stdout.partition(b"\0")
        if done.returncode == 0:
            return Verdict(tree.decode())
        return Verdict(None, _versions(rest.partition(b"\0\0")[0] + b"\0"))

    def revert(self, ours: str, landing: str) -> Verdict:
        """Takes back a merge on top of `ours`."""
        self._stand_at(ours)
        done = git(self.clone, "revert", "--no-commit", "-m", "1", landing, ok=(0, 1, 128))
        if done.returncode:
            return self._conflict(done.stderr)
        return Verdict(git(self.clone, "write-tree").stdout.decode().strip())

    def replay(self, onto: str, base: str, head: str) -> Verdict:
        """Puts the commits of `head` above `base` on `onto`, one by one."""
        self._stand_at(onto)
        kept = ("--allow-empty", "--keep-redundant-commits")
        done = git(self.clone, "cherry-pick", *kept, f"{base}..{head}", ok=(0, 1, 128))
        if done.returncode:
            return self._conflict(done.stderr)
        return Verdict(self._tree("HEAD"))

    def left(self, base: str, wanted: str) -> tuple[Listing, Listing]:
        """Gives what comes of committing all, where `base` was checked out and then the files of `wanted` were laid there: of each
        file as it lies there, and with its ends of lines as the attributes want them. Which of the two git takes hangs on the
        clock, since it looks only into files that seem to have changed."""
        fresh = self.clone.with_name(
            "fresh"
        )  # files that were checked out under other attributes stay as they were
        git(self.clone.parent, "clone", "-q", "--shared", "--no-checkout", str(self.clone), str(fresh))
        git(fresh, "checkout", "-q", "-f", "--detach", base)
        git(fresh, "read-tree", "--reset", "-u", wanted)
        git(fresh, "read-tree", "HEAD")
        git(fresh, "add", "-A")
        as_is = self.entries(git(fresh, "write-tree").stdout.decode().strip(), fresh)
        git(fresh, "add", "--renormalize", ".")
        as_wanted = self.entries(git(fresh, "write-tree").stdout.decode().strip(), fresh)
        shutil.rmtree(fresh)
        return as_is, as_wanted

    def entries(self, commit: str, where: Path | None = None) -> Listing:
        """Gives mode and object of each path of a commit or tree."""
        listed = git(where or self.clone, "ls-tree", "-r", "-z", "--full-tree", commit).stdout.split(b"\0")[
            :-1
        ]
        return {path: facts for facts, _, path in (line.partition(b"\t") for line in listed)}

    def is_ancestor(self, below: str, above: str) -> bool:
        """Tells whether one comes from the other."""
        return git(self.clone, "merge-base", "--is-ancestor", below, above, ok=(0, 1)).returncode == 0

    def parents(self, commit: str) -> list[str]:
        """Gives the parents of a commit."""
        return git(self.clone, "rev-parse", f"{commit}^@").stdout.decode().split()

    def tree(self, commit: str) -> str:
        """Gives the tree of a commit."""
        return self._tree(commit)

    def taken_back(self, base: str, head: str, onto: str, tree: str) -> set[bytes]:
        """Lists what a merge changes on `onto` although the work from `base` to `head` did not, there or under the name that it had
        before somebody moved it on the way to `onto`: a merge commit in the work has settled for an older state of it."""
        own, moved = self._changed(base, head), self._moved(base, onto)
        return {path for path in self._changed(onto, tree) if path not in own and moved.get(path) not in own}

    def _changed(self, before: str, after: str) -> set[bytes]:
        listed = git(self.clone, "diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after)
        return set(listed.stdout.split(b"\0")[:-1])

    def _moved(self, before: str, after: str) -> dict[bytes, bytes]:
        """Gives the old name of each file that got a new one."""
        told = ("diff", "-r", "-z", "-M", "--name-status", "--diff-filter=R", "--no-ext-diff", before, after)
        fields = git(self.clone, *told).stdout.split(b"\0")
        return dict(zip(fields[2::3], fields[1::3], strict=False))

    def _stand_at(self, commit: str) -> None:
        git(self.clone, "checkout", "-q", "-f", "--detach", commit)

    def _tree(self, commit: str) -> str:
        return git(self.clone, "rev-parse", f"{commit}^{{tree}}").stdout.decode().strip()

    def _conflict(self, said: bytes) -> Verdict:
        """Reads what is left in the index, and clears it. Raises `Unsaid` where nothing is."""
        listed = git(self.clone, "ls-files", "-u", "-z").stdout
        git(self.clone, "cherry-pick", "--quit")
        git(self.clone, "reset", "-q", "--hard")
        git(self.clone, "clean", "-qfdx")
        if listed:
            return Verdict(None, _versions(listed))
        said = b"\n".join(line for line in said.splitlines() if not _OF_ATTRIBUTES.search(line))
        if not said or b"could not apply" in said:
            return Verdict(None)  # folders were renamed into each other's way: then no path of it is unmerged
        assert any(word in said for word in _UNSAID), said
        raise Unsaid


_UNSAID = (b"local changes", b"overwritten", b"File name too long", b"has null sha1")
_OF_ATTRIBUTES = re.compile(rb" not allowed: .*\.gitattributes:\d+\Z")  # a warning, whatever else comes of it


def _versions(listed: bytes) -> frozenset[Version]:
    found = set()
    for line in listed.split(b"\0")[:-1]:
        facts, _, path = line.partition(b"\t")
        mode, oid, stage = facts.decode().split(" ")
        found.add(Version(plain(path), int(stage), mode, oid))
    return frozenset(found)


# Where a file was moved by both, one side of a conflict is itself a merge with conflicts, in whose marks each side has the name by
# which git was asked for it.
_MARK = re.compile(rb"^([<|>]{7,}) .*$", re.MULTILINE)


def without_names(where: Path, versions: frozenset[Version]) -> frozenset[Version]:
    """Gives for each object that is a file of text what is in it, without the names in marks of conflicts."""

    def plainly(each: Version) -> Version:
        if each.mode in ("120000", "160000"):
            return each
        body = git(where, "cat-file", "blob", each.oid).stdout
        return each._replace(oid=hashlib.sha1(_MARK.sub(rb"\1", body)).hexdigest())

    return frozenset(map(plainly, versions))


# A file that a folder is in the way of is set aside under its own name and that of its side: as the command line named it, HEAD for
# ours, and the parent of a landing that is taken back. No name in a history ends so.
_SET_ASIDE = re.compile(rb"~(HEAD|[0-9a-f]{40}|(parent of )?[0-9a-f]{7,12} \(.*\))(_\d+)?\Z", re.DOTALL)


def plain(path: bytes) -> bytes:
    """Gives the name of a file before it was set aside."""
    return _SET_ASIDE.sub(b"", path)

"""What in a worktree is not as in its base: found in one look, held against what was collected, and taken back.

Hides how that is told. Our own copy of the index says of every tracked file how a checkout left it, so git names the others by
asking the file system once for each; what else lies there is found by listing every folder. Knowing both, nothing else has to be
looked at again: not to see that all of it was collected, not to clean, and not to go to another base.

Rules for editing: a file that was only written anew counts as another, since its form may be (line ends, filters); whatever can't
be told cheaply is for git to say. Listing is stricter than git's own, which looks past sockets, pipes and a `.git` in a tracked
folder, and which stops at folders that a worker made read-only: these get their owner's rights back. Links are not followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from swarm.dataclass import dataclass
from swarm.edge import git
from swarm.edge.linked import LinkedTree, size_of
from swarm.edge.trouble import raise_if_troubled

RESTORED_MAX = 100  # git holds every path that it is asked for against every path of the index
COMPARED_MAX = 100  # files whose bytes are read here
COMPARED_BYTES_MAX = 1 << 20  # of one of them


@dataclass(frozen=True, slots=True)
class Difference:
    """`tracked` are paths whose file is another one, or gone; `besides` is all else that lies there, of a folder only itself."""

    tracked: tuple[str, ...]
    besides: tuple[str, ...]

    def unknown(self, top: Path, changes: Iterable[git.Change]) -> list[str]:
        """Lists the paths where not exactly that lies which `changes` say, or more than is read here."""
        expected = {change.path: change for change in changes}
        left = COMPARED_MAX
        unknown = []
        for path in (*self.tracked, *self.besides):
            for file in _files_at(top, path):
                left -= 1
                if left < 0 or not _is_as(top / file, expected.get(file)):
                    unknown.append(path)
                    break
        return unknown


def look(tree: LinkedTree, index: Path, besides: Sequence[str]) -> Difference:
    """Looks at a whole worktree, in which `besides` was just found to lie beside what is tracked. Raises GitError and OSError."""
    found = tree.git("diff-files", "--name-only", "-z", "--ignore-submodules=dirty", index=index)
    return Difference(tuple(path for path in git.decode(found.out).split("\0") if path), tuple(besides))


def restore(tree: LinkedTree, index: Path, commit: str, paths: Sequence[str]) -> None:
    """Takes these paths, in the worktree and in `index`, to what they are in `commit`, whatever lies there. Raises GitError."""
    if paths:
        listed = git.encode("".join(path + "\0" for path in paths))
        asked = ("--literal-pathspecs", "restore", "-q", f"--source={commit}", "--staged", "--worktree")
        tree.git(*asked, "--pathspec-from-file=-", "--pathspec-file-nul", index=index, input=listed)


def may_restore(paths: Sequence[str]) -> bool:
    """Tells whether `restore` does for these: not where they are many, nor where they decide what form other files have."""
    decides = any(path.rpartition("/")[2] == ".gitattributes" for path in paths)
    return len(paths) <= RESTORED_MAX and not decides


def only_in_form(top: Path, changes: Iterable[git.Change], objects: git.Objects) -> list[git.Change]:
    """Lists the changes that nobody made: the file is byte for byte the old blob, of which git would make another by the attributes
    (line ends), so that it shows one right after a checkout. A file is read only where its size is not that of the new blob."""
    same = [each for each in changes if each.old_mode == each.new_mode and each.new_mode.startswith("100")]
    made = objects.sizes([each.new for each in same])
    sizes = {each.path: size_of(top / each.path) for each in same}
    other = [each for each in same if sizes[each.path] != made.get(each.new)]
    were = objects.sizes([each.old for each in other])
    return [
        each
        for each in other
        if sizes[each.path] == were.get(each.old) and _is_blob(top / each.path, each.old)
    ]


# What `as_checked_out` is told: the files of a checkout that are not as its index has them, each with mode and object there.
UNSTAGED = ("diff-files", "--raw", "-z", "--no-abbrev", "--ignore-submodules=all")


def as_checked_out(top: Path, listed: bytes, sizes_of: Callable[[list[str]], Mapping[str, int]]) -> set[str]:
    """Gives those of the paths that `UNSTAGED` has listed, or another raw difference, at which nobody changed anything: as in
    `only_in_form`. `sizes_of` gives the sizes of blobs; one that it leaves out is not compared."""
    fields = git.decode(listed).split("\0")
    blobs = {}
    for facts, path in zip(fields[::2], fields[1::2], strict=False):
        old_mode, mode, oid = facts[1:].split(" ")[:3]
        if old_mode == mode and mode.startswith("100"):
            blobs[path] = oid
    sizes = sizes_of(list(blobs.values())) if blobs else {}
    return {
        path
        for path, oid in blobs.items()
        if size_of(top / path) == sizes.get(oid) and _is_blob(top / path, oid)
    }


def _is_blob(file: Path, oid: str) -> bool:
    try:
        # What was a file a moment ago may be a pipe by now, which a worker made.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as there:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return is_file and git.object_id(b"blob", there.read(), sha256=len(oid) == 64) == oid
    except OSError as error:
        raise_if_troubled(error)
        return False


def _files_at(top: Path, path: str) -> Iterator[str]:
    """Gives all that lies at a path or below it and is no folder, or the path where nothing is there."""
    if not os.path.isdir(top / path) or os.path.islink(top / path):
        yield path
        return
    for folder, folders, names in os.walk(top / path):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from (os.path.relpath(os.path.join(folder, name), top) for name in (*names, *links))


def _is_as(file: Path, expected: git.Change | None) -> bool:
    """Tells whether a file is byte for byte what a change made it."""
    if expected is None:
        return False
    try:
        found = os.lstat(file)
        if stat.S_ISLNK(found.st_mode):
            mode, body = "120000", os.fsencode(os.readlink(file))
        elif stat.S_ISREG(found.st_mode) and found.st_size <= COMPARED_BYTES_MAX:
            mode, body = "100755" if found.st_mode & stat.S_IXUSR else "100644", file.read_bytes()
        else:
            return False
    except (FileNotFoundError, NotADirectoryError):
        return not int(expected.new_mode, 8)
    except PermissionError:
        return False
    sha256 = len(expected.new) == 64
    return mode == expected.new_mode and git.object_id(b"blob", body, sha256=sha256) == expected.new

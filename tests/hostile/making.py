"""Makes the commits of a history in a repository, as whoever wrote them might have: through git, in one stream.

Hides `git fast-import`. Rules for editing: swarm is not imported; git is called as a user's git would be, and trees that others
made (staging's) are read from it, not from what we think they are.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.hostile.histories import SUBMODULE, File, Ref, Step, Tree, tree_of

GIT = {
    **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
}


def git(
    folder: Path, *args: str, input: bytes | None = None, ok: tuple[int, ...] = (0,)
) -> subprocess.CompletedProcess[bytes]:
    """Runs git in a folder. Raises `AssertionError` with what it said where it ends otherwise than expected."""
    env = {**{name: value for name, value in os.environ.items() if not name.startswith("GIT_")}, **GIT}
    done = subprocess.run(["git", *args], cwd=folder, input=input, capture_output=True, env=env, check=False)
    assert done.returncode in ok, f"git {' '.join(args)}: {done.returncode}, {done.stderr!r}"
    return done


class Made:
    """Makes commits in the repository at `top` and knows the trees of those it made or read."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._trees: dict[str, Tree] = {}
        self._blobs: dict[str, bytes] = {}
        self._count = 0

    def before(self, steps: Sequence[Step]) -> list[str]:
        """Makes what was there before; there is always something."""
        parents: list[list[int]] = []
        for number, step in enumerate(steps):
            on = (
                [number - 1]
                if step.on is None
                else [step.on.number % max(1, number)] * (step.on.kind == "before")
            )
            wanted = [*on, *(each.number % max(1, number) for each in step.merged)]
            parents.append(list(dict.fromkeys(wanted)) if number else [])
        return self.commits(steps or (Step(),), parents or [[]])

    def work(self, steps: Sequence[Step], base: str, places: Mapping[str, Sequence[str]]) -> str:
        """Makes the commits of an attempt on `base` and gives the last; `places` are the commits that a `Ref` may mean."""

        def find(ref: Ref) -> str:
            known = places.get(ref.kind) or (base,)
            return known[ref.number % len(known)]

        parents: list[list[int | str]] = []
        for number, step in enumerate(steps):
            first: int | str = number - 1 if number else base
            wanted = [find(step.on) if step.on is not None else first, *(find(each) for each in step.merged)]
            parents.append(list(dict.fromkeys(wanted)))
        return self.commits(steps, parents)[-1]

    def commits(self, steps: Sequence[Step], parents: Sequence[Sequence[int | str]]) -> list[str]:
        """Makes one commit for each step; a parent is an id, or the number of a step that came before it. Gives the ids."""
        if not steps:
            return []
        stream: list[bytes] = []
        trees: list[Tree] = []
        for number, (step, theirs) in enumerate(zip(steps, parents, strict=True)):
            before = [trees[each] if isinstance(each, int) else self.tree(each) for each in theirs]
            trees.append(tree_of(step, before))
            self._count += 1
            stream += self._commit(number, theirs, before[0] if before else {}, trees[-1])
        stream += [b"get-mark :%d\n" % (number + 1) for number in range(len(steps))]
        said = git(self.top, "fast-import", "--quiet", "--force", input=b"".join(stream)).stdout
        ids = said.decode().split()
        self._trees.update(zip(ids, trees, strict=True))
        return ids

    def _commit(self, number: int, parents: Sequence[int | str], before: Tree, after: Tree) -> list[bytes]:
        names = [b":%d" % (each + 1) if isinstance(each, int) else each.encode() for each in parents]
        message = b"work %d\n" % self._count
        lines = [
            b"reset refs/made/%d\n\ncommit refs/made/%d\nmark :%d\n" % (self._count, self._count, number + 1)
        ]
        lines.append(b"committer Ada <ada@example.org> %d +0000\n" % (1_700_000_000 + self._count))
        lines.append(b"data %d\n%s\n" % (len(message), message))
        lines += [b"%s %s\n" % (b"merge" if place else b"from", name) for place, name in enumerate(names)]
        lines += [b"D %s\n" % _quoted(path) for path in before if path not in after]
        for path, file in after.items():
            if before.get(path) == file:
                continue
            self._blobs[_blob(file.data)] = file.data
            if file.mode == SUBMODULE:
                lines.append(b"M %s %s %s\n" % (file.mode.encode(), file.data, _quoted(path)))
            else:
                lines.append(
                    b"M %s inline %s\ndata %d\n%s\n"
                    % (file.mode.encode(), _quoted(path), len(file.data), file.data)
                )
        return lines

    def tree(self, commit: str) -> Tree:
        """Gives the tree of a commit, read from git where it was not made here."""
        known = self._trees.get(commit)
        if known is None:
            known = self._trees[commit] = self._read(commit)
        return known

    def _read(self, commit: str) -> Tree:
        listed = git(self.top, "ls-tree", "-r", "-z", "--full-tree", commit).stdout.split(b"\0")[:-1]
        entries = []
        for line in listed:
            facts, _, path = line.partition(b"\t")
            mode, _, oid = facts.decode().split(" ")
            entries.append((path, mode, oid))
        self._fetch([oid for _, mode, oid in entries if mode != SUBMODULE and oid not in self._blobs])
        return {
            path: File(mode, oid.encode() if mode == SUBMODULE else self._blobs[oid])
            for path, mode, oid in entries
        }

    def _fetch(self, oids: Sequence[str]) -> None:
        if not oids:
            return
        asked = "".join(f"{oid}\n" for oid in oids).encode()
        said = git(self.top, "cat-file", "--batch", input=asked).stdout
        for oid in oids:
            head, _, said = said.partition(b"\n")
            size = int(head.split()[2])
            self._blobs[oid], said = said[:size], said[size + 1 :]


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


def _quoted(path: bytes) -> bytes:
    for plain, quoted in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n")):
        path = path.replace(plain, quoted)
    return b'"%s"' % path

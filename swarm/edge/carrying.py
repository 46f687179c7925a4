"""Carries commits with all they need from one object store into another, so that nothing done to the first can hurt the second.

Hides packs and loose objects. Two ways give the same result: a few ordinary objects are copied one by one, which costs no
process; everything else goes through `pack-objects | unpack-objects/index-pack --strict`. Rules for editing: an object is written
after all it refers to, so that whatever is there is whole; what comes from a worker and is not plainly ordinary (odd names, odd
modes, odd commits, submodules, much of it) takes the strict way, where git itself judges it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from swarm.dataclass import dataclass
from swarm.edge import git
from swarm.edge.git import Change, Found, GitError, Objects

COMMITS_MAX = 64
OBJECTS_MAX = 400
BYTES_MAX = 4 * 1024 * 1024
UNPACK_MAX_OBJECTS = 100  # as receive-pack does: below this, loose objects; above, the pack is kept
PACK_TIMEOUT_S = 1800.0

_ORDINARY_MODES = frozenset({"100644", "100755", "040000", "120000"})
_ORDINARY_GIT_NAMES = frozenset({".gitignore", ".github", ".gitkeep"})
_ORDINARY_NAME = re.compile(r"[A-Za-z0-9_.@+=,()\[\] -]+\Z")
_IDENT = rb"[^<>\n\0]+ <[^<>\n\0]*> [0-9]+ [+-][0-9]{4}\n"
_ORDINARY_COMMIT = re.compile(
    rb"tree (?:[0-9a-f]{40}|[0-9a-f]{64})\n(?:parent (?:[0-9a-f]{40}|[0-9a-f]{64})\n)*"
    rb"author " + _IDENT + rb"committer " + _IDENT + rb"(?:[a-z]+ [^\n\0]*\n(?: [^\n\0]*\n)*)*\n[^\0]*\Z"
)
_TREE_ENTRY = re.compile(rb"(100644|100755|120000|160000|40000) ([^/\0]+)\0", re.DOTALL)


@dataclass(slots=True)
class _Load:
    """What a small set of commits consists of, in the order in which it is written: parts before wholes, old before new."""

    files: dict[str, None] = field(default_factory=dict)
    trees: dict[str, None] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    def objects(self) -> list[str]:
        return [*self.files, *self.trees, *self.commits]


class Carrier:
    """Carries commits from `source` into `target`. Thread-safe as far as the two stores are.

    `trusted` says that the source is our own, so that its objects need no judging.
    """

    def __init__(self, source: Objects, target: Objects, *, trusted: bool) -> None:
        self._source = source
        self._target = target
        self._trusted = trusted

    def carry_small(self, tip: str, known: Callable[[str], bool]) -> bool:
        """Carries `tip` and its ancestors down to known ones, object by object. False: too much or too odd, nothing was done.

        `known(commit)` must be true only for commits that are in the target with all they need.
        """
        load = self._load(tip, known)
        if load is None or not self._copy(load):
            return False
        self._target.learn(self._source, load.commits)
        return True

    def _load(self, tip: str, known: Callable[[str], bool]) -> _Load | None:
        commits = self._oldest_first(tip, known)
        if commits is None:
            return None
        load = _Load(commits=commits)
        for oid in commits:
            commit = self._source.commit(oid)
            try:
                changes = self._source.diff(self._source.tree_of(commit.parents[0]), commit.tree)
            except GitError:
                return None  # the strict way says what is wrong
            if not self._add(load, changes, commit.tree):
                return None
        return load

    def _oldest_first(self, tip: str, known: Callable[[str], bool]) -> list[str] | None:
        """Lists the unknown commits, each after its parents; None where there are many, or a root, or one can't be read."""
        order: list[str] = []
        done: set[str] = set()
        stack = [(tip, False)]
        while stack:
            oid, parents_done = stack.pop()
            if parents_done:
                order.append(oid)
            elif oid not in done and not known(oid):
                done.add(oid)
                try:
                    parents = self._source.commit(oid).parents
                except GitError:
                    return None  # the strict way says what is wrong
                if not parents or len(done) > COMMITS_MAX:
                    return None
                stack.append((oid, True))
                stack.extend((parent, False) for parent in parents)
        return order

    def _add(self, load: _Load, changes: Sequence[Change], top: str) -> bool:
        # Folders come before what is in them, so backwards they come after. The first place wins: an object that an older
        # commit needs is written with that one.
        for change in reversed(changes):
            if change.new_mode == "000000":
                continue
            if not (change.new_mode in _ORDINARY_MODES and (self._trusted or _is_ordinary(change.path))):
                return False
            (load.trees if change.new_mode == git.TREE_MODE else load.files)[change.new] = None
        if changes:
            load.trees[top] = None
        return len(load.files) + len(load.trees) <= OBJECTS_MAX

    def _copy(self, load: _Load) -> bool:
        found = self._missing(load.objects())
        if found is None:
            return False
        if not self._trusted and not all(_is_sound(item, len(oid) // 2) for oid, item in found.items()):
            return False
        for oid, item in found.items():
            self._write(oid, item)
        return True

    def _missing(self, wanted: Sequence[str]) -> dict[str, Found] | None:
        """Reads those objects that the target lacks, in the order given; None where they can't be read or are too large.

        Loose ones are read without asking git; what both have packed is asked for.
        """
        absent = [oid for oid in wanted if not git.has_loose(self._target.folder, oid)]
        loose = {oid: git.read_loose(self._source.folder, oid, BYTES_MAX) for oid in absent}
        asked = [oid for oid, item in loose.items() if item is None]
        asked = [oid for oid, there in zip(asked, self._target.kinds(asked), strict=True) if there is None]
        sizes = self._source.kinds(asked)
        if any(item is None for item in sizes) or sum(item[1] for item in sizes if item) > BYTES_MAX:
            return None
        packed = dict(zip(asked, self._source.read(asked), strict=True))
        found = {oid: item for oid in absent if (item := loose[oid] or packed.get(oid)) is not None}
        return found if sum(len(item.body) for item in found.values()) <= 2 * BYTES_MAX else None

    def _write(self, oid: str, item: Found) -> None:
        written = git.write_loose(
            self._target.folder, item.kind.encode(), item.body, sha256=len(oid) == 64, durable=True
        )
        if written != oid:
            raise GitError(
                ("git", "cat-file", oid), None, "", cause=f"Object {oid} is damaged in {self._source.folder}."
            )


def _is_ordinary(path: str) -> bool:
    """Tells whether a path has no name that any file system or git could take for something else."""
    for name in path.split("/"):
        lower = name.lower()
        if not _ORDINARY_NAME.match(name) or name[-1] in " ." or "git~" in lower:
            return False
        if lower.startswith(".git") and name not in _ORDINARY_GIT_NAMES:
            return False
    return True


def _is_sound(item: Found, id_size: int) -> bool:
    """Tells whether an object is plainly well formed; False sends it to git's own judgement."""
    if item.kind == "blob":
        return True
    if item.kind == "commit":
        return _ORDINARY_COMMIT.match(item.body) is not None
    return item.kind == "tree" and _is_sound_tree(item.body, id_size)


def _is_sound_tree(body: bytes, id_size: int) -> bool:
    at = 0
    last = b""
    names: set[bytes] = set()
    while at < len(body):
        entry = _TREE_ENTRY.match(body, at)
        if entry is None or len(body) < entry.end() + id_size:
            return False
        # Folders sort as if a slash followed their name.
        key = entry[2] + (b"/" if entry[1] == b"40000" else b"")
        if key <= last or entry[2] in names:
            return False
        last = key
        names.add(entry[2])
        at = entry.end() + id_size
    return True


@dataclass(frozen=True, slots=True)
class Packed:
    """How commits go from one store into another as a pack. `git_dir` is whose settings and refs count: always our own."""

    git_dir: Path
    source_env: Mapping[str, str]
    target_env: Mapping[str, str]

    def carry(self, tips: Sequence[str], known: Sequence[str], *, keep: bool = False) -> None:
        """Carries `tips` with all that is reachable from them and not from `known`, which the target must have.

        Few objects are unpacked, many are kept as a pack; with `keep` always. Raises `GitError` for objects that git
        judges broken, that refer to something missing, or that can't be read.
        """
        first = [
            "pack-objects",
            "--revs",
            "--stdout",
            "-q",
            "--delta-base-offset",
            *(["--thin"] if known else []),
        ]
        git.pipe(
            first,
            lambda header: _receiver(header, keep),
            git_dir=self.git_dir,
            first_env=self.source_env,
            second_env=self.target_env,
            input="".join([*(f"{tip}\n" for tip in tips), *(f"^{commit}\n" for commit in known)]).encode(),
            timeout_s=PACK_TIMEOUT_S,
        )


def carry_all(source: Path, git_dir: Path) -> set[str]:
    """Carries every object of the object folder `source`, which stands on that of `git_dir`, into the latter, and gives their ids.

    Raises `GitError` where git judges one broken, or one refers to something that is in neither.
    """
    listed = git.run(
        "cat-file",
        "--batch-all-objects",
        "--batch-check=%(objectname)",
        git_dir=git_dir,
        env=store_env(source),
    ).text.split()
    if listed:
        git.pipe(
            ["pack-objects", "--stdout", "-q", "--delta-base-offset"],
            lambda header: _receiver(header, False),
            git_dir=git_dir,
            first_env={**store_env(source), **view_env(git_dir / "objects")},
            input="".join(f"{oid}\n" for oid in listed).encode(),
            timeout_s=PACK_TIMEOUT_S,
        )
    return set(listed)


def _receiver(header: bytes, keep: bool) -> list[str]:
    version, count = int.from_bytes(header[4:8], "big"), int.from_bytes(header[8:12], "big")
    told = f"--pack_header={version},{count}"
    if keep or count >= UNPACK_MAX_OBJECTS:
        return ["index-pack", "--stdin", "--strict", "--fix-thin", told]
    return ["unpack-objects", "-q", "--strict", told]


def store_env(folder: Path | str) -> dict[str, str]:
    """Makes a call use the object folder `folder` in place of its repository's own."""
    return {"GIT_OBJECT_DIRECTORY": os.fspath(folder)}


def view_env(folder: Path | str, shallow_file: Path | str | None = None) -> dict[str, str]:
    """Makes a call see the objects of `folder` besides its own, and, unless None, history as `shallow_file` cuts it ("": uncut)."""
    text = os.fspath(folder)
    if ":" in text or text.startswith('"'):
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        text = f'"{quoted}"'
    view = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": text}
    return view if shallow_file is None else {**view, "GIT_SHALLOW_FILE": os.fspath(shallow_file)}

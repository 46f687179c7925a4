"""Objects: commits, trees and what differs between them, read through standing helpers and written without a process.

Hides git's object formats. Rules for editing: objects never change, so what was read may be remembered; what is written is
byte for byte what git would write, and is there completely or not at all.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import os
import re
import secrets
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from swarm.dataclass import dataclass
from swarm.edge.git.call import GitError, decode, encode, run
from swarm.edge.git.standing import Helper
from swarm.edge.git.trees import TREE_MODE, TreeEntry, read_tree, tree_body

REMEMBERED_COMMITS = 500  # about 1.3 kB each
REMEMBERED_MESSAGE = 4096  # of a commit with a longer one nothing is remembered
REMEMBERED_DIFFS = 64
COMMIT_MAX_BYTES = 64 * 1024  # of a loose one read without a process
TREE_MAX_BYTES = 1 << 20  # of a loose one read without a process
ASKED_AT_ONCE = 1000
ALTERNATES_DEEPEST = 6  # git goes no deeper
REMEMBERED_CHANGES = 500


class Signature(NamedTuple):
    """A name, an address and a time (seconds since the epoch) with its zone, as a commit records them."""

    name: str
    email: str
    at: float
    zone: str = "+0000"


class Found(NamedTuple):
    """An object as it was read: its kind (commit, tree, blob, tag) and its content."""

    kind: str
    body: bytes


class Change(NamedTuple):
    """One path that differs between two trees; modes are six octal digits, zeros where the side has nothing there."""

    path: str
    old_mode: str
    new_mode: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """What a commit says. `message` is text as far as it could be decoded; `encoding` is set where it is not UTF-8."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    author: Signature
    committer: Signature
    message: str
    encoding: str = ""

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.partition("\n")[0]


_OBJECT_ID = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")


def is_object_id(text: str) -> bool:
    """Tells whether `text` is a full object id."""
    return _OBJECT_ID.match(text) is not None


def missing(git_dir: Path | str, oids: Iterable[str]) -> set[str]:
    """Gives those objects that are not there at this moment: a standing process may still see what a gc has taken away."""
    wanted = list(dict.fromkeys(oids))
    if not wanted:
        return set()
    asked = "".join(f"{oid}\n" for oid in wanted).encode()
    told = run("cat-file", "--batch-check=%(objectname) %(objecttype)", git_dir=git_dir, input=asked).text
    return {line.split()[0] for line in told.splitlines() if line.endswith(" missing")}


def alternates(objects: Path) -> list[Path]:
    """Lists the folders in which git looks for objects that are not in this one, and not in those either. What can't be read, and
    what is no folder, is left out, as git does."""
    found: dict[Path, None] = {}
    level = [objects]
    for _ in range(ALTERNATES_DEEPEST):
        level = [each for folder in level for each in _alternates_of(folder) if each not in found]
        found |= dict.fromkeys(level)
    return list(found)


def _alternates_of(objects: Path) -> list[Path]:
    try:
        lines = decode((objects / "info" / "alternates").read_bytes()).split("\n")
    except OSError:
        return []
    named = [_unquoted(line) for line in lines if line and not line.startswith("#")]
    places = [Path(os.path.normpath(objects / name)) for name in named]
    return [place for place in places if place.is_dir()]


def _unquoted(text: str) -> str:
    """Reads a path as git does, in which it may be quoted like a string of C."""
    if not text.startswith('"'):
        return text
    with suppress(ValueError, SyntaxError):
        return decode(ast.literal_eval(f"b{text}"))
    return text


class Objects:
    """Reads objects of one repository. Thread-safe; close it when done.

    With `folder` they are read from that object folder instead, and nothing of its repository but the objects is seen.
    """

    def __init__(self, git_dir: Path | str, *, folder: Path | str | None = None) -> None:
        self.git_dir = git_dir
        self.folder = os.fspath(folder) if folder is not None else os.path.join(git_dir, "objects")
        env = None if folder is None else {"GIT_OBJECT_DIRECTORY": self.folder}
        self._contents = Helper(("cat-file", "--batch-command"), git_dir, env=env)
        self._mark = f"end {secrets.token_hex(8)}\n".encode()
        self._differences = Helper(_DIFF, git_dir, env=env)
        self._commits: OrderedDict[str, CommitFacts] = OrderedDict()
        self._diffs: OrderedDict[tuple[str, str], list[Change]] = OrderedDict()

    def kinds(self, oids: Sequence[str]) -> list[tuple[str, int] | None]:
        """Gives kind and size in bytes of each object, None for one that is not there."""
        return [None if item is None else (item[0], item[1]) for item in self._batch("info", oids)]

    def kind(self, oid: str) -> str | None:
        """Gives the kind of an object, or None when it is not there."""
        found = self.kinds((oid,))[0]
        return None if found is None else found[0]

    def read(self, oids: Sequence[str]) -> list[Found | None]:
        """Gives the content of each object, None for one that is not there. The caller bounds their sizes by `kinds`."""
        return [None if item is None else Found(item[0], item[2]) for item in self._batch("contents", oids)]

    def sizes(self, oids: Sequence[str]) -> dict[str, int]:
        """Gives the size in bytes of each object that is there; of a loose one without asking git."""
        found = {oid: size for oid in oids if (size := _loose_size(self.folder, oid)) is not None}
        asked = [oid for oid in oids if oid not in found]
        for at in range(0, len(asked), ASKED_AT_ONCE):
            part = asked[at : at + ASKED_AT_ONCE]
            found |= {oid: item[1] for oid, item in zip(part, self.kinds(part), strict=True) if item}
        return found

    def trees(self, oids: Sequence[str]) -> list[dict[bytes, TreeEntry]]:
        """Gives what each folder holds, by name; of a loose one without asking git. Raises `GitError` where one is no tree."""
        found = {oid: read_loose(self.folder, oid, TREE_MAX_BYTES) for oid in oids}
        asked = [oid for oid, tree in found.items() if tree is None]
        for at in range(0, len(asked), ASKED_AT_ONCE):
            part = asked[at : at + ASKED_AT_ONCE]
            found |= zip(part, self.read(part), strict=True)
        wrong = next((oid for oid, tree in found.items() if tree is None or tree.kind != "tree"), None)
        if wrong is not None:
            raise GitError(
                ("git", "cat-file", "tree", wrong), None, "", cause=f"{wrong} is no tree that is there."
            )
        return [read_tree(tree.body, len(oid) // 2) for oid in oids if (tree := found[oid]) is not None]

    def holds(self, commit: str, path: str) -> bool:
        """Tells whether a commit has anything at a path, a folder too. Raises `GitError`."""
        oid = self.tree_of(commit)
        for name in path.encode("utf-8", "surrogateescape").split(b"/"):
            entry = self.trees((oid,))[0].get(name) if oid else None
            if entry is None:
                return False
            oid = entry.oid if entry.mode == TREE_MODE else ""
        return True

    def changed_tree(self, tree: str, changes: Mapping[bytes, TreeEntry | None]) -> str:
        """Writes the tree in which what `changes` names is another thing than in `tree`, or gone, and gives its id; a folder of
        which nothing is left is gone too. Raises `GitError` where a folder can't be read, `OSError` where the disk refuses."""
        return self._changed_tree(tree, changes) or self._write_tree({}, sha256=len(tree) == 64)

    def _changed_tree(self, tree: str | None, changes: Mapping[bytes, TreeEntry | None]) -> str | None:
        entries = dict(self.trees((tree,))[0]) if tree else {}
        below: dict[bytes, dict[bytes, TreeEntry | None]] = {}
        for path, entry in changes.items():
            name, _, rest = path.partition(b"/")
            if rest:
                below.setdefault(name, {})[rest] = entry
            elif entry is None:
                entries.pop(name, None)
        for name, inner in below.items():
            there = entries.pop(name, None)
            held = self._changed_tree(there.oid if there and there.mode == TREE_MODE else None, inner)
            if held is not None:
                entries[name] = TreeEntry(TREE_MODE, held)
        entries |= {path: entry for path, entry in changes.items() if entry is not None and b"/" not in path}
        return (
            self._write_tree(entries, sha256=len(next(iter(entries.values())).oid) == 64) if entries else None
        )

    def _write_tree(self, entries: Mapping[bytes, TreeEntry], *, sha256: bool) -> str:
        return write_loose(self.folder, b"tree", tree_body(entries), sha256=sha256, durable=True)

    def commit(self, oid: str) -> CommitFacts:
        """Gives what a commit says. Raises `GitError` where there is no such commit."""
        known = self._commits.get(oid)
        if known is not None:
            return known
        found = read_loose(self.folder, oid, COMMIT_MAX_BYTES) or self.read((oid,))[0]
        if found is None or found.kind != "commit":
            raise GitError(
                ("git", "cat-file", "commit", oid),
                None,
                "",
                cause=f"{oid} is not a commit in {self.git_dir}.",
            )
        facts = parse_commit(oid, found.body)
        self.remember(facts)
        return facts

    def learn(self, other: Objects, commits: Iterable[str]) -> None:
        """Takes over what `other` remembers of commits that have been copied here, so that it need not be asked again."""
        for oid in commits:
            facts = other._commits.get(oid)
            if facts is not None:
                self.remember(facts)
        for trees, changes in list(other._diffs.items()):
            _remember(self._diffs, trees, changes, REMEMBERED_DIFFS)

    def remember(self, facts: CommitFacts) -> None:
        """Takes note of a commit that was just written."""
        if len(facts.message) <= REMEMBERED_MESSAGE:
            _remember(self._commits, facts.oid, facts, REMEMBERED_COMMITS)

    def tree_of(self, commit: str) -> str:
        """Gives the tree of a commit. Raises `GitError` where there is no such commit."""
        return self.commit(commit).tree

    def diff(self, old_tree: str, new_tree: str) -> list[Change]:
        """Lists every path, folders too, that differs between two trees; a rename is a path gone and a path come. Raises `GitError`
        where a tree is not there."""
        if old_tree == new_tree:
            return []
        known = self._diffs.get((old_tree, new_tree))
        if known is not None:
            return known
        question = f"{old_tree} {new_tree}\n".encode() + self._mark
        mark = self._mark
        answer = self._differences.ask(question, lambda got: len(got) if got.endswith(mark) else None)
        (changes,) = _parse_diffs(answer.removesuffix(mark), [f"{old_tree} {new_tree}\n"])
        if len(changes) <= REMEMBERED_CHANGES:
            _remember(self._diffs, (old_tree, new_tree), changes, REMEMBERED_DIFFS)
        return changes

    def diffs(self, pairs: Sequence[tuple[str, str]]) -> list[list[Change]]:
        """Gives for many pairs of trees what `diff` gives for one, in one question; nothing of it is remembered."""
        if not pairs:
            return []
        mark = self._mark
        question = "".join(f"{old} {new}\n" for old, new in pairs).encode() + mark
        answer = self._differences.ask(question, lambda got: len(got) if got.endswith(mark) else None)
        return _parse_diffs(answer.removesuffix(mark), [f"{old} {new}\n" for old, new in pairs])

    def changed_paths(self, old: str, new: str) -> tuple[str, ...]:
        """Lists the files that differ between two commits, in git's order, folders left out."""
        return files_of(self.diff(self.tree_of(old), self.tree_of(new)))

    def close(self) -> None:
        """Ends the standing helpers."""
        self._contents.close()
        self._differences.close()

    def _batch(self, verb: str, oids: Sequence[str]) -> list[tuple[str, int, bytes] | None]:
        if not oids:
            return []
        wrong = next((oid for oid in oids if not is_object_id(oid)), None)
        if wrong is not None:
            raise ValueError(f"{wrong!r} is not an object id")
        question = "".join(f"{verb} {oid}\n" for oid in oids).encode()
        answers = _Answers(len(oids), with_content=verb == "contents")
        answer = self._contents.ask(question, answers.length)
        return _Answers(len(oids), with_content=verb == "contents").parse(answer)


Key = TypeVar("Key")
Value = TypeVar("Value")


def _remember(memory: OrderedDict[Key, Value], key: Key, value: Value, most: int) -> None:
    memory[key] = value
    if len(memory) > most:
        try:
            memory.popitem(last=False)
        except KeyError:
            pass  # another thread emptied it first


# Every commit of the diff is given as two trees, so that no parent and no rename is guessed; submodules count like files
# whatever .gitmodules says of them. `diff-tree --stdin` repeats and flushes a line that names no object: that marks the end.
_DIFF = (
    "diff-tree",
    "--stdin",
    "-r",
    "-t",
    "-z",
    "--raw",
    "--no-renames",
    "--no-abbrev",
    "--ignore-submodules=none",
)


class _Answers:
    """Cuts what `cat-file --batch-command` prints into its answers; remembers how far it came between two looks."""

    def __init__(self, count: int, *, with_content: bool) -> None:
        self._count = count
        self._with_content = with_content
        self._at = 0
        self.found: list[tuple[str, int, bytes] | None] = []

    def length(self, got: bytearray | bytes) -> int | None:
        while len(self.found) < self._count:
            line_end = got.find(b"\n", self._at)
            if line_end < 0:
                return None
            words = got[self._at : line_end].split(b" ")
            if len(words) != 3:  # "<name> missing" or "<name> ambiguous"
                self.found.append(None)
                self._at = line_end + 1
                continue
            size = int(words[2])
            end = line_end + 1 + (size + 1 if self._with_content else 0)
            if len(got) < end:
                return None
            content = bytes(got[line_end + 1 : end - 1]) if self._with_content else b""
            self.found.append((words[1].decode(), size, content))
            self._at = end
        return self._at

    def parse(self, got: bytes) -> list[tuple[str, int, bytes] | None]:
        if self.length(got) is None:
            raise GitError(
                ("git", "cat-file"), None, "", cause="git cat-file gave fewer answers than it was asked for."
            )
        return self.found


def _parse_diffs(answer: bytes, headers: Iterable[str]) -> list[list[Change]]:
    """Cuts the answers to several questions: each begins with its header, and its fields end with NUL. Raises `GitError` where one
    was not answered."""
    fields = answer.split(b"\0")
    found: list[list[Change]] = []
    at = 0
    for header in headers:
        if not fields[at].startswith(header.encode()):  # git passes over what it can't read without a word
            raise GitError(
                ("git", *_DIFF),
                None,
                "",
                cause=f"One of the trees {header.strip()} can't be read, or is none.",
            )
        fields[at] = fields[at].removeprefix(header.encode())
        changes: list[Change] = []
        while fields[at].startswith(b":"):
            old_mode, new_mode, old, new, _status = fields[at].decode("ascii")[1:].split(" ")
            changes.append(Change(decode(fields[at + 1]), old_mode, new_mode, old, new))
            at += 2
        found.append(changes)
    return found


def lines_of(out: bytes) -> dict[str, tuple[int, int]]:
    """Reads what `diff --numstat -z --no-renames` says: lines added and deleted for each file, (0, 0) for a binary one."""
    counts: dict[str, tuple[int, int]] = {}
    for entry in decode(out).split("\0"):
        if entry:
            added, deleted, name = entry.split("\t", 2)
            counts[name] = (0, 0) if added == "-" else (int(added), int(deleted))
    return counts


def files_of(changes: Iterable[Change]) -> tuple[str, ...]:
    """Gives the paths of changed files, without folders; a path that was a file on either side counts."""
    return tuple(
        dict.fromkeys(
            change.path
            for change in changes
            if not (change.old_mode in _NO_FILE and change.new_mode in _NO_FILE)
        )
    )


_NO_FILE = frozenset({TREE_MODE, "000000"})
_WHO = re.compile(r"(.*?) ?<([^>]*)> (\d+) ([+-]\d{4})\Z", re.DOTALL)


def parse_commit(oid: str, body: bytes) -> CommitFacts:
    """Reads the content of a commit object. Raises `GitError` where it is not well formed."""
    head, _, message = body.partition(b"\n\n")
    fields: dict[str, list[str]] = {}
    name = ""
    for line in decode(head).split("\n"):
        # Continued lines belong to signatures and mergetags, which nobody here reads.
        if not line.startswith(" "):
            name, _, value = line.partition(" ")
            fields.setdefault(name, []).append(value)
    try:
        return CommitFacts(
            oid=oid,
            tree=fields["tree"][0],
            parents=tuple(fields.get("parent", ())),
            author=_signature(fields["author"][0]),
            committer=_signature(fields["committer"][0]),
            message=decode(message),
            encoding=fields.get("encoding", [""])[0],
        )
    except (KeyError, ValueError) as problem:
        raise GitError(
            ("git", "cat-file", "commit", oid), None, "", cause=f"Commit {oid} is not well formed."
        ) from problem


# Names of temporary files in this process; a new one after a restart may meet a leftover only with the same process id.
_NUMBERS = itertools.count(time.monotonic_ns())


def _signature(text: str) -> Signature:
    found = _WHO.match(text)
    if found is None:
        raise ValueError(text)
    return Signature(found[1], found[2], int(found[3]), found[4])


def write_commit(
    git_dir: Path | str,
    tree: str,
    parents: Iterable[str],
    message: str,
    author: Signature,
    committer: Signature,
    *,
    encoding: str = "",
    durable: bool = True,
) -> str:
    """Writes a commit object and gives its id; the same arguments give the same id. Costs no process.

    The caller vouches that tree and parents are there. `git_dir` is the common one. With `durable` false no fsync is
    made: for objects that can be made again. Raises `OSError` where the disk refuses.
    """
    head = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
    head += [f"author {_ident(author)}", f"committer {_ident(committer)}"]
    if encoding:
        head.append(f"encoding {encoding}")
    text = message.replace("\0", "")
    body = encode("\n".join(head) + "\n\n" + (text if text.endswith("\n") else text + "\n"))
    return write_loose(
        os.path.join(git_dir, "objects"), b"commit", body, sha256=len(tree) == 64, durable=durable
    )


def _ident(who: Signature) -> str:
    name = re.sub(r"[<>\n\0]", "", who.name).strip() or "swarm"
    email = re.sub(r"[<>\n\0\s]", "", who.email)
    return f"{name} <{email}> {int(who.at)} {who.zone}"


def has_loose(folder: str, oid: str) -> bool:
    """Tells whether an object lies loose in an object folder; it may be packed where it does not."""
    return os.path.exists(f"{folder}/{oid[:2]}/{oid[2:]}")


def read_loose(folder: str, oid: str, most: int) -> Found | None:
    """Reads a loose object without a process; None where it is not loose, not well formed, or has more than `most` bytes.

    A young object nearly always lies loose. That the content fits the id is for the caller to check, who writes it anew.
    """
    if not is_object_id(oid):
        return None
    try:
        with open(f"{folder}/{oid[:2]}/{oid[2:]}", "rb") as file:
            packed = file.read(most + 1)
        stream = zlib.decompressobj()
        raw = stream.decompress(packed, most + 64)
    except (OSError, zlib.error):
        return None
    head, _, body = raw.partition(b"\0")
    kind, _, size = head.partition(b" ")
    if not stream.eof or not size.isdigit() or int(size) != len(body) or len(body) > most:
        return None
    return Found(kind.decode("ascii", "replace"), body)


def _loose_size(folder: str, oid: str) -> int | None:
    try:
        with open(f"{folder}/{oid[:2]}/{oid[2:]}", "rb") as file:
            head = zlib.decompressobj().decompress(file.read(128), 64)
    except (OSError, zlib.error):
        return None
    size = head.partition(b"\0")[0].partition(b" ")[2]
    return int(size) if size.isdigit() else None


def object_id(kind: bytes, body: bytes, *, sha256: bool) -> str:
    """Gives the id that an object has or would have."""
    return _hash(kind + b" %d\0" % len(body) + body, sha256=sha256)


def _hash(raw: bytes, *, sha256: bool) -> str:
    return (hashlib.sha256(raw) if sha256 else hashlib.sha1(raw, usedforsecurity=False)).hexdigest()


def write_loose(objects: str, kind: bytes, body: bytes, *, sha256: bool, durable: bool) -> str:
    """Writes one loose object the way git does: temporary file, fsync, read-only, moved to its name in one step.

    Gives its id. `objects` is the object folder. Raises `OSError` where the disk refuses.
    """
    raw = kind + b" %d\0" % len(body) + body
    name = _hash(raw, sha256=sha256)
    folder = os.path.join(objects, name[:2])
    path = os.path.join(folder, name[2:])
    if os.path.exists(path):
        return name
    temporary = os.path.join(folder, f"tmp_obj_{os.getpid()}_{next(_NUMBERS)}")
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(temporary, how, 0o444)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        fd = os.open(temporary, how, 0o444)
    try:
        with open(fd, "wb") as file:
            file.write(zlib.compress(raw, 1))
            file.flush()
            if durable:
                os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return name

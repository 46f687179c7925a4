"""Odd histories: what lies in a repository, and what is done to it, at worst; made from a seed, and the same from the same seed.

A history is data: commits that were there before (the last is where the run starts), then attempts, each from some commit of
staging. What a commit does is a list of operations on a tree, and a tree is a dictionary from names to files. Nothing here knows
git, swarm, or any repository.

Rules for editing: every operation can be applied to every tree, and every place of a history can be named whatever the others
do (what is not there is passed over, numbers are taken modulo what there is), so that any part of a history is a history. A new
kind of oddity goes into the tables at the end; it changes what each seed makes, which is no harm.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

PLAIN, EXECUTABLE, LINK, SUBMODULE = "100644", "100755", "120000", "160000"
MANY = 10_000


class File(NamedTuple):
    """What has a name in a tree; `data` is the target of a symbolic link, and the commit's id of a submodule."""

    mode: str
    data: bytes


Tree = dict[bytes, File]


class Write(NamedTuple):
    """Makes a file; a folder of that name goes, and so does a file that is in the way of its folder."""

    path: bytes
    file: File


class Edit(NamedTuple):
    """Puts a text in place of a line; the number is taken modulo the lines there are."""

    path: bytes
    line: int
    text: bytes


class Append(NamedTuple):
    """Puts a line at the end."""

    path: bytes
    text: bytes


class Remove(NamedTuple):
    """Removes a file or folder."""

    path: bytes


class Move(NamedTuple):
    """Renames a file or folder."""

    path: bytes
    to: bytes


class Mode(NamedTuple):
    """Makes a file executable, or no longer so."""

    path: bytes


class Ends(NamedTuple):
    """Turns the ends of lines into CRLF, or back."""

    path: bytes


class Fill(NamedTuple):
    """Makes many small files."""

    folder: bytes
    files: int


Operation = Write | Edit | Append | Remove | Move | Mode | Ends | Fill


class Ref(NamedTuple):
    """A commit: of what was there before (`before`), the head of an attempt (`attempt`), of staging after so many landings
    (`staging`)."""

    kind: str
    number: int


class Step(NamedTuple):
    """A commit: on the one before it, or on `on`; `merged` are its other parents, whose files that it lacks it takes over."""

    operations: tuple[Operation, ...] = ()
    on: Ref | None = None
    merged: tuple[Ref, ...] = ()


class Attempt(NamedTuple):
    """One attempt: how many landings there were when it began, and its commits. With `undoes` it has none, and that landing is
    taken back."""

    start: int
    steps: tuple[Step, ...]
    undoes: int | None = None


class History(NamedTuple):
    """What was there before, and the attempts in the order in which they come to the merge queue."""

    before: tuple[Step, ...]
    attempts: tuple[Attempt, ...]


# --- trees ------------------------------------------------------------------------------------------------------------------


def apply(tree: Tree, operation: Operation) -> None:
    """Changes a tree by an operation."""
    match operation:
        case Write(path, file):
            put(tree, path, file)
        case Remove(path):
            for name in list(below(tree, path)):
                del tree[name]
        case Move(path, to) if path in tree or not to.endswith(
            b".gitattributes"
        ):  # of a folder git refuses that name
            moved = {to + name[len(path) :]: tree.pop(name) for name in list(below(tree, path))}
            for name, file in moved.items():
                put(tree, name, file)
        case Fill(folder, files):
            for number in range(files):
                put(tree, b"%s/%05d" % (folder, number), File(PLAIN, b"%d\n" % number))
        case Mode(path) if path in tree and tree[path].mode in (PLAIN, EXECUTABLE):
            other = EXECUTABLE if tree[path].mode == PLAIN else PLAIN
            tree[path] = File(other, tree[path].data)
        case Edit() | Append() | Ends() if operation.path in tree and tree[operation.path].mode in (
            PLAIN,
            EXECUTABLE,
        ):
            found = tree[operation.path]
            tree[operation.path] = File(found.mode, _rewritten(found.data, operation))


def _rewritten(data: bytes, operation: Edit | Append | Ends) -> bytes:
    match operation:
        case Append(_, text):
            return data + text + b"\n"
        case Ends():
            return data.replace(b"\r\n", b"\n") if b"\r\n" in data else data.replace(b"\n", b"\r\n")
        case Edit(_, line, text):
            lines = data.split(b"\n")
            lines[line % len(lines)] = text
            return b"\n".join(lines)


def put(tree: Tree, path: bytes, file: File) -> None:
    """Makes a file in a tree; what is in its way goes."""
    for name in list(below(tree, path)):
        del tree[name]
    parts = path.split(b"/")
    for count in range(1, len(parts)):
        tree.pop(b"/".join(parts[:count]), None)
    tree[path] = file


def below(tree: Tree, path: bytes) -> Iterator[bytes]:
    """Lists a file, or all that is in a folder."""
    return (name for name in tree if name == path or name.startswith(path + b"/"))


def tree_of(step: Step, parents: list[Tree]) -> Tree:
    """Gives the tree of a commit from those of its parents."""
    tree = dict(parents[0]) if parents else {}
    for other in parents[1:]:
        for path, file in other.items():
            if path not in tree and not any(below(tree, path)) and not _is_under_a_file(tree, path):
                tree[path] = file
    for operation in step.operations:
        apply(tree, operation)
    return tree


def _is_under_a_file(tree: Tree, path: bytes) -> bool:
    parts = path.split(b"/")
    return any(b"/".join(parts[:count]) in tree for count in range(1, len(parts)))


# --- from a seed ------------------------------------------------------------------------------------------------------------


def make(seed: int) -> History:
    """Makes the history of a seed."""
    return _Maker(random.Random(seed)).history()


class _Maker:
    """Draws a history. It knows only roughly what the trees look like: an operation on a name that is not there does nothing."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.names = [*chance.sample(ORDINARY, 4), *chance.sample(ODD, 4)]
        self.folders = [*chance.sample(FOLDERS, 2)]
        self.seen: list[bytes] = []

    def history(self) -> History:
        before = [Step(tuple(self._write(name) for name in self._some_paths()))]
        self.seen = self.seen[-self.chance.randint(2, 6) :]  # upon which all fall
        shape = self.chance.choice(RARE_BEFORE if self.chance.random() < 0.04 else SHAPES_BEFORE)
        before += shape(self)
        attempts = [self._attempt(number) for number in range(self.chance.randint(2, 5))]
        if self.chance.random() < 0.25:
            attempts.append(Attempt(0, (), undoes=self.chance.randrange(4)))
        return History(tuple(before), tuple(attempts))

    def _some_paths(self) -> list[bytes]:
        paths = [self.path() for _ in range(self.chance.choice((0, 2, 5, 8, 8)))]
        return [b".gitattributes", *paths] if self.chance.random() < 0.3 else paths

    def path(self) -> bytes:
        """Gives a name, perhaps in a folder."""
        name = self.chance.choice(self.names)
        depth = self.chance.choice((0, 0, 1, 1, 2))
        return b"/".join([*(self.chance.choice(self.folders) for _ in range(depth)), name])

    def known(self) -> bytes:
        """Gives the name of what probably is there."""
        return self.chance.choice(self.seen) if self.seen and self.chance.random() < 0.9 else self.path()

    def _attempt(self, number: int) -> Attempt:
        steps = [self.step() for _ in range(self.chance.choice((1, 1, 1, 2, 3)))]
        if self.chance.random() < 0.2:
            others = tuple(self._other(number) for _ in range(self.chance.choice((1, 1, 1, 2))))
            steps.append(Step(self.operations(1), merged=others))
        if self.chance.random() < 0.05:
            steps[0] = steps[0]._replace(on=self._other(number))
        return Attempt(self.chance.choice((0, 0, 0, number)), tuple(steps))

    def _other(self, number: int) -> Ref:
        kind = self.chance.choice(("before", "attempt", "attempt", "staging"))
        return Ref(
            kind, self.chance.randrange(max(1, number)) if kind == "attempt" else self.chance.randrange(6)
        )

    def step(self) -> Step:
        """Gives a commit on the one before it."""
        return Step(self.operations(self.chance.choice((0, 1, 1, 2, 2, 3))))

    def operations(self, count: int) -> tuple[Operation, ...]:
        chosen: list[Operation] = []
        for _ in range(count):
            chosen.append(self.chance.choice(OPERATIONS)(self))
            made = chosen[-1]
            if not isinstance(made, Write) or made.file.mode != SUBMODULE or not made.path.isalnum():
                continue
            if self.chance.random() < 0.8:  # the others are links that nothing explains
                chosen.append(Write(b".gitmodules", File(PLAIN, SUBMODULES % made.path)))
        return tuple(chosen)

    def _write(self, path: bytes) -> Operation:
        self.seen.append(path)
        if path.endswith(b".gitattributes"):
            return Write(path, File(PLAIN, self.chance.choice(ATTRIBUTES)))
        return Write(path, self.chance.choice(CONTENTS)(self.chance))

    def write(self) -> Operation:
        return self._write(self.known() if self.chance.random() < 0.4 else self.path())

    def edit(self) -> Operation:
        return Edit(self.known(), self.chance.choice((0, 3, 7, 7, 12)), self.chance.choice(TEXTS))

    def append(self) -> Operation:
        return Append(self.known(), self.chance.choice(TEXTS))

    def remove(self) -> Operation:
        return Remove(self.chance.choice((self.known(), self.known(), self.chance.choice(self.folders))))

    def move(self) -> Operation:
        if self.chance.random() < 0.3:
            return Move(self.chance.choice(self.folders), self.chance.choice(FOLDERS))
        to = self.known() if self.chance.random() < 0.2 else self.path()
        self.seen.append(to)
        return Move(self.known(), to)

    def mode(self) -> Operation:
        return Mode(self.known())

    def ends(self) -> Operation:
        return Ends(self.known())

    def attributes(self) -> Operation:
        folder = self.chance.choice((b"", b"", self.chance.choice(self.folders) + b"/"))
        return self._write(folder + b".gitattributes")

    def fill(self) -> Operation:
        return Fill(self.chance.choice(self.folders), self.chance.choice((5, 5, 5, 300)))

    # --- what was there before

    def one(self) -> list[Step]:
        return []

    def line(self) -> list[Step]:
        return [self.step() for _ in range(self.chance.randint(1, 5))]

    def deep(self) -> list[Step]:
        path = self.path()
        return [Step((Write(path, File(PLAIN, b"%d\n" % number)),)) for number in range(120)]

    def criss_cross(self) -> list[Step]:
        """Two lines that were merged into each other, so that they have two best ancestors in common."""
        first, second = Ref("before", 1), Ref("before", 2)
        sides = [self.step(), self.step()._replace(on=Ref("before", 0))]
        across = [
            Step(self.operations(1), on=first, merged=(second,)),
            Step(self.operations(1), on=second, merged=(first,)),
        ]
        return [*sides, *across, self.step()._replace(on=Ref("before", 3))]

    def octopus(self) -> list[Step]:
        arms = [self.step()._replace(on=Ref("before", 0)) for _ in range(3)]
        return [*arms, Step((), on=Ref("before", 1), merged=(Ref("before", 2), Ref("before", 3)))]

    def two_roots(self) -> list[Step]:
        other = Step((self.write(), self.write()), on=Ref("nothing", 0))
        return [other, Step((), on=Ref("before", 0), merged=(Ref("before", 1),))]

    def big(self) -> list[Step]:
        return [Step((Fill(self.folders[0], MANY if self.chance.random() < 0.1 else 1000),))]


# --- what there is to choose from -------------------------------------------------------------------------------------------

ORDINARY = (b"readme", b"a.txt", b"b.txt", b"main.py", b"data.bin", b"Makefile", b"x.u", b"lock.json")
ODD = (
    b"README", b"A.txt", b"a.TXT",  # twins, for who does not tell large letters from small
    b"caf\xc3\xa9.txt", b"cafe\xcc\x81.txt",  # twins, for who composes letters
    b"caf\xe9.txt", b"\xff\xfe", b"\xf0\x9f\x90\x9d.md",
    b"two\nlines", b"tab\there", b"\x01\x7f", b"cr\r",
    b'quo"te', b"it's", b"back\\slash", b"$(true)", b"`x`", b"a;b", b"a|b", b"%s%n",
    b" lead", b"trail ", b"in the middle", b"-rf", b"--force", b"-", b"#x", b"!x",
    b":(glob)x", b":!x", b"*", b"?", b"[a]", b"~", b"a~1", b"x^{tree}", b"@{0}", b"HEAD", b"a:b", b"0" * 40,
    b"n" * 255, b".hidden", b"...", b".gitattributes", b".gitignore", b"a.lock", b"x~HEAD.txt",
)  # fmt: skip
FOLDERS = (
    b"src",
    b"lib",
    b"SRC",
    b"a.txt",
    b"main.py",
    b"-d",
    b"d\xe9",
    b"new\nline",
    b"refs",
    b"objects",
    b"deep/er",
    b" ",
)
TEXTS = (
    b"changed", b"another", b"<<<<<<< ours", b"=======", b"", b"caf\xe9", b"with\r", b"nul \0 in it",
)  # fmt: skip
ATTRIBUTES = (
    b"* text=auto\n", b"* text eol=crlf\n", b"*.txt text eol=lf\n*.bin binary\n", b"*.u merge=union\n", b"* -merge\n",
    b"* merge=binary\n", b"*.txt merge=nobody-has-this\n", b"a.txt merge=union\nb.txt -text\n", b"[attr]odd -merge\n*.py odd\n",
    b"* -text\n", b"",
)  # fmt: skip

SUBMODULES = b'[submodule "other"]\n\tpath = %s\n\turl = ./other\n'


def _text(chance: random.Random) -> File:
    """Twenty lines, of few kinds, so that a file here is often like one there and taken for the same one under another name."""
    kind = chance.randrange(3)
    return File(PLAIN, b"".join(b"%d line %d\n" % (kind, line) for line in range(20)))


def _near(chance: random.Random) -> File:
    lines = [b"0 line %d" % line for line in range(20)]
    lines[chance.randrange(20)] = b"a bit different"
    return File(chance.choice((PLAIN, EXECUTABLE)), b"\n".join(lines))


CONTENTS: tuple[Callable[[random.Random], File], ...] = (
    _text,
    _text,
    _text,
    _near,
    lambda chance: File(EXECUTABLE, b"#!/bin/sh\necho %d\n" % chance.randrange(3)),
    lambda chance: File(PLAIN, b"".join(b"line %d\r\n" % line for line in range(15))),
    lambda chance: File(PLAIN, b"mixed\r\nends\n" * 5 + b"%d" % chance.randrange(3)),
    lambda chance: File(PLAIN, bytes(range(256)) * chance.randint(1, 3)),
    lambda chance: File(PLAIN, b""),
    lambda chance: File(
        LINK,
        chance.choice((b"a.txt", b"../../outside", b"/etc/passwd", b"", b"lo\xe9p", b"src"))[:255] or b"x",
    ),
    lambda chance: File(SUBMODULE, b"%040x" % chance.randint(1, 3)),
)
OPERATIONS: tuple[Callable[[_Maker], Operation], ...] = (
    _Maker.write, _Maker.write, _Maker.edit, _Maker.edit, _Maker.edit, _Maker.append, _Maker.remove, _Maker.move, _Maker.move,
    _Maker.mode, _Maker.ends, _Maker.attributes, _Maker.fill,
)  # fmt: skip
SHAPES_BEFORE: tuple[Callable[[_Maker], list[Step]], ...] = (
    *(_Maker.one, _Maker.one, _Maker.line, _Maker.line, _Maker.line, _Maker.criss_cross, _Maker.criss_cross),
    *(_Maker.octopus, _Maker.two_roots, _Maker.line, _Maker.line),
)
RARE_BEFORE: tuple[Callable[[_Maker], list[Step]], ...] = (_Maker.deep, _Maker.big)

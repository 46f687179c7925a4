"""Path patterns: what they cover, whether two can meet, who holds what, and which touched paths strayed.

A pattern is read once into *pieces*: what stands between its stars. The same form serves twice, for a segment (characters between
`*`) and for a whole pattern (segments between `**`), and so one rule decides both: two starred words meet when their beginnings and
their ends agree, for what lies between can always be written one after the other; a word without a star meets a starred one when
the pieces are found in it from left to right. No backtracking, nothing is approximated.

Rules for editing: pure, standard library only, no pairwise comparison of all claims. Names are compared without regard to case and
to the form of accents, because on some machines `A.py` and `a.py` are one file; a wildcard counts characters of that folded form
(`ß` is two). What users may write is told in docs/explanation/claims.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from swarm.core.model import Claim, Mode
from swarm.dataclass import dataclass

PATTERN_MAX_BYTES = 4096  # PATH_MAX on Linux: nothing longer can be a path in a worktree
OPAQUE_PREFIX = "\0"  # a claim that starts so is an opaque token, compared for equality only

_LOOKS_MAX = 200_000  # at claims and paths, to find out what was not needed
_WILD = frozenset("*?[\\")
_ESCAPABLE = frozenset("*?[]\\-!^")  # the last three mean something between `[` and `]`
_ESCAPED = re.compile(r"\\([*?\[\]\\\-!^])")

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)


# --- what a person may write ------------------------------------------------------------------------------------------------


def normalise(path: str) -> str:
    """Gives a pattern its one spelling: no `./`, no `//`, `src/` as `src/**`, the whole repository as `**`, accents composed.

    Letter case stays as written. Raises ValueError with the reason where the pattern is empty, absolute, too long, leaves the
    repository, reaches into `.git`, or holds a line break, a NUL or a backslash that is no escape.
    """
    if not path.strip():
        raise ValueError("the path is empty")
    if path.startswith("/"):
        raise ValueError("the path is absolute; write it relative to the top of the repository")
    if any(character in path for character in "\0\n\r"):
        raise ValueError("the path holds a NUL or a line break")
    if len(path.encode("utf-8", "surrogatepass")) > PATTERN_MAX_BYTES:
        raise ValueError(f"the path is longer than {PATTERN_MAX_BYTES} bytes")
    _refuse_stray_backslash(path)
    segments = _resolve(unicodedata.normalize("NFC", path).split("/"))
    if path.endswith(("/", "/.")) or not segments:
        segments.append("**")
    return "/".join(_one_at_a_time(segments))


def literal(path: str) -> str:
    """Writes the pattern that covers this very path (and what is below it), its wildcards escaped."""
    return "".join(f"\\{character}" if character in _WILD else character for character in path)


def folders(pattern: str) -> tuple[str, ...]:
    """Gives the names of the folders that all which a normalised pattern covers lies below, as far as no wildcard stands in one."""
    names = []
    for segment in pattern.split("/")[:-1]:
        if not isinstance(_read_segment(segment), str):
            break
        names.append(_ESCAPED.sub(r"\1", segment))
    return tuple(names)


def _refuse_stray_backslash(path: str) -> None:
    """Raises ValueError for a backslash that escapes nothing: most likely somebody's folder separator."""
    place = path.find("\\")
    while place >= 0:
        if path[place + 1 : place + 2] not in _ESCAPABLE or place + 1 == len(path):
            raise ValueError("the path holds a backslash; folders are separated by `/`")
        place = path.find("\\", place + 2)


def _resolve(written: Iterable[str]) -> list[str]:
    """Drops empty and `.` segments and carries out `..`; raises ValueError where that leaves the repository or reaches `.git`."""
    segments: list[str] = []
    for segment in written:
        if segment == "..":
            if not segments:
                raise ValueError("the path leaves the repository")
            if _WILD.intersection(segments.pop()):
                raise ValueError("`..` after a wildcard names no folder")
        elif segment not in ("", "."):
            segments.append(segment)
    if any(fold(segment) == ".git" for segment in segments):
        raise ValueError("the path reaches into .git")
    return segments


def _one_at_a_time(segments: Iterable[str]) -> Iterator[str]:
    """Leaves out each `**` that follows another: it says nothing new."""
    last = ""
    for segment in segments:
        if not segment == last == "**":
            yield segment
        last = segment


def fold(text: str) -> str:
    """Gives the form in which names are compared: caseless, accents composed (Unicode's canonical caseless matching)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


# --- words made of pieces ---------------------------------------------------------------------------------------------------


def _agree(a: Sequence[T], b: Sequence[T], meets: Callable[[T, T], bool]) -> bool:
    """Tells whether two sequences meet place by place, as far as the shorter one goes."""
    return all(map(meets, a, b))


def _words_meet(a: Sequence[Sequence[T]], b: Sequence[Sequence[T]], meets: Callable[[T, T], bool]) -> bool:
    """Tells whether one word can be both: each is given as its pieces, so that a word of one piece has no star."""
    if len(a) == 1:
        return _fits(a[0], b, meets)
    if len(b) == 1:
        return _fits(b[0], a, meets)
    return _agree(a[-1][::-1], b[-1][::-1], meets) and _agree(a[0], b[0], meets)


def _fits(fixed: Sequence[T], pieces: Sequence[Sequence[T]], meets: Callable[[T, T], bool]) -> bool:
    """Tells whether a word without a star can be one that has these pieces; the leftmost place for each is the best one."""
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return len(fixed) == len(first) and _agree(fixed, first, meets)
    end = len(fixed) - len(last)
    start = len(first)
    if start > end or not _agree(fixed[end:], last, meets) or not _agree(fixed, first, meets):
        return False
    for piece in pieces[1:-1]:
        while start + len(piece) <= end and not _agree(fixed[start:], piece, meets):
            start += 1
        start += len(piece)
    return start <= end


# --- characters and segments ------------------------------------------------------------------------------------------------

_Ranges = tuple[tuple[int, int], ...]

# Every character that a folded segment can hold: no NUL, no `/`, no ASCII capitals.
_ALL: _Ranges = ((1, 46), (48, 64), (91, 0x10FFFF))


def _common(a: _Ranges, b: _Ranges) -> _Ranges:
    """Gives the characters that are in both."""
    pairs = ((max(low, other_low), min(high, other_high)) for low, high in a for other_low, other_high in b)
    return tuple((low, high) for low, high in pairs if low <= high)


def _others(ranges: _Ranges) -> _Ranges:
    """Gives the characters that a folded segment can hold and that are not in these ranges."""
    rest = _ALL
    for low, high in ranges:
        rest = _common(rest, ((1, low - 1), (high + 1, 0x10FFFF)))
    return rest


@dataclass(frozen=True, slots=True)
class _OneOf:
    """One character out of these ranges: a `?` or a `[…]`."""

    ranges: _Ranges

    def has(self, character: str) -> bool:
        """Tells whether this (folded) character is one of them."""
        code = ord(character)
        return any(low <= code <= high for low, high in self.ranges)


_ANY = _OneOf(_ALL)
_Place = str | _OneOf


def _places_meet(a: _Place, b: _Place) -> bool:
    """Tells whether one character can stand at both places."""
    if isinstance(a, str):
        return a == b if isinstance(b, str) else b.has(a)
    return a.has(b) if isinstance(b, str) else bool(_common(a.ranges, b.ranges))


@dataclass(frozen=True, slots=True)
class _Glob:
    """A segment with wildcards: its pieces between `*`, and the text as it stands where that is another reading of it.

    The second reading is for folders that are named like a wildcard, as in `app/[id]/page.tsx`.
    """

    pieces: tuple[Sequence[_Place], ...]
    as_it_stands: str | None
    only_text: bool
    may_be_folder: bool

    def covers(self, text: str) -> bool:
        """Tells whether this (folded) name is one that the segment covers."""
        if self.only_text:
            return _text_fits(text, self.pieces)
        return text == self.as_it_stands or _fits(text, self.pieces, _places_meet)


_Segment = str | _Glob


def _text_fits(text: str, pieces: Sequence[Any]) -> bool:
    """Does what `_fits` does for pieces that are all text and at least two, much more quickly."""
    first, last = pieces[0], pieces[-1]
    end = len(text) - len(last)
    start = len(first)
    if start > end or not text.endswith(last) or not text.startswith(first):
        return False
    for piece in pieces[1:-1]:
        found = text.find(piece, start, end)
        if found < 0:
            return False
        start = found + len(piece)
    return True


def _segments_meet(a: _Segment, b: _Segment) -> bool:
    """Tells whether one name can be covered by both segments."""
    if isinstance(a, str):
        return a == b if isinstance(b, str) else b.covers(a)
    if isinstance(b, str):
        return a.covers(b)
    return (
        _words_meet(a.pieces, b.pieces, _places_meet)
        or (a.as_it_stands is not None and b.covers(a.as_it_stands))
        or (b.as_it_stands is not None and a.covers(b.as_it_stands))
    )


def _read_segment(text: str) -> _Segment:
    """Reads one segment, as written, into folded text or a glob."""
    if not _WILD.intersection(text):
        return fold(text)
    pieces, has_class, empty_class = _read_pieces(text)
    if empty_class:  # such as `[z-a]`: as a wildcard it covers nothing at all
        return fold(text)
    words = tuple(
        fold("".join(str(place) for place in piece))
        if all(isinstance(place, str) for place in piece)
        else tuple(part for place in piece for part in (fold(place) if isinstance(place, str) else (place,)))
        for piece in pieces
    )
    only_text = all(isinstance(word, str) for word in words)
    if only_text and len(words) == 1:
        return str(words[0])
    return _Glob(
        pieces=words,
        as_it_stands=fold(text) if has_class else None,
        only_text=only_text,
        may_be_folder=len(words) == 1 and _ANY not in words[0],
    )


def _read_pieces(text: str) -> tuple[list[list[_Place]], bool, bool]:
    """Cuts a segment at its stars; tells too whether it has a `[…]`, and whether one of those is empty."""
    pieces: list[list[_Place]] = [[]]
    has_class = empty_class = False
    at = 0
    while at < len(text):
        character = text[at]
        close = _class_end(text, at) if character == "[" else -1
        if character == "*":
            if len(pieces) == 1 or pieces[-1]:  # several stars in a row say what one says
                pieces.append([])
        elif character == "?":
            pieces[-1].append(_ANY)
        elif close >= 0:
            ranges = _read_class(text[at + 1 : close])
            has_class, empty_class = True, empty_class or not ranges
            pieces[-1].append(_OneOf(ranges))
            at = close
        else:
            at += _escapes(text, at)
            pieces[-1].append(text[at])
        at += 1
    return pieces, has_class, empty_class


def _escapes(text: str, at: int) -> bool:
    """Tells whether the character here is a backslash that takes the meaning from the next one."""
    return text[at] == "\\" and at + 1 < len(text) and text[at + 1] in _ESCAPABLE


def _class_end(text: str, at: int) -> int:
    """Finds the `]` that closes the `[` here, or -1; one that comes first stands for itself."""
    at += 1
    if text[at : at + 1] in ("!", "^"):
        at += 1
    first = at
    while at < len(text):
        if text[at] == "]" and at > first:
            return at
        at += 1 + _escapes(text, at)
    return -1


def _read_class(inside: str) -> _Ranges:
    """Reads what stands between `[` and `]` into ranges of folded characters."""
    negated = inside[:1] in ("!", "^")
    characters: list[tuple[str, bool]] = []  # and whether it was escaped: an escaped `-` makes no range
    at = int(negated)
    while at < len(inside):
        escaped = _escapes(inside, at)
        at += escaped
        characters.append((inside[at], escaped))
        at += 1
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < len(characters):
        low = high = characters[at][0]
        if characters[at + 1 : at + 2] == [("-", False)] and at + 2 < len(characters):
            high = characters[at + 2][0]
            at += 2
        ranges += _folded_range(low, high)
        at += 1
    return _others(tuple(ranges)) if negated else _common(tuple(ranges), _ALL)


def _folded_range(low: str, high: str) -> Iterator[tuple[int, int]]:
    """Gives a range of characters together with the small letters of its capitals."""
    start, end = ord(low), ord(high)
    yield start, end
    yield max(start, ord("A")) + 32, min(end, ord("Z")) + 32
    small_low, small_high = fold(low), fold(high)
    if start > 127 and len(small_low) == len(small_high) == 1:
        yield ord(small_low), ord(small_high)


# --- whole patterns ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A pattern as read: its pieces between `**`; `plain` when it is a file or folder named outright, with all below it."""

    pieces: tuple[tuple[_Segment, ...], ...]
    plain: bool


@lru_cache(maxsize=4096)
def _read(text: str) -> _Pattern:
    """Reads a normalised pattern. A last segment without `*` and `?` may be a folder, so all that is below it is covered too."""
    pieces: list[list[_Segment]] = [[]]
    for written in text.split("/"):
        if written == "**":
            if len(pieces) == 1 or pieces[-1]:
                pieces.append([])
        elif written:
            pieces[-1].append(_read_segment(written))
    last = pieces[-1][-1] if pieces[-1] else None
    if isinstance(last, str) or (last is not None and last.may_be_folder):
        pieces.append([])
    plain = len(pieces) == 2 and not pieces[1] and all(isinstance(segment, str) for segment in pieces[0])
    return _Pattern(tuple(map(tuple, pieces)), plain)


def example(pattern: str) -> str:
    """Gives a path that a normalised pattern covers: what no star or class names is an `x`."""
    return "/".join(
        "x".join("".join(map(_character, piece)) for piece in _read_pieces(segment)[0])
        for segment in pattern.split("/")
    )


def _character(place: _Place) -> str:
    """Gives a character that may stand in a place."""
    if isinstance(place, str):
        return place
    return next((each for each in "x0_-" if place.has(each)), chr(place.ranges[0][0]))


def _patterns_meet(a: _Pattern, b: _Pattern) -> bool:
    """Tells whether one path can be covered by both."""
    return _words_meet(a.pieces, b.pieces, _segments_meet)


def matches(pattern: str, path: str) -> bool:
    """Tells whether a normalised pattern covers this path (relative to the top, as git prints it)."""
    if pattern.startswith(OPAQUE_PREFIX):
        return False
    return _fits(tuple(fold(path).split("/")), _read(pattern).pieces, _segments_meet)


def overlap(a: str, b: str) -> bool:
    """Tells whether there can be a path that both normalised patterns cover; tokens meet only their equals."""
    if a.startswith(OPAQUE_PREFIX) or b.startswith(OPAQUE_PREFIX):
        return a == b
    return _patterns_meet(_read(a), _read(b))


# --- who holds what ---------------------------------------------------------------------------------------------------------

_OPPOSED = {Mode.EXCLUSIVE: tuple(Mode), Mode.SHARED: (Mode.EXCLUSIVE,)}


@dataclass(frozen=True, slots=True)
class Holding(Generic[H]):
    """A claim and who has it."""

    holder: H
    claim: Claim


class ClaimHeld(Exception):
    """Somebody else holds a claim that meets one asked for; nothing was taken. `holding` says who and what."""

    def __init__(self, holding: Holding[Any]) -> None:
        super().__init__(f"{holding.claim.path} is held by {holding.holder}")
        self.holding = holding


@dataclass(frozen=True, slots=True)
class _Filed(Generic[H]):
    """A holding as filed: `order` counts all claims ever taken, `pattern` is None for a token."""

    order: int
    holding: Holding[H]
    pattern: _Pattern | None


@dataclass(slots=True)
class _Folder(Generic[H]):
    """A folder of the index: patterns whose leading names end `here`, all those `within` (here or deeper), both in order taken."""

    folders: dict[str, _Folder[H]] = field(default_factory=dict)
    here: dict[int, _Filed[H]] = field(default_factory=dict)
    within: dict[int, _Filed[H]] = field(default_factory=dict)


class _Index(Generic[H]):
    """Claims of one mode, filed under their leading folders, so that a question meets only what lies on its way."""

    def __init__(self) -> None:
        self._top: _Folder[H] = _Folder()
        self._tokens: dict[str, dict[int, _Filed[H]]] = {}

    @property
    def holds_any(self) -> bool:
        """Tells whether any claim is filed."""
        return bool(self._top.within or self._tokens)

    def add(self, filed: _Filed[H]) -> None:
        """Files a claim; one step for each leading folder."""
        if filed.pattern is None:
            self._tokens.setdefault(filed.holding.claim.path, {})[filed.order] = filed
            return
        folder = self._top
        folder.within[filed.order] = filed
        for name in _leading(filed.pattern):
            folder = folder.folders.setdefault(name, _Folder())
            folder.within[filed.order] = filed
        folder.here[filed.order] = filed

    def remove(self, filed: _Filed[H]) -> None:
        """Takes a claim out again, and the folders that it leaves empty."""
        if filed.pattern is None:
            same = self._tokens[filed.holding.claim.path]
            del same[filed.order]
            if not same:
                del self._tokens[filed.holding.claim.path]
            return
        folder = self._top
        del folder.within[filed.order]
        for name in _leading(filed.pattern):
            inner = folder.folders[name]
            del inner.within[filed.order]
            if not inner.within:
                del folder.folders[name]
                return
            folder = inner
        del folder.here[filed.order]

    def meeting(self, path: str, pattern: _Pattern | None, holder: H) -> Iterator[Iterator[_Filed[H]]]:
        """Gives, place by place, what others hold that meets the pattern; each place in the order of taking."""
        if pattern is None:
            yield _of_others(self._tokens.get(path, {}), None, holder)
            return
        on_the_way = [self._top]
        for segment in pattern.pieces[0]:
            for folder in on_the_way:
                if folder.here:
                    yield _of_others(folder.here, pattern, holder)
            on_the_way = [inner for folder in on_the_way for inner in _inner(folder, segment)]
            if not on_the_way:
                return
        for (
            folder
        ) in on_the_way:  # without a `**`, whatever is filed deeper has more segments than the pattern
            yield _of_others(folder.within if len(pattern.pieces) > 1 else folder.here, pattern, holder)


def _leading(pattern: _Pattern) -> Iterator[str]:
    """Gives the folders under which a pattern is filed: its names up to the first wildcard."""
    for segment in pattern.pieces[0]:
        if not isinstance(segment, str):
            return
        yield segment


def _inner(folder: _Folder[H], segment: _Segment) -> Iterable[_Folder[H]]:
    """Gives the folders directly inside that a segment covers."""
    if isinstance(segment, str):
        inner = folder.folders.get(segment)
        return () if inner is None else (inner,)
    return [inner for name, inner in folder.folders.items() if segment.covers(name)]


def _of_others(filed: dict[int, _Filed[H]], pattern: _Pattern | None, holder: H) -> Iterator[_Filed[H]]:
    """Sorts out of claims found on the way those that are somebody else's and do meet.

    Two plain ones, found so, always meet: one lies at or below the other.
    """
    for one in filed.values():
        if one.holding.holder == holder:
            continue
        other = one.pattern
        if (
            pattern is None
            or other is None
            or (pattern.plain and other.plain)
            or _patterns_meet(pattern, other)
        ):
            yield one


class ClaimTable(Generic[H]):
    """Who may change what now. Taking is all or nothing; no two holders ever have claims that meet, unless both are shared.

    A holder is anything hashable, such as (run, task). One question costs a step per folder of the pattern and one per claim met
    there, whatever the number of claims held elsewhere. Shared claims are filed apart: those who share never see each other.
    """

    def __init__(self) -> None:
        self._next_order = 0
        self._indexes: dict[Mode, _Index[H]] = {mode: _Index() for mode in Mode}
        self._filed: dict[int, _Filed[H]] = {}
        self._holders: dict[H, dict[Claim, _Filed[H]]] = {}

    def take(self, holder: H, claims: Iterable[Claim]) -> None:
        """Gives all the claims to the holder, in one step; those that it has already are left as they are.

        Raises ClaimHeld, and changes nothing, where one of them meets what another has.
        """
        wanted = tuple(claims)
        held = self.first_conflict(wanted, holder)
        if held is not None:
            raise ClaimHeld(held)
        if wanted:
            mine = self._holders.setdefault(holder, {})
            for claim in wanted:
                if claim not in mine:
                    mine[claim] = self._file(holder, claim)

    def extend(self, holder: H, claims: Iterable[Claim]) -> None:
        """Takes more claims for a holder that strayed, on the same terms as `take`."""
        self.take(holder, claims)

    def release(self, holder: H) -> tuple[Claim, ...]:
        """Frees all that the holder has, and tells what that was; nothing for one that has nothing."""
        mine = self._holders.pop(holder, {})
        for filed in mine.values():
            self._indexes[filed.holding.claim.mode].remove(filed)
            del self._filed[filed.order]
        return tuple(mine)

    def conflicts(self, claims: Iterable[Claim], holder: H) -> tuple[Holding[H], ...]:
        """Lists every holding of others that stops these claims, in the order of taking."""
        found = {
            filed.order: filed.holding
            for claim in claims
            for place in self._meeting(claim, holder)
            for filed in place
        }
        return tuple(found[order] for order in sorted(found))

    def first_conflict(self, claims: Iterable[Claim], holder: H) -> Holding[H] | None:
        """Gives the longest-held of those that stop the first claim which cannot be had, or None when all are free."""
        for claim in claims:
            first: _Filed[H] | None = None
            for place in self._meeting(claim, holder):
                found = next(place, None)
                if found is not None and (first is None or found.order < first.order):
                    first = found
            if first is not None:
                return first.holding
        return None

    def meeting(self, claim: Claim, holder: H) -> Iterator[Holding[H]]:
        """Yields every holding of others that stops a claim, one after the other, as they are found."""
        return (filed.holding for place in self._meeting(claim, holder) for filed in place)

    def held(self) -> Iterator[Holding[H]]:
        """Gives every holding, in the order of taking."""
        return (filed.holding for filed in self._filed.values())

    def of(self, holder: H) -> tuple[Claim, ...]:
        """Gives what one holder has, in the order of taking."""
        return tuple(self._holders.get(holder, ()))

    def _meeting(self, claim: Claim, holder: H) -> Iterator[Iterator[_Filed[H]]]:
        pattern = _pattern_of(claim)
        for mode in _OPPOSED[claim.mode]:
            if (index := self._indexes[mode]).holds_any:
                yield from index.meeting(claim.path, pattern, holder)

    def _file(self, holder: H, claim: Claim) -> _Filed[H]:
        filed = _Filed(self._next_order, Holding(holder, claim), _pattern_of(claim))
        self._next_order += 1
        self._indexes[claim.mode].add(filed)
        self._filed[filed.order] = filed
        return filed

    def __getstate__(self) -> tuple[Holding[H], ...]:
        """Gives all that must be kept to copy or pickle a table: the index can be made again."""
        return tuple(self.held())

    def __setstate__(self, holdings: tuple[Holding[H], ...]) -> None:
        self.__init__()  # type: ignore[misc]
        for holding in holdings:
            self.take(holding.holder, (holding.claim,))


def _pattern_of(claim: Claim) -> _Pattern | None:
    """Reads the pattern of a claim; None for a token."""
    return None if claim.path.startswith(OPAQUE_PREFIX) else _read(claim.path)


# --- strays -----------------------------------------------------------------------------------------------------------------


def strays(holder_claims: Iterable[Claim], touched: Iterable[str]) -> tuple[str, ...]:
    """Lists the touched paths that no claim covers, in the order given; none at all where no path is claimed.

    Tokens say nothing about paths, so a task that has only those has claimed none.
    """
    filed: dict[tuple[str, ...], list[_Pattern]] = {}
    for claim in holder_claims:
        pattern = _pattern_of(claim)
        if pattern is not None:
            filed.setdefault(tuple(_leading(pattern)), []).append(pattern)
    if not filed:
        return ()
    return tuple(path for path in touched if not _covered(tuple(fold(path).split("/")), filed))


def unused(held: Iterable[Claim], touched: Sequence[str]) -> tuple[str, ...]:
    """Lists the claimed paths under which nothing was touched; none where that would take too long to find out."""
    claims = [claim for claim in held if _pattern_of(claim) is not None]
    if len(claims) * len(touched) > _LOOKS_MAX:
        return ()
    return tuple(claim.path for claim in claims if len(strays((claim,), touched)) == len(touched))


def _covered(names: tuple[str, ...], filed: dict[tuple[str, ...], list[_Pattern]]) -> bool:
    """Tells whether one of the patterns, filed under their leading names, covers a path."""
    for depth in range(len(names) + 1):
        for pattern in filed.get(names[:depth], ()):
            if pattern.plain or _fits(names, pattern.pieces, _segments_meet):
                return True
    return False

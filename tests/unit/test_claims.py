"""Claims: what a pattern covers, whether two meet, who holds what, and which touched paths strayed."""

from __future__ import annotations

import copy
import itertools
import pickle
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarm.core.claims import (
    ClaimHeld,
    ClaimTable,
    Holding,
    folders,
    literal,
    matches,
    normalise,
    overlap,
    strays,
)
from swarm.core.model import Claim, Mode

# No example database and no deadline: a unit test writes no file and asserts no time.
quietly = settings(database=None, deadline=None, max_examples=100)


def shared(path: str) -> Claim:
    return Claim(path, Mode.SHARED)


# --- a second opinion: the plainest matcher there is, with backtracking --------------------------------------------------


def reference_covers(pattern: str, path: str) -> bool:
    wanted = pattern.split("/")
    if not set("*?") & set(wanted[-1]):
        wanted.append("**")
    return _reference_path(wanted, path.split("/"))


def _reference_path(wanted: list[str], names: list[str]) -> bool:
    if not wanted:
        return not names
    if wanted[0] == "**":
        return any(_reference_path(wanted[1:], names[skip:]) for skip in range(len(names) + 1))
    return bool(names) and _reference_segment(wanted[0], names[0]) and _reference_path(wanted[1:], names[1:])


def _reference_segment(wanted: str, name: str) -> bool:
    parts = re.findall(r"\[[^]]+\]|.", wanted)
    forms = {"*": ".*", "?": "."}
    regex = "".join(
        forms.get(part, part.replace("[!", "[^") if len(part) > 1 else re.escape(part)) for part in parts
    )
    return re.fullmatch(regex, name) is not None or name == wanted


PLACES = ["a", "b", "*", "?", "[ab]", "[!a]"]
segments = st.lists(st.sampled_from(PLACES), min_size=1, max_size=4).map("".join)
segments = segments.filter(lambda text: "**" not in text)
trails = st.lists(st.sampled_from(["a", "b", "*", "**", "[ab]"]), min_size=1, max_size=3).map("/".join)

# Long enough to hold a witness for any two patterns above: the longer beginning, both middles, the longer end.
NAMES = ["".join(word) for length in range(1, 7) for word in itertools.product("abc", repeat=length)]
PATHS = ["/".join(word) for length in range(1, 6) for word in itertools.product("abc", repeat=length)]
SOME_PATHS = [*PATHS, "ab/c", "c/ab", "ab/ba", "a/ab/c"]


class TestWhatAPatternCovers:
    @pytest.mark.parametrize(
        ("pattern", "path", "expected"),
        [
            ("src", "src", True),
            ("src", "src/deep/a.py", True),
            ("src", "src2/a.py", False),
            ("src/**", "src", True),
            ("src/**", "src/a.py", True),
            ("src/*", "src/a.py", True),
            ("src/*", "src/deep/a.py", False),
            ("src/*", "src", False),
            ("*.py", "a.py", True),
            ("*.py", "src/a.py", False),
            ("**/*.py", "a.py", True),
            ("**/*.py", "src/deep/a.py", True),
            ("packages/*/tests", "packages/one/tests/test_a.py", True),
            ("a/**/b/*.c", "a/b/x.c", True),
            ("a/**/b/*.c", "a/q/b/b/x.c", True),
            ("a/**/b/*.c", "a/q/x.c", False),
            ("src/a.py", "SRC/A.py", True),
            ("src/[A-C].py", "src/b.py", True),
            ("src/[A-C].py", "src/a.py", True),
            ("src/[A-C].py", "src/d.py", False),
            ("*a*a", "a", False),
            ("*ab*b", "xab", False),
            ("*ab*b", "xabb", True),
            ("a*b*?", "ab", False),
            ("src/[!a-c].py", "src/B.py", False),
            ("src/[^a-c].py", "src/d.py", True),
            ("x[]]y", "x]y", True),
            ("x[a\\-c]y", "xby", False),
            ("half[open", "half[open", True),
            ("nothing[z-a]", "nothingm", False),
            ("nothing[z-a]", "nothing[z-a]", True),
            ("caf\u00e9.md", "CAFE\u0301.md", True),
            ("[à-é].md", "É.md", True),
            ("\\*.md", "*.md", True),
            ("\\*.md", "a.md", False),
            ("a\\[*", "a[b", True),
            ("[\\!a]", "!", True),
            ("app/[id]/page.tsx", "app/[id]/page.tsx", True),
            ("app/[id]/page.tsx", "app/i/page.tsx", True),
            ("app/[...all]", "app/[...all]/page.tsx", True),
            ("**", "anything/at/all", True),
            ("\0phase:1", "\0phase:1", False),
        ],
    )
    def test_examples(self, pattern: str, path: str, expected: bool) -> None:
        """Folders hold all below them, a wildcard stays in its segment, `**` crosses them, and case does not count."""
        assert matches(pattern, path) is expected

    @quietly
    @given(st.one_of(trails, segments))
    def test_agrees_with_backtracking(self, pattern: str) -> None:
        """A pattern covers exactly the paths that the plainest backtracking matcher says."""
        candidates = SOME_PATHS + NAMES[:120]
        assert [p for p in candidates if matches(pattern, p)] == [
            p for p in candidates if reference_covers(pattern, p)
        ]

    def test_hostile_patterns_end(self) -> None:
        """A pattern made to send a backtracking matcher round for ever is answered all the same."""
        assert not matches("*a" * 200 + "b", "a" * 2000)
        assert not matches("**/a/" * 200 + "b", "/".join("a" * 1000))

    @quietly
    @given(
        st.lists(st.sampled_from("ab*?[]\\-!/"), min_size=1, max_size=8).map("".join),
        st.sampled_from(SOME_PATHS),
    )
    def test_literal_covers_its_path_alone(self, path: str, other: str) -> None:
        """The escaped form of a path covers that path, and none beside it or above it."""
        path = "/".join(segment for segment in path.split("/") if segment) or "a"
        assert matches(literal(path), path)
        assert matches(literal(path), other) == f"{other}/".startswith(f"{path}/")


class TestWhetherTwoMeet:
    @pytest.mark.parametrize(
        ("a", "b", "expected"),
        [
            ("src/*", "src/a.py", True),
            ("src/**", "src", True),
            ("src", "src/deep/a.py", True),
            ("A.py", "a.py", True),
            ("*.py", "src/a.py", False),
            ("*.py", "*.js", False),
            ("a*", "*b", True),
            ("**/*.py", "src/**", True),
            ("**/a/x", "b/**/y", True),
            ("src/*/a", "src/b/*", True),
            ("src/[a-m]*", "src/[n-z]*", False),
            ("src/*", "src/deep/a.py", False),
            ("src/*.py", "src/*.py/x", False),
            ("[A-Z]x", "[a-z]x", True),
            ("[!a]", "[!b-z]", True),
            ("[!a]", "[a]", False),
            ("app/[id]", "app/[id]/page.tsx", True),
            ("app/[id]", "app/[xy]", False),
            ("\0one", "\0one", True),
            ("\0one", "\0two", False),
            ("\0one", "**", False),
        ],
    )
    def test_examples(self, a: str, b: str, expected: bool) -> None:
        """Two patterns meet when there can be a path that both cover, whichever is asked first."""
        assert overlap(a, b) is expected
        assert overlap(b, a) is expected

    @quietly
    @given(segments, segments)
    def test_within_a_segment(self, a: str, b: str) -> None:
        """Two one-segment patterns meet exactly when trying every short name finds one that both cover."""
        a, b = f"{a}/c/*", f"{b}/c/*"  # what is below does not come into it
        names = [
            name for name in NAMES if _reference_segment(a[:-4], name) and _reference_segment(b[:-4], name)
        ]
        stands = a == b or reference_covers(a, b[:-1] + "x") or reference_covers(b, a[:-1] + "x")
        assert overlap(a, b) == bool(names or stands)

    @quietly
    @given(trails, trails)
    def test_across_segments(self, a: str, b: str) -> None:
        """Two patterns meet exactly when trying every short path finds one that both cover."""
        assert overlap(a, b) == any(
            reference_covers(a, path) and reference_covers(b, path) for path in SOME_PATHS
        )


class TestSpelling:
    @pytest.mark.parametrize(
        ("written", "normal"),
        [
            ("a", "a"),
            ("./a", "a"),
            ("a//b", "a/b"),
            ("src/", "src/**"),
            ("src/**/", "src/**"),
            ("src/.", "src/**"),
            (".", "**"),
            ("./", "**"),
            ("a/./b", "a/b"),
            ("a/../b", "b"),
            ("a/**/**/b", "a/**/b"),
            ("Src/A.py", "Src/A.py"),
            ("cafe\u0301", "caf\u00e9"),
            (".github/workflows", ".github/workflows"),
            (".gitignore", ".gitignore"),
            ("a\\*b", "a\\*b"),
        ],
    )
    def test_one_spelling(self, written: str, normal: str) -> None:
        """What means the same is written the same, and writing it again changes nothing."""
        assert normalise(written) == normal
        assert normalise(normal) == normal

    @pytest.mark.parametrize(
        ("written", "reason"),
        [
            ("", "empty"),
            ("  ", "empty"),
            ("/etc/passwd", "absolute"),
            ("..", "leaves the repository"),
            ("a/../../b", "leaves the repository"),
            ("*/../b", "after a wildcard"),
            (".git", "into .git"),
            (".GIT/hooks", "into .git"),
            ("sub/.Git/config", "into .git"),
            ("x/../.git", "into .git"),
            ("a\0b", "NUL"),
            ("\0phase", "NUL"),
            ("a\nb", "line break"),
            ("src\\a.py", "backslash"),
            ("src\\", "backslash"),
            ("a" * 4097, "longer than 4096 bytes"),
        ],
    )
    def test_refused(self, written: str, reason: str) -> None:
        """What is no path inside the repository is refused with the reason."""
        with pytest.raises(ValueError, match=re.escape(reason)):
            normalise(written)


class TestWhoHoldsWhat:
    def test_one_of_fifty_wins(self) -> None:
        """Of fifty that ask for the same file, in whatever order, exactly one gets it."""
        table: ClaimTable[int] = ClaimTable()
        claimers = list(range(50))
        random.Random(38).shuffle(claimers)
        winners = []
        for claimer in claimers:
            try:
                table.take(claimer, [Claim("src/a.py")])
                winners.append(claimer)
            except ClaimHeld:
                continue
        assert winners == claimers[:1]
        assert list(table.held()) == [Holding(winners[0], Claim("src/a.py"))]

    def test_all_or_nothing(self) -> None:
        """A refused claimer has none of what it asked for, and the table is as before."""
        table: ClaimTable[str] = ClaimTable()
        table.take("a", [Claim("docs/**")])
        with pytest.raises(ClaimHeld, match=re.escape("docs/** is held by a")):
            table.take("b", [Claim("src/b.py"), Claim("docs/x.md")])
        assert table.of("b") == ()
        assert list(table.held()) == [Holding("a", Claim("docs/**"))]
        table.take("c", [Claim("src/b.py")])

    def test_shared(self) -> None:
        """Those who share a file do not stop each other, and stop one who wants it alone; he stops them."""
        table: ClaimTable[str] = ClaimTable()
        table.take("a", [shared("CHANGELOG.md")])
        table.take("b", [shared("*.md")])
        assert table.conflicts([Claim("CHANGELOG.md")], "c") == (
            Holding("a", shared("CHANGELOG.md")),
            Holding("b", shared("*.md")),
        )
        table.release("a")
        table.release("b")
        table.take("c", [Claim("CHANGELOG.md")])
        assert table.first_conflict([shared("CHANGELOG.md")], "a") == Holding("c", Claim("CHANGELOG.md"))

    def test_tokens(self) -> None:
        """A token stops its equal and nothing else, and is free again after its release."""
        table: ClaimTable[str] = ClaimTable()
        table.take("a", [Claim("\0phase:1")])
        assert table.first_conflict([Claim("\0phase:2"), Claim("**")], "b") is None
        assert table.first_conflict([Claim("\0phase:1")], "b") == Holding("a", Claim("\0phase:1"))
        assert table.release("a") == (Claim("\0phase:1"),)
        table.take("b", [Claim("\0phase:1")])

    def test_own_claims(self) -> None:
        """Nobody stands in his own way, and taking twice is taking once."""
        table: ClaimTable[str] = ClaimTable()
        table.take("a", [Claim("src/**"), Claim("src/a.py")])
        table.extend("a", [Claim("src/*"), Claim("src/**")])
        assert table.of("a") == (Claim("src/**"), Claim("src/a.py"), Claim("src/*"))
        assert table.conflicts([Claim("**")], "a") == ()

    def test_refused_extension_keeps_what_was_held(self) -> None:
        """A holder that strays onto another's file keeps exactly what it had."""
        table: ClaimTable[str] = ClaimTable()
        table.take("a", [Claim("a")])
        table.take("b", [Claim("b")])
        with pytest.raises(ClaimHeld):
            table.extend("a", [Claim("c"), Claim("b/x")])
        assert table.of("a") == (Claim("a"),)

    def test_longest_held_first(self) -> None:
        """Who is named as the holder is the one who took first, wherever it is filed."""
        table: ClaimTable[str] = ClaimTable()
        table.take("late-name", [Claim("src/z/deep.py")])
        table.take("second", [Claim("src/*.py")])
        table.take("third", [Claim("src/a/b.py")])
        wanted = [Claim("free"), Claim("src")]
        assert [one.holder for one in table.conflicts(wanted, "me")] == ["late-name", "second", "third"]
        assert table.first_conflict(wanted, "me") == Holding("late-name", Claim("src/z/deep.py"))

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda table: pickle.loads(pickle.dumps(table))])
    def test_copies(self, copied: object) -> None:
        """A copy holds the same in the same order, and what happens to it does not touch the first."""
        assert callable(copied)
        table: ClaimTable[str] = ClaimTable()
        empty = copied(table)
        empty.take("z", [Claim("z")])
        table.take("a", [Claim("/".join("d" * 1500))])
        table.take("b", [shared("b"), Claim("\0t")])
        other = copied(table)
        assert list(other.held()) == list(table.held())
        other.release("a")
        assert table.of("a") != ()
        assert list(empty.held()) == [Holding("z", Claim("z"))]

    def test_nothing_is_left_behind(self) -> None:
        """A table from which all has been released is as small as a new one."""
        table: ClaimTable[int] = ClaimTable()
        fresh = len(pickle.dumps(_insides(ClaimTable())))
        for holder in range(100):
            table.take(holder, [Claim(f"src/{holder}/x/*.py"), shared("log"), Claim(f"\0{holder}")])
        for holder in range(100):
            table.release(holder)
        assert len(pickle.dumps(_insides(table))) <= fresh + 8  # the counter has grown


def _insides(table: ClaimTable[int]) -> object:
    return [vars(index) for index in table._indexes.values()], table._filed, table._holders, table._next_order


PATTERNS = [
    "a",
    "a/b",
    "a/b/c",
    "a/*",
    "a/**",
    "*",
    "**",
    "*/b",
    "**/b",
    "a/**/c",
    "b",
    "b/a",
    "A/B",
    "b/[ab]",
    "b/?",
    "\0a",
    "\0b",
]
claims = st.builds(Claim, st.sampled_from(PATTERNS), st.sampled_from(Mode))
wishes = st.lists(claims, max_size=3)
holders = st.integers(1, 6)


class TableAgainstAList(RuleBasedStateMachine):
    """The indexed table, beside a list that is searched pair by pair."""

    def __init__(self) -> None:
        super().__init__()
        self.table: ClaimTable[int] = ClaimTable()
        self.list: list[Holding[int]] = []

    def stopping(self, claim: Claim, holder: int) -> list[Holding[int]]:
        return [
            one
            for one in self.list
            if one.holder != holder
            and Mode.EXCLUSIVE in (one.claim.mode, claim.mode)
            and overlap(one.claim.path, claim.path)
        ]

    @rule(holder=holders, wanted=wishes)
    def take(self, holder: int, wanted: list[Claim]) -> None:
        stopped = [held for claim in wanted for held in self.stopping(claim, holder)[:1]]
        assert self.table.first_conflict(wanted, holder) == (stopped[0] if stopped else None)
        if stopped:
            with pytest.raises(ClaimHeld) as refusal:
                self.table.take(holder, wanted)
            assert refusal.value.holding == stopped[0]
            return
        self.table.take(holder, wanted)
        self.list += [
            one for one in dict.fromkeys(Holding(holder, claim) for claim in wanted) if one not in self.list
        ]

    @rule(holder=holders)
    def release(self, holder: int) -> None:
        mine = tuple(one.claim for one in self.list if one.holder == holder)
        assert self.table.release(holder) == mine
        self.list = [one for one in self.list if one.holder != holder]

    @rule(holder=holders, wanted=wishes)
    def ask(self, holder: int, wanted: list[Claim]) -> None:
        stopping = {one for claim in wanted for one in self.stopping(claim, holder)}
        assert self.table.conflicts(wanted, holder) == tuple(one for one in self.list if one in stopping)

    @invariant()
    def same_holdings_in_same_order(self) -> None:
        assert list(self.table.held()) == self.list


TableAgainstAList.TestCase.settings = settings(
    database=None, deadline=None, max_examples=30, stateful_step_count=30
)
TestTableAgainstAList = TableAgainstAList.TestCase


class TestStrays:
    def test_outside_is_named_in_order(self) -> None:
        """What no claim covers is named, in the order given; deleted folders' files and case twins are covered."""
        mine = [Claim("src/header/**"), shared("CHANGELOG.md"), Claim("tests/*.py"), Claim("\0phase")]
        touched = [
            "src/header/deep/a.py",
            "SRC/header/b.py",
            "z.txt",
            "changelog.md",
            "tests/t.py",
            "tests/data/x",
            "a.txt",
        ]
        assert strays(mine, touched) == ("z.txt", "tests/data/x", "a.txt")

    def test_no_claims_no_strays(self) -> None:
        """A task that has claimed no path has no strays, a token or not."""
        assert strays([], ["a"]) == ()
        assert strays([Claim("\0phase:1")], ["a"]) == ()

    @quietly
    @given(st.lists(st.one_of(trails, segments), min_size=1, max_size=4))
    def test_agrees_with_matches(self, patterns: list[str]) -> None:
        """A path is a stray exactly when none of the patterns covers it."""
        expected = tuple(
            path for path in SOME_PATHS if not any(matches(pattern, path) for pattern in patterns)
        )
        assert strays(map(Claim, patterns), SOME_PATHS) == expected


@pytest.mark.parametrize(
    ("pattern", "above"),
    [
        ("a", ()),
        ("a/b", ("a",)),
        ("a/**", ("a",)),
        ("A/b/*.c", ("A", "b")),
        ("a/b*/c/d", ("a",)),
        ("**/b/c", ()),
        ("a\\[1\\]/b", ("a[1]",)),
        ("a[12]/b", ()),
    ],
)
def test_the_folders_above_all_that_a_pattern_covers(pattern: str, above: tuple[str, ...]) -> None:
    """As they are written on the disk, up to the first wildcard."""
    assert folders(normalise(pattern)) == above

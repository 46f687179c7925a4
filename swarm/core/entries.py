"""What may not come in with an attempt's work: names that are git's own, links out of the tree, twins, and what is too large.

Git lets most of these in. Here they can be harmless and elsewhere not: on a disk that does not tell case apart the second of two
twins takes the place of the first, a link leads a program that follows it out of the checkout, and what is large stays in the
history for ever. Judged is only what the attempt itself brings; what its base had already is nobody's fault.

Rules for editing: pure, no look at files. Whatever is refused is told with the path and why, in words for whoever does the work
again. What git itself judges (broken objects, addresses of submodules) is not judged again here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from swarm.core.claims import fold
from swarm.dataclass import dataclass

Verdict = Literal["allow", "warn", "reject"]
WARN: Final = "warn"
REJECT: Final = "reject"
TARGET_MAX_BYTES = 4096  # PATH_MAX on Linux: a longer link can be made nowhere
TOLD = 5
SETTINGS = "swarm.toml"
COMMANDS = (
    "holds swarm's settings, with commands that run as you: [deploy], [hooks], [agents], worktrees.setup"
)
_IGNORED_ON_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_DOT_GIT = frozenset({".git", "git~1"})  # the second is how Windows may abbreviate the first


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of what is found, by kind: `allow`, `warn` or `reject`; how large what comes in may be, 0 for any size; and the
    folder in the repository where worktrees lie, "" where they lie outside: a checkout would put what has landed into them."""

    links: Verdict = REJECT
    twins: Verdict = REJECT
    attributes: Verdict = WARN
    submodules: Verdict = WARN
    settings: Verdict = WARN
    file_bytes_max: int = 100_000_000
    added_bytes_max: int = 1_000_000_000
    worktrees: str = ""


class Entry(NamedTuple):
    """A path that an attempt changed. `size` is that of content which it brings, `size_before` that of what was there; `target` is
    where a link leads, None for anything else; `passing` was in one of its commits and is not in the last."""

    path: str
    size: int = 0
    size_before: int = 0
    target: str | None = None
    passing: bool = False


class Judgement(NamedTuple):
    """What must not come in, and what comes in and is told, each as a sentence's part."""

    refused: tuple[str, ...] = ()
    noticed: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Says why the work can't be submitted; "" where it can."""
        if not self.refused:
            return ""
        more = f"; and {len(self.refused) - TOLD} more" if len(self.refused) > TOLD else ""
        return f"What it changed must not come in: {'; '.join(self.refused[:TOLD])}{more}."


def judge(entries: Iterable[Entry], twins: Iterable[tuple[str, str]], policy: Policy) -> Judgement:
    """Judges what an attempt changed, and the pairs of names, one of them new, that differ in case alone."""
    refused: list[str] = []
    noticed: list[str] = []
    into: dict[Verdict, list[str]] = {REJECT: refused, WARN: noticed}
    added = 0
    for entry in entries:
        added += entry.size
        refused += (*_of_git(entry.path), *_of_worktrees(entry.path, policy), *_too_large(entry, policy))
        for told, said in _by_policy(entry, policy):
            if said in into:
                into[said].append(told)
    if 0 < policy.added_bytes_max < added:
        refused.append(
            f"it adds {_megabytes(added)} in all, and {_megabytes(policy.added_bytes_max)} may come in with one attempt"
        )
    if policy.twins in into:
        into[policy.twins].extend(map(of_twins, twins))
    return Judgement(tuple(dict.fromkeys(refused)), tuple(dict.fromkeys(noticed)))


def _of_git(path: str) -> Iterator[str]:
    if any(is_dot_git(name) for name in path.split("/")):
        yield f"{path} has a name that is, or on some machines becomes, that of git's own folder"


def _of_worktrees(path: str, policy: Policy) -> Iterator[str]:
    mine, there = fold(path) + "/", fold(policy.worktrees) + "/"
    if policy.worktrees and (mine.startswith(there) or there.startswith(mine)):
        yield f"{path} is in the place of worktrees, {policy.worktrees}"


def is_dot_git(name: str) -> bool:
    """Tells whether some file system takes a name for `.git`: by letter case, by characters or endings that it does not see."""
    seen = _IGNORED_ON_HFS.sub("", name).lower()
    return any(part.partition(":")[0].rstrip(" .") in _DOT_GIT for part in seen.split("\\"))


def _too_large(entry: Entry, policy: Policy) -> Iterator[str]:
    most = policy.file_bytes_max
    if most and entry.size > most >= entry.size_before:
        yield f"{entry.path} has {_megabytes(entry.size)}, and a file of {_megabytes(most)} is the largest that may come in"


def _by_policy(entry: Entry, policy: Policy) -> Iterator[tuple[str, Verdict]]:
    """Yields what is worth telling of an entry, each with what is to become of it."""
    if entry.passing:
        return
    if entry.target is not None and (where := _leads(entry.path, entry.target)):
        yield f"{entry.path} is a link {where}", policy.links
    name = _IGNORED_ON_HFS.sub("", posixpath.basename(entry.path)).lower()
    if name == ".gitattributes":
        yield f"{entry.path} says how git treats files", policy.attributes
    if name == ".gitmodules" and "/" not in entry.path:
        yield f"{entry.path} says where other repositories come from", policy.submodules
    if brings_settings([entry.path]):
        yield f"{entry.path} {COMMANDS}", policy.settings


def brings_settings(paths: Iterable[str]) -> str:
    """Names of these paths the one at which swarm's settings are read; "" where none is, also on a disk that sees no case."""
    return next((path for path in paths if fold(path) == SETTINGS), "")


def _leads(path: str, target: str) -> str:
    """Says where a link leads that does not stay among the files of the tree; "" for one that does."""
    if len(target) > TARGET_MAX_BYTES:
        return "to a name that is too long"
    if target.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", target):
        return f"to a place of one machine, {target}"
    place = posixpath.dirname(path).split("/") if "/" in path else []
    for part in target.split("/"):
        if part == "..":
            if not place:
                return f"out of the tree, to {target}"
            place.pop()
        elif is_dot_git(part):
            return f"into git's own folder, to {target}"
        elif part not in ("", "."):
            place.append(part)
    return ""


# --- names that differ in case alone --------------------------------------------------------------------------


def twins(added: Iterable[str], names: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yields the pairs of paths that differ in case alone, or in how accents are written, of which one was added; `names` are all
    that there are in the folders where something was."""
    folded: dict[str, dict[str, list[str]]] = {}
    told: set[tuple[str, str]] = set()
    for path in added:
        folder, _, name = path.rpartition("/")
        if folder not in folded:
            known = folded[folder] = {}
            for each in names.get(folder, ()):
                known.setdefault(fold(each), []).append(each)
        for other in folded[folder].get(fold(name), ()):
            one, two = sorted((path, f"{folder}/{other}" if folder else other))
            if one != two and (one, two) not in told:
                told.add((one, two))
                yield one, two


def of_twins(pair: tuple[str, str]) -> str:
    """Says of two paths that they are twins."""
    return f"{pair[0]} and {pair[1]} differ in case alone, and on some machines are one file"


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB".replace(".0 MB", " MB")

"""Who comes from whom on the staging lines, remembered so that no question about it walks history.

Hides an index that can always be built again from git. Rules for editing: it only ever answers what is certain; "not known" is
an answer, and costs the caller a slower way, never a wrong one. Several threads ask, read lines from git and land meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import field

from swarm.dataclass import dataclass

CANDIDATES_MAX = 1000
STEPS_MAX = 64


@dataclass(slots=True)
class Line:
    """What is known of the staging line of one run: from its base on, without a gap, and perhaps not up to where staging stands.

    `reading` is held by whoever reads it on from git, so that others wait for what they need too; nobody who lands does.
    """

    reading: threading.Lock = field(default_factory=threading.Lock)
    place: dict[str, int] = field(default_factory=dict)
    come_in: set[str] = field(default_factory=set)
    tip: str = ""


class Lineage:
    """The landed commits of each run in order, the candidates built on them, and the commits that came in with them. Thread-safe.

    A line only ever grows at its end, by what is known to follow there. So whoever comes too late, with less than is known or with
    what does not join on, changes nothing, and what they missed is read when it is asked for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # never held while git runs
        self._lines: dict[str, Line] = {}
        self._runs_of: dict[str, str] = {}
        self._onto: OrderedDict[str, str] = OrderedDict()

    def line(self, run: str) -> Line:
        """Gives the line of `run`, to be read on: before anything is read for it. What is read of a run that is forgotten meanwhile
        then goes with it."""
        with self._lock:
            return self._lines.setdefault(run, Line())

    def found(self, run: str, line: Line, base: str) -> None:
        """Has a line of which nothing is known begin at `base`."""
        with self._lock:
            if not line.place:
                self._add(run, line, base)

    def add_candidate(self, candidate: str, onto: str) -> None:
        """Remembers what a candidate was built on."""
        with self._lock:
            self._onto[candidate] = onto
            while len(self._onto) > CANDIDATES_MAX:
                self._onto.popitem(last=False)

    def lengthen(
        self, run: str, line: Line, onto: str, commits: Iterable[str], come_in: Iterable[str]
    ) -> None:
        """Lengthens a line by `commits`, the landings that follow `onto`, oldest first, with what came in through them.

        One that is on it already keeps its place: two may find the same, and an advance is repeated after a crash.
        """
        with self._lock:
            if onto in line.place:
                line.come_in.update(come_in)
                for commit in commits:
                    if commit not in line.place:
                        self._add(run, line, commit)

    def _add(self, run: str, line: Line, commit: str) -> None:
        line.place[commit] = len(line.place)
        line.tip = commit
        if self._lines.get(run) is line:
            self._runs_of[commit] = run

    def forget(self, run: str) -> None:
        """Drops the line of `run`; it is read again when it is asked for."""
        with self._lock:
            gone = self._lines.pop(run, Line()).place
            for commit in (each for each in gone if self._runs_of[each] == run):
                del self._runs_of[commit]
                self._runs_of.update(
                    (commit, other) for other, line in self._lines.items() if commit in line.place
                )

    def landed(self, commit: str) -> bool:
        """Tells whether `commit` is known to be on any line, its base included."""
        return commit in self._runs_of

    def place(self, run: str, commit: str) -> int | None:
        """Gives how many landings below `commit` there are on the line of `run`, or None where it is not known to be on it."""
        line = self._lines.get(run)
        return line.place.get(commit) if line is not None else None

    def is_below(self, run: str, base: str, onto: str) -> bool:
        """Tells whether `base` is on the line of `run` and `onto` is built on it or on something after it; False: not known."""
        base_at = self.place(run, base)
        if base_at is None:
            return False
        for _ in range(STEPS_MAX):
            onto_at = self.place(run, onto)
            if onto_at is not None:
                return base_at <= onto_at
            below = self._onto.get(onto)
            if below is None:
                return False
            onto = below
        return False

    def came_in(self, run: str, commit: str) -> bool:
        """Tells whether `commit` is known to have been merged into the line of `run`."""
        line = self._lines.get(run)
        return line is not None and commit in line.come_in

"""Who comes from whom on the staging lines, remembered so that no question about it walks history.

Hides an index that can always be built again from git. Rules for editing: it only ever answers what is certain; "not known" is
an answer, and costs the caller a slower way, never a wrong one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

CANDIDATES_MAX = 1000
STEPS_MAX = 64


class Lineage:
    """The landed commits of each run in order, the candidates built on them, and the commits that came in with them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._place: dict[str, dict[str, int]] = {}
        self._come_in: dict[str, set[str]] = {}
        self._runs_of: dict[str, str] = {}
        self._onto: OrderedDict[str, str] = OrderedDict()

    def is_loaded(self, run: str) -> bool:
        """Tells whether the line of `run` is known."""
        return run in self._place

    def load(self, run: str, line: Iterable[str], come_in: Iterable[str]) -> None:
        """Takes the line of `run`, from its base on, and all commits that were merged into it."""
        with self._lock:
            place = {commit: at for at, commit in enumerate(line)}
            self._place[run] = place
            self._come_in[run] = set(come_in)
            self._runs_of.update(dict.fromkeys(place, run))

    def add_candidate(self, candidate: str, onto: str) -> None:
        """Remembers what a candidate was built on."""
        with self._lock:
            self._onto[candidate] = onto
            while len(self._onto) > CANDIDATES_MAX:
                self._onto.popitem(last=False)

    def advance(self, run: str, commits: Iterable[str], come_in: Iterable[str]) -> None:
        """Lengthens the line of `run` by `commits`, oldest first, with what came in through them.

        One that is on it already keeps its place: an advance is repeated after a crash, when the line was read with it.
        """
        with self._lock:
            place = self._place.get(run)
            if place is None:
                return
            for commit in commits:
                place.setdefault(commit, len(place))
                self._runs_of[commit] = run
            self._come_in[run].update(come_in)

    def forget(self, run: str) -> None:
        """Drops the line of `run`; it is loaded again when it is asked for."""
        with self._lock:
            gone = self._place.pop(run, {})
            self._come_in.pop(run, None)
            for commit in (each for each in gone if self._runs_of[each] == run):
                del self._runs_of[commit]
                self._runs_of.update(
                    (commit, other) for other, place in self._place.items() if commit in place
                )

    def landed(self, commit: str) -> bool:
        """Tells whether `commit` is on any line, its base included."""
        run = self._runs_of.get(commit)
        return run is not None and commit in self._place.get(run, ())

    def place(self, run: str, commit: str) -> int | None:
        """Gives how many landings below `commit` there are on the line of `run`, or None where it is not on it."""
        return self._place.get(run, {}).get(commit)

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
        """Tells whether `commit` was merged into the line of `run`."""
        return commit in self._come_in.get(run, ())

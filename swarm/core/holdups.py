"""What each task waited for before it started: its needs, a pause, its agent, a path that another one held, its turn, a slot.

The journal says when a task came in and when it started, and who held which claims from when to when; why it did not start before
follows from that. Where several things held it up at once the time counts for the first of them in this order: needs, no daemon, a
pause, the time that its own worker asked for, its agent, a claim, its turn, a slot while all of them were taken. What is left it
waited for admission: a look at the machine, load, the pace of starts, or a task that goes first. What many take one after the other
is taken all along, so that a wait has few parts; but what is free when a wait begins is so until another task takes it, for else
whoever had it before would wait for itself.

Rules for editing: pure. Time is divided and never counted twice: the parts of a task's time add up to it. Nothing here compares all
tasks with each other: what overlaps is asked of the index of claims, once for each different claim.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from swarm.core.chronicle import NEVER, NOBODY, Cause, Chronicle, Course, Kind, Stretch, Try
from swarm.core.claims import OPAQUE_PREFIX, ClaimTable
from swarm.core.model import Claim, Mode

OVERLAPS_MAX = 1_000  # different claims that one is held against
# What is let go, a claim or the last free slot, for a shorter part of the run than one of so many was taken by the next at once.
GAPS_MAX = 100

Span = tuple[float, float]
_Met = tuple[float, Cause]  # when a need was met, and by what; infinitely late where it never was
_BEGINNING: _Met = (0.0, NOBODY)
_UNMET: _Met = (float("inf"), NOBODY)


class _Hold(NamedTuple):
    begin: float
    end: float
    task: str
    seq: int
    mode: Mode


class _Taken(NamedTuple):
    """When something could not be had, `exact` and with short gaps closed: both in order and apart."""

    exact: Sequence[Span]
    closed: Sequence[Span]

    def since(self, begin: float) -> float:
        """Says from when on it was taken by others, for a task that has nothing of it and waits from `begin` on."""
        place = bisect_right(self.exact, (begin, float("inf")))
        if place and self.exact[place - 1][1] > begin:
            return begin
        return self.exact[place][0] if place < len(self.exact) else float("inf")


class _Busy(NamedTuple):
    """When a claim could not be taken, and who held it, in the order in which they let it go."""

    taken: _Taken
    holds: Sequence[_Hold]
    ends: Sequence[float]


class _Held(NamedTuple):
    """What may hold a task up: when it did, but not before `since`; `claim` is what it waited for then."""

    kind: str
    spans: Sequence[Span]
    since: float = 0.0
    claim: Claim | None = None


class Holdups:
    """Divides the time of a run's tasks, up to `now` in the run's time."""

    def __init__(self, chronicle: Chronicle, now: float) -> None:
        self._chronicle = chronicle
        self._now = now
        self._stopped = chronicle.stopped.until(now)
        self._paused = _merged([*chronicle.paused.until(now), *chronicle.run_paused.until(now)])
        self._held = {agent: spans.until(now) for agent, spans in chronicle.held.items()}
        self._full = self._taken(_merged(chronicle.house.full.until(now)))
        self._in_phase: dict[str, list[Course]] = {}
        for course in chronicle.courses.values():
            self._in_phase.setdefault(course.phase, []).append(course)
        self._entries: dict[str, _Met] = {}
        self._exits: dict[str, _Met] = {}
        self._busy: dict[Claim, _Busy] = {}
        self._holds: dict[str, list[_Hold]] = {}
        self._table: ClaimTable[str] = ClaimTable()
        for course in chronicle.courses.values():
            self._file(course)

    def of(self, course: Course) -> list[Stretch]:
        """Gives where a task stood, from when it came in until it ended or until now, each wait by what it was for."""
        found: list[Stretch] = []
        for number, stretch in enumerate(course.stretches(self._now)):
            if stretch.kind is Kind.READY:
                found += self._divided(course, stretch, first=not number)
            elif stretch.took > 0:
                found.append(stretch)
        return found

    def _divided(self, course: Course, stretch: Stretch, *, first: bool) -> list[Stretch]:
        begin, end = stretch.begin, stretch.end
        parts: list[Stretch] = []
        if first and end > begin:
            met, cause = self._free(course)
            if met > begin:
                begin = min(met, end)
                in_time = met <= end and cause.seq
                last = (cause.seq, cause) if in_time else (stretch.seq, NOBODY)
                parts.append(Stretch(Kind.NEEDS, stretch.begin, begin, *last))
        free = [(begin, end)] if end > begin else []
        for held in self._causes(course, begin) if free else ():
            taken, free = _cut(free, held.spans, held.since)
            parts += [self._part(stretch, held, span) for span in taken]
        parts += [Stretch(Kind.ADMISSION, *span, stretch.seq) for span in free]
        return sorted(parts, key=lambda part: part.begin)

    def _part(self, stretch: Stretch, why: _Held, span: Span) -> Stretch:
        kind, claim = why.kind, why.claim
        if kind is Kind.SLOT:
            freed_by = self._chronicle.house.freed.get(span[1], NOBODY)
            cause = stretch.cause if span[1] == stretch.end and stretch.cause.at > span[0] else freed_by
            return Stretch(kind, *span, stretch.seq, cause)
        if claim is None:
            return Stretch(kind, *span, stretch.seq)
        busy = self._busy[claim]
        freed = bisect_right(busy.ends, span[1])  # so many had let it go by then
        if freed and busy.ends[freed - 1] > span[0] and stretch.seq < NEVER:
            held = busy.holds[freed - 1]
            return Stretch(kind, *span, stretch.seq, Cause(held.task, held.seq, held.end), claim.path)
        held = busy.holds[min(freed, len(busy.holds) - 1)]
        return Stretch(kind, *span, stretch.seq, Cause(held.task), claim.path)

    # --- needs ------------------------------------------------------------------------------------------------------------

    def _free(self, course: Course) -> _Met:
        """Says when the last of what a task needs was there, and what that was."""
        needs = (self._good(need) for need in course.needs)
        return max(
            (*needs, *(self._gate(phase)[1] for phase in course.phase_needs), self._gate(course.phase)[0])
        )

    def _good(self, need: str) -> _Met:
        course = self._chronicle.courses.get(need)
        if course is None or course.finished:
            return _BEGINNING
        return (
            _UNMET
            if course.good_at is None
            else (course.good_at, Cause(need, course.good_seq, course.good_at))
        )

    def _gate(self, phase: str) -> tuple[_Met, _Met]:
        """Says when a phase could begin and when all of it had landed. Not by recursion: a chain of phases may be long."""
        todo = [phase]
        while todo:
            name = todo[-1]
            spec = self._chronicle.phases.get(name)
            above = [
                each for each in (spec.phase_needs if spec is not None else ()) if each not in self._exits
            ]
            if name not in self._exits and above and not set(above) & set(todo):
                todo += above
                continue
            todo.pop()
            if name in self._exits:
                continue
            entry = _BEGINNING
            if spec is not None:
                exits = (self._exits.get(each, _BEGINNING) for each in spec.phase_needs)
                entry = max((entry, *(self._good(need) for need in spec.needs), *exits))
            members = (self._good(course.id) for course in self._in_phase.get(name, ()))
            self._entries[name], self._exits[name] = entry, max((entry, *members))
        return self._entries[phase], self._exits[phase]

    # --- what else --------------------------------------------------------------------------------------------------------

    def _causes(self, course: Course, begin: float) -> Iterator[_Held]:
        """Gives what may have held a task up that waits since `begin`, the most certain first."""
        yield _Held(Kind.STOPPED, self._stopped)
        yield _Held(Kind.PAUSED, self._paused)
        yield _Held(Kind.PAUSED, course.paused.until(self._now))
        yield _Held(Kind.LATER, course.later)
        yield _Held(Kind.AGENT, self._held.get(course.tries[0].agent if course.tries else course.agent, ()))
        if not any(each.keeps and each.end is not None and each.end >= begin for each in course.tries):
            claims = self._chronicle.wanted(course)
            turns = [claim for claim in claims if claim.path.startswith(OPAQUE_PREFIX)]
            for kind, wanted in ((Kind.CLAIM, claims[: len(claims) - len(turns)]), (Kind.TURN, turns)):
                for claim in wanted:
                    taken = self._busy_with(claim).taken
                    yield _Held(kind, taken.closed, taken.since(begin), claim)
        yield _Held(Kind.SLOT, self._full.closed, self._full.since(begin))

    def _file(self, course: Course) -> None:
        """Notes what a task held, and from when to when."""
        followers: list[Try | None] = [*course.tries[1:], None]
        for attempt, following in zip(course.tries, followers, strict=bool(course.tries)):
            if not attempt.worker:
                continue
            end, seq = attempt.end, attempt.end_seq
            if attempt.keeps or end is None:
                end, seq = (following.begin, 0) if following is not None else (self._now, 0)
            for claim in self._chronicle.wanted(course):
                holds = self._holds.get(claim.path)
                if holds is None:
                    holds = self._holds[claim.path] = []
                    if not claim.path.startswith(OPAQUE_PREFIX):
                        self._table.take(claim.path, (Claim(claim.path, Mode.SHARED),))
                holds.append(_Hold(attempt.begin, end, course.id, seq, claim.mode))

    def _busy_with(self, claim: Claim) -> _Busy:
        """Says when a claim could not be taken: what overlaps it was held, and not as shared as it is."""
        if claim not in self._busy:
            paths = [claim.path]
            if not claim.path.startswith(OPAQUE_PREFIX):
                met = islice(self._table.meeting(Claim(claim.path), ""), OVERLAPS_MAX)
                paths = list(dict.fromkeys(each.claim.path for each in met))
            holds = [
                hold
                for path in paths
                for hold in self._holds.get(path, ())
                if not (claim.mode is hold.mode is Mode.SHARED)
            ]
            holds.sort(key=lambda hold: (hold.end, hold.begin))
            taken = self._taken(_merged((hold.begin, hold.end) for hold in holds))
            self._busy[claim] = _Busy(taken, holds, [hold.end for hold in holds])
        return self._busy[claim]

    def _taken(self, exact: Sequence[Span]) -> _Taken:
        return _Taken(exact, _merged(exact, self._now / GAPS_MAX))


def _merged(spans: Iterable[Span], gap: float = 0.0) -> list[Span]:
    """Gives the spans during which any of these goes on, in order; what follows with no larger gap is one."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin - found[-1][1] <= gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif end > begin:
            found.append((begin, end))
    return found


def _cut(free: Sequence[Span], busy: Sequence[Span], since: float) -> tuple[list[Span], list[Span]]:
    """Gives what of the time that is free lies in spans that are in order and apart, from `since` on, and what does not."""
    taken: list[Span] = []
    left: list[Span] = []
    for begin, end in free:
        at = begin
        for number in range(max(0, bisect_right(busy, (begin, begin)) - 1), len(busy)):
            first, last = max(at, busy[number][0], since), min(end, busy[number][1])
            if first >= end:
                break
            if last > first:
                if first > at:
                    left.append((at, first))
                taken.append((first, last))
                at = last
        if end > at:
            left.append((at, end))
    return taken, left

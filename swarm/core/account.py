"""The report of a run: how long it took and where the time went, what held it up, what was tried in vain, what it cost.

`report` makes the document of a `Chronicle`; text and pages are made of that. What is measured and what is only estimated is told
apart by the names: `speed_up` is the time that workers were at work by the time that passed, `one_by_one_s` an estimate.

Rules for editing: pure. Every figure is counted from the records, never from another figure that was rounded: a sum over tasks is
that of the phases and of the run. The shape is public: a field is never dropped or renamed without a new `SCHEMA`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from swarm.core.chronicle import NANO, UNDONE, Chronicle, Course, Kind, Stretch, Try
from swarm.core.claims import OPAQUE_PREFIX
from swarm.core.holdups import Holdups
from swarm.core.plain import rfc3339
from swarm.dataclass import dataclass

SCHEMA = 1
BUCKETS_MAX = 24  # parts of the run of which the velocity is told
PATHS_MAX = 200  # claims that were waited for
ENDS_MAX = 1_000  # attempts that did not land

# What a task would have taken with nobody beside it.
_OWN = (Kind.PREPARING, Kind.WORKING, Kind.COLLECTING, Kind.VERIFYING, Kind.LANDING)
_HELD_UP = (
    Kind.STOPPED,
    Kind.PAUSED,
    Kind.LATER,
    Kind.AGENT,
    Kind.CLAIM,
    Kind.TURN,
    Kind.SLOT,
    Kind.ADMISSION,
)  # though nothing was missing
_FREED = (Kind.NEEDS, Kind.CLAIM, Kind.TURN, Kind.SLOT, Kind.QUEUE)  # out of these another task lets one go


def report(chronicle: Chronicle, now: float | None = None) -> dict[str, Any]:
    """Gives the report of a run, up to `now` in seconds since the epoch, or to its last record."""
    until = chronicle.time if now is None else round(chronicle.at(now), 3)
    holdups = Holdups(chronicle, until)
    courses = _taking_part(chronicle)
    stood = {course.id: holdups.of(course) for course in courses}
    path = _critical_path(chronicle, stood)
    document = {
        "schema": SCHEMA,
        "run": chronicle.run,
        "began_at": rfc3339(chronicle.began_at),
        "over": chronicle.over,
        "speed": _speed(stood, until),
        "counts": dict(sorted(Counter(course.state for course in courses).items())),
        "totals": _totals(chronicle, courses),
        "time": _times(stretch for stretches in stood.values() for stretch in stretches),
        "staging": _staging(chronicle),
        "velocity": _velocity(chronicle, courses, until),
        "critical_path": path,
        "claims": _contention(stood),
        "not_landed": _not_landed(courses),
        "suites": _suites(chronicle),
        "spent": _spent(courses),
        "tasks": [_task(course, stood[course.id]) for course in courses],
    }
    document["bottleneck"] = _bottleneck(
        document, max((number for _, number in chronicle.workers), default=0)
    )
    return document


def _taking_part(chronicle: Chronicle) -> list[Course]:
    """Gives the tasks that are told of: not those that were finished before, nor what `--only` left out and never started."""
    wanted = _closure(chronicle) if chronicle.only else None
    return [
        course
        for course in chronicle.courses.values()
        if not course.finished
        and (course.tries or course.state != "open" or not chronicle.over)
        and (course.tries or wanted is None or course.id in wanted)
    ]


def _closure(chronicle: Chronicle) -> set[str]:
    """Gives what was asked for by `--only` and all that it needs."""
    in_phase: dict[str, list[str]] = {}
    for course in chronicle.courses.values():
        in_phase.setdefault(course.phase, []).append(course.id)
    found: set[str] = set()
    phases: set[str] = set()
    todo = list(chronicle.only)
    while todo:
        name = todo.pop()
        if name in found or name not in chronicle.courses:
            continue
        found.add(name)
        course = chronicle.courses[name]
        todo += course.needs
        behind = list(course.phase_needs)
        if course.phase in chronicle.phases:
            todo += chronicle.phases[course.phase].needs
            behind += chronicle.phases[course.phase].phase_needs
        while behind:
            name = behind.pop()
            if name not in phases and name in chronicle.phases:
                phases.add(name)
                todo += (*in_phase.get(name, ()), *chronicle.phases[name].needs)
                behind += chronicle.phases[name].phase_needs
    return found


# --- time -------------------------------------------------------------------------------------------------------------------


def _times(stretches: Iterable[Stretch]) -> dict[str, float]:
    """Adds up how long each kind of thing took; what took no time is left out."""
    found: dict[str, float] = {}
    for kind, begin, end, *_ in stretches:
        found[kind] = found.get(kind, 0.0) + end - begin
    return {kind: round(took, 3) for kind, took in found.items() if took}


def _speed(stood: Mapping[str, Sequence[Stretch]], until: float) -> dict[str, Any]:
    """Says how many workers were at work at once, and how long all would have taken one after the other."""
    work = [each for stretches in stood.values() for each in stretches if each.kind is Kind.WORKING]
    worked = sum(each.took for each in work)
    own = sum(each.took for stretches in stood.values() for each in stretches if each.kind in _OWN)
    at_once = most = 0
    for _, step in sorted([(each.begin, 1) for each in work] + [(each.end, -1) for each in work]):
        at_once += step
        most = max(most, at_once)
    return {
        "wall_s": until,
        "workers_s": round(worked, 3),
        "speed_up": round(worked / until, 3) if until else None,
        "at_once_max": most,
        "one_by_one_s": round(own, 3),
    }


def _staging(chronicle: Chronicle) -> dict[str, Any]:
    """Says when staging was first and last moved, and when first and last with suites that had passed."""
    landings = chronicle.landings
    green = [landing.at for landing in landings if landing.verified]
    return {
        "first_landing_s": landings[0].at if landings else None,
        "last_landing_s": landings[-1].at if landings else None,
        "first_green_s": green[0] if green else None,
        "last_green_s": green[-1] if green else None,
    }


def _velocity(chronicle: Chronicle, courses: Sequence[Course], until: float) -> dict[str, Any]:
    """Says how many attempts started and how many tasks landed in each of equal parts of the run."""
    landed = [landing.at for landing in chronicle.landings]
    vain = [
        attempt.end for course in courses for attempt in course.tries if _in_vain(attempt) and attempt.end
    ]
    parts = min(BUCKETS_MAX, max(1, len(landed)))
    each_s = until / parts

    def by_part(times: Iterable[float]) -> list[int]:
        found = [0] * parts
        for at in times:
            found[min(parts - 1, int(at / each_s)) if each_s else 0] += 1
        return found

    return {
        "landed_per_hour": round(3600 * len(landed) / until, 3) if until else None,
        "part_s": round(each_s, 3),
        "started": by_part(chronicle.starts),
        "landed": by_part(landed),
        "in_vain": by_part(vain),
    }


# --- the critical path --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Link:
    task: str
    begin: float
    end: float
    stood: list[Stretch] = field(default_factory=list)
    after: Stretch | None = None


def _critical_path(chronicle: Chronicle, stood: Mapping[str, Sequence[Stretch]]) -> dict[str, Any] | None:
    """Goes back from the last landing: each time to the task whose end, or whose step, let the one before it go on."""
    if not chronicle.landings:
        return None
    last = chronicle.landings[-1]
    links = [_Link(last.task, last.at, last.at)]
    seq, seen = last.seq, {(last.task, last.seq)}
    while True:
        link = links[-1]
        for stretch in reversed(stood.get(link.task, ())):
            if stretch.seq > seq:
                continue
            cause = stretch.cause
            if stretch.kind in _FREED and cause.seq and cause.at > stretch.begin and cause.task in stood:
                link.begin, link.after = cause.at, stretch
                link.stood.append(stretch._replace(begin=cause.at))
                break
            link.begin = stretch.begin
            link.stood.append(stretch)
        if link.after is None or (link.after.cause.task, link.after.cause.seq) in seen:
            break
        seq = link.after.cause.seq
        seen.add((link.after.cause.task, seq))
        links.append(_Link(link.after.cause.task, link.begin, link.begin))
    links.reverse()
    return {
        "took_s": round(last.at - links[0].begin, 3),
        "time": _times(stretch for link in links for stretch in link.stood),
        "links": [_link(link) for link in links],
    }


def _link(link: _Link) -> dict[str, Any]:
    after = link.after
    waited = None if after is None else _claim(after.path) | {"task": after.cause.task, "why": after.kind}
    return {
        "task": link.task,
        "from_s": link.begin,
        "to_s": link.end,
        "time": _times(link.stood),
        "after": waited,
    }


def _claim(path: str) -> dict[str, Any]:
    """Gives a claim as people know it: a path, or a turn where tasks go one at a time, of a phase or of the run."""
    if not path.startswith(OPAQUE_PREFIX):
        return {"path": path or None, "turn": None}
    return {"path": None, "turn": path.removeprefix(OPAQUE_PREFIX)}


def _bottleneck(document: Mapping[str, Any], workers: int) -> str:
    """Says in a sentence or two what the run took its time for."""
    path = document["critical_path"]
    if path is None or not path["time"]:
        return "Nothing has landed."
    kind, took = max(path["time"].items(), key=lambda each: each[1])
    longest = max(path["links"], key=lambda link: link["time"].get(kind, 0.0))
    share = round(100 * took / (sum(path["time"].values()) or 1.0))
    part = "most of it" if 2 * longest["time"].get(kind, 0.0) > took else "longest"
    text = f"{share} % of the way to the last landing was {_WORDS[kind]}, {part} for {longest['task']}."
    held_up = {kind: document["time"].get(kind, 0.0) for kind in _HELD_UP}
    most = max(held_up, key=lambda kind: held_up[kind])
    if held_up[most] > document["speed"]["wall_s"] / 4:
        claims = [each for each in document["claims"] if (each["path"] is not None) == (most is Kind.CLAIM)]
        where = f", most for {claims[0]['path']}" if most is Kind.CLAIM and claims else ""
        limit = f" (at most {workers} workers were allowed)" if most is Kind.SLOT and workers else ""
        text += f" What tasks that could have started waited for longest was {_WORDS[most]}{where}{limit}."
    return text


_WORDS = {
    "needs": "waiting for what they need",
    "paused": "a pause",
    "stopped": "a daemon",
    "later": "a wait that workers asked for",
    "agent": "their agent, which was held",
    "claim": "a path that another task held",
    "turn": "their turn, one at a time",
    "slot": "a free slot",
    "admission": "admission, while slots were free (a look at the machine, its load, or the pace of starts)",
    "preparing": "worktrees and starts",
    "working": "work",
    "suspended": "standing still for want of memory",
    "collecting": "reading what workers left",
    "queue": "waiting to land",
    "verifying": "verification",
    "landing": "landing",
}


# --- what held up and what failed -----------------------------------------------------------------------------------------------


def _contention(stood: Mapping[str, Sequence[Stretch]]) -> list[dict[str, Any]]:
    """Says for which claims tasks waited, the longest waits first: how long in all, how many tasks, and the longest."""
    waits: dict[str, dict[str, list[Stretch]]] = {}
    for task, stretches in stood.items():
        for stretch in stretches:
            if stretch.kind in (Kind.CLAIM, Kind.TURN):
                waits.setdefault(stretch.path, {}).setdefault(task, []).append(stretch)
    rows = []
    for path, tasks in waits.items():
        longest, holder, task = max(
            (each.took, each.cause.task, task) for task, stretches in tasks.items() for each in stretches
        )
        waited = sum(each.took for stretches in tasks.values() for each in stretches)
        row = {"waited_s": round(waited, 3), "tasks": len(tasks), "longest_s": round(longest, 3)}
        rows.append({**_claim(path), **row, "longest_task": task, "held_by": holder})
    return sorted(rows, key=lambda row: -row["waited_s"])[:PATHS_MAX]


def _in_vain(attempt: Try) -> bool:
    """Tells of an attempt that has ended whether nothing came of it; an undo that took its landings off did what it was to do."""
    ended = attempt.end is not None and attempt.outcome not in ("landed", "answered")
    return ended and not (attempt.code == UNDONE and not attempt.worker)


def _totals(chronicle: Chronicle, courses: Sequence[Course]) -> dict[str, Any]:
    """Counts what happened, as the journal's facts tell it."""
    tries = [attempt for course in courses for attempt in course.tries]
    codes = Counter(attempt.code for attempt in tries if _in_vain(attempt))
    told = chronicle.told
    return {
        "tasks": len(courses),
        "attempts": told["TaskStarted"],
        "landed": told["TaskLanded"],
        "answered": told["TaskAnswered"],
        "handed_back": told["TaskHandedBack"],
        "failed": told["TaskFailed"],
        "cancelled": told["TaskCancelled"],
        "blocked": told["TaskBlocked"],
        "retried": told["TaskRetried"],
        "undone": chronicle.undone,
        "unchanged": chronicle.unchanged,
        "flakes": told["SuiteFlaked"],
        "more_attempts": sum(max(0, sum(each.worker for each in course.tries) - 1) for course in courses),
        "candidates_verified": sum(attempt.verified for attempt in tries),
        "candidates_red": sum(attempt.red for attempt in tries),
        "conflicts": codes["conflict"],
        "integration_failures": codes["conflict"] + codes["verify_failed"],
        "in_vain": {code: number for code, number in sorted(codes.items()) if code},
    }


def _not_landed(courses: Sequence[Course]) -> list[dict[str, Any]]:
    """Lists the attempts that came to nothing, and why."""
    found: list[dict[str, Any]] = [
        {
            "task": course.id,
            "attempt": attempt.n,
            "agent": attempt.agent,
            "ended_s": attempt.end,
            "took_s": round((attempt.end or 0.0) - attempt.begin, 3),
            "outcome": attempt.outcome,
            "code": attempt.code,
            "text": attempt.text,
        }
        for course in courses
        for attempt in course.tries
        if _in_vain(attempt)
    ]
    return sorted(found, key=lambda row: float(row["ended_s"]))[:ENDS_MAX]


def _suites(chronicle: Chronicle) -> list[dict[str, Any]]:
    """Says how often each suite ran, what it said and how long it took."""
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "ran": len(seen.took),
            "red": seen.red,
            "flaked": seen.flaked,
            "remembered": seen.remembered,
            "median_s": _median(seen.took),
            "longest_s": round(max(seen.took), 3) if seen.took else None,
            "total_s": round(sum(seen.took), 3),
        }
        for name, seen in chronicle.suites.items()
    ]
    return sorted(rows, key=lambda row: -row["total_s"])


def _median(numbers: Sequence[float]) -> float | None:
    ordered, half = sorted(numbers), len(numbers) // 2
    return round((ordered[half] + ordered[-1 - half]) / 2, 3) if ordered else None


# --- what it cost -----------------------------------------------------------------------------------------------------------------


def _cost(tries: Sequence[Try]) -> dict[str, Any]:
    tokens_in, tokens_out = (sum(getattr(a, name) for a in tries) for name in ("tokens_in", "tokens_out"))
    nanos = sum(attempt.nanos for attempt in tries)
    return {"cost_usd": nanos / NANO, "tokens_in": tokens_in, "tokens_out": tokens_out}


def _spent(courses: Sequence[Course]) -> dict[str, Any]:
    """Adds up what workers said that they cost: in all, by phase, by agent."""
    phases: dict[str, list[Course]] = {}
    agents: dict[str, list[Try]] = {}
    for course in courses:
        phases.setdefault(course.phase, []).append(course)
        for attempt in course.tries:
            if attempt.worker:
                agents.setdefault(attempt.agent, []).append(attempt)
    return {
        **_cost([attempt for course in courses for attempt in course.tries]),
        "by_phase": [
            {
                "phase": name or None,
                "tasks": len(members),
                "landed": sum(course.state == "landed" for course in members),
                **_cost([attempt for course in members for attempt in course.tries]),
            }
            for name, members in phases.items()
        ],
        "by_agent": [
            {"agent": name, "attempts": len(tries), **_cost(tries)} for name, tries in sorted(agents.items())
        ],
    }


def _task(course: Course, stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Gives one task of the report."""
    return {
        "id": course.id,
        "title": course.title,
        "phase": course.phase or None,
        "state": course.state,
        "from_s": stretches[0].begin if stretches else None,
        "to_s": stretches[-1].end if stretches else None,
        "took_s": round(sum(each.took for each in stretches), 3),
        "time": _times(stretches),
        "attempts": sum(attempt.worker for attempt in course.tries),
        "verified": sum(attempt.verified for attempt in course.tries),
        "red": sum(attempt.red for attempt in course.tries),
        **_cost(course.tries),
        "stood": [
            {"kind": each.kind, "from_s": each.begin, "to_s": each.end} | _held(each) for each in stretches
        ],
    }


def _held(stretch: Stretch) -> dict[str, Any]:
    if stretch.kind not in (Kind.CLAIM, Kind.TURN):
        return {}
    return {**_claim(stretch.path), "held_by": stretch.cause.task or None}

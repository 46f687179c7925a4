"""The train of candidates: which are made and verified next, and what the verdict on one means.

Candidate *i* is candidate *i-1* with one more attempt merged onto it, so that several are verified at once and each is what lands
if all ahead of it do. The first one lands when it is green. A verdict on any other waits until all ahead of it have landed, since
perhaps it is red because of them. Meanwhile the bet is that it is red by itself: nothing more is built on it, and what was is
merged anew onto the one ahead of it. The window is how far ahead it is worth building: one more for each landing, half for each
that is sent back.

A suite that did not pass runs once more on the same commit. If it passes then, nothing about the work has changed meanwhile: the
suite is a flake, which is counted and told, and the task lands. Red twice is the work's doing. Nothing is ever run until it is
green: a third try would let in one of a hundred changes that break a test half of the time.

Rules for editing: pure, and nothing here starts or ends anything; `merge_queue` does that. What may land is never decided here
alone: staging moves only from exactly the commit that a candidate was made from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from swarm.core import batch, suites
from swarm.core.model import (
    VERIFYING_STEPS,
    WORKER_STEPS,
    Attempt,
    Limits,
    Reason,
    Step,
    Suite,
    SuiteCount,
    SuiteResult,
    Task,
    each_once,
)
from swarm.core.run import Run
from swarm.core.state import Swarm

FLAKY_SHARE = 0.05  # of its runs, above which a suite is called flaky
PRIORITY_MAX = 1000  # above which, and below minus which, priorities are the same in the merge queue
AHEAD_BY = 4  # places, for each point of priority
PATIENCE = 2  # times the slots: so many may go by one that waits for them
_CHANCE_MAX = 1  # flakes that say nothing yet, however few the runs were


# --- which come next --------------------------------------------------------------------------------------------------------


def adrift(run: Run, limits: Limits) -> list[str]:
    """Names the tasks in landing whose candidate stands on what will not land as things are: it was sent back, is red for good, or
    was made anew. Where somebody goes before all others, it is every one that does not move staging already."""
    if not run.landing or (limits.verify_slots < 2 and len(run.landing) < 2 and not limits.batches):
        return []
    hurries, lands, found = limits.verify_slots > 1 and _somebody_hurries(run), {run.staging}, []
    within: set[str] = set()
    for name in run.landing:
        attempt = _attempt(run, name)
        gives_way = hurries and attempt.place > 0
        stands = batch.is_whole(run, attempt) and (attempt.onto in lands or attempt.onto in within)
        if attempt.step is not Step.ADVANCING and (gives_way or not stands):
            found.append(name)
        elif attempt.candidate is not None:
            # Of a batch that is red the members still stand on each other, until it is judged.
            within = {attempt.candidate} if name in attempt.batch[:-1] else set()
            if not is_red(run, attempt):
                lands.add(attempt.candidate)
    return found


def _somebody_hurries(run: Run) -> bool:
    """Tells whether one that goes before all others could be merged now."""
    first = next(iter(run.queue), None)
    if first is None or (run.astray is not None and run.astray.task != first):
        return False
    attempt = _attempt(run, first)
    return attempt.place < 0 and attempt.step is Step.WAITING and not clashes(run, attempt)


def clashes(run: Run, attempt: Attempt) -> bool:
    """Tells whether a candidate with which the attempt conflicts is still ahead."""
    return attempt.clash is not None and any(
        _attempt(run, name).candidate == attempt.clash for name in run.landing
    )


def _attempt(run: Run, name: str) -> Attempt:
    return run.tasks[name].attempts[-1]  # which lives: whoever is in the queue has not ended


def is_red(run: Run, attempt: Attempt) -> bool:
    """Tells whether a candidate is red for good, whatever becomes of those ahead."""
    last = batch.spokesman(run, attempt)
    return last.step is Step.VERIFIED and bool(red(last))


def _bears(run: Run) -> list[Attempt]:
    """Gives the attempts in landing that the next candidate may be built on."""
    found = (_attempt(run, name) for name in run.landing)
    return [attempt for attempt in found if not is_red(run, attempt)]


def tail(run: Run) -> str:
    """Gives the commit that the next candidate is built on."""
    candidates = [attempt.candidate for attempt in _bears(run)]
    return (candidates[-1] if candidates else None) or run.staging


def may_grow(run: Run, limits: Limits) -> bool:
    """Tells whether one more candidate may be built ahead: the window allows it, and the last one is made. Behind one that has
    nothing to pass it would be built for nothing: that one lands at once."""
    if not (run.queue and run.landing and batch.spokesman(run, _attempt(run, run.landing[0])).to_pass):
        return False
    if _units(run) >= _window(run, limits) or not batch.is_made(run):
        return False
    return all(attempt.candidate is not None for attempt in _bears(run))


def _units(run: Run) -> int:
    """Counts what is in landing, a batch as one."""
    return len({_attempt(run, name).batch or (name,) for name in run.landing})


def place(run: Run, task: Task) -> int:
    """Gives the place in the queue of work that comes now: that of the one who came some landings earlier for each point of its
    priority. So who comes late enough never overtakes, and nobody waits for ever."""
    points = max(-PRIORITY_MAX, min(task.spec.priority, PRIORITY_MAX))
    return run.queued + AHEAD_BY * (PRIORITY_MAX - points)


def waits_since(run: Run) -> float:
    """Tells since when the first in the queue waits."""
    return _attempt(run, next(iter(run.queue))).queued_at or 0.0


def must_pass(run: Run, name: str) -> tuple[Suite, ...]:
    """Gives the suites that the candidate of a task has to pass: in a batch the last those of all, and the others none."""
    attempt = _attempt(run, name)
    if len(attempt.batch) < 2:
        return _suites(run, name)
    if name != attempt.batch[-1]:
        return ()
    return each_once(suite for each in attempt.batch for suite in _suites(run, each))


def _suites(run: Run, name: str) -> tuple[Suite, ...]:
    """Gives the suites that a task's work has to pass. What is taken off has no say in what must hold without it."""
    task = run.tasks[name]
    return run.plan.verify if _attempt(run, name).undoes else run.suites(task)


def form_batch(run: Run, name: str, limits: Limits) -> None:
    """Closes a batch over the task that is merged next and those that may be verified with it; one that is formed again takes in
    nobody new."""
    first = _attempt(run, name)
    most = len(first.batch) or (1 if _is_flaky_run(run) else batch.size(run))
    others = first.batch or tuple(run.queue)
    names = [name]
    if limits.batches and _may_join(run, name):
        joins = [each for each in others if each != name and _may_join(run, each, first.batch)]
        names += joins[: most - 1]
    closed = tuple(names) if len(names) > 1 or first.batch else ()
    for each in names:
        _attempt(run, each).batch = closed


def _may_join(run: Run, name: str, of: tuple[str, ...] | None = None) -> bool:
    """Tells whether a task may be verified with others, of the batch it was in before, if any."""
    if name not in run.queue or run.astray is not None:
        return False
    task, attempt = run.tasks[name], _attempt(run, name)
    as_any = attempt.place > 0 and not attempt.undoes and not task.spec.by_hand and bool(_suites(run, name))
    may_go = (
        attempt.step is Step.WAITING and not clashes(run, attempt) and not _waits_for_holder(run, attempt)
    )
    return as_any and may_go and of in (None, attempt.batch)


def _is_flaky_run(run: Run) -> bool:
    return any(is_flaky(seen) for seen in run.suites_seen.values())


def next_up(run: Run, limits: Limits, *, slot: bool) -> str | None:
    """Names the first in the queue that may be merged, or nobody; without a slot it must have nothing to pass. One that conflicts
    with a candidate ahead is passed by meanwhile, but not for ever: then the train ends with those ahead of it."""
    passed: list[Attempt] = []
    for name in run.queue:
        attempt = _attempt(run, name)
        if run.astray is not None and name != run.astray.task:
            continue
        if attempt.step is not Step.WAITING or _waits_for_holder(run, attempt):
            continue
        if not clashes(run, attempt):
            if not slot and _suites(run, name):
                return None
            for each in passed:
                each.passed_by += 1
            return name
        if attempt.passed_by >= PATIENCE * limits.verify_slots:
            return None
        passed.append(attempt)
    return None


def _waits_for_holder(run: Run, attempt: Attempt) -> bool:
    """A stray under somebody's claim waits while that one works; those in the queue are not waited for: order decides."""
    for holder in tuple(attempt.waits_for):
        other = run.tasks[holder].live
        if other is None or other.step not in WORKER_STEPS:
            attempt.waits_for.discard(holder)
    return bool(attempt.waits_for)


# --- how many at once -------------------------------------------------------------------------------------------------------


def _window(run: Run, limits: Limits) -> int:
    return run.window or limits.verify_slots


def lengthen(run: Run, limits: Limits) -> None:
    """One has landed: one more may be built ahead."""
    run.window = min(_window(run, limits) + 1, 2 * limits.verify_slots)


def shorten(run: Run, limits: Limits) -> None:
    """One was sent back: half as many are built ahead."""
    run.window = max(1, _window(run, limits) // 2)


def _verifying(run: Run) -> int:
    found = (_attempt(run, name) for name in run.landing)
    return sum(
        attempt.step in VERIFYING_STEPS and bool(attempt.to_pass or len(attempt.batch) > 1)
        for attempt in found
    )


def _probing(run: Run) -> int:
    return sum(_attempt(run, name).step in VERIFYING_STEPS for name in run.searching)


def beside(swarm: Swarm) -> int:
    """Counts what is verified beside the first of each run: it takes the room of a worker."""
    found = 0
    for run in swarm.runs.values():
        if len(run.landing) > 1:
            found += max(0, _verifying(run) - 1)
        if run.searching:
            found += _probing(run)
    return found


def has_slot(swarm: Swarm, *, keep: bool = False) -> bool:
    """Tells whether one more candidate may be verified, as far as the settings go; with `keep` beside those that come next in runs
    of which nothing is verified."""
    taken = sum(_verifying(run) + _probing(run) for run in swarm.active())
    coming = sum(_head_is_coming(run) for run in swarm.active()) if keep else 0
    return taken + coming < swarm.limits.verify_slots


def _head_is_coming(run: Run) -> bool:
    return bool(run.queue) and all(_attempt(run, name).step is Step.ADVANCING for name in run.landing)


def has_room(swarm: Swarm) -> bool:
    """Tells whether the machine allows that: it takes the room of a worker, and goes before one that has not started."""
    most = swarm.limits.workers_max
    width = most if swarm.step_of_ladder is None else min(most, swarm.step_of_ladder)
    return busy(swarm) < width


def busy(swarm: Swarm) -> int:
    """Counts what takes the room of a worker: those that live, and the candidates that are verified beside the first of a run."""
    return len(swarm.slots) + beside(swarm)


# --- what a verdict means ---------------------------------------------------------------------------------------------------


def take_in(run: Run, attempt: Attempt, said: Sequence[SuiteResult]) -> list[dict[str, Any]]:
    """Takes in what suites said of the attempt's candidate, for the first or the second time; gives a fact for each flake."""
    before, flaked = attempt.suites, []
    attempt.suites = _together(attempt, said)
    for result in said:
        if not result.remembered:
            run.suites_seen[result.name] = _counted(run.suites_seen.get(result.name, SuiteCount()), result)
    for was, now in zip(before, attempt.suites, strict=False):
        if was.name == now.name and was.outcome != "passed" == now.outcome:
            seen = run.suites_seen[now.name]
            seen = run.suites_seen[now.name] = dataclasses.replace(seen, flaked=seen.flaked + 1)
            often = is_flaky(seen)
            facts = {"suite": now.name, "outcome": was.outcome, "ran": seen.ran, "flaked": seen.flaked}
            flaked.append({**facts, **({"often": True} if often else {})})
    return flaked


def _together(attempt: Attempt, said: Sequence[SuiteResult]) -> tuple[SuiteResult, ...]:
    """Puts what was said the second time in the place of what did not pass the first time."""
    if not attempt.again or len(attempt.suites) != len(attempt.to_pass):
        return tuple(said)
    anew = iter(said)
    return tuple(
        each if each.outcome == "passed" else _second(each, next(anew, each)) for each in attempt.suites
    )


def _second(first: SuiteResult, second: SuiteResult) -> SuiteResult:
    how = "passed" if second.outcome == "passed" else "did so again"
    note = f"{first.outcome} at first, {how} on the same commit"
    return dataclasses.replace(second, note="; ".join(filter(None, (note, second.note))))


def _counted(seen: SuiteCount, result: SuiteResult) -> SuiteCount:
    longest_s = max(seen.longest_s, result.duration_s) if result.outcome == "passed" else seen.longest_s
    return dataclasses.replace(seen, ran=seen.ran + 1, longest_s=longest_s)


def is_flaky(seen: SuiteCount) -> bool:
    """Tells whether a suite is a flake too often to be chance."""
    return seen.flaked > _CHANCE_MAX and seen.flaked > FLAKY_SHARE * seen.ran


def red(attempt: Attempt) -> tuple[Suite, ...]:
    """Gives the suites that the candidate has not passed; all of them where some said nothing."""
    if len(attempt.suites) != len(attempt.to_pass):
        return attempt.to_pass
    return tuple(_not_passed(attempt))


def _not_passed(attempt: Attempt) -> Iterator[Suite]:
    for suite, result in zip(attempt.to_pass, attempt.suites, strict=True):
        if result.outcome != "passed":
            yield suite


def once_more(run: Run, attempt: Attempt, red: Sequence[Suite]) -> tuple[Suite, ...]:
    """Gives these suites as they run the second time: one whose time was over has its limit, or twice the longest that it ever took
    to pass where that is more."""
    late = {result.name for result in attempt.suites if result.outcome == "timeout"}
    return tuple(
        dataclasses.replace(suite, timeout_s=max(suite.timeout_s, 2 * run.suites_seen[suite.name].longest_s))
        if suite.name in late
        else suite
        for suite in red
    )


def verdict(attempt: Attempt) -> Reason:
    """Says why a candidate does not land. A suite that did not end in time is not one that failed."""
    bad = [each for each in attempt.suites if each.outcome != "passed"]
    silent = len(attempt.to_pass) - len(attempt.suites)
    names = suites.not_passed(attempt.suites) or f"{silent} suites said nothing"
    twice = ", twice on the same commit" if attempt.again else ""
    facts = {"suites": [each.name for each in bad]}
    if attempt.again and bad and all(each.outcome == "timeout" for each in bad):
        return Reason("timeout", f"verification did not end in time{twice}: {names}", facts)
    return Reason("verify_failed", f"verification did not pass{twice}: {names}", facts)

"""What the suites said of a candidate, and what that means: green, red once, red for good, or a flake.

A suite that did not pass runs once more on the same commit. If it passes then, nothing about the work has changed meanwhile: the
suite is a flake, which is counted and told, and the task lands. Red twice is the work's doing. Nothing is ever run until it is
green: a third try would let in one of a hundred changes that break a test half of the time.

Rules for editing: pure, and nothing here starts or ends anything; `merge_queue` does that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from swarm.core import suites
from swarm.core.model import Attempt, Reason, Suite, SuiteCount, SuiteResult
from swarm.core.run import Run

FLAKY_SHARE = 0.05  # of its runs, above which a suite is called flaky
_CHANCE_MAX = 1  # flakes that say nothing yet, however few the runs were


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

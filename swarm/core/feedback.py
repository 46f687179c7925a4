"""What a task's next attempt is told of the one before, and whether attempts fail in one and the same way.

Rules for editing: pure. What is told is for whoever does the work: it says what to look at, and nothing of how swarm works. A
failure is compared by what is left of its output when all is taken out that differs from one time to the next.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from swarm.core.model import Attempt, Reason, Sides, Task, TaskState
from swarm.core.state import some

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_VARYING = (
    # Of a path its last part stays; a temporary one says nothing by that either.
    (re.compile(r"(?:[A-Za-z]:|[~.])*(?:[/\\][\w.@+~=-]+)*[/\\](?=[\w.@+~=-])"), "/"),
    (re.compile(r"[/]tmp\w{6,}"), "/TEMPORARY"),
    (
        re.compile(rf"\b{_UUID}\b|\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{{7,}}\b"),
        "#",
    ),
    (
        re.compile(
            r"[0-9]+(?:[.,:_-][0-9]+)*(?: ?(?:ns|us|µs|ms|sec|seconds?|s|min|minutes?|[KMG]i?B))?\b|[0-9]+"
        ),
        "#",
    ),
    (re.compile(r"[ \t]+"), " "),
)
# Ends of attempts whose work, if any, was never merged, so that they say nothing of a conflict before them.
_BEFORE_MERGING = frozenset(
    {"empty", "worker_failed", "timeout", "no_output", "over_memory", "lost", "spawn_failed"}
    | {"stopped", "try_later", "machine"}
)
_BLANK = re.compile(r" ?\n\s*")
# Ends of attempts that say nothing about the work.
_INTERRUPTIONS = frozenset({"stopped", "lost", "try_later", "rate_limit", "machine", "cancelled"})
_AFTER = "After that the task "  # what is said of an end that came between two attempts begins so


def handed_back(
    task: Task, attempt: Attempt, reason: Reason, to_settle: Attempt | None = None
) -> tuple[str, ...]:
    """Gives what the next attempt of a task is told of one that has ended: why that did not land, and what was wrong with the work
    before, where it was only interrupted. `to_settle` is as in `text`."""
    earlier = task.feedback[:1] if reason.code in _INTERRUPTIONS else ()
    return (*earlier, text(attempt, reason, to_settle))


def after_the_end(task: Task) -> tuple[str, ...]:
    """Gives what the next attempt of a task is told that had ended without landing and is begun again: why its last attempt did not
    land, or that it had landed and who wanted that undone, and what else ended the task. Nothing where none was made."""
    tries, reason = [each for each in task.attempts if not each.undoes], task.reason
    if not tries or reason is None:
        return task.feedback
    last = tries[-1]
    if reason.code == "undone":
        return (_undone(task, last, reason),)
    told, why = task.feedback, last.reason
    if why is not None and not any(each.startswith(_not_landed(last)) for each in told):
        if reason.code in (
            why.code,
            "conflict",
        ):  # what it came to in the end says more than its last attempt's
            return handed_back(task, last, reason, _unsettled(task.attempts[task.budget_from :]))
        told = handed_back(task, last, why)
    how = "failed" if task.state is TaskState.FAILED else "was cancelled"
    ended = f"{_AFTER}{how}" if reason.text == f"it {how}" else f"{_AFTER}{how}: {reason.text}"
    return (*(each for each in told if not each.startswith(_AFTER)), ended)


def _undone(task: Task, attempt: Attempt, reason: Reason) -> str:
    """Says that an attempt had landed, and of which task the user wanted that undone."""
    name = reason.facts["undo"]
    why = "it" if name == task.spec.id else f"{name}, which it needs,"
    landed = attempt.landed_commit
    look = f"\nWhat it had changed: git diff {landed}^1 {landed}" if landed else ""
    return (
        f"Attempt {attempt.n} had landed, and the user had {why} undone (swarm undo {name}): {reason.facts['commit']} took it off"
        f" staging again.{look}"
    )


def _not_landed(attempt: Attempt) -> str:
    return f"Attempt {attempt.n} did not land: "


def text(attempt: Attempt, reason: Reason, to_settle: Attempt | None = None) -> str:
    """Says why an attempt did not land: the reason, the versions of what does not merge, the ends of what suites printed that did
    not pass, or the worker, where it failed. Where that conflict was to be settled, not made, by the attempt, `to_settle` is whose
    it was."""
    printed = [("the worker", attempt.tail)] if attempt.tail else []
    printed += [
        (f"{each.name} ({each.outcome})", each.tail) for each in attempt.suites if each.outcome != "passed"
    ]
    # No program takes a NUL in an argument, as which agents may get this.
    tails = "".join(f"\n--- {name} ---\n{tail}" for name, tail in printed).replace("\0", "")
    more = _besides(attempt) + _versions(to_settle or attempt) + _partners(reason.facts)
    return f"{_not_landed(attempt)}{reason.text}{more}{tails}"


def _besides(attempt: Attempt) -> str:
    """Tells how to see what was left in a stash or elsewhere that nobody takes it from; "" where nothing was."""
    if not attempt.besides:
        return ""
    look = f"git log --stat --diff-merges=first-parent {attempt.base}..{attempt.besides}"
    return f"\nWhat it left elsewhere (a stash, another branch, a tag, a merge half done) did not count, and is kept: {look}"


def _partners(facts: Mapping[str, Any]) -> str:
    """Tells how to see what the work is red together with; "" where that is nothing in particular."""
    found = zip(facts.get("partners", ()), facts.get("partner_commits", ()), strict=False)
    return "".join(f"\nWhat {name} changed: git diff {commit}^1 {commit}" for name, commit in found)


def _versions(attempt: Attempt) -> str:
    """Lists the three versions of each path in which an attempt conflicted, by ids that git shows; "" where they are not known."""
    facts = attempt.reason.facts if attempt.reason is not None else {}
    versions: Sequence[Mapping[str, str]] = facts.get("versions", ())
    if not versions:
        return ""
    lines = [
        "",
        f"It began at {attempt.base}; its work is {facts['head']}, on branch {attempt.branch}; staging was at {facts['onto']}.",
        "Of each path: the file that both come from, staging's, and that of the attempt. `git cat-file -p ID` shows one.",
    ]
    for each in versions:
        ids = (f"{side} {each[side] or 'has none'}" for side in ("base", "staging", "own"))
        lines.append(f"--- {each['path']} ---\n" + "\n".join(ids))
    return "\n".join(lines)


def conflict_facts(attempt: Attempt, versions: Sequence[Sides]) -> dict[str, Any]:
    """Gives what a conflict adds to its reason where its versions are known; an undo has no work that somebody could make again."""
    if not versions or attempt.undoes:
        return {}
    told = [
        {"path": each.path, "base": each.base, "staging": each.staging, "own": each.own} for each in versions
    ]
    return {"base": attempt.base, "head": attempt.submitted, "versions": told}


def in_the_end(attempts: Sequence[Attempt], reason: Reason) -> Reason:
    """Says why a task has failed whose newest attempt came to nothing for `reason`. Where the last of its work that could be merged
    conflicted, that is what it comes down to: one that changed nothing since has not settled it, so that the conflict stands; one
    that failed in another way is told with what it was to settle."""
    before = _unsettled(attempts)
    if before is None or before.reason is None:
        return reason
    conflict = before.reason
    if reason.code == "empty":
        facts = {**conflict.facts, "last": reason.code}
        return Reason("conflict", f"{conflict.text}; tried again, {reason.text}", facts)
    was = f"{reason.text}; it was to settle that the work before it conflicts with staging"
    paths = conflict.facts.get("paths") or ()
    return Reason(reason.code, f"{was} in {some(paths)}" if paths else was, reason.facts)


def _unsettled(attempts: Sequence[Attempt]) -> Attempt | None:
    """Gives the attempt whose conflict is not settled: the last whose work could be merged, where that conflicted; else None."""
    for each in reversed(attempts):
        code = each.reason.code if each.reason is not None else ""
        if code == "conflict":
            return each
        if code not in _BEFORE_MERGING:
            return None
    return None


def mark(output: str) -> str:
    """Gives a short word, the same for outputs that differ in nothing but what does from one time to the next; "" for none."""
    found = normalised(output)
    return hashlib.sha256(found.encode("utf-8", "replace")).hexdigest()[:16] if found else ""


def normalised(output: str) -> str:
    """Gives what a program printed without paths, times, addresses, numbers and ids, and without blanks that say nothing."""
    found = _ESCAPES.sub("", output)
    for varying, instead in _VARYING:
        found = varying.sub(instead, found)
    return _BLANK.sub("\n", found).strip()


def same_failures(attempts: Sequence[Attempt]) -> int:
    """Counts how many of the last attempts, the newest included, failed in one and the same way: their verification or
    their worker. One that says nothing of its failure is not known to be like another."""
    newest, count = _failure(attempts[-1]), 0
    for attempt in reversed(attempts):
        if newest is None or _failure(attempt) != newest:
            break
        count += 1
    return count


def _failure(attempt: Attempt) -> object:
    """Gives what one failure is told from another by; None where that can't be said."""
    code = attempt.reason.code if attempt.reason is not None else ""
    if code == "verify_failed":
        bad = (suite for suite in attempt.suites if suite.outcome != "passed")
        return frozenset((each.name, each.outcome, each.exit_code, normalised(each.tail)) for each in bad)
    # A summary is what a worker chose to say, number for number; its output is what came.
    said = " ".join(attempt.result.summary.split()) or attempt.output
    return (attempt.exit_code, said) if code == "worker_failed" and said else None

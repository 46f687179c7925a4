"""Rounds of review and repair of what stands on staging: what they said, and what their tasks are told.

A review is a task that may change nothing and says `approve` or `reject` with its issues; what it objects to a fixer mends, and the
next round looks again. An approval is one of exactly one commit of staging.

Rules for editing: nothing here knows of runs and attempts; `reviewing` carries it out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import field

from swarm.core.model import Issue, TaskSpec
from swarm.dataclass import dataclass

REVIEW, FIX = "review", "fix"  # what a task of a round is for
APPROVE, REJECT = "approve", "reject"
SAME_MAX = 3  # so often the same issue: another round would not mend it
_NO_WORDS = re.compile(r"[\W\d_]+")

_REVIEW_PROMPT = """\
Review what stands on the staging branch of run "{run}" before it is merged. Your working directory holds it, and nothing of it is
yours to change. What the run did: git log --first-parent {base}..HEAD and git diff {base} HEAD. The suites that verify it run by
themselves.

Write your verdict as JSON to the file that SWARM_RESULT_FILE names:
{{"verdict": "approve" or "reject", "summary": "…",
  "issues": [{{"title": "what is wrong, in a few words", "path": "the file", "text": "…"}}]}}
Reject only for what has to be mended before this is merged.
"""
_FIX_PROMPT = """\
A reviewer of the staging branch of run "{run}" objects to what it holds. Mend these issues, and nothing else:

{issues}
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One review: the task that made it, the commit of staging that it saw, what it said, and the task that was to mend it, if any.

    `moved` tells that staging had moved on when the verdict landed, so that it says nothing about what stands there.
    """

    task: str
    reviewed: str
    approved: bool
    issues: tuple[Issue, ...] = ()
    summary: str = ""
    fix: str = ""
    moved: bool = False


@dataclass(slots=True)
class Qa:
    """The QA of one run since it was asked for last. `task` is the one at work, "" when it is over: then staging at `approved` is
    what the reviewer approved of, or `reason` says why there is no approval."""

    reviewer: TaskSpec
    fixer: TaskSpec | None
    rounds_max: int
    task: str = ""
    rounds: list[Round] = field(default_factory=list)
    approved: str = ""
    reason: str = ""

    def recurring(self) -> str:
        """Names an issue that came up in SAME_MAX rounds, however its numbers and punctuation changed; "" where none did."""
        seen: Counter[tuple[str, str]] = Counter()
        for each in self.rounds:
            seen.update({_key(issue) for issue in each.issues})
        last = self.rounds[-1].issues if self.rounds else ()
        return next((issue.title for issue in last if seen[_key(issue)] >= SAME_MAX), "")

    def state(self, published: str) -> str:
        """Says in one word how it stands: `at_work`, `approved`, `void` when staging has moved on since, or `rejected`."""
        if self.task:
            return "at_work"
        if not self.approved:
            return "rejected"
        return "approved" if self.approved == published else "void"


def _key(issue: Issue) -> tuple[str, str]:
    return issue.path.casefold(), _NO_WORDS.sub(" ", issue.title.casefold()).strip()


def review_prompt(wanted: str, run: str, base: str) -> str:
    """Says what a reviewer is to do; `wanted` is what the settings add."""
    return "\n".join(filter(None, (_REVIEW_PROMPT.format(run=run, base=base), wanted)))


def fix_prompt(wanted: str, run: str, issues: Iterable[Issue]) -> str:
    """Says what a fixer is to mend."""
    return "\n".join(filter(None, (_FIX_PROMPT.format(run=run, issues=listed(issues)), wanted)))


def earlier(rounds: Sequence[Round]) -> str:
    """Tells a reviewer what was objected to before; "" in the first round."""
    said = [f"{each.task}:\n{listed(each.issues)}" for each in rounds if each.issues]
    return "\n".join(("Earlier reviews objected to this; see whether it was mended.", *said)) if said else ""


def listed(issues: Iterable[Issue]) -> str:
    """Writes issues as lines for a person or an agent."""
    lines = []
    for issue in issues:
        place = f"{issue.path}: " if issue.path else ""
        more = "".join(f"\n    {line}" for line in issue.text.splitlines())
        lines.append(f"- {place}{issue.title}{more}")
    return "\n".join(lines)

"""What suites said, put into words and figures: which was the slowest, and why one did not pass.

Rules for editing: pure, and nothing here has a say in whether a candidate may land; that is `merge_queue`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from swarm.core.model import SuiteResult
from swarm.core.state import some


def slowest(results: Sequence[SuiteResult]) -> SuiteResult | None:
    """Gives the suite that the verification waited for longest; None where one ran by itself. Only a faster one makes it faster."""
    return max(results, key=lambda result: result.duration_s) if len(results) > 1 else None


def not_passed(results: Iterable[SuiteResult]) -> str:
    """Names the suites that did not pass, with how each ended: `unit (failed), e2e (timeout)`."""
    return ", ".join(f"{each.name} ({_how(each)})" for each in results if each.outcome != "passed")


def blamed(left: Iterable[str], seen: Collection[str]) -> tuple[str, ...]:
    """Gives which of the tracked files that are `left` changed when all suites have ended speak against one at whose own end those
    of `seen` were changed: not what was changed only later, by another, and not what was put back."""
    return tuple(path for path in left if path in seen)


def _how(result: SuiteResult) -> str:
    return f"changed tracked files: {some(result.changed)}" if result.changed else result.outcome

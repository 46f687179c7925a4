"""How a suite is run and what it said: its parts and what they come to, the slowest, why one did not pass.

Rules for editing: pure, and nothing here has a say in whether a candidate may land; that is `merge_queue`'s.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from swarm.core.document import one_line
from swarm.core.model import NO_SUITE, PlanSpec, Suite, SuiteResult
from swarm.core.state import some
from swarm.dataclass import dataclass
from swarm.errors import UsageError

NAME_MAX = 80  # characters of a command that names a suite


def asked_for(commands: Iterable[str]) -> tuple[Suite, ...]:
    """Makes the suites of `--verify`, named after their commands as a plan's are; `apart` keeps the names. Raises `UsageError`."""
    found = dict.fromkeys(commands)
    if not all(command.strip() for command in found):
        raise UsageError("--verify wants a command, and one is empty.", "Nothing was begun.")
    return tuple(Suite(one_line(command, NAME_MAX), command, asked=True) for command in found)


def apart(plan: PlanSpec) -> PlanSpec:
    """Gives a plan in which no suite of `--verify` has the name of another command's, nor that of none: a landing names what
    passed, and what is known of a suite is known by its name."""
    taken = {NO_SUITE: ""}
    given = (plan.verify, *(phase.verify for phase in plan.phases), *(task.verify for task in plan.tasks))
    for suite in (suite for suites in given for suite in suites if not suite.asked):
        taken.setdefault(suite.name, suite.run)

    def named(suite: Suite) -> Suite:
        name, number = suite.name, 1
        while taken.setdefault(name, suite.run) != suite.run:
            number += 1
            name = f"{suite.name} ({number})"
        return replace(suite, name=name)

    return replace(plan, verify=tuple(named(each) if each.asked else each for each in plan.verify))


def slowest(results: Sequence[SuiteResult]) -> SuiteResult | None:
    """Gives the suite that the verification waited for longest; None where one ran by itself. Only a faster one makes it faster."""
    return max(results, key=lambda result: result.duration_s) if len(results) > 1 else None


def not_passed(results: Sequence[SuiteResult]) -> str:
    """Names the suites that did not pass, with how each ended: `unit (failed), e2e (timeout)`. Those of one candidate share a
    worktree, so where there were several, nobody knows which of them changed a file."""
    bad = [each for each in results if each.outcome != "passed"]
    return ", ".join(f"{each.name} ({_how(each, alone=len(results) == 1)})" for each in bad)


def blamed(left: Iterable[str], seen: Collection[str]) -> tuple[str, ...]:
    """Gives which of the tracked files that are `left` changed when all suites have ended speak against one at whose own end those
    of `seen` were changed: not what was changed only later, by another, and not what was put back."""
    return tuple(path for path in left if path in seen)


def _how(result: SuiteResult, *, alone: bool) -> str:
    if not result.changed:
        return result.outcome
    how = (
        "changed tracked files"
        if alone
        else "tracked files were changed while it ran, by it or a suite beside it"
    )
    return f"{how}: {some(result.changed)}"


# --- no tests -----------------------------------------------------------------------------------------------------------------

PYTEST_NO_TESTS = 5  # its exit status then

# Runners that end well without a test: what they print where there was none, and where there was one.
_NOTHING_RAN = (
    (r"\bgo test\b", r"\[no test files\]|\[no tests to run\]", r"^ok\s(?!.*\[no tests to run\]$)"),
    (r"\bcargo (?:test|t)\b", r"^running 0 tests$", r"^running [1-9]\d* tests?$"),
    (r"\bunittest\b", r"^Ran 0 tests in ", r"^Ran [1-9]\d* tests? in "),
    (r"\b(?:jest|vitest)\b", r"^No tests? (?:files )?found", r"^\s*Tests:?\s+.*\b[1-9]\d* passed"),
)


def says_if_tests_ran(run: str) -> bool:
    """Tells whether a command is one of those that end well without a test, so that its output has to be looked at."""
    return any(re.search(command, run) for command, _, _ in _NOTHING_RAN)


def no_tests(run: str, code: int | None, output: str) -> bool:
    """Tells whether a command found no tests: by pytest's exit status, or by what a runner that does not mind prints."""
    if code == PYTEST_NO_TESTS and "pytest" in run:
        return True
    return code == 0 and any(
        re.search(command, run)
        and re.search(none, output, re.MULTILINE) is not None
        and re.search(some, output, re.MULTILINE) is None
        for command, none, some in _NOTHING_RAN
    )


# --- parts ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Share:
    """What one pytest of one part wrote down: the tests of each file that it found, and the files that it took."""

    part: int
    files: Mapping[str, int]
    mine: frozenset[str]


def is_split_for(suite: Suite) -> bool:
    """Tells whether the built-in splitter shares a suite's test files out: where it is pytest and does not do so itself."""
    return suite.shard > 1 and "pytest" in suite.run and "SWARM_SHARD" not in suite.run


def does_not_add_up(shares: Iterable[Share], parts: int) -> str:
    """Says why the parts together are not every test file once, or "". A command may run pytest several times: each counts."""
    found: dict[frozenset[tuple[str, int]], set[tuple[int, frozenset[str]]]] = {}
    for share in shares:
        found.setdefault(frozenset(share.files.items()), set()).add((share.part, share.mine))
    for files, taken in found.items():
        missing = set(range(1, parts + 1)) - {part for part, _ in taken}
        if missing:
            return f"part {min(missing)} of {parts} did not see the {len(files)} test files that others saw"
        times = Counter(name for _, mine in taken for name in mine)
        wrong = [name for name, _ in files if times[name] != 1] or sorted(times.keys() - dict(files).keys())
        if wrong:
            return f"{min(wrong)} would have run {times[min(wrong)]} times"
    return "" if found else "no part said which test files it had"


def together(outcomes: Collection[str]) -> str:
    """Gives what the parts of a suite come to: each must have passed, save those that had no tests while others had."""
    worst = next((bad for bad in ("failed", "timeout") if bad in outcomes), None)
    return worst or ("passed" if "passed" in outcomes else "none")


# --- a runner that breaks -----------------------------------------------------------------------------------------------------

_XDIST_BROKE = re.compile(
    r"\[gw\d+\] node down|worker '?gw\d+'? crashed|replacing crashed worker gw\d+|Different tests were collected between gw\d+"
    r"|INTERNALERROR>.*\b(?:xdist|execnet)\b"
)
_AT_ONCE = re.compile(r"(?<!\S)(-n|--numprocesses)(\s*=?\s*)(?:\d+|auto|logical)(?!\S)")


def broken_runner(output: str) -> str:
    """Gives the words by which pytest-xdist says that it broke, rather than a test; "" where it does not."""
    found = _XDIST_BROKE.search(output)
    return found[0] if found else ""


def one_by_one(run: str) -> str:
    """Gives a command with pytest-xdist's number of processes set to none."""
    return _AT_ONCE.sub(r"\g<1>\g<2>0", run)

"""From a goal to a plan, in words: what scouts and the architect are asked, and what is read from what they answer.

A scout looks and changes nothing; the architect writes the plan, of what the scouts found; both give an answer in place of a
change. How many look, and how many build at once, goes by the size of the project and of the plan.

Rules for editing: nothing here knows of runs and attempts; `building` carries it out. The texts of prompts stand here alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from swarm.core.model import PlanSpec, Suite, TaskSpec
from swarm.dataclass import dataclass

FINDINGS, PLAN = "findings", "plan"  # what a task is asked for in place of a change
SCOUT, ARCHITECT, BUILDER = "scout", "architect", "builder"  # roles, as [roles] and [ownership] name them
FOUND_MAX = 20_000  # characters of one scout's findings that the architect is told
TITLE_MAX = 80

_WIDTHS = ((10, 2), (20, 4), (40, 6))  # below so many tasks: so many workers; else 8
_SCOUTS = ((100, 2), (1_000, 4), (10_000, 6))  # … so many files: so many scouts
WIDEST = 8

# What there is to know before a plan can be written; a small project is asked less.
QUESTIONS = (
    "Which files and modules does this concern, what does each of them do, and what would have to change in it?",
    "How is this project built, tested and checked? Name the exact commands that must pass, and how long they take.",
    "Which interfaces (functions, types, formats, commands, tables) does this touch, and who else relies on each of them?",
    "Which conventions (layout, names, errors, tests, documents) does this project follow, with one example of each?",
    "What is there already that does something similar, or that can be used for this instead of writing it anew?",
    "What can go wrong (data, upgrades, concurrency, security, speed), and how would one notice?",
    "Which documents, examples and configuration describe what this changes, and must change along with it?",
    "What does the history (git log) tell of these parts: what was tried, undone, or often broken?",
)

_SCOUT = """\
You look into a question about this project, and change nothing: your working directory holds it, and whatever you change there is
thrown away. Read, search, run what only looks.

{about}{question}

Write what you found to the file that SWARM_ANSWER_FILE names, as Markdown: short, with paths and names that others can follow,
facts apart from guesses. Where you can't write there, make it your last message.
"""
_ARCHITECT = """\
Write the plan by which several workers, each alone in a worktree of its own and most of them at once, reach this goal:

{goal}

You change nothing yourself. Write the plan to the file that SWARM_ANSWER_FILE names (where you can't, make it your last message),
in this form, as TOML:

name = "a few words"
verify = ["the command that must pass on every change"]     # one or several; "auto" finds what the project has

[[tasks]]
id = "parser"
title = "what is done, in a few words"
needs = []                           # ids of tasks that must have landed before this begins
claims = ["src/parser/**"]           # the paths that this task may change, and nobody beside it
prompt = "everything that its worker must know: it sees the project and this text, nothing else"

[[contracts]]                        # what tasks agree on that go on side by side
between = ["parser", "printer"]
text = "parse(text: str) -> Tree and show(tree: Tree) -> str, both in src/tree.py, which parser writes"

Cut it so that as many tasks as sensible can go at once: claims that do not overlap, few needs, and a contract wherever one task
uses what another makes at the same time. Each task is one change that passes `verify` by itself. No task "test everything", none
that only plans: what lands is verified anyway.

What scouts found:

{findings}
"""


@dataclass(frozen=True, slots=True)
class Goal:
    """What somebody wants: `text`, and how far to go for it. Without an `architect` it is questions, each answered by a scout.

    Tasks are made from the specs. With `builds` an approved plan is carried out at once; `approved` is an approval given
    beforehand. `reviewer`, `fixer` and `rounds_max` are of the QA that follows, `verify` suites besides the plan's.
    """

    text: str
    architect: TaskSpec | None = None
    builds: bool = False
    approved: bool = False
    sequential: bool = False
    verify: tuple[Suite, ...] = ()
    reviewer: TaskSpec | None = None
    fixer: TaskSpec | None = None
    rounds_max: int = 1


@dataclass(slots=True)
class Way:
    """How far a run has come from its goal: the tasks of its `scouts` and of its `architect` ("" before it begins), and the `plan`
    as it was drafted in `attempt`, or approved of since; `taken_in` once it is being built (see `building.stage`).

    `digest` names the content of the plan, `approved` that which was approved of. `told` is set while it is known that the build
    can't go on by itself, `ready` once all is done.
    """

    goal: Goal
    scouts: tuple[str, ...]
    architect: str = ""
    plan: PlanSpec | None = None
    attempt: int = 0
    digest: str = ""
    approved: str = ""
    taken_in: bool = False
    told: bool = False
    ready: bool = False


def width(tasks: int) -> int:
    """Says how many workers a plan of so many tasks is worth at once, where the machine allows them."""
    return next((wide for below, wide in _WIDTHS if tasks < below), WIDEST)


def questions(files: int, most: int) -> tuple[str, ...]:
    """Gives what scouts are asked about a goal in a project of so many files, `most` at the most."""
    wanted = next((number for below, number in _SCOUTS if files < below), WIDEST)
    return QUESTIONS[: max(1, min(wanted, most))]


def title(text: str) -> str:
    """Gives the first line of a text that says anything, cut."""
    line = next((each.strip() for each in text.splitlines() if each.strip()), "")
    return line if len(line) <= TITLE_MAX else f"{line[: TITLE_MAX - 1]}…"


def scout_prompt(wanted: str, question: str, goal: str = "") -> str:
    """Says what a scout is asked; `wanted` is what the settings add, `goal` what it is for."""
    about = (
        f"It is about this goal, which others will work towards:\n\n{goal}\n\nYour question: " if goal else ""
    )
    return "\n".join(filter(None, (_SCOUT.format(about=about, question=question), wanted)))


def plan_prompt(wanted: str, goal: str, found: Iterable[tuple[str, str]]) -> str:
    """Says what the architect is asked; `found` are the questions and what scouts found."""
    return "\n".join(filter(None, (_ARCHITECT.format(goal=goal, findings=merged(found, FOUND_MAX)), wanted)))


def merged(found: Iterable[tuple[str, str]], most: int | None = None) -> str:
    """Writes questions and findings as one text, each cut to `most` characters."""
    return "\n\n".join(f"## {question}\n\n{_cut(text.strip(), most)}" for question, text in found)


def _cut(text: str, most: int | None) -> str:
    return text if most is None or len(text) <= most else f"{text[:most]}\n[…]"


_FENCED = re.compile(r"^(`{3,}|~{3,})[ \t]*(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"^\s*(\[\[?\w|\{)", re.MULTILINE)


def plan_text(answer: str) -> str:
    """Gives the plan of an architect's answer: all of it, or where words are around it the largest fenced part that can be one."""
    fenced: Sequence[str] = [found[3] for found in _FENCED.finditer(answer) if _TABLE.search(found[3])]
    outside = _FENCED.sub("", answer)
    if not fenced or _TABLE.search(outside):
        return answer
    return max(fenced, key=len)


def draft_name(text: str) -> str:
    """Names the file of a plan by the form that its text has."""
    return "plan.json" if text.lstrip().startswith("{") else "plan.toml"


def digest(text: str) -> str:
    """Names the content of a plan."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

"""A Markdown roadmap with check boxes, read as a plan: one task per box, boxes inside a box are its steps.

Headings with `PRIORITY n` put what is below them in order, lower numbers first. Ids are made of the text, so they stay when
lines are added, moved or ticked off.

Rules for editing: only the character between the brackets is ever written back.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import field

from swarm.core.document import Problem, one_line
from swarm.core.model import Defaults, PlanSpec, TaskSpec, TaskState, slug
from swarm.dataclass import dataclass

PRIORITY_FIRST = 1000  # a task's priority is this less the heading's number, and 0 without one

# What other tools put into a box (`~`, `/`, `>`, …) differs from tool to tool; a letter or a digit is no box but a reference.
_BOX = re.compile(
    r"(?P<indent>[ \t>]*)(?:[-*+]|\d+[.)])[ \t]+\[(?P<mark>[ xX]|[^\w\s\]]?)\][ \t]+(?P<text>.*\S)"
)
_TICKS = frozenset("xX✓✔☑✅")
_DROPPED = "-"
_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t]*#*$")
_PRIORITY = re.compile(r"\bpriority\b\W{0,3}(\d{1,4})\b", re.IGNORECASE)
_FENCE = re.compile(r"[ \t]*(```+|~~~+)")


@dataclass(slots=True)
class Box:
    """A check box: `offset` is where its mark stands in the text, or belongs, `notes` are the lines below it that belong to it."""

    id: str
    text: str
    line: int
    offset: int
    mark: str
    indent: int
    priority: int
    section: str
    inner: list[Box] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def checked(self) -> bool:
        """Tells whether the box is ticked."""
        return self.mark in _TICKS

    @property
    def finished(self) -> bool:
        """Tells whether nothing of it is to be done: it and all boxes inside it are ticked, or dropped."""
        return self.mark == _DROPPED or (self.checked and all(box.finished for box in self.inner))


def boxes(text: str) -> list[Box]:
    """Finds the outermost check boxes of a text, in the order in which they stand; those in code blocks are no boxes."""
    found: list[Box] = []
    open_boxes: list[Box] = []
    headings: list[tuple[int, str, int]] = []
    fence = ""
    offset = 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        start, offset = offset, offset + len(line)
        fenced = _FENCE.match(line)
        if fenced and (not fence or fenced[1].startswith(fence)):
            fence = "" if fence else fenced[1]
        elif fence:
            continue
        elif heading := _HEADING.match(line.rstrip("\r\n")):
            level = len(heading[1])
            headings = [one for one in headings if one[0] < level]
            given = _PRIORITY.search(heading[2])
            inherited = headings[-1][2] if headings else 0
            headings.append(
                (level, heading[2], PRIORITY_FIRST - min(int(given[1]), 999) if given else inherited)
            )
            open_boxes = []
        elif match := _BOX.match(line):
            indent = len(match["indent"].expandtabs(4))
            open_boxes = [one for one in open_boxes if one.indent < indent]
            section = " / ".join(title for _, title, _ in headings)
            priority = headings[-1][2] if headings else 0
            offset_of_mark = start + match.start("mark")
            box = Box(
                "",
                one_line(match["text"], 4000),
                number,
                offset_of_mark,
                match["mark"],
                indent,
                priority,
                section,
            )
            (open_boxes[-1].inner if open_boxes else found).append(box)
            open_boxes.append(box)
        elif open_boxes and line.strip() and line[0] in " \t":
            open_boxes[-1].notes.append(line.strip())
        elif line.strip():
            open_boxes = []
    _identify(found)
    return found


def _identify(found: list[Box]) -> None:
    seen: Counter[str] = Counter()
    for box in found:
        box.id = slug(box.text, max_length=40)
        seen[box.id] += 1
        if seen[box.id] > 1:
            box.id = f"{box.id}-{seen[box.id]}"


def to_plan(
    text: str, *, source: str, stem: str, defaults: Defaults
) -> tuple[PlanSpec, dict[str, str], list[Problem], list[Problem]]:
    """Gives the plan, the place of each task, errors and warnings."""
    found = boxes(text)
    warnings = [Problem(f"line {box.line}", text) for box in found if (text := _odd(box))]
    errors = (
        [] if found else [Problem("", "no task found: a roadmap has lines such as `- [ ] Add a login page`")]
    )
    ordered = sorted(found, key=lambda box: -box.priority)
    plan = PlanSpec(
        id=slug(stem),
        name=stem,
        format="Markdown roadmap",
        tasks=tuple(_task(box, defaults) for box in ordered),
        source=source,
    )
    return plan, {box.id: f"line {box.line}" for box in found}, errors, warnings


def _odd(box: Box) -> str:
    """Says what of a box may be meant otherwise than it is read; "" of a plain one."""
    text = one_line(box.text, 60)
    if box.checked and not box.finished:
        return f'contradiction: "{text}" is ticked while a box inside it is not; it is not finished'
    if box.mark == _DROPPED:
        return f'"{text}" is marked [-], which is read as dropped: it is not run, as if it were finished; [ ] opens it'
    if not box.checked and box.mark != " ":
        return f'"{text}" has the unknown mark [{box.mark}]; it is read as open: [x] is finished, [-] dropped'
    return ""


def _task(box: Box, defaults: Defaults) -> TaskSpec:
    parts = [
        box.text,
        "\n".join(box.notes),
        "\n".join(_steps(box, 0)),
        f"Part of: {box.section}" if box.section else "",
    ]
    return TaskSpec(
        id=box.id,
        title=one_line(re.sub(r"\*\*|__|`", "", box.text)),
        prompt="\n\n".join(part for part in parts if part) + "\n",
        agent=defaults.agent,
        timeout_s=defaults.timeout_s,
        no_output_s=defaults.no_output_s,
        attempts=defaults.attempts,
        priority=box.priority,
        finished=box.finished,
    )


def _steps(box: Box, depth: int) -> list[str]:
    lines: list[str] = []
    for inner in box.inner:
        lines.append(f"{'  ' * depth}- [{'x' if inner.checked else inner.mark or ' '}] {inner.text}")
        lines += [f"{'  ' * depth}  {note}" for note in inner.notes]
        lines += _steps(inner, depth + 1)
    return lines


def write_back(text: str, states: Mapping[str, TaskState]) -> str:
    """Ticks the boxes of tasks that have landed, with those inside them, and unticks those of tasks that have not. What a person
    has dropped stays so."""
    characters = list(text)
    for box in boxes(text):
        state = states.get(box.id)
        if state is TaskState.LANDED:
            _tick(box, characters)
        elif state is not None and box.checked and box.finished:
            characters[box.offset] = " "
    return "".join(characters)


def _tick(box: Box, characters: list[str]) -> None:
    if box.mark == _DROPPED:
        return
    if not box.checked:
        characters[box.offset] = "x" if box.mark else "x]"
    for inner in box.inner:
        _tick(inner, characters)

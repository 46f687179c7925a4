"""What `swarm check` says of plans that were read, for programs and for people, and which file of a folder is a plan.

Rules for editing: pure; the document is the one of the public contract (section 5), and the text says nothing that is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from swarm.core import discover
from swarm.core.discover import Project
from swarm.core.document import Problem
from swarm.core.graph import Overlaps, graph, overlaps
from swarm.core.model import PlanSpec
from swarm.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """A plan as far as it could be read; it is valid when there are no errors. `places` says where each task stands in the file."""

    plan: PlanSpec | None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)


# --- which file -------------------------------------------------------------------------------------------------------------

_ENDINGS = ("toml", "json", "yaml", "yml")
_PLAN_NAMES = (
    *(f"{name}.{ending}" for name in ("swarm-plan", "swarm_plan", "plan.swarm") for ending in _ENDINGS),
    "implementation_plan.json",
    "feature_list.json",
    "build-tasks.json",
    *(f"plan.{ending}" for ending in _ENDINGS),
    "roadmap.md",
)


def choose_in_folder(names: Iterable[str]) -> str | None:
    """Picks the plan among the names of a folder's files, letter case aside; None where none has a plan's name."""
    there = {name.casefold(): name for name in sorted(names, reverse=True)}
    return next((there[name] for name in _PLAN_NAMES if name in there), None)


def match_spec(number: str, names: Iterable[str]) -> list[str]:
    """Gives the folders that a spec's number means: `001` means `001-login`; where none begins so, `1` means it too."""
    wanted = number.strip().strip("/")
    if not wanted.isdecimal():
        return []
    numbered = {name: found[0] for name in sorted(names) if (found := re.match(r"\d+(?=\D|$)", name))}
    exact = [name for name, digits in numbered.items() if digits == wanted]
    return exact or [name for name, digits in numbered.items() if int(digits) == int(wanted)]


# --- what `swarm check` says --------------------------------------------------------------------------------------------------


def check_document(readings: Sequence[tuple[str, Reading]], project: Project | None = None) -> dict[str, Any]:
    """Gives the document of `swarm check --json` (public contract, section 5). `project` is what `verify = "auto"` looks at."""
    plans = [_checked(source, reading, project) for source, reading in readings]
    seen: dict[str, str] = {}
    for plan in plans:
        other = seen.setdefault(plan["id"], plan["file"]) if plan["id"] else plan["file"]
        if other != plan["file"]:
            text = f'the run id "{plan["id"]}" is that of {other} too: submitted, both would be one run'
            plan["warnings"].append({"place": "name", "text": text})
    return {
        "schema": 1,
        "ok": all(reading.plan is not None and not reading.errors for _, reading in readings),
        "plans": plans,
    }


def _checked(source: str, reading: Reading, project: Project | None) -> dict[str, Any]:
    plan = reading.plan
    warnings = [*reading.warnings]
    made: dict[str, Any] = {
        "file": source,
        "format": "unknown",
        "id": "",
        "phases": [],
        "tasks": [],
        "waves": [],
    }
    made |= {"critical_path": [], "widest": 0}
    if plan is not None and project is not None and discover.asks(plan):
        found = discover.suites(project)
        made["verify_found"] = discover.document(found)
        warnings += [Problem("verify", text) for text in discover.missing(found, project)]
        if not found:
            warnings.append(
                Problem("verify", "auto finds no suites in this project: what lands is not verified by them")
            )
    if plan is not None:
        shape = graph(plan)
        warnings += _overlap_problems(overlaps(plan))
        inherited = {phase.id: (*phase.needs, *phase.phase_needs) for phase in plan.phases}
        made |= {"format": plan.format, "id": plan.id, "waves": shape.waves}
        made |= {"critical_path": shape.critical_path, "widest": shape.widest}
        made["phases"] = [
            {
                "id": phase.id,
                "title": phase.title,
                "needs": list(inherited[phase.id]),
                "parallel_safe": phase.parallel_safe,
            }
            for phase in plan.phases
        ]
        made["tasks"] = [
            {
                "id": task.id,
                "title": task.title,
                "phase": task.phase,
                "needs": list(
                    dict.fromkeys((*task.needs, *task.phase_needs, *inherited.get(task.phase or "", ())))
                ),
                "claims": [{"path": claim.path, "mode": claim.mode.value} for claim in task.claims],
                "finished": task.finished,
            }
            for task in plan.tasks
        ]
    for key, problems in (("errors", reading.errors), ("warnings", warnings)):
        made[key] = [{"place": problem.place, "text": problem.text} for problem in problems]
    return made


def _overlap_problems(found: Overlaps) -> Iterator[Problem]:
    for overlap in found.found:
        yield Problem(f"{overlap.first}, {overlap.second}", overlap.text)
    if found.more:
        yield Problem("", f"and {found.more} more overlaps of claims")
    if not found.complete:
        yield Problem("", "the plan is too large to look at every pair of claims; there may be more overlaps")


def check_text(checked: Mapping[str, Any]) -> str:
    """Says the same for people; `checked` is what `check_document` gave."""
    return "\n\n".join("\n".join(_plan_lines(plan)) for plan in checked["plans"]) + "\n"


def _plan_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    errors, warnings, tasks = plan["errors"], plan["warnings"], plan["tasks"]
    verdict = f"invalid, {_count(len(errors), 'error')}" if errors else "valid"
    yield f"{plan['file']}: {verdict} ({plan['format']})"
    for problem in errors:
        yield f"  error    {_at(problem)}"
    for problem in warnings:
        yield f"  warning  {_at(problem)}"
    if not tasks:
        return
    finished = sum(task["finished"] for task in tasks)
    phases = f" in {_count(len(plan['phases']), 'phase')}" if plan["phases"] else ""
    yield f"  run      {plan['id']}: {_count(len(tasks), 'task')}{phases}, {finished} finished already"
    for number, wave in enumerate(plan["waves"][:12], 1):
        yield f"  wave {number:<3} {_few(wave, ', ')}"
    if len(plan["waves"]) > 12:
        yield f"  and {len(plan['waves']) - 12} more waves"
    for suite in plan.get("verify_found", ()):
        yield f"  verify   {suite['name']}: {suite['run']} (found by {suite['by']})"
    if plan["critical_path"]:
        yield f"  longest  {_few(plan['critical_path'], ' -> ')} ({_count(len(plan['critical_path']), 'task')})"
        yield f"  widest   {_count(plan['widest'], 'worker')} can be of use at once"


def _at(problem: Mapping[str, str]) -> str:
    return f"{problem['place']}: {problem['text']}" if problem["place"] else problem["text"]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _few(names: Sequence[str], between: str) -> str:
    shown = between.join(names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"

"""Reads what workers answer whose tasks ask for one: findings, or a plan, which is held against all that a plan is held against.

Rules for editing: called when the work is collected, perhaps again after a crash: what is read does not change any more. Nothing
that a worker wrote may raise here; what is wrong with it is said so that its author can mend it.
"""

from __future__ import annotations

import dataclasses

from swarm import config
from swarm.core import commands as cmd
from swarm.core import discover
from swarm.core import goal as goals
from swarm.core.model import PlanSpec
from swarm.core.places import AttemptPlaces
from swarm.daemon import intake
from swarm.daemon.edges import Edges
from swarm.daemon.verification import tail_of
from swarm.dataclass import dataclass
from swarm.edge import contract, heard, whole
from swarm.errors import SwarmError

PRINTED_MAX = 100_000  # bytes from the end of what a command printed, where that is its answer
ERRORS_SHOWN = 50
_ALL_PRINTED = "It is all that the command printed, errors and warnings too: write the answer to $SWARM_ANSWER_FILE instead."


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker answered, the plan that this is, and what is wrong with it."""

    text: str
    plan: PlanSpec | None = None
    problem: str = ""


def read(command: cmd.Collect, edges: Edges) -> Answer | None:
    """Reads an answer, None where none was asked for; the plan in it is put into a file of its own for people."""
    if not command.answer:
        return None
    places = edges.places.attempt(command.run, command.task, command.attempt)
    text, problem = contract.read_answer(places.answer)
    text = text if text.strip() else heard.last_words(places) or command.said
    printed = "" if text.strip() else _printed(places)
    text = text if text.strip() else printed
    if not text.strip():
        return Answer(
            "",
            problem=problem
            or f"it gave no {command.answer}: nothing is in the file that SWARM_ANSWER_FILE names",
        )
    if command.answer != goals.PLAN:
        return Answer(text)
    wanted = goals.plan_text(text)
    plan, problem = read_plan(wanted, goals.draft_name(wanted), edges)
    if not problem:
        whole.write(places.draft(goals.draft_name(wanted)), wanted, durable=False)
    elif printed:
        problem = f"{problem}\n{_ALL_PRINTED}"
    return Answer(text, plan, problem)


def _printed(places: AttemptPlaces) -> str:
    """Gives what a worker printed, where that is plain text."""
    if heard.format_of(places) is not None:
        return ""
    return tail_of(places.output, lines=PRINTED_MAX, most=PRINTED_MAX)


def read_plan(text: str, source: str, edges: Edges) -> tuple[PlanSpec | None, str]:
    """Reads a plan as `swarm check` does and holds it against agents and ownership; gives it, or what is wrong with it."""
    settings = edges.settings
    reading = intake.drafted(text, source, settings)
    if reading.errors or reading.plan is None:
        listed = [": ".join(filter(None, (each.place, each.text))) for each in reading.errors[:ERRORS_SHOWN]]
        more = len(reading.errors) - len(listed)
        listed += [f"and {more} more"] if more else []
        return None, "the plan is not valid:\n" + "\n".join(f"  {line}" for line in listed)
    plan = reading.plan
    roles = tuple(dataclasses.replace(task, role=task.role or goals.BUILDER) for task in plan.tasks)
    plan = dataclasses.replace(plan, tasks=roles)
    try:
        intake.check_agents(plan, edges.agents, edges.environ)
        intake.check_ownership(plan, config.to_roles(settings))
        intake.check_paths(plan, edges.repository, settings)
        if discover.asks(plan):
            plan = discover.filled_in(plan, intake.suites_of(edges.repository))
    except SwarmError as error:
        return None, error.cause
    return plan, ""

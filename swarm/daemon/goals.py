"""Takes goals in: who looks, plans and builds, as the settings and the request say; and approvals of the plans that come of them.

Rules for editing: what can be refused is refused before anything is asked of the machine, and nothing is begun that could not go on
for want of an agent. An approval is one of what the plan's file says at that moment; a file that goes away afterwards takes
nothing with it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

from swarm import shapes
from swarm.core import building, suites
from swarm.core import goal as goals
from swarm.core import messages as m
from swarm.core.goal import Goal
from swarm.core.model import COMMAND, PlanSpec, TaskSpec, slug
from swarm.core.run import Run
from swarm.daemon import answers, closing, usable
from swarm.daemon.coordinator import Coordinator
from swarm.daemon.submitting import Submitter
from swarm.edge import contract, project, whole
from swarm.errors import Refused, UsageError
from swarm.settings import RoleSettings
from swarm.worker.agents import missing

KINDS = ("scout", "plan", "build")
DRAFTS_MIN = 3  # attempts at a plan, however few others have: its errors are cheap to find and to mend
ID_LENGTH = 40


class Goals:
    """Answers requests that begin with a goal; the submitter's lock is held."""

    def __init__(self, coordinator: Coordinator, submitter: Submitter) -> None:
        self._coordinator = coordinator
        self._submitter = submitter
        self._edges = submitter.edges

    async def begin(self, wanted: shapes.GoalRequest) -> shapes.GoalAnswer:
        """Begins a run for a goal; the same goal again is the same run."""
        kind, text = str(wanted["kind"]), str(wanted["text"]).strip()
        if kind not in KINDS or not text:
            raise UsageError("There is no goal to go for.", "Nothing was begun.")
        name = goals.title(text)
        run_id = slug(str(wanted.get("id") or "") or name, max_length=ID_LENGTH)
        known = self._coordinator.swarm.runs.get(run_id)
        if known is not None:
            if known.way is not None and known.way.goal.text == text:
                return {"run": run_id, "joined": True}
            raise Refused(
                f"There is a run {run_id} already, and it is about something else.",
                "Nothing was begun.",
                "give this one another id with --id",
            )
        scouts = await asyncio.to_thread(lambda: self._scouts("" if kind == "scout" else text, wanted))
        goal = self._goal(kind, text, wanted)
        plan = PlanSpec(id=run_id, name=name, tasks=tuple(scouts))
        await self._submitter.submit(plan, here=str(wanted.get("here") or ""), goal=goal)
        return {"run": run_id, "joined": False}

    def _goal(self, kind: str, text: str, wanted: shapes.GoalRequest) -> Goal:
        if kind == "scout":
            return Goal(text)
        self._check_builders()
        settings = self._edges.settings
        architect = self._role(goals.ARCHITECT, f"Plan: {goals.title(text)}", goals.PLAN)
        reviewer, fixer, rounds_max = None, None, settings.qa.rounds_max
        if rounds_max:
            reviewer, fixer, rounds_max = closing.Closing(self._coordinator, self._edges).who_reviews()
        return Goal(
            text,
            dataclasses.replace(architect, attempts=max(DRAFTS_MIN, settings.limits.attempts)),
            builds=kind == "build",
            approved=bool(wanted.get("approved")),
            sequential=bool(wanted.get("sequential")),
            verify=suites.asked_for(wanted.get("verify") or ()),
            reviewer=reviewer,
            fixer=fixer,
            rounds_max=rounds_max,
        )

    def _scouts(self, goal: str, wanted: shapes.GoalRequest) -> list[TaskSpec]:
        """Makes a task for each question."""
        most = self._coordinator.swarm.limits.workers_max
        asked = [str(each).strip() for each in wanted.get("questions") or () if str(each).strip()]
        if not asked:
            there = project.look(self._edges.repository.working_top())
            asked = list(goals.questions(len(there.names), most))
        specs = []
        for number, question in enumerate(asked, 1):
            spec = self._role(goals.SCOUT, goals.title(question), goals.FINDINGS)
            prompt = goals.scout_prompt(spec.prompt, question, goal)
            specs.append(dataclasses.replace(spec, id=f"{goals.SCOUT}-{number}", prompt=prompt))
        return specs

    def _role(self, role: str, title: str, answer: str) -> TaskSpec:
        """Makes what a task of a role is made from. Raises `UsageError` where nobody could do its work."""
        settings, said = self._edges.settings, self._said(role)
        agent = said.agent or (COMMAND if said.run else settings.agent)
        if agent == COMMAND and not said.run:
            raise UsageError(
                f"Nobody is said to be the {role}: the default agent takes commands, and there is none.",
                "Nothing was begun.",
                f'[roles.{role}] in swarm.toml: agent = "NAME" (swarm agents lists them), or run = "COMMAND"',
            )
        spec = TaskSpec(
            id=role,
            title=title,
            run=said.run if agent == COMMAND else "",
            prompt=said.prompt,
            agent=agent,
            timeout_s=settings.limits.timeout_s,
            attempts=settings.limits.attempts,
            allow_empty=True,
            role=role,
            no_output_s=settings.limits.no_output_s,
            answer=answer,
        )
        self._check_usable(role, spec)
        return spec

    def _check_builders(self) -> None:
        """Sees, before anything is spent on a plan, that somebody could carry it out."""
        agent = self._said(goals.BUILDER).agent or self._edges.settings.agent
        if agent != COMMAND:
            self._check_usable(goals.BUILDER, TaskSpec(id=goals.BUILDER, title=goals.BUILDER, agent=agent))
        elif not self._said(goals.ARCHITECT).run:  # an architect that is a command may write commands
            raise UsageError(
                "Nobody is said to build: the default agent takes commands, and an agent's plan has none.",
                "Nothing was begun.",
                '[roles.builder] agent = "NAME" in swarm.toml (swarm agents lists them)',
            )

    def _check_usable(self, role: str, spec: TaskSpec) -> None:
        edges = self._edges
        wrong = missing([spec], edges.agents)
        wrong += [each.reason for each in usable.not_usable([spec], edges.agents, edges.environ)]
        if wrong:
            raise UsageError(
                f"The agent of {role} can't be used: {wrong[0]}.", "Nothing was begun.", "swarm agents"
            )

    def _said(self, role: str) -> RoleSettings:
        return self._edges.settings.roles.get(role) or RoleSettings()

    # --- approvals

    async def approve(self, run: Run, wanted: shapes.ApproveRequest) -> dict[str, Any]:
        """Takes an approval of a run's plan in, and with `build` begins to carry out what is approved of."""
        way, digest, build = run.way, str(wanted.get("digest") or ""), bool(wanted.get("build"))
        if way is None or way.plan is None:
            raise Refused(
                f"Run {run.id} has no plan to approve of{'' if way is None else f': it is {building.stage(run)}'}.",
                "Nothing was done.",
                f"swarm status --run {run.id}",
            )
        path = building.draft(run, way, self._edges.places)
        text = await asyncio.to_thread(
            lambda: _text(path, "" if way.approved else building.drafted(run, way))
        )
        # Its file is gone: what was approved of stands in the journal.
        found = goals.digest(text) if text else way.approved
        if digest and found != digest:
            raise Refused(
                "The plan was edited while you looked at it.",
                "Nothing was approved of.",
                f"swarm plan {run.id}",
            )
        if not digest and found != way.approved:
            cause = "was edited since it was approved of" if way.approved else "has not been approved of"
            raise Refused(
                f"The plan of run {run.id} {cause}.",
                "Nothing was begun.",
                f"swarm plan {run.id} shows it, swarm plan {run.id} --approve approves of it",
            )
        if found != way.approved or (build and not way.taken_in):
            plan = await asyncio.to_thread(lambda: self._plan(text, path)) if text else way.plan
            event = m.ApprovalGiven(
                at=self._coordinator.now(), run=run.id, plan=plan, digest=found, build=build or way.taken_in
            )
            await self._coordinator.ask(event)
        return {"run": run.id, "digest": found}

    def _plan(self, text: str, path: Path) -> PlanSpec:
        plan, wrong = answers.read_plan(text, path.name, self._edges)
        if plan is None:
            raise UsageError(
                f"{path} can't be approved of: {wrong}.", "Nothing was done.", f"mend it; swarm check {path}"
            )
        return plan


def _text(path: Path, drafted: str) -> str:
    """Reads a plan's file as it is now; one that is gone is written again as the architect gave it, where that is given."""
    text, problem = contract.read_answer(path)
    if problem:
        raise UsageError(f"{path}: {problem}", "Nothing was done.")
    if drafted and not text:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.write(path, drafted, durable=False)
    return text or drafted

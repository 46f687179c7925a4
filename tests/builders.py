"""Small makers of plans, tasks and swarms for tests; each argument left out gets a harmless value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from swarm.core import commands as cmd
from swarm.core import machine
from swarm.core import messages as m
from swarm.core.model import Claim, Limits, Mode, PhaseSpec, PlanSpec, Readings, Suite, TaskSpec
from swarm.core.plan import Reading
from swarm.core.state import Swarm, Turn

CALM = Readings(
    cpu_percent=5.0, memory_percent=20.0, memory_available_bytes=16 * 2**30, disk_free_bytes=2**40
)
BASE = "b" * 40
C = TypeVar("C", bound=cmd.Command)


def a_claim(text: str) -> Claim:
    """`path` is exclusive, `+path` shared."""
    return Claim(text[1:], Mode.SHARED) if text.startswith("+") else Claim(text)


def a_task(
    name: str,
    *,
    needs: Sequence[str] = (),
    claims: Sequence[str] = (),
    phase: str | None = None,
    phase_needs: Sequence[str] = (),
    verify: Sequence[str] = (),
    attempts: int = 2,
    priority: int = 0,
    allow_empty: bool = False,
    finished: bool = False,
    timeout_s: float = 3600.0,
    memory_mb: int = 0,
    title: str = "",
) -> TaskSpec:
    return TaskSpec(
        id=name,
        title=title or f"Task {name}",
        phase=phase,
        needs=tuple(needs),
        phase_needs=tuple(phase_needs),
        claims=tuple(a_claim(text) for text in claims),
        run="true",
        verify=tuple(Suite(name=text, run=text) for text in verify),
        attempts=attempts,
        priority=priority,
        allow_empty=allow_empty,
        finished=finished,
        timeout_s=timeout_s,
        memory_mb=memory_mb,
    )


def a_plan(
    *tasks: TaskSpec, phases: Sequence[PhaseSpec] = (), verify: Sequence[str] = (), name: str = "plan"
) -> PlanSpec:
    suites = tuple(Suite(name=text, run=text) for text in verify)
    return PlanSpec(id=name, name=name, tasks=tasks, phases=tuple(phases), verify=suites)


def submitted(plan: PlanSpec, at: float = 1.0, **options: object) -> m.PlanSubmitted:
    return m.PlanSubmitted(
        at=at,
        run=plan.id,
        plan=plan,
        base_branch="main",
        base_commit=BASE,
        **options,  # type: ignore[arg-type]
    )


class Bench:
    """A swarm with its clock, and the commands that have not been answered, to drive by hand."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.swarm = Swarm()
        self.now = 0.0
        self.commands: list[cmd.Command] = []
        self.facts: list[m.Fact] = []
        self.events: list[m.Event] = []
        self.send(
            m.DaemonStarted(
                at=0.0, version="test", pid=1, limits=limits or Limits(ramp_per_s=1000.0), rules=m.RULES
            )
        )

    def send(self, event: m.Event) -> Turn:
        turn = machine.step(self.swarm, event)
        self.events.append(event)
        self.commands.extend(turn.commands)
        self.facts.extend(turn.facts)
        return turn

    def submit(self, plan: PlanSpec, **options: object) -> Turn:
        turn = self.send(submitted(plan, at=self.now, **options))
        for command in self.take(cmd.PrepareRun):
            self.send(m.RunPrepared(at=self.now, run=command.run, commit=command.base, worktree="/staging"))
        self.measure()
        return turn

    def measure(self, readings: Readings = CALM) -> None:
        """Answers the outstanding look at the machine, if there is one."""
        if self.take(cmd.MeasureHost):
            self.send(m.HostMeasured(at=self.now, readings=readings))

    def take(self, kind: type[C], task: str | None = None) -> list[C]:
        """Takes the outstanding commands of a kind, of one task or of all."""
        found = [c for c in self.commands if isinstance(c, kind) and task in (None, getattr(c, "task", None))]
        self.commands = [c for c in self.commands if c not in found]
        return found

    def sole(self, kind: type[C], task: str | None = None) -> C:
        """Takes the one outstanding command of a kind."""
        (found,) = self.take(kind, task)
        return found


def the_plan(reading: Reading) -> PlanSpec:
    """The plan that was read; one with errors fails the test with them."""
    assert reading.plan is not None, reading.errors
    return reading.plan


def tasks_of(reading: Reading) -> dict[str, TaskSpec]:
    """The tasks of the plan that was read, by their ids."""
    return {task.id: task for task in the_plan(reading).tasks}

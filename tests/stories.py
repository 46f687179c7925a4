"""Leads a bench through whole steps of a task's way, so that a test can say where its story begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.claims import ClaimTable
from swarm.core.model import Attempt, PlanSpec, Readings, Sides, SuiteResult, Task, TaskState, WorkerResult
from swarm.core.run import Run
from swarm.core.state import Swarm, Turn, next_deadline, still_due
from swarm.core.waiting import Waiting
from tests.builders import CALM, Bench


def snapshot(value: Any) -> Any:
    """Everything that a value holds, as plain data that can be compared; deadlines whose reason is gone are left out."""
    if isinstance(value, Swarm):
        due = sorted({deadline for deadline in value.deadlines if still_due(value, deadline)})
        return {**_fields(value), "deadlines": due}
    if isinstance(value, ClaimTable):
        return [(held.holder, held.claim) for held in value.held()]
    if isinstance(value, Waiting):
        return sorted(value.tasks().items())
    if isinstance(
        value, Run
    ):  # what was once put on the table and is passed over when its turn comes is no state
        return {**_fields(value), "_heaps": None, "_open": None, "filed": value.filed()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, (list, tuple)):
        return [snapshot(item) for item in value]
    return value


def _fields(value: Any) -> dict[str, Any]:
    return {item.name: snapshot(getattr(value, item.name)) for item in dataclasses.fields(value)}


class Story(Bench):
    """A bench that answers commands by what they are about. Every commit it makes up is new."""

    commits = 0
    turn: Turn  # that of the last verdict

    @property
    def run(self) -> Run:
        """The only run, or the first."""
        return next(iter(self.swarm.runs.values()))

    def task(self, name: str) -> Task:
        return self.run.tasks[name]

    def attempt(self, name: str) -> Attempt:
        """The newest attempt of a task."""
        found = self.task(name).attempt
        assert found is not None
        return found

    def state(self, name: str) -> str:
        return self.task(name).state.value

    def states(self) -> dict[str, str]:
        return {name: task.state.value for name, task in self.run.tasks.items()}

    def why(self, name: str) -> str | None:
        """The code of a task's reason."""
        reason = self.task(name).reason
        return None if reason is None else reason.code

    def parked(self) -> dict[str, tuple[str, str]]:
        """The path and the task that each task which was passed over waits for."""
        found = {name: self.run.in_the_way(self.task(name)) for name in self.run.waiting.tasks()}
        return {name: (way.path, way.task) for name, way in found.items() if way is not None}

    def at_work(self) -> list[str]:
        """The tasks whose worker holds a slot, in the order of their start."""
        return [name for name in self.run.live if self.task(name).state is TaskState.RUNNING]

    def told(self, kind: str) -> list[m.Fact]:
        """The facts of a kind, oldest first."""
        return [fact for fact in self.facts if fact.type == kind]

    def has(self, kind: type[cmd.Command], task: str | None = None) -> bool:
        """Tells whether such a command is outstanding; leaves it there."""
        return any(isinstance(c, kind) and task in (None, getattr(c, "task", None)) for c in self.commands)

    def commit(self) -> str:
        self.commits += 1
        return f"{self.commits:040x}"

    def where(self, command: cmd.AttemptCommand) -> dict[str, Any]:
        return {"at": self.now, "run": command.run, "task": command.task, "attempt": command.attempt}

    def wait(self, seconds: float, readings: Readings = CALM) -> None:
        """Lets time go by, with every deadline in it, and the machine being looked at when asked for."""
        end = self.now + seconds
        while (due := next_deadline(self.swarm)) is not None and due <= end:
            self.now = max(self.now, due)
            self.send(m.Ticked(at=self.now))
            self.measure(readings)
        self.now = end

    # --- the worker's part

    def up(self, *tasks: str) -> None:
        """Gives each of these a worktree and a worker that runs."""
        for task in tasks:
            command = self.sole(cmd.TakeWorktree, task)
            self.send(m.WorktreeReady(**self.where(command), path=f"/pool/{task}"))
            start = self.sole(cmd.StartWorker, task)
            self.send(m.WorkerStarted(**self.where(start), pid=100, started_at=self.now))

    def exit(self, task: str, code: int | None = 0, result: WorkerResult | None = None) -> None:
        """The worker ends."""
        ends = self.take(cmd.EndWorker, task)
        command = (self.take(cmd.WatchWorker, task) or ends)[-1]
        self.send(m.WorkerExited(**self.where(command), exit_code=code, result=result or WorkerResult()))

    def collect(
        self,
        task: str,
        touched: Iterable[str] | None = None,
        commits: int = 1,
        problem: str = "",
        *,
        gone: bool = False,
        brought_in: bool = False,
        noticed: tuple[str, ...] = (),
        answer: str = "",
        plan: PlanSpec | None = None,
        tail: str = "",
    ) -> None:
        """What it left is committed; without `touched` it changed a file named like the task. `gone`: its worktree was deleted.
        `tail` is what it printed last, which is told only of one that failed."""
        command = self.sole(cmd.Collect, task)
        paths = (task,) if touched is None else tuple(touched)
        head = self.commit() if paths else command.base
        self.send(
            m.Collected(
                **self.where(command),
                head=head,
                commits=commits if paths else 0,
                touched=paths,
                problem=problem,
                gone=gone,
                brought_in=brought_in,
                noticed=noticed,
                answer=answer,
                plan=plan,
                tail=tail if command.failed else "",
            )
        )
        for back in self.take(cmd.GiveBackWorktree, task):
            self.send(m.WorktreeReturned(**self.where(back)))
        self.measure()

    def fail(self, task: str, code: int = 1) -> None:
        """The task's attempt runs and ends with that exit code."""
        self.up(task)
        self.exit(task, code)
        self.collect(task)

    def work(self, task: str, touched: Iterable[str] | None = None, commits: int = 1) -> None:
        """The task's attempt runs, ends well and waits in the merge queue, or is merged already."""
        self.up(task)
        self.exit(task)
        self.collect(task, touched, commits)
        self.send(m.BroughtIn(**self.where(self.sole(cmd.BringIn, task))))

    # --- the landing

    def merge(self, task: str) -> None:
        command = self.sole(cmd.Merge, task)
        self.send(m.CandidateMade(**self.where(command), onto=command.onto, candidate=self.commit()))

    def conflict(self, task: str, *paths: str, landings: Iterable[str] = ()) -> None:
        command = self.sole(cmd.Merge, task)
        self.send(
            m.MergeConflicted(
                **self.where(command),
                onto=command.onto,
                paths=paths or ("a",),
                landings=tuple(landings),
                versions=tuple(Sides(path, *"123") for path in paths),
            )
        )

    def verify(self, task: str, *outcomes: str, tail: str = "", duration_s: float = 0.0) -> cmd.Verify:
        """The suites of a candidate end: each with its outcome, or all with the one that is given, or well."""
        command = self.sole(cmd.Verify, task)
        ends = outcomes if len(outcomes) > 1 else (outcomes or ("passed",)) * len(command.suites)
        suites = tuple(
            SuiteResult(name=each.name, outcome=outcome, tail=tail, duration_s=duration_s)
            for each, outcome in zip(command.suites, ends, strict=True)
        )
        where = self.where(command)
        self.turn = self.send(
            m.Verified(**where, candidate=command.candidate, suites=suites, again=command.again)
        )
        return command

    def red(self, task: str, *outcomes: str, tail: str = "") -> None:
        """The suites of a candidate end otherwise than well, and what did so once more as it runs again; "failed" where
        nothing else is said."""
        self.verify(task, *(outcomes or ("failed",)), tail=tail)
        self.verify(task, *({each for each in outcomes if each != "passed"} or ("failed",)), tail=tail)

    def advance(self, task: str) -> str:
        command = self.sole(cmd.Advance, task)
        self.send(m.StagingAdvanced(**self.where(command), candidate=command.new))
        return command.new

    def moved(self, found: str, task: str | None = None) -> None:
        """Staging was not where the candidate was built on."""
        command = self.sole(cmd.Advance, task) if task else self.sole(cmd.Advance)
        self.send(m.StagingMoved(**self.where(command), found=found, candidate=command.new))

    def publish(self) -> str:
        command = self.sole(cmd.Publish)
        self.send(m.Published(at=self.now, run=command.run, commit=command.commit))
        for back in self.take(cmd.GiveBackWorktree):
            self.send(m.WorktreeReturned(**self.where(back)))
        for follow in self.take(cmd.Follow):
            self.send(m.Followed(at=self.now, run=follow.run, commit=follow.commit))
        self.measure()
        return command.commit

    def land(self, *tasks: str) -> None:
        """Each of these runs and lands, one after the other."""
        for task in tasks:
            self.work(task)
            self.merge(task)
            if self.has(cmd.Verify, task):
                self.verify(task)
            self.advance(task)
            self.publish()


def a_story(plan: PlanSpec, bench: Story | None = None, **options: object) -> Story:
    """A plan that has been submitted, prepared and started as far as there is room."""
    story = bench or Story()
    story.submit(plan, **options)
    return story

"""The machine is led at random through plans, answers, failures, requests and crashes; after each step it is held to its laws.

It is a simulation of the whole world, by a clock that is a number: commands are carried out in `outside`, in any order, and their
answers come at once, late, twice, or never because the daemon is killed first. SWARM_WALK_SEEDS says how many walks,
SWARM_WALK_FIRST by which seed they begin; `make walk` does many.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from swarm.core import commands as cmd
from swarm.core import machine, memory, ownership
from swarm.core import messages as m
from swarm.core.claims import overlap
from swarm.core.goal import PLAN
from swarm.core.invariants import invariants
from swarm.core.model import (
    TASK_ENDS,
    Claim,
    Issue,
    Limits,
    Mode,
    PlanSpec,
    Readings,
    Role,
    Seen,
    Sides,
    Standing,
    Step,
    SuiteResult,
    Task,
    TaskState,
    WorkerResult,
)
from swarm.core.run import Run
from swarm.core.state import (
    IllegalEvent,
    StaleEvent,
    Swarm,
    Turn,
    next_deadline,
    pending_commands,
    still_due,
)
from tests.builders import BASE, CALM, a_task
from tests.unit import plain_needs
from tests.unit.outside import Key, Outside, key_of
from tests.unit.random_plans import changed_plan, grown_plan, random_goal, random_plan, rush_plan

SEEDS = int(os.environ.get("SWARM_WALK_SEEDS", "60"))
FIRST = int(os.environ.get("SWARM_WALK_FIRST", "0"))
STEPS = 400
SIDES = (Sides("a/1", *"123"),)
OVERSTEPPED = (m.WorkerOutgrew, m.WorkerSilent, m.WorkerMultiplied)
QUEUED = ("BringIn", "Merge", "Rebase", "Revert", "Verify")  # what the merge queue asks for an attempt


def _key(command: cmd.Command) -> tuple[str, ...]:
    """Names a command; watching a worker and ending it are one thing outstanding."""
    kind = type(command).__name__
    kind = "Worker" if kind in ("WatchWorker", "SuspendWorker", "ThawWorker", "EndWorker") else kind
    return (kind, *(str(getattr(command, name, "")) for name in ("run", "task", "attempt")))


def _is_answered_by(wanted: cmd.Command, asked: cmd.Command, event: m.Event) -> bool:
    """Tells whether the answer to what was asked is one to what is wanted too: where staging was left by then is not in it, nor in
    that of a conflict what would have had to pass."""
    if isinstance(wanted, (cmd.Merge, cmd.Revert)) and isinstance(asked, (cmd.Merge, cmd.Revert)):
        asked = dataclasses.replace(asked, left=wanted.left)
    if (
        isinstance(wanted, cmd.Merge)
        and isinstance(asked, cmd.Merge)
        and isinstance(event, m.MergeConflicted)
    ):
        asked = dataclasses.replace(asked, verified=wanted.verified, batch=wanted.batch)
    return wanted == asked


def _order(task: Task) -> tuple[int, int]:
    return -task.spec.priority, task.order


class World:
    """Answers commands at random and remembers what it did, so that the machine can be held against it."""

    def __init__(self, seed: int, *, rush: bool = False) -> None:
        self.random = random.Random(seed)
        self.rush = rush  # many tasks come to the merge queue at once
        self.now = 1000.0
        self.log: list[str] = []
        self.outstanding: dict[tuple[str, ...], cmd.Command] = {}
        # What was carried out and is not told yet, with what was asked.
        self.on_its_way: dict[tuple[str, ...], tuple[cmd.Command, m.Event]] = {}
        self.answered: list[m.AttemptEvent] = []
        self.outside = Outside({BASE: ()})
        self.taken: dict[Key, tuple[Claim, ...]] = {}  # with which claims attempts started
        self.exits: dict[Key, dict[str, Any]] = {}  # how workers ended, as their launchers wrote it down
        self.plans: dict[str, PlanSpec] = {}
        self.kind = True
        self.rebuilt = False
        self.requests = 0
        self.branches: dict[str, Seen] = {}  # how each staging branch was last seen or put
        self.left: dict[str, str] = {}  # where we left it
        self.limits = self.some_limits()
        self.swarm = Swarm()
        self.send(m.DaemonStarted(at=self.now, version="walk", pid=1, limits=self.limits, rules=m.RULES))

    def some_limits(self) -> Limits:
        """Settings of a person's."""
        limits = Limits(
            workers_max=self.random.choice([1, 2, 4, 9]),
            strays=self.random.choice(["extend", "reject", "warn"]),
            spare_worktrees=self.random.choice([0, 1, 3]),
            verify_slots=self.random.choice([1, 1, 2, 3, 4]),
            breaker_failures=self.random.choice([0, 2, 3]),
            roles=(Role("one", max=1), Role("two", ("a/2",), max=2)) if self.random.random() < 0.8 else (),
            batches=self.random.random() < 0.5,
            same_failure_max=self.random.choice([0, 0, 1, 3]),
            keep_worktrees=self.random.random() < 0.2,
            follow_share=self.random.choice([0.0, 0.2]),
            budget_tokens=self.random.choice([0, 0, 0, 5_000]),
            task_budget_tokens=self.random.choice([0, 0, 0, 1_500]),
            day_budget_tokens=self.random.choice([0, 0, 0, 10_000]),
        )
        if self.rush:
            slots = self.random.choice([2, 3, 4])
            limits = dataclasses.replace(limits, workers_max=12, ramp_per_s=100.0, verify_slots=slots)
        return limits

    # --- moving on

    def send(self, event: m.Event) -> None:
        released = isinstance(event, m.Resumed) and event.run is None
        holds = {} if released else self.swarm.holds
        before = {agent: hold.until or float("inf") for agent, hold in holds.items() if not hold.step}
        turn = machine.step(self.swarm, event)
        self.log.append(json.dumps(m.event_to_json(event)))
        for command in turn.commands:
            key = _key(command)
            anew = key[0] == "Worker" or self._is_let_go(key)
            assert key not in self.outstanding or anew, f"{key} is outstanding twice"
            self.outstanding[key] = command
        self._forget_cancelled(turn)
        for fact in turn.facts:
            if fact.type == "TaskStarted":
                run = self.swarm.runs[str(fact.run)]
                task = run.tasks[str(fact.task)]
                self.taken[run.id, task.spec.id, len(task.attempts)] = run.wanted_claims(task)
                self.check_turn(run, task.spec.id)
                lacks = plain_needs.lacking(run, task)
                assert not lacks, f"{fact.task} started before {lacks} had landed"
                hold = before.get(str(fact.data["agent"]))
                assert hold is None or hold <= self.now, f"{fact.task} started while its agent was held"
                roles = [role for role in self.swarm.limits.roles if role.name == task.spec.role]
                for role in roles:  # of others more may be at work, since the settings were wider
                    assert len(ownership.counted(self.swarm, role.name)) <= role.max

    def check_turn(self, run: Run, started: str) -> None:
        """No task starts while one that overlaps it and comes before it waits for its turn, save after a conflict."""
        mine = run.tasks[started]
        if (
            len(mine.attempts) > 1
            and mine.attempts[-2].reason
            and mine.attempts[-2].reason.code == "conflict"
        ):
            return  # it has kept its claims, and others wait for it
        for name, task in run.tasks.items():
            waits = task.state is TaskState.READY and task.not_before is None and not task.paused
            kept = run.selected(task) and not task.alone and not run.gate_shut(task)
            if waits and kept and _order(task) < _order(mine):
                pairs = [(a, b) for a in run.wanted_claims(task) for b in run.wanted_claims(mine)]
                meet = [a for a, b in pairs if overlap(a.path, b.path) and {a.mode, b.mode} != {Mode.SHARED}]
                assert not meet, f"{started} started before {name}, which wants {meet}"

    def _is_let_go(self, key: tuple[str, ...]) -> bool:
        """Tells whether an attempt in the merge queue is merged anew, so that the answer to what was asked before comes late."""
        return key[0] in ("Merge", "Revert") and self.outstanding.get(key) not in pending_commands(self.swarm)

    def _forget_cancelled(self, turn: Turn) -> None:
        """The daemon drops the work of attempts that were cancelled in the merge queue, and what was asked of candidates that will
        not land; of these it is told."""
        pending = {_key(command): command for command in pending_commands(self.swarm)}
        for key, command in list(self.outstanding.items()):
            if key[0] in (*QUEUED, "LookAtStaging") and pending.get(key) != command:
                assert key[0] != "Verify" or (key[1], key[2], int(key[3])) in turn.dropped, f"{key} goes on"
                del self.outstanding[key]
                if key in pending:
                    self.outstanding[key] = pending[key]

    def check(self) -> None:
        assert invariants(self.swarm) == []
        assert [text for run in self.swarm.runs.values() for text in plain_needs.wrong(run)] == []
        pending = {_key(command) for command in pending_commands(self.swarm)}
        assert pending == set(self.outstanding)
        for run in self.swarm.runs.values():
            if run.prepared and not run.discarding:
                assert self.outside.is_below(run.staging, self.outside.staging[run.id])

    def crash(self) -> None:
        """Replays the journal: the same state comes out, and the same commands are outstanding, also those that were carried out
        and whose answers nobody hears any more."""
        self.on_its_way.clear()
        again = Swarm()
        for line in self.log:
            machine.step(again, m.event_from_json(json.loads(line)))
        assert _shape(again) == _shape(self.swarm)
        self.swarm = again
        self.outstanding.clear()
        self.now += 1.0
        if self.random.random() < 0.4:  # somebody has changed the settings
            self.limits = self.some_limits()
        self.send(m.DaemonStarted(at=self.now, version="walk", pid=2, limits=self.limits, rules=m.RULES))
        self.outstanding = {_key(command): command for command in pending_commands(self.swarm)}

    # --- answers

    def answer(self) -> None:
        """Has a command carried out, or hears of one that was."""
        if not self.outstanding:
            return
        key = self.random.choice(sorted(self.outstanding))
        self.now += self.random.random() * 0.5
        command = self.outstanding[key]
        if isinstance(command, cmd.SuspendWorker) and not self.chance(
            5
        ):  # else somebody kills it where it stands
            self.outside.stand_still(command)
            return
        if isinstance(command, cmd.WatchWorker) and self.chance(70):
            return  # it goes on working, so that others come to work beside it and its time may run out
        if isinstance(self.outstanding[key], cmd.Verify) and self.chance(90 if self.rush else 60):
            return  # its suites run on, so that others are merged behind it
        late = self.on_its_way.pop(key, None)
        if late is None:
            event = self.answer_to(self.outstanding[key])
            if self.chance(15) and not isinstance(event, OVERSTEPPED):  # which may come too late
                self.on_its_way[key] = (self.outstanding[key], event)
                return
        else:
            asked, event = late[0], dataclasses.replace(late[1], at=self.now)
            found = isinstance(event, m.StagingFoundAstray)  # which is so whatever is asked for
            if key[0] in QUEUED and not found and not _is_answered_by(self.outstanding[key], asked, event):
                self.refused(event)
                return
        del self.outstanding[key]
        self.send(event)
        if isinstance(event, m.AttemptEvent) and not isinstance(event, m.CommandFailed):
            self.answered = [*self.answered[-30:], event]

    def refused(self, event: m.Event) -> None:
        """Sends the answer to what is asked otherwise by now: it changes nothing."""
        if isinstance(event, m.CommandFailed):
            return  # it does not say what failed, and what is asked now may be tried later as well
        before = _shape(self.swarm)
        with pytest.raises(StaleEvent):
            self.send(event)
        assert _shape(self.swarm) == before

    def again(self) -> None:
        """Sends an answer a second time. It is refused and changes nothing, save where just that is asked for once more. None that
        says that a command failed: it does not say which time."""
        if not self.answered:
            return
        event = dataclasses.replace(self.random.choice(self.answered), at=self.now)
        before = _shape(self.swarm)
        try:
            self.send(event)
        except IllegalEvent:
            assert _shape(self.swarm) == before
        else:
            pending = {_key(command) for command in pending_commands(self.swarm)}
            self.outstanding = {key: c for key, c in self.outstanding.items() if key in pending}

    def commit(self, *parents: str) -> str:
        return self.outside.commit(*parents)

    def chance(self, percent: float) -> bool:
        return not self.kind and self.random.random() * 100 < percent

    def answer_to(self, command: cmd.Command) -> m.Event:
        maker = getattr(self, f"_on_{type(command).__name__}")
        where: dict[str, Any] = {"at": self.now}
        if isinstance(command, cmd.RunCommand):
            where["run"] = command.run
        if isinstance(command, cmd.AttemptCommand):
            where |= {"task": command.task, "attempt": command.attempt}
            may_fail = not isinstance(command, cmd.GiveBackWorktree)
            if may_fail and self.chance(4):
                trouble = self.trouble(50)
                may_run = isinstance(command, cmd.StartWorker) and self.starts_all_the_same(command, trouble)
                return m.CommandFailed(
                    **where,
                    command=type(command).__name__,
                    text="it failed",
                    trouble=trouble,
                    may_run=may_run,
                )
        elif isinstance(command, cmd.RunCommand) and not isinstance(command, cmd.Finish) and self.chance(10):
            return m.RunCommandFailed(
                **where, command=type(command).__name__, text="it failed", trouble=self.trouble(50)
            )
        answer: m.Event = maker(command, where)
        return answer

    def trouble(self, percent: float) -> str:
        return "the disk is full" if self.chance(percent) else ""

    def _on_MeasureHost(self, _: cmd.MeasureHost, where: dict[str, Any]) -> m.Event:
        if self.chance(20):
            busy = Readings(self.random.choice([60.0, 75.0, 85.0, 95.0]), 30.0, 2**30, 2**40)
            return m.HostMeasured(**where, readings=busy)
        if self.chance(20):
            taken = tuple((*each[:3], self.random.choice([0, 10**8])) for each in memory.growing(self.swarm))
            full = dataclasses.replace(CALM, memory_available_bytes=700_000_000)
            return m.HostMeasured(**where, readings=full, taken=taken)
        return m.HostMeasured(**where, readings=CALM, trouble=self.trouble(5))

    def _on_PrepareRun(self, command: cmd.PrepareRun, where: dict[str, Any]) -> m.Event:
        self.outside.staging.setdefault(command.run, command.base)
        return m.RunPrepared(**where, commit=command.base, worktree="/staging")

    def _on_TakeWorktree(self, command: cmd.TakeWorktree, where: dict[str, Any]) -> m.Event:
        run = self.swarm.runs[command.run]
        attempt = run.tasks[command.task].live
        assert attempt is not None
        for need in run.tasks[command.task].spec.needs if attempt.ending is None else ():
            if need not in run.finished_before and run.tasks[need].state is not TaskState.ANSWERED:
                landed = run.tasks[need].landed_commit
                assert landed is not None
                assert self.outside.is_below(landed, command.base), f"{command.task} starts without {need}"
        return m.WorktreeReady(**where, path=self.outside.take(command))

    def _on_StartWorker(self, command: cmd.StartWorker, where: dict[str, Any]) -> m.Event:
        self.start_worker(command)
        return m.WorkerStarted(**where, pid=7, started_at=self.now)

    def start_worker(self, command: cmd.StartWorker) -> None:
        run = self.swarm.runs[command.run]
        now = run.wanted_claims(run.tasks[command.task])  # of one that another world had started
        self.outside.start(command, self.taken.get(key_of(command), now))

    def starts_all_the_same(self, command: cmd.StartWorker, trouble: str) -> bool:
        """Tells whether a worker runs behind a start that failed: one that was there before, or of a machine without trouble."""
        if not trouble:
            self.start_worker(command)
        return key_of(command) in self.outside.started

    def _on_WatchWorker(self, command: cmd.WatchWorker, where: dict[str, Any]) -> m.Event:
        self.outside.runs(command)
        if command.memory_mb and key_of(command) in self.outside.alive and self.chance(30):
            return m.WorkerOutgrew(**where, memory_bytes=600_000_000)
        if key_of(command) in self.outside.alive and self.chance(5):
            return self.random.choice(
                [m.WorkerSilent(**where, silent_s=60.0), m.WorkerMultiplied(**where, processes=9000)]
            )
        code = self.random.choice([1, 75, None, 0, 0]) if self.chance(40) else 0
        return self.exited(command, where, code, self.trouble(20))

    def _on_SuspendWorker(self, command: cmd.SuspendWorker, where: dict[str, Any]) -> m.Event:
        return self.exited(command, where, None, "")

    def _on_ThawWorker(self, command: cmd.ThawWorker, where: dict[str, Any]) -> m.Event:
        self.outside.go_on(command)
        return self._on_WatchWorker(command, where)

    def _on_EndWorker(self, command: cmd.AttemptCommand, where: dict[str, Any]) -> m.Event:
        return self.exited(command, where, self.random.choice([143, 0, None]), "")

    def exited(
        self, command: cmd.AttemptCommand, where: dict[str, Any], code: int | None, trouble: str
    ) -> m.Event:
        """Ends a worker, once: whoever asks later is told the same."""
        result = WorkerResult(
            retry_after_s=self.random.choice([None, 3.0]),
            rate_limited=self.random.choice([None, None, None, True, False]),
            cost_usd=self.random.choice([None, 0.001, 0.25]),
            tokens_in=self.random.choice([None, 7, 50]),
            tokens_out=self.random.choice([None, 100, 1000]),
        )
        if self.swarm.runs[command.run].tasks[command.task].spec.qa:
            verdict = self.random.choice(["approve", "reject", "reject", ""])
            result = WorkerResult(verdict=verdict, issues=(Issue(self.random.choice("xyz")),))
        key = key_of(command)
        assert key in self.outside.started
        self.outside.alive.pop(key, None)
        how = self.exits.setdefault(key, {"exit_code": code, "result": result, "trouble": trouble})
        return m.WorkerExited(**where, **how)

    def _on_Collect(self, command: cmd.Collect, where: dict[str, Any]) -> m.Event:
        self.outside.collect(command)
        if self.chance(10):
            return m.Collected(**where, head=command.base, commits=0, touched=())
        touched = tuple(self.random.sample(["a/1", "a/2", "b/1", "c"], k=self.random.randint(1, 2)))
        problem = "unmerged paths" if self.chance(5) else ""
        asked = self.swarm.runs[command.run].tasks[command.task].spec.answer
        head = self.outside.make("work", *map(str, key_of(command)), parents=(command.base,))
        return m.Collected(
            **where,
            head=head,
            commits=self.random.randint(1, 2),
            touched=touched,
            problem=problem,
            brought_in=command.bring_in and not problem and self.chance(50),
            besides=f"swarm/{command.run}/saved/t/2-1" if command.attempt == 2 else "",
            answer="found" if asked else "",
            plan=random_plan(self.random, "drafted") if asked == PLAN and not problem else None,
        )

    def _on_GiveBackWorktree(self, command: cmd.GiveBackWorktree, where: dict[str, Any]) -> m.Event:
        self.outside.give_back(command)
        return m.WorktreeReturned(**where)

    def _on_BringIn(self, _: cmd.Command, where: dict[str, Any]) -> m.Event:
        return m.BroughtIn(**where)

    def _on_Merge(self, command: cmd.Merge, where: dict[str, Any]) -> m.Event:
        run = self.swarm.runs[command.run]
        assert command.onto in self.ahead(run, command.task) or self.rebuilt
        if (astray := self.astray(command, where)) is not None:
            return astray
        if self.chance(20):
            return m.MergeConflicted(
                **where,
                onto=command.onto,
                paths=("a/1",),
                landings=("x",),
                versions=SIDES,
                head=command.head,
            )
        return m.CandidateMade(
            **where,
            onto=command.onto,
            candidate=self.outside.merge(command),
            head=command.head,
            verified=command.verified,
            batch=command.batch,
        )

    def astray(self, command: cmd.Merge | cmd.Revert | cmd.Advance, where: dict[str, Any]) -> m.Event | None:
        """What a person did to staging is found before a candidate is made, or staging moves to it."""
        if not command.left:
            return None
        seen = self.branches.get(command.run)
        if (seen is None or seen.kind is Standing.AS_LEFT) and self.chance(5):
            seen = self.meddle(command.run, self.left.get(command.run, BASE))
        if seen is None or seen.kind in (Standing.AS_LEFT, Standing.RESTORED):
            return None
        landed = seen.found in self.swarm.runs[command.run].by_hand
        return None if landed else m.StagingFoundAstray(**where, seen=seen)

    def ahead(self, run: Run, task: str) -> set[str | None]:
        """What a candidate may be made from: staging, or a candidate ahead of it; any landing, to find out why it was red."""
        if task in run.searching:
            return {commit for _, commit in run.line}
        before = run.landing[: run.landing.index(task)]
        candidates = [attempt.candidate for name in before if (attempt := run.tasks[name].live) is not None]
        return {run.staging, *candidates}

    def _on_Revert(self, command: cmd.Revert, where: dict[str, Any]) -> m.Event:
        run = self.swarm.runs[command.run]
        assert command.onto in self.ahead(run, command.task) or self.rebuilt
        assert [(name, run.tasks[name].landed_commit) for name, _ in command.landings] == list(
            command.landings
        )
        if (astray := self.astray(command, where)) is not None:
            return astray
        if self.chance(20):
            return m.MergeConflicted(
                **where, onto=command.onto, paths=("a/1",), landings=("x",), versions=SIDES
            )
        return m.CandidateMade(**where, onto=command.onto, candidate=self.outside.revert(command))

    def _on_Rebase(self, command: cmd.Rebase, where: dict[str, Any]) -> m.Event:
        if self.chance(50):
            return m.RebaseConflicted(**where, onto=command.onto, paths=("a/1",), versions=SIDES)
        head = self.outside.make("rebase", command.head, command.onto, parents=(command.onto,))
        return m.Rebased(**where, onto=command.onto, head=head)

    def _on_Verify(self, command: cmd.Verify, where: dict[str, Any]) -> m.Event:
        outcomes = [
            self.random.choice(["failed", "timeout", "none"]) if self.chance(20) else "passed"
            for _ in command.suites
        ]
        ends = tuple(zip((suite.name for suite in command.suites), outcomes, strict=True))
        suites = tuple(SuiteResult(name=name, outcome=outcome) for name, outcome in ends)
        trouble = self.trouble(50) if set(outcomes) - {"passed"} else ""
        live = self.swarm.runs[command.run].tasks[command.task].live
        if not trouble or (live is not None and live.troubles >= self.swarm.limits.lost_max):
            passed = {(command.candidate, name) for name, outcome in ends if outcome == "passed"}
            self.outside.passed |= passed
        return m.Verified(
            **where, candidate=command.candidate, suites=suites, trouble=trouble, again=command.again
        )

    def _on_Advance(self, command: cmd.Advance, where: dict[str, Any]) -> m.Event:
        outside, task = self.outside, self.swarm.runs[command.run].tasks[command.task]
        moved_already = outside.is_below(command.new, outside.staging[command.run])
        if not moved_already and (astray := self.astray(command, where)) is not None:
            return astray
        if not outside.is_below(command.new, outside.staging[command.run]) and self.chance(5):
            outside.staging[command.run] = self.commit(outside.staging[command.run])
        assert task.live is not None
        run = self.swarm.runs[command.run]
        together = task.live.batch or (command.task,)
        asked = {suite.name for name in together for suite in run.suites(run.tasks[name])}
        if not task.live.undoes:
            assert asked <= {suite.name for suite in task.live.to_pass}, f"{together} land without {asked}"
        found = outside.advance(command, [suite.name for suite in task.live.to_pass])
        if found is not None:
            return m.StagingMoved(**where, found=found, candidate=command.new)
        return m.StagingAdvanced(**where, candidate=command.new)

    def _on_Publish(self, command: cmd.Publish, where: dict[str, Any]) -> m.Event:
        if self.chance(10):
            return m.StagingSeen(**where, command="Publish", seen=self.meddle(command.run, command.published))
        there = self.branches.get(command.run, Seen(Standing.AS_LEFT, BASE))
        ours = there.kind is Standing.AS_LEFT and there.found is not None
        on_the_way = ours and all(
            self.outside.is_below(*pair)
            for pair in ((command.old, there.found), (there.found, command.commit))
        )  # a daemon that was killed put it there
        if command.old != there.found and not on_the_way:
            return m.StagingSeen(**where, command="Publish", seen=there)
        assert self.outside.is_below(command.commit, self.outside.staging[command.run])
        self.branches[command.run] = Seen(Standing.AS_LEFT, command.commit)
        self.left[command.run] = command.commit
        return m.Published(**where, commit=command.commit)

    def _on_LookAtStaging(self, command: cmd.LookAtStaging, where: dict[str, Any]) -> m.Event:
        if self.chance(40):
            seen = self.meddle(command.run, command.published)
        else:
            seen = self.branches[command.run] = Seen(Standing.AS_LEFT, self.left.get(command.run, BASE))
        return m.StagingSeen(**where, command="LookAtStaging", seen=seen)

    def meddle(self, run: str, published: str) -> Seen:
        """A person does something to staging."""
        kind = self.random.choice([Standing.BY_HAND, Standing.BY_HAND, *Standing])
        if kind in (Standing.AS_LEFT, Standing.RESTORED):
            self.branches[run] = Seen(Standing.AS_LEFT, self.left.get(run, BASE))
            return Seen(kind, self.left.get(run, BASE))
        if kind is Standing.CHECKED_OUT:
            return Seen(kind, published, place="/away")
        found = self.commit(published)
        where = self.random.choice(["branch", "worktree"]) if kind is Standing.BY_HAND else "branch"
        seen = Seen(kind, found, where, published, "By hand", self.random.randint(1, 2), ("a/1",))
        if where == "branch":
            self.branches[run] = seen
        return seen

    def _on_Follow(self, command: cmd.Follow, where: dict[str, Any]) -> m.Event:
        return m.Followed(**where, commit=command.commit, reason="dirty" if self.chance(20) else "")

    def _on_Discard(self, command: cmd.Discard, where: dict[str, Any]) -> m.Event:
        run = self.swarm.runs[command.run]
        assert (dict(run.live), dict(run.returning)) == ({}, {})
        mine = [key for key in self.outstanding if key[1] == command.run and key[0] != "Discard"]
        assert mine == [], f"{mine} would answer a run that is gone"
        self.outside.discard(command.run)
        self.answered = [event for event in self.answered if event.run != command.run]
        self.on_its_way = {key: each for key, each in self.on_its_way.items() if key[1] != command.run}
        self.exits = {key: how for key, how in self.exits.items() if key[0] != command.run}
        self.plans.pop(command.run, None)
        self.branches.pop(command.run, None)
        self.left.pop(command.run, None)
        return m.Discarded(**where)

    def _on_Finish(self, command: cmd.Finish, where: dict[str, Any]) -> m.Event:
        return m.Finished(
            **where, request=command.request, target=command.target, commit=self.commit(command.commit)
        )

    # --- what people and clocks do

    def submit(self, plan: PlanSpec) -> None:
        """Submits a plan for a new run, or a goal in its place."""
        goal = None
        if not self.rush and self.random.random() < 0.2:
            goal, plan = random_goal(self.random, plan.id)
        self.plans[plan.id] = plan
        options: dict[str, Any] = {
            "sequential": self.random.random() < 0.1,
            "fail_fast": self.random.random() < 0.1,
            "goal": goal,
        }
        self.send(
            m.PlanSubmitted(
                at=self.now, run=plan.id, plan=plan, base_branch="main", base_commit=BASE, **options
            )
        )

    def tick(self) -> None:
        due = next_deadline(self.swarm)
        if due is not None and (due <= self.now + 5.0 or self.random.random() < 0.1):
            self.now = max(self.now, due)
            self.send(m.Ticked(at=self.now))

    def set_clock(self) -> None:
        """Sets the clock, by seconds or by hours, ahead or back."""
        by_s = self.random.choice([-9000.0, -3.0, 3.0, 9000.0])
        self.now += by_s
        self.send(m.ClockSet(at=self.now, by_s=by_s))

    def weigh(self, percent: float | None = None) -> None:
        """Looks at the machine's memory; where that says nothing new it is refused and changes nothing."""
        readings = dataclasses.replace(
            CALM, memory_percent=percent or self.random.choice([97.0, 97.0, 92.0, 50.0])
        )
        before = _shape(self.swarm)
        try:
            self.send(m.MemoryMeasured(at=self.now, readings=readings))
        except StaleEvent:
            assert _shape(self.swarm) == before

    def ask(self) -> None:
        """Sends a request of a person's, legal or not; an illegal one must change nothing."""
        for name in sorted({"one", "two"} - self.swarm.runs.keys()) if self.random.random() < 0.5 else ():
            self.submit(random_plan(self.random, name))  # the id of a run that was discarded is free again
        runs = sorted(name for name, run in self.swarm.runs.items() if run.tasks and name in self.plans)
        if not runs:
            return
        run = self.swarm.runs[self.random.choice(runs)]
        some = self.random.sample(sorted(run.tasks), k=min(len(run.tasks), self.random.randint(1, 3)))
        self.requests += 1
        request = self.random.choice(
            [
                m.TasksCancelled(at=self.now, run=run.id, tasks=tuple(some)),
                m.TasksRetried(at=self.now, run=run.id, tasks=tuple(some)),
                m.TasksRetried(at=self.now, run=run.id, tasks=tuple(some)),
                m.FirstAsked(at=self.now, run=run.id, tasks=tuple(list(run.queue)[1:3] or some[:1])),
                m.FirstAsked(at=self.now, run=run.id, tasks=tuple(run.landing[-1:] or some[:1])),
                m.Paused(at=self.now, run=run.id, task=some[0]),
                m.Resumed(at=self.now, run=run.id, task=some[0]),
                m.Paused(at=self.now),
                m.Resumed(at=self.now),
                m.Paused(at=self.now, run=run.id),
                m.Resumed(at=self.now, run=run.id),
                m.LimitsChanged(at=self.now, workers_max=self.random.randint(1, 6)),
                m.UndoRequested(
                    at=self.now, run=run.id, task=self.random.choice([*dict(run.landed), some[0]])
                ),
                m.TaskTold(at=self.now, run=run.id, task=some[0], text="do it well"),
                m.QaRequested(
                    at=self.now,
                    run=run.id,
                    reviewer=a_task("review", attempts=2),
                    fixer=self.random.choice([None, a_task("fix")]),
                    rounds_max=self.random.randint(1, 4),
                ),
                m.StagingLookAsked(at=self.now, run=run.id),
                m.FinishRequested(
                    at=self.now, run=run.id, request=str(self.requests), target="main", commit=run.published
                ),
                m.StopRequested(at=self.now, end_workers=self.random.random() < 0.5),
                m.DiscardRequested(at=self.now, run=run.id, lost=tuple(some)),
                self.another_plan(run.id, some[0]),
                self.another_plan(run.id, some[0]),
                *[self.more_of_a_phase(run)] * 6,
                *self.approvals(run),
            ]
        )
        if isinstance(request, m.StopRequested) and self.random.random() < 0.8:
            return
        if isinstance(request, m.DiscardRequested) and self.random.random() < 0.6:
            return
        before = _shape(self.swarm)
        try:
            self.send(request)
        except IllegalEvent:
            assert _shape(self.swarm) == before
        else:
            if isinstance(request, m.PlanSubmitted):
                self.plans[run.id] = request.plan

    def another_plan(self, run: str, one: str) -> m.PlanSubmitted:
        """The run's plan again, whole or a part of it only; every now and then somebody has finished one of it."""
        names = {task.id for task in self.plans[run].tasks}
        # A plan that comes of a goal may have "t0" as well.
        new = "t0" if "t0" not in names and self.random.random() < 0.5 else f"n{self.requests}"
        plan, only = changed_plan(self.random, self.plans[run], one, new, finished=self.requests % 8 == 0)
        return self.of_the_same_run(plan, only)

    def of_the_same_run(self, plan: PlanSpec, only: tuple[str, ...] = ()) -> m.PlanSubmitted:
        return m.PlanSubmitted(
            at=self.now, run=plan.id, plan=plan, base_branch="main", base_commit=BASE, only=only
        )

    def more_of_a_phase(self, run: Run) -> m.PlanSubmitted:
        """The run's plan with more in a phase, one that has landed if there is any."""
        still = {task.spec.phase for task in run.tasks.values() if task.state is not TaskState.LANDED}
        phases = sorted(run.phases.keys() - still) or sorted(run.phases) or [""]
        plan, phase = self.plans[run.id], self.random.choice(phases)
        new = f"n{self.requests}"
        return self.of_the_same_run(grown_plan(self.random, plan, phase, new) if phase else plan)

    def approvals(self, run: Run) -> list[m.ApprovalGiven]:
        """Approvals of what came of a run's goal, some of them of a plan that was edited."""
        if run.way is None:
            return []
        plan = run.way.plan or random_plan(self.random, "mine")
        if self.random.random() < 0.2:
            plan = dataclasses.replace(plan, tasks=(*plan.tasks, a_task(f"n{self.requests}")))
        build = self.random.random() < 0.7
        return [m.ApprovalGiven(at=self.now, run=run.id, plan=plan, digest="d", build=build)] * 3

    def late(self) -> None:
        """Sends an answer of an attempt that is not live; it must be refused."""
        for run in self.swarm.runs.values():
            for task in run.tasks.values():
                if len(task.attempts) > 1:
                    with pytest.raises(StaleEvent):
                        self.send(
                            m.WorkerExited(at=self.now, run=run.id, task=task.spec.id, attempt=1, exit_code=0)
                        )
                    return

    def calm_down(self) -> None:
        """From here on everything goes well, nothing is paused, and every deadline comes."""
        self.kind = True
        self.weigh(50.0)
        for name, plan in self.plans.items():
            if self.swarm.runs[name].discarding:
                continue
            whole = dataclasses.replace(plan, tasks=(), phases=())
            self.send(
                m.PlanSubmitted(at=self.now, run=name, plan=whole, base_branch="main", base_commit=BASE)
            )
        for run in self.swarm.runs.values():
            for name in sorted(run.tasks):
                self.send(m.Resumed(at=self.now, run=run.id, task=name))
        self.send(m.Resumed(at=self.now))
        if self.swarm.stopping:
            self.outstanding.pop(("MeasureHost", "", "", ""), None)
            self.send(m.DaemonStarted(at=self.now, version="walk", pid=3, limits=self.limits, rules=m.RULES))
            self.outstanding.pop(("MeasureHost", "", "", ""), None)
            self.outstanding |= {
                _key(c): c for c in pending_commands(self.swarm) if isinstance(c, cmd.MeasureHost)
            }


def _shape(swarm: Swarm) -> str:
    """Everything that is known, as text, without the order of things that have none."""
    runs = [
        (
            run.id,
            run.staging,
            run.published,
            run.followed,
            run.open_tasks,
            sorted(run.live),
            list(run.queue),
            run.landing,
            run.publishing,
            run.landed,
            run.undone,
            (
                run.astray,
                run.looking,
                run.publish_waits,
                run.publishing_commit,
                run.publishing_from,
                run.by_hand,
            ),
            {name: (task.state, task.reason, task.attempts, task.told) for name, task in run.tasks.items()},
            sorted((str(h.holder), h.claim.path) for h in run.claims.held()),
            sorted(run.waiting.tasks().items()),
        )
        for run in swarm.runs.values()
    ]
    return repr(
        (
            runs,
            sorted(swarm.slots),
            swarm.trouble,
            swarm.holds,
            swarm.trials,
            swarm.pressure,
            swarm.memory_at,
            swarm.paused,
            swarm.stopping,
            sorted({d for d in swarm.deadlines if still_due(swarm, d)}),
            swarm.limits,
        )
    )


def walk(seed: int, steps: int = STEPS, *, rush: bool = False) -> Iterator[World]:
    """Leads a world through its steps and then to its end; gives it after each step."""
    world = World(seed, rush=rush)
    world.kind = False
    for name in ("one", "two"):
        world.submit((rush_plan if rush else random_plan)(world.random, name))
    for _ in range(steps):
        what = world.random.random()
        if what < 0.85:
            world.answer()
        elif what < 0.92:
            world.tick()
        elif what < 0.965:
            world.ask()
        elif what < 0.97:
            world.set_clock()
        elif what < 0.98:
            world.late()
        elif what < 0.985:
            world.again()
        elif what < 0.9925:
            world.weigh()
        else:
            world.crash()
        yield world
    world.calm_down()
    for _ in range(3000):
        if not world.outstanding and next_deadline(world.swarm) is None:
            break
        world.answer()
        world.tick()
        yield world


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_whatever_happens_the_invariants_hold_and_everything_ends(seed: int) -> None:
    """After every step the invariants hold, the outstanding commands are the pending ones, a replay gives the same, and in the end
    every task has ended, each landed one exactly once."""
    check_to_the_end(walk(seed))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 1 + SEEDS // 3))
def test_whatever_happens_to_many_candidates_at_once(seed: int) -> None:
    """The same where all tasks come to the merge queue together, and several candidates stand on each other."""
    check_to_the_end(walk(seed, rush=True))


def check_to_the_end(walked: Iterator[World]) -> None:
    """Checks a world after each step, and what has become of it in the end."""
    for world in walked:
        world.check()
    for run in world.swarm.runs.values():
        assert {t.state for t in run.tasks.values()} <= TASK_ENDS, {
            n: (t.state, t.reason) for n, t in run.tasks.items()
        }
        assert run.staging == run.published == world.outside.staging[run.id]
        assert run.landed == world.outside.landed(run.id)
        landed = [
            a
            for t in run.tasks.values()
            for a in t.attempts
            if a.step is Step.LANDED and a.landed_commit == t.landed_commit
        ]
        assert sorted(name for name, _ in run.landed) == sorted(
            n for n, t in run.tasks.items() if t.state is TaskState.LANDED
        )
        assert len({a.landed_commit for a in landed}) == len(landed) == len(run.landed)

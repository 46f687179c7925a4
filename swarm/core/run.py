"""One run as it stands: its tasks, what they need, who holds which claim, what is ready in which order, and its merge queue.

Ready tasks lie in heaps, one for those that nothing holds up and one for each claim that holds some up: a task that meets a held
claim is parked under that claim's path and not looked at again before the path is free. A start therefore costs the
same with a hundred tasks and with a hundred thousand. Those that a gate holds up, such as their agent's, are parked under that
alike, and wait behind it without keeping others back. A parked task comes before later ones that overlap it (`waiting`): these are
parked under the path and the task that goes first.

Rules for editing: nothing here knows events or commands; `machine` decides. `set_state` is the only place where a task's state
changes.
"""

from __future__ import annotations

import heapq
import posixpath
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import field
from itertools import chain
from typing import NamedTuple

from swarm.core.claims import ClaimTable
from swarm.core.goal import Way
from swarm.core.messages import FinishRequested
from swarm.core.model import (
    STAGING_WORKTREE,
    TASK_ENDS,
    WORKER_STEPS,
    Astray,
    Attempt,
    Claim,
    FoundAttempt,
    Mode,
    PhaseSpec,
    PlanSpec,
    Spent,
    Standing,
    Step,
    Suite,
    SuiteCount,
    Task,
    TaskSpec,
    TaskState,
    each_once,
    opened_worktree,
)
from swarm.core.needs import Needs
from swarm.core.qa import Qa
from swarm.core.waiting import Key, Waiting
from swarm.dataclass import dataclass

_Place = tuple[
    str, str
]  # the path of a claim, and the task that goes first where it waits for that claim itself
_FREE = ("", "")  # the heap of those that nothing holds up; no claim has an empty path
_TURN = "\0"  # opens the path of a claim that is no path
_GATE = f"{_TURN}gate/"  # … and of what no task holds and that may be shut all the same
APART_MAX = 16  # ready tasks that are looked at in the place of one that may conflict with what is at work


class InTheWay(NamedTuple):
    """What a ready task waits for: a path, and the task that holds it or, where that `waits` too, comes first."""

    path: str
    task: str
    waits: bool


@dataclass(slots=True)
class Run:
    """A plan being carried out. `staging` is where the landing repository stands, `published` where the user's repository does.

    `landing` are the tasks being merged and verified, `publishing` those that stand on staging and not yet in the user's
    repository, both in landing order; the first `publishing_count` of these are in what is being published. `queue` are those that
    wait, in the order of their places; `queued` counts the places given. `window` is how many may be in `landing` at once, 0 before
    anything has landed or was sent back (see `train`). `line` are the moves of staging in order, as (what landed, commit);
    `searching` are the tasks that are red and of which it is found out what they are red together with. `red_share` is the share of
    those that were red of late; it begins where nothing is verified in batches.

    `publish_waits` is set while `publishing_commit` can't be published because staging went `astray`; `publishing_from` is where
    the branch is expected. `looking` is set while the user's repository is being looked at: to what is known of it, "" to be told
    at once. `by_hand` are the commits of people that have landed, `undone` the tasks that were undone with the commits that did it.
    `suites_seen` counts the suites that have run, by name. `spent` is what its workers have cost. `shut` are the gates that let no
    task start.
    `way` is how it goes from a goal to work, where it began with one; `width` how many of its workers may be at work at once, 0 for
    as many as the machine allows. `lessons` are what earlier runs had taught when it began.
    `finished_commit` is where the last finish left its target, `finished_from` where staging was then: what lands after that moves
    staging on (see `on_target`). `passed_since` is where staging was when a finish last ran suites on it, and their commands.
    `handed_over` is set once a finish has brought work of the run anywhere, also into an index alone.
    `watched` is the plan file whose additions are taken in as they are saved, `watch_problem` why the last were not.
    `behind` is set after the journal was rebuilt while tasks may have landed that are not in `published`.
    """

    id: str
    index: int
    plan: PlanSpec
    base_branch: str
    base_commit: str
    created_at: float
    staging: str
    published: str
    followed: str
    prepared: bool = False
    behind: bool = False
    worktree: str = ""
    follow_reason: str = ""
    followed_at: float = 0.0
    followed_in_s: float = 0.0
    following: str | None = None
    following_since: float | None = None
    follow_refused: str | None = None
    follow_at: float | None = None
    publishing_commit: str | None = None
    publishing_count: int = 0
    publishing_from: str = ""
    publish_waits: bool = False
    astray: Astray | None = None
    looking: str | None = None
    by_hand: list[str] = field(default_factory=list)
    undone: list[tuple[str, str]] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    phases: dict[str, PhaseSpec] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    claims: ClaimTable[str] = field(default_factory=ClaimTable)
    queue: dict[str, None] = field(default_factory=dict)
    queued: int = 0
    landing: list[str] = field(default_factory=list)
    window: int = 0
    line: list[tuple[str, str]] = field(default_factory=list)
    searching: list[str] = field(default_factory=list)
    red_share: float = 0.1
    publishing: list[str] = field(default_factory=list)
    landed: list[tuple[str, str]] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)
    suites_seen: dict[str, SuiteCount] = field(default_factory=dict)
    live: dict[str, None] = field(default_factory=dict)
    returning: dict[tuple[str, int], Attempt] = field(default_factory=dict)
    counts: Counter[TaskState] = field(default_factory=Counter)
    open_tasks: int = 0
    only: frozenset[str] | None = None
    sequential: bool = False
    fail_fast: bool = False
    paused: bool = False
    watched: str = ""
    watch_problem: str = ""
    finish: FinishRequested | None = None
    finish_from: str = ""
    finished_commit: str | None = None
    finished_from: str = ""
    handed_over: bool = False
    passed_since: tuple[str, tuple[str, ...]] = ("", ())
    qa: Qa | None = None
    way: Way | None = None
    width: int = 0
    lessons: tuple[str, ...] = ()
    discarding: bool = False
    removing: bool = False
    retry_at: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    ended_at: float | None = None
    _heaps: dict[_Place, list[tuple[Key, str]]] = field(default_factory=lambda: {_FREE: []})
    _open: list[tuple[Key, _Place]] = field(default_factory=list)
    _held: Counter[str] = field(default_factory=Counter)
    waiting: Waiting = field(default_factory=Waiting)
    shut: set[str] = field(default_factory=set)
    aside: set[str] = field(default_factory=set)
    alone: list[tuple[Key, str]] = field(default_factory=list)
    solo: str | None = None
    finished_before: dict[str, TaskSpec] = field(default_factory=dict)
    unplanned: set[str] = field(
        default_factory=set
    )  # landed, and known from staging only: a plan may still say what they are
    forgotten: dict[str, tuple[FoundAttempt, ...]] = field(
        default_factory=dict
    )  # of tasks that are not known, by slug

    # --- tasks ---------------------------------------------------------------------------------------------------------

    def add(self, phases: Iterable[PhaseSpec], specs: Iterable[TaskSpec]) -> list[Task]:
        """Adds phases and tasks; gives the new tasks, all pending. Those that the plan says are finished only meet needs.

        A phase that is known already stays as it is.
        """
        phases, specs = tuple(phases), tuple(specs)
        for phase in phases:
            self.phases.setdefault(phase.id, phase)
        self.needs.add([self.phases[phase.id] for phase in phases], specs)
        for spec in specs:
            if spec.finished:
                self.finished_before[spec.id] = spec
                self.needs.met(spec.id)
        specs = tuple(spec for spec in specs if not spec.finished)
        last = next(reversed(self.tasks.values()), None)
        first = 0 if last is None else last.order + 1  # some may have been taken out before it
        new = [Task(spec=spec, order=first + place) for place, spec in enumerate(specs)]
        for task in new:
            self.tasks[task.spec.id] = task
            self.counts[task.state] += 1
            self.open_tasks += self.selected(task)
        return new

    def finish_before(self, specs: Sequence[TaskSpec]) -> None:
        """Takes tasks that have never started out, since the plan says by now that they are finished: they only meet needs."""
        if specs:
            self.unfile({spec.id for spec in specs})
        for spec in specs:
            task = self.tasks[spec.id]
            self.set_state(task, TaskState.CANCELLED)  # so that it waits for nothing, and holds nothing
            self.counts[task.state] -= 1
            self.aside.discard(spec.id)
            self.needs.forget(task.spec)
            del self.tasks[spec.id]
            self.finished_before[spec.id] = spec
            self.needs.finished(spec)

    def selected(self, task: Task) -> bool:
        """Tells whether `--only` lets the task take part."""
        named = self.only is None or task.spec.id in self.only
        return named or task.spec.by_hand or bool(task.spec.qa or task.spec.answer)

    def select(self, wanted: Iterable[str]) -> None:
        """Limits the run to these tasks and what they need, through phases; to everything when nothing is named."""
        wanted = list(wanted)
        self.only = self._closure(wanted) if wanted else None
        left_out = self.tasks.keys() - self.only if self.only is not None else ()
        self.needs.order(left_out, started={name for name, task in self.tasks.items() if task.attempts})
        self.open_tasks = sum(
            1 for task in self.tasks.values() if self.selected(task) and task.state not in TASK_ENDS
        )
        for task in [self.tasks[name] for name in self.waiting.tasks()]:
            if not self.selected(task):
                self.put_aside(task)

    def take_turns(self, sequential: bool) -> None:
        """Has all tasks go one at a time from now on, or no more; what runs already goes on."""
        if self.sequential is not sequential:
            self.sequential = sequential
            for name in self.waiting.tasks():
                self.push(self.tasks[name])  # they want other claims now

    def _closure(self, wanted: list[str]) -> frozenset[str]:
        members: dict[str, list[str]] = {}
        for task in self.tasks.values():
            if task.spec.phase is not None:
                members.setdefault(task.spec.phase, []).append(task.spec.id)
        found: set[str] = set()
        phases: set[str] = set()
        todo = list(wanted)
        while todo:
            name = todo.pop()
            if name in found:
                continue
            if name in self.finished_before:
                continue
            found.add(name)
            spec = self.tasks[name].spec
            todo.extend(spec.needs)
            wanted_phases = list(spec.phase_needs)
            if spec.phase is not None:
                todo.extend(self.phases[spec.phase].needs)
                wanted_phases.extend(self.phases[spec.phase].phase_needs)
            while wanted_phases:
                phase = wanted_phases.pop()
                if phase not in phases:
                    phases.add(phase)
                    todo.extend(members.get(phase, ()))
                    todo.extend(self.phases[phase].needs)
                    wanted_phases.extend(self.phases[phase].phase_needs)
        return frozenset(found)

    def worktree_names(self) -> tuple[str, ...]:
        """Names the folders that may lie below the run's own: the staging worktree, and those in which attempts were looked at."""
        attempts = (attempt for task in self.tasks.values() for attempt in task.attempts)
        return (STAGING_WORKTREE, *(opened_worktree(attempt.branch) for attempt in attempts))

    def set_state(self, task: Task, state: TaskState) -> None:
        """Moves a task to another state and keeps every count right."""
        if task.state is state:
            return
        if task.state is TaskState.READY:
            self._wait_no_more(task.spec.id)
            if state is not TaskState.RUNNING:
                self.release_claims(task)  # kept for an attempt that does not come now
        self.counts[task.state] -= 1
        self.counts[state] += 1
        if self.only is None or self.selected(task):
            self.open_tasks += (state not in TASK_ENDS) - (task.state not in TASK_ENDS)
        task.state = state

    def may_start(self) -> bool:
        """Tells whether a task may start: there is a base to start from, which has all that has landed, no pause, and room."""
        return (
            self.prepared and not (self.behind or self.paused) and not (self.width and self.at_full_width())
        )

    def at_full_width(self) -> bool:
        """Tells whether as many workers of the run are at work as may be."""
        return (
            bool(self.width)
            and sum(self.tasks[name].attempts[-1].step in WORKER_STEPS for name in self.live) >= self.width
        )

    @property
    def on_target(self) -> str | None:
        """Gives where a finish left its target, if staging still stands at what was finished."""
        return self.finished_commit if self.finished_from == self.published else None

    def held_up(self) -> bool:
        """Tells whether publishing waits because staging went astray; a person's commits, once on staging, let it go on."""
        if self.astray is None:
            return False
        if self.astray.seen.kind is not Standing.BY_HAND:
            return True
        attempt = self.tasks[self.astray.task].live if self.astray.task else None
        return attempt is None or attempt.step is not Step.PUBLISHING

    def suites(self, task: Task) -> tuple[Suite, ...]:
        """Gives what verifies this task: the plan's suites, its phase's and its own, `each_once`."""
        phase = self.phases[task.spec.phase].verify if task.spec.phase is not None else ()
        return each_once((*self.plan.verify, *phase, *task.spec.verify))

    @property
    def shown_worktree(self) -> str:
        """The path of the staging worktree as people and git know it: the setting that moves worktrees may begin with `..`."""
        return self.worktree and posixpath.normpath(self.worktree)

    def all_suites(self) -> tuple[Suite, ...]:
        """Gives what verifies staging as a whole: the plan's suites and those of all that has landed, `each_once`."""
        landed = (self.suites(self.tasks[name]) for name, _ in self.landed)
        return each_once(chain(self.plan.verify, *landed))

    def has_passed(self, commit: str) -> bool:
        """Tells whether suites passed on a commit where staging stood, and all of the plan among them as they are now: some may
        have been given after it had landed, and run on it since. An unmoved staging has not been verified."""
        at, ran = self.passed_since
        if commit == at and all(suite.run in ran for suite in self.plan.verify):
            return True
        for name, landed in chain(reversed(self.undone), reversed(self.landed)):
            if landed == commit:
                tries = (each for each in self.tasks[name].attempts if each.candidate == commit)
                return any(each.suites and not self._never_run(each) for each in tries)
        return False

    def _never_run(self, attempt: Attempt) -> set[str]:
        """Gives what of the plan's suites an attempt has not passed, each by its command: a name may be given to another one. Of a
        landing that was found again only the names are known."""
        if len(attempt.to_pass) != len(attempt.suites):
            passed = {each.name for each in attempt.suites if each.outcome == "passed"}
            return {suite.run for suite in self.plan.verify if suite.name not in passed}
        both = zip(attempt.to_pass, attempt.suites, strict=True)
        ran = {suite.run for suite, result in both if result.outcome == "passed"}
        return {suite.run for suite in self.plan.verify} - ran

    def leave_queue(self, name: str) -> None:
        """Takes a task out of the merge queue, wherever it is there."""
        self.queue.pop(name, None)
        for places in (self.landing, self.searching):
            if name in places:
                places.remove(name)

    def line_since(self, base: str) -> tuple[tuple[str, str], ...]:
        """Gives what has landed on top of a commit of staging, oldest first; nothing for a commit that is not known to be one."""
        for place in range(len(self.line), 0, -1):
            if self.line[place - 1][1] == base:
                return tuple(self.line[place:])
        return tuple(self.line) if base == self.base_commit else ()

    def line_up(self, names: Iterable[str]) -> None:
        """Puts tasks into the merge queue, each at its attempt's place. Whoever goes last, as nearly all do, costs no look at the
        others."""
        new = sorted(names, key=self._place)
        last = next(reversed(self.queue), None)
        if new and (last is None or self._place(last) <= self._place(new[0])):
            self.queue.update(dict.fromkeys(new))
        else:
            self.queue = dict.fromkeys(sorted((*self.queue, *new), key=self._place))

    def _place(self, name: str) -> int:
        return self.tasks[name].attempts[-1].place

    # --- claims --------------------------------------------------------------------------------------------------------

    def wanted_claims(self, task: Task) -> tuple[Claim, ...]:
        """Gives what a start of the task takes: its claims, and the turn where tasks go one at a time."""
        tokens = []
        phase = task.spec.phase
        if phase is not None and not self.phases[phase].parallel_safe:
            tokens.append(Claim(f"{_TURN}phase/{phase}"))
        if self.sequential:
            tokens.append(Claim(f"{_TURN}run"))
        if not tokens and len(task.spec.claims) < 2:
            return task.spec.claims
        return tuple(dict.fromkeys((*task.spec.claims, *tokens)))

    def shown_claims(self, task: Task) -> tuple[Claim, ...]:
        """Gives the paths that a live task holds, without the turns."""
        return tuple(claim for claim in self.claims.of(task.spec.id) if not claim.path.startswith(_TURN))

    def take_claims(self, task: Task) -> None:
        """Takes all of a task's claims in one step, beside what it has kept; they are known to be free."""
        self.extend_claims(task, self.wanted_claims(task))
        for claim in self.waiting.remove(
            task.spec.id
        ):  # those that let it go first wait for what it holds now
            behind = self._heaps.pop((claim.path, task.spec.id), None)
            if behind is not None:
                self._join(claim.path, behind)

    def extend_claims(self, task: Task, claims: Iterable[Claim]) -> None:
        """Adds claims, known to be free, to what a task holds."""
        mine = self.claims.of(task.spec.id)
        new = tuple(claim for claim in dict.fromkeys(claims) if claim not in mine)
        self.claims.extend(task.spec.id, new)
        self._held.update(claim.path for claim in new)

    def keeps(self, task: Task) -> bool:
        """Tells whether a task that waits has kept claims: others wait for it, so it waits for none of them."""
        return task.state is TaskState.READY and bool(self.claims.of(task.spec.id))

    def release_claims(self, task: Task) -> None:
        """Gives back what a task holds; those parked under a path that is free now can be looked at again."""
        for claim in self.claims.release(task.spec.id):
            self._held[claim.path] -= 1
            if self._held[claim.path] <= 0:
                del self._held[claim.path]
                self._offer((claim.path, ""))

    # --- ready tasks ---------------------------------------------------------------------------------------------------

    def push(self, task: Task) -> None:
        """Puts a ready task where its turn will be found."""
        key = _key(task)
        self._wait_no_more(task.spec.id)
        if not self.selected(task) or task.paused:
            self.put_aside(task)
        elif task.alone:
            heapq.heappush(self.alone, (key, task.spec.id))
        else:
            heap = self._heaps[_FREE]
            heapq.heappush(heap, (key, task.spec.id))
            if heap[0] == (key, task.spec.id):  # else the one before it is offered already
                self._offer(_FREE)

    def put_aside(self, task: Task) -> None:
        """Takes a task that is paused, or left out by `--only`, from among those that wait for their turn."""
        self._wait_no_more(task.spec.id)
        if task.state is TaskState.READY and task.not_before is None:
            self.aside.add(task.spec.id)
            self.release_claims(task)  # what it has kept: nobody knows when it comes back

    def take_back_aside(self) -> None:
        """Looks again at the ready tasks that were put aside by a pause or by `--only`."""
        aside, self.aside = self.aside, set()
        for name in aside:
            if self.tasks[name].state is TaskState.READY:
                self.push(self.tasks[name])

    def peek(self) -> Key | None:
        """Gives the key of the best ready task that no known claim holds up; it may still meet one."""
        if self.solo is not None:
            return None
        while self._open:
            key, place = self._open[0]
            heap = self._heaps.get(place)
            if heap and heap[0][0] == key and (place is _FREE or not self._is_shut(place)):
                return key
            heapq.heappop(self._open)
        if self.alone and not (self.live or self.queue or self.landing or self.publishing):
            return self.alone[0][0]
        return None

    def pop(self, most: int) -> Task | None:
        """Gives the best ready task whose turn has come, and parks those it passes over; None when there is none, or when `most`
        have been passed over. One that is to run alone by now and waited for a claim waits for its turn alone."""
        while most > 0 and self.peek() is not None:
            alone = not self._open
            place = _FREE
            if alone:
                name = heapq.heappop(self.alone)[1]
            else:
                place = heapq.heappop(self._open)[1]
                name = heapq.heappop(self._heaps[place])[1]
                self._offer(place)
            task = self.tasks[name]
            if task.state is not TaskState.READY or task.not_before is not None or task.alone is not alone:
                if task.state is TaskState.READY and task.not_before is None and task.alone:
                    self.push(task)
                continue  # left over from an earlier time of being ready
            if not self.selected(task) or task.paused:
                self.put_aside(task)
                continue
            gate = self.gate_shut(task)
            if gate is not None:
                self._stand_back(task, gate)
                most -= 1
                continue
            before = self.in_the_way(task)
            if before is None:
                return task
            self._park(task, before)
            most -= 1
        return None

    def apart(self, task: Task) -> Task:
        """Gives who starts now in the place of a task whose turn has come and which may conflict with what is at work: the first of
        the next ones of the same priority that shares no path with anything; the task itself where none of a few does.
        None of them overlaps one that it passes by, which would have to wait for it."""

        def alike(other: Task) -> bool:
            return other.spec.priority == task.spec.priority and not other.alone

        looked = [task]
        while alike(looked[-1]) and self._shares(looked[-1]) and len(looked) <= APART_MAX:
            passed = looked[-1]
            self.waiting.add(passed.spec.id, _key(passed), self.wanted_claims(passed))
            other = self.pop(APART_MAX)
            if other is None:
                break
            looked.append(other)
        fits = alike(looked[-1]) and not self._shares(looked[-1])
        found = looked[-1] if fits else task
        for each in looked:
            if each is not found:
                self.push(each)
        return found

    def _shares(self, task: Task) -> bool:
        """Tells whether others at work, or on their way to land, have shared claims on a path that a task shares too."""
        shared = (Claim(claim.path) for claim in self.wanted_claims(task) if claim.mode is Mode.SHARED)
        return not self.keeps(task) and self.claims.first_conflict(shared, task.spec.id) is not None

    def in_the_way(self, task: Task) -> InTheWay | None:
        """Says what a ready task waits for: a claim that is held, or an earlier task that waits for one; None for neither."""
        claims = self.wanted_claims(task)
        holding = self.claims.first_conflict(claims, task.spec.id)
        if holding is not None:
            return InTheWay(holding.claim.path, str(holding.holder), waits=False)
        if task.alone or not self.waiting or self.keeps(task):
            return None
        before = self.waiting.first(claims, _key(task))
        return None if before is None else InTheWay(before.path, before.task, waits=True)

    def shut_gate(self, gate: str) -> None:
        """Lets no task start that has to pass this gate; those of them that wait for a claim keep nobody back meanwhile."""
        if gate in self.shut:
            return
        self.shut.add(gate)
        for name in self.waiting.tasks():
            if gate in _gates(self.tasks[name]):
                self._stand_back(self.tasks[name], gate)

    def open_gate(self, gate: str) -> None:
        """Lets the tasks start again that a gate held up."""
        self.shut.discard(gate)
        self._offer((gate, ""))

    def gate_shut(self, task: Task) -> str | None:
        """Gives the shut gate that a task would have to pass, if there is one."""
        return next((gate for gate in _gates(task) if gate in self.shut), None) if self.shut else None

    def _stand_back(self, task: Task, gate: str) -> None:
        self._wait_no_more(task.spec.id)
        heapq.heappush(self._heaps.setdefault((gate, ""), []), (_key(task), task.spec.id))

    def unfile(self, names: Collection[str]) -> None:
        """Takes tasks out of where they lie by what their specs were, so that they start by no priority that they had before."""
        for place, heap in list(self._heaps.items()):
            kept = [entry for entry in heap if entry[1] not in names]
            if len(kept) < len(heap):
                heapq.heapify(kept)
                self._heaps[place] = kept
                self._offer(place)

    def filed(self) -> set[str]:
        """Gives the ready tasks that some later event will bring up: in the open, parked, or alone."""
        found = {name for _, name in self.alone}
        for place, heap in self._heaps.items():
            if heap and (self._is_shut(place) or (heap[0][0], place) in self._open):
                found.update(name for _, name in heap)
        return found

    def _is_shut(self, place: _Place) -> bool:
        path, before = place
        return before in self.waiting if before else path in self._held or path in self.shut

    def _park(self, task: Task, by: InTheWay) -> None:
        key, name = _key(task), task.spec.id
        self.waiting.add(name, key, self.wanted_claims(task))
        place = (by.path, by.task if by.waits else "")
        heapq.heappush(self._heaps.setdefault(place, []), (key, name))

    def _wait_no_more(self, name: str) -> None:
        """Lets those that stood back for a task be looked at again."""
        for claim in self.waiting.remove(name):
            self._offer((claim.path, name))

    def _join(self, path: str, more: list[tuple[Key, str]]) -> None:
        """Puts tasks to those parked under a held claim, the fewer to the more."""
        fewer, heap = sorted((more, self._heaps.get((path, ""), [])), key=len)
        for entry in fewer:
            heapq.heappush(heap, entry)
        self._heaps[path, ""] = heap

    def _offer(self, place: _Place) -> None:
        heap = self._heaps.get(place)
        if heap:
            heapq.heappush(self._open, (heap[0][0], place))
        elif heap is not None and place != _FREE:
            del self._heaps[place]


def agent_gate(agent: str) -> str:
    """Names the gate that all tasks of an agent pass."""
    return f"{_GATE}agent/{agent}"


def role_gate(role: str) -> str:
    """Names the gate that all tasks of a role pass."""
    return f"{_GATE}role/{role}"


def _gates(task: Task) -> tuple[str, ...]:
    return (agent_gate(task.spec.agent), role_gate(task.spec.role))


def _key(task: Task) -> Key:
    return -task.spec.priority, task.order

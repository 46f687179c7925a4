"""The merge queue simulated: a clock that is a number, suites that take a unit of time or so, work that is bad or good, and flakes.

The machine itself decides; what is simulated is what it asks for. Landings per time are held against the figures of a published
model of the same policy, and against an oracle that knows which work is bad. SWARM_TRAIN_SEEDS says how many queues of each kind;
with `-s` the table is printed.
"""

from __future__ import annotations

import heapq
import os
import random
from typing import NamedTuple

import pytest

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.model import Limits, SuiteResult
from tests.builders import BASE, a_plan, a_task
from tests.stories import Story, a_story

SEEDS = int(os.environ.get("SWARM_TRAIN_SEEDS", "4"))
QUEUED = 120
FLAKE = 0.01
# Landings per verification time of a chain of prefixes, by slots and by the share of bad work: of 120 queued, 1 % flake.
MODEL = {
    (1, 0.02): 0.95,
    (1, 0.05): 0.89,
    (1, 0.15): 0.73,
    (1, 0.30): 0.53,
    (2, 0.05): 1.62,
    (2, 0.15): 1.13,
    (4, 0.05): 2.67,
    (4, 0.15): 1.42,
    (4, 0.30): 0.74,
}


class End(NamedTuple):
    """A verification that ends at a time; `n` tells it from others that end then."""

    at: float
    n: int
    command: cmd.Verify


class Simulated:
    """A queue of attempts of which some are bad: every candidate with one of them in it is red."""

    def __init__(
        self,
        seed: int,
        *,
        slots: int,
        bad: float,
        flake: float,
        queued: int = QUEUED,
        batches: bool = False,
    ) -> None:
        self.random = random.Random(seed)
        self.flake = flake
        names = [f"t{n}" for n in range(queued)]
        self.bad = {name for name in names if self.random.random() < bad}
        limits = Limits(
            workers_max=queued + slots,
            ramp_per_s=1e6,
            verify_slots=slots,
            batches=batches,
        )
        tasks = [a_task(name, verify=["make"], attempts=1) for name in names]
        self.story = a_story(a_plan(*tasks), bench=Story(limits))
        self.held: dict[str, frozenset[str]] = {BASE: frozenset()}  # whose work is in a commit
        self.green: set[str] = set()
        self.ends: list[End] = []
        self.runs = 0
        self.waited: dict[str, int] = dict.fromkeys(names, 0)  # landings while it was in the queue
        self.asked: set[tuple[str, str]] = set()
        for name in names:
            self.story.work(name)
            self.answer()

    def answer(self) -> None:
        """Answers all that takes no time, and has what is to be verified end later; what nobody wants to hear of any more ends."""
        story = self.story
        while True:
            wanted = [c for c in story.commands if not isinstance(c, (cmd.TakeWorktree, cmd.MeasureHost))]
            if not wanted:
                break
            story.commands = [c for c in story.commands if c not in wanted]
            for command in wanted:
                self.carry_out(command)

    def carry_out(self, command: cmd.Command) -> None:
        story = self.story
        if isinstance(command, cmd.Merge):
            made = story.commit()
            self.held[made] = self.held[command.onto] | {command.task}
            story.send(m.CandidateMade(**story.where(command), onto=command.onto, candidate=made))
        elif isinstance(command, cmd.Verify):
            self.held.setdefault(
                command.candidate, frozenset({command.task})
            )  # a commit of its own, where it began
            self.runs += 1
            took = 1.0 + self.random.uniform(-0.2, 0.2)
            heapq.heappush(self.ends, End(story.now + took, self.runs, command))
        elif isinstance(command, cmd.Advance):
            assert command.new in self.green, f"{command.task} lands and was never green"
            assert command.old == story.run.staging
            story.send(m.StagingAdvanced(**story.where(command), candidate=command.new))
            for name in self.waited:
                self.waited[name] += story.state(name) in ("queued", "landing")
        elif isinstance(command, cmd.Publish):
            story.send(m.Published(at=story.now, run=command.run, commit=command.commit))
        elif isinstance(command, cmd.Follow):
            story.send(m.Followed(at=story.now, run=command.run, commit=command.commit))

    def play(self) -> None:
        """Has every verification end, until all tasks have."""
        story = self.story
        while self.ends:
            end = heapq.heappop(self.ends)
            attempt = story.attempt(end.command.task)
            same = attempt.candidate == end.command.candidate and attempt.step == "verifying"
            if not same or bool(attempt.again) != end.command.again:
                continue  # it was ended when it was not wanted any more
            story.now = max(story.now, end.at)
            candidate = end.command.candidate
            good = self.held[candidate].isdisjoint(self.bad) and self.random.random() >= self.flake
            if good:
                self.green.add(candidate)
            said = (SuiteResult("make", "passed" if good else "failed"),)
            where = story.where(end.command)
            story.send(m.Verified(**where, candidate=candidate, suites=said, again=end.command.again))
            self.answer()

    @property
    def landed(self) -> set[str]:
        """The tasks that have landed."""
        return {name for name, state in self.story.states().items() if state == "landed"}


def rate(slots: int, bad: float, *, batches: bool = False) -> tuple[float, float]:
    """Gives landings, and verifications for each, in the time of one verification; over all seeds."""
    landed, time_s, runs = 0, 0.0, 0
    for seed in range(SEEDS):
        queue = Simulated(seed, slots=slots, bad=bad, flake=FLAKE, batches=batches)
        queue.play()
        landed, time_s, runs = landed + len(queue.landed), time_s + queue.story.now, runs + queue.runs
        assert not queue.landed & queue.bad
        assert set(queue.story.states().values()) <= {"landed", "failed"}
    return landed / time_s, runs / landed


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("bad", [0.02, 0.05, 0.15, 0.30])
def test_landings_per_verification_time(slots: int, bad: float) -> None:
    """A queue lands at least as fast as the published model of this policy says, less a tenth for chance, and never faster than
    an oracle could, which verifies nothing that is bad."""
    landings, runs = rate(slots, bad)
    model = MODEL.get((slots, bad))
    print(
        f"K={slots} bad={bad:.0%}: {landings:.2f} landings per T, {runs:.2f} runs each, model {model}, oracle {slots}"
    )
    assert landings <= slots * 1.1
    if model is not None:
        assert landings >= 0.9 * model


@pytest.mark.parametrize(
    ("slots", "bad", "gain"), [(1, 0.02, 1.6), (2, 0.02, 1.3), (1, 0.05, 1.1), (2, 0.30, 0.9)]
)
def test_batches_land_more_where_little_is_red(slots: int, bad: float, gain: float) -> None:
    """Where little is red, batches land more in the same time than one by one; where much is, they are not made and cost next to
    nothing. What is bad never lands, and all that is good does, save flakes."""
    landings, runs = rate(slots, bad, batches=True)
    strict, _ = rate(slots, bad)
    print(
        f"K={slots} bad={bad:.0%} batches: {landings:.2f} landings per T, {runs:.2f} runs each; strict {strict:.2f}"
    )
    assert landings >= gain * strict


def test_a_flaky_suite_sends_nearly_nobody_back() -> None:
    """With a suite that is a flake one time in twenty, fewer than one in two hundred good tasks of a hundred queues are sent back;
    only what was green has landed, as the commit that was, and nobody is passed by for ever."""
    good = sent_back = 0
    for seed in range(100):
        queue = Simulated(seed, slots=2, bad=0.05, flake=0.05, queued=30)
        queue.play()
        states = queue.story.states()
        good += len(states.keys() - queue.bad)
        sent_back += sum(states[name] == "failed" for name in states.keys() - queue.bad)
        assert set(states.values()) <= {"landed", "failed"}
        assert not queue.landed & queue.bad
        # In the order in which they came, save those that were sent back.
        assert [name for name, _ in queue.story.run.landed] == [
            name for name in states if name in queue.landed
        ]
    print(f"{sent_back} of {good} good tasks were sent back: {sent_back / good:.2%}")
    assert sent_back / good < 0.005

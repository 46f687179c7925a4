"""Admission: how many workers may start, and the reason when none may."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.core.admission import Decision, Ramp, decide, smooth, width
from swarm.core.model import Limits, Readings

quietly = settings(database=None, deadline=None, max_examples=100)

LIMITS = Limits()
WIDE = Limits(workers_max=100)
percents = st.floats(0, 100, allow_nan=False)


def readings(
    cpu: float = 10.0, memory: float = 10.0, disk: int = 10**11, inodes: int | None = None
) -> Readings:
    return Readings(cpu, memory, memory_available_bytes=10**9, disk_free_bytes=disk, disk_free_inodes=inodes)


def decision(
    now: Readings, running: int = 0, limits: Limits = LIMITS, previous: int | None = None
) -> Decision:
    return decide(now, limits=limits, running=running, ramp=None, previous_step=previous)[0]


class TestWidth:
    @pytest.mark.parametrize(
        ("percent", "expected"),
        [
            (0, 4),
            (49.9, 4),
            (50, 3),
            (60, 3),
            (70, 2),
            (75, 2),
            (80, 1),
            (85, 1),
            (89.9, 1),
            (90, 0),
            (100, 0),
        ],
    )
    def test_ladder(self, percent: float, expected: int) -> None:
        """The higher of CPU and memory gives the share of the slots: 60, 75 and 85 % leave 3, 2 and 1 of four."""
        assert width(readings(cpu=percent), limits=LIMITS) == expected
        assert width(readings(memory=percent), limits=LIMITS) == expected

    def test_rounding(self) -> None:
        """A share is rounded down, and is never less than one worker."""
        assert width(readings(60), limits=Limits(workers_max=5)) == 3
        assert width(readings(75), limits=Limits(workers_max=1)) == 1
        assert width(readings(10), limits=Limits(workers_max=100, ladder=((50.0, 0.29),))) == 29

    def test_disk(self) -> None:
        """With less disk than wanted nothing starts; with exactly that much it does."""
        assert width(readings(disk=999_999_999), limits=LIMITS) == 0
        assert width(readings(disk=1_000_000_000), limits=LIMITS) == 4

    @pytest.mark.parametrize(
        ("free", "least", "workers"), [(99, 100, 0), (100, 100, 4), (0, 1, 0), (0, 0, 4), (None, 100, 4)]
    )
    def test_inodes(self, free: int | None, least: int, workers: int) -> None:
        """With fewer inodes free than wanted nothing starts; a file system that has no number of them is never short of any."""
        limits = dataclasses.replace(LIMITS, disk_free_inodes_min=least)
        assert width(readings(inodes=free), limits=limits) == workers

    @pytest.mark.parametrize(
        ("previous", "percent", "expected"),
        [
            (2, 69, 2),
            (2, 68, 2),
            (2, 67.9, 3),
            (3, 71, 2),
            (2, 40, 4),
            (2, 49, 3),
            (0, 89, 0),
            (0, 87.9, 1),
            (1, 89, 1),
        ],
    )
    def test_hysteresis(self, previous: int, percent: float, expected: int) -> None:
        """It narrows at once, and widens only where the reading is more than two points below the threshold."""
        assert width(readings(memory=percent), limits=LIMITS, previous=previous) == expected

    def test_a_maximum_above_100_never_shuts(self) -> None:
        """A door that was shut by another maximum opens where the maximum is above 100: nothing else could open it."""
        assert width(readings(cpu=100), limits=Limits(cpu_percent_max=101), previous=0) == 1

    def test_hysteresis_of_close_steps(self) -> None:
        """Steps less than two points apart do not make it narrower when the reading falls."""
        close = Limits(ladder=((50.0, 1.0), (51.0, 0.75), (52.0, 0.5)))
        assert width(readings(50.5), limits=close) == 3
        assert width(readings(49.9), limits=close, previous=3) == 3

    @quietly
    @given(percents, percents, st.one_of(st.none(), st.integers(0, 4)))
    def test_never_wider_than_the_readings_allow(
        self, cpu: float, memory: float, previous: int | None
    ) -> None:
        """What came before can keep the width down and never pushes it above what the readings allow."""
        now = readings(cpu, memory)
        assert width(now, limits=LIMITS, previous=previous) <= width(now, limits=LIMITS)

    @quietly
    @given(
        st.sampled_from([50.0, 70.0, 80.0, 90.0]), st.lists(st.floats(-0.99, 0.99), min_size=2, max_size=20)
    )
    def test_does_not_flap(self, threshold: float, sways: list[float]) -> None:
        """A reading that sways by less than two points about a threshold changes the width once at the most, and down."""
        given_: list[int] = []
        for sway in sways:
            now = readings(cpu=threshold + sway)
            given_.append(width(now, limits=LIMITS, previous=given_[-1] if given_ else None))
        assert given_ == sorted(given_, reverse=True)
        assert len(set(given_)) <= 2


class TestDecision:
    def test_full_gate(self) -> None:
        """At 95 % memory nothing new starts, whatever runs goes on, and the reason says so."""
        assert decision(readings(memory=95), running=2) == Decision(0, "memory 95 % is at or above 90 %", 0)

    @pytest.mark.parametrize(
        ("now", "running", "reason"),
        [
            (readings(), 0, "4 of 4 slots open"),
            (readings(), 1, "3 of 4 slots open"),
            (readings(), 4, "all 4 slots taken"),
            (readings(), 6, "all 4 slots taken"),
            (readings(cpu=93.7), 0, "CPU 93 % is at or above 90 %"),
            (readings(memory=72), 0, "memory 72 %: 2 of 4 slots"),
            (readings(memory=72), 3, "memory 72 %: 2 of 4 slots"),
            (readings(disk=400_000_000), 0, "disk has 0.4 GB free, 1.0 GB wanted"),
            (readings(disk=999_000_000), 0, "disk has 0.9 GB free, 1.0 GB wanted"),
        ],
    )
    def test_reasons(self, now: Readings, running: int, reason: str) -> None:
        """The reason is one short sentence that names the reading and the limit."""
        assert decision(now, running).reason == reason

    def test_reasons_of_odd_limits(self) -> None:
        """One slot is not "all 1 slots", and a small wish for disk is told in a unit in which it can be seen."""
        assert decision(readings(), 1, Limits(workers_max=1)).reason == "the one slot is taken"
        small = Limits(disk_free_bytes_min=5_000_000)
        assert decision(readings(disk=1_250_000), 0, small).reason == "disk has 1.2 MB free, 5.0 MB wanted"
        few = Limits(disk_free_inodes_min=10_000)
        assert decision(readings(inodes=812), 0, few).reason == "disk has 812 inodes free, 10000 wanted"

    def test_reasons_of_hysteresis(self) -> None:
        """Where only the hysteresis holds back, the reason says what must be reached."""
        assert (
            decision(readings(memory=69), previous=2).reason == "memory 69 %: 2 of 4 slots until below 68 %"
        )
        assert decision(readings(cpu=89, memory=20), previous=0).reason == "CPU 89 % is not yet below 88 %"

    def test_the_step_comes_back(self) -> None:
        """The step handed out is the one that the next decision asks for."""
        _, step = decide(readings(memory=75), limits=LIMITS, running=0, ramp=None, previous_step=None)
        held, step = decide(readings(memory=69), limits=LIMITS, running=0, ramp=None, previous_step=step)
        opened, _ = decide(readings(memory=67), limits=LIMITS, running=0, ramp=None, previous_step=step)
        assert (held.slots_open, opened.slots_open) == (2, 3)

    @quietly
    @given(
        percents,
        percents,
        st.integers(0, 12),
        st.integers(1, 12),
        st.floats(0, 20),
        st.integers(0, 2 * 10**9),
    )
    def test_bounds(
        self, cpu: float, memory: float, running: int, workers: int, ceiling: float, disk: int
    ) -> None:
        """Never negative, never more than the slots or the ramp leave, and always with a reason."""
        limits = Limits(workers_max=workers)
        ramp = Ramp(ceiling, since=100.0)
        got, _ = decide(
            readings(cpu, memory, disk), limits=limits, running=running, ramp=ramp, previous_step=None
        )
        assert 0 <= got.slots_open <= max(0, got.target - running)
        assert got.slots_open <= max(0, math.floor(ceiling + 0.01) - running)
        assert 0 <= got.target <= workers
        assert got.reason


class TestSmoothing:
    def test_steps(self) -> None:
        """The first reading counts as it is; after one time constant a jump has come through to 63 %."""
        assert smooth(None, 80.0, 1.0, 5.0) == 80.0
        assert smooth(0.0, 100.0, 5.0, 5.0) == pytest.approx(63.2, abs=0.1)
        assert smooth(20.0, 100.0, 1.0, 0.0) == 100.0
        assert smooth(20.0, 100.0, -3.0, 5.0) == 20.0

    @quietly
    @given(percents, percents, st.floats(0.1, 10), st.floats(0.1, 10))
    def test_how_often_one_looks_makes_no_difference(
        self, before: float, now: float, a_s: float, b_s: float
    ) -> None:
        """Two looks at the same reading weigh what one does after the time of both."""
        twice = smooth(smooth(before, now, a_s, 5.0), now, b_s, 5.0)
        assert twice == pytest.approx(smooth(before, now, a_s + b_s, 5.0))


class House:
    """Workers that start whenever admission lets them, with time under the test's control."""

    def __init__(self, limits: Limits, now: float = 1.7e9) -> None:
        self.limits, self.now, self.running, self.ramp = limits, now, 0, Ramp()
        self.last = Decision(0, "", 0)

    def fill(self, wanted: int = 10**6) -> int:
        """Starts workers until admission says no; tells how many."""
        started = 0
        while started < wanted:
            self.ramp = self.ramp.at(self.now, running=self.running, limits=self.limits)
            self.last, _ = decide(
                readings(), limits=self.limits, running=self.running, ramp=self.ramp, previous_step=None
            )
            if self.last.slots_open < 1:
                break
            self.running += 1
            started += 1
            self.ramp = self.ramp.started(self.now, running=self.running)
        return started


class TestRamp:
    def test_open_slots(self) -> None:
        """The open slots are what the ramp leaves, where that is less than the width."""
        ramp = Ramp().at(5.0, running=1, limits=WIDE)
        got, _ = decide(readings(), limits=WIDE, running=1, ramp=ramp, previous_step=None)
        assert (got.slots_open, got.target, got.opens_at) == (4, 100, None)

    def test_growth(self) -> None:
        """It starts with one second's worth at once and grows by that much a second, up to the width."""
        house = House(WIDE)
        counts = []
        for _ in range(4):
            house.fill()
            counts.append(house.running)
            house.now += 1.0
        assert counts == [4, 8, 12, 16]
        assert Limits().workers_max == House(Limits()).fill()

    def test_says_when(self) -> None:
        """While it grows it says how many are to come, in what time, and when the next one may start; then it may."""
        house = House(Limits(workers_max=8, ramp_per_s=3.0))
        house.fill()
        assert house.last.reason == "growing: 5 more in 1.7 s"
        for expected in (4, 5, 6, 7, 8):
            assert house.last.opens_at is not None
            assert house.last.opens_at > house.now
            house.now = house.last.opens_at
            assert house.fill() == 1
            assert house.running == expected
        assert house.last == Decision(0, "all 8 slots taken", 8)

    def test_replacement_is_free(self) -> None:
        """Workers that end are replaced at once, all of them if need be, without growing anew."""
        house = House(WIDE)
        for _ in range(5):
            house.fill()
            house.now += 1.0
        house.fill()
        before = house.running
        house.now += 0.001
        house.running -= 7
        assert house.fill() == 7
        house.running = 0
        assert house.fill() == before

    def test_idle_saves_nothing_up(self) -> None:
        """After an idle hour it starts as slowly as at first."""
        house = House(WIDE)
        for _ in range(10):
            house.fill()
            house.now += 1.0
        house.running = 0
        house.now += 3600.0
        assert house.fill() == 4

    def test_steady_house_has_only_its_second(self) -> None:
        """A long time with the same number of workers gives room for one second's growth, not for the whole time."""
        house = House(WIDE)
        house.fill(3)
        house.now += 1000.0
        assert house.fill() == 4

    def test_adopted_workers(self) -> None:
        """Workers that a new daemon finds running count as room that is theirs."""
        house = House(WIDE)
        house.running = 20
        assert house.fill() == 4
        house.running -= 10
        assert house.fill() == 10

    def test_slow_ramp(self) -> None:
        """A ramp of less than one a second still lets the first one start, and the next when its time has come."""
        house = House(dataclasses.replace(WIDE, ramp_per_s=0.5))
        assert house.fill() == 1
        assert house.last.opens_at == pytest.approx(house.now + 2.0)
        house.now += 1.9
        assert house.fill() == 0
        house.now += 0.1
        assert house.fill() == 1

    def test_clock_set_back(self) -> None:
        """A clock that is set back stops nothing: growth goes on from the new time, and an old peak is forgotten in time."""
        house = House(WIDE)
        for _ in range(3):
            house.fill()
            house.now += 1.0
        house.fill()
        house.now -= 86_400.0
        assert house.fill() == 0
        house.now += 1.0
        assert house.fill() == 4
        house.running = 0
        house.now -= 86_400.0
        house.fill(1)
        house.running = 0
        house.now += 61.0
        assert house.fill() == 4

    @quietly
    @given(
        st.floats(0.1, 50),
        st.lists(st.tuples(st.floats(0, 3), st.integers(0, 5)), min_size=1, max_size=40),
    )
    def test_never_grows_faster(self, rate: float, turns: list[tuple[float, int]]) -> None:
        """However workers end and time goes, the most that ever ran grew by no more than the rate and its first second."""
        house = House(dataclasses.replace(WIDE, ramp_per_s=rate), now=0.0)
        most = 0
        for passed_s, ended in turns:
            house.now += passed_s
            house.running = max(0, house.running - ended)
            house.fill()
            most = max(most, house.running)
            assert most <= max(1.0, rate) + rate * house.now + 0.01
            if house.running < 100:
                assert house.last.opens_at is not None
                assert house.last.opens_at > house.now

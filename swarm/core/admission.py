"""Readings and limits in, the number of workers that may start out, with the reason in words.

Three things hold a start back: the width that the machine allows now (`width`: disk, the maxima, the ladder), the workers that run
already, and the ramp, which lets the number of workers grow only so fast, because readings follow a start with a delay and a
hundred workers started at once are seen when it is too late. Nothing here stops a worker that runs.

Rules for editing: arithmetic only. Time is a parameter, in seconds; the rules for users are in docs/explanation/admission.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache

from swarm.core.model import Limits, Readings
from swarm.dataclass import dataclass

HYSTERESIS_POINTS = 2.0  # how far below a threshold a reading must be before the width grows again
RELIEF_POINTS = 5.0  # how far the use of memory must have fallen before what was suspended goes on
RELIEF_SHARE = 0.25  # … and what must be left of the time that is spent waiting for it
RECENT_S = 60.0  # how long the room of workers that ended is kept for others without growing anew
NOTHING_WAITS = "nothing waits"  # for a slot
_NEARLY = 1e-3  # of a worker: times since the epoch are exact to a quarter of a microsecond only


Expected = tuple[
    str, str, int, int
]  # run, task, attempt, and the bytes that its worker is expected to take in the end


def to_grow(growing: Iterable[Expected], taken: Mapping[tuple[str, str, int], int]) -> int:
    """Gives by how many bytes workers are still expected to grow, of which some are known to have `taken` so much."""
    return sum(max(0, in_the_end - taken.get((run, task, n), 0)) for run, task, n, in_the_end in growing)


class Pressure(StrEnum):
    """Whether there is memory enough, so little that workers stand still, or again some, but not yet enough to start more."""

    NONE = "none"
    SHORT = "short"
    EASED = "eased"


@dataclass(frozen=True, slots=True)
class Decision:
    """How many more workers may start now, and why not more; `target` is the width that the machine allows.

    `opens_at` is the time when the ramp lets the next one start; None where waiting alone does not help.
    """

    slots_open: int
    reason: str
    target: int
    opens_at: float | None = None


@dataclass(frozen=True, slots=True)
class Ramp:
    """How many workers may run, as far as growing goes: `ceiling`, which held at the time `since`.

    The ceiling grows by `ramp_per_s` a second, and is never further than one second's growth (at least one worker) above the
    most that ran lately, `peak`, last seen at `peak_at`. So a run starts with max(1, ramp_per_s) workers at once, an idle hour
    saves up nothing, and replacing a worker that ended is free.
    """

    ceiling: float = 0.0
    since: float = -math.inf
    peak: int = 0
    peak_at: float = -math.inf

    def at(self, now: float, *, running: int, limits: Limits) -> Ramp:
        """Gives the ramp as it stands at the time `now`, with so many workers running."""
        peak, peak_at = self._peak(now, running)
        grown = self.ceiling + limits.ramp_per_s * max(0.0, now - self.since)
        highest = peak + max(1.0, limits.ramp_per_s)
        return Ramp(min(grown, highest), now, peak, peak_at)

    def started(self, now: float, *, running: int) -> Ramp:
        """Gives the ramp after a start, where `running` counts the new one: its room is free when it ends."""
        return Ramp(self.ceiling, self.since, *self._peak(now, running))

    def moved(self, by_s: float) -> Ramp:
        """Gives the ramp by a clock that was set by so much."""
        return Ramp(self.ceiling, self.since + by_s, self.peak, self.peak_at + by_s)

    def room(self, running: int) -> int:
        """Gives how many more may run now."""
        return max(0, math.floor(self.ceiling + _NEARLY) - running)

    def reaches(self, workers: int, limits: Limits) -> float:
        """Gives the time when so many may run, if nothing ends before."""
        return self.since + max(0.0, workers - self.ceiling) / limits.ramp_per_s

    def _peak(self, now: float, running: int) -> tuple[int, float]:
        # A clock that was set back must not keep an old peak alive until it has caught up.
        peak_at = min(self.peak_at, now)
        if running >= self.peak or now - peak_at > RECENT_S:
            return running, now
        return self.peak, peak_at


def smooth(previous: float | None, now: float, dt_s: float, smoothing_s: float) -> float:
    """Gives the exponentially weighted mean of a reading, by time: a reading `smoothing_s` old counts 1/e of what it did.

    Two readings a second apart weigh what one does after two seconds, so how often one looks makes no difference. Without a
    previous value, or with a `smoothing_s` of 0, it is the reading itself.
    """
    if previous is None or smoothing_s <= 0:
        return now
    return previous + (now - previous) * -math.expm1(-max(0.0, dt_s) / smoothing_s)


def width(readings: Readings, *, limits: Limits, previous: int | None = None) -> int:
    """Gives how many workers the machine allows in all; 0 where nothing may start.

    `previous` is the width given last: a wider one is given only for readings more than two points below the threshold, so that
    a reading which sways about a threshold does not open and shut the door. None: no hysteresis.
    """
    if readings.disk_free_bytes < limits.disk_free_bytes_min or _lacks_inodes(readings, limits):
        return 0
    cpu, memory = readings.cpu_percent, readings.memory_percent
    now = _ladder(cpu, memory, limits)
    if previous is None or now <= previous:
        return now
    # A ladder whose shares grow makes no sense, but is not for this place to refuse: hence `min`.
    # No reading is above 100 %, so a maximum above that never shuts, however it was before.
    higher = _ladder(min(100.0, cpu + HYSTERESIS_POINTS), min(100.0, memory + HYSTERESIS_POINTS), limits)
    return max(previous, min(now, higher))


def _lacks_inodes(readings: Readings, limits: Limits) -> bool:
    return readings.disk_free_inodes is not None and readings.disk_free_inodes < limits.disk_free_inodes_min


def _ladder(cpu: float, memory: float, limits: Limits) -> int:
    """Gives the width for these percentages: 0 at a maximum, the share of the first step above the higher one, else 1."""
    if cpu >= limits.cpu_percent_max or memory >= limits.memory_percent_max:
        return 0
    higher = max(cpu, memory)
    share = next((share for below, share in limits.ladder if higher < below), 0.0)
    return min(limits.workers_max, max(1, math.floor(limits.workers_max * share + 1e-9)))


def pressure(readings: Readings, limits: Limits, *, before: Pressure) -> Pressure:
    """Tells how short the machine is of memory, after it was so `before`."""
    percent, waits = readings.memory_percent, readings.memory_stall_percent or 0.0
    fill, stall = limits.memory_percent_suspend, limits.memory_stall_percent_suspend
    if percent >= fill or waits >= stall:
        return Pressure.SHORT
    eased = percent < fill - RELIEF_POINTS and waits < stall * RELIEF_SHARE
    return Pressure.NONE if eased or before is Pressure.NONE else Pressure.EASED


def shortage(readings: Readings, limits: Limits) -> str:
    """Says in a few words what there is little of."""
    waits = readings.memory_stall_percent or 0.0
    if waits >= limits.memory_stall_percent_suspend * RELIEF_SHARE:
        return f"memory {math.floor(readings.memory_percent)} %, waited for {math.floor(waits)} % of the time"
    return f"memory {math.floor(readings.memory_percent)} %"


def decide(
    readings: Readings,
    *,
    limits: Limits,
    running: int,
    ramp: Ramp | None,
    previous_step: int | None,
) -> tuple[Decision, int | None]:
    """Decides how many more workers may start now; gives the step too, to be passed in as `previous_step` next time.

    A step is a width as `width` gives it; None forgets the hysteresis, as is right when the limits have changed. `ramp` is one
    brought up to now by `Ramp.at`; None lets any number start at once.
    """
    target = width(readings, limits=limits, previous=previous_step)
    free = target - running
    if free > 0 and ramp is not None:
        room = ramp.room(running)
        if room < 1:
            in_s = max(0.1, ramp.reaches(target, limits) - ramp.since)
            reason = f"growing: {free} more in {in_s:.1f} s"
            return Decision(0, reason, target, ramp.reaches(running + 1, limits)), target
        free = min(free, room)
    return Decision(max(0, free), _reason(readings, limits, running, target), target), target


def full_house(limits: Limits) -> Decision:
    """Gives the decision where every slot is taken, whatever the readings."""
    return _full(limits.workers_max)


@lru_cache  # after most events it is this again
def _full(most: int) -> Decision:
    return Decision(0, f"all {most} slots taken" if most > 1 else "the one slot is taken", most)


def in_trouble(trouble: str) -> Decision:
    """Gives the decision while something failed for want of what the machine lacks: `trouble`, in a few words."""
    return Decision(0, f"{trouble}; nothing new starts, and what failed is tried again", 0)


def waits_for_worktree(before: Decision) -> Decision:
    """Gives the decision where there is room, and the next start takes a worktree that is on its way back to the pool."""
    return _coming(before.target)


@lru_cache  # as the one above
def _coming(target: int) -> Decision:
    return Decision(0, "a worktree is on its way back", target)


def _reason(readings: Readings, limits: Limits, running: int, target: int) -> str:
    """Says in a short sentence what the number of slots comes from."""
    if running >= limits.workers_max:
        return full_house(limits).reason
    if target == 0:
        return _shut(readings, limits)
    if target < limits.workers_max:
        return _narrow(readings, limits, target)
    return f"{limits.workers_max - running} of {limits.workers_max} slots open"


def _shut(readings: Readings, limits: Limits) -> str:
    """Says why nothing may start."""
    if readings.disk_free_bytes < limits.disk_free_bytes_min:
        unit, name = (1e9, "GB") if limits.disk_free_bytes_min >= 1e8 else (1e6, "MB")
        # Rounded down, or 0.96 of 1 GB would read "1.0 GB free, 1.0 GB wanted".
        free = math.floor(readings.disk_free_bytes / unit * 10) / 10
        return f"disk has {free:.1f} {name} free, {limits.disk_free_bytes_min / unit:.1f} {name} wanted"
    if _lacks_inodes(readings, limits):
        return f"disk has {readings.disk_free_inodes} inodes free, {limits.disk_free_inodes_min} wanted"
    both = (
        ("CPU", readings.cpu_percent, limits.cpu_percent_max),
        ("memory", readings.memory_percent, limits.memory_percent_max),
    )
    for name, percent, most in both:
        if percent >= most:
            return f"{name} {math.floor(percent)} % is at or above {most:g} %"
    # What is left are readings below the maximum, but not by enough to open again.
    name, percent, most = min(both, key=lambda one: one[2] - one[1])
    return f"{name} {math.floor(percent)} % is not yet below {most - HYSTERESIS_POINTS:g} %"


def _narrow(readings: Readings, limits: Limits, target: int) -> str:
    """Says which reading leaves how many slots, and below what there would be more of them."""
    name, percent = max(
        (("CPU", readings.cpu_percent), ("memory", readings.memory_percent)), key=lambda one: one[1]
    )
    text = f"{name} {math.floor(percent)} %: {target} of {limits.workers_max} slots"
    if _ladder(readings.cpu_percent, readings.memory_percent, limits) > target:
        above = next((below for below, _ in limits.ladder if percent < below), percent)
        text += f" until below {above - HYSTERESIS_POINTS:g} %"
    return text

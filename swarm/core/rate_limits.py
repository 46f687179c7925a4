"""Rate limits as the services and programs word them: whether a text tells of one, and when it is over.

Rules for editing: pure. A text is the error of a program, in any of many wordings that change without notice; a moment that can't
be read, or has passed, is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from swarm.dataclass import dataclass

FAR_S = 14 * 86400.0  # no limit lasts longer; what says so was misread
_LIMIT_STATUS = (429, 529)

_TOLD = re.compile(
    r"rate.?limit|usage.limit|limit reached|hit your \w* ?limit|(?<!disk )quota|resource.?exhausted|too many requests|overloaded"
    r"|out of (?:extra )?usage|model is at capacity|\b(?:429|529)\b",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"(?:\||resets?_?(?:at|on)?\W{1,4})(\d{10})(?:\d{3})?\b", re.IGNORECASE)
_AFTER = re.compile(
    r"(?:try again|retry|resets?|available|wait)\b[^.\d]{0,20}\b(?:in|after|for)[\s:]*"
    r"((?:\d+(?:\.\d+)?\s*[a-z]+[\s,]*(?:and\s+)?)+)"
    r"|retry.after\D{1,4}(\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
_PIECE = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)[a-z]*", re.IGNORECASE)
_CLOCK = re.compile(
    r"(?:\bat|resets?)\s+(?:on\s+)?(?:([A-Z][a-z]{2})[a-z]*\.? (\d{1,2})(?:st|nd|rd|th)?,?(?: (\d{4}))?,?(?: at)? )?"
    r"(\d{1,2})(?::(\d{2}))?\s*([ap])\.?m\b\.?(?:\s*\(([A-Z][\w+/-]{1,63})\))?",
    re.IGNORECASE,
)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _utc_alone(name: str) -> tzinfo | None:
    """Knows no zone but UTC, which needs no table."""
    return UTC if name in ("UTC", "GMT", "Etc/UTC") else None


@dataclass(frozen=True, slots=True)
class Clock:
    """What times of day go by: a zone that is named with them where `named` knows it, else a clock that is `utc_offset_s` ahead of
    UTC. A program need not go by the zone of who hears it: a sandbox, say, passes no TZ on."""

    utc_offset_s: float = 0.0
    named: Callable[[str], tzinfo | None] = _utc_alone

    def zone(self, name: str) -> tzinfo:
        """Gives the zone of a time that is told with the name of one, "" for none."""
        found = (_utc_alone(name) or self.named(name)) if name else None
        return found or timezone(timedelta(seconds=self.utc_offset_s))


UTC_CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that was met, in the words of who told of it; `until` in seconds since the epoch, None where it did not say."""

    text: str
    until: float | None = None


def limit_in(text: str, at: float, clock: Clock = UTC_CLOCK, status: int | None = None) -> Limit | None:
    """Gives the limit that an error tells of, None where it tells of something else. `at` is when it was said; times of day in it
    go by `clock`. `status` is the error's HTTP status where it is known."""
    if status not in _LIMIT_STATUS and _TOLD.search(text) is None:
        return None
    for moment in (_epoch(text), _after(text, at), _clock(text, at, clock)):
        if moment is not None and at < moment <= at + FAR_S:
            return Limit(text, moment)
    return Limit(text)


def _epoch(text: str) -> float | None:
    found = _EPOCH.search(text)
    return float(found[1]) if found else None


def _after(text: str, at: float) -> float | None:
    found = _AFTER.search(text)
    if found is None:
        return None
    if found[2]:
        return at + float(found[2])
    pieces = [float(number) * _UNIT_S[unit.lower()] for number, unit in _PIECE.findall(found[1])]
    return at + sum(pieces) if pieces else None


def _clock(text: str, at: float, clock: Clock) -> float | None:
    """Reads a time of day, with a date or without: the next one there is, in the zone that is named with it."""
    found = _CLOCK.search(text)
    if found is None:
        return None
    month, day, year, hour, minute, half, named = found.groups()
    zone = clock.zone(named or "")
    try:
        now = datetime.fromtimestamp(at, zone)
        of_day = int(hour) % 12 + 12 * (half.lower() == "p"), int(minute or 0)
        if month is None:
            then = datetime(now.year, now.month, now.day, *of_day, tzinfo=zone)
            return (then if then > now else then + timedelta(days=1)).timestamp()
        date = _MONTHS.index(month.lower()) + 1, int(day)
        then = datetime(int(year or now.year), *date, *of_day, tzinfo=zone)
        if year is None and then < now:
            then = datetime(now.year + 1, *date, *of_day, tzinfo=zone)
    except (ValueError, OverflowError, OSError):
        return None
    return then.timestamp()

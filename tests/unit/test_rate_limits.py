"""Whether an error tells of a limit and when that is over, in the wordings that are known."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest

from swarm.core.rate_limits import Clock, Limit, limit_in

AT = 1_800_000_000.0  # Friday 2027-01-15 08:00:00 UTC
HOUR = 3600.0


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("Claude AI usage limit reached|1800003600", HOUR),
        ("Claude AI usage limit reached|1800003600000", HOUR),
        ('{"type":"usage_limit_reached","resets_at":1800007200,"resets_in_seconds":9}', 2 * HOUR),
        ("You've hit your limit · resets 2pm (UTC)", 6 * HOUR),
        ("You’ve hit your session limit · resets 8:45am", 0.75 * HOUR),
        ("5-hour limit reached ∙ resets 7am", 23 * HOUR),
        ("You've hit your weekly limit · resets Jan 18 at 8am (UTC)", 72 * HOUR),
        ("You’ve hit your usage limit or try again at Jan 15th, 2027 11:06 AM.", 3.1 * HOUR),
        ("You've hit your usage limit. Try again at 9:00 PM.", 13 * HOUR),
        ("You've hit your usage limit. Try again in 1 day 2 hours 12 minutes.", 26.2 * HOUR),
        ("Rate limit reached for m on tokens per min. Please try again in 1.5s.", 1.5),
        ("Rate limit reached. Please try again in 500ms. Visit the page 7 days", 0.5),
        ("429 Too Many Requests, retry-after: 30", 30.0),
        ("quota exceeded. Please retry in 34.07s.", 34.07),
        ("Your quota will reset after 3h45m12s.", 3.75 * HOUR + 12),
        ("API Error: Request rejected (429) · This would exceed your account's rate limit.", None),
        ("Overloaded", None),
        ("RESOURCE_EXHAUSTED", None),
        ("You're out of extra usage · resets 5pm (UTC)", 9 * HOUR),
        ("Selected model is at capacity. Please try a different model.", None),
        ("You've hit your usage limit or try again at Nov 18th, 2026 11:06 AM.", None),
        ("usage limit reached|1900000000", None),
        ("rate limit, try again at 99:99 PM, Foo 77 at 13pm", None),
    ],
)
def test_limits_are_recognised(text: str, wait_s: float | None) -> None:
    """Each is a limit, with the moment when it is over where that can be read and lies ahead."""
    found = limit_in(text, AT)
    assert found is not None
    assert found.text == text
    assert found.until == (None if wait_s is None else pytest.approx(AT + wait_s, abs=0.01))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "error max turns",
        "model not found: model-429x",
        "disk quota exceeded",
        "No conversation found",
        "port 5290",
        "the disk is at capacity",
    ],
)
def test_other_errors_are_no_limits(text: str) -> None:
    """What tells of something else asks for nothing."""
    assert limit_in(text, AT) is None


def test_the_status_decides_where_it_is_known() -> None:
    """429 and 529 are limits whatever the text says."""
    assert limit_in("no", AT, status=429) == limit_in("no", AT, status=529) == Limit("no")
    assert limit_in("no", AT, status=400) is None


def test_times_of_day_go_by_the_clock_of_the_program() -> None:
    """An hour east of Greenwich 10 am is an hour ahead at 8 UTC."""
    found = limit_in("limit reached, resets 10am", AT, Clock(HOUR))
    assert found is not None
    assert found.until == AT + HOUR


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ("resets 3:30am (Asia/Kolkata)", 14 * HOUR),
        ("resets Jan 18 at 1:30pm (Asia/Kolkata).", 72 * HOUR),
        ("resets 2pm (UTC)", 6 * HOUR),
        ("resets 2pm (Middle/Earth)", 5 * HOUR),
        ("resets 2pm (or later)", 5 * HOUR),
    ],
)
def test_a_zone_that_is_named_counts(said: str, wait_s: float) -> None:
    """The program need not go by the clock of who hears it; where the zone is not known here that is all there is."""
    kolkata = timezone(timedelta(hours=5, minutes=30))
    clock = Clock(HOUR, {"Asia/Kolkata": kolkata}.get)
    found = limit_in(f"You've hit your limit · {said}", AT, clock)
    assert found is not None
    assert found.until == AT + wait_s

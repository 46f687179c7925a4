"""What idle worktrees hold and can be made again goes, oldest first, until it takes no more than it may."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.core.reclaiming import Reclaimable, beyond


def test_the_oldest_go_until_the_rest_fits() -> None:
    """Above the mark the oldest go, one by one, and no more than it takes; what takes no room stays."""
    old, empty, middle, new = (
        Reclaimable("old", 1.0, 30),
        Reclaimable("empty", 2.0, 0),
        Reclaimable("middle", 3.0, 30),
        Reclaimable("new", 4.0, 30),
    )
    held = [new, empty, old, middle]
    assert beyond(held, 90) == []
    assert beyond(held, 89) == [old]
    assert beyond(held, 60) == [old]
    assert beyond(held, 59) == [old, middle]
    assert beyond(held, 1) == [old, middle, new]


def test_without_a_budget_nothing_goes() -> None:
    """0 is no budget."""
    assert beyond([Reclaimable("old", 1.0, 30)], 0) == []


@given(
    st.lists(st.builds(Reclaimable, st.text(max_size=3), st.floats(0, 9), st.integers(0, 9)), max_size=8),
    st.integers(1, 40),
)
def test_what_is_left_fits_and_nothing_goes_without_need(held: list[Reclaimable], budget: int) -> None:
    """What is left fits the budget; without the last that went it would not have; nothing older than what went is left."""
    going = beyond(held, budget)
    left = sum(each.size_bytes for each in held) - sum(each.size_bytes for each in going)
    assert left <= budget
    if going:
        assert left + going[-1].size_bytes > budget
        kept = [each for each in held if each.size_bytes and each not in going]
        assert all(each.since >= going[-1].since for each in kept)

"""Who waits for claims: the one that goes first is that of a plain comparison with all of them."""

from __future__ import annotations

import random

import pytest

from swarm.core import waiting
from swarm.core.claims import overlap
from swarm.core.model import Claim, Mode
from swarm.core.waiting import Before, Key, Waiting

PATHS = ["a", "a/1", "a/2", "a/**", "a/*", "A/1", "b", "b/c.py", "**/c.py", "\0turn", "?"]


def some_claims(chance: random.Random) -> tuple[Claim, ...]:
    modes = [Mode.EXCLUSIVE, Mode.EXCLUSIVE, Mode.SHARED]
    return tuple(Claim(chance.choice(PATHS), chance.choice(modes)) for _ in range(chance.randint(0, 3)))


def plainly(
    tasks: dict[str, tuple[Key, tuple[Claim, ...]]], claims: tuple[Claim, ...], key: Key
) -> str | None:
    """The best of those before a key that want something that meets the claims."""
    meeting = [
        (other, name)
        for name, (other, wanted) in tasks.items()
        for a in wanted
        for b in claims
        if other < key and overlap(a.path, b.path) and not a.mode is b.mode is Mode.SHARED
    ]
    return min(meeting)[1] if meeting else None


@pytest.mark.parametrize("seed", range(40))
def test_the_first_is_that_of_a_plain_comparison(seed: int) -> None:
    """Whatever was added and removed before, the task that goes first, and one of its paths that meets, are named."""
    chance, known = random.Random(seed), Waiting()
    known_now: dict[str, tuple[Key, tuple[Claim, ...]]] = {}
    for order in range(200):
        name = f"t{chance.randint(0, 30)}"
        if name in known_now and chance.random() < 0.7:
            assert known.remove(name) == known_now.pop(name)[1]
        elif name not in known_now:
            known_now[name] = (-chance.choice([0, 0, 5]), order), some_claims(chance)
            known.add(name, *known_now[name])
        assert known.tasks() == known_now
        claims, key = some_claims(chance), (-chance.choice([0, 5, 9]), chance.randint(0, 250))
        first = known.first(claims, key)
        assert (first.task if first else None) == plainly(known_now, claims, key)
        if first is not None:
            assert any(overlap(first.path, claim.path) for claim in claims)
            assert first.path in [claim.path for claim in known_now[first.task][1]]
    for name in list(known_now):
        known.remove(name)
    assert not known
    assert (known._wanting, known._wild, list(known._table.held())) == ({}, 0, [])


def test_very_many_wildcards_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound patterns with wildcards are not filed, plain paths still are."""
    monkeypatch.setattr(waiting, "WILD_MAX", 3)
    known = Waiting()
    for n in range(9):
        known.add(f"t{n}", (0, n), (Claim(f"d{n}/*.py"), Claim(f"plain{n}")))
    assert known.first((Claim("d2/x.py"),), (0, 99)) == Before("d2/*.py", "t2")
    assert known.first((Claim("d8/x.py"),), (0, 99)) is None
    assert known.first((Claim("plain8"),), (0, 99)) == Before("plain8", "t8")
    for n in range(9):
        known.remove(f"t{n}")
    known.add("new", (0, 50), (Claim("d8/*.py"),))
    assert known.first((Claim("d8/x.py"),), (0, 99)) == Before("d8/*.py", "new")

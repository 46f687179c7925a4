"""What is remembered of the staging lines, and forgotten with them."""

from __future__ import annotations

from swarm.edge.lineage import Lineage


def test_nothing_of_a_forgotten_run_is_kept_but_what_others_have() -> None:
    """Run after run comes and goes and nothing of it stays in memory; what two lines have is known until both have gone."""
    known = Lineage()
    known.load("stays", ["base", "one"], ["topic"])
    for n in range(100):
        run = f"run-{n}"
        known.load(run, ["base"], [])
        known.advance(run, [f"landing-{n}"], [f"work-{n}"])
        assert known.landed(f"landing-{n}")
        known.forget(run)
        assert known.landed("base")
        assert not known.landed(f"landing-{n}")
    known.forget("stays")
    assert not known.landed("base")
    kept = (known._place, known._come_in, known._runs_of)
    assert kept == ({}, {}, {})

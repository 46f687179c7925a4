"""What is remembered of the staging lines, and forgotten with them."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.edge.lineage import Line, Lineage


def read(
    known: Lineage, run: str, base: str, commits: Sequence[str] = (), come_in: Sequence[str] = ()
) -> Line:
    line = known.line(run)
    known.found(run, line, base)
    known.lengthen(run, line, base, commits, come_in)
    return line


def test_nothing_of_a_forgotten_run_is_kept_but_what_others_have() -> None:
    """Run after run comes and goes and nothing of it stays in memory; what two lines have is known until both have gone."""
    known = Lineage()
    read(known, "stays", "base", ["one"], ["topic"])
    for n in range(100):
        run = f"run-{n}"
        line = read(known, run, "base")
        known.lengthen(run, line, "base", [f"landing-{n}"], [f"work-{n}"])
        assert known.landed(f"landing-{n}")
        known.forget(run)
        assert known.landed("base")
        assert not known.landed(f"landing-{n}")
    known.forget("stays")
    assert not known.landed("base")
    assert (known._lines, known._runs_of) == ({}, {})


def test_a_line_only_grows() -> None:
    """Whoever comes with less than is known takes nothing away, and what does not join on to what is known is not taken in."""
    known = Lineage()
    line = read(known, "run", "base")
    known.lengthen("run", line, "base", ["one", "two"], ["work-1", "work-2"])
    known.lengthen("run", line, "base", ["one"], ["work-1"])  # read before the second landed
    assert (known.place("run", "one"), known.place("run", "two"), line.tip) == (1, 2, "two")
    known.lengthen("run", line, "three", ["four"], ["work-4"])
    assert (known.place("run", "four"), known.came_in("run", "work-4")) == (None, False)
    known.lengthen("run", line, "one", ["two", "three"], ["work-2", "work-3"])
    assert (known.place("run", "two"), known.place("run", "three"), line.tip) == (2, 3, "three")
    assert all(known.came_in("run", f"work-{n}") for n in (1, 2, 3))


def test_what_was_read_of_a_run_that_is_gone_by_then_goes_with_it() -> None:
    """A line that was being read while its run was forgotten is not there for another run of that name."""
    known = Lineage()
    line = known.line("run")
    known.forget("run")
    known.found("run", line, "base")
    known.lengthen("run", line, "base", ["one"], ["work"])
    assert (known.place("run", "one"), known.landed("one"), known.came_in("run", "work")) == (
        None,
        False,
        False,
    )
    assert (known._lines, known._runs_of) == ({}, {})

"""Needs: what may start because of what has landed, through tasks, phases and the order within a phase."""

from __future__ import annotations

from swarm.core.model import PhaseSpec, TaskSpec
from swarm.core.needs import Needs
from tests.builders import a_task


def needs_of(*tasks: TaskSpec, phases: tuple[PhaseSpec, ...] = ()) -> Needs:
    needs = Needs()
    needs.add(phases, tasks)
    needs.settle()
    needs.order()
    needs.take_changed()
    return needs


def free(needs: Needs, *names: str) -> list[str]:
    return [name for name in names if needs.free(name)]


TWO = (PhaseSpec(id="p"), PhaseSpec(id="q", phase_needs=("p",)))
ONE_AT_A_TIME = (PhaseSpec(id="p", parallel_safe=False),)


def test_a_task_is_free_when_all_it_needs_has_landed() -> None:
    """A task that needs two is freed by the second one, whichever that is."""
    needs = needs_of(a_task("a"), a_task("b"), a_task("c", needs=["a", "b"]))
    assert free(needs, "a", "b", "c") == ["a", "b"]
    assert needs.met("b") == []
    assert needs.met("a") == ["c"]


def test_a_need_named_twice_is_one_need() -> None:
    """Naming a need twice neither holds a task up for ever nor frees it early."""
    needs = needs_of(a_task("a"), a_task("b"), a_task("c", needs=["a", "a", "b"]))
    assert needs.met("a") == []
    assert needs.met("b") == ["c"]


def test_landing_twice_counts_once() -> None:
    """A second `met` for the same task frees nobody."""
    needs = needs_of(a_task("a"), a_task("b"), a_task("c", needs=["a", "b"]))
    needs.met("a")
    assert needs.met("a") == []
    assert not needs.free("c")


def test_a_phase_waits_for_the_last_task_of_the_phase_it_needs() -> None:
    """No task of a phase is free before the last one of the phase that it needs has landed; then all are."""
    needs = needs_of(
        a_task("a", phase="p"),
        a_task("b", phase="p"),
        a_task("c", phase="q"),
        a_task("d", phase="q"),
        phases=TWO,
    )
    assert needs.met("a") == []
    assert sorted(needs.met("b")) == ["c", "d"]


def test_an_empty_phase_is_open() -> None:
    """A phase without tasks holds nobody up."""
    assert needs_of(a_task("c", phase="q"), phases=TWO).free("c")


def test_a_phase_may_need_a_task_of_the_same_plan() -> None:
    """A phase that needs a task which is added with it waits for that task."""
    needs = needs_of(a_task("base"), a_task("a", phase="p"), phases=(PhaseSpec(id="p", needs=("base",)),))
    assert not needs.free("a")
    assert needs.met("base") == ["a"]


def test_adding_a_known_phase_again_changes_nothing() -> None:
    """The same phases added again, as when a plan is submitted again, neither open nor shut a gate."""
    needs = needs_of(a_task("a", phase="p"), a_task("b", phase="q"), phases=TWO)
    needs.add(TWO, [])
    assert needs.met("a") == ["b"]


def test_a_finished_task_only_meets_needs() -> None:
    """A task that the plan says is finished satisfies those that need it, and its phase, and waits for nothing itself."""
    done = a_task("a", phase="p", finished=True)
    needs = needs_of(done, a_task("b", needs=["a"]), a_task("c", phase="q"), phases=TWO)
    assert sorted(needs.met("a")) == ["b", "c"]


def test_death_spreads_to_all_that_follow_and_is_taken_back() -> None:
    """What needs a dead task is dead too, through tasks and phases, and lives again when that one does."""
    needs = needs_of(
        a_task("a", phase="p"), a_task("b", phase="q"), a_task("c", needs=["b"]), a_task("d"), phases=TWO
    )
    assert sorted(needs.died("a")) == ["b", "c"]
    assert [needs.dead(name) for name in "abcd"] == [False, True, True, False]
    assert sorted(needs.revived("a")) == ["b", "c"]
    assert not any(needs.dead(name) for name in "abcd")


def test_two_deaths_need_two_revivals() -> None:
    """A task that needs two dead ones stays dead until both live again."""
    needs = needs_of(a_task("a"), a_task("b"), a_task("c", needs=["a", "b"]))
    assert needs.died("a") == ["c"]
    assert needs.died("b") == []
    assert needs.revived("a") == []
    assert needs.dead("c")
    assert needs.revived("b") == ["c"]


def test_a_dead_task_in_the_middle_keeps_its_own_death() -> None:
    """A task that died by itself below another dead one still blocks its dependants when only the upper one is revived."""
    needs = needs_of(a_task("a"), a_task("b", needs=["a"]), a_task("c", needs=["b"]))
    needs.died("a")
    needs.died("b")
    assert needs.revived("a") == []
    assert needs.dead("c")
    assert needs.revived("b") == ["c"]


def test_reviving_what_never_died_does_nothing() -> None:
    """Reviving a living task changes nothing."""
    needs = needs_of(a_task("a"), a_task("b", needs=["a"]))
    assert needs.revived("a") == []
    assert not needs.dead("b")


def test_one_at_a_time_waits_for_the_one_before_to_end() -> None:
    """In a phase that goes one at a time each task waits for the end of the one before it, however it ends."""
    needs = needs_of(*(a_task(name, phase="p") for name in "abc"), phases=ONE_AT_A_TIME)
    assert free(needs, *"abc") == ["a"]
    assert (needs.before("a"), needs.before("b"), needs.before("c")) == (None, "a", "b")
    assert needs.over("a") == "b"
    assert needs.over("a") is None
    assert free(needs, *"abc") == ["a", "b"]


def test_the_next_one_waits_for_its_needs_too() -> None:
    """The end of the task before does not free one whose own need is open."""
    needs = needs_of(
        a_task("x"), a_task("a", phase="p"), a_task("b", phase="p", needs=["x"]), phases=ONE_AT_A_TIME
    )
    assert needs.over("a") is None
    assert needs.met("x") == ["b"]


def test_the_order_gives_way_to_needs() -> None:
    """In a phase that goes one at a time a task goes after one that it needs, though the plan names it first; the others keep
    their places."""
    needs = needs_of(
        a_task("a", phase="p", needs=["x"]),
        a_task("b", phase="p", needs=["c"]),
        a_task("c", phase="p"),
        a_task("d", phase="p"),
        a_task("x"),
        phases=ONE_AT_A_TIME,
    )
    assert [needs.before(name) for name in "acbd"] == [None, "a", "c", "b"]


def test_those_passed_over_hold_nobody_up() -> None:
    """A task that won't start does not keep the later ones of its phase waiting, and says so in `take_changed`."""
    needs = needs_of(*(a_task(name, phase="p") for name in "abcd"), phases=ONE_AT_A_TIME)
    needs.order(["a", "c"])
    assert free(needs, *"abcd") == ["a", "b", "c"]
    assert needs.take_changed() == ["b", "c"]
    assert needs.over("b") == "d"


def test_a_later_task_of_a_known_phase_goes_one_at_a_time_too() -> None:
    """A task added to a known phase goes last in it, though the phase is not named again."""
    needs = needs_of(a_task("a", phase="p"), phases=ONE_AT_A_TIME)
    needs.add([], [a_task("b", phase="p")])
    needs.order()
    assert needs.before("b") == "a"


def test_a_replaced_task_has_its_new_needs_only() -> None:
    """Replacing a spec takes the old needs out and puts the new ones in."""
    old, new = a_task("c", needs=["a"]), a_task("c", needs=["b"])
    needs = needs_of(a_task("a"), a_task("b"), old)
    needs.forget(old)
    needs.replace(new)
    assert needs.met("a") == []
    assert needs.met("b") == ["c"]


def test_a_task_moved_out_of_a_phase_no_longer_holds_it() -> None:
    """When the only open task of a phase moves elsewhere, those that wait for the phase are freed."""
    old = a_task("a", phase="p")
    needs = needs_of(old, a_task("b", phase="q"), phases=TWO)
    needs.forget(old)
    needs.replace(a_task("a"))
    needs.settle()
    assert "b" in needs.take_changed()
    assert needs.free("b")


def test_a_replaced_task_is_no_longer_dead_by_what_it_needed() -> None:
    """Taking the dead need out of a spec revives the task and what needs it; both are told of."""
    old = a_task("b", needs=["a"])
    needs = needs_of(a_task("a"), old, a_task("c", needs=["b"]))
    needs.died("a")
    needs.forget(old)
    needs.replace(a_task("b"))
    assert not needs.dead("b")
    assert not needs.dead("c")
    assert needs.take_changed() == ["c"]


def test_a_replaced_task_that_had_died_lives() -> None:
    """Replacing a cancelled task takes its death back, once: a later death blocks and a revival frees as ever."""
    old = a_task("a")
    needs = needs_of(old, a_task("b", needs=["a"]))
    needs.died("a")
    needs.forget(old)
    needs.replace(a_task("a", priority=1))
    assert not needs.dead("b")
    assert needs.died("a") == ["b"]
    assert needs.revived("a") == ["b"]


def test_a_new_task_that_is_dead_from_the_start_kills_its_phase() -> None:
    """A task added to an open phase with a dead need makes what waits for the phase dead, and that is told."""
    needs = needs_of(a_task("x"), a_task("a", phase="p"), a_task("b", phase="q"), phases=TWO)
    needs.died("x")
    needs.add([], [a_task("n", phase="p", needs=["x"])])
    assert needs.dead("b")
    assert needs.take_changed() == ["b"]


def test_a_gate_shuts_again() -> None:
    """A task added to a phase that has landed is waited for by what comes after the phase, through phases too, and by nothing else;
    whoever waits again is told of. A finished one, or one that is moved there and taken out again, changes nothing."""
    needs = needs_of(
        a_task("a", phase="p"),
        a_task("b", phase="q"),
        a_task("c", phase_needs=["q"]),
        a_task("d", needs=["b"]),
        a_task("e"),
        phases=TWO,
    )
    needs.met("a")
    needs.met("b")
    needs.add([], [a_task("done", phase="p", finished=True)])
    needs.met("done")
    needs.settle()
    assert free(needs, "c", "d", "e") == ["c", "d", "e"]
    needs.take_changed()
    needs.add([], [a_task("n", phase="p"), a_task("late", phase="q")])
    needs.settle()
    assert free(needs, "c", "d", "e", "n", "late") == ["d", "e", "n"]
    assert "c" in needs.take_changed()
    needs.forget(a_task("n", phase="p"))
    needs.replace(a_task("n"))
    needs.settle()
    assert free(needs, "c", "late") == ["late"]
    needs.forget(a_task("n"))
    needs.replace(a_task("n", phase="p"))
    needs.settle()
    assert free(needs, "c", "late") == []
    assert needs.met("n") == ["late"]
    assert needs.met("late") == ["c"]


def test_death_in_a_phase_that_had_landed_spreads() -> None:
    """A task added to a phase that has landed and ending badly blocks what comes after and has not landed, whenever that is added;
    a revival takes that back."""
    needs = needs_of(
        a_task("x"), a_task("a", phase="p"), a_task("b", phase="q"), a_task("c", needs=["b"]), phases=TWO
    )
    needs.met("a")
    needs.met("b")
    needs.died("x")
    needs.add([], [a_task("n", phase="p", needs=["x"]), a_task("m", phase="p"), a_task("d", phase="q")])
    needs.settle()
    assert [needs.dead(name) for name in "cnmd"] == [False, True, False, True]
    assert needs.died("m") == []
    assert needs.revived("x") == ["n"]
    assert needs.revived("m") == ["d"]


def test_what_is_at_work_kills_nobody() -> None:
    """What is at work may land whatever has died behind its back: those that need it are dead only when it comes back, or dies."""
    needs = needs_of(a_task("a", phase="p"), a_task("b", phase="q"), a_task("c", needs=["b"]), phases=TWO)
    needs.met("a")
    assert needs.at_work("b") == []
    needs.add([], [a_task("n", phase="p")])
    needs.settle()
    assert needs.died("n") == []
    assert not needs.dead("c")
    assert needs.at_rest("b") == ["c"]
    assert needs.dead("b")
    assert needs.at_work("b") == ["c"]
    assert needs.died("b") == ["c"]
    assert needs.revived("b") == []
    assert sorted(needs.revived("n")) == ["b", "c"]
    needs.at_work("b")
    needs.died("n")
    assert needs.met("b") == ["c"]
    assert needs.revived("n") == []


def test_a_ring_is_named() -> None:
    """Tasks that would wait for each other are named before anything is changed."""
    needs = needs_of(a_task("a"), a_task("b", needs=["a"]))
    assert needs.ring([], [a_task("a", needs=["b"])]) == ["a", "b", "a"]
    assert needs.ring([], [a_task("a", needs=["a"])]) == ["a", "a"]
    chain = [a_task("x", needs=["y"]), a_task("y", needs=["z"]), a_task("z", needs=["x"])]
    assert Needs().ring([], chain) == ["x", "y", "z", "x"]
    assert free(needs, "a", "b") == ["a"]


def test_a_ring_through_a_phase_is_found() -> None:
    """A new task of a phase that needs what waits for that phase closes a ring."""
    needs = needs_of(a_task("a", phase="p"), a_task("b", phase="q"), phases=TWO)
    assert needs.ring([], [a_task("n", phase="p", needs=["b"])]) == ["n", "b", "q", "p", "n"]


def test_what_has_landed_closes_a_ring_too() -> None:
    """A task added to a phase that has landed may not need what came after that phase: taken back, all would wait for ever."""
    needs = needs_of(a_task("a", phase="p"), a_task("b", phase="q"), phases=TWO)
    needs.met("a")
    needs.met("b")
    assert needs.ring([], [a_task("n", phase="p", needs=["b"])]) == ["n", "b", "q", "p", "n"]
    assert needs.ring([], [a_task("n", needs=["b"]), a_task("m", phase="p", needs=["a"])]) == []


def test_two_phases_that_need_each_other_are_a_ring() -> None:
    """Phases in a ring are found through their tasks."""
    phases = (PhaseSpec(id="p", phase_needs=("q",)), PhaseSpec(id="q", phase_needs=("p",)))
    assert Needs().ring(phases, [a_task("a", phase="p"), a_task("b", phase="q")]) != []


def test_a_replaced_spec_may_turn_a_need_round() -> None:
    """Old needs of a replaced task do not count when a ring is looked for."""
    needs = needs_of(a_task("a"), a_task("b", needs=["a"]))
    assert needs.ring([], [a_task("a", needs=["b"]), a_task("b")]) == []


def test_a_chain_of_ten_thousand_meets_no_recursion_limit() -> None:
    """Death, life, order and the search for rings walk a long chain without recursion."""
    tasks = [a_task("t0", phase="p")]
    tasks += [a_task(f"t{n}", needs=[f"t{n - 1}"], phase="p") for n in range(1, 10_000)]
    assert Needs().ring(ONE_AT_A_TIME, tasks) == []
    needs = needs_of(*tasks, phases=ONE_AT_A_TIME)
    assert len(needs.died("t0")) == 9_999
    assert len(needs.revived("t0")) == 9_999
    assert needs.before("t9999") == "t9998"

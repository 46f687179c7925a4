"""What is done again because what it was made from has changed, and that nothing else is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

import pytest

from swarm.core import again
from swarm.core.invariants import invariants
from swarm.core.model import Defaults, PhaseSpec, PlanSpec, TaskSpec
from swarm.core.plan import read
from swarm.core.submission import would_change
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story


def reading(spec: TaskSpec, *paths: str) -> TaskSpec:
    return dataclasses.replace(spec, reads=paths)


PLAN = a_plan(
    reading(a_task("schema"), "api.json"),
    a_task("client", needs=["schema"]),
    a_task("pages", needs=["client"]),
    reading(a_task("docs"), "docs/**"),
)


def landed(plan: PlanSpec = PLAN) -> Story:
    story = a_story(plan)
    for task in plan.tasks:
        story.land(task.id)
    return story


def outdated(story: Story, plan: PlanSpec, **changed: Sequence[str]) -> Mapping[str, again.Why]:
    return again.outdated(story.run, plan, changed)


def submit(story: Story, plan: PlanSpec, **changed: Sequence[str]) -> PlanSpec:
    """Submits a plan as the daemon does with --changed, and lands what is done again."""
    found = again.outdated(story.run, plan, changed)
    taken = again.carried_on(story.run, plan, found)
    story.submit(taken)
    assert invariants(story.swarm) == []
    return taken


def test_what_has_not_changed_is_not_done_again() -> None:
    """With nothing changed no task is done again, and the plan is taken in as it is."""
    story = landed()
    assert outdated(story, PLAN) == {}
    assert again.carried_on(story.run, PLAN, {}) == PLAN
    assert again.made(story.run, PLAN)[0] == again.Made(
        "schema", ("api.json",), ((story.attempt("schema").submitted, story.run.published),)
    )


def test_a_file_that_changed_has_its_dependants_done_again_and_nothing_else() -> None:
    """One changed file: the task that reads it and what needs that, each as a task of its own, in the order of their needs."""
    story = landed()
    taken = submit(story, PLAN, schema=["api.json"])
    assert [task.id for task in taken.tasks] == ["schema-2", "client-2", "pages-2", "docs"]
    assert again.told(taken, outdated(story, PLAN)) == {}
    assert story.task("schema-2").spec.again_for == ("api.json has changed",)
    assert story.task("client-2").spec.needs == ("schema-2", "client")
    assert story.task("pages-2").spec.again_for == ("client is done again",)
    assert [story.state(name) for name in ("schema", "schema-2", "client-2", "pages-2")] == [
        "landed",
        "running",
        "pending",
        "pending",
    ]
    for name in ("schema-2", "client-2", "pages-2"):
        story.land(name)
    assert outdated(story, PLAN) == {}


def test_a_plan_with_successors_comes_again_as_it_is() -> None:
    """After a task was done again the same plan changes nothing, with or without a look at what changed; the next time it is the
    third."""
    story = landed()
    submit(story, PLAN, docs=["docs/a.md"])
    story.land("docs-2")
    change = would_change(story.swarm, "plan", again.carried_on(story.run, PLAN, {}))
    assert (change.added, change.replaced, change.refused, change.unchanged) == ((), (), (), 4)
    submit(story, PLAN, docs=["docs/a.md"])
    story.land("docs-3")
    assert story.task("docs-3").spec.needs == ("docs-2",)
    assert again.made(story.run, PLAN)[1].pairs[0][0] == story.attempt("docs-3").submitted


def test_what_the_plan_says_otherwise_is_done_again() -> None:
    """A landed task of which the plan says something else now is done again as it says, and no longer refused."""
    story = landed()
    other = dataclasses.replace(PLAN.tasks[3], run="echo other")
    plan = dataclasses.replace(PLAN, tasks=(*PLAN.tasks[:3], other))
    assert would_change(story.swarm, "plan", again.carried_on(story.run, plan, {})).refused == ("docs",)
    submit(story, plan)
    assert story.task("docs-2").spec.run == "echo other"
    assert story.task("docs-2").spec.again_for == ("the plan says something else",)
    story.land("docs-2")
    assert outdated(story, plan) == {}


def test_what_a_task_reads_may_be_said_later() -> None:
    """Naming what a landed task reads is no change of the task; from then on it counts."""
    bare = a_plan(a_task("a"))
    story = landed(bare)
    plan = a_plan(reading(a_task("a"), "in.txt"))
    assert outdated(story, plan) == {}
    assert would_change(story.swarm, "plan", again.carried_on(story.run, plan, {})).refused == ()
    assert [each.task for each in again.made(story.run, plan)] == ["a"]


def test_limits_of_what_has_landed_are_nothing_to_it() -> None:
    """Where only limits of a landed task are others now, as with other settings, it is not done again, nor is the plan refused; of
    one at work that is a change."""
    plan = a_plan(a_task("a", verify=["make"]), a_task("b"))
    story = a_story(plan)
    story.land("a")  # b is at work
    suite = dataclasses.replace(plan.tasks[0].verify[0], timeout_s=7.0)
    other = dataclasses.replace(plan.tasks[0], timeout_s=7.0, attempts=9, verify=(suite,))
    taken = again.carried_on(story.run, dataclasses.replace(plan, tasks=(other, plan.tasks[1])), {})
    assert outdated(story, dataclasses.replace(plan, tasks=(other,))) == {}
    assert would_change(story.swarm, "plan", taken).unchanged == 2
    longer = dataclasses.replace(
        plan, tasks=(plan.tasks[0], dataclasses.replace(plan.tasks[1], timeout_s=7.0))
    )
    assert would_change(story.swarm, "plan", again.carried_on(story.run, longer, {})).refused == ("b",)
    more = dataclasses.replace(other, verify=(suite, dataclasses.replace(suite, run="lint")))
    assert list(outdated(story, dataclasses.replace(plan, tasks=(more,)))) == ["a"]


def test_what_has_not_started_waits_for_what_is_done_again() -> None:
    """A task that needs one that is done again starts after that; one at work stays as it is, and is done again the next time."""
    plan = a_plan(reading(a_task("a"), "in.txt"), a_task("b", needs=["a"]), a_task("c", needs=["b"]))
    story = a_story(plan)
    story.land("a")  # b is at work now
    submit(story, plan, a=["in.txt"])
    assert story.task("b").spec.needs == ("a",)
    assert story.state("a-2") == "running"
    story.land("a-2")
    story.land("b")
    story.land("c")
    assert outdated(story, plan) == {"b": ("a has landed again",), "c": ("b is done again",)}


def test_one_at_work_while_what_it_needs_is_done_again_twice_stays() -> None:
    """A task that does work again stays as it is while at work, whatever has come after what it needs; nothing is refused."""
    plan = a_plan(reading(a_task("a"), "in.txt"), a_task("b", needs=["a"]))
    story = landed(plan)
    submit(story, plan, a=["in.txt"])
    story.land("a-2")  # b-2 is at work now
    submit(story, plan, a=["in.txt"])
    story.land("a-3")
    change = would_change(story.swarm, "plan", again.carried_on(story.run, plan, {}))
    assert (change.refused, change.unchanged) == ((), 2)
    story.land("b-2")
    assert outdated(story, plan) == {"b": ("a has landed again",)}


def test_what_needs_a_phase_is_done_again_with_any_of_its_tasks() -> None:
    """What needs a phase, itself or by its own phase, is made from all tasks of it."""
    phases = (PhaseSpec(id="p"), PhaseSpec(id="q", phase_needs=("p",)))
    plan = a_plan(
        reading(a_task("a", phase="p"), "x"),
        a_task("b", phase="q"),
        a_task("c", phase_needs=["p"]),
        a_task("d"),
        phases=phases,
    )
    story = landed(plan)
    assert list(outdated(story, plan, a=["x"])) == ["a", "b", "c"]


@pytest.mark.parametrize("by", ["the task", "its phase", "a task of its phase"])
def test_what_is_done_again_waits_for_what_it_needs_by_a_phase(by: str) -> None:
    """It is made from what that comes to, as with a need of its own, and then says nothing new; also what has not begun."""
    q = PhaseSpec(
        id="q",
        phase_needs=("p",) if by == "its phase" else (),
        needs=("a",) if by == "a task of its phase" else (),
    )
    needs = ["p"] if by == "the task" else []
    plan = a_plan(
        reading(a_task("a", phase="p"), "x"),
        a_task("b", phase="q", phase_needs=needs),
        phases=(PhaseSpec(id="p"), q),
    )
    story = landed(plan)
    submit(story, plan, a=["x"])
    assert story.states() == {"a": "landed", "b": "landed", "a-2": "running", "b-2": "pending"}
    submit(story, plan)
    story.land("a-2")
    assert story.states()["b-2"] == "running"
    assert would_change(story.swarm, "plan", again.carried_on(story.run, plan, {})).refused == ()
    story.land("b-2")
    assert outdated(story, plan) == {}
    other = a_plan(plan.tasks[0], dataclasses.replace(plan.tasks[1], title="Other"), phases=plan.phases)
    assert outdated(story, other) == {"b": ("the plan says something else",)}


def test_one_put_on_newer_staging_by_machine_was_made_from_the_older() -> None:
    """Of an attempt that was rebased by machine both count: what has changed since, and what had changed before."""
    story = landed(a_plan(reading(a_task("a"), "x")))
    attempt = story.attempt("a")
    attempt.rebased, attempt.onto = "r" * 40, "o" * 40
    (made,) = again.made(story.run, a_plan(reading(a_task("a"), "x")))
    assert made.pairs == (("r" * 40, story.run.published), (attempt.base, "o" * 40))


def test_only_what_is_read_counts() -> None:
    """Paths are matched as claims are."""
    made = again.Made("a", ("docs/**", "api.json"), ())
    assert list(made.read(["docs/x/y.md", "src/a.py", "api.json"])) == ["docs/x/y.md", "api.json"]


def test_a_name_that_is_taken_is_passed_over() -> None:
    """The name of a task that does work again is nobody else's, also where the plan has one that looks like it."""
    plan = a_plan(reading(a_task("a"), "x"), a_task("a-2"))
    story = landed(plan)
    assert [task.id for task in submit(story, plan, a=["x"]).tasks] == ["a-3", "a-2"]


def test_a_task_of_a_plan_is_not_taken_for_one_of_ours() -> None:
    """A plan that later has a task by a name that was given to one that does work again is told, with whose work that is."""
    plan = a_plan(reading(a_task("a"), "x"))
    story = landed(plan)
    submit(story, plan, a=["x"])
    assert again.mistaken(story.run, plan) == {}
    assert again.mistaken(story.run, a_plan(*plan.tasks, a_task("a-2"), a_task("b"))) == {"a-2": "a"}


def test_what_was_taken_off_or_failed_is_left_to_a_person() -> None:
    """Only what stands on staging is done again."""
    story = a_story(a_plan(reading(a_task("a", attempts=1), "x")))
    story.fail("a")
    assert outdated(story, a_plan(reading(a_task("a", attempts=1), "x")), a=["x"]) == {}


def marked(plan: PlanSpec, *names: str) -> PlanSpec:
    """The plan with these tasks marked as finished, as they are when their states have been written back."""
    tasks = (dataclasses.replace(task, finished=task.id in names or task.finished) for task in plan.tasks)
    return dataclasses.replace(plan, tasks=tuple(tasks))


def test_states_that_were_written_back_are_no_changes() -> None:
    """A plan in which landed tasks are marked as finished says nothing new of them: they are not done again, nor is what needs
    them, and later submissions take it as it is."""
    story = landed()
    written = marked(PLAN, "schema", "client")
    for plan in (written, PLAN):
        assert outdated(story, plan) == {}
        change = would_change(story.swarm, "plan", again.carried_on(story.run, plan, {}))
        assert (change.unchanged, change.finished) == (len(PLAN.tasks), ())


def test_what_is_done_again_is_not_finished_though_its_plan_says_so() -> None:
    """What has changed beside the mark counts. The task that does it again is no finished one, before it starts, while it is at
    work, and once it has landed."""
    story = landed()
    written = marked(PLAN, *(task.id for task in PLAN.tasks))
    taken = submit(story, written, schema=["api.json"])
    assert story.states()["schema-2"] == "running"
    assert story.states()["client-2"] == "pending"
    assert not story.run.finished_before

    def comes_again(plan: PlanSpec) -> None:
        change = would_change(story.swarm, "plan", again.carried_on(story.run, plan, {}))
        assert (change.unchanged, change.finished, change.refused) == (len(taken.tasks), (), ())

    for name in ("schema-2", "client-2", "pages-2"):
        comes_again(written)
        comes_again(PLAN)
        story.land(name)
    assert outdated(story, written) == outdated(story, PLAN) == {}
    said = dataclasses.replace(written.tasks[3], prompt="Other")
    assert outdated(story, a_plan(*written.tasks[:3], said)) == {"docs": ("the plan says something else",)}


def test_boxes_that_were_ticked_are_no_change() -> None:
    """Landed, an item of a roadmap has the boxes inside it ticked too, which are in its prompt; its words count as before."""
    item = dataclasses.replace(a_task("item"), prompt="Do it\n- [ ] first\n  1. [ ] then")
    story = landed(a_plan(item))
    ticked = dataclasses.replace(item, prompt="Do it\n- [x] first\n  1. [X] then", finished=True)
    assert outdated(story, a_plan(ticked)) == {}
    other = dataclasses.replace(item, prompt="Do it\n- [x] first\n  1. [x] then [x]", finished=True)
    assert outdated(story, a_plan(other)) == {"item": ("the plan says something else",)}


def test_keys_that_are_not_understood_are_no_change() -> None:
    """What another tool notes beside a task, in keys of its own, is no change of the task: landed, at work or waiting."""
    names = ("a", "b", "c")

    def at(time: str) -> PlanSpec:
        tasks = [
            {"id": name, "description": name, "depends_on": [*names[:i][-1:]], "updated_at": time}
            for i, name in enumerate(names)
        ]
        text = json.dumps(
            {"feature": "plan", "at": time, "phases": [{"id": 1, "name": "one", "subtasks": tasks}]}
        )
        said = read(text.encode(), source="implementation_plan.json", defaults=Defaults(agent="claude")).plan
        assert said is not None
        return said

    story = a_story(at("9:00"))
    story.land("a")
    assert story.states() == {"a": "landed", "b": "running", "c": "pending"}
    later = at("9:05")
    assert outdated(story, later) == {}
    taken = again.carried_on(story.run, later, {})
    change = would_change(story.swarm, story.run.id, taken)
    assert (change.unchanged, change.refused, change.replaced) == (3, (), ())

"""From a goal to a plan, in words: how many look and build, and what is read from an architect's answer."""

from __future__ import annotations

import pytest

from swarm.core import goal, plan
from swarm.core.model import Contract, Defaults

PLAN = 'name = "x"\n[[tasks]]\nid = "a"\nrun = "true"\n'


@pytest.mark.parametrize(
    ("tasks", "wide"), [(1, 2), (9, 2), (10, 4), (19, 4), (20, 6), (39, 6), (40, 8), (1000, 8)]
)
def test_the_width_goes_by_the_size_of_the_plan(tasks: int, wide: int) -> None:
    """Row 19: 9, 10, 20 and 40 tasks give 2, 4, 6 and 8 workers."""
    assert goal.width(tasks) == wide


@pytest.mark.parametrize(
    ("files", "most", "asked"),
    [(3, 8, 2), (100, 8, 4), (1_000, 8, 6), (10_000, 8, 8), (10_000, 3, 3), (3, 1, 1)],
)
def test_a_larger_project_is_asked_more(files: int, most: int, asked: int) -> None:
    """The number of scouts goes by the number of files, and never beyond how many workers there may be."""
    assert len(set(goal.questions(files, most))) == asked


@pytest.mark.parametrize(
    "answer",
    [
        PLAN,
        f"Here it is:\n\n```toml\n{PLAN}```\nI hope that helps.\n",
        f"First a word:\n```\nmake test\n```\nthen\n~~~~toml\n{PLAN}~~~~\n",
    ],
)
def test_a_plan_is_found_in_what_is_said_around_it(answer: str) -> None:
    """An architect's answer is its plan, or words with the plan in a fence; code that is no plan is not taken for it."""
    assert goal.plan_text(answer) == PLAN


def test_a_fence_in_a_prompt_is_not_the_plan() -> None:
    """A plan whose prompts hold fenced code is taken as it is."""
    text = f'{PLAN}prompt = """\n```toml\n[[tasks]]\nid = "b"\n```\n"""\n'
    assert goal.plan_text(text) == text


def test_json_and_toml_get_a_file_of_their_name() -> None:
    """The file of a plan has the ending of its form, by which it is read."""
    assert goal.draft_name('  {"tasks": []}') == "plan.json"
    assert goal.draft_name(PLAN) == "plan.toml"


def test_contracts_reach_both_sides() -> None:
    """What tasks agree on is told to each of them, and names tasks that there are."""
    text = f'{PLAN}[[tasks]]\nid = "b"\nrun = "true"\n[[contracts]]\nbetween = ["a", "{{}}"]\ntext = "one letter"\n'
    read = plan.read(text.format("b").encode(), source="p.toml", defaults=Defaults())
    assert read.errors == ()
    assert read.plan is not None
    assert read.plan.contracts == (Contract(("a", "b"), "one letter"),)
    assert [task.contracts for task in read.plan.tasks] == [("one letter",), ("one letter",)]
    wrong = plan.read(text.format("c").encode(), source="p.toml", defaults=Defaults())
    assert [(each.place, 'is between "c"' in each.text) for each in wrong.errors] == [
        ("contracts[0].between[1]", True)
    ]

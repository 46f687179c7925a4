"""What runs taught: learned from what happened, told to later runs alone, and taken back."""

from __future__ import annotations

from swarm.core import commands as cmd
from swarm.core import lessons
from swarm.core import messages as m
from swarm.core.lessons import LESSONS_MAX, OFFERED_MAX, Lesson
from swarm.core.model import TaskSpec, WorkerResult
from swarm.worker import agents
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story


def kinds(story: Story) -> list[tuple[str, int]]:
    return [(each.kind, each.times) for each in story.swarm.lessons.values()]


def told_to(story: Story, run: str) -> tuple[str, ...]:
    story.submit(a_plan(a_task("next"), name=run))
    (command,) = (c for c in story.commands if isinstance(c, cmd.TakeWorktree) and c.run == run)
    story.send(m.WorktreeReady(**story.where(command), path="/pool/next"))
    (start,) = (c for c in story.commands if isinstance(c, cmd.StartWorker) and c.run == run)
    return start.lessons


def test_a_conflict_is_told_to_the_next_run_and_not_to_its_own() -> None:
    """Row 125: what conflicted stands in the prompts of later runs, once however often it was met, until it is taken back; the run
    that met it is told nothing new while it goes on."""
    story = a_story(a_plan(a_task("a")))
    story.work("a")
    story.conflict("a", "src/x.py")
    lessons.learn(
        story.swarm.lessons, "TaskHandedBack", 9.0, "r", "b", {"code": "conflict", "paths": ["src/x.py"]}
    )
    assert kinds(story) == [("conflict", 2)]
    assert story.run.lessons == ()
    (text,) = told_to(story, "later")
    assert "src/x.py" in text
    prompt = agents.prompt_text(TaskSpec(id="t", title="t"), (), None, (text,))
    assert f"- {text}" in prompt
    (name,) = story.swarm.lessons
    story.send(m.LessonsForgotten(at=story.now, lessons=(name, "unknown")))
    assert told_to(story, "last") == ()


def test_what_did_not_land_is_told_until_it_does() -> None:
    """A task that failed is a lesson, with why; once it has landed after all there is none."""
    story = a_story(a_plan(a_task("a", attempts=1)))
    story.fail("a", code=3)
    (lesson,) = story.swarm.lessons.values()
    assert (lesson.kind, "exit code 3" in lesson.text) == ("failed", True)
    story.send(m.TasksRetried(at=story.now, run="plan", tasks=("a",)))
    story.measure()
    story.land("a")
    assert story.swarm.lessons == {}


def test_a_failure_says_what_was_wanted_and_what_was_tried() -> None:
    """Row 125: a later run knows no task of the id, so the lesson has its title, and what its worker said of what it tried."""
    story = a_story(a_plan(a_task("a", title="Parse dates.", attempts=1)))
    story.up("a")
    story.exit("a", 3, result=WorkerResult(summary="A regular expression\nfor each format"))
    story.collect("a")
    (lesson,) = story.swarm.lessons.values()
    assert lesson.text == (
        "Tried, and it did not land: Parse dates (a). Why: the worker ended with exit code 3. "
        "Its worker said: A regular expression for each format"
    )


def test_flaky_suites_are_lessons_and_all_is_bounded() -> None:
    """So many lessons are kept, the latest of them told, and a long text is cut."""
    known: dict[str, Lesson] = {}
    for n in range(LESSONS_MAX + 5):
        lessons.learn(known, "SuiteFlaked", float(n), "r", "t", {"suite": f"s{n}" + "x" * 1000})
    lessons.learn(known, "TaskFailed", 1.0, "r", "t", {"code": "over_budget", "text": "no money"})
    assert len(known) == LESSONS_MAX
    assert {each.kind for each in known.values()} == {"flaky"}
    told = lessons.offered(known)
    assert (len(told), max(map(len, told)) <= lessons.TEXT_MAX) == (OFFERED_MAX, True)
    assert f"s{LESSONS_MAX + 4}x" in told[-1]

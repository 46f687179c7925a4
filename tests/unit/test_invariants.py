"""The invariants can fail: for each sentence a state is broken by hand, and that sentence is what comes out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swarm.core import messages as m
from swarm.core.invariants import invariants
from swarm.core.model import Claim, Step, TaskState
from tests.builders import a_plan, a_task
from tests.stories import Story, a_story


def a_rich_story() -> Story:
    """Task `landed` has landed, `failed` has failed, `publishing` and `queued` and `running` are under way, `parked` waits for a
    claim, `later` for a time, `aside` for its pause, `pending` for `running`, and `blocked` was blocked by `failed`."""
    tasks = [
        a_task("landed"),
        a_task("failed", attempts=1),
        a_task("blocked", needs=["failed"]),
        a_task("publishing"),
        a_task("queued"),
        a_task("running", claims=["x"]),
        a_task("parked", claims=["x"]),
        a_task("pending", needs=["running"]),
        a_task("later"),
        a_task("aside"),
    ]
    story = a_story(a_plan(*tasks))
    story.land("landed")
    story.send(m.Paused(at=story.now, run="plan", task="aside"))
    story.fail("failed")
    story.work("publishing")
    story.merge("publishing")
    story.advance("publishing")
    story.up("queued")
    story.exit("queued")
    story.collect("queued")
    story.up("running", "later")
    story.exit("later", 75)
    story.collect("later")
    return story


def test_the_story_itself_is_sound() -> None:
    """Before it is broken the state has every kind of task in it and no invariant is hurt."""
    story = a_rich_story()
    assert story.states() == {
        "landed": "landed",
        "failed": "failed",
        "blocked": "blocked",
        "publishing": "landing",
        "queued": "queued",
        "running": "running",
        "parked": "ready",
        "pending": "pending",
        "later": "ready",
        "aside": "ready",
    }
    assert story.run.aside == {"aside"}
    assert list(story.parked()) == ["parked"]
    assert invariants(story.swarm) == []


def _slot_given_twice(story: Story) -> None:
    story.swarm.slots.add(7)


def _two_workers_in_one_slot(story: Story) -> None:
    story.attempt("queued").slot_free = False
    story.attempt("queued").slot = story.attempt("running").slot


def _not_listed_as_live(story: Story) -> None:
    del story.run.live["queued"]


def _wrong_count(story: Story) -> None:
    story.run.counts[TaskState.READY] += 1


def _wrong_number_open(story: Story) -> None:
    story.run.open_tasks -= 1


def _stands_on_nothing(story: Story) -> None:
    story.run.landing += ["queued", "running"]


def _out_of_place(story: Story) -> None:
    story.attempt("running").place = -1
    story.run.queue["running"] = None


def _claim_of_the_dead(story: Story) -> None:
    story.run.claims.take("landed", (Claim("y"),))


def _overlapping_claims(story: Story) -> None:
    class Blind(type(story.run.claims)):  # type: ignore[misc]
        def held(self):  # type: ignore[no-untyped-def]
            yield from super().held()
            for held in super().held():
                yield type(held)("queued", held.claim)

    blind = Blind()
    blind.take("running", (Claim("x"),))
    story.run.claims = blind


def _publishing_nothing(story: Story) -> None:
    story.run.publishing_commit = None


def _attempt_left_out(story: Story) -> None:
    story.attempt("running").n = 2


def _older_attempt_lives(story: Story) -> None:
    story.task("running").attempts.insert(0, story.attempt("running"))


def _landed_without_a_commit(story: Story) -> None:
    story.task("landed").landed_commit = None


def _commit_without_landing(story: Story) -> None:
    story.task("failed").landed_commit = "c"


def _state_without_its_step(story: Story) -> None:
    story.attempt("running").step = Step.WAITING


def _running_without_attempt(story: Story) -> None:
    story.run.set_state(story.task("landed"), TaskState.RUNNING)


def _lost_from_the_queue(story: Story) -> None:
    del story.run.queue["queued"]


def _published_unlisted(story: Story) -> None:
    story.run.publishing.clear()


def _ready_too_early(story: Story) -> None:
    story.run.set_state(story.task("pending"), TaskState.READY)


def _pending_for_nothing(story: Story) -> None:
    story.run.set_state(story.task("parked"), TaskState.PENDING)


def _pending_for_the_dead(story: Story) -> None:
    story.run.set_state(story.task("blocked"), TaskState.PENDING)


def _blocked_for_nothing(story: Story) -> None:
    story.run.set_state(story.task("pending"), TaskState.BLOCKED)


def _parked_under_what_is_free(story: Story) -> None:
    story.run._held.clear()


def _kept_others_from(story: Story) -> None:
    story.task("parked").paused = True


def _time_forgotten(story: Story) -> None:
    story.swarm.deadlines.clear()


def _put_aside_and_lost(story: Story) -> None:
    story.run.aside.clear()


def _left_aside(story: Story) -> None:
    story.task("aside").paused = False


BREAKS: list[tuple[Callable[[Story], None], str]] = [
    (_slot_given_twice, "are not those of the live workers"),
    (_two_workers_in_one_slot, "are not those of the live workers"),
    (_not_listed_as_live, "are listed as"),
    (_wrong_count, "counts "),
    (_wrong_number_open, "tasks counted open"),
    (_stands_on_nothing, "['queued', 'running'] stand on what will not land"),
    (_out_of_place, "['queued', 'running'] do not wait in the order of their places"),
    (_claim_of_the_dead, "claims are held by ['landed'], which are not live"),
    (_overlapping_claims, "queued and another hold x"),
    (_publishing_nothing, "being published None"),
    (_attempt_left_out, "running: attempts are not numbered from 1 up"),
    (_older_attempt_lives, "running: an older attempt is live"),
    (_landed_without_a_commit, "landed: landed with landed commit None"),
    (_commit_without_landing, "failed: failed with landed commit c"),
    (_state_without_its_step, "running: running while its attempt is waiting"),
    (_running_without_attempt, "landed: running while its attempt is none"),
    (_lost_from_the_queue, "queued: waits but is not in the queue"),
    (_published_unlisted, "publishing: publishing and the list of those do not agree"),
    (_ready_too_early, "pending: ready although its needs are not met"),
    (_pending_for_nothing, "parked: pending although nothing that it needs is open"),
    (_pending_for_the_dead, "blocked: pending although something that it needs ended without landing"),
    (_blocked_for_nothing, "pending: blocked although nothing that it needs ended without landing"),
    (_parked_under_what_is_free, "parked: ready but nowhere to be found"),
    (_kept_others_from, "parked: others let it go first although it does not wait as they were told"),
    (_time_forgotten, "later: ready but nowhere to be found"),
    (_put_aside_and_lost, "aside: ready but nowhere to be found"),
    (_left_aside, "aside: ready but nowhere to be found"),
]


@pytest.mark.parametrize(("breaks", "sentence"), BREAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_state_is_noticed(breaks: Callable[[Story], None], sentence: str) -> None:
    """A state that is broken in this way is told of in this sentence."""
    story = a_rich_story()
    breaks(story)
    assert any(sentence in told for told in invariants(story.swarm)), invariants(story.swarm)


def test_every_sentence_names_its_run() -> None:
    """What is wrong in a run is told with the name of the run."""
    story = a_rich_story()
    _wrong_count(story)
    (told,) = invariants(story.swarm)
    assert told.startswith("plan: counts ")

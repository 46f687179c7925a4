"""What people do to staging behind our back, and what follows.

Commits made by hand on top of staging become a task of their own (`by-hand-1`, …) whose attempt starts in the merge queue, in front
of all others: from there on it is an ordinary landing. Anything else, a branch moved back or away or checked out somewhere, holds
up publishing and merging until a person has settled it; then everything goes on by itself.

Rules for editing: nothing of a person's is ever moved from here, and nothing is decided from what was not found and recorded. While
staging is astray it is looked at again without an event for each look: `LookAtStaging.known` says what need not be told.
"""

from __future__ import annotations

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.lifecycle import begin_in_queue, end_attempt, end_task, tell_handed_back
from swarm.core.model import (
    MOVING_STEPS,
    Astray,
    Reason,
    Seen,
    Standing,
    Step,
    Task,
    TaskSpec,
    TaskState,
    staging_branch,
)
from swarm.core.run import Run
from swarm.core.state import IllegalEvent, StaleEvent, Turn, carried_out, go, run_commands, the_run

AGENT = "by hand"  # stands where other attempts name their agent
UNDER_WAY = {"rebase": "rebase --continue, or --abort", "bisect": "bisect reset"}  # and what ends it


def look(turn: Turn, run: Run) -> None:
    """Has staging looked at in the user's repository, unless that goes on already."""
    if run.prepared and run.looking is None and not run.discarding:
        _look(turn, run, "")


def look_asked(turn: Turn, event: m.StagingLookAsked) -> None:
    """Somebody wants to be sure before they act on what is known."""
    look(turn, the_run(turn, event.run))


def seen(turn: Turn, event: m.StagingSeen) -> None:
    """Takes in how staging was found."""
    run, seen = the_run(turn, event.run), event.seen
    if event.command == "Publish":
        if run.publishing_commit is None or run.publish_waits or "Publish" in run.retry_at:
            raise StaleEvent(f"nothing of run {run.id!r} is being published")
        run.publish_waits = True
    else:
        if run.looking is None or event.command in run.retry_at:
            raise StaleEvent(f"nobody asked how staging of run {run.id!r} stands")
        run.looking = None
    carried_out(turn, run, event.command)
    take_in(turn, run, seen)


def take_in(turn: Turn, run: Run, seen: Seen) -> None:
    """Takes in how staging stands, and has it looked at on and on while it is not as it should be."""
    if run.discarding:
        return
    if as_it_should_be(run, seen):
        _settled(turn, run, seen)
    elif run.astray is None or run.astray.seen.known != seen.known:
        task = _taken_in(turn, run, seen) if seen.kind is Standing.BY_HAND else _bearer(run)
        run.astray = Astray(seen, task)
        reason = explain(run)
        assert reason is not None
        turn.tell("StagingAstray", run, code=reason.code, text=reason.text, found=seen.found)
    if run.astray is not None and run.looking is None:
        _look(turn, run, run.astray.seen.known)
    turn.stir(run)


def as_it_should_be(run: Run, seen: Seen) -> bool:
    """Tells whether staging stands as it was left, or where commits of a person's are that have landed."""
    return seen.kind in (Standing.AS_LEFT, Standing.RESTORED) or seen.found in run.by_hand


def again(turn: Turn, run: Run, task: Task) -> None:
    """Tries once more to take the same commits in, which are known to be on staging still."""
    assert run.astray is not None
    _try(turn, run, task, run.astray.seen)


def explain(run: Run) -> Reason | None:
    """Says for people how staging stands where it is not as it was left, what follows, and what to type."""
    astray = run.astray
    if astray is None:
        return None
    seen, branch = astray.seen, staging_branch(run.id)
    found = seen.found or ""
    if seen.kind is Standing.CHECKED_OUT and seen.where in UNDER_WAY:
        text = f"a git {seen.where} that is under way in {seen.place} holds {branch}, so it can't move until that is over"
        step = f"git -C {seen.place} {UNDER_WAY[seen.where]}"
    elif seen.kind is Standing.CHECKED_OUT:
        text = f"{branch} is checked out in {seen.place}, so it can't move without putting that checkout out of step"
        step = f"git -C {seen.place} switch --detach"
    elif seen.kind is Standing.MOVED:
        text = moved(branch, found, run.published)
        step = way_back(branch, found, run.published)
    else:
        return _explain_by_hand(run, astray)
    return Reason(seen.kind, f"{text}. Nothing lands until then: {step}", {"found": seen.found})


def moved(branch: str, found: str, published: str) -> str:
    """Says of a staging branch that it stands at `found`, off what has landed."""
    return f"{branch} was moved by hand: it stands at {found[:12]}, and the last landing left it at {published[:12]}"


def way_back(branch: str, found: str, published: str) -> str:
    """Gives the commands that move such a branch back. What is there is kept first, under a name that has the commit in it, so that
    typing them twice does no harm."""
    return f"git branch --force found-{found[:12]} {found} && git branch --force {branch} {published}"


def _explain_by_hand(run: Run, astray: Astray) -> Reason:
    task, seen = run.tasks[astray.task], astray.seen
    branch = staging_branch(run.id)
    where = branch if seen.where == "branch" else f"the worktree of {branch}"
    text = f'{where} has commits made by hand, up to "{seen.title}" ({str(seen.found)[:12]})'
    facts = {"found": seen.found, "task": astray.task}
    if task.live is not None:
        return Reason(seen.kind, f"{text}; they land before anything else, as task {astray.task}", facts)
    why = task.reason.text if task.reason is not None else task.state.value
    undo = f"git branch --force {branch} {run.published}"
    if seen.where != "branch":
        undo = f"git -C {run.shown_worktree} checkout --detach {run.published}"
    text += f", which did not land as task {astray.task}: {why}. Nothing lands until that is settled: commit a fix on top"
    onto = (task.reason.facts if task.reason is not None else {}).get("onto")
    if onto:
        text += f" (git merge {onto} brings what they conflict with)"
    return Reason(
        seen.kind,
        f"{text}, or take them off again, which keeps them on {task.attempts[-1].branch}: {undo}",
        facts,
    )


def _look(turn: Turn, run: Run, known: str) -> None:
    run.looking = known
    turn.commands.extend(c for c in run_commands(run) if isinstance(c, cmd.LookAtStaging))


def _settled(turn: Turn, run: Run, seen: Seen) -> None:
    if seen.kind is Standing.RESTORED:
        turn.tell("StagingRestored", run, commit=seen.found)
    if run.astray is None:
        return
    task = run.tasks[run.astray.task] if run.astray.task else None
    run.astray = None
    turn.tell("StagingSettled", run)
    attempt = task.live if task is not None else None
    if (
        task is None
        or task.state is TaskState.LANDED
        or (attempt is not None and attempt.step in MOVING_STEPS)
    ):
        return
    reason = Reason("withdrawn", "its commits were taken off staging again by hand")
    if attempt is not None:
        end_attempt(turn, run, task, attempt, Step.CANCELLED, reason)
    run.needs.revived(task.spec.id)
    end_task(turn, run, task, TaskState.CANCELLED, reason)


def _bearer(run: Run, head: str | None = None) -> str:
    """Names the task that takes commits in and has not landed: that of `head`, or whichever it was."""
    if head is None:
        return run.astray.task if run.astray is not None else ""
    live = (run.tasks[name] for name in run.live if run.tasks[name].spec.by_hand)
    return next((task.spec.id for task in live if task.attempts[-1].head == head), "")


def _taken_in(turn: Turn, run: Run, seen: Seen) -> str:
    """Puts a person's commits into the merge queue; gives the task's name."""
    assert seen.found is not None
    name = _bearer(run, seen.found)
    if name:
        return name
    name = _bearer(run)
    task = run.tasks[name] if name else None
    attempt = task.live if task is not None else None
    if (
        task is None
        or task.state is TaskState.LANDED
        or (attempt is not None and attempt.step in MOVING_STEPS)
    ):
        task = _new_task(run, seen)
    elif attempt is not None:
        reason = Reason("superseded", f"more was committed by hand: {seen.found[:12]}")
        end_attempt(turn, run, task, attempt, Step.HANDED_BACK, reason)
        tell_handed_back(turn, run, task, attempt, reason)
    _try(turn, run, task, seen)
    return task.spec.id


def _new_task(run: Run, seen: Seen) -> Task:
    number = 1
    taken = (run.tasks, run.finished_before, run.forgotten)
    while any((name := f"by-hand-{number}") in names for names in taken):
        number += 1
    (task,) = run.add((), (spec(name, seen.title),))
    return task


def spec(name: str, title: str) -> TaskSpec:
    """Describes a task that takes in what a person committed."""
    return TaskSpec(id=name, title=title, agent=AGENT, attempts=1, allow_empty=True, by_hand=True)


def _try(turn: Turn, run: Run, task: Task, seen: Seen) -> None:
    """Makes the attempt that lands a person's commits. It had no worker: it begins where others have been collected."""
    run.needs.revived(task.spec.id)
    task.budget_from, task.reason, task.ended_at = len(task.attempts), None, None
    attempt = begin_in_queue(turn, run, task, Step.BRINGING_IN, base=seen.base, agent=AGENT)
    attempt.head, attempt.commits, attempt.touched = seen.found, seen.commits, seen.touched
    turn.tell("TaskQueued", run, task, head=attempt.head, touched=len(attempt.touched))
    go(turn, run, task, attempt, Step.BRINGING_IN)


def check_retry(run: Run, task: Task) -> None:
    """Raises `IllegalEvent` where the commits of a task by hand are not on staging any more, so that nothing can be taken in."""
    if task.spec.by_hand and _bearer(run) != task.spec.id:
        raise IllegalEvent(f"{task.spec.id} took in commits made by hand, which are not on staging any more")

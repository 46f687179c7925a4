"""How QA goes on: a review of staging, a repair of what it objects to, the next review.

Each is a task of the run like any other, so that it has a worker, a time limit, attempts, and outlives a crash. A review changes
nothing and lands as a merge of the same tree: its verdict counts once the suites, which no verdict replaces, have passed on that.

Rules for editing: `move` is called once a turn for each run that was touched, before the merge queue, and takes the next step when
the task at work has ended. What staging became after an approval is not looked for here: an approval holds for one commit.
"""

from __future__ import annotations

from dataclasses import replace

from swarm.core import lifecycle, plain
from swarm.core import messages as m
from swarm.core import qa as rounds
from swarm.core.model import TASK_ENDS, Attempt, Issue, Reason, Task, TaskSpec, TaskState, slug
from swarm.core.qa import Qa, Round
from swarm.core.run import Run
from swarm.core.state import IllegalEvent, Turn, kept_run, some


def requested(turn: Turn, event: m.QaRequested) -> None:
    """Takes the wish for a review in."""
    run = kept_run(turn, event.run)
    if not run.prepared:
        raise IllegalEvent(f"run {run.id!r} is not prepared yet")
    if run.qa is not None and run.qa.task:
        raise IllegalEvent(f"run {run.id!r} is being reviewed already, by {run.qa.task}")
    begin(turn, run, event.reviewer, event.fixer, event.rounds_max)


def begin(turn: Turn, run: Run, reviewer: TaskSpec, fixer: TaskSpec | None, rounds_max: int) -> None:
    """Begins with the first review."""
    run.qa = Qa(reviewer, fixer, rounds_max)
    _review(turn, run, run.qa)


def check_retry(task: Task) -> None:
    """Raises `IllegalEvent` for a task of a round: its round is over, and nobody would hear what it says."""
    if task.spec.qa:
        raise IllegalEvent(f"{task.spec.id} belongs to a round of QA that is over; swarm qa begins anew")


def failure(attempt: Attempt) -> Reason | None:
    """Says why a review that ended well is none: it changed something, or gave no verdict."""
    if attempt.touched:
        return Reason("stray", f"a review may change nothing, and this one changed {some(attempt.touched)}")
    if attempt.result.verdict not in (rounds.APPROVE, rounds.REJECT):
        text = 'the reviewer wrote no "verdict", "approve" or "reject", to its SWARM_RESULT_FILE'
        return Reason("worker_failed", text)
    return None


def move(turn: Turn, run: Run) -> None:
    """Takes the next step when the task at work has ended."""
    qa = run.qa
    if qa is None or not qa.task or run.tasks[qa.task].state not in TASK_ENDS:
        return
    task, qa.task = run.tasks[qa.task], ""
    if task.state is not TaskState.LANDED:
        why = task.reason.text if task.reason is not None else task.state.value
        _reject(turn, run, qa, f"{task.spec.id} did not land: {why}")
    elif task.spec.qa == rounds.REVIEW:
        _reviewed(turn, run, qa, task)
    else:
        _review(turn, run, qa)


def _reviewed(turn: Turn, run: Run, qa: Qa, task: Task) -> None:
    attempt = task.attempts[-1]
    result, approved = attempt.result, attempt.result.verdict == rounds.APPROVE
    issues = result.issues
    if not approved and not issues:  # it must have had something in mind
        issues = (Issue(result.summary or "rejected without a word"),)
    moved = attempt.onto != attempt.base
    qa.rounds.append(Round(task.spec.id, attempt.base, approved, issues, result.summary, moved=moved))
    turn.tell(
        "StagingReviewed",
        run,
        task,
        reviewed=attempt.base,
        verdict=result.verdict,
        issues=[plain.dump(issue) for issue in issues],
        summary=result.summary,
    )
    if approved and not moved:
        assert attempt.candidate is not None
        qa.approved = attempt.candidate
        turn.tell("QaApproved", run, commit=qa.approved)
    elif same := qa.recurring():
        _reject(turn, run, qa, f'the same issue came up {rounds.SAME_MAX} times: "{same}"')
    elif len(qa.rounds) >= qa.rounds_max:
        why = "staging moved while it was reviewed" if approved else f"it objects to {_titles(issues)}"
        _reject(turn, run, qa, f"{task.spec.id} was the last of {qa.rounds_max} rounds, and {why}")
    elif approved:
        _review(turn, run, qa)
    elif qa.fixer is None:
        _reject(turn, run, qa, f"{task.spec.id} objects to {_titles(issues)}, and there is no fixer")
    else:
        _fix(turn, run, qa, qa.fixer, issues)


def _review(turn: Turn, run: Run, qa: Qa) -> None:
    number = 1
    while _taken(run, name := f"qa-{number}"):
        number += 1
    prompt = rounds.review_prompt(qa.reviewer.prompt, run.id, run.base_commit)
    spec = replace(
        qa.reviewer, id=name, title="Review of staging", prompt=prompt, allow_empty=True, qa=rounds.REVIEW
    )
    qa.task = _begin(turn, run, spec, rounds.earlier(qa.rounds))


def _fix(turn: Turn, run: Run, qa: Qa, fixer: TaskSpec, issues: tuple[Issue, ...]) -> None:
    last = qa.rounds[-1]
    name = f"{last.task}-fix"
    while _taken(run, name):
        name += "-again"
    prompt = rounds.fix_prompt(fixer.prompt, run.id, issues)
    title = f"Mend what {last.task} objects to"
    spec = replace(fixer, id=name, title=title, prompt=prompt, qa=rounds.FIX)
    qa.rounds[-1] = replace(last, fix=name)
    qa.task = _begin(turn, run, spec, rounds.listed(issues))


def _begin(turn: Turn, run: Run, spec: TaskSpec, told: str) -> str:
    lifecycle.begin(turn, run, spec).told = (told,) if told else ()
    return spec.id


def _taken(run: Run, name: str) -> bool:
    return name in run.tasks or name in run.finished_before or slug(name) in run.forgotten


def _reject(turn: Turn, run: Run, qa: Qa, text: str) -> None:
    qa.reason = text
    turn.tell("QaRejected", run, text=text)


def _titles(issues: tuple[Issue, ...]) -> str:
    return some([issue.title for issue in issues])

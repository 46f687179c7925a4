"""What the coordinator knows, as the documents that status, waiting and showing give out (public contract, section 5).

Rules for editing: pure; the shapes are public, so a field is never dropped or renamed without a new `SCHEMA`. What is
not the machine's to know (whether a daemon runs, what a process takes) comes in as arguments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import field
from hashlib import sha256
from shlex import quote
from typing import Any

from swarm.core import admission, budget, building, oversight, ownership, providers, suites, train
from swarm.core.astray import explain, moved
from swarm.core.batch import spokesman
from swarm.core.claims import strays, unused
from swarm.core.commands import in_words as in_words
from swarm.core.model import (
    ATTEMPT_ENDS,
    GOOD_ENDS,
    UP_STEPS,
    Attempt,
    Readings,
    Reason,
    Spent,
    Standing,
    Step,
    SuiteCount,
    Task,
    TaskState,
    WorkerResult,
    staging_branch,
)
from swarm.core.plain import rfc3339 as rfc3339
from swarm.core.qa import APPROVE, REJECT
from swarm.core.run import InTheWay, Run
from swarm.core.state import Swarm, some
from swarm.core.streams import Said
from swarm.dataclass import dataclass
from swarm.errors import SwarmError

SCHEMA = 1  # a test holds these three to be what `protocol` has
LISTED = 20  # tasks of each kind in a summary
LANDED_LISTED = 5
NOTHING_BEGINS = "Until it can, nothing is begun."
NO_DAEMON = Reason("stopped", "no daemon is at work; swarm start goes on")
NO_SLOT_WANTED = "nothing waits for a slot"  # but a task that is ready waits for something else

_PUBLIC_STEP = {
    Step.BRINGING_IN: "queued",
    Step.WAITING: "queued",
    Step.REBASING: "merging",
    Step.REVERTING: "merging",
    Step.VERIFIED: "verifying",
    Step.PUBLISHING: "advancing",
}
_QUEUE_STATE = {
    Step.BRINGING_IN: "waiting",
    Step.WAITING: "waiting",
    Step.MERGING: "merging",
    Step.REBASING: "merging",
    Step.REVERTING: "merging",
    Step.VERIFYING: "verifying",
    Step.VERIFIED: "verified",
    Step.ADVANCING: "verified",
    Step.PUBLISHING: "advancing",
}


@dataclass(frozen=True, slots=True)
class Live:
    """What only a running daemon can tell: samples are (CPU percent, resident bytes) of each worker by (run, task), `said` what
    those have said so far that can be understood, `readings` the newest look at the machine; `stuck` why nothing can be remembered
    at present; `silences` for how long each has written nothing, `changed` the paths that it has changed so far."""

    running: bool = False
    samples: Mapping[tuple[str, str], tuple[float | None, int]] = field(default_factory=dict)
    readings: Readings | None = None
    note: str = ""
    stuck: str = ""
    said: Mapping[tuple[str, str], Said] = field(default_factory=dict)
    silences: Mapping[tuple[str, str], float] = field(default_factory=dict)
    changed: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)


def status(swarm: Swarm, live: Live, *, run: str | None = None, summary: bool = False) -> dict[str, Any]:
    """Gives the status document, of one run or of all; with `summary` the tasks that matter now and the number of the others."""
    runs = [each for each in swarm.runs.values() if run is None or each.id == run]
    plain = meant(swarm)
    return {
        "schema": SCHEMA,
        "daemon": {
            "running": live.running,
            "pid": swarm.pid if live.running else None,
            "version": swarm.version or None,
            "started_at": rfc3339(swarm.started_at) if live.running else None,
            "paused": swarm.paused,
            "stopping": swarm.stopping and live.running,
            "sandbox": {"in_force": swarm.sandbox, "reason": swarm.sandbox_why} if live.running else None,
        },
        "capacity": _capacity(swarm, live),
        "day": {
            "date": str(rfc3339(swarm.spent_on * budget.DAY_S))[:10] if swarm.spent_on else None,
            **_spent_document(swarm.spent_today, budget.of_day(swarm.limits)),
        },
        "runs": [run_document(swarm, each, live, summary=summary, plain=plain) for each in runs],
        "merge_queue": [entry for each in runs for entry in _merge_queue(each)],
        "claims": [entry for each in runs for entry in _claims(each)],
    }


def as_found(
    document: dict[str, Any], read: Callable[[str], str | None], moving: Container[str] = ()
) -> dict[str, Any]:
    """Puts into a status document where its staging branches are found to be, save those of the runs that are `moving`: while
    nothing lands nobody else looks at them. `read` gives the commit of a full ref name."""
    for run in document["runs"]:
        staging, name = run["staging"], run["id"]
        left = staging["commit"]
        still = run["state"] not in ("preparing", "discarding") and staging["found"] == left
        if not still or name in moving or left == run["base"]["commit"]:
            continue
        try:
            found = read(f"refs/heads/{staging['branch']}")
        except (SwarmError, OSError):
            continue
        if found == left or (found is None and run["finished_commit"]):
            continue
        staging |= {"found": found, "verified": False}
        how = f"{staging['branch']} is gone" if found is None else moved(staging["branch"], found, left)
        # Of what a person did there that was looked at already, the problem says more, and begins with the branch too.
        if not any(text.startswith(f"{staging['branch']} ") for text in run["problems"]):
            run["problems"].append(f"{how}. Next: swarm recover")
    return document


def moving(swarm: Swarm) -> set[str]:
    """Names the runs whose staging branch is being moved, or stands nobody knows where after the journal was made anew."""
    return {run.id for run in swarm.runs.values() if run.publishing_commit is not None or run.behind}


def in_a_line(swarm: Swarm) -> str:
    """Says in one line what goes on: `workers 2 of 4; modernise: 3 of 12 landed`."""
    words = [f"workers {len(swarm.slots)} of {swarm.limits.workers_max}"]
    if swarm.paused:
        words.append("paused")
    active = [run for run in swarm.runs.values() if run.open_tasks]
    words += [f"{run.id}: {run.counts[TaskState.LANDED]} of {len(run.tasks)} landed" for run in active]
    return "; ".join(words if active else [*words, "no run is active"])


def _capacity(swarm: Swarm, live: Live) -> dict[str, Any]:
    readings = live.readings or swarm.readings
    running = len(swarm.slots)
    decision = _allowed_now(swarm, live)
    width = 0 if live.stuck else min(decision.target, swarm.limits.workers_max)
    reason = f"{live.stuck} {NOTHING_BEGINS}" if live.stuck else decision.reason
    if reason == admission.NOTHING_WAITS and any(run.counts[TaskState.READY] for run in swarm.runs.values()):
        reason = NO_SLOT_WANTED
    return {
        "workers_max": swarm.limits.workers_max,
        "slots_open": max(0, width - running),
        "running": running,
        "reason": reason if live.running else "no daemon runs",
        "note": live.note,
        "held": [
            {"agent": agent, "code": hold.code, "text": hold.text, "until": rfc3339(hold.until)}
            for agent, hold in swarm.holds.items()
            if not hold.step
        ],
        "readings": None
        if readings is None
        else {
            "cpu_percent": round(readings.cpu_percent, 1),
            "memory_percent": round(readings.memory_percent, 1),
            "memory_available_bytes": readings.memory_available_bytes,
            "disk_free_bytes": readings.disk_free_bytes,
        },
    }


def _allowed_now(swarm: Swarm, live: Live) -> admission.Decision:
    """Gives what was decided last, or, where nothing waits and so nobody looks at the machine, what would be by `live` readings."""
    if swarm.capacity.reason != admission.NOTHING_WAITS or live.readings is None:
        return swarm.capacity
    now, _ = admission.decide(
        live.readings, limits=swarm.limits, running=len(swarm.slots), ramp=None, previous_step=None
    )
    narrowed = now.target < swarm.limits.workers_max
    return now if narrowed else dataclasses.replace(swarm.capacity, target=now.target)


def run_state(run: Run) -> str:
    """Says in one word how a run stands: preparing, active, paused, waiting (for an approval of its plan), ended, finished
    (staging is on the target), or discarding."""
    if run.discarding:
        return "discarding"
    if not run.prepared:
        return "preparing"
    if run.open_tasks:
        return "paused" if run.paused else "active"
    if run.way is not None and building.stage(run) == "approval":
        return "waiting"
    return "finished" if run.on_target is not None else "ended"


def meant(swarm: Swarm) -> Run | None:
    """Gives the run that commands mean where none is named, whatever they do: the only one, or the only `unfinished`."""
    runs = list(swarm.runs.values())
    if len(runs) > 1:
        runs = unfinished(runs)
    return runs[0] if len(runs) == 1 else None


def unfinished(runs: Iterable[Run]) -> list[Run]:
    """Leaves out the runs that are finished, or were to find something out and have: where something else is meant by the same
    name, they are not."""
    return [run for run in runs if run_state(run) != "finished" and not _has_answered(run)]


def _has_answered(run: Run) -> bool:
    return run.way is not None and building.stage(run) == "answered"


def called(swarm: Swarm, run: Run, task: str) -> str:
    """Gives the word for the command line by which a task is found: with its run in front where it might be another's."""
    return quote(task if meant(swarm) is run else f"{run.id}/{task}")


def ended_again(swarm: Swarm, run: Run, names: Iterable[str]) -> list[dict[str, str]]:
    """Lists those of the tasks, which were just tried again, that ended in the same moment: since a need of theirs did not land, or
    with the budget spent."""
    found = []
    for task in (run.tasks[name] for name in names):
        if task.state not in (TaskState.BLOCKED, TaskState.FAILED):
            continue
        facts = task.reason.facts if task.reason is not None else {}
        needs = " ".join(called(swarm, run, need) for need in facts.get("needs", ()))
        step = f"swarm retry {needs or f'--failed --run {quote(run.id)}'}"
        if task.state is TaskState.FAILED:
            step = f"a higher budget (swarm config), swarm stop, swarm start; then swarm retry {called(swarm, run, task.spec.id)}"
        text = task.reason.text if task.reason is not None else ""
        found.append({"task": task.spec.id, "state": task.state.value, "text": text, "next": step})
    return found


def run_document(
    swarm: Swarm, run: Run, live: Live, *, summary: bool = False, plain: Run | None = None
) -> dict[str, Any]:
    """Gives one run of the status document; `plain` is that which is meant where none is named."""
    tasks = _worth_telling(run) if summary else list(run.tasks.values())
    document: dict[str, Any] = {
        "id": run.id,
        "name": run.plan.name,
        "state": run_state(run),
        "meant": run is plain,
        "base": {"branch": run.base_branch or None, "commit": run.base_commit},
        "staging": {
            "branch": staging_branch(run.id),
            "commit": run.published,
            "found": _stands(run),
            "worktree": run.shown_worktree,
            "worktree_commit": run.followed,
            "worktree_reason": run.follow_reason,
            "reason": _reason_document(explain(run)),
            "verified": run.has_passed(run.published) and _stands(run) == run.published,
            "bottleneck": _bottleneck(run),
        },
        "created_at": rfc3339(run.created_at),
        "ended_at": rfc3339(run.ended_at),
        "finished_commit": run.on_target,
        "finishing": _finishing(run, live),
        "window": run.window or swarm.limits.verify_slots,
        "suites": [_suite_document(name, seen) for name, seen in run.suites_seen.items()],
        "qa": _qa(run),
        "goal": building.document(run),
        "spent": _spent_document(run.spent, budget.of_run(swarm.limits)),
        "counts": {state.value: run.counts[state] for state in TaskState},
        "watched": run.watched or None,
        "finished_before": list(run.finished_before),
        "problems": _problems(run),
        "tasks": [task_document(swarm, run, task, live) for task in tasks],
    }
    if not summary:
        document |= _mode(run)
    if summary:
        document["tasks_omitted"] = len(run.tasks) - len(tasks)
        document["ended"] = run.open_tasks == 0 and not run.live
    return document


def _mode(run: Run) -> dict[str, Any]:
    """Says how the run's work really went: `width` is the most workers that were at work at once, `mode` parallel where that is
    more than one, None where nobody was yet. Research and reviews are not counted."""
    moments: list[tuple[float, int]] = []
    for task in run.tasks.values():
        for attempt in task.attempts if not (task.spec.answer or task.spec.qa) else ():
            if attempt.started_at is not None:
                ends = (attempt.exited_at, attempt.ended_at, float("inf"))
                end = next(at for at in ends if at is not None)
                moments += [(attempt.started_at, 1), (end, -1)]
    width, at_once = min(1, len(moments)), 0
    for _, step in sorted(moments):  # who ends in the moment in which another begins was not beside it
        at_once += step
        width = max(width, at_once)
    return {"mode": None if not width else "parallel" if width > 1 else "sequential", "width": width}


def _spent_document(spent: Spent, most: budget.Budget) -> dict[str, Any]:
    return {
        "cost_usd": round(spent.usd, 6),
        "tokens": spent.tokens,
        "budget_usd": most.usd or None,
        "budget_tokens": most.tokens or None,
    }


def _finishing(run: Run, live: Live) -> dict[str, Any] | None:
    """Says of a finish that was asked for and has not ended how it stands: `state` is under_way, or pending where no daemon is: the
    next one goes on with it."""
    if run.finish is None:
        return None
    return {
        "state": "under_way" if live.running else "pending",
        "into": run.finish.target,
        "stage_only": run.finish.stage_only,
        "asked_at": rfc3339(run.finish.at),
    }


def _qa(run: Run) -> dict[str, Any] | None:
    """Says how QA stands: `state` is at_work, approved, void or rejected; `commit` what was approved of last."""
    qa = run.qa
    if qa is None:
        return None
    return {
        "state": qa.state(run.published),
        "task": qa.task or None,
        "commit": qa.approved or None,
        "reason": qa.reason or None,
        "rounds_max": qa.rounds_max,
        "rounds": [
            {
                "task": each.task,
                "reviewed": each.reviewed,
                "verdict": APPROVE if each.approved else REJECT,
                "moved": each.moved,
                "summary": each.summary or None,
                "issues": [
                    {"title": i.title, "path": i.path or None, "text": i.text or None} for i in each.issues
                ],
                "fix": each.fix or None,
            }
            for each in qa.rounds
        ],
    }


def hindrances(swarm: Swarm, run: Run, stuck: str) -> list[str]:
    """Says why a run can't go on at present, as its status does, or that nothing of it will before somebody resumes it; `stuck` is
    why nothing can be remembered."""
    found = [*([f"{stuck} {NOTHING_BEGINS}"] if stuck else ()), *_problems(run)]
    return found or _pauses(swarm, run)


def _pauses(swarm: Swarm, run: Run) -> list[str]:
    if run.live or run.queue or run.landing or not run.open_tasks:
        return []
    if swarm.paused:
        return ["everything is paused: swarm resume goes on"]
    if run.paused:
        return [f"it is paused: swarm resume --run {run.id} goes on"]
    aside = (run.tasks[name] for name in run.aside)
    paused = sorted(each.spec.id for each in aside if each.paused and each.state is TaskState.READY)
    if not paused or len(paused) < run.counts[TaskState.READY]:
        return []
    more = f" and {len(paused) - 1} more are" if len(paused) > 1 else " is"
    return [f"{paused[0]}{more} paused: swarm resume {run.id}/{paused[0]} goes on"]


def mark(problems: Iterable[str]) -> str:
    """Gives a short name for what keeps a run from going on, another one for anything else; "" where nothing does."""
    text = "\0".join(problems)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] if text else ""


def _problems(run: Run) -> list[str]:
    astray = explain(run)
    return [
        *([astray.text] if astray is not None else ()),
        *(f"{in_words(name)} fails and is tried again: {text}" for name, text in run.failures.items()),
        *([f"{run.watched}: {run.watch_problem}"] if run.watch_problem else ()),
    ]


def _stands(run: Run) -> str | None:
    """Gives where the staging branch was seen last: elsewhere than where it was left only where a person moved it away."""
    if run.astray is not None and run.astray.seen.kind is Standing.MOVED:
        return run.astray.seen.found
    return run.published


def _bottleneck(run: Run) -> dict[str, Any] | None:
    """Gives the slowest of the suites that ran side by side for the newest landing: what makes it faster makes landing faster."""
    for name, commit in run.landed[-1:]:
        for attempt in run.tasks[name].attempts:
            longest = suites.slowest(attempt.suites) if attempt.candidate == commit else None
            if longest is not None:
                return {"suite": longest.name, "duration_s": round(longest.duration_s, 3)}
    return None


def _suite_document(name: str, seen: SuiteCount) -> dict[str, Any]:
    return {
        "name": name,
        "ran": seen.ran,
        "flaked": seen.flaked,
        "flake_percent": round(100 * seen.flaked / seen.ran, 1),
        "flaky": train.is_flaky(seen),
        "longest_s": round(seen.longest_s, 3),
    }


def _worth_telling(run: Run) -> list[Task]:
    """Picks the tasks that a person looks for: what goes on, what waits, what went wrong, what landed last. Looks no
    further than the last of them, in the order of the plan."""
    chosen: dict[str, Task] = {name: run.tasks[name] for name in run.live}
    wanted = {
        TaskState.READY: LISTED,
        TaskState.PENDING: LISTED,
        TaskState.FAILED: LISTED,
        TaskState.BLOCKED: LISTED,
        TaskState.CANCELLED: LISTED,
        TaskState.ANSWERED: LISTED,
    }
    missing = sum(min(run.counts[state], most) for state, most in wanted.items())
    for name, task in run.tasks.items():
        if not missing:
            break
        if wanted.get(task.state, 0):
            wanted[task.state] -= 1
            missing -= 1
            chosen[name] = task
    for name, _ in run.landed[-LANDED_LISTED:]:
        chosen[name] = run.tasks[name]
    return sorted(chosen.values(), key=lambda task: task.order)


def task_document(swarm: Swarm, run: Run, task: Task, live: Live) -> dict[str, Any]:
    """Gives one task of the status document."""
    spec = task.spec
    return {
        "id": spec.id,
        "title": spec.title,
        "by_hand": spec.by_hand,
        "qa": spec.qa or None,
        "again_of": spec.again_of or None,
        "phase": spec.phase,
        "state": task.state.value,
        "reason": _reason_document(_reason_of(swarm, run, task, running=live.running)),
        "needs": [*spec.needs, *spec.phase_needs],
        "claims": [{"path": claim.path, "mode": claim.mode.value} for claim in spec.claims],
        "reads": [*spec.reads],
        "landed_commit": task.landed_commit,
        "unchanged": any(
            each.unchanged for each in task.attempts if each.landed_commit and task.landed_commit
        ),
        "attempts": [attempt_document(run, task, attempt, live) for attempt in task.attempts],
    }


def _reason_document(reason: Reason | None) -> dict[str, Any] | None:
    if reason is None:
        return None
    until = reason.facts.get("until")
    times = {"until": rfc3339(until)} if isinstance(until, (int, float)) else {}
    return {"code": reason.code, "text": reason.text, **reason.facts, **times}


def _reason_of(swarm: Swarm, run: Run, task: Task, *, running: bool) -> Reason | None:
    """Says why a task is where it is; for one that waits, what for; `running` is whether a daemon is."""
    if task.state is TaskState.READY and task.reason is None:
        return _waits_for(swarm, run, task, running=running)
    if task.state is TaskState.PENDING:
        return _pending(run, task)
    attempt = task.live
    if attempt is not None and attempt.waits_for and attempt.step is Step.WAITING:
        holders = sorted(attempt.waits_for)
        return Reason(
            "stray", f"it changed files that {', '.join(holders)} holds; it lands after", {"holders": holders}
        )
    if attempt is not None and attempt.step is Step.WAITING and train.clashes(run, attempt):
        text = "it conflicts with a candidate ahead of it and is merged again when that has landed or is gone"
        return Reason("conflict_ahead", text, {"candidate": attempt.clash})
    if attempt is not None and attempt.search is not None:
        text = f"{attempt.search.reason.text}; it is being found out whether by itself or only with what has landed since it began"
        return Reason("searching", text, {"candidate": attempt.search.candidate})
    if attempt is not None and attempt.step is Step.PUBLISHING and "Publish" in run.failures:
        return Reason("publish", run.failures["Publish"])
    if attempt is not None and attempt.step in (Step.PUBLISHING, Step.WAITING) and run.held_up():
        return explain(run)
    if not running and task.state in (
        TaskState.QUEUED,
        TaskState.LANDING,
    ):  # nobody merges, and nobody verifies
        return NO_DAEMON
    if attempt is not None and attempt.reason is not None:
        return attempt.reason
    return task.reason if task.reason is None else _with_partners(task, task.reason)


def _with_partners(task: Task, reason: Reason) -> Reason:
    """Adds what an earlier attempt was found red together with. A later one begins on top of that, and can't be green without:
    of itself it can't say any more that the work was good alone."""
    found = [
        each.reason for each in task.attempts if each.reason is not None and "partners" in each.reason.facts
    ]
    if reason.code != "verify_failed" or "partners" in reason.facts or not found:
        return reason
    with_ = {name: found[-1].facts[name] for name in ("partners", "partner_commits")}
    text = f"{reason.text}; an earlier attempt was red only together with {some(with_['partners'])}"
    return dataclasses.replace(reason, text=text, facts={**reason.facts, **with_})


def _waits_for(swarm: Swarm, run: Run, task: Task, *, running: bool) -> Reason:
    if swarm.paused or run.paused or task.paused:
        return Reason("paused", f"paused; swarm resume{_what_is_paused(swarm, run, task)} goes on")
    if not run.selected(task):
        return Reason("not_selected", "left out by --only")
    if swarm.stopping or not running:
        return NO_DAEMON
    if not run.prepared:
        return Reason("preparing", "the run is being prepared")
    if run.behind:
        return Reason("preparing", "what was found on staging is published first")
    held = providers.reason(swarm, run, task) or ownership.reason(swarm, run, task)
    if held is not None:
        return held
    before = run.in_the_way(task)
    if before is not None:
        return _turn_or_claim(before)
    if task.alone:
        return Reason("alone", "after a conflict it runs by itself, when the others are done")
    if run.solo is not None:
        return Reason("alone", f"{run.solo} runs by itself", {"holder": run.solo})
    if run.at_full_width():
        return Reason(
            "width",
            f"at most {run.width} worker{'' if run.width == 1 else 's'} at once, for a run of its size",
        )
    return Reason(
        "slot",
        "it starts next" if swarm.capacity.reason == admission.NOTHING_WAITS else swarm.capacity.reason,
    )


def _what_is_paused(swarm: Swarm, run: Run, task: Task) -> str:
    """Says what `swarm resume` has to name for a task to go on; nothing where that lifts more than one pause."""
    if swarm.paused or (run.paused and task.paused):
        return ""
    return f" --run {quote(run.id)}" if run.paused else f" {called(swarm, run, task.spec.id)}"


def _turn_or_claim(before: InTheWay) -> Reason:
    facts = {"holder": before.task}
    if before.path.startswith("\0"):
        does = "is next" if before.waits else "is at work"
        return Reason("turn", f"goes one at a time; {before.task} {does}", facts)
    facts["path"] = before.path
    if before.waits:
        return Reason("claim", f"{before.task} waits too and goes first with {before.path}", facts)
    return Reason("claim", f"{before.task} holds {before.path}", facts)


def _pending(run: Run, task: Task) -> Reason:
    missing = [
        need for need in task.spec.needs if need in run.tasks and run.tasks[need].state not in GOOD_ENDS
    ]
    phases = [*task.spec.phase_needs]
    if task.spec.phase is not None:
        phases += run.phases[task.spec.phase].phase_needs
        missing += [
            need
            for need in run.phases[task.spec.phase].needs
            if need in run.tasks and run.tasks[need].state not in GOOD_ENDS
        ]
    before = run.needs.before(task.spec.id)
    what = [*missing, *(f"phase {phase}" for phase in phases), *([before] if before else [])]
    return Reason(
        "needs", f"needs {', '.join(what[:5])}" + (" …" if len(what) > 5 else ""), {"needs": what[:50]}
    )


def attempt_document(run: Run, task: Task, attempt: Attempt, live: Live) -> dict[str, Any]:
    """Gives one attempt of the status document."""
    cpu, rss, said, silent_s = None, None, None, None
    touched, outside = attempt.touched, attempt.strays
    result: WorkerResult = attempt.result
    if attempt.step in UP_STEPS:
        cpu, rss = live.samples.get((run.id, task.spec.id), (None, None))
    if attempt.step is Step.RUNNING:
        silent_s = live.silences.get((run.id, task.spec.id))
        said = live.said.get((run.id, task.spec.id))
        touched = live.changed.get((run.id, task.spec.id), ())
        outside = strays(run.shown_claims(task), touched) if task.spec.claims else ()
    spent: WorkerResult | Said = result if said is None else said
    return {
        "n": attempt.n,
        "state": _public_step(attempt),
        "agent": attempt.agent,
        "branch": _kept_branch(attempt),
        "base": attempt.base,
        "head": attempt.head,
        "worktree": attempt.worktree,
        "slot": attempt.slot,
        "alone": attempt.alone,
        "pid": attempt.pid,
        "sandbox": attempt.sandbox or None,
        "cpu_percent": cpu,
        "rss_bytes": rss,
        "silent_s": None if silent_s is None else round(silent_s, 1),
        "quiet": silent_s is not None and oversight.quiet(task, silent_s),
        "started_at": rfc3339(attempt.started_at or attempt.created_at),
        "suspended_at": rfc3339(attempt.suspended_at),
        "stood_still_s": round(attempt.stood_still_s, 3),
        "ended_at": rfc3339(attempt.ended_at),
        "exit_code": attempt.exit_code,
        "touched": list(touched),
        "saved": attempt.saved or None,
        "besides": attempt.besides or None,
        "staged": attempt.staged or None,
        "strays": list(outside),
        "foreseen": [{"with": other, "path": path} for other, path in attempt.foreseen],
        "unused": list(unused(task.spec.claims, attempt.touched)) if attempt.step is Step.LANDED else [],
        "reason": _reason_document(attempt.reason),
        "candidate": attempt.candidate,
        "batch": list(attempt.batch) if len(attempt.batch) > 1 else [],
        "undoes": [name for name, _ in attempt.undoes],
        "suites": [
            {
                "name": suite.name,
                "outcome": suite.outcome,
                "exit_code": suite.exit_code,
                "duration_s": round(suite.duration_s, 3),
                "log": suite.log,
                "changed": list(suite.changed),
                "parts": suite.parts,
                "note": suite.note or None,
                "remembered": suite.remembered,
            }
            for suite in attempt.suites
        ],
        "bottleneck": longest.name if (longest := suites.slowest(attempt.suites)) is not None else None,
        "summary": result.summary or None,
        "result_problem": result.problem or None,
        "doing": said.doing or None if said is not None else None,
        "turns": said.turns or None if said is not None else None,
        "cost_usd": spent.cost_usd,
        "tokens_in": spent.tokens_in,
        "tokens_out": spent.tokens_out,
    }


def _kept_branch(attempt: Attempt) -> str | None:
    """Names the branch that keeps the work, or will; an attempt that ended without any has none."""
    if attempt.step in ATTEMPT_ENDS and attempt.head in (None, attempt.base):
        return None
    return attempt.branch


def _public_step(attempt: Attempt) -> str:
    if attempt.step is Step.COLLECTING:
        return "queued" if attempt.exit_code == 0 and attempt.ending is None else "running"
    return _PUBLIC_STEP.get(attempt.step, attempt.step.value)


def _merge_queue(run: Run) -> Iterable[dict[str, Any]]:
    for name in (*run.publishing, *run.landing, *run.queue):
        attempt = run.tasks[name].live
        if attempt is not None:
            yield {
                "run": run.id,
                "task": name,
                "attempt": attempt.n,
                "state": "verifying" if train.is_red(run, attempt) else _queue_state(run, attempt),
                "candidate": attempt.candidate,
                "onto": attempt.onto,
                "red": train.is_red(run, attempt),
            }


def _queue_state(run: Run, attempt: Attempt) -> str:
    """Says where an attempt stands in the merge queue: one of a batch is verified with the last of it."""
    if attempt.step is Step.VERIFIED and spokesman(run, attempt).step is not Step.VERIFIED:
        return "verifying"
    return _QUEUE_STATE.get(attempt.step, "waiting")


def _claims(run: Run) -> Iterable[dict[str, Any]]:
    for held in run.claims.held():
        if held.claim.path.startswith("\0"):
            continue
        attempt = run.tasks[held.holder].attempt
        yield {
            "run": run.id,
            "task": held.holder,
            "attempt": attempt.n if attempt is not None else None,
            "path": held.claim.path,
            "mode": held.claim.mode.value,
        }

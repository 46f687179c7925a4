"""Decides everything: one event in, the commands and facts that follow from it out.

`step` changes the one `Swarm` it is given and nothing else; it reads no clock, disk, process or network, so the same events
give the same decisions when the journal is replayed. An illegal event raises `IllegalEvent`, a late answer `StaleEvent`, and
neither changes anything: handlers check first.

Rules for editing: a handler lies in the file of what it is about, as the table at the end says, reads top-down and ends where its
event ends. What needs the world goes out as a command (`state`); how things end is in `lifecycle`, who starts next in `scheduling`,
what must be true in `invariants`. A replay decides as the daemon did: a change of what is decided is one more of `messages.RULES`,
which each `DaemonStarted` has, and what was decided by others is refused, unless the decision is made to hang on that number.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from swarm.core import (
    admission,
    astray,
    backlog,
    building,
    discard,
    failing,
    finishing,
    foreseeing,
    lessons,
    memory,
    merge_queue,
    oversight,
    ownership,
    providers,
    rebuilt,
    reviewing,
    scheduling,
    steering,
    submission,
    undoing,
    working,
)
from swarm.core import messages as m
from swarm.core.lifecycle import end_worker, run_ended, stop_over_budget
from swarm.core.run import Run
from swarm.core.state import (
    Deadline,
    IllegalEvent,
    Swarm,
    Turn,
    clock_moved,
    command_for,
    next_deadline,
    run_commands,
)


def step(swarm: Swarm, event: m.Event) -> Turn:
    """Takes one event in. Raises `IllegalEvent`, having changed nothing, where it can't happen."""
    handler = _HANDLERS.get(type(event))
    if handler is None:
        raise IllegalEvent(f"{type(event).__name__} is not an event of the machine")
    turn = Turn(swarm, event.at)
    troubled = bool(swarm.trouble)
    handler(turn, event)
    if turn.own and not troubled:
        swarm.last_at = event.at
        return turn
    for run in turn.stirred.values():
        if not run.discarding:
            _settle(turn, run)
    merge_queue.verify(turn)
    if swarm.discarding:
        for name in tuple(swarm.discarding):
            discard.wind_down(turn, swarm.runs[name])
    swarm.last_at = event.at
    for fact in turn.facts:
        if fact.type in lessons.TEACH:
            _learn(swarm, fact)
    if troubled and not swarm.trouble:
        swarm.capacity = admission.Decision(0, "measuring", 0)
    scheduling.start_what_may(turn)
    if troubled is not bool(swarm.trouble) and swarm.measuring is None:  # else the readings tell
        turn.tell("CapacityChanged", None, slots_open=swarm.capacity.slots_open, reason=swarm.capacity.reason)
    return turn


def _learn(swarm: Swarm, fact: m.Fact) -> None:
    of_run, of_task = fact.run or "", fact.task or ""
    run = swarm.runs.get(of_run)
    about = None if run is None else run.tasks.get(of_task)
    lessons.learn(swarm.lessons, fact.type, fact.at, of_run, of_task, fact.data, about)


def _settle(turn: Turn, run: Run) -> None:
    """Looks what follows from all that an event has changed in a run."""
    again = True
    while again:
        merge_queue.move(turn, run)
        if run.qa is not None:
            reviewing.move(turn, run)
        if run.way is not None:
            building.move(turn, run)
        again = stop_over_budget(turn, run)
    if not run.open_tasks:
        run_ended(turn, run)


# --- deadlines ---


def _ticked(turn: Turn, event: m.Ticked) -> None:
    swarm = turn.swarm
    while (at := next_deadline(swarm)) is not None and at <= event.at:
        due = heapq.heappop(swarm.deadlines)
        if due.kind == "ramp":
            swarm.ramp_at = None
        elif due.kind == "agent":
            providers.fell_due(turn, due.task)
        elif due.kind == "memory":
            memory.move(turn)
        else:
            _fell_due(turn, swarm.runs[due.run], due)


def _fell_due(turn: Turn, run: Run, due: Deadline) -> None:
    if due.kind == "look":
        return  # every turn ends with a look at what may start
    if run.discarding and due.kind in ("follow", "run") and due.task != "Discard":
        return  # given up with the run
    if due.kind == "follow":
        merge_queue.follow(turn, run)
        return
    if due.kind == "run":
        del run.retry_at[due.task]
        turn.commands.extend(c for c in run_commands(run) if type(c).__name__ == due.task)
        return
    task = run.tasks[due.task]
    if due.kind == "ready":
        task.not_before = None
        task.reason = None
        run.push(task)
        return
    attempt = task.live
    assert attempt is not None
    if due.kind == "retry":
        attempt.retry_at = None
        command = command_for(turn.swarm, run, task, attempt)
        assert command is not None
        turn.commands.append(command)
    else:
        end_worker(turn, run, task, attempt, "timeout")


# --- the daemon and the machine it stands on ---


def _clock_set(turn: Turn, event: m.ClockSet) -> None:
    turn.swarm.ahead_s += event.by_s
    clock_moved(turn.swarm, event.by_s)


def _daemon_started(turn: Turn, event: m.DaemonStarted) -> None:
    if event.rules != m.RULES:
        raise IllegalEvent(
            f"its daemon decided by rules {event.rules}, and this version decides by {m.RULES}"
        )
    swarm = turn.swarm
    if (
        event.at < swarm.last_at
    ):  # the clock was set back while no daemon ran, and the machine has booted since
        clock_moved(swarm, event.at - swarm.last_at)
    roles_before, swarm.limits = swarm.limits.roles, event.limits
    ownership.limits_changed(swarm, roles_before)
    swarm.trials.clear()  # what did not work may have been mended meanwhile
    swarm.move_to(event.top or swarm.top)
    swarm.version, swarm.pid, swarm.started_at = event.version, event.pid, event.at
    swarm.sandbox, swarm.sandbox_why = event.sandbox, event.sandbox_why
    swarm.boot, swarm.ahead_s = event.boot, event.ahead_s
    swarm.stopping, swarm.stop_grace_s = False, None
    swarm.measuring, swarm.readings, swarm.measured_at, swarm.blind = None, None, float("-inf"), ""
    swarm.ramp = admission.Ramp()
    memory.begun(turn)
    for run in swarm.runs.values():
        if run.open_tasks or run.finished_commit is None:
            astray.look(turn, run)  # much may have been done by hand while no daemon ran
            turn.stir(run)  # what another budget means for it, before anything starts


def _daemon_stopped(turn: Turn, _: m.DaemonStopped) -> None:
    turn.swarm.stopping = True


def _recovered(turn: Turn, event: m.Recovered) -> None:
    for found in event.found:
        turn.tell("Mended", None, kind=found.kind, text=found.text, remedy=found.remedy)


def _reclaimed(turn: Turn, event: m.Reclaimed) -> None:
    turn.tell("SpaceReclaimed", None, paths=list(event.paths), size_bytes=event.size_bytes)


_HANDLERS: dict[type[m.Event], Callable[[Turn, Any], None]] = {
    m.DaemonStarted: _daemon_started,
    m.DaemonStopped: _daemon_stopped,
    m.ClockSet: _clock_set,
    m.Recovered: _recovered,
    m.Reclaimed: _reclaimed,
    m.JournalRebuilt: rebuilt.journal_rebuilt,
    m.Ticked: _ticked,
    m.HostMeasured: scheduling.host_measured,
    m.MemoryMeasured: memory.measured,
    m.LimitsChanged: steering.limits_changed,
    m.Paused: steering.paused,
    m.Resumed: steering.resumed,
    m.StopRequested: steering.stop_requested,
    m.PlanSubmitted: submission.plan_submitted,
    m.ApprovalGiven: building.approved,
    m.PlanWatched: backlog.watched,
    m.WatchedPlanRefused: backlog.refused,
    m.TasksRetried: steering.tasks_retried,
    m.TasksCancelled: steering.tasks_cancelled,
    m.LessonsForgotten: steering.lessons_forgotten,
    m.FirstAsked: merge_queue.first_asked,
    m.UndoRequested: undoing.requested,
    m.TaskTold: steering.task_told,
    m.QaRequested: reviewing.requested,
    m.FinishRequested: finishing.requested,
    m.Finished: finishing.finished,
    m.FinishRefused: finishing.finished,
    m.DiscardRequested: discard.requested,
    m.Discarded: discard.discarded,
    m.RunPrepared: submission.run_prepared,
    m.Published: merge_queue.published,
    m.StagingLookAsked: astray.look_asked,
    m.StagingSeen: astray.seen,
    m.Followed: merge_queue.followed,
    m.RunCommandFailed: failing.run_command_failed,
    m.WorktreeReady: working.worktree_ready,
    m.WorkerStarted: working.worker_started,
    m.WorkerOutgrew: memory.outgrew,
    m.WorkerSilent: oversight.silent,
    m.WorkerMultiplied: oversight.multiplied,
    m.WorkCompared: foreseeing.compared,
    m.WorkerExited: working.worker_exited,
    m.Collected: working.collected,
    m.WorktreeReturned: working.worktree_returned,
    m.BroughtIn: merge_queue.brought_in,
    m.CandidateMade: merge_queue.candidate_made,
    m.MergeConflicted: merge_queue.merge_conflicted,
    m.Rebased: merge_queue.rebased,
    m.RebaseConflicted: merge_queue.rebase_conflicted,
    m.Verified: merge_queue.verified,
    m.StagingAdvanced: merge_queue.staging_advanced,
    m.StagingMoved: merge_queue.staging_moved,
    m.StagingFoundAstray: merge_queue.found_astray,
    m.CommandFailed: failing.command_failed,
}

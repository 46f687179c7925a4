"""Workers that ask for later, and agents that start nothing for a while: for a rate limit, or because they don't work at all.

A worker that exits 75 is tried again later and uses up no attempt. Where that is a limit of whoever its agent draws on, every
other worker of the agent would meet it too: none starts, in any run, before the reset, and then few at first. An agent whose first
workers all fail alike within seconds (a bad key, a missing program) is stopped until a person has mended it.

Rules for editing: nothing here knows a provider; an agent stands for it. Chance comes in with an event. The rules for users are in
docs/explanation/limits.md.
"""

from __future__ import annotations

import math

from swarm.core.lifecycle import end_attempt, hand_back, held_against
from swarm.core.model import COMMAND, TRY_LATER, Attempt, Hold, PlanSpec, Reason, Step, Task, Trial
from swarm.core.plain import rfc3339
from swarm.core.run import Run, agent_gate
from swarm.core.state import Deadline, Swarm, Turn, due

LATER_MAX_S = 7 * 86400.0
SPREAD = 0.1  # of the wait, at most, that a reset is put off by chance
SPREAD_MAX_S = 5.0
STEPS = 5  # after a reset one worker may start, then two more, four more, …
STEP_S = 1.0


def asks_for_later(attempt: Attempt) -> bool:
    """Tells whether a worker that has ended is to be tried again later: by its exit code, or since it says that it was limited."""
    failed = attempt.exit_code not in (0, None)
    return attempt.exit_code == TRY_LATER or (failed and attempt.result.rate_limited is True)


def exited(turn: Turn, attempt: Attempt, jitter: float) -> None:
    """Holds the agent of a worker that has met a limit; asked as soon as it has ended, so that no other starts meanwhile."""
    if attempt.ending is not None or not _holds_all(attempt):
        return
    hold, until = turn.swarm.holds.get(attempt.agent), _until(turn.swarm, attempt, turn.at)
    if hold is not None and (hold.until is None or (not hold.step and hold.until >= until)):
        return  # what holds it lasts longer
    spread_s = jitter * min(SPREAD * (until - turn.at), SPREAD_MAX_S)
    text = f"a rate limit of {attempt.agent} until {_clock(until)}"
    _hold(turn, attempt.agent, Hold("rate_limit", text, until, jitter, due=until + spread_s))


def try_later(turn: Turn, run: Run, task: Task, attempt: Attempt) -> None:
    """Has an attempt that asks for later made again then, without using up an attempt."""
    assert attempt.exited_at is not None
    limits = turn.swarm.limits
    tried = task.attempts[task.budget_from :]
    earlier = sum(1 for e in tried if e.reason is not None and e.reason.code in ("try_later", "rate_limit"))
    attempt.counts = earlier >= limits.try_later_max
    held = _holds_all(attempt)
    until = _until(turn.swarm, attempt, attempt.exited_at if held else turn.at)
    asked = f"the worker asked to be tried again later (exit code {attempt.exit_code})"
    if attempt.counts:
        held_against(turn, run, task, attempt, Step.FAILED, Reason("worker_failed", asked))
        return
    reason = Reason("try_later", asked, {"until": until})
    if held:
        reason = Reason("rate_limit", f"{attempt.agent} met a rate limit", {"until": rfc3339(until)})
    end_attempt(turn, run, task, attempt, Step.HANDED_BACK, reason)
    hand_back(turn, run, task, attempt, reason, not_before=None if held else until)


def _holds_all(attempt: Attempt) -> bool:
    """Tells whether a worker speaks for its whole agent. An agent program does: whoever it draws on refuses the next one too. A
    task's own command does where it says so, or knows when the limit is reset; else only that one task can't be done yet."""
    if not asks_for_later(attempt):
        return False
    said = attempt.result
    if said.rate_limited is not None:
        return said.rate_limited
    return attempt.agent != COMMAND or said.retry_after_s is not None


def _until(swarm: Swarm, attempt: Attempt, at: float) -> float:
    asked = attempt.result.retry_after_s
    if asked is None or math.isnan(asked):
        return at + swarm.limits.try_later_s
    return at + min(max(asked, 0.0), LATER_MAX_S)


def _clock(at: float) -> str:
    return f"{rfc3339(at)}"[:19].replace("T", " ") + " UTC"


# --- agents that fail from the first worker on ---


def judged(turn: Turn, run: Run, task: Task, attempt: Attempt, reason: Reason | None) -> None:
    """Takes in how a worker has ended, before that is held against its task: stops an agent whose first workers all failed alike
    and at once, and holds none of these failures against a task that goes on."""
    swarm, limits = turn.swarm, turn.swarm.limits
    if not limits.breaker_failures or attempt.agent == COMMAND or attempt.trouble:
        return  # tasks' own commands are as many programs
    trial = swarm.trials.setdefault(attempt.agent, Trial())
    assert attempt.started_at is not None
    assert attempt.exited_at is not None
    at_once = attempt.exited_at - attempt.started_at < limits.breaker_within_s
    if reason is None or reason.code != "worker_failed" or not attempt.exit_code or not at_once:
        trial.proven, trial.failed = True, []
        return
    hold = swarm.holds.get(attempt.agent)
    if hold is not None and hold.code == "breaker":
        attempt.counts = False  # it was started before the others had failed
        return
    if trial.proven:
        return
    if trial.exit_code != attempt.exit_code:
        trial.exit_code, trial.failed = attempt.exit_code, []
    trial.failed.append((run.id, task.spec.id, attempt.n))
    if len(trial.failed) >= limits.breaker_failures and len({each[:2] for each in trial.failed}) > 1:
        _stop(turn, attempt.agent, trial)


def _stop(turn: Turn, agent: str, trial: Trial) -> None:
    for run, task, n in trial.failed:
        known = turn.swarm.runs[run].tasks.get(task) if run in turn.swarm.runs else None
        if known is not None and n <= len(known.attempts):
            known.attempts[n - 1].counts = False
    text = (
        f"the first {len(trial.failed)} workers of {agent} all ended with exit code {trial.exit_code} within "
        f"{turn.swarm.limits.breaker_within_s:g} s, so no more of them are started; swarm resume goes on"
    )
    _hold(turn, agent, Hold("breaker", text))


# --- holding and going on ---


def reason(swarm: Swarm, run: Run, task: Task) -> Reason | None:
    """Says why a ready task does not start, where its agent is held."""
    hold = swarm.holds.get(task.spec.agent)
    if hold is None or agent_gate(task.spec.agent) not in run.shut:
        return None
    if hold.step:
        return Reason("rate_limit", f"{task.spec.agent} was limited and starts a few at a time")
    return Reason(hold.code, hold.text, {} if hold.until is None else {"until": rfc3339(hold.until)})


def started(turn: Turn, agent: str) -> None:
    """Counts a start of an agent that is coming back."""
    hold = turn.swarm.holds.get(agent)
    if hold is not None:
        hold.room -= 1
        if hold.room <= 0:
            _shut(turn.swarm, agent)


def fell_due(turn: Turn, agent: str) -> None:
    """Lets an agent start workers after its reset, at each step twice as many, until it is as any other."""
    hold = turn.swarm.holds[agent]
    if hold.step >= STEPS:
        _release(turn.swarm, agent)
        return
    if not hold.step:
        _tell_going_on(turn, agent)
    hold.step, hold.room = hold.step + 1, 2**hold.step
    hold.due = turn.at + STEP_S * (0.5 + hold.jitter)
    due(turn.swarm, Deadline(hold.due, "agent", "", agent))
    _open(turn.swarm, agent)


def resumed(turn: Turn) -> None:
    """Lets every agent start workers again, because a person says so, and looks anew whether they work."""
    turn.swarm.trials.clear()
    for agent in list(turn.swarm.holds):
        _release(turn.swarm, agent)
        _tell_going_on(turn, agent)


def submitted(turn: Turn, run: Run, plan: PlanSpec) -> None:
    """Has what holds agents hold in a run that is new, and says which agents of the plan it holds."""
    agents = {spec.agent for spec in plan.tasks}
    for agent, hold in turn.swarm.holds.items():
        if hold.room <= 0:
            run.shut_gate(agent_gate(agent))
            if agent in agents:
                _tell(turn, run, agent, hold)


def _hold(turn: Turn, agent: str, hold: Hold) -> None:
    turn.swarm.holds[agent] = hold
    if hold.due is not None:
        due(turn.swarm, Deadline(hold.due, "agent", "", agent))
    _shut(turn.swarm, agent)
    for run in turn.swarm.active():
        _tell(turn, run, agent, hold)


def _tell(turn: Turn, run: Run, agent: str, hold: Hold) -> None:
    turn.tell("AgentHeld", run, agent=agent, code=hold.code, text=hold.text, until=rfc3339(hold.until))


def _tell_going_on(turn: Turn, agent: str) -> None:
    for run in turn.swarm.active():
        turn.tell("AgentGoesOn", run, agent=agent)


def _release(swarm: Swarm, agent: str) -> None:
    del swarm.holds[agent]
    _open(swarm, agent)


def _shut(swarm: Swarm, agent: str) -> None:
    for run in swarm.runs.values():
        run.shut_gate(agent_gate(agent))


def _open(swarm: Swarm, agent: str) -> None:
    for run in swarm.runs.values():
        run.open_gate(agent_gate(agent))

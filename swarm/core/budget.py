"""What workers have cost, in money and tokens, and the budgets of a task, a run and a day that end it.

What a worker costs is known when it has ended, from what it says itself; one that says nothing costs nothing. So a budget stops
what would start next, and those at work when it is reached are not stopped: it can be passed by what they cost.

Rules for editing: what follows from a reason is `lifecycle`'s. Sums are made from the events, in their order, so that a replay
gives the same to the cent.
"""

from __future__ import annotations

from swarm.core.admission import Decision
from swarm.core.model import Limits, Reason, Spent, Task, WorkerResult
from swarm.core.run import Run
from swarm.core.state import Swarm
from swarm.dataclass import dataclass

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that may be spent; 0 is no limit."""

    usd: float = 0.0
    tokens: int = 0

    def passed(self, spent: Spent) -> str:
        """Says in words which limit has been reached; empty where none has."""
        if self.usd and spent.usd >= self.usd:
            return f"{usd(spent.usd)} of a budget of {usd(self.usd)} spent"
        if self.tokens and spent.tokens >= self.tokens:
            return f"{spent.tokens:,} of a budget of {self.tokens:,} tokens used"
        return ""


def of_run(limits: Limits) -> Budget:
    """Gives the budget of each run."""
    return Budget(limits.budget_usd, limits.budget_tokens)


def of_task(limits: Limits) -> Budget:
    """Gives the budget of each task, until somebody retries it."""
    return Budget(limits.task_budget_usd, limits.task_budget_tokens)


def of_day(limits: Limits) -> Budget:
    """Gives the budget of a day, by UTC."""
    return Budget(limits.day_budget_usd, limits.day_budget_tokens)


def cost(result: WorkerResult) -> Spent:
    """Gives what a worker says that it has cost."""
    return Spent(result.cost_usd or 0.0, (result.tokens_in or 0) + (result.tokens_out or 0))


def by_task(task: Task) -> Spent:
    """Gives what a task has cost since it was last retried."""
    spent = Spent()
    for attempt in task.attempts[task.budget_from :]:
        spent += cost(attempt.result)
    return spent


def task_over(limits: Limits, task: Task) -> Reason | None:
    """Says why a task gets no other attempt; None where its budget lasts."""
    spent = by_task(task)
    return _reason("the task", of_task(limits).passed(spent), spent)


def run_over(limits: Limits, spent: Spent) -> Reason | None:
    """Says why nothing more of a run starts; None where its budget lasts."""
    if not (limits.budget_usd or limits.budget_tokens):
        return None
    return _reason("the run", of_run(limits).passed(spent), spent)


def _reason(whose: str, passed: str, spent: Spent) -> Reason | None:
    if not passed:
        return None
    facts = {"cost_usd": spent.usd, "tokens": spent.tokens}
    return Reason("over_budget", f"{whose} is over its budget: {passed}", facts)


def spend(swarm: Swarm, run: Run, result: WorkerResult, at: float) -> None:
    """Counts what a worker has cost that ended at this time."""
    today = int(at // DAY_S)
    if swarm.spent_on != today:
        swarm.spent_on, swarm.spent_today = today, Spent()
    if result.cost_usd or result.tokens_in or result.tokens_out:
        swarm.spent_today += cost(result)
        run.spent += cost(result)


def day_over(swarm: Swarm, at: float) -> Decision | None:
    """Gives the decision where the budget of this day is used up: nothing starts before the next. None where it lasts."""
    if not (swarm.limits.day_budget_usd or swarm.limits.day_budget_tokens):
        return None
    today = int(at // DAY_S)
    passed = of_day(swarm.limits).passed(swarm.spent_today) if swarm.spent_on == today else ""
    if not passed:
        return None
    return Decision(0, f"{passed} today; nothing starts before 00:00 UTC", 0, opens_at=(today + 1) * DAY_S)


def usd(amount: float) -> str:
    """Shows an amount of money: `$1.25`, and small ones to the tenth of a cent."""
    return f"${amount:,.2f}" if amount >= 1 or amount == round(amount, 2) else f"${amount:.3f}"

"""Works out the schedules that a plan would get, from a plan file, settings and, if asked for, what earlier runs took.

Rules for editing: as for `offline`, beside which this stands; nothing is run, written, or asked of a daemon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from swarm import config
from swarm.client import offline, planfiles
from swarm.core import check, discover, schedule
from swarm.core.simulation import Assumed
from swarm.edge import project
from swarm.errors import UsageError
from swarm.settings import Settings

WORKERS_MAX = 1000
DURATION_MAX_S = 1e9
NOTHING = "Nothing was simulated."


class NotValid(UsageError):
    """A plan that is not valid, with what `swarm check` says of it: as a document and as text."""

    def __init__(self, source: str, document: dict[str, Any], text: str) -> None:
        super().__init__(f"The plan {source} is not valid.", "Nothing was done.", f"swarm check {source}")
        self.document, self.text = document, text


def simulate(
    argument: str | Mapping[str, Any],
    top: Path,
    settings: Settings,
    state: Path | None,
    workers: Sequence[int],
    wanted: Mapping[str, Any],
) -> dict[str, Any]:
    """Works out the schedules that a plan would get and runs none; gives the document. `wanted` is what is assumed, as fields of
    `Assumed`; what earlier runs took that `state` knows fills in the rest. Raises `NotValid`, and `UsageError` for what makes
    no sense or is about tasks that are not in the plan."""
    _check(workers, wanted)
    source, reading = planfiles.read(argument, top, settings)
    plan = reading.plan
    if reading.errors or plan is None:
        document = check.check_document([(source, reading)])
        raise NotValid(source, document, check.check_text(document))
    named = {name for key in ("tasks_s", "fails", "reds") for name in wanted.get(key, ())}
    if unknown := sorted(named - {task.id for task in plan.tasks}):
        listed = ", ".join(unknown[:10]) + (" …" if len(unknown) > 10 else "")
        raise UsageError(f"The plan has no task {listed}.", NOTHING, f"swarm check {source}")
    if discover.asks(plan):
        plan = discover.filled_in(plan, discover.suites(project.look(top)))
    learned = schedule.learn(offline.swarm_of(state).runs.values() if state is not None else (), plan.id)
    assumed = learned.fill_in(Assumed(), wanted)
    return {
        **schedule.compare(plan, config.to_limits(settings), assumed, workers),
        "file": source,
        "format": plan.format,
        "assumed": {**schedule.assumed_document(assumed), "learned_attempts": learned.attempts},
    }


def _check(workers: Sequence[int], wanted: Mapping[str, Any]) -> None:
    """Raises `UsageError` for numbers that make no sense."""
    for number in workers:
        if not 1 <= number <= WORKERS_MAX:
            raise UsageError(f"{number} is no number of workers from 1 to {WORKERS_MAX}.", NOTHING)
    for what, seconds in _durations(wanted):
        if not (isinstance(seconds, (int, float)) and 0 <= seconds <= DURATION_MAX_S):
            raise UsageError(f"{seconds!r} is no number of seconds ({what}).", NOTHING)
    rate = wanted.get("fail_rate", 0.0)
    if not (isinstance(rate, (int, float)) and 0 <= rate <= 1):
        raise UsageError(f"{rate!r} is no chance from 0 to 1 (fail_rate).", NOTHING)


def _durations(wanted: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((key, wanted[key]) for key in ("task_s", "suite_s") if key in wanted)
    yield from wanted.get("tasks_s", {}).items()

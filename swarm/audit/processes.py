"""Processes that should not be there any more: each carries the nonce, or holds the lock, of an attempt that has ended.

Rules for editing: a lock is only tried where the attempt has ended, so that no start can meet us holding it for a moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from swarm.audit.breaches import Breach
from swarm.core.model import ATTEMPT_ENDS, WORKER_STEPS, Attempt, Step
from swarm.core.places import Places
from swarm.core.run import Run
from swarm.edge import process
from swarm.edge.lockfile import held


def look(runs: Iterable[Run], places: Places, *, all_runs: bool) -> Iterator[Breach]:
    """Finds processes of attempts that have ended, and with `all_runs` those that no attempt of any run explains."""
    expected: set[str] = set()
    ended: dict[str, tuple[str, str, int]] = {}
    finishing: list[str] = []
    for run in runs:
        for name, task in run.tasks.items():
            for attempt in task.attempts:
                nonce = places.nonce(run.id, name, attempt.n)
                if _may_have_processes(attempt):
                    expected.add(nonce)
                else:
                    ended[nonce] = (run.id, name, attempt.n)
        if run.finish is not None:
            finishing.append(f"{places.nonce_head}-{run.finish.request}")
        yield from _locks(run, places)
        yield from _unheard_of(run, places)
    for nonce, pids in process.nonces(f"{places.nonce_head}-").items():
        listed = ", ".join(map(str, sorted(pids)[:5]))
        known = "-".join(nonce.split("-", 2)[:2])  # suites have their own name behind that of the attempt
        if known in ended:
            run_id, name, n = ended[known]
            yield Breach(
                "I16", f"Process {listed} belongs to attempt {n} of {name}, which has ended.", run=run_id
            )
        elif all_runs and known not in expected and not nonce.startswith(tuple(finishing)):
            yield Breach(
                "I16", f"Process {listed} was started for this repository, and no attempt accounts for it."
            )


def _may_have_processes(attempt: Attempt) -> bool:
    return attempt.step in WORKER_STEPS or attempt.step is Step.VERIFYING


def _locks(run: Run, places: Places) -> Iterator[Breach]:
    for name, task in run.tasks.items():
        for attempt in task.attempts:
            folder = places.attempt(run.id, name, attempt.n)
            if attempt.step not in ATTEMPT_ENDS:
                continue
            for lock in (folder.worker / "lock", *_suite_locks(folder.verify)):
                if held(lock):
                    text = f"The lock of attempt {attempt.n} of {name}, which has ended, is held ({lock})"
                    yield Breach(
                        "I16", f"{text}.", run=run.id, next_step=f"see who has it open: fuser {lock}"
                    )


def _suite_locks(verify: Path) -> list[Path]:
    return [suite / "worker" / "lock" for candidate in _folders(verify) for suite in _folders(candidate)]


def _unheard_of(run: Run, places: Places) -> Iterator[Breach]:
    """A worker that was started and that the journal does not know: records are missing at its end."""
    for name, task in run.tasks.items():
        known = {attempt.n for attempt in task.attempts}
        for folder in _folders(places.attempts_of(run.id, name)):
            if (
                folder.name.isdigit()
                and int(folder.name) not in known
                and process.identity(folder / "worker")
            ):
                text = f"Attempt {folder.name} of {name} had a worker, and the journal does not know it"
                yield Breach("I18", f"{text}.", run=run.id)


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []

"""Batches: several attempts merged onto each other and verified once, as the candidate of the last, where little is red (opt-in).

Each still lands as a merge commit of its own. What is verified is what all of them together come to, so staging moves over all of
them in one step: where it stands, in either repository, is always a commit that passed. The commits between were never verified by
themselves, and say so.

A batch is closed: nobody joins one that has been formed, and one that is red is halved, until a single attempt is red by itself,
which is judged as ever. One that loses a member is formed again from those that are left.

Rules for editing: pure; an attempt's `batch` names all members in order, and means something only as long as each has the same.
"""

from __future__ import annotations

from swarm.core.model import Attempt, Step
from swarm.core.run import Run

_SIZES = ((0.02, 8), (0.05, 4), (0.10, 2))  # below such a share of red ones, so many at once
_WEIGHT = 1 / 20  # of one outcome in that share


def size(run: Run) -> int:
    """Says how many may be verified at once, by how many were red of late."""
    return next((many for below, many in _SIZES if run.red_share < below), 1)


def count(run: Run, *, red: bool) -> None:
    """Counts an outcome."""
    run.red_share += _WEIGHT * (red - run.red_share)


def together(attempt: Attempt) -> tuple[str, ...]:
    """Names those that an attempt is verified with, itself among them; nobody where it is by itself."""
    return attempt.batch if len(attempt.batch) > 1 else ()


def members(run: Run, attempt: Attempt) -> list[Attempt]:
    """Gives the live attempts of a batch, in order; the attempt itself where it is in none."""
    if not attempt.batch:
        return [attempt]
    found = (run.tasks[name].live for name in attempt.batch)
    return [each for each in found if each is not None and each.batch == attempt.batch] or [attempt]


def spokesman(run: Run, attempt: Attempt) -> Attempt:
    """Gives the attempt whose verification speaks for this one: the last of its batch."""
    return members(run, attempt)[-1] if attempt.batch else attempt


def is_whole(run: Run, attempt: Attempt) -> bool:
    """Tells whether every member is still there, in landing or about to be."""
    return len(attempt.batch) < 2 or (
        len(members(run, attempt)) == len(attempt.batch)
        and all(name in run.landing or name in run.queue for name in attempt.batch)
    )


def next_member(run: Run) -> str | None:
    """Names the member that is merged next, once the one before it is; None where no batch is being made."""
    if not run.landing:
        return None
    attempt = run.tasks[run.landing[-1]].attempts[-1]
    if (
        not attempt.batch
        or attempt.candidate is None
        or attempt.step is Step.ADVANCING
        or is_made(run)
        or not is_whole(run, attempt)
    ):
        return None
    return attempt.batch[attempt.batch.index(run.landing[-1]) + 1]


def is_made(run: Run) -> bool:
    """Tells whether the last in landing is the last of its batch, or in none."""
    attempt = run.tasks[run.landing[-1]].live
    assert attempt is not None
    return len(attempt.batch) < 2 or run.landing[-1] == attempt.batch[-1]


def halve(run: Run, names: tuple[str, ...]) -> None:
    """Closes two batches over one that is red; one of a single member is verified by itself and joins no other."""
    half = len(names) // 2
    for place, name in enumerate(names):
        attempt = run.tasks[name].live
        assert attempt is not None
        attempt.batch = names[:half] if place < half else names[half:]

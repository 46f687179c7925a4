"""What must be kept: every object that is named or needed, and a ref for all finished work; and what of ours is in the user's refs.

The landing repository is checked whole, which its shallow history bounds. Of the user's repository only what swarm brought there is
checked: everything from our branches down to the commits that runs began at.

Rules for editing: a branch that a person moved on from our commit still keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from swarm.audit.breaches import Breach
from swarm.audit.folding import Fold
from swarm.core.model import ATTEMPT_ENDS, Attempt, Step, Task, TaskState, staging_branch
from swarm.core.run import Run
from swarm.edge import git, orphans
from swarm.edge.landing import PINS, LandingRepository, founding_ref, is_old_finish, pin_ref
from swarm.edge.saved import saved

OURS = (
    "refs/heads/swarm/",
    PINS,
    "refs/finishes/",
    "refs/bases/",
    "refs/swarm/",
)  # where refs of ours could be in a user's repository
FSCK_TIMEOUT_S = 1800.0
_TOLD_LINES = 5


class Kept(NamedTuple):
    """An attempt that finished with work of its own."""

    run: Run
    task: Task
    attempt: Attempt

    @property
    def name(self) -> str:
        return f"attempt {self.attempt.n} of {self.task.spec.id}"


# --- objects (I15) ---


def whole(git_dir: Path) -> list[Breach]:
    """Has git check a repository of ours whole, where it is there."""
    if not (git_dir / "HEAD").exists():
        return []
    asked = ("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
    done = git.run(*asked, git_dir=git_dir, ok=range(256), timeout_s=FSCK_TIMEOUT_S)
    if done.code == 0:
        return []
    lines = [*git.decode(done.out).splitlines(), *done.err.splitlines()]
    told = "; ".join(line for line in lines if line.strip())
    shown = "; ".join(told.split("; ")[:_TOLD_LINES])
    return [Breach("I15", f"git fsck finds the landing repository damaged: {shown or f'exit {done.code}'}.")]


def reachable(git_dir: Path, users: Mapping[str, str], bases: Iterable[str]) -> Iterator[Breach]:
    """Finds out whether all that our branches in the user's repository need is there, down to where runs began."""
    objects = git.Objects(git_dir)
    try:
        known = sorted(set(bases))
        there = [base for base, kind in zip(known, objects.kinds(known), strict=True) if kind is not None]
    finally:
        objects.close()
    tips = sorted({oid for name, oid in users.items() if name.startswith(OURS[0])})
    if not tips:
        return
    asked = "".join([*(f"{tip}\n" for tip in tips), *(f"^{base}\n" for base in there)]).encode()
    walk = ("rev-list", "--objects", "--quiet", "--stdin")
    done = git.run(*walk, git_dir=git_dir, input=asked, ok=range(256), timeout_s=FSCK_TIMEOUT_S)
    if done.code != 0:
        yield Breach(
            "I15", f"Objects of swarm's branches are missing in your repository: {git.last_line(done.err)}."
        )


# --- refs (I15, I18, I20) ---


def work(
    fold: Fold,
    runs: Iterable[Run],
    landing: LandingRepository,
    pins: Mapping[str, str],
    users: Mapping[str, str],
    common: Path,
) -> Iterator[Breach]:
    """Finds finished work that no ref keeps, and commits that the journal names and nobody has."""
    kept = [
        Kept(run, task, attempt)
        for run in runs
        for task in run.tasks.values()
        for attempt in task.attempts
        if attempt.head is not None and attempt.head != attempt.base and attempt.step is not Step.LANDED
    ]
    for each in kept:
        yield from _kept_by_branch(each, landing, pins, users, common)
    yield from _pinned(fold, runs, pins)
    yield from _named(fold, landing)


def _kept_by_branch(
    each: Kept, landing: LandingRepository, pins: Mapping[str, str], users: Mapping[str, str], common: Path
) -> Iterator[Breach]:
    run, task, attempt = each
    head, branch = str(attempt.head), attempt.branch
    stands = users.get(f"refs/heads/{branch}")
    if stands == head or (stands is not None and git.contains(common, stands, head)):
        return
    if attempt.step is Step.BRINGING_IN and task.spec.by_hand:
        return  # a person's commits are on their branch until this step has put them on one of ours
    pinned = pins.get(pin_ref(run.id, task.spec.id, attempt.n)) == head
    if task.state is TaskState.LANDED and pinned:
        return  # a later attempt has landed; a person may tidy up the branches of earlier ones
    where = f"stands at {stands[:12]}" if stands else "is gone"
    has = "; the landing repository still has it" if pinned else ""
    text = f"Branch {branch} {where}, and the work of {each.name} is {head[:12]}{has}"
    at_hand = pinned or landing.objects.kind(head) is not None
    step = (
        f"git fetch {landing.path} {head} && git branch {branch} {head}"
        if at_hand
        else f"git branch {branch} {head}"
    )
    yield Breach("I15", f"{text}.", run=run.id, next_step=step)


def _pinned(fold: Fold, runs: Iterable[Run], pins: Mapping[str, str]) -> Iterator[Breach]:
    """Whatever was brought in is pinned, and nothing is pinned that was not."""
    assert fold.swarm is not None
    attempts = {
        pin_ref(run.id, name, attempt.n): (run, name, attempt)
        for run in fold.swarm.runs.values()
        for name, task in run.tasks.items()
        for attempt in task.attempts
    }
    looked_at = {run.id for run in runs}
    for ref, (run, name, attempt) in attempts.items():
        if run.id not in looked_at or (run.id, name, attempt.n) not in fold.brought_in:
            continue
        # Then only what was live was brought in.
        again = attempt.step in ATTEMPT_ENDS and founding_ref(run.id) in pins
        if pins.get(ref) != attempt.head and not (again and ref not in pins):
            text = f"The landing repository keeps {pins.get(ref, 'nothing')[:12]} for attempt {attempt.n} of {name}"
            yield Breach("I15", f"{text}, and {str(attempt.head)[:12]} was brought in.", run=run.id)
    founded = {founding_ref(run.id) for run in fold.swarm.runs.values()}
    for ref in pins:
        if ref.startswith(PINS) and ref not in attempts and not is_old_finish(ref) and ref not in founded:
            yield Breach(
                "I18", f"The landing repository has {ref}, an attempt that the journal does not know."
            )


def _named(fold: Fold, landing: LandingRepository) -> Iterator[Breach]:
    assert fold.swarm is not None
    prepared = [run for run in fold.swarm.runs.values() if run.prepared]
    named = {run.base_commit: f"the base of {run.id}" for run in prepared}
    for run_id, advances in fold.advances.items():
        named |= {each.commit: f"the landing of {each.task} in {run_id}" for each in advances}
    wanted = sorted(named)
    for oid, kind in zip(wanted, landing.objects.kinds(wanted), strict=True):
        if kind is None or kind[0] != "commit":
            yield Breach("I15", f"Commit {oid[:12]}, {named[oid]}, is not in the landing repository.")


def without_state(common: Path) -> list[Breach]:
    """Finds what is left of swarm in a repository that has no state of swarm's any more."""
    found = []
    for each in orphans.find(common, (), before=math.inf):
        cause = f"{each.text[0].upper()}{each.text[1:]}, and swarm's state, which knew it, is gone."
        found.append(Breach("I13" if each.kind == "worktree" else "I20", cause, next_step=each.removal))
    return found


def unowned(fold: Fold, users: Mapping[str, str], common: Path) -> Iterator[Breach]:
    """Finds refs below swarm's names that nothing accounts for, and settings of ours in the user's configuration."""
    assert fold.swarm is not None
    known = set()
    for run in fold.swarm.runs.values():
        known.add(f"refs/heads/{staging_branch(run.id)}")
        known.update(
            f"refs/heads/{attempt.branch}" for task in run.tasks.values() for attempt in task.attempts
        )
    known.update(f"refs/heads/{each.branch}" for each in saved(common))
    for name, oid in users.items():
        if name not in known:
            text = f"Nothing accounts for {name}, which stands at {oid[:12]}"
            yield Breach(
                "I20", f"{text}.", next_step=f"git update-ref -d {name} {oid}, once you know what it holds"
            )
    listed = git.run(
        "config", "--file", str(common / "config"), "--list", "-z", git_dir=common, ok=range(256)
    )
    for entry in git.decode(listed.out).split("\0"):
        key, _, value = entry.partition("\n")
        if key.startswith("swarm.") or (key == "core.hookspath" and value == "/dev/null"):
            yield Breach(
                "I20",
                f"Your repository's configuration has {key} = {value}.",
                next_step=f"git config --unset {key}",
            )

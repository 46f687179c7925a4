"""The commands of one attempt, from an empty repository to a landing that is followed, each carried out in a process of its own.

`python -m tests.crash.steps FOLDER STEP` opens the edges as a daemon does when it comes up, carries out one command of `STEPS` and
prints its answer. What the earlier steps answered is read from `FOLDER/answers.json`; whoever calls writes it there. The clock
stands still, so that a step that was killed and is carried out again must answer exactly what it would have answered.

Rules for editing: the commands are those that the machine builds; nothing is done here that a daemon would not do.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swarm import config
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.admission import Pressure
from swarm.core.model import Limits, attempt_branch
from swarm.core.places import Places
from swarm.daemon import execution, reconcile
from swarm.edge import git
from swarm.edge.journal import Journal, record_of
from swarm.edge.place import places_of

RUN, TASK = "r", "t"
AT = 1_700_000_000.0
RECORDS = [record_of("fact", {"type": "Swept", "at": AT, "number": number}) for number in range(3)]

Answers = Mapping[str, Mapping[str, Any]]


def _attempt(n: int = 1) -> dict[str, Any]:
    return {"run": RUN, "task": TASK, "attempt": n}


def _take(answers: Answers, n: int, base: str) -> cmd.Command:
    return cmd.TakeWorktree(**_attempt(n), base=base)


def _collect(answers: Answers) -> cmd.Command:
    return cmd.Collect(
        **_attempt(),
        base=answers["prepare"]["commit"],
        worktree=answers["take"]["path"],
        branch=attempt_branch(RUN, TASK, 1),
        title="work",
    )


def _merge(answers: Answers) -> cmd.Command:
    base = answers["prepare"]["commit"]
    head = answers["collect"]["head"]
    return cmd.Merge(**_attempt(), onto=base, head=head, title="work", verified=(), at=AT, base=base)


def _advance(answers: Answers) -> cmd.Command:
    base, new = answers["prepare"]["commit"], answers["merge"]["candidate"]
    return cmd.Advance(**_attempt(), new=new, old=base, head=answers["collect"]["head"], base=base)


# In order. `{}` stands for what the work of a worker is: done by `work`, not by a command.
STEPS: dict[str, Callable[[Answers], cmd.Command]] = {
    "prepare": lambda a: cmd.PrepareRun(run=RUN, base=a["start"]["base"]),
    "take": lambda a: _take(a, 1, a["prepare"]["commit"]),
    "collect": _collect,
    "give_back": lambda a: cmd.GiveBackWorktree(**_attempt(), worktree=a["take"]["path"]),
    "bring_in": lambda a: cmd.BringIn(**_attempt(), head=a["collect"]["head"], base=a["prepare"]["commit"]),
    "merge": _merge,
    "advance": _advance,
    "publish": lambda a: cmd.Publish(
        run=RUN, commit=a["merge"]["candidate"], old=a["prepare"]["commit"], published=a["prepare"]["commit"]
    ),
    "follow": lambda a: cmd.Follow(run=RUN, commit=a["merge"]["candidate"], old=a["prepare"]["commit"]),
    "take_again": lambda a: _take(a, 2, a["merge"]["candidate"]),
    "give_back_dirty": lambda a: cmd.GiveBackWorktree(**_attempt(2), worktree=a["take_again"]["path"]),
}
# A worktree that was given back is what it should be when it is taken the next time, and not before: these are not swept.
AFTERWARDS: dict[str, Callable[[Answers], cmd.Command]] = {
    "take_next": lambda a: _take(a, 3, a["prepare"]["commit"]),
}
JOURNAL = "journal"
REMOVE = "remove"  # the last: the pool's free worktrees are torn down


def carry_out(folder: Path, step: str, answers: Answers) -> dict[str, Any]:
    """Carries one step out on `folder/repo`, edges opened and swept first; gives its answer as JSON data."""
    repository = git.Repository.discover(folder / "repo")
    places = places_of(repository.common_dir / "swarm")
    places.state.mkdir(mode=0o700, exist_ok=True)
    if step == JOURNAL:
        return _append(places)
    settings = config.load(repository.working_top(), os.environ, {})
    edges = reconcile.open_edges(places, repository, settings, dict(os.environ))
    loop = asyncio.new_event_loop()
    try:
        doing = execution.Execution(
            edges,
            _no_answer,
            lambda: AT,
            loop,
            wants_readings=lambda: False,
            limits=Limits,
            pressure=lambda: Pressure.NONE,
            growing=tuple,
            wanted_bytes=int,
        )
        reconcile.reconcile(_known(answers), edges)
        if step == REMOVE:
            edges.pool.trim(0)
            return {"members": len(edges.pool.members())}
        command = {**STEPS, **AFTERWARDS}[step](answers)
        # In this thread, for strace follows one: a daemon does the same in one of several.
        event = doing._threaded[type(command)](command)
    finally:
        edges.close()
        loop.close()
    assert event is not None
    return m.event_to_json(event)


def _known(answers: Answers) -> reconcile.Known:
    """Says what the journal would: who has which worktree, and where staging is shown."""
    base = answers["start"]["base"]
    leases = {}
    for n, (taken, given_back) in enumerate((("take", "give_back"), ("take_again", "give_back_dirty")), 1):
        if taken in answers and given_back not in answers:
            started = base if n == 1 else answers["merge"]["candidate"]
            leases[f"{RUN}/{TASK}/{n}"] = (Path(answers[taken]["path"]), started)
    staging = {}
    if "prepare" in answers:
        at = answers["follow"]["commit"] if "follow" in answers else base
        staging[RUN] = (
            Path(answers["prepare"]["worktree"]),
            at,
            answers.get("publish", {}).get("commit", at),
        )
    return reconcile.Known(staging=staging, leases=leases, alone=True)


def _no_answer(event: m.Event) -> None:
    raise AssertionError(f"nobody asked for {event}")


def _append(places: Places) -> dict[str, Any]:
    """Appends one batch where it is not there yet, as a daemon that takes over does."""
    with Journal.open(places.journal) as journal:
        journal.begin_epoch()
        if journal.last_seq() == 0:
            journal.append(RECORDS)
        wrong = journal.verify()
        assert wrong == [], wrong
        return {"seq": journal.last_seq(), "numbers": [row.data["number"] for row in journal.read()]}


def main(arguments: list[str]) -> int:
    """Carries out the step that is named and prints its answer."""
    folder, step = Path(arguments[0]), arguments[1]
    answers = json.loads((folder / "answers.json").read_text())
    print(json.dumps(carry_out(folder, step, answers)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Plans as they are named and given: found, read, checked against this repository, and their states written back; nothing runs.

Rules for editing: as for `offline`, beside which this stands: no daemon is asked, and no journal written. Imports that cost
start-up time are inside the functions that need them.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from swarm.errors import SwarmError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from swarm.core.check import Reading
    from swarm.settings import Settings

SPEC_FOLDERS = (".auto-claude/specs", "specs", ".swarm/specs", ".")


class Given(NamedTuple):
    """A plan as it was given: `source` names it for people, `path` is where it really is, None of one that is in no file."""

    source: str
    data: bytes
    path: str | None


def name_for(title: str) -> str:
    """Makes an id of a title in which nothing is of `a-z0-9`, by the rule for names of the contract."""
    from swarm.core.model import slug

    return slug(title)


def given(argument: str | Mapping[str, Any], top: Path) -> Given:
    """Reads a plan, by its name or as a mapping, once and bounded. Raises `UsageError`."""
    from swarm.edge import planfile

    if not isinstance(argument, str):
        return Given("plan.json", json.dumps(argument).encode(), None)
    path = _find(argument, top)
    data = planfile.read(path)
    if path.is_file():
        return Given(str(path), data, os.path.realpath(path))
    open_one = path.parts[1:2] in (("dev",), ("proc",))  # the number of `<(generate)` must not name the run
    return Given("plan" if open_one else str(path), data, None)


def _find(argument: str, top: Path) -> Path:
    """Finds the plan file that `argument` means: a file or pipe, a folder that holds one, or the number of a spec folder."""
    from pathlib import Path

    if not argument:  # which would be the folder that we are in, and what lies there nobody named
        raise UsageError(
            "The name of the plan is empty.",
            "Nothing was done.",
            "say which is meant; a variable in the command may not be set",
        )
    path = Path(argument)
    if path.is_dir():
        return _plan_in(path)
    if path.exists():
        return path
    from swarm.core import plan

    found = []
    for place in SPEC_FOLDERS:
        folder = top / place
        if folder.is_dir():
            names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
            found += [folder / name for name in plan.match_spec(argument, names)]
    if len(found) == 1:
        return _plan_in(found[0])
    if found:
        listed = ", ".join(str(each) for each in found)
        raise UsageError(
            f"{argument} means several folders: {listed}.", "Nothing was done.", "name one of them"
        )
    raise UsageError(
        f"There is no plan {argument}.", "Nothing was done.", "give a file, a folder, or a spec's number"
    )


def _plan_in(folder: Path) -> Path:
    from swarm.core import plan

    name = plan.choose_in_folder(entry.name for entry in folder.iterdir() if entry.is_file())
    if name is None:
        raise UsageError(f"{folder} holds no plan.", "Nothing was done.", "name the file itself")
    return folder / name


def check(
    arguments: Iterable[str | Mapping[str, Any]], top: Path, settings: Settings
) -> tuple[dict[str, Any], str, int]:
    """Checks plans, named or as mappings, and runs none; gives the document, the text for people, and the exit code (0 or 2). Of
    several one that can't be got at is not valid; raises `UsageError` where it is the only one."""
    from swarm.core import discover, plan
    from swarm.edge import project

    named = list(arguments)
    readings = [_read_of_all(argument, len(named), top, settings) for argument in named]
    readings = _held_against(readings, top, settings)
    wanted = any(reading.plan is not None and discover.asks(reading.plan) for _, reading in readings)
    document = plan.check_document(readings, project.look(top) if wanted else None)
    return document, plan.check_text(document), 0 if document["ok"] else 2


def _read_of_all(
    argument: str | Mapping[str, Any], number: int, top: Path, settings: Settings
) -> tuple[str, Reading]:
    """Understands one plan of so many; where that is several, what can't be got at keeps nobody from hearing of the others."""
    from swarm.core.check import Reading
    from swarm.core.document import Problem

    try:
        return read(argument, top, settings)
    except UsageError as error:
        if number == 1 or not isinstance(argument, str):
            raise
        return argument, Reading(None, (Problem("", error.cause),))


def _held_against(
    readings: list[tuple[str, Reading]], top: Path, settings: Settings
) -> list[tuple[str, Reading]]:
    """Adds what `run` would say of the repository that the plans are for; nothing where this is none that runs can be in."""
    from swarm.daemon import intake
    from swarm.edge import git

    def held(reading: Reading) -> Reading:
        found = intake.with_astray(intake.with_base_looked_up(reading, repository), repository, settings)
        return intake.with_hindrances(found, repository, settings)

    try:
        repository = git.Repository.discover(top)
        held_ones = [(source, held(reading)) for source, reading in readings]
    except SwarmError:
        return readings
    intake.check_worktrees(settings, repository)
    return held_ones


def read(argument: str | Mapping[str, Any], top: Path, settings: Settings) -> tuple[str, Reading]:
    """Understands a plan as far as it goes; gives its file too."""
    from swarm import config
    from swarm.core import plan
    from swarm.daemon import intake

    source, data, _ = given(argument, top)
    found = plan.read(data, source=source, defaults=config.to_defaults(settings))
    return source, intake.with_foreign_claims(intake.with_unknown_agents(found, settings), settings)


def read_edited(text: str, source: str, settings: Settings) -> tuple[list[str], list[str]]:
    """Gives the tasks of a plan that came of a goal and was edited since, and what is wrong with it."""
    from swarm.daemon import intake

    reading = intake.drafted(text, source, settings)
    names = [task.id for task in reading.plan.tasks] if reading.plan is not None else []
    return names, [": ".join(filter(None, (each.place, each.text))) for each in reading.errors]


def check_submission(
    data: bytes, source: str, only: Iterable[str], top: Path, here: Path, state: Path
) -> None:
    """Raises what a daemon would answer to a plan that it can't take in, so that none is started for it.

    `here` is the checkout that one stands in.
    """
    from swarm import config
    from swarm.core.places import Places
    from swarm.daemon import intake
    from swarm.edge import git
    from swarm.edge.journal import ever_used

    repository = git.Repository.discover(top)
    settings = config.load(repository.working_top(), os.environ)
    intake.check_worktrees(settings, repository)
    known = ever_used(
        Places(state)
    )  # then it may go on with a run, whose base is recorded, or the journal is to be rebuilt
    base = None if known else intake.checkout(repository, str(here))
    root = repository.working_top() / settings.worktrees.root
    intake.check(data, source, tuple(only), settings, base, os.environ, root)


def check_write_back(data: bytes, source: str) -> None:
    """Raises `UsageError` where no progress can be written back to a plan file: a native plan holds no states, and a file in a
    folder that can't be written to is not replaced. What is no valid plan is left to who reads it, and tells all that is wrong."""
    from swarm.core import plan
    from swarm.core.model import Defaults

    if plan.read(data, source=source, defaults=Defaults()).errors:
        return
    plan.write_back(data, {}, source=source)
    folder = os.path.dirname(os.path.realpath(source))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"No progress can be written back to {source}: nothing can be written in {folder}.",
            "Nothing was done.",
            "leave --write-back out, or name a copy of the plan",
        )


def write_back(path: Path, state: Path, states: Mapping[str, str]) -> None:
    """Sets the states of tasks in a plan file of another system; see `planfile.write_back`."""
    from swarm.core.model import TaskState
    from swarm.edge import planfile

    planfile.write_back(path, state, {task: TaskState(word) for task, word in states.items()})


def schema() -> dict[str, Any]:
    """Gives the JSON Schema of a native plan."""
    from swarm.core import plan

    return plan.schema()

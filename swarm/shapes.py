"""The shapes of what goes over the wire: the bodies of `protocol`'s routes that are more than a field or two.

Rules for editing: for the type checker, which holds the daemon's side to them, and the reader; nothing runs here. A field that an
older client can't do without needs a new `protocol.API_VERSION`.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class PingAnswer(TypedDict):
    """Who answers, and the last `seq` of its event log, from which on a client that comes now wants to be told."""

    api: int
    version: str
    pid: int
    seq: int


class WaitAnswer(TypedDict):
    """That a run has not ended yet: what keeps it from going on, as its status has it, and a `mark` that is another for anything
    else."""

    ended: bool
    problems: list[str]
    mark: str


class Source(TypedDict):
    """A plan file as it goes to the daemon: its path, for messages, and its bytes. `path` is where it really is, by which it is
    known again; a plan that is in no file has none."""

    source: str
    path: NotRequired[str]
    data_base64: str


class SubmitRequest(TypedDict):
    """A plan; `only` limits it to these tasks and what they need, `verify` adds suites, `changed` has what landed done again where
    what it was made from has changed, `here` is the top of the checkout that the
    asker stands in: what is checked out there a new run starts from."""

    plan: Source
    only: list[str]
    sequential: bool
    fail_fast: bool
    verify: list[str]
    changed: NotRequired[bool]
    here: NotRequired[str]


class SubmitNotes(TypedDict, total=False):
    """What of an answer to a submission is there only where it says something.

    `again` are the added tasks that do work again, each with why, where that was asked for; `verify_found` are the suites that
    `verify = "auto"` found, each with what it was told by. `verify_lifted` are the commands that verified the run before and do
    not any more, `no_effect` says what of the plan comes too late. `left_out` are the tasks that the same file named before and
    does not any more, and that are wanted all the same. `finished_before` is what a plan of another system says has been done:
    nothing of it is added.
    """

    finished_before: list[str]
    again: dict[str, list[str]]
    verify_found: list[dict[str, str]]
    verify_lifted: list[str]
    no_effect: list[str]
    left_out: list[str]


class SubmitAnswer(SubmitNotes):
    """What submitting changed; `verify` are the commands of the suites that every candidate has to pass."""

    run: str
    added: list[str]
    replaced: list[str]
    unchanged: int
    verify: list[str]


class GoalRequest(TypedDict):
    """What is wanted, and how far to go for it: `kind` is scout, plan or build. `questions` are those of scouts; with none they are
    asked what there is to know before a plan. `id` "" has one made. `approved` is an approval beforehand, `sequential` and `verify`
    hold for the plan that comes of it."""

    kind: str
    text: str
    questions: list[str]
    id: str
    approved: bool
    sequential: bool
    verify: list[str]
    here: str


class GoalAnswer(TypedDict):
    """The run that goes for it; `joined` tells that it had begun before."""

    run: str
    joined: bool


class ApproveRequest(TypedDict):
    """The plan of a run is approved of as its file's content, named by `digest`, says; "" for no new approval. With `build` it is
    taken in, where what was approved of is what the file says now."""

    run: str
    digest: str
    build: bool


class AddRequest(TypedDict):
    """One task, as a table of a native plan; `run` None means the only run there is. With `id_from_title` its id may be changed
    where a task with another title has it."""

    run: str | None
    task: dict[str, Any]
    id_from_title: NotRequired[bool]


class AddAnswer(SubmitAnswer):
    """What adding a task changed; `task` is its id."""

    task: str


class WatchRequest(TypedDict):
    """The plan file of this run that is to be watched, by its absolute path; "" for none any more."""

    run: str
    source: str


class RetryRequest(TypedDict):
    """These tasks, or every failed one. `run` None means wherever the tasks are found."""

    run: str | None
    tasks: list[str]
    failed: bool


class FirstRequest(TypedDict):
    """These tasks, in this order. `run` None means wherever they are found."""

    run: str | None
    tasks: list[str]


class CancelRequest(TypedDict):
    """These tasks, or with None the whole run."""

    run: str | None
    tasks: list[str] | None


class UndoRequest(TypedDict):
    """This landed task is to be taken off staging again; with `preview` it is only said what that means."""

    run: str | None
    task: str
    preview: bool


class UndoAnswer(TypedDict):
    """What an undo means: tasks that are `undone`, newest landing first, `cancelled` at work, `blocked` before they start.

    `commit` is the revert, None in a preview and where the task had been undone already (then nothing is listed). `still_on` are
    branches of the user's that have what is undone, and not the revert: the run was finished into them.
    """

    run: str
    task: str
    undone: list[str]
    cancelled: list[str]
    blocked: list[str]
    commit: str | None
    still_on: list[str]


class EndedAgain(TypedDict):
    """A task that was to be tried again and came to nothing in the same moment: how it ended, why, what to type."""

    task: str
    state: str
    text: str
    next: str


class TasksAnswer(TypedDict):
    """The tasks that were changed; `ended` are those of a retry that no attempt can be made at."""

    run: str
    tasks: list[str]
    ended: NotRequired[list[EndedAgain]]


class PauseRequest(TypedDict):
    """One task, one run, or with two None everything."""

    run: str | None
    task: str | None


class SettingRow(TypedDict):
    """One setting, its value as JSON has it, and where that comes from."""

    key: str
    value: Any
    source: str


class SettingsAnswer(TypedDict):
    """The settings that the daemon goes by."""

    settings: list[SettingRow]


class ScaleRequest(TypedDict):
    """The widest number of workers from now on."""

    workers_max: int


class TellRequest(TypedDict):
    """A note for the next attempt of a task."""

    run: str | None
    task: str
    text: str


class TellAnswer(TypedDict):
    """The task that a note was left for, and its state."""

    run: str
    task: str
    state: str


class FinishRequest(TypedDict):
    """Staging is wanted on `into` (None: the run's base branch); `partial` allows tasks that have not landed. With `propose` the
    client will propose it there: all that finishing asks for is looked at, and nothing is moved. By its `key`, which nobody else
    uses, it can be taken back."""

    run: str | None
    into: str | None
    stage_only: bool
    preview: bool
    partial: bool
    propose: NotRequired[bool]
    key: NotRequired[str]


class FinishFacts(TypedDict):
    """What finishing did, or with `preview` would do. `commit` is where the target stands then, `old_commit` where it stood.

    `outcome` is finished, staged, preview, proposed or nothing (staging was on the target already); `missing` are tasks that did
    not land; `paths` what changes on the target, `conflicts` where staging does not merge; `text` a sentence for people. Of a
    preview `refused` says why it would not be done, "" where it would. `unapproved` says why no reviewer has approved of what
    stands on staging, "" where one has, or none was to.
    """

    run: str
    into: str
    outcome: str
    commit: str | None
    old_commit: str | None
    landed: list[str]
    missing: list[str]
    paths: list[str]
    conflicts: list[str]
    text: str
    refused: NotRequired[str]
    unapproved: NotRequired[str]


class StopRequest(TypedDict):
    """How the daemon goes down, one of `STOP_MODES`."""

    mode: str

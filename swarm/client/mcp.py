"""`swarm mcp`: the swarm as tools of the Model Context Protocol, on standard input and output.

A thin bridge over `library`: it holds nothing, so it may end and come again, and so may the daemon. Each tool names the repository
by a directory; without one it is that of the server. Loads the mcp package, which is an extra.

Rules for editing: what a tool gives has a type, or clients get text alone. An error is the sentence that the command would print.
Nothing may be written to standard output but the protocol.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, ParamSpec, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from pydantic import Field, ValidationError
from typing_extensions import TypedDict  # pydantic reads nested ones of typing from Python 3.12 on

import swarm as package
from swarm.client import naming, telling
from swarm.client.library import AsyncSwarm
from swarm.errors import SwarmError, UsageError, WaitTimedOut
from swarm.protocol import WORKERS_MAX, printable

LINES = 100  # of each output, where nobody says
LINE_BYTES_MAX = 1 << 22  # of an output's end, in which these are looked for
P = ParamSpec("P")
R = TypeVar("R")

Directory = Annotated[str, Field(description="A directory of the repository; that of the server if empty.")]
Run = Annotated[str, Field(description="The run's id; may be empty where there is only one.")]
Task = Annotated[str, Field(description="The task's id, or run/task.")]

INSTRUCTIONS = """\
Carries out tasks on a git repository, many at once, each by a worker in a worktree of its own, and lands on a staging
branch only what merges cleanly and passes its verification. Begin with run_task (one task, in words or as a command),
submit (a plan file) or build (a goal, planned first): all return at once with the id of a run. Then wait, or status. What
failed says why, can be looked at with show, logs and diff, and tried again with retry. finish merges staging into the
user's branch: ask the user before."""


class TaskState(TypedDict):
    """A task of a run: its `state`, why it is there, and how often it was tried."""

    id: str
    title: str
    state: str
    reason: str | None
    attempts: int
    landed_commit: str | None


class RunState(TypedDict):
    """A run: how many tasks are in each state, where its staging branch stands, and what a person should see to. `stage` says how
    far one that began with a goal has come, `mode` how its work really went (parallel or sequential), `width` how many at once."""

    id: str
    state: str
    ended: bool
    counts: dict[str, int]
    staging_branch: str
    staging_commit: str
    verified: bool
    stage: str | None
    mode: str | None
    width: int
    problems: list[str]
    tasks: list[TaskState]


class Status(TypedDict):
    """All runs of a repository, and whether anything can start."""

    daemon_running: bool
    capacity: str
    runs: list[RunState]


class Submitted(TypedDict):
    """What submitting changed; `run` is the id to wait for, `again` what is done again of what has landed, with why. `left_out` are
    tasks that the plan does not name any more: they are done all the same, unless they are cancelled."""

    run: str
    added: list[str]
    replaced: list[str]
    unchanged: int
    again: dict[str, list[str]]
    left_out: list[str]


class Checked(TypedDict):
    """Whether a plan is valid, with every error and warning and its place, and in which waves its tasks can go."""

    ok: bool
    errors: list[str]
    warnings: list[str]
    waves: list[list[str]]


class Findings(TypedDict):
    """What scouts found, as one text, and how far they are."""

    run: str
    stage: str
    merged: str


class Planned(TypedDict):
    """How far a goal has come (`stage`), and the plan that came of it: its file, its text, and whether that was approved of."""

    run: str
    stage: str
    file: str | None
    text: str | None
    approved: bool


class Tasks(TypedDict):
    """The tasks that were changed."""

    run: str
    tasks: list[str]


class Verified(TypedDict):
    """Whether all suites passed on staging, and what there is to say of them."""

    ok: bool
    text: str


class Finished(TypedDict):
    """What a finish did: `outcome` is finished, staged, preview, proposed or nothing."""

    outcome: str
    into: str
    commit: str | None
    missing: list[str]
    conflicts: list[str]
    text: str


def _tool(body: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Has an error of ours told as a tool's error, in the words that a person would read."""

    @functools.wraps(body)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await body(*args, **kwargs)
        except SwarmError as error:
            raise ToolError(str(error)) from None

    return call


# --- work ---


@_tool
async def run_task(
    task: Annotated[str, Field(description="What is wanted, for the agent that does it.")],
    directory: Directory = "",
    title: str = "",
    command: Annotated[str, Field(description="A shell command that does it, instead of an agent.")] = "",
    agent: Annotated[str, Field(description="The agent; the repository's default one if empty.")] = "",
    claims: Annotated[tuple[str, ...], Field(description="Paths that it may change; all if empty.")] = (),
    verify: Annotated[
        tuple[str, ...], Field(description='Commands that must pass; "auto" finds what the project has.')
    ] = (),
) -> Submitted:
    """Begins one task as a run of its own and returns at once with the run's id."""
    if not task.strip() and not command.strip():
        raise UsageError(
            "There is no task.",
            "Nothing was begun.",
            "say in task what is wanted, or in command what does it",
        )
    called = title.strip() or task.strip() or command.strip()
    name = re.sub(r"[^a-z0-9]+", "-", called.lower()).strip("-")[:40].strip("-") or "task"
    table = {
        "id": "task",
        "title": title or called.splitlines()[0][:80],
        "prompt": task,
        "claims": claims,
    }
    table |= {"agent": "command", "run": command} if command else {}
    table |= {"agent": agent} if agent else {}
    swarm = AsyncSwarm(directory or ".")
    await swarm.start()
    plan = {
        "name": f"{name}-{os.urandom(3).hex()}",
        "verify": "auto" if verify == ("auto",) else verify,
        "tasks": [table],
    }
    return _submitted(await swarm.submit(plan))


@_tool
async def submit(
    plan: Annotated[
        str, Field(description="A plan file, a folder with one, or the number of a spec folder.")
    ],
    directory: Directory = "",
    only: Annotated[tuple[str, ...], Field(description="Only these tasks, and what they need.")] = (),
    sequential: Annotated[bool, Field(description="One task at a time, in the order of the plan.")] = False,
    workers: Annotated[
        int, Field(description="Most workers at once; 0: as the settings say.", ge=0, le=WORKERS_MAX)
    ] = 0,
    changed: Annotated[
        bool,
        Field(description="Do again what has landed and was made from something that has changed since."),
    ] = False,
) -> Submitted:
    """Begins a plan, or adds what is new in it to its run, and returns at once with the run's id. Tasks go in parallel unless
    sequential."""
    swarm = AsyncSwarm(directory or ".")
    await swarm.start(workers=workers or None)
    return _submitted(await swarm.submit(plan, only=only, sequential=sequential, changed=changed))


@_tool
async def check(plan: str, directory: Directory = "") -> Checked:
    """Validates a plan without running it."""
    document = await AsyncSwarm(directory or ".").check(plan)
    (found,) = document["plans"]
    problems = {
        kind: [": ".join(filter(None, (p["place"], p["text"]))) for p in found[kind]]
        for kind in ("errors", "warnings")
    }
    return {"ok": document["ok"], **problems, "waves": found["waves"]}  # type: ignore[typeddict-item]


@_tool
async def wait(
    context: Context[Any, Any], run: Run = "", directory: Directory = "", timeout_s: float = 600.0
) -> RunState:
    """Waits until every task of a run has ended, telling progress, or until the time is over; "ended" says which."""
    swarm = AsyncSwarm(directory or ".")
    name = str((await _run_of(swarm, run))["id"])
    loop_end = timeout_s
    while True:
        slice_s = min(5.0, loop_end)
        try:
            return _run_state(await swarm.wait(name, timeout_s=slice_s))
        except WaitTimedOut:
            loop_end -= slice_s
            found = await _run_of(swarm, name)
            counts = found["counts"]
            await context.report_progress(
                counts["landed"], sum(counts.values()), telling.summary_line(found, None)
            )
            if loop_end <= 0:
                return _run_state(found)


# --- look ---


@_tool
async def status(run: Run = "", directory: Directory = "") -> Status:
    """Tells how runs stand: each task's state and why it waits or failed."""
    document = await AsyncSwarm(directory or ".").status(run or None)
    return {
        "daemon_running": document["daemon"]["running"],
        "capacity": document["capacity"]["reason"],
        "runs": [_run_state(each) for each in document["runs"]],
    }


@_tool
async def show(task: Task, run: Run = "", directory: Directory = "") -> dict[str, Any]:
    """Gives everything known of a task: its attempts, their suites, and why each ended."""
    return dict(await AsyncSwarm(directory or ".").show(task, run=run or None))


@_tool
async def logs(
    task: Task,
    run: Run = "",
    directory: Directory = "",
    lines: Annotated[int, Field(description="Lines from the end of each output.", ge=1, le=10_000)] = LINES,
) -> dict[str, str]:
    """Gives the end of the output of a task's worker, and of each suite of its verification."""
    files = await AsyncSwarm(directory or ".").outputs(task, run=run or None)
    return {label: _end_of(os.fspath(path), lines) for label, path in files.items()}


@_tool
async def diff(
    task: Task,
    run: Run = "",
    directory: Directory = "",
    attempt: Annotated[int, Field(description="Of which attempt; of what counts if 0.", ge=0)] = 0,
) -> str:
    """Gives what a task changed, as a patch: its landing, else the work of its newest attempt that kept any."""
    patch = await AsyncSwarm(directory or ".").diff(task, run=run or None, attempt=attempt or None)
    return patch.decode("utf-8", "replace")


# --- from a goal ---

Wait = Annotated[
    bool, Field(description="Wait until it is done, instead of returning at once with the run's id.")
]


@_tool
async def scout(
    questions: Annotated[tuple[str, ...], Field(description="Each is looked into by a worker of its own.")],
    directory: Directory = "",
    wait: Wait = False,
) -> Findings:
    """Has questions about the project looked into, all at once, by workers that change nothing."""
    found = await AsyncSwarm(directory or ".").scout(*questions, wait=wait)
    return {"run": found["run"], "stage": found["stage"], "merged": found["merged"]}


@_tool
async def plan(
    goal: Annotated[
        str, Field(description="What is wanted, in a sentence; or the id of a run, to see its plan.")
    ],
    directory: Directory = "",
    approve: Annotated[bool, Field(description="Approve of the plan. Ask the user first.")] = False,
    wait: Wait = False,
) -> Planned:
    """Has a goal researched and a plan written for it, which the user is to approve of before build carries it out."""
    return _planned(await AsyncSwarm(directory or ".").plan(goal, approve=approve, wait=wait))


@_tool
async def build(
    goal: Annotated[
        str, Field(description="What is wanted, in a sentence; or the id of a run, to go on with it.")
    ],
    directory: Directory = "",
    approve: Annotated[bool, Field(description="Approve of whatever plan comes of it.")] = False,
    sequential: Annotated[bool, Field(description="One task at a time, in the order of the plan.")] = False,
    wait: Wait = False,
) -> RunState:
    """Goes from a goal to a verified staging branch: research, plan, approval, build, suites, review. Parallel unless
    sequential."""
    return _run_state(
        await AsyncSwarm(directory or ".").build(goal, approve=approve, sequential=sequential, wait=wait)
    )


# --- steer ---


@_tool
async def retry(
    tasks: Annotated[tuple[str, ...], Field(description="Which; all that failed if empty.")] = (),
    run: Run = "",
    directory: Directory = "",
) -> Tasks:
    """Tries failed or cancelled tasks of a run again."""
    return _tasks(await AsyncSwarm(directory or ".").retry(*tasks, run=run or None))


@_tool
async def cancel(
    tasks: Annotated[tuple[str, ...], Field(description="Which; the whole run if empty.")] = (),
    run: Run = "",
    directory: Directory = "",
) -> Tasks:
    """Gives tasks or a whole run up; the work done so far is kept."""
    return _tasks(await AsyncSwarm(directory or ".").cancel(*tasks, run=run or None))


@_tool
async def tell(task: Task, text: str, run: Run = "", directory: Directory = "") -> str:
    """Leaves a note that the next attempt at a task is given."""
    answer = await AsyncSwarm(directory or ".").tell(task, text, run=run or None)
    return f"The next attempt at {answer['task']} is told."


# --- finish ---


@_tool
async def verify(run: Run = "", directory: Directory = "") -> Verified:
    """Runs the verification suites on what stands on staging now."""
    document = await AsyncSwarm(directory or ".").verify(run or None)
    return {"ok": document["ok"], "text": telling.verify_text(document)}


@_tool
async def finish(
    run: Run = "",
    directory: Directory = "",
    into: Annotated[str, Field(description="A branch; the one that the run began from if empty.")] = "",
    preview: Annotated[bool, Field(description="Only tell what would be merged.")] = False,
    partial: Annotated[bool, Field(description="Also while tasks have not landed.")] = False,
    propose: Annotated[
        bool, Field(description="Merge nothing: push it and open a pull request by gh.")
    ] = False,
) -> Finished:
    """Merges verified work from staging into the user's branch, never forced. Ask the user first."""
    swarm = AsyncSwarm(directory or ".")
    document = await swarm.finish(
        run or None, into=into or None, preview=preview, partial=partial, propose=propose
    )
    facts = document["finish"] | {"text": telling.finish_text(document)}
    return {name: facts[name] for name in Finished.__annotations__}  # type: ignore[return-value]


# --- documents as tools give them ---


async def _run_of(swarm: AsyncSwarm, run: str) -> dict[str, Any]:
    return naming.run_of(await swarm.status(run or None), run or None)


def _submitted(answer: dict[str, Any]) -> Submitted:
    facts = {"again": {}, "left_out": [], **answer}
    return {name: facts[name] for name in Submitted.__annotations__}  # type: ignore[return-value]


def _planned(document: dict[str, Any]) -> Planned:
    made = document["plan"] or {"file": None, "text": None, "approved": None, "digest": ""}
    return {
        "run": document["run"],
        "stage": document["stage"],
        "file": made["file"],
        "text": made["text"],
        "approved": made["approved"] == made["digest"],
    }


def _tasks(answer: dict[str, Any]) -> Tasks:
    return {"run": answer["run"], "tasks": answer["tasks"]}


def _run_state(run: dict[str, Any]) -> RunState:
    counts: dict[str, int] = run["counts"]
    open_tasks = sum(counts.get(state, 0) for state in ("pending", "ready", "running", "queued", "landing"))
    return {
        "id": run["id"],
        "state": run["state"],
        "ended": not open_tasks,
        "counts": counts,
        "staging_branch": run["staging"]["branch"],
        "staging_commit": run["staging"]["commit"],
        "verified": run["staging"]["verified"],
        "stage": (run.get("goal") or {}).get("stage"),
        "mode": run.get("mode"),
        "width": run.get("width") or 0,
        "problems": run["problems"],
        "tasks": [
            {
                "id": task["id"],
                "title": task["title"],
                "state": task["state"],
                "reason": (task["reason"] or {}).get("text"),
                "attempts": len(task["attempts"]),
                "landed_commit": task["landed_commit"],
            }
            for task in run["tasks"]
        ],
    }


def _end_of(path: str, lines: int) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LINE_BYTES_MAX))
        found = file.read().decode("utf-8", "replace").splitlines()
    return "\n".join(found[-lines:])


# --- the server ---

TOOLS = (
    run_task,
    submit,
    scout,
    plan,
    build,
    check,
    wait,
    status,
    show,
    logs,
    diff,
    retry,
    cancel,
    tell,
    verify,
    finish,
)


class _StrictTool(Tool):  # type: ignore[misc, unused-ignore]  # Any, where the package is not there
    """A tool that refuses an argument that it does not have. The package drops it: a `finish` that was to be a preview, by a name
    that the model made up, would merge. What is missing or of another kind is told in words too, and not as pydantic does."""

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> Any:
        """Carries the tool out, once all its arguments are known ones."""
        known = list(self.parameters["properties"])
        if unknown := [name for name in arguments if name not in known]:
            raise ToolError(
                str(
                    UsageError(
                        f"{self.name} has no argument {', '.join(map(printable, unknown))}.",
                        f"Nothing was done. {naming.near(unknown[0], known)}".rstrip(),
                        f"it takes {', '.join(known)}",
                    )
                )
            )
        try:
            return await super().run(arguments, context, convert_result)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(str(self._refused(error.__cause__))) from None
            raise

    def _refused(self, error: ValidationError) -> UsageError:
        """Says what is wrong with arguments."""
        missing, wrong = [], []
        for each in error.errors(include_url=False, include_context=False, include_input=False):
            name = ".".join(map(str, each["loc"]))
            if each["type"] == "missing":
                missing.append(name)
            else:
                wrong.append(f"{name}: {each['msg'][:1].lower()}{each['msg'][1:]}")
        causes = [f"{self.name} needs {' and '.join(missing)}"] if missing else []
        causes += [f"{self.name} can't take {'; '.join(wrong)}"] if wrong else []
        takes = f"it takes {', '.join(self.parameters['properties'])}"
        return UsageError(f"{printable('. '.join(causes))}.", "Nothing was done.", takes)


def server() -> MCPServer[Any]:
    """Makes the server with its tools."""
    tools: list[Tool] = [_StrictTool.from_function(body) for body in TOOLS]
    for tool in tools:
        tool.parameters["additionalProperties"] = False
    return MCPServer(
        "swarm", instructions=INSTRUCTIONS, version=package.__version__, tools=tools, log_level="ERROR"
    )


def serve() -> None:
    """Serves on standard input and output until the client goes."""
    server().run("stdio")

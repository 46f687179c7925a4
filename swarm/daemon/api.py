"""The HTTP API on the daemon's socket: requests become events, documents come from `core/report`.

Every change is answered only when it is in the journal. Reading never waits for a turn.

Rules for editing: routes and bodies are those of `protocol` and `shapes`. What a request means is decided by the machine; what is
checked here is only what the machine can't know: files, branches, agents.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import swarm as package
from swarm import config, log, protocol, shapes
from swarm.core import messages as m
from swarm.core import plain, report, submission, suites
from swarm.core.merge_queue import can_go_first
from swarm.core.model import (
    TASK_ENDS,
    Finding,
    PlanSpec,
    Task,
    TaskState,
    staging_branch,
)
from swarm.core.plain import as_told
from swarm.core.run import Run
from swarm.core.state import IllegalEvent, Swarm
from swarm.daemon import closing as closings
from swarm.daemon import discarding, door, goals, intake, meant, reconcile, undoing
from swarm.daemon.coordinator import Coordinator
from swarm.daemon.execution import Execution
from swarm.daemon.submitting import Submitter
from swarm.edge import git, trouble
from swarm.edge.usage import Sampler
from swarm.errors import NoDaemon, Refused, SwarmError, UsageError

SEQ_MAX = (1 << 63) - 1  # what a journal can count to
FOLLOW_EVERY_S = 0.05  # at most so often is a client that follows woken up
_log = log.get("api")
Answer = Callable[["Api", Request], Awaitable[Response]]


class Document(JSONResponse):
    """An answer in JSON, in ASCII: names of files may hold bytes that are no text, and go through it as they are."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class Daemon(Protocol):
    """What the API asks of the daemon that serves it; `changing` counts the requests for a change that are being
    answered, `used` tells that one has been, `wishes` are the finishes that are asked for."""

    coordinator: Coordinator
    execution: Execution
    submitter: Submitter
    changing: int
    used: asyncio.Event
    wishes: closings.Wishes

    @property
    def closed(self) -> bool:
        """Whether it is too late to ask for a change."""

    def stop(self, mode: str) -> None:
        """Begins to stop."""

    def begin_work(self) -> None:
        """Has a daemon start work that was started only to be asked something."""

    def stay(self) -> None:
        """Gives up the intention to end when idle."""

    def notes(self) -> Sequence[str]:
        """Gives sentences on what a person should know and nothing waits for."""

    async def recover(self, *, dry_run: bool = False) -> Sequence[Finding]:
        """Holds worktrees, processes and refs against what the daemon knows, and mends what is not as it should be."""


def application(service: Daemon, *, looks_only: bool = False) -> Starlette:
    """Builds the application; for workers that are shut in one that `looks_only`, at a pace of its own."""
    api, pace = Api(service), door.Pace()
    routes = {
        path: (answer, method)
        for path, (answer, method) in _ROUTES.items()
        if path in _LOOKS or not looks_only
    }

    def route(path: str, answer: Answer, method: str) -> Route:
        async def endpoint(request: Request) -> Response:
            await pace.turn()
            try:
                return await (api.changed(request, answer) if method == "POST" else answer(api, request))
            except ClientDisconnect:
                return Response(status_code=400)  # which nobody gets any more
            except SwarmError as error:
                return Document(protocol.error_body(error), protocol.error_status(error))
            except IllegalEvent as error:
                refused = Refused(f"{error}.", "Nothing was changed.", "swarm status shows how things stand")
                return Document(protocol.error_body(refused), protocol.error_status(refused))
            except OSError as error:
                _log.warning("request.failed", path=path, exc_info=error)
                told = trouble.told(error, changes=method == "POST")
                return Document(protocol.error_body(told), protocol.error_status(told))
            except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
                wrong = UsageError(
                    f"The request can't be read: {type(error).__name__}: {str(error)[:200]}.",
                    "Nothing was done.",
                )
                _log.warning("request.unreadable", path=path, exc_info=error)
                return Document(protocol.error_body(wrong), protocol.error_status(wrong))

        return Route(path, endpoint, methods=[method])

    known = [route(path, answer, method) for path, (answer, method) in routes.items()]
    return Starlette(
        routes=[*known, Route("/{any:path}", _not_here, methods=["GET", "POST"])] if looks_only else known
    )


async def _not_here(_: Request) -> Response:
    refused = Refused(
        "This is refused inside a worker.",
        "Nothing was done: how things stand may be asked for here, and no more: status, show, claims, events, wait.",
    )
    return Document(protocol.error_body(refused), protocol.error_status(refused))


class Api:
    """Answers requests."""

    def __init__(self, service: Daemon) -> None:
        self.service = service
        self.coordinator = service.coordinator
        self.edges = service.execution.edges
        self.sampler: Sampler[tuple[str, str]] = Sampler()
        self._large = asyncio.Semaphore(door.LARGE_AT_ONCE)
        self.submitter = service.submitter

    @property
    def swarm(self) -> Swarm:
        return self.coordinator.swarm

    async def changed(self, request: Request, answer: Answer) -> Response:
        """Answers a request for a change, which holds a daemon up that would end by itself. One that comes when the daemon is
        ending is told so: nothing has been done, and the next daemon can be asked."""
        service = self.service
        if service.closed and request.url.path != protocol.STOP:
            raise _ending()
        service.changing += 1
        if request.url.path in _WORK:
            service.begin_work()
        try:
            return await answer(self, request)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise _ending() from None  # the loop ended before it took the event in
        finally:
            service.changing -= 1
            service.used.set()

    async def stay(self, _: Request) -> Response:
        """Keeps a daemon that would end by itself."""
        self.service.stay()
        return Document({})

    async def _body(self, request: Request) -> Any:
        size = int(request.headers.get("content-length", "0") or 0)
        if size > protocol.REQUEST_BYTES_MAX:
            raise UsageError(f"The request has {size} bytes, more than {protocol.REQUEST_BYTES_MAX}.")
        data = bytearray()
        async with contextlib.AsyncExitStack() as room:
            large = False
            async for chunk in request.stream():
                data += chunk
                if len(data) > protocol.REQUEST_BYTES_MAX:
                    raise UsageError(f"The request has more than {protocol.REQUEST_BYTES_MAX} bytes.")
                if not large and len(data) > door.LARGE_BYTES:
                    large = True
                    await room.enter_async_context(self._large)
            return json.loads(bytes(data))

    # --- reading

    async def ping(self, _: Request) -> Response:
        """Says who answers."""
        api, version = protocol.API_VERSION, package.__version__
        return Document(
            shapes.PingAnswer(api=api, version=version, pid=self.swarm.pid, seq=self.coordinator.seq)
        )

    async def status(self, request: Request) -> Response:
        """Gives the status document."""
        run = request.query_params.get("run") or None
        if run is not None:
            self._run(run)
        document = await self.document(run, summary=request.query_params.get("view") == protocol.VIEW_SUMMARY)
        return Document(document)

    async def document(self, run: str | None, *, summary: bool) -> dict[str, Any]:
        """Builds the status document with what the workers use now."""
        watches = {
            key[:2]: identity for key, identity in self.service.execution.workers.watcher.identities().items()
        }
        samples = await asyncio.to_thread(lambda: self.sampler.sample(watches)) if watches else {}
        readings, why = await asyncio.to_thread(self.service.execution.gauge.look)
        note = f"The machine can't be looked at: {why}." if why else self.edges.host.note
        note = " ".join(filter(None, (note, *self.service.notes())))
        said = await self.service.execution.workers.ears.said()
        quiet = self.service.execution.workers.oversight.silences()
        silences = {key[:2]: silent_s for key, silent_s in quiet.items()}
        changed = await self.service.execution.workers.so_far.of(self.swarm, self.coordinator.now())
        live = report.Live(True, samples, readings, note, self._stuck(), said, silences, changed)
        found = report.status(self.swarm, live, run=run, summary=summary)
        return report.as_found(found, self.edges.refs.read, report.moving(self.swarm))

    def _stuck(self) -> str:
        return self.coordinator.stuck.cause if self.coordinator.stuck is not None else ""

    async def settings(self, _: Request) -> Response:
        """Gives the settings in force: those that the daemon started with, and the width that it was scaled to since."""
        rows = {
            key: shapes.SettingRow(key=key, value=value, source=source)
            for key, value, source in config.flat(self.edges.settings)
        }
        key, width = "limits.workers_max", self.swarm.limits.workers_max
        if rows[key]["value"] != width:
            rows[key] = shapes.SettingRow(key=key, value=width, source=protocol.SCALED)
        return Document(shapes.SettingsAnswer(settings=list(rows.values())))

    async def wait(self, request: Request) -> Response:
        """Answers when every task that takes part has ended, or its QA has, or when the time is over."""
        name = request.query_params.get("run") or None
        timeout_s = _seconds(request.query_params.get("timeout_s"), most=protocol.WAIT_SLICE_S)
        run, reviewed = self._run(name), request.query_params.get("until") == protocol.UNTIL_REVIEWED
        told = request.query_params.get("told")

        def over() -> bool:
            at_work = _under_review(run) if reviewed else run.open_tasks or run.live
            return not (at_work or _settling(run))

        def problems() -> list[str]:
            return report.hindrances(self.swarm, run, self._stuck())

        def heard() -> bool:
            return over() or (told is not None and report.mark(problems()) != told)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.coordinator.until(heard)
        if not over():
            found = problems()
            return Document(shapes.WaitAnswer(ended=False, problems=found, mark=report.mark(found)))
        return Document({**await self.document(run.id, summary=True), "ended": True})

    async def events(self, request: Request) -> Response:
        """Streams the journal, one JSON object a line."""
        after = min(max(int(request.query_params.get("after", "0")), 0), SEQ_MAX)
        follow = request.query_params.get("follow") == "1"
        run = request.query_params.get("run") or None

        async def lines() -> AsyncIterator[bytes]:
            async for batch in self.coordinator.events(after, follow=follow):
                told = [json.dumps(as_told(record)) for record in batch if run in (None, record.get("run"))]
                if told:
                    yield "\n".join((*told, "")).encode()
                if follow:
                    await asyncio.sleep(FOLLOW_EVERY_S)

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    # --- plans

    async def submit(self, request: Request) -> Response:
        """Takes a plan in."""
        body: shapes.SubmitRequest = await self._body(request)
        source = body["plan"]
        data = base64.b64decode(source["data_base64"])
        plan: PlanSpec = await asyncio.to_thread(
            lambda: intake.read(data, source["source"], self.edges.settings)
        )
        verify = (*plan.verify, *suites.asked_for(body.get("verify") or ()))
        plan = dataclasses.replace(plan, verify=verify, source=source.get("path", ""))
        only = tuple(body.get("only") or ())
        intake.check_only(plan, only)
        async with self.submitter.lock:
            answer = await self.submitter.submit(
                plan,
                only=only,
                sequential=bool(body.get("sequential")),
                fail_fast=bool(body.get("fail_fast")),
                changed=bool(body.get("changed")),
                here=str(body.get("here") or ""),
            )
        return Document(answer)

    async def add(self, request: Request) -> Response:
        """Adds one task to a run."""
        body: shapes.AddRequest = await self._body(request)
        async with self.submitter.lock:
            run = self._run(body["run"])
            plan = await asyncio.to_thread(lambda: self._with_task(run, body["task"]))
            (spec,) = plan.tasks
            if body.get("id_from_title"):
                spec = dataclasses.replace(spec, id=submission.id_of_title(run, spec))
            plan = dataclasses.replace(plan, tasks=(spec,), source="")
            only = () if run.only is None else (*sorted(run.only), spec.id)
            answer = await self.submitter.submit(
                plan, only=only, sequential=run.sequential, fail_fast=run.fail_fast
            )
        return Document(shapes.AddAnswer(**answer, task=spec.id))

    async def goal(self, request: Request) -> Response:
        """Begins a run that goes for a goal."""
        body: shapes.GoalRequest = await self._body(request)
        async with self.submitter.lock:
            return Document(await goals.Goals(self.coordinator, self.submitter).begin(body))

    async def approve(self, request: Request) -> Response:
        """Takes in that a person approves of the plan that a run came to."""
        body: shapes.ApproveRequest = await self._body(request)
        run = self._run(body["run"])
        async with self.submitter.lock:
            return Document(await goals.Goals(self.coordinator, self.submitter).approve(run, body))

    async def forget(self, request: Request) -> Response:
        """Has lessons not be told to later runs any more."""
        wanted = [str(name) for name in (await self._body(request))["lessons"]]
        unknown = [name for name in wanted if name not in self.swarm.lessons]
        if unknown:
            raise UsageError(
                f"There is no lesson {', '.join(unknown)}.", "Nothing was forgotten.", "swarm lessons"
            )
        if wanted:
            event = m.LessonsForgotten(at=self.coordinator.now(), lessons=tuple(wanted))
            await self.coordinator.ask(event)
        return Document({"lessons": wanted})

    async def watch(self, request: Request) -> Response:
        """Has a plan file watched, from whose run it came; with an empty path not any more."""
        body: shapes.WatchRequest = await self._body(request)
        run, source = self._run(body["run"]), str(body["source"])
        if source != run.watched:
            await self.coordinator.ask(m.PlanWatched(at=self.coordinator.now(), run=run.id, source=source))
        return Document(shapes.WatchRequest(run=run.id, source=source))

    def _with_task(self, run: Run, table: dict[str, Any]) -> PlanSpec:
        """Reads one task as a plan of its own, its needs held against the run."""
        from swarm.core import plan as plans

        needs = [str(need) for need in table.get("needs") or ()]
        unknown = [
            n for n in needs if n not in run.tasks and n not in run.phases and n not in run.finished_before
        ]
        if unknown:
            raise UsageError(
                f"Needed but unknown: {', '.join(unknown)}.",
                "Nothing was added.",
                f"name tasks or phases of the run: swarm status --run {run.id}",
            )
        phase = table.get("phase")
        if phase is not None and phase not in run.phases:
            known = f"it has {', '.join(run.phases)}" if run.phases else "it has none"
            raise UsageError(
                f'There is no phase "{phase}" in run {run.id}.',
                "Nothing was added.",
                f"leave it out, or name another; {known}",
            )
        bare = {key: value for key, value in table.items() if key not in ("needs", "phase")}
        data = json.dumps({"name": run.id, "tasks": [bare]}).encode()
        reading = plans.read(data, source=f"{run.id}.json", defaults=config.to_defaults(self.edges.settings))
        if reading.errors or reading.plan is None:
            raise UsageError(
                "\n".join(": ".join(filter(None, (p.place, p.text))) for p in reading.errors),
                "Nothing was added.",
                "swarm schema plan shows what a task may say",
            )
        (spec,) = reading.plan.tasks
        spec = dataclasses.replace(
            spec,
            phase=phase,
            needs=tuple(n for n in needs if n in run.tasks or n in run.finished_before),
            phase_needs=tuple(n for n in needs if n in run.phases and n not in run.tasks),
        )
        return dataclasses.replace(run.plan, id=run.id, tasks=(spec,), phases=())

    # --- steering

    async def retry(self, request: Request) -> Response:
        """Tries failed tasks again."""
        body: shapes.RetryRequest = await self._body(request)
        if body.get("failed"):
            if body["run"] is None and not any(map(meant.to_retry, self.swarm.runs.values())):
                return Document(shapes.TasksAnswer(run="", tasks=[]))
            run = meant.run_of(self.swarm, body["run"], fits=meant.to_retry)
            wanted = meant.to_retry(run)
        else:
            run, wanted = self._tasks(body["run"], body["tasks"])
            blocked = {name for name in wanted if run.tasks[name].state is TaskState.BLOCKED}
            go_on = {each for name in wanted if name not in blocked for each in run.needs.dependents(name)}
            wanted = [name for name in wanted if name not in blocked & go_on]
        for name in wanted:
            self._check_retry(run, run.tasks[name])
        if wanted:
            await self.coordinator.ask(
                m.TasksRetried(at=self.coordinator.now(), run=run.id, tasks=tuple(wanted))
            )
        ended = report.ended_again(self.swarm, run, wanted)
        return Document({**shapes.TasksAnswer(run=run.id, tasks=wanted), "ended": ended})

    def _check_retry(self, run: Run, task: Task) -> None:
        name, called = task.spec.id, report.called(self.swarm, run, task.spec.id)
        if task.state is TaskState.BLOCKED:
            raise Refused(
                f'Task "{name}" is blocked: {task.reason.text if task.reason else "a need did not land"}.',
                "It was not retried; it goes on by itself when what it needs has landed.",
                f"swarm retry --failed --run {run.id}",
            )
        if task.state not in TASK_ENDS or task.state is TaskState.LANDED:
            raise Refused(
                f'Task "{name}" {meant.stands(task)}; only a task that failed or was cancelled can be retried.',
                "Nothing was done.",
                f"swarm undo {called} takes it off staging again"
                if task.state is TaskState.LANDED
                else f"swarm show {called}",
            )

    async def first(self, request: Request) -> Response:
        """Lets tasks in the merge queue land before all others."""
        body: shapes.FirstRequest = await self._body(request)
        run, wanted = self._tasks(body["run"], body["tasks"])
        late = [name for name in wanted if not can_go_first(run, name)]
        if late:
            raise Refused(
                f'Task "{late[0]}" {meant.stands(run.tasks[late[0]])}; only what waits in the merge queue can go first there.',
                "Nothing was done.",
                f"swarm show {report.called(self.swarm, run, late[0])}",
            )
        await self.coordinator.ask(
            m.FirstAsked(at=self.coordinator.now(), run=run.id, tasks=tuple(dict.fromkeys(wanted)))
        )
        return Document(shapes.TasksAnswer(run=run.id, tasks=wanted))

    async def cancel(self, request: Request) -> Response:
        """Cancels tasks, or a whole run. One that is cancelled already stays so: who asks twice gets what was asked for."""
        body: shapes.CancelRequest = await self._body(request)
        tasks = body.get("tasks")
        if tasks is None:
            run = self._run(body["run"])
            wanted = still = [name for name, task in run.tasks.items() if task.state not in TASK_ENDS]
            if run.watched:  # or the next line that is added there would begin it anew
                await self.coordinator.ask(m.PlanWatched(at=self.coordinator.now(), run=run.id, source=""))
        else:
            run, wanted = self._tasks(body["run"], tasks)
            gone = "Nothing was cancelled; nothing more is done for what has ended, and finish merges without what did not land."
            still = [name for name in wanted if run.tasks[name].state is not TaskState.CANCELLED]
            self._check_open(run, still, gone)
        if still:
            await self.coordinator.ask(
                m.TasksCancelled(at=self.coordinator.now(), run=run.id, tasks=tuple(still))
            )
        return Document(shapes.TasksAnswer(run=run.id, tasks=wanted))

    def _check_open(self, run: Run, names: Iterable[str], consequence: str) -> None:
        for task in (run.tasks[name] for name in names):
            if task.state in TASK_ENDS:
                called = report.called(self.swarm, run, task.spec.id)
                landed = task.state is TaskState.LANDED
                raise Refused(
                    f'Task "{task.spec.id}" {meant.stands(task)} already.',
                    consequence,
                    f"swarm undo {called} takes it off staging again" if landed else f"swarm show {called}",
                )

    async def pause(self, request: Request) -> Response:
        """Holds starts back."""
        return await self._pausing(request, m.Paused)

    async def resume(self, request: Request) -> Response:
        """Lets starts happen again."""
        return await self._pausing(request, m.Resumed)

    async def _pausing(self, request: Request, kind: type[m.Paused] | type[m.Resumed]) -> Response:
        body: shapes.PauseRequest = await self._body(request)
        run, task = body.get("run"), body.get("task")
        if task is not None:
            found, names = self._tasks(run, [task])
            run, task = found.id, names[0]
            if kind is m.Paused:
                self._check_open(found, names, "Nothing was paused.")
        elif run is not None:
            run = self._run(run).id
        wanted = [(run, task)]
        if kind is m.Resumed and run is None:  # everything: the tasks too that were paused by themselves
            wanted += [(run.id, name) for run in self.swarm.runs.values() for name in _paused(run)]
        at = self.coordinator.now()
        await asyncio.gather(*(self.coordinator.ask(kind(at=at, run=run, task=task)) for run, task in wanted))
        return Document({})

    async def scale(self, request: Request) -> Response:
        """Changes the width."""
        body: shapes.ScaleRequest = await self._body(request)
        width = body["workers_max"]
        if type(width) is not int or not 1 <= width <= protocol.WORKERS_MAX:
            text = f"The number of workers is a whole number from 1 to {protocol.WORKERS_MAX}."
            raise UsageError(text, "Nothing was changed.")
        await self.coordinator.ask(m.LimitsChanged(at=self.coordinator.now(), workers_max=width))
        return Document({"workers_max": width})

    async def tell(self, request: Request) -> Response:
        """Leaves a note for a task's next attempt."""
        body: shapes.TellRequest = await self._body(request)
        run, names = self._tasks(body.get("run"), [body["task"]])
        text = str(body["text"])[:100_000]
        if not text.strip():
            raise UsageError(
                "The note is empty.", "Nothing was left for the next attempt.", "say what to tell"
            )
        event = m.TaskTold(at=self.coordinator.now(), run=run.id, task=names[0], text=text)
        await self.coordinator.ask(event)
        return Document(shapes.TellAnswer(run=run.id, task=names[0], state=run.tasks[names[0]].state))

    async def recover(self, request: Request) -> Response:
        """Holds worktrees, processes and refs against what the daemon knows, and mends what is not as it should be."""
        dry_run = bool((await self._body(request)).get("dry_run"))
        found = await self.service.recover(dry_run=dry_run)
        if not dry_run:
            for run in await self._with_branch():
                self.coordinator.post(m.StagingLookAsked(at=self.coordinator.now(), run=run))
        return Document({"found": plain.dump(found)})

    async def _with_branch(self) -> list[str]:
        """Lists the runs whose staging branch is there: a look makes it again, and of a finished run it may be gone."""
        common = self.edges.repository.common_dir
        there = await asyncio.to_thread(lambda: git.refs_below(common, "refs/heads/swarm/"))
        runs = [run.id for run in self.swarm.runs.values() if run.prepared]
        return [run for run in runs if f"refs/heads/{staging_branch(run)}" in there]

    async def stop(self, request: Request) -> Response:
        """Begins to stop; the caller waits for the process to end."""
        body: shapes.StopRequest = await self._body(request)
        mode = body["mode"]
        if mode not in protocol.STOP_MODES:
            raise UsageError(f"{mode!r} is no way to stop: {', '.join(protocol.STOP_MODES)}.")
        if self.coordinator.stuck is not None and mode != "leave-workers":
            raise SwarmError(
                self.coordinator.stuck.cause,
                "What ends could not be remembered, so the daemon goes on.",
                "see to that disk; or swarm stop --leave-workers, which has nothing to remember",
            )
        self.service.stop(mode)
        return Document({"pid": self.swarm.pid})

    # --- closing

    async def qa(self, request: Request) -> Response:
        """Has staging reviewed, and mended until it is approved."""
        body = await self._body(request)
        run = self._run(body.get("run"))
        closing = closings.Closing(self.coordinator, self.edges)
        return Document({"run": run.id, **await closing.review(run, body)})

    async def finish(self, request: Request) -> Response:
        """Merges staging into the target, or says what that would do."""
        body: shapes.FinishRequest = await self._body(request)
        run = self._run(body.get("run"))
        closing, take_back = closings.Closing(self.coordinator, self.edges), self.service.execution.take_back
        key, looks = (
            str(body.get("key") or secrets.token_hex(8)),
            bool(body.get("preview") or body.get("propose")),
        )
        with self.service.wishes.of(key, request.receive, run.id, looks=looks) as wish:
            facts = await closing.finish(run, body, wish, take_back)
        return Document({**await self.document(run.id, summary=False), "finish": facts})

    async def take_back(self, request: Request) -> Response:
        """Has a finish given up that is not being carried over yet; what comes of it is the answer to whoever asked for it."""
        return Document({"heard": self.service.wishes.take_back((await self._body(request))["key"])})

    async def undo(self, request: Request) -> Response:
        """Takes a landed task off staging again, or says what that would do."""
        body: shapes.UndoRequest = await self._body(request)
        run, (name,) = self._tasks(body.get("run"), [body["task"]])
        preview = bool(body.get("preview"))
        return Document(
            await undoing.undo(self.coordinator, self.edges, run, run.tasks[name], preview=preview)
        )

    async def clean(self, request: Request) -> Response:
        """Removes worktrees that nobody needs."""
        force = bool((await self._body(request)).get("force"))
        must = reconcile.known(self.swarm, self.edges.places, {}, alone=False)
        done = await asyncio.to_thread(lambda: reconcile.clean(must, self.edges, force=force))
        return Document({"worktrees": plain.dump(done)})

    # --- discarding

    async def discard(self, request: Request) -> Response:
        """Ends a run and removes everything of it, unless work of it is nowhere else that was not named to be given up."""
        body = await self._body(request)
        run = self._run(body["run"])
        discarder, ground = self.service.execution.discarder(), discarding.ground(run)
        holds = [] if run.discarding else await asyncio.to_thread(lambda: discarder.losses(ground))
        told = [{"name": each.name, "text": each.text} for each in holds]
        if body.get("dry_run"):
            return Document({"run": run.id, "holds": told, "discarded": False})
        given_up = set(body.get("names") or ()) if body.get("force") else set()
        if {each.name for each in holds} - given_up:
            raise discarding.refusal(run.id, holds, run.base_branch)
        lost = tuple(each.name for each in holds)
        await self.coordinator.ask(m.DiscardRequested(at=self.coordinator.now(), run=run.id, lost=lost))
        await self.coordinator.until(
            lambda: self.swarm.runs.get(run.id) is not run or "Discard" in run.failures
        )
        if self.swarm.runs.get(run.id) is run:
            if "Discard" in run.failures:
                raise SwarmError(
                    f"Run {run.id} could not be removed yet: {run.failures['Discard']}",
                    "It is tried again until it succeeds.",
                )
            raise SwarmError("The daemon stopped while it was discarding.", "The next one goes on with it.")
        return Document({"run": run.id, "holds": told, "discarded": True})

    # --- finding

    def _run(self, name: str | None) -> Run:
        return meant.run_of(self.swarm, name)

    def _tasks(self, run: str | None, names: Iterable[str]) -> tuple[Run, list[str]]:
        return meant.tasks_of(self.swarm, run, names)


def _paused(run: Run) -> list[str]:
    return [name for name, task in run.tasks.items() if task.paused and not run.discarding]


def _ending() -> NoDaemon:
    return NoDaemon("The daemon is just ending.", "Nothing was done.", "swarm start, then again")


def _under_review(run: Run) -> bool:
    return run.qa is not None and bool(run.qa.task)


def _settling(run: Run) -> bool:
    """Tells whether staging or its worktree is still on its way; what failed and is tried again later is not waited for."""
    publishing = run.publishing_commit is not None and not run.publish_waits and "Publish" not in run.retry_at
    return publishing or (run.following is not None and "Follow" not in run.retry_at)


def _seconds(text: str | None, *, most: float) -> float:
    """Reads a length of time; a number that is none would spoil the timers of everything. Raises `ValueError`."""
    asked = most if text is None else float(text)
    if math.isnan(asked):
        raise ValueError(f"{text} is no length of time")
    return min(asked, most)


# What is asked for when work is wanted; any other question starts nothing.
_WORK = frozenset(
    (
        protocol.SUBMIT,
        protocol.GOAL,
        protocol.APPROVE,
        protocol.ADD,
        protocol.WATCH,
        protocol.RETRY,
        protocol.RESUME,
        protocol.QA,
        protocol.UNDO,
    )
)
_ROUTES: dict[str, tuple[Answer, str]] = {
    protocol.PING: (Api.ping, "GET"),
    protocol.STATUS: (Api.status, "GET"),
    protocol.SETTINGS: (Api.settings, "GET"),
    protocol.WAIT: (Api.wait, "GET"),
    protocol.EVENTS: (Api.events, "GET"),
    protocol.SUBMIT: (Api.submit, "POST"),
    protocol.GOAL: (Api.goal, "POST"),
    protocol.APPROVE: (Api.approve, "POST"),
    protocol.FORGET: (Api.forget, "POST"),
    protocol.WATCH: (Api.watch, "POST"),
    protocol.ADD: (Api.add, "POST"),
    protocol.RETRY: (Api.retry, "POST"),
    protocol.FIRST: (Api.first, "POST"),
    protocol.CANCEL: (Api.cancel, "POST"),
    protocol.UNDO: (Api.undo, "POST"),
    protocol.PAUSE: (Api.pause, "POST"),
    protocol.RESUME: (Api.resume, "POST"),
    protocol.SCALE: (Api.scale, "POST"),
    protocol.TELL: (Api.tell, "POST"),
    protocol.QA: (Api.qa, "POST"),
    protocol.FINISH: (Api.finish, "POST"),
    protocol.TAKE_BACK: (Api.take_back, "POST"),
    protocol.RECOVER: (Api.recover, "POST"),
    protocol.CLEAN: (Api.clean, "POST"),
    protocol.DISCARD: (Api.discard, "POST"),
    protocol.STAY: (Api.stay, "POST"),
    protocol.STOP: (Api.stop, "POST"),
}
_LOOKS = frozenset({protocol.PING, protocol.STATUS, protocol.WAIT, protocol.EVENTS})

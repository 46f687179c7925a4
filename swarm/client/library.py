"""The Python API: what the commands do, as methods that give documents and raise errors.

    from swarm import Swarm

    swarm = Swarm("path/to/repository")
    run = swarm.run("plan.toml")
    assert run["counts"]["landed"] == len(run["tasks"])

`AsyncSwarm` has the same methods to be awaited. A document is what the command of the same name prints with --json, or the
part of it that is about the run. What goes wrong is raised as a `SwarmError` or one of its kinds; none of the methods prints,
asks, or ends the program.

Rules for editing: a method asks the daemon, `offline` or `planfiles` as its command does, and decides nothing that the command does
not.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from swarm import protocol
from swarm.client import (
    changes,
    finishing,
    goals,
    mending,
    naming,
    offline,
    planfiles,
    progress,
    quality,
    reporting,
    serving,
    simulating,
    watching,
)
from swarm.client.connection import Connection, Stream
from swarm.client.everywhere import Everywhere
from swarm.client.options import refuse_inside_worker
from swarm.client.session import Session
from swarm.client.submitting import check_request, request, submit_to
from swarm.errors import Refused, UsageError

Document = dict[str, Any]
Plan = str | os.PathLike[str] | Mapping[str, Any]
P = ParamSpec("P")
R = TypeVar("R")

DAEMONS_TIMEOUT_S = protocol.FINISH_TIMEOUT_S


class Swarm:
    """The swarm of one repository. Holds nothing open: it may be kept, and used by several threads at once.

    Methods that start or steer raise `Refused` inside a worker. All raise `UsageError` for what makes no sense (an unknown task, an
    invalid plan), `Refused` where something would be lost or overwritten, and `NoDaemon` where a daemon is needed and none runs.
    """

    def __init__(self, directory: str | os.PathLike[str] = ".") -> None:
        """Is about the repository that `directory` lies in, in any of its checkouts. Raises `UsageError` where there is none."""
        self._session = Session(os.fspath(directory), quiet=True)
        self.top: Path = self._session.top

    # --- the daemon ---

    def start(self, *, workers: int | None = None) -> int:
        """Starts the daemon, which then stays until `stop`; gives its process id, also where it runs already."""
        refuse_inside_worker("Swarm.start")

        def stay(daemon: Connection, started: bool) -> int:
            if not started:
                daemon.post(protocol.STAY, {})
                if workers is not None:
                    daemon.post(protocol.SCALE, {"workers_max": workers})
            return daemon.pid

        return self._session.with_daemon(stay, workers=workers, ends="never")

    def stop(self, mode: str = "graceful") -> None:
        """Stops the daemon and waits until it has ended; `mode` is graceful, drain, now or leave-workers. It is no error where none
        runs."""
        refuse_inside_worker("Swarm.stop")
        if mode not in protocol.STOP_MODES:
            raise UsageError(
                f"{mode!r} is no way to stop.", "Nothing was done.", f"one of {protocol.STOP_MODES}"
            )
        daemon = self._session.daemon_or_none()
        if daemon is not None:
            serving.end(self._session, daemon, mode)

    # --- work ---

    def check(self, *plans: Plan) -> Document:
        """Validates plans without running them: every error with its place, waves, critical path."""
        from swarm import config

        settings = config.load(self.top, self._session.environ)
        wanted = [plan if isinstance(plan, Mapping) else os.fspath(plan) for plan in plans]
        return planfiles.check(wanted, self.top, settings)[0]

    def simulate(
        self,
        plan: Plan,
        *,
        workers: Iterable[int] = (),
        duration_s: float | None = None,
        durations: Mapping[str, float] | None = None,
        verify_s: float | None = None,
        fail: Mapping[str, float] | None = None,
        fail_verify: Mapping[str, float] | None = None,
        fail_rate: float | None = None,
        seed: int | None = None,
        learn: bool = False,
    ) -> Document:
        """Works out the schedule that a plan would get, for each of these numbers of workers, and runs nothing.

        `durations` are seconds by task, `duration_s` those of every other one; `fail` and `fail_verify` say how many attempts at a
        task fail, from the first on. With `learn` durations are those of earlier runs where none is given.
        """
        wanted = plan if isinstance(plan, Mapping) else os.fspath(plan)
        assumed = {"task_s": duration_s, "tasks_s": durations, "suite_s": verify_s, "fail_rate": fail_rate}
        assumed |= {"fails": fail, "reds": fail_verify, "seed": seed}
        return simulating.document_for(self._session, wanted, workers, assumed, learn=learn)

    def submit(
        self,
        plan: Plan,
        *,
        only: Iterable[str] = (),
        sequential: bool = False,
        fail_fast: bool = False,
        verify: Iterable[str] = (),
        changed: bool = False,
    ) -> Document:
        """Adds a plan's work to its run; `plan` is a file, a folder, a number, or the plan itself as a mapping.

        Gives what that changed: `run`, `added`, `replaced`, `unchanged`. With `changed` what has landed is done again where what it
        was made from has changed: `again` names that, with why.
        """
        refuse_inside_worker("Swarm.submit")
        body = self._request(plan, only, sequential, fail_fast, verify, changed)
        daemon = self._session.daemon_or_none()
        if daemon is None:
            check_request(self._session, body)
            daemon = self._session.daemon()
        return self._posted(daemon, protocol.SUBMIT, body)

    def run(
        self,
        plan: Plan,
        *,
        only: Iterable[str] = (),
        sequential: bool = False,
        fail_fast: bool = False,
        verify: Iterable[str] = (),
        changed: bool = False,
        workers: int | None = None,
        timeout_s: float | None = None,
    ) -> Document:
        """Carries a plan out: starts a daemon if none runs, submits, waits. Gives the run as it ended, whatever landed.

        Raises `WaitTimedOut` after `timeout_s` seconds; the run then goes on. A daemon that this started ends by itself once no run
        is active.
        """
        refuse_inside_worker("Swarm.run")
        body = self._request(plan, only, sequential, fail_fast, verify, changed)
        answer = self._session.with_daemon(
            lambda daemon, started: submit_to(daemon, started, body, workers),
            before_start=lambda: check_request(self._session, body),
            workers=workers,
        )
        return self.wait(str(answer["run"]), timeout_s=timeout_s)

    def add(self, task: Mapping[str, Any], *, run: str | None = None) -> Document:
        """Adds one task, given as a table of a native plan (`id`, `title`, `claims`, `run` or `prompt`, …), to a run."""
        refuse_inside_worker("Swarm.add")
        daemon = self._session.daemon()
        name = str(naming.run_of(daemon.get(protocol.STATUS, {"view": protocol.VIEW_SUMMARY}), run)["id"])
        return self._posted(daemon, protocol.ADD, {"run": name, "task": dict(task)})

    def wait(self, run: str | None = None, *, timeout_s: float | None = None) -> Document:
        """Waits until every task of a run has ended, and gives the run as `status` has it. Raises `WaitTimedOut`."""
        found = naming.run_of(self._session.document(full=False), run)
        name = str(found["id"])
        daemon = self._session.daemon_or_none()
        if daemon is not None:
            progress.wait_for_end(self._session, daemon, name, timeout_s=timeout_s)
        elif found.get("state") in naming.ACTIVE:
            self._session.daemon()  # raises that none runs
        return naming.run_of(self._session.document(run=name), name)

    # --- from a goal ---

    def scout(
        self, *questions: str, run_id: str = "", wait: bool = True, timeout_s: float | None = None
    ) -> Document:
        """Has questions about the project looked into by workers that change nothing; gives `run`, `findings` and them `merged`.

        Without `wait` it gives at once what there is.
        """
        refuse_inside_worker("Swarm.scout")
        body = goals.goal_request(self._session, "scout", "\n".join(questions), questions, run_id)
        run = self._begun(body, wait, timeout_s)
        return goals.findings(self._session, run)

    def plan(
        self,
        goal: str,
        *,
        run_id: str = "",
        approve: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
    ) -> Document:
        """Has a goal researched and a plan written for it; gives the `run`, its `stage`, and the `plan` with its file and text.

        `goal` may be the id of a run that began with one: then its plan is shown. With `approve` that plan, or whatever comes of
        the goal, is approved of.
        """
        refuse_inside_worker("Swarm.plan")
        if self._has_goal(goal):
            shown = goals.plan_document(self._session, goal)
            if approve:
                goals.approved(self._session, goal, digest=shown["plan"]["digest"] if shown["plan"] else "")
            return goals.plan_document(self._session, goal)
        body = goals.goal_request(self._session, "plan", goal, (), run_id) | {"approved": approve}
        return goals.plan_document(self._session, self._begun(body, wait, timeout_s))

    def build(
        self,
        goal: str,
        *,
        run_id: str = "",
        approve: bool = False,
        sequential: bool = False,
        verify: Iterable[str] = (),
        wait: bool = True,
        timeout_s: float | None = None,
    ) -> Document:
        """Goes from a goal to a verified staging branch; gives the run, of which "goal" says the `stage`, with "mode" and "width".

        Without `approve` it stops at the plan, and goes on when called again with the run's id in place of the goal. Without `wait`
        a plan that a run does not have yet can only be approved of as that run begins; else `Refused` is raised.
        """
        refuse_inside_worker("Swarm.build")
        began = time.monotonic()
        if self._has_goal(goal):
            run = goal
            goals.go_on(self._session, run, yes=approve)
        else:
            body = goals.goal_request(self._session, "build", goal, (), run_id)
            body |= {"approved": approve, "sequential": sequential, "verify": _listed(verify)}
            run = goals.begin(self._session, body)[2]
        found = self._ended(run, wait, timeout_s)
        if goals.built(self._session, run, yes=approve) is not None:
            rest_s = None if timeout_s is None else max(0.0, timeout_s - (time.monotonic() - began))
            return self._ended(run, wait, rest_s)
        if approve and goals.nobody_approves(found["goal"]):
            raise Refused(
                f"Run {run} has no plan to approve of: it is {found['goal']['stage']}.",
                "It goes on, and its plan will wait for an approval.",
                "the same again when the plan is there, or with wait",
            )
        return found

    def _has_goal(self, run: str) -> bool:
        runs = self._session.document(full=False)["runs"]
        return any(each["id"] == run and each.get("goal") for each in runs)

    def _begun(self, body: Document, wait: bool, timeout_s: float | None) -> str:
        run = goals.begin(self._session, body)[2]
        self._ended(run, wait, timeout_s)
        return run

    def _ended(self, run: str, wait: bool, timeout_s: float | None) -> Document:
        return (
            self.wait(run, timeout_s=timeout_s)
            if wait
            else naming.run_of(self._session.document(run=run), run)
        )

    # --- look; none of these needs a daemon ---

    def status(self, run: str | None = None) -> Document:
        """Gives the status document, of one run or of all."""
        return self._session.document(run=run)

    @staticmethod
    def everywhere() -> list[Document]:
        """Gives for each repository of this machine in which this user used swarm its `path` and its status document."""
        session = Session(as_json=True, quiet=True)
        found: list[Document] = Everywhere(session).document()["repositories"]
        return found

    def show(self, task: str, *, run: str | None = None) -> Document:
        """Gives everything known of a task, its attempts and why each ended."""
        name, found = self._session.task(task, run)
        return self._session.task_document(name, str(found["id"]))

    def diff(self, task: str, *, run: str | None = None, attempt: int | None = None) -> bytes:
        """Gives what a task changed, or one attempt at it, as a patch that `git apply` reads."""
        name, found = self._session.task(task, run)
        if attempt is not None:
            naming.attempt_of(found, attempt)
        task_id = str(found["id"])
        return changes.patch(self.top, self._session.state, name, task_id, attempt=attempt, binary=True)

    def outputs(self, task: str, *, run: str | None = None, attempt: int | None = None) -> dict[str, Path]:
        """Gives the files with the output of a task's worker ("worker") and of its verification ("verification SUITE", with
        ", again" where that ran once more)."""
        name, found = self._session.task(task, run)
        n = naming.attempt_of(found, attempt)["n"] if attempt is not None else len(found["attempts"])
        listed = offline.outputs(self._session.state, name, str(found["id"]), int(n), None)
        return {label: Path(path) for label, path in listed}

    def claims(self, *, work: bool = False) -> Document:
        """Tells who may change what now and who waits for whom; with `work` also what running workers have changed so far."""
        return watching.claims_document(self._session, work=work)

    def events(self, *, run: str | None = None, after: int = 0, follow: bool = False) -> Iterator[Document]:
        """Yields what happened from event `after` on; with `follow` also what happens, until the daemon ends."""
        return iter(self._stream(run, after)) if follow else self._happened(run, after)

    def report(self, run: str | None = None) -> Document:
        """Tells how a run went: how long it took and what for, what held it up, what was tried in vain, what it cost."""
        return reporting.report_document(self._session, run)

    def lessons(self, *, forget: Iterable[str] = ()) -> list[Document]:
        """Lists what earlier runs taught, which later ones are told; those named by `forget` are taken back first."""
        if names := _listed(forget):
            refuse_inside_worker("Swarm.lessons")
            goals.forgotten(self._session, names)
        return offline.lessons(self._session.state)

    def worktrees(self) -> list[Document]:
        """Lists the worktrees of runs: whose, branch, age, changed paths, size."""
        return finishing.worktree_rows(self._session, exact=False)

    # --- steer ---

    def retry(self, *tasks: str, run: str | None = None) -> Document:
        """Tries failed or cancelled tasks of a run again; without names every one. Gives `run`, `tasks`, and those of them
        that could not be tried, `ended`."""
        return self._steer(protocol.RETRY, {"run": run, "tasks": list(tasks), "failed": not tasks})

    def first(self, *tasks: str, run: str | None = None) -> Document:
        """Has finished tasks land before all others, in this order."""
        if not tasks:
            raise UsageError("Name tasks.", "Nothing was done.")
        return self._steer(protocol.FIRST, {"run": run, "tasks": list(tasks)})

    def cancel(self, *tasks: str, run: str | None = None) -> Document:
        """Gives tasks up, or without names the whole of a run that is named; the work done so far is kept."""
        if not tasks and run is None:
            raise UsageError("Name tasks, or a run.", "Nothing was done.")
        return self._steer(protocol.CANCEL, {"run": run, "tasks": list(tasks) or None})

    def pause(self, task: str | None = None, *, run: str | None = None) -> None:
        """Starts nothing new: of everything, of one run, or of one task."""
        self._steer(protocol.PAUSE, {"run": run, "task": task})

    def resume(self, task: str | None = None, *, run: str | None = None) -> None:
        """Goes on after a pause."""
        self._steer(protocol.RESUME, {"run": run, "task": task})

    def scale(self, workers: int) -> None:
        """Changes how many workers may run, until the daemon ends."""
        self._steer(protocol.SCALE, {"workers_max": workers})

    def tell(self, task: str, text: str, *, run: str | None = None) -> Document:
        """Leaves a note that the next attempt at a task is given."""
        return self._steer(protocol.TELL, {"run": run, "task": task, "text": text})

    def undo(self, task: str, *, run: str | None = None, with_dependants: bool = False) -> Document:
        """Takes a landed task off staging again by a revert that is verified.

        Raises `Refused` where other tasks would go with it, unless `with_dependants`.
        """
        refuse_inside_worker("Swarm.undo")
        daemon, body = self._session.daemon(), {"run": run, "task": task}
        plan = self._posted(daemon, protocol.UNDO, {**body, "preview": True})
        others = [name for name in plan["undone"] if name != plan["task"]] + plan["cancelled"]
        if others and not with_dependants:
            raise Refused(f"Undoing {plan['task']} takes {', '.join(others)} with it.", "Nothing was undone.")
        return self._posted(daemon, protocol.UNDO, {**body, "preview": False}, timeout_s=DAEMONS_TIMEOUT_S)

    # --- finish ---

    def verify(self, run: str | None = None) -> Document:
        """Runs the verification suites on staging now; `ok` tells whether all passed."""
        refuse_inside_worker("Swarm.verify")
        name = str(naming.run_of(self._session.document(full=False), run)["id"])
        return offline.verify(self.top, self._session.state, name)

    def qa(
        self,
        run: str | None = None,
        *,
        rounds: int | None = None,
        partial: bool = False,
        timeout_s: float | None = None,
    ) -> Document:
        """Has staging reviewed, and mended until it is approved or the rounds are over; gives the run with its "qa".

        Raises `WaitTimedOut` after `timeout_s` seconds; the review then goes on.
        """
        refuse_inside_worker("Swarm.qa")
        body = {"run": run, "rounds": rounds, "partial": partial}
        daemon, _, name = quality.begin(self._session, body)
        progress.wait_for_end(self._session, daemon, name, timeout_s=timeout_s, until=protocol.UNTIL_REVIEWED)
        return naming.run_of(self._session.document(run=name), name)

    def finish(
        self,
        run: str | None = None,
        *,
        into: str | None = None,
        stage_only: bool = False,
        preview: bool = False,
        partial: bool = False,
        propose: bool = False,
    ) -> Document:
        """Merges verified work from staging into the target, never forced; "finish" of the status document says what was done.
        With `propose` nothing is merged: a pull request is opened through gh, or the one that is open gets what is new."""
        refuse_inside_worker("Swarm.finish")
        wanted = {"into": into, "stage_only": stage_only, "preview": preview, "partial": partial}
        wanted["propose"] = propose
        return finishing.finished(self._session, run, wanted)[1]

    def discard(self, run: str, *, names: Iterable[str] = (), preview: bool = False) -> Document:
        """Ends a run and removes its worktrees and branches. `names` is what is given up of work that is nowhere else; with
        `preview` nothing is done and "holds" lists it. Raises `Refused` where there is more than was named."""
        refuse_inside_worker("Swarm.discard")
        given = _listed(names)
        body = {"run": run, "force": bool(given), "names": given, "dry_run": preview}
        return self._session.with_daemon(
            lambda daemon, _: self._posted(daemon, protocol.DISCARD, body, timeout_s=DAEMONS_TIMEOUT_S),
            before_start=lambda: self._session.check_run(run, looks=preview),
            ends="answered",
        )

    # --- mend ---

    def recover(self, *, dry_run: bool = False) -> list[Document]:
        """Brings worktrees, processes, refs and journal into agreement; gives what was found, and whether it was mended."""
        refuse_inside_worker("Swarm.recover")
        return mending.recovered(self._session, dry_run=dry_run)

    def audit(self, run: str | None = None, *, verify: int = 0) -> Document:
        """Checks the invariants of repository and journal; with `verify` also the suites of so many landings again."""
        self._session.need_state()
        return offline.audit(self.top, run, verify)[0]

    def doctor(self) -> list[Document]:
        """Checks the machine, git, the sandbox and agents; each check with its `state` and, where it is not ok, a `remedy`."""
        return offline.doctor(self.top)

    def agents(self) -> list[Document]:
        """Lists the agents there are: which can be used here, and why the others can't."""
        return offline.agents(self.top)

    # --- inside ---

    def _steer(self, route: str, body: Mapping[str, Any]) -> Document:
        refuse_inside_worker(f"Swarm.{route.rpartition('/')[2]}")
        return self._posted(self._session.daemon(), route, body)

    def _happened(self, run: str | None, after: int) -> Iterator[Document]:
        told = False
        for event in self._session.events(after):
            if run is None or event.get("run") == run:
                told = True
                yield event
        if run is not None and not told:  # one that was discarded has events, but is known no more
            naming.run_of(self._session.document(full=False), run)

    def _stream(self, run: str | None, after: int) -> Stream:
        if run is not None:
            naming.run_of(self._session.document(full=False), run)
        return self._session.daemon().stream(protocol.EVENTS, {"after": after, "follow": 1, "run": run})

    def _posted(
        self,
        daemon: Connection,
        route: str,
        body: Mapping[str, Any],
        *,
        timeout_s: float = protocol.ANSWER_TIMEOUT_S,
    ) -> Document:
        answer: Document = daemon.post(route, body, timeout_s=timeout_s)
        return answer

    def _request(
        self,
        plan: Plan,
        only: Iterable[str],
        sequential: bool,
        fail_fast: bool,
        verify: Iterable[str],
        changed: bool,
    ) -> Document:
        given = planfiles.given(plan if isinstance(plan, Mapping) else os.fspath(plan), self.top)
        wanted: dict[str, Any] = {"only": _listed(only), "sequential": sequential, "fail_fast": fail_fast}
        return request(self._session, given, **wanted, verify=_listed(verify), changed=changed)


def _listed(texts: Iterable[str]) -> list[str]:
    """Lists texts; one alone is no list of its letters."""
    return [texts] if isinstance(texts, str) else list(texts)


def _awaited(
    method: Callable[Concatenate[Swarm, P], R],
) -> Callable[Concatenate[AsyncSwarm, P], Awaitable[R]]:
    """Gives a method that does the same in a thread, so that the caller's loop goes on."""

    def call(swarm: AsyncSwarm, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        return asyncio.to_thread(method, swarm.sync, *args, **kwargs)

    call.__doc__, call.__name__, call.__qualname__ = (
        method.__doc__,
        method.__name__,
        f"AsyncSwarm.{method.__name__}",
    )
    return call


class AsyncSwarm:
    """The methods of `Swarm`, to be awaited; `sync` is the swarm that does them. The run goes on when a wait is cancelled."""

    def __init__(self, directory: str | os.PathLike[str] = ".") -> None:
        """Is about the repository that `directory` lies in. Raises `UsageError` where there is none."""
        self.sync = Swarm(directory)
        self.top: Path = self.sync.top

    async def events(
        self, *, run: str | None = None, after: int = 0, follow: bool = False
    ) -> AsyncIterator[Document]:
        """Yields what happened from event `after` on; with `follow` also what happens, until the daemon ends."""
        stream = await asyncio.to_thread(self.sync._stream, run, after) if follow else None
        events = iter(stream) if stream is not None else self.sync.events(run=run, after=after)
        try:
            while (event := await asyncio.to_thread(next, events, None)) is not None:
                yield event
        finally:
            if stream is not None:
                stream.close()

    @staticmethod
    async def everywhere() -> list[Document]:
        """Gives for each repository of this machine in which this user used swarm its `path` and its status document."""
        return await asyncio.to_thread(Swarm.everywhere)

    start, stop = _awaited(Swarm.start), _awaited(Swarm.stop)
    check, submit, run = _awaited(Swarm.check), _awaited(Swarm.submit), _awaited(Swarm.run)
    simulate = _awaited(Swarm.simulate)
    scout, plan, build = _awaited(Swarm.scout), _awaited(Swarm.plan), _awaited(Swarm.build)
    add, wait = _awaited(Swarm.add), _awaited(Swarm.wait)
    status, show, diff = _awaited(Swarm.status), _awaited(Swarm.show), _awaited(Swarm.diff)
    outputs, claims, worktrees = _awaited(Swarm.outputs), _awaited(Swarm.claims), _awaited(Swarm.worktrees)
    retry, first, cancel = _awaited(Swarm.retry), _awaited(Swarm.first), _awaited(Swarm.cancel)
    pause, resume, scale = _awaited(Swarm.pause), _awaited(Swarm.resume), _awaited(Swarm.scale)
    tell, undo = _awaited(Swarm.tell), _awaited(Swarm.undo)
    verify, qa = _awaited(Swarm.verify), _awaited(Swarm.qa)
    finish, discard = _awaited(Swarm.finish), _awaited(Swarm.discard)
    recover, audit, doctor = _awaited(Swarm.recover), _awaited(Swarm.audit), _awaited(Swarm.doctor)
    agents, lessons = _awaited(Swarm.agents), _awaited(Swarm.lessons)
    report = _awaited(Swarm.report)

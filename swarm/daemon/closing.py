"""What stands between a run and its target: requests to review staging, and to merge it.

Hides how such a request waits: for what a person committed on staging to land first, and for the machine's answer. Rules for
editing: what can be refused is refused before anything is asked of the machine.
"""

from __future__ import annotations

import asyncio
import itertools
import shlex
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from swarm.core import messages as m
from swarm.core.astray import as_it_should_be, explain
from swarm.core.entries import COMMANDS, brings_settings
from swarm.core.model import GOOD_ENDS, OUR_BRANCHES, Reason, Standing, TaskSpec, staging_branch
from swarm.core.run import Run
from swarm.daemon.coordinator import Coordinator
from swarm.daemon.edges import Edges
from swarm.daemon.finishing import STOPPED, TAKEN_BACK, Finisher, Origin, Outlook, conflict_reason
from swarm.daemon.usable import not_usable
from swarm.edge import git
from swarm.edge.lookout import Lookout
from swarm.errors import Refused, SwarmError, UsageError
from swarm.protocol import counted
from swarm.worker.agents import COMMAND, missing

NAMED_MAX = 5  # paths in a command to type
NEWS_S = 30.0  # several looks of the watch, also on a busy machine
_requests = itertools.count(1)
_ROLES = ("AUTHOR", "COMMITTER")


class Wish:
    """A finish of a run that somebody asks for: `unwanted` is set once it is to be given up, for the reason `why`; with `looks` it
    is only to be told what finishing would do. `others` tells whether anybody else asks for one and still wants it."""

    def __init__(
        self, run: str = "", *, looks: bool = False, others: Callable[[Wish], bool] | None = None
    ) -> None:
        self.run = run
        self.looks = looks
        self.unwanted = asyncio.Event()
        self.why = TAKEN_BACK
        self._others = others

    def others(self) -> bool:
        """Tells whether another one of this run goes on when this is given up."""
        return self._others is not None and self._others(self)

    def give_up(self, why: Reason) -> None:
        """Says that it is to be given up; the first reason stands."""
        if not self.unwanted.is_set():
            self.why = why
            self.unwanted.set()


class Wishes:
    """The finishes that are asked for at present, by the key of who asks: they may want it no more."""

    def __init__(self) -> None:
        self._wishes: dict[str, Wish] = {}
        self._answered = asyncio.Event()

    @contextmanager
    def of(
        self, key: str, receive: Callable[[], Awaitable[MutableMapping[str, Any]]], run: str, *, looks: bool
    ) -> Iterator[Wish]:
        """Gives the wish for a finish of a run, which is given up once it is taken back, or once whoever asks has closed the
        connection that `receive` is of."""

        async def hear() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            wish.give_up(TAKEN_BACK)

        wish = self._wishes[key] = Wish(run, looks=looks, others=self._others)
        hearing = asyncio.ensure_future(hear())
        try:
            yield wish
        finally:
            hearing.cancel()
            self._wishes.pop(key, None)
            self._answered.set()

    def _others(self, wish: Wish) -> bool:
        alike = (each for each in self._wishes.values() if each.run == wish.run and not each.looks)
        return any(each is not wish and not each.unwanted.is_set() for each in alike)

    def take_back(self, key: str) -> bool:
        """Says that a finish is wanted no more; tells whether it is asked for at all."""
        wish = self._wishes.get(key)
        if wish is not None:
            wish.give_up(TAKEN_BACK)
        return wish is not None

    async def end(self) -> None:
        """Has all given up that are not being carried over yet, and waits until each is answered: else the next daemon would merge
        what nobody waits for any more."""
        while self._wishes:
            self._answered.clear()
            for wish in self._wishes.values():
                wish.give_up(STOPPED)
            await self._answered.wait()


class Closing:
    """Answers requests about what is done."""

    def __init__(self, coordinator: Coordinator, edges: Edges) -> None:
        self._coordinator = coordinator
        self._edges = edges

    # --- QA

    async def review(self, run: Run, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Begins with QA and names its first task; where it is going on already, the task at work."""
        if run.qa is not None and run.qa.task:
            return {"task": run.qa.task, "joined": True}
        reviewer, fixer, rounds_max = self.who_reviews()
        if reviewer is None:
            raise UsageError(
                "Nobody is said to review: swarm.toml has no qa.reviewer.",
                "Nothing was begun.",
                '[qa] reviewer = "COMMAND" in swarm.toml, which writes {"verdict": "approve"} or "reject" with its "issues" to '
                "SWARM_RESULT_FILE",
            )
        await look_at_staging(self._coordinator, self._edges, run, "Nothing was begun")
        _check_ended(run, "Nothing was begun: what they do would not be reviewed.", "swarm qa", wanted)
        event = m.QaRequested(
            at=self._coordinator.now(),
            run=run.id,
            reviewer=reviewer,
            fixer=fixer,
            rounds_max=int(wanted.get("rounds") or rounds_max or 1),
        )
        await self._coordinator.ask(event)
        assert run.qa is not None
        return {"task": run.qa.task, "joined": False}

    def who_reviews(self) -> tuple[TaskSpec | None, TaskSpec | None, int]:
        """Gives what the tasks of reviewer and fixer are made from, None for whom the settings do not name, and how many rounds
        there may be. Raises `UsageError` for an agent that can't be used."""
        settings = self._edges.settings.qa
        reviewer = self._role("reviewer", settings.reviewer, settings.reviewer_agent)
        fixer = self._role("fixer", settings.fixer, settings.fixer_agent)
        return reviewer, fixer if reviewer is not None else None, settings.rounds_max

    def _role(self, role: str, what: str, agent: str) -> TaskSpec | None:
        """Makes what the tasks of a role are made from; None where the settings say nobody. Raises `UsageError` for no agent."""
        settings = self._edges.settings
        name = agent or settings.agent
        command = name == COMMAND
        if command and not what:
            return None
        spec = TaskSpec(
            id=role,
            title=role,
            run=what if command else "",
            prompt="" if command else what,
            agent=name,
            timeout_s=settings.qa.timeout_s,
            attempts=settings.limits.attempts,
            role=role,
        )
        edges = self._edges
        wrong = missing([spec], edges.agents)
        wrong += [each.reason for each in not_usable([spec], edges.agents, edges.environ)]
        if wrong:
            raise UsageError(
                f"The agent of qa.{role} can't be used: {wrong[0]}.", "Nothing was begun.", "swarm agents"
            )
        return spec

    # --- finishing

    async def finish(
        self,
        run: Run,
        wanted: Mapping[str, Any],
        wish: Wish,
        take_back: Callable[[str, Reason], None],
    ) -> dict[str, Any]:
        """Merges staging into the target, or says what that would do. Once the `wish` for it is given up it is: at once while
        nothing has been asked of the machine, and then by `take_back` of the request, which goes through where it is too late."""
        before = run.finished_commit, run.finished_from
        try:
            facts, request, outlook = await _heeding(self._ready(run, wanted), wish, asyncio.Task.cancel)
        except asyncio.CancelledError:
            mine = asyncio.current_task()
            if not wish.unwanted.is_set() or (mine is not None and mine.cancelling()):
                raise
            return await self._given_up(run, wanted, wish, take_back, before)
        if request is None:
            return dict(facts)
        return dict(facts) | await self._finished(run, request, outlook, wish, take_back)

    async def _given_up(
        self,
        run: Run,
        wanted: Mapping[str, Any],
        wish: Wish,
        take_back: Callable[[str, Reason], None],
        before: tuple[str | None, str],
    ) -> dict[str, Any]:
        """Says what came of a finish that was given up before anything was asked of the machine for it: a refusal, but where an
        older one has gone through that. One that nobody else waits for, since the daemon it was asked of was killed, is taken back
        with it, unless it is too late for that."""
        older, target = run.finish, str(wanted.get("into") or run.base_branch)
        goes_on = not wish.looks and wish.others()
        if older is not None and not wish.looks and not goes_on:
            take_back(older.request, wish.why)
            await self._coordinator.until(lambda: run.finish is not older or "Finish" in run.failures)
        if goes_on or (run.finished_commit, run.finished_from) == before or run.finished_commit is None:
            raise _finish_error(run, target, wish.why, goes_on=goes_on)
        commit, into = run.finished_commit, older.target if older is not None else target
        text = f"a finish of run {run.id} that was begun before went through: {_finished_text(run, into, 'finished', commit)}"
        facts = _facts(run, into, None, Outlook(commit, commit, ()))
        return facts | {"outcome": "finished", "commit": commit, "text": text}

    async def _ready(
        self, run: Run, wanted: Mapping[str, Any]
    ) -> tuple[dict[str, Any], m.FinishRequested | None, Outlook]:
        """Looks at all that finishing asks for; gives what it would do, and the request for the machine, None where nothing is to
        be merged."""
        asked, preview = str(wanted.get("into") or run.base_branch), bool(wanted.get("preview"))
        if not asked:
            raise UsageError(
                "The run started from no branch.", "Nothing was done.", "name one with --into BRANCH"
            )
        repository = self._edges.repository
        target = repository.branch_meant(repository.branch_named(asked) or asked)
        refuse_ours(target)
        await look_at_staging(self._coordinator, self._edges, run, f"Run {run.id} was not finished")
        if not preview:
            await self._wait_for_turn()
            _check_ended(
                run, "Nothing was merged: what they do would be left behind.", "swarm finish", wanted
            )
            self._check_approved(run)
        edges, staging = (
            self._edges,
            run.published,
        )  # which moves on meanwhile, and what comes then nobody has approved
        old = await asyncio.to_thread(lambda: edges.repository.branch_commit(target))
        finisher = Finisher(edges.repository, edges.landing, edges.refs, edges.places)
        at, origin = self._coordinator.now(), Origin(run.base_branch, run.base_commit)
        outlook: Outlook = await asyncio.to_thread(
            lambda: finisher.outlook(run.id, staging, target, origin, at=at, handed_over=run.handed_over)
        )
        facts = _facts(run, target, old, outlook) | {"unapproved": self._doubt(run, staging)}
        if wanted.get("propose") and outlook.conflict:
            raise _finish_error(run, target, conflict_reason(target, outlook))
        stage_only = bool(wanted.get("stage_only"))
        if preview or wanted.get("propose"):
            why = "" if not preview else self._unapproved(run)
            if preview and not why and not outlook.nothing:
                reason = await asyncio.to_thread(
                    lambda: finisher.obstacle(target, outlook, stage_only=stage_only)
                )
                why = reason.text if reason is not None else ""
            facts |= {
                "outcome": "preview" if preview or not outlook.nothing else "nothing",
                "commit": outlook.new if preview else staging,
                "text": _preview_text(run, target, outlook),
                "refused": why,
            }
            return facts, None, outlook
        author, committer = await asyncio.to_thread(lambda: [_who(edges.repository, role) for role in _ROLES])
        request = m.FinishRequested(
            at=self._coordinator.now(),
            run=run.id,
            request=f"{self._coordinator.swarm.pid}-{self._coordinator.seq}-{next(_requests)}",
            target=target,
            stage_only=stage_only,
            commit=staging,
            author=author,
            committer=committer,
        )
        return facts, request, outlook

    async def _wait_for_turn(self) -> None:
        """Waits for a finish that goes on already, of this run or of another, such as one that a daemon which was killed had begun:
        it moves what this one is to be told of. One that can't go on at present is not waited for."""
        runs = self._coordinator.swarm.runs.values()
        await self._coordinator.until(
            lambda: not any(each.finish is not None and "Finish" not in each.failures for each in runs)
        )

    def _check_approved(self, run: Run) -> None:
        why = self._unapproved(run)
        if why:
            raise Refused(
                f"Run {run.id} was not finished: {why}.",
                "Nothing was merged: [qa] asks for an approval of exactly what stands on staging, unless qa.required = false.",
                f"swarm qa --run {run.id}",
            )

    def _unapproved(self, run: Run) -> str:
        """Says what is missing where an approval is required; "" where nothing is."""
        return self._doubt(run, run.published) if self._edges.settings.qa.needs_approval else ""

    def _doubt(self, run: Run, commit: str) -> str:
        """Says why nobody has approved of a commit of staging; "" where somebody has, or nobody was to."""
        qa = self._edges.settings.qa
        state = run.qa.state(commit) if run.qa is not None else ""
        if state == "approved" or not (run.qa is not None or qa.needs_approval or qa.names_reviewer):
            return ""
        causes = {
            "at_work": "its review is going on",
            "void": "staging has moved since it was approved",
            "rejected": f"it was not approved: {run.qa.reason if run.qa is not None else ''}",
        }
        return causes.get(state, "it has not been reviewed")

    async def _finished(
        self,
        run: Run,
        wanted: m.FinishRequested,
        outlook: Outlook,
        wish: Wish,
        take_back: Callable[[str, Reason], None],
    ) -> dict[str, Any]:
        coordinator, key = self._coordinator, wanted.request
        await coordinator.ask(wanted)  # whatever happens meanwhile: what is in the inbox is carried out
        ending = coordinator.until(lambda: key in coordinator.finished)
        await _heeding(ending, wish, lambda _: take_back(key, wish.why))
        if key not in coordinator.finished:
            raise SwarmError(
                "The daemon ended while it was finishing.",
                "The next one goes on with it.",
                "swarm start, then swarm status",
            )
        ended = coordinator.finished.pop(key)
        if isinstance(ended, m.FinishRefused):
            raise _finish_error(
                run,
                wanted.target,
                ended.reason,
                goes_on=ended.reason.code == TAKEN_BACK.code and wish.others(),
            )
        outcome = "nothing" if outlook.nothing else "staged" if wanted.stage_only else "finished"
        text = _finished_text(run, wanted.target, outcome, ended.commit)
        return {"outcome": outcome, "commit": ended.commit, "text": text}


def _who(repository: git.Repository, role: str) -> tuple[str, str] | None:
    """Gives a name and an address as the journal can show them: of text that is not UTF-8 what can be read."""
    known = repository.identity(role)
    if known is None:
        return None
    name, address = (part.encode("utf-8", "replace").decode() for part in known)
    return name, address


def refuse_ours(target: str) -> None:
    """Raises `UsageError` for a target that is one of swarm's own branches, which only landings and attempts move."""
    if target.startswith(OUR_BRANCHES):
        raise UsageError(
            f'"{target}" is one of swarm\'s own branches: nothing is finished into those.',
            "Nothing was done.",
            "name a branch of yours with --into BRANCH",
        )


async def look_at_staging(coordinator: Coordinator, edges: Edges, run: Run, otherwise: str) -> None:
    """Makes sure that nothing that a person has committed on staging by now is left behind: it lands first. Raises `Refused`.

    A look that was on its way already may have passed by before that commit, and where staging is known to be astray it is looked
    at but now and then. So whoever asks looks too, until what they see is what is known.
    """
    if not run.prepared:
        failed = run.failures.get("PrepareRun")
        if failed:
            raise Refused(f"{otherwise}: its staging branch could not be made yet: {failed}")
        raise Refused(f"{otherwise}: its staging branch is being made.", "", f"swarm wait --run {run.id}")
    lookout = Lookout(edges.repository, edges.landing, edges.pool.objects)
    worktree = edges.staging_worktree(run.id)
    with suppress(TimeoutError):  # somebody goes on moving it to and fro
        async with asyncio.timeout(NEWS_S):
            while not coordinator.ended:
                await coordinator.ask(m.StagingLookAsked(at=coordinator.now(), run=run.id))
                await coordinator.until(lambda: run.looking != "")
                known = run.looking
                seen = await asyncio.to_thread(lambda: lookout.look(run.id, run.published, worktree))
                if seen.known == known if known is not None else as_it_should_be(run, seen):
                    break
                await coordinator.until(lambda known=known: known is None or run.looking != known)  # type: ignore[misc]
    await coordinator.until(lambda: not _takes_in(run))
    reason = explain(run)
    if reason is not None:
        raise Refused(f"{otherwise}: {reason.text}")  # no full stop: it may end with a command


def _takes_in(run: Run) -> bool:
    task = run.tasks[run.astray.task] if run.astray is not None and run.astray.task else None
    held_up = run.astray is not None and run.astray.seen.kind is not Standing.BY_HAND
    return task is not None and task.live is not None and not held_up


def _check_ended(run: Run, consequence: str, command: str, wanted: Mapping[str, Any]) -> None:
    if run.open_tasks and not wanted.get("partial"):
        raise Refused(
            f"{counted(run.open_tasks, 'task')} of run {run.id} {'has' if run.open_tasks == 1 else 'have'} not ended.",
            consequence,
            f"swarm wait --run {run.id}, or {command} --run {run.id} --partial for what has landed so far",
        )


def _facts(run: Run, target: str, old: str | None, outlook: Outlook) -> dict[str, Any]:
    return {
        "run": run.id,
        "into": target,
        "old_commit": old,
        "landed": [name for name, _ in run.landed],
        "missing": [
            name for name, task in run.tasks.items() if task.state not in GOOD_ENDS and not task.spec.qa
        ],
        "paths": list(outlook.paths)[:1000],
        "conflicts": list(outlook.conflict),
    }


async def _heeding(
    work: Coroutine[Any, Any, Any], wish: Wish, give_up: Callable[[asyncio.Task[Any]], object]
) -> Any:
    """Waits for work, and has it given up once the wish for it is."""
    doing, heard = asyncio.ensure_future(work), asyncio.ensure_future(wish.unwanted.wait())
    try:
        await asyncio.wait({doing, heard}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            give_up(doing)
        return await doing
    finally:
        heard.cancel()
        doing.cancel()


def _nothing_text(run: Run, target: str) -> str:
    return (
        f"{target} has everything that is on staging."
        if run.landed
        else f"Nothing of run {run.id} has landed."
    )


def _preview_text(run: Run, target: str, outlook: Outlook) -> str:
    if outlook.conflict:
        text = conflict_reason(target, outlook).text
        return f"Nothing would be merged: {text}."
    if outlook.nothing:
        return _nothing_text(run, target)
    how = "by a merge commit" if outlook.merged else "by moving it forward"
    number = len(outlook.paths)
    paths = "1 path changes" if number == 1 else f"{number} paths change"
    settings = brings_settings(outlook.paths)
    look = f"git diff {outlook.old[:12]} {staging_branch(run.id)} -- {settings}"
    told = f" {settings} is among them, which {COMMANDS}; look first: {look}" if settings else ""
    return f"{target} would go from {outlook.old[:12]} to {outlook.new[:12]} {how}; {paths}.{told}"


def _finished_text(run: Run, target: str, outcome: str, commit: str) -> str:
    if outcome == "staged":
        return f"The index and files of {target}'s checkout hold the result; nothing was committed."
    if outcome == "nothing":
        return _nothing_text(run, target)
    return f"{target} stands at {commit[:12]}."


def _settling(run: Run, target: str, over: Sequence[str]) -> str:
    """Says how a conflict is settled; what git would merge by itself is looked at before it does."""
    at = shlex.join(["git", "-C", run.shown_worktree])
    if not over:
        step = f"{at} merge {target}, settle and commit it there"
        return f"{step}, then swarm finish again; or add a task that does it: swarm add"
    paths = shlex.join(over) if len(over) <= NAMED_MAX else "PATH"
    ours = f"{at} restore --source=HEAD --staged --worktree -- {paths}"
    return (
        f"{at} merge --no-commit {target}, which takes what {target} has; what is to be as on staging: {ours}; "
        f"settle what else there is, {at} commit, then swarm finish again"
    )


def _finish_error(run: Run, target: str, reason: Reason, *, goes_on: bool = False) -> SwarmError:
    """Makes the error of a finish that was refused; another one `goes_on`, which somebody else asks for."""
    kind = Refused if reason.facts.get("exit_code") == 4 else SwarmError
    steps = {
        "conflict": _settling(run, target, reason.facts.get("passed_over") or ()),
        "moved": "swarm finish again",
        "machine": "see to the machine, then swarm finish again",
        "verify_failed": f"look at {', '.join(map(str, reason.facts.get('logs', ())))}",
        "no_checkout": f"check {target} out, or finish without --stage-only",
    }
    consequence = f"{target} stays as it was; run {run.id} is kept."
    step = reason.facts.get("next_step") or steps.get(reason.code, "swarm finish again")
    if goes_on:
        consequence = f"Another swarm finish of run {run.id} goes on, and merges when its turn comes."
        step = "Ctrl-C where that was typed, or swarm stop, gives it up too; swarm status shows it"
    return kind(f"Run {run.id} was not finished: {reason.text.rstrip('.')}.", consequence, step)

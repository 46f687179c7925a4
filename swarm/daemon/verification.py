"""Runs suites on exactly one commit, side by side, in a scratch worktree of the landing repository.

A suite is a process like a worker: started through the launcher, known by its folder, so that after a crash of the daemon
the same suites on the same commit are waited for, or their result is read, instead of running twice. All of them run to their end,
also when one has failed: whoever mends the work is told everything at once. Each has a folder for its temporary files and its own
file for coverage figures; caches that many programs may use at once (of packages, of compilers) stay those of the user, warm.

Rules for editing: the worktree is prepared only when none of the candidate's suites has started: what they left in it tells which
tracked files they changed. Nothing is decided: the outcomes go back as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any, NamedTuple

from swarm.core.model import Suite, SuiteResult, slug
from swarm.core.places import AttemptPlaces, Places
from swarm.core.state import some
from swarm.core.suites import (
    blamed,
    broken_runner,
    does_not_add_up,
    is_split_for,
    no_tests,
    one_by_one,
    says_if_tests_ran,
    together,
)
from swarm.crashpoints import crash_at
from swarm.daemon.oversight import Oversight
from swarm.daemon.threads import to_its_end
from swarm.dataclass import dataclass
from swarm.edge import contract, git, process, pytest_split, trouble, whole
from swarm.edge.furnish import USUAL, Bounds, WorktreeSetupFailed
from swarm.edge.linked import remove
from swarm.edge.remembered import Remembered
from swarm.edge.suite_rooms import NO_ROOMS, Rooms
from swarm.edge.worktrees import Pool
from swarm.errors import SwarmError

TAIL_BYTES = 6000
TAIL_LINES = 60
LOOK_BYTES, LOOK_LINES = 1 << 18, 10_000  # of an output in which a broken runner is looked for
SUITES_MAX = 8  # at once, where no settings are
SETUP_LOG = "setup.log"  # of a candidate at which it failed
VOID = "void"  # in a suite's folder: what it says does not count
SHARES = "shares"  # in the folder of a part: which test files it had
OVER = "over"  # in a suite's folder: why it is being ended, that its time is over where it says nothing
CHANGED = "changed"  # in a suite's folder: the tracked files that it left changed
MULTIPLIED = "processes"  # … that it had too many of them
KILLED = "killed"  # in a suite's folder: as many bytes as it was ended from outside
KILLED_MAX = 3  # times: then it has failed, since what ends it may be itself
LOST = "its worktree was deleted or moved away while it ran, by it or a suite beside it"
NO_PLACE = "did not run: its worktree had been deleted or moved away by a suite beside it"
_GRACE_S = 2.0

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
Exited = Callable[[process.Identity], Awaitable[None]]
Bounding = Callable[[Path, process.Identity, Callable[[], None]], contextlib.AbstractContextManager[None]]


class Outcomes(NamedTuple):
    """What the suites said, and what the machine lacked when one of them failed."""

    suites: tuple[SuiteResult, ...]
    trouble: str


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies candidates; `in_thread` and `exited` are how it waits without holding up the loop. `room` is that for suites, of all
    candidates together. While `leaving` they are left to the next daemon, which goes on waiting for them. `bounding` keeps the
    output of a suite that runs to its size, and tells where it has too many processes; `rooms` are what suites are shut in by."""

    places: Places
    scratch: Pool
    environ: Mapping[str, str]
    in_thread: InThread
    exited: Exited
    leaving: Callable[[], bool] = lambda: False
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SUITES_MAX))
    remembered: Remembered | None = None
    bounding: Bounding = lambda *_: contextlib.nullcontext()
    rooms: Rooms = NO_ROOMS

    async def verify(
        self,
        key: str,
        nonce: str,
        places: AttemptPlaces,
        candidate: str,
        suites: Sequence[Suite],
        *,
        again: bool = False,
    ) -> Outcomes:
        """Runs every suite, side by side, in one worktree at `candidate`; gives their outcomes in the same order. Those that passed
        on the same tree a short while ago do not run, unless all are to run `again` there, whatever was said before. Where the
        setup of the worktree fails, but does not on the commit before, none could run, and each has failed.

        Where the disk is full when one has failed, none of it counts: they are forgotten and run anew when asked for again. When
        cancelled, or where one can't be run, ends what it started.
        """
        folder = places.candidate(candidate, again=again)
        bench = _Bench(self, bench_key(key), nonce, folder, candidate, again=again)
        try:
            unmade = await to_its_end(self.in_thread(lambda: bench.prepare(suites)))
            crash_at("verify.prepared")
            if unmade is not None:
                await to_its_end(self.in_thread(lambda: self.scratch.give_back(bench.key)))
                return Outcomes(bench.not_run(suites, unmade), "")
            ends = await _all(bench.run(n, suite) for n, suite in enumerate(suites, 1))
            lacks = next((end.lacks for end in ends if end.lacks and end.result.outcome == "failed"), "")
            results = await to_its_end(self.in_thread(lambda: bench.judge(ends)))
        except BaseException as error:
            if not self.leaving() and (bench.ready or isinstance(error, asyncio.CancelledError)):
                await to_its_end(self.in_thread(bench.drop))
            raise
        crash_at("verify.settled")
        if lacks:
            await to_its_end(self.in_thread(bench.drop))
        else:
            await to_its_end(self.in_thread(lambda: self.scratch.give_back(bench.key)))
        return Outcomes(results, lacks)


def finish_key(run: str, request: str) -> str:
    """Names a finish as `attempt_key` does an attempt."""
    return f"finish/{run}/{request}"


def bench_key(key: str) -> str:
    """Names who has the worktree in which something is verified."""
    return f"verify/{key}"


class _End(NamedTuple):
    """How a suite, or one process of it, ended: what it said, where it ran, what the machine lacked then, and which tracked files
    were changed by then."""

    result: SuiteResult
    folder: Path
    lacks: str
    changed: frozenset[str]


class _Bench:
    """One candidate under verification: its worktree, and the folder that has one for each of its suites."""

    def __init__(
        self, verifier: Verifier, key: str, nonce: str, folder: Path, candidate: str, *, again: bool
    ) -> None:
        self.key = key
        self.ready = False
        self._verifier = verifier
        self._nonce = nonce
        self._folder = folder
        self._candidate = candidate
        self._again = again
        self._tree = Path()
        self._git_folder: Path | None = None  # stands in for the landing repository in front of the suites
        self._keys: dict[int, str] = {}  # by which suites are remembered, by their number
        self._known: dict[int, SuiteResult] = {}  # those that need not run
        self._starting = threading.Lock()
        self._dropped = False

    def prepare(self, suites: Sequence[Suite]) -> WorktreeSetupFailed | None:
        """Has the worktree in which the suites run already, or have run, else a clean one at the candidate, if any has to run.
        Gives how its setup failed where that is the candidate's doing."""
        self._end_others()
        folders, tree = self._folders(), None
        for folder in folders:
            if (folder / VOID).exists():
                self._void(folder)
        if any(process.started(folder / "worker") is not None for folder in folders):
            scratch = self._verifier.scratch
            mine = (entry for entry in scratch.members() if entry.key == self.key)
            tree = next((entry.path for entry in mine if entry.head == self._candidate), None)
            if tree is None and any(lease.key == self.key for lease in scratch.leases()):
                # One of them deleted it: what they left of its files can't be told any more.
                for folder in folders:
                    self._void(folder)
        else:
            self._recall(suites)
        if len(self._known) < len(suites):
            try:
                self._tree = tree or self._verifier.scratch.take(self.key, self._candidate)
            except WorktreeSetupFailed as failed:
                os.makedirs(self._folder, exist_ok=True)
                shutil.copyfile(failed.log, self._folder / SETUP_LOG)  # the next one takes its place
                self._set_up_before(failed)
                return failed
            # Also where nothing shuts them in: `git config` or `git gc` in a worktree is for the repository that it belongs to.
            rooms = self._verifier.rooms
            in_place = rooms.holds_suites and rooms.sandbox.moves
            self._git_folder = self._verifier.scratch.seclude(self.key, in_place=in_place, anew=tree is None)
            self.ready = True
        return None

    def _set_up_before(self, failed: WorktreeSetupFailed) -> None:
        """Sets the worktree up at the commit before. Raises WorktreeSetupFailed where that fails as well: it is nothing that the
        candidate brings, and may be a network or a disk that is better later. Where there is none, as before what a run started
        from, nobody can tell, so that is what `failed` at the candidate."""
        scratch = self._verifier.scratch
        before = scratch.objects.commit(self._candidate).parents[:1]
        if not before or scratch.objects.kind(before[0]) is None:
            raise failed
        scratch.take(self.key, before[0])

    def not_run(self, suites: Sequence[Suite], unmade: WorktreeSetupFailed) -> tuple[SuiteResult, ...]:
        """Gives the outcomes where no worktree could be made for the suites."""
        note = f"did not run: {unmade.cause} It does not fail on the commit before."
        failed = SuiteResult(
            "", "failed", log=str(self._folder / SETUP_LOG), tail=f"({note})\n{unmade.tail}", note=note
        )
        return tuple(
            self._known.get(n) or replace(failed, name=suite.name) for n, suite in enumerate(suites, 1)
        )

    def _end_others(self) -> None:
        """Ends what a daemon that was killed left running on an earlier candidate of the attempt, in the same worktree."""
        for folder in self._folder.parent.glob("*/*"):
            worker = folder / "worker"
            if (
                folder.parent != self._folder
                and process.started(worker) is not None
                and process.exit_of(worker) is None
            ):
                self._void(folder)

    def _recall(self, suites: Sequence[Suite]) -> None:
        """Finds the suites that need not run; once any has started for this candidate, what it says is waited for."""
        scratch, remembered = self._verifier.scratch, self._verifier.remembered
        if remembered is None:
            return
        tree = scratch.objects.tree_of(self._candidate)
        env = _for_others(self._verifier.environ)
        if self._verifier.rooms.holds_suites:
            env |= self._verifier.rooms.told
        for number, suite in enumerate(suites, 1):
            key = self._keys[number] = remembered.key(tree, suite, env, scratch.furnishing)
            known = remembered.find(key) if key and not self._again else None
            if known is not None:
                note = f"not run again: it passed on the same tree, in {known.duration_s:.1f} s"
                self._known[number] = replace(
                    known, name=suite.name, duration_s=0.0, note=note, remembered=True
                )

    def drop(self) -> None:
        """Ends suites whose outcome nobody wants any more.

        What is being ended says nothing about the candidate: it is marked first, so that a daemon that is killed meanwhile
        leaves no failure behind.
        """
        with self._starting:  # a start may be under way in a thread that nobody waits for any more
            self._dropped = True
        folders = self._folders()
        for folder in folders:
            (folder / VOID).touch()
        for folder in folders:
            self._void(folder)
        self._verifier.scratch.give_back(self.key)

    async def run(self, number: int, suite: Suite) -> _End:
        """Runs one suite, in parts where it has them; as a whole where those do not come to every test once."""
        place = self._folder / f"{number}-{slug(suite.name)}"
        if number in self._known:
            return _End(self._known[number], place, "", frozenset())
        if suite.shard == 1:
            return await self._whole(suite, place)
        numbers = range(1, suite.shard + 1)
        parts = await _all(self._part(suite, place, part) for part in numbers)
        why = await self._verifier.in_thread(lambda: _broken_parts(suite, parts))
        if not why:
            return _together(suite, parts)
        whole = await self._whole(suite, _beside(place, "whole"))
        return _after(parts, whole, f"ran as a whole, since {why}")

    async def _part(self, suite: Suite, place: Path, part: int) -> _End:
        folder = _beside(place, f"{part}of{suite.shard}")
        env = {"SWARM_SHARD": str(part), "SWARM_SHARDS": str(suite.shard)}
        if is_split_for(suite):
            env |= pytest_split.environment(self._verifier.environ, folder / SHARES)
        return await self._process(suite, folder, suite.run, env)

    async def _whole(self, suite: Suite, place: Path) -> _End:
        """Runs a suite in one process; once more, one test after the other, where its own parallel runner broke."""
        first = await self._process(suite, place, suite.run, {})
        why = await self._verifier.in_thread(lambda: _broken_runner(first))
        if not why:
            return first
        alone = f"{self._verifier.environ.get('PYTEST_ADDOPTS', '')} -n0".strip()
        env = {"PYTEST_ADDOPTS": alone, "PYTEST_XDIST_AUTO_NUM_WORKERS": "0"}
        again = await self._process(suite, _beside(place, "again"), one_by_one(suite.run), env)
        return _after(
            [first], again, f"ran again one test after the other, since its parallel runner broke: {why}"
        )

    async def _process(self, suite: Suite, folder: Path, run: str, env: Mapping[str, str]) -> _End:
        """Runs one process of a suite, as soon as there is room for it."""
        in_thread, output, nonce = self._verifier.in_thread, folder / "output.log", self._name(folder)
        async with self._verifier.room:
            try:
                identity = await in_thread(lambda: self._start(folder, run, env))
            except SwarmError:
                lost, changed = await in_thread(self._left)
                if not lost:
                    raise
                return _End(SuiteResult(suite.name, "failed", note=NO_PLACE), folder, "", changed)
            crash_at("verify.started")
            multiplied = asyncio.Event()
            with self._verifier.bounding(output, identity, multiplied.set):
                over = await self._wait(identity, folder / "worker", suite.timeout_s, multiplied)
            # Now: what it left in its folder goes, and makes room.
            lacks = trouble.of_disks((folder, self._tree))
            code = await in_thread(lambda: _settle(identity, nonce, folder, self._own(folder), over=over))
            outcome = await in_thread(lambda: _outcome(suite, code, output, over=over))
            result = SuiteResult(
                name=suite.name,
                outcome=outcome,
                exit_code=code,
                duration_s=_took_s(folder / "worker"),
                log=str(output),
                tail="" if outcome == "passed" else tail_of(output),
            )
            said = ""
            if over == MULTIPLIED:
                said = "it had more processes than limits.processes_max and was ended"
            elif code is None and over is None:
                said = f"it was ended from outside, {KILLED_MAX} times, before it could say how it went"
            if said:
                result = replace(result, tail=f"{result.tail}\n({said})".lstrip(), note=said)
            lost, changed = await in_thread(self._left)
            return _End(_in_lost(result) if lost else result, folder, lacks, changed)

    async def _wait(
        self, identity: process.Identity, worker: Path, timeout_s: float, multiplied: asyncio.Event
    ) -> str | None:
        """Waits for the end of a suite; gives why it has to be ended, None where it has. One that an earlier daemon started has had
        some of its time."""
        over = worker.parent / OVER
        if over.exists():  # an earlier daemon was killed while it ended the suite
            return over.read_text()
        left_s = None if process.exit_of(worker) else max(0.0, timeout_s - process.age_s(identity))
        exited = asyncio.ensure_future(self._verifier.exited(identity))
        waits = (exited, asyncio.ensure_future(multiplied.wait()))
        try:
            await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if exited.done():
            exited.result()
            return None
        if not multiplied.is_set() and process.exit_of(worker) is not None:
            return None  # it has ended, and this process, which stood still, is late to see it
        whole.write(over, MULTIPLIED if multiplied.is_set() else "", durable=False)
        return over.read_text()

    def _left(self) -> tuple[bool, frozenset[str]]:
        """Tells whether the worktree is lost, and which tracked files are changed in it."""
        scratch = self._verifier.scratch
        return scratch.is_lost(self.key), frozenset(scratch.changed(self.key))

    def _start(self, folder: Path, run: str, env: Mapping[str, str]) -> process.Identity:
        known = process.started(folder / "worker")
        if known is not None:
            return known
        os.makedirs(folder / SHARES, mode=0o700, exist_ok=True)
        prefix, base = self._room(folder)
        with self._starting:
            if self._dropped:
                raise RuntimeError("the verification was dropped before this suite had started")
            return process.start(
                folder / "worker",
                ("/bin/sh", "-c", run),
                cwd=self._tree,
                env={**base, **env},
                nonce=self._name(folder),
                output=folder / "output.log",
                prefix=prefix,
            )

    def _room(self, folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
        """Makes where a suite runs; gives what stands before its command, and its environment."""
        verifier, rooms = self._verifier, self._verifier.rooms
        base, own = _for_others(verifier.environ), self._own(folder)
        assert own is not None
        if not rooms.holds_suites:
            os.makedirs(own / "tmp", mode=0o700, exist_ok=True)
            return (), _environment(base, own / "tmp")
        prefix = rooms.suite(self._tree, self._git_folder, verifier.scratch.common, own, folder / SHARES)
        inside = rooms.environment(base, own)
        return prefix, _environment(inside, Path(inside["TMPDIR"]))

    def judge(self, ends: Sequence[_End]) -> tuple[SuiteResult, ...]:
        """Fails the suites that left tracked files changed. Written down, since the worktree will be another's before the journal
        knows the outcome. Where none did, those that passed are remembered."""
        left = self._verifier.scratch.changed(self.key)
        for end in ends:
            mine = blamed(left, end.changed)
            if mine:
                _write_changed(end.folder, mine)
        results = tuple(_with_changed(end.result, _read_changed(end.folder)) for end in ends)
        if self._verifier.remembered is not None and not any(result.changed for result in results):
            passed = [(key, results[n - 1]) for n, key in self._keys.items() if key and n not in self._known]
            self._verifier.remembered.note(each for each in passed if each[1].outcome == "passed")
        return results

    def _folders(self) -> list[Path]:
        """Lists the folders of the suites that have started, or were about to."""
        return sorted(path for path in self._folder.glob("*") if path.is_dir())

    def _name(self, folder: Path) -> str:
        """Names a suite in the environment of its processes."""
        return f"{self._nonce}-{folder.name}"

    def _own(self, folder: Path) -> Path | None:
        """Gives where a suite keeps its temporary files: beside the worktree, and so with a path that leaves room for the names of
        socket files. None where the lease is over, and that place with it."""
        beside = self._verifier.scratch.own(self.key)
        name = os.fsencode(f"{folder.parent.name}/{folder.name}")
        return None if beside is None else beside / f"{zlib.crc32(name):08x}"

    def _void(self, folder: Path) -> None:
        """Ends a suite and forgets that it ran."""
        worker = folder / "worker"
        process.end_tree(process.identity(worker), self._name(folder), folder=worker, grace_s=_GRACE_S)
        for left in (worker, folder / SHARES):
            shutil.rmtree(left, ignore_errors=True)
        _remove_own(self._own(folder))
        for name in (CHANGED, OVER, VOID):
            (folder / name).unlink(missing_ok=True)


async def _all(works: Iterable[Coroutine[Any, Any, _End]]) -> list[_End]:
    """Waits for all; where one can't be done, those that wait on are ended before it is told."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def verify_alone(
    scratch: Pool,
    places: AttemptPlaces,
    environ: Mapping[str, str],
    candidate: str,
    suites: Sequence[Suite],
    rooms: Rooms = NO_ROOMS,
    bounds: Bounds = USUAL,
    *,
    nonce: str,
) -> Outcomes:
    """Verifies one commit where no daemon is, and waits for the outcome; `places` gets what a verification leaves. Each suite has
    the room for its output and the processes of `bounds`; their names in the environment begin with `nonce`."""

    async def verify() -> Outcomes:
        oversight = Oversight(
            None,
            lambda work: asyncio.get_running_loop().run_in_executor(None, work),
            lambda _: None,
            time.time,
            output_bytes_max=bounds.output_bytes,
            processes_max=bounds.processes,
        )
        verifier = Verifier(
            Places(places.folder),
            scratch,
            environ,
            asyncio.to_thread,
            _exited_by_thread,
            bounding=oversight.bounding,
            rooms=rooms,
        )
        return await verifier.verify(nonce, nonce, places, candidate, suites)

    return asyncio.run(verify())


async def _exited_by_thread(identity: process.Identity) -> None:
    """Waits for the end of a process; a thread that is left waiting ends with the process, which a timeout ends."""
    handle = process.exit_handle(identity)
    if handle is not None:
        await asyncio.to_thread(_wait_and_close, handle)


def _wait_and_close(handle: int) -> None:
    try:
        waiter = select.poll()
        waiter.register(handle, select.POLLIN)
        waiter.poll()
    finally:
        os.close(handle)


def _for_others(base: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in base.items() if contract.is_for_others(name)}


def _environment(base: Mapping[str, str], own: Path) -> dict[str, str]:
    """A suite gets an environment without what points git or swarm at this repository, and places for its own files."""
    return {
        **base,
        "TMPDIR": str(own),
        "COVERAGE_FILE": str(own / ".coverage"),  # two suites that write the same one spoil it
        "GIT_TERMINAL_PROMPT": "0",
    }


def _outcome(suite: Suite, code: int | None, output: Path, *, over: str | None) -> str:
    if over is not None:
        return "failed" if over == MULTIPLIED else "timeout"
    said = tail_of(output, lines=LOOK_LINES, most=LOOK_BYTES) if says_if_tests_ran(suite.run) else ""
    if no_tests(suite.run, code, said):
        return "none"
    return "passed" if code == 0 else "failed"


def _settle(
    identity: process.Identity, nonce: str, folder: Path, own: Path | None, *, over: str | None
) -> int | None:
    """Ends what a suite left, or all of it where that is not None; gives its exit code. Nobody's word left means run again,
    and in the end that it has none."""
    worker = folder / "worker"
    crash_at("verify.exited")
    process.reap(identity)
    if over is not None or process.members(nonce, identity, folder=worker):
        process.end_tree(identity, nonce, folder=worker, grace_s=_GRACE_S, multiplies=over == MULTIPLIED)
        process.reap(identity)
    _remove_own(own)
    ended = process.exit_of(worker)
    if ended is None and over is None and not _is_often_killed(folder):
        raise OSError(f"the suite in {folder} was ended from outside before it could say how it went")
    return ended.code if ended is not None else None


def _is_often_killed(folder: Path) -> bool:
    """Notes that a suite was ended from outside; tells whether it was so often enough to be judged by it."""
    with (folder / KILLED).open("ab") as killed:
        killed.write(b".")
        return killed.tell() >= KILLED_MAX


def _remove_own(own: Path | None) -> None:
    """Removes what a suite had for itself; what can't be removed, files of another user, says nothing of the candidate."""
    if own is not None:
        with contextlib.suppress(OSError):
            remove(own)


def _beside(place: Path, mark: str) -> Path:
    return place.with_name(f"{place.name}.{mark}")


def _broken_runner(end: _End) -> str:
    """Says how the parallel runner of a suite broke, where it did and the suite has not passed; "" else."""
    if end.result.outcome == "passed":
        return ""
    return broken_runner(tail_of(Path(end.result.log), lines=LOOK_LINES, most=LOOK_BYTES))


def _broken_parts(suite: Suite, parts: Sequence[_End]) -> str:
    """Says why the parts of a suite are not to be believed; "" where they are."""
    broke = next(filter(None, map(_broken_runner, parts)), "")
    if broke:
        return f"its parallel runner broke: {broke}"
    if not is_split_for(suite):
        return ""
    try:
        shares = [share for part in parts for share in pytest_split.shares(part.folder / SHARES)]
    except ValueError as error:
        return f"one of its parts is not to be believed: {error}"
    why = does_not_add_up(shares, suite.shard)
    return f"its parts do not add up: {why}" if why else ""


def _together(suite: Suite, parts: Sequence[_End]) -> _End:
    """Gives what the parts of a suite come to; what is told is of those that did not pass, else of the slowest."""
    outcome = together({part.result.outcome for part in parts})
    bad = [part.result for part in parts if part.result.outcome == outcome != "passed"]
    shown = bad[0] if bad else max((part.result for part in parts), key=lambda each: each.duration_s)
    tails = "\n".join(f"(part {Path(each.log).parent.name})\n{each.tail}" for each in bad[:3])
    result = replace(
        shown,
        outcome=outcome,
        duration_s=max(part.result.duration_s for part in parts),
        tail=tails,
        parts=suite.shard,
    )
    return _End(result, parts[0].folder, _first(parts), frozenset().union(*(part.changed for part in parts)))


def _after(first: Sequence[_End], end: _End, note: str) -> _End:
    """Gives how a suite ended that was run otherwise first, and why."""
    took_s = max(each.result.duration_s for each in first) + end.result.duration_s
    notes = "; ".join(filter(None, (note, end.result.note)))
    return end._replace(
        result=replace(end.result, duration_s=took_s, note=notes), lacks=_first([*first, end])
    )


def _first(ends: Sequence[_End]) -> str:
    return next((end.lacks for end in ends if end.lacks), "")


def _took_s(worker: Path) -> float:
    """Gives how long a suite ran, also one that ended while no daemon was there."""
    ended = process.exit_of(worker)
    return max(0.0, (time.time() if ended is None else ended.at) - os.stat(worker / "lock").st_mtime)


def _write_changed(folder: Path, paths: Sequence[str]) -> None:
    whole.write(folder / CHANGED, git.encode("\0".join(paths)), durable=False)


def _read_changed(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(git.decode((folder / CHANGED).read_bytes()).split("\0"))
    except FileNotFoundError:
        return ()


def _with_changed(result: SuiteResult, changed: tuple[str, ...]) -> SuiteResult:
    if not changed:
        return result
    said = f"Tracked files were changed while it ran, so it did not verify the candidate: {some(changed, 20)}"
    tail = result.tail or tail_of(Path(result.log))
    outcome = "failed" if result.outcome == "passed" else result.outcome
    return replace(result, outcome=outcome, changed=changed, tail=f"{tail}\n{said}".lstrip())


def _in_lost(result: SuiteResult) -> SuiteResult:
    """Fails a suite at whose end its worktree was lost: where it ran there is nothing that could land."""
    outcome = "failed" if result.outcome == "passed" else result.outcome
    tail = result.tail or tail_of(Path(result.log))
    notes = "; ".join(filter(None, (result.note, LOST)))
    return replace(result, outcome=outcome, note=notes, tail=f"{tail}\n({LOST})".lstrip())


def tail_of(path: Path, *, lines: int = TAIL_LINES, most: int = TAIL_BYTES) -> str:
    """Gives the last lines of an output file, at most `most` bytes of them; "" where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])

"""Holds the world against the journal: worktrees, git's records of them, branches, processes. `swarm recover` and every start.

The replayed state says which commands are outstanding, and carrying them out finds what is done; here is what no command stands
for: what a crash, a full disk or a person left lying. Each finding says what was found and what is done about it.

Rules for editing: everything here may be killed at any point and done again, and may be done beside a daemon that works; with
`dry_run` nothing is changed. Work is never removed, only put under a ref or left where it is; what is not ours is not touched.
"""

from __future__ import annotations

import functools
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path

from swarm import config, log
from swarm.core import astray
from swarm.core.entries import REJECT
from swarm.core.model import (
    ATTEMPT_ENDS,
    STAGING_WORKTREE,
    UP_STEPS,
    Attempt,
    Cleaned,
    Finding,
    Standing,
    Step,
    attempt_key,
    staging_branch,
)
from swarm.core.places import Places
from swarm.core.run import Run
from swarm.core.state import Swarm
from swarm.crashpoints import crash_at
from swarm.daemon.edges import Edges
from swarm.daemon.finishing import Finisher
from swarm.daemon.verification import bench_key, finish_key
from swarm.dataclass import dataclass
from swarm.edge import foresight, git, linked, opened, orphans, process, pruning, scratch
from swarm.edge.furnish import Bounds
from swarm.edge.ground import POOL
from swarm.edge.host import Host
from swarm.edge.landing import LandingRepository
from swarm.edge.lockfile import MergeLockHeld, exclusive
from swarm.edge.sandbox import NO_SANDBOX, Sandbox
from swarm.edge.saved import Saver
from swarm.edge.suite_rooms import Rooms
from swarm.edge.worktrees import Pool
from swarm.errors import SwarmError
from swarm.settings import Settings

END_GRACE_S = 2.0  # for processes of attempts that have ended
_log = log.get("reconcile")

_Look = Callable[["Known", Edges, bool], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class KeptWork:
    """A commit of an attempt that has not landed, and the branch that it stands on."""

    run: str
    task: str
    n: int
    branch: str
    base: str
    head: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal says that there must be, taken down at one moment so that it can be looked at beside a running machine.

    `staging` are the worktree of each run that is prepared, where it stands and where it is going, `published` where the last
    landing left the staging branch of those that are not finished, or of all where a person asks, `finished` which of them are;
    `up` the attempts whose workers
    run, as far as anybody knows, and where; `leases` who works in which worktree from which base, `ended`
    the attempts that need none any more, `runs` the ids of all runs; `nonces` the names of the workers that may live,
    `verifying` those of whom suites may, `finishing` the targets of the runs whose finish was begun,
    `running` the names of what lived a moment before, `at` when all this was so.
    """

    staging: dict[str, tuple[Path, str, str]] = field(default_factory=dict)
    published: dict[str, str] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    up: list[tuple[str, str, int, str]] = field(default_factory=list)
    leases: dict[str, tuple[Path, str]] = field(default_factory=dict)
    work: list[KeptWork] = field(default_factory=list)
    nonces: set[str] = field(default_factory=set)
    verifying: set[str] = field(default_factory=set)
    benches: set[str] = field(default_factory=set)
    finishing: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    runs: list[str] = field(default_factory=list)
    running: Mapping[str, list[int]] = field(default_factory=dict)
    alone: bool = False
    asked: bool = False
    at: float = field(default_factory=time.time)


def running(places: Places) -> dict[str, list[int]]:
    """Lists the processes of workers by nonce. To be asked before `known`: a worker that starts later is then not in the list."""
    return process.nonces(f"{places.nonce_head}-")


def known(
    swarm: Swarm, places: Places, before: Mapping[str, list[int]], *, alone: bool, asked: bool = False
) -> Known:
    """Takes down what there must be; `before` is what `running` gave, `alone` says that no daemon works on it meanwhile, `asked`
    that it is no start: a start leaves the branch of a finished run deleted, and looks after workers that are gone by itself."""
    found = Known(running=before, alone=alone, asked=asked)
    for run in swarm.runs.values():
        found.runs.append(run.id)
        if run.prepared and not run.discarding:
            _take_down_staging(found, run)
        if run.finish is not None:
            found.finishing[run.id] = run.finish.target
            found.verifying.add(f"{places.nonce_head}-{run.finish.request}")
            found.benches.add(bench_key(finish_key(run.id, run.finish.request)))
        for name, attempt in _attempts(run):
            key = attempt_key(run.id, name, attempt.n)
            if attempt.step not in ATTEMPT_ENDS:
                found.nonces.add(places.nonce(run.id, name, attempt.n))
            if attempt.step in UP_STEPS:
                found.up.append((run.id, name, attempt.n, str(attempt.worktree)))
            if attempt.step is Step.VERIFYING:
                found.verifying.add(places.nonce(run.id, name, attempt.n))
                found.benches.add(bench_key(key))
            if attempt.step in ATTEMPT_ENDS and attempt.returned:
                found.ended.add(key)
            elif attempt.worktree is not None and not attempt.returned:
                found.leases[key] = (Path(attempt.worktree), attempt.base)
            unlanded = attempt.head not in (None, attempt.base) and attempt.step is not Step.LANDED
            if unlanded and not run.discarding:
                assert attempt.head is not None
                kept = KeptWork(run.id, name, attempt.n, attempt.branch, attempt.base, attempt.head)
                found.work.append(kept)
    return found


def _take_down_staging(found: Known, run: Run) -> None:
    found.staging[run.id] = (Path(run.worktree), run.followed, run.following or run.followed)
    finished = run.on_target is not None and not run.open_tasks
    if finished:
        found.finished.add(run.id)
    if found.asked or not finished:
        found.published[run.id] = run.published


def _attempts(run: Run) -> Iterator[tuple[str, Attempt]]:
    for name, task in run.tasks.items():
        for attempt in task.attempts:
            yield name, attempt


def reconcile(must: Known, edges: Edges, *, dry_run: bool = False) -> list[Finding]:
    """Brings what there is into agreement with what there must be; gives what was found, in the order in which it was looked at."""
    found: list[Finding] = []
    locks: tuple[tuple[str, _Look], ...] = (("lock", _stale_locks),) if must.alone else ()
    old: tuple[tuple[str, _Look], ...] = (("object", _old_objects),) if must.alone else ()
    for kind, look in (
        ("process", _programs),
        *locks,
        ("process", _processes),
        ("finish", _finishes),
        ("worktree", _worktrees),
        ("object", _landings),
        ("staging", _staging),
        ("ref", _branches),
        ("ref", _elsewhere),
        ("ref", _orphans),
        ("object", _looks),
        *old,
    ):
        try:
            found += look(must, edges, dry_run)
        except (SwarmError, OSError) as error:
            text = error.cause if isinstance(error, SwarmError) else str(error)
            found.append(Finding(kind, f"not every {kind} could be looked at: {text}", failed=True))
    return found


def clean(must: Known, edges: Edges, *, force: bool) -> list[Cleaned]:
    """Removes worktrees that nobody needs: spare ones, those kept for attempts that have ended, and those that were opened."""
    done = edges.pool.clean(must.ended, force=force)
    trees = [
        tree
        for run in must.runs
        for tree in opened.below(
            edges.repository.common_dir, Path(os.path.realpath(edges.pool.root.parent)) / run
        )
        if tree.path.name != STAGING_WORKTREE
    ]
    saver = Saver(edges.repository.common_dir, edges.pool.objects, edges.settings.limits.saved_refs_max)
    lock, trash = edges.places.worktrees_lock, edges.pool.trash
    return [*done, *opened.clean(trees, saver, force=force, lock=lock, trash=trash)]


def _programs(_: Known, edges: Edges, dry_run: bool) -> list[Finding]:
    """Ends what a daemon that was killed had started, before anything is done beside it: a git holds locks and writes files."""
    found = []
    for mark, pids in process.orphaned_programs(edges.places.nonce_head).items():
        gone = not dry_run and process.end_tree(None, mark, grace_s=END_GRACE_S)
        text = f"process {', '.join(map(str, sorted(pids)[:5]))} was started by a daemon that is gone"
        found.append(Finding("process", text, "it is ended", gone))
    for folder in scratch.left_alone():
        gone = not dry_run and scratch.end_alone(folder)
        text = f"a swarm verify, or an audit, was killed in {folder}"
        found.append(Finding("process", text, "what it ran is ended, and the folder removed", gone))
    return found


def _stale_locks(_: Known, edges: Edges, dry_run: bool) -> list[Finding]:
    with exclusive(edges.places.merge_lock, kind=MergeLockHeld) as held:
        stale = edges.landing.sweep_locks(lock=held, dry_run=dry_run)
        drafts = edges.landing.sweep_drafts(lock=held, dry_run=dry_run)
    crash_at("daemon.swept")
    found = [
        Finding("lock", f"a git that was killed left {path}", "it is removed", not dry_run) for path in stale
    ]
    if drafts:
        text = f"{len(drafts)} half-written files were left, the first {drafts[0]}"
        found.append(Finding("object", text, "they are removed", not dry_run))
    return found


def _processes(must: Known, edges: Edges, dry_run: bool) -> list[Finding]:
    """Ends what attempts that have ended left running, and suites on candidates that nobody asks for any more; suites are named
    after their attempt."""
    found = []
    for nonce, pids in must.running.items():
        if nonce in must.nonces or any(nonce.startswith(f"{name}-") for name in must.verifying):
            continue
        gone = not dry_run and process.end_tree(None, nonce, grace_s=END_GRACE_S)
        listed = ", ".join(map(str, sorted(pids)[:5]))
        found.append(
            Finding("process", f"process {listed} belongs to an attempt that has ended", "it is ended", gone)
        )
    return [*found, *_workers(must, edges.places)]


def _workers(must: Known, places: Places) -> Iterator[Finding]:
    """Tells of workers that the journal has at work and that are not there any more; a start takes their end in by itself."""
    for run, task, n, worktree in must.up if must.alone and must.asked else ():
        if places.nonce(run, task, n) in must.running:
            continue
        said = process.exit_of(places.attempt(run, task, n).worker)
        how = f"has ended with exit code {said.code}" if said is not None else "is gone without having ended"
        text = f"the worker of {run}/{task}, attempt {n}, {how}, and no daemon has taken that in"
        if os.path.isdir(worktree):
            yield Finding("process", f"{text}; what it left is in {worktree}: swarm start goes on from there")
        else:
            gone = f"its worktree {worktree} is gone, and with it what was on no branch"
            yield Finding(
                "process", f"{text}; {gone}: swarm start counts it as lost and tries the task again"
            )


def _finishes(must: Known, edges: Edges, dry_run: bool) -> Iterator[Finding]:
    """Puts checkouts back that a finish which was killed has left half moved; a start goes on with those that it knows."""
    finisher = Finisher(edges.repository, edges.landing, edges.refs, edges.places)
    for run in must.runs if must.alone else ():
        target = must.finishing.get(run)
        if target is not None and not must.asked:
            continue
        tops = finisher.half_moved(run)
        reason = finisher.put_back_killed(edges.places.moves(run)) if tops and not dry_run else None
        if reason is not None:
            yield Finding("finish", f"{reason.text}. Next: {reason.facts['next_step']}")
        for top in tops if reason is None else ():
            text = f"files of {top} are as a finish of run {run} left them that was killed"
            yield Finding("finish", text, "they are put back", not dry_run)
        if target is not None:
            yield Finding(
                "finish", f"a finish of run {run} into {target} has not ended: swarm start goes on with it"
            )


def _worktrees(must: Known, edges: Edges, dry_run: bool) -> list[Finding]:
    free_others = must.alone and not edges.settings.worktrees.keep
    found = edges.pool.sweep(leases=must.leases, alone=free_others, dry_run=dry_run)
    return [*found, *edges.scratch.sweep(dry_run=dry_run), *_benches(must, edges, dry_run)]


def _benches(must: Known, edges: Edges, dry_run: bool) -> Iterator[Finding]:
    """Frees the worktrees in which something was verified that nobody asks for any more; its suites have been ended before."""
    for entry in edges.scratch.members() if must.alone else ():
        if entry.key and entry.key not in must.benches:
            if not dry_run:
                edges.scratch.give_back(entry.key)
            text = f"{entry.path} was lent to a verification that nobody asks for any more"
            yield Finding("worktree", text, "it is given back", not dry_run)


def _landings(must: Known, edges: Edges, dry_run: bool) -> list[Finding]:
    """Sees to it that what has landed is in the user's repository, wherever its branch stands: a gc takes what no ref has. Before
    the staging worktrees, which can't stand at a commit that is not there, and whose HEAD keeps it from then on."""
    wanted = {run: going_to for run, (_, _, going_to) in must.staging.items()} | must.published
    gone = git.missing(edges.repository.common_dir, wanted.values())
    found = []
    for run, commit in wanted.items():
        if commit in gone:
            if not dry_run:
                edges.landing.mend(run, commit)
            text = f"commit {commit[:12]}, where staging of run {run} was left, is gone from this repository"
            remedy = "it is brought back from the landing repository, with all that landed"
            found.append(Finding("object", text, remedy, not dry_run))
    return found


def _staging(must: Known, edges: Edges, dry_run: bool) -> list[Finding]:
    return [
        finding
        for path, commit, going_to in must.staging.values()
        for finding in edges.pool.mend_staging(path, commit, going_to, dry_run=dry_run)
    ]


def _branches(must: Known, edges: Edges, dry_run: bool) -> list[Finding]:
    """Sees to it that finished work that has not landed stands on its branch, and what has landed on staging, from the landing
    repository where need be."""
    there = git.refs_below(edges.repository.common_dir, "refs/heads/swarm/")
    found = []
    for work in must.work:
        if f"refs/heads/{work.branch}" not in there:
            text = f"branch {work.branch} with the work of {work.run}/{work.task}, attempt {work.n}, is gone"
            made = not dry_run and _make_branch(work, edges)
            found.append(Finding("ref", text, "it is made again", made))
    for run, commit in must.published.items():
        if f"refs/heads/{staging_branch(run)}" not in there and not _is_tidied_up(must, edges, run):
            if not dry_run:
                edges.landing.restore(run, commit)
            remedy = "it is made again where the last landing left it"
            found.append(Finding("ref", f"branch {staging_branch(run)} is gone", remedy, not dry_run))
    return found


def _elsewhere(must: Known, edges: Edges, _: bool) -> Iterator[Finding]:
    """Tells of staging branches that a person moved or committed on, to whoever asks; a daemon looks at them by itself, and what is
    theirs stays where it is. One ahead of what was taken down here is on its way."""
    common = edges.repository.common_dir
    there = git.refs_below(common, "refs/heads/swarm/") if must.asked else {}
    for run, published in must.published.items():
        branch = staging_branch(run)
        stands = there.get(f"refs/heads/{branch}", published)
        if stands == published:
            continue
        place, left = edges.landing.place(run, stands), edges.landing.place(run, published)
        if place is not None and left is not None and place >= left:
            continue
        if git.contains(common, stands, published):
            text = f"{branch} has commits made by hand, up to {stands[:12]}"
            goes_on = "they land before anything else, at the latest with the next start"
            yield Finding(Standing.BY_HAND, f"{text}: {goes_on}")
            continue
        held = edges.repository.worktrees_of_branch(branch)
        first = f"git -C {shlex.quote(str(held[0]))} switch --detach && " if held else ""
        step = f"{first}{astray.way_back(branch, stands, published)}"
        yield Finding(
            Standing.MOVED, f"{astray.moved(branch, stands, published)}. Nothing lands until then: {step}"
        )


def _is_tidied_up(must: Known, edges: Edges, run: str) -> bool:
    """Tells of a staging branch that is gone whether its run is finished and a branch of the user's has all of it: who deletes it
    then has tidied up."""
    common, commit = edges.repository.common_dir, must.published[run]
    return run in must.finished and bool(git.branches_with(common, commit, without=None, leave_out="swarm/"))


def _orphans(must: Known, edges: Edges, _: bool) -> list[Finding]:
    return unknown(edges.repository.common_dir, must.runs, before=must.at)


def _looks(_: Known, __: Edges, dry_run: bool) -> list[Finding]:
    """Removes what looks that were killed had read; it lies in the temporary folder, is of any repository, and no news."""
    for folder in () if dry_run else foresight.left_behind():
        linked.remove(folder)
        _log.info("look.removed", path=str(folder))
    return []


def _old_objects(must: Known, edges: Edges, dry_run: bool) -> list[Finding]:
    """Removes what discarded runs left in the landing repository. Only while no attempt is under way: what one has merged, and its
    candidate, stand under no ref before it lands."""
    if not (dry_run or must.nonces or must.verifying):
        with exclusive(edges.places.merge_lock, kind=MergeLockHeld) as held:
            pruned = pruning.prune_if_many(edges.landing.path, lock=held)
        if pruned:
            _log.info("landing.pruned", objects=pruned)
    return []


def unknown(common: Path, runs: Iterable[str], *, before: float) -> list[Finding]:
    """Finds what is left of other runs than these, of which swarm knows nothing any more; it stays."""
    found = orphans.find(common, set(runs), before=before)
    return [Finding(each.kind, f"{each.text}; {each.removal}") for each in found]


def _make_branch(work: KeptWork, edges: Edges) -> bool:
    if edges.pool.objects.kind(work.head) != "commit":
        if edges.landing.objects.kind(work.head) != "commit":
            return False
        edges.landing.hand_over(work.run, work.head, work.base)
    edges.refs.move(f"refs/heads/{work.branch}", work.head, "0" * len(work.head))
    return True


def _there(folder: Path) -> Path:
    """Gives the folder itself, or that above it which is there."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def refuse_moved_root(swarm: Swarm, repository: git.Repository, settings: Settings) -> None:
    """Raises `SettingsError` where worktrees of runs lie elsewhere than they are to: what is in them would be lost sight of."""
    root = os.path.realpath(repository.working_top() / settings.worktrees.root)
    where = {run.id: Path(run.worktree).parent.parent for run in swarm.runs.values() if run.worktree}
    others = {run: folder for run, folder in where.items() if os.path.realpath(folder) != root}
    if others:
        config.refuse_moved(settings, [*others], os.path.normpath(next(iter(others.values()))))


def open_edges(
    places: Places,
    repository: git.Repository,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    shut_in: Sandbox = NO_SANDBOX,
    dry_run: bool = False,
) -> Edges:
    """Opens everything that commands are carried out with; with `dry_run` nothing is made that is missing."""
    top = repository.working_top()
    verified_in = scratch.folder(top, top / settings.worktrees.root, places.state, environ)
    rooms = Rooms.of(shut_in, settings, repository.common_dir, top, environ, verified_in)
    twins_land = settings.policy.twins != REJECT
    landing = LandingRepository(places.landing, repository, twins_land=twins_land)
    if not dry_run:
        with exclusive(places.merge_lock):
            landing.open_or_create()
    trees, scratch_lock = settings.worktrees, places.merge_lock.with_name("scratch.lock")
    if not dry_run:
        with exclusive(places.worktrees_lock) as held:
            folders = (top / trees.root).glob("*/*")
            ours = (folder for folder in folders if folder.parent.name != scratch.BESIDE)
            linked.follow_moved(repository.common_dir, ours, lock=held)
        with exclusive(scratch_lock) as held:
            scratch.settle(verified_in, places.landing, places.state, lock=held)
    limits = settings.limits
    furnished = functools.partial(
        Pool,
        setup=trees.setup,
        copy=trees.copied,
        share=trees.share,
        setup_bounds=Bounds(output_bytes=limits.output_bytes_max, processes=limits.processes_max),
        rooms=rooms,
    )
    pool = furnished(
        repository,
        top / trees.root / POOL,
        lock=places.worktrees_lock,
        saved_refs_max=limits.saved_refs_max,
        added_bytes_max=settings.policy.added_bytes_max,
    )
    for_candidates = furnished(
        places.landing,
        verified_in,
        lock=scratch_lock,
        source=top,
        objects=landing.objects,
        user_config=False,
        saves=False,
        home=repository,
    )
    return Edges(
        places=places,
        repository=repository,
        settings=settings,
        pool=pool,
        scratch=for_candidates,
        landing=landing,
        refs=git.Refs(repository.common_dir),
        host=Host(
            (top, places.state, top / trees.root, _there(verified_in)), config.readings_file(settings, top)
        ),
        agents=config.to_agents(settings),
        environ=environ,
        identity=repository.identity(),
        sandbox=shut_in,
        rooms=rooms,
    )

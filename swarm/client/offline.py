"""What works without a daemon: reading the journal, looking at worktrees, the audit.

Rules for editing: this is the only part of the client that may use `core`, `edge` and `daemon/recovery` (`planfiles` may to read
plans, `kept` to lay work out, `spawning` as far as a daemon's process needs it, `schedules` to simulate), and it never writes to
the journal. Imports that cost start-up time are inside the functions that need them.
"""

from __future__ import annotations

import json
import os

from swarm.errors import SwarmError, UsageError

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from swarm.core.model import Attempt, Finding, Task
    from swarm.core.run import Run
    from swarm.core.state import Swarm
    from swarm.daemon.reconcile import Known
    from swarm.settings import DeploySettings


def checkout(top: Path) -> Path:
    """Gives the top of the main checkout. Raises `UsageError` where there is none, or git refuses it."""
    from swarm.edge import git

    return git.Repository.discover(top).working_top()


def new_project(path: Path) -> None:
    """Makes a repository with a first commit; see `edge.founding`."""
    from swarm.edge import founding

    founding.found(path)


# --- the journal ----------------------------------------------------------------------------------------------------


def swarm_of(state: Path) -> Swarm:
    """Rebuilds the swarm from the journal; an empty one where there has never been a daemon."""
    from swarm.core.places import Places
    from swarm.core.state import Swarm
    from swarm.daemon.recovery import restore
    from swarm.edge.journal import JournalDamaged, ever_used, open_to_read, refuse_damaged

    places = Places(state)
    if not ever_used(places):
        return Swarm()
    with open_to_read(places) as journal:
        try:
            return restore(places, journal, check=False)
        except JournalDamaged:
            raise
        except (
            SwarmError
        ):  # who only reads does not look at the checksums first: that takes as long as reading
            refuse_damaged(places)
            raise


def status(state: Path) -> dict[str, Any]:
    """Gives the status document as the journal has it, saying that no daemon runs."""
    return _as_found(state, summary=False)


def summary(state: str) -> dict[str, Any]:
    """Gives the summary of the status document. The last daemon left it when it ended in good order; where the journal has gone on
    since, or it was killed, the journal is replayed."""
    from swarm.edge import last_status

    left = last_status.read(state)
    if left is not None:
        return left
    from pathlib import Path

    return _as_found(Path(state), summary=True)


def _as_found(state: Path, *, summary: bool) -> dict[str, Any]:
    from functools import partial

    from swarm.core import report
    from swarm.edge import git

    known = swarm_of(state)
    document = report.status(known, report.Live(), summary=summary)
    return report.as_found(document, partial(git.read_ref, state.parent), report.moving(known))


def left_running(state: str) -> list[dict[str, Any]]:
    """Lists the workers and suites that live, as far as the summary names their tasks, while no daemon runs: `run`, `task`,
    `attempt`, `pid`, and whether it is a `suite`."""
    from pathlib import Path

    from swarm.core.places import Places
    from swarm.edge import process

    found = []
    for run in summary(state)["runs"]:
        for task in run["tasks"]:
            for attempt in task["attempts"][-1:]:
                if attempt["ended_at"]:
                    continue
                places = Places(Path(state)).attempt(run["id"], task["id"], attempt["n"])
                about = {"run": run["id"], "task": task["id"], "attempt": attempt["n"]}
                for folder in (places.worker, *sorted(places.verify.glob("*/*/worker"))):
                    one = process.identity(folder)
                    if one is not None and process.alive(one):
                        found.append({**about, "pid": one.pid, "suite": folder != places.worker})
    return found


def journal_mark(state: str) -> object:
    """Tells whether what `status` and `summary` give has changed; None where that can't be said."""
    from swarm.edge import last_status

    mark = last_status.mark(state)
    return None if mark is None else (mark, failure(state))


def lessons(state: Path) -> list[dict[str, Any]]:
    """Lists what runs taught; times are RFC 3339."""
    from swarm.core import lessons as taught
    from swarm.core.plain import as_told

    return [as_told(each) for each in taught.document(swarm_of(state).lessons)]


def failure(state: str) -> dict[str, Any]:
    """Gives what made the last daemon end by itself: `at`, `cause`, `next_step`; empty where it did not."""
    from swarm.protocol import FAILURE_FILE

    try:
        with open(os.path.join(state, FAILURE_FILE), "rb") as file:
            found: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        return {}
    return found


def copied(state: str) -> dict[str, str]:
    """Says of a state folder that came with a copy of another repository what it is: `cause`, `next_step`; empty of any other."""
    from swarm.edge import last_status

    return last_status.copied(state)


def events(state: Path, after: int) -> Iterator[dict[str, Any]]:
    """Gives the journal's records after a number, from the first on, as they are told."""
    from swarm.core.places import Places
    from swarm.core.plain import as_told
    from swarm.edge.journal import ever_used, open_to_read

    places = Places(state)
    if not ever_used(places):
        return
    with open_to_read(places) as journal:
        for row in journal.read(after=after):
            yield {"seq": row.seq, **as_told(row.data)}


def report(state: Path, run: str, now: float | None) -> dict[str, Any]:
    """Gives the report of a run from the journal's records, up to `now`, or to the last of them where nothing goes on."""
    from swarm.core import account, chronicle
    from swarm.core.places import Places
    from swarm.daemon.recovery import no_collection
    from swarm.edge.journal import open_to_read

    told = chronicle.Chronicle(run)
    with open_to_read(Places(state)) as journal, no_collection():
        for row in journal.read(types=chronicle.TYPES):
            told.take(row.seq, row.kind, row.data)
        return account.report(told, now)


def find(state: Path, run: str, task: str) -> tuple[Swarm, Run, Task]:
    """Finds a task in the journal. Raises `UsageError` where it has none of that name."""
    swarm = swarm_of(state)
    found = swarm.runs.get(run)
    if found is None or task not in found.tasks:
        raise UsageError(f'There is no task "{task}" in run "{run}".', "Nothing was done.", "swarm status")
    return swarm, found, found.tasks[task]


def task_document(
    state: Path, run: str, task: str, standing: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Gives everything known of a task: its place in the status document, what it was asked and told, and where its files are.
    Where it is `standing` in the status document of a daemon, that counts; else it is told as where none runs."""
    from swarm.core import report
    from swarm.core.places import Places

    swarm, found, each = find(state, run, task)
    document = dict(standing or report.task_document(swarm, found, each, report.Live()))
    spec = each.spec
    _leave_out_returned(run, task, document["attempts"])
    document |= {
        "run": run,
        "prompt": spec.prompt,
        "command": spec.run,
        "timeout_s": spec.timeout_s,
        "attempts_max": spec.attempts,
        "verify": [suite.run for suite in found.suites(each)],
        "told": list(each.told),
        "feedback": list(each.feedback),
        "folder": str(Places(state).attempts_of(run, task)),
    }
    meant = report.meant(swarm) is found
    return {"schema": report.SCHEMA, "run": run, "meant": meant, "task": document}


def _leave_out_returned(run: str, task: str, attempts: Iterable[dict[str, Any]]) -> None:
    """Leaves out the worktree of attempts that have ended and have it no more: somebody else may be at work in it by now."""
    from pathlib import Path

    from swarm.core.model import attempt_key
    from swarm.edge.leases import Leases

    for attempt in attempts:
        if attempt["worktree"] and attempt["ended_at"]:
            path, key = Path(attempt["worktree"]), attempt_key(run, task, attempt["n"])
            if not any((lease.path, lease.key) == (path, key) for lease in Leases(path.parent, None).load()):
                attempt["worktree"] = None


def attempt_of(task: Task, n: int | None) -> Attempt | None:
    if n is None:
        return task.attempt
    return next((each for each in task.attempts if each.n == n), None)


def outputs(state: Path, run: str, task: str, attempt: int, which: str | None) -> list[tuple[str, str]]:
    """Gives (label, file) of what an attempt put out: its worker and each suite of its newest verification, or `which` of both. Of
    a suite that did not pass and ran once more the second comes with `again`, after all of the first."""
    from swarm.core.places import Places

    places = Places(state).attempt(run, task, attempt)
    found = [("worker", places.output)] if which != "verify" and places.output.exists() else []
    if which != "worker":
        suites = [log for each in _entries(places.verify) for log in each.glob("*/output.log")]
        newest = max(suites, key=lambda log: log.stat().st_mtime_ns, default=None)
        if newest is not None:
            candidate = newest.parent.parent.name
            first, second = (
                sorted((log for log in suites if log.parent.parent == folder), key=_place_of)
                for folder in (places.candidate(candidate), places.candidate(candidate, again=True))
            )
            found += [(f"verification {log.parent.name}", log) for log in first]
            found += [(f"verification {name}, again", log) for name, log in _numbered_alike(first, second)]
    return [(label, str(path)) for label, path in found]


def _place_of(log: Path) -> tuple[int, str]:
    """Gives what puts the outputs of suites into their order: each one's folder begins with its number."""
    number, _, name = log.parent.name.partition("-")
    return (int(number) if number.isdecimal() else 0, name)


def _numbered_alike(first: Iterable[Path], second: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Names the suites that ran again as they were named the first time: they are numbered anew where only some of them do."""
    left = [log.parent.name for log in first]
    for log in second:
        own = log.parent.name
        name = next((each for each in left if each.partition("-")[2] == own.partition("-")[2]), own)
        if name in left:
            left.remove(name)
        yield name, log


def reader_of(state: Path, run: str, task: str, attempt: int) -> Callable[[str], list[str] | None] | None:
    """Gives what makes lines for people of a line that the attempt's agent printed; None where it prints such lines itself."""
    from swarm.core import streams
    from swarm.core.places import Places
    from swarm.edge import heard

    found = heard.format_of(Places(state).attempt(run, task, attempt))
    return None if found is None else lambda line: streams.shown(found[0], line, found[1])


def _entries(folder: Path) -> list[Path]:
    from pathlib import Path

    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() or entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []


# --- the audit ------------------------------------------------------------------------------------------------------


def audit(top: Path, run: str | None, verify: int) -> tuple[dict[str, Any], str, int]:
    """Checks the invariants of repository and journal; gives the document, the text for people, and the exit code (0 or 1)."""
    from swarm.audit import breaches, inspection

    report = inspection.audit(top, os.environ, run=run, verify=verify)
    return breaches.document(report), breaches.text(report), 0 if report.ok else 1


# --- verification ---------------------------------------------------------------------------------------------------


def verify(top: Path, state: Path, run: str) -> dict[str, Any]:
    """Runs the suites of a run on its staging as it stands, in a throw-away checkout; gives what they said."""
    from swarm.audit import again
    from swarm.core.model import staging_branch
    from swarm.core.places import Places
    from swarm.edge import git

    known = swarm_of(state).runs[run]
    repository, landing = git.Repository.discover(top), Places(state).landing
    commit = repository.branch_commit(staging_branch(run)) or known.published  # a person may have moved it
    said = again.verify(commit, known.all_suites(), repository, landing, os.environ)
    return {
        "run": run,
        "commit": commit,
        "landed": known.published,
        "ok": all(each.outcome == "passed" for each in said.suites),
        "suites": [
            {
                "name": each.name,
                "outcome": each.outcome,
                "exit_code": each.exit_code,
                "duration_s": round(each.duration_s, 3),
                "changed": list(each.changed),
                "note": each.note or None,
                "tail": each.tail or None,
            }
            for each in said.suites
        ],
    }


# --- deploying ------------------------------------------------------------------------------------------------------


def deploy(
    settings: DeploySettings, top: Path, state: Path, run: str, target: str, commit: str
) -> dict[str, Any] | None:
    """Runs the deploy command of these settings, if there is one, for a finish that left `target` at `commit`: where that is
    checked out, which need not be at `top`, where it runs otherwise."""
    from swarm.core.places import Places
    from swarm.edge import deploy as deploying
    from swarm.edge import git

    if not settings.command:
        return None
    checkouts = git.Repository.discover(top).worktrees_of_branch(target)
    done = deploying.deploy(
        Places(state).deploys(run) / commit,
        settings.command,
        top=next(iter(checkouts), top),
        facts={"SWARM_RUN": run, "SWARM_TARGET": target, "SWARM_COMMIT": commit},
        timeout_s=settings.timeout_s,
    )
    return {"command": settings.command, "exit_code": done.exit_code, "log": str(done.log), "ran": done.ran}


# --- GitHub ---------------------------------------------------------------------------------------------------------


def pull_request(top: Path, *, commit: str, head: str, base: str, title: str, body: str) -> dict[str, Any]:
    """Pushes `commit` as branch `head` to the remote that `base` belongs to, and gives the pull request there."""
    from swarm.edge import forge

    forge.check()
    remote = forge.remote(top, base)
    forge.push(top, remote, [(commit, head)])
    found = forge.pull_request(top, head=head, base=base, title=title, body=body)
    return {"url": found.url, "made": found.made, "remote": remote, "branch": head}


def publish(top: Path, name: str, branches: Iterable[str]) -> dict[str, Any]:
    """Has the repository `name` made on GitHub as origin of this one, and pushes the branches there."""
    from swarm.edge import forge

    forge.create(top, name)
    forge.push(top, "origin", [(f"refs/heads/{branch}", branch) for branch in branches])
    return {"remote": "origin", "branches": list(branches)}


def check_forge() -> None:
    """Raises `UsageError` where nothing could be pushed by `gh`."""
    from swarm.edge import forge

    forge.check()


# --- what workers do now ------------------------------------------------------------------------------------------------


def foresee(common: Path, document: Mapping[str, Any], *, lent: Iterable[str]) -> list[dict[str, Any]]:
    """Looks what each running worker of a status document has changed so far, what of it lies outside its claims, and with whom it
    would conflict; `why` and `uncompared` say what was not looked at."""
    from swarm.core.claims import strays
    from swarm.core.model import Claim, Mode
    from swarm.edge import foresight

    rows, works = [], []
    for run in document.get("runs") or []:
        for task in run.get("tasks") or []:
            attempt = (task.get("attempts") or [None])[-1]
            if attempt is None or attempt["state"] != "running" or not attempt["worktree"]:
                continue
            rows.append(
                {"run": run["id"], "task": task["id"], "attempt": attempt["n"], "claims": task["claims"]}
            )
            name = f"{run['id']}/{task['id']}"
            works.append(foresight.Work(name, attempt["worktree"], attempt["base"], run["staging"]["commit"]))
    for row, seen in zip(rows, foresight.look(common, works, leave_out=tuple(lent)), strict=True):
        claims = [Claim(each["path"], Mode(each["mode"])) for each in row.pop("claims")]
        changed = seen.changed
        row["changed"] = None if changed is None else list(changed)
        row["strays"] = list(strays(claims, changed or ()))
        row["conflicts"] = [{"with": name, "paths": list(paths)} for name, paths in seen.conflicts.items()]
        row["uncompared"], row["why"] = list(seen.uncompared), seen.why
    return rows


def at_work(state: Path, run: str, task: str) -> Attempt | None:
    """Gives the attempt at a task whose worker runs, or has ended with what it left still in its worktree; None where none does."""
    from swarm.core.model import UP_STEPS, Step

    attempt = find(state, run, task)[2].live
    return attempt if attempt is not None and attempt.step in {*UP_STEPS, Step.COLLECTING} else None


def so_far(
    top: Path, state: Path, attempt: Attempt, *, binary: bool
) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """Gives what the worker of an attempt has changed so far, as a patch, and for each file the lines added and deleted; files too
    large to be read are named behind the patch. Raises `SwarmError` where that can't be told now."""
    from swarm import config
    from swarm.edge import foresight

    lent = config.load(top, os.environ).worktrees
    assert attempt.worktree is not None
    work = foresight.Work("", attempt.worktree, attempt.base, attempt.base)
    found = foresight.patch(state.parent, work, leave_out=(*lent.copied, *lent.share), binary=binary)
    if isinstance(found, str):
        raise SwarmError(
            f"What attempt {attempt.n} has changed so far can't be told now: {found}.",
            "Its worker goes on, and what it leaves is kept.",
            f"git -C {attempt.worktree} status",
        )
    large = "".join(f"[too large to be shown: {path}]\n" for path in found.left_out)
    return found.text + large.encode("utf-8", "surrogateescape"), found.lines | dict.fromkeys(
        found.left_out, (0, 0)
    )


# --- worktrees ------------------------------------------------------------------------------------------------------


def worktrees(
    common: Path, root: Path, owners: Mapping[str, Mapping[str, Any]], *, lent: Iterable[str], exact: bool
) -> list[dict[str, Any]]:
    """Lists the worktrees of swarm among the linked ones of a repository: those that a run uses, and those under `root`.

    `owners` are as `telling.worktree_owners` gives them; what nobody has is a spare one of the pool, or unknown. `lent` are paths
    that are put there for the worker. With `exact` every file counts for the size.
    """
    import time
    from pathlib import Path

    from swarm.core.places import Places, state_of
    from swarm.core.report import rfc3339
    from swarm.edge import survey
    from swarm.edge.ground import POOL
    from swarm.edge.worktrees import Pool

    pool = Pool(common, root / POOL, lock=Places(state_of(common)).worktrees_lock)
    leases = {str(member.path): member for member in pool.members()}
    mine = []
    for found in survey.linked_worktrees(common):
        lease = leases.get(found.path)
        owner = owners.get(found.path) or (owners.get(lease.key) if lease is not None else None)
        if owner is None and Path(found.path).is_relative_to(root):
            owner = _of_opened(Path(found.path), owners.values())
        if owner is not None or Path(found.path).is_relative_to(root):
            mine.append((found, owner or {"state": "unknown" if lease is None else "spare"}, lease))
    wanted = [
        (
            found,
            owner.get("base"),
            survey.Spare(lease.index, lease.since) if lease is not None and not lease.key else None,
        )
        for found, owner, lease in mine
    ]
    now, rows = time.time(), []
    for (found, owner, lease), seen in zip(
        mine, survey.look(wanted, leave_out=tuple(lent), exact=exact), strict=True
    ):
        since = owner.get("since") or (lease.since if lease is not None else found.made_at)
        rows.append(
            {
                "path": found.path,
                "state": owner["state"],
                "run": owner.get("run"),
                "task": owner.get("task"),
                "attempt": owner.get("attempt"),
                "branch": found.branch or owner.get("branch"),
                "commit": found.commit,
                "ahead": seen.ahead,
                "since": rfc3339(since),
                "age_s": round(max(0.0, now - since), 3),
                "dirty": seen.dirty,
                "size_bytes": seen.size_bytes,
                "size_exact": seen.size_exact,
            }
        )
    return rows


def _of_opened(path: Path, owners: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Says of a worktree that was opened for kept work whose it is, by its name: `<task>-<attempt>`, with `.<number>` for what
    stands on a recovery ref; None of any other."""
    from swarm.core.model import slug
    from swarm.edge import saved

    mine = saved.owner_of_path(path)
    number = path.suffix[1:]
    for each in owners:
        if each["task"] and saved.Owner(each["run"], slug(each["task"]), each["attempt"]) == mine:
            branch = saved.SavedWork(mine, int(number), "").branch if number else each["branch"]
            return {**each, "state": "open", "since": None, "branch": branch}
    return None


# --- recovery -------------------------------------------------------------------------------------------------------


def recover(top: Path, state: Path, *, dry_run: bool) -> list[dict[str, Any]]:
    """Brings worktrees, processes and refs into agreement with the journal, as a start does; gives what was found.

    Only while no daemon runs: raises `LockTaken` beside one that does not answer.
    """
    from swarm.daemon import reconcile

    def work(founded: list[Finding], must: Known, edges: Any) -> list[Finding]:
        return [*founded, *reconcile.reconcile(must, edges, dry_run=dry_run)]

    done = _without_daemon(top, state, work, dry_run)
    return _of_nobody(top) if done is None else done


def _of_nobody(top: Path) -> list[dict[str, Any]]:
    """Finds what is left of runs where nothing is known of any."""
    import math

    from swarm.core.plain import dump
    from swarm.daemon import reconcile
    from swarm.edge import git

    left: list[dict[str, Any]] = dump(
        reconcile.unknown(git.Repository.discover(top).common_dir, (), before=math.inf)
    )
    return left


def doctor(top: Path) -> list[dict[str, Any]]:
    """Looks at everything that swarm stands on; gives a line for each thing."""
    import dataclasses

    from swarm.daemon.doctor import examine

    return [dataclasses.asdict(check) for check in examine(top, dict(os.environ))]


def agents(top: Path) -> list[dict[str, Any]]:
    """Looks which agents can be used here; gives a line for each."""
    import dataclasses

    from swarm import config
    from swarm.daemon import usable

    settings = config.load(checkout(top), os.environ)
    return [dataclasses.asdict(each) for each in usable.look_at_all(settings, os.environ)]


def clean(top: Path, state: Path, *, force: bool) -> list[dict[str, Any]]:
    """Removes worktrees that nobody needs, as a daemon does when asked; gives what was done with each. Raises as `recover`."""
    from swarm.daemon import reconcile

    return _without_daemon(top, state, lambda _, *known: reconcile.clean(*known, force=force), False) or []


def _without_daemon(
    top: Path, state: Path, work: Callable[[list[Finding], Known, Any], Any], dry_run: bool
) -> list[dict[str, Any]] | None:
    """Does what a daemon would, in its place; None where there has never been one. A landing repository that is gone or damaged
    is founded again first, as at a start: `work` hears what was found of it. Raises `JournalDamaged` for a journal that is not
    whole, or behind: what it says of worktrees and processes may be wrong."""
    from swarm import config
    from swarm.core.plain import dump
    from swarm.daemon import rebuild, reconcile, refounding
    from swarm.daemon.presence import alone
    from swarm.edge import git
    from swarm.edge.journal import ever_used, refuse_damaged
    from swarm.edge.place import places_of
    from swarm.edge.trouble import explained

    places = places_of(state)
    if not ever_used(places):
        return None
    repository = git.Repository.discover(top)
    with explained("What there is could not be held against the journal"), alone(places):
        refuse_damaged(places)
        swarm = swarm_of(state)
        swarm.move_to(str(repository.working_top()))  # it may have been moved since a daemon ran last
        must = reconcile.known(swarm, places, reconcile.running(places), alone=True, asked=True)
        settings = config.load(repository.working_top(), os.environ)
        reconcile.refuse_moved_root(swarm, repository, settings)
        founded = refounding.set_aside(places, dry_run=dry_run)
        edges = reconcile.open_edges(places, repository, settings, dict(os.environ), dry_run=dry_run)
        try:
            founded += [] if dry_run else refounding.refound(swarm, edges)
            if not (dry_run and founded):  # then it has no line to hold against
                rebuild.refuse_if_behind(swarm, edges.landing, repository)
            done: list[dict[str, Any]] = dump(work(founded, must, edges))
        finally:
            edges.close()
    return done


def rebuild_journal(top: Path, state: Path, *, dry_run: bool) -> list[dict[str, Any]]:
    """Makes the journal anew from what is left of it; gives what was found, and nothing where it was whole and knew everything.

    Only while no daemon runs: raises `LockTaken` beside one.
    """
    from swarm.core.places import Places
    from swarm.core.plain import dump
    from swarm.daemon.presence import alone
    from swarm.daemon.rebuild import rebuild
    from swarm.edge import git
    from swarm.edge.journal import ever_used
    from swarm.edge.trouble import explained

    places = Places(state)
    if not ever_used(places):
        return []
    with explained("The journal could not be made anew"), alone(places):
        found: list[dict[str, Any]] = dump(rebuild(places, git.Repository.discover(top), dry_run=dry_run))
    return found

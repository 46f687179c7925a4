"""Takes in what a worker left: one commit of all of it, kept on the attempt's branch, judged, and copied to where it is merged.

Rules for editing: called again after a crash, each step first finds what is done already. Work that must not come in is kept like
any other; why it must not is the event's `problem`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from swarm import log
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.entries import Judgement
from swarm.crashpoints import crash_at
from swarm.daemon import answers
from swarm.daemon.edges import Edges, lease_key
from swarm.daemon.verification import TAIL_BYTES, TAIL_LINES, tail_of
from swarm.edge import git, heard, submitted
from swarm.edge.landing import Incoming, pin_ref
from swarm.errors import SwarmError

_log = log.get("collecting")


def collect(command: cmd.Collect, edges: Edges, clock: Callable[[], float]) -> m.Collected:
    """Commits what was left, keeps it, and brings it in where it can be submitted."""
    found = edges.pool.collect(
        Path(command.worktree),
        command.base,
        key=lease_key(command),
        message=f"{command.title}\n\nSwarm-Run: {command.run}\nSwarm-Task: {command.task}\n"
        f"Swarm-Attempt: {command.attempt}\n",
        identity=edges.identity,
        at=clock(),
    )
    changed = found.head != command.base
    if changed:
        _keep(command, found.head, edges, clock())
    crash_at("collect.kept")
    judged = Judgement()
    if changed and not found.problem:
        judged = submitted.judge(edges.pool.objects, command.base, found.head, edges.policy)
    problem = found.problem or judged.problem
    brought_in = False
    if command.bring_in and changed and not problem:
        brought_in, problem = _is_brought_in(command, found.head, edges)
    answer = answers.read(command, edges)
    unseen = (
        () if found.touched or problem or found.work is None or command.answer else _ignored(command, edges)
    )
    return m.Collected(
        at=clock(),
        **command.about,
        head=found.head,
        commits=found.commits,
        touched=found.touched,
        problem=answer.problem if answer is not None else problem,
        gone=found.work is None,
        besides=found.besides,
        staged=found.staged,
        brought_in=brought_in,
        ignored=unseen,
        noticed=judged.noticed,
        answer=answer.text if answer is not None else "",
        plan=answer.plan if answer is not None else None,
        tail=_tail(command, edges),
    )


def _tail(command: cmd.Collect, edges: Edges) -> str:
    """Gives the last lines that a worker printed which failed, as many as of a suite; "" of any other. Of one whose output has a
    format, what people read of it."""
    if not command.failed:
        return ""
    places = edges.attempt(command)
    found = heard.format_of(places)
    if found is None:
        return tail_of(places.output)
    text = "\n".join(heard.last_lines(places, *found)[-TAIL_LINES:])
    return text.encode("utf-8", "replace")[-TAIL_BYTES:].decode("utf-8", "ignore")


def _ignored(command: cmd.Collect, edges: Edges) -> tuple[str, ...]:
    """Lists what a worker that changed nothing else changed of what git ignores, as far as that can be said."""
    try:
        began_ns = os.stat(
            edges.attempt(command).prompt
        ).st_mtime_ns  # written when the worktree was ready for it
        path = Path(command.worktree)
        return edges.pool.ignored(path, command.base, key=lease_key(command), after_ns=began_ns)
    except (SwarmError, OSError) as error:
        _log.info("collect.not_looked", task=command.task, attempt=command.attempt, reason=str(error))
        return ()


def given_up(command: cmd.Collect, text: str, at: float, edges: Edges) -> m.Collected:
    """Answers for work that can't be collected, whatever is tried: nothing of it comes in, and the attempt may end.

    That is noted with the worktree, which is then set aside at once, by this daemon or the next: it may live but a moment.
    """
    try:
        edges.pool.give_up(lease_key(command))
    except (SwarmError, OSError) as error:  # it is then set aside later
        _log.warning("collect.not_noted", task=command.task, attempt=command.attempt, reason=str(error))
    problem = (
        f"What it left can't be collected: {text.rstrip('.')}. All of it is kept, in {command.worktree} or where swarm show"
        f" {command.task} tells."
    )
    return m.Collected(
        at=at,
        **command.about,
        head=command.base,
        commits=0,
        touched=(),
        problem=problem,
        tail=_tail(command, edges),
    )


def bring_in(command: cmd.BringIn, edges: Edges, clock: Callable[[], float]) -> m.BroughtIn:
    """Brings in work that was collected, and keeps it first where no `Collect` did."""
    if command.branch:
        _keep(command, command.head, edges, clock())
    _copy_and_pin(command, command.head, edges)
    return m.BroughtIn(at=clock(), **command.about)


def _is_brought_in(command: cmd.Collect, head: str, edges: Edges) -> tuple[bool, str]:
    """Brings in what was just collected; gives why git will never let it in, too. Where it fails for any other reason it is asked
    for once more by itself, and then heard of."""
    try:
        _copy_and_pin(command, head, edges)
    except (SwarmError, OSError) as error:
        _log.info("collect.not_brought_in", task=command.task, attempt=command.attempt, reason=str(error))
        judgement = error.judgement if isinstance(error, git.GitError) else ""
        return (
            False,
            f"What it committed must not come in, by git's own judgement: {judgement}." if judgement else "",
        )
    return True, ""


def _keep(command: cmd.Collect | cmd.BringIn, head: str, edges: Edges, at: float) -> None:
    """Points the attempt's branch at its work. An attempt owns its branch, so a crash in between is repeated, not refused; but what
    somebody has put there under that name, and the work does not lead to, is kept on a recovery ref first."""
    ref = f"refs/heads/{command.branch}"
    old = edges.refs.read(ref)
    if old not in (None, head):
        edges.pool.keep_commit(lease_key(command), str(old), above=head, where=ref, at=at)
    if old != head:
        edges.refs.move(ref, head, old or "0" * len(head))


def _copy_and_pin(command: cmd.Collect | cmd.BringIn, head: str, edges: Edges) -> None:
    pin = pin_ref(command.run, command.task, command.attempt)
    edges.landing.bring_in([Incoming(pin, head, command.base)])

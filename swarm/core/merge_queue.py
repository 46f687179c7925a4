"""The way of an attempt from the merge queue onto staging: brought in, merged, verified, advanced, published, followed.

Several candidates of a run may be verified at once, each made from the one ahead of it; which, and what their verdicts mean, is
`train`'s to say. Any number may stand on staging in the landing repository and wait to be published together. Only what is
published has landed.

Rules for editing: `move` is called once a turn for each run that was touched and starts whatever may go on, `verify` once a
turn for all of them; handlers only record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarm.core import astray, batch, feedback, searching, suites, train, undoing
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.claims import literal, strays, unused
from swarm.core.failing import try_again
from swarm.core.lifecycle import (
    end_attempt,
    end_task,
    free_slot,
    hand_back,
    held_against,
    return_worktree,
    stays_landed,
)
from swarm.core.model import QUEUE_STEPS, VERIFYING_STEPS, Attempt, Claim, Reason, Step, Task, TaskState
from swarm.core.run import Run
from swarm.core.state import (
    Deadline,
    IllegalEvent,
    StaleEvent,
    Swarm,
    Turn,
    carried_out,
    due,
    go,
    kept_run,
    live,
    run_commands,
    some,
    the_run,
)

_FOLLOW_AGAIN_S = 30.0
_FOLLOW_REST_S = 10.0  # at most, however long the last move took
_MERGE_MOVES_MAX = 20
_PATHS_KEPT = 200  # of a conflict, that the task holds until it has another try


def move(turn: Turn, run: Run) -> None:
    """Starts whatever may go on: the next move of staging, the next merge, the next publishing, the staging worktree."""
    if run.prepared:
        if run.landing:
            _let_go(turn, run)
            _judge(turn, run)
        if run.landing and (member := batch.next_member(run)) is not None:
            _merge(turn, run, member)
        if run.staging != run.published:
            publish(turn, run)
        if run.following is None and run.published != run.followed:
            _follow(turn, run)


def enqueue(turn: Turn, run: Run, task: Task, attempt: Attempt, event: m.Collected) -> None:
    """Puts an attempt whose work can be submitted into the merge queue."""
    if event.noticed:
        turn.tell("ChangeNoticed", run, task, texts=list(event.noticed))
    attempt.queued_at = turn.at
    free_slot(turn, attempt)
    run.queued += 1
    attempt.place = train.place(run, task)
    run.line_up([task.spec.id])
    run.set_state(task, TaskState.QUEUED)
    turn.tell("TaskQueued", run, task, head=attempt.head, touched=len(attempt.touched))
    if turn.swarm.limits.keep_worktrees:
        turn.swarm.coming.discard((run.id, task.spec.id, attempt.n))
    else:
        return_worktree(turn, run, task, attempt)
    go(turn, run, task, attempt, Step.WAITING if event.brought_in else Step.BRINGING_IN)


def first_asked(turn: Turn, event: m.FirstAsked) -> None:
    """Lets tasks go before all others. Where several candidates are verified at once, the train is made anew behind them; one that
    is verified alone is not interrupted."""
    run = kept_run(turn, event.run)
    for name in event.tasks:
        if not can_go_first(run, name):
            raise IllegalEvent(f"{name} does not wait in the merge queue")
    anew = _made_anew(run, event.tasks)
    for name in reversed(event.tasks):
        run.queued += 1
        run.tasks[name].attempts[-1].place = -run.queued
    _wait_again(turn, run, anew)
    for name in anew:
        run.tasks[name].attempts[-1].batch = ()  # goes by itself
    run.line_up([])
    turn.stir(run)


def _made_anew(run: Run, names: Sequence[str]) -> list[str]:
    """Names those of these in landing, all of them unless they are before all others there, in this order, that will not stay."""
    moves = [name for name in run.landing if can_go_first(run, name)]
    gives_way = [name for name in moves if name in names or run.tasks[name].attempts[-1].place > 0]
    mine = [name for name in gives_way if name in names]
    if any(len(run.tasks[name].attempts[-1].batch) > 1 for name in mine):
        return mine
    return [] if gives_way[: len(mine)] == list(names[: len(mine)]) else mine


def can_go_first(run: Run, name: str) -> bool:
    """Tells whether a task is in the merge queue and does not move staging yet."""
    task = run.tasks.get(name)
    waits = QUEUE_STEPS | VERIFYING_STEPS | {Step.VERIFIED}
    return (
        name not in run.searching and task is not None and task.live is not None and task.live.step in waits
    )


def brought_in(turn: Turn, event: m.BroughtIn) -> None:
    """Records that the attempt can be merged as soon as its turn comes."""
    run, task, attempt = live(turn, event, Step.BRINGING_IN)
    go(turn, run, task, attempt, Step.WAITING)


def verify(turn: Turn) -> None:
    """Gives away the slots for verification that are free: to the first candidate of each run that has none, then to what is to be
    found out of those that were red, then to what is built ahead."""
    swarm = turn.swarm
    swarm.verify_waits = waits = searches = False
    for run in swarm.runs.values():
        if run.searching:
            searches = True
        elif run.queue:
            waits = True
    if not (waits or searches):
        return  # nobody waits for one, as after most events
    may_begin = not (swarm.stopping or swarm.trouble)
    if may_begin and searches:
        _search(turn, landed=train.PATIENCE * swarm.limits.verify_slots)
    _board_heads(turn)
    if may_begin:
        if searches:
            _search(turn)
        if swarm.limits.verify_slots > 1:
            _build_ahead(turn)


def _board_heads(turn: Turn) -> None:
    """Has a first candidate made of each run that has none, the longest wait first; with nothing to pass it needs no slot."""
    runs = [
        run
        for run in turn.swarm.runs.values()
        if run.queue and not run.landing and run.prepared and not run.discarding
    ]
    for run in sorted(runs, key=train.waits_since) if runs else ():
        _board(turn, run, slot=train.has_slot(turn.swarm))


def _search(turn: Turn, *, landed: int = 0) -> None:
    """Has searches go on, as long as slots and machine allow: all of them in slots that no first candidate is about to want, or
    those alone that have let so many land, in any."""
    for run, task, attempt in searching.waiting(turn.swarm, landed=landed):
        if train.has_slot(turn.swarm, keep=not landed) and _has_room(turn.swarm):
            searching.probe(turn, run, task, attempt)


def _build_ahead(turn: Turn) -> None:
    """Has more candidates made, each from the one ahead of it, as long as slots and machine allow."""
    swarm = turn.swarm
    for run in swarm.runs.values():
        if run.queue and run.prepared and not run.discarding and train.may_grow(run, swarm.limits):
            if not train.has_slot(swarm):
                return
            if _has_room(swarm):
                _board(turn, run)


def _has_room(swarm: Swarm) -> bool:
    room = train.has_room(swarm)
    swarm.verify_waits = swarm.verify_waits or not room
    return room


def _board(turn: Turn, run: Run, *, slot: bool = True) -> None:
    """Lets the first in the queue that may go be merged, onto what is ahead of it; without a slot one that has nothing to pass."""
    name = train.next_up(run, turn.swarm.limits, slot=slot)
    if name is not None:
        train.form_batch(run, name, turn.swarm.limits)
        _merge(turn, run, name)


def _merge(turn: Turn, run: Run, name: str) -> None:
    """Has a task that waits merged onto what is ahead of it."""
    task = run.tasks[name]
    attempt = task.live
    assert attempt is not None
    attempt.onto, attempt.left, attempt.clash = train.tail(run), _left(run, task), None
    del run.queue[name]
    run.landing.append(name)
    run.set_state(task, TaskState.LANDING)
    attempt.to_pass = train.must_pass(run, name)
    go(turn, run, task, attempt, _making(attempt))


def _left(run: Run, task: Task) -> str:
    """Says where staging is to be found before anything lands on it; "" for what a person committed there, which is found there."""
    return "" if task.spec.by_hand else run.published


def _let_go(turn: Turn, run: Run) -> None:
    """Sends back into the queue whatever stands on what will not land; one that goes before all others may be among them, and
    others have to give way to it then."""
    while adrift := train.adrift(run, turn.swarm.limits):
        _wait_again(turn, run, adrift)


def _wait_again(turn: Turn, run: Run, names: list[str]) -> None:
    """Sends tasks back to their places in the queue; whatever was said of their candidates is void."""
    for name in names:
        task = run.tasks[name]
        attempt = task.live
        assert attempt is not None
        turn.drop(run, task, attempt)
        run.landing.remove(name)
        run.set_state(task, TaskState.QUEUED)
        attempt.onto = attempt.candidate = attempt.rebased = attempt.retry_at = None
        attempt.suites = attempt.again = ()
        go(turn, run, task, attempt, Step.WAITING)
    run.line_up(names)


def _judge(turn: Turn, run: Run) -> None:
    """Settles what the verdict on the first candidate means, now that all ahead of it have landed: green moves staging, red goes
    back, and those that stood on it are merged anew without it."""
    while run.landing:
        task = run.tasks[run.landing[0]]
        attempt = task.attempts[-1]
        last = batch.spokesman(run, attempt)
        if (
            attempt.step is not Step.VERIFIED
            or last.step is not Step.VERIFIED
            or not batch.is_whole(run, attempt)
        ):
            return
        if not train.red(last):
            for name, each in zip(attempt.batch or (task.spec.id,), batch.members(run, attempt), strict=True):
                each.left = _left(run, run.tasks[name])
                go(turn, run, run.tasks[name], each, Step.ADVANCING)
            return
        train.shorten(run, turn.swarm.limits)
        if last is not attempt:
            names = attempt.batch
            _wait_again(turn, run, list(names))
            batch.halve(run, names)
            _let_go(turn, run)
            return
        batch.count(run, red=True)
        reason = train.verdict(attempt)
        if not searching.begin(turn, run, task, attempt, reason):
            held_against(turn, run, task, attempt, Step.HANDED_BACK, reason)
        _let_go(turn, run)


def _making(attempt: Attempt) -> Step:
    """Says how the candidate of an attempt is made."""
    return Step.REVERTING if attempt.undoes else Step.MERGING


def candidate_made(turn: Turn, event: m.CandidateMade) -> None:
    """Has the candidate verified; with nothing to verify it goes straight on."""
    run, task, attempt = live(turn, event, Step.MERGING, Step.REVERTING)
    if event.onto != attempt.onto:
        raise StaleEvent(f"merged onto {event.onto}, wanted {attempt.onto}")
    _check_merged(attempt, event.head)
    told = tuple(suite.name for suite in attempt.to_pass), batch.together(attempt)
    if event.head and (event.verified, event.batch) != told:  # its message would say what is not so any more
        raise StaleEvent(f"merged to be verified by {event.verified} with {event.batch}, wanted {told}")
    attempt.candidate = event.candidate
    attempt.suites = attempt.again = ()
    go(turn, run, task, attempt, Step.VERIFYING if attempt.to_pass else Step.VERIFIED)


def _check_merged(attempt: Attempt, head: str) -> None:
    """Raises `StaleEvent` where something else was merged, such as what was rebased before it was sent back to the
    queue. An
    undo merges nothing."""
    if head and head != attempt.submitted:
        raise StaleEvent(f"merged {head}, wanted {attempt.submitted}")


def merge_conflicted(turn: Turn, event: m.MergeConflicted) -> None:
    """Lets the machine rebase an attempt of several commits once; one commit merged again is the same merge, and a person's
    commits land as they are, since the branch they stand on goes forward from them. What conflicts with a candidate ahead waits
    until that has landed or is gone: it may never land."""
    run, task, attempt = live(turn, event, Step.MERGING, Step.REVERTING)
    if event.onto != attempt.onto:
        raise StaleEvent(f"merged onto {event.onto}, wanted {attempt.onto}")
    _check_merged(attempt, event.head)
    if attempt.search is not None:
        searching.settle(turn, run, task, attempt)
    elif run.landing[0] != task.spec.id:
        attempt.clash, attempt.batch = attempt.onto, ()
        _wait_again(turn, run, [task.spec.id])
    elif attempt.commits > 1 and attempt.rebased is None and not task.spec.by_hand:
        go(turn, run, task, attempt, Step.REBASING)
    else:
        _conflict(turn, run, task, attempt, event)


def rebased(turn: Turn, event: m.Rebased) -> None:
    """Merges the rebased commits."""
    run, task, attempt = _rebasing(turn, event)
    attempt.rebased = event.head
    go(turn, run, task, attempt, Step.MERGING)


def rebase_conflicted(turn: Turn, event: m.RebaseConflicted) -> None:
    """Takes the conflict as it is."""
    run, task, attempt = _rebasing(turn, event)
    _conflict(turn, run, task, attempt, event)


def _rebasing(turn: Turn, event: m.Rebased | m.RebaseConflicted) -> tuple[Run, Task, Attempt]:
    run, task, attempt = live(turn, event, Step.REBASING)
    if event.onto != attempt.onto:
        raise StaleEvent(f"rebased onto {event.onto}, wanted {attempt.onto}")
    return run, task, attempt


def _conflict(
    turn: Turn, run: Run, task: Task, attempt: Attempt, event: m.MergeConflicted | m.RebaseConflicted
) -> None:
    """A conflict is handed back once as it is, then once more to be worked on alone, after the others; then the task has failed. It
    never counts as an attempt. What a person made nobody makes again, so that has failed at once."""
    against = f", changed there by {some(event.landings)}" if event.landings else ""
    why = f": {event.why}" if event.why else ""
    reason = Reason(
        "conflict",
        f"it conflicts with staging in {some(event.paths)}{against}{why}",
        {"paths": list(event.paths), "landings": list(event.landings), "onto": event.onto}
        | feedback.conflict_facts(attempt, event.versions),
    )
    if attempt.undoes:
        stays_landed(turn, run, task, attempt, Step.FAILED, reason)
        return
    attempt.counts = False
    ends = attempt.alone or task.spec.by_hand
    before = any(each.reason is not None and each.reason.code == "conflict" for each in _tried(task))
    end_attempt(turn, run, task, attempt, Step.HANDED_BACK, reason, keep_claims=not ends)
    if ends:
        end_task(turn, run, task, TaskState.FAILED, reason)
        return
    task.alone = before
    _hold(run, task, event.paths[:_PATHS_KEPT])
    hand_back(turn, run, task, attempt, reason)


def _hold(run: Run, task: Task, paths: Sequence[str]) -> None:
    """Has a task hold what conflicts, beside its claims, as far as nobody else does."""
    mine = run.shown_claims(task)
    wanted = [Claim(literal(path)) for path in (strays(mine, paths) if mine else paths)]
    run.extend_claims(task, [c for c in wanted if run.claims.first_conflict((c,), task.spec.id) is None])


def _tried(task: Task) -> Sequence[Attempt]:
    """Gives the attempts since the task was begun, or begun again, but the newest."""
    return task.attempts[task.budget_from : -1]


def verified(turn: Turn, event: m.Verified) -> None:
    """Takes a verdict in. What did not pass, or said nothing, runs once more on the same commit: red again is red, green now is a
    flake."""
    run, task, attempt = live(turn, event, Step.VERIFYING)
    if event.candidate != attempt.candidate or event.again != bool(attempt.again):
        raise StaleEvent(f"verified {event.candidate}, wanted {attempt.candidate}")
    turn.drop(run, task, attempt)  # one verdict is enough, where the same commit was asked for twice
    if (
        event.trouble and attempt.troubles < turn.swarm.limits.lost_max
    ):  # after that it is the suite's own doing
        try_again(turn, run, task, attempt, f"verification failed: {event.trouble}", trouble=event.trouble)
        return
    for flake in train.take_in(run, attempt, event.suites):
        turn.tell("SuiteFlaked", run, task, **flake)
    red = train.red(attempt)
    if red and not attempt.again and searching.runs_again(attempt):
        attempt.again = train.once_more(run, attempt, red)
        go(turn, run, task, attempt, Step.VERIFYING)
    elif attempt.search is not None:
        searching.verified(turn, run, task, attempt)
    else:
        go(turn, run, task, attempt, Step.VERIFIED)


def staging_advanced(turn: Turn, event: m.StagingAdvanced) -> None:
    """Lets the next be merged while this one is published."""
    run, task, attempt = live(turn, event, Step.ADVANCING)
    run.staging = event.candidate
    train.lengthen(run, turn.swarm.limits)
    for name in attempt.batch or (task.spec.id,):
        each = run.tasks[name].live
        assert each is not None
        if attempt.to_pass:
            batch.count(run, red=False)
        run.landing.remove(name)
        run.publishing.append(name)
        run.line.append((f"undo of {name}" if each.undoes else name, str(each.candidate)))
        if each.undoes:
            undoing.advanced(turn, run, task, each)
        go(turn, run, run.tasks[name], each, Step.PUBLISHING)


def staging_moved(turn: Turn, event: m.StagingMoved) -> None:
    """Merges anew onto what was found."""
    run, task, attempt = live(turn, event, Step.ADVANCING)
    if event.candidate != attempt.candidate:
        raise StaleEvent(f"staging was to move to {event.candidate}, wanted {attempt.candidate}")
    attempt.merge_moves += 1
    if len(attempt.batch) > 1:
        _wait_again(turn, run, list(attempt.batch))
    if attempt.merge_moves > _MERGE_MOVES_MAX:
        reason = Reason("conflict", "staging moved again and again while it was landing", {"paths": []})
        held_against(turn, run, task, attempt, Step.HANDED_BACK, reason)
        return
    run.staging = event.found
    if attempt.step is Step.ADVANCING:
        attempt.onto, attempt.candidate, attempt.rebased = event.found, None, None
        go(turn, run, task, attempt, _making(attempt))


def found_astray(turn: Turn, event: m.StagingFoundAstray) -> None:
    """Sends a task back to its place in the queue, so that what a person did to staging comes first: once it had landed beside a
    commit of theirs that conflicts with it, neither could be published."""
    run, task, attempt = live(turn, event, Step.MERGING, Step.REVERTING, Step.ADVANCING)
    if attempt.search is not None or not attempt.left:
        raise StaleEvent(f"nobody asked how staging of run {run.id!r} stands")
    together = attempt.batch or (task.spec.id,)
    _wait_again(turn, run, [name for name in together if name in run.landing])
    astray.take_in(turn, run, event.seen)
    turn.stir(run)


def publish(turn: Turn, run: Run) -> None:
    """Publishes all that has advanced, unless that goes on already, or has to wait because staging went astray."""
    if run.staging == run.published or (run.publishing_commit is not None and not run.publish_waits):
        return
    run.publishing_commit, run.publishing_count = run.staging, len(run.publishing)
    run.publish_waits = run.held_up()
    if not run.publish_waits:
        found = run.astray.seen if run.astray is not None else None
        on_branch = found is not None and found.where == "branch"
        run.publishing_from = str(found.found) if found is not None and on_branch else run.published
        turn.commands.extend(c for c in run_commands(run) if isinstance(c, cmd.Publish))


def published(turn: Turn, event: m.Published) -> None:
    """Lands everything up to the commit that is published."""
    run = the_run(turn, event.run)
    if run.publishing_commit is None or run.publishing_commit != event.commit or run.publish_waits:
        raise StaleEvent(f"{event.commit} is not what is being published")
    run.published, run.publishing_commit = event.commit, None
    run.behind = run.behind and run.published != run.staging
    carried_out(turn, run, "Publish")
    landed, run.publishing = run.publishing[: run.publishing_count], run.publishing[run.publishing_count :]
    for name in landed:
        land(turn, run, run.tasks[name])
    if run.astray is not None and run.astray.task in landed:
        run.astray = None
        turn.tell("StagingSettled", run)
    turn.stir(run)


def land(turn: Turn, run: Run, task: Task) -> None:
    """Ends what has been published: a landing, or an undo."""
    attempt = task.live
    assert attempt is not None
    assert attempt.candidate is not None
    if attempt.undoes:
        undoing.published(turn, run, task, attempt)
        return
    task.landed_commit = attempt.landed_commit = attempt.candidate
    run.landed.append((task.spec.id, attempt.candidate))
    if task.spec.by_hand:
        run.by_hand.append(attempt.submitted)
    verified = [suite.name for suite in attempt.suites]
    facts: dict[str, Any] = {"commit": attempt.candidate, "title": task.spec.title, "verified": verified}
    if attempt.batch and attempt.batch[-1] != task.spec.id:
        facts["verified_with"] = attempt.batch[-1]
    if attempt.unchanged:
        facts["unchanged"] = True
    longest = suites.slowest(attempt.suites)
    if longest is not None:
        facts |= {"bottleneck": longest.name, "verify_s": round(longest.duration_s, 3)}
    too_much = unused(task.spec.claims, attempt.touched)
    if too_much and attempt.touched:
        turn.tell("ClaimUnused", run, task, paths=list(too_much[:50]))
    notes = {suite.name: suite.note for suite in attempt.suites if suite.note}
    turn.tell("TaskLanded", run, task, **facts, **({"notes": notes} if notes else {}))
    end_attempt(turn, run, task, attempt, Step.LANDED, None)
    end_task(turn, run, task, TaskState.LANDED, None)


def _follow(turn: Turn, run: Run) -> None:
    """Moves the staging worktree after staging: at once when nothing else goes on, else every now and then, the less often the
    longer a move takes, so that a large checkout does not cost the workers their processor."""
    if run.following is not None or run.published in (run.followed, run.follow_refused):
        return
    if "Follow" in run.retry_at:
        return
    limits = turn.swarm.limits
    rest_s = min(run.followed_in_s / limits.follow_share, _FOLLOW_REST_S) if limits.follow_share else 0.0
    when = run.followed_at + max(limits.follow_every_s, rest_s)
    if not run.live or turn.at >= when:
        follow(turn, run)
    elif run.follow_at != when:
        run.follow_at = when
        due(turn.swarm, Deadline(when, "follow", run.id))


def follow(turn: Turn, run: Run) -> None:
    """Sends the staging worktree after staging."""
    run.following, run.following_since, run.follow_at = run.published, turn.at, None
    turn.commands.extend(c for c in run_commands(run) if isinstance(c, cmd.Follow))


def followed(turn: Turn, event: m.Followed) -> None:
    """Records where the staging worktree stands; one that holds a person's edits is looked at again later."""
    run = the_run(turn, event.run)
    if run.following is None or run.following != event.commit:
        raise StaleEvent(f"{event.commit} is not what the staging worktree follows")
    began = event.at if run.following_since is None else run.following_since
    run.followed_in_s = max(event.at - began, 0.0)
    run.following, run.following_since, run.followed_at = None, None, event.at
    carried_out(turn, run, "Follow")
    if event.reason != run.follow_reason:
        run.follow_reason = event.reason
        turn.tell("StagingWorktreeFollows", run, commit=event.commit, reason=event.reason)
    if event.reason:
        run.follow_refused, run.follow_at = event.commit, event.at + _FOLLOW_AGAIN_S
        due(turn.swarm, Deadline(run.follow_at, "follow", run.id))
        astray.look(turn, run)  # a worktree that was left may hold commits made by hand
    else:
        run.followed, run.follow_refused = event.commit, None
    turn.stir(run)

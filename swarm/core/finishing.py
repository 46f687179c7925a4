"""How a request to merge staging into a branch of the user's is taken in and ends.

Rules for editing: one request at a time for a run; what is merged is what the asker had seen published.
"""

from __future__ import annotations

from swarm.core import messages as m
from swarm.core.state import IllegalEvent, StaleEvent, Turn, carried_out, finish_command, kept_run, the_run


def requested(turn: Turn, event: m.FinishRequested) -> None:
    """Has staging merged as it stood when it was looked at; asked again with the same key it is the same request."""
    run = kept_run(turn, event.run)
    if run.finish is not None and run.finish.request == event.request:
        return
    if run.finish is not None:
        raise IllegalEvent(f"run {event.run!r} is being finished already")
    if not run.prepared:
        raise IllegalEvent(f"run {event.run!r} is not prepared yet")
    run.finish, run.finish_from = event, event.commit
    turn.commands.append(finish_command(run, event))


def finished(turn: Turn, event: m.Finished | m.FinishRefused) -> None:
    """Records how it ended."""
    run = the_run(turn, event.run)
    if run.finish is None or run.finish.request != event.request:
        raise StaleEvent(f"request {event.request} is not outstanding")
    run.finish = None
    carried_out(turn, run, "Finish")
    run.retry_at.pop("Finish", None)
    if isinstance(event, m.Finished):
        if event.suites:
            run.passed_since = run.finish_from, event.suites
        run.handed_over = run.handed_over or run.finish_from != run.base_commit
        if not event.stage_only:
            run.finished_commit, run.finished_from = event.commit, run.finish_from
        turn.tell("RunFinished", run, target=event.target, commit=event.commit, stage_only=event.stage_only)

"""What the page shows of a repository, made of its status document: rows that are bounded in number, in words for people.

Rules for editing: pure functions; times are seconds since the epoch, so that the page counts on by itself and a picture in which
nothing has changed is the same one. A document may lack any key (another version wrote it). All text of others goes through
`printable`, as in the terminal; that it is text and nothing else is the page's part.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any

from swarm.client import naming, render, telling
from swarm.client.naming import ACTIVE, UNDER_WAY
from swarm.protocol import printable

Document = Mapping[str, Any]
Row = dict[str, Any]

ROWS_MAX = 40  # of each list
RUNS_MAX = 30
BAD = ("failed", "blocked")
FOUND_MAX = 200  # tasks that a search shows


def repository(
    document: Document, top: str, *, now: float, words: Mapping[tuple[str, str], str] | None = None
) -> Row:
    """Gives the picture of a repository; paths in it are shown from its `top` on. `words` are the last ones of workers, by (run,
    task), of whom nothing else tells what they do."""
    runs = sorted(document.get("runs") or [], key=_newest_last, reverse=True)
    rows = _Rows(runs, words or {}, alive=_runs(document))
    unfinished = [run for run in runs if run.get("state") != "finished"]
    queue = [rows.queued(entry) for entry in document.get("merge_queue") or []]
    workers = [row for run in runs for row in rows.workers(run)]
    lists = {
        "workers": workers,
        "queue": queue,
        "waiting": [row for run in runs for row in rows.waiting(run)],
        "failures": [row for run in unfinished for row in rows.failures(run)],
        "landings": sorted(rows.landings(), key=lambda row: -(row["at"] or 0)),
    }
    return {
        "path": top,
        "name": printable(os.path.basename(top) or top),
        "place": printable(top),
        "daemon": _daemon(document, now),
        "capacity": _capacity(document),
        "notes": render.held_lines(document),
        "runs": [_run(run, top) for run in runs[:RUNS_MAX]],
        "bad": [[state, number] for state in BAD if (number := _number(unfinished, (state,)))],
        "more": {
            **{name: max(0, len(found) - ROWS_MAX) for name, found in lists.items()},
            "waiting": _left(runs, ("ready",), lists["waiting"]),
            "failures": _left(unfinished, BAD, lists["failures"]),
            "runs": max(0, len(runs) - RUNS_MAX),
        },
        **{name: found[:ROWS_MAX] for name, found in lists.items()},
    }


def _left(runs: list[Document], states: tuple[str, ...], listed: list[Row]) -> int:
    """Counts the tasks of which there is no row: a summary lists the first ones only."""
    return max(0, _number(runs, states) - min(len(listed), ROWS_MAX))


def _number(runs: list[Document], states: tuple[str, ...]) -> int:
    return sum(render.counts(run).get(state, 0) for run in runs for state in states)


def unreadable(text: str, top: str) -> Row:
    """Gives the picture of a repository of which nothing can be told, and why."""
    picture = repository({}, top, now=0.0)
    return {**picture, "daemon": {**picture["daemon"], "state": "unknown", "text": printable(text)}}


def silent(document: Document) -> Iterator[tuple[str, str, int]]:
    """Yields run, task and attempt of workers whose agent does not tell what it does; not more than there are rows."""
    found = (
        (str(run["id"]), str(each["id"]), int(_last(each)["n"]))
        for run in document.get("runs") or []
        for each in _in(run, "running")
        if _last(each).get("state") == "running" and not _last(each).get("doing")
    )
    return itertools.islice(found, ROWS_MAX)


def moves(document: Document) -> bool:
    """Tells whether something is at work, of which there is news without an event: what a worker does and takes."""
    return bool((document.get("capacity") or {}).get("running") or document.get("merge_queue"))


def tasks(document: Document, words: str, state: str) -> Row:
    """Finds tasks by a part of their id or title, and by their state; gives the first, and how many there are."""
    wanted = words.casefold().split()
    found: list[Row] = []
    number = 0
    for run in document.get("runs") or []:
        for task in run.get("tasks") or []:
            text = f"{run.get('id')}/{task.get('id')} {task.get('title') or ''}".casefold()
            if state in ("", task.get("state")) and all(word in text for word in wanted):
                number += 1
                if len(found) < FOUND_MAX:
                    found.append(_row(run, task, text=render.task_detail({**task, "attempts": []}, 0.0)))
    return {"tasks": found, "number": number}


def task(document: Document, top: str, *, alive: bool) -> Row:
    """Gives everything known of a task as `swarm show` has it."""
    shown: dict[str, Any] = document["task"]
    run = {"id": document["run"]}
    return {
        **_row(run, shown, text=""),
        "facts": [(label, printable(value)) for label, value in telling.task_facts(shown)],
        "asked": printable(shown.get("prompt") or shown.get("command") or "", keep_newlines=True),
        "attempts": [_attempt(each, top) for each in reversed(shown.get("attempts") or [])],
        "type": _commands(run, shown, alive=alive) if shown.get("state") in ("failed", "cancelled") else [],
        "live": shown.get("state") in UNDER_WAY,
    }


def _attempt(attempt: Document, top: str) -> Row:
    return {
        "n": attempt.get("n"),
        "state": render.state_text(attempt.get("state")),
        "started": render.epoch(attempt.get("started_at")),
        "ended": render.epoch(attempt.get("ended_at")),
        "facts": list(telling.attempt_facts(attempt, top)),
    }


def _runs(document: Document) -> bool:
    daemon = document.get("daemon") or {}
    return bool(daemon.get("running")) and not daemon.get("silent")


def _newest_last(run: Document) -> tuple[bool, str]:
    return run.get("state") in ACTIVE, str(run.get("created_at") or "")


def _daemon(document: Document, now: float) -> Row:
    daemon = document.get("daemon") or {}
    if not _runs(document):
        state = "silent" if daemon.get("silent") else "failed" if daemon.get("failed") else "none"
        text = render.daemon_line(document, now)
        if state == "none":
            text += " Next: swarm start" if document.get("runs") else " Next: swarm run PLAN"
        return {"state": state, "text": text, "since": None, "warning": ""}
    state = "stopping" if daemon.get("stopping") else "paused" if daemon.get("paused") else "running"
    shut_in = render.sandbox_words(daemon)
    open_to_all = (daemon.get("sandbox") or {}).get("in_force") == "none"
    parts = [f"daemon {daemon.get('pid', '?')}", f"version {printable(daemon.get('version') or '?')}"]
    return {
        "state": state,
        "text": ", ".join([*parts, *([] if open_to_all else shut_in)]),
        "since": render.epoch(daemon.get("started_at")),
        "warning": shut_in[0] if open_to_all and shut_in else "",
    }


def _capacity(document: Document) -> Row | None:
    capacity = document.get("capacity") or {}
    if not _runs(document) or "workers_max" not in capacity:
        return None
    readings = capacity.get("readings") or {}
    return {
        "running": capacity.get("running", 0),
        "most": capacity["workers_max"],
        "open": capacity.get("slots_open", 0),
        "cpu": _whole(readings.get("cpu_percent")),
        "memory": _whole(readings.get("memory_percent")),
        "disk": render.size(readings["disk_free_bytes"]) if readings.get("disk_free_bytes") else "",
        "text": render.capacity_reason(capacity),
    }


def _whole(number: Any) -> int | None:
    return None if number is None else round(number)


def _run(run: Document, top: str) -> Row:
    found = render.counts(run)
    total = sum(found.values()) - found.get("answered", 0)
    landed, state = found.get("landed", 0), run.get("state")
    name = naming.shell_word(str(run.get("id", "?")))
    step = ""
    if render.plan_waits(run):
        step = f"swarm plan {name}"
    elif state == "ended" and landed and not run.get("finishing"):
        step = f"swarm finish --run {name}"
    goal = run.get("goal")
    lines = [
        *render.staging_lines(run, top),
        *(f"spent {text}" for text in [render.spent_text(run.get("spent"))] if text),
        *([render.finishing_line(run)] if run.get("finishing") else []),
    ]
    return {
        "id": printable(run.get("id", "?")),
        "state": printable(state or ""),
        "ended": state not in ACTIVE,
        "goal": render.goal_title(goal) if isinstance(goal, dict) else "",
        "landed": landed,
        "total": total,
        "counts": [[each, found[each]] for each in render.STATES if found.get(each)],
        "lines": [line.strip() for line in lines],
        "qa": render.qa_line(run) if run.get("qa") else "",
        "problems": [render.on_one_line(problem) for problem in run.get("problems") or []],
        "type": step,
    }


class _Rows:
    """Makes rows of tasks. `alive` is whether a daemon is there to be told what to do."""

    def __init__(self, runs: list[Document], words: Mapping[tuple[str, str], str], *, alive: bool) -> None:
        self._runs = runs
        self._words = words
        self._alive = alive
        self._tasks = {
            (run.get("id"), each.get("id")): (run, each) for run in runs for each in run.get("tasks") or []
        }

    def workers(self, run: Document) -> Iterator[Row]:
        for each in _in(run, "running"):
            attempt = _last(each)
            step = str(attempt.get("state") or "")
            does = render.doing_text(attempt)
            if not does:
                last = self._words.get((str(run.get("id")), str(each.get("id"))), "")
                does = printable(last) if step == "running" else render.state_text(step)
            rss = attempt.get("rss_bytes")
            yield {
                **_row(run, each, text=does),
                "agent": printable(attempt.get("agent") or ""),
                "started": render.epoch(attempt.get("started_at")),
                "cpu": None if attempt.get("cpu_percent") is None else f"{attempt['cpu_percent']:.0f} %",
                "memory": render.size(rss) if rss else None,
                "notes": render.work_notes(attempt),
            }

    def waiting(self, run: Document) -> Iterator[Row]:
        for each in _in(run, "ready"):
            yield _row(run, each, text=render.on_one_line((each.get("reason") or {}).get("text")))

    def failures(self, run: Document) -> Iterator[Row]:
        for state in BAD:
            for each in _in(run, state):
                if not render.is_settled(run, each):
                    why = render.reason_text(each.get("reason"), state)
                    yield {**_row(run, each, text=why), "type": _commands(run, each, alive=self._alive)}

    def landings(self) -> Iterator[Row]:
        for run in self._runs:
            for each in _in(run, "landed"):
                at = render.epoch(_last(each).get("ended_at"))
                yield {**_row(run, each, text=render.landed_as(each)), "at": at}

    def queued(self, entry: Document) -> Row:
        """Gives a row of the merge queue: what is done with it, and why it waits."""
        run, each = self._tasks.get(
            (entry.get("run"), entry.get("task")), ({"id": entry.get("run")}, {"id": entry.get("task")})
        )
        why = render.reason_text(_last(each).get("reason") or each.get("reason"), each.get("state"))
        step = "verifying once more" if entry.get("red") else render.state_text(entry.get("state"))
        candidate = printable(entry.get("candidate") or "")[:9]
        return {**_row(run, each, text=why), "step": step, "candidate": candidate}


def _row(run: Document, each: Document, *, text: str) -> Row:
    """Gives what every row of a task has: `run` and `task` as they are called, to ask for it, and the rest to be read."""
    return {
        "run": str(run.get("id")),
        "task": str(each.get("id")),
        "name": printable(each.get("id", "?")),
        "of": printable(run.get("id", "?")),
        "title": printable(each.get("title") or ""),
        "state": printable(each.get("state") or ""),
        "text": text,
    }


def _commands(run: Document, each: Document, *, alive: bool) -> list[str]:
    """Gives what can be typed about a task that did not land."""
    name = naming.shell_word(f"{run.get('id')}/{each.get('id')}")
    if each.get("state") not in ("failed", "cancelled"):
        return [f"swarm show {name}"]
    again = f"swarm retry {name}" if alive else f"swarm start && swarm retry {name}"
    return [f"swarm logs {name}", again]


def _in(run: Document, state: str) -> Iterator[Document]:
    return (each for each in run.get("tasks") or [] if each.get("state") == state)


def _last(each: Document) -> Document:
    attempts = each.get("attempts") or [{}]
    last: Document = attempts[-1]
    return last

"""What a person reads: pure functions from a document to text."""

from __future__ import annotations

import calendar
import time
from typing import Any

import pytest
from rich.console import Console, Group
from rich.text import Text

from swarm.client import commands, goal_text, live, naming, render, status, telling
from swarm.core import report
from swarm.core.state import Swarm
from swarm.errors import Refused, SwarmError, UsageError
from swarm.protocol import error_body, error_from_body, error_status, printable, socket_path

NOW = float(calendar.timegm((2026, 11, 21, 4, 0, 0)))
EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\u202eevil\x9b"


def a_task(name: str, state: str, **more: Any) -> dict[str, Any]:
    """A task as a status document has it."""
    return {"id": name, "title": f"Title of {name}", "state": state, "reason": None, "attempts": [], **more}


def an_attempt(**more: Any) -> dict[str, Any]:
    """An attempt as a status document has it."""
    return {"n": 1, "state": "running", "agent": "claude", "started_at": "2026-11-21T03:58:58.5Z", **more}


def a_run(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A run with these tasks, counted."""
    counts = {state: sum(1 for task in tasks if task["state"] == state) for state in render.STATES}
    staging = {
        "branch": "swarm/modernise/staging",
        "commit": "b" * 40,
        "worktree": "/r/.worktrees/modernise/staging",
        "verified": True,
    }
    base = {"branch": "main", "commit": "a" * 40}
    run = {
        "id": "modernise",
        "state": "active",
        "base": base,
        "staging": staging,
        "counts": counts,
        "tasks": list(tasks),
    }
    return {**run, **more}


def a_document(*runs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A status document of a daemon that runs."""
    daemon = {
        "running": True,
        "pid": 4711,
        "version": "0.1.0",
        "started_at": "2026-11-21T03:00:00Z",
        "paused": False,
    }
    readings = {"cpu_percent": 41.0, "memory_percent": 52.1}
    capacity = {"workers_max": 4, "slots_open": 3, "running": 1, "reason": "", "readings": readings}
    return {
        "schema": 1,
        "daemon": daemon,
        "capacity": capacity,
        "runs": list(runs),
        "merge_queue": [],
        "claims": [],
        **more,
    }


CONFLICT = {"code": "conflict", "text": "conflicts with staging in src/auth.py"}
USUAL = a_run(
    a_task("header", "running", attempts=[an_attempt(n=2, cpu_percent=41.2, rss_bytes=210_000_000)]),
    a_task("types", "landing", attempts=[an_attempt(state="verifying")]),
    a_task(
        "footer", "ready", reason={"code": "claim", "text": "waits for src/header/**, which header holds"}
    ),
    a_task("auth-tests", "failed", reason=CONFLICT),
    a_task("base", "landed", landed_commit="d" * 40),
    a_task("later", "pending"),
)


def test_status_tells_what_happens_in_eighty_columns() -> None:
    """The whole text of a usual status, as a person sees it."""
    text = render.status_text(a_document(USUAL), now=NOW, width=80, top="/r")
    assert text.splitlines() == [
        "daemon 4711, version 0.1.0, up 1h00m",
        "workers 1 of 4, cpu 41 %, memory 52 %",
        "",
        "modernise  active  1 of 6 landed  [###-------------------]",
        "  1 running, 1 landing, 1 ready, 1 pending, 1 failed",
        "  staging swarm/modernise/staging at bbbbbbbbb, verified",
        "  look at it in .worktrees/modernise/staging",
        "  running   header      1m01s, 41 % cpu, 210 MB, attempt 2  Title of header",
        "  landing   types       verifying  Title of types",
        "  failed    auth-tests  conflict: conflicts with staging in src/auth.py",
        "  ready     footer      waits for src/header/**, which header holds",
        "  pending   later       Title of later",
        "  landed    base        ddddddddd  Title of base",
    ]


def test_what_an_agent_does_stands_where_its_title_would() -> None:
    """Turns, tokens and cost come with it; of what is not known nothing is said."""
    known = {"turns": 4, "tokens_in": 620, "tokens_out": 480, "cost_usd": 0.07, "doing": "editing src/a.py"}
    some = {"turns": 1, "tokens_in": 5}
    details = [
        render.task_detail(a_task("a", "running", attempts=[an_attempt(**each)]), NOW)
        for each in (known, some, {})
    ]
    assert details == [
        "1m01s, 4 turns, 1.1k tokens, 0.07 USD  editing src/a.py",
        "1m01s, 1 turn, 5 tokens  Title of a",
        "1m01s  Title of a",
    ]


def test_status_without_daemon_or_runs_says_so() -> None:
    """Where nothing runs, the text says that and what to type."""
    text = render.status_text({"daemon": {"running": False}, "runs": []}, now=NOW)
    assert text == "No daemon runs, and nothing is known of one.\n\nNo runs yet. Next: swarm run PLAN\n"
    known = {"daemon": {"running": False, "version": "0.1.0"}, "runs": []}
    assert render.status_text(known, now=NOW).startswith("No daemon runs; this is what the journal says.\n")


def test_a_day_on_which_nobody_spent_anything_has_no_date() -> None:
    """A budget is told before anything was spent, and no day of which nobody knows."""
    assert report.status(Swarm(), report.Live())["day"]["date"] is None
    day = {"date": None, "cost_usd": 0.0, "budget_usd": 5.0}
    assert render.held_lines({"day": day}) == ["spent: $0.00 of $5.00"]
    assert render.held_lines({"day": {**day, "date": "2026-11-21"}}) == [
        "spent on 2026-11-21: $0.00 of $5.00"
    ]


def test_status_says_why_the_last_daemon_ended_by_itself() -> None:
    """Where a daemon could not go on, its reason and what to type stand in place of the plain word that none runs."""
    failed = {"at": "x", "cause": "The journal can't be read or written.", "next_step": "swarm start"}
    text = render.status_text({"daemon": {"running": False, "failed": failed}, "runs": []}, now=NOW)
    assert text.startswith(
        "No daemon runs. The last one ended by itself: The journal can't be read or written."
    )
    assert "Next: swarm start" in text


@pytest.mark.parametrize(
    "document", [{}, {"runs": [{}]}, {"runs": [{"tasks": [{}]}]}, {"daemon": None, "capacity": None}]
)
def test_a_document_that_lacks_everything_is_shown_all_the_same(document: dict[str, Any]) -> None:
    """Another version may leave keys out; that is no reason to fail."""
    render.status_text(document, now=NOW)
    telling.claims_text(document)
    telling.worktree_owners(document, root="/r")
    telling.finish_text(document)
    Console(file=None, width=80).render_lines(live.view(document, now=NOW, width=80))


@pytest.mark.parametrize(
    ("landed", "says"), [([], "Nothing of run r has landed"), (["t"], "has everything of run r")]
)
def test_a_finish_that_had_nothing_to_do_says_why(landed: list[str], says: str) -> None:
    """A branch to which nothing could be added because nothing has landed is not told to have everything."""
    assert says in telling.finish_text(
        {"finish": {"run": "r", "into": "main", "outcome": "nothing", "landed": landed}}
    )


def test_who_waits_for_whom_is_told_with_the_claims() -> None:
    """A task that could start but for a claim is named with the path and with who holds it; one that waits for a slot is not."""
    waits = {"code": "claim", "text": "b holds src", "holder": "b", "path": "src"}
    run = a_run(
        a_task("a", "ready", reason=waits), a_task("c", "ready", reason={"code": "slot", "text": "full"})
    )
    waiting = telling.waiting_for_claims(a_document(run))
    assert [(each["task"], each["holder"], each["path"]) for each in waiting] == [("a", "b", "src")]
    told = telling.claims_text({"claims": [], "waiting": waiting})
    assert "/a waits for b because of src" in told
    assert "c waits" not in told


def test_what_was_staged_and_changed_on_is_shown_and_told_nowhere_else() -> None:
    """`show` gives the command that compares what an attempt had staged with what it left; the end of a run is not about that."""
    branch = "swarm/modernise/saved/a/1-1"
    landed = a_task("a", "landed", attempts=[an_attempt(staged=branch)])
    assert f"git diff {branch}^2 {branch}" in telling.task_text(landed, now=NOW)
    assert branch not in telling.result_text(a_run(landed), 1.0)


def test_what_was_left_in_a_stash_is_told_with_what_shows_it() -> None:
    """`show` gives the command to look at what an attempt left elsewhere, and the end of a run names each such task, also one that
    landed, but once."""
    branch = "swarm/modernise/saved/a/1-1"
    attempt = an_attempt(besides=branch, base="b" * 40)
    landed = a_task("a", "landed", attempts=[attempt])
    look = f"git log --stat --diff-merges=first-parent {'b' * 12}..{branch}"
    assert look in telling.task_text(landed, now=NOW)
    told = f"{telling.LEFT_ELSEWHERE} is kept on {branch}: swarm show a"
    assert f"  a: {told}\n" in telling.result_text(a_run(landed), 1.0)
    reason = {"code": "empty", "text": f"the worker changed nothing; it is kept on {branch}"}
    failed = a_task("a", "failed", reason=reason, attempts=[attempt])
    assert telling.result_text(a_run(failed), 1.0).count(branch) == 1
    many = telling.result_text(a_run(*[landed] * (telling.ELSEWHERE_MAX + 2)), 1.0)
    assert (many.count(branch), "and 2 more tasks" in many) == (telling.ELSEWHERE_MAX, True)


def test_a_claim_that_was_not_needed_is_shown() -> None:
    """`show` says of an attempt that landed what it claimed for nothing."""
    attempt = an_attempt(unused=["docs/**"])
    shown = telling.task_text(a_task("a", "landed", attempts=[attempt]), now=NOW)
    assert "docs/**: claimed, and nothing was changed there" in shown


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_rows_of_tasks_keep_to_the_width(width: int) -> None:
    """No row of a task is wider than the terminal, however wide its letters are."""
    run = a_run(
        a_task("日本語" * 10, "running", title="長い" * 100, attempts=[an_attempt()]),
        a_task("x" * 90, "failed"),
    )
    rows = render.status_text(a_document(run), now=NOW, width=width).splitlines()
    tasks = [line for line in rows if line.startswith(("  running  ", "  failed  "))]
    assert len(tasks) == 2
    assert all(render.columns(line) <= width for line in tasks)


def test_a_long_run_lists_a_few_of_each_kind_and_counts_the_rest() -> None:
    """Twenty of each kind and the last five landed have a line; how many have none is said."""
    many = [a_task(f"f{n}", "failed") for n in range(30)]
    many += [
        a_task(
            f"l{n}", "landed", attempts=[an_attempt(state="landed", ended_at=f"2026-11-21T03:{n:02d}:00Z")]
        )
        for n in range(30)
    ]
    lines = render.status_text(a_document(a_run(*many)), now=NOW).splitlines()
    assert sum(line.startswith("  failed ") for line in lines) == 20
    assert [line.split()[1] for line in lines if line.startswith("  landed ")] == [
        "l25",
        "l26",
        "l27",
        "l28",
        "l29",
    ]
    assert lines[-1] == "  … and 35 more: 10 failed, 25 landed"
    few = [each for each in many if each["id"] not in ("f5", "l5")]  # what a summary has of them
    summary = {**a_run(*few), "counts": a_run(*many)["counts"], "tasks_omitted": 2}
    assert render.status_text(a_document(summary), now=NOW).splitlines()[-1] == lines[-1]


def test_what_has_not_ended_has_a_line_before_what_has_landed() -> None:
    """Pending tasks are listed as ready ones are, and behind all that is open or went wrong what landed last; what is hidden is
    said by its state."""
    tasks = [a_task(f"l{n}", "landed") for n in range(7)]
    tasks += [a_task("p", "pending"), a_task("r", "ready"), a_task("f", "failed"), a_task("c", "cancelled")]
    lines = render.status_text(a_document(a_run(*tasks)), now=NOW).splitlines()
    states = [
        line.split()[0] for line in lines[lines.index(next(x for x in lines if x.startswith("  failed"))) :]
    ]
    assert states == ["failed", "ready", "pending", "cancelled", *["landed"] * 5, "…"]
    assert lines[-1] == "  … and 2 more landed"


def test_colours_only_where_they_are_wanted() -> None:
    """With colour a row is painted and ended; without there is no escape at all."""
    assert "\x1b" not in render.status_text(a_document(USUAL), now=NOW)
    coloured = render.status_text(a_document(USUAL), now=NOW, colour=True)
    assert "\x1b[31m  failed" in coloured
    assert coloured.count("\x1b[0m") == coloured.count("\x1b[") // 2


def test_no_text_of_others_reaches_the_terminal_as_a_command() -> None:
    """Escapes, control characters and turned writing in any text of a document are made visible everywhere it is shown."""
    evil = {"code": EVIL, "text": EVIL}
    attempt = an_attempt(
        state=EVIL, agent=EVIL, branch=EVIL, worktree=EVIL, base=EVIL, head=EVIL, reason=evil, touched=[EVIL], strays=[EVIL],
        suites=[{"name": EVIL, "outcome": EVIL}], besides=EVIL, staged=EVIL,
    )  # fmt: skip
    tasks = [
        a_task(
            EVIL,
            state,
            title=EVIL,
            reason=evil,
            attempts=[attempt],
            needs=[EVIL],
            phase=EVIL,
            landed_commit=EVIL,
            told=[EVIL],
        )
        for state in render.STATES
    ]
    staging = {"branch": EVIL, "commit": EVIL, "worktree": EVIL}
    run = a_run(*tasks, id=EVIL, state=EVIL, staging=staging, base={"branch": EVIL})
    claim = {"run": EVIL, "task": EVIL, "attempt": 1, "path": EVIL, "mode": EVIL}
    queue = [{"run": EVIL, "task": EVIL, "state": EVIL}]
    finish = {
        "run": EVIL,
        "into": EVIL,
        "outcome": "preview",
        "text": EVIL,
        "paths": [EVIL],
        "missing": [EVIL],
    }
    document = a_document(run, claims=[claim], merge_queue=queue, finish=finish)
    document["daemon"]["version"] = document["capacity"]["reason"] = EVIL
    console = Console(width=200, no_color=True, color_system=None)
    shown = [
        render.status_text(document, now=NOW),
        telling.result_text(run, 1.0),
        *(telling.task_text(task, now=NOW) for task in tasks),
        telling.claims_text(document),
        telling.worktrees_text([a_worktree(EVIL, state=EVIL, run=EVIL, task=EVIL, branch=EVIL)]),
        telling.finish_text(document),
        *(
            telling.event_text(
                {"type": kind, "task": EVIL, "code": EVIL, "text": EVIL, "paths": [EVIL], "x": EVIL}
            )
            for kind in (*telling.PROGRESS_EVENTS, "CapacityChanged", "RunFinished", EVIL)
        ),
        *(
            "".join(part.text for part in line)
            for line in console.render_lines(live.view(document, now=NOW, width=200))
        ),
    ]
    for text in shown:
        assert not set(text) & set("\x1b\x07\r\x9b\u202e"), text
    assert "\\x1b" in shown[0]


def test_printable_keeps_what_is_harmless() -> None:
    """Letters of any script, tabs and, where asked for, newlines stay; everything else that steers is made visible."""
    assert printable("Grüße 日本 é\tx") == "Grüße 日本 é\tx"
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert printable("a\nb", keep_newlines=True) == "a\nb"
    assert printable("می\u200cخواهم 👩\u200d👧\t") == "می\u200cخواهم 👩\u200d👧\t"
    assert printable("a\u200cb日\u200d\u200d\u200d") == "a\\u200cb日\u200d\\u200d\\u200d"
    assert printable("\u200dx") == "\\u200dx"
    assert printable("a\u00a0b\ud800\U000e0041") == "a b\\ud800\\U000e0041"


def test_the_time_of_a_run_is_from_its_beginning_to_its_end() -> None:
    """A run that has not ended, and one of which that is not known, has none."""
    times = {"created_at": "2026-11-21T03:00:00.250Z", "ended_at": "2026-11-21T04:00:01.750Z"}
    assert telling.run_time_s(times) == 3601.5
    assert telling.run_time_s({**times, "ended_at": None}) is None
    assert telling.run_time_s({}) is None


def test_the_summary_counts_and_names_why() -> None:
    """One line says how many landed, how many failed and by what, and how long it took."""
    landed = [a_task(f"t{n}", "landed") for n in range(12)]
    run = a_run(*landed, a_task("a", "failed", reason=CONFLICT))
    assert telling.summary_line(run, 41.23) == "12 landed, 1 failed (conflict), 0 blocked in 41.2 s"
    more = [
        a_task("b", "failed", reason=CONFLICT),
        a_task("c", "failed", reason={"code": "timeout", "text": ""}),
    ]
    run = a_run(
        *landed,
        a_task("a", "failed", reason=CONFLICT),
        *more,
        a_task("d", "blocked"),
        a_task("e", "cancelled"),
    )
    assert (
        telling.summary_line(run, 3)
        == "12 landed, 3 failed (2 conflict, timeout), 1 blocked, 1 cancelled in 3.0 s"
    )
    assert telling.summary_line(a_run(*landed), None) == "12 landed, 0 failed, 0 blocked"
    begun = a_run(*landed, a_task("a", "running"), a_task("b", "pending"))
    assert telling.summary_line(begun, None) == "12 landed, 0 failed, 0 blocked, 2 to go"
    assert telling.all_landed(a_run(*landed))
    for state in ("failed", "blocked", "cancelled"):
        assert not telling.all_landed(a_run(*landed, a_task("x", state)))


def test_a_round_of_qa_that_a_later_one_settled_failed_nobody() -> None:
    """A review or a repair that did not land counts as failed until a later round approves of staging."""
    for state, well in (("approved", True), ("void", True), ("rejected", False), ("at_work", False)):
        run = {
            **a_run(a_task("t", "landed"), {**a_task("qa-1", "failed"), "qa": "review"}),
            "qa": {"state": state},
        }
        assert telling.all_landed(run) is well
        assert ("0 failed" in telling.summary_line(run, None)) is well


def test_the_end_of_a_run_says_where_the_work_is_and_what_to_type() -> None:
    """Each failure with its reason, the staging branch and its worktree, the next commands, and the summary as the last line."""
    text = telling.result_text(
        a_run(a_task("a", "failed", reason=CONFLICT), a_task("b", "landed")), 2.0, top="/r"
    )
    assert text.splitlines() == [
        "  a failed: conflict: conflicts with staging in src/auth.py",
        "Staging is the branch swarm/modernise/staging, checked out in .worktrees/modernise/staging.",
        "  Look:  git log --first-parent main..swarm/modernise/staging",
        "  Merge: swarm finish",
        "  Why:   swarm show a, swarm logs a",
        "  Again: swarm start, then swarm retry --failed",
        "1 landed, 1 failed (conflict), 0 blocked in 2.0 s",
    ]
    stays = telling.result_text(a_run(a_task("a", "failed", reason=CONFLICT)), 2.0, daemon_stays=True)
    assert stays.splitlines()[-2] == "  Again: swarm retry --failed"


@pytest.mark.parametrize(
    ("code", "text", "state", "said"),
    [
        ("empty", "the worker changed nothing, and the task does not say allow_empty", "failed", "empty: the worker changed"),
        ("conflict", "it conflicts with staging in a", "failed", "conflict: it conflicts"),
        ("blocked", "void ended without landing", "blocked", "void ended"),
        ("needs", "needs a, b", "pending", "needs a, b"),
        ("paused", "paused; swarm resume goes on", None, "paused; swarm resume"),
        ("over_budget", "over budget by 3", None, "over budget by 3"),
        ("timeout", "", "failed", "timeout"),
    ],
)  # fmt: skip
def test_a_reason_has_its_code_and_says_nothing_twice(
    code: str, text: str, state: str | None, said: str
) -> None:
    """The code is what scripts and the reference call it, so it is there unless the state or the text's first word says it."""
    assert render.reason_text({"code": code, "text": text}, state).startswith(said)


def test_a_reason_of_many_lines_is_told_in_one() -> None:
    """Line breaks of a reason are none of the lines of a table."""
    text = "the plan is not valid:\n  line 1: no\n  line 2: no"
    assert render.reason_text({"code": "worker_failed", "text": text}).endswith(
        "valid: line 1: no line 2: no"
    )
    status = render.status_text(a_document(a_run(problems=[text])), now=NOW)
    assert "  can't go on: the plan is not valid: line 1: no line 2: no\n" in status


def test_what_a_running_task_tries_again_stands_in_its_line() -> None:
    """Its worker has ended, and what it left can't be collected yet: that is worth more than a title."""
    retrying = {"code": "retrying", "text": "no space is left on the disk", "until": None}
    told = render.task_detail(a_task("a", "running", attempts=[an_attempt(reason=retrying)]), NOW)
    assert told.endswith("  retrying: no space is left on the disk")
    beside = render.task_detail(
        a_task("a", "running", attempts=[an_attempt(doing="edits", reason=None)]), NOW
    )
    assert beside.endswith("  edits")


def test_a_goal_that_can_not_go_on_says_why() -> None:
    """The reason is told where the run is said to have stopped, whole and with its lines."""
    failed = a_task(
        "architect", "failed", reason={"code": "worker_failed", "text": "not valid:\n  line 1: no"}
    )
    text = goal_text.goal_text(a_run(failed, goal={"stage": "stopped"}))
    assert "  architect: not valid:\n  line 1: no\n" in text
    rejected = goal_text.goal_text(
        a_run(goal={"stage": "stopped"}, qa={"state": "rejected", "reason": "no tests"})
    )
    assert "Not approved: no tests.\n  Next: swarm start, swarm qa --run modernise" in rejected
    undone = {"code": "undone", "text": "it was taken off staging again by abc"}
    taken_off = a_run(
        a_task("b", "cancelled", reason=undone), goal={"stage": "stopped"}, qa={"state": "void"}
    )
    assert goal_text.goal_text(taken_off).endswith(
        "  b: it was taken off staging again by abc\n  Next: swarm start, swarm retry modernise/b\n"
    )
    moved = goal_text.goal_text(a_run(a_task("b", "landed"), goal={"stage": "stopped"}, qa={"state": "void"}))
    assert moved.endswith("\n  Next: swarm start, swarm qa --run modernise reviews it as it is now\n")
    ready = a_run(goal={"stage": "ready"}, state="ended")
    assert (
        goal_text.goal_text(ready)
        == "modernise: ready to be finished.\n  Next: swarm finish --run modernise\n"
    )
    assert (
        goal_text.goal_text({**ready, "state": "finished"})
        == "modernise: it is finished.\n  Next: swarm report modernise\n"
    )


def test_a_review_that_failed_is_tried_again_by_qa() -> None:
    """`swarm retry --failed` leaves the tasks of QA alone, so it is named only where another task failed too."""
    review = a_task("qa-1", "failed", qa="review")
    alone = telling.result_text(a_run(a_task("a", "landed"), review), None, daemon_stays=True)
    assert "\n  Again: swarm qa\n" in alone
    beside = telling.result_text(a_run(a_task("a", "failed"), review), None, daemon_stays=True)
    assert "\n  Again: swarm retry --failed\n" in beside


def test_objections_that_were_met_are_no_failures() -> None:
    """Reviews that a later approval has settled count nowhere as failed: not in the summary, not in status."""
    tasks = (a_task("a", "landed"), a_task("qa-1", "failed", qa="review"))
    run = a_run(*tasks, qa={"state": "approved", "commit": "c" * 40}, counts={"landed": 1, "failed": 1})
    assert telling.summary_line(run, None) == "1 landed, 0 failed, 0 blocked"
    text = render.status_text(a_document(run), now=NOW)
    assert "1 of 1 landed" in text
    assert "failed" not in text
    assert "more" not in text
    assert "1 failed" in render.status_text(a_document({**run, "qa": {"state": "rejected"}}), now=NOW)


def test_events_are_one_line_each() -> None:
    """An event says when, what and how far; one that is not known is told by its name and what it carries."""
    at = "2026-11-21T04:00:00Z"
    clock = time.strftime("%H:%M:%S", time.localtime(NOW))
    landed = {"seq": 1, "at": at, "type": "TaskLanded", "task": "header"}
    assert telling.event_text(landed, progress="3/12") == f"{clock} header landed (3/12)"
    failed = {"at": at, "type": "TaskFailed", "task": "a", "code": "timeout", "text": "took longer than 10 s"}
    assert telling.event_text(failed) == f"{clock} a failed (timeout): took longer than 10 s"
    blocked = {
        "at": at,
        "type": "TaskBlocked",
        "task": "b",
        "code": "blocked",
        "text": "a ended without landing",
    }
    assert telling.event_text(blocked) == f"{clock} b blocked: a ended without landing"
    again = {"at": at, "type": "TaskHandedBack", "task": "a", "attempt": 1, "text": "why"}
    for words, more in {
        "handed back (empty): why": {"code": "empty"},  # of an older journal
        "handed back (conflict): why": {"code": "conflict", "end": "handed_back"},
        "attempt 1 failed (empty): why": {"code": "empty", "end": "failed"},
        "attempt 1 lost: why": {"code": "lost", "end": "lost"},
    }.items():
        assert telling.event_text({**again, **more}) == f"{clock} a {words}"
    suites = [{"name": "unit", "outcome": "passed"}, {"name": "lint", "outcome": "failed"}]
    verified = {"at": at, "type": "Verified", "task": "a", "candidate": "c0ffee", "suites": suites}
    assert telling.event_text(verified) == f"{clock} a verified: unit passed, lint failed"
    assert (
        telling.event_text({"at": at, "type": "TaskSomethingNew", "task": "a", "x": 3})
        == f"{clock} a something new: x=3"
    )


def test_a_task_is_shown_with_its_attempts() -> None:
    """Show names the task, why it is where it is, and each attempt with its end."""
    attempts = [
        an_attempt(
            state="handed_back",
            ended_at="2026-11-21T03:59:58.5Z",
            reason=CONFLICT,
            exit_code=0,
            touched=["src/auth.py"],
        )
    ]
    task = a_task(
        "auth", "failed", reason=CONFLICT, attempts=attempts, needs=["types"], claims=[{"path": "src/**"}]
    )
    text = telling.task_text({"run": "modernise", "task": task}, now=NOW)
    assert text.startswith("modernise/auth  failed\n  Title of auth\n")
    assert "  attempt 1  handed back, 1m00s\n" in text
    assert "    exit code  0\n" in text
    assert "    changed    src/auth.py\n" in text


def test_the_live_view_shows_what_the_plain_one_shows() -> None:
    """Bars, workers, what waits and for what, the queue, failures and landings are all in the live picture."""
    document = a_document(
        USUAL, merge_queue=[{"run": "modernise", "task": "types", "attempt": 1, "state": "verifying"}]
    )
    console = Console(width=100, color_system=None)
    lines = [
        "".join(part.text for part in line)
        for line in console.render_lines(live.view(document, now=NOW, width=100))
    ]
    text = "\n".join(lines)
    for said in (
        "1 of 6 landed",
        "41 % cpu",
        "which header holds",
        "merge queue: types (verifying)",
        "ddddddddd",
    ):
        assert said in text
    assert all(render.columns(line) <= 100 for line in lines)


def test_the_live_view_begins_with_what_is_active() -> None:
    """A screen may be too low for all runs: those that go on are at its top, in their order."""
    runs = [
        {**a_run(), "id": name, "state": state}
        for name, state in (("old", "ended"), ("a", "active"), ("b", "paused"))
    ]
    console = Console(width=100, color_system=None)
    lines = console.render_lines(live.view({"runs": runs}, now=NOW, width=100))
    first = ["".join(part.text for part in line).split("  ")[0] for line in lines]
    assert [name for name in first if name in ("old", "a", "b")] == ["a", "b", "old"]


@pytest.mark.parametrize("width", [40, 80, 110, 150])
def test_no_title_shortens_a_state(width: int) -> None:
    """In a live picture of any width states are whole, ids too where there is room, and what is said of a task gives way."""
    long = {"title": "long word " * 30, "landed_commit": "d" * 40}
    tasks = [a_task(f"some-{state}", state, **long) for state in ("blocked", "cancelled", "landed", "failed")]
    console = Console(width=width, color_system=None)
    lines = [
        "".join(part.text for part in line)
        for line in console.render_lines(live.view({"runs": [a_run(*tasks)]}, now=NOW, width=width))
    ]
    for state in ("blocked", "cancelled", "landed", "failed"):
        (row,) = (line for line in lines if line.split()[:1] == [state])
        assert row.split()[1] == f"some-{state}"
    assert all(render.columns(line) <= width for line in lines)


def test_the_live_picture_fits_the_terminal_and_leaves_a_line_for_what_is_typed() -> None:
    """Behind a full last line the ^C of a terminal would move what is drawn last by one line."""
    console = Console(width=20, height=5, color_system=None)
    for number, shown in ((2, 2), (9, 4)):
        picture = Group(*(Text("x" * 20) for _ in range(number)))
        drawn = console.render_lines(live._Fitting(picture), pad=False)
        texts = ["".join(part.text for part in line) for line in drawn]
        assert (len(texts), texts[-1].strip()) == (shown + 1, "")
        assert texts[-2] == ("x" * 20 if number == 2 else "…")


def test_times_are_read_as_they_are_written() -> None:
    """RFC 3339 in UTC gives the same second as the calendar, leap years and fractions included."""
    for moment in (
        (1970, 1, 1, 0, 0, 0),
        (2000, 2, 29, 23, 59, 59),
        (2024, 12, 31, 1, 2, 3),
        (2100, 3, 1, 0, 0, 0),
    ):
        text = "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}Z".format(*moment)
        assert render.epoch(text) == calendar.timegm(moment)
    assert render.epoch("2026-11-21T04:00:00.250000+00:00") == NOW + 0.25
    assert render.epoch(5) == 5.0
    assert render.epoch("yesterday, after the rain") is None
    assert [render.duration(each) for each in (-1, 59, 60, 3599, 7500, 90000)] == [
        "0s",
        "59s",
        "1m00s",
        "59m59s",
        "2h05m",
        "1d01h",
    ]
    assert [render.size(each) for each in (5, 1500, 210_000_000, 2e13)] == [
        "5 B",
        "1.5 kB",
        "210 MB",
        "20.0 TB",
    ]


def a_worktree(path: str, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "path": path,
        "state": "spare",
        "run": None,
        "task": None,
        "attempt": None,
        "branch": None,
        "commit": "c" * 40,
    }
    row |= {"ahead": None, "age_s": 61.5, "dirty": 0, "size_bytes": 12_000_000, "size_exact": True}
    return row | changes


def test_worktrees_are_told_by_who_is_in_them() -> None:
    """Staging, an attempt at work, one that was kept after its end, and where `worktrees open` would put each attempt's work."""
    branch = "swarm/modernise/task/b/1"
    at_work = an_attempt(worktree="/r/.worktrees/pool/1")
    ended = an_attempt(worktree="/r/.worktrees/pool/2", branch=branch, ended_at="2026-11-21T03:59:58.5Z")
    nothing = an_attempt(branch=None, worktree=None, ended_at="2026-11-21T03:59:58.5Z")
    tasks = a_task("a", "running", attempts=[at_work]), a_task("b", "failed", attempts=[ended])
    document = a_document(a_run(*tasks, a_task("c", "failed", attempts=[nothing])))
    owners = telling.worktree_owners(document, root="/r/.worktrees")
    assert {path: (owner["state"], owner["task"]) for path, owner in owners.items()} == {
        "/r/.worktrees/modernise/staging": ("staging", None),
        "/r/.worktrees/modernise/b-1": ("open", "b"),
        "/r/.worktrees/pool/1": ("running", "a"),
        "modernise/b/1": ("kept", "b"),
        "modernise/c/1": ("kept", "c"),  # so that one that is opened for it later is known
    }


def test_a_worktree_is_one_line() -> None:
    """Path, state, whose, branch, commits ahead, age, dirt, size; what could not be told is not made up."""
    rows = [
        a_worktree(
            "/r/.worktrees/pool/1",
            state="running",
            run="m",
            task="a",
            branch="swarm/m/task/a/1",
            ahead=2,
            dirty=3,
        ),
        a_worktree("/r/.worktrees/pool/2", dirty=None, size_exact=False),
    ]
    assert telling.worktrees_text(rows, top="/r").splitlines() == [
        ".worktrees/pool/1  running  m/a  swarm/m/task/a/1  2 ahead  1m01s old  3 changed      12 MB",
        ".worktrees/pool/2  spare    -    cccccccccccc               1m01s old  can't be read  over 12 MB",
    ]
    assert telling.worktrees_text([]) == "No worktrees.\n"


# --- names ------------------------------------------------------------------------------------------------------------------


def test_a_task_is_found_by_its_name_alone_or_with_its_run() -> None:
    """A name that is in one run is enough; ids with a slash of their own are found too."""
    document = a_document(
        a_run(a_task("a", "ready"), a_task("ui/a", "ready")), a_run(a_task("b", "ready"), id="other")
    )
    assert naming.task_of(document, "b")[0] == "other"
    assert naming.task_of(document, "ui/a")[1]["id"] == "ui/a"
    assert naming.task_of(document, "modernise/ui/a")[1]["id"] == "ui/a"
    assert naming.task_of(document, "a", "modernise")[0] == "modernise"
    assert naming.tasks_by_run(document, ["a", "other/b"]) == {"modernise": ["a"], "other": ["b"]}


def test_a_name_that_is_not_clear_is_never_guessed() -> None:
    """In several runs: the runs are named. In none: the nearest is."""
    document = a_document(a_run(a_task("header", "ready")), a_run(a_task("header", "ready"), id="other"))
    with pytest.raises(UsageError, match="modernise, other"):
        naming.task_of(document, "header")
    named = a_document(a_run(a_task("t", "ready")), a_run(a_task("modernise/t", "ready"), id="other"))
    with pytest.raises(UsageError, match="in several runs: modernise, other") as caught:
        naming.task_of(named, "modernise/t")
    assert caught.value.next_step == "say which, for example --run modernise t"
    assert naming.task_of(named, "t", "modernise")[0] == "modernise"
    assert naming.task_of(named, "modernise/t", "other")[0] == "other"
    with pytest.raises(UsageError) as caught:
        naming.task_of(document, "headr")
    assert "header" in caught.value.consequence
    with pytest.raises(UsageError, match="several runs"):
        naming.run_of(document, None)
    done = [
        a_run(id=name, state=state) for name, state in (("old", "finished"), ("a", "ended"), ("b", "ended"))
    ]
    with pytest.raises(UsageError, match="several runs: a, b"):
        naming.run_of(a_document(*done), None)
    assert [run["id"] for run in naming.runs_of(a_document(*done), None)] == ["a", "b"]
    assert [run["id"] for run in naming.runs_of(a_document(*done, a_run()), None)] == ["modernise"]
    with pytest.raises(UsageError) as caught:
        naming.run_of(a_document(*(a_run(id=f"run-{number}") for number in range(8))), "zzz")
    assert (
        caught.value.consequence == "Nothing was done. Known: run-3, run-4, run-5, run-6, run-7, and 3 older."
    )
    with pytest.raises(UsageError, match="no run yet"):
        naming.run_of({}, None)
    assert naming.run_of(a_document(a_run(), a_run(id="old", state="ended")), None)["id"] == "modernise"


# --- the wire and the way round click ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [UsageError, Refused, SwarmError])
def test_errors_come_over_the_wire_as_they_were(kind: type[SwarmError]) -> None:
    """Cause, consequence, next step and exit code survive; what is no error of ours becomes a plain one."""
    error = kind("cause", "consequence", "next")
    again = error_from_body(error_body(error), error_status(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.exit_code == error.exit_code
    assert error_from_body("<html>", 502).exit_code == 1
    assert error_from_body({"error": {"cause": 3, "exit_code": [1]}}, 500).cause == "3"


def test_the_socket_stays_short_enough_for_the_kernel() -> None:
    """A long state folder gets a socket of its own under the runtime or the temporary folder, always the same one."""
    assert socket_path("/r/.git/swarm", {}) == "/r/.git/swarm/api.sock"
    long = f"/{'x' * 200}/.git/swarm"
    first = socket_path(long, {"XDG_RUNTIME_DIR": "/"})
    assert first == socket_path(long, {"XDG_RUNTIME_DIR": "/"})
    assert first.startswith("/swarm-")
    for environ in ({}, {"TMPDIR": f"/{'y' * 200}"}, {"XDG_RUNTIME_DIR": "/not/there"}):
        assert len(socket_path(long, environ)) <= 103
        assert socket_path(long, environ) != socket_path(long + "2", environ)


@pytest.mark.parametrize(
    ("line", "understood"),
    [
        ("status", True),
        ("-C x status --json --run y", True),
        ("-q --json status", True),
        ("status --watch", False),
        ("status --all", False),
        ("status --run", False),
        ("show status", False),
        ("status status", False),
        ("status -C x", False),
    ],
)
def test_only_a_plain_status_goes_round_click(line: str, understood: bool) -> None:
    """What the short way does not understand is left to the real parser."""
    assert (status.plain_request(line.split()) is not None) == understood


def test_the_help_names_every_command_once_in_eighty_columns() -> None:
    """Every command is in the help, is found again by its name, and fits the terminal."""
    text = commands.help_text()
    assert len(set(commands.names())) == len(commands.names())
    for name in commands.names():
        assert f"\n  {name} " in text
        assert commands.find(name) is not None
    assert commands.find("nothing") is None
    assert max(map(len, text.splitlines())) <= 80


def test_a_staging_branch_that_was_moved_is_told_on_its_line() -> None:
    """The line of staging says where the branch stands, that a person moved it, and where what landed ends; never "verified"."""
    staging = {**a_run()["staging"], "found": "c" * 40, "verified": False}
    text = render.status_text(a_document(a_run(staging=staging)), now=NOW, width=100)
    assert "swarm/modernise/staging at ccccccccc, moved there by hand; what landed ends at bbbbbbbbb" in text
    assert "verified" not in text


def test_a_plan_that_waits_for_a_person_is_no_end() -> None:
    """A run that waits for an approval says so and what to type, and neither that it ended nor that staging is not verified; once
    tasks run it says its state as any."""
    goal = {"stage": "approval", "text": "Make it fast"}
    waits = a_run(a_task("plan", "answered"), state="waiting", goal=goal)
    text = render.status_text(a_document(waits), now=NOW)
    assert "modernise  the plan waits for you: swarm plan modernise\n" in text
    assert "goal: Make it fast" in text
    assert "ended" not in text
    assert "verified" not in text
    assert "modernise  active  0 of 0 landed" in render.run_title({**waits, "state": "active"})


def test_a_plan_that_waits_is_told_by_whoever_waited() -> None:
    """Where a run has come to a plan that a person is to approve of, its end is none, and the next step is named."""
    text = telling.result_text(a_run(goal={"stage": "approval"}), 1.0)
    assert "modernise: the plan waits for your approval.\n  Next: swarm plan modernise shows the plan" in text
    assert "waits" not in telling.result_text(a_run(goal={"stage": "ready"}), 1.0)


def test_what_is_held_is_not_said_to_wait_for_nothing() -> None:
    """Beside a line that says who is held, the capacity does not say that nothing waits."""
    capacity = {
        "workers_max": 2,
        "running": 0,
        "reason": "nothing waits",
        "held": [{"text": "claude until 12:00"}],
    }
    document = {"daemon": {"running": True}, "capacity": capacity}
    assert render.capacity_line(document) == "workers 0 of 2; nothing waits but for what is held"
    assert (
        render.capacity_line({**document, "capacity": {**capacity, "held": []}})
        == "workers 0 of 2; nothing waits"
    )

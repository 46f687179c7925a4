"""Tells in plain text what happened: how a run ended, events, one task with its attempts, claims, worktrees.

Rules for editing: as in `render`: pure functions from a document to text, and all text of others goes through `printable`.
"""

from __future__ import annotations

import time

from swarm.client.goal_text import goal_text
from swarm.client.naming import called, chosen, into, shell_word
from swarm.client.render import (
    NO_CHANGE,
    OPEN,
    columns,
    counts,
    duration,
    epoch,
    finished_before,
    flake_text,
    is_settled,
    listed,
    pad,
    qa_line,
    reason_text,
    short_path,
    size,
    state_text,
    took,
)
from swarm.protocol import counted, printable

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    Document = Mapping[str, Any]

SETTINGS = "swarm.toml"
SAID_MAX = 300  # characters shown of what a worker said last
ELSEWHERE_MAX = 10  # tasks named in a summary that left something in a stash or elsewhere
LEFT_ELSEWHERE = "what it left elsewhere (a stash, another branch, a tag, a merge half done)"

# --- how a run ended --------------------------------------------------------------------------------------------------------


def summary_line(run: Document, elapsed_s: float | None) -> str:
    """Sums a run up in one line: `12 landed, 1 failed (conflict), 0 blocked in 41.2 s`; without the time where nothing was done,
    and with what is to go where it has not ended."""
    ended = counts(run)
    codes: dict[str, int] = {}
    for task in run.get("tasks") or []:
        if task.get("state") == "failed" and not is_settled(run, task):
            code = printable((task.get("reason") or {}).get("code") or "")
            codes[code] = codes.get(code, 0) + 1
    named = ", ".join(code if number == 1 else f"{number} {code}" for code, number in codes.items() if code)
    failed = f"{ended.get('failed', 0)} failed" + (f" ({named})" if named else "")
    parts = [f"{ended.get('landed', 0)} landed", failed, f"{ended.get('blocked', 0)} blocked"]
    if ended.get("cancelled"):
        parts.append(f"{ended['cancelled']} cancelled")
    if still := sum(ended.get(state, 0) for state in OPEN):
        parts.append(f"{still} to go")
    parts += finished_before(run)
    return ", ".join(parts) + ("" if elapsed_s is None else f" in {elapsed_s:.1f} s")


def run_time_s(run: Document) -> float | None:
    """Gives the seconds from the beginning of a run to its end; None where it has not ended."""
    began, ended = epoch(run.get("created_at")), epoch(run.get("ended_at"))
    return None if began is None or ended is None else max(0.0, ended - began)


def all_landed(run: Document) -> bool:
    """Says whether nothing of a run failed, was blocked or cancelled."""
    ended = counts(run)
    return not any(ended.get(state) for state in ("failed", "blocked", "cancelled"))


def result_text(
    run: Document, elapsed_s: float | None, *, title: str = "", top: str = "", daemon_stays: bool = False
) -> str:
    """Tells how a run ended: what did not land and why, where staging is, what to type next, and at the end its summary behind
    `title`. Where the daemon does not stay, one has to be started before anything can be tried again."""
    lines = []
    if (run.get("goal") or {}).get("stage") == "approval":
        lines.append(goal_text(run).rstrip())
    names, again = [], "qa"  # which is what tries a review again
    for task in run.get("tasks") or []:
        if task.get("state") in ("failed", "blocked") and not is_settled(run, task):
            name = printable(task.get("id", "?"))
            names += [str(task.get("id", "?"))] if task["state"] == "failed" else []
            again = again if task.get("qa") else "retry --failed"
            why = reason_text(task.get("reason"), task["state"]) or "no reason known"
            lines.append(f"  {name} {task['state']}: {why}")
    lines += _left_elsewhere(run)
    staging = run.get("staging") or {}
    branch = printable(staging.get("branch") or "")
    if branch and (run.get("counts") or {}).get("landed"):
        where = (
            f", checked out in {printable(short_path(staging['worktree'], top))}"
            if staging.get("worktree")
            else ""
        )
        base = printable((run.get("base") or {}).get("branch") or (run.get("base") or {}).get("commit") or "")
        lines.append(f"Staging is the branch {branch}{where}.")
        lines.append(
            f"  Look:  git log --first-parent {base}..{branch}" if base else f"  Look:  git log {branch}"
        )
        lines += [f"  Merge: {_merging(run, branch)}"] if run.get("state") != "finished" else []
    if names:
        name = called(run, names[0])
        lines.append(f"  Why:   swarm show {name}, swarm logs {name}")
        lines.append(f"  Again: {'' if daemon_stays else 'swarm start, then '}swarm {again}{chosen(run)}")
    return "\n".join([*lines, title + summary_line(run, elapsed_s)]) + "\n"


def _left_elsewhere(run: Document) -> list[str]:
    """Names the tasks of which something was left in a stash or elsewhere, whatever became of them, save where that is told."""
    found = []
    for task in run.get("tasks") or []:
        kept = [str(each["besides"]) for each in task.get("attempts") or [] if each.get("besides")]
        if kept and kept[-1] not in str((task.get("reason") or {}).get("text")):
            name = printable(task.get("id", "?"))
            look = f"swarm show {called(run, str(task.get('id', '?')))}"
            found.append(f"  {name}: {LEFT_ELSEWHERE} is kept on {printable(kept[-1])}: {look}")
    more = [f"  and {len(found) - ELSEWHERE_MAX} more tasks of which something is kept so"]
    return found[:ELSEWHERE_MAX] + (more if len(found) > ELSEWHERE_MAX else [])


def _merging(run: Document, branch: str) -> str:
    """Says what merges staging; where the run started from no branch, what does so where one stands comes first."""
    which = into(run)
    by_hand = f"git merge {shell_word(branch)}, or " if which else ""
    return f"{by_hand}swarm finish{chosen(run)}{which}"


def verify_text(document: Document) -> str:
    """Tells what the suites said of staging; of one that did not pass the end of its output."""
    suites = document["suites"]
    where = f"staging of {printable(document['run'])} at {printable(document['commit'])[:9]}"
    if document["commit"] != document["landed"]:
        where += f", moved there by hand, while what landed ends at {printable(document['landed'])[:9]}"
    if not suites:
        return f"Nothing verifies {where}: the plan has no suites.\n"
    lines = []
    for suite in suites:
        note = f" ({printable(suite['note'])})" if suite.get("note") else ""
        changed = f", changed while it ran: {listed(suite['changed'])}" if suite.get("changed") else ""
        lines.append(
            f"  {printable(suite['outcome']):8} {printable(suite['name'])}, {took(suite['duration_s'])}{changed}{note}"
        )
        lines += [f"    {printable(line)}" for line in (suite.get("tail") or "").splitlines()]
    bad = sum(suite["outcome"] != "passed" for suite in suites)
    lines.append(f"{where[0].upper()}{where[1:]}: {len(suites) - bad} of {len(suites)} suites passed.")
    return "\n".join(lines) + "\n"


def qa_text(run: Document) -> str:
    """Tells what the rounds of QA came to, and what to do next."""
    qa = run.get("qa") or {}
    lines = []
    for each in qa.get("rounds") or []:
        moved = ", but staging had moved meanwhile" if each.get("moved") else ""
        summary = f": {printable(each['summary'])}" if each.get("summary") else ""
        said = "approves" if each["verdict"] == "approve" else "rejects"
        lines.append(f"{printable(each['task'])} {said}{moved}{summary}")
        for issue in each.get("issues") or []:
            place = f"{printable(issue['path'])}: " if issue.get("path") else ""
            lines.append(f"  {place}{printable(issue['title'])}")
        if each.get("fix"):
            lines.append(f"  mended by {printable(each['fix'])}")
    lines.append(qa_line(run))
    return "\n".join(lines) + "\n"


_FINISH_GOOD = frozenset({"finished", "staged", "preview", "proposed", "nothing"})


def finish_text(document: Document) -> str:
    """Tells what finishing did, or would do."""
    facts = document.get("finish") or {}
    run, into = printable(facts.get("run", "?")), printable(facts.get("into", "?"))
    landed, missing, paths = facts.get("landed") or [], facts.get("missing") or [], facts.get("paths") or []
    said = {
        "finished": f"Run {run} is on {into} at {printable(facts.get('commit') or '')[:9]}: {_tasks(landed)}.",
        "staged": f"Run {run} is in the index and files of the checkout of {into}, {_tasks(landed)}; commit it when you like.",
        "preview": printable(facts.get("text") or f"{counted(len(paths), 'path')} of {into} would change."),
        "proposed": f"Run {run} is proposed for {into}, {_tasks(landed)}: {_pull_request(facts)}",
        "nothing": f"{into} has everything of run {run} already."
        if landed
        else f"Nothing of run {run} has landed, so {into} stays as it is.",
    }
    lines = [said.get(str(facts.get("outcome")), f"Run {run} was not finished.")]
    if facts.get("outcome") == "preview":
        lines += [f"  {printable(path)}" for path in paths[:50]]
        lines += [f"  … and {len(paths) - 50} more"] if len(paths) > 50 else []
        lines += (
            [f"It would be refused as things stand: {printable(facts['refused'])}"]
            if facts.get("refused")
            else []
        )
    if (why := facts.get("unapproved")) and facts.get("outcome") != "nothing" and not facts.get("refused"):
        lines.append(f"No reviewer has approved of it, nor does qa.required ask for that: {printable(why)}.")
    if facts.get("deploy"):
        lines.append(_deployed(facts["deploy"], run))
    if missing:
        lines.append(f"Not in it, because it has not landed: {listed(missing)}")
    return "\n".join(lines) + "\n"


def _pull_request(facts: Mapping[str, Any]) -> str:
    found = facts.get("pull_request") or {}
    return f"{printable(found.get('url') or '')}{'' if found.get('made') else ' (it was open already)'}"


def _deployed(done: Mapping[str, Any], run: str) -> str:
    command, code, log = printable(done["command"]), done["exit_code"], printable(done["log"])
    if not done["ran"]:
        return f"It was deployed before: {command}"
    if code == 0:
        return f"Deployed: {command} (its output: {log})"
    how = "did not end in time" if code is None else f"ended with exit code {code}"
    return f"Not deployed: {command} {how}; look at {log}\n  Next: swarm finish --run {shell_word(run)} runs it again"


def _tasks(names: Sequence[object]) -> str:
    return counted(len(names), "task")


def finished_well(document: Document) -> bool:
    """Says whether finishing did what was asked, or would do so; what conflicts or would be refused does not, nor what was not
    deployed."""
    facts = document.get("finish") or {}
    deployed = not facts.get("deploy") or facts["deploy"]["exit_code"] == 0
    stopped = facts.get("conflicts") or facts.get("refused")
    return facts.get("outcome") in _FINISH_GOOD and not stopped and deployed


# --- events -----------------------------------------------------------------------------------------------------------------

_HEAD = ("seq", "at", "type", "run", "task", "attempt")


def event_text(event: Document, *, progress: str = "") -> str:
    """Shows one event in one line: `12:01:02 header landed (3/12)`; `progress` is what stands in the brackets."""
    moment = epoch(event.get("at"))
    clock = time.strftime("%H:%M:%S", time.localtime(moment)) if moment is not None else "--:--:--"
    what = _event_words(event)
    return f"{clock} {what} ({progress})" if progress else f"{clock} {what}"


def _event_words(event: Document) -> str:
    kind = str(event.get("type") or "")
    name = printable(event.get("task") or event.get("run") or "")
    say = _WORDS.get(kind)
    if say is not None:
        return f"{name} {say(event)}".strip()
    rest = ", ".join(f"{key}={_short(event[key])}" for key in event if key not in _HEAD)
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in printable(kind)).strip()
    for prefix in ("task ", "run "):
        words = words.removeprefix(prefix) if name else words
    return f"{name} {words}{': ' if rest else ''}{rest}".strip()


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    text = listed(value) if isinstance(value, list) else printable(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _tried_again(event: Document) -> str:
    from swarm.core.report import in_words

    return f"{in_words(_short(event.get('command', '')))} failed and is tried again: {_short(event.get('text', ''))}"


def _suites(suites: Any) -> str:
    return ", ".join(f"{_short(each.get('name'))} {_short(each.get('outcome'))}" for each in suites or [])


def _ended(word: str) -> Any:
    return lambda event: word + _why(event)


def _end_of_attempt(event: Document) -> str:
    """Says how an attempt ended whose task gets another, in the word that `show` has for it."""
    end = event.get("end") or "handed_back"
    return (
        state_text(end) if end == "handed_back" else f"attempt {event.get('attempt', '?')} {state_text(end)}"
    )


def _why(event: Document) -> str:
    code, text = printable(event.get("code") or ""), printable(event.get("text") or "")
    told = (
        not code or event.get("type") == f"Task{code.capitalize()}" or event.get("end") == code
    )  # by the word before
    return ("" if told else f" ({code})") + (f": {text}" if text else "")


def _slowest(event: Document) -> str:
    if not event.get("bottleneck"):
        return ""
    return (
        f", verified in {took(event.get('verify_s') or 0.0)} (slowest suite: {_short(event['bottleneck'])})"
    )


def _notes(event: Document) -> str:
    return "".join(f"; {_short(name)} {printable(note)}" for name, note in (event.get("notes") or {}).items())


def _issues(event: Document) -> str:
    titles = [issue.get("title") for issue in event.get("issues") or []]
    return f": {_short(titles)}" if titles else ""


_WORDS: dict[str, Any] = {
    "TaskStarted": lambda event: f"started, attempt {event.get('attempt', 1)}",
    "TaskQueued": lambda _: "is in the merge queue",
    "TaskLanded": lambda event: (
        f"landed{NO_CHANGE if event.get('unchanged') else ''}{_slowest(event)}{_notes(event)}"
    ),
    "TaskHandedBack": lambda event: f"{_end_of_attempt(event)}{_why(event)}",
    "TaskFailed": _ended("failed"),
    "TaskBlocked": _ended("blocked"),
    "TaskCancelled": _ended("cancelled"),
    "TaskRetried": lambda _: "is to be tried again",
    "Verified": lambda event: f"verified: {_suites(event.get('suites')) or 'no suite'}",
    "SuiteFlaked": flake_text,
    "ClaimUnused": lambda event: f"changed nothing under {listed(event.get('paths'))}, which it had claimed",
    "ChangeNoticed": lambda event: f"noticed: {listed(event.get('texts'))}",
    "ConflictForeseen": lambda event: (
        f"would conflict with {printable(event.get('other', ''))} in {listed(event.get('paths'))}, if both ended now"
    ),
    "StrayFound": lambda event: f"changed paths outside its claims: {listed(event.get('paths'))}",
    "CommandFailed": _tried_again,
    "RunCommandFailed": _tried_again,
    "RunStarted": lambda event: f"started from {_short(event.get('branch', ''))}",
    "RunEnded": lambda event: f"ended: {event.get('landed', 0)} landed, {event.get('failed', 0)} failed",
    "TaskAnswered": lambda _: "answered",
    "PlanDrafted": lambda event: f"wrote a plan of {counted(event.get('tasks', 0), 'task')}",
    "PlanApproved": lambda _: "has an approved plan",
    "BuildReady": lambda _: "is ready to be finished",
    "BuildStopped": lambda event: f"can't go on by itself{_why(event)}",
    "StagingReviewed": lambda event: f"says {_short(event.get('verdict', ''))}{_issues(event)}",
    "QaApproved": lambda event: f"is approved at {_short(str(event.get('commit', ''))[:9])}",
    "QaRejected": lambda event: f"is not approved{_why(event)}",
    "RunFinished": lambda event: f"is on {_short(event.get('target', ''))}",
    "FinishRefused": lambda event: f"was not finished{_why(event.get('reason') or {})}",
    "AgentHeld": lambda event: (
        f"starts nothing of agent {_short(event.get('agent', ''))}: {printable(event.get('text', ''))}"
    ),
    "AgentGoesOn": lambda event: f"starts workers of agent {_short(event.get('agent', ''))} again",
    "SpaceReclaimed": lambda event: (
        f"{size(event.get('size_bytes') or 0)} of idle worktrees reclaimed: {listed(event.get('paths'))}"
    ),
    "CapacityChanged": lambda event: (
        f"{event.get('slots_open', 0)} slots open: {_short(event.get('reason', ''))}"
    ),
    "PlanAccepted": lambda event: ", ".join(
        (
            f"accepted: {event.get('added', 0)} added",
            f"{event.get('replaced', 0)} replaced",
            f"{event.get('unchanged', 0)} unchanged",
            *finished_before({"finished_before": range(event.get("finished_before", 0))}),
        )
    ),
}
PROGRESS_EVENTS = frozenset(
    {
        "TaskStarted",
        "TaskLanded",
        "TaskHandedBack",
        "TaskFailed",
        "TaskBlocked",
        "TaskCancelled",
        "TaskAnswered",
        "PlanDrafted",
        "PlanApproved",
        "BuildReady",
        "BuildStopped",
        "SuiteFlaked",
        "ConflictForeseen",
        "StrayFound",
        "ChangeNoticed",
        "CommandFailed",
        "RunCommandFailed",
        "FinishRefused",
        "StagingReviewed",
        "QaApproved",
        "QaRejected",
        "AgentHeld",
        "AgentGoesOn",
    }
)

# --- one task, claims, worktrees, settings ----------------------------------------------------------------------------------


def task_text(document: Document, *, now: float, top: str = "") -> str:
    """Shows everything known of one task: what it is, and each attempt with why it ended."""
    task = document.get("task") if isinstance(document.get("task"), dict) else document
    assert isinstance(task, dict)
    run = document.get("run")
    run_id = run.get("id") if isinstance(run, dict) else run
    head = (
        f"{printable(run_id)}/{printable(task.get('id', '?'))}" if run_id else printable(task.get("id", "?"))
    )
    lines = [f"{head}  {printable(task.get('state', ''))}"]
    if task.get("title"):
        lines.append(f"  {printable(task['title'])}")
    lines += [f"  {pad(label, 10)} {value}" for label, value in task_facts(task)]
    for attempt in task.get("attempts") or []:
        lines.append("")
        lines += _attempt_lines(attempt, now, top)
    if not task.get("attempts"):
        lines += ["", "  no attempt yet"]
    of = run if isinstance(run, dict) else {"id": run, "meant": document.get("meant", True)}
    return "\n".join([*lines, *_next_steps(task, of)]) + "\n"


def task_facts(task: Document) -> Iterator[tuple[str, str]]:
    """Yields what is known of a task itself, each with a word for it."""
    claims = ", ".join(f"{claim.get('path')}{_shared(claim)}" for claim in task.get("claims") or [])
    pairs = (
        ("why", reason_text(task.get("reason"), task.get("state"))),
        ("phase", task.get("phase")),
        ("needs", ", ".join(str(need) for need in task.get("needs") or [])),
        ("claims", claims),
        ("landed as", f"{task.get('landed_commit') or ''}{NO_CHANGE if task.get('unchanged') else ''}"),
        ("told", "; ".join(str(text) for text in task.get("told") or [])),
    )
    return ((label, printable(value)) for label, value in pairs if value)


def _next_steps(task: Document, run: Document) -> Iterator[str]:
    """Says what to type about a task that ended without landing."""
    if task.get("state") not in ("failed", "cancelled"):
        return
    name = called(run, str(task.get("id", "?")))
    yield ""
    attempts = task.get("attempts") or []
    kept = [each for each in attempts if each.get("head") not in (None, each.get("base"))]
    if kept:
        which = "" if kept[-1] is attempts[-1] else f" --attempt {kept[-1].get('n')}"
        yield f"  Look:  swarm diff {name}, or swarm worktrees open {name}{which}; its work is kept"
    yield f"  Again: swarm retry {name}"


def _attempt_lines(attempt: Document, now: float, top: str) -> Iterator[str]:
    started, ended = epoch(attempt.get("started_at")), epoch(attempt.get("ended_at"))
    took = f", {duration((ended if ended is not None else now) - started)}" if started is not None else ""
    yield f"  attempt {attempt.get('n', '?')}  {state_text(attempt.get('state'))}{took}"
    for label, value in attempt_facts(attempt, top):
        yield f"    {pad(label, 10)} {value}"


def attempt_facts(attempt: Document, top: str) -> Iterator[tuple[str, str]]:
    """Yields what is known of an attempt, why it ended and how its suites did among it, each with a word for it."""
    tokens = f"{attempt.get('tokens_in') or 0} in, {attempt.get('tokens_out') or 0} out"
    pairs = (
        ("why", reason_text(attempt.get("reason"), attempt.get("state"))),
        ("agent", attempt.get("agent")),
        ("sandbox", attempt.get("sandbox")),
        ("branch", attempt.get("branch")),
        ("worktree", short_path(attempt["worktree"], top) if attempt.get("worktree") else ""),
        ("base", str(attempt.get("base") or "")[:12]),
        ("head", str(attempt.get("head") or "")[:12]),
        ("exit code", attempt.get("exit_code")),
        ("doing", attempt.get("doing")),
        ("said", _first_lines(attempt.get("summary"))),
        ("result", attempt.get("result_problem")),
        ("changed", listed(attempt.get("touched"))),
        ("noticed", _brought_settings(attempt)),
        ("kept in", short_path(attempt["saved"], top) if attempt.get("saved") else ""),
        ("besides", _besides(attempt)),
        ("staged", _staged(attempt)),
        ("strays", listed(attempt.get("strays"))),
        ("not needed", _claimed_for_nothing(attempt)),
        ("cost", f"{attempt['cost_usd']:.2f} USD" if attempt.get("cost_usd") is not None else ""),
        ("tokens", tokens if attempt.get("tokens_in") or attempt.get("tokens_out") else ""),
    )
    for label, value in pairs:
        if value not in (None, ""):
            yield label, printable(value)
    for suite in attempt.get("suites") or []:
        if isinstance(suite, dict):
            yield "verified", _suite_text(suite, attempt.get("bottleneck"))
    together = [printable(str(name)) for name in attempt.get("batch") or []]
    if together:
        yield "batch", f"{', '.join(together)}: verified together, as the candidate of {together[-1]}"


def _brought_settings(attempt: Document) -> str:
    """Says that swarm's own settings are among what was changed; "" where they are not."""
    return f"{SETTINGS} holds commands that run as you" if SETTINGS in (attempt.get("touched") or []) else ""


def _besides(attempt: Document) -> str:
    """Says how to look at what was left in a stash or elsewhere; "" where nothing was."""
    branch = attempt.get("besides")
    if not branch:
        return ""
    look = f"git log --stat --diff-merges=first-parent {str(attempt.get('base') or '')[:12]}..{branch}"
    return f"{LEFT_ELSEWHERE}: {look}"


def _staged(attempt: Document) -> str:
    """Says how to look at what was staged and then changed on; "" where nothing was."""
    branch = attempt.get("staged")
    return f"then changed on; what was staged: git diff {branch}^2 {branch}" if branch else ""


def _first_lines(text: Any) -> str:
    """Gives what a worker said last, as far as it fits a line or two."""
    said = " ".join(str(text or "").split())
    return said if len(said) <= SAID_MAX else f"{said[: SAID_MAX - 1]}…"


def transcript_text(task: str, attempt: Document, lines: Iterable[str]) -> str:
    """Shows the last lines of a transcript of `task`, as it is called on the command line, and how to see all."""
    head = f"  attempt {attempt['n']} said, at last (all of it: swarm show {task} --transcript)"
    return "\n".join(["", head, *(f"    {line}" for line in lines)]) + "\n"


def _claimed_for_nothing(attempt: Document) -> str:
    unused = attempt.get("unused")
    return f"{listed(unused)}: claimed, and nothing was changed there" if unused else ""


def _suite_text(suite: Document, bottleneck: Any) -> str:
    """Says of a suite how it ended, how long it took, and whether the others had to be waited for because of it."""
    name = suite.get("name", "")
    text = f"{printable(name)}: {printable(suite.get('outcome', ''))}"
    if suite.get("duration_s") is not None:
        text += f" in {took(suite['duration_s'])}"
    if bottleneck is not None and name == bottleneck:
        text += ", the slowest"
    if (suite.get("parts") or 1) > 1:
        text += f", in {suite['parts']} parts"
    if suite.get("changed"):
        text += f"; changed while it ran: {listed(suite['changed'])}"
    return text + (f"; {printable(suite['note'])}" if suite.get("note") else "")


def _shared(claim: Document) -> str:
    return " (shared)" if claim.get("mode") == "shared" else ""


def claims_text(document: Document) -> str:
    """Shows who may change what now, who waits for that, and what running workers have changed so far, where that was looked at."""
    claims = document.get("claims") or []
    rows = [
        (
            printable(claim.get("path", "")),
            printable(claim.get("mode", "")),
            f"{printable(claim.get('run', ''))}/{printable(claim.get('task', ''))}, attempt {claim.get('attempt', '?')}",
        )
        for claim in claims
    ]
    waits = "".join(
        f"{printable(each.get('run', ''))}/{printable(each.get('task', ''))} waits for {printable(each.get('holder', ''))}"
        f" because of {printable(each.get('path', ''))}\n"
        for each in document.get("waiting") or []
    )
    work = "".join(f"{line}\n" for row in document.get("work") or [] for line in _work_lines(row))
    held = table(rows) if rows else "No claims are held.\n"
    return "\n".join(part for part in (held, waits, work) if part)


def _work_lines(row: Mapping[str, Any]) -> Iterator[str]:
    changed, why = row["changed"], printable(row["why"])
    what = (
        f"can't be looked at now: {why}"
        if changed is None
        else f"has changed {listed(changed) or 'nothing'} so far"
    )
    yield f"{printable(row['run'])}/{printable(row['task'])} {what}"
    if changed is not None and why:
        yield f"  {why}"
    if row["uncompared"]:
        yield f"  too large to be compared: {listed(row['uncompared'])}"
    if row["strays"]:
        yield f"  outside its claims: {listed(row['strays'])}"
    for each in row["conflicts"]:
        yield f"  would conflict with {printable(each['with'])} in {listed(each['paths'])}"


def waiting_for_claims(document: Document) -> list[dict[str, Any]]:
    """Lists the tasks of a status document that could start but for somebody's claim: whose, and on what path."""
    found = []
    for run in document.get("runs") or []:
        for task in run.get("tasks") or []:
            reason = task.get("reason") or {}
            if task.get("state") == "ready" and reason.get("code") == "claim":
                facts = {name: reason.get(name) for name in ("holder", "path")}
                found.append({"run": run.get("id"), "task": task.get("id"), **facts})
    return found


def worktrees_text(rows: Iterable[Mapping[str, Any]], *, top: str = "") -> str:
    """Shows the worktrees of a worktrees document, one a line: where, as what, whose, and how it stands."""
    shown = [
        tuple(
            printable(cell)
            for cell in (
                short_path(row["path"], top),
                row["state"],
                (f"{row['run']}/{row['task']}" if row["task"] else row["run"]) or "-",
                row["branch"] or str(row["commit"] or "")[:12] or "-",
                "" if row["ahead"] is None else f"{row['ahead']} ahead",
                f"{duration(row['age_s'])} old",
                _dirt(row["dirty"]),
                f"{'' if row['size_exact'] else 'over '}{size(row['size_bytes'])}",
            )
        )
        for row in rows
    ]
    return table(shown) if shown else "No worktrees.\n"


def _dirt(paths: int | None) -> str:
    return "can't be read" if paths is None else f"{paths} changed" if paths else "clean"


def worktree_owners(document: Document, *, root: str) -> dict[str, dict[str, Any]]:
    """Says of each worktree path that a run has, had or would open what it is there for.

    `state` is staging, that of the attempt at work in it, kept for one that was left with what an ended attempt wrote, or open for
    one that `worktrees open` made.
    """
    owners: dict[str, dict[str, Any]] = {}
    for run in document.get("runs") or []:
        name, staging = str(run.get("id")), run.get("staging") or {}
        whole = {"run": name, "task": None, "attempt": None}
        if staging.get("worktree"):
            owners[str(staging["worktree"])] = {
                **whole,
                "state": "staging",
                "branch": staging.get("branch"),
                "base": (run.get("base") or {}).get("commit"),
                "since": epoch(run.get("created_at")),
            }
        for task in run.get("tasks") or []:
            for attempt in task.get("attempts") or []:
                mine = {**whole, "task": str(task.get("id")), "attempt": attempt.get("n")}
                mine |= {"branch": attempt.get("branch"), "base": attempt.get("base")}
                ended = epoch(attempt.get("ended_at"))
                if parts := str(attempt.get("branch") or "").split("/")[3:]:
                    path = f"{root}/{name}/{'-'.join(parts)}"
                    owners[path] = {**mine, "state": "open", "since": None}
                if attempt.get("worktree") and ended is None:
                    since = epoch(attempt.get("started_at"))
                    owners[str(attempt["worktree"])] = {
                        **mine,
                        "state": str(attempt.get("state")),
                        "since": since,
                    }
                elif ended is not None:
                    kept = f"{name}/{task.get('id')}/{attempt.get('n')}"  # as the pool calls who has it
                    owners[kept] = {**mine, "state": "kept", "since": ended}
    return owners


def cleaned_text(done: Iterable[Mapping[str, Any]], *, top: str = "") -> str:
    """Tells what cleaning did with each worktree."""
    rows = []
    for each in done:
        path = printable(short_path(each["path"], top))
        kept = f"what lay there is kept on {printable(each['saved'])}" if each["saved"] else ""
        rows.append(("removed", path, kept) if each["removed"] else ("left", path, printable(each["why"])))
    return table(rows) if rows else "There is nothing to clean.\n"


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Sets rows of text in columns; the last one is not padded."""
    rows = list(rows)
    if not rows:
        return ""
    widths = [max(columns(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(pad(cell, widths[column]) for column, cell in enumerate(row)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"

"""Turns status documents into plain text for a terminal, and figures, times and names into what fits a column.

Rules for editing: pure functions from a document to text; no clock, no terminal, no import that costs start-up time, because
`swarm status` loads this file. A document may lack any key (another version wrote it). All text of others goes through `printable`.
"""

from __future__ import annotations

from swarm.client.naming import chosen, into
from swarm.protocol import SUMMARY_LANDED, SUMMARY_LISTED, printable

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    Document = Mapping[str, Any]

OPEN = ("running", "landing", "queued", "ready", "pending")
STATES = (
    *OPEN,
    "failed",
    "blocked",
    "cancelled",
    "answered",
    "landed",
)
# What has not ended and what failed comes first, what landed last.
_LISTED = (
    "running",
    "landing",
    "queued",
    "failed",
    "ready",
    "pending",
    "blocked",
    "cancelled",
    "answered",
    "landed",
)
_COLOURS = {
    "running": "36",
    "landing": "35",
    "queued": "35",
    "ready": "33",
    "failed": "31",
    "blocked": "31",
    "cancelled": "2",
    "answered": "32",
    "landed": "32",
}
NO_CHANGE = ", no change"  # behind a landing that changes nothing
STATE_WIDTH = 11  # of the longest state, behind a margin
STRAYS_SHOWN = 3
_ID_WIDTH_MAX = 24
_ID_WIDTH_MIN = 8

# --- status -----------------------------------------------------------------------------------------------------------------


def status_text(
    document: Document, *, now: float, width: int = 80, colour: bool = False, top: str = ""
) -> str:
    """Shows a status document, full or summary. `now` is in seconds since the epoch; paths under `top` are shown from there."""
    lines = [daemon_line(document, now)]
    if capacity := capacity_line(document):
        lines.append(capacity)
    lines += held_lines(document)
    runs = document.get("runs") or []
    if not runs:
        lines += ["", "No runs yet. Next: swarm run PLAN"]
    for run in runs:
        lines.append("")
        lines += _run_lines(run, now, width, colour, top)
    return "\n".join(lines) + "\n"


def daemon_line(document: Document, now: float) -> str:
    """Says whether a daemon runs, since when, and whether starts are paused."""
    daemon = document.get("daemon") or {}
    if copied := daemon.get("copied"):
        return f"No daemon runs. {printable(copied.get('cause', ''))} Next: {printable(copied.get('next_step', ''))}"
    if failed := daemon.get("failed"):
        step = f" Next: {printable(failed['next_step'])}" if failed.get("next_step") else ""
        return f"No daemon runs. The last one ended by itself: {printable(failed.get('cause', ''))}{step}"
    if silent := daemon.get("silent"):
        return f"{printable(silent['cause'])} This is what the journal says. Next: {printable(silent['next_step'])}"
    if not daemon.get("running"):
        ever = daemon.get("version") or document.get("runs")
        return (
            f"No daemon runs{'; this is what the journal says' if ever else ', and nothing is known of one'}."
        )
    since = epoch(daemon.get("started_at"))
    parts = [f"daemon {daemon.get('pid', '?')}"]
    if daemon.get("version"):
        parts.append(f"version {printable(daemon['version'])}")
    if since is not None:
        parts.append(f"up {duration(now - since)}")
    parts += sandbox_words(daemon)
    if daemon.get("paused"):
        parts.append("paused: nothing new starts (swarm resume)")
    return ", ".join(parts)


def sandbox_words(daemon: Document) -> list[str]:
    """Says what shuts workers in, loudly where nothing does."""
    sandbox = daemon.get("sandbox") or {}
    name, reason = (printable(sandbox.get(key) or "") for key in ("in_force", "reason"))
    if name == "none":
        return [f"NO SANDBOX: {reason}"]
    weaker = f" ({reason})" if reason else ""
    return [f"workers shut in by {name}{weaker}"] if name else []


def capacity_line(document: Document) -> str:
    """Says how many workers run and may run, and what holds more back; empty where the document does not know."""
    capacity = document.get("capacity") or {}
    daemon = document.get("daemon") or {}
    if not daemon.get("running") or daemon.get("silent") or "workers_max" not in capacity:
        return ""
    text = f"workers {capacity.get('running', 0)} of {capacity['workers_max']}"
    readings = capacity.get("readings") or {}
    for name, key in (("cpu", "cpu_percent"), ("memory", "memory_percent")):
        if readings.get(key) is not None:
            text += f", {name} {readings[key]:.0f} %"
    return "; ".join(filter(None, (text, capacity_reason(capacity))))


def capacity_reason(capacity: Document) -> str:
    """Says what holds more workers back, and what else is to be known of the machine."""
    said = [capacity[key] for key in ("reason", "note") if capacity.get(key)]
    if capacity.get("held") and said[:1] == ["nothing waits"]:
        said[0] = "nothing waits but for what is held"
    return "; ".join(map(printable, said))


def held_lines(document: Document) -> list[str]:
    """Says which agents start nothing, and why, and what was spent of a day's budget."""
    held = (document.get("capacity") or {}).get("held") or []
    lines = [f"held: {printable(each.get('text') or '')}" for each in held if isinstance(each, dict)]
    day = document.get("day") or {}
    if day.get("budget_usd") or day.get("budget_tokens"):
        on = (
            f" on {printable(day['date'])}" if day.get("date") else ""
        )  # none where nobody has spent anything yet
        lines.append(f"spent{on}: {spent_text(day)}")
    return lines


def spent_text(spent: Document | None) -> str:
    """Says what workers have cost, and of how much: `$1.25 of $5.00, 120,000 tokens`; empty where they cost nothing."""
    pairs = (("cost_usd", "budget_usd", "${:,.2f}"), ("tokens", "budget_tokens", "{:,} tokens"))
    said = []
    for key, limit, form in pairs:
        amount, most = (spent or {}).get(key) or 0, (spent or {}).get(limit)
        if amount or most:
            said.append(form.format(amount) + (f" of {form.format(most)}" if most else ""))
    return ", ".join(said)


def run_title(run: Document) -> str:
    """Names a run, its state and how far it is: `modernise  active  3 of 12 landed`; or that its plan waits for a person."""
    if plan_waits(run):
        name = printable(run.get("id", "?"))
        return f"{name}  the plan waits for you: swarm plan {name}"
    found = counts(run)
    total = sum(found.values()) - found.get("answered", 0)
    title = f"{printable(run.get('id', '?'))}  {printable(run.get('state', ''))}  {found.get('landed', 0)} of {total} landed"
    return ", ".join([title, *finished_before(run)])


def finished_before(run: Document) -> list[str]:
    """Says how much of a plan was done before the run, where that is anything."""
    before = run.get("finished_before")
    return [f"{len(before)} finished before"] if before else []


def plan_waits(run: Document) -> bool:
    """Tells whether a run goes on only when a person has approved of its plan; that nothing is at work in it is no end then."""
    return run.get("state") == "waiting"


def listed(paths: Any) -> str:
    names = [printable(path) for path in paths or []]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def counts_text(run: Document) -> str:
    """Gives the counts that are not zero, besides landed: `1 running, 2 ready`."""
    found = counts(run)
    return ", ".join(f"{found[state]} {state}" for state in STATES if state != "landed" and found.get(state))


def is_settled(run: Document, task: Document) -> bool:
    """Tells of a task of a round of QA that did not land whether a later round has approved of what stands on staging: then it
    failed nobody."""
    settled = (run.get("qa") or {}).get("state") in ("approved", "void")
    return settled and bool(task.get("qa")) and task.get("state") != "landed"


def counts(run: Document) -> dict[str, int]:
    """Gives how many tasks ended how, without those of QA that a later approval has settled."""
    found = dict(run.get("counts") or {})
    for task in run.get("tasks") or []:
        if is_settled(run, task):
            found[task["state"]] = max(0, found.get(task["state"], 0) - 1)
    return found


def _run_lines(run: Document, now: float, width: int, colour: bool, top: str) -> Iterator[str]:
    title, told = run_title(run), counts_text(run)
    bar = _bar(run, max(0, min(24, width - columns(title) - 4)))
    yield f"{title}  {bar}".rstrip()
    if told:
        yield f"  {told}"
    if not plan_waits(run):
        yield from staging_lines(run, top)
    if spent := spent_text(run.get("spent")):
        yield f"  spent {spent}"
    if isinstance(goal := run.get("goal"), dict):
        stage = "goal" if plan_waits(run) else printable(goal.get("stage", ""))
        yield cut(f"  {stage}: {goal_title(goal)}", width)
    if run.get("qa"):
        yield cut(f"  {qa_line(run)}", width)
    if isinstance(run.get("finishing"), dict):
        yield f"  {finishing_line(run, now)}"
    for problem in run.get("problems") or []:
        yield paint(f"  can't go on: {on_one_line(problem)}", "failed", colour)
    for state, line in row_lines(run, now, width):
        yield paint(line, state, colour)
    omitted = omitted_text(run)
    if omitted:
        yield f"  {omitted}"


def _bar(run: Document, length: int) -> str:
    found = counts(run)
    total = sum(found.values()) - found.get("answered", 0)
    if not total or length < 8:
        return ""
    full = int(found.get("landed", 0)) * (length - 2) // int(total)
    return "[" + "#" * full + "-" * (length - 2 - full) + "]"


def staging_lines(run: Document, top: str) -> Iterator[str]:
    """Yields where staging stands, where it can be looked at, and which of its suites is a flake."""
    staging = run.get("staging") or {}
    if not staging.get("branch"):
        return
    text = f"  staging {printable(staging['branch'])}"
    if staging.get("commit"):
        found = staging.get("found") or staging["commit"]
        text += f" at {printable(found)[:9]}"
        if found != staging["commit"]:
            text += f", moved there by hand; what landed ends at {printable(staging['commit'])[:9]}"
        else:
            text += ", verified" if staging.get("verified") else ", not verified"
    slowest = staging.get("bottleneck")
    if isinstance(slowest, dict):
        text += (
            f"; slowest suite {printable(slowest.get('suite', ''))}, {took(slowest.get('duration_s') or 0.0)}"
        )
    yield text
    if staging.get("worktree"):
        yield f"  look at it in {printable(short_path(staging['worktree'], top))}"
        if staging.get("worktree_reason"):
            yield f"  ! {printable(staging['worktree_reason'])}, and what has landed since is not there"
    for suite in run.get("suites") or []:
        if isinstance(suite, dict) and suite.get("flaked"):
            yield f"  {'! ' if suite.get('flaky') else ''}{flake_text(suite)}"


def flake_text(suite: Document) -> str:
    """Says how often a suite was red and then green on the same commit, and, where that is too often, what follows."""
    text = (
        f"suite {printable(suite.get('name') or suite.get('suite') or '')} is a flake: {suite.get('flaked', 0)} of "
        f"{suite.get('ran', 0)} times red, then green on the same commit"
    )
    return (
        f"{text}. Mend it: each time costs a verification"
        if suite.get("flaky") or suite.get("often")
        else text
    )


def goal_title(goal: Document) -> str:
    """Gives the first line of a goal."""
    return printable(next(iter(str(goal.get("text") or "").splitlines()), ""))


def qa_line(run: Document) -> str:
    """Says in one line how QA stands."""
    qa = run.get("qa") or {}
    commit = printable(qa.get("commit") or "")[:9]
    which = chosen(run)
    next_step = "" if run.get("state") == "finished" else f". Next: swarm finish{which}{into(run)}"
    return {
        "at_work": f"QA is at work: {printable(qa.get('task') or '')}",
        "approved": f"Approved: staging as it stands at {commit}{next_step}",
        "void": f"The approval of {commit} is void: staging has moved since. Next: swarm qa{which}",
        "rejected": f"Not approved: {printable(qa.get('reason') or '')}.",
    }.get(str(qa.get("state")), f"Not reviewed yet. Next: swarm qa{which}")


def finishing_line(run: Document, now: float | None = None) -> str:
    """Says in one line how a finish stands that was asked for and has not ended; with `now` for how long."""
    facts = run.get("finishing") or {}
    into, asked = printable(facts.get("into") or ""), epoch(facts.get("asked_at"))
    if facts.get("state") == "pending":
        return f"a finish into {into} was under way when the daemon ended: the next one goes on with it"
    since = "" if asked is None or now is None else f" for {duration(now - asked)}"
    return f"a finish into {into} is under way{since}: Ctrl-C where it was typed, or swarm stop, gives it up"


def task_rows(run: Document, now: float) -> Iterator[tuple[str, str, str]]:
    """Yields (state, task, detail) of the tasks worth a line: that move or wait, that did not make it, that landed last."""
    by_state: dict[str, list[Document]] = {}
    for task in run.get("tasks") or []:
        if not is_settled(run, task):
            by_state.setdefault(str(task.get("state")), []).append(task)
    landed = by_state.get("landed", [])
    landed.sort(key=lambda task: str(_last_attempt(task).get("ended_at") or ""))
    by_state["landed"] = landed[-SUMMARY_LANDED:]
    for state in _LISTED:
        for task in by_state.get(state, [])[:SUMMARY_LISTED]:
            yield state, printable(task.get("id", "?")), task_detail(task, now)


def row_lines(run: Document, now: float, width: int) -> Iterator[tuple[str, str]]:
    """Yields (state, line) of these tasks. States are never shortened, ids where they would take more than half of what is left."""
    rows = list(task_rows(run, now))
    most = min(_ID_WIDTH_MAX, max(_ID_WIDTH_MIN, (width - STATE_WIDTH) // 2))
    id_width = min(most, max((columns(name) for _, name, _ in rows), default=0))
    for state, name, detail in rows:
        line = f"{pad(f'  {state}', STATE_WIDTH)} {pad(name, id_width)}  {detail}".rstrip()
        yield state, cut(line, width)


def omitted_text(run: Document) -> str:
    """Says how many tasks of which state have no line of their own; empty where every one has."""
    known = [str(each.get("state")) for each in run.get("tasks") or [] if not is_settled(run, each)]
    found, left = counts(run), []
    for state in (*_LISTED, *sorted(found.keys() - set(_LISTED))):
        most = SUMMARY_LANDED if state == "landed" else SUMMARY_LISTED if state in _LISTED else 0
        hidden = found.get(state, 0) - min(known.count(state), most)
        left += [(hidden, state)] if hidden > 0 else []
    if len(left) == 1:
        return f"… and {left[0][0]} more {left[0][1]}"
    total = sum(hidden for hidden, _ in left)
    return f"… and {total} more: {', '.join(f'{hidden} {state}' for hidden, state in left)}" if left else ""


def task_detail(task: Document, now: float) -> str:
    """Says in one line what a task does, waits for, or ended with."""
    state = task.get("state")
    attempt = _last_attempt(task)
    title = printable(task.get("title") or "")
    if state == "running":
        return f"{_work_text(attempt, now)}  {doing_text(attempt) or title}".rstrip()
    if (
        state == "ready" or (task.get("reason") or {}).get("code") == "stopped"
    ):  # it is no failure: the text says it all
        return printable((task.get("reason") or {}).get("text") or "") or title
    if state in ("landing", "queued"):
        step = state_text(attempt.get("state") or state)
        return f"{step}  {reason_text(attempt.get('reason'), state) or title}".rstrip()
    if state == "landed":
        return f"{landed_as(task)}  {title}".strip()
    return reason_text(task.get("reason"), state) or title


def doing_text(attempt: Document) -> str:
    """Says what a worker does, or once it has ended what is being tried again of what it left; "" where nobody told."""
    reason = attempt.get("reason") or {}
    return reason_text(reason) if reason.get("code") == "retrying" else printable(attempt.get("doing") or "")


def landed_as(task: Document) -> str:
    """Gives the landing of a task for people, and that it changes nothing where that is so."""
    return f"{printable(task.get('landed_commit') or '')[:9]}{NO_CHANGE if task.get('unchanged') else ''}"


def _work_text(attempt: Document, now: float) -> str:
    step = str(attempt.get("state") or "")
    parts = [] if step == "running" else [printable(step)]
    started = epoch(attempt.get("started_at"))
    if started is not None:
        parts.append(duration(now - started))
    if attempt.get("cpu_percent") is not None:
        parts.append(f"{attempt['cpu_percent']:.0f} % cpu")
    if attempt.get("rss_bytes"):
        parts.append(size(attempt["rss_bytes"]))
    return ", ".join([*parts, *work_notes(attempt)])


def work_notes(attempt: Document) -> list[str]:
    """Says what is worth noticing of a worker: that it is silent or heads for a conflict, which attempt it is, what it has used."""
    parts = []
    if attempt.get("quiet"):
        parts.append(f"no output for {duration(attempt.get('silent_s') or 0.0)}")
    if attempt.get("state") == "running" and attempt.get("foreseen"):
        others = dict.fromkeys(printable(each["with"]) for each in attempt["foreseen"])
        parts.append(f"would conflict with {', '.join(others)}")
    if attempt.get("state") == "running" and attempt.get("strays"):
        parts.append(
            f"writes outside its claims: {', '.join(map(printable, attempt['strays'][:STRAYS_SHOWN]))}"
        )
    if (attempt.get("n") or 1) > 1:
        parts.append(f"attempt {attempt['n']}")
    return [*parts, *_spent(attempt)]


def _spent(attempt: Document) -> Iterator[str]:
    """Says how far an agent has come, and what it has used: `4 turns`, `12.3k tokens`, `0.05 USD`."""
    if attempt.get("turns"):
        yield f"{attempt['turns']} turn{'s' if attempt['turns'] != 1 else ''}"
    tokens = (attempt.get("tokens_in") or 0) + (attempt.get("tokens_out") or 0)
    if tokens:
        yield f"{tokens} tokens" if tokens < 1000 else f"{tokens / 1000:.1f}k tokens"
    if attempt.get("cost_usd"):
        yield f"{attempt['cost_usd']:.2f} USD"


def on_one_line(text: Any) -> str:
    """Gives the lines of a text one after the other, printable."""
    return printable(" ".join(filter(None, (line.strip() for line in str(text or "").splitlines()))))


def reason_text(reason: Any, state: Any = None) -> str:
    """Gives a reason as `code: text`; a code that only says the `state` again, or what the text begins with, is left out."""
    if not isinstance(reason, dict):
        return ""
    code, text = printable(reason.get("code") or ""), on_one_line(reason.get("text"))
    word = code.replace("_", " ")
    again = code == state or (text.startswith(word) and not text[len(word) : len(word) + 1].isalnum())
    return text or code if again or not code or not text else f"{code}: {text}"


def state_text(state: Any) -> str:
    """Gives a state as people read it: `handed back`."""
    return printable(state or "").replace("_", " ")


def _last_attempt(task: Document) -> Document:
    attempts = task.get("attempts") or [{}]
    last: Document = attempts[-1]
    return last


# --- figures and widths -----------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Shows a length of time in at most two units: `41s`, `3m07s`, `2h05m`, `4d03h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def took(seconds: float) -> str:
    """Shows how long something took, to the tenth of a second where that can be seen: `0.4 s`, `41.2 s`, `3m07s`."""
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def size(count: float) -> str:
    """Shows a number of bytes: `210 MB`; units of 1000, as disks have them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def epoch(moment: Any) -> float | None:
    """Reads an RFC 3339 time in UTC, or seconds since the epoch; None where it is neither."""
    if isinstance(moment, (int, float)):
        return float(moment)
    if not isinstance(moment, str) or len(moment) < 19:
        return None
    try:
        year, month, day = int(moment[:4]), int(moment[5:7]), int(moment[8:10])
        hour, minute = int(moment[11:13]), int(moment[14:16])
        second = float(moment[17:].rstrip("Z").partition("+")[0])
    except ValueError:
        return None
    # Days since 1970 of a Gregorian date, by Howard Hinnant's "chrono-compatible low-level date algorithms": datetime costs
    # start-up time.
    year -= month <= 2
    era, of_era = year // 400, year % 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    return days * 86400 + hour * 3600 + minute * 60 + second


def short_path(path: str, top: str) -> str:
    """Gives a path from `top` on where it lies below it."""
    path = str(path)
    return path[len(top) + 1 :] if top and path.startswith(f"{top}/") else path


def pad(text: str, width: int) -> str:
    """Fills text up to `width` columns, or cuts it to them."""
    missing = width - columns(text)
    return text + " " * missing if missing >= 0 else cut(text, width)


def cut(text: str, width: int) -> str:
    """Cuts text to `width` columns, with a sign that something is missing."""
    if columns(text) <= width:
        return text
    kept, used = [], 0
    for char in text:
        used += columns(char)
        if used > width - 1:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


def columns(text: str) -> int:
    """Counts the columns that text takes in a terminal."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def paint(line: str, state: str, colour: bool) -> str:
    """Gives a line the colour of a state, where colours are wanted and it has one."""
    return f"\x1b[{_COLOURS[state]}m{line}\x1b[0m" if colour and state in _COLOURS else line


def kept_text(work: Mapping[str, Any], *, laid_out: bool) -> Iterator[str]:
    """Tells what kept work has from a stash or from other branches, newest first: that it lies there now, or how to get it."""
    for each in work["elsewhere"]:
        what = "a stash" if each["kind"] == "stash" else "commits"
        named = f'{what}, {each["commit"][:12]} "{printable(each["title"])}"'
        here = laid_out and each["commit"] == work["shows"]
        yield f"  laid out here: {named}" if here else f"  {named}: {printable(each['next'])}"

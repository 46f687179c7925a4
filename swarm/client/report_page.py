"""Turns the report of a run into one page for a browser: no script, nothing loaded, so that it can be kept and sent.

Rules for editing: pure functions from a document to text. Every text goes through `_text`, which escapes; a policy in the head has
the browser load and run nothing, should that ever be missed. Widths are in percent, so that a narrow window is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from swarm.client.report_text import (
    COLUMN_NAMES,
    after_text,
    claim_text,
    divided,
    facts,
    kind_text,
    moment,
    span,
    times_text,
    title,
    worth_drawing,
)
from swarm.protocol import counted, printable

Document = Mapping[str, Any]

MARK = "<!doctype html><!-- swarm report -->"
DRAWN_MAX = 300  # tasks of the timeline
LISTED_MAX = 1_000  # rows of a table

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1d2430; --dim: #667085; --line: #e3e7ee; --track: #f3f5f9;
  --needs: #d5dae3; --stopped: #c3c9d4; --paused: #c3c9d4; --claim: #f2b24c; --turn: #f2b24c; --agent: #b6bfce; --slot: #b6bfce;
  --later: #b6bfce; --admission: #b6bfce;
  --preparing: #8fc7e8; --working: #2f81d8; --suspended: #d3553f; --collecting: #8fc7e8; --queue: #c9a4e4;
  --verifying: #7b5cd6; --landing: #35a368; --failed: #d3382c; }
@media (prefers-color-scheme: dark) { :root { --back: #14181f; --ink: #e3e8f0; --dim: #98a3b5; --line: #2a313d; --track: #1c222c;
  --needs: #39414f; --stopped: #465063; --paused: #465063; --claim: #c88a2b; --turn: #c88a2b; --agent: #566175; --slot: #566175;
  --later: #566175; --admission: #566175;
  --preparing: #3f7ea3; --working: #4a9bf0; --collecting: #3f7ea3; --queue: #83619d; --verifying: #977cf0; --landing: #43b978; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.45rem; line-height: 1.3; margin: 0 0 1rem; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .dim, th, dt { color: var(--dim); }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .15rem 1.2rem; margin: 0; } dd { margin: 0; }
.said { border-left: 4px solid var(--claim); padding: .3rem .9rem; margin: 1.1rem 0 0; background: var(--track); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: .22rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; font-weight: normal;
  white-space: nowrap; }
th.t, td.t { text-align: left; } td.t { white-space: normal; min-width: 7rem; }
.row { display: grid; grid-template-columns: minmax(6rem, 22%) 1fr 4.2rem; gap: .6rem; align-items: center; min-height: 1.35rem; }
.row > span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-size: .87rem; } .row > b { font-weight: normal;
  font-size: .8rem; text-align: right; color: var(--dim); } .critical > span { font-weight: 650; }
svg { display: block; width: 100%; background: var(--track); border-radius: 2px; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; margin: .6rem 0; }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .35rem; vertical-align: -1px; }
"""
_KEY = ("needs", "claim", "slot", "preparing", "working", "queue", "verifying", "landing")


def report_page(document: Document) -> str:
    """Gives the page."""
    parts = [
        f"{MARK}\n<html lang=en><meta charset=utf-8>",
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>{_text(title(document))}</title><style>{_STYLE}</style>",
        f"<h1>{_text(title(document))}</h1>",
        *_summary(document),
        *_velocity(document["velocity"]),
        *_timeline(document),
        *_critical_path(document),
        *_where(document),
        *_claims(document),
        *_not_landed(document),
        *_suites(document),
        *_spent(document),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _text(text: object) -> str:
    return escape(printable(text), quote=True)


def _summary(document: Document) -> Iterator[str]:
    yield "<dl>" + "".join(f"<dt>{_text(what)}<dd>{_text(said)}" for what, said in facts(document)) + "</dl>"
    yield f"<p class=said><b>Bottleneck.</b> {_text(document['bottleneck'])}</p>"


def _velocity(velocity: Document) -> Iterator[str]:
    landed: Sequence[int] = velocity["landed"]
    if len(landed) < 4:
        return
    most = max(landed) or 1
    yield f"<h2>Landings over time</h2><svg viewBox='0 0 {len(landed) * 10} 40' preserveAspectRatio=none height=56 role=img>"
    for place, number in enumerate(landed):
        height = 38 * number / most
        begin, end = span(place * velocity["part_s"]), span((place + 1) * velocity["part_s"])
        said = f"{begin} to {end}: {number} landed, {velocity['started'][place]} started, {velocity['in_vain'][place]} in vain"
        yield (
            f"<rect x={place * 10 + 1} y={40 - height:.1f} width=8 height={height:.1f} fill='var(--landing)'>"
            f"<title>{_text(said)}</title></rect>"
        )
    yield "</svg>"


# --- timeline ---------------------------------------------------------------------------------------------------------------


def _timeline(document: Document) -> Iterator[str]:
    wall, tasks = document["speed"]["wall_s"], worth_drawing(document, DRAWN_MAX)
    if not tasks or not wall:
        return
    path = document["critical_path"] or {"links": []}
    critical = {link["task"] for link in path["links"]}
    yield "<h2>Timeline</h2><div class=key>"
    yield "".join(
        f"<span><i style='background:var(--{kind})'></i>{_text(kind_text(kind))}</span>" for kind in _KEY
    )
    yield "<span><i style='background:var(--failed)'></i>ended without landing</span></div>"
    for task in tasks:
        name, said = _text(task["id"]), _text(f"{task['id']}: {task['title']}")
        mark = " critical" if task["id"] in critical else ""
        yield f"<div class='row{mark}'><span title=\"{said}\">{name}</span>{_bar(task, wall)}<b>{span(task['took_s'])}</b></div>"
    yield f"<div class=row><span class=dim></span><span class=dim>0 to {span(wall)}; bold: on the critical path</span></div>"
    if left := len(document["tasks"]) - len(tasks):
        yield f"<p class=dim>… and {counted(left, 'task')} more, which took less time.</p>"


def _bar(task: Document, wall: float) -> str:
    drawn = []
    for each in task["stood"]:
        begin, long = 1000 * each["from_s"] / wall, 1000 * (each["to_s"] - each["from_s"]) / wall
        said = (
            f"{kind_text(each['kind'])}: {span(each['to_s'] - each['from_s'])}, from {span(each['from_s'])}"
        )
        if each.get("held_by"):
            said += f"; {claim_text(each)} was held by {each['held_by']}"
        drawn.append(
            f"<rect x={begin:.2f} y=2 width={max(long, 0.6):.2f} height=12 fill='var(--{_text(each['kind'])})'>"
            f"<title>{_text(said)}</title></rect>"
        )
    if task["state"] in ("failed", "cancelled", "blocked") and task["to_s"] is not None:
        at = min(994.0, 1000 * task["to_s"] / wall)
        drawn.append(
            f"<rect x={at:.2f} y=0 width=6 height=16 fill='var(--failed)'><title>{_text(task['state'])}</title></rect>"
        )
    return f"<svg viewBox='0 0 1000 16' preserveAspectRatio=none height=16>{''.join(drawn)}</svg>"


# --- tables -----------------------------------------------------------------------------------------------------------------


def _table(
    head: str, names: Sequence[str], rows: Iterable[Sequence[object]], *, texts: Sequence[int] = (0,)
) -> Iterator[str]:
    """Lays out a table; the columns of `texts` are text, the others figures. What is left out is counted."""
    listed = list(rows)
    if not listed:
        return

    def cells(row: Sequence[object], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=t' if place in texts else ''}>{_text(cell)}" for place, cell in enumerate(row)
        )

    yield f"<h2>{_text(head)}</h2><div class=wide><table><tr>{cells(names, 'th')}"
    for row in listed[:LISTED_MAX]:
        yield f"<tr>{cells(row, 'td')}"
    yield "</table></div>"
    if (left := len(listed) - LISTED_MAX) > 0:
        yield f"<p class=dim>… and {left} more.</p>"


def _critical_path(document: Document) -> Iterator[str]:
    path = document["critical_path"]
    if path is not None:
        rows = (
            (
                moment(link["from_s"]),
                link["task"],
                span(link["to_s"] - link["from_s"]),
                after_text(link),
                times_text(link["time"]),
            )
            for link in path["links"]
        )
        yield from _table(
            f"Critical path, {span(path['took_s'])}",
            ("at", "task", "took", "began as it", "of that"),
            rows,
            texts=(1, 3, 4),
        )


def _where(document: Document) -> Iterator[str]:
    tasks = sorted(document["tasks"], key=lambda task: -task["took_s"])
    rows = [
        (
            "all tasks",
            "",
            "",
            span(sum(document["time"].values())),
            *map(span, divided(document["time"])),
            "",
            "",
        )
    ]
    rows += [
        (
            task["id"],
            task["title"],
            task["state"],
            span(task["took_s"]),
            *map(span, divided(task["time"])),
            task["attempts"],
            task["verified"],
        )
        for task in tasks
    ]
    names = ("task", "title", "state", "took", *COLUMN_NAMES, "attempts", "verified")
    yield from _table("Where the time went", names, rows if tasks else (), texts=(0, 1, 2))


def _claims(document: Document) -> Iterator[str]:
    rows = (
        (
            claim_text(row),
            span(row["waited_s"]),
            row["tasks"],
            span(row["longest_s"]),
            row["longest_task"],
            row["held_by"],
        )
        for row in document["claims"]
    )
    names = ("path", "waited", "tasks", "longest", "by", "while held by")
    yield from _table("Claims that were waited for", names, rows, texts=(0, 4, 5))


def _not_landed(document: Document) -> Iterator[str]:
    rows = (
        (
            row["task"],
            row["attempt"],
            row["agent"],
            span(row["took_s"]),
            (row["code"] or row["outcome"]).replace("_", " "),
            row["text"],
        )
        for row in document["not_landed"]
    )
    names = ("task", "attempt", "agent", "took", "why", "")
    yield from _table("Attempts in vain", names, rows, texts=(0, 2, 4, 5))


def _suites(document: Document) -> Iterator[str]:
    keys = ("ran", "red", "flaked", "remembered")
    rows = (
        (
            row["name"],
            *(row[key] for key in keys),
            *(span(row[key]) for key in ("median_s", "longest_s", "total_s")),
        )
        for row in document["suites"]
    )
    names = ("suite", "ran", "red", "flaky", "spared", "median", "longest", "in all")
    yield from _table("Verification", names, rows)


def _spent(document: Document) -> Iterator[str]:
    spent = document["spent"]
    if not (spent["cost_usd"] or spent["tokens_in"] or spent["tokens_out"]):
        return
    tasks = sorted(document["tasks"], key=lambda task: -task["cost_usd"])
    for what, key, rows in (
        ("phase", "phase", spent["by_phase"]),
        ("agent", "agent", spent["by_agent"]),
        ("task", "id", tasks),
    ):
        cells = (
            (
                row[key] or "(none)",
                f"${row['cost_usd']:,.4f}",
                f"{row['tokens_in']:,}",
                f"{row['tokens_out']:,}",
            )
            for row in rows
            if row["cost_usd"] or row["tokens_in"] or row["tokens_out"]
        )
        yield from _table(f"Spent by {what}", (what, "cost", "tokens in", "out"), cells)

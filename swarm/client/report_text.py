"""Turns the report of a run into plain text: a summary, a timeline, the critical path, and tables of where the time and money went.

Rules for editing: as in `render`: pure functions from a document to text, and all text of others goes through `printable`. Whatever
is left out is counted in a line of its own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from swarm.client.render import columns, cut, duration, on_one_line, pad, spent_text, state_text
from swarm.protocol import counted, printable

Document = Mapping[str, Any]

ROWS_MAX = 30  # of the timeline
LISTED_MAX = 15  # of a table
LINKS_MAX = 15  # of the critical path
LINK_MAX = 16  # columns of a name there, and where the time went
NAME_MAX, NAME_MIN = 22, 8  # columns of a name, in a wide terminal and a narrow one
TEXT_MIN = 16  # columns for which the text at a row's end is worth to begin in that row
SEEN_S = 0.05  # what took less is told as nothing
BLOCKS = "▁▂▃▄▅▆▇█"

# kind -> what it is called, and its sign in the timeline
KINDS: dict[str, tuple[str, str]] = {
    "needs": ("needs", "."),
    "paused": ("a pause", "."),
    "stopped": ("no daemon", "."),
    "later": ("asked for later", ":"),
    "agent": ("its agent", ":"),
    "claim": ("claims", "c"),
    "turn": ("its turn", "c"),
    "slot": ("a slot", ":"),
    "admission": ("admission", ":"),
    "preparing": ("start", "-"),
    "working": ("work", "#"),
    "suspended": ("suspended", "z"),
    "collecting": ("collecting", "-"),
    "queue": ("queue", "q"),
    "verifying": ("verification", "v"),
    "landing": ("landing", "+"),
}
_COLOURS = {
    ".": "2",
    ":": "2",
    "c": "33",
    "-": "36",
    "#": "36",
    "z": "31",
    "q": "35",
    "v": "34",
    "+": "32",
    "!": "31",
}
_LEGEND = (
    ". waits for needs, or paused",
    ": for all else before a start",
    "c for a claim or its turn",
    "- starts or ends",
    "# works",
    "z suspended",
    "q waits to land",
    "v is verified",
    "+ lands",
    "! ended without landing",
)


class Room(NamedTuple):
    """How wide it may get: `width` columns; with `whole` text is wrapped to that, and no name, row or reason is cut."""

    width: int
    whole: bool = False

    @property
    def name_max(self) -> int:
        """How many columns a name gets that begins a row."""
        return max(NAME_MIN, min(NAME_MAX, self.width // 3))

    def name(self, text: str, columns_max: int = NAME_MAX) -> str:
        """Gives a name, cut where that is asked for."""
        return text if self.whole else cut(text, min(columns_max, self.name_max))

    def wrap(self, text: str, indent: int = 0) -> list[str]:
        """Breaks a text into lines, all but the first indented."""
        return textwrap.wrap(
            text,
            self.width,
            subsequent_indent=" " * indent,
            break_long_words=not self.whole,
            break_on_hyphens=False,
        )


def report_text(document: Document, *, width: int = 80, colour: bool = False, whole: bool = False) -> str:
    """Shows a report, in `width` columns; `whole` is for a program, which is to find every name as it is."""
    room = Room(width, whole)
    parts = [
        _summary(document, room),
        _timeline(document, room, colour),
        _critical_path(document, room),
        _where(document, room),
        _claims(document, room),
        _not_landed(document, room),
        _suites(document, room),
        _spent(document, room),
    ]
    told = ([line if whole or "\x1b" in line else cut(line, width) for line in part] for part in parts)
    return "\n\n".join("\n".join(part) for part in told if part) + "\n"


def span(seconds: float | None) -> str:
    """Shows a length of time in few columns: `0.4s`, `41s`, `3m07s`; `-` for none at all."""
    if not seconds or seconds < SEEN_S:
        return "-"
    return f"{seconds:.1f}s" if seconds < 10 else duration(seconds)


def moment(seconds: float) -> str:
    """Shows a time of the run, as `span` does; `0s` is when it began."""
    return span(seconds) if seconds >= SEEN_S else "0s"


def kind_text(kind: str) -> str:
    """Gives what a kind of time is called."""
    return KINDS[kind][0] if kind in KINDS else printable(kind)


def times_text(times: Mapping[str, float], most: int = 4) -> str:
    """Lists what took longest: `work 3m05s, verification 12s`."""
    longest = sorted(times.items(), key=lambda each: -each[1])
    return ", ".join(f"{kind_text(kind)} {span(took)}" for kind, took in longest[:most] if took >= SEEN_S)


def claim_text(row: Document) -> str:
    """Names what was waited for: a path, or a turn."""
    return (
        printable(row["path"])
        if row.get("path")
        else f"(one at a time: {printable(row.get('turn') or 'turn')})"
    )


# --- summary ----------------------------------------------------------------------------------------------------------------


def title(document: Document) -> str:
    """Sums the run up in one line."""
    counts: Mapping[str, int] = document["counts"]
    order = ("landed", "answered", "failed", "blocked", "cancelled", "open")
    ended = ", ".join(f"{counts[state]} {state}" for state in order if counts.get(state))
    told = f"Run {printable(document['run'])}: {ended or 'nothing to do'}"
    if not ended:
        return told
    took = moment(document["speed"]["wall_s"])
    if document["over"]:
        return f"{told} in {took}"
    if not (document.get("daemon") or {"running": True})["running"]:
        return f"{told} after {took}, as far as the journal tells: no daemon runs"
    return f"{told} after {took}, and it goes on"


def facts(document: Document) -> list[tuple[str, str]]:
    """Gives the summary of a run as pairs of what it is about and what is said."""
    speed, staging, totals = document["speed"], document["staging"], document["totals"]
    began = printable(document["began_at"] or "")[:16].replace("T", " ")
    said = [("began", f"{began} UTC")]
    if speed["workers_s"] and speed["speed_up"] is not None:
        at_once = f"{speed['speed_up']:.1f} at once on average, {speed['at_once_max']} at most"
        said += [
            ("workers were at work", f"{span(speed['workers_s'])} in all: {at_once}"),
            ("one after the other", f"about {span(speed['one_by_one_s'])}, an estimate: waiting left out"),
        ]
    if staging["first_landing_s"] is not None:
        said.append(("staging", f"{_first(staging)}, last after {span(staging['last_landing_s'])}"))
        of_them = {"without a change": totals["unchanged"], "undone since": totals["undone"]}
        told = "".join(f"; {what}: {number}" for what, number in of_them.items() if number)
        rate = document["velocity"]["landed_per_hour"]
        hourly = "not known, the clock was set back meanwhile" if rate is None else f"{rate:,.0f}"
        said.append(("landings an hour", f"{hourly}{told}"))
    return [*said, *_tried(totals), *_costs(document["spent"])]


def _first(staging: Document) -> str:
    first, green = staging["first_landing_s"], staging["first_green_s"]
    if green is None:
        return f"first landing after {span(first)}, with no suite to pass"
    return f"first {'' if first == green else f'landing after {span(first)}, '}verified landing after {span(green)}"


def _tried(totals: Document) -> Iterator[tuple[str, str]]:
    vain = ", ".join(f"{number} {printable(code)}" for code, number in totals["in_vain"].items())
    yield "attempts", f"{totals['attempts']}" + (f"; in vain: {vain}" if vain else "; none in vain")
    if totals["candidates_verified"]:
        flakes = f", {totals['flakes']} flaky" if totals["flakes"] else ""
        failed = totals["integration_failures"]
        yield (
            "verification",
            f"{totals['candidates_verified']} candidates, {totals['candidates_red']} red{flakes}; "
            f"{failed} integration failure{'' if failed == 1 else 's'}",
        )


def _costs(spent: Document) -> Iterator[tuple[str, str]]:
    if text := cost_text(spent):
        yield "spent", text


def cost_text(row: Document) -> str:
    """Says what something cost: `$1.25, 120,000 tokens`."""
    return spent_text({"cost_usd": row["cost_usd"], "tokens": row["tokens_in"] + row["tokens_out"]})


def blocks(numbers: Sequence[int]) -> str:
    """Draws numbers as a line of blocks; none where there are too few to see a course."""
    most = max(numbers, default=0)
    if len(numbers) < 4 or not most:
        return ""
    return "".join(BLOCKS[round(number / most * (len(BLOCKS) - 1))] for number in numbers)


def _summary(document: Document, room: Room) -> Iterator[str]:
    yield from room.wrap(title(document))
    course = blocks(document["velocity"]["landed"])
    for what, said in [*facts(document), *([("landings over time", course)] if course else [])]:
        yield from room.wrap(f"  {what:<20}  {said}", 24 if room.width >= 60 else 4)
    yield ""
    yield from room.wrap(f"Bottleneck: {printable(document['bottleneck'])}")


# --- timeline ---------------------------------------------------------------------------------------------------------------


def worth_drawing(document: Document, most: int) -> list[Document]:
    """Picks the tasks of the timeline: those of the critical path, then the longest; in the order in which they began to move."""
    path = document["critical_path"] or {"links": []}
    critical = {link["task"] for link in path["links"]}
    tasks = sorted(document["tasks"], key=lambda task: (task["id"] not in critical, -task["took_s"]))
    return sorted(tasks[:most], key=lambda task: (_moved(task), task["from_s"] or 0.0))


def _moved(task: Document) -> float:
    waits = ("needs", "paused", "stopped", "later", "agent", "claim", "turn", "slot", "admission")
    moved = (each["from_s"] for each in task["stood"] if each["kind"] not in waits)
    return float(next(moved, task["to_s"] or 0.0))


def _timeline(document: Document, room: Room, colour: bool) -> Iterator[str]:
    wall, tasks = document["speed"]["wall_s"], worth_drawing(document, ROWS_MAX)
    if not tasks or not wall:
        return
    ids = {task["id"]: room.name(printable(task["id"])) for task in tasks}
    names = max(map(columns, ids.values()))
    length = max(10, room.width - min(names, NAME_MAX) - 11)
    yield f"Timeline, {span(wall / length) if wall >= length else f'{wall / length:.2g}s'} a column"
    bars = {task["id"]: _bar(task, wall, length) for task in tasks}
    for task in tasks:
        bar = "".join(_paint(sign, colour) for sign in bars[task["id"]])
        yield f"  {pad(ids[task['id']], names)} {bar} {span(task['took_s']):>7}"
    if left := len(document["tasks"]) - len(tasks):
        yield f"  … and {counted(left, 'task')} more, which took less time"
    drawn = [each for each in _LEGEND if any(each[0] in bar for bar in bars.values())]
    yield from room.wrap("  " + "   ".join(drawn), 2)


def _bar(task: Document, wall: float, length: int) -> list[str]:
    """Draws where a task stood: in each column the sign of what took most of it."""
    shares: list[dict[str, float]] = [{} for _ in range(length)]
    each_s = wall / length
    for stretch in task["stood"]:
        begin, end, sign = stretch["from_s"], stretch["to_s"], KINDS.get(stretch["kind"], ("", "?"))[1]
        for column in range(int(begin / each_s), min(length, int(end / each_s) + 1)):
            here = min(end, (column + 1) * each_s) - max(begin, column * each_s)
            shares[column][sign] = shares[column].get(sign, 0.0) + here
    drawn = [max(each, key=lambda sign: each[sign]) if each else " " for each in shares]
    if task["state"] in ("failed", "cancelled", "blocked") and task["to_s"] is not None:
        drawn[min(length - 1, int(task["to_s"] / each_s))] = "!"
    return drawn


def _paint(sign: str, colour: bool) -> str:
    return f"\x1b[{_COLOURS[sign]}m{sign}\x1b[0m" if colour and sign in _COLOURS else sign


def after_text(link: Document) -> str:
    """Says what let a task of the critical path go on; "" for the first."""
    after = link["after"]
    if after is None:
        return ""
    task = printable(after["task"])
    return {
        "needs": f"needed {task}",
        "claim": f"waited for {claim_text(after)}, held by {task}",
        "turn": f"had its turn after {task}",
        "slot": f"got the slot of {task}",
        "queue": f"stood behind {task} in the merge queue",
    }.get(after["why"], f"after {task}")


def _critical_path(document: Document, room: Room) -> Iterator[str]:
    path = document["critical_path"]
    if path is None:
        return
    yield from room.wrap(f"Critical path, {span(path['took_s'])}: each went on when the one before it let it")
    links = path["links"]
    if len(links) > LINKS_MAX:
        yield f"  … {len(links) - LINKS_MAX} before these"
    for link in links[-LINKS_MAX:]:
        said = "; ".join(filter(None, (after_text(link), times_text(link["time"], 3))))
        at, took = moment(link["from_s"]), span(link["to_s"] - link["from_s"])
        name = room.name(printable(link["task"]), LINK_MAX)
        head = f"  {at:>6}  {pad(name, max(columns(name), min(LINK_MAX, room.name_max)))}  {took:>6}  "
        if room.width - columns(head) < 2 * TEXT_MIN and not room.whole:
            yield head.rstrip()
            yield from room.wrap(f"          {said}", 10)
        else:
            yield from room.wrap(f"{head}{said}", columns(head))


# --- tables -----------------------------------------------------------------------------------------------------------------


def _table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    room: Room,
    *,
    texts: Sequence[int] = (0,),
    gap: int = 2,
) -> Iterator[str]:
    """Lays cells out: the columns of `texts` to the left, the others, which are figures, to the right. Columns for which there is
    no room follow below, with the first one again."""
    listed = [(room.name(row[0]), *row[1:]) for row in (head, *rows)]
    sizes = [max(columns(row[place]) for row in listed) for place in range(len(head))]
    for places in _side_by_side(sizes, room, texts, gap):
        for row in listed:
            cells = [
                pad(row[place], sizes[place]) if place in texts else row[place].rjust(sizes[place])
                for place in places
            ]
            yield "  " + (" " * gap).join(cells).rstrip()


def _side_by_side(sizes: Sequence[int], room: Room, texts: Sequence[int], gap: int) -> list[list[int]]:
    """Divides the columns of a table, by their sizes, into what fits into one row; text in the last may be cut."""
    found, used = [[0]], 2 + sizes[0]
    for place, size in enumerate(sizes[1:], 1):
        least = min(size, TEXT_MIN) if place in texts and place == len(sizes) - 1 else size
        if used + gap + least > room.width and len(found[-1]) > 1 and not room.whole:
            found.append([0])
            used = 2 + sizes[0]
        found[-1].append(place)
        used += gap + size
    return found


def _more(number: int, what: str) -> list[str]:
    return [f"  … and {number} more {what}"] if number > 0 else []


_COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("needs", ("needs",)),
    ("claims", ("claim", "turn")),
    ("slot", ("slot", "admission", "later", "agent", "paused", "stopped")),
    ("start", ("preparing", "collecting", "suspended")),
    ("work", ("working",)),
    ("queue", ("queue",)),
    ("verify", ("verifying", "landing")),
)


def divided(times: Mapping[str, float]) -> list[float]:
    """Gives how long each group of `COLUMN_NAMES` took."""
    return [sum(times.get(kind, 0.0) for kind in kinds) for _, kinds in _COLUMNS]


COLUMN_NAMES = tuple(name for name, _ in _COLUMNS)


def _where(document: Document, room: Room) -> Iterator[str]:
    tasks = sorted(document["tasks"], key=lambda task: -task["took_s"])
    if not tasks:
        return
    rows = [("all tasks", document["time"], "")]
    rows += [(printable(task["id"]), task["time"], str(task["attempts"])) for task in tasks[:LISTED_MAX]]
    yield from room.wrap("Where the time went (slot: all else before a start; verify: landing too)")
    yield from _table(
        ("task", "took", *COLUMN_NAMES, "tries"),
        [
            (room.name(name, LINK_MAX), span(sum(times.values())), *map(span, divided(times)), tries)
            for name, times, tries in rows
        ],
        room,
        gap=1,
    )
    yield from _more(len(tasks) - LISTED_MAX, "tasks")


def _claims(document: Document, room: Room) -> Iterator[str]:
    rows = document["claims"]
    if not rows:
        return
    yield "Claims that were waited for"
    yield from _table(
        ("path", "waited", "tasks", "longest", "by whom"),
        [
            (
                claim_text(row),
                span(row["waited_s"]),
                str(row["tasks"]),
                span(row["longest_s"]),
                f"{printable(row['longest_task'])}, while {printable(row['held_by'])} held it",
            )
            for row in rows[:LISTED_MAX]
        ],
        room,
        texts=(0, 4),
    )
    yield from _more(len(rows) - LISTED_MAX, "claims")


def _not_landed(document: Document, room: Room) -> Iterator[str]:
    rows = document["not_landed"]
    if not rows:
        return
    yield "Attempts in vain"
    for row in rows[:LISTED_MAX]:
        name = f"{printable(row['task'])} #{row['attempt']}"
        why = f"{state_text(row['code'] or row['outcome'])}: {on_one_line(row['text'])}"
        head = f"  {pad(name, max(NAME_MAX, columns(name)) if room.whole else NAME_MAX)}  {span(row['took_s']):>6}"
        if room.width - columns(head) < 2 * TEXT_MIN and not room.whole:
            yield head.rstrip()
            yield f"    {why}"
        else:
            yield f"{head}  {why}"
    yield from _more(len(rows) - LISTED_MAX, "attempts")


def _suites(document: Document, room: Room) -> Iterator[str]:
    rows = document["suites"]
    if not rows:
        return
    yield "Verification"
    yield from _table(
        ("suite", "ran", "red", "flaky", "spared", "median", "longest", "in all"),
        [
            (
                printable(row["name"]),
                *(str(row[key]) for key in ("ran", "red", "flaked", "remembered")),
                *(span(row[key]) for key in ("median_s", "longest_s", "total_s")),
            )
            for row in rows[:LISTED_MAX]
        ],
        room,
    )
    yield from _more(len(rows) - LISTED_MAX, "suites")


def _spent(document: Document, room: Room) -> Iterator[str]:
    spent = document["spent"]
    tasks = sorted(
        document["tasks"], key=lambda task: (-task["cost_usd"], -task["tokens_in"] - task["tokens_out"])
    )
    groups: list[tuple[str, Sequence[Document], Callable[[Document], str]]] = [
        ("phase", spent["by_phase"], lambda row: row["phase"] or "(none)"),
        ("agent", spent["by_agent"], lambda row: row["agent"]),
        ("task", tasks, lambda row: row["id"]),
    ]
    if not cost_text(spent):
        return
    yield "Spent"
    for what, rows, name in groups:
        paid = [row for row in rows if cost_text(row)]
        yield from _table(
            (what, "cost", "tokens in", "out"),
            [
                (
                    printable(name(row)),
                    f"${row['cost_usd']:,.4f}",
                    f"{row['tokens_in']:,}",
                    f"{row['tokens_out']:,}",
                )
                for row in paid[:LISTED_MAX]
            ],
            room,
        )
        yield from _more(len(paid) - LISTED_MAX, f"{what}s")

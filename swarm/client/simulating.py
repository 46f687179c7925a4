"""The command that shows which schedule a plan would get: simulate.

Rules for editing: the text says nothing that is not in the document, and says once what is not modelled.
"""

from __future__ import annotations

import json
import math
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from swarm.client import telling
from swarm.client.options import command, files, split
from swarm.client.render import columns, cut, took
from swarm.client.session import Session
from swarm.errors import EXIT_NOT_LANDED, EXIT_OK, UsageError
from swarm.protocol import printable

FIRST = 12  # tasks whose times are shown
BARS = 12  # parts of the time for which it is shown how many workers are at work
_BAR_MAX = 40
_ID_MAX = 40
_LIMITS = {
    "slots": "the number of workers",
    "claims": "claims and turns",
    "needs": "needs between tasks",
    "verification": "verification",
    "tail": "the last tasks",
}
_WAITED = {"needs": "needs", "claims": "claims", "slots": "a slot", "queue": "the merge queue"}


@command("simulate", shows=True)
@click.argument("plan", shell_complete=files)
@click.option("--workers", multiple=True, metavar="N,...", help="With so many workers; several are compared.")
@click.option(
    "--duration",
    "durations",
    multiple=True,
    metavar="[TASK=]SECONDS",
    help="How long a worker takes for a task, or for every other one (60).",
)
@click.option(
    "--durations",
    "file",
    metavar="FILE",
    shell_complete=files,
    help="The same from a TOML or JSON file: task = seconds.",
)
@click.option("--learn", is_flag=True, help="Take durations from what earlier runs of this repository took.")
@click.option("--verify-s", type=float, metavar="SECONDS", help="How long a verification suite takes (10).")
@click.option(
    "--fail", "fails", multiple=True, metavar="TASK[=N]", help="Its workers fail, or the first N of them."
)
@click.option(
    "--fail-verify",
    "reds",
    multiple=True,
    metavar="TASK[=N]",
    help="What its workers do passes no suite, or that of the first N.",
)
@click.option(
    "--fail-rate", type=click.FloatRange(0, 1), metavar="P", help="Any worker fails with this chance."
)
@click.option("--seed", type=int, metavar="N", help="Which of them that are (0).")
@click.option(
    "--first", type=click.IntRange(0), default=FIRST, metavar="N", help="Show the times of N tasks (12)."
)
def simulate(
    session: Session, plan: str, workers: tuple[str, ...], learn: bool, first: int, **asked: Any
) -> int:
    """Show the schedule that a plan would get, without running anything.

    The same decisions are taken as by the service, with the settings of this repository where there is one, for made-up work that
    takes the time given here. Ends with 1 where not every task would land.
    """
    from swarm.client import schedules

    try:
        document = document_for(session, plan, _widths(workers), _assumed(**asked), learn=learn)
    except schedules.NotValid as error:
        if session.as_json:
            session.json(error.document)
        else:
            session.out(printable(error.text, keep_newlines=True))
        return error.exit_code
    if session.as_json:
        session.json(document)
    else:
        session.out(text(document, first=first, width=session.width))
    ended = all(each["ended"] and set(each["counts"]) <= {"landed"} for each in document["widths"])
    return EXIT_OK if ended else EXIT_NOT_LANDED


def document_for(
    session: Session,
    plan: str | Mapping[str, Any],
    workers: Iterable[int],
    assumed: Mapping[str, Any],
    *,
    learn: bool,
) -> dict[str, Any]:
    """Works out the document of `swarm simulate --json`; `assumed` is as for `schedules.simulate`, None in it means not given."""
    from swarm import config
    from swarm.client import schedules

    top, state = _place(session, learn=learn)
    wanted = {key: value for key, value in assumed.items() if value is not None}
    return schedules.simulate(plan, top, config.load(top, session.environ), state, tuple(workers), wanted)


def _place(session: Session, *, learn: bool) -> tuple[Path, Path | None]:
    """Gives the top of the repository, or the folder that one is in where there is none, and its state where that is asked for."""
    try:
        top = session.top
    except UsageError:
        if learn:
            raise
        return Path(session.directory), None
    if learn:
        session.need_files()
    return top, session.state if learn else None


# --- what is given ---


def _widths(given: tuple[str, ...]) -> list[int]:
    try:
        return [int(each) for each in split(given)]
    except ValueError:
        raise _wrong("--workers", ",".join(given), "a number, or several: 1,2,4") from None


def _assumed(
    durations: tuple[str, ...],
    file: str | None,
    verify_s: float | None,
    fails: tuple[str, ...],
    reds: tuple[str, ...],
    fail_rate: float | None,
    seed: int | None,
) -> dict[str, Any]:
    """Reads the options into what is assumed."""
    every, tasks_s = None, _from_file(file) if file is not None else {}
    for each in durations:
        name, named, written = each.rpartition("=")
        try:
            seconds = float(written)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise _wrong("--duration", each, "a number of seconds, or TASK=SECONDS")
        if named:
            tasks_s[name] = seconds
        else:
            every = seconds
    if verify_s is not None and not 0 <= verify_s < math.inf:
        raise _wrong("--verify-s", f"{verify_s:g}", "a number of seconds")
    if fail_rate is not None and math.isnan(fail_rate):  # which is within any range
        raise _wrong("--fail-rate", "nan", "a chance from 0 to 1")
    return {
        "task_s": every,
        "tasks_s": tasks_s,
        "suite_s": verify_s,
        "fails": _attempts("--fail", fails),
        "reds": _attempts("--fail-verify", reds),
        "fail_rate": fail_rate,
        "seed": seed,
    }


def _from_file(path: str) -> dict[str, Any]:
    try:
        data = Path(path).read_bytes()
        found = json.loads(data) if path.endswith(".json") else tomllib.loads(data.decode())
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.", "Nothing was simulated.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be read: {error}.", "Nothing was simulated.") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no durations.", "Nothing was simulated.", "write lines: task = 60")
    return found


def _attempts(option: str, given: Sequence[str]) -> dict[str, float]:
    """Reads TASK (every attempt) and TASK=N (the first N)."""
    found: dict[str, float] = {}
    for each in given:
        name, named, number = each.rpartition("=")
        if not named:
            found[number] = math.inf
        elif number.isascii() and number.isdigit() and len(number) < 6:
            found[name] = int(number)
        else:
            raise _wrong(option, each, "a task, or TASK=N for its first N attempts")
    return found


def _wrong(option: str, given: object, wanted: str) -> UsageError:
    return UsageError(f"{option} {given} is not {wanted}.", "Nothing was simulated.")


# --- what is shown ---


def text(document: Mapping[str, Any], *, first: int, width: int) -> str:
    """Shows a simulation to people."""
    schedule, widths = document["schedule"], document["widths"]
    shown = next(each for each in widths if each["workers"] == schedule["workers"])
    name, tasks = printable(document["run"]), _count(document["tasks"], "task")
    title = f"{name}: {tasks} with {_count(shown['workers'], 'worker')}, simulated; nothing was run"
    lines = _wrapped(title, width, indent=2)
    lines += _summary(document, shown, width)
    lines += ["", *_compared(document)] if len(widths) > 1 else []
    lines += ["", *_bars(schedule["width"], shown["makespan_s"], width)]
    lines += ["", *_tasks(schedule["tasks"], first)] if first else []
    lines += ["", *(line for said in _small_print(document) for line in _wrapped(said, width, indent=4))]
    return "\n".join(lines) + "\n"


def _summary(document: Mapping[str, Any], shown: Mapping[str, Any], width: int) -> Iterator[str]:
    counts = ", ".join(f"{number} {state}" for state, number in shown["counts"].items())
    takes = took(shown["makespan_s"])
    if not shown["ended"]:
        takes = f"comes to a stand after {takes}"
    waited = [f"{_WAITED[key]} {took(seconds)}" for key, seconds in shown["waited_s"].items() if seconds]
    path = [cut(printable(name), _ID_MAX) for name in document["critical_path"]]
    few = " -> ".join(path[:12]) + (f" and {len(path) - 12} more" if len(path) > 12 else "")
    said = {
        "takes": f"{takes}: {counts or 'nothing to do'}; {shown['mean_width']:.1f} at work on average",
        "limits": ", ".join(_limits(shown)) or "nothing",
        "longest": f"{few or 'nothing'}: {took(document['critical_path_s'])} with any number of workers",
        "waiting": f"for {', '.join(waited)}, all tasks together" if waited else "nobody",
    }
    for label, line in said.items():
        yield from _wrapped(f"  {label:<8} {line}", width, indent=11)


def _wrapped(line: str, width: int, *, indent: int) -> list[str]:
    """Breaks a line between words, so that none is longer than a narrow terminal."""
    return textwrap.wrap(
        line,
        max(width, 40),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def _limits(each: Mapping[str, Any]) -> list[str]:
    """Says what kept the run from going faster, and for which share of the time; what did most of all comes first."""
    total = sum(each["limited_by_s"].values())
    shares = [(_LIMITS[key], seconds / total) for key, seconds in each["limited_by_s"].items()]
    return [f"{what} {100 * share:.0f} %" for what, share in shares if share >= 0.05]


def _compared(document: Mapping[str, Any]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("workers", "takes", "speed-up", "at work", "what limits")]
    for each in document["widths"]:
        speed_up = f"{each['speed_up']:.1f} x" if each["speed_up"] else "-"
        takes = took(each["makespan_s"]) + ("" if each["ended"] else " (stands still)")
        rows.append(
            (
                str(each["workers"]),
                takes,
                speed_up,
                f"{each['mean_width']:.1f}",
                next(iter(_limits(each)), "-"),
            )
        )
    yield from (f"  {line}" for line in telling.table(rows).splitlines())
    last, useful = document["widths"][-1], document["useful"]
    if useful < last["workers"]:
        said = "more save less than 5 % of the time"
    elif last["limited_by"] == "slots":
        said = "none are better of those compared, and more may be of use still"
    else:
        said = "none are better of those compared"
    yield f"  Useful: {_count(useful, 'worker')}; {said}."


def _bars(changes: Sequence[Sequence[float]], makespan_s: float, width: int) -> Iterator[str]:
    """Draws how many workers are at work, on average of each part of the time."""
    if not changes or not makespan_s:
        return
    means = mean_widths(changes, makespan_s, BARS)
    scale = min(_BAR_MAX, max(width, 40) - 24) / max(*means, _BAR_MAX / 8)
    times = [took(part * makespan_s / BARS) for part in range(BARS)]
    most = max(map(columns, times))
    yield f"  {'from':<{most}}  at work"
    for time, mean in zip(times, means, strict=True):
        yield f"  {time:<{most}}  {mean:<7.1f}  {'#' * round(mean * scale)}".rstrip()


def mean_widths(changes: Sequence[Sequence[float]], makespan_s: float, parts: int) -> list[float]:
    """Gives the mean of a width over equal parts of the time; `changes` are (time, width from then on)."""
    means = [0.0] * parts
    ends = [*(at for at, _ in changes[1:]), makespan_s]
    for (since, width), until in zip(changes, ends, strict=True):
        part = int(since / makespan_s * parts)
        while part < parts and part * makespan_s / parts < until:
            start, end = max(since, part * makespan_s / parts), min(until, (part + 1) * makespan_s / parts)
            means[part] += width * max(0.0, end - start) * parts / makespan_s
            part += 1
    return means


def _tasks(tasks: Sequence[Mapping[str, Any]], first: int) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("task", "starts", "ends", "lands", "waited for")]
    started = sorted(tasks, key=lambda task: math.inf if task["starts_s"] is None else task["starts_s"])
    for task in started[:first]:
        times = [_time(task[key]) for key in ("starts_s", "ends_s", "lands_s")]
        rows.append((cut(printable(task["id"]), _ID_MAX), *times, _detail(task)))
    yield from (f"  {line}" for line in telling.table(rows).splitlines())
    if len(tasks) > first:
        yield f"  and {len(tasks) - first} more: --first N shows more, --json all"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else took(seconds)


def _detail(task: Mapping[str, Any]) -> str:
    waits = [f"{_WAITED[key]} {took(seconds)}" for key, seconds in task["waited_s"].items() if seconds]
    parts = [", ".join(waits)]
    if len(task["attempts"]) > 1:
        parts.append(_count(len(task["attempts"]), "attempt"))
    if task["state"] != "landed":
        parts.append(f"{task['state']}: {printable(task['reason'] or '')}".rstrip(": "))
    return "; ".join(filter(None, parts))


def _small_print(document: Mapping[str, Any]) -> Iterator[str]:
    assumed = document["assumed"]
    said = [f"{_figure(assumed['task_s'])} s a task"]
    if assumed["tasks_s"]:
        said[0] += f" ({len(assumed['tasks_s'])} of them by name)"
    said.append(
        f"{_figure(assumed['suite_s'])} s a suite" + (" (some by name)" if assumed["suites_s"] else "")
    )
    if assumed["fail_rate"]:
        said.append(f"{100 * assumed['fail_rate']:g} % of workers fail (seed {assumed['seed']})")
    if assumed["learned_attempts"]:
        said.append(f"learned from {_count(assumed['learned_attempts'], 'attempt')}")
    yield f"  Assumed: {', '.join(said)}."
    yield f"  Not modelled: {document['not_modelled']}."


def _figure(seconds: float) -> str:
    """Gives seconds to the tenth, or where they are fewer than one to two digits: what was learned has many more."""
    return f"{round(seconds, 1):g}" if seconds >= 1 else f"{seconds:.2g}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"

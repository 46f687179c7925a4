"""What an audit finds, and how it is told: by invariant, each with its cause, what that means and what to do.

Rules for editing: the numbers are public and are those of docs/explanation/invariants.md; none is ever given another meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Any

from swarm.dataclass import dataclass

SCHEMA = 1
TOLD_MAX = 20  # breaches of one invariant that are told one by one

TITLES: dict[str, str] = {
    "I1": "every landed task is on staging exactly once, and published",
    "I2": "nothing else is on staging",
    "I3": "staging, its log and the journal tell the same landings in the same order",
    "I4": "what landed is exactly what was verified",
    "I5": "what landed passes its suites again",
    "I6": "no landing changes what its attempt did not change",
    "I7": "every landing is the merge that git makes of its parents",
    "I8": "what happened to each task is a way that the rules allow, and ends are final",
    "I9": "the journal's events give the facts that were told",
    "I10": "attempts are numbered one by one, one lives at a time, and no older one was listened to",
    "I11": "no two workers ever held the same claim",
    "I12": "where nothing is under way, nothing is held or half done",
    "I13": "folders of worktrees, git's records of them and their leases agree",
    "I14": "no lock of a killed git is left",
    "I15": "every object that is needed is there, and all finished work is kept by a ref",
    "I16": "no process of an attempt that has ended is alive",
    "I17": "never more workers than allowed, and never two in one slot",
    "I18": "the journal is whole: no record that was acknowledged is missing or changed",
    "I19": "nothing waits for something that never comes",
    "I20": "in the user's repository there is nothing of ours but what is known",
}

_CONSEQUENCES: dict[str, tuple[str, str]] = {
    "I1": (
        "Work that is said to have landed is not where it should be.",
        "keep the repository as it is; swarm recover",
    ),
    "I2": (
        "Staging holds something that no verified attempt brought.",
        "look at it with git show; keep the repository as it is",
    ),
    "I3": ("Staging can't be accounted for from the journal.", "keep the repository as it is; swarm recover"),
    "I4": ("Staging holds something that was never verified.", "swarm verify"),
    "I5": ("Staging does not pass at that commit.", "read the log named here, then swarm undo TASK"),
    "I6": ("Another task's work may have been changed back.", "git show the landing, then swarm undo TASK"),
    "I7": ("The landing holds other files than its merge.", "git show the landing, then swarm undo TASK"),
    "I8": ("What the journal says of these tasks can't be relied on.", "keep the journal and report this"),
    "I9": ("What people were told is not what happened.", "keep the journal and report this"),
    "I10": ("An attempt may have run twice.", "keep the journal and report this"),
    "I11": (
        "Two workers may have changed the same files at once.",
        "look at what both changed: swarm diff TASK",
    ),
    "I12": ("Something stays reserved that nobody uses.", "swarm recover"),
    "I13": ("A worktree can't be used, or is in the way of the next one.", "swarm recover"),
    "I14": ("The next git command there will fail.", "swarm recover"),
    "I15": (
        "Work could not be had back from git.",
        "copy the repository before anything else, then swarm recover",
    ),
    "I16": ("It may still change files and use the machine.", "swarm recover, or end it by its number"),
    "I17": ("The machine was given more to do than was allowed.", "keep the journal and report this"),
    "I18": (
        "What happened can't be told with certainty.",
        "swarm recover --journal brings back what is missing",
    ),
    "I19": ("The task would wait for ever.", "swarm stop, swarm start; if it stays, report this"),
    "I20": ("Something of ours would stay behind in your repository.", "remove it by hand once you know it"),
}


@dataclass(frozen=True, slots=True)
class Breach:
    """Something that must be true and is not. Two looks that give equal breaches have seen the same thing."""

    invariant: str
    cause: str
    run: str | None = None
    next_step: str = ""
    of_transcript: bool = False

    @property
    def doubts_journal(self) -> bool:
        """Whether the journal may not know everything: then what it does not know is not for that nobody's."""
        return self.invariant == "I18" and not self.of_transcript

    @property
    def consequence(self) -> str:
        """What it means."""
        return _CONSEQUENCES[self.invariant][0]

    @property
    def next(self) -> str:
        """What to do."""
        return self.next_step or _CONSEQUENCES[self.invariant][1]


@dataclass(slots=True)
class Report:
    """What an audit gives: breaches, notes on what is no breach, what could not be looked at, of which it was asked for what is
    `hindered`, and how far the journal was."""

    seq: int = 0
    runs: tuple[str, ...] = ()
    landings: int = 0
    breaches: list[Breach] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unseen: dict[str, str] = field(default_factory=dict)
    hindered: set[str] = field(default_factory=set)
    looks: int = 1
    elapsed_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is broken, as far as it was to be looked at."""
        return not (self.breaches or self.hindered)

    def looked(self, invariant: str, hindered: str) -> None:
        """Notes that an invariant was looked at because that was asked for, or what has kept the audit from it."""
        self.unseen.pop(invariant, None)
        if hindered:
            self.unseen[invariant] = hindered
            self.hindered.add(invariant)


def document(report: Report) -> dict[str, Any]:
    """Gives the public document of an audit. `ok` is null for what was not looked at, with the reason in `unseen`."""
    broken = {breach.invariant for breach in report.breaches}
    return {
        "schema": SCHEMA,
        "ok": report.ok,
        "seq": report.seq,
        "runs": list(report.runs),
        "landings": report.landings,
        "looks": report.looks,
        "elapsed_s": round(report.elapsed_s, 3),
        "invariants": [
            {
                "id": name,
                "title": title,
                "ok": False if name in broken else None if name in report.unseen else True,
                "unseen": report.unseen.get(name),
            }
            for name, title in TITLES.items()
        ],
        "broken": [
            {
                "invariant": each.invariant,
                "run": each.run,
                "cause": each.cause,
                "consequence": each.consequence,
                "next": each.next,
            }
            for each in report.breaches
        ],
        "notes": list(report.notes),
    }


def text(report: Report) -> str:
    """Tells an audit to people."""
    lines: list[str] = []
    for name, title in TITLES.items():
        found = [breach for breach in report.breaches if breach.invariant == name]
        if found:
            lines += [f"{name} is broken: {title}.", *_told(found)]
    lines += [f"Note: {note}" for note in report.notes]
    for why in dict.fromkeys(report.unseen.values()):
        names = ", ".join(name for name, reason in report.unseen.items() if reason == why)
        lines.append(f"Not looked at: {names}; {why}")
    seen = len(TITLES) - len(report.unseen)
    looked_at = ((report.landings, "landing"), (len(report.runs), "run"), (report.seq, "record"))
    counted = ", ".join(f"{number} {word}{'' if number == 1 else 's'}" for number, word in looked_at)
    what = f"{counted} in the journal"
    if not report.breaches:
        lacking = f", but {', '.join(sorted(report.hindered))} could not be looked at" * bool(report.hindered)
        lines.append(
            f"All {seen} invariants that were looked at hold{lacking}: {what}, {report.elapsed_s:.1f} s."
        )
    else:
        numbers = _numbers(report.breaches)
        lines.append(f"Broken: {', '.join(numbers)} ({what}, {report.elapsed_s:.1f} s).")
    return "\n".join(lines) + "\n"


def _told(found: Sequence[Breach]) -> list[str]:
    lines = [f"  {breach.cause}" for breach in found[:TOLD_MAX]]
    if len(found) > TOLD_MAX:
        lines.append(f"  … and {len(found) - TOLD_MAX} more (--json lists all)")
    steps = dict.fromkeys(breach.next for breach in found)
    return [*lines, f"  {found[0].consequence}", *(f"  Next: {step}" for step in steps)]


def _numbers(breaches: Iterable[Breach]) -> list[str]:
    broken = {breach.invariant for breach in breaches}
    return [name for name in TITLES if name in broken]

"""Named places at which a test can kill, fail or stop the program: `crash_at("landing.advanced")`.

Every step that changes something outside lies between two of these points, so that a test can say *where* it was interrupted. They
are armed by the environment alone, read once when this module is imported; else `crash_at` is a function that does nothing
(40 ns a call).

    SWARM_CRASH=NAME:KIND:HIT,…  at the HIT-th time that this process reaches NAME (`*`: any point) do KIND, once:
                                 kill (SIGKILL to ourselves), raise (`CrashPointReached`), stall (stand still for two seconds)
    SWARM_CRASH_LOG=FILE         append "PID NAME KIND" for every point that is reached, KIND being "-" where nothing is done

Rules for editing: a name is `area.what-has-just-happened` and says what is done, not what comes next; a new point needs its line in
`POINTS`, with the bug that only a crash right there would show, and a test holds the two together. Neither variable may reach a
worker or a suite. docs/explanation/crash-tests.md has the numbers C1 to C28, the rules of recovery and what has been run;
scripts/reference.py writes the points into it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

VARIABLE = "SWARM_CRASH"
LOG_VARIABLE = "SWARM_CRASH_LOG"
KINDS = ("kill", "raise", "stall")
ANY = "*"
STALL_S = 2.0
_LAUNCHER = "launcher."  # these are reached in the launcher's shell


class Point(NamedTuple):
    """What a crash here would show if recovery were wrong, and the crash points (C1 to C28) that it stands for."""

    exposes: str
    stands_for: str


POINTS: Mapping[str, Point] = {
    # --- the daemon comes up and goes down
    "daemon.locked": Point("a dead daemon's lock keeps the next one out", "C28"),
    "daemon.claimed": Point("a start that died early keeps the next one out by its name", "C28"),
    "daemon.opened": Point("a journal opened and not yet replayed counts as empty", "C24 C27"),
    "daemon.replayed": Point("a start that was cut short leaves a half-opened epoch behind", "C24 C28"),
    "daemon.swept": Point("sweeping stale locks twice, or half, loses a lock that somebody holds", "C17"),
    "daemon.listening": Point("the socket file of a dead daemon keeps the next one from binding", "C9"),
    "daemon.begun": Point("commands of the interrupted daemon are carried out twice, or never", "C2 C18"),
    "daemon.announced": Point("an announcement of a dead daemon is believed", "C9"),
    "stop.requested": Point("a stop that was cut short keeps the next daemon from starting work", "C8"),
    "stop.closed": Point("what was being carried out at a stop is neither done nor asked for again", "C6 C8"),
    "stop.told": Point("socket and announcement outlive their daemon", "C9 C28"),
    # --- one turn
    "turn.decided": Point("a decision that was not yet remembered has been acted on", "C2 C9"),
    "journal.begun": Point("half a batch of events is read back", "C1"),
    "journal.written": Point("a batch that was not committed is read back", "C1"),
    "journal.committed": Point("a remembered decision is never carried out", "C2 C16"),
    "turn.answered": Point("a client that was told yes finds its request forgotten", "C9"),
    "transcript.written": Point("the transcript has a record that the journal has not, or has it twice", "C1 C27"),
    # --- a run is prepared
    "prepare.seeded": Point("a run with its true staging has no branch to show it", "C19"),
    "prepare.published": Point("a run is submitted twice, or is left without its staging worktree", "C19"),
    "staging.linked": Point("a staging worktree without files is taken for one that a person emptied", "C20"),
    # --- a worktree is made
    "worktree.leased": Point("a lease whose worktree was never made is believed", "C2"),
    "worktree.made": Point("an empty folder keeps the worktree from being made", "C3"),
    "worktree.drafted": Point("a half-made record of git's is left for ever, or blocks the next", "C3"),
    "worktree.pointed": Point("a folder that points to a record which never came is taken for a worktree", "C3"),
    "worktree.linked": Point("a record that no lease names is never removed, or a second is made beside it", "C3"),
    "worktree.filled": Point("files without an index of ours count as the worker's changes", "C3 C4"),
    "worktree.ready": Point("a worktree that is ready is made a second time, or given to two attempts", "C4"),
    # --- a worker
    "worker.told": Point("a worker is started with half a prompt", "C2"),
    "worker.locked": Point("the lock of an attempt whose worker never came keeps it from ever starting", "C5"),
    "worker.spawned": Point("a worker that nobody has heard of runs on, and a second is started", "C5"),
    "worker.known": Point("a worker that is up is started a second time", "C5 C6"),
    "launcher.born": Point("a launcher that died unnamed is waited for for ever", "C5"),
    "launcher.named": Point("an attempt whose command never ran counts as run", "C5 C7"),
    "launcher.ended": Point("a worker whose end nobody wrote down is waited for, or its work thrown away", "C7"),
    "launcher.wrote": Point("an end that was written down is not read", "C7"),
    "worker.exited": Point("what a worker left running writes on into its worktree", "C7 C8"),
    "worker.swept": Point("a worker's end is read once, lost, and never read again", "C7"),
    "worker.standing": Point("a worker that was to stand still, or to go on, does what it did before", "C8"),
    "worker.stood": Point("a worker that stands still is taken for one that runs, or for none", "C8"),
    "worker.ending": Point("a worker that was to be ended runs on", "C8"),
    "worker.ended": Point("an end on request counts as the worker's own failure", "C8"),
    # --- its work is collected
    "collect.added": Point("files taken into the index are collected twice, or left out", "C11"),
    "collect.committed": Point("a commit that no ref keeps is lost", "C11 C12"),
    "collect.marked": Point("a worktree counts as collected and its work stands on no branch", "C11"),
    "collect.kept": Point("collecting again makes another commit than the one that is kept", "C11"),
    # --- the worktree is given back, cleaned, removed
    "give-back.saved": Point("work that nobody collected is saved and then forgotten", "C21"),
    "saved.kept": Point("work that was saved once is saved again and again", "C21 C22"),
    "give-back.freed": Point("a worktree with another's files in it is handed to the next", "C21"),
    "give-back.cleaned": Point("a clean worktree is never used again", "C21"),
    "teardown.moved": Point("git's record of a worktree whose folder has gone is left for ever", "C22"),
    "teardown.detached": Point("a record on its way out is read by git, or never removed", "C22"),
    "teardown.unlinked": Point("an index or lease of a removed worktree is believed", "C22"),
    "teardown.forgotten": Point("a folder in the trash stays for ever", "C22"),
    # --- a run is discarded
    "discard.worktrees": Point("a run whose worktrees have gone gets them back at the next start", "C21 C22"),
    "discard.refs": Point("branches of a run that is going are made again", "C19"),
    "discard.landing": Point("a later run of the same name goes on from the old staging", "C12"),
    "discard.folders": Point("a worker of a later run of the same name is taken for one that has run", "C5 C7"),
    # --- the way onto staging
    "landing.made": Point("a landing repository without its settings is used", "C12 C27"),
    "bring-in.carried": Point("objects that no pin keeps are taken for brought in", "C11 C12"),
    "bring-in.pinned": Point("a commit that is pinned is brought in as another", "C11"),
    "merge.merged": Point("a merge that is repeated gives another tree", "C13"),
    "merge.candidate": Point("a candidate that is made again is another commit than the verified one", "C13"),
    "worktree.followed": Point("a worktree that was moved, half repaired, is removed as a stranger", "C3 C22"),
    "refound.carried": Point("a landing repository made again, with staging at the base, is believed", "C27"),
    "refound.advanced": Point("a landing repository made again is made again once more, or otherwise", "C27"),
    "undo.made": Point("an undo that is made again is another commit than the verified one", "C13"),
    "undo.checked": Point("an undo that was intended and not made counts as made", "C16"),
    "rebase.replayed": Point("a rebase that is repeated gives other commits", "C13"),
    "verify.prepared": Point("suites run in a scratch worktree that stands at another commit", "C14"),
    "verify.started": Point("a suite that runs on is started a second time", "C14"),
    "verify.exited": Point("a suite whose result was not read has failed", "C14 C15"),
    "verify.settled": Point("a verification that was done is lost, or its scratch worktree is leased for ever", "C15"),
    "landing.checked": Point("a landing that was intended and not made counts as made", "C16"),
    "landing.advanced": Point("a landing that was made is made again, or never becomes landed", "C17 C18"),
    "publish.carried": Point("objects in the user's repository that nothing names stop the publishing", "C12 C23"),
    "publish.moved": Point("a branch that has moved already counts as moved by somebody else", "C19 C23"),
    "staging.restored": Point("a staging branch that was made again counts as moved by somebody", "C23"),
    "follow.noted": Point("a move that was intended counts as a person's edits", "C20"),
    "follow.moved": Point("a move that was made counts as a person's edits", "C20"),
    "follow.finishing": Point("finishing a killed move, killed itself, leaves files of two commits", "C20"),
    # --- staging is merged into the target
    "finish.carried": Point("objects in the user's repository that nothing names stop the finish", "C23"),
    "finish.noted": Point("what was copied aside counts as moved, or stays for ever", "C20 C23"),
    "finish.failed": Point("files of a move that failed count as the user's own changes", "C20 C23"),
    "finish.files": Point("files that were moved before the branch count as the user's own changes", "C20 C23"),
    "finish.moved": Point("a finish that was made is refused, or made twice", "C18 C23"),
}  # fmt: skip


class CrashPointReached(Exception):
    """What `raise` raises: of no kind that anybody expects."""


class _Fault(NamedTuple):
    name: str
    kind: str
    hit: int


def _nothing(_: str) -> None:
    pass


def _faults(text: str) -> list[_Fault]:
    """Reads the variable. Raises `ValueError` for a fault that could never fire: a test that kills nothing must not pass."""
    found = []
    for each in text.split(",") if text else ():
        name, kind, hit = each.split(":")
        if (name not in POINTS and name != ANY) or kind not in KINDS or int(hit) < 1:
            raise ValueError(f"{VARIABLE}={each}: wants NAME:KIND:HIT, kinds {', '.join(KINDS)}")
        found.append(_Fault(name, kind, int(hit)))
    return found


class _Armed:
    """Counts the points that are reached, writes them down, and does what was ordered when its time has come."""

    def __init__(self, faults: Sequence[_Fault], log: str) -> None:
        self._faults = {(fault.name, fault.hit): fault.kind for fault in faults}
        self._log = log
        self._reached: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        kind = self._due(name, ANY)
        self._write_down(name, kind)
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "raise":
            raise CrashPointReached(name)
        elif kind == "stall":
            time.sleep(STALL_S)

    def for_launcher(self) -> dict[str, str]:
        """Tells a launcher what to do at which of its points, as variables that it takes out of its environment at once."""
        told = [f"{name}:{self._due(name)}" for name in POINTS if name.startswith(_LAUNCHER)]
        return {VARIABLE: " ".join(told), LOG_VARIABLE: self._log or os.devnull}

    def _due(self, *names: str) -> str:
        assert names[0] in POINTS, names[0]
        with self._lock:
            self._reached.update(names)
            kinds = [self._faults.get((name, self._reached[name]), "-") for name in names]
        return next((kind for kind in kinds if kind != "-"), "-")

    def _write_down(self, name: str, kind: str) -> None:
        if self._log:
            log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(log, f"{os.getpid()} {name} {kind}\n".encode())
            finally:
                os.close(log)


def _arm(environ: Mapping[str, str]) -> _Armed | None:
    faults, log = _faults(environ.get(VARIABLE, "")), environ.get(LOG_VARIABLE, "")
    return _Armed(faults, log) if faults or log else None


_armed = _arm(os.environ)
crash_at: Callable[[str], None] = _armed or _nothing


def for_launcher() -> dict[str, str]:
    """Gives what is added to a launcher's environment; nothing where nothing is armed."""
    return _armed.for_launcher() if _armed is not None else {}

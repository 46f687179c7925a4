"""Where things lie below the state folder `<git common dir>/swarm`; names only, nothing is made, and little looked at.

Rules for editing: these places are part of the public contract (section 3) or are found again by a later version: none is moved
without a migration.
"""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache
from pathlib import Path

from swarm.core.model import slug
from swarm.dataclass import dataclass

_ATTEMPTS = "attempts"


def state_of(common: Path) -> Path:
    """Gives the state folder of a repository, by its common git folder."""
    return common / "swarm"


@dataclass(frozen=True)
class AttemptPlaces:
    """The folder of one attempt: what its worker was given, what it said, and the output of it and of its verification."""

    folder: Path

    @cached_property
    def prompt(self) -> Path:
        """The prompt as the worker gets it."""
        return self.folder / "prompt.md"

    @cached_property
    def feedback(self) -> Path:
        """Why the last attempt did not land, and what the user told."""
        return self.folder / "feedback.md"

    @cached_property
    def result(self) -> Path:
        """What the worker may write about itself."""
        return self.folder / "result.json"

    @cached_property
    def answer(self) -> Path:
        """What the worker answers, where its task asks for an answer."""
        return self.folder / "answer.md"

    def draft(self, name: str) -> Path:
        """The plan that was read from the answer, for a person to look at, change and approve of."""
        return self.folder / name

    @cached_property
    def own(self) -> Path:
        """What a worker that is shut in has for itself beside its worktree, as long as it lives: temporary files, home, result."""
        return self.folder / "own"

    @cached_property
    def own_result(self) -> Path:
        """Where such a worker writes about itself; it is moved to `result` when it has ended."""
        return self.own / "result.json"

    @cached_property
    def own_answer(self) -> Path:
        """Where such a worker writes its answer until then."""
        return self.own / "answer.md"

    @cached_property
    def own_transcript(self) -> Path:
        """Where such a worker's transcript is until then."""
        return self.own / "transcript.jsonl"

    @cached_property
    def output(self) -> Path:
        """Standard output and error of the worker."""
        return self.folder / "output.log"

    @cached_property
    def format(self) -> Path:
        """The name of the format of the output where it has one, and, on a second line, the worktree."""
        return self.folder / "format"

    @cached_property
    def transcript(self) -> Path:
        """What the built-in agent and its model said, and what it did."""
        return self.folder / "transcript.jsonl"

    @cached_property
    def worker(self) -> Path:
        """Identity, lock and exit status of the worker."""
        return self.folder / "worker"

    def candidate(self, candidate: str, *, again: bool = False) -> Path:
        """Folder of the verification of one candidate: in it each suite has its own. Those that run `again` have another one."""
        return self.verify / f"{candidate[:16]}{'-again' if again else ''}"

    @cached_property
    def verify(self) -> Path:
        """Folder of all verifications."""
        return self.folder / "verify"


@dataclass(frozen=True, slots=True)
class Places:
    """The state folder of one repository. `nonce_head` is how the names begin that all processes of its workers carry in their
    environment; `edge.place` knows it."""

    state: Path
    nonce_head: str = ""

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.state / "journal.sqlite"

    @property
    def snapshot(self) -> Path:
        """The whole swarm as it was at one record of the journal; may be deleted at any time."""
        return self.state / "journal.snapshot"

    @property
    def transcript(self) -> Path:
        """Every record of the journal once more, in files of lines."""
        return self.state / "transcript"

    @property
    def landing(self) -> Path:
        """The landing repository."""
        return self.state / "landing.git"

    @property
    def remembered(self) -> Path:
        """Which suites passed lately on which tree; may be deleted at any time."""
        return self.state / "remembered"

    @property
    def failure(self) -> Path:
        """What made the last daemon end by itself, until the next one is up."""
        return self.state / "failure.json"

    @property
    def place(self) -> Path:
        """Which state folder this is, where it was last, and its `nonce_head`: a copy is told from one that was moved by it."""
        return self.state / "place.json"

    @property
    def discards(self) -> Path:
        """Which runs were discarded: by it a journal that is older than that is told."""
        return self.state / "discarded.json"

    @property
    def log(self) -> Path:
        """The daemon's log."""
        return self.state / "log" / "daemon.log"

    @property
    def start_log(self) -> Path:
        """What a daemon printed while it came up."""
        return self.state / "log" / "start.log"

    @property
    def daemon_lock(self) -> Path:
        """Held by the one daemon of this repository."""
        return self.state / "locks" / "daemon.lock"

    @property
    def merge_lock(self) -> Path:
        """Held while staging moves."""
        return self.state / "locks" / "merge.lock"

    @property
    def worktrees_lock(self) -> Path:
        """Held round git's own bookkeeping of worktrees."""
        return self.state / "locks" / "worktrees.lock"

    def nonce(self, run: str, task: str, n: int) -> str:
        """Names the worker of an attempt in the environment of all its processes; the same after a restart of the daemon."""
        assert self.nonce_head
        key = f"{run}/{task}/{n}".encode("utf-8", "surrogatepass")
        return f"{self.nonce_head}-{hashlib.sha256(key).hexdigest()[:20]}"

    @property
    def attempts(self) -> Path:
        """The folders of all attempts: run, task, number."""
        return self.state / _ATTEMPTS

    def attempts_of(self, run: str, task: str) -> Path:
        """The folder of all attempts of a task."""
        return self.attempts / run / slug(task)

    def attempt(self, run: str, task: str, n: int) -> AttemptPlaces:
        """The folder of an attempt."""
        return _attempt(self.state, run, task, n)

    def finishes(self, run: str) -> Path:
        """The folders of all finishes of a run."""
        return self.attempts / run / "finish"

    def finish(self, run: str, request: str) -> AttemptPlaces:
        """The folder of a finish."""
        return AttemptPlaces(self.finishes(run) / slug(request))

    def move(self, run: str, request: str, number: int) -> Path:
        """What a finish needs to put a checkout back whose files it moves, while it does."""
        return self.finish(run, request).folder / "moves" / str(number)

    def moves(self, run: str) -> list[Path]:
        """Such places that are there, of any finish of a run: one that was killed left them."""
        return sorted(self.finishes(run).glob("*/moves/*"))

    def all_moves(self) -> list[Path]:
        """Such places that are there, of any finish of any run."""
        return sorted(self.attempts.glob("*/finish/*/moves/*"))

    def hook(self, name: str) -> Path:
        """What a hook was told of last."""
        return self.state / "hooks" / f"{slug(name)}.json"

    def deploys(self, run: str) -> Path:
        """The folders of the deploy commands of a run: each is named by the commit that its finish left the target at."""
        return self.state / "deploys" / run


# Each attempt is asked for some twenty times, and to join a path takes as long as a look at the disk.
@lru_cache(maxsize=512)
def _attempt(state: Path, run: str, task: str, n: int) -> AttemptPlaces:
    return AttemptPlaces(state / _ATTEMPTS / run / slug(task) / str(n))

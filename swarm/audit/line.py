"""The staging lines in the landing repository, held against the landings that the journal has.

Everything is read in a handful of git processes, whatever the number of landings: one list of commits a run, and for all of them
together one read, one diff and one merge of everything again.

Rules for editing: what an attempt that is advancing may have done already is not broken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from swarm.audit.breaches import Breach
from swarm.audit.folding import Advance, Fold
from swarm.core.astray import explain, way_back
from swarm.core.model import Attempt, Step, staging_branch
from swarm.core.run import Run
from swarm.dataclass import dataclass
from swarm.edge import git
from swarm.edge.git import CommitFacts
from swarm.edge.landing import LandingRepository, base_ref, staging_ref
from swarm.edge.merging import merge_all
from swarm.errors import SwarmError

_UNDONE = re.compile(r"^Swarm-Undo: *(.*)$", re.MULTILINE)
_TRAILER = re.compile(r"^Swarm-(Run|Task|Attempt|Verified): *(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Landing:
    """A commit on the line of a run; `told` is what the journal says of it, None where it says nothing."""

    run: Run
    commit: CommitFacts
    told: Advance | None

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that the journal says it lands."""
        task = self.run.tasks.get(self.told.task) if self.told is not None else None
        return task.attempts[self.told.attempt - 1] if task is not None and self.told is not None else None

    @property
    def name(self) -> str:
        """How it is called in a sentence."""
        if self.told is None:
            return f"{self.commit.oid[:12]} ({self.commit.subject[:60]})"
        return f"{self.commit.oid[:12]}, the landing of {self.told.task} attempt {self.told.attempt},"


@dataclass(frozen=True, slots=True)
class Line:
    """Staging of a run: where it begins, its commits oldest first, where it stands."""

    run: Run
    base: str
    tip: str
    commits: tuple[str, ...]


def look(
    fold: Fold,
    runs: Iterable[Run],
    landing: LandingRepository,
    refs: Mapping[str, str],
    users: Mapping[str, str],
    common: Path,
    notes: list[str],
) -> tuple[list[Landing], list[Breach]]:
    """Gives the landings of all runs and what is wrong with them; `refs` are the landing repository's, `users` those in
    `common`, the user's. What is no breach goes into `notes`."""
    found: list[Breach] = []
    landings: list[Landing] = []
    for run in runs:
        advances = [*fold.advances.get(run.id, ()), *_advancing(run)]
        line = _line(run, landing.path, refs, found)
        if line is None:
            continue
        told = {advance.commit: advance for advance in advances}
        commits = _read(landing, line.commits, run.id, found)
        here = [Landing(run, commit, told.get(commit.oid)) for commit in commits]
        landings += here
        found += _unknown(here)
        found += _missing(line, advances)
        found += _in_order(line, advances)
        found += _log(line, landing.path, [advance.commit for advance in _advancing(run)])
        found += _stood(line, landing.path, advances)
        found += _published(line, users, common, notes)
        found += _landed_once(here)
    merges = [each for each in landings if each.told is not None]
    of_two = [each for each in merges if len(each.commit.parents) == 2]
    with ThreadPoolExecutor(1) as beside:  # git merges on another processor
        again = beside.submit(
            merge_all, landing.path, [(each.commit.parents[0], each.commit.parents[1]) for each in of_two]
        )
        found += _as_submitted(merges)
        found += _as_undone(landing, merges)
        found += _as_verified(merges)
        foreign = list(_own_paths_only(landing, of_two))
        found += _merged_again(of_two, again.result())
    return landings, [*found, *foreign]


def _advancing(run: Run) -> list[Advance]:
    """The landing that may have moved staging without the journal knowing it yet."""
    live = [(name, run.tasks[name].live) for name in run.landing]
    return [
        Advance(name, attempt.n, attempt.candidate, between=name in attempt.batch[:-1])
        for name, attempt in live
        if attempt is not None and attempt.step is Step.ADVANCING and attempt.candidate is not None
    ]


# --- reading ---


def _line(run: Run, path: Path, refs: Mapping[str, str], found: list[Breach]) -> Line | None:
    base, tip = refs.get(base_ref(run.id)), refs.get(staging_ref(run.id))
    if base is None or tip is None:
        if run.prepared:
            what = "the base" if base is None else "staging"
            found.append(
                Breach("I3", f"The landing repository has no ref for {what} of {run.id}.", run=run.id)
            )
        return None
    if base != run.base_commit:
        text = f"The landing repository has {base[:12]} for the base of {run.id}, the journal {run.base_commit[:12]}"
        found.append(Breach("I3", f"{text}.", run=run.id))
    try:
        listed = git.run("rev-list", "--first-parent", "--reverse", f"{base}..{tip}", git_dir=path)
    except git.GitError as error:
        found.append(Breach("I15", f"Staging of {run.id} can't be listed: {error.cause}", run=run.id))
        return None
    return Line(run, base, tip, tuple(listed.text.split()))


def _read(
    landing: LandingRepository, commits: Sequence[str], run: str, found: list[Breach]
) -> list[CommitFacts]:
    facts = []
    for oid, item in zip(commits, landing.objects.read(commits), strict=True):
        try:
            if item is None:
                raise git.GitError(("git", "cat-file"), None, "", cause=f"Commit {oid} is not there.")
            facts.append(git.parse_commit(oid, item.body))
        except git.GitError as error:
            found.append(Breach("I15", f"{error.cause}", run=run))
    return facts


# --- the line as a whole (I1, I2, I3) ---


def _unknown(landings: Sequence[Landing]) -> Iterator[Breach]:
    for each in landings:
        if each.told is None:
            yield Breach(
                "I2",
                f"{each.name} is on staging of {each.run.id} and the journal does not know it.",
                run=each.run.id,
            )


def _missing(line: Line, advances: Sequence[Advance]) -> Iterator[Breach]:
    there, under_way = set(line.commits), {advance.commit for advance in _advancing(line.run)}
    for advance in advances:
        if advance.commit not in there and advance.commit not in under_way:
            text = f"The landing {advance.commit[:12]} of {advance.task} is not on staging of {line.run.id}"
            yield Breach("I1", f"{text}, which stands at {line.tip[:12]}.", run=line.run.id)


def _in_order(line: Line, advances: Sequence[Advance]) -> Iterator[Breach]:
    places = {commit: at for at, commit in enumerate(line.commits)}
    known = [advance for advance in advances if advance.commit in places]
    for before, after in pairwise(known):
        if places[before.commit] >= places[after.commit]:
            text = f"The journal has {before.task} before {after.task}, staging of {line.run.id} the other way round"
            yield Breach("I3", f"{text}.", run=line.run.id)
            return


def _log(line: Line, path: Path, ahead: Sequence[str]) -> Iterator[Breach]:
    """Holds git's own log of the ref against the line: it moved over every commit, forward only.

    A move that was killed may be written twice; git writes the log before it moves the ref.
    """
    moves = _moves(path / "logs" / staging_ref(line.run.id))
    if moves is None:
        return
    places = {commit: at for at, commit in enumerate([line.base, *line.commits, *ahead])}
    stands = ""
    for old, new in moves:
        if new not in places or (
            stands and (places[new] < places[stands] or old not in (stands, _before(moves, new)))
        ):
            text = f"The log of staging of {line.run.id} has a move from {old[:12]} to {new[:12]}"
            yield Breach("I3", f"{text}, which is no landing on the line.", run=line.run.id)
            return
        stands = new
    if stands not in (line.tip, *ahead):
        text = f"The log of staging of {line.run.id} ends at {stands[:12]}, the ref stands at {line.tip[:12]}"
        yield Breach("I3", f"{text}.", run=line.run.id)


def _stood(line: Line, path: Path, advances: Sequence[Advance]) -> Iterator[Breach]:
    """Staging never stood, and was never published, at a commit that was verified only with what came after it."""
    between = {advance.commit: advance.task for advance in advances if advance.between}
    places = {line.run.published, *(new for _, new in _moves(path / "logs" / staging_ref(line.run.id)) or ())}
    for commit in between.keys() & places:
        text = f"Staging of {line.run.id} stood at {commit[:12]}, the landing of {between[commit]}"
        yield Breach(
            "I4", f"{text}, which was verified only together with what came after it.", run=line.run.id
        )


def _before(moves: Sequence[tuple[str, str]], new: str) -> str:
    return next(old for old, to in moves if to == new)


def _moves(path: Path) -> list[tuple[str, str]] | None:
    """Reads a reflog; None where there is none, as with other ref formats."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    words = [line.split(" ", 2) for line in lines]
    return [(each[0], each[1]) for each in words if len(each) == 3 and git.is_object_id(each[1])]


def _published(line: Line, users: Mapping[str, str], common: Path, notes: list[str]) -> Iterator[Breach]:
    """Everything that is said to have landed is on the user's branch, which may be ahead of what the journal says.

    A person's commits on top of it are a note, and so is that the branch of a finished run was deleted, where one of theirs has all
    of it; where they moved it off what has landed, what the daemon has told of it is said.
    """
    run = line.run
    if not run.prepared:
        return
    branch = staging_branch(run.id)
    stands = users.get(f"refs/heads/{branch}")
    places = {commit: at for at, commit in enumerate([line.base, *line.commits])}
    if stands is not None and places.get(stands, -1) >= places.get(run.published, 0):
        return
    if stands is None and run.on_target is not None and not run.open_tasks:
        holders = git.branches_with(common, run.published, without=None, leave_out="swarm/")
        if holders:  # it has been tidied up
            notes.append(
                f"Branch {branch} of run {run.id}, which is finished, is gone; {holders[0]} has all of it."
            )
            return
    reason = explain(run)
    where = f"stands at {stands[:12]}" if stands else "is gone"
    text = f"Branch {branch} {where}, and the last landing that was published is {run.published[:12]}"
    if stands is not None and git.contains(common, stands, run.published):
        notes.append(f"{reason.text}." if reason is not None else f"{text}: it has commits made by hand.")
        return
    step = way_back(branch, stands, run.published) if stands else f"git branch {branch} {run.published}"
    by_hand = " A person moved it." if reason is not None else ""
    yield Breach("I1", f"{text}.{by_hand}", run=run.id, next_step=step)


def _landed_once(landings: Sequence[Landing]) -> Iterator[Breach]:
    named = Counter(
        (trailers.get("Task", ""), trailers.get("Attempt", ""))
        for trailers in map(_trailers, landings)
        if "Attempt" in trailers
    )
    for (task, attempt), times in named.items():
        if times > 1:
            text = f"Attempt {attempt} of {task} is on staging {times} times"
            yield Breach("I1", f"{text}.", run=landings[0].run.id)


def _trailers(landing: Landing) -> dict[str, str]:
    return {name: value.strip() for name, value in _TRAILER.findall(landing.commit.message)}


# --- each landing (I1, I2, I4, I6, I7) ---


def _as_submitted(landings: Sequence[Landing]) -> Iterator[Breach]:
    for each in landings:
        attempt, parents, told = each.attempt, each.commit.parents, each.told
        assert told is not None
        if attempt is not None and attempt.undoes:
            continue
        if attempt is None or attempt.head is None:
            yield Breach(
                "I1", f"{each.name} is of no attempt that the journal knows to be finished.", run=each.run.id
            )
            continue
        if len(parents) != 2 or parents[1] != attempt.submitted:
            brought = ", ".join(parent[:12] for parent in parents[1:]) or "nothing"
            text = f"{each.name} brings in {brought}, and {attempt.submitted[:12]} was submitted"
            yield Breach("I2", f"{text}.", run=each.run.id)
        named = _trailers(each)
        says = (named.get("Run"), named.get("Task"), named.get("Attempt"))
        if says != (each.run.id, told.task, str(told.attempt)):
            yield Breach(
                "I1", f"{each.name} says of itself that it is {' '.join(map(str, says))}.", run=each.run.id
            )


def _as_undone(landing: LandingRepository, landings: Sequence[Landing]) -> Iterator[Breach]:
    """An undo takes the landings back that it was asked to, says so, and does nothing else."""
    for each in landings:
        attempt = each.attempt
        if attempt is None or not attempt.undoes:
            continue
        names = [name for name, _ in attempt.undoes]
        said = _UNDONE.findall(each.commit.message)
        if said != names:
            text = f"{each.name} undoes {', '.join(names)} and says {', '.join(said) or 'nothing'} of itself"
            yield Breach("I2", f"{text}.", run=each.run.id)
        try:
            onto = each.commit.parents[0] if each.commit.parents else ""
            landing.check_revert(each.commit.oid, onto, [commit for _, commit in attempt.undoes])
        except SwarmError as error:
            yield Breach("I7", error.cause, run=each.run.id)


def _as_verified(landings: Sequence[Landing]) -> Iterator[Breach]:
    for each in landings:
        attempt = each.attempt
        if attempt is None:
            continue
        if attempt.candidate != each.commit.oid:
            verified = (attempt.candidate or "nothing")[:12]
            yield Breach("I4", f"{each.name} is not what was verified: {verified}.", run=each.run.id)
        if each.told is not None and each.told.taken_in:
            continue  # which suites it had to pass went with the journal
        wanted = [suite.name for suite in attempt.to_pass]
        passed = [suite.name for suite in attempt.suites if suite.outcome == "passed"]
        if sorted(wanted) != sorted(passed):
            text = f"{each.name} had to pass {', '.join(wanted)} and passed {', '.join(passed) or 'nothing'}"
            yield Breach("I4", f"{text}.", run=each.run.id)
        says = _trailers(each).get("Verified", "")
        if says != (", ".join(wanted) or "none"):
            yield Breach("I4", f"{each.name} says that {says or 'nothing'} passed.", run=each.run.id)


def _merged_again(landings: Sequence[Landing], trees: Sequence[str | None]) -> Iterator[Breach]:
    for each, tree in zip(landings, trees, strict=True):
        if tree != each.commit.tree:
            gives = f"gives {tree[:12]}" if tree else "is none, or a conflict"
            text = f"{each.name} has tree {each.commit.tree[:12]}, and the merge of its parents {gives}"
            yield Breach("I7", f"{text}.", run=each.run.id)


def _own_paths_only(landing: LandingRepository, landings: Sequence[Landing]) -> Iterator[Breach]:
    """A landing changes on staging what its attempt changed, or what staging has renamed of that, and nothing else."""
    measured = [(each, each.attempt) for each in landings]
    known = [
        (each, attempt) for each, attempt in measured if attempt is not None and attempt.head is not None
    ]
    ends = [
        (each.commit.parents[0], each.commit.oid, _start(attempt, each.commit), each.commit.parents[1])
        for each, attempt in known
    ]
    trees = _trees(landing, {commit for four in ends for commit in four})
    pairs = [pair for four in ends for pair in (four[:2], four[2:]) if trees.keys() >= set(pair)]
    asked = list(dict.fromkeys((trees[a], trees[b]) for a, b in pairs))
    answers = dict(zip(asked, landing.objects.diffs(asked), strict=True))
    for (each, _), (onto, commit, base, head) in zip(known, ends, strict=True):
        if not {onto, commit, base, head} <= trees.keys():
            yield Breach("I15", f"The commits round {each.name} can't all be read.", run=each.run.id)
            continue
        changed = git.files_of(answers[trees[onto], trees[commit]])
        own = set(git.files_of(answers[trees[base], trees[head]]))
        foreign = [path for path in changed if path not in own]
        if foreign:
            moved = landing.renamed_targets(base, onto, own)
            foreign = [path for path in foreign if path not in moved]
        if foreign:
            text = f"{each.name} changes {', '.join(foreign[:5])}, which the attempt did not"
            yield Breach("I6", f"{text}.", run=each.run.id)


def _start(attempt: Attempt, commit: CommitFacts) -> str:
    """The commit that the attempt's own work begins at."""
    return attempt.base if attempt.rebased is None else commit.parents[0]


def _trees(landing: LandingRepository, commits: set[str]) -> dict[str, str]:
    wanted = sorted(commits)
    return {
        oid: git.parse_commit(oid, item.body).tree
        for oid, item in zip(wanted, landing.objects.read(wanted), strict=True)
        if item is not None and item.kind == "commit"
    }

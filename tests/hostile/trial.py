"""One history against both: swarm lands its attempts, and the judge says for each what should have come of it.

Swarm's side does what the daemon does for a landing, command by command (`swarm/daemon/landing.py`), without the daemon. Rules
for editing: the judge is asked about every merge, revert and replay, and what it says is compared whole; what swarm raises is a
disagreement like any other.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from swarm.edge import git
from swarm.edge.landing import Incoming, LandingRepository, pin_ref
from swarm.edge.lockfile import MergeLockHeld, exclusive
from swarm.edge.merging import Conflict, Merged
from tests.e2e.driver import snapshot
from tests.hostile import making
from tests.hostile.histories import Attempt, History
from tests.hostile.judge import Judge, Unsaid, Verdict, Version, without_names

RUN = "odd"


class Disagreement(AssertionError):
    """Swarm and the judge say different things; `kind` tells one such from another."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Lander:
    """Lands commits as the daemon does."""

    def __init__(self, top: Path, base: str) -> None:
        user = git.Repository.discover(top)
        self.path = user.common_dir / "swarm" / "landing.git"
        self.landing = LandingRepository(self.path, user)
        self.landing.open_or_create()
        self.landing.seed(RUN, base)
        self.landing.publish(RUN, base, base)
        self.lock = top.parent / "merge.lock"

    def bring_in(self, number: int, head: str, base: str) -> None:
        self.landing.bring_in([Incoming(pin_ref(RUN, str(number), 1), head, base)])

    def merge(self, onto: str, head: str, base: str) -> Merged | Conflict:
        return self.landing.merge_attempt(onto, head, run=RUN, base=base)

    def land(self, tree: str, onto: str, head: str, base: str) -> str:
        """Makes the candidate of a merge, checks it, and moves staging to it, in both repositories."""
        message = f"Land t: x\n\nSwarm-Run: {RUN}\nSwarm-Task: t\n"
        candidate = self.landing.candidate(tree, onto, head, message=message, at=1_800_000_000)
        self.landing.check(candidate, onto, head, base, run=RUN)
        self._advance(candidate, onto)
        return candidate

    def revert(self, onto: str, landing: str) -> str | Conflict:
        """Takes a landing back, and moves staging."""
        made = self.landing.revert(onto, [landing], message="Undo t: x\n", at=1_800_000_000)
        if isinstance(made, str):
            self.landing.check_revert(made, onto, [landing])
            self._advance(made, onto)
        return made

    def _advance(self, new: str, old: str) -> None:
        with exclusive(self.lock, kind=MergeLockHeld) as held:
            assert self.landing.advance(RUN, new, old, lock=held) is None
        self.landing.publish(RUN, new, old)


class Result(NamedTuple):
    """What came of a history: the disagreement, if there was one, and how often what was agreed upon."""

    disagreement: Disagreement | None
    agreed: Counter[str]


def run(history: History, folder: Path) -> Result:
    """Carries a history out in an empty folder, which is removed where both agree."""
    folder.mkdir(parents=True)
    trial = _Trial(history, folder)
    try:
        trial.carry_out()
    except Disagreement as found:
        return Result(found, trial.agreed)
    except Exception as error:  # whatever it is, the judge did not say so
        return Result(Disagreement(type(error).__name__, str(error)), trial.agreed)
    finally:
        trial.close()
    shutil.rmtree(folder)
    return Result(None, trial.agreed)


def before_of(history: History, top: Path) -> tuple[making.Made, list[str]]:
    """Makes a repository in an empty folder, with what was there before; gives who made it, and the commits."""
    making.git(top, "init", "-q", "-b", "main", "--template=")
    made = making.Made(top)
    before = made.before(history.before)
    making.git(top, "update-ref", "refs/heads/main", before[-1])
    making.git(top, "reset", "-q", "--hard")
    return made, before


class _Trial:
    def __init__(self, history: History, folder: Path) -> None:
        self.history = history
        self.agreed: Counter[str] = Counter()
        self.top = folder / "repo"
        self.lander: Lander | None = None
        self.top.mkdir()
        self.made, self.before = before_of(history, self.top)
        self.judge = Judge(self.top, folder / "judge")
        self.staging = [self.before[-1]]
        self.heads: list[str] = []

    def close(self) -> None:
        if self.lander is not None:
            self.lander.landing.close()

    def carry_out(self) -> None:
        untouched = self._users()
        self.lander = Lander(self.top, self.before[-1])
        for number, attempt in enumerate(self.history.attempts):
            if attempt.undoes is not None:
                self._undo(self.lander, attempt.undoes)
            elif attempt.steps:
                self._land(self.lander, number, attempt)
        self._look_at_all(self.lander)
        if self._users() != untouched:
            changed = [key for key, value in self._users().items() if untouched[key] != value]
            raise Disagreement("users", f"of the user's own things changed: {changed}")

    def _users(self) -> dict[str, object]:
        seen = snapshot(self.top)
        return {**seen, "refs": [ref for ref in seen["refs"] if not ref.startswith("refs/made/")]}

    # --- an attempt

    def _land(self, lander: Lander, number: int, attempt: Attempt) -> None:
        base, onto = self.staging[attempt.start % len(self.staging)], self.staging[-1]
        places = {"before": self.before, "attempt": self.heads, "staging": self.staging}
        head = self.made.work(attempt.steps, base, places)
        self.heads.append(head)
        lander.bring_in(number, head, base)
        said, found = self.judge.merge(onto, head), lander.merge(onto, head, base)
        taken_back = self.judge.taken_back(base, head, onto, said.tree) if said.tree else set()
        if taken_back and isinstance(found, Conflict):
            self._compare_paths("taken back", taken_back, {os.fsencode(path) for path in found.paths})
            return
        self._compare("merge", said, found)
        if isinstance(found, Merged):
            if taken_back:
                raise Disagreement(
                    "taken-back", f"{sorted(taken_back)} changes, which the attempt did not change"
                )
            self._landed(lander.land(found.tree, onto, head, base), onto, head)
        elif len(self._commits(base, head)) > 1:
            self._replay(lander, onto, head, base)

    def _commits(self, base: str, head: str) -> list[str]:
        """Lists the commits that an attempt made, each with its parents."""
        listed = making.git(self.top, "rev-list", "--parents", f"{base}..{head}")
        return listed.stdout.decode().splitlines()

    def _replay(self, lander: Lander, onto: str, head: str, base: str) -> None:
        """A conflict of several commits is tried again commit by commit, where they are a line."""
        found = lander.landing.rebase(head, base, onto, 1_800_000_000)
        is_line = all(
            len(each.split()) == 2 for each in self._commits(base, head)
        ) and self.judge.is_ancestor(base, head)
        if not is_line:
            if not isinstance(found, Conflict):
                raise Disagreement("replay", "what is no line of commits was replayed")
            return
        try:
            said = self.judge.replay(onto, base, head)
        except Unsaid:
            self.agreed["replay unsaid"] += 1
            return
        if isinstance(found, Conflict):
            self._compare("replay", said, found)
            return
        self._compare("replay", said, Merged(lander.landing.objects.tree_of(found.head)))
        merged = lander.merge(onto, found.head, onto)
        assert isinstance(merged, Merged)
        self._landed(lander.land(merged.tree, onto, found.head, onto), onto, found.head)

    def _undo(self, lander: Lander, which: int) -> None:
        landings = self.staging[1:]
        if landings:
            onto, landing = self.staging[-1], landings[which % len(landings)]
            if len(self.judge.parents(landing)) != 2:
                return  # it is an undo itself
            try:
                said = self.judge.revert(onto, landing)
            except Unsaid:
                self.agreed["revert unsaid"] += 1
                return
            found = lander.revert(onto, landing)
            tree = Merged(self.judge.tree(found)) if isinstance(found, str) else found
            self._compare("revert", said, tree)
            if isinstance(found, str):
                self.staging.append(found)

    # --- agreement

    def _compare(self, what: str, said: Verdict, found: Merged | Conflict) -> None:
        if isinstance(found, Merged):
            if said.tree != found.tree:
                raise Disagreement(f"{what}-tree", f"swarm has {found.tree}, git {said}")
            self.agreed[f"{what} clean"] += 1
            return
        if said.tree is not None:
            raise Disagreement(f"{what}-conflict", f"git merges this to {said.tree}, swarm has {found}")
        versions = frozenset(
            Version(os.fsencode(each.path), each.stage, each.mode, each.oid) for each in found.blobs
        )
        if versions != said.versions and not self._differ_by_names_alone(versions, said.versions):
            more, less = sorted(versions - said.versions), sorted(said.versions - versions)
            raise Disagreement(f"{what}-versions", f"only swarm has {more}, only git {less}")
        if missing := said.paths.difference(os.fsencode(path) for path in found.paths):
            raise Disagreement(f"{what}-paths", f"not told of: {sorted(missing)}")
        self.agreed[f"{what} conflict"] += 1

    def _differ_by_names_alone(self, found: frozenset[Version], said: frozenset[Version]) -> bool:
        assert self.lander is not None
        return without_names(self.lander.path, found) == without_names(self.judge.clone, said)

    def _compare_paths(self, what: str, said: set[bytes], found: set[bytes]) -> None:
        if said != found:
            raise Disagreement(f"{what}-paths", f"swarm has {sorted(found)}, git {sorted(said)}")
        self.agreed[what] += 1

    def _landed(self, candidate: str, onto: str, head: str) -> None:
        """What landed is exactly that merge, in the user's repository too."""
        self.staging.append(candidate)
        if self.judge.parents(candidate) != [onto, head]:
            raise Disagreement("parents", f"{candidate} merges {self.judge.parents(candidate)}")
        if self.judge.is_ancestor(head, candidate) is not True:
            raise Disagreement("ancestor", f"{head} is not below {candidate}")

    def _look_at_all(self, lander: Lander) -> None:
        """Both repositories are sound, and a clone that has nothing but what git gives it has staging whole."""
        branch = f"swarm/{RUN}/staging"
        clone = self.top.parent / "clone"
        making.git(
            self.top.parent,
            "clone",
            "-q",
            "--no-local",
            "--bare",
            "--single-branch",
            "--branch",
            branch,
            str(self.top),
            str(clone),
        )
        for place in (lander.path, self.top, clone):
            making.git(place, "fsck", "--strict", "--no-dangling", "--no-progress")
        tip = making.git(clone, "rev-parse", f"refs/heads/{branch}").stdout.decode().strip()
        if tip != self.staging[-1] or lander.landing.staging(RUN) != tip:
            raise Disagreement(
                "staging", f"the branch stands at {tip}, the last landing is {self.staging[-1]}"
            )

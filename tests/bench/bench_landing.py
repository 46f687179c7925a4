"""A landing in memory of a repository with 5,000 files, against the bare git plumbing that it stands for.

The floor is, for each topic, `git merge-tree --write-tree`, `git commit-tree` and `git update-ref` with the old value, in the
user's own repository. The product brings the topic's objects into the landing repository, merges, makes the candidate, checks it,
moves staging by compare-and-swap under the merge lock, and publishes each landing by itself: more than the floor does, durable, and
with no process but those that stay. Both merge the same topics in the same order, and must come to the same tree. Bar: at most 3 x.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from swarm.edge import git
from swarm.edge.landing import Incoming, LandingRepository, pin_ref
from swarm.edge.lockfile import MergeLockHeld, exclusive
from swarm.edge.merging import Merged
from tests.bench.measure import Bars, Variant, in_turn, options, scratch

RUN = "bench"
PER_FOLDER = 50
SETTINGS = ("-c", "user.name=Bench", "-c", "user.email=bench@example.org")


def plumbing(top: Path, *args: str, told: bytes = b"") -> str:
    """Runs one git command of the floor."""
    done = subprocess.run(["git", *SETTINGS, *args], cwd=top, input=told, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().strip()


class Ground:
    """Makes repositories of `files` files with topics that each change one file, all cut from the first commit."""

    def __init__(self, folder: Path, files: int, topics: int) -> None:
        self.folder, self.files, self.topics, self.made = folder, files, topics, 0
        self.trees: set[str] = set()

    def fresh(self) -> tuple[Path, str, list[str]]:
        """Gives a new repository, its first commit and its topics."""
        self.made += 1
        top = self.folder / f"repository-{self.made}"
        plumbing(self.folder, "init", "-q", "-b", "main", os.fspath(top))
        plumbing(top, "fast-import", "--quiet", told=self._history())
        heads = plumbing(top, "for-each-ref", "--sort=refname", "--format=%(objectname)", "refs/heads/topic/")
        return top, plumbing(top, "rev-parse", "main"), heads.split()

    def _history(self) -> bytes:
        lines = [*_commit("main", "first")]
        for number in range(self.files):
            lines += _file(number, f"file {number}\n" * 20)
        for topic in range(self.topics):
            lines += [*_commit(f"topic/{topic:04}", f"topic {topic}"), "from refs/heads/main"]
            number = topic * self.files // self.topics
            lines += _file(number, f"file {number}\n" * 20 + f"topic {topic}\n")
        return ("\n".join(lines) + "\n").encode()

    def floor(self) -> float:
        """The seconds of all landings by plain git commands."""
        top, tip, heads = self.fresh()
        plumbing(top, "update-ref", f"refs/heads/{RUN}/staging", tip)
        began = time.perf_counter()
        for head in heads:
            tree = plumbing(top, "merge-tree", "--write-tree", tip, head)
            new = plumbing(top, "commit-tree", tree, "-p", tip, "-p", head, "-m", "Land")
            plumbing(top, "update-ref", f"refs/heads/{RUN}/staging", new, tip)
            tip = new
        took = time.perf_counter() - began
        self.trees.add(plumbing(top, "rev-parse", f"{tip}^{{tree}}"))
        return took

    def product(self) -> float:
        """The seconds of the same landings by the landing repository."""
        top, base, heads = self.fresh()
        state = top / ".git" / "swarm"
        state.mkdir()
        landing = LandingRepository(state / "landing.git", git.Repository.discover(top))
        lock = state / "merge.lock"
        try:
            landing.open_or_create()
            tip = landing.seed(RUN, base)
            landing.publish(RUN, tip, base)
            with exclusive(lock, kind=MergeLockHeld) as held:
                began = time.perf_counter()
                for number, head in enumerate(heads):
                    tip = _land(landing, held, pin_ref(RUN, str(number), 1), base, tip, head)
                took = time.perf_counter() - began
        finally:
            landing.close()
        self.trees.add(plumbing(top, "rev-parse", f"refs/heads/swarm/{RUN}/staging^{{tree}}"))
        return took


def _land(landing: LandingRepository, held: MergeLockHeld, pin: str, base: str, tip: str, head: str) -> str:
    landing.bring_in([Incoming(pin, head, base)])
    merged = landing.merge(tip, head, run=RUN, base=base)
    if not isinstance(merged, Merged):
        raise RuntimeError(f"{head} conflicts, and no topic should")
    new = landing.candidate(merged.tree, tip, head, message="Land\n", at=1e9)
    landing.check(new, tip, head, base, run=RUN)
    if landing.advance(RUN, new, tip, lock=held) is not None:
        raise RuntimeError("staging was moved by somebody else")
    landing.publish(RUN, new, tip)
    return new


def _commit(branch: str, message: str) -> list[str]:
    who = "committer Bench <bench@example.org> 1000000000 +0000"
    return [f"commit refs/heads/{branch}", who, f"data {len(message)}", message]


def _file(number: int, text: str) -> list[str]:
    return [
        f"M 100644 inline d{number // PER_FOLDER:03}/f{number % PER_FOLDER:02}",
        f"data {len(text)}",
        text,
    ]


def main() -> int:
    """Prints both, per landing, and says whether the bar is kept."""
    chosen = options("tests.bench.bench_landing", __doc__ or "", rounds=3, files=5000, topics=100)
    bars = Bars()
    with scratch() as folder:
        ground = Ground(folder, chosen.files, chosen.topics)
        floor = Variant("merge-tree, commit-tree, update-ref", ground.floor)
        product = Variant("landing repository, published", ground.product)
        in_turn(
            f"{chosen.topics} landings, {chosen.files:,} files: per landing",
            [floor, product],
            rounds=chosen.rounds,
            per=chosen.topics,
        )
        if len(ground.trees) != 1:
            raise RuntimeError(f"the two did not come to the same tree: {ground.trees}")
        bars.at_most("a landing in memory", product.ratio(floor), 3.0, " x")
    return bars.finish()


if __name__ == "__main__":
    sys.exit(main())

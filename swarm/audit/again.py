"""Runs the suites of landings again, in a throw-away checkout, as their verification did.

Hides the throw-away repository: it borrows the landing repository's objects, the user's for what that lacks, and nothing is ever
written back. Rules for editing:
what is sampled is spread over each line and always holds the newest landing.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from swarm import config
from swarm.audit.breaches import Breach
from swarm.audit.line import Landing
from swarm.core.model import Suite
from swarm.core.places import AttemptPlaces
from swarm.core.state import some
from swarm.daemon.verification import Outcomes, verify_alone
from swarm.edge import git, scratch
from swarm.edge.furnish import Bounds, WorktreeSetupFailed
from swarm.edge.sandbox import choose
from swarm.edge.secluded import quoted
from swarm.edge.suite_rooms import Rooms
from swarm.edge.worktrees import Pool
from swarm.errors import SwarmError
from swarm.settings import WorktreeSettings

NAMED_MAX = 3
SAID_MAX = 500
Bench = Callable[[str, Sequence[Suite]], Outcomes]


class NothingSaid(SwarmError):
    """Suites could not do their work, so nothing is known of the commit."""


def look(
    landings: Sequence[Landing],
    count: int,
    repository: git.Repository,
    landing: Path,
    environ: Mapping[str, str],
) -> tuple[list[Breach], str]:
    """Verifies `count` landings again, or all where there are fewer; those that nothing verifies are passed over. Gives also which
    of them could not be, and why; "" where all could."""
    verified = [each for each in landings if each.attempt is not None and each.attempt.to_pass]
    found: list[Breach] = []
    unseen: dict[str, list[str]] = {}
    chosen = _sample(verified, count)
    with _bench(repository, landing, [landing / "objects"], environ) as bench:
        for each in chosen:
            try:
                found += _again(each, bench)
            except (SwarmError, OSError) as error:
                unseen.setdefault(_why(error), []).append(each.name)
    told = [f"{some(names, NAMED_MAX)} could not be verified again. {why}" for why, names in unseen.items()]
    return found, " ".join(told)


def verify(
    commit: str,
    suites: Sequence[Suite],
    repository: git.Repository,
    landing: Path,
    environ: Mapping[str, str],
) -> Outcomes:
    """Runs suites on one commit of staging; none where there are none. Raises `NothingSaid` where one could not do its work."""
    if not suites:
        return Outcomes((), "")
    stores = [landing / "objects"]
    if git.missing(landing, [commit]):  # made there by hand, and not landed yet
        theirs = repository.common_dir / "objects"
        stores += [theirs, *git.alternates(theirs)]
    with _bench(repository, landing, stores, environ) as bench:
        return bench(commit, suites)


@contextmanager
def _bench(
    repository: git.Repository, landing: Path, stores: Sequence[Path], environ: Mapping[str, str]
) -> Iterator[Bench]:
    """Gives a function that runs suites on a commit of staging, in a checkout that is removed afterwards; its objects are in
    `stores`."""
    top = repository.working_top()
    settings = config.load(top, environ)
    for left in scratch.left_alone():
        scratch.end_alone(left)
    with scratch.alone() as folder:
        rooms = Rooms.of(choose(settings, environ), settings, repository.common_dir, top, environ, folder)
        rooms = dataclasses.replace(rooms, lent=tuple(stores))
        limits = settings.limits
        bounds = Bounds(output_bytes=limits.output_bytes_max, processes=limits.processes_max)
        pool = _pool(folder, repository, landing, settings.worktrees, rooms, bounds)
        try:
            yield lambda commit, suites: _heard(
                lambda: verify_alone(
                    pool,
                    AttemptPlaces(folder / "runs" / commit),
                    environ,
                    commit,
                    suites,
                    rooms,
                    bounds,
                    nonce=scratch.mark_of(folder),
                )
            )
        finally:
            pool.close()


def _heard(run: Callable[[], Outcomes]) -> Outcomes:
    """Gives what suites say; where they could not do their work, why, without a word of files that go with the checkout."""
    try:
        outcomes = run()
    except WorktreeSetupFailed as failed:
        said = f" Its output ends:\n{failed.tail}" if failed.tail else ""
        raise NothingSaid(failed.cause, f"No suite has run.{said}", failed.remedy) from failed
    if outcomes.trouble:
        cause = f"The suites could not do their work: {outcomes.trouble}."
        raise NothingSaid(cause, "They say nothing.", "make room")
    return outcomes


def _why(error: SwarmError | OSError) -> str:
    """Says in one line why suites could not do their work."""
    if not isinstance(error, SwarmError):
        return f"{error}."
    said = " ".join(error.consequence.split())[-SAID_MAX:]
    step = f"Next: {error.next_step}" if error.next_step else ""
    told = (part if part.endswith(".") else f"{part}." for part in (error.cause, said, step) if part)
    return " ".join(told)


def _sample(landings: Sequence[Landing], count: int) -> list[Landing]:
    if count >= len(landings):
        return list(landings)
    last = len(landings) - 1
    places = {last - round(number * last / max(1, count - 1)) for number in range(count)}
    return [landings[place] for place in sorted(places)]


def _pool(
    folder: Path,
    repository: git.Repository,
    landing: Path,
    trees: WorktreeSettings,
    rooms: Rooms,
    bounds: Bounds,
) -> Pool:
    bare = folder / "repository.git"
    made = (
        "init",
        "-q",
        "--bare",
        "--template=",
        f"--object-format={repository.object_format}",
        os.fspath(bare),
    )
    git.run(*made, cwd=folder)
    (bare / "objects" / "info").mkdir(exist_ok=True)
    (bare / "objects" / "info" / "alternates").write_text(
        "".join(f"{quoted(str(store))}\n" for store in rooms.lent), "utf-8", "surrogateescape"
    )
    if (landing / "shallow").exists():
        shutil.copyfile(landing / "shallow", bare / "shallow")
    return Pool(
        bare,
        folder / "trees",
        lock=folder / "trees.lock",
        source=repository.working_top(),
        setup=trees.setup,
        copy=trees.copied,
        share=trees.share,
        setup_bounds=bounds,
        user_config=False,
        saves=False,
        rooms=rooms,
        home=repository,
    )


def _again(landing: Landing, bench: Bench) -> Iterator[Breach]:
    attempt, commit = landing.attempt, landing.commit.oid
    assert attempt is not None
    for result in bench(commit, attempt.to_pass).suites:
        if result.outcome != "passed":
            last = result.tail.splitlines()[-1:] or ["no output"]
            text = f"{landing.name} does not pass {result.name} again ({result.outcome}: {last[0][:200]})"
            yield Breach(
                "I5",
                f"{text}.",
                run=landing.run.id,
                next_step=f"git checkout {commit}, and run: {result.name}",
            )

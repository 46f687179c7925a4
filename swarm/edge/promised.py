"""What a partial clone lacks: objects that it has left with a remote until somebody needs them.

Hides how they are asked for. Git of ours never fetches on its way (`GIT_NO_LAZY_FETCH`): it would one by one, from within anything,
and our own repository has no remote. So before commits are carried out of such a clone all that is missing of them is asked for at
once, in the way of git's own promisor-remote.c.

Rules for editing: a repository without a promised pack, which is nearly every one, costs one look at a folder; nothing is written
but objects: no ref, no setting, no FETCH_HEAD.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from swarm.edge import git
from swarm.errors import Refused

FETCH_TIMEOUT_S = 1800.0
PROBE_TIMEOUT_S = 30.0
# How the user's git reaches a remote, where not by settings; the rest of GIT_* points somewhere.
_WAYS = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_PROXY_COMMAND")


class NotToBeHad(Refused):
    """A commit is not whole, and what is missing of it can't be fetched."""


def is_partial(common: Path) -> bool:
    """Tells whether objects may be missing in a repository that a remote has promised; starts no process."""
    try:
        names = os.listdir(common / "objects" / "pack")
    except OSError:
        return False
    return any(name.endswith(".promisor") for name in names)


def missing(
    git_dir: Path,
    tips: Sequence[str],
    known: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    alone: bool = False,
) -> list[str]:
    """Lists what is not there of `tips` and all that they stand on, save `known`; of what is below a missing folder only that. With
    `alone` nothing that they stand on counts. Raises `GitError`, also where a commit is missing."""
    asked = "".join([*(f"{tip}\n" for tip in tips), *(f"^{commit}\n" for commit in known)]).encode()
    how = (
        "rev-list",
        "--objects",
        "--quiet",
        "--missing=print",
        "--stdin",
        *(["--no-walk"] if alone else []),
    )
    listed = git.run(*how, git_dir=git_dir, env=env, input=asked, timeout_s=FETCH_TIMEOUT_S).text
    return [line[1:] for line in listed.splitlines() if line.startswith("?")]


def complete(
    repository: git.Repository,
    git_dir: Path,
    tips: Sequence[str],
    known: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    alone: bool = False,
) -> None:
    """Fetches what is missing in a partial clone of what `missing` would list. Raises `NotToBeHad`, `GitError`."""
    if not is_partial(repository.common_dir):
        return
    before: list[str] = []
    while lacking := missing(git_dir, tips, known, env=env, alone=alone):
        if lacking == before:
            raise _not_to_be_had(lacking, "they were fetched and are not there", "git fsck")
        _fetch(repository, lacking, FETCH_TIMEOUT_S)
        before = lacking  # what was in a folder that was missing is seen only now


def probe(repository: git.Repository, commit: str) -> None:
    """Makes sure that what is missing of the files of a commit can be had: one of them is fetched. Raises `NotToBeHad`,
    `GitError`."""
    if is_partial(repository.common_dir) and (
        lacking := missing(repository.common_dir, [commit], alone=True)
    ):
        _fetch(repository, lacking[:1], PROBE_TIMEOUT_S, of=len(lacking))


def remotes(repository: git.Repository) -> list[str]:
    """Names the remotes that have promised what is missing, in the order in which git asks them."""
    place = repository.top or repository.common_dir
    asked = ("config", "--null", "--type=bool", "--get-regexp", r"^remote\..*\.promisor$")
    told = git.run(*asked, cwd=place, ok=(0, 1), user_config=True)
    found = [entry.partition("\n") for entry in git.decode(told.out).split("\0") if entry]
    names = [
        key.removeprefix("remote.").removesuffix(".promisor") for key, _, says in found if says == "true"
    ]
    cloned = git.run("config", "extensions.partialClone", cwd=place, ok=(0, 1), user_config=True).text
    return list(dict.fromkeys([*names, *([cloned] if cloned else [])]))


def _fetch(repository: git.Repository, oids: Sequence[str], timeout_s: float, *, of: int = 0) -> None:
    asked = "".join(f"{oid}\n" for oid in oids).encode()
    how = ("--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none")
    env = {name: os.environ[name] for name in _WAYS if name in os.environ}
    promised = remotes(repository)
    said: list[str] = []
    for remote in promised:
        try:
            git.run(
                *("-c", "fetch.negotiationAlgorithm=noop", "fetch", *how, "--stdin", "--", remote),
                cwd=repository.top or repository.common_dir,
                input=asked,
                env=env,
                user_config=True,
                timeout_s=timeout_s,
            )
            return
        except git.GitError as error:
            said.append(f"{remote} gave none: {error.cause.rstrip('.')}")
    count = of or len(oids)
    if not promised:
        step = "git config remote.NAME.promisor true, with the remote that has them; then the same again"
        raise _not_to_be_had(oids, "no remote is said to have them", step, count)
    step = f"see to it that git fetch {promised[0]} comes through, then the same again"
    raise _not_to_be_had(oids, "; ".join(said), step, count)


def _not_to_be_had(oids: Sequence[str], why: str, step: str, count: int = 0) -> NotToBeHad:
    count = count or len(oids)
    what = "1 object" if count == 1 else f"{count} objects"
    return NotToBeHad(
        f"This is a partial clone, {what} of what is to be worked on are missing in it, such as {oids[0][:12]}, and {why}.",
        "",
        step,
    )

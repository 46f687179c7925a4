"""GitHub: what is pushed there, and what is asked of it through its own program, `gh`.

Hides that the network fails for a moment: what would have gone well a little later is tried again, and looked at first, since the
try before may have come through without an answer. Rules for editing: nothing is ever forced, and no password is asked for; who the
user is there, `gh` and git's own settings know.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from swarm.edge import contract, git
from swarm.errors import Refused, SwarmError, UsageError

TRIES = 4
AGAIN_S = 1.0  # after the first try, then four times as long each
TIMEOUT_S = 600.0  # for one of them
_T = TypeVar("_T")

# What git, curl, ssh and gh say when it was not them, and not the user, but the way there.
_PASSING = re.compile(
    r"could not resolve host|failed to connect|temporary failure in name resolution|no such host"
    r"|network is unreachable|no route to host|connection (?:timed out|refused|reset|closed)|timed? ?out"
    r"|tls handshake|hung up unexpectedly|early eof|unexpected eof|\beof\b|error connecting to"
    r"|http(?: status)?:? 5\d\d|error: 5\d\d|bad gateway|service unavailable|internal server error",
    re.IGNORECASE,
)
_UNCHANGED = "Nothing of yours was changed."
_LOOK = "gh pr list, which shows what is there; then the same again"
_REJECTED = re.compile(r"\[(?:remote )?rejected\]|non-fast-forward|fetch first")


class PullRequest(NamedTuple):
    """Where it is; `made` is false for one that was open already."""

    url: str
    made: bool


class Failed(SwarmError):
    """What was asked did not come about; `passing` says that it may well a little later."""

    def __init__(self, what: str, said: str, next_step: str = "", *, consequence: str = _UNCHANGED) -> None:
        self.passing = bool(_PASSING.search(said))
        tried = f", tried {TRIES} times" if self.passing else ""
        why = git.last_line(said).rstrip(".") or "it did not say why"
        super().__init__(f"{what}{tried}: {why}.", consequence, next_step)


def check() -> None:
    """Raises `UsageError` where there is no `gh`."""
    if shutil.which("gh") is None:
        raise UsageError(
            "The program gh was not found on PATH.",
            "Nothing was done.",
            "install the command line tool of GitHub, then gh auth login",
        )


def remote(top: Path, branch: str) -> str:
    """Says which remote a branch belongs to: its own, else origin, else the only one. Raises `UsageError` where there is none."""
    own = git.run("config", f"branch.{branch}.remote", cwd=top, ok=(0, 1), user_config=True).text
    known = _remotes(top)
    if own in known:
        return own
    if "origin" in known or len(known) == 1:
        return "origin" if "origin" in known else known[0]
    raise UsageError(
        f"It is not known where {branch} is to be pushed: there is {'no remote' if not known else 'none named origin'}.",
        "Nothing was done.",
        f"git remote add origin URL, or git config branch.{branch}.remote NAME",
    )


def push(top: Path, to: str, commits: Sequence[tuple[str, str]]) -> None:
    """Pushes each (commit, branch) to the remote `to`, never forced. Raises `Refused` where that would drop somebody's commits."""
    what = [f"{commit}:refs/heads/{branch}" for commit, branch in commits]

    def once() -> None:
        done = git.run(
            "push", "--quiet", "--no-verify", to, *what, cwd=top, ok=range(256), user_config=True, timeout_s=TIMEOUT_S
        )  # fmt: skip
        if _REJECTED.search(done.err):
            names = ", ".join(branch for _, branch in commits)
            raise Refused(
                f"{to} does not take {names}: it has commits there that would be dropped, or forbids it.",
                "Nothing of yours was changed.",
                f"git fetch {to}, look at what is there, and delete or rename the branch if nobody needs it",
            )
        if done.code:
            raise Failed(f"{to} was not pushed to", done.err, "mend it, then the same again")

    _patiently(once)


def pull_request(top: Path, *, head: str, base: str, title: str, body: str) -> PullRequest:
    """Gives the open pull request of branch `head` into `base`; one is made where there is none."""
    listed = (
        "pr",
        "list",
        "--head",
        head,
        "--base",
        base,
        "--state",
        "open",
        "--json",
        "url",
        "--limit",
        "1",
    )
    made = ("pr", "create", "--head", head, "--base", base, "--title", title, "--body-file", "-")

    pushed = f"{head} is pushed; nothing of yours was changed."

    def once() -> PullRequest:
        known = _listed(_gh(top, listed, consequence=pushed), pushed)
        if known:
            return PullRequest(known, made=False)
        said = _gh(top, made, given=body, consequence=pushed).split()
        if not said:
            raise Failed("gh pr create ended well and named no pull request", "", _LOOK, consequence=pushed)
        return PullRequest(said[-1], made=True)

    return _patiently(once)


def _listed(said: str, consequence: str) -> str:
    """Reads the address of the first pull request in a list as gh prints it, "" where it is empty. Raises `Failed`."""
    try:
        found = json.loads(said or "[]")
        return str(found[0]["url"]) if found else ""
    except (ValueError, LookupError, TypeError):
        raise Failed(
            "gh pr list gave something else than a list", said, _LOOK, consequence=consequence
        ) from None


def create(top: Path, name: str) -> None:
    """Makes the private repository `name` on GitHub and has it as origin; where there is an origin nothing is made."""
    made = ("repo", "create", name, "--private", "--source", os.fspath(top), "--remote", "origin")

    def once() -> None:
        if "origin" not in _remotes(top):
            _gh(top, made)

    _patiently(once)


def _remotes(top: Path) -> list[str]:
    return git.run("remote", cwd=top, user_config=True).text.split()


def _gh(top: Path, words: Sequence[str], *, given: str = "", consequence: str = _UNCHANGED) -> str:
    """Runs gh at `top` and gives what it printed. Raises `Failed`."""
    check()
    kept = {name: value for name, value in os.environ.items() if contract.is_for_others(name)}
    said = {"GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1"}
    what = f"gh {words[0]} {words[1]} failed"
    try:
        done = subprocess.run(
            ["gh", *words],
            cwd=top,
            env={**kept, **said},
            input=given,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise Failed(what, f"it timed out after {TIMEOUT_S:g} s", consequence=consequence) from None
    if done.returncode:
        raise Failed(what, done.stderr, "gh auth status; then the same again", consequence=consequence)
    return done.stdout.strip()


def _patiently(once: Callable[[], _T]) -> _T:
    """Does it, and again where a failure was passing."""
    for n in range(TRIES - 1):
        try:
            return once()
        except Failed as failed:
            if not failed.passing:
                raise
        time.sleep(AGAIN_S * 4**n)
    return once()

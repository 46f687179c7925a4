"""What commits and trees tell, for `diff`. Reads only, through GitPython.

Rules for editing: one `Repo` for one question, always closed, never handed to another thread (a shared one gave wrong objects and
hung when this project tried it). A person's text is resolved to a commit id first and never reaches git where an option could
stand; paths come after `--`. Nothing configured in the repository runs: no external diff, no text conversion, no pager. Import
this module where it is used: GitPython takes 70 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from git import Repo
from git.exc import GitCommandError, InvalidGitRepositoryError, NoSuchPathError

from swarm.edge.git import CommitFacts, lines_of, parse_commit
from swarm.edge.git.call import environment
from swarm.errors import SwarmError, UsageError

DIFF_MAX_BYTES = 4 * 1024 * 1024
CUT = b"[cut after %d bytes]\n"  # the last line of a patch that was more than so many


def commit_facts(path: Path, rev: str) -> CommitFacts:
    """Gives what the commit that `rev` names says. Raises `UsageError` where there is none."""
    with _opened(path) as repo:
        oid = _resolve(repo, rev)
        return parse_commit(oid, _output(repo, "cat-file", "commit", oid))


def patch(
    path: Path,
    base: str,
    head: str,
    paths: Sequence[str] | None = None,
    *,
    binary: bool = False,
    max_bytes: int = DIFF_MAX_BYTES,
) -> bytes:
    """Gives the patch from `base` to `head`, of `paths` only where given; cut after `max_bytes` with a line that says so.

    With `binary` it holds binary files too, so that `git apply` can take it. Raises `UsageError` where one of the two is no commit.
    """
    with _opened(path) as repo:
        ends = (_resolve(repo, base), _resolve(repo, head))
        args = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "-M", *["--binary"] * binary, *ends)
        raw = _first_bytes(repo, (*args, "--", *(paths or ())), max_bytes + 1)
    if len(raw) <= max_bytes:
        return raw
    return raw[: raw.rfind(b"\n", 0, max_bytes) + 1] + CUT % max_bytes


def diff_stat(path: Path, base: str, head: str) -> dict[str, tuple[int, int]]:
    """Gives lines added and deleted for each file from `base` to `head`; (0, 0) for binary ones."""
    with _opened(path) as repo:
        ends = (_resolve(repo, base), _resolve(repo, head))
        out = _output(
            repo, "diff", "--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", *ends, "--"
        )
    return lines_of(out)


@contextmanager
def _opened(path: Path) -> Iterator[Repo]:
    try:
        opened = Repo(path)
    except (InvalidGitRepositoryError, NoSuchPathError) as problem:
        raise UsageError(f"{path} is not a git repository.", "Nothing was read.") from problem
    with opened as repo:
        # GitPython adds this to the process's own environment; naming folder and store keeps GIT_DIR and its like out.
        own = {"GIT_DIR": str(repo.git_dir), "GIT_COMMON_DIR": str(repo.common_dir)}
        store = {"GIT_OBJECT_DIRECTORY": f"{repo.common_dir}/objects", "GIT_ALTERNATE_OBJECT_DIRECTORIES": ""}
        repo.git.update_environment(**_decoded(environment(False, None)), **own, **store)
        yield repo


def _resolve(repo: Repo, rev: str) -> str:
    try:
        return (
            _output(repo, "rev-parse", "--verify", "--quiet", "--end-of-options", rev + "^{commit}")
            .decode()
            .strip()
        )
    except SwarmError as problem:
        raise UsageError(f"{rev!r} names no commit in {repo.git_dir}.", "Nothing was read.") from problem


def _output(repo: Repo, *args: str) -> bytes:
    try:
        out = repo.git.execute(["git", *args], stdout_as_string=False, strip_newline_in_stdout=False)
    except GitCommandError as problem:
        raise SwarmError(
            f"git {args[0]} failed: {str(problem.stderr).strip()}", "Nothing was read."
        ) from problem
    assert isinstance(out, bytes)
    return out


def _first_bytes(repo: Repo, args: Sequence[str], most: int) -> bytes:
    """Reads so much and no more: git is ended when there is more."""
    process = repo.git.execute(["git", *args], as_process=True)
    try:
        return bytes(process.stdout.read(most))
    finally:
        process.terminate()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        if process.proc is not None:
            process.proc.wait()


def _decoded(variables: Mapping[bytes, bytes]) -> dict[str, str]:
    return {os.fsdecode(name): os.fsdecode(value) for name, value in variables.items()}

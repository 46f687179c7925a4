"""Where a repository lies, what is checked out in it, whose it is; and whether this git can do what is needed.

Hides how git finds a repository. Rules for editing: every question is read-only and takes a person's text only after
`--end-of-options`.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from swarm.dataclass import dataclass
from swarm.edge.git.call import SETTINGS, GitError, Outcome, decode, encode, last_line, program, run
from swarm.edge.git.objects import Signature, is_object_id, write_commit
from swarm.edge.git.refs import end_of, read_ref
from swarm.errors import Refused, SwarmError, UsageError


@functools.lru_cache(maxsize=4)
def _merges_in_memory(_program: str, _changed_ns: int) -> str:
    """Tries an in-memory merge on two tiny commits, once per git binary: a version number says less than the deed."""
    with tempfile.TemporaryDirectory(prefix="swarm-probe-") as folder:
        run("init", "-q", "--bare", "--template=", folder, cwd=folder)
        tree = run("hash-object", "-w", "-t", "tree", "/dev/null", git_dir=folder).text
        who = Signature("swarm", "swarm@localhost", 0)
        base = write_commit(folder, tree, (), "base", who, who)
        sides = [write_commit(folder, tree, (base,), side, who, who) for side in ("one", "two")]
        asked = run("merge-tree", "--write-tree", "-z", "--name-only", *sides, git_dir=folder, ok=range(256))
    return (
        ""
        if asked.code == 0 and asked.out.startswith(encode(tree))
        else asked.err or f"exit status {asked.code}"
    )


def probe() -> None:
    """Raises `GitError` where the git on PATH can't merge in memory (`merge-tree --write-tree`, git 2.38). Cached per binary."""
    binary = program(os.environ.get("PATH"))
    problem = _merges_in_memory(binary, os.stat(binary).st_mtime_ns)
    if problem:
        version = run("--version").text
        raise GitError(
            (binary, "merge-tree"),
            None,
            problem,
            cause=f"This git can't merge in memory ({version}): {last_line(problem)}",
            next_step="install git 2.38 or newer",
        )


class Held(NamedTuple):
    """Where a branch is held by what is under way in a checkout, a `rebase` or a `bisect`: HEAD is detached there, and its end
    moves the branch, or puts it back to where it stood. Git itself moves no such branch."""

    place: Path
    what: str

    @property
    def ends(self) -> str:
        """What ends it."""
        git = f"git -C {self.place}"
        return f"{git} bisect reset" if self.what == "bisect" else f"{git} rebase --continue, or --abort"


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a repository lies, in real paths.

    `git_dir` is the worktree's own, `common_dir` that of all worktrees; `top` is None in a bare one.
    """

    top: Path | None
    git_dir: Path
    common_dir: Path
    object_format: str
    is_bare: bool

    @classmethod
    def discover(cls, path: Path | str) -> Repository:
        """Finds the repository that holds `path`. Raises `UsageError` where there is none or git refuses it."""
        asked = _rev_parse(path, *_FACTS, *_PATHS)
        lines = decode(asked.out).removesuffix("\n").split("\n")
        if len(lines) < 4:
            raise _not_found(path, asked.err)
        (bare, object_format), places = lines[:2], lines[2:]
        if len(places) != len(_PATHS) - (asked.code != 0):  # there is a line end in one of them
            places = [decode(_rev_parse(path, each).out).removesuffix("\n") for each in _PATHS]
        git_dir, common, *tops = places
        top = tops[0] if tops and asked.code == 0 else None
        return cls(
            top=Path(os.path.realpath(top)) if top else None,
            git_dir=Path(os.path.realpath(git_dir)),
            common_dir=Path(os.path.realpath(common)),
            object_format=object_format,
            is_bare=bare == "true",
        )

    def working_top(self) -> Path:
        """Gives the top of the worktree. Raises `UsageError` in a bare repository and inside a `.git` folder."""
        if self.top is None:
            raise UsageError(
                f"{self.git_dir} is {'a bare repository' if self.is_bare else 'the inside of a repository'}, not a checkout.",
                "Workers need a main checkout in which their worktrees can lie; a linked worktree of a bare repository is none.",
                "git clone it, and run the command in the clone",
            )
        return self.top

    def head_commit(self) -> str:
        """Gives the commit that is checked out. Raises `UsageError` before the first commit."""
        commit = self.resolve("HEAD")
        if commit is None:
            raise UsageError(
                f"{self.top or self.git_dir} has no commit yet.",
                "A run starts from a commit.",
                "git commit --allow-empty -m 'first commit'",
            )
        return commit

    def resolve(self, rev: str) -> str | None:
        """Gives the commit that `rev` names, or None; `rev` may be a person's text."""
        args = ("rev-parse", "--verify", "--quiet", "--end-of-options", rev + "^{commit}")
        asked = run(*args, git_dir=self.git_dir, ok=(0, 1, 128))
        return asked.text if asked.code == 0 and is_object_id(asked.text) else None

    def branch_commit(self, name: str) -> str | None:
        """Gives the commit of the local branch `name` (without `refs/heads/`), or None."""
        return read_ref(self.common_dir, f"refs/heads/{name}")

    def branch_named(self, name: str) -> str:
        """Gives the local branch that somebody calls by any of the names that git has for it (`main`, `heads/main`,
        `refs/heads/main`; `HEAD` for the one that is checked out), or "" where that is none."""
        if name in ("HEAD", "@"):
            return self.head_branch() or ""
        names = (name, name.removeprefix("heads/"), name.removeprefix("refs/heads/"))
        return next((each for each in names if self.branch_commit(each)), "")

    def branch_meant(self, name: str) -> str:
        """Gives the branch that `name` stands for: another one where it is a symbolic ref, as git makes of one that was renamed."""
        return end_of(self.common_dir, f"refs/heads/{name}").removeprefix("refs/heads/")

    def head_branch(self) -> str | None:
        """Gives the branch that is checked out, or None when HEAD is detached."""
        asked = run("symbolic-ref", "--quiet", "HEAD", git_dir=self.git_dir, ok=(0, 1))
        return asked.text.removeprefix("refs/heads/") if asked.code == 0 else None

    def identity(self, role: str = "AUTHOR") -> tuple[str, str] | None:
        """Gives the user's name and address as git would use them for a commit now, as its author or its `COMMITTER`, or None when
        they are not set."""
        asked = run(
            "var",
            f"GIT_{role}_IDENT",
            git_dir=self.git_dir,
            user_config=True,
            ok=(0, 128),
            env=_EXPLICIT_IDENTITY,
        )
        found = re.match(r"(.*) <(.*)> \d+ [+-]\d+$", asked.text, re.DOTALL) if asked.code == 0 else None
        return (found[1], found[2]) if found and found[1] and found[2] else None

    def origin(self) -> str:
        """Gives what git resolves a submodule's relative address by in a checkout: where the remote `origin` is, or the only other
        one, else the checkout itself. A path is absolute."""
        asked = ("config", "-z", "--get-regexp", r"^remote\..*\.url$")
        listed = run(*asked, git_dir=self.git_dir, user_config=True, ok=(0, 1)).out
        pairs = (entry.partition("\n") for entry in decode(listed).split("\0") if entry)
        urls = {key.removeprefix("remote.").removesuffix(".url"): url for key, _, url in pairs}
        top = self.top or self.git_dir
        url = urls.get("origin") or (next(iter(urls.values())) if len(urls) == 1 else "")
        is_path = ":" not in url.partition("/")[0]  # else a scheme, or a host
        return os.path.normpath(top / url) if is_path else url

    def worktrees_of_branch(self, branch: str) -> list[Path]:
        """Lists the worktrees that have `branch` (without `refs/heads/`) checked out, also by a symbolic ref; those whose folder is
        not there are `away_with_branch`."""
        return [path for path in self._having(branch) if path.is_dir()]

    def away_with_branch(self, branch: str) -> list[Path]:
        """Lists where git knows worktrees that have `branch` checked out and are not there: deleted, moved, or on another disk."""
        return [path for path in self._having(branch) if not path.is_dir()]

    def _having(self, branch: str) -> list[Path]:
        if not self._is_some_head(f"refs/heads/{branch}"):
            return []
        found: list[Path] = []
        current = ""
        # The first is the main checkout. Of one made with --separate-git-dir git knows no place, and says its git folder.
        main = self.top if self.git_dir == self.common_dir else None
        for item in decode(run("worktree", "list", "--porcelain", "-z", git_dir=self.common_dir).out).split(
            "\0"
        ):
            if item.startswith("worktree "):
                current = str(main or item.removeprefix("worktree "))
                main = None
            elif item == f"branch refs/heads/{branch}":
                found.append(Path(current))
        return found

    def _is_some_head(self, ref: str) -> bool:
        """Tells without a process, save for symbolic refs, whether any worktree's HEAD may come to this ref; where refs are kept
        otherwise any may."""
        if (self.common_dir / "reftable").is_dir():
            return True
        lines = {_first_line(f"{admin}/HEAD") for admin in self._admins()}
        heads = {line.removeprefix("ref: ") for line in lines if line.startswith("ref: ")}
        return ref in heads or any(end_of(self.common_dir, head) == ref for head in heads)

    def _admins(self) -> list[str]:
        """Lists the folders in which git keeps what is each checkout's own, that of the main one first."""
        top = str(self.common_dir)
        try:
            folders = os.listdir(f"{top}/worktrees")
        except FileNotFoundError:
            folders = []
        return [top, *(f"{top}/worktrees/{name}" for name in folders)]

    def holding(self, branch: str) -> Held | None:
        """Finds the rebase or bisection under way that holds `branch` (without `refs/heads/`); one in a checkout whose folder is
        gone holds nothing. Reads files, which are the same however refs are kept, and starts no process."""
        for admin in self._admins():
            what = _under_way(admin, branch)
            place = self._checkout_of(admin) if what else None
            if place is not None:
                return Held(place, what)
        return None

    def _checkout_of(self, admin: str) -> Path | None:
        if admin != str(self.common_dir):
            place = Path(admin, _first_line(f"{admin}/gitdir")).parent  # which may be relative to it
        elif self.git_dir == self.common_dir and self.top is not None:
            place = self.top
        else:  # we stand in a linked worktree, and have no need to know more than where to type git
            place = self.common_dir.parent if self.common_dir.name == ".git" else self.common_dir
        return Path(os.path.realpath(place)) if place.is_dir() else None


_FACTS = ("--is-bare-repository", "--show-object-format")
_ABSOLUTE = "--path-format=absolute"
_PATHS = (
    "--absolute-git-dir",
    "--git-common-dir",
    "--show-toplevel",
)  # where there is no checkout, the last is none


def _rev_parse(cwd: Path | str, *asked: str) -> Outcome:
    return run("rev-parse", _ABSOLUTE, *asked, cwd=cwd, user_config=True, ok=(0, 128))


def _under_way(admin: str, branch: str) -> str:
    """Tells what is under way in a checkout that holds a branch, as git's own `branch --force` looks at it; "" where nothing is."""
    ref = f"refs/heads/{branch}"
    if os.path.isdir(merge := f"{admin}/rebase-merge"):
        # With --update-refs it moves other branches on its way: three lines for each, of which the first is the name.
        moved = _first_line(f"{merge}/update-refs").split("\n")[::3]
        if ref in (_first_line(f"{merge}/head-name"), *moved):
            return "rebase"
    apply = f"{admin}/rebase-apply"
    is_rebase = os.path.isdir(apply) and not os.path.exists(f"{apply}/applying")  # else it is `git am`
    if is_rebase and _first_line(f"{apply}/head-name") == ref:
        return "rebase"
    begun = os.path.exists(f"{admin}/BISECT_LOG")
    return "bisect" if begun and _first_line(f"{admin}/BISECT_START") in (branch, ref) else ""


def _first_line(path: Path | str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


# `git var` would make up an identity from the host's name; user.useConfigOnly=true makes it say that there is none.
_EXPLICIT_IDENTITY = {
    "GIT_CONFIG_COUNT": str(len(SETTINGS) + 1),
    f"GIT_CONFIG_KEY_{len(SETTINGS)}": "user.useConfigOnly",
    f"GIT_CONFIG_VALUE_{len(SETTINGS)}": "true",
}


def _not_found(path: Path | str, err: str) -> SwarmError:
    if "dubious ownership" in err:
        return Refused(
            f"git refuses {path}: it belongs to somebody else.",
            "Nothing was done.",
            f"git config --global --add safe.directory {path}",
        )
    if "not a git repository" in err:
        return UsageError(
            f"{path} is not in a git repository.",
            "Nothing was done.",
            "git init, or -C DIR to name another folder",
        )
    return GitError(("git", "rev-parse"), 128, err)

"""The only place where the git program is run: clean environment, time limit, outcomes as values.

Rules for editing: nothing outside this file starts git (GitPython in `edge/history` reads only). Every call is a list of arguments,
never a shell string; it inherits no `GIT_*` variable, runs no hook, no fsmonitor, no automatic gc, asks nothing on a terminal, and
is killed with all its children when its time is up. *Sealed* calls see no settings but the repository's own; `user_config=True`
lets the user's global settings count as well, which filters and identity in their worktrees need. Paths are bytes in git:
they are decoded as UTF-8 with surrogateescape. An exit status that was not expected is a `GitError`, and never "a conflict".
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from swarm.errors import Refused, SwarmError, UsageError

ZERO = "0" * 40
OUTPUT_MAX_BYTES = 256 * 1024 * 1024
STDERR_KEPT_BYTES = 16 * 1024

# In force in every call, by environment so that argument lists stay short and nobody's files change. The command-line scope
# beats every settings file. Why each is there: git hazards measured for this project (hooks and fsmonitor of a shared repository
# ran in the coordinator; automatic gc and short lock waits made other people's commits fail; by default 2.39 fsyncs no ref).
_SETTINGS = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("gc.auto", "0"),
    ("gc.worktreePruneExpire", "never"),
    ("maintenance.auto", "false"),
    ("core.packedRefsTimeout", "10000"),
    ("core.filesRefLockTimeout", "2000"),
    ("core.fsync", "committed,reference"),
    ("protocol.allow", "user"),
    ("rerere.enabled", "false"),
    ("submodule.recurse", "false"),
)
# The three that say which settings files are the user's; any other GIT_* may come from a hook that started us.
_USERS_OWN = frozenset({"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"})
_IDENTITY = frozenset({"GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: exit status, what it wrote to stdout, and the end of what it wrote to stderr."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Stdout as text, without the line end."""
        return decode(self.out).rstrip("\n")


class GitError(SwarmError):
    """Git could not do what was asked: `argv`, `code` (None where it never started or was killed) and the last line of stderr."""

    def __init__(
        self, argv: Sequence[str], code: int | None, err: str, *, cause: str = "", next_step: str = ""
    ) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.err = last_line(err)
        what = _command_name(argv)
        super().__init__(cause or f"git {what} failed: {self.err or f'exit status {code}'}", "", next_step)


class GitTimedOut(GitError):
    """Git did not end within its time limit and was killed with all its children."""


def decode(raw: bytes) -> str:
    """Decodes what git printed; bytes that are no UTF-8 survive the way back through `encode`."""
    return raw.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Encodes text for git, the inverse of `decode`."""
    return text.encode("utf-8", "surrogateescape")


def last_line(text: str) -> str:
    """Gives the last line that says something."""
    for line in reversed(text.splitlines()):
        if line.strip():
            return line.strip()
    return ""


def _command_name(argv: Sequence[str]) -> str:
    return next((arg for arg in argv[1:] if not arg.startswith("-")), "")


# --- running ----------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _program(path: str | None) -> str:
    found = shutil.which("git", path=path)
    if found is None:
        raise GitError(
            ("git",),
            None,
            "",
            cause="The git program was not found on PATH.",
            next_step="install git 2.38 or newer",
        )
    return found


@functools.lru_cache(maxsize=8)
def _base_environment(user_config: bool, path: str | None) -> dict[str, str]:
    """Builds the environment of a call once; keyed by PATH so that a changed PATH is noticed."""
    if user_config:
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("GIT_") or k in _USERS_OWN or k in _IDENTITY
        }
        kept.pop("PWD", None)
    else:
        kept = {name: os.environ[name] for name in ("TMPDIR", "TZ") if name in os.environ}
        # A HOME below a device can't be filled by anybody.
        kept |= {"HOME": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
        kept |= {"GIT_ATTR_NOSYSTEM": "1", "GIT_GRAFT_FILE": "/dev/null/none"}
    kept["PATH"] = path if path is not None else os.defpath
    kept |= {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
    }
    for number, (key, value) in enumerate(_SETTINGS):
        kept[f"GIT_CONFIG_KEY_{number}"] = key
        kept[f"GIT_CONFIG_VALUE_{number}"] = value
    return kept


def _environment(user_config: bool, extra: Mapping[str, str] | None) -> dict[str, str]:
    base = _base_environment(user_config, os.environ.get("PATH"))
    return {**base, **extra} if extra else base


def _argv(args: Sequence[str], git_dir: Path | str | None, work_tree: Path | str | None) -> list[str]:
    argv = [_program(os.environ.get("PATH"))]
    if git_dir is not None:
        argv.append(f"--git-dir={git_dir}")
    if work_tree is not None:
        argv.append(f"--work-tree={work_tree}")
    argv.extend(args)
    return argv


def _spawn(
    argv: Sequence[str],
    cwd: Path | str | None,
    environment: Mapping[str, str],
    stdin: int | IO[bytes],
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    # A session of its own makes one process group of git and all it starts; "/" is no repository and can't be removed.
    try:
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd or "/",
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as problem:
        raise GitError(argv, None, str(problem), cause=f"git could not be started: {problem}") from problem


def run(
    *args: str,
    git_dir: Path | str | None = None,
    work_tree: Path | str | None = None,
    cwd: Path | str | None = None,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
    ok: Collection[int] = (0,),
    user_config: bool = False,
    output_max_bytes: int = OUTPUT_MAX_BYTES,
) -> Outcome:
    """Runs one git command and gives its outcome. Thread-safe.

    With `git_dir` no repository is looked for; without it and without `cwd` none is found. `env` is added to the clean
    environment. Raises `GitTimedOut` after `timeout_s` seconds and `GitError` for an exit status outside `ok`, for more
    than `output_max_bytes` of output, and where git can't be started.
    """
    argv = _argv(args, git_dir, work_tree)
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    child = _spawn(argv, cwd, _environment(user_config, env), stdin)
    try:
        out, err = _exchange(child, argv, input or b"", time.monotonic() + timeout_s, output_max_bytes)
    except BaseException:
        _kill_group(child)
        raise
    code = child.returncode
    if code not in ok:
        raise GitError(argv, code, err)
    return Outcome(code, out, err)


def _exchange(
    child: subprocess.Popen[bytes], argv: Sequence[str], data: bytes, deadline: float, output_max: int
) -> tuple[bytes, str]:
    """Feeds and drains a child until it has ended, without threads and without polling."""
    out: list[bytes] = []
    err = b""
    size = 0
    pending = memoryview(data)
    poller = select.poll()
    streams: dict[int, IO[bytes]] = {}
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            streams[stream.fileno()] = stream
            poller.register(stream, select.POLLIN)
    if child.stdin is not None:
        os.set_blocking(child.stdin.fileno(), False)
        in_fd = child.stdin.fileno()
        pending = _feed(child.stdin, pending)
        if pending:
            poller.register(in_fd, select.POLLOUT)
    out_fd = child.stdout.fileno() if child.stdout is not None else -1
    while streams:
        for fd, _event in poller.poll(_left_ms(argv, deadline)):
            if fd not in streams:
                assert child.stdin is not None
                pending = _feed(child.stdin, pending)
                if not pending:
                    poller.unregister(fd)
                continue
            chunk = os.read(fd, 65536)
            if not chunk:
                poller.unregister(fd)
                streams.pop(fd).close()
            elif fd == out_fd:
                out.append(chunk)
                size += len(chunk)
                if size > output_max:
                    raise GitError(
                        argv, None, "", cause=f"git {_command_name(argv)} wrote more than {output_max} bytes."
                    )
            else:
                err = (err + chunk)[-STDERR_KEPT_BYTES:]
    _await_end(child, argv, deadline)
    return b"".join(out), decode(err)


def _feed(stdin: IO[bytes], pending: memoryview) -> memoryview:
    """Writes what the pipe takes, gives what is left, and closes the pipe when nothing is or when nobody reads any more."""
    try:
        while pending:
            pending = pending[os.write(stdin.fileno(), pending[:65536]) :]
    except BlockingIOError:
        return pending
    except BrokenPipeError:
        pending = pending[:0]
    stdin.close()
    return pending


def _left_ms(argv: Sequence[str], deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise GitTimedOut(
            argv,
            None,
            "",
            cause=f"git {_command_name(argv)} did not end within its time limit and was killed.",
        )
    return left * 1000 + 1


def _await_end(child: subprocess.Popen[bytes], argv: Sequence[str], deadline: float) -> None:
    """Waits by pidfd: the output pipes close a moment before the child can be reaped."""
    if child.poll() is not None:
        return
    try:
        pidfd = os.pidfd_open(child.pid)
    except ProcessLookupError:
        child.wait()
        return
    try:
        waiter = select.poll()
        waiter.register(pidfd, select.POLLIN)
        while not waiter.poll(_left_ms(argv, deadline)):
            pass
    finally:
        os.close(pidfd)
    child.wait()


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Ends a child with all that is in its session's first group, and reaps it."""
    if child.returncode is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def pipe(
    first: Sequence[str],
    second: Sequence[str],
    *,
    first_git_dir: Path | str,
    second_git_dir: Path | str,
    input: bytes = b"",
    first_env: Mapping[str, str] | None = None,
    second_env: Mapping[str, str] | None = None,
    timeout_s: float = 600.0,
) -> Outcome:
    """Runs `first | second`, both sealed, and gives what the second printed. Raises `GitError` for the first that fails."""
    deadline = time.monotonic() + timeout_s
    producer_argv = _argv(first, first_git_dir, None)
    consumer_argv = _argv(second, second_git_dir, None)
    with (
        tempfile.TemporaryFile() as said
    ):  # a file, so that a talkative producer can't block on a pipe nobody drains
        producer = _spawn(
            producer_argv, None, _environment(False, first_env), subprocess.PIPE, stderr=said.fileno()
        )
        consumer: subprocess.Popen[bytes] | None = None
        try:
            assert producer.stdout is not None
            consumer = _spawn(consumer_argv, None, _environment(False, second_env), producer.stdout)
            producer.stdout.close()
            _write_all(producer, producer_argv, input, deadline)
            out, err = _exchange(consumer, consumer_argv, b"", deadline, OUTPUT_MAX_BYTES)
            _await_end(producer, producer_argv, deadline)
        except BaseException:
            _kill_group(producer)
            if consumer is not None:
                _kill_group(consumer)
            raise
        said.seek(max(0, said.seek(0, os.SEEK_END) - STDERR_KEPT_BYTES))
        first_err = decode(said.read())
    # A producer that fails makes the consumer fail too; a consumer that fails first kills the producer by SIGPIPE.
    if producer.returncode not in (0, -signal.SIGPIPE):
        raise GitError(producer_argv, producer.returncode, first_err)
    if consumer.returncode != 0:
        raise GitError(consumer_argv, consumer.returncode, err)
    return Outcome(0, out, err)


def _write_all(child: subprocess.Popen[bytes], argv: Sequence[str], data: bytes, deadline: float) -> None:
    assert child.stdin is not None
    fd = child.stdin.fileno()
    os.set_blocking(fd, False)
    pending = _feed(child.stdin, memoryview(data))
    if pending:
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        while pending:
            poller.poll(_left_ms(argv, deadline))
            pending = _feed(child.stdin, pending)


# --- repositories -----------------------------------------------------------------------------------------------------------


class Signature(NamedTuple):
    """A name, an address and a time (seconds since the epoch) with its zone, as a commit records them."""

    name: str
    email: str
    at: float
    zone: str = "+0000"


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
    program = _program(os.environ.get("PATH"))
    problem = _merges_in_memory(program, os.stat(program).st_mtime_ns)
    if problem:
        version = run("--version").text
        raise GitError(
            (program, "merge-tree"),
            None,
            problem,
            cause=f"This git can't merge in memory ({version}): {last_line(problem)}",
            next_step="install git 2.38 or newer",
        )


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
    is_shallow: bool

    @classmethod
    def discover(cls, path: Path | str) -> Repository:
        """Finds the repository that holds `path`. Raises `UsageError` where there is none or git refuses it."""
        asked = run(
            "rev-parse",
            "--is-bare-repository",
            "--is-shallow-repository",
            "--show-object-format",
            "--absolute-git-dir",
            "--path-format=absolute",
            "--git-common-dir",
            "--show-toplevel",
            cwd=path,
            user_config=True,
            ok=(0, 128),
        )
        lines = decode(asked.out).splitlines()
        if len(lines) < 5:
            raise _not_found(path, asked.err)
        bare, shallow, object_format, git_dir, common = lines[:5]
        top = "\n".join(lines[5:]) if asked.code == 0 else None
        return cls(
            top=Path(os.path.realpath(top)) if top else None,
            git_dir=Path(os.path.realpath(git_dir)),
            common_dir=Path(os.path.realpath(common)),
            object_format=object_format,
            is_bare=bare == "true",
            is_shallow=shallow == "true",
        )

    def working_top(self) -> Path:
        """Gives the top of the worktree. Raises `UsageError` in a bare repository and inside a `.git` folder."""
        if self.top is None:
            raise UsageError(
                f"{self.git_dir} is {'a bare repository' if self.is_bare else 'the inside of a repository'}, not a checkout.",
                "Workers need a checkout beside which their worktrees can lie.",
                "run the command in a checkout of it (git worktree add, or git clone)",
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

    def head_branch(self) -> str | None:
        """Gives the branch that is checked out, or None when HEAD is detached."""
        asked = run("symbolic-ref", "--quiet", "HEAD", git_dir=self.git_dir, ok=(0, 1))
        return asked.text.removeprefix("refs/heads/") if asked.code == 0 else None

    def identity(self) -> tuple[str, str] | None:
        """Gives the user's name and address as git would use them for a commit, or None when they are not set."""
        asked = run(
            "var",
            "GIT_AUTHOR_IDENT",
            git_dir=self.git_dir,
            user_config=True,
            ok=(0, 128),
            env=_EXPLICIT_IDENTITY,
        )
        found = re.match(r"(.*) <(.*)> \d+ [+-]\d+$", asked.text, re.DOTALL) if asked.code == 0 else None
        return (found[1], found[2]) if found and found[1] and found[2] else None

    def is_dirty(self) -> bool:
        """Tells whether tracked files of this worktree differ from its HEAD."""
        args = ("status", "--porcelain", "-z", "--untracked-files=no")
        return bool(
            run(*args, git_dir=self.git_dir, work_tree=self.working_top(), cwd=self.top, user_config=True).out
        )

    def worktrees_of_branch(self, branch: str) -> list[Path]:
        """Lists the worktrees that have `branch` (without `refs/heads/`) checked out."""
        found: list[Path] = []
        current = ""
        for item in decode(run("worktree", "list", "--porcelain", "-z", git_dir=self.common_dir).out).split(
            "\0"
        ):
            if item.startswith("worktree "):
                current = item.removeprefix("worktree ")
            elif item == f"branch refs/heads/{branch}":
                found.append(Path(current))
        return found

    def config(self, key: str) -> str | None:
        """Gives the value of a setting as git would use it in this repository, the user's own settings included, or None."""
        asked = run("config", "--get", key, git_dir=self.git_dir, user_config=True, ok=(0, 1))
        return asked.text if asked.code == 0 else None


# `git var` would make up an identity from the host's name; user.useConfigOnly=true makes it say that there is none.
_EXPLICIT_IDENTITY = {
    "GIT_CONFIG_COUNT": str(len(_SETTINGS) + 1),
    f"GIT_CONFIG_KEY_{len(_SETTINGS)}": "user.useConfigOnly",
    f"GIT_CONFIG_VALUE_{len(_SETTINGS)}": "true",
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


_OBJECT_ID = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")


def is_object_id(text: str) -> bool:
    """Tells whether `text` is a full object id."""
    return _OBJECT_ID.match(text) is not None


def read_ref(common_dir: Path | str, ref: str) -> str | None:
    """Gives the object that a full ref name holds, or None. A loose ref costs no process; packed ones and reftable do."""
    try:
        with open(os.path.join(common_dir, ref), "rb") as file:
            held = file.read(128).decode("ascii", "replace").rstrip("\n")
        if is_object_id(held):
            return held
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        pass
    listed = run("for-each-ref", "--format=%(objectname) %(refname)", ref, git_dir=common_dir).text
    for line in listed.splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return None


# --- objects written without a process -----------------------------------------------------------------------------------


def write_commit(
    git_dir: Path | str,
    tree: str,
    parents: Iterable[str],
    message: str,
    author: Signature,
    committer: Signature,
    *,
    encoding: str = "",
    durable: bool = True,
) -> str:
    """Writes a commit object and gives its id; the same arguments give the same id. Costs no process.

    The caller vouches that tree and parents are there. `git_dir` is the common one. With `durable` false no fsync is
    made: for objects that can be made again. Raises `OSError` where the disk refuses.
    """
    head = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
    head += [f"author {_ident(author)}", f"committer {_ident(committer)}"]
    if encoding:
        head.append(f"encoding {encoding}")
    text = message.replace("\0", "")
    body = encode("\n".join(head) + "\n\n" + (text if text.endswith("\n") else text + "\n"))
    return _write_loose(
        os.path.join(git_dir, "objects"), b"commit", body, sha256=len(tree) == 64, durable=durable
    )


def _ident(who: Signature) -> str:
    name = re.sub(r"[<>\n\0]", "", who.name).strip() or "swarm"
    email = re.sub(r"[<>\n\0\s]", "", who.email)
    return f"{name} <{email}> {int(who.at)} {who.zone}"


def _write_loose(objects: str, kind: bytes, body: bytes, *, sha256: bool, durable: bool) -> str:
    """Writes one loose object the way git does: temporary file, fsync, read-only, moved to its name in one step."""
    raw = kind + b" %d\0" % len(body) + body
    name = (hashlib.sha256(raw) if sha256 else hashlib.sha1(raw, usedforsecurity=False)).hexdigest()
    folder = os.path.join(objects, name[:2])
    path = os.path.join(folder, name[2:])
    if os.path.exists(path):
        return name
    try:
        fd, temporary = tempfile.mkstemp(prefix="tmp_obj_", dir=folder)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        fd, temporary = tempfile.mkstemp(prefix="tmp_obj_", dir=folder)
    try:
        with open(fd, "wb") as file:
            file.write(zlib.compress(raw, 1))
            os.fchmod(fd, 0o444)
            file.flush()
            if durable:
                os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return name

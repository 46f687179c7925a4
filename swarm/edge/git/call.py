"""One git process: how it is started, fed, drained, limited and ended.

Hides the process and its environment. Rules for editing: every call goes through `command`, `environment` and `spawn`; a child
is never waited for without a deadline, and what ends it ends its whole group.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from swarm.dataclass import dataclass
from swarm.edge import trouble
from swarm.edge.process import NONCE_NAME
from swarm.errors import SwarmError

OUTPUT_MAX_BYTES = 256 * 1024 * 1024
STDERR_KEPT_BYTES = 16 * 1024

# In force in every call, by environment so that argument lists stay short and nobody's files change. The command-line scope
# beats every settings file. Why each is there: git hazards measured for this project (hooks and fsmonitor of a shared repository
# ran in the coordinator; automatic gc and short lock waits made other people's commits fail; by default 2.39 fsyncs no ref).
SETTINGS = (
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
_INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The three that say which settings files are the user's; any other GIT_* may come from a hook that started us.
OURSELVES = {"NAME": "swarm", "EMAIL": "swarm@localhost"}
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


# Git's own words, in its convert.c; before them it says which program failed, and how.
_FILTER = re.compile(r"^fatal: (.+): (smudge|clean) filter '?(.+?)'? failed$", re.MULTILINE)
_FILTER_SAID = re.compile(r"^error: (external filter '.*' failed.*)$", re.MULTILINE)


class GitError(SwarmError):
    """Git could not do what was asked.

    Holds `argv`, `code` (None where it never started or was killed) and, as `err`, the line of stderr that says most; `errno` is
    the machine's trouble that git complains of, or for which it did not start; `judgement` is what git finds wrong with an
    object, "" where it failed for another reason.
    """

    def __init__(
        self, argv: Sequence[str], code: int | None, err: str, *, cause: str = "", next_step: str = ""
    ) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.err = last_line(err)
        self.errno = trouble.named_in(err)
        self.judgement = _judgement(err)
        if not cause:
            cause, next_step = of_filter(err) or (_failed(argv, code, self.err), next_step)
        super().__init__(cause, "", next_step)


class GitTimedOut(GitError):
    """Git did not end within its time limit and was killed with all its children."""


class GitEnded(GitError):
    """Git was ended since nobody waits for what it reads, see `Reader`."""


def decode(raw: bytes) -> str:
    """Decodes what git printed; bytes that are no UTF-8 survive the way back through `encode`."""
    return raw.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Encodes text for git, the inverse of `decode`."""
    return text.encode("utf-8", "surrogateescape")


def last_line(text: str) -> str:
    """Gives the line of git's complaint that says most: the last with `fatal:` or `error:`, else the last with anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    complaints = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (complaints or lines or [""])[-1]


def _judgement(err: str) -> str:
    if "fsck error" not in err:
        return ""
    told = (line for line in err.splitlines() if line.startswith("error: object "))
    return next(told, last_line(err)).removeprefix("error: ")


def _failed(argv: Sequence[str], code: int | None, err: str) -> str:
    return f"git {_command_name(argv)} failed: {err or f'exit status {code}'}"


def of_filter(err: str) -> tuple[str, str] | None:
    """Gives cause and next step where a filter that the user's settings call required did not do its work: until it does, nothing
    can be checked out, or nothing taken in, and git names no setting."""
    found = _FILTER.search(err)
    if found is None:
        return None
    path, way, name = found[1], found[2], found[3]
    does = "check {} out" if way == "smudge" else "take {} in"
    said = _FILTER_SAID.search(err)
    why = f" ({said[1]})" if said is not None else ""
    mend = (
        f"mend or install what {shlex.join(('git', 'config', '--get-regexp', f'^filter[.]{name}[.]'))} shows"
    )
    instead = shlex.join(("git", "config", f"filter.{name}.required", "false"))
    return (
        f"git can't {does.format(path)}: its filter {name}, which your settings call required, fails{why}.",
        f"{mend}; or {instead}, which takes files as they are without it",
    )


def _command_name(argv: Sequence[str]) -> str:
    words = iter(argv[1:])
    for word in words:
        if word == "-c":
            next(words, "")
        elif not word.startswith("-"):
            return word
    return ""


# --- running ----------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def program(path: str | None) -> str:
    """Finds git on `path`; raises `GitError` where there is none."""
    found = shutil.which("git", path=path)
    if found is None:
        raise _not_started(
            ("git",), errno.ENOENT, "The git program was not found on PATH.", "install git 2.38 or newer"
        )
    return found


def _not_started(argv: Sequence[str], why: int | None, cause: str, next_step: str) -> GitError:
    """Gives the error of a git that did not start for want of something of the machine's: it says nothing of what was asked."""
    error = GitError(argv, None, "", cause=cause, next_step=next_step)
    error.errno = why
    return error


# NONCE_NAME tells whose a git is that outlived its daemon.
_KEPT = frozenset({*_USERS_OWN, *_IDENTITY, NONCE_NAME})
_WATCHED = ("PATH", "HOME", "XDG_CONFIG_HOME", *sorted(_KEPT))
_WATCHED_SEALED = (NONCE_NAME,)


@functools.lru_cache(maxsize=8)
def _base_environment(
    user_config: bool, _watched: tuple[str | None, ...], path: str | None
) -> dict[bytes, bytes]:
    """Builds the environment of a call once, as it is handed over; what decides it is in the key, so that a change is noticed."""
    if user_config:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "SWARM_")) or k in _KEPT}
        kept.pop("PWD", None)
    else:
        kept = {name: os.environ[name] for name in ("TMPDIR", "TZ", NONCE_NAME) if name in os.environ}
        # A HOME below a device can't be filled by anybody.
        kept |= {"HOME": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
        kept |= {"GIT_ATTR_NOSYSTEM": "1", "GIT_GRAFT_FILE": "/dev/null/none"}
        # Reflogs name somebody; without these git would ask the network for the host's name.
        kept |= {
            f"GIT_{who}_{what}": OURSELVES[what] for who in ("AUTHOR", "COMMITTER") for what in OURSELVES
        }
    kept["PATH"] = path if path is not None else os.defpath
    kept |= {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_CONFIG_COUNT": str(len(SETTINGS)),
    }
    for number, (key, value) in enumerate(SETTINGS):
        kept[f"GIT_CONFIG_KEY_{number}"] = key
        kept[f"GIT_CONFIG_VALUE_{number}"] = value
    return _encoded(kept)


def _encoded(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


def environment(user_config: bool, extra: Mapping[str, str] | None) -> dict[bytes, bytes]:
    """Gives the clean environment of a call, with `extra` added; encoded, since that takes longer than to hand it over."""
    path = os.environ.get("PATH")
    watched = tuple(os.environ.get(name) for name in (_WATCHED if user_config else _WATCHED_SEALED))
    base = _base_environment(user_config, watched, path)
    return {**base, **_encoded(extra)} if extra else base


def command(args: Sequence[str], git_dir: Path | str | None, work_tree: Path | str | None) -> list[str]:
    """Gives the argument list of a call."""
    argv = [program(os.environ.get("PATH"))]
    if git_dir is not None:
        argv.append(f"--git-dir={git_dir}")
    if work_tree is not None:
        argv.append(f"--work-tree={work_tree}")
    argv.extend(args)
    return argv


def spawn(
    argv: Sequence[str],
    cwd: Path | str | None,
    environment: Mapping[bytes, bytes],
    stdin: int | IO[bytes],
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Starts a child in a session of its own. Raises `GitError` where the system refuses."""
    # A session of its own makes one process group of git and all it starts; "/" is no repository and can't be removed.
    try:
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=cwd or "/",
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as problem:
        cause = _no_place(argv, cwd, problem) or f"git could not be started: {problem}"
        raise _not_started(argv, problem.errno, cause, "see to that, then again") from problem


def _no_place(argv: Sequence[str], cwd: Path | str | None, problem: OSError) -> str:
    """Says what is wrong with the folder in which git was to run, where that is what kept it; "" else."""
    how = {errno.ENOENT: "is gone", errno.ENOTDIR: "is no folder", errno.EACCES: "may not be entered"}
    if not cwd or str(cwd) != str(problem.filename) or problem.errno not in how:
        return ""
    return f"git {_command_name(argv)} could not be started in {cwd}, which {how[problem.errno]}."


_readers: set[subprocess.Popen[bytes]] = set()


class Reader:
    """Who has git read all that somebody left, one command after the other, and may be told that nobody waits for it any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._ended = False

    def end(self) -> None:
        """Ends the command that runs, and each that would come: they raise `GitEnded`. Thread-safe."""
        with self._lock:
            self._ended = True
            if self._child is not None and self._child.poll() is None:
                _kill_groups([self._child])

    @contextlib.contextmanager
    def has(self, child: subprocess.Popen[bytes], argv: Sequence[str]) -> Iterator[None]:
        """Has a child be ended with it, while inside. Raises `GitEnded` where it is, instead of what came of that."""
        with self._lock:
            self._child = child
            _readers.add(child)
        try:
            self._raise_if_ended(argv)
            yield
        except GitError:
            self._raise_if_ended(argv)
            raise
        finally:
            with self._lock:
                self._child = None
                _readers.discard(child)

    def _raise_if_ended(self, argv: Sequence[str]) -> None:
        if self._ended:
            raise GitEnded(argv, None, "", cause=f"git {_command_name(argv)} was ended: nobody waits for it.")


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
    reader: Reader | None = None,
) -> Outcome:
    """Runs one git command and gives its outcome. Thread-safe. That of a `reader` is ended by it, and by `end_readers`.

    With `git_dir` no repository is looked for; without it and without `cwd` none is found. `env` is added to the clean
    environment. Raises `GitTimedOut` after `timeout_s` seconds and `GitError` for an exit status outside `ok`, for more
    than `output_max_bytes` of output, and where git can't be started.
    """
    argv = command(args, git_dir, work_tree)
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    child: subprocess.Popen[bytes] | None = None
    try:
        with _uninterrupted():
            child = spawn(argv, cwd, environment(user_config, env), stdin)
        with contextlib.nullcontext() if reader is None else reader.has(child, argv):
            out, err = _exchange(child, argv, input or b"", time.monotonic() + timeout_s, output_max_bytes)
            code = child.returncode
            # Whatever a status means, it does not mean it where git could not write, or not start what it needs.
            if code not in ok or (code != 0 and trouble.named_in(err) is not None):
                raise GitError(argv, code, err)
    except BaseException:
        if child is not None:
            kill_group(child)
        raise
    return Outcome(code, out, err)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Has Ctrl-C, and each signal that raises as it does, come at the end of the block: one that comes between the start of a child
    and its being known would leave it running, with nobody to end it."""
    if threading.current_thread() is not threading.main_thread():  # Python has signals raise in no other
        yield
        return
    came: list[int] = []
    before = {number: how for number in _INTERRUPTING if callable(how := signal.getsignal(number))}
    for number in before:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, how in before.items():
            signal.signal(number, how)
        if came:
            signal.raise_signal(came[0])


def end_readers() -> None:
    """Kills what runs of the commands that read all that somebody left: nothing else may take so long, and nothing is lost."""
    _kill_groups(list(_readers))


def _kill_groups(children: Iterable[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


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
        pending = feed(child.stdin, pending)
        if pending:
            poller.register(in_fd, select.POLLOUT)
    out_fd = child.stdout.fileno() if child.stdout is not None else -1
    while streams or pending:  # all that is to be said is said, even to a child that answers no more
        for fd, _event in poller.poll(left_ms(argv, deadline)):
            if fd not in streams:
                assert child.stdin is not None
                pending = feed(child.stdin, pending)
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


def feed(stdin: IO[bytes], pending: memoryview) -> memoryview:
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


def left_ms(argv: Sequence[str], deadline: float) -> float:
    """Gives the milliseconds until `deadline`; raises `GitTimedOut` when there are none."""
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
        while not waiter.poll(left_ms(argv, deadline)):
            pass
    finally:
        os.close(pidfd)
    child.wait()


def kill_group(child: subprocess.Popen[bytes]) -> None:
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
    second: Callable[[bytes], Sequence[str]],
    *,
    git_dir: Path | str,
    input: bytes = b"",
    first_env: Mapping[str, str] | None = None,
    second_env: Mapping[str, str] | None = None,
    timeout_s: float = 600.0,
) -> Outcome:
    """Runs `first | second`, both sealed, and gives what the second printed.

    `second` is chosen when the first 12 bytes of the stream (the header of a pack) are there; it is told them and must make
    its command know them, since they are not in its stdin any more. Raises `GitError` for the one that failed first.
    """
    deadline = time.monotonic() + timeout_s
    producer_argv = command(first, git_dir, None)
    consumer_argv: list[str] = []
    consumer: subprocess.Popen[bytes] | None = None
    # A file, so that a talkative producer can't block on a pipe nobody drains.
    with tempfile.TemporaryFile() as said:
        producer = spawn(
            producer_argv, None, environment(False, first_env), subprocess.PIPE, stderr=said.fileno()
        )
        out, err = b"", ""
        try:
            assert producer.stdout is not None
            _write_all(producer, producer_argv, input, deadline)
            header = _read_header(producer.stdout.fileno(), producer_argv, deadline)
            if header:
                consumer_argv = command(second(header), git_dir, None)
                consumer = spawn(consumer_argv, None, environment(False, second_env), producer.stdout)
            producer.stdout.close()
            if consumer is not None:
                out, err = _exchange(consumer, consumer_argv, b"", deadline, OUTPUT_MAX_BYTES)
            _await_end(producer, producer_argv, deadline)
        except BaseException:
            kill_group(producer)
            if consumer is not None:
                kill_group(consumer)
            raise
        said.seek(max(0, said.seek(0, os.SEEK_END) - STDERR_KEPT_BYTES))
        first_err = decode(said.read())
    # A producer that fails makes the consumer fail too; a consumer that fails first kills the producer by SIGPIPE.
    if consumer is None or producer.returncode not in (0, -signal.SIGPIPE):
        raise GitError(producer_argv, producer.returncode, first_err)
    if consumer.returncode != 0:
        raise GitError(consumer_argv, consumer.returncode, err)
    return Outcome(0, out, err)


def _read_header(fd: int, argv: Sequence[str], deadline: float) -> bytes:
    """Reads 12 bytes and not one more; gives nothing where the stream is shorter."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    header = b""
    while len(header) < 12:
        poller.poll(left_ms(argv, deadline))
        if poller.poll(0):
            chunk = os.read(fd, 12 - len(header))
            if not chunk:
                return b""
            header += chunk
    return header


def _write_all(child: subprocess.Popen[bytes], argv: Sequence[str], data: bytes, deadline: float) -> None:
    assert child.stdin is not None
    fd = child.stdin.fileno()
    os.set_blocking(fd, False)
    pending = feed(child.stdin, memoryview(data))
    if pending:
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        while pending:
            poller.poll(left_ms(argv, deadline))
            pending = feed(child.stdin, pending)

"""Worker processes: started so that they outlive the daemon, recognised after a restart, ended with all they started.

Hides sessions, signals and process descriptors (pidfd); the process table is `proctable`'s. A worker is a small shell
(`launcher.sh`) that leads a session of its own and runs the command in it. Three marks tell what belongs to a worker: its
session, the environment variable `SWARM_NONCE`, and descent; one more serves where a process shed those: the inherited
lock. A process that cleared its environment, left the session, lost its parent *and* closed the lock can't be told from
anybody else's: only who waits outside of a sandbox for it (bubblewrap's pid namespace, `landlock`'s parent of all orphans)
ends it.

Rules for editing: no process is signalled by its bare number, which may have a new owner: always through a descriptor
whose start time was compared. Never `preexec_fn` (it costs 25 ms with a large daemon, and deadlocks), never
PR_SET_PDEATHSIG (it fires when the starting thread ends). Everything here is synchronous and may be called from any
thread. Linux 5.4 or newer. Figures are at `members` and `start`.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from swarm.crashpoints import crash_at, for_launcher
from swarm.dataclass import dataclass
from swarm.edge import landlock, proctable
from swarm.edge.proctable import Identity as Identity
from swarm.edge.proctable import PidSpace, Stat, link, stat_of
from swarm.edge.proctable import boot_id as boot_id
from swarm.edge.trouble import raise_if_troubled
from swarm.errors import SwarmError

NONCE_NAME = "SWARM_NONCE"
IDENTITY_WAIT_S = 5.0  # for a launcher that holds the lock and has not yet written who it is
LAUNCHER_WAIT_S = 1.0  # for a launcher whose command has ended to write the exit status
KILL_BOUND_S = 10.0  # after this a tree that still has members is given up
ENVIRON_MAX_BYTES = 4 << 20

_SHELL = "/bin/sh"
_LAUNCHER = Path(__file__).with_name("launcher.sh")
_SANDBOX = b"bwrap"  # the name of the process that shuts a command in and waits for it; of Landlock's it is `landlock.NAME`
_RUNNING = b"run\n"  # as long as an exit status, which is written over it
_UNNAMED = b" " * 200  # no less than an identity, which is written over it


class Exit(NamedTuple):
    """How a worker ended: 0 to 255, 128 + n for signal n; `at` in seconds since the epoch."""

    code: int
    at: float


# --- starting -----------------------------------------------------------------------------------------------


def start(
    folder: Path,
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    nonce: str,
    output: Path,
    stdin: Path | None = None,
    prefix: Sequence[str] = (),
    inherits: Sequence[int] = (),
) -> Identity:
    """Starts `prefix` + `argv` in a session of its own, once: where `folder` has had a worker, that one is given. It has the
    descriptors `inherits` open, each above 9, and so has what it starts.

    `folder` (of the attempt) gets `lock`, `identity` and `exit`; standard output and error are appended to `output`,
    input comes from `stdin` or is empty. A command that can't be found ends with 127 and says so in `output`. Raises
    `SwarmError` when no process can be made. Costs 0.35 ms of CPU here and 1.9 ms in all (a bare spawn 0.6), on 2 shared cores.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    lock = _opened(folder / "lock", os.O_RDWR, above=9)  # a shell has the one-digit descriptors to itself
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _identity_of_the_other(folder)
        already = identity(folder)
        if already is not None:
            return already
        command, marked = [*prefix, *argv], {**env, NONCE_NAME: nonce}
        return _pid_space.note(lambda: _spawn(folder, command, cwd, marked, output, stdin, (lock, *inherits)))
    finally:
        os.close(lock)


def _spawn(
    folder: Path,
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    output: Path,
    stdin: Path | None,
    inherits: Sequence[int],
) -> Identity:
    _write(folder / "exit", _RUNNING)
    _write(folder / "identity", _UNNAMED)
    crash_at("worker.locked")
    with _open_files(stdin, output) as (source, sink):
        try:
            process = subprocess.Popen(
                [_SHELL, os.fspath(_LAUNCHER), os.fspath(folder.absolute()), *command],
                cwd=cwd,
                env={**env, **for_launcher()},
                stdin=source,
                stdout=sink,
                stderr=sink,
                pass_fds=inherits,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise SwarmError(
                f"The worker can't be started in {cwd}: {error}.",
                "No process was made.",
                "swarm doctor checks the machine.",
            ) from error
    # Nobody asks this object again (`exit_handle` and `reap` do that), so it must not complain that it was dropped.
    process.returncode = 0
    crash_at("worker.spawned")
    found = stat_of(process.pid)
    # It is our child: even when it has ended already, its number stays taken until reaped.
    assert found is not None
    return Identity(boot_id(), process.pid, found.start_ticks)


def _identity_of_the_other(folder: Path) -> Identity:
    """Waits for who holds the lock to say who it is; only a daemon that took over meanwhile ever comes here."""
    deadline = time.monotonic() + IDENTITY_WAIT_S
    while (found := identity(folder)) is None:
        if time.monotonic() > deadline:
            raise SwarmError(
                f"Something holds the lock of {folder} and does not say who it is.",
                "The worker was not started a second time.",
                "swarm recover looks again.",
            )
        time.sleep(0.005)  # the launcher can't tell us: we are not its parent
    return found


@contextmanager
def _open_files(stdin: Path | None, output: Path) -> Iterator[tuple[int, int]]:
    source = -1
    try:
        source = _raised(os.open(stdin or os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        sink = _opened(output, os.O_WRONLY | os.O_APPEND)
    except OSError as error:
        if source >= 0:
            os.close(source)
        raise SwarmError(f"The worker can't be started: {error}.", "No process was made.") from error
    try:
        yield source, sink
    finally:
        os.close(source)
        os.close(sink)


def _opened(path: Path, flags: int, above: int = 2) -> int:
    return _raised(os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600), above)


def _raised(handle: int, above: int = 2) -> int:
    """Moves a descriptor above the standard ones, which a daemon may have been started without."""
    if handle > above:
        return handle
    try:
        return fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, above + 1)
    finally:
        os.close(handle)


def _write(path: Path, data: bytes) -> None:
    handle = _opened(path, os.O_WRONLY | os.O_TRUNC)
    try:
        while data:  # a disk that is all but full takes a part
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


# --- recognising --------------------------------------------------------------------------------------------


def identity(folder: Path) -> Identity | None:
    """Gives the identity that a launcher wrote in `folder`; None where none was written, or not to its end."""
    line = _line(folder / "identity", 1000)
    try:
        return Identity.from_json(json.loads(line)) if line else None
    except (ValueError, AttributeError):
        return None


def started(folder: Path) -> Identity | None:
    """Gives who was started for `folder`, waiting for a launcher that has not yet written it; None where nobody lives unnamed.

    Raises `SwarmError` when somebody holds the lock and stays silent.
    """
    found = identity(folder)
    return _identity_of_the_other(folder) if found is None and _locked(folder) else found


def identity_of(pid: int) -> Identity:
    """Gives the identity of a process that certainly lives, such as this one. Raises `ProcessLookupError`."""
    found = stat_of(pid)
    if found is None:
        raise ProcessLookupError(f"there is no process {pid}")
    return Identity(boot_id(), pid, found.start_ticks)


def alive(identity: Identity) -> bool:
    """Tells whether exactly this process still runs; a zombie, which only waits to be reaped, does not."""
    if identity.boot_id != boot_id():
        return False
    found = stat_of(identity.pid)
    return found is not None and found.start_ticks == identity.start_ticks and found.running


def age_s(identity: Identity) -> float:
    """Gives how long ago a process was started, ended or not; a clock that is set does not move it."""
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - identity.start_ticks / os.sysconf("SC_CLK_TCK"))


def exit_of(folder: Path) -> Exit | None:
    """Gives how the worker of `folder` ended; None while it runs, or where its launcher was ended before it could say."""
    path = folder / "exit"
    try:
        code = int(_line(path, 100) or "")
        return Exit(code, os.stat(path).st_mtime)
    except (ValueError, FileNotFoundError):
        return None


def exit_handle(identity: Identity) -> int | None:
    """Gives a descriptor that becomes readable when the process ends, for `poll` and event loops; the caller closes it.

    Works for processes that are not our children. None where the process has gone already.
    """
    if identity.boot_id != boot_id():
        return None
    return _handle(identity.pid, identity.start_ticks, alive=True)


def reap(identity: Identity, handle: int | None = None) -> None:
    """Takes the ended process off the kernel's table if it is our child; anything else is left alone.

    Through a descriptor: `waitpid` with a number could steal the status of another child that was given it since. A `handle` from
    `exit_handle` is used and closed.
    """
    if handle is None and identity.boot_id == boot_id():
        handle = _handle(identity.pid, identity.start_ticks)
    if handle is None:
        return
    try:
        os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        pass  # somebody else's child, or reaped by another thread
    finally:
        os.close(handle)


def _line(path: Path, most: int) -> str:
    """The first line of a small file, only where it is complete; otherwise nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise_if_troubled(error)
        return ""
    try:
        data = os.read(handle, most)
    except OSError:
        return ""
    finally:
        os.close(handle)
    line, end, _rest = data.partition(b"\n")
    return line.decode(errors="replace") if end else ""


def _handle(pid: int, start_ticks: int, *, alive: bool = False) -> int | None:
    """A descriptor of exactly this process, or None; the start time is read after opening, so the number can't change.

    With `alive` None too where it is a zombie.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise SwarmError(
            f"Processes can't be watched: pidfd_open says {error.strerror}.", "", "swarm doctor"
        ) from error
    try:
        found = stat_of(pid)
    except BaseException:
        os.close(handle)
        raise
    if found is None or found.start_ticks != start_ticks or (alive and not found.running):
        os.close(handle)
        return None
    return handle


_pid_space = PidSpace()


# --- what belongs to a worker -------------------------------------------------------------------------------


def members(nonce: str, identity: Identity | None, *, folder: Path | None = None) -> list[int]:
    """Gives the pids of every live process that belongs to the worker, its launcher among them.

    By session, descent and environment; with `folder` (of the attempt) also whoever holds its lock once the launcher
    is gone. Without `identity` (the launcher was killed before it wrote it) the environment alone decides. See the
    module's opening for what can't be found.

    Measured on 2 shared cores, CPU in all: 0.2 ms after a worker that this process started itself, 0.3 ms with 200
    and 1.5 ms with 2,000 processes older than it; each younger one adds 10 us if it is another worker's that was seen
    before, else 40 us. After a restart of the daemon, or 30,000 forks later, the older ones count 10 us each as well
    (2.3 ms with 200, 27 ms with 2,000).
    """
    return sorted(tree_of(nonce, identity, folder))


def tree_of(nonce: str, identity: Identity | None, folder: Path | None = None) -> dict[int, Stat]:
    """Gives what `members` does, with how each process stood when it was looked at."""
    if identity is None:
        table = proctable.table()
        return _with_descendants(table, _marked(table, nonce, {}))
    if identity.boot_id != boot_id():
        return {}
    table = proctable.table(identity.start_ticks, _pid_space.lowest(identity))
    found = _with_descendants(table, _in_session(table, identity))
    found = _with_descendants(table, found | _marked(table, nonce, found))
    if folder is not None and identity.pid not in found and _locked(folder):
        found = _with_descendants(table, found | _holding(table, folder / "lock", found))
    return found


def _in_session(table: Mapping[int, Stat], identity: Identity) -> dict[int, Stat]:
    leader = table.get(identity.pid)
    if leader is not None and leader.start_ticks != identity.start_ticks:
        return {}  # the session is gone, and its number belongs to somebody else
    return {pid: process for pid, process in table.items() if process.session == identity.pid}


def _with_descendants(table: Mapping[int, Stat], found: Mapping[int, Stat]) -> dict[int, Stat]:
    if not found:
        return {}
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    whole = dict(found)
    ahead = list(found)
    while ahead:
        for child in children.get(ahead.pop(), ()):
            if child not in whole:
                whole[child] = table[child]
                ahead.append(child)
    return whole


# Marks seen, so that the processes of other workers are read once. No mark is not remembered: a process that was just
# forked still shows its parent's environment.
_marks: dict[tuple[int, int], bytes] = {}


def _marked(table: Mapping[int, Stat], nonce: str, known: Mapping[int, Stat]) -> dict[int, Stat]:
    wanted = nonce.encode()
    found = {}
    for pid, process in table.items():
        if pid in known:
            continue
        key = (pid, process.start_ticks)
        mark = _marks.get(key) or _mark(pid)
        if mark:
            if len(_marks) > 10_000:
                _marks.clear()
            _marks[key] = mark
        if mark == wanted:
            found[pid] = process
    return found


def nonces(head: str) -> dict[str, list[int]]:
    """Gives every nonce that begins with `head` and that a live process carries, with the pids. One pass over /proc."""
    found: dict[str, list[int]] = {}
    for pid in proctable.table():
        nonce = _mark(pid).decode(errors="replace")
        if nonce.startswith(head):
            found.setdefault(nonce, []).append(pid)
    return found


def mark_own_programs(head: str) -> None:
    """Has the git programs and setup commands that this process starts from now on carry its mark, so that the next daemon knows
    them when this one was killed."""
    us = identity_of(os.getpid())
    os.environ[NONCE_NAME] = f"{_programs_of(head)}{us.pid}-{us.start_ticks}"


def own_mark() -> str:
    """Gives a mark for one of those programs, by which all that it starts is told from the others."""
    ours = os.environ.get(NONCE_NAME, "daemon").rsplit("-", 2)
    return "-".join((ours[0], secrets.token_hex(4), *ours[1:]))


def orphaned_programs(head: str) -> dict[str, list[int]]:
    """Gives the marks of daemons that have ended, with the pids of what they started and still runs. One pass over /proc."""
    marks = nonces(_programs_of(head))
    return {mark: pids for mark, pids in marks.items() if not alive(_daemon_of(mark))}


def _programs_of(head: str) -> str:
    return f"daemon-{head}-"


def _daemon_of(mark: str) -> Identity:
    *_, pid, ticks = mark.split("-")
    return Identity(boot_id(), int(pid), int(ticks))


_MARK = f"\0{NONCE_NAME}=".encode()


def _mark(pid: int) -> bytes:
    """The nonce in the environment that a process was started with; empty where there is none or it can't be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            data = b"\0" + (file.read(ENVIRON_MAX_BYTES) or b"")
    except OSError as error:  # ended, or another user's
        raise_if_troubled(error)
        return b""
    at = data.find(_MARK)
    return data[at + len(_MARK) : data.find(b"\0", at + len(_MARK))] if at >= 0 else b""


def _locked(folder: Path) -> bool:
    """Whether a process has the folder's lock: the one question here that the kernel answers in one step."""
    try:
        handle = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise_if_troubled(error)
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def _holding(table: Mapping[int, Stat], lock: Path, known: Mapping[int, Stat]) -> dict[int, Stat]:
    """Whoever was handed the lock on. Not our own children: between fork and exec a child of any thread has every descriptor."""
    wanted, us = os.fspath(lock.resolve()), os.getpid()
    return {
        pid: process
        for pid, process in table.items()
        if pid not in known and process.parent != us and _has_open(pid, wanted)
    }


def _has_open(pid: int, path: str) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        return any(link(f"{folder}/{name}") == path for name in os.listdir(folder))
    except OSError as error:
        raise_if_troubled(error)
        return False


# --- ending -------------------------------------------------------------------------------------------------


def end_tree(
    identity: Identity | None,
    nonce: str,
    *,
    folder: Path | None = None,
    grace_s: float,
    multiplies: bool = False,
) -> bool:
    """Ends everything that belongs to the worker: SIGTERM, `grace_s` seconds, SIGKILL, until nothing is left.

    One that `multiplies` is killed at once, launcher and all, before anybody looks for what belongs to it: each look takes longer
    than it needs to double.

    True when nothing is left: by the marks of `members`, and with `folder` its lock is free too, which no fork can
    slip past. False where something still lived 10 s after the grace time (it multiplies faster than it can be
    killed, hangs in the kernel, or belongs to another user). Stopped processes are continued, so that they can end.
    The launcher goes last, so that it still writes the exit status. May be called again, and at any time.
    """
    tree = _Tree(identity, nonce, folder)
    if multiplies and identity is not None and _leads_its_group(identity):
        with suppress(OSError):
            os.killpg(identity.pid, signal.SIGKILL)
        return _killed(tree)
    return _asked_to_end(tree, grace_s) or _killed(tree)


@dataclass(frozen=True, slots=True)
class _Tree:
    identity: Identity | None
    nonce: str
    folder: Path | None

    @property
    def launcher(self) -> int:
        return self.identity.pid if self.identity else 0

    def frame(self, found: Mapping[int, Stat]) -> set[int]:
        """Gives those who end by themselves when the command has: the launcher, and bubblewrap, with whom all would die at once."""
        return {self.launcher, *self._called(found, _SANDBOX, landlock.NAME)}

    def last(self, found: Mapping[int, Stat]) -> set[int]:
        """Gives those who are needed for a moment when the command was killed: the launcher, which writes the exit status, and who
        ends what nobody else can find."""
        return {self.launcher, *self._called(found, landlock.NAME)}

    def _called(self, found: Mapping[int, Stat], *names: bytes) -> set[int]:
        held = (pid for pid, process in found.items() if process.parent == self.launcher)
        return {pid for pid in held if proctable.name_of(pid) in names}

    def find(self) -> dict[int, Stat]:
        return tree_of(self.nonce, self.identity, self.folder)

    def quiet(self) -> bool:
        """Whether nobody holds the lock: what forks and ends all the time is never seen in a pass over /proc."""
        return self.folder is None or not _locked(self.folder)


def _asked_to_end(tree: _Tree, grace_s: float) -> bool:
    deadline = time.monotonic() + grace_s
    asked: set[tuple[int, int]] = set()
    while found := tree.find():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        frame = tree.frame(found)
        for pid, process in found.items():
            key = (pid, process.start_ticks)
            if pid not in frame and key not in asked:
                send_signal(pid, process, signal.SIGTERM)
                asked.add(key)
            send_signal(pid, process, signal.SIGCONT)
        alone = set(found) <= frame  # about to write the exit status, or about to start the command
        _wait_for(found, min(left_s, 0.05) if alone else left_s)
    return tree.quiet()


def _killed(tree: _Tree) -> bool:
    started = time.monotonic()
    rounds = 0
    while (found := tree.find()) or not tree.quiet():
        passed_s = time.monotonic() - started
        if passed_s > KILL_BOUND_S:
            return False
        spared = tree.last(found) if passed_s < LAUNCHER_WAIT_S and rounds < 10 else set()
        targets = {pid: process for pid, process in found.items() if pid not in spared}
        for pid, process in targets.items():
            send_signal(pid, process, signal.SIGKILL)
        waited_for = spared & found.keys()
        for pid in waited_for:
            send_signal(pid, found[pid], signal.SIGCONT)
        if rounds >= 2 and not waited_for:
            signal_groups(found, tree.identity, signal.SIGKILL)
        if not found:
            time.sleep(0.005)  # the lock is held by what no pass sees: nothing to wait on
        _wait_for(targets or found, 0.05 if rounds < 10 else 0.5)
        rounds += 1
    return True


def signal_groups(found: Mapping[int, Stat], identity: Identity | None, number: signal.Signals) -> None:
    """Sends a signal to whole process groups in one step of the kernel's, which no fork can slip out of.

    Only to groups of sessions in which nobody is a stranger, ourselves included.
    """
    strangers = {process.session for pid, process in proctable.table().items() if pid not in found}
    strangers.add(os.getsid(0))
    groups = {process.group for process in found.values() if process.session not in strangers}
    if identity is not None and _leads_its_group(identity):
        groups.add(identity.pid)  # members that no pass has seen
    for group in groups:
        try:
            os.killpg(group, number)
        except OSError:
            pass  # it ended meanwhile


def _leads_its_group(identity: Identity) -> bool:
    """Tells whether the group with the number of a worker's launcher is the worker's: one in use for a group is not given again."""
    leader = stat_of(identity.pid)
    return identity.boot_id == boot_id() and (leader is None or leader.start_ticks == identity.start_ticks)


def send_signal(pid: int, process: Stat, number: signal.Signals) -> None:
    """Sends a signal to exactly this process; to nobody where it has ended."""
    handle = _handle(pid, process.start_ticks)
    if handle is None:
        return
    try:
        signal.pidfd_send_signal(handle, number)
    except OSError:
        pass  # it ended, or belongs to another user: `members` goes on telling
    finally:
        os.close(handle)


def _wait_for(processes: Mapping[int, Stat], at_most_s: float) -> None:
    """Sleeps until all of them have ended, at most so long."""
    deadline = time.monotonic() + at_most_s
    poll = select.poll()
    handles: set[int] = set()
    try:
        for pid, process in list(processes.items())[:500]:  # the rest is looked at again in the next round
            handle = _handle(pid, process.start_ticks)
            if handle is not None:
                handles.add(handle)
                poll.register(handle, select.POLLIN)
        while handles and (left_s := deadline - time.monotonic()) > 0:
            for handle, _event in poll.poll(math.ceil(left_s * 1000)):
                poll.unregister(handle)
                handles.discard(handle)
                os.close(handle)
    finally:
        for handle in handles:
            os.close(handle)

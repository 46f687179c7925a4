"""Shuts a program in by what the kernel offers to every process, for machines where bubblewrap does not work:
landlock.py RULES -- PROGRAM [ARGUMENT]...

Hides Landlock (what may be read and written), the filter of system calls beside it, and how rules that come one after the other
become what Landlock knows: only what is allowed, with all below it. It hides nothing from sight and puts nothing in another's
place; what it can't hold is told in docs/explanation/sandbox.md. Hides too that nothing which the program started outlives it: who
shuts it in stays outside, as the parent whom the kernel gives every orphan of the program's, and ends them all.

Rules for editing: run by itself before every program that is shut in, so it imports nothing of ours and little else. It is under no
rule itself, so nothing of the program's is read or run here. What is shut in can't be undone, and holds for all that the program
starts. Numbers are the kernel's (landlock(7), seccomp(2), linux/filter.h).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import struct
import sys
import time

TYPE_CHECKING = False  # typing would take a tenth of the time before a worker begins
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, NoReturn

ABI_MIN = 3  # before, a file that may not be written could be emptied
SIGNALS_HELD_ABI = 6
NAME = b"swarm-outside"  # of the process that shuts a program in, waits for it and ends what it leaves
END_BOUND_S = 10.0  # for ending what the program left: what multiplies faster is left to whoever watches
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every machine
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _TRUNCATE = 1 << 6, 1 << 11, 1 << 14
_ALL = (1 << 15) - 1
_RIGHTS = {
    "list": _READ_DIR,
    "read": _EXECUTE | _READ_FILE | _READ_DIR,
    "write": _ALL
    & ~_MAKE_CHAR
    & ~_MAKE_BLOCK,  # as root a device in a folder of its own would be the whole disk
}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 3

_SET_NO_NEW_PRIVS, _SET_SECCOMP, _DROP_FROM_BOUNDING_SET = 38, 22, 24
_SET_DUMPABLE, _SET_NAME, _SET_CHILD_SUBREAPER = 4, 15, 36
_ANY_CHILD = 0x40000000  # __WALL: also those that tell nobody of their end
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # what they are called in a filter
_OF_KEYS = ("add_key", "request_key", "keyctl")
_OF_SHARED = ("shmget", "shmat", "shmctl", "semget", "semop", "semctl", "semtimedop")  # System V's, by number
_OF_MESSAGES = ("msgget", "msgsnd", "msgrcv", "msgctl")
_OF_A_PROCESS = ("sched_setparam", "sched_setscheduler", "sched_setattr")  # which the first argument names
_OF_ALL_OF_THE_USERS = {"setpriority": 2, "ioprio_set": 3}  # a first argument of this
_NUMBERS = {  # of system calls, in the order of the machines
    "socket": (41, 198), "socketpair": (53, 199), "io_uring_setup": (425, 425), "prlimit64": (302, 261),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195),
    "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
}  # fmt: skip
_X32 = 0x40000000  # another set of numbers on x86_64
_UNIX, _DATAGRAM = 1, 2
_Step = tuple[int, int, int, int]  # what to do, how many to pass over if so and if not, a number
_LOAD, _EQUAL, _AT_LEAST, _AND = 0x20, 0x15, 0x35, 0x54
_OFFSET_NUMBER, _OFFSET_MACHINE = 0, 4
# The lower halves of arguments, on both machines, and the upper one of a pointer.
_OFFSET_FIRST, _OFFSET_SECOND, _OFFSET_THIRD, _OFFSET_THIRD_UPPER = 16, 24, 32, 36
_ALLOW: _Step = (0x06, 0, 0, 0x7FFF0000)
_REFUSE: _Step = (0x06, 0, 0, 0x00050000 | 13)  # EACCES

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Gives the version of Landlock that this kernel has, 0 where it has none or it is switched off."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def lacks() -> str:
    """Says why this machine's programs can't be shut in by this, "" where they can."""
    if os.uname().machine not in _MACHINES:
        return f"Landlock is not used on {os.uname().machine}"
    found = abi()
    if found < ABI_MIN:
        return f"this kernel's Landlock is too old (ABI {found})" if found else "this kernel has no Landlock"
    return ""


def prefix(
    rules: Iterable[tuple[str, str]], *, place: str, network: bool, sockets: bool = False, sign: str = ""
) -> tuple[str, ...]:
    """Gives the arguments in front of a program's own. Of `rules`, each "read", "write", "list" or "hide" and a path, later ones
    cover earlier ones, but what lies in a folder to write is kept from being written by "hide" alone. Unix `sockets` are all
    refused, or none. A file whose path begins with `sign` is there for as long as anything of the program's may be running."""
    asked = json.dumps(
        {"rules": list(rules), "place": place, "network": network, "sockets": sockets, "sign": sign}
    )
    return (sys.executable, "-I", "-S", __file__, asked, "--")


def granted(rules: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Gives what is allowed, as kind and path, in the terms of Landlock: not a folder in which something is hidden, but what else
    lies in it."""
    hidden: list[str] = []
    for kind, path in reversed(list(rules)):
        if kind == "hide":
            hidden.append(os.path.realpath(path))
        elif kind == "list":
            yield kind, path  # names, also of what is hidden
        else:
            yield from ((kind, part) for part in _without(os.path.realpath(path), hidden))


def _without(path: str, hidden: list[str]) -> Iterator[str]:
    if any(path == each or path.startswith(f"{each}/") for each in hidden):
        return
    inside = [each for each in hidden if each.startswith(f"{path.rstrip('/')}/")]
    if not inside:
        yield path
        return
    try:
        with os.scandir(path) as entries:
            parts = [entry.path for entry in entries if not entry.is_symlink()]
    except OSError:
        return
    for part in parts:
        yield from _without(part, inside)


def restrict(rules: Iterable[tuple[str, str]]) -> None:
    """Holds this thread, and what it starts, to what the rules allow, for ever. Raises OSError."""
    scope = _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if abi() >= SIGNALS_HELD_ABI else None
    asked = struct.pack("=Q", _ALL) if scope is None else struct.pack("=QQQ", _ALL, 0, scope)
    ruleset = _done(_libc.syscall(_CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), 0))
    for kind, path in granted(rules):
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not there
        _allow(ruleset, handle, _RIGHTS[kind], is_folder=os.path.isdir(path))
        os.close(handle)
    for handle in (1, 2):  # a shell opens them again by name, as in `>/dev/stderr`
        try:
            _allow(ruleset, handle, _WRITE_FILE, is_folder=False)
        except OSError:
            pass  # a pipe: nothing is asked for it
    _done(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _done(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _allow(ruleset: int, handle: int, rights: int, *, is_folder: bool) -> None:
    rule = struct.pack("=Qi", rights if is_folder else rights & _OF_FILES, handle)
    _done(_libc.syscall(_ADD_RULE, ruleset, 1, rule, 0))


def _done(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def filter_calls(*, network: bool, sockets: bool) -> None:
    """Refuses this thread, and what it starts, what Landlock does not hold: Unix sockets, behind which are swarm itself, the
    service manager and containers; what others share by a number; the keys that the kernel keeps for the user; and to set limits
    or priority of another process, which ends it or makes it wait. With `sockets` those may be had, and what is shared, as
    databases and process pools want. Without the network every other socket is refused.

    There always is a filter: by their number it is known who is shut in, see `filters`.
    """
    machine = os.uname().machine
    numbers = {name: each[list(_MACHINES).index(machine)] for name, each in _NUMBERS.items()}
    of_sockets = [_load(_OFFSET_FIRST), *_when(_UNIX, [_ALLOW if sockets else _REFUSE])]
    # A stream of a pair is connected, and leads nowhere else; the type comes with flags.
    of_pairs = [] if sockets else [_load(_OFFSET_SECOND), (_AND, 0, 0, 0xF), *_when(_DATAGRAM, [_REFUSE])]
    of_oneself = [*_when(0, [_ALLOW]), _REFUSE]
    sets_a_limit = [
        _load(_OFFSET_THIRD),
        *_when(0, [_load(_OFFSET_THIRD_UPPER), *_when(0, [_ALLOW])]),
        _REFUSE,
    ]
    refused = ["io_uring_setup", *_OF_KEYS, *(() if sockets else (*_OF_SHARED, *_OF_MESSAGES))]
    steps = [
        _load(_OFFSET_MACHINE),
        *_when(_MACHINES[machine], [_load(_OFFSET_NUMBER)], otherwise=[_REFUSE]),
        *_when(_X32, [_REFUSE], test=_AT_LEAST),
        *(step for name in refused for step in _when(numbers[name], [_REFUSE])),
        *_when(numbers["prlimit64"], [_load(_OFFSET_FIRST), *_when(0, [_ALLOW]), *sets_a_limit]),
    ]
    for name in _OF_A_PROCESS:
        steps += _when(numbers[name], [_load(_OFFSET_FIRST), *of_oneself])
    for name, all_of_them in _OF_ALL_OF_THE_USERS.items():
        others = [_load(_OFFSET_FIRST), *_when(all_of_them, [_REFUSE]), _load(_OFFSET_SECOND)]
        steps += _when(numbers[name], [*others, *of_oneself])
    steps += [
        *_when(numbers["socket"], [*of_sockets, _ALLOW if network else _REFUSE]),
        *_when(numbers["socketpair"], [*of_pairs, _ALLOW]),
        _ALLOW,
    ]
    filter = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(filter))
    _done(_libc.prctl(_SET_SECCOMP, 2, program, 0, 0))


def filters(pid: int) -> int | None:
    """Gives how many filters of system calls hold a process, None where it can't be seen. One that is shut in has one more than
    who shut it in; none of them ever goes, whatever it does or becomes."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            found = next((line for line in file if line.startswith(b"Seccomp_filters:")), b"")
    except OSError:
        return None
    return int(found.split()[1]) if found else None


def _load(offset: int) -> _Step:
    return (_LOAD, 0, 0, offset)


def _when(
    value: int, then: list[_Step], *, otherwise: Iterable[_Step] = (), test: int = _EQUAL
) -> list[_Step]:
    """What was loaded last is compared with `value`. `otherwise` comes to an end, or there is none of it."""
    instead = list(otherwise)
    return [(test, len(instead), 0 if instead else len(then), value), *instead, *then]


def drop_rights_of_root() -> None:
    """Takes what root may beyond others from this process, for when it becomes the program; does nothing for others."""
    for right in range(64):
        _libc.prctl(_DROP_FROM_BOUNDING_SET, right, 0, 0, 0)


def main(arguments: list[str]) -> None:
    asked = json.loads(arguments[0])
    try:
        sign = _put(asked["sign"])
        _done(_libc.prctl(_SET_NAME, NAME, 0, 0, 0))
        _done(_libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
        program = os.fork()
    except OSError as error:
        sys.exit(f"The sandbox can't be made: {error}.")
    if program == 0:
        _become(asked, arguments[2:])
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # for the program; it ends when that has
    status = _end_of(program)
    if _end_the_rest() and sign:
        with contextlib.suppress(OSError):  # the pool was moved: it stays
            os.unlink(sign)
    _end_likewise(status)


def _put(sign: str) -> str:
    """Makes a file of its own whose path begins with `sign`, unless that is "". In it is which start of the machine this is, for
    nothing outlives another."""
    path = f"{sign}{os.urandom(8).hex()}" if sign else ""
    if path:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            start = file.read()
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        os.write(handle, start)
        os.close(handle)
    return path


def _become(asked: dict[str, Any], program: list[str]) -> NoReturn:
    try:
        drop_rights_of_root()
        restrict([(kind, path) for kind, path in asked["rules"]])
        filter_calls(network=asked["network"], sockets=asked["sockets"])
        os.chdir(asked["place"])
    except OSError as error:
        sys.exit(f"The sandbox can't be made: {error}.")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # which Python ignores, and would hand on
    try:
        os.execvp(program[0], program)  # noqa: S606 - what this program is for
    except OSError as error:
        print(f"{program[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


def _end_of(program: int) -> int:
    """Waits for the program, and takes orphans of its that end meanwhile off the kernel's table; gives how it ended."""
    while True:
        pid, status = os.waitpid(-1, _ANY_CHILD)
        if pid == program:
            return status


def _end_the_rest() -> bool:
    """Kills all that the program left; tells whether nothing of it is there any more, which the kernel says: we have no child.

    Children alone are killed: their numbers are given to nobody else before we ask for them here. What they leave comes to us.
    """
    deadline = time.monotonic() + END_BOUND_S
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, _ANY_CHILD | os.WNOHANG)[0]:
                continue
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
        except ChildProcessError:
            return True
        except OSError:
            return False  # a kernel that does not list them
        time.sleep(0.001)
    return False


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
        return [int(pid) for pid in file.read().split()]


def _end_likewise(status: int) -> NoReturn:
    """Ends as the program did, without a picture of its own memory."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        _libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


if __name__ == "__main__":
    main(sys.argv[1:])

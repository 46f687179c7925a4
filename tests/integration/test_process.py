"""Worker processes against the real kernel: started, recognised, and ended with everything they started."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from swarm.edge import process, usage
from swarm.edge.process import Identity
from swarm.edge.proctable import PidSpace, stat_of
from swarm.edge.usage import Sampler
from swarm.errors import SwarmError
from tests.conftest import wait_until

TOP = Path(__file__).resolve().parents[2]
PYTHON = [sys.executable, "-S", "-E"]


def wait_for_end(identity: Identity) -> None:
    """Waits until the process has ended, and reaps it where it is ours."""
    handle = process.exit_handle(identity)
    if handle is not None:
        assert select.select([handle], [], [], 120)[0], "still running"
        os.close(handle)
    process.reap(identity)


def running(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    found = stat_of(pid)
    return found is not None and found.running


@dataclass
class Workplace:
    """Where workers of a test run; everything they leave is ended afterwards."""

    top: Path
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: list[Identity] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.top / "attempt"

    @property
    def worktree(self) -> Path:
        return self.top / "worktree"

    @property
    def output(self) -> str:
        return (self.folder / "output.log").read_text()

    def start(self, argv: Sequence[str], **more: object) -> Identity:
        """Starts a worker in the worktree."""
        self.worktree.mkdir(exist_ok=True)
        arguments: dict[str, object] = {
            "cwd": self.worktree,
            "env": dict(os.environ),
            "nonce": self.nonce,
            "output": self.folder / "output.log",
        }
        self.folder.mkdir(exist_ok=True)
        found = process.start(self.folder, argv, **{**arguments, **more})  # type: ignore[arg-type]
        self.started.append(found)
        return found

    def run(self, argv: Sequence[str], **more: object) -> int | None:
        """Starts a worker, waits for its end and gives its exit code."""
        wait_for_end(self.start(argv, **more))
        ended = process.exit_of(self.folder)
        return ended.code if ended else None

    def python(self, text: str) -> list[str]:
        """A command that runs this Python program; it can `tell(name)` its pid in the worktree."""
        head = "import os, sys, time, signal\ndef tell(name):\n with open(name + '~', 'w') as f: f.write(str(os.getpid()))\n"
        return [*PYTHON, "-c", f"{head} os.rename(name + '~', name)\n{textwrap.dedent(text)}"]

    def told(self, name: str) -> int:
        """The pid that a program told under this name, once it did."""
        place = self.worktree / name
        wait_until(lambda: place.exists() and place.read_text())
        return int(place.read_text())

    def members(self, identity: Identity | None) -> list[int]:
        return process.members(self.nonce, identity, folder=self.folder)

    def end(self, identity: Identity | None, grace_s: float = 120.0) -> bool:
        return process.end_tree(identity, self.nonce, folder=self.folder, grace_s=grace_s)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    """An empty workplace."""
    workplace = Workplace(tmp_path)
    yield workplace
    process.end_tree(None, workplace.nonce, grace_s=0)
    for identity in workplace.started:
        process.end_tree(identity, workplace.nonce, folder=workplace.folder, grace_s=0)
        process.reap(identity)


@pytest.fixture(params=["dash", "bash", "busybox"])
def any_shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs the launcher with each shell that is installed, called as sh."""
    found = shutil.which(request.param)
    if found is None:
        pytest.skip(f"no {request.param} here")
    (tmp_path / "sh").symlink_to(found)
    monkeypatch.setattr(process, "_SHELL", str(tmp_path / "sh"))


# --- starting -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("any_shell")
def test_a_worker_runs_in_its_own_session_and_says_how_it_ended(place: Workplace) -> None:
    """The command gets its arguments, folder, environment and input as given, and its output and status are kept."""
    (place.top / "input").write_text("from a file\n")
    argv = [
        "sh",
        "-c",
        'read line; echo "$line|$1|$PWD|$ODD|$SWARM_NONCE"; echo wrong >&2; exit 7',
        "x",
        "a  b*\n$c",
    ]
    env = {"PATH": os.environ["PATH"], "ODD": "ä $x '\n", "PWD": "/nowhere", "SHELLOPTS": "errexit"}
    identity = place.start(argv, env=env, stdin=place.top / "input")
    assert os.getsid(identity.pid) == identity.pid != os.getsid(0)
    wait_for_end(identity)
    assert place.output == f"from a file|a  b*\n$c|{place.worktree}|ä $x '\n|{place.nonce}\nwrong\n"
    ended = process.exit_of(place.folder)
    assert ended is not None
    assert ended.code == 7
    assert process.identity(place.folder) == identity


def test_a_question_finds_nobody_to_answer(place: Workplace) -> None:
    """A program that asks, on its input or on the terminal, ends at once: its input is empty and there is no terminal."""
    identity = place.start(["sh", "-c", "read answer || echo none; read answer </dev/tty || exit 3"])
    wait_for_end(identity)
    assert place.output.startswith("none\n")
    ended = process.exit_of(place.folder)
    assert ended is not None
    assert ended.code != 0


@pytest.mark.usefixtures("any_shell")
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["no-such-program"], 127),
        (["exit", "3"], 127),
        (["/etc/passwd"], 126),
        (["start_ticks_of"], 127),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else None,
)
def test_every_end_has_its_code(place: Workplace, argv: list[str], code: int) -> None:
    """The status is the program's own, 128 + n for signal n, 126 or 127 where it can't be run; never the shell's word."""
    env = {
        **os.environ,
        "PATH": "/usr/bin:/bin",
    }  # a folder on it that can't be read makes any missing program a 126
    assert place.run(argv, env=env) == code
    assert bool(place.output) == (code in (126, 127))


def test_a_program_runs_and_not_the_shells_own_of_that_name(place: Workplace) -> None:
    """Of a command named like a builtin the program on PATH runs."""
    tools = place.top / "tools"
    tools.mkdir()
    (tools / "echo").write_text("#!/bin/sh\nprintf 'the program: %s\\n' \"$1\"\n")
    (tools / "echo").chmod(0o755)
    assert place.run(["echo", "x"], env={"PATH": f"{tools}:/usr/bin:/bin"}) == 0
    assert place.output == "the program: x\n"


def test_the_prefix_comes_first_and_output_is_appended(place: Workplace) -> None:
    """A prefix wraps the command, and what was in the output file stays before the worker's own."""
    place.folder.mkdir()
    (place.folder / "output.log").write_text("before\n")
    assert place.run(["sh", "-c", "echo $WRAPPED"], prefix=["/usr/bin/env", "WRAPPED=yes"]) == 0
    assert place.output == "before\nyes\n"


def test_everything_is_private(place: Workplace) -> None:
    """The attempt's folder and files are the owner's alone, while the worker keeps the person's umask."""
    folder = place.folder / "deep"
    before = os.umask(0o022)
    try:
        identity = place.start(["sh", "-c", "umask"])
        again = process.start(
            folder, ["true"], cwd=place.top, env=os.environ, nonce=place.nonce, output=folder / "out"
        )
    finally:
        os.umask(before)
    for one in (identity, again):
        wait_for_end(one)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == dict.fromkeys(
        ("lock", "identity", "exit", "out"), 0o600
    )
    assert int(place.output, 8) == 0o022


@pytest.mark.usefixtures("any_shell")
def test_signals_are_as_a_program_expects_them(place: Workplace) -> None:
    """A worker ignores no signal that a program started from a terminal would not ignore: SIGINT above all."""
    assert place.run(["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"]) == 0
    # 32 and 33 are the C library's own; make hands them on as ignored, and nothing but the library can change that.
    library = 1 << 31 | 1 << 32
    assert [int(line.split()[1], 16) & ~library for line in place.output.splitlines()] == [0, 0]


def test_only_the_lock_is_inherited(place: Workplace) -> None:
    """Besides its standard streams a worker has one descriptor, the attempt's lock, whatever the daemon has open."""
    ours = os.open(place.top, os.O_RDONLY)
    os.set_inheritable(ours, True)
    try:
        assert place.run(["sh", "-c", "ls -l /proc/$$/fd"]) == 0
    finally:
        os.close(ours)
    links = [line.split(" -> ")[1] for line in place.output.splitlines() if " -> " in line]
    output = str(place.folder / "output.log")
    assert sorted(links) == sorted(["/dev/null", output, output, str(place.folder / "lock")])


def test_started_once_however_often_asked(place: Workplace) -> None:
    """Eight threads that start the same attempt get one worker, which runs once; so does asking after its end."""
    found: list[Identity] = []
    threads = [
        threading.Thread(target=lambda: found.append(place.start(["sh", "-c", "echo ran; exec sleep 100"])))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    wait_until(lambda: place.output)
    assert place.end(found[0])
    process.reap(found[0])
    assert place.start(["echo", "ran"]) == found[0]
    assert place.output == "ran\n"
    ended = process.exit_of(place.folder)
    assert ended is not None
    assert ended.code == 143


@pytest.mark.parametrize("left", [b"", b'{"boot_id": "x", "pid": 1', b'{"boot_id": "x"}\n', b"\xff\n"])
def test_a_launcher_that_never_said_who_it_is_started_nothing(place: Workplace, left: bytes) -> None:
    """Where the identity is missing or half written and nobody holds the lock, the worker is started (crash point C5)."""
    place.folder.mkdir()
    (place.folder / "identity").write_bytes(left)
    (place.folder / "lock").touch()
    assert process.identity(place.folder) is None
    assert process.exit_of(place.folder) is None
    assert place.run(["true"]) == 0


def test_what_holds_the_lock_and_says_nothing_is_told(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting is refused, with a next step, while something unknown holds the attempt's lock."""
    monkeypatch.setattr(process, "IDENTITY_WAIT_S", 0.05)
    place.folder.mkdir()
    holder = subprocess.Popen(["flock", str(place.folder / "lock"), "cat"], stdin=subprocess.PIPE)
    wait_until(lambda: process._locked(place.folder))
    with pytest.raises(SwarmError) as caught:
        place.start(["true"])
    assert caught.value.next_step
    holder.communicate(b"")


def test_what_cannot_be_started_is_told(place: Workplace) -> None:
    """A missing folder or input, and a command line too long for the kernel, raise an error for a person."""
    for more in ({"cwd": place.top / "missing"}, {"stdin": place.top / "missing"}):
        with pytest.raises(SwarmError, match="can't be started"):
            place.start(["true"], **more)
    with pytest.raises(SwarmError, match="can't be started"):
        place.start(["echo", "x" * 3_000_000])
    assert place.run(["true"]) == 0


_WITHOUT_STANDARD_STREAMS = """
import os, sys
from pathlib import Path
from swarm.edge import process, usage
folder = Path(sys.argv[1])
os.close(0), os.close(1), os.close(2)
process.start(folder, ["sh", "-c", "cat; echo out; echo err >&2; ls -l /proc/$$/fd 2>/dev/null | grep -c lock"], cwd=folder.parent,
              env=os.environ, nonce=sys.argv[2], output=folder / "output.log")
"""


def test_a_daemon_without_standard_streams_can_start_workers(place: Workplace) -> None:
    """A daemon whose descriptors 0, 1 and 2 are closed starts workers that have all three, and the lock."""
    place.folder.mkdir()
    subprocess.run(
        [sys.executable, "-c", _WITHOUT_STANDARD_STREAMS, str(place.folder), place.nonce], cwd=TOP, check=True
    )
    wait_until(lambda: process.exit_of(place.folder))
    assert place.output == "out\nerr\n1\n"


# --- recognising --------------------------------------------------------------------------------------------


def test_alive_means_exactly_this_process(place: Workplace) -> None:
    """Another boot, another start time, a zombie and a reaped process are all not alive; the running one is."""
    identity = place.start(["sleep", "100"])
    assert process.alive(identity)
    assert not process.alive(replace(identity, boot_id="another"))
    assert not process.alive(replace(identity, start_ticks=identity.start_ticks + 1))
    assert process.exit_handle(replace(identity, start_ticks=identity.start_ticks - 1)) is None
    assert process.exit_handle(replace(identity, boot_id="another")) is None
    handle = process.exit_handle(identity)
    assert handle is not None
    assert not select.select([handle], [], [], 0)[0]
    os.kill(identity.pid, signal.SIGKILL)
    assert select.select([handle], [], [], 120)[0]
    os.close(handle)
    assert Path(f"/proc/{identity.pid}").exists()  # a zombie
    assert not process.alive(identity)
    assert process.exit_handle(identity) is None
    process.reap(identity)
    assert not Path(f"/proc/{identity.pid}").exists()
    process.reap(identity)
    assert not process.alive(identity)


def test_reaping_takes_nobody_elses_child(place: Workplace) -> None:
    """Reaping an identity whose number belongs to another process by now leaves that one's status to its owner."""
    other = subprocess.Popen(["sh", "-c", "exit 3"])
    found = stat_of(other.pid)
    assert found is not None
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    process.reap(Identity(process.boot_id(), other.pid, found.start_ticks - 5))
    assert other.wait() == 3


def test_identity_survives_json(place: Workplace) -> None:
    """An identity comes back from JSON equal, and anything else is refused."""
    identity = Identity("boot", 3, 4)
    assert Identity.from_json(json.loads(json.dumps(identity.to_json()))) == identity
    for wrong in (
        {},
        {"boot_id": "b", "pid": "3", "start_ticks": 1},
        {"boot_id": "b", "pid": 0, "start_ticks": 1},
    ):
        with pytest.raises(ValueError):
            Identity.from_json(wrong)


def test_a_main_thread_that_ended_does_not_end_the_process(place: Workplace) -> None:
    """A process whose first thread has ended while another works on is alive and a member, though shown as a zombie."""
    identity = place.start(
        place.python("""
            import ctypes, threading
            threading.Thread(target=lambda: (tell("up"), time.sleep(100))).start()
            ctypes.CDLL(None).pthread_exit(None)
        """)
    )
    pid = place.told("up")
    wait_until(lambda: (found := stat_of(pid)) is not None and found.state == b"Z")
    assert pid in place.members(identity)
    assert place.end(identity)
    assert not running(pid)


_DAEMON = """
import os, signal, sys
from pathlib import Path
from swarm.edge import process, usage
folder = Path(sys.argv[1])
process.start(folder, ["sh", "-c", "echo up; until [ -e go ]; do sleep 0.01; done; exit 5"], cwd=folder.parent,
              env=os.environ, nonce=sys.argv[2], output=folder / "output.log")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_outlives_a_killed_daemon_and_is_adopted(place: Workplace) -> None:
    """After kill -9 of who started it a worker goes on, is recognised, waited for and its exit code known (C6, C7)."""
    place.folder.mkdir()
    command = [sys.executable, "-c", _DAEMON, str(place.folder), place.nonce]
    assert subprocess.run(command, cwd=TOP).returncode == -signal.SIGKILL
    wait_until(lambda: (place.folder / "output.log").exists() and place.output)
    identity = process.identity(place.folder)
    assert identity is not None
    place.started.append(identity)
    assert process.alive(identity)
    assert place.start(["echo", "another"]) == identity
    handle = process.exit_handle(identity)
    assert handle is not None
    assert process.exit_of(place.folder) is None
    (place.top / "go").touch()
    assert select.select([handle], [], [], 120)[0]
    os.close(handle)
    process.reap(identity)  # not our child: nothing happens
    ended = process.exit_of(place.folder)
    assert ended is not None
    assert ended.code == 5
    assert place.output == "up\n"
    assert place.members(identity) == []


# --- what belongs to a worker, and ending it ----------------------------------------------------------------

# Each starts something that tries to get away, which tells its pid as "away", and then goes on or ends.
_ESCAPES = {
    "child": "if not os.fork(): tell('away'); time.sleep(1000)\ntime.sleep(1000)",
    "ignores TERM": """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not os.fork(): tell('away'); time.sleep(1000)
        time.sleep(1000)""",
    "setsid": "if not os.fork(): os.setsid(); tell('away'); time.sleep(1000)\ntime.sleep(1000)",
    "server left behind": "if not os.fork(): os.setsid(); tell('away'); time.sleep(1000)",
    "double fork, root folder, no descriptors": """
        if not os.fork():
            os.setsid()
            if not os.fork():
                tell('away'); os.chdir('/'); os.closerange(0, 100); time.sleep(1000)
            os._exit(0)""",
    "double fork, no environment, root folder": """
        if not os.fork():
            os.setsid()
            if not os.fork():
                tell('away'); os.chdir('/')
                os.execve('/bin/sleep', ['sleep', '1000'], {})
            os._exit(0)""",
    "stopped": """
        if not os.fork():
            tell('away'); os.kill(os.getpid(), signal.SIGSTOP); time.sleep(1000)
        time.sleep(1000)""",
    "respawns": """
        while True:
            pid = os.fork()
            if not pid: tell('away'); time.sleep(1000)
            os.waitpid(pid, 0)""",
}


@pytest.mark.parametrize("escape", _ESCAPES)
@pytest.mark.parametrize("adopted", [False, True], ids=["ours", "adopted"])
def test_nothing_gets_away(place: Workplace, escape: str, adopted: bool) -> None:
    """What a worker starts to get away is found by any mark it keeps, and gone after the end, also when the worker was
    started by an earlier daemon."""
    identity = place.start(place.python(_ESCAPES[escape]))
    away = place.told("away")
    if adopted:
        process._pid_space = PidSpace()
    wait_until(lambda: away in place.members(identity))
    assert place.end(identity, grace_s=0.2)
    assert not running(away)
    assert place.members(identity) == []
    process.reap(identity)


def test_what_has_ended_in_order_is_quiet_at_once(place: Workplace) -> None:
    """After a worker that left nothing, nothing is found, and ending it is true and does nothing."""
    identity = place.start(["true"])
    wait_for_end(identity)
    assert place.members(identity) == []
    assert place.end(identity)
    ended = process.exit_of(place.folder)
    assert ended is not None
    assert ended.code == 0


def test_a_child_of_ours_that_has_the_lock_for_a_moment_is_no_member(place: Workplace) -> None:
    """Between fork and exec a git program that another thread starts has every descriptor of the daemon, a worker's lock among
    them; it must not be ended for it."""
    identity = place.start(["true"])
    wait_for_end(identity)
    with (place.folder / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ours = subprocess.Popen(["sleep", "1000"], pass_fds=(lock.fileno(),))
        try:
            assert place.members(identity) == []
        finally:
            ours.kill()
            ours.wait()


def test_strangers_are_left_alone(place: Workplace) -> None:
    """A person's process in the worktree, our own children there, and a second worker are no members and live on."""
    identity = place.start(["sleep", "1000"])
    ours = subprocess.Popen(["sleep", "1000"], cwd=place.worktree)
    theirs = subprocess.Popen(
        ["sh", "-c", "sleep 1000 & echo $!; wait"], cwd=place.worktree, stdout=subprocess.PIPE
    )
    other = Workplace(place.top / "other")
    other.top.mkdir()
    second = other.start(["sleep", "1000"])
    assert theirs.stdout is not None
    strangers = {ours.pid, theirs.pid, int(theirs.stdout.readline()), second.pid, os.getpid(), os.getppid()}
    try:
        assert not strangers & set(place.members(identity))
        assert place.end(identity)
        assert all(running(pid) for pid in strangers)
    finally:
        assert other.end(second)
        process.reap(second)
        os.kill(theirs.pid, signal.SIGKILL)
        for pid in strangers - {os.getpid(), os.getppid(), theirs.pid}:
            if running(pid):
                os.kill(pid, signal.SIGKILL)
        ours.wait()
        theirs.communicate()


def test_a_worker_may_save_its_work_when_asked_to_end(place: Workplace) -> None:
    """Within the grace time a worker gets one SIGTERM, does what it wants to, and its own exit status is kept."""
    identity = place.start(
        place.python("""
            def ask(number, frame):
                print("asked", flush=True)
                if os.path.exists("asked"): return
                open("asked", "w").close()
                time.sleep(0.2)
                os._exit(9)
            signal.signal(signal.SIGTERM, ask)
            tell("up")
            while True: time.sleep(1000)
        """)
    )
    place.told("up")
    assert place.end(identity, grace_s=120)
    assert place.output == "asked\n"
    ended = process.exit_of(place.folder)
    assert ended is not None
    assert ended.code == 9


@pytest.mark.parametrize(("grace_s", "code"), [(120.0, 143), (0.0, 137)])
def test_the_status_is_written_of_a_worker_that_was_ended(
    place: Workplace, grace_s: float, code: int
) -> None:
    """An ended worker's launcher still writes how: 143 after SIGTERM, 137 after SIGKILL, also when it was stopped."""
    identity = place.start(place.python("tell('up'); time.sleep(1000)"))
    place.told("up")
    os.killpg(identity.pid, signal.SIGSTOP)
    assert place.end(identity, grace_s=grace_s)
    ended = process.exit_of(place.folder)
    assert ended is not None
    assert ended.code == code


def test_a_stopped_worker_may_save_its_work_too(place: Workplace) -> None:
    """A worker that is stopped is continued when it is asked to end, so that its own handler runs."""
    identity = place.start(
        place.python(
            "signal.signal(signal.SIGTERM, lambda *a: os._exit(9))\ntell('up')\nwhile True: time.sleep(1000)"
        )
    )
    place.told("up")
    os.killpg(identity.pid, signal.SIGSTOP)
    assert place.end(identity, grace_s=120)
    ended = process.exit_of(place.folder)
    assert ended is not None
    assert ended.code == 9


def test_a_number_that_was_given_again_is_a_strangers(place: Workplace) -> None:
    """Where the launcher's pid leads somebody else's session by now, nothing of that session is a member."""
    stranger = place.start(["sleep", "1000"])
    gone = replace(stranger, start_ticks=stranger.start_ticks - 1)
    assert process.members("another", gone, folder=place.top / "another") == []
    assert process.end_tree(gone, "another", grace_s=0)
    assert process.alive(stranger)


def test_groups_are_killed_where_single_signals_come_too_late(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be caught one by one is killed by its process group, and strangers' groups are not."""
    stranger = subprocess.Popen(["sleep", "1000"])
    identity = place.start(place.python("if not os.fork(): tell('up')\ntime.sleep(1000)"))
    up = place.told("up")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(
                process, "send_signal", lambda pid, found, number: None
            )  # as if each had just forked and ended
            assert place.end(identity, grace_s=0)
        assert not running(up)
        assert running(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_what_multiplies_is_killed_before_anybody_looks_for_it(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its whole group is killed in one step, and only then it is looked for; where the launcher's number is somebody else's by now,
    that one is not killed."""
    identity = place.start(place.python("for _ in range(3): os.fork()\ntell('up')\ntime.sleep(1000)"))
    up = place.told("up")
    done: list[str] = []

    def noted(what: str, does: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*about: Any) -> Any:
            done.append(what)
            return does(*about)

        return instead

    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", noted("killed", os.killpg))
        patch.setattr(process, "tree_of", noted("looked", process.tree_of))
        assert process.end_tree(identity, place.nonce, folder=place.folder, grace_s=5, multiplies=True)
    assert done[0] == "killed"
    assert not running(up)
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        theirs = process.identity_of(stranger.pid)
        gone = replace(theirs, start_ticks=theirs.start_ticks - 1)
        assert process.end_tree(gone, "another", grace_s=0, multiplies=True)
        assert running(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_killed_launcher_leaves_no_status_and_its_tree_is_still_found(place: Workplace) -> None:
    """After kill -9 of the launcher its command is found by the session, ended, and no exit status is made up."""
    identity = place.start(place.python("tell('up'); time.sleep(1000)"))
    up = place.told("up")
    os.kill(identity.pid, signal.SIGKILL)
    wait_for_end(identity)
    assert not process.alive(identity)
    assert place.members(identity) == [up]
    assert place.end(identity)
    assert not running(up)
    assert process.exit_of(place.folder) is None


def test_found_by_the_nonce_alone(place: Workplace) -> None:
    """Where the launcher never wrote who it is, the environment finds everything, and ends it (crash point C5)."""
    identity = place.start(place.python("if not os.fork(): os.setsid(); tell('up')\ntime.sleep(1000)"))
    place.told("up")
    wait_until(lambda: len(process.members(place.nonce, None)) == 3)
    assert process.end_tree(None, place.nonce, grace_s=5)
    assert process.members(place.nonce, None) == []
    assert not process.alive(identity)


_COMET = """
    tell('up')
    while True:
        if os.fork(): os._exit(0)
"""


def test_what_forks_and_ends_all_the_time_is_caught(place: Workplace) -> None:
    """A process that lives on in an endless chain of children, none alive for a millisecond, is gone after the end."""
    identity = place.start(place.python(_COMET))
    place.told("up")
    assert place.end(identity, grace_s=0.1)
    assert not process._locked(place.folder)


def test_what_cannot_be_caught_is_said(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something still holds the attempt's lock after the bound, the end is told to have failed."""
    identity = place.start(["true"])
    wait_for_end(identity)
    hold = ["sh", "-c", 'flock "$0" cat; exit 0', str(place.folder / "lock")]
    holder = subprocess.Popen(hold, stdin=subprocess.PIPE, cwd="/")  # its child has the lock, and is not ours
    wait_until(lambda: process._locked(place.folder))
    with monkeypatch.context() as patch:
        patch.setattr(process, "KILL_BOUND_S", 0.3)
        patch.setattr(process, "_has_open", lambda pid, path: False)  # as if it belonged to another user
        assert not place.end(identity, grace_s=0)
    assert place.end(identity, grace_s=0)
    assert holder.wait() == 0
    assert holder.stdin is not None
    holder.stdin.close()


def test_another_boots_worker_is_gone(place: Workplace) -> None:
    """After a reboot a worker is not alive, has no members, and ending it is true, whoever has its pid now."""
    old = Identity("another-boot", os.getpid(), 1)
    assert process.members(place.nonce, old) == []
    assert process.end_tree(old, place.nonce, grace_s=5)


def test_pids_that_start_again_from_the_bottom(place: Workplace) -> None:
    """Once so many processes were made that pids may have wrapped, lower pids are looked at too."""
    space = PidSpace()
    started = place.start(["true"])  # its own pid may be one of the last
    identity = space.note(lambda: replace(started, pid=2))
    assert space.lowest(identity) == identity.pid
    assert space.lowest(replace(identity, pid=identity.pid + 1)) == 0  # one of an earlier daemon
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    near_the_top = space.note(lambda: replace(identity, pid=limit - 1))
    assert space.lowest(near_the_top) == 0


_AS_NOBODY = """
import os, sys, tempfile, shutil
from pathlib import Path
from swarm.edge import process, usage
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
top = Path(sys.argv[1])
worker = process.start(top / "a", ["sh", "-c", "(setsid sleep 1000 &) ; echo up; sleep 1000"], cwd=top,
                       env={"PATH": "/usr/bin:/bin"}, nonce=sys.argv[2], output=top / "out")
while not (top / "out").read_text() or len(process.members(sys.argv[2], worker)) < 3:
    pass
assert process.end_tree(worker, sys.argv[2], folder=top / "a", grace_s=5), process.members(sys.argv[2], worker)
process.reap(worker)
print(process.exit_of(top / "a").code, process.members(sys.argv[2], worker))
"""


def test_an_ordinary_user_can_do_all_this() -> None:
    """Without any privilege a worker is started, found with all it started, and ended."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        command = [sys.executable, "-c", _AS_NOBODY, name, uuid.uuid4().hex]
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=240)
    assert done.stdout == "143 []\n", done.stderr


# --- measuring ----------------------------------------------------------------------------------------------


def test_use_is_told_for_a_whole_tree(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's CPU and memory include its children, also those in sessions of their own; an idle one uses no CPU."""
    monkeypatch.setattr(usage, "SAMPLE_WINDOW_S", 0.0)
    busy = place.start(
        place.python("""
            hold = b"x" * 50_000_000
            if not os.fork():
                os.setsid(); tell("up")
                while True: pass
            time.sleep(1000)
        """)
    )
    other = Workplace(place.top / "other")
    other.top.mkdir()
    idle = other.start(["sleep", "1000"])
    gone = Identity(process.boot_id(), 2**22 + 5, 1)
    place.told("up")
    sampler: Sampler[str] = Sampler()
    workers = {"busy": busy, "idle": idle, "gone": gone}
    first = sampler.sample(workers)
    assert {key: percent for key, (percent, _) in first.items()} == dict.fromkeys(workers)
    spent: list[float] = []

    def worked() -> bool:
        spent.append(sampler.sample(workers)["busy"][0] or 0.0)
        return spent[-1] > 5.0

    wait_until(worked)
    again = sampler.sample(workers)
    assert first["busy"][1] > 50_000_000
    assert 0 < again["idle"][1] < 20_000_000
    assert again["idle"][0] == 0.0
    assert again["gone"] == (0.0, 0)
    assert sampler.sample({}) == {}
    other.end(idle, grace_s=0)
    process.reap(idle)


def test_a_short_window_gives_the_last_figure_again(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again within its window, the sampler tells no figure that 10 ms steps would make up."""
    monkeypatch.setattr(usage, "SAMPLE_WINDOW_S", 3600.0)
    identity = place.start(["sh", "-c", "while :; do :; done"])
    sampler: Sampler[int] = Sampler()
    assert sampler.sample({1: identity})[1][0] is None
    assert sampler.sample({1: identity})[1][0] is None


def test_memory_that_processes_share_is_counted_once(place: Workplace) -> None:
    """Ten forks of a process that holds 60 MB take 60 MB, not 600, once that matters; a process in a session of its own, whose
    parent has ended, counts too."""
    identity = place.start(
        place.python("""
            hold = b"x" * 60_000_000
            for n in range(10):
                if not os.fork():
                    if n == 9:
                        os.setsid()
                        if os.fork(): os._exit(0)
                        own = b"y" * 30_000_000
                        tell("up")
                    time.sleep(1000)
            time.sleep(1000)
        """)
    )
    place.told("up")
    wait_until(lambda: len(process.members(place.nonce, identity)) == 12)
    tree = process.tree_of(place.nonce, identity)
    assert usage.taken_bytes(tree, 10**12) > 600_000_000
    assert 90_000_000 < usage.taken_bytes(tree, 1_000_000) < 190_000_000

"""The sandbox by itself: what is allowed, masked and opened, held against real bubblewrap and Landlock where these work."""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from swarm.core.adapters import BUILT_IN, Agent
from swarm.core.places import AttemptPlaces
from swarm.edge import landlock, process
from swarm.edge.linked import find
from swarm.edge.sandbox import BUBBLEWRAP, LANDLOCK, NONE, Mount, Room, Sandbox, choose, take_out, worker_room
from swarm.edge.suite_rooms import Rooms
from swarm.settings import SandboxPaths, Settings
from tests.adversity import need_to_write
from tests.conftest import git, wait_until
from tests.e2e.test_sandbox import NO_FURTHER, needs_bubblewrap, needs_landlock
from tests.integration.conftest import open_pool

SHUT_IN = Settings(sandbox="required")


EACH = [pytest.param(BUBBLEWRAP, marks=needs_bubblewrap), pytest.param(LANDLOCK, marks=needs_landlock)]


def environment(base: dict[str, str], agent: str = "", **settings: list[str]) -> set[str]:
    """Gives the names of what a program that is shut in gets of `base`."""
    sandbox = Sandbox(BUBBLEWRAP, env=tuple(settings.get("env", ())))
    found = sandbox.environment(base, Path("/own"), BUILT_IN.get(agent))
    assert (found["HOME"], found["TMPDIR"]) == ("/own/home", "/tmp")
    return set(found) - {"HOME", "TMPDIR"}


def test_the_environment_is_what_is_on_the_list() -> None:
    """Of the environment a program gets what tools need; nothing that is named like a secret, whatever else it is named, and
    nothing that nobody has thought of."""
    wanted = [
        "PATH",
        "LANG",
        "LC_ALL",
        "JAVA_HOME",
        "GIT_AUTHOR_NAME",
        "PYTHONPATH",
        "https_proxy",
        "CARGO_HOME",
    ]
    secret = [
        "GITHUB_TOKEN",
        "NPM_CONFIG__AUTH",
        "UV_PUBLISH_PASSWORD",
        "GOOGLE_API_KEY",
        "NODE_AUTH_TOKEN",
        "PIP_SECRET",
    ]
    unknown = ["DATABASE_URL", "SSH_AUTH_SOCK", "AWS_PROFILE", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"]
    base = dict.fromkeys((*wanted, *secret, *unknown), "x")
    assert environment(base) == set(wanted)
    assert environment(base, env=["DATABASE_URL", "GITHUB_*"]) == {*wanted, "DATABASE_URL", "GITHUB_TOKEN"}


def test_keys_go_to_the_agent_that_needs_them() -> None:
    """An agent gets its own keys and what belongs to them; no other agent does, nor a task's command."""
    keys = dict.fromkeys(("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "GEMINI_API_KEY"), "x")
    assert environment(keys) == set()
    assert environment(keys, "claude") == {"ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"}
    assert environment(keys, "codex") == {"OPENAI_API_KEY"}


def test_off_is_told() -> None:
    """Switched off, nothing is in force, and it says so."""
    assert choose(Settings(sandbox="off"), os.environ) == Sandbox(NONE, "it is switched off")


CHOOSE = """
import os
from swarm.edge.sandbox import choose
from swarm.settings import Settings
print(choose(Settings(), os.environ).why)
"""


@needs_landlock
def test_not_there_is_told(tmp_path: Path) -> None:
    """Where bubblewrap is not there, or does not work, and the kernel does not shut anybody in either, nothing is in force, and it
    says of both why."""

    def told() -> str:
        env = {**os.environ, "PATH": str(tmp_path)}
        asked = [sys.executable, "-c", NO_FURTHER, sys.executable, "-c", CHOOSE]
        return subprocess.run(asked, env=env, capture_output=True, text=True, check=True).stdout.strip()

    full = "landlock does not work here: The sandbox can't be made: [Errno 7] Argument list too long."
    assert told() == f"bubblewrap (bwrap) is not installed; {full}"
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no namespaces here >&2; exit 1\n")
    broken.chmod(0o755)
    assert told() == f"bubblewrap does not work here: no namespaces here; {full}"


def test_what_shuts_a_program_in_loads_little() -> None:
    """It runs before every worker and suite, and makes do without what its type hints alone would need."""
    program = [sys.executable, "-I", "-S", "-X", "importtime", landlock.__file__]
    said = subprocess.run(program, stderr=subprocess.PIPE, text=True, check=False, timeout=60).stderr
    loaded = {
        line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")
    }
    assert "ctypes" in loaded
    assert not loaded & {"typing", "inspect", "subprocess", "pathlib", "dataclasses"}


def test_what_landlock_is_told(tmp_path: Path) -> None:
    """A folder in which something is hidden is not allowed but all else in it is, links aside; what comes later is allowed though
    it lies in what was hidden before; names are never held back."""
    for name in ("a/b/secret", "a/b/c", "a/d", "hidden/shown/x", "hidden/y"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "hidden")
    rules = [
        ("list", "/"),
        ("read", ""),
        ("hide", "a/b/secret"),
        ("hide", "hidden"),
        ("write", "hidden/shown"),
    ]
    asked = [(kind, path if path == "/" else str(tmp_path / path)) for kind, path in rules]
    names = [(kind, path.removeprefix(f"{tmp_path}/")) for kind, path in landlock.granted(asked)]
    assert sorted(names) == [("list", "/"), ("read", "a/b/c"), ("read", "a/d"), ("write", "hidden/shown")]


class Inside:
    """A place in which commands are shut in, and a home with secrets."""

    def __init__(self, folder: Path, by: str, settings: Settings = SHUT_IN) -> None:
        self.place, self.own, self.home = folder / "place", folder / "own", folder / "home"
        self.place.mkdir(exist_ok=True)
        for name in (
            ".ssh/id",
            ".claude/.credentials.json",
            ".config/gh/hosts.yml",
            ".config/tool/settings",
            "notes",
        ):
            (self.home / name).parent.mkdir(parents=True, exist_ok=True)
            (self.home / name).write_text(f"{name}\n")
        self.environ = {**os.environ, "HOME": str(self.home)}
        found_in = {} if by == BUBBLEWRAP else {"PATH": ""}
        self.sandbox = choose(settings, {**self.environ, **found_in})
        assert self.sandbox.name == by

    def __call__(self, command: str, agent: str | Agent = "") -> str:
        who = BUILT_IN.get(agent) if isinstance(agent, str) else agent
        own = Mount("write", str(self.own), str(self.own))
        prefix = self.sandbox.prefix(Room(self.place, self.own, (), (own,)), self.environ, who)
        env = self.sandbox.environment(self.environ, self.own, who)
        done = subprocess.run(
            [*prefix, "sh", "-c", command], env=env, capture_output=True, text=True, check=False
        )
        return done.stdout


@pytest.mark.parametrize("by", EACH)
def test_secrets_of_the_home_are_masked_and_the_rest_is_there(tmp_path: Path, by: str) -> None:
    """By the home's true path and by $HOME, what opens other doors can't be read, the rest can, and nothing of it be written; what
    is written to $HOME stays in the folder of its own."""
    inside = Inside(tmp_path, by)
    for home in ("$HOME", str(inside.home)):
        assert (
            inside(f"cat {home}/.ssh/id {home}/.config/gh/hosts.yml {home}/.claude/.credentials.json") == ""
        )
        assert inside(f"cat {home}/notes {home}/.config/tool/settings") == "notes\n.config/tool/settings\n"
    assert (
        inside(
            "echo x > $HOME/new; echo x > $HOME/.cache/new; echo x > $HOME/notes; cat $HOME/new $HOME/.cache/new"
        )
        == "x\nx\n"
    )
    assert sorted(path.name for path in inside.home.iterdir()) == [".claude", ".config", ".ssh", "notes"]
    assert (inside.home / "notes").read_text() == "notes\n"


@pytest.mark.parametrize("hidden", ["/tmp", "/var/tmp", "/dev/shm"])
@pytest.mark.parametrize("by", EACH)
def test_a_home_where_things_are_hidden_is_there(by: str, hidden: str) -> None:
    """A home that lies where the sandbox hides things is read like any other, git's identity too, and nothing else there is; its
    secrets are masked, and nothing is written to it."""
    need_to_write(hidden)
    with tempfile.TemporaryDirectory(dir=hidden) as folder:
        inside = Inside(Path(folder), by)
        (inside.home / ".gitconfig").write_text("[user]\nname = Ada\nemail = ada@example.org\n")
        Path(folder, "others").write_text("others\n")
        config = "unset GIT_CONFIG_GLOBAL; git config --global user.name"
        assert inside(f"{config}; cat {folder}/others $HOME/notes $HOME/.ssh/id") == "Ada\nnotes\n"
        inside(f"echo x > {inside.home}/notes; echo x > {inside.home}/new")
        assert (inside.home / "notes").read_text() == "notes\n"
        assert not (inside.home / "new").exists()


@pytest.mark.parametrize("hidden", ["/tmp", "/dev/shm"])
@pytest.mark.parametrize("by", EACH)
def test_objects_that_a_repository_borrows_are_read_where_things_are_hidden(by: str, hidden: str) -> None:
    """Git works in a worktree whose repository has its objects in another one's folder, which has them in a third one's, wherever
    these lie; a setup command reads them too, and nobody writes there."""
    need_to_write(hidden)
    with tempfile.TemporaryDirectory(dir=hidden) as folder:
        top, place = Path(folder), Path(folder, "shares")
        git(top, "init", "-q", "-b", "main", "first")
        git(
            top / "first",
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@b",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "one",
        )
        git(top, "clone", "-q", "--shared", "first", "second")
        git(top, "clone", "-q", "--shared", "second", "shares")
        pool = open_pool(place)
        tree = pool.take("r/t/1", git(place, "rev-parse", "HEAD"))
        environ = {**os.environ, **({} if by == BUBBLEWRAP else {"PATH": ""})}
        sandbox = choose(SHUT_IN, environ)
        places = AttemptPlaces(place / ".git" / "swarm" / "r" / "1")
        places.own.mkdir(parents=True)
        (place / ".git" / "swarm" / "look").mkdir()
        git_folder = pool.seclude("r/t/1", in_place=sandbox.moves)
        look = place / ".git" / "swarm" / "look"
        room = worker_room(tree, git_folder, common=place / ".git", top=place, look=look, places=places)
        store = top / "first" / ".git" / "objects"
        command = ["sh", "-c", f"git log --format=%s; echo x > {store}/new; cat {top}/other"]
        (top / "other").write_text("other\n")

        def said(prefix: tuple[str, ...]) -> str:
            asked = [*prefix, *command]
            return subprocess.run(asked, cwd=tree, capture_output=True, text=True, check=False).stdout

        assert said(sandbox.prefix(room, environ)) == "one\n"
        rooms = Rooms(sandbox, place / ".git", (place,), environ=environ)
        linked = find(tree, place / ".git")
        assert linked is not None
        linked.name_record(linked.admin)
        assert said(rooms.setup(linked, places.own)).startswith("one\n")
        assert not (store / "new").exists()
        pool.close()


@pytest.mark.skipif(
    str(Path(__file__)).startswith(("/dev/", "/tmp/", "/var/tmp/")),
    reason="this program lies in a place for all, of which then all that it is made of is shown",
)
@pytest.mark.parametrize("by", EACH)
def test_the_users_own_folder_for_temporary_files_is_hidden(by: str) -> None:
    """Where the user's TMPDIR is none of everybody's, what others have there is not read either; what was made to be seen is."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parents[2]) as folder:
        temporary = Path(folder, "temporary")
        (temporary / "place").mkdir(parents=True)
        (temporary / "others").write_text("others\n")
        (temporary / "place" / "mine").write_text("mine\n")
        inside = Inside(Path(folder), by)
        inside.place = temporary / "place"
        look = f"cat {temporary}/others {temporary}/place/mine"
        assert inside(look) == "others\nmine\n"
        inside.environ |= {"TMPDIR": str(temporary)}
        assert inside(f"{look}; cat $HOME/notes") == "mine\nnotes\n"


@pytest.mark.parametrize("by", EACH)
def test_an_agent_has_its_program(tmp_path: Path, by: str) -> None:
    """An agent whose program lies where the sandbox hides things finds it and what is beside it, also through a link; another
    agent doesn't."""
    inside = Inside(tmp_path, by)
    with tempfile.TemporaryDirectory(dir="/tmp") as hidden:
        (Path(hidden) / "agent").write_text("#!/bin/sh\ncat $(dirname $(readlink -f $0))/data\n")
        (Path(hidden) / "agent").chmod(0o755)
        (Path(hidden) / "data").write_text("data\n")
        link = inside.place / "agent"
        link.symlink_to(f"{hidden}/agent")
        for program in (f"{hidden}/agent", str(link)):
            assert inside(program, Agent(command=(program,))) == "data\n"
        assert inside(f"{hidden}/agent") == ""


@pytest.mark.parametrize("by", EACH)
def test_an_agent_has_its_own_login(tmp_path: Path, by: str) -> None:
    """The agent that needs a login finds it, and may write where it keeps its conversations."""
    inside = Inside(tmp_path, by)
    read = "cat $HOME/.claude/.credentials.json; echo x > $HOME/.claude/history"
    assert inside(read, "claude") == ".claude/.credentials.json\n"
    assert (inside.home / ".claude" / "history").read_text() == "x\n"
    assert inside(read, "codex") == ""


@pytest.mark.parametrize("by", EACH)
def test_what_an_agent_keeps_the_first_time_is_kept(tmp_path: Path, by: str) -> None:
    """The folder in which an agent keeps its conversations is there for the next attempt, although it was never used before."""
    inside = Inside(tmp_path, by)
    assert inside('mkdir -p "$HOME/.codex/sessions"; echo x > $HOME/.codex/sessions/1', "codex") == ""
    assert inside("cat $HOME/.codex/sessions/1", "codex") == "x\n"


REACH = """
import socket
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
except OSError:
    print("refused")
"""


@pytest.mark.parametrize("by", EACH)
def test_the_settings_open_more(tmp_path: Path, by: str) -> None:
    """Paths to read are seen although they are masked, paths to write are written to; without the network there is none."""
    written = tmp_path / "written"
    written.mkdir()
    paths = SandboxPaths(read=["~/.ssh"], write=[str(written)])
    inside = Inside(tmp_path, by, Settings(sandbox="required", sandbox_paths=paths, sandbox_network=False))
    reached = f"{shlex.quote(sys.executable)} -c {shlex.quote(REACH)}"
    said = inside(f"cat $HOME/.ssh/id; echo x > {written}/x; echo x > $HOME/.ssh/x; {reached}").split()
    assert said == [".ssh/id", "refused"]
    assert [path.name for path in written.iterdir()] == ["x"]
    assert not (inside.home / ".ssh" / "x").exists()


@needs_bubblewrap
def test_nothing_of_others_is_seen(tmp_path: Path) -> None:
    """Temporary files of others, sockets below /run and other processes can't be seen, and no argument holds a secret."""
    inside = Inside(tmp_path, BUBBLEWRAP)
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as one,
        tempfile.TemporaryDirectory(dir="/var/tmp") as other,
    ):
        seen = inside("ls -A /tmp /var/tmp").split()
        assert not {Path(one).name, Path(other).name} & set(seen)
    assert inside("ls -A /run | grep -v -e resolve -e systemd") == ""
    assert int(inside("ls -d /proc/[0-9]* | wc -l")) <= 6
    prefix = inside.sandbox.prefix(Room(inside.place, inside.own), {**inside.environ, "SOME_API_KEY": "sk-1"})
    assert not any("sk-1" in argument for argument in prefix)


@needs_landlock
def test_what_landlock_holds_of_others(tmp_path: Path) -> None:
    """Temporary files of others can't be read, other processes neither asked for their environment nor ended, no Unix socket is
    reached by whatever way, as root no right of root is left; `/dev/null` and a pipe's own name can be written to."""
    inside = Inside(tmp_path, LANDLOCK)
    with tempfile.NamedTemporaryFile("w", dir="/tmp") as other:
        other.write("theirs\n")
        other.flush()
        assert (
            inside(f"cat {other.name}; echo x > /tmp/x; echo mine > $TMPDIR/x && cat $TMPDIR/x") == "mine\n"
        )
    us = os.getpid()
    if landlock.abi() >= landlock.SIGNALS_HELD_ABI:
        assert inside(f"kill -0 {us} || echo held") == "held\n"
    assert inside(f"cat /proc/{us}/environ") == ""
    assert inside(f"{shlex.quote(sys.executable)} -c {shlex.quote(WAYS)}").split() == ["refused"] * 3 + [
        "pair"
    ]
    assert inside("grep CapEff /proc/self/status").split()[1].strip("0") == ""
    assert inside("echo x > /dev/null && echo said > /dev/stdout") == "said\n"


@needs_landlock
@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", -15), ("kill -KILL $$", -9), ("kill -SEGV $$", -11)],
)
def test_a_program_that_landlock_shuts_in_ends_as_it_did(tmp_path: Path, command: str, code: int) -> None:
    """Exit status and signal of the program are those of who shut it in, and the sign that something of it may run is gone."""
    before = landlock.prefix([("write", "/")], place="/", network=True, sign=f"{tmp_path}/sign-")
    said = f"ls {tmp_path}; {command}"
    done = subprocess.run([*before, "sh", "-c", said], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("sign-")) == (code, 1)
    assert list(tmp_path.iterdir()) == []


# Leaves a process that shed every mark, and then waits for a signal: it says so in the folder that it is given.
STAYS = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 200)
        os.chdir("/")
        os.execve("/bin/sleep", ["sleep", "1000"], {"SHED": sys.argv[1]})
    os._exit(0)
os.wait()
def asked(*_):
    (folder / "asked").touch()
    if sys.argv[2] == "heeds":
        os._exit(5)
signal.signal(signal.SIGTERM, asked)
(folder / "ready").touch()
while True:
    time.sleep(1)
"""


def _shed(folder: Path) -> list[psutil.Process]:
    """Finds what `STAYS` left, once it is what it was to become."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.environ() == {"SHED": str(folder)} and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


@needs_landlock
@pytest.mark.parametrize(("how", "code"), [("heeds", 5), ("stays", 137)])
def test_all_that_landlock_shuts_in_ends_with_its_worker(tmp_path: Path, how: str, code: int) -> None:
    """A worker that is ended is asked first, and killed where it stays; either way what it started and nobody can tell from others'
    is gone as well, and its end is told as ever."""
    before = landlock.prefix([("write", "/")], place="/", network=True, sign=f"{tmp_path}/sign-")
    worker, argv = tmp_path / "worker", (sys.executable, "-c", STAYS, str(tmp_path), how)
    nonce = f"n-{tmp_path}"  # another test may run beside it
    started = process.start(
        worker, argv, cwd=tmp_path, env={}, nonce=nonce, output=tmp_path / "out", prefix=before
    )
    wait_until(lambda: (tmp_path / "ready").exists() and len(_shed(tmp_path)) == 1)
    grace_s = 60.0 if how == "heeds" else 0.2
    assert process.end_tree(started, nonce, folder=worker, grace_s=grace_s)
    process.reap(started)
    assert (tmp_path / "asked").exists()
    assert _shed(tmp_path) == []
    ended = process.exit_of(worker)
    assert ended is not None
    assert ended.code == code
    assert list(tmp_path.glob("sign-*")) == []


@needs_landlock
def test_who_shuts_in_is_not_killed_unseen(tmp_path: Path) -> None:
    """Where who shut a program in was killed, so that what it started is nobody's, the sign of that stays."""
    before = landlock.prefix([("write", "/")], place="/", network=True, sign=f"{tmp_path}/sign-")
    outside = subprocess.Popen([*before, sys.executable, "-c", STAYS, str(tmp_path), "stays"])
    wait_until(lambda: (tmp_path / "ready").exists() and len(_shed(tmp_path)) == 1)
    below = psutil.Process(outside.pid).children(recursive=True)
    outside.kill()
    outside.wait()
    assert len(_shed(tmp_path)) == 1
    for each in (*below, *_shed(tmp_path)):
        each.kill()
    assert len(list(tmp_path.glob("sign-*"))) == 1


WAYS = """
import ctypes, errno, socket
def tried(make):
    try:
        make()
    except OSError as error:
        assert error.errno == errno.EACCES, error
        print("refused")
tried(lambda: socket.socket(socket.AF_UNIX))
tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
assert ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(256)) == -1
print("refused")
socket.socketpair()
print("pair")
"""


REACHED = """
import socket
socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
socket.socket(socket.AF_UNIX)
print("local")
socket.socket(socket.AF_INET)
print("network")
"""


@needs_landlock
@pytest.mark.parametrize("network", [True, False])
def test_a_suite_has_its_own_sockets_without_the_network_too(tmp_path: Path, network: bool) -> None:
    """Where the network is kept from a suite, Unix sockets are not, and no other socket is opened."""
    before = landlock.prefix([("write", "/")], place=str(tmp_path), network=network, sockets=True)
    asked = [*before, sys.executable, "-c", REACHED]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.stdout.split() == (["local", "network"] if network else ["local"])
    assert ("Permission denied" in done.stderr) is not network


# Tries what one process may do to another of the same user's, whose number it is given, and says what was refused.
DOORS = """
import ctypes, errno, os, resource, sys
libc, other = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
names = "add_key request_key keyctl shmget semget msgget".split()
numbers = dict(zip(names, {"x86_64": (248, 249, 250, 29, 64, 68), "aarch64": (217, 218, 219, 194, 190, 186)}[os.uname().machine]))
def called(name, *values):
    if libc.syscall(numbers[name], *values) < 0:
        raise OSError(ctypes.get_errno(), name)
def shared():
    called("shmget", 0, 4096, 0o1600)
    called("semget", 0, 1, 0o1600)
    called("msgget", 0, 0o1600)
doors = {
    "limits": lambda: resource.prlimit(other, resource.RLIMIT_CPU, (1000, 1000)),
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, other, 19),
    "priority of all": lambda: os.setpriority(os.PRIO_USER, 0, 19),
    "scheduler": lambda: os.sched_setscheduler(other, os.SCHED_BATCH, os.sched_param(0)),
    "keyring": lambda: called("keyctl", 0, -4, 0),
    "own limits": lambda: resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000)),
    "limits seen": lambda: resource.prlimit(other, resource.RLIMIT_CPU),
    "own priority": lambda: os.nice(1),
    "own scheduler": lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
    "shared": shared,
}
for name, door in doors.items():
    try:
        door()
    except OSError as error:
        print(name, errno.errorcode[error.errno])
"""


@needs_landlock
@pytest.mark.parametrize("sockets", [False, True])
def test_one_process_does_nothing_to_another(tmp_path: Path, sockets: bool) -> None:
    """Landlock holds back signals; limits and priority of another process, and keys that the kernel keeps for the user, are refused
    by the filter beside it, as is memory that others share by number, save to suites. What a program does to itself is not."""
    before = landlock.prefix([("write", "/")], place=str(tmp_path), network=True, sockets=sockets)
    other = subprocess.Popen(["sleep", "100"])
    try:
        asked = [*before, sys.executable, "-c", DOORS, str(other.pid)]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        found = psutil.Process(other.pid)
        assert (found.nice(), found.rlimit(psutil.RLIMIT_CPU)) == (
            psutil.Process().nice(),
            resource.getrlimit(resource.RLIMIT_CPU),
        )
    finally:
        other.kill()
        other.wait()
    refused = [
        "limits",
        "priority",
        "priority of all",
        "scheduler",
        "keyring",
        *([] if sockets else ["shared"]),
    ]
    assert done.stdout.splitlines() == [f"{name} EACCES" for name in refused], done.stderr


HONEST = """
import multiprocessing, os, socket, sys, tempfile
def served(at):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(at)
    listening.listen()
    socket.socket(socket.AF_UNIX).connect(at)
if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        print(sum(pool.map(abs, [-1, 2])))
    served(tempfile.mkdtemp() + "/s")
    socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for place in ("/dev/shm", "/var/tmp"):
        with tempfile.NamedTemporaryFile(dir=place):
            print(place)
"""


@pytest.mark.skipif(
    str(Path(__file__)).startswith(("/dev/shm/", "/var/tmp/")),
    reason="this program lies in a place for all, in which then nothing new is made",
)
@needs_landlock
def test_what_landlock_leaves_a_suite(tmp_path: Path) -> None:
    """What suites need works: process pools, sockets of their own, places for all. What is kept is not written to though it lies in
    one of these, nor is the repository, and the secrets of the home are not read."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        inside = Inside(Path(folder), LANDLOCK)
        top, common, tree = Path(folder, "top"), Path(folder, "top/.git"), Path(folder, "tree")
        for made in (
            common / "swarm",
            top / ".worktrees" / "1",
            tree,
            inside.own,
            tmp_path / "shares",
            Path(folder, ".pool"),
        ):
            made.mkdir(parents=True)
        (tree / "honest.py").write_text(HONEST)
        rooms = Rooms.of(inside.sandbox, SHUT_IN, common, top, inside.environ, Path(folder, "verified"))

        def run(command: str) -> str:
            before = rooms.suite(tree, None, common / "swarm", inside.own, tmp_path / "shares")
            env = rooms.environment(inside.environ, inside.own)
            asked = [*before, "sh", "-c", command]
            return subprocess.run(asked, env=env, capture_output=True, text=True, check=False).stdout

        assert run(f"{shlex.quote(sys.executable)} honest.py").split() == ["3", "/dev/shm", "/var/tmp"]
        places = (top, top / ".worktrees" / "1", common, common / "swarm", inside.home)
        assert (
            run(f"for each in {shlex.join(map(str, places))} .; do echo x > $each/new && echo $each; done")
            == ".\n"
        )
        assert run(f"cat $HOME/notes {inside.home}/.ssh/id {common}/HEAD") == "notes\n"


@pytest.mark.parametrize("closed", [".", "own"])
def test_what_a_worker_said_is_taken_out_of_a_folder_without_rights(tmp_path: Path, closed: str) -> None:
    """A worker that took the rights away from its folder, or made it a file, keeps nobody from what it said, or from ending it."""
    places = AttemptPlaces(tmp_path / "attempt")
    places.own.mkdir(parents=True)
    places.own_result.write_text("{}")
    (places.folder / closed).chmod(0)
    take_out(places)
    assert places.result.read_text() == "{}"
    places.own.write_text("no folder")
    take_out(places)
    assert not places.own.exists()

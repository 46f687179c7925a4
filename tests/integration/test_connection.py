"""Finding a repository without git, and talking HTTP with a daemon that behaves, misbehaves, or is dead."""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm import __version__, protocol
from swarm.client import connection as connecting
from swarm.client import everywhere, place, spawning
from swarm.client.connection import AnswerBroken, AnswerLate, Connection, daemon_file, find
from swarm.client.session import Session
from swarm.errors import NoDaemon, Refused, SwarmError, UsageError
from tests.conftest import git, wait_until

# --- where a repository is --------------------------------------------------------------------------------------------------


def as_git_sees_it(folder: Path, what: str, **environ: str) -> str:
    """Asks git itself."""
    done = subprocess.run(
        ["git", "rev-parse", "--path-format=absolute", what], cwd=folder, capture_output=True, text=True, check=True,
        env={**os.environ, **environ},
    )  # fmt: skip
    return os.path.realpath(done.stdout.strip())


@pytest.fixture
def linked(repo: Path, tmp_path: Path) -> Path:
    """A linked worktree of the repository, outside it."""
    path = tmp_path / "linked tree"
    git(repo, "worktree", "add", "-q", "--detach", str(path))
    (path / "deep" / "er").mkdir(parents=True)
    return path


def test_from_anywhere_in_a_checkout_the_same_place_is_found(repo: Path, linked: Path) -> None:
    """From the top, a folder below, a linked worktree and the git folder itself: git's own answer, and one state folder."""
    for folder in (repo, repo / "src", linked, linked / "deep" / "er"):
        found = place.locate(str(folder), {})
        assert found.common_dir == as_git_sees_it(folder, "--git-common-dir")
        assert found.here == as_git_sees_it(folder, "--show-toplevel")
        assert found.top == os.path.realpath(repo)
        assert found.state == os.path.join(os.path.realpath(repo), ".git", "swarm")
    assert place.locate(str(repo / ".git" / "refs"), {}).top == os.path.realpath(repo)


def test_a_link_into_a_repository_leads_to_it(repo: Path, tmp_path: Path) -> None:
    """A symbolic link to a folder of the repository is followed, as git does."""
    (tmp_path / "link").symlink_to(repo / "src")
    assert place.locate(str(tmp_path / "link"), {}).top == os.path.realpath(repo)


def test_submodules_and_separate_git_folders_have_their_own_place(repo: Path, tmp_path: Path) -> None:
    """A submodule is a repository by itself, and so is a checkout whose git folder lies elsewhere."""
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", "--separate-git-dir", str(tmp_path / "elsewhere"), str(other))
    found = place.locate(str(other), {})
    assert (found.top, found.common_dir) == (
        os.path.realpath(other),
        os.path.realpath(tmp_path / "elsewhere"),
    )
    git(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repo), "inner")
    found = place.locate(str(repo / "inner" / "src"), {})
    assert found.top == os.path.realpath(repo / "inner")
    assert found.common_dir == as_git_sees_it(repo / "inner", "--git-common-dir")


def test_a_bare_repository_has_one_place_from_all_its_worktrees(repo: Path, tmp_path: Path) -> None:
    """Worktrees of a bare repository agree on its top and its state."""
    git(tmp_path, "clone", "-q", "--bare", str(repo), "project.git")
    bare = tmp_path / "project.git"
    for name in ("one", "two"):
        git(bare, "worktree", "add", "-q", "--detach", str(tmp_path / name))
    places = [place.locate(str(tmp_path / name), {}) for name in ("one", "two", "project.git")]
    assert {found.top for found in places} == {os.path.realpath(bare)}
    assert {found.state for found in places} == {os.path.join(os.path.realpath(bare), "swarm")}
    git(tmp_path, "clone", "-q", "--bare", str(repo), "hidden/.bare")
    git(tmp_path / "hidden" / ".bare", "worktree", "add", "-q", "--detach", str(tmp_path / "hidden" / "one"))
    hidden = place.locate(str(tmp_path / "hidden" / "one"), {})
    assert hidden.top == hidden.common_dir == os.path.realpath(tmp_path / "hidden" / ".bare")


def test_the_environment_of_git_counts(repo: Path, linked: Path, tmp_path: Path) -> None:
    """GIT_DIR and GIT_WORK_TREE name the repository from anywhere; a ceiling ends the search."""
    found = place.locate(str(tmp_path), {"GIT_DIR": str(repo / ".git"), "GIT_WORK_TREE": str(repo)})
    assert found.top == os.path.realpath(repo)
    inside = str(linked / "deep")
    assert place.locate(inside, {"GIT_CEILING_DIRECTORIES": "/x:/y"}).here == os.path.realpath(linked)
    with pytest.raises(UsageError, match="not in a git repository"):
        place.locate(str(linked / "deep" / "er"), {"GIT_CEILING_DIRECTORIES": str(linked)})
    with pytest.raises(UsageError, match="GIT_DIR"):
        place.locate(str(repo), {"GIT_DIR": str(tmp_path / "nothing")})


def test_where_there_is_no_repository_it_says_so(repo: Path, linked: Path, tmp_path: Path) -> None:
    """No repository, a folder that is none, and a .git file that points to nothing are told, never guessed over."""
    with pytest.raises(UsageError, match="not in a git repository"):
        place.locate(str(tmp_path), {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
    with pytest.raises(UsageError, match="not a folder"):
        place.locate(str(tmp_path / "nothing"), {})
    (linked / ".git").write_text("gitdir: /not/there\n")
    with pytest.raises(UsageError, match="points to /not/there"):
        place.locate(str(linked), {})
    (repo / "src" / ".git").mkdir()  # empty: git looks further up, and so do we
    assert place.locate(str(repo / "src"), {}).top == as_git_sees_it(repo / "src", "--show-toplevel")


def test_repositories_in_which_it_was_used_are_remembered(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was remembered is known while its state is there and this user's, told as gone when it is not, and forgotten when the
    next one is remembered; a note that is none and a home that can't be written to are no errors."""
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    found = place.locate(str(repo), {})
    place.remember(found, environ)
    assert (place.known(environ), place.gone(environ)) == ([], [found.top])
    os.mkdir(found.state)
    place.remember(found, environ)
    assert (place.known(environ), place.gone(environ)) == ([(found.top, found.state)], [])
    notes = tmp_path / "state" / "swarm" / "repositories"
    (note,) = notes.iterdir()
    for name, text in (("0123456789abcdef", "{"), (f"{note.name}.4711", note.read_text())):
        (notes / name).write_text(text)  # broken; of a writer that was killed
    assert place.known(environ) == [(found.top, found.state)]
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert (place.known(environ), place.gone(environ)) == ([], [])
    os.rename(repo, tmp_path / "moved")
    assert (place.known(environ), place.gone(environ)) == ([], [found.top])
    moved = place.locate(str(tmp_path / "moved"), {})
    place.remember(moved, environ)
    assert (place.known(environ), place.gone(environ)) == ([(moved.top, moved.state)], [])
    assert not note.exists()
    (tmp_path / "file").write_text("")
    place.remember(moved, {"XDG_STATE_HOME": str(tmp_path / "file")})
    assert place.known({}) == []


# --- talking ----------------------------------------------------------------------------------------------------------------

Answer = Callable[[str, bytes], bytes]


def http(body: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    """An answer with a length."""
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n".encode()
        + body
    )


def chunked(*parts: bytes) -> bytes:
    """An answer in chunks, complete."""
    body = b"".join(f"{len(part):x};x=y\r\n".encode() + part + b"\r\n" for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


class Daemon(socketserver.ThreadingUnixStreamServer):
    """Answers each request with bytes that a test chose."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.answers: dict[str, bytes] = {}
        self.seen: list[tuple[str, bytes]] = []
        self.hold = threading.Event()
        super().__init__(path, _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: Daemon

    def handle(self) -> None:
        line = self.rfile.readline().decode().strip()
        if not line:
            return  # only looked whether somebody listens
        length = 0
        while header := self.rfile.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        self.server.seen.append((line, self.rfile.read(length)))
        answer = self.server.answers.get(line.split()[1].partition("?")[0], b"")
        try:
            self.wfile.write(answer)
            if not answer:
                self.server.hold.wait(30)
        except OSError:
            pass  # the client has gone


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder with a short path, as a socket needs one."""
    with tempfile.TemporaryDirectory(prefix="sw-") as folder:
        yield Path(folder)


@pytest.fixture
def daemon(state: Path) -> Iterator[Daemon]:
    """A daemon that listens, and has written down where."""
    server = Daemon(str(state / "api.sock"))
    (state / "daemon.json").write_text(json.dumps({"pid": 4711, "socket": str(state / "api.sock")}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_documents_come_as_they_were_sent(daemon: Daemon, state: Path) -> None:
    """With a length, in chunks that cut letters apart, and up to the end of the connection: the same document."""
    document = {"schema": 1, "text": "Grüße 日本" * 1000}
    body = json.dumps(document, ensure_ascii=False).encode()
    cut = [body[at : at + 7] for at in range(0, len(body), 7)]
    daemon.answers = {
        "/length": http(body),
        "/chunks": chunked(*cut),
        "/end": b"HTTP/1.1 200 OK\r\n\r\n" + body,
    }
    connection = find(str(state), {})
    assert connection.pid == 4711
    for route in daemon.answers:
        assert connection.get(route) == document


def test_questions_reach_the_daemon_whole(daemon: Daemon, state: Path) -> None:
    """Values of a query are quoted, None is left out, and the body of a request is what was given."""
    daemon.answers = {"/v1/status": http(b"{}"), "/v1/submit": http(b"{}")}
    connection = find(str(state), {})
    connection.get("/v1/status", {"run": "a b&c/ü", "view": None, "full": True})
    connection.post("/v1/submit", {"plan": "x" * 3_000_000})
    assert daemon.seen[0][0] == "GET /v1/status?run=a%20b%26c%2F%C3%BC&full=1 HTTP/1.1"
    assert json.loads(daemon.seen[1][1]) == {"plan": "x" * 3_000_000}


def test_an_error_of_the_daemon_is_raised_as_it_was(daemon: Daemon, state: Path) -> None:
    """Refusals keep their class and words; what is no answer of ours says the status."""
    daemon.answers = {
        "/refused": http(
            json.dumps(protocol.error_body(Refused("a", "b", "c"))).encode(), status="409 Conflict"
        ),
        "/other": http(b'"Not Found"', status="404 Not Found"),
    }
    connection = find(str(state), {})
    with pytest.raises(Refused) as caught:
        connection.get("/refused")
    assert str(caught.value) == str(Refused("a", "b", "c"))
    with pytest.raises(SwarmError, match="answered 404"):
        connection.post("/other", {})
    with pytest.raises(Refused):
        connection.stream("/refused")


@pytest.mark.parametrize(
    "answer",
    [
        http(b'{"a": 1}', length=100),
        http(b"{not json"),
        http(b"{}", length=protocol.RESPONSE_BYTES_MAX + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000 + b"\r\n{}",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff\n",
    ],
)
def test_an_answer_that_is_broken_is_told_and_never_taken_for_whole(
    daemon: Daemon, state: Path, answer: bytes
) -> None:
    """Cut off, too large, no JSON, no HTTP: each is an error of one kind, and nothing is made of the rest."""
    daemon.answers = {"/x": answer}
    with pytest.raises(AnswerBroken):
        find(str(state), {}).get("/x")


def test_who_breaks_off_may_have_taken_a_change_in(daemon: Daemon, state: Path) -> None:
    """Where the daemon is gone before it has answered nothing says that nothing was done; a question changes nothing."""
    daemon.hold.set()
    daemon.answers = {"/half": http(b"{}", length=9)}
    for route, cause in (("/killed", "ended before it had answered"), ("/half", "cut off")):
        with pytest.raises(AnswerBroken, match=cause) as caught:
            find(str(state), {}).post(route, {})
        assert "may have been taken in" in caught.value.consequence
        assert caught.value.exit_code == 3
        with pytest.raises(AnswerBroken, match=cause) as caught:
            find(str(state), {}).get(route)
        assert caught.value.consequence == ""


def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever(daemon: Daemon, state: Path) -> None:
    """After the time limit the error names the process and what to do."""
    with pytest.raises(SwarmError, match=r"process 4711.*within 0\.1 s") as caught:
        find(str(state), {}).get("/hangs", timeout_s=0.1)
    assert "swarm stop --now" in caught.value.next_step


def test_a_stream_gives_lines_however_they_are_cut(daemon: Daemon, state: Path) -> None:
    """Lines cut by chunks come whole and in order; empty ones, which keep a connection alive, are no event."""
    lines = b"".join(json.dumps({"seq": n, "text": "ü" * n}).encode() + b"\n" for n in range(1, 60)) + b"\n\n"
    daemon.answers = {"/v1/events": chunked(*[lines[at : at + 11] for at in range(0, len(lines), 11)])}
    events = list(find(str(state), {}).stream("/v1/events", {"after": 0}))
    assert [event["seq"] for event in events] == list(range(1, 60))


def test_a_stream_that_breaks_off_gives_what_came_and_then_says_so(daemon: Daemon, state: Path) -> None:
    """When the daemon dies the lines that were complete are given, and the end is told apart from a good one."""
    daemon.answers = {"/v1/events": chunked(b'{"seq": 1}\n', b'{"se').removesuffix(b"0\r\n\r\n")}
    seen: list[Any] = []
    with pytest.raises(AnswerBroken):
        _collect(find(str(state), {}), seen)
    assert seen == [{"seq": 1}]


def _collect(connection: Connection, seen: list[Any]) -> None:
    for event in connection.stream("/v1/events"):
        seen.append(event)


def test_a_stream_can_be_ended_from_another_thread(daemon: Daemon, state: Path) -> None:
    """Closing ends an iteration that waits for a line which never comes."""
    daemon.answers = {"/v1/events": chunked(b'{"seq": 1}\n').removesuffix(b"0\r\n\r\n") + b"5\r\n"}
    stream = find(str(state), {}).stream("/v1/events")
    iterator = iter(stream)
    assert next(iterator) == {"seq": 1}
    threading.Timer(0.05, stream.close).start()
    with pytest.raises(AnswerBroken):
        next(iterator)


def test_no_daemon_is_told_apart_from_a_broken_one(state: Path) -> None:
    """Nothing written, nonsense written, a socket file that nobody listens on, and no socket file: exit 3 each time."""
    with pytest.raises(NoDaemon):
        find(str(state), {})
    for text in ("{", "[]", "{}", '{"socket": 3}'):
        (state / "daemon.json").write_text(text)
        assert daemon_file(str(state)) is None
        with pytest.raises(NoDaemon):
            find(str(state), {})
    (state / "daemon.json").write_text(json.dumps({"pid": 1, "socket": str(state / "api.sock")}))
    with pytest.raises(NoDaemon):
        find(str(state), {})
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(state / "api.sock"))
    dead.listen()
    dead.close()
    assert (state / "api.sock").exists()
    with pytest.raises(NoDaemon) as caught:
        find(str(state), {})
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("words", [["stop", "--drain"], ["recover"], ["config"]], ids=" ".join)
def test_a_daemon_that_ends_while_it_is_asked_is_as_if_there_were_none(
    daemon: Daemon, repo: Path, words: list[str]
) -> None:
    """A daemon that ends by itself may take a connection and answer nothing any more: that it is gone is what was wanted of a stop,
    and what needs none is done without."""
    (repo / ".git" / "swarm").mkdir()
    ending = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    told = {"pid": ending.pid, "socket": str(daemon.server_address), "version": __version__}
    (repo / ".git" / "swarm" / "daemon.json").write_text(json.dumps(told))
    daemon.answers = dict.fromkeys(("/v1/stop", "/v1/recover", "/v1/settings"), b"\r\n")
    asked = subprocess.Popen(
        [sys.executable, "-m", "swarm", *words], cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until(lambda: daemon.seen)
    ending.communicate()
    said = asked.communicate(timeout=240)
    assert asked.returncode == 0, said


def test_a_daemon_is_found_after_its_repository_was_moved(
    daemon: Daemon, state: Path, tmp_path: Path
) -> None:
    """The path that was written down is no longer true; the socket in the state folder is."""
    (state / "daemon.json").write_text(json.dumps({"pid": 1, "socket": "/not/there/any/more.sock"}))
    daemon.answers = {"/v1/ping": http(b'{"api": 1}')}
    assert find(str(state), {}).get("/v1/ping") == {"api": 1}


def test_the_folder_of_the_socket_is_private(tmp_path: Path) -> None:
    """It is made for its owner only; one that others can write to, or a link, is refused."""
    protocol.private_folder(str(tmp_path / "made"))
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
    protocol.private_folder(str(tmp_path / "made"))
    (tmp_path / "made").chmod(0o777)
    with pytest.raises(Refused):
        protocol.private_folder(str(tmp_path / "made"))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(Refused):
        protocol.private_folder(str(tmp_path / "link"))
    (tmp_path / "file").touch()
    with pytest.raises(SwarmError, match="can't be made: Not a directory") as caught:
        protocol.private_folder(str(tmp_path / "file" / "swarm-1"))
    assert "set XDG_RUNTIME_DIR or TMPDIR" in caught.value.next_step


def test_where_nothing_can_be_noted_swarm_does_not_say_that_it_was_never_used(tmp_path: Path) -> None:
    """A home that can't be written to holds no note of what was used; one that only has none yet says so."""
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        assert "can't be noted in" in place.nowhere({"HOME": str(home)})
    for home in (tmp_path, tmp_path / "new"):
        assert "has not been used" in place.nowhere({"HOME": str(home)})


@pytest.fixture
def idle_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives and does nothing."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def told_of(state: Path, pid: int) -> Connection:
    """A connection to the daemon of the test, as if it were this process."""
    (state / "daemon.json").write_text(json.dumps({"pid": pid, "socket": str(state / "api.sock")}))
    return find(str(state), {})


def test_a_daemon_that_neither_answers_nor_works_is_not_waited_for(
    daemon: Daemon, state: Path, idle_process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the time limit, saying what a change that was asked for may come to; a question changes nothing."""
    monkeypatch.setattr(connecting, "SILENT_S", 0.2)
    daemon_of = told_of(state, idle_process.pid)
    with pytest.raises(AnswerLate, match="neither answers nor works") as caught:
        daemon_of.post("/hangs", {})
    assert (caught.value.exit_code, caught.value.consequence) == (3, "What was asked for may still happen.")
    with pytest.raises(AnswerLate) as caught:
        daemon_of.get("/hangs")
    assert caught.value.consequence == ""
    with pytest.raises(AnswerLate):
        daemon_of.stream("/hangs")


def test_a_daemon_that_works_is_waited_for(
    daemon: Daemon, state: Path, idle_process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that answers whether it is there, and one that only uses the processor, are slow: the time limit decides."""
    monkeypatch.setattr(connecting, "SILENT_S", 0.2)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with pytest.raises(AnswerLate, match=r"within 2 s"):
            told_of(state, busy.pid).get("/hangs", timeout_s=2)
    finally:
        busy.kill()
        busy.wait()
    daemon.answers = {protocol.PING: http(b"{}")}
    with pytest.raises(AnswerLate, match=r"within 2 s"):
        told_of(state, idle_process.pid).get("/hangs", timeout_s=2)


def test_a_daemon_that_is_stopped_is_asked_for_nothing(
    daemon: Daemon, state: Path, idle_process: subprocess.Popen[bytes]
) -> None:
    """Or it would do so whenever it goes on, when nobody thinks of it any more. How it goes on is told."""
    connection = told_of(state, idle_process.pid)
    idle_process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, idle_process.pid, os.WSTOPPED)
    with pytest.raises(AnswerLate, match="is stopped") as caught:
        connection.post("/x", {})
    assert "Nothing was done" in caught.value.consequence
    assert f"kill -CONT {idle_process.pid}" in caught.value.next_step
    assert not daemon.seen


def test_a_daemon_that_does_not_answer_hides_no_other_repository(
    state: Path, tmp_path: Path, idle_process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for all repositories, one whose daemon takes a request and says nothing is told as silent, one that belongs to another
    daemon answers as it does alone, and one whose journal is broken is told as that."""
    monkeypatch.setattr(connecting, "SILENT_S", 0.2)
    home = {"XDG_STATE_HOME": str(tmp_path / "state")}
    servers = []
    for name in ("answers", "broken", "silent"):
        (state / name / "swarm").mkdir(parents=True)
        place.remember(place.Place(f"/{name}", f"/{name}", str(state / name)), home)
    (state / "broken" / "swarm" / "journal.sqlite").write_text(
        "no database, and long enough to be taken for one " * 9
    )
    document = {"schema": 1, "daemon": {"running": True, "pid": 4711}, "runs": []}
    for name in ("answers", "silent"):
        path = state / name / "swarm" / "api.sock"
        servers.append(Daemon(str(path)))
        about = {"pid": os.getpid() if name == "answers" else idle_process.pid, "socket": str(path)}
        (path.parent / "daemon.json").write_text(json.dumps(about))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
    servers[0].answers = {
        protocol.STATUS: http(json.dumps(document).encode()),
        protocol.PING: http(b"{}"),
    }
    session = Session(str(tmp_path), as_json=True, quiet=True)
    session.environ = home
    try:
        answers, broken, silent = everywhere.Everywhere(session).document()["repositories"]
    finally:
        for server in servers:
            server.hold.set()
            server.shutdown()
            server.server_close()
    assert answers == {"path": "/answers", **document}
    assert broken["daemon"]["running"] is None
    assert "journal" in broken["daemon"]["unreadable"]["cause"]
    assert silent["daemon"]["running"]
    assert "neither answers nor works" in silent["daemon"]["silent"]["cause"]
    assert silent["runs"] == []


def test_a_daemon_that_was_killed_before_it_said_anything(tmp_path: Path) -> None:
    """Nobody is sent to a log in which nothing stands; where something does, its end is shown."""
    log = tmp_path / "start.log"
    for written, said in (
        ("", "The daemon ended and said nothing."),
        ("Killed\n", "did not come up.\nKilled"),
    ):
        log.write_text(written)
        reader, writer = os.pipe()
        os.close(writer)
        with pytest.raises(SwarmError) as failed:
            spawning._await_ready(reader, log)
        os.close(reader)
        assert said in failed.value.cause
        assert (str(log) in failed.value.next_step) == bool(written)
        assert "\n\n" not in str(failed.value)

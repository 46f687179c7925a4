"""Finds the daemon of a repository and speaks HTTP over its socket.

It hides HTTP/1.1 as far as our own daemon speaks it: one request a connection, bodies with a length or in chunks. `http.client`
would do the same for twice the start-up time of Python.

Rules for editing: everything is bounded; nothing that is imported here at the top may cost start-up time.
"""

from __future__ import annotations

import json
import os
import sys

from swarm import protocol
from swarm.errors import EXIT_NO_DAEMON, NoDaemon, Refused, SwarmError, UsageError

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping
    from typing import IO, Any

CONNECT_TIMEOUT_S = 5.0
SILENT_S = 3.0  # so long without a byte, and it is looked whether the daemon works at all


# --- the daemon -------------------------------------------------------------------------------------------------------------


def daemon_file(state: str) -> dict[str, Any] | None:
    """Reads what the last daemon wrote about itself, which may be dead; None where there is nothing that can be made out. Raises
    `Refused` where it is another user's."""
    try:
        with open(os.path.join(state, protocol.DAEMON_FILE), "rb") as file:
            data = json.loads(file.read(protocol.HEADER_BYTES_MAX))
    except PermissionError:
        raise _not_ours(state) from None
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("socket"), str):
        return None
    folder = os.stat(state)
    if data.get("folder", [folder.st_dev, folder.st_ino]) != [folder.st_dev, folder.st_ino]:
        return None  # it came here when the repository was copied, and tells of the daemon of another one
    return data


class AnswerLate(SwarmError):
    """The daemon is there and does not answer: it is stopped, it hangs, or the machine is very busy."""

    exit_code = EXIT_NO_DAEMON  # for whoever needs one it is as if there were none


class AnswerBroken(SwarmError):
    """The daemon's answer ended before its end, or was none."""

    exit_code = EXIT_NO_DAEMON  # it was needed, and is there no more


def find(state: str, environ: Mapping[str, str]) -> Connection:
    """Finds the daemon of a state folder and makes sure that it listens. Raises `NoDaemon` where none does."""
    about = daemon_file(state)
    if about is None:
        raise _no_daemon()
    # The state folder may have been moved, with its repository, since the daemon wrote down its path.
    for path in dict.fromkeys((about["socket"], protocol.socket_path(state, environ))):
        connection = Connection(path, about)
        try:
            connection.open().close()
        except NoDaemon:
            continue
        except AnswerLate:
            pass  # it listens, though nobody takes anything in
        return connection
    raise _no_daemon()


def wait_for_end(pid: int | None, timeout_s: float) -> bool:
    """Waits until a process that is not our child has ended; tells whether it has."""
    import select
    import time

    end = handle(pid)
    if end is not None:
        try:
            return bool(select.select([end], [], [], timeout_s)[0])
        finally:
            os.close(end)
    deadline = time.monotonic() + timeout_s
    while pid and time.monotonic() < deadline:  # no handles here
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        time.sleep(0.05)
    return not pid


def handle(pid: int | None) -> int | None:
    """Takes hold of a process, so that its end can be waited for and no other is taken for it; None where that can't be done."""
    try:
        return os.pidfd_open(pid) if sys.platform == "linux" and pid and pid > 0 else None
    except OSError:
        return None


STOPPED = "stopped"


def _work(pid: int) -> str | int | None:
    """Looks at what a process has done so far: the same number again is nothing, `STOPPED` is one that can't do anything, and None
    one of which that can't be said: it waits for a disk, or there is no /proc here."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before may hold anything
    except OSError:
        return None
    if fields[0] == b"T":
        return STOPPED
    return None if fields[0] == b"D" else int(fields[11]) + int(fields[12])


def _no_daemon() -> NoDaemon:
    return NoDaemon(
        "No daemon runs for this repository.", "Nothing was done.", "swarm start, or swarm run PLAN"
    )


def not_shown() -> Refused:
    """Says that nothing is told in here, whether a daemon runs or not."""
    return Refused(
        "What swarm keeps of this repository is not shown inside this sandbox.",
        "Whether a daemon runs, and what it does, can't be said here.",
        "ask from outside",
    )


def _not_ours(path: str) -> Refused:
    if (shut := protocol.closed(path)) is not None:
        return shut
    try:
        if os.stat(path).st_uid == os.geteuid():
            return not_shown()  # ours, and all the same not to be read: so Landlock refuses
    except OSError:
        pass
    return Refused(
        "What swarm keeps of this repository belongs to another user.",
        "It can't be read, and a daemon of theirs can't be asked.",
        "work as that user",
    )


class Connection:
    """Asks one daemon. Every request is a connection of its own, so that one object can be used from several threads."""

    def __init__(self, path: str, about: Mapping[str, Any]) -> None:
        self.path = path
        self.about = about

    @property
    def pid(self) -> int:
        """The daemon's process, as it wrote it down; 0 where it did not."""
        pid = self.about.get("pid")
        return pid if isinstance(pid, int) else 0

    def get(
        self,
        route: str,
        query: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = protocol.ANSWER_TIMEOUT_S,
    ) -> Any:
        """Asks for a document; None among the query is left out.

        Raises what the daemon answered, `NoDaemon` when nobody listens, `AnswerBroken` when it broke off, `AnswerLate` when it does
        not answer within `timeout_s`, and as soon as it is plain that it won't.
        """
        with self._opened(timeout_s) as answer:
            return answer.ask("GET", _target(route, query or {}), None)

    def post(
        self, route: str, body: Mapping[str, Any], *, timeout_s: float = protocol.ANSWER_TIMEOUT_S
    ) -> Any:
        """Sends a request to change something. Raises as `get` does."""
        data = json.dumps(body).encode()
        if len(data) > protocol.REQUEST_BYTES_MAX:
            raise UsageError(
                f"The request has {len(data)} bytes; the most is {protocol.REQUEST_BYTES_MAX}.",
                "Nothing was done.",
            )
        with self._opened(timeout_s) as answer:
            return answer.ask("POST", route, data)

    def stream(self, route: str, query: Mapping[str, Any] | None = None) -> Stream:
        """Opens a stream of JSON lines. Nothing is too slow: the kernel ends it when the daemon dies."""
        answer = self._opened(protocol.ANSWER_TIMEOUT_S)
        try:
            return Stream(answer, _target(route, query or {}))
        except BaseException:
            answer.close()
            raise

    def stands_still(self) -> bool:
        """Tells whether the daemon is stopped, or neither answers nor does anything. One that waits for a disk is only slow."""
        before = _work(self.pid)
        if before == STOPPED:
            return True
        try:
            self.get(protocol.PING, timeout_s=SILENT_S)
        except AnswerLate:
            return before is not None and _work(self.pid) in (before, STOPPED)
        except SwarmError:
            pass  # it ends just now: who waits for its answer sees that
        return False

    def _opened(self, timeout_s: float) -> _Exchange:
        """Connects, but not to a daemon that is stopped: what it is asked now it would do whenever it goes on."""
        if _work(self.pid) == STOPPED:
            raise AnswerLate(
                f"The daemon (process {self.pid}) is stopped, by a signal or Ctrl-Z, and does not answer.",
                "Nothing was done.",
                f"kill -CONT {self.pid}; or swarm stop --now, then swarm start",
            )
        return self.open(timeout_s)

    def open(self, timeout_s: float = CONNECT_TIMEOUT_S) -> _Exchange:
        """Connects. Raises `NoDaemon` when nobody listens there."""
        import socket

        wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        wire.settimeout(CONNECT_TIMEOUT_S)
        try:
            wire.connect(self.path)
        except (FileNotFoundError, ConnectionRefusedError):
            wire.close()
            raise _no_daemon() from None
        except PermissionError:
            wire.close()
            raise _not_ours(self.path) from None
        except (BlockingIOError, TimeoutError):
            wire.close()
            raise AnswerLate(
                f"The daemon (process {self.pid}) takes no requests in: too many wait for it already.",
                "Nothing was done.",
                "swarm status; if it hangs, swarm stop --now, then swarm start",
            ) from None
        except OSError as error:  # too long a path, …
            wire.close()
            raise SwarmError(
                f"The daemon at {self.path} can't be reached: {error}.",
                "",
                "swarm stop --now, then swarm start",
            ) from None
        wire.settimeout(timeout_s)
        return _Exchange(wire, timeout_s, self)


def _target(route: str, query: Mapping[str, Any]) -> str:
    pairs = [f"{name}={_quoted(_text(value))}" for name, value in query.items() if value is not None]
    return f"{route}?{'&'.join(pairs)}" if pairs else route


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    # urllib.parse costs 8 ms of start-up for this one line
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
    return "".join(
        chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass")
    )


class Stream:
    """Lines of JSON as the daemon sends them. `close` may be called from another thread and ends the iteration."""

    def __init__(self, exchange: _Exchange, target: str) -> None:
        self._exchange = exchange
        status, headers = exchange.begin("GET", target, None)
        if status != 200:
            raise protocol.error_from_body(exchange.document(headers), status)
        self._headers = headers

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._exchange.unlimited()
        try:
            yield from self._lines()
        finally:
            self._exchange.close()

    def _lines(self) -> Iterator[dict[str, Any]]:
        waiting = b""
        for part in self._exchange.parts(self._headers):
            lines = (waiting + part).split(b"\n")
            waiting = lines.pop()
            if len(waiting) > protocol.LINE_BYTES_MAX:
                raise _broken("a line that is too long")
            for line in lines:
                if line.strip():
                    yield _decode(line)

    def close(self) -> None:
        """Ends the stream."""
        self._exchange.shut()


class _Exchange:
    """One request and its answer, on one connected socket."""

    def __init__(self, wire: socket.socket, timeout_s: float, daemon: Connection) -> None:
        self._wire = wire
        self._timeout_s = timeout_s
        self._daemon = daemon
        self._file: IO[bytes] = wire.makefile("rb")

    def __enter__(self) -> _Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._wire.close()

    def shut(self) -> None:
        import socket

        try:
            self._wire.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the daemon was faster

    def unlimited(self) -> None:
        self._wire.settimeout(None)

    def ask(self, method: str, target: str, body: bytes | None) -> Any:
        status, headers = self.begin(method, target, body)
        try:
            document = self.document(headers)
        except TimeoutError:
            raise self._late(method) from None
        except AnswerBroken as broken:
            raise self._broken_off(method, broken.cause) from None
        if status != 200:
            raise protocol.error_from_body(document, status)
        return document

    def begin(self, method: str, target: str, body: bytes | None) -> tuple[int, dict[str, str]]:
        """Sends a request and reads the head of its answer. Raises `AnswerLate` where there is none."""
        try:
            self.send(method, target, body)
            if self._hears_nothing():
                raise self._late(method, "has taken a request, and neither answers nor works")
            return self.head()
        except TimeoutError:
            raise self._late(method) from None
        except AnswerBroken as broken:
            raise self._broken_off(method, broken.cause) from None

    def _broken_off(self, method: str, cause: str) -> AnswerBroken:
        if method == "GET":
            return AnswerBroken(cause, "", "swarm status; if it hangs, swarm stop --now, then swarm start")
        return AnswerBroken(
            cause,
            "What was asked for may have been taken in, and is then done: by the next daemon where this one has ended.",
            "swarm start; swarm status shows what came of it",
        )

    def _late(self, method: str, does: str = "") -> AnswerLate:
        return AnswerLate(
            f"The daemon (process {self._daemon.pid}) {does or f'did not answer within {self._timeout_s:g} s'}.",
            "" if method == "GET" else "What was asked for may still happen.",
            "swarm status; if it hangs, swarm stop --now, then swarm start: what is known is kept, and workers go on",
        )

    def _hears_nothing(self) -> bool:
        """Waits for the first byte while the daemon works; tells that it does not. Raises `TimeoutError` when the time is over."""
        import select
        import time

        deadline, patience_s = time.monotonic() + self._timeout_s, SILENT_S
        while not select.select([self._wire], [], [], min(patience_s, self._timeout_s))[0]:
            if time.monotonic() >= deadline:
                raise TimeoutError
            if self._daemon.stands_still():
                return True
            patience_s *= 2
        return False

    def send(self, method: str, target: str, body: bytes | None) -> None:
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: swarm\r\nConnection: close\r\nAccept: application/json\r\n"
        )
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        try:
            self._wire.sendall(head.encode("ascii") + b"\r\n" + (body or b""))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it read everything; if not, `head` says so

    def head(self) -> tuple[int, dict[str, str]]:
        line = self._line()
        if not line:
            raise AnswerBroken(f"The daemon (process {self._daemon.pid}) ended before it had answered.")
        first = line.split(None, 2)
        if len(first) < 2 or not first[0].startswith(b"HTTP/1.") or not first[1].isdigit():
            raise _broken("no HTTP answer")
        headers: dict[str, str] = {}
        left = protocol.HEADER_BYTES_MAX
        while line := self._line().strip():
            left -= len(line)
            if left < 0:
                raise _broken("headers that are too long")
            name, _, value = line.partition(b":")
            headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
        return int(first[1]), headers

    def document(self, headers: Mapping[str, str]) -> Any:
        body = bytearray()
        for part in self.parts(headers):
            body += part
            if len(body) > protocol.RESPONSE_BYTES_MAX:
                raise _broken("a document that is too large")
        return _decode(bytes(body)) if body else None

    def parts(self, headers: Mapping[str, str]) -> Iterator[bytes]:
        """Yields the body as it comes. Raises `SwarmError` when it ends before its end."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif "content-length" in headers:
            yield from self._exactly(_number(headers["content-length"], 10))
        else:
            while part := self._read(65536):
                yield part

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._line()
            if not line.strip():
                raise _broken("an answer that was cut off")
            size = _number(line.split(b";")[0].strip().decode("latin-1"), 16)
            if size == 0:
                while self._line().strip():
                    pass
                return
            yield from self._exactly(size)
            self._line()

    def _exactly(self, size: int) -> Iterator[bytes]:
        if size > protocol.RESPONSE_BYTES_MAX:
            raise _broken("a document that is too large")
        while size:
            part = self._read(min(size, 1 << 20))
            if not part:
                raise _broken("an answer that was cut off")
            size -= len(part)
            yield part

    def _line(self) -> bytes:
        try:
            return self._file.readline(protocol.HEADER_BYTES_MAX)
        except ConnectionResetError:
            return b""

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read1(size)  # type: ignore[attr-defined,no-any-return]
        except ConnectionResetError:
            return b""


def _number(text: str, base: int) -> int:
    try:
        value = int(text, base)
    except ValueError:
        value = -1
    if value < 0:
        raise _broken(f"a length of {text!r}")
    return value


def _decode(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise _broken("something that is not JSON") from None


def _broken(what: str) -> AnswerBroken:
    return AnswerBroken(
        f"The daemon answered with {what}.",
        "It may have ended while it answered, or be of another version.",
        "swarm status; if it hangs, swarm stop --now and swarm start",
    )

"""What the model may do: run commands, read and change files, search; all of it in the worktree.

Hides the tools' inputs, which a model made and may be anything. The editor follows links and refuses what lies outside of the
worktree or in its `.git`; it holds what is to be written against the claims. A shell command can't be held to that: the sandbox, if
there is one, confines it, and what it changes elsewhere is a stray like any other.

Rules for editing: nothing here raises but `Stopped`: what can't be done is a result that says why. No command outlives its call.
"""

from __future__ import annotations

import fnmatch
import os
import re
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from swarm.core.claims import fold, strays
from swarm.core.model import Claim
from swarm.dataclass import dataclass
from swarm.edge import git
from swarm.worker.anthropic.conversation import Call, Result

FILE_BYTES_MAX = 4 << 20  # larger files are for shell commands
OUTPUT_HALF_BYTES = 64 << 10  # of a command's output so much is kept from its beginning, and from its end
FOUND_MAX = 200  # lines that a search gives
FOUND_LINE_MAX = 300
FOUND_BYTES_MAX = 32 << 20
LISTED_MAX = 500
SEARCH_TIMEOUT_S = 60.0
READS_AT_END_MAX = 16  # more than a pipe holds

EDITOR = "str_replace_based_edit_tool"

TOOLS: tuple[Mapping[str, Any], ...] = (
    {
        "name": "bash",
        "description": "Runs a shell command and gives its output and exit code. Each command has a fresh shell that starts at the "
        "top of the worktree, with nothing on standard input; what it leaves running in the background is ended with it.",
        "input_schema": {
            "type": "object",
            "properties": {
                "command": {"type": "string"},
                "timeout_s": {"type": "number", "description": "Seconds after which it is ended."},
            },
            "required": ["command"],
        },
    },
    {"type": "text_editor_20250728", "name": EDITOR},
    {
        "name": "search",
        "description": "Finds lines that match an extended regular expression, or without a pattern the names of files. Files that "
        "git ignores are left out.",
        "input_schema": {
            "type": "object",
            "properties": {
                "pattern": {"type": "string"},
                "path": {
                    "type": "string",
                    "description": "File or folder to search in; the whole worktree if not given.",
                },
                "files": {
                    "type": "string",
                    "description": "Only files whose path or name matches, such as *.py.",
                },
                "ignore_case": {"type": "boolean"},
            },
        },
    },
)


class Stopped(BaseException):
    """The worker was asked to end. No `Exception`, so that nobody takes it for a failure of their own."""


class Stop:
    """Whether the worker was asked to end. What only waits is left at once; what writes is finished first."""

    def __init__(self) -> None:
        self.asked = False
        self._waiting = False

    def listen(self) -> None:
        """Takes SIGTERM and SIGINT for the wish that the worker end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self._waiting:
            self._waiting = False
            raise Stopped

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Marks what may be left at any moment; raises `Stopped` there."""
        self._waiting = True
        try:
            if self.asked:
                raise Stopped
            yield
        finally:
            self._waiting = False


class _Refusal(Exception):
    """A call that is not carried out; its text says why."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools in the worktree at `top`. `policy` is what is done about strays; `env` is what commands get."""

    top: Path
    claims: tuple[Claim, ...]
    policy: str
    env: Mapping[str, str]
    stop: Stop
    bash_timeout_s: float = 600.0

    def use(self, call: Call) -> Result:
        """Carries a call out. Raises `Stopped` where the worker was asked to end meanwhile."""
        given = call.input if isinstance(call.input, dict) else {}
        try:
            if call.name == "bash":
                return self._bash(_text(given, "command"), given.get("timeout_s"))
            if call.name == "search":
                return Result(self._search(given))
            if call.name == EDITOR:
                return Result(self._edit(_text(given, "command"), given))
            raise _Refusal(f"There is no tool {call.name!r}.")
        except _Refusal as refused:
            return Result(str(refused), is_error=True)
        except (OSError, git.GitError) as error:
            return Result(f"It failed: {error}", is_error=True)

    # --- places

    def _place(self, path: str) -> Path:
        """Gives the true place of a path. Refuses what is not in the worktree, whatever links lead there."""
        top = os.path.realpath(self.top)
        true = os.path.realpath(os.path.join(top, path))
        if true != top and not true.startswith(f"{top}{os.sep}"):
            raise _Refusal(
                f"{path} lies outside of the worktree {self.top}: nothing there is yours. Give paths relative to its top."
            )
        if any(fold(part) == ".git" for part in Path(true).relative_to(top).parts):
            raise _Refusal(f"{path} belongs to git itself, and is not touched by hand.")
        return Path(true)

    def _relative(self, place: Path) -> str:
        return place.relative_to(os.path.realpath(self.top)).as_posix()

    def _stray_note(self, place: Path) -> str:
        """Says what is to be known of a path outside the claims; refuses where strays are rejected."""
        path = self._relative(place)
        if not strays(self.claims, [path]):
            return ""
        claimed = ", ".join(claim.path for claim in self.claims)
        if self.policy == "reject":
            raise _Refusal(
                f"{path} is not claimed by this task, which may change only: {claimed}. Nothing was written."
            )
        follows = (
            "it may have to wait for a task that has claimed it"
            if self.policy == "extend"
            else "this is only noted"
        )
        return f" {path} is outside the claims of this task ({claimed}): {follows}."

    # --- the editor

    def _edit(self, command: str, given: Mapping[str, Any]) -> str:
        place = self._place(_text(given, "path"))
        if command == "view":
            return _view(place, given.get("view_range"))
        note = self._stray_note(place)
        if command == "create":
            text = _text(given, "file_text")
            os.makedirs(place.parent, exist_ok=True)
        elif command == "str_replace":
            text = _replaced(_read(place), _text(given, "old_str"), _text(given, "new_str", ""))
        elif command == "insert":
            text = _inserted(_read(place), given.get("insert_line"), _text(given, "insert_text"))
        else:
            raise _Refusal(
                f"The editor has no command {command!r}; it has view, create, str_replace and insert."
            )
        _write(place, text)
        return f"Written: {self._relative(place)}.{note}"

    # --- searching

    def _search(self, given: Mapping[str, Any]) -> str:
        place = self._place(_text(given, "path", "."))
        pattern, files = _text(given, "pattern", ""), _text(given, "files", "")
        within = f":(literal){self._relative(place)}" if place != self._place(".") else ":/"
        if not pattern:
            return _listing(self._names(within, files))
        flags = ("-i",) if given.get("ignore_case") is True else ()
        found = git.run(
            *(
                "grep",
                "-z",
                "-n",
                "-I",
                "-E",
                "--no-color",
                "--untracked",
                *flags,
                "-e",
                pattern,
                "--",
                within,
            ),
            cwd=self.top,
            ok=(0, 1),
            timeout_s=SEARCH_TIMEOUT_S,
            output_max_bytes=FOUND_BYTES_MAX,
        )
        rows = (line.split("\0", 2) for line in git.decode(found.out).split("\n") if line.count("\0") >= 2)
        lines = [
            f"{name}:{number}:{text[:FOUND_LINE_MAX]}" for name, number, text in rows if _wanted(name, files)
        ]
        return _listing(lines, FOUND_MAX)

    def _names(self, within: str, files: str) -> list[str]:
        found = git.run(
            *("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", within),
            cwd=self.top,
            timeout_s=SEARCH_TIMEOUT_S,
            output_max_bytes=FOUND_BYTES_MAX,
        )
        return [name for name in git.decode(found.out).split("\0") if name and _wanted(name, files)]

    # --- commands

    def _bash(self, command: str, timeout_s: Any) -> Result:
        allowed = self.bash_timeout_s
        if isinstance(timeout_s, (int, float)) and 0 < timeout_s < allowed:
            allowed = float(timeout_s)
        child = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=self.top,
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # to be ended as a whole; the session stays the worker's, by which the daemon knows its processes
        )
        output = _Output()
        try:
            with self.stop.waiting():
                in_time = output.follow(child, time.monotonic() + allowed)
        finally:
            _end_group(child)
        code = child.returncode if child.returncode >= 0 else 128 - child.returncode
        ended = f"exit code {code}" if in_time else f"ended after {allowed:g} s, which is all it may take"
        return Result(f"{output.text()}\n({ended})".lstrip("\n"), is_error=not in_time)


class _Output:
    """What a command prints: its beginning and its end, however much there is between."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._left_out = 0

    def follow(self, child: subprocess.Popen[bytes], deadline: float) -> bool:
        """Reads until the command has ended, whoever else still holds its output; False where it did not end in time."""
        assert child.stdout is not None
        source = child.stdout.fileno()
        ends = os.pidfd_open(child.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(source, selectors.EVENT_READ)
                selector.register(ends, selectors.EVENT_READ)
                while (left_s := deadline - time.monotonic()) > 0:
                    ready = {key.fd for key, _ in selector.select(left_s)}
                    if source in ready and not self._take(source):
                        selector.unregister(source)
                    elif ends in ready:
                        self._drain(selector, source)
                        return True
            return False
        finally:
            os.close(ends)

    def _drain(self, selector: selectors.BaseSelector, source: int) -> None:
        """Reads what is on its way; no more, since what runs in the background may go on for ever."""
        for _ in range(READS_AT_END_MAX):
            if source not in {key.fd for key, _ in selector.select(0)} or not self._take(source):
                return

    def _take(self, source: int) -> bool:
        data = os.read(source, 1 << 16)
        room = OUTPUT_HALF_BYTES - len(self._head)
        self._head += data[: max(0, room)]
        tail = self._tail + data[max(0, room) :]
        self._left_out += max(0, len(tail) - OUTPUT_HALF_BYTES)
        self._tail = tail[-OUTPUT_HALF_BYTES:]
        return bool(data)

    def text(self) -> str:
        """Gives what was kept."""
        between = f"\n… {self._left_out} bytes left out …\n".encode() if self._left_out else b""
        return (
            (self._head + between + self._tail).decode("utf-8", "replace").replace("\0", "\\0").rstrip("\n")
        )


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """Ends what a command has left, which has its group as long as it did not leave it on purpose."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing is left
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


# --- files ------------------------------------------------------------------------------------------------------------------


def _text(given: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = given.get(name, default)
    if not isinstance(value, str) or (name in ("path", "command") and ("\0" in value or not value)):
        raise _Refusal(f"{name} is missing or is no text.")
    return value


def _read(place: Path) -> str:
    """Reads a text file whole, its line ends as they are."""
    handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _Refusal("That is no regular file.")
        if found.st_size > FILE_BYTES_MAX:
            raise _Refusal(f"That file has {found.st_size} bytes: look at parts of it with a shell command.")
        data = file.read(FILE_BYTES_MAX)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _Refusal("That file is not UTF-8 text.") from None


def _write(place: Path, text: str) -> None:
    """Writes a file in place, so that it keeps its mode and whoever else links to it."""
    data = text.encode("utf-8", "replace")
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, 0o666)
    with open(handle, "wb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _Refusal("That is no regular file.")
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        file.truncate(len(data))


def _view(place: Path, wanted: Any) -> str:
    if place.is_dir():
        return _listing(_below(place))
    lines = [each.removesuffix("\r") for each in _lines(_read(place))]
    first, last = 1, len(lines)
    if wanted is not None:
        if not (isinstance(wanted, list) and len(wanted) == 2 and all(type(each) is int for each in wanted)):
            raise _Refusal("view_range is a list of two line numbers.")
        first, last = max(1, wanted[0]), len(lines) if wanted[1] == -1 else wanted[1]
        if first > len(lines):
            raise _Refusal(f"The file has {len(lines)} lines.")
    return "\n".join(f"{number:6}\t{lines[number - 1]}" for number in range(first, min(last, len(lines)) + 1))


def _below(folder: Path) -> list[str]:
    """Lists two levels of a folder; folders end with a slash, hidden files are left out."""
    found = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("."):
            continue
        inner = folder / name
        if inner.is_dir() and not inner.is_symlink():
            found.append(f"{name}/")
            found += [f"{name}/{each}" for each in sorted(os.listdir(inner)) if not each.startswith(".")]
        else:
            found.append(name)
    return found


def _lines(text: str, *, ends: bool = False) -> list[str]:
    """Gives the lines as git and the shell count them."""
    found = re.findall(r"[^\n]*\n|[^\n]+", text)
    return found if ends else [each.removesuffix("\n") for each in found]


def _replaced(text: str, old: str, new: str) -> str:
    if "\r\n" in text and "\r" not in old:  # the model is shown lines, not how they end
        old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
    count = text.count(old) if old else 0
    if count != 1:
        raise _Refusal(
            f"old_str was found {count} times, and must be found once: give more of what stands around it."
        )
    return text.replace(old, new)


def _inserted(text: str, after: Any, new: str) -> str:
    lines = _lines(text, ends=True)
    if type(after) is not int or not 0 <= after <= len(lines):
        raise _Refusal(f"insert_line is a line from 0 to {len(lines)}.")
    end = "\r\n" if "\r\n" in text else "\n"
    if after and not lines[after - 1].endswith("\n"):
        lines[after - 1] += end
    added = new if new.endswith("\n") or after == len(lines) else f"{new}\n"
    return "".join([*lines[:after], added.replace("\n", end) if end != "\n" else added, *lines[after:]])


def _wanted(name: str, files: str) -> bool:
    return (
        not files or fnmatch.fnmatchcase(name, files) or fnmatch.fnmatchcase(name.rpartition("/")[2], files)
    )


def _listing(lines: Sequence[str], most: int = LISTED_MAX) -> str:
    more = [f"… and {len(lines) - most} more: ask for less"] if len(lines) > most else []
    return "\n".join([*lines[:most], *more]) or "Nothing was found."

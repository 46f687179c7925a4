"""What client and daemon agree on: where the socket is, the routes, errors over the wire, the names a worker sees.

The shapes of the bodies are in `shapes`. Rules for editing: the standard library and `errors` only, and no import that costs
start-up time, because every command of the client loads this file. A change of a body that an older client can't read needs a
new `API_VERSION`, which is part of every route. Sizes are in bytes, durations in seconds.
"""

from __future__ import annotations

import os
import stat
import sys

from swarm.errors import (
    EXIT_NO_DAEMON,
    EXIT_REFUSED,
    EXIT_TIMED_OUT,
    EXIT_USAGE,
    NoDaemon,
    Refused,
    SwarmError,
    UsageError,
    WaitTimedOut,
)

TYPE_CHECKING = (
    False  # importing typing for this would cost more start-up time than all the rest of this file
)
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

API_VERSION = 1
SCHEMA = 1  # of every document that is printed with --json

# --- limits -----------------------------------------------------------------------------------------------------------------

REQUEST_BYTES_MAX = 64 * 1024 * 1024
RESPONSE_BYTES_MAX = 512 * 1024 * 1024  # full status of 100,000 tasks: about a hundred megabytes
HEADER_BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 16 * 1024 * 1024  # one line of the event stream
ANSWER_TIMEOUT_S = 60.0  # every request but waiting, following and finishing
WAIT_SLICE_S = 30.0  # one long poll; the client asks again
FINISH_TIMEOUT_S = 4 * 3600.0  # verification runs inside it

# --- routes -----------------------------------------------------------------------------------------------------------------

PING = "/v1/ping"  # GET -> PingAnswer
STATUS = "/v1/status"  # GET ?run= &view=full|summary
SUBMIT = "/v1/submit"  # POST SubmitRequest -> SubmitAnswer
GOAL = "/v1/goal"  # POST GoalRequest -> GoalAnswer
APPROVE = "/v1/approve"  # POST ApproveRequest -> {"run", "digest"}
FORGET = "/v1/forget"  # POST {"lessons": [id]} -> {"lessons": [id]}
WATCH = "/v1/watch"  # POST WatchRequest -> WatchRequest
ADD = "/v1/add"  # POST AddRequest -> AddAnswer
RETRY = "/v1/retry"  # POST RetryRequest -> TasksAnswer
FIRST = "/v1/first"  # POST FirstRequest -> TasksAnswer
CANCEL = "/v1/cancel"  # POST CancelRequest -> TasksAnswer
UNDO = "/v1/undo"  # POST UndoRequest -> UndoAnswer
PAUSE = "/v1/pause"  # POST PauseRequest -> {}
RESUME = "/v1/resume"  # POST PauseRequest -> {}
SETTINGS = "/v1/settings"  # GET -> SettingsAnswer
SCALE = "/v1/scale"  # POST ScaleRequest -> {"workers_max": n}
TELL = "/v1/tell"  # POST TellRequest -> TellAnswer
# POST FinishRequest -> a status document with FinishFacts under "finish". Who closes the connection before takes it back, where
# nothing has been carried over yet.
FINISH = "/v1/finish"
TAKE_BACK = "/v1/take-back"  # POST {"key"} -> {"heard": bool}; what came of it is the answer to the FINISH with that key
QA = "/v1/qa"  # POST {"run", "rounds", "partial"} -> {"run", "task"}; the caller then waits for the run
RECOVER = "/v1/recover"  # POST {"dry_run": bool} -> {"found": [Finding]}
CLEAN = "/v1/clean"  # POST {"force": bool} -> {"worktrees": [Cleaned]}
DISCARD = "/v1/discard"  # POST {"run", "force", "names", "dry_run"} -> {"run", "holds": [{"name", "text"}], "discarded": bool}
STAY = "/v1/stay"  # POST {} -> {}; from then on the daemon does not end by itself
STOP = "/v1/stop"  # POST StopRequest -> {"pid": n}; the caller then waits for the process to end
# GET ?run= &timeout_s= &until= &told= -> a summary document with "ended": true, or WaitAnswer. With `told`, the `mark` of the
# answer before or "", it is answered too as soon as what keeps the run from going on is something else.
WAIT = "/v1/wait"
UNTIL_END, UNTIL_REVIEWED = "end", "reviewed"
EVENTS = "/v1/events"  # GET ?after= &follow=0|1 &run= -> one JSON object a line; empty lines skipped

VIEW_FULL = "full"
VIEW_SUMMARY = "summary"
SUMMARY_LISTED = 20  # tasks listed of each kind in the summary
SUMMARY_LANDED = 5

WORKERS_MAX = 1000  # that may run at once, however that is said; `settings` has it too

SCALED = "swarm scale"  # the source of a setting that was changed while the daemon ran
STOP_MODES = ("graceful", "drain", "now", "leave-workers")


# --- what a worker sees -----------------------------------------------------------------------------------------------------

WORKER_ENVIRONMENT = frozenset(
    {
        "SWARM_RUN",
        "SWARM_TASK",
        "SWARM_ATTEMPT",
        "SWARM_WORKTREE",
        "SWARM_BASE",
        "SWARM_CLAIMS",
        "SWARM_PROMPT_FILE",
        "SWARM_RESULT_FILE",
        "SWARM_FEEDBACK_FILE",
        "SWARM_ANSWER_FILE",
        "SWARM_SLOT",
        "SWARM_PORT_BASE",
        "SWARM_NONCE",
        "SWARM_SHARD",  # these three in a part of a suite
        "SWARM_SHARDS",
        "SWARM_SPLIT_REPORTS",
    }
)

SETTINGS_FILE = "swarm.toml"
SETTINGS_BYTES_MAX = 1024 * 1024
SETTINGS_PREFIX = "SWARM_"  # of the variables that stand above the file

# By which the Messages API knows who pays. Agents get them; commands of tasks and suites don't.
KEYS = frozenset({"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"})


def settings_given(top: str, environ: Mapping[str, str]) -> str:
    """Gives a digest of all that settings are read from but flags, by which to see without reading them that they are the same; ""
    where the file can't be read."""
    import hashlib

    given = hashlib.sha256()
    try:
        with open(os.path.join(top, SETTINGS_FILE), "rb", opener=at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            given.update(file.read(SETTINGS_BYTES_MAX + 1))
    except FileNotFoundError:
        pass
    except OSError:
        return ""
    for name in sorted(environ):
        if name == "HOME" or (name.startswith(SETTINGS_PREFIX) and name not in WORKER_ENVIRONMENT):
            given.update(os.fsencode(f"\0{name}={environ[name]}"))
    return given.hexdigest()


def at_once(path: str, flags: int) -> int:
    """Opens a file as `open` has it done, but waits for nobody at the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def inside_worker(environ: Mapping[str, str]) -> bool:
    """Says whether this process was started by a worker, where commands that start or steer are refused: nobody else is told of a
    task."""
    return bool(environ.get("SWARM_TASK"))


# --- where the socket is ----------------------------------------------------------------------------------------------------

SOCKET_BYTES_MAX = 103 if sys.platform == "darwin" else 107  # sun_path less its closing zero byte
SOCKET_NAME = "api.sock"
DAEMON_FILE = "daemon.json"

# Names that `core.places` has too, for who may not load that, or not yet; a test holds them to be the same.
STATE_FOLDER = "swarm"  # in the common git folder
JOURNAL_FILE = "journal.sqlite"
TRANSCRIPT_FOLDER = "transcript"
FAILURE_FILE = "failure.json"
PLACE_FILE = "place.json"
START_LOG = os.path.join("log", "start.log")


def socket_path(state: str, environ: Mapping[str, str]) -> str:
    """Gives the path of the daemon's socket for a state folder.

    That is `<state>/api.sock`, or where this is too long for the kernel a name made of a hash of the state folder: under
    `$XDG_RUNTIME_DIR`, else in a private folder of this user in the temporary one. Nothing is made; see `private_folder`.
    """
    plain = os.path.join(state, SOCKET_NAME)
    if _fits(plain):
        return plain
    import hashlib

    name = f"swarm-{hashlib.sha256(os.fsencode(os.path.realpath(state))).hexdigest()[:16]}.sock"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime) and _fits(os.path.join(runtime, name)):
        return os.path.join(runtime, name)
    for temporary in (environ.get("TMPDIR", ""), "/tmp"):  # noqa: S108  (only inside private_folder)
        path = os.path.join(temporary, f"swarm-{os.getuid()}", name)
        if os.path.isabs(path) and _fits(path):
            break
    return path


def look_path(state: str, environ: Mapping[str, str]) -> str:
    """Gives the path of the socket at which workers that are shut in may look, alone in a folder that they are shown."""
    path = socket_path(os.path.join(state, "look"), environ)
    return path if path.endswith(f"/{SOCKET_NAME}") else os.path.join(path.removesuffix(".sock"), SOCKET_NAME)


def private_folder(path: str) -> None:
    """Makes the folder that will hold the socket where that is not the state folder, or checks the one there.

    Raises `Refused` when it belongs to somebody else or others can write to it: in the temporary folder anybody could have made
    it first and would then own our socket. Raises `SwarmError` where it can't be made.
    """
    try:
        os.makedirs(path, mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise SwarmError(
            f"{path}, which is to hold the daemon's socket, can't be made: {error.strerror}.",
            "No daemon was started.",
            "set XDG_RUNTIME_DIR or TMPDIR to a folder that you can write to: the repository's own path is too long for a socket",
        ) from error
    info = os.lstat(path)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise Refused(
            f"{path} can't hold the daemon's socket: it is not a folder of this user that only this user can write to.",
            "No daemon was started.",
            f"look at it (ls -ld {path}), remove it if it is not yours, or set XDG_RUNTIME_DIR.",
        )


def closed(path: str) -> Refused | None:
    """Says which folder on the way to a path, or at it, its owner, this user, may not look into; None where there is none: then it
    is another's, or a sandbox refuses."""
    import shlex

    way = [os.path.abspath(path)]
    while way[-1] != os.path.dirname(way[-1]):
        way.append(os.path.dirname(way[-1]))
    for folder in reversed(way):
        try:
            info = os.stat(folder)
        except OSError:
            return None
        needed = 0o700 if folder == way[0] else 0o100
        if stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and info.st_mode & needed != needed:
            return Refused(
                f"{folder} is yours, but its mode ({stat.S_IMODE(info.st_mode):03o}) does not let you use it.",
                "What lies in it can't be reached.",
                f"chmod u+rwx {shlex.quote(folder)}",
            )
    return None


def _fits(path: str) -> bool:
    return len(os.fsencode(path)) <= SOCKET_BYTES_MAX


# --- errors over the wire ---------------------------------------------------------------------------------------------------

_CLASSES: dict[int, type[SwarmError]] = {
    EXIT_USAGE: UsageError,
    EXIT_NO_DAEMON: NoDaemon,
    EXIT_REFUSED: Refused,
    EXIT_TIMED_OUT: WaitTimedOut,
}
_HTTP_STATUS = {EXIT_USAGE: 400, EXIT_NO_DAEMON: 503, EXIT_REFUSED: 409, EXIT_TIMED_OUT: 408}


def error_status(error: SwarmError) -> int:
    """Gives the HTTP status that an error travels with."""
    return _HTTP_STATUS.get(error.exit_code, 422)


def error_body(error: SwarmError) -> dict[str, Any]:
    """Gives an error as the body of an answer."""
    return {
        "error": {
            "cause": error.cause,
            "consequence": error.consequence,
            "next_step": error.next_step,
            "exit_code": error.exit_code,
        }
    }


def error_from_body(body: Any, status: int) -> SwarmError:
    """Makes the error again from the body of an answer; an answer that is not one of ours becomes a plain one with its status."""
    data = body.get("error") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        return SwarmError(
            f"The daemon answered {status} and no reason.",
            "" if status >= 500 else "It may be of another version than this client.",
            "look into its log, or restart it: swarm stop --leave-workers && swarm start",
        )
    code = data.get("exit_code")
    error = _CLASSES.get(code, SwarmError) if isinstance(code, int) else SwarmError
    return error(str(data.get("cause", "")), str(data.get("consequence", "")), str(data.get("next_step", "")))


# --- text of others ---------------------------------------------------------------------------------------------------------

_HARMLESS = frozenset("\t")
_JOINERS = frozenset(
    "\u200c\u200d"
)  # Persian and Hindi are written with them, and faces and families made of several emoji


def counted(number: int, what: str) -> str:
    """Gives a number with its noun: `1 task`, `2 tasks`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def printable(text: object, *, keep_newlines: bool = False) -> str:
    """Makes text of others safe to show in a terminal.

    Control characters (ESC of terminal commands among them), characters that turn the writing direction around and lone
    surrogates become visible escapes such as `\\x1b`; newlines too, unless `keep_newlines`.
    """
    raw = str(text)
    if raw.isprintable():
        return raw
    return "".join(
        char
        if char.isprintable()
        or char in _HARMLESS
        or (keep_newlines and char == "\n")
        or (char in _JOINERS and before > "\x7f" and before.isprintable())  # where it hides nothing
        else _visible(char)
        for before, char in zip(f"\n{raw}", raw, strict=False)
    )


def _visible(char: str) -> str:
    code = ord(char)
    if char == "\n":
        return "\\n"
    if char == "\r":
        return "\\r"
    if code >= 0xA0 and char.isspace():  # wide and thin spaces are not printable to Python, but harmless
        return " "
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

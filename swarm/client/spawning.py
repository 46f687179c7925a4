"""The daemon as a process: started in the background, become in the foreground, killed when it stands still.

Hides how a daemon that is coming up says so, or what kept it from that: one line to a pipe, and a file with what it printed.

Rules for editing: imports that cost start-up time are inside the functions that need them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from swarm import protocol
from swarm.errors import SwarmError

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from swarm.client.place import Place

READY_S = 60.0  # a daemon that has not come up by then says so; replaying a long journal takes a while


def become(top: Path, *, workers: int | None, when_ready: Callable[[], None] | None) -> bool:
    """Is the daemon of a repository until that is told to stop; False at once where there is one already. `when_ready` is called,
    in a thread, once its socket answers."""
    import threading

    from swarm.daemon.service import Options, Starter, serve
    from swarm.edge.lockfile import LockTaken
    from swarm.edge.supervisor import Supervisor

    reader, writer = os.pipe()

    def await_ready() -> None:
        with os.fdopen(reader, "rb") as file:
            if file.readline() and when_ready is not None:
                when_ready()

    waiting = threading.Thread(target=await_ready, daemon=True)
    waiting.start()
    try:
        starter = Starter(writer, Supervisor.taken_from(os.environ))
        serve(Options(top, _flags(workers), ends_when_idle=False), dict(os.environ), starter)
    except LockTaken:
        return False
    return True


def _flags(workers: int | None) -> dict[str, Any]:
    return {} if workers is None else {"limits": {"workers_max": workers}}


def start(place: Place, *, workers: int | None, ends: str) -> dict[str, Any]:
    """Starts the daemon of a repository, which `ends` never, when idle, or when it has answered; gives what it says of itself once
    its socket answers; `running` where one runs already. Raises what kept it from coming up."""
    from swarm.edge.trouble import explained

    reader, writer = os.pipe()
    try:
        with explained("The daemon can't be started"):
            log = _spawn(place, writer, _flags(workers), ends)
        os.close(writer)
        writer = -1
        return _await_ready(reader, log)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def kill(about: Mapping[str, Any]) -> bool:
    """Kills the daemon that wrote this about itself; False where it has ended, and its number may be another process's."""
    import signal

    from swarm.edge import process, proctable

    identity = process.Identity.from_json(about)
    found = proctable.stat_of(identity.pid)
    if found is None or not process.alive(identity):
        return False
    process.send_signal(identity.pid, found, signal.SIGKILL)
    return True


def _spawn(place: Place, writer: int, flags: Mapping[str, Any], ends: str) -> Path:
    """Starts the daemon's process, which says one line to the descriptor; gives the file with what it prints meanwhile."""
    import subprocess

    with _start_log(place) as log:
        subprocess.Popen(
            [
                sys.executable,
                *("-X", "utf8"),  # whatever the locale: as in `swarm.__main__`
                "-m",
                "swarm.daemon",
                place.top,
                str(writer),
                ends,
                json.dumps(flags),
                json.dumps(os.environ.get("PYTHONPATH")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            pass_fds=(writer,),
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in _import_path() if path)},
        )
        return Path(log.name)


def _import_path() -> list[str]:
    """The daemon must import the same package as we do, also where that was found by the current directory. It takes that path
    off its environment again: what workers and suites import is the user's matter."""
    package = Path(__file__).parents[2]
    return [str(package), os.environ.get("PYTHONPATH", "")]


def _start_log(place: Place) -> Any:
    """Opens the file with what the daemon prints. Nothing is made where git may refuse to work: it is asked before in what is not
    this user's. Elsewhere the daemon asks alone: here that would take a third of what this process does."""
    if os.stat(place.common_dir).st_uid != os.geteuid():
        from swarm.edge import git

        git.Repository.discover(Path(place.top))
    log = Path(place.state, protocol.START_LOG)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return open(log, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600))


def _await_ready(reader: int, log: Path) -> dict[str, Any]:
    """Waits for the one line that a daemon says when it is up or can't come up."""
    import select

    ready, _, _ = select.select([reader], [], [], READY_S)
    line = os.read(reader, 1 << 20) if ready else b""
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if isinstance(said, dict) and "error" not in said:
        return said
    if isinstance(said, dict):
        raise protocol.error_from_body(said, 500)
    tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:])
    if not tail:
        how = "ended" if ready else f"did not come up in {READY_S:g} s"
        raise SwarmError(
            f"The daemon {how} and said nothing.", "", "swarm doctor, then the same command again"
        )
    raise SwarmError(f"The daemon did not come up.\n{tail}", "No daemon runs.", f"look into {log}")

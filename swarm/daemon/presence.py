"""A daemon's presence in its repository: that it is the only one, how it is found, and that nobody takes its place unnoticed.

There is one daemon for each state folder, by two marks: the lock, which the kernel frees at death, and the announcement
(`daemon.json`), which names its process so exactly that it holds when somebody deleted the lock. A state folder is known by its
inode: through a link, a mount or a new name it is the same one, and that of a copied repository is another.

Rules for editing: what another daemon may have put in our place (its socket, its announcement) is never removed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import swarm as package
from swarm import log, protocol
from swarm.core import report
from swarm.core.places import Places
from swarm.crashpoints import crash_at
from swarm.edge import process
from swarm.edge.lockfile import LockTaken, exclusive
from swarm.edge.notice import Notice
from swarm.edge.place import inode, open_up, places_of, read, settle, write_whole
from swarm.errors import SwarmError

HEAL_S = 2.0  # how long a lock that was deleted is asked for again: another start may hold it to find us here
_log = log.get("presence")


class Presence:
    """The one daemon of a repository, from the moment it has the lock; made by `hold`. `settings_given` is what its settings were
    read from, as `protocol.settings_given` tells it."""

    settings_given = ""

    def __init__(self, places: Places, environ: Mapping[str, str], locks: contextlib.ExitStack) -> None:
        self.places = places
        self.socket_path = Path(protocol.socket_path(str(places.state), environ))
        self._look_path = Path(protocol.look_path(str(places.state), environ))
        self._locks = locks
        self._folder = inode(places.state)
        self._ours: dict[Path, list[int] | None] = {}
        self._notice: Notice | None = None
        self._about: dict[str, Any] = {
            **process.identity_of(os.getpid()).to_json(),
            "version": package.__version__,
            "started_at": report.rfc3339(time.time()),
            "folder": self._folder,
        }
        self._write()

    # --- how it is found

    def listen(self) -> socket.socket:
        """Binds the socket ourselves, mode 0600 from its first moment; a dead daemon's is removed, as the lock is ours."""
        path = self.socket_path
        if path.parent != self.places.state:
            protocol.private_folder(str(path.parent))
        return self._bound(path)

    def listen_to_workers(self) -> socket.socket:
        """Binds the socket at which workers that are shut in may look. Its folder stays when it goes: there they find that of
        the next daemon."""
        path = self._look_path
        if path.parent.parent != self.places.state:
            protocol.private_folder(str(path.parent.parent))
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path.parent / protocol.DAEMON_FILE, {"socket": str(path)}, durable=False)
        return self._bound(path)

    def _bound(self, path: Path) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.setblocking(False)
        self._ours[path] = inode(path)
        return listener

    def announce(self, *, ends_when_idle: bool) -> dict[str, Any]:
        """Writes down where the socket is; gives what was written."""
        self._about |= {
            "socket": str(self.socket_path),
            "ends_when_idle": ends_when_idle,
            "settings_given": self.settings_given,
        }
        self._write()
        return self._about

    def _write(self) -> None:
        path = self.places.state / protocol.DAEMON_FILE
        write_whole(path, self._about, durable=False)
        self._ours[path] = inode(path)
        if self._notice is not None:
            self._notice.watch(path)

    def take_down(self) -> None:
        """Removes socket and announcement, where they are still ours."""
        if self._notice is not None:
            self._notice.close()
        for path, ours in self._ours.items():
            if ours is not None and inode(path) == ours:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    # --- that nobody takes its place

    def watch(
        self, add_reader: Callable[[int, Callable[[], None]], None], lost: Callable[[str], None]
    ) -> None:
        """From now on calls `lost` with the reason, once, when what makes this the daemon was taken away. A lock or an announcement
        that was only deleted is put back."""
        watched = [self.places.journal, self.places.daemon_lock, *self._ours]
        try:
            notice = Notice()
            for path in (self.places.state, self.places.daemon_lock.parent, *watched):
                notice.watch(path)
        except OSError as error:  # then it is the next append to the journal that finds out
            _log.warning("presence.unwatched", reason=str(error))
            return
        self._notice = notice
        self._journal, self._lock = inode(self.places.journal), inode(self.places.daemon_lock)

        def look() -> None:
            notice.take()
            open_up(self.places.state)
            try:
                reason = self._taken_away()
            except PermissionError as error:  # the next append to the journal says what can't be looked at
                _log.warning("presence.shut_out", reason=str(error))
                return
            if reason:
                lost(reason)

        add_reader(notice.fileno(), look)

    def _taken_away(self) -> str:
        """Says what of ours is gone or another's; puts back what can be. Empty where all is well."""
        assert self._notice is not None
        if inode(self.places.journal) != self._journal:
            return f"the journal {self.places.journal} was moved, deleted or replaced"
        if inode(self.socket_path) != self._ours.get(self.socket_path):
            return f"the socket {self.socket_path} was moved, deleted or replaced"
        try:
            if inode(self.places.daemon_lock) != self._lock:
                self._locks.enter_context(exclusive(self.places.daemon_lock, wait_s=HEAL_S))
                self._lock = inode(self.places.daemon_lock)
                self._notice.watch(self.places.daemon_lock)
                _log.warning("presence.healed", what=str(self.places.daemon_lock))
            announced = self.places.state / protocol.DAEMON_FILE
            if inode(announced) is None:
                self._write()
                _log.warning("presence.healed", what=str(announced))
        except (SwarmError, OSError) as error:
            return f"the lock {self.places.daemon_lock} was taken away: {error}"
        return ""


@contextlib.contextmanager
def hold(places: Places, environ: Mapping[str, str]) -> Iterator[Presence]:
    """Holds the place of the one daemon of a repository for a `with` block.

    Raises `LockTaken` where one runs already, however its lock was treated, and `Refused` in a copy of another repository.
    """
    with alone(places) as locks:
        crash_at("daemon.locked")
        presence = Presence(places_of(places.state), environ, locks)
        crash_at("daemon.claimed")
        try:
            yield presence
        finally:
            presence.take_down()


@contextlib.contextmanager
def alone(places: Places) -> Iterator[contextlib.ExitStack]:
    """Makes sure that no daemon is at work here, and that none comes, for a `with` block. Raises as `hold` does."""
    open_up(places.state)
    with contextlib.ExitStack() as locks:
        locks.enter_context(exclusive(places.daemon_lock, wait_s=0))
        _refuse_another(places)
        settle(places.state)
        yield locks


def _refuse_another(places: Places) -> None:
    """Refuses beside a daemon that lives although its lock was deleted."""
    about = read(places.state / protocol.DAEMON_FILE)
    try:
        identity = process.Identity.from_json(about)
    except ValueError:
        return
    if about.get("folder", inode(places.state)) != inode(places.state):
        return  # it came here with a copy
    if identity.pid != os.getpid() and process.alive(identity):
        raise LockTaken(places.daemon_lock, identity.pid)

"""How the repositories of this machine stand, for as long as somebody looks, and who is told when that changes.

Nothing is asked of a daemon without a cause: its event stream says that something happened. Only while workers are at work is it
asked now and then what they do and take. Where no daemon runs it is looked, once a second, whether one has come up.

Rules for editing: all of this is in the loop's own thread, but for `_look` and what hears a stream. A repository that can't be
read costs its own picture and no other's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from swarm import protocol
from swarm.client import offline, place
from swarm.client.connection import Connection, Stream
from swarm.client.session import Session
from swarm.client.web import picture
from swarm.client.web.output import last_line
from swarm.errors import SwarmError, UsageError

PACE_S = 0.2  # at most so often is one repository looked at, and one browser told
LIVE_EVERY_S = 2.0  # … while workers are at work
LOOK_EVERY_S = 1.0  # whether a daemon has come up, or the journal of one that does not answer has grown
KNOWN_EVERY_S = 2.0  # whether swarm was used in another repository
PING_S = 10.0
REPOSITORIES_MAX = 50


class Feed:
    """The pictures of all repositories; `home`, where there is one, is the first of them and always there."""

    def __init__(self, home: place.Place | None, environ: Mapping[str, str]) -> None:
        self.closed = False
        self._home = home
        self._environ = environ
        self._lookers = 0
        self._looking: asyncio.Task[None] | None = None
        self._follows: dict[str, asyncio.Task[None]] = {}
        self._pictures: dict[str, dict[str, Any]] = {}
        self._fresh: set[str] = set()  # whose picture was looked at since somebody looks
        self._mark, self._number = secrets.token_hex(4), 0
        self._news = asyncio.Event()

    def session(self, path: str) -> Session:
        """Gives what a repository is asked through. Raises `UsageError` for one that is not shown: no path is taken at its word."""
        found = self._known().get(path)
        if found is None:
            raise UsageError("This repository is not shown here.", "Nothing was done.")
        return self._session(found)

    def _known(self) -> dict[str, place.Place]:
        """Finds all repositories, by their tops; the one that this was started in is the first."""
        found = {} if self._home is None else {self._home.top: self._home}
        for top, state in place.known(self._environ):
            found.setdefault(top, place.Place(top, top, os.path.dirname(state)))
        return found

    def _session(self, found: place.Place) -> Session:
        session = Session(found.top, quiet=True, found=found)
        session.environ = self._environ
        return session

    async def pictures(self, seen: str = "") -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Yields what all looks like, with a name for it, once that is not what was `seen` last; ends with the feed."""
        self._lookers += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_around())
        try:
            while not self.closed:
                news, name = self._news, f"{self._mark}-{self._number}"
                if name != seen and (self._home is None or self._home.top in self._fresh):
                    seen = name
                    yield name, self._all()
                    await asyncio.sleep(PACE_S)
                else:
                    await news.wait()
        finally:
            self._lookers -= 1
            if not self._lookers:
                self._rest()

    def close(self) -> None:
        """Ends what looks, and whoever waits for a picture."""
        self.closed = True
        self._rest()
        self._news.set()

    def _all(self) -> dict[str, Any]:
        home = None if self._home is None else self._home.top
        order = sorted(self._pictures, key=lambda top: (top != home, top))
        return {"home": home, "repositories": [self._pictures[top] for top in order]}

    def _told(self, *, changed: bool = True) -> None:
        self._number += changed
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _rest(self) -> None:
        """Nobody looks any more: what was seen gets old, and is seen anew by whoever comes."""
        for task in (self._looking, *self._follows.values()):
            if task is not None:
                task.cancel()
        self._looking = None
        self._follows.clear()
        self._fresh.clear()

    async def _look_around(self) -> None:
        """Follows each repository in which swarm was used, also those in which that begins now, until it is gone."""
        while True:
            found = await asyncio.to_thread(self._known)
            for top, where in list(found.items())[:REPOSITORIES_MAX]:
                if top not in self._follows:
                    repository = _Repository(self._session(where), top, self._shown)
                    self._follows[top] = asyncio.create_task(repository.follow())
            for top in set(self._follows) - set(found):
                self._follows.pop(top).cancel()
                self._pictures.pop(top, None)
                self._fresh.discard(top)
                self._told()
            if self._home is None and not self._number:
                self._told()  # there may be none at all
            await asyncio.sleep(KNOWN_EVERY_S)

    def _shown(self, top: str, shown: dict[str, Any]) -> None:
        changed = self._pictures.get(top) != shown
        if changed or top not in self._fresh:
            self._pictures[top] = shown
            self._fresh.add(top)
            self._told(changed=changed)


class _Repository:
    """Looks at one repository whenever something happens there."""

    def __init__(self, session: Session, top: str, shown: Callable[[str, dict[str, Any]], None]) -> None:
        self._session = session
        self._top = top
        self._shown = shown
        self._seen: object = None  # of the journal, when it was looked at without a daemon
        self._moves = False

    async def follow(self) -> None:
        """Shows how it stands, and again whenever that changes."""
        while True:
            pause_s = LOOK_EVERY_S
            try:
                stream = await asyncio.to_thread(self._heard)
                if stream is None:
                    await self._without()
                else:
                    await self._while_it_runs(stream)
                    self._seen, pause_s = None, PACE_S
            except (
                Exception
            ) as error:  # whatever is wrong with one repository is told there, and the others go on
                self._shown(self._top, picture.unreadable(str(error) or type(error).__name__, self._top))
                self._seen = None
            await asyncio.sleep(pause_s)

    def _heard(self) -> Stream | None:
        """Gives what happens from now on; None where no daemon runs, or the one that does says nothing."""
        daemon: Connection | None = self._session.daemon_or_none()
        try:
            if daemon is None:
                return None
            after = daemon.get(protocol.PING, timeout_s=PING_S)["seq"]
            return daemon.stream(protocol.EVENTS, {"after": after, "follow": 1})
        except SwarmError:
            return None  # it is just ending, or stands still: what the journal says is shown

    async def _without(self) -> None:
        """Reads the journal, but only when it is another, or the daemon that says nothing is: it may have to be replayed."""
        seen = await asyncio.to_thread(self._mark)
        if seen is None or seen != self._seen:
            await self._show()
            self._seen = seen

    def _mark(self) -> object:
        daemon, mark = self._session.daemon_or_none(), offline.journal_mark(self._session.place.state)
        return None if mark is None else (mark, None if daemon is None else daemon.pid)

    async def _while_it_runs(self, stream: Stream) -> None:
        loop, news, over = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def told(*what: asyncio.Event) -> None:
            for each in what:
                with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody is there to be told
                    loop.call_soon_threadsafe(each.set)

        def hear() -> None:
            try:
                for _ in stream:
                    told(news)
            except (SwarmError, OSError, ValueError):
                pass  # it broke off: that is an end too
            finally:
                told(over, news)

        threading.Thread(target=hear, name="swarm-web-events", daemon=True).start()
        try:
            while not over.is_set():
                news.clear()
                await self._show()
                await asyncio.sleep(PACE_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LIVE_EVERY_S if self._moves else None):
                        await news.wait()
        finally:
            stream.close()

    async def _show(self) -> None:
        self._shown(self._top, await asyncio.to_thread(self._look))

    def _look(self) -> dict[str, Any]:
        document = self._session.document(full=False)
        self._moves = picture.moves(document)
        words = self._words(document) if document["daemon"].get("running") else {}
        return picture.repository(document, self._top, now=time.time(), words=words)

    def _words(self, document: dict[str, Any]) -> dict[tuple[str, str], str]:
        """Gives the last line of each worker that says by nothing else what it does."""
        said = {}
        for run, task, attempt in picture.silent(document):
            said[run, task] = last_line(self._session, run, task, attempt)
        return said

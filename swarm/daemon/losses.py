"""Notices that the landing repository or a staging worktree is taken away under a daemon that works.

Nothing is asked every now and then: the kernel tells, and then it is looked. A staging worktree is made again as `swarm recover`
would; without its landing repository the daemon begins again, as the next one would, and founds it anew.

Rules for editing: what goes is waited for, so that nothing is made in a folder that somebody is still deleting. Where the kernel
does not tell, it is found at the next landing or start.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator

from swarm import log
from swarm.core.places import Places
from swarm.core.state import Swarm
from swarm.edge.notice import Notice
from swarm.edge.place import inode

LOOK_AFTER_S = 1.0
LOOKS_MAX = 10  # so often what is half gone is looked at again, before it is taken for what was to go
_log = log.get("losses")


class Losses:
    """Watches the landing repository, and from `watch` on the staging worktrees; calls `refound` or `mend`, once for each loss.

    Watched is a file in each: a folder lives on without a name as long as somebody is in it, and its end is not told.
    """

    def __init__(
        self,
        places: Places,
        swarm: Swarm,
        *,
        refound: Callable[[], object],
        mend: Callable[[], Awaitable[object]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._swarm, self._refound, self._mend = swarm, refound, mend
        self._landing = os.fspath(places.landing / "HEAD")
        self._watched: dict[str, list[int] | None] = {}
        self._missed: set[str] = set()  # gone before they could be watched; looked after once
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._mending: asyncio.Task[None] | None = None
        self._notice: Notice | None = None
        try:
            self._notice = Notice()
            self._loop.add_reader(self._notice.fileno(), self._noticed)
        except OSError as error:
            _log.warning("losses.unwatched", reason=str(error))
        self._watch(self._landing)

    def watch(self) -> None:
        """Watches the staging worktrees that have come since; called when all is taken in."""
        for mark in self._marks() if self._notice is not None and self._mending is None else ():
            if mark not in self._watched:
                self._watch(mark)

    def close(self) -> None:
        """Watches nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._notice is not None:
            self._loop.remove_reader(self._notice.fileno())
            self._notice.close()
            self._notice = None

    def _marks(self) -> Iterator[str]:
        """Names the file that is watched in each staging worktree; as text, since it is asked at every rest and for every run."""
        runs = self._swarm.runs.values()
        return (f"{run.worktree}/.git" for run in runs if run.prepared and not run.discarding)

    def _watch(self, mark: str) -> None:
        if self._notice is None:
            return
        try:
            for path in (mark, os.path.dirname(mark)):
                self._notice.watch(path)
            self._watched[mark] = inode(mark)
            self._missed.discard(mark)
        except (
            FileNotFoundError
        ):  # gone, perhaps just after it was made again; at the next rest it may be there
            if mark not in self._missed:
                self._missed.add(mark)
                self._look_later()
        except OSError as error:  # there are too many
            self._watched[mark] = None
            _log.warning("losses.unwatched", path=mark, reason=str(error))

    def _noticed(self) -> None:
        assert self._notice is not None
        self._notice.take()
        self._looks = 0
        self._look_later()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_AFTER_S, self._look)

    def _look(self) -> None:
        self._timer = None
        changed = [mark for mark, was in self._watched.items() if was and inode(mark) != was]
        lost = [mark for mark in (*changed, *self._missed) if inode(mark) is None]
        self._looks += 1
        going = any(os.path.lexists(os.path.dirname(mark)) for mark in lost) and self._looks < LOOKS_MAX
        if going or self._mending is not None:
            self._look_later()
            return
        for mark in changed:
            del self._watched[mark]  # what has been replaced is watched again, what is gone once it is there
        self._watch(self._landing)
        wanted = set(self._marks())
        if self._landing in lost:
            _log.error("landing.gone", path=os.path.dirname(self._landing))
            self._refound()
        elif wanted.intersection(lost):
            _log.warning("staging.gone", paths=[os.path.dirname(mark) for mark in lost])
            self._mending = self._loop.create_task(self._make_up())
        self.watch()

    async def _make_up(self) -> None:
        try:
            await self._mend()
        finally:
            self._mending = None
        self.watch()

"""Tells those whom the settings name of what happens.

Each hook reads the journal's facts at its own pace and remembers how far it has come, so that one that hangs holds nobody up,
nothing waits in memory, and what a daemon that was killed had not told yet is told by the next. A fact may then be told twice, and
none is left out but those that the tries were used up for.

Rules for editing: nothing of the daemon waits for a hook, save a stop for a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swarm import log
from swarm.core.messages import FACTS
from swarm.core.places import Places
from swarm.core.plain import as_told
from swarm.daemon.coordinator import Coordinator
from swarm.edge import place
from swarm.edge.hook import Try
from swarm.settings import HookSettings

TRIES = 4
AGAIN_S = 1.0  # after the first try, then four times as long each
BEHIND_MAX = 10_000  # records that a hook may be behind: what is older nobody wants to be told of any more
EVERY_S = 0.05  # at most so often is it looked what is new
LATE_S = 5.0  # so much longer than it may take a try is waited for: what limits it itself is told better
CLOSE_S = 10.0  # so long a stop waits for the last ones
_log = log.get("hooks")


class Hooks:
    """The hooks of a daemon. `notes` are sentences on those that did not take what they were told last, or can't be told
    anything."""

    def __init__(
        self, coordinator: Coordinator, hooks: Mapping[str, HookSettings], places: Places, top: Path
    ) -> None:
        self._hooks = [_Hook(coordinator, name, hook, places.hook(name), top) for name, hook in hooks.items()]
        self._tasks = [asyncio.get_running_loop().create_task(hook.follow()) for hook in self._hooks]

    @property
    def notes(self) -> list[str]:
        return [hook.note for hook in self._hooks if hook.note]

    async def close(self, *, catch_up: bool) -> None:
        """Ends; with `catch_up` those that are not behind for long are waited for. The next daemon tells what is left."""
        if catch_up and self._hooks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await asyncio.gather(*(hook.has_caught_up() for hook in self._hooks))
        for hook, task in zip(self._hooks, self._tasks, strict=True):
            task.cancel()
            hook.cut_short()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Hook:
    def __init__(
        self, coordinator: Coordinator, name: str, hook: HookSettings, memory: Path, top: Path
    ) -> None:
        self._refused = ""  # by who is told, what it was told last
        self._trouble = ""  # what keeps anything from being told
        self._coordinator = coordinator
        self._name, self._hook, self._memory, self._top = name, hook, memory, top
        self._wanted = frozenset(hook.on)
        told = place.read(memory).get("seq")
        begin = coordinator.seq if not isinstance(told, int) else max(told, coordinator.seq - BEHIND_MAX)
        self._seq = min(begin, coordinator.seq)
        self._try: Try | None = None
        self._thread: threading.Thread | None = None
        if told is None:  # or the first that happens would be forgotten by a crash
            self._remember()

    @property
    def note(self) -> str:
        """Gives a sentence on what is wrong, "" where nothing is."""
        return self._trouble or self._refused

    async def follow(self) -> None:
        """Tells of all that is wanted, for ever. What keeps it from that, and is not who is told, is said; it is tried again until
        it passes."""
        while True:
            try:
                await self._tell_what_is_new()
                self._trouble = ""
                await self._coordinator.until(lambda: self._coordinator.seq > self._seq)
                await asyncio.sleep(EVERY_S)
            except Exception as error:  # no thread to be had, the journal not to be read
                trouble = f"Hook {self._name} can't be told of anything at present: {error}."
                if trouble != self._trouble:
                    _log.warning("hook.stands_still", hook=self._name, seq=self._seq, reason=repr(error))
                self._trouble = trouble
                await asyncio.sleep(AGAIN_S)

    async def _tell_what_is_new(self) -> None:
        while self._seq < self._coordinator.seq:
            async for batch in self._coordinator.events(self._seq, follow=False):
                for record in batch:
                    if self._wants(record):
                        await self._tell(record)
                        self._seq = record["seq"]
                        self._remember()
                self._seq = batch[-1]["seq"]

    async def has_caught_up(self) -> None:
        """Waits until all that has happened has been told of, or nothing can be."""
        while self._seq < self._coordinator.seq and not self._trouble:
            await asyncio.sleep(EVERY_S)

    def cut_short(self) -> None:
        """Ends the try that goes on."""
        if self._try is not None:
            self._try.cut_short()

    def _wants(self, record: Mapping[str, Any]) -> bool:
        kind = str(record.get("type"))
        return kind in FACTS and (kind in self._wanted or f"{kind}:{record.get('code')}" in self._wanted)

    async def _tell(self, record: Mapping[str, Any]) -> None:
        tries = (
            1 if self._refused else TRIES
        )  # while nobody takes anything it is not asked again and again for each
        for n in range(tries):
            problem = await self._in_thread(record)
            if not problem:
                self._refused = ""
                return
            if n + 1 < tries:
                await asyncio.sleep(AGAIN_S * 4**n)
        about = "/".join(str(record[name]) for name in ("run", "task") if record.get(name) is not None)
        self._refused = f"Hook {self._name} did not take {record['type']} of {about}: {problem}."
        _log.warning("hook.given_up", hook=self._name, seq=record["seq"], reason=problem)

    async def _in_thread(self, record: Mapping[str, Any]) -> str:
        """Makes one try in a thread of its own, which nobody waits for when the daemon ends, nor longer than a try may take: who
        answers a byte at a time keeps that thread, and none is made beside it."""
        if self._thread is not None and self._thread.is_alive():
            return "an earlier try is still being answered, a byte at a time"
        data = (json.dumps(as_told(record)) + "\n").encode()
        facts = {"SWARM_EVENT": str(record["type"]), "SWARM_RUN": str(record.get("run") or "")}
        loop, ended, hook = asyncio.get_running_loop(), asyncio.Event(), self._hook
        self._try, said = Try(), [""]

        def make(made: Try) -> None:
            if hook.url:
                said[0] = made.post(hook.url, data, timeout_s=hook.timeout_s)
            else:
                said[0] = made.run(hook.command, data, top=self._top, facts=facts, timeout_s=hook.timeout_s)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(ended.set)

        name = f"hook-{self._name}"
        self._thread = threading.Thread(target=make, args=(self._try,), name=name, daemon=True)
        self._thread.start()
        try:
            async with asyncio.timeout(hook.timeout_s + LATE_S):
                await ended.wait()
        except TimeoutError:
            return f"it was not done within {hook.timeout_s:g} s"
        self._thread.join()
        return said[0]

    def _remember(self) -> None:
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            place.write_whole(self._memory, {"seq": self._seq}, durable=False)
        except OSError as error:
            _log.warning("hook.not_remembered", hook=self._name, reason=str(error))

"""What the running daemon goes by where that is not what is set now: it keeps the settings that it started with.

Rules for editing: the settings are loaded only where they are not known to be the daemon's, which would cost as much again as the
rest of a command. What somebody set for the daemon alone, by a
flag or its environment, was meant so, and is not warned about for standing above the file.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from swarm import __version__, protocol
from swarm.client.connection import AnswerBroken, AnswerLate, Connection
from swarm.client.session import Session
from swarm.errors import NoDaemon, SwarmError

WORKERS = "limits.workers_max"
WARNED_WITHIN_S = 3.0


class Setting(NamedTuple):
    """A value and where it comes from; what is set on one side only is "not set" on the other."""

    value: Any = None
    source: str = "not set"

    @property
    def text(self) -> str:
        """Shows it as `4 (default)`."""
        from swarm import config

        value = "nothing" if self.value is None else config.in_toml(self.value)
        return protocol.printable(f"{value} ({self.source})")

    @property
    def weight(self) -> int:
        """Tells what stands above what: flags above the environment, that above the file and the defaults."""
        by_hand = self.source in ("flag", protocol.SCALED)
        return 2 if by_hand else 1 if self.source.startswith("environment") else 0


Differences = dict[str, tuple[Setting, Setting]]  # key -> as it is set now, as the daemon has it


def differences(
    session: Session, daemon: Connection, *, timeout_s: float = protocol.ANSWER_TIMEOUT_S
) -> Differences:
    """Gives the settings that the daemon has otherwise: none of one that is just ending. Of a daemon of another version nothing is
    known.

    Raises `SettingsError`, and `AnswerLate` where the daemon does not answer in time.
    """
    from swarm import config

    if daemon.about.get("version") != __version__:
        return {}
    now = {key: Setting(*rest) for key, *rest in config.flat(config.load(session.top, session.environ))}
    try:
        rows = daemon.get(protocol.SETTINGS, timeout_s=timeout_s)["settings"]
    except (NoDaemon, AnswerBroken):
        return {}
    running = {row["key"]: Setting(row["value"], row["source"]) for row in rows}
    pairs = {key: (now.get(key, Setting()), running.get(key, Setting())) for key in {**now, **running}}
    return {key: pair for key, pair in pairs.items() if pair[0].value != pair[1].value}


def warn(session: Session, daemon: Connection, *, but: Collection[str] = ()) -> None:
    """Says which settings that are given now are not in force, because the daemon was started with others; `but` are left out.

    Nobody waits long for a warning: nothing is said where the daemon does not answer. Raises `SettingsError` where they can't be
    used at all. What was given to the daemon as well, and what it was given besides, is not looked at.
    """
    given = protocol.settings_given(str(session.top), session.environ)
    if given and given == daemon.about.get("settings_given"):
        return
    try:
        found = differences(session, daemon, timeout_s=WARNED_WITHIN_S)
    except AnswerLate:
        return
    missed = {
        key: (now, running)
        for key, (now, running) in found.items()
        if now.weight >= running.weight and key not in but
    }
    if not missed:
        return
    lines = [f"\n  {key}: {now.text}; it has {running.text}" for key, (now, running) in missed.items()]
    scale = f"swarm scale {missed[WORKERS][0].value}, or " if [*missed] == [WORKERS] else ""
    warning = SwarmError(
        f"The daemon (process {daemon.pid}) keeps the settings that it started with; given now are others:{''.join(lines)}",
        "What is given now is not in force.",
        f"{scale}swarm stop --leave-workers and this command again: no work is lost",
    )
    session.note(str(warning))

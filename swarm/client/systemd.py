"""`swarm service`: a systemd user unit that keeps the daemon of a repository running.

Hides systemd: what a unit says, how text is quoted in one, where the units of a user lie, and systemctl, which may not be there.

Rules for editing: what each line of the unit is for stands in docs/explanation/decisions/0014. A unit that we did not write, or
that somebody edited since, is not touched unless that is asked for. What can't be done here is printed, to be typed.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

import swarm as package
from swarm.client import place
from swarm.client.options import command, refuse_inside_worker
from swarm.client.session import Session
from swarm.errors import Refused, SwarmError, UsageError
from swarm.protocol import printable

SYSTEMCTL = ("systemctl", "--user")
LOOK_S = 10.0
MARK = "# Written by swarm service install; a unit that is changed by hand is not overwritten. "


@command("service")
@click.argument("action", type=click.Choice(["show", "install", "uninstall"]))
@click.option("--force", is_flag=True, help="Also where the unit is not ours or was changed by hand.")
def service(session: Session, action: str, force: bool) -> None:
    """Keep the service of this repository running, by a systemd user unit.

    show prints the unit and writes nothing; install writes it, and has systemd start it now and at every login; uninstall stops it
    as swarm stop does, and takes the unit away. Where no systemd answers, what is to be typed is printed.
    """
    from swarm.client import offline

    if action != "show":
        refuse_inside_worker(f"swarm service {action}")
    top = str(offline.checkout(session.top))
    unit = folder(session.environ) / name(top)
    if action == "uninstall":
        _uninstall(session, unit, force)
    elif action == "install":
        _install(session, unit, text(top, session.environ), force)
    else:
        session.out(text(top, session.environ))


def _install(session: Session, unit: Path, wanted: str, force: bool) -> None:
    if _found(unit) != wanted:
        _refuse_anothers(unit, force, "It was not overwritten.")
        try:
            unit.parent.mkdir(parents=True, exist_ok=True)
            fresh = unit.with_suffix(f".{os.getpid()}")  # systemd reads only what is called .service
            fresh.write_text(wanted, "utf-8")
            os.replace(fresh, unit)
        except OSError as error:
            raise SwarmError(f"{unit} can't be written: {error.strerror}.", "Nothing was done.") from None
        session.line(f"Wrote {printable(unit)}.")
    else:
        session.line(f"{printable(unit)} is there already, as it should be.")
    daemon = session.daemon_or_none()
    enable = ("enable", unit.name) if daemon is not None else ("enable", "--now", unit.name)
    done = _carried_out(session, ("daemon-reload",), enable)
    if os.path.isdir(session.place.state):  # what systemd starts may note it elsewhere than this shell looks
        place.remember(session.place, session.environ)
    if daemon is not None:
        session.line(
            f"A daemon runs already (process {daemon.pid}). To have systemd start one with this unit in its place:"
        )
        session.line(f"  swarm stop --leave-workers\n  systemctl --user start {unit.name}")
    elif done:
        session.line(
            f"It runs, and is started at every login. Next: swarm status, journalctl --user -u {unit.name}"
        )
    session.note("To have it run also while you are not logged in: loginctl enable-linger")


def _uninstall(session: Session, unit: Path, force: bool) -> None:
    if _found(unit) is None:
        session.line(f"There is no {printable(unit)}.")
        return
    _refuse_anothers(unit, force, "It was not removed.")
    answers = _answers()
    if answers:
        _systemctl("disable", "--now", unit.name)
    enabled = unit.parent / "default.target.wants" / unit.name  # as `enable` leaves it
    try:
        for path in (enabled, unit):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise SwarmError(f"{unit} can't be removed: {error.strerror}.") from None
    session.line(f"Removed {printable(unit)}.")
    _carried_out(session, *(() if answers else (("stop", unit.name),)), ("daemon-reload",))


def _refuse_anothers(unit: Path, force: bool, consequence: str) -> None:
    """Raises `Refused` where a unit is there that is not as we wrote it."""
    there = _found(unit)
    if force or there is None:
        return
    first, _, rest = there.partition("\n")
    if first != _mark(rest):
        how = "was changed by hand" if first.startswith(MARK) else "was not written by swarm"
        raise Refused(f"{unit} {how}.", consequence, "look at it; --force does it all the same")


def _found(unit: Path) -> str | None:
    try:
        return unit.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SwarmError(f"{unit} can't be read: {error.strerror}.", "Nothing was done.") from None


# --- the unit ---------------------------------------------------------------------------------------------------------------


def folder(environ: Mapping[str, str]) -> Path:
    """Gives the folder of this user's units. Raises `UsageError` where there is no home."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        home = environ.get("HOME", "")
        if not os.path.isabs(home):
            raise UsageError("HOME names no folder.", "Where units belong is not known.", "set HOME")
        base = os.path.join(home, ".config")
    return Path(base, "systemd", "user")


def name(top: str) -> str:
    """Gives the name of a repository's unit: readable, and never that of another repository."""
    slug = re.sub(r"[^a-z0-9]+", "-", os.path.basename(top).lower()).strip("-")[:40] or "repository"
    return f"swarm-{slug}-{hashlib.sha256(os.fsencode(top)).hexdigest()[:8]}.service"


def text(top: str, environ: Mapping[str, str]) -> str:
    """Gives the unit of a repository. Raises `UsageError` where none can be written that would work."""
    program = _interpreter()
    start = " ".join(
        (f":{quoted(program)}", "-P", "-m", package.__name__, "-C", quoted(top), "start", "--foreground")
    )
    path = quoted(f"PATH={environ.get('PATH') or os.defpath}")
    rest = f"""\
[Unit]
Description=swarm in {printable(top).replace("%", "%%")} (git repository)
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
ExecStart={start}
Environment={path}
EnvironmentFile=-%E/swarm/environment
KillMode=process
OOMPolicy=continue
TimeoutStartSec=300
TimeoutStopSec=150
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=0 2 4

[Install]
WantedBy=default.target
"""
    return f"{_mark(rest)}\n{rest}"


def quoted(word: str) -> str:
    """Quotes a word for a unit, as systemd.syntax(7) and systemd.unit(5) have it. `$` stands for itself where the command has the
    prefix `:`, and in `Environment=`. Raises `UsageError` for what no unit can hold."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{printable(word)} is not UTF-8, as a systemd unit has to be.",
            "Nothing was done.",
            "move the repository, or start the daemon by swarm start",
        ) from None
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", escaped) + '"'


def _mark(rest: str) -> str:
    return f"{MARK}{hashlib.sha256(rest.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def _interpreter() -> str:
    """Gives the Python that runs this, where it finds this package by itself: the unit's has no PYTHONPATH, and what lies in the
    repository is not to be taken for us."""
    if re.search(r"[\"'\\\x00-\x1f\x7f]", sys.executable):
        raise UsageError(
            f"systemd starts no program with such a path: {printable(sys.executable)}.",
            "Nothing was done.",
            "install git-swarm somewhere else, and swarm service install with that one",
        )
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    finds = "import swarm; print(swarm.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", finds],
        env=bare,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=LOOK_S * 6,
    )
    if done.returncode != 0 or os.path.realpath(done.stdout.strip()) != os.path.realpath(
        str(package.__file__)
    ):
        raise UsageError(
            f"{printable(sys.executable)} finds this swarm only through PYTHONPATH or the current folder.",
            "A service would not find it. Nothing was done.",
            "install git-swarm, and swarm service install with that one",
        )
    return sys.executable


# --- systemctl --------------------------------------------------------------------------------------------------------------


def _carried_out(session: Session, *commands: tuple[str, ...]) -> bool:
    """Has systemctl carry out commands; where it is not there, or no systemd of this user answers, prints them to be typed."""
    if not _answers():
        session.line("No systemd of this user answers here. To be typed where one does:")
        for each in commands:
            session.line(f"  {' '.join((*SYSTEMCTL, *each))}")
        return False
    for each in commands:
        _systemctl(*each)
    return True


def _answers() -> bool:
    try:
        asked = subprocess.run(
            [*SYSTEMCTL, "show-environment"], stdin=subprocess.DEVNULL, capture_output=True, timeout=LOOK_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def _systemctl(*words: str) -> None:
    shown = " ".join((*SYSTEMCTL, *words))
    try:
        # --now waits until the daemon has come up or ended, for as long as the unit lets it
        done = subprocess.run(
            [*SYSTEMCTL, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise SwarmError(f"{shown} can't be run: {error.strerror}.") from None
    if done.returncode != 0:
        raise SwarmError(
            f"{shown} ended with {done.returncode}: {printable(done.stderr.strip()) or 'without a word'}",
            "",
            f"journalctl --user -u {words[-1]}" if len(words) > 1 else "systemctl --user status",
        )

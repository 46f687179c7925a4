"""A `git` that comes first on the daemon's PATH and misbehaves once, at its n-th call.

Workers' and suites' own calls of git go through untouched and are not counted: they carry the worker's mark. What to do is written
into the script, because sealed calls of git inherit no variable that could say it.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

# before: our caller dies and git never ran; after: git ran and nobody heard; orphan: git goes on when its caller is long dead.
FAULTS = {
    "before": 'kill -9 "$PPID"; exit 1',
    "after": '"$git" "$@"; kill -9 "$PPID"; exit 1',
    "orphan": 'kill -9 "$PPID"; sleep 0.5; exec "$git" "$@"',
    "fails": 'echo "fatal: planted" >&2; exit 128',
    "killed": 'kill -9 "$$"',
    "lock": 'plant "$@"; exec "$git" "$@"',
    "slow": 'sleep 3; exec "$git" "$@"',
    "hangs": 'sleep 1000 & kill -9 "$PPID"; wait',
}

_SCRIPT = """#!/bin/sh
git={git} folder={folder} at=.
case $SWARM_NONCE in '' | daemon-*) ;; *) exec "$git" "$@" ;; esac
plant() {{ # the locks that a git which was killed leaves where this call meets them
    [ -z "$GIT_INDEX_FILE" ] || touch "$GIT_INDEX_FILE.lock"
    for word; do
        case $word in --git-dir=*) at=${{word#*=}} ;; esac
    done
    for ref in HEAD refs/heads/day/staging refs/heads/swarm/day/staging; do
        [ ! -e "$at/$ref" ] || touch "$at/$ref.lock"
    done
}}
printf . >>"$folder/calls"
[ "$(stat -c %s "$folder/calls")" -ge {call} ] && mkdir "$folder/fired" 2>/dev/null || exec "$git" "$@"
printf '%s\\n' "$*" >"$folder/fired/arguments"
{fault}
"""


def make(folder: Path, fault: str, call: int) -> Path:
    """Writes the script into `folder`, which then goes first on PATH."""
    folder.mkdir(parents=True)
    real = shutil.which("git")
    assert real is not None
    script = folder / "git"
    script.write_text(
        _SCRIPT.format(git=shlex.quote(real), folder=shlex.quote(str(folder)), call=call, fault=FAULTS[fault])
    )
    script.chmod(0o755)
    return script


def calls(folder: Path) -> int:
    """Gives how often the daemons called git."""
    counted = folder / "calls"
    return counted.stat().st_size if counted.exists() else 0


def fired(folder: Path) -> str:
    """Gives the arguments of the call that misbehaved, "" where none did."""
    arguments = folder / "fired" / "arguments"
    return arguments.read_text().strip() if arguments.exists() else ""

"""A stand-in for `gh`: a program that keeps repositories and pull requests in a file, and fails as often as a test says.

Rules for editing: nothing here knows of swarm. `trouble` in the file is what the next calls say before they end with 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_STATE = "GH_STAND_IN"
NOTHING: dict[str, Any] = {"calls": [], "trouble": [], "open": {}, "lost": False}


class StandIn:
    """The program, put into a folder for PATH. `env` is what a caller of it needs; `home` holds repositories that it makes."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "gh.json"
        self.home = folder / "github"
        folder.mkdir(parents=True)
        self._file.write_text(json.dumps(NOTHING))
        program = folder / "gh"
        program.write_text(
            f"#!{sys.executable}\nimport runpy\nrunpy.run_path({__file__!r}, run_name='__main__')\n"
        )
        program.chmod(0o755)
        self.env = {"PATH": f"{folder}:{os.environ['PATH']}", _STATE: str(self._file)}

    def said(self) -> dict[str, Any]:
        """Gives the calls so far, each its words and what was on standard input, and the open pull requests."""
        return dict(json.loads(self._file.read_text()))

    def fails(self, *texts: str, lost: bool = False) -> None:
        """Has the next calls fail with these texts; "" fails not. With `lost` what they ask for is done all the same."""
        self._file.write_text(json.dumps({**self.said(), "trouble": list(texts), "lost": lost}))


def main(words: list[str]) -> int:
    file = Path(os.environ[_STATE])
    state = json.loads(file.read_text())
    given = sys.stdin.read()
    state["calls"].append([words, given])
    trouble = state["trouble"].pop(0) if state["trouble"] else ""
    out = _done(words, state, file.parent / "github") if not trouble or state["lost"] else ""
    file.write_text(json.dumps(state))
    sys.stderr.write(trouble)
    sys.stdout.write("" if trouble else out)
    return 1 if trouble else 0


def _done(words: list[str], state: dict[str, Any], home: Path) -> str:
    options = {word: words[at + 1] for at, word in enumerate(words[:-1]) if word.startswith("--")}
    key = f"{options.get('--base')} <- {options.get('--head')}"
    if words[:2] == ["pr", "list"]:
        return json.dumps([{"url": state["open"][key]}] if key in state["open"] else [])
    if words[:2] == ["pr", "create"]:
        state["open"][key] = f"https://forge.invalid/pull/{len(state['open']) + 1}"
        return f"{state['open'][key]}\n"
    assert words[:2] == ["repo", "create"]
    made = home / f"{words[2]}.git"
    subprocess.run(["git", "init", "-q", "--bare", str(made)], check=True)
    subprocess.run(
        ["git", "remote", "add", options["--remote"], str(made)], cwd=options["--source"], check=True
    )
    return "https://forge.invalid/made\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

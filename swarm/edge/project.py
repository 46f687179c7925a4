"""What lies in the user's project, as `discover` wants to know it: tracked files, the few that say how it is tested, programs.

Rules for editing: reads only, and never raises for what lies there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from swarm.core.discover import PROGRAMS, READ, Project
from swarm.edge import git
from swarm.edge.git import GitError

TEXT_MAX_BYTES = 1 << 20


def look(top: Path) -> Project:
    """Looks at the project whose checkout is at `top`."""
    try:
        names = git.decode(git.run("ls-files", "-z", cwd=top).out).split("\0")
    except GitError:  # no repository: a plan can be checked all the same
        names = [entry.name for entry in top.iterdir()]
    tracked = {name for name in names if name}
    texts = {name: _text(top / name) for name in READ & tracked}
    rust = "Cargo.toml" in tracked and _has_rust_tests(top)
    return Project(sorted(tracked), texts, frozenset(filter(shutil.which, PROGRAMS)), rust)


def _has_rust_tests(top: Path) -> bool:
    asked = ("grep", "-q", "-E", r"#\[([a-z_]+::)*test(\]|\()|#\[rstest|```", "--", "*.rs")
    return git.run(*asked, cwd=top, ok=(0, 1, 128)).code == 0


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(TEXT_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""

"""Makes a repository where there was nothing: a folder, `git init`, a first commit.

Hides how far that had come when it was killed: whatever is missing is made, and what is there stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

from swarm.edge import git
from swarm.errors import Refused

MESSAGE = "Begin"
_NOBODY = (
    "-c",
    "user.name=swarm",
    "-c",
    "user.email=swarm@localhost",
)  # where git knows no name of the user's


def found(path: Path) -> None:
    """Makes a repository with a commit at `path`. Raises `Refused` where something else is there."""
    if (path / ".git").exists():
        pass
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Refused(
            f"{path} is there already, and no repository.",
            "Nothing was done.",
            f"name another folder; or git -C {path} init, commit what is there, and build without --new",
        )
    else:
        os.makedirs(path, exist_ok=True)
        git.run("init", "--quiet", "--initial-branch=main", cwd=path, user_config=True)
    if git.run("rev-parse", "--verify", "--quiet", "HEAD", cwd=path, ok=(0, 1, 128)).code == 0:
        return
    named = git.run("config", "user.email", cwd=path, ok=(0, 1), user_config=True).text
    who = () if named else _NOBODY
    git.run(*who, "commit", "--quiet", "--allow-empty", "--message", MESSAGE, cwd=path, user_config=True)

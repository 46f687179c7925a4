"""Finds where a repository is, as git would, without running git: that would cost more than the whole request that follows.

Rules for editing: what git's documentation says of `.git` files, `commondir`, `GIT_DIR`, `GIT_WORK_TREE` and
`GIT_CEILING_DIRECTORIES` holds; nothing is written but the list of repositories in which swarm was used.
"""

from __future__ import annotations

import os

from swarm import protocol
from swarm.errors import UsageError

TYPE_CHECKING = False  # typing would cost more start-up time than this file
if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_CHARS = 16  # of the file in which a repository is noted


class Place:
    """Where a repository is: `top` of its main checkout, `here` the top of the checkout that one stands in, git's common folder,
    and the state folder. In a repository without a main checkout `top` is its git folder."""

    def __init__(self, top: str, here: str, common_dir: str) -> None:
        self.top = top
        self.here = here
        self.common_dir = common_dir
        self.state = os.path.join(common_dir, protocol.STATE_FOLDER)


def locate(start: str, environ: Mapping[str, str]) -> Place:
    """Finds the repository around `start` the way git does: `GIT_DIR`, else upwards. Raises `UsageError` where there is none."""
    try:
        start = os.path.realpath(start)
    except FileNotFoundError:
        raise UsageError(
            "The folder that this was typed in is gone: deleted or moved.",
            "Nothing was done.",
            "cd to where it is",
        ) from None
    if not os.path.isdir(start):
        raise UsageError(
            f"{start} is not a folder.", "Nothing was done.", "cd to the repository, or name it by -C"
        )
    named = environ.get("GIT_DIR")
    if named:
        git_dir = os.path.realpath(os.path.join(start, named))
        if not _is_git_dir(git_dir):
            raise UsageError(
                f"GIT_DIR is {named}, which is not a repository.", "Nothing was done.", "unset GIT_DIR"
            )
        here = os.path.realpath(os.path.join(start, environ.get("GIT_WORK_TREE") or "."))
        return _place(git_dir, here, environ)
    ceilings = {
        os.path.realpath(path) for path in environ.get("GIT_CEILING_DIRECTORIES", "").split(":") if path
    }
    folder = start
    while True:
        found = _git_dir_at(folder)
        if found is not None:
            return _place(found, folder, environ)
        parent = os.path.dirname(folder)
        if parent == folder or parent in ceilings:
            raise UsageError(
                f"{start} is not in a git repository.",
                "Nothing was done.",
                "go into one, or name it: swarm -C DIR …",
            )
        folder = parent


def _git_dir_at(folder: str) -> str | None:
    dot = os.path.join(folder, ".git")
    if _is_git_dir(dot):
        return os.path.realpath(dot)
    if os.path.isfile(dot):
        text = _content(dot)
        if text.startswith("gitdir:"):
            pointed = os.path.realpath(os.path.join(folder, text[len("gitdir:") :].lstrip(" ")))
            if _is_git_dir(pointed):
                return pointed
            raise UsageError(
                f"{dot} points to {pointed}, which is not a git folder.",
                "Nothing was done.",
                "git worktree repair, in the repository that this checkout belongs to",
            )
    return folder if _is_git_dir(folder) else None


def _is_git_dir(folder: str) -> bool:
    return os.path.lexists(os.path.join(folder, "HEAD")) and (
        os.path.isfile(os.path.join(folder, "commondir"))
        or (os.path.isdir(os.path.join(folder, "objects")) and os.path.isdir(os.path.join(folder, "refs")))
    )


def _place(git_dir: str, here: str, environ: Mapping[str, str]) -> Place:
    common = environ.get("GIT_COMMON_DIR") or _content(os.path.join(git_dir, "commondir"))
    common_dir = os.path.realpath(os.path.join(git_dir, common)) if common else git_dir
    top = _main_top(git_dir, common_dir, here)
    return Place(top, top if here == git_dir else here, common_dir)


def _main_top(git_dir: str, common_dir: str, here: str) -> str:
    if os.path.basename(common_dir) == ".git":
        return os.path.dirname(common_dir)
    core = _core_settings(os.path.join(common_dir, "config"))
    if core.get("worktree"):  # a submodule
        return os.path.realpath(os.path.join(common_dir, core["worktree"]))
    if git_dir == common_dir and here != git_dir:  # a git folder that is somewhere else
        return here
    return common_dir


def _core_settings(path: str) -> dict[str, str]:
    """Reads the section [core] of a git config file, as far as it is written plainly."""
    found: dict[str, str] = {}
    section = ""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                text = line.strip()
                if text.startswith("["):
                    section = text.strip("[]").strip().lower()
                elif section == "core" and "=" in text:
                    key, _, value = text.partition("=")
                    found[key.strip().lower()] = value.strip().strip('"')
    except OSError:
        pass
    return found


def _content(path: str) -> str:
    """Reads what a file of git's says that holds one path, in which there may be line ends; "" where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read(8192).rstrip("\r\n")
    except OSError:
        return ""


# --- repositories of this machine -------------------------------------------------------------------------------------------


def remember(place: Place, environ: Mapping[str, str]) -> None:
    """Notes that swarm is used in a repository, for `status --all`, and forgets those that are gone. Where that can't be written,
    it is not. Each repository has a file of its own, so that no two daemons write the same."""
    folder = _known_folder(environ)
    if not folder:
        return
    import hashlib
    import json

    name = hashlib.sha256(os.fsencode(place.common_dir)).hexdigest()[:NAME_CHARS]
    path = os.path.join(folder, name)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for other, (_, state) in _noted(folder).items():
            if _is_gone(state):
                os.unlink(os.path.join(folder, other))
        if _noted(folder).get(name) != (place.top, place.state):
            with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
                json.dump({"top": place.top, "state": place.state}, file)
            os.replace(file.name, path)
    except OSError:
        pass


def known(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Lists (top, state folder) of the repositories in which this user used swarm and whose state is still there."""
    return [(top, state) for top, state in _all_noted(environ) if _is_ours(state)]


def gone(environ: Mapping[str, str]) -> list[str]:
    """Lists the tops of repositories that were known and are deleted, moved, or on a disk that is not there now; until the next
    daemon starts."""
    return [top for top, state in _all_noted(environ) if _is_gone(state)]


def _all_noted(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(_noted(_known_folder(environ)).values())


def _noted(folder: str) -> dict[str, tuple[str, str]]:
    """Reads the notes, by their names. What is none of them, such as one that was never written to its end, is passed over."""
    import json

    found: dict[str, tuple[str, str]] = {}
    try:
        names = [name for name in os.listdir(folder) if len(name) == NAME_CHARS] if folder else []
    except OSError:
        names = []
    for name in names:
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                data = json.load(file)
            found[name] = (str(data["top"]), str(data["state"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _is_gone(state: str) -> bool:
    try:
        os.stat(state)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass  # it is there, and not to be looked at
    return False


def _is_ours(state: str) -> bool:
    """Whether a state folder is there and this user's: what another one does is not ours to see, even for who may read all."""
    try:
        return os.stat(state).st_uid == os.geteuid()
    except OSError:
        return False


def nowhere(environ: Mapping[str, str]) -> str:
    """Says why no repository is known."""
    if protocol.inside_worker(environ):
        return "No repository is known in here: what swarm keeps of them is not shown inside a sandbox."
    if folder := _known_folder(environ):
        if not _can_be_made(folder):
            return f"Where swarm was used is not known: it can't be noted in {protocol.printable(folder)}."
        return "swarm has not been used on this machine yet."
    return "Where swarm was used is not known: neither HOME nor XDG_STATE_HOME names a folder to note it in."


def _can_be_made(folder: str) -> bool:
    """Whether a folder is there, or its nearest one that is lets us make it."""
    there = folder
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    return os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)


def _known_folder(environ: Mapping[str, str]) -> str:
    base = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        home = environ.get("HOME", "")
        if not os.path.isabs(home):
            return ""
        base = os.path.join(home, ".local", "state")
    return os.path.join(base, "swarm", "repositories")

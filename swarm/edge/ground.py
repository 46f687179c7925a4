"""Where worktrees are to lie, and whether something of the user's lies there already: that is never written into.

Hides by what a folder of ours is known: by the `.gitignore` that hides it, by the pool's records, or because nothing but linked
worktrees is in it. Rules for editing: looks only; a checkout is never ours to write beside, whatever else lies in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from swarm.edge import git
from swarm.errors import Refused

HIDING = ".gitignore"  # of a folder of ours in a checkout
ALL = "*\n"  # what it says
RECORDS = ".pool"  # the folder of the pool's records
POOL = "pool"
UNOWNED = "unowned"  # in place of a run's id, for worktrees of which nobody knows any more whose they were
KEEPING = ".gitkeep"


def is_checkout(folder: Path) -> bool:
    """Tells whether a folder is the top of a worktree or of a repository: what is written there is seen by its user's git."""
    return os.path.lexists(folder / ".git")


def theirs(folder: Path) -> str:
    """Says what of the user's lies where a folder of ours is to be; "" where nothing is, or what we made."""
    if not os.path.lexists(folder):
        return ""
    if not folder.is_dir():
        return "a file"
    if is_checkout(folder):
        return "a worktree of your own" if (folder / ".git").is_file() else "a repository of its own"
    if (folder / RECORDS).is_dir() or _is_hidden(folder):
        return ""
    strange = [name for name in sorted(os.listdir(folder)) if not is_checkout(folder / name)]
    if not strange or _is_hidden(folder):  # looked at once more: another thread may just have made it ours
        return ""
    return f"a folder of your own, with {strange[0]}"


def others(root: Path) -> str:
    """Names something of the user's in the folder of all worktrees; "" where there is nothing, or only what we made, linked
    worktrees, and a file that keeps the folder in a commit."""
    if not root.is_dir():
        return ""
    names = (name for name in sorted(os.listdir(root)) if name not in (HIDING, KEEPING))
    return next((name for name in names if not is_checkout(root / name) and theirs(root / name)), "")


def tracked(root: Path, top: Path) -> str:
    """Names a file of the checkout at `top` that git tracks in the folder of all worktrees, from the top; "" where there is none.
    Git is asked only where something of the user's is there."""
    if not root.is_relative_to(top) or not others(root):
        return ""
    inside = root.relative_to(top).as_posix()
    besides = (f":(top,exclude,literal){inside}/{name}" for name in (HIDING, KEEPING))
    asked = ("ls-files", "-z", "--full-name", "--", f":(top,literal){inside}", *besides)
    found = git.run(*asked, cwd=top, ok=(0, 128))  # 128: in a submodule
    return git.decode(found.out).partition("\0")[0]


def tracked_at(path: str, top: Path) -> str:
    """Names a file that git tracks at a path of the checkout at `top`, or below it; "" where there is none."""
    asked = ("ls-files", "-z", "--full-name", "--", f":(top,literal){path}")
    return git.decode(git.run(*asked, cwd=top, ok=(0, 128)).out).partition("\0")[0]


def link_shown(root: Path, top: Path) -> str:
    """Gives the link of the checkout at `top` that leads to the folder of all worktrees, where git shows it there: to git it is a
    file, and no `.gitignore` beyond it counts; "" where there is none. `root` is as the settings have it."""
    parts = Path(os.path.relpath(top / root.expanduser(), top)).parts
    ways = (Path(*parts[:count]) for count in range(1, len(parts) + 1))
    link = next((str(way) for way in ways if (top / way).is_symlink()), "") if ".." not in parts else ""
    asked = ("status", "--porcelain", "--untracked-files=normal", "--", f":(top,literal){link}")
    return link if link and git.run(*asked, cwd=top, user_config=True).out.startswith(b"??") else ""


def exclude(link: str, common: Path) -> str:
    """Gives the command that has git show a link no more, in no checkout of the repository."""
    return f"echo {quote(f'/{link}')} >> {quote(str(common / 'info' / 'exclude'))}"


def in_the_way(root: Path, run: str, top: Path | None) -> Refused | None:
    """Gives the refusal of a run whose staging worktree, or whose workers' worktrees, would lie in what is the user's; None where
    nothing is in the way. `root` is the folder of all worktrees, `top` that of the checkout."""
    if is_checkout(root) and root != top:
        return refusal(root, "a worktree of your own", "worktrees", "set worktrees.root in swarm.toml")
    for name, what, instead in (
        (POOL, "the worktrees of workers", "set worktrees.root in swarm.toml"),
        (run, f"the staging worktree of run {run}", "give the plan another name"),
    ):
        if found := theirs(root / name):
            return refusal(root / name, found, what, instead)
    return None


def branch_in_the_way(common: Path, run: str, consequence: str) -> Refused | None:
    """Gives the refusal of a run beside whose branches a branch of the user's can't be, None where there is none. `common` is the
    common git folder; without a `run` only that is looked at which is in the way of all."""
    for name in ("swarm", f"swarm/{run}") if run else ("swarm",):
        if git.read_ref(common, f"refs/heads/{name}") is not None:
            return Refused(
                f'A branch named "{name}" is in the way: git can\'t have it beside {name}/….',
                consequence,
                f"rename it: git branch -m {name} SOME-OTHER-NAME",
            )
    return None


def refusal(place: Path, found: str, what: str, instead: str = "") -> Refused:
    """Says that `found` is at a place where `what` would be made, and how both can be."""
    linked = (place / ".git").is_file()
    move = f"{'git worktree move' if linked else 'mv'} {quote(str(place))} SOMEWHERE-ELSE"
    return Refused(
        f"{place} is in the way: it is {found}, and {what} would be made in it.",
        "Nothing was made there: git would not show any more what you do in it.",
        f"{instead}, or move it: {move}" if instead else move,
    )


def _is_hidden(folder: Path) -> bool:
    """Tells whether a folder has our `.gitignore`, or the empty one of a call that was killed before it wrote."""
    try:
        return (folder / HIDING).read_text("utf-8", "replace") in ("", ALL)
    except OSError:
        return False


def way_out(names: Iterable[str], top: Path, root: Path) -> str:
    """Says where a path leaves the checkout at `top`, by the link of which folder; "" where it stays, or is not there yet.

    In its git folder, and in `root`, the folder of all worktrees, it is out of it too. `top` and `root` are free of links.
    """
    path = top
    for name in names:
        path = path / name
        if not path.is_symlink():
            continue
        leads = Path(os.path.realpath(path))
        inside = leads.is_relative_to(top) and leads.relative_to(top).parts[:1] != (".git",)
        if not inside or leads.is_relative_to(root):
            return f"{path.relative_to(top)} is a link to {leads}"
        path = leads
    return ""

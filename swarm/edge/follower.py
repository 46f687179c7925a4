"""The staging worktree: a checkout for people to look into, which follows the staging branch and never
leads it.

Hides how files are moved from one commit to the next without ever overwriting a person's edits, and how a
move that was killed half-way is told from such edits: where a move is going is written down before it
starts, and a file that is missing, or is the old or the new version, or the beginning of the new one, was
ours. Rules for editing: nothing is decided by what lies in this worktree, so a reason to leave it is a
sentence, not an error; HEAD is detached, and a HEAD that a person moved is theirs, also one that moves while
we do: git moves it only from where we saw it; files are forced only to finish our own move.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from swarm.crashpoints import crash_at
from swarm.dataclass import dataclass
from swarm.edge import git, linked, submodules, whole
from swarm.edge.difference import UNSTAGED, as_checked_out
from swarm.edge.linked import LinkedTree
from swarm.edge.lockfile import exclusive
from swarm.errors import SwarmError

MOVE = (
    "swarm-move"  # in the admin folder while files are moved: "<from> <to>", from "-" for the first checkout
)
NAMED_MAX = 3
_FAST_FORWARD = ("merge", "-q", "--ff-only", "--no-autostash", "--no-verify-signatures")


@dataclass(frozen=True, slots=True)
class Follower:
    """Makes and moves staging worktrees of the repository whose common folder is `common`; `lock` guards
    git's bookkeeping. One thread at a time for one path."""

    common: Path
    lock: Path
    objects: git.Objects
    save_record: Callable[[LinkedTree], object]
    user_config: bool = True

    def prepare(self, path: Path, commit: str) -> None:
        """Makes a worktree at `path`, detached at `commit`; one that stands already is left as it is.

        Files that lie there and belong to no worktree stay, and show up as local changes. Raises GitError,
        OSError.
        """
        tree = linked.find(path, self.common, user_config=self.user_config)
        if tree is None or not tree.is_linked():
            tree = self._make(path, commit, tree)
        elif (tree.admin / "index").exists() and not (tree.admin / MOVE).exists():
            return
        if os.listdir(path) == [".git"]:  # nothing of a person's can lie there, so nothing is compared
            whole.write(tree.admin / MOVE, f"- {commit}\n", durable=False)
            tree.break_locks()
            tree.git("checkout", "-q", "-f", "--detach", commit)
            linked.remove(tree.admin / MOVE)
        else:
            self._finish(tree, None, commit)

    def follow(self, path: Path, old: str, new: str, by_hand: Collection[str] = ()) -> str:
        """Moves the worktree at `path` from `old` to `new`, files and all; gives "" or why it was left.

        One that stands at a commit in `by_hand`, which a person made there and which `new` has, is moved from that.
        Standing at `new` already is done, and one that was deleted is made again. Raises GitError and
        OSError where the move could not be made; the next call finishes it.
        """
        tree = linked.find(path, self.common, user_config=self.user_config)
        if tree is None or not tree.is_linked():
            self.prepare(path, new)
            return ""
        edits = self._finish_killed(tree)
        if edits:
            return _dirty(edits, old)
        old = next((commit for commit in by_hand if commit == tree.head()), old)
        reason = self._reason_to_leave(tree, old, new)
        if reason or tree.head() == new:
            return reason
        changes = self.objects.diff(self.objects.tree_of(old), self.objects.tree_of(new))
        if inside := submodules.replaced(path, changes):
            named = ", ".join(inside[:NAMED_MAX])
            return f"the staging worktree has a submodule in {named}, where something else comes: left at {old[:12]}"
        return self._move(tree, old, new)

    def look(self, path: Path, commit: str, going_to: str) -> tuple[str, str]:
        """Says what is wrong with the worktree at `path` that should stand at `commit`, or at `going_to` by now, and what
        `prepare` would do about it.

        Both are empty where all is well; a person's doing has no remedy but theirs. Changes nothing.
        """
        tree = linked.find(path, self.common, user_config=self.user_config)
        if not os.path.lexists(path):
            return f"the staging worktree {path} is gone", "it is made again"
        if tree is None or not tree.is_linked():
            return f"git has no record of the staging worktree {path}", "it gets one; its files stay"
        if not (tree.admin / "index").exists():
            return f"the staging worktree {path} was never filled", "its files are put there"
        if (tree.admin / MOVE).exists():
            return "", ""  # on its way, or cut short: the next move finishes it
        return self._reason_to_leave(tree, commit, going_to) or self._at_work(tree, commit), ""

    def _make(self, path: Path, commit: str, lost: LinkedTree | None) -> LinkedTree:
        if git.missing(self.common, [commit]):  # a record whose HEAD is nowhere breaks git's own commands
            raise SwarmError(
                f"The staging worktree {path} can't be made: commit {commit[:12]} is not in this repository.",
                "Landed work is safe in the landing repository.",
                "swarm recover brings it back",
            )
        there = linked.seat(lost) if lost is not None else None
        if lost is not None and there in (None, path):
            self.save_record(lost)  # a person may have committed there
        with exclusive(self.lock) as held:
            if lost is not None and there not in (None, path):
                assert there is not None
                linked.disown(lost, there, lock=held)
            elif lost is not None:
                linked.unlink(lost, lock=held)
            linked.sweep_drafts(self.common, lock=held)
            name = f"swarm-{path.parent.name}-{path.name}"
            made = linked.link(path, name, self.common, commit, user_config=self.user_config, lock=held)
        crash_at("staging.linked")
        return made

    def _reason_to_leave(self, tree: LinkedTree, old: str, new: str) -> str:
        branch, head = tree.branch(), tree.head()
        if branch is not None:
            return f"the staging worktree is on {branch.removeprefix('refs/heads/')}: left there"
        if head not in (old, new):
            return f"the staging worktree was moved by hand: left at {(head or 'an unknown commit')[:12]}"
        return "" if head == new else self._at_work(tree, old)

    def _at_work(self, tree: LinkedTree, at: str) -> str:
        """Says who is at work in the worktree: another git, or a person with changes of their own."""
        if (tree.admin / "index.lock").exists():
            return f"another git is at work in the staging worktree ({tree.admin / 'index.lock'}): left at {at[:12]}"
        status = (
            "status",
            "--porcelain",
            "-z",
            "--untracked-files=no",
            "--no-renames",
            "--ignore-submodules=all",
        )
        found = {line[3:]: line[:2] for line in git.decode(tree.git(*status).out).split("\0") if line}
        nobodys = self._nobodys(tree) if " M" in found.values() else set()
        edits = [path for path, code in found.items() if code != " M" or path not in nobodys]
        return _dirty(edits, at) if edits else ""

    def _nobodys(self, tree: LinkedTree, index: Path | None = None) -> set[str]:
        """Gives the paths that git shows as changed although they are as they were checked out."""
        return as_checked_out(tree.path, tree.git(*UNSTAGED, index=index).out, self.objects.sizes)

    def _move(self, tree: LinkedTree, old: str, new: str) -> str:
        note = tree.admin / MOVE
        whole.write(note, f"{old} {new}\n", durable=False)
        crash_at("follow.noted")
        asked = tree.git(*_FAST_FORWARD, new, ok=(0, 1, 128))  # moves HEAD last, and only from where it was
        if asked.code == 1 and "would be overwritten" in asked.err:
            asked = self._make_way(tree, old, new) or asked
        if asked.code == 0:
            crash_at("follow.moved")
            linked.remove(note)
            return ""
        if asked.code == 1 and "would be overwritten" in asked.err:  # git looked first and moved nothing
            linked.remove(note)
            return _dirty([line.strip() for line in asked.err.splitlines() if line.startswith("\t")], old)
        if tree.head() not in (old, new):
            return self._give_way(tree, old, new)
        raise git.GitError(("git", *_FAST_FORWARD), asked.code, asked.err)

    def _make_way(self, tree: LinkedTree, old: str, new: str) -> git.Outcome | None:
        """Moves files once more, without those in the way that are nobody's changes; None where none of them are. To git a file
        that is not there is no change."""
        nobodys = sorted(self._nobodys(tree) & self._changes(old, new).keys())
        if not nobodys:
            return None
        for path in nobodys:
            linked.remove(tree.path / path)
        asked = tree.git(*_FAST_FORWARD, new, ok=(0, 1, 128))
        if asked.code != 0:
            listed = git.encode("".join(f"{path}\0" for path in nobodys))
            tree.git("checkout-index", "-q", "-f", "-u", "-z", "--stdin", input=listed)
        return asked

    def _give_way(self, tree: LinkedTree, old: str, new: str) -> str:
        """Takes the files of our move to where a person moved HEAD meanwhile, by a commit or otherwise; gives what to say."""
        # What is not as we put it is left as it is.
        tree.git("read-tree", "-m", "-u", new, "HEAD", ok=(0, 128))
        linked.remove(tree.admin / MOVE)
        return self._reason_to_leave(tree, old, new)

    # --- finishing a move -----------------------------------------------------------------------------------

    def _finish_killed(self, tree: LinkedTree) -> list[str]:
        """Finishes the move that a killed call began; gives the paths of a person's edits that stop it."""
        try:
            old, new = (tree.admin / MOVE).read_text("ascii").split()
        except (FileNotFoundError, ValueError):
            if (tree.admin / "index").exists() or tree.head() is None:
                return []
            old, new = "-", str(tree.head())
        if old != "-" and tree.head() not in (old, new):
            self._give_way(tree, old, new)
            return []
        return self._finish(tree, None if old == "-" else old, new)

    def _finish(self, tree: LinkedTree, old: str | None, new: str) -> list[str]:
        seen = tree.head()
        whole.write(tree.admin / MOVE, f"{old or '-'} {new}\n", durable=False)
        tree.break_locks()
        index, older = tree.admin / "swarm-new", tree.admin / "swarm-old"
        for scratch in (index, older):
            linked.remove(scratch)
            linked.remove(Path(f"{scratch}.lock"))
        try:
            differing = self._differing(tree, new, index)
            not_old = self._differing(tree, old, older) if old and differing else set()
            changes = self._changes(old, new)
            edits = [p for p in differing if not self._is_ours(tree, p, new, changes, not_old, old is None)]
            if edits:
                self._keep(tree, index, old is None)
                return sorted(edits)
            self._remove_outdated(tree, changes, old, older)
            crash_at("follow.finishing")
            paths = "".join(f"{path}\0" for path in sorted(differing))
            tree.git(
                "checkout-index", "-q", "-f", "-u", "-z", "--stdin", index=index, input=git.encode(paths)
            )
            self._take_index(tree, old, new, index)
        finally:
            linked.remove(index)
            linked.remove(older)
        tree.git("update-ref", "--no-deref", "HEAD", new, *([seen] if seen else []), ok=(0, 128))
        if tree.head() == new:
            linked.remove(tree.admin / MOVE)
        else:
            self._give_way(tree, old or seen or new, new)
        return []

    def _take_index(self, tree: LinkedTree, old: str | None, new: str, index: Path) -> None:
        """Takes the index to `new`, as git does before it moves HEAD; what a person has staged beside our files stays staged."""
        there = old is not None and (tree.admin / "index").exists()
        if there and tree.git("read-tree", "-i", "-m", str(old), new, ok=(0, 128)).code == 0:
            tree.git("update-index", "-q", "--refresh", ok=(0, 1))
        else:
            linked.copy_index(index, tree.admin / "index")

    def _keep(self, tree: LinkedTree, index: Path, first: bool) -> None:
        """Leaves a folder that had files of its own with an index, so that git shows them as changes."""
        if first:
            linked.copy_index(index, tree.admin / "index")
            linked.remove(tree.admin / MOVE)

    def _differing(self, tree: LinkedTree, commit: str, index: Path) -> set[str]:
        """Lists tracked paths of `commit` whose file is another or missing, by an index made for it."""
        tree.git("read-tree", commit, index=index)
        tree.git("update-index", "-q", "--refresh", index=index, ok=(0, 1))
        out = tree.git("diff-files", "--name-only", "-z", "--ignore-submodules=all", index=index).out
        differing = {path for path in git.decode(out).split("\0") if path}
        return differing - self._nobodys(tree, index) if differing else differing

    def _changes(self, old: str | None, new: str) -> dict[str, git.Change]:
        if old is None:
            return {}
        changes = self.objects.diff(self.objects.tree_of(old), self.objects.tree_of(new))
        return {change.path: change for change in changes}

    def _is_ours(
        self,
        tree: LinkedTree,
        path: str,
        new: str,
        changes: dict[str, git.Change],
        not_old: set[str],
        first: bool,
    ) -> bool:
        """Tells whether a path that is not the new version can only be so because our move was killed."""
        file = tree.path / path
        if not os.path.lexists(file):
            return True
        change = changes.get(path)
        if change is None and not first:
            return False
        if change is not None and int(change.old_mode, 8) and path not in not_old:
            return True
        if file.is_symlink() or not file.is_file():
            return False
        wanted = tree.git("cat-file", "--filters", f"{new}:{path}").out
        return wanted.startswith(file.read_bytes())

    def _remove_outdated(
        self, tree: LinkedTree, changes: dict[str, git.Change], old: str | None, older: Path
    ) -> None:
        """Removes files that the new commit has no more, where they are still the old version."""
        gone = git.files_of([change for change in changes.values() if not int(change.new_mode, 8)])
        left = [path for path in gone if os.path.lexists(tree.path / path)]
        if old is None or not left:
            return
        not_old = self._differing(tree, old, older)
        for path in left:
            if path not in not_old and not (tree.path / path).is_dir():
                linked.remove(tree.path / path)


def _dirty(paths: Sequence[str], at: str) -> str:
    named = ", ".join(paths[:NAMED_MAX]) + (
        f" and {len(paths) - NAMED_MAX} more" if len(paths) > NAMED_MAX else ""
    )
    return f"the staging worktree has local changes in {named}: left at {at[:12]}"

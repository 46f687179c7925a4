"""Looks how staging stands in the user's repository: as it was left, or what a person did to it meanwhile.

Hides how a person's own commits on staging are told from a branch that was moved, and from a staging worktree in which somebody
only looks at another commit. Rules for editing: looking moves nothing of a person's; the one thing made here is a staging branch
that is gone, where the last landing left it.
"""

from __future__ import annotations

from pathlib import Path

from swarm.core.model import Seen, Standing, staging_branch
from swarm.dataclass import dataclass
from swarm.edge import git, linked
from swarm.edge.landing import LandingRepository


@dataclass(frozen=True, slots=True)
class Lookout:
    """Looks at staging in the repository `user`; `objects` reads its commits."""

    user: git.Repository
    landing: LandingRepository
    objects: git.Objects

    def look(self, run: str, published: str, worktree: Path, *, mend: bool = False) -> Seen:
        """Says how staging stands in the user's repository, where the last landing left it at `published`.

        With `mend`, what gc took away of it is brought back. Raises `GitError`, and `Refused` where staging can't be made again.
        """
        branch = staging_branch(run)
        found = git.read_ref(self.user.common_dir, f"refs/heads/{branch}")
        if found is None:
            self.landing.restore(run, published)
            return Seen(Standing.RESTORED, published)
        for checkout in self.user.worktrees_of_branch(branch):
            return Seen(Standing.CHECKED_OUT, found, place=str(checkout))
        if (held := self.user.holding(branch)) is not None:
            return Seen(Standing.CHECKED_OUT, found, where=held.what, place=str(held.place))
        if found != published and (astray := self._look_at_branch(run, published, found)) is not None:
            return astray
        if mend:
            self.landing.mend(run, found)
        return self._look_at_worktree(run, published, worktree) or Seen(Standing.AS_LEFT, found)

    def look_before(self, run: str, left: str, worktree: Path) -> Seen | None:
        """Looks whether a person did something to the branch or in the worktree since staging was `left`, which is to come before
        what lands next; None where they did not. Mostly that is a few small files read, and no process.

        Who is in the midst of a rebase or merge there has not done it yet. A branch that is gone is publishing's to make again.
        """
        found = git.read_ref(self.user.common_dir, f"refs/heads/{staging_branch(run)}")
        if found is None or (self._is_ours(run, found, left) and self._has_all_of(run, worktree)):
            return None
        seen = self.look(run, left, worktree)
        return None if seen.kind in (Standing.AS_LEFT, Standing.RESTORED) else seen

    def _has_all_of(self, run: str, worktree: Path) -> bool:
        """Tells whether the landing repository has whatever was committed in the staging worktree."""
        tree = linked.find(worktree, self.user.common_dir)
        head = tree.head() if tree is not None else None
        if tree is None or head is None or self._is_ours(run, head):
            return True
        return tree.branch() is not None or bool(tree.unfinished())

    def _is_ours(self, run: str, commit: str, since: str = "") -> bool:
        """Tells whether a commit is a landing, none before `since`, or what one brought in."""
        place, least = self.landing.place(run, commit), self.landing.place(run, since) or 0
        return self.landing.came_in(run, commit) if place is None else place >= least

    def _look_at_branch(self, run: str, published: str, found: str) -> Seen | None:
        """Says what was done to the branch that stands elsewhere than the last landing left it; None where it is on its way."""
        place, left = self.landing.place(run, found), self.landing.place(run, published)
        if place is None:
            base = self._stands_on(run, published, found)
            if base == found:
                return None  # a landing after all, whatever is remembered of the line
            at = self.landing.place(run, base) if base is not None else None
            if base is None or at is None or left is None or at < left:
                return self._moved(run, published, found)
            return self._by_hand(found, "branch", base)
        return self._moved(run, published, found) if left is not None and place < left else None

    def _moved(self, run: str, published: str, found: str) -> Seen:
        """Says that the branch was moved; what it was moved away from is there to be moved back to, whatever gc took away."""
        if git.missing(self.user.common_dir, [published]):
            self.landing.mend(run, published)
        return Seen(Standing.MOVED, found)

    def _look_at_worktree(self, run: str, published: str, worktree: Path) -> Seen | None:
        """Finds commits that were made on the detached HEAD of the staging worktree, which no branch has."""
        tree = linked.find(worktree, self.user.common_dir)
        head = tree.head() if tree is not None and tree.branch() is None else None
        if head is None or self.landing.place(run, head) is not None or self._is_on_a_branch(run, head):
            return None
        base = self._stands_on(run, published, head)
        return self._by_hand(head, "worktree", base) if base is not None else None

    def _is_on_a_branch(self, run: str, commit: str) -> bool:
        """Tells whether a branch or tag has this commit, so that it was only checked out. Those that keep what was already taken in
        do not count."""
        asked = ("for-each-ref", "--format=%(refname)", "--contains", commit, "refs/")
        listed = git.run(*asked, git_dir=self.user.common_dir).text.splitlines()
        return any(not name.startswith(f"refs/heads/swarm/{run}/task/by-hand-") for name in listed)

    def _stands_on(self, run: str, published: str, found: str) -> str | None:
        """Gives the newest commit of staging that `found` contains; None where that is none."""
        common = self.user.common_dir
        for commit in self.landing.above(run, published)[::-1]:  # not published, but perhaps handed over
            asked = git.run("merge-base", "--is-ancestor", commit, found, git_dir=common, ok=(0, 1, 128))
            if asked.code == 0:
                return commit
        shared = git.run("merge-base", published, found, git_dir=common, ok=(0, 1)).text
        return shared if shared and self.landing.place(run, shared) is not None else None

    def _by_hand(self, found: str, where: str, base: str) -> Seen:
        commits = int(git.run("rev-list", "--count", f"{base}..{found}", git_dir=self.user.common_dir).text)
        subject = self.objects.commit(found).subject
        title = subject if commits == 1 else f"{subject} (and {commits - 1} more)"
        touched = self.objects.changed_paths(base, found)
        return Seen(Standing.BY_HAND, found, where, base, title, commits, touched)

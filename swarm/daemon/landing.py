"""The way of work onto staging in the user's repository, once it has been brought in (`collecting`).

Rules for editing: every method carries out one command, in a thread, and gives its answer; nothing is decided. A command that was
carried out before a crash is carried out again: each of these first looks whether its work is done, or makes the same once more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.crashpoints import crash_at
from swarm.daemon.edges import Edges
from swarm.dataclass import dataclass
from swarm.edge.landing import StagingBranchMoved
from swarm.edge.lockfile import MergeLockHeld, exclusive
from swarm.edge.lookout import Lookout
from swarm.edge.merging import Conflict

VERSIONS_MAX = 50  # of paths in conflict, that are told


@dataclass(frozen=True, slots=True)
class Lander:
    """Lands the work of attempts, and takes it back."""

    edges: Edges
    clock: Callable[[], float]

    def prepare_run(self, command: cmd.PrepareRun) -> m.Event:
        """Founds staging of a run in both repositories, and its worktree."""
        landing = self.edges.landing
        landing.fetch_promised(command.base)
        with exclusive(self.edges.places.merge_lock, kind=MergeLockHeld):
            landing.seed(command.run, command.base)
        crash_at("prepare.seeded")
        landing.publish(
            command.run, command.base, command.base
        )  # the branch is there before the first landing
        crash_at("prepare.published")
        worktree = self.edges.staging_worktree(command.run)
        self.edges.pool.prepare_staging(worktree, command.base)
        return m.RunPrepared(at=self.clock(), run=command.run, commit=command.base, worktree=str(worktree))

    def merge(self, command: cmd.Merge) -> m.Event:
        """Makes the candidate that merges an attempt onto staging."""
        if (astray := self._astray(command)) is not None:
            return astray
        landing = self.edges.landing
        merged = landing.merge_attempt(command.onto, command.head, run=command.run, base=command.base)
        if isinstance(merged, Conflict):
            if command.by_hand:  # whoever made it can only settle it with what it conflicts with
                landing.hand_over(command.run, command.onto, command.base)
            return self._conflicted(partial(m.MergeConflicted, head=command.head), command, merged)
        message = landing_message(command)
        candidate = landing.candidate(merged.tree, command.onto, command.head, message=message, at=command.at)
        return m.CandidateMade(
            at=self.clock(),
            **command.about,
            onto=command.onto,
            candidate=candidate,
            head=command.head,
            verified=command.verified,
            batch=command.batch,
        )

    def rebase(self, command: cmd.Rebase) -> m.Event:
        """Replays an attempt's commits onto staging."""
        landing = self.edges.landing
        made = landing.rebase(command.head, command.base, command.onto, command.at)
        if isinstance(
            made, Conflict
        ):  # told is what conflicts of the work as a whole, not of the commit it stopped at
            whole = landing.merge_attempt(command.onto, command.head, run=command.run, base=command.base)
            return self._conflicted(
                m.RebaseConflicted, command, whole if isinstance(whole, Conflict) else made
            )
        return m.Rebased(at=self.clock(), **command.about, onto=command.onto, head=made.head)

    def revert(self, command: cmd.Revert) -> m.Event:
        """Makes the candidate that takes landings back."""
        if (astray := self._astray(command)) is not None:
            return astray
        landings = [commit for _, commit in command.landings]
        message = undo_message(command)
        made = self.edges.landing.revert(command.onto, landings, message=message, at=command.at)
        if isinstance(made, Conflict):
            return self._conflicted(m.MergeConflicted, command, made)
        return m.CandidateMade(at=self.clock(), **command.about, onto=command.onto, candidate=made)

    def _conflicted(
        self,
        kind: Callable[..., m.Event],
        command: cmd.Merge | cmd.Rebase | cmd.Revert,
        found: Conflict,
    ) -> m.Event:
        since = command.landings[-1][1] if isinstance(command, cmd.Revert) else command.base
        landings = self.edges.landing.touched_by(found.paths, since=since, until=command.onto)
        return kind(
            at=self.clock(),
            **command.about,
            onto=command.onto,
            paths=tuple(found.paths),
            landings=tuple(landings),
            versions=found.sides()[:VERSIONS_MAX],
            why="" if found.blobs else "; ".join(found.messages),
        )

    def advance(self, command: cmd.Advance) -> m.Event:
        """Moves staging to a candidate, in the landing repository, after the checks that it needs."""
        landing = self.edges.landing
        not_done = landing.staging(command.run) == command.old
        if not_done and (astray := self._astray(command)) is not None:
            return astray
        if command.reverts:
            landing.check_revert(command.new, command.old, command.reverts)
        alone = (command.new, command.old, command.head, command.base)
        for new, old, head, base in () if command.reverts else command.over or (alone,):
            landing.check(new, old, head, base, run=command.run)
        with exclusive(self.edges.places.merge_lock, kind=MergeLockHeld) as held:
            found = landing.advance(command.run, command.new, command.old, lock=held)
        if found is not None:
            return m.StagingMoved(at=self.clock(), **command.about, found=found, candidate=command.new)
        return m.StagingAdvanced(at=self.clock(), **command.about, candidate=command.new)

    def _astray(self, command: cmd.Merge | cmd.Revert | cmd.Advance) -> m.Event | None:
        """Tells where a person did something to staging in the user's repository that is to come first."""
        if not command.left:
            return None
        seen = self.lookout().look_before(command.run, command.left, self.edges.staging_worktree(command.run))
        return m.StagingFoundAstray(at=self.clock(), **command.about, seen=seen) if seen is not None else None

    def publish(self, command: cmd.Publish) -> m.Event:
        """Moves staging in the user's repository."""
        try:
            self.edges.landing.publish(command.run, command.commit, command.old)
        except StagingBranchMoved:
            seen = self.lookout().look(
                command.run, command.published, self.edges.staging_worktree(command.run)
            )
            return m.StagingSeen(at=self.clock(), run=command.run, command="Publish", seen=seen)
        return m.Published(at=self.clock(), run=command.run, commit=command.commit)

    def lookout(self) -> Lookout:
        """Gives what looks at staging in the user's repository."""
        return Lookout(self.edges.repository, self.edges.landing, self.edges.pool.objects)

    def follow(self, command: cmd.Follow) -> m.Event:
        """Moves the staging worktree."""
        worktree = self.edges.staging_worktree(command.run)
        reason = self.edges.pool.follow(worktree, command.old, command.commit, command.by_hand)
        return m.Followed(at=self.clock(), run=command.run, commit=command.commit, reason=reason)


def landing_message(command: cmd.Merge) -> str:
    """Writes the message of a landing: subject and trailers of the public contract, section 3."""
    title = " ".join(command.title.split()) or command.task
    verified = ", ".join(command.verified) or "none"
    by_hand = "Swarm-By-Hand: yes\n" if command.by_hand else ""
    if command.batch:
        last = command.batch[-1]
        with_it = f"Swarm-Batch: {', '.join(command.batch)}\n"
        by_hand = with_it if command.task == last else f"Swarm-Verified-With: {last}\n"
    return (
        f"Land {command.task}: {title}\n\nSwarm-Run: {command.run}\nSwarm-Task: {command.task}\n"
        f"Swarm-Attempt: {command.attempt}\nSwarm-Verified: {verified}\n{by_hand}"
    )


def undo_message(command: cmd.Revert) -> str:
    """Writes the message of an undo: subject and trailers of the public contract, section 3."""
    title = " ".join(command.title.split()) or command.task
    undone = "".join(f"Swarm-Undo: {task}\n" for task, _ in command.landings)
    verified = ", ".join(command.verified) or "none"
    return f"Undo {command.task}: {title}\n\nSwarm-Run: {command.run}\n{undone}Swarm-Verified: {verified}\n"

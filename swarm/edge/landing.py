"""The landing repository: the truth of staging, private and bare, into which work is copied, merged in memory and landed.

Hides where staging really lives and how commits get there and back. Rules for editing: nothing of the user's repository but its
objects and its branches under `swarm/` is seen from here, and no program of theirs runs; staging moves only by compare-and-swap
with the merge lock held; every operation looks first whether it is done already, so that it may be killed anywhere and repeated.
The way it works, with the reasons, is in docs/explanation/landing.md.
"""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from swarm.core.entries import of_twins
from swarm.core.model import slug, staging_branch
from swarm.crashpoints import crash_at
from swarm.edge import git, promised, submitted, whole
from swarm.edge.carrying import Carrier, Packed, store_env, view_env
from swarm.edge.git import CommitFacts, Objects, RefChange, RefMoved, Refs, Repository, Signature
from swarm.edge.ground import branch_in_the_way
from swarm.edge.lineage import Line, Lineage
from swarm.edge.lockfile import MergeLockHeld
from swarm.edge.merging import OURSELVES, Conflict, Merged, Merger, Replayed
from swarm.edge.passed_over import passed_over
from swarm.errors import Refused, SwarmError

TOPIC_COMMITS_MAX = 64
MERGES_REMEMBERED = 256

_CONFIG = """[core]
\thooksPath = /dev/null
\tpackedRefsTimeout = 10000
\tfilesRefLockTimeout = 2000
\tfsync = committed,reference
\tlogAllRefUpdates = true
[gc]
\tauto = 0
\tpruneExpire = never
[maintenance]
\tauto = false
[swarm]
\tcomplete = {object_format}
\tmade = {made:08x}
"""
PINS = "refs/attempts/"  # of all work that was submitted
_DRAFTS = (".config-", ".shallow-")  # of older versions
_TASK_TRAILER = re.compile(r"^Swarm-Task: (.+)$", re.MULTILINE)


class Incoming(NamedTuple):
    """A submitted commit: the ref to pin it under, itself, and the staging commit it started from."""

    ref: str
    head: str
    base: str


class LandingCheckFailed(SwarmError):
    """A candidate is not what it must be, so it does not land; `which` is parents, tree or paths."""

    def __init__(self, which: str, candidate: str, cause: str) -> None:
        super().__init__(
            f"Candidate {candidate[:12]} does not land: {cause}",
            "Staging did not move.",
            "swarm recover, and report it",
        )
        self.which = which


class StagingBranchMoved(Refused):
    """The staging branch in the user's repository can't be moved: it is at `found` (None: gone), or `place` has it checked out."""

    def __init__(self, branch: str, old: str, found: str | None, place: Path | None = None) -> None:
        where = f"is checked out in {place}" if place else f"stands at {found[:12]}" if found else "is gone"
        super().__init__(
            f"Branch {branch} {where}, and not where it was left: at {old[:12]}.",
            "Landed work is safe in the landing repository and is not shown on the branch until this is settled.",
            f"git -C {place} switch --detach"
            if place
            else f"git branch --force {branch} {old} (after keeping commits of your own under another name)",
        )
        self.found = found


def staging_ref(run: str) -> str:
    """Names staging in the landing repository."""
    return f"refs/heads/{run}/staging"


def base_ref(run: str) -> str:
    """Names the commit that a run started from, in the landing repository."""
    return f"refs/bases/{run}"


def pin_ref(run: str, task: str, n: int) -> str:
    """Names the ref that keeps what an attempt submitted, in the landing repository."""
    return f"{PINS}{run}/{slug(task)}/{n}"


def founding_ref(run: str) -> str:
    """Names the ref that keeps what staging was founded again from after a loss: attempts count from 1."""
    return pin_ref(run, "staging", 0)


def finish_ref(run: str, target: str) -> str:
    """Names the ref that keeps the commit at which a finish found its target, in the landing repository."""
    return f"refs/finishes/{run}/{target[:16]}"


def is_old_finish(ref: str) -> bool:
    """Tells whether a ref is one of a finish by an older version, which had them where those of a run called `finish` would be. No
    attempt has a number that long."""
    return re.fullmatch(rf"{PINS}finish/[^/]+/[0-9a-f]{{16}}", ref) is not None


def lost_parts(path: Path) -> list[str]:
    """Names what a landing repository that once was whole has lost, so that what else is in it can't be gone on with."""
    if not (path / "config").exists():
        return []
    return [part for part in ("refs", "objects") if not (path / part).is_dir()]


class LandingRepository:
    """The landing repository at `path` for the user's repository `user`. Thread-safe; call `open_or_create` first, `close` last."""

    def __init__(self, path: Path, user: Repository, *, twins_land: bool = True) -> None:
        """With `twins_land` false what does not differ in more than case from what another has landed is a conflict."""
        self.path = path
        self._twins_land = twins_land
        self._user = user
        self._user_store = user.common_dir / "objects"
        self._user_refs = Refs(user.common_dir)
        self._refs = Refs(path, ours="refs/")
        self.objects = Objects(path)
        self._user_objects = Objects(path, folder=self._user_store)
        self._merger = Merger(path, self.objects)
        self._inward = Carrier(self._user_objects, self.objects, trusted=False)
        self._outward = Carrier(self.objects, self._user_objects, trusted=True)
        self._lineage = Lineage()
        self._shape = threading.Lock()  # one change of where history is cut at a time
        self._trees: dict[tuple[str, str], str] = {}

    # --- its life -----------------------------------------------------------------------------------------------------------

    def open_or_create(self) -> None:
        """Makes the repository, or completes one that was left half made; nothing is done where it is whole. Settings that are not
        its own, of what somebody did with git in a worktree of it, go."""
        config = self.path / "config"
        for theirs in ("info/attributes", "config.worktree"):
            with suppress(FileNotFoundError, NotADirectoryError):
                (self.path / theirs).unlink()
        text = config.read_text(errors="replace") if config.exists() else ""
        if text and text == self._settings(text) and (self.path / "HEAD").exists():
            return
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.unlink(missing_ok=True)
        # Of a git that was killed in this, and would keep the next from it for ever.
        for stale in self.lock_files():
            stale.unlink(missing_ok=True)
        folder = os.fspath(self.path)
        git.run(
            *("init", "-q", "--bare", "--template=", f"--object-format={self._user.object_format}", folder),
            cwd=folder,
        )
        crash_at("landing.made")
        whole.write(config, self._settings(config.read_text()), durable=True)

    def _settings(self, text: str) -> str:
        """Gives what the settings must be, where `text` is what git wrote when it made the repository, or that and ours."""
        made = text.partition(_CONFIG.partition("{")[0])[0]
        checksum = zlib.crc32(made.encode(errors="replace"))
        return made + _CONFIG.format(object_format=self._user.object_format, made=checksum)

    def close(self) -> None:
        """Ends all standing helpers."""
        for each in (self._refs, self._user_refs, self.objects, self._user_objects, self._merger):
            each.close()

    def sweep_locks(self, *, lock: MergeLockHeld, dry_run: bool = False) -> list[Path]:
        """Removes locks that a killed git left, and gives their paths; with `dry_run` it only does that.

        No child git may be alive; ours are ended here.
        """
        lock.require()
        self.close()
        stale = self.lock_files()
        for each in stale if not dry_run else ():
            each.unlink(missing_ok=True)
        return stale

    def sweep_drafts(self, *, lock: MergeLockHeld, dry_run: bool = False) -> list[Path]:
        """Removes what killed writes left of objects and settings, and gives the paths; with `dry_run` it only does that.

        Everything here, and in the user's repository what a process of ours that is gone was writing. No child git may be alive.
        """
        lock.require()
        found = [each for each in self.path.glob(".*-*") if each.name.startswith(_DRAFTS)]
        found += self.path.glob("*.new")  # of `whole`
        found += [each for each in self.path.glob("objects/*/tmp_*") if each.is_file()]
        found += [each for each in self._user_store.glob("??/tmp_obj_*_*") if _is_abandoned(each.name)]
        for each in found if not dry_run else ():
            each.unlink(missing_ok=True)
        return found

    def lock_files(self) -> list[Path]:
        """Lists lock files of the repository itself; those of its worktrees may belong to processes that still run."""
        found: list[Path] = []
        for here, folders, files in os.walk(self.path):
            if here == os.fspath(self.path):
                folders[:] = [name for name in folders if name not in ("worktrees", "objects")]
            found.extend(Path(here, name) for name in files if name.endswith(".lock"))
        return found

    # --- a run --------------------------------------------------------------------------------------------------------------

    def seed(self, run: str, base: str) -> str:
        """Brings in the commit a run starts from, cut off from its history, and gives where staging stands.

        Raises `Refused` where a branch of the user's is in the way, `GitError` where the base can't be read whole.
        """
        if refused := branch_in_the_way(self._user.common_dir, run, "Nothing was started."):
            raise refused
        found = self.staging(run)
        if found is not None:
            return found
        with self._shape:
            if not self._is_whole(base):
                self._cut_at(base)
                self._carry_in([base], self._tips(), view_env(self._user_store), keep=True)
        # One after the other: git moves the refs of one transaction one by one, and killed in between it leaves the first alone.
        # Staging is the one that says that all is there.
        for ref in (base_ref(run), staging_ref(run)):
            self._refs.move(ref, base, "0" * len(base))
        return base

    def fetch_promised(self, base: str) -> None:
        """Has all that a partial clone lacks of the commit a run starts from fetched, before `seed`: that may take long, and should
        keep nobody from the merge lock. Raises `NotToBeHad`, `GitError`."""
        promised.complete(self._user, self._user.common_dir, [base], alone=True)

    def staging(self, run: str) -> str | None:
        """Gives where staging truly stands, or None before `seed`."""
        return self._refs.read(staging_ref(run))

    def base(self, run: str) -> str | None:
        """Gives the commit the run started from, or None before `seed`."""
        return self._refs.read(base_ref(run))

    def above(self, run: str, commit: str) -> list[str]:
        """Lists the landings above `commit`, which is one, oldest first."""
        return git.run(
            "rev-list", "--first-parent", "--reverse", f"{commit}..{staging_ref(run)}", git_dir=self.path
        ).text.split()

    def _tips(self) -> list[str]:
        out = git.run(
            "for-each-ref", "--format=%(objectname)", "refs/heads/", "refs/bases/", git_dir=self.path
        ).text
        return list(dict.fromkeys(out.split()))

    def _is_whole(self, commit: str) -> bool:
        if self.objects.kind(commit) is None:
            return False
        asked = ("rev-list", "--objects", "--quiet", commit, "--not", "--all")
        return git.run(*asked, git_dir=self.path, ok=(0, 128)).code == 0

    def _cut_at(self, base: str) -> None:
        """Tells git that history ends at `base` here. Written before the commit comes, so that it is never seen uncut."""
        cuts = self._cuts()
        if base not in cuts:
            whole.write(
                self.path / "shallow", "".join(f"{cut}\n" for cut in sorted({*cuts, base})), durable=True
            )
            self._merger.close()  # a standing process knows only the cuts it started with

    def _cuts(self) -> set[str]:
        """Gives the commits at which history ends here."""
        shallow = self.path / "shallow"
        return set(shallow.read_text().split()) if shallow.exists() else set()

    def drop(self, run: str) -> None:
        """Forgets a run: its staging, its base, and every commit that was pinned for it."""
        prefixes = (f"refs/heads/{run}/", f"{PINS}{run}/", finish_ref(run, ""))
        refs = [
            ref for prefix in prefixes for ref in git.refs_below(self.path, prefix) if not is_old_finish(ref)
        ]
        refs += filter(is_old_finish, git.refs_below(self.path, f"{PINS}finish/{run}/"))
        self._refs.commit(
            [RefChange(ref, None, None) for ref in (*refs, base_ref(run)) if self._refs.read(ref)]
        )
        self._lineage.forget(run)

    # --- bringing in --------------------------------------------------------------------------------------------------------

    def bring_in(self, items: Sequence[Incoming]) -> None:
        """Copies submitted commits in, with all they need, and pins them; those pinned already cost nothing.

        Raises `GitError` for commits that are missing, damaged, or that git judges broken; then none is pinned.
        """
        fresh = [item for item in items if self._refs.read(item.ref) != item.head]
        for item in fresh:
            self._know_line_of(item.base)
        odd = [item for item in fresh if not self._inward.carry_small(item.head, self._lineage.landed)]
        if odd:
            self._bring_in_packed(odd)
        crash_at("bring-in.carried")
        self._refs.commit([RefChange(item.ref, item.head, None) for item in fresh])
        crash_at("bring-in.pinned")

    def _bring_in_packed(self, items: Sequence[Incoming]) -> None:
        heads = [item.head for item in items]
        known = [
            base for base in dict.fromkeys(item.base for item in items) if self.objects.kind(base) == "commit"
        ]
        known = list(dict.fromkeys([*known, *self._tips()]))
        users_view = view_env(self._user_store, self._user_shallow())
        with self._shape:
            if self._needs_older_history(heads, known, users_view):
                self._deepen(users_view)
            self._carry_in(heads, known, users_view)
        # The same question as receive-pack's before it lets a ref move: is all that these need really here?
        asked = "".join(f"{head}\n" for head in heads).encode()
        whole = ("rev-list", "--objects", "--stdin", "--not", "--all", "--quiet")
        git.run(*whole, git_dir=self.path, input=asked, timeout_s=600)

    def _carry_in(
        self, tips: Sequence[str], known: Sequence[str], users_view: dict[str, str], *, keep: bool = False
    ) -> None:
        """Carries commits in from the user's repository, after what a partial clone lacks of them has been fetched there."""
        promised.complete(self._user, self.path, tips, known, env=users_view)
        Packed(self.path, users_view, {}).carry(tips, known, keep=keep)

    def _needs_older_history(
        self, heads: Sequence[str], known: Sequence[str], users_view: dict[str, str]
    ) -> bool:
        """Tells whether the new commits stand on, or are themselves, commits that the cut left out."""
        asked = "".join([*(f"{head}\n" for head in heads), *(f"^{commit}\n" for commit in known)]).encode()
        listed = git.run(
            "rev-list", "--boundary", "--stdin", git_dir=self.path, env=users_view, input=asked
        ).text
        border = [line[1:] for line in listed.splitlines() if line.startswith("-")]
        below = set(heads).difference(listed.splitlines())
        return any(found is None for found in self.objects.kinds([*border, *below]))

    def see_what_is_common(self, one: str, other: str) -> None:
        """Makes sure that what two commits have in common is known: it is hidden by a cut that only one of them stands on, such as
        the base of a run that began when the branch had moved on. Then the whole history comes."""
        with self._shape:
            cuts = self._cuts()
            if not cuts:
                return
            apart = git.run("rev-list", f"{one}...{other}", git_dir=self.path).text.split()
            if not cuts.isdisjoint(apart):
                self._deepen(view_env(self._user_store, self._user_shallow()))

    def _deepen(self, users_view: dict[str, str]) -> None:
        """Brings in the whole history below the cuts, then removes them. Only where something older is needed."""
        shallow, cuts = self.path / "shallow", sorted(self._cuts())
        if not cuts:
            return
        self._carry_in(cuts, [], users_view, keep=True)
        theirs = self._user_shallow()
        if theirs:
            whole.write(shallow, Path(theirs).read_text(), durable=True)
        else:
            shallow.unlink()
        self._merger.close()

    def _user_shallow(self) -> str:
        path = self._user.common_dir / "shallow"
        return os.fspath(path) if path.exists() else ""

    # --- merging ------------------------------------------------------------------------------------------------------------

    def merge(self, onto: str, head: str, *, run: str = "", base: str = "") -> Merged | Conflict:
        """Merges `head` onto `onto` in memory; both must have been brought in.

        `base` is the staging commit of `run` that `head` started from; where what is known of it allows, the cost does
        not grow with the number of landings. Raises `GitError` where git fails.
        """
        topic = self._plain_topic(run, base, onto, head) if run and base else None
        if topic is None:
            outcome = self._merger.merge(onto, head)
        elif onto == base:
            outcome = Merged(self.objects.tree_of(head))
        else:
            outcome = self._merger.merge_over(base, self.objects.tree_of(onto), head)
        if isinstance(outcome, Merged):
            if len(self._trees) >= MERGES_REMEMBERED:
                self._trees.clear()
            self._trees[onto, head] = outcome.tree
        return outcome

    def merge_attempt(self, onto: str, head: str, *, run: str, base: str) -> Merged | Conflict:
        """Merges as `merge` does. Where that would change what the attempt did not, these paths are a conflict: a merge commit in
        it took back what others have landed, and to git that is the newer word."""
        outcome = self.merge(onto, head, run=run, base=base)
        if isinstance(outcome, Conflict):
            return outcome
        if foreign := self._foreign(base, head, onto, outcome.tree):
            return Conflict(tuple(foreign), ("it takes back what has landed",))
        return self._with_twins(onto, outcome) if onto != base and not self._twins_land else outcome

    def merge_base(self, one: str, other: str) -> str:
        """Gives the commit that two have in common; they have one. Raises `GitError`."""
        return git.run("merge-base", one, other, git_dir=self.path).text.strip()

    def passed_over(self, base: str, onto: str, staging: str) -> list[str]:
        """Lists the files that staging has changed there and back since the merge base with `onto`, and that are something else
        there which has to do with it: their merge keeps that without a word."""
        return passed_over(self.path, self.objects, self._merger, base=base, onto=onto, staging=staging)

    def _with_twins(self, onto: str, merged: Merged) -> Merged | Conflict:
        """Makes a conflict of a merge that adds what differs in case alone from what is there; who added it could not know."""
        changes = self.objects.diff(self.objects.tree_of(onto), merged.tree)
        twins = submitted.twins(self.objects, merged.tree, changes)
        if not twins:
            return merged
        paths = dict.fromkeys(path for pair in twins for path in pair)
        return Conflict(tuple(paths), tuple(map(of_twins, twins)))

    def candidate(
        self,
        tree: str,
        onto: str,
        head: str,
        *,
        message: str,
        at: float,
        author: tuple[str, str] | None = None,
        committer: tuple[str, str] | None = None,
    ) -> str:
        """Makes the commit that lands `head` on `onto`, in our name where no other is given; the same arguments give the same
        commit."""
        by, through = (Signature(*(who or OURSELVES), at) for who in (author, committer))
        crash_at("merge.merged")
        commit = git.write_commit(self.path, tree, (onto, head), message, by, through)
        crash_at("merge.candidate")
        self.objects.remember(CommitFacts(commit, tree, (onto, head), by, through, message))
        self._lineage.add_candidate(commit, onto)
        return commit

    def revert(self, onto: str, landings: Sequence[str], *, message: str, at: float) -> str | Conflict:
        """Makes the commit that takes landings, newest first, back on top of `onto`; the same arguments give the same commit."""
        outcome = self._merger.revert(onto, landings)
        if isinstance(outcome, Conflict):
            return outcome
        who = Signature(*OURSELVES, at)
        commit = git.write_commit(self.path, outcome.tree, (onto,), message, who, who)
        self._lineage.add_candidate(commit, onto)
        crash_at("undo.made")
        return commit

    def check_revert(self, candidate: str, onto: str, landings: Sequence[str]) -> None:
        """Makes sure that a candidate takes these landings back on top of `onto` and does nothing else. Raises
        `LandingCheckFailed`."""
        commit = self.objects.commit(candidate)
        if commit.parents != (onto,):
            raise LandingCheckFailed("parents", candidate, f"it does not stand on {onto[:12]}.")
        again = self._merger.revert(onto, landings)
        if not isinstance(again, Merged) or again.tree != commit.tree:
            raise LandingCheckFailed("tree", candidate, "its files are not what the revert gives.")
        crash_at("undo.checked")

    def rebase(self, head: str, base: str, onto: str, at: float) -> Replayed | Conflict:
        """Replays the commits of `head` above `base` on `onto`. History with merges in it is a conflict of all its paths."""
        topic = self._linear(head, base)
        if topic is None:
            return Conflict(
                self.objects.changed_paths(base, head), ("its history is not a single line of commits",)
            )
        replayed = self._merger.replay(topic, onto, at)
        crash_at("rebase.replayed")
        return replayed

    def _plain_topic(self, run: str, base: str, onto: str, head: str) -> list[CommitFacts] | None:
        """Gives the commits of a topic whose merge base with `onto` is certainly `base`, else None."""
        self.place(run, onto)  # has all that came in up to there known, where it has landed
        if not self._lineage.is_below(run, base, onto):
            return None
        topic = self._linear(head, base)
        if topic is None or any(self._lineage.came_in(run, commit.oid) for commit in topic):
            return None
        return topic

    def _linear(self, head: str, base: str) -> list[CommitFacts] | None:
        """Gives the commits above `base` up to `head`, oldest first, or None where they are no line or very many."""
        line: list[CommitFacts] = []
        at = head
        while at != base:
            commit = self.objects.commit(at)
            if len(commit.parents) != 1 or len(line) >= TOPIC_COMMITS_MAX or self._lineage.landed(at):
                return None
            line.append(commit)
            at = commit.parents[0]
        return line[::-1]

    def _know_line(self, run: str) -> None:
        """Sees to it that every landing that is on staging by now is known: landings keep the line up to date, and what they could
        not tell, or came to while nothing was known yet, is read from git."""
        tip = self.staging(run)
        if tip is None or self._lineage.place(run, tip) is not None:
            return
        line = self._lineage.line(run)
        with line.reading:
            base, tip = self.base(run), self.staging(run)
            if base is not None and tip is not None and tip not in line.place:
                self._lineage.found(run, line, base)
                self._read_on(run, line, tip)

    def _read_on(self, run: str, line: Line, tip: str) -> None:
        """Reads what follows on the line of a run up to `tip`. What lands meanwhile comes to it without waiting for this."""
        known = line.tip
        listed = git.run("rev-list", "--parents", f"{known}..{tip}", git_dir=self.path).text.splitlines()
        parents = {commit: above for commit, *above in map(str.split, listed)}
        landed: list[str] = []
        at = tip
        while at in parents:
            landed.append(at)
            at = next(iter(parents[at]), "")
        if at != known and line.place[known] > 0:
            self._lineage.forget(run)  # staging was founded again, and not above what was known
            self._know_line(run)
            return
        self._lineage.lengthen(run, line, known, landed[::-1], parents.keys() - set(landed))

    def _know_line_of(self, commit: str) -> None:
        """Reads the lines of all runs when a commit that should be on one is on none that is known."""
        if self._lineage.landed(commit):
            return
        names = git.run("for-each-ref", "--format=%(refname)", "refs/bases/", git_dir=self.path).text
        for name in names.split():
            self._know_line(name.removeprefix("refs/bases/"))

    # --- landing ------------------------------------------------------------------------------------------------------------

    def check(self, candidate: str, onto: str, head: str, base: str, *, run: str = "") -> None:
        """Makes sure that a candidate is the merge of `head` onto `onto` and changes nothing that `head` did not change.

        Raises `LandingCheckFailed`. `base` is where the attempt started.
        """
        commit = self.objects.commit(candidate)
        if commit.parents != (onto, head):
            raise LandingCheckFailed("parents", candidate, f"it does not merge {head[:12]} onto {onto[:12]}.")
        tree = self._trees.get((onto, head))
        if tree is None:
            again = self.merge(onto, head, run=run, base=base)
            tree = again.tree if isinstance(again, Merged) else None
        if tree != commit.tree:
            raise LandingCheckFailed("tree", candidate, "its files are not what the merge gives.")
        foreign = self._foreign(base, head, onto, commit.tree)
        if foreign:
            raise LandingCheckFailed(
                "paths", candidate, f"it changes {', '.join(foreign[:5])}, which the attempt did not."
            )

    def _foreign(self, base: str, head: str, onto: str, tree: str) -> list[str]:
        """Lists what going from `onto` to `tree` changes although `head`, begun at `base`, did not change it."""
        own = set(self.objects.changed_paths(base, head))
        changed = git.files_of(self.objects.diff(self.objects.tree_of(onto), tree))
        foreign = [path for path in changed if path not in own]
        moved = self.renamed_targets(base, onto, own) if foreign else set()
        return [path for path in foreign if path not in moved]

    def renamed_targets(self, base: str, onto: str, own: set[str]) -> set[str]:
        """Lists where staging has moved files that the attempt changed: the merge follows them there."""
        listed = git.run(
            "diff-tree", "-r", "-M", "-z", "--name-status", "--diff-filter=R", base, onto, git_dir=self.path
        )
        fields = git.decode(listed.out).split("\0")
        moves = zip(fields[1::3], fields[2::3], strict=False)
        return {target for source, target in moves if source in own}

    def advance(
        self, run: str, new: str, old: str, *, lock: MergeLockHeld, also: Sequence[RefChange] = ()
    ) -> str | None:
        """Moves staging from `old` to `new`, with the refs in `also`, all or none.

        Gives None when staging has `new`, else the commit where staging was found. Already at `new`, or above it, is done.
        """
        lock.require()
        crash_at("landing.checked")
        try:
            self._refs.commit((RefChange(staging_ref(run), new, old), *also))
        except RefMoved as moved:
            if moved.ref != staging_ref(run) or moved.found is None:
                raise
            return None if self._has_landed(run, new, moved.found) else moved.found
        crash_at("landing.advanced")
        self._lengthen(run, new, old)
        return None

    def _has_landed(self, run: str, commit: str, tip: str) -> bool:
        place, tip_place = self._lineage.place(run, commit), self._lineage.place(run, tip)
        if place is not None and tip_place is not None:
            return place <= tip_place
        return self.is_ancestor(commit, tip)

    def _lengthen(self, run: str, new: str, old: str) -> None:
        line = self._lineage.line(run)
        if old not in line.place:
            return  # it is read from git when it is needed
        landed: list[str] = []
        come_in: list[str] = []
        at = new
        while at != old:
            commit = self.objects.commit(at)
            topic = self._linear_to_landed(commit.parents[1]) if len(commit.parents) == 2 else []
            if topic is None or not commit.parents or len(landed) >= TOPIC_COMMITS_MAX:
                return  # too odd to follow here; it is read from git when it is needed
            landed.append(at)
            come_in.extend(topic)
            at = commit.parents[0]
        self._lineage.lengthen(run, line, old, landed[::-1], come_in)

    def _linear_to_landed(self, head: str) -> list[str] | None:
        found: list[str] = []
        while not self._lineage.landed(head):
            parents = self.objects.commit(head).parents
            if len(parents) != 1 or len(found) >= TOPIC_COMMITS_MAX:
                return None
            found.append(head)
            head = parents[0]
        return found

    # --- publishing ---------------------------------------------------------------------------------------------------------

    def publish(self, run: str, commit: str, old: str) -> None:
        """Brings `commit` into the user's repository and moves the staging branch there from `old`; already there is done.

        A branch that is not there is made at the run's base only; one that stands at a later landing of ours goes forward from
        there. Raises `StagingBranchMoved` where it stands anywhere else, is checked out or being rebased; it is never forced.
        """
        branch = staging_branch(run)
        ref = f"refs/heads/{branch}"
        found = self._user_refs.read(ref)
        if found == commit:
            return
        if found is None and commit != self.base(run):
            raise StagingBranchMoved(branch, old, None)
        if found not in (None, old):
            left, here, there = (self.place(run, each) for each in (old, found, commit))
            if left is None or here is None or there is None or here < left:
                raise StagingBranchMoved(branch, old, found)
            if there <= here:
                return
        for place in self._user.worktrees_of_branch(branch):
            raise StagingBranchMoved(branch, old, found, place)
        if (held := self._user.holding(branch)) is not None:
            raise StagingBranchMoved(branch, old, found, held.place)
        if commit != (found or old):
            self.hand_over(run, commit, found or old)
        crash_at("publish.carried")
        try:
            self._user_refs.move(ref, commit, found or "0" * len(commit))
        except RefMoved as moved:
            raise StagingBranchMoved(branch, old, moved.found) from moved
        crash_at("publish.moved")

    def restore(self, run: str, commit: str) -> None:
        """Makes the staging branch in the user's repository again at `commit`, a landing, with all that may be missing of it there.

        Raises `Refused` where even what the run started from is gone from there: history before that is nowhere else.
        """
        self.mend(run, commit)
        self._user_refs.move(f"refs/heads/{staging_branch(run)}", commit, "0" * len(commit))
        crash_at("staging.restored")

    def mend(self, run: str, commit: str) -> None:
        """Copies into the user's repository whatever of `commit` is missing there, down to the commit that the run started from.

        A `gc --prune=now` there may have come between the copying of a landing and the move of the branch.
        """
        base, common = self.base(run), self._user.common_dir
        if base is None:
            raise Refused(
                f"{self.path} has lost run {run}.",
                "What is missing of its landings can't be brought back from there.",
                "swarm stop, swarm start: a start founds it again",
            )
        if git.missing(common, [base]):
            raise Refused(
                f"Commit {base[:12]}, from which run {run} started, is gone from this repository.",
                "Landed work is safe in the landing repository but can't be shown without it.",
                "bring it back from another clone: git fetch REMOTE BRANCH",
            )
        whole = ("rev-list", "--objects", "--quiet", commit, f"^{base}")
        if commit != base and git.run(*whole, git_dir=common, ok=(0, 128)).code != 0:
            Packed(self.path, {}, store_env(self._user_store)).carry([commit], [base])

    def hand_over(self, run: str, commit: str, known: str) -> None:
        """Copies `commit` into the user's repository, which has `known`, and moves no branch there."""
        limit = self.place(run, known)

        def is_there(each: str) -> bool:
            at = self._lineage.place(run, each)
            return each == known or (at is not None and limit is not None and at <= limit)

        if not self._outward.carry_small(commit, is_there):
            Packed(self.path, {}, store_env(self._user_store)).carry([commit], [known])

    def place(self, run: str, commit: str) -> int | None:
        """Gives how many landings below `commit` there are on staging, or None where it is no landing."""
        found = self._lineage.place(run, commit)
        if found is None:
            self._know_line(run)
            found = self._lineage.place(run, commit)
        return found

    def came_in(self, run: str, commit: str) -> bool:
        """Tells whether a landing has brought `commit` in."""
        if not self._lineage.came_in(run, commit):
            self._know_line(run)
        return self._lineage.came_in(run, commit)

    # --- questions ----------------------------------------------------------------------------------------------------------

    def touched_by(self, paths: Iterable[str], since: str, until: str) -> list[str]:
        """Names the landed tasks between two commits of staging that changed any of `paths`, oldest first."""
        wanted = list(paths)
        if not wanted or since == until:
            return []
        asked = git.encode("\n".join([until, f"^{since}", "--", *wanted]) + "\n")
        listed = git.run(
            *("--literal-pathspecs", "rev-list", "--first-parent", "--reverse", "--stdin"),
            git_dir=self.path,
            input=asked,
        )
        named: dict[str, None] = {}
        for oid in listed.text.split():
            found = _TASK_TRAILER.findall(self.objects.commit(oid).message)
            named.update(dict.fromkeys(found[-1:]))
        return list(named)

    def is_ancestor(self, below: str, above: str) -> bool:
        """Tells whether `below` is `above` or one of its ancestors, as far as history is here."""
        asked = git.run("merge-base", "--is-ancestor", below, above, git_dir=self.path, ok=(0, 1))
        return asked.code == 0


def _is_abandoned(name: str) -> bool:
    """Tells of a temporary name of `write_loose` whether its writer is gone; git's own have no process in theirs."""
    named = re.fullmatch(r"tmp_obj_([0-9]+)_[0-9]+", name)
    return named is not None and not os.path.exists(f"/proc/{named[1]}")

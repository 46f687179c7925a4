"""Merges staging into the target branch: verified where something new comes about, compare-and-swap, never forced.

The new commit is made in the landing repository and packed over, like every landing. A checkout that has the target
checked out moves along by a two-way `read-tree`, which leaves edits in other paths alone and refuses where it would
overwrite any; files first, branch second. Where not all files can be moved they are put back. A kill in between is completed by
putting them back and doing the same again: the request's own time and names give the same commit.

Until then it may be taken back by whoever asked for it; from the first file on it is carried through.

Rules for editing: refuse first, then act; nothing is written in the user's repository before every check has passed.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core import suites
from swarm.core.model import Reason, Suite, staging_branch
from swarm.core.places import Places
from swarm.core.state import some
from swarm.crashpoints import crash_at
from swarm.daemon.verification import Verifier, finish_key
from swarm.dataclass import dataclass
from swarm.edge import git, submodules
from swarm.edge.checkout import Move, same, unseen, within
from swarm.edge.difference import UNSTAGED, as_checked_out
from swarm.edge.landing import Incoming, LandingRepository, finish_ref
from swarm.edge.merging import Conflict
from swarm.errors import Refused, SwarmError, UsageError

_UNMERGED = frozenset({"DD", "AU", "UD", "UA", "DU", "AA", "UU"})
TAKEN_BACK = Reason("taken_back", "it was taken back before anything was merged", {"exit_code": 4})
STOPPED = Reason("stopped", "the daemon was stopped before anything was merged")
_LOCKED = re.compile(r"Unable to create '(.+\.lock)': File exists")
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
Who = tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What finishing would do: the target goes from `old` to `new`, changing `paths`; `conflict` are paths that stop it. Of these
    git would merge those that are `passed_over`, and keep what the target has; `passers` are the tasks that changed them."""

    old: str
    new: str
    paths: tuple[str, ...]
    conflict: tuple[str, ...] = ()
    merged: bool = False
    passed_over: tuple[str, ...] = ()
    passers: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether staging is on the target already."""
        return self.old == self.new and not self.conflict


class Origin(NamedTuple):
    """What a run started from: the branch ("": none) and its commit at that time."""

    branch: str
    commit: str


class _Seen(NamedTuple):
    """A checkout before it is moved: the paths that hold something of the user's own and stop it, as git's status has them; those
    that are the new ones already, so that nothing would be overwritten; those at which git shows a change that nobody made."""

    theirs: dict[str, str]
    moved: list[str]
    nobodys: list[str]


class Grip:
    """A finish as whoever asked for it has a grip on it: they may take it back until it is carried over. For the loop alone."""

    def __init__(self) -> None:
        self.why: Reason | None = None  # once it is taken back
        self._carried = False
        self._suites: asyncio.Task[Reason | None] | None = None

    def take_back(self, why: Reason) -> None:
        """Has the finish given up, and its suites ended; where it is being carried over already, it goes through."""
        if self._carried:
            return
        self.why = why
        if self._suites is not None:
            self._suites.cancel()

    def let_go(self) -> Reason | None:
        """Gives why the finish is not to be carried over; None where it is, and then it can't be taken back any more."""
        self._carried = self.why is None
        return self.why

    async def through(self, suites: Coroutine[Any, Any, Reason | None]) -> Reason | None:
        """Waits for suites, which are ended once the finish is taken back; gives why it is refused."""
        self._suites = asyncio.ensure_future(suites)
        if self.why is not None:
            self._suites.cancel()
        try:
            return await self._suites
        except asyncio.CancelledError:
            mine = asyncio.current_task()
            if self.why is None or (mine is not None and mine.cancelling()):
                raise
            return self.why


@dataclass(frozen=True, slots=True)
class Finisher:
    """Finishes runs of one repository."""

    repository: git.Repository
    landing: LandingRepository
    refs: git.Refs
    places: Places
    verifier: Verifier | None = None

    def outlook(
        self,
        run: str,
        staging: str,
        target: str,
        origin: Origin,
        *,
        at: float,
        author: Who = None,
        committer: Who = None,
        handed_over: bool = False,
    ) -> Outlook:
        """Says what finishing would do, moving nothing; a merge is by `author` and `committer`. Something of the run was
        `handed_over` where a finish brought work of it anywhere before. Raises `UsageError` where there is no such branch, and
        `Refused` where the branch from which the run started is not what it was, or the two have nothing in common."""
        old = self.repository.branch_commit(target)
        if target == self.repository.branch_meant(origin.branch):
            self._refuse_lost_origin(run, origin, old)
        if old is None:
            raise UsageError(
                f'There is no branch "{target}" to merge into.',
                "Nothing was changed.",
                "name one with --into BRANCH",
            )
        landing = self.landing
        landing.bring_in([Incoming(finish_ref(run, old), old, staging)])
        landing.see_what_is_common(old, staging)
        if landing.is_ancestor(staging, old):
            return Outlook(old, old, ())
        if landing.is_ancestor(old, staging):
            return Outlook(old, staging, landing.objects.changed_paths(old, staging))
        merged = landing.merge(old, staging)
        if isinstance(merged, Conflict) and not merged.paths:
            raise Refused(
                f"{target} and staging of run {run} have no commit in common.",
                "Nothing was changed.",
                "name another branch with --into BRANCH",
            )
        over, passers = self._passed_over(run, old, staging, handed_over=handed_over)
        if over or isinstance(merged, Conflict):
            paths = dict.fromkeys((*(merged.paths if isinstance(merged, Conflict) else ()), *over))
            return Outlook(old, old, (), conflict=tuple(paths), passed_over=over, passers=passers)
        message = f"Merge run {run}\n\nSwarm-Run: {run}\n"
        by: dict[str, Who] = {"author": author, "committer": committer}
        new = landing.candidate(merged.tree, old, staging, message=message, at=at, **by)
        return Outlook(old, new, landing.objects.changed_paths(old, new), merged=True)

    def _passed_over(
        self, run: str, old: str, staging: str, *, handed_over: bool
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Gives the files that a merge passes over although the target had staging's version of them in between, and the tasks that
        changed them. It can't have had it before anything of the run was handed over, by a finish, a push, or a merge by hand."""
        base = self.landing.merge_base(old, staging)
        pushed = ("for-each-ref", "--count=1", f"refs/remotes/*/{staging_branch(run)}")
        if not (
            handed_over
            or self.landing.place(run, base)
            or git.run(*pushed, git_dir=self.repository.common_dir).text
        ):
            return (), ()
        paths = self.landing.passed_over(base, old, staging)
        return tuple(paths), tuple(self.landing.touched_by(paths, base, staging))

    def _refuse_lost_origin(self, run: str, origin: Origin, stands: str | None) -> None:
        """Refuses where the branch from which the run started was deleted, or rewritten so that a merge would bring back what it
        has dropped."""
        branch, staging = origin.branch, staging_branch(run)
        if stands is None:
            raise Refused(
                f"The branch {branch}, from which run {run} started, is gone: deleted or renamed.",
                "Nothing was changed.",
                "name another with --into BRANCH",
            )
        asked = ("merge-base", "--is-ancestor", origin.commit, stands)
        if git.run(*asked, git_dir=self.repository.common_dir, ok=(0, 1, 128)).code != 0:
            raise Refused(
                f"{branch} was rebased, reset or replaced: it lacks commit {origin.commit[:12]}, from which run {run} started.",
                "Nothing was changed: a merge would bring back what it has dropped.",
                f"git merge {staging} to have it all the same, or put the landings on the new {branch}:"
                f" git switch -c moved {staging} && git rebase --rebase-merges --onto {branch} {origin.commit[:12]}",
            )

    async def finish(
        self,
        command: cmd.Finish,
        in_thread: InThread,
        clock: Callable[[], float],
        nonce: str,
        grip: Grip,
        turn: asyncio.Lock,
    ) -> m.Event:
        """Carries a finish out; `Finished`, or `FinishRefused` with the reason, also where it was taken back by its `grip`.
        Doing it again after a crash completes it.

        Whoever has the `turn` is the only one: of two that move one checkout each would take the files of the other for changes
        of the user's, or put them back."""
        if (reason := await grip.through(_taken(turn))) is not None:
            return self._refused(command, clock(), reason)
        try:
            return await self._finish(command, in_thread, clock, nonce, grip)
        finally:
            turn.release()

    async def _finish(
        self, command: cmd.Finish, in_thread: InThread, clock: Callable[[], float], nonce: str, grip: Grip
    ) -> m.Event:
        reason: Reason | None = await in_thread(lambda: self.put_back_killed(self.places.all_moves()))
        if reason is not None:
            return self._refused(command, clock(), reason)
        outlook: Outlook = await in_thread(
            lambda: self.outlook(
                command.run,
                command.commit,
                command.target,
                Origin(command.base_branch, command.base),
                at=command.at,
                author=command.author,
                committer=command.committer,
                handed_over=command.handed_over,
            )
        )
        if outlook.conflict:
            return self._refused(command, clock(), conflict_reason(command.target, outlook))
        if outlook.nothing:
            await in_thread(lambda: self.refs.release(f"refs/heads/{command.target}", outlook.old))
            return self._finished(command, clock(), outlook.old)
        reason = await in_thread(
            lambda: self.obstacle(command.target, outlook, stage_only=command.stage_only)
        )
        if reason is not None:
            return self._refused(command, clock(), reason)
        verified = bool(command.suites) and (outlook.merged or not command.passed)
        if verified:
            reason = await grip.through(self._verify(command, outlook, nonce))
            if reason is not None:
                return self._refused(command, clock(), reason)
        if (reason := grip.let_go()) is not None:
            return self._refused(command, clock(), reason)
        reason = await in_thread(lambda: self._carry_over(command, outlook))
        if reason is not None:
            return self._refused(command, clock(), reason)
        on_staging = command.suites if verified and not outlook.merged else ()
        return self._finished(command, clock(), outlook.new, on_staging)

    async def _verify(self, command: cmd.Finish, outlook: Outlook, nonce: str) -> Reason | None:
        """The merge of staging with a target that has moved is new to everybody, so the suites run on it; and so they do on staging
        where some of them came after what has landed."""
        assert self.verifier is not None
        places = self.places.finish(command.run, command.request)
        key = finish_key(command.run, command.request)
        results, lacks = await self.verifier.verify(
            key, f"{nonce}-{command.request}", places, outlook.new, command.suites
        )
        bad = [result for result in results if result.outcome != "passed"]
        if not bad:
            return None
        if lacks:
            return Reason("machine", f"its suites could not do their work: {lacks}", {"exit_code": 1})
        text = suites.not_passed(results)
        what = f"staging merged with {command.target}" if outlook.merged else "staging"
        return Reason(
            "verify_failed",
            f"{what} does not pass: {text}",
            {"exit_code": 1, "logs": [result.log for result in bad], "tail": bad[0].tail},
        )

    def obstacle(self, target: str, outlook: Outlook, *, stage_only: bool = False) -> Reason | None:
        """Says what stands in the way, before anything is written."""
        checkouts = self.repository.worktrees_of_branch(target)
        return self._obstacle(target, outlook, checkouts, stage_only=stage_only)

    def _obstacle(
        self, target: str, outlook: Outlook, checkouts: list[Path], *, stage_only: bool
    ) -> Reason | None:
        held = self.repository.holding(target)
        if held is not None:
            text = f"{target} is in the middle of a git {held.what} in {held.place}, whose end would move it again"
            step = f"{held.ends}; then swarm finish again"
            return Reason("in_use", text, {"exit_code": 4, "checkout": str(held.place), "next_step": step})
        if away := self.repository.away_with_branch(target):
            text = f"{target} is checked out in {away[0]}, which is not there: back again, it would hold the old files as changes"
            step = f"bring it back, or git worktree repair where it was moved to, or git worktree remove --force --force {away[0]}"
            return Reason(
                "in_use",
                text,
                {"exit_code": 4, "checkout": str(away[0]), "next_step": f"{step}; then swarm finish again"},
            )
        if stage_only and not checkouts:
            return Reason(
                "no_checkout",
                f"{target} is checked out nowhere, so there is no index to stage in",
                {"exit_code": 4},
            )
        trees = (self.landing.objects.tree_of(commit) for commit in (outlook.old, outlook.new))
        changes = self.landing.objects.diff(*trees)
        for checkout in checkouts:
            if replaced := submodules.replaced(checkout, changes):
                return _submodules_in_the_way(checkout, replaced)
            if theirs := self._look(checkout, outlook).theirs:
                return _in_the_way(checkout, theirs)
        return None

    def _carry_over(self, command: cmd.Finish, outlook: Outlook) -> Reason | None:
        # Its verification may have taken long, and people go on working.
        checkouts = self.repository.worktrees_of_branch(command.target)
        reason = self._obstacle(command.target, outlook, checkouts, stage_only=command.stage_only)
        if reason is not None:
            return reason
        self.landing.hand_over(command.run, outlook.new, outlook.old)
        crash_at("finish.carried")
        moves: list[Move] = []
        try:
            for number, checkout in enumerate(checkouts):
                aside = self.places.move(command.run, command.request, number)
                move = Move(checkout, outlook.old, outlook.new, aside)
                move.begin(outlook.paths)
                moves.append(move)
                crash_at("finish.noted")
                seen = self._look(checkout, outlook)
                why = move.make(seen.moved, seen.nobodys)
                if why:
                    crash_at("finish.failed")
                    reason = self._why_not_moved(checkout, why, outlook)
                    return self._put_back(moves, reason)
                crash_at("finish.files")
            if not command.stage_only:
                self.refs.move(f"refs/heads/{command.target}", outlook.new, outlook.old)
        except git.RefMoved as error:
            text = f"{command.target} moved to {error.found} meanwhile"
            about = {"exit_code": 4, "found": error.found}
            return self._put_back(moves, Reason("moved", text, about))
        except BaseException as error:
            reason = self._put_back(moves, Reason("error", str(error)))
            if isinstance(error, SwarmError) and "left" in reason.facts:
                raise SwarmError(reason.text, "", str(reason.facts["next_step"])) from error
            raise
        crash_at("finish.moved")
        for move in moves:
            move.forget()
        return None

    def _put_back(self, moves: Sequence[Move], reason: Reason) -> Reason:
        """Puts the checkouts back whose files were moved; gives the reason for it, with what could not be put back."""
        left = [(move, paths) for move in moves if (paths := move.undo(self._entries(move.new)))]
        return _with_left(reason, left) if left else reason

    def half_moved(self, run: str) -> list[Path]:
        """Lists the checkouts in which a daemon that was killed had begun to move files for a finish of this run."""
        moves = (Move.begun(aside) for aside in self.places.moves(run))
        return [move.top for move in moves if move is not None and move.stands()]

    def put_back_killed(self, moves: Iterable[Path]) -> Reason | None:
        """Puts back what a daemon that was killed had moved of checkouts, by these of `places.moves`, so that a finish begins anew;
        gives what stops that. A checkout that stands at another commit by now, our own or one of the user's, is left as it is."""
        for aside in moves:
            move = Move.begun(aside)
            if move is None:
                continue
            if not move.stands():
                move.forget()
                continue
            lock = Path(
                within(move.top, "rev-parse", "--path-format=absolute", "--git-path", "index.lock").text
            )
            if lock.exists():
                text = f"files of {move.top} are still as a finish that was killed left them, and {lock} is there"
                step = _step_for_lock(lock)
                return Reason("dirty", text, {"exit_code": 4, "checkout": str(move.top), "next_step": step})
            left = move.undo(self._entries(move.new))
            if left:
                killed = Reason(
                    "dirty", f"a finish that was killed had moved files of {move.top}", {"exit_code": 4}
                )
                return _with_left(killed, [(move, left)])
        return None

    def _why_not_moved(self, checkout: Path, err: str, outlook: Outlook) -> Reason:
        """Says why git did not move a checkout, by what it wrote about it, and what is to be done."""
        why, about = git.last_line(err), {"exit_code": 4, "checkout": str(checkout)}
        if (of_filter := git.of_filter(err)) is not None:
            step = f"{of_filter[1]}; then swarm finish again"
            return Reason(
                "filter", f"{checkout}: {of_filter[0]}", about | {"exit_code": 1, "next_step": step}
            )
        if "not uptodate" in why and (hidden := self._hidden(checkout, outlook)):
            text = f"{checkout} has changes of its own in {some(hidden)}, which git was told not to look at"
            step = f"{_have_looked_at(checkout, hidden)}, then commit or stash what is changed there; then swarm finish again"
            return Reason("dirty", text, about | {"paths": list(hidden)[:100], "next_step": step})
        fitting = _step_after(checkout, why)
        if fitting is not None:
            return Reason("dirty", f"{checkout}: {why}", about | {"next_step": fitting})
        step = f"see to that, and what git -C {checkout} status says; then swarm finish again"
        return Reason("error", f"{checkout}: {why}", about | {"exit_code": 1, "next_step": step})

    def _hidden(self, checkout: Path, outlook: Outlook) -> dict[str, str]:
        """Gives the files with changes that git's status does not show, each with the option that has git look at it."""
        hidden = unseen(checkout, outlook.paths)
        there = [path for path in hidden if os.path.lexists(checkout / path)]
        plain = set(same(checkout, self._entries(outlook.old), there)) if there else set()
        return {path: hidden[path] for path in there if path not in plain}

    def _look(self, checkout: Path, outlook: Outlook) -> _Seen:
        """Looks at what a checkout has otherwise than its HEAD, of what moving it changes."""
        found = _changed(checkout, outlook.paths)
        whole = [path for path, code in found.items() if code in ("??", "!!") or " " in code]
        moved = set(same(checkout, self._entries(outlook.new), whole)) if whole else set()
        theirs = {path: code for path, code in found.items() if path not in moved}
        nobodys = set()
        if " M" in theirs.values():
            listed = within(checkout, *UNSTAGED).out
            nobodys = as_checked_out(checkout, listed, self.landing.objects.sizes)
            nobodys = {path for path in nobodys if theirs.get(path) == " M"}
        return _Seen(
            {path: code for path, code in theirs.items() if path not in nobodys},
            sorted(moved),
            sorted(nobodys),
        )

    def _entries(self, commit: str) -> dict[str, str]:
        """Gives mode and object of each file of a commit that the landing repository has."""
        listed = git.run("ls-tree", "-r", "-z", commit, git_dir=self.landing.path).out
        entries = [entry.partition("\t") for entry in git.decode(listed).split("\0")]
        return {path: facts for facts, _, path in entries}

    def _finished(
        self, command: cmd.Finish, at: float, commit: str, on_staging: Sequence[Suite] = ()
    ) -> m.Event:
        return m.Finished(
            at=at,
            run=command.run,
            request=command.request,
            target=command.target,
            commit=commit,
            stage_only=command.stage_only,
            suites=tuple(suite.run for suite in on_staging),
        )

    def _refused(self, command: cmd.Finish, at: float, reason: Reason) -> m.Event:
        return m.FinishRefused(
            at=at, run=command.run, request=command.request, target=command.target, reason=reason
        )


async def _taken(turn: asyncio.Lock) -> Reason | None:
    await turn.acquire()
    return None


def conflict_reason(target: str, outlook: Outlook) -> Reason:
    """Says that staging does not merge into the target, and where; of what git would merge also why it is left to a person."""
    paths, over = list(outlook.conflict), list(outlook.passed_over)
    plain = [path for path in paths if path not in outlook.passed_over]
    told = [f"staging conflicts with {target} in {some(plain)}"] if plain else []
    if over:
        by = f" ({some(outlook.passers)})" if outlook.passers else ""
        told.append(
            f"{target} changed {some(over)} by a commit of its own, while staging changed it there and back{by}: "
            f"a merge would keep what {target} has without a word"
        )
    return Reason("conflict", "; ".join(told), {"exit_code": 4, "paths": paths, "passed_over": over})


def _changed(checkout: Path, paths: tuple[str, ...]) -> dict[str, str]:
    """Gives those of the paths that are not as in this checkout's HEAD, what lies in a folder where one of them is to be a file,
    and what a merge left unmerged anywhere, each with git's two letters for it: a file that is staged and edited again has two
    versions, and one of them could be lost."""
    if not paths:
        return {}
    asked = ("status", "--porcelain", "-z", "--untracked-files=all", "--ignored=matching", "--no-renames")
    found = within(checkout, *asked)
    wanted = set(paths)
    folders = {f"{parent}/" for path in paths for parent in PurePosixPath(path).parents}
    changed = {}
    for entry in git.decode(found.out).split("\0"):
        code, path = entry[:2], entry[3:]
        above = accumulate(path.rstrip("/").split("/"), "{}/{}".format)
        is_wanted = not wanted.isdisjoint(above)
        if is_wanted or code in _UNMERGED:
            changed[path] = code
        elif code in ("!!", "??") and path in folders:
            changed |= dict.fromkeys(_met(checkout, path, paths), code)
    return changed


def _met(checkout: Path, folder: str, paths: Iterable[str]) -> Iterator[str]:
    """Yields what of an ignored folder, or of another repository, of which git does not list what is in it, lies where one of the
    paths is to be, or on the way there. Git would overwrite it: to `read-tree` what is ignored is nobody's."""
    for path in paths:
        if not path.startswith(folder):
            continue
        for place in accumulate(path.removeprefix(folder).split("/"), "{}/{}".format):
            way = checkout / folder / place
            if way.is_symlink() or (way.exists() and (not way.is_dir() or folder + place == path)):
                yield folder + place
                break


def _submodules_in_the_way(checkout: Path, paths: Sequence[str]) -> Reason:
    """Says that submodules would go with all that is only in them, and how to take them out."""
    text = f"{checkout} has a submodule in {some(paths)}, where something else comes: what is only there would go too"
    gone = shlex.join(["git", "-C", str(checkout), "submodule", "deinit", *paths[:5]])
    step = f"move it away, or {gone}, which removes ignored files in it; then swarm finish again"
    about = {"exit_code": 4, "paths": [*paths[:100]], "checkout": str(checkout), "next_step": step}
    return Reason("dirty", text, about)


def _in_the_way(checkout: Path, theirs: Mapping[str, str]) -> Reason:
    """Says what of the user's stops a checkout from moving, and what is to be done with things of that kind."""
    unmerged = [path for path, code in theirs.items() if code in _UNMERGED]
    lone = [path for path, code in theirs.items() if code in ("??", "!!")]
    if unmerged:
        what, step, paths = "is in the middle of a merge, with conflicts", _settle(checkout), unmerged
    else:
        what, paths = "has changes of its own", list(theirs)
        steps = [
            "commit or stash what is changed there" if len(lone) < len(theirs) else "",
            f"move {', '.join(lone[:5])} out of the way there: git tracks none of it" if lone else "",
        ]
        step = f"{', and '.join(filter(None, steps))}; then swarm finish again"
    text = f"{checkout} {what} in {some(paths)}"
    about = {"exit_code": 4, "paths": paths[:100], "checkout": str(checkout), "next_step": step}
    return Reason("dirty", text, about)


def _step_after(checkout: Path, why: str) -> str | None:
    """Says what is to be done after git refused to move a checkout for something of the user's there, in its own words; None where
    it is nothing of theirs."""
    lock = _LOCKED.search(why)
    if lock is not None:
        return _step_for_lock(Path(lock[1]))
    if "current index" in why:
        return _settle(checkout)
    if "ntracked working tree file" in why:
        return "move it out of the way there; then swarm finish again"
    if "annot merge" in why:  # "Cannot merge.", of a file that is another than in the index
        return "commit or stash what is changed there; then swarm finish again"
    return None


def _have_looked_at(checkout: Path, hidden: Mapping[str, str]) -> str:
    """Gives the commands that have git look at files again, each of which comes with the option for it."""
    paths: dict[str, list[str]] = {}
    for path, option in hidden.items():
        paths.setdefault(option, []).append(path)
    words = (
        ("git", "-C", str(checkout), "update-index", option, *each[:5]) for option, each in paths.items()
    )
    return " && ".join(map(shlex.join, words))


def _step_for_lock(lock: Path) -> str:
    why = "one that was killed left it"
    return (
        f"wait for the git that is at work there, or remove {lock} if none is: {why}; then swarm finish again"
    )


def _settle(checkout: Path) -> str:
    return f"settle and commit it there, or give it up, as git -C {checkout} status says; then swarm finish again"


def _with_left(reason: Reason, left: Sequence[tuple[Move, Sequence[str]]]) -> Reason:
    """Adds to a reason what of the files that had been moved is not as it was before."""
    told, steps = [], []
    for move, paths in left:
        named = some(paths)
        told.append(
            f"in {move.top} not put back, since it was changed meanwhile or can't be written: {named}"
        )
        steps.append(
            f"see what git -C {move.top} status says of it; what could not be put back is in {move.aside}"
        )
    about = {
        "next_step": f"{'; '.join(steps)}; then swarm finish again",
        "left": [p for _, each in left for p in each[:100]],
    }
    return Reason(reason.code, f"{reason.text.rstrip('.')}; {'; '.join(told)}", {**reason.facts, **about})

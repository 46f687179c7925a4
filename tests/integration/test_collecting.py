"""The end of a worker's work: one command commits what it left, keeps it, and copies it to where it is merged."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from swarm import config
from swarm.core import commands as cmd
from swarm.core import messages as m
from swarm.core.admission import Pressure
from swarm.core.model import Limits, attempt_branch
from swarm.core.places import Places
from swarm.daemon import execution, reconcile
from swarm.daemon.discarding import Ground
from swarm.daemon.edges import lease_key
from swarm.daemon.execution import Execution
from swarm.daemon.verification import TAIL_BYTES
from swarm.edge import git as edge_git
from swarm.edge import heard
from swarm.edge.ground import HIDING, RECORDS
from swarm.edge.place import places_of
from swarm.edge.worktrees import Pool
from tests.conftest import git

WHERE: dict[str, Any] = {"run": "r", "task": "t", "attempt": 1}
PIN = "refs/attempts/r/t/1"


@dataclass
class Ended:
    """A worker that has ended in its worktree, and the edges that its work is collected with."""

    repo: Path
    places: Places
    base: str
    worktree: Path
    execution: Execution
    answers: asyncio.Queue[m.Event]

    async def answer(self, command: cmd.Command) -> m.Event:
        self.execution.carry_out(command)
        return await asyncio.wait_for(self.answers.get(), 60)

    async def collected(self, *, bring_in: bool = True, failed: bool = False) -> m.Collected:
        command = cmd.Collect(
            **WHERE,
            base=self.base,
            worktree=str(self.worktree),
            branch=attempt_branch("r", "t", 1),
            title="work",
            bring_in=bring_in,
            failed=failed,
        )
        found = await self.answer(command)
        assert isinstance(found, m.Collected)
        return found

    def leases(self) -> dict[str, Path]:
        """Who has which worktree."""
        return {each.key: each.path for each in self.execution.edges.pool.leases() if each.key}

    def pinned(self) -> str | None:
        return edge_git.refs_below(self.places.landing, "refs/attempts/").get(PIN)


@asynccontextmanager
async def a_worker_that_ended(repo: Path) -> AsyncIterator[Ended]:
    """It was given a worktree at the tip of main."""
    loop, answers = asyncio.get_running_loop(), asyncio.Queue[m.Event]()
    repository = edge_git.Repository.discover(repo)
    places = places_of(repository.common_dir / "swarm")
    places.state.mkdir(mode=0o700)
    edges = reconcile.open_edges(places, repository, config.load(repo, os.environ), dict(os.environ))

    def hear(event: m.Event) -> None:
        loop.call_soon_threadsafe(answers.put_nowait, event)

    execution = Execution(
        edges,
        hear,
        itertools.count(1_700_000_000.0).__next__,  # to each question, a second later
        loop,
        wants_readings=lambda: False,
        limits=Limits,
        pressure=lambda: Pressure.NONE,
        growing=tuple,
        wanted_bytes=int,
    )
    base = git(repo, "rev-parse", "HEAD")
    ended = Ended(repo, places, base, repo, execution, answers)
    try:
        await ended.answer(cmd.PrepareRun(run="r", base=base))
        taken = await ended.answer(cmd.TakeWorktree(**WHERE, base=base))
        assert isinstance(taken, m.WorktreeReady)
        ended.worktree = Path(taken.path)
        yield ended
    finally:
        await execution.close(leave=False)


@pytest.mark.parametrize("parser", ["", "claude"])
def test_what_a_worker_printed_that_failed_is_collected(repo: Path, parser: str) -> None:
    """The last lines, as many as of a suite, of one that failed only; of a stream of events what people read of it."""

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            places = ended.places.attempt("r", "t", 1)
            places.folder.mkdir(parents=True)
            heard.note_format(places, parser, str(ended.worktree))
            lines = [f"line {n} {'é' * 100}" for n in range(1000)]
            said = [
                {"type": "assistant", "message": {"content": [{"type": "text", "text": line}]}}
                for line in lines
            ]
            printed = [json.dumps(each) for each in said] if parser else lines
            places.output.write_text("\n".join(printed) + "\n")
            assert (await ended.collected(bring_in=False)).tail == ""
            tail = (await ended.collected(bring_in=False, failed=True)).tail
            assert tail.endswith(lines[-2] + "\n" + lines[-1])
            assert (
                len(tail.encode()) <= TAIL_BYTES + 3
            )  # a character of which a part was cut off is one of three bytes

    asyncio.run(story())


def test_work_is_brought_in_as_it_is_collected(repo: Path) -> None:
    """What a worker left is committed, stands on its branch, and is in the landing repository, pinned, with one answer."""

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            (ended.worktree / "new.py").write_text("new = 1\n")
            found = await ended.collected()
            assert found.brought_in
            assert ended.pinned() == found.head == git(repo, "rev-parse", attempt_branch("r", "t", 1))
            assert git(ended.places.landing, "show", f"{found.head}:new.py") == "new = 1"

    asyncio.run(story())


def test_collecting_again_after_a_kill_is_what_counts(repo: Path) -> None:
    """A daemon that was killed before it heard the answer collects once more, later: branch and pin go by what it is told."""

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            (ended.worktree / "new.py").write_text("new = 1\n")
            first, second = await ended.collected(), await ended.collected()
            assert first.head != second.head  # a commit of our own says when it was made
            assert (second.commits, second.touched) == (first.commits, first.touched)
            assert second.brought_in
            assert ended.pinned() == second.head == git(repo, "rev-parse", attempt_branch("r", "t", 1))

    asyncio.run(story())


def test_work_that_can_not_be_brought_in_is_collected_all_the_same(repo: Path) -> None:
    """Where the landing repository takes nothing, what was collected is told and kept, and bringing in is tried again by itself."""

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            (ended.worktree / "new.py").write_text("new = 1\n")
            in_the_way = ended.places.landing / "refs" / "attempts"
            in_the_way.write_text("")  # where a folder has to be
            found = await ended.collected()
            assert not found.brought_in
            assert found.head == git(repo, "rev-parse", attempt_branch("r", "t", 1))
            bring = cmd.BringIn(**WHERE, head=found.head, base=ended.base)
            assert isinstance(await ended.answer(bring), m.CommandFailed)
            in_the_way.unlink()
            assert isinstance(await ended.answer(bring), m.BroughtIn)
            assert ended.pinned() == found.head

    asyncio.run(story())


@pytest.mark.parametrize("left", ["nothing", "unmerged"])
def test_what_can_not_be_submitted_is_not_brought_in(repo: Path, left: str) -> None:
    """A worker that changed nothing, or left a merge half done, has nothing that could be merged."""

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            if left == "unmerged":
                _leave_a_merge_half_done(ended.worktree)
            found = await ended.collected()
            assert bool(found.problem) is (left == "unmerged")
            assert not found.brought_in
            assert ended.pinned() is None

    asyncio.run(story())


def test_what_is_not_to_be_brought_in_is_not(repo: Path) -> None:
    """Work of a worker that failed is kept on its branch alone."""

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            (ended.worktree / "new.py").write_text("new = 1\n")
            found = await ended.collected(bring_in=False)
            assert not found.brought_in
            assert ended.pinned() is None

    asyncio.run(story())


COMMIT = "git add -A; git commit -qm more"
UP, SIZE = (
    "up is a link out of the tree, to ../up",
    "big has 0 MB, and a file of 0 MB is the largest that may come in",
)
GIT_TREE = "h=$(echo x | git hash-object -w --stdin); t=$(printf '100644 blob %s\\tx' $h | git mktree);"
GIT_TREE += " t=$(printf '040000 tree %s\\t.GIT' $t | git mktree); c=$(git commit-tree -p HEAD -m evil $t)"
SUBMITTED = {  # what a worker does, and why it must not come in
    "ln -s ../up up": UP,
    f"ln -s ../up up; {COMMIT}": UP,
    f"ln -s ../up up; {COMMIT}; rm up; echo > honest; {COMMIT}": "",
    "echo > src/B.py": "src/B.py and src/b.py differ in case alone, and on some machines are one file",
    "git mv src/b.py src/B.py": "",
    "head -c 3000 /dev/zero > big": SIZE,
    f"head -c 3000 /dev/zero > big; {COMMIT}; rm big; echo > small; {COMMIT}": SIZE,
    "head -c 1900 /dev/zero > a; head -c 1900 /dev/zero | tr '\\0' x > b": "it adds 0 MB in all, and 0 MB may come in with one",
    "head -c 1900 /dev/zero > a; cp a b": "",
    "mkdir -p .worktrees/pool/2; echo > .worktrees/pool/2/a": ".worktrees/pool/2/a is in the place of worktrees, .worktrees",
    "git mv was-large is-large; echo >> is-large; git mv was-large-too is-large-too; echo > twin/C": "",
    f"{GIT_TREE}; git reset -q --soft $c; echo > more": ".GIT/x has a name that is, or on some machines becomes",
    f"{GIT_TREE}; o=$(git commit-tree -m o HEAD^{{tree}}); c=$(git commit-tree -m both -p $c -p $o HEAD^{{tree}});"
    " git reset -q --soft $c; echo > more": "by git's own judgement: object",
}  # fmt: skip


def test_what_must_not_come_in_is_kept_and_told(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what an attempt itself brings in is judged, in its files and in what passed through its commits; what must not come
    in is on its branch, is in nothing that lands, and the event says which path it is and why."""
    monkeypatch.setenv("SWARM_POLICY__FILE_BYTES_MAX", "2000")
    monkeypatch.setenv("SWARM_POLICY__ADDED_BYTES_MAX", "3500")
    _run(
        "ln -s /etc old; mkdir twin; echo > twin/a; echo > twin/A; head -c 3000 /dev/zero > was-large; git add -A",
        repo,
    )
    _run(
        "cp was-large was-large-too; echo >> was-large-too; git add -A; git commit -qm odd; git branch odd",
        repo,
    )

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            for command, said in SUBMITTED.items():
                _run(f"git checkout -qf --detach {ended.base}; git clean -ffdxq; {command}", ended.worktree)
                found = await ended.collected()
                assert said in found.problem if said else not found.problem, command
                assert found.brought_in is not bool(said)
                assert (ended.pinned() == found.head) is found.brought_in
                assert found.head == git(repo, "rev-parse", attempt_branch("r", "t", 1)) != ended.base

    asyncio.run(story())


def _run(command: str, folder: Path) -> None:
    subprocess.run(["/bin/sh", "-ec", command], cwd=folder, check=True)


def _leave_a_merge_half_done(worktree: Path) -> None:
    for branch, text in (("one", "b = 2\n"), ("other", "b = 3\n")):
        git(worktree, "switch", "-q", "-c", branch, "main")
        (worktree / "src" / "b.py").write_text(text)
        git(worktree, "commit", "-q", "-am", branch)
    git(worktree, "merge", "one", check=False)


def test_what_nobody_waits_for_is_saved_without_being_waited_for(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where git reads for ever what was left by a worker that was cancelled, the attempt ends with what it had committed; all the
    rest is in a recovery ref once its worktree is back."""
    monkeypatch.setattr(execution, "DROPPED_S", 0.0)
    go = tmp_path / "go"

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            git(repo, "config", "filter.slow.clean", f"until [ -e {go} ]; do sleep 0.05; done; cat")
            for name in ("committed", "left"):
                (ended.worktree / name).write_text(name)
                if name == "committed":
                    git(ended.worktree, "add", "-A")
                    git(ended.worktree, "commit", "-qm", "mine")
            (ended.worktree / ".gitattributes").write_text("slow filter=slow\n")
            (ended.worktree / "slow").write_text("slow")
            collecting = asyncio.ensure_future(ended.collected(bring_in=False))
            while not collecting.done():
                ended.execution.drop("r", "t", 1)
                await asyncio.sleep(0.05)
            found = collecting.result()
            assert (found.touched, found.commits, found.gone) == (("committed",), 1, False)
            assert "nobody waits" in found.problem
            go.touch()
            returned = await ended.answer(
                cmd.GiveBackWorktree(**WHERE, worktree=str(ended.worktree), keep=False)
            )
            assert isinstance(returned, m.WorktreeReturned)
            for name in ("committed", "left", "slow"):
                assert git(repo, "show", f"{returned.saved}:{name}") == name

    asyncio.run(story())


def _left_unreadable(ended: Ended) -> tuple[cmd.Collect, str]:
    """Leaves a commit and a file that no git can take in; gives what collects it, and the commit."""
    git(ended.worktree, "commit", "-q", "--allow-empty", "-m", "mine")
    git(ended.repo, "config", "filter.broken.clean", "false")
    git(ended.repo, "config", "filter.broken.required", "true")
    (ended.worktree / ".gitattributes").write_text("odd filter=broken\n")
    (ended.worktree / "odd").write_text("precious")
    branch = attempt_branch("r", "t", 1)
    where = str(ended.worktree)
    command = cmd.Collect(**WHERE, base=ended.base, worktree=where, branch=branch, title="work")
    return command, git(ended.worktree, "rev-parse", "HEAD")


def _held(ended: Ended, working: tuple[str, ...] = ()) -> list[str]:
    """Names what a discard of the run says that it would lose."""
    branches = edge_git.refs_below(ended.execution.edges.repository.common_dir, "refs/heads/swarm/r/task/")
    ground = Ground(
        run="r",
        base=ended.base,
        staging=(),
        live=(),
        working=working,
        work={},
        landed={},
        collected=frozenset(branches.values()),
        worktrees=("staging",),
    )
    return [each.name for each in ended.execution.discarder().losses(ground)]


def test_a_discard_counts_what_could_not_be_collected(repo: Path) -> None:
    """What lies in a worktree, and git can't read or nobody has collected, is work that is nowhere else; what was collected is
    not, nor what a worker is still at. A run that was given up all the same can be removed."""

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            assert _held(ended) == []
            (ended.worktree / "new.py").write_text("new = 1\n")
            assert _held(ended) == ["worktree/pool/1"]
            assert _held(ended, working=("r/t/1",)) == []
            await ended.collected()
            assert _held(ended) == []
            command, _ = _left_unreadable(ended)
            assert _held(ended) == ["worktree/pool/1"]
            await ended.answer(dataclasses.replace(command, gives_up=True))
            assert _held(ended) == ["worktree/pool/1"]
            ended.execution.edges.pool.drop("r")
            assert [name for name in _held(ended) if not name.startswith("saved/")] == []
            assert ended.leases() == {}

    asyncio.run(story())


def test_what_can_not_be_collected_is_set_aside_at_once(repo: Path) -> None:
    """Once collecting has been given up the worktree is not tried to be saved again and again by daemons that may all end before
    they have done so: also one that is about to end sets it aside, and the next one, which was told nothing, says where."""

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            command, _ = _left_unreadable(ended)
            await ended.answer(dataclasses.replace(command, gives_up=True))
            assert ended.execution.edges.pool.is_given_up(lease_key(command))
            returning = cmd.GiveBackWorktree(**WHERE, worktree=str(ended.worktree), keep=False)
            refused = edge_git.GitError(["git", "add"], 128, "refused")
            ended.execution.closing = True
            told = ended.execution._failed(returning, refused)
            ended.execution.closing = False
            assert isinstance(told, m.WorktreeReturned)
            assert (Path(told.saved) / "odd").read_text() == "precious"
            again = await ended.answer(returning)
            assert isinstance(again, m.WorktreeReturned)
            assert again.saved == told.saved
            assert any(name.startswith("kept/") for name in _held(ended))

    asyncio.run(story())


def test_what_can_never_be_collected_is_told_in_the_end_and_kept(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where git refuses what was left, the last try answers with the cause; until then the command fails. Its worktree, which can't
    be saved either, is set aside whole, what was committed in it has a recovery ref, and nobody has it any more."""
    monkeypatch.setattr(execution, "AGAIN_S", 0.0)

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            command, mine = _left_unreadable(ended)
            assert isinstance(await ended.answer(command), m.CommandFailed)
            found = await ended.answer(dataclasses.replace(command, gives_up=True))
            assert isinstance(found, m.Collected)
            assert (found.head, found.touched, found.gone) == (ended.base, (), False)
            assert "its filter broken" in found.problem
            returned = await ended.answer(
                cmd.GiveBackWorktree(**WHERE, worktree=str(ended.worktree), keep=False)
            )
            assert isinstance(returned, m.WorktreeReturned)
            assert (Path(returned.saved) / "odd").read_text() == "precious"
            assert git(repo, "branch", "--list", "--contains", mine, "swarm/r/saved/*")
            assert ended.leases() == {}

    asyncio.run(story())


def test_what_can_not_be_noted_is_given_up_all_the_same(repo: Path) -> None:
    """Where somebody has something of their own in place of the pool's records, so that nothing can be noted there, collecting is
    given up and told like any other."""

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            command, _ = _left_unreadable(ended)
            root = ended.worktree.parent
            shutil.rmtree(root / RECORDS)
            (root / HIDING).unlink()
            (root / "mine").write_text("a person's\n")
            found = await ended.answer(dataclasses.replace(command, gives_up=True))
            assert isinstance(found, m.Collected)
            assert "can't be collected" in found.problem
            assert (ended.worktree / "odd").read_text() == "precious"
            assert (root / "mine").read_text() == "a person's\n"

    asyncio.run(story())


@pytest.mark.parametrize("command", [cmd.Collect, cmd.GiveBackWorktree])
def test_a_command_is_answered_although_its_failure_can_not_be_dealt_with(
    repo: Path, monkeypatch: pytest.MonkeyPatch, command: type[cmd.Command]
) -> None:
    """Whatever goes wrong with giving a command up, it is answered, and a discard of its run waits no longer than for that."""

    def broken(*_: object) -> None:
        raise ValueError("nobody thought of that")

    async def story() -> None:
        async with a_worker_that_ended(repo) as ended:
            collects, _ = _left_unreadable(ended)
            asked: cmd.Command = dataclasses.replace(collects, gives_up=True)
            if command is cmd.GiveBackWorktree:
                asked = cmd.GiveBackWorktree(
                    run="r", task="t", attempt=1, worktree=str(ended.worktree), keep=False
                )
            with monkeypatch.context() as patched, capture_logs() as logged:
                patched.setattr(execution, "RETURNS_MAX", 0)
                patched.setattr(Pool, "give_up", broken)
                patched.setattr(Pool, "set_aside", broken)
                found = await ended.answer(asked)
            assert "command.not_given_up" in [each["event"] for each in logged]
            if command is cmd.Collect:
                assert isinstance(found, m.CommandFailed)
                assert (found.command, found.task) == ("Collect", "t")
            else:
                assert isinstance(found, m.WorktreeReturned)
                assert (found.saved, set(ended.leases())) == ("", {"r/t/1"})
            discarded = await ended.answer(cmd.Discard(run="r", worktrees=(), created_at=1.0))
            assert isinstance(discarded, m.Discarded)

    asyncio.run(story())

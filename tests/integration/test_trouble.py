"""What edges do on a machine in trouble: they say so, and take nothing for gone that they could not look at."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.edge import contract, git, process, trouble
from swarm.edge.worktrees import Pool
from swarm.errors import SwarmError
from tests.adversity import bound, fill, no_descriptors, small_disk
from tests.conftest import git as user_git
from tests.conftest import wait_until

NONCE = uuid.uuid4().hex  # another test process ends all that bear its own


def test_trouble_is_told_from_other_causes() -> None:
    """An error of the machine is found below what wraps it; git's word counts at the end of a line only, where no name can be."""
    wrapped = SwarmError("The worker can't be started.")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert trouble.of(wrapped) == trouble.FULL
    for text, expected in (
        ("fatal: write error: No space left on device\n", trouble.FULL),
        ("fatal: Out of memory, malloc failed (tried to allocate 9 bytes)\n", "no memory is left"),
        (
            "error: a\nfatal: could not open 'x' for writing: Read-only file system\nhint: b",
            trouble.READ_ONLY,
        ),
        ("fatal: cannot fork: Resource temporarily unavailable", "no process can be made"),
        ("error: 'a: No space left on device' does not have a commit checked out", ""),
        ("error: unable to write file src/b.py\nfatal: checkout failed", trouble.FULL),
        ("fatal: not a git repository", ""),
    ):
        assert trouble.of(git.GitError(["git", "add"], 128, text)) == expected
    assert trouble.of(MemoryError()) == "no memory is left"
    assert trouble.of(FileNotFoundError(errno.ENOENT, "x")) == ""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[tuple[Path, process.Identity]]:
    """A worker that runs."""
    folder = tmp_path / "attempt"
    identity = process.start(
        folder, ["sleep", "100"], cwd=tmp_path, env=dict(os.environ), nonce=NONCE, output=tmp_path / "out"
    )
    wait_until(lambda: process.identity(folder) is not None)
    yield folder, identity
    process.end_tree(identity, NONCE, folder=folder, grace_s=0)
    process.reap(identity)


def test_without_descriptors_nobody_is_taken_for_dead(worker: tuple[Path, process.Identity]) -> None:
    """A daemon that can open nothing says so when it is asked about a worker, instead of taking it for gone."""
    folder, identity = worker
    questions = (
        lambda: process.alive(identity),
        lambda: process.started(folder),
        lambda: process.exit_of(folder),
        lambda: process.exit_handle(identity),
        lambda: process.members(NONCE, identity, folder=folder),
        lambda: process.end_tree(identity, NONCE, folder=folder, grace_s=0),
        lambda: contract.read_result(folder / "lock"),
    )
    process.members(NONCE, identity, folder=folder)  # what is read once only has been read
    for ask in questions:
        with no_descriptors(), pytest.raises((OSError, SwarmError)) as raised:
            ask()
        assert trouble.of(raised.value) == "the daemon has no file descriptor left"
    assert process.alive(identity)


def test_no_process_can_be_made() -> None:
    """Where no process may be made, starting a worker, git or a thread says that it is the machine's trouble, and threads that are
    there already do what they are given."""
    if os.getuid() != 0:
        pytest.skip("needs the right to become another user: run as root")
    program = """
import os, resource, sys
from pathlib import Path
from swarm.daemon.threads import Threads, executor
from swarm.edge import git, process, trouble
os.setgid(54321), os.setuid(54321)
threads, pool = Threads(4, "edge"), executor(4, "api")
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
folder = Path(sys.argv[1])
for work in (
    lambda: git.run("version"),
    lambda: process.start(folder / "a", ["true"], cwd=folder, env={}, nonce="n", output=folder / "out"),
):
    try:
        work()
    except Exception as error:
        print(trouble.of(error) or repr(error))
for more in (Threads, executor):
    try:
        more(4, "more")
    except RuntimeError as error:
        print(trouble.of(error))
print(sum(done.result() for done in [each.submit(int, n) for n in range(10) for each in (threads, pool)]))
"""
    # Not below pytest's folder: any other pytest that starts closes that to other users.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        done = subprocess.run(
            [sys.executable, "-c", program, folder],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.stdout.splitlines() == [*["no process can be made"] * 4, "90"], done.stderr


def test_a_status_that_means_something_does_not_mean_it_in_trouble() -> None:
    """Git that could not open a file does not say "1, some were left out" to whoever allows that: the call fails."""
    complaint = "!echo 'error: open(\"a\"): Too many open files in system' >&2; exit 1"
    with pytest.raises(git.GitError) as raised:
        git.run("-c", f"alias.x={complaint}", "x", ok=(0, 1))
    assert trouble.of(raised.value) == "the machine has no file descriptor left"
    assert git.run("-c", "alias.x=!echo 'error: some were left out' >&2; exit 1", "x", ok=(0, 1)).code == 1


def test_a_worker_is_not_started_on_a_full_disk(tmp_path: Path) -> None:
    """On a full disk no worker is started, and a later try starts it."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        ballast = fill(disk)
        place = {"cwd": tmp_path, "env": dict(os.environ), "nonce": NONCE, "output": tmp_path / "out"}
        with pytest.raises(OSError, match="No space left"):
            process.start(disk / "a", ["true"], **place)  # type: ignore[arg-type]
        ballast.unlink()
        identity = process.start(disk / "a", ["true"], **place)  # type: ignore[arg-type]
        wait_until(lambda: process.exit_of(disk / "a") is not None)
        process.reap(identity)


def test_a_disk_that_fills_up_hides_no_worker(tmp_path: Path) -> None:
    """Whatever takes the room after a worker was begun: its launcher still writes who it is, and how it ended."""
    launcher = Path(process.__file__).with_name("launcher.sh")
    with small_disk(tmp_path / "disk", "1m") as disk:
        process._write(disk / "exit", process._RUNNING)
        process._write(disk / "identity", process._UNNAMED)
        fill(disk)
        done = subprocess.run(["/bin/sh", launcher, disk, "/bin/sh", "-c", "exit 7"], check=False)
        ended = process.exit_of(disk)
        assert done.returncode == 0
        assert process.identity(disk) is not None
        assert ended is not None
        assert ended.code == 7


@pytest.fixture
def base(repo: Path) -> str:
    return user_git(repo, "rev-parse", "HEAD")


def open_pool(repo: Path, root: Path) -> Pool:
    return Pool(git.Repository.discover(repo), root, lock=repo / ".git" / "swarm" / "locks" / "w.lock")


def test_collecting_on_a_full_disk_takes_all_or_nothing(repo: Path, base: str, tmp_path: Path) -> None:
    """Work that can't be written down for want of room is not collected in part: the call fails, says why, and does it later."""
    objects = repo / ".git" / "objects"
    pool = open_pool(repo, tmp_path / "pool")
    path = pool.take("t/1", base)
    (path / "new").mkdir()
    for n in range(20):
        (path / "new" / str(n)).write_bytes(os.urandom(30_000))
    moved = objects.rename(repo / ".git" / "objects-outside")
    with small_disk(objects, "3m"):
        subprocess.run(["cp", "-a", f"{moved}/.", str(objects)], check=True)
        ballast = fill(objects, leave=120_000)
        for work in (
            lambda: pool.collect(path, base, key="t/1", message="m", identity=None, at=1.0),
            lambda: pool.give_back("t/1", at=1.0),
        ):
            with pytest.raises((SwarmError, OSError)) as raised:
                work()
            assert trouble.of(raised.value, [objects]) == trouble.FULL
        ballast.unlink()
        found = pool.collect(path, base, key="t/1", message="m", identity=None, at=1.0)
        assert (len(found.touched), found.problem) == (20, "")
    pool.close()


def test_a_read_only_place_for_worktrees_is_the_machines_trouble(
    repo: Path, base: str, tmp_path: Path
) -> None:
    """Where worktrees can't be written, taking one says that the file system is read-only, and works as soon as it is not."""
    root = tmp_path / "pool"
    pool = open_pool(repo, root)
    pool.give_back("none")
    with bound(root.parent, root.parent, read_only=True):
        with pytest.raises((SwarmError, OSError)) as raised:
            pool.take("t/1", base)
        assert trouble.of(raised.value) == trouble.READ_ONLY
    assert (pool.take("t/1", base) / "README.md").exists()
    pool.close()

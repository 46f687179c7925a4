"""The floor programs: hand-written loops that do the git work of a run and nothing else, to measure the product against.

N trivial tasks on S slots, each in a worktree, committed and merged into staging. Mode C keeps a pool of worktrees and merges
in memory with ordinary git commands; mode E makes and removes a worktree per task and merges in a checked-out staging, which is
what a person would write first. Neither has a journal, claims, verification or any recovery. Rule for editing: never make these
slower or faster than a careful author would; the bars of the product are ratios to them.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "m",
    "GIT_AUTHOR_EMAIL": "m@example.invalid",
    "GIT_COMMITTER_NAME": "m",
    "GIT_COMMITTER_EMAIL": "m@example.invalid",
    "LC_ALL": "C",
}


def git(folder: Path, *arguments: str, given: str | None = None) -> str:
    """Runs git and gives what it says. Raises `RuntimeError` when it fails."""
    command = ["git", *arguments]
    done = subprocess.run(
        command, cwd=folder, input=given, capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} in {folder}: {done.stderr[-800:]}")
    return done.stdout.strip()


def a_repository(folder: Path, files: int) -> Path:
    """Makes a repository on the branch main with one commit of `files` files of 30 lines, twenty in a folder."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for setting in ("gc.auto=0", "user.name=m", "user.email=m@example.invalid"):
        git(folder, "config", *setting.split("="))
    out = ["commit refs/heads/main\ncommitter m <m@example.invalid> 1700000000 +0000\ndata 4\ninit\n"]
    for number in range(files):
        body = "".join(f"line {number} {line}\n" for line in range(30))
        out.append(f"M 100644 inline d{number // 20:04d}/f{number:06d}.txt\ndata {len(body)}\n{body}\n")
    git(folder, "fast-import", "--quiet", given="".join(out))
    git(folder, "reset", "-q", "--hard")
    return folder


def check(repository: Path, staging: Path, branch: str, tasks: int) -> None:
    """Raises `RuntimeError` unless every task's file and merge is on staging, which is clean and connected."""
    files = [
        name
        for name in git(repository, "ls-tree", "--name-only", branch).splitlines()
        if name.startswith("file_")
    ]
    merges = int(git(repository, "rev-list", "--merges", "--count", f"main..{branch}"))
    clean = git(staging, "status", "--porcelain") == ""
    there = git(staging, "rev-parse", "HEAD") == git(repository, "rev-parse", branch)
    git(repository, "fsck", "--connectivity-only")
    if (len(files), merges, clean, there) != (tasks, tasks, True, True):
        raise RuntimeError(
            f"{len(files)} files and {merges} merges of {tasks}; clean: {clean}; staging follows: {there}"
        )


@dataclass(frozen=True)
class Floor:
    """N tasks on S slots in a fresh repository of so many files; each mode gives the seconds from first to last."""

    scratch: Path
    tasks: int
    slots: int
    files: int

    def pooled(self) -> float:
        """Mode C: a pool of worktrees made beforehand, git commands, merges in memory, staging moved once."""
        return self._timed(_pooled, pool=True)

    def naive(self) -> float:
        """Mode E: a worktree is added and removed for each task, merged in the checked-out staging."""
        return self._timed(_naive, pool=False)

    def _timed(self, mode: Callable[[Floor, Path, Path], None], *, pool: bool) -> float:
        folder = self.scratch / f"floor-{time.monotonic_ns()}"
        repository = a_repository(folder / "repo", self.files)
        staging = folder / "staging"
        git(repository, "worktree", "add", "-q", "-b", "staging", str(staging), "main")
        for slot in range(self.slots if pool else 0):
            git(repository, "worktree", "add", "-q", "--detach", str(folder / f"slot{slot}"), "main")
        started = time.perf_counter()
        mode(self, repository, staging)
        took = time.perf_counter() - started
        check(repository, staging, "staging", self.tasks)
        shutil.rmtree(folder)
        return took

    def on_slots(self, body: Callable[[int, int], None]) -> None:
        """Calls `body(slot, task)` for every task on as many threads as there are slots."""
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(self.tasks):
            waiting.put(number)
        failed: list[BaseException] = []

        def loop(slot: int) -> None:
            while not failed:
                try:
                    body(slot, waiting.get_nowait())
                except queue.Empty:
                    return
                except BaseException as error:
                    failed.append(error)

        threads = [threading.Thread(target=loop, args=(slot,)) for slot in range(self.slots)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]


def _pooled(floor: Floor, repository: Path, staging: Path) -> None:
    lock = threading.Lock()
    tip = [git(repository, "rev-parse", "staging")]

    def body(slot: int, number: int) -> None:
        base, tree = tip[0], repository.parent / f"slot{slot}"
        git(tree, "reset", "-q", "--hard", base)
        git(tree, "clean", "-fdxq")
        _worker(tree, number)
        git(tree, "add", "-A")
        git(tree, "commit", "-q", "--no-verify", "-m", f"task {number}")
        commit = git(tree, "rev-parse", "HEAD")
        with lock:
            old = tip[0]
            merged = git(repository, "merge-tree", "--write-tree", "--no-messages", old, commit)
            new = git(repository, "commit-tree", merged, "-p", old, "-p", commit, "-m", f"merge {number}")
            git(repository, "update-ref", "refs/heads/staging", new, old)
            tip[0] = new

    floor.on_slots(body)
    git(staging, "reset", "-q", "--hard", tip[0])


def _naive(floor: Floor, repository: Path, staging: Path) -> None:
    merging, adding = threading.Lock(), threading.Lock()

    def body(_: int, number: int) -> None:
        tree = repository.parent / f"t{number}"
        with adding:
            git(repository, "worktree", "add", "-q", "-b", f"task-{number}", str(tree), "staging")
        _worker(tree, number)
        git(tree, "add", "-A")
        git(tree, "commit", "-q", "-m", f"task {number}")
        with merging:
            git(staging, "merge", "-q", "--no-ff", "-m", f"merge {number}", f"task-{number}")
        with adding:
            git(repository, "worktree", "remove", "--force", str(tree))
            git(repository, "branch", "-q", "-D", f"task-{number}")

    floor.on_slots(body)


def _worker(tree: Path, number: int) -> None:
    script = f"cd '{tree}' && echo x > file_{number}"
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], ENVIRONMENT)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("worker failed")

"""The demonstration behind `make run`: a shipped plan, carried out on a throwaway clone of a real code base.

It hides where the code base comes from (a released source package, its version and checksum fixed, kept inside the virtual
environment; the project's own repository where no package index can be reached) and how a throwaway repository is made of
it. Everything else is the product itself: this program only runs `swarm run PLAN` there with the user's own terminal, and
says what there is to look at. Rule for editing: nothing of what the plan is meant to show may be arranged here.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE, VERSION = "boltons", "26.2.0"
SHA256 = "d39cfd15c1a1c3bd4d705c82252fa9edb8e4f5e8cc039f8e39afac7b1b47e92c"
CACHE = Path(sys.prefix) / "demo"
PREFIX = "swarm-demo-"
IN_USE = ".in-use"
NOT_SOURCE = (".git", ".venv", ".worktrees", "__pycache__", ".*_cache", ".hypothesis")
DOWNLOAD_S = 120.0
EXIT_INTERRUPTED = 130

# Beyond what can be measured: on a machine that others keep busy a demonstration goes on, one worker at a time, where real work
# had better wait. It is shown with the command; a value that the user has set is left alone.
SETTINGS = {"SWARM_LIMITS__CPU_PERCENT_MAX": "101"}
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
# What a model may use up: a demonstration that goes astray is not to be paid for without end.
BOUNDS = {"SWARM_LIMITS__BUDGET_TOKENS": "3000000", "SWARM_ANTHROPIC__TOKENS_MAX": "1000000"}


@dataclass(frozen=True)
class Subject:
    """What the demonstration works on: a code base in a folder, the plan for it, and what to call it."""

    folder: Path
    plan: Path
    name: str
    by_model: bool = False

    @property
    def settings(self) -> dict[str, str]:
        """The settings under which its plan is carried out, besides the user's."""
        return {**SETTINGS, **BOUNDS} if self.by_model else SETTINGS


def main() -> int:
    """Runs the demonstration; gives the exit code of `swarm run`."""
    options = _arguments()
    removed = remove_older(Path(tempfile.gettempdir()))
    if removed:
        print(f"Removed {removed} older throwaway folder{'s' if removed > 1 else ''} of this demonstration.")
    top, lock = fresh_folder()
    subject = prepare(top, by_model=has_key(os.environ) and not options.commands)
    extra = ["--workers", str(options.workers)] if options.workers else []
    code, parallel_s = run_plan(subject, extra)
    if code != EXIT_INTERRUPTED:  # then `swarm run` has said how to come back
        look(subject)
    if options.compare and code == 0:
        code = compare(parallel_s, by_model=subject.by_model)
    os.close(lock)
    return code


def has_key(environ: Mapping[str, str]) -> bool:
    """Tells whether a real model can do the work."""
    return any(environ.get(name) for name in KEYS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--compare", action="store_true", help="run it again one task at a time, and print the speed-up"
    )
    parser.add_argument(
        "--commands",
        action="store_true",
        help="let commands do the work, although a key for a real model is set",
    )
    parser.add_argument("--workers", type=int, default=0, help="how many workers (default: the product's)")
    return parser.parse_args()


# --- the throwaway repository -------------------------------------------------------------------------------------------------


def prepare(top: Path, *, by_model: bool = False) -> Subject:
    """Makes a git repository of the code base below `top`, and gives the subject, with a plan for a model or one of commands."""
    folder = top / PACKAGE
    archive = fetch()
    if archive is None:
        print(
            "The package index can't be reached: the project's own repository is the code base, with a smaller plan."
        )
        folder = top / "swarm"
        shutil.copytree(PROJECT, folder, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
        subject = Subject(folder, PROJECT / "examples" / "phases.toml", "this project's own repository")
    else:
        unpack(archive, folder)
        plan = "boltons-model.toml" if by_model else "boltons.toml"
        subject = Subject(folder, PROJECT / "examples" / plan, f"{PACKAGE} {VERSION}", by_model)
    commit_all(folder, f"Import {subject.name}")
    print(f"A throwaway repository of {subject.name}: {folder}")
    if subject.by_model:
        print(
            "A key is set, so a real model does the work, which costs money; DEMO_ARGS=--commands does without."
        )
    return subject


def fetch() -> Path | None:
    """Gives the source package, from the cache or by pip; None where it can't be had.

    Raises `SystemExit` when what arrives is not the package that was meant.
    """
    archive = CACHE / f"{PACKAGE}-{VERSION}.tar.gz"
    if archive.exists() and _digest(archive) == SHA256:
        return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"Fetching the source package of {PACKAGE} {VERSION} …", flush=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        command += ["--no-binary", PACKAGE, "--require-hashes", "-r", str(wanted), "-d", scratch]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=DOWNLOAD_S, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return None
        if "HASHES" in done.stderr:
            raise SystemExit(
                f"What came as {PACKAGE} {VERSION} is not that release: its checksum differs. Nothing was run."
            )
        found = Path(scratch, archive.name)
        if not found.exists():
            return None
        if _digest(found) != SHA256:
            raise SystemExit(f"{found.name} does not have the checksum that was released. Nothing was run.")
        os.replace(found, archive)
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a source package, whose one top folder becomes `folder`."""
    with tarfile.open(archive) as package:
        if hasattr(tarfile, "data_filter"):
            package.extractall(folder.parent, filter="data")
        else:  # Python before 3.11.4; the checksum says whose archive it is
            package.extractall(folder.parent)
    os.rename(folder.parent / f"{PACKAGE}-{VERSION}", folder)
    os.remove(folder / "PKG-INFO")  # made by the packaging, and no part of the code base


def commit_all(folder: Path, message: str) -> None:
    """Makes `folder` a git repository on the branch main with one commit, whatever the user's git settings are."""
    settings = {
        "user.name": "swarm demonstration",
        "user.email": "demo@example.invalid",
        "commit.gpgsign": "false",
    }
    _git(folder, "init", "--quiet", "--template=", "--initial-branch=main")
    for key, value in settings.items():
        _git(folder, "config", key, value)
    _git(folder, "add", "--all")
    _git(folder, "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-m", message)


def fresh_folder() -> tuple[Path, int]:
    """Makes a throwaway folder; gives it and a descriptor whose lock says, until this process ends, that it is in use."""
    top = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = os.open(top / IN_USE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return top, lock


def remove_older(parent: Path) -> int:
    """Removes the throwaway folders of earlier demonstrations that have ended, daemon too; gives how many there were."""
    removed = 0
    for folder in parent.glob(f"{PREFIX}*"):
        # Whose it is comes first: another user's folder can't even be looked into.
        if folder.lstat().st_uid != os.getuid() or folder.is_symlink() or not (folder / IN_USE).is_file():
            continue
        if _in_use(folder):
            print(f"Still going, so it stays: {folder}")
            continue
        shutil.rmtree(folder, ignore_errors=True)
        removed += 1
    return removed


def _in_use(folder: Path) -> bool:
    with open(folder / IN_USE, "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return any(_daemon_lives(state) for state in folder.glob("*/.git/swarm/daemon.json"))


def _daemon_lives(state: Path) -> bool:
    try:
        os.kill(int(json.loads(state.read_text(encoding="utf-8"))["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"git {arguments[0]} failed in {folder}:\n{done.stderr}")
    return done.stdout


# --- the run ------------------------------------------------------------------------------------------------------------------


def run_plan(subject: Subject, extra: list[str]) -> tuple[int, float]:
    """Runs `swarm run` on the subject in the foreground; gives its exit code and the seconds it took."""
    shown = " ".join(
        [
            *(f"{name}={value}" for name, value in subject.settings.items()),
            "swarm run",
            str(subject.plan),
            *extra,
        ]
    )
    print(f"$ cd {subject.folder}\n$ {shown}\n", flush=True)
    # Ctrl-C is for `swarm run`, which detaches; a handler, unlike "ignore", does not pass on to what is started here.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    started = time.monotonic()
    try:
        command = [sys.executable, "-m", "swarm", "run", str(subject.plan), *extra]
        code = subprocess.run(
            command, cwd=subject.folder, env=environment(subject.settings), check=False
        ).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    return code, time.monotonic() - started


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The user's environment with this interpreter first, so that `python` in the plan is one that has pytest.

    pytest runs as that code base knows it, without the plug-ins that this project has installed for itself.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTEST_"))}
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {
        **settings,
        **kept,
        "PATH": path,
        "VIRTUAL_ENV": sys.prefix,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }


def look(subject: Subject) -> None:
    """Says what there is to look at."""
    swarm = Path(sys.prefix) / "bin" / "swarm"
    branch = f"swarm/{subject.plan.stem}/staging"
    print(f"\nIt is all still there, in {subject.folder}:")
    print(f"  git -C {subject.folder} log --first-parent --oneline main..{branch}")
    print(f"  git -C {subject.folder} diff --stat main {branch}")
    print(f"  {swarm} -C {subject.folder} status")
    print(f"The next demonstration removes it; so does: rm -rf {subject.folder.parent}", flush=True)


def compare(parallel_s: float, *, by_model: bool) -> int:
    """Carries the same plan out one task at a time on another throwaway repository; prints what running side by side won."""
    print("\nThe same plan again, one task at a time:\n", flush=True)
    top, lock = fresh_folder()
    code, sequential_s = run_plan(prepare(top, by_model=by_model), ["--sequential"])
    os.close(lock)
    if code == 0:
        ratio = sequential_s / parallel_s
        print(
            f"\nSide by side {parallel_s:.1f} s, one at a time {sequential_s:.1f} s: {ratio:.1f} times as fast."
        )
        print("Both from the command to the prompt, daemon start and every verification included.")
    return code


if __name__ == "__main__":
    sys.exit(main())

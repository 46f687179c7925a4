"""The demonstration's own part: the throwaway repository that the product is let loose on."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from scripts import demo


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_throwaway_repository_does_not_depend_on_the_users_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing, failing hooks and another default branch in the user's git settings change nothing."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-commit").chmod(0o755)
    settings = Path(os.environ["HOME"], ".gitconfig")
    settings.write_text(
        f"[commit]\n gpgsign = true\n[init]\n defaultBranch = trunk\n[core]\n hooksPath = {hooks}\n"
    )
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "a.txt").write_text("a\n")
    demo.commit_all(folder, "Import it")
    assert _git(folder, "log", "--format=%an|%s", "main") == "swarm demonstration|Import it"
    assert _git(folder, "status", "--porcelain") == ""


def test_older_folders_go_but_not_those_in_use_nor_anybody_elses(tmp_path: Path) -> None:
    """Only folders that carry the mark are removed, and of those none that a demonstration or its daemon still uses."""
    ended, locked, alive, foreign = (tmp_path / f"{demo.PREFIX}{name}" for name in "abcd")
    for folder in (ended, locked, alive):
        folder.mkdir()
        (folder / demo.IN_USE).touch()
    foreign.mkdir()
    state = alive / "code" / ".git" / "swarm"
    state.mkdir(parents=True)
    (state / "daemon.json").write_text(json.dumps({"pid": os.getpid()}))
    with open(locked / demo.IN_USE, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert demo.remove_older(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == [locked, alive, foreign]


def test_a_fresh_folder_is_in_use_until_its_lock_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second demonstration leaves the folder of the first alone while the first one runs."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    top, lock = demo.fresh_folder()
    assert demo.remove_older(tmp_path) == 0
    os.close(lock)
    assert demo.remove_older(tmp_path) == 1
    assert not top.exists()


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [({}, False), ({"ANTHROPIC_API_KEY": ""}, False), ({"ANTHROPIC_AUTH_TOKEN": "x"}, True)],
)
def test_a_key_has_a_model_do_the_work(environ: dict[str, str], wanted: bool) -> None:
    """Only a key that is set counts; what a model may use up then has a bound that the user's own settings go before."""
    assert demo.has_key(environ) is wanted
    settings = demo.Subject(Path(), Path(), "", by_model=wanted).settings
    assert ("SWARM_LIMITS__BUDGET_TOKENS" in settings) is wanted


def test_a_cached_package_with_another_checksum_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the cache is checked, and where no index can be reached there is no package rather than a wrong one."""
    monkeypatch.setattr(demo, "CACHE", tmp_path)
    (tmp_path / f"{demo.PACKAGE}-{demo.VERSION}.tar.gz").write_bytes(b"something else")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    assert demo.fetch() is None


def test_a_package_is_unpacked_as_the_code_base(tmp_path: Path) -> None:
    """The archive's one top folder becomes the code base, without what the packaging added."""
    archive = tmp_path / "package.tar.gz"
    with tarfile.open(archive, "w:gz") as package:
        for name in ("PKG-INFO", "code.py"):
            entry = tarfile.TarInfo(f"{demo.PACKAGE}-{demo.VERSION}/{name}")
            package.addfile(entry, io.BytesIO())
    folder = tmp_path / demo.PACKAGE
    demo.unpack(archive, folder)
    assert [path.name for path in folder.iterdir()] == ["code.py"]


def test_the_plan_runs_with_the_interpreter_that_has_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python` in a plan is this interpreter, and neither git's nor pytest's variables of the caller reach it."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")
    environment = demo.environment(demo.SETTINGS)
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.prefix) / "bin")
    assert not {"GIT_DIR", "PYTEST_ADDOPTS"} & environment.keys()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to leave a folder of another user's behind")
def test_another_users_folder_is_not_even_looked_into() -> None:
    """Where root ran the demonstration first, another user's goes past its private folder; and the other way round."""
    # Not below pytest's folder: any other pytest that starts closes that to other users.
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        parent.chmod(0o755)
        private = parent / f"{demo.PREFIX}roots"
        private.mkdir(mode=0o700)
        (private / demo.IN_USE).touch()
        child = os.fork()
        if child == 0:
            try:
                os.setuid(65534)
                os.listdir(parent)  # which glob would take for empty where it may not be read
                os._exit(demo.remove_older(parent))
            finally:
                os._exit(99)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert private.is_dir()

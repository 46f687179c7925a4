"""The sandbox by itself: what is allowed, masked and opened, held against real bubblewrap where that works."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from swarm.core.adapters import BUILT_IN
from swarm.edge.sandbox import BUBBLEWRAP, NONE, Mount, Room, Sandbox, choose
from swarm.errors import UsageError
from swarm.settings import SandboxPaths, Settings
from tests.e2e.test_sandbox import needs_bubblewrap

SHUT_IN = Settings(sandbox="required")


def environment(base: dict[str, str], agent: str = "", **settings: list[str]) -> set[str]:
    """Gives the names of what a program that is shut in gets of `base`."""
    sandbox = Sandbox(BUBBLEWRAP, env=tuple(settings.get("env", ())))
    found = sandbox.environment(base, Path("/own"), BUILT_IN.get(agent))
    assert (found["HOME"], found["TMPDIR"]) == ("/own/home", "/tmp")
    return set(found) - {"HOME", "TMPDIR"}


def test_the_environment_is_what_is_on_the_list() -> None:
    """Of the environment a program gets what tools need; nothing that is named like a secret, whatever else it is named, and
    nothing that nobody has thought of."""
    wanted = [
        "PATH",
        "LANG",
        "LC_ALL",
        "JAVA_HOME",
        "GIT_AUTHOR_NAME",
        "PYTHONPATH",
        "https_proxy",
        "CARGO_HOME",
    ]
    secret = [
        "GITHUB_TOKEN",
        "NPM_CONFIG__AUTH",
        "UV_PUBLISH_PASSWORD",
        "GOOGLE_API_KEY",
        "NODE_AUTH_TOKEN",
        "PIP_SECRET",
    ]
    unknown = ["DATABASE_URL", "SSH_AUTH_SOCK", "AWS_PROFILE", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"]
    base = dict.fromkeys((*wanted, *secret, *unknown), "x")
    assert environment(base) == set(wanted)
    assert environment(base, env=["DATABASE_URL", "GITHUB_*"]) == {*wanted, "DATABASE_URL", "GITHUB_TOKEN"}


def test_keys_go_to_the_agent_that_needs_them() -> None:
    """An agent gets its own keys and what belongs to them; no other agent does, nor a task's command."""
    keys = dict.fromkeys(("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "GEMINI_API_KEY"), "x")
    assert environment(keys) == set()
    assert environment(keys, "claude") == {"ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"}
    assert environment(keys, "codex") == {"OPENAI_API_KEY"}


def test_off_and_not_there_are_told(tmp_path: Path) -> None:
    """Switched off, or where there is no bubblewrap, nothing is in force, and it says why; required, that is an error."""
    assert choose(Settings(sandbox="off"), os.environ) == Sandbox(NONE, "it is switched off")
    nowhere = {"PATH": str(tmp_path)}
    assert choose(Settings(), nowhere) == Sandbox(NONE, "bubblewrap (bwrap) is not installed")
    with pytest.raises(UsageError, match="there is none: bubblewrap"):
        choose(SHUT_IN, nowhere)
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no namespaces here >&2; exit 1\n")
    broken.chmod(0o755)
    assert choose(Settings(), nowhere).why == "bubblewrap does not work here: no namespaces here"


class Inside:
    """A place in which commands are shut in, and a home with secrets."""

    def __init__(self, folder: Path, settings: Settings = SHUT_IN) -> None:
        self.place, self.own, self.home = folder / "place", folder / "own", folder / "home"
        self.place.mkdir(exist_ok=True)
        for name in (
            ".ssh/id",
            ".claude/.credentials.json",
            ".config/gh/hosts.yml",
            ".config/tool/settings",
            "notes",
        ):
            (self.home / name).parent.mkdir(parents=True, exist_ok=True)
            (self.home / name).write_text(f"{name}\n")
        self.environ = {**os.environ, "HOME": str(self.home)}
        self.sandbox = choose(settings, self.environ)

    def __call__(self, command: str, agent: str = "") -> str:
        who = BUILT_IN.get(agent)
        own = Mount("write", str(self.own), str(self.own))
        prefix = self.sandbox.prefix(Room(self.place, self.own, (self.home,), (own,)), self.environ, who)
        env = self.sandbox.environment(self.environ, self.own, who)
        done = subprocess.run(
            [*prefix, "sh", "-c", command], env=env, capture_output=True, text=True, check=False
        )
        return done.stdout


@needs_bubblewrap
def test_secrets_of_the_home_are_masked_and_the_rest_is_there(tmp_path: Path) -> None:
    """By the home's true path and by $HOME, what opens other doors can't be read, the rest can, and nothing of it be written; what
    is written to $HOME stays in the folder of its own."""
    inside = Inside(tmp_path)
    for home in ("$HOME", str(inside.home)):
        assert (
            inside(f"cat {home}/.ssh/id {home}/.config/gh/hosts.yml {home}/.claude/.credentials.json") == ""
        )
        assert inside(f"cat {home}/notes {home}/.config/tool/settings") == "notes\n.config/tool/settings\n"
    assert (
        inside(
            "echo x > $HOME/new; echo x > $HOME/.cache/new; echo x > $HOME/notes; cat $HOME/new $HOME/.cache/new"
        )
        == "x\nx\n"
    )
    assert sorted(path.name for path in inside.home.iterdir()) == [".claude", ".config", ".ssh", "notes"]
    assert (inside.home / "notes").read_text() == "notes\n"


@needs_bubblewrap
def test_an_agent_has_its_own_login(tmp_path: Path) -> None:
    """The agent that needs a login finds it, and may write where it keeps its conversations."""
    inside = Inside(tmp_path)
    read = "cat $HOME/.claude/.credentials.json; echo x > $HOME/.claude/history"
    assert inside(read, "claude") == ".claude/.credentials.json\n"
    assert (inside.home / ".claude" / "history").read_text() == "x\n"
    assert inside(read, "codex") == ""


@needs_bubblewrap
def test_the_settings_open_more(tmp_path: Path) -> None:
    """Paths to read are seen although they are masked, paths to write are written to; without the network there is none."""
    written = tmp_path / "written"
    written.mkdir()
    paths = SandboxPaths(read=["~/.ssh"], write=[str(written)])
    inside = Inside(tmp_path, Settings(sandbox="required", sandbox_paths=paths, sandbox_network=False))
    assert inside(
        f"cat $HOME/.ssh/id; echo x > {written}/x; echo x > $HOME/.ssh/x; tail -n +3 /proc/net/dev | cut -d: -f1"
    ).split() == [".ssh/id", "lo"]
    assert [path.name for path in written.iterdir()] == ["x"]
    assert not (inside.home / ".ssh" / "x").exists()


@needs_bubblewrap
def test_nothing_of_others_is_seen(tmp_path: Path) -> None:
    """Temporary files of others, sockets below /run and other processes can't be seen, and no argument holds a secret."""
    inside = Inside(tmp_path)
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as one,
        tempfile.TemporaryDirectory(dir="/var/tmp") as other,
    ):
        seen = inside("ls -A /tmp /var/tmp").split()
        assert not {Path(one).name, Path(other).name} & set(seen)
    assert inside("ls -A /run | grep -v -e resolve -e systemd") == ""
    assert int(inside("ls -d /proc/[0-9]* | wc -l")) <= 6
    prefix = inside.sandbox.prefix(Room(inside.place, inside.own), {**inside.environ, "SOME_API_KEY": "sk-1"})
    assert not any("sk-1" in argument for argument in prefix)

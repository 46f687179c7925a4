"""The systemd unit of a repository: what systemd makes of it, and that nothing of the user's is overwritten."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.client import cli, systemd
from swarm.errors import Refused, SwarmError, UsageError

ODD = (
    "plain",
    "a b",
    'a"b',
    "it's",
    "50%h",
    "$HOME ${HOME} $$",
    "back\\slash \\x41",
    " ; #x",
    "ü 日本",
    "tab\tline\nend",
    "-C",
)
PROGRAM = next(
    (path for path in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if os.path.exists(path)), ""
)


@pytest.fixture
def units() -> Iterator[Path]:
    """A folder with a unit for each odd path, which every user may read; by a number in place of its name."""
    with tempfile.TemporaryDirectory(prefix="sw-", dir="/tmp") as made:
        folder = Path(made)
        folder.chmod(0o755)
        for number, name in enumerate(ODD):
            text = systemd.text(f"/r/{name}", {"PATH": f"/bin:/{name}"})
            (folder / f"u{number}.service").write_text(text, "utf-8")
        wants = "".join(f"Wants=u{number}.service\n" for number in range(len(ODD)))
        (folder / "all.target").write_text(f"[Unit]\n{wants}")
        yield folder


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_finds_nothing_wrong_with_a_unit(units: Path) -> None:
    """Whatever the repository's path, `systemd-analyze verify` has nothing to say."""
    run = units / "run"  # below a short path: it looks at the machine's units too, which have sockets there
    run.mkdir()
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *map(str, sorted(units.glob("*.service")))],
        env={**os.environ, "XDG_RUNTIME_DIR": str(run), "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def unescaped(word: str) -> str:
    """Reads a word as systemd shows it."""
    letters = {"n": "\n", "t": "\t"}
    return re.sub(
        r"\\(.)", lambda found: letters.get(found[1], found[1]), word.removeprefix('"').removesuffix('"')
    )


@pytest.mark.skipif(not PROGRAM, reason="no systemd here")
def test_systemd_starts_what_is_meant(units: Path) -> None:
    """As systemd itself reads it the command names the repository's very path, letter by letter, with no variable put in."""
    run = units / "run"
    run.mkdir()
    drop: list[str] = []
    if os.geteuid() == 0:  # it does not read units of users as root
        drop = ["setpriv", "--reuid", "65534", "--clear-groups"]
        os.chown(run, 65534, -1)
    run.chmod(0o700)
    shown = subprocess.run(
        [*drop, PROGRAM, "--user", "--test", "--no-pager", "--unit=all.target"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(run),
            "XDG_RUNTIME_DIR": str(run),
            "SYSTEMD_UNIT_PATH": f"{units}:",
        },
        capture_output=True,
        text=True,
        errors="surrogateescape",
    )
    if shown.returncode:
        pytest.skip(f"systemd tells nothing here: {shown.stderr[-300:]}")
    for number, name in enumerate(ODD):
        part = shown.stdout.partition(f"-> Unit u{number}.service:")[2].partition("-> Unit ")[0]
        line = part.partition("Command Line: ")[2].partition("\n")[0]
        top = line.partition(" -P -m swarm -C ")[2].removesuffix(" start --foreground")
        assert unescaped(top) == f"/r/{name}"
        assert "KillMode: process" in part
        assert "OOMPolicy: continue" in part


def test_a_unit_has_a_name_of_its_own() -> None:
    """Readable, with nothing in it that systemd would have to escape, and another for each path."""
    names = [systemd.name(f"/r/{name}") for name in (*ODD, "x" * 300)] + [systemd.name("/s/plain")]
    assert len(set(names)) == len(names)
    assert all(
        len(name) < 80 and name.strip("abcdefghijklmnopqrstuvwxyz0123456789-.") == "" for name in names
    )
    assert names[0].startswith("swarm-plain-")


def test_what_no_unit_can_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is not UTF-8, an interpreter that systemd would not start, and one that finds no swarm by itself."""
    with pytest.raises(UsageError, match="not UTF-8"):
        systemd.text("/r/\udcff", {})
    for what, value, says in (
        ("sys.executable", "/it's/python", "starts no program"),
        ("swarm.__file__", "/elsewhere/swarm/__init__.py", "PYTHONPATH"),
    ):
        with monkeypatch.context() as other:
            other.setattr(what, value)
            with pytest.raises(UsageError, match=says):
                systemd.text("/r", {})


# --- the commands -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def there(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a repository, with git to be found and no systemctl; gives where its unit belongs."""
    monkeypatch.chdir(repo)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "systemd" / "user" / systemd.name(str(repo))


def with_systemctl(tmp_path: Path, script: str) -> Path:
    """Puts a systemctl there that logs what it is asked and then does as a test says; gives its log."""
    log = tmp_path / "asked"
    program = tmp_path / "bin" / "systemctl"
    program.write_text(f"#!/bin/sh\necho \"$@\" >> '{log}'\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return log


def test_a_unit_is_written_and_taken_away_again(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without systemd install writes the unit that show prints, and says what to type; again it changes nothing; uninstall removes
    it, and where there is none says so."""
    assert cli.run(["service", "show"]) == 0
    shown = capsys.readouterr().out
    assert not there.exists()
    assert cli.run(["service", "install"]) == 0
    said = capsys.readouterr()
    assert there.read_text() == shown
    assert said.out.splitlines() == [
        f"Wrote {there}.",
        "No systemd of this user answers here. To be typed where one does:",
        "  systemctl --user daemon-reload",
        f"  systemctl --user enable --now {there.name}",
    ]
    assert "loginctl enable-linger" in said.err
    written = there.stat()
    assert cli.run(["service", "install"]) == 0
    assert f"{there} is there already, as it should be.\n" in capsys.readouterr().out
    assert there.stat() == written
    assert os.listdir(there.parent) == [there.name]
    enabled = there.parent / "default.target.wants" / there.name
    enabled.parent.mkdir()
    enabled.symlink_to(there)  # as systemd left it, where it answered then
    capsys.readouterr()
    assert cli.run(["service", "uninstall"]) == 0
    assert not there.exists()
    assert not enabled.is_symlink()
    assert capsys.readouterr().out.splitlines() == [
        f"Removed {there}.",
        "No systemd of this user answers here. To be typed where one does:",
        f"  systemctl --user stop {there.name}",
        "  systemctl --user daemon-reload",
    ]
    assert cli.run(["service", "uninstall"]) == 0
    assert "There is no" in capsys.readouterr().out


@pytest.mark.parametrize("theirs", ["[Service]\nExecStart=/bin/true\n", "edited"])
def test_a_unit_of_the_users_is_not_touched(there: Path, theirs: str) -> None:
    """One that we did not write, and ours that was changed by hand, are refused until --force."""
    if theirs == "edited":
        assert cli.run(["service", "install"]) == 0
        theirs = there.read_text().replace("RestartSec=5", "RestartSec=50")
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_text(theirs)
    for action in ("install", "uninstall"):
        with pytest.raises(Refused, match="by hand" if "swarm" in theirs else "not written by swarm"):
            cli.run(["service", action])
    assert there.read_text() == theirs
    assert cli.run(["service", "install", "--force"]) == 0
    assert there.read_text() != theirs


def test_systemd_is_asked_where_it_answers(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """install has it read the unit and start it, uninstall stop and forget it; what it refuses is an error with its words."""
    log = with_systemctl(tmp_path, f"case $* in *disable*) test -e '{there}';; esac")
    assert cli.run(["service", "install"]) == 0
    assert "It runs" in capsys.readouterr().out
    assert cli.run(["service", "uninstall"]) == 0
    assert log.read_text().splitlines() == [
        "--user show-environment",
        "--user daemon-reload",
        f"--user enable --now {there.name}",
        "--user show-environment",
        f"--user disable --now {there.name}",
        "--user show-environment",
        "--user daemon-reload",
    ]
    with_systemctl(tmp_path, "case $* in *enable*) echo no such luck >&2; exit 5;; esac")
    with pytest.raises(SwarmError, match="ended with 5: no such luck"):
        cli.run(["service", "install"])


def test_nothing_that_a_worker_starts_installs_a_service(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a worker show works, install and uninstall are refused."""
    monkeypatch.setenv("SWARM_TASK", "t")
    monkeypatch.setenv("SWARM_ATTEMPT", "1")
    assert cli.run(["service", "show"]) == 0
    for action in ("install", "uninstall"):
        with pytest.raises(Refused, match="inside a worker"):
            cli.run(["service", action])
    assert not there.exists()

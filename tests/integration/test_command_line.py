"""The command line from outside: what it prints, its exit codes, and what it costs to start. A real daemon where one is needed."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from swarm import __version__
from swarm.client import cli, commands, failure
from swarm.client.session import Session
from swarm.errors import Interrupted, Refused
from tests.conftest import git, wait_until

PROGRAM = [sys.executable, "-m", "swarm"]
PLAN = """
name = "demo"
[[tasks]]
id = "a"
title = "Make a"
claims = ["a.txt"]
run = "printf 'one\\\\rtwo \\\\033[31mred\\\\033[0m\\\\n'; echo a > a.txt"
[[tasks]]
id = "b"
title = "Make b"
needs = ["a"]
claims = ["b.txt"]
run = "echo b > b.txt"
"""
Swarm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment() -> dict[str, str]:
    """An environment in which the load of this machine keeps nothing from starting."""
    top = Path(__file__).parents[2]
    return {
        **os.environ,
        "PYTHONPATH": str(top),
        "SWARM_LIMITS__CPU_PERCENT_MAX": "1000",
        "SWARM_LIMITS__MEMORY_PERCENT_MAX": "1000",
        "SWARM_LIMITS__LADDER": "[[1000, 1.0]]",
    }


@pytest.fixture
def swarm(repo: Path, environment: dict[str, str]) -> Iterator[Swarm]:
    """Runs swarm in the repository as a user would; whatever daemon is left is stopped in the end."""

    def run(
        *words: str, env: dict[str, str] | None = None, cwd: Path = repo
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *words],
            cwd=cwd,
            env={**environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=240,
            stdin=subprocess.DEVNULL,
        )

    yield run
    if (repo / ".git" / "swarm" / "daemon.json").exists():
        run("stop", "--now")


def imported(repo: Path, environment: dict[str, str], *words: str) -> set[str]:
    """Gives the modules that a command line imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "swarm", *words],
        cwd=repo,
        env=environment,
        capture_output=True,
        text=True,
    )
    return {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }


HEAVY = {
    "click",
    "pydantic",
    "rich",
    "structlog",
    "asyncio",
    "git",
    "psutil",
    "anthropic",
    "subprocess",
    "typing",
    "datetime",
}


def test_status_and_help_import_next_to_nothing(
    repo: Path, environment: dict[str, str], swarm: Swarm
) -> None:
    """Status loads no library at all, nor do help and version; a plain command of click's none but click; what starts a daemon or
    hands it a plan leaves reading settings and plan to that, unless they have changed since.
    Where the daemon has ended, status reads what it left."""
    assert "pydantic" not in imported(repo, environment, "start")
    (repo / "empty.json").write_text("{}")
    for steers in ("submit", "run"):
        assert "pydantic" not in imported(repo, environment, steers, "empty.json")
    (repo / "swarm.toml").write_text("sandbox = 'off'\n")  # which the daemon does not know
    assert "pydantic" in imported(repo, environment, "run", "empty.json")
    for words in (["status"], ["status", "--json"], ["--help"], ["--version"]):
        loaded = imported(repo, environment, *words)
        assert not loaded & HEAVY, words
    assert not imported(repo, environment, "scale", "3") & (HEAVY - {"click", "typing", "datetime"})
    assert swarm("stop").returncode == 0
    loaded = imported(repo, environment, "status")
    assert not loaded & (HEAVY | {"sqlite3", "pathlib", "dataclasses"})
    assert "swarm.edge.last_status" in loaded


COLLECTIONS = """
import gc, sys
from swarm import __main__ as program
seen = []
gc.callbacks.append(lambda phase, _: phase == "stop" and seen.append(gc.get_threshold()[0]))
code = program.main()
print(code, seen.count(program.COLLECT_EVERY), file=sys.stderr)
"""


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_command_that_reads_a_plan_never_looks_through_what_it_loaded(
    command: str, swarm: Swarm, repo: Path, environment: dict[str, str]
) -> None:
    """The collector does not come to it: there is nothing for it, and it would take a tenth of the time until something is seen."""
    (repo / "plan.toml").write_text(PLAN)
    program = [sys.executable, "-c", COLLECTIONS, command, "plan.toml"]
    done = subprocess.run(program, cwd=repo, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr.splitlines()[-1] == "0 0", done.stderr
    swarm("stop", "--now")


def test_the_help_is_the_same_both_ways(swarm: Swarm) -> None:
    """The short way and click's print the same text, and every command explains itself."""
    short, long = swarm("--help"), swarm("-q", "--help")
    assert short.returncode == long.returncode == 0
    assert short.stdout == long.stdout
    assert swarm("--version").stdout == swarm("-q", "--version").stdout == f"swarm {__version__}\n"
    for name in commands.names():
        command = cli.program.get_command(click.Context(cli.program), name)
        assert command is not None
        assert command.name == name
        assert command.help, name
        assert all(
            getattr(option, "help", "") for option in command.params if isinstance(option, click.Option)
        ), name


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["statsu"], 2, "Did you mean status?"),
        (["scale"], 2, "Missing argument"),
        (["status", "--nope"], 2, "'--nope'"),
        (["logs"], 2, "Next: swarm logs --help"),
        (["-q", "statsu"], 2, "Next: swarm --help"),
        (["scale", "0"], 2, "0"),
        (["--json", "completion", "bash"], 2, "no document"),
        (["run", "nothing.toml"], 2, "There is no plan nothing.toml"),
        (["run", ""], 2, "The name of the plan is empty"),
        (["check", ""], 2, "The name of the plan is empty"),
        (["-C", "not-there", "status"], 2, "not-there"),
        (["-C", "not-there", "scale", "3"], 2, "not-there"),
        (["add", "--title", "x"], 2, "--run CMD or --prompt"),
        (["cancel"], 2, "Name tasks"),
        (["retry"], 2, "--failed"),
        (["status", "--all", "--run", "x"], 2, "--all"),
        (["status", "--run", "x"], 2, "There is no run x"),
        (["status", "--run", ""], 2, "--run is empty"),
        (["finish", "--into", ""], 2, "--into is empty"),
        (["run", "x.toml", "--only", "a", "--only", ""], 2, "--only is empty"),
        (["add", "--title", "x", "--run", "true", "--needs", " ,"], 2, "' ,' names nothing"),
        (["show", "x"], 2, "There is no task x"),
        (["events", "--run", "x"], 2, "There is no run x"),
        (["discard", "x"], 2, "There is no run x"),
        (["worktrees", "-q", "--force"], 2, "--force goes with --clean"),
        (["scale", "3"], 3, "No daemon runs"),
        (["wait"], 3, "No daemon runs"),
        (["-C", "", "-C", "src", "-C", "", "scale", "3"], 3, "No daemon runs"),
        (["retry", "x"], 3, "No daemon runs"),
        (["tell", "x", "y"], 3, "No daemon runs"),
        (["events", "-f"], 3, "No daemon runs"),
    ],
)
def test_what_goes_wrong_has_its_exit_code_and_no_traceback(
    swarm: Swarm, words: list[str], code: int, said: str
) -> None:
    """Usage is 2, a daemon that is needed and missing 3; the message says what to do and shows nothing of the inside, and no daemon
    is started to find out."""
    done = swarm(*words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.splitlines()[-1].startswith("  Next: ")
    assert "Traceback" not in done.stderr
    assert "Started" not in done.stderr
    assert (done.stdout == "") == ("--json" not in words)


@pytest.mark.slow
def test_a_plan_may_come_through_a_pipe(swarm: Swarm, repo: Path, environment: dict[str, str]) -> None:
    """Checked, run and submitted it is what a file would be, and the same run each time; what would need the file again is
    refused."""

    def piped(*words: str) -> subprocess.CompletedProcess[str]:
        read, write = os.pipe()
        with os.fdopen(read), os.fdopen(write, "w") as pipe:
            pipe.write(PLAN.replace('name = "demo"', ""))
            pipe.close()
            asked = [*PROGRAM, *words, f"/dev/fd/{read}"]
            return subprocess.run(
                asked,
                cwd=repo,
                env=environment,
                capture_output=True,
                text=True,
                timeout=240,
                pass_fds=(read,),
            )

    checked = piped("check", "--json")
    assert json.loads(checked.stdout)["plans"][0]["id"] == "plan", checked.stderr
    for words, option in ((["run", "--write-back"], "--write-back"), (["start", "--watch"], "--watch")):
        done = piped(*words)
        assert done.returncode == 2
        assert f"{option} needs the plan in a file" in done.stderr
        assert not (repo / ".git" / "swarm" / "daemon.json").exists()
    ran = piped("run")
    assert ran.returncode == 0, ran.stderr
    assert swarm("start").returncode == 0
    assert piped("submit").stdout.startswith("plan: 0 added, 0 replaced, 2 unchanged\n2 landed,")
    assert "/dev/fd/99" in swarm("check", "/dev/fd/99").stderr


@pytest.mark.slow
def test_without_a_main_checkout_it_says_so(swarm: Swarm, repo: Path, tmp_path: Path) -> None:
    """In a bare repository and in its linked worktrees init writes nothing, run starts nothing, and both say what is missing."""
    git(tmp_path, "clone", "-q", "--bare", str(repo), "hidden/.bare")
    git(tmp_path / "hidden" / ".bare", "worktree", "add", "-q", "--detach", str(tmp_path / "hidden" / "one"))
    (tmp_path / "plan.toml").write_text(PLAN)
    for cwd in (tmp_path / "hidden" / ".bare", tmp_path / "hidden" / "one"):
        for words in (["init"], ["run", str(tmp_path / "plan.toml")], ["start"]):
            done = swarm(*words, cwd=cwd)
            assert done.returncode == 2
            assert "is a bare repository, not a checkout" in done.stderr
            assert "Next: git clone it" in done.stderr
    assert sorted(path.name for path in (tmp_path / "hidden").iterdir()) == [".bare", "one"]
    assert not (tmp_path / "hidden" / ".bare" / "swarm.toml").exists()


def test_what_may_not_be_read_is_no_fault_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """A file of another user's ends a command with 4, its name and what to do, and leaves no traceback anywhere."""
    assert failure.exit_code(PermissionError(13, "Permission denied", "/there/journal")) == 4
    assert capsys.readouterr().err.splitlines() == [
        "/there/journal can't be used: Permission denied.",
        "  Next: work as the user that it belongs to",
    ]


def test_without_a_home_status_of_all_says_why_it_knows_none(swarm: Swarm) -> None:
    """Where neither HOME nor XDG_STATE_HOME is set, nothing says that swarm was never used."""
    assert "neither HOME nor" in swarm("status", "--all", env={"HOME": "", "XDG_STATE_HOME": ""}).stdout


@pytest.mark.slow
@pytest.mark.parametrize("words", [("-v", "status"), ("claims", "-v")])
def test_it_says_more_where_more_is_wanted(swarm: Swarm, repo: Path, words: tuple[str, ...]) -> None:
    """With -v stderr tells what is asked: the journal, or the daemon with its process. Without it, or with -q, nothing is told."""
    journal = swarm(*words)
    assert journal.stderr == f"The journal in {repo}/.git/swarm is read.\n"
    assert swarm(*words, "-q").stderr == ""
    assert swarm("start").returncode == 0
    pid = json.loads(swarm("status", "--json").stdout)["daemon"]["pid"]
    asked = swarm(*words)
    assert f"process {pid}" in asked.stderr
    assert swarm(*(word for word in words if word != "-v")).stderr == ""


def test_a_shell_can_complete_commands(repo: Path, environment: dict[str, str]) -> None:
    """What `swarm completion bash` prints makes bash complete commands and options, in a shell that sources it, and paths where
    they are meant, which it does by itself without that."""
    script = (
        f'swarm() {{ "{sys.executable}" -m swarm "$@"; }}; eval "$(swarm completion bash)";complete -p swarm'
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=repo, env=environment, capture_output=True, text=True, check=True
    )
    assert "_swarm_completion" in done.stdout
    asked = {"_SWARM_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    words = (
        {"COMP_WORDS": "swarm fin"},
        {"COMP_WORDS": "swarm finish --prev", "COMP_CWORD": "2"},
        {"COMP_WORDS": "swarm check pl", "COMP_CWORD": "2"},
        {"COMP_WORDS": "swarm start --watch pl", "COMP_CWORD": "3"},
        {"COMP_WORDS": "swarm -C pl", "COMP_CWORD": "2"},
    )
    told = [
        subprocess.run(
            PROGRAM,
            cwd=repo,
            env={**environment, **asked, **each},
            capture_output=True,
            text=True,
            check=True,
        )
        for each in words
    ]
    assert [each.stdout for each in told] == [
        "plain,finish\n",
        "plain,--preview\n",
        "file,pl\n",
        "file,pl\n",
        "dir,pl\n",
    ]


def test_outside_a_repository_it_says_so(swarm: Swarm, tmp_path: Path) -> None:
    """Exit 2 and a sentence, both ways round click."""
    for words in (["status"], ["-v", "claims"]):
        done = swarm(*words, cwd=tmp_path, env={"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
        assert done.returncode == 2
        assert "is not in a git repository" in done.stderr


def test_in_a_folder_that_is_gone_it_says_so(repo: Path, environment: dict[str, str]) -> None:
    """Where the current folder was deleted every command ends with 2 and a sentence."""
    for words in ("status", "-v claims"):
        typed = f"mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m swarm {words}"
        done = subprocess.run(["sh", "-c", typed], cwd=repo, env=environment, capture_output=True, text=True)
        assert done.returncode == 2
        assert "is gone: deleted or moved" in done.stderr


def test_inside_a_worker_reading_works_and_steering_does_not(swarm: Swarm) -> None:
    """With the names that a worker is given, what starts or steers is refused with 4 before it does anything."""
    worker = {"SWARM_RUN": "r", "SWARM_TASK": "t", "SWARM_ATTEMPT": "1"}
    assert swarm("start").returncode == swarm("stop").returncode == 0  # a worker has a journal outside
    for words in (
        ["run", "x"],
        ["start"],
        ["stop"],
        ["submit", "x"],
        ["scale", "3"],
        ["finish"],
        ["init"],
        ["worktrees", "open", "x"],
    ):
        for some in (worker, {"SWARM_TASK": "t"}):
            done = swarm(*words, env=some)
            assert done.returncode == 4, words
            assert "refused inside a worker" in done.stderr
    for words in (["status"], ["claims"], ["config"], ["worktrees"], ["run", "--help"]):
        assert swarm(*words, env=worker).returncode == 0, words


@pytest.mark.parametrize(
    "words", ["status", "show t", "logs t", "diff t", "claims", "claims --work", "events", "wait", "audit"]
)
def test_where_a_sandbox_shows_nothing_every_command_says_so(
    repo: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Inside a sandbox in which neither what swarm keeps nor its daemon is there, whatever asks for it is told that, and sent to no
    other command."""
    for name, value in {"SWARM_RUN": "r", "SWARM_TASK": "t", "SWARM_ATTEMPT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(repo)
    with pytest.raises(Refused) as refused:
        cli.run(words.split())
    assert "is not shown inside this sandbox" in refused.value.cause
    assert refused.value.next_step == "ask from outside"


def test_an_interrupt_while_a_plan_is_submitted_is_told(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C on `swarm run` before its plan was taken in ends it with 130 and says that, and what to type."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (repo / "plan.toml").write_text(PLAN)
    monkeypatch.chdir(repo)
    monkeypatch.setattr(Session, "with_daemon", interrupted)
    with pytest.raises(Interrupted) as ended:
        cli.run(["run", "plan.toml"])
    assert failure.exit_code(ended.value) == 130
    said = capsys.readouterr().err
    assert "Interrupted while the plan was being submitted" in said
    assert "Next: swarm status" in said


def test_a_fault_of_our_own_is_one_line_and_a_file(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What nobody foresaw ends with 1, names its kind, and leaves the traceback in a file whose path is printed."""
    (repo / ".git" / "swarm").mkdir()
    monkeypatch.chdir(repo / "src")
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("\x1b[31m")
    assert failure.exit_code(caught.value) == 1
    said = capsys.readouterr()
    log = repo / ".git" / "swarm" / "log" / "client.log"
    assert said.out == ""
    assert said.err.splitlines() == [
        "swarm failed in a way that it should not: ZeroDivisionError: \\x1b[31m",
        f"  The details are in {log}.",
    ]
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_a_reader_that_has_enough_is_no_error(repo: Path, swarm: Swarm, environment: dict[str, str]) -> None:
    """When the reader of a pipe goes away the program ends quietly."""
    child = subprocess.Popen(
        [*PROGRAM, "config", "--json"],
        cwd=repo,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(240) == 0


@pytest.mark.slow
def test_a_run_whose_output_nobody_reads_is_not_taken_for_landed(
    repo: Path, swarm: Swarm, environment: dict[str, str]
) -> None:
    """`swarm run … | head` detaches as Ctrl-C does, with 130, while work goes on; at its end, as for wait, the code is true."""
    (repo / "plan.toml").write_text(PLAN.replace("echo b > b.txt", "exit 3"))
    for words, code in ((["run", "plan.toml"], 130), (["wait"], 1), (["run", "-q", "plan.toml"], 1)):
        child = subprocess.Popen(
            [*PROGRAM, *words], cwd=repo, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.close()
        _, said = child.communicate(timeout=240)
        assert child.returncode == code, (words, said)
        assert (b"Detached" in said) == (code == 130)
        assert swarm("wait").returncode == 1


def test_init_writes_one_file_and_never_over_another(swarm: Swarm, repo: Path) -> None:
    """init makes swarm.toml at the top from anywhere, changes nothing else, and refuses with 4 where there is one."""
    assert swarm("-C", "src", "init").returncode == 0
    assert git(repo, "status", "--porcelain") == "?? swarm.toml"
    before = (repo / "swarm.toml").read_text()
    assert swarm("init").returncode == 4
    assert (repo / "swarm.toml").read_text() == before
    (repo / "swarm.toml").write_text("[limits]\nworkers_max = 3\nworker = 1\n")
    done = swarm("config")
    assert done.returncode == 2
    assert "swarm.toml:3: limits.worker" in done.stderr
    (repo / "swarm.toml").write_text("[limits]\nattempts = 3\n")
    rows = {row["key"]: row for row in json.loads(swarm("config", "--json").stdout)["settings"]}
    assert rows["limits.attempts"] == {"key": "limits.attempts", "value": 3, "source": "swarm.toml"}


def test_a_plan_is_carried_out_in_one_command(swarm: Swarm, repo: Path) -> None:
    """run starts a daemon, tells what lands as it lands, sums up, and can be looked at afterwards without a daemon."""
    (repo / "plan.toml").write_text(PLAN)
    done = swarm("run", "plan.toml")
    assert done.returncode == 0, done.stderr
    lines = [line[9:] for line in done.stdout.splitlines()]
    assert [line for line in lines if " landed (" in line] == ["a landed (1/2)", "b landed (2/2)"]
    assert "2 landed, 0 failed, 0 blocked in " in done.stdout
    assert "git log --first-parent main..swarm/demo/staging" in done.stdout
    wait_until(lambda: "No daemon runs" in swarm("status").stdout)
    assert "2 of 2 landed" in swarm("status").stdout
    assert json.loads(swarm("status", "--json").stdout)["runs"][0]["counts"]["landed"] == 2
    assert swarm("logs", "a").stdout == "two red\n"
    assert swarm("logs", "demo/a", "--grep", "blue").stdout == ""
    assert "\x1b[31m" in swarm("logs", "a", "--raw").stdout
    assert "+b\n" in swarm("diff", "b").stdout
    assert "attempt 1  landed" in swarm("show", "b").stdout
    assert json.loads(swarm("show", "b", "--json").stdout)["task"]["state"] == "landed"
    events = [json.loads(line) for line in swarm("events", "--json").stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert swarm("wait").returncode == 0
    assert swarm("check", "plan.toml").returncode == 0
    again = swarm("run", "plan.toml", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["runs"][0]["counts"]["landed"] == 2


def test_a_run_that_does_not_land_ends_with_one_and_says_why(swarm: Swarm, repo: Path) -> None:
    """The exit code is 1 and the end names the task and its reason."""
    (repo / "plan.toml").write_text(PLAN.replace("echo a > a.txt", "exit 3"))
    done = swarm("run", "plan.toml")
    assert done.returncode == 1
    assert "0 landed, 1 failed (worker_failed), 1 blocked in " in done.stdout
    assert "a failed: worker_failed" in done.stdout


def test_a_plan_that_is_not_taken_leaves_no_daemon_behind(swarm: Swarm, repo: Path) -> None:
    """An invalid plan ends run with 2, and the daemon that it started ends."""
    (repo / "plan.toml").write_text(PLAN.replace('needs = ["a"]', 'needs = ["nothing"]'))
    done = swarm("run", "plan.toml")
    assert done.returncode == 2
    assert "nothing" in done.stderr
    wait_until(lambda: "No daemon runs" in swarm("status").stdout)


def test_check_warns_of_an_agent_that_nobody_defines(swarm: Swarm, repo: Path) -> None:
    """A plan whose agent is not in swarm.toml is valid, and warned about, since run refuses it."""
    (repo / "plan.toml").write_text(
        'name = "x"\n[[tasks]]\nid = "a"\nclaims = ["a"]\nagent = "coder"\nprompt = "Do it."\n'
    )
    done = swarm("check", "plan.toml")
    assert done.returncode == 0
    assert (
        'warning  swarm.toml does not define the agent "coder": until it does, a run of this plan is refused'
        in done.stdout
    )
    assert swarm("run", "plan.toml").returncode == 2
    (repo / "swarm.toml").write_text('[agents.coder]\ncommand = ["true"]\n')
    assert "warning" not in swarm("check", "plan.toml").stdout


def test_a_plan_is_simulated_and_nothing_runs(swarm: Swarm, repo: Path) -> None:
    """simulate shows a schedule by the settings of the repository, the same each time, and starts no daemon; what is given on the
    command line goes before a file; 1 where not all would land."""
    (repo / "plan.toml").write_text(PLAN.replace("Make a", "Make \\u001b[31m"))
    (repo / "swarm.toml").write_text("[limits]\nworkers_max = 3\n")
    (repo / "times.toml").write_text("a = 5\nb = 100\n")
    asked = ("simulate", "plan.toml", "--durations", "times.toml", "--duration", "b=7")
    done = swarm(*asked, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert [each["workers"] for each in document["widths"]] == [1, 2, 3]
    assert [(task["starts_s"], task["lands_s"]) for task in document["schedule"]["tasks"]] == [
        (0, 5),
        (5, 12),
    ]
    assert (document["critical_path"], document["critical_path_s"], document["useful"]) == (["a", "b"], 12, 1)
    text = swarm(*asked).stdout
    assert text == swarm(*asked).stdout
    assert "demo: 2 tasks with 3 workers, simulated; nothing was run" in text
    assert "Not modelled: load and memory of the machine, merge conflicts" in text
    failing = swarm("simulate", "plan.toml", "--workers", "2", "--fail", "a")
    assert failing.returncode == 1
    assert "1 failed, 1 blocked" in failing.stdout
    assert "No daemon runs" in swarm("status").stdout
    assert not (repo / "a.txt").exists()


@pytest.mark.slow
def test_a_plan_needs_no_repository_to_be_simulated(tmp_path: Path, environment: dict[str, str]) -> None:
    """A plan file alone will do; an invalid one gets all that check says of it, and 2, as what makes no sense does."""

    def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, "simulate", *arguments],
            cwd=tmp_path,
            env={**environment, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
            capture_output=True,
            text=True,
            check=False,
        )

    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "wrong.toml").write_text(PLAN.replace('["a"]', '["no", "nobody"]').replace('"b.txt"', '"/b"'))
    assert simulate("plan.toml").returncode == 0
    wrong = simulate("wrong.toml", "--json")
    assert wrong.returncode == 2
    assert len(json.loads(wrong.stdout)["plans"][0]["errors"]) == 3
    for given, said in [
        (("--workers", "0"), "0 is no number of workers from 1 to 1000"),
        (("--duration", "soon"), "not a number of seconds"),
        (("--duration", "a=-1"), "--duration a=-1 is not a number of seconds"),
        (("--duration", "-5"), "--duration -5 is not a number of seconds"),
        (("--verify-s", "-1"), "--verify-s -1 is not a number of seconds"),
        (("--verify-s", "nan"), "--verify-s nan is not a number of seconds"),
        (("--fail-rate", "nan"), "--fail-rate nan is not a chance from 0 to 1"),
        (("--fail", "c=2"), "The plan has no task c."),
        (("--learn",), "not in a git repository"),
    ]:
        done = simulate("plan.toml", *given)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_a_daemon_is_steered_from_the_command_line(swarm: Swarm, repo: Path) -> None:
    """start, submit, pause, add, scale, wait, finish and stop do what they say, and say it."""
    assert swarm("start", "--workers", "2").returncode == 0
    assert "already running" in swarm("start").stdout
    assert "Paused everything" in swarm("pause").stdout
    (repo / "plan.toml").write_text(PLAN)
    assert swarm("submit", "plan.toml").stdout.splitlines() == [
        "demo: 2 added, 0 replaced, 0 unchanged",
        "0 landed, 0 failed, 0 blocked, 2 to go",
    ]
    added = swarm("add", "--title", "Make c", "--claim", "c.txt", "--run", "echo c > c.txt", "--json")
    assert json.loads(added.stdout)["submitted"]["added"] == ["make-c"]
    added = swarm("add", "--title", "Тест", "--claim", "d.txt", "--run", "echo d > d.txt", "--json")
    (named,) = json.loads(added.stdout)["submitted"]["added"]
    assert re.fullmatch("x-[0-9a-f]{6}", named)
    assert f"Cancelled: demo/{named}" in swarm("cancel", named).stdout
    assert "paused" in swarm("status").stdout
    assert swarm("wait", "--timeout", "0.05").returncode == 124
    assert swarm("scale", "1").returncode == 0
    assert json.loads(swarm("status", "--json").stdout)["capacity"]["workers_max"] == 1
    assert "Cancelled: demo/make-c" in swarm("cancel", "make-c").stdout
    assert swarm("tell", "b", "be", "quick").returncode == 0
    assert swarm("finish").returncode == 4
    assert swarm("resume").returncode == 0
    assert swarm("wait").returncode == 1
    assert "Tried again: demo/make-c" in swarm("retry", "make-c").stdout
    assert "3 landed" in swarm("wait").stdout
    assert "a.txt" in swarm("finish", "--preview").stdout
    assert "is on main" in swarm("finish").stdout
    assert git(repo, "ls-tree", "--name-only", "main").split() == [
        "README.md",
        "a.txt",
        "b.txt",
        "c.txt",
        "src",
    ]
    assert "staging" in swarm("worktrees").stdout
    assert str(repo) in swarm("status", "--all").stdout
    assert "Stopped" in swarm("stop").stdout
    assert swarm("stop").stdout == "No daemon runs.\n"


LAST_BREATH = """
import json, os, socket, sys
from swarm import protocol
state = sys.argv[1]
os.mkdir(state)
path = protocol.socket_path(state, os.environ)
os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
listener.settimeout(60)
with open(os.path.join(state, "daemon.json"), "w") as file:
    json.dump({"pid": os.getpid(), "socket": path}, file)
print("up", flush=True)
listener.accept()[0].close()  # somebody looks whether there is one
asked, _ = listener.accept()
asked.recv(1)
"""


def test_a_daemon_that_ends_by_itself_over_being_stopped_has_stopped(
    swarm: Swarm, repo: Path, environment: dict[str, str]
) -> None:
    """Where the daemon hears of the stop only as it ends, and answers nothing any more, it has ended as was asked."""
    state = repo / ".git" / "swarm"
    with subprocess.Popen(
        [sys.executable, "-c", LAST_BREATH, str(state)], stdout=subprocess.PIPE, text=True, env=environment
    ) as ending:
        assert ending.stdout is not None
        assert ending.stdout.readline() == "up\n"
        done = swarm("stop")
    assert (done.returncode, done.stdout[:7]) == (0, "Stopped"), done.stderr


# --- in a terminal ----------------------------------------------------------------------------------------------------------


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, cwd: Path, environment: dict[str, str], *words: str) -> None:
        self.seen = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(
                sys.executable,
                [*PROGRAM, *words],
                {**environment, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
            )

    def until(self, said: str, at_most_s: float = 120.0) -> None:
        """Reads until the program has shown something."""
        end = time.monotonic() + at_most_s
        while said not in self.seen:
            assert time.monotonic() < end, self.seen
            self._read(0.1)

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return True
        with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
            data = os.read(self._fd, 65536)
            self.seen += data.decode("utf-8", "replace")
            return bool(data)
        return False

    def interrupt(self) -> None:
        """Presses Ctrl-C."""
        os.write(self._fd, b"\x03")

    def end(self) -> int:
        """Waits for the end and gives the exit code."""
        while self._read(30.0):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


def test_ctrl_c_leaves_a_run_to_itself(swarm: Swarm, repo: Path, environment: dict[str, str]) -> None:
    """In a terminal run draws live; Ctrl-C ends it with 130, says how to come back, and the run goes on to its end."""
    gate = repo / "gate"
    os.mkfifo(gate)
    (repo / "plan.toml").write_text(PLAN.replace("echo b > b.txt", f"read x < {gate}; echo b > b.txt"))
    terminal = Terminal(repo, environment, "run", "plan.toml")
    terminal.until("1 of 2 landed")
    terminal.interrupt()
    assert terminal.end() == 130
    assert "Detached" in terminal.seen
    assert "swarm status --watch" in terminal.seen
    with gate.open("w") as file:
        file.write("go\n")
    assert swarm("wait").returncode == 0


@pytest.mark.slow
def test_an_interrupt_in_a_pipe_detaches_too(swarm: Swarm, repo: Path, environment: dict[str, str]) -> None:
    """Where no terminal is, SIGINT ends run with 130 as well, and what it said before is there line by line."""
    gate = repo / "gate"
    os.mkfifo(gate)
    (repo / "plan.toml").write_text(PLAN.replace("echo b > b.txt", f"read x < {gate}; echo b > b.txt"))
    child = subprocess.Popen(
        [*PROGRAM, "run", "plan.toml"],
        cwd=repo,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    lines: list[str] = []
    while not lines or "b started" not in lines[-1]:
        lines.append(child.stdout.readline())
        assert lines[-1], lines
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=240)
    assert child.returncode == 130
    assert "Detached: run demo goes on" in said
    with gate.open("w") as file:
        file.write("go\n")
    assert swarm("wait").returncode == 0


def test_watching_shows_changes_until_ctrl_c(swarm: Swarm, repo: Path, environment: dict[str, str]) -> None:
    """status --watch draws what is new without being asked again, with colour unless NO_COLOR is set; the last picture stays."""
    assert swarm("start").returncode == 0
    terminal = Terminal(repo, environment, "status", "--watch")
    terminal.until("No runs yet")
    (repo / "plan.toml").write_text(PLAN)
    swarm("submit", "plan.toml")
    terminal.until("2 of 2 landed")
    terminal.until("\x1b[32m")  # the frame may come in pieces
    terminal.interrupt()
    assert terminal.end() == 130
    assert "2 of 2 landed" in terminal.seen.rpartition("\x1b[2K")[2]  # and no line is erased after that
    plain = Terminal(repo, {**environment, "NO_COLOR": "1"}, "status")
    assert plain.end() == 0
    assert "2 of 2 landed" in plain.seen
    assert "\x1b" not in plain.seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_live_view_that_is_killed_leaves_the_cursor_shown(
    repo: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    """A polite kill and a closed terminal end a live view by that very signal, and the last word about the cursor shows it."""
    terminal = Terminal(repo, environment, "status", "--watch")
    terminal.until("No runs yet")
    assert "\x1b[?25l" in terminal.seen
    os.kill(terminal.pid, number)
    assert terminal.end() == -number
    assert "\x1b[?25h" in terminal.seen.rpartition("\x1b[?25l")[2]


def test_logs_are_followed_to_the_end_of_the_attempt(
    swarm: Swarm, repo: Path, environment: dict[str, str]
) -> None:
    """logs -f shows lines as they are written and ends by itself when the task has."""
    gate = repo / "gate"
    os.mkfifo(gate)
    text = PLAN.replace("echo a > a.txt", f"echo early; read x < {gate}; echo late; echo a > a.txt")
    (repo / "plan.toml").write_text(text)
    assert swarm("start").returncode == 0
    swarm("submit", "plan.toml")
    child = subprocess.Popen(
        [*PROGRAM, "logs", "-f", "a"], cwd=repo, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert [child.stdout.readline(), child.stdout.readline()] == ["two red\n", "early\n"]
    with gate.open("w") as file:
        file.write("go\n")
    assert child.stdout.read() == "late\n"
    child.stdout.close()
    assert child.wait(240) == 0

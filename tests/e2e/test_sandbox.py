"""The same stories with workers that are shut in: nothing of what the daemon promises is different for them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from swarm.edge import landlock
from tests.conftest import git, wait_until
from tests.e2e.driver import Swarm, runs, verified_in
from tests.e2e.test_ends import task_of


def works() -> bool:
    """Tells whether bubblewrap is there and works."""
    if shutil.which("bwrap") is None:
        return False
    asked = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-pid", "true"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


needs_landlock = pytest.mark.skipif(landlock.lacks() != "", reason=landlock.lacks())
needs_bubblewrap = pytest.mark.skipif(
    not works(), reason="needs bubblewrap, which is not there or does not work"
)
pytestmark = needs_bubblewrap


@pytest.fixture
def shut_in(swarm: Swarm) -> Swarm:
    """The program with a sandbox that is required."""
    return swarm.shut_in()


@pytest.mark.slow
def test_it_is_told_what_is_in_force(shut_in: Swarm) -> None:
    """Status, show and doctor name the sandbox; with it switched off they say that there is none, and why."""
    run = shut_in.run(shut_in.plan("one", [shut_in.task("t")]))
    assert task_of(run, "t")["attempts"][0]["sandbox"] == "bubblewrap"
    shut_in("start")
    assert shut_in.status()["daemon"]["sandbox"] == {"in_force": "bubblewrap", "reason": ""}
    assert "workers shut in by bubblewrap" in shut_in("status").out
    assert "bubblewrap" in shut_in("show", "t").out
    assert "ok    sandbox: bubblewrap" in shut_in("doctor", code=None).out
    shut_in("stop")
    shut_in("start", SWARM_SANDBOX="off")
    assert shut_in.status()["daemon"]["sandbox"] == {"in_force": "none", "reason": "it is switched off"}
    assert "NO SANDBOX" in shut_in("status").out


@pytest.mark.slow
def test_what_was_left_in_a_stash_is_told_to_whoever_comes_next(shut_in: Swarm) -> None:
    """Who stashes all it did has changed nothing, and is told where that is kept; the next attempt can take it from there."""
    again = (
        'git checkout -q "$(git rev-parse "$branch^2")^3" -- g && grep -q "$branch" "$SWARM_FEEDBACK_FILE"'
    )
    work = (
        "if [ $SWARM_ATTEMPT = 1 ]; then echo precious > g; git stash -q -u;"
        f" else branch=swarm/$SWARM_RUN/saved/$SWARM_TASK/1-1; {again}; fi"
    )
    run = shut_in.run(shut_in.plan("r", [shut_in.task("t", work, claims=["g"], attempts=2)]))
    first, second = task_of(run, "t")["attempts"]
    assert (first["reason"]["code"], first["besides"]) == ("empty", "swarm/r/saved/t/1-1")
    assert (second["touched"], second["besides"]) == (["g"], None)
    assert "git log --stat --diff-merges=first-parent" in shut_in("show", "t").out


@pytest.fixture
def without_bubblewrap(tmp_path: Path) -> str:
    """A PATH on which all programs are but bubblewrap."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).iterdir() if os.path.isdir(folder) else ():
            if program.name != "bwrap" and not os.path.lexists(programs / program.name):
                (programs / program.name).symlink_to(program)
    return str(programs)


@needs_landlock
def test_without_bubblewrap_the_kernel_shuts_in(shut_in: Swarm, without_bubblewrap: str) -> None:
    """Where there is no bubblewrap, workers are shut in by Landlock: status, show and doctor say so and why; what a worker commits
    on a branch of its own comes out, and its commit in the repository is none of the repository's. It is not told how things stand,
    nor anything that is not so."""
    shut_in.env["PATH"] = without_bubblewrap
    work = "git switch -qc feature && echo 1 > out && git add out && git commit -qm one && echo x > $TMPDIR/x && echo no > {}"
    touched = shut_in.top / "README.md"
    told = shut_in.outside / "told"
    ask = f"{shlex.join(shut_in.program)} status >> {told} 2>&1; echo $? >> {told}"
    task = {"id": "t", "run": f"{ask}; {work.format(touched)} || true", "claims": ["out"]}
    run = shut_in.run(shut_in.plan("one", [task], verify=[f"cd {shut_in.top}; {ask}"]))
    said = told.read_text()
    assert said.count("is not shown inside this sandbox") == said.count("\n4\n") == 2, said
    assert "No daemon" not in said
    shut_in.check_landed(run)
    assert task_of(run, "t")["attempts"][0]["sandbox"] == "landlock"
    assert task_of(run, "t")["attempts"][0]["touched"] == ["out"]
    assert git(shut_in.top, "branch", "--list", "feature") == ""
    assert git(shut_in.top, "status", "--porcelain", "README.md") == ""
    shut_in("start")
    why = "bubblewrap (bwrap) is not installed; suites and setup reach Unix sockets, /tmp and /dev/shm"
    assert shut_in.status()["daemon"]["sandbox"] == {"in_force": "landlock", "reason": why}
    assert f"workers shut in by landlock ({why})" in shut_in("status").out
    doctor = shut_in("doctor", code=None, SWARM_SANDBOX_SETUP="false").out
    assert "warn  sandbox: landlock" in doctor
    assert "sandbox_setup = false, so they run outside; suites and setup reach Unix sockets" in doctor


LAYERS_MAX = 16  # of Landlock, one upon the other
NO_FURTHER = f"""
import os, sys
from swarm.edge import landlock
for _ in range({LAYERS_MAX}):
    landlock.restrict([("write", "/")])
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.slow
@needs_landlock
def test_without_one_required_is_refused_and_auto_says_so(swarm: Swarm, without_bubblewrap: str) -> None:
    """Where there is neither bubblewrap nor Landlock, a daemon with sandbox = "required" does not start and says what to do; with
    "auto" it starts, and status says loudly that there is none."""
    swarm.env["PATH"] = without_bubblewrap
    swarm.prefix = (sys.executable, "-c", NO_FURTHER)
    refused = swarm("start", code=2, SWARM_SANDBOX="required")
    assert "bubblewrap (bwrap) is not installed; landlock does not work here" in refused.err
    assert "Next:" in refused.err
    swarm("start", SWARM_SANDBOX="auto")
    assert "NO SANDBOX: bubblewrap (bwrap) is not installed; landlock" in swarm("status").out
    assert "bad" in swarm("doctor", code=None, SWARM_SANDBOX="required").out


@pytest.mark.slow
def test_work_is_collected_and_lands(shut_in: Swarm) -> None:
    """Files that are left, commits, commits on a branch of the worker's own, and what it says of itself, come out of the sandbox;
    nothing of its branches, settings and temporary files stays in the repository."""
    plan = shut_in.plan(
        "work",
        [
            shut_in.task("left"),
            shut_in.task("committed", "echo 1 > c && git add c && git commit -qm one && git stash list", claims=["c"]),
            shut_in.task(
                "branched",
                "git switch -qc feature && echo 1 > b && git add b && git commit -qm two && git config swarm.evil 1"
                " && echo x > /tmp/swarm-evil && echo '{\"summary\": \"from inside\"}' > $SWARM_RESULT_FILE",
                claims=["b"],
            ),
        ],
    )  # fmt: skip
    run = shut_in.run(plan)
    shut_in.check_landed(run)
    assert task_of(run, "branched")["attempts"][0]["touched"] == ["b"]
    assert "from inside" in shut_in("show", "branched", "--json").out
    assert [shut_in.content("work", name) for name in ("c", "b")] == ["1\n", "1\n"]
    assert git(shut_in.top, "branch", "--list", "feature") == ""
    assert not Path("/tmp/swarm-evil").exists()
    assert not list((shut_in.top / ".git" / "swarm" / "attempts").rglob("own"))


@pytest.mark.slow
def test_a_failed_attempt_is_tried_again(shut_in: Swarm) -> None:
    """What failed is tried again, with the feedback where the worker can read it."""
    work = '[ "$SWARM_ATTEMPT" = 2 ] || exit 1; cat "$SWARM_FEEDBACK_FILE" > out'
    run = shut_in.run(shut_in.plan("again", [shut_in.task("t", work, claims=["out"], attempts=2)]))
    assert [each["state"] for each in task_of(run, "t")["attempts"]] == ["failed", "landed"]
    assert "exit code 1" in str(shut_in.content("again", "out"))


@pytest.mark.slow
def test_a_conflict_is_handed_back(shut_in: Swarm) -> None:
    """Work that conflicts goes back to its worker, which settles it in the second attempt."""
    work = 'if [ "$SWARM_ATTEMPT" = 1 ]; then echo {0} > same; git add same; git commit -qm {0}; else echo both > same; fi'
    tasks = [
        shut_in.task(
            name,
            work.format(name),
            claims=[{"path": "same", "mode": "shared"}],
            gate=f"{name}-$SWARM_ATTEMPT",
        )
        for name in ("a", "b")
    ]
    shut_in("start", "--plan", str(shut_in.plan("clash", tasks)))
    shut_in.wait_for_gate("a", "b")
    for gate in ("a-1", "a-2", "b-1", "b-2"):
        shut_in.open(gate)
    run = shut_in.wait("clash")
    assert [len(task["attempts"]) for task in run["tasks"]] in ([1, 2], [2, 1])
    shut_in.check_landed(run)


def test_a_worker_outlives_its_daemon(shut_in: Swarm) -> None:
    """A worker that is shut in goes on when its daemon is killed with -9; the next one adopts it, and its work lands once."""
    work = "git switch -qc own && echo 1 > out && git add out && git commit -qm first"
    task = shut_in.task("t", work, claims=["out"], gate="go")
    shut_in("start", "--plan", str(shut_in.plan("r", [task])))
    shut_in.wait_for_gate("t")
    launcher = shut_in.launchers("r", "t")["t"]
    shut_in.end_daemon()
    assert runs(launcher)
    shut_in("start")
    assert shut_in.launchers("r", "t")["t"] == launcher
    shut_in.open("go")
    shut_in.check_landed(shut_in.wait("r"))
    assert shut_in.starts() == ["t"]


@pytest.mark.slow
def test_a_timeout_ends_the_whole_tree(shut_in: Swarm) -> None:
    """At its time limit a worker is asked first, and may still write; then all that it started is gone, in whatever session."""
    asked = shut_in.outside / "asked"
    work = (
        f"trap 'echo asked > {asked}; exit 3' TERM; (setsid sh -c 'trap \"\" TERM; sleep 1000' &); "
        "while :; do sleep 0.1; done"
    )
    task = {"id": "t", "title": "t", "run": work, "timeout_s": 2, "attempts": 1}
    run = shut_in.run(shut_in.plan("late", [task]), code=1)
    assert task_of(run, "t")["reason"]["code"] == "timeout"
    wait_until(asked.exists)
    wait_until(lambda: not [line for line in shut_in.left_running() if "sleep" in line])


def test_what_a_worker_leaves_running_ends_with_it(shut_in: Swarm) -> None:
    """A process that a worker left behind, in its own session with a clean environment, is gone before its work is collected."""
    mark = f"98{os.getpid()}"
    work = f"env -i setsid sleep {mark} & echo 1 > out"
    shut_in.run(shut_in.plan("left", [shut_in.task("t", work, claims=["out"])]))
    assert not [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())]


@pytest.mark.parametrize("by", ["bubblewrap", pytest.param("landlock", marks=needs_landlock)])
def test_suites_and_setup_are_shut_in(shut_in: Swarm, without_bubblewrap: str, by: str) -> None:
    """A suite and the setup command see the candidate and nothing of the repository, can use git, and what they write to their home
    and temporary folder goes with them; their network and their caches are as the settings say."""
    if by == "landlock":
        shut_in.env["PATH"] = without_bubblewrap
    (shut_in.top / "swarm.toml").write_text(
        '[worktrees]\nsetup = "echo $HOME > .home; git describe --always > .described"\n'
    )
    (shut_in.top / ".gitignore").write_text(".home\n.described\n")
    git(shut_in.top, "add", "-A")
    git(shut_in.top, "commit", "-qm", "settings")
    shut_in.look_again()
    seen = shut_in.outside / "seen"
    suite = f"""
        git config user.name x; git config user.email x; echo > new; git add -A; git stash -q && git stash pop -q
        git commit -qm x --allow-empty && git log -1 --format=%s > {seen}
        echo $TMPDIR $HOME $COVERAGE_FILE >> {seen}; cat .home .described >> {seen}
        cat {shut_in.top}/.git/HEAD {shut_in.top}/.git/swarm/daemon.json >> {seen}
        for place in $TMPDIR ~/.cache {shut_in.top} {shut_in.top}/.git; do echo evil > $place/swarm-evil; done
        [ -e ~/.cache/swarm-evil ] || exit 1
    """
    run = shut_in.run(shut_in.plan("r", [shut_in.task("t")], verify=[suite]))
    shut_in.check_landed(run)
    subject, places, home, described, *inside = seen.read_text().splitlines()
    temporary, own_home, coverage = places.split()
    own = str(Path(own_home).parent)
    assert subject == "x"
    assert temporary == ("/tmp" if by == "bubblewrap" else f"{own}/tmp")
    assert coverage == f"{temporary}/.coverage"
    assert own_home.startswith(f"{verified_in(shut_in.top)}/")
    assert home.startswith(f"{verified_in(shut_in.top)}/")
    assert described
    assert inside == []
    assert not Path("/tmp/swarm-evil").exists()
    assert not list(shut_in.top.rglob("swarm-evil"))
    assert not list((verified_in(shut_in.top) / ".own").iterdir())


LOOK = """
look() {{
    for c in "status" "show t" "claims" "events" "logs t" "cancel t"; do {program} $c; echo "$c: $?"; done
    env -u SWARM_TASK {program} stop; echo "nameless stop: $?"
}} >> {outside}/said 2>&1
look; python3 {outside}/post.py >> {outside}/said 2>&1; touch {outside}/first
until [ -e {outside}/go ]; do sleep 0.05; done
look; echo 1 > out
"""
POST = """
import json, socket
wire = socket.socket(socket.AF_UNIX)
wire.connect(json.load(open("{top}/.git/swarm/daemon.json"))["socket"])
wire.send(b'POST /v1/stop HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 15\\r\\n\\r\\n{{"mode": "now"}}')
print("posted", wire.recv(12))
"""


@pytest.mark.slow
def test_a_worker_sees_how_things_stand_and_changes_nothing(shut_in: Swarm) -> None:
    """INTERFACE 6: inside the sandbox what reads works, also with the daemon that comes after a killed one; what steers is refused,
    and so is a request for a change that is sent by hand to the socket."""
    said, outside = shut_in.outside / "said", shut_in.outside
    (outside / "look.sh").write_text(LOOK.format(program=" ".join(shut_in.program), outside=outside))
    (outside / "post.py").write_text(POST.format(top=shut_in.top))
    task = shut_in.task("t", f"sh {outside}/look.sh", claims=["out"])
    shut_in("start", "--plan", str(shut_in.plan("r", [task])))
    wait_until((outside / "first").exists)
    shut_in.end_daemon()
    shut_in("start")
    (outside / "go").touch()
    shut_in.check_landed(shut_in.wait("r"))
    text = said.read_text()
    for line in (
        "status: 0",
        "show t: 0",
        "claims: 0",
        "events: 0",
        "logs t: 4",
        "cancel t: 4",
        "nameless stop: 4",
        "r/t  running",
    ):
        assert text.count(line) == 2, text
    assert text.count("posted") == text.count("posted b'HTTP/1.1 409'") == 1, text

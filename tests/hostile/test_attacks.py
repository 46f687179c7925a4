"""Workers that mean harm: whatever one of them does, coordinator, siblings and user have nothing of it."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from swarm import protocol
from tests.conftest import git, wait_until
from tests.e2e.conftest import swarm as swarm
from tests.e2e.conftest import swarm_in as swarm_in
from tests.e2e.driver import PATIENCE_S, Swarm, common_dir
from tests.e2e.test_ends import task_of
from tests.e2e.test_places import as_nobody
from tests.e2e.test_places import open_folder as open_folder
from tests.e2e.test_sandbox import needs_bubblewrap, needs_landlock
from tests.e2e.test_sandbox import without_bubblewrap as without_bubblewrap

SECRET = "sk-attack-0123456789"

# Runs what is planted, unless a worker runs it: what a worker's own git runs is the worker's.
PAYLOAD = '[ -n "$SWARM_TASK" ] || echo "$0 $*" >> {canary}'

POST = (
    'import os, socket; s = socket.socket(socket.AF_UNIX); s.connect(os.environ["AT"]);'
    's.send(b"POST /v1/stop HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 15\\r\\n\\r\\n{\\"mode\\": \\"now\\"}"); s.recv(99)'
)

# Each is tried in a worktree of its own, twice: $G is the repository's folder, $A the worktree's record, first as git names them
# inside, then as they are outside; $TOP is the user's checkout. Nothing here knows of the sandbox: an attack that a worker only
# does to itself is none, so what counts is what is found afterwards.
ATTACKS = {
    "config": "git config core.fsmonitor {run}; git config core.sshCommand {run}; git config core.editor {run};"
    "git config include.path /tmp/evil; git config core.hooksPath /tmp/hooks; git config alias.status '!{run}'",
    "config-file": "printf '[core]\\n fsmonitor = {run}\\n' >> $G/config",
    "filter": "git config filter.evil.clean {run}; git config filter.evil.smudge {run};"
    "git config filter.evil.process {run}; git config merge.evil.driver {run};"
    "printf '* filter=evil merge=evil diff=evil\\n' > $G/info/attributes; git config diff.evil.textconv {run}",
    "hooks": "mkdir -p $G/hooks; for h in post-checkout post-commit post-merge reference-transaction pre-commit post-index-change"
    " pre-auto-gc update post-update; do cp {run} $G/hooks/$h; chmod +x $G/hooks/$h; done",
    "worktree-config": "printf '[core]\\n fsmonitor = {run}\\n worktree = /\\n' > $A/config.worktree;"
    "git config extensions.worktreeConfig true",
    "head": "echo 'ref: refs/heads/evil' > $G/HEAD; git -C $TOP switch -qc evil; git -C $TOP symbolic-ref HEAD refs/heads/evil",
    "refs": "git commit -q --allow-empty -m evil; for r in $(git for-each-ref --format='%(refname)'); do git update-ref $r HEAD;"
    "done; echo 0000 > $G/refs/heads/main; rm -rf $G/refs/heads/swarm; git branch -f main HEAD; git tag -f evil",
    "packed-refs": "echo > $G/packed-refs; git pack-refs --all --prune; rm -f $G/packed-refs",
    "objects": "chmod -R u+w $G/objects $G/shared-objects; find $G/objects $G/shared-objects -type f -exec rm -f {{}} +",
    "alternates": "echo /evil > $G/objects/info/alternates; echo /evil > $G/shared-objects/info/alternates",
    "gc": "git reflog expire --expire=now --all; git gc -q --prune=now --aggressive; git prune --expire=now;"
    "git worktree prune --expire=now; git repack -adq",
    "git-file": "echo 'gitdir: /evil' > .git; mv .git .git2; rm -f .git",
    "commondir": "echo /evil > $A/commondir; mv $A/commondir $A/x; echo /evil > $A/gitdir; rm -rf $A/gitdir",
    "record": "rm -f $A/HEAD; echo 'ref: refs/heads/../../../etc/passwd' > $A/HEAD; rm -f $A/index; mkfifo $A/index;"
    "ln -sf /etc/passwd $A/MERGE_HEAD; mkfifo $A/REBASE_HEAD",
    "siblings": "for w in $TOP/.worktrees/pool/*; do [ $w = $PWD ] || {{ echo evil > $w/evil; rm -rf $w/src $w/.git; }}; done;"
    "for r in $G/worktrees/*; do [ $r = $A ] || {{ echo evil > $r/HEAD; rm -rf $r; }}; done;"
    "for w in $TOP/.worktrees/pool/*; do [ $w = $PWD ] || git worktree remove --force --force $w; done",
    "pool": "rm -rf $TOP/.worktrees/pool/.pool; echo '{{}}' > $TOP/.worktrees/pool/.pool/1.json",
    "checkout": "echo evil > $TOP/README.md; rm -rf $TOP/src; echo evil > $TOP/evil; rm -f $G/index; git -C $TOP add -A;"
    "git -C $TOP commit -qm evil; git -C $TOP stash; git -C $TOP reset -q --hard HEAD~9; git -C $TOP clean -ffdxq -e .worktrees",
    "stash": "echo evil > evil; git stash -u; git stash drop; git update-ref -d refs/stash; rm -rf $G/logs",
    "state": "rm -rf $G/swarm/journal.sqlite* $G/swarm/landing.git; echo evil > $G/swarm/daemon.json;"
    "echo '  0' > $G/swarm/attempts/attack/state/1/worker/exit; rm -rf $G/swarm/attempts",
    "socket": "for at in {socket} $G/swarm/api.sock; do AT=$at python3 -c '{post}'; done",
    "result": "rm -rf $SWARM_RESULT_FILE; ln -s /etc/passwd $SWARM_RESULT_FILE; rm -rf $HOME /tmp/..; mkfifo $SWARM_PROMPT_FILE",
    "processes": "kill -9 -1; kill -9 $PPID; for p in /proc/[0-9]*; do kill -9 ${{p#/proc/}}; done",
    "outside": "echo evil > /etc/swarm-evil; echo evil > {outside}/evil; echo evil > $REAL_HOME/.bashrc; echo evil > /usr/evil;"
    "echo evil >> $REAL_HOME/.ssh/authorized_keys; mount -o remount,rw /; echo evil > /etc/swarm-evil",
    # Only opened: what could be written there would be the machine's. A setting that opens leaves its name in what is landed.
    "kernel": "for f in $(find /proc/sys /proc/sysrq-trigger /sys/kernel /sys/fs -type f -perm /222);"
    "do command : >> $f && echo $f >> evil-kernel; done 2>/dev/null",
    "links": "ln -s $TOP up; echo evil > up/evil; ln -s {outside} out; echo evil > out/evil; rm -f up out",
    "secrets": "env; cat $REAL_HOME/.ssh/id $REAL_HOME/.netrc $HOME/.ssh/id $HOME/.netrc $REAL_HOME/.config/gh/hosts.yml;"
    "cat /proc/[0-9]*/environ",
}  # fmt: skip
SUICIDAL = {"processes"}  # a worker that ends itself has failed


def task(name: str, command: str, top: Path | str = "", **more: Any) -> dict[str, Any]:
    """An attack on the checkout `top` that goes on to do its work, whatever has become of it."""
    return {
        "id": name,
        "title": name,
        "claims": [f"out-{name}"],
        "attempts": 1,
        "run": f"G=$(git rev-parse --path-format=absolute --git-common-dir); A=$(git rev-parse --absolute-git-dir); TOP={top}\n"
        f"attack() {{\n( {command} ) </dev/null 2>&1\n}}\n"
        "attack; A=$TOP/.git/worktrees/${A##*/}; [ $G = $TOP/.git ] || { G=$TOP/.git; attack; }\n"
        f"echo {name} > out-{name}",
        **more,
    }


class Field:
    """A repository under attack: what is planted runs `run`, which leaves a line in `canary` where no worker runs it. They lie in
    the home, which is nobody's to write to wherever tests have their folders."""

    def __init__(self, swarm: Swarm, folder: Path) -> None:
        self.swarm = swarm
        home = folder / "real-home"
        self.canary, self.run, self.outside = home / "canary", home / "run", home / "outside"
        self.outside.mkdir(parents=True)
        self.run.write_text(f"#!/bin/sh\n{PAYLOAD.format(canary=self.canary)}\n")
        self.run.chmod(0o755)
        for name in (".ssh/id", ".netrc", ".config/gh/hosts.yml"):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(f"{SECRET}\n")
        (home / ".bashrc").write_text("# mine\n")
        self.home = home
        swarm.env |= {"HOME": str(home), "SOME_API_KEY": SECRET, "REAL_HOME": str(home)}
        swarm.env |= {"SWARM_SANDBOX_ENV": json.dumps(["REAL_HOME"])}
        swarm.env |= {"SWARM_SANDBOX_PATHS__READ": json.dumps([str(swarm.outside)])}  # where the gate is

    def attacks(self, names: Any) -> dict[str, str]:
        """What attacks do, by name."""
        socket = protocol.socket_path(str(common_dir(self.swarm.top) / "swarm"), self.swarm.env)
        fill = {
            "run": self.run,
            "canary": self.canary,
            "outside": self.outside,
            "socket": socket,
            "post": POST,
        }
        return {name: ATTACKS[name].format(**fill) for name in names}

    def of(self, names: Any) -> list[dict[str, Any]]:
        return [task(name, attack, self.swarm.top) for name, attack in self.attacks(names).items()]

    def attack(self, names: Any) -> dict[str, Any]:
        """Carries out a run of attacks, with one worker that works before them and one beside them all."""
        swarm = self.swarm
        beside = task("beside", f"until [ -e {swarm.gate('go')} ]; do sleep 0.1; done")
        plan = swarm.plan("attack", [task("before", "true"), *self.of(names), beside])
        swarm("start", "--workers", "4")
        daemon = swarm.status()["daemon"]["pid"]
        swarm("submit", str(plan))
        wait_until(lambda: self.ended() == len(names) + 1)
        swarm.open("go")
        swarm("wait", "--run", "attack", "--timeout", str(PATIENCE_S - 10), code=None)
        run = swarm.run_of("attack")
        assert swarm.status()["daemon"]["pid"] == daemon
        return run

    def ended(self) -> int:
        counts = self.swarm.run_of("attack")["counts"]
        return sum(counts[state] for state in ("landed", "failed", "cancelled", "blocked"))


def all_attacks_fail(field: Field, held_by: str = "bubblewrap") -> None:
    """Tries all, and holds what is found against what must be."""
    swarm = field.swarm
    objects = set((common_dir(swarm.top) / "objects").rglob("*"))
    run = field.attack(ATTACKS)
    assert {each["attempts"][0]["sandbox"] for each in run["tasks"]} == {held_by}
    states = {each["id"]: each["state"] for each in run["tasks"]}
    assert states == {name: "failed" if name in SUICIDAL else "landed" for name in states}
    assert swarm.content("attack", "out-config") == "config\n"
    nothing_came_of_it(field, run, objects)


def nothing_came_of_it(field: Field, run: dict[str, Any], objects: set[Path]) -> None:
    """Holds what is found after attacks against what was there before, `objects` of git among it."""
    swarm = field.swarm
    swarm.check_landed(run)
    assert not field.canary.exists()
    assert list(field.outside.iterdir()) == []
    assert (field.home / ".bashrc").read_text() == "# mine\n"
    assert not Path("/etc/swarm-evil").exists()
    assert objects <= set((common_dir(swarm.top) / "objects").rglob("*"))
    for name in ("before", "beside"):
        assert swarm.content("attack", f"out-{name}") == f"{name}\n"
    tree = git(swarm.top, "ls-tree", "-r", "--name-only", "refs/heads/swarm/attack/staging").splitlines()
    assert [name for name in tree if "evil" in name] == []
    state = common_dir(swarm.top) / "swarm"
    for path in state.rglob("*"):
        assert not (path.is_file() and SECRET.encode() in path.read_bytes()), path
    git(swarm.top, "fsck", "--strict")
    assert task_of(swarm.run(swarm.plan("next", [task("t", "true")])), "t")["state"] == "landed"


@needs_bubblewrap
def test_with_a_sandbox_no_attack_has_any_effect(swarm: Swarm, tmp_path: Path) -> None:
    """Row 113, F8: with a sandbox none of the known attacks runs anything outside, reads a secret, changes anything of the user's,
    of siblings' or of the coordinator's, or keeps others from landing."""
    swarm.env["SWARM_SANDBOX"] = "required"
    all_attacks_fail(Field(swarm, tmp_path / "field"))


@needs_landlock
def test_nor_where_the_kernel_alone_shuts_in(swarm: Swarm, tmp_path: Path, without_bubblewrap: str) -> None:
    """Row 113, F8: the same where there is no bubblewrap, and Landlock does it."""
    swarm.env |= {"SWARM_SANDBOX": "required", "PATH": without_bubblewrap}
    all_attacks_fail(Field(swarm, tmp_path / "field"), "landlock")


@needs_bubblewrap
@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv to become somebody else",
)
def test_nor_as_another_user(
    open_folder: Path, swarm_in: Callable[..., Swarm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 113: the same as a user without any rights of root."""
    field = Field(as_nobody(open_folder, swarm_in, monkeypatch), open_folder / "field")
    field.swarm.env["SWARM_SANDBOX"] = "required"
    for folder, _, names in os.walk(open_folder / "field"):
        for name in ("", *names):
            os.chown(os.path.join(folder, name), 65534, 65534)
    all_attacks_fail(field)
    field.swarm.look_again()


CONFTEST = """
import subprocess
for folder, attacks in {attacks!r}:
    told = f'G={{folder}}; A=$G/worktrees/1; TOP={top}; SWARM_RESULT_FILE=r; SWARM_PROMPT_FILE=p'
    for attack in attacks:
        subprocess.run(['/bin/sh', '-c', f'{{told}}\\n( {{attack}} ) </dev/null'], check=False)
"""


@needs_bubblewrap
def test_nor_by_a_test_that_a_worker_wrote(swarm: Swarm, tmp_path: Path) -> None:
    """Row 113: what a worker can't do by itself it can't do by a `conftest.py` that it leaves for its suites either:
    not to the user's home and repository, nor to the worktrees of others, nor to the repository in which all is landed."""
    swarm.env["SWARM_SANDBOX"] = "required"
    no_test_harms(Field(swarm, tmp_path / "field"))


@pytest.mark.slow
@needs_landlock
def test_nor_by_such_a_test_where_the_kernel_alone_shuts_in(
    swarm: Swarm, tmp_path: Path, without_bubblewrap: str
) -> None:
    """Row 113: the same where there is no bubblewrap, though Unix sockets and `/tmp`, in which all of it lies here, are open."""
    swarm.env |= {"SWARM_SANDBOX": "required", "PATH": without_bubblewrap}
    no_test_harms(Field(swarm, tmp_path / "field"))


def no_test_harms(field: Field) -> None:
    """Has a suite try all attacks, and holds what is found against what must be."""
    swarm = field.swarm
    attacks = field.attacks(name for name in ATTACKS if name not in {*SUICIDAL, "result"})
    as_seen = [attacks[name] for name in ("config", "refs", "objects", "gc")]
    told = [
        ("$(git rev-parse --path-format=absolute --git-common-dir)", as_seen),
        (f"{swarm.top}/.git", [*attacks.values()]),
    ]
    conftest = swarm.outside / "conftest.py"
    conftest.write_text(CONFTEST.format(top=swarm.top, attacks=told))
    objects = set((common_dir(swarm.top) / "objects").rglob("*"))
    write = f"cp {conftest} .; echo 'def test_of_nothing(): pass' > test_it.py"
    run_it = f"{sys.executable} -m pytest -q -s -p no:cacheprovider test_it.py"
    # Not in the folder of its own, which the attacks empty.
    copies = swarm.outside / "copies"
    copies.mkdir()
    swarm.env["SWARM_SANDBOX_PATHS__WRITE"] = json.dumps([str(copies)])
    suite = f"copy=$(mktemp -d -p {copies}) && trap 'rm -rf $copy' EXIT\ncp -a . $copy; cd $copy; {run_it}"
    left = task("conftest", write, claims=["conftest.py", "test_it.py", "out-conftest"], verify=[suite])
    beside = task("beside", f"until [ -e {swarm.gate('go')} ]; do sleep 0.1; done")
    swarm("start", "--plan", str(swarm.plan("attack", [task("before", "true"), beside, left])))
    wait_until(lambda: field.ended() == 2)
    swarm.open("go")
    run = swarm.wait("attack")
    (log,) = (each["log"] for each in task_of(run, "conftest")["attempts"][0]["suites"])
    assert "1 passed" in Path(log).read_text("utf-8", "replace")
    nothing_came_of_it(field, run, objects)


# Sheds all by which it could be known, and then plants a file in every worktree of the pool in which somebody says that he is here.
# First it tries to take from the process that it is given, if any, the means to open a file.
LEAVES = """
import os, resource, sys
try:
    resource.prlimit(int(sys.argv[3]), resource.RLIMIT_NOFILE, (0, 0)) if sys.argv[3:] else None
except PermissionError:
    pass
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 200)
        os.chdir("/")
        os.execve(sys.executable, ["kworker", "-c", sys.argv[1], sys.argv[2]], {})
    os._exit(0)
os.wait()
"""
PLANTS = """
import pathlib, sys, time
for _ in range(2000):
    for here in pathlib.Path(sys.argv[1]).glob("*/here"):
        try:
            here.with_name("planted").touch()
        except OSError:
            pass
    time.sleep(0.03)
"""
IS_HERE = "touch here; n=0; until [ -e planted ] || [ $n = 15 ]; do n=$((n+1)); sleep 0.1; done; rm here"


@needs_landlock
def test_what_a_worker_leaves_behind_reaches_no_other(swarm: Swarm, without_bubblewrap: str) -> None:
    """Row 113: where Landlock shuts in, a process that sheds session, environment, lock and place ends with its worker, also where
    that tried to take from who would end it the means to; it can't write to the worktree that the next one gets."""
    swarm.env |= {"SWARM_SANDBOX": "required", "PATH": without_bubblewrap}
    pool = swarm.top / ".worktrees" / "pool"
    leaves = shlex.join([sys.executable, "-c", LEAVES, PLANTS, str(pool)])
    works = {"leaves": leaves, "next": IS_HERE, "hobbles": f"{leaves} $PPID", "last": IS_HERE}
    tasks: list[dict[str, Any]] = [
        {"id": id, "run": f"{work}; echo x > out-{id}", "claims": [f"out-{id}"]} for id, work in works.items()
    ]
    for before, each in itertools.pairwise(tasks):
        each["needs"] = [before["id"]]
    swarm("start", "--workers", "1")
    try:
        run = swarm.run(swarm.plan("attack", tasks))
    finally:
        left = [
            process
            for process in psutil.process_iter(["cmdline"])
            if (process.info["cmdline"] or ())[-1:] == [str(pool)]
        ]
        for process in left:
            process.kill()
    swarm.check_landed(run)
    assert [each["attempts"][0]["touched"] for each in run["tasks"]] == [[f"out-{id}"] for id in works]
    assert left == []


def test_without_a_sandbox_nothing_runs_in_the_coordinator(swarm: Swarm, tmp_path: Path) -> None:
    """F8: with no sandbox hooks, fsmonitor, aliases and programs that a worker plants in the repository are never run by the
    coordinator; worktrees of others land what their workers did."""
    field = Field(swarm, tmp_path / "field")
    run = field.attack([name for name in ATTACKS if name in PLANTED])
    assert not field.canary.exists()
    swarm.check_landed(run)
    for name in (
        "core.fsmonitor",
        "core.sshCommand",
        "core.editor",
        "core.hooksPath",
        "include.path",
        "alias.status",
    ):
        git(swarm.top, "config", "--unset-all", name, check=False)
    shutil.rmtree(common_dir(swarm.top) / "hooks")
    swarm.look_again()


PLANTED = {"config", "hooks", "worktree-config", "record", "result", "links"}

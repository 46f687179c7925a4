"""A working day of swarm in miniature, made so that every crash point is reached, whose end is known whatever is killed in it.

Thirteen of its tasks land: a plain one, one that leaves dirt, two that touch the same lines as a third (one is rebased by machine,
one conflicts and lands alone), one whose verification fails first, one whose worker fails first, one that strays, one that ruins
the pool's index, one with odd names, one that changes nothing, one that its daemon leaves running, one that needs others. One fails
and blocks another, one is cancelled while it runs, one lands and is undone. Meanwhile somebody deletes the staging branch; in the
end a person commits to main and staging is merged into it.

Rules for editing: what a task does depends on what it was told and never on how often it was tried, so that a lost attempt changes
nothing in the end; a new crash point that this day does not reach needs an event in it.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from tests.conftest import git
from tests.crash import checks
from tests.crash.trial import Trial
from tests.e2e.driver import Swarm

RUN = "day"
EXPECTED = {
    **dict.fromkeys(("plain", "dirty", "first", "again", "twice", "red", "flaky", "stray"), "landed"),
    **dict.fromkeys(("vandal", "odd", "nothing", "long", "after"), "landed"),
    **dict.fromkeys(("waits", "regret"), "cancelled"),
    "fails": "failed",
    "blocked": "blocked",
}
CONTENT = {
    "out-plain": "plain\n",
    "out-dirty": "two\n",
    "untracked": "left\n",
    "out-red": "right\n",
    "out-flaky": "flaky\n",
    "stray": "stray\n",
    "out-vandal": "vandal\n",
    "späße/ü x": "odd\n",
    "out-long": "long\n",
    "out-after": "plain\nright\nlong\n",
    "out-regret": "",  # nothing: it was taken off again
}
RUIN_INDEX = (
    'echo junk > "../.pool/$(basename "$SWARM_WORKTREE").index"'  # after which the worktree is made anew
)
DIRT = (  # a commit, an edit on top of it, a file whose staged version is another one, something ignored
    "echo one > out-dirty; git add out-dirty; {commit} -m one; echo two > out-dirty; "
    "echo staged > untracked; git add untracked; echo left > untracked; echo o > a.o"
)
LINES = {5: "one", 12: "better"}  # of src/a.py


def make_repository(top: Path) -> None:
    """Makes the repository that days begin with."""
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    git(top, "config", "user.name", "Ada")
    git(top, "config", "user.email", "ada@example.org")
    (top / "src").mkdir()
    (top / "README.md").write_text("# A project\n")
    (top / ".gitignore").write_text("*.o\n")
    (top / "src" / "a.py").write_text("".join(f"line {n}\n" for n in range(20)))
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "first")


def plan(swarm: Swarm) -> Path:
    """Writes the day's plan."""
    together: dict[str, Any] = {"claims": [{"path": "src/a.py", "mode": "shared"}], "priority": 1}
    told = '[ -n "$SWARM_FEEDBACK_FILE" ] && grep -q {} "$SWARM_FEEDBACK_FILE"'
    commit = "git -c user.name=W -c user.email=w@x commit -q --allow-empty"
    task = swarm.task
    tasks = [
        task("first", f"{_edit(5, 'zero')}; {_edit(12, 'same')}", gate="first", **together),
        task("again", _edit(5, "one"), gate="second", **together),
        task(
            "twice",
            f"{_edit(12, 'same')}; {commit} -am one; {_edit(12, 'better')}; {commit} -am two",
            gate="second",
            **together,
        ),
        task("plain"),
        task("dirty", DIRT.format(commit=commit), claims=["out-dirty", "untracked"]),
        task("red", f"if {told.format('not-wrong')}; then echo right > out-red; else echo wrong > out-red; fi", claims=["out-red"]),
        task("flaky", f"{told.format('exit')} || exit 1; echo flaky > out-flaky", claims=["out-flaky"]),
        task("fails", "exit 3", claims=["out-fails"], attempts=1),
        task("blocked", needs=["fails"]),
        task("stray", "echo stray > stray", claims=["out-stray"]),
        task("vandal", f"echo vandal > out-vandal; {RUIN_INDEX}", claims=["out-vandal"]),
        task("odd", "mkdir -p späße; echo odd > 'späße/ü x'", claims=["späße/**"]),
        task("nothing", "true", claims=["out-nothing"], allow_empty=True),
        task("regret"),
        task("waits", claims=["out-waits"], gate="never"),
        task("long", claims=["out-long"], gate="long"),
        task("after", "cat out-plain out-red out-long > out-after", claims=["out-after"], needs=["plain", "red", "long"]),
    ]  # fmt: skip
    looks = shlex.quote(str(swarm.outside / "looks"))
    suite = f"git rev-parse HEAD >> {looks}; ! grep -qs wrong out-red"
    beside = {"name": "beside", "run": "sleep 0.1; git diff --quiet HEAD", "shard": 2}
    return swarm.plan(RUN, tasks, verify=[{"name": "not-wrong", "run": suite}, beside])


def _edit(line: int, text: str) -> str:
    return f"sed -i '{line}s/.*/{text}/' src/a.py"


def person_commits(swarm: Swarm) -> None:
    """Has the user commit to main, so that finishing has something to merge."""
    (swarm.top / "NOTES").write_text("notes\n")
    git(swarm.top, "add", "NOTES")
    git(swarm.top, "commit", "-q", "-m", "notes")
    swarm.look_again()


def differences(swarm: Swarm, run: dict[str, Any]) -> list[str]:
    """Says where the end of the day is not what it must be: states, and what stands on staging and on main."""
    states = {task["id"]: task["state"] for task in run["tasks"]}
    wrong = [
        f"{name} is {states.get(name)}, not {state}"
        for name, state in EXPECTED.items()
        if states.get(name) != state
    ]
    for branch in (f"refs/heads/swarm/{RUN}/staging", "refs/heads/main"):
        for path, text in CONTENT.items():
            found = git(swarm.top, "show", f"{branch}:{path}", check=False)
            if found != text.removesuffix("\n"):
                wrong.append(f"{path} on {branch} is {found!r}")
        lines = git(swarm.top, "show", f"{branch}:src/a.py", check=False).splitlines()
        wrong += [
            f"line {n} on {branch} is not {text}"
            for n, text in LINES.items()
            if len(lines) < n or lines[n - 1] != text
        ]
    dirt = git(swarm.top, "status", "--porcelain")
    return [*wrong, f"the user's checkout is dirty: {dirt}"] if dirt else wrong


class Day(Trial):
    """The day with faults in it."""

    def play(self) -> list[str]:
        """Goes through the day."""
        swarm = self.swarm
        self.do("submit", str(plan(swarm)))
        self.until(lambda: {"first", "again", "twice"} <= set(swarm.starts()))
        swarm.open("first")
        self.until(lambda: "first" in swarm.landings(RUN))
        swarm.open("second")
        self.until(lambda: "waits" in swarm.starts())
        self.do("cancel", "waits", again=(4,))
        self.until(lambda: "long" in swarm.starts())
        self.daemons.stop("--leave-workers")
        git(swarm.top, "branch", "-q", "-D", f"swarm/{RUN}/staging")
        swarm.open("long")
        self.wait(RUN)
        self.do("undo", "regret", "--run", RUN, "--yes", again=(4,))
        person_commits(swarm)
        self.do("finish", "--run", RUN, "--json")
        swarm.look_again()
        self.daemons.stop()
        self.daemons.ensure()  # once more: what a stop that was cut short left is looked after too
        run = self.wait(RUN)
        self.daemons.stop()
        return differences(swarm, run) + checks.broken(swarm)

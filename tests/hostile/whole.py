"""One history through the whole program: a real daemon, workers that make its commits or leave its files, and the judge afterwards.

Rules for editing: swarm is seen as a user sees it, by its documents and by git; what workers do, they do by git, in their worktree.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from tests.e2e.driver import Swarm
from tests.hostile import making
from tests.hostile.histories import History, Ref, Step
from tests.hostile.judge import Judge
from tests.hostile.trial import Disagreement, Result, before_of


def run(history: History, folder: Path) -> Result:
    """Carries a history out in an empty folder, which is removed where both agree."""
    folder.mkdir(parents=True)
    agreed: Counter[str] = Counter()
    try:
        _carry_out(history, folder, agreed)
    except Disagreement as found:
        return Result(found, agreed)
    except Exception as error:  # a command that does not end, above all
        return Result(Disagreement(type(error).__name__, str(error)), agreed)
    shutil.rmtree(folder)
    return Result(None, agreed)


def _carry_out(history: History, folder: Path, agreed: Counter[str]) -> None:
    top = folder / "repo"
    top.mkdir()
    made, before = before_of(history, top)
    making.git(top, "config", "user.name", "Ada")
    making.git(top, "config", "user.email", "ada@example.org")
    heads = _heads(made, history, before)
    swarm = Swarm(top, folder / "outside")
    try:
        tasks = [
            {"id": f"t{n}", "title": f"Task {n}", "run": _work(n, head), "attempts": 1, "allow_empty": True}
            for n, head in enumerate(heads)
        ]
        ended = swarm.run(swarm.plan("odd", tasks), code=None)
        judge = Judge(top, folder / "judge")
        _compare_landings(swarm, judge, ended, agreed)
        _compare_conflicts(swarm, judge, ended, agreed)
        _compare_left(judge, ended, heads, agreed)
        making.git(top, "fsck", "--strict", "--no-dangling", "--no-progress")
    finally:
        swarm.end()


def _heads(made: making.Made, history: History, before: list[str]) -> list[str]:
    """Makes the commits of the attempts; all begin at the base, since staging is not there yet."""
    heads: list[str] = []
    for attempt in history.attempts:
        steps = [
            Step(step.operations, _old(step.on), tuple(filter(None, map(_old, step.merged))))
            for step in attempt.steps
        ]
        if steps:
            heads.append(made.work(steps, before[-1], {"before": before, "attempt": heads or before}))
    return heads


def _old(ref: Ref | None) -> Ref | None:
    return None if ref is None or ref.kind == "staging" else ref


def _work(number: int, head: str) -> str:
    """Every other worker commits by itself; the others leave files, and an index that knows nothing of them."""
    return (
        f"git reset -q --hard {head}"
        if number % 2
        else f"git read-tree --reset -u {head} && git read-tree HEAD"
    )


def _compare_landings(swarm: Swarm, judge: Judge, ended: dict[str, Any], agreed: Counter[str]) -> None:
    """Each landing is the merge that plain git makes of its parents."""
    line = making.git(
        swarm.top,
        "rev-list",
        "--first-parent",
        "--reverse",
        f"{ended['base']['commit']}..{swarm.staging('odd')}",
    )
    for commit in line.stdout.decode().split():
        onto, head = judge.parents(commit)
        said = judge.merge(onto, head)
        if said.tree != judge.tree(commit):
            raise Disagreement("merge-tree", f"swarm landed {commit}, git says {said}")
        agreed["merge clean"] += 1


def _compare_conflicts(swarm: Swarm, judge: Judge, ended: dict[str, Any], agreed: Counter[str]) -> None:
    """What was handed back as a conflict is one, and of these paths."""
    heads = {(task["id"], each["n"]): each["head"] for task in ended["tasks"] for each in task["attempts"]}
    for fact in (*swarm.events("TaskHandedBack"), *swarm.events("TaskFailed")):
        if fact["code"] != "conflict":
            continue
        head = heads[fact["task"], fact["attempt"]]
        said = judge.merge(fact["onto"], head)
        base = _base(ended, fact)
        told = {path.encode("utf-8", "surrogateescape") for path in fact["paths"]}
        if said.tree is None and not said.paths <= told:
            raise Disagreement("merge-paths", f"{fact} and git says {said}")
        if said.tree is not None and not judge.taken_back(base, head, fact["onto"], said.tree):
            raise Disagreement("merge-conflict", f"{fact} and git says {said}")
        agreed["merge conflict"] += 1


def _base(ended: dict[str, Any], fact: dict[str, Any]) -> str:
    (task,) = (each for each in ended["tasks"] if each["id"] == fact["task"])
    return str(task["attempts"][fact["attempt"] - 1]["base"])


def _compare_left(judge: Judge, ended: dict[str, Any], heads: list[str], agreed: Counter[str]) -> None:
    """What a worker left is committed as plain `git add -A` in a clean clone would; only a link to a commit of another repository
    that no .gitmodules names is not taken, and its task not landed."""
    for task in ended["tasks"]:
        number = int(task["id"][1:])
        for attempt in task["attempts"]:
            if number % 2 or attempt["head"] is None:
                continue
            as_is, as_wanted = judge.left(attempt["base"], heads[number])
            found = judge.entries(attempt["head"])
            wrong = {
                path
                for path in {*found, *as_is}
                if found.get(path) not in (as_is.get(path), as_wanted.get(path))
            }
            if task["state"] != "landed":
                wrong -= {path for path, facts in as_is.items() if facts.startswith(b"160000")}
            if wrong:
                raise Disagreement(
                    "left-tree", f"{task['id']}: {attempt['head']} has {sorted(wrong)} otherwise than git"
                )
            agreed["left"] += 1

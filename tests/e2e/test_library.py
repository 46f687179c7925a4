"""The Python API, used by programs of their own as a user's are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from swarm.client.commands import names
from swarm.client.library import AsyncSwarm
from swarm.client.library import Swarm as Library
from tests.e2e.driver import PATIENCE_S, Swarm
from tests.e2e.test_goals import with_roles

WITHOUT_A_METHOD = {"init", "config", "schema", "completion", "chaos", "logs", "mcp", "web", "service"}


def carried_out(swarm: Swarm, program: str, *arguments: str, **env: str) -> Any:
    """Gives what a program prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=swarm.top,
        env={**swarm.env, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


MAIN_JOB = """
import json, sys
from swarm import Swarm
from swarm.errors import UsageError

swarm = Swarm()
swarm.start(workers=2)
def refused(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except UsageError:
        return True
    return False

ended = swarm.run(json.loads(sys.argv[1]), timeout_s=200, verify="test -e README.md")
told = [event["task"] for event in swarm.events(run="made") if event["type"] == "TaskLanded"]
shown = swarm.show("a")["task"]
document = {
    "ended": ended, "told": sorted(told), "diff": swarm.diff("a").decode(), "shown": shown,
    "output": swarm.outputs("a")["worker"].read_text(), "audit": swarm.audit()["ok"],
    "preview": swarm.finish("made", partial=True, preview=True)["finish"]["outcome"],
    "retried": swarm.retry("bad"), "again": swarm.wait("made")["counts"],
    "finished": swarm.finish("made", partial=True)["finish"]["outcome"],
    "undone": swarm.undo("a", with_dependants=True)["undone"], "scaled": swarm.scale(3),
    "workers": swarm.status()["capacity"]["workers_max"], "found": swarm.recover(), "claims": swarm.claims()["claims"],
    "kept": swarm.discard("made", preview=True)["holds"] != [],
    "suites": shown["verify"],
    "refused": [refused(swarm.scale, 1001), refused(swarm.wait, "made", timeout_s=float("nan")), refused(swarm.wait, timeout_s=-1)],
    "simulated": swarm.simulate(json.loads(sys.argv[1]), workers=[2], fail={"bad": 9}, durations={"b": 3})["widths"],
}
swarm.stop()
document["running"] = swarm.status()["daemon"]["running"]
print(json.dumps(document))
"""


def test_the_whole_job_is_done_by_a_program(swarm: Swarm) -> None:
    """A plan given as data is carried out, looked at, steered and finished; documents are those of the commands."""
    tasks = [
        {"id": "a", "title": "a", "run": "echo said; echo a > out-a", "claims": ["out-a"]},
        {"id": "b", "title": "b", "run": "echo b > out-b", "claims": ["out-b"], "needs": ["a"]},
        {"id": "bad", "title": "bad", "run": "exit 3", "claims": ["out-c"], "attempts": 1},
    ]
    found = carried_out(swarm, MAIN_JOB, json.dumps({"name": "made", "tasks": tasks}))
    swarm.look_again()  # finishing moved the user's branch
    assert (found["ended"]["counts"]["landed"], found["ended"]["counts"]["failed"]) == (2, 1)
    assert found["told"] == ["a", "b"]
    assert (found["output"], "+a" in found["diff"]) == ("said\n", True)
    assert found["shown"]["attempts"][0]["exit_code"] == 0
    assert found["retried"] == {"run": "made", "tasks": ["bad"], "ended": []}
    assert (found["again"]["landed"], found["again"]["failed"]) == (2, 1)
    assert (found["preview"], found["finished"]) == ("preview", "finished")
    assert (found["suites"], found["refused"]) == (["test -e README.md"], [True, True, True])
    assert found["simulated"][0]["counts"] == {"landed": 2, "failed": 1}
    assert (found["undone"], found["workers"], found["claims"]) == (["b", "a"], 3, [])
    assert (found["audit"], found["found"], found["running"]) == (True, [], False)


ERRORS = """
import json
from swarm import Swarm
from swarm.errors import SwarmError

def error(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except SwarmError as found:
        return [type(found).__name__, found.exit_code]

swarm = Swarm()
print(json.dumps([
    error(swarm.submit, {"name": "x", "tasks": []}),
    error(swarm.submit, "no-such-plan.toml"),
    error(swarm.submit, {"name": "x", "tasks": [{"id": "a", "title": "a", "run": "true"}]}),
    error(swarm.scale, 2),
    error(swarm.wait, "nothing"),
    error(swarm.stop, "softly"),
    error(swarm.cancel),
    error(swarm.first),
    error(lambda: list(swarm.events(run="nothing"))),
    error(Swarm, "/"),
]))
"""


@pytest.mark.slow
def test_what_goes_wrong_is_raised(swarm: Swarm) -> None:
    """Errors carry the exit code that the command would end with, and nothing is printed or started."""
    usage = ["UsageError", 2]
    assert carried_out(swarm, ERRORS) == [
        usage, usage, ["NoDaemon", 3], ["NoDaemon", 3], usage, usage, usage, usage, usage, usage,
    ]  # fmt: skip
    assert not swarm.status()["daemon"]["running"]


def test_inside_a_worker_nothing_is_steered(swarm: Swarm) -> None:
    """A task's own program may look and may not start, submit or steer."""
    program = """
import json
from swarm import Swarm
from swarm.errors import Refused

swarm, refused = Swarm(), []
for call in (swarm.start, swarm.stop, lambda: swarm.submit({}), lambda: swarm.retry("a"), swarm.recover, lambda: swarm.finish()):
    try:
        call()
    except Refused:
        refused.append(1)
print(json.dumps([len(refused), swarm.status()["runs"]]))
"""
    swarm("start")
    assert carried_out(swarm, program, SWARM_TASK="t", SWARM_ATTEMPT="1") == [6, []]


TWO_AT_ONCE = """
import asyncio, json, sys
from swarm import AsyncSwarm

async def main():
    swarm = AsyncSwarm()
    await swarm.start()
    seen = []

    async def listen():
        async for event in swarm.events(follow=True):
            if event["type"] == "TaskLanded":
                seen.append(event["run"])
            if len(seen) == 2:
                return

    listening = asyncio.create_task(listen())
    ended = await asyncio.gather(*(swarm.run(plan) for plan in json.loads(sys.argv[1])))
    await listening
    await swarm.stop()
    print(json.dumps([sorted(seen), [run["counts"]["landed"] for run in ended]]))

asyncio.run(main())
"""


@pytest.mark.slow
def test_two_runs_at_once_in_one_loop(swarm: Swarm) -> None:
    """Awaited, two runs go on side by side while their events are heard."""
    plans = [
        {"name": name, "tasks": [{"id": "t", "title": "t", "run": f"echo > {name}", "claims": [name]}]}
        for name in ("one", "two")
    ]
    assert carried_out(swarm, TWO_AT_ONCE, json.dumps(plans)) == [["one", "two"], [1, 1]]


def test_every_command_has_a_method() -> None:
    """What the command line does the API does, sync and awaited alike, save what is about files and shells."""
    for name in set(names()) - WITHOUT_A_METHOD:
        assert callable(getattr(Library, name, None)), name
        assert callable(getattr(AsyncSwarm, name, None)), name


def test_the_package_alone_loads_nothing() -> None:
    """What a command's start must not pay for is not paid: the API is loaded when it is asked for."""
    program = "import sys, swarm; print([name for name in sys.modules if name.startswith('swarm.')])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


JOINS = """
import json, pathlib, sys
from swarm import Swarm
from swarm.errors import Refused

swarm = Swarm()
try:
    said = swarm.build("way", approve=True, wait=False)["goal"]["stage"]
except Refused as error:
    said = str(error)
pathlib.Path(sys.argv[1]).touch()
print(json.dumps([said, swarm.build("way", approve=True, timeout_s=200)["goal"]["stage"]]))
"""


@pytest.mark.slow
def test_a_plan_that_comes_later_is_approved_of(swarm: Swarm) -> None:
    """Whoever joins a run whose plan is not there yet, and approves of what comes, gets it built; who does not wait is refused."""
    with_roles(swarm, swarm.task("a"), gate="go")
    swarm("plan", "--detach", "--id", "way", "make one thing")
    swarm.wait_for_gate("scout-1")
    said, stage = carried_out(swarm, JOINS, str(swarm.gate("go")))
    assert "has no plan to approve of: it is researching" in said
    assert stage == "ready"


def test_a_plan_given_as_data_is_checked(swarm: Swarm) -> None:
    """As a file with the same text is: `check` takes what `submit` takes."""
    task = {"id": "a", "title": "a", "run": "true", "claims": ["a"], "needs": ["b"]}
    checked = Library(swarm.top).check({"name": "made", "tasks": [task]})
    assert not checked["ok"]
    assert 'needs "b"' in checked["plans"][0]["errors"][0]["text"]

"""Progress written back to the plan files of other systems."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from swarm.client import planfiles
from swarm.errors import UsageError
from tests.conftest import wait_until
from tests.e2e.driver import PATIENCE_S, Swarm

FOREIGN: dict[str, Any] = {
    "feature": "hello",
    "kept": {"by": ["whom", 1]},
    "phases": [
        {
            "phase": 1,
            "name": "All",
            "parallel_safe": True,
            "subtasks": [
                {
                    "id": "good",
                    "description": "one",
                    "status": "pending",
                    "files_to_create": ["good"],
                    "note": "ä",
                },
                {"id": "bad", "description": "two", "status": "pending", "files_to_create": ["bad"]},
            ],
        }
    ],
}


def test_a_run_writes_its_progress_back(swarm: Swarm) -> None:
    """Row 7: with --write-back the states stand in the plan file when the run has ended, and no other key has changed."""
    (swarm.top / "swarm.toml").write_text(
        'agent = "mine"\n[agents.mine]\ncommand = ["sh", "-c", "test $SWARM_TASK = good && echo > good"]\n'
        "[limits]\nattempts = 1\n"
    )
    plan = swarm.outside / "implementation_plan.json"
    plan.write_text(json.dumps(FOREIGN, indent=2))
    swarm("run", "--write-back", str(plan), code=1)
    after = json.loads(plan.read_text())
    states = {task["id"]: task.pop("status") for task in after["phases"][0]["subtasks"]}
    assert states == {"good": "completed", "bad": "failed"}
    before = json.loads(json.dumps(FOREIGN))
    for task in before["phases"][0]["subtasks"]:
        del task["status"]
    assert after == before
    (swarm.top / "swarm.toml").unlink()


def test_progress_stands_in_the_file_while_the_run_goes_on(swarm: Swarm) -> None:
    """Each change of a state is in the file soon after it happened; what somebody else writes into it meanwhile is kept."""
    gates = f"{swarm.note} start; until [ -e {swarm.outside}/gate-$SWARM_TASK ]; do sleep 0.02; done; echo > $SWARM_TASK"
    (swarm.top / "swarm.toml").write_text(
        f'agent = "mine"\n[agents.mine]\ncommand = ["sh", "-c", {json.dumps(gates)}]\n'
    )
    swarm.look_again()
    plan = swarm.outside / "implementation_plan.json"
    plan.write_text(json.dumps(FOREIGN, indent=2))

    def states() -> dict[str, str]:
        return {task["id"]: task["status"] for task in json.loads(plan.read_text())["phases"][0]["subtasks"]}

    running = swarm.spawn("run", "--write-back", str(plan))
    wait_until(lambda: states() == {"good": "in_progress", "bad": "in_progress"})
    plan.write_text(plan.read_text().replace('"whom"', '"whom else"'))
    swarm.open("good")
    wait_until(lambda: states() == {"good": "completed", "bad": "in_progress"})
    swarm.open("bad")
    assert running.wait(PATIENCE_S) == 0
    assert states() == {"good": "completed", "bad": "completed"}
    assert json.loads(plan.read_text())["kept"] == {"by": ["whom else", 1]}


@pytest.mark.slow
def test_what_is_no_plan_is_told_as_it_is_without_it(swarm: Swarm) -> None:
    """A file in which something is wrong is refused with what that is, not as one to which nothing can be written back."""
    broken = swarm.outside / "broken.json"
    broken.write_text(json.dumps([{"description": "x"}]))
    told = swarm("run", str(broken), code=2).err
    assert swarm("run", str(broken), "--write-back", code=2).err == told


def test_a_native_plan_holds_no_states(swarm: Swarm) -> None:
    """--write-back with a native plan is wrong usage, told before anything is started."""
    plan = swarm.plan("r", [swarm.task("a")])
    swarm("run", "--write-back", str(plan), code=2)
    assert not (swarm.top / ".git" / "swarm" / "journal.sqlite").exists()


@pytest.mark.slow
def test_a_plan_that_can_not_be_written_is_told_of(swarm: Swarm) -> None:
    """Where the file is gone at the end the run is told of as ever, and that its states were not written back: exit 1."""
    folder = swarm.outside / "plans"
    folder.mkdir()
    plan = folder / "build-tasks.json"
    plan.write_text(json.dumps({"feature": "gone", "tasks": [{"id": "a", "description": "one"}]}))
    moves = f"mv {folder} {swarm.outside / 'moved'}; echo x > a"
    (swarm.top / "swarm.toml").write_text(
        f'agent = "mine"\n[agents.mine]\ncommand = ["sh", "-c", "{moves}"]\n'
    )
    done = swarm("run", "--write-back", str(plan), code=1)
    assert "1 landed" in done.out
    assert f"The states of the tasks were not written back to {plan}" in done.err
    (swarm.top / "swarm.toml").unlink()


def test_a_folder_that_can_not_be_written_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--write-back for a plan beside which nothing can be written is wrong usage."""
    plan = tmp_path / "plan.json"
    planfiles.check_write_back(json.dumps(FOREIGN).encode(), str(plan))
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != tmp_path)
    with pytest.raises(UsageError, match="nothing can be written in"):
        planfiles.check_write_back(json.dumps(FOREIGN).encode(), str(plan))


def test_a_hundred_writers_lose_nothing(tmp_path: Path) -> None:
    """Row 70: a hundred updates at once, none lost, and the file parses whenever it is read."""
    names = [f"t{number}" for number in range(100)]
    plan = tmp_path / "implementation_plan.json"
    tasks = [{"id": name, "description": name, "status": "pending"} for name in names]
    plan.write_text(json.dumps({"feature": "f", "phases": [{"phase": 1, "subtasks": tasks}]}))

    def update(name: str) -> str:
        planfiles.write_back(plan, tmp_path / "state", {name: "landed"})
        return plan.read_text()

    with ThreadPoolExecutor(10) as pool:
        seen = list(pool.map(update, names))
    assert all(json.loads(text)["feature"] == "f" for text in seen)
    states = [task["status"] for task in json.loads(plan.read_text())["phases"][0]["subtasks"]]
    assert states == ["completed"] * 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["implementation_plan.json", "state"]


@pytest.mark.slow
def test_what_was_finished_before_is_said_and_not_added(swarm: Swarm) -> None:
    """A plan all of which has been done elsewhere adds nothing, and each text says how much of it was done before."""
    (done,) = ({**each, "status": "completed"} for each in FOREIGN["phases"][0]["subtasks"][:1])
    plan = swarm.outside / "implementation_plan.json"
    plan.write_text(json.dumps({"feature": "over", "phases": [{"phase": 1, "subtasks": [done]}]}))
    ran = swarm("run", str(plan))
    assert "over: 0 added, 0 replaced, 0 unchanged, 1 finished before" in ran.err
    assert ran.out.startswith("0 landed, 0 failed, 0 blocked, 1 finished before in ")
    assert "0 of 0 landed, 1 finished before\n" in swarm("status").out
    assert swarm("report").out.startswith("Run over: nothing to do\n")
    again = swarm("run", "--json", str(plan))
    assert json.loads(again.out)["runs"][0]["finished_before"] == ["good"]


@pytest.mark.slow
def test_what_is_marked_finished_before_it_has_started_is_not_run(swarm: Swarm) -> None:
    """A task that somebody has done by hand meanwhile, and says so in the plan, meets needs when the plan is submitted again."""
    (swarm.top / "swarm.toml").write_text(
        'agent = "mine"\n[agents.mine]\ncommand = ["sh", "-c", "echo > $SWARM_TASK"]\n'
    )
    swarm.look_again()
    plan = swarm.outside / "implementation_plan.json"
    document: dict[str, Any] = json.loads(json.dumps(FOREIGN))
    good, bad = document["phases"][0]["subtasks"]
    last = {**bad, "id": "last", "files_to_create": ["last"], "depends_on": ["bad"]}
    document["phases"][0]["subtasks"].append(last)
    plan.write_text(json.dumps(document))
    swarm("run", str(plan), "--only", "good")
    bad["status"] = "completed"
    plan.write_text(json.dumps(document))
    ran = swarm("run", str(plan))
    assert "hello: 0 added, 0 replaced, 2 unchanged, 1 finished before" in ran.err
    (run,) = swarm.status()["runs"]
    assert {task["id"]: task["state"] for task in run["tasks"]} == {"good": "landed", "last": "landed"}
    assert run["finished_before"] == ["bad"]
    good["status"] = "completed"
    plan.write_text(json.dumps(document))
    assert "0 added, 0 replaced, 3 unchanged\n" in swarm("run", str(plan)).err


@pytest.mark.slow
def test_states_that_were_written_back_have_nothing_done_again(swarm: Swarm) -> None:
    """After a run whose progress was written back in part, `--changed` finds nothing to do, and the plan can go on growing."""
    (swarm.top / "swarm.toml").write_text(
        'agent = "mine"\n[agents.mine]\ncommand = ["sh", "-c", "echo > $SWARM_TASK"]\n'
    )
    swarm.look_again()
    plan = swarm.outside / "implementation_plan.json"
    plan.write_text(json.dumps(FOREIGN))
    swarm("run", str(plan), "--write-back", "--only", "good")
    swarm("run", str(plan))
    document: dict[str, Any] = json.loads(plan.read_text())
    tasks = document["phases"][0]["subtasks"]
    assert [task["status"] for task in tasks] == ["completed", "pending"]
    ran = swarm("run", str(plan), "--changed")
    assert "0 added, 0 replaced, 2 unchanged" in ran.err
    assert "nothing that its landed tasks were made from has changed" in ran.err
    tasks.append({**tasks[1], "id": "last", "files_to_create": ["last"], "depends_on": ["good"]})
    plan.write_text(json.dumps(document))
    run = swarm.run(plan)
    assert {task["id"]: task["state"] for task in run["tasks"]} == dict.fromkeys(
        ("good", "bad", "last"), "landed"
    )
    assert run["finished_before"] == []

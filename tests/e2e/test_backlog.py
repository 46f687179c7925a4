"""A plan file that is watched: `swarm start --watch`."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.adversity import bound
from tests.conftest import wait_until
from tests.e2e.driver import PATIENCE_S, Swarm, common_dir, runs


@pytest.fixture
def roadmap(swarm: Swarm) -> Path:
    """A roadmap of one item, for an agent that writes a file named after its task and says so in the log."""
    does = f'{swarm.note} start; echo x > "$SWARM_TASK"; {swarm.note} end'
    (swarm.top / "swarm.toml").write_text(
        f'agent = "mine"\n[agents.mine]\ncommand = ["sh", "-c", {json.dumps(does)}]\n'
    )
    swarm.look_again()
    path = swarm.outside / "roadmap.md"
    path.write_text("# Road\n\n- [ ] First thing\n")
    return path


def lands(swarm: Swarm, count: int) -> None:
    """Waits until so many tasks have landed, and no more."""
    wait_until(lambda: swarm.run_of("roadmap")["counts"]["landed"] == count, at_most_s=PATIENCE_S)


def says(path: Path, text: str) -> None:
    wait_until(lambda: path.read_text() == text, at_most_s=PATIENCE_S)


def test_what_is_added_is_done_and_ticked_off(swarm: Swarm, roadmap: Path) -> None:
    """Rows 105, 126: an item is picked up when it is saved, in place or by another file, ticked off when it has landed, again where
    the tick is lost, and done once, though a daemon is killed and items are added while none runs."""
    swarm("start", "--watch", str(roadmap))
    lands(swarm, 1)
    says(roadmap, "# Road\n\n- [x] First thing\n")
    with roadmap.open("a") as file:
        file.write("- [ ] Second thing\n")
    lands(swarm, 2)
    says(roadmap, "# Road\n\n- [x] First thing\n- [x] Second thing\n")
    roadmap.write_text(
        "# Road\n\n- [ ] First thing\n- [x] Second thing\n"
    )  # from an editor that had an older one
    says(roadmap, "# Road\n\n- [x] First thing\n- [x] Second thing\n")
    pid = swarm.status()["daemon"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not runs(pid), at_most_s=PATIENCE_S)
    new = roadmap.with_suffix(".new")
    new.write_text(roadmap.read_text() + "- [ ] Third thing\n")
    new.replace(roadmap)
    swarm("start")
    lands(swarm, 3)
    says(roadmap, "# Road\n\n- [x] First thing\n- [x] Second thing\n- [x] Third thing\n")
    assert len(swarm.starts()) == len(set(swarm.starts())) == 3
    accepted = swarm.events("PlanAccepted")
    assert [event["added"] for event in accepted] == [1, 1, 1]  # what is ticked off is no new plan
    (swarm.top / "swarm.toml").unlink()
    swarm.look_again()


@pytest.mark.slow
def test_what_could_not_be_ticked_off_is_later(swarm: Swarm, roadmap: Path) -> None:
    """Where the file can't be written when a task has landed, it is ticked off once it can, without anything else happening."""
    folder = swarm.outside / "readable"
    folder.mkdir()
    roadmap = roadmap.rename(folder / "roadmap.md")
    with bound(folder, folder, read_only=True):
        swarm("start", "--watch", str(roadmap))
        lands(swarm, 1)
        log = common_dir(swarm.top) / "swarm" / "log" / "daemon.log"
        wait_until(lambda: "plan.not_ticked" in log.read_text(), at_most_s=PATIENCE_S)
        assert roadmap.read_text() == "# Road\n\n- [ ] First thing\n"
    says(roadmap, "# Road\n\n- [x] First thing\n")
    (swarm.top / "swarm.toml").unlink()
    swarm.look_again()


@pytest.mark.slow
def test_a_file_that_is_no_plan_for_a_while_loses_nothing(swarm: Swarm, roadmap: Path) -> None:
    """What can't be taken in is told by the run, with the reason, until it can; what was there goes on."""
    swarm("start", "--watch", str(roadmap))
    lands(swarm, 1)
    says(roadmap, "# Road\n\n- [x] First thing\n")
    kept = roadmap.read_text()
    roadmap.unlink()
    wait_until(lambda: swarm.run_of("roadmap")["problems"] != [], at_most_s=PATIENCE_S)
    assert "can't be read" in swarm.run_of("roadmap")["problems"][0]
    roadmap.write_text("nothing to do\n")
    wait_until(lambda: "not valid" in "".join(swarm.run_of("roadmap")["problems"]), at_most_s=PATIENCE_S)
    roadmap.write_text(kept + "- [ ] Second thing\n")
    lands(swarm, 2)
    wait_until(lambda: swarm.run_of("roadmap")["problems"] == [], at_most_s=PATIENCE_S)
    (swarm.top / "swarm.toml").unlink()
    swarm.look_again()


@pytest.mark.slow
def test_a_run_that_is_given_up_is_watched_no_more(swarm: Swarm, roadmap: Path) -> None:
    """After a cancel of the run its file is a file; `--watch` again takes in what was added meanwhile."""
    swarm("start", "--watch", str(roadmap))
    lands(swarm, 1)
    says(roadmap, "# Road\n\n- [x] First thing\n")
    swarm("cancel", "--run", "roadmap")
    assert swarm.run_of("roadmap")["watched"] is None
    with roadmap.open("a") as file:
        file.write("- [ ] Second thing\n")
    swarm("start", "--watch", str(roadmap))
    assert swarm.run_of("roadmap")["watched"] == str(roadmap.resolve())
    lands(swarm, 2)
    assert [event["source"] for event in swarm.events("BacklogWatched")] == [str(roadmap), "", str(roadmap)]
    (swarm.top / "swarm.toml").unlink()
    swarm.look_again()


@pytest.mark.slow
def test_two_plans_are_not_begun_with_at_once(swarm: Swarm, roadmap: Path) -> None:
    """`--plan` and `--watch` together are refused, and nothing is started."""
    refused = swarm("start", "--plan", str(roadmap), "--watch", str(roadmap), code=2)
    assert "--plan and --watch exclude each other" in refused.err
    assert not swarm.status()["daemon"]["running"]
    (swarm.top / "swarm.toml").unlink()
    swarm.look_again()

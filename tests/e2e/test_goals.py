"""From a goal to a green staging branch: scout, plan, build, with commands as roles, whatever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import git, wait_until
from tests.e2e.driver import PATIENCE_S, SWARM, Swarm
from tests.e2e.test_sandbox import works
from tests.fakes.messages import EDITOR, Reply, Request, answered, first_text, serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "goal" / "swarm.toml"
ANSWER = 'echo "$SWARM_TASK looked" > "$SWARM_ANSWER_FILE"'


def with_roles(swarm: Swarm, *tasks: dict[str, Any], scout: str = ANSWER, gate: str | None = None) -> None:
    """Has scouts do this, and the architect write a plan of these tasks."""
    plan = swarm.outside / "drafted.json"
    plan.write_text(json.dumps({"name": "made", "verify": ["true"], "tasks": tasks}))
    drafts = f'cp {shlex.quote(str(plan))} "$SWARM_ANSWER_FILE"'
    said = [(role, swarm.does(work, gate=gate)) for role, work in (("scout", scout), ("architect", drafts))]
    text = "".join(f"[roles.{role}]\nrun = {json.dumps(run)}\n" for role, run in said)
    (swarm.top / "swarm.toml").write_text(text)
    swarm.look_again()


def side_by_side(swarm: Swarm, *names: str) -> list[dict[str, Any]]:
    """Gives tasks that end only once all of them are at work."""
    tasks = []
    for name in names:
        others = " && ".join(f'[ -e "{swarm.gate(f"met-{other}")}" ]' for other in names)
        met = f'touch "{swarm.gate(f"met-{name}")}"; until {others}; do sleep 0.02; done; echo {name} > out-{name}'
        tasks.append(swarm.task(name, met, claims=[f"out-{name}"]))
    return tasks


def stage(swarm: Swarm, run: str) -> str:
    return str(swarm.run_of(run)["goal"]["stage"])


def test_the_example_goes_the_whole_way_without_a_key(swarm: Swarm) -> None:
    """Row 110: one sentence, and what stands on staging is built, verified, reviewed, and finished; nothing of the research is on
    the target."""
    shutil.copyfile(EXAMPLE, swarm.top / "swarm.toml")
    done = swarm("build", "--yes", "--json", "write the words of three numbers down").json["runs"][0]
    assert done["goal"]["stage"] == "ready"
    assert (done["qa"]["state"], done["staging"]["verified"]) == ("approved", True)
    assert (done["counts"]["answered"], done["counts"]["landed"]) == (3, 4)
    swarm("finish")
    assert git(swarm.top, "show", "main:numbers/all.txt") == "one\ntwo"
    assert "scout" not in git(swarm.top, "log", "--format=%s", "main")
    swarm.look_again()


def roles_by_a_model(request: Request, _number: int) -> Reply:
    """Does what each role is asked for: a scout tries to write and finds something out, the architect plans at great length."""
    asked, turn = first_text(request), answered(request)
    if "You look into a question" in asked:
        write = (EDITOR, {"command": "create", "path": "stray", "file_text": "x"})
        return Reply("One moment.", [write]) if not turn else Reply("It prints words.")
    if "Write the plan" in asked:
        assert "It prints words." in asked
        tasks = "".join(
            f'[[tasks]]\nid = "{name}"\nclaims = ["{name}.txt"]\nprompt = "make {name}.txt: {"word " * 3000}"\n'
            for name in ("one", "two")
        )
        return Reply(f'The plan:\n\n```toml\nname = "words"\nverify = ["true"]\n{tasks}```\n')
    name = next((name for name in ("one", "two") if f"make {name}.txt" in asked), None)
    if name is None:
        verdict = 'echo "{\\"verdict\\": \\"approve\\"}" > "$SWARM_RESULT_FILE"'
        return Reply("I look.", [("bash", {"command": verdict})]) if not turn else Reply("It is well.")
    write = (EDITOR, {"command": "create", "path": f"{name}.txt", "file_text": f"{name}\n"})
    return Reply("I write.", [write]) if not turn else Reply("Done.")


@pytest.mark.slow
def test_every_role_may_be_a_model(swarm: Swarm) -> None:
    """Row 110: from one sentence, with a model as scouts, architect, builders and reviewer: what it says last is the answer,
    however long, scouts can't write where workers are shut in, the target is green and the deploy command has run."""
    if works():
        swarm.shut_in()
    deploy = '[deploy]\ncommand = "cat one.txt two.txt > deployed"\n'
    (swarm.top / "swarm.toml").write_text(
        f'agent = "anthropic"\n[qa]\nreviewer = "Look."\nrequired = true\n{deploy}'
    )
    with serving(roles_by_a_model) as endpoint:
        swarm.env |= {"ANTHROPIC_BASE_URL": endpoint.url, "ANTHROPIC_API_KEY": "none"}
        done = swarm("build", "--yes", "--json", "--id", "way", "print some words").json["runs"][0]
        assert (done["goal"]["stage"], done["qa"]["state"]) == ("ready", "approved")
        assert [each["text"] for each in done["goal"]["findings"]] == ["It prints words."] * 2
        changed = [each["changed"] for each in done["goal"]["findings"]]
        assert changed == [[] if works() else ["stray"]] * 2
        assert (done["counts"]["landed"], done["mode"]) == (3, "parallel")
        swarm("finish")
    assert (swarm.top / "deployed").read_text() == "one\ntwo\n"
    assert git(swarm.top, "show", "main:two.txt") == "two"
    (swarm.top / "swarm.toml").unlink()
    swarm.look_again()


def test_a_killed_daemon_goes_on_at_every_step_and_asks_nobody_twice(swarm: Swarm) -> None:
    """It is killed while scouts look, while the architect plans, and while builders build: each has begun once, and all is ready.
    The client was killed before."""
    with_roles(swarm, swarm.task("a", gate="$SWARM_TASK"), swarm.task("b"), gate="$SWARM_TASK")
    asked = swarm.spawn("build", "--yes", "--id", "way", "make two things")
    swarm.wait_for_gate("scout-1", "scout-2")
    asked.kill()
    asked.wait()
    for at, opened in (("scout-1", ("scout-1", "scout-2")), ("architect", ("architect",)), ("a", ("a",))):
        swarm.wait_for_gate(at)
        swarm.end_daemon()
        for gate in opened:
            swarm.open(gate)
        swarm("start")
    done = swarm("build", "--json", "way").json["runs"][0]
    assert done["goal"]["stage"] == "ready"
    assert sorted(swarm.starts()) == ["a", "architect", "b", "scout-1", "scout-2"]
    swarm.check_landed(done)


@pytest.mark.slow
def test_a_plan_waits_for_an_approval_that_an_edit_voids(swarm: Swarm) -> None:
    """Row 74: nothing is built before a person approves, nor after the file was edited since; what was approved of last is built,
    and that which only looks begins nothing."""
    with_roles(swarm, swarm.task("a"))
    assert "no goal" in swarm("plan", "typo", code=2).err
    assert "no goal" in swarm("build", "typo", code=2).err
    made = swarm("plan", "--json", "--id", "way", "make one thing").json
    assert (made["stage"], made["plan"]["tasks"]) == ("approval", ["a"])
    assert "waits for your approval" in swarm("build", "way", code=1).out
    assert "Approved" in swarm("plan", "way", "--approve").out
    file = Path(made["plan"]["file"])
    file.write_text(json.dumps({"tasks": [swarm.task("a"), swarm.task("b", needs=["c"])]}))
    shown = swarm("plan", "way").out
    assert "voids that" in shown
    assert 'needs "c"' in shown
    assert "--approve" not in shown
    assert "was edited since" in swarm("build", "way", code=4).err
    assert 'needs "c"' in swarm("plan", "way", "--approve", code=2).err
    file.write_text(json.dumps({"tasks": side_by_side(swarm, "a", "b")}))
    swarm("plan", "way", "--approve")
    before = swarm.starts()
    swarm("plan", "way")
    assert (stage(swarm, "way"), swarm.starts()) == ("approved", before)
    file.unlink()  # what was approved of stands in the journal
    assert "is gone; what was approved of is kept: a, b" in swarm("plan", "way").out
    assert "Approved" in swarm("plan", "way", "--approve").out
    built = swarm("build", "--json", "--id", "way", "make one thing").json["runs"][0]
    assert (built["counts"]["landed"], built["mode"], built["width"]) == (2, "parallel", 2)
    assert sorted(swarm.landings("way")) == ["a", "b"]
    assert "something else" in swarm("plan", "--id", "way", "make another thing", code=4).err


def at_a_terminal(swarm: Swarm, answers: list[str], *args: str, **env: str) -> str:
    """Runs a command at a terminal, answers its questions in turn, and gives what was shown."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        child = subprocess.Popen(
            [*SWARM, *args], cwd=swarm.top, env={**swarm.env, "TERM": "dumb", **env},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        shown, asked = b"", 0
        with contextlib.suppress(OSError):  # a terminal ends with an error once nobody has it open any more
            while more := terminal.read(1 << 16):
                shown += more
                if answers and shown.count(b"[n]:") > asked:
                    asked += 1
                    terminal.write(answers.pop(0).encode() + b"\n")
        child.wait(PATIENCE_S)
    return shown.decode()


def test_a_person_at_a_terminal_is_asked_and_may_edit(swarm: Swarm) -> None:
    """Who says no approves of nothing; an invalid plan can be edited, and what it was edited into is what they agree to."""
    with_roles(swarm, swarm.task("a"))
    swarm("start")
    made = swarm("plan", "--json", "--id", "way", "make one thing").json
    said = at_a_terminal(swarm, ["n"], "plan", "way")
    assert "the plan waits for your approval" in said.partition("[n]:")[2]
    (swarm.outside / "new").write_text(json.dumps({"tasks": [swarm.task("b")]}))
    Path(made["plan"]["file"]).write_text("verify = [")
    said = at_a_terminal(swarm, ["e", "y"], "plan", "way", EDITOR=f"cp {swarm.outside / 'new'}")
    assert "It is not valid" in said
    assert "the plan is approved of" in said
    assert swarm("plan", "way", "--json").json["plan"]["tasks"] == ["b"]


@pytest.mark.slow
def test_scouts_answer_change_nothing_and_are_shown_again(swarm: Swarm) -> None:
    """Row 92: questions are looked into at once; what they found is merged, kept without a daemon, and what a scout changed is told
    and does not land. What a command prints is its answer where it writes none; of one that failed it is said where to look."""
    with_roles(
        swarm, scout='echo x > stray; grep "question" "$SWARM_PROMPT_FILE" && touch "$SWARM_ANSWER_FILE"'
    )
    found = swarm("scout", "--json", "--id", "look", "first question?", "second question?").json
    assert [each["question"] for each in found["findings"]] == ["first question?", "second question?"]
    assert all("question?" in each["text"] for each in found["findings"])
    assert [each["changed"] for each in found["findings"]] == [["stray"], ["stray"]]
    swarm.wait_for_rest()
    assert swarm("scout", "--show", "look", "--json").json == found
    assert swarm.staging("look") == git(swarm.top, "rev-parse", "main")
    assert "no question" in swarm("scout", code=2).err
    swarm("discard", "look")
    with_roles(swarm, scout="exit 3")
    said = swarm("scout", "--id", "vain", "first question?", code=1).out
    assert (
        "scout-1 is failed: first question?\n  Why: swarm show vain/scout-1, swarm logs vain/scout-1" in said
    )
    assert "exit code 3" in swarm("show", "vain/scout-1").out


@pytest.mark.slow
def test_a_new_project_begins_with_nothing(swarm: Swarm) -> None:
    """Row 123: a folder that was not there is a repository with the result. Where nobody is said to scout nothing is begun, and
    the same command goes on once somebody is; where something else is it is refused. A word that is no goal makes no folder."""
    place = swarm.outside / "new"
    assert "no goal" in swarm("build", "--new", str(place), "thing", code=2).err
    assert not place.exists()
    wanted = ("build", "--new", str(place), "--yes", "--json", "make a thing")
    assert "[roles.scout]" in swarm(*wanted, code=2).err
    with_roles(swarm, swarm.task("a"))
    shutil.copyfile(swarm.top / "swarm.toml", place / "swarm.toml")
    done = swarm(*wanted).json["runs"][0]
    assert done["goal"]["stage"] == "ready"
    assert git(place, "log", "--format=%s", "main") == "Begin"
    assert f"The project is in {place}" in swarm("build", "--new", str(place), "--yes", "make a thing").out
    swarm("-C", str(place), "finish")
    assert git(place, "show", "main:out-a") == "a"
    assert "no repository" in swarm("build", "--new", str(swarm.outside), "make it", code=4).err
    wait_until(lambda: not (place / ".git/swarm/daemon.json").exists(), at_most_s=PATIENCE_S)


@pytest.mark.slow
def test_what_a_run_taught_is_told_to_the_next_and_taken_back(swarm: Swarm) -> None:
    """Row 125: a later run's worker finds in its prompt what did not land before; forgotten, the next one does not."""
    swarm.run(swarm.plan("first", [swarm.task("tricky", "exit 3", attempts=1)]), code=1)
    (lesson,) = swarm("lessons", "--json").json["lessons"]
    assert (lesson["kind"], lesson["run"], "tricky" in lesson["text"]) == ("failed", "first", True)
    look = 'cp "$SWARM_PROMPT_FILE" out'
    swarm.run(swarm.plan("second", [swarm.task("b", look)]))
    assert f"- {lesson['text']}" in str(swarm.content("second", "out"))
    swarm("lessons", "--forget", lesson["id"])
    for more in ((), ("--forget-all",)):
        assert "no lesson" in swarm("lessons", "--forget", lesson["id"], *more, code=2).err
    swarm.run(swarm.plan("third", [swarm.task("c", look)]))
    assert "tricky" not in str(swarm.content("third", "out"))

"""The plan files of other systems: real ones read as they are, variants that are seen in the wild, and progress written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swarm.core import plan
from swarm.core.model import Claim, Defaults, PhaseSpec, TaskState
from swarm.errors import UsageError
from tests.builders import tasks_of, the_plan

REAL = Path(__file__).parent.parent / "data" / "plans"
AGENT = Defaults(agent="claude")


def real(number: str) -> tuple[Path, dict[str, Any]]:
    (path,) = REAL.glob(f"{number}-*.json")
    return path, json.loads(path.read_text("utf-8"))


def read(document: Any, source: str = "implementation_plan.json") -> plan.Reading:
    return plan.read(json.dumps(document).encode(), source=source, defaults=AGENT)


def phased(*phases: dict[str, Any], **top: Any) -> plan.Reading:
    return read({"feature": "f", **top, "phases": list(phases)})


def flat(*tasks: dict[str, Any], key: str = "tasks") -> plan.Reading:
    return read({"feature": "f", key: list(tasks)})


def phases_of(reading: plan.Reading) -> dict[str, PhaseSpec]:
    return {phase.id: phase for phase in the_plan(reading).phases}


def told(reading: plan.Reading) -> str:
    return "\n".join(f"{problem.place}: {problem.text}" for problem in (*reading.errors, *reading.warnings))


def raw_tasks(document: dict[str, Any]) -> list[dict[str, Any]]:
    holders = document.get("phases", [document])
    return [
        task for holder in holders for key in ("subtasks", "chunks", "tasks") for task in holder.get(key, [])
    ]


@pytest.mark.parametrize("path", sorted(REAL.glob("*.json")), ids=lambda path: path.stem)
def test_real_files_are_read_whole(path: Path) -> None:
    """Every real file is valid, has as many tasks and finished ones as a raw count of its JSON, and each title and claim."""
    document = json.loads(path.read_text("utf-8"))
    reading = plan.read(path.read_bytes(), source=str(path), defaults=AGENT)
    assert reading.errors == ()
    raws = raw_tasks(document)
    spec = the_plan(reading)
    assert len(spec.tasks) == len(raws)
    assert len(spec.phases) == len(document.get("phases", []))
    assert [task.finished for task in spec.tasks] == [
        raw.get("status") in ("completed", "done") for raw in raws
    ]
    for task, raw in zip(spec.tasks, raws, strict=True):
        files = [*raw.get("files_to_modify", []), *raw.get("files_to_create", []), *raw.get("files", [])]
        assert [claim.path for claim in task.claims] == list(dict.fromkeys(files))
        assert task.id == raw["id"]
        assert task.prompt.startswith((raw.get("title") or raw["description"])[:60])


def test_phase_needs_are_those_of_the_file() -> None:
    """Phases with integer ids and with text ids keep exactly the edges that the file has, and what it says of parallel work."""
    for number, key in (("01", "phase"), ("06", "id"), ("08", "id"), ("10", "id")):
        path, document = real(number)
        found = phases_of(plan.read(path.read_bytes(), source=path.name, defaults=AGENT))
        for raw in document["phases"]:
            phase = found[str(raw[key])]
            assert list(phase.phase_needs) == [str(need) for need in raw["depends_on"]]
            assert phase.parallel_safe is raw["parallel_safe"]


def test_forms_are_named() -> None:
    """`check` says which variant of which system's file it has recognised."""
    named = {
        "01": "implementation_plan.json (chunks, integer phase ids)",
        "06": "implementation_plan.json (subtasks, string phase ids)",
        "11": "implementation_plan.json (flat subtasks)",
        "24": "build-tasks.json",
    }
    for number, form in named.items():
        path, _ = real(number)
        assert the_plan(plan.read(path.read_bytes(), source="any name.json", defaults=AGENT)).format == form


def test_run_ids_come_from_feature_spec_name_spec_id_then_the_file() -> None:
    """The first of the names that a foreign file gives names the run; where it gives none that is told."""
    task = {"id": "a", "description": "x"}
    names = {"spec_id": "c", "spec_name": "b", "feature": "a"}
    while names:
        assert the_plan(read({**names, "subtasks": [task]})).name == min(names.values())
        names.popitem()
    nameless = read({"subtasks": [task]}, "specs/001/implementation_plan.json")
    assert the_plan(nameless).name == "implementation_plan"
    assert "named after the file" in told(nameless)


def test_the_build_tasks_file_has_its_waves_and_needs() -> None:
    """Nine tasks, three levels of needs below the first, `files` as claims."""
    path, document = real("24")
    spec = the_plan(plan.read(path.read_bytes(), source=path.name, defaults=AGENT))
    assert [list(task.needs) for task in spec.tasks] == [raw["dependencies"] for raw in document["tasks"]]
    shape = plan.graph(spec)
    assert [len(wave) for wave in shape.waves] == [5, 2, 1, 1]
    assert shape.widest == 5


def test_a_plan_that_says_more_than_its_tasks_is_told() -> None:
    """A plan in review with 11 of 34 tasks pending is a named contradiction; the tasks count."""
    path, _ = real("08")
    reading = plan.read(path.read_bytes(), source=path.name, defaults=AGENT)
    assert (
        'contradiction: the plan says status "ai_review", planStatus "review" while 11 of 34 tasks'
        in told(reading)
    )
    phase = phased({"phase": 1, "status": "completed", "subtasks": [{"id": "a", "description": "x"}]})
    assert 'phases[0].status: contradiction: phase "1" says "completed" while 1 of 1' in told(phase)
    quiet, _ = real("10")
    assert told(plan.read(quiet.read_bytes(), source=quiet.name, defaults=AGENT)) == ""


@pytest.mark.parametrize(
    "depends_on", [[1], ["1"], 1, "1", [1.0], ["Set up"], ["set UP"], [{"id": 1}], ["phase-1"]]
)
def test_a_phase_may_be_named_by_id_number_text_or_name(depends_on: Any) -> None:
    """Whatever way a dependency is written, it is the same phase."""
    reading = phased(
        {"phase": 1, "name": "Set up", "chunks": [{"id": "a", "description": "x"}]},
        {"phase": 2, "name": "Go", "depends_on": depends_on, "chunks": [{"id": "b", "description": "x"}]},
    )
    assert not reading.errors
    assert phases_of(reading)["2"].phase_needs == ("1",)


def test_a_phase_with_a_text_id_may_be_named_by_its_number() -> None:
    """`1` is `phase-1-core`, or the first phase where no id has a number."""
    task = {"description": "x"}
    numbered = phased(
        {"id": "phase-0-x", "tasks": [task]}, {"id": "phase-1-y", "depends_on": ["0"], "tasks": [task]}
    )
    assert phases_of(numbered)["phase-1-y"].phase_needs == ("phase-0-x",)
    named = phased({"id": "core", "tasks": [task]}, {"id": "ui", "depends_on": [1], "tasks": [task]})
    assert phases_of(named)["ui"].phase_needs == ("core",)


def test_a_finished_phase_frees_what_depends_on_it() -> None:
    """With phase 1 done, the tasks of a phase that depends on `"1"` are the first wave."""
    reading = phased(
        {"phase": 1, "chunks": [{"id": "a", "description": "x", "status": "completed"}]},
        {"phase": 2, "depends_on": ["1"], "parallel_safe": True, "chunks": [{"id": "b", "description": "x"}]},
    )
    assert plan.graph(the_plan(reading)).waves == [["b"]]


def test_unknown_dependencies_are_refused_with_their_place() -> None:
    """A dependency of a phase or task that names nothing is an error with a suggestion, never dropped."""
    reading = phased(
        {"id": "setup", "subtasks": [{"id": "a", "description": "x", "depends_on": ["aa"]}]},
        {"id": "ui", "depends_on": ["setpu"], "subtasks": [{"id": "b", "description": "x"}]},
    )
    places = {problem.place: problem.text for problem in reading.errors}
    assert places.keys() == {"phases[0].subtasks[0].depends_on[0]", "phases[1].depends_on[0]"}
    assert 'did you mean "setup"?' in places["phases[1].depends_on[0]"]


@pytest.mark.parametrize(
    ("depends_on", "places"),
    [
        ({"zz": 1}, ["depends_on"]),
        ({"b": True}, ["depends_on"]),
        (True, ["depends_on"]),
        (["b", {"other": "b"}, True, ["b"]], ["depends_on[1]", "depends_on[2]", "depends_on[3]"]),
        ({"id": "zz"}, ["depends_on"]),
        ([{"task": "zz"}], ["depends_on[0]"]),
        ([{"task": "b"}, {"phase": "p"}], []),
        (False, []),
        ([None, "none", ""], []),
    ],
)
def test_a_dependency_in_no_known_form_is_refused(depends_on: Any, places: list[str]) -> None:
    """Of a task and of a phase: dropped, it would let the task start before what it needs. What says nothing is nothing."""
    task = {"id": "b", "description": "x"}
    first = {"id": "p", "subtasks": [task]}
    reading = phased(first, {"id": "q", "subtasks": [{**task, "id": "c", "depends_on": depends_on}]})
    assert [each.place for each in reading.errors] == [f"phases[1].subtasks[0].{place}" for place in places]
    if "b" not in str(depends_on):
        reading = phased(first, {"id": "q", "depends_on": depends_on, "subtasks": [{**task, "id": "c"}]})
        assert [each.place for each in reading.errors] == [f"phases[1].{place}" for place in places]


def test_what_is_no_phase_is_refused_with_its_place() -> None:
    """As what is no task: it may be the half of one."""
    reading = read({"phases": [{"id": "p", "subtasks": [{"id": "a", "description": "x"}]}, 5, None]})
    assert [each.place for each in reading.errors] == ["phases[1]", "phases[2]"]


@pytest.mark.parametrize(
    ("files", "claimed"),
    [
        ({"create": ["a.py"], "modify": "b.py"}, ["a.py", "b.py"]),
        ({"src/a.py": "why", "Makefile": "a new target"}, ["src/a.py", "Makefile"]),
        ({"src/a.py": {"reason": "why"}, "x": {"path": "b.py"}, "c.py": None}, ["src/a.py", "b.py", "c.py"]),
        ({"backend": "src/x.py", "src/y.py": "src/z.py"}, ["src/x.py", "src/y.py"]),
        ({"delete": None, "update": "Makefile"}, ["Makefile"]),
    ],
)
def test_an_object_of_files_has_them_as_keys_or_in_groups(files: Any, claimed: list[str]) -> None:
    """A reason is no path."""
    reading = flat({"id": "a", "description": "x", "files_to_modify": files}, key="subtasks")
    assert not reading.errors
    assert [claim.path for claim in tasks_of(reading)["a"].claims] == claimed


def test_cycles_of_foreign_plans_are_named() -> None:
    """A ring of phases or of tasks is refused by name."""
    ring = flat(
        {"id": 1, "description": "x", "dependencies": [2]},
        {"id": 2, "description": "x", "dependencies": ["1"]},
    )
    assert "1 -> 2 -> 1" in told(ring)
    phases = phased(
        {"phase": 1, "depends_on": [2], "tasks": [{"description": "x"}]},
        {"phase": 2, "depends_on": [1], "tasks": [{"description": "x"}]},
    )
    assert "1 -> 2 -> 1" in told(phases)


@pytest.mark.parametrize(
    ("state", "finished"),
    [
        ("completed", True),
        ("Done", True),
        ("complete", True),
        ("completed_successfully", True),
        ("Completed Successfully", True),
        (True, True),
        ("pending", False),
        ("not_started", False),
        ("to-do", False),
        ("backlog", False),
        ("in_progress", False),
        ("failed", False),
        (None, False),
        (False, False),
    ],
)
def test_words_for_states(state: Any, finished: bool) -> None:
    """Every known word for a state is understood without complaint; what a dead run left in progress is pending."""
    reading = flat({"id": "a", "description": "x", "files": ["x"], "status": state})
    assert tasks_of(reading)["a"].finished is finished
    assert "state" not in told(reading)


def test_an_unknown_state_is_told_and_pending() -> None:
    """A state in no list is a warning with its place, and never taken for done."""
    reading = flat({"id": "a", "description": "x", "status": "marinating"}, key="subtasks")
    assert tasks_of(reading)["a"].finished is False
    assert 'subtasks[0].status: task "a" has the unknown state "marinating"' in told(reading)


def test_a_phase_goes_one_at_a_time_unless_it_says_otherwise() -> None:
    """Without `parallel_safe` a foreign phase is sequential, and `build-tasks.json` with `parallel_mode: false` is too."""
    reading = phased(
        {"id": "a", "tasks": [{"description": "x"}]},
        {"id": "b", "parallel_safe": True, "tasks": [{"description": "x"}]},
    )
    assert [phase.parallel_safe for phase in the_plan(reading).phases] == [False, True]
    building = read(
        {"parallel_mode": False, "tasks": [{"id": "a", "files": ["a"]}, {"id": "b", "files": ["b"]}]}
    )
    assert plan.graph(the_plan(building)).waves == [["a"], ["b"]]


def test_subtasks_go_before_chunks_and_a_difference_is_told() -> None:
    """An identical list beside the preferred one is passed over; one with other tasks is told."""
    task, other = {"id": "a", "description": "x"}, {"id": "b", "description": "y"}
    assert list(tasks_of(phased({"id": "p", "chunks": [task], "subtasks": [task]}))) == ["a"]
    assert "side by side" not in told(phased({"id": "p", "chunks": [task], "subtasks": [task]}))
    assert list(tasks_of(phased({"id": "p", "chunks": [task], "subtasks": []}))) == ["a"]
    assert "phases[0].chunks" in told(phased({"id": "p", "chunks": [task, other], "subtasks": [task]}))


def test_keys_of_phases() -> None:
    """A phase is known by `id`, else `phase_id`, else `phase`, else its position."""
    task = {"description": "x"}
    reading = phased(
        {"id": "a", "phase": 7, "tasks": [task]},
        {"phase_id": "b", "tasks": [task]},
        {"phase": 3, "tasks": [task]},
        {"tasks": [task]},
    )
    assert [phase.id for phase in the_plan(reading).phases] == ["a", "b", "3", "4"]
    assert [task.id for task in the_plan(reading).tasks] == ["a-1", "b-1", "3-1", "4-1"]


def test_ids_that_stand_in_several_phases_are_qualified() -> None:
    """Such tasks are `<phase>/<id>`, it is told, and a dependency means the one of its own phase."""
    first, second = {"id": "1", "description": "x"}, {"id": "2", "description": "y", "depends_on": ["1"]}
    reading = phased({"id": "p", "tasks": [first, second]}, {"id": "q", "tasks": [first, second]})
    assert not reading.errors
    assert list(tasks_of(reading)) == ["p/1", "p/2", "q/1", "q/2"]
    assert tasks_of(reading)["q/2"].needs == ("q/1",)
    assert 'the id "1" stands in several phases; read as "q/1"' in told(reading)


def test_doubles_in_one_phase() -> None:
    """The same entry twice is read once; two different tasks of one id are refused."""
    task = {"id": "a", "description": "x"}
    assert list(tasks_of(flat(task, task, key="subtasks"))) == ["a"]
    assert "subtasks[1].id" in told(flat(task, {**task, "description": "y"}, key="subtasks"))


def test_tasks_outside_the_phases_are_not_lost() -> None:
    """Tasks in a flat list beside phases are read too; in the flat form a task may name its phase."""
    reading = phased(
        {"id": "p", "tasks": [{"id": "a", "description": "x"}]}, subtasks=[{"id": "b", "description": "y"}]
    )
    assert list(tasks_of(reading)) == ["a", "b"]
    assert "1 task stands outside the phases" in told(reading)
    linked = read(
        {"feature": "f", "phases": [{"id": 1}], "subtasks": [{"id": "a", "phase": 1, "description": "x"}]}
    )
    assert tasks_of(linked)["a"].phase == "1"


def test_paths_outside_the_repository_are_refused() -> None:
    """A pending task may not name files outside; of a finished one that is only told, since it never runs."""
    task = {
        "id": "a",
        "description": "x",
        "files_to_modify": ["/etc/passwd", "../x", "a/.git/config", "src\\win.py", {"path": "b"}, 3],
    }
    reading = flat(task, key="subtasks")
    assert [problem.place for problem in reading.errors] == [
        f"subtasks[0].files_to_modify[{n}]" for n in (0, 1, 2, 5)
    ]
    assert tasks_of(reading)["a"].claims == (Claim("src/win.py"), Claim("b"))
    assert not flat({**task, "status": "done"}, key="subtasks").errors


def test_only_commands_are_run() -> None:
    """Manual, browser and e2e steps, sentences and checks of other folders are text for the worker; only commands are suites."""
    checks: dict[str, Any] = {
        "command": {"type": "command", "run": "make test"},
        "plain": {"command": "npm test"},
        "assigned": {"type": "command", "command": "CI=1 npm test"},
        "manual": {"type": "manual", "run": "Check that it works"},
        "sentence": {"type": "command", "run": "Manual test: Run review and press Ctrl+C"},
        "steps": {"type": "command", "command": "1. Open the app. 2. Look."},
        "elsewhere": {"type": "command", "command": "cd /home/user/project && make test"},
        "above": {"type": "command", "command": "true && cd .. && make test"},
        "browser": {"type": "browser", "url": "http://localhost:3000", "checks": ["Open the panel"]},
        "e2e": {"type": "e2e", "steps": ["Log in"]},
        "unknown": {"type": "vibes", "command": "rm -rf /"},
        "none": {"type": "none"},
    }
    reading = flat(
        *({"id": key, "description": "x", "verification": check} for key, check in checks.items()),
        key="subtasks",
    )
    found = tasks_of(reading)
    run = {key: [suite.run for suite in task.verify] for key, task in found.items() if task.verify}
    assert run == {"command": ["make test"], "plain": ["npm test"], "assigned": ["CI=1 npm test"]}
    assert "Open the panel" in found["browser"].prompt
    assert "Log in" in found["e2e"].prompt
    assert "reads like a sentence" in told(reading)
    assert "another tree than the one that lands" in told(reading)


def test_a_description_of_the_output_is_not_looked_for() -> None:
    """`expected` prose leaves the exit status to count, and says so; `cd` into the repository is a command."""
    check = {"type": "command", "command": "cd apps && npx tsc --noEmit", "expected": "No TypeScript errors"}
    reading = flat({"id": "a", "description": "x", "verification": check}, key="subtasks")
    assert [suite.run for suite in tasks_of(reading)["a"].verify] == ["cd apps && npx tsc --noEmit"]
    assert "the exit status of the command counts" in told(reading)


def test_the_prompt_holds_what_the_file_says() -> None:
    """The worker gets description, details, files, patterns, acceptance and what it is part of; the title is one bounded line."""
    task = {
        "id": "a",
        "description": "Make the thing " + "very " * 60 + "good\nSecond line",
        "implementation_details": "Use a dataclass",
        "files_to_create": ["new.py"],
        "patterns_from": ["old.py"],
        "acceptance_criteria": ["It works"],
    }
    found = tasks_of(phased({"id": 1, "name": "Core", "description": "The heart", "subtasks": [task]}))["a"]
    for part in ("Second line", "Use a dataclass", "new.py", "old.py", "It works", "f / Core / The heart"):
        assert part in found.prompt
    assert len(found.title) <= 120
    assert "\n" not in found.title


def test_feature_lists() -> None:
    """An array of features is read: which pass is done, ids stay when another is put before, the order of priority is kept."""
    features = [
        {
            "category": "ui",
            "priority": "high",
            "description": "Dark mode",
            "steps": ["Open", "Toggle"],
            "passes": False,
        },
        {"category": "ui", "priority": "low", "description": "Sounds", "steps": [], "passes": True},
        {"category": "core", "description": "Undo", "passes": False},
    ]
    reading = read(features, "feature_list.json")
    assert not reading.errors
    spec = the_plan(reading)
    assert (spec.format, len(spec.tasks)) == ("feature_list.json", 3)
    assert [task.finished for task in spec.tasks] == [False, True, False]
    assert spec.tasks[0].priority > spec.tasks[1].priority
    assert "- Toggle" in spec.tasks[0].prompt
    later = the_plan(read([{"description": "New", "passes": False}, *features], "feature_list.json"))
    assert [task.id for task in later.tasks[1:]] == [task.id for task in spec.tasks]
    wrapped = the_plan(read({"features": features}, "feature_list.json"))
    assert [task.id for task in wrapped.tasks] == [task.id for task in spec.tasks]


def test_native_and_foreign_flat_lists_are_told_apart_by_content() -> None:
    """One key that only one of the two forms has decides, whatever the file is called."""
    native = read({"tasks": [{"id": "a", "run": "x"}]}, "build-tasks.json")
    assert the_plan(native).format == "native JSON"
    assert the_plan(read({"tasks": [{"id": "a", "files": ["x"]}]}, "plan.json")).format == "build-tasks.json"
    assert "flat tasks" in the_plan(read({"feature": "f", "tasks": [{"id": "a"}]}, "plan.json")).format


def test_a_native_key_in_a_foreign_task_is_told() -> None:
    """A command in a task inside a phase is not run, and nobody has to wonder why."""
    reading = phased({"id": "p", "tasks": [{"id": "a", "description": "x", "run": "make"}]})
    assert tasks_of(reading)["a"].run == ""
    assert "phases[0].tasks[0].run: kept and not used" in told(reading)


def test_the_default_agent_command_is_warned_about() -> None:
    """Foreign tasks have no command, so with the default agent `command` check says what to set."""
    data = json.dumps({"subtasks": [{"id": "a", "description": "x"}]}).encode()
    reading = plan.read(data, source="p.json", defaults=Defaults())
    assert 'the default agent is "command"' in told(reading)
    assert not reading.errors


def test_an_announced_number_that_is_not_there_is_told() -> None:
    """A file that announces more tasks or phases than it holds may be cut, and says so."""
    reading = phased({"id": 1, "subtasks": [{"id": "a", "description": "x"}]}, total_phases=3)
    assert "total_phases: the file announces 3 and has 1" in told(reading)


# --- writing back -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(REAL.glob("*.json")), ids=lambda path: path.stem)
def test_writing_back_loses_no_key(path: Path) -> None:
    """After a write-back the file differs from the real one in the states of the named tasks and in nothing else."""
    original = path.read_bytes()
    before = json.loads(original)
    spec = the_plan(plan.read(original, source=path.name, defaults=AGENT))
    assert plan.write_back(original, {}) == original
    assert (
        plan.write_back(original, {task.id: TaskState.LANDED for task in spec.tasks if task.finished})
        == original
    )
    written = plan.write_back(original, {task.id: TaskState.LANDED for task in spec.tasks})
    again = the_plan(plan.read(written, source=path.name, defaults=AGENT))
    assert all(task.finished for task in again.tasks)
    after = json.loads(written)
    for raw in (*raw_tasks(before), *raw_tasks(after)):
        raw.pop("status", None)
    assert after == before
    assert list(after) == list(before)


def test_writing_back_keeps_comments_spaces_and_line_ends() -> None:
    """Only the state changes: comments, byte order mark, CRLF and the order of keys stay; a missing state is added."""
    original = (
        b"\xef\xbb\xbf// plan\r\n"
        b'{"feature": "f", "subtasks": [\r\n'
        b'  {"id": 1, "status" : "pending", /* why */ "description": "x // y"},\r\n'
        b'  {\r\n    "id": 2,\r\n    "description": "y"\r\n  }\r\n]}\r\n'
    )
    states = {"1": TaskState.LANDED, "2": TaskState.RUNNING, "nobody": TaskState.FAILED}
    assert plan.write_back(original, states) == original.replace(b'"pending"', b'"completed"').replace(
        b'"y"\r\n', b'"y",\r\n    "status": "in_progress"\r\n'
    )


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (TaskState.LANDED, "completed"),
        (TaskState.FAILED, "failed"),
        (TaskState.BLOCKED, "blocked"),
        (TaskState.CANCELLED, "pending"),
        (TaskState.READY, "pending"),
        (TaskState.QUEUED, "in_progress"),
    ],
)
def test_words_written_back(state: TaskState, word: str) -> None:
    """Each state is written in the words of the other system."""
    data = json.dumps({"subtasks": [{"id": "a", "description": "x", "status": "?"}]}).encode()
    assert json.loads(plan.write_back(data, {"a": state}))["subtasks"][0]["status"] == word


def test_features_pass_when_landed() -> None:
    """In a feature list `passes` becomes true when the task has landed, and false when it is taken back."""
    data = json.dumps(
        [{"id": "a", "description": "x", "passes": False}, {"id": "b", "description": "y", "passes": True}]
    ).encode()
    written = json.loads(plan.write_back(data, {"a": TaskState.LANDED, "b": TaskState.PENDING}))
    assert [feature["passes"] for feature in written] == [True, False]


def test_twins_and_qualified_ids_are_written_back() -> None:
    """A task that stands in two lists is set in both; one id in two phases is set where it is meant."""
    task = {"id": "a", "description": "x"}
    data = json.dumps(
        {"phases": [{"id": "p", "chunks": [task], "subtasks": [task]}, {"id": "q", "tasks": [task]}]}
    ).encode()
    written = json.loads(plan.write_back(data, {"p/a": TaskState.LANDED}))
    first, second = written["phases"]
    assert [first["chunks"][0].get("status"), first["subtasks"][0].get("status")] == [
        "completed",
        "completed",
    ]
    assert "status" not in second["tasks"][0]


def test_a_task_that_is_only_a_text_gets_room_for_its_state() -> None:
    """A text in the place of a task becomes an object that keeps the text; those that did not change stay texts."""
    data = json.dumps({"feature": "f", "tasks": ["One", "Two"]}).encode()
    one, _ = tasks_of(plan.read(data, source="p.json", defaults=AGENT))
    written = json.loads(plan.write_back(data, {one: TaskState.LANDED}))
    assert written["tasks"] == [{"description": "One", "status": "completed"}, "Two"]


def test_what_holds_no_states_is_not_written() -> None:
    """A native plan and a broken file are refused with the reason."""
    for data in (b'{"tasks": [{"id": "a", "run": "x"}]}', b"[[tasks]]\nid = 'a'\nrun = 'x'\n", b"{"):
        with pytest.raises(UsageError, match=r"written back"):
            plan.write_back(data, {"a": TaskState.LANDED})


# --- Markdown ---------------------------------------------------------------------------------------------------------------

ROADMAP = """\
# Roadmap

- [ ] Someday

## PRIORITY 2: later

- [x] Old thing
- [ ] Write **docs**
  with many words
  - [x] outline
  - [ ] text

## Priority 1

### Details

1. [ ] Fix the login
   - [ ] also this

```
- [ ] no task
```

## Notes
* [X] Done too
- [not a box] text
"""


def roadmap(text: str = ROADMAP) -> plan.Reading:
    return plan.read(text.encode(), source="docs/ROADMAP.md", defaults=AGENT)


def test_a_roadmap_becomes_tasks_in_the_order_of_its_priorities() -> None:
    """Boxes are tasks, inner boxes steps, lower priority numbers go first, text in code blocks is none."""
    reading = roadmap()
    assert not reading.errors
    spec = the_plan(reading)
    assert [task.title for task in spec.tasks] == [
        "Fix the login",
        "Old thing",
        "Write docs",
        "Someday",
        "Done too",
    ]
    assert [task.finished for task in spec.tasks] == [False, True, False, False, True]
    priorities = [task.priority for task in spec.tasks]
    assert priorities == sorted(priorities, reverse=True)
    docs = spec.tasks[2]
    assert "with many words" in docs.prompt
    assert "- [ ] text" in docs.prompt
    assert "Part of: Roadmap / Priority 1 / Details" in spec.tasks[0].prompt
    assert spec.format == "Markdown roadmap"


def test_ids_of_a_roadmap_stay() -> None:
    """Ids come from the text: adding, moving and ticking lines changes none; equal lines are told apart."""
    ids = {task.title: task.id for task in the_plan(roadmap()).tasks}
    changed = the_plan(roadmap("- [ ] New\n" + ROADMAP.replace("- [ ] Someday", "- [x] Someday")))
    assert {task.title: task.id for task in changed.tasks}.items() >= ids.items()
    assert len({task.id for task in the_plan(roadmap("- [ ] a\n- [ ] a\n- [ ] A\n")).tasks}) == 3


def test_a_ticked_box_with_open_steps_is_not_finished() -> None:
    """A ticked box that holds an open one is a contradiction, told and run."""
    reading = roadmap("- [x] outer\n  - [ ] inner\n")
    assert [task.finished for task in the_plan(reading).tasks] == [False]
    assert "line 1: contradiction" in told(reading)


MARKS = """\
- [-] dropped
  - [ ] with it
- [~] half
- [/] begun
- [>] moved
- [] typed
- [x] outer
  - [-] not this
- [✓] by hand
- [1] a reference
- [x](address) a link
"""


def test_other_marks_than_ticks_are_told_and_read_as_most_people_mean_them() -> None:
    """[-] is dropped and not run, any other mark is open; both are warned of with their line. References and links are no boxes."""
    reading = roadmap(MARKS)
    assert {task.title: task.finished for task in the_plan(reading).tasks} == {
        "dropped": True,
        "half": False,
        "begun": False,
        "moved": False,
        "typed": False,
        "outer": True,
        "by hand": True,
    }
    assert [each.place for each in reading.warnings if "mark" in each.text] == [
        "line 1",
        "line 3",
        "line 4",
        "line 5",
        "line 6",
    ]
    assert 'line 3: "half" has the unknown mark [~]; it is read as open' in told(reading)
    assert not any("contradiction" in each.text for each in reading.warnings)


def test_what_a_person_dropped_is_not_written_over() -> None:
    """A landed task's box gets its tick whatever stood in it; a dropped one stays dropped, also inside one that landed."""
    text = MARKS.replace("[x] outer", "[>] outer")
    ids = {task.title: task.id for task in the_plan(roadmap(text)).tasks}
    states = dict.fromkeys((ids["half"], ids["typed"], ids["outer"]), TaskState.LANDED)
    states[ids["dropped"]] = TaskState.PENDING
    written = plan.write_back(text.encode(), states, source="ROADMAP.md").decode()
    expected = text.replace("[~]", "[x]").replace("[]", "[x]").replace("[>] outer", "[x] outer")
    assert written == expected


def test_a_roadmap_is_written_back_by_its_boxes_alone() -> None:
    """A landed task's box and those inside it are ticked, one taken back is unticked, and no other byte changes."""
    ids = {task.title: task.id for task in the_plan(roadmap()).tasks}
    states = {ids["Write docs"]: TaskState.LANDED, ids["Old thing"]: TaskState.PENDING}
    written = plan.write_back(ROADMAP.encode(), states, source="ROADMAP.md").decode()
    expected = (
        ROADMAP.replace("- [ ] Write", "- [x] Write")
        .replace("- [ ] text", "- [x] text")
        .replace("[x] Old", "[ ] Old")
    )
    assert written == expected


def test_a_markdown_file_without_boxes_is_refused() -> None:
    """Prose is no plan."""
    assert "no task found" in told(roadmap("# Hello\n\n- a list\n"))

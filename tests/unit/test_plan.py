"""Native plans: what is read, every error at once with its place, and what `swarm check` says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.core import plan
from swarm.core.model import Claim, Defaults, Mode, Suite, TaskSpec, slug
from tests.builders import tasks_of, the_plan

_KEYS = [
    "name",
    "id",
    "phase",
    "phases",
    "tasks",
    "subtasks",
    "chunks",
    "features",
    "needs",
    "depends_on",
    "dependencies",
    "claims",
    "files",
    "files_to_modify",
    "run",
    "prompt",
    "verify",
    "verification",
    "type",
    "command",
    "status",
    "passes",
    "description",
    "title",
    "parallel_safe",
    "defaults",
    "agent",
    "base",
    "attempts",
    "path",
    "mode",
]
FROM_THE_CONTRACT = """
name = "modernise"            # run id
base = "main"
verify = ["make test"]

[defaults]
agent = "claude"
timeout_s = 1800
attempts = 2

[[phases]]
id = "types"
parallel_safe = false

[[phases]]
id = "ui"

[[tasks]]
id = "header"
title = "Header component"
phase = "ui"
needs = ["types"]
claims = ["./src/header/**", {path = "CHANGELOG.md", mode = "shared"}]
prompt = "Write it."
run = "true"
verify = ["npm test -- header", {name = "lint", run = "npm run lint", timeout_s = 60, shard = 2}]
timeout_s = 600
attempts = 3
priority = 5
allow_empty = true
memory_mb = 500
role = "builder"

[[tasks]]
id = "first"
phase = "types"
prompt = "…"
claims = ["src/types.ts"]
"""


def read(text: str, source: str = "plan.toml", defaults: Defaults | None = None) -> plan.Reading:
    return plan.read(text.encode(), source=source, defaults=defaults or Defaults())


def read_json(document: Any, source: str = "plan.json", defaults: Defaults | None = None) -> plan.Reading:
    return read(json.dumps(document), source, defaults)


def native(*tasks: dict[str, Any], **top: Any) -> plan.Reading:
    """Reads a native JSON plan of these tasks, each with a command and a claim of its own unless it says otherwise."""
    full = [{"run": "true", "claims": [f"{task.get('id', 'x')}.txt"], **task} for task in tasks]
    return read_json({"name": "p", **top, "tasks": full})


def errors(reading: plan.Reading) -> dict[str, str]:
    return {problem.place: problem.text for problem in reading.errors}


def warnings(reading: plan.Reading) -> str:
    return "\n".join(f"{problem.place}: {problem.text}" for problem in reading.warnings)


def test_every_key_of_the_contract_is_read() -> None:
    """Each key that the contract shows ends up where it belongs, defaults filled in and claims normalised."""
    reading = read(FROM_THE_CONTRACT)
    assert (reading.errors, reading.warnings) == ((), ())
    spec = the_plan(reading)
    assert (spec.id, spec.base, spec.format, spec.source) == ("modernise", "main", "native TOML", "plan.toml")
    assert spec.verify == (Suite("make test", "make test"),)
    assert [(phase.id, phase.parallel_safe) for phase in spec.phases] == [("types", False), ("ui", True)]
    assert spec.tasks[0] == TaskSpec(
        id="header",
        title="Header component",
        phase="ui",
        phase_needs=("types",),
        claims=(Claim("src/header/**"), Claim("CHANGELOG.md", Mode.SHARED)),
        prompt="Write it.",
        run="true",
        agent="claude",
        verify=(
            Suite("npm test -- header", "npm test -- header"),
            Suite("lint", "npm run lint", 60, 2, named=True),
        ),
        timeout_s=600,
        attempts=3,
        priority=5,
        allow_empty=True,
        memory_mb=500,
        role="builder",
    )
    assert (spec.tasks[1].timeout_s, spec.tasks[1].attempts, spec.tasks[1].title) == (1800, 2, "first")


def test_settings_fill_what_plan_and_task_leave_open() -> None:
    """A task gets its own value, else the plan's default, else the settings'."""
    settings = Defaults(agent="codex", timeout_s=7, attempts=9, suite_timeout_s=11)
    own = {"id": "a", "prompt": "x", "run": "", "attempts": 1, "verify": ["make"]}
    reading = native(own, {"id": "b", "prompt": "x", "run": ""}, defaults={"attempts": 4})
    assert errors(reading).keys() == {"tasks[0].run", "tasks[1].run"}
    document = {"defaults": {"attempts": 4}, "tasks": [own, {"id": "b", "prompt": "x"}]}
    found = tasks_of(read_json(document, defaults=settings))
    assert (found["a"].agent, found["a"].timeout_s, found["a"].attempts) == ("codex", 7, 1)
    assert found["b"].attempts == 4
    assert found["a"].verify[0].timeout_s == 11


def test_a_task_with_only_a_command_is_run_by_command() -> None:
    """Whatever the default agent, `run` without `prompt` is a shell task; `run` beside a prompt is for whoever is asked."""
    found = tasks_of(native({"id": "a"}, {"id": "b", "prompt": "do it"}, defaults={"agent": "claude"}))
    assert (found["a"].agent, found["b"].agent) == ("command", "claude")


def test_every_error_at_once_with_its_place() -> None:
    """One reading names every fault of the file, each at its place, also those that stand beside another in one list."""
    reading = read(
        """
verify = "make"
base = "-x"
[[phases]]
id = "ui"
needs = ["gone"]
[[phases]]
id = "ui"
[[tasks]]
id = "a"
run = "true"
needs = ["b", 3]
claims = ["../x", "/etc/passwd", ".git/config", {path = "q", mode = "both"}, "fine"]
[[tasks]]
id = "b"
phase = "uii"
needs = "a"
attempts = 0
timeout_s = -1
[[tasks]]
title = "no id"
[[tasks]]
id = "a"
run = "true"
"""
    )
    found = errors(reading)
    assert found.keys() == {
        "verify",
        "base",
        "phases[0].needs[0]",
        "phases[1].id",
        "tasks[0]",
        "tasks[0].needs[1]",
        "tasks[0].claims[0]",
        "tasks[0].claims[1]",
        "tasks[0].claims[2]",
        "tasks[0].claims[3].mode",
        "tasks[1].phase",
        "tasks[1].needs",
        "tasks[1].run",
        "tasks[1].attempts",
        "tasks[1].timeout_s",
        "tasks[2].id",
        "tasks[3].id",
    }
    assert found["tasks[0]"] == "needs go round in a circle: a -> b -> a"
    assert 'did you mean "ui"?' in found["tasks[1].phase"]
    assert found["verify"] == 'should be a list, not text; write ["make"]'
    assert "leaves the repository" in found["tasks[0].claims[0]"]
    assert [task.id for task in the_plan(reading).tasks] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "place", "text"),
    [
        (b"", "line 1 column 1", "empty"),
        (b" \n\t\n", "line 1 column 1", "empty"),
        (b'{"tasks": [\n {"id": "a"', "line 2 column 12", "cut off"),
        (b'{"tasks": [\n {"id": "a', "line 2 column 9", "cut off"),
        (b'{"tasks": [,]}', "line 1 column 12", "not valid JSON"),
        (b'{"a": 1}\n{"tasks": []}', "line 2 column 1", "not valid JSON"),
        (b'{"a": "x\0"}', "line 1 column 9", "NUL"),
        (b'{\n"a": "\xff"}', "line 2 column 7", "not UTF-8"),
        (b"\xff\xfe{\0}\0", "line 1 column 1", "UTF-16"),
        (b'{"tasks": NaN}', "", "NaN"),
        (b'{"tasks": [{"id": "\\ud800"}]}', "", "surrogate"),
        (b'{"tasks": ' + b"9" * 5000 + b"}", "", "number"),
        (b"[" * 200_000, "", "nested too deeply"),
        (b"{}", "", "empty"),
        (b"[1, 2]", "", "a list of 2"),
        (b'"tasks"', "", "a single value"),
        (b'{"name": "left-pad", "version": "1.0", "scripts": {}}', "", "its keys are name, version, scripts"),
    ],
)
def test_what_is_no_plan_is_refused_with_reason_and_place(data: bytes, place: str, text: str) -> None:
    """Empty, binary, cut off and unrelated files give one error that says what and where, and no exception."""
    reading = plan.read(data, source="implementation_plan.json", defaults=Defaults())
    assert [problem.place for problem in reading.errors] == [place]
    assert text in reading.errors[0].text
    assert reading.plan is None


def test_a_title_is_one_line_without_commands_for_a_terminal() -> None:
    """What would command a terminal, break the line or turn the direction of writing around is no part of a title: that becomes
    the subject of a commit, which git shows as it is."""
    title = "ti\x1b]0;owned\x07t\x9ble\r\n\u2028of\u202e \u2067it"
    found = read_json({"name": "x", "tasks": [{"id": "a", "title": title, "run": "true"}]}).plan
    assert found is not None
    assert found.tasks[0].title == "ti ]0;owned t le of it"


def test_toml_errors_have_line_and_column() -> None:
    """A slip in TOML is told with its line and column."""
    (problem,) = read("name = 'x'\n[[tasks]\n").errors
    assert problem.place.startswith("line 2 column ")
    assert "not valid TOML" in problem.text


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("timeout_s", "inf", "should be a finite number, not inf"),
        ("timeout_s", "nan", "should be a finite number, not nan"),
        ("timeout_s", '"ten"', "should be a number, not text"),
        ("priority", "1.5", "should be a whole number, not 1.5"),
        ("attempts", '"inf"', "should be a whole number, not text"),
    ],
)
def test_a_number_that_is_none_of_the_wanted_kind_is_told_as_it_stands(
    key: str, value: str, text: str
) -> None:
    """What is refused is told as who wrote the plan sees it: `inf` is no text, and 1.5 no less a number for not being whole."""
    found = read(f'[[tasks]]\nid = "a"\nrun = "true"\n{key} = {value}\n')
    assert errors(found) == {f"tasks[0].{key}": text}


def test_no_tasks_and_wrong_lists() -> None:
    """A plan without tasks, or with something else where the tasks should be, is refused."""
    assert errors(read_json({"name": "x", "tasks": []})) == {"tasks": "the plan has no tasks"}
    assert errors(read("name = 'x'\n[[phases]]\nid = 'a'\n")) == {"tasks": "the plan has no tasks"}
    assert errors(read_json({"base": "main", "tasks": "make"})) == {
        "tasks": "should be a list of tasks, not text"
    }
    assert errors(read_json({"base": "main", "tasks": ["make"]})) == {
        "tasks[0]": "should be a table, not text"
    }


def test_too_large_a_file_is_not_parsed() -> None:
    """A file over the limit gives one error with both sizes."""
    (problem,) = plan.read(b" " * (plan.MAX_BYTES + 1), source="p.json", defaults=Defaults()).errors
    assert "50 MB" in problem.text


def test_comments_and_byte_order_mark() -> None:
    """`//` and `/* */` are passed over outside strings only, with or without a byte order mark; lines stay where they are."""
    text = '\ufeff// a plan\n{"name": "x", /* two\nlines */ "tasks": [{"id": "a", "run": "curl http://x /* y */"}]} // end'
    assert tasks_of(read(text, "p.json"))["a"].run == "curl http://x /* y */"
    (problem,) = read('// one\n/* two\nthree */ {"tasks": oops}', "p.json").errors
    assert problem.place == "line 3 column 20"


def test_a_key_that_stands_twice_is_told() -> None:
    """JSON silently keeps the last of two equal keys; the plan says so."""
    reading = read('{"base": "", "tasks": [{"id": "a", "run": "x", "needs": [], "needs": []}]}', "p.json")
    assert 'beside id "a": the key "needs" stands twice' in warnings(reading)


def test_the_syntax_is_told_by_content_where_the_name_says_nothing() -> None:
    """A plan from standard input is recognised as JSON, TOML or Markdown."""
    assert the_plan(read("[defaults]\nagent = 'x'\n[[tasks]]\nid = 'a'\n", "-")).format == "native TOML"
    assert the_plan(read('// c\n{"tasks": [{"id": "a", "run": "x"}]}', "-")).format == "native JSON"
    assert the_plan(read("# To do\n\n- [ ] one thing\n", "-")).format == "Markdown roadmap"
    assert the_plan(read("[[tasks]]\nid = 'a'\nrun = 'x'", "-")).id == "plan"


def test_run_id() -> None:
    """The run is named by `name`, else by the file; two names never give one id."""
    task = {"id": "a", "run": "x"}
    assert the_plan(read_json({"name": "fix-it", "tasks": [task]})).id == "fix-it"
    assert the_plan(read_json({"tasks": [task]}, "plans/Größe 1.v2.json")).id == slug("Größe 1.v2")
    ids = {
        the_plan(read_json({"name": name, "tasks": [task]})).id
        for name in ("Fix it", "fix it", "fix-it", "Ё", "ё")
    }
    assert len(ids) == 5


def test_unknown_keys_are_warned_about() -> None:
    """A key that is not known hinders nothing, and the nearest known one is named."""
    reading = read(
        """
nam = "x"
[[phases]]
id = "p"
colour = "red"
claims = ["x"]
[[tasks]]
id = "a"
run = "true"
clams = ["x"]
claims = [{path = "x", why = "because"}]
when = 2024-01-01
verify = [{run = "x", retry = 2}]
"""
    )
    assert not reading.errors
    told = warnings(reading)
    assert 'tasks[0].clams: unknown key "clams", kept and not used; did you mean "claims"?' in told
    assert all(
        place in told
        for place in ("nam:", "phases[0].colour:", "tasks[0].claims[0].why", "tasks[0].verify[0].retry")
    )


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "a", "1", "\0", "src/a.py", "done", "ё"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=6) | st.lists(_VALUES, max_size=4))
def test_no_document_makes_the_reader_fail(document: Any) -> None:
    """Whatever a JSON file holds under keys that plans have, there is a reading, and it can be told and kept as JSON."""
    reading = read_json(document)
    assert reading.plan is not None or reading.errors
    checked = plan.check_document([("x", reading)])
    assert plan.check_text(checked)
    json.dumps(checked, allow_nan=False)


def test_other_words_for_needs_are_not_passed_over() -> None:
    """`depends_on` in a native plan orders the tasks and is told; other systems' words for our keys are recognised in hints."""
    reading = native({"id": "a"}, {"id": "b", "depends_on": ["a"], "timeout": 3})
    assert tasks_of(reading)["b"].needs == ("a",)
    assert "tasks[1].depends_on: `depends_on` is read as `needs`" in warnings(reading)
    assert 'did you mean "timeout_s"?' in warnings(reading)
    assert errors(native({"id": "a", "dependencies": ["x"]})).keys() == {"tasks[0].needs[0]"}


def test_many_equal_warnings_stay_readable() -> None:
    """Of 500 warnings of one kind the first are told and the rest counted; errors are all told."""
    reading = native(*({"id": f"t{number}", "claims": [], "needs": ["gone"]} for number in range(500)))
    assert len(reading.errors) == 500
    assert len(reading.warnings) == plan.SAME_MAX + 1
    assert f"and {500 - plan.SAME_MAX} more" in reading.warnings[-1].text


def test_ids_that_git_could_not_tell_apart() -> None:
    """Ids with line breaks are refused, and so are two that would share one branch."""
    clash = slug("Header")
    found = errors(native({"id": "a\nb", "claims": []}, {"id": "Header"}, {"id": clash}))
    assert found.keys() == {"tasks[0].id", "tasks[2].id"}
    assert clash in found["tasks[2].id"]


def test_a_task_and_a_phase_may_not_share_an_id() -> None:
    """`needs` would be ambiguous."""
    assert "is taken by phases[0]" in errors(native({"id": "ui"}, phases=[{"id": "ui"}]))["tasks[0].id"]


def test_no_suite_is_called_as_a_landing_without_any_says() -> None:
    """A suite that is named "none", or whose command alone is that, is an error with its place, wherever suites stand."""
    reading = native(
        {"id": "a", "verify": ["true", {"name": "none", "run": "make"}]}, verify=["none", "none of them"]
    )
    assert set(errors(reading)) == {"verify[0]", "tasks[0].verify[1].name"}
    assert all("name this one otherwise" in text for text in errors(reading).values())


def test_suites_have_names_and_no_doubles() -> None:
    """A suite without a name is called by its command; the same command twice is one; one name for two is an error."""
    reading = native(
        {
            "id": "a",
            "verify": ["make  test", "make  test", {"name": "x", "run": "1"}, {"name": "x", "run": "2"}],
        }
    )
    assert errors(reading).keys() == {"tasks[0].verify[3].name"}
    assert [suite.name for suite in tasks_of(reading)["a"].verify][:1] == ["make test"]
    assert "tasks[0].verify[0].run" in errors(native({"id": "a", "verify": [" "]}))


@pytest.mark.parametrize(
    ("needs", "ring"),
    [
        ({"a": ["a"]}, "a -> a"),
        ({"a": ["b"], "b": ["a"]}, "a -> b -> a"),
        ({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}, "a -> b -> c -> a"),
        ({"a": ["ui"], "b": []}, "a -> ui -> a"),
    ],
)
def test_cycles_are_named(needs: dict[str, list[str]], ring: str) -> None:
    """A ring of needs is told in the direction of the needs, also when it goes through a phase."""
    tasks = [{"id": name, "needs": wanted, "phase": "ui"} for name, wanted in needs.items()]
    assert f"needs go round in a circle: {ring}" in errors(native(*tasks, phases=[{"id": "ui"}])).values()


def test_two_cycles_are_two_errors_and_phases_can_form_one() -> None:
    """Each knot of needs is told, phases among themselves too; a long ring is shortened."""
    phases = [{"id": "x", "needs": ["y"]}, {"id": "y", "needs": ["x"]}]
    two = native(
        {"id": "a", "needs": ["b"]}, {"id": "b", "needs": ["a"]}, {"id": "c", "needs": ["c"]}, phases=phases
    )
    assert sorted(problem.text.partition(": ")[2] for problem in two.errors) == [
        "a -> b -> a",
        "c -> c",
        "x -> y -> x",
    ]
    (problem,) = native(*({"id": f"t{n}", "needs": [f"t{(n + 1) % 900}"]} for n in range(900))).errors
    assert "(877 more)" in problem.text
    assert len(problem.text) < 400


def test_cycles_that_share_a_task_are_all_told_at_once() -> None:
    """A self-need on or beside another ring, and two rings through one task, are each an error of their own."""
    knot = native(
        {"id": "a", "needs": ["a", "b"]},
        {"id": "b", "needs": ["a", "c"]},
        {"id": "c", "needs": ["b", "c"]},
        {"id": "d", "needs": ["d", "a"]},
    )
    assert sorted(problem.text.partition(": ")[2] for problem in knot.errors) == [
        "a -> a",
        "a -> b -> a",
        "b -> c -> b",
        "c -> c",
        "d -> d",
    ]


def test_a_phase_that_only_tasks_name_is_made() -> None:
    """As in the example of the public contract: parallel, without needs, and others may need it; it is warned about. A name that is
    nearly that of a phase, of a task, or that no phase could have, is an error."""
    a, b = ({"id": name, "phase": "ui"} for name in "ab")
    reading = native(a, b, {"id": "c", "needs": ["ui"]}, phases=[{"id": "types"}])
    assert [phase.id for phase in the_plan(reading).phases] == ["types", "ui"]
    assert the_plan(reading).tasks[2].phase_needs == ("ui",)
    assert 'tasks[0].phase: there is no phase "ui" in `phases`: it is made, without needs' in warnings(
        reading
    )
    assert warnings(reading).count("it is made") == 1
    for wrong in ("type", "a", " x", "x\ny", ""):
        reading = native({"id": "a", "phase": wrong}, phases=[{"id": "types"}])
        assert any(each.place == "tasks[0].phase" for each in reading.errors), wrong


def test_a_sequential_phase_never_puts_a_task_before_what_it_needs() -> None:
    """Tasks of a phase that goes one at a time are put in an order in which none waits for a later one, and it is said."""
    reading = native(
        {"id": "b", "phase": "one", "needs": ["a"]},
        {"id": "between"},
        {"id": "a", "phase": "one"},
        phases=[{"id": "one", "parallel_safe": False}],
    )
    assert [task.id for task in the_plan(reading).tasks] == ["a", "between", "b"]
    assert 'phase "one" goes one at a time' in warnings(reading)


def test_the_schema_holds_every_key_and_no_private_name() -> None:
    """The published schema names all keys of plan, phase and task, lets texts stand for claims, and resolves its references."""
    made = plan.schema()
    text = json.dumps(made)
    assert {"name", "base", "verify", "defaults", "phases", "tasks", "contracts"} == set(made["properties"])
    assert {"needs", "claims", "run", "prompt", "memory_mb", "title"} <= set(
        made["$defs"]["Task"]["properties"]
    )
    assert "_" not in {key[0] for key in made["$defs"]}
    used = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    assert used <= set(made["$defs"])
    assert made["$defs"]["Task"]["properties"]["claims"]["items"]["anyOf"][0] == {"type": "string"}


def test_the_reference_page_tells_every_key() -> None:
    """docs/reference/plan.md has each key of the schema; what the page forgets, this names."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "plan.md").read_text("utf-8")
    made = plan.schema()
    keys = {key for part in (made, *made["$defs"].values()) for key in part.get("properties", {})}
    assert {key for key in keys if f"`{key}`" not in page} == set()


def test_which_file_of_a_folder_is_the_plan() -> None:
    """Swarm's own names go first, then those of other systems, then general ones; settings are never a plan."""
    assert plan.choose_in_folder(["README.md", "swarm.toml", "spec.md"]) is None
    assert plan.choose_in_folder(["plan.toml", "implementation_plan.json"]) == "implementation_plan.json"
    assert plan.choose_in_folder(["swarm-plan.toml", "implementation_plan.json"]) == "swarm-plan.toml"
    assert plan.choose_in_folder(["ROADMAP.md", "feature_list.json"]) == "feature_list.json"
    assert plan.choose_in_folder(["ROADMAP.md"]) == "ROADMAP.md"
    assert plan.choose_in_folder(["build-tasks.json", "ROADMAP.md"]) == "build-tasks.json"


def test_a_number_finds_its_spec_folder() -> None:
    """`001` is the folder that begins so; `1` finds it where none begins with `1`; an ambiguous number gives all."""
    names = ["001-login", "010-pay", "0011-x", "12-a", "README.md", "002"]
    assert plan.match_spec("001", names) == ["001-login"]
    assert plan.match_spec("1", names) == ["001-login"]
    assert plan.match_spec("002", names) == ["002"]
    assert plan.match_spec("12", names) == ["12-a"]
    assert plan.match_spec("7", names) == []
    assert plan.match_spec("login", names) == []
    assert plan.match_spec("001", ["001-a", "001-b"]) == ["001-a", "001-b"]


def test_the_check_document_is_that_of_the_contract() -> None:
    """`swarm check --json` has the keys of the contract; tasks are listed even where the plan is invalid."""
    good, bad = read(FROM_THE_CONTRACT), native({"id": "a", "needs": ["gone"]})
    document = plan.check_document([("good.toml", good), ("bad.json", bad)])
    assert (document["schema"], document["ok"]) == (1, False)
    first, second = document["plans"]
    assert {
        "file",
        "format",
        "id",
        "tasks",
        "waves",
        "critical_path",
        "widest",
        "errors",
        "warnings",
    } <= first.keys()
    assert first["waves"] == [["first"], ["header"]]
    assert (first["critical_path"], first["widest"]) == (["first", "header"], 1)
    assert first["tasks"][0] == {
        "id": "header",
        "title": "Header component",
        "phase": "ui",
        "needs": ["types"],
        "claims": [
            {"path": "src/header/**", "mode": "exclusive"},
            {"path": "CHANGELOG.md", "mode": "shared"},
        ],
        "finished": False,
    }
    assert [task["id"] for task in second["tasks"]] == ["a"]
    assert second["errors"][0]["place"] == "tasks[0].needs[0]"
    assert plan.check_document([("good.toml", good)])["ok"] is True
    assert plan.check_document([("x", read("", "x.json"))])["plans"][0]["tasks"] == []
    json.dumps(document)


def test_two_files_with_one_run_id_are_told() -> None:
    """Two plans checked together that would be the same run say so."""
    reading = native({"id": "a"})
    document = plan.check_document([("one.json", reading), ("two.json", reading)])
    assert "both would be one run" in document["plans"][1]["warnings"][0]["text"]


def test_check_tells_people_form_waves_and_problems() -> None:
    """The text for people has the form, the counts, the waves, the longest chain, the width and every problem."""
    text = plan.check_text(plan.check_document([("good.toml", read(FROM_THE_CONTRACT))]))
    for part in (
        "good.toml: valid (native TOML)",
        "2 tasks in 2 phases",
        "first -> header (2 tasks)",
        "1 worker can",
    ):
        assert part in text
    bad = plan.check_text(plan.check_document([("bad.json", native({"id": "a", "needs": ["gone"]}))]))
    assert 'error    tasks[0].needs[0]: needs "gone", which is no task or phase of this plan' in bad


def test_non_ascii_names_stay_as_written() -> None:
    """Ids, titles and paths in other scripts are kept and get branch names of their own."""
    reading = native(
        {"id": "задача", "title": "Имя файла", "claims": ["путь/файл.py"]},
        {"id": "任务", "needs": ["задача"]},
    )
    assert not reading.errors
    task = tasks_of(reading)["задача"]
    assert (task.title, task.claims) == ("Имя файла", (Claim("путь/файл.py"),))
    assert slug("задача") != slug("任务")


@pytest.mark.skipif(importlib.util.find_spec("yaml") is not None, reason="the yaml extra is installed")
def test_yaml_without_the_extra_says_what_to_do() -> None:
    """A YAML plan gives one error that names the extra."""
    (problem,) = read("tasks: []", "plan.yaml").errors
    assert "git-swarm[yaml]" in problem.text


@pytest.mark.skipif(importlib.util.find_spec("yaml") is None, reason="the yaml extra is not installed")
def test_yaml_is_read_and_aliases_are_refused() -> None:
    """With the extra a YAML plan is read like the others, its errors have places, and aliases are refused."""
    text = "name: x\ntasks:\n  - id: a\n    run: make\n    since: 2024-01-01\n"
    reading = read(text, "plan.yml")
    assert (the_plan(reading).format, tasks_of(reading)["a"].run) == ("native YAML", "make")
    assert read("tasks: [\n", "plan.yaml").errors[0].place == "line 2 column 1"
    assert "aliases" in read("a: &a [1]\ntasks: [*a, *a]\n", "plan.yaml").errors[0].text


@pytest.mark.parametrize("nameless", [{}, {"id": 7}, {"id": ""}])
def test_a_task_without_a_readable_id_still_has_its_needs_looked_at(nameless: dict[str, Any]) -> None:
    """Every error is told at once, also what a task or phase needs whose id is what is wrong with it."""
    plan = {
        "phases": [{**nameless, "needs": ["nowhere"]}],
        "tasks": [{**nameless, "run": "true", "needs": ["a", "b"]}, {"id": "a", "run": "true"}],
    }
    told = {error.place for error in read_json(plan).errors}
    assert {"tasks[0].id", "tasks[0].needs[1]", "phases[0].id", "phases[0].needs[0]"} <= told
    assert "tasks[0].needs[0]" not in told

"""The suites of a project, found without being told."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from swarm.core import discover, plan
from swarm.core.discover import Found, Project
from swarm.core.model import Defaults, Suite

NPM = json.dumps({"scripts": {"test": "vitest run", "lint": "eslint ."}})
NPM_NEW = json.dumps({"scripts": {"test": 'echo "Error: no test specified" && exit 1'}})
MAKE = "all: x\n\ntest: all\n\tpytest\n"


def project(
    *names: str, programs: Iterable[str] = ("pytest", "ruff"), rust_tests: bool = False, **texts: str
) -> Project:
    """A project of these files; the texts of `package_json` and the like are those of the files."""
    held = {
        {"makefile": "Makefile"}.get(name, name.replace("_", ".", 1)): text for name, text in texts.items()
    }
    return Project(sorted({*names, *held}), held, frozenset(programs), rust_tests)


@pytest.mark.parametrize(
    ("given", "by"),
    [
        (project("t/test_a.py", "pytest.ini"), "pytest.ini"),
        (project("t/test_a.py", setup_cfg="[tool:pytest]\n"), "setup.cfg, [tool:pytest]"),
        (project("t/test_a.py", tox_ini="[pytest]\n"), "tox.ini, [pytest]"),
        (
            project("t/test_a.py", pyproject_toml="[tool.pytest.ini_options]\n"),
            "pyproject.toml, [tool.pytest]",
        ),
        (project("t/test_a.py"), "t/test_a.py"),
    ],
)
def test_what_a_suite_was_told_by(given: Project, by: str) -> None:
    """A suite says by which file it was found: the settings where there are any, else a test."""
    assert [each.by for each in discover.suites(given)] == [by]


def runs(found: Iterable[Found]) -> dict[str, str]:
    return {each.name: each.run for each in found}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (project("README.md", "src/a.py"), {}),
        (project("tests/test_a.py"), {"pytest": "pytest"}),
        (project("src/a_test.py"), {"pytest": "pytest"}),
        (project("tests/checks/look.py"), {"pytest": "pytest"}),
        (
            project("pytest.ini", setup_cfg="[tool:pytest]\n", pyproject_toml="[tool.pytest.ini_options]\n"),
            {},
        ),
        (project(pyproject_toml="[tool.ruff]\n"), {"ruff": "ruff check ."}),
        (project(pyproject_toml="[project\n"), {}),
        (project("test_a.py", programs=()), {"pytest": "python3 -m pytest"}),
        (project("test_a.py", "uv.lock", programs=("uv", "pytest")), {"pytest": "uv run pytest"}),
        (project("test_a.py", "uv.lock"), {"pytest": "pytest"}),
        (project(package_json=NPM), {"npm": "CI=1 npm test", "lint": "npm run lint"}),
        (project("pnpm-lock.yaml", package_json=NPM), {"npm": "CI=1 pnpm test", "lint": "pnpm run lint"}),
        (project(package_json=NPM_NEW), {}),
        (project(package_json="{"), {}),
        (project(package_json='{"scripts": ["test"]}'), {}),
        (project("Cargo.toml", "src/lib.rs"), {}),
        (project("Cargo.toml", "src/lib.rs", rust_tests=True), {"cargo": "cargo test"}),
        (project("go.mod", "a.go"), {}),
        (project("go.mod", "a_test.go"), {"go": "go test ./..."}),
        (project("go.mod", ".golangci.yml"), {"golangci": "golangci-lint run"}),
        (project("test_a.py", "Cargo.toml", rust_tests=True), {"pytest": "pytest", "cargo": "cargo test"}),
        (project("test_a.py", "ruff.toml", makefile=MAKE), {"test": "make test", "ruff": "ruff check ."}),
        (project("test_a.py", makefile="lint:\n\truff\n"), {"pytest": "pytest", "lint": "make lint"}),
        (project(makefile="test := x\ntests: y\n"), {}),
        (project("web/package.json", "sub/Cargo.toml", "sub/pytest.ini"), {}),
    ],
)
def test_suites_are_found(given: Project, wanted: dict[str, str]) -> None:
    """Row 122: pytest, npm, cargo, go, make and linters are found by the files that a person would look at, and nothing where there
    is nothing; the project's own targets go first."""
    found = discover.suites(given)
    assert runs(found) == wanted
    assert all(each.by for each in found)


def test_a_program_that_is_not_there_is_told() -> None:
    """A suite is found all the same, and what it lacks is said."""
    given = project(package_json=NPM, programs=())
    assert [text.split(",")[0] for text in discover.missing(discover.suites(given), given)] == [
        'the suite "npm" runs npm',
        'the suite "lint" runs npm',
    ]


def test_auto_is_filled_in_wherever_it_stands() -> None:
    """`auto` for the plan, a phase or a task stands for what is found, with the time limit given beside it, and no suite twice."""
    text = """
        name = "x"
        verify = "auto"
        [[phases]]
        id = "p"
        verify = ["make x", {run = "auto", timeout_s = 5}]
        [[tasks]]
        id = "t"
        run = "true"
        claims = ["a"]
        verify = ["pytest", "auto"]
    """
    reading = plan.read(text.encode(), source="x.toml", defaults=Defaults())
    assert (reading.errors, reading.warnings) == ((), ())
    assert reading.plan is not None
    assert discover.asks(reading.plan)
    made = discover.filled_in(reading.plan, discover.suites(project("test_a.py", "go.mod", "a_test.go")))
    assert not discover.asks(made)
    assert made.verify == (Suite("pytest", "pytest"), Suite("go", "go test ./..."))
    assert [(each.run, each.timeout_s) for each in made.phases[0].verify] == [
        ("make x", 1800.0),
        ("pytest", 5.0),
        ("go test ./...", 5.0),
    ]
    assert [each.run for each in made.tasks[0].verify] == ["pytest", "go test ./..."]
    assert discover.filled_in(reading.plan, ()).verify == ()


def test_what_was_found_is_what_check_says() -> None:
    """`swarm check` lists the suites that `auto` stands for, with what each was told by, and warns where there are none."""
    text = b'verify = "auto"\n[[tasks]]\nid = "t"\nrun = "true"\nclaims = ["a"]\n'
    reading = plan.read(text, source="x.toml", defaults=Defaults())
    said = plan.check_document([("x.toml", reading)], project("tests/test_a.py"))
    assert said["plans"][0]["verify_found"] == [{"name": "pytest", "run": "pytest", "by": "tests/test_a.py"}]
    assert "  verify   pytest: pytest (found by tests/test_a.py)" in plan.check_text(said)
    none = plan.check_document([("x.toml", reading)], project("README.md"))
    assert none["plans"][0]["verify_found"] == []
    assert [each["text"] for each in none["plans"][0]["warnings"]] == [
        "auto finds no suites in this project: what lands is not verified by them"
    ]

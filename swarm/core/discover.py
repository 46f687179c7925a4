"""Which suites a project has, for `verify = "auto"`: told from its files, each with what it was told by.

Rules for editing: pure; what lies in the project comes in as names and texts. A project's own word for it (a `test` or `lint`
target of its Makefile) goes before what its languages would do. Nothing is guessed that a person of that language would not type.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from swarm.core.model import PlanSpec, Suite
from swarm.dataclass import dataclass

AUTO = "auto"  # stands in a plan for the suites that are found
MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
READ = frozenset({*MAKEFILES, "package.json", "pyproject.toml", "setup.cfg", "tox.ini"})

PROGRAMS = frozenset(
    {
        "bun",
        "cargo",
        "go",
        "golangci-lint",
        "make",
        "npm",
        "pdm",
        "pnpm",
        "poetry",
        "pytest",
        "python3",
        "ruff",
        "uv",
        "yarn",
    }
)

_TEST_FILE = re.compile(r"(?:.*/)?(?:test_[^/]*|[^/]*_test)\.py|(?:.*/)?tests?/.*\.py")
_NPM_HAS_NONE = "no test specified"  # what `npm init` writes


@dataclass(frozen=True, slots=True)
class Project:
    """What a project is made of: the paths of its tracked files, the texts of `READ`, and which of `PROGRAMS` there are."""

    names: Sequence[str]
    texts: Mapping[str, str]
    programs: Collection[str] = ()
    rust_tests: bool = False  # they stand amid the code, where no name tells of them


@dataclass(frozen=True, slots=True)
class Found:
    """A suite that a project has, and the file that it was told by."""

    name: str
    run: str
    by: str


def suites(project: Project) -> tuple[Found, ...]:
    """Gives the suites of a project: tests first, then linters; none where it has none."""
    targets = dict(_targets(project))
    package, python = _package(project), _toml(project.texts.get("pyproject.toml", ""))
    tests = [targets["test"]] if "test" in targets else list(_tests(project, package, python))
    lint = [targets["lint"]] if "lint" in targets else list(_linters(project, package, python))
    return (*tests, *lint)


def document(found: Sequence[Found]) -> list[dict[str, str]]:
    """Gives what was found as `swarm check` and `swarm submit` tell it."""
    return [{"name": each.name, "run": each.run, "by": each.by} for each in found]


def missing(found: Sequence[Found], project: Project) -> Iterator[str]:
    """Says which programs the suites need that are not there."""
    for each in found:
        program = next(word for word in each.run.split() if "=" not in word)
        if program not in project.programs:
            yield f'the suite "{each.name}" runs {program}, which is not on the PATH here'


def asks(plan: PlanSpec) -> bool:
    """Tells whether a plan wants the suites that are found."""
    lists = (plan.verify, *(phase.verify for phase in plan.phases), *(task.verify for task in plan.tasks))
    return any(suite.run == AUTO for suites in lists for suite in suites)


def filled_in(plan: PlanSpec, found: Sequence[Found]) -> PlanSpec:
    """Gives the plan with the suites that were found in the place of `auto`."""

    def fill(suites: tuple[Suite, ...]) -> tuple[Suite, ...]:
        made: dict[str, Suite] = {}
        for suite in suites:
            for each in (
                [replace(suite, name=one.name, run=one.run) for one in found]
                if suite.run == AUTO
                else [suite]
            ):
                made.setdefault(each.run, each)
        return tuple(made.values())

    return replace(
        plan,
        verify=fill(plan.verify),
        phases=tuple(replace(phase, verify=fill(phase.verify)) for phase in plan.phases),
        tasks=tuple(replace(task, verify=fill(task.verify)) for task in plan.tasks),
    )


# --- one kind of project each ---------------------------------------------------------------------------------------------------


def _targets(project: Project) -> Iterator[tuple[str, Found]]:
    makefile = next((name for name in MAKEFILES if name in project.texts), None)
    for target in re.findall(r"^(test|lint)\s*:(?!=)", project.texts.get(makefile or "", ""), re.MULTILINE):
        yield target, Found(target, f"make {target}", f"{makefile}, target {target}")


def _tests(project: Project, package: Mapping[str, Any], python: Mapping[str, Any]) -> Iterator[Found]:
    by = _pytest_by(project, python)
    if by:
        yield Found("pytest", _in_python(project, "pytest"), by)
    script = _script(package, "test")
    if script and _NPM_HAS_NONE not in script:
        yield Found("npm", f"CI=1 {_node(project)} test", "package.json, script test")
    if "Cargo.toml" in project.names and project.rust_tests:
        yield Found("cargo", "cargo test", "Cargo.toml")
    if "go.mod" in project.names and any(name.endswith("_test.go") for name in project.names):
        yield Found("go", "go test ./...", "go.mod")


def _linters(project: Project, package: Mapping[str, Any], python: Mapping[str, Any]) -> Iterator[Found]:
    by = next((name for name in ("ruff.toml", ".ruff.toml") if name in project.names), "")
    if by or "ruff" in _table(python, "tool"):
        yield Found("ruff", _in_python(project, "ruff check ."), by or "pyproject.toml, [tool.ruff]")
    if _script(package, "lint"):
        yield Found("lint", f"{_node(project)} run lint", "package.json, script lint")
    golangci = (".golangci.yml", ".golangci.yaml", ".golangci.toml", ".golangci.json")
    by = next((name for name in golangci if name in project.names), "")
    if by:
        yield Found("golangci", "golangci-lint run", by)


def _pytest_by(project: Project, python: Mapping[str, Any]) -> str:
    test = next((name for name in project.names if _TEST_FILE.fullmatch(name)), "")
    if not test:
        return ""  # settings without a test: pytest would find none, and nothing could land
    if "pytest.ini" in project.names:
        return "pytest.ini"
    if "pytest" in _table(python, "tool"):
        return "pyproject.toml, [tool.pytest]"
    for name, section in (("setup.cfg", "[tool:pytest]"), ("tox.ini", "[pytest]")):
        if section in project.texts.get(name, ""):
            return f"{name}, {section}"
    return test


def _in_python(project: Project, command: str) -> str:
    """Gives a command by whatever keeps the project's Python environment: by its lock file, where the program is there."""
    for lock, program in (("uv.lock", "uv"), ("poetry.lock", "poetry"), ("pdm.lock", "pdm")):
        if lock in project.names and program in project.programs:
            return f"{program} run {command}"
    return command if command.split()[0] in project.programs else f"python3 -m {command}"


def _node(project: Project) -> str:
    locks = {"pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn", "bun.lock": "bun run", "bun.lockb": "bun run"}
    return next((program for lock, program in locks.items() if lock in project.names), "npm")


def _package(project: Project) -> Mapping[str, Any]:
    try:
        found = json.loads(project.texts.get("package.json", "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _script(package: Mapping[str, Any], name: str) -> str:
    script = _table(package, "scripts").get(name)
    return script if isinstance(script, str) else ""


def _toml(text: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def _table(within: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = within.get(key)
    return value if isinstance(value, dict) else {}

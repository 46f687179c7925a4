"""The house as DESIGN §2 has it: who may import whom, which outside things have one owner, sizes and names.

Rules are by package, so that they hold for files that come later. Imports for type checking only count like any other; those
inside functions too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).resolve().parents[2]
SOURCES = sorted((TOP / "swarm").rglob("*.py"))

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70

# What each room may import of the house, by prefix of the module's name; the longest prefix of a file decides for it.
HOUSE: dict[str, tuple[str, ...]] = {
    "swarm": ("swarm.client.library",),  # the Python API, loaded when it is asked for
    "swarm.__main__": ("swarm",),
    "swarm.errors": (),
    "swarm.dataclass": (),
    "swarm.crashpoints": (),
    "swarm.awaited": (),
    "swarm.core.model": ("swarm.errors",),
    "swarm.core": ("swarm.errors", "swarm.core"),
    "swarm.shapes": (),
    "swarm.protocol": ("swarm.errors",),
    "swarm.settings": ("swarm.errors", "swarm.core"),
    "swarm.config": ("swarm.errors", "swarm.core", "swarm.protocol", "swarm.settings"),
    "swarm.log": (
        "swarm.errors",
        "swarm.core",
        "swarm.protocol",
        "swarm.config",
        "swarm.settings",
    ),
    "swarm.edge": (
        "swarm.errors",
        "swarm.crashpoints",
        "swarm.core",
        "swarm.protocol",
        "swarm.config",
        "swarm.settings",
        "swarm.log",
        "swarm.edge",
    ),
    "swarm.worker": (
        "swarm.errors",
        "swarm.crashpoints",
        "swarm.core",
        "swarm.protocol",
        "swarm.config",
        "swarm.settings",
        "swarm.edge.git",
        "swarm.edge.lockfile",
        "swarm.worker",
    ),
    "swarm.daemon": (
        "swarm.errors",
        "swarm.awaited",
        "swarm.crashpoints",
        "swarm.core",
        "swarm.shapes",
        "swarm.protocol",
        "swarm.config",
        "swarm.settings",
        "swarm.log",
        "swarm.edge",
        "swarm.worker.agents",
        "swarm.daemon",
    ),
    "swarm.audit": (
        "swarm.errors",
        "swarm.core",
        "swarm.config",
        "swarm.settings",
        "swarm.edge",
        "swarm.daemon.verification",  # what landed is verified again as it was verified
        "swarm.audit",
    ),
    "swarm.client": (
        "swarm.errors",
        "swarm.core.report",
        "swarm.protocol",
        "swarm.config",
        "swarm.settings",
        "swarm.client",
    ),
    "swarm.client.web.serving": ("swarm.errors", "swarm.awaited", "swarm.client"),
    "swarm.client.transcripts": (
        "swarm.errors",
        "swarm.protocol",
        "swarm.core.places",
        "swarm.core.transcript",
        "swarm.client",
    ),
    "swarm.client.changes": (
        "swarm.errors",
        "swarm.protocol",
        "swarm.core.model",
        "swarm.edge.history",
        "swarm.client",
    ),
    "swarm.client.chaos": ("swarm.errors", "swarm.crashpoints", "swarm.protocol", "swarm.client"),
    "swarm.client.killing": ("swarm.crashpoints", "swarm.client"),
    "swarm.client.offline": (
        "swarm.errors",
        "swarm.crashpoints",
        "swarm.core",
        "swarm.protocol",
        "swarm.config",
        "swarm.settings",
        "swarm.edge",
        "swarm.daemon.recovery",
        "swarm.daemon.refounding",
        "swarm.daemon.rebuild",
        "swarm.daemon.reconcile",
        "swarm.daemon.doctor",
        "swarm.daemon.presence",
        "swarm.audit",
        "swarm.daemon.usable",  # which agents can be used here is looked at without asking one
        "swarm.client",
    ),
    "swarm.client.planfiles": (
        "swarm.errors",
        "swarm.config",
        "swarm.settings",
        "swarm.core",
        "swarm.edge",
        "swarm.daemon.intake",  # a daemon is started only for a plan that it would take in
        "swarm.client",
    ),
    "swarm.client.kept": (
        "swarm.errors",
        "swarm.core",
        "swarm.config",
        "swarm.edge",
        "swarm.client",
    ),
    "swarm.client.schedules": (
        "swarm.errors",
        "swarm.config",
        "swarm.settings",
        "swarm.core",
        "swarm.edge.project",  # what `verify = "auto"` looks at
        "swarm.client",
    ),
    "swarm.client.spawning": (
        "swarm.errors",
        "swarm.protocol",
        "swarm.core.places",
        "swarm.edge",
        "swarm.daemon.service",  # `swarm start --foreground` becomes the daemon
        "swarm.client",
    ),
}

# What every room may import: the version, and what makes data classes. Neither imports anything of the house.
EVERYWHERE = frozenset({"swarm", "swarm.dataclass"})

# Outside things that have one owner each (house rule 4).
OWNED: dict[str, tuple[str, ...]] = {
    "sqlite3": ("swarm.edge.journal",),
    "psutil": ("swarm.edge.host",),
    "git": ("swarm.edge.history",),
    "anthropic": ("swarm.worker.anthropic",),
    "uvicorn": ("swarm.awaited", "swarm.daemon", "swarm.client.web"),
    "starlette": ("swarm.daemon", "swarm.client.web"),
    "structlog": ("swarm.log",),
    "rich": ("swarm.client",),
    "mcp": ("swarm.client.mcp",),
    "click": ("swarm.client",),
    "asyncio": ("swarm.awaited", "swarm.daemon", "swarm.client.library", "swarm.client.web"),
    "pydantic": (
        "swarm.core.plan",
        "swarm.config",
        "swarm.settings",
        "swarm.client.mcp",  # the protocol's own package describes arguments by it
    ),
}

# What the core may have of the world: nothing that reads a clock, a disk, a process, a network or chance.
CORE_STDLIB = frozenset(
    {
        "__future__",
        "abc",
        "ast",
        "bisect",
        "collections",
        "copy",
        "dataclasses",
        "datetime",
        "difflib",
        "enum",
        "fnmatch",
        "functools",
        "hashlib",
        "heapq",
        "html",
        "importlib",
        "itertools",
        "json",
        "keyword",
        "math",
        "numbers",
        "operator",
        "pathlib",
        "posixpath",
        "re",
        "shlex",
        "string",
        "textwrap",
        "tomllib",
        "types",
        "typing",
        "unicodedata",
        "urllib",
    }
)
CORE_OTHERS = frozenset({"swarm", "pydantic", "pydantic_core", "yaml"})
WORLDLY_CALLS = frozenset({"now", "utcnow", "today"})  # of datetime and date
PATH_ACTIONS = frozenset(
    {
        "open",
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "exists",
        "is_file",
        "is_dir",
        "stat",
        "mkdir",
        "unlink",
        "iterdir",
        "glob",
        "rglob",
        "resolve",
        "touch",
        "rename",
        "home",
        "cwd",
        "absolute",
        "expanduser",
    }
)
BY_NAME = frozenset({"yaml"})  # an extra that need not be there

FORBIDDEN_NAMES = ("manager", "helper", "util", "common", "handler")


class Import(NamedTuple):
    """A module that a file imports, with the line where it does."""

    module: str
    line: int


def module_name(path: Path) -> str:
    parts = list(path.relative_to(TOP).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = frozenset(module_name(path) for path in SOURCES)


def imports(tree: ast.Module, name: str, *, package: bool = False) -> Iterator[Import]:
    """Every module that is imported, wherever it stands; `from a import b` is `a.b` where that is a module of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")
                above = above[: len(above) - node.level + package]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(inner if inner in MODULES else base, node.lineno)


def inside(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(f"{prefix}.")


def room_of(module: str) -> str:
    """The longest rule that a module falls under; `swarm` itself is only the package, not all below it."""
    found = [room for room in HOUSE if module == room or (room != "swarm" and inside(module, room))]
    return max(found, key=len, default="")


def wrong_imports(name: str, tree: ast.Module, *, package: bool = False) -> Iterator[str]:
    """What a file imports of the house that its room may not."""
    room = room_of(name)
    if not room:
        yield f"{name} is in no room that the layer rule knows"
        return
    allowed = HOUSE[room]
    for module, line in imports(tree, name, package=package):
        if not inside(module, "swarm") or module in EVERYWHERE or module == name:
            continue
        if not any(inside(module, prefix) for prefix in allowed):
            yield f"{name}:{line} imports {module}; {room} may import {', '.join(allowed) or 'nothing'}"


def wrong_owners(name: str, tree: ast.Module) -> Iterator[str]:
    """What a file imports although another file hides it."""
    for module, line in imports(tree, name):
        owners = OWNED.get(module.split(".")[0])
        if owners is not None and not any(inside(name, owner) for owner in owners):
            yield f"{name}:{line} imports {module}, which belongs to {', '.join(owners)}"


def worldly(name: str, tree: ast.Module) -> Iterator[str]:
    """Where a file of the core reaches for the world."""
    for module, line in imports(tree, name):
        top = module.split(".")[0]
        if top not in CORE_OTHERS and (
            top not in CORE_STDLIB or module in ("urllib.request", "urllib.error")
        ):
            yield f"{name}:{line} imports {module}; the core knows no clock, disk, process, network or chance"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in ("open", "input", "print", "exec", "eval"):
            yield f"{name}:{node.lineno} calls {called.id}()"
        elif isinstance(called, ast.Attribute) and called.attr in WORLDLY_CALLS:
            yield f"{name}:{node.lineno} reads the clock by .{called.attr}()"
        elif isinstance(called, ast.Attribute) and called.attr in ("import_module", "__import__"):
            wanted = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if not wanted or wanted[0] not in BY_NAME:
                yield f"{name}:{node.lineno} imports by name; only {', '.join(BY_NAME)} may be"
        elif isinstance(called, ast.Attribute) and called.attr in PATH_ACTIONS and _on_path(called.value):
            yield f"{name}:{node.lineno} looks at the disk by .{called.attr}()"


def _on_path(value: ast.expr) -> bool:
    """Whether something is called directly on a path that is made on the spot."""
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id.endswith("Path")


def too_long(name: str, text: str, tree: ast.Module) -> Iterator[str]:
    """Files and functions that have grown beyond what one person overlooks."""
    lines = text.count("\n")
    if lines >= FILE_LINES_MAX:
        yield f"{name} has {lines} lines; under {FILE_LINES_MAX} are wanted"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length >= FUNCTION_LINES_MAX:
                yield f"{name}:{node.lineno} {node.name}() has {length} lines; under {FUNCTION_LINES_MAX} are wanted"


def read(path: Path) -> tuple[str, str, ast.Module]:
    text = path.read_text("utf-8")
    return module_name(path), text, ast.parse(text, str(path))


def report(found: Iterator[str] | list[str]) -> None:
    told = list(found)
    assert not told, "\n  " + "\n  ".join(told)


# --- the house


def test_a_file_imports_only_from_the_lines_above_its_own() -> None:
    """errors and core/model, then the rest of core, then protocol, config and log, then edge, then daemon; worker and client
    have doors of their own."""
    report(
        [
            w
            for p in SOURCES
            for n, _, t in [read(p)]
            for w in wrong_imports(n, t, package=p.name == "__init__.py")
        ]
    )


def test_each_outside_thing_has_one_owner() -> None:
    """git, psutil, sqlite3, anthropic and the other libraries are imported where they are hidden and nowhere else."""
    report(
        [wrong for path in SOURCES for name, _, tree in [read(path)] for wrong in wrong_owners(name, tree)]
    )


def test_data_classes_are_made_in_one_way() -> None:
    """No file takes `dataclass` from the standard library, which compiles six methods for a class where ours compiles one."""
    theirs = [
        f"{module_name(path)}:{node.lineno} takes dataclass from the standard library, not from swarm.dataclass"
        for path in SOURCES
        if module_name(path) != "swarm.dataclass"
        for node in ast.walk(read(path)[2])
        if (
            (isinstance(node, ast.ImportFrom) and node.module == "dataclasses")
            and any(alias.name == "dataclass" for alias in node.names)
        )
        or (isinstance(node, ast.Attribute) and ast.unparse(node) == "dataclasses.dataclass")
    ]
    report(theirs)


def test_the_core_is_pure() -> None:
    """Nothing in core imports or calls what reads or changes the world."""
    core = [path for path in SOURCES if inside(module_name(path), "swarm.core")]
    report([wrong for path in core for name, _, tree in [read(path)] for wrong in worldly(name, tree)])


def test_importing_the_machine_is_light() -> None:
    """The machine and all that it imports pull in neither pydantic nor anything worldly of other people's."""
    seen: set[str] = set()
    todo = ["swarm.core.machine", "swarm.core.report"]
    outside: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        path = TOP.joinpath(*name.split(".")).with_suffix(".py")
        path = path if path.exists() else TOP.joinpath(*name.split("."), "__init__.py")
        for module, _ in imports(read(path)[2], name):
            if inside(module, "swarm"):
                todo.append(module)
            else:
                outside.add(module.split(".")[0])
    assert outside <= set(sys.stdlib_module_names), outside - set(sys.stdlib_module_names)


def test_files_and_functions_can_be_overlooked() -> None:
    """Files stay under 800 lines and functions under 70."""
    report([wrong for path in SOURCES for wrong in too_long(*read(path))])


def test_files_are_named_for_what_they_hide() -> None:
    """No file or folder is a manager, a helper, a util, a common or a handler."""
    names = {part for path in SOURCES for part in path.relative_to(TOP).with_suffix("").parts}
    report(
        [f"{name} says nothing" for name in sorted(names) for bad in FORBIDDEN_NAMES if bad in name.lower()]
    )


def test_every_module_says_what_it_hides() -> None:
    """Each module with anything in it opens with a paragraph of its own."""
    report(
        [
            f"{name} has no opening paragraph"
            for path in SOURCES
            for name, text, tree in [read(path)]
            if text and not ast.get_docstring(tree)
        ]
    )


# --- the rules themselves can be broken


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("swarm.core.x", "from swarm.edge import git", "swarm.core.x:1 imports swarm.edge.git"),
        ("swarm.core.model", "import swarm.core.claims", "swarm.core.model:1 imports swarm.core.claims"),
        ("swarm.core.x", "def f():\n    from swarm.daemon import api", "swarm.core.x:2 imports swarm.daemon"),
        ("swarm.core.x", "from ..edge import journal", "imports swarm.edge.journal"),
        ("swarm.edge.x", "import swarm.daemon.api", "swarm.edge may import"),
        ("swarm.config", "from swarm.edge.git import call", "swarm.config may import"),
        ("swarm.worker.x", "from swarm.edge import journal", "swarm.worker may import"),
        ("swarm.client.x", "from swarm.core import machine", "swarm.client may import"),
        ("swarm.client.x", "from swarm.edge import git", "swarm.client may import"),
        ("swarm.daemon.x", "from swarm.client import render", "swarm.daemon may import"),
        ("swarm.daemon.x", "from swarm.worker import roles", "swarm.daemon may import"),
        ("swarm.daemon.x", "from swarm.audit import line", "swarm.daemon may import"),
        ("swarm.audit.x", "from swarm.daemon import execution", "swarm.audit may import"),
        ("swarm.kitchen.x", "import os", "in no room"),
    ],
)
def test_a_wrong_import_is_told(name: str, text: str, told: str) -> None:
    """An import against the rule is told with the file, the line and what would be allowed."""
    assert any(told in wrong for wrong in wrong_imports(name, ast.parse(text)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("swarm.core.x", "from swarm.core import model\nfrom swarm.errors import Refused"),
        ("swarm.edge.x", "from swarm.edge.git import call\nfrom swarm import log"),
        ("swarm.client.offline", "from swarm.daemon import recovery\nfrom swarm.edge import journal"),
        ("swarm.worker.x", "from swarm.edge.git import call\nfrom swarm.edge.lockfile import exclusive"),
        ("swarm.daemon.x", "import swarm as package\nfrom swarm.worker import agents"),
    ],
)
def test_a_right_import_is_not_told(name: str, text: str) -> None:
    """What the rule allows is not told."""
    assert list(wrong_imports(name, ast.parse(text))) == []


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "import time",
        "from subprocess import run",
        "import asyncio",
        "import sqlite3",
        "import psutil",
        "from git import Repo",
        "import random",
        "open('x')",
        "datetime.now()",
        "Path('x').read_text()",
        "importlib.import_module('os')",
        "importlib.import_module(name)",
    ],
)
def test_the_world_in_the_core_is_told(text: str) -> None:
    """A core that reaches for the world is told of."""
    assert list(worldly("swarm.core.x", ast.parse(text))) != []


@pytest.mark.parametrize("library", sorted(OWNED))
def test_a_library_elsewhere_is_told(library: str) -> None:
    """A library outside of its owner is told, and its owner is not."""
    tree = ast.parse(f"def f():\n    import {library}")
    assert list(wrong_owners("swarm.edge.elsewhere", tree)) != []
    for owner in OWNED[library]:
        assert list(wrong_owners(owner, tree)) == []


def test_what_is_too_long_is_told() -> None:
    """Both limits are those of the rule: 799 lines and 69 are allowed, 800 and 70 are not."""
    for lines, told in ((799, 0), (800, 1)):
        text = "x = 1\n" * lines
        assert len(list(too_long("x", text, ast.parse(text)))) == told
    for lines, told in ((69, 0), (70, 1)):
        text = "def f():\n" + "    x = 1\n" * (lines - 1)
        assert len(list(too_long("x", text, ast.parse(text)))) == told
